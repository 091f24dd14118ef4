//! A mapping as the mapping APIs write it: the long form as JSON, and the way from there to a [`Mapping`] and back.
//!
//! Everything that is wrong with a definition is said at once, each fault with its field, what was found and what was
//! expected. The meaning is that of `[[mapping]]` in the configuration; what is privileged is not to be had from here.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::action::{Actions, Allow, Give, Kind, Template, Then};
use super::condition::{ClaimCondition, Condition, Days, Decimal, Pattern, Test};
use super::{Activity, Group, Join, Mapping, ProviderRules, Role, When, stages_meet};
use crate::pipeline::claims::split::Delimiter;
use crate::pipeline::ids::{ClaimName, GroupName, MappingId, ProviderName, RoleName, Target, Timestamp};

/// How many names the captures of one target may come to.
const MOST_NAMES: usize = 1_000;
/// Conditions, or actions, of one mapping at the most.
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
    pub without_effect: Option<ForeignAction>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ForeignAction {
    pub action: String,
    pub value: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
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
    pub groups: &'a HashMap<GroupName, Group>,
    pub roles: &'a HashMap<RoleName, Role>,
    pub providers: &'a HashMap<ProviderName, ProviderRules>,
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

    /// What a claim that no mapping matches comes to.
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
    fn of(condition: &Condition) -> Self {
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

// -------------------------------------------------------------------------------------------------------------- checks

struct Check<'a> {
    declared: Declared<'a>,
    limits: TextLimits,
    faults: Vec<Fault>,
}

impl<'a> Check<'a> {
    fn raise(&mut self, field: impl Into<String>, value: Option<&str>, message: impl Into<String>) {
        self.faults.push(Fault::new(field, value, message));
    }

    fn mapping(mut self, definition: &Definition, id: MappingId) -> Result<Mapping, Vec<Fault>> {
        let name = self.name(definition.name.as_deref());
        let provider = self.provider(definition.provider.as_deref());
        let when = self.when(definition, provider.as_ref());
        let until = self.until(definition.until.as_deref());
        let actions = self.actions(definition, when.as_ref());
        let (Some(when), Some(actions), true) = (when, actions, self.faults.is_empty()) else {
            return Err(self.faults);
        };
        let provider = provider.flatten();
        let activity = self.activity(definition.enabled, provider.as_ref(), &actions);
        let then = match actions.gives.as_slice() {
            [Give::Target(target)] if !actions.disables && actions.without_effect.is_empty() => {
                Then::Give(target.clone())
            }
            _ => Then::Actions(Box::new(actions)),
        };
        Ok(Mapping { id, name, provider, when, then, activity, until })
    }

    fn name(&mut self, name: Option<&str>) -> Option<Arc<str>> {
        let name = name?;
        // A mapping's name is no type of its own; it is bound by what binds other names.
        if let Err(why) = GroupName::parse(name) {
            self.raise("name", Some(name), why.to_string());
        }
        Some(Arc::from(name))
    }

    /// `None` when it names one that is not declared; `Some(None)` when it applies to all.
    #[allow(clippy::option_option, reason = "a provider may be named and not be found")]
    fn provider(&mut self, name: Option<&str>) -> Option<Option<ProviderName>> {
        let Some(name) = name else { return Some(None) };
        let found = self.declared.providers.get_key_value(name).map(|(name, _)| name.clone());
        if found.is_none() {
            self.raise("provider", Some(name), "is not declared; expected the name of a provider");
        }
        found.map(Some)
    }

    fn until(&mut self, text: Option<&str>) -> Option<Timestamp> {
        let text = text?;
        let parsed = chrono::DateTime::parse_from_rfc3339(text);
        if parsed.is_err() {
            self.raise("until", Some(text), "expected a moment such as 2027-01-31T00:00:00Z");
        }
        parsed.ok().map(|date| Timestamp(date.timestamp_millis()))
    }

    #[allow(clippy::option_option, reason = "a provider may be named and not be found")]
    fn when(&mut self, definition: &Definition, provider: Option<&Option<ProviderName>>) -> Option<When> {
        let kinds = [!definition.when.is_empty(), definition.always, definition.unmatched.is_some()];
        match kinds.iter().filter(|kind| **kind).count() {
            0 => {
                let message = "asks for nothing; expected conditions, `always`: true for everyone, or `unmatched`";
                self.raise("when", None, message);
                return None;
            }
            1 => {}
            _ => {
                self.raise("when", None, "expected one of `when`, `always` and `unmatched`");
                return None;
            }
        }
        if definition.always {
            return Some(When::Always);
        }
        if let Some(claim) = &definition.unmatched {
            if definition.provider.is_none() {
                self.raise("provider", None, "missing; a default belongs to the claim of one provider");
            }
            return self.claim("unmatched", claim, provider).map(|claim| When::Unmatched { claim });
        }
        if definition.when.len() > MOST_PARTS {
            self.raise(
                "when",
                None,
                format!("has {} conditions; expected at most {MOST_PARTS}", definition.when.len()),
            );
            return None;
        }
        let checked: Vec<Option<Condition>> = definition
            .when
            .iter()
            .enumerate()
            .map(|(at, condition)| self.condition(&format!("when[{at}]"), condition, provider))
            .collect();
        let conditions: Vec<Condition> = checked.into_iter().collect::<Option<_>>()?;
        Some(self.filed(definition.join, conditions, provider))
    }

    /// The short form is one condition that the index files by its value.
    #[allow(clippy::option_option, reason = "a provider may be named and not be found")]
    fn filed(&self, join: JoinWord, conditions: Vec<Condition>, provider: Option<&Option<ProviderName>>) -> When {
        if let ([Condition::Claim(condition)], Some(Some(_))) = (conditions.as_slice(), provider)
            && let (Test::Is(value), false) = (&condition.test, condition.ignore_case)
        {
            return When::Value {
                claim: condition.claim.clone(),
                value: Arc::clone(value),
                delimiter: condition.delimiter.clone(),
            };
        }
        let join = if join == JoinWord::All { Join::All } else { Join::Any };
        When::Conditions { join, conditions: conditions.into() }
    }

    #[allow(clippy::option_option, reason = "a provider may be named and not be found")]
    fn claim(&mut self, field: &str, name: &str, provider: Option<&Option<ProviderName>>) -> Option<ClaimName> {
        self.within(field, name, self.limits.claim_name, "claim_name");
        let provider = provider?;
        let found = self.claim_rules(provider.as_ref()).find(|rule| rule.name.as_str() == name).map(|rule| &rule.name);
        let found = found.cloned();
        if found.is_none() {
            let whose = match provider {
                Some(provider) => format!("provider `{provider}`"),
                None => String::from("any provider"),
            };
            self.raise(field, Some(name), format!("is not declared under {whose}; expected the name of a claim"));
        }
        found
    }

    fn claim_rules(
        &self,
        provider: Option<&ProviderName>,
    ) -> impl Iterator<Item = &'a crate::pipeline::claims::ClaimRule> + use<'a> {
        let provider = provider.cloned();
        let of = move |(name, _): &(&ProviderName, &ProviderRules)| provider.as_ref().is_none_or(|own| own == *name);
        self.declared.providers.iter().filter(of).flat_map(|(_, rules)| &rules.claims)
    }

    fn within(&mut self, field: &str, text: &str, most: usize, key: &str) {
        let found = text.chars().count();
        if found > most {
            let message = format!("has {found} characters; expected at most {most} (`limits.{key}` sets this)");
            self.raise(field, Some(text), message);
        }
    }

    #[allow(clippy::option_option, reason = "a provider may be named and not be found")]
    fn condition(
        &mut self,
        field: &str,
        definition: &ConditionDefinition,
        provider: Option<&Option<ProviderName>>,
    ) -> Option<Condition> {
        let ConditionDefinition { claim, has_role, lacks_role, last_login, .. } = definition;
        match (claim, has_role, lacks_role, last_login) {
            (Some(claim), None, None, None) => {
                self.claim_condition(field, claim, definition, provider).map(Condition::Claim)
            }
            (None, Some(role), None, None) => {
                self.no_operator(field, definition);
                self.role(&format!("{field}.has_role"), role).map(Condition::HasRole)
            }
            (None, None, Some(role), None) => {
                self.no_operator(field, definition);
                self.role(&format!("{field}.lacks_role"), role).map(Condition::LacksRole)
            }
            (None, None, None, Some(days)) => {
                self.no_operator(field, definition);
                match (days.greater_than, days.less_than) {
                    (Some(days), None) => Some(Condition::LastLogin(Days::MoreThan(days))),
                    (None, Some(days)) => Some(Condition::LastLogin(Days::FewerThan(days))),
                    _ => {
                        let message = "expected either `greater_than` or `less_than`, a number of days";
                        self.raise(format!("{field}.last_login"), None, message);
                        None
                    }
                }
            }
            _ => {
                self.raise(field, None, "expected one of `claim`, `has_role`, `lacks_role` and `last_login`");
                None
            }
        }
    }

    fn no_operator(&mut self, field: &str, definition: &ConditionDefinition) {
        let operators = definition.operators();
        if let Some((operator, value)) = operators.first() {
            self.raise(format!("{field}.{operator}"), *value, "compares a claim; expected `claim` beside it");
        }
    }

    fn role(&mut self, field: &str, name: &str) -> Option<RoleName> {
        let found = self.declared.roles.get_key_value(name).map(|(name, _)| name.clone());
        if found.is_none() {
            self.raise(field, Some(name), "is not declared; expected the name of a role");
        }
        found
    }

    #[allow(clippy::option_option, reason = "a provider may be named and not be found")]
    fn claim_condition(
        &mut self,
        field: &str,
        claim: &str,
        definition: &ConditionDefinition,
        provider: Option<&Option<ProviderName>>,
    ) -> Option<ClaimCondition> {
        let claim = self.claim(&format!("{field}.claim"), claim, provider);
        let delimiter = self.delimiter(&format!("{field}.delimiter"), definition.delimiter.as_deref());
        let operators = definition.operators();
        let [(operator, text)] = operators.as_slice() else {
            let message = match operators.is_empty() {
                true => "compares with nothing; expected one operator, such as `is`",
                false => "has several operators; expected one, and a condition for each",
            };
            self.raise(field, None, message);
            return None;
        };
        let test = self.test(&format!("{field}.{operator}"), operator, *text, definition.ignore_case)?;
        let (claim, delimiter) = (claim?, delimiter?);
        if let Some(text) = text {
            self.check_split(&format!("{field}.{operator}"), operator, text, &claim, delimiter.as_ref(), provider?);
        }
        Some(ClaimCondition { claim, delimiter, ignore_case: definition.ignore_case, test })
    }

    #[allow(clippy::option_option, reason = "the outer one says that the text is a fault")]
    fn delimiter(&mut self, field: &str, text: Option<&str>) -> Option<Option<Delimiter>> {
        let Some(text) = text else { return Some(None) };
        if text.is_empty() {
            return Some(Some(Delimiter::none()));
        }
        self.within(field, text, self.limits.delimiter, "delimiter");
        match Delimiter::parse(text) {
            Ok(delimiter) => Some(Some(delimiter)),
            Err(why) => {
                self.raise(field, Some(text), why.to_string());
                None
            }
        }
    }

    fn test(&mut self, field: &str, operator: &str, text: Option<&str>, ignore_case: bool) -> Option<Test> {
        let Some(text) = text else {
            return Some(if operator == "present" { Test::Present } else { Test::Absent });
        };
        self.within(field, text, self.limits.claim_value, "claim_value");
        if text.trim().is_empty() {
            self.raise(field, Some(text), "is empty or blank, which no claim ever brings; expected a value");
            return None;
        }
        let value: Arc<str> = Arc::from(text);
        let built = match operator {
            "is" => Ok(Test::Is(value)),
            "is_not" => Ok(Test::IsNot(value)),
            "contains" => Ok(Test::Contains(value)),
            "not_contains" => Ok(Test::NotContains(value)),
            "begins_with" => Ok(Test::BeginsWith(value)),
            "ends_with" => Ok(Test::EndsWith(value)),
            "glob" => Pattern::glob(text, ignore_case).map(Test::Glob),
            "regex" => Pattern::regex(text, ignore_case).map(Test::Regex),
            _ => Decimal::parse(text)
                .ok_or_else(|| String::from("expected a decimal number such as 30 or 2.5"))
                .map(|bound| if operator == "greater_than" { Test::GreaterThan(bound) } else { Test::LessThan(bound) }),
        };
        built.map_err(|why| self.raise(field, Some(text), why)).ok()
    }

    /// A value that holds the delimiter by which it is split can never be met.
    fn check_split(
        &mut self,
        field: &str,
        operator: &str,
        text: &str,
        claim: &ClaimName,
        own: Option<&Delimiter>,
        provider: &Option<ProviderName>,
    ) {
        if !matches!(operator, "is" | "is_not" | "contains" | "not_contains" | "begins_with" | "ends_with") {
            return;
        }
        let holds = |delimiter: &&Delimiter| !delimiter.as_str().is_empty() && text.contains(delimiter.as_str());
        let split = match own {
            Some(own) => Some(own).filter(holds),
            None => self
                .claim_rules(provider.as_ref())
                .filter(|rule| rule.name == *claim)
                .filter_map(|rule| rule.delimiter.as_ref())
                .find(holds),
        };
        if let Some(delimiter) = split {
            let message = format!(
                "holds the delimiter `{}`, by which the claim is split; expected one piece, or `delimiter`: \"\"",
                delimiter.as_str()
            );
            self.raise(field, Some(text), message);
        }
    }

    fn actions(&mut self, definition: &Definition, when: Option<&When>) -> Option<Actions> {
        let count = definition.then.len();
        if count == 0 || count > MOST_PARTS {
            self.raise("then", None, format!("has {count} actions; expected 1 to {MOST_PARTS}"));
            return None;
        }
        let mut actions = Actions { allow: self.allow(definition), ..Actions::default() };
        let mut whole = true;
        for (at, action) in definition.then.iter().enumerate() {
            whole &= self.action(&format!("then[{at}]"), action, &mut actions);
        }
        if !whole {
            return None;
        }
        self.check_captures(&actions, when);
        Some(actions)
    }

    fn allow(&mut self, definition: &Definition) -> BTreeMap<String, Allow> {
        let mut lists = BTreeMap::new();
        for (name, allow) in &definition.allow {
            let allow = match allow {
                AllowDefinition::Any(AnyWord::Any) => Allow::Any,
                AllowDefinition::Only(list) => {
                    if list.is_empty() {
                        self.raise(format!("allow.{name}"), None, "allows nothing; expected values, or \"any\"");
                    }
                    Allow::Only(list.iter().map(|text| Arc::from(text.as_str())).collect())
                }
            };
            lists.insert(name.clone(), allow);
        }
        lists
    }

    fn action(&mut self, field: &str, action: &ActionDefinition, actions: &mut Actions) -> bool {
        let ActionDefinition { add_group, add_role, disable_user, without_effect } = action;
        match (add_group, add_role, disable_user, without_effect) {
            (Some(name), None, false, None) => self.give(&format!("{field}.add_group"), Kind::Group, name, actions),
            (None, Some(name), false, None) => self.give(&format!("{field}.add_role"), Kind::Role, name, actions),
            (None, None, true, None) => {
                actions.disables = true;
                true
            }
            (None, None, false, Some(foreign)) => {
                actions.without_effect.push((foreign.action.clone(), foreign.value.clone()));
                true
            }
            _ => {
                let message = "expected one of `add_group`, `add_role` and `disable_user`, and an action for each";
                self.raise(field, None, message);
                false
            }
        }
    }

    fn give(&mut self, field: &str, kind: Kind, name: &str, actions: &mut Actions) -> bool {
        match Template::parse(name) {
            Some(Ok(template)) => {
                actions.gives.push(Give::Captured(kind, template));
                true
            }
            Some(Err(why)) => {
                self.raise(field, Some(name), why);
                false
            }
            None => match self.target(field, kind, name) {
                Some(target) => {
                    actions.gives.push(Give::Target(target));
                    true
                }
                None => false,
            },
        }
    }

    /// A declared target that a mapping of the store may give.
    fn target(&mut self, field: &str, kind: Kind, name: &str) -> Option<Target> {
        let word = if kind == Kind::Group { "group" } else { "role" };
        let Some(target) = self.declared.find(kind, name) else {
            self.raise(field, Some(name), format!("is not declared; expected the name of a {word}"));
            return None;
        };
        if self.declared.is_privileged(&target) {
            let message = "is privileged and takes mappings from the configuration file alone";
            self.raise(field, Some(name), message);
            return None;
        }
        Some(target)
    }

    fn check_captures(&mut self, actions: &Actions, when: Option<&When>) {
        let conditions = match when {
            Some(When::Conditions { conditions, .. }) => &conditions[..],
            _ => &[],
        };
        let patterns: Vec<&Pattern> = conditions
            .iter()
            .filter_map(|condition| match &condition.claim()?.test {
                Test::Regex(pattern) if pattern.captures().next().is_some() => Some(pattern),
                _ => None,
            })
            .collect();
        let templates: Vec<(usize, Kind, &Template)> = actions
            .gives
            .iter()
            .enumerate()
            .filter_map(|(at, give)| match give {
                Give::Captured(kind, template) => Some((at, *kind, template)),
                Give::Target(_) => None,
            })
            .collect();
        if !templates.is_empty() && patterns.len() > 1 {
            let message = "two conditions capture, so which value belongs to which is open; expected one such `regex`";
            self.raise("when", None, message);
        }
        let captures: Vec<&str> = patterns.first().map(|pattern| pattern.captures().collect()).unwrap_or_default();
        let unknown: Vec<&String> = actions.allow.keys().filter(|name| !captures.contains(&name.as_str())).collect();
        for name in unknown {
            self.raise(format!("allow.{name}"), None, "no `regex` of this mapping captures it");
        }
        for (at, kind, template) in templates {
            self.check_template(&format!("then[{at}]"), kind, template, &captures, &actions.allow);
        }
    }

    fn check_template(
        &mut self,
        field: &str,
        kind: Kind,
        template: &Template,
        captures: &[&str],
        allow: &BTreeMap<String, Allow>,
    ) {
        let mut open = false;
        for name in template.captures() {
            if !captures.contains(&name) {
                self.raise(field, Some(template.source()), format!("no `regex` of this mapping captures `{name}`"));
                open = true;
            } else if !allow.contains_key(name) {
                let message = format!("a claim value would choose the target; expected `allow`.`{name}`");
                self.raise(field, Some(template.source()), message);
                open = true;
            }
            open |= allow.get(name) == Some(&Allow::Any);
        }
        if open {
            return;
        }
        let Some(names) = template.expansions(allow, MOST_NAMES) else {
            let message = format!("may come to more than {MOST_NAMES} names; expected fewer");
            return self.raise(field, Some(template.source()), message);
        };
        for name in names {
            let _ = self.target(field, kind, &name);
        }
    }

    fn activity(&self, enabled: bool, provider: Option<&ProviderName>, actions: &Actions) -> Activity {
        if !enabled {
            return Activity::Disabled;
        }
        let Some(rules) = provider.and_then(|name| self.declared.providers.get(name)) else { return Activity::Active };
        let meets = |give: &Give| match give {
            Give::Target(Target::Group(name)) => {
                let stages = self.declared.groups.get(name).map(|group| group.stages.as_slice()).unwrap_or_default();
                stages_meet(&rules.stages, stages)
            }
            Give::Target(Target::Role(_)) | Give::Captured(..) => true,
        };
        match actions.gives.is_empty() || actions.gives.iter().any(meets) {
            true => Activity::Active,
            false => Activity::Inactive,
        }
    }
}
