//! A sidecar among others over one database: it announces its file, takes over what others have changed, and does what is done
//! once where it leads.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::time::Instant;

use super::{Core, StartError, finish_work, log_adopted, merged};
use crate::clock::Clock;
use crate::pipeline::ids::Timestamp;
use crate::pipeline::mapping::RuleSet;
use crate::pipeline::mapping::elsewhere::Announced;
use crate::pipeline::mapping::stored::Stored;
use crate::ports::catalogue::Catalogue;
use crate::ports::store::postgres::Shared;
use crate::ports::store::postgres::replicas::{Announcement, Following, Heard, Revision};
use crate::ports::store::{Store, StoreError};

/// How often the revision of the rules is asked for: what one replica changes reaches the others within a second.
const LOOK: Duration = Duration::from_millis(400);
/// How often the announcement is renewed.
const RENEW: Duration = Duration::from_secs(2);
/// How often a leader seals rows of the audit, and how often it sweeps.
const SEAL: Duration = Duration::from_millis(500);
const SWEEP: Duration = Duration::from_secs(30);

/// What a process knows of its place among the replicas. Without others it always leads.
#[derive(Debug, Default)]
pub(super) struct Place {
    shared: Option<Shared>,
    leads: AtomicBool,
    /// It was not heard of for too long, and has to announce itself again.
    has_lapsed: AtomicBool,
    files: Gauge<i64, AtomicI64>,
    is_leader: Gauge<i64, AtomicI64>,
}

impl Place {
    pub(super) fn new(shared: Option<Shared>, registry: &mut Registry) -> Self {
        let place = Self { shared, ..Self::default() };
        place.lead(place.shared.is_none());
        place.files.set(1);
        if place.shared.is_some() {
            registry.register("rules_files", "Files of rules that live sidecars decide by", place.files.clone());
            registry.register(
                "leader",
                "Whether this sidecar does the work that is done once",
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
                // Its lease may have passed on by now. Why it cannot be renewed is told by what asks for the revision.
                Err(_) => self.lead(false),
            }
            tokio::time::sleep(RENEW).await;
        }
    }

    /// What there is to decide by beside the file. `None`: nothing is shared.
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
            tracing::warn!(files, "sidecars decide by different files; what one of them gives, none of them ends");
        }
    }

    pub(super) async fn leave(&self) {
        let Some(shared) = &self.shared else { return };
        if let Err(error) = shared.leave().await {
            tracing::warn!(%error, "other sidecars will count this one for some seconds more");
        }
    }
}

/// Takes part, for as long as requests are answered.
pub(super) async fn take_part(core: Arc<Core>) {
    if let Some(shared) = &core.place.shared {
        core.place
            .while_here(&core.clock, async { tokio::join!(follow_others(&core, shared), lead(&core, shared)) })
            .await;
    }
}

async fn follow_others(core: &Core, shared: &Shared) {
    let mut is_told = false;
    loop {
        match follow(core, shared).await {
            Ok(()) => is_told = false,
            Err(error) if !std::mem::replace(&mut is_told, true) => {
                tracing::error!(%error, "failed to take over what other sidecars have changed; retrying");
            }
            Err(_) => {}
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Catches up with what others have changed. Many changes are taken over in one go.
async fn follow(core: &Core, shared: &Shared) -> Result<(), StartError> {
    let has_lapsed = core.place.has_lapsed.load(Ordering::Relaxed);
    if !has_lapsed && shared.follows() == Some(shared.revision().await?) {
        return Ok(());
    }
    let _alone = core.reloading.lock().await;
    let file = Arc::clone(&core.current().config.rules);
    if has_lapsed {
        tracing::warn!("this sidecar was not heard of for too long; it announces itself again");
        core.place.announce(&file, core.clock.now()).await?;
    }
    let Following { revision, stored, elsewhere, files } = shared.following().await?;
    if !has_lapsed && shared.follows() == Some(revision.number) {
        return Ok(());
    }
    let before = core.rules.current();
    let stored = Arc::new(stored);
    let rules = merged(&file, &stored, Arc::new(elsewhere), before.epoch + 1)?;
    // What only a file gave that no sidecar has any more ends.
    if before.elsewhere != rules.elsewhere {
        match core.store.make_current(Arc::clone(&rules), core.clock.now()).await {
            Ok(adopted) => log_adopted(adopted),
            Err(error @ StoreError::Braked(_)) => {
                tracing::error!(%error, "what only a file of before gave does not end; people keep it until they log in");
            }
            Err(error) => return Err(error.into()),
        }
    }
    core.place.follow(rules.epoch, revision, files);
    core.rules.swap(Arc::clone(&rules));
    core.stored.store(stored);
    core.told.meters.retain(&rules);
    if core.place.leads() {
        finish_work(&core.store).await;
    }
    Ok(())
}

async fn lead(core: &Core, shared: &Shared) {
    let mut swept: Option<Instant> = None;
    let mut is_told = false;
    loop {
        tokio::time::sleep(SEAL).await;
        if !core.place.leads() {
            continue;
        }
        let mut done = seal_all(shared).await;
        if done.is_ok() && swept.is_none_or(|at| at.elapsed() >= SWEEP) {
            done = shared.sweep().await;
            swept = Some(Instant::now());
        }
        match done {
            Ok(()) => is_told = false,
            Err(error) if !std::mem::replace(&mut is_told, true) => {
                tracing::error!(%error, "failed to seal the audit, or to sweep what has ended; retrying");
            }
            Err(_) => {}
        }
    }
}

async fn seal_all(shared: &Shared) -> Result<(), StoreError> {
    while shared.seal().await? >= Shared::SEALED_AT_ONCE {}
    Ok(())
}

/// What the APIs have made, where every group and role of the file has its number. Another sidecar that starts at the same time may
/// number them first.
pub(super) async fn numbered(
    catalogue: &dyn Catalogue,
    store: &Store,
    file: &RuleSet,
    now: Timestamp,
) -> Result<Arc<Stored>, StartError> {
    let mut tries = 5_u32;
    loop {
        match super::numbered(catalogue, store, file, now).await {
            Err(StartError::Store(StoreError::Invalid(_))) if tries > 0 => tries -= 1,
            numbered => return numbered,
        }
    }
}
