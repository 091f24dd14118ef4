//! Groups and roles as the rules that were adopted last declare them. A grant says which group somebody is in, and only the
//! rules of then say what they had by that: a plan under other rules would not see the roles that it takes away.

use std::collections::{BTreeMap, HashMap};

use rusqlite::Connection;
use serde::{Deserialize, Serialize};

use super::super::StoreError;
use super::{Session, act};
use crate::pipeline::ids::{GroupName, InvalidText, RoleName};
use crate::pipeline::mapping::{Group, Role, RuleSet};

const NAME: &str = "adopted";

/// Names of groups with the roles that they carry, and of what is protected or privileged. What is neither is left out.
#[derive(Default, Serialize, Deserialize)]
struct Kept {
    roles_of: BTreeMap<String, Vec<String>>,
    groups: Vec<String>,
    roles: Vec<String>,
}

/// Notes them, where they have changed.
pub(super) fn note(session: &Session<'_>, rules: &RuleSet) -> Result<(), StoreError> {
    let mut kept = Kept::default();
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

/// A rule set of these groups and roles, and nothing else. `None` in a store that no rules were adopted in since they are kept.
pub(super) fn read(connection: &Connection) -> Result<Option<RuleSet>, StoreError> {
    let Some(text) = act::setting(connection, NAME)? else { return Ok(None) };
    let invalid = |error: &dyn std::fmt::Display| StoreError::Invalid(format!("the groups of the last rules: {error}"));
    let Kept { roles_of, groups: guarded, roles } = serde_json::from_slice(&text).map_err(|error| invalid(&error))?;
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
    let guarded =
        |name: String| Ok((RoleName::parse(&name).map_err(unknown)?, Role { protected: true, ..Role::default() }));
    let roles: Result<HashMap<RoleName, Role>, StoreError> = roles.into_iter().map(guarded).collect();
    Ok(Some(RuleSet::of_targets(groups, roles?)))
}
