//! Sign-out here, and the provider's logout.

use serde_json::{Value, json};

use super::{Scene, Setting};
use crate::front_door::Answer;

const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";

pub fn logout_token(scene: &Scene, typ: &str, change: impl FnOnce(&mut Value)) -> String {
    let now = scene.house.clock.now().seconds();
    let mut claims = json!({
        "iss": scene.idp.issuer(), "aud": "the app", "iat": now, "exp": now + 120, "jti": format!("logout-{now}"),
        "events": {EVENT: {}}, "sub": "alice", "sid": "session-1",
    });
    change(&mut claims);
    if let Some(claims) = claims.as_object_mut() {
        claims.retain(|_, value| !value.is_null());
    }
    let header = json!({"alg": "EdDSA", "kid": "k", "typ": typ});
    loginsync::cli::demo::mint::oidc::id_token(&scene.idp.key, "EdDSA", &header, &claims).unwrap()
}

pub async fn send(scene: &Scene, token: &str) -> Answer {
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    let body = format!("logout_token={token}");
    scene.house.send("POST", "/.loginsync/backchannel-logout", &headers, body.as_bytes()).await
}

/// Threats 33 and 42.
#[tokio::test]
async fn out02_signing_out_ends_the_session_here_and_then_at_the_provider() {
    let scene = Scene::open(Setting::default()).await;
    let mut browser = scene.browser();
    browser.log_in(|_| {}).await;
    let old = browser.cookies.clone();
    let page = browser.get("/.loginsync/sign-out").await;
    assert!(page.status == 200 && page.body.contains("<form method=\"post\">"), "{}", page.body);
    let policy = page.headers["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.contains("form-action 'self'"), "{policy}");
    assert_eq!(page.headers["referrer-policy"], "same-origin", "else browsers say `Origin: null`, which is refused");
    assert!(browser.groups().await.is_some(), "asking ends nothing");
    for origin in ["https://evil.example", "null", "http://app.example"] {
        let refused = browser.send("POST", "/.loginsync/sign-out", &[("origin", origin)], b"").await;
        assert_eq!(refused.status, 400, "{origin}");
    }
    for site in ["cross-site", "same-site", "none"] {
        let headers = [("sec-fetch-site", site), ("origin", super::ORIGIN)];
        assert_eq!(browser.send("POST", "/.loginsync/sign-out", &headers, b"").await.status, 400, "{site}");
    }
    assert!(browser.groups().await.is_some());

    // Finding OUT1: browsers that say where a form comes from need no origin beside it.
    let headers = [("sec-fetch-site", "same-origin"), ("origin", "null")];
    let away = browser.send("POST", "/.loginsync/sign-out", &headers, b"").await;
    // Finding OUT2: a redirect here would be held to the form's policy, and so would all that follow it.
    assert_eq!(away.status, 200, "{}", away.body);
    let onward = onward(&away);
    let url = url::Url::parse(&onward).unwrap();
    assert!(onward.starts_with(&format!("{}/logout?", scene.idp.issuer())), "{onward}");
    let query: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    assert_eq!(query[0], ("client_id".into(), "the app".into()));
    assert_eq!(query[1].1, "https://app.example/.loginsync/signed-out");
    assert!(browser.cookies.is_empty());
    assert_eq!(browser.groups().await, None);
    browser.cookies = old;
    assert_eq!(browser.groups().await, None, "the old cookie is refused at once");
    assert!(scene.house.memberships().await.contains("Staff"), "memberships stay");
    assert_eq!(browser.get("/.loginsync/signed-out").await.status, 200);
    assert_eq!(browser.post("/.loginsync/sign-out", "").await.status, 303, "twice does no harm");
}

/// OUT3: the provider is told whose session ends, by the ID token that it began with, and in the words that it knows.
#[tokio::test]
async fn out03_a_sign_out_brings_the_hint_to_where_the_operator_says() {
    let cognito = "end_session_endpoint = \"https://login.example/logout?x=1\"\nend_session_return = \"logout_uri\"";
    for (provider, begins, way_back) in
        [("", None, "post_logout_redirect_uri"), (cognito, Some("https://login.example/logout?x=1&"), "logout_uri")]
    {
        let scene = Scene::open(Setting { provider, ..Setting::default() }).await;
        for (size, is_kept) in [(0, true), (9000, false)] {
            let mut browser = scene.browser();
            let left = browser.leave("/page").await;
            let token = scene.token(&left.query["nonce"], |claims| claims["picture"] = json!("x".repeat(size)));
            scene.tokens(&token);
            let callback = format!("/.loginsync/callback?code=c-1&state={}", left.query["state"]);
            assert_eq!(browser.get(&callback).await.status, 303);
            let away = browser.send("POST", "/.loginsync/sign-out", &[("sec-fetch-site", "same-origin")], b"").await;
            let onward = onward(&away);
            assert!(begins.is_none_or(|begins| onward.starts_with(begins)), "{onward}");
            let query: std::collections::BTreeMap<String, String> =
                url::Url::parse(&onward).unwrap().query_pairs().into_owned().collect();
            assert_eq!(query["client_id"], "the app");
            assert_eq!(query[way_back], "https://app.example/.loginsync/signed-out");
            assert_eq!(query.get("id_token_hint"), is_kept.then_some(&token), "{size}");
            let stored = std::fs::read(scene.house.folder.path().join("store.db-wal")).unwrap();
            let signature = token.rsplit('.').next().unwrap().as_bytes();
            assert!(!stored.windows(signature.len()).any(|bytes| bytes == signature), "it is sealed");
        }
    }
}

/// Where a page of ours sends the browser by itself.
fn onward(page: &Answer) -> String {
    let (_, rest) =
        page.body.split_once("<meta http-equiv=\"refresh\" content=\"0; url=").expect("a page that leads on");
    let address = rest.split('"').next().unwrap().replace("&#38;", "&").replace("&amp;", "&");
    assert!(page.body.contains("Go on</a>"), "{}", page.body);
    address
}

#[tokio::test]
async fn out1_a_form_without_metadata_is_judged_by_its_origin() {
    let scene = Scene::open(Setting::default()).await;
    let mut browser = scene.browser();
    browser.log_in(|_| {}).await;
    let away = browser.send("POST", "/.loginsync/sign-out", &[("origin", super::ORIGIN)], b"").await;
    assert_eq!(away.status, 200, "{}", away.body);
    assert_eq!(browser.groups().await, None);
}

#[tokio::test]
async fn a_provider_ends_sessions_by_a_logout_token() {
    for (name, typ, change) in [
        ("sid and sub", "logout+jwt", (|_| {}) as fn(&mut Value)),
        ("sid alone", "JWT", |claims| claims["sub"] = Value::Null),
        ("sub alone", "logout+jwt", |claims| claims["sid"] = Value::Null),
        ("for several audiences", "logout+jwt", |claims| claims["aud"] = json!(["the app", "other"])),
        ("without exp, as drafts had it", "logout+jwt", |claims| claims["exp"] = Value::Null),
    ] {
        let scene = Scene::open(Setting::default()).await;
        let (mut browser, mut other) = (scene.browser(), scene.browser());
        browser.log_in(|_| {}).await;
        other.log_in(|claims| (claims["sid"], claims["sub"]) = (json!("session-2"), json!("bob"))).await;
        let token = logout_token(&scene, typ, change);
        let answer = send(&scene, &token).await;
        assert_eq!((answer.status, answer.headers["cache-control"].to_str().unwrap()), (200, "no-store"), "{name}");
        assert_eq!(browser.groups().await, None, "{name}");
        assert!(other.groups().await.is_some(), "{name}: another's session stays");
        browser.log_in(|_| {}).await;
        let again = send(&scene, &token).await;
        assert_eq!((again.status, again.headers["cache-control"].to_str().unwrap()), (400, "no-store"), "{name}");
        assert!(browser.groups().await.is_some(), "{name}: a replay ends nothing");
    }
}

/// OUT9.
#[tokio::test]
async fn out09_a_logout_with_a_sid_ends_sessions_whose_token_had_none() {
    let scene = Scene::open(Setting::default()).await;
    let (mut browser, mut elsewhere, mut other) = (scene.browser(), scene.browser(), scene.browser());
    let without_sid = |subject: &'static str| {
        move |claims: &mut Value| {
            claims["sub"] = json!(subject);
            claims.as_object_mut().unwrap().remove("sid");
        }
    };
    browser.log_in(without_sid("alice")).await;
    elsewhere.log_in(|claims| claims["sid"] = json!("session-2")).await;
    other.log_in(without_sid("bob")).await;
    let token = logout_token(&scene, "logout+jwt", |_| {});
    assert_eq!(send(&scene, &token).await.status, 200);
    assert_eq!(browser.groups().await, None, "which of the provider's sessions it is of is not known");
    assert!(elsewhere.groups().await.is_some(), "another session of the same person");
    assert!(other.groups().await.is_some(), "another person");
}

#[tokio::test]
async fn a_logout_token_that_is_not_believed_ends_nothing() {
    let scene = Scene::open(Setting::default()).await;
    let mut browser = scene.browser();
    browser.log_in(|_| {}).await;
    type Change = fn(&mut Value);
    let cases: [(&str, &str, Change); 14] = [
        ("of another client", "logout+jwt", |claims| claims["aud"] = json!("other")),
        ("of another issuer", "logout+jwt", |claims| claims["iss"] = json!("https://x.example")),
        ("with a nonce", "logout+jwt", |claims| claims["nonce"] = json!("n")),
        ("without events", "logout+jwt", |claims| claims["events"] = Value::Null),
        ("of another event", "logout+jwt", |claims| claims["events"] = json!({"https://x.example/event": {}})),
        ("with an event that is no object", "logout+jwt", |claims| claims["events"] = json!({EVENT: true})),
        ("of nobody", "logout+jwt", |claims| (claims["sub"], claims["sid"]) = (Value::Null, Value::Null)),
        ("with an empty sid", "logout+jwt", |claims| claims["sid"] = json!("")),
        ("with a sub that is a list", "logout+jwt", |claims| claims["sub"] = json!(["alice"])),
        ("without iat", "logout+jwt", |claims| claims["iat"] = Value::Null),
        ("long ago", "logout+jwt", |claims| claims["iat"] = json!(claims["iat"].as_i64().unwrap() - 3600)),
        ("of tomorrow", "logout+jwt", |claims| claims["iat"] = json!(claims["iat"].as_i64().unwrap() + 3600)),
        ("expired", "logout+jwt", |claims| claims["exp"] = json!(claims["iat"].as_i64().unwrap() - 600)),
        ("of another type", "at+jwt", |_| {}),
    ];
    for (name, typ, change) in cases {
        let answer = send(&scene, &logout_token(&scene, typ, change)).await;
        assert_eq!((answer.status, answer.headers["cache-control"].to_str().unwrap()), (400, "no-store"), "{name}");
        assert!(browser.groups().await.is_some(), "{name}");
    }
    let token = logout_token(&scene, "logout+jwt", |_| {});
    let stranger = loginsync::cli::demo::mint::MintKey::generate(loginsync::cli::demo::mint::KeyKind::Ed25519).unwrap();
    let forged = loginsync::cli::demo::mint::oidc::id_token(
        &stranger,
        "EdDSA",
        &json!({"alg": "EdDSA", "kid": "k"}),
        &json!({"iss": scene.idp.issuer(), "aud": "the app", "sub": "alice"}),
    );
    let id_token = scene.token("n", |claims| {
        claims.as_object_mut().unwrap().remove("nonce");
    });
    for (name, body) in [
        ("forged", format!("logout_token={}", forged.unwrap())),
        ("an ID token", format!("logout_token={id_token}")),
        ("cut", format!("logout_token={}", &token[..token.len() - 3])),
        ("twice", format!("logout_token={token}&logout_token={token}")),
        ("empty", "logout_token=".to_owned()),
        ("missing", "x=y".to_owned()),
        ("a text", "hello".to_owned()),
    ] {
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        let answer = scene.house.send("POST", "/.loginsync/backchannel-logout", &headers, body.as_bytes()).await;
        assert_eq!(answer.status, 400, "{name}");
        assert!(browser.groups().await.is_some(), "{name}");
    }
    let headers = [("content-type", "application/json")];
    let body = format!("logout_token={token}");
    assert_eq!(scene.house.send("POST", "/.loginsync/backchannel-logout", &headers, body.as_bytes()).await.status, 400);
    assert_eq!(send(&scene, &token).await.status, 200, "and the good one does");
    assert_eq!(browser.groups().await, None);
}

/// SAY7: OpenID Connect Front-Channel Logout 1.0. The browser brings no cookie of ours there, and nothing is signed.
#[tokio::test]
async fn say07_a_provider_ends_sessions_by_the_front_channel() {
    const SID: &str = "d5a3c1f0-4b1e-4c57-9a0e-8d1d0c3f2b6a";
    let setting = Setting { provider: "frontchannel_logout = true", ..Setting::default() };
    let scene = Scene::open(setting).await;
    let (mut alice, mut other, mut short) = (scene.browser(), scene.browser(), scene.browser());
    alice.log_in(|claims| claims["sid"] = json!(SID)).await;
    other.log_in(|claims| claims["sid"] = json!("b".repeat(36))).await;
    short.log_in(|claims| claims["sid"] = json!("7")).await;
    let issuer: String = form_urlencoded::byte_serialize(scene.idp.issuer().as_bytes()).collect();
    let stranger = async |query: &str| scene.browser().get(&format!("/.loginsync/frontchannel-logout{query}")).await;
    for (query, status) in [
        ("".to_owned(), 400),
        (format!("?iss={issuer}"), 400),
        (format!("?iss={issuer}&sid=7"), 400),
        (format!("?iss={issuer}&sid={}", "x".repeat(600)), 400),
        (format!("?sid={SID}&sid={SID}"), 400),
        (format!("?iss=https%3A%2F%2Fother.example&sid={SID}"), 404),
        (format!("?iss={issuer}&sid={}", "c".repeat(36)), 200),
    ] {
        assert_eq!(stranger(&query).await.status, status, "{query}");
    }
    assert!(alice.groups().await.is_some() && other.groups().await.is_some() && short.groups().await.is_some());
    for query in [format!("?iss={issuer}&sid={SID}"), format!("?sid={SID}")] {
        let answer = stranger(&query).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, ""));
        let policy = answer.headers["content-security-policy"].to_str().unwrap();
        assert!(policy.contains("frame-ancestors *") && policy.contains("default-src 'none'"), "{policy}");
        assert_eq!(answer.headers["cache-control"], "no-store");
        assert_eq!(alice.groups().await, None);
    }
    assert!(other.groups().await.is_some() && short.groups().await.is_some());
    assert!(scene.house.memberships().await.contains("Staff"), "memberships stay");
    let mut refused = 0;
    for _ in 0..80 {
        refused += usize::from(stranger("?sid=0123456789abcdef").await.status == 503);
    }
    assert!((20..=40).contains(&refused), "{refused} of 80 within a second of a clock that stands still");
}

/// SAY7: where the operator does not ask for it there is no such page.
#[tokio::test]
async fn say07_the_front_channel_is_closed_by_default() {
    let scene = Scene::open(Setting::default()).await;
    let mut alice = scene.browser();
    alice.log_in(|claims| claims["sid"] = json!("d5a3c1f0-4b1e-4c57-9a0e-8d1d0c3f2b6a")).await;
    let query = "?sid=d5a3c1f0-4b1e-4c57-9a0e-8d1d0c3f2b6a";
    assert_eq!(scene.browser().get(&format!("/.loginsync/frontchannel-logout{query}")).await.status, 404);
    assert!(alice.groups().await.is_some());
}
