//! What is asked of an OIDC provider behind the browser's back: its token, userinfo and revocation endpoints.

pub mod http;
pub mod userinfo;

use ::http::{Request, Response};

use super::BoxFuture;
use super::http::FetchError;
use crate::config::Endpoint;
use crate::pipeline::ids::ProviderName;

/// Why a provider did not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    #[error("no `{0}` of the provider is known")]
    NoEndpoint(&'static str),
    #[error(transparent)]
    Fetch(#[from] FetchError),
}

/// The way to the providers' own endpoints.
pub trait BackChannel: Send + Sync {
    /// One exchange with an endpoint. The request's own address does not count. The answer's body holds at most `limit`
    /// bytes; its status is not looked at, and no redirect is followed.
    fn ask(
        &self,
        provider: &ProviderName,
        endpoint: Endpoint,
        request: Request<Vec<u8>>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Response<Vec<u8>>, AskError>>;
}
