//! Who may call the mapping APIs, in SQLite: hashes alone.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::super::StoreError;
use super::super::rows::{ClientDetail, MOST_TOKENS, words};
use super::{Session, audit, unavailable};
use crate::pipeline::ids::Timestamp;
use crate::ports::catalogue::{AccessToken, ApiClient, ClientView};
use crate::ports::sessions::Digest;

pub(super) fn client(connection: &Connection, secret: Digest) -> Result<Option<ApiClient>, StoreError> {
    let found = connection
        .prepare_cached("SELECT name, scopes, faces FROM api_clients WHERE secret = ?1 AND revoked_at IS NULL")
        .and_then(|mut select| {
            let read = |row: &Row<'_>| Ok((row.get(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?));
            select.query_row(params![secret.0], read).optional()
        })
        .map_err(unavailable)?;
    let Some((name, scopes, faces)) = found else { return Ok(None) };
    Ok(Some(ApiClient { name, secret, scopes: words(&scopes)?, faces: words(&faces)? }))
}

pub(super) fn all(connection: &Connection) -> Result<Vec<ClientView>, StoreError> {
    let mut select = connection
        .prepare_cached("SELECT name, scopes, faces, created_at, created_by, revoked_at FROM api_clients ORDER BY name")
        .map_err(unavailable)?;
    let mut rows = select.query([]).map_err(unavailable)?;
    let mut clients = Vec::new();
    while let Some(row) = rows.next().map_err(unavailable)? {
        let text = |at| row.get::<_, String>(at).map_err(unavailable);
        let moment = |at| row.get::<_, Option<i64>>(at).map_err(unavailable);
        clients.push(ClientView {
            name: text(0)?,
            scopes: words(&text(1)?)?,
            faces: words(&text(2)?)?,
            created_at: Timestamp(moment(3)?.unwrap_or_default()).to_string(),
            created_by: text(4)?,
            revoked_at: moment(5)?.map(|at| Timestamp(at).to_string()),
        });
    }
    Ok(clients)
}

pub(super) fn add(session: &mut Session<'_>, client: &ApiClient, by: &str, now: Timestamp) -> Result<(), StoreError> {
    let ApiClient { name, secret, scopes, faces } = client;
    let json = |error: serde_json::Error| StoreError::Invalid(error.to_string());
    let added = session
        .connection
        .prepare_cached(
            "INSERT INTO api_clients (name, secret, scopes, faces, created_at, created_by)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING",
        )
        .and_then(|mut insert| {
            let (scopes, faces) = (serde_json::to_string(scopes), serde_json::to_string(faces));
            let to_sql = |error: serde_json::Error| rusqlite::Error::ToSqlConversionFailure(Box::new(error));
            let (scopes, faces) = (scopes.map_err(to_sql)?, faces.map_err(to_sql)?);
            insert.execute(params![name, secret.0, scopes, faces, now.0, by])
        })
        .map_err(unavailable)?;
    if added == 0 {
        let message =
            format!("there is or was a client `{name}`; expected another name, so that the audit stays clear");
        return Err(StoreError::Invalid(message));
    }
    let detail = ClientDetail { by, client: name, scopes: Some(scopes), faces: Some(faces) };
    let detail = serde_json::to_string(&detail).map_err(json)?;
    audit::append(session, now, "client_created", &detail, &audit::About::default())
}

pub(super) fn revoke(session: &mut Session<'_>, name: &str, by: &str, now: Timestamp) -> Result<(), StoreError> {
    let connection = session.connection;
    let secret = connection
        .prepare_cached("SELECT secret FROM api_clients WHERE name = ?1 AND revoked_at IS NULL")
        .and_then(|mut select| select.query_row(params![name], |row| row.get::<_, Vec<u8>>(0)).optional())
        .map_err(unavailable)?;
    let Some(secret) = secret else {
        return Err(StoreError::Invalid(format!("there is no client `{name}` in the store that is not revoked")));
    };
    connection
        .prepare_cached("DELETE FROM api_tokens WHERE client = ?1")
        .and_then(|mut delete| delete.execute(params![secret]))
        .map_err(unavailable)?;
    connection
        .prepare_cached("UPDATE api_clients SET revoked_at = ?2 WHERE name = ?1")
        .and_then(|mut update| update.execute(params![name, now.0]))
        .map_err(unavailable)?;
    let detail = ClientDetail { by, client: name, scopes: None, faces: None };
    let detail = serde_json::to_string(&detail).map_err(|error| StoreError::Invalid(error.to_string()))?;
    audit::append(session, now, "client_revoked", &detail, &audit::About::default())
}

// ------------------------------------------------------------------------------------------------------------- tokens

pub(super) fn add_token(
    session: &Session<'_>,
    token: &AccessToken,
    replaces: Option<Digest>,
) -> Result<bool, StoreError> {
    let run = |statement: &str, values: &[&dyn rusqlite::ToSql]| {
        session
            .connection
            .prepare_cached(statement)
            .and_then(|mut prepared| prepared.execute(values))
            .map_err(unavailable)
    };
    if let Some(refresh) = replaces
        && run("DELETE FROM api_tokens WHERE refresh = ?1 AND client = ?2", &[&refresh.0, &token.client.0])? == 0
    {
        return Ok(false);
    }
    run("DELETE FROM api_tokens WHERE expires_at <= ?1 AND refresh IS NULL", &[&token.created_at.0])?;
    run(
        "DELETE FROM api_tokens WHERE digest IN
         (SELECT digest FROM api_tokens WHERE client = ?1 ORDER BY created_at DESC LIMIT -1 OFFSET ?2)",
        &[&token.client.0, &(MOST_TOKENS - 1)],
    )?;
    run(
        "INSERT INTO api_tokens (digest, refresh, client, created_at, expires_at) VALUES (?1, ?2, ?3, ?4, ?5)",
        &[
            &token.token.0,
            &token.refresh.map(|refresh| refresh.0),
            &token.client.0,
            &token.created_at.0,
            &token.expires_at.0,
        ],
    )?;
    Ok(true)
}

const TOKEN: &str = "SELECT digest, refresh, client, created_at, expires_at FROM api_tokens";

pub(super) fn token(connection: &Connection, token: Digest, now: Timestamp) -> Result<Option<AccessToken>, StoreError> {
    connection
        .prepare_cached(&format!("{TOKEN} WHERE digest = ?1 AND expires_at > ?2"))
        .and_then(|mut select| select.query_row(params![token.0, now.0], read).optional())
        .map_err(unavailable)
}

pub(super) fn refreshed(connection: &Connection, refresh: Digest) -> Result<Option<AccessToken>, StoreError> {
    connection
        .prepare_cached(&format!("{TOKEN} WHERE refresh = ?1"))
        .and_then(|mut select| select.query_row(params![refresh.0], read).optional())
        .map_err(unavailable)
}

fn read(row: &Row<'_>) -> rusqlite::Result<AccessToken> {
    Ok(AccessToken {
        token: Digest(row.get(0)?),
        refresh: row.get::<_, Option<[u8; 32]>>(1)?.map(Digest),
        client: Digest(row.get(2)?),
        created_at: Timestamp(row.get(3)?),
        expires_at: Timestamp(row.get(4)?),
    })
}

pub(super) fn end_token(session: &Session<'_>, token: Digest, client: Digest) -> Result<bool, StoreError> {
    let ended = session
        .connection
        .prepare_cached("DELETE FROM api_tokens WHERE digest = ?1 AND client = ?2")
        .and_then(|mut delete| delete.execute(params![token.0, client.0]))
        .map_err(unavailable)?;
    Ok(ended > 0)
}
