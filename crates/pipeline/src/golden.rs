//! Golden cases: claims in, memberships expected; the decisions of a login without a token and without a store.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Serialize;

use super::explain::dry::WrittenClaims;
use super::explain::{MappingReport, Verdict, reason, verdicts};
use super::ids::Timestamp;
use super::mapping::RuleSet;
use super::plan::{self, Snapshot};
use super::provider::{Protocol, Provider, UserClaim};
use super::settle::settle;

/// What a login brings, and what is to come of it.
#[derive(Debug, Clone)]
pub struct Case {
    /// Some user, if absent.
    pub user: Option<String>,
    pub claims: WrittenClaims,
    pub held: Snapshot,
    pub expected: Expected,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// Exactly these, effectively.
    Enters { groups: BTreeSet<String>, roles: BTreeSet<String> },
    /// For a reason that holds this text.
    Refused(String),
}

/// What came of a case, in words where it is not what was expected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Answer {
    pub passed: bool,
    pub groups: Vec<String>,
    pub roles: Vec<String>,
    pub refused: Option<String>,
    pub differences: Vec<String>,
}

/// The user of a case that names none.
const SOMEONE: &str = "someone";

/// Decides a case.
pub fn answer(case: &Case, provider: &Provider, rules: &RuleSet, now: Timestamp) -> Answer {
    let written = with_user(case, provider);
    let candidates = match settle(provider, rules, now, |provider, reads| written.read_by_key(provider, reads)) {
        Ok(candidates) => candidates,
        Err(refusal) => return refused(case, refusal.to_string()),
    };
    let claims = Arc::clone(&candidates.claims);
    let plan = plan::draft(claims.user.clone(), now, now, &candidates, &case.held, rules);
    if let Some(why) = &plan.refused {
        return refused(case, reason(why));
    }
    let groups: Vec<String> = plan.after.groups.iter().map(ToString::to_string).collect();
    let roles: Vec<String> = plan.after.roles.iter().map(ToString::to_string).collect();
    let differences = match &case.expected {
        Expected::Refused(text) => vec![format!("it enters; expected a refusal with `{text}`")],
        Expected::Enters { groups: wanted_groups, roles: wanted_roles } => {
            let told = verdicts(rules, &provider.name, &claims, &case.held, now).mappings;
            let mut differences = differing("group", wanted_groups, &groups, &told);
            differences.extend(differing("role", wanted_roles, &roles, &told));
            differences
        }
    };
    Answer { passed: differences.is_empty(), groups, roles, refused: None, differences }
}

fn with_user(case: &Case, provider: &Provider) -> WrittenClaims {
    let name = match (&provider.user.claim, &provider.protocol) {
        (UserClaim::Named(name), _) => name.as_str(),
        (UserClaim::Subject, Protocol::Oidc(_)) => "sub",
        (UserClaim::Subject, Protocol::Saml(_)) => "NameID",
    };
    let mut claims = case.claims.clone();
    let user = case.user.as_deref().unwrap_or(SOMEONE);
    claims.0.entry(name).or_insert_with(|| user.into());
    claims
}

fn refused(case: &Case, why: String) -> Answer {
    let differences = match &case.expected {
        Expected::Refused(text) if why.contains(text.as_str()) => Vec::new(),
        Expected::Refused(text) => vec![format!("it is {why}; expected a refusal with `{text}`")],
        Expected::Enters { .. } => vec![format!("it is refused: {why}; expected it to enter")],
    };
    Answer { passed: differences.is_empty(), groups: Vec::new(), roles: Vec::new(), refused: Some(why), differences }
}

/// What is too much and what is not there, each with the mappings that have to do with it.
fn differing(kind: &str, expected: &BTreeSet<String>, found: &[String], told: &[MappingReport]) -> Vec<String> {
    let givers = |name: &str, hit: bool| -> Vec<String> {
        let target = format!("{kind} `{name}`");
        let giving = told.iter().filter(|mapping| mapping.gives.contains(&target));
        let of_kind = giving.filter(|mapping| (mapping.verdict == Verdict::Hit) == hit);
        of_kind
            .map(|mapping| format!("\n    {} `{}`: {}", mapping.verdict.word(), mapping.mapping, mapping.why()))
            .collect()
    };
    let missing = expected.iter().filter(|name| !found.contains(name));
    let missing = missing.map(|name| format!("- {kind} `{name}` is missing{}", givers(name, false).concat()));
    let surplus = found.iter().filter(|name| !expected.contains(*name));
    let surplus = surplus.map(|name| format!("+ {kind} `{name}` was not expected{}", givers(name, true).concat()));
    missing.chain(surplus).collect()
}
