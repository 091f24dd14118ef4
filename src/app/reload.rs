//! Another configuration, and a change through the APIs, become what logins are decided by.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

use super::assemble::{Assembled, providers};
use super::rules::{finish_work, log_adopted, merged};
use super::{Core, Current, StartError, set_epoch};
use crate::config::Config;
use crate::pipeline::mapping::definition::TextLimits;
use crate::ports::catalogue::Revision;
use crate::ports::outbox::events::listening;
use crate::serve::admin::Change;
use crate::serve::admin::service::{Draft, Refused, World};

/// How often the configuration file is looked at.
pub(super) const LOOK: Duration = Duration::from_secs(1);
/// How long a change of the configuration file must have settled: editors and volume mounts write in several steps.
const SETTLE: Duration = Duration::from_millis(300);

impl Core {
    /// The configuration file, and the certificate that it names.
    pub(super) fn watched(&self) -> Vec<Option<(SystemTime, u64, u64)>> {
        let config = self.current().config;
        let relay = config.relay.as_ref().and_then(|relay| relay.tls.clone());
        let tls = [config.listen.tls.clone(), config.admin.tls.clone(), relay];
        let named = tls.into_iter().flatten().flat_map(|files| [files.certificate, files.key]);
        std::iter::once(self.path.clone()).chain(named).map(|path| signature(&path)).collect()
    }

    pub(super) fn current(&self) -> Current {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) async fn reload(&self) {
        let _alone = self.reloading.lock().await;
        let (path, now) = (self.path.clone(), self.parts.clock.now());
        let loading = tokio::task::spawn_blocking(move || Config::load(&path, &|name| std::env::var(name).ok(), now));
        let config = match loading.await {
            Ok(Ok(config)) => config,
            Ok(Err(faults)) => {
                tracing::error!(%faults, "the new configuration has faults; keeping the previous one");
                return;
            }
            Err(error) => {
                tracing::error!(%error, "failed to read the configuration; keeping the previous one");
                return;
            }
        };
        match self.adopt(config).await {
            Ok(()) => tracing::info!("configuration reloaded"),
            Err(error) => tracing::error!(%error, "the new configuration cannot be used; keeping the previous one"),
        }
    }

    /// Makes a checked configuration the current one. Whatever can fail comes before the first thing that changes, but a new
    /// certificate, which is good by itself.
    async fn adopt(&self, mut config: Config) -> Result<(), StartError> {
        let before = self.current();
        warn_of_fixed_settings(&before.config, &config);
        config.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        let epoch = self.parts.rules.current().epoch + 1;
        set_epoch(&mut config, epoch);
        let Assembled { keys, site, relay, receivers } = self.parts.assemble(&config, Some(&before.keys)).await?;
        let relay_tls = self.relay.as_ref().and_then(|relay| relay.tls.as_ref());
        let relay_files = config.relay.as_ref().and_then(|relay| relay.tls.as_ref());
        let listeners = [
            (self.tls.as_ref(), config.listen.tls.as_ref()),
            (self.admin_tls.as_ref(), config.admin.tls.as_ref()),
            (relay_tls, relay_files),
        ];
        for (tls, files) in listeners {
            if let (Some(tls), Some(files)) = (tls, files) {
                tls.reload(files)?;
            }
        }
        let now = self.parts.clock.now();
        // Of both: receivers that stay and new ones get what the rules end.
        let (following, followed) = (listening(&config.receivers), listening(&before.config.receivers));
        let begun = async {
            let mut both = followed.clone();
            both.extend(following.clone());
            self.parts.store.follow(&both).await?;
            self.parts.place.announce(&config.rules, now).await?;
            self.parts.begin(&config, now).await
        };
        let (stored, merged) = match begun.await {
            Ok(begun) => begun,
            Err(error) => {
                self.parts.store.follow(&followed).await?;
                self.parts.place.announce(&before.config.rules, now).await?;
                return Err(error);
            }
        };
        if let Err(error) = self.parts.store.follow(&following).await {
            tracing::warn!(%error, "changes are still recorded for removed receivers; the next reload stops this");
        }
        self.parts.rules.replace(Arc::clone(&merged), providers(&config));
        self.parts.deliveries.replace(receivers);
        self.stored.store(stored);
        self.parts.told.meters.retain(&merged);
        self.parts.told.outcomes.remember(config.console.enabled);
        self.site.store(Arc::new(site));
        if let Some(current) = &self.relay {
            let relay = relay.unwrap_or_else(|| current.relay.load().without_providers());
            current.relay.store(Arc::new(relay));
        }
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Current { config: Arc::new(config), keys };
        finish_work(&self.parts.store).await;
        Ok(())
    }

    pub(super) fn whole_world(&self) -> World {
        let config = self.current().config;
        World {
            file: Arc::clone(&config.rules),
            rules: self.parts.rules.current(),
            stored: self.stored.load_full(),
            limits: TextLimits {
                claim_name: config.limits.claim_name,
                claim_value: config.limits.claim_value,
                delimiter: config.limits.delimiter,
            },
            most_mappings: config.limits.mappings,
            headers: config.headers.clone(),
            now: self.parts.clock.now(),
        }
    }

    /// Plans a change on what there is, and makes it what logins are decided by. Concurrent calls wait.
    pub(super) async fn revise(&self, change: Change) -> Result<(), Refused> {
        let _alone = self.reloading.lock().await;
        let world = self.whole_world();
        let (before, now) = (Arc::clone(&world.stored), world.now);
        let Draft { mut after, renamed, events, exempt } = (change.edit)(&world)?;
        after.generation = before.generation + 1;
        let after = Arc::new(after);
        let rules = merged(&world.file, &after, Arc::clone(&world.rules.elsewhere), world.rules.epoch + 1);
        let rules = rules.map_err(|why| Refused::Conflict(why.to_string()))?;
        let revision = Revision {
            before,
            after: Arc::clone(&after),
            renamed,
            rules: Some(Arc::clone(&rules)),
            confirmed: change.confirmed || exempt,
            client: Some(change.client),
            events,
            now,
        };
        let adopted = self.parts.store.revise(revision).await?;
        self.parts.rules.swap(Arc::clone(&rules));
        self.stored.store(after);
        self.parts.told.meters.retain(&rules);
        log_adopted(adopted);
        finish_work(&self.parts.store).await;
        Ok(())
    }
}

/// Listeners and the store are opened once.
fn warn_of_fixed_settings(before: &Config, after: &Config) {
    let fixed = [
        (
            "listen.address",
            (before.listen.address, &before.listen.socket) != (after.listen.address, &after.listen.socket),
        ),
        ("listen.tls_certificate", before.listen.tls.is_some() != after.listen.tls.is_some()),
        (
            "relay",
            before.relay.as_ref().map(|relay| (relay.address, relay.tls.is_some()))
                != after.relay.as_ref().map(|relay| (relay.address, relay.tls.is_some())),
        ),
        ("admin.tls_certificate", before.admin.tls.is_some() != after.admin.tls.is_some()),
        ("admin.address", before.admin.address != after.admin.address),
        ("store", before.store != after.store),
        ("audit", before.audit_key != after.audit_key),
    ];
    for (key, _) in fixed.into_iter().filter(|(_, changed)| *changed) {
        tracing::warn!(key, "this key takes effect at the next start");
    }
}

/// What tells that a file was written or replaced: editors, ConfigMaps and secrets do the latter.
fn signature(path: &Path) -> Option<(SystemTime, u64, u64)> {
    let found = std::fs::metadata(path).ok()?;
    Some((found.modified().ok()?, found.len(), found.ino()))
}

/// Looks at a few files once a second. Being told of changes would mean being told of every write to a database that lives
/// in the same folder, which costs a login more than its verification.
pub(super) async fn reload_on_change(core: Arc<Core>, shutdown: impl Future<Output = ()>) {
    let reload = async {
        let mut seen = core.watched();
        loop {
            tokio::time::sleep(LOOK).await;
            let mut found = core.watched();
            if found == seen {
                continue;
            }
            // A program that writes in several steps has time to finish.
            loop {
                tokio::time::sleep(SETTLE).await;
                let settled = core.watched();
                if settled == found {
                    break;
                }
                found = settled;
            }
            core.reload().await;
            seen = core.watched();
        }
    };
    tokio::select! {
        () = reload => {}
        () = shutdown => {}
    }
}
