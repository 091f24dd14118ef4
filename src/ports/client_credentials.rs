//! Access tokens of a client of our own (client credentials, RFC 6749 section 4.4): fetched once for all who wait, kept until shortly
//! before their end.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{self, HeaderValue};
use http::{Request, StatusCode};
use serde_json::Value;
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use super::http::HttpClient;
use crate::clock::Clock;
use crate::config::ClientCredentials;
use crate::pipeline::ids::Timestamp;

/// Bytes of a token endpoint's answer.
const MOST_ANSWER: usize = 64 * 1024;
/// A token is not used in the last part of its life: clocks differ, and requests take time.
const MARGIN: Duration = Duration::from_secs(60);
/// However long a token is said to live, it is renewed after a day.
const LONGEST: Duration = Duration::from_secs(86_400);

/// Why no token was issued. It holds nothing of a credential.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TokenError(String);

/// The tokens of one client.
pub struct Tokens {
    client: ClientCredentials,
    clock: Clock,
    current: Mutex<Option<AccessToken>>,
}

#[derive(Clone, PartialEq)]
pub struct AccessToken {
    bearer: HeaderValue,
    until: Timestamp,
}

impl AccessToken {
    /// The value of an `Authorization` header, which prints itself nowhere.
    pub fn bearer(&self) -> HeaderValue {
        self.bearer.clone()
    }
}

impl Tokens {
    pub fn new(client: ClientCredentials, clock: Clock) -> Self {
        Self { client, clock, current: Mutex::new(None) }
    }

    /// A token that is good now.
    ///
    /// # Errors
    /// When the token endpoint issues none.
    pub async fn current(&self, http: &HttpClient) -> Result<AccessToken, TokenError> {
        let mut current = self.current.lock().await;
        let now = self.clock.now();
        if let Some(token) = current.as_ref().filter(|token| now < token.until) {
            return Ok(token.clone());
        }
        let token = self.fetch(http, now).await?;
        *current = Some(token.clone());
        Ok(token)
    }

    /// Drops a token that is no longer taken, unless another took its place.
    pub async fn forget(&self, refused: &AccessToken) {
        let mut current = self.current.lock().await;
        if current.as_ref() == Some(refused) {
            *current = None;
        }
    }

    /// RFC 6749 section 4.4.2.
    fn request(&self) -> Result<Request<Vec<u8>>, TokenError> {
        let failed = |why: &str| TokenError(why.to_owned());
        let ClientCredentials { token_endpoint, client_id, secret, in_form, scopes } = &self.client;
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "client_credentials");
        let mut request = Request::post(token_endpoint.as_str())
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::ACCEPT, "application/json");
        if *in_form {
            let secret = std::str::from_utf8(secret.expose()).map_err(|_| failed("the credential is not text"))?;
            form.append_pair("client_id", client_id).append_pair("client_secret", secret);
        } else {
            request = request.header(header::AUTHORIZATION, basic(client_id, secret.expose()));
        }
        if !scopes.is_empty() {
            form.append_pair("scope", &scopes.join(" "));
        }
        request.body(form.finish().into_bytes()).map_err(|_| failed("the token endpoint is not a valid URL"))
    }

    async fn fetch(&self, http: &HttpClient, now: Timestamp) -> Result<AccessToken, TokenError> {
        let failed = |why: &str| TokenError(why.to_owned());
        let request = self.request()?;
        let answer = http.exchange(request, MOST_ANSWER).await.map_err(|error| TokenError(error.to_string()))?;
        let body: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
        if answer.status() != StatusCode::OK {
            // `error` is a word of RFC 6749 section 5.2; the description may quote what was sent.
            let word = body.get("error").and_then(Value::as_str).and_then(word);
            let word = word.map(|word| format!(" (`{word}`)")).unwrap_or_default();
            return Err(TokenError(format!("status {}{word}", answer.status().as_u16())));
        }
        let token = body.get("access_token").and_then(Value::as_str).ok_or_else(|| failed("the answer has none"))?;
        let mut bearer = HeaderValue::try_from(format!("Bearer {token}"))
            .map_err(|_| failed("the token is not a valid header value"))?;
        bearer.set_sensitive(true);
        // Some authorities write the number as text.
        let seconds = body.get("expires_in").and_then(|value| match value {
            Value::Number(number) => number.as_u64(),
            Value::String(text) => text.parse().ok(),
            _ => None,
        });
        let lifetime = Duration::from_secs(seconds.unwrap_or_default()).min(LONGEST);
        Ok(AccessToken { bearer, until: now.plus(lifetime.saturating_sub(MARGIN.min(lifetime / 2))) })
    }
}

/// RFC 6749 section 2.3.1: both halves are form-encoded before they are joined.
pub fn basic(client_id: &str, secret: &[u8]) -> String {
    let encode = |bytes: &[u8]| form_urlencoded::byte_serialize(bytes).collect::<String>();
    let pair = Zeroizing::new(format!("{}:{}", encode(client_id.as_bytes()), encode(secret)));
    format!("Basic {}", STANDARD.encode(pair.as_bytes()))
}

/// A code of an error, short and plain, so that nothing else is ever logged in its place: messages may quote what was sent.
pub fn word(text: &str) -> Option<String> {
    let is_word = |text: &&str| {
        !text.is_empty() && text.len() <= 80 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    Some(text).filter(is_word).map(str::to_owned)
}
