//! The admin listener, on a thread of its own.
//!
//! `/healthz` has to answer when nothing else does, so the thread that answers it shares nothing with the threads that it
//! reports on: it has a runtime of its own, and hands every other request to theirs.

use std::net::SocketAddr;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{Method, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

use super::{Inspect, pages};
use crate::serve::side::Side;
use crate::telemetry::watchdog::{LOOK, Watchdog};

/// Connections at a time.
pub const MOST_CONNECTIONS: usize = 256;

/// Starts the thread. What comes back resolves when it has ended, some time after `shutdown`.
///
/// # Errors
/// When the system gives no thread, or no runtime for it.
pub fn spawn(
    listener: TcpListener,
    inspect: Arc<dyn Inspect>,
    watchdog: Watchdog,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<impl Future<Output = ()> + Send + 'static> {
    let listener = listener.into_std()?;
    let workers = Handle::current();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (ends, ended) = oneshot::channel::<()>();
    std::thread::Builder::new().name("admin".into()).spawn(move || {
        runtime.block_on(async move {
            let stuck = look_after(watchdog);
            let desk = Desk { pages: pages(inspect), workers, stuck };
            match TcpListener::from_std(listener) {
                Ok(listener) => serve(listener, desk, shutdown).await,
                Err(error) => tracing::error!(%error, "the admin listener cannot be served"),
            }
        });
        drop(ends);
    })?;
    Ok(async move {
        let _ = ended.await;
    })
}

async fn serve(listener: TcpListener, desk: Desk, shutdown: impl Future<Output = ()>) {
    let answer = move |address, request| {
        let desk = desk.clone();
        async move { desk.answer(address, request).await }
    };
    Side { listener, name: "admin", most_connections: MOST_CONNECTIONS, tls: None }.run(answer, shutdown).await;
}

/// Looks at the other threads once a second; what comes back says what is stuck.
fn look_after(mut watchdog: Watchdog) -> watch::Receiver<Option<String>> {
    let (found, stuck) = watch::channel(None);
    tokio::spawn(async move {
        let mut look = tokio::time::interval(LOOK);
        // After a pause of the whole process one look is made, not all that were missed.
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            look.tick().await;
            let now = watchdog.look();
            if now.is_some() != found.borrow().is_some() {
                match &now {
                    Some(what) => {
                        tracing::error!(what, "stuck; `/healthz` fails until it moves or the process restarts")
                    }
                    None => tracing::warn!("what was stuck has moved on"),
                }
            }
            found.send_replace(now);
        }
    });
    stuck
}

/// What answers a request.
#[derive(Clone)]
struct Desk {
    pages: Router,
    /// Where everything but `/healthz` is answered.
    workers: Handle,
    stuck: watch::Receiver<Option<String>>,
}

impl Desk {
    async fn answer(&self, address: SocketAddr, request: Request<Incoming>) -> Response {
        // Behind stuck threads a request would wait for ever, and hold its connection.
        let stuck = self.stuck.borrow().clone();
        if let Some(what) = stuck {
            return (StatusCode::SERVICE_UNAVAILABLE, format!("{what}; restart this process\n")).into_response();
        }
        if request.uri().path() == "/healthz" {
            return health(request.method());
        }
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(address));
        let pages = TowerToHyperService::new(self.pages.clone());
        let answer =
            self.workers.spawn(async move { pages.call(request).await.unwrap_or_else(|never| match never {}) });
        answer.await.unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
    }
}

fn health(method: &Method) -> Response {
    match *method {
        Method::GET | Method::HEAD => "ok\n".into_response(),
        _ => (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "GET, HEAD")]).into_response(),
    }
}
