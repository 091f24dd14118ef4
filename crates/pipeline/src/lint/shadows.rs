//! Mappings that another makes needless: a login that matches one matches the other, which gives the same.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Lint, Linter, about};
use crate::claims::split::Delimiter;
use crate::ids::{ClaimName, Target};
use crate::mapping::condition::{ClaimCondition, Condition, Test};
use crate::mapping::{Join, Mapping, When};

type Value<'m> = (&'m Target, &'m ClaimName, Option<&'m Delimiter>, &'m str);

/// Mappings that ask for one thing alone, by what they give.
#[derive(Default)]
struct Wide<'m> {
    always: HashMap<&'m Target, &'m Mapping>,
    /// By equality: several where providers differ.
    exact: HashMap<Value<'m>, Vec<&'m Mapping>>,
    /// By any other positive test of text.
    patterns: HashMap<(&'m Target, &'m ClaimName), Vec<(&'m Mapping, &'m ClaimCondition)>>,
}

pub(super) fn find(linter: &mut Linter<'_>) {
    let rules = linter.rules;
    let live = || rules.mappings().iter().filter(|mapping| mapping.is_live(linter.now) && !mapping.is_default());
    let wide = Wide::of(live());
    let mut found = Vec::new();
    for mapping in live() {
        let targets: Vec<&Target> = mapping.then.named().collect();
        let covered: Option<Vec<&Mapping>> = targets.iter().map(|target| wide.covers(mapping, target)).collect();
        // A capture may give more than the names.
        if let Some([first, ..]) = covered.as_deref()
            && mapping.gifts().len() == targets.len()
        {
            found.push((about(mapping), format!("`{}` gives the same to all that it holds for", first.label())));
        }
    }
    for (about, message) in found {
        linter.find(Lint::Shadowed, about, message);
    }
}

impl<'m> Wide<'m> {
    fn of(live: impl Iterator<Item = &'m Mapping>) -> Self {
        let mut wide = Self::default();
        // One that ends covers nothing for long.
        for mapping in live.filter(|mapping| mapping.until.is_none()) {
            for target in mapping.then.named() {
                wide.note(mapping, target);
            }
        }
        wide
    }

    fn note(&mut self, mapping: &'m Mapping, target: &'m Target) {
        match &mapping.when {
            When::Always => {
                self.always.entry(target).or_insert(mapping);
            }
            When::Value { claim, value, delimiter } => {
                self.exact.entry((target, claim, delimiter.as_ref(), value)).or_default().push(mapping);
            }
            When::Conditions { conditions, .. } => {
                let [Condition::Claim(condition)] = &conditions[..] else { return };
                match &condition.test {
                    Test::Is(value) if !condition.ignore_case => {
                        let key = (target, &condition.claim, condition.delimiter.as_ref(), &**value);
                        self.exact.entry(key).or_default().push(mapping);
                    }
                    _ if condition.is_positive() => {
                        self.patterns.entry((target, &condition.claim)).or_default().push((mapping, condition));
                    }
                    _ => {}
                }
            }
            When::Unmatched { .. } => {}
        }
    }

    /// A mapping that gives the target to everybody to whom `mapping` would.
    fn covers(&self, mapping: &Mapping, target: &Target) -> Option<&'m Mapping> {
        let wider = |other: &&'m Mapping| {
            other.id != mapping.id && (other.provider.is_none() || other.provider == mapping.provider)
        };
        if let Some(always) = self.always.get(target).copied().filter(wider) {
            return Some(always);
        }
        let met = |claim: &'_ ClaimName, delimiter: Option<&Delimiter>, value: &Arc<str>| {
            self.meets(mapping, (target, claim, delimiter, value), &wider)
        };
        match &mapping.when {
            When::Value { claim, value, delimiter } => met(claim, delimiter.as_ref(), value),
            When::Conditions { join: Join::All, conditions } => {
                conditions.iter().filter_map(Condition::claim).find_map(|condition| {
                    let value = condition.exact().filter(|_| !condition.ignore_case)?;
                    met(&condition.claim, condition.delimiter.as_ref(), value)
                })
            }
            _ => None,
        }
    }

    /// A mapping whose one condition a value meets. Of two that say the same, the later is the needless one.
    fn meets(&self, own: &Mapping, key: Value<'_>, wider: &impl Fn(&&'m Mapping) -> bool) -> Option<&'m Mapping> {
        let (target, claim, delimiter, value) = key;
        if let Some(same) = self.exact.get(&key) {
            let place = same.iter().position(|other| other.id == own.id).unwrap_or(same.len());
            let found = same.iter().copied().enumerate().find(|(at, other)| {
                wider(other) && (*at < place || (other.provider.is_none() && own.provider.is_some()))
            });
            if let Some((_, found)) = found {
                return Some(found);
            }
        }
        let patterns = self.patterns.get(&(target, claim))?;
        let met = patterns.iter().find(|(other, condition)| {
            wider(other) && condition.delimiter.as_ref() == delimiter && condition.matches(value)
        });
        met.map(|(other, _)| *other)
    }
}
