//! The current rules, and the providers that they speak of: read by every login, swapped whole by a reload or a change
//! through the APIs.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::pipeline::ids::ProviderName;
use crate::pipeline::mapping::RuleSet;
use crate::pipeline::provider::Provider;

/// Rules and providers that belong together. A login holds one pair from its first step to its last.
#[derive(Debug, Clone)]
pub struct Pair {
    pub rules: Arc<RuleSet>,
    pub providers: Vec<Arc<Provider>>,
}

impl Pair {
    /// The provider of a name.
    pub fn provider(&self, name: &ProviderName) -> Option<&Arc<Provider>> {
        self.providers.iter().find(|provider| provider.name == *name)
    }
}

/// Holds the pair that logins are decided by.
#[derive(Debug)]
pub struct Rules {
    pair: ArcSwap<Pair>,
    /// The epoch of the pair, for logins that wait for a newer one.
    epoch: watch::Sender<u64>,
}

impl Rules {
    pub fn new(rules: Arc<RuleSet>, providers: Vec<Arc<Provider>>) -> Self {
        let (epoch, _) = watch::channel(rules.epoch);
        Self { pair: ArcSwap::from_pointee(Pair { rules, providers }), epoch }
    }

    pub fn current(&self) -> Arc<RuleSet> {
        Arc::clone(&self.pair.load().rules)
    }

    /// The rules with their providers.
    pub fn pair(&self) -> Arc<Pair> {
        self.pair.load_full()
    }

    /// The pair that is newer than this epoch, once there is one: the store hears of new rules a moment before this does.
    pub async fn newer_than(&self, epoch: u64) -> Arc<Pair> {
        // The sender lives as long as `self`, so that this cannot fail.
        let _ = self.epoch.subscribe().wait_for(|current| *current > epoch).await;
        self.pair()
    }

    /// Replaces the rules; the providers stay.
    pub fn swap(&self, rules: Arc<RuleSet>) {
        let providers = self.pair.load().providers.clone();
        self.replace(rules, providers);
    }

    /// Replaces rules and providers.
    pub fn replace(&self, rules: Arc<RuleSet>, providers: Vec<Arc<Provider>>) {
        let epoch = rules.epoch;
        self.pair.store(Arc::new(Pair { rules, providers }));
        self.epoch.send_replace(epoch);
    }
}
