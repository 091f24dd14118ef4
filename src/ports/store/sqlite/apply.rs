//! One login's transaction: read the snapshot, plan, write the difference, the replay record and the audit row.

use aws_lc_rs::digest;
use rusqlite::{OptionalExtension, params};
use serde::Serialize;

use super::super::{Applied, ClaimSummary, Login, Refusal, StoreError};
use super::audit::About;
use super::erased::Bound;
use super::standing::{self, Standing};
use super::{Session, act, audit, brake, denies, disabling, erased, kind_of, lease, recorded, unavailable, write};
use crate::pipeline::ids::{Target, Timestamp};
use crate::pipeline::mapping::{Candidates, Hit, NearMiss, RuleSet};
use crate::pipeline::plan::{self, Change, Plan, Refused};
use crate::pipeline::verify::Spending;

pub(super) fn apply(
    session: &mut Session<'_>,
    login: &Login,
    candidates: &Candidates,
    rules: &RuleSet,
) -> Result<Applied, StoreError> {
    if session.epoch.is_some_and(|epoch| rules.epoch < epoch) {
        return Ok(Applied::Stale);
    }
    let token = token_digest(&login.issuer, &login.token_id);
    if login.spending == Spending::Once && !remember(session, &token, true, login.remember_until)? {
        refuse_once(session, &token, login, "replay", "this token was used before", None)?;
        return Ok(Applied::Replay);
    }
    sweep(session, login.now)?;
    let who = Who::find(session, login)?;
    if who.is_disabled() {
        refuse_once(session, &token, login, "disabled", "the user is disabled", who.row())?;
        return Ok(Applied::Disabled);
    }
    let (mut plan, standing) = plan_for(session, login, &who, candidates, rules)?;
    if let Some(refused) = plan.refused.take() {
        return refuse(session, &token, login, &who, refused);
    }
    let user_row = touch_user(session, login, &who)?;
    disabling::note_stopped(session, user_row, &who, &plan, login.now)?;
    write::plan(session, user_row, &plan, &standing, rules.lease(&login.provider).is_some(), login.now)?;
    note_login(session, user_row, login, candidates, &plan, &standing, rules)?;
    let event = match (plan.older, plan.shadow) {
        (true, _) => "login_older",
        (false, true) => "login_shadow",
        (false, false) => "login",
    };
    let person = Some((&login.user, login.email.as_deref()));
    let about = About { login: Some(&login.id), user: Some(user_row), person };
    audit::append_about(session, login.now, event, &LoginDetail::new(login, &plan, rules), &about)?;
    Ok(Applied::Committed(Box::new(plan)))
}

/// What the login changes, after the brake and the last holders of protected targets were looked after. A plan that is
/// refused is a draft.
pub(super) fn plan_for(
    session: &mut Session<'_>,
    login: &Login,
    who: &Who,
    candidates: &Candidates,
    rules: &RuleSet,
) -> Result<(Plan, Standing), StoreError> {
    let known = who.known.as_ref();
    if let Some(known) = known {
        lease::end_of_user(session, (known.row, &login.user), &login.provider, rules, login.now)?;
    }
    let mut standing = match known {
        Some(known) => standing::read(session, (known.row, &login.user), &login.provider, rules, login.now)?,
        None => Standing::default(),
    };
    if let Some(bound) = &who.bound {
        standing.snapshot.denies.extend(bound.denies.iter().cloned());
    }
    let bearers: Vec<Target> =
        standing.snapshot.denies.iter().flat_map(|target| denies::bearers(rules, target)).collect();
    standing.snapshot.denies.extend(bearers);
    let snapshot = &standing.snapshot;
    // What the provider was asked for just now is newer than any token.
    let issued_at = login.issued_at.or(snapshot.watermark).unwrap_or(login.now);
    let mut plan = plan::draft(login.user.clone(), issued_at, login.now, candidates, snapshot, rules);
    if let (Some(Refused::Disables(by)), Some(known)) = (&plan.refused, known)
        && let Some(why) = disabling::spared(session, known.row, by, &plan, snapshot, rules, login.now)?
    {
        plan.spare(why);
    }
    if plan.refused.is_some() {
        return Ok((plan, standing));
    }
    let stopped = brake::stopped(session, &plan, rules, login.now)?;
    plan.hold(stopped, snapshot, rules);
    // Whom nobody knows holds nothing that could be the last of its kind.
    if let Some(known) = known {
        let last = last_held(session, known.row, &plan, rules)?;
        plan.guard(&last, snapshot, rules);
    }
    Ok((plan, standing))
}

/// The rules refuse this login: nothing is written but that it was refused, and the user whom a mapping disables.
fn refuse(
    session: &mut Session<'_>,
    token: &[u8],
    login: &Login,
    who: &Who,
    refused: Refused,
) -> Result<Applied, StoreError> {
    match refused {
        Refused::Gate { name, message } => {
            let reason = format!("refused by gate `{name}`");
            refuse_once(session, token, login, "gate", &reason, who.row())?;
            Ok(Applied::Gated { gate: name.to_string(), message })
        }
        Refused::Disables(by) => {
            let row = touch_user(session, login, who)?;
            disabling::disable(session, row, &by, login.now)?;
            let reason = format!("mapping `{}` disables the user", by.label);
            // Every user has a row that tells how they came, even by a token that was refused before.
            match who.known {
                Some(_) => refuse_once(session, token, login, "disabled", &reason, Some(row))?,
                None => note_refusal(session, login, "disabled", &reason, Some(row))?,
            }
            Ok(Applied::Disabled)
        }
    }
}

/// Records a login that was refused after its signature held, once for each token.
pub(super) fn record_refusal(session: &mut Session<'_>, refusal: &Refusal) -> Result<(), StoreError> {
    let token = token_digest(refusal.provider.as_str(), &refusal.token_id);
    if !remember(session, &token, false, refusal.remember_until)? {
        return Ok(());
    }
    sweep(session, refusal.now)?;
    let detail = RefusalDetail {
        login: &refusal.id,
        provider: refusal.provider.as_str(),
        token: &refusal.token_id,
        outcome: "refused",
        reason: &refusal.reason,
    };
    let about = About { login: Some(&refusal.id), ..About::default() };
    audit::append_about(session, refusal.now, "login_refused", &detail, &about)
}

fn refuse_once(
    session: &Session<'_>,
    token: &[u8],
    login: &Login,
    outcome: &str,
    reason: &str,
    user: Option<i64>,
) -> Result<(), StoreError> {
    if !remember(session, token, false, login.remember_until)? {
        return Ok(());
    }
    note_refusal(session, login, outcome, reason, user)
}

fn note_refusal(
    session: &Session<'_>,
    login: &Login,
    outcome: &str,
    reason: &str,
    user: Option<i64>,
) -> Result<(), StoreError> {
    let detail =
        RefusalDetail { login: &login.id, provider: login.provider.as_str(), token: &login.token_id, outcome, reason };
    let about = About { login: Some(&login.id), user, person: None };
    audit::append_about(session, login.now, "login_refused", &detail, &about)
}

#[derive(Serialize)]
struct RefusalDetail<'a> {
    login: &'a str,
    provider: &'a str,
    token: &'a str,
    outcome: &'a str,
    reason: &'a str,
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
    /// Mappings that matched; every other one did not.
    matched: Vec<Entry<'a>>,
    added: Vec<Entry<'a>>,
    removed: Vec<Entry<'a>>,
    /// How many of the grants that were there still match.
    kept: usize,
    undecided: Vec<Entry<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    held: Vec<Entry<'a>>,
    guarded: Vec<Entry<'a>>,
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
struct Entry<'a> {
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
        let entry = |label: &'a str, target: &'a Target| Entry { mapping: label, target: target.into() };
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

pub(super) fn token_digest(scope: &str, token_id: &str) -> Vec<u8> {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(&(scope.len() as u64).to_be_bytes());
    context.update(scope.as_bytes());
    context.update(token_id.as_bytes());
    context.finish().as_ref().to_vec()
}

/// Notes a token; `false` when it was noted before.
fn remember(session: &Session<'_>, token: &[u8], spent: bool, until: Timestamp) -> Result<bool, StoreError> {
    let inserted = session
        .connection
        .prepare_cached("INSERT INTO tokens (digest, spent, until) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING")
        .and_then(|mut insert| insert.execute(params![token, spent, until.0]))
        .map_err(unavailable)?;
    Ok(inserted == 1)
}

/// Clears expired token records away, once in a transaction: more of them than its jobs add, so that the table shrinks under
/// load. The limit is written out: SQLite plans by a bound one's value, and compiled the statement anew each time.
fn sweep(session: &mut Session<'_>, now: Timestamp) -> Result<(), StoreError> {
    if std::mem::replace(&mut session.swept, true) {
        return Ok(());
    }
    session
        .connection
        .prepare_cached(
            "DELETE FROM tokens WHERE (digest, spent) IN
             (SELECT digest, spent FROM tokens WHERE until < ?1 ORDER BY until LIMIT 256)",
        )
        .and_then(|mut delete| delete.execute(params![now.0]))
        .map_err(unavailable)?;
    Ok(())
}

/// Who logs in, as far as the store knows.
pub(super) struct Who {
    pub known: Option<KnownUser>,
    /// What binds an erased person.
    pub bound: Option<Bound>,
}

impl Who {
    pub(super) fn find(session: &Session<'_>, login: &Login) -> Result<Self, StoreError> {
        let known = find_user(session, login)?;
        let bound = match known {
            Some(_) => None,
            None => erased::find(session, &login.user, login.now)?,
        };
        Ok(Self { known, bound })
    }

    fn row(&self) -> Option<i64> {
        self.known.as_ref().map(|known| known.row)
    }

    pub(super) fn is_disabled(&self) -> bool {
        self.known.as_ref().is_some_and(|known| known.disabled)
            || self.bound.as_ref().is_some_and(|bound| bound.disabled)
    }
}

pub(super) struct KnownUser {
    pub row: i64,
    pub disabled: bool,
    /// The brake has stopped a mapping from disabling them.
    pub stopped: bool,
    /// Whether e-mail and name are those of this login.
    current: bool,
}

fn find_user(session: &Session<'_>, login: &Login) -> Result<Option<KnownUser>, StoreError> {
    session
        .connection
        .prepare_cached(
            "SELECT id, disabled_at IS NOT NULL, email IS ?3 AND display_name IS ?4, stopped_at IS NOT NULL FROM users
             WHERE namespace = ?1 AND subject = ?2",
        )
        .and_then(|mut select| {
            let user = &login.user;
            let key = params![user.namespace.as_str(), user.subject.as_str(), login.email, login.display_name];
            select
                .query_row(key, |row| {
                    Ok(KnownUser {
                        row: row.get(0)?,
                        disabled: row.get(1)?,
                        current: row.get(2)?,
                        stopped: row.get(3)?,
                    })
                })
                .optional()
        })
        .map_err(unavailable)
}

/// Creates the user at a first login, and keeps e-mail and name current. Returns the row id.
fn touch_user(session: &Session<'_>, login: &Login, who: &Who) -> Result<i64, StoreError> {
    let (email, name) = (login.email.as_deref(), login.display_name.as_deref());
    if let Some(known) = &who.known {
        if !known.current {
            session
                .connection
                .prepare_cached("UPDATE users SET email = ?2, display_name = ?3 WHERE id = ?1")
                .and_then(|mut update| update.execute(params![known.row, email, name]))
                .map_err(unavailable)?;
        }
        return Ok(known.row);
    }
    let row = act::insert_user(session, &login.user, (email, name), None, login.now)?;
    if let Some(bound) = &who.bound {
        erased::restore(session, row, bound)?;
    }
    Ok(row)
}

/// Of the protected targets that the plan would take away, those that no other enabled user effectively holds.
pub(super) fn last_held(
    session: &Session<'_>,
    user_row: i64,
    plan: &Plan,
    rules: &RuleSet,
) -> Result<Vec<Target>, StoreError> {
    let mut last = Vec::new();
    for target in plan.protected_losses(rules) {
        if !held_by_another(session, user_row, &target, rules)? {
            last.push(target);
        }
    }
    Ok(last)
}

pub(super) fn held_by_another(
    session: &Session<'_>,
    user_row: i64,
    target: &Target,
    rules: &RuleSet,
) -> Result<bool, StoreError> {
    if granted_to_another(session, user_row, target, target)? {
        return Ok(true);
    }
    let Target::Role(role) = target else { return Ok(false) };
    for (group, _) in rules.groups.iter().filter(|(_, group)| group.roles.contains(role)) {
        if granted_to_another(session, user_row, &Target::Group(group.clone()), target)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether another enabled user has a grant of `through` that no deny of it, or of `target`, undoes.
fn granted_to_another(
    session: &Session<'_>,
    user_row: i64,
    through: &Target,
    target: &Target,
) -> Result<bool, StoreError> {
    session
        .connection
        .prepare_cached(
            "SELECT EXISTS (
               SELECT 1 FROM grants JOIN users ON users.id = grants.user_id
               WHERE grants.kind = ?1 AND grants.name = ?2 AND grants.user_id <> ?5 AND users.disabled_at IS NULL
                 AND NOT EXISTS (SELECT 1 FROM denies WHERE denies.user_id = grants.user_id
                                 AND ((denies.kind = ?1 AND denies.name = ?2) OR (denies.kind = ?3 AND denies.name = ?4))))",
        )
        .and_then(|mut select| {
            let key = params![kind_of(through), through.name(), kind_of(target), target.name(), user_row];
            select.query_row(key, |row| row.get(0))
        })
        .map_err(unavailable)
}

/// The watermark, from when leases count, and what the claims were.
fn note_login(
    session: &Session<'_>,
    user_row: i64,
    login: &Login,
    candidates: &Candidates,
    plan: &Plan,
    standing: &Standing,
    rules: &RuleSet,
) -> Result<(), StoreError> {
    let provider = &login.provider;
    if plan.older {
        session
            .connection
            .prepare_cached("UPDATE watermarks SET last_login_at = ?3 WHERE user_id = ?1 AND provider = ?2")
            .and_then(|mut update| update.execute(params![user_row, provider.as_str(), login.now.0]))
            .map_err(unavailable)?;
        return Ok(());
    }
    let known = standing.claims_digest.as_deref();
    let digest = recorded::record(session, user_row, provider, &candidates.claims, rules, known)?;
    session
        .connection
        .prepare_cached(
            "INSERT INTO watermarks (user_id, provider, issued_at, last_login_at, renewed_at, claims_digest)
             VALUES (?1, ?2, coalesce(?3, ?5), ?4, ?4, ?6)
             ON CONFLICT (user_id, provider) DO UPDATE
             SET issued_at = coalesce(?3, issued_at), last_login_at = ?4, renewed_at = ?4, claims_digest = ?6",
        )
        .and_then(|mut upsert| {
            let issued_at = login.issued_at.map(|at| at.0);
            upsert.execute(params![user_row, provider.as_str(), issued_at, login.now.0, i64::MIN, digest])
        })
        .map_err(unavailable)?;
    Ok(())
}
