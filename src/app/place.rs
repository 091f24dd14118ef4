//! The place of a sidecar among others over one database: what it announces, and whether it leads.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::clock::Clock;
use crate::pipeline::ids::Timestamp;
use crate::pipeline::mapping::RuleSet;
use crate::pipeline::mapping::elsewhere::Announced;
use crate::ports::store::StoreError;
use crate::ports::store::postgres::Shared;
use crate::ports::store::postgres::replicas::{Announcement, Following, Heard, Revision};

/// How often the announcement is renewed.
const RENEW: Duration = Duration::from_secs(2);

/// What a process knows of its place among the replicas. Without others it always leads.
#[derive(Debug, Default)]
pub(super) struct Place {
    pub(super) shared: Option<Shared>,
    leads: AtomicBool,
    /// It was not heard of for too long, and has to announce itself again.
    pub(super) has_lapsed: AtomicBool,
    files: Gauge<i64, AtomicI64>,
    is_leader: Gauge<i64, AtomicI64>,
}

impl Place {
    pub(super) fn new(shared: Option<Shared>, registry: &mut Registry) -> Self {
        let place = Self { shared, ..Self::default() };
        place.lead(place.shared.is_none());
        place.files.set(1);
        if place.shared.is_some() {
            registry.register("rules_files", "Number of different rule files among live sidecars", place.files.clone());
            registry.register(
                "leader",
                "Whether this sidecar does the work that one sidecar does for all",
                place.is_leader.clone(),
            );
        }
        place
    }

    pub(super) fn leads(&self) -> bool {
        self.leads.load(Ordering::Relaxed)
    }

    fn lead(&self, leads: bool) {
        let led = self.leads.swap(leads, Ordering::Relaxed);
        match (led, leads, &self.shared) {
            (false, true, Some(_)) => {
                tracing::info!("this sidecar ends leases, seals the audit and sweeps, for all that share the database");
            }
            (true, false, Some(_)) => tracing::info!("this sidecar leaves leases, sealing and sweeping to another"),
            _ => {}
        }
        self.is_leader.set(i64::from(leads));
    }

    /// Announces the rules of a file. Until the next announcement they are what this process decides by.
    pub(super) async fn announce(&self, file: &RuleSet, now: Timestamp) -> Result<(), StoreError> {
        let Some(shared) = &self.shared else { return Ok(()) };
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let name = format!("{}/{}", host.trim(), std::process::id());
        let announcement = Announcement { name, version: env!("CARGO_PKG_VERSION"), file: Announced::of(file) };
        shared.announce(announcement, now).await?;
        self.has_lapsed.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Runs something while the announcement is renewed: what takes long would else outlive it, and nothing that it decides would
    /// be written.
    pub(super) async fn while_here<T>(&self, clock: &Clock, work: impl Future<Output = T>) -> T {
        tokio::select! {
            done = work => done,
            never = self.stay(clock) => match never {},
        }
    }

    /// Renews the announcement, whatever else goes on.
    async fn stay(&self, clock: &Clock) -> Infallible {
        let Some(shared) = &self.shared else { return std::future::pending().await };
        loop {
            match shared.renew(clock.now()).await {
                Ok(Heard { leads, lapsed }) => {
                    self.lead(leads);
                    self.has_lapsed.store(lapsed, Ordering::Relaxed);
                }
                // Its lease may have passed on by now. The code that asks for the revision reports why it cannot be renewed.
                Err(_) => self.lead(false),
            }
            tokio::time::sleep(RENEW).await;
        }
    }

    /// What the decision depends on besides the file. `None`: nothing is shared.
    pub(super) async fn following(&self) -> Result<Option<Following>, StoreError> {
        match &self.shared {
            Some(shared) => shared.following().await.map(Some),
            None => Ok(None),
        }
    }

    /// Rules of this epoch were made of a revision, and are the current ones.
    pub(super) fn follow(&self, epoch: u64, revision: Revision, files: usize) {
        let Some(shared) = &self.shared else { return };
        shared.follow(epoch, revision);
        let files = i64::try_from(files).unwrap_or(i64::MAX);
        if self.files.set(files) != files && files > 1 {
            tracing::warn!(files, "live sidecars use different rule files; no sidecar ends grants of another's file");
        }
    }

    pub(super) async fn leave(&self) {
        let Some(shared) = &self.shared else { return };
        if let Err(error) = shared.leave().await {
            tracing::warn!(%error, "failed to sign off; other sidecars count this one as live for some more seconds");
        }
    }
}
