//! The signed assertion towards the app, verified as an app would: by the published key, with a library of its own.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use loginsync::cli::demo::mint::oidc;
use serde_json::{Value, json};

use crate::front_door::House;
use crate::kit::{NOW, key};

const CONFIG: &str = r#"
public_url = "https://app.example"

[app]
url = "http://127.0.0.1:1"

[headers]
preset = "PRESET"

[assertion]
ASSERTION

[[provider]]
name = "api"
mode = "bearer"
issuer = "https://id.example"
audience = "the-app"
jwks_file = "JWKS"
namespace = "people"

[provider.claims.groups]

[[provider]]
name = "web"
mode = "oidc-form-post"
issuer = "https://id.example"
client_id = "the-app"
callback = "/callback"
binding = "observe"
jwks_file = "JWKS"
namespace = "people"

[provider.claims.groups]

[[role]]
name = "editor"

[[group]]
name = "Marketing, really"
roles = ["editor"]

[[mapping]]
provider = "api"
claim = "groups"
value = "m"
group = "Marketing, really"

[[mapping]]
provider = "web"
claim = "groups"
value = "m"
group = "Marketing, really"
"#;

struct Scene {
    house: House,
    text: String,
    keys: tempfile::TempDir,
}

impl Scene {
    async fn new(assertion: &str, preset: &str) -> Self {
        let keys = tempfile::tempdir().unwrap();
        let jwks = keys.path().join("jwks.json");
        std::fs::write(&jwks, oidc::jwks(&[oidc::jwk(&key("idp-rsa"), "k").unwrap()]).to_string()).unwrap();
        let fixtures = format!("{}/fixtures/keys", env!("CARGO_MANIFEST_DIR"));
        let text = CONFIG
            .replace("JWKS", &jwks.to_string_lossy())
            .replace("PRESET", preset)
            .replace("ASSERTION", &assertion.replace("KEYS", &fixtures));
        let house = House::open(&text, Path::new("assertion.toml"), NOW).await;
        Self { house, text, keys }
    }

    fn token(groups: &[&str]) -> String {
        let now = NOW.seconds();
        let claims = json!({
            "iss": "https://id.example", "aud": "the-app", "sub": "alice", "iat": now, "exp": now + 600,
            "groups": groups, "email": "alice@example.com",
        });
        oidc::id_token(&key("idp-rsa"), "RS256", &json!({"alg": "RS256", "kid": "k"}), &claims).unwrap()
    }

    async fn jwks(&self) -> JwkSet {
        let answer = self.house.send("GET", "/.loginsync/jwks.json", &[], b"").await;
        assert_eq!(
            (answer.status, &answer.headers["content-type"]),
            (200, &"application/jwk-set+json".parse().unwrap())
        );
        assert!(!answer.body.contains("\"d\""), "the public half alone");
        serde_json::from_str(&answer.body).unwrap()
    }

    /// The assertion of the last request, as the app gets it; `None` where it got none.
    fn received(&self) -> Option<String> {
        let seen = self.house.app.seen();
        let mut values = seen.last().unwrap().headers.get_all("x-loginsync-assertion").iter();
        let first = values.next().map(|value| value.to_str().unwrap().to_owned());
        assert!(values.next().is_none(), "one value, ours");
        first
    }

    /// What an app believes of an assertion.
    async fn believed(&self, token: &str, audience: &str) -> Result<Value, String> {
        let header = decode_header(token).unwrap();
        let jwks = self.jwks().await;
        let jwk = jwks.find(header.kid.as_deref().unwrap()).unwrap();
        assert_eq!(jwk.common.key_algorithm.unwrap().to_string(), format!("{:?}", header.alg));
        let mut rules = Validation::new(header.alg);
        rules.set_audience(&[audience]);
        rules.set_issuer(&["https://app.example"]);
        rules.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        // The program's clock stands still in another year.
        rules.validate_exp = false;
        let verified = decode::<Value>(token, &DecodingKey::from_jwk(jwk).unwrap(), &rules);
        verified.map(|token| token.claims).map_err(|error| error.to_string())
    }
}

#[tokio::test]
async fn an_app_can_verify_who_it_is_and_what_they_hold_now() {
    let scene = Scene::new("", "loginsync").await;
    let forged = [
        ("authorization", format!("Bearer {}", Scene::token(&["m"]))),
        ("X-Loginsync-Assertion", "a.b.c".to_owned()),
        ("x_loginsync_assertion", "d.e.f".to_owned()),
    ];
    let forged: Vec<(&str, &str)> = forged.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_eq!(scene.house.send("GET", "/", &forged, b"").await.status, 200);
    assert!(!scene.house.app.seen().last().unwrap().headers.contains_key("x_loginsync_assertion"));
    let token = scene.received().unwrap();
    let now = NOW.seconds();
    let expected = json!({
        "iss": "https://app.example", "aud": "https://app.example", "sub": "alice", "namespace": "people",
        "email": "alice@example.com", "iat": now, "nbf": now, "exp": now + 60,
        "groups": ["Marketing, really"], "roles": ["editor"],
    });
    assert_eq!(scene.believed(&token, "https://app.example").await.unwrap(), expected);
    assert!(scene.believed(&token, "https://other.example").await.is_err(), "for one audience");
    assert_eq!(decode_header(&token).unwrap().alg, Algorithm::ES256);
    let mut parts: Vec<String> = token.split('.').map(str::to_owned).collect();
    parts[1] = URL_SAFE_NO_PAD.encode(expected.to_string().replace("alice", "bob"));
    assert!(scene.believed(&parts.join("."), "https://app.example").await.is_err());

    // A login at the callback says the same; whoever is not known has none, forged or not.
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let body = format!("id_token={}&state=s", Scene::token(&[]));
    assert_eq!(scene.house.send("POST", "/callback", &form, body.as_bytes()).await.status, 200);
    let claims = scene.believed(&scene.received().unwrap(), "https://app.example").await.unwrap();
    assert_eq!(claims["groups"], json!(["Marketing, really"]), "the other provider's grant stays");
    assert_eq!(scene.house.send("GET", "/", &forged[1..], b"").await.status, 200);
    assert_eq!(scene.received(), None);
}

#[tokio::test]
async fn the_key_outlives_the_process_or_is_the_operators() {
    let scene = Scene::new("", "none").await;
    let first = scene.jwks().await;
    let Scene { house, text, keys } = scene;
    let house = house.restart(&text, Path::new("assertion.toml")).await;
    let scene = Scene { house, text, keys };
    assert_eq!(scene.jwks().await, first, "kept in the store");
    let bearer = format!("Bearer {}", Scene::token(&["m"]));
    assert_eq!(scene.house.send("GET", "/", &[("authorization", &bearer)], b"").await.status, 200);
    let headers = &scene.house.app.seen()[0].headers;
    assert!(!headers.contains_key("x-loginsync-user"), "preset none sends no other header");
    assert!(scene.believed(&scene.received().unwrap(), "https://app.example").await.is_ok());

    for (file, algorithm) in [("idp-p256", Algorithm::ES256), ("idp-ed25519", Algorithm::EdDSA)] {
        let assertion =
            format!("audience = \"the app\"\nlifetime = \"30s\"\nkey_file = \"KEYS/{file}.key.test-only.pem\"");
        let scene = Scene::new(&assertion, "loginsync").await;
        assert_ne!(scene.jwks().await, first);
        scene.house.send("GET", "/", &[("authorization", &bearer)], b"").await;
        let token = scene.received().unwrap();
        assert_eq!(decode_header(&token).unwrap().alg, algorithm);
        let claims = scene.believed(&token, "the app").await.unwrap();
        assert_eq!(claims["exp"], json!(NOW.seconds() + 30));
    }
}

#[tokio::test]
async fn only_one_address_publishes_the_key_and_only_if_asked_for() {
    let scene = Scene::new("", "loginsync").await;
    let head = scene.house.send("HEAD", "/.loginsync/jwks.json", &[], b"").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    let before = scene.house.app.seen().len();
    assert_eq!(before, 0, "the app is not asked");
    for (method, path) in [("POST", "/.loginsync/jwks.json"), ("GET", "/.loginsync/jwks.json/x"), ("GET", "/jwks.json")]
    {
        let answer = scene.house.send(method, path, &[], b"").await;
        assert!(!answer.body.contains("keys"), "{method} {path}");
    }
    let without = scene.text.replace("[assertion]", "[guard]");
    let house = House::open(&without, Path::new("assertion.toml"), NOW).await;
    assert_eq!(house.send("GET", "/.loginsync/jwks.json", &[], b"").await.body, "welcome", "the app's own");
    let bearer = format!("Bearer {}", Scene::token(&["m"]));
    house.send("GET", "/", &[("authorization", &bearer)], b"").await;
    assert!(!house.app.seen().last().unwrap().headers.contains_key("x-loginsync-assertion"));
}

#[tokio::test]
async fn an_assertion_that_is_too_long_is_left_out_and_counted() {
    let scene = Scene::new(
        "audience = \"LONG\"".replace("LONG", &"x".repeat(1000)).as_str(),
        "loginsync\"\nmax_bytes = \"1KiB",
    )
    .await;
    let bearer = format!("Bearer {}", Scene::token(&["m"]));
    assert_eq!(scene.house.send("GET", "/", &[("authorization", &bearer)], b"").await.status, 200);
    assert_eq!(scene.received(), None);
    assert!(scene.house.app.seen().last().unwrap().headers.contains_key("x-loginsync-user"));
    let metrics = scene.house.fetch(&format!("http://{}/metrics", scene.house.running.admin)).await;
    assert!(metrics.contains("loginsync_headers_over_budget_total 1\n"), "{metrics}");
}

/// A reload takes effect at the next request: another audience and lifetime, no assertion at all, and one again with the same
/// key.
#[tokio::test]
async fn a_reload_changes_what_is_asserted() {
    let scene = Scene::new("", "loginsync").await;
    let token = format!("Bearer {}", Scene::token(&["staff"]));
    let get = async || scene.house.send("GET", "/", &[("authorization", &token)], b"").await;
    let reload = async |text: &str| {
        let text = text.replace("http://127.0.0.1:1\"", &format!("{}\"", scene.house.app_url));
        std::fs::write(scene.house.folder.path().join("unwatched.toml"), text).unwrap();
        scene.house.running.reload().await;
    };
    get().await;
    let first = scene.received().unwrap();
    let key = decode_header(&first).unwrap().kid;
    let claims = scene.believed(&first, "AUDIENCE").await;
    drop(claims);
    let table = scene.text.find("[assertion]").unwrap();
    let end = table + scene.text[table..].find("\n\n").unwrap();
    let with = |own: &str| format!("{}[assertion]\n{own}{}", &scene.text[..table], &scene.text[end..]);
    reload(&with("audience = \"another app\"\nlifetime = \"90s\"")).await;
    get().await;
    let second = scene.received().unwrap();
    let claims = scene.believed(&second, "another app").await.unwrap();
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 90);
    assert_eq!(decode_header(&second).unwrap().kid, key, "the key is the store's");
    reload(&scene.text.replace(&scene.text[table..end], "")).await;
    get().await;
    assert_eq!(scene.received(), None);
    assert_eq!(scene.house.send("GET", "/.loginsync/jwks.json", &[], b"").await.body, "welcome", "it is the app's now");
    reload(&scene.text).await;
    get().await;
    assert_eq!(decode_header(scene.received().unwrap()).unwrap().kid, key);
}
