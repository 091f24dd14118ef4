//! What is kept of one user: who they are, what they hold and why, what they are denied, and when they logged in.
//!
//! A store reads a record, a decision makes a new one of it, and the store writes the difference. Everything that changes a user
//! goes through here, so that no store has rules of its own. [`text`] is how a record is written down.

pub mod names;
pub mod text;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::ids::{MappingId, ProviderName, Target, Timestamp};
use super::mapping::RuleSet;
use super::plan::{Change, Grant, Plan, Snapshot, Source};
use super::provider::LONGEST_LEEWAY;

/// Fields that a later version has written and this one does not know. They are kept as they are.
pub type Rest = BTreeMap<String, Value>;

/// One user.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    pub email: Option<String>,
    pub display_name: Option<String>,
    pub created_at: Timestamp,
    pub disabled: Option<Disabled>,
    /// A mapping would have disabled the user, and the brake stopped it.
    pub stopped: Option<Stopped>,
    /// The newest login that was applied, for each provider.
    pub logins: BTreeMap<ProviderName, ProviderLogin>,
    pub holdings: BTreeMap<Grant, Holding>,
    pub denies: BTreeMap<Target, Deny>,
    /// The claims of the last login through each provider, as far as they are recorded.
    pub claims: BTreeMap<ProviderName, Vec<RecordedClaim>>,
    /// The window of the brake, by its beginning, in which this person was last counted.
    pub counted: BTreeMap<(ProviderName, Target), Timestamp>,
    /// No lease and no deny ends before this moment. `None`: none ends at all.
    pub due: Option<Timestamp>,
    pub rest: Rest,
}

/// One claim of a login, as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedClaim {
    pub name: String,
    /// How it was read: what a changed configuration reads otherwise was not recorded.
    pub read: Read,
    pub state: RecordedState,
    pub values: Vec<String>,
}

/// How a recorded claim was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    By(String),
    /// In the words of schema version 8 and earlier.
    Before(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordedState {
    Values,
    Empty,
    Missing,
    /// Malformed or unresolved: nothing can be planned from it.
    Undecided,
}

/// Why a user may not enter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disabled {
    pub at: Timestamp,
    /// The mapping that did it, and its label then. `None`: an operator.
    pub by: Option<(MappingId, String)>,
}

/// A disabling that waits for an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopped {
    pub mapping: MappingId,
    pub label: String,
    /// `None` in records that do not say.
    pub provider: Option<ProviderName>,
    pub at: Timestamp,
}

/// The logins of a user through one provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProviderLogin {
    /// Of the newest token.
    pub issued_at: Timestamp,
    pub last_login_at: Timestamp,
    /// From when leases count: the last login that decided on everything it kept.
    pub renewed_at: Option<Timestamp>,
}

/// What is known of a grant besides its target and source.
#[derive(Debug, Clone, PartialEq)]
pub struct Holding {
    pub granted_at: Timestamp,
    /// Who assigned it; empty for a mapped one.
    pub granted_by: String,
    /// Of a grant by hand: whether it was made with scope `admin` or at the command line. `None`: not known.
    pub as_admin: Option<bool>,
    /// From when its lease counts instead: a login kept it and could not renew it.
    pub lease_from: Option<Timestamp>,
    /// Since when the brake holds its revocation.
    pub held_at: Option<Timestamp>,
    pub rest: Rest,
}

impl Holding {
    /// Given by a mapping.
    pub fn mapped(now: Timestamp) -> Self {
        Self {
            granted_at: now,
            granted_by: String::new(),
            as_admin: None,
            lease_from: None,
            held_at: None,
            rest: Rest::new(),
        }
    }
}

/// What a person has denied a user.
#[derive(Debug, Clone, PartialEq)]
pub struct Deny {
    pub at: Timestamp,
    pub by: String,
    pub reason: String,
    /// `None`: until it is lifted.
    pub until: Option<Timestamp>,
    pub rest: Rest,
}

impl Deny {
    pub fn binds(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| until > now)
    }
}

/// What binds a person who was erased.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Bound {
    pub disabled: Option<Disabled>,
    pub denies: BTreeMap<Target, Deny>,
}

impl Bound {
    /// Whether anything binds.
    pub fn binds(&self) -> bool {
        self.disabled.is_some() || !self.denies.is_empty()
    }

    /// What is denied at a moment.
    pub fn denied(&self, now: Timestamp) -> BTreeSet<Target> {
        self.denies.iter().filter(|(_, deny)| deny.binds(now)).map(|(target, _)| target.clone()).collect()
    }

    /// Takes over what binds the same person elsewhere. An operator's disabling goes before a mapping's, which is lifted with
    /// the mapping's name, and of two denies the longer stays.
    pub fn absorb(&mut self, other: &Self) {
        let by_operator = |disabled: &Option<Disabled>| disabled.as_ref().is_some_and(|disabled| disabled.by.is_none());
        if other.disabled.is_some()
            && (self.disabled.is_none() || (!by_operator(&self.disabled) && by_operator(&other.disabled)))
        {
            self.disabled.clone_from(&other.disabled);
        }
        for (target, deny) in &other.denies {
            let longer = |kept: &Deny| kept.until.is_some_and(|kept| deny.until.is_none_or(|until| until > kept));
            match self.denies.get_mut(target) {
                Some(kept) if longer(kept) => kept.until = deny.until,
                Some(_) => {}
                None => {
                    self.denies.insert(target.clone(), deny.clone());
                }
            }
        }
    }
}

impl Record {
    /// A user who was not there before.
    pub fn new(now: Timestamp) -> Self {
        Self {
            email: None,
            display_name: None,
            created_at: now,
            disabled: None,
            stopped: None,
            logins: BTreeMap::new(),
            holdings: BTreeMap::new(),
            denies: BTreeMap::new(),
            claims: BTreeMap::new(),
            counted: BTreeMap::new(),
            due: None,
            rest: Rest::new(),
        }
    }

    /// Takes over what bound an erased person.
    pub fn bind(&mut self, bound: &Bound) {
        let mut joined = Bound { disabled: self.disabled.take(), denies: std::mem::take(&mut self.denies) };
        joined.absorb(bound);
        (self.disabled, self.denies) = (joined.disabled, joined.denies);
        let ends = self.denies.values().filter_map(|deny| deny.until).min();
        self.ends_by(ends);
    }

    /// Something ends at a moment.
    pub fn ends_by(&mut self, at: Option<Timestamp>) {
        self.due = match (self.due, at) {
            (Some(known), Some(at)) => Some(known.min(at)),
            (known, at) => known.or(at),
        };
    }

    /// When the first lease or deny ends under some rules.
    pub fn ends_at(&self, rules: &RuleSet) -> Option<Timestamp> {
        let leases = self.holdings.iter().filter_map(|(grant, holding)| match &grant.source {
            Source::Mapped { provider, .. } => Some(self.leased_from(provider, holding).plus(rules.lease(provider)?)),
            Source::Assigned => None,
        });
        leases.chain(self.denies.values().filter_map(|deny| deny.until)).min()
    }

    /// The last login through any provider.
    pub fn last_login(&self) -> Option<Timestamp> {
        self.logins.values().map(|login| login.last_login_at).max()
    }

    /// Takes over what another user has who is the same person. What takes access away stays of either; what gives it by hand is
    /// joined; what a provider gave stays until it has spoken under this key.
    pub fn absorb(&mut self, other: &Self) {
        for (grant, holding) in &other.holdings {
            let joins = match &grant.source {
                // A grant by hand counts as made by an administrator if either was.
                Source::Assigned => {
                    let vouched = |holding: &Holding| holding.as_admin == Some(true);
                    self.holdings.get(grant).is_none_or(|mine| vouched(holding) && !vouched(mine))
                }
                Source::Mapped { provider, .. } => !self.logins.contains_key(provider),
            };
            if joins {
                self.holdings.insert(grant.clone(), holding.clone());
            }
        }
        for (provider, login) in &other.logins {
            if !self.logins.contains_key(provider) {
                self.logins.insert(provider.clone(), *login);
                if let Some(claims) = other.claims.get(provider) {
                    self.claims.insert(provider.clone(), claims.clone());
                }
            }
        }
        self.ends_by(other.due);
        self.bind(&Bound { disabled: other.disabled.clone(), denies: other.denies.clone() });
    }

    /// What a plan through a provider is made from. [`Snapshot::by_claim`] is left empty.
    pub fn snapshot(&self, provider: &ProviderName, now: Timestamp) -> Snapshot {
        let held = self.holdings.iter().filter_map(|(grant, holding)| match &grant.source {
            Source::Mapped { provider: owner, mapping } if owner == provider && holding.held_at.is_some() => {
                Some((grant.target.clone(), *mapping))
            }
            _ => None,
        });
        Snapshot {
            grants: self.holdings.keys().cloned().collect(),
            denies: self.denied(now),
            watermark: self.watermark(provider, now),
            last_login: self.last_login(),
            held: held.collect(),
            by_claim: BTreeSet::new(),
        }
    }

    /// The issue instant of the newest login through a provider. One that lies ahead by more than clocks may differ was written by
    /// a clock that was wrong: it makes no login older.
    pub fn watermark(&self, provider: &ProviderName, now: Timestamp) -> Option<Timestamp> {
        let issued_at = self.logins.get(provider)?.issued_at;
        (issued_at <= now.plus(LONGEST_LEEWAY)).then_some(issued_at)
    }

    /// What is denied at a moment.
    pub fn denied(&self, now: Timestamp) -> BTreeSet<Target> {
        self.denies.iter().filter(|(_, deny)| deny.binds(now)).map(|(target, _)| target.clone()).collect()
    }

    /// From when the lease of a mapped grant counts.
    pub fn leased_from(&self, provider: &ProviderName, holding: &Holding) -> Timestamp {
        let renewed = || self.logins.get(provider).and_then(|login| login.renewed_at);
        holding.lease_from.or_else(renewed).unwrap_or(holding.granted_at)
    }

    /// Grants through a provider whose lease counts from `cutoff` or earlier: the time that a lease lasts before now.
    pub fn lapsed(&self, provider: &ProviderName, cutoff: Timestamp) -> Vec<Grant> {
        let through = self.holdings.iter().filter(|(grant, _)| grant.source.is_through(provider));
        let lapsed = through.filter(|(_, holding)| self.leased_from(provider, holding) <= cutoff);
        lapsed.map(|(grant, _)| grant.clone()).collect()
    }

    /// Whether an app that follows this user would be told the same of both.
    pub fn tells_the_same(&self, other: &Self) -> bool {
        let told = |record: &Self| {
            let targets: BTreeSet<Target> = record.holdings.keys().map(|grant| grant.target.clone()).collect();
            let denied: BTreeSet<Target> = record.denies.keys().cloned().collect();
            (targets, denied, record.disabled.is_some())
        };
        self.email == other.email && self.display_name == other.display_name && told(self) == told(other)
    }

    /// Carries out a plan.
    pub fn carry_out(&mut self, plan: &Plan, has_lease: bool, now: Timestamp) {
        if plan.shadow || plan.older {
            return;
        }
        let renewed_at = self.logins.get(&plan.provider).and_then(|login| login.renewed_at);
        let key = |change: &Change| Grant {
            target: change.target.clone(),
            source: Source::Mapped { provider: plan.provider.clone(), mapping: change.mapping },
        };
        for change in &plan.revokes {
            self.holdings.remove(&key(change));
        }
        for change in &plan.grants {
            self.holdings.entry(key(change)).or_insert_with(|| Holding::mapped(now));
        }
        for change in &plan.keeps {
            if let Some(holding) = self.holdings.get_mut(&key(change)) {
                (holding.lease_from, holding.held_at) = (None, None);
            }
        }
        for change in &plan.held {
            if let Some(holding) = self.holdings.get_mut(&key(change)) {
                holding.held_at = holding.held_at.or(Some(now));
            }
        }
        if !has_lease {
            return;
        }
        // What could not be decided keeps the lease that it had.
        for change in [&plan.undecided, &plan.held, &plan.guarded].into_iter().flatten() {
            if let Some(holding) = self.holdings.get_mut(&key(change)) {
                holding.lease_from = holding.lease_from.or(renewed_at).or(Some(holding.granted_at));
            }
        }
    }

    /// Lifts the brake's hold of some targets through a provider.
    pub fn lift(&mut self, provider: &ProviderName, targets: &[Target]) {
        for (grant, holding) in &mut self.holdings {
            if grant.source.is_through(provider) && targets.contains(&grant.target) {
                holding.held_at = None;
            }
        }
    }
}

impl Source {
    /// Whether a mapping gave it, through this provider.
    pub fn is_through(&self, provider: &ProviderName) -> bool {
        matches!(self, Self::Mapped { provider: owner, .. } if owner == provider)
    }
}
