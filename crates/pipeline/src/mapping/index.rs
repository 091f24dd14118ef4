//! Which mappings a login's values touch, without walking the mappings.
//!
//! Each mapping is filed under conditions of which at least one must find a value for it to hold: an exact one by hash, a
//! pattern in one automaton for each claim. What has no such condition (negatives, roles, numbers, `always`) stays on a
//! short list that every login of its provider evaluates.
//!
//! ```text
//! all:  is "a" and is_not "b"         under "a"
//! any:  is "a" or regex "^x"          under "a" and in the automaton
//! any:  is "a" or absent              on the list
//! ```

use std::collections::HashMap;
use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use regex::{RegexSet, RegexSetBuilder};

use super::condition::{ClaimCondition, Facts, Looked, as_seen, folded, may_be_seen_otherwise};
use super::{Activity, Mapping, NearMiss, When};
use crate::claims::split::Delimiter;
use crate::ids::{ClaimName, ProviderName};
use crate::lookup::Lookup;

/// How many mappings may be without a condition to file them under.
pub const MOST_UNFILED: usize = 1_000;

/// Bytes that the automaton of one claim may take.
const AUTOMATON_SIZE: usize = 64 << 20;

/// Why rules cannot be compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    #[error(
        "{found} mappings have no positive condition on a value (`is`, `contains`, `begins_with`, `ends_with`, `glob`, `regex`) \
         and so cost every login; expected at most {MOST_UNFILED}"
    )]
    TooManyUnfiled { found: usize },
    #[error(
        "the patterns on claim `{claim}` take more than {AUTOMATON_SIZE} bytes together; expected fewer, or exact values"
    )]
    PatternsTooLarge { claim: ClaimName },
}

#[derive(Debug, Default)]
pub struct Index {
    claims: Lookup<(Option<ProviderName>, ClaimName), Vec<Table>>,
    /// What [`Entry`] refers to where a mapping is not of the short form.
    anchors: Vec<Anchor>,
    unfiled: Lookup<Option<ProviderName>, Vec<u32>>,
    hasher: RandomState,
}

/// Mappings on the values that one delimiter gives (`None`: the claim's own).
#[derive(Debug, Default)]
struct Table {
    delimiter: Option<Delimiter>,
    /// By the folded value, so that equality with and without case, and near misses, are one look-up.
    values: HashTable<Hashed>,
    /// All entries of the folded values that have more than one, by the first: few, so that the others cost eight bytes.
    several: Lookup<Entry, Vec<Entry>>,
    patterns: Vec<(u32, String)>,
    automaton: Option<RegexSet>,
}

/// A mapping of the short form by its position, or an [`Anchor`] by its number with the highest bit set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Entry(u32);

const LONG: u32 = 1 << 31;

/// An entry with half of its value's hash: what differs there is another value, and is told apart without following the
/// entry to its mapping and the mapping to its value, which a large set would have to fetch from far away.
#[derive(Debug, Clone, Copy)]
struct Hashed {
    hash: u32,
    entry: Entry,
}

/// The half that the table itself does not look at first.
#[expect(clippy::cast_possible_truncation, reason = "half of it is what is wanted")]
fn half(hash: u64) -> u32 {
    (hash >> 16) as u32
}

/// An exact condition of a mapping of the long form.
#[derive(Debug, Clone, Copy)]
struct Anchor {
    position: u32,
    condition: u32,
}

/// What an entry looks for.
struct Sought<'m> {
    position: u32,
    value: &'m str,
    ignore_case: bool,
}

impl Index {
    /// # Errors
    /// When the patterns, or what cannot be filed, are more than a login should pay for.
    pub fn build(mappings: &[Mapping]) -> Result<Self, IndexError> {
        let mut index = Self::default();
        index.reserve(mappings);
        for (mapping, position) in mappings.iter().zip(0..) {
            if mapping.activity == Activity::Active {
                index.file(mapping, position, mappings);
            }
        }
        let found = index.unfiled.values().map(Vec::len).sum();
        if found > MOST_UNFILED {
            return Err(IndexError::TooManyUnfiled { found });
        }
        for ((_, claim), tables) in &mut index.claims {
            for table in tables {
                table.compile().map_err(|_| IndexError::PatternsTooLarge { claim: claim.clone() })?;
            }
        }
        Ok(index)
    }

    /// Makes the tables of the short forms as large as they will be: a table that grows leaves its smaller selves behind
    /// as holes in the heap.
    fn reserve(&mut self, mappings: &[Mapping]) {
        let mut counts: HashMap<Key<'_>, usize> = HashMap::new();
        let mut last: Option<(Key<'_>, usize)> = None;
        for mapping in mappings.iter().filter(|mapping| mapping.activity == Activity::Active) {
            let When::Value { claim, delimiter, .. } = &mapping.when else { continue };
            let key = (&mapping.provider, claim, delimiter);
            match &mut last {
                // Neighbours in a file mostly share a table.
                Some((same, count)) if *same == key => *count += 1,
                _ => {
                    if let Some((key, count)) = last.replace((key, 1)) {
                        *counts.entry(key).or_default() += count;
                    }
                }
            }
        }
        if let Some((key, count)) = last {
            *counts.entry(key).or_default() += count;
        }
        for ((provider, claim, delimiter), count) in counts {
            let table = self.table(provider, claim, delimiter.as_ref());
            table.values = HashTable::with_capacity(count);
        }
    }

    fn table(
        &mut self,
        provider: &Option<ProviderName>,
        claim: &ClaimName,
        delimiter: Option<&Delimiter>,
    ) -> &mut Table {
        let tables = self.claims.entry((provider.clone(), claim.clone())).or_default();
        let at = match tables.iter().position(|table| table.delimiter.as_ref() == delimiter) {
            Some(at) => at,
            None => {
                tables.push(Table { delimiter: delimiter.cloned(), ..Table::default() });
                tables.len() - 1
            }
        };
        #[expect(clippy::indexing_slicing, reason = "the position was found, or pushed, two lines above")]
        &mut tables[at]
    }

    fn file(&mut self, mapping: &Mapping, position: u32, mappings: &[Mapping]) {
        match &mapping.when {
            When::Value { claim, value, delimiter } => {
                self.file_value(mapping, claim, delimiter.as_ref(), value, Entry(position), mappings);
            }
            When::Conditions { conditions, .. } => {
                for number in mapping.when.anchors() {
                    let Some(condition) = conditions.get(number).and_then(|condition| condition.claim()) else {
                        continue;
                    };
                    self.file_condition(mapping, position, number, condition, mappings);
                }
                if mapping.when.anchors().is_empty() {
                    self.unfiled.entry(mapping.provider.clone()).or_default().push(position);
                }
            }
            When::Always => self.unfiled.entry(mapping.provider.clone()).or_default().push(position),
            // Defaults are not found by values: the rule set keeps them by provider.
            When::Unmatched { .. } => {}
        }
    }

    fn file_condition(
        &mut self,
        mapping: &Mapping,
        position: u32,
        number: usize,
        condition: &ClaimCondition,
        mappings: &[Mapping],
    ) {
        let delimiter = condition.delimiter.as_ref();
        if let Some(value) = condition.exact() {
            let entry = Entry(LONG | u32::try_from(self.anchors.len()).unwrap_or(u32::MAX));
            self.anchors.push(Anchor { position, condition: u32::try_from(number).unwrap_or(u32::MAX) });
            self.file_value(mapping, &condition.claim, delimiter, value, entry, mappings);
        } else if let Some(expression) = condition.expression() {
            self.table(&mapping.provider, &condition.claim, delimiter).patterns.push((position, expression));
        }
    }

    fn file_value(
        &mut self,
        mapping: &Mapping,
        claim: &ClaimName,
        delimiter: Option<&Delimiter>,
        value: &str,
        entry: Entry,
        mappings: &[Mapping],
    ) {
        let value = folded(value);
        let hash = self.hasher.hash_one(&*value);
        let (anchors, hasher) = (std::mem::take(&mut self.anchors), self.hasher.clone());
        let of = |entry: &Entry| sought_at(*entry, &anchors, mappings).map(|sought| folded(sought.value));
        let table = self.table(&mapping.provider, claim, delimiter);
        let is_it = |known: &Hashed| known.hash == half(hash) && of(&known.entry).is_some_and(|known| known == value);
        match table.values.find(hash, is_it) {
            Some(Hashed { entry: first, .. }) => {
                table.several.entry(*first).or_insert_with(|| vec![*first]).push(entry);
            }
            None => {
                let rehash = |known: &Hashed| hasher.hash_one(of(&known.entry).as_deref().unwrap_or_default());
                table.values.insert_unique(hash, Hashed { hash: half(hash), entry }, rehash);
            }
        }
        self.anchors = anchors;
    }

    /// The mappings that some value of this login touches, by position in order, and those that it misses by case alone.
    pub fn touched(
        &self,
        provider: &ProviderName,
        facts: &Facts<'_>,
        mappings: &[Mapping],
    ) -> (Vec<u32>, Vec<NearMiss>) {
        let mut positions = Vec::new();
        let mut near = Vec::new();
        let own = Some(provider.clone());
        for claim in &facts.claims().claims {
            for whose in [&own, &None] {
                // A key is made of two pointers; looking up by borrowed parts would need a key type of its own.
                let Some(tables) = self.claims.get(&(whose.clone(), claim.name.clone())) else { continue };
                for table in tables {
                    let Looked::Pieces(pieces) = facts.look(&claim.name, table.delimiter.as_ref()) else { continue };
                    self.touched_by(table, &pieces, mappings, &mut positions, &mut near);
                }
            }
        }
        for whose in [&own, &None] {
            positions.extend_from_slice(self.unfiled.get(whose).map(Vec::as_slice).unwrap_or_default());
        }
        positions.sort_unstable();
        positions.dedup();
        near.retain(|miss| positions.binary_search(&miss.position).is_err());
        (positions, near)
    }

    /// Whether some mapping is filed under this value of a claim.
    pub fn finds(&self, provider: &ProviderName, claim: &ClaimName, value: &str, mappings: &[Mapping]) -> bool {
        let (mut positions, mut near) = (Vec::new(), Vec::new());
        for whose in [Some(provider.clone()), None] {
            for table in self.claims.get(&(whose, claim.clone())).into_iter().flatten() {
                self.touched_by(table, &[value], mappings, &mut positions, &mut near);
            }
        }
        !positions.is_empty()
    }

    /// Looks all of them up before it follows any: the look-ups, and then the fetches from far places of a large set, do
    /// not wait for each other.
    fn touched_by(
        &self,
        table: &Table,
        pieces: &[&str],
        mappings: &[Mapping],
        positions: &mut Vec<u32>,
        near: &mut Vec<NearMiss>,
    ) {
        let hashes: Vec<_> = match table.values.is_empty() {
            true => Vec::new(),
            false => pieces.iter().map(|piece| self.hasher.hash_one(&*folded(piece))).collect(),
        };
        let found: Vec<_> = pieces.iter().zip(hashes).flat_map(|(piece, hash)| table.filed(piece, hash)).collect();
        let sought: Vec<_> = found
            .iter()
            .filter_map(|(piece, entry)| Some((*piece, *entry, sought_at(*entry, &self.anchors, mappings)?)))
            .collect();
        for (piece, first, sought) in sought {
            if sought.value != piece && folded(sought.value) != folded(piece) {
                continue;
            }
            match table.several.get(&first) {
                None => note(&sought, piece, positions, near),
                Some(all) => {
                    for sought in all.iter().filter_map(|entry| sought_at(*entry, &self.anchors, mappings)) {
                        note(&sought, piece, positions, near);
                    }
                }
            }
        }
        self.nearly_touched_by(table, pieces, mappings, near);
        let Some(automaton) = &table.automaton else { return };
        for piece in pieces {
            let found = automaton.matches(piece);
            positions.extend(found.iter().filter_map(|at| table.patterns.get(at)).map(|(position, _)| *position));
        }
    }
}

impl Index {
    /// Values that look like what a condition asks for and are not it: blanks, characters that cannot be seen, accents composed in
    /// another way.
    fn nearly_touched_by(&self, table: &Table, pieces: &[&str], mappings: &[Mapping], near: &mut Vec<NearMiss>) {
        if table.values.is_empty() {
            return;
        }
        for piece in pieces.iter().filter(|piece| may_be_seen_otherwise(piece)) {
            let seen = as_seen(piece);
            if seen == folded(piece) {
                continue;
            }
            for (_, first) in table.filed(piece, self.hasher.hash_one(&*seen)) {
                let all = table.several.get(&first).map_or(std::slice::from_ref(&first), Vec::as_slice);
                let sought = all.iter().filter_map(|entry| sought_at(*entry, &self.anchors, mappings));
                for sought in sought.filter(|sought| folded(sought.value) == seen) {
                    if near.len() < NearMiss::MOST {
                        let Sought { position, value, .. } = sought;
                        near.push(NearMiss { position, expected: value.to_owned(), found: (*piece).to_owned() });
                    }
                }
            }
        }
    }
}

/// A value of a login that is, or but for its case is, what a condition asks for.
fn note(sought: &Sought<'_>, piece: &str, positions: &mut Vec<u32>, near: &mut Vec<NearMiss>) {
    if sought.ignore_case || sought.value == piece {
        positions.push(sought.position);
    } else if near.len() < NearMiss::MOST {
        let position = sought.position;
        near.push(NearMiss { position, expected: sought.value.to_owned(), found: piece.to_owned() });
    }
}

impl Table {
    /// What is filed under the hash of a value: almost always what is filed under the value, or nothing.
    fn filed<'t, 'p>(&'t self, piece: &'p str, hash: u64) -> impl Iterator<Item = (&'p str, Entry)> + use<'t, 'p> {
        let filed = self.values.iter_hash(hash).filter(move |known| known.hash == half(hash));
        filed.map(move |known| (piece, known.entry))
    }

    fn compile(&mut self) -> Result<(), regex::Error> {
        if self.patterns.is_empty() {
            return Ok(());
        }
        let expressions = self.patterns.iter_mut().map(|(_, expression)| std::mem::take(expression));
        let set = RegexSetBuilder::new(expressions).size_limit(AUTOMATON_SIZE).dfa_size_limit(8 << 20).build()?;
        self.automaton = Some(set);
        Ok(())
    }
}

type Key<'m> = (&'m Option<ProviderName>, &'m ClaimName, &'m Option<Delimiter>);

fn sought_at<'m>(entry: Entry, anchors: &[Anchor], mappings: &'m [Mapping]) -> Option<Sought<'m>> {
    if entry.0 & LONG == 0 {
        let When::Value { value, .. } = &mappings.get(entry.0 as usize)?.when else { return None };
        return Some(Sought { position: entry.0, value, ignore_case: false });
    }
    let anchor = anchors.get((entry.0 & !LONG) as usize)?;
    let When::Conditions { conditions, .. } = &mappings.get(anchor.position as usize)?.when else { return None };
    let condition = conditions.get(anchor.condition as usize)?.claim()?;
    Some(Sought { position: anchor.position, value: condition.exact()?, ignore_case: condition.ignore_case })
}
