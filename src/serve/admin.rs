//! The admin listener: health, readiness and metrics, for operators, and the APIs, for those who say who they are.

pub mod auth;
mod console;
pub mod http;
mod limit;
mod odc;
mod onelogin;
mod opal;
pub mod server;
pub mod service;
mod strict;
mod timbal;
mod v1;

use std::sync::{Arc, LazyLock};

use axum::Json;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use prometheus_client::registry::Registry;
use serde::Serialize;
use tokio::sync::watch;

use self::http::Admin;
use self::service::{Draft, Refused, World};
use crate::config::{Config, Ready};
use crate::login::outcome::Outcomes;
use crate::pipeline::ids::{ProviderName, Timestamp, UserId};
use crate::pipeline::mapping::RuleSet;
use crate::pipeline::mapping::stored::Stored;
use crate::ports::BoxFuture;
use crate::ports::catalogue::Catalogue;
use crate::ports::keys::KeySource;
use crate::ports::publish::Receiver;
use crate::ports::store::{Store, StoreError};
use crate::serve::held::Budget;
use crate::serve::relying_party::operators::Operators;
use crate::serve::relying_party::renewal::Renewed;
use crate::serve::respond::Trouble;
use crate::telemetry::meters::Meters;

/// What the admin pages look at.
pub trait Inspect: Send + Sync + 'static {
    fn store(&self) -> Arc<Store>;
    fn keys(&self) -> Arc<dyn KeySource>;
    fn providers(&self) -> Vec<ProviderName>;
    fn registry(&self) -> Arc<Registry>;
    /// What is held of requests' bodies.
    fn held(&self) -> Arc<Budget>;
    fn rules(&self) -> Arc<RuleSet>;
    fn meters(&self) -> Arc<Meters>;
    /// What became of logins.
    fn outcomes(&self) -> Arc<Outcomes>;
    fn config(&self) -> Arc<Config>;
    fn catalogue(&self) -> Arc<dyn Catalogue>;
    /// What the APIs have made.
    fn stored(&self) -> Arc<Stored>;
    /// The rules of the configuration file alone.
    fn file_rules(&self) -> Arc<RuleSet>;
    fn now(&self) -> Timestamp;
    /// A receiver of this name, ready for deliveries.
    fn receiver(&self, name: &str) -> Option<Arc<dyn Receiver>>;
    /// What a change would be planned on now. What a change really is planned on, [`Self::change`] takes under its lock.
    fn world(&self) -> World;
    /// Who signs operators in to the console, where a provider does.
    fn operators(&self) -> Option<Arc<Operators>>;
    /// Asks the provider again for every session of a user that can be renewed.
    fn resync(&self, user: UserId) -> BoxFuture<'_, Result<Vec<Renewed>, Trouble>>;
    /// Plans a change on the current state, alone, writes it, and makes it what logins are decided by.
    fn change(&self, change: Change) -> BoxFuture<'_, Result<(), Refused>>;
}

/// Plans a change on what there is.
pub type Edit = Box<dyn FnOnce(&World) -> Result<Draft, Refused> + Send>;

/// A change of groups, roles, mappings or aliases.
pub struct Change {
    pub edit: Edit,
    /// May revoke over the brake's limit.
    pub confirmed: bool,
    /// The client that asks, by its name.
    pub client: String,
}

/// Everything on the admin listener but `/healthz`, which [`server`] answers itself. What streams ends when `stopping` says so.
fn pages(inspect: Arc<dyn Inspect>, stopping: watch::Receiver<bool>) -> Router {
    let admin = Admin::new(Arc::clone(&inspect));
    let console = {
        let admin = admin.clone();
        later(move || console::routes(admin, stopping))
    };
    let apis = later(move || apis(admin));
    Router::new().route("/readyz", get(readiness)).route("/metrics", get(metrics)).with_state(inspect).fallback(
        move |request: Request| match console::is_asked(request.uri().path()) {
            true => console(request),
            false => apis(request),
        },
    )
}

/// Makes routes when a client first asks for one. Those of the APIs bring their documents, which take half as long to make, and
/// as much memory, as all the rest of a start; without API calls they cost nothing.
fn later(
    make: impl FnOnce() -> Router + Send + 'static,
) -> impl Fn(Request) -> BoxFuture<'static, Response> + Clone + Send + Sync + 'static {
    let make = Arc::new(LazyLock::<Router, _>::new(make));
    move |request| {
        let routes = TowerToHyperService::new(LazyLock::force(&make).clone());
        Box::pin(async move { routes.call(request).await.unwrap_or_else(|never| match never {}) })
    }
}

/// Our own API and those of the systems whose clients work here, each with the document that describes it.
fn apis(admin: Admin) -> Router {
    let faces = [
        ("/api/v1/openapi.json", v1::routes(&admin)),
        ("/openapi/opal.json", opal::routes(&admin)),
        ("/openapi/timbal.json", timbal::routes(&admin)),
        ("/openapi/onelogin.json", onelogin::routes(&admin)),
        ("/openapi/odc.json", odc::routes(&admin)),
    ];
    let mut all = Router::new();
    for (path, (routes, document)) in faces {
        let text = bytes::Bytes::from(document.to_json().unwrap_or_default());
        let show = move || async move { ([(header::CONTENT_TYPE, "application/json")], text.clone()) };
        all = all.merge(routes).route(path, get(show));
    }
    all.layer(DefaultBodyLimit::max(http::MOST_BODY)).with_state(admin)
}

#[derive(Serialize)]
struct Readiness {
    store: String,
    providers: Vec<ProviderReadiness>,
}

#[derive(Serialize)]
struct ProviderReadiness {
    name: String,
    keys: &'static str,
}

/// Ready when a login could be committed, unless `ready.store` says that requests without a login go on meanwhile. A sidecar that
/// must not decide, since its clock is off, is not ready in any case. A provider without keys shows, but does not take the app out of service: people
/// who are logged in already need no provider.
async fn readiness(State(inspect): State<Arc<dyn Inspect>>) -> Response {
    let keys = inspect.keys();
    let providers = inspect
        .providers()
        .into_iter()
        .map(|name| ProviderReadiness {
            keys: if keys.ready(&name) { "ready" } else { "not fetched" },
            name: name.to_string(),
        })
        .collect();
    let (status, store) = match inspect.store().ready().await {
        Ok(()) => (StatusCode::OK, "ready".to_owned()),
        Err(error) => {
            let is_away = matches!(error, StoreError::Unavailable(_) | StoreError::Timeout | StoreError::Unknown);
            let goes_on = is_away && inspect.config().ready == Ready::Serve;
            let status = if goes_on { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            (status, error.to_string())
        }
    };
    (status, Json(Readiness { store, providers })).into_response()
}

/// The Prometheus text of the OpenMetrics 1.0 exposition format.
async fn metrics(State(inspect): State<Arc<dyn Inspect>>) -> Response {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &inspect.registry()) {
        Ok(()) => ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
            .into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
