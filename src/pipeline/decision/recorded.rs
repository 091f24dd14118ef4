//! The claims of each user's last login that some mapping reads, or all that are declared: from them a plan is made without a
//! login.

use std::sync::Arc;

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};

use crate::pipeline::claims::{Claim, ClaimState, Claims, Split, Unresolved, WhenMissing};
use crate::pipeline::faults;
use crate::pipeline::ids::{ProviderName, UserId};
use crate::pipeline::mapping::{Recording, RuleSet};

/// Recorded claims are not what this program writes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the recorded claims of `{user}` cannot be read: {why}")]
pub struct Unreadable {
    user: String,
    why: String,
}

/// One claim as it was read.
#[derive(Serialize, Deserialize)]
struct Recorded {
    name: String,
    /// How it was read: what a changed configuration reads otherwise was not recorded.
    read: String,
    state: State,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    values: Vec<String>,
}

#[derive(Serialize, Deserialize, PartialEq, Eq, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum State {
    Values,
    Empty,
    Missing,
    /// Malformed or unresolved: nothing can be planned from it.
    Undecided,
}

/// The text to record of a login's claims; `None` where nothing is recorded.
pub fn written(provider: &ProviderName, claims: &Claims, rules: &RuleSet) -> Option<String> {
    if rules.sync.record_claims == Recording::None {
        return None;
    }
    let read: Vec<Recorded> = claims
        .claims
        .iter()
        .filter(|claim| rules.sync.record_claims == Recording::Declared || rules.names(provider, &claim.name))
        .map(|claim| {
            let (state, values) = match &claim.state {
                ClaimState::Values(values) => (State::Values, values.clone()),
                ClaimState::Empty => (State::Empty, Vec::new()),
                ClaimState::Missing => (State::Missing, Vec::new()),
                ClaimState::Malformed | ClaimState::Unresolved(_) => (State::Undecided, Vec::new()),
            };
            let read = reading(rules, provider, claim.name.as_str()).unwrap_or_default();
            Recorded { name: claim.name.to_string(), read, state, values }
        })
        .collect();
    // Strings and lists of strings always have a JSON text.
    Some(serde_json::to_string(&read).unwrap_or_default())
}

/// By which a login that brings the same claims writes nothing: the first half of the text's SHA-256.
pub fn digest(text: &str) -> Vec<u8> {
    digest::digest(&digest::SHA256, text.as_bytes()).as_ref().get(..16).unwrap_or_default().to_vec()
}

fn reading(rules: &RuleSet, provider: &ProviderName, name: &str) -> Option<String> {
    let rules = rules.providers.get(provider)?;
    rules.claims.iter().find(|rule| rule.name.as_str() == name).map(|rule| rule.reading())
}

/// Recorded claims as the rules at hand read them. What they read and was not recorded, or was read otherwise, is
/// unresolved: nothing is planned from it.
///
/// # Errors
/// When the text is not what [`written`] writes.
pub fn read(text: &str, user: &UserId, provider: &ProviderName, rules: &RuleSet) -> Result<Arc<Claims>, Unreadable> {
    let recorded: Vec<Recorded> =
        serde_json::from_str(text).map_err(|error| Unreadable { user: user.to_string(), why: faults::json(&error) })?;
    let rules = rules.providers.get(provider).map(|rules| rules.claims.as_slice()).unwrap_or_default();
    let claims = rules.iter().map(|rule| {
        let found = recorded.iter().find(|claim| claim.name == rule.name.as_str() && claim.read == rule.reading());
        let state = match found.map(|claim| (claim.state, &claim.values)) {
            Some((State::Values, values)) => ClaimState::Values(values.clone()),
            Some((State::Empty, _)) => ClaimState::Empty,
            Some((State::Missing, _)) => ClaimState::Missing,
            Some((State::Undecided, _)) | None => ClaimState::Unresolved(Unresolved::NotRecorded),
        };
        let undecided = match state {
            ClaimState::Unresolved(_) => true,
            ClaimState::Missing => rule.when_missing != WhenMissing::Clear,
            _ => false,
        };
        let split =
            Split { delimiter: rule.delimiter.clone(), strip_prefix: rule.strip_prefix.clone(), done: rule.is_split() };
        Claim { name: rule.name.clone(), state, split, skipped: 0, decided: !undecided }
    });
    let claims = claims.collect();
    Ok(Arc::new(Claims { user: user.clone(), email: None, display_name: None, claims }))
}
