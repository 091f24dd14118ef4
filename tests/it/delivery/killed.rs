//! Sidecars that are killed between a commit and the delivery of what it changed: `DELIVERY_KILLS=100` for more of them.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};

use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

use super::scim::{Apps, USUAL};
use super::*;
use crate::torture::ports;

/// Kills, unless asked otherwise.
const KILLS: usize = 8;
const PEOPLE: usize = 3;

/// A real process, which ends with its owner.
pub struct Sidecar(Child);

impl Drop for Sidecar {
    fn drop(&mut self) {
        // SIGKILL: it has no time for anything.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The status of an answer, if there is one.
pub async fn ask(method: &str, address: &str, body: String) -> Option<u16> {
    let request = http::Request::builder()
        .method(method)
        .uri(address)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Full::<Bytes>::from(body))
        .unwrap();
    let client = Client::builder(TokioExecutor::new()).build_http();
    let answer = tokio::time::timeout(Duration::from_secs(30), client.request(request)).await.ok()?.ok()?;
    Some(answer.status().as_u16())
}

pub async fn start(file: &std::path::Path, admin: u16) -> Sidecar {
    let child = Command::new(env!("CARGO_BIN_EXE_loginsync"))
        .args(["serve", "--config", file.to_str().unwrap()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut sidecar = Sidecar(child);
    let began = Instant::now();
    loop {
        if ask("GET", &format!("http://127.0.0.1:{admin}/readyz"), String::new()).await == Some(200) {
            return sidecar;
        }
        let is_over = sidecar.0.try_wait().unwrap().is_some();
        assert!(!is_over && began.elapsed() < Duration::from_secs(60), "the sidecar does not start");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A configuration as a process serves it.
pub fn served(text: &str, [proxy, admin]: [u16; 2], store: &str, app: std::net::SocketAddr) -> String {
    let listens = format!(
        "[listen]\naddress = \"127.0.0.1:{proxy}\"\n[admin]\naddress = \"127.0.0.1:{admin}\"\n[store]\n{store}\n[app]"
    );
    text.replacen("[app]", &listens, 1).replace("http://127.0.0.1:1\"", &format!("http://{app}\""))
}

/// Every change arrives, and none twice in effect.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_told_however_often_the_sidecar_is_killed() {
    let kills = std::env::var("DELIVERY_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(KILLS);
    let apps = Apps::new(Clock::system()).await;
    let [proxy, admin] = ports();
    let text = apps.text(USUAL)
        + &format!("[[webhook]]\nname = \"hook\"\nsecret_file = \"hook.secret\"\nurl = \"{}\"\n", apps.scene.url);
    let app = crate::support::app::App::start().await;
    std::fs::write(apps.scene.file(), served(&text, [proxy, admin], "path = \"store.db\"", app.address)).unwrap();
    let mut held: BTreeMap<String, &[&str]> = BTreeMap::new();
    let turns: [&[&str]; 4] = [&["staff"], &["staff", "admins"], &[], &["admins"]];
    for round in 0..kills {
        let sidecar = start(&apps.scene.file(), admin).await;
        let (who, groups) = (format!("user-{}", round % PEOPLE), turns[(round / PEOPLE) % turns.len()]);
        let form = apps.scene.form(&who, groups);
        assert_eq!(ask("POST", &format!("http://127.0.0.1:{proxy}/callback"), form).await, Some(200));
        held.insert(who, groups);
        // Most often before anything was told, and sometimes in the midst of it.
        tokio::time::sleep(Duration::from_millis((round as u64 * 37) % 400)).await;
        drop(sidecar);
    }
    let _sidecar = start(&apps.scene.file(), admin).await;
    for (group, value) in [("Staff", "staff"), ("Admins", "admins")] {
        let members: Vec<&str> =
            held.iter().filter(|(_, groups)| groups.contains(&value)).map(|(who, _)| who.as_str()).collect();
        if apps.server.members(group).is_some() || !members.is_empty() {
            apps.server.has(group, &members).await;
        }
    }
    // Of each user the message with the highest version says the same, and one version says one thing.
    let newest = || {
        let mut said: BTreeMap<(String, i64), Value> = BTreeMap::new();
        for got in apps.scene.hook.got() {
            let message = got.json();
            let user = message["user"]["subject"].as_str().unwrap().to_owned();
            let key = (user, message["version"].as_i64().unwrap());
            let groups = message["data"]["after"]["groups"].clone();
            assert_eq!(*said.entry(key).or_insert_with(|| groups.clone()), groups);
        }
        said.into_iter().map(|((user, _), groups)| (user, groups)).collect::<BTreeMap<_, _>>()
    };
    let names = |groups: &&[&str]| -> Value {
        let mut names: Vec<&str> =
            groups.iter().map(|value| if *value == "staff" { "Staff" } else { "Admins" }).collect();
        names.sort_unstable();
        json!(names)
    };
    let expected: BTreeMap<String, Value> = held.iter().map(|(who, groups)| (who.clone(), names(groups))).collect();
    let began = Instant::now();
    while newest() != expected {
        assert!(began.elapsed() < Duration::from_secs(30), "{:?} {expected:?}", newest());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
