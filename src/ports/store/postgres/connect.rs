//! How the server is reached: over TLS, with a password that is read at every connection.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres::{Client, Config, NoTls, Socket};
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

impl deadpool_postgres::Connect for Address {
    fn connect(
        &self,
        _: &Config,
    ) -> std::pin::Pin<
        Box<dyn Future<Output = Result<(Client, tokio::task::JoinHandle<()>), tokio_postgres::Error>> + Send + '_>,
    > {
        Box::pin(async move {
            let mut config = self.config.clone();
            match &self.password {
                Password::Told => {}
                // A file that is gone is a wrong password: the server says so.
                Password::File(path) => {
                    let read = zeroize::Zeroizing::new(tokio::fs::read(path).await.unwrap_or_default());
                    config.password(read.trim_ascii_end());
                }
                Password::Fixed(secret) => drop(config.password(secret.expose())),
            }
            Ok(match &self.tls {
                None => driven(config.connect(NoTls).await?),
                Some(tls) => driven(config.connect(MakeRustlsConnect::new(rustls::ClientConfig::clone(tls))).await?),
            })
        })
    }
}

fn driven<S>(
    (client, connection): (Client, tokio_postgres::Connection<Socket, S>),
) -> (Client, tokio::task::JoinHandle<()>)
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
    let address = Address { config, ..address };
    let manager = Manager::from_connect(
        address.config.clone(),
        address,
        ManagerConfig { recycling_method: RecyclingMethod::Fast },
    );
    Pool::builder(manager)
        .max_size(connections)
        .runtime(Runtime::Tokio1)
        .wait_timeout(Some(timeout))
        .create_timeout(Some(timeout))
        .build()
        .map_err(|_| StoreError::Unavailable("the connections to the database cannot be managed".into()))
}

/// Why there was no connection, without what the library says of the address.
pub(super) fn refused(error: &tokio_postgres::Error) -> Failed {
    let why = match error.as_db_error() {
        Some(told) => format!("the database refuses the connection ({}): {}", told.code().code(), told.message()),
        None => "the database cannot be reached, is read-only, or its certificate is not trusted".to_owned(),
    };
    Failed::Store(StoreError::Unavailable(why))
}
