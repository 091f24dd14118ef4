//! An app that records the very bytes it receives.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// One request, as it came over the wire.
#[derive(Debug, Clone, Default)]
pub struct Received {
    pub head: String,
    /// Without its chunks' framing.
    pub body: Vec<u8>,
    /// The sizes of its chunks.
    pub chunks: Vec<usize>,
    /// Trailer fields as they came.
    pub trailers: String,
    /// Whether the body came to its end.
    pub complete: bool,
}

impl Received {
    pub fn line(&self) -> &str {
        self.head.lines().next().unwrap_or_default()
    }

    pub fn target(&self) -> &str {
        self.line().split(' ').nth(1).unwrap_or_default()
    }

    /// The body as a server hands it on that does not decode chunks.
    pub fn undecoded(&self) -> Vec<u8> {
        let (mut rest, mut text) = (self.body.as_slice(), Vec::new());
        for size in &self.chunks {
            let (chunk, behind) = rest.split_at(*size);
            text.extend([format!("{size:x}\r\n").as_bytes(), chunk, b"\r\n"].concat());
            rest = behind;
        }
        text.extend(b"0\r\n\r\n");
        text
    }

    /// Values of every line of a name, in whatever case.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).collect()
    }

    pub fn one(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }
}

/// What the app does with a request.
pub enum Reply {
    Bytes(Vec<u8>),
    /// Bytes, and then the connection stays, saying nothing.
    Stall(Vec<u8>),
    /// Never answers.
    Hang,
    Close,
    /// Agrees to switch protocols, then echoes.
    Switch,
    Wait(Duration, Vec<u8>),
}

pub fn ok(body: &str) -> Reply {
    respond("200 OK", "", body)
}

pub fn respond(status: &str, headers: &str, body: &str) -> Reply {
    Reply::Bytes(format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len()).into_bytes())
}

pub struct App {
    pub address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
}

type Handler = dyn Fn(&Received) -> Reply + Send + Sync;

impl App {
    pub async fn start() -> Self {
        Self::with(|_| ok("hello")).await
    }

    pub async fn with(handler: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let received = Arc::new(Mutex::new(Vec::new()));
        let (records, handler): (_, Arc<Handler>) = (Arc::clone(&received), Arc::new(handler));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(converse(stream, Arc::clone(&records), Arc::clone(&handler)));
            }
        });
        Self { address, received }
    }

    pub fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    /// The only request there was.
    pub fn only(&self) -> Received {
        let received = self.received();
        assert_eq!(received.len(), 1, "{received:#?}");
        received[0].clone()
    }

    pub fn last(&self) -> Received {
        self.received().last().expect("no request came").clone()
    }

    /// Requests that came to their end.
    pub fn complete(&self) -> usize {
        self.received().iter().filter(|request| request.complete).count()
    }
}

async fn converse(mut stream: TcpStream, records: Arc<Mutex<Vec<Received>>>, handler: Arc<Handler>) {
    let mut buffer = Vec::new();
    while let Some((request, rest)) = read(&mut stream, std::mem::take(&mut buffer)).await {
        buffer = rest;
        records.lock().unwrap().push(request.clone());
        if !request.complete {
            return;
        }
        match handler(&request) {
            Reply::Bytes(bytes) => {
                if stream.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            Reply::Stall(bytes) => {
                let _ = stream.write_all(&bytes).await;
                tokio::time::sleep(Duration::from_secs(60)).await;
            }
            Reply::Wait(time, bytes) => {
                tokio::time::sleep(time).await;
                let _ = stream.write_all(&bytes).await;
            }
            Reply::Hang => tokio::time::sleep(Duration::from_secs(60)).await,
            Reply::Close => return,
            Reply::Switch => {
                let head = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
                let _ = stream.write_all(head.as_bytes()).await;
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
                return;
            }
        }
    }
}

async fn read(stream: &mut TcpStream, mut buffer: Vec<u8>) -> Option<(Received, Vec<u8>)> {
    let end = loop {
        if let Some(at) = find(&buffer, b"\r\n\r\n") {
            break at + 4;
        }
        more(stream, &mut buffer).await?;
    };
    let mut request = Received { head: String::from_utf8_lossy(&buffer[..end]).into_owned(), ..Received::default() };
    let mut rest = buffer.split_off(end);
    if request.one("transfer-encoding").is_some() {
        request.complete = chunks(stream, &mut rest, &mut request).await.is_some();
        return Some((request, rest));
    }
    let length: usize = request.one("content-length").map_or(0, |length| length.parse().unwrap());
    while rest.len() < length {
        if more(stream, &mut rest).await.is_none() {
            request.body = rest;
            return Some((request, Vec::new()));
        }
    }
    let after = rest.split_off(length);
    (request.body, request.complete) = (rest, true);
    Some((request, after))
}

async fn chunks(stream: &mut TcpStream, rest: &mut Vec<u8>, request: &mut Received) -> Option<()> {
    loop {
        let line = line(stream, rest).await?;
        let size = usize::from_str_radix(line.trim(), 16).unwrap();
        if size == 0 {
            loop {
                let trailer = self::line(stream, rest).await?;
                if trailer.trim().is_empty() {
                    return Some(());
                }
                request.trailers.push_str(&trailer);
            }
        }
        while rest.len() < size + 2 {
            more(stream, rest).await?;
        }
        request.body.extend(rest.drain(..size));
        request.chunks.push(size);
        rest.drain(..2);
    }
}

async fn line(stream: &mut TcpStream, rest: &mut Vec<u8>) -> Option<String> {
    loop {
        if let Some(at) = find(rest, b"\r\n") {
            return Some(String::from_utf8_lossy(&rest.drain(..at + 2).collect::<Vec<u8>>()).into_owned());
        }
        more(stream, rest).await?;
    }
}

async fn more(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<()> {
    let read = stream.read_buf(buffer).await.ok()?;
    (read > 0).then_some(())
}

pub fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}
