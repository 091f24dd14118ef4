//! What a decision knows beyond the users whom it is about, and how it asks for that.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use super::Seen;
use crate::ids::{MappingId, ProviderName, Target, Timestamp, UserId};
use crate::plan::Grant;
use crate::record::{Bound, Record};

/// What a decision knows beyond the users whom it is about.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// What was done before with the token that was asked about.
    pub token: Seen,
    pub windows: BTreeMap<(ProviderName, Target), RunningWindow>,
    /// Users who hold the target through mappings of the provider; `None`: by hand.
    pub members: BTreeMap<(Option<ProviderName>, Target), u64>,
    /// Other users with a grant of what carries the target, page by page.
    pub others: BTreeMap<(Target, i64), Vec<Other>>,
    pub disablings: Option<Disablings>,
    pub notes: BTreeMap<&'static str, Option<Vec<u8>>>,
    /// What operators have confirmed for a client.
    pub confirmations: BTreeMap<String, Option<Vec<u8>>>,
    /// Through which provider which mapping gave what.
    pub given: Option<Arc<Vec<(MappingId, ProviderName, Target)>>>,
    /// How many grants a mapping has given.
    pub given_by: BTreeMap<MappingId, u64>,
    /// Users who hold a target through a provider by some mappings and by no other.
    pub losing: BTreeMap<(ProviderName, Target), u64>,
    /// Everything that some user holds.
    pub granted: Option<Arc<Vec<Target>>>,
    pub grants: BTreeMap<Target, Arc<Vec<GrantOf>>>,
    /// How many users are denied a target.
    pub denied: Option<Arc<BTreeMap<Target, u64>>>,
    /// How many are denied the first, and not the second.
    pub unbound: BTreeMap<(Target, Target), u64>,
    /// Erased people whom a mapping disabled.
    pub erased: Option<Vec<(Vec<u8>, Bound)>>,
    /// Erased people of whom a deny has ended.
    pub erased_denies: Option<Vec<(Vec<u8>, Bound)>>,
}

/// People who lost a target through a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    pub began_at: Timestamp,
    /// Mapped members at its beginning.
    pub members: u64,
    pub losses: u64,
}

/// How many mappings have disabled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disablings {
    /// People who had logged in before, within the brake's window and since an operator last judged.
    pub lately: u64,
    /// Whether the brake holds a disabling of another user.
    pub holds: bool,
    /// All users.
    pub users: u64,
}

/// A target from which new rules would take more members than the brake lets pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excess {
    /// `None`: by hand.
    pub provider: Option<ProviderName>,
    pub target: Target,
    pub losing: u64,
    pub members: u64,
    pub allowed: u64,
}

impl fmt::Display for Excess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { provider, target, losing, members, allowed } = self;
        match provider {
            Some(provider) => {
                write!(f, "{target} would go from {losing} of {members} who have it through `{provider}`")?
            }
            None => write!(f, "{target} would go from {losing} of {members} who have it by hand")?,
        }
        write!(f, "; the brake lets {allowed} pass")
    }
}

/// The window of a target through a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RunningWindow {
    pub window: Option<Window>,
    /// Whether the brake holds a revocation of it.
    pub holds: bool,
}

/// A user whom the decision is not about.
#[derive(Debug, Clone)]
pub struct Other {
    pub number: i64,
    pub record: Record,
}

/// A grant of some user.
#[derive(Debug, Clone)]
pub struct GrantOf {
    pub number: i64,
    pub user: UserId,
    pub grant: Grant,
    pub granted_by: String,
    pub as_admin: Option<bool>,
}

/// A question that the store has to answer first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Question {
    Window(ProviderName, Target),
    Members(Option<ProviderName>, Target),
    /// The next users, after a number, who are not asked about and have a grant of one of the targets. Behind [`Self::SOME`]
    /// any do.
    Others {
        of: Target,
        through: BTreeSet<Target>,
        after: i64,
    },
    /// Who was disabled by a mapping after a moment.
    Disablings(Timestamp),
    Note(&'static str),
    Confirmation(String),
    Given,
    GivenBy(BTreeSet<MappingId>),
    Losing(ProviderName, Target, BTreeSet<MappingId>),
    Granted,
    /// Grants of a target by hand, and those by some mappings.
    Grants(Target, BTreeSet<MappingId>),
    Denied,
    Unbound(Target, Target),
    Erased,
    /// Of whom a deny has ended at a moment.
    ErasedDenies(Timestamp),
}

impl Question {
    /// As the number after which to go on: a few users, whichever they are, since most often the first decides.
    pub const SOME: i64 = i64::MIN;

    /// How many users one answer to [`Question::Others`] tells of, at most.
    pub fn page(after: i64) -> usize {
        if after == Self::SOME { 4 } else { 256 }
    }
}

/// Why a step has not decided.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Needs {
    #[error("{} facts are missing", .0.len())]
    Facts(BTreeSet<Question>),
    /// Nothing is done, in words for the caller.
    #[error("{0}")]
    Undone(String),
    /// Other rules would revoke over the brake's limit.
    #[error("the rules revoke too much at once")]
    Braked(Vec<Excess>),
}

impl Needs {
    pub(super) fn one(question: Question) -> Self {
        Self::Facts(BTreeSet::from([question]))
    }
}

impl Facts {
    /// Takes over what others were answered.
    pub fn absorb(&mut self, answered: Self) {
        let Self {
            token: _,
            windows,
            members,
            others,
            disablings,
            notes,
            confirmations,
            given,
            given_by,
            losing,
            granted,
            grants,
            denied,
            unbound,
            erased,
            erased_denies,
        } = answered;
        self.windows.extend(windows);
        self.members.extend(members);
        self.others.extend(others);
        self.disablings = disablings.or(self.disablings.take());
        self.notes.extend(notes);
        self.confirmations.extend(confirmations);
        self.given = given.or(self.given.take());
        self.given_by.extend(given_by);
        self.losing.extend(losing);
        self.granted = granted.or(self.granted.take());
        self.grants.extend(grants);
        self.denied = denied.or(self.denied.take());
        self.unbound.extend(unbound);
        self.erased = erased.or(self.erased.take());
        self.erased_denies = erased_denies.or(self.erased_denies.take());
    }

    pub(super) fn note(&self, name: &'static str) -> Result<Option<&[u8]>, Needs> {
        let known = self.notes.get(name).ok_or_else(|| Needs::one(Question::Note(name)))?;
        Ok(known.as_deref())
    }

    pub(super) fn given(&self) -> Result<&[(MappingId, ProviderName, Target)], Needs> {
        self.given.as_deref().map(Vec::as_slice).ok_or_else(|| Needs::one(Question::Given))
    }

    pub(super) fn denied(&self) -> Result<&BTreeMap<Target, u64>, Needs> {
        self.denied.as_deref().ok_or_else(|| Needs::one(Question::Denied))
    }

    /// How many grants each of some mappings has given.
    pub(super) fn given_by(&self, mappings: &BTreeSet<MappingId>) -> Result<Vec<(MappingId, u64)>, Needs> {
        let open: BTreeSet<MappingId> = mappings.iter().filter(|id| !self.given_by.contains_key(id)).copied().collect();
        match open.is_empty() {
            true => Ok(mappings.iter().filter_map(|id| Some((*id, *self.given_by.get(id)?))).collect()),
            false => Err(Needs::one(Question::GivenBy(open))),
        }
    }
}

/// A map's values for some keys, or the questions that are open.
pub(super) fn all<K, V>(
    keys: impl IntoIterator<Item = K>,
    known: impl Fn(&K) -> Option<V>,
    question: impl Fn(&K) -> Question,
) -> Result<Vec<(K, V)>, Needs> {
    let (mut found, mut open) = (Vec::new(), BTreeSet::new());
    for key in keys {
        match known(&key) {
            Some(value) => found.push((key, value)),
            None => {
                open.insert(question(&key));
            }
        }
    }
    if open.is_empty() { Ok(found) } else { Err(Needs::Facts(open)) }
}
