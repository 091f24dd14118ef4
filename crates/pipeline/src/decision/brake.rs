//! The brake on mass revocation: how many people have lost a target through a provider lately, and whether one more may. A
//! person who loses it, gets it back and loses it again within a window is one.

use std::collections::BTreeMap;

use super::facts::all;
use super::{Facts, Needs, Question, Window};
use crate::ids::{ProviderName, Target, Timestamp};
use crate::mapping::RuleSet;
use crate::plan::{Plan, Snapshot};
use crate::record::Record;

/// Stops the revocations of targets of which too many were lost lately, and counts the others.
pub(super) fn hold(
    plan: &mut Plan,
    snapshot: &Snapshot,
    record: &Record,
    rules: &RuleSet,
    facts: &Facts,
    now: Timestamp,
) -> Result<BTreeMap<(ProviderName, Target), Window>, Needs> {
    let mut counted = BTreeMap::new();
    if plan.shadow || plan.older {
        return Ok(counted);
    }
    let losses = plan.losses().into_iter().filter(|target| rules.is_braked(target));
    let keys: Vec<_> = losses.map(|target| (plan.provider.clone(), target.clone())).collect();
    let asked = |key: &(ProviderName, Target)| Question::Window(key.0.clone(), key.1.clone());
    let found = all(keys, |key| facts.windows.get(key).copied(), asked)?;
    // One that has passed ends only when nothing is held any more: else a provider that goes on dropping people would take a
    // share of them in every window.
    let goes_on = |window: &Window, holds: bool| holds || now < window.began_at.plus(rules.sync.brake.window);
    let (mut running, mut fresh) = (Vec::new(), Vec::new());
    for (key, known) in found {
        match known.window.filter(|window| goes_on(window, known.holds)) {
            Some(window) if record.counted.get(&key) == Some(&window.began_at) => {}
            Some(window) => running.push((key, window)),
            None => fresh.push(key),
        }
    }
    let asked = |key: &(ProviderName, Target)| Question::Members(Some(key.0.clone()), key.1.clone());
    let members = |key: &(ProviderName, Target)| facts.members.get(&(Some(key.0.clone()), key.1.clone())).copied();
    let begun = all(fresh, members, asked)?;
    running.extend(begun.into_iter().map(|(key, members)| (key, Window { began_at: now, members, losses: 0 })));
    let mut stopped = Vec::new();
    for (key, window) in running {
        if window.losses >= rules.sync.brake.allowed(window.members) {
            stopped.push(key.1);
        } else {
            counted.insert(key, Window { losses: window.losses + 1, ..window });
        }
    }
    stopped.sort_unstable();
    plan.hold(stopped, snapshot, rules);
    Ok(counted)
}

/// Windows in which a person is remembered, at most.
const MOST_COUNTED: usize = 256;

/// Notes in which windows a person was counted: one who loses the same again within a window is no other person.
pub(super) fn note_counted(record: &mut Record, windows: &BTreeMap<(ProviderName, Target), Window>) {
    for (key, window) in windows {
        record.counted.insert(key.clone(), window.began_at);
    }
    while record.counted.len() > MOST_COUNTED {
        let oldest = record.counted.iter().min_by_key(|(_, began_at)| **began_at).map(|(key, _)| key.clone());
        oldest.and_then(|key| record.counted.remove(&key));
    }
}
