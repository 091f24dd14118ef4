//! What a mapping of the long form gives: `then`, and the lists that close its captures, `allow`.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use toml::de::DeValue;

use super::super::reader::{Context, Found, Section, Value, shown};
use super::Targets;
use crate::pipeline::ids::Target;
use crate::pipeline::mapping::When;
use crate::pipeline::mapping::action::{Actions, Allow, Give, Kind, Template};
use crate::pipeline::mapping::condition::{ClaimCondition, Test};

/// How many names the captures of one target may come to.
const MOST_NAMES: usize = 1_000;

/// A place that messages point at.
type Place = Range<usize>;

/// The `then` of a mapping, each action with its place.
pub(super) fn actions(
    context: &Context<'_>,
    targets: &Targets,
    value: Value<'_>,
    span: &Place,
) -> Option<Vec<(Give, Place)>> {
    let Value::Other(DeValue::Array(items)) = value else {
        let message = format!("found {value}; expected a list of actions such as [{{ add_group = \"Staff\" }}]");
        context.raise(span, "mapping.then", message);
        return None;
    };
    if items.is_empty() {
        context.raise(span, "mapping.then", "is empty; expected at least one `add_group` or `add_role`");
        return None;
    }
    let mut gives = Vec::with_capacity(items.len());
    for item in items.iter() {
        let place = context.span(item);
        match item.get_ref() {
            DeValue::Table(table) => {
                let section = Section::new(context, "mapping.then", place.clone(), table);
                gives.push(action(&section, targets).map(|give| (give, place)));
                section.finish();
            }
            other => {
                let message = format!("found {}; expected an action in braces", Value::from(other));
                context.raise(&place, "mapping.then", message);
                gives.push(None);
            }
        }
    }
    gives.into_iter().collect()
}

fn action(section: &Section<'_>, targets: &Targets) -> Option<Give> {
    match (section.text("add_group"), section.text("add_role")) {
        (Some(group), None) => give(section, "add_group", &group, Kind::Group, targets),
        (None, Some(role)) => give(section, "add_role", &role, Kind::Role, targets),
        _ => {
            let message = "expected either `add_group` or `add_role`, and an action for each";
            section.context.raise(&section.span, &section.name, message);
            None
        }
    }
}

fn give(section: &Section<'_>, key: &str, name: &Found<&str>, kind: Kind, targets: &Targets) -> Option<Give> {
    match Template::parse(name.value) {
        Some(Ok(template)) => Some(Give::Captured(kind, template)),
        Some(Err(why)) => {
            section.raise(
                &name.span,
                key,
                format!("`{}` {why}; expected for instance `team-${{team}}`", shown(name.value)),
            );
            None
        }
        None => find(section.context, &section.key(key), name, kind, targets).map(Give::Target),
    }
}

fn find(context: &Context<'_>, key: &str, name: &Found<&str>, kind: Kind, targets: &Targets) -> Option<Target> {
    match kind {
        Kind::Group => targets.groups.find(context, name, key).map(|(name, _)| Target::Group(name.clone())),
        Kind::Role => targets.roles.find(context, name, key).map(|(name, _)| Target::Role(name.clone())),
    }
}

/// `allow = { team = ["payments", "search"] }`, each with its place.
pub(super) fn allow(context: &Context<'_>, value: Value<'_>, span: &Place) -> BTreeMap<String, (Allow, Place)> {
    let mut lists = BTreeMap::new();
    let Value::Other(DeValue::Table(table)) = value else {
        let example = "{ team = [\"payments\", \"search\"] }";
        context.raise(span, "mapping.allow", format!("found {value}; expected the values of each capture: {example}"));
        return lists;
    };
    for (name, list) in table.iter() {
        let (name, place) = (name.get_ref().to_string(), context.span(list));
        let key = format!("mapping.allow.{name}");
        let allowed = match Value::from(list.get_ref()) {
            Value::Text("any") => Some(Allow::Any),
            other => context.texts(&key, other, place.clone(), false).and_then(|texts| {
                if texts.is_empty() {
                    context.raise(&place, key.clone(), "allows nothing; expected values, or \"any\"");
                }
                let only: Vec<Arc<str>> = texts.iter().map(|text| Arc::from(text.value)).collect();
                (!only.is_empty()).then_some(Allow::Only(only))
            }),
        };
        if let Some(allowed) = allowed {
            lists.insert(name, (allowed, place));
        }
    }
    lists
}

/// Checks what captures may come to, and puts the actions together.
pub(super) fn close(
    context: &Context<'_>,
    targets: &Targets,
    when: &When,
    gives: &[(Give, Place)],
    lists: BTreeMap<String, (Allow, Place)>,
) -> Actions {
    let captures = captures(context, when, gives);
    for (name, (_, place)) in lists.iter().filter(|(name, _)| !captures.contains(name)) {
        let message = format!("no `regex` of this mapping captures `{}`; expected `(?<{0}>…)`", shown(name));
        context.raise(place, format!("mapping.allow.{name}"), message);
    }
    let allow: BTreeMap<String, Allow> = lists.into_iter().map(|(name, (allow, _))| (name, allow)).collect();
    for (give, place) in gives {
        if let Give::Captured(kind, template) = give {
            check_captured(context, targets, *kind, template, place, &captures, &allow);
        }
    }
    Actions { gives: gives.iter().map(|(give, _)| give.clone()).collect(), allow, ..Actions::default() }
}

/// The names that the one capturing pattern has.
fn captures(context: &Context<'_>, when: &When, gives: &[(Give, Place)]) -> Vec<String> {
    let captured = gives.iter().find(|(give, _)| matches!(give, Give::Captured(..)));
    let When::Conditions { conditions, .. } = when else { return Vec::new() };
    let named = |condition: &&ClaimCondition| match &condition.test {
        Test::Regex(pattern) => pattern.captures().next().is_some(),
        _ => false,
    };
    let capturing: Vec<&ClaimCondition> =
        conditions.iter().filter_map(|condition| condition.claim()).filter(named).collect();
    if let (Some((_, place)), [_, _, ..]) = (captured, capturing.as_slice()) {
        let message =
            "two conditions capture, so which value belongs to which is open; expected captures in one `regex`";
        context.raise(place, "mapping.then", message);
    }
    match capturing.first().map(|condition| &condition.test) {
        Some(Test::Regex(pattern)) => pattern.captures().map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

fn check_captured(
    context: &Context<'_>,
    targets: &Targets,
    kind: Kind,
    template: &Template,
    place: &Place,
    captures: &[String],
    allow: &BTreeMap<String, Allow>,
) {
    let raise = |message: String| context.raise(place, "mapping.then", message);
    let mut open = false;
    for name in template.captures() {
        if !captures.iter().any(|capture| capture == name) {
            raise(format!("no `regex` of this mapping captures `{}`; expected `(?<{0}>…)`", shown(name)));
            open = true;
        } else if !allow.contains_key(name) {
            raise(format!(
                "a claim value would choose the target by its name alone; expected allow = {{ {name} = [\"…\"] }}, \
                 or allow = {{ {name} = \"any\" }} for every declared target that is not privileged"
            ));
            open = true;
        }
        open |= allow.get(name) == Some(&Allow::Any);
    }
    if open {
        return;
    }
    let Some(names) = template.expansions(allow, MOST_NAMES) else {
        return raise(format!("`{}` may come to more than {MOST_NAMES} names; expected fewer", template.source()));
    };
    for name in names {
        let found = Found { value: name.as_str(), span: place.clone() };
        let Some(target) = find(context, "mapping.then", &found, kind, targets) else { continue };
        if targets.is_privileged(&target) {
            raise(format!("{target} is privileged and takes exact matches alone; expected a mapping for it by name"));
        }
    }
}
