//! Should-have against has: what one login changes.
//!
//! A login touches only the mapped grants of its own provider and user. Assigned grants, other providers' grants and groups
//! that merely share a name are not in the difference at all. The plan prints itself, and applying it is the only thing
//! that writes.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

pub use self::support::{by_role_or_claim, standing};
use super::ids::{GroupName, MappingId, ProviderName, RoleName, Target, Timestamp, UserId};
use super::mapping::{Candidates, Decision, Denied, Disabling, GateRule, Hit, Mode, NearMiss, RuleSet, decide};

/// What the store knows of one user when a login arrives, read inside the login's transaction.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// All live grants of the user, regardless of their source.
    pub grants: Vec<Grant>,
    /// Targets that a person has denied.
    pub denies: BTreeSet<Target>,
    /// The issue instant of the newest login that was applied for this user through this provider.
    pub watermark: Option<Timestamp>,
    /// The user's last login, through any provider.
    pub last_login: Option<Timestamp>,
    /// Grants through this provider whose revocation the brake has stopped.
    pub held: BTreeSet<(Target, MappingId)>,
    /// Of the mappings that [`by_role_or_claim`] names, those whose claims alone were enough at the last login.
    pub by_claim: BTreeSet<(ProviderName, MappingId)>,
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
    /// The newest login so far was noted by a clock that was ahead: it made no login older, and this one takes its place.
    pub ahead: Option<Timestamp>,
    /// The sync decides and records, and changes no grant.
    pub shadow: bool,
    /// A gate, or an action of a mapping, refuses the login; then nothing is written.
    pub refused: Option<Refused>,
    /// A mapping that would disable the user, and why it does not.
    pub spared: Option<(Disabling, Spared)>,
    /// What refuses the login if no mapping disables the user.
    otherwise: Option<Refused>,
    pub grants: Vec<Change>,
    pub keeps: Vec<Change>,
    pub revokes: Vec<Change>,
    /// Would be revoked, but what the mapping asks cannot be decided.
    pub undecided: Vec<Change>,
    /// Would be revoked, but too many lost it lately.
    pub held: Vec<Change>,
    /// Targets for which the brake acted on this login.
    pub braked: Vec<Target>,
    /// Would be revoked, but it is the last holder of something protected.
    pub guarded: Vec<Change>,
    /// Everything that a mapping gives, in the order of the rules.
    pub hits: Vec<Hit>,
    pub near_misses: Vec<NearMiss>,
    /// Mappings whose captures named nothing that may be given so: label, and the name.
    pub unknown: Vec<(String, String)>,
    pub before: Effective,
    pub after: Effective,
}

/// Why the rules refuse a login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    Gate {
        name: Arc<str>,
        /// For the person.
        message: String,
        /// It is shut because something could not be read.
        undecided: bool,
    },
    /// A mapping disables the user.
    Disables(Disabling),
}

/// Why a mapping does not disable a user although it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Spared {
    /// They hold something privileged, and the mapping was not written with scope `admin`.
    Privileged(Target),
    /// They are the last who hold it, and the mapping was not written with scope `admin`.
    LastHolder(Target),
    /// Mappings have disabled too many lately.
    Braked,
}

impl fmt::Display for Spared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Privileged(target) => write!(f, "{target} is privileged, and no administrator wrote this mapping"),
            Self::LastHolder(target) => {
                write!(f, "no other person holds {target}, which is protected, and no administrator wrote this mapping")
            }
            Self::Braked => f.write_str("mappings have disabled too many lately"),
        }
    }
}

/// One mapped grant in a plan.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    pub target: Target,
    pub mapping: MappingId,
    /// The mapping's name, or its definition if it has no name.
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

    /// Whether the target is among them.
    pub fn holds(&self, target: &Target) -> bool {
        match target {
            Target::Group(group) => self.groups.contains(group),
            Target::Role(role) => self.roles.contains(role),
        }
    }

    pub fn targets(&self) -> impl Iterator<Item = Target> {
        let groups = self.groups.iter().cloned().map(Target::Group);
        groups.chain(self.roles.iter().cloned().map(Target::Role))
    }
}

/// The plan of a login, before the brake and the last holders of protected targets are looked after (see [`Plan::hold`] and
/// [`Plan::guard`]).
///
/// `issued_at` is the smaller of the token's issue instant and `now`.
pub fn draft(
    user: UserId,
    issued_at: Timestamp,
    now: Timestamp,
    candidates: &Candidates,
    snapshot: &Snapshot,
    rules: &RuleSet,
) -> Plan {
    let provider = &candidates.provider;
    let own = own_grants(snapshot, provider);
    let decision = decide(rules, candidates, standing(snapshot, candidates, now, rules), now);
    let before = Effective::of(snapshot.grants.iter().map(|grant| &grant.target), &snapshot.denies, rules);
    let spared = spared(&decision, &before, snapshot, rules);
    let (refused, otherwise) = refusals(&decision, spared.is_some(), &own, provider, (rules, now));
    let mut plan = Plan {
        user,
        provider: provider.clone(),
        older: snapshot.watermark.is_some_and(|watermark| issued_at < watermark),
        ahead: None,
        shadow: rules.sync.mode == Mode::Shadow,
        refused,
        spared,
        otherwise,
        grants: Vec::new(),
        keeps: Vec::new(),
        revokes: Vec::new(),
        undecided: Vec::new(),
        held: Vec::new(),
        braked: Vec::new(),
        guarded: Vec::new(),
        hits: Vec::new(),
        near_misses: candidates.near_misses.clone(),
        unknown: decision.unknown,
        after: before.clone(),
        before,
    };
    plan.hits = decision.hits;
    if plan.older {
        return plan;
    }
    let mut should: BTreeMap<(&Target, MappingId), &str> =
        plan.hits.iter().map(|hit| ((&hit.target, hit.mapping), hit.label.as_str())).collect();
    for (target, mapping) in own {
        let rule = rules.mapping(mapping);
        let change = |label: String| Change { target: target.clone(), mapping, label };
        let label = || rule.map_or_else(|| format!("removed mapping {mapping}"), |rule| rule.label());
        if let Some(label) = should.remove(&(target, mapping)) {
            plan.keeps.push(change(label.to_owned()));
        } else if decision.undecided.contains(&mapping) || rules.is_decided_elsewhere(mapping, now) {
            plan.undecided.push(change(label()));
        } else if snapshot.held.contains(&(target.clone(), mapping)) {
            plan.held.push(change(label()));
        } else {
            plan.revokes.push(change(label()));
        }
    }
    plan.grants = should
        .into_iter()
        .map(|((target, mapping), label)| Change { target: target.clone(), mapping, label: label.to_owned() })
        .collect();
    for list in [&mut plan.keeps, &mut plan.revokes, &mut plan.undecided, &mut plan.held] {
        list.sort_unstable();
    }
    plan.settle(snapshot, rules);
    plan
}

fn own_grants<'a>(snapshot: &'a Snapshot, provider: &ProviderName) -> Vec<(&'a Target, MappingId)> {
    let own = snapshot.grants.iter().filter_map(|grant| match &grant.source {
        Source::Mapped { provider: owner, mapping } if owner == provider => Some((&grant.target, *mapping)),
        _ => None,
    });
    own.collect()
}

/// Whom a mapping does not disable that no administrator wrote: who holds something privileged, or is given it by this login.
fn spared(
    decision: &Decision,
    before: &Effective,
    snapshot: &Snapshot,
    rules: &RuleSet,
) -> Option<(Disabling, Spared)> {
    let disabling = decision.disabled_by.as_ref().filter(|disabling| rules.spares(disabling.mapping))?;
    let given = Effective::of(decision.hits.iter().map(|hit| &hit.target), &snapshot.denies, rules);
    let privileged = before.targets().chain(given.targets()).find(|target| rules.is_privileged(target))?;
    Some((disabling.clone(), Spared::Privileged(privileged)))
}

/// What refuses the login, and what does should the mapping that disables the user not do it.
fn refusals(
    decision: &Decision,
    spared: bool,
    own: &[(&Target, MappingId)],
    provider: &ProviderName,
    (rules, now): (&RuleSet, Timestamp),
) -> (Option<Refused>, Option<Refused>) {
    if rules.sync.mode == Mode::Shadow {
        return (None, None);
    }
    if let Some(Denied { name, message, undecided }) = decision.denied_by.clone() {
        return (Some(Refused::Gate { name, message, undecided }), None);
    }
    let shut = shut_gate(decision, own, provider, (rules, now));
    match decision.disabled_by.as_ref().filter(|_| !spared) {
        Some(disabling) => (Some(Refused::Disables(disabling.clone())), shut),
        None => (shut, None),
    }
}

/// A gate that asks for what this login does not bring.
fn shut_gate(
    decision: &Decision,
    own: &[(&Target, MappingId)],
    provider: &ProviderName,
    (rules, now): (&RuleSet, Timestamp),
) -> Option<Refused> {
    let holding = holding(decision, own.iter().map(|(_, mapping)| *mapping), rules, now);
    let applies = |gate: &&super::mapping::Gate| gate.provider.as_ref().is_none_or(|own| own == provider);
    let gates = || rules.gates.iter().filter(applies);
    let gate = gates().find(|gate| lacks_required(&gate.rule, &holding, rules))?;
    // With what may hold besides.
    let most = holding.iter().chain(&decision.undecided).copied().collect();
    let undecided = !gates().any(|gate| lacks_required(&gate.rule, &most, rules));
    Some(Refused::Gate { name: Arc::clone(&gate.name), message: gate.message.clone(), undecided })
}

/// The mappings that open gates. An undecided one opens a gate to those who hold something through it (`own`), and to
/// no other user; so does one on which another sidecar's file decides.
pub fn holding(
    decision: &Decision,
    own: impl Iterator<Item = MappingId>,
    rules: &RuleSet,
    now: Timestamp,
) -> BTreeSet<MappingId> {
    let is_open =
        |mapping: &MappingId| decision.undecided.contains(mapping) || rules.is_decided_elsewhere(*mapping, now);
    let kept = own.filter(is_open);
    decision.hits.iter().map(|hit| hit.mapping).chain(kept).collect()
}

/// Whether a gate asks for mappings none of which holds.
pub fn lacks_required(rule: &GateRule, holding: &BTreeSet<MappingId>, rules: &RuleSet) -> bool {
    let counts = |id: &MappingId| rules.mapping(*id).is_none_or(|mapping| !mapping.is_default());
    match rule {
        GateRule::RequireAny => !holding.iter().any(counts),
        GateRule::Require(listed) => !listed.iter().any(|id| holding.contains(id)),
        GateRule::Deny { .. } => false,
    }
}

impl Plan {
    /// Lets a login go on although a mapping would disable the user.
    pub fn spare(&mut self, why: Spared) {
        if let Some(Refused::Disables(disabling)) = &self.refused {
            let disabling = disabling.clone();
            self.spared = Some((disabling, why));
            self.refused = self.otherwise.take();
        }
    }

    /// Targets that this login takes away from what the provider gave: those with a revocation and nothing that stays.
    pub fn losses(&self) -> BTreeSet<&Target> {
        let stays = |target: &Target| {
            let lists = [&self.grants, &self.keeps, &self.undecided, &self.held, &self.guarded];
            lists.into_iter().flatten().any(|change| change.target == *target)
        };
        self.revokes.iter().map(|change| &change.target).filter(|target| !stays(target)).collect()
    }

    /// Stops the revocations of targets that too many have lost lately.
    pub fn hold(&mut self, braked: Vec<Target>, snapshot: &Snapshot, rules: &RuleSet) {
        if braked.is_empty() {
            return;
        }
        let (held, revokes): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.revokes).into_iter().partition(|change| braked.contains(&change.target));
        self.held.extend(held);
        self.held.sort_unstable();
        self.revokes = revokes;
        self.braked = braked;
        self.settle(snapshot, rules);
    }

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
        self.shadow || (self.grants.is_empty() && self.revokes.is_empty())
    }

    /// Recomputes what the user holds once the plan is applied.
    fn settle(&mut self, snapshot: &Snapshot, rules: &RuleSet) {
        if self.shadow {
            return;
        }
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
        match &self.refused {
            Some(Refused::Gate { name, .. }) => return writeln!(f, "  x refused by gate `{name}`"),
            Some(Refused::Disables(by)) => return writeln!(f, "  x refused: `{}` disables the user", by.label),
            None => {}
        }
        if let Some((by, why)) = &self.spared {
            writeln!(f, "  ! `{}` would disable the user, and does not: {why}", by.label)?;
        }
        if self.older {
            return writeln!(f, "  = an older login than the last one applied: nothing changes");
        }
        if self.shadow {
            writeln!(f, "  shadow: decided and recorded, nothing is written")?;
        }
        let lists = [
            ("+", "granted by", &self.grants),
            ("-", "no longer given by", &self.revokes),
            ("=", "still given by", &self.keeps),
            ("?", "kept, since it cannot be decided:", &self.undecided),
            ("#", "held by the brake, since too many lost it:", &self.held),
            ("!", "kept, as its last holder:", &self.guarded),
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
