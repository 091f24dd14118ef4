//! The schema, made and brought up to date by one replica at a time.

use super::super::StoreError;
use super::pipe::{Failed, Pipe, get, values};
use super::{PgStore, locks};

pub(super) const VERSION: i64 = 1;
const TABLES: &str = include_str!("schema.sql");

pub(super) async fn bring_up_to_date(store: &PgStore) -> Result<(), StoreError> {
    let pipe = store.pipe().await?;
    // Most often nothing is to be done, and then nothing is locked.
    if version(&pipe).await? != VERSION {
        make(&pipe).await?;
    }
    pipe.finish();
    Ok(())
}

/// Whether there is a schema of this version; another version is refused.
pub(super) async fn is_there(store: &PgStore) -> Result<bool, StoreError> {
    let pipe = store.pipe().await?;
    let version = version(&pipe).await?;
    pipe.finish();
    match version {
        0 => Ok(false),
        VERSION => Ok(true),
        other => Err(written_by_newer(other)),
    }
}

/// The version of the schema; 0 where there is none.
pub(super) async fn version(pipe: &Pipe) -> Result<i64, Failed> {
    let there = pipe.row("SELECT to_regclass('loginsync.schema') IS NOT NULL", &[]).await?;
    match there.map_or(Ok(false), |row| get(&row, 0))? {
        true => pipe.number("SELECT version FROM loginsync.schema", &[]).await,
        false => Ok(0),
    }
}

pub(super) fn written_by_newer(version: i64) -> StoreError {
    StoreError::Invalid(format!(
        "the database has schema version {version}, this loginsync knows {VERSION}: use the version that wrote it, or a newer one"
    ))
}

async fn make(pipe: &Pipe) -> Result<(), Failed> {
    pipe.run("BEGIN", &[]).await?;
    pipe.row("SELECT pg_advisory_xact_lock($1)", &values![locks::SCHEMA]).await?;
    match version(pipe).await? {
        0 => {
            pipe.run("CREATE SCHEMA IF NOT EXISTS loginsync", &[]).await?;
            let tables: Vec<&str> = TABLES.lines().filter(|line| !line.trim_start().starts_with("--")).collect();
            for statement in tables.join("\n").split(';').filter(|text| !text.trim().is_empty()) {
                pipe.run(statement, &[]).await?;
            }
            pipe.run("INSERT INTO loginsync.schema (version) VALUES ($1)", &values![VERSION]).await?;
        }
        VERSION => {}
        newer => return Err(Failed::Store(written_by_newer(newer))),
    }
    pipe.run("COMMIT", &[]).await?;
    Ok(())
}
