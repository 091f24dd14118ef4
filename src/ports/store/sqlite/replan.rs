//! Planning without a login, from recorded claims: after a change of the rules, and when an operator releases a hold.

use rusqlite::params;
use serde::Serialize;

use super::super::{HoldFilter, HoldView, Replanned, StoreError};
use super::standing::{self, Standing};
use super::{Session, apply, audit, brake, disabling, kind_of, recorded, target_of, unavailable, write};
use crate::pipeline::ids::{InvalidText, MappingId, Namespace, ProviderName, Subject, Target, Timestamp, UserId};
use crate::pipeline::mapping::{RuleSet, candidates};
use crate::pipeline::plan::{self, Plan};

/// Users planned anew in one transaction, so that logins do not wait for all of them.
const MOST_AT_ONCE: usize = 100;

/// A user through a provider, with recorded claims.
struct Recorded {
    row: i64,
    user: UserId,
    provider: ProviderName,
    claims: String,
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

/// Plans the next users after a place anew. The place to go on from is in the answer; `None` when all are done.
pub(super) fn next(
    session: &mut Session<'_>,
    rules: &RuleSet,
    after: Option<&(i64, String)>,
    now: Timestamp,
) -> Result<Replanned, StoreError> {
    let (row, provider) = after.map_or((i64::MIN, ""), |(row, provider)| (*row, provider.as_str()));
    let batch = recorded_after(session, row, provider)?;
    let mut replanned = Replanned { next: None, changed: 0 };
    if batch.len() == MOST_AT_ONCE {
        replanned.next = batch.last().map(|last| (last.row, last.provider.to_string()));
    }
    for entry in &batch {
        replanned.changed += u64::from(one(session, entry, rules, Why::Rules, now)?);
    }
    Ok(replanned)
}

enum Why<'a> {
    /// The rules changed: the brake watches as it does at a login.
    Rules,
    /// An operator released these: what was held may go.
    Released { by: &'a str, targets: &'a [Target] },
}

fn one(
    session: &mut Session<'_>,
    entry: &Recorded,
    rules: &RuleSet,
    why: Why<'_>,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let claims = recorded::claims(&entry.claims, &entry.user, &entry.provider, rules)?;
    let candidates = candidates(rules, &entry.provider, &claims);
    let mut standing = standing::read(session, (entry.row, &entry.user), &entry.provider, rules, now)?;
    if let Why::Released { targets, .. } = why {
        standing.snapshot.held.retain(|(target, _)| !targets.contains(target));
    }
    let issued_at = standing.snapshot.watermark.unwrap_or(now);
    let mut plan = plan::draft(entry.user.clone(), issued_at, now, &candidates, &standing.snapshot, rules);
    // A gate keeps people out of the app; it does not decide what they hold.
    plan.refused = None;
    if let Why::Rules = why {
        let stopped = brake::stopped(session, &plan, rules, now)?;
        plan.hold(stopped, &standing.snapshot, rules);
    }
    let last = apply::last_held(session, entry.row, &plan, rules)?;
    plan.guard(&last, &standing.snapshot, rules);
    write::plan(session, entry.row, &plan, &standing, rules.lease(&entry.provider).is_some(), now)?;
    note(session, entry, &plan, &standing, &why, now)
}

fn note(
    session: &Session<'_>,
    entry: &Recorded,
    plan: &Plan,
    standing: &Standing,
    why: &Why<'_>,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let names = |changes: &[plan::Change]| changes.iter().map(|change| change.target.to_string()).collect::<Vec<_>>();
    let newly_held =
        plan.held.iter().filter(|change| !standing.snapshot.held.contains(&(change.target.clone(), change.mapping)));
    let held: Vec<String> = newly_held.map(|change| change.target.to_string()).collect();
    if plan.changes_nothing() && held.is_empty() {
        return Ok(false);
    }
    let (why, by) = match why {
        Why::Rules => ("rules", ""),
        Why::Released { by, .. } => ("released", *by),
    };
    let detail = ReplannedDetail {
        provider: entry.provider.as_str(),
        why,
        by,
        added: names(&plan.grants),
        removed: names(&plan.revokes),
        held,
    };
    audit::append(session, now, "replanned", &detail, Some((entry.row, &entry.user, None)))?;
    Ok(true)
}

fn recorded_after(session: &Session<'_>, row: i64, provider: &str) -> Result<Vec<Recorded>, StoreError> {
    let limit = i64::try_from(MOST_AT_ONCE).unwrap_or(i64::MAX);
    let mut select = session
        .connection
        .prepare_cached(
            "SELECT users.id, namespace, subject, recorded_claims.provider, claims
             FROM recorded_claims JOIN users ON users.id = recorded_claims.user_id
             WHERE (recorded_claims.user_id, recorded_claims.provider) > (?1, ?2)
             ORDER BY recorded_claims.user_id, recorded_claims.provider LIMIT ?3",
        )
        .map_err(unavailable)?;
    let mut rows = select.query(params![row, provider, limit]).map_err(unavailable)?;
    let mut all = Vec::new();
    while let Some(row) = rows.next().map_err(unavailable)? {
        all.push(read_recorded(row)?);
    }
    Ok(all)
}

fn read_recorded(row: &rusqlite::Row<'_>) -> Result<Recorded, StoreError> {
    let text = |at: usize| row.get::<_, String>(at).map_err(unavailable);
    Ok(Recorded {
        row: row.get(0).map_err(unavailable)?,
        user: user_of(&text(1)?, &text(2)?)?,
        provider: ProviderName::parse(&text(3)?).map_err(invalid)?,
        claims: text(4)?,
    })
}

fn user_of(namespace: &str, subject: &str) -> Result<UserId, StoreError> {
    let (namespace, subject) =
        (Namespace::parse(namespace).map_err(invalid)?, Subject::parse(subject).map_err(invalid)?);
    Ok(UserId { namespace, subject })
}

fn invalid(error: InvalidText) -> StoreError {
    StoreError::Invalid(error.to_string())
}

/// What the brake holds, the oldest first.
pub(super) fn holds(
    connection: &rusqlite::Connection,
    filter: &HoldFilter,
    rules: &RuleSet,
) -> Result<Vec<HoldView>, StoreError> {
    let mut select = connection
        .prepare_cached(
            "SELECT namespace, subject, provider, kind, name, mapping, held_at
             FROM grants JOIN users ON users.id = grants.user_id WHERE held_at IS NOT NULL
             ORDER BY held_at, provider, kind, name, namespace, subject",
        )
        .map_err(unavailable)?;
    let mut rows = select.query([]).map_err(unavailable)?;
    let mut holds = Vec::new();
    while let Some(row) = rows.next().map_err(unavailable)? {
        let text = |at: usize| row.get::<_, String>(at).map_err(unavailable);
        let mapping = MappingId(row.get(5).map_err(unavailable)?);
        let hold = HoldView {
            user: user_of(&text(0)?, &text(1)?)?,
            provider: ProviderName::parse(&text(2)?).map_err(invalid)?,
            target: Some(target_of(row.get(3).map_err(unavailable)?, &text(4)?)?),
            mapping: rules.mapping(mapping).map_or_else(|| format!("removed mapping {mapping}"), |rule| rule.label()),
            since: Timestamp(row.get(6).map_err(unavailable)?),
        };
        holds.push(hold);
    }
    holds.extend(disabling::holds(connection)?);
    holds.retain(|hold| filter.takes(hold));
    holds.sort_by_key(|hold| hold.since);
    Ok(holds)
}

/// Releases what a filter takes: each is planned anew, without the brake. Without recorded claims there is nothing to plan
/// from, and the revocation that was held is carried out.
pub(super) fn release(
    session: &mut Session<'_>,
    filter: &HoldFilter,
    rules: &RuleSet,
    by: &str,
    now: Timestamp,
) -> Result<u64, StoreError> {
    let holds = holds(session.connection, filter, rules)?;
    let mut people: Vec<(&UserId, &ProviderName)> = holds.iter().map(|hold| (&hold.user, &hold.provider)).collect();
    people.sort();
    people.dedup();
    for (user, provider) in people {
        let Some(row) = super::user_row(session.connection, user)? else { continue };
        let theirs = holds.iter().filter(|hold| hold.user == *user && hold.provider == *provider);
        let (targets, disabling): (Vec<_>, Vec<_>) = theirs.partition(|hold| hold.target.is_some());
        let targets: Vec<Target> = targets.into_iter().filter_map(|hold| hold.target.clone()).collect();
        for hold in disabling {
            disabling::release(session, (row, hold), by, now)?;
        }
        if targets.is_empty() {
            continue;
        }
        match recorded::text(session, row, provider)? {
            Some(claims) => {
                let entry = Recorded { row, user: user.clone(), provider: provider.clone(), claims };
                one(session, &entry, rules, Why::Released { by, targets: &targets }, now)?;
                lift(session, row, provider, &targets)?;
            }
            None => revoke(session, (row, user), provider, &targets, by, now)?,
        }
    }
    forget_windows(session, &holds, now)?;
    Ok(holds.len() as u64)
}

/// Discards what a filter takes: the grants stay as if nothing had been held, until a login says otherwise.
pub(super) fn discard(
    session: &mut Session<'_>,
    filter: &HoldFilter,
    rules: &RuleSet,
    by: &str,
    now: Timestamp,
) -> Result<u64, StoreError> {
    let holds = holds(session.connection, filter, rules)?;
    for hold in &holds {
        let Some(row) = super::user_row(session.connection, &hold.user)? else { continue };
        let Some(target) = &hold.target else {
            disabling::discard(session, (row, hold), by, now)?;
            continue;
        };
        lift(session, row, &hold.provider, std::slice::from_ref(target))?;
        let detail = ReplannedDetail {
            provider: hold.provider.as_str(),
            why: "discarded",
            by,
            added: Vec::new(),
            removed: Vec::new(),
            held: vec![target.to_string()],
        };
        audit::append(session, now, "hold_discarded", &detail, Some((row, &hold.user, None)))?;
    }
    forget_windows(session, &holds, now)?;
    Ok(holds.len() as u64)
}

fn lift(session: &Session<'_>, row: i64, provider: &ProviderName, targets: &[Target]) -> Result<(), StoreError> {
    for target in targets {
        session
            .connection
            .prepare_cached(
                "UPDATE grants SET held_at = NULL
                 WHERE user_id = ?1 AND provider = ?2 AND kind = ?3 AND name = ?4 AND held_at IS NOT NULL",
            )
            .and_then(|mut update| update.execute(params![row, provider.as_str(), kind_of(target), target.name()]))
            .map_err(unavailable)?;
    }
    Ok(())
}

fn revoke(
    session: &Session<'_>,
    (row, user): (i64, &UserId),
    provider: &ProviderName,
    targets: &[Target],
    by: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    for target in targets {
        session
            .connection
            .prepare_cached(
                "DELETE FROM grants WHERE user_id = ?1 AND provider = ?2 AND kind = ?3 AND name = ?4
                 AND held_at IS NOT NULL",
            )
            .and_then(|mut delete| delete.execute(params![row, provider.as_str(), kind_of(target), target.name()]))
            .map_err(unavailable)?;
    }
    let detail = ReplannedDetail {
        provider: provider.as_str(),
        why: "released",
        by,
        added: Vec::new(),
        removed: targets.iter().map(ToString::to_string).collect(),
        held: Vec::new(),
    };
    audit::append(session, now, "replanned", &detail, Some((row, user, None)))
}

/// Whoever has looked at the holds of a target has judged its losses so far: they begin anew.
fn forget_windows(session: &Session<'_>, holds: &[HoldView], now: Timestamp) -> Result<(), StoreError> {
    if holds.iter().any(|hold| hold.target.is_none()) {
        disabling::forget_window(session, now)?;
    }
    for (hold, target) in holds.iter().filter_map(|hold| Some((hold, hold.target.as_ref()?))) {
        session
            .connection
            .prepare_cached("DELETE FROM brakes WHERE provider = ?1 AND kind = ?2 AND name = ?3")
            .and_then(|mut delete| delete.execute(params![hold.provider.as_str(), kind_of(target), target.name()]))
            .map_err(unavailable)?;
    }
    Ok(())
}
