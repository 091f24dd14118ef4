//! Hosts, paths and cookies of real deployments: several hosts behind one gateway, an app below a path, our pages elsewhere.

use serde_json::json;

use crate::front_door::Answer;
use crate::relying_party::{Browser, Scene, Setting, location};

fn cookie(answer: &Answer) -> String {
    let lines = answer.headers.get_all("set-cookie").iter().map(|line| line.to_str().unwrap());
    lines.into_iter().find(|line| line.contains("loginsync-s=")).unwrap_or_default().to_owned()
}

/// Leaves by a sign-in address and comes back.
async fn log_in_by(browser: &mut Browser<'_>, sign_in: &str, callback: &str) -> Answer {
    let left = browser.leave_by(sign_in).await;
    let token = browser.scene.token(&left.query["nonce"], |_| {});
    browser.scene.tokens(&token);
    browser.get(&format!("{callback}?code=c-1&state={}", left.query["state"])).await
}

#[tokio::test]
async fn say05_the_session_cookie_goes_with_the_sites_that_are_said() {
    for (session, attribute, status) in [
        ("", "SameSite=Lax", 303),
        ("same_site = \"none\"", "SameSite=None", 303),
        ("same_site = \"strict\"", "SameSite=Strict", 200),
    ] {
        let scene = Scene::open(Setting { session, ..Setting::default() }).await;
        let mut browser = scene.browser();
        let entered = browser.log_in(|_| {}).await;
        let set = cookie(&entered);
        assert!(set.starts_with("__Host-loginsync-s=") && set.ends_with(attribute), "{set}");
        assert!(set.contains("; Secure; HttpOnly;") && !set.contains("Domain"), "{set}");
        assert_eq!(entered.status, status, "{session}");
        if status == 200 {
            // What follows from a page of ours is our own site's: a redirect would go on as the provider's.
            assert!(entered.body.contains("https://app.example/page"), "{}", entered.body);
        }
        assert_eq!(browser.groups().await.as_deref(), Some("Staff"));
        browser.send("POST", "/.loginsync/sign-out", &[("origin", "https://app.example")], b"").await;
        assert!(browser.cookies.keys().all(|name| !name.ends_with("loginsync-s")), "{:?}", browser.cookies);
    }
}

const SEVERAL: Setting = Setting {
    base: "",
    top: "",
    listen: "trusted_proxies = [\"127.0.0.1\"]",
    session: "cookie_domain = \"app.example\"",
    provider: "",
    more: "[forward_auth]\ngateway = \"traefik\"\nhosts = [\"wiki.app.example\", \"ci.app.example\"]",
};

/// One login serves every host that is named, and returns to no other.
#[tokio::test]
async fn say05_one_login_serves_several_hosts() {
    let scene = Scene::open(SEVERAL).await;
    let mut browser = scene.browser();
    let ask = |host: &'static str| {
        [
            ("x-forwarded-host", host),
            ("x-forwarded-uri", "/a?b"),
            ("x-forwarded-method", "GET"),
            ("accept", "text/html"),
        ]
    };
    let no = browser.send("GET", "/.loginsync/auth", &ask("Wiki.app.example:443"), b"").await;
    let sign_in = location(&no);
    assert_eq!(sign_in, "https://app.example/.loginsync/sign-in?rd=https%3A%2F%2Fwiki.app.example%2Fa%3Fb");
    let own = browser.send("GET", "/.loginsync/auth", &ask("app.example"), b"").await;
    assert_eq!(location(&own), "https://app.example/.loginsync/sign-in?rd=%2Fa%3Fb");

    let entered =
        log_in_by(&mut browser, sign_in.strip_prefix("https://app.example").unwrap(), "/.loginsync/callback").await;
    assert_eq!(location(&entered), "https://wiki.app.example/a?b");
    let set = cookie(&entered);
    assert!(set.starts_with("__Secure-loginsync-s=") && set.contains("; Path=/; Domain=app.example;"), "{set}");
    // What binds a login to its browser stays with the one host.
    assert!(entered.headers.get_all("set-cookie").iter().all(|line| {
        let line = line.to_str().unwrap();
        line.contains("__Secure-loginsync-s") || (line.starts_with("__Host-") && !line.contains("Domain"))
    }));
    for host in ["wiki.app.example", "ci.app.example", "app.example"] {
        let yes = browser.send("GET", "/.loginsync/auth", &ask(host), b"").await;
        assert_eq!((yes.status, yes.headers["x-loginsync-user"].to_str().unwrap()), (200, "alice"), "{host}");
    }
    for host in ["evil.example", "other.app.example", "wiki.app.example.evil.example", "wiki.app.example:8443", ""] {
        let answer = browser.send("GET", "/.loginsync/auth", &ask(host), b"").await;
        assert_eq!((answer.status, answer.headers.get("x-loginsync-user")), (400, None), "{host}");
    }
    let unsaid = browser.send("GET", "/.loginsync/auth", &[("x-forwarded-uri", "/a")], b"").await;
    let twice = [("x-forwarded-host", "wiki.app.example"), ("x-forwarded-host", "ci.app.example")];
    let twice = browser.send("GET", "/.loginsync/auth", &twice, b"").await;
    assert_eq!((unsaid.status, twice.status), (400, 400));

    // The app gets none of it, and cannot set it.
    let heard = browser.heard("/page").await.unwrap();
    assert!(heard.get("cookie").is_none_or(|line| !line.to_str().unwrap().contains("loginsync")), "{heard:?}");
    for (rd, onward) in [
        ("https://ci.app.example/x", "https://ci.app.example/x"),
        ("https://evil.example/x", "https://app.example/start"),
        ("https://other.app.example/x", "https://app.example/start"),
        ("https://ci.app.example/.loginsync/sign-out", "https://app.example/start"),
    ] {
        let answer = browser.get(&format!("/.loginsync/sign-in?rd={rd}")).await;
        assert_eq!(location(&answer), onward, "{rd}");
    }
    // The session goes by its own name alone, and with its domain.
    let id = browser.cookies.remove("__Secure-loginsync-s").unwrap();
    browser.cookies.insert("__Host-loginsync-s".into(), id.clone());
    assert_eq!(browser.send("GET", "/.loginsync/auth", &ask("ci.app.example"), b"").await.status, 303);
    browser.cookies.clear();
    browser.cookies.insert("__Secure-loginsync-s".into(), id);
    let out = browser.send("POST", "/.loginsync/sign-out", &[("origin", "https://app.example")], b"").await;
    assert!(cookie(&out).contains("Domain=app.example; Max-Age=0"), "{out:?}");
}

/// What one host opens or closes by a path is so at that host alone, however the path is spelt.
#[tokio::test]
async fn say05_paths_may_be_open_at_one_host_alone() {
    let more = "[forward_auth]\ngateway = \"caddy\"\nhosts = [\"wiki.app.example\", \"ci.app.example\"]\n\
                [[path]]\nprefix = \"/docs\"\nhosts = [\"wiki.app.example\"]\naccess = \"public\"\n\
                [[path]]\nprefix = \"/docs\"\nhosts = [\"ci.app.example\"]\nmethods = [\"OPTIONS\"]\naccess = \"public\"\n\
                [[path]]\nprefix = \"/public/keys\"\nhosts = [\"app.example\"]\naccess = \"api\"";
    let scene = Scene::open(Setting { more, ..SEVERAL }).await;
    let mut browser = scene.browser();
    for (host, method, uri, status) in [
        ("wiki.app.example", "GET", "/docs/a", 200),
        ("WIKI.app.example:443", "GET", "/docs/a", 200),
        ("wiki.app.example", "GET", "/DOCS/a", 303),
        ("wiki.app.example", "GET", "/docs/../a", 303),
        ("wiki.app.example", "POST", "/docs/a", 200),
        ("app.example", "GET", "/docs/a", 303),
        ("ci.app.example", "GET", "/docs/a", 303),
        ("ci.app.example", "OPTIONS", "/docs/a", 200),
        ("ci.app.example", "POST", "/docs/a", 401),
        ("app.example", "OPTIONS", "/docs/a", 401),
        ("other.app.example", "GET", "/docs/a", 400),
        ("app.example", "GET", "/public/keys", 401),
        ("wiki.app.example", "GET", "/public/keys", 200),
        ("ci.app.example", "GET", "/public/a", 200),
    ] {
        let asked = [
            ("x-forwarded-host", host),
            ("x-forwarded-uri", uri),
            ("x-forwarded-method", method),
            ("accept", "text/html"),
        ];
        let answer = browser.send("GET", "/.loginsync/auth", &asked, b"").await;
        assert_eq!(answer.status, status, "{method} {host}{uri}");
    }
    // What goes through is the app's own, whatever host the request says.
    for (host, uri, status) in [
        ("app.example", "/docs/a", 303),
        ("wiki.app.example", "/docs/a", 303),
        ("app.example", "/public/keys", 401),
        ("wiki.app.example", "/public/keys", 401),
        ("app.example", "/public/a", 200),
    ] {
        let answer = browser.send("GET", uri, &[("host", host), ("accept", "text/html")], b"").await;
        assert_eq!(answer.status, status, "{host}{uri}");
    }
}

/// Envoy's question has the host of the request itself.
#[tokio::test]
async fn say05_envoy_says_the_host_by_its_question() {
    let more = "[forward_auth]\ngateway = \"envoy\"\nhosts = [\"wiki.app.example\"]";
    let scene = Scene::open(Setting { more, ..SEVERAL }).await;
    for (host, status, address) in [
        ("wiki.app.example", 303, "https://app.example/.loginsync/sign-in?rd=https%3A%2F%2Fwiki.app.example%2Fa"),
        ("app.example", 303, "https://app.example/.loginsync/sign-in?rd=%2Fa"),
        ("evil.example", 400, ""),
    ] {
        let headers = [("host", host), ("accept", "text/html")];
        let answer = scene.browser().send("GET", "/.loginsync/auth/a", &headers, b"").await;
        assert_eq!((answer.status, location(&answer).as_str()), (status, address), "{host}");
    }
}

/// A gateway offers the app below a path, and takes that away.
#[tokio::test]
async fn say05_an_app_may_lie_below_a_path_of_its_host() {
    let more = "[assertion]\n[forward_auth]\ngateway = \"traefik\"";
    let scene = Scene::open(Setting { base: "/app", listen: SEVERAL.listen, more, ..Setting::default() }).await;
    let mut browser = scene.browser();
    let first = browser.get("/page").await;
    assert_eq!(location(&first), "https://app.example/app/.loginsync/sign-in?rd=%2Fapp%2Fpage");
    let left = browser.leave_by("/.loginsync/sign-in?rd=%2Fapp%2Fpage").await;
    assert_eq!(left.query["redirect_uri"], "https://app.example/app/.loginsync/callback");
    let token = scene.token(&left.query["nonce"], |claims| claims["email"] = json!(null));
    scene.tokens(&token);
    let entered = browser.get(&format!("/.loginsync/callback?code=c-1&state={}", left.query["state"])).await;
    assert_eq!(location(&entered), "https://app.example/app/page");
    for (rd, onward) in [
        ("/app/x", "https://app.example/app/x"),
        ("/other", "https://app.example/app/start"),
        ("/application", "https://app.example/app/start"),
        ("/app/../other", "https://app.example/app/start"),
        ("/app/.loginsync/sign-out", "https://app.example/app/start"),
    ] {
        assert_eq!(location(&browser.get(&format!("/.loginsync/sign-in?rd={rd}")).await), onward, "{rd}");
    }
    // A gateway asks about addresses as browsers have them; rules speak of paths as the app has them.
    let mut stranger = scene.browser();
    for (uri, status) in [("/app/public/a.css", 200), ("/app/page", 303), ("/public/a.css", 303), ("/app", 303)] {
        let headers = [("x-forwarded-uri", uri), ("x-forwarded-method", "GET"), ("accept", "text/html")];
        assert_eq!(stranger.send("GET", "/.loginsync/auth", &headers, b"").await.status, status, "{uri}");
    }
    let heard = browser.heard("/page").await.unwrap();
    let payload = heard["x-loginsync-assertion"].to_str().unwrap().split('.').nth(1).unwrap();
    use base64::Engine as _;
    let payload = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).unwrap();
    let claims: serde_json::Value = serde_json::from_slice(&payload).unwrap();
    assert_eq!(
        (&claims["iss"], &claims["aud"]),
        (&json!("https://app.example/app"), &json!("https://app.example/app"))
    );
    let out = browser.send("POST", "/.loginsync/sign-out", &[("origin", "https://app.example")], b"").await;
    assert!([200, 303].contains(&out.status), "{out:?}");
}

/// Our pages lie where the operator says, in every spelling, and nowhere else.
#[tokio::test]
async fn say05_our_pages_may_lie_elsewhere() {
    let top = "own_path = \"/app/_auth/\"";
    let more = "[assertion]\n[forward_auth]\ngateway = \"traefik\"";
    let scene = Scene::open(Setting { top, more, listen: SEVERAL.listen, ..Setting::default() }).await;
    let mut browser = scene.browser();
    let first = browser.get("/app/page").await;
    assert_eq!(location(&first), "https://app.example/app/_auth/sign-in?rd=%2Fapp%2Fpage");
    let entered = log_in_by(&mut browser, "/app/_auth/sign-in?rd=%2Fapp%2Fpage", "/app/_auth/callback").await;
    assert_eq!(location(&entered), "https://app.example/app/page");
    assert_eq!(browser.get("/app/_auth/jwks.json").await.status, 200);
    let headers = [("x-forwarded-uri", "/a"), ("x-forwarded-method", "GET")];
    assert_eq!(browser.send("GET", "/app/_auth/auth", &headers, b"").await.status, 200);
    for ours in ["/app/_auth/x", "/app/_AUTH/sign-in", "/app//_auth/sign-in", "/app/%5fauth/sign-in", "/app/_auth"] {
        let before = scene.house.app.seen().len();
        let answer = browser.get(ours).await;
        assert_eq!((answer.status, scene.house.app.seen().len()), (404, before), "{ours}");
    }
    for apps in ["/.loginsync/sign-in", "/.loginsync/callback?code=c&state=s", "/app/_authors", "/_auth/sign-in"] {
        let before = scene.house.app.seen().len();
        browser.get(apps).await;
        assert_eq!(scene.house.app.seen().len(), before + 1, "{apps} is the app's");
    }
    let answer = browser.get("/app/_auth/sign-in?rd=/app/_auth/sign-out").await;
    assert_eq!(location(&answer), "https://app.example/start");
}
