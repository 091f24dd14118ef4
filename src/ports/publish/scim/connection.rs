//! The way to one SCIM server: bounded in time and size, without redirects, with a token that is renewed.

use std::time::Duration;

use http::header::{self, HeaderValue};
use http::{Response, StatusCode};
use serde_json::Value;
use url::Url;

use super::super::{Fault, FaultKind, exchange, judge, retry_after};
use super::message::{Answer, Request};
use crate::clock::Clock;
use crate::config::ScimLogin;
use crate::ports::BoxFuture;
use crate::ports::client_credentials::{AccessToken, Tokens};
use crate::ports::http::{FetchError, HttpClient};

/// Bytes of an answer at most: some tens of thousands of members.
const MOST_ANSWER: usize = 4 * 1024 * 1024;
/// What is sent, and what is taken (RFC 7644 section 3.1).
const FORM: &str = "application/scim+json";

/// Who is asked.
pub trait Server: Send + Sync {
    /// One exchange.
    ///
    /// # Errors
    /// When there is no answer, or one that holds for any request.
    fn ask(&self, request: Request) -> BoxFuture<'_, Result<Answer, Fault>>;
}

/// A server over HTTP.
pub struct Connection {
    base: Url,
    client: HttpClient,
    login: Login,
    timeout: Duration,
}

enum Login {
    Of(ScimLogin),
    Tokens(Tokens),
}

impl Connection {
    pub fn new(base: Url, client: HttpClient, login: ScimLogin, clock: Clock, timeout: Duration) -> Self {
        let login = match login {
            ScimLogin::Client(client) => Login::Tokens(Tokens::new(client, clock)),
            fixed => Login::Of(fixed),
        };
        Self { base, client, login, timeout }
    }

    /// The address of a resource.
    pub fn address(&self, path: &[String], query: &[(&'static str, String)]) -> String {
        let mut address = self.base.clone();
        if let Ok(mut segments) = address.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        if !query.is_empty() {
            let pairs = query.iter().map(|(name, value)| {
                let encoded: String = url::form_urlencoded::byte_serialize(value.as_bytes()).collect();
                // Not every server reads a plus as a space.
                format!("{name}={}", encoded.replace('+', "%20"))
            });
            address.set_query(Some(&pairs.collect::<Vec<_>>().join("&")));
        }
        address.into()
    }

    /// What `Authorization` says, and the token that can be renewed.
    async fn authorization(&self) -> Result<(HeaderValue, Option<AccessToken>), Fault> {
        let barred = |why: String| Fault::new(FaultKind::Barred, why);
        let text = match &self.login {
            Login::Tokens(tokens) => {
                let token = tokens.current(&self.client).await;
                let token = token.map_err(|error| barred(format!("no access token: {error}")))?;
                return Ok((token.bearer(), Some(token)));
            }
            Login::Of(ScimLogin::TokenFile(path)) => {
                let read = tokio::fs::read(path).await;
                read.map_err(|error| barred(format!("the token file cannot be read: {}", error.kind())))?
            }
            Login::Of(ScimLogin::Token(token)) => token.expose().to_vec(),
            Login::Of(ScimLogin::Client(_)) => Vec::new(),
        };
        let text = zeroize::Zeroizing::new(text);
        let mut bearer = HeaderValue::from_bytes(&[b"Bearer ", text.trim_ascii()].concat())
            .map_err(|_| barred("the token is not a valid header value".into()))?;
        bearer.set_sensitive(true);
        Ok((bearer, None))
    }

    async fn send(&self, request: &Request, bearer: HeaderValue) -> Result<Response<Vec<u8>>, FetchError> {
        let mut head = http::Request::builder()
            .method(request.method.clone())
            .uri(self.address(&request.path, &request.query))
            .header(header::ACCEPT, FORM)
            .header(header::USER_AGENT, concat!("loginsync/", env!("CARGO_PKG_VERSION")))
            .header(header::AUTHORIZATION, bearer);
        if request.body.is_some() {
            head = head.header(header::CONTENT_TYPE, FORM);
        }
        let body = request.body.as_ref().map(|body| body.to_string().into_bytes()).unwrap_or_default();
        let request = head.body(body).map_err(|error| FetchError::Content(error.to_string()))?;
        exchange(&self.client, request, MOST_ANSWER, self.timeout).await
    }
}

impl Server for Connection {
    fn ask(&self, request: Request) -> BoxFuture<'_, Result<Answer, Fault>> {
        Box::pin(async move {
            let (bearer, token) = self.authorization().await?;
            let mut answer = self.send(&request, bearer).await;
            if let (Ok(first), Some(refused), Login::Tokens(tokens)) = (&answer, token, &self.login)
                && first.status() == StatusCode::UNAUTHORIZED
            {
                tokens.forget(&refused).await;
                answer = self.send(&request, self.authorization().await?.0).await;
            }
            match answer {
                Ok(answer) => read(&answer),
                Err(FetchError::TooLong(_)) => Ok(Answer { status: 200, is_too_long: true, ..Answer::default() }),
                Err(error) => Err(error.into()),
            }
        })
    }
}

/// What holds for any request is a fault; everything else is for the caller to judge.
fn read(answer: &Response<Vec<u8>>) -> Result<Answer, Fault> {
    let status = answer.status();
    let general = match status.as_u16() {
        401 => Some(FaultKind::Barred),
        300..=399 | 429 | 502..=504 => judge(status, retry_after(answer)).err(),
        _ => None,
    };
    if let Some(kind) = general {
        let why = format!("the receiver answers with status {}; expected what SCIM has there", status.as_u16());
        return Err(Fault::new(kind, why));
    }
    let body = serde_json::from_slice::<Value>(answer.body()).unwrap_or_default();
    Ok(Answer { status: status.as_u16(), body, is_too_long: false })
}
