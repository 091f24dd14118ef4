//! Brings a file up to date, whatever its version and other processes.

use std::path::Path;
use std::time::Instant;

use rusqlite::Connection;

use super::file::Claim;
use super::schema::{
    ADDED, BRIEFLY, PATIENCE, PAUSE, RECORDS, TABLES, VERSION, finish, patiently, version, version_of, written_by_newer,
};
use super::{cannot_open, migrate, unavailable};
use crate::ports::store::StoreError;
use crate::ports::store::chain::Sealer;

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

/// Adds what later versions have in addition to the tables of [`RECORDS`].
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

fn held_back(path: &Path, version: i64) -> StoreError {
    StoreError::Invalid(format!(
        "`{0}` has schema version {version}, this loginsync needs {VERSION}, and a running `loginsync serve` of an older version \
         holds `{0}.lock`: stop it before you use this version on its database",
        path.display()
    ))
}
