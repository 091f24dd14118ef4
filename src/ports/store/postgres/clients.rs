//! Who may call the mapping APIs, in PostgreSQL: hashes alone.

use serde::Serialize;
use tokio_postgres::Row;

use super::super::StoreError;
use super::super::rows::{ClientDetail, MOST_TOKENS, words};
use super::pipe::{Failed, Statement, Value, get, values};
use super::{PgStore, audit};
use crate::pipeline::ids::Timestamp;
use crate::ports::catalogue::{AccessToken, ApiClient, ClientView};
use crate::ports::sessions::Digest;

async fn one(store: &PgStore, text: &str, values: &[Value]) -> Result<Option<Row>, Failed> {
    let pipe = store.pipe().await?;
    let row = pipe.row(text, values).await?;
    pipe.finish();
    Ok(row)
}

fn json(value: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Invalid(error.to_string()))
}

fn digest(row: &Row, at: usize) -> Result<Option<Digest>, Failed> {
    Ok(get::<Option<&[u8]>>(row, at)?.and_then(|bytes| bytes.try_into().ok()).map(Digest))
}

pub(super) async fn client(store: &PgStore, secret: Digest) -> Result<Option<ApiClient>, Failed> {
    let of = "SELECT name, scopes, faces FROM loginsync.api_clients WHERE secret = $1 AND revoked_at IS NULL";
    let Some(row) = one(store, of, &values![secret.0]).await? else { return Ok(None) };
    let (scopes, faces) = (words(get(&row, 1)?)?, words(get(&row, 2)?)?);
    Ok(Some(ApiClient { name: get(&row, 0)?, secret, scopes, faces }))
}

pub(super) async fn all(store: &PgStore) -> Result<Vec<ClientView>, Failed> {
    let pipe = store.pipe().await?;
    let of = "SELECT name, scopes, faces, created_at, created_by, revoked_at FROM loginsync.api_clients ORDER BY name";
    let rows = pipe.rows(of, &[]).await?;
    pipe.finish();
    let view = |row: &Row| {
        Ok(ClientView {
            name: get(row, 0)?,
            scopes: words(get(row, 1)?)?,
            faces: words(get(row, 2)?)?,
            created_at: Timestamp(get(row, 3)?).to_string(),
            created_by: get(row, 4)?,
            revoked_at: get::<Option<i64>>(row, 5)?.map(|at| Timestamp(at).to_string()),
        })
    };
    rows.iter().map(view).collect()
}

fn told(store: &PgStore, event: &str, detail: &ClientDetail<'_>, at: Timestamp) -> Result<Vec<Statement>, StoreError> {
    let row = audit::NewRow { at, event: event.into(), detail: json(detail)?, login: None, user: None, person: None };
    audit::append(&store.sealer, &[row])
}

pub(super) async fn add(store: &PgStore, client: &ApiClient, by: &str, now: Timestamp) -> Result<(), Failed> {
    let ApiClient { name, secret, scopes, faces } = client;
    let mut statements = vec![Statement {
        text: "INSERT INTO loginsync.api_clients (name, secret, scopes, faces, created_at, created_by)
               VALUES ($1, $2, $3, $4, $5, $6)"
            .into(),
        values: values![name.as_str(), secret.0, json(scopes)?, json(faces)?, now.0, by],
    }];
    let detail = ClientDetail { by, client: name, scopes: Some(scopes), faces: Some(faces) };
    statements.extend(told(store, "client_created", &detail, now)?);
    match store.write(statements).await {
        // Its name, or its secret, is there already.
        Err(Failed::Lost) => Err(Failed::Store(StoreError::Invalid(format!(
            "there is or was a client `{name}`; expected another name, so that the audit stays clear"
        )))),
        done => done,
    }
}

pub(super) async fn revoke(store: &PgStore, name: &str, by: &str, now: Timestamp) -> Result<(), Failed> {
    let of = "SELECT secret FROM loginsync.api_clients WHERE name = $1 AND revoked_at IS NULL";
    let Some(row) = one(store, of, &values![name]).await? else {
        return Err(Failed::Store(StoreError::Invalid(format!(
            "there is no client `{name}` in the store that is not revoked"
        ))));
    };
    let secret: Vec<u8> = get(&row, 0)?;
    let mut statements = vec![
        Statement {
            text: "UPDATE loginsync.api_clients SET revoked_at = $2 WHERE name = $1 AND revoked_at IS NULL".into(),
            values: values![name, now.0],
        },
        Statement { text: "DELETE FROM loginsync.api_tokens WHERE client = $1".into(), values: values![secret] },
    ];
    let detail = ClientDetail { by, client: name, scopes: None, faces: None };
    statements.extend(told(store, "client_revoked", &detail, now)?);
    store.write(statements).await
}

// ------------------------------------------------------------------------------------------------------------- tokens

pub(super) async fn add_token(store: &PgStore, token: &AccessToken, replaces: Option<Digest>) -> Result<bool, Failed> {
    let pipe = store.pipe().await?;
    pipe.all(&store.begin("BEGIN")).await?;
    if let Some(refresh) = replaces {
        let of = "DELETE FROM loginsync.api_tokens WHERE refresh = $1 AND client = $2";
        if pipe.run(of, &values![refresh.0, token.client.0]).await? == 0 {
            pipe.run("COMMIT", &[]).await?;
            pipe.finish();
            return Ok(false);
        }
    }
    pipe.run(
        "DELETE FROM loginsync.api_tokens WHERE expires_at <= $1 AND refresh IS NULL",
        &values![token.created_at.0],
    )
    .await?;
    pipe.run(
        "DELETE FROM loginsync.api_tokens WHERE digest IN
         (SELECT digest FROM loginsync.api_tokens WHERE client = $1 ORDER BY created_at DESC OFFSET $2)",
        &values![token.client.0, MOST_TOKENS - 1],
    )
    .await?;
    pipe.run(
        "INSERT INTO loginsync.api_tokens (digest, refresh, client, created_at, expires_at) VALUES ($1, $2, $3, $4, $5)",
        &values![
            token.token.0,
            token.refresh.map(|refresh| refresh.0.to_vec()),
            token.client.0,
            token.created_at.0,
            token.expires_at.0,
        ],
    )
    .await?;
    pipe.run("COMMIT", &[]).await?;
    pipe.finish();
    Ok(true)
}

const TOKEN: &str = "SELECT digest, refresh, client, created_at, expires_at FROM loginsync.api_tokens";

pub(super) async fn token(store: &PgStore, token: Digest, now: Timestamp) -> Result<Option<AccessToken>, Failed> {
    let text = format!("{TOKEN} WHERE digest = $1 AND expires_at > $2");
    one(store, &text, &values![token.0, now.0]).await?.map(|row| read(&row)).transpose()
}

pub(super) async fn refreshed(store: &PgStore, refresh: Digest) -> Result<Option<AccessToken>, Failed> {
    let text = format!("{TOKEN} WHERE refresh = $1");
    one(store, &text, &values![refresh.0]).await?.map(|row| read(&row)).transpose()
}

fn read(row: &Row) -> Result<AccessToken, Failed> {
    let missing = || StoreError::Invalid("an access token has no digest of 32 bytes".into());
    Ok(AccessToken {
        token: digest(row, 0)?.ok_or_else(missing)?,
        refresh: digest(row, 1)?,
        client: digest(row, 2)?.ok_or_else(missing)?,
        created_at: Timestamp(get(row, 3)?),
        expires_at: Timestamp(get(row, 4)?),
    })
}

pub(super) async fn end_token(store: &PgStore, token: Digest, client: Digest) -> Result<bool, Failed> {
    let of = "DELETE FROM loginsync.api_tokens WHERE digest = $1 AND client = $2 RETURNING 1";
    Ok(one(store, of, &values![token.0, client.0]).await?.is_some())
}
