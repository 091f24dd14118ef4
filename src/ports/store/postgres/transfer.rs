//! The database in PostgreSQL as a side of a move.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio_postgres::Row as Found;

use super::super::transfer::{
    Cell, Kind, LAST_USER, MARK, Mark, OWN, Replica, Row, SECRETS, Standby, Status, TABLES, Table, Transfer, rows_of,
};
use super::super::{ChainReport, StoreError};
use super::pipe::{Failed, Pipe, Statement, Value, get, values};
use super::{NOW, PgStore, Settings, audit, check, schema};
use crate::pipeline::ids::Timestamp;
use crate::ports::BoxFuture;

/// For one page, and for a walk along the whole chain.
const PATIENCE: Duration = Duration::from_secs(3600);
/// What stops every write to a database that was left.
const BARRIER: &str = "the_store_was_moved";

/// A database that is moved, or moved into.
pub struct Side {
    store: Arc<PgStore>,
    name: String,
    /// There are no tables yet, and none may be made.
    is_bare: bool,
}

/// What a database says of itself when something wants to start on it.
pub(super) async fn refuse_moved(pipe: &Pipe, name: &str) -> Result<(), Failed> {
    match mark_of(pipe).await? {
        None => Ok(()),
        Some(mark) => Err(Failed::Store(mark.refusal(name))),
    }
}

async fn mark_of(pipe: &Pipe) -> Result<Option<Mark>, Failed> {
    let row = pipe.row("SELECT value FROM loginsync.settings WHERE name = $1", &values![MARK]).await?;
    row.map(|row| Ok(Mark::read(get(&row, 0)?)?)).transpose()
}

impl Side {
    /// `makes`: the tables, where there are none.
    ///
    /// # Errors
    /// When the database cannot be reached, or is of another schema.
    pub async fn open(settings: Settings, makes: bool) -> Result<Self, StoreError> {
        let name = settings.address.place();
        let mut store = PgStore::connect(settings)?;
        store.timeout = store.timeout.max(PATIENCE);
        if makes {
            schema::bring_up_to_date(&store).await?;
        }
        let pipe = store.pipe().await?;
        let version = schema::version(&pipe).await?;
        pipe.finish();
        match version {
            0 | schema::VERSION => {}
            newer if newer > schema::VERSION => return Err(schema::written_by_newer(newer)),
            older => {
                return Err(StoreError::Invalid(format!(
                    "`{name}` has schema version {older}, this loginsync needs {}: run `loginsync db migrate` first",
                    schema::VERSION
                )));
            }
        }
        Ok(Self { store: Arc::new(store), name, is_bare: version == 0 })
    }

    fn run<T, F>(&self, work: impl FnOnce(Arc<PgStore>) -> F) -> BoxFuture<'_, Result<T, StoreError>>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Failed>> + Send + 'static,
    {
        let work = work(Arc::clone(&self.store));
        Box::pin(async move { Ok(work.await?) })
    }
}

impl Transfer for Side {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn audit_key(&self) -> Option<Vec<u8>> {
        self.store.sealer.key_id().map(<[u8]>::to_vec)
    }

    fn mark(&self) -> BoxFuture<'_, Result<Option<Mark>, StoreError>> {
        let is_bare = self.is_bare;
        self.run(move |store| async move {
            if is_bare {
                return Ok(None);
            }
            let pipe = store.pipe().await?;
            let mark = mark_of(&pipe).await?;
            pipe.finish();
            Ok(mark)
        })
    }

    fn set_mark(&self, before: Option<Mark>, after: Option<Mark>) -> BoxFuture<'_, Result<(), StoreError>> {
        let name = self.name.clone();
        self.run(move |store| async move {
            let pipe = begin(&store).await?;
            expect(&pipe, before.as_ref()).await?;
            let leaves = |mark: &Option<Mark>| matches!(mark, Some(Mark::Leaving { .. } | Mark::Left { .. }));
            if leaves(&before) != leaves(&after) {
                if leaves(&after) {
                    refuse_served(&pipe, &name).await?;
                }
                barrier(&pipe, leaves(&after)).await?;
            }
            match after {
                Some(mark) => {
                    write_mark(&pipe, &mark).await?;
                }
                None => {
                    pipe.run("DELETE FROM loginsync.settings WHERE name = $1", &values![MARK]).await?;
                }
            }
            pipe.run("COMMIT", &[]).await?;
            pipe.finish();
            Ok(())
        })
    }

    fn counts(&self) -> BoxFuture<'_, Result<Vec<u64>, StoreError>> {
        let is_bare = self.is_bare;
        self.run(move |store| async move {
            if is_bare {
                return Ok(vec![0; TABLES.len()]);
            }
            let pipe = store.pipe().await?;
            let counts = counts(&pipe).await?;
            pipe.finish();
            Ok(counts)
        })
    }

    fn export(
        &self,
        table: &'static Table,
        after: Option<Row>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Row>, StoreError>> {
        self.run(move |store| async move {
            if table.name == "audit" && after.is_none() {
                // Rows of the audit travel with their seals.
                audit::seal_everything(&store).await?;
            }
            let pipe = store.pipe().await?;
            let rows = export(&store, &pipe, table, after, limit).await?;
            pipe.finish();
            Ok(rows)
        })
    }

    fn import(
        &self,
        table: &'static Table,
        rows: Vec<Row>,
        before: Mark,
        after: Mark,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        self.run(move |store| async move {
            let pipe = begin(&store).await?;
            expect(&pipe, Some(&before)).await?;
            pipe.all(&imported(&store, table, rows)?).await?;
            write_mark(&pipe, &after).await?;
            pipe.run("COMMIT", &[]).await?;
            pipe.finish();
            Ok(())
        })
    }

    fn settle(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.run(|store| async move {
            let pipe = store.pipe().await?;
            for (table, column) in [("targets", "number"), ("work", "number"), ("audit", "id")] {
                let text = format!(
                    "SELECT setval(pg_get_serial_sequence('loginsync.{table}', '{column}'), max({column}))
                     FROM loginsync.{table} HAVING max({column}) IS NOT NULL"
                );
                pipe.rows(&text, &[]).await?;
            }
            pipe.run("ANALYZE", &[]).await?;
            pipe.finish();
            Ok(())
        })
    }

    fn clear(&self, mark: Mark) -> BoxFuture<'_, Result<(), StoreError>> {
        self.run(move |store| async move {
            let pipe = begin(&store).await?;
            expect(&pipe, Some(&mark)).await?;
            let names: Vec<String> = TABLES
                .iter()
                .map(|table| table.name)
                .chain(["seals", "audit_people"])
                .map(|name| format!("loginsync.{name}"))
                .collect();
            pipe.run(&format!("TRUNCATE {} RESTART IDENTITY", names.join(", ")), &[]).await?;
            pipe.run("ALTER SEQUENCE loginsync.user_numbers RESTART", &[]).await?;
            pipe.run("COMMIT", &[]).await?;
            pipe.finish();
            Ok(())
        })
    }

    fn verify(&self) -> BoxFuture<'_, Result<ChainReport, StoreError>> {
        self.run(|store| async move { audit::verify(&store, &AtomicU64::new(0)).await })
    }

    fn check(&self) -> BoxFuture<'_, Result<Vec<String>, StoreError>> {
        self.run(|store| async move { check::check(&store, false).await })
    }

    fn status(&self) -> BoxFuture<'_, Result<Status, StoreError>> {
        let (name, is_bare) = (self.name.clone(), self.is_bare);
        self.run(move |store| async move {
            let pipe = store.pipe().await?;
            let status = status(&pipe, name, is_bare).await?;
            pipe.finish();
            Ok(status)
        })
    }
}

async fn status(pipe: &Pipe, name: String, is_bare: bool) -> Result<Status, Failed> {
    // `remote_apply`, `remote_write` and `on` wait for standbys, where some are named.
    let of_server = "SELECT current_setting('server_version'), pg_database_size(current_database()),
                            current_setting('synchronous_standby_names') <> ''
                            AND current_setting('synchronous_commit') NOT IN ('off', 'local')";
    let row = pipe.row(of_server, &[]).await?;
    let row = row.ok_or_else(|| StoreError::Unavailable("a look-up had no answer".into()))?;
    let (server, bytes, waits): (String, i64, bool) = (get(&row, 0)?, get(&row, 1)?, get(&row, 2)?);
    let standbys = standbys(pipe).await?;
    let mut status = Status {
        kind: "postgres",
        name,
        server: Some(server),
        schema: 0,
        bytes: bytes.unsigned_abs(),
        rows: Vec::new(),
        unsealed: 0,
        unsealed_ms: 0,
        replicas: Vec::new(),
        synchronous: Some(waits && standbys.iter().any(|it| matches!(it.sync.as_str(), "sync" | "quorum"))),
        standbys,
        moved: None,
    };
    if is_bare {
        return Ok(status);
    }
    status.schema = schema::version(pipe).await?;
    status.replicas = replicas(pipe).await?;
    status.moved = mark_of(pipe).await?.map(|mark| mark.refusal(&status.name).to_string());
    let unsealed = format!(
        "SELECT count(*), coalesce({NOW} - min(at), 0) FROM loginsync.audit
         WHERE NOT EXISTS (SELECT 1 FROM loginsync.seals WHERE audit_id = audit.id)"
    );
    if let Some(row) = pipe.row(&unsealed, &[]).await? {
        status.unsealed = get::<i64>(&row, 0)?.unsigned_abs();
        status.unsealed_ms = u64::try_from(get::<i64>(&row, 1)?).unwrap_or_default();
    }
    status.rows = rows_of(counts(pipe).await?);
    Ok(status)
}

/// Those that live, by the server's clock.
async fn replicas(pipe: &Pipe) -> Result<Vec<Replica>, Failed> {
    let of = format!(
        "SELECT name, version, left(encode(file, 'hex'), 12), started_at, ahead FROM loginsync.replicas
         WHERE until > {NOW} ORDER BY name, started_at"
    );
    let mut all = Vec::new();
    for row in pipe.rows(&of, &[]).await? {
        all.push(Replica {
            name: get(&row, 0)?,
            version: get(&row, 1)?,
            file: get(&row, 2)?,
            started_at: Timestamp(get(&row, 3)?).to_string(),
            ahead_ms: get(&row, 4)?,
        });
    }
    Ok(all)
}

/// Refuses what may only be done while nothing serves the database.
pub(super) async fn refuse_served(pipe: &Pipe, place: &str) -> Result<(), Failed> {
    let names: Vec<String> = replicas(pipe).await?.into_iter().map(|replica| format!("`{}`", replica.name)).collect();
    match names.is_empty() {
        true => Ok(()),
        false => Err(Failed::Store(StoreError::Invalid(format!(
            "`{place}` is served by {}: stop every sidecar, and try again. One that was killed counts for some seconds more",
            names.join(", ")
        )))),
    }
}

async fn standbys(pipe: &Pipe) -> Result<Vec<Standby>, Failed> {
    let of = "SELECT application_name, coalesce(state, 'unknown'), coalesce(sync_state, 'unknown'),
                     pg_wal_lsn_diff(pg_current_wal_lsn(), flush_lsn)::bigint
              FROM pg_stat_replication WHERE NOT pg_is_in_recovery() ORDER BY application_name";
    let mut all = Vec::new();
    for row in pipe.rows(of, &[]).await? {
        let behind_bytes = get::<Option<i64>>(&row, 3)?.and_then(|bytes| u64::try_from(bytes).ok());
        all.push(Standby { name: get(&row, 0)?, state: get(&row, 1)?, sync: get(&row, 2)?, behind_bytes });
    }
    Ok(all)
}

async fn counts(pipe: &Pipe) -> Result<Vec<u64>, Failed> {
    let mut counts = Vec::with_capacity(TABLES.len());
    for table in &TABLES {
        // Those without a seal count too.
        let source = if table.name == "audit" { String::from("loginsync.audit") } else { source(table) };
        let text = format!("SELECT count(*) FROM {source}");
        counts.push(pipe.number(&text, &[]).await?.unsigned_abs());
    }
    Ok(counts)
}

async fn begin(store: &PgStore) -> Result<Pipe, Failed> {
    let pipe = store.pipe().await?;
    pipe.all(&store.begin("BEGIN")).await?;
    Ok(pipe)
}

/// Locks the mark, and compares it.
async fn expect(pipe: &Pipe, before: Option<&Mark>) -> Result<(), Failed> {
    pipe.row("SELECT pg_advisory_xact_lock($1)", &values![super::locks::SCHEMA]).await?;
    match mark_of(pipe).await?.as_ref() == before {
        true => Ok(()),
        false => {
            Err(Failed::Store(StoreError::Invalid("another process is at the same move: let one of them end".into())))
        }
    }
}

async fn write_mark(pipe: &Pipe, mark: &Mark) -> Result<(), Failed> {
    pipe.all(&[super::settings::set(MARK, mark.text()?.into_bytes())]).await.map(drop)
}

/// A check that no row passes keeps every process from writing, those too that are running: it waits for what is under way.
async fn barrier(pipe: &Pipe, stands: bool) -> Result<(), Failed> {
    for name in TABLES.iter().map(|table| table.name).filter(|name| *name != "settings") {
        let change = match stands {
            true => format!("ADD CONSTRAINT {BARRIER} CHECK (false) NOT VALID"),
            false => format!("DROP CONSTRAINT IF EXISTS {BARRIER}"),
        };
        pipe.run(&format!("ALTER TABLE loginsync.{name} {change}"), &[]).await?;
    }
    Ok(())
}

// ------------------------------------------------------------------------------------------------------------- outward

/// From where the rows of a table come, in its columns.
fn source(table: &Table) -> String {
    match table.name {
        "audit" => "(SELECT sequence, at, event, detail, person, coalesce(first_keyed, key IS NOT NULL) AS keyed, seal,
                            audit.user_id, salt, fields, CASE WHEN first_keyed IS NULL THEN 2 ELSE 1 END::bigint AS format,
                            login, mac, key
                     FROM loginsync.seals JOIN loginsync.audit ON audit.id = seals.audit_id
                     LEFT JOIN loginsync.audit_people ON audit_people.audit_id = audit.id) AS it"
            .into(),
        "settings" => format!(
            "(SELECT name, value FROM loginsync.settings WHERE name NOT IN ('{}')
              UNION ALL SELECT '{LAST_USER}', convert_to(last_value::text, 'UTF8')
              FROM loginsync.user_numbers WHERE is_called) AS it",
            OWN.join("', '")
        ),
        name => format!("loginsync.{name}"),
    }
}

async fn export(
    store: &PgStore,
    pipe: &Pipe,
    table: &Table,
    after: Option<Row>,
    limit: usize,
) -> Result<Vec<Row>, Failed> {
    let columns = table.names().collect::<Vec<_>>().join(", ");
    let key = table.names().take(table.key).collect::<Vec<_>>().join(", ");
    let condition = match &after {
        None => String::new(),
        Some(after) => {
            let marks: Vec<String> = (1..=after.len()).map(|number| format!("${number}")).collect();
            format!("WHERE ({key}) > ({})", marks.join(", "))
        }
    };
    let values: Vec<Value> = after.into_iter().flatten().map(value).collect();
    let text = format!("SELECT {columns} FROM {} {condition} ORDER BY {key} LIMIT {limit}", source(table));
    let mut page = Vec::new();
    for found in pipe.rows(&text, &values).await? {
        let mut row = Row::with_capacity(table.columns.len());
        for (at, (_, kind)) in table.columns.iter().enumerate() {
            row.push(cell(&found, at, *kind)?);
        }
        if table.name == "settings" {
            opened(store, &mut row)?;
        }
        page.push(row);
    }
    Ok(page)
}

fn cell(row: &Found, at: usize, kind: Kind) -> Result<Cell, Failed> {
    Ok(match kind {
        Kind::Int => get::<Option<i64>>(row, at)?.map_or(Cell::Null, Cell::Int),
        Kind::Flag => get::<Option<bool>>(row, at)?.map_or(Cell::Null, |flag| Cell::Int(i64::from(flag))),
        Kind::Text => get::<Option<String>>(row, at)?.map_or(Cell::Null, Cell::Text),
        Kind::Bytes => get::<Option<Vec<u8>>>(row, at)?.map_or(Cell::Null, Cell::Bytes),
    })
}

fn value(cell: Cell) -> Value {
    match cell {
        // No key has one.
        Cell::Null => Value::Int(None),
        Cell::Int(number) => Value::Int(Some(number)),
        Cell::Text(text) => Value::Text(Some(text)),
        Cell::Bytes(bytes) => Value::Bytes(Some(bytes)),
    }
}

/// A secret as it is.
fn opened(store: &PgStore, row: &mut Row) -> Result<(), Failed> {
    if let [Cell::Text(name), Cell::Bytes(held)] = row.as_mut_slice()
        && SECRETS.contains(&name.as_str())
    {
        *held = store.secrets.open(name, held)?;
    }
    Ok(())
}

// -------------------------------------------------------------------------------------------------------------- inward

fn imported(store: &PgStore, table: &Table, mut rows: Vec<Row>) -> Result<Vec<Statement>, Failed> {
    if table.name == "settings" {
        return settings(store, rows);
    }
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let values: Vec<Value> =
        table.columns.iter().enumerate().map(|(at, (_, kind))| column(&mut rows, at, *kind)).collect();
    let marks: Vec<String> = (1..=values.len()).map(|number| format!("${number}")).collect();
    let names = table.names().collect::<Vec<_>>().join(", ");
    let from = format!("FROM unnest({}) AS it ({names})", marks.join(", "));
    if table.name == "audit" {
        let texts = [
            format!(
                "INSERT INTO loginsync.audit (id, at, event, detail, person, user_id, login, mac, key, first_keyed)
                 OVERRIDING SYSTEM VALUE
                 SELECT sequence, at, event, detail, person, user_id, login, mac, key,
                        CASE WHEN format = 1 THEN keyed <> 0 END {from}"
            ),
            format!(
                "INSERT INTO loginsync.seals (sequence, audit_id, xid, seal)
                 SELECT sequence, sequence, pg_current_xact_id(), seal {from}"
            ),
            format!(
                "INSERT INTO loginsync.audit_people (audit_id, user_id, salt, fields)
                 SELECT sequence, user_id, salt, fields {from} WHERE fields IS NOT NULL"
            ),
        ];
        return Ok(texts.map(|text| Statement { text: text.into(), values: values.clone() }).into());
    }
    let columns: Vec<String> = table
        .columns
        .iter()
        .map(|(name, kind)| match kind {
            Kind::Flag => format!("{name} <> 0"),
            _ => (*name).to_owned(),
        })
        .collect();
    let text = format!(
        "INSERT INTO loginsync.{} ({names}) OVERRIDING SYSTEM VALUE SELECT {} {from}",
        table.name,
        columns.join(", ")
    );
    Ok(vec![Statement { text: text.into(), values }])
}

/// A column of many rows. The values are taken out of the rows.
fn column(rows: &mut [Row], at: usize, kind: Kind) -> Value {
    let cells =
        rows.iter_mut().map(|row| row.get_mut(at).map_or(Cell::Null, |cell| std::mem::replace(cell, Cell::Null)));
    match kind {
        Kind::Int | Kind::Flag => Value::Ints(
            cells
                .map(|cell| match cell {
                    Cell::Int(number) => Some(number),
                    _ => None,
                })
                .collect(),
        ),
        Kind::Text => Value::MaybeTexts(
            cells
                .map(|cell| match cell {
                    Cell::Text(text) => Some(text),
                    _ => None,
                })
                .collect(),
        ),
        Kind::Bytes => Value::MaybeByteses(
            cells
                .map(|cell| match cell {
                    Cell::Bytes(bytes) => Some(bytes),
                    _ => None,
                })
                .collect(),
        ),
    }
}

fn settings(store: &PgStore, rows: Vec<Row>) -> Result<Vec<Statement>, Failed> {
    let mut statements = Vec::new();
    for row in rows {
        let Ok([Cell::Text(name), Cell::Bytes(held)]) = <[Cell; 2]>::try_from(row) else {
            return Err(Failed::Store(StoreError::Invalid("a setting has no name or no value".into())));
        };
        if name == LAST_USER {
            statements.push(Statement {
                text: "SELECT setval('loginsync.user_numbers', convert_from($1, 'UTF8')::bigint)".into(),
                values: values![held],
            });
            continue;
        }
        let held = match SECRETS.contains(&name.as_str()) {
            true => store.secrets.seal(&name, &held)?,
            false => held,
        };
        statements.push(super::settings::set(&name, held));
    }
    Ok(statements)
}
