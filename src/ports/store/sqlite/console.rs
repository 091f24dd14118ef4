//! Sessions of the console in SQLite.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::super::StoreError;
use super::super::rows::{json, operator_of};
use super::{Session, unavailable};
use crate::pipeline::ids::Timestamp;
use crate::ports::console::{MOST, SignIn};
use crate::ports::sessions::Digest;

const COLUMNS: &str = "digest, link, operator, created_at, idle_until, expires_at";

pub(super) fn add(session: &Session<'_>, sign_in: &SignIn) -> Result<(), StoreError> {
    let SignIn { key, is_link, operator, created_at, idle_until, expires_at } = sign_in;
    session.run("DELETE FROM console WHERE min(idle_until, expires_at) <= ?1", &[&created_at.0])?;
    session.run(
        "DELETE FROM console WHERE digest IN (SELECT digest FROM console ORDER BY expires_at DESC LIMIT -1 OFFSET ?1)",
        &[&(MOST - 1)],
    )?;
    session.run(
        "INSERT INTO console (digest, link, operator, created_at, idle_until, expires_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        &[&key.0, is_link, &json(operator)?, &created_at.0, &idle_until.0, &expires_at.0],
    )?;
    Ok(())
}

pub(super) fn spend(session: &Session<'_>, link: Digest, now: Timestamp) -> Result<Option<SignIn>, StoreError> {
    let found = one(session.connection, link, true, now)?;
    session.run("DELETE FROM console WHERE digest = ?1 AND link", &[&link.0])?;
    Ok(found)
}

pub(super) fn session(connection: &Connection, key: Digest, now: Timestamp) -> Result<Option<SignIn>, StoreError> {
    one(connection, key, false, now)
}

fn one(connection: &Connection, key: Digest, is_link: bool, now: Timestamp) -> Result<Option<SignIn>, StoreError> {
    let text = format!(
        "SELECT {COLUMNS} FROM console WHERE digest = ?1 AND link = ?2 AND idle_until > ?3 AND expires_at > ?3"
    );
    connection
        .prepare_cached(&text)
        .and_then(|mut select| select.query_row(params![key.0, is_link, now.0], |row| Ok(read(row))).optional())
        .map_err(unavailable)?
        .transpose()
}

fn read(row: &Row<'_>) -> Result<SignIn, StoreError> {
    let operator: String = row.get(2).map_err(unavailable)?;
    let moment = |at| row.get(at).map(Timestamp).map_err(unavailable);
    Ok(SignIn {
        key: Digest(row.get(0).map_err(unavailable)?),
        is_link: row.get(1).map_err(unavailable)?,
        operator: operator_of(&operator)?,
        created_at: moment(3)?,
        idle_until: moment(4)?,
        expires_at: moment(5)?,
    })
}

pub(super) fn extend(session: &Session<'_>, key: Digest, idle_until: Timestamp) -> Result<(), StoreError> {
    let text = "UPDATE console SET idle_until = max(idle_until, ?2) WHERE digest = ?1 AND NOT link";
    session.run(text, &[&key.0, &idle_until.0]).map(drop)
}

pub(super) fn end(session: &Session<'_>, key: Option<Digest>) -> Result<u64, StoreError> {
    let ended = match key {
        Some(key) => session.run("DELETE FROM console WHERE digest = ?1", &[&key.0])?,
        None => session.run("DELETE FROM console", &[])?,
    };
    Ok(u64::try_from(ended).unwrap_or(u64::MAX))
}

pub(super) fn list(connection: &Connection, now: Timestamp) -> Result<Vec<SignIn>, StoreError> {
    let text = format!(
        "SELECT {COLUMNS} FROM console WHERE idle_until > ?1 AND expires_at > ?1 ORDER BY created_at DESC, digest"
    );
    let mut select = connection.prepare_cached(&text).map_err(unavailable)?;
    let mut rows = select.query([now.0]).map_err(unavailable)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().map_err(unavailable)? {
        found.push(read(row)?);
    }
    Ok(found)
}
