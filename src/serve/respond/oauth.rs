//! From what went wrong at the relay to what the app's OAuth client sees (RFC 6749 section 5.2).
//!
//! | what | status, `error` |
//! |---|---|
//! | a request that the provider could only refuse | 400 `invalid_request`, `invalid_dpop_proof`, `invalid_client` |
//! | a login that is not believed, a disabled user | 400 `invalid_grant` |
//! | a person's grant that brought no ID token | 400 `invalid_scope` |
//! | keys, store, time or memory for bodies are missing; a refreshed ID token is not believed, and userinfo cannot be asked | 503 `temporarily_unavailable` |
//! | the provider cannot be reached, or its answer cannot be read | 502 `server_error` |
//! | the provider is too slow | 504 `server_error` |

use std::fmt;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Response, StatusCode};

use crate::login::{Reason, Refused};
use crate::pipeline::capture::relay::{ReplyFault, RequestFault};
use crate::pipeline::verify::Fault;
use crate::serve::held::Full;

/// Why the app gets an answer of ours in place of the provider's.
#[derive(Debug)]
pub enum Trouble {
    NotFound,
    Method(&'static str),
    Body(&'static str),
    TooLarge {
        limit: usize,
    },
    Full(Full),
    Request(RequestFault),
    /// A login could not be committed now, so nothing was spent.
    NotReady(String),
    /// The provider has no discovery document, or none was fetched yet.
    NoDocument,
    Unreachable(String),
    TooSlow,
    Reply(ReplyFault),
    Login(Refused),
    /// A refreshed ID token that is not believed, while userinfo cannot be asked. The text says why it is not.
    NotBelieved(String),
    Internal,
}

impl Trouble {
    /// For metrics: where it was refused.
    pub fn stage(&self) -> &'static str {
        match self {
            Self::NotFound | Self::Method(_) | Self::Body(_) | Self::TooLarge { .. } | Self::Request(_) => "request",
            Self::Full(_) => "overload",
            Self::NotReady(_) => "store",
            Self::NoDocument => "keys",
            Self::Unreachable(_) | Self::TooSlow | Self::Reply(_) => "provider",
            Self::Login(refused) => refused.reason.stage(),
            Self::NotBelieved(_) => "verify",
            Self::Internal => "internal",
        }
    }
}

impl fmt::Display for Trouble {
    /// For the log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound => {
                f.write_str("no such address; expected `/PROVIDER/token` of a provider in mode `token-relay`")
            }
            Self::Method(expected) => write!(f, "another method than {expected}"),
            Self::Body(why) => f.write_str(why),
            Self::TooLarge { limit } => write!(f, "a body over `relay.request_body` of {limit} bytes"),
            Self::Full(full) => write!(f, "{full}"),
            Self::Request(fault) => write!(f, "{fault}"),
            Self::NotReady(why) => write!(f, "no login could be committed now: {why}"),
            Self::NoDocument => f.write_str("no discovery document of the provider is at hand"),
            Self::Unreachable(why) => write!(f, "the provider's token endpoint cannot be reached: {why}"),
            Self::TooSlow => f.write_str("the provider did not answer within `relay.timeout`"),
            Self::Reply(fault) => write!(f, "{fault}"),
            Self::Login(refused) => write!(f, "{}", refused.reason),
            Self::NotBelieved(why) => {
                write!(f, "the refreshed ID token is not believed, and userinfo could not be asked instead: {why}")
            }
            Self::Internal => f.write_str("the exchange ended unexpectedly"),
        }
    }
}

/// The answer to the app.
pub fn answer(trouble: &Trouble, id: &str) -> Response<Bytes> {
    let (status, error) = meaning(trouble);
    // The reason of a refused login is for the log; what concerns the client's set-up helps readers of the client's log.
    let description = match trouble {
        Trouble::Login(Refused { reason: Reason::Gate { message, .. }, .. }) => format!("{message} ({id})"),
        Trouble::Login(Refused { reason: reason @ Reason::NoIdToken, .. }) => format!("{reason} ({id})"),
        Trouble::Login(_) | Trouble::NotBelieved(_) => {
            format!("the login was refused; the log of loginsync has the reason under {id}")
        }
        other => format!("{other} ({id})"),
    };
    let body = serde_json::json!({ "error": error, "error_description": described(&description) });
    let mut response = Response::new(Bytes::from(body.to_string()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    match trouble {
        Trouble::Method(allowed) => {
            headers.insert(header::ALLOW, HeaderValue::from_static(allowed));
        }
        _ if status == StatusCode::SERVICE_UNAVAILABLE => {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
        }
        _ => {}
    }
    response
}

fn meaning(trouble: &Trouble) -> (StatusCode, &'static str) {
    let unavailable = (StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable");
    match trouble {
        Trouble::NotFound => (StatusCode::NOT_FOUND, "invalid_request"),
        Trouble::Method(_) => (StatusCode::METHOD_NOT_ALLOWED, "invalid_request"),
        Trouble::Body(_) => (StatusCode::BAD_REQUEST, "invalid_request"),
        Trouble::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "invalid_request"),
        Trouble::Request(RequestFault::Dpop) => (StatusCode::BAD_REQUEST, "invalid_dpop_proof"),
        Trouble::Request(RequestFault::Assertion(_) | RequestFault::AssertionAudience { .. }) => {
            (StatusCode::BAD_REQUEST, "invalid_client")
        }
        Trouble::Request(_) => (StatusCode::BAD_REQUEST, "invalid_request"),
        Trouble::Full(_) | Trouble::NotReady(_) | Trouble::NoDocument | Trouble::NotBelieved(_) => unavailable,
        Trouble::Unreachable(_) | Trouble::Reply(_) => (StatusCode::BAD_GATEWAY, "server_error"),
        Trouble::TooSlow => (StatusCode::GATEWAY_TIMEOUT, "server_error"),
        Trouble::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "server_error"),
        Trouble::Login(refused) if refused.reason.is_of_another() => (StatusCode::BAD_REQUEST, "invalid_grant"),
        Trouble::Login(refused) => match &refused.reason {
            Reason::Keys(_)
            | Reason::Userinfo(_)
            | Reason::Store(_)
            | Reason::Reconfigured
            | Reason::Timeout
            | Reason::Unconfirmed { .. }
            | Reason::Verify(Fault::Internal) => unavailable,
            Reason::NoIdToken => (StatusCode::BAD_REQUEST, "invalid_scope"),
            _ => (StatusCode::BAD_REQUEST, "invalid_grant"),
        },
    }
}

/// RFC 6749 section 5.2 allows printable ASCII without `"` and `\`.
fn described(text: &str) -> String {
    let fitting = |letter: char| if matches!(letter, ' ' | '!' | '#'..='[' | ']'..='~') { letter } else { '?' };
    text.chars().take(500).map(fitting).collect()
}
