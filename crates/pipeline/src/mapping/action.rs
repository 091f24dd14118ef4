//! What a mapping gives: groups and roles by name, or by what a pattern captured.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::RuleSet;
use super::condition::{ClaimCondition, Facts, Looked, Test};
use crate::ids::{GroupName, RoleName, Target};

/// What a mapping does when it holds.
#[derive(Debug, Clone)]
pub enum Then {
    /// The common case: one target.
    Give(Target),
    Actions(Box<Actions>),
}

/// Everything that a mapping of the long form does.
#[derive(Debug, Clone, Default)]
pub struct Actions {
    pub gives: Vec<Give>,
    /// Disables the user and refuses this login.
    pub disables: bool,
    /// What a capture may be, by its name; a capture that no target uses needs no entry.
    pub allow: BTreeMap<String, Allow>,
    /// Actions of other systems that have no effect here: name and values, kept so that they can be given back.
    pub without_effect: Vec<(String, Vec<String>)>,
}

#[derive(Debug, Clone)]
pub enum Give {
    Target(Target),
    /// A declared group or role whose name holds what the mapping's pattern captured.
    Captured(Kind, Template),
}

impl fmt::Display for Give {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Target(target) => target.fmt(f),
            Self::Captured(Kind::Group, template) => write!(f, "group `{}`", template.source()),
            Self::Captured(Kind::Role, template) => write!(f, "role `{}`", template.source()),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Group,
    Role,
}

/// What a capture may be. A claim value never reaches a target without one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Allow {
    /// The operator spelled it out: whatever names a declared, unprivileged target.
    Any,
    Only(Vec<Arc<str>>),
}

impl Allow {
    fn allows(&self, text: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Only(list) => list.iter().any(|allowed| **allowed == *text),
        }
    }
}

/// A name with places for captures: `team-${team}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    source: Arc<str>,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Capture(String),
}

impl Template {
    /// `None` when the text has no place in it: then it is a name. `Some(Err(_))` names what is wrong with it.
    pub fn parse(text: &str) -> Option<Result<Self, String>> {
        text.contains("${").then(|| Self::parse_places(text))
    }

    fn parse_places(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            let Some((name, after)) = after.split_once('}') else {
                return Err(String::from("has a `${` without its `}`"));
            };
            if name.is_empty() {
                return Err(String::from("has a `${}` without a name"));
            }
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            parts.push(Part::Capture(name.to_owned()));
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self { source: Arc::from(text), parts })
    }

    pub fn source(&self) -> &str {
        &self.source
    }

    /// The captures that it names.
    pub fn captures(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Capture(name) => Some(name.as_str()),
            Part::Text(_) => None,
        })
    }

    /// The name with its places filled; `None` when one of them has nothing to fill it.
    pub fn fill<'v>(&self, value: impl Fn(&str) -> Option<&'v str>) -> Option<String> {
        let mut name = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => name.push_str(text),
                Part::Capture(capture) => name.push_str(value(capture)?),
            }
        }
        Some(name)
    }

    /// Every name that it can come to, where each of its captures is one of a closed list; `None` when one is open, or the
    /// names are more than `most`.
    pub fn expansions<'a>(&'a self, allow: &'a BTreeMap<String, Allow>, most: usize) -> Option<Vec<String>> {
        let mut captures: Vec<&str> = self.captures().collect();
        captures.sort_unstable();
        captures.dedup();
        let mut choices: Vec<BTreeMap<&'a str, &'a str>> = vec![BTreeMap::new()];
        for capture in captures {
            let Some(Allow::Only(list)) = allow.get(capture) else { return None };
            if choices.len().saturating_mul(list.len()) > most {
                return None;
            }
            let with = |choice: &BTreeMap<&'a str, &'a str>| -> Vec<BTreeMap<&'a str, &'a str>> {
                let each = list.iter().map(|text| {
                    let mut choice = choice.clone();
                    choice.insert(capture, text);
                    choice
                });
                each.collect()
            };
            choices = choices.iter().flat_map(with).collect();
        }
        choices.iter().map(|choice| self.fill(|name| choice.get(name).copied())).collect()
    }
}

/// What a mapping that holds gives to this login.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Given {
    pub targets: Vec<Target>,
    /// Names that captures came to and that name nothing that may be given so.
    pub unknown: Vec<String>,
}

impl Then {
    /// Targets by their own names, whatever the claims bring.
    pub fn named(&self) -> impl Iterator<Item = &Target> {
        let (one, several) = match self {
            Self::Give(target) => (Some(target), &[][..]),
            Self::Actions(actions) => (None, actions.gives.as_slice()),
        };
        one.into_iter().chain(several.iter().filter_map(|give| match give {
            Give::Target(target) => Some(target),
            Give::Captured(..) => None,
        }))
    }

    pub fn disables(&self) -> bool {
        matches!(self, Self::Actions(actions) if actions.disables)
    }

    /// Targets for this login's claims; `captures` is the condition whose pattern captures.
    /// Whether what it gives depends on what a pattern captures.
    pub fn captures(&self) -> bool {
        matches!(self, Self::Actions(actions) if actions.gives.iter().any(|give| matches!(give, Give::Captured(..))))
    }

    pub fn given(&self, captures: Option<&ClaimCondition>, facts: &Facts<'_>, rules: &RuleSet) -> Given {
        let mut given = Given { targets: self.named().cloned().collect(), unknown: Vec::new() };
        let (Self::Actions(actions), Some(condition)) = (self, captures) else { return given };
        let Test::Regex(pattern) = &condition.test else { return given };
        let Looked::Pieces(pieces) = facts.look(&condition.claim, condition.delimiter.as_ref()) else { return given };
        for piece in pieces.iter() {
            let Some(captures) = pattern.capture(piece) else { continue };
            for give in &actions.gives {
                let Give::Captured(kind, template) = give else { continue };
                let allowed = |name: &str| {
                    let text = captures.name(name)?.as_str();
                    actions.allow.get(name).is_some_and(|allow| allow.allows(text)).then_some(text)
                };
                let Some(name) = template.fill(allowed) else { continue };
                match declared(*kind, &name, rules) {
                    Some(target) if !given.targets.contains(&target) => given.targets.push(target),
                    Some(_) => {}
                    None => given.unknown.push(name),
                }
            }
        }
        given
    }
}

/// The target of a captured name: one that is declared, and that takes more than exact matches.
fn declared(kind: Kind, name: &str, rules: &RuleSet) -> Option<Target> {
    let target = match kind {
        Kind::Group => Target::Group(GroupName::parse(name).ok()?),
        Kind::Role => Target::Role(RoleName::parse(name).ok()?),
    };
    (rules.declares(&target) && !rules.is_privileged(&target)).then_some(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_filled_from_closed_lists() {
        let template = Template::parse("${a}-x-${b}").unwrap().unwrap();
        let only = |list: &[&str]| Allow::Only(list.iter().map(|text| Arc::from(*text)).collect());
        let allow = BTreeMap::from([("a".to_owned(), only(&["1", "2"])), ("b".to_owned(), only(&["y"]))]);
        assert_eq!(template.expansions(&allow, 10).unwrap(), ["1-x-y", "2-x-y"]);
        assert_eq!(template.expansions(&allow, 1), None);
        assert!(Template::parse("plain $x {y}").is_none());
        assert!(Template::parse("a${b").unwrap().is_err());
        assert!(Template::parse("a${}").unwrap().is_err());
    }
}
