//! What the steps of the walk share: whom they may ask, what they have so far, and who records it.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::pipeline::capture::oidc::AccessToken;
use crate::pipeline::claims::sources::Sources;
use crate::pipeline::ids::{ProviderName, Timestamp};
use crate::pipeline::provider::Provider;
use crate::pipeline::verify::{Assertion, Fault, Verified};
use crate::ports::back_channel::BackChannel;
use crate::ports::back_channel::userinfo::UserinfoError;
use crate::ports::directory::{Directory, DirectoryError};
use crate::ports::keys::{KeySource, KeysError};
use crate::ports::rules::Pair;

/// Whom the walk may ask. A look asks fewer than a login: what is not fetched stays unresolved.
#[derive(Clone, Copy)]
pub struct Asks<'a> {
    pub keys: &'a dyn KeySource,
    pub back_channel: Option<&'a dyn BackChannel>,
    pub directory: Option<&'a dyn Directory>,
    /// How many SAML responses are verified at once.
    pub verifiers: &'a Arc<Semaphore>,
}

/// Hears what the walk comes to know, for a log or a report.
pub trait Trace: Send {
    /// The token is believed.
    fn verified(&mut self, _assertion: &Verified<Assertion>) {}

    /// A source of claims did not come.
    fn source_failed(&mut self, _provider: &ProviderName, _source: &'static str, _why: &Unread) {}

    /// The directory was asked for groups that the token left out.
    fn directory_asked(&mut self, _provider: &ProviderName, _answer: &Result<Vec<String>, DirectoryError>) {}
}

/// Why a source told nothing.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    #[error(transparent)]
    Userinfo(#[from] UserinfoError),
    #[error(transparent)]
    Keys(#[from] KeysError),
    #[error("{0}")]
    Fault(Fault),
    #[error("{0}")]
    Subject(String),
    #[error("it is not a JWT: {0}")]
    Opaque(String),
}

/// A login whose token is believed, with what was fetched for it.
pub(super) struct Believed {
    pub assertion: Verified<Assertion>,
    pub provider: Arc<Provider>,
    /// What it is decided by, from the first step to the last.
    pub pair: Arc<Pair>,
    pub sources: Sources,
    pub access_token: Option<AccessToken>,
    pub now: Timestamp,
}
