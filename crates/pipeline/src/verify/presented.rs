//! Verifies a token that a request bears: signature, then what [`Form::rules`](crate::capture::bearer::Form) asks
//! for. Such a token is an access token (RFC 9068) or a gateway's own assertion; it may come as often as its bearer likes.

use std::time::Duration;

use serde_json::{Map, Value};

use super::oidc::{KeySet, check_issuer, check_signature, numeric_date, purpose, required_date, token_id};
use super::{Assertion, BindingVerdict, Fault, Refused, SignedToken, Statement};
use crate::capture::bearer::{Order, Signer};
use crate::capture::oidc::{UntrustedIdToken, kind};
use crate::ids::Timestamp;
use crate::provider::{BearerPolicy, OidcPolicy, Provider};

/// How long a load balancer's token lives, which says when it was issued.
const ALB_LIFETIME: Duration = Duration::from_secs(120);

pub(super) fn check(
    provider: &Provider,
    policy: &OidcPolicy,
    bearer: &BearerPolicy,
    token: &UntrustedIdToken,
    keys: &KeySet,
    now: Timestamp,
) -> Result<Assertion, Refused> {
    let (payload, payload_bytes) = token.payload();
    let token_id = token_id(payload, payload_bytes);
    if let Err(fault) = check_signature(policy, token, keys) {
        // A key that is not known yet is asked for, a few at a time: a made-up name does not take the place of a new key's where
        // the token beneath it would be refused anyway.
        let refused_anyway = || check_claims(provider, policy, bearer, token, now, &token_id).err();
        let fault = match fault {
            fault if fault.is_of_key() => refused_anyway().unwrap_or(fault),
            fault => fault,
        };
        return Err(Refused::unsigned(fault));
    }
    check_claims(provider, policy, bearer, token, now, &token_id)
        .map_err(|fault| Refused { fault, signed: Some(SignedToken { token_id, issued_at: None }) })
}

fn check_claims(
    provider: &Provider,
    policy: &OidcPolicy,
    bearer: &BearerPolicy,
    token: &UntrustedIdToken,
    now: Timestamp,
    token_id: &str,
) -> Result<Assertion, Fault> {
    let rules = bearer.form.rules();
    let (payload, _) = token.payload();
    let header = &token.header().members;
    purpose::check(payload)?;
    check_subject(payload)?;
    let expires_at = match rules.signer {
        Signer::Issuer => {
            check_issuer(provider, payload)?;
            check_audience(policy, payload)?;
            required_date(payload, "exp")?
        }
        Signer::LoadBalancer => {
            check_issuer(provider, header)?;
            if payload.contains_key("iss") {
                check_issuer(provider, payload)?;
            }
            check_member(header, "client", &policy.client_id)?;
            check_member(header, "signer", bearer.signer.as_deref().unwrap_or_default())?;
            let of_header = required_date(header, "exp")?;
            numeric_date(payload, "exp")?.map_or(of_header, |at| at.min(of_header))
        }
    };
    if now >= expires_at.plus(provider.leeway) {
        return Err(Fault::Expired { at: expires_at, now });
    }
    if let Some(at) = numeric_date(payload, "nbf")?
        && at > now.plus(provider.leeway)
    {
        return Err(Fault::NotYetValid { at, now });
    }
    let issued_at = match rules.order {
        Order::Expiry => expires_at.minus(ALB_LIFETIME),
        Order::IssuedAt => {
            let at = required_date(payload, "iat")?;
            if at > now.plus(provider.leeway) {
                return Err(Fault::IssuedInFuture { at, now });
            }
            at
        }
    };
    Ok(Assertion {
        provider: provider.name.clone(),
        issuer: provider.issuer.clone(),
        token_id: token_id.to_owned(),
        issued_at,
        expires_at,
        binding: BindingVerdict::Presented,
        statement: Statement::Oidc(payload.clone()),
    })
}

/// Our name is one of `aud` (RFC 9068 section 4). Who asked for the token, `azp`, is another person.
fn check_audience(policy: &OidcPolicy, payload: &Map<String, Value>) -> Result<(), Fault> {
    let ours = match payload.get("aud") {
        Some(Value::String(audience)) => *audience == policy.client_id,
        Some(Value::Array(audiences)) => {
            audiences.iter().all(Value::is_string)
                && audiences.iter().any(|audience| audience.as_str() == Some(&policy.client_id))
        }
        _ => false,
    };
    let found = || payload.get("aud").map_or_else(|| "missing".into(), |found| found.to_string());
    let short = |text: String| text.chars().take(200).collect();
    if ours { Ok(()) } else { Err(Fault::Audience { found: short(found()), expected: policy.client_id.clone() }) }
}

/// RFC 7519 section 4.1.2. A lax app makes a name of a number too; one that is absent is for [`is_of_person`](super::person::is_of_person) to judge.
fn check_subject(payload: &Map<String, Value>) -> Result<(), Fault> {
    match payload.get("sub") {
        None | Some(Value::Null | Value::String(_)) => Ok(()),
        Some(other) => Err(Fault::Malformed(format!("claim `sub` is {}; expected a string", kind(other)))),
    }
}

fn check_member(header: &Map<String, Value>, name: &'static str, expected: &str) -> Result<(), Fault> {
    match header.get(name).and_then(Value::as_str) {
        Some(found) if found == expected && !expected.is_empty() => Ok(()),
        found => {
            let found: String = found.unwrap_or("missing").chars().take(200).collect();
            Err(Fault::Malformed(format!("header member `{name}` is `{found}`; expected `{expected}`")))
        }
    }
}
