//! What ends by itself: leases of people who have not logged in for too long, and denies past their `until`.

use std::collections::BTreeSet;

use super::guard::not_held_by_another;
use super::{Changes, Entry, Facts, Kept, Needs, audit};
use crate::ids::{ProviderName, Target, Timestamp};
use crate::mapping::{Mode, RuleSet};
use crate::plan::{Effective, Grant};
use crate::record::Record;

/// How much of a user has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ended {
    pub leases: u64,
    pub denies: u64,
}

/// Ends the leases and denies of a user that have ended, and notes when the next ones end.
///
/// # Errors
/// When facts about other users are missing.
pub fn reap(kept: &Kept, rules: &RuleSet, facts: &Facts, now: Timestamp) -> Result<(Ended, Changes), Needs> {
    let (mut ended, mut changes) = (Ended::default(), Changes::default());
    let Some(before) = &kept.record else { return Ok((ended, changes)) };
    let mut record = before.clone();
    for provider in rules.providers.keys() {
        if let Some(entry) = end(&mut record, provider, rules, facts, now)? {
            changes.audit.push(entry);
        }
    }
    ended.leases = (before.holdings.len() - record.holdings.len()) as u64;
    ended.denies = expire(&mut record, &mut changes, now);
    // What outlives its end as the last of its kind is looked at every time.
    record.due = record.ends_at(rules);
    changes.record = (record != *before).then_some(record);
    Ok((ended, changes))
}

/// Sets again when the first lease of a user ends, where that is earlier than noted.
pub fn renew(kept: &Kept, rules: &RuleSet) -> Changes {
    let mut changes = Changes::default();
    if let Some(before) = &kept.record {
        let mut record = before.clone();
        record.ends_by(record.ends_at(rules));
        changes.record = (record != *before).then_some(record);
    }
    changes
}

/// Ends them in a record. The last holder of something protected keeps it.
pub(super) fn end(
    record: &mut Record,
    provider: &ProviderName,
    rules: &RuleSet,
    facts: &Facts,
    now: Timestamp,
) -> Result<Option<Entry>, Needs> {
    let Some(lease) = rules.lease(provider).filter(|_| rules.sync.mode == Mode::Apply) else { return Ok(None) };
    let mut lapsed = record.lapsed(provider, now.minus(lease));
    if lapsed.is_empty() {
        return Ok(None);
    }
    // Who is disabled holds nothing that anyone could miss.
    if record.disabled.is_none() {
        let last = not_held_by_another(protected_losses(record, &lapsed, rules, now), rules, facts, now)?;
        lapsed.retain(|grant| !carries(&grant.target, &last, rules));
    }
    let targets: BTreeSet<&Target> = lapsed.iter().map(|grant| &grant.target).collect();
    if targets.is_empty() {
        return Ok(None);
    }
    let entry = audit::lease_ended(provider, &targets);
    for grant in &lapsed {
        record.holdings.remove(grant);
    }
    Ok(Some(entry))
}

/// Protected targets that a user effectively loses with some grants.
fn protected_losses(record: &Record, lapsed: &[Grant], rules: &RuleSet, now: Timestamp) -> Vec<Target> {
    let denies = record.denied(now);
    let before = Effective::of(record.holdings.keys().map(|grant| &grant.target), &denies, rules);
    let stays = record.holdings.keys().filter(|grant| !lapsed.contains(grant)).map(|grant| &grant.target);
    let after = Effective::of(stays, &denies, rules);
    before.targets().filter(|target| rules.is_protected(target) && !after.holds(target)).collect()
}

/// Whether a target is one of some, or a group that carries one.
fn carries(target: &Target, last: &[Target], rules: &RuleSet) -> bool {
    let through = |role: &_| last.iter().any(|target| matches!(target, Target::Role(name) if name == role));
    last.contains(target) || matches!(target, Target::Group(group) if rules.roles_of(group).iter().any(through))
}

/// Ends the denies of a user that are past their `until`.
pub(super) fn expire(record: &mut Record, changes: &mut Changes, now: Timestamp) -> u64 {
    let bound = record.denied(now);
    let ended: Vec<Target> = record.denies.keys().filter(|target| !bound.contains(target)).cloned().collect();
    for target in &ended {
        record.denies.remove(target);
        changes.audit.push(audit::deny_ended(target));
    }
    ended.len() as u64
}
