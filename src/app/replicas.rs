//! A sidecar among others over one database: it takes over what others have changed, and does what is done once where it leads.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::rules::{finish_work, log_adopted, merged};
use super::{Core, StartError};
use crate::pipeline::mapping::RuleSet;
use crate::pipeline::mapping::elsewhere::is_undecidable;
use crate::ports::store::StoreError;
use crate::ports::store::postgres::Shared;
use crate::ports::store::postgres::replicas::Following;

/// How often the revision of the rules is asked for: what one replica changes reaches the others within a second.
const LOOK: Duration = Duration::from_millis(400);
/// How often a leader seals rows of the audit, and how often it sweeps.
const SEAL: Duration = Duration::from_millis(500);
const SWEEP: Duration = Duration::from_secs(30);

/// Takes part, for as long as requests are answered.
pub(super) async fn take_part(core: Arc<Core>) {
    if let Some(shared) = &core.parts.place.shared {
        core.parts
            .place
            .while_here(&core.parts.clock, async { tokio::join!(follow_others(&core, shared), lead(&core, shared)) })
            .await;
    }
}

async fn follow_others(core: &Core, shared: &Shared) {
    let mut is_told = false;
    loop {
        match follow(core, shared).await {
            Ok(()) => is_told = false,
            Err(error) if !std::mem::replace(&mut is_told, true) => {
                tracing::error!(%error, "failed to load the changes of other sidecars; retrying");
            }
            Err(_) => {}
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Catches up with what others have changed. Many changes are taken over in one go.
async fn follow(core: &Core, shared: &Shared) -> Result<(), StartError> {
    let has_lapsed = core.parts.place.has_lapsed.load(Ordering::Relaxed);
    if !has_lapsed && shared.follows() == Some(shared.revision().await?) {
        return Ok(());
    }
    let _alone = core.reloading.lock().await;
    let file = Arc::clone(&core.current().config.rules);
    if has_lapsed {
        tracing::warn!("this sidecar did not reach the database for too long; announcing it again");
        core.parts.place.announce(&file, core.parts.clock.now()).await?;
    }
    let Following { revision, stored, elsewhere, files } = shared.following().await?;
    if !has_lapsed && shared.follows() == Some(revision.number) {
        return Ok(());
    }
    let before = core.parts.rules.current();
    let stored = Arc::new(stored);
    let rules = merged(&file, &stored, Arc::new(elsewhere), before.epoch + 1)?;
    // What only a file gave that no sidecar has any more ends.
    if before.elsewhere != rules.elsewhere {
        match core.parts.store.make_current(Arc::clone(&rules), core.parts.clock.now()).await {
            Ok(adopted) => log_adopted(adopted),
            Err(error @ StoreError::Braked(_)) => {
                tracing::error!(%error, "grants that only a previous rule file gave do not end; users keep them \
                    until their next login");
            }
            Err(error) => return Err(error.into()),
        }
    }
    core.parts.place.follow(rules.epoch, revision, files);
    warn_of_undecidable(&rules);
    core.parts.rules.swap(Arc::clone(&rules));
    core.stored.store(stored);
    core.parts.told.meters.retain(&rules);
    if core.parts.place.leads() {
        finish_work(&core.parts.store).await;
    }
    Ok(())
}

/// What keeps everyone out whom it is asked about.
fn warn_of_undecidable(rules: &RuleSet) {
    for gate in rules.gates.iter().filter(|gate| is_undecidable(gate)) {
        let provider = gate.provider.as_ref().map(ToString::to_string);
        tracing::warn!(
            gate = %gate.name,
            provider,
            "a gate of another sidecar's file uses names that this file does not declare: it refuses logins that depend on them"
        );
    }
}

async fn lead(core: &Core, shared: &Shared) {
    let mut swept: Option<Instant> = None;
    let mut is_told = false;
    loop {
        tokio::time::sleep(SEAL).await;
        if !core.parts.place.leads() {
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
                tracing::error!(%error, "failed to seal the audit, or to delete expired entries; retrying");
            }
            Err(_) => {}
        }
    }
}

async fn seal_all(shared: &Shared) -> Result<(), StoreError> {
    while shared.seal().await? >= Shared::SEALED_AT_ONCE {}
    Ok(())
}
