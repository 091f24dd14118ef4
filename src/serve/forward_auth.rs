//! Answers a gateway that asks whether a request may pass: `docs/gateways.md` has each gateway's contract.
//!
//! | gateway | tells of the request | takes a refusal |
//! |---|---|---|
//! | nginx `auth_request` | `X-Forwarded-Uri`, `X-Forwarded-Method`, set by its configuration | 401 alone; with a `Location` that its configuration may turn into a redirect |
//! | Traefik, Caddy | the same, by themselves | whatever we answer goes to the browser |
//! | Envoy `ext_authz` | the path, appended to ours, and the method | whatever we answer goes to the browser |
//!
//! Yes is exactly 200, which all of them take for one. The session decides, or a token that mode `bearer` believes; and what the
//! page needs that the gateway asks about, as for a request that goes through us.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Response};

use super::respond::{self, Trouble};
use crate::config::{ForwardAuth, Gateway, PublicUrl};

const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// What a gateway asks about. No request that passes has it.
pub const URI: &str = "x-forwarded-uri";
const METHOD: HeaderName = HeaderName::from_static("x-forwarded-method");

/// A gateway's question.
pub struct Question<'a> {
    /// Of the request to us, without the query.
    pub path: &'a str,
    pub query: Option<&'a str>,
    /// Of the request to us, where its line has one.
    pub authority: Option<&'a str>,
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

/// The request that a gateway asks about, as far as it tells.
#[derive(Debug, PartialEq, Eq)]
pub struct Wanted {
    /// A host other than the app's own, that the configuration names.
    pub host: Option<String>,
    /// Path and query.
    pub target: String,
    /// `None` where the gateway does not say.
    pub method: Option<Method>,
    /// Whether the gateway says which page it is. What is not said may be any page, also one that needs a session.
    pub is_told: bool,
}

/// The request that a gateway asks about.
///
/// # Errors
/// When it is ambiguous or invalid: a gateway that sends nonsense is not believed at all.
pub fn wanted(settings: &ForwardAuth, public: &PublicUrl, question: &Question<'_>) -> Result<Wanted, Trouble> {
    let host = other_host(settings, public, question)?;
    let nonsense = || Trouble::Own("a gateway's question whose `X-Forwarded-Uri` is not a path");
    let told = match settings.gateway {
        Gateway::Envoy => {
            let path = question.path.strip_prefix(settings.path.as_str()).unwrap_or_default();
            let query = question.query.map(|query| format!("?{query}")).unwrap_or_default();
            Some(format!("{}{query}", if path.is_empty() { "/" } else { path }).into_bytes())
        }
        Gateway::Nginx | Gateway::Traefik | Gateway::Caddy => {
            match only(question.headers, &HeaderName::from_static(URI)) {
                Ok(uri) => uri.map(<[u8]>::to_vec),
                Err(()) => return Err(nonsense()),
            }
        }
    };
    let method = match settings.gateway {
        Gateway::Envoy => Some(question.method.clone()),
        Gateway::Nginx | Gateway::Traefik | Gateway::Caddy => {
            let told = only(question.headers, &METHOD).map_err(|()| TWO_METHODS)?;
            told.map(|method| Method::from_bytes(method).map_err(|_| TWO_METHODS)).transpose()?
        }
    };
    let is_told = told.is_some();
    let told = told.unwrap_or_else(|| b"/".to_vec());
    // Browsers escape what is not ASCII; other clients send it as it is, and gateways hand it on (RFC 3987 section 3.1).
    let fits = |byte: &u8| byte.is_ascii_graphic() || !byte.is_ascii();
    if told.first() != Some(&b'/') || !told.iter().all(fits) {
        return Err(nonsense());
    }
    let target = percent_encoding::percent_encode(&told, &NOTHING_OF_ASCII).to_string();
    Ok(Wanted { host, target, method, is_told })
}

/// The host that a gateway asks about, unless it is the app's own. Where one gateway asks about several, it must say which, and a
/// host that is not named here gets no answer about it.
fn other_host(settings: &ForwardAuth, public: &PublicUrl, question: &Question<'_>) -> Result<Option<String>, Trouble> {
    if settings.hosts.is_empty() {
        return Ok(None);
    }
    let unsaid = Trouble::Own("a gateway's question that does not say for which host (`X-Forwarded-Host`)");
    let told = match settings.gateway {
        // Its question has the host of the request.
        Gateway::Envoy => {
            only(question.headers, &header::HOST).map(|host| host.or(question.authority.map(str::as_bytes)))
        }
        Gateway::Nginx | Gateway::Traefik | Gateway::Caddy => only(question.headers, &HOST),
    };
    let told = told.ok().flatten().and_then(|host| std::str::from_utf8(host).ok());
    let Some(told) = told.map(str::to_ascii_lowercase) else { return Err(unsaid) };
    let told = told.strip_suffix(":443").unwrap_or(&told);
    if public.origin.split_once("://").is_some_and(|(_, authority)| authority == told) {
        return Ok(None);
    }
    match settings.hosts.iter().find(|host| *host == told) {
        Some(host) => Ok(Some(host.clone())),
        None => Err(Trouble::Own("a gateway's question for a host that `forward_auth.hosts` does not name")),
    }
}

const TWO_METHODS: Trouble = Trouble::Own("a gateway's question with two methods, or none that is one");

/// Escapes what is not ASCII, which is always escaped, and nothing else.
const NOTHING_OF_ASCII: percent_encoding::AsciiSet = percent_encoding::AsciiSet::EMPTY;

/// The one value of a field; an error where there are two.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h [u8]>, ()> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => Ok(Some(value.as_bytes())),
        (Some(_), Some(_)) => Err(()),
    }
}

/// Yes: with every header name that may carry an identity, empty where there is nothing to say, so that a gateway which
/// only overwrites never leaves a client's own in place.
pub fn yes(told: HeaderMap, names: impl Iterator<Item = HeaderName>) -> Response<Bytes> {
    let mut response = respond::empty();
    response.headers_mut().extend(told);
    for name in names {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(""));
    }
    response
}

/// No. A script that fetches something gets no address to sign in at: it would fetch that instead.
pub fn no(settings: &ForwardAuth, sign_in: &str, navigates: bool, fetches: bool) -> Result<Response<Bytes>, Trouble> {
    match settings.gateway {
        Gateway::Nginx if !fetches => Ok(respond::unauthorized_at(sign_in)),
        _ if navigates => Ok(respond::redirect(sign_in, HeaderMap::new())),
        _ => Err(Trouble::NoSession),
    }
}
