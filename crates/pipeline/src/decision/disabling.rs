//! Mappings that disable people: whom they spare, and what the brake counts.
//!
//! Whom a mapping disabled stays disabled when the mapping is gone, since a person who left must not come back by that. The
//! brake counts people who had logged in before: a person whose first login is refused loses nothing.

use super::guard::not_held_by_another;
use super::{Bearer, Changes, Disablings, Facts, Kept, Needs, Question, Save, Shared, audit};
use crate::ids::{MappingId, Timestamp};
use crate::mapping::{Disabling, Mapping, RuleSet};
use crate::plan::{Plan, Snapshot, Spared};
use crate::record::{Disabled, Record, Stopped};

/// Under which it is noted since when disablings count, where an operator has judged those before.
pub(super) const SINCE: &str = "disabling_since";

/// Whether a known user is spared although a mapping would disable them.
pub(super) fn spared(
    by: &Disabling,
    plan: &Plan,
    snapshot: &Snapshot,
    rules: &RuleSet,
    facts: &Facts,
    now: Timestamp,
) -> Result<Option<Spared>, Needs> {
    if rules.spares(by.mapping) {
        let protected = plan.before.targets().filter(|target| rules.is_protected(target));
        if let Some(target) = not_held_by_another(protected, rules, facts, now)?.into_iter().next() {
            return Ok(Some(Spared::LastHolder(target)));
        }
    }
    if snapshot.last_login.is_none() {
        return Ok(None);
    }
    let judged = facts.note(SINCE)?.and_then(|value| Some(i64::from_be_bytes(value.try_into().ok()?)));
    let since = Timestamp(now.minus(rules.sync.brake.window).0.max(judged.unwrap_or(i64::MIN)));
    let Disablings { lately, holds, users } =
        facts.disablings.ok_or_else(|| Needs::one(Question::Disablings(since)))?;
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

/// How people name a mapping of which only its traces are left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector {
    label: String,
    /// By its number in the store, or its identity.
    mapping: Option<MappingId>,
}

impl Selector {
    pub fn new(text: &str) -> Self {
        let number = text.parse::<i64>().ok().map(Mapping::id_of_number);
        Self { label: text.to_owned(), mapping: number.or_else(|| MappingId::from_digits(text)) }
    }

    /// Whether the mapping that disabled a user is meant.
    pub fn takes(&self, disabled: &Disabled) -> bool {
        disabled.by.as_ref().is_some_and(|(mapping, label)| *label == self.label || Some(*mapping) == self.mapping)
    }
}

/// Enables those of some users whom a mapping disabled. Tells how many those are.
pub fn enable(kept: &[Kept], selector: &Selector, by: &str) -> (u64, Save) {
    let (mut done, mut save) = (0, Save::default());
    for person in kept {
        let mut changes = Changes::default();
        let disabled = person.record.as_ref().and_then(|record| record.disabled.as_ref());
        if let (Some(record), Some(disabled)) = (&person.record, disabled.filter(|disabled| selector.takes(disabled))) {
            let label = disabled.by.as_ref().map_or("", |(_, label)| label);
            changes.audit.push(audit::user_enabled(by, label));
            changes.record = Some(Record { disabled: None, ..record.clone() });
            done += 1;
        }
        save.people.push(changes);
    }
    (done, save)
}

/// Whom of the erased a mapping disabled.
///
/// # Errors
/// When facts are missing.
pub fn erased_by(selector: &Selector, facts: &Facts) -> Result<Vec<Disabled>, Needs> {
    let erased = facts.erased.as_ref().ok_or_else(|| Needs::one(Question::Erased))?;
    let disabled = erased.iter().filter_map(|(_, bound)| bound.disabled.as_ref());
    Ok(disabled.filter(|disabled| selector.takes(disabled)).cloned().collect())
}

/// Enables those of the erased whom a mapping disabled.
///
/// # Errors
/// When facts are missing.
pub fn enable_erased(selector: &Selector, name: &str, by: &str, facts: &Facts) -> Result<(u64, Save), Needs> {
    let mut shared = Shared::default();
    for (digest, bound) in facts.erased.as_ref().ok_or_else(|| Needs::one(Question::Erased))? {
        if bound.disabled.as_ref().is_some_and(|disabled| selector.takes(disabled)) {
            let mut bound = bound.clone();
            bound.disabled = None;
            shared.bound.push((Bearer::Digest(digest.clone()), bound));
        }
    }
    let done = shared.bound.len() as u64;
    if done > 0 {
        shared.audit.push(audit::erased_enabled(by, name));
    }
    Ok((done, Save { people: Vec::new(), shared }))
}
