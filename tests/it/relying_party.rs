//! Mode `relying-party`: the login that the sidecar runs, with a browser that keeps its cookies and a provider whose
//! answers are chosen.

mod app_sessions;
mod hostile;
mod logout;
mod oidc;
mod renewal;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use loginsync::pipeline::ids::{Namespace, Subject, Timestamp, UserId};
use serde_json::{Value, json};

use crate::front_door::{Answer, House};
use crate::kit::NOW;
use crate::support::idp::{Idp, Scripted};

pub const ORIGIN: &str = "https://app.example";

const CONFIG: &str = r#"
public_url = "PUBLIC"
TOP

[listen]
LISTEN

[app]
url = "http://127.0.0.1:1"
start_page = "/start"

[cookies]
keys_file = "KEYS"

[session]
SESSION

[[path]]
prefix = "/public"
access = "public"

[[path]]
prefix = "/api"
access = "api"

[[provider]]
name = "idp"
mode = "relying-party"
issuer = "ISSUER"
client_id = "the app"
client_secret_file = "SECRET"
algorithms = ["EdDSA"]
title = "Example Corp"
PROVIDER

[provider.claims.groups]

[[group]]
name = "Staff"
roles = ["editor"]

[[group]]
name = "Board"

[[role]]
name = "editor"

[[mapping]]
provider = "idp"
claim = "groups"
value = "staff"
group = "Staff"

[[mapping]]
provider = "idp"
claim = "groups"
value = "board"
group = "Board"
MORE
"#;

fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("test.toml")
}

/// What differs from the usual.
#[derive(Default, Clone, Copy)]
pub struct Setting {
    /// Behind the origin of the app: the path below which it is offered.
    pub base: &'static str,
    pub top: &'static str,
    pub listen: &'static str,
    pub session: &'static str,
    pub provider: &'static str,
    pub more: &'static str,
}

/// The provider, the program and what lies beside its configuration.
pub struct Scene {
    pub idp: Idp,
    pub house: House,
    text: String,
    _secrets: tempfile::TempDir,
}

impl Scene {
    pub async fn open(setting: Setting) -> Self {
        let idp = Idp::start().await;
        Self::with(idp, setting).await
    }

    pub async fn with(idp: Idp, setting: Setting) -> Self {
        Self::with_secret(idp, setting, true).await
    }

    /// With a client secret, or with another way to authenticate.
    pub async fn with_secret(idp: Idp, setting: Setting, secret_used: bool) -> Self {
        let secrets = tempfile::tempdir().unwrap();
        let (keys, secret) = (secrets.path().join("keys"), secrets.path().join("secret"));
        std::fs::write(&keys, "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=\n").unwrap();
        std::fs::write(&secret, "s3cr:t\n").unwrap();
        let line = if secret_used { "client_secret_file = \"SECRET\"" } else { "" };
        let text = CONFIG
            .replace("client_secret_file = \"SECRET\"", line)
            .replace("PUBLIC", &format!("{ORIGIN}{}", setting.base))
            .replace("TOP", setting.top)
            .replace("LISTEN", setting.listen)
            .replace("SESSION", setting.session)
            .replace("PROVIDER", setting.provider)
            .replace("MORE", setting.more)
            .replace("KEYS", keys.to_str().unwrap())
            .replace("SECRET", secret.to_str().unwrap())
            .replace("ISSUER", &idp.issuer());
        let house = House::open(&text, &here(), NOW).await;
        Self { idp, house, text, _secrets: secrets }
    }

    /// The same after a restart.
    pub async fn restarted(self) -> Self {
        let house = self.house.restart(&self.text, &here()).await;
        Self { house, ..self }
    }

    pub fn browser(&self) -> Browser<'_> {
        Browser { scene: self, cookies: BTreeMap::new(), at: self.house.running.proxy }
    }

    /// A browser at the admin listener.
    pub fn operator(&self) -> Browser<'_> {
        Browser { at: self.house.running.admin, ..self.browser() }
    }

    /// An ID token that is right in every respect but what `change` makes of its claims.
    pub fn token(&self, nonce: &str, change: impl FnOnce(&mut Value)) -> String {
        let now = self.house.clock.now().seconds();
        let mut claims = json!({
            "iss": self.idp.issuer(), "aud": "the app", "sub": "alice", "iat": now, "exp": now + 300, "nonce": nonce,
            "sid": "session-1", "groups": ["staff"], "email": "alice@example.com", "preferred_username": "al",
            // Two logins of one second are two tokens.
            "jti": format!("{nonce}{}", self.house.happened()),
        });
        change(&mut claims);
        self.idp.sign(&claims)
    }

    /// What the token endpoint answers from now on.
    pub fn tokens(&self, id_token: &str) {
        let answer =
            json!({"id_token": id_token, "access_token": "at-1", "refresh_token": "rt-1", "token_type": "Bearer"});
        self.idp.answers("/token", Scripted::json(answer.to_string()));
    }

    pub fn later(&self, seconds: i64) {
        let now = self.house.clock.now();
        self.house.clock.set(Timestamp(now.0 + seconds * 1000));
    }

    pub async fn has_users(&self) -> bool {
        !self.house.store().users(None, 10).await.unwrap().is_empty()
    }
}

pub fn user(subject: &str) -> UserId {
    UserId { namespace: Namespace::parse("idp").unwrap(), subject: Subject::parse(subject).unwrap() }
}

/// A browser: it keeps cookies and says that it wants pages.
pub struct Browser<'s> {
    pub scene: &'s Scene,
    pub cookies: BTreeMap<String, String>,
    /// The listener that it asks.
    pub at: std::net::SocketAddr,
}

/// A login that has left for the provider.
pub struct Left {
    pub query: BTreeMap<String, String>,
    pub address: String,
}

impl Browser<'_> {
    pub async fn get(&mut self, target: &str) -> Answer {
        self.send("GET", target, &[("accept", "text/html,*/*")], b"").await
    }

    pub async fn post(&mut self, target: &str, form: &str) -> Answer {
        let headers = [("accept", "text/html"), ("content-type", "application/x-www-form-urlencoded")];
        self.send("POST", target, &headers, form.as_bytes()).await
    }

    pub async fn send(&mut self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let cookies: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let cookies = cookies.join("; ");
        let mut headers = headers.to_vec();
        if !cookies.is_empty() {
            headers.push(("cookie", &cookies));
        }
        let answer = self.scene.house.send_to(self.at, method, target, &headers, body).await;
        for line in answer.headers.get_all("set-cookie") {
            let line = line.to_str().unwrap();
            let (name, value) = line.split(';').next().unwrap().split_once('=').unwrap();
            if line.contains("Max-Age=0") {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        answer
    }

    /// Leaves for the provider, on the way to a page.
    pub async fn leave(&mut self, page: &str) -> Left {
        let first = self.get(page).await;
        assert_eq!(first.status, 303, "{first:?}");
        let sign_in = location(&first).strip_prefix(ORIGIN).unwrap().to_owned();
        self.leave_by(&sign_in).await
    }

    pub async fn leave_by(&mut self, sign_in: &str) -> Left {
        let away = self.get(sign_in).await;
        assert_eq!(away.status, 303, "{away:?}");
        let address = location(&away);
        let url = url::Url::parse(&address).unwrap();
        let query = url.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())).collect();
        Left { query, address }
    }

    /// A whole login, with claims that are changed.
    pub async fn log_in(&mut self, change: impl FnOnce(&mut Value)) -> Answer {
        let left = self.leave("/page").await;
        let token = self.scene.token(&left.query["nonce"], change);
        self.scene.tokens(&token);
        self.get(&format!("/.loginsync/callback?code=c-1&state={}", left.query["state"])).await
    }

    /// What the app hears of a page that this browser asks for; `None` where the app is not asked.
    pub async fn heard(&mut self, page: &str) -> Option<http::HeaderMap> {
        let before = self.scene.house.app.seen().len();
        self.get(page).await;
        let seen = self.scene.house.app.seen();
        seen.get(before).map(|seen| seen.headers.clone())
    }

    /// Groups as the app hears them; `None` where it hears of no user.
    pub async fn groups(&mut self) -> Option<String> {
        let heard = self.heard("/page").await?;
        heard.get("x-loginsync-user")?;
        Some(heard.get("x-loginsync-groups").map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default())
    }
}

pub fn location(answer: &Answer) -> String {
    answer.headers.get("location").map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
}

pub fn session_cookie(answer: &Answer) -> Option<String> {
    let lines = answer.headers.get_all("set-cookie").iter().map(|line| line.to_str().unwrap());
    lines.into_iter().find(|line| line.starts_with("__Host-loginsync-s=")).map(str::to_owned)
}

/// RFC 7636 section 4.2.
pub fn challenge_of(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, verifier.as_bytes()))
}
