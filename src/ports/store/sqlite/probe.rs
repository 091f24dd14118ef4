//! Whether a login could be committed now: the file is read and written, and not only looked up in memory.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::super::StoreError;
use super::{Session, execute, open_to_read, schema, unavailable};

/// How long an answer is good for. Readiness is asked by anyone who can reach the admin listener, and before each grant that
/// the relay hands on.
pub(super) const INTERVAL: Duration = Duration::from_secs(1);

/// Writes about as many pages as a first login does: on a full disk one page may find room where a login would not.
pub(super) fn write(session: &Session<'_>) -> Result<(), StoreError> {
    execute(
        session.connection,
        "INSERT INTO settings (name, value) VALUES ('probe', randomblob(40000))
         ON CONFLICT (name) DO UPDATE SET value = excluded.value",
    )
}

/// Reads the file through connections of its own: those that are open answer from memory.
pub(super) fn read(path: &Path, timeout: Duration) -> Result<(), StoreError> {
    is_database(path)?;
    let connection = open_to_read(path, timeout)?;
    match schema::version(&connection).map_err(unavailable)? {
        schema::VERSION => {}
        newer if newer > schema::VERSION => return Err(schema::written_by_newer(newer)),
        other => return Err(StoreError::Unavailable(format!("the database has become one of schema version {other}"))),
    }
    // An end of each table that a login reads.
    connection
        .execute_batch(
            "SELECT sequence FROM audit ORDER BY sequence DESC LIMIT 1;
             SELECT id FROM users ORDER BY id DESC LIMIT 1;
             SELECT user_id FROM grants ORDER BY user_id DESC LIMIT 1;
             SELECT digest FROM tokens ORDER BY digest LIMIT 1;",
        )
        .map_err(unavailable)
}

/// Whether the file begins as a database does. It is opened as an immutable one, without its log, in which a good copy of the
/// first page may lie over a broken one.
fn is_database(path: &Path) -> Result<(), StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let look = || {
        let connection = Connection::open_with_flags(immutable(path), flags)?;
        connection.pragma_query_value(None, "schema_version", |row| row.get::<_, i64>(0))
    };
    // The page may be read while it is being written: once more tells.
    let looked = look().or_else(|_| look());
    looked.map(drop).map_err(|error| StoreError::Unavailable(format!("`{}` is broken: {error}", path.display())))
}

fn immutable(path: &Path) -> String {
    use std::fmt::Write as _;
    let mut uri = String::from("file:");
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => uri.push(char::from(*byte)),
            other => {
                let _ = write!(uri, "%{other:02X}");
            }
        }
    }
    uri.push_str("?mode=ro&immutable=1");
    uri
}
