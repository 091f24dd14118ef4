//! Events that are not state: one at a time for each receiver, behind its deliveries.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::super::{Core, Of};
use super::Worker;
use crate::pipeline::ids::Timestamp;
use crate::ports::outbox::events::{EventSettled, WaitingEvent};
use crate::ports::publish::health::{LAST, again};
use crate::ports::publish::{Fault, FaultKind, Receiver, Report};
use crate::ports::store::StoreError;

type Told = (WaitingEvent, Result<(), Fault>);

/// The event that is under way, or was delivered and is not settled yet. If it is dropped, the leading sidecar delivers it again.
#[derive(Default)]
pub(super) struct Events {
    under_way: JoinSet<Told>,
    told: Option<Told>,
}

impl Events {
    /// Waits until one that is under way was delivered.
    pub(super) async fn finish(&mut self) {
        match self.under_way.join_next().await {
            Some(Ok(told)) => self.told = Some(told),
            Some(Err(_)) => {}
            None => std::future::pending().await,
        }
    }
}

impl Worker {
    /// Begins with the event that is due for the longest, unless one is under way.
    pub(super) async fn begin_event(&mut self, now: Timestamp) -> Result<(), StoreError> {
        if !self.receiver.listens() || !self.events.under_way.is_empty() {
            return Ok(());
        }
        let due = self.outbox.events(self.receiver.name().to_owned(), now, 1).await?.pop();
        if let Some(event) = due {
            self.events.under_way.spawn(tell(Arc::clone(&self.core), Arc::clone(&self.receiver), event));
        }
        Ok(())
    }

    /// Notes what became of the last one.
    pub(super) async fn settle_event(&mut self) -> Result<(), StoreError> {
        if let Some(Ok(told)) = self.events.under_way.try_join_next() {
            self.events.told = Some(told);
        }
        let Some((event, outcome)) = self.events.told.take() else { return Ok(()) };
        let (name, now, found) = (self.receiver.name().to_owned(), self.core.parts.clock.now(), self.health.clone());
        let (of, kind, deliveries) = (Of::new(&name), &event.event, &self.core.parts.deliveries);
        let settled = match outcome {
            Ok(()) => {
                deliveries.events.get_or_create(&of).inc();
                tracing::info!(receiver = name, event = kind, id = event.id, "delivered an event");
                self.note_taken(now).await?;
                EventSettled::Taken
            }
            Err(fault) => {
                tracing::warn!(
                    receiver = name, event = kind, id = event.id, failures = event.failures + 1, error = %fault,
                    "failed to deliver an event"
                );
                self.note_failure(&fault, now);
                let is_refused = fault.kind == FaultKind::Refused;
                let failures = if is_refused { event.failures } else { event.failures.min(LAST) };
                match again(failures, event.at.0.unsigned_abs(), now) {
                    Some(due) => EventSettled::Failed { fault: fault.why, due },
                    None => {
                        self.core.parts.deliveries.events_dropped.get_or_create(&of).inc();
                        EventSettled::Dropped
                    }
                }
            }
        };
        if self.health != found {
            self.keep_health().await?;
        }
        self.outbox.settle_event(name, event.id, settled).await
    }
}

async fn tell(core: Arc<Core>, receiver: Arc<dyn Receiver>, event: WaitingEvent) -> Told {
    let person = match event.user {
        Some(number) => core.parts.store.person(number).await,
        None => Ok(None),
    };
    let outcome = match person {
        Ok(person) => {
            let user = person.map(|person| (person.user.namespace.to_string(), person.user.subject.to_string()));
            let report = Report { event: event.clone(), user, now: core.parts.clock.now() };
            receiver.report(&report).await
        }
        Err(error) => Err(Fault::from(error)),
    };
    (event, outcome)
}
