//! The audit chain: what happened, in commit order. `docs/audit.md` says what it proves.
//!
//! Each row has a MAC of its own, over time, event, detail, login, user number and the hash of the personal fields. A seal
//! covers that MAC, the row's place and the seal before it. With a key both are HMAC-SHA256; without one they are SHA-256, and
//! `audit verify` says so. The personal fields and their salt can be erased: their hash stays.

mod seal;
mod verify;

use aws_lc_rs::rand;
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};

pub(super) use self::seal::Sealer;
use self::seal::{CURRENT, Content, Numbers, SALT, salted};
pub(super) use self::verify::verify;
use super::super::AuditRow;
use super::{Session, StoreError, unavailable};
use crate::pipeline::ids::{Timestamp, UserId};

/// The first row after those of the first format.
const CONTINUED: &str = "audit_continued";
/// An operator vouches for the rows from before there was a key.
const ACCEPTED: &str = "unkeyed_accepted";
pub(super) use crate::pipeline::decision::{ERASED, MERGED};

/// Who a row is about: kept beside the chain.
#[derive(Serialize)]
struct Person<'a> {
    namespace: &'a str,
    subject: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<&'a str>,
}

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

/// What names a person, and the hash that stands for it in the chain.
struct Concealed {
    salt: [u8; SALT],
    fields: String,
    hash: Vec<u8>,
}

/// The personal fields, and the salted hash by which the chain vouches for them.
fn conceal(user: &UserId, email: Option<&str>) -> Result<Concealed, StoreError> {
    let person = Person { namespace: user.namespace.as_str(), subject: user.subject.as_str(), email };
    let fields = serde_json::to_string(&person).map_err(|error| StoreError::Invalid(error.to_string()))?;
    let mut salt = [0; SALT];
    rand::fill(&mut salt).map_err(|_| StoreError::Unavailable("the system gives no random bytes".into()))?;
    let hash = salted(&salt, &fields);
    Ok(Concealed { salt, fields, hash })
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

/// What the first row after those of the first format says of them.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Continued {
    rows: u64,
    head: String,
    /// A digest of the user numbers in those rows, which their own seals leave out.
    users: String,
    /// The highest user number so far: a user of then may have no row.
    last_user: i64,
}

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

/// What an operator vouches for: the rows at the beginning that no key seals.
#[derive(Debug, Serialize, Deserialize)]
struct Accepted {
    by: String,
    rows: i64,
    head: String,
}

/// Seals, with the key, how many rows came before the first that it seals, and how they end. An operator says so and no
/// program: a writer of the database could otherwise write the whole chain anew, without the key, and have the next
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

/// The end of the chain.
#[derive(Debug, Clone)]
pub(super) struct Last {
    sequence: i64,
    seal: Vec<u8>,
    keyed: bool,
    key: Option<Vec<u8>>,
}

impl Last {
    /// A row that is not sealed as the rows before it could never be verified again, so it is not written.
    fn check_key(&self, sealer: &Sealer) -> Result<(), StoreError> {
        let why = match (sealer.key_id(), &self.key) {
            (None, _) if self.keyed => "the configuration has no audit key",
            (Some(ours), Some(theirs)) if ours != theirs.as_slice() => "the configuration has another one",
            _ => return Ok(()),
        };
        Err(StoreError::Invalid(format!(
            "the audit chain is sealed with a key, and {why}: set `audit.key_file` or `audit.key_env` to the key of before"
        )))
    }
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

pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
