//! A new key for a person: another e-mail address, or a new client of the provider by which everyone has another subject.
//!
//! The row stays, so that all that hangs on it goes along. If a user has the new key already, the two become one: what
//! takes access away (denies, being disabled) stays of either, and what gives it by hand is joined.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{OptionalExtension, params};
use serde::Serialize;

use super::super::{By, Rekeyed, StoreError};
use super::audit::About;
use super::{NOTE_LAST_USER, Session, audit, erased, execute, target_of, unavailable, user_row};
use crate::pipeline::ids::{Target, Timestamp, UserId};

/// Rekeys all, in an order of no consequence: everybody leaves their old key before anybody takes a new one.
pub(super) fn rekey(
    session: &mut Session<'_>,
    keys: &[(UserId, UserId)],
    merge: bool,
    by: Option<&By>,
    now: Timestamp,
) -> Result<Vec<Rekeyed>, StoreError> {
    check(keys)?;
    let Some(by) = by else {
        execute(session.connection, "SAVEPOINT rekey")?;
        let looked = carry_out(session, keys, merge, None, now);
        execute(session.connection, "ROLLBACK TO rekey")?;
        execute(session.connection, "RELEASE rekey")?;
        return looked;
    };
    carry_out(session, keys, merge, Some(by), now)
}

fn check(keys: &[(UserId, UserId)]) -> Result<(), StoreError> {
    let (mut old, mut new) = (BTreeSet::new(), BTreeSet::new());
    for (from, to) in keys {
        if from == to {
            return Err(StoreError::Invalid(format!("`{from}` is the old and the new key; expected two")));
        }
        if !old.insert(from) {
            return Err(StoreError::Invalid(format!("`{from}` is named twice as an old key")));
        }
        if !new.insert(to) {
            return Err(StoreError::Invalid(format!(
                "`{to}` is named twice as a new key; rekey one of them, then the other with `--merge`"
            )));
        }
    }
    Ok(())
}

/// Who is under an old key.
enum Under {
    Row(i64),
    Erased(erased::Bound),
}

fn carry_out(
    session: &mut Session<'_>,
    keys: &[(UserId, UserId)],
    merge: bool,
    by: Option<&By>,
    now: Timestamp,
) -> Result<Vec<Rekeyed>, StoreError> {
    let mut found = BTreeMap::new();
    for (at, (old, _)) in keys.iter().enumerate() {
        let under = match user_row(session.connection, old)? {
            Some(row) => {
                // No namespace is empty, so that no user has this key.
                name(session, row, "", &at.to_string())?;
                Under::Row(row)
            }
            None => match erased::find(session, old, now)? {
                Some(bound) => Under::Erased(bound),
                None => return Err(StoreError::Invalid(format!("there is no user `{old}`"))),
            },
        };
        found.insert(at, under);
    }
    let mut rekeyed = Vec::new();
    for ((old, new), under) in keys.iter().zip(found.into_values()) {
        let done = match under {
            Under::Row(row) => move_row(session, row, (old, new), merge, by, now)?,
            Under::Erased(bound) => move_bound(session, &bound, (old, new), by, now)?,
        };
        rekeyed.push(done);
    }
    Ok(rekeyed)
}

fn name(session: &Session<'_>, row: i64, namespace: &str, subject: &str) -> Result<(), StoreError> {
    run(session, "UPDATE users SET namespace = ?2, subject = ?3 WHERE id = ?1", &[&row, &namespace, &subject])
}

fn run(session: &Session<'_>, statement: &str, values: &[&dyn rusqlite::ToSql]) -> Result<(), StoreError> {
    session
        .connection
        .prepare_cached(statement)
        .and_then(|mut prepared| prepared.execute(values))
        .map_err(unavailable)?;
    Ok(())
}

fn move_row(
    session: &Session<'_>,
    row: i64,
    (old, new): (&UserId, &UserId),
    merge: bool,
    by: Option<&By>,
    now: Timestamp,
) -> Result<Rekeyed, StoreError> {
    let (into, merged) = match user_row(session.connection, new)? {
        None => {
            name(session, row, new.namespace.as_str(), new.subject.as_str())?;
            (row, false)
        }
        // Looking tells what merging would come to; acting asks for the word.
        Some(_) if !merge && by.is_some() => {
            return Err(StoreError::Invalid(format!(
                "there is `{new}` already; `--merge` (in the API `merge`) makes one of the two"
            )));
        }
        Some(other) => {
            join(session, row, other)?;
            if let Some(by) = by {
                let detail = MergedDetail { by: &by.name, into: other };
                let about = About { login: None, user: Some(row), person: None };
                audit::append_about(session, now, audit::MERGED, &detail, &about)?;
            }
            (other, true)
        }
    };
    // The person who was erased under the new key is back.
    if let Some(bound) = erased::find(session, new, now)? {
        erased::restore(session, into, &bound)?;
    }
    note(session, (old, new), merged, false, Some(into), by, now)
}

/// Makes one user of two.
fn join(session: &Session<'_>, from: i64, into: i64) -> Result<(), StoreError> {
    // A grant by hand counts as made by an administrator if either was.
    run(
        session,
        "INSERT INTO grants (user_id, kind, name, granted_at, granted_by, as_admin)
         SELECT ?2, kind, name, granted_at, granted_by, as_admin FROM grants WHERE user_id = ?1 AND provider = ''
         ON CONFLICT DO UPDATE SET granted_at = excluded.granted_at, granted_by = excluded.granted_by, as_admin = 1
         WHERE excluded.as_admin = 1 AND grants.as_admin IS NOT 1",
        &[&from, &into],
    )?;
    // What a provider gave under the old key stays until it has spoken under the new one.
    let unseen = "provider <> '' AND provider NOT IN (SELECT provider FROM watermarks WHERE user_id = ?2)";
    for table in ["grants", "recorded_claims", "watermarks"] {
        run(session, &format!("UPDATE {table} SET user_id = ?2 WHERE user_id = ?1 AND {unseen}"), &[&from, &into])?;
    }
    run(
        session,
        "INSERT INTO denies (user_id, kind, name, denied_at, denied_by, reason, until)
         SELECT ?2, kind, name, denied_at, denied_by, reason, until FROM denies WHERE user_id = ?1
         ON CONFLICT (user_id, kind, name) DO UPDATE SET until = excluded.until
         WHERE denies.until IS NOT NULL AND (excluded.until IS NULL OR excluded.until > denies.until)",
        &[&from, &into],
    )?;
    // An operator's disabling goes before a mapping's, which is lifted with the mapping's name.
    run(
        session,
        "UPDATE users SET disabled_at = other.disabled_at, disabled_by = other.disabled_by,
                          disabled_label = other.disabled_label
         FROM (SELECT disabled_at, disabled_by, disabled_label FROM users WHERE id = ?1) AS other
         WHERE users.id = ?2 AND other.disabled_at IS NOT NULL
           AND (users.disabled_at IS NULL OR (users.disabled_by IS NOT NULL AND other.disabled_by IS NULL))",
        &[&from, &into],
    )?;
    run(session, NOTE_LAST_USER, &[&from])?;
    run(session, "INSERT INTO former_users (id, user_id) VALUES (?1, ?2)", &[&from, &into])?;
    run(session, "UPDATE former_users SET user_id = ?2 WHERE user_id = ?1", &[&from, &into])?;
    run(session, "DELETE FROM users WHERE id = ?1", &[&from])
}

/// What binds an erased person goes to the new key, or to the user who has it.
fn move_bound(
    session: &mut Session<'_>,
    bound: &erased::Bound,
    (old, new): (&UserId, &UserId),
    by: Option<&By>,
    now: Timestamp,
) -> Result<Rekeyed, StoreError> {
    let row = user_row(session.connection, new)?;
    match row {
        Some(row) => erased::restore(session, row, bound)?,
        None => erased::rekey(session, bound, new)?,
    }
    note(session, (old, new), row.is_some(), true, row, by, now)
}

#[derive(Serialize)]
struct MergedDetail<'a> {
    by: &'a str,
    /// The number of the user that the two are now.
    into: i64,
}

#[derive(Serialize)]
struct RekeyedDetail<'a> {
    by: &'a str,
    merged: bool,
    erased: bool,
    disabled: bool,
    denies: usize,
    assigned: usize,
}

fn note(
    session: &Session<'_>,
    (old, new): (&UserId, &UserId),
    merged: bool,
    erased: bool,
    row: Option<i64>,
    by: Option<&By>,
    now: Timestamp,
) -> Result<Rekeyed, StoreError> {
    let (disabled, denies, assigned) = match row {
        Some(row) => (
            is_disabled(session, row)?,
            targets(session, "SELECT kind, name FROM denies WHERE user_id = ?1 ORDER BY kind, name", row)?,
            targets(
                session,
                "SELECT kind, name FROM grants WHERE user_id = ?1 AND provider = '' ORDER BY kind, name",
                row,
            )?,
        ),
        None => match erased::find(session, new, now)? {
            Some(bound) => (bound.disabled, bound.denies, Vec::new()),
            None => (false, Vec::new(), Vec::new()),
        },
    };
    if let Some(by) = by {
        let detail =
            RekeyedDetail { by: &by.name, merged, erased, disabled, denies: denies.len(), assigned: assigned.len() };
        // Both keys are personal: the row is of the person as they were, and of the person as they are.
        for user in [old, new] {
            audit::append(session, now, "user_rekeyed", &detail, row.map(|row| (row, user, None)))?;
        }
    }
    Ok(Rekeyed { old: old.clone(), new: new.clone(), merged, erased, disabled, denies, assigned })
}

fn is_disabled(session: &Session<'_>, row: i64) -> Result<bool, StoreError> {
    let found: Option<bool> = session
        .connection
        .prepare_cached("SELECT disabled_at IS NOT NULL FROM users WHERE id = ?1")
        .and_then(|mut select| select.query_row(params![row], |row| row.get(0)).optional())
        .map_err(unavailable)?;
    Ok(found.unwrap_or_default())
}

fn targets(session: &Session<'_>, statement: &str, row: i64) -> Result<Vec<Target>, StoreError> {
    let found: Vec<(i64, String)> = session
        .connection
        .prepare_cached(statement)
        .and_then(|mut select| select.query_map(params![row], |row| Ok((row.get(0)?, row.get(1)?)))?.collect())
        .map_err(unavailable)?;
    found.iter().map(|(kind, name)| target_of(*kind, name)).collect()
}
