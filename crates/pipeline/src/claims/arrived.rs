//! What the provider sent: the names of the claims that came with a login, never their values; and the names that are nearly
//! those of claims that are missing.
//!
//! ```text
//! name = "groups", sent: `Groups`                          differs by case only
//! name = "roles", sent: `https://app.example.com/roles`    ends in it
//! name = "/realm_access/roles", sent: `realm_access.Roles` `/realm_access/Roles` differs by case only
//! ```

use std::fmt;

use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::names::{self, PARTS};
use super::selector::{Segment, Selector};
use super::sources::{Brought, Source, Sources};
use super::{ClaimRule, ClaimState, look};
use crate::provider::{Mode, Provider, UserClaim};
use crate::verify::saml::{SamlAttribute, SamlStatement};
use crate::verify::{Assertion, Statement, Verified};

/// Names of one source that are listed. A provider may send any number, and the audit keeps them.
const MOST_NAMES: usize = 100;
/// Characters of a name.
const MOST_CHARACTERS: usize = 120;
/// Nearly equal names that are told for one claim.
const MOST_NEAR: usize = 3;

/// What a login brought, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Arrived {
    pub sources: Vec<ArrivedNames>,
    pub near: Vec<NearName>,
}

/// The names of the claims that one source brought.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ArrivedNames {
    /// As `from` calls it: `id_token`, `userinfo`, `access_token` or `assertion`.
    pub source: &'static str,
    /// Of a SAML attribute its Name, and its FriendlyName in brackets.
    pub names: Vec<String>,
    /// How many more came.
    #[serde(skip_serializing_if = "is_zero")]
    pub more: usize,
}

/// A claim that is missing, and a name that came and is nearly its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NearName {
    /// What the configuration calls the claim.
    pub claim: String,
    /// The name by which it is looked for.
    pub expected: String,
    pub found: String,
    pub how: Nearness,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nearness {
    Case,
    /// What came has more in front, such as a namespace.
    End,
    /// It is the FriendlyName of an attribute, and the provider's are found by Name alone.
    Friendly,
}

impl fmt::Display for ArrivedNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.source)?;
        if self.names.is_empty() {
            return f.write_str("nothing");
        }
        for (place, name) in self.names.iter().enumerate() {
            // Escaped: a name may hold anything.
            write!(f, "{}{}", if place == 0 { "" } else { ", " }, name.escape_debug())?;
        }
        match self.more {
            0 => Ok(()),
            more => write!(f, ", and {more} more"),
        }
    }
}

impl fmt::Display for NearName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { claim: _, expected, found, how } = self;
        match how {
            Nearness::Case => write!(f, "{found:?} arrived, which differs from {expected:?} by case or blanks only"),
            Nearness::End => write!(f, "{found:?} arrived, which ends in {expected:?}"),
            Nearness::Friendly => write!(f, "{found:?} arrived as a FriendlyName, and `friendly_names` is false"),
        }
    }
}

/// What a verified login brought. `rules` are the claims that its provider declares, `missing` says of which nothing came.
pub fn arrived<'r>(
    assertion: &Verified<Assertion>,
    sources: &Sources,
    provider: &Provider,
    missing: impl Iterator<Item = &'r ClaimRule>,
) -> Arrived {
    of_statement(&assertion.get().statement, sources, provider, missing)
}

/// The same of what has not been verified, for a look.
pub fn arrived_dry(statement: &Statement, provider: &Provider) -> Arrived {
    let sources = Sources::default();
    let missing = provider.claims.iter().filter(|rule| is_missing(statement, &sources, rule));
    of_statement(statement, &sources, provider, missing)
}

/// What a login brought that its claims refuse.
pub fn arrived_refused(assertion: &Verified<Assertion>, sources: &Sources, provider: &Provider) -> Arrived {
    let statement = &assertion.get().statement;
    let missing = provider.claims.iter().filter(|rule| is_missing(statement, sources, rule));
    of_statement(statement, sources, provider, missing)
}

fn is_missing(statement: &Statement, sources: &Sources, rule: &ClaimRule) -> bool {
    look(statement, sources, rule).state == ClaimState::Missing
}

fn of_statement<'r>(
    statement: &Statement,
    sources: &Sources,
    provider: &Provider,
    missing: impl Iterator<Item = &'r ClaimRule>,
) -> Arrived {
    let all = payloads(statement, sources);
    let listed = all.iter().map(|(source, payload)| payload.names(word(*source, provider.mode))).collect();
    let mut near: Vec<NearName> = Vec::new();
    for rule in missing {
        let asked = all.iter().filter(|(source, _)| rule.from.contains(source));
        let found = asked.flat_map(|(_, payload)| payload.near(rule.name.as_str(), &rule.selector));
        near.extend(found.take(MOST_NEAR));
    }
    if let UserClaim::Named(name) = &provider.user.claim
        && let Ok(selector) = Selector::parse(name)
        && super::of_statement(statement, &selector).state == ClaimState::Missing
    {
        let assertion = all.iter().filter(|(source, _)| *source == Source::Assertion);
        near.extend(assertion.flat_map(|(_, payload)| payload.near(name, &selector)).take(MOST_NEAR));
    }
    Arrived { sources: listed, near }
}

/// What a source is called where an operator names it.
fn word(source: Source, mode: Mode) -> &'static str {
    match source {
        Source::Assertion if mode.is_saml() => "assertion",
        Source::Assertion if mode == Mode::Bearer => "access_token",
        Source::Assertion => "id_token",
        Source::Userinfo => "userinfo",
        Source::AccessToken => "access_token",
    }
}

enum Payload<'a> {
    Members(&'a Map<String, Value>),
    Saml(&'a SamlStatement),
}

fn payloads<'a>(statement: &'a Statement, sources: &'a Sources) -> Vec<(Source, Payload<'a>)> {
    let mut all = Vec::with_capacity(3);
    match statement {
        Statement::Oidc(members) => all.push((Source::Assertion, Payload::Members(members))),
        Statement::Saml(statement) => all.push((Source::Assertion, Payload::Saml(statement))),
        Statement::Userinfo(_) => {}
    }
    for (source, brought) in [(Source::Userinfo, &sources.userinfo), (Source::AccessToken, &sources.access_token)] {
        if let Brought::Present(payload) = brought {
            all.push((source, Payload::Members(&payload.get().0)));
        }
    }
    all
}

impl Payload<'_> {
    fn names(&self, source: &'static str) -> ArrivedNames {
        match self {
            Self::Members(members) => listed(source, members.keys().map(|name| cut(name))),
            Self::Saml(statement) => {
                let parts = PARTS.iter().filter(|(_, part)| !part.of(statement).is_empty());
                let mut names: Vec<String> = parts.map(|(name, _)| (*name).to_owned()).collect();
                for attribute in &statement.attributes {
                    let name = in_brackets(attribute);
                    // An attribute may come in several elements. Those past the list are counted as they come.
                    if names.len() >= MOST_NAMES || !names.contains(&name) {
                        names.push(name);
                    }
                }
                listed(source, names.into_iter())
            }
        }
    }

    fn near(&self, claim: &str, selector: &Selector) -> Vec<NearName> {
        let near = |expected: &str, found: &str, how| NearName {
            claim: claim.to_owned(),
            expected: cut(expected),
            found: cut(found),
            how,
        };
        match (self, selector) {
            (Self::Members(members), Selector::Name(name)) => {
                members.keys().filter_map(|found| Some(near(name, found, nearness(name, found)?))).collect()
            }
            (Self::Members(members), Selector::Path(segments)) => {
                let found = near_path(members, segments);
                found.map(|(expected, found)| near(&expected, &found, Nearness::Case)).into_iter().collect()
            }
            (Self::Saml(statement), Selector::Name(name)) => {
                let names = statement
                    .attributes
                    .iter()
                    .flat_map(|attribute| [Some(&attribute.name), attribute.friendly_name.as_ref()])
                    .flatten()
                    .map(String::as_str)
                    .chain(PARTS.iter().filter(|(_, part)| !part.of(statement).is_empty()).map(|(name, _)| *name));
                let long = names::long_name(name);
                let nearness = |found: &str| {
                    if statement.by_name_alone && found == name {
                        return Some(Nearness::Friendly);
                    }
                    nearness(name, found).or_else(|| nearness(long?, found).filter(|how| *how == Nearness::Case))
                };
                names.filter_map(|found| Some(near(name, found, nearness(found)?))).collect()
            }
            (Self::Saml(_), Selector::Path(_)) => Vec::new(),
        }
    }
}

fn in_brackets(attribute: &SamlAttribute) -> String {
    match &attribute.friendly_name {
        Some(friendly) if *friendly != attribute.name => format!("{} ({})", cut(&attribute.name), cut(friendly)),
        _ => cut(&attribute.name),
    }
}

fn listed(source: &'static str, mut names: impl Iterator<Item = String>) -> ArrivedNames {
    let first = names.by_ref().take(MOST_NAMES).collect();
    ArrivedNames { source, names: first, more: names.count() }
}

/// How a name that came is like the one that is looked for, and not it.
fn nearness(expected: &str, found: &str) -> Option<Nearness> {
    // Folding costs; nothing that is much longer can be told by its end after a character that ends a namespace.
    let (wanted, came) = (folded(expected), folded(found));
    if wanted == came {
        return (expected != found).then_some(Nearness::Case);
    }
    let front = came.strip_suffix(&wanted)?;
    front.ends_with(['/', '#', ':', '.']).then_some(Nearness::End)
}

fn folded(name: &str) -> String {
    name.trim().to_lowercase()
}

/// Where a path ends for want of a member, the same path by a member that is nearly so called.
fn near_path(members: &Map<String, Value>, segments: &[Segment]) -> Option<(String, String)> {
    let (mut members, mut walked) = (members, String::new());
    for segment in segments {
        let Segment::Member(name) = segment else { return None };
        match members.get(name) {
            Some(Value::Object(inner)) => members = inner,
            Some(_) => return None,
            None => {
                let found = members.keys().find(|found| nearness(name, found) == Some(Nearness::Case))?;
                return Some((format!("{walked}/{name}"), format!("{walked}/{found}")));
            }
        }
        walked = format!("{walked}/{name}");
    }
    None
}

/// A name, bounded.
fn cut(name: &str) -> String {
    match name.char_indices().nth(MOST_CHARACTERS) {
        Some((end, _)) => format!("{}…", name.get(..end).unwrap_or_default()),
        None => name.to_owned(),
    }
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_are_near_by_case_blanks_and_their_end() {
        for (expected, found, how) in [
            ("groups", "Groups", Some(Nearness::Case)),
            ("groups", "groups ", Some(Nearness::Case)),
            ("groups", "groups", None),
            ("roles", "https://app.example.com/roles", Some(Nearness::End)),
            ("groups", "cognito:groups", Some(Nearness::End)),
            ("groups", "subgroups", None),
            ("groups", "group", None),
            ("https://app.example.com/roles", "roles", None),
        ] {
            assert_eq!(nearness(expected, found), how, "{expected} {found}");
        }
    }

    #[test]
    fn a_path_is_near_where_one_member_of_it_is() {
        let payload = json!({"realm_access": {"Roles": ["a"]}, "list": [{"x": 1}], "text": "t"});
        let near = |path: &str| {
            let Selector::Path(segments) = Selector::parse(path).unwrap() else { panic!("{path}") };
            near_path(payload.as_object().unwrap(), &segments).map(|(_, found)| found)
        };
        assert_eq!(near("/realm_access/roles").as_deref(), Some("/realm_access/Roles"));
        assert_eq!(near("/Realm_Access/roles").as_deref(), Some("/realm_access"));
        for path in ["/realm_access/other", "/list/*/X", "/text/x", "/realm_access/Roles"] {
            assert_eq!(near(path), None, "{path}");
        }
    }

    #[test]
    fn what_is_listed_is_bounded() {
        let mut members = Map::new();
        for number in 0..250 {
            members.insert(format!("{number}{}", "x".repeat(500)), json!("secret"));
        }
        let listed = Payload::Members(&members).names("id_token");
        assert_eq!((listed.names.len(), listed.more), (MOST_NAMES, 150));
        assert!(listed.names.iter().all(|name| name.chars().count() == MOST_CHARACTERS + 1));
    }
}
