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
        Self::with("").await
    }

    /// With further keys at the top.
    async fn with(top: &str) -> Self {
        let idp = Idp::start().await;
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("test.toml");
        let text = CONFIG.replace("ISSUER", &idp.issuer()).replace("[app]", &format!("{top}\n[app]"));
        let house = House::open(&text, &file, NOW).await;
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

    async fn post_page(&self, path: &str, cookies: &str) -> Answer {
        let headers = [("content-type", "application/x-www-form-urlencoded"), ("cookie", cookies)];
        self.house.send("POST", path, &headers, b"a=b").await
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
        format!("sid =other; sid=abc; {session}"),
        format!("sid=abc; \"sid\"=other; {session}"),
        format!("sid; sid=abc; {session}"),
        format!("a=1,sid=other; sid=abc; {session}"),
        format!("SID=abc; {session}"),
        format!("__Host-sid=other; sid=abc; {session}"),
        format!("sid=abc; __secure-sid=other; {session}"),
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

/// Finding OUT6: an app that renews the value of its own cookie.
#[tokio::test]
async fn out6_a_session_whose_app_renews_its_cookie_is_unbound_and_says_so() {
    let log = crate::deployments::Log::listen();
    let scene = Scene::open().await;
    let (.., answer) = scene.log_in(1).await;
    let session = ours(&answer).unwrap().split(';').next().unwrap().to_owned();
    let with = |sid: &str| format!("sid={sid}; {session}");
    // The same value again renews nothing.
    scene.post_page("/page", &with("abc")).await;
    assert_eq!(scene.user(&with("abc")).await.as_deref(), Some("alice"));
    scene.house.app.sets(200, "sid=def; Path=/");
    let answer = scene.post_page("/page", &with("abc")).await;
    assert!(followed(&answer).is_none());
    assert_eq!(scene.user(&with("def")).await, None);
    scene.post_page("/page", &with("def")).await;
    let lines = log.lines("WARN", "the app renewed its session cookie");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0]["message"].as_str().unwrap().contains("`app_session_renewal = \"follow\"`"));
    assert_eq!(lines[0]["cookie"], "sid");
    let metrics = scene.house.fetch(&format!("http://{}/metrics", scene.house.running.admin)).await;
    assert!(metrics.contains("loginsync_sessions_unbound_total 1"), "{metrics}");
}

/// Finding OUT6: where the operator says so the session goes on under the new value, but never where another person may come in.
#[tokio::test]
async fn out6_a_session_follows_the_apps_cookie_where_the_operator_says_so() {
    let scene = Scene::with("app_session_renewal = \"follow\"").await;
    let (.., answer) = scene.log_in(1).await;
    let session = ours(&answer).unwrap().split(';').next().unwrap().to_owned();
    let (.., other) = scene.log_in(2).await;
    let other = ours(&other).unwrap().split(';').next().unwrap().to_owned();
    let mut followed_by = String::new();
    for (before, after) in [("abc", "d1"), ("d1", "d2"), ("d2", "d3")] {
        scene.house.app.sets(200, &format!("sid={after}; Path=/"));
        let answer = scene.post_page("/page", &format!("sid={before}; {session}{followed_by}")).await;
        let line = followed(&answer).unwrap();
        assert!(line.ends_with("; Path=/; Secure; HttpOnly; SameSite=None"), "{line}");
        followed_by = format!("; {}", line.split(';').next().unwrap());
        let cookies = format!("sid={after}; {session}{followed_by}");
        assert_eq!(scene.user(&cookies).await.as_deref(), Some("alice"), "{after}");
        assert_eq!(scene.user(&format!("sid={after}; {session}")).await, None, "without what says so");
        assert_eq!(scene.user(&format!("sid={after}; {other}{followed_by}")).await, None, "of another session");
        assert_eq!(scene.user(&format!("sid=eve; {session}{followed_by}")).await, None, "another value");
        // What is followed already is not told again.
        assert!(followed(&scene.post_page("/page", &cookies).await).is_none());
    }
    // The app logs another person in, by itself.
    scene.house.app.sets(200, "sid=eve; Path=/");
    for path in ["/bye", "/BYE/", "/callback"] {
        let answer = scene.post_page(path, &format!("sid=d3; {session}{followed_by}")).await;
        assert_eq!(answer.status, 200, "{path}");
        assert!(followed(&answer).is_none(), "{path}");
    }
    assert_eq!(scene.user(&format!("sid=eve; {session}{followed_by}")).await, None);
    // A stranger's request has nothing to follow.
    assert!(followed(&scene.post_page("/page", "sid=d3").await).is_none());
}

fn followed(answer: &Answer) -> Option<String> {
    let lines = answer.headers.get_all("set-cookie").iter().map(|line| line.to_str().unwrap());
    lines.into_iter().find(|line| line.starts_with("__Host-loginsync-f=")).map(str::to_owned)
}
