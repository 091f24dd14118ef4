//! The demo's app: what already runs at a company, with a login of its own, and a sidecar in front.
//!
//! It sends people to the provider, takes the answer at its callbacks and keeps a session, as it would without a sidecar.
//! What it shows of groups and roles it reads from the sidecar's store, with the reason of each.

use std::collections::HashMap;
use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use askama::Template;
use axum::Router;
use axum::extract::{Form, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{AppendHeaders, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::DeflateEncoder;
use form_urlencoded::Serializer;
use serde::Deserialize;

use super::agreed::{NAMESPACE, OIDC_CALLBACK, SAML_CALLBACK};
use super::fresh_id;
use super::journal::Journal;
use super::pages::{Links, Message, Party, Span, page, spans};
use super::provider::Registration;
use crate::cli::Failure;
use crate::clock::Clock;
use crate::pipeline::ids::{Namespace, Subject, Target, UserId};
use crate::pipeline::plan::Plan;
use crate::ports::rules::Rules;
use crate::ports::store::{Store, StoreError, UserView};

const SESSION: &str = "demo_app_session";
/// What the app remembers of a login that it sent away.
const PENDING: &str = "demo_app_pending";
/// Sessions that are kept.
const MOST_SESSIONS: usize = 1000;
/// Users that the page lists.
const MOST_LISTED: usize = 50;

/// The app.
pub struct DemoApp {
    registration: Registration,
    links: Links,
    namespace: Namespace,
    store: Arc<Store>,
    rules: Arc<Rules>,
    journal: Arc<Journal>,
    sessions: Mutex<HashMap<String, Session>>,
    arrived: AtomicUsize,
    last_told: Mutex<Option<Told>>,
}

/// A user who is in.
#[derive(Debug, Clone)]
struct Session {
    told: Told,
}

/// What the sidecar told the app of a login, in headers that only the sidecar can send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// `OIDC` or `SAML`.
    pub protocol: &'static str,
    pub user: String,
    pub email: Option<String>,
    pub groups: Vec<String>,
    pub roles: Vec<String>,
}

impl DemoApp {
    /// # Errors
    /// Never, unless the demo's own namespace is none.
    pub fn new(
        registration: Registration,
        links: Links,
        store: Arc<Store>,
        rules: Arc<Rules>,
        journal: Arc<Journal>,
    ) -> Result<Self, Failure> {
        Ok(Self {
            registration,
            links,
            namespace: Namespace::parse(NAMESPACE).map_err(Failure::new)?,
            store,
            rules,
            journal,
            sessions: Mutex::default(),
            arrived: AtomicUsize::new(0),
            last_told: Mutex::default(),
        })
    }

    pub fn router(self: Arc<Self>) -> Router {
        Router::new()
            .route("/", get(home))
            .route("/login/oidc", get(leave_by_oidc))
            .route("/login/saml", get(leave_by_saml))
            .route(OIDC_CALLBACK, post(arrive_by_oidc))
            .route(SAML_CALLBACK, post(arrive_by_saml))
            .route("/logout", post(log_out))
            .layer(middleware::from_fn_with_state(Arc::clone(&self), by_its_name))
            .with_state(self)
    }

    /// How many logins have reached the app at its callbacks, whatever it made of them.
    pub fn arrived(&self) -> usize {
        self.arrived.load(Ordering::SeqCst)
    }

    /// What came with the last login that it took.
    pub fn last_told(&self) -> Option<Told> {
        self.last_told.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<String, Session>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn session(&self, headers: &HeaderMap) -> Option<Session> {
        self.sessions().get(&cookie(headers, SESSION)?).cloned()
    }

    fn message(&self, status: StatusCode, title: &str, text: &str) -> Response {
        page(status, &Message { party: Party::App, links: &self.links, title, text })
    }
}

/// Cookies belong to a name: a browser that comes as `localhost` is sent to the name under which the app is known to the provider.
async fn by_its_name(State(app): State<Arc<DemoApp>>, request: Request, next: Next) -> Response {
    let authority = app.links.app.split_once("://").map(|(_, authority)| authority).unwrap_or_default();
    let host = request.headers().get(header::HOST).map(HeaderValue::as_bytes).unwrap_or_default();
    if request.method() == Method::GET && host != authority.as_bytes() {
        let path = request.uri().path_and_query().map(|path| path.as_str()).unwrap_or("/");
        return Redirect::to(&format!("{}{path}", app.links.app)).into_response();
    }
    next.run(request).await
}

// ---------------------------------------------------------------------------------------------------------- leaving

async fn leave_by_oidc(State(app): State<Arc<DemoApp>>) -> Response {
    let (Ok(state), Ok(nonce)) = (fresh_id(), fresh_id()) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let query = Serializer::new(String::new())
        .append_pair("response_type", "id_token")
        .append_pair("response_mode", "form_post")
        .append_pair("scope", "openid")
        .append_pair("client_id", &app.registration.client_id)
        .append_pair("redirect_uri", &app.registration.redirect_uri)
        .append_pair("state", &state)
        .append_pair("nonce", &nonce)
        .finish();
    leave(&format!("{}/authorize?{query}", app.links.provider), &state)
}

async fn leave_by_saml(State(app): State<Arc<DemoApp>>) -> Response {
    let (Ok(state), Ok(id)) = (fresh_id(), fresh_id()) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let sso = format!("{}/saml/sso", app.links.provider);
    let request = format!(
        "<samlp:AuthnRequest xmlns:samlp=\"urn:oasis:names:tc:SAML:2.0:protocol\" \
         xmlns:saml=\"urn:oasis:names:tc:SAML:2.0:assertion\" ID=\"_{id}\" Version=\"2.0\" IssueInstant=\"{}\" \
         Destination=\"{sso}\" ProtocolBinding=\"urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST\" \
         AssertionConsumerServiceURL=\"{}\"><saml:Issuer>{}</saml:Issuer></samlp:AuthnRequest>",
        Clock::system().now(),
        app.registration.acs_url,
        app.registration.entity_id,
    );
    let Some(request) = deflate(&request) else { return StatusCode::INTERNAL_SERVER_ERROR.into_response() };
    let query =
        Serializer::new(String::new()).append_pair("SAMLRequest", &request).append_pair("RelayState", &state).finish();
    leave(&format!("{sso}?{query}"), &state)
}

/// SAML Bindings 3.4.4.1: DEFLATE without a header, then base64.
fn deflate(xml: &str) -> Option<String> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(xml.as_bytes()).ok()?;
    Some(STANDARD.encode(encoder.finish().ok()?))
}

/// Sends the browser to the provider. It takes the app's own memory of that along; the sidecar adds another of its own.
fn leave(location: &str, state: &str) -> Response {
    let pending = format!("{PENDING}={state}; Path=/callback; Max-Age=900; HttpOnly; SameSite=Lax");
    (AppendHeaders([(header::SET_COOKIE, pending)]), Redirect::to(location)).into_response()
}

// --------------------------------------------------------------------------------------------------------- arriving

/// The fields of an answer that this app looks at.
#[derive(Deserialize)]
struct Answer {
    state: Option<String>,
    #[serde(rename = "RelayState")]
    relay_state: Option<String>,
}

async fn arrive_by_oidc(State(app): State<Arc<DemoApp>>, headers: HeaderMap, Form(answer): Form<Answer>) -> Response {
    arrive(&app, "OIDC", &headers, answer.state)
}

async fn arrive_by_saml(State(app): State<Arc<DemoApp>>, headers: HeaderMap, Form(answer): Form<Answer>) -> Response {
    arrive(&app, "SAML", &headers, answer.relay_state)
}

/// Takes a login. A real app goes on to verify the token by its own library, exactly as it did before a sidecar stood in
/// front of it: the body is the one that the browser sent. This one has nothing to protect, and leaves that out.
fn arrive(app: &DemoApp, protocol: &'static str, headers: &HeaderMap, state: Option<String>) -> Response {
    app.arrived.fetch_add(1, Ordering::SeqCst);
    if state.is_none() || state != cookie(headers, PENDING) {
        return app.message(StatusCode::BAD_REQUEST, "Not asked for", "The app did not send this browser to log in.");
    }
    let (Some(told), Ok(id)) = (told(protocol, headers), fresh_id()) else {
        return app.message(StatusCode::FORBIDDEN, "Around the sidecar", "This login did not come through loginsync.");
    };
    *app.last_told.lock().unwrap_or_else(PoisonError::into_inner) = Some(told.clone());
    let mut sessions = app.sessions();
    if sessions.len() >= MOST_SESSIONS {
        sessions.clear();
    }
    sessions.insert(id.clone(), Session { told });
    let cookies = [
        (header::SET_COOKIE, format!("{SESSION}={id}; Path=/; HttpOnly; SameSite=Lax")),
        (header::SET_COOKIE, format!("{PENDING}=; Path=/callback; Max-Age=0; HttpOnly; SameSite=Lax")),
    ];
    (AppendHeaders(cookies), Redirect::to("/")).into_response()
}

/// Reads the identity headers of preset `loginsync`: lists divided by commas, everything percent-encoded.
fn told(protocol: &'static str, headers: &HeaderMap) -> Option<Told> {
    let value = |name: &str| headers.get(name).map(HeaderValue::as_bytes);
    let decoded = |bytes: &[u8]| percent_encoding::percent_decode(bytes).decode_utf8_lossy().into_owned();
    let list = |name: &str| {
        value(name).map(|list| list.split(|byte| *byte == b',').map(decoded).collect()).unwrap_or_default()
    };
    Some(Told {
        protocol,
        user: decoded(value("x-loginsync-user")?),
        email: value("x-loginsync-email").map(decoded),
        groups: list("x-loginsync-groups"),
        roles: list("x-loginsync-roles"),
    })
}

async fn log_out(State(app): State<Arc<DemoApp>>, headers: HeaderMap) -> Response {
    if let Some(id) = cookie(&headers, SESSION) {
        app.sessions().remove(&id);
    }
    let expired = format!("{SESSION}=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax");
    (AppendHeaders([(header::SET_COOKIE, expired)]), Redirect::to("/")).into_response()
}

fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let pairs =
        headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(';'));
    let mut named = pairs.filter_map(|pair| pair.trim().split_once('=')).filter(|(key, _)| *key == name);
    named.next().map(|(_, value)| value.to_owned())
}

// ------------------------------------------------------------------------------------------------------------- home

#[derive(Template)]
#[template(path = "demo/welcome.html")]
struct WelcomePage<'a> {
    party: Party,
    links: &'a Links,
}

#[derive(Template)]
#[template(path = "demo/home.html")]
struct HomePage<'a> {
    party: Party,
    links: &'a Links,
    told: &'a Told,
    /// `None` once an operator has erased the user.
    user: Option<&'a UserView>,
    memberships: &'a [Membership],
    plan: &'a [Line],
    everybody: &'a [UserView],
}

/// A group or role of a user, as the page shows it.
struct Membership {
    kind: &'static str,
    name: String,
    /// How it is held, in a word.
    state: &'static str,
    reasons: Vec<Vec<Span>>,
}

/// A line of a plan.
struct Line {
    /// By which it is coloured.
    class: &'static str,
    sign: String,
    text: Vec<Span>,
}

async fn home(State(app): State<Arc<DemoApp>>, headers: HeaderMap) -> Response {
    let Some(Session { told }) = app.session(&headers) else {
        return page(StatusCode::OK, &WelcomePage { party: Party::App, links: &app.links });
    };
    match who_is_in(&app, &told).await {
        Ok(page) => page,
        Err(error) => app.message(StatusCode::SERVICE_UNAVAILABLE, "The store does not answer", &error.to_string()),
    }
}

async fn who_is_in(app: &DemoApp, told: &Told) -> Result<Response, StoreError> {
    let rules = app.rules.current();
    let subject = Subject::parse(&told.user).map_err(|error| StoreError::Invalid(error.to_string()))?;
    let id = UserId { namespace: app.namespace.clone(), subject };
    let now = Clock::system().now();
    let user = app.store.user(id.clone(), Arc::clone(&rules), now).await?;
    let mut everybody = Vec::new();
    for other in app.store.users(None, MOST_LISTED).await? {
        everybody.extend(app.store.user(other, Arc::clone(&rules), now).await?);
    }
    let memberships: Vec<Membership> = user.iter().flat_map(memberships).collect();
    let plan = app.journal.last_plan_of(&id).map(|plan| lines(&plan)).unwrap_or_default();
    let home = HomePage {
        party: Party::App,
        links: &app.links,
        told,
        user: user.as_ref(),
        memberships: &memberships,
        plan: &plan,
        everybody: &everybody,
    };
    Ok(page(StatusCode::OK, &home))
}

fn memberships(user: &UserView) -> Vec<Membership> {
    let direct = user.memberships.iter().map(|membership| Membership {
        kind: membership.kind,
        name: membership.name.clone(),
        state: if membership.effective { membership.membership } else { "denied" },
        reasons: membership.reasons.iter().map(|reason| spans(reason)).collect(),
    });
    let through = user.roles_through_groups.iter().map(|role| Membership {
        kind: "role",
        name: role.role.clone(),
        state: "through a group",
        reasons: role.groups.iter().map(|group| spans(&format!("every member of `{group}` has it"))).collect(),
    });
    direct.chain(through).collect()
}

fn lines(plan: &Plan) -> Vec<Line> {
    let text = plan.to_string();
    let lines = text.lines().map(|line| {
        let (sign, rest) = match line.trim_start().split_once(' ') {
            Some((sign, rest)) if sign.len() == 1 => (sign, rest),
            _ => ("", line.trim_start()),
        };
        let class = match sign {
            "+" => "gain",
            "-" => "loss",
            "=" => "kept",
            "?" | "!" => "attention",
            _ => "plain",
        };
        Line { class, sign: sign.to_owned(), text: spans(rest) }
    });
    // Without these words a line that takes a group away, which the list below still has, would puzzle.
    let after = &plan.after;
    let still = plan.revokes.iter().map(|change| &change.target).filter(|target| match target {
        Target::Group(group) => after.groups.contains(group),
        Target::Role(role) => after.roles.contains(role),
    });
    let still = still.map(|target| format!("{target} is still held, for another reason"));
    lines.chain(still.map(|words| Line { class: "plain", sign: String::new(), text: spans(&words) })).collect()
}
