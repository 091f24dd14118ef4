//! What a condition on roles may count on.
//!
//! A mapping that asks for a role may give what another provider's mappings ask for in turn. Were everything counted that is
//! held, two providers could go on confirming each other's grants after the source of both is gone. So a role counts only
//! while it can be traced to a source that needs no role: a grant by hand, or a mapping whose claims alone are enough. That is
//! a least fixed point: start from those sources, add the grants whose roles are there, and repeat until nothing is added.

use std::collections::BTreeSet;

use super::{Effective, Snapshot, Source, own_grants};
use crate::ids::{MappingId, ProviderName, RoleName, Target, Timestamp};
use crate::mapping::condition::Condition;
use crate::mapping::{Candidates, Decision, Join, Mapping, RuleSet, Standing, When, decide};

/// What conditions on the person see at a login: everything but what this provider's mappings gave, which they are about to
/// give again, and less what nothing but conditions on roles supports.
pub fn standing<'a>(
    snapshot: &'a Snapshot,
    candidates: &Candidates,
    now: Timestamp,
    rules: &'a RuleSet,
) -> Standing<'a> {
    const DAY: i64 = 24 * 3600 * 1000;
    let provider = &candidates.provider;
    let support = Support::find(snapshot, provider, rules);
    let least = Standing {
        roles: support.roles.clone(),
        maybe: BTreeSet::new(),
        denied: &snapshot.denies,
        idle_days: snapshot.last_login.map(|last| now.0.saturating_sub(last.0).div_euclid(DAY)),
        mapped: own_grants(snapshot, provider).into_iter().map(|(_, mapping)| mapping).collect(),
    };
    match support.leaning.is_empty() {
        true => least,
        false => support.settle(least, candidates, now),
    }
}

/// Mappings of other providers of whose grants it has to be known whether a role or a claim gave them.
pub fn by_role_or_claim<'a>(
    snapshot: &'a Snapshot,
    provider: &ProviderName,
    rules: &'a RuleSet,
) -> Vec<(&'a ProviderName, &'a Mapping)> {
    let either = |mapping: &&Mapping| match &mapping.when {
        When::Conditions { join: Join::Any, conditions } => {
            conditions.iter().any(asks_for_role) && conditions.iter().any(|condition| condition.claim().is_some())
        }
        _ => false,
    };
    let others = snapshot.grants.iter().filter_map(|grant| match &grant.source {
        Source::Mapped { provider: owner, mapping } if owner != provider => {
            Some((owner, rules.mapping(*mapping).filter(either)?))
        }
        _ => None,
    });
    others.collect()
}

fn asks_for_role(condition: &Condition) -> bool {
    matches!(condition, Condition::HasRole(_))
}

/// Grants that the person has without this provider's mappings.
struct Support<'a> {
    rules: &'a RuleSet,
    denied: &'a BTreeSet<Target>,
    /// Through grants that no role is needed for, and through those that lean on these.
    roles: BTreeSet<RoleName>,
    /// Grants whose roles are not among them.
    leaning: Vec<Leaning<'a>>,
}

/// A grant that another provider's mapping gave because of a role.
struct Leaning<'a> {
    target: &'a Target,
    join: Join,
    needs: Vec<&'a RoleName>,
}

impl<'a> Leaning<'a> {
    fn is_supported(&self, has: impl Fn(&RoleName) -> bool) -> bool {
        match self.join {
            Join::All => self.needs.iter().all(|role| has(role)),
            Join::Any => self.needs.iter().any(|role| has(role)),
        }
    }

    /// `None` where the grant stands by itself.
    fn find(
        target: &'a Target,
        (owner, mapping): (&ProviderName, &'a Mapping),
        by_claim: &BTreeSet<(ProviderName, MappingId)>,
    ) -> Option<Self> {
        let When::Conditions { join, conditions } = &mapping.when else { return None };
        let needs: Vec<&RoleName> = conditions
            .iter()
            .filter_map(|condition| match condition {
                Condition::HasRole(role) => Some(role),
                _ => None,
            })
            .collect();
        if needs.is_empty() {
            return None;
        }
        let by_claim = || by_claim.contains(&(owner.clone(), mapping.id));
        let leans = *join == Join::All || !by_claim();
        leans.then_some(Self { target, join: *join, needs })
    }
}

impl<'a> Support<'a> {
    fn find(snapshot: &'a Snapshot, provider: &ProviderName, rules: &'a RuleSet) -> Self {
        let (mut plain, mut leaning) = (Vec::new(), Vec::new());
        for grant in &snapshot.grants {
            let leans = match &grant.source {
                Source::Assigned => None,
                Source::Mapped { provider: owner, .. } if owner == provider => continue,
                Source::Mapped { provider: owner, mapping } => rules
                    .mapping(*mapping)
                    .and_then(|mapping| Leaning::find(&grant.target, (owner, mapping), &snapshot.by_claim)),
            };
            match leans {
                Some(found) => leaning.push(found),
                None => plain.push(&grant.target),
            }
        }
        let denied = &snapshot.denies;
        let roles = Effective::of(plain.into_iter(), denied, rules).roles;
        let mut support = Self { rules, denied, roles, leaning };
        let (stands, leans) = support.split(&BTreeSet::new());
        support.roles.extend(stands);
        support.leaning = leans;
        support
    }

    /// What leaning grants give once these roles are there too, and the grants that still lean.
    fn split(&self, more: &BTreeSet<RoleName>) -> (BTreeSet<RoleName>, Vec<Leaning<'a>>) {
        let mut gained = BTreeSet::new();
        let mut left: Vec<&Leaning<'a>> = self.leaning.iter().collect();
        loop {
            let has = |role: &RoleName| [&self.roles, more, &gained].iter().any(|roles| roles.contains(role));
            let (stands, leans): (Vec<_>, Vec<_>) = left.iter().partition(|grant| grant.is_supported(has));
            left = leans;
            if stands.is_empty() {
                let left = left.into_iter();
                let left = left.map(|grant| Leaning { needs: grant.needs.clone(), ..*grant }).collect();
                return (gained, left);
            }
            let targets = stands.into_iter().map(|grant| grant.target);
            gained.extend(Effective::of(targets, self.denied, self.rules).roles);
        }
    }

    /// Lets what this login gives support other grants, and those what it gives, until both agree.
    ///
    /// Where a condition asks that a role is missing, more roles may take a hit away: then nothing is left that would show
    /// what supports what, and only what needs none of this counts.
    fn settle(&self, least: Standing<'a>, candidates: &Candidates, now: Timestamp) -> Standing<'a> {
        let mut standing = least.clone();
        let mut decision = decide(self.rules, candidates, standing.clone(), now);
        // Each round adds the roles of one leaning grant at least.
        for _ in 0..=self.leaning.len() {
            let (roles, maybe) = self.with(&decision);
            if roles == standing.roles && maybe == standing.maybe {
                return standing;
            }
            standing = Standing { roles, maybe, ..least.clone() };
            let next = decide(self.rules, candidates, standing.clone(), now);
            if !decision.hits.iter().all(|hit| next.hits.contains(hit)) {
                return least;
            }
            decision = next;
        }
        least
    }

    /// The roles that count in addition to what a decision gives, and those that may.
    fn with(&self, decision: &Decision) -> (BTreeSet<RoleName>, BTreeSet<RoleName>) {
        let given = Effective::of(decision.hits.iter().map(|hit| &hit.target), self.denied, self.rules).roles;
        let (gained, _) = self.split(&given);
        let roles: BTreeSet<RoleName> = self.roles.union(&gained).cloned().collect();
        // What cannot be decided stays, and so may what leans on it.
        let undecided = decision.undecided.iter().filter_map(|id| self.rules.mapping(*id));
        let mut open = given;
        open.extend(undecided.flat_map(|mapping| self.rules.roles_by(mapping)).cloned());
        let (may, _) = self.split(&open);
        let maybe = may.difference(&roles).cloned().collect();
        (roles, maybe)
    }
}
