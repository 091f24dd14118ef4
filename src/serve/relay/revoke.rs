//! Tokens that the app does not get are given back (RFC 7009), where the provider offers that: they are of no use to any party, and a
//! session at the provider should not seem to exist.

use http::header::{self, HeaderValue};
use http::{Method, Request};

use super::Exchange;
use crate::config::Endpoint;
use crate::pipeline::capture::oidc::AccessToken;
use crate::pipeline::capture::relay::Tokens;
use crate::ports::back_channel::AskError;

/// Bytes of an answer that nothing reads.
const MOST_ANSWER: usize = 64 * 1024;

/// Gives back the tokens of an exchange, the refresh token first: its end is that of what hangs on it.
pub(super) async fn revoke(exchange: Exchange, tokens: Tokens) {
    let given = [("refresh_token", tokens.refresh_token), ("access_token", tokens.access_token)];
    for (kind, token) in given {
        let Some(token) = token else { continue };
        let (id, provider) = (&exchange.id, &exchange.provider.name);
        match ask(&exchange, kind, &token).await {
            Ok(status) if status.is_success() => tracing::info!(%id, %provider, kind, "a withheld token was revoked"),
            Ok(status) => {
                tracing::warn!(%id, %provider, kind, status = status.as_u16(), "the provider did not revoke a withheld token");
            }
            Err(AskError::NoEndpoint(_)) => {
                return tracing::info!(%id, %provider, "the provider has no revocation \
                endpoint; a withheld token was not revoked");
            }
            Err(error) => tracing::warn!(%id, %provider, kind, %error, "failed to revoke a withheld token"),
        }
    }
}

/// As the client that the tokens were issued to: by the same proof as in its own request.
async fn ask(exchange: &Exchange, kind: &str, token: &AccessToken) -> Result<http::StatusCode, AskError> {
    let proof = exchange.request.client.iter().map(|(name, value)| (name.as_str(), value.expose()));
    let fields = [("token", token.expose()), ("token_type_hint", kind)].into_iter().chain(proof);
    let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
    let mut request = Request::new(form.into_bytes());
    *request.method_mut() = Method::POST;
    let headers = request.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    if let Some(credentials) = exchange.parts.headers.get(header::AUTHORIZATION) {
        headers.insert(header::AUTHORIZATION, credentials.clone());
    }
    let channel = &exchange.relay.services.back_channel;
    let answer = channel.ask(&exchange.provider.name, Endpoint::Revocation, request, MOST_ANSWER);
    let answer = tokio::time::timeout(exchange.relay.settings.timeout, answer).await;
    answer.unwrap_or(Err(AskError::Fetch(crate::ports::http::FetchError::Timeout))).map(|answer| answer.status())
}
