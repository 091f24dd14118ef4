//! Verifies an ID token: signature by a key of the issuer's, then OpenID Connect Core 1.0 section 3.1.3.7.
//!
//! jsonwebtoken checks the signature and nothing else. Its own checks pass a token that lacks `iss` or `aud`, take
//! `iss` as a list, and leave `crit`, `typ`, `azp` and the use of a key alone, so every claim check is here.

pub mod discovery;
pub mod keys;
pub mod logout;
pub(super) mod purpose;

use std::fmt;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

pub use self::keys::KeySet;
use super::{Assertion, Fault, Origin, Refused, RememberedRequest, SignedToken, Statement, bind, check_issued};
use crate::capture::Beside;
use crate::capture::oidc::{AccessToken, UntrustedIdToken, kind};
use crate::ids::Timestamp;
use crate::number;
pub use crate::provider::algorithm::SigningAlgorithm;
use crate::provider::{OidcPolicy, Provider};

/// What came with an ID token.
#[derive(Debug, Clone, Copy)]
pub(super) struct Came<'a> {
    pub state: Option<&'a str>,
    pub beside: &'a Beside,
}

/// Checks an ID token.
pub(super) fn check(
    provider: &Provider,
    policy: &OidcPolicy,
    token: &UntrustedIdToken,
    came: Came<'_>,
    keys: &KeySet,
    origin: &Origin,
    now: Timestamp,
) -> Result<Assertion, Refused> {
    let algorithm = check_signature(policy, token, keys).map_err(Refused::unsigned)?;
    let (payload, payload_bytes) = token.payload();
    let token_id = token_id(payload, payload_bytes);
    let checked = check_hashes(algorithm, payload, origin, came.beside)
        .and_then(|()| check_claims(provider, policy, payload, came.state, origin, now, token_id.clone()));
    checked.map_err(|fault| Refused {
        fault,
        signed: Some(SignedToken { token_id, issued_at: numeric_date(payload, "iat").ok().flatten() }),
    })
}

/// Whom a token must be meant for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Audience {
    /// Us, if it names a recipient.
    Ours,
    Any,
}

/// Checks a token that comes with an ID token: signature, issuer, audience, and times where it has any.
pub(super) fn check_beside(
    provider: &Provider,
    policy: &OidcPolicy,
    token: &UntrustedIdToken,
    keys: &KeySet,
    audience: Audience,
    now: Timestamp,
) -> Result<Map<String, Value>, Fault> {
    check_signature(policy, token, keys)?;
    let (payload, _) = token.payload();
    check_issuer(provider, payload)?;
    if audience == Audience::Ours && payload.contains_key("aud") {
        check_audience(policy, payload)?;
    }
    if let Some(at) = numeric_date(payload, "exp")?
        && now >= at.plus(provider.leeway)
    {
        return Err(Fault::Expired { at, now });
    }
    Ok(payload.clone())
}

pub(super) fn check_signature(
    policy: &OidcPolicy,
    token: &UntrustedIdToken,
    keys: &KeySet,
) -> Result<SigningAlgorithm, Fault> {
    let allowed = token.algorithm().filter(|algorithm| policy.algorithms.contains(algorithm));
    let Some(algorithm) = allowed else {
        let names: Vec<String> = policy.algorithms.iter().map(ToString::to_string).collect();
        let found = token.header().algorithm.chars().take(20).collect();
        return Err(Fault::Algorithm { found, allowed: names.join(", ") });
    };
    let mut chosen = keys.choose(token.header().key_id.as_deref(), algorithm)?;
    let (signing_input, signature) = token.signed_parts();
    if chosen.any(|key| key.verifies(signature, signing_input, algorithm)) {
        Ok(algorithm)
    } else {
        Err(Fault::Signature)
    }
}

fn check_claims(
    provider: &Provider,
    policy: &OidcPolicy,
    payload: &Map<String, Value>,
    state: Option<&str>,
    origin: &Origin,
    now: Timestamp,
    token_id: String,
) -> Result<Assertion, Fault> {
    // A logout token has the same signature, issuer and audience, and says nothing of groups.
    purpose::check(payload)?;
    check_issuer(provider, payload)?;
    check_audience(policy, payload)?;
    let issued_at = required_date(payload, "iat")?;
    let expires_at = required_date(payload, "exp")?;
    if now >= expires_at.plus(provider.leeway) {
        return Err(Fault::Expired { at: expires_at, now });
    }
    if let Some(at) = numeric_date(payload, "nbf")?
        && at > now.plus(provider.leeway)
    {
        return Err(Fault::NotYetValid { at, now });
    }
    check_issued(provider, origin, issued_at, now)?;
    let nonce = match payload.get("nonce") {
        None => None,
        Some(Value::String(nonce)) => Some(nonce.as_str()),
        Some(other) => return Err(Fault::Malformed(format!("claim `nonce` is {}; expected a string", kind(other)))),
    };
    // OIDC Core 3.1.3.7 item 11: a nonce that was sent must come back. A request without either is none that we saw.
    let binding = bind(
        provider,
        origin,
        |request| match request {
            RememberedRequest::Oidc { state: left_state, nonce: left_nonce } => {
                (left_state.is_some() || left_nonce.is_some())
                    && left_state.as_deref() == state
                    && left_nonce.as_deref() == nonce
            }
            RememberedRequest::Saml { .. } => false,
        },
        "no request with this state and nonce is remembered by it",
    )?;
    Ok(Assertion {
        provider: provider.name.clone(),
        issuer: provider.issuer.clone(),
        token_id,
        issued_at,
        expires_at,
        binding,
        statement: Statement::Oidc(payload.clone()),
    })
}

pub(super) fn check_issuer(provider: &Provider, payload: &Map<String, Value>) -> Result<(), Fault> {
    match payload.get("iss") {
        Some(Value::String(issuer)) if issuer == provider.issuer.as_str() => Ok(()),
        found => Err(Fault::Issuer { found: describe(found), expected: provider.issuer.to_string() }),
    }
}

/// Items 3 to 5, in the form of errata set 2, which no longer asks for `azp` with several audiences: `aud` holds our client.
/// `azp` is our client or one that the configuration names. Where `azp` does not say that the token was issued to us, every
/// other audience is one that the configuration trusts.
fn check_audience(policy: &OidcPolicy, payload: &Map<String, Value>) -> Result<(), Fault> {
    let others = check_membership(policy, payload)?;
    match payload.get("azp") {
        Some(Value::String(party)) if *party == policy.client_id || policy.authorized_parties.contains(party) => Ok(()),
        Some(found) => Err(Fault::AuthorizedParty { found: describe(Some(found)), expected: policy.client_id.clone() }),
        None => match others.into_iter().find(|other| !policy.trusted_audiences.iter().any(|trusted| trusted == other))
        {
            None => Ok(()),
            Some(other) => Err(Fault::OtherAudience { found: other.chars().take(200).collect() }),
        },
    }
}

/// `aud` holds our client. Answers what else it holds.
fn check_membership<'p>(policy: &OidcPolicy, payload: &'p Map<String, Value>) -> Result<Vec<&'p str>, Fault> {
    let wrong = |found| Fault::Audience { found: describe(found), expected: policy.client_id.clone() };
    match payload.get("aud") {
        Some(Value::String(audience)) if *audience == policy.client_id => Ok(Vec::new()),
        Some(list @ Value::Array(audiences)) => {
            let texts: Option<Vec<&str>> = audiences.iter().map(Value::as_str).collect();
            let mut texts = texts.ok_or_else(|| wrong(Some(list)))?;
            let before = texts.len();
            texts.retain(|audience| *audience != policy.client_id);
            if texts.len() == before { Err(wrong(Some(list))) } else { Ok(texts) }
        }
        found => Err(wrong(found)),
    }
}

/// The ID token must vouch for what comes with it: where it has the hash, for an access token from a token endpoint (OIDC Core
/// 3.1.3.8), and
/// always for what came through the browser, where `at_hash` and `c_hash` are required (3.2.2.9, 3.3.2.11), since both may have
/// been
/// exchanged for another person's.
fn check_hashes(
    algorithm: SigningAlgorithm,
    payload: &Map<String, Value>,
    origin: &Origin,
    beside: &Beside,
) -> Result<(), Fault> {
    let vouches = |claim: &str, text: &AccessToken| {
        let digest = digest::digest(algorithm.hash(), text.expose().as_bytes());
        let half = digest.as_ref().get(..digest.as_ref().len() / 2).unwrap_or_default();
        payload.get(claim).and_then(Value::as_str) == Some(URL_SAFE_NO_PAD.encode(half).as_str())
    };
    let from_endpoint = origin.access_token().filter(|_| payload.contains_key("at_hash"));
    let access_tokens = from_endpoint.into_iter().chain(&beside.access_token);
    if !access_tokens.into_iter().all(|token| vouches("at_hash", token)) {
        return Err(Fault::AccessToken);
    }
    if beside.code.as_ref().is_some_and(|code| !vouches("c_hash", code)) {
        return Err(Fault::Code);
    }
    Ok(())
}

/// The replay key of RFC 7519 tokens: `jti`, else the SHA-256 of the decoded payload.
pub(super) fn token_id(payload: &Map<String, Value>, payload_bytes: &[u8]) -> String {
    match payload.get("jti") {
        Some(Value::String(id)) if !id.is_empty() && id.len() <= 512 => format!("jti:{id}"),
        _ => {
            let digest = digest::digest(&digest::SHA256, payload_bytes);
            digest.as_ref().iter().fold(String::from("sha256:"), |mut text, byte| {
                use fmt::Write as _;
                let _ = write!(text, "{byte:02x}");
                text
            })
        }
    }
}

pub(super) fn required_date(payload: &Map<String, Value>, claim: &str) -> Result<Timestamp, Fault> {
    numeric_date(payload, claim)?.ok_or_else(|| Fault::Malformed(format!("claim `{claim}` is missing")))
}

/// A NumericDate (RFC 7519 section 2): seconds, perhaps with a fraction, within what a calendar can hold.
pub(super) fn numeric_date(payload: &Map<String, Value>, claim: &str) -> Result<Option<Timestamp>, Fault> {
    const YEAR_9999: f64 = 253_402_300_799.0;
    let Some(value) = payload.get(claim) else { return Ok(None) };
    let malformed = |found: &str| Fault::Malformed(format!("claim `{claim}` is {found}; expected seconds since 1970"));
    let Some(text) = number::text(value) else { return Err(malformed(kind(value))) };
    let in_range = |seconds: f64| (0.0..=YEAR_9999).contains(&seconds);
    match (text.parse::<i64>().ok(), text.parse::<f64>().ok()) {
        (Some(seconds), Some(as_float)) if in_range(as_float) => Ok(Some(Timestamp::from_seconds(seconds))),
        #[allow(clippy::cast_possible_truncation, reason = "the range was just checked")]
        (None, Some(seconds)) if in_range(seconds) => Ok(Some(Timestamp((seconds * 1000.0) as i64))),
        _ => Err(malformed("out of range")),
    }
}

/// A claim as found, short enough for a log line.
fn describe(found: Option<&Value>) -> String {
    match found {
        None => "missing".into(),
        Some(Value::String(text)) => text.chars().take(200).collect(),
        Some(other) => number::text(other).map_or_else(|| other.to_string(), Into::into).chars().take(200).collect(),
    }
}
