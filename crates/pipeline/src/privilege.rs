//! What ends when a group or role becomes privileged.
//!
//! A client that may manage unprivileged groups may put anyone into them. When such a group becomes privileged (the file declares
//! it so, it is given a privileged role, an API marks it), what they did before must not count as if an administrator had
//! done it. Then a grant by hand stays only if it was made with scope `admin`, and a mapped grant only if a mapping of the
//! file names the target.

use std::borrow::Cow;
use std::collections::HashMap;

use super::ids::{GroupName, RoleName, Target};
use super::mapping::RuleSet;
use super::mapping::condition::alike;
use super::plan::Source;

/// With which right a grant by hand was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hand {
    /// Without scope `admin`.
    Lesser,
    /// Before rights were recorded.
    Unknown,
    /// With scope `admin`, or at the command line.
    Admin,
}

impl Hand {
    /// What a record tells of a grant.
    pub fn of(as_admin: Option<bool>) -> Self {
        match as_admin {
            Some(false) => Self::Lesser,
            Some(true) => Self::Admin,
            None => Self::Unknown,
        }
    }
}

/// The targets that are privileged under some rules, and which of them were not before.
#[derive(Debug)]
pub struct Privileged<'r> {
    rules: &'r RuleSet,
    /// By kind and folded name: an app that ignores case takes one spelling for the other.
    newly: HashMap<(&'static str, String), bool>,
}

impl<'r> Privileged<'r> {
    /// `before` are the groups and roles of the rules that were adopted last, each marked as privileged where what becoming
    /// so ends was ended; `None` where that is not known: then nothing counts as newly privileged.
    pub fn find(before: Option<&RuleSet>, rules: &'r RuleSet) -> Self {
        let group_was = |name: &GroupName| {
            before.is_none_or(|before| before.groups.get(name).is_some_and(|group| group.privileged))
        };
        let role_was =
            |name: &RoleName| before.is_none_or(|before| before.roles.get(name).is_some_and(|role| role.privileged));
        let mut newly = HashMap::new();
        for target in targets(rules) {
            let was = match &target {
                Target::Group(name) => group_was(name),
                Target::Role(name) => role_was(name),
            };
            newly.insert((target.kind(), alike(target.name()).into_owned()), !was);
        }
        Self { rules, newly }
    }

    /// Nothing is privileged.
    pub fn is_empty(&self) -> bool {
        self.newly.is_empty()
    }

    /// Whether the target, or one whose name differs by case alone, is privileged: `Some(true)` when it was not before.
    pub fn newly(&self, target: &Target) -> Option<bool> {
        if self.newly.is_empty() || (self.rules.declares(target) && !self.rules.is_privileged(target)) {
            return None;
        }
        let name: Cow<'_, str> = alike(target.name());
        self.newly.get(&(target.kind(), name.into_owned())).copied()
    }

    /// Whether a grant ends. `hand` is asked of a grant by hand alone.
    pub fn ends(&self, target: &Target, source: &Source, hand: Hand) -> bool {
        let Some(newly) = self.newly(target) else { return false };
        match source {
            Source::Assigned => match hand {
                Hand::Admin => false,
                Hand::Lesser => true,
                Hand::Unknown => newly,
            },
            Source::Mapped { mapping, .. } => {
                // What no live mapping gives any more ends by itself.
                let Some(rule) = self.rules.mapping(*mapping) else { return false };
                let of_store = self.rules.number(*mapping).is_some();
                (of_store || newly) && !(self.rules.is_privileged(target) && rule.then.named().any(|it| it == target))
            }
        }
    }
}

/// Everything that is privileged: by its own mark, or by a role that it carries.
pub fn targets(rules: &RuleSet) -> impl Iterator<Item = Target> + '_ {
    let groups = rules.groups.keys().cloned().map(Target::Group);
    let roles = rules.roles.keys().cloned().map(Target::Role);
    groups.chain(roles).filter(|target| rules.is_privileged(target))
}
