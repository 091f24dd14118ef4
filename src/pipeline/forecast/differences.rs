//! Which mappings two rule sets do not have in common.

use std::collections::HashMap;

use serde::Serialize;
use utoipa::ToSchema;

use crate::pipeline::ids::{MappingId, Timestamp};
use crate::pipeline::mapping::{Mapping, RuleSet};

/// Mappings that are added, removed or edited. Lists are cut at the limit of details; the counts are not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Differences {
    /// The rules that hold now are known; else only mappings with grants can be missed.
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
}

impl Differences {
    pub fn is_empty(&self) -> bool {
        self.added + self.removed + self.edited == 0
    }

    pub(super) fn find(
        old: Option<&RuleSet>,
        new: &RuleSet,
        granting: &HashMap<MappingId, u64>,
        now: Timestamp,
        limit: usize,
    ) -> Self {
        let mut found = Self { compared: old.is_some(), ..Self::default() };
        let grants = |id: MappingId| granting.get(&id).copied().unwrap_or_default();
        if let Some(old) = old {
            for mapping in old.mappings().iter().filter(|mapping| new.mapping(mapping.id).is_none()) {
                found.removed += 1;
                found.note("removed", mapping, grants(mapping.id), limit);
            }
            for mapping in new.mappings() {
                match old.mapping(mapping.id) {
                    None => {
                        found.added += 1;
                        found.note("added", mapping, grants(mapping.id), limit);
                    }
                    Some(before) if content(before) != content(mapping) => {
                        found.edited += 1;
                        found.note("edited", mapping, grants(mapping.id), limit);
                    }
                    Some(_) => {}
                }
            }
            return found;
        }
        let mut ended: Vec<(MappingId, u64)> = granting.iter().map(|(id, grants)| (*id, *grants)).collect();
        ended.sort_unstable();
        for (id, grants) in ended {
            match new.mapping(id) {
                Some(mapping) if mapping.is_live(now) => {}
                Some(mapping) => {
                    found.edited += 1;
                    found.note("switched off", mapping, grants, limit);
                }
                None => {
                    found.removed += 1;
                    if found.changes.len() < limit {
                        let mapping = id.to_string();
                        found.changes.push(MappingChange {
                            change: "removed",
                            mapping,
                            says: None,
                            unnamed: false,
                            grants,
                        });
                    }
                }
            }
        }
        found
    }

    fn note(&mut self, change: &'static str, mapping: &Mapping, grants: u64, limit: usize) {
        if self.changes.len() >= limit {
            return;
        }
        let says = format!("{}: {}", mapping.sentence(), mapping.gifts().join(", "));
        let says = match mapping.activity {
            crate::pipeline::mapping::Activity::Active => says,
            asleep => format!("{says} ({asleep})"),
        };
        let (mapping, unnamed) = (mapping.label(), mapping.name.is_none());
        self.changes.push(MappingChange { change, mapping, says: Some(says), unnamed, grants });
    }
}

/// All that makes two mappings of one identity different.
fn content(mapping: &Mapping) -> String {
    let Mapping { id: _, name: _, provider, when, then, activity, until } = mapping;
    format!("{provider:?} {when:?} {then:?} {activity:?} {until:?}")
}
