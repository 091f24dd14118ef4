//! The store in one SQLite file, in WAL mode.
//!
//! One thread owns the writing connection. It takes the jobs that wait, runs them in one transaction, commits, and only then
//! answers them: with `synchronous = full` a burst of logins shares one wait for the disk. Looking goes through a connection
//! of its own.

mod audit;
mod catalogue;
mod check;
mod clients;
mod console;
mod current;
mod erased;
mod events;
mod facts;
mod file;
mod find;
mod migrate;
mod outbox;
mod probe;
mod records;
mod schema;
mod sessions;
mod settings;
mod state;
pub mod transfer;
mod users;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use rusqlite::config::DbConfig;
use rusqlite::{CachedStatement, Connection, OpenFlags};
use tokio::sync::{mpsc, oneshot};

use self::facts::Look;
pub use self::file::{Claim, in_use};
use self::file::{Files, create_private};
use self::settings::setting;
use self::state::State;
use super::chain::Sealer;
use super::rows::{Live, kind_of, provider_of, target_of, user_of};
use super::{
    Ask, AuditRow, ChainReport, Journal, Known, Make, Step, Store, StoreError, Through, Unvouched, Upkeep, Users, Work,
    made,
};
use crate::config::{Secret, Synchronous};
use crate::pipeline::decision::{self, Facts, Needs};
use crate::pipeline::ids::{Target, Timestamp, UserId};
use crate::pipeline::mapping::RuleSet;
use crate::pipeline::mapping::stored::Stored;
use crate::ports::BoxFuture;
use crate::ports::catalogue::{Found, Search};
use crate::ports::console::{ConsoleSessions, SignIn};
use crate::ports::outbox::events::Following;
use crate::ports::sessions::{self as port, Digest, LoggedOut, Logout, NewSession, Sessions};
use crate::telemetry::watchdog::Pulse;

/// The first version with what the mapping APIs make.
const CATALOGUED: i64 = 4;
/// How many waiting jobs share a commit.
const BATCH: usize = 64;
/// How many jobs may wait; a further one fails as unavailable.
const QUEUE: usize = 1024;

/// How the store is opened.
#[derive(Debug, Clone)]
pub struct Settings {
    pub synchronous: Synchronous,
    /// For waiting in the queue and for another process's lock alike.
    pub timeout: Duration,
    /// Seals the audit chain.
    pub audit_key: Option<Secret>,
}

/// The SQLite store. Dropping it lets the writer finish what waits.
pub struct SqliteStore {
    jobs: mpsc::Sender<Job>,
    reader: Arc<Mutex<Connection>>,
    /// Where long looks are made, opened by the first: what reads for a second may not make sessions wait.
    aside: Arc<Mutex<Option<Connection>>>,
    /// What readers need to know, as the last transaction left it.
    live: Arc<RwLock<Arc<Live>>>,
    /// Statements that the writer has run for its jobs.
    statements: Arc<AtomicU64>,
    following: Arc<ArcSwap<Following>>,
    sealer: Arc<Sealer>,
    timeout: Duration,
    path: PathBuf,
    files: Arc<Files>,
    /// When [`Store::ready`] last looked, and what it found.
    probed: tokio::sync::Mutex<Option<(Instant, Result<(), StoreError>)>>,
    pulse: Arc<Pulse>,
}

/// What the writer does for one caller: run inside the transaction, then answer with the commit's outcome.
trait Task: Send {
    /// Whether the caller still waits. One that gave up got the answer that nothing was written, so nothing may be.
    fn wanted(&self) -> bool;
    fn run(&mut self, session: &mut Session<'_>) -> Result<(), StoreError>;
    fn answer(self: Box<Self>, committed: Result<(), StoreError>);
}

type Job = Box<dyn Task>;

/// What a job may use inside the transaction.
struct Session<'a> {
    connection: &'a Connection,
    sealer: &'a Sealer,
    state: &'a mut State,
    /// The rules that logins must have been decided by; `None` before the first [`Store::adopt`].
    epoch: &'a mut Option<u64>,
    /// Whether expired tokens were cleared away in this transaction.
    swept: bool,
    following: Arc<Following>,
    statements: &'a AtomicU64,
}

impl Session<'_> {
    /// A statement of a job, which is counted.
    fn statement(&self, statement: &str) -> rusqlite::Result<CachedStatement<'_>> {
        self.count();
        self.connection.prepare_cached(statement)
    }

    fn count(&self) {
        self.statements.fetch_add(1, Ordering::Relaxed);
    }

    /// Runs a statement. Returns how many rows it changed.
    fn run(&self, statement: &str, values: &[&dyn rusqlite::ToSql]) -> Result<usize, StoreError> {
        self.statement(statement).and_then(|mut prepared| prepared.execute(values)).map_err(unavailable)
    }

    fn number(&self, statement: &str, values: &[&dyn rusqlite::ToSql]) -> Result<i64, StoreError> {
        self.statement(statement)
            .and_then(|mut prepared| prepared.query_row(values, |row| row.get(0)))
            .map_err(unavailable)
    }

    fn set(&self, name: &str, value: &[u8]) -> Result<(), StoreError> {
        self.run("INSERT OR REPLACE INTO settings (name, value) VALUES (?1, ?2)", &[&name, &value]).map(drop)
    }

    /// What is kept under a name, else what `make` returns, which is kept from now on.
    fn kept(&self, name: &str, make: Make) -> Result<Vec<u8>, StoreError> {
        if let Some(kept) = setting(self.connection, name)? {
            return Ok(kept);
        }
        let fresh = made(make())?;
        self.set(name, &fresh)?;
        Ok(fresh)
    }
}

impl SqliteStore {
    /// Opens or creates the database, migrates an older schema, and starts the writer. Other processes may use it as well.
    ///
    /// # Errors
    /// When the file cannot be opened or written, or was written by a newer version.
    pub fn open(path: &Path, settings: Settings) -> Result<Self, StoreError> {
        Self::start(path, settings, None)
    }

    /// The same for the one process that serves the database. The claim is held until the last write is done.
    ///
    /// # Errors
    /// As for [`Self::open`].
    pub fn open_claimed(path: &Path, settings: Settings, claim: Claim) -> Result<Self, StoreError> {
        Self::start(path, settings, Some(claim))
    }

    fn start(path: &Path, settings: Settings, claim: Option<Claim>) -> Result<Self, StoreError> {
        create_private(path)?;
        let sealer = Arc::new(Sealer::new(settings.audit_key.as_ref()));
        current::bring_up_to_date(path, claim.is_some(), &sealer)?;
        let mut writer = Connection::open(path).map_err(|error| cannot_open(path, &error))?;
        writer.busy_timeout(settings.timeout).map_err(|error| cannot_open(path, &error))?;
        schema::patiently(|| prepare(&writer, &settings)).map_err(|error| cannot_open(path, &error))?;
        let reader = open_to_read(path, settings.timeout)?;
        // A backup by `VACUUM INTO` gets its log with the first look.
        schema::version(&writer).map_err(|error| cannot_open(path, &error))?;
        transfer::refuse_moved(&writer, path)?;
        let files = Arc::new(Files::of(path, claim.as_ref())?);
        if claim.is_some() {
            audit::check_key(&writer, &sealer)?;
        }
        let (jobs, waiting) = mpsc::channel(QUEUE);
        let pulse = Arc::new(Pulse::default());
        watch_statements(&mut writer, Arc::clone(&pulse)).map_err(unavailable)?;
        let state = State::read(&writer)?;
        let live = Arc::new(RwLock::new(Arc::new(state.live.clone())));
        let (statements, following) = (Arc::<AtomicU64>::default(), Arc::<ArcSwap<Following>>::default());
        let writer = Writer {
            connection: writer,
            sealer: Arc::clone(&sealer),
            files: Arc::clone(&files),
            epoch: None,
            state: Some(state),
            version: None,
            live: Arc::clone(&live),
            statements: Arc::clone(&statements),
            following: Arc::clone(&following),
            beats: Beats(Arc::clone(&pulse)),
        };
        std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || {
                writer.run(waiting);
                drop(claim);
            })
            .map_err(|error| StoreError::Unavailable(error.to_string()))?;
        Ok(Self {
            jobs,
            reader: Arc::new(Mutex::new(reader)),
            aside: Arc::default(),
            live,
            statements,
            following,
            sealer,
            timeout: settings.timeout,
            path: path.to_owned(),
            files,
            probed: tokio::sync::Mutex::default(),
            pulse,
        })
    }

    /// Brings a file up to date, and makes one where there is none. Returns the version of its schema before and after.
    ///
    /// # Errors
    /// As for [`Self::open`].
    pub fn migrate(path: &Path, settings: &Settings) -> Result<(i64, i64), StoreError> {
        create_private(path)?;
        let before = schema::version_of(path)?;
        current::bring_up_to_date(path, false, &Sealer::new(settings.audit_key.as_ref()))?;
        Ok((before, schema::version_of(path)?))
    }

    /// The progress of the writer, for a watchdog.
    pub fn pulse(&self) -> Arc<Pulse> {
        Arc::clone(&self.pulse)
    }

    /// How many statements the writer has run for its jobs, those of the transactions themselves left out.
    pub fn statements(&self) -> u64 {
        self.statements.load(Ordering::Relaxed)
    }

    /// What the mapping APIs have made, read from a database that is not opened for anything else: nothing is made, migrated
    /// or written. No database, and one from before there were such APIs, have nothing.
    ///
    /// # Errors
    /// When the file is not a database, cannot be read, or was written by a newer version.
    pub fn read_stored(path: &Path, timeout: Duration) -> Result<Stored, StoreError> {
        if !path.exists() {
            return Ok(Stored::default());
        }
        let connection = open_to_read(path, timeout)?;
        match schema::version(&connection).map_err(|error| cannot_open(path, &error))? {
            ..CATALOGUED => Ok(Stored::default()),
            CATALOGUED..=schema::VERSION => {
                // One moment for all tables: between two statements a writer could commit.
                let view = connection.unchecked_transaction().map_err(unavailable)?;
                catalogue::stored(&view)
            }
            newer => Err(schema::written_by_newer(newer)),
        }
    }

    /// What adopting rules would end because of what is privileged in them, read from a database that is not opened for anything
    /// else. No database, and one of an earlier version, have nothing to tell.
    ///
    /// # Errors
    /// When the file is not a database, cannot be read, or was written by a newer version.
    pub fn read_unvouched(path: &Path, timeout: Duration, rules: &RuleSet) -> Result<Vec<Unvouched>, StoreError> {
        if !path.exists() {
            return Ok(Vec::new());
        }
        let connection = open_to_read(path, timeout)?;
        match schema::version(&connection).map_err(|error| cannot_open(path, &error))? {
            schema::RECORDS..=schema::VERSION => {}
            newer if newer > schema::VERSION => return Err(schema::written_by_newer(newer)),
            _ => return Ok(Vec::new()),
        }
        let live = state::read(&connection)?;
        let look = Look { connection: &connection, live: &live };
        let mut facts = Facts::default();
        for _ in 0..super::ROUNDS {
            match decision::unvouched(rules, &facts) {
                Err(Needs::Facts(questions)) => {
                    questions.into_iter().try_for_each(|question| look.answer(question, &[], &mut facts))?;
                }
                decided => return Ok(decided?),
            }
        }
        Err(StoreError::Invalid("a decision asked too many questions".into()))
    }

    /// Runs `work` in the writer's next transaction; a second time where a neighbour's failure undid the first.
    async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&mut Session<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        let task = Pending { work, result: None, sender };
        self.jobs
            .try_send(Box::new(task))
            .map_err(|_| StoreError::Unavailable(format!("{QUEUE} writes are waiting already")))?;
        match tokio::time::timeout(self.timeout, receiver).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(StoreError::Unavailable("the writer has stopped".into())),
            // The writer may still come to it.
            Err(_) => Err(StoreError::Unknown),
        }
    }

    /// Moves the write-ahead log into the database and empties it, so that what was erased is not left there.
    async fn truncate_log(&self) -> Result<(), StoreError> {
        let (files, path, timeout) = (Arc::clone(&self.files), self.path.clone(), self.timeout);
        let job = move || {
            files.check()?;
            // A database that is gone is not created again.
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(&path, flags).map_err(|error| cannot_open(&path, &error))?;
            connection
                .busy_timeout(timeout)
                .and_then(|()| connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())))
                .map_err(unavailable)
        };
        blocking(job).await
    }

    /// Runs `work` on the reading connection, off the I/O threads.
    async fn read<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(Look<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        let (reader, files, live) = (Arc::clone(&self.reader), Arc::clone(&self.files), Arc::clone(&self.live));
        blocking(move || {
            files.check()?;
            look(&reader.lock().unwrap_or_else(PoisonError::into_inner), &live, work)
        })
        .await
    }

    /// The same for what reads long, on a connection of its own.
    async fn read_aside<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(Look<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        let (aside, path, timeout) = (Arc::clone(&self.aside), self.path.clone(), self.timeout);
        let (files, live) = (Arc::clone(&self.files), Arc::clone(&self.live));
        blocking(move || {
            files.check()?;
            let mut aside = aside.lock().unwrap_or_else(PoisonError::into_inner);
            if aside.is_none() {
                *aside = Some(open_to_read(&path, timeout)?);
            }
            let connection = aside.as_ref().ok_or_else(|| StoreError::Unavailable("no connection".into()))?;
            look(connection, &live, work)
        })
        .await
    }

    /// Reads the file and writes to it, as a login would.
    async fn probe(&self) -> Result<(), StoreError> {
        let (path, timeout) = (self.path.clone(), self.timeout);
        blocking(move || probe::read(&path, timeout)).await?;
        self.write(|session| probe::write(session)).await
    }
}

/// Looks at one moment of the database: between two statements a writer could commit.
fn look<T>(
    connection: &Connection,
    live: &RwLock<Arc<Live>>,
    work: impl FnOnce(Look<'_>) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    // Before the moment, not after it: work that was done in between is still in the records that are read, and would count.
    let mut known = Arc::clone(&live.read().unwrap_or_else(PoisonError::into_inner));
    let view = connection.unchecked_transaction().map_err(unavailable)?;
    // Another process may have given numbers since.
    let last: i64 = view
        .prepare_cached("SELECT coalesce(max(number), 0) FROM targets")
        .and_then(|mut select| select.query_row([], |row| row.get(0)))
        .map_err(unavailable)?;
    if last >= known.names.fresh() {
        known = Arc::new(state::read(&view)?);
    }
    work(Look { connection: &view, live: &known })
}

/// Runs what waits for the disk off the I/O threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(StoreError::Unavailable(error.to_string())))
}

struct Pending<T, F> {
    work: F,
    result: Option<T>,
    sender: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Task for Pending<T, F>
where
    T: Send,
    F: FnMut(&mut Session<'_>) -> Result<T, StoreError> + Send,
{
    fn wanted(&self) -> bool {
        !self.sender.is_closed()
    }

    fn run(&mut self, session: &mut Session<'_>) -> Result<(), StoreError> {
        self.result = Some((self.work)(session)?);
        Ok(())
    }

    fn answer(self: Box<Self>, committed: Result<(), StoreError>) {
        let Self { result, sender, .. } = *self;
        let missing = || StoreError::Unavailable("the job did not run".into());
        // A caller that gave up meanwhile gets no answer; what it asked for is done.
        let _ = sender.send(committed.and_then(|()| result.ok_or_else(missing)));
    }
}

/// What the writer's thread has.
struct Writer {
    connection: Connection,
    sealer: Arc<Sealer>,
    files: Arc<Files>,
    epoch: Option<u64>,
    /// `None`: it has to be read again.
    state: Option<State>,
    /// Of the file, as SQLite counts what other connections write to it.
    version: Option<i64>,
    live: Arc<RwLock<Arc<Live>>>,
    statements: Arc<AtomicU64>,
    following: Arc<ArcSwap<Following>>,
    beats: Beats,
}

/// What the writer shows of its progress. However the thread ends, that shows too.
struct Beats(Arc<Pulse>);

impl Drop for Beats {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Operations of SQLite's machine that count as a step: a statement over many rows makes progress all the while.
const STEP: std::ffi::c_int = 100_000;

fn watch_statements(connection: &mut Connection, pulse: Arc<Pulse>) -> rusqlite::Result<()> {
    let handler = move || {
        pulse.step();
        // Goes on.
        false
    };
    connection.progress_handler(STEP, Some(handler))
}

impl Writer {
    /// The writer's loop: until every sender is gone.
    fn run(mut self, mut waiting: mpsc::Receiver<Job>) {
        while let Some(first) = waiting.blocking_recv() {
            self.beats.0.turn();
            // Where threads share a core, being woken put aside the task that brings the jobs. With a turn of its own it brings more
            // of them, and they share a commit and the pages that they write.
            std::thread::yield_now();
            let mut batch = vec![first];
            while batch.len() < BATCH {
                match waiting.try_recv() {
                    Ok(job) => batch.push(job),
                    Err(_) => break,
                }
            }
            batch.retain(|job| job.wanted());
            self.commit_batch(batch);
            self.beats.0.turn();
        }
    }

    /// Runs jobs in one transaction. Where one fails, all is undone and each runs in a transaction of its own, so that it
    /// spoils none of its neighbours: failures are rare, and a savepoint for each job is a cost of every one.
    fn commit_batch(&mut self, mut batch: Vec<Job>) {
        if let Err(error) = execute(&self.connection, "BEGIN IMMEDIATE") {
            return batch.into_iter().for_each(|job| job.answer(Err(error.clone())));
        }
        // Waiting for another process's lock may have taken longer than a caller waits.
        batch.retain(|job| job.wanted());
        match self.run_and_commit(&mut batch) {
            Err(_) if batch.len() > 1 => batch.into_iter().for_each(|job| self.commit_batch(vec![job])),
            committed => batch.into_iter().for_each(|job| job.answer(committed.clone())),
        }
    }

    fn run_and_commit(&mut self, batch: &mut [Job]) -> Result<(), StoreError> {
        let epoch_before = self.epoch;
        let mut state = self.take_state()?;
        let last_before = state.last.clone();
        let Self { connection, sealer, files, epoch, statements, following, .. } = self;
        let following = following.load_full();
        let mut session = Session { connection, sealer, state: &mut state, epoch, swept: false, following, statements };
        let done = batch.iter_mut().try_for_each(|job| job.run(&mut session));
        let committed = done.and_then(|()| files.check()).and_then(|()| execute(connection, "COMMIT"));
        let is_new = std::mem::take(&mut state.is_new);
        let is_dirty = std::mem::take(&mut state.is_dirty);
        match committed {
            Ok(()) => {
                if is_new {
                    let live = Arc::new(state.live.clone());
                    *self.live.write().unwrap_or_else(PoisonError::into_inner) = live;
                }
                self.state = Some(state);
                Ok(())
            }
            Err(error) => {
                *epoch = epoch_before;
                // A full disk or a failing one makes SQLite end the transaction by itself; one that has none to end changes nothing.
                let _ = execute(connection, "ROLLBACK");
                state.last = last_before;
                // Readers still have to learn what another process has written.
                state.is_new = is_new;
                self.state = (!is_dirty).then_some(state);
                Err(error)
            }
        }
    }

    /// What is remembered, unless another process has written to the file since.
    fn take_state(&mut self) -> Result<State, StoreError> {
        let version = self
            .connection
            .prepare_cached("PRAGMA data_version")
            .and_then(|mut select| select.query_row([], |row| row.get(0)))
            .map_err(unavailable);
        let read = version.and_then(|version| {
            if self.version.replace(version) == Some(version)
                && let Some(state) = self.state.take()
            {
                return Ok(state);
            }
            let mut state = State::read(&self.connection)?;
            // Readers learn of it as well.
            state.is_new = true;
            Ok(state)
        });
        if read.is_err() {
            let _ = execute(&self.connection, "ROLLBACK");
        }
        read
    }
}

fn execute(connection: &Connection, statement: &str) -> Result<(), StoreError> {
    connection.prepare_cached(statement).and_then(|mut statement| statement.execute([])).map_err(unavailable)?;
    Ok(())
}

fn prepare(connection: &Connection, settings: &Settings) -> rusqlite::Result<()> {
    connection.busy_timeout(settings.timeout)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    let synchronous = match settings.synchronous {
        Synchronous::Full => "FULL",
        Synchronous::Normal => "NORMAL",
    };
    connection.pragma_update(None, "synchronous", synchronous)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // What is erased is overwritten, not merely forgotten.
    connection.pragma_update(None, "secure_delete", true)?;
    // Pages that every login writes go into the database once for 16 MiB of log instead of once for 4.
    connection.pragma_update(None, "wal_autocheckpoint", 4096)?;
    // Temporary indices and sorts need no file.
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    keep_statements(connection)
}

/// Statements are prepared once. Without the stability guarantee SQLite prepares one again at each use where it has compared a
/// parameter while it planned, as for the look-up of a user and the count of a group's members.
fn keep_statements(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(64);
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map(drop)
}

fn open_to_read(path: &Path, timeout: Duration) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(|error| cannot_open(path, &error))?;
    connection.busy_timeout(timeout).and_then(|()| keep_statements(&connection)).map_err(unavailable)?;
    Ok(connection)
}

fn cannot_open(path: &Path, error: &rusqlite::Error) -> StoreError {
    StoreError::Unavailable(format!("`{}` cannot be opened: {error}", path.display()))
}

fn unavailable(error: rusqlite::Error) -> StoreError {
    StoreError::Unavailable(error.to_string())
}

/// The number of the next user, for an INSERT. None is ever used twice, since audit rows name people by it.
const NEXT_USER: &str = "(SELECT 1 + max(coalesce((SELECT max(id) FROM users), 0),
    coalesce((SELECT value FROM settings WHERE name = 'last_erased_user'), 0)))";

/// Notes a number that was a user's, so that no other user ever has it.
const NOTE_LAST_USER: &str = "INSERT INTO settings (name, value) VALUES ('last_erased_user', ?1)
    ON CONFLICT (name) DO UPDATE SET value = max(value, excluded.value)";

impl From<SqliteStore> for Store {
    fn from(store: SqliteStore) -> Self {
        Self::new(Arc::new(store))
    }
}

impl Users for SqliteStore {
    fn transact(&self, ask: Ask, mut step: Step) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.write(move |session| users::transact(session, &ask, &mut step, true)))
    }

    fn preview(&self, ask: Ask, mut step: Step) -> BoxFuture<'_, Result<(), StoreError>> {
        let (sealer, statements) = (Arc::clone(&self.sealer), Arc::clone(&self.statements));
        Box::pin(self.read_aside(move |look| {
            let hours = state::hours(look.connection)?;
            let mut state = State { live: look.live.clone(), hours, ..State::default() };
            let mut session = Session {
                connection: look.connection,
                sealer: &sealer,
                state: &mut state,
                epoch: &mut None,
                swept: true,
                following: Arc::default(),
                statements: &statements,
            };
            users::transact(&mut session, &ask, &mut step, false)
        }))
    }

    fn user(&self, user: UserId) -> BoxFuture<'_, Result<Option<Known>, StoreError>> {
        Box::pin(self.read(move |look| users::user(look.connection, look.live, &user)))
    }

    fn numbered(&self, number: i64) -> BoxFuture<'_, Result<Option<Known>, StoreError>> {
        Box::pin(self.read(move |look| records::by_number(look.connection, look.live, number)))
    }

    fn page(&self, after: i64, limit: usize) -> BoxFuture<'_, Result<Vec<Known>, StoreError>> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        Box::pin(self.read_aside(move |look| {
            let page = "users.id > ?1 ORDER BY users.id LIMIT ?2";
            records::find(look.connection, look.live, page, &[&after, &limit])
        }))
    }

    fn through(&self, through: Through, after: i64, limit: usize) -> BoxFuture<'_, Result<Vec<Known>, StoreError>> {
        Box::pin(self.read_aside(move |look| look.through(&through, after, limit)))
    }

    fn keys(
        &self,
        of: Option<Target>,
        after: Option<UserId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<UserId>, StoreError>> {
        Box::pin(self.read(move |look| look.keys(of.as_ref(), after.as_ref(), limit)))
    }

    fn find(&self, search: Search) -> BoxFuture<'_, Result<Found, StoreError>> {
        Box::pin(self.read_aside(move |look| find::find(look.connection, look.live, &search)))
    }

    fn count(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(self.read_aside(|look| look.users()))
    }

    fn work(&self) -> BoxFuture<'_, Result<Vec<(i64, Work)>, StoreError>> {
        let live = Arc::clone(&self.live.read().unwrap_or_else(PoisonError::into_inner));
        Box::pin(async move { Ok(live.work.iter().map(|(number, work)| (*number, Work::clone(work))).collect()) })
    }

    fn check(&self, repair: bool) -> BoxFuture<'_, Result<Vec<String>, StoreError>> {
        if repair {
            return Box::pin(self.write(|session| check::check(session, true)));
        }
        let (sealer, statements) = (Arc::clone(&self.sealer), Arc::clone(&self.statements));
        Box::pin(self.read_aside(move |look| {
            let mut state = State { live: state::read(look.connection)?, ..State::default() };
            let mut session = Session {
                connection: look.connection,
                sealer: &sealer,
                state: &mut state,
                epoch: &mut None,
                swept: true,
                following: Arc::default(),
                statements: &statements,
            };
            check::check(&mut session, false)
        }))
    }
}

impl Journal for SqliteStore {
    fn rows(&self, after: i64, limit: usize) -> BoxFuture<'_, Result<Vec<AuditRow>, StoreError>> {
        Box::pin(self.read(move |look| audit::rows(look.connection, after, limit)))
    }

    fn of_login(&self, login: String) -> BoxFuture<'_, Result<Option<AuditRow>, StoreError>> {
        Box::pin(self.read_aside(move |look| audit::of_login(look.connection, &login)))
    }

    fn about(&self, number: i64) -> BoxFuture<'_, Result<Vec<AuditRow>, StoreError>> {
        Box::pin(self.read_aside(move |look| audit::about(look.connection, number)))
    }

    fn head(&self) -> BoxFuture<'_, Result<Option<(i64, String)>, StoreError>> {
        Box::pin(self.read(|look| audit::head(look.connection)))
    }

    fn latest_about(&self, number: i64, limit: usize) -> BoxFuture<'_, Result<Vec<AuditRow>, StoreError>> {
        Box::pin(self.read_aside(move |look| audit::latest_about(look.connection, number, limit)))
    }

    fn verify(&self, walked: Arc<AtomicU64>) -> BoxFuture<'_, Result<ChainReport, StoreError>> {
        let sealer = Arc::clone(&self.sealer);
        Box::pin(self.read_aside(move |look| audit::verify(look.connection, &sealer, &walked)))
    }

    fn accept_unkeyed(&self, by: String, now: Timestamp) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(self.write(move |session| audit::accept_unkeyed(session, &by, now)))
    }
}

impl Upkeep for SqliteStore {
    fn secret(&self, name: &'static str, make: Make) -> BoxFuture<'_, Result<Vec<u8>, StoreError>> {
        Box::pin(self.write(move |session| session.kept(name, make)))
    }

    fn settle(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.truncate_log())
    }

    fn ready(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            self.files.check()?;
            // Those who ask at once share one look.
            let mut probed = self.probed.lock().await;
            if let Some((at, found)) = &*probed
                && at.elapsed() < probe::INTERVAL
            {
                return found.clone();
            }
            let found = self.probe().await;
            *probed = Some((Instant::now(), found.clone()));
            found
        })
    }
}

impl Sessions for SqliteStore {
    fn begin(&self, session: NewSession) -> BoxFuture<'_, Result<bool, StoreError>> {
        Box::pin(self.write(move |transaction| sessions::begin(transaction, &session)))
    }

    fn find(
        &self,
        key: Digest,
        rules: Arc<RuleSet>,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<Option<port::Session>, StoreError>> {
        Box::pin(self.read(move |look| sessions::find(look.connection, look.live, key, &rules, now)))
    }

    fn extend(&self, key: Digest, seen_at: Timestamp, idle_until: Timestamp) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.write(move |transaction| sessions::extend(transaction, key, seen_at, idle_until)))
    }

    fn renewed(
        &self,
        key: Digest,
        refresh: Option<Vec<u8>>,
        synced_at: Timestamp,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.write(move |transaction| sessions::renewed(transaction, key, refresh.as_deref(), synced_at)))
    }

    fn renamed(&self, key: Digest, at_provider: String) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.write(move |transaction| sessions::renamed(transaction, key, &at_provider)))
    }

    fn end(&self, key: Digest) -> BoxFuture<'_, Result<bool, StoreError>> {
        Box::pin(self.write(move |transaction| sessions::end(transaction, key)))
    }

    fn log_out(&self, logout: Logout) -> BoxFuture<'_, Result<LoggedOut, StoreError>> {
        Box::pin(self.write(move |transaction| sessions::log_out(transaction, &logout)))
    }

    fn of_user(&self, user: UserId, now: Timestamp) -> BoxFuture<'_, Result<Vec<Digest>, StoreError>> {
        Box::pin(self.read(move |look| sessions::of_user(look.connection, &user, now)))
    }

    fn list(&self, user: UserId) -> BoxFuture<'_, Result<Vec<port::SessionView>, StoreError>> {
        Box::pin(self.read(move |look| sessions::list(look.connection, &user)))
    }
}

impl ConsoleSessions for SqliteStore {
    fn add(&self, sign_in: SignIn) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.write(move |transaction| console::add(transaction, &sign_in)))
    }

    fn spend(&self, link: Digest, now: Timestamp) -> BoxFuture<'_, Result<Option<SignIn>, StoreError>> {
        Box::pin(self.write(move |transaction| console::spend(transaction, link, now)))
    }

    fn session(&self, key: Digest, now: Timestamp) -> BoxFuture<'_, Result<Option<SignIn>, StoreError>> {
        Box::pin(self.read(move |look| console::session(look.connection, key, now)))
    }

    fn extend(&self, key: Digest, idle_until: Timestamp) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.write(move |transaction| console::extend(transaction, key, idle_until)))
    }

    fn end(&self, key: Option<Digest>) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(self.write(move |transaction| console::end(transaction, key)))
    }

    fn list(&self, now: Timestamp) -> BoxFuture<'_, Result<Vec<SignIn>, StoreError>> {
        Box::pin(self.read(move |look| console::list(look.connection, now)))
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::{Connection, StatementStatus, params};

    /// SQLite prepares these again for each value that it is given, unless told not to.
    #[test]
    fn a_statement_that_is_used_again_is_not_prepared_again() {
        let directory = tempfile::tempdir().unwrap();
        let connection = Connection::open(directory.path().join("db")).unwrap();
        connection.execute_batch(include_str!("sqlite/schema/current.sql")).unwrap();
        super::keep_statements(&connection).unwrap();
        for statement in [
            "SELECT count(DISTINCT user_id) FROM holdings WHERE kind = ?1 AND target = ?2",
            "SELECT count(id) FROM (SELECT 1) LEFT JOIN users ON namespace = ?1 AND subject = ?2",
        ] {
            let mut select = connection.prepare(statement).unwrap();
            for value in 0..3 {
                select.query_row(params![value, value], |row| row.get::<_, i64>(0)).unwrap();
            }
            assert_eq!(select.get_status(StatementStatus::RePrepare), 0, "{statement}");
        }
    }
}
