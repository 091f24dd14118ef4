//! Directories: who has the groups that a token left out.

pub mod graph;

use std::time::Duration;

use super::BoxFuture;
use super::http::FetchError;
use crate::pipeline::claims::overage::Person;
use crate::pipeline::ids::ProviderName;

/// Answers for the people of each provider that has a directory.
pub trait Directory: Send + Sync {
    /// All groups of a person that the claim would have carried, and in its words; never a part of them.
    fn groups<'a>(
        &'a self,
        provider: &'a ProviderName,
        person: &'a Person,
    ) -> BoxFuture<'a, Result<Vec<String>, DirectoryError>>;
}

/// Why a directory did not tell. Messages hold nothing of a token, a credential or a link.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DirectoryError {
    #[error("the provider has no directory")]
    None,
    #[error("the token is of tenant `{found}`; expected `{expected}`")]
    OtherTenant { found: String, expected: String },
    #[error("the token does not say who is meant: its `overage.user` claim is missing, or not one text")]
    Unnamed,
    #[error("no answer within {} ms, which `overage.timeout` sets", .0.as_millis())]
    Timeout(Duration),
    #[error("the directory asks to wait for {} s, longer than `overage.timeout` allows", .0.as_secs())]
    Throttled(Duration),
    #[error("no access token: {0}")]
    Token(String),
    #[error("{0}")]
    Fetch(#[from] FetchError),
    #[error("the directory answered with status {status}{}", code.as_deref().map(|code| format!(" (`{code}`)")).unwrap_or_default())]
    Status { status: u16, code: Option<String> },
    #[error("the directory's next page is at another place than `overage.endpoint`")]
    Elsewhere,
    #[error("the directory has more than {most} {what}")]
    TooMany { what: &'static str, most: usize },
    #[error("the directory's answer is not what was asked for: {0}")]
    Malformed(&'static str),
    #[error("the application may not read all groups: some came without a name")]
    Hidden,
}
