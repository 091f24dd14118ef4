//! What gateways hear, by the contract of each: `docs/gateways.md`.

use serde_json::json;

use crate::relying_party::{Scene, Setting, location};

const NGINX: Setting = of("[forward_auth]\ngateway = \"nginx\"");
const TRAEFIK: Setting = of("[forward_auth]\ngateway = \"traefik\"");
const CADDY: Setting = of("[forward_auth]\ngateway = \"caddy\"\npath = \"/.loginsync/check\"");
const ENVOY: Setting = of("[forward_auth]\ngateway = \"envoy\"");

const fn of(more: &'static str) -> Setting {
    Setting { listen: "trusted_proxies = [\"127.0.0.1\"]", more, base: "", top: "", session: "", provider: "" }
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
        &[("x-forwarded-uri", "/a"), ("x-forwarded-uri", "/b")],
        &[("x-forwarded-method", "GET"), ("x-forwarded-method", "POST")],
        &[("x-forwarded-method", "G T")],
    ] {
        let answer = browser.send("GET", "/.loginsync/auth", headers, b"").await;
        assert_eq!(answer.status, 400, "{headers:?}");
    }
    let mut stranger = scene.browser();
    for headers in [
        &[("user-agent", "GoogleHC/1.0")][..],
        &[("user-agent", "kube-probe/1.30")],
        &[("x-forwarded-uri", "/publicity/a.css")],
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

/// Finding OUT5: what a page needs is one decision, whether the request comes through us or a gateway asks about it.
#[tokio::test]
async fn out5_a_gateway_hears_what_the_page_needs() {
    let rules = "[[path]]\nprefix = \"/data\"\naccess = \"api\"\n[[path]]\nprefix = \"/data\"\nmethods = [\"OPTIONS\"]\naccess = \"public\"\n";
    for (gateway, name) in [("nginx", NGINX), ("traefik", TRAEFIK), ("envoy", ENVOY)] {
        let more = Box::leak(format!("{rules}\n{}", name.more).into_boxed_str());
        let scene = Scene::open(Setting { more, ..name }).await;
        let page = if gateway == "nginx" { 401 } else { 303 };
        for (target, method, more, status) in [
            ("/public/a.css", "GET", &[][..], 200),
            ("/public", "POST", &[], 200),
            ("/PUBLIC/a.css", "GET", &[], page),
            ("/public/../reports", "GET", &[], page),
            ("/public%2f..%2freports", "GET", &[], page),
            ("/reports", "GET", &[], page),
            ("/reports", "GET", &[("sec-fetch-mode", "navigate")], page),
            ("/reports", "GET", &[("sec-fetch-mode", "cors")], 401),
            ("/api/x", "GET", &[], 401),
            ("/data/x", "OPTIONS", &[], 200),
            ("/data/x", "GET", &[], 401),
            ("/data/x?_method=DELETE", "OPTIONS", &[], 401),
        ] {
            let mut headers = vec![("accept", "text/html")];
            headers.extend_from_slice(more);
            let path = match gateway {
                "envoy" => format!("/.loginsync/auth{target}"),
                _ => {
                    headers.extend([("x-forwarded-uri", target), ("x-forwarded-method", method)]);
                    "/.loginsync/auth".to_owned()
                }
            };
            let asked = if gateway == "envoy" { method } else { "GET" };
            let answer = scene.browser().send(asked, &path, &headers, b"").await;
            if gateway == "envoy" && target.contains("..") {
                assert!(answer.status != 200, "{gateway} {target}");
                continue;
            }
            assert_eq!(answer.status, status, "{gateway} {method} {target} {more:?}");
            // A yes to nobody says so, and overwrites what a client sent.
            assert_eq!(answer.headers.get("x-loginsync-user").is_some_and(|user| user.is_empty()), status == 200);
            let is_page = !["api", "data"].iter().any(|word| target.contains(word));
            let is_told = status == page && is_page && more != [("sec-fetch-mode", "cors")];
            assert_eq!(!location(&answer).is_empty(), is_told, "{gateway} {target}");
        }
    }
}

/// Finding OUT5: a gateway that does not say which page it is opens nothing.
#[tokio::test]
async fn out5_a_question_without_a_page_needs_a_session() {
    let top = "[access]\ndefault = \"public\"\n";
    let more = Box::leak(format!("{top}{}", TRAEFIK.more).into_boxed_str());
    let scene = Scene::open(Setting { more, ..TRAEFIK }).await;
    let mut browser = scene.browser();
    for (headers, status) in [
        (&[("x-forwarded-uri", "/x"), ("x-forwarded-method", "GET")][..], 200),
        (&[("x-forwarded-uri", "/x")], 200),
        (&[("x-forwarded-method", "GET")], 401),
        (&[], 401),
    ] {
        let answer = browser.send("GET", "/.loginsync/auth", headers, b"").await;
        assert_eq!(answer.status, status, "{headers:?}");
    }
}

/// Finding OUT5: `$request_uri` of nginx is what the client sent, letters that are not escaped too.
#[tokio::test]
async fn out5_an_address_that_is_not_escaped_is_taken_as_it_is_meant() {
    let scene = Scene::open(TRAEFIK).await;
    let mut browser = scene.browser();
    let headers = [("x-forwarded-uri", "/\u{e4}/b?c=\u{f6}"), ("x-forwarded-method", "GET"), ("accept", "text/html")];
    let answer = browser.send("GET", "/.loginsync/auth", &headers, b"").await;
    assert_eq!(answer.status, 303);
    assert_eq!(location(&answer), "https://app.example/.loginsync/sign-in?rd=%2F%25C3%25A4%2Fb%3Fc%3D%25C3%25B6");
}

/// What a page of the app would refuse from a request through here is refused in a question too: next to a session, the token of another
/// person, in the headers or in the address that the gateway tells.
#[tokio::test]
async fn a_question_about_a_request_with_another_token_is_never_a_yes() {
    const READS_TOKENS: &str = r#"

        [[provider]]
        name = "posts"
        mode = "oidc-form-post"
        issuer = "https://other.example"
        client_id = "posts"
        callback = "/posted"
        jwks_file = "fixtures/tokens/jwks.json"
        authorization_endpoint = "https://other.example/authorize"
    "#;
    for (gateway, path) in [("nginx", "/.loginsync/auth"), ("envoy", "/.loginsync/auth")] {
        let more: &'static str =
            Box::leak(format!("[forward_auth]\ngateway = \"{gateway}\"{READS_TOKENS}").into_boxed_str());
        let scene = Scene::open(of(more)).await;
        let mut browser = scene.browser();
        browser.log_in(|_| {}).await;
        let asks =
            async |browser: &mut crate::relying_party::Browser<'_>, target: &str, header: Option<(&str, &str)>| {
                let uri = [("x-forwarded-uri", target), ("x-forwarded-method", "GET")];
                let (path, told) = match gateway {
                    "envoy" => (format!("{path}{target}"), &uri[..0]),
                    _ => (path.to_owned(), &uri[..]),
                };
                let headers: Vec<(&str, &str)> = told.iter().copied().chain(header).collect();
                browser.send("GET", &path, &headers, b"").await.status
            };
        let token = scene.token("n", |claims| claims["sub"] = json!("mallory"));
        let api = scene.token("n", |claims| claims["aud"] = json!("api://the app"));
        let other = scene.token("n", |claims| claims["aud"] = json!("another app"));
        assert_eq!(asks(&mut browser, "/reports", None).await, 200, "{gateway}");
        assert_eq!(
            asks(&mut browser, &format!("/reports?t={other}"), Some(("x-token", &other))).await,
            200,
            "{gateway}"
        );
        for name in ["authorization", "x-token", "x-api-token"] {
            for token in [&token, &api, &format!("Bearer {token}")] {
                assert_eq!(asks(&mut browser, "/reports", Some((name, token))).await, 403, "{gateway}: {name}");
            }
        }
        for name in ["id_token", "access_token", "t"] {
            assert_eq!(asks(&mut browser, &format!("/reports?{name}={token}"), None).await, 403, "{gateway}: {name}");
        }
        // Callbacks come through here afterwards.
        assert_eq!(asks(&mut browser, &format!("/posted?t={token}"), None).await, 200, "{gateway}");
    }
}
