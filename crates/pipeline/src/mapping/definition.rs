//! A mapping as the mapping APIs write it: the long form as JSON, and the way from there to a [`Mapping`] and back.
//!
//! Everything that is wrong with a definition is said at once, each fault with its field, what was found and what was
//! expected. The meaning is that of `[[mapping]]` in the configuration; what is privileged is not to be had from here.

mod check;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use self::check::Check;
use super::action::{Actions, Allow, Give, Kind, Then};
use super::condition::{ClaimCondition, Condition, Days, Test};
use super::{Activity, Group, Join, Mapping, ProviderRules, Role, When};
use crate::ids::{GroupName, MappingId, ProviderName, RoleName, Target};
use crate::lookup::Lookup;

/// Conditions, or actions, of one mapping at most.
pub const MOST_PARTS: usize = 100;

/// A mapping in its long form.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    /// What people call it; unique among mappings where set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 1024)]
    pub name: Option<String>,
    /// The provider whose logins it asks; none: every provider's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    #[serde(default = "yes")]
    pub enabled: bool,
    #[serde(default, rename = "match")]
    pub join: JoinWord,
    /// Conditions; none only with `always` or `unmatched`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 100)]
    pub when: Vec<ConditionDefinition>,
    /// Holds for everyone who logs in.
    #[serde(default, skip_serializing_if = "is_false")]
    pub always: bool,
    /// A default: holds while this claim is decided and no other mapping on it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unmatched: Option<String>,
    #[schema(min_items = 1, max_items = 100)]
    pub then: Vec<ActionDefinition>,
    /// What captures may be, by name: a closed list, or "any".
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub allow: BTreeMap<String, AllowDefinition>,
    /// From then on it is as if it were removed (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub until: Option<String>,
}

fn yes() -> bool {
    true
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_false(flag: &bool) -> bool {
    !*flag
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum JoinWord {
    #[default]
    All,
    Any,
}

/// One condition: a `claim` with one operator, or one of `has_role`, `lacks_role` and `last_login`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConditionDefinition {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<String>,
    /// Replaces the claim's own; empty: the whole value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 3)]
    pub delimiter: Option<String>,
    #[serde(default, skip_serializing_if = "is_false")]
    pub ignore_case: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_not: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contains: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_contains: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begins_with: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_with: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub glob: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regex: Option<String>,
    /// A decimal number as text, so that none loses a digit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub greater_than: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub less_than: Option<String>,
    #[serde(default, skip_serializing_if = "is_false")]
    pub present: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    pub absent: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub has_role: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lacks_role: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub last_login: Option<DaysDefinition>,
}

/// Days since the login before: one of the two.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DaysDefinition {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub greater_than: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub less_than: Option<u32>,
}

/// One action: exactly one of its fields.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ActionDefinition {
    /// A group's name, or one with places for captures: `team-${team}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub add_group: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub add_role: Option<String>,
    /// Disables the user and refuses the login.
    #[serde(default, skip_serializing_if = "is_false")]
    pub disable_user: bool,
    /// An action of another system that has no effect here, kept so that it can be given back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub without_effect: Option<ForeignAction>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ForeignAction {
    pub action: String,
    pub value: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged, expecting = "expected a list of names, or `any`")]
pub enum AllowDefinition {
    Only(Vec<String>),
    /// The word `any`.
    Any(AnyWord),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AnyWord {
    Any,
}

/// What is wrong with one field of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Fault {
    /// Where, such as `when[0].regex`.
    pub field: String,
    /// What was found, where it was a text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// What is wrong with it and what was expected.
    pub message: String,
}

impl Fault {
    pub fn new(field: impl Into<String>, value: Option<&str>, message: impl Into<String>) -> Self {
        // An answer shall not grow with what was sent.
        let value = value.map(|value| value.chars().take(100).collect());
        Self { field: field.into(), value, message: message.into() }
    }
}

/// How long the texts of a definition may be, in Unicode scalar values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextLimits {
    pub claim_name: usize,
    pub claim_value: usize,
    pub delimiter: usize,
}

impl TextLimits {
    /// For what was accepted before: a limit that was lowered since takes nothing back.
    pub const NONE: Self = Self { claim_name: usize::MAX, claim_value: usize::MAX, delimiter: usize::MAX };
}

/// What a definition may speak of.
#[derive(Clone, Copy)]
pub struct Declared<'a> {
    pub groups: &'a Lookup<GroupName, Group>,
    pub roles: &'a Lookup<RoleName, Role>,
    pub providers: &'a Lookup<ProviderName, ProviderRules>,
}

impl Declared<'_> {
    fn is_privileged(&self, target: &Target) -> bool {
        let role_is = |name: &RoleName| self.roles.get(name).is_some_and(|role| role.privileged);
        match target {
            Target::Group(name) => {
                self.groups.get(name).is_some_and(|group| group.privileged || group.roles.iter().any(role_is))
            }
            Target::Role(name) => role_is(name),
        }
    }

    fn find(&self, kind: Kind, name: &str) -> Option<Target> {
        match kind {
            Kind::Group => self.groups.get_key_value(name).map(|(name, _)| Target::Group(name.clone())),
            Kind::Role => self.roles.get_key_value(name).map(|(name, _)| Target::Role(name.clone())),
        }
    }
}

/// The short form: one value of one claim, one target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Short<'a> {
    pub provider: &'a str,
    pub claim: &'a str,
    pub value: &'a str,
    pub delimiter: Option<&'a str>,
    pub target: ShortTarget<'a>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShortTarget<'a> {
    Group(&'a str),
    Role(&'a str),
}

impl Definition {
    /// A mapping of the short form.
    pub fn of_value(provider: &str, claim: &str, value: &str, delimiter: Option<&str>, target: &Target) -> Self {
        let condition = ConditionDefinition {
            claim: Some(claim.to_owned()),
            is: Some(value.to_owned()),
            delimiter: delimiter.map(str::to_owned),
            ..ConditionDefinition::default()
        };
        Self {
            provider: Some(provider.to_owned()),
            enabled: true,
            when: vec![condition],
            then: vec![ActionDefinition::of(target)],
            ..Self::default()
        }
    }

    /// The outcome of a claim that no mapping matches.
    pub fn of_default(provider: &str, claim: &str, target: &Target) -> Self {
        Self {
            provider: Some(provider.to_owned()),
            enabled: true,
            unmatched: Some(claim.to_owned()),
            then: vec![ActionDefinition::of(target)],
            ..Self::default()
        }
    }

    /// The parts of the short form, if it is one.
    pub fn short(&self) -> Option<Short<'_>> {
        let ([condition], [action]) = (self.when.as_slice(), self.then.as_slice()) else { return None };
        let only_is = ConditionDefinition {
            claim: condition.claim.clone(),
            delimiter: condition.delimiter.clone(),
            is: condition.is.clone(),
            ..ConditionDefinition::default()
        };
        if self.always || self.unmatched.is_some() || self.until.is_some() || *condition != only_is {
            return None;
        }
        Some(Short {
            provider: self.provider.as_deref()?,
            claim: condition.claim.as_deref()?,
            value: condition.is.as_deref()?,
            delimiter: condition.delimiter.as_deref(),
            target: action.single()?,
        })
    }

    /// The long form of a mapping.
    pub fn of(mapping: &Mapping) -> Self {
        let mut definition = Self {
            name: mapping.name.as_deref().map(str::to_owned),
            provider: mapping.provider.as_ref().map(ToString::to_string),
            enabled: mapping.activity != Activity::Disabled,
            until: mapping.until.map(|until| until.to_string()),
            ..Self::default()
        };
        match &mapping.when {
            When::Value { claim, value, delimiter } => {
                let test = Test::Is(Arc::clone(value));
                let condition =
                    ClaimCondition { claim: claim.clone(), delimiter: delimiter.clone(), ignore_case: false, test };
                definition.when.push(ConditionDefinition::of(&Condition::Claim(condition)));
            }
            When::Conditions { join, conditions } => {
                definition.join = if *join == Join::All { JoinWord::All } else { JoinWord::Any };
                definition.when = conditions.iter().map(ConditionDefinition::of).collect();
            }
            When::Always => definition.always = true,
            When::Unmatched { claim } => definition.unmatched = Some(claim.to_string()),
        }
        match &mapping.then {
            Then::Give(target) => definition.then.push(ActionDefinition::of(target)),
            Then::Actions(actions) => definition.set_actions(actions),
        }
        definition
    }

    fn set_actions(&mut self, actions: &Actions) {
        let Actions { gives, disables, allow, without_effect } = actions;
        for give in gives {
            self.then.push(match give {
                Give::Target(target) => ActionDefinition::of(target),
                Give::Captured(Kind::Group, template) => ActionDefinition::group(template.source()),
                Give::Captured(Kind::Role, template) => ActionDefinition::role(template.source()),
            });
        }
        if *disables {
            self.then.push(ActionDefinition { disable_user: true, ..ActionDefinition::default() });
        }
        for (action, value) in without_effect {
            let foreign = ForeignAction { action: action.clone(), value: value.clone() };
            self.then.push(ActionDefinition { without_effect: Some(foreign), ..ActionDefinition::default() });
        }
        self.allow = allow
            .iter()
            .map(|(name, allow)| {
                let allow = match allow {
                    Allow::Any => AllowDefinition::Any(AnyWord::Any),
                    Allow::Only(list) => AllowDefinition::Only(list.iter().map(ToString::to_string).collect()),
                };
                (name.clone(), allow)
            })
            .collect();
    }

    /// Checks it against what is declared.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn compile(&self, id: MappingId, declared: Declared<'_>, limits: TextLimits) -> Result<Mapping, Vec<Fault>> {
        Check { declared, limits, faults: Vec::new() }.mapping(self, id)
    }
}

impl ActionDefinition {
    pub fn of(target: &Target) -> Self {
        match target {
            Target::Group(name) => Self::group(name.as_str()),
            Target::Role(name) => Self::role(name.as_str()),
        }
    }

    fn group(name: &str) -> Self {
        Self { add_group: Some(name.to_owned()), ..Self::default() }
    }

    fn role(name: &str) -> Self {
        Self { add_role: Some(name.to_owned()), ..Self::default() }
    }

    /// The one target, if it is nothing else.
    pub fn single(&self) -> Option<ShortTarget<'_>> {
        if self.disable_user || self.without_effect.is_some() {
            return None;
        }
        match (self.add_group.as_deref(), self.add_role.as_deref()) {
            (Some(name), None) if !name.contains("${") => Some(ShortTarget::Group(name)),
            (None, Some(name)) if !name.contains("${") => Some(ShortTarget::Role(name)),
            _ => None,
        }
    }
}

impl ConditionDefinition {
    /// As one of a gate that asks at logins through this provider. `None` where something is wrong with it.
    pub fn compile(&self, declared: Declared<'_>, provider: &ProviderName) -> Option<Condition> {
        let check = Check { declared, limits: TextLimits::NONE, faults: Vec::new() };
        check.alone(self, provider)
    }

    pub fn of(condition: &Condition) -> Self {
        match condition {
            Condition::HasRole(role) => Self { has_role: Some(role.to_string()), ..Self::default() },
            Condition::LacksRole(role) => Self { lacks_role: Some(role.to_string()), ..Self::default() },
            Condition::LastLogin(days) => Self {
                last_login: Some(match days {
                    Days::MoreThan(days) => DaysDefinition { greater_than: Some(*days), less_than: None },
                    Days::FewerThan(days) => DaysDefinition { greater_than: None, less_than: Some(*days) },
                }),
                ..Self::default()
            },
            Condition::Claim(condition) => Self::of_claim(condition),
            Condition::Unreadable => Self::default(),
        }
    }

    fn of_claim(condition: &ClaimCondition) -> Self {
        let mut definition = Self {
            claim: Some(condition.claim.to_string()),
            delimiter: condition.delimiter.as_ref().map(|delimiter| delimiter.as_str().to_owned()),
            ignore_case: condition.ignore_case,
            ..Self::default()
        };
        let text = condition.test.parts().1.map(std::borrow::Cow::into_owned);
        match &condition.test {
            Test::Is(_) => definition.is = text,
            Test::IsNot(_) => definition.is_not = text,
            Test::Contains(_) => definition.contains = text,
            Test::NotContains(_) => definition.not_contains = text,
            Test::BeginsWith(_) => definition.begins_with = text,
            Test::EndsWith(_) => definition.ends_with = text,
            Test::Glob(_) => definition.glob = text,
            Test::Regex(_) => definition.regex = text,
            Test::GreaterThan(_) => definition.greater_than = text,
            Test::LessThan(_) => definition.less_than = text,
            Test::Present => definition.present = true,
            Test::Absent => definition.absent = true,
        }
        definition
    }

    /// The operators that are set, each with its text.
    fn operators(&self) -> Vec<(&'static str, Option<&str>)> {
        let texts = [
            ("is", &self.is),
            ("is_not", &self.is_not),
            ("contains", &self.contains),
            ("not_contains", &self.not_contains),
            ("begins_with", &self.begins_with),
            ("ends_with", &self.ends_with),
            ("glob", &self.glob),
            ("regex", &self.regex),
            ("greater_than", &self.greater_than),
            ("less_than", &self.less_than),
        ];
        let flags = [("present", self.present), ("absent", self.absent)];
        let texts = texts.into_iter().filter_map(|(name, text)| Some((name, Some(text.as_deref()?))));
        texts.chain(flags.into_iter().filter(|(_, set)| *set).map(|(name, _)| (name, None))).collect()
    }
}
