//! What the API dialects share of HTTP: the caller, the body, and the parameters of the request.

use std::collections::HashSet;
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
use serde_json::Value;
use serde_path_to_error::{Error as PathError, Path, Segment};

use super::Inspect;
use super::auth::{Denied, Doorkeeper};
use super::limit::Left;
use super::service::{Call, Caller, Refused, Service};
use super::strict::{Strict, Tree};
use crate::config::Face;
use crate::pipeline::mapping::definition::Fault;

/// Bytes of a request's body at most.
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
        // Without the layer that knows the caller no call comes in.
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
/// All that is wrong with it, each at its place.
pub fn json<T: DeserializeOwned>(body: &Bytes, empty: bool) -> Result<T, Refused> {
    if body.is_empty() && !empty {
        return Err(Refused::fault("body", None, "the body is required"));
    }
    let bytes: &[u8] = if body.is_empty() { b"{}" } else { body };
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let Tree(value) =
        serde_path_to_error::deserialize(&mut reader).map_err(|error| Refused::Invalid(vec![fault(&error)]))?;
    reader.end().map_err(|error| {
        let at = format!("line {} column {}", error.line(), error.column());
        Refused::fault("body", None, format!("holds more than one JSON value: something follows at {at}"))
    })?;
    read(value).map_err(Refused::Invalid)
}

/// What a value says.
///
/// # Errors
/// All that is wrong with it, each at its place.
pub fn read<T: DeserializeOwned>(value: Value) -> Result<T, Vec<Fault>> {
    serde_path_to_error::deserialize(Strict(&value)).or_else(|first| faults(value, first))
}

/// Faults of a body's shape that are looked for, at most.
const MOST_FAULTS: usize = 10;
/// Characters of what is said of one.
const MOST_TEXT: usize = 300;

/// A reader stops at the first fault. To name the others too, what is wrong is taken away and the rest is read again.
fn faults<T: DeserializeOwned>(mut rest: Value, first: PathError<serde_json::Error>) -> Result<T, Vec<Fault>> {
    let mut faults = Vec::new();
    let mut taken = HashSet::new();
    while let (false, Err(error)) =
        (rest.is_null() || faults.len() == MOST_FAULTS, serde_path_to_error::deserialize::<_, T>(Strict(&rest)))
    {
        let missing = format!("{} {}", error.path(), error.inner());
        if !taken.contains(&missing) {
            faults.push(fault(&error));
        }
        let Some((parent, name)) = take(&mut rest, error.path()) else { break };
        // What was taken away is missing by our own hand, which is not a fault, and then all around it goes.
        taken.insert(format!("{parent} missing field `{name}`"));
    }
    if faults.is_empty() {
        faults.push(fault(&first));
    }
    Err(faults)
}

fn fault(error: &PathError<serde_json::Error>) -> Fault {
    // Both quote what was sent, and an answer shall not grow with that.
    let short = |text: String| text.chars().take(MOST_TEXT).collect::<String>();
    let field = short(error.path().to_string());
    let inner = error.inner();
    let message = match inner.is_data() {
        true => short(in_words_of_json(&inner.to_string())),
        false => format!("is not JSON, as line {} shows at column {}", inner.line(), inner.column()),
    };
    Fault::new(if field == "." { String::from("body") } else { field }, None, message)
}

/// What a reader of Rust's types says of a value, in words of JSON: `invalid type: sequence, expected struct NewGroup`.
fn in_words_of_json(text: &str) -> String {
    let known = ["invalid type: ", "invalid value: ", "invalid "].iter().find_map(|start| text.strip_prefix(start));
    // What was found may quote the body, which may say anything.
    let Some((found, expected)) = known.and_then(|rest| rest.rsplit_once(", expected ")) else {
        return text.to_owned();
    };
    let number = ["integer `", "floating point `"].iter().find_map(|kind| found.strip_prefix(kind));
    let found = match found {
        "map" => "an object".to_owned(),
        "sequence" => "an array".to_owned(),
        "null" | "unit value" => "null".to_owned(),
        _ if found.starts_with("length ") => "an array".to_owned(),
        _ if found.starts_with("string ") => format!("the {found}"),
        _ => match number.or_else(|| found.strip_prefix("boolean `")) {
            Some(value) => format!("`{value}"),
            None => found.to_owned(),
        },
    };
    let expected = match expected.split(' ').next().unwrap_or_default() {
        "struct" | "map" => "an object",
        "sequence" | "tuple" => "an array",
        "i8" | "i16" | "i32" | "i64" | "isize" | "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number",
        "f32" | "f64" => "a number",
        _ => match expected {
            "a sequence" => "an array",
            "a map" => "an object",
            other => other,
        },
    };
    format!("found {found}; expected {expected}")
}

/// Takes away the member at a path, or that which holds the list at it; tells the path of its object, and its name.
fn take(value: &mut Value, path: &Path) -> Option<(String, String)> {
    let segments: Vec<&Segment> = path.iter().collect();
    let last = segments.iter().rposition(|segment| matches!(segment, Segment::Map { .. }))?;
    let (above, rest) = segments.split_at_checked(last)?;
    let mut holder = value;
    for segment in above {
        holder = match segment {
            Segment::Map { key } => holder.get_mut(key)?,
            Segment::Seq { index } => holder.get_mut(*index)?,
            Segment::Enum { .. } | Segment::Unknown => return None,
        };
    }
    let Some(Segment::Map { key }) = rest.first() else { return None };
    holder.as_object_mut()?.remove(key)?;
    let mut parent = String::new();
    for segment in above {
        match segment {
            Segment::Seq { index } => parent.push_str(&format!("[{index}]")),
            other if parent.is_empty() => parent.push_str(&other.to_string()),
            other => parent.push_str(&format!(".{other}")),
        }
    }
    Some((if parent.is_empty() { String::from(".") } else { parent }, key.clone()))
}
