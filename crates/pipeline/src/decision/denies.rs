//! Denies bind a name, and outlive what bears it.
//!
//! A group that is deleted takes no deny with it. When something bears its name later (a group of another spelling, or one
//! that is shown under it as an alias), the deny is written down for that too, so that readers of denies need not think of it.

use serde::Serialize;

use super::facts::all;
use super::{About, Entry, Facts, Needs, Question, Shared};
use crate::ids::{GroupName, RoleName, Target};
use crate::mapping::RuleSet;
use crate::mapping::condition::alike;

/// What bears the name of a target that is not declared any more: a group or role of another spelling, and groups that are
/// shown under it.
pub fn bearers(rules: &RuleSet, target: &Target) -> Vec<Target> {
    if rules.declares(target) {
        return Vec::new();
    }
    let name = alike(target.name());
    match target {
        Target::Group(_) => {
            let spelled = rules.groups.keys().filter(|group| alike(group.as_str()) == name);
            let shown = rules.overlay.exposures.values().flatten();
            let shown = shown.filter(|(_, shown)| shown.alias.as_deref().is_some_and(|alias| alike(alias) == name));
            let mut groups: Vec<&GroupName> = spelled.chain(shown.map(|(group, _)| group)).collect();
            groups.sort_unstable();
            groups.dedup();
            groups.into_iter().cloned().map(Target::Group).collect()
        }
        Target::Role(_) => {
            let spelled = rules.roles.keys().filter(|role: &&RoleName| alike(role.as_str()) == name);
            spelled.cloned().map(Target::Role).collect()
        }
    }
}

#[derive(Serialize)]
struct Detail<'a> {
    kind: &'a str,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    bears_name_of: Option<&'a str>,
    denies: u64,
}

fn entry(event: &'static str, target: &Target, bears_name_of: Option<&str>, denies: u64) -> Entry {
    let detail = Detail { kind: target.kind(), name: target.name(), bears_name_of, denies };
    Entry { about: About::NoUser, ..Entry::new(event, &detail) }
}

/// Which denies bind something else from now on: what was denied, and what bears its name.
pub(super) fn bound(rules: &RuleSet, shared: &mut Shared, facts: &Facts) -> Result<Vec<(Target, Target)>, Needs> {
    let pairs = facts.denied()?.keys().flat_map(|denied| {
        bearers(rules, denied).into_iter().filter(move |bearer| bearer != denied).map(move |it| (denied.clone(), it))
    });
    let asked = |(from, to): &(Target, Target)| Question::Unbound(from.clone(), to.clone());
    let found = all(pairs, |pair| facts.unbound.get(pair).copied(), asked)?;
    let mut bound = Vec::new();
    for ((from, to), denies) in found.into_iter().filter(|(_, denies)| *denies > 0) {
        shared.audit.push(entry("denies_bound", &to, Some(from.name()), denies));
        bound.push((from, to));
    }
    Ok(bound)
}

/// Notes that a target is gone and the denies of it stay.
pub(super) fn kept(target: &Target, facts: &Facts) -> Result<Option<Entry>, Needs> {
    let denies = facts.denied()?.get(target).copied().unwrap_or_default();
    Ok((denies > 0).then(|| entry("denies_kept", target, None, denies)))
}
