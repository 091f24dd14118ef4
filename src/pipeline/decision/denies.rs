//! Denies bind a name, and outlive what bears it.

use crate::pipeline::ids::{GroupName, RoleName, Target};
use crate::pipeline::mapping::RuleSet;
use crate::pipeline::mapping::condition::alike;

/// What bears the name of a target that is not declared any more: a group or role of another spelling, and groups that are
/// shown under it.
pub fn bearers(rules: &RuleSet, target: &Target) -> Vec<Target> {
    if rules.declares(target) {
        return Vec::new();
    }
    let name = alike(target.name());
    match target {
        Target::Group(_) => {
            let spelled = rules.groups.keys().filter(|group| alike(group.as_str()) == name);
            let shown = rules.overlay.exposures.values().flatten();
            let shown = shown.filter(|(_, shown)| shown.alias.as_deref().is_some_and(|alias| alike(alias) == name));
            let mut groups: Vec<&GroupName> = spelled.chain(shown.map(|(group, _)| group)).collect();
            groups.sort_unstable();
            groups.dedup();
            groups.into_iter().cloned().map(Target::Group).collect()
        }
        Target::Role(_) => {
            let spelled = rules.roles.keys().filter(|role: &&RoleName| alike(role.as_str()) == name);
            spelled.cloned().map(Target::Role).collect()
        }
    }
}
