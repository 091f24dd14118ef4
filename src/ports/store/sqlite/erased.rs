//! What still binds a person who was erased: that they are disabled, and what they are denied.
//!
//! Their names are gone. What stays is an HMAC of them, with a key that this store made: a reader of the database
//! can test a guess, and cannot read a name out of it.

use std::collections::BTreeMap;

use aws_lc_rs::hmac;
use rusqlite::{Connection, OptionalExtension, params};

use super::super::StoreError;
use super::record::read_disabled;
use super::{Session, act, kind_of, target_of, unavailable};
use crate::pipeline::ids::{Timestamp, UserId};
use crate::pipeline::record::{Bound, Deny};

const KEY: &str = "erased_key";

fn digest(key: &[u8], user: &UserId) -> Vec<u8> {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    for part in [user.namespace.as_str(), user.subject.as_str()] {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part.as_bytes());
    }
    context.sign().as_ref().to_vec()
}

/// The digest of a user, by the key that is made at the first need.
fn digest_of(session: &mut Session<'_>, user: &UserId) -> Result<Vec<u8>, StoreError> {
    let key = act::kept(session, KEY, || {
        let mut fresh = vec![0; 32];
        aws_lc_rs::rand::fill(&mut fresh)
            .map_err(|_| StoreError::Unavailable("the system gives no random bytes".into()))?;
        Ok(fresh)
    })?;
    Ok(digest(&key, user))
}

fn run(session: &Session<'_>, statement: &str, values: &[&dyn rusqlite::ToSql]) -> Result<usize, StoreError> {
    session.connection.prepare_cached(statement).and_then(|mut prepared| prepared.execute(values)).map_err(unavailable)
}

/// What binds a user whom the store does not know.
pub(super) fn find(connection: &Connection, user: &UserId) -> Result<Option<Bound>, StoreError> {
    let Some(key) = act::setting(connection, KEY)? else { return Ok(None) };
    let digest = digest(&key, user);
    let found = connection
        .prepare_cached("SELECT disabled_at, disabled_by, disabled_label FROM erased WHERE digest = ?1")
        .and_then(|mut select| select.query_row(params![digest], |row| read_disabled(row, 0)).optional())
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
        };
        bound.denies.insert(target_of(row.get(0).map_err(unavailable)?, &name)?, deny);
    }
    Ok(Some(bound))
}

/// Writes down what binds a person from now on, in place of what did. Where nothing does, nothing is kept.
pub(super) fn keep(session: &mut Session<'_>, user: &UserId, bound: &Bound, now: Timestamp) -> Result<(), StoreError> {
    forget(session, user)?;
    if bound.disabled.is_none() && bound.denies.is_empty() {
        return Ok(());
    }
    let digest = digest_of(session, user)?;
    let by = bound.disabled.as_ref().and_then(|disabled| disabled.by.as_ref());
    run(
        session,
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
        run(
            session,
            "INSERT INTO erased_denies (digest, kind, name, denied_at, denied_by, until) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            &[&digest, &kind_of(target), &target.name(), &at.0, by, &until.map(|until| until.0)],
        )?;
    }
    Ok(())
}

/// Forgets what binds a user.
pub(super) fn forget(session: &Session<'_>, user: &UserId) -> Result<(), StoreError> {
    let Some(key) = act::setting(session.connection, KEY)? else { return Ok(()) };
    let digest = digest(&key, user);
    run(session, "DELETE FROM erased_denies WHERE digest = ?1", &[&digest])?;
    run(session, "DELETE FROM erased WHERE digest = ?1", &[&digest])?;
    Ok(())
}

/// What no longer binds a person is not kept.
pub(super) fn tidy(session: &Session<'_>) -> Result<(), StoreError> {
    let statement = "DELETE FROM erased WHERE disabled_at IS NULL
                     AND NOT EXISTS (SELECT 1 FROM erased_denies WHERE erased_denies.digest = erased.digest)";
    run(session, statement, &[]).map(drop)
}
