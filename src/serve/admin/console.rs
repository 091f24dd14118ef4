//! The console: pages for operators, at [`ROOT`] on the admin listener.
//!
//! Every page is made on the server, is asked for by an address that a colleague can open as well, and works without script. What the
//! pages show and do comes from [`super::service`], with the same scopes and the same rows of the audit as the APIs, so that nothing
//! is possible here that `/api/v1` could not do.
//!
//! ```text
//! words      moments, and sentences of ours with names in them
//! failure    why a page cannot be shown, and what was typed
//! visitor    who is signed in, and what they may do
//! page       the frame of a page, its headers, and the step before an act
//! door       forms and cookies: whether they are of ours, and how often they come
//! sign_in    by a link of the command; operators: by a provider
//! guard      what stands before the pages
//! live       tells open pages that something has changed
//! assets     stylesheet and script, from the binary
//! the rest   one file a page
//! ```

mod acts;
mod assets;
mod clients;
mod deliveries;
mod difference;
mod door;
mod explain;
mod failure;
mod groups;
mod guard;
mod holds;
mod live;
mod logins;
mod mappings;
mod operators;
mod order;
mod overview;
mod page;
mod people;
mod setup;
mod sign_in;
mod targets;
mod verification;
mod visitor;
mod words;

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRef};
use axum::middleware;
use axum::response::Redirect;
use axum::routing::{get, post};
use tokio::sync::watch;

use self::door::Door;
use self::live::Streams;
use super::http::{Admin, MOST_BODY};

/// Below which all pages are.
pub const ROOT: &str = "/console/";

/// Whether a path is one of a page, or of what is not there below [`ROOT`].
pub fn is_asked(path: &str) -> bool {
    path.starts_with(ROOT) || path == ROOT.trim_end_matches('/')
}

/// What every page has.
#[derive(Clone)]
pub struct Console {
    admin: Admin,
    door: Arc<Door>,
    streams: Streams,
}

impl FromRef<Console> for Admin {
    fn from_ref(console: &Console) -> Self {
        console.admin.clone()
    }
}

/// All pages. Streams end when `stopping` says so.
pub fn routes(admin: Admin, stopping: watch::Receiver<bool>) -> Router {
    let console = Console { admin, door: Arc::default(), streams: Streams::new(stopping) };
    let guarded = Router::new()
        .route("/console/", get(overview::show))
        .route("/console/people", get(people::list))
        .route("/console/people/{number}", get(people::show))
        .route("/console/people/{number}/preview", post(acts::preview))
        .route("/console/people/{number}/act", post(acts::carry_out))
        .route("/console/groups", get(groups::list))
        .route("/console/groups/{kind}", get(groups::show))
        .route("/console/mappings", get(mappings::list))
        .route("/console/mappings/new", get(mappings::begin).post(mappings::make))
        .route("/console/mappings/order", get(order::show).post(order::change))
        .route("/console/mappings/{id}", get(mappings::show).post(mappings::change))
        .route("/console/holds", get(holds::list).post(holds::settle))
        .route("/console/logins", get(logins::list))
        .route("/console/explain", get(explain::ask).post(explain::answer))
        .route("/console/logins/verify", post(setup::verify))
        .route("/console/deliveries", get(deliveries::list))
        .route("/console/deliveries/{name}", get(deliveries::show))
        .route("/console/deliveries/{name}/preview", post(deliveries::preview))
        .route("/console/deliveries/{name}/act", post(deliveries::carry_out))
        .route("/console/clients", get(clients::list).post(clients::make))
        .route("/console/clients/end", post(clients::end))
        .route("/console/operators", get(clients::operators))
        .route("/console/operators/end", post(clients::end_operator))
        .route("/console/configuration", get(setup::show))
        .route("/console/live", get(live::stream))
        .route("/console/leave", post(sign_in::leave))
        .route("/console/{*path}", get(page::nowhere))
        .layer(middleware::from_fn_with_state(console.clone(), guard::guard));
    Router::new()
        .route("/console", get(|| async { Redirect::permanent(ROOT) }))
        .route("/console/enter", get(sign_in::offer).post(sign_in::enter))
        .route("/console/provider/sign-in", get(operators::leave))
        .route("/console/provider/callback", get(operators::arrive))
        .route("/console/icon.svg", get(assets::icon))
        .route("/console/style.css", get(assets::style))
        .route("/console/script.js", get(assets::script))
        .merge(guarded)
        .layer(middleware::from_fn_with_state(console.clone(), guard::only_if_enabled))
        .layer(DefaultBodyLimit::max(MOST_BODY))
        .with_state(console)
}
