//! A client that writes raw bytes.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use loginsync::config::TlsFiles;
use loginsync::serve::tls::Tls;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::app::find;

/// An answer, with its body whole.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
    /// The connection ended after it.
    pub closed: bool,
}

impl Answer {
    pub fn all(&self, name: &str) -> Vec<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).collect()
    }

    pub fn one(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }

    /// The `name=value` of every cookie that is set and not cleared.
    pub fn cookies(&self) -> Vec<String> {
        let set = self.all("set-cookie").into_iter().filter(|cookie| !cookie.contains("Max-Age=0"));
        set.map(|cookie| cookie.split(';').next().unwrap_or_default().to_owned()).collect()
    }
}

/// Sends one request on a connection of its own and reads the answer to it.
pub async fn send(address: SocketAddr, request: impl AsRef<[u8]>) -> Answer {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_ref()).await.unwrap();
    answer(&mut stream).await
}

pub async fn get(address: SocketAddr, target: &str, headers: &str) -> Answer {
    send(address, format!("GET {target} HTTP/1.1\r\nhost: app.example\r\n{headers}\r\n")).await
}

pub async fn post(address: SocketAddr, target: &str, headers: &str, body: &str) -> Answer {
    send(address, post_bytes(target, headers, body)).await
}

pub fn post_bytes(target: &str, headers: &str, body: &str) -> String {
    format!(
        "POST {target} HTTP/1.1\r\nhost: app.example\r\ncontent-type: application/x-www-form-urlencoded\r\n\
         content-length: {}\r\n{headers}\r\n{body}",
        body.len()
    )
}

/// Reads one answer, and looks whether the connection ends after it.
pub async fn answer(stream: &mut (impl AsyncRead + Unpin)) -> Answer {
    let mut answer = read(stream).await;
    let mut byte = [0; 1];
    let announced = answer.head.to_ascii_lowercase().contains("\r\nconnection: close");
    let patience = Duration::from_millis(if announced { 5000 } else { 20 });
    let ended = tokio::time::timeout(patience, stream.read(&mut byte)).await;
    answer.closed = matches!(ended, Ok(Ok(0) | Err(_)));
    answer
}

/// The same where the connection may end without one.
pub async fn answer_if_any(stream: &mut TcpStream) -> Option<Answer> {
    let mut byte = [0; 1];
    let first = tokio::time::timeout(Duration::from_secs(10), stream.peek(&mut byte)).await.expect("nothing happens");
    match first {
        Ok(0) | Err(_) => None,
        Ok(_) => Some(answer(stream).await),
    }
}

/// Reads one answer.
pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Answer {
    tokio::time::timeout(Duration::from_secs(10), read_whole(stream)).await.expect("no answer")
}

async fn read_whole(stream: &mut (impl AsyncRead + Unpin)) -> Answer {
    let mut buffer = Vec::new();
    let end = loop {
        if let Some(at) = find(&buffer, b"\r\n\r\n") {
            break at + 4;
        }
        let read = stream.read_buf(&mut buffer).await.unwrap_or(0);
        assert!(read > 0, "the connection ended after {:?}", String::from_utf8_lossy(&buffer));
    };
    let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
    let mut rest = buffer.split_off(end);
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let mut answer = Answer { status, head, body: String::new(), closed: false };
    if let Some(length) = answer.one("content-length").and_then(|length| length.parse::<usize>().ok()) {
        while rest.len() < length && stream.read_buf(&mut rest).await.unwrap_or(0) > 0 {}
    } else if answer.one("transfer-encoding").is_some() {
        while !rest.ends_with(b"0\r\n\r\n") && stream.read_buf(&mut rest).await.unwrap_or(0) > 0 {}
    }
    answer.body = String::from_utf8_lossy(&rest).into_owned();
    answer
}

/// A self-signed certificate in files.
pub fn certificate(folder: &Path) -> Tls {
    Tls::load(&certificate_files(folder)).unwrap()
}

pub fn certificate_files(folder: &Path) -> TlsFiles {
    let made = rcgen::generate_simple_self_signed(vec!["app.example".into()]).unwrap();
    let files = TlsFiles { certificate: folder.join("tls.crt"), key: folder.join("tls.key") };
    std::fs::write(&files.certificate, made.cert.pem()).unwrap();
    std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    files
}
