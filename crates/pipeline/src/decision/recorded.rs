//! The claims of each user's last login that some mapping reads, or all that are declared: from them a plan is made without a
//! login.

use std::sync::Arc;

use crate::claims::{Claim, ClaimRule, ClaimState, Claims, Split, Unresolved, WhenMissing};
use crate::ids::{ProviderName, UserId};
use crate::mapping::{Recording, RuleSet};
use crate::record::{Read, RecordedClaim, RecordedState};

/// What to record of a login's claims; `None` where nothing is recorded.
pub fn written(provider: &ProviderName, claims: &Claims, rules: &RuleSet) -> Option<Vec<RecordedClaim>> {
    if rules.sync.record_claims == Recording::None {
        return None;
    }
    let recorded = claims
        .claims
        .iter()
        .filter(|claim| rules.sync.record_claims == Recording::Declared || rules.names(provider, &claim.name))
        .map(|claim| {
            let (state, values) = match &claim.state {
                ClaimState::Values(values) => (RecordedState::Values, values.clone()),
                ClaimState::Empty => (RecordedState::Empty, Vec::new()),
                ClaimState::Missing => (RecordedState::Missing, Vec::new()),
                ClaimState::Malformed | ClaimState::Unresolved(_) => (RecordedState::Undecided, Vec::new()),
            };
            let read = reading(rules, provider, claim.name.as_str()).unwrap_or_default();
            RecordedClaim { name: claim.name.to_string(), read: Read::By(read), state, values }
        });
    Some(recorded.collect())
}

fn reading(rules: &RuleSet, provider: &ProviderName, name: &str) -> Option<String> {
    let rules = rules.providers.get(provider)?;
    rules.claims.iter().find(|rule| rule.name.as_str() == name).map(ClaimRule::reading)
}

fn is_read_so(claim: &RecordedClaim, rule: &ClaimRule) -> bool {
    match &claim.read {
        Read::By(text) => *text == rule.reading(),
        Read::Before(text) => *text == rule.reading_before(),
    }
}

/// Recorded claims as the rules at hand read them. What they read and was not recorded, or was read otherwise, is
/// unresolved: nothing is planned from it.
pub fn read(recorded: &[RecordedClaim], user: &UserId, provider: &ProviderName, rules: &RuleSet) -> Arc<Claims> {
    let rules = rules.providers.get(provider).map(|rules| rules.claims.as_slice()).unwrap_or_default();
    let claims = rules.iter().map(|rule| {
        let found = recorded.iter().find(|claim| claim.name == rule.name.as_str() && is_read_so(claim, rule));
        let state = match found.map(|claim| (claim.state, &claim.values)) {
            Some((RecordedState::Values, values)) => ClaimState::Values(values.clone()),
            Some((RecordedState::Empty, _)) => ClaimState::Empty,
            Some((RecordedState::Missing, _)) => ClaimState::Missing,
            Some((RecordedState::Undecided, _)) | None => ClaimState::Unresolved(Unresolved::NotRecorded),
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
    Arc::new(Claims { user: user.clone(), email: None, display_name: None, claims })
}
