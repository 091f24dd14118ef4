//! Enrich: the one step that may wait for what a login does not bring along. Its failure is a claim's state and no error.

use serde_json::{Map, Value};

use super::Services;
use crate::pipeline::capture::oidc::{AccessToken, UntrustedIdToken};
use crate::pipeline::claims;
use crate::pipeline::claims::sources::{Brought, Source, Sources};
use crate::pipeline::ids::Timestamp;
use crate::pipeline::provider::Provider;
use crate::pipeline::verify::{self, Assertion, Fault, Payload, Verified};
use crate::ports::back_channel::AskError;
use crate::ports::back_channel::userinfo::{self, Userinfo, UserinfoError};
use crate::ports::keys::KeysError;

/// Fills in the sources that some claim still needs, cheapest first.
pub(super) async fn enrich(
    services: &Services,
    id: &str,
    provider: &Provider,
    assertion: &Verified<Assertion>,
    access_token: Option<&AccessToken>,
    mut sources: Sources,
    now: Timestamp,
) -> Sources {
    let Some(access_token) = access_token else { return sources };
    let needs = |sources: &Sources, source| claims::lacks(assertion, sources, provider, source);
    if needs(&sources, Source::AccessToken) {
        let read = read_access_token(services, provider, assertion, access_token, now).await;
        sources.access_token = brought(id, provider, "the access token", read);
    }
    if needs(&sources, Source::Userinfo) && matches!(sources.userinfo, Brought::Absent) {
        let asked = ask_userinfo(services, provider, access_token, now).await;
        let believed = asked
            .and_then(|claims| verify::userinfo(assertion, claims).map_err(|fault| Unread::Subject(fault.to_string())));
        sources.userinfo = brought(id, provider, "userinfo", believed);
    }
    sources
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
    #[error("it is no JWT: {0}")]
    Opaque(String),
}

fn brought(
    id: &str,
    provider: &Provider,
    source: &'static str,
    read: Result<Verified<Payload>, Unread>,
) -> Brought<Verified<Payload>> {
    let error = match read {
        Ok(payload) => return Brought::Present(payload),
        Err(error) => error,
    };
    tracing::warn!(%id, provider = %provider.name, source, %error, "a source of claims did not come; what it tells is kept");
    match error {
        Unread::Userinfo(UserinfoError::Ask(AskError::NoEndpoint(_))) => Brought::Absent,
        _ => Brought::Failed,
    }
}

async fn read_access_token(
    services: &Services,
    provider: &Provider,
    assertion: &Verified<Assertion>,
    access_token: &AccessToken,
    now: Timestamp,
) -> Result<Verified<Payload>, Unread> {
    let token = UntrustedIdToken::parse_access_token(access_token.expose())
        .map_err(|error| Unread::Opaque(error.to_string()))?;
    let published = services.keys.current(&provider.name).await?;
    verify::access_token(assertion, provider, &published.keys, &token, now).map_err(Unread::Fault)
}

/// The claims of the provider's userinfo; of whom they speak is still to be seen.
pub(super) async fn ask_userinfo(
    services: &Services,
    provider: &Provider,
    access_token: &AccessToken,
    now: Timestamp,
) -> Result<Map<String, Value>, Unread> {
    match userinfo::fetch(&*services.back_channel, &provider.name, access_token).await? {
        Userinfo::Plain(claims) => Ok(claims),
        Userinfo::Signed(token) => {
            let published = services.keys.current(&provider.name).await?;
            verify::signed_userinfo(provider, &published.keys, &token, now).map_err(Unread::Fault)
        }
    }
}
