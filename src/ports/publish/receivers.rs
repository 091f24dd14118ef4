//! How receivers are doing, and what operators do about them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use crate::config::Filter;
use crate::pipeline::decision::{Entry, Save, Shared};
use crate::pipeline::ids::{Timestamp, UserId};
use crate::pipeline::mapping::RuleSet;
use crate::ports::outbox::{Due, STUCK, ToldRow, Whom};
use crate::ports::publish::health::{Control, Health};
use crate::ports::publish::scim::Ours;
use crate::ports::publish::{RESYNC, Receiver, Told};
use crate::ports::store::{Ask, Store, StoreError, view};

/// Users that are read in one go.
const PAGE: usize = 1000;

/// How a receiver is doing.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ReceiverView {
    pub name: String,
    /// `delivers`, `fails`, `disabled` or `paused`.
    pub state: &'static str,
    /// Users whose newest state it has not confirmed.
    pub pending: u64,
    /// Pending deliveries that are not retried automatically.
    pub stuck: u64,
    /// When the user of the longest pending delivery has changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest: Option<String>,
    /// Events that wait: holds, changed mappings, refused logins.
    pub events_waiting: u64,
    /// Events that were dropped, since too many waited or the receiver refused them, ever.
    pub events_dropped: u64,
    /// Failures since the last delivery that was taken.
    pub failures: u32,
    /// The last failure since then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub taken_at: Option<String>,
    /// Who paused it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused_by: Option<String>,
}

/// A delivery that is not confirmed.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct PendingView {
    /// The user's number.
    pub user: i64,
    /// `None`: they were erased.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    pub version: i64,
    pub confirmed: i64,
    pub changed_at: String,
    pub cause: String,
    pub failures: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// Absent: not before the user changes, or an operator asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// The outcome of a test of a receiver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Tested {
    pub at: String,
    pub by: String,
    pub works: bool,
    /// What was looked at, and how it is.
    pub findings: Vec<TestFinding>,
    /// Why it does not work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TestFinding {
    pub what: String,
    pub how: String,
}

impl Tested {
    fn note_of(receiver: &str) -> String {
        format!("tested:{receiver}")
    }
}

impl From<Due> for PendingView {
    fn from(due: Due) -> Self {
        let user = due.known.map(|known| known.user);
        Self {
            user: due.number,
            namespace: user.as_ref().map(|user| user.namespace.to_string()),
            subject: user.as_ref().map(|user| user.subject.to_string()),
            version: due.wanted,
            confirmed: due.confirmed,
            changed_at: due.raised_at.to_string(),
            cause: due.cause,
            failures: due.failures,
            fault: due.fault,
            next: (due.due != STUCK).then(|| due.due.to_string()),
        }
    }
}

impl Store {
    /// How a receiver is doing.
    ///
    /// # Errors
    /// When the store cannot be read; so below.
    pub async fn receiver(&self, name: &str) -> Result<ReceiverView, StoreError> {
        let tally = self.outbox().tally(name.to_owned()).await?;
        let mut health = Health::read(self.outbox().note(Health::note_of(name)).await?.as_deref());
        let control = Control::read(self.outbox().note(Control::note_of(name)).await?.as_deref());
        // The worker learns of it in a moment.
        health.hear(&control);
        let state = match (control.paused, health.disabled_at.is_some(), health.is_failing()) {
            (true, ..) => "paused",
            (_, true, _) => "disabled",
            (_, _, true) => "fails",
            _ => "delivers",
        };
        Ok(ReceiverView {
            name: name.to_owned(),
            state,
            pending: tally.pending,
            stuck: tally.stuck,
            oldest: tally.oldest.map(|at| at.to_string()),
            events_waiting: tally.events,
            events_dropped: tally.dropped,
            failures: health.failures,
            fault: health.fault,
            taken_at: health.taken_at.map(|at| Timestamp(at).to_string()),
            paused_by: control.paused.then_some(control.by),
        })
    }

    /// The pending deliveries of a receiver, the oldest first.
    pub async fn pending(&self, name: &str, limit: usize) -> Result<Vec<PendingView>, StoreError> {
        let due = self.outbox().due(name.to_owned(), STUCK, limit).await?;
        Ok(due.into_iter().map(PendingView::from).collect())
    }

    /// Tests a receiver, of no user, and keeps what came of it.
    pub async fn test_receiver(&self, receiver: &dyn Receiver, by: &str, now: Timestamp) -> Result<Tested, StoreError> {
        let (findings, fault) = match receiver.test(now).await {
            Ok(findings) => (findings, None),
            Err(fault) => (Vec::new(), Some(fault.why)),
        };
        let finding = |(what, how): (&str, String)| TestFinding { what: what.to_owned(), how };
        let findings = findings.into_iter().map(finding).collect();
        let tested = Tested { at: now.to_string(), by: by.to_owned(), works: fault.is_none(), findings, fault };
        // Texts always have a JSON text.
        let kept = serde_json::to_vec(&tested).unwrap_or_default();
        self.outbox().set_note(Tested::note_of(receiver.name()), kept).await?;
        self.note_act("delivery_tested", receiver.name(), None, by, now).await?;
        Ok(tested)
    }

    /// The outcome of the last test of a receiver.
    pub async fn last_test(&self, name: &str) -> Result<Option<Tested>, StoreError> {
        let kept = self.outbox().note(Tested::note_of(name)).await?;
        Ok(kept.as_deref().and_then(|kept| serde_json::from_slice(kept).ok()))
    }

    /// Lets nothing be delivered to a receiver, or lets it go on, also where it was disabled.
    pub async fn pause(&self, name: &str, paused: bool, by: &str, now: Timestamp) -> Result<(), StoreError> {
        let control = Control { paused, at: now.0, by: by.to_owned() };
        self.outbox().set_note(Control::note_of(name), control.text()).await?;
        self.note_act(if paused { "delivery_paused" } else { "delivery_resumed" }, name, None, by, now).await
    }

    /// Lets deliveries be tried now: of one user, also where it is stuck, or all that wait. Returns how many.
    ///
    /// # Errors
    /// When there is no such user, and as above.
    pub async fn retry(&self, name: &str, user: Option<UserId>, by: &str, now: Timestamp) -> Result<u64, StoreError> {
        let number = self.number_of(user.as_ref()).await?;
        let mut hurried = self.outbox().hurry(name.to_owned(), number, now).await?;
        if number.is_none() {
            for due in self.outbox().due(name.to_owned(), STUCK, usize::MAX).await? {
                if due.due == STUCK {
                    hurried += self.outbox().hurry(name.to_owned(), Some(due.number), now).await?;
                }
            }
        }
        self.note_act("delivery_retried", name, user, by, now).await?;
        Ok(hurried)
    }

    /// Sends a receiver everything again, for one user or all, as if nothing had been delivered. Returns the number of users.
    ///
    /// # Errors
    /// When there is no such user, and as above.
    pub async fn resync(&self, name: &str, user: Option<UserId>, by: &str, now: Timestamp) -> Result<u64, StoreError> {
        let number = self.number_of(user.as_ref()).await?;
        self.outbox().forget(name.to_owned(), number).await?;
        let raised = self.outbox().raise(user.clone().map_or(Whom::Everyone, Whom::User), RESYNC, now).await?;
        self.outbox().hurry(name.to_owned(), number, now).await?;
        self.note_act("delivery_resynced", name, user, by, now).await?;
        Ok(raised)
    }

    /// What each user holds of what a receiver gets, and what was delivered of them.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn outlook(
        &self,
        name: &str,
        filter: &Filter,
        rules: &RuleSet,
        now: Timestamp,
    ) -> Result<Vec<Ours>, StoreError> {
        let told = self.outbox().told(name.to_owned()).await?;
        let read = |row: ToldRow| Some((row.number, Told::read(row.tried.as_deref().or(row.state.as_deref()))?));
        let mut told: BTreeMap<i64, Told> = told.into_iter().filter_map(read).collect();
        let (mut ours, mut after) = (Vec::new(), 0);
        loop {
            let page = self.users.page(after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(ours) };
            after = last.number;
            for known in &page {
                let held = Told::of(&view(known, rules, now), None, filter).groups;
                let (number, user) = (known.number, known.user.to_string());
                ours.push(Ours { number, user, held, told: told.remove(&known.number) });
            }
        }
    }

    /// Adopts memberships of a user that others gave, if the receiver was sent them.
    ///
    /// # Errors
    /// When the store is not available.
    pub async fn take_over(&self, name: &str, one: &Ours, groups: &[&str]) -> Result<(), StoreError> {
        let Some(mut told) = one.told.clone() else { return Ok(()) };
        for group in groups {
            told.foreign.remove(*group);
            told.unsent.remove(*group);
            told.groups.insert((*group).to_owned());
        }
        self.outbox().attempt(name.to_owned(), one.number, told.text()).await
    }

    async fn number_of(&self, user: Option<&UserId>) -> Result<Option<i64>, StoreError> {
        let Some(user) = user else { return Ok(None) };
        match self.users.user(user.clone()).await? {
            Some(known) => Ok(Some(known.number)),
            None => Err(StoreError::Invalid(format!("there is no user `{user}`"))),
        }
    }

    async fn note_act(
        &self,
        event: &'static str,
        receiver: &str,
        user: Option<UserId>,
        by: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let number = self.number_of(user.as_ref()).await?;
        let entry = Entry::told(event, &json!({ "by": by, "receiver": receiver, "user": number }));
        let ask = Ask { now: Some(now), ..Ask::default() };
        let step = move |_: &[_], _: &_| {
            let shared = Shared { audit: vec![entry.clone()], ..Shared::default() };
            Ok(((), Save { people: Vec::new(), shared }))
        };
        self.decide(ask, step).await
    }
}
