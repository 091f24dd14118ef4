//! The relay's connections: few, from the app alone, and bounded all the same.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::Request;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use super::{Relay, handle};
use crate::serve::listen::Tls;

/// How long a head may take, a TLS handshake, and a kept connection until its next request.
const HEAD: Duration = Duration::from_secs(75);
const HANDSHAKE: Duration = Duration::from_secs(15);
/// How long exchanges under way may take once the process is to end.
const DRAIN: Duration = Duration::from_secs(25);
const MAX_HEAD: usize = 64 * 1024;

/// Serves until `shutdown` is ready, then lets exchanges under way finish.
///
/// What answers is read anew for every request, so a reload reaches open connections too.
pub async fn run(
    listener: TcpListener,
    relay: Arc<ArcSwap<Relay>>,
    tls: Option<Arc<Tls>>,
    shutdown: impl Future<Output = ()>,
) {
    let places = Arc::new(Semaphore::new(relay.load().settings.max_connections.min(Semaphore::MAX_PERMITS)));
    let acceptor = tls.map(Tls::acceptor);
    let graceful = GracefulShutdown::new();
    let accepting = async {
        loop {
            // Further connections wait in the kernel's queue until there is a place.
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::error!(%error, "a connection to the relay cannot be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let (relay, acceptor, watcher) = (Arc::clone(&relay), acceptor.clone(), graceful.watcher());
            tokio::spawn(async move {
                connection(stream, relay, acceptor, watcher).await;
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
        tracing::warn!("exchanges of the relay were cut off, since they did not end in time");
    }
}

async fn connection(stream: TcpStream, relay: Arc<ArcSwap<Relay>>, acceptor: Option<TlsAcceptor>, watcher: Watcher) {
    // Without it small answers wait for an acknowledgement; a socket that refuses it works all the same.
    let _ = stream.set_nodelay(true);
    let Some(acceptor) = acceptor else { return serve(stream, relay, watcher).await };
    if let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Box::pin(serve(stream, relay, watcher)).await;
    }
}

async fn serve<S>(stream: S, relay: Arc<ArcSwap<Relay>>, watcher: Watcher)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(MAX_HEAD);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(64).keep_alive_interval(Duration::from_secs(30));
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = Box::pin(handle(relay.load_full(), request));
        async move { Ok::<_, std::convert::Infallible>(answer.await.map(Full::new)) }
    });
    // A client that breaks off is nobody's fault that could be helped.
    let _ = watcher.watch(builder.serve_connection(TokioIo::new(stream), service)).await;
}
