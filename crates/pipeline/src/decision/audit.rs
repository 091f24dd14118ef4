//! What the audit says of a decision.

use std::collections::BTreeSet;

use serde::Serialize;

use super::asked::{Act, Why};
use super::{ClaimSummary, Login};
use crate::claims::arrived::ArrivedNames;
use crate::ids::{ProviderName, Target, UserId};
use crate::mapping::{Hit, NearMiss, RuleSet};
use crate::plan::{Change, Plan};

/// One row to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub event: &'static str,
    /// JSON.
    pub detail: String,
    /// The id of a login in the log.
    pub login: Option<String>,
    pub about: About,
}

/// Whom a row is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum About {
    NoUser,
    /// The number of the user, without personal fields.
    Number,
    /// The user with their key, and with an e-mail address where one is known.
    Person {
        email: Option<String>,
    },
    /// Another user than the one whom the decision is about, or one under another key.
    Other {
        number: i64,
        user: UserId,
    },
    /// A number that had a user until now.
    Former(i64),
}

impl Entry {
    pub(super) fn new(event: &'static str, detail: &impl Serialize) -> Self {
        // Structs of texts and numbers always have a JSON text.
        let detail = serde_json::to_string(detail).unwrap_or_default();
        Self { event, detail, login: None, about: About::Person { email: None } }
    }

    /// A row about no user.
    pub fn told(event: &'static str, detail: &serde_json::Value) -> Self {
        Self { event, detail: detail.to_string(), login: None, about: About::NoUser }
    }
}

/// What the audit says of a login that was refused after its signature held.
#[derive(Serialize)]
pub struct RefusalDetail<'a> {
    pub login: &'a str,
    pub provider: &'a str,
    pub token: &'a str,
    pub outcome: &'a str,
    pub reason: &'a str,
    /// What the provider sent, by name, where its claims were read.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub arrived: &'a [ArrivedNames],
}

/// A login that was refused before there was anything to decide.
pub fn refused(detail: &RefusalDetail<'_>) -> Entry {
    let login = Some(detail.login.to_owned());
    Entry { login, about: About::NoUser, ..Entry::new("login_refused", detail) }
}

pub(super) fn refusal(login: &Login, outcome: &str, reason: &str, about: bool) -> Entry {
    let detail = RefusalDetail {
        login: &login.id,
        provider: login.provider.as_str(),
        token: &login.token_id,
        outcome,
        reason,
        arrived: &login.arrived,
    };
    let about = if about { About::Number } else { About::NoUser };
    Entry { login: Some(login.id.clone()), about, ..Entry::new("login_refused", &detail) }
}

pub(super) fn login(login: &Login, plan: &Plan, rules: &RuleSet) -> Entry {
    let event = match (plan.older, plan.shadow) {
        (true, _) => "login_older",
        (false, true) => "login_shadow",
        (false, false) => "login",
    };
    let about = About::Person { email: login.email.clone() };
    Entry { login: Some(login.id.clone()), about, ..Entry::new(event, &LoginDetail::new(login, plan, rules)) }
}

#[derive(Serialize)]
struct LeaseDetail<'a> {
    provider: &'a str,
    ended: Vec<String>,
}

pub(super) fn lease_ended(provider: &ProviderName, targets: &BTreeSet<&Target>) -> Entry {
    let ended = targets.iter().map(ToString::to_string).collect();
    Entry::new("lease_ended", &LeaseDetail { provider: provider.as_str(), ended })
}

#[derive(Serialize)]
struct DenyDetail<'a> {
    kind: &'a str,
    name: &'a str,
}

pub(super) fn deny_ended(target: &Target) -> Entry {
    Entry::new("deny_ended", &DenyDetail { kind: target.kind(), name: target.name() })
}

#[derive(Serialize)]
struct ReplannedDetail<'a> {
    provider: &'a str,
    why: &'a str,
    by: &'a str,
    added: Vec<String>,
    removed: Vec<String>,
    held: Vec<String>,
}

fn names(changes: &[Change]) -> Vec<String> {
    changes.iter().map(|change| change.target.to_string()).collect()
}

pub(super) fn replanned(plan: &Plan, held: Vec<String>, why: Why<'_>) -> Entry {
    let (why, by) = match why {
        Why::Rules { by: None } => ("rules", ""),
        Why::Rules { by: Some(by) } => ("asked", by),
        Why::Released { by, .. } => ("released", by),
    };
    let (added, removed) = (names(&plan.grants), names(&plan.revokes));
    Entry::new("replanned", &ReplannedDetail { provider: plan.provider.as_str(), why, by, added, removed, held })
}

pub(super) fn released(provider: &ProviderName, targets: &[Target], by: &str) -> Entry {
    let removed = targets.iter().map(ToString::to_string).collect();
    let (added, held) = (Vec::new(), Vec::new());
    let detail = ReplannedDetail { provider: provider.as_str(), why: "released", by, added, removed, held };
    Entry::new("replanned", &detail)
}

pub(super) fn hold_discarded(provider: &ProviderName, target: &Target, by: &str) -> Entry {
    let (added, removed, held) = (Vec::new(), Vec::new(), vec![target.to_string()]);
    let detail = ReplannedDetail { provider: provider.as_str(), why: "discarded", by, added, removed, held };
    Entry::new("hold_discarded", &detail)
}

#[derive(Serialize)]
struct DisabledDetail<'a> {
    by: &'a str,
    mapping: &'a str,
    why: &'a str,
}

pub(super) fn user_disabled(by: &str, mapping: &str) -> Entry {
    Entry::new("user_disabled", &DisabledDetail { by, mapping, why: "released" })
}

pub(super) fn user_enabled(by: &str, mapping: &str) -> Entry {
    Entry::new("user_enabled", &DisabledDetail { by, mapping, why: "enabled by its mapping" })
}

pub(super) fn erased_enabled(by: &str, mapping: &str) -> Entry {
    let detail = DisabledDetail { by, mapping, why: "enabled by its mapping; erased since" };
    Entry { about: About::NoUser, ..Entry::new("user_enabled", &detail) }
}

pub(super) fn disabling_discarded(by: &str, mapping: &str) -> Entry {
    Entry::new("hold_discarded", &DisabledDetail { by, mapping, why: "discarded" })
}

#[derive(Serialize)]
struct LoginDetail<'a> {
    login: &'a str,
    provider: &'a str,
    issuer: &'a str,
    token: &'a str,
    issued_at: Option<i64>,
    binding: &'a str,
    claims: &'a [ClaimSummary],
    /// The names of all claims that the provider sent, never their values.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    arrived: &'a [ArrivedNames],
    /// Mappings that matched; every other one did not.
    matched: Vec<Given<'a>>,
    added: Vec<Given<'a>>,
    removed: Vec<Given<'a>>,
    /// How many of the grants that were there still match.
    kept: usize,
    undecided: Vec<Given<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    held: Vec<Given<'a>>,
    guarded: Vec<Given<'a>>,
    /// A mapping that would have disabled the user, and why it did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    spared: Option<SparedDetail<'a>>,
    /// Values that a mapping would have matched but for their case.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    near_misses: Vec<NearMissDetail<'a>>,
    /// Mappings whose captures named nothing that may be given so.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unknown: Vec<&'a str>,
}

#[derive(Serialize)]
struct SparedDetail<'a> {
    mapping: &'a str,
    why: String,
}

#[derive(Serialize)]
struct NearMissDetail<'a> {
    mapping: String,
    found: &'a str,
}

/// A mapping and its target.
#[derive(Serialize)]
struct Given<'a> {
    mapping: &'a str,
    #[serde(flatten)]
    target: TargetDetail<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum TargetDetail<'a> {
    Group(&'a str),
    Role(&'a str),
}

impl<'a> From<&'a Target> for TargetDetail<'a> {
    fn from(target: &'a Target) -> Self {
        match target {
            Target::Group(name) => Self::Group(name.as_str()),
            Target::Role(name) => Self::Role(name.as_str()),
        }
    }
}

impl<'a> LoginDetail<'a> {
    fn new(login: &'a Login, plan: &'a Plan, rules: &RuleSet) -> Self {
        let entry = |label: &'a str, target: &'a Target| Given { mapping: label, target: target.into() };
        let matched = |hit: &'a Hit| entry(&hit.label, &hit.target);
        let moved = |changes: &'a [Change]| changes.iter().map(|change| entry(&change.label, &change.target)).collect();
        Self {
            login: &login.id,
            provider: login.provider.as_str(),
            issuer: &login.issuer,
            token: &login.token_id,
            issued_at: login.issued_at.map(|at| at.0),
            binding: login.binding,
            claims: &login.claims,
            arrived: &login.arrived,
            matched: plan.hits.iter().map(matched).collect(),
            added: moved(&plan.grants),
            removed: moved(&plan.revokes),
            kept: plan.keeps.len(),
            undecided: moved(&plan.undecided),
            held: moved(&plan.held),
            guarded: moved(&plan.guarded),
            spared: plan.spared.as_ref().map(|(by, why)| SparedDetail { mapping: &by.label, why: why.to_string() }),
            near_misses: plan.near_misses.iter().filter_map(|miss| NearMissDetail::new(miss, rules)).collect(),
            unknown: plan.unknown.iter().map(|(mapping, _)| mapping.as_str()).collect(),
        }
    }
}

impl<'a> NearMissDetail<'a> {
    fn new(miss: &'a NearMiss, rules: &RuleSet) -> Option<Self> {
        let mapping = rules.mappings().get(miss.position as usize)?;
        Some(Self { mapping: mapping.label(), found: &miss.found })
    }
}

#[derive(Serialize)]
struct ActDetail<'a> {
    by: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    /// Nothing of an erased person stays, not even what binds them.
    #[serde(skip_serializing_if = "Option::is_none")]
    forgotten: Option<bool>,
}

pub(super) fn act(event: &'static str, act: &Act, by: &str, about: About) -> Entry {
    let target = act.target();
    let reason = match act {
        Act::Deny { reason, .. } => Some(reason.as_str()),
        _ => None,
    };
    let forgotten = matches!(act, Act::Forget).then_some(true);
    let detail = ActDetail { by, kind: target.map(Target::kind), name: target.map(Target::name), reason, forgotten };
    Entry { about, ..Entry::new(event, &detail) }
}
