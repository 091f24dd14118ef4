//! Other rules: what ends by them at once, and what they are refused for.
//!
//! Grants end of mappings that the new rules lack, hold as disabled or inactive, or have let expire; of groups and roles that
//! are gone; and of what became privileged, where no administrator vouches. If that is more than the brake lets pass, the rules
//! are refused until an operator confirms them.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::facts::{Excess, all};
use super::{
    About, Bearer, Entry, Facts, GrantOf, Needs, Question, Shared, Work, adopted, confirmed, denies, privileged,
};
use crate::ids::{MappingId, ProviderName, Target, Timestamp};
use crate::mapping::{Activity, Mode, RuleSet};

/// What ended with rules that were adopted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Adopted {
    pub ended_mappings: u64,
    pub ended_grants: u64,
    /// Grants of what became privileged, that were not made with scope `admin`.
    pub privileged_grants: u64,
}

/// A change of the rules.
#[derive(Debug, Clone, Copy)]
pub struct Change<'a> {
    pub rules: &'a RuleSet,
    /// Groups and roles that are gone.
    pub gone: &'a [Target],
    pub remarks: Remarks<'a>,
    pub now: Timestamp,
}

/// Who says whether the rules may revoke over the brake's limit.
#[derive(Debug, Clone, Copy)]
pub enum Remarks<'a> {
    /// An operator who has confirmed the file.
    File,
    /// The caller, or an operator who has confirmed something for this client.
    Call { confirmed: bool, client: Option<&'a str> },
}

/// Makes rules the current ones.
///
/// # Errors
/// When facts are missing, or more would end than the brake lets pass.
pub fn adopt(change: Change<'_>, facts: &Facts) -> Result<(Adopted, Shared), Needs> {
    let Change { rules, gone, remarks, now } = change;
    let before = facts.note(adopted::NAME)?;
    let mut shared = Shared { epoch: Some(rules.epoch), ..Shared::default() };
    let mut done = Adopted::default();
    let mut work = Work::default();
    if rules.sync.mode == Mode::Apply {
        let endings = privileged::endings(rules, facts)?;
        let excesses = judged(rules, gone, &endings, facts)?;
        if !excesses.is_empty() && !is_confirmed(remarks, rules, &excesses, &mut shared, facts, now)? {
            return Err(Needs::Braked(excesses));
        }
        work.mappings = ended(facts.given()?, |id| !rules.is_given(id, now));
        done = note_ended(&work.mappings, &mut shared, facts)?;
        done.privileged_grants = endings.len() as u64;
        shared.audit.extend(endings.iter().map(|ending| privileged::entry(ending)));
        work.unvouched = privileged::work(&endings);
        work.leases = adopted::changed_leases(before, rules)?;
    }
    work.bound = denies::bound(rules, &mut shared, facts)?;
    for target in gone {
        // A deny stays, and binds what bears the name later.
        shared.audit.extend(denies::kept(target, facts)?);
    }
    let noted = adopted::noted(before, rules)?;
    if before != Some(noted.as_slice()) {
        shared.notes.insert(adopted::NAME.to_owned(), Some(noted));
    }
    shared.work = Some(work).filter(|work| !work.is_empty());
    Ok((done, shared))
}

/// What adopting these rules would be refused for.
///
/// # Errors
/// When facts are missing.
pub fn excesses(rules: &RuleSet, facts: &Facts) -> Result<Vec<Excess>, Needs> {
    match rules.sync.mode {
        Mode::Shadow => Ok(Vec::new()),
        Mode::Apply => judged(rules, &[], &privileged::endings(rules, facts)?, facts),
    }
}

/// All that a change revokes over the brake's limit, each membership once: with a group go the mappings to it.
fn judged(rules: &RuleSet, gone: &[Target], endings: &[&GrantOf], facts: &Facts) -> Result<Vec<Excess>, Needs> {
    let mut excesses = by_mappings(rules, facts)?;
    excesses.extend(privileged::excesses(endings, rules, facts)?);
    excesses.retain(|excess| !gone.contains(&excess.target));
    excesses.extend(with_targets(gone, rules, facts)?);
    Ok(excesses)
}

fn ended(given: &[(MappingId, ProviderName, Target)], ends: impl Fn(MappingId) -> bool) -> BTreeSet<MappingId> {
    given.iter().map(|(id, ..)| *id).collect::<BTreeSet<_>>().into_iter().filter(|id| ends(*id)).collect()
}

/// What the end of some mappings would take from more members than the brake lets pass. One that ended by its own `until` is
/// no surprise and does not count. What files of other sidecars still give ends with those: it is judged before.
fn by_mappings(rules: &RuleSet, facts: &Facts) -> Result<Vec<Excess>, Needs> {
    let ends = |id: MappingId| rules.mapping(id).is_none_or(|mapping| mapping.activity != Activity::Active);
    let mut ending: BTreeMap<(&ProviderName, &Target), BTreeSet<MappingId>> = BTreeMap::new();
    for (id, provider, target) in facts.given()? {
        if rules.is_braked(target) && ends(*id) {
            ending.entry((provider, target)).or_default().insert(*id);
        }
    }
    let key = |(provider, target): (&ProviderName, &Target)| (provider.clone(), target.clone());
    let losing = all(
        ending.keys().copied(),
        |it| facts.losing.get(&key(*it)).copied(),
        |it| Question::Losing(it.0.clone(), it.1.clone(), ending.get(it).cloned().unwrap_or_default()),
    )?;
    // So few always pass.
    let least = u64::from(rules.sync.brake.minimum);
    over(losing.into_iter().filter(|(_, losing)| *losing > least), rules, facts)
}

/// What the end of groups and roles takes from more members than the brake lets pass.
fn with_targets(gone: &[Target], rules: &RuleSet, facts: &Facts) -> Result<Vec<Excess>, Needs> {
    if gone.is_empty() {
        return Ok(Vec::new());
    }
    let through = facts.given()?.iter().filter(|(_, _, target)| gone.contains(target));
    let through: BTreeSet<(&ProviderName, &Target)> = through.map(|(_, provider, target)| (provider, target)).collect();
    over(through.into_iter().map(|it| (it, u64::MAX)), rules, facts)
}

/// Those of whom more would go than may; `u64::MAX` are all members.
fn over<'a>(
    losing: impl Iterator<Item = ((&'a ProviderName, &'a Target), u64)>,
    rules: &RuleSet,
    facts: &Facts,
) -> Result<Vec<Excess>, Needs> {
    let key = |(provider, target): (&ProviderName, &Target)| (Some(provider.clone()), target.clone());
    let found = all(
        losing,
        |(it, _)| facts.members.get(&key(*it)).copied(),
        |(it, _)| Question::Members(Some(it.0.clone()), it.1.clone()),
    )?;
    let excess = |((it, losing), members): (((&ProviderName, &Target), u64), u64)| {
        let (provider, target) = key(it);
        let allowed = rules.sync.brake.allowed(members);
        Excess { provider, target, losing: losing.min(members), members, allowed }
    };
    Ok(found.into_iter().map(excess).filter(|excess| excess.losing > excess.allowed).collect())
}

/// Under which the digest of a confirmed file is noted.
const CONFIRMED: &str = "confirmed";

fn is_confirmed(
    remarks: Remarks<'_>,
    rules: &RuleSet,
    excesses: &[Excess],
    shared: &mut Shared,
    facts: &Facts,
    now: Timestamp,
) -> Result<bool, Needs> {
    match remarks {
        Remarks::File => {
            let noted = facts.note(CONFIRMED)?;
            Ok(rules.source.is_some_and(|source| noted == Some(source.as_slice())))
        }
        Remarks::Call { confirmed: true, .. } => Ok(true),
        Remarks::Call { client: Some(client), .. } => {
            let losing = excesses.iter().map(|excess| excess.losing).sum();
            confirmed::spend(shared, client, losing, facts, now)
        }
        Remarks::Call { client: None, .. } => Ok(false),
    }
}

#[derive(Serialize)]
struct EndedDetail {
    mapping: String,
    grants: u64,
}

/// A row of the audit for each mapping whose grants end.
fn note_ended(mappings: &BTreeSet<MappingId>, shared: &mut Shared, facts: &Facts) -> Result<Adopted, Needs> {
    let mut done = Adopted::default();
    for (mapping, grants) in facts.given_by(mappings)? {
        done.ended_mappings += 1;
        done.ended_grants += grants;
        let detail = EndedDetail { mapping: mapping.to_string(), grants };
        shared.audit.push(Entry { about: About::NoUser, ..Entry::new("mapping_ended", &detail) });
    }
    Ok(done)
}

/// Ends the grants of mappings that have passed their `until` since the rules were adopted, and denies of people who were
/// erased.
///
/// # Errors
/// When facts are missing.
pub fn expire(rules: &RuleSet, facts: &Facts, now: Timestamp) -> Result<(Adopted, Shared), Needs> {
    let mut shared = Shared::default();
    // Those of people who were erased go unsaid.
    for (digest, bound) in facts.erased_denies.as_ref().ok_or_else(|| Needs::one(Question::ErasedDenies(now)))? {
        let stays = bound.denied(now);
        let mut bound = bound.clone();
        bound.denies.retain(|target, _| stays.contains(target));
        shared.bound.push((Bearer::Digest(digest.clone()), bound));
    }
    let passed = rules.mappings().iter().filter(|mapping| mapping.until.is_some_and(|until| until <= now));
    let passed: BTreeSet<MappingId> = passed.map(|mapping| mapping.id).collect();
    if passed.is_empty() || rules.sync.mode == Mode::Shadow {
        return Ok((Adopted::default(), shared));
    }
    let work = Work {
        mappings: ended(facts.given()?, |id| passed.contains(&id) && !rules.is_given(id, now)),
        ..Work::default()
    };
    let done = note_ended(&work.mappings, &mut shared, facts)?;
    shared.work = Some(work).filter(|work| !work.is_empty());
    Ok((done, shared))
}

#[derive(Serialize)]
struct ConfirmedDetail<'a> {
    by: &'a str,
    file: String,
}

/// Notes that the rules of a file may revoke over the brake's limit.
pub fn confirm(source: [u8; 32], by: &str) -> Shared {
    let file = source.iter().map(|byte| format!("{byte:02x}")).collect();
    let entry = Entry { about: About::NoUser, ..Entry::new("rules_confirmed", &ConfirmedDetail { by, file }) };
    let notes = [(CONFIRMED.to_owned(), Some(source.to_vec()))].into();
    Shared { notes, audit: vec![entry], ..Shared::default() }
}
