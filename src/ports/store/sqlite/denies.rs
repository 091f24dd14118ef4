//! Denies: they bind a name, and outlive what bears it.
//!
//! A group that is deleted, or renamed, takes no deny with it: the row stays under its name. When something bears that name
//! later (a group of another spelling, or one that is shown under it as an alias), the deny is written down for that too, so
//! that readers of denies need not think of it.

use rusqlite::params;
use serde::Serialize;

use super::super::StoreError;
use super::{Session, audit, decide, kind_of, target_of, unavailable};
use crate::pipeline::decision::{self, denies::bearers};
use crate::pipeline::ids::{Target, Timestamp};
use crate::pipeline::mapping::RuleSet;

/// Copies denies from one name to another; of two the longer one stays.
const COPY: &str = "
    INSERT INTO denies (user_id, kind, name, denied_at, denied_by, reason, until)
    SELECT user_id, kind, ?3, denied_at, denied_by, reason, until FROM denies WHERE kind = ?1 AND name = ?2
    ON CONFLICT (user_id, kind, name) DO UPDATE SET until = excluded.until
    WHERE denies.until IS NOT NULL AND (excluded.until IS NULL OR excluded.until > denies.until)";

#[derive(Serialize)]
struct Detail<'a> {
    kind: &'a str,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    bears_name_of: Option<&'a str>,
    denies: usize,
}

/// Writes down for new bearers of a name what was denied under it.
pub(super) fn bind(session: &Session<'_>, rules: &RuleSet, now: Timestamp) -> Result<(), StoreError> {
    let denied: Vec<(i64, String)> = session
        .connection
        .prepare_cached("SELECT DISTINCT kind, name FROM denies")
        .and_then(|mut select| select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect())
        .map_err(unavailable)?;
    for (kind, name) in denied {
        for bearer in bearers(rules, &target_of(kind, &name)?) {
            let bound = copy(session, kind, &name, bearer.name())?;
            if bound > 0 {
                let detail =
                    Detail { kind: bearer.kind(), name: bearer.name(), bears_name_of: Some(&name), denies: bound };
                audit::append(session, now, "denies_bound", &detail, None)?;
            }
        }
    }
    Ok(())
}

/// The denies of what is renamed bind its new name as well as the old one.
pub(super) fn follow(session: &Session<'_>, from: &Target, to: &Target) -> Result<(), StoreError> {
    copy(session, kind_of(from), from.name(), to.name()).map(drop)
}

fn copy(session: &Session<'_>, kind: i64, from: &str, to: &str) -> Result<usize, StoreError> {
    session
        .connection
        .prepare_cached(COPY)
        .and_then(|mut insert| insert.execute(params![kind, from, to]))
        .map_err(unavailable)
}

/// Notes that a target is gone and the denies of it stay.
pub(super) fn note_kept(session: &Session<'_>, target: &Target, now: Timestamp) -> Result<(), StoreError> {
    let denies: i64 = session
        .connection
        .prepare_cached("SELECT count(*) FROM denies WHERE kind = ?1 AND name = ?2")
        .and_then(|mut select| select.query_row(params![kind_of(target), target.name()], |row| row.get(0)))
        .map_err(unavailable)?;
    if denies == 0 {
        return Ok(());
    }
    let denies = usize::try_from(denies).unwrap_or_default();
    let detail = Detail { kind: target.kind(), name: target.name(), bears_name_of: None, denies };
    audit::append(session, now, "denies_kept", &detail, None)
}

/// Ends denies that have passed their `until`, each with a row of the audit. Those of people who were erased go unsaid.
pub(super) fn expire(session: &mut Session<'_>, rules: &RuleSet, now: Timestamp) -> Result<u64, StoreError> {
    let passed: Vec<(String, String)> = session
        .connection
        .prepare_cached(
            "SELECT DISTINCT namespace, subject FROM denies JOIN users ON users.id = denies.user_id
             WHERE until IS NOT NULL AND until <= ?1",
        )
        .and_then(|mut select| select.query_map(params![now.0], |row| Ok((row.get(0)?, row.get(1)?)))?.collect())
        .map_err(unavailable)?;
    let mut ended = 0;
    for (namespace, subject) in &passed {
        let user = super::user_of(namespace, subject)?;
        let loaded = decide::load(session, &user, None)?;
        let changes =
            decide::decide(session.connection, &loaded, rules, now, |kept, _| Ok(decision::expire(kept, now)))?;
        decide::commit(session, &loaded, &changes, None, now)?;
        ended += changes.audit.len() as u64;
    }
    session
        .connection
        .prepare_cached("DELETE FROM erased_denies WHERE until IS NOT NULL AND until <= ?1")
        .and_then(|mut delete| delete.execute(params![now.0]))
        .map_err(unavailable)?;
    Ok(ended)
}
