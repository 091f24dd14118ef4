//! The claims of each user's last login that some mapping reads: from them a plan is made without a login.

use std::sync::Arc;

use aws_lc_rs::digest;
use rusqlite::{OptionalExtension, params};
use serde::{Deserialize, Serialize};

use super::super::StoreError;
use super::{Session, unavailable};
use crate::pipeline::claims::{Claim, ClaimState, Claims, Split, Unresolved, WhenMissing};
use crate::pipeline::faults;
use crate::pipeline::ids::{ProviderName, UserId};
use crate::pipeline::mapping::RuleSet;

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

/// Writes what changed since the login before.
pub(super) fn record(
    session: &Session<'_>,
    user_row: i64,
    provider: &ProviderName,
    claims: &Claims,
    rules: &RuleSet,
    known: Option<&[u8]>,
) -> Result<Option<Vec<u8>>, StoreError> {
    if !rules.sync.record_claims {
        if known.is_some() {
            run(session, "DELETE FROM recorded_claims WHERE user_id = ?1 AND provider = ?2", user_row, provider)?;
        }
        return Ok(None);
    }
    let text = written(provider, claims, rules);
    let digest = digest::digest(&digest::SHA256, text.as_bytes()).as_ref().get(..16).unwrap_or_default().to_vec();
    if known != Some(&digest) {
        session
            .connection
            .prepare_cached(
                "INSERT INTO recorded_claims (user_id, provider, claims) VALUES (?1, ?2, ?3)
                 ON CONFLICT (user_id, provider) DO UPDATE SET claims = ?3",
            )
            .and_then(|mut upsert| upsert.execute(params![user_row, provider.as_str(), text]))
            .map_err(unavailable)?;
    }
    Ok(Some(digest))
}

fn run(session: &Session<'_>, statement: &str, user_row: i64, provider: &ProviderName) -> Result<(), StoreError> {
    session
        .connection
        .prepare_cached(statement)
        .and_then(|mut prepared| prepared.execute(params![user_row, provider.as_str()]))
        .map_err(unavailable)?;
    Ok(())
}

fn written(provider: &ProviderName, claims: &Claims, rules: &RuleSet) -> String {
    let read: Vec<Recorded> = claims
        .claims
        .iter()
        .filter(|claim| rules.reads(provider, &claim.name))
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
    serde_json::to_string(&read).unwrap_or_default()
}

fn reading(rules: &RuleSet, provider: &ProviderName, name: &str) -> Option<String> {
    let rules = rules.providers.get(provider)?;
    rules.claims.iter().find(|rule| rule.name.as_str() == name).map(|rule| rule.reading())
}

/// The recorded claims of a user's last login through a provider, as they were written.
pub(super) fn text(
    session: &Session<'_>,
    user_row: i64,
    provider: &ProviderName,
) -> Result<Option<String>, StoreError> {
    session
        .connection
        .prepare_cached("SELECT claims FROM recorded_claims WHERE user_id = ?1 AND provider = ?2")
        .and_then(|mut select| select.query_row(params![user_row, provider.as_str()], |row| row.get(0)).optional())
        .map_err(unavailable)
}

/// Recorded claims as the rules at hand read them. What they read and was not recorded, or was read otherwise, is
/// unresolved: nothing is planned from it.
pub fn claims(text: &str, user: &UserId, provider: &ProviderName, rules: &RuleSet) -> Result<Arc<Claims>, StoreError> {
    let recorded: Vec<Recorded> = serde_json::from_str(text).map_err(|error| {
        StoreError::Invalid(format!("the recorded claims of `{user}` cannot be read: {}", faults::json(&error)))
    })?;
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
            Split { delimiter: rule.delimiter.clone(), strip_prefix: rule.strip_prefix.clone(), done: rule.first_rdn };
        Claim { name: rule.name.clone(), state, split, skipped: 0, decided: !undecided }
    });
    let claims = claims.collect();
    Ok(Arc::new(Claims { user: user.clone(), email: None, display_name: None, claims }))
}
