//! The schema of the database, and what brings an older file up to date.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::super::StoreError;
use super::super::chain::Sealer;
use super::file::Claim;
use super::{cannot_open, migrate, unavailable};

/// The schema that this program writes. A database of a later one is refused.
pub(super) const VERSION: i64 = 12;
/// The first version with records. What came later stands beside it, and is added in place.
pub(super) const RECORDS: i64 = 9;
/// Its tables.
pub(super) const TABLES: &str = include_str!("schema/current.sql");
/// What later versions add, and which do.
pub(super) const ADDED: [(i64, &str); 3] = [
    (10, include_str!("schema/10-delivery.sql")),
    (11, include_str!("schema/11-console.sql")),
    (12, include_str!("schema/12-remote.sql")),
];
/// What stands on the tables, once they are filled.
pub(super) const VIEWS: &str = include_str!("schema/views.sql");
/// How long a command waits for another process that is bringing the database up to date: what is large takes a while.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long for one that holds the claim and does nothing of the kind.
const BRIEFLY: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(20);

pub(super) fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

pub(super) fn written_by_newer(version: i64) -> StoreError {
    StoreError::Invalid(format!(
        "the database has schema version {version}, written by a newer loginsync; this one knows {VERSION}"
    ))
}

/// Refuses a file of another schema, which something else has to bring up to date.
pub(super) fn expect_current(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    match version(connection).map_err(|error| cannot_open(path, &error))? {
        VERSION => Ok(()),
        newer if newer > VERSION => Err(written_by_newer(newer)),
        older => Err(StoreError::Invalid(format!(
            "`{}` has schema version {older}, this loginsync needs {VERSION}: run `loginsync db migrate` first",
            path.display()
        ))),
    }
}

/// The version of a file that is open no longer than that takes: the process that migrates it needs it alone.
pub(super) fn version_of(path: &Path) -> Result<i64, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let look = || -> rusqlite::Result<i64> { version(&Connection::open_with_flags(path, flags)?) };
    let (patience, brief) = (Instant::now() + PATIENCE, Instant::now() + BRIEFLY);
    loop {
        match look() {
            Err(error) if is_busy(&error) && Instant::now() < patience => std::thread::sleep(PAUSE),
            Err(error) if is_passing(&error) && Instant::now() < brief => std::thread::sleep(PAUSE),
            found => return found.map_err(|error| cannot_open(path, &error)),
        }
    }
}

/// Creates the schema, or brings it up to date, whatever other processes do with the file meanwhile. Only the process with the
/// claim does so, for a `serve` of an older version may be running; others take the claim for as long as it takes.
pub(super) fn bring_up_to_date(path: &Path, claimed: bool, sealer: &Sealer) -> Result<(), StoreError> {
    let deadline = Instant::now() + BRIEFLY;
    loop {
        match version_of(path)? {
            VERSION if claimed => return migrate::tidy(path),
            VERSION => return Ok(()),
            newer if newer > VERSION => return Err(written_by_newer(newer)),
            older if claimed => return renew(path, older, sealer),
            older => match Claim::take(path)? {
                // Another process may have been faster.
                Some(_claim) => match version_of(path)? {
                    older if older < VERSION => return renew(path, older, sealer),
                    _ => {}
                },
                None if Instant::now() > deadline && !migrate::is_under_way(path) => {
                    return Err(held_back(path, older));
                }
                None if Instant::now() > deadline + PATIENCE => return Err(held_back(path, older)),
                None => std::thread::sleep(PAUSE),
            },
        }
    }
}

fn renew(path: &Path, older: i64, sealer: &Sealer) -> Result<(), StoreError> {
    match older {
        0 => create(path),
        RECORDS.. => extend(path),
        older => migrate::migrate(path, older, sealer),
    }
}

/// Makes the schema in an empty file.
fn create(path: &Path) -> Result<(), StoreError> {
    in_one_transaction(path, make)
}

/// Adds what later versions have beside the tables of [`RECORDS`].
fn extend(path: &Path) -> Result<(), StoreError> {
    in_one_transaction(path, |connection| {
        // Another process may have been faster, and then nothing is left.
        let found = version(connection)?;
        for (_, added) in ADDED.iter().filter(|(version, _)| *version > found) {
            connection.execute_batch(added)?;
        }
        connection.pragma_update(None, "user_version", VERSION)
    })
}

fn in_one_transaction(path: &Path, work: impl FnOnce(&Connection) -> rusqlite::Result<()>) -> Result<(), StoreError> {
    let connection = Connection::open(path).map_err(|error| cannot_open(path, &error))?;
    patiently(|| connection.pragma_update(None, "journal_mode", "WAL")).map_err(|error| cannot_open(path, &error))?;
    patiently(|| connection.execute_batch("BEGIN IMMEDIATE")).map_err(unavailable)?;
    let outcome = work(&connection).and_then(|()| connection.execute_batch("COMMIT")).map_err(unavailable);
    if outcome.is_err() {
        // SQLite may have ended the transaction by itself.
        let _ = connection.execute_batch("ROLLBACK");
    }
    outcome
}

/// Runs the whole schema where there is none: another process may have been faster.
fn make(connection: &Connection) -> rusqlite::Result<()> {
    if version(connection)? == VERSION {
        return Ok(());
    }
    connection.execute_batch(TABLES)?;
    finish(connection)
}

/// What comes behind the tables.
pub(super) fn finish(connection: &Connection) -> rusqlite::Result<()> {
    for (_, added) in ADDED {
        connection.execute_batch(added)?;
    }
    connection.execute_batch(VIEWS)?;
    connection.pragma_update(None, "user_version", VERSION)
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

/// The same where another process may be putting a new file in place of this one: what belongs to the old one is gone then.
fn is_passing(error: &rusqlite::Error) -> bool {
    is_busy(error) || matches!(error.sqlite_error_code(), Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen))
}

fn held_back(path: &Path, version: i64) -> StoreError {
    StoreError::Invalid(format!(
        "`{0}` has schema version {version}, this loginsync needs {VERSION}, and a running `loginsync serve` of an older version \
         holds `{0}.lock`: stop it before you use this version on its database",
        path.display()
    ))
}
