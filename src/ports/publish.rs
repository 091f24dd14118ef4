//! What receivers are told of users, and how.
//!
//! A [`Receiver`] is told what a user holds now, beside what it was told before. It says whether it has taken that; what it was
//! told is then kept as what it knows.

pub mod followers;
pub mod health;
pub mod webhook;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::BoxFuture;
use super::outbox::Due;
use super::store::{RoleThroughGroups, UserView};
use crate::config::Filter;
use crate::pipeline::ids::{ProviderName, Timestamp};

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
}

impl Told {
    /// What a user holds, as far as a receiver hears of it. A user who is disabled holds nothing.
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
        }
    }

    /// The same with all that another holds.
    pub fn with(mut self, other: &Self) -> Self {
        self.groups.extend(other.groups.iter().cloned());
        self.roles.extend(other.roles.iter().cloned());
        self
    }

    /// What was kept as JSON; `None` where a receiver was told nothing yet.
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
    /// `None`: the user was erased, or became one with another.
    pub after: Option<Told>,
    /// Whether the receiver is to hear of this user.
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
            after: view.map(|view| Told::of(view, name, filter)),
            // Who was told of a user hears how it goes on.
            is_for_receiver: due.state.is_some() || (due.known.is_some() && is_meant),
            reasons,
            cause: due.cause.clone(),
            login: due.login.clone(),
            now,
        }
    }
}

impl Notice {
    /// What the receiver may know once this is sent; `None` where it may know all of that before.
    pub fn spreads(&self) -> Option<Told> {
        let after = self.after.as_ref().filter(|_| self.is_for_receiver)?;
        let all = self.known.as_ref().map_or_else(|| after.clone(), |known| after.clone().with(known));
        let knew = |known: &Told| known.groups == all.groups && known.roles == all.roles;
        (!self.known.as_ref().is_some_and(knew)).then_some(all)
    }
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
    Away(Option<std::time::Duration>),
    /// It refuses this delivery, and may take others.
    Refused,
    /// It is no longer there, and says so.
    Gone,
}

/// Who is told.
pub trait Receiver: Send + Sync {
    fn name(&self) -> &str;

    fn filter(&self) -> &Filter;

    /// Tells what a user holds now. What needs no telling is taken at once.
    fn tell<'a>(&'a self, notice: &'a Notice) -> BoxFuture<'a, Result<Sent, Fault>>;

    /// Tells nothing, and asks whether telling would work.
    fn ping(&self, now: Timestamp) -> BoxFuture<'_, Result<(), Fault>>;
}

/// What became of a notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// It was sent and taken.
    Taken,
    /// There was nothing in it that the receiver is to hear.
    Nothing,
}
