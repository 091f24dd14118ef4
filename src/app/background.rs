//! What a sidecar does in the background: ends expired leases and denies, plans people again, and logs the head of the audit.

use std::sync::Arc;
use std::time::Duration;

use super::Core;
use super::reload::LOOK;
use crate::pipeline::mapping::{Apply, RuleSet};
use crate::ports::store::{Reaped, Store};

/// How many looks at the rules go by between two rounds of the reaper.
const REAP_INTERVAL: u32 = 60;
/// How often the head of the audit chain is logged, so that a chain cut off at its end shows.
const HEAD_INTERVAL: Duration = Duration::from_secs(60);

pub(super) async fn log_audit_head(core: Arc<Core>, shutdown: impl Future<Output = ()>) {
    let heads = async {
        loop {
            tokio::time::sleep(HEAD_INTERVAL).await;
            log_head(&core.parts.store).await;
        }
    };
    tokio::select! {
        () = heads => {}
        () = shutdown => {}
    }
}

/// Ends expired leases and denies, and plans everyone again where the rules changed and `sync.apply` is `now`. One after the
/// other, so that
/// logins find the store free in between.
pub(super) async fn reap(core: Arc<Core>, shutdown: impl Future<Output = ()>) {
    let rounds = async {
        loop {
            let (rules, leads) = (core.parts.rules.current(), core.parts.place.leads());
            if leads {
                reap_all(&core, &rules).await;
            }
            if leads && rules.sync.apply == Apply::Now {
                replan_all(&core, &rules).await;
            }
            // A reload is looked for often, since `now` means it; expiry can wait as long as an operator's patience.
            for _ in 0..REAP_INTERVAL {
                tokio::time::sleep(LOOK).await;
                if !Arc::ptr_eq(&core.parts.rules.current(), &rules) || core.parts.place.leads() != leads {
                    break;
                }
            }
        }
    };
    tokio::select! {
        () = rounds => {}
        () = shutdown => {}
    }
}

async fn reap_all(core: &Core, rules: &Arc<RuleSet>) {
    loop {
        match core.parts.store.reap(Arc::clone(rules), core.parts.clock.now()).await {
            Ok(reaped) if reaped == Reaped::default() => return,
            Ok(reaped) => {
                tracing::info!(
                    leases = reaped.leases,
                    denies = reaped.denies,
                    expired = reaped.expired,
                    "ended expired leases, denies and mappings"
                );
                if reaped.leases == 0 {
                    return;
                }
            }
            Err(error) => {
                return tracing::error!(%error, "failed to expire due leases and denies; retrying in one minute");
            }
        }
    }
}

async fn replan_all(core: &Core, rules: &Arc<RuleSet>) {
    let (mut after, mut changed) = (None, 0);
    loop {
        match core.parts.store.replan(Arc::clone(rules), after, None, core.parts.clock.now()).await {
            Ok(replanned) => {
                changed += replanned.changed;
                after = replanned.next;
            }
            Err(error) => {
                return tracing::error!(%error, "failed to plan users again after the rules changed; retrying in one minute");
            }
        }
        // Newer rules plan everyone again.
        if after.is_none() || !Arc::ptr_eq(&core.parts.rules.current(), rules) {
            break;
        }
    }
    if changed > 0 {
        tracing::info!(changed, "planned users again by the changed rules");
    }
}

pub(super) async fn log_head(store: &Store) {
    match store.audit_head().await {
        Ok(Some((sequence, seal))) => tracing::info!(sequence, seal, "head of the audit chain"),
        Ok(None) => {}
        Err(error) => tracing::error!(%error, "failed to read the head of the audit chain"),
    }
}
