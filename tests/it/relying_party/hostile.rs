//! What a stranger, another browser or a hostile link can send to our own pages.

use serde_json::json;

use super::{Left, Scene, Setting, location, session_cookie};
use crate::support::idp::Scripted;

/// Threats 38 to 41, and the checks of the token behind the code.
#[tokio::test]
async fn an_answer_that_is_not_to_this_request_logs_nobody_in() {
    let scene = Scene::open(Setting::default()).await;
    type Query = fn(&Left) -> String;
    let good: Query = |left| format!("code=c-1&state={}", left.query["state"]);
    type Change = fn(&mut serde_json::Value);
    let nothing: Change = |_| {};
    let cases: [(&str, Query, Change, u16); 20] = [
        ("no state", |_| "code=c-1".into(), nothing, 400),
        ("an empty state", |_| "code=c-1&state=".into(), nothing, 400),
        ("another state", |_| "code=c-1&state=AAAA".into(), nothing, 403),
        ("state twice", |left| format!("code=c-1&state={0}&state={0}", left.query["state"]), nothing, 400),
        ("code twice", |left| format!("code=c-1&code=c-2&state={}", left.query["state"]), nothing, 400),
        ("no code", |left| format!("state={}", left.query["state"]), nothing, 400),
        ("an empty code", |left| format!("code=&state={}", left.query["state"]), nothing, 400),
        ("a code of 5 KiB", |left| format!("code={}&state={}", "c".repeat(5000), left.query["state"]), nothing, 400),
        ("a denial", |left| format!("error=access_denied&state={}", left.query["state"]), nothing, 403),
        ("a denial beside a code", |left| format!("error=x&code=c-1&state={}", left.query["state"]), nothing, 403),
        (
            "another issuer",
            |left| format!("code=c-1&iss=https://x.example&state={}", left.query["state"]),
            nothing,
            400,
        ),
        ("an ID token instead", |left| format!("id_token=x&state={}", left.query["state"]), nothing, 400),
        ("another nonce", good, |claims| claims["nonce"] = json!("x"), 403),
        ("no nonce", good, |claims| claims["nonce"] = json!(null), 403),
        ("another client's token", good, |claims| claims["aud"] = json!("other"), 403),
        ("another issuer's token", good, |claims| claims["iss"] = json!("https://x.example"), 403),
        ("an expired token", good, |claims| claims["exp"] = json!(1), 403),
        ("a token of tomorrow", good, |claims| claims["iat"] = json!(9_999_999_999_u64), 403),
        ("a person of no name", good, |claims| claims["sub"] = json!(" "), 403),
        (
            "a logout token",
            good,
            |claims| claims["events"] = json!({"http://schemas.openid.net/event/backchannel-logout": {}}),
            403,
        ),
    ];
    for (name, query, change, status) in cases {
        let mut browser = scene.browser();
        let left = browser.leave("/page").await;
        scene.tokens(&scene.token(&left.query["nonce"], change));
        let answer = browser.get(&format!("/.loginsync/callback?{}", query(&left))).await;
        assert_eq!(answer.status, status, "{name}: {}", answer.body);
        assert_eq!(session_cookie(&answer), None, "{name}");
        assert!(!scene.has_users().await, "{name}");
        assert_eq!(browser.groups().await, None, "{name}");
    }
}

#[tokio::test]
async fn an_answer_counts_once_and_in_the_browser_that_asked() {
    let scene = Scene::open(Setting::default()).await;
    let mut browser = scene.browser();
    let left = browser.leave("/page").await;
    let callback = format!("/.loginsync/callback?code=c-1&state={}", left.query["state"]);
    scene.tokens(&scene.token(&left.query["nonce"], |_| {}));

    let mut other = scene.browser();
    other.leave("/page").await;
    let refused = other.get(&callback).await;
    assert_eq!((refused.status, session_cookie(&refused)), (403, None), "another browser's state");
    assert!(scene.idp.asked("/token").is_empty(), "its code was not even looked at");

    // Threats 34 to 37: what was touched, cut or moved opens to nothing.
    let (name, value) = browser.cookies.iter().next().map(|(name, value)| (name.clone(), value.clone())).unwrap();
    let flipped = format!("{}{}", if value.starts_with('A') { "B" } else { "A" }, &value[1..]);
    for (name, value) in [
        (name.clone(), flipped),
        (name.clone(), value[..value.len() / 2].to_owned()),
        (name.trim_start_matches("__Host-").to_owned(), value.clone()),
        (format!("{name}x"), value.clone()),
        (name.replace("-p-", "-b-"), value.clone()),
        (name.clone(), "99999999".into()),
        (name.clone(), String::new()),
    ] {
        let mut mallory = scene.browser();
        mallory.cookies.insert(name.clone(), value);
        assert_eq!(mallory.get(&callback).await.status, 403, "{name}");
    }
    let mut late = scene.browser();
    late.cookies = browser.cookies.clone();
    scene.later(15 * 60);
    assert_eq!(late.get(&callback).await.status, 403, "too late");
    scene.later(-15 * 60);
    assert!(!scene.has_users().await);

    let again = browser.cookies.clone();
    assert_eq!(browser.get(&callback).await.status, 303);
    browser.cookies.remove("__Host-loginsync-s").unwrap();
    assert_eq!(browser.get(&callback).await.status, 403, "the cookie is spent");
    // With the cookie kept: the provider refuses the code, or gives the same token, which is spent.
    let mut kept = scene.browser();
    kept.cookies = again;
    let replayed = kept.get(&callback).await;
    assert_eq!((replayed.status, session_cookie(&replayed)), (409, None));
}

#[tokio::test]
async fn a_token_endpoint_that_misbehaves_logs_nobody_in() {
    let scene = Scene::open(Setting::default()).await;
    for (name, answer, status) in [
        ("refuses the code", Scripted::of(400, "application/json", r#"{"error":"invalid_grant"}"#), 403),
        ("refuses the client", Scripted::of(401, "application/json", r#"{"error":"invalid_client"}"#), 503),
        ("fails", Scripted::of(500, "text/html", "<h1>oops</h1>"), 503),
        (
            "redirects",
            Scripted { headers: vec![("location", "/else".into())], ..Scripted::of(302, "text/plain", "") },
            503,
        ),
        ("gives no JSON", Scripted::json("oops"), 503),
        ("gives no ID token", Scripted::json(r#"{"access_token":"x"}"#), 503),
        ("gives an ID token of another type", Scripted::json(r#"{"id_token":["x"]}"#), 503),
        ("gives what is no token", Scripted::json(r#"{"id_token":"a.b.c"}"#), 400),
        ("never ends", Scripted::json(vec![b' '; 3 << 20]), 503),
    ] {
        let mut browser = scene.browser();
        let left = browser.leave("/page").await;
        scene.idp.answers("/token", answer);
        let answer = browser.get(&format!("/.loginsync/callback?code=c-1&state={}", left.query["state"])).await;
        assert_eq!((answer.status, session_cookie(&answer)), (status, None), "{name}: {}", answer.body);
        assert!(!answer.body.contains("oops"), "{name}");
        assert!(!scene.has_users().await, "{name}");
    }
}

/// Threats 27 to 30, with no configuration that could widen them.
#[tokio::test]
async fn nobody_is_sent_off_the_own_origin() {
    let scene = Scene::open(Setting::default()).await;
    let targets = [
        "https://evil.example/",
        "//evil.example",
        "///evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "/\\/evil.example",
        "/\t/evil.example",
        "/\n/evil.example",
        " //evil.example",
        "/ /evil.example",
        "https:evil.example",
        "https:/evil.example",
        "http://app.example/",
        "https://app.example.evil.example/",
        "https://evil-app.example/",
        "https://app.example@evil.example/",
        "https://app.example:444/",
        "https://app.example\\@evil.example",
        "javascript:alert(1)",
        "data:text/html,x",
        "evil.example",
        "@evil.example",
        ".evil.example",
        "/.//evil.example",
        "/..//evil.example",
        "/x/../..//evil.example",
        "/%2e%2e//evil.example",
        "/.loginsync/sign-out",
        "/.LOGINSYNC/sign-in",
        "/%2eloginsync/../.loginsync/sign-in",
        "//",
        "/\u{2028}/evil.example",
        "https://app.example//evil.example",
        "https://app.example/\\evil.example",
        "",
        "?",
        "#",
    ];
    for target in targets {
        let mut browser = scene.browser();
        let rd: String = form_urlencoded::byte_serialize(target.as_bytes()).collect();
        let left = browser.leave_by(&format!("/.loginsync/sign-in?rd={rd}")).await;
        assert!(!left.address.contains("evil"), "{target}: {}", left.address);
        scene.tokens(&scene.token(&left.query["nonce"], |_| {}));
        let back = browser.get(&format!("/.loginsync/callback?code=c-1&state={}", left.query["state"])).await;
        assert_eq!((back.status, location(&back).as_str()), (303, "https://app.example/start"), "{target:?}");
        let onward = browser.get(&format!("/.loginsync/sign-in?rd={rd}")).await;
        assert_eq!(location(&onward), "https://app.example/start", "{target:?} with a session");
    }
    let long = format!("/.loginsync/sign-in?rd=/{}", "x".repeat(6000));
    assert!(scene.browser().get(&long).await.status == 303, "what is too long to be remembered is left out");
    let twice = scene.browser().get("/.loginsync/sign-in?rd=/a&rd=/b").await;
    assert_eq!(twice.status, 400);
}

#[tokio::test]
async fn our_pages_are_never_the_apps_however_they_are_spelt() {
    let scene = Scene::open(Setting::default()).await;
    let mut browser = scene.browser();
    browser.log_in(|_| {}).await;
    let reached = scene.house.app.seen().len();
    for path in [
        "/.loginsync",
        "/.loginsync/",
        "/.loginsync/nothing",
        "/.LOGINSYNC/sign-in",
        "//.loginsync/sign-in",
        "/.loginsync//sign-in",
        "/.loginsync%2fsign-in",
        "/%2eloginsync/sign-in",
        "/.loginsync/sign-in/",
        "/.loginsync/auth",
        "/.loginsync/sign-in;x",
        "/.loginsync\\sign-in",
        "/.loginsync/metadata",
    ] {
        assert_eq!(browser.get(path).await.status, 404, "{path}");
    }
    for (method, path) in [
        ("POST", "sign-in"),
        ("POST", "callback"),
        ("PUT", "acs"),
        ("GET", "backchannel-logout"),
        ("DELETE", "sign-out"),
    ] {
        let answer = browser.send(method, &format!("/.loginsync/{path}"), &[], b"").await;
        assert_eq!(answer.status, 405, "{method} {path}");
        assert!(answer.headers.contains_key("allow"));
    }
    assert_eq!(scene.house.app.seen().len(), reached);
    // Threat 39: nothing that is missing, empty or absurd breaks anything.
    for query in ["", "?", "?state", "?state=&code=&error=&iss=", "?%", "?state=%ff", "?=", "?;;&&"] {
        let answer = scene.browser().get(&format!("/.loginsync/callback{query}")).await;
        assert!(answer.status == 400 || answer.status == 403, "{query}: {}", answer.status);
    }
    assert!(browser.groups().await.is_some(), "and the session is as it was");
}

/// Threats 34 to 37 for the cookie of a session.
#[tokio::test]
async fn a_session_cookie_is_whole_or_means_nothing() {
    let scene = Scene::open(Setting::default()).await;
    let mut browser = scene.browser();
    browser.log_in(|_| {}).await;
    let id = browser.cookies["__Host-loginsync-s"].clone();
    let flipped = format!("{}{}", if id.starts_with('A') { "B" } else { "A" }, &id[1..]);
    let long = format!("{id}{}", "A".repeat(2000));
    for cookie in [
        format!("__Host-loginsync-s={flipped}"),
        format!("__Host-loginsync-s={}", &id[..42]),
        format!("__Host-loginsync-s={long}"),
        format!("loginsync-s={id}"),
        format!("__Secure-loginsync-s={id}"),
        format!("__host-loginsync-s={id}"),
        format!("__Host-loginsync-s={id}; __Host-loginsync-s={flipped}"),
        format!("__Host-loginsync-s={flipped}; __Host-loginsync-s={id}"),
        format!("__Host-loginsync-b-x={id}"),
        "__Host-loginsync-s".to_owned(),
        "__Host-loginsync-s=".to_owned(),
        format!("__Host-loginsync-s={}", "A".repeat(60_000)),
    ] {
        let headers = [("accept", "application/json"), ("cookie", cookie.as_str())];
        let answer = scene.house.send("GET", "/page", &headers, b"").await;
        let shown: String = cookie.chars().take(80).collect();
        assert!(answer.status == 401 || answer.status == 431, "{shown}: {}", answer.status);
    }
    // A row of the database does not open the door: it holds a digest alone.
    let path = scene.house.folder.path().join("store.db");
    let connection = rusqlite::Connection::open(path).unwrap();
    let key: Vec<u8> = connection.query_row("SELECT key FROM sessions", [], |row| row.get(0)).unwrap();
    use base64::Engine as _;
    let key = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(key);
    let headers = [("cookie", format!("__Host-loginsync-s={key}"))];
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_eq!(scene.house.send("GET", "/page", &headers, b"").await.status, 401);
    assert!(browser.groups().await.is_some());
}
