//! Foreign documents that are odd in some member: what loginsync needs is read, the rest is not, and each oddity is named.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use loginsync::cli::demo::mint::oidc;
use loginsync::clock::Clock;
use loginsync::config::{Config, Surroundings};
use loginsync::pipeline::capture::oidc::UntrustedIdToken;
use loginsync::pipeline::capture::{Beside, Captured, UntrustedToken};
use loginsync::pipeline::verify::{self, Origin};
use loginsync::ports::keys::Published;
use loginsync::ports::keys::fetched::fetch_once;
use serde_json::{Value, json};

use crate::attacks::{FORM, form, here};
use crate::front_door::House;
use crate::kit::{CLIENT, NOW, key};

/// An issuer that serves whatever it is told to, at any path.
#[derive(Clone)]
struct Issuer {
    address: SocketAddr,
    discovery: Arc<Mutex<(String, String)>>,
    jwks: Arc<Mutex<String>>,
}

impl Issuer {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = Self { address: listener.local_addr().unwrap(), discovery: Arc::default(), jwks: Arc::default() };
        issuer.publish_keys(&oidc::jwks(&[oidc::jwk(&key("idp-rsa"), "idp-rsa").unwrap()]).to_string());
        issuer.publish(
            "application/json",
            &json!({"issuer": issuer.issuer(), "jwks_uri": issuer.origin() + "/jwks"}).to_string(),
        );
        let serving = issuer.clone();
        let router = axum::Router::new().fallback(move |request: axum::extract::Request| {
            let (kind, text) = match request.uri().path() {
                "/realm/.well-known/openid-configuration" => serving.discovery.lock().unwrap().clone(),
                _ => ("application/json".into(), serving.jwks.lock().unwrap().clone()),
            };
            let mut answer = http::Response::new(axum::body::Body::from(text));
            if !kind.is_empty() {
                answer.headers_mut().insert("content-type", kind.parse().unwrap());
            }
            async move { answer }
        });
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        issuer
    }

    fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    fn issuer(&self) -> String {
        self.origin() + "/realm"
    }

    fn publish(&self, content_type: &str, document: &str) {
        let document = document.replace("{{ISSUER}}", &self.issuer()).replace("{{ORIGIN}}", &self.origin());
        *self.discovery.lock().unwrap() = (content_type.to_owned(), document);
    }

    fn publish_keys(&self, document: &str) {
        document.clone_into(&mut self.jwks.lock().unwrap());
    }

    fn config(&self, more: &str) -> String {
        format!(
            r#"
public_url = "https://app.example"
[app]
url = "http://127.0.0.1:1"
[store]
path = "store.db"
[[group]]
name = "Staff"
[[provider]]
name = "oidc"
mode = "oidc-form-post"
issuer = "{}"
client_id = "{CLIENT}"
callback = "/callback"
binding = "observe"
{more}
[provider.claims.groups]
[[mapping]]
provider = "oidc"
claim = "groups"
value = "staff"
group = "Staff"
"#,
            self.issuer()
        )
    }

    fn token(&self, key_name: &str, jti: &str) -> String {
        let claims = json!({
            "iss": self.issuer(), "aud": CLIENT, "sub": "alice", "jti": jti, "groups": ["staff"],
            "iat": NOW.seconds(), "exp": NOW.seconds() + 300,
        });
        let header = json!({"alg": "RS256", "kid": key_name});
        oidc::id_token(&key(key_name), "RS256", &header, &claims).unwrap()
    }
}

async fn log_in(house: &House, token: &str) -> u16 {
    let body = form(&[("id_token", token)]);
    house.send("POST", "/callback", &[FORM], body.as_bytes()).await.status
}

fn cases(name: &str) -> Vec<Value> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/documents").join(name);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// What the keys of a configuration's provider are, and what is complained about.
async fn fetched(config: &str) -> Result<(Config, Published), String> {
    let file = here();
    let around = Surroundings { file: &file, read: &|path| std::fs::read(path), environment: &|_| None, now: NOW };
    let config = Config::from_text(config, &around).unwrap_or_else(|faults| panic!("{faults}"));
    let published = fetch_once(&config.providers[0], None, &Clock::fixed(NOW)).await;
    published.map(|published| (config, published)).map_err(|error| error.to_string())
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn log2_only_the_members_that_are_used_are_read_from_a_discovery_document() {
    let issuer = Issuer::start().await;
    for case in cases("discovery.json") {
        let name = case["name"].as_str().unwrap();
        let document = case["text"].as_str().map_or_else(|| case["document"].to_string(), str::to_owned);
        issuer.publish(case["content_type"].as_str().unwrap_or("application/json"), &document);
        let house = House::open(&issuer.config(""), &here(), NOW).await;
        let status = log_in(&house, &issuer.token("idp-rsa", "x")).await;
        assert_eq!(u64::from(status), case["status"].as_u64().unwrap(), "{name}");
        assert_eq!(house.app.seen().len(), usize::from(status == 200), "{name}");
        match fetched(&issuer.config("")).await {
            Ok((_, published)) => {
                let expected: Vec<String> =
                    texts(&case["complaints"]).iter().map(|why| format!("the discovery document: {why}")).collect();
                assert_eq!(published.complaints, expected, "{name}");
            }
            Err(error) => {
                let expected = case["error"].as_str().unwrap_or_default().replace("{{ISSUER}}", &issuer.issuer());
                assert!(!expected.is_empty() && error.contains(&expected), "{name}: {error}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn log3_each_key_is_read_by_itself() {
    let issuer = Issuer::start().await;
    let own = oidc::jwk(&key("idp-rsa"), "idp-rsa").unwrap();
    let other = oidc::jwk(&key("idp-rsa-next"), "other").unwrap();
    // A name in braces stands for a key, `+` for one with other members.
    let filled = |value: &Value| -> Value {
        let whole = |value: &Value| match value.as_str() {
            Some("{{KEY}}") => own.clone(),
            Some("{{OTHER}}") => other.clone(),
            _ => value.clone(),
        };
        let Some(members) = value.as_object() else { return whole(value) };
        let mut key = members.get("+").map_or_else(|| json!({}), whole);
        for (name, value) in members.iter().filter(|(name, _)| *name != "+") {
            let modulus = |text: &str| json!(text.replace("{{N}}", own["n"].as_str().unwrap()));
            key[name] = value.as_str().map_or_else(|| value.clone(), modulus);
        }
        key
    };
    for case in cases("jwks.json") {
        let name = case["name"].as_str().unwrap();
        let keys: Vec<Value> = case["keys"].as_array().unwrap().iter().map(filled).collect();
        issuer.publish_keys(&json!({"keys": keys}).to_string());
        let house = House::open(&issuer.config(""), &here(), NOW).await;
        let token = issuer.token("idp-rsa", "x");
        let status = log_in(&house, &token).await;
        assert_eq!(u64::from(status), case["status"].as_u64().unwrap(), "{name}");
        assert_eq!(house.app.seen().len(), usize::from(status == 200), "{name}");
        let (config, published) = match fetched(&issuer.config("")).await {
            Ok(fetched) => fetched,
            Err(error) => {
                assert_eq!(Some(error.as_str()), case["error"].as_str(), "{name}");
                continue;
            }
        };
        if case["complaints"].is_array() {
            let expected: Vec<String> =
                texts(&case["complaints"]).iter().map(|why| format!("the JWK Set: {why}")).collect();
            assert_eq!(published.complaints, expected, "{name}");
        }
        let token = UntrustedIdToken::parse(&token).unwrap();
        let token = UntrustedToken::IdToken { token, state: None, beside: Beside::default() };
        let captured = Captured { provider: Arc::clone(&config.providers[0].provider), token };
        let verdict = verify::verify(&captured, &published.keys, &Origin::Watched(Vec::new()), NOW);
        match case["refusal"].as_str() {
            None => assert!(verdict.is_ok(), "{name}: {verdict:?}"),
            Some(expected) => {
                let refused = verdict.unwrap_err().fault.to_string();
                assert!(refused.starts_with(expected), "{name}: {refused}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn log10_a_key_that_is_rotated_just_after_a_fetch_is_found_at_once() {
    let issuer = Issuer::start().await;
    let house = House::open(&issuer.config(""), &here(), NOW).await;
    assert_eq!(log_in(&house, &issuer.token("idp-rsa", "before")).await, 200);
    let jwks = oidc::jwks(&[oidc::jwk(&key("idp-rsa-next"), "idp-rsa-next").unwrap()]);
    issuer.publish_keys(&jwks.to_string());
    let rotated = issuer.token("idp-rsa-next", "after");
    assert_eq!(log_in(&house, &rotated).await, 200, "the fetch at the start was a moment ago");
}

#[tokio::test(flavor = "multi_thread")]
async fn log2_every_address_can_be_set_by_hand() {
    let issuer = Issuer::start().await;
    issuer.publish("text/html", "<!doctype html><title>No such page</title>");
    let more = format!("jwks_url = \"{0}/keys\"\nauthorization_endpoint = \"{0}/authorize\"", issuer.origin());
    let house = House::open(&issuer.config(&more), &here(), NOW).await;
    assert_eq!(log_in(&house, &issuer.token("idp-rsa", "x")).await, 200);

    let ours = |more: &str| {
        let config = issuer.config(more).replace("\"oidc-form-post\"", "\"relying-party\"");
        config.replace("callback = \"/callback\"\nbinding = \"observe\"", "client_auth = \"none\"")
    };
    let origin = issuer.origin();
    let by_hand = format!(
        "jwks_url = \"{origin}/keys\"\nauthorization_endpoint = \"{origin}/a\"\ntoken_endpoint = \"{origin}/t\"\n\
         userinfo_endpoint = \"{origin}/u\"\nrevocation_endpoint = \"{origin}/r\"\nend_session_endpoint = \"{origin}/e\""
    );
    let (_, published) = fetched(&ours(&by_hand)).await.unwrap();
    let offered = published.offered;
    let addresses = [offered.authorization, offered.token, offered.userinfo, offered.revocation, offered.end_session];
    assert_eq!(addresses.map(Option::unwrap), ["a", "t", "u", "r", "e"].map(|path| format!("{origin}/{path}")));
}
