//! The last holder of something protected keeps it.

use super::{Facts, Needs, Question, all};
use crate::pipeline::ids::Target;
use crate::pipeline::mapping::RuleSet;
use crate::pipeline::plan::{Plan, Snapshot};

/// Of some targets, those that no other enabled user effectively holds.
pub(super) fn not_held_by_another(
    targets: impl IntoIterator<Item = Target>,
    facts: &Facts,
) -> Result<Vec<Target>, Needs> {
    let known = |target: &Target| facts.held_by_another.get(target).copied();
    let answers = all(targets, known, |target| Question::HeldByAnother(target.clone()))?;
    Ok(answers.into_iter().filter(|(_, held)| !held).map(|(target, _)| target).collect())
}

/// Skips the revocations of protected targets whose last holder this user is.
pub(super) fn keep_last(plan: &mut Plan, snapshot: &Snapshot, rules: &RuleSet, facts: &Facts) -> Result<(), Needs> {
    let last = not_held_by_another(plan.protected_losses(rules), facts)?;
    plan.guard(&last, snapshot, rules);
    Ok(())
}
