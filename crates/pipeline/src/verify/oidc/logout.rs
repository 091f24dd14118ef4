//! Verifies a logout token: OpenID Connect Back-Channel Logout 1.0 section 2.6.

use serde_json::{Map, Value};

use super::{KeySet, check_issuer, check_membership, check_signature, numeric_date, required_date, token_id};
use crate::capture::oidc::{UntrustedIdToken, kind};
use crate::ids::Timestamp;
use crate::number;
use crate::provider::{OidcPolicy, Provider};
use crate::verify::{Fault, LogoutStatement};

/// The member of `events` that makes a token one of logout.
const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";

/// Checks a logout token. It is no ID token, and an ID token is none of these.
pub(in crate::verify) fn check(
    provider: &Provider,
    policy: &OidcPolicy,
    token: &UntrustedIdToken,
    keys: &KeySet,
    now: Timestamp,
) -> Result<LogoutStatement, Fault> {
    check_signature(policy, token, keys)?;
    let (payload, payload_bytes) = token.payload();
    check_issuer(provider, payload)?;
    // Section 2.6 asks for nothing but membership, and logout tokens have no `azp`.
    check_membership(policy, payload)?;
    let issued_at = required_date(payload, "iat")?;
    if issued_at > now.plus(provider.leeway) {
        return Err(Fault::IssuedInFuture { at: issued_at, now });
    }
    // Drafts had no `exp`, and providers of that time send none; `iat` bounds those.
    if issued_at < now.minus(provider.max_age).minus(provider.leeway) {
        return Err(Fault::TooOld { at: issued_at, now });
    }
    if let Some(at) = numeric_date(payload, "exp")?
        && now >= at.plus(provider.leeway)
    {
        return Err(Fault::Expired { at, now });
    }
    check_event(payload)?;
    let (subject, session) = (text(payload, "sub")?, text(payload, "sid")?);
    if subject.is_none() && session.is_none() {
        return Err(Fault::Malformed("neither `sub` nor `sid`; expected at least one".into()));
    }
    Ok(LogoutStatement {
        provider: provider.name.clone(),
        issuer: provider.issuer.clone(),
        token_id: token_id(payload, payload_bytes),
        subject,
        sessions: session.into_iter().collect(),
    })
}

/// Section 2.4: the event is there, and a nonce is not, so that no ID token passes for a logout.
fn check_event(payload: &Map<String, Value>) -> Result<(), Fault> {
    let event = payload.get("events").and_then(|events| events.get(EVENT));
    if !event.is_some_and(|event| event.is_object() && number::text(event).is_none()) {
        return Err(Fault::Malformed("claim `events` does not name a back-channel logout".into()));
    }
    match payload.get("nonce") {
        None => Ok(()),
        Some(_) => Err(Fault::Malformed("claim `nonce` is there; a logout token has none".into())),
    }
}

fn text(payload: &Map<String, Value>, claim: &'static str) -> Result<Option<String>, Fault> {
    match payload.get(claim) {
        None => Ok(None),
        Some(Value::String(text)) if !text.is_empty() => Ok(Some(text.clone())),
        Some(other) => {
            let found = if other.is_string() { "empty" } else { kind(other) };
            Err(Fault::Malformed(format!("claim `{claim}` is {found}; expected a text")))
        }
    }
}
