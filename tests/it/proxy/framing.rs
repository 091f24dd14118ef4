//! Requests that two readers could take apart differently (threats 85 to 88, 93).

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::support::Proxy;
use crate::support::app::{App, Reply, ok};
use crate::support::wire::{self, get, send};

/// Threats 86, 88.
#[tokio::test]
async fn unclear_lengths_are_refused_and_the_connection_closed() {
    let app = App::start().await;
    let proxy = Proxy::start(app.address).await;
    for framing in [
        "content-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        "content-length: 5, 6\r\n\r\nhello",
        "content-length: +5\r\n\r\nhello",
        "content-length: 0x5\r\n\r\nhello",
        "content-length: -1\r\n\r\nhello",
        "content-length: 99999999999999999999999\r\n\r\nhello",
        "content-length : 5\r\n\r\nhello",
        "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "transfer-encoding: identity\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "transfer-encoding: chunked, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "transfer-encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "transfer-encoding: xchunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "transfer-encoding: \x0bchunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "transfer-encoding:\r\n chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "transfer-encoding : chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: app.example\r\n\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: app.example\r\n\r\n",
    ] {
        let answer = send(proxy.address, format!("POST / HTTP/1.1\r\nhost: app.example\r\n{framing}")).await;
        assert_eq!(answer.status, 400, "{framing:?}: {answer:?}");
        assert!(answer.closed, "{framing:?}: the connection stays open");
    }
    for head in [
        "POST / HTTP/1.0\r\nhost: app.example\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: app.example\r\nfoo\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: app.example\r\nfoo: a\rb\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: app.example\r\nfoo: a\0b\r\n\r\n",
        "GET /a b HTTP/1.1\r\nhost: app.example\r\n\r\n",
    ] {
        let answer = send(proxy.address, head).await;
        assert_eq!(answer.status, 400, "{head:?}: {answer:?}");
    }
    assert!(app.received().is_empty(), "{:#?}", app.received());
}

#[tokio::test]
async fn broken_chunks_never_make_a_complete_request() {
    let app = App::start().await;
    let proxy = Proxy::start(app.address).await;
    for body in [
        "5\r\nhelloX\r\n0\r\n\r\n",
        "fffffffffffffffff\r\nhello",
        "5;ext\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "g\r\n",
    ] {
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        let request = format!(
            "POST / HTTP/1.1\r\nhost: app.example\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let answer = wire::answer(&mut stream).await;
        assert_eq!(answer.status, 400, "{body:?}: {answer:?}");
    }
    assert_eq!(app.complete(), 0, "{:#?}", app.received());
}

/// Threat 87: the app answers before it has read the body; the next request is not taken out of what is left.
#[tokio::test]
async fn an_early_answer_does_not_let_a_body_become_a_request() {
    let app = App::start().await;
    let proxy = Proxy::start(app.address).await;
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    let hidden = "GET /hidden HTTP/1.1\r\nhost: app.example\r\n\r\n";
    // Refused by us at once, with the body unread.
    let request = format!(
        "POST /?id_token=eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.AAAA HTTP/1.1\r\nhost: app.example\r\ncontent-length: {}\r\n\r\n{hidden}",
        hidden.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    assert_eq!(wire::read(&mut stream).await.status, 403);
    // Either the connection ends or the next request is read behind the body.
    let _ = stream.write_all(b"GET /next HTTP/1.1\r\nhost: app.example\r\n\r\n").await;
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    assert!(app.received().iter().all(|request| request.target() == "/next"), "{:#?}", app.received());
}

/// Threat 85.
#[tokio::test]
async fn bytes_behind_an_upgrade_wait_for_the_app_to_agree() {
    let app = App::with(|request| if request.target() == "/ws" { ok("no") } else { ok("later") }).await;
    let proxy = Proxy::start(app.address).await;
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    let request = "GET /ws HTTP/1.1\r\nhost: app.example\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n\
                   POST /login/callback HTTP/1.1\r\nhost: app.example\r\ncontent-type: text/xml\r\ncontent-length: 1\r\n\r\nx\
                   GET /next HTTP/1.1\r\nhost: app.example\r\nx-loginsync-user: forged\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    assert_eq!(wire::read(&mut stream).await.status, 200);
    assert_eq!(app.received().iter().filter(|request| request.target() == "/login/callback").count(), 0);
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    for request in app.received() {
        assert!(!request.head.contains("forged"));
        assert!(matches!(request.target(), "/ws" | "/next"), "{}", request.line());
    }
}

/// A tunnel of HTTP would carry requests past us.
#[tokio::test]
async fn upgrades_to_http_are_not_asked_for() {
    let app = App::start().await;
    let proxy = Proxy::start(app.address).await;
    for protocol in [
        "h2c",
        "H2C",
        "HTTP/2.0",
        "websocket, h2c",
        "TLS/1.0",
        "connect-udp",
        "\"h2c\"",
        "(x) h2c",
        "x;h2c",
        "'h2c'",
        "x/ h2c",
    ] {
        get(proxy.address, "/", &format!("connection: upgrade, http2-settings\r\nupgrade: {protocol}\r\n")).await;
        let request = app.last();
        assert!(request.all("upgrade").is_empty() && request.all("connection").is_empty(), "{}", request.head);
    }
}

#[tokio::test]
async fn an_app_switches_to_nothing_that_was_not_asked_for() {
    for agreed in ["upgrade: h2c\r\n", "upgrade: echo\r\nupgrade: h2c\r\n", "upgrade: echo, h2c\r\n", ""] {
        let app = App::with(move |_| {
            let head = format!("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n{agreed}\r\n");
            Reply::Bytes(head.into_bytes())
        })
        .await;
        let proxy = Proxy::start(app.address).await;
        let answer = get(proxy.address, "/", "connection: upgrade\r\nupgrade: echo\r\n").await;
        assert_eq!(answer.status, 502, "{agreed}");
    }
}

#[tokio::test]
async fn a_tunnel_copies_both_ways() {
    use tokio::io::AsyncReadExt as _;
    let app = App::with(|_| Reply::Switch).await;
    let proxy = Proxy::start(app.address).await;
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    // The first bytes come with the request.
    let request =
        "GET /ws HTTP/1.1\r\nhost: app.example\r\nconnection: keep-alive, Upgrade\r\nupgrade: echo\r\n\r\nearly";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"early") {
        assert!(stream.read_buf(&mut bytes).await.unwrap() > 0, "{}", String::from_utf8_lossy(&bytes));
    }
    let head = String::from_utf8_lossy(&bytes).into_owned();
    assert!(head.starts_with("HTTP/1.1 101") && head.contains("upgrade: echo"), "{head}");
    assert_eq!(proxy.counters.tunnels.get(), 1);
    for round in 0..20 {
        let sent = vec![round; 10_000];
        stream.write_all(&sent).await.unwrap();
        let mut back = vec![0; sent.len()];
        stream.read_exact(&mut back).await.unwrap();
        assert_eq!(back, sent);
    }
    drop(stream);
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    assert_eq!(proxy.counters.tunnels.get(), 0);
    assert_eq!(app.only().one("upgrade"), Some("echo"));
}
