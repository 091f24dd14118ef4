//! The schema of the database, and its version in a file.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::super::StoreError;
use super::cannot_open;

/// The schema that this program writes. A database of a later one is refused.
pub(super) const VERSION: i64 = 13;
/// The first version with records. Later versions add tables to it, in place.
pub(super) const RECORDS: i64 = 9;
/// Its tables.
pub(super) const TABLES: &str = include_str!("schema/current.sql");
/// What later versions add, and which do.
pub(super) const ADDED: [(i64, &str); 4] = [
    (10, include_str!("schema/10-delivery.sql")),
    (11, include_str!("schema/11-console.sql")),
    (12, include_str!("schema/12-remote.sql")),
    (13, include_str!("schema/13-events.sql")),
];
/// What stands on the tables, once they are filled.
pub(super) const VIEWS: &str = include_str!("schema/views.sql");
/// How long a command waits for another process that is bringing the database up to date: what is large takes a while.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// How long for one that holds the claim and does nothing of the kind.
pub(super) const BRIEFLY: Duration = Duration::from_secs(5);
pub(super) const PAUSE: Duration = Duration::from_millis(20);

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
