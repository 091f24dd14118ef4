//! The brake on mass revocation: how many have lost a target through a provider lately, and whether one more may.

use rusqlite::{Connection, OptionalExtension, params};

use super::super::{Excess, StoreError};
use super::{Session, kind_of, target_of, unavailable};
use crate::pipeline::ids::{MappingId, ProviderName, Target, Timestamp};
use crate::pipeline::mapping::{Activity, RuleSet};
use crate::pipeline::plan::Plan;

/// Of the targets that a plan takes away, those of which too many were lost lately. The others are counted.
pub(super) fn stopped(
    session: &Session<'_>,
    plan: &Plan,
    rules: &RuleSet,
    now: Timestamp,
) -> Result<Vec<Target>, StoreError> {
    let mut stopped = Vec::new();
    if plan.shadow || plan.older || plan.refused.is_some() {
        return Ok(stopped);
    }
    for target in plan.losses() {
        if !rules.is_braked(target) {
            continue;
        }
        let window = window(session, &plan.provider, target, rules, now)?;
        if window.losses >= rules.sync.brake.allowed(window.members) {
            stopped.push(target.clone());
            continue;
        }
        session
            .connection
            .prepare_cached(
                "INSERT INTO brakes (provider, kind, name, began_at, members, losses) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT (provider, kind, name) DO UPDATE SET began_at = ?4, members = ?5, losses = ?6",
            )
            .and_then(|mut upsert| {
                let provider = plan.provider.as_str();
                let (members, losses) = (window.members.cast_signed(), (window.losses + 1).cast_signed());
                upsert.execute(params![provider, kind_of(target), target.name(), window.began_at, members, losses])
            })
            .map_err(unavailable)?;
    }
    Ok(stopped)
}

struct Window {
    began_at: i64,
    members: u64,
    losses: u64,
}

/// The running window. One that has passed ends only when nothing is held any more: else a provider that goes on dropping
/// people would take a share of them in every window.
fn window(
    session: &Session<'_>,
    provider: &ProviderName,
    target: &Target,
    rules: &RuleSet,
    now: Timestamp,
) -> Result<Window, StoreError> {
    let key = params![provider.as_str(), kind_of(target), target.name()];
    let running = session
        .connection
        .prepare_cached("SELECT began_at, members, losses FROM brakes WHERE provider = ?1 AND kind = ?2 AND name = ?3")
        .and_then(|mut select| {
            select
                .query_row(key, |row| {
                    let (members, losses): (i64, i64) = (row.get(1)?, row.get(2)?);
                    Ok(Window {
                        began_at: row.get(0)?,
                        members: members.cast_unsigned(),
                        losses: losses.cast_unsigned(),
                    })
                })
                .optional()
        })
        .map_err(unavailable)?;
    if let Some(running) = running
        && (now < Timestamp(running.began_at).plus(rules.sync.brake.window) || holds(session, provider, target)?)
    {
        return Ok(running);
    }
    Ok(Window { began_at: now.0, members: members(session.connection, provider, target)?, losses: 0 })
}

fn holds(session: &Session<'_>, provider: &ProviderName, target: &Target) -> Result<bool, StoreError> {
    session
        .connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM grants
             WHERE provider = ?1 AND kind = ?2 AND name = ?3 AND held_at IS NOT NULL)",
        )
        .and_then(|mut select| {
            select.query_row(params![provider.as_str(), kind_of(target), target.name()], |row| row.get(0))
        })
        .map_err(unavailable)
}

/// Users who hold the target through the provider's mappings.
pub(super) fn members(connection: &Connection, provider: &ProviderName, target: &Target) -> Result<u64, StoreError> {
    connection
        .prepare_cached("SELECT count(DISTINCT user_id) FROM grants WHERE kind = ?2 AND name = ?3 AND provider = ?1")
        .and_then(|mut select| {
            let key = params![provider.as_str(), kind_of(target), target.name()];
            select.query_row(key, |row| row.get::<_, i64>(0))
        })
        .map(i64::cast_unsigned)
        .map_err(unavailable)
}

/// What the end of some mappings would take from more members than the brake lets pass. One that ended by its own `until`
/// is no surprise and does not count.
pub(super) fn excesses(
    connection: &Connection,
    named: &[MappingId],
    rules: &RuleSet,
) -> Result<Vec<Excess>, StoreError> {
    let ends = |id: &&MappingId| rules.mapping(**id).is_none_or(|mapping| mapping.activity != Activity::Active);
    let ending: Vec<&MappingId> = named.iter().filter(ends).collect();
    let run = |statement: &str| connection.execute_batch(statement).map_err(unavailable);
    if ending.is_empty() {
        return Ok(Vec::new());
    }
    run("CREATE TEMP TABLE IF NOT EXISTS ending (mapping BLOB PRIMARY KEY) WITHOUT ROWID; DELETE FROM ending")?;
    for id in ending {
        connection
            .prepare_cached("INSERT OR IGNORE INTO ending VALUES (?1)")
            .and_then(|mut insert| insert.execute(params![id.0]))
            .map_err(unavailable)?;
    }
    let mut lost = connection
        .prepare_cached(
            "SELECT provider, kind, name, count(DISTINCT user_id) FROM grants
             WHERE mapping IN ending AND NOT EXISTS (
               SELECT 1 FROM grants AS other
               WHERE other.user_id = grants.user_id AND other.kind = grants.kind AND other.name = grants.name
                 AND other.provider = grants.provider AND other.mapping NOT IN ending)
             GROUP BY provider, kind, name ORDER BY provider, kind, name",
        )
        .map_err(unavailable)?;
    let mut rows = lost.query([]).map_err(unavailable)?;
    let mut excesses = Vec::new();
    while let Some(row) = rows.next().map_err(unavailable)? {
        let (provider, name): (String, String) = (row.get(0).map_err(unavailable)?, row.get(2).map_err(unavailable)?);
        let provider = ProviderName::parse(&provider).map_err(|error| StoreError::Invalid(error.to_string()))?;
        let target = target_of(row.get(1).map_err(unavailable)?, &name)?;
        let losing = row.get::<_, i64>(3).map_err(unavailable)?.cast_unsigned();
        let members = members(connection, &provider, &target)?;
        let allowed = rules.sync.brake.allowed(members);
        if rules.is_braked(&target) && losing > allowed {
            excesses.push(Excess { provider: Some(provider), target, losing, members, allowed });
        }
    }
    Ok(excesses)
}
