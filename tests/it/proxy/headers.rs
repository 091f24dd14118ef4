//! Identity headers, and what is said of hops before (threats 1 to 14, 16).

use crate::support::app::{App, ok, respond};
use crate::support::wire::{get, post, send};
use crate::support::{Proxy, Setting};

/// Every spelling that a CGI app folds into the name.
fn spellings(name: &str) -> Vec<String> {
    let mut all = vec![
        name.to_owned(),
        name.to_uppercase(),
        name.replace('-', "_"),
        name.replace('-', "."),
        name.replace('-', "~"),
    ];
    for (at, _) in name.match_indices('-') {
        let mut mixed = name.to_owned();
        mixed.replace_range(at..=at, "_");
        all.push(mixed);
    }
    all
}

const IDENTITY: [&str; 13] = [
    "X-Loginsync-User",
    "X-Loginsync-Email",
    "X-Loginsync-Groups",
    "X-Loginsync-Roles",
    "X-Loginsync-Anything",
    "X-Forwarded-User",
    "X-Forwarded-Email",
    "X-Forwarded-Groups",
    "X-Forwarded-Preferred-Username",
    "Remote-User",
    "Remote-Groups",
    "Remote-Email",
    "Remote-Name",
];

fn forged(names: &[&str]) -> String {
    names.iter().flat_map(|name| spellings(name)).map(|name| format!("{name}: forged\r\n")).collect()
}

/// Threats 1, 2, 3, 5, 6, 14.
#[tokio::test]
async fn forged_identity_is_removed_in_every_spelling_on_every_path() {
    let app = App::start().await;
    let proxy = Proxy::start(app.address).await;
    for method in ["GET", "OPTIONS", "PATCH", "DELETE"] {
        for target in ["/", "/login/callback", "/api/Items?x=1", "/login"] {
            for names in IDENTITY.chunks(5) {
                let request = format!("{method} {target} HTTP/1.1\r\nhost: app.example\r\n{}\r\n", forged(names));
                let answer = send(proxy.address, request).await;
                if matches!(method, "PATCH" | "DELETE") && target == "/login/callback" {
                    assert_eq!(answer.status, 405, "{method} {target}");
                    continue;
                }
                assert_eq!(answer.status, 200, "{method} {target}");
                let head = app.last().head;
                assert!(!head.contains("forged"), "{method} {target}\n{head}");
            }
        }
    }
}

/// Threats 4, 6: nothing of ours is sent, and nothing forged stays in its place.
#[tokio::test]
async fn a_login_carries_our_identity_once_and_nothing_else() {
    let app = App::start().await;
    let proxy = Proxy::with(app.address, Setting { binding: "observe", ..Setting::default() }).await;
    let form = format!("id_token={}", proxy.token(|claims| claims["groups"] = serde_json::json!(["staff", "odd"])));
    let answer = post(proxy.address, "/login/callback", &forged(&IDENTITY[..4]), &form).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let request = app.last();
    assert_eq!(request.all("x-loginsync-user"), ["alice"]);
    assert_eq!(request.all("x-loginsync-email"), ["alice@example.com"]);
    assert_eq!(request.all("x-loginsync-groups"), ["100%25%2C really,Staff"]);
    assert_eq!(request.all("x-loginsync-roles"), ["editor"]);
    assert!(!request.head.contains("forged"), "{}", request.head);

    let form = format!(
        "id_token={}",
        proxy.token(|claims| {
            claims["groups"] = serde_json::json!([]);
            claims["iat"] = serde_json::json!(claims["iat"].as_i64().unwrap() + 1);
        })
    );
    let answer = post(proxy.address, "/login/callback", &forged(&IDENTITY[..4]), &form).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let request = app.last();
    assert_eq!(request.all("x-loginsync-user"), ["alice"]);
    assert_eq!(request.all("x-loginsync-groups"), [""; 0]);
    assert!(!request.head.contains("forged"), "{}", request.head);
}

#[tokio::test]
async fn presets_name_what_they_send() {
    for (preset, expected) in [
        (
            "oauth2-proxy",
            vec![
                ("x-forwarded-user", "alice"),
                ("x-forwarded-email", "alice@example.com"),
                ("x-forwarded-groups", "Staff"),
                ("x-forwarded-preferred-username", "Alice"),
            ],
        ),
        (
            "authelia",
            vec![
                ("remote-user", "alice"),
                ("remote-email", "alice@example.com"),
                ("remote-groups", "Staff"),
                ("remote-name", "Alice"),
            ],
        ),
        ("none", vec![]),
    ] {
        let app = App::start().await;
        let headers = match preset {
            "authelia" => "preset = \"authelia\"",
            "none" => "preset = \"none\"",
            _ => "preset = \"oauth2-proxy\"",
        };
        let Ok(config) =
            std::panic::catch_unwind(|| crate::support::config(app.address, Setting { headers, ..Setting::default() }))
        else {
            // A group name with a comma is a fault of the configuration under these presets.
            continue;
        };
        drop(config);
        let proxy = Proxy::with(app.address, Setting { headers, binding: "observe", ..Setting::default() }).await;
        post(proxy.address, "/login/callback", "", &proxy.login_form()).await;
        let request = app.last();
        for (name, value) in expected {
            assert_eq!(request.all(name), [value], "{preset}");
        }
        assert!(!request.head.contains("x-loginsync"));
    }
}

/// A user in too many groups still enters.
#[tokio::test]
async fn identity_over_budget_is_left_out_and_counted() {
    let app = App::start().await;
    let setting = Setting { headers: "max_bytes = 256", binding: "observe", ..Setting::default() };
    let proxy = Proxy::with(app.address, setting).await;
    let form = format!("id_token={}", proxy.token(|claims| claims["email"] = serde_json::json!("a".repeat(190))));
    let answer = post(proxy.address, "/login/callback", "x-loginsync-groups: forged\r\n", &form).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let request = app.last();
    assert_eq!(request.all("x-loginsync-user"), ["alice"]);
    assert!(request.all("x-loginsync-groups").is_empty());
    assert!(request.all("x-loginsync-roles").is_empty());
    assert_eq!(proxy.counters.headers_over_budget.get(), 1);
}

/// Threat 7.
#[tokio::test]
async fn connection_cannot_name_our_headers_away() {
    let app = App::start().await;
    let proxy = Proxy::with(app.address, Setting { binding: "observe", ..Setting::default() }).await;
    let connections = [
        "close, x-loginsync-groups",
        "X-Loginsync-Groups, X-LOGINSYNC-USER",
        "x-forwarded-for",
        "host, content-length",
    ];
    for (issued, connection) in connections.into_iter().enumerate() {
        let form =
            format!("id_token={}", proxy.token(|claims| claims["jti"] = serde_json::json!(format!("t{issued}"))));
        let answer = post(proxy.address, "/login/callback", &format!("connection: {connection}\r\n"), &form).await;
        assert_eq!(answer.status, 200, "{connection}: {answer:?}");
        let request = app.last();
        assert_eq!(request.all("x-loginsync-user"), ["alice"], "{connection}");
        assert_eq!(request.all("x-loginsync-groups"), ["Staff"], "{connection}");
        assert_eq!(request.all("x-forwarded-for"), ["127.0.0.1"], "{connection}");
        assert_eq!(request.all("host"), ["app.example"], "{connection}");
        assert!(request.all("connection").is_empty(), "{connection}");
    }
}

#[tokio::test]
async fn hop_by_hop_fields_end_here() {
    let app = App::with(|_| {
        respond("200 OK", "connection: x-hop, keep-alive\r\nx-hop: 1\r\nkeep-alive: timeout=5\r\nx-end: 1\r\n", "")
    })
    .await;
    let proxy = Proxy::start(app.address).await;
    let headers = "connection: x-hop, keep-alive\r\nx-hop: 1\r\nkeep-alive: 300\r\nproxy-connection: keep-alive\r\n\
                   proxy-authorization: Basic eA==\r\nte: gzip, trailers\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\nx-end: 1\r\n";
    let answer = get(proxy.address, "/", headers).await;
    let request = app.only();
    for name in ["x-hop", "keep-alive", "proxy-connection", "proxy-authorization", "upgrade", "http2-settings"] {
        assert!(request.all(name).is_empty(), "{name} went on");
    }
    assert_eq!(request.all("te"), ["trailers"]);
    assert_eq!(request.one("x-end"), Some("1"));
    assert!(answer.all("x-hop").is_empty() && answer.all("keep-alive").is_empty(), "{answer:?}");
    assert_eq!(answer.one("x-end"), Some("1"));
}

/// Threats 8 to 13, 25.
#[tokio::test]
async fn nobody_is_trusted_unless_named() {
    let app = App::start().await;
    let proxy = Proxy::start(app.address).await;
    let names = [
        "X-Forwarded-For",
        "X-Forwarded-Proto",
        "X-Forwarded-Host",
        "X-Forwarded-Port",
        "X-Forwarded-Prefix",
        "X-Forwarded-Uri",
        "X-Forwarded-Method",
        "X-Forwarded-Server",
        "X-Forwarded-Ssl",
        "X-Forwarded",
        "Forwarded",
        "X-Real-IP",
        "X-Original-URL",
        "X-Rewrite-URL",
        "X-Client-IP",
        "True-Client-IP",
        "X-Original-Host",
        "X-Host",
    ];
    for names in names.chunks(6) {
        let answer = get(proxy.address, "/", &forged(names)).await;
        assert_eq!(answer.status, 200);
        let request = app.last();
        assert!(!request.head.contains("forged"), "{}", request.head);
        assert_eq!(request.all("x-forwarded-for"), ["127.0.0.1"]);
        assert_eq!(request.all("x-forwarded-proto"), ["https"]);
        assert_eq!(request.all("x-forwarded-host"), ["app.example"]);
    }
}

#[tokio::test]
async fn a_trusted_hop_is_believed_about_the_way_but_never_about_the_user() {
    let app = App::start().await;
    let proxy = Proxy::with(
        app.address,
        Setting {
            listen: "trusted_proxies = [\"127.0.0.0/8\"]",
            headers: "trust = [\"X-Forwarded-Prefix\"]",
            ..Setting::default()
        },
    )
    .await;
    let headers = "x-forwarded-for: 192.0.2.1\r\nx-forwarded-for: 192.0.2.2\r\nx-forwarded-proto: http\r\nx-forwarded-prefix: /a\r\n\
                   x_forwarded_for: forged\r\nx-forwarded-user: forged\r\nx-original-url: /forged\r\nforwarded: for=192.0.2.1\r\n";
    get(proxy.address, "/", headers).await;
    let request = app.only();
    assert_eq!(request.all("x-forwarded-for"), ["192.0.2.1, 192.0.2.2, 127.0.0.1"]);
    assert_eq!(request.all("x-forwarded-proto"), ["http"]);
    assert_eq!(request.all("x-forwarded-host"), ["app.example"]);
    assert_eq!(request.all("x-forwarded-prefix"), ["/a"]);
    assert_eq!(request.all("forwarded"), ["for=192.0.2.1"]);
    assert!(!request.head.contains("forged"), "{}", request.head);
}

/// Threat 16: nobody is answered by us for who they say they are.
#[tokio::test]
async fn probes_are_requests_like_any_other() {
    let app = App::with(|_| respond("403 Forbidden", "", "")).await;
    let proxy = Proxy::start(app.address).await;
    for agent in ["kube-probe/1.30", "GoogleHC/1.0", "ELB-HealthChecker/2.0", "Amazon-Route53-Health-Check-Service"] {
        assert_eq!(get(proxy.address, "/anything", &format!("user-agent: {agent}\r\n")).await.status, 403);
    }
}

#[tokio::test]
async fn other_cookies_pass_byte_for_byte_and_ours_do_not() {
    let app = App::with(|_| {
        respond(
            "200 OK",
            "set-cookie: __host-LOGINSYNC-b-x=1\r\nset-cookie: loginsync-b-y=1\r\nset-cookie: sid=1; Path=/\r\n",
            "",
        )
    })
    .await;
    let proxy = Proxy::start(app.address).await;
    for (sent, expected) in [
        ("a=1;b=\"x y\" ;  c==", Some("a=1;b=\"x y\" ;  c==")),
        ("__Host-loginsync-b-q=1; a=1;b=2", Some("a=1;b=2")),
        ("a=1; loginsync-b-q=2;b=2; __Host-loginsync-b-=x", Some("a=1;b=2")),
        ("__Host-loginsync-b-q=1", None),
        ("my-loginsync-b-q=1", Some("my-loginsync-b-q=1")),
    ] {
        let answer = get(proxy.address, "/", &format!("cookie: {sent}\r\n")).await;
        assert_eq!(app.last().one("cookie"), expected, "{sent}");
        assert_eq!(answer.all("set-cookie"), ["sid=1; Path=/"]);
    }
}

/// Threat 37.
#[tokio::test]
async fn absurd_cookies_cost_little_and_change_nothing() {
    let app = App::start().await;
    let proxy = Proxy::start(app.address).await;
    let many: String = (0..2000).map(|at| format!("__Host-loginsync-b-{at}=AAAA; ")).collect();
    let headers = format!("cookie: {many}sid=1\r\n");
    assert_eq!(get(proxy.address, "/", &headers).await.status, 200);
    assert_eq!(app.last().one("cookie"), Some("sid=1"));
    let answer = post(proxy.address, "/login/callback", &headers, &proxy.login_form()).await;
    assert_eq!(answer.status, 403, "{answer:?}");
    let huge = format!("cookie: sid={}\r\n", "x".repeat(70_000));
    assert_eq!(get(proxy.address, "/", &huge).await.status, 431);
    assert_eq!(app.received().len(), 1);
}

#[tokio::test]
async fn the_host_is_one_and_agrees_with_the_target() {
    let app = App::with(|_| ok("")).await;
    let proxy = Proxy::start(app.address).await;
    for request in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nhost:\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a/b\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: x@y\r\n\r\n",
        "GET http://evil.example/ HTTP/1.1\r\nhost: app.example\r\n\r\n",
        "CONNECT app.example:443 HTTP/1.1\r\nhost: app.example:443\r\n\r\n",
    ] {
        assert_eq!(send(proxy.address, request).await.status, 400, "{request}");
    }
    assert!(app.received().is_empty(), "{:#?}", app.received());
    let answer = send(proxy.address, "GET http://app.example:8/a?b HTTP/1.1\r\nhost: App.example:8\r\n\r\n").await;
    assert_eq!(answer.status, 200);
    assert_eq!(app.only().line(), "GET /a?b HTTP/1.1");
    assert_eq!(app.only().all("host"), ["App.example:8"]);
}

/// PRX5: balancers ask without a name, and a default port may be left out of either.
#[tokio::test]
async fn prx05_a_name_may_be_left_out_and_so_may_its_default_port() {
    let app = App::start().await;
    let proxy = Proxy::with(app.address, Setting { public_url: "https://app.example", ..Setting::default() }).await;
    let answer = send(proxy.address, "GET /up HTTP/1.0\r\n\r\n").await;
    assert_eq!((answer.status, app.last().all("host")), (200, vec!["app.example"]));
    for (target, host) in [("http://app.example:80/", "app.example"), ("http://app.example/", "app.example:80")] {
        let request = format!("GET {target} HTTP/1.1\r\nhost: {host}\r\n\r\n");
        assert_eq!((send(proxy.address, request).await.status, app.last().all("host")), (200, vec![host]));
    }
    let other = send(proxy.address, "GET http://app.example:443/ HTTP/1.1\r\nhost: app.example\r\n\r\n").await;
    assert_eq!(other.status, 400, "443 is no default of http");
}
