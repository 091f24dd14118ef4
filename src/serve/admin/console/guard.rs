//! What stands before the pages: whether the console is on, and who is signed in.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{Method, StatusCode};

use super::super::http::{MOST_BODY, peer};
use super::door::{EXTENDED, IDLE, LIVE, cookie_name, cookies, is_same_origin, sent_by, too_many, too_many_with};
use super::failure::{Failure, Sent};
use super::page::{self, Shell};
use super::visitor::{Visitor, form_token};
use super::{Console, operators, sign_in};
use crate::ports::sessions::Digest;

/// Without `console.enabled` there is nothing here.
pub async fn only_if_enabled(State(console): State<Console>, request: Request, next: Next) -> Response {
    match console.admin.inspect().config().console.enabled {
        true => next.run(request).await,
        false => {
            (StatusCode::NOT_FOUND, "the console is off; `[console] enabled = true` turns it on\n").into_response()
        }
    }
}

/// Lets those through who are signed in. A form that cannot be carried out comes back with all that was typed into it.
pub async fn guard(State(console): State<Console>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, MOST_BODY).await else { return page::bare(&Failure::too_large()) };
    let form = (parts.method == Method::POST).then(|| (parts.uri.path().to_owned(), body.clone()));
    let sent = |token: Option<String>| form.as_ref().map(|(action, body)| sent_by(action, body, token));
    let visitor = match admit(&console, &mut parts, &sent).await {
        Ok(visitor) => visitor,
        Err(response) => return response,
    };
    let shell = Shell::of(&visitor, parts.uri.path());
    let token = visitor.token.clone();
    parts.extensions.insert(visitor);
    let mut response = next.run(Request::from_parts(parts, body.into())).await;
    match response.extensions_mut().remove::<Failure>() {
        Some(failure) if failure.may_pass() => page::failed(shell, &failure, sent(Some(token))),
        Some(failure) => page::failed(shell, &failure, None),
        None => response,
    }
}

async fn admit(
    console: &Console,
    parts: &mut Parts,
    sent: &impl Fn(Option<String>) -> Option<Sent>,
) -> Result<Visitor, Response> {
    let inspect = console.admin.inspect();
    let (now, config) = (inspect.now(), inspect.config());
    let address = peer(parts).ip();
    let changes = !matches!(parts.method, Method::GET | Method::HEAD);
    if changes && !is_same_origin(&parts.headers, &parts.uri) {
        return Err(page::bare(&Failure::foreign()));
    }
    let cookies = cookies(&parts.headers, cookie_name(&config.admin));
    for cookie in &cookies {
        let key = Digest::of(cookie.as_bytes());
        // The form that was sent is of a page of ours: the browser says so, and it is shown to that browser alone.
        let failed = |failure: &Failure| page::bare_with(failure, None, sent(Some(form_token(cookie))));
        let found = inspect.store().console().session(key, now).await;
        let Some(sign_in) = found.map_err(|error| failed(&Failure::from(error)))? else { continue };
        if let Err(left) = console.door.visit(console, key) {
            return Err(too_many_with(left, sent(Some(form_token(cookie)))));
        }
        let scopes = operators::scopes(console, &sign_in.operator, now).await.map_err(|why| failed(&why))?;
        if scopes.is_empty() {
            operators::end(console, &sign_in, now).await.map_err(|why| failed(&why))?;
            return Err(page::bare(&Failure::no_role_any_more()));
        }
        let idle_until = now.plus(IDLE).min(sign_in.expires_at);
        // A page that is kept up to date by itself is not a sign of a person.
        if idle_until > sign_in.idle_until.plus(EXTENDED) && !parts.headers.contains_key(LIVE) {
            let extended = inspect.store().console().extend(key, idle_until).await;
            extended.map_err(|error| failed(&Failure::from(error)))?;
        }
        return Ok(Visitor::new(sign_in, scopes, cookie));
    }
    if !cookies.is_empty()
        && let Err(left) = console.door.wrong(console, address)
    {
        return Err(too_many(left));
    }
    Err(sign_in::needed(console, &parts.uri, sent(None)))
}
