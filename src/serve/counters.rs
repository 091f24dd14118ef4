//! What the proxy counts.

use std::sync::Arc;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::serve::held::Budget;
use crate::serve::relying_party::Lasting;

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Outcome {
    /// The app answered.
    Forwarded,
    /// We answered in its place, and the request was at fault.
    Refused,
    /// We answered in its place, and the app or we were at fault.
    Failed,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OutcomeLabel {
    pub outcome: Outcome,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StageLabel {
    pub stage: &'static str,
}

/// The proxy's own numbers: shared by every site of a process, registered once.
#[derive(Debug)]
pub struct Counters {
    requests: Family<OutcomeLabel, Counter>,
    /// Kept apart, so that the usual request looks nothing up.
    pub forwarded: Counter,
    pub refusals: Family<StageLabel, Counter>,
    pub in_flight: Gauge,
    pub connections: Gauge,
    pub tunnels: Gauge,
    pub app_errors: Counter,
    /// Logins whose groups and roles did not fit into `headers.max_bytes`.
    pub headers_over_budget: Counter,
    /// Headers that were dropped for their names: with `_`, or of a trusted proxy and not named in `headers.trust`.
    pub headers_dropped: Counter,
    /// Refreshes of which the app got the tokens without a sync.
    pub unsynced: Counter,
    /// Sessions that the app's renewal of its own cookie took away.
    pub sessions_unbound: Counter,
    /// What our own pages must not forget at a reload.
    pub lasting: Arc<Lasting>,
    /// Bytes that are held of requests: counted, and bounded.
    pub held: Arc<Budget>,
}

impl Default for Counters {
    fn default() -> Self {
        let requests = Family::<OutcomeLabel, Counter>::default();
        let forwarded = requests.get_or_create_owned(&OutcomeLabel { outcome: Outcome::Forwarded });
        Self {
            requests,
            forwarded,
            refusals: Family::default(),
            in_flight: Gauge::default(),
            connections: Gauge::default(),
            tunnels: Gauge::default(),
            app_errors: Counter::default(),
            headers_over_budget: Counter::default(),
            headers_dropped: Counter::default(),
            unsynced: Counter::default(),
            sessions_unbound: Counter::default(),
            lasting: Arc::default(),
            held: Arc::default(),
        }
    }
}

impl Counters {
    pub fn request(&self, outcome: Outcome) {
        self.requests.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// Registers everything under its name.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("requests", "Requests by outcome", self.requests.clone());
        registry.register(
            "refusals",
            "Requests that were answered in the app's place, by stage",
            self.refusals.clone(),
        );
        registry.register("requests_in_flight", "Requests under way", self.in_flight.clone());
        registry.register("connections", "Open connections", self.connections.clone());
        registry.register("tunnels", "Upgraded connections", self.tunnels.clone());
        registry.register("app_errors", "Requests that the app did not answer", self.app_errors.clone());
        let budget = "Logins whose groups and roles were left out of the headers";
        registry.register("headers_over_budget", budget, self.headers_over_budget.clone());
        let dropped = "Request headers that were dropped for their names";
        registry.register("headers_dropped", dropped, self.headers_dropped.clone());
        let unsynced = "Refreshes whose tokens passed without a sync";
        registry.register("refreshes_unsynced", unsynced, self.unsynced.clone());
        let unbound = "Sessions whose identity headers stopped because the app renewed its own session cookie";
        registry.register("sessions_unbound", unbound, self.sessions_unbound.clone());
        let held = "Bytes held of bodies, large heads and login pages, of limits.held_bodies";
        registry.register_with_unit("held", held, Unit::Bytes, self.held.gauge.clone());
    }
}
