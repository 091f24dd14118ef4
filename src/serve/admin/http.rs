//! What the faces share of HTTP: who calls, what a body says, and what was asked for beside it.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{ConnectInfo, Extension, FromRequestParts, Request};
use axum::middleware::{self, Next};
use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::request::Parts;
use serde::de::DeserializeOwned;

use super::Inspect;
use super::auth::{Denied, Doorkeeper};
use super::limit::Left;
use super::service::{Call, Caller, Refused, Service};
use crate::config::Face;
use crate::pipeline::mapping::definition::Fault;

/// Bytes of a request's body at the most.
pub const MOST_BODY: usize = 1 << 20;

/// What every handler has.
#[derive(Clone)]
pub struct Admin {
    pub service: Service,
    pub door: Arc<Doorkeeper>,
}

impl Admin {
    pub fn new(inspect: Arc<dyn Inspect>) -> Self {
        Self { service: Service::new(inspect), door: Arc::new(Doorkeeper::default()) }
    }

    pub fn inspect(&self) -> &dyn Inspect {
        &*self.service.inspect
    }
}

/// Lets only known callers of this face through; `denied` is how the face says no.
pub fn guarded(routes: Router<Admin>, admin: &Admin, face: Face, denied: fn(&Denied) -> Response) -> Router<Admin> {
    let admin = admin.clone();
    routes.layer(middleware::from_fn(move |request: Request, next: Next| {
        let admin = admin.clone();
        async move {
            let (mut parts, body) = request.into_parts();
            let address = peer(&parts);
            let admitted = admin.door.admit(admin.inspect(), face, &parts.headers, address.ip()).await;
            let mut response = match admitted {
                Ok((caller, left)) => {
                    parts.extensions.insert(caller);
                    let response = next.run(Request::from_parts(parts, body)).await;
                    with_limit(in_own_words(response, denied), left)
                }
                Err(why) => {
                    let left = if let Denied::TooMany(left) = &why { Some(*left) } else { None };
                    let response = denied(&why);
                    if let Some(left) = left { with_limit(response, left) } else { response }
                }
            };
            response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
            response
        }
    }))
}

/// What the framework refuses, it refuses in plain text or without a word; a face has words of its own.
fn in_own_words(response: Response, denied: fn(&Denied) -> Response) -> Response {
    if response.status() == StatusCode::METHOD_NOT_ALLOWED {
        let mut own = denied(&Denied::Method);
        if let Some(allowed) = response.headers().get(ALLOW) {
            own.headers_mut().insert(ALLOW, allowed.clone());
        }
        return own;
    }
    let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    match (response.status(), kind.starts_with("text/plain")) {
        (StatusCode::PAYLOAD_TOO_LARGE, true) => denied(&Denied::TooLarge),
        (StatusCode::BAD_REQUEST, true) => denied(&Denied::Nowhere),
        _ => response,
    }
}

/// Who is at the other end of the connection; no header says.
pub fn peer(parts: &Parts) -> SocketAddr {
    let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
    parts.extensions.get::<ConnectInfo<SocketAddr>>().map_or(unknown, |ConnectInfo(address)| *address)
}

/// Tells a client what is left of its limit, under the names that OneLogin and Timbal give it.
pub fn with_limit(mut response: Response, left: Left) -> Response {
    let refused = response.status() == StatusCode::TOO_MANY_REQUESTS;
    let fields = [
        ("x-ratelimit-limit", left.limit),
        ("x-ratelimit-remaining", left.calls),
        ("x-ratelimit-reset", left.seconds),
        ("ratelimit-limit", left.limit),
        ("ratelimit-remaining", left.calls),
        ("ratelimit-reset", left.seconds),
    ];
    for (name, value) in fields {
        response.headers_mut().insert(name, HeaderValue::from(value));
    }
    if refused {
        response.headers_mut().insert(http::header::RETRY_AFTER, HeaderValue::from(left.seconds.max(1)));
    }
    response
}

/// One call as far as the head of the request says it: who, what version they have seen, whether they mean it.
pub struct Head(pub Call);

impl<S: Send + Sync> FromRequestParts<S> for Head {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        let caller = Extension::<Caller>::from_request_parts(parts, state).await;
        // Without the layer that knows the caller nobody comes in.
        let Extension(caller) = caller.map_err(|_| StatusCode::UNAUTHORIZED)?;
        let query = parts.uri.query().unwrap_or_default();
        let confirmed = form_urlencoded::parse(query.as_bytes())
            .any(|(name, value)| name == "confirm" && matches!(&*value, "true" | "1"));
        Ok(Self(Call { caller, expected: None, confirmed }))
    }
}

/// A JSON body. Nothing at all stands for `{}` where `empty` allows it.
///
/// # Errors
/// What is wrong with it, at its place.
pub fn json<T: DeserializeOwned>(body: &Bytes, empty: bool) -> Result<T, Refused> {
    let bytes: &[u8] = if body.is_empty() && empty { b"{}" } else { body };
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let parsed = serde_path_to_error::deserialize(&mut reader);
    let fault = |field: String, message: String| Refused::Invalid(vec![Fault::new(field, None, message)]);
    let value = parsed.map_err(|error| {
        let field = error.path().to_string();
        let field = if field == "." { String::from("body") } else { field };
        fault(field, error.into_inner().to_string())
    })?;
    reader.end().map_err(|error| fault("body".into(), error.to_string()))?;
    Ok(value)
}
