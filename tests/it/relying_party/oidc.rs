//! The code flow, sessions and which paths need one.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use loginsync::ports::store::Act;

use super::{Browser, Idp, Scene, Setting, challenge_of, location, session_cookie, user};
use crate::deployments::Log;
use crate::kit::NOW;

#[tokio::test]
async fn a_person_signs_in_by_code_and_the_app_hears_who() {
    let scene = Scene::open(Setting::default()).await;
    let mut browser = scene.browser();
    let left = browser.leave("/reports?year=1&x=%2f").await;
    assert!(left.address.starts_with(&format!("{}/authorize?", scene.idp.issuer())), "{}", left.address);
    for (name, value) in [
        ("response_type", "code"),
        ("client_id", "the app"),
        ("redirect_uri", "https://app.example/.loginsync/callback"),
        ("scope", "openid profile email"),
        ("code_challenge_method", "S256"),
    ] {
        assert_eq!(left.query[name], value, "{name}");
    }
    assert!(left.query["state"].len() >= 43 && left.query["nonce"].len() >= 43);
    assert_eq!(browser.cookies.len(), 1, "what it left with: {:?}", browser.cookies.keys());

    scene.tokens(&scene.token(&left.query["nonce"], |_| {}));
    let back = browser.get(&format!("/.loginsync/callback?code=c%2b1&state={}", left.query["state"])).await;
    assert_eq!((back.status, location(&back).as_str()), (303, "https://app.example/reports?year=1&x=%2f"));
    let cookie = session_cookie(&back).unwrap();
    assert!(cookie.ends_with("; Path=/; Secure; HttpOnly; SameSite=Lax"), "{cookie}");
    assert_eq!(browser.cookies.keys().collect::<Vec<_>>(), ["__Host-loginsync-s"], "what it left with is spent");

    let asked = scene.idp.asked("/token");
    let form: BTreeMap<String, String> = form_urlencoded::parse(&asked[0].body).into_owned().collect();
    assert_eq!((form["grant_type"].as_str(), form["code"].as_str()), ("authorization_code", "c+1"));
    assert_eq!(form["redirect_uri"], "https://app.example/.loginsync/callback");
    assert_eq!(challenge_of(&form["code_verifier"]), left.query["code_challenge"]);
    // RFC 6749 section 2.3.1: both halves are form-encoded.
    assert_eq!(asked[0].header("authorization"), format!("Basic {}", STANDARD.encode("the+app:s3cr%3At")));
    assert!(!form.contains_key("client_secret"));

    let forged = [("x-loginsync-groups", "Board"), ("x_loginsync_user", "mallory"), ("accept", "text/html")];
    browser.send("GET", "/reports?year=1", &forged, b"").await;
    let seen = scene.house.app.seen().pop().unwrap();
    assert_eq!(seen.target, "/reports?year=1");
    for (name, value) in [
        ("x-loginsync-user", "alice"),
        ("x-loginsync-groups", "Staff"),
        ("x-loginsync-roles", "editor"),
        ("x-loginsync-email", "alice@example.com"),
    ] {
        assert_eq!(seen.headers.get_all(name).iter().collect::<Vec<_>>(), [value], "{name}");
    }
    assert!(!seen.headers.contains_key("cookie"), "our cookies are not the app's: {:?}", seen.headers);
    assert_eq!(scene.house.events().await.len(), 1, "a login, and nothing for its use");
}

#[tokio::test]
async fn out12_a_client_authenticates_as_it_is_told() {
    let key = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/keys/idp-rsa.key.test-only.pem");
    let private = Box::leak(
        format!("client_auth = \"private-key-jwt\"\nclient_key_file = \"{key}\"\nclient_key_id = \"k1\"")
            .into_boxed_str(),
    );
    let of_endpoint = Box::leak(format!("{private}\nclient_assertion_audience = \"token-endpoint\"").into_boxed_str());
    for (auth, secret, expected) in [
        ("client_auth = \"post\"", true, "client_secret"),
        ("client_auth = \"none\"", false, "client_id"),
        (&*private, false, "client_assertion"),
        (&*of_endpoint, false, "client_assertion"),
    ] {
        let idp = Idp::start().await;
        let mut setting = Setting { provider: auth, ..Setting::default() };
        setting.top = if secret { "" } else { "# without a secret" };
        let scene = super::Scene::with_secret(idp, setting, secret).await;
        let mut browser = scene.browser();
        assert_eq!(browser.log_in(|_| {}).await.status, 303, "{auth}");
        let asked = scene.idp.asked("/token");
        let form: BTreeMap<String, String> = form_urlencoded::parse(&asked[0].body).into_owned().collect();
        assert!(form.contains_key(expected) && asked[0].header("authorization").is_empty(), "{auth}: {form:?}");
        assert_eq!(form["client_id"], "the app");
        if let Some(assertion) = form.get("client_assertion") {
            let payload = assertion.split('.').nth(1).unwrap();
            let payload = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).unwrap();
            let payload: serde_json::Value = serde_json::from_slice(&payload).unwrap();
            // OUT12.
            let place = if auth == &*of_endpoint { "/token" } else { "" };
            assert_eq!(payload["aud"], format!("{}{place}", scene.idp.issuer()));
            assert_eq!((&payload["iss"], &payload["sub"]), (&"the app".into(), &"the app".into()));
        }
    }
}

#[tokio::test]
async fn paths_are_open_closed_or_for_programs() {
    let scene = Scene::open(Setting::default()).await;
    let mut browser = scene.browser();
    for open in ["/public", "/public/a.css"] {
        assert_eq!(browser.get(open).await.status, 200, "{open}");
    }
    let reached = scene.house.app.seen().len();
    for (method, path, headers, status) in [
        ("GET", "/page", &[("accept", "text/html")][..], 303),
        ("HEAD", "/page", &[("accept", "text/html")], 303),
        ("GET", "/", &[("accept", "text/html")], 303),
        ("GET", "/page", &[("accept", "application/json")], 401),
        ("GET", "/page", &[("accept", "text/html"), ("sec-fetch-mode", "cors")], 401),
        ("GET", "/page", &[], 401),
        ("POST", "/page", &[("accept", "text/html")], 401),
        ("OPTIONS", "/page", &[], 401),
        ("GET", "/api/items", &[("accept", "text/html")], 401),
        ("DELETE", "/api/items", &[], 401),
        ("GET", "/PUBLIC/a", &[], 401),
        ("GET", "/public/%2e%2e/page", &[], 400),
        ("GET", "//public/a", &[], 401),
        ("GET", "/page?x=/public", &[], 401),
        ("GET", "/page%23/public", &[], 401),
        // Threats 15 and 16: what other gates let through.
        ("GET", "/page", &[("paos", "ver=\"urn:liberty:paos:2003-08\""), ("accept", "application/vnd.paos+xml")], 401),
        ("GET", "/page", &[("user-agent", "GoogleHC/1.0")], 401),
        ("GET", "/page", &[("x-forwarded-uri", "/public"), ("x-original-url", "/public")], 401),
        ("GET", "/page", &[("authorization", "Bearer anything")], 401),
        ("GET", "/page?access_token=anything", &[], 401),
    ] {
        let answer = scene.house.send(method, path, headers, b"").await;
        assert_eq!(answer.status, status, "{method} {path} {headers:?}");
        if status == 401 {
            assert_eq!(answer.headers["www-authenticate"], "Cookie realm=\"loginsync\"");
            assert!(method == "HEAD" || answer.headers["cache-control"] == "no-store");
        }
    }
    assert_eq!(scene.house.app.seen().len(), reached, "nothing of that reached the app");
    browser.log_in(|_| {}).await;
    for path in ["/page", "/api/items", "/public/a"] {
        assert_eq!(browser.heard(path).await.unwrap()["x-loginsync-user"], "alice", "{path}");
    }
}

/// Threat 49: what is read of a session is as old as the configuration says, and no older.
#[tokio::test]
async fn a_session_shows_what_its_user_holds_now() {
    let scene = Scene::open(Setting { session: "idle = \"10m\"\nabsolute = \"1h\"", ..Setting::default() }).await;
    let mut browser = scene.browser();
    browser.log_in(|claims| claims["groups"] = serde_json::json!(["staff", "board"])).await;
    assert_eq!(browser.groups().await.as_deref(), Some("Board,Staff"));
    let deny = Act::Deny {
        target: loginsync::pipeline::ids::Target::Group(loginsync::pipeline::ids::GroupName::parse("Board").unwrap()),
        reason: "left".into(),
        until: None,
    };
    scene.house.store().act(user("alice"), deny, "test".into(), NOW).await.unwrap();
    scene.later(1);
    assert_eq!(browser.groups().await.as_deref(), Some("Staff"), "a second later");

    for _ in 0..5 {
        scene.later(540);
        assert!(browser.groups().await.is_some(), "it is in use");
    }
    let kept = browser.cookies.clone();
    scene.later(601);
    assert_eq!(browser.groups().await, None, "it lay idle");
    browser.log_in(|_| {}).await;
    assert_ne!(browser.cookies, kept);
    for _ in 0..6 {
        scene.later(595);
        assert!(browser.groups().await.is_some());
    }
    scene.later(40);
    assert_eq!(browser.groups().await, None, "no use makes it older than it may get");

    browser.log_in(|_| {}).await;
    scene.house.store().act(user("alice"), Act::Disable, "test".into(), NOW).await.unwrap();
    scene.later(1);
    assert_eq!(browser.groups().await, None, "the user is disabled");
    let refused = browser.log_in(|_| {}).await;
    assert_eq!((refused.status, session_cookie(&refused)), (403, None));
}

#[tokio::test]
async fn no_cache_keeps_what_the_app_made_for_one_person() {
    let scene = Scene::open(Setting::default()).await;
    let mut browser = scene.browser();
    let caching =
        |answer: &super::Answer| answer.headers.get("cache-control").map(|value| value.to_str().unwrap().to_owned());
    browser.log_in(|_| {}).await;
    assert_eq!(caching(&browser.get("/page").await).as_deref(), Some("private"));
    assert_eq!(caching(&browser.get("/silent").await).as_deref(), Some("private"), "an empty field says nothing");
    assert_eq!(caching(&browser.get("/public").await).as_deref(), Some("public, max-age=60"), "the app's own word");
}

/// Threats 32 and 33.
#[tokio::test]
async fn every_login_begins_a_session_of_its_own() {
    let scene = Scene::open(Setting::default()).await;
    let mut browser = scene.browser();
    let planted = "A".repeat(43);
    browser.cookies.insert("__Host-loginsync-s".into(), planted.clone());
    browser.log_in(|_| {}).await;
    let first = browser.cookies["__Host-loginsync-s"].clone();
    assert_ne!(first, planted);
    let mut mallory = scene.browser();
    mallory.cookies.insert("__Host-loginsync-s".into(), planted);
    assert_eq!(mallory.groups().await, None, "what was planted means nothing");

    // A live session needs no sign-in page; it goes straight on.
    let onward = browser.get("/.loginsync/sign-in?rd=/page").await;
    assert_eq!((onward.status, location(&onward).as_str()), (303, "https://app.example/page"));
    // Another login begins in this browser: a fresh id, and the one before is dead.
    let mut elsewhere = scene.browser();
    let left = elsewhere.leave("/page").await;
    elsewhere.cookies.insert("__Host-loginsync-s".into(), first.clone());
    scene.tokens(&scene.token(&left.query["nonce"], |_| {}));
    elsewhere.get(&format!("/.loginsync/callback?code=c-2&state={}", left.query["state"])).await;
    assert_ne!(elsewhere.cookies["__Host-loginsync-s"], first);
    assert!(elsewhere.groups().await.is_some());
    mallory.cookies.insert("__Host-loginsync-s".into(), first);
    assert_eq!(mallory.groups().await, None, "the one before is dead");
    let ids: std::collections::BTreeSet<&String> = [&elsewhere.cookies["__Host-loginsync-s"]].into();
    assert!(ids.iter().all(|id| id.len() == 43));
}

#[tokio::test]
async fn of_several_providers_a_person_chooses() {
    let more = r#"
[[provider]]
name = "other & co"
mode = "relying-party"
issuer = "http://127.0.0.1:1"
client_id = "x"
client_auth = "none"
"#;
    let scene = Scene::open(Setting { more, ..Setting::default() }).await;
    let mut browser = scene.browser();
    let page = browser.get("/.loginsync/sign-in?rd=/page").await;
    assert_eq!(page.status, 200);
    assert!(page.body.contains(">Example Corp</a>") && page.body.contains(">other &#38; co</a>"), "{}", page.body);
    assert!(page.headers["content-security-policy"].to_str().unwrap().contains("default-src 'none'"));
    let left = browser.leave_by("/.loginsync/sign-in?provider=idp&rd=/page").await;
    assert!(left.address.starts_with(&scene.idp.issuer()));
    let lost = browser.get("/.loginsync/sign-in?provider=other+%26+co").await;
    assert_eq!(lost.status, 503, "a provider that cannot be reached logs nobody in");
    assert_eq!(browser.get("/.loginsync/sign-in?provider=nobody").await.status, 200, "asks again");
}

/// LOG12: a reload of the callback, and the way back to it, lead on where there is a session.
#[tokio::test]
async fn log12_a_reload_of_the_callback_goes_on_to_the_app() {
    let scene = Scene::open(Setting::default()).await;
    let mut browser = scene.browser();
    let left = browser.leave("/page").await;
    scene.tokens(&scene.token(&left.query["nonce"], |_| {}));
    let callback = format!("/.loginsync/callback?code=c-1&state={}", left.query["state"]);
    assert_eq!(browser.get(&callback).await.status, 303);
    let again = browser.get(&callback).await;
    assert_eq!((again.status, location(&again).as_str()), (303, "https://app.example/start"));
    assert_eq!(browser.groups().await.as_deref(), Some("Staff"), "the session goes on");
    let stranger = scene.browser().get(&callback).await;
    assert_eq!(stranger.status, 403);
    assert!(!stranger.body.contains("token-relay"), "advice for another mode: {}", stranger.body);
}

/// Each login that a page of another site could begin, by an image of its own, would take the place of one that waits.
#[tokio::test]
async fn images_of_other_sites_push_out_no_login() {
    let scene = Scene::open(Setting::default()).await;
    let mut browser = scene.browser();
    let left = browser.leave("/page").await;
    let image = [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "image")];
    for at in 0..20 {
        let answer = browser.send("GET", &format!("/.loginsync/sign-in?rd=/{at}"), &image, b"").await;
        assert_eq!((answer.status, answer.headers.contains_key("set-cookie")), (200, false), "a page with a link");
    }
    scene.tokens(&scene.token(&left.query["nonce"], |_| {}));
    let back = browser.get(&format!("/.loginsync/callback?code=c-1&state={}", left.query["state"])).await;
    assert_eq!((back.status, location(&back).as_str()), (303, "https://app.example/page"));
    // A link on it is another matter.
    let link = [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
    let mut other = scene.browser();
    assert_eq!(other.send("GET", "/.loginsync/sign-in?rd=/page", &link, b"").await.status, 303);
}

/// LOG12: a browser that opens twelve tabs at once finishes in any of them.
#[tokio::test]
async fn log12_twelve_tabs_are_remembered() {
    let scene = Scene::open(Setting::default()).await;
    let mut browser = scene.browser();
    let mut tabs = Vec::new();
    for tab in 0..12 {
        tabs.push(browser.leave(&format!("/tab/{tab}")).await);
    }
    let length: usize = browser.cookies.iter().map(|(name, value)| name.len() + value.len() + 3).sum();
    assert!(length < 8000, "{length} bytes of cookies, where nginx takes a line of 8 KiB");
    for (tab, left) in tabs.iter().enumerate() {
        scene.tokens(&scene.token(&left.query["nonce"], |claims| claims["jti"] = tab.into()));
        let back = browser.get(&format!("/.loginsync/callback?code=c-{tab}&state={}", left.query["state"])).await;
        assert_eq!((back.status, location(&back)), (303, format!("https://app.example/tab/{tab}")));
    }
}

/// PRX6: the provider's own words are in the log with its name, and on no page; what they mean is counted.
#[tokio::test]
async fn prx06_the_reason_of_a_provider_is_told() {
    let scene = Scene::open(Setting::default()).await;
    let log = Log::listen();
    for (query, status, level, reason) in [
        (
            "error=access_denied&error_description=AADSTS50105%3A+not+assigned%0Aforged+line",
            403,
            "WARN",
            "the provider logs no person in: `access_denied`: AADSTS50105: not assigned\\u{a}forged line",
        ),
        ("error=server_error", 503, "ERROR", "the provider logs no person in: `server_error`"),
    ] {
        let mut browser = scene.browser();
        let left = browser.leave("/page").await;
        let answer = browser.get(&format!("/.loginsync/callback?{query}&state={}", left.query["state"])).await;
        assert_eq!(answer.status, status, "{query}");
        assert!(!answer.body.contains("AADSTS"), "{}", answer.body);
        let lines = log.lines(level, "logs no person in");
        let line = lines.last().unwrap_or_else(|| panic!("no line of level {level}"));
        assert_eq!((line["provider"].as_str(), line["reason"].as_str()), (Some("idp"), Some(reason)));
    }
    // A token endpoint that repeats the code in its description.
    for (description, told) in [("expired yesterday", ": expired yesterday"), ("the code c-12345678 is unknown", "")] {
        let refusal = serde_json::json!({"error": "invalid_grant", "error_description": description}).to_string();
        scene.idp.answers("/token", super::Scripted::of(400, "application/json", refusal.as_str()));
        let mut browser = scene.browser();
        let left = browser.leave("/page").await;
        let callback = format!("/.loginsync/callback?code=c-12345678&state={}", left.query["state"]);
        assert_eq!(browser.get(&callback).await.status, 403);
        let lines = log.lines("WARN", "invalid_grant");
        let expected = format!("the provider logs no person in: `invalid_grant`{told}");
        assert_eq!(lines.last().unwrap()["reason"].as_str(), Some(expected.as_str()));
    }
    let metrics = scene.house.fetch(&format!("http://{}/metrics", scene.house.running.admin)).await;
    for (outcome, detail, count) in
        [("denied", "access_denied", 1), ("denied", "invalid_grant", 2), ("unavailable", "provider", 1)]
    {
        let line = format!(
            "loginsync_logins_total{{mode=\"relying-party\",provider=\"idp\",outcome=\"{outcome}\",detail=\"{detail}\"}} {count}"
        );
        assert!(metrics.contains(&line), "{line}: {metrics}");
    }
    assert!(scene.house.events().await.is_empty(), "nothing that no signature vouches for is in the audit");
}

/// Finding OUT4: deep links of up to 8 KiB, whose addresses no cookie has to carry.
#[tokio::test]
async fn out4_a_long_address_is_where_a_browser_ends_up() {
    let scene = Scene::open(Setting::default()).await;
    for length in [1400, 1501, 4000, 8000] {
        let page = format!("/reports?filter={}", "x".repeat(length));
        let mut browser = scene.browser();
        let first = browser.get(&page).await;
        assert_eq!(first.status, 303, "{length}");
        let sign_in = location(&first);
        assert!(sign_in.len() < 2000, "{length}: {}", sign_in.len());
        let left = browser.leave_by(sign_in.strip_prefix(super::ORIGIN).unwrap()).await;
        assert!(browser.cookies.values().all(|value| value.len() < 3000), "{length}");
        scene.tokens(&scene.token(&left.query["nonce"], |_| {}));
        let answer = browser.get(&format!("/.loginsync/callback?code=c&state={}", left.query["state"])).await;
        assert_eq!(location(&answer), format!("{}{page}", super::ORIGIN), "{length}");
    }
    // By a link of somebody's own, and through the choice of a provider.
    let rd = format!("/.loginsync/sign-in?rd=%2Freports%3F{}", "y".repeat(5000));
    let mut browser = scene.browser();
    let left = browser.leave_by(&rd).await;
    scene.tokens(&scene.token(&left.query["nonce"], |_| {}));
    let answer = browser.get(&format!("/.loginsync/callback?code=c&state={}", left.query["state"])).await;
    assert_eq!(location(&answer), format!("{}/reports?{}", super::ORIGIN, "y".repeat(5000)));
}

/// Finding OUT4: an address that is not kept is told, on the page and in the log.
#[tokio::test]
async fn out4_an_address_that_is_lost_is_told() {
    let log = crate::deployments::Log::listen();
    let scene = Scene::open(Setting::default()).await;
    let too_long = format!("/reports?filter={}", "x".repeat(9000));
    let mut browser = scene.browser();
    let first = browser.get(&too_long).await;
    let sign_in = location(&first).strip_prefix(super::ORIGIN).unwrap().to_owned();
    // What another process kept, or this one before a restart.
    let unknown = format!("/.loginsync/sign-in?to={}", "A".repeat(43));
    for (what, sign_in) in
        [("too long", sign_in.as_str()), ("unknown", &unknown), ("of no form", "/.loginsync/sign-in?to=x")]
    {
        let mut browser = scene.browser();
        let left = browser.leave_by(sign_in).await;
        assert!(!log.lines("WARN", "the address to return to cannot be kept").is_empty(), "{what}");
        scene.tokens(&scene.token(&left.query["nonce"], |_| {}));
        let answer = browser.get(&format!("/.loginsync/callback?code=c&state={}", left.query["state"])).await;
        assert_eq!(answer.status, 200, "{what}");
        assert!(
            answer.body.contains("You are signed in") && answer.body.contains("could not be kept"),
            "{}",
            answer.body
        );
        assert!(answer.body.contains("https://app.example/start"), "{}", answer.body);
        assert!(super::session_cookie(&answer).is_some(), "{what}: signed in all the same");
        // With a session the same address says so at once.
        assert!(browser.get(sign_in).await.body.contains("could not be kept"), "{what}");
    }
    // What was kept when the browser left, and is not when it comes back.
    let mut browser = scene.browser();
    let left = browser.leave(&format!("/reports?filter={}", "x".repeat(4000))).await;
    let cookies = browser.cookies;
    let scene = scene.restarted().await;
    let mut browser = Browser { scene: &scene, cookies, ..scene.browser() };
    scene.tokens(&scene.token(&left.query["nonce"], |_| {}));
    let answer = browser.get(&format!("/.loginsync/callback?code=c&state={}", left.query["state"])).await;
    assert!(answer.body.contains("could not be kept"), "{}", answer.body);
    assert_eq!(log.lines("WARN", "the address to return to is not known any more").len(), 1);
}
