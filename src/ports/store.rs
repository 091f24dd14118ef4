//! The memory of loginsync: users, grants, denies, replay records, the audit chain.
//!
//! [`Store::apply`] is one transaction: it reads the user's snapshot, runs the pure plan, writes grants, replay record,
//! last login and audit row, and returns the plan. Other methods look, or act for an operator.

pub mod sqlite;

use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use utoipa::ToSchema;

use super::BoxFuture;
use crate::pipeline::claims::arrived::ArrivedNames;
pub use crate::pipeline::decision::{Act, Applied, By, ClaimSummary, Login, Preview};
use crate::pipeline::forecast::Person;
use crate::pipeline::ids::{ProviderName, Target, Timestamp, UserId};
use crate::pipeline::mapping::{Candidates, RuleSet};

/// A page of users.
#[derive(Debug)]
pub struct People {
    pub people: Vec<Person>,
    /// Where to go on; `None` when these were the last.
    pub next: Option<i64>,
    /// How many users there are; told with the first page.
    pub total: Option<u64>,
}

/// A login refused after its signature held.
#[derive(Debug, Clone)]
pub struct Refusal {
    pub id: String,
    pub provider: ProviderName,
    pub token_id: String,
    pub now: Timestamp,
    pub reason: String,
    /// What the provider sent, by name.
    pub arrived: Vec<ArrivedNames>,
    /// Until when a second refusal of this token is not recorded again.
    pub remember_until: Timestamp,
}

/// Why the store did not do what was asked. Nothing was written, except that a commit under way may still succeed after
/// [`StoreError::Timeout`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    #[error("the store did not answer in time")]
    Timeout,
    #[error("the store is full or cannot be written: {0}")]
    Unavailable(String),
    #[error("{0}")]
    Invalid(String),
    /// New rules would revoke over the brake's limit.
    #[error("{}", braked(.0))]
    Braked(Vec<Excess>),
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

fn braked(excesses: &[Excess]) -> String {
    let mut text = String::from("the rules revoke too much at once:");
    for excess in excesses {
        text.push_str("\n  ");
        text.push_str(&excess.to_string());
    }
    text.push_str(
        "\n  look with `loginsync plan --config FILE`; if it is meant, `loginsync plan --config FILE --confirm`",
    );
    text
}

/// A mapped grant whose lease ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseView {
    pub namespace: String,
    pub subject: String,
    pub provider: String,
    pub target: Target,
    /// The mapping as people know it.
    pub mapping: String,
    pub ends_at: Timestamp,
}

/// A revocation that the brake has stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldView {
    pub user: UserId,
    pub provider: ProviderName,
    /// What would be revoked; `None`: a mapping would disable the user.
    pub target: Option<Target>,
    /// The mapping as people know it.
    pub mapping: String,
    pub since: Timestamp,
}

/// Which holds are meant; what is not set takes all.
#[derive(Debug, Clone, Default)]
pub struct HoldFilter {
    pub user: Option<UserId>,
    pub provider: Option<ProviderName>,
    pub target: Option<Target>,
}

impl HoldFilter {
    pub fn takes(&self, hold: &HoldView) -> bool {
        let Self { user, provider, target } = self;
        user.as_ref().is_none_or(|user| *user == hold.user)
            && provider.as_ref().is_none_or(|provider| *provider == hold.provider)
            && target.as_ref().is_none_or(|target| hold.target.as_ref() == Some(target))
    }
}

/// What the reaper ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reaped {
    pub leases: u64,
    pub denies: u64,
    /// Grants of mappings that have passed their `until`.
    pub expired: u64,
}

/// How far planning anew has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replanned {
    /// Where to go on; `None` when all are done.
    pub next: Option<(i64, String)>,
    /// Users for whom something changed.
    pub changed: u64,
}

/// A user as the store knows them.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct UserView {
    pub namespace: String,
    pub subject: String,
    pub email: Option<String>,
    pub enabled: bool,
    /// The mapping that disabled the user, as it was called then; absent where an operator did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disabled_by: Option<String>,
    pub created_at: String,
    pub last_login_at: Option<String>,
    /// Effective groups.
    pub groups: Vec<String>,
    /// Effective roles, held directly or through groups.
    pub roles: Vec<String>,
    pub memberships: Vec<MembershipView>,
    /// Roles that come through groups: role, and the groups that carry it.
    pub roles_through_groups: Vec<RoleThroughGroups>,
}

/// What takes access from a user, and outlives the user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Binding {
    pub disabled: bool,
    /// Such as group `Staff`.
    pub denies: Vec<String>,
}

impl Binding {
    pub fn binds(&self) -> bool {
        self.disabled || !self.denies.is_empty()
    }
}

impl UserView {
    pub fn binding(&self) -> Binding {
        let denied = self.memberships.iter().filter(|membership| membership.denied);
        let denies = denied.map(|membership| format!("{} `{}`", membership.kind, membership.name)).collect();
        Binding { disabled: !self.enabled, denies }
    }
}

#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct RoleThroughGroups {
    pub role: String,
    pub groups: Vec<String>,
}

/// One group or role that a user has a reason to hold, or is denied.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct MembershipView {
    pub kind: &'static str,
    pub name: String,
    /// `mapped`, `assigned` or `both`; `denied` where nothing but a deny is on record.
    pub membership: &'static str,
    pub effective: bool,
    #[serde(skip)]
    pub denied: bool,
    /// Each grant and deny in words.
    pub reasons: Vec<String>,
}

/// A row of the audit chain.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct AuditRow {
    pub sequence: i64,
    pub at: String,
    pub event: String,
    pub detail: serde_json::Value,
    /// Personal fields; `None` once erased.
    pub person: Option<serde_json::Value>,
    pub seal: String,
}

/// What a check of the audit chain found.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
pub struct ChainReport {
    pub rows: u64,
    pub erased: u64,
    /// Rows at the beginning of the first format, which a row of the second counts.
    pub first_format: u64,
    /// Rows at the beginning of a keyed chain that are older than its key.
    pub unkeyed: u64,
    /// Sealed with a key, or merely linked by hashes.
    pub keyed: bool,
    /// The first fault; rows after it are not looked at.
    pub broken: Option<Broken>,
    /// The seal of the last row that fits.
    pub head: String,
}

/// Where the audit chain does not fit, and why.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
pub struct Broken {
    /// `None` where no single row is at fault.
    pub row: Option<i64>,
    pub fault: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.row {
            Some(row) => write!(f, "row {row} {}", self.fault),
            None => f.write_str(&self.fault),
        }
    }
}

/// What became of the grants of mappings that the configuration no longer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Adopted {
    pub ended_mappings: u64,
    pub ended_grants: u64,
    /// Grants of what became privileged, that were not made with scope `admin`.
    pub privileged_grants: u64,
}

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

impl Unvouched {
    pub(crate) fn none(target: Target) -> Self {
        Self { target, by_hand: 0, mapped: 0, unknown: 0 }
    }
}

/// A person whom a mapping disabled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DisabledView {
    /// `None`: they were erased since.
    pub user: Option<UserId>,
    /// The mapping as it was called then.
    pub mapping: String,
    pub since: Timestamp,
}

/// A user under a new key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rekeyed {
    pub old: UserId,
    pub new: UserId,
    /// A user had the new key already: the two are one from now on.
    pub merged: bool,
    /// The old key belonged to an erased person: only what binds them goes over.
    pub erased: bool,
    /// Whether they are disabled under the new key.
    pub disabled: bool,
    /// What they are denied under the new key.
    pub denies: Vec<Target>,
    /// What they hold by hand under the new key.
    pub assigned: Vec<Target>,
}

/// The store's contract; one suite of tests runs on every implementation.
pub trait Store: Send + Sync {
    /// Applies a login in one transaction. After an error nothing was written, as [`StoreError`] says.
    fn apply(
        &self,
        login: Login,
        candidates: Candidates,
        rules: Arc<RuleSet>,
    ) -> BoxFuture<'_, Result<Applied, StoreError>>;

    /// What [`Store::apply`] would do with a login, and what it would decide on. Nothing is written, and a token that was
    /// here before is planned as if it came for the first time.
    fn preview(
        &self,
        login: Login,
        candidates: Candidates,
        rules: Arc<RuleSet>,
    ) -> BoxFuture<'_, Result<Preview, StoreError>>;

    /// Records that a login was refused after its signature held; once for each token.
    fn record_refusal(&self, refusal: Refusal) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Makes a rule set the current one: ends the grants of mappings that it no longer has, or that are no longer active.
    fn adopt(&self, rules: Arc<RuleSet>, now: Timestamp) -> BoxFuture<'_, Result<Adopted, StoreError>>;

    /// Users in the order in which they came, after a row, each with what a plan under other rules is made from: recorded
    /// claims are read by these rules.
    fn people(
        &self,
        rules: Arc<RuleSet>,
        after: Option<i64>,
        limit: usize,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<People, StoreError>>;

    /// What [`Store::adopt`] would refuse these rules for, were nobody to confirm them.
    fn excesses(&self, rules: Arc<RuleSet>) -> BoxFuture<'_, Result<Vec<Excess>, StoreError>>;

    /// Groups and roles as the rules that were adopted last declare them, without mappings. `None` where that is not known.
    fn adopted_targets(&self) -> BoxFuture<'_, Result<Option<RuleSet>, StoreError>>;

    /// Notes that the rules of a file, by its digest, may revoke over the brake's limit.
    fn confirm(&self, source: [u8; 32], by: String, now: Timestamp) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Plans the next users with recorded claims anew, by the current rules. `None` as the place to go on from begins, and
    /// answers at once when all were planned by the rules of this file before.
    fn replan(
        &self,
        rules: Arc<RuleSet>,
        after: Option<(i64, String)>,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<Replanned, StoreError>>;

    /// Mapped grants whose lease ends before a moment, the first to end at the front.
    fn leases(
        &self,
        rules: Arc<RuleSet>,
        before: Timestamp,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<LeaseView>, StoreError>>;

    /// Ends what is due: leases, mappings and denies past their `until`. A part of it where there is much.
    fn reap(&self, rules: Arc<RuleSet>, now: Timestamp) -> BoxFuture<'_, Result<Reaped, StoreError>>;

    /// What the brake holds, the oldest first.
    fn holds(&self, filter: HoldFilter, rules: Arc<RuleSet>) -> BoxFuture<'_, Result<Vec<HoldView>, StoreError>>;

    /// Plans what is held anew, without the brake. Returns how many holds that were.
    fn release(
        &self,
        filter: HoldFilter,
        rules: Arc<RuleSet>,
        by: String,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<u64, StoreError>>;

    /// Forgets what is held: the grants stay until a login says otherwise. Returns how many holds that were.
    fn discard(
        &self,
        filter: HoldFilter,
        rules: Arc<RuleSet>,
        by: String,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<u64, StoreError>>;

    /// Everything that is kept of one person, as JSON; `None` when there is no such user.
    fn export(&self, user: UserId) -> BoxFuture<'_, Result<Option<serde_json::Value>, StoreError>>;

    /// Carries out an operator's act. `by` names who. Assigning creates the user when absent.
    fn act(&self, user: UserId, act: Act, by: By, now: Timestamp) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Gives users new keys, all of them or none. What they are denied, that they are disabled, and what they hold goes with
    /// them. `by`: `None` looks and changes nothing.
    ///
    /// If a user has the new key already, the two become one if `merge` is set: denies and the disabling of either
    /// stay, grants by hand are joined, and mapped grants of the old key stay where the new one has not logged in yet.
    fn rekey(
        &self,
        keys: Vec<(UserId, UserId)>,
        merge: bool,
        by: Option<By>,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<Vec<Rekeyed>, StoreError>>;

    /// Whom a mapping disabled, by its name, number or identity: those who still are.
    fn disabled_by(&self, mapping: String) -> BoxFuture<'_, Result<Vec<DisabledView>, StoreError>>;

    /// Enables them. Returns how many those were.
    fn enable_disabled_by(&self, mapping: String, by: By, now: Timestamp) -> BoxFuture<'_, Result<u64, StoreError>>;

    /// Grants of what is privileged under these rules, for which no administrator vouches.
    fn unvouched(&self, rules: Arc<RuleSet>) -> BoxFuture<'_, Result<Vec<Unvouched>, StoreError>>;

    fn user(&self, user: UserId, rules: Arc<RuleSet>) -> BoxFuture<'_, Result<Option<UserView>, StoreError>>;

    /// Users in order of namespace and subject, after the given one.
    fn users(&self, after: Option<UserId>, limit: usize) -> BoxFuture<'_, Result<Vec<UserId>, StoreError>>;

    /// Users with a live grant of the target itself, in order, after the given one.
    fn members(
        &self,
        target: Target,
        after: Option<UserId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<UserId>, StoreError>>;

    /// Audit rows after a sequence number, oldest first.
    fn audit(&self, after: i64, limit: usize) -> BoxFuture<'_, Result<Vec<AuditRow>, StoreError>>;

    /// The row of one login, by its id in the log.
    fn audit_of(&self, login: String) -> BoxFuture<'_, Result<Option<AuditRow>, StoreError>>;

    /// Sequence and seal of the newest audit row.
    fn audit_head(&self) -> BoxFuture<'_, Result<Option<(i64, String)>, StoreError>>;

    /// Walks the whole audit chain, up to its first fault.
    fn verify_audit(&self) -> BoxFuture<'_, Result<ChainReport, StoreError>>;

    /// Seals that an operator accepts the rows from before there was an audit key. Returns how many they are.
    fn accept_unkeyed(&self, by: String, now: Timestamp) -> BoxFuture<'_, Result<u64, StoreError>>;

    /// Keys that seal cookies, made at first use: kept so that a restart does not break logins under way.
    fn cookie_keys(&self) -> BoxFuture<'_, Result<Vec<u8>, StoreError>>;

    /// The key that signs assertions: the one that is kept, else `fresh`, which is kept from now on.
    fn assertion_key(&self, fresh: Vec<u8>) -> BoxFuture<'_, Result<Vec<u8>, StoreError>>;

    /// Brings everything that was committed into one place, for copying files after the program has ended.
    fn settle(&self) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Whether a login could be applied now.
    fn ready(&self) -> BoxFuture<'_, Result<(), StoreError>>;
}
