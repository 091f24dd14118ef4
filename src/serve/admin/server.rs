//! The admin listener, on a thread of its own.
//!
//! `/healthz` has to answer when nothing else does, so the thread that answers it shares nothing with the threads that it
//! reports on: it has a runtime of its own, and hands every other request to theirs.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{Method, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body_util::{Full, Limited};
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

use super::http::MOST_BODY;
use super::{Inspect, console, pages};
use crate::config;
use crate::serve::arriving::Arriving;
use crate::serve::held::Client;
use crate::serve::respond::Trouble;
use crate::serve::side::Side;
use crate::serve::tls::Tls;
use crate::serve::whole;
use crate::telemetry::watchdog::{LOOK, Watchdog};

/// Connections at a time.
pub const MOST_CONNECTIONS: usize = 256;
/// Bytes of a body that comes without credentials: a client's request for a token.
const UNKNOWN_BODY: usize = 16 << 10;
/// How long a body may take to arrive.
const BODY_TIME: Duration = Duration::from_secs(30);

/// Starts the thread. What comes back resolves when it has ended, some time after `shutdown`.
///
/// # Errors
/// When the system gives no thread, or no runtime for it.
pub fn spawn(
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
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
            let (stop, stopping) = watch::channel(false);
            let shutdown = async move {
                shutdown.await;
                let _ = stop.send(true);
            };
            let desk = Desk { pages: pages(Arc::clone(&inspect), stopping), inspect, workers, stuck };
            match TcpListener::from_std(listener) {
                Ok(listener) => serve(listener, tls, desk, shutdown).await,
                Err(error) => tracing::error!(%error, "the admin listener cannot be served"),
            }
        });
        drop(ends);
    })?;
    Ok(async move {
        let _ = ended.await;
    })
}

async fn serve(listener: TcpListener, tls: Option<Arc<Tls>>, desk: Desk, shutdown: impl Future<Output = ()>) {
    let answer = move |address, request| {
        let desk = desk.clone();
        async move { desk.answer(address, request).await }
    };
    Side { listener, name: "admin", most_connections: MOST_CONNECTIONS, tls }.run(answer, shutdown).await;
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
    inspect: Arc<dyn Inspect>,
    pages: Router,
    /// Where everything but `/healthz` is answered.
    workers: Handle,
    stuck: watch::Receiver<Option<String>>,
}

impl Desk {
    async fn answer(&self, address: SocketAddr, request: Request<Arriving>) -> Response {
        // Behind stuck threads a request would wait for ever, and hold its connection.
        let stuck = self.stuck.borrow().clone();
        if let Some(what) = stuck {
            return (StatusCode::SERVICE_UNAVAILABLE, format!("{what}; restart this process\n")).into_response();
        }
        if request.uri().path() == "/healthz" {
            return health(request.method());
        }
        let desk = self.clone();
        let answer = self.workers.spawn(async move { desk.answer_by_workers(address, request).await });
        answer.await.unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
    }

    async fn answer_by_workers(self, address: SocketAddr, request: Request<Arriving>) -> Response {
        if !is_asked_by_its_name(&self.inspect.config().admin, &request) {
            let why = "this listener is not asked by that name; add it to `admin.hosts`, or set `admin.public_url`\n";
            return (StatusCode::MISDIRECTED_REQUEST, why).into_response();
        }
        let (parts, body) = request.into_parts();
        // Who calls is known later; until then a body is a stranger's.
        let asks_as = if parts.uri.path().starts_with(console::ROOT) { header::COOKIE } else { header::AUTHORIZATION };
        let limit = if parts.headers.contains_key(asks_as) { MOST_BODY } else { UNKNOWN_BODY };
        let held = self.inspect.held().open(Some(Client::of(address.ip())));
        let body = match whole::read(body, limit, BODY_TIME, held).await {
            Ok(body) => Body::from(body),
            // Each API says this in its own words.
            Err(Trouble::BodyTooLarge { .. }) => Body::new(Limited::new(Full::from("{}"), 0)),
            Err(Trouble::Full(full)) => {
                let later = [(header::RETRY_AFTER, "5"), (header::CONNECTION, "close")];
                return (StatusCode::SERVICE_UNAVAILABLE, later, format!("{full}; try again\n")).into_response();
            }
            Err(_) => return (StatusCode::REQUEST_TIMEOUT, "the body did not arrive whole\n").into_response(),
        };
        let mut request = Request::from_parts(parts, body);
        request.extensions_mut().insert(ConnectInfo(address));
        TowerToHyperService::new(self.pages).call(request).await.unwrap_or_else(|never| match never {})
    }
}

/// Browsers can be made to ask any address by a name of a stranger's (DNS rebinding), and then they name that in `Host`. Names
/// that no stranger can give an address are taken: addresses themselves, `localhost`, and those that are configured.
fn is_asked_by_its_name<B>(admin: &config::Admin, request: &Request<B>) -> bool {
    let mut named = request.headers().get_all(header::HOST).iter().map(|host| host.to_str().unwrap_or_default());
    let authority = match (named.next(), named.next(), request.uri().authority()) {
        (Some(_), Some(_), _) => "",
        (Some(host), None, _) => host,
        (None, _, Some(authority)) => authority.as_str(),
        // HTTP/1.0: no browser.
        (None, _, None) => return true,
    };
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    };
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let is_address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok();
    let is_public = admin.public_url.as_ref().and_then(|url| url.host_str()).is_some_and(|public| public == host);
    is_address || host == "localhost" || is_public || admin.hosts.contains(&host)
}

fn health(method: &Method) -> Response {
    match *method {
        Method::GET | Method::HEAD => "ok\n".into_response(),
        _ => (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "GET, HEAD")]).into_response(),
    }
}
