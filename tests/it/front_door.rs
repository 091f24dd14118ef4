//! The whole program in this process, as a browser and an app see it: real listeners, a real store, a clock that stands
//! still.

use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use loginsync::app::{self, Running};
use loginsync::cli::demo::journal::{Event, Journal};
use loginsync::clock::Clock;
use loginsync::config::{Config, Place, Surroundings};
use loginsync::login::outcome::Observer;
use loginsync::pipeline::ids::{Timestamp, UserId};
use loginsync::pipeline::mapping::RuleSet;
use loginsync::pipeline::plan::Plan;
use loginsync::ports::store::{AuditRow, Store, UserView};

/// What reached the app.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: String,
    pub target: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// Runs when a request reaches the app, before the app does anything else.
type OnArrival = Arc<dyn Fn(&HeaderMap) + Send + Sync>;

/// An app that keeps what it gets. What `/public` answers, every cache may keep, and `/silent` has an empty field about
/// that; `/leave` sends the browser to wherever [`App::leave_to`] says.
#[derive(Clone, Default)]
pub struct App {
    seen: Arc<Mutex<Vec<Seen>>>,
    leave_to: Arc<Mutex<Option<String>>>,
    sets: Arc<Mutex<Option<(u16, String)>>>,
    on_arrival: Arc<Mutex<Option<OnArrival>>>,
}

impl App {
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub fn leave_to(&self, address: &str) {
        *self.leave_to.lock().unwrap() = Some(address.to_owned());
    }

    /// From now on every answer to a POST has this status and sets this cookie.
    pub fn sets(&self, status: u16, cookie: &str) {
        *self.sets.lock().unwrap() = Some((status, cookie.to_owned()));
    }

    pub fn on_arrival(&self, look: impl Fn(&HeaderMap) + Send + Sync + 'static) {
        *self.on_arrival.lock().unwrap() = Some(Arc::new(look));
    }

    pub async fn start(&self) -> std::net::SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = self.clone();
        let router = axum::Router::new().fallback(move |request: axum::extract::Request| {
            let app = app.clone();
            async move { app.answer(request).await }
        });
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        address
    }

    async fn answer(&self, request: axum::extract::Request) -> Response<axum::body::Body> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        if parts.uri.path() == "/leave" {
            let address = self.leave_to.lock().unwrap().clone().unwrap();
            return Response::builder()
                .status(302)
                .header("location", address)
                .body(axum::body::Body::empty())
                .unwrap();
        }
        let look = self.on_arrival.lock().unwrap().clone();
        if let Some(look) = look {
            look(&parts.headers);
        }
        let seen =
            Seen { method: parts.method.to_string(), target: parts.uri.to_string(), headers: parts.headers, body };
        let posted = seen.method == "POST";
        let caching = match seen.target.as_str() {
            "/public" => Some("public, max-age=60"),
            "/silent" => Some(""),
            _ => None,
        };
        self.seen.lock().unwrap().push(seen);
        let mut response = Response::new(axum::body::Body::from("welcome"));
        if let Some((status, cookie)) = self.sets.lock().unwrap().clone().filter(|_| posted) {
            *response.status_mut() = status.try_into().unwrap();
            response.headers_mut().insert("set-cookie", cookie.parse().unwrap());
        }
        if let Some(caching) = caching {
            response.headers_mut().insert("cache-control", caching.parse().unwrap());
        }
        response
    }
}

/// The proxy, the app behind it, and everything that the plans said.
pub struct House {
    pub running: Running,
    pub app: App,
    journal: Arc<Journal>,
    pub clock: Clock,
    pub folder: tempfile::TempDir,
    pub app_url: String,
    client: Client<HttpConnector, Full<Bytes>>,
    place: Place,
}

/// An answer as the browser gets it.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: String,
}

impl House {
    /// Starts what a configuration text asks for, on free ports, with a store of its own. `file` is where relative paths
    /// start from.
    pub async fn open(text: &str, file: &Path, now: Timestamp) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::File(folder.path().join("store.db"));
        Self::fresh(text, file, Clock::fixed(now), folder, place).await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Over a store that may not be to be had: why it does not start.
    pub async fn try_open(place: Place, text: &str, file: &Path, clock: Clock) -> Result<Self, String> {
        Self::fresh(text, file, clock, tempfile::tempdir().unwrap(), place).await
    }

    async fn fresh(
        text: &str,
        file: &Path,
        clock: Clock,
        folder: tempfile::TempDir,
        place: Place,
    ) -> Result<Self, String> {
        let app = App::default();
        let app_url = format!("http://{}", app.start().await);
        Self::start(text, file, clock, app, app_url, folder, place).await
    }

    /// Stops, and starts again over the same store and the same app.
    pub async fn restart(self, text: &str, file: &Path) -> Self {
        let Self { running, app, clock, folder, app_url, place, .. } = self;
        running.stop().await;
        let started = Self::start(text, file, clock, app, app_url, folder, place);
        started.await.unwrap_or_else(|error| panic!("{error}"))
    }

    async fn start(
        text: &str,
        file: &Path,
        clock: Clock,
        app: App,
        app_url: String,
        folder: tempfile::TempDir,
        place: Place,
    ) -> Result<Self, String> {
        let now = clock.now();
        let around = Surroundings { file, read: &|path| std::fs::read(path), environment: &|_| None, now };
        let mut config = Config::from_text(text, &around).unwrap_or_else(|faults| panic!("{faults}"));
        config.app.url = app_url.parse().unwrap();
        config.listen.address = ([127, 0, 0, 1], 0).into();
        config.admin.address = ([127, 0, 0, 1], 0).into();
        config.store.place = place.clone();
        let journal: Arc<Journal> = Arc::default();
        let observer: Arc<dyn Observer> = Arc::<Journal>::clone(&journal);
        let path = folder.path().join("unwatched.toml");
        let running = Box::pin(app::start(path, config, clock.clone(), Some(observer)))
            .await
            .map_err(|error| error.to_string())?;
        let client = Client::builder(TokioExecutor::new()).build_http();
        Ok(Self { running, app, journal, clock, folder, app_url, client, place })
    }

    /// How much has happened, to ask [`Self::plans_after`] for what comes next.
    pub fn happened(&self) -> usize {
        self.journal.count()
    }

    /// The plans that were committed since.
    pub fn plans_after(&self, seen: usize) -> Vec<Plan> {
        let plan = |event| match event {
            Event::Committed(plan) => Some(*plan),
            Event::Refused { .. } => None,
        };
        self.journal.after(seen).into_iter().filter_map(plan).collect()
    }

    pub fn store(&self) -> &Store {
        &self.running.store
    }

    /// What a user holds now.
    pub async fn view(&self, user: UserId) -> Option<UserView> {
        self.store().user(user, self.rules(), self.clock.now()).await.unwrap()
    }

    pub fn rules(&self) -> Arc<RuleSet> {
        self.running.rules.current()
    }

    /// Sends one request. `target` is a path, perhaps with a query.
    pub async fn send(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.send_to(self.running.proxy, method, target, headers, body).await
    }

    /// Sends one request to a listener of the program.
    pub async fn send_to(
        &self,
        listener: std::net::SocketAddr,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(format!("http://{listener}{target}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::copy_from_slice(body))).unwrap();
        let (parts, body) = self.client.request(request).await.unwrap().into_parts();
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let body = String::from_utf8_lossy(&body).into_owned();
        Answer { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    /// What stands at another address of the program: its admin pages.
    pub async fn fetch(&self, address: &str) -> String {
        let request = Request::get(address).body(Full::new(Bytes::new())).unwrap();
        let body = self.client.request(request).await.unwrap().into_body().collect().await.unwrap().to_bytes();
        String::from_utf8_lossy(&body).into_owned()
    }

    /// Lets the app send the browser to a provider, and gives the cookies that it comes back with.
    pub async fn leave(&self, address: &str) -> String {
        self.app.leave_to(address);
        let answer = self.send("GET", "/leave", &[], b"").await;
        assert_eq!(answer.status, 302);
        let cookies = answer.headers.get_all("set-cookie").iter();
        let pairs: Vec<&str> = cookies.map(|cookie| cookie.to_str().unwrap().split(';').next().unwrap()).collect();
        pairs.join("; ")
    }

    /// Every membership that the store has, one a line: what must not change when a login is refused.
    pub async fn memberships(&self) -> String {
        let mut lines = Vec::new();
        for user in self.store().users(None, 1000).await.unwrap() {
            let view = self.view(user).await.unwrap();
            let name = format!("{}/{}", view.namespace, view.subject);
            let state = if view.enabled { "" } else { " (disabled)" };
            lines.push(format!("{name}{state}: groups {:?}, roles {:?}", view.groups, view.roles));
            for membership in &view.memberships {
                let (kind, type_of) = (membership.kind, membership.membership);
                lines.push(format!("  {kind} {} {type_of}", membership.name));
            }
        }
        lines.join("\n") + "\n"
    }

    pub async fn events(&self) -> Vec<AuditRow> {
        self.store().audit(0, 1000).await.unwrap()
    }
}
