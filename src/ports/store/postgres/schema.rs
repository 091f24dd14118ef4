//! The schema, made and brought up to date by one replica at a time.

use super::super::StoreError;
use super::pipe::{Failed, Pipe, get, values};
use super::{PgStore, locks};

pub(super) const VERSION: i64 = 6;
/// The oldest version whose loginsync may run on these tables: the others read and write all that was there before.
const OLDEST: i64 = 6;
const TABLES: &str = include_str!("schema.sql");
/// What later versions add, and which do.
const ADDED: [(i64, &str); 5] = [
    (2, include_str!("delivery.sql")),
    (3, include_str!("console.sql")),
    (4, include_str!("remote.sql")),
    (5, include_str!("events.sql")),
    (6, include_str!("replicas.sql")),
];
/// For queries by hand.
const VIEWS: &str = "loginsync.grants, loginsync.memberships, loginsync.logins";

pub(super) async fn bring_up_to_date(store: &PgStore) -> Result<(), StoreError> {
    let pipe = store.pipe().await?;
    // Most often nothing is to be done, and then nothing is locked.
    if !runs_on(&pipe, version(&pipe).await?).await? {
        make(&pipe).await.map_err(not_owner)?;
    }
    pipe.finish();
    Ok(())
}

/// Whether there is a schema of this version; another version is refused.
pub(super) async fn is_there(store: &PgStore) -> Result<bool, StoreError> {
    let pipe = store.pipe().await?;
    let version = version(&pipe).await?;
    let runs = runs_on(&pipe, version).await?;
    pipe.finish();
    match version {
        0 => Ok(false),
        _ if runs => Ok(true),
        other => Err(written_by_newer(other)),
    }
}

/// Whether this loginsync runs on tables of a version as they are: those of its own, and of a later one that only adds.
async fn runs_on(pipe: &Pipe, version: i64) -> Result<bool, Failed> {
    Ok(version == VERSION
        || version > VERSION && pipe.number("SELECT oldest FROM loginsync.schema", &[]).await? <= VERSION)
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

/// A role that only runs may not migrate.
fn not_owner(failed: Failed) -> Failed {
    match failed {
        Failed::Store(StoreError::Unavailable(why)) if why.contains(" 42501") => {
            Failed::Store(StoreError::Invalid(format!(
                "the tables are not of schema version {VERSION}, and this role may not change them: run `loginsync db migrate` as \
                 the role that owns them"
            )))
        }
        other => other,
    }
}

/// Lets a role do what a sidecar does.
pub(super) async fn grant(pipe: &Pipe, role: &str) -> Result<(), Failed> {
    // A statement takes a role by its name, and not as a parameter.
    let role = format!("\"{}\"", role.replace('"', "\"\""));
    pipe.run("BEGIN", &[]).await?;
    for text in [
        format!("GRANT USAGE ON SCHEMA loginsync TO {role}"),
        format!("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA loginsync TO {role}"),
        format!("REVOKE UPDATE, DELETE ON loginsync.audit, loginsync.seals FROM {role}"),
        format!("REVOKE INSERT, UPDATE, DELETE ON loginsync.schema, {VIEWS} FROM {role}"),
        format!("GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA loginsync TO {role}"),
    ] {
        pipe.run(&text, &[]).await?;
    }
    pipe.run("COMMIT", &[]).await?;
    Ok(())
}

/// In which cluster the database is: a dump that is restored brings another's.
pub(super) const NOTE_CLUSTER: &str = "INSERT INTO loginsync.settings (name, value)
    SELECT 'cluster', convert_to(system_identifier::text, 'UTF8') FROM pg_control_system()
    ON CONFLICT (name) DO UPDATE SET value = excluded.value";

/// Refuses a database that was restored into another cluster: what was spent, ended and revoked since its dump is open again in it,
/// and the rows of its audit count the transactions of the old one.
pub(super) async fn refuse_restored(pipe: &Pipe, place: &str) -> Result<(), Failed> {
    let other = "SELECT count(*) FROM loginsync.settings, pg_control_system()
                 WHERE name = 'cluster' AND value <> convert_to(system_identifier::text, 'UTF8')";
    match pipe.number(other, &[]).await? {
        0 => Ok(()),
        _ => Err(Failed::Store(StoreError::Invalid(format!(
            "`{place}` was restored from the dump of another server: run `loginsync db restored` once, which ends its sessions and \
             refuses the tokens of before"
        )))),
    }
}

/// Gives the tables that were added to the roles that have those of version 1.
const SAME_ROLES: &str =
    "SELECT format('GRANT SELECT, INSERT, UPDATE, DELETE ON loginsync.followed, loginsync.delivered, loginsync.console, loginsync.remote,
        loginsync.events TO %I', grantee)
    FROM information_schema.role_table_grants
    WHERE table_schema = 'loginsync' AND table_name = 'users' AND privilege_type = 'UPDATE' AND grantee <> current_user
      AND grantee <> 'PUBLIC'";

async fn run(pipe: &Pipe, statements: &str) -> Result<(), Failed> {
    let lines: Vec<&str> = statements.lines().filter(|line| !line.trim_start().starts_with("--")).collect();
    for statement in lines.join("\n").split(';').filter(|text| !text.trim().is_empty()) {
        pipe.run(statement, &[]).await?;
    }
    Ok(())
}

async fn make(pipe: &Pipe) -> Result<(), Failed> {
    pipe.run("BEGIN", &[]).await?;
    pipe.row("SELECT pg_advisory_xact_lock($1)", &values![locks::SCHEMA]).await?;
    match version(pipe).await? {
        0 => {
            pipe.run("CREATE SCHEMA IF NOT EXISTS loginsync", &[]).await?;
            run(pipe, TABLES).await?;
            for (_, added) in ADDED {
                run(pipe, added).await?;
            }
            let made = "INSERT INTO loginsync.schema (version, oldest) VALUES ($1, $2)";
            pipe.run(made, &values![VERSION, OLDEST]).await?;
            pipe.run(NOTE_CLUSTER, &[]).await?;
        }
        VERSION => {}
        found @ 1..VERSION => {
            for (_, added) in ADDED.iter().filter(|(version, _)| *version > found) {
                run(pipe, added).await?;
            }
            // Roles that may change users run as sidecars.
            for row in pipe.rows(SAME_ROLES, &[]).await? {
                pipe.run(get(&row, 0)?, &[]).await?;
            }
            pipe.run("UPDATE loginsync.schema SET version = $1, oldest = $2", &values![VERSION, OLDEST]).await?;
        }
        newer if runs_on(pipe, newer).await? => {}
        newer => return Err(Failed::Store(written_by_newer(newer))),
    }
    pipe.run("COMMIT", &[]).await?;
    Ok(())
}
