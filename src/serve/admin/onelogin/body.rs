//! A mapping as OneLogin writes it, and the way from there to a [`Definition`] and back.

use std::collections::HashMap;

use axum::body::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{Problem, parse};
use crate::pipeline::mapping::RuleSet;
use crate::pipeline::mapping::definition::{
    ActionDefinition, ConditionDefinition, DaysDefinition, Definition, Fault, ForeignAction, JoinWord,
};
use crate::pipeline::mapping::stored::Stored;
use crate::serve::admin::service::{MappingView, Refused};

/// A mapping as it is answered.
#[derive(Debug, Serialize, ToSchema)]
pub struct MappingObject {
    pub id: i64,
    pub name: String,
    /// `all` or `any`.
    #[serde(rename = "match")]
    pub join: &'static str,
    pub enabled: bool,
    /// Null when it is not enabled.
    pub position: Option<u32>,
    pub conditions: Vec<ConditionObject>,
    pub actions: Vec<ActionObject>,
}

/// A mapping as it is sent.
#[derive(ToSchema)]
#[allow(dead_code, reason = "for the document alone: the reader names every fault of a body")]
pub struct MappingBody {
    name: String,
    /// `all` or `any`.
    #[schema(rename = "match")]
    join: String,
    enabled: bool,
    /// Null, 0 or absent: at the end.
    position: Option<u32>,
    conditions: Vec<ConditionObject>,
    actions: Vec<ActionObject>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConditionObject {
    pub source: String,
    pub operator: String,
    pub value: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ActionObject {
    pub action: String,
    pub value: Vec<String>,
}

/// The operators on texts: OneLogin's sign, its name for it.
pub const TEXT_OPERATORS: [(&str, &str); 6] = [
    ("=", "equals"),
    ("!=", "does not equal"),
    ("~", "contains"),
    ("!~", "does not contain"),
    ("bw", "begins with"),
    ("ew", "ends with"),
];

/// What a user's status may be set to. [`SUSPENDED`] and [`LOCKED`] keep the person out; 1 changes nothing, and the others have no
/// like here.
pub const STATUSES: [(i64, &str); 8] = [
    (0, "Unactivated"),
    (1, "Active"),
    (2, "Suspended"),
    (3, "Locked"),
    (4, "Password expired"),
    (5, "Awaiting password reset"),
    (7, "Password pending"),
    (8, "Security questions required"),
];

const SUSPENDED: &str = "2";
const LOCKED: &str = "3";

/// Actions of OneLogin that change what its own directory says of a person: kept, given back, without effect here.
pub const FOREIGN_ACTIONS: [&str; 10] = [
    "set_company",
    "set_department",
    "set_directory",
    "set_employee_id",
    "set_group",
    "set_manager",
    "set_samaccountname",
    "set_title",
    "set_userprincipalname",
    "set_usertype",
];

const CUSTOM_ACTION: &str = "set_custom_attribute_";

/// Where a mapping shall be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    Unsaid,
    /// From 1.
    At(u32),
}

/// The body of a create or update, each part checked for its type.
#[derive(Debug)]
pub struct Input {
    name: Option<String>,
    join: Option<JoinWord>,
    enabled: Option<bool>,
    pub position: Wanted,
    conditions: Option<Vec<ConditionObject>>,
    actions: Option<Vec<ActionObject>>,
}

impl Input {
    pub fn read(body: &Bytes) -> Result<Self, Problem> {
        let Value::Object(mut object) = parse(body)? else {
            return Err(Problem::Plain(http::StatusCode::BAD_REQUEST, "Expected object in request".into()));
        };
        let mut faults = Vec::new();
        let input = Self {
            name: text(&mut object, "name", &mut faults),
            join: join(&mut object, &mut faults),
            enabled: boolean(&mut object, "enabled", &mut faults),
            position: position(&mut object, &mut faults),
            conditions: list(&mut object, "conditions", &mut faults, condition),
            actions: list(&mut object, "actions", &mut faults, action),
        };
        faults.extend(object.keys().map(|key| Fault::new(key.as_str(), None, "Field is not allowed")));
        if faults.is_empty() { Ok(input) } else { Err(Problem::Fields(faults)) }
    }

    /// What a new mapping needs.
    pub fn check_complete(&self) -> Result<(), Problem> {
        let parts = [
            ("name", self.name.is_some()),
            ("match", self.join.is_some()),
            ("enabled", self.enabled.is_some()),
            ("conditions", self.conditions.is_some()),
            ("actions", self.actions.is_some()),
        ];
        let missing = parts.into_iter().filter(|(_, found)| !found);
        let faults: Vec<Fault> =
            missing.map(|(field, _)| Fault::new(field, None, "Required field is missing")).collect();
        if faults.is_empty() { Ok(()) } else { Err(Problem::Fields(faults)) }
    }
}

/// A field that is there and not null.
fn take(object: &mut Map<String, Value>, key: &str) -> Option<Value> {
    object.remove(key).filter(|value| !value.is_null())
}

fn text(object: &mut Map<String, Value>, key: &str, faults: &mut Vec<Fault>) -> Option<String> {
    match take(object, key)? {
        Value::String(text) => Some(text),
        _ => {
            faults.push(Fault::new(key, None, "Must be a string"));
            None
        }
    }
}

fn join(object: &mut Map<String, Value>, faults: &mut Vec<Fault>) -> Option<JoinWord> {
    match text(object, "match", faults)?.as_str() {
        "all" => Some(JoinWord::All),
        "any" => Some(JoinWord::Any),
        _ => {
            faults.push(Fault::new("match", None, "Must be one of: all, any"));
            None
        }
    }
}

fn boolean(object: &mut Map<String, Value>, key: &str, faults: &mut Vec<Fault>) -> Option<bool> {
    match take(object, key)? {
        Value::Bool(flag) => Some(flag),
        _ => {
            faults.push(Fault::new(key, None, "Must be a boolean"));
            None
        }
    }
}

/// 0 stands for null: the vendor's Terraform provider sends it where none is configured.
fn position(object: &mut Map<String, Value>, faults: &mut Vec<Fault>) -> Wanted {
    let Some(value) = take(object, "position") else { return Wanted::Unsaid };
    match value.as_u64() {
        Some(0) => Wanted::Unsaid,
        // Past the end is the end.
        Some(position) => Wanted::At(u32::try_from(position).unwrap_or(u32::MAX)),
        None => {
            faults.push(Fault::new("position", None, "Must be an integer"));
            Wanted::Unsaid
        }
    }
}

fn list<T>(
    object: &mut Map<String, Value>,
    key: &str,
    faults: &mut Vec<Fault>,
    item: fn(&str, &Value, &mut Vec<Fault>) -> Option<T>,
) -> Option<Vec<T>> {
    let Value::Array(items) = take(object, key)? else {
        faults.push(Fault::new(key, None, "Must be an array"));
        return None;
    };
    let each = items.iter().enumerate();
    // Every item is checked, so that all faults are reported at once.
    let read: Vec<Option<T>> = each.map(|(at, value)| item(&format!("{key}.[{at}]"), value, faults)).collect();
    read.into_iter().collect()
}

fn condition(field: &str, value: &Value, faults: &mut Vec<Fault>) -> Option<ConditionObject> {
    let mut part = |key: &str| {
        let found = value.get(key).filter(|part| !part.is_null());
        let text = found.and_then(Value::as_str);
        if text.is_none() {
            let message = if found.is_none() { "Required field is missing" } else { "Must be a string" };
            faults.push(Fault::new(format!("{field}.{key}"), None, message));
        }
        text.map(str::to_owned)
    };
    let (source, operator, value) = (part("source"), part("operator"), part("value"));
    Some(ConditionObject { source: source?, operator: operator?, value: value? })
}

/// The value is a list of texts, and one text alone is taken for a list of one: the vendor's own samples send both.
fn action(field: &str, value: &Value, faults: &mut Vec<Fault>) -> Option<ActionObject> {
    let name = value.get("action").and_then(Value::as_str);
    if name.is_none() {
        faults.push(Fault::new(format!("{field}.action"), None, "Required field is missing"));
    }
    let values = match value.get("value") {
        Some(Value::String(text)) => Some(vec![text.clone()]),
        Some(Value::Array(items)) => items.iter().map(|item| item.as_str().map(str::to_owned)).collect(),
        _ => None,
    };
    if values.is_none() {
        faults.push(Fault::new(format!("{field}.value"), None, "Must be an array of strings"));
    }
    Some(ActionObject { action: name?.to_owned(), value: values? })
}

/// Roles and groups by their numbers and names, and the claims that conditions may name.
pub struct Names {
    roles: HashMap<i64, String>,
    groups: HashMap<i64, String>,
    role_numbers: HashMap<String, i64>,
    group_numbers: HashMap<String, i64>,
    claims: Vec<String>,
}

impl Names {
    pub fn new(stored: &Stored, rules: &RuleSet) -> Self {
        let roles = stored.roles.values().filter(|entry| rules.roles.contains_key(entry.body.name.as_str()));
        let roles: HashMap<i64, String> = roles.map(|entry| (entry.number, entry.body.name.clone())).collect();
        let groups = stored.groups.values().filter(|entry| rules.groups.contains_key(entry.body.name.as_str()));
        let groups: HashMap<i64, String> = groups.map(|entry| (entry.number, entry.body.name.clone())).collect();
        let numbers =
            |names: &HashMap<i64, String>| names.iter().map(|(number, name)| (name.clone(), *number)).collect();
        let mut claims: Vec<String> = rules
            .providers
            .values()
            .flat_map(|provider| provider.claims.iter().map(|claim| claim.name.to_string()))
            .filter(|name| !matches!(name.as_str(), "has_role" | "last_login"))
            .collect();
        claims.sort_unstable();
        claims.dedup();
        Self { role_numbers: numbers(&roles), group_numbers: numbers(&groups), roles, groups, claims }
    }

    /// Claims that conditions may name, in order.
    pub fn claims(&self) -> &[String] {
        &self.claims
    }

    /// Makes a definition of a body; what it does not say stays as it was.
    pub fn define(&self, input: Input, before: Definition) -> Result<Definition, Refused> {
        let Input { name, join, enabled, position, conditions, actions } = input;
        let mut faults = Vec::new();
        let mut definition = before;
        definition.name = name.or(definition.name);
        definition.join = join.unwrap_or(definition.join);
        definition.enabled = enabled.unwrap_or(definition.enabled);
        if let (false, Wanted::At(_)) = (definition.enabled, position) {
            faults.push(Fault::new("position", None, "Position cannot be set while the mapping is not enabled"));
        }
        if let Some(conditions) = conditions {
            // One that is for everyone has none; this face makes no such mapping, and keeps those that there are.
            if conditions.is_empty() && !definition.always {
                let message = "At least one condition is required: a mapping for everyone is written as such elsewhere";
                faults.push(Fault::new("conditions", None, message));
            }
            let read = conditions.iter().enumerate().map(|(at, condition)| self.condition(at, condition));
            definition.when = collect(read, &mut faults);
            definition.always &= definition.when.is_empty();
        }
        if let Some(actions) = actions {
            definition.then = self.actions(&actions, &mut faults);
        }
        if faults.is_empty() { Ok(definition) } else { Err(Refused::Invalid(faults)) }
    }

    fn condition(&self, at: usize, object: &ConditionObject) -> Result<ConditionDefinition, Fault> {
        let ConditionObject { source, operator, value } = object;
        let fault = |part: &str, text: &str| {
            Fault::new(format!("conditions.[{at}].{part}"), None, format!("Invalid condition {part}: {text}"))
        };
        let wrong_value = || fault("value", value);
        let mut made = ConditionDefinition::default();
        match source.as_str() {
            "has_role" => {
                let role = value.parse().ok().and_then(|number: i64| self.roles.get(&number)).cloned();
                match operator.as_str() {
                    "ri" => made.has_role = Some(role.ok_or_else(wrong_value)?),
                    "rin" => made.lacks_role = Some(role.ok_or_else(wrong_value)?),
                    _ => return Err(fault("operator", operator)),
                }
            }
            "last_login" => {
                let days: Option<u32> = value.parse().ok();
                let days = Some(days.ok_or_else(wrong_value)?);
                made.last_login = Some(match operator.as_str() {
                    ">" => DaysDefinition { greater_than: days, less_than: None },
                    "<" => DaysDefinition { greater_than: None, less_than: days },
                    _ => return Err(fault("operator", operator)),
                });
            }
            claim if self.claims.iter().any(|known| known == claim) => {
                made.claim = Some(claim.to_owned());
                let text = Some(value.clone());
                match operator.as_str() {
                    "=" => made.is = text,
                    "!=" => made.is_not = text,
                    "~" => made.contains = text,
                    "!~" => made.not_contains = text,
                    "bw" => made.begins_with = text,
                    "ew" => made.ends_with = text,
                    _ => return Err(fault("operator", operator)),
                }
                // OneLogin separates alternatives by it. To take it for itself would turn what a mapping means around.
                if value.trim().is_empty() || value.contains('|') {
                    return Err(wrong_value());
                }
            }
            _ => return Err(fault("source", source)),
        }
        Ok(made)
    }

    fn actions(&self, objects: &[ActionObject], faults: &mut Vec<Fault>) -> Vec<ActionDefinition> {
        let mut then = collect(objects.iter().enumerate().map(|(at, object)| self.action(at, object)), faults);
        if objects.is_empty() {
            faults.push(Fault::new("actions", None, "At least one action is required"));
        }
        // Behind all others, so that the places of those are the places in the request.
        let locks = objects.iter().find(|object| object.action == "set_status" && object.value == [LOCKED]);
        then.extend(locks.map(foreign));
        then
    }

    fn action(&self, at: usize, object: &ActionObject) -> Result<ActionDefinition, Fault> {
        let ActionObject { action, value } = object;
        let wrong_value = || {
            let message = format!("Invalid action value(s): {}", value.join(", "));
            Fault::new(format!("actions.[{at}].value"), None, message)
        };
        let single = || if let [one] = value.as_slice() { Ok(one) } else { Err(wrong_value()) };
        let named = |names: &HashMap<i64, String>| {
            let number = single()?.parse::<i64>().ok();
            number.and_then(|number| names.get(&number)).cloned().ok_or_else(wrong_value)
        };
        match action.as_str() {
            "add_role" => Ok(ActionDefinition { add_role: Some(named(&self.roles)?), ..ActionDefinition::default() }),
            "add_group" => {
                Ok(ActionDefinition { add_group: Some(named(&self.groups)?), ..ActionDefinition::default() })
            }
            "set_status" => match single()?.as_str() {
                SUSPENDED | LOCKED => Ok(ActionDefinition { disable_user: true, ..ActionDefinition::default() }),
                status if STATUSES.iter().any(|(known, _)| known.to_string() == status) => Ok(foreign(object)),
                _ => Err(wrong_value()),
            },
            name if FOREIGN_ACTIONS.contains(&name) || name.starts_with(CUSTOM_ACTION) => {
                let fits = !value.is_empty() && value.len() <= 10 && value.iter().all(|text| text.len() <= 1024);
                if fits && name.len() <= 100 { Ok(foreign(object)) } else { Err(wrong_value()) }
            }
            name => Err(Fault::new(format!("actions.[{at}].action"), None, format!("Invalid action: {name}"))),
        }
    }

    /// `None` for what OneLogin has no words for. The position is the caller's to set.
    pub fn express(&self, view: &MappingView) -> Option<MappingObject> {
        let Definition { name, provider, enabled, join, when, always, unmatched, then, allow, until } =
            &view.definition;
        if provider.is_some() || unmatched.is_some() || until.is_some() || !allow.is_empty() {
            return None;
        }
        let conditions: Option<Vec<_>> = when.iter().map(|condition| self.condition_object(condition)).collect();
        let conditions = conditions.filter(|conditions| *always || !conditions.is_empty())?;
        let number = view.number?;
        Some(MappingObject {
            id: number,
            name: name.clone().unwrap_or_else(|| format!("mapping {number}")),
            join: if *join == JoinWord::All { "all" } else { "any" },
            enabled: *enabled,
            position: None,
            conditions,
            actions: self.action_objects(then)?,
        })
    }

    fn condition_object(&self, condition: &ConditionDefinition) -> Option<ConditionObject> {
        let made = |source: &str, operator: &str, value: String| {
            Some(ConditionObject { source: source.to_owned(), operator: operator.to_owned(), value })
        };
        let number = |role: &String| self.role_numbers.get(role).map(ToString::to_string);
        match condition {
            ConditionDefinition { has_role: Some(role), .. } => made("has_role", "ri", number(role)?),
            ConditionDefinition { lacks_role: Some(role), .. } => made("has_role", "rin", number(role)?),
            ConditionDefinition { last_login: Some(days), .. } => match (days.greater_than, days.less_than) {
                (Some(days), _) => made("last_login", ">", days.to_string()),
                (None, days) => made("last_login", "<", days?.to_string()),
            },
            ConditionDefinition { claim: Some(claim), delimiter: None, ignore_case: false, .. } => {
                let ConditionDefinition { is, is_not, contains, not_contains, begins_with, ends_with, .. } = condition;
                let texts = [is, is_not, contains, not_contains, begins_with, ends_with];
                let found = TEXT_OPERATORS.iter().zip(texts).find_map(|((sign, _), text)| Some((sign, text.as_ref()?)));
                let (sign, text) = found.filter(|(_, text)| !text.contains('|'))?;
                self.claims.contains(claim).then(|| made(claim, sign, text.clone()))?
            }
            _ => None,
        }
    }

    fn action_objects(&self, then: &[ActionDefinition]) -> Option<Vec<ActionObject>> {
        let locks = then.iter().any(|action| action.without_effect.as_ref().is_some_and(is_status_of_disabling));
        let made = |name: &str, value: String| ActionObject { action: name.to_owned(), value: vec![value] };
        let mut objects = Vec::new();
        for action in then {
            let ActionDefinition { add_group, add_role, disable_user, without_effect } = action;
            objects.push(match (add_group, add_role, disable_user, without_effect) {
                (Some(name), ..) => made("add_group", self.group_numbers.get(name)?.to_string()),
                (_, Some(name), ..) => made("add_role", self.role_numbers.get(name)?.to_string()),
                (_, _, true, _) => made("set_status", if locks { LOCKED } else { SUSPENDED }.to_owned()),
                (.., Some(foreign)) if is_status_of_disabling(foreign) => continue,
                (.., Some(foreign)) => ActionObject { action: foreign.action.clone(), value: foreign.value.clone() },
                _ => return None,
            });
        }
        Some(objects)
    }
}

fn foreign(object: &ActionObject) -> ActionDefinition {
    let foreign = ForeignAction { action: object.action.clone(), value: object.value.clone() };
    ActionDefinition { without_effect: Some(foreign), ..ActionDefinition::default() }
}

/// What remembers which of the statuses that keep a person out was asked for: disabling is one thing here.
pub fn is_status_of_disabling(foreign: &ForeignAction) -> bool {
    foreign.action == "set_status" && foreign.value == [LOCKED]
}

fn collect<T>(read: impl Iterator<Item = Result<T, Fault>>, faults: &mut Vec<Fault>) -> Vec<T> {
    let mut kept = Vec::new();
    for one in read {
        match one {
            Ok(made) => kept.push(made),
            Err(fault) => faults.push(fault),
        }
    }
    kept
}
