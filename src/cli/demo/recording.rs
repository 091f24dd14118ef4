//! A store that tells what became of each login, so that the demo can print it: a decorator, with no hook in the store.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::pipeline::ids::{Target, Timestamp, UserId};
use crate::pipeline::mapping::{Candidates, RuleSet};
use crate::pipeline::plan::Plan;
use crate::ports::BoxFuture;
use crate::ports::store::{
    Act, Adopted, Applied, AuditRow, By, ChainReport, DisabledView, Excess, HoldFilter, HoldView, LeaseView, Login,
    People, Preview, Reaped, Refusal, Rekeyed, Replanned, Store, StoreError, Unvouched, UserView,
};

/// What became of a login whose signature held.
#[derive(Debug, Clone)]
pub enum Event {
    /// Durably written.
    Committed(Box<Plan>),
    /// Not written, and why, in words.
    Refused { who: String, why: String },
}

/// How many events are remembered.
const KEPT: usize = 200;

/// What has happened so far, oldest first.
pub struct Journal {
    kept: Mutex<VecDeque<Event>>,
    count: watch::Sender<usize>,
}

impl Default for Journal {
    fn default() -> Self {
        Self { kept: Mutex::new(VecDeque::new()), count: watch::channel(0).0 }
    }
}

impl Journal {
    fn note(&self, event: Event) {
        let mut kept = self.lock();
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(event);
        self.count.send_modify(|count| *count += 1);
    }

    /// How many events there were.
    pub fn count(&self) -> usize {
        *self.count.borrow()
    }

    /// Tells whenever there is another.
    pub fn watch(&self) -> watch::Receiver<usize> {
        self.count.subscribe()
    }

    /// The events after the first `seen`.
    pub fn after(&self, seen: usize) -> Vec<Event> {
        let kept = self.lock();
        let new = self.count().saturating_sub(seen).min(kept.len());
        kept.iter().skip(kept.len() - new).cloned().collect()
    }

    /// The newest plan of one user.
    pub fn last_plan_of(&self, user: &UserId) -> Option<Plan> {
        self.lock().iter().rev().find_map(|event| match event {
            Event::Committed(plan) if plan.user == *user => Some((**plan).clone()),
            _ => None,
        })
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Event>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A store around a store.
pub struct RecordingStore {
    inner: Arc<dyn Store>,
    journal: Arc<Journal>,
}

impl RecordingStore {
    pub fn new(inner: Arc<dyn Store>, journal: Arc<Journal>) -> Self {
        Self { inner, journal }
    }
}

impl Store for RecordingStore {
    fn apply(
        &self,
        login: Login,
        candidates: Candidates,
        rules: Arc<RuleSet>,
    ) -> BoxFuture<'_, Result<Applied, StoreError>> {
        Box::pin(async move {
            let who = format!("{} through {}", login.user, login.provider);
            let applied = self.inner.apply(login, candidates, rules).await;
            let refused = |why: &str| Event::Refused { who: who.clone(), why: why.to_owned() };
            match &applied {
                Ok(Applied::Committed(plan)) => self.journal.note(Event::Committed(plan.clone())),
                Ok(Applied::Replay) => self.journal.note(refused("this login was used before")),
                Ok(Applied::Disabled) => self.journal.note(refused("an operator has disabled this user")),
                Ok(Applied::Gated { gate, .. }) => self.journal.note(refused(&format!("gate `{gate}`"))),
                // Comes again at once, by the new rules.
                Ok(Applied::Stale) => {}
                Err(error) => self.journal.note(refused(&error.to_string())),
            }
            applied
        })
    }

    fn preview(
        &self,
        login: Login,
        candidates: Candidates,
        rules: Arc<RuleSet>,
    ) -> BoxFuture<'_, Result<Preview, StoreError>> {
        self.inner.preview(login, candidates, rules)
    }

    fn record_refusal(&self, refusal: Refusal) -> BoxFuture<'_, Result<(), StoreError>> {
        let who = format!("a login through {}", refusal.provider);
        self.journal.note(Event::Refused { who, why: refusal.reason.clone() });
        self.inner.record_refusal(refusal)
    }

    fn adopt(&self, rules: Arc<RuleSet>, now: Timestamp) -> BoxFuture<'_, Result<Adopted, StoreError>> {
        self.inner.adopt(rules, now)
    }

    fn people(
        &self,
        rules: Arc<RuleSet>,
        after: Option<i64>,
        limit: usize,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<People, StoreError>> {
        self.inner.people(rules, after, limit, now)
    }

    fn excesses(&self, rules: Arc<RuleSet>) -> BoxFuture<'_, Result<Vec<Excess>, StoreError>> {
        self.inner.excesses(rules)
    }

    fn adopted_targets(&self) -> BoxFuture<'_, Result<Option<RuleSet>, StoreError>> {
        self.inner.adopted_targets()
    }

    fn confirm(&self, source: [u8; 32], by: String, now: Timestamp) -> BoxFuture<'_, Result<(), StoreError>> {
        self.inner.confirm(source, by, now)
    }

    fn replan(
        &self,
        rules: Arc<RuleSet>,
        after: Option<(i64, String)>,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<Replanned, StoreError>> {
        self.inner.replan(rules, after, now)
    }

    fn leases(
        &self,
        rules: Arc<RuleSet>,
        before: Timestamp,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<LeaseView>, StoreError>> {
        self.inner.leases(rules, before, limit)
    }

    fn reap(&self, rules: Arc<RuleSet>, now: Timestamp) -> BoxFuture<'_, Result<Reaped, StoreError>> {
        self.inner.reap(rules, now)
    }

    fn holds(&self, filter: HoldFilter, rules: Arc<RuleSet>) -> BoxFuture<'_, Result<Vec<HoldView>, StoreError>> {
        self.inner.holds(filter, rules)
    }

    fn release(
        &self,
        filter: HoldFilter,
        rules: Arc<RuleSet>,
        by: String,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.inner.release(filter, rules, by, now)
    }

    fn discard(
        &self,
        filter: HoldFilter,
        rules: Arc<RuleSet>,
        by: String,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.inner.discard(filter, rules, by, now)
    }

    fn export(&self, user: UserId) -> BoxFuture<'_, Result<Option<serde_json::Value>, StoreError>> {
        self.inner.export(user)
    }

    fn act(&self, user: UserId, act: Act, by: By, now: Timestamp) -> BoxFuture<'_, Result<(), StoreError>> {
        self.inner.act(user, act, by, now)
    }

    fn rekey(
        &self,
        keys: Vec<(UserId, UserId)>,
        merge: bool,
        by: Option<By>,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<Vec<Rekeyed>, StoreError>> {
        self.inner.rekey(keys, merge, by, now)
    }

    fn disabled_by(&self, mapping: String) -> BoxFuture<'_, Result<Vec<DisabledView>, StoreError>> {
        self.inner.disabled_by(mapping)
    }

    fn enable_disabled_by(&self, mapping: String, by: By, now: Timestamp) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.inner.enable_disabled_by(mapping, by, now)
    }

    fn unvouched(&self, rules: Arc<RuleSet>) -> BoxFuture<'_, Result<Vec<Unvouched>, StoreError>> {
        self.inner.unvouched(rules)
    }

    fn user(&self, user: UserId, rules: Arc<RuleSet>) -> BoxFuture<'_, Result<Option<UserView>, StoreError>> {
        self.inner.user(user, rules)
    }

    fn users(&self, after: Option<UserId>, limit: usize) -> BoxFuture<'_, Result<Vec<UserId>, StoreError>> {
        self.inner.users(after, limit)
    }

    fn members(
        &self,
        target: Target,
        after: Option<UserId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<UserId>, StoreError>> {
        self.inner.members(target, after, limit)
    }

    fn audit(&self, after: i64, limit: usize) -> BoxFuture<'_, Result<Vec<AuditRow>, StoreError>> {
        self.inner.audit(after, limit)
    }

    fn audit_of(&self, login: String) -> BoxFuture<'_, Result<Option<AuditRow>, StoreError>> {
        self.inner.audit_of(login)
    }

    fn audit_head(&self) -> BoxFuture<'_, Result<Option<(i64, String)>, StoreError>> {
        self.inner.audit_head()
    }

    fn verify_audit(&self) -> BoxFuture<'_, Result<ChainReport, StoreError>> {
        self.inner.verify_audit()
    }

    fn accept_unkeyed(&self, by: String, now: Timestamp) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.inner.accept_unkeyed(by, now)
    }

    fn cookie_keys(&self) -> BoxFuture<'_, Result<Vec<u8>, StoreError>> {
        self.inner.cookie_keys()
    }

    fn assertion_key(&self, fresh: Vec<u8>) -> BoxFuture<'_, Result<Vec<u8>, StoreError>> {
        self.inner.assertion_key(fresh)
    }

    fn settle(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.inner.settle()
    }

    fn ready(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.inner.ready()
    }
}
