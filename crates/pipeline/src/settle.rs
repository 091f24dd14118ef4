//! From what is known of a login to its candidates, by one pair of provider and rules.
//!
//! This is the part of the walk that never waits, so that it runs again whenever the rules have changed.

use std::sync::Arc;

use super::claims::{Claims, ClaimsRefusal, Reads};
use super::ids::{ClaimName, Timestamp};
use super::mapping::{Candidates, RuleSet, candidates};
use super::provider::Provider;

/// Reads the claims, and finds what they may give. `read` says from what: from a verified assertion, or, for a look,
/// from what is not verified.
///
/// # Errors
/// When no user can be identified, or a claim's state refuses the login by the operator's rule.
pub fn settle(
    provider: &Provider,
    rules: &RuleSet,
    now: Timestamp,
    read: impl FnOnce(&Provider, Reads<'_>) -> Result<Claims, ClaimsRefusal>,
) -> Result<Candidates, ClaimsRefusal> {
    let name = &provider.name;
    let implied = rules.overlay.implied.get(name).map(Vec::as_slice).unwrap_or_default();
    // A claim that no operator declared keeps no person out, whatever a provider sends of it.
    let reads = |claim: &ClaimName| rules.reads(name, claim, now) && implied.iter().all(|rule| rule.name != *claim);
    let claims = match implied {
        [] => read(provider, &reads)?,
        _ => {
            let mut whole = provider.clone();
            whole.claims.extend_from_slice(implied);
            read(&whole, &reads)?
        }
    };
    Ok(candidates(rules, name, &Arc::new(claims)))
}
