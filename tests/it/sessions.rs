//! `identity = "session"` and `logout_paths`: sessions beside the app's own, in the modes that watch.

use std::path::Path;

use loginsync::cli::demo::mint::{KeyKind, MintKey, oidc};
use serde_json::{Value, json};

use crate::front_door::{Answer, House};
use crate::kit::NOW;
use crate::support::idp::Idp;

const CONFIG: &str = r#"
public_url = "https://app.example"
identity = "session"
app_session_cookie = "sid"
logout_paths = ["/bye", "/slo"]

[app]
url = "http://127.0.0.1:1"
start_page = "/start"

[[provider]]
name = "idp"
mode = "oidc-form-post"
issuer = "ISSUER"
client_id = "the-app"
callback = "/callback"
jwks_url = "ISSUER/jwks"
authorization_endpoint = "ISSUER/authorize"
algorithms = ["EdDSA"]

[provider.claims.groups]

[[group]]
name = "Staff"

[[mapping]]
provider = "idp"
claim = "groups"
value = "staff"
group = "Staff"
"#;

struct Scene {
    idp: Idp,
    house: House,
}

impl Scene {
    async fn open() -> Self {
        let idp = Idp::start().await;
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("test.toml");
        let house = House::open(&CONFIG.replace("ISSUER", &idp.issuer()), &file, NOW).await;
        house.app.sets(302, "sid=abc; Path=/; HttpOnly");
        Self { idp, house }
    }

    /// A login through the app: the form, the cookies that it needs, and the answer.
    async fn log_in(&self, number: u32) -> (String, String, Answer) {
        let address = format!("{}/authorize?client_id=the-app&state=s{number}&nonce=n{number}", self.idp.issuer());
        let cookies = self.house.leave(&address).await;
        assert!(!cookies.is_empty(), "the provider's address is known");
        let now = NOW.seconds();
        let token = self.idp.sign(&json!({
            "iss": self.idp.issuer(), "aud": "the-app", "sub": "alice", "iat": now, "exp": now + 300,
            "nonce": format!("n{number}"), "sid": "session-1", "groups": ["staff"],
        }));
        let form = format!("id_token={token}&state=s{number}");
        let answer = self.post(&form, &cookies).await;
        (form, cookies, answer)
    }

    async fn post(&self, form: &str, cookies: &str) -> Answer {
        let headers =
            [("content-type", "application/x-www-form-urlencoded"), ("cookie", cookies), ("accept", "text/html")];
        self.house.send("POST", "/callback", &headers, form.as_bytes()).await
    }

    /// The user that the app hears of.
    async fn user(&self, cookies: &str) -> Option<String> {
        let before = self.house.app.seen().len();
        self.house.send("GET", "/page", &[("cookie", cookies)], b"").await;
        let seen = self.house.app.seen()[before].clone();
        let cookies = seen.headers.get("cookie").map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
        assert!(!cookies.contains("loginsync"), "{cookies}");
        seen.headers.get("x-loginsync-user").map(|value| value.to_str().unwrap().to_owned())
    }

    async fn post_logout(&self, path: &str, body: &str) -> Answer {
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        self.house.send("POST", path, &headers, body.as_bytes()).await
    }
}

fn ours(answer: &Answer) -> Option<String> {
    let lines = answer.headers.get_all("set-cookie").iter().map(|line| line.to_str().unwrap());
    lines.into_iter().find(|line| line.starts_with("__Host-loginsync-s=")).map(str::to_owned)
}

#[tokio::test]
async fn identity_goes_with_the_apps_own_session_and_without_it_nowhere() {
    let scene = Scene::open().await;
    let (.., answer) = scene.log_in(1).await;
    assert_eq!(answer.status, 302, "the app's own answer");
    let line = ours(&answer).unwrap();
    assert!(line.ends_with("; Path=/; Secure; HttpOnly; SameSite=None"), "{line}");
    let session = line.split(';').next().unwrap();
    assert_eq!(scene.user(&format!("sid=abc; {session}")).await.as_deref(), Some("alice"));
    assert_eq!(scene.user(&format!("{session}; other=1; sid=abc")).await.as_deref(), Some("alice"));
    for cookies in [
        session.to_owned(),
        format!("sid=other; {session}"),
        format!("sid=abc; sid=other; {session}"),
        format!("SID=abc; {session}"),
        format!("sid=; {session}"),
        "sid=abc".to_owned(),
    ] {
        assert_eq!(scene.user(&cookies).await, None, "{cookies}");
    }
}

#[tokio::test]
async fn without_a_session_of_the_apps_none_of_ours_begins() {
    for (status, cookie) in [(302, "other=1"), (200, "sid=; Max-Age=0"), (403, "sid=abc"), (500, "sid=abc")] {
        let scene = Scene::open().await;
        scene.house.app.sets(status, cookie);
        let (.., answer) = scene.log_in(1).await;
        assert_eq!((answer.status, ours(&answer)), (status, None), "{status} {cookie}");
    }
}

/// A browser that comes back with its own login is sent on; any other that brings it is refused.
#[tokio::test]
async fn a_login_that_comes_back_to_its_own_browser_goes_to_the_start_page() {
    let scene = Scene::open().await;
    let (form, cookies, answer) = scene.log_in(1).await;
    let session = ours(&answer).unwrap().split(';').next().unwrap().to_owned();
    let again = scene.post(&form, &format!("{cookies}; sid=abc; {session}")).await;
    assert_eq!((again.status, again.headers["location"].to_str().unwrap()), (303, "/start"));
    assert_eq!(scene.post(&form, &cookies).await.status, 409, "another browser");
    let (.., other) = scene.log_in(2).await;
    let session = ours(&other).unwrap().split(';').next().unwrap().to_owned();
    assert_eq!(scene.post(&form, &format!("{cookies}; {session}")).await.status, 409, "the session of another login");
    let posts = scene.house.app.seen().into_iter().filter(|seen| seen.method == "POST").count();
    assert_eq!(posts, 2, "a replay is never forwarded");
}

#[tokio::test]
async fn a_logout_at_the_apps_own_address_ends_ours_too_if_it_is_believed() {
    let scene = Scene::open().await;
    let (.., answer) = scene.log_in(1).await;
    let cookies = format!("sid=abc; {}", ours(&answer).unwrap().split(';').next().unwrap());
    let now = NOW.seconds();
    let claims = json!({
        "iss": scene.idp.issuer(), "aud": "the-app", "iat": now, "exp": now + 60, "jti": "l-1", "sid": "session-1",
        "events": {"http://schemas.openid.net/event/backchannel-logout": {}},
    });
    let header = json!({"alg": "EdDSA", "kid": "k", "typ": "logout+jwt"});
    let sign = |key: &MintKey, claims: &Value| oidc::id_token(key, "EdDSA", &header, claims).unwrap();
    let mut other = claims.clone();
    other["aud"] = json!("another");
    let stranger = MintKey::generate(KeyKind::Ed25519).unwrap();
    let bad = [sign(&stranger, &claims), sign(&scene.idp.key, &other), "x".into()];
    for token in &bad {
        let body = format!("x=1&logout_token={token}");
        assert_eq!(scene.post_logout("/bye", &body).await.status, 302, "the app answers");
        assert_eq!(scene.house.app.seen().pop().unwrap().body, body.as_bytes(), "byte for byte");
        assert_eq!(scene.user(&cookies).await.as_deref(), Some("alice"), "nothing ended");
    }
    let good = format!("logout_token={}", sign(&scene.idp.key, &claims));
    scene.post_logout("/elsewhere", &good).await;
    assert_eq!(scene.user(&cookies).await.as_deref(), Some("alice"), "at another path it is the app's business alone");
    assert_eq!(scene.post_logout("/BYE/", &good).await.status, 302, "however the path is spelt");
    assert_eq!(scene.house.app.seen().pop().unwrap().body, good.as_bytes());
    assert_eq!(scene.user(&cookies).await, None);
    // A logout address is no way around the callback.
    for body in [
        "id_token=eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.AAAA",
        "SAMLResponse=PHNhbWxwOlJlc3BvbnNlPjxzYW1sOkFzc2VydGlvbi8%2BPC9zYW1scDpSZXNwb25zZT4%3D",
    ] {
        assert_eq!(scene.post_logout("/bye", body).await.status, 403, "{body}");
    }
}
