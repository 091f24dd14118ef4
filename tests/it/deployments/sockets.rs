//! How the app is reached, and how balancers say whose a connection is (SAY4).

use loginsync::config::{Config, Surroundings};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpStream, UnixListener};

use crate::support::app::App;
use crate::support::wire::{self, Answer, get, post, send};
use crate::support::{NOW, Proxy, Setting, config};

#[tokio::test]
async fn say04_an_app_on_a_socket_of_this_machine_is_reached() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let router = axum::Router::new().fallback(|request: axum::extract::Request| async move {
        let (parts, body) = request.into_parts();
        let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
        format!("{} {} {:?} {}", parts.method, parts.uri, parts.headers.get("host"), body.len())
    });
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let mut config = config(([127, 0, 0, 1], 9).into(), Setting::default());
    config.app.url = format!("unix:{}", path.display()).parse().unwrap();
    let proxy = Proxy::serving(config, false).await;
    for _ in 0..3 {
        let answer = get(proxy.address, "/a?b=c", "").await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "GET /a?b=c Some(\"app.example\") 0"));
    }
    let answer = post(proxy.address, "/upload", "", &"x".repeat(300_000)).await;
    assert_eq!(answer.body, "POST /upload Some(\"app.example\") 300000");
    std::fs::remove_file(&path).unwrap();
    // Past `app.idle_timeout` no kept connection serves on, and a new one finds nobody.
    tokio::time::sleep(std::time::Duration::from_millis(2500)).await;
    assert_eq!(get(proxy.address, "/", "").await.status, 502);
}

fn faults(from: &str, to: &str) -> String {
    let text =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/deployments/sockets.toml")).unwrap();
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("sockets.toml");
    let around = Surroundings { file: &file, read: &|path| std::fs::read(path), environment: &|_| None, now: NOW };
    Config::from_text(&text.replace(from, to), &around)
        .map(|_| String::new())
        .unwrap_or_else(|faults| faults.to_string())
}

#[test]
fn say04_what_is_no_socket_and_no_balancer_is_a_fault() {
    assert_eq!(faults("", ""), "");
    let long = format!("unix:/{}", "x".repeat(200));
    for address in ["unix:", "unix:app.sock", "unix://host/app.sock", "unix:/a b", "unix:/a?b", &long] {
        let told = faults("unix:/run/app.sock", address);
        assert!(told.contains("app.url") && told.contains("`unix:/run/app.sock`"), "{address}: {told}");
    }
    let told = faults("trusted_proxies = [\"10.0.0.1\"]", "");
    assert!(told.contains("listen.proxy_protocol: `trusted_proxies` is missing"), "{told}");
    let told = faults(
        "url = \"unix:/run/app.sock\"",
        "url = \"unix:/run/app.sock\"\nca_file = \"fixtures/keys/idp-rsa.certificate.test-only.pem\"",
    );
    assert!(told.contains("app.ca_file: `url` is not https"), "{told}");
}

/// A connection that a balancer passes through.
async fn through(proxy: &Proxy, header: &[u8], request: &str) -> Option<Answer> {
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    stream.write_all(&[header, request.as_bytes()].concat()).await.unwrap();
    wire::answer_if_any(&mut stream).await
}

#[tokio::test]
async fn say04_a_trusted_balancer_says_whose_a_connection_is() {
    const GET: &str =
        "GET /a HTTP/1.1\r\nhost: app.example\r\nx-forwarded-for: 203.0.113.9\r\nx-forwarded-proto: http\r\n\r\n";
    let app = App::start().await;
    let listen = "trusted_proxies = [\"127.0.0.1\"]\nproxy_protocol = true";
    let proxy = Proxy::with(app.address, Setting { listen, ..Setting::default() }).await;
    let second = [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"[..], &[192, 0, 2, 2, 10, 0, 0, 1, 0, 1, 0, 2]].concat();
    for (header, client) in
        [(b"PROXY TCP4 192.0.2.1 10.0.0.1 56324 443\r\n".to_vec(), "192.0.2.1"), (second, "192.0.2.2")]
    {
        assert_eq!(through(&proxy, &header, GET).await.unwrap().status, 200, "{client}");
        // What the client says of itself is not believed: it is no trusted proxy.
        assert_eq!(app.last().all("x-forwarded-for"), [client]);
        assert_eq!(app.last().all("x-forwarded-proto"), ["https"]);
    }
    // A client that is a trusted proxy itself is believed.
    assert_eq!(through(&proxy, b"PROXY TCP4 127.0.0.1 10.0.0.1 1 2\r\n", GET).await.unwrap().status, 200);
    assert_eq!(app.last().all("x-forwarded-for"), ["203.0.113.9, 127.0.0.1"]);
    // The balancer itself, for a health check.
    assert_eq!(through(&proxy, b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0", GET).await.unwrap().status, 200);
    let seen = app.received().len();
    for header in [&b""[..], b"PROXY TCP4 192.0.2.1\r\n", b"PROXY TCP4 192.0.2.1 10.0.0.1 1 2"] {
        assert!(through(&proxy, header, GET).await.is_none(), "{}", String::from_utf8_lossy(header));
    }
    assert_eq!(app.received().len(), seen, "nothing of these reached the app");
}

/// Whoever is no trusted balancer says nothing of whose a connection is.
#[tokio::test]
async fn say04_a_stranger_cannot_say_whose_its_connection_is() {
    let app = App::start().await;
    let listen = "trusted_proxies = [\"192.0.2.1\"]\nproxy_protocol = true";
    let proxy = Proxy::with(app.address, Setting { listen, ..Setting::default() }).await;
    let forged = "PROXY TCP4 192.0.2.1 10.0.0.1 1 2\r\nGET / HTTP/1.1\r\nhost: app.example\r\n\r\n";
    assert_eq!(send(proxy.address, forged).await.status, 400);
    assert!(app.received().is_empty());
    assert_eq!(get(proxy.address, "/", "").await.status, 200);
    assert_eq!(app.last().all("x-forwarded-for"), ["127.0.0.1"]);
}
