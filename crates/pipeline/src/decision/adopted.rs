//! Groups and roles as the rules that were adopted last declare them. A grant says which group a user is in, and only the
//! rules of then say what they had by that: a plan under other rules would not see the roles that it takes away.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Facts, Needs};
use crate::ids::{GroupName, InvalidText, ProviderName, RoleName, Target};
use crate::lookup::Lookup;
use crate::mapping::{Group, Mode, Role, RuleSet};
use crate::privilege;

/// Under which it is noted.
pub(super) const NAME: &str = "adopted";

/// Names of groups with the roles that they carry, and of what is protected or privileged. What is neither is left out.
#[derive(Default, Serialize, Deserialize)]
struct Noted {
    roles_of: BTreeMap<String, Vec<String>>,
    groups: Vec<String>,
    roles: Vec<String>,
    /// `None` in a note of a version that did not end anything when a target became privileged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    settled: Option<Settled>,
    /// The leases of providers, in milliseconds. `None` in a note of a version that did not note when something ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    leases: Option<BTreeMap<String, u64>>,
}

/// What is privileged, and what becoming so ends was ended.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Settled {
    groups: BTreeSet<String>,
    roles: BTreeSet<String>,
}

impl Settled {
    fn of(rules: &RuleSet) -> Self {
        let mut settled = Self::default();
        for target in privilege::targets(rules) {
            let names = match &target {
                Target::Group(_) => &mut settled.groups,
                Target::Role(_) => &mut settled.roles,
            };
            names.insert(target.name().to_owned());
        }
        settled
    }

    fn retain(&mut self, other: &Self) {
        self.groups.retain(|name| other.groups.contains(name));
        self.roles.retain(|name| other.roles.contains(name));
    }
}

/// What to note of rules. Rules that only watch end nothing, so that what became privileged under them still counts as newly
/// so later.
pub(super) fn noted(before: Option<&[u8]>, rules: &RuleSet) -> Result<Vec<u8>, Needs> {
    let now = Settled::of(rules);
    let settled = match rules.sync.mode {
        Mode::Apply => now,
        Mode::Shadow => {
            let before = parsed(before)?.map(|noted| noted.settled());
            let mut settled = before.unwrap_or_else(|| now.clone());
            settled.retain(&now);
            settled
        }
    };
    // Nor do they note when something ends.
    let leases = match rules.sync.mode {
        Mode::Apply => Some(leases_of(rules)),
        Mode::Shadow => parsed(before)?.and_then(|noted| noted.leases),
    };
    let mut noted = Noted { settled: Some(settled), leases, ..Noted::default() };
    for (name, group) in &rules.groups {
        if !group.roles.is_empty() {
            let roles = group.roles.iter().map(ToString::to_string).collect();
            noted.roles_of.insert(name.to_string(), roles);
        }
        if group.protected || group.privileged {
            noted.groups.push(name.to_string());
        }
    }
    let guarded = rules.roles.iter().filter(|(_, role)| role.protected || role.privileged);
    noted.roles.extend(guarded.map(|(name, _)| name.to_string()));
    noted.groups.sort_unstable();
    noted.roles.sort_unstable();
    serde_json::to_vec(&noted).map_err(|error| Needs::Undone(error.to_string()))
}

fn leases_of(rules: &RuleSet) -> BTreeMap<String, u64> {
    let leases = rules.providers.iter().filter_map(|(name, rules)| Some((name, rules.lease?)));
    leases.map(|(name, lease)| (name.to_string(), u64::try_from(lease.as_millis()).unwrap_or(u64::MAX))).collect()
}

/// Whether the leases are others than those by which it was noted when something ends.
///
/// # Errors
/// When facts are missing, or the note is not what this program writes.
pub fn has_other_leases(rules: &RuleSet, facts: &Facts) -> Result<bool, Needs> {
    Ok(!changed_leases(facts.note(NAME)?, rules)?.is_empty())
}

/// Providers whose lease is another than it was.
pub(super) fn changed_leases(before: Option<&[u8]>, rules: &RuleSet) -> Result<BTreeSet<ProviderName>, Needs> {
    let before = parsed(before)?.and_then(|noted| noted.leases).unwrap_or_default();
    let changed = leases_of(rules).into_iter().filter(|(name, lease)| before.get(name) != Some(lease));
    Ok(changed.filter_map(|(name, _)| ProviderName::parse(&name).ok()).collect())
}

/// Groups and roles as the rules that were adopted last declare them, without mappings. `None` where that is not known.
///
/// # Errors
/// When facts are missing, or the note is not what this program writes.
pub fn adopted_targets(facts: &Facts) -> Result<Option<RuleSet>, Needs> {
    read(facts.note(NAME)?)
}

/// A rule set of these groups and roles, and nothing else. What is settled is privileged in it, and what is protected or
/// privileged is protected. `None` where nothing is noted yet.
pub(super) fn read(text: Option<&[u8]>) -> Result<Option<RuleSet>, Needs> {
    let Some(noted) = parsed(text)? else { return Ok(None) };
    let settled = noted.settled();
    let Noted { roles_of, groups: guarded, roles, .. } = noted;
    let unknown = |error: InvalidText| invalid(&error);
    let mut groups: Lookup<GroupName, Group> = Lookup::default();
    for (name, carried) in roles_of {
        let roles: Result<Vec<RoleName>, _> = carried.iter().map(|role| RoleName::parse(role)).collect();
        let group = Group { roles: roles.map_err(unknown)?, ..Group::default() };
        groups.insert(GroupName::parse(&name).map_err(unknown)?, group);
    }
    for name in guarded {
        groups.entry(GroupName::parse(&name).map_err(unknown)?).or_default().protected = true;
    }
    for name in settled.groups {
        groups.entry(GroupName::parse(&name).map_err(unknown)?).or_default().privileged = true;
    }
    let mut declared: Lookup<RoleName, Role> = Lookup::default();
    for name in roles {
        declared.entry(RoleName::parse(&name).map_err(unknown)?).or_default().protected = true;
    }
    for name in settled.roles {
        declared.entry(RoleName::parse(&name).map_err(unknown)?).or_default().privileged = true;
    }
    Ok(Some(RuleSet::of_targets(groups, declared)))
}

impl Noted {
    /// An earlier version told protected and privileged from others, and not from each other: both may have been privileged.
    fn settled(&self) -> Settled {
        if let Some(settled) = &self.settled {
            return settled.clone();
        }
        let carries = |(_, roles): &(&String, &Vec<String>)| roles.iter().any(|role| self.roles.contains(role));
        let through = self.roles_of.iter().filter(carries).map(|(name, _)| name);
        Settled {
            groups: self.groups.iter().chain(through).cloned().collect(),
            roles: self.roles.iter().cloned().collect(),
        }
    }
}

fn parsed(text: Option<&[u8]>) -> Result<Option<Noted>, Needs> {
    text.map(|text| serde_json::from_slice(text).map_err(|error| invalid(&error))).transpose()
}

fn invalid(error: &dyn std::fmt::Display) -> Needs {
    Needs::Undone(format!("the groups of the last rules: {error}"))
}
