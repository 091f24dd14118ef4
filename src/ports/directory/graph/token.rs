//! The access token by which a directory lets us in: fetched once for all who wait, kept until shortly before its end.

use std::time::Duration;

use http::header::{self, HeaderValue};
use http::{Request, StatusCode};
use serde_json::Value;
use tokio::sync::Mutex;

use super::super::DirectoryError;
use super::answer;
use crate::clock::Clock;
use crate::config::OverageSettings;
use crate::pipeline::ids::Timestamp;
use crate::ports::http::HttpClient;

/// Bytes of a token endpoint's answer.
const MOST_ANSWER: usize = 64 * 1024;
/// A token is not used in the last minute of its life: clocks differ, and requests take time.
const MARGIN: Duration = Duration::from_secs(60);
/// However long a token is said to live, it is renewed after a day.
const LONGEST: Duration = Duration::from_secs(86_400);

/// One tenant's token.
pub struct Tokens {
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
    pub fn new(clock: Clock) -> Self {
        Self { clock, current: Mutex::new(None) }
    }

    /// A token that is good now.
    pub async fn current(
        &self,
        client: &HttpClient,
        settings: &OverageSettings,
    ) -> Result<AccessToken, DirectoryError> {
        let mut current = self.current.lock().await;
        let now = self.clock.now();
        if let Some(token) = current.as_ref().filter(|token| now < token.until) {
            return Ok(token.clone());
        }
        let token = fetch(client, settings, now).await?;
        *current = Some(token.clone());
        Ok(token)
    }

    /// Drops a token that the directory no longer takes, unless another took its place.
    pub async fn forget(&self, refused: &AccessToken) {
        let mut current = self.current.lock().await;
        if current.as_ref() == Some(refused) {
            *current = None;
        }
    }
}

/// RFC 6749 section 4.4.2, with the scope that stands for everything the application was given.
async fn fetch(client: &HttpClient, settings: &OverageSettings, now: Timestamp) -> Result<AccessToken, DirectoryError> {
    let failed = |why: &str| DirectoryError::Token(why.to_owned());
    let secret = std::str::from_utf8(settings.credential.expose()).map_err(|_| failed("the credential is not text"))?;
    let scope = format!("{}/.default", settings.endpoint.origin().ascii_serialization());
    let form = form_urlencoded::Serializer::new(String::new())
        .append_pair("grant_type", "client_credentials")
        .append_pair("client_id", &settings.client_id)
        .append_pair("client_secret", secret)
        .append_pair("scope", &scope)
        .finish();
    let request = Request::post(settings.token_endpoint.as_str())
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(header::ACCEPT, "application/json")
        .body(form.into_bytes())
        .map_err(|_| failed("`overage.token_endpoint` is not a valid URL"))?;
    let answer =
        client.exchange(request, MOST_ANSWER).await.map_err(|error| DirectoryError::Token(error.to_string()))?;
    let body: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
    if answer.status() != StatusCode::OK {
        // `error` is a word of RFC 6749 section 5.2; the description may quote what was sent.
        let word = body.get("error").and_then(Value::as_str).and_then(answer::word);
        let word = word.map(|word| format!(" (`{word}`)")).unwrap_or_default();
        return Err(DirectoryError::Token(format!("status {}{word}", answer.status().as_u16())));
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
    Ok(AccessToken { bearer, until: now.plus(lifetime.saturating_sub(MARGIN)) })
}
