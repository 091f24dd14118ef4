//! Bodies on their way, and the versions of HTTP they travel by.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::app::{App, Reply, find, ok, respond};
use crate::support::wire::{self, get, send};
use crate::support::{Proxy, Setting};

/// Neither direction waits for the whole.
#[tokio::test]
async fn bodies_stream_both_ways() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    // Answers each piece of the body as soon as it has come.
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut buffer = Vec::new();
        while find(&buffer, b"\r\n\r\n").is_none() {
            stream.read_buf(&mut buffer).await.unwrap();
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
        for piece in ["one", "two"] {
            while find(&buffer, piece.as_bytes()).is_none() {
                stream.read_buf(&mut buffer).await.unwrap();
            }
            stream.write_all(format!("3\r\n{piece}\r\n").as_bytes()).await.unwrap();
        }
        stream.write_all(b"0\r\n\r\n").await.unwrap();
    });
    let proxy = Proxy::start(address).await;
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    let head = "POST / HTTP/1.1\r\nhost: app.example\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut buffer = Vec::new();
    for piece in ["one", "two"] {
        stream.write_all(format!("3\r\n{piece}\r\n").as_bytes()).await.unwrap();
        while find(&buffer, piece.as_bytes()).is_none() {
            let read = tokio::time::timeout(Duration::from_secs(2), stream.read_buf(&mut buffer)).await;
            assert!(read.expect("the answer waits for the whole body").unwrap() > 0);
        }
    }
    stream.write_all(b"0\r\n\r\n").await.unwrap();
}

/// An app that does not read holds the client back; nothing piles up in between.
#[tokio::test]
async fn a_large_upload_is_not_gathered() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let proxy = Proxy::start(address).await;
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    stream
        .write_all(
            b"POST / HTTP/1.1\r\nhost: app.example\r\ncontent-type: text/plain\r\ncontent-length: 1000000000\r\n\r\n",
        )
        .await
        .unwrap();
    let (_app, _) = listener.accept().await.unwrap();
    let piece = vec![b'x'; 64 * 1024];
    let mut sent = 0;
    while let Ok(written) = tokio::time::timeout(Duration::from_millis(300), stream.write(&piece)).await {
        sent += written.unwrap();
        assert!(sent < 64 * 1024 * 1024, "{sent} bytes were taken from a client whose app reads nothing");
    }
}

#[tokio::test]
async fn a_large_answer_arrives_whole() {
    let body = "0123456789abcdef".repeat(65_536);
    let answer = body.clone();
    let app = App::with(move |_| respond("200 OK", "", &answer)).await;
    let proxy = Proxy::start(app.address).await;
    assert_eq!(get(proxy.address, "/", "").await.body, body);
}

#[tokio::test]
async fn heads_without_bodies_and_odd_statuses_pass() {
    let app = App::with(|request| match request.target() {
        "/204" => Reply::Bytes(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()),
        "/304" => Reply::Bytes(b"HTTP/1.1 304 Not Modified\r\netag: \"x\"\r\n\r\n".to_vec()),
        "/418" => respond("418 I'm a teapot", "x-a: ä\r\n", "short and stout"),
        "/hints" => Reply::Bytes(
            b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_vec(),
        ),
        "/until-close" => Reply::Bytes(b"HTTP/1.0 200 OK\r\ncontent-length: 3\r\n\r\nold".to_vec()),
        _ => Reply::Bytes(b"HTTP/1.1 200 OK\r\ncontent-length: 1234\r\n\r\n".to_vec()),
    })
    .await;
    let proxy = Proxy::start(app.address).await;
    assert_eq!(get(proxy.address, "/204", "").await.status, 204);
    assert_eq!(get(proxy.address, "/304", "").await.one("etag"), Some("\"x\""));
    let teapot = get(proxy.address, "/418", "").await;
    assert_eq!((teapot.status, teapot.body.as_str()), (418, "short and stout"));
    assert_eq!(get(proxy.address, "/hints", "").await.body, "ok");
    assert_eq!(get(proxy.address, "/until-close", "").await.body, "old");
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    stream.write_all(b"HEAD /head HTTP/1.1\r\nhost: app.example\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut all = String::new();
    stream.read_to_string(&mut all).await.unwrap();
    assert!(all.contains("content-length: 1234\r\n") && all.ends_with("\r\n\r\n"), "{all}");
}

#[tokio::test]
async fn a_client_that_asks_first_is_told_to_go_on() {
    let app = App::start().await;
    let proxy = Proxy::start(app.address).await;
    for (path, form) in [("/", "a=1"), ("/login/callback", "a=1")] {
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: app.example\r\ncontent-type: application/x-www-form-urlencoded\r\n\
             content-length: 3\r\nexpect: 100-continue\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut buffer = Vec::new();
        while !buffer.ends_with(b"\r\n\r\n") {
            assert!(stream.read_buf(&mut buffer).await.unwrap() > 0);
        }
        assert_eq!(String::from_utf8_lossy(&buffer), "HTTP/1.1 100 Continue\r\n\r\n");
        stream.write_all(form.as_bytes()).await.unwrap();
        assert_eq!(wire::read(&mut stream).await.status, 200);
        assert_eq!(app.last().body, b"a=1");
    }
}

#[tokio::test]
async fn trailers_pass_and_forged_ones_do_not() {
    let app = App::with(|_| {
        Reply::Bytes(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n2\r\nok\r\n0\r\nx-sum: 1\r\n\r\n"
                .to_vec(),
        )
    })
    .await;
    let proxy = Proxy::start(app.address).await;
    let request = "POST / HTTP/1.1\r\nhost: app.example\r\ncontent-type: text/plain\r\nte: trailers\r\ntransfer-encoding: chunked\r\n\
                   trailer: x-sum, x-loginsync-user\r\n\r\n2\r\nhi\r\n0\r\nx-sum: 2\r\nx-loginsync-user: forged\r\n\
                   cookie: session=forged\r\nauthorization: Bearer forged\r\nremote-user: forged\r\nx-forwarded-groups: forged\r\n\
                   x-webauth-role: forged\r\nx_forwarded_user: forged\r\ncontent-type: text/html\r\nx-http-method: PUT\r\n\
                   x-original-url: /forged\r\nx-real-ip: 192.0.2.1\r\nx-jwt: @\r\n\r\n";
    let request = request.replace('@', &proxy.token(|_| {}));
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut buffer = Vec::new();
    while find(&buffer, b"x-sum: 1\r\n\r\n").is_none() {
        let read = tokio::time::timeout(Duration::from_secs(2), stream.read_buf(&mut buffer)).await;
        assert!(read.is_ok_and(|read| read.unwrap() > 0), "{}", String::from_utf8_lossy(&buffer));
    }
    assert_eq!(app.only().trailers, "x-sum: 2\r\n");
}

async fn http2(
    stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
) -> hyper::client::conn::http2::SendRequest<Full<Bytes>> {
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

#[tokio::test]
async fn http2_is_spoken_without_tls_too() {
    let app = App::start().await;
    let proxy = Proxy::with(app.address, Setting { binding: "observe", ..Setting::default() }).await;
    let mut sender = http2(TcpStream::connect(proxy.address).await.unwrap()).await;
    let many: Vec<_> = (0..20)
        .map(|at| {
            let request = http::Request::get(format!("http://app.example/{at}"))
                .header("cookie", "a=1")
                .header("cookie", "__Host-loginsync-b-x=1")
                .header("cookie", "b=2")
                .header("remote_user", "forged")
                .body(Full::default())
                .unwrap();
            sender.send_request(request)
        })
        .collect();
    for answer in many {
        assert_eq!(answer.await.unwrap().status(), 200);
    }
    let request = app.last();
    assert!(request.line().ends_with(" HTTP/1.1"), "{}", request.line());
    assert_eq!(request.all("host"), ["app.example"]);
    assert_eq!(request.all("cookie"), ["a=1; b=2"]);
    assert!(!request.head.contains("forged"));

    let form = proxy.login_form();
    let request = http::Request::post("http://app.example/LOGIN/callback")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Full::from(form.clone()))
        .unwrap();
    assert_eq!(sender.send_request(request).await.unwrap().status(), 200);
    assert_eq!(app.last().body, form.as_bytes());
    assert_eq!(app.last().one("x-loginsync-user"), Some("alice"));

    let request = http::Request::post("http://app.example/other")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Full::from("a=1&id_token=eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.AAAA"))
        .unwrap();
    let refused = sender.send_request(request).await.unwrap();
    assert_eq!(refused.status(), 403);
    assert!(!refused.into_body().collect().await.unwrap().to_bytes().is_empty());
}

#[tokio::test]
async fn tls_is_spoken_with_both_versions_and_a_new_certificate_is_taken_up() {
    let app = App::start().await;
    let proxy = Proxy::with(app.address, Setting { tls: true, ..Setting::default() }).await;
    for protocol in ["h2", "http/1.1"] {
        let stream = TcpStream::connect(proxy.address).await.unwrap();
        let mut config =
            rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Anyone))
                .with_no_client_auth();
        config.alpn_protocols = vec![protocol.into()];
        let name = rustls::pki_types::ServerName::try_from("app.example").unwrap();
        let mut stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(protocol.as_bytes()));
        if protocol == "h2" {
            let request = http::Request::get("https://app.example/").body(Full::default()).unwrap();
            assert_eq!(http2(stream).await.send_request(request).await.unwrap().status(), 200);
        } else {
            stream.write_all(b"GET / HTTP/1.1\r\nhost: app.example\r\n\r\n").await.unwrap();
            assert_eq!(wire::read(&mut stream).await.status, 200);
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let files = wire::certificate_files(folder.path());
    let tls = wire::certificate(folder.path());
    tls.reload(&files).unwrap_or_else(|error| panic!("{error}"));
    std::fs::write(&files.key, "no key").unwrap();
    assert!(tls.reload(&files).is_err());
}

/// Trusts whoever answers; the certificate is made anew for each test.
#[derive(Debug)]
struct Anyone;

impl rustls::client::danger::ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// A form of any size passes with its scan, unchanged.
#[tokio::test]
async fn a_large_form_passes_unchanged() {
    let app = App::with(|_| ok("ok")).await;
    let proxy = Proxy::start(app.address).await;
    let body = format!("a={}&b=2", "x+%20".repeat(100_000));
    let request = wire::post_bytes("/form", "", &body);
    assert_eq!(send(proxy.address, request).await.status, 200);
    assert_eq!(app.only().body, body.as_bytes());
}

/// Elasticsearch is searched so.
#[tokio::test]
async fn a_body_reaches_the_app_whatever_the_method() {
    let app = App::start().await;
    let proxy = Proxy::start(app.address).await;
    for method in ["GET", "HEAD", "OPTIONS", "DELETE", "PUT", "SEARCH"] {
        for (framing, body) in
            [("content-length: 5", "hello"), ("transfer-encoding: chunked", "5\r\nhello\r\n0\r\n\r\n")]
        {
            let head = format!(
                "{method} /search HTTP/1.1\r\nhost: app.example\r\ncontent-type: text/plain\r\nconnection: close\r\n"
            );
            assert_eq!(
                send(proxy.address, format!("{head}{framing}\r\n\r\n{body}")).await.status,
                200,
                "{method} {framing}"
            );
            let received = app.last();
            assert_eq!(
                (received.line(), received.body.as_slice()),
                (&*format!("{method} /search HTTP/1.1"), &b"hello"[..])
            );
        }
    }
}
