//! Denies: they bind a name, and outlive what bears it.
//!
//! A group that is deleted, or renamed, takes no deny with it: the row stays under its name. When something bears that name
//! later (a group of another spelling, or one that is shown under it as an alias), the deny is written down for that too, so
//! that readers of denies need not think of it.

use rusqlite::{Connection, params};
use serde::Serialize;

use super::super::StoreError;
use super::{Session, audit, kind_of, target_of, unavailable};
use crate::pipeline::ids::{GroupName, Namespace, RoleName, Subject, Target, Timestamp, UserId};
use crate::pipeline::mapping::RuleSet;
use crate::pipeline::mapping::condition::folded;

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

/// What bears the name of a target that is not declared any more: a group or role of another spelling, and groups that are
/// shown under it.
pub(super) fn bearers(rules: &RuleSet, target: &Target) -> Vec<Target> {
    if rules.declares(target) {
        return Vec::new();
    }
    let name = folded(target.name());
    match target {
        Target::Group(_) => {
            let spelled = rules.groups.keys().filter(|group| folded(group.as_str()) == name);
            let shown = rules.overlay.exposures.values().flatten();
            let shown = shown.filter(|(_, shown)| shown.alias.as_deref().is_some_and(|alias| folded(alias) == name));
            let mut groups: Vec<&GroupName> = spelled.chain(shown.map(|(group, _)| group)).collect();
            groups.sort_unstable();
            groups.dedup();
            groups.into_iter().cloned().map(Target::Group).collect()
        }
        Target::Role(_) => {
            let spelled = rules.roles.keys().filter(|role: &&RoleName| folded(role.as_str()) == name);
            spelled.cloned().map(Target::Role).collect()
        }
    }
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

/// The names, as they are written, under which a user is denied a target, whatever their case.
pub(super) fn spellings(connection: &Connection, row: i64, target: &Target) -> Result<Vec<String>, StoreError> {
    let names: Vec<String> = connection
        .prepare_cached("SELECT name FROM denies WHERE user_id = ?1 AND kind = ?2")
        .and_then(|mut select| select.query_map(params![row, kind_of(target)], |row| row.get(0))?.collect())
        .map_err(unavailable)?;
    let wanted = folded(target.name());
    Ok(names.into_iter().filter(|name| folded(name) == wanted).collect())
}

/// Lifts what a user is denied under a name, whatever its case. Returns how many denies that were.
pub(super) fn lift(session: &Session<'_>, row: i64, target: &Target) -> Result<usize, StoreError> {
    let mut lifted = 0;
    for name in spellings(session.connection, row, target)? {
        lifted += session
            .connection
            .prepare_cached("DELETE FROM denies WHERE user_id = ?1 AND kind = ?2 AND name = ?3")
            .and_then(|mut delete| delete.execute(params![row, kind_of(target), name]))
            .map_err(unavailable)?;
    }
    Ok(lifted)
}

#[derive(Serialize)]
struct EndedDetail<'a> {
    kind: &'a str,
    name: &'a str,
}

/// Ends denies that have passed their `until`, each with a row of the audit. Those of people who were erased go unsaid.
pub(super) fn expire(session: &Session<'_>, now: Timestamp) -> Result<u64, StoreError> {
    let passed: Vec<(i64, String, String, i64, String)> = session
        .connection
        .prepare_cached(
            "SELECT users.id, namespace, subject, kind, name FROM denies JOIN users ON users.id = denies.user_id
             WHERE until IS NOT NULL AND until <= ?1",
        )
        .and_then(|mut select| {
            let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?));
            select.query_map(params![now.0], row)?.collect()
        })
        .map_err(unavailable)?;
    for (row, namespace, subject, kind, name) in &passed {
        let invalid = |error: crate::pipeline::ids::InvalidText| StoreError::Invalid(error.to_string());
        let namespace = Namespace::parse(namespace).map_err(invalid)?;
        let user = UserId { namespace, subject: Subject::parse(subject).map_err(invalid)? };
        session
            .connection
            .prepare_cached("DELETE FROM denies WHERE user_id = ?1 AND kind = ?2 AND name = ?3")
            .and_then(|mut delete| delete.execute(params![row, kind, name]))
            .map_err(unavailable)?;
        let target = target_of(*kind, name)?;
        let detail = EndedDetail { kind: target.kind(), name };
        audit::append(session, now, "deny_ended", &detail, Some((*row, &user, None)))?;
    }
    session
        .connection
        .prepare_cached("DELETE FROM erased_denies WHERE until IS NOT NULL AND until <= ?1")
        .and_then(|mut delete| delete.execute(params![now.0]))
        .map_err(unavailable)?;
    Ok(passed.len() as u64)
}
