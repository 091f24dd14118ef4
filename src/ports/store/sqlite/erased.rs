//! What still binds a person who was erased: that they are disabled, and what they are denied.
//!
//! Their names are gone. What stays is an HMAC of them, with a key that this store made: a reader of the database
//! can test a guess, and cannot read a name out of it.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::super::rows::erased_digest;
use super::super::{StoreError, random_key};
use super::settings::setting;
use super::{Session, kind_of, target_of, unavailable};
use crate::pipeline::decision::Bearer;
use crate::pipeline::ids::{MappingId, Timestamp, UserId};
use crate::pipeline::record::{Bound, Deny, Disabled, Rest};

const KEY: &str = "erased_key";

/// The digest of a user, by the key that is made at the first need.
fn digest_of(session: &Session<'_>, user: &UserId) -> Result<Vec<u8>, StoreError> {
    Ok(erased_digest(&session.kept(KEY, random_key)?, user))
}

/// Reads when, by which mapping and under which label.
fn read_disabled(row: &Row<'_>) -> rusqlite::Result<Option<Disabled>> {
    let Some(at) = row.get::<_, Option<i64>>(0)? else { return Ok(None) };
    let mapping: Option<[u8; 16]> = row.get(1)?;
    let label: Option<String> = row.get(2)?;
    let by = mapping.map(|mapping| (MappingId(mapping), label.unwrap_or_default()));
    Ok(Some(Disabled { at: Timestamp(at), by }))
}

/// What binds a user whom the store does not know.
pub(super) fn find(connection: &Connection, user: &UserId) -> Result<Option<Bound>, StoreError> {
    let Some(key) = setting(connection, KEY)? else { return Ok(None) };
    of_digest(connection, &erased_digest(&key, user))
}

fn of_digest(connection: &Connection, digest: &[u8]) -> Result<Option<Bound>, StoreError> {
    let found = connection
        .prepare_cached("SELECT disabled_at, disabled_by, disabled_label FROM erased WHERE digest = ?1")
        .and_then(|mut select| select.query_row(params![digest], read_disabled).optional())
        .map_err(unavailable)?;
    let Some(disabled) = found else { return Ok(None) };
    let mut bound = Bound { disabled, denies: BTreeMap::new() };
    let mut select = connection
        .prepare_cached("SELECT kind, name, denied_at, denied_by, until FROM erased_denies WHERE digest = ?1")
        .map_err(unavailable)?;
    let mut rows = select.query(params![digest]).map_err(unavailable)?;
    while let Some(row) = rows.next().map_err(unavailable)? {
        let name: String = row.get(1).map_err(unavailable)?;
        let deny = Deny {
            at: Timestamp(row.get(2).map_err(unavailable)?),
            by: row.get(3).map_err(unavailable)?,
            reason: "denied before the person was erased".into(),
            until: row.get::<_, Option<i64>>(4).map_err(unavailable)?.map(Timestamp),
            rest: Rest::new(),
        };
        bound.denies.insert(target_of(row.get(0).map_err(unavailable)?, &name)?, deny);
    }
    Ok(Some(bound))
}

/// Erased people whom a mapping disabled, by their digests.
pub(super) fn disabled(connection: &Connection) -> Result<Vec<(Vec<u8>, Bound)>, StoreError> {
    let digests: Vec<Vec<u8>> = connection
        .prepare_cached("SELECT digest FROM erased WHERE disabled_by IS NOT NULL")
        .and_then(|mut select| select.query_map([], |row| row.get(0))?.collect())
        .map_err(unavailable)?;
    bound_by(connection, digests)
}

/// Erased people of whom a deny has ended.
pub(super) fn lapsed(connection: &Connection, now: Timestamp) -> Result<Vec<(Vec<u8>, Bound)>, StoreError> {
    let digests: Vec<Vec<u8>> = connection
        .prepare_cached("SELECT DISTINCT digest FROM erased_denies WHERE until <= ?1")
        .and_then(|mut select| select.query_map(params![now.0], |row| row.get(0))?.collect())
        .map_err(unavailable)?;
    bound_by(connection, digests)
}

fn bound_by(connection: &Connection, digests: Vec<Vec<u8>>) -> Result<Vec<(Vec<u8>, Bound)>, StoreError> {
    let bound = |digest: Vec<u8>| Ok(of_digest(connection, &digest)?.map(|bound| (digest, bound)));
    digests.into_iter().filter_map(|digest| bound(digest).transpose()).collect()
}

/// Writes down what binds a person from now on, in place of what did.
pub(super) fn keep(session: &Session<'_>, user: &UserId, bound: &Bound, now: Timestamp) -> Result<(), StoreError> {
    forget(session, user)?;
    match bound.binds() {
        true => write(session, &digest_of(session, user)?, bound, now),
        false => Ok(()),
    }
}

/// The same for a person who is known by what is left of their key.
pub(super) fn bind(session: &Session<'_>, bearer: &Bearer, bound: &Bound, now: Timestamp) -> Result<(), StoreError> {
    match bearer {
        Bearer::User(user) => keep(session, user, bound, now),
        Bearer::Digest(digest) => {
            remove(session, digest)?;
            match bound.binds() {
                true => write(session, digest, bound, now),
                false => Ok(()),
            }
        }
    }
}

fn write(session: &Session<'_>, digest: &[u8], bound: &Bound, now: Timestamp) -> Result<(), StoreError> {
    let by = bound.disabled.as_ref().and_then(|disabled| disabled.by.as_ref());
    session.run(
        "INSERT INTO erased (digest, erased_at, disabled_at, disabled_by, disabled_label) VALUES (?1, ?2, ?3, ?4, ?5)",
        &[
            &digest,
            &now.0,
            &bound.disabled.as_ref().map(|disabled| disabled.at.0),
            &by.map(|(mapping, _)| mapping.0),
            &by.map(|(_, label)| label),
        ],
    )?;
    for (target, Deny { at, by, until, .. }) in &bound.denies {
        session.run(
            "INSERT INTO erased_denies (digest, kind, name, denied_at, denied_by, until) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            &[&digest, &kind_of(target), &target.name(), &at.0, by, &until.map(|until| until.0)],
        )?;
    }
    Ok(())
}

/// Forgets what binds a user.
pub(super) fn forget(session: &Session<'_>, user: &UserId) -> Result<(), StoreError> {
    match setting(session.connection, KEY)? {
        Some(key) => remove(session, &erased_digest(&key, user)),
        None => Ok(()),
    }
}

fn remove(session: &Session<'_>, digest: &[u8]) -> Result<(), StoreError> {
    session.run("DELETE FROM erased_denies WHERE digest = ?1", &[&digest])?;
    session.run("DELETE FROM erased WHERE digest = ?1", &[&digest]).map(drop)
}
