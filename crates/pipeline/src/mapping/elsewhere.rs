//! What the files of other sidecars give and guard, while two files decide for one app: during an upgrade that goes replica by
//! replica.
//!
//! A grant of a mapping that this file lacks and a live one has is undecided here: it stays, and its lease is not renewed. What
//! either file guards is guarded, what either holds to be privileged is, and whom a gate of either keeps out does not enter.

mod gates;

use std::collections::{BTreeMap, BTreeSet};

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};

use self::gates::GateText;
pub use self::gates::is_undecidable;
use super::{Activity, Gate, RuleSet, Rules};
use crate::ids::{GroupName, MappingId, RoleName, Target, Timestamp};

/// What other live files say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Elsewhere {
    /// Mappings that are active there, each with its `until`; `None`: for ever.
    mappings: BTreeMap<MappingId, Option<Timestamp>>,
    protected: BTreeSet<Target>,
    privileged: BTreeSet<Target>,
    /// What some file does not take from the brake. `None`: there is no other file.
    unbraked: Option<BTreeSet<Target>>,
    gates: Vec<GateText>,
}

/// What one file gives and guards, as other sidecars are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announced {
    /// JSON.
    pub text: String,
    /// Of two files that give and guard the same it is the same.
    pub digest: [u8; 32],
}

#[derive(Serialize, Deserialize)]
struct Text {
    /// By identity, in hexadecimal digits; until when, in milliseconds.
    mappings: BTreeMap<String, Option<i64>>,
    protected: Names,
    privileged: Names,
    unbraked: Names,
    /// Those that keep people out by conditions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    gates: Vec<GateText>,
}

#[derive(Default, Serialize, Deserialize)]
struct Names {
    groups: BTreeSet<String>,
    roles: BTreeSet<String>,
}

impl Names {
    fn of(targets: impl Iterator<Item = Target>) -> Self {
        let mut names = Self::default();
        for target in targets {
            match target {
                Target::Group(name) => names.groups.insert(name.to_string()),
                Target::Role(name) => names.roles.insert(name.to_string()),
            };
        }
        names
    }

    /// `None` where a name is none.
    fn targets(&self) -> Option<BTreeSet<Target>> {
        let groups = self.groups.iter().map(|name| GroupName::parse(name).ok().map(Target::Group));
        groups.chain(self.roles.iter().map(|name| RoleName::parse(name).ok().map(Target::Role))).collect()
    }
}

impl Announced {
    /// What the rules of a file give and guard.
    pub fn of(rules: &RuleSet) -> Self {
        let targets = || {
            let groups = rules.groups.keys().cloned().map(Target::Group);
            groups.chain(rules.roles.keys().cloned().map(Target::Role))
        };
        let active = rules.mappings().iter().filter(|mapping| mapping.activity == Activity::Active);
        let text = Text {
            mappings: active.map(|mapping| (mapping.id.to_string(), mapping.until.map(|until| until.0))).collect(),
            protected: Names::of(targets().filter(|target| rules.is_protected(target))),
            privileged: Names::of(targets().filter(|target| rules.is_privileged(target))),
            unbraked: Names::of(targets().filter(|target| !rules.is_braked(target))),
            gates: gates::texts(&rules.gates, &rules.providers),
        };
        // Maps and sets of texts always have a JSON text.
        let text = serde_json::to_string(&text).unwrap_or_default();
        let mut own = [0; 32];
        own.copy_from_slice(digest::digest(&digest::SHA256, text.as_bytes()).as_ref());
        Self { text, digest: own }
    }
}

impl Elsewhere {
    /// Adds what a file says; `None` where the text is not what [`Announced::of`] writes.
    #[must_use]
    pub fn with(mut self, text: &str) -> Option<Self> {
        let Text { mappings, protected, privileged, unbraked, gates } = serde_json::from_str(text).ok()?;
        for (id, until) in mappings {
            let (id, until) = (MappingId::from_digits(&id)?, until.map(Timestamp));
            let latest = match self.mappings.get(&id) {
                Some(known) => known.zip(until).map(|(one, other)| one.max(other)),
                None => until,
            };
            self.mappings.insert(id, latest);
        }
        for gate in gates {
            if !self.gates.contains(&gate) {
                self.gates.push(gate);
            }
        }
        self.protected.extend(protected.targets()?);
        self.privileged.extend(privileged.targets()?);
        let unbraked = unbraked.targets()?;
        self.unbraked = Some(match self.unbraked {
            Some(known) => known.intersection(&unbraked).cloned().collect(),
            None => unbraked,
        });
        Some(self)
    }

    /// Whether another file gives something by this mapping.
    pub fn gives(&self, mapping: MappingId, now: Timestamp) -> bool {
        self.mappings.get(&mapping).is_some_and(|until| until.is_none_or(|until| now < until))
    }

    /// The gates that these rules lack, as their providers ask them.
    pub(super) fn gates_beside(&self, rules: &Rules) -> Vec<Gate> {
        let own = gates::texts(&rules.gates, &rules.providers);
        self.gates.iter().filter(|gate| !own.contains(gate)).flat_map(|gate| gate.here(rules)).collect()
    }

    pub(super) fn protects(&self, target: &Target) -> bool {
        self.protected.contains(target)
    }

    pub(super) fn holds_privileged(&self, target: &Target) -> bool {
        self.privileged.contains(target)
    }

    pub(super) fn brakes(&self, target: &Target) -> bool {
        self.unbraked.as_ref().is_some_and(|unbraked| !unbraked.contains(target))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::mapping::{Group, Rules};

    const NOW: Timestamp = Timestamp(1_000);

    fn group(name: &str) -> Target {
        Target::Group(GroupName::parse(name).unwrap())
    }

    fn rules(groups: &[(&str, Group)]) -> RuleSet {
        let groups = groups.iter().map(|(name, group)| (GroupName::parse(name).unwrap(), group.clone())).collect();
        RuleSet::compile(1, Rules { groups, ..Rules::default() }).unwrap()
    }

    #[test]
    fn what_either_file_guards_is_guarded() {
        let guarded = Group { protected: true, privileged: true, ..Group::default() };
        let free = Group { brake: false, ..Group::default() };
        let other = Announced::of(&rules(&[("Staff", guarded), ("Free", free.clone()), ("Braked", Group::default())]));
        let mut own = rules(&[("Staff", Group::default()), ("Free", free.clone()), ("Braked", free)]);
        assert!(!own.is_protected(&group("Staff")) && !own.is_braked(&group("Braked")));
        own.elsewhere = Arc::new(Elsewhere::default().with(&other.text).unwrap());
        assert!(own.is_protected(&group("Staff")) && own.is_privileged(&group("Staff")));
        assert!(own.is_braked(&group("Braked")));
        assert!(!own.is_braked(&group("Free")));
    }

    #[test]
    fn a_mapping_lives_as_long_as_the_longest_of_the_files() {
        let text = |until: &str| {
            let names = r#"{"groups":[],"roles":[]}"#;
            format!(
                r#"{{"mappings":{{"{}":{until}}},"protected":{names},"privileged":{names},"unbraked":{names}}}"#,
                "ab".repeat(16)
            )
        };
        let id = MappingId([0xab; 16]);
        let both = |one: &str, other: &str| Elsewhere::default().with(&text(one)).unwrap().with(&text(other)).unwrap();
        assert!(!both("900", "1000").gives(id, NOW), "both have passed");
        assert!(both("900", "1001").gives(id, NOW));
        assert!(both("900", "null").gives(id, NOW) && both("null", "900").gives(id, NOW));
        assert!(!both("null", "null").gives(MappingId([0; 16]), NOW));
        assert!(Elsewhere::default().with("{}").is_none());
    }
}
