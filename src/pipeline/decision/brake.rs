//! The brake on mass revocation: how many people have lost a target through a provider lately, and whether one more may. A
//! person who loses it, gets it back and loses it again within a window is one.

use std::collections::BTreeMap;

use super::{Facts, Needs, Question, all};
use crate::pipeline::ids::{ProviderName, Target, Timestamp};
use crate::pipeline::mapping::RuleSet;
use crate::pipeline::plan::{Plan, Snapshot};

/// People who lost a target through a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    pub began_at: Timestamp,
    /// Mapped members at its beginning.
    pub members: u64,
    pub losses: u64,
}

/// Stops the revocations of targets of which too many were lost lately, and counts the others.
pub(super) fn hold(
    plan: &mut Plan,
    snapshot: &Snapshot,
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
            Some(_) if known.counted => {}
            Some(window) => running.push((key, window)),
            None => fresh.push(key),
        }
    }
    let asked = |key: &(ProviderName, Target)| Question::Members(key.0.clone(), key.1.clone());
    let begun = all(fresh, |key| facts.members.get(key).copied(), asked)?;
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
