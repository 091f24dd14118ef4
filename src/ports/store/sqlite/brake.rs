//! What the brake on mass revocation counts.

use rusqlite::{Connection, params};

use super::super::{Excess, StoreError};
use super::{Session, kind_of, target_of, unavailable};
use crate::pipeline::decision::Window;
use crate::pipeline::ids::{MappingId, ProviderName, Target, Timestamp};
use crate::pipeline::mapping::{Activity, RuleSet};

/// Whether the brake holds a revocation of a target through a provider.
pub(super) fn holds(connection: &Connection, provider: &ProviderName, target: &Target) -> Result<bool, StoreError> {
    connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM grants
             WHERE provider = ?1 AND kind = ?2 AND name = ?3 AND held_at IS NOT NULL)",
        )
        .and_then(|mut select| {
            select.query_row(params![provider.as_str(), kind_of(target), target.name()], |row| row.get(0))
        })
        .map_err(unavailable)
}

/// Whether a user was counted in the window that began at a moment.
pub(super) fn counts(
    connection: &Connection,
    provider: &ProviderName,
    target: &Target,
    (number, began_at): (i64, Timestamp),
) -> Result<bool, StoreError> {
    connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM brake_people
             WHERE provider = ?1 AND kind = ?2 AND name = ?3 AND user_id = ?4 AND began_at = ?5)",
        )
        .and_then(|mut select| {
            let key = params![provider.as_str(), kind_of(target), target.name(), number, began_at.0];
            select.query_row(key, |row| row.get(0))
        })
        .map_err(unavailable)
}

/// Writes down a running window in which a user was counted.
pub(super) fn note(
    session: &Session<'_>,
    provider: &ProviderName,
    target: &Target,
    (window, number): (&Window, Option<i64>),
) -> Result<(), StoreError> {
    let Window { began_at, members, losses } = window;
    if *losses <= 1 {
        // The people of the window before.
        forget(session, provider, target)?;
    }
    let (provider, kind, name) = (provider.as_str(), kind_of(target), target.name());
    session
        .connection
        .prepare_cached(
            "INSERT INTO brakes (provider, kind, name, began_at, members, losses) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (provider, kind, name) DO UPDATE SET began_at = ?4, members = ?5, losses = ?6",
        )
        .and_then(|mut upsert| {
            let (members, losses) = (members.cast_signed(), losses.cast_signed());
            upsert.execute(params![provider, kind, name, began_at.0, members, losses])
        })
        .map_err(unavailable)?;
    session
        .connection
        .prepare_cached(
            "INSERT INTO brake_people (provider, kind, name, user_id, began_at) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (provider, kind, name, user_id) DO UPDATE SET began_at = ?5",
        )
        .and_then(|mut upsert| upsert.execute(params![provider, kind, name, number, began_at.0]))
        .map(drop)
        .map_err(unavailable)
}

/// Ends the window of a target.
pub(super) fn forget(session: &Session<'_>, provider: &ProviderName, target: &Target) -> Result<(), StoreError> {
    for statement in [
        "DELETE FROM brakes WHERE provider = ?1 AND kind = ?2 AND name = ?3",
        "DELETE FROM brake_people WHERE provider = ?1 AND kind = ?2 AND name = ?3",
    ] {
        session
            .connection
            .prepare_cached(statement)
            .and_then(|mut delete| delete.execute(params![provider.as_str(), kind_of(target), target.name()]))
            .map_err(unavailable)?;
    }
    Ok(())
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
