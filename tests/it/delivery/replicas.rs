//! Sidecars that share a database of PostgreSQL: one of them delivers, logins wait at each of them, and another takes over.

use super::killed::{ask, served, start};
use super::scim::{Apps, USUAL};
use super::*;
use crate::support::app::{App, ok};
use crate::support::postgres::database;
use crate::torture::ports;

/// The kinds of receivers.
const KINDS: [&str; 2] = ["webhook", "scim"];
/// A login waits for its receiver, whatever that takes within this, and is refused else.
const WAITS: &str = "deliver = \"before-entry\"\nentry_timeout = \"30s\"\nwhen_unconfirmed = \"refuse\"";

/// A receiver of some kind.
struct Told {
    kind: &'static str,
    hook: Hook,
    server: crate::support::scim::ScimServer,
}

impl Told {
    fn of(apps: &Apps, kind: &'static str) -> Self {
        Self { kind, hook: apps.scene.hook.clone(), server: apps.server.clone() }
    }

    /// The groups that it knows of a person.
    fn knows(&self, who: &str) -> Vec<String> {
        if self.kind == "scim" {
            let has =
                |group: &&str| self.server.members(group).is_some_and(|members| members.iter().any(|it| it == who));
            return ["Admins", "Staff"].into_iter().filter(has).map(str::to_owned).collect();
        }
        let about = self.hook.got().into_iter().map(|got| got.json());
        let newest = about.filter(|it| it["user"]["subject"] == who).max_by_key(|it| it["version"].as_i64());
        let groups = newest.and_then(|message| message["data"]["after"]["groups"].as_array().cloned());
        groups.unwrap_or_default().iter().map(|name| name.as_str().unwrap().to_owned()).collect()
    }
}

fn text(apps: &Apps, kind: &str, more: &str) -> String {
    match kind {
        "scim" => apps.text(&format!("{USUAL}\n{more}")),
        _ => apps.scene.text(more),
    }
}

/// What the receiver knows as the app sees a login, wherever that comes.
#[tokio::test(flavor = "multi_thread")]
async fn a_login_waits_at_whichever_sidecar_it_comes() {
    for kind in KINDS {
        let Some(database) = database().await else { return };
        let apps = Apps::new(Clock::system()).await;
        let text = text(&apps, kind, WAITS);
        let one = apps.scene.house_at(database.place(), &text).await;
        let other = apps.scene.house_at(database.place(), &text).await;
        let seen = Arc::<Mutex<Vec<Vec<String>>>>::default();
        for at in [&one, &other] {
            let (told, noted) = (Told::of(&apps, kind), Arc::clone(&seen));
            at.app.on_arrival(move |_| noted.lock().unwrap().push(told.knows("alice")));
        }
        let turns: [(&House, &[&str]); 5] = [
            (&one, &["staff"]),
            (&other, &["staff", "admins"]),
            (&one, &["admins"]),
            (&other, &[]),
            (&one, &["staff"]),
        ];
        for (at, groups) in turns {
            assert_eq!(apps.scene.log_in(at, "alice", groups).await, 200, "{kind}: {groups:?}");
        }
        let expected: [&[&str]; 5] = [&["Staff"], &["Admins", "Staff"], &["Admins"], &[], &["Staff"]];
        assert_eq!(*seen.lock().unwrap(), expected, "{kind}");
        one.running.stop().await;
        other.running.stop().await;
    }
}

/// Each user is told by one of them.
#[tokio::test(flavor = "multi_thread")]
async fn one_of_several_sidecars_delivers_and_another_takes_over() {
    for kind in KINDS {
        let Some(database) = database().await else { return };
        let apps = Apps::new(Clock::system()).await;
        let text = text(&apps, kind, "");
        let one = apps.scene.house_at(database.place(), &text).await;
        let other = apps.scene.house_at(database.place(), &text).await;
        for number in 0..10 {
            let at = if number % 2 == 0 { &one } else { &other };
            assert_eq!(apps.scene.log_in(at, &format!("user-{number}"), &["staff"]).await, 200);
        }
        let told = Told::of(&apps, kind);
        let until = async |who: &str| {
            let began = Instant::now();
            while told.knows(who) != ["Staff"] {
                assert!(began.elapsed() < Duration::from_secs(30), "{kind}: {who}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        for number in 0..10 {
            until(&format!("user-{number}")).await;
        }
        match kind {
            "scim" => {
                let made = apps.server.asked().iter().filter(|asked| asked.starts_with("POST /Users")).count();
                assert_eq!(made, 10, "{:#?}", apps.server.asked());
            }
            _ => assert_eq!(apps.scene.hook.got().len(), 10),
        }
        one.running.stop().await;
        // What was under way at the end may be told once more.
        assert_eq!(apps.scene.log_in(&other, "late", &["staff"]).await, 200);
        until("late").await;
        other.running.stop().await;
    }
}

/// The sidecar that delivers is killed: logins at the other one go on once it has taken over, and not before their receiver knows.
#[tokio::test(flavor = "multi_thread")]
async fn another_sidecar_delivers_where_the_one_that_did_is_killed() {
    for kind in KINDS {
        let Some(database) = database().await else { return };
        let apps = Apps::new(Clock::system()).await;
        std::fs::write(apps.scene.folder.path().join("store.key"), STANDARD.encode([7; 32])).unwrap();
        let store = format!("url = \"{}\"\nkey_file = \"store.key\"", database.url);
        let text = text(&apps, kind, WAITS);
        let seen = Arc::<Mutex<Vec<Vec<String>>>>::default();
        let (told, noted) = (Told::of(&apps, kind), Arc::clone(&seen));
        let app = App::with(move |request| {
            if request.line().starts_with("POST") {
                noted.lock().unwrap().push(told.knows("alice"));
            }
            ok("welcome")
        });
        let app = app.await;
        let mut running = Vec::new();
        for name in ["one", "other"] {
            let [proxy, admin] = ports();
            let file = apps.scene.folder.path().join(format!("{name}.toml"));
            std::fs::write(&file, served(&text, [proxy, admin], &store, app.address)).unwrap();
            running.push((start(&file, admin).await, format!("http://127.0.0.1:{proxy}/callback")));
        }
        let log_in = async |at: &str, groups: &[&str]| ask("POST", at, apps.scene.form("alice", groups)).await;
        assert_eq!(log_in(&running[0].1, &["staff", "admins"]).await, Some(200), "{kind}");
        assert_eq!(log_in(&running[1].1, &["staff"]).await, Some(200), "{kind}");
        // The first one to start leads.
        drop(running.remove(0));
        assert_eq!(log_in(&running[0].1, &[]).await, Some(200), "{kind}");
        assert_eq!(log_in(&running[0].1, &["admins"]).await, Some(200), "{kind}");
        let expected: [&[&str]; 4] = [&["Admins", "Staff"], &["Staff"], &[], &["Admins"]];
        assert_eq!(*seen.lock().unwrap(), expected, "{kind}");
    }
}
