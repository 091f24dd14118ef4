//! The audit chain in SQLite: each row is sealed onto the one before, in the order of commits.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicU64;

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::Serialize;

pub(super) use super::super::chain::Sealer;
use super::super::chain::{
    ACCEPTED, Accepted, CONTINUED, CURRENT, Content, Continued, Last, Numbers, Stored, Walk, conceal, hexadecimal,
};
use super::super::{AuditRow, ChainReport};
use super::{Session, StoreError, unavailable};
use crate::pipeline::ids::{Timestamp, UserId};

/// What a row is about, apart from its detail.
#[derive(Default)]
pub(super) struct About<'a> {
    /// The id of a login in the log.
    pub login: Option<&'a str>,
    /// The number of a user. It is sealed, and erasing works by it.
    pub user: Option<i64>,
    /// The user's personal fields.
    pub person: Option<(&'a UserId, Option<&'a str>)>,
}

/// Writes one row at the end of the chain. Its detail is JSON.
pub(super) fn append(
    session: &mut Session<'_>,
    at: Timestamp,
    event: &str,
    detail: &str,
    about: &About<'_>,
) -> Result<(), StoreError> {
    let last = write_text(session.connection, session.sealer, session.state.last.as_ref(), at, event, detail, about)?;
    session.count();
    session.state.last = Some(last);
    Ok(())
}

fn write(
    connection: &Connection,
    sealer: &Sealer,
    at: Timestamp,
    event: &str,
    detail: &impl Serialize,
    about: &About<'_>,
) -> Result<(), StoreError> {
    let detail = serde_json::to_string(detail).map_err(|error| StoreError::Invalid(error.to_string()))?;
    write_text(connection, sealer, last(connection)?.as_ref(), at, event, &detail, about).map(drop)
}

/// Returns the end of the chain as it is from now on.
fn write_text(
    connection: &Connection,
    sealer: &Sealer,
    last: Option<&Last>,
    at: Timestamp,
    event: &str,
    detail: &str,
    about: &About<'_>,
) -> Result<Last, StoreError> {
    if let Some(last) = last {
        last.check_key(sealer)?;
    }
    let (sequence, before) = last.map_or((1, [].as_slice()), |last| (last.sequence + 1, last.seal.as_slice()));
    let person = about.person.map(|(user, email)| conceal(user, email)).transpose()?;
    let hash = person.as_ref().map(|person| person.hash.as_slice());
    let (key, keyed) = (sealer.key_id(), sealer.key_id().is_some());
    let content = Content { at: at.0, event, detail, login: about.login, user: about.user, person: hash };
    let mac = sealer.mac(keyed, &content);
    let seal = sealer.link(keyed, sequence, before, &mac);
    connection
        .prepare_cached(
            "INSERT INTO audit (sequence, at, event, detail, person, keyed, seal, user_id, salt, fields, format, login, mac, key)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
        )
        .and_then(|mut insert| {
            let salt = person.as_ref().map(|it| it.salt);
            let fields = person.as_ref().map(|it| it.fields.as_str());
            insert.execute(params![
                sequence, at.0, event, detail, hash, keyed, seal, about.user, salt, fields, CURRENT, about.login, mac, key
            ])
        })
        .map_err(unavailable)?;
    Ok(Last { sequence, seal, keyed, key: key.map(<[u8]>::to_vec) })
}

/// Removes the personal fields of every row about a user. The numbers stay: they are sealed, and no longer name a person.
pub(super) fn erase(session: &Session<'_>, user: i64) -> Result<(), StoreError> {
    session
        .connection
        .prepare_cached("UPDATE audit SET salt = NULL, fields = NULL WHERE user_id = ?1 AND fields IS NOT NULL")
        .and_then(|mut update| update.execute(params![user]))
        .map_err(unavailable)?;
    Ok(())
}

// ------------------------------------------------------------------------------------------------- how a chain goes on

/// Seals how many rows of the first format there are, and how they end. Without any nothing is written.
pub(super) fn continue_first_format(connection: &Connection, sealer: &Sealer, at: Timestamp) -> Result<(), StoreError> {
    let Some(last) = last(connection)? else { return Ok(()) };
    let mut select =
        connection.prepare("SELECT sequence, user_id FROM audit ORDER BY sequence").map_err(unavailable)?;
    let mut stored = select.query([]).map_err(unavailable)?;
    let (mut rows, mut numbers) = (0, Numbers::new());
    while let Some(row) = stored.next().map_err(unavailable)? {
        numbers.add(row.get(0).map_err(unavailable)?, row.get(1).map_err(unavailable)?);
        rows += 1;
    }
    let last_user = connection.query_row("SELECT coalesce(max(id), 0) FROM users", [], |row| row.get(0));
    let continued = Continued {
        rows,
        head: hexadecimal(&last.seal),
        users: numbers.finish(),
        last_user: last_user.map_err(unavailable)?,
    };
    write(connection, sealer, at, CONTINUED, &continued, &About::default())
}

/// Seals, with the key, how many rows came before the first that it seals, and how they end. An operator says so and no
/// program: a writer of the database could otherwise write the whole chain again, without the key, and have the next
/// login vouch for it. Returns how many rows that were.
pub(super) fn accept_unkeyed(session: &mut Session<'_>, by: &str, at: Timestamp) -> Result<u64, StoreError> {
    let invalid = |why: &str| Err(StoreError::Invalid(why.into()));
    if session.sealer.key_id().is_none() {
        return invalid("there is no audit key: set `audit.key_file` or `audit.key_env` first");
    }
    let found = session
        .connection
        .query_row(
            "SELECT sequence, seal FROM audit
             WHERE sequence < coalesce((SELECT min(sequence) FROM audit WHERE keyed), 9223372036854775807)
             ORDER BY sequence DESC LIMIT 1",
            [],
            |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?)),
        )
        .optional()
        .map_err(unavailable)?;
    let Some((rows, head)) = found else {
        return invalid("every row is sealed with the key: there is nothing to accept");
    };
    let accepted = Accepted { by: by.into(), rows, head: hexadecimal(&head) };
    let detail = serde_json::to_string(&accepted).map_err(|error| StoreError::Invalid(error.to_string()))?;
    append(session, at, ACCEPTED, &detail, &About::default())?;
    Ok(rows.unsigned_abs())
}

pub(super) fn last(connection: &Connection) -> Result<Option<Last>, StoreError> {
    connection
        .prepare_cached("SELECT sequence, seal, keyed, key FROM audit ORDER BY sequence DESC LIMIT 1")
        .and_then(|mut select| {
            select
                .query_row([], |row| {
                    Ok(Last { sequence: row.get(0)?, seal: row.get(1)?, keyed: row.get(2)?, key: row.get(3)? })
                })
                .optional()
        })
        .map_err(unavailable)
}

/// Whether rows can be written with this key: what a start should know before the first login does.
pub(super) fn check_key(connection: &Connection, sealer: &Sealer) -> Result<(), StoreError> {
    last(connection)?.map_or(Ok(()), |last| last.check_key(sealer))
}

// -------------------------------------------------------------------------------------------------------------- looking

/// Sequence and seal of the last row.
pub(super) fn head(connection: &Connection) -> Result<Option<(i64, String)>, StoreError> {
    Ok(last(connection)?.map(|last| (last.sequence, hexadecimal(&last.seal))))
}

const ROW: &str = "SELECT sequence, at, event, detail, fields, seal FROM audit";

/// Rows after a sequence number, oldest first.
pub(super) fn rows(connection: &Connection, after: i64, limit: usize) -> Result<Vec<AuditRow>, StoreError> {
    let mut select = connection
        .prepare_cached(&format!("{ROW} WHERE sequence > ?1 ORDER BY sequence LIMIT ?2"))
        .map_err(unavailable)?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    select.query_map(params![after, limit], read_row).and_then(Iterator::collect).map_err(unavailable)
}

/// All rows about a user.
pub(super) fn about(connection: &Connection, number: i64) -> Result<Vec<AuditRow>, StoreError> {
    let mut select =
        connection.prepare_cached(&format!("{ROW} WHERE user_id = ?1 ORDER BY sequence")).map_err(unavailable)?;
    select.query_map(params![number], read_row).and_then(Iterator::collect).map_err(unavailable)
}

/// Rows that are searched for those about one user: there is no index by user, which every login would have to write.
const SEARCHED: i64 = 100_000;

/// The newest rows about a user, the newest first, among the newest [`SEARCHED`] of all.
pub(super) fn latest_about(connection: &Connection, number: i64, limit: usize) -> Result<Vec<AuditRow>, StoreError> {
    let newest = last(connection)?.map_or(0, |last| last.sequence);
    let mut select = connection
        .prepare_cached(&format!("{ROW} WHERE user_id = ?1 AND sequence > ?2 ORDER BY sequence DESC LIMIT ?3"))
        .map_err(unavailable)?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let found = select.query_map(params![number, newest - SEARCHED, limit], read_row);
    found.and_then(Iterator::collect).map_err(unavailable)
}

/// The row of a login; of the first format, one whose detail begins with its id. The newest are looked at first, since people
/// ask about those.
pub(super) fn of_login(connection: &Connection, login: &str) -> Result<Option<AuditRow>, StoreError> {
    let beginning = format!("{{\"login\":{},", serde_json::Value::from(login));
    connection
        .prepare_cached(&format!(
            "{ROW} WHERE (format = 2 AND login = ?2) OR (format = 1 AND substr(detail, 1, length(?1)) = ?1) ORDER BY sequence DESC LIMIT 1"
        ))
        .and_then(|mut select| select.query_row(params![beginning, login], read_row).optional())
        .map_err(unavailable)
}

fn read_row(row: &Row<'_>) -> rusqlite::Result<AuditRow> {
    let parse = |text: String| serde_json::from_str(&text).unwrap_or(serde_json::Value::String(text));
    Ok(AuditRow {
        sequence: row.get(0)?,
        at: Timestamp(row.get(1)?).to_string(),
        event: row.get(2)?,
        detail: parse(row.get(3)?),
        person: row.get::<_, Option<String>>(4)?.map(parse),
        seal: hexadecimal(&row.get::<_, Vec<u8>>(5)?),
    })
}

/// Walks the whole chain, and stops at the first row that does not fit.
///
/// # Errors
/// When the database cannot be read.
pub(super) fn verify(connection: &Connection, sealer: &Sealer, walked: &AtomicU64) -> Result<ChainReport, StoreError> {
    let mut walk = Walk::new(sealer, walked);
    let mut select = connection
        .prepare(
            "SELECT sequence, at, event, detail, person, keyed, seal, user_id, salt, fields, format, login, mac, key
             FROM audit ORDER BY sequence",
        )
        .map_err(unavailable)?;
    let mut rows = select.query([]).map_err(unavailable)?;
    while let Some(row) = rows.next().map_err(unavailable)? {
        // A column of another type is an altered row, not a store that fails.
        let Ok(row) = stored(row) else {
            return Ok(walk.broken_at_next("holds values of the wrong type: it was altered"));
        };
        if let Err(fault) = walk.step(&row) {
            return Ok(walk.report(Some(fault)));
        }
    }
    let users: BTreeSet<i64> = connection
        .prepare("SELECT id FROM users")
        .and_then(|mut select| select.query_map([], |row| row.get(0))?.collect())
        .map_err(unavailable)?;
    let fault = walk.end(&users);
    Ok(walk.report(fault))
}

fn stored(row: &Row<'_>) -> rusqlite::Result<Stored> {
    Ok(Stored {
        sequence: row.get(0)?,
        at: row.get(1)?,
        event: row.get(2)?,
        detail: row.get(3)?,
        person: row.get(4)?,
        keyed: row.get(5)?,
        seal: row.get(6)?,
        user: row.get(7)?,
        salt: row.get(8)?,
        fields: row.get(9)?,
        format: row.get(10)?,
        login: row.get(11)?,
        mac: row.get(12)?,
        key: row.get(13)?,
    })
}
