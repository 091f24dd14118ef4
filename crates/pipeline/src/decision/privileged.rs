//! What ends when a group or role becomes privileged: found among the grants, and judged by the brake.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::facts::Excess;
use super::facts::{GrantOf, all};
use super::work::Ending;
use super::{About, Entry, Facts, Needs, Question, adopted};
use crate::ids::{MappingId, ProviderName, Target};
use crate::mapping::{Mode, RuleSet};
use crate::plan::Source;
use crate::privilege::{Hand, Privileged};

/// Grants of something privileged for which no administrator vouches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unvouched {
    pub target: Target,
    /// Grants by hand that end when the rules are adopted.
    pub by_hand: u64,
    /// Mapped grants that end then.
    pub mapped: u64,
    /// Assigned grants that stay although it is not known whether they were made with scope `admin`.
    pub unknown: u64,
}

/// Calls `take` with every grant by hand of what is privileged, or is spelled like it, and with every mapped one that ends.
fn walk<'f>(
    rules: &RuleSet,
    facts: &'f Facts,
    mut take: impl FnMut(&Privileged<'_>, &'f GrantOf),
) -> Result<(), Needs> {
    let before = adopted::read(facts.note(adopted::NAME)?)?;
    let privileged = Privileged::find(before.as_ref(), rules);
    if privileged.is_empty() {
        return Ok(());
    }
    let granted = facts.granted.as_ref().ok_or_else(|| Needs::one(Question::Granted))?;
    let mut concerned: BTreeMap<&Target, BTreeSet<MappingId>> = BTreeMap::new();
    for target in granted.iter().filter(|target| privileged.newly(target).is_some()) {
        concerned.insert(target, BTreeSet::new());
    }
    if concerned.is_empty() {
        return Ok(());
    }
    for (mapping, provider, target) in facts.given()? {
        let source = Source::Mapped { provider: provider.clone(), mapping: *mapping };
        if let Some(mappings) = concerned.get_mut(target)
            && privileged.ends(target, &source, Hand::Unknown)
        {
            mappings.insert(*mapping);
        }
    }
    let asked =
        |target: &&Target| Question::Grants((*target).clone(), concerned.get(*target).cloned().unwrap_or_default());
    let grants = all(concerned.keys().copied(), |target| facts.grants.get(*target), asked)?;
    for (_, grants) in grants {
        grants.iter().for_each(|grant| take(&privileged, grant));
    }
    Ok(())
}

/// What adopting these rules ends because of what is privileged in them. Rules that only watch end nothing.
pub(super) fn endings<'f>(rules: &RuleSet, facts: &'f Facts) -> Result<Vec<&'f GrantOf>, Needs> {
    let mut endings = Vec::new();
    if rules.sync.mode == Mode::Shadow {
        return Ok(endings);
    }
    walk(rules, facts, |privileged, it| {
        if privileged.ends(&it.grant.target, &it.grant.source, Hand::of(it.as_admin)) {
            endings.push(it);
        }
    })?;
    Ok(endings)
}

/// The same, counted by target, with grants by hand that stay although it is not known with which right they were made.
///
/// # Errors
/// When facts are missing.
pub fn unvouched(rules: &RuleSet, facts: &Facts) -> Result<Vec<Unvouched>, Needs> {
    let mut counts: BTreeMap<&Target, Unvouched> = BTreeMap::new();
    walk(rules, facts, |privileged, it| {
        let (target, hand) = (&it.grant.target, Hand::of(it.as_admin));
        let by_hand = it.grant.source == Source::Assigned;
        let ends = privileged.ends(target, &it.grant.source, hand);
        let stays_unknown = !ends && by_hand && hand == Hand::Unknown;
        if !(ends || stays_unknown) {
            return;
        }
        let none = || Unvouched { target: target.clone(), by_hand: 0, mapped: 0, unknown: 0 };
        let counted = counts.entry(target).or_insert_with(none);
        counted.by_hand += u64::from(ends && by_hand);
        counted.mapped += u64::from(ends && !by_hand);
        counted.unknown += u64::from(stays_unknown);
    })?;
    Ok(counts.into_values().collect())
}

/// Of which targets more members would go than the brake lets pass, through each provider and by hand.
pub(super) fn excesses(endings: &[&GrantOf], rules: &RuleSet, facts: &Facts) -> Result<Vec<Excess>, Needs> {
    let mut losing: BTreeMap<(Option<&ProviderName>, &Target), BTreeSet<i64>> = BTreeMap::new();
    for GrantOf { number, grant, .. } in endings {
        let provider = match &grant.source {
            Source::Mapped { provider, .. } => Some(provider),
            Source::Assigned => None,
        };
        losing.entry((provider, &grant.target)).or_default().insert(*number);
    }
    let key = |(provider, target): (Option<&ProviderName>, &Target)| (provider.cloned(), target.clone());
    let found = all(
        losing.keys().copied(),
        |it| facts.members.get(&key(*it)).copied(),
        |it| Question::Members(it.0.cloned(), it.1.clone()),
    )?;
    let mut excesses = Vec::new();
    for (it, members) in found {
        let people = losing.get(&it).map_or(0, |people| people.len() as u64);
        let (provider, target) = key(it);
        let allowed = rules.sync.brake.allowed(members);
        if rules.is_braked(&target) && people > allowed {
            excesses.push(Excess { provider, target, losing: people, members, allowed });
        }
    }
    Ok(excesses)
}

/// The same endings, as the records are read from now on.
pub(super) fn work(endings: &[&GrantOf]) -> Vec<Ending> {
    let mut by_target: BTreeMap<&Target, Ending> = BTreeMap::new();
    for GrantOf { grant, as_admin, .. } in endings {
        let none = || Ending { target: grant.target.clone(), unknown: false, mappings: BTreeSet::new() };
        let ending = by_target.entry(&grant.target).or_insert_with(none);
        match &grant.source {
            Source::Assigned => ending.unknown |= as_admin.is_none(),
            Source::Mapped { mapping, .. } => {
                ending.mappings.insert(*mapping);
            }
        }
    }
    by_target.into_values().collect()
}

#[derive(Serialize)]
struct Detail<'a> {
    kind: &'a str,
    name: &'a str,
    why: &'a str,
    /// The provider through which it was mapped, or who assigned it.
    #[serde(skip_serializing_if = "Option::is_none")]
    provider: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    assigned_by: Option<&'a str>,
}

/// A row of the audit for each.
pub(super) fn entry(GrantOf { number, user, grant, granted_by, .. }: &GrantOf) -> Entry {
    let (provider, assigned_by) = match &grant.source {
        Source::Mapped { provider, .. } => (Some(provider.as_str()), None),
        Source::Assigned => (None, Some(granted_by.as_str())),
    };
    let detail = Detail {
        kind: grant.target.kind(),
        name: grant.target.name(),
        why: "it became privileged, and this grant was not made with scope `admin`",
        provider,
        assigned_by,
    };
    Entry {
        about: About::Other { number: *number, user: user.clone() },
        ..Entry::new("privileged_grant_ended", &detail)
    }
}
