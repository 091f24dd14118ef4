//! From what is known of a login to its candidates, by one pair of provider and rules.
//!
//! This is the part of the walk that waits for nobody, so that it runs again whenever the rules have changed.

use std::sync::Arc;

use super::claims::{Claims, ClaimsRefusal, Reads};
use super::ids::ClaimName;
use super::mapping::{Candidates, RuleSet, candidates};
use super::provider::Provider;

/// Reads the claims, and finds what they may give. `read` says from what: from a verified assertion, or, for whoever only
/// looks, from what nobody has verified.
///
/// # Errors
/// When nobody can be recognised, or a claim's state refuses the login by the operator's rule.
pub fn settle(
    provider: &Provider,
    rules: &RuleSet,
    read: impl FnOnce(&Provider, Reads<'_>) -> Result<Claims, ClaimsRefusal>,
) -> Result<Candidates, ClaimsRefusal> {
    let claims = read(provider, &|claim: &ClaimName| rules.reads(&provider.name, claim))?;
    Ok(candidates(rules, &provider.name, &Arc::new(claims)))
}
