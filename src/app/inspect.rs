//! What the admin listener sees and changes of a running sidecar.

use std::sync::Arc;

use prometheus_client::registry::Registry;

use super::Core;
use crate::config::Config;
use crate::login::outcome::Outcomes;
use crate::pipeline::ids::{ProviderName, Timestamp, UserId};
use crate::pipeline::mapping::RuleSet;
use crate::pipeline::mapping::stored::Stored;
use crate::ports::BoxFuture;
use crate::ports::catalogue::Catalogue;
use crate::ports::keys::KeySource;
use crate::ports::publish::Receiver;
use crate::ports::store::{Store, StoreError};
use crate::serve::admin::service::{Refused, World};
use crate::serve::admin::{Change, Inspect};
use crate::serve::held::Budget;
use crate::serve::relying_party::operators::Operators;
use crate::serve::relying_party::renewal::Renewed;
use crate::serve::respond::Trouble;
use crate::telemetry::meters::Meters;

impl Inspect for Arc<Core> {
    fn store(&self) -> Arc<Store> {
        Arc::clone(&self.parts.store)
    }

    fn keys(&self) -> Arc<dyn KeySource> {
        self.current().keys
    }

    fn providers(&self) -> Vec<ProviderName> {
        self.current().config.providers.iter().map(|settings| settings.provider.name.clone()).collect()
    }

    fn rules(&self) -> Arc<RuleSet> {
        self.parts.rules.current()
    }

    fn meters(&self) -> Arc<Meters> {
        Arc::clone(&self.parts.told.meters)
    }

    fn outcomes(&self) -> Arc<Outcomes> {
        Arc::clone(&self.parts.told.outcomes)
    }

    fn registry(&self) -> Arc<Registry> {
        Arc::clone(&self.registry)
    }

    fn held(&self) -> Arc<Budget> {
        Arc::clone(&self.parts.counters.held)
    }

    fn config(&self) -> Arc<Config> {
        self.current().config
    }

    fn catalogue(&self) -> Arc<dyn Catalogue> {
        Arc::clone(&self.parts.catalogue)
    }

    fn stored(&self) -> Arc<Stored> {
        self.stored.load_full()
    }

    fn file_rules(&self) -> Arc<RuleSet> {
        Arc::clone(&self.current().config.rules)
    }

    fn now(&self) -> Timestamp {
        self.parts.clock.now()
    }

    fn receiver(&self, name: &str) -> Option<Arc<dyn Receiver>> {
        self.parts.deliveries.current().iter().find(|receiver| receiver.name() == name).map(Arc::clone)
    }

    fn world(&self) -> World {
        self.whole_world()
    }

    fn operators(&self) -> Option<Arc<Operators>> {
        self.site.load().operators()
    }

    fn resync(&self, user: UserId) -> BoxFuture<'_, Result<Vec<Renewed>, Trouble>> {
        Box::pin(async move { self.site.load_full().resync(user).await })
    }

    fn change(&self, change: Change) -> BoxFuture<'_, Result<(), Refused>> {
        // A caller that disconnects must not leave the store with rules that logins never apply.
        let core = Self::clone(self);
        Box::pin(async move {
            let revising = tokio::spawn(async move { core.revise(change).await });
            revising.await.unwrap_or_else(|error| Err(Refused::Store(StoreError::Unavailable(error.to_string()))))
        })
    }
}
