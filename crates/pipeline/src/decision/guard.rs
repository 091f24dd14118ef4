//! The last holder of something protected keeps it.

use std::collections::BTreeSet;

use super::{Facts, Needs, Question};
use crate::ids::{Target, Timestamp};
use crate::mapping::RuleSet;
use crate::plan::{Effective, Plan, Snapshot, Source};
use crate::record::Record;

/// Of some targets, those that no other enabled user effectively holds.
pub(super) fn not_held_by_another(
    targets: impl IntoIterator<Item = Target>,
    rules: &RuleSet,
    facts: &Facts,
    now: Timestamp,
) -> Result<Vec<Target>, Needs> {
    let (mut last, mut open) = (Vec::new(), BTreeSet::new());
    for target in targets {
        match held_by_another(&target, rules, facts, now) {
            Ok(true) => {}
            Ok(false) => last.push(target),
            Err(question) => {
                open.insert(question);
            }
        }
    }
    if open.is_empty() { Ok(last) } else { Err(Needs::Facts(open)) }
}

fn held_by_another(target: &Target, rules: &RuleSet, facts: &Facts, now: Timestamp) -> Result<bool, Question> {
    let mut after = Question::SOME;
    loop {
        let Some(page) = facts.others.get(&(target.clone(), after)) else {
            return Err(Question::Others { of: target.clone(), through: carriers(target, rules), after });
        };
        if page.iter().any(|other| holds(&other.record, target, rules, now)) {
            return Ok(true);
        }
        match page.last() {
            Some(_) if page.len() >= Question::page(after) && after == Question::SOME => after = 0,
            Some(last) if page.len() >= Question::page(after) => after = last.number,
            _ => return Ok(false),
        }
    }
}

/// The target itself, and of a role the groups that carry it.
fn carriers(target: &Target, rules: &RuleSet) -> BTreeSet<Target> {
    let mut carriers = BTreeSet::from([target.clone()]);
    if let Target::Role(role) = target {
        let groups = rules.groups.iter().filter(|(_, group)| group.roles.contains(role));
        carriers.extend(groups.map(|(name, _)| Target::Group(name.clone())));
    }
    carriers
}

/// Whether an enabled user has a grant of it that stands: its mapping lives, its lease has not ended, and no deny undoes it.
fn holds(record: &Record, target: &Target, rules: &RuleSet, now: Timestamp) -> bool {
    if record.disabled.is_some() {
        return false;
    }
    let stands = record.holdings.iter().filter(|(grant, holding)| match &grant.source {
        Source::Assigned => true,
        Source::Mapped { provider, mapping } => {
            rules.is_given(*mapping, now)
                && rules.lease(provider).is_none_or(|lease| record.leased_from(provider, holding) > now.minus(lease))
        }
    });
    Effective::of(stands.map(|(grant, _)| &grant.target), &record.denied(now), rules).holds(target)
}

/// Skips the revocations of protected targets whose last holder this user is.
pub(super) fn keep_last(
    plan: &mut Plan,
    snapshot: &Snapshot,
    rules: &RuleSet,
    facts: &Facts,
    now: Timestamp,
) -> Result<(), Needs> {
    let last = not_held_by_another(plan.protected_losses(rules), rules, facts, now)?;
    plan.guard(&last, snapshot, rules);
    Ok(())
}
