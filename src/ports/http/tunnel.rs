//! Connections to providers: direct, or through the tunnel that an egress proxy opens.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tower_service::Service;

use crate::config::{Egress, is_private};

/// Bytes of a proxy's answer.
const MOST: usize = 8192;

/// Connects to where a request goes. What is plain http goes to private addresses alone, and so never through a proxy.
#[derive(Clone)]
pub struct Way {
    direct: HttpConnector,
    egress: Option<Arc<Egress>>,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

impl Way {
    pub fn new(egress: Option<Arc<Egress>>) -> Self {
        let mut direct = HttpConnector::new();
        direct.enforce_http(false);
        Self { direct, egress }
    }
}

impl Service<Uri> for Way {
    type Response = TokioIo<TcpStream>;
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Failure>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.direct.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, address: Uri) -> Self::Future {
        if address.scheme_str() == Some("http") {
            return Box::pin(inside(address));
        }
        let is_carried = |egress: &&Arc<Egress>| address.host().is_some_and(|host| egress.carries(host));
        match self.egress.as_ref().filter(is_carried) {
            Some(egress) => Box::pin(through(Arc::clone(egress), address)),
            None => {
                let connecting = self.direct.call(address);
                Box::pin(async move { connecting.await.map_err(Into::into) })
            }
        }
    }
}

/// Connects to a private address. What a name leads to is looked at here, for each connection: it may change.
async fn inside(address: Uri) -> Result<TokioIo<TcpStream>, Failure> {
    let host = address.host().unwrap_or_default().trim_matches(['[', ']']);
    let found: Vec<_> = tokio::net::lookup_host((host, address.port_u16().unwrap_or(80))).await?.collect();
    if let Some(outside) = found.iter().find(|found| !is_private(found.ip())) {
        let why = format!(
            "`{host}` is at {}, which is not a private address, and plain http is for these alone",
            outside.ip()
        );
        return Err(io::Error::other(why).into());
    }
    let mut failed = io::Error::new(io::ErrorKind::NotFound, format!("`{host}` has no address"));
    for one in found {
        match TcpStream::connect(one).await {
            Ok(stream) => return Ok(TokioIo::new(stream)),
            Err(error) => failed = error,
        }
    }
    Err(failed.into())
}

async fn through(egress: Arc<Egress>, address: Uri) -> Result<TokioIo<TcpStream>, Failure> {
    let failed = |why: String| io::Error::other(format!("the egress proxy {why}"));
    let connected = TcpStream::connect((egress.host.as_str(), egress.port)).await;
    let mut stream = connected.map_err(|error| failed(format!("cannot be reached: {error}")))?;
    let host = address.host().unwrap_or_default();
    let target = format!("{host}:{}", address.port_u16().unwrap_or(443));
    let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n").into_bytes();
    if let Some(authorization) = &egress.authorization {
        request.extend_from_slice(b"Proxy-Authorization: ");
        request.extend_from_slice(authorization.expose());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    stream.write_all(&request).await?;
    let mut answer = Vec::with_capacity(512);
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() >= MOST {
            return Err(failed(format!("answered with more than {MOST} bytes")).into());
        }
        // Byte by byte: what follows the answer's head is the tunnel's.
        answer.push(stream.read_u8().await.map_err(|_| failed("closed the connection".into()))?);
    }
    let status = answer.strip_prefix(b"HTTP/1.1 ").or_else(|| answer.strip_prefix(b"HTTP/1.0 "));
    let status = status.and_then(|rest| rest.get(..3)).and_then(|status| std::str::from_utf8(status).ok());
    match status.and_then(|status| status.parse::<u16>().ok()) {
        Some(200..=299) => Ok(TokioIo::new(stream)),
        Some(status) => Err(failed(format!("refuses `{target}` with status {status}")).into()),
        None => Err(failed("answered what is not HTTP".into()).into()),
    }
}
