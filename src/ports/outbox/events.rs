//! What has happened and is not state: a bounded queue for each receiver that listens.
//!
//! An event is noted in the transaction that makes it, with the numbers and names of what it is about and nothing personal: who a user
//! is, is looked up when it is sent. Where too many wait, the oldest are dropped and counted; state never is.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::config::{Event, ReceiverKind, ReceiverSettings};
use crate::pipeline::ids::{Target, Timestamp};

/// Events of one receiver that wait.
pub const MOST_EVENTS: usize = 1000;

/// Which events receivers get in addition to what users hold, by their names. Receivers without events are here too.
pub type Listeners = BTreeMap<String, Listening>;

/// The receivers of changes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Following {
    /// 0: there is no receiver.
    pub round: i64,
    pub listeners: Listeners,
}

/// Which events one receiver gets in addition to what users hold.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Listening {
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub events: BTreeSet<String>,
    /// None: those of all providers.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub providers: BTreeSet<String>,
    /// `None`: about every group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<BTreeSet<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roles: Option<BTreeSet<String>>,
}

impl From<&ReceiverSettings> for Listening {
    fn from(settings: &ReceiverSettings) -> Self {
        let ReceiverKind::Webhook(webhook) = &settings.kind else { return Self::default() };
        let filter = &settings.filter;
        let events = webhook.events.iter().filter(|event| event.is_no_state());
        Self {
            events: events.map(|event| event.word().to_owned()).collect(),
            providers: filter.providers.iter().map(ToString::to_string).collect(),
            groups: filter.groups.as_ref().map(|groups| groups.iter().map(ToString::to_string).collect()),
            roles: filter.roles.as_ref().map(|roles| roles.iter().map(ToString::to_string).collect()),
        }
    }
}

/// What the receivers of a configuration listen to.
pub fn listening(receivers: &[ReceiverSettings]) -> Listeners {
    receivers.iter().map(|settings| (settings.name.clone(), Listening::from(settings))).collect()
}

impl Listening {
    pub fn hears(&self, event: Event) -> bool {
        self.events.contains(event.word())
    }

    /// `None`: of every provider.
    pub fn takes_provider(&self, provider: Option<&str>) -> bool {
        self.providers.is_empty() || provider.is_none_or(|provider| self.providers.contains(provider))
    }

    pub fn takes(&self, target: &Target) -> bool {
        let only = match target {
            Target::Group(_) => &self.groups,
            Target::Role(_) => &self.roles,
        };
        only.as_ref().is_none_or(|only| only.contains(target.name()))
    }
}

/// An event to be noted for one receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    pub receiver: String,
    pub event: Event,
    /// The number of the user whom it is about.
    pub user: Option<i64>,
    /// JSON.
    pub data: String,
}

/// A pending event of a receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingEvent {
    /// No other event has it, at any receiver.
    pub id: String,
    pub at: Timestamp,
    /// As [`Event::word`] says it.
    pub event: String,
    pub user: Option<i64>,
    /// JSON.
    pub data: String,
    /// How often in a row this was tried in vain.
    pub failures: u32,
}

/// What became of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventSettled {
    /// The receiver has taken it, or does not listen to it any more.
    Taken,
    Failed {
        fault: String,
        due: Timestamp,
    },
    /// It is given up, and counted.
    Dropped,
}

/// Where it is kept how many events of a receiver were dropped.
pub fn dropped_note(receiver: &str) -> String {
    format!("dropped:{receiver}")
}

/// Reads that.
pub fn dropped(kept: Option<&[u8]>) -> u64 {
    kept.and_then(|kept| std::str::from_utf8(kept).ok()).and_then(|text| text.parse().ok()).unwrap_or_default()
}
