//! Wiring: the one place that picks a concrete store, key source and clock, and puts them under the listeners.

mod delivery;
mod descriptors;
mod replicas;
mod store;

use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use self::delivery::Deliveries;
pub use self::delivery::receiver_of;
use self::replicas::Place;
pub use self::store::{
    Opened, looked_at, migrate, named, open, open_if_there, open_restored, rules_to_act, rules_with_store, side,
};
use crate::clock::Clock;
use crate::config::{Config, Secret};
use crate::login::Services;
use crate::login::outcome::{Observer, Outcomes};
use crate::pipeline::ids::{ProviderName, Timestamp, UserId};
use crate::pipeline::mapping::definition::TextLimits;
use crate::pipeline::mapping::elsewhere::Elsewhere;
use crate::pipeline::mapping::stored::{Stored, merge};
use crate::pipeline::mapping::{Apply, IndexError, RuleSet};
use crate::pipeline::provider::Provider;
#[cfg(feature = "samael")]
use crate::pipeline::{provider::Protocol, verify::saml};
use crate::ports::BoxFuture;
use crate::ports::back_channel::http::HttpBackChannel;
use crate::ports::catalogue::{Catalogue, Revision};
use crate::ports::directory::graph::Graph;
use crate::ports::http::FetchError;
use crate::ports::keys::KeySource;
use crate::ports::keys::fetched::FetchedKeys;
use crate::ports::publish::followers::Followers;
use crate::ports::rules::Rules;
use crate::ports::sessions::Sessions;
use crate::ports::store::postgres::replicas::Following;
use crate::ports::store::{Adopted, Reaped, Store, StoreError};
use crate::serve::admin::service::{self, Draft, Refused, World};
use crate::serve::admin::{self, Change, Inspect};
use crate::serve::assertion::{self, Asserter, KeyError};
use crate::serve::door::Door;
use crate::serve::held::Budget;
use crate::serve::listen::{self, Drained, Tls, TlsError};
use crate::serve::proxy::counters::Counters;
use crate::serve::proxy::{Site, SiteError};
use crate::serve::relay::{self, Relay};
use crate::serve::relying_party::renewal::Renewed;
use crate::serve::respond::Trouble;
use crate::telemetry::meters::Meters;
use crate::telemetry::watchdog::Watchdog;

/// How often the configuration file is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How long a change of the configuration file must have settled: editors and volume mounts write in several steps.
const SETTLE: Duration = Duration::from_millis(300);
/// How many looks at the rules go by between two rounds of the reaper.
const REAP_INTERVAL: u32 = 60;
/// How often the head of the audit chain is logged, so that a chain cut off at its end shows.
const HEAD_INTERVAL: Duration = Duration::from_secs(60);

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
    #[error("the system gives no random bytes")]
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

/// What outlives a reload, and what a reload replaces.
struct Core {
    path: PathBuf,
    store: Arc<Store>,
    sessions: Arc<dyn Sessions>,
    catalogue: Arc<dyn Catalogue>,
    /// What the mapping APIs have made.
    stored: ArcSwap<Stored>,
    /// Among other sidecars.
    place: Place,
    rules: Arc<Rules>,
    clock: Clock,
    told: Told,
    counters: Arc<Counters>,
    registry: Arc<Registry>,
    verifiers: Arc<Semaphore>,
    site: Arc<ArcSwap<Site>>,
    /// Who hears of what changes.
    deliveries: Deliveries,
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

/// Starts everything that a configuration asks for. `observer` hears of every login.
///
/// # Errors
/// When a listener, the store or a certificate is not to be had.
pub async fn start(
    path: PathBuf,
    mut config: Config,
    clock: Clock,
    observer: Option<Arc<dyn Observer>>,
) -> Result<Running, StartError> {
    prepare_saml(&config)?;
    config.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    set_epoch(&mut config, 1);
    let Opened { store, catalogue, pulse, shared } = store::open_to_serve(&config).await?;
    let watchdog = Watchdog::new(&tokio::runtime::Handle::current().metrics(), pulse, config.store.timeout);
    let (sessions, store) = (store.sessions(), Arc::new(store));
    // Before rules are adopted, which may end what receivers were told.
    store.follow(&config.receiver_names()).await?;
    let mut registry = Registry::with_prefix("loginsync");
    let place = Place::new(shared, &mut registry);
    place.announce(&config.rules, clock.now()).await?;
    let beginning = begin(&config, &place, (&*catalogue, &store), clock.now());
    let (stored, merged) = match place.while_here(&clock, beginning).await {
        Ok(begun) => begun,
        Err(error) => {
            place.leave().await;
            return Err(error);
        }
    };
    let meters = Arc::new(Meters::default());
    let rules = Arc::new(Rules::new(merged, providers(&config)));
    let keys = Arc::new(FetchedKeys::start(&config.providers, &clock, None)?);
    let counters = Arc::new(Counters::default());
    let outcomes = Arc::new(Outcomes::new(observer));
    outcomes.remember(config.console.enabled);
    counters.register(&mut registry);
    outcomes.register(&mut registry);
    meters.register(&mut registry);
    let deliveries = Deliveries::new(delivery::receivers(&config, &store, &clock).await?, &mut registry);
    #[cfg(feature = "samael")]
    crate::telemetry::second_verifier::register(&mut registry);

    let proxy_listener = match &config.listen.socket {
        Some(path) => Door::socket(path).await.map_err(|why| StartError::Socket { path: path.clone(), why })?,
        None => Door::Tcp(bind(config.listen.address).await?),
    };
    let admin_listener = bind(config.admin.address).await?;
    let tls = config.listen.tls.as_ref().map(Tls::load).transpose()?.map(Arc::new);
    let admin_tls = config.admin.tls.as_ref().map(Tls::load).transpose()?.map(Arc::new);
    let verifiers = Arc::new(Semaphore::new(std::thread::available_parallelism().map_or(1, std::num::NonZero::get)));
    let relay_listener = match &config.relay {
        Some(relay) => Some(bind(relay.address).await?),
        None => None,
    };
    let told = Told { meters: Arc::clone(&meters), outcomes };
    let followers = Arc::new(deliveries.followers(&config, &store));
    let services = services(&config, &keys, &store, &rules, &clock, &told, (&verifiers, &followers))?;
    let relay = relay(&config, &services, &counters)?;
    let cookie_keys = cookie_keys(&config, &store).await?;
    let asserter = asserter(&config, &store).await?;
    let site = Site::new(&config, services, Arc::clone(&sessions), &cookie_keys, asserter, Arc::clone(&counters))?;
    let core = Arc::new(Core {
        path,
        store: Arc::clone(&store),
        sessions,
        catalogue,
        stored: ArcSwap::from(stored),
        place,
        rules: Arc::clone(&rules),
        clock,
        told,
        counters,
        registry: Arc::new(registry),
        verifiers,
        site: Arc::new(ArcSwap::from_pointee(site)),
        deliveries,
        tls,
        admin_tls,
        relay,
        current: Mutex::new(Current { config: Arc::new(config), keys }),
        reloading: tokio::sync::Mutex::new(()),
    });
    run(core, proxy_listener, admin_listener, relay_listener, watchdog)
}

/// Makes the rules of a configuration and of the store the current ones.
async fn begin(
    config: &Config,
    place: &Place,
    (catalogue, store): (&dyn Catalogue, &Store),
    now: Timestamp,
) -> Result<(Arc<Stored>, Arc<RuleSet>), StartError> {
    let (file, epoch) = (&config.rules, config.rules.epoch);
    let numbered = replicas::numbered(catalogue, store, file, now).await?;
    let (stored, elsewhere, followed) = match place.following().await? {
        Some(Following { revision, stored, elsewhere, files }) => {
            (Arc::new(stored), elsewhere, Some((revision, files)))
        }
        None => (numbered, Elsewhere::default(), None),
    };
    let merged = merged(file, &stored, Arc::new(elsewhere), epoch)?;
    warn_of_untold(config, &merged);
    let adopted = store.make_current(Arc::clone(&merged), now).await?;
    if let Some((revision, files)) = followed {
        place.follow(epoch, revision, files);
    }
    log_adopted(adopted);
    Ok((stored, merged))
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
        tokio::spawn(reload_on_change(Arc::clone(&core), until(stopping.clone()))),
        tokio::spawn(log_audit_head(Arc::clone(&core), until(stopping.clone()))),
        tokio::spawn(reap(Arc::clone(&core), until(stopping.clone()))),
        tokio::spawn(delivery::deliver(Arc::clone(&core), until(stopping.clone()))),
    ];
    if let (Some(listener), Some(RelayCore { relay, tls })) = (relay_listener, &core.relay) {
        let (relay, tls) = (Arc::clone(relay), tls.clone());
        tasks.push(tokio::spawn(relay::run(listener, relay, tls, until(stopping))));
    }
    let part = tokio::spawn(replicas::take_part(Arc::clone(&core)));
    let (store, rules) = (Arc::clone(&core.store), Arc::clone(&core.rules));
    Ok(Running { part, proxy, admin, relay, store, rules, core, stop, tasks })
}

impl Running {
    /// Loads the configuration again, and makes it the current one if it has no fault.
    pub async fn reload(&self) {
        self.core.reload().await;
    }

    /// Asks the provider again for every session of a user that can be renewed, and syncs what it says.
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
                tracing::error!(%error, "a task ended badly");
            }
        }
        // A renewal goes on without its browser, and by now the provider may have spent the refresh token that is kept here.
        let renewals = self.core.counters.lasting.renewals_end();
        if tokio::time::timeout_at(deadline, renewals).await.is_err() {
            tracing::warn!(
                "renewals of sessions were cut; where the provider had answered, these sessions end at the next one"
            );
        }
        self.part.abort();
        let _ = self.part.await;
        self.core.place.leave().await;
        log_head(&self.store).await;
        if let Err(error) = self.store.settle().await {
            tracing::warn!(%error, "the write-ahead log stays beside the database; copy both");
        }
    }
}

impl Core {
    /// The configuration file, and the certificate that it names.
    fn watched(&self) -> Vec<Option<(SystemTime, u64, u64)>> {
        let config = self.current().config;
        let relay = config.relay.as_ref().and_then(|relay| relay.tls.clone());
        let tls = [config.listen.tls.clone(), config.admin.tls.clone(), relay];
        let named = tls.into_iter().flatten().flat_map(|files| [files.certificate, files.key]);
        std::iter::once(self.path.clone()).chain(named).map(|path| signature(&path)).collect()
    }

    fn current(&self) -> Current {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn reload(&self) {
        let _alone = self.reloading.lock().await;
        let (path, now) = (self.path.clone(), self.clock.now());
        let loading = tokio::task::spawn_blocking(move || Config::load(&path, &|name| std::env::var(name).ok(), now));
        let config = match loading.await {
            Ok(Ok(config)) => config,
            Ok(Err(faults)) => {
                tracing::error!(%faults, "the configuration has faults; the one before stays");
                return;
            }
            Err(error) => {
                tracing::error!(%error, "the configuration could not be read; the one before stays");
                return;
            }
        };
        match self.adopt(config).await {
            Ok(()) => tracing::info!("configuration reloaded"),
            Err(error) => tracing::error!(%error, "the new configuration cannot be used; the one before stays"),
        }
    }

    /// Makes a checked configuration the current one. Whatever can fail comes before the first thing that changes, but a new
    /// certificate, which is good by itself.
    async fn adopt(&self, mut config: Config) -> Result<(), StartError> {
        let before = self.current();
        warn_of_fixed_settings(&before.config, &config);
        config.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        let epoch = self.rules.current().epoch + 1;
        set_epoch(&mut config, epoch);
        prepare_saml(&config)?;
        let keys = Arc::new(FetchedKeys::start(&config.providers, &self.clock, Some(&before.keys))?);
        let followers = Arc::new(self.deliveries.followers(&config, &self.store));
        let beside = (&self.verifiers, &followers);
        let services = services(&config, &keys, &self.store, &self.rules, &self.clock, &self.told, beside)?;
        let relay = Relay::new(&config, services.clone(), Arc::clone(&self.counters));
        let receivers = delivery::receivers(&config, &self.store, &self.clock).await?;
        let cookie_keys = cookie_keys(&config, &self.store).await?;
        let asserter = asserter(&config, &self.store).await?;
        let site = Site::new(
            &config,
            services,
            Arc::clone(&self.sessions),
            &cookie_keys,
            asserter,
            Arc::clone(&self.counters),
        )?;
        let relay_tls = self.relay.as_ref().and_then(|relay| relay.tls.as_ref());
        let relay_files = config.relay.as_ref().and_then(|relay| relay.tls.as_ref());
        let listeners = [
            (self.tls.as_ref(), config.listen.tls.as_ref()),
            (self.admin_tls.as_ref(), config.admin.tls.as_ref()),
            (relay_tls, relay_files),
        ];
        for (tls, files) in listeners {
            if let (Some(tls), Some(files)) = (tls, files) {
                tls.reload(files)?;
            }
        }
        let now = self.clock.now();
        // Of either: what the rules end is told to those who stay and to those who come.
        let (following, followed) = (config.receiver_names(), before.config.receiver_names());
        let begun = async {
            self.store.follow(&following.union(&followed).cloned().collect()).await?;
            self.place.announce(&config.rules, now).await?;
            begin(&config, &self.place, (&*self.catalogue, &self.store), now).await
        };
        let (stored, merged) = match begun.await {
            Ok(begun) => begun,
            Err(error) => {
                self.store.follow(&followed).await?;
                self.place.announce(&before.config.rules, now).await?;
                return Err(error);
            }
        };
        if let Err(error) = self.store.follow(&following).await {
            tracing::warn!(%error, "changes are still noted for receivers that are gone; the next reload ends that");
        }
        self.rules.replace(Arc::clone(&merged), providers(&config));
        self.deliveries.replace(receivers);
        self.stored.store(stored);
        self.told.meters.retain(&merged);
        self.told.outcomes.remember(config.console.enabled);
        self.site.store(Arc::new(site));
        if let Some(current) = &self.relay {
            let relay = relay.unwrap_or_else(|| current.relay.load().without_providers());
            current.relay.store(Arc::new(relay));
        }
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Current { config: Arc::new(config), keys };
        finish_work(&self.store).await;
        Ok(())
    }

    fn whole_world(&self) -> World {
        let config = self.current().config;
        World {
            file: Arc::clone(&config.rules),
            rules: self.rules.current(),
            stored: self.stored.load_full(),
            limits: TextLimits {
                claim_name: config.limits.claim_name,
                claim_value: config.limits.claim_value,
                delimiter: config.limits.delimiter,
            },
            most_mappings: config.limits.mappings,
            headers: config.headers.clone(),
            now: self.clock.now(),
        }
    }

    /// Plans a change on what there is, and makes it what logins are decided by. Concurrent calls wait.
    async fn revise(&self, change: Change) -> Result<(), Refused> {
        let _alone = self.reloading.lock().await;
        let world = self.whole_world();
        let (before, now) = (Arc::clone(&world.stored), world.now);
        let Draft { mut after, renamed, events, exempt } = (change.edit)(&world)?;
        after.generation = before.generation + 1;
        let after = Arc::new(after);
        let rules = merged(&world.file, &after, Arc::clone(&world.rules.elsewhere), world.rules.epoch + 1);
        let rules = rules.map_err(|why| Refused::Conflict(why.to_string()))?;
        let revision = Revision {
            before,
            after: Arc::clone(&after),
            renamed,
            rules: Some(Arc::clone(&rules)),
            confirmed: change.confirmed || exempt,
            client: Some(change.client),
            events,
            now,
        };
        let adopted = self.store.revise(revision).await?;
        self.rules.swap(Arc::clone(&rules));
        self.stored.store(after);
        self.told.meters.retain(&rules);
        log_adopted(adopted);
        finish_work(&self.store).await;
        Ok(())
    }
}

/// Writes down what a change of the rules has ended. It holds already, whether or not that works.
async fn finish_work(store: &Store) {
    if let Err(error) = store.finish_work().await {
        tracing::error!(%error, "failed to write down what changed rules have ended; retrying in one minute");
    }
}

/// What the APIs have made, where every group and role of the file has its number.
async fn numbered(
    catalogue: &dyn Catalogue,
    store: &Store,
    file: &RuleSet,
    now: Timestamp,
) -> Result<Arc<Stored>, StartError> {
    let before = Arc::new(catalogue.stored().await?);
    let mut after = Stored::clone(&before);
    let mut without = false;
    let fresh_key = || {
        service::random_key().unwrap_or_else(|| {
            without = true;
            String::new()
        })
    };
    if !after.number_declared(file, now, fresh_key) {
        return Ok(before);
    }
    if without {
        return Err(StartError::NoRandom);
    }
    after.generation += 1;
    let after = Arc::new(after);
    let revision = Revision {
        before,
        after: Arc::clone(&after),
        renamed: Vec::new(),
        rules: None,
        confirmed: false,
        client: None,
        events: Vec::new(),
        now,
    };
    store.revise(revision).await?;
    Ok(after)
}

/// The rules of the file and of the store, beside other files. Where those add nothing, a file's own that has this epoch already.
fn merged(
    file: &Arc<RuleSet>,
    stored: &Stored,
    elsewhere: Arc<Elsewhere>,
    epoch: u64,
) -> Result<Arc<RuleSet>, IndexError> {
    match stored.is_bare() && *elsewhere == Elsewhere::default() && file.epoch == epoch {
        true => Ok(Arc::clone(file)),
        false => merge(file, stored, elsewhere, epoch).map(Arc::new),
    }
}

impl Inspect for Arc<Core> {
    fn store(&self) -> Arc<Store> {
        Arc::clone(&self.store)
    }

    fn keys(&self) -> Arc<dyn KeySource> {
        self.current().keys
    }

    fn providers(&self) -> Vec<ProviderName> {
        self.current().config.providers.iter().map(|settings| settings.provider.name.clone()).collect()
    }

    fn rules(&self) -> Arc<RuleSet> {
        self.rules.current()
    }

    fn meters(&self) -> Arc<Meters> {
        Arc::clone(&self.told.meters)
    }

    fn outcomes(&self) -> Arc<Outcomes> {
        Arc::clone(&self.told.outcomes)
    }

    fn registry(&self) -> Arc<Registry> {
        Arc::clone(&self.registry)
    }

    fn held(&self) -> Arc<Budget> {
        Arc::clone(&self.counters.held)
    }

    fn config(&self) -> Arc<Config> {
        self.current().config
    }

    fn catalogue(&self) -> Arc<dyn Catalogue> {
        Arc::clone(&self.catalogue)
    }

    fn stored(&self) -> Arc<Stored> {
        self.stored.load_full()
    }

    fn file_rules(&self) -> Arc<RuleSet> {
        Arc::clone(&self.current().config.rules)
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn world(&self) -> World {
        self.whole_world()
    }

    fn resync(&self, user: UserId) -> BoxFuture<'_, Result<Vec<Renewed>, Trouble>> {
        Box::pin(async move { self.site.load_full().resync(user).await })
    }

    fn change(&self, change: Change) -> BoxFuture<'_, Result<(), Refused>> {
        // A caller that goes away must not leave the store with rules that logins never hear of.
        let core = Self::clone(self);
        Box::pin(async move {
            let revising = tokio::spawn(async move { core.revise(change).await });
            revising.await.unwrap_or_else(|error| Err(Refused::Store(StoreError::Unavailable(error.to_string()))))
        })
    }
}

/// Shows at once, not at the first login, that the second verifier can be used. Without SAML it is never loaded.
#[cfg(feature = "samael")]
fn prepare_saml(config: &Config) -> Result<(), StartError> {
    let needed = config.providers.iter().any(|settings| matches!(settings.provider.protocol, Protocol::Saml(_)));
    if needed {
        saml::lock_down()?;
        tracing::info!(
            not_judged = "RSA-PSS, and responses signed by two keys",
            "a second verifier (libxmlsec1) checks SAML signatures too"
        );
    }
    Ok(())
}

/// This build has one verifier, and nothing to prepare for it.
#[cfg(not(feature = "samael"))]
fn prepare_saml(_: &Config) -> Result<(), StartError> {
    Ok(())
}

fn providers(config: &Config) -> Vec<Arc<Provider>> {
    config.providers.iter().map(|settings| Arc::clone(&settings.provider)).collect()
}

fn set_epoch(config: &mut Config, epoch: u64) {
    // The rules of a configuration that was just loaded are not shared yet.
    if let Some(rules) = Arc::get_mut(&mut config.rules) {
        rules.epoch = epoch;
    }
}

fn relay(config: &Config, services: &Services, counters: &Arc<Counters>) -> Result<Option<RelayCore>, StartError> {
    let Some(relay) = Relay::new(config, services.clone(), Arc::clone(counters)) else { return Ok(None) };
    let files = config.relay.as_ref().and_then(|relay| relay.tls.as_ref());
    let tls = files.map(Tls::load).transpose()?.map(Arc::new);
    Ok(Some(RelayCore { relay: Arc::new(ArcSwap::from_pointee(relay)), tls }))
}

fn services(
    config: &Config,
    keys: &Arc<FetchedKeys>,
    store: &Arc<Store>,
    rules: &Arc<Rules>,
    clock: &Clock,
    told: &Told,
    (verifiers, followers): (&Arc<Semaphore>, &Arc<Followers>),
) -> Result<Services, FetchError> {
    let keys: Arc<dyn KeySource> = Arc::<FetchedKeys>::clone(keys);
    Ok(Services {
        back_channel: Arc::new(HttpBackChannel::new(&config.providers, Arc::clone(&keys))?),
        directory: Arc::new(Graph::new(&config.providers, clock)?),
        keys,
        store: Arc::clone(store),
        rules: Arc::clone(rules),
        clock: clock.clone(),
        meters: Arc::clone(&told.meters),
        outcomes: Arc::clone(&told.outcomes),
        verifiers: Arc::clone(verifiers),
        followers: Arc::clone(followers),
    })
}

async fn bind(address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|why| StartError::Listen { address, why })
}

/// The keys of the configuration, else those that the store keeps.
async fn cookie_keys(config: &Config, store: &Store) -> Result<Vec<Secret>, StoreError> {
    match &config.cookie_keys {
        Some(keys) => Ok(keys.clone()),
        None => Ok(vec![Secret::new(store.cookie_keys().await?)]),
    }
}

/// What signs assertions, by the key of the configuration, else by the one that the store keeps.
async fn asserter(config: &Config, store: &Store) -> Result<Option<Asserter>, StartError> {
    let Some(settings) = &config.assertion else { return Ok(None) };
    let key = match &settings.key {
        Some(key) => key.clone(),
        None => {
            let make = || assertion::fresh_key().map(|key| key.expose().to_vec());
            Secret::new(store.assertion_key(make).await?)
        }
    };
    Ok(Some(Asserter::new(settings, &key, &config.public_url, config.headers.max_bytes)?))
}

/// Listeners and the store are opened once.
fn warn_of_fixed_settings(before: &Config, after: &Config) {
    let fixed = [
        (
            "listen.address",
            (before.listen.address, &before.listen.socket) != (after.listen.address, &after.listen.socket),
        ),
        ("listen.tls_certificate", before.listen.tls.is_some() != after.listen.tls.is_some()),
        (
            "relay",
            before.relay.as_ref().map(|relay| (relay.address, relay.tls.is_some()))
                != after.relay.as_ref().map(|relay| (relay.address, relay.tls.is_some())),
        ),
        ("admin.tls_certificate", before.admin.tls.is_some() != after.admin.tls.is_some()),
        ("admin.address", before.admin.address != after.admin.address),
        ("store", before.store != after.store),
        ("audit", before.audit_key != after.audit_key),
    ];
    for (key, _) in fixed.into_iter().filter(|(_, changed)| *changed) {
        tracing::warn!(key, "this key takes effect at the next start");
    }
}

/// Names that the headers cannot carry. In the file they are faults; the store may have them from before.
fn warn_of_untold(config: &Config, rules: &RuleSet) {
    for (name, why) in config.headers.untold(rules) {
        tracing::warn!("{name} is not told to the app: it {why}");
    }
}

fn log_adopted(adopted: Adopted) {
    if adopted.privileged_grants > 0 {
        tracing::warn!(
            grants = adopted.privileged_grants,
            "groups or roles became privileged: grants of them that were not made with scope `admin` ended"
        );
    }
    if adopted.ended_mappings > 0 {
        tracing::info!(
            mappings = adopted.ended_mappings,
            grants = adopted.ended_grants,
            "mappings that the configuration no longer has ended, with their grants"
        );
    }
}

/// Resolves when the channel says so, or its sender is gone.
async fn until(mut stopping: watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stop| *stop).await;
}

async fn serve_proxy(listener: Door, core: Arc<Core>, shutdown: impl Future<Output = ()>) {
    match listen::run(listener, Arc::clone(&core.site), core.tls.clone(), shutdown).await {
        Drained::Clean => {}
        Drained::Cut(connections) => tracing::warn!(connections, "cut off, since they did not end in time"),
    }
}

/// What tells that a file was written or replaced: editors, ConfigMaps and secrets do the latter.
fn signature(path: &Path) -> Option<(SystemTime, u64, u64)> {
    let found = std::fs::metadata(path).ok()?;
    Some((found.modified().ok()?, found.len(), found.ino()))
}

/// Looks at a few files once a second. Being told of changes would mean being told of every write to a database that lives
/// in the same folder, which costs a login more than its verification.
async fn reload_on_change(core: Arc<Core>, shutdown: impl Future<Output = ()>) {
    let reload = async {
        let mut seen = core.watched();
        loop {
            tokio::time::sleep(LOOK).await;
            let mut found = core.watched();
            if found == seen {
                continue;
            }
            // A program that writes in several steps has time to finish.
            loop {
                tokio::time::sleep(SETTLE).await;
                let settled = core.watched();
                if settled == found {
                    break;
                }
                found = settled;
            }
            core.reload().await;
            seen = core.watched();
        }
    };
    tokio::select! {
        () = reload => {}
        () = shutdown => {}
    }
}

async fn log_audit_head(core: Arc<Core>, shutdown: impl Future<Output = ()>) {
    let heads = async {
        loop {
            tokio::time::sleep(HEAD_INTERVAL).await;
            log_head(&core.store).await;
        }
    };
    tokio::select! {
        () = heads => {}
        () = shutdown => {}
    }
}

/// Ends expired leases and denies, and plans everyone anew where the rules changed and `sync.apply` is `now`. One after the other, so that
/// logins find the store free in between.
async fn reap(core: Arc<Core>, shutdown: impl Future<Output = ()>) {
    let rounds = async {
        loop {
            let (rules, leads) = (core.rules.current(), core.place.leads());
            if leads {
                reap_all(&core, &rules).await;
            }
            if leads && rules.sync.apply == Apply::Now {
                replan_all(&core, &rules).await;
            }
            // A reload is looked for often, since `now` means it; expiry can wait as long as an operator's patience.
            for _ in 0..REAP_INTERVAL {
                tokio::time::sleep(LOOK).await;
                if !Arc::ptr_eq(&core.rules.current(), &rules) || core.place.leads() != leads {
                    break;
                }
            }
        }
    };
    tokio::select! {
        () = rounds => {}
        () = shutdown => {}
    }
}

async fn reap_all(core: &Core, rules: &Arc<RuleSet>) {
    loop {
        match core.store.reap(Arc::clone(rules), core.clock.now()).await {
            Ok(reaped) if reaped == Reaped::default() => return,
            Ok(reaped) => {
                tracing::info!(
                    leases = reaped.leases,
                    denies = reaped.denies,
                    expired = reaped.expired,
                    "leases, denies and mappings that were due have ended"
                );
                if reaped.leases == 0 {
                    return;
                }
            }
            Err(error) => {
                return tracing::error!(%error, "failed to expire due leases and denies; retrying in one minute");
            }
        }
    }
}

async fn replan_all(core: &Core, rules: &Arc<RuleSet>) {
    let (mut after, mut changed) = (None, 0);
    loop {
        match core.store.replan(Arc::clone(rules), after, None, core.clock.now()).await {
            Ok(replanned) => {
                changed += replanned.changed;
                after = replanned.next;
            }
            Err(error) => {
                return tracing::error!(%error, "users could not be planned anew; it is tried again in a minute");
            }
        }
        // Newer rules plan everyone again.
        if after.is_none() || !Arc::ptr_eq(&core.rules.current(), rules) {
            break;
        }
    }
    if changed > 0 {
        tracing::info!(changed, "users were planned anew by the changed rules");
    }
}

async fn log_head(store: &Store) {
    match store.audit_head().await {
        Ok(Some((sequence, seal))) => tracing::info!(sequence, seal, "head of the audit chain"),
        Ok(None) => {}
        Err(error) => tracing::error!(%error, "the head of the audit chain cannot be read"),
    }
}
