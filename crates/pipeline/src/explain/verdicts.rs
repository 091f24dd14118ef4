//! The outcome of every mapping and every gate for one login, and on which condition.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use serde::Serialize;
use utoipa::ToSchema;

use crate::claims::Claims;
use crate::ids::{MappingId, ProviderName, Target, Timestamp};
use crate::mapping::condition::{ClaimCondition, Condition, Facts, Looked, Person, Test, Truth, as_seen};
use crate::mapping::{Activity, Gate, GateRule, Join, Mapping, RuleSet, Seen, Traced, When, exhaustive, traced};
use crate::plan::{self, Snapshot, Source};

/// The outcome of one mapping.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct MappingReport {
    pub mapping: String,
    /// `None`: for every provider.
    pub provider: Option<String>,
    pub verdict: Verdict,
    /// What it asks, in one line.
    pub asks: String,
    /// What it gives: to this login where it holds, else as it is written.
    pub gives: Vec<String>,
    /// Each condition, where the mapping took part.
    pub conditions: Vec<ConditionReport>,
    /// What else there is to say of the verdict.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
    /// An earlier mapping that gives all that this one gives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shadowed_by: Option<String>,
    /// Names that captures came to and that name nothing that may be given so.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unknown: Vec<String>,
}

/// In the order in which they tell most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Hit,
    /// A claim could not be read to its end.
    Undecided,
    /// Missed, and some value would have met a condition but for its case.
    NearMiss,
    /// Switched off by the operator.
    Disabled,
    /// Provider and target have no stage in common.
    Inactive,
    /// Past its `until`.
    Expired,
    Missed,
    OtherProvider,
}

impl Verdict {
    pub fn word(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Missed => "missed",
            Self::NearMiss => "near miss",
            Self::Undecided => "undecided",
            Self::Disabled => "disabled",
            Self::Inactive => "inactive",
            Self::Expired => "expired",
            Self::OtherProvider => "other provider",
        }
    }
}

/// The outcome of one condition.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ConditionReport {
    pub says: String,
    pub truth: &'static str,
    /// Values that match: they fulfil a positive condition, and spoil a negative one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
    /// Values that would match but for their case.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub near: Vec<String>,
    /// Values that look the same and differ by blanks, invisible characters or the composition of accents.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub look_alike: Vec<String>,
}

/// The outcome of one gate.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct GateReport {
    pub gate: String,
    pub open: bool,
    pub because: String,
}

/// All of them, in the order of the rules.
#[derive(Debug)]
pub struct Verdicts {
    pub mappings: Vec<MappingReport>,
    pub gates: Vec<GateReport>,
}

/// Values that a condition reports, at most: a list of thousands explains nothing.
const MOST_VALUES: usize = 10;

/// Evaluates every mapping and every gate by itself, as a login with these claims would.
pub fn verdicts(
    rules: &RuleSet,
    provider: &ProviderName,
    claims: &Arc<Claims>,
    snapshot: &Snapshot,
    now: Timestamp,
) -> Verdicts {
    let candidates = exhaustive(rules, provider, claims);
    let traced = traced(rules, &candidates, plan::standing(snapshot, &candidates, now, rules), now);
    let facts = Facts::new(claims);
    let look = Look { rules, provider, facts: &facts, now, traced: &traced };
    Verdicts { mappings: look.mappings(), gates: look.gates(snapshot) }
}

struct Look<'a> {
    rules: &'a RuleSet,
    provider: &'a ProviderName,
    facts: &'a Facts<'a>,
    now: Timestamp,
    traced: &'a Traced,
}

impl Look<'_> {
    fn mappings(&self) -> Vec<MappingReport> {
        let seen: HashMap<u32, &Seen> = self.traced.seen.iter().map(|seen| (seen.position, seen)).collect();
        let mut given: HashMap<MappingId, Vec<&Target>> = HashMap::new();
        for hit in &self.traced.decision.hits {
            given.entry(hit.mapping).or_default().push(&hit.target);
        }
        let mut givers: HashMap<&Target, String> = HashMap::new();
        let mut reports = Vec::with_capacity(self.rules.mappings().len());
        for (mapping, position) in self.rules.mappings().iter().zip(0..) {
            let gives = given.get(&mapping.id).map(Vec::as_slice).unwrap_or_default();
            let mut report = self.mapping(mapping, seen.get(&position).copied(), gives);
            if report.verdict == Verdict::Hit {
                report.shadowed_by = shadowing(gives, &givers);
                for target in gives {
                    givers.entry(target).or_insert_with(|| mapping.label());
                }
            }
            reports.push(report);
        }
        reports
    }

    fn mapping(&self, mapping: &Mapping, seen: Option<&Seen>, gives: &[&Target]) -> MappingReport {
        let (verdict, because) = self.verdict(mapping, seen, gives);
        let conditions = match seen {
            Some(seen) => self.conditions(&mapping.when, &seen.person),
            None => Vec::new(),
        };
        let near = verdict == Verdict::Missed
            && conditions.iter().any(|one| !one.near.is_empty() || !one.look_alike.is_empty());
        let unknown = self.traced.decision.unknown.iter().filter(|(label, _)| *label == mapping.label());
        MappingReport {
            mapping: mapping.label(),
            provider: mapping.provider.as_ref().map(ToString::to_string),
            verdict: if near { Verdict::NearMiss } else { verdict },
            asks: mapping.sentence(),
            gives: match gives {
                [] => mapping.gifts(),
                gives => gives.iter().map(ToString::to_string).collect(),
            },
            conditions,
            because,
            shadowed_by: None,
            unknown: unknown.map(|(_, name)| name.clone()).collect(),
        }
    }

    fn verdict(&self, mapping: &Mapping, seen: Option<&Seen>, gives: &[&Target]) -> (Verdict, Option<String>) {
        let said = |text: &str| Some(text.to_owned());
        if !mapping.applies_to(self.provider) {
            return (Verdict::OtherProvider, None);
        }
        match mapping.activity {
            Activity::Disabled => return (Verdict::Disabled, said("`enabled` is false")),
            Activity::Inactive => return (Verdict::Inactive, said("its provider and its group share no stage")),
            Activity::Active => {}
        }
        if let Some(until) = mapping.until.filter(|until| *until <= self.now) {
            return (Verdict::Expired, Some(format!("ended {until}")));
        }
        if let When::Unmatched { claim } = &mapping.when {
            let decision = &self.traced.decision;
            return match (gives.is_empty(), decision.undecided.contains(&mapping.id)) {
                (false, _) => (Verdict::Hit, Some(format!("no other mapping on `{claim}` holds"))),
                (true, true) => (Verdict::Undecided, Some(format!("`{claim}`, or a mapping on it, is undecided"))),
                (true, false) => (Verdict::Missed, Some(format!("another mapping on `{claim}` holds"))),
            };
        }
        match seen.map_or(Truth::False, |seen| seen.truth) {
            Truth::Undecided => (Verdict::Undecided, None),
            Truth::False => (Verdict::Missed, None),
            Truth::True if gives.is_empty() && !mapping.then.disables() => self.gave_nothing(mapping),
            Truth::True => (Verdict::Hit, None),
        }
    }

    /// A mapping whose conditions hold, and that gives nothing all the same.
    fn gave_nothing(&self, mapping: &Mapping) -> (Verdict, Option<String>) {
        let sleeps = mapping.then.named().any(|target| !self.rules.meets(self.provider, target));
        match sleeps {
            true => (Verdict::Inactive, Some(String::from("the provider and its group share no stage"))),
            false => (Verdict::Hit, Some(String::from("what it captured names nothing that it may give"))),
        }
    }

    fn conditions(&self, when: &When, person: &Person) -> Vec<ConditionReport> {
        match when {
            When::Always | When::Unmatched { .. } => Vec::new(),
            When::Value { claim, value, delimiter } => {
                let condition = Condition::Claim(ClaimCondition {
                    claim: claim.clone(),
                    delimiter: delimiter.clone(),
                    ignore_case: false,
                    test: Test::Is(Arc::clone(value)),
                });
                vec![self.condition(&condition, person)]
            }
            When::Conditions { conditions, .. } => {
                conditions.iter().map(|condition| self.condition(condition, person)).collect()
            }
        }
    }

    fn condition(&self, condition: &Condition, person: &Person) -> ConditionReport {
        let truth = condition.truth(self.facts, Some(person));
        let mut report = ConditionReport {
            says: condition.to_string(),
            truth: word(truth),
            values: Vec::new(),
            near: Vec::new(),
            look_alike: Vec::new(),
        };
        let Condition::Claim(condition) = condition else { return report };
        let Looked::Pieces(pieces) = self.facts.look(&condition.claim, condition.delimiter.as_ref()) else {
            return report;
        };
        let matching = |condition: &ClaimCondition| -> Vec<String> {
            let found = pieces.iter().filter(|piece| condition.matches(piece));
            found.take(MOST_VALUES).map(|piece| (*piece).to_owned()).collect()
        };
        report.values = matching(condition);
        if truth == Truth::False && condition.is_positive() {
            report.near = condition.ignoring_case().map(|folded| matching(&folded)).unwrap_or_default();
            if let (true, Some(value)) = (report.near.is_empty(), condition.exact()) {
                let wanted = as_seen(value);
                let found = pieces.iter().filter(|piece| as_seen(piece) == wanted);
                report.look_alike = found.take(MOST_VALUES).map(|piece| (*piece).to_owned()).collect();
            }
        }
        report
    }

    // ------------------------------------------------------------------------------------------------------------ gates

    fn gates(&self, snapshot: &Snapshot) -> Vec<GateReport> {
        let own = snapshot.grants.iter().filter_map(|grant| match &grant.source {
            Source::Mapped { provider, mapping } if provider == self.provider => Some(*mapping),
            _ => None,
        });
        let holding = plan::holding(&self.traced.decision, own, self.rules, self.now);
        let applies = |gate: &&Gate| gate.provider.as_ref().is_none_or(|own| own == self.provider);
        self.rules.gates.iter().filter(applies).map(|gate| self.gate(gate, &holding)).collect()
    }

    fn gate(&self, gate: &Gate, holding: &BTreeSet<MappingId>) -> GateReport {
        let (open, because) = match &gate.rule {
            GateRule::Deny { join, conditions } => self.deny(*join, conditions),
            rule => {
                let listed = match rule {
                    GateRule::Require(listed) => {
                        let labels =
                            listed.iter().filter_map(|id| Some(format!("`{}`", self.rules.mapping(*id)?.label())));
                        labels.collect::<Vec<_>>().join(", ")
                    }
                    _ => String::from("any mapping"),
                };
                match plan::lacks_required(rule, holding, self.rules) {
                    true => (false, format!("requires {listed}, and none holds")),
                    false => (true, format!("requires {listed}, and one holds")),
                }
            }
        };
        GateReport { gate: gate.name.to_string(), open, because }
    }

    fn deny(&self, join: Join, conditions: &[Condition]) -> (bool, String) {
        let person = &self.traced.person;
        let truth = join.truth(conditions, self.facts, Some(person));
        let told: Vec<String> = conditions
            .iter()
            .map(|condition| self.condition(condition, person))
            .map(|condition| format!("{}: {}", condition.says, condition.truth))
            .collect();
        let told = told.join("; ");
        match truth {
            Truth::False => (true, format!("denies where {told}")),
            Truth::True => (false, format!("denies, since {told}")),
            Truth::Undecided => (false, format!("denies, since it cannot be decided: {told}")),
        }
    }
}

fn shadowing(gives: &[&Target], givers: &HashMap<&Target, String>) -> Option<String> {
    let (first, rest) = gives.split_first()?;
    let by = givers.get(first)?;
    rest.iter().all(|target| givers.contains_key(target)).then(|| by.clone())
}

fn word(truth: Truth) -> &'static str {
    match truth {
        Truth::True => "true",
        Truth::False => "false",
        Truth::Undecided => "undecided",
    }
}
