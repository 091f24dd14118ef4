//! Who may give, take and keep what is privileged, through file and store together.

mod becoming;
mod denies;
mod disabling;
mod erased;
mod matrix;
mod rekey;
mod support;

use std::path::PathBuf;

use loginsync::config::{Config, Surroundings};
use loginsync::pipeline::ids::{Namespace, Subject, UserId};
use loginsync::ports::sessions::Digest;
use loginsync::ports::store::UserView;
use serde_json::{Value, json};

use crate::api::configuration;
use crate::attacks::{FORM, LEAVE, claims, form, here, signed};
use crate::front_door::House;
use crate::kit::NOW;

/// May write mappings, and nothing else.
const MAPPER: &str = "test-only-mapper-dddddddddddddddddddddddddd";
/// May write members, and nothing else.
const KEEPER: &str = "test-only-keeper-eeeeeeeeeeeeeeeeeeeeeeeeee";

/// No loss is small enough.
const NO_LOSSES: &str = "\n[brake]\nminimum = 0\nshare = \"0%\"\n";

fn client(name: &str, secret: &str, scope: &str) -> String {
    let hash: String = Digest::of(secret.as_bytes()).0.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("[[api_client]]\nname = \"{name}\"\nsecret_hash = \"{hash}\"\nscopes = [\"{scope}\"]\n")
}

/// The configuration of the API tests (group `Staff` with role `editor`, a privileged role `owner`), a claim `dept`, clients
/// of one scope each, and more.
fn text(more: &str) -> String {
    let clients = client("mapper", MAPPER, "mappings:write") + &client("keeper", KEEPER, "members:write");
    configuration(&format!("{clients}\n{more}"))
}

struct Scene {
    house: House,
}

impl Scene {
    async fn open(text: &str) -> Self {
        Self { house: House::open(text, &here(), NOW).await }
    }

    async fn restart(self, text: &str) -> Self {
        Self { house: self.house.restart(text, &here()).await }
    }

    /// A call that has seen whatever is there.
    async fn call(&self, secret: &str, method: &str, target: &str, body: Option<Value>) -> (u16, Value) {
        let bearer = format!("Bearer {secret}");
        let mut headers = vec![("authorization", bearer.as_str()), ("if-match", "*")];
        if body.is_some() {
            headers.push(("content-type", "application/json"));
        }
        let bytes = body.map(|body| body.to_string()).unwrap_or_default();
        let answer = self.house.send_to(self.house.running.admin, method, target, &headers, bytes.as_bytes()).await;
        (answer.status, serde_json::from_str(&answer.body).unwrap_or(Value::Null))
    }

    /// A call that must succeed.
    async fn done(&self, secret: &str, method: &str, target: &str, body: Option<Value>) -> Value {
        let (status, value) = self.call(secret, method, target, body).await;
        assert!((200..300).contains(&status), "{method} {target}: {status} {value:#}");
        value
    }

    /// A login with these groups: what the app hears of groups and roles, or nothing where it is refused.
    async fn login(&self, who: &str, jti: &str, groups: &[&str]) -> Option<String> {
        let cookies = self.house.leave(LEAVE).await;
        let mut login = claims(&format!("{who}-{jti}"));
        login["groups"] = json!(groups);
        login["sub"] = json!(who);
        let body = form(&[("id_token", &signed(&login)), ("state", "state-1")]);
        let headers = [("cookie", cookies.as_str()), FORM];
        let answer = self.house.send("POST", "/callback", &headers, body.as_bytes()).await;
        if answer.status != 200 {
            assert_eq!(answer.status, 403, "{}", answer.body);
            return None;
        }
        let seen = self.house.app.seen();
        let headers = &seen.last().unwrap().headers;
        let header = |name: &str| headers.get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
        Some(format!("{}|{}", header("x-loginsync-groups"), header("x-loginsync-roles")))
    }

    async fn view(&self, who: &str) -> Option<UserView> {
        self.house.view(person(who)).await
    }

    async fn is_enabled(&self, who: &str) -> bool {
        self.view(who).await.is_some_and(|view| view.enabled)
    }

    async fn events(&self, event: &str) -> Vec<Value> {
        let rows = self.house.events().await;
        rows.into_iter().filter(|row| row.event == event).map(|row| row.detail).collect()
    }

    /// The file that a reload reads.
    fn file(&self) -> PathBuf {
        self.house.folder.path().join("unwatched.toml")
    }

    /// Writes it, and gives the digest by which it is confirmed.
    fn write(&self, text: &str) -> [u8; 32] {
        let text = text
            .replace("http://127.0.0.1:1", &self.house.app_url)
            .replace("fixtures/", &format!("{}/fixtures/", env!("CARGO_MANIFEST_DIR")));
        std::fs::write(self.file(), &text).unwrap();
        let file = self.file();
        let around = Surroundings { file: &file, read: &|path| std::fs::read(path), environment: &|_| None, now: NOW };
        Config::from_text(&text, &around).unwrap().rules.source.unwrap()
    }
}

fn person(who: &str) -> UserId {
    UserId { namespace: Namespace::parse("oidc").unwrap(), subject: Subject::parse(who).unwrap() }
}

/// A mapping from a value of `groups` to a group.
fn to_group(value: &str, group: &str) -> Value {
    json!({"definition": {
        "provider": "oidc", "when": [{"claim": "groups", "is": value}], "then": [{"add_group": group}],
    }})
}

/// A mapping that disables whoever has a value of `groups`.
fn disables(name: &str, value: &str) -> Value {
    json!({"definition": {
        "name": name, "provider": "oidc", "when": [{"claim": "groups", "is": value}], "then": [{"disable_user": true}],
    }})
}
