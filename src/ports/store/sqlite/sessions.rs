//! Sessions in SQLite. Looking goes through the reading connection, so that requests do not wait for logins.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::super::rows::Live;
use super::super::{StoreError, Token};
use super::{Session as Transaction, provider_of, unavailable, user_of, users};
use crate::pipeline::ids::{ProviderName, Timestamp, UserId};
use crate::pipeline::mapping::RuleSet;
use crate::ports::sessions::{AtProvider, Digest, LoggedOut, Logout, NewSession, Session, SessionView};

/// Ended sessions that one beginning clears away: more than it adds, so that the table shrinks under load.
const SWEPT: i64 = 4;

pub(super) fn begin(transaction: &Transaction<'_>, session: &NewSession) -> Result<bool, StoreError> {
    let connection = transaction.connection;
    if let Some(before) = session.replaces {
        end(transaction, before)?;
    }
    let user = connection
        .prepare_cached("SELECT id FROM users WHERE namespace = ?1 AND subject = ?2 AND NOT disabled")
        .and_then(|mut select| {
            let key = params![session.user.namespace.as_str(), session.user.subject.as_str()];
            select.query_row(key, |row| row.get::<_, i64>(0)).optional()
        })
        .map_err(unavailable)?;
    let Some(user) = user else { return Ok(false) };
    sweep(connection, session.now)?;
    drop_surplus(connection, user, session.most)?;
    connection
        .prepare_cached(
            "INSERT INTO sessions (key, user_id, provider, login, token, subject, sid, name_format, app_cookie, refresh,
                                   created_at, seen_at, synced_at, idle_until, expires_at, name_qualifier,
                                   sp_name_qualifier, hint)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?11, ?11, ?12, ?13, ?14, ?15, ?16)",
        )
        .and_then(|mut insert| {
            insert.execute(params![
                session.key.0,
                user,
                session.provider.as_str(),
                session.login,
                session.token,
                session.at_provider.subject,
                session.at_provider.session,
                session.at_provider.name_format,
                session.app_cookie.map(|digest| digest.0),
                session.refresh,
                session.now.0,
                session.idle_until.0,
                session.expires_at.0,
                session.at_provider.name_qualifier,
                session.at_provider.sp_name_qualifier,
                session.hint,
            ])
        })
        .map_err(unavailable)?;
    Ok(true)
}

fn sweep(connection: &Connection, now: Timestamp) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "DELETE FROM sessions WHERE key IN
             (SELECT key FROM sessions WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2)",
        )
        .and_then(|mut delete| delete.execute(params![now.0, SWEPT]))
        .map_err(unavailable)?;
    Ok(())
}

/// Makes room for one more.
fn drop_surplus(connection: &Connection, user: i64, most: usize) -> Result<(), StoreError> {
    let keep = i64::try_from(most.saturating_sub(1)).unwrap_or(i64::MAX);
    connection
        .prepare_cached(
            "DELETE FROM sessions WHERE key IN
             (SELECT key FROM sessions WHERE user_id = ?1 ORDER BY created_at DESC LIMIT -1 OFFSET ?2)",
        )
        .and_then(|mut delete| delete.execute(params![user, keep]))
        .map_err(unavailable)?;
    Ok(())
}

pub(super) fn find(
    connection: &Connection,
    live: &Live,
    key: Digest,
    rules: &RuleSet,
    now: Timestamp,
) -> Result<Option<Session>, StoreError> {
    let found = connection
        .prepare_cached(
            "SELECT namespace, users.subject, email, display_name, provider, login, token, sessions.subject, sid,
                    name_format, app_cookie, refresh, seen_at, synced_at, idle_until, expires_at, name_qualifier,
                    sp_name_qualifier, hint
             FROM sessions JOIN users ON users.id = sessions.user_id
             WHERE key = ?1 AND expires_at > ?2 AND idle_until > ?2 AND NOT disabled",
        )
        .and_then(|mut select| select.query_row(params![key.0, now.0], |row| read(row, key)).optional())
        .map_err(unavailable)?;
    let Some(mut session) = found.transpose()? else { return Ok(None) };
    let Some(known) = users::user(connection, live, &session.user)? else { return Ok(None) };
    let effective = super::super::look::effective(&known.record, rules, now);
    session.groups = effective.groups.iter().map(ToString::to_string).collect();
    session.roles = effective.roles.iter().map(ToString::to_string).collect();
    Ok(Some(session))
}

/// A row, whose names were valid when written.
fn read(row: &Row<'_>, key: Digest) -> rusqlite::Result<Result<Session, StoreError>> {
    let (namespace, subject, provider): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(4)?);
    let names = user_of(&namespace, &subject).and_then(|user| Ok((user, provider_of(&provider)?)));
    let (user, provider) = match names {
        Ok(names) => names,
        Err(error) => return Ok(Err(error)),
    };
    Ok(Ok(Session {
        key,
        user,
        email: row.get(2)?,
        display_name: row.get(3)?,
        groups: Vec::new(),
        roles: Vec::new(),
        provider,
        login: row.get(5)?,
        token: row.get(6)?,
        at_provider: AtProvider {
            subject: row.get(7)?,
            session: row.get(8)?,
            name_format: row.get(9)?,
            name_qualifier: row.get(16)?,
            sp_name_qualifier: row.get(17)?,
        },
        app_cookie: row.get::<_, Option<[u8; 32]>>(10)?.map(Digest),
        refresh: row.get(11)?,
        hint: row.get(18)?,
        seen_at: Timestamp(row.get(12)?),
        synced_at: Timestamp(row.get(13)?),
        idle_until: Timestamp(row.get(14)?),
        expires_at: Timestamp(row.get(15)?),
    }))
}

pub(super) fn extend(
    transaction: &Transaction<'_>,
    key: Digest,
    seen_at: Timestamp,
    idle_until: Timestamp,
) -> Result<(), StoreError> {
    transaction
        .connection
        .prepare_cached(
            "UPDATE sessions SET seen_at = max(seen_at, ?2), idle_until = max(idle_until, ?3) WHERE key = ?1",
        )
        .and_then(|mut update| update.execute(params![key.0, seen_at.0, idle_until.0]))
        .map_err(unavailable)?;
    Ok(())
}

pub(super) fn renewed(
    transaction: &Transaction<'_>,
    key: Digest,
    refresh: Option<&[u8]>,
    synced_at: Timestamp,
) -> Result<(), StoreError> {
    transaction
        .connection
        .prepare_cached("UPDATE sessions SET refresh = coalesce(?2, refresh), synced_at = ?3 WHERE key = ?1")
        .and_then(|mut update| update.execute(params![key.0, refresh, synced_at.0]))
        .map_err(unavailable)?;
    Ok(())
}

pub(super) fn renamed(transaction: &Transaction<'_>, key: Digest, at_provider: &str) -> Result<(), StoreError> {
    transaction
        .connection
        .prepare_cached("UPDATE sessions SET sid = ?2 WHERE key = ?1")
        .and_then(|mut update| update.execute(params![key.0, at_provider]))
        .map_err(unavailable)?;
    Ok(())
}

pub(super) fn end(transaction: &Transaction<'_>, key: Digest) -> Result<bool, StoreError> {
    let ended = transaction
        .connection
        .prepare_cached("DELETE FROM sessions WHERE key = ?1")
        .and_then(|mut delete| delete.execute(params![key.0]))
        .map_err(unavailable)?;
    Ok(ended > 0)
}

/// OpenID Connect Back-Channel Logout 1.0 section 2.7, and SAML Profiles section 4.4.3.2: a session that is named, of the
/// person that is named; all of a person where no session is.
pub(super) fn log_out(transaction: &mut Transaction<'_>, logout: &Logout) -> Result<LoggedOut, StoreError> {
    if !remember(transaction, logout)? {
        return Ok(LoggedOut::Replay);
    }
    let mut ended = 0;
    for provider in &logout.providers {
        ended += log_out_of(transaction, provider, logout)?;
    }
    Ok(LoggedOut::Ended(ended.try_into().unwrap_or(u64::MAX)))
}

fn log_out_of(transaction: &Transaction<'_>, provider: &ProviderName, logout: &Logout) -> Result<usize, StoreError> {
    let provider = provider.as_str();
    let mut ended = 0;
    if logout.sessions.is_empty() {
        ended += transaction
            .connection
            .prepare_cached("DELETE FROM sessions WHERE provider = ?1 AND subject = ?2")
            .and_then(|mut delete| delete.execute(params![provider, logout.subject]))
            .map_err(unavailable)?;
    }
    for session in &logout.sessions {
        // A session whose token named no `sid` may be the one that is meant, if the person is named.
        ended += transaction
            .connection
            .prepare_cached(
                "DELETE FROM sessions WHERE provider = ?1
                 AND ((sid = ?2 AND (?3 IS NULL OR subject = ?3)) OR (sid IS NULL AND subject = ?3))",
            )
            .and_then(|mut delete| delete.execute(params![provider, session, logout.subject]))
            .map_err(unavailable)?;
    }
    Ok(ended)
}

/// Notes a logout message among the tokens that were here; `false` when it was noted before.
fn remember(transaction: &mut Transaction<'_>, logout: &Logout) -> Result<bool, StoreError> {
    let mut identity = b"logout\0".to_vec();
    identity.extend_from_slice(logout.issuer.as_bytes());
    identity.push(0);
    identity.extend_from_slice(logout.token.as_bytes());
    let token = Token { digest: Digest::of(&identity).0, until: logout.remember_until };
    match users::is_spent(transaction, token)? {
        true => Ok(false),
        false => users::remember(transaction, "tokens", token),
    }
}

pub(super) fn list(connection: &Connection, user: &UserId) -> Result<Vec<SessionView>, StoreError> {
    connection
        .prepare_cached(
            "SELECT provider, sessions.created_at, seen_at, expires_at
             FROM sessions JOIN users ON users.id = sessions.user_id WHERE namespace = ?1 AND users.subject = ?2",
        )
        .and_then(|mut select| {
            let view = |row: &Row<'_>| {
                Ok(SessionView {
                    provider: row.get(0)?,
                    created_at: Timestamp(row.get(1)?),
                    seen_at: Timestamp(row.get(2)?),
                    expires_at: Timestamp(row.get(3)?),
                })
            };
            select.query_map(params![user.namespace.as_str(), user.subject.as_str()], view)?.collect()
        })
        .map_err(unavailable)
}

pub(super) fn of_user(connection: &Connection, user: &UserId, now: Timestamp) -> Result<Vec<Digest>, StoreError> {
    let mut select = connection
        .prepare_cached(
            "SELECT key FROM sessions JOIN users ON users.id = sessions.user_id
             WHERE namespace = ?1 AND users.subject = ?2 AND expires_at > ?3 AND idle_until > ?3
               AND NOT disabled
             ORDER BY sessions.created_at DESC",
        )
        .map_err(unavailable)?;
    let key = params![user.namespace.as_str(), user.subject.as_str(), now.0];
    let rows = select.query_map(key, |row| row.get::<_, [u8; 32]>(0).map(Digest)).map_err(unavailable)?;
    rows.collect::<rusqlite::Result<_>>().map_err(unavailable)
}
