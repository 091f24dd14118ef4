//! The store in PostgreSQL, shared by several sidecars.
//!
//! A login costs two round trips: one reads, one writes, each sent whole. What was read is not locked; the write checks that it is
//! as it was, and is decided again where it is not. What asks about other users, or lost once, locks: first users in the order of
//! their keys, then [`locks::FACTS`], then targets in the order of their numbers, then [`locks::RULES`]. That order holds everywhere,
//! so that none waits in a circle.
//!
//! The limits are the server's: they travel with each transaction, since a pooler has no settings of a session.

mod audit;
mod catalogue;
mod check;
mod clients;
mod connect;
mod console;
mod erased;
mod events;
mod facts;
mod find;
mod outbox;
mod pipe;
mod records;
pub mod replicas;
mod schema;
mod sessions;
mod settings;
pub mod transfer;
mod users;

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use deadpool_postgres::Pool;
use tokio::sync::{Mutex, OwnedMutexGuard};

pub use self::connect::{Address, InvalidAddress, Password};
use self::facts::Look;
use self::pipe::{Failed, Pipe, Statement, get, values};
use super::chain::Sealer;
use super::rows::Live;
use super::{
    Ask, AuditRow, ChainReport, Journal, Known, Make, Step, Store, StoreError, Through, Upkeep, Users, Work, made,
};
use crate::config::Secret;
use crate::pipeline::ids::{Target, Timestamp, UserId};
use crate::pipeline::mapping::RuleSet;
use crate::ports::BoxFuture;
use crate::ports::catalogue::{Found, Search};
use crate::ports::console::{ConsoleSessions, SignIn};
use crate::ports::outbox::events::Following;
use crate::ports::sessions::{self as port, Digest, LoggedOut, Logout, NewSession, Sessions};

/// Queues of users: those of one queue take no connection while one of them is served.
const QUEUES: usize = 256;
/// How long an answer about readiness is good for.
const READY: Duration = Duration::from_secs(1);
/// The server's clock, in milliseconds since 1970.
const NOW: &str = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint";
/// How often something is decided again because others were faster.
const TRIES: usize = 20;
/// After so many tries the rules are locked before the next one looks: during an import a login was seen to lose to twenty changes of
/// rules in 0.4 s.
const TRIES_BEFORE_RULES: usize = 3;

/// What transactions lock besides rows, until they end. Each database has its own.
mod locks {
    /// Held by what asks about all users, and shared by what asks about those who hold one target.
    pub(super) const FACTS: i64 = 0x6c6f_6769_0001;
    /// With a target's number: held by what asks about those who hold it. Groups, then roles.
    pub(super) const TARGETS: i64 = 0x6c6f_6769;
    /// Shared by what was decided by the names and the work as they are, and held by what changes those.
    pub(super) const RULES: i64 = 0x6c6f_6769_0002;
    /// Held by what gives rows of the audit their places.
    pub(super) const SEALS: i64 = 0x6c6f_6769_0003;
    /// Held by what changes the schema.
    pub(super) const SCHEMA: i64 = 0x6c6f_6769_0004;
}

/// How the store is opened.
#[derive(Debug, Clone)]
pub struct Settings {
    pub address: Address,
    /// Connections at most.
    pub connections: usize,
    /// For a transaction with all that it waits for.
    pub timeout: Duration,
    /// Seals the audit chain.
    pub audit_key: Option<Secret>,
    /// 32 bytes that seal the secrets which the database keeps.
    pub key: Secret,
    /// The newest version of records that this process reads. It writes the newest that all sidecars read.
    pub reads: u32,
}

/// The store in PostgreSQL.
pub struct PgStore {
    pool: Pool,
    timeout: Duration,
    sealer: Sealer,
    secrets: erased::Safe,
    /// The newest version of records that it reads.
    reads: u32,
    /// Names and open work as this process knows them, and of which generation.
    live: RwLock<Arc<(i64, Live)>>,
    /// Among the replicas, and by which rules this process decides.
    standing: std::sync::Mutex<replicas::Standing>,
    queues: Vec<Arc<Mutex<()>>>,
    following: ArcSwap<Following>,
    probed: Mutex<Option<(Instant, Result<(), StoreError>)>>,
}

/// A handle that work in the background can hold.
#[derive(Clone)]
pub struct Shared(Arc<PgStore>);

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shared")
    }
}

impl Shared {
    /// Connects, and brings the schema up to date.
    ///
    /// # Errors
    /// When the database cannot be reached or written, or is of a newer version.
    pub async fn open(settings: Settings) -> Result<Self, StoreError> {
        Self::start(settings, false).await
    }

    /// The same after a dump was restored, for [`Store::restored`] alone: in which cluster the database was does not matter.
    ///
    /// # Errors
    /// As for [`Self::open`].
    pub async fn open_restored(settings: Settings) -> Result<Self, StoreError> {
        Self::start(settings, true).await
    }

    /// Brings the tables up to date, and makes them where there are none. `runtime`: a role that may do with them what a sidecar
    /// does, and no more: what the audit holds it may add to, not change. Returns the version of the schema before and after.
    ///
    /// # Errors
    /// As for [`Self::open`].
    pub async fn migrate(settings: Settings, runtime: Option<&str>) -> Result<(i64, i64), StoreError> {
        let store = PgStore::connect(settings)?;
        let pipe = store.pipe().await?;
        let before = schema::version(&pipe).await?;
        schema::bring_up_to_date(&store).await?;
        if let Some(role) = runtime {
            schema::grant(&pipe, role).await?;
        }
        let after = schema::version(&pipe).await?;
        pipe.finish();
        Ok((before, after))
    }

    async fn start(settings: Settings, is_restored: bool) -> Result<Self, StoreError> {
        let place = settings.address.place();
        let store = PgStore::connect(settings)?;
        schema::bring_up_to_date(&store).await?;
        Self::check_and_read(store, &place, is_restored).await
    }

    /// The same for what looks: `None` where there is no schema, and none is made.
    ///
    /// # Errors
    /// When the database cannot be reached, or has another version.
    pub async fn open_if_there(settings: Settings) -> Result<Option<Self>, StoreError> {
        let place = settings.address.place();
        let store = PgStore::connect(settings)?;
        match schema::is_there(&store).await? {
            true => Self::check_and_read(store, &place, false).await.map(Some),
            false => Ok(None),
        }
    }

    async fn check_and_read(store: PgStore, place: &str, is_restored: bool) -> Result<Self, StoreError> {
        let pipe = store.pipe().await?;
        transfer::refuse_moved(&pipe, place).await?;
        match is_restored {
            true => transfer::refuse_served(&pipe, place).await?,
            false => schema::refuse_restored(&pipe, place).await?,
        }
        audit::check_key(&pipe, &store.sealer).await?;
        store.refresh(&pipe).await?;
        pipe.finish();
        Ok(Self(Arc::new(store)))
    }

    /// Runs a change to its end, whatever becomes of the caller: a transaction is not left half said.
    fn run<T, F, W>(&self, work: W) -> BoxFuture<'static, Result<T, StoreError>>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Failed>> + Send + 'static,
        W: FnOnce(Arc<PgStore>) -> F,
    {
        let timeout = self.0.timeout;
        let task = tokio::spawn(tokio::time::timeout(timeout, work(Arc::clone(&self.0))));
        Box::pin(async move {
            match task.await {
                Ok(Ok(outcome)) => Ok(outcome?),
                Ok(Err(_)) => Err(StoreError::Unknown),
                Err(_) => Err(StoreError::Unavailable("the work on the store ended".into())),
            }
        })
    }

    /// The same for what reads alone: there is nothing of which the outcome could be unknown.
    fn read<T, F, W>(&self, work: W) -> BoxFuture<'static, Result<T, StoreError>>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Failed>> + Send + 'static,
        W: FnOnce(Arc<PgStore>) -> F,
    {
        let running = self.run(work);
        Box::pin(async move {
            running.await.map_err(|error| match error {
                StoreError::Unknown => StoreError::Timeout,
                known => known,
            })
        })
    }

    /// The same for what takes as long as there are users, or rows of the audit: no login waits for it, and its statements alone have
    /// a limit.
    fn aside<T, F, W>(&self, work: W) -> BoxFuture<'static, Result<T, StoreError>>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Failed>> + Send + 'static,
        W: FnOnce(Arc<PgStore>) -> F,
    {
        let task = tokio::spawn(work(Arc::clone(&self.0)));
        Box::pin(async move {
            let ended = |_| StoreError::Unavailable("the work on the store ended".into());
            Ok(task.await.map_err(ended)??)
        })
    }

    /// The same for one or several statements that read one moment, and need names.
    fn look<T, F, W>(&self, work: W) -> BoxFuture<'static, Result<T, StoreError>>
    where
        T: Send + 'static,
        F: Future<Output = Result<(T, Look), Failed>> + Send + 'static,
        W: FnOnce(Look) -> F + Send + 'static,
    {
        self.read(move |store| async move {
            let look = store.view().await?;
            let (told, look) = work(look).await?;
            look.pipe.run("COMMIT", &[]).await?;
            look.pipe.finish();
            Ok(told)
        })
    }
}

impl PgStore {
    /// Nothing is asked yet.
    fn connect(settings: Settings) -> Result<Self, StoreError> {
        let Settings { address, connections, timeout, audit_key, key, reads } = settings;
        Ok(Self {
            pool: connect::pool(address, connections, timeout)?,
            timeout,
            sealer: Sealer::new(audit_key.as_ref()),
            secrets: erased::Safe::new(&key)?,
            reads,
            live: RwLock::default(),
            standing: std::sync::Mutex::default(),
            queues: (0..QUEUES).map(|_| Arc::default()).collect(),
            following: ArcSwap::default(),
            probed: Mutex::default(),
        })
    }

    async fn pipe(&self) -> Result<Pipe, Failed> {
        match self.pool.get().await {
            Ok(object) => Ok(Pipe::new(object)),
            Err(deadpool_postgres::PoolError::Timeout(_)) => Err(Failed::Store(StoreError::Timeout)),
            Err(deadpool_postgres::PoolError::Backend(error)) => Err(connect::refused(&error)),
            Err(_) => Err(Failed::Store(StoreError::Unavailable("no connection to the database is to be had".into()))),
        }
    }

    /// What begins a transaction, with its limits.
    fn begin(&self, how: &'static str) -> Vec<Statement> {
        // Under the caller's own limit, so that the server decides and tells.
        begin(how, self.timeout * 9 / 10)
    }

    /// The database as it is at one moment.
    async fn view(&self) -> Result<Look, Failed> {
        self.view_within(self.timeout * 9 / 10).await
    }

    /// The same, where each statement may take so long.
    async fn view_within(&self, limit: Duration) -> Result<Look, Failed> {
        let pipe = self.pipe().await?;
        let mut statements = begin("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", limit);
        statements.push(Statement { text: "SELECT generation FROM loginsync.rules".into(), values: Vec::new() });
        let told = pipe.all(&statements).await?;
        let generation = told.last().and_then(|rows| rows.first()).map_or(Ok(0), |row| get(row, 0))?;
        let live = self.live_of(&pipe, generation).await?;
        Ok(Look { pipe, live })
    }

    fn standing(&self) -> std::sync::MutexGuard<'_, replicas::Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn round(&self) -> i64 {
        self.following.load().round
    }

    fn live(&self) -> Arc<(i64, Live)> {
        Arc::clone(&self.live.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Names and work of a generation: as they are known, or else as the connection reads them now.
    async fn live_of(&self, pipe: &Pipe, generation: i64) -> Result<Arc<(i64, Live)>, Failed> {
        let known = self.live();
        match known.0 == generation {
            true => Ok(known),
            false => self.refresh(pipe).await,
        }
    }

    async fn refresh(&self, pipe: &Pipe) -> Result<Arc<(i64, Live)>, Failed> {
        let live = Arc::new(records::live(pipe, self.reads).await?);
        let mut known = self.live.write().unwrap_or_else(PoisonError::into_inner);
        // What was read later is kept.
        if known.0 < live.0 {
            *known = Arc::clone(&live);
        }
        Ok(live)
    }

    /// Waits until no other login of these users is served by this process. One that waits holds no connection.
    async fn queue(&self, users: &[UserId]) -> Vec<OwnedMutexGuard<()>> {
        let of = |user: &UserId| {
            let mut hasher = DefaultHasher::new();
            (user.namespace.as_str(), user.subject.as_str()).hash(&mut hasher);
            usize::try_from(hasher.finish() % QUEUES as u64).unwrap_or_default()
        };
        let places: BTreeSet<usize> = users.iter().map(of).collect();
        let mut held = Vec::with_capacity(places.len());
        for queue in places.into_iter().filter_map(|place| self.queues.get(place)) {
            held.push(Arc::clone(queue).lock_owned().await);
        }
        held
    }

    /// One transaction of statements that are known beforehand.
    async fn write(&self, statements: Vec<Statement>) -> Result<(), Failed> {
        let pipe = self.pipe().await?;
        let mut all = self.begin("BEGIN");
        all.extend(statements);
        all.push(Statement { text: "COMMIT".into(), values: Vec::new() });
        pipe.all(&all).await?;
        pipe.finish();
        Ok(())
    }

    async fn probe(&self) -> Result<(), Failed> {
        self.write(vec![Statement {
            text: "INSERT INTO loginsync.settings (name, value) VALUES ('probe', $1)
                   ON CONFLICT (name) DO UPDATE SET value = excluded.value"
                .into(),
            values: values![vec![0_u8; 32]],
        }])
        .await
    }

    /// A secret that the database keeps sealed, made at the first need.
    async fn secret(&self, pipe: &Pipe, name: &str, make: Make) -> Result<Vec<u8>, Failed> {
        const KEPT: &str = "SELECT value FROM loginsync.settings WHERE name = $1";
        if pipe.row(KEPT, &values![name]).await?.is_none() {
            let sealed = self.secrets.seal(name, &made(make())?)?;
            // Another replica may be faster: its secret counts.
            pipe.run(
                "INSERT INTO loginsync.settings (name, value) VALUES ($1, $2) ON CONFLICT DO NOTHING",
                &values![name, sealed],
            )
            .await?;
        }
        let row = pipe.row(KEPT, &values![name]).await?;
        let row =
            row.ok_or_else(|| StoreError::Unavailable(format!("the secret `{name}` is gone from the database")))?;
        Ok(self.secrets.open(name, get(&row, 0)?)?)
    }
}

/// What begins a transaction, each of whose statements may take so long.
fn begin(how: &'static str, limit: Duration) -> Vec<Statement> {
    let limits = "SELECT set_config('lock_timeout', $1, true), set_config('statement_timeout', $1, true),
                         set_config('idle_in_transaction_session_timeout', $1, true)";
    vec![
        Statement { text: how.into(), values: Vec::new() },
        Statement { text: limits.into(), values: values![limit.as_millis().max(1).to_string()] },
    ]
}

impl From<Shared> for Store {
    fn from(store: Shared) -> Self {
        Self::new(Arc::new(store))
    }
}

impl Users for Shared {
    fn transact(&self, ask: Ask, step: Step) -> BoxFuture<'_, Result<(), StoreError>> {
        let in_doubt = Arc::<AtomicBool>::default();
        let doubts = Arc::clone(&in_doubt);
        let running = self.run(move |store| async move { users::transact(&store, ask, step, &doubts).await });
        Box::pin(async move {
            running.await.map_err(|error| match error {
                _ if in_doubt.load(Ordering::Relaxed) => StoreError::Unknown,
                StoreError::Unknown => StoreError::Timeout,
                known => known,
            })
        })
    }

    fn preview(&self, ask: Ask, step: Step) -> BoxFuture<'_, Result<(), StoreError>> {
        self.read(move |store| async move { users::preview(&store, ask, step).await })
    }

    fn user(&self, user: UserId) -> BoxFuture<'_, Result<Option<Known>, StoreError>> {
        self.look(move |look| async move { Ok((look.user(&user).await?, look)) })
    }

    fn numbered(&self, number: i64) -> BoxFuture<'_, Result<Option<Known>, StoreError>> {
        self.look(move |look| async move { Ok((look.known(&[number]).await?.pop(), look)) })
    }

    fn page(&self, after: i64, limit: usize) -> BoxFuture<'_, Result<Vec<Known>, StoreError>> {
        self.look(move |look| async move { Ok((look.page(after, limit).await?, look)) })
    }

    fn through(&self, through: Through, after: i64, limit: usize) -> BoxFuture<'_, Result<Vec<Known>, StoreError>> {
        self.look(move |look| async move { Ok((look.through(&through, after, limit).await?, look)) })
    }

    fn keys(
        &self,
        of: Option<Target>,
        after: Option<UserId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<UserId>, StoreError>> {
        self.look(move |look| async move { Ok((look.keys(of.as_ref(), after.as_ref(), limit).await?, look)) })
    }

    fn find(&self, search: Search) -> BoxFuture<'_, Result<Found, StoreError>> {
        self.look(move |look| async move { Ok((find::find(&look, &search).await?, look)) })
    }

    fn count(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.look(move |look| async move { Ok((look.users().await?, look)) })
    }

    fn work(&self) -> BoxFuture<'_, Result<Vec<(i64, Work)>, StoreError>> {
        self.look(move |look| async move {
            let work = look.live.1.work.iter().map(|(number, work)| (*number, Work::clone(work))).collect();
            Ok((work, look))
        })
    }

    fn check(&self, repair: bool) -> BoxFuture<'_, Result<Vec<String>, StoreError>> {
        self.aside(move |store| async move { check::check(&store, repair).await })
    }
}

impl Journal for Shared {
    fn rows(&self, after: i64, limit: usize) -> BoxFuture<'_, Result<Vec<AuditRow>, StoreError>> {
        self.read(move |store| async move { audit::rows(&store, after, limit).await })
    }

    fn of_login(&self, login: String) -> BoxFuture<'_, Result<Option<AuditRow>, StoreError>> {
        self.read(move |store| async move { audit::of_login(&store, &login).await })
    }

    fn about(&self, number: i64) -> BoxFuture<'_, Result<Vec<AuditRow>, StoreError>> {
        self.read(move |store| async move { audit::about(&store, number).await })
    }

    fn head(&self) -> BoxFuture<'_, Result<Option<(i64, String)>, StoreError>> {
        self.read(move |store| async move { audit::head(&store).await })
    }

    fn latest_about(&self, number: i64, limit: usize) -> BoxFuture<'_, Result<Vec<AuditRow>, StoreError>> {
        self.read(move |store| async move { audit::latest_about(&store, number, limit).await })
    }

    fn verify(&self, walked: Arc<AtomicU64>) -> BoxFuture<'_, Result<ChainReport, StoreError>> {
        self.aside(move |store| async move { audit::verify(&store, &walked).await })
    }

    fn accept_unkeyed(&self, by: String, now: Timestamp) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.aside(move |store| async move { audit::accept_unkeyed(&store, &by, now).await })
    }
}

impl Upkeep for Shared {
    fn secret(&self, name: &'static str, make: Make) -> BoxFuture<'_, Result<Vec<u8>, StoreError>> {
        self.run(move |store| async move {
            let pipe = store.pipe().await?;
            let secret = store.secret(&pipe, name, make).await?;
            pipe.finish();
            Ok(secret)
        })
    }

    fn settle(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.aside(move |store| async move { audit::settle(&store).await })
    }

    fn ready(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.read(move |store| async move {
            // Those who ask at once share one look.
            let mut probed = store.probed.lock().await;
            if let Some((at, found)) = &*probed
                && at.elapsed() < READY
            {
                return Ok(found.clone()?);
            }
            let fault = store.standing().fault();
            let found = match fault {
                Some(fault) => Err(fault),
                None => store.probe().await.map_err(StoreError::from),
            };
            *probed = Some((Instant::now(), found.clone()));
            Ok(found?)
        })
    }
}

impl Sessions for Shared {
    fn begin(&self, session: NewSession) -> BoxFuture<'_, Result<bool, StoreError>> {
        self.run(move |store| async move { sessions::begin(&store, &session).await })
    }

    fn find(
        &self,
        key: Digest,
        rules: Arc<RuleSet>,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<Option<port::Session>, StoreError>> {
        self.look(move |look| async move { Ok((sessions::find(&look, key, &rules, now).await?, look)) })
    }

    fn extend(&self, key: Digest, seen_at: Timestamp, idle_until: Timestamp) -> BoxFuture<'_, Result<(), StoreError>> {
        self.run(move |store| async move { sessions::extend(&store, key, seen_at, idle_until).await })
    }

    fn renewed(
        &self,
        key: Digest,
        refresh: Option<Vec<u8>>,
        synced_at: Timestamp,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        self.run(move |store| async move { sessions::renewed(&store, key, refresh, synced_at).await })
    }

    fn renamed(&self, key: Digest, at_provider: String) -> BoxFuture<'_, Result<(), StoreError>> {
        self.run(move |store| async move { sessions::renamed(&store, key, at_provider).await })
    }

    fn end(&self, key: Digest) -> BoxFuture<'_, Result<bool, StoreError>> {
        self.run(move |store| async move { sessions::end(&store, key).await })
    }

    fn log_out(&self, logout: Logout) -> BoxFuture<'_, Result<LoggedOut, StoreError>> {
        self.run(move |store| async move { sessions::log_out(&store, &logout).await })
    }

    fn of_user(&self, user: UserId, now: Timestamp) -> BoxFuture<'_, Result<Vec<Digest>, StoreError>> {
        self.read(move |store| async move { sessions::of_user(&store, &user, now).await })
    }

    fn list(&self, user: UserId) -> BoxFuture<'_, Result<Vec<port::SessionView>, StoreError>> {
        self.read(move |store| async move { sessions::list(&store, &user).await })
    }
}

impl ConsoleSessions for Shared {
    fn add(&self, sign_in: SignIn) -> BoxFuture<'_, Result<(), StoreError>> {
        self.run(move |store| async move { console::add(&store, &sign_in).await })
    }

    fn spend(&self, link: Digest, now: Timestamp) -> BoxFuture<'_, Result<Option<SignIn>, StoreError>> {
        self.run(move |store| async move { console::spend(&store, link, now).await })
    }

    fn session(&self, key: Digest, now: Timestamp) -> BoxFuture<'_, Result<Option<SignIn>, StoreError>> {
        self.read(move |store| async move { console::session(&store, key, now).await })
    }

    fn extend(&self, key: Digest, idle_until: Timestamp) -> BoxFuture<'_, Result<(), StoreError>> {
        self.run(move |store| async move { console::extend(&store, key, idle_until).await })
    }

    fn end(&self, key: Option<Digest>) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.run(move |store| async move { console::end(&store, key).await })
    }

    fn list(&self, now: Timestamp) -> BoxFuture<'_, Result<Vec<SignIn>, StoreError>> {
        self.read(move |store| async move { console::list(&store, now).await })
    }
}
