//! Wiring: the one place that picks a concrete store, key source and clock, and puts them under the listeners.

mod assemble;
mod background;
mod delivery;
mod descriptors;
mod inspect;
mod place;
mod reload;
mod replicas;
mod rules;
mod store;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use self::assemble::{Assembled, Parts, providers};
use self::delivery::Deliveries;
pub use self::delivery::receiver_of;
use self::place::Place;
pub use self::store::{
    Opened, looked_at, migrate, named, open, open_if_there, open_restored, rules_to_act, rules_to_explain,
    rules_with_store, side,
};
use crate::clock::Clock;
use crate::config::Config;
use crate::login::outcome::{Observer, Outcomes};
use crate::pipeline::ids::UserId;
use crate::pipeline::mapping::IndexError;
use crate::pipeline::mapping::stored::Stored;
#[cfg(feature = "samael")]
use crate::pipeline::verify::saml;
use crate::ports::http::FetchError;
use crate::ports::keys::fetched::FetchedKeys;
use crate::ports::rules::Rules;
use crate::ports::store::{Store, StoreError};
use crate::serve::admin::{self, Inspect};
use crate::serve::assertion::KeyError;
use crate::serve::counters::Counters;
use crate::serve::door::Door;
use crate::serve::listen::{self, Drained};
use crate::serve::proxy::{Site, SiteError};
use crate::serve::relay::{self, Relay};
use crate::serve::relying_party::renewal::Renewed;
use crate::serve::respond::Trouble;
use crate::serve::tls::{Tls, TlsError};
use crate::telemetry::meters::Meters;
use crate::telemetry::watchdog::Watchdog;

/// Why loginsync does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot listen on {address}: {why}")]
    Listen { address: SocketAddr, why: std::io::Error },
    #[error("cannot listen on unix:{}: {why}", path.display())]
    Socket { path: PathBuf, why: std::io::Error },
    #[error("the store: {0}")]
    Store(#[from] StoreError),
    #[error(transparent)]
    Keys(#[from] FetchError),
    #[cfg(feature = "samael")]
    #[error(transparent)]
    Saml(#[from] saml::LockDownFailed),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Site(#[from] SiteError),
    #[error(transparent)]
    Assertion(#[from] KeyError),
    #[error(transparent)]
    Index(#[from] IndexError),
    #[error("the operating system returned no random bytes")]
    NoRandom,
    #[error("cannot watch for signals: {0}")]
    Signals(std::io::Error),
}

/// A proxy that runs.
pub struct Running {
    /// Unspecified where the proxy listens on a socket of this machine.
    pub proxy: SocketAddr,
    pub admin: SocketAddr,
    pub relay: Option<SocketAddr>,
    pub store: Arc<Store>,
    pub rules: Arc<Rules>,
    core: Arc<Core>,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
    /// Among other sidecars, until requests under way have finished.
    part: JoinHandle<()>,
}

/// A configuration as it is served, and the parts that outlive it.
struct Core {
    path: PathBuf,
    parts: Parts,
    /// What the mapping APIs have made.
    stored: ArcSwap<Stored>,
    registry: Arc<Registry>,
    site: Arc<ArcSwap<Site>>,
    tls: Option<Arc<Tls>>,
    admin_tls: Option<Arc<Tls>>,
    relay: Option<RelayCore>,
    current: Mutex<Current>,
    /// One reload, or one change through the APIs, at a time.
    reloading: tokio::sync::Mutex<()>,
}

/// What logins are counted in.
struct Told {
    meters: Arc<Meters>,
    outcomes: Arc<Outcomes>,
}

/// What answers the app at the back channel.
struct RelayCore {
    relay: Arc<ArcSwap<Relay>>,
    tls: Option<Arc<Tls>>,
}

#[derive(Clone)]
struct Current {
    config: Arc<Config>,
    keys: Arc<FetchedKeys>,
}

/// A runtime for as many cores as this process may use. One core needs no threads that hand work to each other.
///
/// # Errors
/// When the system gives no threads.
pub fn runtime() -> std::io::Result<Runtime> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut builder = match cores {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    builder.enable_all().build()
}

/// Runs until SIGTERM or SIGINT, then lets requests under way finish. SIGHUP, like a change of the file, reloads.
///
/// # Errors
/// When it cannot start.
pub async fn serve(path: PathBuf, config: Config) -> Result<(), StartError> {
    let mut hangup = signal(SignalKind::hangup()).map_err(StartError::Signals)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(StartError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(StartError::Signals)?;
    descriptors::raise(&config);
    let socket = config.listen.socket.clone();
    let running = start(path, config, Clock::system(), None).await?;
    let proxy = socket.map_or_else(|| running.proxy.to_string(), |path| format!("unix:{}", path.display()));
    tracing::info!(proxy, admin = %running.admin, version = env!("CARGO_PKG_VERSION"), "listening");
    loop {
        tokio::select! {
            _ = hangup.recv() => running.reload().await,
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    tracing::info!("stopping; requests under way may finish");
    running.stop().await;
    Ok(())
}

/// Starts everything that a configuration asks for. `observer` gets every login.
///
/// # Errors
/// When a listener, the store or a certificate is not to be had.
pub async fn start(
    path: PathBuf,
    mut config: Config,
    clock: Clock,
    observer: Option<Arc<dyn Observer>>,
) -> Result<Running, StartError> {
    config.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    set_epoch(&mut config, 1);
    let Opened { store, catalogue, pulse, shared } = store::open_to_serve(&config).await?;
    let watchdog = Watchdog::new(&tokio::runtime::Handle::current().metrics(), pulse, config.store.timeout);
    let mut registry = Registry::with_prefix("loginsync");
    let told = Told { meters: Arc::new(Meters::default()), outcomes: Arc::new(Outcomes::new(observer)) };
    told.outcomes.remember(config.console.enabled);
    let counters = Arc::new(Counters::default());
    let place = Place::new(shared, &mut registry);
    counters.register(&mut registry);
    told.outcomes.register(&mut registry);
    told.meters.register(&mut registry);
    let deliveries = Deliveries::new(&mut registry);
    #[cfg(feature = "samael")]
    crate::telemetry::second_verifier::register(&mut registry);
    let parts = Parts {
        sessions: store.sessions(),
        store: Arc::new(store),
        catalogue,
        rules: Arc::new(Rules::new(Arc::clone(&config.rules), providers(&config))),
        clock,
        told,
        counters,
        verifiers: Arc::new(Semaphore::new(std::thread::available_parallelism().map_or(1, std::num::NonZero::get))),
        place,
        deliveries,
    };

    let doors = Doors::open(&config).await?;
    let Assembled { keys, site, relay, receivers } = parts.assemble(&config, None).await?;
    parts.deliveries.replace(receivers);
    let stored = parts.start(&config).await?;
    let relay = relay.map(|relay| RelayCore { relay: Arc::new(ArcSwap::from_pointee(relay)), tls: doors.relay_tls });
    let core = Arc::new(Core {
        path,
        parts,
        stored: ArcSwap::from(stored),
        registry: Arc::new(registry),
        site: Arc::new(ArcSwap::from_pointee(site)),
        tls: doors.proxy_tls,
        admin_tls: doors.admin_tls,
        relay,
        current: Mutex::new(Current { config: Arc::new(config), keys }),
        reloading: tokio::sync::Mutex::new(()),
    });
    run(core, doors.proxy, doors.admin, doors.relay, watchdog)
}

/// The listeners that a configuration asks for, and the certificates that they show.
struct Doors {
    proxy: Door,
    proxy_tls: Option<Arc<Tls>>,
    admin: TcpListener,
    admin_tls: Option<Arc<Tls>>,
    relay: Option<TcpListener>,
    relay_tls: Option<Arc<Tls>>,
}

impl Doors {
    async fn open(config: &Config) -> Result<Self, StartError> {
        let load = |files: Option<&_>| files.map(Tls::load).transpose().map(|tls| tls.map(Arc::new));
        let relay = config.relay.as_ref();
        Ok(Self {
            proxy: match &config.listen.socket {
                Some(path) => Door::socket(path).await.map_err(|why| StartError::Socket { path: path.clone(), why })?,
                None => Door::Tcp(bind(config.listen.address).await?),
            },
            proxy_tls: load(config.listen.tls.as_ref())?,
            admin: bind(config.admin.address).await?,
            admin_tls: load(config.admin.tls.as_ref())?,
            relay: match relay {
                Some(relay) => Some(bind(relay.address).await?),
                None => None,
            },
            relay_tls: load(relay.and_then(|relay| relay.tls.as_ref()))?,
        })
    }
}

/// Puts the listeners and the background tasks to work.
fn run(
    core: Arc<Core>,
    proxy_listener: Door,
    admin_listener: TcpListener,
    relay_listener: Option<TcpListener>,
    watchdog: Watchdog,
) -> Result<Running, StartError> {
    let (stop, stopping) = watch::channel(false);
    let address =
        |listener: &TcpListener| listener.local_addr().unwrap_or_else(|_| SocketAddr::from(([0, 0, 0, 0], 0)));
    let proxy = match &proxy_listener {
        Door::Tcp(listener) => address(listener),
        Door::Socket(_) => SocketAddr::from(([0, 0, 0, 0], 0)),
    };
    let admin = address(&admin_listener);
    let relay = relay_listener.as_ref().map(address);
    let inspect: Arc<dyn Inspect> = Arc::new(Arc::clone(&core));
    let serving =
        admin::server::spawn(admin_listener, core.admin_tls.clone(), inspect, watchdog, until(stopping.clone()));
    let serving = serving.map_err(|why| StartError::Listen { address: admin, why })?;
    let mut tasks = vec![
        tokio::spawn(serve_proxy(proxy_listener, Arc::clone(&core), until(stopping.clone()))),
        tokio::spawn(serving),
        tokio::spawn(reload::reload_on_change(Arc::clone(&core), until(stopping.clone()))),
        tokio::spawn(background::log_audit_head(Arc::clone(&core), until(stopping.clone()))),
        tokio::spawn(background::reap(Arc::clone(&core), until(stopping.clone()))),
        tokio::spawn(delivery::deliver(Arc::clone(&core), until(stopping.clone()))),
    ];
    if let (Some(listener), Some(RelayCore { relay, tls })) = (relay_listener, &core.relay) {
        let (relay, tls) = (Arc::clone(relay), tls.clone());
        tasks.push(tokio::spawn(relay::run(listener, relay, tls, until(stopping))));
    }
    let part = tokio::spawn(replicas::take_part(Arc::clone(&core)));
    let (store, rules) = (Arc::clone(&core.parts.store), Arc::clone(&core.parts.rules));
    Ok(Running { part, proxy, admin, relay, store, rules, core, stop, tasks })
}

impl Running {
    /// Loads the configuration again, and makes it the current one if it has no fault.
    pub async fn reload(&self) {
        self.core.reload().await;
    }

    /// Asks the provider again for each renewable session of a user, and syncs the answers.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub async fn resync(&self, user: UserId) -> Result<Vec<Renewed>, Trouble> {
        self.core.site.load_full().resync(user).await
    }

    /// Takes no further connections, lets requests under way finish within `listen.drain_timeout`, and ends.
    pub async fn stop(self) {
        let drain = self.core.current().config.listen.drain_timeout;
        let deadline = tokio::time::Instant::now() + drain;
        let _ = self.stop.send(true);
        for task in self.tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "a task failed");
            }
        }
        // A renewal goes on without its browser, and by now the provider may have spent the refresh token that is kept here.
        let renewals = self.core.parts.counters.lasting.renewals_end();
        if tokio::time::timeout_at(deadline, renewals).await.is_err() {
            tracing::warn!(
                "cut off renewals of sessions; where the provider had already answered, the session ends at its next renewal"
            );
        }
        self.part.abort();
        let _ = self.part.await;
        self.core.parts.place.leave().await;
        background::log_head(&self.store).await;
        if let Err(error) = self.store.settle().await {
            tracing::warn!(%error, "the write-ahead log remains next to the database; copy both files");
        }
    }
}

fn set_epoch(config: &mut Config, epoch: u64) {
    // The rules of a configuration that was just loaded are not shared yet.
    if let Some(rules) = Arc::get_mut(&mut config.rules) {
        rules.epoch = epoch;
    }
}

async fn bind(address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|why| StartError::Listen { address, why })
}

/// Resolves when the channel says so, or its sender is gone.
async fn until(mut stopping: watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stop| *stop).await;
}

async fn serve_proxy(listener: Door, core: Arc<Core>, shutdown: impl Future<Output = ()>) {
    match listen::run(listener, Arc::clone(&core.site), core.tls.clone(), shutdown).await {
        Drained::Clean => {}
        Drained::Cut(connections) => tracing::warn!(connections, "cut off connections that did not end in time"),
    }
}
