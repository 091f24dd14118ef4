//! How a login is decided, told from end to end: is it verified, what did each claim bring, what did every mapping come
//! to and why, which gates are open, and what the plan is.
//!
//! Nothing is decided here. The same functions that decide a login are asked, and their answers are put into a
//! [`Report`] that prints itself for people ([`fmt::Display`]) and for programs (serde).
//!
//! ```text
//! hit        groups = staff      group `Staff`      groups is "staff"
//! near miss  engineers           group `Engineers`  department is "Engineering": "engineering" differs by case alone
//! missed     groups = admins     group `Admins`     groups is "admins": false
//! ```

pub mod dry;
mod text;
mod verdicts;

use std::fmt;

use serde::Serialize;
use utoipa::ToSchema;

pub use self::verdicts::{ConditionReport, GateReport, MappingReport, Verdict, Verdicts, verdicts};
use super::claims::arrived::{Arrived, ArrivedNames};
use super::claims::sources::Source;
use super::claims::{Claim, ClaimState, Claims, Reads, Unresolved, overage};
use super::ids::{ClaimName, Timestamp};
use super::plan::{Change, Plan, Refused};
use super::provider::Provider;
use super::verify::Assertion;

/// Everything that can be said of one login.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Report {
    pub outcome: Outcome,
    /// Why the login would be refused.
    pub refused: Option<String>,
    pub proof: Proof,
    /// `ID token`, `bearer token`, `SAML response` or `claims`.
    pub input: &'static str,
    pub provider: String,
    pub at: String,
    pub keys: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub token: Option<TokenReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub user: Option<UserReport>,
    pub claims: Vec<ClaimReport>,
    /// The names of all claims that the provider sent, never their values.
    pub arrived: Vec<ArrivedNames>,
    pub mappings: Vec<MappingReport>,
    /// Mappings that are not told of, for want of room.
    pub mappings_left_out: usize,
    pub gates: Vec<GateReport>,
    /// What it is decided against: a database, or nothing.
    pub store: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub plan: Option<PlanReport>,
    /// Remarks on it.
    pub notes: Vec<String>,
}

/// Whether the login would reach the app.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Enters,
    Refused,
    /// The outcome is unknown: no keys, no store, or a claim that a login would go on to ask for.
    Unknown,
}

/// Whether a signature vouches for what is looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Proof {
    /// Signature, issuer, audience and times hold.
    Verified,
    /// A token that is not believed.
    NotVerified { because: String },
    /// No token: claims that an operator wrote down.
    Dry,
}

#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct TokenReport {
    pub id: String,
    pub issued_at: String,
    pub expires_at: String,
    /// The store has seen it: a second arrival is refused as a replay.
    pub spent: bool,
}

impl TokenReport {
    pub fn of(assertion: &Assertion) -> Self {
        Self {
            id: assertion.token_id.clone(),
            issued_at: assertion.issued_at.to_string(),
            expires_at: assertion.expires_at.to_string(),
            spent: false,
        }
    }
}

#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct UserReport {
    pub name: String,
    /// Has logged in before, or was created by hand.
    pub known: bool,
    pub enabled: bool,
}

/// What one claim brought.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ClaimReport {
    pub name: String,
    pub state: String,
    /// Whether mappings can be decided on it.
    pub decided: bool,
    /// As the token wrote them.
    pub values: Vec<String>,
    /// As mappings see them: split by the claim's own delimiter, without its prefix.
    pub pieces: Vec<String>,
    /// Elements of a wrong type that were passed over.
    pub skipped: usize,
    /// Where a login would go on to look for it, which was not done here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub elsewhere: Option<String>,
}

impl ClaimReport {
    pub fn all(claims: &Claims, provider: &Provider, reads: Reads<'_>) -> Vec<Self> {
        let told = |claim: &Claim| Self {
            elsewhere: elsewhere(&claim.name, &claim.state, provider, reads),
            ..Self::of(claim)
        };
        claims.claims.iter().map(told).collect()
    }

    fn of(claim: &Claim) -> Self {
        let values = match &claim.state {
            ClaimState::Values(values) => values.clone(),
            _ => Vec::new(),
        };
        Self {
            name: claim.name.to_string(),
            state: claim.state.to_string(),
            decided: claim.decided,
            values,
            pieces: claim.pieces(None).into_iter().map(str::to_owned).collect(),
            skipped: claim.skipped,
            elsewhere: None,
        }
    }
}

/// Where a login would go on to look for a claim that is not known: the provider's directory, or sources other than the token.
pub fn elsewhere(claim: &ClaimName, state: &ClaimState, provider: &Provider, reads: Reads<'_>) -> Option<String> {
    let rule = provider.claims.iter().find(|rule| rule.name == *claim)?;
    match state {
        ClaimState::Unresolved(Unresolved::Overage) => {
            let asks = provider.overage.is_some() && overage::is_groups(&rule.selector) && reads(claim);
            asks.then(|| String::from("a login asks the provider's directory for it, and `explain --ask` does so"))
        }
        ClaimState::Unresolved(Unresolved::NotInToken) => {
            let named = |(source, name)| rule.from.contains(&source).then_some(name);
            let sources = [(Source::Userinfo, "userinfo"), (Source::AccessToken, "the access token")];
            let named: Vec<&str> = sources.into_iter().filter_map(named).collect();
            (!named.is_empty())
                .then(|| format!("a login reads it from {}, which is not done here", named.join(" and ")))
        }
        _ => None,
    }
}

/// A plan for programs, and the text of it for people.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct PlanReport {
    pub older: bool,
    pub shadow: bool,
    pub refused: Option<String>,
    pub grants: Vec<ChangeReport>,
    pub keeps: Vec<ChangeReport>,
    pub revokes: Vec<ChangeReport>,
    pub undecided: Vec<ChangeReport>,
    pub held: Vec<ChangeReport>,
    pub guarded: Vec<ChangeReport>,
    pub groups: Vec<String>,
    pub roles: Vec<String>,
    #[serde(skip)]
    text: String,
}

#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ChangeReport {
    pub kind: &'static str,
    pub name: String,
    pub mapping: String,
}

impl PlanReport {
    pub fn of(plan: &Plan) -> Self {
        let changes = |changes: &[Change]| changes.iter().map(ChangeReport::of).collect();
        Self {
            older: plan.older,
            shadow: plan.shadow,
            refused: plan.refused.as_ref().map(reason),
            grants: changes(&plan.grants),
            keeps: changes(&plan.keeps),
            revokes: changes(&plan.revokes),
            undecided: changes(&plan.undecided),
            held: changes(&plan.held),
            guarded: changes(&plan.guarded),
            groups: plan.after.groups.iter().map(ToString::to_string).collect(),
            roles: plan.after.roles.iter().map(ToString::to_string).collect(),
            text: plan.to_string(),
        }
    }
}

impl ChangeReport {
    fn of(change: &Change) -> Self {
        Self { kind: change.target.kind(), name: change.target.name().to_owned(), mapping: change.label.clone() }
    }
}

/// Why the rules refuse, as the log says it.
pub fn reason(refused: &Refused) -> String {
    match refused {
        Refused::Gate { name, .. } => format!("refused by gate `{name}`"),
        Refused::Disables(by) => format!("mapping `{}` disables the user", by.label),
    }
}

impl Report {
    /// A report on a login that has just been looked at, before anything is known of it.
    pub fn new(input: &'static str, provider: &str, at: Timestamp, proof: Proof) -> Self {
        Self {
            outcome: Outcome::Unknown,
            refused: None,
            proof,
            input,
            provider: provider.to_owned(),
            at: at.to_string(),
            keys: None,
            token: None,
            user: None,
            claims: Vec::new(),
            arrived: Vec::new(),
            mappings: Vec::new(),
            mappings_left_out: 0,
            gates: Vec::new(),
            store: None,
            plan: None,
            notes: Vec::new(),
        }
    }

    /// Keeps as many mappings at most: those first that took part, each kind in the order of the rules.
    pub fn keep_mappings(&mut self, most: usize) {
        if self.mappings.len() > most {
            self.mappings_left_out += self.mappings.len() - most;
            self.mappings.sort_by_key(|mapping| mapping.verdict);
            self.mappings.truncate(most);
        }
    }

    /// Tells what the provider sent, and which claims are missing for want of a letter.
    pub fn tell_arrived(&mut self, arrived: Arrived) {
        let Arrived { sources, near } = arrived;
        self.arrived = sources;
        self.notes.extend(near.into_iter().map(|near| format!("claim `{}` is missing: {near}", near.claim)));
    }

    /// Notes the first reason to refuse; a later one adds nothing.
    pub fn refuse(&mut self, reason: impl fmt::Display) {
        self.outcome = Outcome::Refused;
        self.refused.get_or_insert_with(|| reason.to_string());
    }
}
