//! The connections to the app: when one is used again, when another is made, and when one ends.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::support::app::find;
use crate::support::wire::{self, get};
use crate::support::{Proxy, Setting};

/// An app that counts its connections. What it answers is the same for every request without a body.
struct Counting {
    address: SocketAddr,
    taken: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
}

impl Counting {
    async fn start(answer: Vec<u8>, wait: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (taken, open) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let counts = (Arc::clone(&taken), Arc::clone(&open));
        let answer = Arc::new(answer);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (open, answer) = (Arc::clone(&counts.1), Arc::clone(&answer));
                counts.0.fetch_add(1, Ordering::Relaxed);
                open.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(async move {
                    let mut buffer = Vec::new();
                    while matches!(stream.read_buf(&mut buffer).await, Ok(1..)) {
                        while let Some(end) = find(&buffer, b"\r\n\r\n") {
                            buffer.drain(..end + 4);
                            tokio::time::sleep(wait).await;
                            let _ = stream.write_all(&answer).await;
                        }
                    }
                    open.fetch_sub(1, Ordering::Relaxed);
                });
            }
        });
        Self { address, taken, open }
    }

    fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    async fn open_becomes(&self, count: usize, within: Duration) {
        let reached = async {
            while self.open.load(Ordering::Relaxed) != count {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let open = || self.open.load(Ordering::Relaxed);
        tokio::time::timeout(within, reached).await.unwrap_or_else(|_| panic!("{} open, not {count}", open()));
    }
}

fn sized(body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn chunked(body: &[u8]) -> Vec<u8> {
    let mut answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    for piece in body.chunks(1000) {
        answer.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        answer.extend_from_slice(piece);
        answer.extend_from_slice(b"\r\n");
    }
    answer.extend_from_slice(b"0\r\n\r\n");
    answer
}

#[tokio::test]
async fn a_connection_is_used_again_however_its_answers_end() {
    let large = vec![b'x'; 3_000_000];
    for (what, answer, length) in [
        ("empty", sized(b""), 0),
        ("small", sized(b"xxxxx"), 5),
        ("large", sized(&large), large.len()),
        ("small in chunks", chunked(b"xxxxx"), 5),
        ("large in chunks", chunked(&large), large.len()),
        ("without content", b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(), 0),
    ] {
        let app = Counting::start(answer, Duration::ZERO).await;
        let proxy = Proxy::start(app.address).await;
        for _ in 0..5 {
            assert_eq!(get(proxy.address, "/", "").await.body.matches('x').count(), length, "{what}");
        }
        assert_eq!(app.taken(), 1, "{what}");
    }
}

#[tokio::test]
async fn an_app_that_ends_its_connections_is_asked_on_new_ones() {
    let answer = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok".to_vec();
    let app = Counting::start(answer, Duration::ZERO).await;
    let proxy = Proxy::start(app.address).await;
    for _ in 0..3 {
        assert_eq!(get(proxy.address, "/", "").await.body, "ok");
    }
    assert_eq!(app.taken(), 3);
    app.open_becomes(0, Duration::from_secs(2)).await;
}

/// PRX2: an app that closes a kept connection just when a request is on its way, as Gunicorn does two seconds after the last.
#[tokio::test]
async fn prx02_a_request_that_may_be_repeated_is_sent_once_more() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let sees = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let seen = Arc::clone(&sees);
            tokio::spawn(async move {
                // The first request has its answer; the next is read, and the connection ends.
                for answers in [true, false] {
                    let mut buffer = vec![0; 4096];
                    let Ok(read @ 1..) = stream.read(&mut buffer).await else { return };
                    let head = String::from_utf8_lossy(&buffer[..read]).into_owned();
                    seen.lock().unwrap().push(head.lines().next().unwrap_or_default().to_owned());
                    if answers {
                        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
                    }
                }
            });
        }
    });
    let proxy = Proxy::start(address).await;
    let rest = Duration::from_millis(200);
    for (method, status, times) in [("GET", 200, 2), ("HEAD", 200, 2), ("DELETE", 200, 2), ("POST", 502, 1)] {
        assert_eq!(get(proxy.address, "/first", "").await.status, 200);
        tokio::time::sleep(rest).await;
        let request = format!("{method} /next HTTP/1.1\r\nhost: app.example\r\ncontent-length: 0\r\n\r\n");
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = vec![0; 4096];
        let read = stream.read(&mut head).await.unwrap();
        let found = String::from_utf8_lossy(&head[9..read.min(12)]).into_owned();
        assert_eq!(found, status.to_string(), "{method}");
        let line = format!("{method} /next HTTP/1.1");
        let sent = seen.lock().unwrap().drain(..).filter(|seen| *seen == line).count();
        assert_eq!(sent, times, "{method}");
        // The connection that is left is not taken by the next round.
        tokio::time::sleep(Duration::from_millis(1600)).await;
    }
}

#[tokio::test]
async fn no_more_connections_are_kept_than_asked_for() {
    let app = Counting::start(sized(b"ok"), Duration::from_millis(200)).await;
    let proxy = Proxy::with(app.address, Setting { app: "idle_connections = 2", ..Setting::default() }).await;
    let address = proxy.address;
    let mut at_once = JoinSet::new();
    for _ in 0..6 {
        at_once.spawn(async move { assert_eq!(get(address, "/", "").await.body, "ok") });
    }
    at_once.join_all().await;
    assert_eq!(app.taken(), 6);
    app.open_becomes(2, Duration::from_secs(2)).await;
}

/// The app's own patience with idle connections must not be met while we write into one.
#[tokio::test]
async fn a_connection_that_lies_idle_ends() {
    let app = Counting::start(sized(b"ok"), Duration::ZERO).await;
    let proxy = Proxy::start(app.address).await;
    assert_eq!(get(proxy.address, "/", "").await.body, "ok");
    app.open_becomes(1, Duration::from_secs(1)).await;
    app.open_becomes(0, Duration::from_secs(12)).await;
    // And what comes then finds a new one.
    assert_eq!(get(proxy.address, "/", "").await.body, "ok");
    assert_eq!(app.taken(), 2);
}

/// Nobody reads what is left of an answer whose client is gone, so the app need not make it.
#[tokio::test]
async fn a_client_that_goes_away_takes_its_exchange_along() {
    let endless = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\nonly this".to_vec();
    for answer in [endless, b"HTTP/1.1 100 Continue\r\n\r\n".to_vec()] {
        let app = Counting::start(answer, Duration::ZERO).await;
        let proxy = Proxy::start(app.address).await;
        let mut client = TcpStream::connect(proxy.address).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nhost: app.example\r\n\r\n").await.unwrap();
        app.open_becomes(1, Duration::from_secs(2)).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        drop(client);
        app.open_becomes(0, Duration::from_secs(2)).await;
    }
}

/// The client hears the answer at once, the app still gets the whole body, and the next request is a request.
#[tokio::test]
async fn an_app_may_answer_before_it_has_the_body() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::start(listener.local_addr().unwrap()).await;
    let app = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut buffer = Vec::new();
        while find(&buffer, b"\r\n\r\n").is_none() {
            stream.read_buf(&mut buffer).await.unwrap();
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nearly").await.unwrap();
        while !buffer.ends_with(b"the rest") {
            assert!(stream.read_buf(&mut buffer).await.unwrap() > 0, "{}", String::from_utf8_lossy(&buffer));
        }
    });
    let mut client = TcpStream::connect(proxy.address).await.unwrap();
    let head = "POST / HTTP/1.1\r\nhost: app.example\r\ncontent-type: text/plain\r\ncontent-length: 12\r\n\r\nnow ";
    client.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(wire::answer(&mut client).await.body, "early");
    client.write_all(b"the rest").await.unwrap();
    tokio::time::timeout(Duration::from_secs(2), app).await.expect("the app never had the whole body").unwrap();
}

/// The answer came early, and the client takes its time with the rest of the body: that is still the body, and no request begins
/// in it, however it reads. Between two requests a connection rests after a moment, and gives back what hyper knew of it.
#[tokio::test]
async fn the_rest_of_a_body_is_no_request_after_an_early_answer() {
    let inner = "GET /smuggled HTTP/1.1\r\nhost: app.example\r\n\r\n";
    for pause in [Duration::ZERO, Duration::from_millis(300)] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Proxy::start(listener.local_addr().unwrap()).await;
        let app = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut buffer = Vec::new();
            while find(&buffer, b"\r\n\r\n").is_none() {
                stream.read_buf(&mut buffer).await.unwrap();
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nearly").await.unwrap();
            while !buffer.ends_with(inner.as_bytes()) {
                assert!(stream.read_buf(&mut buffer).await.unwrap() > 0, "{}", String::from_utf8_lossy(&buffer));
            }
            // What follows comes on this connection or another.
            let (mut stream, mut buffer) = (listener.accept().await.unwrap().0, Vec::new());
            while find(&buffer, b"\r\n\r\n").is_none() {
                stream.read_buf(&mut buffer).await.unwrap();
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nnext").await.unwrap();
            String::from_utf8(buffer).unwrap()
        });
        let mut client = TcpStream::connect(proxy.address).await.unwrap();
        let length = "now ".len() + inner.len();
        let head = format!(
            "POST / HTTP/1.1\r\nhost: app.example\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\n\r\nnow "
        );
        client.write_all(head.as_bytes()).await.unwrap();
        assert_eq!(wire::answer(&mut client).await.body, "early");
        tokio::time::sleep(pause).await;
        client.write_all(inner.as_bytes()).await.unwrap();
        client.write_all(b"GET /next HTTP/1.1\r\nhost: app.example\r\n\r\n").await.unwrap();
        assert_eq!(wire::answer(&mut client).await.body, "next", "after {pause:?}");
        let asked = tokio::time::timeout(Duration::from_secs(2), app).await.expect("the app lost the body").unwrap();
        assert!(asked.starts_with("GET /next "), "{asked}");
    }
}

/// How an app answers, by the last part of the path. The first part is the request's own, and is what every answer is made of.
async fn answer_by_path(mut stream: TcpStream) {
    let mut buffer = Vec::new();
    loop {
        let end = loop {
            if let Some(end) = find(&buffer, b"\r\n\r\n") {
                break end + 4;
            }
            if !matches!(stream.read_buf(&mut buffer).await, Ok(1..)) {
                return;
            }
        };
        let head = String::from_utf8(buffer.drain(..end).collect()).unwrap();
        let target = head.split(' ').nth(1).unwrap();
        let (own, kind) = target.trim_start_matches('/').split_once('/').unwrap();
        let length: usize = head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, number);
        let small = own.as_bytes();
        let large = own.repeat(LARGE);
        let answer = match kind {
            "chunked" => chunked(small),
            "large" => sized(large.as_bytes()),
            "large-chunked" => chunked(large.as_bytes()),
            "close" => [b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n", small].concat(),
            _ => sized(small),
        };
        if kind == "slow" {
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        if kind == "early" && stream.write_all(&answer).await.is_err() {
            return;
        }
        while buffer.len() < length {
            if !matches!(stream.read_buf(&mut buffer).await, Ok(1..)) {
                return;
            }
        }
        buffer.drain(..length);
        if kind != "early" && stream.write_all(&answer).await.is_err() {
            return;
        }
        if matches!(kind, "close" | "vanish") {
            return;
        }
    }
}

const LARGE: usize = 20_000;

fn without_chunks(mut text: &str) -> String {
    let mut body = String::new();
    while let Some((size, rest)) = text.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        body.push_str(&rest[..size]);
        text = &rest[size + 2..];
    }
    body
}

fn number(text: &str) -> usize {
    text.trim().parse().unwrap()
}

/// What one client does with one connection: requests of every kind, some of them given up on the way.
async fn ask_all_kinds(proxy: SocketAddr, client: u64, seed: u64) -> usize {
    let kinds = ["plain", "chunked", "large", "large-chunked", "close", "vanish", "slow", "early"];
    let mut state = seed;
    let mut next = move |below: usize| {
        // A linear congruential generator (Knuth's MMIX): the high bits are good enough to choose by.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below
    };
    let mut checked = 0;
    let mut stream = TcpStream::connect(proxy).await.unwrap();
    for request in 0..60 {
        let own = format!("{client}-{request:02};");
        let (kind, body) = (kinds[next(kinds.len())], "b".repeat(next(3) * 30_000));
        let head = format!(
            "POST /{own}/{kind} HTTP/1.1\r\nhost: app.example\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let sent = async {
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(body.as_bytes()).await
        };
        let gives_up = next(10) == 0;
        if sent.await.is_err() || gives_up {
            stream = TcpStream::connect(proxy).await.unwrap();
            continue;
        }
        let answer = wire::answer(&mut stream).await;
        // An app that vanishes may take a request along that was written already, and that is not sent twice.
        if answer.status == 502 {
            stream = TcpStream::connect(proxy).await.unwrap();
            continue;
        }
        assert_eq!(answer.status, 200, "{own} {kind}: {answer:?}");
        let chunked = answer.one("transfer-encoding").is_some();
        let body = if chunked { without_chunks(&answer.body) } else { answer.body };
        let expected = if kind.starts_with("large") { own.repeat(LARGE) } else { own.clone() };
        assert!(body == expected, "{own} {kind}: {} bytes that begin with {:?}", body.len(), body.get(..40));
        checked += 1;
        if answer.closed {
            stream = TcpStream::connect(proxy).await.unwrap();
        }
    }
    checked
}

/// Whatever apps and clients do to their connections, an answer reaches the request that it is for, and no other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answer_reaches_another_request() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer_by_path(stream));
        }
    });
    let proxy = Proxy::with(address, Setting { app: "idle_connections = 8", ..Setting::default() }).await;
    let mut clients = JoinSet::new();
    for client in 100..116 {
        clients.spawn(ask_all_kinds(proxy.address, client, client * 7919));
    }
    let checked: usize = clients.join_all().await.into_iter().sum();
    assert!(checked > 16 * 60 / 2, "only {checked} answers were checked");
}
