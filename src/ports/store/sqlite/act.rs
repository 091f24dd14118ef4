//! What an operator, or a new rule set, does to the store.

use aws_lc_rs::rand;
use rusqlite::{Connection, OptionalExtension, params};
use serde::Serialize;

use super::super::{Act, Adopted, By, Excess, StoreError};
use super::{Session, adopted, audit, brake, decide, denies, privilege, unavailable};
use crate::pipeline::decision;
use crate::pipeline::ids::{MappingId, Timestamp, UserId};
use crate::pipeline::mapping::{Mode, RuleSet};

pub(super) fn act(
    session: &mut Session<'_>,
    user: &UserId,
    act: &Act,
    by: &By,
    now: Timestamp,
) -> Result<(), StoreError> {
    let loaded = decide::load(session, user, None)?;
    let changes =
        decision::act(&loaded.kept, act, by, now).map_err(|undone| StoreError::Invalid(undone.to_string()))?;
    decide::commit(session, &loaded, &changes, None, now)?;
    Ok(())
}

/// The numbers of users who became one with this one: their rows of the audit are this person's, too.
pub(super) fn former_numbers(connection: &Connection, row: i64) -> Result<Vec<i64>, StoreError> {
    connection
        .prepare_cached("SELECT id FROM former_users WHERE user_id = ?1 ORDER BY id")
        .and_then(|mut select| select.query_map(params![row], |row| row.get(0))?.collect())
        .map_err(unavailable)
}

#[derive(Serialize)]
struct EndedDetail {
    mapping: String,
    grants: usize,
}

/// Every mapping that some grant names, found by leaps through the index: the cost follows their number, not the grants'.
const MAPPINGS_WITH_GRANTS: &str = "
    WITH RECURSIVE named (mapping) AS (
        SELECT (SELECT min(mapping) FROM grants WHERE mapping <> x'')
        UNION ALL
        SELECT (SELECT min(mapping) FROM grants WHERE mapping <> x'' AND mapping > named.mapping)
        FROM named WHERE named.mapping IS NOT NULL)
    SELECT mapping FROM named WHERE mapping IS NOT NULL";

/// Ends the grants of mappings that the new rules lack, hold as disabled or inactive, or have let expire. The grants
/// themselves carry the identities, so nothing else has to be kept in step with the file.
pub(super) fn adopt(session: &mut Session<'_>, rules: &RuleSet, now: Timestamp) -> Result<Adopted, StoreError> {
    let confirmed = is_confirmed(session, rules)?;
    adopt_changed(session, rules, confirmed, now)
}

/// The same for rules that somebody has changed, who says whether they may revoke over the brake's limit.
pub(super) fn adopt_changed(
    session: &mut Session<'_>,
    rules: &RuleSet,
    confirmed: bool,
    now: Timestamp,
) -> Result<Adopted, StoreError> {
    if rules.sync.mode == Mode::Shadow {
        denies::bind(session, rules, now)?;
        adopted::note(session, rules)?;
        *session.epoch = Some(rules.epoch);
        return Ok(Adopted::default());
    }
    let named = mappings_with_grants(session.connection)?;
    let mut excesses = brake::excesses(session.connection, &named, rules)?;
    let endings = privilege::endings(session.connection, rules)?;
    excesses.extend(privilege::excesses(session.connection, &endings, rules)?);
    if !excesses.is_empty() && !confirmed {
        return Err(StoreError::Braked(excesses));
    }
    let mut ended = end_mappings(session, &named, rules, now)?;
    privilege::end(session, &endings, now)?;
    ended.privileged_grants = endings.len() as u64;
    denies::bind(session, rules, now)?;
    adopted::note(session, rules)?;
    *session.epoch = Some(rules.epoch);
    Ok(ended)
}

fn mappings_with_grants(connection: &Connection) -> Result<Vec<MappingId>, StoreError> {
    connection
        .prepare_cached(MAPPINGS_WITH_GRANTS)
        .and_then(|mut select| select.query_map([], |row| row.get(0).map(MappingId))?.collect())
        .map_err(unavailable)
}

/// Ends the grants of those mappings that no longer live.
fn end_mappings(
    session: &Session<'_>,
    named: &[MappingId],
    rules: &RuleSet,
    now: Timestamp,
) -> Result<Adopted, StoreError> {
    let mut adopted = Adopted::default();
    for id in named {
        if rules.mapping(*id).is_some_and(|mapping| mapping.is_live(now)) {
            continue;
        }
        let grants = session
            .connection
            .prepare_cached("DELETE FROM grants WHERE mapping = ?1 AND mapping <> x''")
            .and_then(|mut delete| delete.execute(params![id.0]))
            .map_err(unavailable)?;
        adopted.ended_mappings += 1;
        adopted.ended_grants += grants as u64;
        let detail = EndedDetail { mapping: id.to_string(), grants };
        audit::append(session, now, "mapping_ended", &detail, None)?;
    }
    Ok(adopted)
}

/// Ends the grants of mappings that have passed their `until` since the rules were adopted.
pub(super) fn expire(session: &Session<'_>, rules: &RuleSet, now: Timestamp) -> Result<Adopted, StoreError> {
    let passed = rules.mappings().iter().filter(|mapping| mapping.until.is_some_and(|until| until <= now));
    let passed: Vec<MappingId> = passed.map(|mapping| mapping.id).collect();
    if passed.is_empty() {
        return Ok(Adopted::default());
    }
    let mut named = mappings_with_grants(session.connection)?;
    named.retain(|id| passed.contains(id));
    end_mappings(session, &named, rules, now)
}

/// What adopting these rules would be refused for.
pub(super) fn excesses(connection: &Connection, rules: &RuleSet) -> Result<Vec<Excess>, StoreError> {
    match rules.sync.mode {
        Mode::Shadow => Ok(Vec::new()),
        Mode::Apply => {
            let mut excesses = brake::excesses(connection, &mappings_with_grants(connection)?, rules)?;
            excesses.extend(privilege::excesses(connection, &privilege::endings(connection, rules)?, rules)?);
            Ok(excesses)
        }
    }
}

/// Whether an operator has confirmed the file that these rules come from.
fn is_confirmed(session: &Session<'_>, rules: &RuleSet) -> Result<bool, StoreError> {
    let confirmed = setting(session.connection, "confirmed")?;
    Ok(rules.source.is_some_and(|source| confirmed.as_deref() == Some(&source)))
}

pub(super) fn setting(connection: &Connection, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
    connection
        .prepare_cached("SELECT value FROM settings WHERE name = ?1")
        .and_then(|mut select| select.query_row(params![name], |row| row.get(0)).optional())
        .map_err(unavailable)
}

pub(super) fn set(session: &Session<'_>, name: &str, value: &[u8]) -> Result<(), StoreError> {
    session
        .connection
        .prepare_cached(
            "INSERT INTO settings (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = ?2",
        )
        .and_then(|mut upsert| upsert.execute(params![name, value]))
        .map_err(unavailable)?;
    Ok(())
}

#[derive(Serialize)]
struct ConfirmedDetail<'a> {
    by: &'a str,
    file: String,
}

/// Notes that the rules of a file may revoke over the brake's limit.
pub(super) fn confirm(session: &Session<'_>, source: [u8; 32], by: &str, now: Timestamp) -> Result<(), StoreError> {
    set(session, "confirmed", &source)?;
    let file = source.iter().map(|byte| format!("{byte:02x}")).collect();
    audit::append(session, now, "rules_confirmed", &ConfirmedDetail { by, file }, None)
}

/// Whether every user with recorded claims was planned by the rules of this file.
pub(super) fn is_planned(session: &Session<'_>, source: [u8; 32]) -> Result<bool, StoreError> {
    Ok(setting(session.connection, "planned")?.as_deref() == Some(&source))
}

pub(super) fn set_planned(session: &Session<'_>, source: [u8; 32]) -> Result<(), StoreError> {
    set(session, "planned", &source)
}

/// The keys that seal cookies: one of 32 bytes, made when first asked for.
pub(super) fn cookie_keys(session: &mut Session<'_>) -> Result<Vec<u8>, StoreError> {
    kept(session, "cookie_keys", || {
        let mut fresh = vec![0; 32];
        rand::fill(&mut fresh).map_err(|_| StoreError::Unavailable("the system gives no random bytes".into()))?;
        Ok(fresh)
    })
}

/// What is kept under a name, made when nothing is yet.
pub(super) fn kept(
    session: &mut Session<'_>,
    name: &str,
    make: impl FnOnce() -> Result<Vec<u8>, StoreError>,
) -> Result<Vec<u8>, StoreError> {
    let kept: Option<Vec<u8>> = session
        .connection
        .prepare_cached("SELECT value FROM settings WHERE name = ?1")
        .and_then(|mut select| select.query_row(params![name], |row| row.get(0)).optional())
        .map_err(unavailable)?;
    if let Some(kept) = kept {
        return Ok(kept);
    }
    let fresh = make()?;
    session
        .connection
        .prepare_cached("INSERT INTO settings (name, value) VALUES (?1, ?2)")
        .and_then(|mut insert| insert.execute(params![name, fresh]))
        .map_err(unavailable)?;
    Ok(fresh)
}
