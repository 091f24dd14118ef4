//! From the claims of a login to what it should have: first what claims alone decide, then the rest.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use super::action::Given;
use super::condition::{Condition, Facts, Looked, Person, Truth};
use super::{GateRule, Join, Mapping, NearMiss, RuleSet, When};
use crate::claims::Claims;
use crate::ids::{ClaimName, MappingId, ProviderName, RoleName, Target, Timestamp};

/// What the claims alone ask for: the input of the plan.
#[derive(Debug, Clone)]
pub struct Candidates {
    pub provider: ProviderName,
    pub claims: Arc<Claims>,
    /// Mappings that these claims touch, in the order of the rules.
    touched: Vec<Touched>,
    pub near_misses: Vec<NearMiss>,
}

#[derive(Debug, Clone)]
struct Touched {
    position: u32,
    verdict: Verdict,
}

/// What claims alone say of a mapping.
#[derive(Debug, Clone)]
enum Verdict {
    /// It holds, and gives what it names.
    Holds,
    /// It holds, and gives this.
    Gives(Arc<Given>),
    /// The result depends on the person, or nothing can be decided.
    Open,
}

impl Candidates {
    /// How many mappings these claims touch.
    pub fn touched(&self) -> usize {
        self.touched.len()
    }
}

/// Evaluates the rules on a login's claims. Cost follows the values of these claims, not the number of rules.
pub fn candidates(rules: &RuleSet, provider: &ProviderName, claims: &Arc<Claims>) -> Candidates {
    let facts = Facts::new(claims);
    let (positions, near_misses) = rules.index.touched(provider, &facts, &rules.mappings);
    let touched = positions.into_iter().filter_map(|position| touch(rules, position, &facts)).collect();
    Candidates { provider: provider.clone(), claims: Arc::clone(claims), touched, near_misses }
}

/// The same without the index: every mapping is evaluated. For tests of the index, and for `explain`.
pub fn exhaustive(rules: &RuleSet, provider: &ProviderName, claims: &Arc<Claims>) -> Candidates {
    let all = rules.mappings.iter().zip(0..).filter(|(mapping, _)| mapping.applies_to(provider));
    let touched = all.map(|(_, position)| Touched { position, verdict: Verdict::Open }).collect();
    Candidates { provider: provider.clone(), claims: Arc::clone(claims), touched, near_misses: Vec::new() }
}

fn touch(rules: &RuleSet, position: u32, facts: &Facts<'_>) -> Option<Touched> {
    let mapping = rules.mappings.get(position as usize)?;
    // A mapping of the short form was found by its value: there is nothing left to ask.
    if let When::Value { .. } = &mapping.when {
        return Some(Touched { position, verdict: Verdict::Holds });
    }
    let verdict = match truth_of(&mapping.when, facts, None) {
        Truth::False => return None,
        Truth::True => Verdict::Gives(Arc::new(mapping.then.given(mapping.when.capturing(), facts, rules))),
        Truth::Undecided => Verdict::Open,
    };
    Some(Touched { position, verdict })
}

/// Whether one of the conditions holds by claims alone.
pub fn holds_by_claim(when: &When, claims: &Claims) -> bool {
    let facts = Facts::new(claims);
    let mut conditions = when.conditions().iter().filter(|condition| condition.claim().is_some());
    conditions.any(|condition| condition.truth(&facts, None) == Truth::True)
}

/// The outcome of conditions. Without a person, what asks about one is undecided; a default is decided elsewhere.
pub fn truth_of(when: &When, facts: &Facts<'_>, person: Option<&Person>) -> Truth {
    match when {
        When::Always => Truth::True,
        When::Conditions { join, conditions } => join.truth(conditions, facts, person),
        When::Value { claim, value, delimiter } => match facts.look(claim, delimiter.as_ref()) {
            Looked::Undeclared => Truth::False,
            Looked::Undecided => Truth::Undecided,
            Looked::Pieces(pieces) => Truth::from(pieces.iter().any(|piece| *piece == &**value)),
        },
        When::Unmatched { .. } => Truth::Undecided,
    }
}

impl Join {
    pub fn truth(self, conditions: &[Condition], facts: &Facts<'_>, person: Option<&Person>) -> Truth {
        let truths = conditions.iter().map(|condition| condition.truth(facts, person));
        match self {
            Self::All => Truth::all(truths),
            Self::Any => Truth::any(truths),
        }
    }
}

/// What is known of the person before the mappings run.
#[derive(Debug, Clone)]
pub struct Standing<'a> {
    /// Effective roles, less what this provider's mappings gave.
    pub roles: BTreeSet<RoleName>,
    /// Roles that count if what this login cannot decide holds.
    pub maybe: BTreeSet<RoleName>,
    pub denied: &'a BTreeSet<Target>,
    /// Whole days since the login before this one; `None` at a first login.
    pub idle_days: Option<i64>,
    /// The mappings of this provider through which the person holds something.
    pub mapped: BTreeSet<MappingId>,
}

/// The outcome of the rules for one login.
#[derive(Debug, Default)]
pub struct Decision {
    /// What the person should have, in the order of the rules; then the defaults.
    pub hits: Vec<Hit>,
    /// Mappings that cannot be decided: what they gave before stays, and nothing new comes of them.
    pub undecided: BTreeSet<MappingId>,
    /// The mapping that disables the user: one without exemptions, if there is such.
    pub disabled_by: Option<Disabling>,
    /// The gate that refuses.
    pub denied_by: Option<Denied>,
    /// Names that captures came to and that name nothing that may be given so, each with its mapping.
    pub unknown: Vec<(String, String)>,
}

/// A gate whose conditions keep the person out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    pub name: Arc<str>,
    /// What the person is told.
    pub message: String,
    /// No gate is known to hold: one cannot be decided.
    pub undecided: bool,
}

/// A mapping that holds, and disables the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disabling {
    pub mapping: MappingId,
    pub label: String,
}

/// A mapping that holds, and one thing that it gives.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hit {
    pub mapping: MappingId,
    pub target: Target,
    pub label: String,
}

impl fmt::Display for Hit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} by `{}`", self.target, self.label)
    }
}

/// Runs the mappings in order, on what the claims brought and on what the person holds.
pub fn decide(rules: &RuleSet, candidates: &Candidates, standing: Standing<'_>, now: Timestamp) -> Decision {
    run(rules, candidates, standing, now, None).decision
}

/// The same, with the outcome of every mapping on the way, and the person at the end. For `explain`.
pub fn traced(rules: &RuleSet, candidates: &Candidates, standing: Standing<'_>, now: Timestamp) -> Traced {
    run(rules, candidates, standing, now, Some(Vec::new()))
}

/// A decision, and how it came about.
#[derive(Debug)]
pub struct Traced {
    pub decision: Decision,
    /// The mappings that took part, in the order in which they ran; defaults are not among them.
    pub seen: Vec<Seen>,
    /// What the gates see.
    pub person: Person,
}

/// The outcome of a mapping, and the person as it was known then.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Its place in the order of the rules.
    pub position: u32,
    pub truth: Truth,
    pub person: Person,
}

fn run(
    rules: &RuleSet,
    candidates: &Candidates,
    standing: Standing<'_>,
    now: Timestamp,
    seen: Option<Vec<Seen>>,
) -> Traced {
    let facts = Facts::new(&candidates.claims);
    let Standing { roles, maybe, denied, idle_days, mapped } = standing;
    let mut run = Run {
        rules,
        provider: &candidates.provider,
        facts: &facts,
        denied,
        now,
        person: Person { roles, maybe, idle_days },
        matched: BTreeSet::new(),
        maybe_matched: BTreeSet::new(),
        watches_claims: rules.defaults.contains_key(&candidates.provider),
        decision: Decision::default(),
        seen,
    };
    for (position, verdict) in run.order(candidates, &mapped) {
        run.mapping(position, verdict);
    }
    run.defaults();
    run.gates();
    Traced { decision: run.decision, seen: run.seen.unwrap_or_default(), person: run.person }
}

/// One pass over the mappings that matter.
struct Run<'a> {
    rules: &'a RuleSet,
    provider: &'a ProviderName,
    facts: &'a Facts<'a>,
    denied: &'a BTreeSet<Target>,
    now: Timestamp,
    person: Person,
    /// Claims on which some mapping holds, or may.
    matched: BTreeSet<ClaimName>,
    maybe_matched: BTreeSet<ClaimName>,
    /// Some default asks for the two sets above.
    watches_claims: bool,
    decision: Decision,
    /// `None` where no report needs it.
    seen: Option<Vec<Seen>>,
}

impl<'a> Run<'a> {
    /// The mappings to run, in order. Those that no value touches are false, unless a claim cannot be decided: then the ones
    /// through which the person holds something, and the ones on which others depend, may be undecided.
    fn order<'c>(&self, candidates: &'c Candidates, mapped: &BTreeSet<MappingId>) -> BTreeMap<u32, &'c Verdict> {
        let mut order: BTreeMap<u32, &Verdict> = BTreeMap::new();
        if self.facts.has_undecided() {
            order.extend(mapped.iter().filter_map(|id| Some((self.rules.position(*id)?, &Verdict::Open))));
            order.extend(self.rules.dependable.iter().map(|position| (*position, &Verdict::Open)));
        }
        order.extend(candidates.touched.iter().map(|touched| (touched.position, &touched.verdict)));
        order
    }

    fn mapping(&mut self, position: u32, verdict: &Verdict) {
        let Some(mapping) = self.rules.mappings.get(position as usize) else { return };
        if !mapping.applies_to(self.provider) || !mapping.is_live(self.now) || mapping.is_default() {
            return;
        }
        match verdict {
            Verdict::Holds => return self.holds(mapping, mapping.then.named(), &[]),
            Verdict::Gives(given) => return self.holds(mapping, given.targets.iter(), &given.unknown),
            Verdict::Open => {}
        }
        let truth = truth_of(&mapping.when, self.facts, Some(&self.person));
        if let Some(seen) = &mut self.seen {
            seen.push(Seen { position, truth, person: self.person.clone() });
        }
        match truth {
            Truth::True => {
                let given = mapping.then.given(mapping.when.capturing(), self.facts, self.rules);
                self.holds(mapping, given.targets.iter(), &given.unknown);
            }
            Truth::Undecided => self.undecided(mapping),
            Truth::False => {}
        }
    }

    fn holds<'t>(&mut self, mapping: &Mapping, targets: impl Iterator<Item = &'t Target>, unknown: &[String]) {
        let rules = self.rules;
        let (met, strange): (Vec<_>, Vec<_>) = targets.partition(|target| rules.meets(self.provider, target));
        // One whose targets are all of other stages does nothing here, and keeps no default away.
        let is_idle = met.is_empty() && !strange.is_empty() && !mapping.then.disables();
        if self.watches_claims && !is_idle {
            self.matched.extend(mapping.when.claims().cloned());
        }
        if mapping.then.disables() {
            let spares = self.rules.spares(mapping.id);
            let stronger = |found: &Disabling| self.rules.spares(found.mapping) && !spares;
            if self.decision.disabled_by.as_ref().is_none_or(stronger) {
                self.decision.disabled_by = Some(Disabling { mapping: mapping.id, label: mapping.label() });
            }
        }
        for target in met {
            self.gives(target);
            self.decision.hits.push(Hit { mapping: mapping.id, target: target.clone(), label: mapping.label() });
        }
        let unknown = unknown.iter().map(|name| (mapping.label(), name.clone()));
        self.decision.unknown.extend(unknown);
    }

    /// What later mappings see.
    fn gives(&mut self, target: &Target) {
        if self.denied.contains(target) {
            return;
        }
        let roles = match target {
            Target::Group(group) => self.rules.roles_of(group),
            Target::Role(role) => std::slice::from_ref(role),
        };
        let held = roles.iter().filter(|role| !self.denied.contains(&Target::Role((*role).clone())));
        self.person.roles.extend(held.cloned());
    }

    fn undecided(&mut self, mapping: &Mapping) {
        let mut named = mapping.then.named().peekable();
        let is_idle = named.peek().is_some()
            && !named.any(|target| self.rules.meets(self.provider, target))
            && !mapping.then.captures()
            && !mapping.then.disables();
        if self.watches_claims && !is_idle {
            self.maybe_matched.extend(mapping.when.claims().cloned());
        }
        let roles = self.rules.roles_by(mapping);
        let may = roles.into_iter().filter(|role| !self.denied.contains(&Target::Role((*role).clone())));
        self.person.maybe.extend(may.cloned());
        self.decision.undecided.insert(mapping.id);
    }

    fn defaults(&mut self) {
        let rules = self.rules;
        for position in rules.defaults.get(self.provider).map(Vec::as_slice).unwrap_or_default() {
            let Some(mapping) = rules.mappings.get(*position as usize) else { continue };
            let When::Unmatched { claim } = &mapping.when else { continue };
            if !mapping.is_live(self.now) {
                continue;
            }
            match self.facts.look(claim, None) {
                Looked::Undeclared => {}
                _ if self.matched.contains(claim) => {}
                Looked::Undecided => self.decision.undecided.extend([mapping.id]),
                Looked::Pieces(_) if self.maybe_matched.contains(claim) => {
                    self.decision.undecided.extend([mapping.id]);
                }
                Looked::Pieces(_) => {
                    let met = mapping.then.named().filter(|target| rules.meets(self.provider, target));
                    let hits =
                        met.map(|target| Hit { mapping: mapping.id, target: target.clone(), label: mapping.label() });
                    self.decision.hits.extend(hits);
                }
            }
        }
    }

    /// A gate that cannot be decided refuses: it is there to keep people out.
    fn gates(&mut self) {
        let applies = |provider: &Option<ProviderName>| provider.as_ref().is_none_or(|own| own == self.provider);
        for gate in self.rules.gates.iter().filter(|gate| applies(&gate.provider)) {
            let GateRule::Deny { join, conditions } = &gate.rule else { continue };
            let undecided = match join.truth(conditions, self.facts, Some(&self.person)) {
                Truth::False => continue,
                Truth::Undecided => true,
                Truth::True => false,
            };
            let (name, message) = (Arc::clone(&gate.name), gate.message.clone());
            self.decision.denied_by.get_or_insert(Denied { name, message, undecided: true }).undecided &= undecided;
            if !undecided {
                return;
            }
        }
    }
}
