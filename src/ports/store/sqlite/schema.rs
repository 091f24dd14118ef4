//! The schema of the database, and what brings an older file up to date.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode};

use super::super::StoreError;
use super::audit::{self, Sealer};
use super::file::Claim;
use super::unavailable;
use crate::clock::Clock;

/// The schema that this program writes. A database of a later one is refused.
pub(super) const VERSION: i64 = 8;
/// What brings a database from each version to the next, the first from nothing.
const SCRIPTS: [&str; 8] = [
    include_str!("schema/1-logins.sql"),
    include_str!("schema/2-rules.sql"),
    include_str!("schema/3-sessions.sql"),
    include_str!("schema/4-catalogue.sql"),
    include_str!("schema/5-audit.sql"),
    include_str!("schema/6-privilege.sql"),
    include_str!("schema/7-brake.sql"),
    include_str!("schema/8-sign-out.sql"),
];
/// The first version with the second format of audit rows.
const SECOND_FORMAT: i64 = 5;
/// How long a command waits for another process that is bringing the database up to date.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(20);

pub(super) fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

pub(super) fn written_by_newer(version: i64) -> StoreError {
    StoreError::Invalid(format!(
        "the database has schema version {version}, written by a newer loginsync; this one knows {VERSION}"
    ))
}

/// Creates the schema, or brings it up to date, whatever other processes do with the file meanwhile. Only the process with the
/// claim does so, for a `serve` of an older version may be running; others take the claim for as long as it takes.
pub(super) fn bring_up_to_date(
    connection: &Connection,
    path: &Path,
    claimed: bool,
    sealer: &Sealer,
) -> Result<(), StoreError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match version(connection).map_err(unavailable)? {
            VERSION => return Ok(()),
            newer if newer > VERSION => return Err(written_by_newer(newer)),
            _ if claimed => return migrate(connection, sealer),
            older => match Claim::take(path)? {
                Some(_claim) => return migrate(connection, sealer),
                None if Instant::now() > deadline => return Err(held_back(path, older)),
                None => std::thread::sleep(PAUSE),
            },
        }
    }
}

/// Runs all the scripts that the database lacks in one transaction. Its version is read inside: another process may have been
/// faster.
fn migrate(connection: &Connection, sealer: &Sealer) -> Result<(), StoreError> {
    patiently(|| connection.pragma_update(None, "journal_mode", "WAL")).map_err(unavailable)?;
    connection.execute_batch("BEGIN IMMEDIATE").map_err(unavailable)?;
    let outcome =
        run_scripts(connection, sealer).and_then(|()| connection.execute_batch("COMMIT").map_err(unavailable));
    if outcome.is_err() {
        // SQLite may have ended the transaction by itself.
        let _ = connection.execute_batch("ROLLBACK");
    }
    outcome
}

fn run_scripts(connection: &Connection, sealer: &Sealer) -> Result<(), StoreError> {
    let found = version(connection).map_err(unavailable)?;
    if found > VERSION {
        return Err(written_by_newer(found));
    }
    for (_, script) in (1..).zip(SCRIPTS).filter(|(number, _)| *number > found) {
        connection.execute_batch(script).map_err(unavailable)?;
    }
    if found < SECOND_FORMAT {
        audit::continue_first_format(connection, sealer, Clock::system().now())?;
    }
    connection.pragma_update(None, "user_version", VERSION).map_err(unavailable)
}

/// Repeats what SQLite refuses at once while another process has the file, though a wait was asked for: it does so where waiting
/// could be a deadlock.
pub(super) fn patiently(mut work: impl FnMut() -> rusqlite::Result<()>) -> rusqlite::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match work() {
            Err(error) if is_busy(&error) && Instant::now() < deadline => std::thread::sleep(PAUSE),
            outcome => return outcome,
        }
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

fn held_back(path: &Path, version: i64) -> StoreError {
    StoreError::Invalid(format!(
        "`{0}` has schema version {version}, this loginsync needs {VERSION}, and a running `loginsync serve` of an older version \
         holds `{0}.lock`: stop it before you use this version on its database",
        path.display()
    ))
}
