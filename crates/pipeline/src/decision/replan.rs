//! Planning without a login, from recorded claims.

use super::asked::Why;
use super::{Changes, Facts, Kept, Needs, Shared, audit, brake, guard, recorded, snapshot};
use crate::ids::{ProviderName, Timestamp};
use crate::mapping::{RuleSet, candidates};
use crate::plan::{self, Change, Plan, Snapshot};
use crate::record::Record;

/// The outcome of a user's recorded claims after a change of the rules, or because an operator asks (`by`), and whether anything
/// changes by that.
///
/// # Errors
/// When facts about other users are missing.
pub fn replan(
    kept: &Kept,
    rules: &RuleSet,
    facts: &Facts,
    by: Option<&str>,
    now: Timestamp,
) -> Result<(Changes, bool), Needs> {
    let mut changes = Changes::default();
    let Some(mut record) = kept.record.clone() else { return Ok((changes, false)) };
    let providers: Vec<ProviderName> = record.claims.keys().cloned().collect();
    let mut any = false;
    for provider in &providers {
        let changed;
        (record, changed) = anew(kept, record, provider, rules, facts, (Why::Rules { by }, now), &mut changes)?;
        any |= changed;
    }
    changes.record = Some(record);
    Ok((changes, any))
}

/// Plans from the recorded claims of one provider, and carries it out. Tells whether anything changed.
pub(super) fn anew(
    kept: &Kept,
    mut record: Record,
    provider: &ProviderName,
    rules: &RuleSet,
    facts: &Facts,
    (why, now): (Why<'_>, Timestamp),
    changes: &mut Changes,
) -> Result<(Record, bool), Needs> {
    let user = &kept.user;
    let claims = record.claims.get(provider).map(Vec::as_slice).unwrap_or_default();
    let claims = recorded::read(claims, user, provider, rules);
    let candidates = candidates(rules, provider, &claims);
    let mut snapshot = snapshot(&record, user, provider, rules, now);
    if let Why::Released { targets, .. } = why {
        snapshot.held.retain(|(target, _)| !targets.contains(target));
    }
    let issued_at = snapshot.watermark.unwrap_or(now);
    let mut plan = plan::draft(user.clone(), issued_at, now, &candidates, &snapshot, rules);
    // A gate keeps people out of the app; it does not decide what they hold.
    plan.refused = None;
    if let Why::Rules { .. } = why {
        let windows = brake::hold(&mut plan, &snapshot, &record, rules, facts, now)?;
        brake::note_counted(&mut record, &windows);
        changes.windows.extend(windows);
    }
    guard::keep_last(&mut plan, &snapshot, rules, facts, now)?;
    record.carry_out(&plan, rules.lease(provider).is_some(), now);
    record.ends_by(record.ends_at(rules));
    let held = newly_held(&plan, &snapshot);
    let changed = !plan.changes_nothing() || !held.is_empty();
    if changed {
        changes.audit.push(audit::replanned(&plan, held, why));
    }
    Ok((record, changed))
}

/// Under which the rules are noted by which everybody was planned.
const PLANNED: &str = "planned";

/// Whether every user with recorded claims was planned by the rules of this file.
///
/// # Errors
/// When facts are missing.
pub fn is_planned(source: [u8; 32], facts: &Facts) -> Result<bool, Needs> {
    Ok(facts.note(PLANNED)? == Some(source.as_slice()))
}

/// Notes that they were.
pub fn planned(source: [u8; 32]) -> Shared {
    Shared { notes: [(PLANNED.to_owned(), Some(source.to_vec()))].into(), ..Shared::default() }
}

fn newly_held(plan: &Plan, snapshot: &Snapshot) -> Vec<String> {
    let known = |change: &&Change| snapshot.held.contains(&(change.target.clone(), change.mapping));
    plan.held.iter().filter(|change| !known(change)).map(|change| change.target.to_string()).collect()
}
