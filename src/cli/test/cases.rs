//! Golden cases as they are written.

use std::collections::BTreeSet;
use std::path::Path;

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use toml::Value as Toml;

use super::super::{Failure, moment, undeclared};
use crate::pipeline::explain::dry::WrittenClaims;
use crate::pipeline::golden::{Case, Expected};
use crate::pipeline::ids::{GroupName, RoleName, Target, Timestamp};
use crate::pipeline::mapping::{Mapping, RuleSet};
use crate::pipeline::plan::{Grant, Snapshot, Source};
use crate::pipeline::provider::Provider;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    case: Vec<Written>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Written {
    pub title: String,
    pub provider: Option<String>,
    user: Option<String>,
    #[serde(default, deserialize_with = "some_moment")]
    pub at: Option<Timestamp>,
    claims: toml::Table,
    #[serde(default)]
    held: Held,
    expect: Expect,
}

/// What the person has before the login.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Held {
    groups: Vec<String>,
    roles: Vec<String>,
    denied_groups: Vec<String>,
    denied_roles: Vec<String>,
    through: Vec<String>,
    #[serde(deserialize_with = "some_moment")]
    last_login: Option<Timestamp>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expect {
    #[serde(default)]
    groups: BTreeSet<String>,
    #[serde(default)]
    roles: BTreeSet<String>,
    refused: Option<String>,
}

/// With or without quotes.
fn some_moment<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    let text = match Toml::deserialize(deserializer)? {
        Toml::Datetime(date) => date.to_string(),
        Toml::String(text) => text,
        _ => String::new(),
    };
    moment(&text).map(Some).map_err(serde::de::Error::custom)
}

/// The cases of a file.
pub fn read(path: &Path) -> Result<Vec<Written>, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| Failure(format!("`{}`: {error}", path.display())))?;
    let file: File = toml::from_str(&text).map_err(|error| Failure(format!("`{}`: {error}", path.display())))?;
    Ok(file.case)
}

impl Written {
    /// The case, with names that the rules declare.
    pub fn case(&self, provider: &Provider, rules: &RuleSet) -> Result<Case, Failure> {
        let Expect { groups, roles, refused } = &self.expect;
        let expected = match refused {
            None => {
                groups.iter().try_for_each(|name| group(name, rules).map(drop))?;
                roles.iter().try_for_each(|name| role(name, rules).map(drop))?;
                Expected::Enters { groups: groups.clone(), roles: roles.clone() }
            }
            Some(_) if !(groups.is_empty() && roles.is_empty()) => {
                return Err(Failure("`expect` has both a refusal and memberships; expected one of them".into()));
            }
            Some(text) => Expected::Refused(text.clone()),
        };
        let claims: Map<String, Value> = self.claims.iter().map(|(name, value)| (name.clone(), json(value))).collect();
        let held = self.held.snapshot(provider, rules)?;
        Ok(Case { user: self.user.clone(), claims: WrittenClaims(claims), held, expected })
    }
}

impl Held {
    fn snapshot(&self, provider: &Provider, rules: &RuleSet) -> Result<Snapshot, Failure> {
        let targets = |groups: &[String], roles: &[String]| -> Result<Vec<Target>, Failure> {
            let groups = groups.iter().map(|name| group(name, rules));
            groups.chain(roles.iter().map(|name| role(name, rules))).collect()
        };
        let by_hand = targets(&self.groups, &self.roles)?.into_iter();
        let mut grants: Vec<Grant> = by_hand.map(|target| Grant { target, source: Source::Assigned }).collect();
        for label in &self.through {
            let found = rules.mappings().iter().find(|mapping| mapping.label() == *label);
            let Some(mapping) = found else {
                let labels: Vec<String> = rules.mappings().iter().map(Mapping::label).collect();
                return Err(undeclared("mapping", label, labels.iter().map(String::as_str)));
            };
            let source = Source::Mapped { provider: provider.name.clone(), mapping: mapping.id };
            grants.extend(mapping.then.named().map(|target| Grant { target: target.clone(), source: source.clone() }));
        }
        let denies = targets(&self.denied_groups, &self.denied_roles)?.into_iter().collect();
        Ok(Snapshot { grants, denies, last_login: self.last_login, ..Snapshot::default() })
    }
}

fn group(name: &str, rules: &RuleSet) -> Result<Target, Failure> {
    match GroupName::parse(name) {
        Ok(group) if rules.groups.contains_key(&group) => Ok(Target::Group(group)),
        _ => Err(undeclared("group", name, rules.groups.keys().map(GroupName::as_str))),
    }
}

fn role(name: &str, rules: &RuleSet) -> Result<Target, Failure> {
    match RoleName::parse(name) {
        Ok(role) if rules.roles.contains_key(&role) => Ok(Target::Role(role)),
        _ => Err(undeclared("role", name, rules.roles.keys().map(RoleName::as_str))),
    }
}

/// A claim value as a token would have it.
fn json(value: &Toml) -> Value {
    match value {
        Toml::String(text) => text.as_str().into(),
        Toml::Integer(number) => (*number).into(),
        Toml::Float(number) => (*number).into(),
        Toml::Boolean(truth) => (*truth).into(),
        Toml::Datetime(date) => date.to_string().into(),
        Toml::Array(values) => values.iter().map(json).collect(),
        Toml::Table(members) => {
            members.iter().map(|(name, value)| (name.clone(), json(value))).collect::<Map<_, _>>().into()
        }
    }
}
