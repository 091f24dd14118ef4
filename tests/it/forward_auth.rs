//! What gateways hear, by the contract of each: `docs/gateways.md`.

use serde_json::json;

use crate::relying_party::{Scene, Setting, location};

const NGINX: Setting = of("[forward_auth]\ngateway = \"nginx\"");
const TRAEFIK: Setting = of("[forward_auth]\ngateway = \"traefik\"");
const CADDY: Setting = of("[forward_auth]\ngateway = \"caddy\"\npath = \"/.loginsync/check\"");
const ENVOY: Setting = of("[forward_auth]\ngateway = \"envoy\"");

const fn of(more: &'static str) -> Setting {
    Setting { listen: "trusted_proxies = [\"127.0.0.1\"]", more, top: "", session: "", provider: "" }
}

/// A question as a gateway asks it.
struct Asks {
    path: &'static str,
    headers: &'static [(&'static str, &'static str)],
}

/// Yes is exactly 200, with every identity header there is; no is what the gateway can hand on.
#[tokio::test]
async fn each_gateway_hears_what_its_contract_says() {
    let page: &[(&str, &str)] = &[
        ("x-forwarded-uri", "/reports?year=1"),
        ("x-forwarded-method", "GET"),
        ("accept", "text/html"),
        // What a client sent of itself, and a gateway that forwards everything lets through.
        ("x-loginsync-user", "mallory"),
        ("x-loginsync-groups", "Board"),
    ];
    let program: &[(&str, &str)] =
        &[("x-forwarded-uri", "/reports?year=1"), ("x-forwarded-method", "POST"), ("accept", "text/html")];
    let cases = [
        (NGINX, Asks { path: "/.loginsync/auth", headers: page }, 401, true),
        (NGINX, Asks { path: "/.loginsync/auth", headers: program }, 401, true),
        (TRAEFIK, Asks { path: "/.loginsync/auth", headers: page }, 303, true),
        (TRAEFIK, Asks { path: "/.loginsync/auth", headers: program }, 401, false),
        (CADDY, Asks { path: "/.loginsync/check", headers: page }, 303, true),
        (CADDY, Asks { path: "/.loginsync/check", headers: program }, 401, false),
        (ENVOY, Asks { path: "/.loginsync/auth/reports?year=1", headers: &[("accept", "text/html")] }, 303, true),
        (ENVOY, Asks { path: "/.loginsync/auth/reports?year=1", headers: &[("accept", "*/*")] }, 401, false),
    ];
    for (setting, asks, status, told_where) in cases {
        let scene = Scene::open(setting).await;
        let mut browser = scene.browser();
        let name = format!("{} {} {:?}", setting.more, asks.path, asks.headers);
        let no = browser.send("GET", asks.path, asks.headers, b"").await;
        assert_eq!(no.status, status, "{name}");
        assert!(!no.headers.contains_key("x-loginsync-user"), "{name}");
        let expected = "https://app.example/.loginsync/sign-in?rd=%2Freports%3Fyear%3D1";
        assert_eq!(location(&no), if told_where { expected } else { "" }, "{name}");

        browser.log_in(|claims| claims["email"] = json!(null)).await;
        let yes = browser.send("GET", asks.path, asks.headers, b"").await;
        assert_eq!(yes.status, 200, "{name}");
        for (header, value) in [
            ("x-loginsync-user", "alice"),
            ("x-loginsync-groups", "Staff"),
            ("x-loginsync-roles", "editor"),
            // Empty rather than absent, so that a gateway which only overwrites overwrites.
            ("x-loginsync-email", ""),
        ] {
            assert_eq!(yes.headers.get_all(header).iter().collect::<Vec<_>>(), [value], "{name}: {header}");
        }
        assert_eq!(yes.headers["cache-control"], "no-store", "{name}");
        assert!(scene.house.app.seen().is_empty(), "{name}: the app is asked nothing");
    }
}

/// Threats 8, 9, 16 and 25, for a listener that gateways ask.
#[tokio::test]
async fn a_question_that_is_none_is_never_a_yes() {
    let scene = Scene::open(TRAEFIK).await;
    let mut browser = scene.browser();
    browser.log_in(|_| {}).await;
    for headers in [
        &[("x-forwarded-uri", "http://app.example/x")][..],
        &[("x-forwarded-uri", "x")],
        &[("x-forwarded-uri", "/x y")],
        &[("x-forwarded-uri", "")],
        &[("x-forwarded-uri", "/\u{e4}")],
        &[("x-forwarded-uri", "/a"), ("x-forwarded-uri", "/b")],
        &[("x-forwarded-method", "GET"), ("x-forwarded-method", "POST")],
    ] {
        let answer = browser.send("GET", "/.loginsync/auth", headers, b"").await;
        assert_eq!(answer.status, 400, "{headers:?}");
    }
    let mut stranger = scene.browser();
    for headers in [
        &[("user-agent", "GoogleHC/1.0")][..],
        &[("user-agent", "kube-probe/1.30")],
        &[("x-forwarded-uri", "/public/a.css")],
        &[("x-forwarded-user", "alice"), ("x-loginsync-user", "alice")],
        &[("authorization", "Bearer x")],
        &[("x-forwarded-method", "OPTIONS")],
    ] {
        let answer = stranger.send("GET", "/.loginsync/auth", headers, b"").await;
        assert_eq!(answer.status, 401, "{headers:?}");
    }
    for path in ["/.loginsync/auth/", "/.loginsync/auth/x", "/.loginsync/AUTH", "/.loginsync//auth"] {
        assert_eq!(browser.get(path).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn only_a_trusted_peer_hears_who_is_logged_in() {
    let setting = Setting { listen: "trusted_proxies = [\"192.0.2.1\"]", ..NGINX };
    let scene = Scene::open(setting).await;
    let mut browser = scene.browser();
    browser.log_in(|_| {}).await;
    let headers = [("x-forwarded-for", "192.0.2.1"), ("x-real-ip", "192.0.2.1")];
    let answer = browser.send("GET", "/.loginsync/auth", &headers, b"").await;
    assert_eq!(answer.status, 403);
    assert!(!answer.headers.contains_key("x-loginsync-user"));
}
