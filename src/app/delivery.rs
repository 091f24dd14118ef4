//! Deliveries to receivers: each receiver has a worker of its own, at the sidecar that leads.
//!
//! A worker takes due deliveries, tells what each user holds now, and notes what was taken. Nothing waits for it, and what it does not
//! come to is still due after a restart.

mod worker;

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

use self::worker::work;
use super::{Core, StartError};
use crate::clock::Clock;
use crate::config::{Config, ReceiverKind, ReceiverSettings, Secret};
use crate::pipeline::ids::{GroupName, Target, Timestamp};
use crate::pipeline::mapping::RuleSet;
use crate::ports::http::HttpClient;
use crate::ports::outbox::events::MOST_EVENTS;
use crate::ports::outbox::{Outbox, Whom};
use crate::ports::publish::Receiver;
use crate::ports::publish::followers::Followers;
use crate::ports::publish::scim::ScimReceiver;
use crate::ports::publish::webhook::WebhookReceiver;
use crate::ports::store::{Store, StoreError};

/// How often raised users are looked for.
const LOOK: Duration = Duration::from_millis(250);
/// How often queues of events are trimmed.
const TRIM: Duration = Duration::from_secs(1);
/// Users that are looked at in one go.
const AT_ONCE: usize = 200;
/// Where the store keeps which roles groups carried at the last delivery.
const COMPOSITION: &str = "composition";

/// The receivers of a configuration, and what is counted about them.
pub(super) struct Deliveries {
    receivers: Mutex<Arc<Vec<Arc<dyn Receiver>>>>,
    /// Users have changed, and a login waits until receivers have confirmed it.
    raised: Arc<Notify>,
    /// Rows are there for workers to look at.
    spread: Notify,
    taken: Family<Of, Counter>,
    failed: Family<Of, Counter>,
    pending: Family<Of, Gauge<i64, AtomicI64>>,
    stuck: Family<Of, Gauge<i64, AtomicI64>>,
    lag: Family<Of, Gauge<i64, AtomicI64>>,
    failing: Family<Of, Gauge<i64, AtomicI64>>,
    events: Family<Of, Counter>,
    events_pending: Family<Of, Gauge<i64, AtomicI64>>,
    events_dropped: Family<Of, Counter>,
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
            events: Family::default(),
            events_pending: Family::default(),
            events_dropped: Family::default(),
        };
        registry.register("deliveries", "Deliveries that a receiver has taken", it.taken.clone());
        registry.register("delivery_failures", "Deliveries and events that a receiver did not take", it.failed.clone());
        registry.register(
            "deliveries_pending",
            "Users whose newest state a receiver has not confirmed",
            it.pending.clone(),
        );
        registry.register(
            "deliveries_stuck",
            "Pending deliveries that are not retried automatically",
            it.stuck.clone(),
        );
        let lag = "Seconds since the change of the longest pending delivery";
        registry.register("delivery_lag_seconds", lag, it.lag.clone());
        registry.register("receiver_failing", "Whether every delivery to a receiver fails", it.failing.clone());
        registry.register("delivery_events", "Events that a receiver has taken", it.events.clone());
        registry.register("delivery_events_pending", "Events that wait for a receiver", it.events_pending.clone());
        registry.register(
            "delivery_events_dropped",
            "Events that were dropped before a receiver took them",
            it.events_dropped.clone(),
        );
        it
    }

    /// For whom logins of a configuration wait.
    pub(super) fn followers(&self, config: &Config, store: &Store) -> Followers {
        let waits = config.receivers.iter().filter_map(|it| Some((it.name.clone(), it.before_entry?)));
        Followers::new(waits.collect(), store.outbox(), Arc::clone(&self.raised))
    }

    /// Those of now.
    pub(super) fn current(&self) -> Arc<Vec<Arc<dyn Receiver>>> {
        Arc::clone(&self.receivers.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Other receivers from now on.
    pub(super) fn replace(&self, receivers: Vec<Arc<dyn Receiver>>) {
        *self.receivers.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(receivers);
        for gauge in [&self.pending, &self.stuck, &self.lag, &self.failing, &self.events_pending] {
            gauge.clear();
        }
    }
}

/// The receivers of a configuration, ready for deliveries.
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

/// Delivers while this process serves. The next process repeats a delivery that was under way at the end.
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
    let mut trimmed: Option<Instant> = None;
    loop {
        if core.parts.place.leads() {
            if trimmed.is_none_or(|at| at.elapsed() >= TRIM) {
                trimmed = Some(Instant::now());
                trim(&core, &*outbox, &receivers).await;
            }
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

/// Drops the oldest events where too many wait.
async fn trim(core: &Core, outbox: &dyn Outbox, receivers: &[String]) {
    match outbox.trim_events(receivers.to_vec(), MOST_EVENTS).await {
        Ok(dropped) => {
            for (receiver, events) in dropped {
                core.parts.deliveries.events_dropped.get_or_create(&Of::new(&receiver)).inc_by(events);
                tracing::warn!(receiver, events, "dropped the oldest events: more than {MOST_EVENTS} were waiting");
            }
        }
        Err(error) => tracing::debug!(%error, "failed to trim queues of events; retrying"),
    }
}

/// Raises the version of users with a group whose roles changed since the last delivery: their records do not show it.
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
