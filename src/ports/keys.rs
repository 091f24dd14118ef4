//! Signing keys and endpoints of the providers: fetched in the background, cached, swapped whole.

pub mod fetched;

use std::sync::Arc;

use serde_json::{Map, Value};

use super::BoxFuture;
use crate::config::Endpoint;
use crate::pipeline::ids::{ProviderName, Timestamp};
use crate::pipeline::verify::ProviderKeys;
use crate::pipeline::verify::saml::metadata::SloLocation;

/// What a provider publishes of itself.
#[derive(Debug, Clone)]
pub struct Published {
    pub keys: ProviderKeys,
    /// Where the app sends people to log in: the authorization endpoint, or the SSO locations of both redirecting bindings.
    pub endpoints: Vec<String>,
    /// Where we ourselves talk to the provider, or send people to it.
    pub offered: Offered,
    /// The discovery document as the issuer wrote it, where that is where keys come from.
    pub document: Option<Arc<Map<String, Value>>>,
    /// What the provider publishes and cannot be used, each with the reason.
    pub complaints: Vec<String>,
    pub fetched_at: Timestamp,
}

/// The addresses that a provider offers, as far as it publishes them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Offered {
    /// OpenID Connect Discovery 1.0 section 3.
    pub authorization: Option<String>,
    pub token: Option<String>,
    pub userinfo: Option<String>,
    /// RFC 7009, by RFC 8414 section 2.
    pub revocation: Option<String>,
    /// OpenID Connect RP-Initiated Logout 1.0 section 2.1.
    pub end_session: Option<String>,
    /// Answers of the authorization endpoint name their issuer (RFC 9207 section 3).
    pub names_issuer: bool,
    /// SAML, by redirect.
    pub sso: Option<String>,
    pub slo: Option<SloLocation>,
}

impl Published {
    /// Keys alone, of which nothing more is known.
    pub fn of(keys: ProviderKeys, at: Timestamp) -> Self {
        let (endpoints, complaints) = (Vec::new(), Vec::new());
        Self { keys, endpoints, offered: Offered::default(), document: None, complaints, fetched_at: at }
    }
}

/// Why no keys are to be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    #[error("no keys of provider `{0}` were fetched yet")]
    NotYet(ProviderName),
    #[error("the last good copy of the keys of provider `{0}` is older than `max_stale`")]
    TooStale(ProviderName),
    /// For a single look.
    #[error("{0}")]
    Unavailable(String),
}

/// Where keys come from.
pub trait KeySource: Send + Sync {
    /// The keys at hand: never waits for the network while a copy is fresh enough; waits for the first fetch otherwise.
    fn current(&self, provider: &ProviderName) -> BoxFuture<'_, Result<Arc<Published>, KeysError>>;

    /// Looks again, because a token names a key that `current` lacks. At most one fetch per provider and interval, however
    /// many ask; answers with what is then at hand.
    fn look_again(&self, provider: &ProviderName) -> BoxFuture<'_, Result<Arc<Published>, KeysError>>;

    /// Looks for one key that a token names. Where keys are had one by one, this is how; else as [`Self::look_again`].
    fn look_for<'a>(
        &'a self,
        provider: &ProviderName,
        _key_id: &'a str,
    ) -> BoxFuture<'a, Result<Arc<Published>, KeysError>> {
        self.look_again(provider)
    }

    /// The endpoints at hand, without waiting; empty before the first fetch.
    fn endpoints(&self, provider: &ProviderName) -> Vec<String>;

    /// An endpoint that the configuration names, else one of the discovery document at hand.
    fn endpoint(&self, provider: &ProviderName, endpoint: Endpoint) -> Option<String>;

    /// The discovery document at hand.
    fn document(&self, provider: &ProviderName) -> Option<Arc<Map<String, Value>>>;

    /// When what is at hand was fetched, without waiting.
    fn fetched_at(&self, _provider: &ProviderName) -> Option<Timestamp> {
        None
    }

    /// Whether `current` would answer, without waiting.
    fn ready(&self, provider: &ProviderName) -> bool;
}

/// What one provider published when it was asked once, for a look alone; or why it did not answer.
#[derive(Debug, Clone)]
pub struct Once(pub Result<Arc<Published>, String>);

impl KeySource for Once {
    fn current(&self, _: &ProviderName) -> BoxFuture<'_, Result<Arc<Published>, KeysError>> {
        Box::pin(std::future::ready(self.0.clone().map_err(KeysError::Unavailable)))
    }

    fn look_again(&self, provider: &ProviderName) -> BoxFuture<'_, Result<Arc<Published>, KeysError>> {
        self.current(provider)
    }

    fn endpoints(&self, _: &ProviderName) -> Vec<String> {
        Vec::new()
    }

    fn endpoint(&self, _: &ProviderName, _: Endpoint) -> Option<String> {
        None
    }

    fn document(&self, _: &ProviderName) -> Option<Arc<Map<String, Value>>> {
        None
    }

    fn fetched_at(&self, _: &ProviderName) -> Option<Timestamp> {
        self.0.as_ref().ok().map(|published| published.fetched_at)
    }

    fn ready(&self, _: &ProviderName) -> bool {
        self.0.is_ok()
    }
}
