//! The rules that logins are decided by: those of the file and of the store, with what other sidecars give.

use std::sync::Arc;

use super::StartError;
use crate::config::Config;
use crate::pipeline::ids::Timestamp;
use crate::pipeline::mapping::elsewhere::Elsewhere;
use crate::pipeline::mapping::stored::{Stored, merge};
use crate::pipeline::mapping::{IndexError, RuleSet};
use crate::ports::catalogue::{Catalogue, Revision};
use crate::ports::store::{Adopted, Store, StoreError};
use crate::serve::admin::service;

/// The rules of the file and of the store, with those of other files. Where these add nothing and the file's rules have this
/// epoch already, they are returned as they are.
pub(super) fn merged(
    file: &Arc<RuleSet>,
    stored: &Stored,
    elsewhere: Arc<Elsewhere>,
    epoch: u64,
) -> Result<Arc<RuleSet>, IndexError> {
    match stored.is_bare() && *elsewhere == Elsewhere::default() && file.epoch == epoch {
        true => Ok(Arc::clone(file)),
        false => merge(file, stored, elsewhere, epoch).map(Arc::new),
    }
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
        match number(catalogue, store, file, now).await {
            Err(StartError::Store(StoreError::Invalid(_))) if tries > 0 => tries -= 1,
            numbered => return numbered,
        }
    }
}

async fn number(
    catalogue: &dyn Catalogue,
    store: &Store,
    file: &RuleSet,
    now: Timestamp,
) -> Result<Arc<Stored>, StartError> {
    let before = Arc::new(catalogue.stored().await?);
    let mut after = Stored::clone(&before);
    let mut without = false;
    let fresh_key = || {
        service::random_key().unwrap_or_else(|| {
            without = true;
            String::new()
        })
    };
    if !after.number_declared(file, now, fresh_key) {
        return Ok(before);
    }
    if without {
        return Err(StartError::NoRandom);
    }
    after.generation += 1;
    let after = Arc::new(after);
    let revision = Revision {
        before,
        after: Arc::clone(&after),
        renamed: Vec::new(),
        rules: None,
        confirmed: false,
        client: None,
        events: Vec::new(),
        now,
    };
    store.revise(revision).await?;
    Ok(after)
}

/// Writes down what a change of the rules has ended. It holds already, whether or not that works.
pub(super) async fn finish_work(store: &Store) {
    if let Err(error) = store.finish_work().await {
        tracing::error!(%error, "failed to record the grants that changed rules ended; retrying in one minute");
    }
}

/// Names that the headers cannot carry. In the file they are faults; the store may have them from before.
pub(super) fn warn_of_untold(config: &Config, rules: &RuleSet) {
    for (name, why) in config.headers.untold(rules) {
        tracing::warn!("{name} is not sent to the app: it {why}");
    }
}

pub(super) fn log_adopted(adopted: Adopted) {
    if adopted.privileged_grants > 0 {
        tracing::warn!(
            grants = adopted.privileged_grants,
            "groups or roles became privileged: grants of them that were not made with scope `admin` ended"
        );
    }
    if adopted.ended_mappings > 0 {
        tracing::info!(
            mappings = adopted.ended_mappings,
            grants = adopted.ended_grants,
            "removed mappings ended, with their grants"
        );
    }
}
