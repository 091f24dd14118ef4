//! What the store keeps by name, apart from users.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::unavailable;
use crate::ports::store::StoreError;

/// What is noted under a name.
pub(super) fn setting(connection: &Connection, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
    connection
        .prepare_cached("SELECT value FROM settings WHERE name = ?1")
        .and_then(|mut select| select.query_row(params![name], |row| row.get(0)).optional())
        .map_err(unavailable)
}
