//! From a definition to its mapping: everything that is wrong with it, at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::action::{Actions, Allow, Give, Kind, Template, Then};
use super::super::condition::{ClaimCondition, Condition, Days, Decimal, Pattern, Test};
use super::super::{Activity, Join, Mapping, ProviderRules, When, stages_meet};
use super::{
    ActionDefinition, AllowDefinition, AnyWord, ConditionDefinition, Declared, Definition, Fault, JoinWord, MOST_PARTS,
    TextLimits,
};
use crate::claims::split::Delimiter;
use crate::ids::{ClaimName, GroupName, MappingId, ProviderName, RoleName, Target, Timestamp};

/// How many names the captures of one target may come to.
const MOST_NAMES: usize = 1_000;

pub(super) struct Check<'a> {
    pub(super) declared: Declared<'a>,
    pub(super) limits: TextLimits,
    pub(super) faults: Vec<Fault>,
}

impl<'a> Check<'a> {
    fn raise(&mut self, field: impl Into<String>, value: Option<&str>, message: impl Into<String>) {
        self.faults.push(Fault::new(field, value, message));
    }

    pub(super) fn mapping(mut self, definition: &Definition, id: MappingId) -> Result<Mapping, Vec<Fault>> {
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

    pub(super) fn alone(mut self, definition: &ConditionDefinition, provider: &ProviderName) -> Option<Condition> {
        let condition = self.condition("deny", definition, Some(&Some(provider.clone())));
        condition.filter(|_| self.faults.is_empty())
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
            self.raise("until", Some(text), "expected a time such as 2027-01-31T00:00:00Z");
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
    ) -> impl Iterator<Item = &'a crate::claims::ClaimRule> + use<'a> {
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
            self.raise(
                format!("{field}.{operator}"),
                *value,
                "compares a claim; expected `claim` in the same condition",
            );
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
