//! The audit chain: what happened, in commit order, each row sealed together with the seal before it.
//!
//! With a key the seal is an HMAC-SHA256, so that a row cannot be altered, removed or put in by somebody who can write the
//! database but lacks the key; without one it is a SHA-256, and `audit verify` says so. A chain that was cut off at its end
//! shows against the head that the log names every minute.

use aws_lc_rs::{digest, hmac, rand};
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::Serialize;

use super::super::{AuditRow, ChainReport};
use super::{Session, StoreError, unavailable};
use crate::config::Secret;
use crate::pipeline::ids::{Timestamp, UserId};

/// Makes and checks seals.
pub(super) struct Sealer {
    key: Option<hmac::Key>,
}

/// What goes into one row's seal, each part length-prefixed.
struct Sealed<'a> {
    sequence: i64,
    at: i64,
    event: &'a str,
    detail: &'a str,
    person: Option<&'a [u8]>,
    keyed: bool,
}

/// Who a row is about: kept beside the chain.
#[derive(Serialize)]
struct Person<'a> {
    namespace: &'a str,
    subject: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<&'a str>,
}

impl Sealer {
    pub(super) fn new(key: Option<&Secret>) -> Self {
        Self { key: key.map(|key| hmac::Key::new(hmac::HMAC_SHA256, key.expose())) }
    }

    fn seal(&self, before: &[u8], row: &Sealed<'_>) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(128 + row.detail.len());
        let mut part = |part: &[u8]| {
            bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
            bytes.extend_from_slice(part);
        };
        part(before);
        part(&row.sequence.to_be_bytes());
        part(&row.at.to_be_bytes());
        part(row.event.as_bytes());
        part(row.detail.as_bytes());
        part(row.person.unwrap_or_default());
        part(&[u8::from(row.keyed)]);
        match (&self.key, row.keyed) {
            (Some(key), true) => hmac::sign(key, &bytes).as_ref().to_vec(),
            _ => digest::digest(&digest::SHA256, &bytes).as_ref().to_vec(),
        }
    }
}

/// Writes one row at the end of the chain.
pub(super) fn append(
    session: &Session<'_>,
    at: Timestamp,
    event: &str,
    detail: &impl Serialize,
    person: Option<(i64, &UserId, Option<&str>)>,
) -> Result<(), StoreError> {
    let detail = serde_json::to_string(detail).map_err(|error| StoreError::Invalid(error.to_string()))?;
    let (sequence, before) = last(session.connection)?.map_or((1, Vec::new()), |(last, seal)| (last + 1, seal));
    let person = person.map(|(row, user, email)| conceal(row, user, email)).transpose()?;
    let hash = person.as_ref().map(|person| person.hash.as_slice());
    let keyed = session.sealer.key.is_some();
    let row = Sealed { sequence, at: at.0, event, detail: &detail, person: hash, keyed };
    let seal = session.sealer.seal(&before, &row);
    session
        .connection
        .prepare_cached(
            "INSERT INTO audit (sequence, at, event, detail, person, keyed, seal, user_id, salt, fields)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )
        .and_then(|mut insert| {
            let (user_row, salt) = (person.as_ref().map(|it| it.user_row), person.as_ref().map(|it| it.salt));
            let fields = person.as_ref().map(|it| it.fields.as_str());
            insert.execute(params![sequence, at.0, event, detail, hash, keyed, seal, user_row, salt, fields])
        })
        .map_err(unavailable)?;
    Ok(())
}

/// What names a person, and the hash that stands for it in the chain.
struct Concealed {
    user_row: i64,
    salt: [u8; 16],
    fields: String,
    hash: Vec<u8>,
}

/// The personal fields, and the salted hash by which the chain vouches for them.
fn conceal(user_row: i64, user: &UserId, email: Option<&str>) -> Result<Concealed, StoreError> {
    let person = Person { namespace: user.namespace.as_str(), subject: user.subject.as_str(), email };
    let fields = serde_json::to_string(&person).map_err(|error| StoreError::Invalid(error.to_string()))?;
    let mut salt = [0; 16];
    rand::fill(&mut salt).map_err(|_| StoreError::Unavailable("the system gives no random bytes".into()))?;
    let hash = salted(&salt, &fields);
    Ok(Concealed { user_row, salt, fields, hash })
}

fn salted(salt: &[u8], fields: &str) -> Vec<u8> {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(salt);
    context.update(fields.as_bytes());
    context.finish().as_ref().to_vec()
}

fn last(connection: &Connection) -> Result<Option<(i64, Vec<u8>)>, StoreError> {
    connection
        .prepare_cached("SELECT sequence, seal FROM audit ORDER BY sequence DESC LIMIT 1")
        .and_then(|mut select| select.query_row([], |row| Ok((row.get(0)?, row.get(1)?))).optional())
        .map_err(unavailable)
}

/// Sequence and seal of the last row.
pub(super) fn head(connection: &Connection) -> Result<Option<(i64, String)>, StoreError> {
    Ok(last(connection)?.map(|(sequence, seal)| (sequence, hexadecimal(&seal))))
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

/// The row of a login. Details of logins begin with its id; the newest are looked at first, since people ask about those.
pub(super) fn of_login(connection: &Connection, login: &str) -> Result<Option<AuditRow>, StoreError> {
    let beginning = format!("{{\"login\":{},", serde_json::Value::from(login));
    connection
        .prepare_cached(&format!("{ROW} WHERE substr(detail, 1, length(?1)) = ?1 ORDER BY sequence DESC LIMIT 1"))
        .and_then(|mut select| select.query_row(params![beginning], read_row).optional())
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

struct StoredRow {
    sequence: i64,
    at: i64,
    event: String,
    detail: String,
    person: Option<Vec<u8>>,
    keyed: bool,
    seal: Vec<u8>,
    salt: Option<Vec<u8>>,
    fields: Option<String>,
}

/// Walks the whole chain, and stops at the first row that does not fit.
pub(super) fn verify(connection: &Connection, sealer: &Sealer) -> Result<ChainReport, StoreError> {
    let mut select = connection
        .prepare("SELECT sequence, at, event, detail, person, keyed, seal, salt, fields FROM audit ORDER BY sequence")
        .map_err(unavailable)?;
    let stored = select
        .query_map([], |row| {
            Ok(StoredRow {
                sequence: row.get(0)?,
                at: row.get(1)?,
                event: row.get(2)?,
                detail: row.get(3)?,
                person: row.get(4)?,
                keyed: row.get(5)?,
                seal: row.get(6)?,
                salt: row.get(7)?,
                fields: row.get(8)?,
            })
        })
        .map_err(unavailable)?;
    let mut report = ChainReport { rows: 0, erased: 0, keyed: false, broken: None, head: String::new() };
    let mut before = Vec::new();
    for row in stored {
        let row = row.map_err(unavailable)?;
        if let Err(fault) = check_row(&row, &before, &report, sealer) {
            report.broken = Some((row.sequence, fault));
            break;
        }
        report.rows += 1;
        report.erased += u64::from(row.person.is_some() && row.fields.is_none());
        report.keyed |= row.keyed;
        before = row.seal;
    }
    report.head = hexadecimal(&before);
    Ok(report)
}

fn check_row(row: &StoredRow, before: &[u8], report: &ChainReport, sealer: &Sealer) -> Result<(), String> {
    let expected = i64::try_from(report.rows).unwrap_or(i64::MAX).saturating_add(1);
    if row.sequence != expected {
        return Err(format!("expected row {expected}: rows were removed"));
    }
    // Whoever lacks the key could go on without one, so a chain that has a key keeps it.
    if report.keyed && !row.keyed {
        return Err("is not sealed with the key, though earlier rows are".into());
    }
    if row.keyed && sealer.key.is_none() {
        return Err("is sealed with a key; give it (`audit.key_file` or `audit.key_env`) to verify".into());
    }
    let sealed = Sealed {
        sequence: row.sequence,
        at: row.at,
        event: &row.event,
        detail: &row.detail,
        person: row.person.as_deref(),
        keyed: row.keyed,
    };
    if sealer.seal(before, &sealed) != row.seal {
        return Err("its seal does not fit: the row, or the one before it, was altered".into());
    }
    match (&row.person, &row.salt, &row.fields) {
        (Some(hash), Some(salt), Some(fields)) if salted(salt, fields) != *hash => {
            Err("its personal fields were altered".into())
        }
        (None, _, Some(_)) => Err("has personal fields that it never had".into()),
        _ => Ok(()),
    }
}

pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
