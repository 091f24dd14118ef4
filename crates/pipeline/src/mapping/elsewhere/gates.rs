//! Gates that keep people out by another file. They travel with their conditions, and are asked here as they are asked there.
//!
//! A condition that this file cannot ask is undecided, and a gate that cannot be decided refuses: it asks for a claim that the provider
//! brings there and not here, for a role that is not declared here, or is written by a later version.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::condition::Condition;
use super::super::definition::{ConditionDefinition, Declared, JoinWord};
use super::super::{Gate, GateRule, Join, ProviderRules, Rules};
use crate::ids::ProviderName;
use crate::lookup::Lookup;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct GateText {
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    provider: Option<String>,
    message: String,
    #[serde(default, rename = "match")]
    join: JoinWord,
    deny: Vec<Value>,
    /// By provider, which of the claims that it asks for the provider brings.
    reads: BTreeMap<String, BTreeSet<String>>,
}

/// Those that keep people out by their conditions.
pub(super) fn texts(gates: &[Gate], providers: &Lookup<ProviderName, ProviderRules>) -> Vec<GateText> {
    gates.iter().filter_map(|gate| GateText::of(gate, providers)).collect()
}

/// Whether a gate of another file asks for what cannot be asked here, so that it may refuse for that.
pub fn is_undecidable(gate: &Gate) -> bool {
    match &gate.rule {
        GateRule::Deny { conditions, .. } => conditions.iter().any(|it| matches!(it, Condition::Unreadable)),
        _ => false,
    }
}

impl GateText {
    fn of(gate: &Gate, providers: &Lookup<ProviderName, ProviderRules>) -> Option<Self> {
        let GateRule::Deny { join, conditions } = &gate.rule else { return None };
        let of_gate = |rules: &ProviderRules| -> BTreeSet<String> {
            let asked = conditions.iter().filter_map(Condition::claim).map(|condition| &condition.claim);
            let brought = asked.filter(|claim| rules.claims.iter().any(|rule| rule.name == **claim));
            brought.map(ToString::to_string).collect()
        };
        let applies = |name: &ProviderName| gate.provider.as_ref().is_none_or(|own| own == name);
        let reads = providers.iter().filter(|(name, _)| applies(name));
        Some(Self {
            name: gate.name.to_string(),
            provider: gate.provider.as_ref().map(ToString::to_string),
            message: gate.message.clone(),
            join: if *join == Join::All { JoinWord::All } else { JoinWord::Any },
            // A condition always has a JSON text.
            deny: conditions
                .iter()
                .map(|it| serde_json::to_value(ConditionDefinition::of(it)).unwrap_or_default())
                .collect(),
            reads: reads.map(|(name, rules)| (name.to_string(), of_gate(rules))).collect(),
        })
    }

    /// As the providers of these rules ask it: one for each of them that it is for.
    pub(super) fn here(&self, rules: &Rules) -> Vec<Gate> {
        let applies = |name: &ProviderName| self.provider.as_ref().is_none_or(|own| own == name.as_str());
        let mut names: Vec<&ProviderName> = rules.providers.keys().filter(|name| applies(name)).collect();
        names.sort();
        names.into_iter().filter_map(|name| self.at(name, rules)).collect()
    }

    /// `None`: it never refuses a login through this provider.
    fn at(&self, provider: &ProviderName, rules: &Rules) -> Option<Gate> {
        let join = if self.join == JoinWord::All { Join::All } else { Join::Any };
        let mut conditions = Vec::with_capacity(self.deny.len());
        for condition in &self.deny {
            match (self.condition(condition, provider, rules), join) {
                (Some(condition), _) => conditions.push(condition),
                // It is false.
                (None, Join::All) => return None,
                (None, Join::Any) => {}
            }
        }
        let rule = GateRule::Deny { join, conditions: conditions.into() };
        let name = Arc::from(self.name.as_str());
        Some(Gate { name, provider: Some(provider.clone()), rule, message: self.message.clone() })
    }

    /// `None`: it is false at every login, since the provider brings the claim in neither file.
    fn condition(&self, written: &Value, provider: &ProviderName, rules: &Rules) -> Option<Condition> {
        let Ok(definition) = ConditionDefinition::deserialize(written) else { return Some(Condition::Unreadable) };
        if let Some(claim) = &definition.claim {
            let brings = |rules: &ProviderRules| rules.claims.iter().any(|rule| rule.name.as_str() == claim);
            let brought_there = self.reads.get(provider.as_str()).is_some_and(|claims| claims.contains(claim));
            match rules.providers.get(provider).is_some_and(brings) {
                true => {}
                false if brought_there => return Some(Condition::Unreadable),
                false => return None,
            }
        }
        let declared = Declared { groups: &rules.groups, roles: &rules.roles, providers: &rules.providers };
        Some(definition.compile(declared, provider).unwrap_or(Condition::Unreadable))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::ClaimRule;
    use crate::ids::ClaimName;
    use crate::mapping::Gate;
    use crate::provider::claim::Source;
    use crate::provider::selector::Selector;

    fn rules(claims: &[&str]) -> Rules {
        let claim = |name: &&str| {
            let name = ClaimName::parse(name).unwrap();
            ClaimRule::plain(name.clone(), Selector::Name(name.to_string()), vec![Source::Assertion])
        };
        let provider = ProviderRules { claims: claims.iter().map(claim).collect(), ..ProviderRules::default() };
        Rules { providers: Lookup::from_iter([(ProviderName::parse("idp").unwrap(), provider)]), ..Rules::default() }
    }

    fn gate(match_: &str, deny: &str, reads: &str) -> GateText {
        let text =
            format!(r#"{{"name":"g","message":"no","match":"{match_}","deny":{deny},"reads":{{"idp":{reads}}}}}"#);
        serde_json::from_str(&text).unwrap()
    }

    /// How many conditions it has here, and how many of them cannot be asked; `None`: it refuses no login.
    fn asked(gate: &GateText, rules: &Rules) -> Option<(usize, usize)> {
        let gates = gate.here(rules);
        let Gate { rule: GateRule::Deny { conditions, .. }, .. } = gates.first()? else { panic!("a gate that asks") };
        Some((conditions.len(), conditions.iter().filter(|it| matches!(it, Condition::Unreadable)).count()))
    }

    #[test]
    fn a_condition_that_cannot_be_asked_here_is_undecided() {
        let leave = r#"{"claim":"groups","is":"on-leave"}"#;
        let cases = [
            ("what both read", "all", format!("[{leave}]"), r#"["groups"]"#, Some((1, 0))),
            (
                "a claim of the other file",
                "all",
                r#"[{"claim":"risk","is":"high"}]"#.into(),
                r#"["risk"]"#,
                Some((1, 1)),
            ),
            ("a claim of neither", "all", format!(r#"[{leave},{{"claim":"x","is":"y"}}]"#), r#"["groups"]"#, None),
            (
                "a claim of neither, or another",
                "any",
                format!(r#"[{leave},{{"claim":"x","is":"y"}}]"#),
                r#"["groups"]"#,
                Some((1, 0)),
            ),
            ("a role of the other file", "any", r#"[{"has_role":"ghost"}]"#.into(), "[]", Some((1, 1))),
            ("what a later version writes", "all", r#"[{"device":"known"}]"#.into(), "[]", Some((1, 1))),
            (
                "a pattern that is none",
                "all",
                r#"[{"claim":"groups","regex":"("}]"#.into(),
                r#"["groups"]"#,
                Some((1, 1)),
            ),
        ];
        for (name, match_, deny, reads, expected) in cases {
            assert_eq!(asked(&gate(match_, &deny, reads), &rules(&["groups"])), expected, "{name}");
        }
    }
}
