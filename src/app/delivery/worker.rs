//! The worker of one receiver, at the sidecar that leads.
//!
//! Each round it tells due deliveries, as many at once as [`UNDER_WAY`] says, and then begins with one event, which no delivery waits
//! for.

mod events;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use self::events::Events;
use super::{AT_ONCE, Core, Of};
use crate::pipeline::ids::Timestamp;
use crate::ports::outbox::{Due, Outbox, STUCK, Settled};
use crate::ports::publish::health::{Control, Health, LAST, Turn, again};
use crate::ports::publish::{Fault, FaultKind, Notice, Receiver, Sent, Told};
use crate::ports::store::{StoreError, view};

/// How often a worker looks at due deliveries by itself.
const LOOK_AT_DUE: Duration = Duration::from_secs(1);
/// How often it is counted how far a receiver is behind.
const TALLY: Duration = Duration::from_secs(5);
/// Deliveries of one receiver under way: different users, so that none overtakes another of the same.
const UNDER_WAY: usize = 4;
/// Longer than any delivery waits, and not for good.
const WHENEVER: Timestamp = Timestamp(STUCK.0 - 1);

struct Worker {
    core: Arc<Core>,
    outbox: Arc<dyn Outbox>,
    receiver: Arc<dyn Receiver>,
    health: Health,
    tallied: Option<Instant>,
    events: Events,
}

/// Tells one receiver for as long as it is one.
pub(super) async fn work(core: Arc<Core>, receiver: Arc<dyn Receiver>) {
    let outbox = core.parts.store.outbox();
    let mut worker =
        Worker { core, outbox, receiver, health: Health::default(), tallied: None, events: Events::default() };
    let (mut leads, mut is_told) = (false, false);
    loop {
        // Before it looks, so that no row comes in between unseen.
        let core = Arc::clone(&worker.core);
        let spread = core.parts.deliveries.spread.notified();
        tokio::pin!(spread);
        spread.as_mut().enable();
        let led = std::mem::replace(&mut leads, core.parts.place.leads());
        let round = match (led, leads) {
            (_, false) => {
                // Another sidecar tells of it.
                worker.events = Events::default();
                Ok(false)
            }
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
        tokio::select! {
            _ = tokio::time::timeout(LOOK_AT_DUE, spread) => {}
            () = worker.events.finish() => {}
        }
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
        self.settle_event().await?;
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
        let probes = self.health.turn(now) == Turn::Probe;
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
        match (probes, any) {
            // State goes first. Where there is none, an event asks whether the receiver is back.
            (true, true) => {}
            (true, false) => self.begin_event(WHENEVER).await?,
            (false, _) if self.health.turn(now) == Turn::All => self.begin_event(now).await?,
            (false, _) => {}
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
                    self.note_taken(now).await?;
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
                // What is not a fault of this delivery is tried until the receiver is disabled.
                let failures = if fault.kind == FaultKind::Refused { due.failures } else { due.failures.min(LAST) };
                let next = again(failures, due.number.unsigned_abs(), now);
                tracing::warn!(
                    receiver = name, user, version, seconds, failures = due.failures + 1, error = %fault,
                    next = next.map(|next| next.to_string()), "a delivery failed"
                );
                self.note_failure(&fault, now);
                Settled::Failed { fault: fault.why, due: next.unwrap_or(STUCK) }
            }
        };
        self.outbox.settle(name, due.number, settled).await
    }

    /// The receiver has taken something.
    async fn note_taken(&mut self, now: Timestamp) -> Result<(), StoreError> {
        let name = self.receiver.name().to_owned();
        if self.health.taken(now) {
            tracing::info!(receiver = name, "the receiver takes deliveries again");
            self.outbox.hurry(name, None, now).await?;
        }
        Ok(())
    }

    /// It has not.
    fn note_failure(&mut self, fault: &Fault, now: Timestamp) {
        let name = self.receiver.name();
        self.core.parts.deliveries.failed.get_or_create(&Of::new(name)).inc();
        let (was_failing, was_disabled) = (self.health.is_failing(), self.health.disabled_at.is_some());
        self.health.failed(fault, now);
        if self.health.disabled_at.is_some() && !was_disabled {
            tracing::error!(
                receiver = name, error = %fault,
                "the receiver failed for too long and is disabled; when it works again, run `loginsync delivery resume`"
            );
        } else if self.health.is_failing() && !was_failing {
            tracing::error!(receiver = name, error = %fault, "the receiver keeps failing; retrying once a minute");
        }
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
        deliveries.events_pending.get_or_create(&of).set(i64::try_from(tally.events).unwrap_or(i64::MAX));
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
