//! Listeners for few clients: the relay's, for the app alone, and the admin listener. Bounded all the same.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use super::arriving::Arriving;
use super::tls::Tls;

/// How long a head may take, a TLS handshake, and a kept connection until its next request.
const HEAD: Duration = Duration::from_secs(75);
const HANDSHAKE: Duration = Duration::from_secs(15);
/// How long requests under way may take once the process is to end.
const DRAIN: Duration = Duration::from_secs(25);
/// Bytes of a head, and of what is read ahead.
const MAX_HEAD: usize = 64 * 1024;
/// Requests at a time on one HTTP/2 connection, and bytes of their bodies that may arrive unread.
const STREAMS: u32 = 64;
const WINDOW: u32 = 128 * 1024;

/// A listener, and how it takes connections.
pub struct Side {
    pub listener: TcpListener,
    /// For the log.
    pub name: &'static str,
    /// Further connections wait in the kernel's queue until there is a place.
    pub most_connections: usize,
    pub tls: Option<Arc<Tls>>,
}

impl Side {
    /// Serves until `shutdown` is ready, then lets requests under way finish.
    pub async fn run<F, A, B>(self, answer: F, shutdown: impl Future<Output = ()>)
    where
        F: Fn(SocketAddr, Request<Arriving>) -> A + Clone + Send + 'static,
        A: Future<Output = Response<B>> + Send + 'static,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let Self { listener, name, most_connections, tls } = self;
        let places = Arc::new(Semaphore::new(most_connections.min(Semaphore::MAX_PERMITS)));
        let acceptor = tls.map(Tls::acceptor);
        let graceful = GracefulShutdown::new();
        let accepting = async {
            loop {
                let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
                let (stream, address) = match listener.accept().await {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        tracing::error!(%error, listener = name, "a connection cannot be accepted");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        continue;
                    }
                };
                let (answer, acceptor, watcher) = (answer.clone(), acceptor.clone(), graceful.watcher());
                tokio::spawn(async move {
                    connection(stream, address, answer, acceptor, watcher).await;
                    drop(place);
                });
            }
        };
        tokio::select! {
            () = accepting => {}
            () = shutdown => {}
        }
        drop(listener);
        if tokio::time::timeout(DRAIN, graceful.shutdown()).await.is_err() {
            tracing::warn!(listener = name, "cut off requests that did not end in time");
        }
    }
}

async fn connection<F, A, B>(
    stream: TcpStream,
    address: SocketAddr,
    answer: F,
    acceptor: Option<TlsAcceptor>,
    watcher: Watcher,
) where
    F: Fn(SocketAddr, Request<Arriving>) -> A + Send + 'static,
    A: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    // Without it small answers wait for an acknowledgement; a socket that refuses it works all the same.
    let _ = stream.set_nodelay(true);
    let Some(acceptor) = acceptor else { return serve(stream, address, answer, watcher).await };
    if let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Box::pin(serve(stream, address, answer, watcher)).await;
    }
}

async fn serve<S, F, A, B>(stream: S, address: SocketAddr, answer: F, watcher: Watcher)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Fn(SocketAddr, Request<Arriving>) -> A + Send + 'static,
    A: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(MAX_HEAD);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(16 * 1024)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .keep_alive_interval(Duration::from_secs(30));
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = answer(address, Arriving::request(request, None));
        async move { Ok::<_, std::convert::Infallible>(answer.await) }
    });
    // A client that breaks off is not a fault that could be mended here.
    let _ = watcher.watch(builder.serve_connection(TokioIo::new(stream), service)).await;
}
