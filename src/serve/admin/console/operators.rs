//! Operators who sign in by a provider: what their roles let them do, asked again at each request.
//!
//! ```text
//! leave     sends the browser to the provider
//! arrive    takes its answer: a login like every other, and then a session, if the person has a role for that
//! scopes    what a session may do now
//! end       of a session whose person has no such role any more, or is disabled, or gone
//! ```

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use http::HeaderMap;
use http::request::Parts;
use serde_json::json;

use super::super::http::peer;
use super::door::{Fields, too_many};
use super::failure::Failure;
use super::page::{self};
use super::{Console, ROOT, sign_in};
use crate::config::{OperatorSettings, Scope};
use crate::login::Entered;
use crate::login::new_id;
use crate::pipeline::ids::Timestamp;
use crate::ports::console::{Operator, SignIn};
use crate::ports::store::UserView;
use crate::serve::cookies::Jar;
use crate::serve::held::Client;
use crate::serve::relying_party::goals::Goal;
use crate::serve::relying_party::own_logins::Answered;
use crate::serve::relying_party::{OwnRequest, is_embedded_elsewhere};
use crate::serve::respond::{self, Trouble};

/// What an operator may do now.
///
/// # Errors
/// When the store cannot be read.
pub async fn scopes(console: &Console, operator: &Operator, now: Timestamp) -> Result<Vec<Scope>, Failure> {
    let Some(number) = operator.person else { return Ok(operator.scopes.clone()) };
    let inspect = console.admin.inspect();
    let Some(settings) = &inspect.config().console.operators else { return Ok(Vec::new()) };
    let found = inspect.store().numbered(number, inspect.rules(), now).await?;
    Ok(found.map(|view| allowed(settings, &view)).unwrap_or_default())
}

/// What the roles of a person let them do.
fn allowed(settings: &OperatorSettings, view: &UserView) -> Vec<Scope> {
    let holds = |role: &Option<_>| {
        role.as_ref().is_some_and(|role: &crate::pipeline::ids::RoleName| {
            view.roles.iter().any(|held| held.as_str() == role.as_str())
        })
    };
    match (view.enabled, holds(&settings.write_role), holds(&settings.read_role)) {
        (true, true, _) => vec![Scope::Admin],
        (true, false, true) => vec![Scope::Read],
        _ => Vec::new(),
    }
}

/// Ends a session whose person may do nothing here any more.
///
/// # Errors
/// When the store cannot be written.
pub async fn end(console: &Console, session: &SignIn, now: Timestamp) -> Result<(), Failure> {
    let store = console.admin.inspect().store();
    store.console().end(Some(session.key)).await?;
    let detail =
        json!({ "by": session.operator.name, "why": "the person is disabled, gone, or has no role for the console" });
    Ok(store.note("console_ended", detail, now).await?)
}

/// A request as the relying party reads it.
fn own_request(parts: &Parts) -> OwnRequest {
    OwnRequest {
        id: new_id(),
        page: String::new(),
        method: parts.method.clone(),
        query: parts.uri.query().map(str::to_owned),
        headers: HeaderMap::new(),
        body: Bytes::new(),
        jar: Jar::take(&mut parts.headers.clone(), &[]),
        client: Some(Client::of(peer(parts).ip())),
    }
}

/// Sends the browser to the provider.
pub async fn leave(State(console): State<Console>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let Some(operators) = console.admin.inspect().operators() else { return page::bare(&Failure::no_provider()) };
    if let Err(left) = console.door.look(&console, peer(&parts).ip()) {
        return too_many(left);
    }
    if is_embedded_elsewhere(&parts.headers) {
        return page::bare(&Failure::not_begun_here());
    }
    let (asked, wanted) = (own_request(&parts), Fields::read(parts.uri.query().unwrap_or_default().as_bytes()));
    match operators.leave(wanted.get("rd"), &asked).await {
        Ok(response) => response.map(Body::from),
        Err(refusal) => not_signed_in(&asked.id, &refusal.trouble, refusal.cookies),
    }
}

/// Takes the provider's answer.
pub async fn arrive(State(console): State<Console>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let (inspect, address) = (console.admin.inspect(), peer(&parts).ip());
    let Some(operators) = inspect.operators() else { return page::bare(&Failure::no_provider()) };
    if let Err(left) = console.door.look(&console, address) {
        return too_many(left);
    }
    let asked = own_request(&parts);
    let wrong = |response: Response| match console.door.wrong(&console, address) {
        Ok(()) => response,
        Err(left) => too_many(left),
    };
    let (outcome, goal, cookies) = match operators.answered(&asked).await {
        Ok(Some(Answered { outcome, goal, cookies })) => (outcome, goal, cookies),
        Ok(None) => return wrong(page::bare(&Failure::not_begun_here())),
        Err(trouble) => return wrong(not_signed_in(&asked.id, &trouble, HeaderMap::new())),
    };
    match outcome {
        Ok((entered, _)) => {
            let begun = begin(&console, &operators.settings, operators.title(), &asked.id, &entered, &goal).await;
            let mut response = match begun {
                Ok(response) => {
                    entered.delivered();
                    response
                }
                Err(failure) => page::bare(&failure),
            };
            add(&mut response, &cookies);
            response
        }
        Err(trouble) => wrong(not_signed_in(&asked.id, &trouble, cookies)),
    }
}

/// Opens a session for a login that is committed.
async fn begin(
    console: &Console,
    settings: &OperatorSettings,
    title: &str,
    login: &str,
    entered: &Entered,
    goal: &Goal,
) -> Result<Response, Failure> {
    let inspect = console.admin.inspect();
    let (store, now, user) = (inspect.store(), inspect.now(), entered.plan.user.clone());
    let gone = || Failure::no_role(&user.to_string(), settings);
    let number = store.number(user.clone()).await?.ok_or_else(gone)?;
    let view = store.numbered(number, inspect.rules(), now).await?.ok_or_else(gone)?;
    let scopes = allowed(settings, &view);
    let name = format!("{user} by {title}");
    if scopes.is_empty() {
        store.note("console_refused", json!({ "by": name, "login": login }), now).await?;
        return Err(gone());
    }
    let place = match goal {
        Goal::Place(place) => place.as_str(),
        Goal::Kept(_) | Goal::Lost => ROOT,
    };
    let operator = Operator { name, scopes: Vec::new(), person: Some(number) };
    sign_in::open(console, operator, &scopes, Some(login), place).await
}

fn not_signed_in(id: &str, trouble: &Trouble, cookies: HeaderMap) -> Response {
    // A refused login is in the log already.
    if !matches!(trouble, Trouble::Login(_)) {
        tracing::warn!(id, %trouble, "an operator could not be signed in to the console");
    }
    let (status, title, advice) = respond::told(trouble);
    let mut response = page::bare(&Failure::not_signed_in(status, title, advice, id));
    add(&mut response, &cookies);
    response
}

/// In addition to the cookies that a response sets already.
fn add(response: &mut Response, cookies: &HeaderMap) {
    for (name, cookie) in cookies {
        response.headers_mut().append(name, cookie.clone());
    }
}
