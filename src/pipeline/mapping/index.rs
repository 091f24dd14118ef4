//! The exact rules, found by hash.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Activity, Mapping};
use crate::pipeline::claims::split::Delimiter;
use crate::pipeline::ids::{ClaimName, ProviderName};

/// For each provider and claim the tables of values, one for each delimiter that a mapping sets for itself (`None`: the
/// claim's own). Only active mappings are in it.
#[derive(Debug, Default)]
pub struct Index {
    claims: HashMap<(ProviderName, ClaimName), Tables>,
}

type Tables = Vec<(Option<Delimiter>, Table)>;

/// From a value to the mappings on it, as positions in the rule set.
#[derive(Debug, Default)]
pub struct Table {
    first: HashMap<Arc<str>, u32>,
    /// All positions of the values that have more than one, by the first: few, so that the others cost four bytes each.
    several: HashMap<u32, Vec<u32>>,
}

impl Index {
    pub fn build(mappings: &[Mapping]) -> Self {
        let active = || mappings.iter().zip(0..).filter(|(mapping, _)| mapping.activity == Activity::Active);
        // Counted first: a table that grows leaves its smaller selves behind as holes in the heap.
        let mut numbers = Numbers::default();
        active().for_each(|(mapping, _)| numbers.count(mapping));
        let mut tables: Vec<Table> = numbers.counts.iter().map(|count| Table::with_capacity(*count)).collect();
        for (mapping, position) in active() {
            if let Some(table) = tables.get_mut(numbers.of(mapping)) {
                table.add(&mapping.value, position);
            }
        }
        let mut index = Self::default();
        for ((provider, claim, delimiter), table) in numbers.keys.into_iter().zip(tables) {
            let tables = index.claims.entry((provider.clone(), claim.clone())).or_default();
            tables.push((delimiter.clone(), table));
        }
        index
    }

    /// The tables that a claim's values are looked up in.
    pub fn tables(&self, provider: &ProviderName, claim: &ClaimName) -> &[(Option<Delimiter>, Table)] {
        self.claims.get(&(provider.clone(), claim.clone())).map(Vec::as_slice).unwrap_or_default()
    }
}

type Key<'m> = (&'m ProviderName, &'m ClaimName, &'m Option<Delimiter>);

/// Which table each mapping belongs to, as a number.
#[derive(Default)]
struct Numbers<'m> {
    numbers: HashMap<Key<'m>, usize>,
    keys: Vec<Key<'m>>,
    counts: Vec<usize>,
    /// Neighbours in a file mostly share a table.
    last: Option<(Key<'m>, usize)>,
}

impl<'m> Numbers<'m> {
    fn of(&mut self, mapping: &'m Mapping) -> usize {
        let key = (&mapping.provider, &mapping.claim, &mapping.delimiter);
        match self.last {
            Some((last, number)) if last == key => number,
            _ => {
                let next = self.keys.len();
                let number = *self.numbers.entry(key).or_insert(next);
                if number == next {
                    self.keys.push(key);
                    self.counts.push(0);
                }
                self.last = Some((key, number));
                number
            }
        }
    }

    fn count(&mut self, mapping: &'m Mapping) {
        let number = self.of(mapping);
        if let Some(count) = self.counts.get_mut(number) {
            *count += 1;
        }
    }
}

impl Table {
    fn with_capacity(count: usize) -> Self {
        Self { first: HashMap::with_capacity(count), several: HashMap::new() }
    }

    fn add(&mut self, value: &Arc<str>, position: u32) {
        match self.first.get(value) {
            None => {
                self.first.insert(Arc::clone(value), position);
            }
            Some(first) => self.several.entry(*first).or_insert_with(|| vec![*first]).push(position),
        }
    }

    /// The mappings on exactly this value.
    pub fn get(&self, value: &str) -> &[u32] {
        match self.first.get(value) {
            None => &[],
            Some(first) => self.several.get(first).map_or(std::slice::from_ref(first), Vec::as_slice),
        }
    }
}
