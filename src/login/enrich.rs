//! Enrich: the one step that may wait for what a login does not bring along. Its failure is a claim's state and no error.

use serde_json::{Map, Value};

use super::trace::{Asks, Believed, Trace, Unread};
use crate::pipeline::capture::oidc::{AccessToken, UntrustedIdToken};
use crate::pipeline::claims::sources::{Brought, Source, Sources};
use crate::pipeline::claims::{self, ClaimRule, overage};
use crate::pipeline::ids::Timestamp;
use crate::pipeline::provider::Provider;
use crate::pipeline::verify::{self, Assertion, Payload, Verified};
use crate::ports::back_channel::AskError;
use crate::ports::back_channel::userinfo::{self, Userinfo, UserinfoError};

/// Fills in the sources that some claim still needs and that were not fetched, cheapest first.
pub(super) async fn enrich(asks: Asks<'_>, login: &Believed, mut sources: Sources, trace: &mut dyn Trace) -> Sources {
    let Believed { assertion, provider, access_token, now, .. } = login;
    let needs = |sources: &Sources, source| claims::lacks(assertion, sources, provider, source);
    if let Some(access_token) = access_token {
        if matches!(sources.access_token, Brought::Absent) && needs(&sources, Source::AccessToken) {
            let read = read_access_token(asks, provider, assertion, access_token, *now).await;
            sources.access_token = brought(provider, "the access token", read, trace);
        }
        let asked = asks.back_channel.is_some() && matches!(sources.userinfo, Brought::Absent);
        if asked && needs(&sources, Source::Userinfo) {
            let told = ask_userinfo(asks, provider, access_token, *now).await;
            let believed = told.and_then(|claims| {
                verify::userinfo(assertion, claims).map_err(|fault| Unread::Subject(fault.to_string()))
            });
            sources.userinfo = brought(provider, "userinfo", believed, trace);
        }
    }
    complete(asks, login, sources, trace).await
}

fn brought(
    provider: &Provider,
    source: &'static str,
    read: Result<Verified<Payload>, Unread>,
    trace: &mut dyn Trace,
) -> Brought<Verified<Payload>> {
    let error = match read {
        Ok(payload) => return Brought::Present(payload),
        Err(error) => error,
    };
    trace.source_failed(&provider.name, source, &error);
    match error {
        Unread::Userinfo(UserinfoError::Ask(AskError::NoEndpoint(_))) => Brought::Absent,
        _ => Brought::Failed,
    }
}

async fn read_access_token(
    asks: Asks<'_>,
    provider: &Provider,
    assertion: &Verified<Assertion>,
    access_token: &AccessToken,
    now: Timestamp,
) -> Result<Verified<Payload>, Unread> {
    let token = UntrustedIdToken::parse_access_token(access_token.expose())
        .map_err(|error| Unread::Opaque(error.to_string()))?;
    let published = asks.keys.current(&provider.name).await?;
    verify::access_token(assertion, provider, &published.keys, &token, now).map_err(Unread::Fault)
}

/// The claims of the provider's userinfo; of whom they speak is still to be seen.
pub(super) async fn ask_userinfo(
    asks: Asks<'_>,
    provider: &Provider,
    access_token: &AccessToken,
    now: Timestamp,
) -> Result<Map<String, Value>, Unread> {
    let unreachable = || Unread::Userinfo(UserinfoError::Ask(AskError::NoEndpoint("userinfo_endpoint")));
    let back_channel = asks.back_channel.ok_or_else(unreachable)?;
    match userinfo::fetch(back_channel, &provider.name, access_token).await? {
        Userinfo::Plain(claims) => Ok(claims),
        Userinfo::Signed(token) => {
            let published = asks.keys.current(&provider.name).await?;
            verify::signed_userinfo(provider, &published.keys, &token, now).map_err(Unread::Fault)
        }
    }
}

/// Asks the directory where a claim that some mapping reads was left out. An answer that does not come is a state of the
/// claim, which revokes nothing, and an alarm.
async fn complete(asks: Asks<'_>, login: &Believed, mut sources: Sources, trace: &mut dyn Trace) -> Sources {
    let Believed { assertion, provider, pair, now, .. } = login;
    let (Some(rule), Some(directory)) = (&provider.overage, asks.directory) else { return sources };
    let reads = |claim: &ClaimRule| pair.rules.reads(&provider.name, &claim.name, *now);
    if !claims::left_out(assertion, &sources, provider).any(reads) {
        return sources;
    }
    let answer = directory.groups(&provider.name, &overage::person(assertion, rule)).await;
    trace.directory_asked(&provider.name, &answer);
    sources.directory = answer.map_or(Brought::Failed, Brought::Present);
    sources
}
