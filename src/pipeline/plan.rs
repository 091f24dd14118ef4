//! Should-have against has: what one login changes.
//!
//! A login touches only the mapped grants of its own provider and user. Assigned grants, other providers' grants and groups
//! that merely share a name are not in the difference at all. The plan prints itself, and applying it is the only thing
//! that writes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::ids::{GroupName, MappingId, ProviderName, RoleName, Target, Timestamp, UserId};
use super::mapping::{Activity, Candidates, RuleSet};

/// What the store knows of one user when a login arrives, read inside the login's transaction.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// All live grants of the user, whoever gave them.
    pub grants: Vec<Grant>,
    /// Targets that a person has denied.
    pub denies: BTreeSet<Target>,
    /// The issue instant of the newest login that was applied for this user through this provider.
    pub watermark: Option<Timestamp>,
}

/// One reason why a user holds a group or a role.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Grant {
    pub target: Target,
    pub source: Source,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// A mapping, through a provider.
    Mapped { provider: ProviderName, mapping: MappingId },
    /// A person's hand.
    Assigned,
}

/// What one login changes, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub user: UserId,
    pub provider: ProviderName,
    /// An older login than one that was applied: it authenticates and changes nothing.
    pub older: bool,
    pub grants: Vec<Change>,
    pub keeps: Vec<Change>,
    pub revokes: Vec<Change>,
    /// Would be revoked, but the claim behind it is undecided.
    pub undecided: Vec<Change>,
    /// Would be revoked, but it is the last holder of something protected.
    pub guarded: Vec<Change>,
    pub before: Effective,
    pub after: Effective,
}

/// One mapped grant in a plan.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    pub target: Target,
    pub mapping: MappingId,
    /// The mapping as people know it.
    pub label: String,
}

/// What a user effectively holds: at least one live grant, and no deny; roles directly and through groups.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Effective {
    pub groups: BTreeSet<GroupName>,
    pub roles: BTreeSet<RoleName>,
}

impl Effective {
    /// Computes what grants and denies amount to under the rules.
    pub fn of<'a>(grants: impl Iterator<Item = &'a Target>, denies: &BTreeSet<Target>, rules: &RuleSet) -> Self {
        let mut effective = Self::default();
        for target in grants.filter(|target| !denies.contains(target)) {
            match target {
                Target::Group(group) => {
                    for role in rules.roles_of(group) {
                        if !denies.contains(&Target::Role(role.clone())) {
                            effective.roles.insert(role.clone());
                        }
                    }
                    effective.groups.insert(group.clone());
                }
                Target::Role(role) => {
                    effective.roles.insert(role.clone());
                }
            }
        }
        effective
    }

    fn holds(&self, target: &Target) -> bool {
        match target {
            Target::Group(group) => self.groups.contains(group),
            Target::Role(role) => self.roles.contains(role),
        }
    }

    fn targets(&self) -> impl Iterator<Item = Target> {
        let groups = self.groups.iter().cloned().map(Target::Group);
        groups.chain(self.roles.iter().cloned().map(Target::Role))
    }
}

/// The plan of a login, before the last holders of protected targets are looked after (see [`Plan::guard`]).
///
/// `issued_at` is the smaller of the token's issue instant and now.
pub fn draft(
    user: UserId,
    provider: &ProviderName,
    issued_at: Timestamp,
    candidates: &Candidates,
    snapshot: &Snapshot,
    rules: &RuleSet,
) -> Plan {
    let before = Effective::of(snapshot.grants.iter().map(|grant| &grant.target), &snapshot.denies, rules);
    let mut plan = Plan {
        user,
        provider: provider.clone(),
        older: snapshot.watermark.is_some_and(|watermark| issued_at < watermark),
        grants: Vec::new(),
        keeps: Vec::new(),
        revokes: Vec::new(),
        undecided: Vec::new(),
        guarded: Vec::new(),
        after: before.clone(),
        before,
    };
    if plan.older {
        return plan;
    }
    let mut should: BTreeMap<(&Target, MappingId), &str> =
        candidates.hits.iter().map(|hit| ((&hit.target, hit.mapping), hit.label.as_str())).collect();
    for grant in &snapshot.grants {
        let Source::Mapped { provider: owner, mapping } = &grant.source else { continue };
        if owner != provider {
            continue;
        }
        let rule = rules.mapping(*mapping);
        let change = |label: String| Change { target: grant.target.clone(), mapping: *mapping, label };
        let label = rule.map_or_else(|| format!("removed mapping {mapping}"), |rule| rule.label());
        if let Some(label) = should.remove(&(&grant.target, *mapping)) {
            plan.keeps.push(change(label.to_owned()));
        } else if rule
            .is_some_and(|rule| rule.activity == Activity::Active && candidates.undecided.contains(&rule.claim))
        {
            plan.undecided.push(change(label));
        } else {
            plan.revokes.push(change(label));
        }
    }
    plan.grants = should
        .into_iter()
        .map(|((target, mapping), label)| Change { target: target.clone(), mapping, label: label.to_owned() })
        .collect();
    for list in [&mut plan.keeps, &mut plan.revokes, &mut plan.undecided] {
        list.sort_unstable();
    }
    plan.settle(snapshot, rules);
    plan
}

impl Plan {
    /// Protected targets that this user would effectively lose: for each of them the store says whether another enabled
    /// user holds it.
    pub fn protected_losses(&self, rules: &RuleSet) -> Vec<Target> {
        let lost = self.before.targets().filter(|target| !self.after.holds(target));
        lost.filter(|target| rules.is_protected(target)).collect()
    }

    /// Skips the revocations that would take away `last`: protected targets whose last holder this user is.
    pub fn guard(&mut self, last: &[Target], snapshot: &Snapshot, rules: &RuleSet) {
        if last.is_empty() {
            return;
        }
        let carries = |target: &Target| match target {
            Target::Group(group) => {
                last.contains(target)
                    || rules.roles_of(group).iter().any(|role| last.contains(&Target::Role(role.clone())))
            }
            Target::Role(_) => last.contains(target),
        };
        let (guarded, revokes) = std::mem::take(&mut self.revokes).into_iter().partition(|c| carries(&c.target));
        self.guarded = guarded;
        self.revokes = revokes;
        self.settle(snapshot, rules);
    }

    /// Whether applying it writes any grant row.
    pub fn changes_nothing(&self) -> bool {
        self.grants.is_empty() && self.revokes.is_empty()
    }

    /// Recomputes what the user holds once the plan is applied.
    fn settle(&mut self, snapshot: &Snapshot, rules: &RuleSet) {
        let revoked = |grant: &&Grant| match &grant.source {
            Source::Mapped { provider, mapping } if *provider == self.provider => {
                self.revokes.iter().any(|change| change.mapping == *mapping && change.target == grant.target)
            }
            _ => false,
        };
        let kept = snapshot.grants.iter().filter(|grant| !revoked(grant)).map(|grant| &grant.target);
        let granted = self.grants.iter().map(|change| &change.target);
        self.after = Effective::of(kept.chain(granted), &snapshot.denies, rules);
    }
}

impl fmt::Display for Plan {
    /// One line a change, as a person would want to read it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} through {}", self.user, self.provider)?;
        if self.older {
            return writeln!(f, "  = an older login than the last one applied: nothing changes");
        }
        let lists = [
            ("+", "granted by", &self.grants),
            ("-", "no longer given by", &self.revokes),
            ("=", "still given by", &self.keeps),
            ("?", "kept, since its claim is undecided:", &self.undecided),
            ("!", "kept, since nobody else would hold it:", &self.guarded),
        ];
        for (sign, words, changes) in lists {
            for change in changes {
                let note = match (sign, self.after.holds(&change.target)) {
                    ("-", true) => "  (still held, for another reason)",
                    ("-", false) | (_, true) => "",
                    (_, false) => "  (denied)",
                };
                writeln!(f, "  {sign} {}  {words} `{}`{note}", change.target, change.label)?;
            }
        }
        if self.changes_nothing() {
            writeln!(f, "  nothing changes")?;
        }
        Ok(())
    }
}
