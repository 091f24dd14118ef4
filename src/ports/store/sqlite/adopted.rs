//! Groups and roles as the rules that were adopted last declare them. A grant says which group somebody is in, and only the
//! rules of then say what they had by that: a plan under other rules would not see the roles that it takes away.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rusqlite::Connection;
use serde::{Deserialize, Serialize};

use super::super::StoreError;
use super::{Session, act};
use crate::pipeline::ids::{GroupName, InvalidText, RoleName, Target};
use crate::pipeline::mapping::{Group, Mode, Role, RuleSet};
use crate::pipeline::privilege;

const NAME: &str = "adopted";

/// Names of groups with the roles that they carry, and of what is protected or privileged. What is neither is left out.
#[derive(Default, Serialize, Deserialize)]
struct Kept {
    roles_of: BTreeMap<String, Vec<String>>,
    groups: Vec<String>,
    roles: Vec<String>,
    /// `None` in a note of a version that did not end anything when a target became privileged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    settled: Option<Settled>,
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

/// Notes them, where they have changed. Rules that only watch end nothing, so that what became privileged under them still
/// counts as newly so later.
pub(super) fn note(session: &Session<'_>, rules: &RuleSet) -> Result<(), StoreError> {
    let now = Settled::of(rules);
    let settled = match rules.sync.mode {
        Mode::Apply => now,
        Mode::Shadow => {
            let mut before = settled(session.connection)?.unwrap_or_else(|| now.clone());
            before.retain(&now);
            before
        }
    };
    let mut kept = Kept { settled: Some(settled), ..Kept::default() };
    for (name, group) in &rules.groups {
        if !group.roles.is_empty() {
            let roles = group.roles.iter().map(ToString::to_string).collect();
            kept.roles_of.insert(name.to_string(), roles);
        }
        if group.protected || group.privileged {
            kept.groups.push(name.to_string());
        }
    }
    let guarded = rules.roles.iter().filter(|(_, role)| role.protected || role.privileged);
    kept.roles.extend(guarded.map(|(name, _)| name.to_string()));
    kept.groups.sort_unstable();
    kept.roles.sort_unstable();
    let text = serde_json::to_vec(&kept).map_err(|error| StoreError::Invalid(error.to_string()))?;
    match act::setting(session.connection, NAME)? == Some(text.clone()) {
        true => Ok(()),
        false => act::set(session, NAME, &text),
    }
}

/// A rule set of these groups and roles, and nothing else. What is settled is privileged in it, and what is protected or
/// privileged is protected. `None` in a store that no rules were adopted in since they are kept.
pub(super) fn read(connection: &Connection) -> Result<Option<RuleSet>, StoreError> {
    let Some(kept) = kept(connection)? else { return Ok(None) };
    let settled = kept.settled();
    let Kept { roles_of, groups: guarded, roles, .. } = kept;
    let unknown = |error: InvalidText| invalid(&error);
    let mut groups: HashMap<GroupName, Group> = HashMap::new();
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
    let mut declared: HashMap<RoleName, Role> = HashMap::new();
    for name in roles {
        declared.entry(RoleName::parse(&name).map_err(unknown)?).or_default().protected = true;
    }
    for name in settled.roles {
        declared.entry(RoleName::parse(&name).map_err(unknown)?).or_default().privileged = true;
    }
    Ok(Some(RuleSet::of_targets(groups, declared)))
}

impl Kept {
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

fn settled(connection: &Connection) -> Result<Option<Settled>, StoreError> {
    Ok(kept(connection)?.map(|kept| kept.settled()))
}

fn kept(connection: &Connection) -> Result<Option<Kept>, StoreError> {
    let Some(text) = act::setting(connection, NAME)? else { return Ok(None) };
    serde_json::from_slice(&text).map(Some).map_err(|error| invalid(&error))
}

fn invalid(error: &dyn std::fmt::Display) -> StoreError {
    StoreError::Invalid(format!("the groups of the last rules: {error}"))
}
