//! Groups and roles as forms name them.

use super::failure::Failure;
use crate::pipeline::ids::{GroupName, RoleName, Target};
use crate::pipeline::mapping::RuleSet;

/// A target as forms name it: `group:Staff`.
pub fn target(text: &str) -> Result<Target, Failure> {
    let parsed = match text.split_once(':') {
        Some(("group", name)) => GroupName::parse(name).ok().map(Target::Group),
        Some(("role", name)) => RoleName::parse(name).ok().map(Target::Role),
        _ => None,
    };
    parsed.ok_or_else(|| Failure::wrong("Choose a group or a role. Go back, which brings back what you typed."))
}

/// All groups and roles, for a form to choose from.
pub fn targets(rules: &RuleSet) -> Vec<(String, String)> {
    let groups = rules.groups.keys().map(|name| (format!("group:{name}"), format!("group {name}")));
    let roles = rules.roles.keys().map(|name| (format!("role:{name}"), format!("role {name}")));
    let mut targets: Vec<(String, String)> = groups.chain(roles).collect();
    targets.sort();
    targets
}
