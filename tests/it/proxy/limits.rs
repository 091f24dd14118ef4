//! What takes too long, is too much, or is not there (threats 89 to 92).

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::app::{App, Reply};
use crate::support::wire::{self, get, post, send};
use crate::support::{Proxy, Setting};
use loginsync::serve::listen::Drained;

#[tokio::test]
async fn an_app_that_is_not_there_is_502_and_a_slow_one_504() {
    let gone = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let proxy = Proxy::start(gone).await;
    let answer = get(proxy.address, "/", "accept: text/html\r\n").await;
    assert_eq!(answer.status, 502, "{answer:?}");
    assert!(answer.body.contains("cannot be reached"));
    assert_eq!(proxy.counters.app_errors.get(), 1);

    let app = App::with(|request| match request.target() {
        "/close" => Reply::Close,
        "/garbage" => Reply::Bytes(b"\x16\x03\x01".repeat(40)),
        _ => Reply::Hang,
    })
    .await;
    let proxy = Proxy::with(app.address, Setting { app: "response_timeout = \"200ms\"", ..Setting::default() }).await;
    assert_eq!(get(proxy.address, "/hang", "").await.status, 504);
    assert_eq!(post(proxy.address, "/hang", "", "a=1").await.status, 504);
    assert_eq!(get(proxy.address, "/close", "").await.status, 502);
    assert_eq!(get(proxy.address, "/garbage", "").await.status, 502);
}

/// The app is not waited for while the client is still sending.
#[tokio::test]
async fn a_slow_upload_is_no_slow_app() {
    let app = App::start().await;
    let proxy = Proxy::with(app.address, Setting { app: "response_timeout = \"300ms\"", ..Setting::default() }).await;
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    let head = "POST / HTTP/1.1\r\nhost: app.example\r\ncontent-type: text/plain\r\ncontent-length: 6\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    for _ in 0..6 {
        tokio::time::sleep(Duration::from_millis(120)).await;
        stream.write_all(b"x").await.unwrap();
    }
    assert_eq!(wire::read(&mut stream).await.status, 200);
}

#[tokio::test]
async fn a_stale_connection_to_the_app_costs_nobody_an_error() {
    let app = App::with(|_| Reply::Bytes(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec())).await;
    let proxy = Proxy::start(app.address).await;
    for _ in 0..5 {
        assert_eq!(get(proxy.address, "/", "").await.status, 200);
    }
    // An app that closes after each answer without saying so.
    let closing = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = closing.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = closing.accept().await {
            let mut buffer = [0; 4096];
            let _ = stream.read(&mut buffer).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        }
    });
    let proxy = Proxy::start(address).await;
    for _ in 0..20 {
        assert_eq!(get(proxy.address, "/", "").await.status, 200);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A client that sends all of a body before it reads gets its answer, not a reset (RFC 9112 section 9.6).
#[tokio::test]
async fn the_answer_to_a_body_that_is_refused_arrives() {
    let app =
        App::with(|_| Reply::Bytes(b"HTTP/1.1 413 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_vec()))
            .await;
    let proxy = Proxy::start(app.address).await;
    let plain = "content-type: text/plain\r\n";
    for (what, target, headers, status) in [
        ("longer than a login may be", "/login/callback", "", 413),
        ("with a head that is refused", "/", "content-type: text/plain\r\nx-loginsync-user: a\r\nhost: b\r\n", 400),
        ("refused by the app", "/", plain, 413),
    ] {
        for _ in 0..10 {
            let body = "a".repeat(4 << 20);
            let request = format!(
                "POST {target} HTTP/1.1\r\nhost: app.example\r\n{headers}content-length: {}\r\n\r\n{body}",
                body.len()
            );
            assert_eq!(send(proxy.address, request).await.status, status, "{what}");
        }
    }
    // A client that asks first is told at once, and not to go on.
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    let head =
        "POST /login/callback HTTP/1.1\r\nhost: app.example\r\nexpect: 100-continue\r\ncontent-length: 4000000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = wire::answer(&mut stream).await;
    assert!(answer.status == 413 && answer.closed, "{answer:?}");
}

/// Threat 92.
#[tokio::test]
async fn slow_clients_are_let_go() {
    let app = App::start().await;
    let listen = "header_timeout = \"200ms\"\nidle_timeout = \"1500ms\"";
    let proxy = Proxy::with(app.address, Setting { listen, ..Setting::default() }).await;
    let ends_within = async |sent: &'static [u8], drip: bool| {
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        stream.write_all(sent).await.unwrap();
        let began = Instant::now();
        let mut buffer = Vec::new();
        loop {
            let read = tokio::time::timeout(Duration::from_millis(50), stream.read_buf(&mut buffer)).await;
            if matches!(read, Ok(Ok(0) | Err(_))) {
                return (began.elapsed(), String::from_utf8_lossy(&buffer).into_owned());
            }
            if drip && read.is_err() {
                let _ = stream.write_all(b"x").await;
            }
            assert!(began.elapsed() < Duration::from_secs(5), "still open");
        }
    };
    let (silent, half_head, dripped, kept, half_body, half_login) = tokio::join!(
        ends_within(b"", false),
        ends_within(b"GET / HTTP/1.1\r\nhost: app", false),
        ends_within(b"GET / HTTP/1.1\r\nx-a: ", true),
        ends_within(b"GET / HTTP/1.1\r\nhost: app.example\r\n\r\n", false),
        ends_within(
            b"POST / HTTP/1.1\r\nhost: app.example\r\ncontent-type: text/plain\r\ncontent-length: 9\r\n\r\nx",
            false
        ),
        ends_within(b"POST /login/callback HTTP/1.1\r\nhost: app.example\r\ncontent-length: 9\r\n\r\nx", false),
    );
    let between = |(time, text): &(Duration, String), least: u64, most: u64, what: &str| {
        let millis = u64::try_from(time.as_millis()).unwrap();
        assert!((least..most).contains(&millis), "{what} ended after {millis} ms: {text}");
    };
    between(&silent, 1300, 4500, "a silent connection");
    between(&half_head, 150, 1300, "half a head");
    between(&dripped, 150, 1300, "a dripping head");
    between(&kept, 1300, 4500, "a kept connection");
    between(&half_body, 1300, 4500, "half a body");
    between(&half_login, 1300, 4500, "half a login");
    assert!(kept.1.starts_with("HTTP/1.1 200"));
    assert!(half_body.1.starts_with("HTTP/1.1 408"), "{}", half_body.1);
    assert!(half_login.1.starts_with("HTTP/1.1 408"), "{}", half_login.1);
}

/// A body that outlasts its request ends, and then the connection is as idle as any other.
#[tokio::test]
async fn a_connection_is_let_go_after_a_body_that_ended_late() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 4096]).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nearly").await;
        while matches!(stream.read(&mut [0; 4096]).await, Ok(1..)) {}
    });
    let proxy = Proxy::with(address, Setting { listen: "idle_timeout = \"500ms\"", ..Setting::default() }).await;
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    let head = "POST / HTTP/1.1\r\nhost: app.example\r\ncontent-type: text/plain\r\ncontent-length: 8\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(wire::read(&mut stream).await.body, "early");
    tokio::time::sleep(Duration::from_millis(300)).await;
    stream.write_all(b"the rest").await.unwrap();
    let began = Instant::now();
    let ended = tokio::time::timeout(Duration::from_secs(3), stream.read(&mut [0; 1])).await;
    assert!(matches!(ended, Ok(Ok(0) | Err(_))), "the connection is kept");
    assert!(began.elapsed() > Duration::from_millis(400), "the connection ended after {:?}", began.elapsed());
}

#[tokio::test]
async fn an_answer_that_stalls_is_cut_off() {
    let app = App::with(|_| Reply::Stall(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc".to_vec())).await;
    let proxy = Proxy::with(app.address, Setting { app: "stream_timeout = \"300ms\"", ..Setting::default() }).await;
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: app.example\r\n\r\n").await.unwrap();
    let mut all = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(3), stream.read_to_end(&mut all)).await;
    assert!(ended.is_ok(), "the answer hangs");
    assert!(all.ends_with(b"abc"));
}

/// PRX4: a quiet stream outlives what limits strangers.
#[tokio::test]
async fn prx04_a_quiet_answer_outlives_the_idle_timeout() {
    let app = App::with(|_| {
        Reply::Wait(Duration::from_millis(700), b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_vec())
    });
    let app = app.await;
    let proxy = Proxy::with(app.address, Setting { listen: "idle_timeout = \"200ms\"", ..Setting::default() }).await;
    assert_eq!(get(proxy.address, "/", "").await.body, "ok");
    // The head at once, the rest after three times the idle timeout.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 4096]).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nfirst").await;
        tokio::time::sleep(Duration::from_millis(700)).await;
        let _ = stream.write_all(b"later").await;
        let _ = stream.read(&mut [0; 4096]).await;
    });
    let proxy = Proxy::with(address, Setting { listen: "idle_timeout = \"200ms\"", ..Setting::default() }).await;
    assert_eq!(get(proxy.address, "/", "").await.body, "firstlater");
}

/// PRX3: what counts are the bytes of a head.
#[tokio::test]
async fn prx03_heads_of_hundreds_of_fields_pass_and_what_is_refused_is_counted() {
    let fields: String = (0..400).map(|at| format!("x-{at}: {at}\r\n")).collect();
    let answer = format!("HTTP/1.1 200 OK\r\n{fields}content-length: 0\r\n\r\n");
    let app = App::with(move |_| Reply::Bytes(answer.clone().into_bytes())).await;
    let proxy = Proxy::start(app.address).await;
    let answer = get(proxy.address, "/", &fields).await;
    assert_eq!((answer.status, answer.one("x-399")), (200, Some("399")));
    assert_eq!(app.last().one("x-399"), Some("399"));
    let stage = loginsync::serve::counters::StageLabel { stage: "http" };
    assert_eq!(proxy.counters.refusals.get_or_create(&stage).get(), 0);
    let huge = format!("x-long: {}\r\n", "x".repeat(70_000));
    assert_eq!(get(proxy.address, "/", &huge).await.status, 431);
    assert_eq!(proxy.counters.refusals.get_or_create(&stage).get(), 1);
}

#[tokio::test]
async fn a_callback_body_is_bounded() {
    let app = App::start().await;
    let proxy = Proxy::start(app.address).await;
    let stated = "POST /login/callback HTTP/1.1\r\nhost: app.example\r\ncontent-length: 70000\r\n\r\n";
    assert_eq!(send(proxy.address, stated).await.status, 413);
    let mut chunked =
        String::from("POST /login/callback HTTP/1.1\r\nhost: app.example\r\ntransfer-encoding: chunked\r\n\r\n");
    for _ in 0..70 {
        chunked.push_str(&format!("400\r\n{}\r\n", "a".repeat(1024)));
    }
    assert_eq!(send(proxy.address, chunked).await.status, 413);
    assert!(app.received().is_empty());
}

/// A connection that has been idle for a moment is put aside, and taken up again as if nothing had been.
#[tokio::test]
async fn a_rested_connection_goes_on() {
    let app = App::start().await;
    let listen = "header_timeout = \"600ms\"\nidle_timeout = \"2s\"";
    let proxy = Proxy::with(app.address, Setting { listen, ..Setting::default() }).await;
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    for _ in 0..3 {
        stream.write_all(b"GET / HTTP/1.1\r\nhost: app.example\r\n\r\n").await.unwrap();
        assert_eq!(wire::read(&mut stream).await.status, 200);
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    for piece in b"GET / HTTP/1.1\r\nhost: app.example\r\n\r\n".chunks(3) {
        stream.write_all(piece).await.unwrap();
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(wire::read(&mut stream).await.status, 200);
    tokio::time::sleep(Duration::from_millis(250)).await;
    let both_lengths =
        b"POST / HTTP/1.1\r\nhost: app.example\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n";
    stream.write_all(both_lengths).await.unwrap();
    let refused = wire::answer(&mut stream).await;
    assert_eq!((refused.status, refused.closed), (400, true));

    // Idleness counts from the answer, rest or not, and a head that begins after a rest has its own limit.
    for (begins, least, most) in [("", 1700, 4500), ("GET", 500, 1800)] {
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: app.example\r\n\r\n").await.unwrap();
        wire::read(&mut stream).await;
        let mut since = Instant::now();
        if !begins.is_empty() {
            tokio::time::sleep(Duration::from_millis(250)).await;
            stream.write_all(begins.as_bytes()).await.unwrap();
            since = Instant::now();
        }
        let mut byte = [0; 1];
        let ended = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut byte)).await;
        assert!(matches!(ended, Ok(Ok(0) | Err(_))), "{begins:?}: {ended:?}");
        let millis = u64::try_from(since.elapsed().as_millis()).unwrap();
        assert!((least..most).contains(&millis), "{begins:?} ended after {millis} ms");
    }
}

#[tokio::test]
async fn further_connections_wait_for_a_place() {
    let app = App::start().await;
    let proxy = Proxy::with(app.address, Setting { listen: "max_connections = 2", ..Setting::default() }).await;
    let request = b"GET / HTTP/1.1\r\nhost: app.example\r\n\r\n";
    let mut first = TcpStream::connect(proxy.address).await.unwrap();
    let mut second = TcpStream::connect(proxy.address).await.unwrap();
    for stream in [&mut first, &mut second] {
        stream.write_all(request).await.unwrap();
        assert_eq!(wire::read(stream).await.status, 200);
    }
    let mut third = TcpStream::connect(proxy.address).await.unwrap();
    third.write_all(request).await.unwrap();
    let mut byte = [0; 1];
    assert!(tokio::time::timeout(Duration::from_millis(100), third.read(&mut byte)).await.is_err());
    drop(first);
    assert_eq!(third.read(&mut byte).await.unwrap(), 1);
}

#[tokio::test]
async fn draining_lets_requests_finish_and_idle_connections_go() {
    let app = App::with(|_| {
        Reply::Wait(Duration::from_millis(1500), b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone".to_vec())
    })
    .await;
    let mut proxy = Proxy::start(app.address).await;
    let mut busy = TcpStream::connect(proxy.address).await.unwrap();
    let mut idle = TcpStream::connect(proxy.address).await.unwrap();
    busy.write_all(b"GET / HTTP/1.1\r\nhost: app.example\r\n\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    proxy.stop();
    let mut byte = [0; 1];
    let ended = tokio::time::timeout(Duration::from_millis(1000), idle.read(&mut byte)).await;
    assert!(matches!(ended, Ok(Ok(0))), "an idle connection stays: {ended:?}");
    let answer = wire::answer(&mut busy).await;
    assert_eq!((answer.status, answer.body.as_str(), answer.closed), (200, "done", true));
    assert!(TcpStream::connect(proxy.address).await.is_err());
    assert_eq!(proxy.drained().await, Drained::Clean);
}

#[tokio::test]
async fn draining_ends_in_time() {
    let app = App::with(|_| Reply::Hang).await;
    let mut proxy =
        Proxy::with(app.address, Setting { listen: "drain_timeout = \"200ms\"", ..Setting::default() }).await;
    let mut busy = TcpStream::connect(proxy.address).await.unwrap();
    busy.write_all(b"GET / HTTP/1.1\r\nhost: app.example\r\n\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    proxy.stop();
    assert_eq!(proxy.drained().await, Drained::Cut(1));
    let mut byte = [0; 1];
    let ended = tokio::time::timeout(Duration::from_secs(1), busy.read(&mut byte)).await;
    assert!(matches!(ended, Ok(Ok(0) | Err(_))), "{ended:?}");
}

/// Threat 89: a flood on one connection ends that connection, and others are served.
#[tokio::test]
async fn http2_floods_end_their_connection_alone() {
    let app = App::start().await;
    let proxy = Proxy::start(app.address).await;
    let frame = |kind: u8, flags: u8, stream: u32, payload: &[u8]| {
        let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        frame
    };
    // `:method GET`, `:scheme http`, `:path /`, `:authority app.example`.
    let mut head = vec![0x82, 0x86, 0x84, 0x41, 0x0b];
    head.extend(b"app.example");
    let continuation: Vec<u8> = [frame(1, 0, 1, &head)]
        .into_iter()
        .chain((0..5000).map(|_| frame(9, 0, 1, &[&[0x40, 1, b'a', 100][..], &[b'x'; 100]].concat())))
        .flatten()
        .collect();
    let resets: Vec<u8> = (0..3000_u32)
        .flat_map(|at| [frame(1, 5, at * 2 + 1, &head), frame(3, 0, at * 2 + 1, &[0, 0, 0, 8])].concat())
        .collect();
    let empty: Vec<u8> = [frame(1, 4, 1, &[&[0x83][..], &head[1..]].concat())]
        .into_iter()
        .chain((0..200_000).map(|_| frame(0, 0, 1, &[])))
        .flatten()
        .collect();
    for (name, flood) in [("continuation", continuation), ("rapid reset", resets), ("empty data", empty)] {
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        let (mut read, mut write) = stream.split();
        let flooding = async {
            let opening = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(4, 0, 0, &[])].concat();
            if write.write_all(&opening).await.is_ok() {
                let _ = write.write_all(&flood).await;
            }
        };
        let ended = async {
            let mut sink = vec![0; 65536];
            while read.read(&mut sink).await.is_ok_and(|read| read > 0) {}
        };
        let both = tokio::time::timeout(Duration::from_secs(5), async { tokio::join!(flooding, ended) }).await;
        assert!(both.is_ok() || name == "empty data", "{name} is endured");
        assert_eq!(get(proxy.address, "/", "").await.status, 200, "{name}");
    }
}
