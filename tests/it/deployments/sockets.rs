//! How the app is reached, and how balancers say whose a connection is (SAY4).

use std::convert::Infallible;
use std::os::unix::fs::PermissionsExt as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use loginsync::config::{AppProtocol, Config, Surroundings};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::mpsc;

use crate::attacks::{self, here};
use crate::front_door::House;

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

/// A body whose pieces come from elsewhere.
struct Pieces(mpsc::Receiver<Frame<Bytes>>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|frame| frame.map(Ok))
    }
}

/// An app that speaks HTTP/2 alone, as gRPC servers do: it sends back what comes, piece by piece, and ends with trailers.
struct Echo {
    address: std::net::SocketAddr,
    connections: Arc<AtomicUsize>,
    cut: tokio::sync::watch::Sender<usize>,
}

impl Echo {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let (cut, cuts) = tokio::sync::watch::channel(0);
        let counted = Arc::clone(&connections);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                counted.fetch_add(1, Ordering::SeqCst);
                let mut cuts = cuts.clone();
                cuts.mark_unchanged();
                tokio::spawn(async move {
                    let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    let serving = server.serve_connection(TokioIo::new(stream), service_fn(echo));
                    tokio::select! {
                        _ = serving => {}
                        _ = cuts.changed() => {}
                    }
                });
            }
        });
        Self { address, connections, cut }
    }

    async fn proxied(&self) -> Proxy {
        let mut config = config(self.address, Setting::default());
        config.app.protocol = AppProtocol::Http2;
        Proxy::serving(config, false).await
    }
}

async fn echo(request: Request<Incoming>) -> Result<Response<Pieces>, Infallible> {
    let (parts, mut body) = request.into_parts();
    let (sender, pieces) = mpsc::channel(1);
    let header = |name: &str| parts.headers.get(name).map_or("none", |value| value.to_str().unwrap()).to_owned();
    let seen = format!(
        "{} {} te={} host={} connection={} upgrade={}",
        parts.method,
        parts.uri,
        header("te"),
        header("host"),
        header("connection"),
        header("upgrade"),
    );
    tokio::spawn(async move {
        while let Some(Ok(frame)) = body.frame().await {
            if let Ok(data) = frame.into_data()
                && sender.send(Frame::data(data)).await.is_err()
            {
                return;
            }
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().unwrap());
        trailers.insert("grpc-message", "done".parse().unwrap());
        let _ = sender.send(Frame::trailers(trailers)).await;
    });
    Ok(Response::builder()
        .header("content-type", "application/grpc")
        .header("x-seen", seen)
        .body(Pieces(pieces))
        .unwrap())
}

/// A client of HTTP/2 without TLS.
async fn http2_client(proxy: &Proxy) -> hyper::client::conn::http2::SendRequest<Pieces> {
    let stream = TcpStream::connect(proxy.address).await.unwrap();
    let builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

fn call(target: &str) -> (mpsc::Sender<Frame<Bytes>>, Request<Pieces>) {
    let (sender, pieces) = mpsc::channel(1);
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("http://app.example{target}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Pieces(pieces));
    (sender, request.unwrap())
}

#[tokio::test]
async fn say04_an_app_of_http2_has_its_streams_and_trailers() {
    let app = Echo::start().await;
    let proxy = app.proxied().await;
    let mut client = http2_client(&proxy).await;
    let (sender, request) = call("/chat.Chat/Talk?a=b");
    let answer = client.send_request(request).await.unwrap();
    assert_eq!(answer.status(), 200);
    let seen = answer.headers()["x-seen"].to_str().unwrap().to_owned();
    let expected = "POST http://app.example/chat.Chat/Talk?a=b te=trailers host=none connection=none upgrade=none";
    assert_eq!(seen, expected);
    let mut body = answer.into_body();
    // Both directions stay open: an answer comes before the next piece is sent.
    for piece in ["one", "two", "three"] {
        sender.send(Frame::data(Bytes::from(piece))).await.unwrap();
        let frame = tokio::time::timeout(Duration::from_secs(20), body.frame()).await.unwrap().unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), piece);
    }
    drop(sender);
    let trailers = body.frame().await.unwrap().unwrap().into_trailers().unwrap();
    assert_eq!((trailers["grpc-status"].to_str().unwrap(), trailers["grpc-message"].to_str().unwrap()), ("0", "done"));
    assert!(body.frame().await.is_none());

    // Clients of HTTP/1.1 are served too, and no protocol is switched.
    let answer = send(
        proxy.address,
        "GET /x HTTP/1.1\r\nhost: app.example\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
    )
    .await;
    assert_eq!(
        (answer.status, answer.one("x-seen").unwrap()),
        (200, "GET http://app.example/x te=none host=none connection=none upgrade=none")
    );
    assert_eq!(app.connections.load(Ordering::SeqCst), 1, "all of them share a connection");
}

#[tokio::test]
async fn say04_connections_of_http2_are_shared_and_opened_anew() {
    let app = Echo::start().await;
    let proxy = app.proxied().await;
    let (mut first, mut second) = (http2_client(&proxy).await, http2_client(&proxy).await);
    let mut open = Vec::new();
    for number in 0..150 {
        let client = if number < 75 { &mut first } else { &mut second };
        let (sender, request) = call("/wait");
        let answer = client.send_request(request).await.unwrap();
        assert_eq!(answer.status(), 200, "{number}");
        open.push((sender, answer));
    }
    assert_eq!(app.connections.load(Ordering::SeqCst), 2, "a hundred at a time on each");
    drop(open);
    // The app ends its connections; the next request goes on a new one.
    app.cut.send(1).unwrap();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        let status = get(proxy.address, "/next", "").await.status;
        if status == 200 {
            break;
        }
        assert!(status == 502 && tokio::time::Instant::now() < deadline, "{status}");
    }
    assert_eq!(app.connections.load(Ordering::SeqCst), 3);
}

/// The proxy on a socket of this machine: who is in its group may connect, and counts as this machine.
#[tokio::test]
async fn say04_the_proxy_listens_on_a_socket_of_this_machine() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("proxy.sock");
    // What a process left that was killed.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let listen = format!("[listen]\naddress = \"unix:{}\"\ntrusted_proxies = [\"127.0.0.1\"]\n", path.display());
    let house = House::open(&(attacks::config("", "") + &listen), &here(), NOW).await;
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    let mut stream = UnixStream::connect(&path).await.unwrap();
    let request = "GET /a HTTP/1.1\r\nhost: app.example\r\nx-forwarded-for: 192.0.2.7\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let answer = wire::read(&mut stream).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let heard = house.app.seen().pop().unwrap();
    assert_eq!(heard.headers["x-forwarded-for"], "192.0.2.7, 127.0.0.1");
    // Another process is not driven out, and a file that is not a socket is left alone.
    use loginsync::serve::door::Door;
    assert_eq!(Door::socket(&path).await.unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
    let file = folder.path().join("file");
    std::fs::write(&file, "content").unwrap();
    assert_eq!(Door::socket(&file).await.unwrap_err().kind(), std::io::ErrorKind::AlreadyExists);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "content");
    house.running.stop().await;
    assert!(!path.exists(), "its file goes with it");
}

#[test]
fn say04_where_the_proxy_listens_is_an_address_or_a_socket() {
    for address in ["unix:", "unix:proxy.sock", "unix://host/x", "/run/proxy.sock", "localhost:80"] {
        let told = faults("[listen]", &format!("[listen]\naddress = \"{address}\""));
        assert!(told.contains("listen.address") && told.contains("`unix:/run/loginsync.sock`"), "{address}: {told}");
    }
}
