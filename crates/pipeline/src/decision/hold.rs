//! What an operator does with what the brake holds of one user.

use super::asked::Why;
use super::replan::anew;
use std::collections::BTreeSet;

use super::facts::all;
use super::{Changes, Facts, Kept, Needs, Question, Save, Shared, audit, disabling};
use crate::ids::{ProviderName, Target, Timestamp};
use crate::mapping::RuleSet;
use crate::record::{Disabled, Record};

/// What is held of a user through one provider, as far as an operator means it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    pub provider: ProviderName,
    pub targets: Vec<Target>,
    /// Whether a disabling is meant too.
    pub disabling: bool,
}

/// Carries out what was held: the user is planned again, without the brake. Without recorded claims there is nothing to plan
/// from, and the revocation that was held is carried out.
///
/// # Errors
/// When facts about other users are missing.
pub fn release(
    kept: &Kept,
    held: &Held,
    rules: &RuleSet,
    facts: &Facts,
    by: &str,
    now: Timestamp,
) -> Result<Changes, Needs> {
    let mut changes = Changes::default();
    let Some(mut record) = kept.record.clone() else { return Ok(changes) };
    if held.disabling {
        release_disabling(&mut record, &mut changes, by, now);
    }
    let Held { provider, targets, .. } = held;
    if !targets.is_empty() {
        match record.claims.contains_key(provider) {
            true => {
                let why = (Why::Released { by, targets }, now);
                (record, _) = anew(kept, record, provider, rules, facts, why, &mut changes)?;
                record.lift(provider, targets);
            }
            false => {
                record.holdings.retain(|grant, holding| {
                    let meant = grant.source.is_through(provider) && targets.contains(&grant.target);
                    !(meant && holding.held_at.is_some())
                });
                changes.audit.push(audit::released(provider, targets, by));
            }
        }
    }
    changes.record = Some(record);
    Ok(changes)
}

fn release_disabling(record: &mut Record, changes: &mut Changes, by: &str, now: Timestamp) {
    let Some(stopped) = record.stopped.take() else { return };
    if record.disabled.is_none() {
        record.disabled = Some(Disabled { at: now, by: Some((stopped.mapping, stopped.label.clone())) });
        changes.audit.push(audit::user_disabled(by, &stopped.label));
    }
}

/// Forgets what was held: the grants stay until a login says otherwise.
pub fn discard(kept: &Kept, held: &Held, by: &str) -> Changes {
    let mut changes = Changes::default();
    let Some(mut record) = kept.record.clone() else { return changes };
    if held.disabling
        && let Some(stopped) = record.stopped.take()
    {
        changes.audit.push(audit::disabling_discarded(by, &stopped.label));
    }
    record.lift(&held.provider, &held.targets);
    for target in &held.targets {
        changes.audit.push(audit::hold_discarded(&held.provider, target, by));
    }
    changes.record = Some(record);
    changes
}

/// What was held and an operator has settled.
#[derive(Debug, Clone, Default)]
pub struct Settled {
    pub targets: BTreeSet<(ProviderName, Target)>,
    pub disablings: bool,
}

/// An operator who has settled all that was held of a target has judged its losses so far: they begin again. While something of
/// it is
/// held, its window goes on.
///
/// # Errors
/// When facts are missing.
pub fn judge(settled: &Settled, facts: &Facts, now: Timestamp) -> Result<Save, Needs> {
    let mut shared = Shared::default();
    let asked = |key: &&(ProviderName, Target)| Question::Window(key.0.clone(), key.1.clone());
    for (key, running) in all(&settled.targets, |key| facts.windows.get(*key).copied(), asked)? {
        if !running.holds {
            shared.ended_windows.insert(key.clone());
        }
    }
    if settled.disablings {
        let known = facts.disablings.ok_or_else(|| Needs::one(Question::Disablings(now)))?;
        if !known.holds {
            shared.notes.insert(disabling::SINCE.to_owned(), Some(now.0.to_be_bytes().to_vec()));
        }
    }
    Ok(Save { people: Vec::new(), shared })
}
