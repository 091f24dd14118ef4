//! What an operator, or a new rule set, does to the store.

use aws_lc_rs::rand;
use rusqlite::{OptionalExtension, params};
use serde::Serialize;

use super::super::{Act, Adopted, StoreError};
use super::{Session, audit, kind_of, unavailable, user_row};
use crate::pipeline::ids::{MappingId, Target, Timestamp, UserId};
use crate::pipeline::mapping::{Activity, RuleSet};

#[derive(Serialize)]
struct ActDetail<'a> {
    by: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

pub(super) fn act(
    session: &mut Session<'_>,
    user: &UserId,
    act: &Act,
    by: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    let row = match (user_row(session.connection, user)?, act) {
        (Some(row), _) => row,
        (None, Act::Assign(_) | Act::Deny { .. }) => create(session, user, now)?,
        (None, _) => return Err(StoreError::Invalid(format!("there is no user `{user}`"))),
    };
    let (event, target, reason) = match act {
        Act::Assign(target) => ("assigned", Some(target), None),
        Act::Unassign(target) => ("unassigned", Some(target), None),
        Act::Deny { target, reason } => ("denied", Some(target), Some(reason.as_str())),
        Act::Undeny(target) => ("deny_lifted", Some(target), None),
        Act::Disable => ("user_disabled", None, None),
        Act::Enable => ("user_enabled", None, None),
        Act::Erase => ("user_erased", None, None),
    };
    let changed = carry_out(session, row, act, by, now)?;
    if changed == 0 {
        return Err(StoreError::Invalid(nothing_to_do(user, act)));
    }
    let detail = ActDetail { by, kind: target.map(Target::kind), name: target.map(Target::name), reason };
    let person = match act {
        Act::Erase => None,
        _ => Some((row, user, None)),
    };
    audit::append(session, now, event, &detail, person)
}

fn carry_out(session: &Session<'_>, row: i64, act: &Act, by: &str, now: Timestamp) -> Result<usize, StoreError> {
    let run = |statement: &str, values: &[&dyn rusqlite::ToSql]| {
        session
            .connection
            .prepare_cached(statement)
            .and_then(|mut prepared| prepared.execute(values))
            .map_err(unavailable)
    };
    match act {
        Act::Assign(target) => run(
            "INSERT INTO grants (user_id, kind, name, granted_at, granted_by) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT DO NOTHING",
            &[&row, &kind_of(target), &target.name(), &now.0, &by],
        ),
        Act::Unassign(target) => run(
            "DELETE FROM grants WHERE user_id = ?1 AND kind = ?2 AND name = ?3 AND provider = ''",
            &[&row, &kind_of(target), &target.name()],
        ),
        Act::Deny { target, reason } => run(
            "INSERT INTO denies (user_id, kind, name, denied_at, denied_by, reason) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT DO NOTHING",
            &[&row, &kind_of(target), &target.name(), &now.0, &by, reason],
        ),
        Act::Undeny(target) => run(
            "DELETE FROM denies WHERE user_id = ?1 AND kind = ?2 AND name = ?3",
            &[&row, &kind_of(target), &target.name()],
        ),
        Act::Disable => run("UPDATE users SET disabled_at = ?2 WHERE id = ?1 AND disabled_at IS NULL", &[&row, &now.0]),
        Act::Enable => run("UPDATE users SET disabled_at = NULL WHERE id = ?1 AND disabled_at IS NOT NULL", &[&row]),
        Act::Erase => {
            run("UPDATE audit SET user_id = NULL, salt = NULL, fields = NULL WHERE user_id = ?1", &[&row])?;
            run("DELETE FROM users WHERE id = ?1", &[&row])
        }
    }
}

/// Why an act that changed nothing is an error: a script that repeats itself should hear it.
fn nothing_to_do(user: &UserId, act: &Act) -> String {
    match act {
        Act::Assign(target) => format!("{target} is already assigned to `{user}`"),
        Act::Unassign(target) => format!(
            "{target} is not assigned to `{user}` by hand; what a mapping grants ends with the mapping or the claim, \
             or by a deny"
        ),
        Act::Deny { target, .. } => format!("{target} is already denied to `{user}`"),
        Act::Undeny(target) => format!("{target} is not denied to `{user}`"),
        Act::Disable => format!("`{user}` is already disabled"),
        Act::Enable => format!("`{user}` is not disabled"),
        Act::Erase => format!("there is no user `{user}`"),
    }
}

fn create(session: &Session<'_>, user: &UserId, now: Timestamp) -> Result<i64, StoreError> {
    session
        .connection
        .prepare_cached("INSERT INTO users (namespace, subject, created_at) VALUES (?1, ?2, ?3)")
        .and_then(|mut insert| insert.insert(params![user.namespace.as_str(), user.subject.as_str(), now.0]))
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

/// Ends the grants of mappings that the new rules lack, or hold as disabled or inactive. The grants themselves carry the
/// identities, so nothing else has to be kept in step with the file.
pub(super) fn adopt(session: &mut Session<'_>, rules: &RuleSet, now: Timestamp) -> Result<Adopted, StoreError> {
    let named: Vec<[u8; 16]> = session
        .connection
        .prepare_cached(MAPPINGS_WITH_GRANTS)
        .and_then(|mut select| select.query_map([], |row| row.get(0))?.collect())
        .map_err(unavailable)?;
    let mut adopted = Adopted::default();
    for id in named {
        let live = rules.mapping(MappingId(id)).is_some_and(|mapping| mapping.activity == Activity::Active);
        if live {
            continue;
        }
        let grants = session
            .connection
            .prepare_cached("DELETE FROM grants WHERE mapping = ?1 AND mapping <> x''")
            .and_then(|mut delete| delete.execute(params![id]))
            .map_err(unavailable)?;
        adopted.ended_mappings += 1;
        adopted.ended_grants += grants as u64;
        let detail = EndedDetail { mapping: MappingId(id).to_string(), grants };
        audit::append(session, now, "mapping_ended", &detail, None)?;
    }
    *session.epoch = Some(rules.epoch);
    Ok(adopted)
}

/// The keys that seal cookies: one of 32 bytes, made when first asked for.
pub(super) fn cookie_keys(session: &mut Session<'_>) -> Result<Vec<u8>, StoreError> {
    let kept: Option<Vec<u8>> = session
        .connection
        .prepare_cached("SELECT value FROM settings WHERE name = 'cookie_keys'")
        .and_then(|mut select| select.query_row([], |row| row.get(0)).optional())
        .map_err(unavailable)?;
    if let Some(kept) = kept {
        return Ok(kept);
    }
    let mut fresh = vec![0; 32];
    rand::fill(&mut fresh).map_err(|_| StoreError::Unavailable("the system gives no random bytes".into()))?;
    session
        .connection
        .prepare_cached("INSERT INTO settings (name, value) VALUES ('cookie_keys', ?1)")
        .and_then(|mut insert| insert.execute(params![fresh]))
        .map_err(unavailable)?;
    Ok(fresh)
}
