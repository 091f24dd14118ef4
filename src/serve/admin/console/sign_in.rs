//! Signing in by a link that `loginsync console` has made, and signing out.
//!
//! The authority is write access to the store: the command writes a digest into it. The page of a link changes nothing, so that
//! a prefetch or a scanner does not spend it; its button does.

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::LOCATION;
use http::{StatusCode, Uri};
use serde_json::json;

use super::super::auth::random_text;
use super::super::http::peer;
use super::door::{Fields, IDLE, LONGEST, Posted, is_same_origin, set_cookie, too_many};
use super::failure::{Failure, Sent};
use super::page::{self, Answer, Door};
use super::visitor::Visitor;
use super::{Console, ROOT};
use crate::config::Scope;
use crate::ports::console::{Operator, SignIn};
use crate::ports::sessions::Digest;

/// What to do without a session: by a link, or by the provider, after which the page that was asked for comes.
pub fn needed(console: &Console, uri: &Uri, sent: Option<Sent>) -> Response {
    let operators = console.admin.inspect().operators();
    let wanted = uri.path_and_query().map_or(ROOT, |wanted| wanted.as_str());
    let door = operators.map(|operators| Door {
        title: operators.title().to_owned(),
        address: operators.address(if sent.is_some() { ROOT } else { wanted }),
    });
    let failure = if sent.is_some() { Failure::ended() } else { Failure::signed_out() };
    page::bare_with(&failure, door, sent)
}

/// The page of a link.
pub async fn offer(uri: Uri) -> Response {
    let asked = Fields::read(uri.query().unwrap_or_default().as_bytes());
    page::offer(asked.get("link"))
}

/// Turns a link into a session.
pub async fn enter(State(console): State<Console>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    if !is_same_origin(&parts.headers, &parts.uri) {
        return page::bare(&Failure::foreign());
    }
    let Ok(body) = axum::body::to_bytes(body, 4096).await else { return page::bare(&Failure::too_large()) };
    match begin(&console, &body).await {
        Ok(Some(response)) => response,
        Ok(None) => match console.door.wrong(&console, peer(&parts).ip()) {
            Ok(()) => page::bare(&Failure::spent()),
            Err(left) => too_many(left),
        },
        Err(failure) => page::bare(&failure),
    }
}

async fn begin(console: &Console, body: &Bytes) -> Result<Option<Response>, Failure> {
    let inspect = console.admin.inspect();
    let (now, store) = (inspect.now(), inspect.store());
    let fields = Fields::read(body);
    let link = Digest::of(fields.get("link").as_bytes());
    let Some(link) = store.console().spend(link, now).await? else { return Ok(None) };
    let scopes = link.operator.scopes.clone();
    open(console, link.operator, &scopes, None, ROOT).await.map(Some)
}

/// Opens a session, and goes on to a page. `login` is the login that it began with.
pub async fn open(
    console: &Console,
    operator: Operator,
    scopes: &[Scope],
    login: Option<&str>,
    place: &str,
) -> Result<Response, Failure> {
    let inspect = console.admin.inspect();
    let (now, store) = (inspect.now(), inspect.store());
    let secret = random_text()?;
    let session = SignIn {
        key: Digest::of(secret.as_bytes()),
        is_link: false,
        operator,
        created_at: now,
        idle_until: now.plus(IDLE),
        expires_at: now.plus(LONGEST),
    };
    let scopes: Vec<&str> = scopes.iter().map(|scope| scope.word()).collect();
    let until = session.expires_at.to_string();
    let mut detail = json!({ "by": session.operator.name, "scopes": scopes, "until": until });
    if let (Some(login), Some(detail)) = (login, detail.as_object_mut()) {
        detail.insert("login".into(), login.into());
    }
    store.note("console_signed_in", detail, now).await?;
    store.console().add(session).await?;
    let cookie = set_cookie(&inspect.config().admin, Some(&secret));
    Ok((StatusCode::SEE_OTHER, [(LOCATION, place.to_owned()), cookie]).into_response())
}

/// Ends this session.
pub async fn leave(State(console): State<Console>, visitor: Visitor, _: Posted) -> Answer {
    let inspect = console.admin.inspect();
    inspect.store().console().end(Some(visitor.sign_in.key)).await?;
    inspect.store().note("console_signed_out", json!({ "by": visitor.caller.name }), inspect.now()).await?;
    let mut response = page::bare(&Failure::left());
    let (name, value) = set_cookie(&inspect.config().admin, None);
    if let Ok(value) = value.parse() {
        response.headers_mut().append(name, value);
    }
    Ok(response)
}
