//! Every published attack that concerns `saml-post` and `oidc-form-post`, through the front door: HTTP to the listener in,
//! and then what the browser is told, what reached the app, and what was written.
//!
//! Each row must be refused in time, with a page that has a number and says what to do, and leave nothing behind. The
//! reasons of refusals are tested one floor below, in `saml_attacks` and `oidc_verify`.

mod documents;
mod keys;
mod races;
mod shapes;
mod tokens;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use loginsync::cli::demo::mint::{oidc, saml};
use serde_json::{Value, json};

use crate::front_door::{Answer, House};
use crate::kit::{CLIENT, NOW, OIDC_ISSUER, REQUEST, key, login, signed_assertion};

/// Two providers with nothing in common but the app. What stands in capitals is replaced, or goes.
pub const CONFIG: &str = r#"
public_url = "https://app.example"

[app]
url = "http://127.0.0.1:1"
start_page = "/start"

[store]
path = "store.db"
timeout = "1s"

[headers]
preset = "loginsync"

[[role]]
name = "editor"

[[group]]
name = "Staff"
roles = ["editor"]

[[group]]
name = "Administrators"

[[provider]]
name = "oidc"
mode = "oidc-form-post"
issuer = "https://idp.example/"
client_id = "the-app"
callback = ["/callback", "/x/other"]
jwks_file = "fixtures/tokens/jwks.json"
authorization_endpoint = "https://idp.example/authorize"
email_claim = "email"
OIDC

[provider.claims.groups]

[[provider]]
name = "saml"
mode = "saml-post"
issuer = "https://idp.example/saml"
audience = "https://app.example/saml"
callback = "/saml/acs"
certificate_files = ["fixtures/keys/idp-rsa.certificate.test-only.pem"]
sso_url = "https://idp.example/sso"
decryption_key_files = ["fixtures/keys/app-decryption.key.test-only.pem"]
SAML

[provider.claims.groups]

[[mapping]]
provider = "oidc"
claim = "groups"
value = "staff"
group = "Staff"

[[mapping]]
provider = "oidc"
claim = "groups"
value = "admins"
group = "Administrators"

[[mapping]]
provider = "saml"
claim = "groups"
value = "staff"
group = "Staff"

[[mapping]]
provider = "saml"
claim = "groups"
value = "admins"
group = "Administrators"
"#;

/// The configuration with lines of its own for each provider.
pub fn config(oidc: &str, saml: &str) -> String {
    CONFIG.replace("OIDC", oidc).replace("SAML\n", &format!("{saml}\n"))
}

/// Where the configuration's relative paths start.
pub fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("attacks.toml")
}

pub const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

/// The house, and a browser that left it for both providers.
pub struct Siege {
    pub house: House,
    pub cookies: String,
}

/// What is sent, and how it must end.
pub struct Attack<'a> {
    pub what: &'a str,
    pub path: &'a str,
    pub body: Vec<u8>,
    pub content_type: &'a str,
    /// Any of these.
    pub status: &'a [u16],
    /// Its signature held, so that one audit row may tell of it.
    pub signed: bool,
}

impl<'a> Attack<'a> {
    pub fn token(what: &'a str, token: &str, signed: bool) -> Self {
        Self::body(what, "/callback", form(&[("id_token", token), ("state", "state-1")]).into_bytes(), signed)
    }

    pub fn document(what: &'a str, document: &str, signed: bool) -> Self {
        Self::field(what, &saml::field(document), signed)
    }

    pub fn field(what: &'a str, field: &str, signed: bool) -> Self {
        let body = form(&[("SAMLResponse", field), ("RelayState", "/home")]);
        Self::body(what, "/saml/acs", body.into_bytes(), signed)
    }

    pub fn body(what: &'a str, path: &'a str, body: Vec<u8>, signed: bool) -> Self {
        Self { what, path, body, content_type: FORM.1, status: &[400, 403], signed }
    }
}

pub fn form(fields: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish()
}

pub const LEAVE: &str = "https://idp.example/authorize?client_id=the-app&state=state-1&nonce=nonce-1";

/// An AuthnRequest's way out, in the redirect binding.
pub fn saml_leave(request: &str) -> String {
    use base64::Engine as _;
    use std::io::Read as _;
    let xml = format!("<p:AuthnRequest xmlns:p=\"urn:oasis:names:tc:SAML:2.0:protocol\" ID=\"{request}\"/>");
    let mut deflated = Vec::new();
    flate2::read::DeflateEncoder::new(xml.as_bytes(), flate2::Compression::best()).read_to_end(&mut deflated).unwrap();
    let field = base64::engine::general_purpose::STANDARD.encode(deflated);
    format!("https://idp.example/sso?{}", form(&[("SAMLRequest", &field)]))
}

/// The claims of a login that is right in every respect.
pub fn claims(jti: &str) -> Value {
    json!({
        "iss": OIDC_ISSUER, "aud": CLIENT, "sub": "alice", "nonce": "nonce-1", "jti": jti, "groups": ["staff"],
        "iat": NOW.seconds(), "exp": NOW.seconds() + 300, "email": "alice@example.com",
    })
}

/// Those claims with members replaced.
pub fn with(changes: &Value) -> Value {
    let mut claims = claims("attack");
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}

pub fn header() -> Value {
    json!({"alg": "RS256", "kid": "idp-rsa", "typ": "JWT"})
}

pub fn signed(claims: &Value) -> String {
    oidc::id_token(&key("idp-rsa"), "RS256", &header(), claims).unwrap()
}

impl Siege {
    pub async fn open() -> Self {
        Self::with(&config("", "")).await
    }

    pub async fn with(text: &str) -> Self {
        let house = House::open(text, &here(), NOW).await;
        let cookies = format!("{}; {}", house.leave(LEAVE).await, house.leave(&saml_leave(REQUEST)).await);
        Self { house, cookies }
    }

    pub async fn send(&self, path: &str, content_type: &str, body: &[u8]) -> Answer {
        let headers = [("content-type", content_type), ("cookie", &self.cookies), ("accept", "text/html")];
        self.house.send("POST", path, &headers, body).await
    }

    /// Sends each and looks at what came of it; then an honest login of either protocol still passes.
    pub async fn withstands(&self, attacks: Vec<Attack<'_>>) {
        for attack in &attacks {
            self.withstands_one(attack).await;
        }
        self.lets_the_honest_in().await;
    }

    pub async fn withstands_one(&self, attack: &Attack<'_>) -> Answer {
        let what = attack.what;
        let (memberships, rows, seen) =
            (self.house.memberships().await, self.house.events().await.len(), self.house.app.seen().len());
        let before = Instant::now();
        let answer = self.send(attack.path, attack.content_type, &attack.body).await;
        assert!(before.elapsed() < Duration::from_secs(4), "{what}: took {:?}", before.elapsed());
        assert!(attack.status.contains(&answer.status), "{what}: {} {}", answer.status, answer.body);
        check_page(what, &answer, &attack.body);
        assert_eq!(self.house.app.seen().len(), seen, "{what}: reached the app");
        assert_eq!(self.house.memberships().await, memberships, "{what}: changed a membership");
        let written = self.house.events().await.split_off(rows);
        // One token fills one row, however often it comes.
        let most = usize::from(attack.signed);
        assert!(written.len() <= most, "{what}: wrote {written:?}");
        assert!(written.iter().all(|row| row.event == "login_refused"), "{what}: wrote {written:?}");
        answer
    }

    /// The process stayed up, and nothing that was refused spent the tokens that it imitated.
    pub async fn lets_the_honest_in(&self) {
        let seen = self.house.app.seen().len();
        let token = form(&[("id_token", &signed(&claims("honest"))), ("state", "state-1")]);
        assert_eq!(self.send("/callback", FORM.1, token.as_bytes()).await.status, 200);
        let document = saml::field(&signed_assertion(&login(), &key("idp-rsa")));
        let answer = self.send("/saml/acs", FORM.1, form(&[("SAMLResponse", &document)]).as_bytes()).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert_eq!(self.house.app.seen().len(), seen + 2);
        let memberships = self.house.memberships().await;
        assert!(memberships.contains("oidc/alice: groups [\"Staff\"]"), "{memberships}");
        assert!(memberships.contains("saml/alice: groups [\"Staff\"]"), "{memberships}");
    }
}

/// A page that is short, has a number, says what to do, and holds nothing of what was sent.
pub fn check_page(what: &str, answer: &Answer, sent: &[u8]) {
    let Answer { headers, body, .. } = answer;
    assert_eq!(headers["content-type"], "text/html; charset=utf-8", "{what}");
    assert_eq!(headers["cache-control"], "no-store", "{what}");
    assert!(headers["content-security-policy"].to_str().unwrap().starts_with("default-src 'none';"), "{what}");
    let id = body.split_once("<code>").and_then(|(_, rest)| rest.split_once("</code>")).unwrap_or_default().0;
    assert!(id.len() == 24 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{what}: {body}");
    let advises = ["Start again", "start a fresh one", "administrator", "Send it", "try again"];
    assert!(advises.iter().any(|advice| body.contains(advice)), "{what}: {body}");
    assert!(body.len() < 3000, "{what}: {body}");
    for leaked in ["alice", "root", "signature", "sqlite", "panicked", "src/", "idp.example"] {
        assert!(!body.contains(leaked), "{what}: tells `{leaked}`: {body}");
    }
    let pieces = sent.split(|byte| !byte.is_ascii_alphanumeric()).filter(|piece| piece.len() >= 16).take(200);
    for piece in pieces.filter_map(|piece| std::str::from_utf8(&piece[..16]).ok()) {
        assert!(!body.contains(piece), "{what}: tells what was sent, `{piece}`");
    }
}
