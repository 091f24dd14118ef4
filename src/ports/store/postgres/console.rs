//! Sessions of the console in PostgreSQL.

use tokio_postgres::Row;

use super::super::StoreError;
use super::super::rows::{json, operator_of};
use super::PgStore;
use super::pipe::{Failed, Statement, Value, get, values};
use crate::pipeline::ids::Timestamp;
use crate::ports::console::{MOST, SignIn};
use crate::ports::sessions::Digest;

const COLUMNS: &str = "digest, link, operator, created_at, idle_until, expires_at";

pub(super) async fn add(store: &PgStore, sign_in: &SignIn) -> Result<(), Failed> {
    let SignIn { key, is_link, operator, created_at, idle_until, expires_at } = sign_in;
    let statement = |text: &str, values: Vec<Value>| Statement { text: text.to_owned().into(), values };
    let statements = vec![
        statement("DELETE FROM loginsync.console WHERE least(idle_until, expires_at) <= $1", values![created_at.0]),
        statement(
            "DELETE FROM loginsync.console WHERE digest IN
             (SELECT digest FROM loginsync.console ORDER BY expires_at DESC OFFSET $1)",
            values![MOST - 1],
        ),
        statement(
            "INSERT INTO loginsync.console (digest, link, operator, created_at, idle_until, expires_at)
             VALUES ($1, $2, $3, $4, $5, $6)",
            values![key.0, i64::from(*is_link), json(operator)?, created_at.0, idle_until.0, expires_at.0],
        ),
    ];
    store.write(statements).await
}

async fn one(store: &PgStore, text: &str, values: &[Value]) -> Result<Option<SignIn>, Failed> {
    let pipe = store.pipe().await?;
    let row = pipe.row(text, values).await?;
    pipe.finish();
    row.map(|row| read(&row)).transpose()
}

pub(super) async fn spend(store: &PgStore, link: Digest, now: Timestamp) -> Result<Option<SignIn>, Failed> {
    // One of two that come at once finds it.
    let text = format!("DELETE FROM loginsync.console WHERE digest = $1 AND link = 1 RETURNING {COLUMNS}");
    Ok(one(store, &text, &values![link.0]).await?.filter(|sign_in| sign_in.is_live(now)))
}

pub(super) async fn session(store: &PgStore, key: Digest, now: Timestamp) -> Result<Option<SignIn>, Failed> {
    let text = format!("SELECT {COLUMNS} FROM loginsync.console WHERE digest = $1 AND link = 0");
    Ok(one(store, &text, &values![key.0]).await?.filter(|sign_in| sign_in.is_live(now)))
}

fn read(row: &Row) -> Result<SignIn, Failed> {
    let digest = get::<&[u8]>(row, 0)?.try_into();
    let digest =
        digest.map_err(|_| StoreError::Invalid("a session of the console has no digest of 32 bytes".into()))?;
    Ok(SignIn {
        key: Digest(digest),
        is_link: get::<i64>(row, 1)? != 0,
        operator: operator_of(get(row, 2)?)?,
        created_at: Timestamp(get(row, 3)?),
        idle_until: Timestamp(get(row, 4)?),
        expires_at: Timestamp(get(row, 5)?),
    })
}

pub(super) async fn extend(store: &PgStore, key: Digest, idle_until: Timestamp) -> Result<(), Failed> {
    let text = "UPDATE loginsync.console SET idle_until = greatest(idle_until, $2) WHERE digest = $1 AND link = 0";
    store.write(vec![Statement { text: text.into(), values: values![key.0, idle_until.0] }]).await
}

pub(super) async fn end(store: &PgStore, key: Option<Digest>) -> Result<u64, Failed> {
    let pipe = store.pipe().await?;
    let ended = match key {
        Some(key) => pipe.run("DELETE FROM loginsync.console WHERE digest = $1", &values![key.0]).await?,
        None => pipe.run("DELETE FROM loginsync.console", &[]).await?,
    };
    pipe.finish();
    Ok(ended)
}

pub(super) async fn list(store: &PgStore, now: Timestamp) -> Result<Vec<SignIn>, Failed> {
    let pipe = store.pipe().await?;
    let text = format!(
        "SELECT {COLUMNS} FROM loginsync.console WHERE least(idle_until, expires_at) > $1 ORDER BY created_at DESC, digest"
    );
    let rows = pipe.rows(&text, &values![now.0]).await?;
    pipe.finish();
    rows.iter().map(read).collect()
}
