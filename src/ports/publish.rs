//! What receivers get about users, and how.
//!
//! A [`Receiver`] gets what a user holds now, with what it was sent before. It says whether it has taken that, which is then
//! kept as what it knows.

pub mod followers;
pub mod health;
pub mod receivers;
pub mod scim;
pub mod webhook;

use std::collections::BTreeSet;
use std::time::Duration;

use http::{Request, Response, StatusCode};
use serde::{Deserialize, Serialize};

use super::BoxFuture;
use super::http::{FetchError, HttpClient};
use super::outbox::Due;
use super::outbox::events::WaitingEvent;
use super::store::{RoleThroughGroups, StoreError, UserView};
use crate::config::Filter;
use crate::pipeline::ids::{ProviderName, Timestamp};

/// The cause of deliveries that an operator has asked for, to tell everything again.
pub const RESYNC: &str = "resync";

/// What a receiver knows of a user.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Told {
    pub namespace: String,
    pub subject: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub enabled: bool,
    pub groups: BTreeSet<String>,
    pub roles: BTreeSet<String>,
    /// Those of the groups in which the user was there before we said so: they are not ours to take away.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub foreign: BTreeSet<String>,
    /// Those of the groups of which nothing was sent yet, where that is known.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub unsent: BTreeSet<String>,
    /// By this version the user did not exist there, and was not to be created: they hold nothing there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub absent: Option<i64>,
    /// How far a delivery has come that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
}

/// How far a delivery of one version has come: the next try of that version goes on there.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Progress {
    pub version: i64,
    /// Groups that were found with the user in them.
    pub done: BTreeSet<String>,
    /// Those of them in which the user was there before we said so.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub foreign: BTreeSet<String>,
}

impl Told {
    /// What a user holds, as far as a receiver gets it. A user who is disabled holds nothing.
    pub fn of(view: &UserView, name: Option<String>, filter: &Filter) -> Self {
        let all = |names: &[String], takes: &dyn Fn(&str) -> bool| -> BTreeSet<String> {
            let held = names.iter().filter(|name| view.enabled && takes(name));
            held.cloned().collect()
        };
        let group = |name: &str| filter.groups.as_ref().is_none_or(|only| only.iter().any(|it| it.as_str() == name));
        let role = |name: &str| filter.roles.as_ref().is_none_or(|only| only.iter().any(|it| it.as_str() == name));
        Self {
            namespace: view.namespace.clone(),
            subject: view.subject.clone(),
            email: view.email.clone(),
            name,
            enabled: view.enabled,
            groups: all(&view.groups, &group),
            roles: all(&view.roles, &role),
            foreign: BTreeSet::new(),
            unsent: BTreeSet::new(),
            absent: None,
            progress: None,
        }
    }

    /// The same with all that another holds; enabled where both are.
    pub fn with(mut self, other: &Self) -> Self {
        self.enabled &= other.enabled;
        self.unsent = self.groups.difference(&other.groups).chain(&other.unsent).cloned().collect();
        self.groups.extend(other.groups.iter().cloned());
        self.roles.extend(other.roles.iter().cloned());
        self.foreign.extend(other.foreign.iter().cloned());
        self
    }

    /// The stored JSON; `None` if nothing was delivered yet.
    pub fn read(kept: Option<&str>) -> Option<Self> {
        serde_json::from_str(kept?).ok()
    }

    pub fn text(&self) -> String {
        // Names and flags always have a JSON text.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// One delivery.
#[derive(Debug, Clone)]
pub struct Notice {
    /// By which the APIs name the user.
    pub number: i64,
    pub version: i64,
    pub before: Option<Told>,
    /// What the receiver may know: of `before`, and of what was sent since and not confirmed.
    pub known: Option<Told>,
    /// Something was sent since `before` was confirmed, and it is not known what became of it.
    pub is_uncertain: bool,
    /// `None`: the user was erased, or became one with another.
    pub after: Option<Told>,
    /// Whether the receiver gets this user.
    pub is_for_receiver: bool,
    /// Why each membership is held, in words.
    pub reasons: Vec<(&'static str, String, Vec<String>)>,
    /// The row of the audit, and the login, that raised the version.
    pub cause: String,
    pub login: Option<String>,
    pub now: Timestamp,
}

impl Notice {
    pub fn new(due: &Due, view: Option<&UserView>, filter: &Filter, now: Timestamp) -> Self {
        let name = due.known.as_ref().and_then(|known| known.record.display_name.clone());
        let memberships = view.map(|view| view.memberships.as_slice()).unwrap_or_default();
        let held = memberships.iter().filter(|membership| membership.effective);
        let mut reasons: Vec<_> = held.map(|it| (it.kind, it.name.clone(), it.reasons.clone())).collect();
        for RoleThroughGroups { role, groups } in
            view.map(|view| view.roles_through_groups.as_slice()).unwrap_or_default()
        {
            reasons.push((
                "role",
                role.clone(),
                groups.iter().map(|group| format!("carried by group `{group}`")).collect(),
            ));
        }
        let logins = due.known.as_ref().map(|known| &known.record.logins);
        let came = |provider: &ProviderName| logins.is_some_and(|logins| logins.contains_key(provider));
        let is_meant = filter.providers.is_empty() || filter.providers.iter().any(came);
        Self {
            number: due.number,
            version: due.wanted,
            before: Told::read(due.state.as_deref()),
            known: Told::read(due.tried.as_deref().or(due.state.as_deref())),
            is_uncertain: due.tried.is_some(),
            after: view.map(|view| Told::of(view, name, filter)),
            // A receiver that knows of a user, or may, continues to get them.
            is_for_receiver: due.state.is_some() || due.tried.is_some() || (due.known.is_some() && is_meant),
            reasons,
            cause: due.cause.clone(),
            login: due.login.clone(),
            now,
        }
    }
}

impl Notice {
    /// What the receiver may know once this is sent, which is noted before: an answer that is lost leaves open what it has taken.
    /// `None` where that is noted already, or nothing changes.
    pub fn spreads(&self) -> Option<Told> {
        if !self.is_for_receiver {
            return None;
        }
        let Some(after) = &self.after else {
            return self.known.clone().filter(|_| !self.is_uncertain);
        };
        let Some(known) = &self.known else {
            return Some(Told { unsent: after.groups.clone(), ..after.clone() });
        };
        let says = |told: &Told| Told {
            foreign: BTreeSet::new(),
            unsent: BTreeSet::new(),
            absent: None,
            progress: None,
            ..told.clone()
        };
        let all = Told { absent: None, ..after.clone().with(known) };
        let is_noted = self.is_uncertain && says(known) == says(&all);
        let is_same = !self.is_uncertain && says(known) == says(after);
        (!is_noted && !is_same).then_some(all)
    }
}

impl Notice {
    /// What is noted by now: what the receiver may know.
    pub fn noted(&self) -> Told {
        self.spreads().or_else(|| self.known.clone()).unwrap_or_default()
    }
}

/// One event that is not state.
#[derive(Debug, Clone)]
pub struct Report {
    pub event: WaitingEvent,
    /// Namespace and subject of the user whom it is about. `None`: it is about none, or they were erased since.
    pub user: Option<(String, String)>,
    pub now: Timestamp,
}

/// Why a receiver did not take a delivery.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Fault {
    pub why: String,
    pub kind: FaultKind,
}

/// What a fault means for what comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// The receiver is away or overloaded; any other delivery would fail as well. With how long it asks to be left alone.
    Away(Option<Duration>),
    /// It does not know us any more, and takes nothing until that is mended.
    Barred,
    /// It refuses this delivery, and may take others.
    Refused,
    /// It is no longer there, and says so.
    Gone,
}

impl From<FetchError> for Fault {
    fn from(error: FetchError) -> Self {
        Self::new(FaultKind::Away(None), error.to_string())
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::new(FaultKind::Away(None), error.to_string())
    }
}

impl Fault {
    pub fn new(kind: FaultKind, why: impl Into<String>) -> Self {
        Self { why: why.into(), kind }
    }
}

/// The longest that a receiver may ask to be left alone.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// What a status means, unless it says that all is well.
fn judge(status: StatusCode, retry_after: Option<&str>) -> Result<(), FaultKind> {
    if status.is_success() {
        return Ok(());
    }
    // RFC 9110 section 10.2.3, in seconds; a date reads as no word at all.
    let asked = retry_after.and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
    Err(match status.as_u16() {
        410 => FaultKind::Gone,
        429 | 502..=504 => FaultKind::Away(asked.map(|asked| asked.min(LONGEST_PAUSE))),
        400 | 409 | 413 | 415 | 422 => FaultKind::Refused,
        _ => FaultKind::Away(None),
    })
}

/// One exchange, and its answer within `timeout`.
async fn exchange(
    client: &HttpClient,
    request: Request<Vec<u8>>,
    limit: usize,
    timeout: Duration,
) -> Result<Response<Vec<u8>>, FetchError> {
    let late = || FetchError::Transport(format!("no answer within {} ms", timeout.as_millis()));
    tokio::time::timeout(timeout, client.exchange(request, limit)).await.unwrap_or_else(|_| Err(late()))
}

/// What an answer asks us to wait, as it was written.
fn retry_after(answer: &Response<Vec<u8>>) -> Option<&str> {
    answer.headers().get(http::header::RETRY_AFTER).and_then(|value| value.to_str().ok())
}

/// A receiver of deliveries.
pub trait Receiver: Send + Sync {
    fn name(&self) -> &str;

    fn filter(&self) -> &Filter;

    /// Tells what a user holds now. What needs no telling is taken at once.
    fn tell<'a>(&'a self, notice: &'a Notice) -> BoxFuture<'a, Result<Sent, Fault>>;

    /// Whether it receives events, in addition to what users hold.
    fn listens(&self) -> bool {
        false
    }

    /// Tells of an event. What it does not listen to is taken at once.
    fn report<'a>(&'a self, _report: &'a Report) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// One whose own list of members can be compared with what users hold.
    fn as_scim(&self) -> Option<&scim::ScimReceiver> {
        None
    }

    /// Tells of no user, and finds out whether telling would work, and how. Returns what was found, in words.
    fn test(&self, now: Timestamp) -> BoxFuture<'_, Result<Vec<Finding>, Fault>>;
}

/// What a test has found: what was looked at, and how it is.
pub type Finding = (&'static str, String);

/// What became of a notice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sent {
    /// It was sent and taken. With the groups in which the user was there before we said so.
    Taken { foreign: BTreeSet<String> },
    /// It contained nothing for the receiver.
    Nothing,
    /// The user does not exist there, and is not to be created: they hold nothing there.
    Absent,
}

impl Sent {
    /// It was sent and taken.
    pub fn taken() -> Self {
        Self::Taken { foreign: BTreeSet::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_says_what_comes_next() {
        let kind = |status: u16, after: Option<&str>| judge(StatusCode::from_u16(status).unwrap(), after);
        assert_eq!(kind(204, None), Ok(()));
        assert_eq!(kind(302, None), Err(FaultKind::Away(None)));
        assert_eq!(kind(410, None), Err(FaultKind::Gone));
        assert_eq!(kind(422, None), Err(FaultKind::Refused));
        assert_eq!(kind(429, Some("7")), Err(FaultKind::Away(Some(Duration::from_secs(7)))));
        assert_eq!(kind(503, Some("999999")), Err(FaultKind::Away(Some(LONGEST_PAUSE))));
        assert_eq!(kind(503, Some("Wed, 21 Oct 2015 07:28:00 GMT")), Err(FaultKind::Away(None)));
        assert_eq!(kind(401, Some("7")), Err(FaultKind::Away(None)));
    }
}
