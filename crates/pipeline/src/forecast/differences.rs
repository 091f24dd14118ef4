//! Which mappings two rule sets do not have in common.

use std::collections::HashMap;

use serde::Serialize;
use utoipa::ToSchema;

use crate::ids::{MappingId, Timestamp};
use crate::mapping::{Mapping, RuleSet};

/// Mappings that are added, removed or edited. Lists are cut at the limit of details; the counts are not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Differences {
    /// The mappings that hold now are known. Else these are the mappings that grants miss, and those by which logins would
    /// change something.
    pub compared: bool,
    pub added: u64,
    pub removed: u64,
    pub edited: u64,
    pub changes: Vec<MappingChange>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct MappingChange {
    pub change: &'static str,
    pub mapping: String,
    /// What it asks and gives under the new rules, or did under the old.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub says: Option<String>,
    /// Without a name: an edit of it is a removal and an addition, and ends its grants.
    pub unnamed: bool,
    /// Grants that it holds now.
    pub grants: u64,
    /// Of those, how many end.
    pub going: u64,
    /// How many it gives that it does not hold.
    pub coming: u64,
}

/// What logins under the new rules would do to the grants of one mapping.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moves {
    pub going: u64,
    pub coming: u64,
}

/// What is counted of the grants of all mappings.
struct Counted<'c> {
    granting: &'c HashMap<MappingId, u64>,
    moving: &'c HashMap<MappingId, Moves>,
}

impl Counted<'_> {
    fn grants(&self, id: MappingId) -> u64 {
        self.granting.get(&id).copied().unwrap_or_default()
    }

    fn moves(&self, id: MappingId) -> Moves {
        self.moving.get(&id).copied().unwrap_or_default()
    }

    /// All of its grants end, without a login.
    fn ended(&self, id: MappingId) -> Moves {
        Moves { going: self.grants(id), coming: 0 }
    }
}

impl Differences {
    pub fn is_empty(&self) -> bool {
        self.added + self.removed + self.edited == 0
    }

    pub(super) fn find(
        old: Option<&RuleSet>,
        new: &RuleSet,
        granting: &HashMap<MappingId, u64>,
        moving: &HashMap<MappingId, Moves>,
        now: Timestamp,
        limit: usize,
    ) -> Self {
        let mut found = Self { compared: old.is_some(), ..Self::default() };
        let counted = Counted { granting, moving };
        match old {
            Some(old) => found.compare(old, new, &counted, limit),
            None => found.gather(new, &counted, now, limit),
        }
        found
    }

    fn compare(&mut self, old: &RuleSet, new: &RuleSet, counted: &Counted<'_>, limit: usize) {
        for mapping in old.mappings().iter().filter(|mapping| new.mapping(mapping.id).is_none()) {
            self.removed += 1;
            self.note("removed", mapping, counted, counted.ended(mapping.id), limit);
        }
        for mapping in new.mappings() {
            let moves = counted.moves(mapping.id);
            match old.mapping(mapping.id) {
                None => {
                    self.added += 1;
                    self.note("added", mapping, counted, moves, limit);
                }
                Some(before) if content(before) != content(mapping) => {
                    self.edited += 1;
                    self.note("edited", mapping, counted, moves, limit);
                }
                Some(_) => {}
            }
        }
    }

    /// What grants tell: those of a mapping that is gone, and of one that logins would not give them by.
    fn gather(&mut self, new: &RuleSet, counted: &Counted<'_>, now: Timestamp, limit: usize) {
        let mut concerned: Vec<MappingId> = counted.granting.keys().chain(counted.moving.keys()).copied().collect();
        concerned.sort_unstable();
        concerned.dedup();
        for id in concerned {
            let (grants, moves) = (counted.grants(id), counted.moves(id));
            match new.mapping(id) {
                Some(mapping) if mapping.is_live(now) && moves == Moves::default() => {}
                Some(mapping) if mapping.is_live(now) && grants == 0 => {
                    self.added += 1;
                    self.note("gives anew", mapping, counted, moves, limit);
                }
                Some(mapping) if mapping.is_live(now) => {
                    self.edited += 1;
                    self.note("gives otherwise", mapping, counted, moves, limit);
                }
                Some(mapping) => {
                    self.edited += 1;
                    self.note("switched off", mapping, counted, counted.ended(id), limit);
                }
                None => {
                    self.removed += 1;
                    let (mapping, Moves { going, coming }) = (id.to_string(), counted.ended(id));
                    let change = "removed";
                    self.keep(
                        MappingChange { change, mapping, says: None, unnamed: false, grants, going, coming },
                        limit,
                    );
                }
            }
        }
    }

    fn note(&mut self, change: &'static str, mapping: &Mapping, counted: &Counted<'_>, moves: Moves, limit: usize) {
        let says = format!("{}: {}", mapping.sentence(), mapping.gifts().join(", "));
        let says = match mapping.activity {
            crate::mapping::Activity::Active => says,
            asleep => format!("{says} ({asleep})"),
        };
        let (grants, Moves { going, coming }) = (counted.grants(mapping.id), moves);
        let (mapping, unnamed) = (mapping.label(), mapping.name.is_none());
        self.keep(MappingChange { change, mapping, says: Some(says), unnamed, grants, going, coming }, limit);
    }

    fn keep(&mut self, change: MappingChange, limit: usize) {
        if self.changes.len() < limit {
            self.changes.push(change);
        }
    }
}

/// All that makes two mappings of one identity different.
fn content(mapping: &Mapping) -> String {
    let Mapping { id: _, name: _, provider, when, then, activity, until } = mapping;
    format!("{provider:?} {when:?} {then:?} {activity:?} {until:?}")
}
