//! A sidecar among others over one database: it announces its file, takes over what others have changed, and does what is done
//! once where it leads.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::time::Instant;

use super::{Core, StartError, finish_work, log_adopted, merged};
use crate::config::Config;
use crate::pipeline::ids::Timestamp;
use crate::pipeline::mapping::RuleSet;
use crate::pipeline::mapping::elsewhere::{Announced, Elsewhere};
use crate::pipeline::mapping::stored::Stored;
use crate::ports::store::postgres::Shared;
use crate::ports::store::postgres::replicas::{Announcement, Following, Heard};
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
    elsewhere: Mutex<Elsewhere>,
    leads: AtomicBool,
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
        if self.leads.swap(leads, Ordering::Relaxed) != leads && self.shared.is_some() {
            tracing::info!(leads, "work that is done once");
        }
        self.is_leader.set(i64::from(leads));
    }

    /// What the files of others say, as it was heard last.
    pub(super) fn elsewhere(&self) -> Elsewhere {
        self.elsewhere.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn hear(&self, following: &Following) {
        let elsewhere = following.elsewhere.clone();
        *self.elsewhere.lock().unwrap_or_else(PoisonError::into_inner) = elsewhere;
        let files = i64::try_from(following.files).unwrap_or(i64::MAX);
        if self.files.set(files) != files && files > 1 {
            tracing::warn!(files, "sidecars decide by different files; what one of them gives, none of them ends");
        }
    }

    /// Announces the rules of a file. Until the next announcement they are what this process decides by.
    pub(super) async fn announce(&self, file: &RuleSet, now: Timestamp) -> Result<(), StoreError> {
        let Some(shared) = &self.shared else { return Ok(()) };
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let name = format!("{}/{}", host.trim(), std::process::id());
        let announcement = Announcement { name, version: env!("CARGO_PKG_VERSION"), file: Announced::of(file) };
        shared.announce(announcement, now).await
    }

    /// The catalogue, and what the files of others say. Without others the catalogue as it is.
    pub(super) async fn following(&self, known: Arc<Stored>) -> Result<(Arc<Stored>, Option<i64>), StoreError> {
        let Some(shared) = &self.shared else { return Ok((known, None)) };
        let following = shared.following().await?;
        self.hear(&following);
        Ok((Arc::new(following.stored), Some(following.revision)))
    }

    /// Rules of this epoch were made of a revision, and are the current ones.
    pub(super) fn follow(&self, epoch: u64, revision: Option<i64>) {
        if let (Some(shared), Some(revision)) = (&self.shared, revision) {
            shared.follow(epoch, revision);
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
    if let Some(shared) = core.place.shared.clone() {
        tokio::join!(follow_others(&core, &shared), lead(&core, &shared));
    }
}

async fn follow_others(core: &Arc<Core>, shared: &Shared) {
    let mut renewed: Option<Instant> = None;
    let mut is_told = false;
    loop {
        let heard = match renewed {
            Some(at) if at.elapsed() < RENEW => {
                let leads = core.place.leads();
                shared.revision().await.map(|revision| Heard { revision, leads, lapsed: false })
            }
            _ => shared.renew(core.clock.now()).await.inspect(|_| renewed = Some(Instant::now())),
        };
        let followed = match heard {
            Ok(heard) => {
                core.place.lead(heard.leads);
                follow(core, shared, heard).await
            }
            Err(error) => {
                // Its lease may have passed on by now.
                core.place.lead(false);
                Err(StartError::Store(error))
            }
        };
        match followed {
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
async fn follow(core: &Arc<Core>, shared: &Shared, heard: Heard) -> Result<(), StartError> {
    if !heard.lapsed && shared.follows() == Some(heard.revision) {
        return Ok(());
    }
    let _alone = core.reloading.lock().await;
    let file = Arc::clone(&core.current().config.rules);
    if heard.lapsed {
        tracing::warn!("this sidecar was not heard of for too long; it announces itself again");
        core.place.announce(&file, core.clock.now()).await?;
    }
    let following = shared.following().await?;
    if !heard.lapsed && shared.follows() == Some(following.revision) {
        return Ok(());
    }
    let before = core.place.elsewhere();
    core.place.hear(&following);
    let (revision, stored) = (following.revision, Arc::new(following.stored));
    let epoch = core.rules.current().epoch + 1;
    let rules = merged(&file, &stored, epoch, &following.elsewhere)?;
    // What only a file gave that no sidecar has any more ends.
    if before != following.elsewhere {
        match core.store.make_current(Arc::clone(&rules), core.clock.now()).await {
            Ok(adopted) => log_adopted(adopted),
            Err(error @ StoreError::Braked(_)) => {
                tracing::error!(%error, "what only a file of before gave does not end; people keep it until they log in");
            }
            Err(error) => return Err(error.into()),
        }
    }
    shared.follow(epoch, revision);
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
    core: (&dyn crate::ports::catalogue::Catalogue, &Store),
    config: &Config,
    now: Timestamp,
) -> Result<Arc<Stored>, StartError> {
    let (catalogue, store) = core;
    let mut tries = 5_u32;
    loop {
        match super::numbered(catalogue, store, &config.rules, now).await {
            Err(StartError::Store(StoreError::Invalid(_))) if tries > 0 => tries -= 1,
            numbered => return numbered,
        }
    }
}
