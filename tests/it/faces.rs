//! The mapping APIs of other systems, as their clients and scripts use them: through the admin listener of the whole program,
//! and what comes of it at a login.

mod odc;
mod odc_users;
mod onelogin;

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use loginsync::ports::sessions::Digest;
use serde_json::{Value, json};

use crate::attacks::{FORM, claims, form, here, signed};
use crate::front_door::House;
use crate::kit::NOW;

/// Of the clients: what a secret looks like, though nobody would guess a real one.
pub const SECRET: &str = "script-secret-script-secret-script-secret-0001";
pub const READER: &str = "reader-secret-reader-secret-reader-secret-0002";
pub const CHIEF: &str = "chiefs-secret-chiefs-secret-chiefs-secret-0004";
pub const ELSEWHERE: &str = "others-secret-others-secret-others-secret-0003";

const CONFIG: &str = r#"
public_url = "https://app.example"

[app]
url = "http://127.0.0.1:1"

[store]
path = "store.db"

[[api_client]]
name = "script"
secret_hash = "SCRIPT"
scopes = ["read", "mappings:write", "members:write"]

[[api_client]]
name = "reader"
secret_hash = "READER"
scopes = ["read"]

[[api_client]]
name = "chief"
secret_hash = "CHIEF"
scopes = ["admin"]

[[api_client]]
name = "elsewhere"
secret_hash = "ELSEWHERE"
scopes = ["admin"]
faces = ["v1"]

[[role]]
name = "editor"

[[role]]
name = "lead"

[[role]]
name = "root"
privileged = true

[[group]]
name = "Staff"
roles = ["editor"]

[[provider]]
name = "oidc"
mode = "oidc-form-post"
issuer = "https://idp.example/"
client_id = "the-app"
callback = "/callback"
jwks_file = "fixtures/tokens/jwks.json"
authorization_endpoint = "https://idp.example/authorize"
email_claim = "email"
name_claim = "name"
binding = "observe"
stages = ["production"]

[provider.claims.groups]

[provider.claims.member_of]
name = "memberOf"

[provider.claims.custom_attribute_level]
name = "level"

[[provider]]
name = "saml"
mode = "saml-post"
issuer = "https://idp.example/saml"
audience = "https://app.example/saml"
callback = "/saml/acs"
certificate_files = ["fixtures/keys/idp-rsa.certificate.test-only.pem"]
sso_url = "https://idp.example/sso"

[provider.claims.groups]

[[provider]]
name = "staged"
mode = "saml-post"
issuer = "https://staged.example/saml"
audience = "https://app.example/saml"
callback = "/saml/staged"
certificate_files = ["fixtures/keys/idp-rsa.certificate.test-only.pem"]
sso_url = "https://staged.example/sso"
stages = ["production"]

[provider.claims.groups]

[[mapping]]
provider = "oidc"
claim = "groups"
value = "staff"
group = "Staff"
"#;

/// The whole program, and somebody who calls its APIs.
pub struct Office {
    pub house: House,
    client: Client<hyper_util::client::legacy::connect::HttpConnector, Full<Bytes>>,
}

pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }
}

impl Office {
    pub async fn open() -> Self {
        Self::with("").await
    }

    /// With more in the configuration.
    pub async fn with(more: &str) -> Self {
        Self::of(&format!("{CONFIG}{more}")).await
    }

    /// With another configuration, in which the hashes of the secrets are still to be filled in.
    pub async fn of(text: &str) -> Self {
        let hash = |secret: &str| -> String {
            Digest::of(secret.as_bytes()).0.iter().map(|byte| format!("{byte:02x}")).collect()
        };
        let text = text
            .replace("SCRIPT", &hash(SECRET))
            .replace("READER", &hash(READER))
            .replace("CHIEF", &hash(CHIEF))
            .replace("ELSEWHERE", &hash(ELSEWHERE));
        let house = House::open(&text, &here(), NOW).await;
        Self { house, client: Client::builder(TokioExecutor::new()).build_http() }
    }

    pub async fn call(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        let mut request = Request::builder().method(method).uri(format!("http://{}{target}", self.house.running.admin));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::copy_from_slice(body.as_bytes()))).unwrap();
        let (parts, body) = self.client.request(request).await.unwrap().into_parts();
        let text = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
        Reply { status: parts.status.as_u16(), headers: parts.headers, text }
    }

    /// A call with the secret of a client as its token, and a JSON body unless it is null.
    pub async fn by(&self, secret: &str, method: &str, target: &str, body: &Value) -> Reply {
        let bearer = format!("Bearer {secret}");
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.call(method, target, &headers, &body).await
    }

    /// The same by the client that may change things; the status is the one that is expected.
    pub async fn expect(&self, status: u16, method: &str, target: &str, body: &Value) -> Value {
        let reply = self.by(SECRET, method, target, body).await;
        assert_eq!(reply.status, status, "{method} {target} {body}: {}", reply.text);
        if reply.text.is_empty() { Value::Null } else { reply.json() }
    }

    /// A login of a person, in the `number`th second.
    pub async fn login(&self, subject: &str, number: i64, changes: &Value) -> u16 {
        let mut claims = claims(&format!("{subject}-{number}"));
        claims["sub"] = json!(subject);
        claims["iat"] = json!(NOW.seconds() - 60 + number);
        claims["name"] = json!("Alice Ann Archer");
        for (name, value) in changes.as_object().unwrap() {
            claims[name] = value.clone();
        }
        let body = form(&[("id_token", &signed(&claims)), ("state", "state-1")]);
        self.house.send("POST", "/callback", &[FORM], body.as_bytes()).await.status
    }

    /// What the store has of everybody.
    pub async fn holds(&self, what: &str) -> bool {
        self.house.memberships().await.contains(what)
    }
}
