//! The current rule set: read by every login, swapped whole by a reload.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::pipeline::mapping::RuleSet;

/// Holds the rule set that logins are decided by.
#[derive(Debug)]
pub struct Rules(ArcSwap<RuleSet>);

impl Rules {
    pub fn new(rules: Arc<RuleSet>) -> Self {
        Self(ArcSwap::new(rules))
    }

    pub fn current(&self) -> Arc<RuleSet> {
        self.0.load_full()
    }

    /// Replaces the set. Logins under way that computed candidates from the old one are told so by the store.
    pub fn swap(&self, rules: Arc<RuleSet>) {
        self.0.store(rules);
    }
}
