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
    values: HashMap<Arc<str>, Positions>,
}

/// Nearly every value has one mapping, which then needs no allocation of its own.
#[derive(Debug)]
enum Positions {
    One(u32),
    Many(Vec<u32>),
}

impl Index {
    pub fn build(mappings: &[Mapping]) -> Self {
        let mut index = Self::default();
        for (position, mapping) in mappings.iter().enumerate() {
            if mapping.activity != Activity::Active {
                continue;
            }
            let tables = index.claims.entry((mapping.provider.clone(), mapping.claim.clone())).or_default();
            let known = tables.iter().position(|(delimiter, _)| *delimiter == mapping.delimiter);
            let at = known.unwrap_or_else(|| {
                tables.push((mapping.delimiter.clone(), Table::default()));
                tables.len() - 1
            });
            if let (Some((_, table)), Ok(position)) = (tables.get_mut(at), u32::try_from(position)) {
                table.add(&mapping.value, position);
            }
        }
        index
    }

    /// The tables that a claim's values are looked up in.
    pub fn tables(&self, provider: &ProviderName, claim: &ClaimName) -> &[(Option<Delimiter>, Table)] {
        self.claims.get(&(provider.clone(), claim.clone())).map(Vec::as_slice).unwrap_or_default()
    }
}

impl Table {
    fn add(&mut self, value: &Arc<str>, position: u32) {
        use std::collections::hash_map::Entry;
        match self.values.entry(Arc::clone(value)) {
            Entry::Vacant(entry) => {
                entry.insert(Positions::One(position));
            }
            Entry::Occupied(mut entry) => match entry.get_mut() {
                Positions::One(first) => {
                    let both = vec![*first, position];
                    entry.insert(Positions::Many(both));
                }
                Positions::Many(positions) => positions.push(position),
            },
        }
    }

    /// The mappings on exactly this value.
    pub fn get(&self, value: &str) -> &[u32] {
        match self.values.get(value) {
            None => &[],
            Some(Positions::One(position)) => std::slice::from_ref(position),
            Some(Positions::Many(positions)) => positions,
        }
    }
}
