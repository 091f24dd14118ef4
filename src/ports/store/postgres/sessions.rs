//! Sessions in PostgreSQL.

use tokio_postgres::Row;

use super::super::rows::{provider_of, user_of};
use super::super::{StoreError, Token};
use super::PgStore;
use super::facts::Look;
use super::pipe::{Failed, Value, get, values};
use crate::pipeline::ids::{Timestamp, UserId};
use crate::pipeline::mapping::RuleSet;
use crate::ports::sessions::{AtProvider, Digest, LoggedOut, Logout, NewSession, Session, SessionView};

/// Ended sessions that one beginning clears away: more than it adds, so that the table shrinks under load.
const SWEPT: i64 = 4;

fn key_of(key: Digest) -> Value {
    Value::from(key.0)
}

pub(super) async fn begin(store: &PgStore, session: &NewSession) -> Result<bool, Failed> {
    let pipe = store.pipe().await?;
    pipe.all(&store.begin("BEGIN")).await?;
    if let Some(before) = session.replaces {
        pipe.run("DELETE FROM loginsync.sessions WHERE key = $1", &[key_of(before)]).await?;
    }
    // Locked: two beginnings at once would be one too many, and none may slip past a disabling.
    let user = pipe
        .row(
            "SELECT id FROM loginsync.users WHERE namespace = $1 AND subject = $2 AND NOT disabled FOR UPDATE",
            &values![session.user.namespace.as_str(), session.user.subject.as_str()],
        )
        .await?;
    let Some(user) = user else {
        pipe.run("COMMIT", &[]).await?;
        pipe.finish();
        return Ok(false);
    };
    let user: i64 = get(&user, 0)?;
    pipe.run(
        "DELETE FROM loginsync.sessions WHERE key IN
         (SELECT key FROM loginsync.sessions WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED)",
        &values![session.now.0, SWEPT],
    )
    .await?;
    let keep = i64::try_from(session.most.saturating_sub(1)).unwrap_or(i64::MAX);
    pipe.run(
        "DELETE FROM loginsync.sessions WHERE key IN
         (SELECT key FROM loginsync.sessions WHERE user_id = $1 ORDER BY created_at DESC OFFSET $2)",
        &values![user, keep],
    )
    .await?;
    let AtProvider { subject, session: sid, name_format, name_qualifier, sp_name_qualifier } = &session.at_provider;
    pipe.run(
        "INSERT INTO loginsync.sessions (key, user_id, provider, login, token, subject, sid, name_format, app_cookie,
                                         refresh, created_at, seen_at, synced_at, idle_until, expires_at,
                                         name_qualifier, sp_name_qualifier, hint)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11, $11, $12, $13, $14, $15, $16)",
        &values![
            session.key.0,
            user,
            session.provider.as_str(),
            session.login.as_str(),
            session.token.as_str(),
            subject.as_str(),
            sid.clone(),
            name_format.clone(),
            session.app_cookie.map(|digest| digest.0.to_vec()),
            session.refresh.clone(),
            session.now.0,
            session.idle_until.0,
            session.expires_at.0,
            name_qualifier.clone(),
            sp_name_qualifier.clone(),
            session.hint.clone(),
        ],
    )
    .await?;
    pipe.run("COMMIT", &[]).await?;
    pipe.finish();
    Ok(true)
}

pub(super) async fn find(look: &Look, key: Digest, rules: &RuleSet, now: Timestamp) -> Result<Option<Session>, Failed> {
    let row = look
        .pipe
        .row(
            "SELECT namespace, users.subject, email, display_name, provider, login, token, sessions.subject, sid,
                    name_format, app_cookie, refresh, seen_at, synced_at, idle_until, expires_at, name_qualifier,
                    sp_name_qualifier, hint
             FROM loginsync.sessions JOIN loginsync.users ON users.id = sessions.user_id
             WHERE key = $1 AND expires_at > $2 AND idle_until > $2 AND NOT disabled",
            &[key_of(key), Value::from(now.0)],
        )
        .await?;
    let Some(row) = row else { return Ok(None) };
    let mut session = read(&row, key)?;
    let Some(known) = look.user(&session.user).await? else { return Ok(None) };
    let effective = super::super::look::effective(&known.record, rules, now);
    session.groups = effective.groups.iter().map(ToString::to_string).collect();
    session.roles = effective.roles.iter().map(ToString::to_string).collect();
    Ok(Some(session))
}

/// A row, whose names were valid when written.
fn read(row: &Row, key: Digest) -> Result<Session, Failed> {
    Ok(Session {
        key,
        user: user_of(get(row, 0)?, get(row, 1)?)?,
        email: get(row, 2)?,
        display_name: get(row, 3)?,
        groups: Vec::new(),
        roles: Vec::new(),
        provider: provider_of(get(row, 4)?)?,
        login: get(row, 5)?,
        token: get(row, 6)?,
        at_provider: AtProvider {
            subject: get(row, 7)?,
            session: get(row, 8)?,
            name_format: get(row, 9)?,
            name_qualifier: get(row, 16)?,
            sp_name_qualifier: get(row, 17)?,
        },
        app_cookie: get::<Option<&[u8]>>(row, 10)?.and_then(|bytes| bytes.try_into().ok()).map(Digest),
        refresh: get(row, 11)?,
        hint: get(row, 18)?,
        seen_at: Timestamp(get(row, 12)?),
        synced_at: Timestamp(get(row, 13)?),
        idle_until: Timestamp(get(row, 14)?),
        expires_at: Timestamp(get(row, 15)?),
    })
}

/// One statement is a transaction of its own.
async fn one(store: &PgStore, text: &str, values: &[Value]) -> Result<u64, Failed> {
    let pipe = store.pipe().await?;
    let changed = pipe.run(text, values).await?;
    pipe.finish();
    Ok(changed)
}

pub(super) async fn extend(
    store: &PgStore,
    key: Digest,
    seen_at: Timestamp,
    idle_until: Timestamp,
) -> Result<(), Failed> {
    let text = "UPDATE loginsync.sessions SET seen_at = greatest(seen_at, $2), idle_until = greatest(idle_until, $3)
                WHERE key = $1";
    one(store, text, &values![key.0, seen_at.0, idle_until.0]).await.map(drop)
}

pub(super) async fn renewed(
    store: &PgStore,
    key: Digest,
    refresh: Option<Vec<u8>>,
    synced_at: Timestamp,
) -> Result<(), Failed> {
    let text = "UPDATE loginsync.sessions SET refresh = coalesce($2, refresh), synced_at = $3 WHERE key = $1";
    one(store, text, &values![key.0, refresh, synced_at.0]).await.map(drop)
}

pub(super) async fn renamed(store: &PgStore, key: Digest, at_provider: String) -> Result<(), Failed> {
    one(store, "UPDATE loginsync.sessions SET sid = $2 WHERE key = $1", &values![key.0, at_provider]).await.map(drop)
}

pub(super) async fn end(store: &PgStore, key: Digest) -> Result<bool, Failed> {
    Ok(one(store, "DELETE FROM loginsync.sessions WHERE key = $1", &[key_of(key)]).await? > 0)
}

/// OpenID Connect Back-Channel Logout 1.0 section 2.7, and SAML Profiles section 4.4.3.2: a session that is named, of the
/// person that is named; all of a person where no session is.
pub(super) async fn log_out(store: &PgStore, logout: &Logout) -> Result<LoggedOut, Failed> {
    let mut identity = b"logout\0".to_vec();
    identity.extend_from_slice(logout.issuer.as_bytes());
    identity.push(0);
    identity.extend_from_slice(logout.token.as_bytes());
    let token = Token { digest: Digest::of(&identity).0, until: logout.remember_until };
    let pipe = store.pipe().await?;
    pipe.all(&store.begin("BEGIN")).await?;
    let noted = pipe
        .run(
            "INSERT INTO loginsync.tokens (digest, until) VALUES ($1, $2) ON CONFLICT DO NOTHING",
            &values![token.digest, token.until.0],
        )
        .await?;
    let mut ended = 0;
    if noted > 0 {
        for provider in &logout.providers {
            // A session whose token named no `sid` may be the one that is meant, if the person is named.
            let mut values = values![provider.as_str(), logout.subject.clone(), logout.sessions.is_empty()];
            values.push(Value::Texts(logout.sessions.clone()));
            ended += pipe
                .run(
                    "DELETE FROM loginsync.sessions WHERE provider = $1
                     AND CASE WHEN $3 THEN subject = $2
                         ELSE (sid = ANY($4) AND ($2 IS NULL OR subject = $2)) OR (sid IS NULL AND subject = $2) END",
                    &values,
                )
                .await?;
        }
    }
    pipe.run("COMMIT", &[]).await?;
    pipe.finish();
    Ok(if noted > 0 { LoggedOut::Ended(ended) } else { LoggedOut::Replay })
}

pub(super) async fn list(store: &PgStore, user: &UserId) -> Result<Vec<SessionView>, Failed> {
    let pipe = store.pipe().await?;
    let rows = pipe
        .rows(
            "SELECT provider, sessions.created_at, seen_at, expires_at
             FROM loginsync.sessions JOIN loginsync.users ON users.id = sessions.user_id
             WHERE namespace = $1 AND users.subject = $2",
            &values![user.namespace.as_str(), user.subject.as_str()],
        )
        .await?;
    pipe.finish();
    let view = |row: &Row| {
        Ok(SessionView {
            provider: get(row, 0)?,
            created_at: Timestamp(get(row, 1)?),
            seen_at: Timestamp(get(row, 2)?),
            expires_at: Timestamp(get(row, 3)?),
        })
    };
    rows.iter().map(view).collect()
}

pub(super) async fn of_user(store: &PgStore, user: &UserId, now: Timestamp) -> Result<Vec<Digest>, Failed> {
    let pipe = store.pipe().await?;
    let rows = pipe
        .rows(
            "SELECT key FROM loginsync.sessions JOIN loginsync.users ON users.id = sessions.user_id
             WHERE namespace = $1 AND users.subject = $2 AND expires_at > $3 AND idle_until > $3 AND NOT disabled
             ORDER BY sessions.created_at DESC",
            &values![user.namespace.as_str(), user.subject.as_str(), now.0],
        )
        .await?;
    pipe.finish();
    let digest = |row: &Row| {
        let key: [u8; 32] = get::<&[u8]>(row, 0)?
            .try_into()
            .map_err(|_| StoreError::Invalid("a session has no digest of 32 bytes".into()))?;
        Ok(Digest(key))
    };
    rows.iter().map(digest).collect()
}
