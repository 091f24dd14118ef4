//! The store in one SQLite file, in WAL mode.
//!
//! One thread owns the writing connection. It takes the jobs that wait, runs them in one transaction, commits, and only then
//! answers them: with `synchronous = full` a burst of logins shares one wait for the disk. Looking goes through a connection
//! of its own.

mod act;
mod adopted;
mod apply;
mod audit;
mod brake;
mod catalogue;
mod clients;
mod confirmed;
mod decide;
mod denies;
mod disabling;
mod erased;
mod file;
mod find;
mod lease;
mod look;
mod people;
mod privilege;
mod probe;
mod record;
mod rekey;
mod replan;
mod schema;
mod sessions;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags, OptionalExtension, params};
use tokio::sync::{mpsc, oneshot};

use self::audit::Sealer;
pub use self::file::{Claim, in_use};
use self::file::{Files, create_private};
use super::{
    Act, Adopted, Applied, AuditRow, By, ChainReport, DisabledView, Excess, HoldFilter, HoldView, LeaseView, Login,
    People, Preview, Reaped, Refusal, Rekeyed, Replanned, Store, StoreError, Unvouched, UserView,
};
use crate::config::{Secret, Synchronous};
use crate::pipeline::ids::{Namespace, Subject, Target, Timestamp, UserId};
use crate::pipeline::mapping::stored::Stored;
use crate::pipeline::mapping::{Candidates, RuleSet};
use crate::ports::BoxFuture;
use crate::ports::sessions::{self as port, Digest, LoggedOut, Logout, NewSession, Sessions};
use crate::telemetry::watchdog::Pulse;

/// The first version with what the mapping APIs make.
const CATALOGUED: i64 = 4;
/// The first version that knows with which right something was given.
const VOUCHED: i64 = 6;
/// How many waiting jobs share a commit.
const BATCH: usize = 64;
/// How many jobs may wait; a further one is told that the store is not available.
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
    /// Whether the caller still waits. One that gave up was told that nothing was written, so nothing may be.
    fn wanted(&self) -> bool;
    fn run(&mut self, session: &mut Session<'_>) -> Result<(), StoreError>;
    fn answer(self: Box<Self>, committed: Result<(), StoreError>);
}

type Job = Box<dyn Task>;

/// What a job may use inside the transaction.
struct Session<'a> {
    connection: &'a Connection,
    sealer: &'a Sealer,
    /// The rules that logins must have been decided by; `None` before the first [`Store::adopt`].
    epoch: &'a mut Option<u64>,
    /// Whether expired token records were cleared away in this transaction.
    swept: bool,
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
        let mut writer = Connection::open(path).map_err(|error| cannot_open(path, &error))?;
        writer.busy_timeout(settings.timeout).map_err(|error| cannot_open(path, &error))?;
        let sealer = Arc::new(Sealer::new(settings.audit_key.as_ref()));
        schema::bring_up_to_date(&writer, path, claim.is_some(), &sealer)?;
        schema::patiently(|| prepare(&writer, &settings)).map_err(|error| cannot_open(path, &error))?;
        let reader = open_to_read(path, settings.timeout)?;
        // A backup by `VACUUM INTO` gets its log with the first look.
        schema::version(&writer).map_err(|error| cannot_open(path, &error))?;
        let files = Arc::new(Files::of(path, claim.as_ref())?);
        if claim.is_some() {
            audit::check_key(&writer, &sealer)?;
        }
        let (jobs, waiting) = mpsc::channel(QUEUE);
        let pulse = Arc::new(Pulse::default());
        watch_statements(&mut writer, Arc::clone(&pulse)).map_err(unavailable)?;
        let (for_writer, beats) = (Arc::clone(&sealer), Beats(Arc::clone(&pulse)));
        let writer = Writer { connection: writer, sealer: for_writer, files: Arc::clone(&files), epoch: None, beats };
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
            sealer,
            timeout: settings.timeout,
            path: path.to_owned(),
            files,
            probed: tokio::sync::Mutex::default(),
            pulse,
        })
    }

    /// The progress of the writer, for a watchdog.
    pub fn pulse(&self) -> Arc<Pulse> {
        Arc::clone(&self.pulse)
    }

    /// What the mapping APIs have made, read from a database that is not opened for anything else: nothing is made, migrated
    /// or written. No database, and one from before there were such APIs, have nothing.
    ///
    /// # Errors
    /// When the file is no database, cannot be read, or was written by a newer version.
    pub fn read_stored(path: &Path, timeout: Duration) -> Result<Stored, StoreError> {
        if !path.exists() {
            return Ok(Stored::default());
        }
        let connection = open_to_read(path, timeout)?;
        match schema::version(&connection).map_err(|error| cannot_open(path, &error))? {
            ..CATALOGUED => Ok(Stored::default()),
            CATALOGUED..=schema::VERSION => catalogue::stored(&connection),
            newer => Err(schema::written_by_newer(newer)),
        }
    }

    /// What adopting rules would end because of what is privileged in them, read from a database that is not opened for anything
    /// else. No database, and one of an earlier version, have nothing to tell.
    ///
    /// # Errors
    /// When the file is no database, cannot be read, or was written by a newer version.
    pub fn read_unvouched(path: &Path, timeout: Duration, rules: &RuleSet) -> Result<Vec<Unvouched>, StoreError> {
        if !path.exists() {
            return Ok(Vec::new());
        }
        let connection = open_to_read(path, timeout)?;
        match schema::version(&connection).map_err(|error| cannot_open(path, &error))? {
            ..VOUCHED => Ok(Vec::new()),
            VOUCHED..=schema::VERSION => privilege::unvouched(&connection, rules),
            newer => Err(schema::written_by_newer(newer)),
        }
    }

    /// Runs `work` in the writer's next transaction; a second time where a neighbour's failure undid the first.
    async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Fn(&mut Session<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        let task = Pending { work, result: None, sender };
        self.jobs
            .try_send(Box::new(task))
            .map_err(|_| StoreError::Unavailable(format!("{QUEUE} writes are waiting already")))?;
        match tokio::time::timeout(self.timeout, receiver).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(StoreError::Unavailable("the writer has stopped".into())),
            Err(_) => Err(StoreError::Timeout),
        }
    }

    /// Moves the write-ahead log into the database and empties it, so that what was erased is not left there.
    async fn truncate_log(&self) -> Result<(), StoreError> {
        let (files, path, timeout) = (Arc::clone(&self.files), self.path.clone(), self.timeout);
        let job = move || {
            files.check()?;
            // A database that is gone is not made anew.
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
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let (reader, files) = (Arc::clone(&self.reader), Arc::clone(&self.files));
        blocking(move || {
            files.check()?;
            work(&reader.lock().unwrap_or_else(PoisonError::into_inner))
        })
        .await
    }

    /// The same for what reads long, on a connection of its own.
    async fn read_aside<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let (aside, path, timeout) = (Arc::clone(&self.aside), self.path.clone(), self.timeout);
        let files = Arc::clone(&self.files);
        blocking(move || {
            files.check()?;
            let mut aside = aside.lock().unwrap_or_else(PoisonError::into_inner);
            if aside.is_none() {
                *aside = Some(open_to_read(&path, timeout)?);
            }
            aside.as_ref().map_or_else(|| Err(StoreError::Unavailable("no connection".into())), work)
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
    F: Fn(&mut Session<'_>) -> Result<T, StoreError> + Send,
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
        // A caller that gave up meanwhile hears nothing; what it asked for is done.
        let _ = sender.send(committed.and_then(|()| result.ok_or_else(missing)));
    }
}

/// What the writer's thread has.
struct Writer {
    connection: Connection,
    sealer: Arc<Sealer>,
    files: Arc<Files>,
    epoch: Option<u64>,
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
            // Where threads share a core, being woken put aside whoever brings the jobs. With a turn of its own it brings more
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
        let Self { connection, sealer, files, epoch, beats: _ } = self;
        let mut session = Session { connection, sealer, epoch, swept: false };
        let done = batch.iter_mut().try_for_each(|job| job.run(&mut session));
        let committed = done.and_then(|()| files.check()).and_then(|()| execute(connection, "COMMIT"));
        if committed.is_err() {
            *epoch = epoch_before;
            // A full disk or a failing one makes SQLite end the transaction by itself; one that has none to end changes nothing.
            let _ = execute(connection, "ROLLBACK");
        }
        committed
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
    connection.set_prepared_statement_cache_capacity(64);
    Ok(())
}

fn open_to_read(path: &Path, timeout: Duration) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(|error| cannot_open(path, &error))?;
    connection.busy_timeout(timeout).map_err(unavailable)?;
    Ok(connection)
}

fn cannot_open(path: &Path, error: &rusqlite::Error) -> StoreError {
    StoreError::Unavailable(format!("`{}` cannot be opened: {error}", path.display()))
}

fn unavailable(error: rusqlite::Error) -> StoreError {
    StoreError::Unavailable(error.to_string())
}

/// How a target is written in `kind`.
fn kind_of(target: &Target) -> i64 {
    match target {
        Target::Group(_) => 0,
        Target::Role(_) => 1,
    }
}

/// Reads a target back. Names in the database were valid when written.
fn target_of(kind: i64, name: &str) -> Result<Target, StoreError> {
    use crate::pipeline::ids::{GroupName, RoleName};
    let target = match kind {
        0 => GroupName::parse(name).map(Target::Group),
        _ => RoleName::parse(name).map(Target::Role),
    };
    target.map_err(|error| StoreError::Invalid(format!("the stored name `{name}` {error}")))
}

/// A user's key. Names in the database were valid when written.
fn user_of(namespace: &str, subject: &str) -> Result<UserId, StoreError> {
    let invalid = |error: crate::pipeline::ids::InvalidText| StoreError::Invalid(error.to_string());
    Ok(UserId {
        namespace: Namespace::parse(namespace).map_err(invalid)?,
        subject: Subject::parse(subject).map_err(invalid)?,
    })
}

/// The number of the next user, for an INSERT. None is ever used twice, since audit rows name people by it.
const NEXT_USER: &str = "(SELECT 1 + max(coalesce((SELECT max(id) FROM users), 0),
    coalesce((SELECT value FROM settings WHERE name = 'last_erased_user'), 0)))";

/// Notes a number that was a user's, so that no other user ever has it.
const NOTE_LAST_USER: &str = "INSERT INTO settings (name, value) VALUES ('last_erased_user', ?1)
    ON CONFLICT (name) DO UPDATE SET value = max(value, excluded.value)";

/// The number of a user, if there is one.
fn user_row(connection: &Connection, user: &UserId) -> Result<Option<i64>, StoreError> {
    connection
        .prepare_cached("SELECT id FROM users WHERE namespace = ?1 AND subject = ?2")
        .and_then(|mut statement| {
            statement.query_row(params![user.namespace.as_str(), user.subject.as_str()], |row| row.get(0)).optional()
        })
        .map_err(unavailable)
}

impl Store for SqliteStore {
    fn apply(
        &self,
        login: Login,
        candidates: Candidates,
        rules: Arc<RuleSet>,
    ) -> BoxFuture<'_, Result<Applied, StoreError>> {
        Box::pin(self.write(move |session| apply::apply(session, &login, &candidates, &rules)))
    }

    fn preview(
        &self,
        login: Login,
        candidates: Candidates,
        rules: Arc<RuleSet>,
    ) -> BoxFuture<'_, Result<Preview, StoreError>> {
        Box::pin(self.write(move |session| apply::preview(session, &login, &candidates, &rules)))
    }

    fn record_refusal(&self, refusal: Refusal) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.write(move |session| apply::record_refusal(session, &refusal)))
    }

    fn adopt(&self, rules: Arc<RuleSet>, now: Timestamp) -> BoxFuture<'_, Result<Adopted, StoreError>> {
        Box::pin(self.write(move |session| act::adopt(session, &rules, now)))
    }

    fn people(
        &self,
        rules: Arc<RuleSet>,
        after: Option<i64>,
        limit: usize,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<People, StoreError>> {
        Box::pin(self.read_aside(move |connection| people::page(connection, &rules, after, limit, now)))
    }

    fn excesses(&self, rules: Arc<RuleSet>) -> BoxFuture<'_, Result<Vec<Excess>, StoreError>> {
        Box::pin(self.read_aside(move |connection| act::excesses(connection, &rules)))
    }

    fn adopted_targets(&self) -> BoxFuture<'_, Result<Option<RuleSet>, StoreError>> {
        Box::pin(self.read(adopted::read))
    }

    fn confirm(&self, source: [u8; 32], by: String, now: Timestamp) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.write(move |session| act::confirm(session, source, &by, now)))
    }

    fn replan(
        &self,
        rules: Arc<RuleSet>,
        after: Option<(i64, String)>,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<Replanned, StoreError>> {
        Box::pin(self.write(move |session| {
            let Some(source) = rules.fingerprint() else { return Ok(Replanned { next: None, changed: 0 }) };
            if after.is_none() && act::is_planned(session, source)? {
                return Ok(Replanned { next: None, changed: 0 });
            }
            let replanned = replan::next(session, &rules, after.as_ref(), now)?;
            if replanned.next.is_none() {
                act::set_planned(session, source)?;
            }
            Ok(replanned)
        }))
    }

    fn leases(
        &self,
        rules: Arc<RuleSet>,
        before: Timestamp,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<LeaseView>, StoreError>> {
        Box::pin(self.read(move |connection| lease::due(connection, &rules, before, limit)))
    }

    fn reap(&self, rules: Arc<RuleSet>, now: Timestamp) -> BoxFuture<'_, Result<Reaped, StoreError>> {
        Box::pin(async move {
            let due = self.leases(Arc::clone(&rules), now, lease::MOST_AT_ONCE).await?;
            self.write(move |session| {
                let expired = act::expire(session, &rules, now)?;
                let reaped = lease::reap(session, &due, &rules, now)?;
                Ok(Reaped { expired: expired.ended_grants, ..reaped })
            })
            .await
        })
    }

    fn holds(&self, filter: HoldFilter, rules: Arc<RuleSet>) -> BoxFuture<'_, Result<Vec<HoldView>, StoreError>> {
        Box::pin(self.read(move |connection| replan::holds(connection, &filter, &rules)))
    }

    fn release(
        &self,
        filter: HoldFilter,
        rules: Arc<RuleSet>,
        by: String,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(self.write(move |session| replan::release(session, &filter, &rules, &by, now)))
    }

    fn discard(
        &self,
        filter: HoldFilter,
        rules: Arc<RuleSet>,
        by: String,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(self.write(move |session| replan::discard(session, &filter, &rules, &by, now)))
    }

    fn export(&self, user: UserId) -> BoxFuture<'_, Result<Option<serde_json::Value>, StoreError>> {
        Box::pin(self.read(move |connection| look::export(connection, &user)))
    }

    fn act(&self, user: UserId, act: Act, by: By, now: Timestamp) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let erases = matches!(act, Act::Erase | Act::Forget);
            self.write(move |session| act::act(session, &user, &act, &by, now)).await?;
            if erases { self.truncate_log().await } else { Ok(()) }
        })
    }

    fn rekey(
        &self,
        keys: Vec<(UserId, UserId)>,
        merge: bool,
        by: Option<By>,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<Vec<Rekeyed>, StoreError>> {
        Box::pin(self.write(move |session| rekey::rekey(session, &keys, merge, by.as_ref(), now)))
    }

    fn disabled_by(&self, mapping: String) -> BoxFuture<'_, Result<Vec<DisabledView>, StoreError>> {
        Box::pin(self.read(move |connection| disabling::through(connection, &mapping)))
    }

    fn enable_disabled_by(&self, mapping: String, by: By, now: Timestamp) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(self.write(move |session| disabling::enable(session, &mapping, &by, now)))
    }

    fn unvouched(&self, rules: Arc<RuleSet>) -> BoxFuture<'_, Result<Vec<Unvouched>, StoreError>> {
        Box::pin(self.read_aside(move |connection| privilege::unvouched(connection, &rules)))
    }

    fn user(&self, user: UserId, rules: Arc<RuleSet>) -> BoxFuture<'_, Result<Option<UserView>, StoreError>> {
        Box::pin(self.read(move |connection| look::user(connection, &user, &rules)))
    }

    fn users(&self, after: Option<UserId>, limit: usize) -> BoxFuture<'_, Result<Vec<UserId>, StoreError>> {
        Box::pin(self.read(move |connection| look::users(connection, after.as_ref(), limit)))
    }

    fn members(
        &self,
        target: Target,
        after: Option<UserId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<UserId>, StoreError>> {
        Box::pin(self.read(move |connection| look::members(connection, &target, after.as_ref(), limit)))
    }

    fn audit(&self, after: i64, limit: usize) -> BoxFuture<'_, Result<Vec<AuditRow>, StoreError>> {
        Box::pin(self.read(move |connection| audit::rows(connection, after, limit)))
    }

    fn audit_of(&self, login: String) -> BoxFuture<'_, Result<Option<AuditRow>, StoreError>> {
        Box::pin(self.read_aside(move |connection| audit::of_login(connection, &login)))
    }

    fn verify_audit(&self) -> BoxFuture<'_, Result<ChainReport, StoreError>> {
        let sealer = Arc::clone(&self.sealer);
        Box::pin(self.read_aside(move |connection| audit::verify(connection, &sealer)))
    }

    fn accept_unkeyed(&self, by: String, now: Timestamp) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(self.write(move |session| audit::accept_unkeyed(session, &by, now)))
    }

    fn audit_head(&self) -> BoxFuture<'_, Result<Option<(i64, String)>, StoreError>> {
        Box::pin(self.read(audit::head))
    }

    fn cookie_keys(&self) -> BoxFuture<'_, Result<Vec<u8>, StoreError>> {
        Box::pin(self.write(act::cookie_keys))
    }

    fn assertion_key(&self, fresh: Vec<u8>) -> BoxFuture<'_, Result<Vec<u8>, StoreError>> {
        Box::pin(self.write(move |session| act::kept(session, "assertion_key", || Ok(fresh.clone()))))
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
        Box::pin(self.read(move |connection| sessions::find(connection, key, &rules, now)))
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
        Box::pin(self.read(move |connection| sessions::of_user(connection, &user, now)))
    }
}
