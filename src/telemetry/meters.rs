//! What the sync did, in memory: counters, the hits of each mapping, and values that no mapping reads.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use serde::Serialize;
use utoipa::ToSchema;

use super::missing::{Line, MissingClaims};
use crate::pipeline::claims::Claims;
use crate::pipeline::claims::arrived::NearName;
use crate::pipeline::ids::{ClaimName, MappingId, ProviderName, Timestamp};
use crate::pipeline::mapping::RuleSet;
use crate::pipeline::plan::Plan;

/// Different values of one claim that are counted by themselves: a stranger with a directory can make up any number.
const MOST_VALUES: usize = 1_000;

/// Counts since the process began.
#[derive(Debug, Default)]
pub struct Meters {
    guarded: Counter,
    held: Counter,
    undecided: Counter,
    look_ups: Family<LookUpLabels, Counter>,
    hits: Mutex<HashMap<MappingId, Hits>>,
    unmapped: Mutex<HashMap<(ProviderName, String), Values>>,
    missing: MissingClaims,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LookUpLabels {
    provider: String,
    outcome: &'static str,
}

#[derive(Debug, Clone, Copy)]
struct Hits {
    count: u64,
    last: Timestamp,
}

#[derive(Debug, Default)]
struct Values {
    counts: HashMap<String, u64>,
    /// Arrivals of values past the first [`MOST_VALUES`].
    others: u64,
}

/// How often a mapping held, since the process began.
#[derive(Debug, Serialize, ToSchema)]
pub struct MappingHits {
    pub mapping: String,
    pub provider: Option<String>,
    pub activity: String,
    pub hits: u64,
    /// RFC 3339; `None`: never since the process began.
    pub last_hit: Option<String>,
}

/// Values of a claim that no mapping reads, the most frequent first.
#[derive(Debug, Serialize, ToSchema)]
pub struct Unmapped {
    pub provider: String,
    pub claim: String,
    pub values: Vec<UnmappedValue>,
    /// Arrivals of values past the first thousand different ones.
    pub others: u64,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct UnmappedValue {
    pub value: String,
    pub logins: u64,
}

impl Meters {
    pub fn register(&self, registry: &mut Registry) {
        let guarded = "Revocations skipped to keep the last holder of a protected target";
        registry.register("revocations_guarded", guarded, self.guarded.clone());
        let held = "Revocations that the brake on mass revocation has stopped";
        registry.register("revocations_held", held, self.held.clone());
        let undecided = "Grants kept, since what their mapping asks could not be decided";
        registry.register("grants_undecided", undecided, self.undecided.clone());
        let look_ups = "Groups that a token left out, asked of the provider's directory, by outcome";
        registry.register("directory_lookups", look_ups, self.look_ups.clone());
    }

    /// Notes that a directory was asked, and whether it told.
    pub fn looked_up(&self, provider: &ProviderName, answered: bool) {
        let outcome = if answered { "answered" } else { "failed" };
        self.look_ups.get_or_create(&LookUpLabels { provider: provider.to_string(), outcome }).inc();
    }

    /// Notes one committed plan, and tells the operator what needs one.
    pub fn committed(&self, id: &str, plan: &Plan, now: Timestamp) {
        self.count_hits(plan, now);
        self.undecided.inc_by(plan.undecided.len() as u64);
        if !plan.guarded.is_empty() {
            self.guarded.inc_by(plan.guarded.len() as u64);
            let targets: Vec<String> = plan.guarded.iter().map(|change| change.target.to_string()).collect();
            tracing::warn!(
                %id, provider = %plan.provider, ?targets,
                "the last holder of a protected group or role keeps it, though no claim gives it any more"
            );
        }
        if let Some((by, why)) = &plan.spared {
            tracing::warn!(%id, mapping = by.label, %why, "a mapping would disable this user, and is prevented");
        }
        if !plan.braked.is_empty() {
            self.held.inc_by(plan.braked.len() as u64);
            let targets: Vec<String> = plan.braked.iter().map(ToString::to_string).collect();
            tracing::error!(
                %id, provider = %plan.provider, ?targets,
                "mass-revocation limit reached: further revocations are on hold; see `loginsync hold list`"
            );
        }
    }

    fn count_hits(&self, plan: &Plan, now: Timestamp) {
        if plan.hits.is_empty() {
            return;
        }
        let mut hits = self.hits.lock().unwrap_or_else(PoisonError::into_inner);
        for hit in &plan.hits {
            let entry = hits.entry(hit.mapping).or_insert(Hits { count: 0, last: now });
            entry.count += 1;
            entry.last = now;
        }
    }

    /// Tells the operator of claims that some mapping or gate reads and that do not come.
    pub fn note_missing(
        &self,
        id: &str,
        rules: &RuleSet,
        provider: &ProviderName,
        claims: &Claims,
        near: &[NearName],
        now: Timestamp,
    ) {
        for line in self.missing.note(rules, provider, claims, near, now) {
            match line {
                Line::Near(near) => {
                    tracing::warn!(%id, %provider, claim = near.claim, %near, "a claim is missing; one with a \
                        similar name arrived");
                }
                Line::Gone(claim) => tracing::warn!(
                    %id, %provider, %claim,
                    "no login of the last hour, by at least five people, had this claim; unless `when_missing` is `keep`, the \
                     grants that depend on it are revoked. `loginsync explain --id` lists the claims that came"
                ),
            }
        }
    }

    /// Counts the values of observed claims that no mapping reads.
    pub fn observe(&self, rules: &RuleSet, provider: &ProviderName, claims: &Claims) {
        let observed = rules.providers.get(provider).map(|rules| rules.claims.as_slice()).unwrap_or_default();
        for rule in observed.iter().filter(|rule| rule.observe) {
            let Some(claim) = claims.claims.iter().find(|claim| claim.name == rule.name) else { continue };
            let unmapped: Vec<&str> =
                claim.pieces(None).into_iter().filter(|value| !rules.maps(provider, &rule.name, value)).collect();
            if unmapped.is_empty() {
                continue;
            }
            let mut all = self.unmapped.lock().unwrap_or_else(PoisonError::into_inner);
            let values = all.entry((provider.clone(), rule.name.to_string())).or_default();
            for value in unmapped {
                let is_full = values.counts.len() >= MOST_VALUES;
                match values.counts.get_mut(value) {
                    Some(count) => *count += 1,
                    None if is_full => values.others += 1,
                    None => {
                        values.counts.insert(value.to_owned(), 1);
                    }
                }
            }
        }
    }

    /// The counts of mappings that the rules no longer have are dropped.
    pub fn retain(&self, rules: &RuleSet) {
        self.hits.lock().unwrap_or_else(PoisonError::into_inner).retain(|id, _| rules.mapping(*id).is_some());
        self.missing.retain(rules);
    }

    /// Claims that the rules read, and that no login has brought for an hour though some came.
    pub fn silent_claims(&self, rules: &RuleSet, now: Timestamp) -> Vec<(ProviderName, ClaimName)> {
        self.missing.silent(rules, now)
    }

    /// Every mapping of the rules, those that never held first.
    pub fn hits(&self, rules: &RuleSet) -> Vec<MappingHits> {
        let hits = self.hits.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<MappingHits> = rules
            .mappings()
            .iter()
            .map(|mapping| {
                let found = hits.get(&mapping.id);
                MappingHits {
                    mapping: mapping.label(),
                    provider: mapping.provider.as_ref().map(ToString::to_string),
                    activity: mapping.activity.to_string(),
                    hits: found.map_or(0, |hits| hits.count),
                    last_hit: found.map(|hits| hits.last.to_string()),
                }
            })
            .collect();
        all.sort_by_key(|mapping| mapping.hits);
        all
    }

    /// How often each mapping that ever held did, and when last, since the process began.
    pub fn hits_by_id(&self) -> HashMap<MappingId, (u64, Timestamp)> {
        let hits = self.hits.lock().unwrap_or_else(PoisonError::into_inner);
        hits.iter().map(|(id, hits)| (*id, (hits.count, hits.last))).collect()
    }

    pub fn unmapped(&self) -> Vec<Unmapped> {
        let all = self.unmapped.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found: Vec<Unmapped> = all
            .iter()
            .map(|((provider, claim), values)| {
                let counts = values.counts.iter();
                let mut values_found: Vec<UnmappedValue> =
                    counts.map(|(value, logins)| UnmappedValue { value: value.clone(), logins: *logins }).collect();
                values_found
                    .sort_by(|one, other| other.logins.cmp(&one.logins).then_with(|| one.value.cmp(&other.value)));
                let (provider, claim) = (provider.to_string(), claim.clone());
                Unmapped { provider, claim, values: values_found, others: values.others }
            })
            .collect();
        found.sort_by(|one, other| (&one.provider, &one.claim).cmp(&(&other.provider, &other.claim)));
        found
    }
}
