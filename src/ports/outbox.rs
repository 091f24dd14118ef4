//! The outbox: pending deliveries of users to receivers.
//!
//! It holds no messages. A user whose memberships change gets a higher version, in the transaction that changes them; of each
//! receiver the store keeps which version it has confirmed, and the state of that version. What is delivered is what the user holds
//! when it is delivered, so that many changes become one delivery, a repeat does no harm, and a crash loses nothing.
//!
//! ```text
//! raise     a user's version rises, where a decision is saved
//! spread    of raised users each receiver gets a row
//! due       rows that are not confirmed, and not put off
//! settle    a row is confirmed, or put off with its fault
//! ```
//!
//! What is not state, such as a refused login, waits in a bounded queue of its own ([`events`]).

pub mod events;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use self::events::{EventSettled, Following, Listeners, WaitingEvent};
use super::BoxFuture;
use super::kept::{Known, StoreError};
use crate::pipeline::ids::{Target, Timestamp, UserId};

/// A delivery that is put off until the user changes again, or an operator asks for it.
pub const STUCK: Timestamp = Timestamp(i64::MAX);

/// The pending delivery of one user to one receiver.
#[derive(Debug, Clone)]
pub struct Due {
    pub number: i64,
    /// The version that it should confirm.
    pub wanted: i64,
    /// The version that it has confirmed; 0 for none.
    pub confirmed: i64,
    /// The state of that version.
    pub state: Option<String>,
    /// What it may know in addition: what was sent since and not confirmed.
    pub tried: Option<String>,
    /// How often in a row this was tried in vain.
    pub failures: u32,
    /// Not before this moment.
    pub due: Timestamp,
    pub fault: Option<String>,
    /// When the user's version rose last, by which row of the audit, and by which login.
    pub raised_at: Timestamp,
    pub cause: String,
    pub login: Option<String>,
    /// `None`: the user was erased, or became one with another.
    pub known: Option<Known>,
}

/// What became of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    /// The receiver has confirmed a version with this state; `None`: nothing was sent, since the receiver does not get the user.
    Confirmed { version: i64, state: Option<String> },
    /// It has confirmed that the user is gone: nothing is kept of them, nor under which id it knew them.
    Gone,
    /// It did not confirm.
    Failed { fault: String, due: Timestamp },
}

/// Whose versions rise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whom {
    Everyone,
    User(UserId),
    /// Who has a grant of a target.
    Holders(Target),
}

/// What receivers have confirmed of one user.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Standing {
    /// The user's version; 0 where none was raised.
    pub version: i64,
    pub receivers: Vec<Confirmed>,
}

/// What one receiver has confirmed of one user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confirmed {
    pub receiver: String,
    pub version: i64,
    /// The state of that version.
    pub state: Option<String>,
    /// What it may know in addition.
    pub tried: Option<String>,
}

/// What was delivered to a receiver about one user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToldRow {
    pub number: i64,
    /// With the version that it has confirmed.
    pub state: Option<String>,
    /// What it may know since.
    pub tried: Option<String>,
}

/// What a receiver knows under an id of its own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Local {
    /// A user, by number.
    User(i64),
    /// A group, by name.
    Group(String),
}

impl Local {
    /// How it is written down: 0 for users, 1 for groups; and which.
    pub fn key(&self) -> (i64, String) {
        match self {
            Self::User(number) => (0, number.to_string()),
            Self::Group(name) => (1, name.clone()),
        }
    }

    pub fn read(kind: i64, name: &str) -> Option<Self> {
        match kind {
            0 => name.parse().ok().map(Self::User),
            1 => Some(Self::Group(name.to_owned())),
            _ => None,
        }
    }
}

/// How far a receiver is behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Deliveries that are not confirmed.
    pub pending: u64,
    /// Those of them that are put off for good.
    pub stuck: u64,
    /// When the user of the oldest of them has changed.
    pub oldest: Option<Timestamp>,
    /// Events that wait.
    pub events: u64,
    /// Events that were dropped, ever.
    pub dropped: u64,
}

/// Which receivers there are, and how often some came.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Round {
    pub number: i64,
    receivers: BTreeSet<String>,
    /// Which events each of them receives, in addition to what users hold.
    #[serde(default)]
    listeners: Listeners,
}

impl Round {
    /// Where it is kept.
    pub const NOTE: &'static str = "round";

    /// What was kept; what cannot be read counts as nothing, so that every receiver is a new one.
    pub fn read(kept: Option<&[u8]>) -> Self {
        kept.and_then(|kept| serde_json::from_slice(kept).ok()).unwrap_or_default()
    }

    pub fn text(&self) -> Vec<u8> {
        // A number and names always have a JSON text.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Takes over which receivers there are. Returns whether that changes anything. One that comes back is a new one: it has not
    /// heard of what happened meanwhile.
    pub fn welcome(&mut self, listeners: &Listeners) -> bool {
        let receivers: BTreeSet<String> = listeners.keys().cloned().collect();
        if self.receivers == receivers && self.listeners == *listeners {
            return false;
        }
        if !receivers.is_subset(&self.receivers) {
            self.number += 1;
        }
        self.receivers = receivers;
        self.listeners.clone_from(listeners);
        true
    }

    /// Its number, where there are receivers, and else 0; and what these listen to.
    pub fn in_force(self) -> Following {
        let round = if self.receivers.is_empty() { 0 } else { self.number };
        Following { round, listeners: self.listeners }
    }
}

/// The outbox of a store. The suite of the stores runs on every implementation.
pub trait Outbox: Send + Sync {
    /// Has versions raised from now on: by which round of receivers; 0: not at all, since there are none. In another round each
    /// user's next login is for the receivers that came with it. Events are noted for those who listen.
    fn follow(&self, following: Following);

    /// Raises versions. Returns how many.
    fn raise(&self, whom: Whom, cause: &'static str, now: Timestamp) -> BoxFuture<'_, Result<u64, StoreError>>;

    /// Gives each of these receivers a row for the users who were raised since. Returns how many users those were.
    fn spread(&self, receivers: Vec<String>, now: Timestamp, limit: usize) -> BoxFuture<'_, Result<u64, StoreError>>;

    /// The pending deliveries of a receiver at a moment, the oldest first.
    fn due(&self, receiver: String, now: Timestamp, limit: usize) -> BoxFuture<'_, Result<Vec<Due>, StoreError>>;

    /// Notes what a receiver may know once a delivery is sent, whatever becomes of it.
    fn attempt(&self, receiver: String, number: i64, tried: String) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Notes what became of a delivery.
    fn settle(&self, receiver: String, number: i64, settled: Settled) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Lets what was put off be due now: of one user, or what waits for its time of all, and events.
    fn hurry(&self, receiver: String, number: Option<i64>, now: Timestamp) -> BoxFuture<'_, Result<u64, StoreError>>;

    /// Resets what was delivered to a receiver, about one user or all.
    fn forget(&self, receiver: String, number: Option<i64>) -> BoxFuture<'_, Result<(), StoreError>>;

    /// The pending events of a receiver at a moment, the oldest first.
    fn events(
        &self,
        receiver: String,
        now: Timestamp,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<WaitingEvent>, StoreError>>;

    /// Notes what became of an event.
    fn settle_event(
        &self,
        receiver: String,
        id: String,
        settled: EventSettled,
    ) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Drops the oldest events of each of these receivers until so many are left, and all of other receivers. Returns how many it
    /// dropped of each of these.
    fn trim_events(&self, receivers: Vec<String>, most: usize)
    -> BoxFuture<'_, Result<Vec<(String, u64)>, StoreError>>;

    /// How one user stands.
    fn standing(&self, user: UserId) -> BoxFuture<'_, Result<Standing, StoreError>>;

    /// How far a receiver is behind.
    fn tally(&self, receiver: String) -> BoxFuture<'_, Result<Tally, StoreError>>;

    /// What was delivered to a receiver about each user.
    fn told(&self, receiver: String) -> BoxFuture<'_, Result<Vec<ToldRow>, StoreError>>;

    /// Under which id a receiver knows something.
    fn remote(&self, receiver: String, local: Local) -> BoxFuture<'_, Result<Option<String>, StoreError>>;

    /// All of them.
    fn remotes(&self, receiver: String) -> BoxFuture<'_, Result<Vec<(Local, String)>, StoreError>>;

    /// Notes an id, or that there is none. Returns whether that was done: what has one id at a receiver is one here. `takes`: it is
    /// taken from what had it before, which is known to be something else now.
    fn set_remote(
        &self,
        receiver: String,
        local: Local,
        remote: Option<String>,
        takes: bool,
    ) -> BoxFuture<'_, Result<bool, StoreError>>;

    /// What is kept about delivery under a name, such as how a receiver is doing.
    fn note(&self, name: String) -> BoxFuture<'_, Result<Option<Vec<u8>>, StoreError>>;

    fn set_note(&self, name: String, value: Vec<u8>) -> BoxFuture<'_, Result<(), StoreError>>;
}
