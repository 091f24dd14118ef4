//! What still binds a person who was erased: that they are disabled, and what they are denied.
//!
//! Their names are gone. What stays is an HMAC of them, with a key that this store made: a reader of the database
//! can test a guess, and cannot read a name out of it.

use aws_lc_rs::hmac;
use rusqlite::{OptionalExtension, params};

use super::super::StoreError;
use super::{Session, act, target_of, unavailable};
use crate::pipeline::ids::{Target, Timestamp, UserId};

const KEY: &str = "erased_key";

/// What binds an erased person.
#[derive(Debug, Default)]
pub(super) struct Bound {
    pub digest: Vec<u8>,
    pub disabled: bool,
    /// Not those that have ended.
    pub denies: Vec<Target>,
}

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

/// Keeps what binds a user who is about to be erased. `false` where nothing does.
pub(super) fn keep(session: &mut Session<'_>, row: i64, user: &UserId, now: Timestamp) -> Result<bool, StoreError> {
    let binds: bool = session
        .connection
        .prepare_cached(
            "SELECT disabled_at IS NOT NULL OR EXISTS (SELECT 1 FROM denies WHERE user_id = ?1) FROM users WHERE id = ?1",
        )
        .and_then(|mut select| select.query_row(params![row], |row| row.get(0)))
        .map_err(unavailable)?;
    if !binds {
        return Ok(false);
    }
    let digest = digest_of(session, user)?;
    run(
        session,
        "INSERT INTO erased (digest, erased_at, disabled_at, disabled_by, disabled_label)
         SELECT ?2, ?3, disabled_at, disabled_by, disabled_label FROM users WHERE id = ?1
         ON CONFLICT (digest) DO UPDATE
         SET disabled_at = excluded.disabled_at, disabled_by = excluded.disabled_by,
             disabled_label = excluded.disabled_label
         WHERE excluded.disabled_at IS NOT NULL",
        &[&row, &digest, &now.0],
    )?;
    run(
        session,
        "INSERT OR REPLACE INTO erased_denies (digest, kind, name, denied_at, denied_by, until)
         SELECT ?2, kind, name, denied_at, denied_by, until FROM denies WHERE user_id = ?1",
        &[&row, &digest],
    )?;
    Ok(true)
}

/// What binds a user whom the store does not know.
pub(super) fn find(session: &Session<'_>, user: &UserId, now: Timestamp) -> Result<Option<Bound>, StoreError> {
    let Some(key) = act::setting(session.connection, KEY)? else { return Ok(None) };
    let digest = digest(&key, user);
    let disabled: Option<bool> = session
        .connection
        .prepare_cached("SELECT disabled_at IS NOT NULL FROM erased WHERE digest = ?1")
        .and_then(|mut select| select.query_row(params![digest], |row| row.get(0)).optional())
        .map_err(unavailable)?;
    let Some(disabled) = disabled else { return Ok(None) };
    let denied: Vec<(i64, String)> = session
        .connection
        .prepare_cached("SELECT kind, name FROM erased_denies WHERE digest = ?1 AND (until IS NULL OR until > ?2)")
        .and_then(|mut select| {
            select.query_map(params![digest, now.0], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        })
        .map_err(unavailable)?;
    let denies = denied.iter().map(|(kind, name)| target_of(*kind, name)).collect::<Result<_, _>>()?;
    Ok(Some(Bound { digest, disabled, denies }))
}

/// Gives a user who is back what bound them: the row carries it from now on.
pub(super) fn restore(session: &Session<'_>, row: i64, bound: &Bound) -> Result<(), StoreError> {
    let digest = &bound.digest;
    run(
        session,
        "UPDATE users SET disabled_at = erased.disabled_at, disabled_by = erased.disabled_by,
                          disabled_label = erased.disabled_label
         FROM erased WHERE erased.digest = ?2 AND erased.disabled_at IS NOT NULL AND users.id = ?1
           AND (users.disabled_at IS NULL OR users.disabled_by IS NOT NULL)",
        &[&row, digest],
    )?;
    run(
        session,
        "INSERT INTO denies (user_id, kind, name, denied_at, denied_by, reason, until)
         SELECT ?1, kind, name, denied_at, denied_by, 'denied before the person was erased', until
         FROM erased_denies WHERE digest = ?2
         ON CONFLICT (user_id, kind, name) DO UPDATE SET until = excluded.until
         WHERE denies.until IS NOT NULL AND (excluded.until IS NULL OR excluded.until > denies.until)",
        &[&row, digest],
    )?;
    drop_digest(session, digest).map(drop)
}

/// Forgets what binds a user. `false` where nothing did.
pub(super) fn forget(session: &Session<'_>, user: &UserId) -> Result<bool, StoreError> {
    let Some(key) = act::setting(session.connection, KEY)? else { return Ok(false) };
    Ok(drop_digest(session, &digest(&key, user))? > 0)
}

fn drop_digest(session: &Session<'_>, digest: &[u8]) -> Result<usize, StoreError> {
    run(session, "DELETE FROM erased_denies WHERE digest = ?1", &[&digest])?;
    run(session, "DELETE FROM erased WHERE digest = ?1", &[&digest])
}

/// Enables a user who was erased. Returns how many rows that changed.
pub(super) fn enable(session: &Session<'_>, bound: &Bound) -> Result<usize, StoreError> {
    let changed = run(
        session,
        "UPDATE erased SET disabled_at = NULL, disabled_by = NULL, disabled_label = NULL
         WHERE digest = ?1 AND disabled_at IS NOT NULL",
        &[&bound.digest],
    )?;
    tidy(session)?;
    Ok(changed)
}

/// Lifts a deny of a user who was erased, whatever the case of its name. Returns how many that were.
pub(super) fn lift(session: &Session<'_>, bound: &Bound, target: &Target) -> Result<usize, StoreError> {
    use crate::pipeline::mapping::condition::folded;
    let same = |denied: &&Target| denied.kind() == target.kind() && folded(denied.name()) == folded(target.name());
    let mut lifted = 0;
    for denied in bound.denies.iter().filter(same) {
        let values: [&dyn rusqlite::ToSql; 3] = [&bound.digest, &super::kind_of(denied), &denied.name()];
        lifted += run(session, "DELETE FROM erased_denies WHERE digest = ?1 AND kind = ?2 AND name = ?3", &values)?;
    }
    tidy(session)?;
    Ok(lifted)
}

/// What no longer binds a person is not kept.
pub(super) fn tidy(session: &Session<'_>) -> Result<(), StoreError> {
    let statement = "DELETE FROM erased WHERE disabled_at IS NULL
                     AND NOT EXISTS (SELECT 1 FROM erased_denies WHERE erased_denies.digest = erased.digest)";
    run(session, statement, &[]).map(drop)
}

/// Binds the new key of a person who was erased, in place of the old one.
pub(super) fn rekey(session: &mut Session<'_>, old: &Bound, new: &UserId) -> Result<(), StoreError> {
    let digest = digest_of(session, new)?;
    run(
        session,
        "INSERT INTO erased (digest, erased_at, disabled_at, disabled_by, disabled_label)
         SELECT ?2, erased_at, disabled_at, disabled_by, disabled_label FROM erased WHERE digest = ?1
         ON CONFLICT (digest) DO UPDATE
         SET disabled_at = coalesce(erased.disabled_at, excluded.disabled_at),
             disabled_by = iif(erased.disabled_at IS NULL, excluded.disabled_by, erased.disabled_by),
             disabled_label = iif(erased.disabled_at IS NULL, excluded.disabled_label, erased.disabled_label)",
        &[&old.digest, &digest],
    )?;
    run(session, "UPDATE OR IGNORE erased_denies SET digest = ?2 WHERE digest = ?1", &[&old.digest, &digest])?;
    drop_digest(session, &old.digest).map(drop)
}
