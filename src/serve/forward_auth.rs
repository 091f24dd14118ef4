//! Answers a gateway that asks whether a request may pass: `docs/gateways.md` has each gateway's contract.
//!
//! | gateway | tells of the request | takes a refusal |
//! |---|---|---|
//! | nginx `auth_request` | `X-Forwarded-Uri`, `X-Forwarded-Method`, set by its configuration | 401 alone; with a `Location` that its configuration may turn into a redirect |
//! | Traefik, Caddy | the same, by themselves | whatever we answer goes to the browser |
//! | Envoy `ext_authz` | the path, appended to ours, and the method | whatever we answer goes to the browser |
//!
//! Yes is exactly 200, which all of them take for one. Nothing that the request says of itself decides: only the session does, or a token that mode `bearer` believes.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Response};

use super::respond::{self, Trouble};
use crate::config::{ForwardAuth, Gateway};

const URI: HeaderName = HeaderName::from_static("x-forwarded-uri");
const METHOD: HeaderName = HeaderName::from_static("x-forwarded-method");

/// A gateway's question.
pub struct Question<'a> {
    /// Of the request to us, without the query.
    pub path: &'a str,
    pub query: Option<&'a str>,
    pub method: &'a Method,
    pub headers: &'a HeaderMap,
}

/// Whether a path is the one that gateways ask at.
pub fn is_asked(settings: &ForwardAuth, path: &str) -> bool {
    match settings.gateway {
        Gateway::Envoy => {
            path.strip_prefix(settings.path.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        }
        Gateway::Nginx | Gateway::Traefik | Gateway::Caddy => path == settings.path,
    }
}

/// The path and query that the browser asked for.
///
/// # Errors
/// When it is told in a way that can be read as two, or is none: a gateway that says nonsense is not believed at all.
pub fn wanted(settings: &ForwardAuth, question: &Question<'_>) -> Result<String, Trouble> {
    let nonsense = || Trouble::Own("a gateway's question whose `X-Forwarded-Uri` is no path");
    let told = match settings.gateway {
        Gateway::Envoy => {
            let path = question.path.strip_prefix(settings.path.as_str()).unwrap_or_default();
            let query = question.query.map(|query| format!("?{query}")).unwrap_or_default();
            format!("{}{query}", if path.is_empty() { "/" } else { path })
        }
        Gateway::Nginx | Gateway::Traefik | Gateway::Caddy => match only(question.headers, &URI) {
            Ok(None) => "/".to_owned(),
            Ok(Some(uri)) => uri.to_owned(),
            Err(()) => return Err(nonsense()),
        },
    };
    let plain = told.starts_with('/') && told.bytes().all(|byte| byte.is_ascii_graphic());
    if plain { Ok(told) } else { Err(nonsense()) }
}

/// Whether the browser would follow a redirect to a page.
pub fn navigates(settings: &ForwardAuth, question: &Question<'_>) -> Result<bool, Trouble> {
    let method = match settings.gateway {
        Gateway::Envoy => question.method.as_str(),
        Gateway::Nginx | Gateway::Traefik | Gateway::Caddy => only(question.headers, &METHOD)
            .map_err(|()| Trouble::Own("a gateway's question with two methods"))?
            .unwrap_or("GET"),
    };
    Ok(matches!(method, "GET" | "HEAD") && respond::accepts_html(question.headers.get(header::ACCEPT)))
}

/// The one value of a field; an error where there are two, or no text.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h str>, ()> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| ()),
        (Some(_), Some(_)) => Err(()),
    }
}

/// Yes: with every name under which an identity may be told, empty where there is nothing to say, so that a gateway which
/// only overwrites never leaves a client's own in place.
pub fn yes(told: HeaderMap, names: impl Iterator<Item = HeaderName>) -> Response<Bytes> {
    let mut response = respond::empty();
    response.headers_mut().extend(told);
    for name in names {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(""));
    }
    response
}

/// No.
pub fn no(settings: &ForwardAuth, sign_in: &str, navigates: bool) -> Result<Response<Bytes>, Trouble> {
    match settings.gateway {
        Gateway::Nginx => Ok(respond::unauthorized_at(sign_in)),
        _ if navigates => Ok(respond::redirect(sign_in, HeaderMap::new())),
        _ => Err(Trouble::NoSession),
    }
}
