//! Mode `token-relay`: the app's own exchange, through the relay of the whole program, against a provider whose answers
//! are chosen.

mod exchange;
mod grants;
mod hostile;
mod proxy;
mod userinfo;

use std::net::SocketAddr;
use std::path::Path;

use loginsync::pipeline::ids::{Namespace, Subject, UserId};
use loginsync::ports::store::{AuditRow, UserView};
use serde_json::{Value, json};

use crate::front_door::House;
use crate::kit::NOW;
use crate::support::idp::{Idp, Scripted};
use crate::support::wire::{self, Answer};

const CONFIG: &str = r#"
public_url = "https://app.example"

[app]
url = "http://127.0.0.1:1"

[relay]
address = "127.0.0.1:0"
url = "http://sidecar.internal:8090"
timeout = "400ms"
reply_body = "64KiB"

[[provider]]
name = "the idp"
mode = "token-relay"
issuer = "ISSUER"
client_id = "the-app"
callback = "/oauth/callback"
algorithms = ["EdDSA"]
PROVIDER

[provider.claims.groups]
CLAIM

[[group]]
name = "Staff"

[[group]]
name = "Board"

[[mapping]]
provider = "the idp"
claim = "groups"
value = "staff"
group = "Staff"

[[mapping]]
provider = "the idp"
claim = "groups"
value = "board"
group = "Board"
"#;

pub const FORM: &str = "content-type: application/x-www-form-urlencoded\r\n";
pub const ACCESS_TOKEN: &str = "the-access-token";
pub const REFRESH_TOKEN: &str = "the-refresh-token";

/// The program, and its provider.
pub struct Scene {
    pub house: House,
    pub idp: Idp,
    pub relay: SocketAddr,
}

impl Scene {
    pub async fn new() -> Self {
        Self::with("", "").await
    }

    pub async fn with(provider: &str, claim: &str) -> Self {
        let idp = Idp::start().await;
        let text = CONFIG
            .replace("ISSUER", &idp.issuer())
            .replace("PROVIDER", &provider.replace("IDP", &idp.issuer()))
            .replace("CLAIM", claim);
        let house = House::open(&text, Path::new("relay.toml"), NOW).await;
        let relay = house.running.relay.unwrap();
        Self { house, idp, relay }
    }

    /// The claims of an ID token that is right in every respect.
    pub fn claims(&self, groups: &[&str]) -> Value {
        let now = NOW.seconds();
        json!({"iss": self.idp.issuer(), "aud": "the-app", "sub": "alice", "iat": now, "exp": now + 300, "groups": groups})
    }

    /// A reply with an ID token of these claims, written as no serializer would.
    pub fn reply(&self, claims: &Value) -> String {
        format!(
            "{{ \"token_type\":\"Bearer\",\n\t\"x\" : [1.50, \"\\u00e9\"],\"access_token\":\"{ACCESS_TOKEN}\", \
             \"refresh_token\":\"{REFRESH_TOKEN}\",\"id_token\" : \"{}\" }}\n",
            self.idp.sign(claims)
        )
    }

    pub fn replies(&self, claims: &Value) -> String {
        let reply = self.reply(claims);
        self.idp.answers("/token", Scripted::json(reply.clone()));
        reply
    }

    pub async fn post(&self, headers: &str, body: &str) -> Answer {
        let request = format!(
            "POST /the%20idp/token HTTP/1.1\r\nhost: sidecar.internal:8090\r\ncontent-length: {}\r\n{headers}\r\n{body}",
            body.len()
        );
        wire::send(self.relay, request).await
    }

    pub async fn grant(&self, body: &str) -> Answer {
        self.post(FORM, body).await
    }

    pub async fn code(&self) -> Answer {
        self.grant("grant_type=authorization_code&code=c-1&client_id=the-app&code_verifier=v").await
    }

    pub async fn refresh(&self) -> Answer {
        self.grant("grant_type=refresh_token&refresh_token=r-1&client_id=the-app&client_secret=s-1").await
    }

    pub async fn user(&self) -> Option<UserView> {
        self.user_named("alice").await
    }

    pub async fn user_named(&self, subject: &str) -> Option<UserView> {
        let user =
            UserId { namespace: Namespace::parse("the idp").unwrap(), subject: Subject::parse(subject).unwrap() };
        self.house.view(user).await
    }

    pub async fn groups(&self) -> Vec<String> {
        self.user().await.map(|user| user.groups).unwrap_or_default()
    }

    pub async fn last_event(&self) -> AuditRow {
        self.house.events().await.pop().unwrap()
    }

    pub fn database(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.house.folder.path().join("store.db")).unwrap()
    }

    /// That the app got no token, and why.
    pub fn assert_withheld(&self, what: &str, answer: &Answer, status: u16, error: &str) {
        assert_eq!(answer.status, status, "{what}: {answer:?}");
        for secret in [ACCESS_TOKEN, REFRESH_TOKEN, "id_token\""] {
            assert!(!answer.body.contains(secret), "{what}: {}", answer.body);
        }
        let body: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(body["error"], error, "{what}: {body}");
        assert_eq!(answer.one("cache-control"), Some("no-store"), "{what}");
    }
}
