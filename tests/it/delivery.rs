//! Receivers follow what users hold: signed messages, through the front door.

mod events;
mod killed;
mod replicas;
mod resumed;
mod scim;

use std::collections::{BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::HeaderMap;
use http_body_util::BodyExt as _;
use loginsync::clock::Clock;
use loginsync::config::Place;
use loginsync::pipeline::ids::{GroupName, Namespace, Subject, Target, Timestamp, UserId};
use loginsync::ports::store::Act;
use serde_json::{Value, json};

use crate::front_door::House;
use crate::seeing::run;
use crate::support::idp::Idp;

const CONFIG: &str = r#"
public_url = "https://app.example"

[app]
url = "http://127.0.0.1:1"

[[provider]]
name = "idp"
mode = "oidc-form-post"
issuer = "ISSUER"
client_id = "the-app"
callback = "/callback"
jwks_url = "ISSUER/jwks"
authorization_endpoint = "ISSUER/authorize"
algorithms = ["EdDSA"]
binding = "observe"
email_claim = "email"

[provider.claims.groups]

[brake]
minimum = 100

[limits]
login_timeout = "60s"

[[role]]
name = "editor"
[[group]]
name = "Staff"
roles = [STAFFROLES]
[[group]]
name = "Admins"
[[mapping]]
provider = "idp"
claim = "groups"
value = "staff"
group = "Staff"
[[mapping]]
provider = "idp"
claim = "groups"
value = "admins"
group = "Admins"
"#;

const SECRETS: [&str; 2] =
    ["whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=", "whsec_ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA="];
const NOW: Timestamp = Timestamp(1_769_860_800_000);

/// A message as a receiver got it.
#[derive(Debug, Clone)]
struct Got {
    headers: HeaderMap,
    body: Bytes,
}

impl Got {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap().to_str().unwrap()
    }

    /// Whether a secret is among those that signed it.
    fn is_signed_by(&self, secret: &str) -> bool {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap());
        let mut signed = format!("{}.{}.", self.header("webhook-id"), self.header("webhook-timestamp")).into_bytes();
        signed.extend_from_slice(&self.body);
        let expected = format!("v1,{}", STANDARD.encode(hmac::sign(&key, &signed)));
        self.header("webhook-signature").split(' ').any(|found| found == expected)
    }
}

/// What a receiver does next.
#[derive(Debug, Clone)]
enum Move {
    Answers(u16, &'static str),
    /// Never.
    Waits,
}

/// A receiver that keeps what it gets. Without a move it takes everything.
#[derive(Clone, Default)]
struct Hook {
    got: Arc<Mutex<Vec<Got>>>,
    moves: Arc<Mutex<VecDeque<Move>>>,
    always: Arc<Mutex<Option<Move>>>,
    /// It does not answer messages that hold this.
    ignores: Arc<Mutex<Option<&'static str>>>,
}

impl Hook {
    async fn start(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let hook = self.clone();
        let router = axum::Router::new().fallback(move |request: axum::extract::Request| {
            let hook = hook.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                let ignored =
                    hook.ignores.lock().unwrap().is_some_and(|text| String::from_utf8_lossy(&body).contains(text));
                hook.got.lock().unwrap().push(Got { headers: parts.headers, body });
                if ignored {
                    std::future::pending::<()>().await;
                }
                let next = hook.moves.lock().unwrap().pop_front();
                let next = next.or_else(|| hook.always.lock().unwrap().clone()).unwrap_or(Move::Answers(204, ""));
                match next {
                    Move::Waits => std::future::pending().await,
                    Move::Answers(status, header) => {
                        let mut response = http::Response::builder().status(status);
                        if let Some((name, value)) = header.split_once(": ") {
                            response = response.header(name, value);
                        }
                        response.body(axum::body::Body::empty()).unwrap()
                    }
                }
            }
        });
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        format!("http://{address}/hook")
    }

    fn next(&self, moves: &[Move]) {
        self.moves.lock().unwrap().extend(moves.iter().cloned());
    }

    fn always(&self, answers: Option<Move>) {
        *self.always.lock().unwrap() = answers;
    }

    fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }

    /// Waits until it has got so many.
    async fn messages(&self, count: usize) -> Vec<Got> {
        let began = Instant::now();
        loop {
            let got = self.got();
            if got.len() >= count {
                return got;
            }
            assert!(began.elapsed() < Duration::from_secs(30), "{} of {count} messages: {got:?}", got.len());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

struct Scene {
    idp: Idp,
    hook: Hook,
    url: String,
    clock: Clock,
    folder: tempfile::TempDir,
    count: std::sync::atomic::AtomicI64,
}

impl Scene {
    async fn new(clock: Clock) -> Self {
        let (hook, folder) = (Hook::default(), tempfile::tempdir().unwrap());
        let url = hook.start().await;
        std::fs::write(folder.path().join("hook.secret"), SECRETS[0]).unwrap();
        Self { idp: Idp::start().await, hook, url, clock, folder, count: 0.into() }
    }

    fn text(&self, more: &str) -> String {
        self.text_with(&format!("url = \"{}\"\n{more}", self.url), "\"editor\"")
    }

    fn text_with(&self, webhook: &str, roles: &str) -> String {
        let webhook = format!("[[webhook]]\nname = \"app\"\nsecret_file = \"hook.secret\"\n{webhook}\n");
        self.base(roles) + &webhook
    }

    /// Without a receiver.
    fn base(&self, roles: &str) -> String {
        CONFIG.replace("ISSUER", &self.idp.issuer()).replace("STAFFROLES", roles)
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("test.toml")
    }

    async fn house(&self, more: &str) -> House {
        let place = Place::File(self.folder.path().join("store.db"));
        self.house_at(place, &self.text(more)).await
    }

    async fn house_at(&self, place: Place, text: &str) -> House {
        let opened = Box::pin(House::try_open(place, text, &self.file(), self.clock.clone())).await;
        opened.unwrap_or_else(|error| panic!("{error}"))
    }

    /// What a browser posts at the callback.
    fn form(&self, person: &str, groups: &[&str]) -> String {
        let number = self.count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let now = self.clock.now().seconds() + if self.clock.now() == NOW { number.min(60) } else { 0 };
        let token = self.idp.sign(&json!({
            "iss": self.idp.issuer(), "aud": "the-app", "sub": person, "iat": now - 60, "exp": now + 300,
            "jti": format!("token-{number}"), "groups": groups, "email": format!("{person}@example.com"),
        }));
        format!("id_token={token}&state=s")
    }

    async fn log_in(&self, at: &House, person: &str, groups: &[&str]) -> u16 {
        let form = self.form(person, groups);
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        at.send("POST", "/callback", &headers, form.as_bytes()).await.status
    }

    /// The same until the receiver has confirmed it, however long that takes.
    async fn log_in_confirmed(&self, at: &House, who: &str, groups: &[&str]) {
        let began = Instant::now();
        loop {
            let status = self.log_in(at, who, groups).await;
            let standing = at.store().outbox().standing(person(who)).await.unwrap();
            if status == 200 && standing.receivers.iter().any(|row| row.version >= standing.version) {
                return;
            }
            assert!(began.elapsed() < Duration::from_secs(30), "{standing:?}");
        }
    }

    /// Lets so much time pass.
    fn pass(&self, seconds: u64) {
        self.clock.set(self.clock.now().plus(Duration::from_secs(seconds)));
    }
}

/// Waits until so many tries of what is told next were noted as failed: from then on the wait for the next one counts, and the hook
/// knows nothing of it.
async fn failed(house: &House, tries: u64) {
    let began = Instant::now();
    while house.store().pending("app", 1).await.unwrap().first().is_none_or(|it| u64::from(it.failures) < tries) {
        assert!(began.elapsed() < Duration::from_secs(30), "{tries} failures were not noted");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until the metrics have all of these lines.
async fn measured(house: &House, lines: &[&str]) {
    let began = Instant::now();
    loop {
        let metrics = house.fetch(&format!("http://{}/metrics", house.running.admin)).await;
        if lines.iter().all(|line| metrics.lines().any(|found| found == *line)) {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "{lines:?}: {metrics}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn person(subject: &str) -> UserId {
    UserId { namespace: Namespace::parse("idp").unwrap(), subject: Subject::parse(subject).unwrap() }
}

fn group(name: &str) -> Target {
    Target::Group(GroupName::parse(name).unwrap())
}

/// Type, version, groups after, and what was added and removed.
fn told(got: &Got) -> (String, i64, Vec<String>, Vec<String>, Vec<String>) {
    let message = got.json();
    let names = |list: &Value| -> Vec<String> {
        let entries = list.as_array().cloned().unwrap_or_default();
        entries.iter().map(|entry| entry["name"].as_str().or(entry.as_str()).unwrap().to_owned()).collect()
    };
    let data = &message["data"];
    (
        message["type"].as_str().unwrap().to_owned(),
        message["version"].as_i64().unwrap(),
        names(&data["after"]["groups"]),
        names(&data["added"]),
        names(&data["removed"]),
    )
}

fn row(
    event: &str,
    version: i64,
    after: &[&str],
    added: &[&str],
    removed: &[&str],
) -> (String, i64, Vec<String>, Vec<String>, Vec<String>) {
    let all = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    (event.into(), version, all(after), all(added), all(removed))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_user_holds_is_told_once_and_signed() {
    let scene = Scene::new(Clock::fixed(NOW)).await;
    let house = scene.house("").await;
    assert_eq!(scene.log_in(&house, "alice", &["staff"]).await, 200);
    let first = scene.hook.messages(1).await.pop().unwrap();
    assert!(first.is_signed_by(SECRETS[0]) && !first.is_signed_by(SECRETS[1]));
    assert_eq!(told(&first), row("user.created", 1, &["Staff"], &["Staff", "editor"], &[]));
    let message = first.json();
    assert_eq!(message["user"]["subject"], "alice");
    assert_eq!(message["user"]["email"], "alice@example.com");
    assert_eq!((&message["source"], &message["schema"]), (&json!("https://app.example"), &json!(1)));
    assert_eq!(message["id"], first.header("webhook-id"));
    assert_eq!(first.header("webhook-timestamp"), (NOW.0 / 1000).to_string());
    assert_eq!(message["data"]["before"], Value::Null);
    assert_eq!(message["data"]["cause"], "login");
    assert!(message["data"]["login"].as_str().is_some_and(|id| !id.is_empty()));
    let reasons = message["data"]["added"].to_string();
    assert!(reasons.contains("through idp") && reasons.contains("carried by group `Staff`"), "{reasons}");
    // A login that changes nothing is no news.
    scene.log_in(&house, "alice", &["staff"]).await;
    scene.log_in(&house, "alice", &["staff", "admins"]).await;
    assert_eq!(
        told(&scene.hook.messages(2).await[1]),
        row("user.memberships.changed", 2, &["Admins", "Staff"], &["Admins"], &[])
    );
    scene.log_in(&house, "alice", &[]).await;
    let third = scene.hook.messages(3).await.pop().unwrap();
    assert_eq!(told(&third), row("user.memberships.changed", 3, &[], &[], &["Admins", "Staff", "editor"]));
    assert_eq!(third.json()["data"]["before"]["groups"], json!(["Admins", "Staff"]));
    // What operators do is told as well.
    let act = async |act: Act| house.store().act(person("alice"), act, "root".into(), NOW).await.unwrap();
    act(Act::Assign(group("Admins"))).await;
    let fourth = scene.hook.messages(4).await.pop().unwrap();
    assert_eq!(told(&fourth), row("user.memberships.changed", 4, &["Admins"], &["Admins"], &[]));
    assert_eq!(
        (fourth.json()["data"]["cause"].clone(), fourth.json()["data"]["login"].clone()),
        (json!("assigned"), Value::Null)
    );
    act(Act::Disable).await;
    assert_eq!(told(&scene.hook.messages(5).await[4]), row("user.disabled", 5, &[], &[], &["Admins"]));
    act(Act::Enable).await;
    assert_eq!(told(&scene.hook.messages(6).await[5]), row("user.enabled", 6, &["Admins"], &["Admins"], &[]));
    act(Act::Erase).await;
    let last = scene.hook.messages(7).await.pop().unwrap().json();
    assert_eq!((last["type"].clone(), last["user"]["subject"].clone()), (json!("user.erased"), json!("alice")));
    assert!(last["user"].get("email").is_none(), "{last}");
    assert_eq!(scene.hook.got().len(), 7);
    house.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_secret_signs_and_the_store_has_one_where_the_file_names_none() {
    let scene = Scene::new(Clock::fixed(NOW)).await;
    std::fs::write(scene.folder.path().join("hook.secret"), SECRETS.join("\n") + "\n").unwrap();
    let house = scene.house("").await;
    scene.log_in(&house, "alice", &["staff"]).await;
    let got = scene.hook.messages(1).await.pop().unwrap();
    assert!(SECRETS.iter().all(|secret| got.is_signed_by(secret)));
    let text = scene.text("").replace("secret_file = \"hook.secret\"\n", "");
    let house = house.restart(&text, &scene.file()).await;
    scene.log_in(&house, "alice", &[]).await;
    let got = scene.hook.messages(2).await.pop().unwrap();
    let own = house.store().webhook_secret("app").await.unwrap();
    assert!(got.is_signed_by(&format!("whsec_{}", STANDARD.encode(own.expose()))));
    assert_ne!(own, house.store().webhook_secret("other").await.unwrap());
    house.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_changes_become_one_while_a_receiver_is_away() {
    let scene = Scene::new(Clock::fixed(NOW)).await;
    let house = scene.house("").await;
    scene.log_in(&house, "alice", &["staff"]).await;
    scene.hook.messages(1).await;
    scene.hook.always(Some(Move::Answers(503, "")));
    scene.log_in(&house, "alice", &["staff", "admins"]).await;
    scene.hook.messages(2).await;
    failed(&house, 1).await;
    scene.log_in(&house, "alice", &[]).await;
    scene.log_in(&house, "alice", &["admins"]).await;
    scene.hook.always(None);
    // It is not tried again before its time.
    scene.pass(3);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(scene.hook.got().len(), 2);
    scene.pass(4);
    let third = scene.hook.messages(3).await.pop().unwrap();
    assert_eq!(
        told(&third),
        row("user.memberships.changed", 4, &["Admins"], &["Admins"], &["Staff", "editor"]),
        "what was confirmed is what it is told the difference to"
    );
    house.running.stop().await;
}

/// What was told in vain may have been taken: its opposite is told as well.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_was_taken_back_meanwhile_is_told() {
    let scene = Scene::new(Clock::fixed(NOW)).await;
    let house = scene.house("").await;
    scene.log_in_confirmed(&house, "alice", &["staff"]).await;
    scene.hook.next(&[Move::Answers(500, "")]);
    scene.log_in(&house, "alice", &[]).await;
    assert_eq!(told(&scene.hook.messages(2).await[1]).2, Vec::<String>::new());
    failed(&house, 1).await;
    scene.log_in(&house, "alice", &["staff"]).await;
    scene.pass(7);
    let third = scene.hook.messages(3).await.pop().unwrap();
    assert_eq!(told(&third), row("user.memberships.changed", 3, &["Staff"], &[], &[]));
    // Nor is one forgotten who was told of in vain, and is erased.
    scene.hook.next(&[Move::Answers(500, "")]);
    scene.log_in(&house, "bob", &["staff"]).await;
    scene.hook.messages(4).await;
    failed(&house, 1).await;
    house.store().act(person("bob"), Act::Erase, "root".into(), NOW).await.unwrap();
    scene.pass(7);
    let fifth = scene.hook.messages(5).await.pop().unwrap().json();
    assert_eq!((&fifth["type"], &fifth["user"]["subject"]), (&json!("user.erased"), &json!("bob")));
    house.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_try_of_the_same_version_has_the_same_id() {
    let scene = Scene::new(Clock::fixed(NOW)).await;
    let house = scene.house("").await;
    scene.hook.next(&[Move::Answers(500, ""), Move::Answers(302, "location: http://127.0.0.1:1/")]);
    scene.log_in(&house, "alice", &["staff"]).await;
    scene.hook.messages(1).await;
    failed(&house, 1).await;
    scene.pass(7);
    scene.hook.messages(2).await;
    failed(&house, 2).await;
    scene.pass(400);
    let got = scene.hook.messages(3).await;
    let ids: Vec<&str> = got.iter().map(|got| got.header("webhook-id")).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_ne!(got[0].header("webhook-timestamp"), got[2].header("webhook-timestamp"), "of the try");
    assert!(got[2].is_signed_by(SECRETS[0]));
    house.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_hears_of_what_its_filters_take() {
    let scene = Scene::new(Clock::fixed(NOW)).await;
    let house = scene
        .house("groups = [\"Admins\"]\nroles = []\nevents = [\"user.memberships.changed\", \"user.erased\"]")
        .await;
    scene.log_in(&house, "alice", &["staff"]).await;
    scene.log_in(&house, "alice", &["staff", "admins"]).await;
    let got = scene.hook.messages(1).await;
    assert_eq!(told(&got[0]).2, ["Admins"]);
    assert_eq!(told(&got[0]).4, Vec::<String>::new());
    scene.log_in(&house, "alice", &["admins"]).await;
    scene.log_in(&house, "alice", &[]).await;
    let got = scene.hook.messages(2).await;
    assert_eq!(told(&got[1]), row("user.memberships.changed", 4, &[], &[], &["Admins"]));
    house.running.stop().await;
    // Who came through another provider, or through none, is not meant.
    let scene = Scene::new(Clock::fixed(NOW)).await;
    let house = scene.house("providers = [\"idp\"]").await;
    house.store().act(person("bob"), Act::Assign(group("Admins")), "root".into(), NOW).await.unwrap();
    scene.log_in(&house, "alice", &["staff"]).await;
    assert_eq!(scene.hook.messages(1).await[0].json()["user"]["subject"], "alice");
    scene.log_in(&house, "bob", &["staff"]).await;
    let second = scene.hook.messages(2).await.pop().unwrap();
    assert_eq!(told(&second), row("user.created", 2, &["Admins", "Staff"], &["Admins", "Staff", "editor"], &[]));
    house.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_gone_is_disabled_and_one_that_fails_is_asked_once_a_minute() {
    let scene = Scene::new(Clock::fixed(NOW)).await;
    let house = scene.house("").await;
    scene.hook.next(&[Move::Answers(410, "")]);
    scene.log_in(&house, "alice", &["staff"]).await;
    scene.hook.messages(1).await;
    scene.log_in(&house, "bob", &["staff"]).await;
    scene.pass(10 * 86_400);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(scene.hook.got().len(), 1, "nothing is sent to it any more");
    house.running.stop().await;

    let scene = Scene::new(Clock::fixed(NOW)).await;
    let house = scene.house("").await;
    scene.hook.always(Some(Move::Answers(500, "")));
    for number in 0..20 {
        scene.log_in(&house, &format!("user-{number}"), &["staff"]).await;
    }
    let before = scene.hook.messages(5).await.len();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(scene.hook.got().len() <= before + 4, "{} tries", scene.hook.got().len());
    let before = scene.hook.got().len();
    scene.pass(61);
    scene.hook.messages(before + 1).await;
    scene.hook.always(None);
    // One is taken, and then all. The last failure may be noted only now, from when the minute counts.
    let began = Instant::now();
    let users = loop {
        scene.pass(1);
        let taken = scene.hook.got().into_iter().skip(before + 1);
        let users: BTreeSet<String> =
            taken.map(|got| got.json()["user"]["subject"].as_str().unwrap().to_owned()).collect();
        if users.len() == 20 {
            break users;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "{users:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(users.contains("user-0"));
    house.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_says_when_is_left_alone_until_then() {
    let scene = Scene::new(Clock::fixed(NOW)).await;
    let house = scene.house("").await;
    scene.hook.next(&[Move::Answers(429, "retry-after: 120")]);
    scene.log_in(&house, "alice", &["staff"]).await;
    scene.hook.messages(1).await;
    failed(&house, 1).await;
    scene.log_in(&house, "bob", &["staff"]).await;
    scene.pass(100);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(scene.hook.got().len(), 1);
    scene.pass(21);
    scene.hook.messages(3).await;
    house.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_refuses_one_takes_the_others() {
    let scene = Scene::new(Clock::fixed(NOW)).await;
    let house = scene.house("").await;
    scene.hook.next(&[Move::Answers(422, "")]);
    scene.log_in(&house, "alice", &["staff"]).await;
    scene.hook.messages(1).await;
    failed(&house, 1).await;
    for number in 0..6 {
        scene.log_in(&house, &format!("user-{number}"), &["staff"]).await;
    }
    scene.hook.messages(7).await;
    scene.pass(7);
    assert_eq!(scene.hook.messages(8).await[7].json()["user"]["subject"], "alice");
    house.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_do_not_wait_for_a_receiver_that_never_answers() {
    let scene = Scene::new(Clock::fixed(NOW)).await;
    let other = Hook::default();
    let url = other.start().await;
    let text = scene.text("") + &format!("[[webhook]]\nname = \"other\"\nurl = \"{url}\"\n");
    scene.hook.always(Some(Move::Waits));
    let house = scene.house_at(Place::File(scene.folder.path().join("store.db")), &text).await;
    let began = Instant::now();
    for number in 0..50 {
        assert_eq!(scene.log_in(&house, &format!("user-{number}"), &["staff"]).await, 200);
    }
    // The other one hears of everyone, and this one is asked for no more than a few at once.
    other.messages(50).await;
    // A request ends after ten seconds.
    let most = 4 * (1 + began.elapsed().as_secs() / 10);
    assert!(scene.hook.got().len() as u64 <= most, "{}", scene.hook.got().len());
    assert_eq!(house.app.seen().len(), 50);
    house.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_told_is_told_after_a_restart() {
    let scene = Scene::new(Clock::fixed(NOW)).await;
    let house = scene.house("").await;
    scene.hook.always(Some(Move::Answers(503, "")));
    scene.log_in(&house, "alice", &["staff"]).await;
    scene.hook.messages(1).await;
    failed(&house, 1).await;
    // With nothing that hears of it a change is still noted for receivers that come back.
    let text = scene.text("");
    let house = house.restart(&text, &scene.file()).await;
    scene.hook.always(None);
    scene.pass(7);
    assert_eq!(told(&scene.hook.messages(2).await[1]), row("user.created", 1, &["Staff"], &["Staff", "editor"], &[]));
    // A group that carries other roles by other rules.
    let text = scene.text_with(&format!("url = \"{}\"", scene.url), "");
    let house = house.restart(&text, &scene.file()).await;
    let third = scene.hook.messages(3).await.pop().unwrap();
    assert_eq!(told(&third), row("user.memberships.changed", 2, &["Staff"], &[], &["editor"]));
    house.running.stop().await;
}

/// Operators look, pause, go on, try again and tell anew, beside a sidecar that runs.
#[tokio::test(flavor = "multi_thread")]
async fn operators_see_and_steer_deliveries() {
    let scene = Scene::new(Clock::system()).await;
    let text = scene.text("");
    let with_store = text.replacen("[app]", "[store]\npath = \"store.db\"\n[app]", 1);
    std::fs::write(scene.file(), with_store).unwrap();
    let house = scene.house_at(Place::File(scene.folder.path().join("store.db")), &text).await;
    let file = scene.file().to_str().unwrap().to_owned();
    let run = async |arguments: &str| {
        let arguments: Vec<String> =
            arguments.split(' ').map(str::to_owned).chain(["--config".into(), file.clone()]).collect();
        let running =
            tokio::task::spawn_blocking(move || run(&arguments.iter().map(String::as_str).collect::<Vec<_>>()));
        let said = running.await.unwrap();
        assert_eq!(said.code, 0, "{said:?}");
        said
    };
    assert_eq!(run("delivery secret app").await.out.trim(), SECRETS[0]);
    run("delivery test app").await;
    let ping = scene.hook.messages(1).await.pop().unwrap();
    assert!(ping.is_signed_by(SECRETS[0]));
    assert_eq!(ping.json()["type"], "ping");
    run("delivery pause app --by ops").await;
    scene.log_in(&house, "alice", &["staff"]).await;
    let began = Instant::now();
    let shown = loop {
        let shown = run("delivery show app --json").await.json();
        if shown["receiver"]["pending"] == 1 {
            break shown;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "{shown}");
    };
    assert_eq!((&shown["receiver"]["state"], &shown["receiver"]["paused_by"]), (&json!("paused"), &json!("cli:ops")));
    assert_eq!((&shown["pending"][0]["subject"], &shown["pending"][0]["version"]), (&json!("alice"), &json!(1)));
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(scene.hook.got().len(), 1);
    scene.hook.next(&[Move::Answers(410, "")]);
    run("delivery resume app").await;
    scene.hook.messages(2).await;
    let began = Instant::now();
    while !run("delivery list").await.out.contains("app  disabled  1 pending") {
        assert!(began.elapsed() < Duration::from_secs(30));
    }
    run("delivery resume app").await;
    assert_eq!(told(&scene.hook.messages(3).await[2]).0, "user.created");
    // Everything anew, and what a command changes is for receivers as well.
    assert!(run("delivery resync app --user idp/alice").await.out.contains("1 to resync"));
    assert_eq!(told(&scene.hook.messages(4).await[3]), row("user.created", 2, &["Staff"], &["Staff", "editor"], &[]));
    run("user assign idp/alice --group Admins").await;
    assert_eq!(told(&scene.hook.messages(5).await[4]).3, ["Admins"]);
    scene.hook.next(&[Move::Answers(503, "")]);
    run("user unassign idp/alice --group Admins").await;
    scene.hook.messages(6).await;
    let began = Instant::now();
    while !run("delivery retry app --user idp/alice").await.out.contains("1 retried") {
        assert!(began.elapsed() < Duration::from_secs(30));
    }
    assert_eq!(told(&scene.hook.messages(7).await[6]).4, ["Admins"]);
    let audit = run("audit list --json").await.out;
    let events = ["delivery_tested", "delivery_paused", "delivery_resumed", "delivery_resynced", "delivery_retried"];
    for event in events {
        assert!(audit.contains(event), "{event}: {audit}");
    }
    house.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_too_long_says_so() {
    let scene = Scene::new(Clock::fixed(NOW)).await;
    let many: String = (0..600)
        .map(|number| {
            let name = format!("Group {number} with a name that is long enough to count");
            format!("[[group]]\nname = \"{name}\"\n[[mapping]]\nprovider = \"idp\"\nclaim = \"groups\"\nvalue = \"staff\"\ngroup = \"{name}\"\n")
        })
        .collect();
    let text = scene.text("") + &many;
    let house = scene.house_at(Place::File(scene.folder.path().join("store.db")), &text).await;
    scene.log_in(&house, "alice", &["staff"]).await;
    let got = scene.hook.messages(1).await.pop().unwrap();
    assert!(got.body.len() < 20_000, "{}", got.body.len());
    let message = got.json();
    assert_eq!((message["data"]["truncated"].clone(), message["data"].get("after").is_none()), (json!(true), true));
    assert_eq!(message["version"], 1);
    house.running.stop().await;
}

/// What is sent is not repeated in the log or in metrics, and what happens is counted.
#[tokio::test(flavor = "multi_thread")]
async fn deliveries_are_counted_by_receiver() {
    let scene = Scene::new(Clock::fixed(NOW)).await;
    let house = scene.house("").await;
    scene.hook.next(&[Move::Answers(500, "")]);
    scene.log_in(&house, "alice", &["staff"]).await;
    scene.hook.messages(1).await;
    scene.log_in(&house, "bob", &["staff"]).await;
    scene.hook.messages(2).await;
    measured(
        &house,
        &[
            "loginsync_deliveries_total{receiver=\"app\"} 1",
            "loginsync_delivery_failures_total{receiver=\"app\"} 1",
            "loginsync_deliveries_pending{receiver=\"app\"} 1",
        ],
    )
    .await;
    house.running.stop().await;
}

/// Of logins that wait: what the receiver and the app heard, in its order.
#[tokio::test(flavor = "multi_thread")]
async fn the_app_sees_a_login_after_the_receiver_has_heard_of_it() {
    let scene = Scene::new(Clock::fixed(NOW)).await;
    let house = scene.house("deliver = \"before-entry\"\nentry_timeout = \"30s\"").await;
    let heard = Arc::<Mutex<Vec<usize>>>::default();
    let (hook, noted) = (scene.hook.clone(), Arc::clone(&heard));
    house.app.on_arrival(move |_| noted.lock().unwrap().push(hook.got().len()));
    assert_eq!(scene.log_in(&house, "alice", &["staff", "admins"]).await, 200);
    assert_eq!(scene.log_in(&house, "alice", &["admins"]).await, 200);
    // Nothing is unconfirmed, and nothing is told.
    assert_eq!(scene.log_in(&house, "alice", &["admins"]).await, 200);
    assert_eq!(scene.log_in(&house, "alice", &[]).await, 200);
    assert_eq!(*heard.lock().unwrap(), [1, 2, 2, 3], "messages before each login reached the app");
    assert_eq!(told(&scene.hook.got()[2]).4, ["Admins"]);
    house.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_that_is_refused_leaves_the_receivers() {
    let scene = Scene::new(Clock::fixed(NOW)).await;
    let text = scene.text("").replace("minimum = 100", "minimum = 0");
    let house = scene.house_at(Place::File(scene.folder.path().join("store.db")), &text).await;
    assert_eq!(scene.log_in(&house, "alice", &["staff"]).await, 200);
    scene.hook.messages(1).await;
    let without = text.split("[[webhook]]").next().unwrap().replace("value = \"staff\"", "value = \"other\"");
    std::fs::write(scene.file(), without).unwrap();
    house.running.reload().await;
    assert_eq!(scene.log_in(&house, "alice", &["staff", "admins"]).await, 200);
    assert_eq!(told(&scene.hook.messages(2).await[1]).3, ["Admins"]);
    house.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_with_an_unconfirmed_revocation_is_refused_and_so_is_the_next() {
    let scene = Scene::new(Clock::fixed(NOW)).await;
    let house = scene.house("deliver = \"before-entry\"\nentry_timeout = \"300ms\"").await;
    scene.log_in_confirmed(&house, "alice", &["staff"]).await;
    scene.hook.always(Some(Move::Answers(500, "")));
    assert_eq!(scene.log_in(&house, "alice", &[]).await, 503);
    assert_eq!(
        scene.log_in(&house, "alice", &[]).await,
        503,
        "it has changed nothing, and what was lost is unconfirmed"
    );
    // What a person gains may come later.
    assert_eq!(scene.log_in(&house, "bob", &["admins"]).await, 200);
    // Gaining it back, the receiver knows of nothing that is lost.
    assert_eq!(scene.log_in(&house, "alice", &["staff", "admins"]).await, 200);
    assert_eq!(scene.log_in(&house, "alice", &[]).await, 503);
    let metrics = house.fetch(&format!("http://{}/metrics", house.running.admin)).await;
    assert!(metrics.contains("outcome=\"unavailable\",detail=\"delivery\"} 3"), "{metrics}");
    scene.hook.always(None);
    scene.pass(61);
    let began = Instant::now();
    while scene.log_in(&house, "alice", &[]).await != 200 {
        assert!(began.elapsed() < Duration::from_secs(30));
        scene.pass(61);
    }
    assert_eq!(
        told(scene.hook.got().iter().rfind(|got| got.json()["user"]["subject"] == "alice").unwrap()).2,
        Vec::<String>::new()
    );
    house.running.stop().await;
}

/// A receiver may have taken what it did not confirm.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_and_not_confirmed_counts_as_known_to_the_receiver() {
    let scene = Scene::new(Clock::fixed(NOW)).await;
    let house = scene.house("deliver = \"before-entry\"\nentry_timeout = \"300ms\"").await;
    scene.hook.always(Some(Move::Answers(500, "")));
    assert_eq!(scene.log_in(&house, "alice", &["admins"]).await, 200);
    scene.hook.messages(1).await;
    assert_eq!(scene.log_in(&house, "alice", &[]).await, 503);
    house.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_becomes_of_a_login_that_nobody_confirmed_is_for_the_operator_to_say() {
    for (when, new, lost) in [("enter", 200, 200), ("refuse", 503, 503), ("refuse-if-revoking", 200, 503)] {
        let scene = Scene::new(Clock::fixed(NOW)).await;
        let more = format!("deliver = \"before-entry\"\nentry_timeout = \"200ms\"\nwhen_unconfirmed = \"{when}\"");
        let house = scene.house(&more).await;
        scene.log_in_confirmed(&house, "alice", &["staff"]).await;
        scene.hook.always(Some(Move::Waits));
        assert_eq!(scene.log_in(&house, "bob", &["staff"]).await, new, "{when}");
        assert_eq!(scene.log_in(&house, "alice", &[]).await, lost, "{when}");
        house.running.stop().await;
    }
}

/// A receiver that fails costs no login its time, and one that is slow no login of others.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_waits_for_a_receiver_that_is_known_to_fail() {
    let scene = Scene::new(Clock::fixed(NOW)).await;
    let house = scene.house("deliver = \"before-entry\"\nentry_timeout = \"20s\"").await;
    scene.hook.always(Some(Move::Answers(410, "")));
    assert_eq!(scene.log_in(&house, "alice", &["staff"]).await, 200);
    let began = Instant::now();
    for number in 0..10 {
        assert_eq!(scene.log_in(&house, &format!("user-{number}"), &["staff"]).await, 200);
    }
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    house.running.stop().await;
}
