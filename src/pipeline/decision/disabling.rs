//! Mappings that disable people: whom they spare, and what the brake counts.
//!
//! Whom a mapping disabled stays disabled when the mapping is gone, since a person who left must not come back by that. The
//! brake counts people who had logged in before: a person whose first login is refused loses nothing.

use super::guard::not_held_by_another;
use super::{Facts, Needs, Question};
use crate::pipeline::ids::Timestamp;
use crate::pipeline::mapping::{Disabling, RuleSet};
use crate::pipeline::plan::{Plan, Snapshot, Spared};
use crate::pipeline::record::{Record, Stopped};

/// How many mappings have disabled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disablings {
    /// People who had logged in before, within the brake's window and since an operator last judged.
    pub lately: u64,
    /// Whether the brake holds a disabling of another user.
    pub holds: bool,
    /// All users.
    pub users: u64,
}

/// Whether a known user is spared although a mapping would disable them.
pub(super) fn spared(
    by: &Disabling,
    plan: &Plan,
    snapshot: &Snapshot,
    rules: &RuleSet,
    facts: &Facts,
) -> Result<Option<Spared>, Needs> {
    if rules.spares(by.mapping) {
        let protected = plan.before.targets().filter(|target| rules.is_protected(target));
        if let Some(target) = not_held_by_another(protected, facts)?.into_iter().next() {
            return Ok(Some(Spared::LastHolder(target)));
        }
    }
    if snapshot.last_login.is_none() {
        return Ok(None);
    }
    let Disablings { lately, holds, users } = facts.disablings.ok_or_else(|| Needs::one(Question::Disablings))?;
    let braked = holds || lately >= rules.sync.brake.allowed(users);
    Ok(braked.then_some(Spared::Braked))
}

/// Notes that the brake stopped a mapping from disabling a user, or that none would any more.
pub(super) fn note_stopped(record: &mut Record, plan: &Plan, now: Timestamp) {
    match &plan.spared {
        Some((by, Spared::Braked)) => {
            record.stopped.get_or_insert_with(|| Stopped {
                mapping: by.mapping,
                label: by.label.clone(),
                provider: Some(plan.provider.clone()),
                at: now,
            });
        }
        _ if !plan.older => record.stopped = None,
        _ => {}
    }
}
