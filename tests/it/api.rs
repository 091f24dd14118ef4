//! The APIs of the admin listener, through the front door: calls over HTTP in, and then what a login gives.

mod bulk;
mod confirmed;
mod documents;
mod faces_together;
mod looks;
mod opal;
mod operate;
mod timbal;
mod v1;

use loginsync::ports::sessions::Digest;
use serde_json::{Value, json};

use crate::attacks::{CONFIG, FORM, LEAVE, claims, form, here, signed};
use crate::front_door::{Answer, House};
use crate::kit::NOW;

/// Secrets of test clients, each of 43 characters.
pub const ADMIN: &str = "test-only-admin-aaaaaaaaaaaaaaaaaaaaaaaaaaa";
pub const WRITER: &str = "test-only-writer-bbbbbbbbbbbbbbbbbbbbbbbbbb";
pub const READER: &str = "test-only-reader-cccccccccccccccccccccccccc";

/// The house of the attacks, with people who may call, and something privileged.
pub struct Office {
    pub house: House,
}

pub fn client(name: &str, secret: &str, scopes: &str, faces: &str) -> String {
    let hash: String = Digest::of(secret.as_bytes()).0.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("[[api_client]]\nname = \"{name}\"\nsecret_hash = \"{hash}\"\nscopes = {scopes}\n{faces}\n")
}

pub fn configuration(more: &str) -> String {
    let clients = [
        client("admin", ADMIN, r#"["admin"]"#, ""),
        client("writer", WRITER, r#"["read", "mappings:write", "members:write"]"#, ""),
        client("reader", READER, r#"["read"]"#, r#"faces = ["v1"]"#),
    ];
    let privileged = "[[role]]\nname = \"owner\"\nprivileged = true\n";
    let text = CONFIG.replace("OIDC", "").replace("SAML\n", "\n");
    format!("{text}\n{privileged}\n{}\n{more}", clients.join("\n"))
}

impl Office {
    pub async fn open() -> Self {
        Self::with("").await
    }

    pub async fn with(more: &str) -> Self {
        Self { house: House::open(&configuration(more), &here(), NOW).await }
    }

    /// One call as a client; `extra` are header fields.
    pub async fn call(
        &self,
        secret: &str,
        method: &str,
        target: &str,
        extra: &[(&str, &str)],
        body: Option<Value>,
    ) -> (u16, Value, Answer) {
        let bearer = format!("Bearer {secret}");
        let mut headers = vec![("authorization", bearer.as_str())];
        if body.is_some() {
            headers.push(("content-type", "application/json"));
        }
        headers.extend_from_slice(extra);
        let bytes = body.map(|body| body.to_string()).unwrap_or_default();
        let answer = self.house.send_to(self.house.running.admin, method, target, &headers, bytes.as_bytes()).await;
        let value = serde_json::from_str(&answer.body).unwrap_or(Value::Null);
        (answer.status, value, answer)
    }

    pub async fn get(&self, target: &str) -> Value {
        let (status, value, answer) = self.call(ADMIN, "GET", target, &[], None).await;
        assert_eq!(status, 200, "{target}: {}", answer.body);
        value
    }

    pub async fn post(&self, target: &str, body: Value) -> Value {
        let (status, value, answer) = self.call(WRITER, "POST", target, &[], Some(body)).await;
        assert!((200..300).contains(&status), "{target}: {status} {}", answer.body);
        value
    }

    pub async fn delete(&self, target: &str) -> u16 {
        self.call(WRITER, "DELETE", target, &[("if-match", "*")], None).await.0
    }

    /// A login of `alice` with these groups, and what she then holds.
    pub async fn login(&self, jti: &str, groups: &[&str]) -> (Vec<String>, Vec<String>) {
        let cookies = self.house.leave(LEAVE).await;
        let mut login = claims(jti);
        login["groups"] = json!(groups);
        let body = form(&[("id_token", &signed(&login)), ("state", "state-1")]);
        let headers = [("cookie", cookies.as_str()), ("content-type", FORM.1)];
        let answer = self.house.send("POST", "/callback", &headers, body.as_bytes()).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        self.holds().await
    }

    /// What `alice` holds: groups and roles.
    pub async fn holds(&self) -> (Vec<String>, Vec<String>) {
        let view = self.get("/api/v1/users/oidc/alice").await;
        let list = |key: &str| view[key].as_array().unwrap().iter().map(|name| name.as_str().unwrap().into()).collect();
        (list("groups"), list("roles"))
    }

    pub async fn events(&self, event: &str) -> Vec<Value> {
        let rows = self.house.events().await;
        rows.into_iter().filter(|row| row.event == event).map(|row| row.detail).collect()
    }
}

pub fn short(value: &str, group: &str) -> Value {
    json!({"definition": {
        "provider": "oidc", "when": [{"claim": "groups", "is": value}], "then": [{"add_group": group}],
    }})
}

pub fn names(list: &[&str]) -> Vec<String> {
    list.iter().map(|name| (*name).to_owned()).collect()
}
