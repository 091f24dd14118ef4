//! The userinfo of an access token's user (OIDC Core 5.3), as JSON or as a signed JWT.

use ::http::header::{self, HeaderValue};
use ::http::{Request, StatusCode};
use serde_json::{Map, Value};

use super::{AskError, BackChannel};
use crate::config::Endpoint;
use crate::pipeline::capture::oidc::{AccessToken, IdTokenError, UntrustedIdToken, object};
use crate::pipeline::ids::ProviderName;

/// Bytes of a response at most: past it the claims that it would bring are unresolved.
const MOST: usize = 1024 * 1024;

/// A response that is not verified yet.
#[derive(Debug, Clone)]
pub enum Userinfo {
    /// Believed as far as the TLS connection that it came by.
    Plain(Map<String, Value>),
    Signed(UntrustedIdToken),
}

/// Why there is no userinfo.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UserinfoError {
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error("the access token is not a valid header value")]
    AccessToken,
    #[error("userinfo answered with status {0}; expected 200")]
    Status(u16),
    #[error("userinfo is `{0}`; expected `application/json` or `application/jwt`")]
    MediaType(String),
    #[error("userinfo cannot be read: {0}")]
    Content(#[from] IdTokenError),
}

/// Asks for it.
///
/// # Errors
/// When the provider has no such endpoint, does not answer in time, or answers with something else.
pub async fn fetch(
    channel: &dyn BackChannel,
    provider: &ProviderName,
    access_token: &AccessToken,
) -> Result<Userinfo, UserinfoError> {
    let mut request = Request::new(Vec::new());
    let mut bearer =
        HeaderValue::try_from(format!("Bearer {}", access_token.expose())).map_err(|_| UserinfoError::AccessToken)?;
    bearer.set_sensitive(true);
    request.headers_mut().insert(header::AUTHORIZATION, bearer);
    request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static("application/json, application/jwt"));
    let answer = channel.ask(provider, Endpoint::Userinfo, request, MOST).await?;
    if answer.status() != StatusCode::OK {
        return Err(UserinfoError::Status(answer.status().as_u16()));
    }
    let media_type = answer.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let essence = media_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    if essence.eq_ignore_ascii_case(b"application/json") {
        return Ok(Userinfo::Plain(object("userinfo", answer.body())?));
    }
    if essence.eq_ignore_ascii_case(b"application/jwt") {
        let text = std::str::from_utf8(answer.body()).map_err(|_| IdTokenError::Base64 { part: "userinfo" })?;
        return Ok(Userinfo::Signed(UntrustedIdToken::parse(text)?));
    }
    Err(UserinfoError::MediaType(String::from_utf8_lossy(essence).chars().take(60).collect()))
}
