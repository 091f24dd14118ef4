//! Several sidecars of one app, over one database of PostgreSQL, through their front doors.

mod failover;
mod faults;
mod lost;
mod trips;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use loginsync::clock::Clock;
use loginsync::config::Place;
use serde_json::json;

use crate::front_door::House;
use crate::support::idp::Idp;
use crate::support::postgres::{Database, database};

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

[provider.claims.groups]

[[api_client]]
name = "admin"
secret_hash = "HASH"
scopes = ["admin"]
"#;

const SECRET: &str = "01234567890123456789012345678901234567890123456789012345678901ab";

fn group(value: &str, group: &str) -> String {
    format!(
        "[[group]]\nname = \"{group}\"\n[[mapping]]\nprovider = \"idp\"\nclaim = \"groups\"\nvalue = \"{value}\"\n\
         group = \"{group}\"\n"
    )
}

struct Scene {
    idp: Idp,
    database: Database,
    /// Of the sidecars. A server has the machine's clock, and they must not fall behind it.
    clock: Clock,
}

impl Scene {
    /// `None` where no server is installed.
    async fn open() -> Option<Self> {
        Some(Self::on(database().await?).await)
    }

    async fn on(database: Database) -> Self {
        Self { database, idp: Idp::start().await, clock: Clock::system() }
    }

    fn text(&self, rules: &str) -> String {
        let hash = loginsync::ports::sessions::Digest::of(SECRET.as_bytes());
        let hash: String = hash.0.iter().map(|byte| format!("{byte:02x}")).collect();
        CONFIG.replace("ISSUER", &self.idp.issuer()).replace("HASH", &hash) + rules
    }

    async fn replica(&self, rules: &str) -> House {
        self.replica_at(self.database.place(), rules).await.unwrap_or_else(|error| panic!("{error}"))
    }

    async fn replica_at(&self, place: Place, rules: &str) -> Result<House, String> {
        let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("test.toml");
        Box::pin(House::try_open(place, &self.text(rules), &file, self.clock.clone())).await
    }

    fn token(&self, person: &str, groups: &[&str]) -> String {
        let now = Clock::system().now().seconds();
        self.idp.sign(&json!({
            "iss": self.idp.issuer(), "aud": "the-app", "sub": person, "iat": now, "exp": now + 300,
            "jti": format!("{:x}", rand()), "groups": groups,
        }))
    }

    /// A login at a sidecar: the status, and what the app was told of groups.
    async fn log_in(&self, at: &House, person: &str, groups: &[&str]) -> (u16, Vec<String>) {
        self.spend(at, &self.token(person, groups), person).await
    }

    /// The status alone.
    async fn log_in_only(&self, at: &House, person: &str, groups: &[&str]) -> u16 {
        post(at, &self.token(person, groups)).await
    }

    async fn spend(&self, at: &House, token: &str, person: &str) -> (u16, Vec<String>) {
        (post(at, token).await, groups_of(at, person).await)
    }
}

/// A number that no other token of these tests has.
fn rand() -> u64 {
    use std::hash::{BuildHasher as _, Hasher as _};
    std::hash::RandomState::new().build_hasher().finish()
}

async fn groups_of(at: &House, person: &str) -> Vec<String> {
    let user = loginsync::pipeline::ids::UserId {
        namespace: loginsync::pipeline::ids::Namespace::parse("idp").unwrap(),
        subject: loginsync::pipeline::ids::Subject::parse(person).unwrap(),
    };
    let view = at.view(user).await;
    view.map(|view| view.groups).unwrap_or_default()
}

async fn call(at: &House, method: &str, path: &str, body: &serde_json::Value) -> u16 {
    let authorization = format!("Bearer {SECRET}");
    let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    at.send_to(at.running.admin, method, path, &headers, &body).await.status
}

const FORM: [(&str, &str); 1] = [("content-type", "application/x-www-form-urlencoded")];

/// The status of a login with a token.
async fn post(at: &House, token: &str) -> u16 {
    let form = format!("id_token={token}&state=s");
    at.send("POST", "/callback", &FORM, form.as_bytes()).await.status
}

/// Denies someone the group `Staff` by the API: the status, and what was said.
async fn deny(at: &House, person: &str) -> (u16, String) {
    let authorization = format!("Bearer {SECRET}");
    let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
    let path = format!("/api/v1/users/idp/{person}/denies/group/Staff");
    let answer = at.send_to(at.running.admin, "PUT", &path, &headers, br#"{"reason": "left"}"#).await;
    (answer.status, answer.body)
}

async fn within(limit: Duration, what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < limit, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_spent_at_one_replica_is_a_replay_at_the_others() {
    let Some(scene) = Scene::open().await else { return };
    let rules = group("staff", "Staff");
    let (one, two) = (scene.replica(&rules).await, scene.replica(&rules).await);
    let token = scene.token("alice", &["staff"]);
    assert_eq!(scene.spend(&one, &token, "alice").await, (200, vec!["Staff".into()]));
    assert_eq!(scene.spend(&two, &token, "alice").await.0, 409);
    assert_eq!(scene.log_in(&two, "alice", &[]).await, (200, vec![]));
    assert_eq!(groups_of(&one, "alice").await, Vec::<String>::new(), "revoked there is revoked here");
}

/// What one replica's API changes, the others decide by within a second, and no login is refused for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_mapping_made_at_one_replica_gives_at_the_others() {
    let Some(scene) = Scene::open().await else { return };
    let (one, two) = (scene.replica(&group("staff", "Staff")).await, scene.replica(&group("staff", "Staff")).await);
    let mapping = json!({"definition": {
        "provider": "idp", "when": [{"claim": "groups", "is": "night"}], "then": [{"add_group": "Staff"}],
    }});
    let status = call(&one, "POST", "/api/v1/mappings", &mapping).await;
    assert!(status == 200 || status == 201, "{status}");
    // Much longer than a second is only for slow machines.
    within(Duration::from_secs(20), "the other replica gives by the mapping", async || {
        let (status, groups) = scene.log_in(&two, "bob", &["night"]).await;
        assert_eq!(status, 200);
        groups == ["Staff"]
    })
    .await;
}

/// Two files, as in an upgrade that goes replica by replica: what one of them gives, a login at the other does not end. When the
/// last replica of a file is gone, what only that gave ends.
#[tokio::test(flavor = "multi_thread")]
async fn what_one_live_file_gives_a_login_at_another_does_not_end() {
    let Some(scene) = Scene::open().await else { return };
    let old = group("staff", "Staff") + &group("legacy", "Legacy");
    let new = group("staff", "Staff") + &group("modern", "Modern");
    let everything = ["staff", "legacy", "modern"];
    let one = scene.replica(&old).await;
    assert_eq!(scene.log_in(&one, "alice", &everything).await, (200, vec!["Legacy".into(), "Staff".into()]));
    let two = scene.replica(&new).await;
    let both = vec!["Legacy".to_owned(), "Modern".to_owned(), "Staff".to_owned()];
    for _ in 0..2 {
        assert_eq!(scene.log_in(&two, "alice", &everything).await, (200, both.clone()));
        assert_eq!(scene.log_in(&one, "alice", &everything).await, (200, both.clone()));
    }
    // What both files decide on is decided by either.
    assert_eq!(scene.log_in(&two, "alice", &["legacy"]).await, (200, vec!["Legacy".into()]));
    assert_eq!(scene.log_in(&one, "alice", &everything).await, (200, vec!["Legacy".into(), "Staff".into()]));
    one.running.stop().await;
    within(Duration::from_secs(40), "what only the old file gave ends", async || {
        groups_of(&two, "alice").await == ["Staff"]
    })
    .await;
}

/// Whom a gate of either file keeps out does not enter at a sidecar of the other, in an upgrade that adds the gate and in one that
/// removes it.
#[tokio::test(flavor = "multi_thread")]
async fn a_gate_of_one_live_file_holds_at_logins_of_another() {
    let Some(scene) = Scene::open().await else { return };
    let without = group("staff", "Staff");
    let gate = "[[gate]]\nname = \"not on leave\"\ndeny = [{ claim = \"groups\", is = \"on-leave\" }]\n\
                message = \"Come back rested.\"\n";
    let (one, two) = (scene.replica(&without).await, scene.replica(&(without.clone() + gate)).await);
    for house in [&one, &two] {
        let form = format!("id_token={}&state=s", scene.token("alice", &["staff", "on-leave"]));
        let answer = house.send("POST", "/callback", &FORM, form.as_bytes()).await;
        assert_eq!(answer.status, 403, "{}", answer.body);
        assert!(answer.body.contains("Come back rested."), "{}", answer.body);
        assert_eq!(scene.log_in(house, "bob", &["staff"]).await, (200, vec!["Staff".into()]));
    }
    two.running.stop().await;
    within(Duration::from_secs(40), "the gate goes with the last sidecar of its file", async || {
        scene.log_in_only(&one, "alice", &["staff", "on-leave"]).await == 200
    })
    .await;
}

/// Nor does a command that plans everyone anew by the rules of one of them.
#[tokio::test(flavor = "multi_thread")]
async fn what_one_live_file_gives_a_command_with_another_does_not_end() {
    let Some(scene) = Scene::open().await else { return };
    let (old, new) = (group("staff", "Staff") + &group("legacy", "Legacy"), group("staff", "Staff"));
    let (one, two) = (scene.replica(&old).await, scene.replica(&new).await);
    assert_eq!(scene.log_in(&one, "alice", &["staff", "legacy"]).await.1, ["Legacy", "Staff"]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("new.toml");
    std::fs::write(folder.path().join("store.key"), "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=").unwrap();
    let store = format!("[store]\nurl = \"{}\"\nkey_file = \"store.key\"\n[app]", scene.database.url);
    std::fs::write(&file, scene.text(&new).replace("[app]", &store)).unwrap();
    let apply = async || {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_loginsync"));
        command.args(["mapping", "apply", "--config"]).arg(&file);
        let said = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    };
    apply().await;
    assert_eq!(groups_of(&two, "alice").await, ["Legacy", "Staff"]);
    one.running.stop().await;
    within(Duration::from_secs(40), "what only the old file gave ends", async || {
        groups_of(&two, "alice").await == ["Staff"]
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_replica_leads_and_another_takes_over() {
    let Some(scene) = Scene::open().await else { return };
    let rules = group("staff", "Staff");
    let (one, two) = (scene.replica(&rules).await, scene.replica(&rules).await);
    let leads = async |house: &House| {
        let answer = house.send_to(house.running.admin, "GET", "/metrics", &[], b"").await;
        answer.body.contains("loginsync_leader 1")
    };
    within(Duration::from_secs(40), "one leads", async || leads(&one).await || leads(&two).await).await;
    let first = leads(&one).await;
    let (leader, other) = if first { (one, two) } else { (two, one) };
    assert!(!leads(&other).await, "and the other does not");
    leader.running.stop().await;
    within(Duration::from_secs(40), "the other takes over", async || leads(&other).await).await;
    // And seals: a login's row gets its place without being asked for.
    assert_eq!(scene.log_in(&other, "alice", &["staff"]).await.0, 200);
    let report = other.store().verify_audit().await.unwrap();
    assert!(report.broken.is_none(), "{report:?}");
}

/// A replica that was not heard of, as one that was paused: what it decides counts again once it has announced itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_was_forgotten_announces_itself_again() {
    let Some(scene) = Scene::open().await else { return };
    let rules = group("staff", "Staff");
    let one = scene.replica(&rules).await;
    let client = scene.database.client().await;
    client.batch_execute("DELETE FROM loginsync.replicas").await.unwrap();
    assert_eq!(scene.log_in(&one, "alice", &["staff"]).await, (200, vec!["Staff".into()]));
    let rows = client.query("SELECT 1 FROM loginsync.replicas", &[]).await.unwrap();
    assert_eq!(rows.len(), 1);
}

/// A clock that is off would keep spent tokens too short, and sweep the wrong rows.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_whose_clock_is_off_is_not_ready() {
    let Some(mut scene) = Scene::open().await else { return };
    let one = scene.replica(&group("staff", "Staff")).await;
    let ready = async |house: &House| house.send_to(house.running.admin, "GET", "/readyz", &[], b"").await;
    assert_eq!(ready(&one).await.status, 200);
    scene.clock = Clock::fixed(Clock::system().now().plus(Duration::from_secs(120)));
    let two = scene.replica(&(group("staff", "Staff") + GOES_ON)).await;
    let answer = ready(&two).await;
    assert_eq!(answer.status, 503, "it must not decide, whatever `ready.store` says");
    let told = &answer.body;
    assert!(told.contains("clock of this machine is 1") && told.contains("ahead of the database's"), "{told}");
}

const GOES_ON: &str = "\n[ready]\nstore = \"serve\"\n";

/// While the database is away logins are 503, and what needs no login goes on: whether balancers send it here is the operator's word.
#[tokio::test(flavor = "multi_thread")]
async fn readiness_without_a_database_is_as_the_configuration_says() {
    let Some(scene) = Scene::open().await else { return };
    let rules = group("staff", "Staff");
    let (asks, goes_on) = (scene.replica(&rules).await, scene.replica(&(rules + GOES_ON)).await);
    let ready = async |house: &House| house.send_to(house.running.admin, "GET", "/readyz", &[], b"").await;
    let both = async || (ready(&asks).await.status, ready(&goes_on).await.status);
    assert_eq!(both().await, (200, 200));

    let (server, name) = scene.database.url.rsplit_once('/').unwrap();
    let beside = Database { url: format!("{server}/postgres") }.client().await;
    let close = format!(
        "ALTER DATABASE {name} ALLOW_CONNECTIONS false;
         SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
    );
    beside.batch_execute(&close).await.unwrap();
    within(Duration::from_secs(20), "one is not ready, the other is", async || both().await == (503, 200)).await;
    // What was found is good for a second.
    within(Duration::from_secs(20), "it says what is wrong all the same", async || {
        ready(&goes_on).await.body.contains("\"store\":\"the store ")
    })
    .await;
    for house in [&asks, &goes_on] {
        assert_eq!(house.send("GET", "/page", &[], b"").await.status, 200);
        assert_eq!(scene.log_in_only(house, "alice", &["staff"]).await, 503);
    }

    beside.batch_execute(&format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true")).await.unwrap();
    within(Duration::from_secs(20), "both are ready again", async || both().await == (200, 200)).await;
    assert_eq!(scene.log_in(&asks, "alice", &["staff"]).await.0, 200);
}
