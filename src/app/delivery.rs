//! Deliveries: what receivers have still to hear goes out, each receiver by a worker of its own, at the sidecar that leads.
//!
//! A worker takes due deliveries, tells what each user holds now, and notes what was taken. Nothing waits for it, and what it does not
//! come to is still due after a restart.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Core, StartError};
use crate::clock::Clock;
use crate::config::{Config, ReceiverKind, ReceiverSettings, Secret};
use crate::pipeline::ids::{GroupName, Target, Timestamp};
use crate::pipeline::mapping::RuleSet;
use crate::ports::http::HttpClient;
use crate::ports::outbox::{Due, Outbox, STUCK, Settled, Whom};
use crate::ports::publish::followers::Followers;
use crate::ports::publish::health::{Control, Health, LAST, Turn, again};
use crate::ports::publish::scim::ScimReceiver;
use crate::ports::publish::webhook::WebhookReceiver;
use crate::ports::publish::{Fault, FaultKind, Notice, Receiver, Sent, Told};
use crate::ports::store::{Store, StoreError, view};

/// How often raised users are looked for, and how often a worker looks at due deliveries by itself.
const LOOK: Duration = Duration::from_millis(250);
const LOOK_AT_DUE: Duration = Duration::from_secs(1);
/// How often it is counted how far a receiver is behind.
const TALLY: Duration = Duration::from_secs(5);
/// Users that are looked at in one go.
const AT_ONCE: usize = 200;
/// Deliveries of one receiver under way: different users, so that none overtakes another of the same.
const UNDER_WAY: usize = 4;
/// Longer than any delivery waits, and not for good.
const WHENEVER: Timestamp = Timestamp(STUCK.0 - 1);
/// Where it is kept which roles groups carried when receivers were told.
const COMPOSITION: &str = "composition";

/// The receivers of a configuration, and what is counted about them.
pub(super) struct Deliveries {
    receivers: Mutex<Arc<Vec<Arc<dyn Receiver>>>>,
    /// Users have changed, and a login waits until receivers have heard of it.
    raised: Arc<Notify>,
    /// Rows are there for workers to look at.
    spread: Notify,
    taken: Family<Of, Counter>,
    failed: Family<Of, Counter>,
    pending: Family<Of, Gauge<i64, AtomicI64>>,
    stuck: Family<Of, Gauge<i64, AtomicI64>>,
    lag: Family<Of, Gauge<i64, AtomicI64>>,
    failing: Family<Of, Gauge<i64, AtomicI64>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Of {
    receiver: String,
}

impl Of {
    fn new(receiver: &str) -> Self {
        Self { receiver: receiver.to_owned() }
    }
}

impl Deliveries {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let it = Self {
            receivers: Mutex::default(),
            raised: Arc::default(),
            spread: Notify::new(),
            taken: Family::default(),
            failed: Family::default(),
            pending: Family::default(),
            stuck: Family::default(),
            lag: Family::default(),
            failing: Family::default(),
        };
        registry.register("deliveries", "Deliveries that a receiver has taken", it.taken.clone());
        registry.register("delivery_failures", "Deliveries that a receiver did not take", it.failed.clone());
        registry.register(
            "deliveries_pending",
            "Users of whom a receiver has not heard the newest",
            it.pending.clone(),
        );
        registry.register("deliveries_stuck", "Those of them that are not tried again by themselves", it.stuck.clone());
        let lag = "Seconds since the change of the longest pending delivery";
        registry.register("delivery_lag_seconds", lag, it.lag.clone());
        registry.register("receiver_failing", "Whether a receiver fails at every delivery", it.failing.clone());
        it
    }

    /// For whom logins of a configuration wait.
    pub(super) fn followers(&self, config: &Config, store: &Store) -> Followers {
        let waits = config.receivers.iter().filter_map(|it| Some((it.name.clone(), it.before_entry?)));
        Followers::new(waits.collect(), store.outbox(), Arc::clone(&self.raised))
    }

    fn current(&self) -> Arc<Vec<Arc<dyn Receiver>>> {
        Arc::clone(&self.receivers.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Other receivers from now on.
    pub(super) fn replace(&self, receivers: Vec<Arc<dyn Receiver>>) {
        *self.receivers.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(receivers);
        for gauge in [&self.pending, &self.stuck, &self.lag, &self.failing] {
            gauge.clear();
        }
    }
}

/// The receivers that a configuration names, ready to be told.
///
/// # Errors
/// When a file that they need is gone, or the store cannot keep their secrets.
pub(super) async fn receivers(
    config: &Config,
    store: &Store,
    clock: &Clock,
) -> Result<Vec<Arc<dyn Receiver>>, StartError> {
    let mut receivers = Vec::new();
    for settings in &config.receivers {
        receivers.push(receiver_of(config, settings, store, clock).await?);
    }
    Ok(receivers)
}

/// One of them.
///
/// # Errors
/// As for [`receivers`].
pub async fn receiver_of(
    config: &Config,
    settings: &ReceiverSettings,
    store: &Store,
    clock: &Clock,
) -> Result<Arc<dyn Receiver>, StartError> {
    let client = HttpClient::new(settings.ca_file.as_deref(), None, config.egress.as_ref())?;
    Ok(match &settings.kind {
        ReceiverKind::Webhook(webhook) => {
            let own = match webhook.secrets.is_empty() {
                true => store.webhook_secret(&settings.name).await?,
                false => Secret::new(Vec::new()),
            };
            let source = config.public_url.root();
            Arc::new(WebhookReceiver::new(settings.clone(), webhook, client, &own, &source))
        }
        ReceiverKind::Scim(scim) => {
            Arc::new(ScimReceiver::new(settings.clone(), scim.clone(), client, store.outbox(), clock.clone()))
        }
    })
}

/// Delivers for as long as this process serves. What is under way at the end is told again by the next.
pub(super) async fn deliver(core: Arc<Core>, shutdown: impl Future<Output = ()>) {
    let all = async {
        loop {
            let receivers = core.parts.deliveries.current();
            let mut workers = JoinSet::new();
            if !receivers.is_empty() {
                workers.spawn(spread(Arc::clone(&core), receivers.iter().map(|it| it.name().to_owned()).collect()));
            }
            for receiver in receivers.iter() {
                workers.spawn(work(Arc::clone(&core), Arc::clone(receiver)));
            }
            while Arc::ptr_eq(&receivers, &core.parts.deliveries.current()) {
                tokio::time::sleep(LOOK).await;
            }
        }
    };
    tokio::select! {
        () = all => {}
        () = shutdown => {}
    }
}

/// Gives each receiver a row for the users who have changed.
async fn spread(core: Arc<Core>, receivers: Vec<String>) {
    let (outbox, mut is_told, mut seen) = (core.parts.store.outbox(), false, None);
    loop {
        if core.parts.place.leads() {
            let rules = core.parts.rules.current();
            let is_new = seen.as_ref().is_none_or(|seen| !Arc::ptr_eq(seen, &rules));
            let composed = if is_new { compose(&*outbox, &rules, core.parts.clock.now()).await } else { Ok(()) };
            let found = match composed {
                Ok(()) => {
                    seen = Some(rules);
                    outbox.spread(receivers.clone(), core.parts.clock.now(), AT_ONCE).await
                }
                Err(error) => Err(error),
            };
            match found {
                Ok(found) => {
                    is_told = false;
                    if found > 0 {
                        core.parts.deliveries.spread.notify_waiters();
                        continue;
                    }
                }
                Err(error) if !std::mem::replace(&mut is_told, true) => {
                    tracing::error!(%error, "failed to look for users who have changed; retrying");
                }
                Err(_) => {}
            }
        }
        let _ = tokio::time::timeout(LOOK, core.parts.deliveries.raised.notified()).await;
    }
}

/// Raises who has a group that carries other roles than when receivers were told: no record says so.
async fn compose(outbox: &dyn Outbox, rules: &RuleSet, now: Timestamp) -> Result<(), StoreError> {
    let after: BTreeMap<String, BTreeSet<String>> = rules
        .groups
        .iter()
        .filter(|(_, group)| !group.roles.is_empty())
        .map(|(name, group)| (name.to_string(), group.roles.iter().map(ToString::to_string).collect()))
        .collect();
    let kept = outbox.note(COMPOSITION.into()).await?;
    let before: Option<BTreeMap<String, BTreeSet<String>>> =
        kept.as_deref().and_then(|kept| serde_json::from_slice(kept).ok());
    if before.as_ref() == Some(&after) {
        return Ok(());
    }
    if let Some(before) = before {
        let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        for name in names.into_iter().filter(|name| before.get(*name) != after.get(*name)) {
            if let Ok(group) = GroupName::parse(name) {
                outbox.raise(Whom::Holders(Target::Group(group)), "roles", now).await?;
            }
        }
    }
    // Names and roles always have a JSON text.
    outbox.set_note(COMPOSITION.into(), serde_json::to_vec(&after).unwrap_or_default()).await
}

/// The worker of one receiver.
struct Worker {
    core: Arc<Core>,
    outbox: Arc<dyn Outbox>,
    receiver: Arc<dyn Receiver>,
    health: Health,
    tallied: Option<Instant>,
}

async fn work(core: Arc<Core>, receiver: Arc<dyn Receiver>) {
    let outbox = core.parts.store.outbox();
    let mut worker = Worker { core, outbox, receiver, health: Health::default(), tallied: None };
    let (mut leads, mut is_told) = (false, false);
    loop {
        // Before it looks, so that no row comes in between unseen.
        let core = Arc::clone(&worker.core);
        let spread = core.parts.deliveries.spread.notified();
        tokio::pin!(spread);
        spread.as_mut().enable();
        let led = std::mem::replace(&mut leads, core.parts.place.leads());
        let round = match (led, leads) {
            (_, false) => Ok(false),
            (false, true) => worker.begin().await.map(|()| true),
            (true, true) => worker.round().await,
        };
        match round {
            Ok(true) => {
                is_told = false;
                continue;
            }
            Ok(false) => is_told = false,
            Err(error) if !std::mem::replace(&mut is_told, true) => {
                let receiver = worker.receiver.name();
                tracing::error!(receiver, %error, "failed to read or note deliveries; retrying");
            }
            Err(_) => {}
        }
        let _ = tokio::time::timeout(LOOK_AT_DUE, spread).await;
    }
}

impl Worker {
    /// Takes over from whichever sidecar led before.
    async fn begin(&mut self) -> Result<(), StoreError> {
        let name = self.receiver.name();
        self.health = Health::read(self.outbox.note(Health::note_of(name)).await?.as_deref());
        Ok(())
    }

    /// Tells due deliveries. Returns whether there may be more.
    async fn round(&mut self) -> Result<bool, StoreError> {
        let name = self.receiver.name().to_owned();
        self.count().await?;
        let control = Control::read(self.outbox.note(Control::note_of(&name)).await?.as_deref());
        if self.health.hear(&control) {
            tracing::info!(receiver = name, by = control.by, "deliveries go on");
            self.keep_health().await?;
            self.outbox.hurry(name.clone(), None, self.core.parts.clock.now()).await?;
        }
        let now = self.core.parts.clock.now();
        let due = match self.health.turn(now) {
            _ if control.paused => return Ok(false),
            Turn::Nothing => return Ok(false),
            Turn::Probe => self.outbox.due(name, WHENEVER, 1).await?,
            Turn::All => self.outbox.due(name, now, AT_ONCE).await?,
        };
        let (mut under_way, mut waiting, found) = (JoinSet::new(), due.into_iter(), self.health.clone());
        let mut any = false;
        loop {
            // What is left waits where the receiver has begun to fail.
            let goes_on = self.health.turn(now) == found.turn(now);
            while goes_on && under_way.len() < UNDER_WAY {
                let Some(due) = waiting.next() else { break };
                under_way.spawn(tell(Arc::clone(&self.core), Arc::clone(&self.receiver), due));
            }
            let Some(told) = under_way.join_next().await else { break };
            let Ok((due, notice, outcome, took)) = told else { continue };
            self.settle(&due, &notice, outcome, took).await?;
            any = true;
        }
        if self.health != found {
            self.keep_health().await?;
        }
        Ok(any)
    }

    async fn settle(
        &mut self,
        due: &Due,
        notice: &Notice,
        outcome: Result<Sent, Fault>,
        took: Duration,
    ) -> Result<(), StoreError> {
        let (name, now) = (self.receiver.name().to_owned(), self.core.parts.clock.now());
        let of = Of::new(&name);
        let (user, version, seconds) = (due.number, due.wanted, took.as_secs_f64());
        let settled = match outcome {
            Ok(Sent::Absent) => {
                tracing::debug!(receiver = name, user, version, "there is no such user at the receiver yet");
                self.health.taken(now);
                let next = again(due.failures.min(LAST), user.unsigned_abs(), now);
                let fault = String::from("the user does not exist there yet, and is not to be created");
                Settled::Failed { fault, due: next.unwrap_or(STUCK) }
            }
            Ok(sent) => {
                if let Sent::Taken { .. } = &sent {
                    self.core.parts.deliveries.taken.get_or_create(&of).inc();
                    tracing::info!(receiver = name, user, version, cause = due.cause, seconds, "delivered");
                    if self.health.taken(now) {
                        tracing::info!(receiver = name, "the receiver takes deliveries again");
                        self.outbox.hurry(name.clone(), None, now).await?;
                    }
                }
                match (&notice.after, sent) {
                    (None, _) => Settled::Gone,
                    // One who is kept from the receiver stays unknown to it.
                    (Some(_), Sent::Nothing) if notice.before.is_none() && !notice.is_for_receiver => {
                        Settled::Confirmed { version, state: None }
                    }
                    (Some(after), Sent::Taken { foreign }) => {
                        let state = Told { foreign, ..after.clone() };
                        Settled::Confirmed { version, state: Some(state.text()) }
                    }
                    (Some(after), _) => {
                        let foreign = notice.known.as_ref().map(|known| known.foreign.clone()).unwrap_or_default();
                        let foreign = foreign.intersection(&after.groups).cloned().collect();
                        let state = Told { foreign, ..after.clone() };
                        Settled::Confirmed { version, state: Some(state.text()) }
                    }
                }
            }
            Err(fault) => {
                self.core.parts.deliveries.failed.get_or_create(&of).inc();
                let (was_failing, was_disabled) = (self.health.is_failing(), self.health.disabled_at.is_some());
                self.health.failed(&fault, now);
                // What is no fault of this delivery is tried until the receiver is disabled.
                let failures = if fault.kind == FaultKind::Refused { due.failures } else { due.failures.min(LAST) };
                let next = again(failures, due.number.unsigned_abs(), now);
                tracing::warn!(
                    receiver = name, user, version, seconds, failures = due.failures + 1, error = %fault,
                    next = next.map(|next| next.to_string()), "a delivery failed"
                );
                if self.health.disabled_at.is_some() && !was_disabled {
                    tracing::error!(
                        receiver = name, error = %fault,
                        "the receiver is disabled; when it is well, run `loginsync delivery resume`"
                    );
                } else if self.health.is_failing() && !was_failing {
                    tracing::error!(receiver = name, error = %fault, "the receiver fails; it is tried once a minute");
                }
                Settled::Failed { fault: fault.why, due: next.unwrap_or(STUCK) }
            }
        };
        self.outbox.settle(name, due.number, settled).await
    }

    async fn keep_health(&self) -> Result<(), StoreError> {
        let name = self.receiver.name();
        self.outbox.set_note(Health::note_of(name), self.health.text()).await
    }

    /// Counts how far the receiver is behind, now and then.
    async fn count(&mut self) -> Result<(), StoreError> {
        if self.tallied.is_some_and(|at| at.elapsed() < TALLY) {
            return Ok(());
        }
        self.tallied = Some(Instant::now());
        let name = self.receiver.name();
        let tally = self.outbox.tally(name.to_owned()).await?;
        let (deliveries, of) = (&self.core.parts.deliveries, Of::new(name));
        let lag = tally.oldest.map_or(0, |oldest| (self.core.parts.clock.now().0 - oldest.0).max(0) / 1000);
        deliveries.pending.get_or_create(&of).set(i64::try_from(tally.pending).unwrap_or(i64::MAX));
        deliveries.stuck.get_or_create(&of).set(i64::try_from(tally.stuck).unwrap_or(i64::MAX));
        deliveries.lag.get_or_create(&of).set(lag);
        deliveries.failing.get_or_create(&of).set(i64::from(self.health.is_failing()));
        Ok(())
    }
}

/// Notes first what the receiver may know from now on: an answer that is lost must not be taken for a delivery that was.
async fn send(core: &Core, receiver: &dyn Receiver, notice: &Notice) -> Result<Sent, Fault> {
    if let Some(mut all) = notice.spreads() {
        if receiver.as_scim().is_none() {
            // All of it is sent at once.
            all.unsent.clear();
        }
        let noted = core.parts.store.outbox().attempt(receiver.name().to_owned(), notice.number, all.text()).await;
        noted?;
    }
    let sent = receiver.tell(notice).await?;
    if let (Sent::Absent, Some(after)) = (&sent, &notice.after) {
        let nothing =
            Told { groups: BTreeSet::new(), roles: BTreeSet::new(), absent: Some(notice.version), ..after.clone() };
        let noted = core.parts.store.outbox().attempt(receiver.name().to_owned(), notice.number, nothing.text()).await;
        noted?;
    }
    Ok(sent)
}

/// Tells one receiver of one user.
async fn tell(core: Arc<Core>, receiver: Arc<dyn Receiver>, due: Due) -> (Due, Notice, Result<Sent, Fault>, Duration) {
    let began = Instant::now();
    let (now, rules) = (core.parts.clock.now(), core.parts.rules.current());
    let view = due.known.as_ref().map(|known| view(known, &rules, now));
    let notice = Notice::new(&due, view.as_ref(), receiver.filter(), now);
    let outcome = match notice.is_for_receiver {
        true => send(&core, &*receiver, &notice).await,
        false => Ok(Sent::Nothing),
    };
    (due, notice, outcome, began.elapsed())
}
