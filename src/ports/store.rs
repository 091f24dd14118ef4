//! The memory of loginsync: users, what they hold and are denied, spent tokens, the audit chain.
//!
//! A store keeps, and decides nothing. [`Users`] is what a store has to do: read users, ask a pure step
//! ([`crate::pipeline::decision`]) until it has decided, and write what it decided, all in one transaction. [`Store`] is what the
//! rest of the program calls; it brings the steps along, so that every store does the same.

mod acts;
mod chain;
mod happened;
mod logins;
mod look;
pub mod memory;
pub mod postgres;
mod rows;
mod rules;
pub mod sqlite;
pub mod transfer;

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::{digest, hmac};
use serde::Serialize;
use utoipa::ToSchema;

pub use self::look::view;
use super::BoxFuture;
use super::catalogue::{Found, Search};
use super::console::ConsoleSessions;
pub use super::kept::{Known, StoreError};
use super::outbox::events::Listeners;
use super::outbox::{Outbox, Round};
use super::sessions::Sessions;
use crate::config::Secret;
use crate::pipeline::claims::arrived::ArrivedNames;
use crate::pipeline::decision::{self, Facts, Kept, Needs, Save};
pub use crate::pipeline::decision::{
    Act, Adopted, Applied, By, ClaimSummary, Excess, Login, Preview, Rekeyed, Unvouched, Work,
};
use crate::pipeline::ids::{MappingId, ProviderName, Target, Timestamp, UserId};

/// A page of users.
#[derive(Debug)]
pub struct People {
    pub people: Vec<Known>,
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

/// A mapped grant whose lease ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseView {
    pub namespace: String,
    pub subject: String,
    pub provider: String,
    pub target: Target,
    /// The mapping's name, or its definition if it has no name.
    pub mapping: String,
    pub ends_at: Timestamp,
}

/// A revocation that the brake holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldView {
    pub user: UserId,
    pub provider: ProviderName,
    /// What would be revoked; `None`: a mapping would disable the user.
    pub target: Option<Target>,
    /// The mapping's name, or its definition if it has no name.
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
    /// Whether it takes every hold. To act on all, a caller has to say so: a filter that was forgotten must not mean all.
    pub fn takes_all(&self) -> bool {
        self.user.is_none() && self.provider.is_none() && self.target.is_none()
    }

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

/// How far planning again has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replanned {
    /// Where to go on; `None` when all are done.
    pub next: Option<i64>,
    /// Users with recorded claims who were planned.
    pub people: u64,
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

/// What a user would effectively gain and lose, such as group `Staff`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Foreseen {
    pub gains: Vec<String>,
    pub loses: Vec<String>,
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
    /// Whether the chain is sealed with a key, or only linked by hashes.
    pub keyed: bool,
    /// The first fault; rows after it are not looked at.
    pub broken: Option<Broken>,
    /// The seal of the last valid row.
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

/// A person whom a mapping disabled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DisabledView {
    /// `None`: they were erased since.
    pub user: Option<UserId>,
    /// The mapping as it was called then.
    pub mapping: String,
    pub since: Timestamp,
}

/// Which users a step is about.
#[derive(Debug, Clone, Default)]
pub struct Ask {
    pub users: Vec<UserId>,
    pub token: Option<Token>,
    pub now: Option<Timestamp>,
}

/// A token, by its digest, and until when it is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    pub digest: [u8; 32],
    pub until: Timestamp,
}

impl Token {
    /// `scope`: within which the id of the token is unique.
    pub fn of(scope: &str, token_id: &str, until: Timestamp) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(&(scope.len() as u64).to_be_bytes());
        context.update(scope.as_bytes());
        context.update(token_id.as_bytes());
        let mut own = [0; 32];
        own.copy_from_slice(context.finish().as_ref());
        Self { digest: own, until }
    }
}

/// A decision. It may be asked again, with more facts or about newer records.
pub type Step = Box<dyn FnMut(&[Kept], &Facts) -> Result<Save, Needs> + Send>;

/// How often a step may come back with questions. Each of its stages asks all that it has at once.
pub const ROUNDS: usize = 1000;

/// By what users are found.
#[derive(Debug, Clone)]
pub enum Through {
    /// They hold something through a mapping.
    Mapping(MappingId),
    /// They hold a target.
    Target(Target),
    /// They are denied a target.
    Denied(Target),
    /// The brake holds a revocation, or a disabling.
    Held,
    /// A mapping disabled them.
    Disabled,
    /// A lease or a deny of theirs may end before a moment.
    Due(Timestamp),
}

/// What a store does with users. The suite of the stores runs on every implementation.
pub trait Users: Send + Sync {
    /// Reads users, asks a step until it has decided, and writes what it decided, in one transaction. After an error nothing was
    /// written, as [`StoreError`] says.
    fn transact(&self, ask: Ask, step: Step) -> BoxFuture<'_, Result<(), StoreError>>;

    /// The same, and nothing is written.
    fn preview(&self, ask: Ask, step: Step) -> BoxFuture<'_, Result<(), StoreError>>;

    fn user(&self, user: UserId) -> BoxFuture<'_, Result<Option<Known>, StoreError>>;

    fn numbered(&self, number: i64) -> BoxFuture<'_, Result<Option<Known>, StoreError>>;

    /// Users in the order in which they came, after a number.
    fn page(&self, after: i64, limit: usize) -> BoxFuture<'_, Result<Vec<Known>, StoreError>>;

    /// Users in the order of their numbers, after a number.
    fn through(&self, through: Through, after: i64, limit: usize) -> BoxFuture<'_, Result<Vec<Known>, StoreError>>;

    /// Users in order of namespace and subject, after the given one: all of them, or those who have a grant of a target.
    fn keys(
        &self,
        of: Option<Target>,
        after: Option<UserId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<UserId>, StoreError>>;

    /// A page of the people whom a search finds, and how many those are.
    fn find(&self, search: Search) -> BoxFuture<'_, Result<Found, StoreError>>;

    /// How many users there are.
    fn count(&self) -> BoxFuture<'_, Result<u64, StoreError>>;

    /// What changes of the rules have left to do, the oldest first.
    fn work(&self) -> BoxFuture<'_, Result<Vec<(i64, Work)>, StoreError>>;

    /// Where what users are found by differs from their records. `repair` makes it the same.
    fn check(&self, repair: bool) -> BoxFuture<'_, Result<Vec<String>, StoreError>>;
}

/// The audit chain. Rows are written by [`Users::transact`] alone.
pub trait Journal: Send + Sync {
    /// Rows after a sequence number, oldest first.
    fn rows(&self, after: i64, limit: usize) -> BoxFuture<'_, Result<Vec<AuditRow>, StoreError>>;

    /// The row of one login, by its id in the log.
    fn of_login(&self, login: String) -> BoxFuture<'_, Result<Option<AuditRow>, StoreError>>;

    /// All rows about a user.
    fn about(&self, number: i64) -> BoxFuture<'_, Result<Vec<AuditRow>, StoreError>>;

    /// Sequence and seal of the newest row.
    fn head(&self) -> BoxFuture<'_, Result<Option<(i64, String)>, StoreError>>;

    /// The newest rows about a user, the newest first. A store that has no index for this looks at its newest rows alone.
    fn latest_about(&self, number: i64, limit: usize) -> BoxFuture<'_, Result<Vec<AuditRow>, StoreError>>;

    /// Walks the whole chain, up to its first fault. `walked` says how many rows that are so far.
    fn verify(&self, walked: Arc<AtomicU64>) -> BoxFuture<'_, Result<ChainReport, StoreError>>;

    /// Seals that an operator accepts the rows from before there was an audit key. Returns how many they are.
    fn accept_unkeyed(&self, by: String, now: Timestamp) -> BoxFuture<'_, Result<u64, StoreError>>;
}

/// Makes a secret; `None` if the operating system returned no random bytes.
pub type Make = fn() -> Option<Vec<u8>>;

/// 32 random bytes.
fn random_key() -> Option<Vec<u8>> {
    let mut key = vec![0; 32];
    aws_lc_rs::rand::fill(&mut key).ok().map(|()| key)
}

/// The error of a [`Make`] that returned nothing.
fn made(secret: Option<Vec<u8>>) -> Result<Vec<u8>, StoreError> {
    secret.ok_or_else(|| StoreError::Unavailable("the operating system returned no random bytes".into()))
}

/// What a store needs besides its users.
pub trait Upkeep: Send + Sync {
    /// A secret by its name: the one that is kept, else what `make` returns, which is kept from now on. Only a first start makes one:
    /// the first random bytes of a process cost 40 ms.
    fn secret(&self, name: &'static str, make: Make) -> BoxFuture<'_, Result<Vec<u8>, StoreError>>;

    /// Brings everything that was committed into one place, for copying files after the program has ended; what was erased is left
    /// nowhere.
    fn settle(&self) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Whether a login could be applied now.
    fn ready(&self) -> BoxFuture<'_, Result<(), StoreError>>;
}

/// What the program asks of a store, whichever that is.
#[derive(Clone)]
pub struct Store {
    pub(super) users: Arc<dyn Users>,
    journal: Arc<dyn Journal>,
    upkeep: Arc<dyn Upkeep>,
    sessions: Arc<dyn Sessions>,
    outbox: Arc<dyn Outbox>,
    console: Arc<dyn ConsoleSessions>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Store")
    }
}

impl Store {
    pub fn new<T: Users + Journal + Upkeep + Sessions + Outbox + ConsoleSessions + 'static>(kept: Arc<T>) -> Self {
        Self {
            users: Arc::<T>::clone(&kept),
            journal: Arc::<T>::clone(&kept),
            upkeep: Arc::<T>::clone(&kept),
            sessions: Arc::<T>::clone(&kept),
            outbox: Arc::<T>::clone(&kept),
            console: kept,
        }
    }

    /// Who is signed in to the console.
    pub fn console(&self) -> Arc<dyn ConsoleSessions> {
        Arc::clone(&self.console)
    }

    pub fn sessions(&self) -> Arc<dyn Sessions> {
        Arc::clone(&self.sessions)
    }

    pub fn outbox(&self) -> Arc<dyn Outbox> {
        Arc::clone(&self.outbox)
    }

    /// From now on changes are for these receivers. One that was not among those before hears of each user at their next login or
    /// change.
    ///
    /// # Errors
    /// When the store is not available.
    pub async fn follow(&self, listeners: &Listeners) -> Result<(), StoreError> {
        let mut round = Round::read(self.outbox.note(Round::NOTE.into()).await?.as_deref());
        if round.welcome(listeners) {
            self.outbox.set_note(Round::NOTE.into(), round.text()).await?;
        }
        self.outbox.follow(round.in_force());
        Ok(())
    }

    /// The same for those that are served: what a command changes is for them as well.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn follow_served(&self) -> Result<(), StoreError> {
        let round = Round::read(self.outbox.note(Round::NOTE.into()).await?.as_deref());
        self.outbox.follow(round.in_force());
        Ok(())
    }

    /// Runs a step in a transaction, and hands on what it told.
    pub(super) async fn decide<T: Send + 'static>(
        &self,
        ask: Ask,
        step: impl FnMut(&[Kept], &Facts) -> Result<(T, Save), Needs> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (told, step) = telling(step);
        self.users.transact(ask, step).await?;
        take(&told)
    }

    /// The same, and nothing is written.
    async fn foresee<T: Send + 'static>(
        &self,
        ask: Ask,
        mut step: impl FnMut(&[Kept], &Facts) -> Result<T, Needs> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (told, step) = telling(move |kept, facts| Ok((step(kept, facts)?, Save::default())));
        self.users.preview(ask, step).await?;
        take(&told)
    }

    // ------------------------------------------------------------------------------------------------ audit and upkeep

    /// # Errors
    /// When the store cannot be read; so below.
    pub async fn audit(&self, after: i64, limit: usize) -> Result<Vec<AuditRow>, StoreError> {
        self.journal.rows(after, limit).await
    }

    pub async fn audit_of(&self, login: String) -> Result<Option<AuditRow>, StoreError> {
        self.journal.of_login(login).await
    }

    /// The newest rows about a user, the newest first, as far back as is looked without searching all of the audit.
    pub async fn audit_about(&self, number: i64, limit: usize) -> Result<Vec<AuditRow>, StoreError> {
        self.journal.latest_about(number, limit).await
    }

    pub async fn audit_head(&self) -> Result<Option<(i64, String)>, StoreError> {
        self.journal.head().await
    }

    pub async fn verify_audit(&self) -> Result<ChainReport, StoreError> {
        self.verify_audit_watched(Arc::default()).await
    }

    /// The same; `walked` says how many rows were looked at so far.
    pub async fn verify_audit_watched(&self, walked: Arc<AtomicU64>) -> Result<ChainReport, StoreError> {
        self.journal.verify(walked).await
    }

    pub async fn accept_unkeyed(&self, by: String, now: Timestamp) -> Result<u64, StoreError> {
        self.journal.accept_unkeyed(by, now).await
    }

    /// The keys that seal cookies: one of 32 bytes, made at first use and kept, so that a restart does not break logins under way.
    pub async fn cookie_keys(&self) -> Result<Vec<u8>, StoreError> {
        self.upkeep.secret("cookie_keys", random_key).await
    }

    /// The key that signs assertions: the one that is kept, else what `make` returns, which is kept from now on.
    pub async fn assertion_key(&self, make: Make) -> Result<Vec<u8>, StoreError> {
        self.upkeep.secret("assertion_key", make).await
    }

    /// What signs messages to a receiver: one for each, of a key that is made at first use and kept.
    pub async fn webhook_secret(&self, receiver: &str) -> Result<Secret, StoreError> {
        let key = Secret::new(self.upkeep.secret("webhook_key", random_key).await?);
        let key = hmac::Key::new(hmac::HMAC_SHA256, key.expose());
        Ok(Secret::new(hmac::sign(&key, receiver.as_bytes()).as_ref().to_vec()))
    }

    /// After the store was restored from a backup: refuses tokens that were issued before now, ends sessions and access tokens, and
    /// lets the audit go on, wherever the database is now. `by` names who says so.
    pub async fn restored(&self, by: String, now: Timestamp) -> Result<(), StoreError> {
        let ask = Ask { now: Some(now), ..Ask::default() };
        self.decide(ask, move |_, _| Ok(((), decision::restored(&by, now)))).await
    }

    /// Writes a row of the audit that is about no user.
    pub async fn note(&self, event: &'static str, detail: serde_json::Value, now: Timestamp) -> Result<(), StoreError> {
        let ask = Ask { now: Some(now), ..Ask::default() };
        self.decide(ask, move |_, _| Ok(((), decision::noted(event, &detail)))).await
    }

    pub async fn settle(&self) -> Result<(), StoreError> {
        self.upkeep.settle().await
    }

    pub async fn ready(&self) -> Result<(), StoreError> {
        self.upkeep.ready().await
    }

    /// Where what users are found by differs from their records. `repair` makes it the same.
    pub async fn check(&self, repair: bool) -> Result<Vec<String>, StoreError> {
        self.users.check(repair).await
    }
}

type Told<T> = Arc<Mutex<Option<T>>>;

fn telling<T: Send + 'static>(
    mut step: impl FnMut(&[Kept], &Facts) -> Result<(T, Save), Needs> + Send + 'static,
) -> (Told<T>, Step) {
    let told = Told::default();
    let tells = Arc::clone(&told);
    let step = move |kept: &[Kept], facts: &Facts| {
        let (value, save) = step(kept, facts)?;
        *tells.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
        Ok(save)
    };
    (told, Box::new(step))
}

fn take<T>(told: &Told<T>) -> Result<T, StoreError> {
    let value = told.lock().unwrap_or_else(PoisonError::into_inner).take();
    value.ok_or_else(|| StoreError::Unavailable("the step was not asked".into()))
}

/// The one user whom a step is about.
fn only(kept: &[Kept]) -> Result<&Kept, Needs> {
    kept.first().ok_or_else(|| Needs::Undone("no user was asked for".into()))
}

impl From<Needs> for StoreError {
    fn from(needs: Needs) -> Self {
        match needs {
            Needs::Braked(excesses) => Self::Braked(excesses),
            other => Self::Invalid(other.to_string()),
        }
    }
}
