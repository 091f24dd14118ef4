//! How the server is reached: over TLS, with a password that is read at every connection.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use tokio::task::JoinHandle;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres::{Client, Config, Error, NoTls, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::super::StoreError;
use super::pipe::Failed;
use crate::config::Secret;

/// Where the database is, and as whom to go there.
#[derive(Clone)]
pub struct Address {
    config: Config,
    password: Password,
    /// `None`: the connection does not leave the machine, or the URL says `sslmode=disable`.
    tls: Option<Arc<rustls::ClientConfig>>,
}

/// From where the password is.
#[derive(Clone)]
pub enum Password {
    /// In the URL, or none is needed.
    Told,
    /// Read at every connection, so that it can be changed.
    File(PathBuf),
    Fixed(Secret),
}

impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Address").field("hosts", &self.config.get_hosts()).finish_non_exhaustive()
    }
}

/// Why a URL names no database. It never repeats the URL, which may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAddress {
    #[error("is no URL of a database; expected `postgres://USER@HOST:5432/DATABASE`")]
    Url,
    #[error("names no host; expected `postgres://USER@HOST:5432/DATABASE`")]
    NoHost,
    #[error("names no user; expected `postgres://USER@HOST:5432/DATABASE`")]
    NoUser,
    #[error("names no database; expected `postgres://USER@HOST:5432/DATABASE`")]
    NoDatabase,
}

impl Address {
    /// Reads a URL. Without `sslmode=disable` a connection over the network is made over TLS or not at all; `tls` says whom to
    /// trust.
    ///
    /// # Errors
    /// When it is not one.
    pub fn parse(url: &str, password: Password, tls: rustls::ClientConfig) -> Result<Self, InvalidAddress> {
        let is_url = url.starts_with("postgres://") || url.starts_with("postgresql://");
        let mut config: Config = url.parse().ok().filter(|_| is_url).ok_or(InvalidAddress::Url)?;
        let hosts = config.get_hosts();
        match () {
            () if hosts.is_empty() => return Err(InvalidAddress::NoHost),
            () if config.get_user().is_none() => return Err(InvalidAddress::NoUser),
            () if config.get_dbname().is_none() => return Err(InvalidAddress::NoDatabase),
            () => {}
        }
        let is_here = hosts.iter().all(|host| matches!(host, Host::Unix(_)));
        let is_plain = is_here || config.get_ssl_mode() == SslMode::Disable;
        config.ssl_mode(if is_plain { SslMode::Disable } else { SslMode::Require });
        config.application_name("loginsync").keepalives(true).keepalives_idle(Duration::from_secs(15));
        Ok(Self { config, password, tls: (!is_plain).then(|| Arc::new(tls)) })
    }
}

impl Address {
    /// Where the database is, as people call it: without user and password.
    pub fn place(&self) -> String {
        let hosts = self.config.get_hosts().iter().enumerate().map(|(at, host)| {
            let name = match host {
                Host::Tcp(name) => name.clone(),
                Host::Unix(path) => path.display().to_string(),
            };
            let port = self.config.get_ports().get(at).or(self.config.get_ports().first());
            format!("{name}:{}", port.copied().unwrap_or(5432))
        });
        format!("postgres://{}/{}", hosts.collect::<Vec<_>>().join(","), self.config.get_dbname().unwrap_or_default())
    }
}

/// The way to the server that writes: one of the hosts that the URL names.
struct Route {
    /// For each host.
    hosts: Vec<Config>,
    /// The host that was connected to last. It is tried first, so that one that is gone costs time only once.
    last: AtomicUsize,
    /// For a host, where others are left to be tried.
    patience: Duration,
    address: Address,
}

impl Route {
    async fn password(&self) -> Option<zeroize::Zeroizing<Vec<u8>>> {
        match &self.address.password {
            Password::Told => None,
            // A file that is gone is a wrong password: the server says so.
            Password::File(path) => {
                let read = zeroize::Zeroizing::new(tokio::fs::read(path).await.unwrap_or_default());
                Some(zeroize::Zeroizing::new(read.trim_ascii_end().to_vec()))
            }
            Password::Fixed(secret) => Some(zeroize::Zeroizing::new(secret.expose().to_vec())),
        }
    }

    async fn connect_to(&self, host: &Config) -> Result<(Client, JoinHandle<()>), Error> {
        let mut config = host.clone();
        if let Some(password) = self.password().await {
            config.password(&*password);
        }
        Ok(match &self.address.tls {
            None => driven(config.connect(NoTls).await?),
            Some(tls) => driven(config.connect(MakeRustlsConnect::new(rustls::ClientConfig::clone(tls))).await?),
        })
    }

    /// A host that does not answer, or only reads, is passed over.
    async fn connect(&self) -> Result<(Client, JoinHandle<()>), Error> {
        let (last, count) = (self.last.load(Ordering::Relaxed), self.hosts.len());
        let mut found: Option<Error> = None;
        for tried in 1..=count {
            let at = (last + tried - 1) % count;
            let Some(host) = self.hosts.get(at) else { continue };
            let connecting = self.connect_to(host);
            let connected = match tried < count {
                true => match tokio::time::timeout(self.patience, connecting).await {
                    Ok(connected) => connected,
                    Err(_) => continue,
                },
                // The pool has a limit for all of them.
                false => connecting.await,
            };
            match connected {
                Ok(connected) => {
                    self.last.store(at, Ordering::Relaxed);
                    return Ok(connected);
                }
                // That a host only reads says more than that another does not answer.
                Err(error) if !found.as_ref().is_some_and(is_read_only) => found = Some(error),
                Err(_) => {}
            }
        }
        match found {
            Some(error) => Err(error),
            None => self.connect_to(&self.address.config).await,
        }
    }
}

impl deadpool_postgres::Connect for Route {
    fn connect(
        &self,
        _: &Config,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<(Client, JoinHandle<()>), Error>> + Send + '_>> {
        Box::pin(self.connect())
    }
}

/// The same with one of its hosts alone.
fn with_one_host(config: &Config, at: usize) -> Config {
    let mut one = Config::new();
    match config.get_hosts().get(at) {
        Some(Host::Tcp(name)) => drop(one.host(name)),
        Some(Host::Unix(path)) => drop(one.host_path(path)),
        None => {}
    }
    if let Some(address) = config.get_hostaddrs().get(at) {
        one.hostaddr(*address);
    }
    if let Some(port) = config.get_ports().get(at).or(config.get_ports().first()) {
        one.port(*port);
    }
    if let Some(user) = config.get_user() {
        one.user(user);
    }
    if let Some(password) = config.get_password() {
        one.password(password);
    }
    if let Some(database) = config.get_dbname() {
        one.dbname(database);
    }
    if let Some(options) = config.get_options() {
        one.options(options);
    }
    if let Some(name) = config.get_application_name() {
        one.application_name(name);
    }
    if let Some(timeout) = config.get_connect_timeout() {
        one.connect_timeout(*timeout);
    }
    if let Some(timeout) = config.get_tcp_user_timeout() {
        one.tcp_user_timeout(*timeout);
    }
    one.keepalives(config.get_keepalives())
        .keepalives_idle(config.get_keepalives_idle())
        .ssl_mode(config.get_ssl_mode())
        .ssl_negotiation(config.get_ssl_negotiation())
        .channel_binding(config.get_channel_binding())
        .target_session_attrs(config.get_target_session_attrs());
    one
}

fn driven<S>((client, connection): (Client, tokio_postgres::Connection<Socket, S>)) -> (Client, JoinHandle<()>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let task = tokio::spawn(async move {
        // Its end shows at the client.
        let _ = connection.await;
    });
    (client, task)
}

pub(super) fn pool(address: Address, connections: usize, timeout: Duration) -> Result<Pool, StoreError> {
    let mut config = address.config.clone();
    config.connect_timeout(timeout).tcp_user_timeout(timeout).target_session_attrs(TargetSessionAttrs::ReadWrite);
    let hosts = config.get_hosts().len();
    let route = Route {
        hosts: (0..hosts).map(|at| with_one_host(&config, at)).collect(),
        last: AtomicUsize::new(0),
        patience: timeout / u32::try_from(hosts.max(1)).unwrap_or(u32::MAX),
        address: Address { config: config.clone(), ..address },
    };
    let manager = Manager::from_connect(config, route, ManagerConfig { recycling_method: RecyclingMethod::Fast });
    Pool::builder(manager)
        .max_size(connections)
        .runtime(Runtime::Tokio1)
        .wait_timeout(Some(timeout))
        .create_timeout(Some(timeout))
        .build()
        .map_err(|_| StoreError::Unavailable("the connections to the database cannot be managed".into()))
}

/// Why there was no connection, without what the library says of the address.
pub(super) fn refused(error: &Error) -> Failed {
    let why = match error.as_db_error() {
        Some(told) => format!("the database refuses the connection ({}): {}", told.code().code(), told.message()),
        None if is_read_only(error) => {
            "the database is read-only: a standby that was not promoted yet, or a server that is set so".to_owned()
        }
        None => "the database cannot be reached, or its certificate is not trusted".to_owned(),
    };
    Failed::Store(StoreError::Unavailable(why))
}

/// The server was reached, and writes nothing.
fn is_read_only(error: &Error) -> bool {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<std::io::Error>());
    // The library says so in its own words, and not by a number of the system.
    source.is_some_and(|it| it.kind() == std::io::ErrorKind::PermissionDenied && it.raw_os_error().is_none())
}
