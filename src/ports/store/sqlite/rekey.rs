//! A new key for a person: another e-mail address, or a new client of the provider by which everyone has another subject.
//!
//! The row stays, so that all that hangs on it goes along. If a user has the new key already, the two become one: what
//! takes access away (denies, being disabled) stays of either, and what gives it by hand is joined.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::super::{By, Rekeyed, StoreError};
use super::audit::About;
use super::{NOTE_LAST_USER, Session, audit, erased, execute, record, unavailable, user_row};
use crate::pipeline::ids::{Target, Timestamp, UserId};
use crate::pipeline::plan::Source;
use crate::pipeline::record::{Bound, Record};

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
    /// The number, and the record as it was.
    Row(i64, Box<Record>),
    Erased(Bound),
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
        let under = match record::read(session.connection, old)? {
            Some((row, record)) => {
                // No namespace is empty, so that no user has this key.
                name(session, row, "", &at.to_string())?;
                Under::Row(row, Box::new(record))
            }
            None => match erased::find(session.connection, old)? {
                Some(bound) => Under::Erased(bound),
                None => return Err(StoreError::Invalid(format!("there is no user `{old}`"))),
            },
        };
        found.insert(at, under);
    }
    let mut rekeyed = Vec::new();
    for ((old, new), under) in keys.iter().zip(found.into_values()) {
        let done = match under {
            Under::Row(row, record) => move_row(session, (row, &record), (old, new), merge, by, now)?,
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
    (row, record): (i64, &Record),
    (old, new): (&UserId, &UserId),
    merge: bool,
    by: Option<&By>,
    now: Timestamp,
) -> Result<Rekeyed, StoreError> {
    let (into, merged) = match record::read(session.connection, new)? {
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
        Some((other, kept)) => {
            join(session, (row, record), (other, new), &kept)?;
            if let Some(by) = by {
                let detail = MergedDetail { by: &by.name, into: other };
                let about = About { login: None, user: Some(row), person: None };
                audit::append_about(session, now, audit::MERGED, &detail, &about)?;
            }
            (other, true)
        }
    };
    // The person who was erased under the new key is back.
    if let Some(bound) = erased::find(session.connection, new)? {
        restore(session, new, &bound)?;
        erased::forget(session, new)?;
    }
    note(session, (old, new), merged, false, Some(into), by, now)
}

/// Makes one user of two.
fn join(
    session: &Session<'_>,
    (from, old): (i64, &Record),
    (into, user): (i64, &UserId),
    kept: &Record,
) -> Result<(), StoreError> {
    for provider in old.logins.keys().filter(|provider| !kept.logins.contains_key(*provider)) {
        let statement = "UPDATE recorded_claims SET user_id = ?2 WHERE user_id = ?1 AND provider = ?3";
        run(session, statement, &[&from, &into, &provider.as_str()])?;
    }
    let mut joined = kept.clone();
    joined.absorb(old);
    record::write(session, user, Some((into, kept)), &joined)?;
    run(session, NOTE_LAST_USER, &[&from])?;
    run(session, "INSERT INTO former_users (id, user_id) VALUES (?1, ?2)", &[&from, &into])?;
    run(session, "UPDATE former_users SET user_id = ?2 WHERE user_id = ?1", &[&from, &into])?;
    run(session, "DELETE FROM users WHERE id = ?1", &[&from])
}

/// Binds a user by what bound a person who was erased.
fn restore(session: &Session<'_>, user: &UserId, bound: &Bound) -> Result<(), StoreError> {
    let Some((number, before)) = record::read(session.connection, user)? else { return Ok(()) };
    let mut after = before.clone();
    after.bind(bound);
    record::write(session, user, Some((number, &before)), &after).map(drop)
}

/// What binds an erased person goes to the new key, or to the user who has it.
fn move_bound(
    session: &mut Session<'_>,
    bound: &Bound,
    (old, new): (&UserId, &UserId),
    by: Option<&By>,
    now: Timestamp,
) -> Result<Rekeyed, StoreError> {
    let row = user_row(session.connection, new)?;
    match row {
        Some(_) => restore(session, new, bound)?,
        None => {
            let mut joined = erased::find(session.connection, new)?.unwrap_or_default();
            joined.absorb(bound);
            erased::keep(session, new, &joined, now)?;
        }
    }
    erased::forget(session, old)?;
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
    let found = row.map(|_| record::read(session.connection, new)).transpose()?.flatten();
    let (disabled, denies, assigned): (bool, Vec<Target>, Vec<Target>) = match found {
        Some((_, record)) => {
            let by_hand = record.holdings.keys().filter(|grant| grant.source == Source::Assigned);
            let assigned = by_hand.map(|grant| grant.target.clone()).collect();
            (record.disabled.is_some(), record.denies.into_keys().collect(), assigned)
        }
        None => {
            let bound = erased::find(session.connection, new)?.unwrap_or_default();
            (bound.disabled.is_some(), bound.denied(now).into_iter().collect(), Vec::new())
        }
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
