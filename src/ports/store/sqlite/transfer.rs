//! The SQLite file as a side of a move.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, OptionalExtension as _, params, params_from_iter};

use super::super::chain::Sealer;
use super::super::transfer::{
    Cell, HOUR, LAST_USER, MARK, Mark, NUMBERS, OWN, Row, Status, TABLES, Table, Transfer, rows_of,
};
use super::super::{ChainReport, StoreError};
use super::file::{Claim, create_private, in_use};
use super::state::State;
use super::{
    Session, Settings, audit, blocking, cannot_open, check, current, open_to_read, prepare, records, schema,
    unavailable,
};
use crate::ports::BoxFuture;

/// What stops every write to a file that was left: each writes a row of the audit.
const BARRIER: &str = "CREATE TRIGGER IF NOT EXISTS the_store_was_moved BEFORE INSERT ON audit
    BEGIN SELECT RAISE(ABORT, 'this store was moved to another one: point the configuration there'); END";

/// A file that is moved, or moved into.
pub struct Side {
    path: PathBuf,
    connection: Arc<Mutex<Connection>>,
    sealer: Arc<Sealer>,
    /// Nothing serves the file meanwhile. `None`: it is only looked at.
    _claim: Option<Claim>,
}

/// How a file is opened as a side of a move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Nothing is written, and a `serve` may run.
    Look,
    Source,
    /// Made where there is none.
    Target,
}

/// What a file says of itself when something wants to start on it.
pub(super) fn refuse_moved(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    match mark_of(connection)? {
        None => Ok(()),
        Some(mark) => Err(mark.refusal(&path.display().to_string())),
    }
}

fn mark_of(connection: &Connection) -> Result<Option<Mark>, StoreError> {
    super::settings::setting(connection, MARK)?.map(|text| Mark::read(&text)).transpose()
}

impl Side {
    /// # Errors
    /// When the file is of another schema, is served, or cannot be opened.
    pub fn open(path: &Path, settings: &Settings, role: Role) -> Result<Self, StoreError> {
        let sealer = Arc::new(Sealer::new(settings.audit_key.as_ref()));
        if role == Role::Target {
            create_private(path)?;
        } else if !path.exists() {
            return Err(StoreError::Invalid(format!("`{}` does not exist: there is nothing to move", path.display())));
        }
        let claim = match role {
            Role::Look => None,
            Role::Source | Role::Target => Some(Claim::take(path)?.ok_or_else(|| in_use(path))?),
        };
        if role == Role::Target {
            current::bring_up_to_date(path, true, &sealer)?;
        }
        let connection = match role {
            Role::Look => open_to_read(path, settings.timeout)?,
            Role::Source | Role::Target => {
                let connection = Connection::open(path).map_err(|error| cannot_open(path, &error))?;
                schema::patiently(|| prepare(&connection, settings)).map_err(|error| cannot_open(path, &error))?;
                connection
            }
        };
        schema::expect_current(&connection, path)?;
        Ok(Self { path: path.to_owned(), connection: Arc::new(Mutex::new(connection)), sealer, _claim: claim })
    }

    /// Works on the connection, off the I/O threads.
    fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> BoxFuture<'_, Result<T, StoreError>> {
        let connection = Arc::clone(&self.connection);
        Box::pin(blocking(move || work(&mut connection.lock().unwrap_or_else(PoisonError::into_inner))))
    }
}

impl Transfer for Side {
    fn name(&self) -> String {
        named(&self.path)
    }

    fn audit_key(&self) -> Option<Vec<u8>> {
        self.sealer.key_id().map(<[u8]>::to_vec)
    }

    fn mark(&self) -> BoxFuture<'_, Result<Option<Mark>, StoreError>> {
        self.run(|connection| mark_of(connection))
    }

    fn set_mark(&self, before: Option<Mark>, after: Option<Mark>) -> BoxFuture<'_, Result<(), StoreError>> {
        self.run(move |connection| {
            transaction(connection, |inside| {
                expect(inside, before.as_ref())?;
                write_mark(inside, after.as_ref())
            })
        })
    }

    fn counts(&self) -> BoxFuture<'_, Result<Vec<u64>, StoreError>> {
        self.run(|connection| TABLES.iter().map(|table| count(connection, table)).collect())
    }

    fn export(
        &self,
        table: &'static Table,
        after: Option<Row>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Row>, StoreError>> {
        self.run(move |connection| export(connection, table, after, limit))
    }

    fn import(
        &self,
        table: &'static Table,
        rows: Vec<Row>,
        before: Mark,
        after: Mark,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        self.run(move |connection| {
            transaction(connection, |inside| {
                expect(inside, Some(&before))?;
                import(inside, table, rows)?;
                write_mark(inside, Some(&after))
            })
        })
    }

    fn settle(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.run(|connection| {
            connection
                .execute(
                    "INSERT OR IGNORE INTO given SELECT DISTINCT mapping, provider, kind, target FROM holdings
                     WHERE kind < 2 AND provider <> '' ORDER BY 1, 2, 3, 4",
                    [],
                )
                .map(drop)
                .map_err(unavailable)
        })
    }

    fn clear(&self, mark: Mark) -> BoxFuture<'_, Result<(), StoreError>> {
        self.run(move |connection| {
            transaction(connection, |inside| {
                expect(inside, Some(&mark))?;
                // Those that refer to others first.
                for name in TABLES.iter().rev().map(|table| table.name).chain(["given"]) {
                    inside.execute(&format!("DELETE FROM {name}"), []).map_err(unavailable)?;
                }
                Ok(())
            })
        })
    }

    fn verify(&self) -> BoxFuture<'_, Result<ChainReport, StoreError>> {
        let sealer = Arc::clone(&self.sealer);
        self.run(move |connection| audit::verify(connection, &sealer, &AtomicU64::new(0)))
    }

    fn check(&self) -> BoxFuture<'_, Result<Vec<String>, StoreError>> {
        let sealer = Arc::clone(&self.sealer);
        self.run(move |connection| {
            let mut state = State::read(connection)?;
            let statements = std::sync::atomic::AtomicU64::default();
            let mut session = Session {
                connection,
                sealer: &sealer,
                state: &mut state,
                epoch: &mut None,
                swept: true,
                following: std::sync::Arc::default(),
                statements: &statements,
            };
            check::check(&mut session, false)
        })
    }

    fn status(&self) -> BoxFuture<'_, Result<Status, StoreError>> {
        let name = self.name();
        self.run(move |connection| {
            let moved = mark_of(connection)?.map(|mark| mark.refusal(&name).to_string());
            let size = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size";
            let bytes: i64 = connection.query_row(size, [], |row| row.get(0)).map_err(unavailable)?;
            let counts = TABLES.iter().map(|table| count(connection, table)).collect::<Result<_, _>>()?;
            Ok(Status {
                kind: "sqlite",
                name,
                server: None,
                schema: schema::VERSION,
                bytes: bytes.unsigned_abs(),
                rows: rows_of(counts),
                unsealed: 0,
                unsealed_ms: 0,
                synchronous: None,
                replicas: Vec::new(),
                standbys: Vec::new(),
                moved,
            })
        })
    }
}

/// How people call a file: without symbolic links, so that two names of one file are one.
pub fn named(path: &Path) -> String {
    std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}

fn transaction(
    connection: &mut Connection,
    work: impl FnOnce(&Connection) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let transaction =
        connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).map_err(unavailable)?;
    work(&transaction)?;
    transaction.commit().map_err(unavailable)
}

fn expect(connection: &Connection, before: Option<&Mark>) -> Result<(), StoreError> {
    match mark_of(connection)?.as_ref() == before {
        true => Ok(()),
        false => Err(StoreError::Invalid("another process is at the same move: let one of them end".into())),
    }
}

fn write_mark(connection: &Connection, mark: Option<&Mark>) -> Result<(), StoreError> {
    let Some(mark) = mark else {
        let statements =
            format!("DELETE FROM settings WHERE name = '{MARK}'; DROP TRIGGER IF EXISTS the_store_was_moved");
        return connection.execute_batch(&statements).map_err(unavailable);
    };
    if !matches!(mark, Mark::Coming { .. }) {
        connection.execute_batch(BARRIER).map_err(unavailable)?;
    }
    connection
        .execute(
            "INSERT OR REPLACE INTO settings (name, value) VALUES (?1, ?2)",
            params![MARK, mark.text()?.into_bytes()],
        )
        .map(drop)
        .map_err(unavailable)
}

/// From where the rows of a table come, in its columns. What bears a name of its own here has a column of that name.
fn source(table: &Table) -> String {
    match table.name {
        "users" => "(SELECT users.*, rtrim(records.record) AS record FROM users
                     LEFT JOIN records ON records.user_id = users.id)"
            .into(),
        "settings" => format!(
            "(SELECT name, CAST(value AS BLOB) AS value FROM settings WHERE name NOT IN ('{}', '{LAST_USER}')
              UNION ALL SELECT '{LAST_USER}', CAST(last AS BLOB)
              FROM (SELECT max(coalesce((SELECT max(id) FROM users), 0),
                               coalesce((SELECT value FROM settings WHERE name = '{LAST_USER}'), 0)) AS last)
              WHERE last > 0)",
            OWN.join("', '")
        ),
        name => name.into(),
    }
}

fn count(connection: &Connection, table: &Table) -> Result<u64, StoreError> {
    let text = format!("SELECT count(*) FROM {}", source(table));
    let count: i64 = connection.query_row(&text, [], |row| row.get(0)).map_err(unavailable)?;
    Ok(count.unsigned_abs())
}

fn export(connection: &Connection, table: &Table, after: Option<Row>, limit: usize) -> Result<Vec<Row>, StoreError> {
    let mut columns: Vec<String> = table.names().map(ToOwned::to_owned).collect();
    let mut key: Vec<&str> = table.names().take(table.key).collect();
    // Whole hours are kept, and in their order.
    if let (true, Some(until), Some(hour)) = (table.is_of_tokens(), columns.first_mut(), key.first_mut()) {
        *until = format!("hour * {HOUR} + {}", HOUR - 1);
        *hour = "hour";
    }
    let (columns, key) = (columns.join(", "), key.join(", "));
    let mut values: Vec<Value> = Vec::new();
    let mut condition = String::new();
    if let Some(after) = after {
        let marks = vec!["?"; after.len()].join(", ");
        condition = format!("WHERE ({key}) > ({marks})");
        values = after.into_iter().map(value).collect();
        if let (true, Some(Value::Integer(until))) = (table.is_of_tokens(), values.first_mut()) {
            *until /= HOUR;
        }
    }
    let text = format!("SELECT {columns} FROM {} {condition} ORDER BY {key} LIMIT {limit}", source(table));
    let mut select = connection.prepare_cached(&text).map_err(unavailable)?;
    let mut rows = select.query(params_from_iter(values)).map_err(unavailable)?;
    let mut page = Vec::new();
    while let Some(row) = rows.next().map_err(unavailable)? {
        let cells = (0..table.columns.len()).map(|at| row.get_ref(at).map_err(unavailable).and_then(cell));
        page.push(cells.collect::<Result<Row, StoreError>>()?);
    }
    Ok(page)
}

fn cell(value: ValueRef<'_>) -> Result<Cell, StoreError> {
    let wrong = || StoreError::Invalid("a value has a type that this version does not write".into());
    Ok(match value {
        ValueRef::Null => Cell::Null,
        ValueRef::Integer(number) => Cell::Int(number),
        ValueRef::Text(text) => Cell::Text(std::str::from_utf8(text).map_err(|_| wrong())?.to_owned()),
        ValueRef::Blob(bytes) => Cell::Bytes(bytes.to_vec()),
        ValueRef::Real(_) => return Err(wrong()),
    })
}

fn value(cell: Cell) -> Value {
    match cell {
        Cell::Null => Value::Null,
        Cell::Int(number) => Value::Integer(number),
        Cell::Text(text) => Value::Text(text),
        Cell::Bytes(bytes) => Value::Blob(bytes),
    }
}

fn import(connection: &Connection, table: &Table, rows: Vec<Row>) -> Result<(), StoreError> {
    let mut columns: Vec<&str> = table.names().collect();
    if let (true, Some(until)) = (table.is_of_tokens(), columns.first_mut()) {
        *until = "hour";
    }
    let of_users = table.name == "users";
    if of_users {
        columns.pop();
    }
    // Two tokens of one hour are two; what comes from PostgreSQL may have two moments of one token.
    let how = if table.is_of_tokens() { "INSERT OR IGNORE" } else { "INSERT" };
    let marks = vec!["?"; columns.len()].join(", ");
    let text = format!("{how} INTO {} ({}) VALUES ({marks})", table.name, columns.join(", "));
    let guard = without_mac_guard(connection, table)?;
    let mut insert = connection.prepare_cached(&text).map_err(unavailable)?;
    for mut row in rows {
        let record = if of_users { row.pop() } else { None };
        let number = row.first().cloned();
        if let (true, Some(Cell::Int(until))) = (table.is_of_tokens(), row.first_mut()) {
            *until /= HOUR;
        }
        if table.name == "settings" {
            as_number(&mut row)?;
        }
        insert.execute(params_from_iter(row.into_iter().map(value))).map_err(unavailable)?;
        if let (Some(Cell::Text(record)), Some(Cell::Int(number))) = (record, number) {
            connection
                .prepare_cached("INSERT INTO records (user_id, record) VALUES (?1, ?2)")
                .and_then(|mut insert| insert.execute(params![number, records::padded(record)]))
                .map_err(unavailable)?;
        }
    }
    guard.map_or(Ok(()), |text| connection.execute_batch(&text)).map_err(unavailable)
}

/// Takes away the trigger that refuses rows of the audit without a MAC, for rows of the first format have none. Returns what makes
/// it again, in the same transaction.
fn without_mac_guard(connection: &Connection, table: &Table) -> Result<Option<String>, StoreError> {
    const GUARD: &str = "audit_rows_have_a_mac";
    if table.name != "audit" {
        return Ok(None);
    }
    let text: Option<String> = connection
        .query_row("SELECT sql FROM sqlite_master WHERE type = 'trigger' AND name = ?1", [GUARD], |row| row.get(0))
        .optional()
        .map_err(unavailable)?;
    connection.execute_batch(&format!("DROP TRIGGER IF EXISTS {GUARD}")).map_err(unavailable)?;
    Ok(text)
}

/// The numbers among the settings, which travel as digits.
fn as_number(row: &mut Row) -> Result<(), StoreError> {
    let [Cell::Text(name), held] = row.as_mut_slice() else { return Ok(()) };
    if let (true, Cell::Bytes(digits)) = (NUMBERS.contains(&name.as_str()), &held) {
        let number = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
        *held = Cell::Int(number.ok_or_else(|| StoreError::Invalid(format!("the setting `{name}` is not a number")))?);
    }
    Ok(())
}
