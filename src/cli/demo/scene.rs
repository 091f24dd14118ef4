//! Sets everything up, in the order in which it is needed, and takes it down again.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;

use super::app::DemoApp;
use super::balancer::Balancer;
use super::browser::{Browser, Page};
use super::database::Database;
use super::journal::Journal;
use super::pages::Links;
use super::people::People;
use super::provider::Provider;
use super::server::Server;
use super::sidecar::{Addresses, Directory, Listening};
use crate::app::{self, Running};
use crate::cli::{self, Failure};
use crate::clock::Clock;
use crate::login::outcome::Observer;

/// How long the sidecar may take to fetch the provider's keys.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often free ports are looked for: between finding one and using it, it may be taken.
const TRIES: usize = 3;
/// What several sidecars share.
const DATABASE: &str = "demo";

/// Provider, app and the sidecar between them, running.
pub struct Scene {
    pub addresses: Addresses,
    pub directory: Directory,
    pub provider: Arc<Provider>,
    pub app: Arc<DemoApp>,
    pub journal: Arc<Journal>,
    pub sidecar: Running,
    /// The other sidecars.
    others: Vec<Running>,
    /// Before them, where there are others.
    pub balancer: Option<Balancer>,
    servers: [Server; 2],
    database: Option<Database>,
}

impl Scene {
    /// `port` is the first of four, and of two more for each further sidecar and one for their balancer; 0 takes any that are free.
    /// Several sidecars share a database of PostgreSQL.
    ///
    /// # Errors
    /// When a port is in use, or something that every login needs is missing on this machine.
    pub async fn set_up(port: u16, sidecars: usize, people: impl Fn() -> People) -> Result<Self, Failure> {
        for _ in 1..TRIES {
            match Box::pin(Self::try_set_up(port, sidecars, people())).await {
                Err(_) if port == 0 => {}
                outcome => return outcome,
            }
        }
        Box::pin(Self::try_set_up(port, sidecars, people())).await
    }

    async fn try_set_up(port: u16, sidecars: usize, people: People) -> Result<Self, Failure> {
        let [proxy, provider_listener, app_listener, admin] = listen(port, 0).await?;
        let mut kept = Vec::new();
        let mut own = vec![Listening { proxy: socket(&proxy)?, admin: socket(&admin)? }];
        if sidecars > 1 {
            let [first] = listen(port, 4).await?;
            own = vec![Listening { proxy: socket(&first)?, admin: socket(&admin)? }];
            kept.push(first);
        }
        for offset in (5..).step_by(2).take(sidecars.saturating_sub(1)) {
            let [proxy, admin] = listen(port, offset).await?;
            own.push(Listening { proxy: socket(&proxy)?, admin: socket(&admin)? });
            kept.extend([proxy, admin]);
        }
        let addresses = Addresses {
            proxy: address(&proxy)?,
            provider: address(&provider_listener)?,
            app: address(&app_listener)?,
            admin: address(&admin)?,
            sidecars: own,
        };
        let links = Links {
            app: addresses.proxy.clone(),
            provider: addresses.provider.clone(),
            admin: addresses.admin.clone(),
        };
        let provider = Provider::new(addresses.provider.clone(), addresses.registration(), links.clone(), people);
        let provider = Arc::new(provider.map_err(Failure::new)?);
        let provider_server = Server::start(provider_listener, Arc::clone(&provider).router());

        let database = if sidecars > 1 { Some(shared().await?) } else { None };
        let directory = Directory::make(&addresses, database.as_ref().map(|server| server.url(DATABASE)).as_deref())?;
        let journal = Arc::new(Journal::default());
        let observer: Arc<dyn Observer> = Arc::<Journal>::clone(&journal);
        // The configurations name these ports, and the sidecars listen on them themselves.
        drop((admin, kept));
        let balancer = (sidecars > 1).then_some(proxy).map(|listener| {
            Balancer::start(listener, addresses.sidecars.iter().map(|sidecar| sidecar.proxy).collect())
        });
        let start = async |file: PathBuf| {
            let config = cli::load(&file)?;
            let observer = Some(Arc::clone(&observer));
            Box::pin(app::start(file, config, Clock::system(), observer)).await.map_err(Failure::new)
        };
        let sidecar = start(directory.config()).await?;
        let mut others = Vec::new();
        for file in directory.configs(sidecars).into_iter().skip(1) {
            others.push(start(file).await?);
        }

        let demo_app = Arc::new(DemoApp::new(
            addresses.registration(),
            links,
            Arc::clone(&sidecar.store),
            Arc::clone(&sidecar.rules),
            Arc::clone(&journal),
        )?);
        let app_server = Server::start(app_listener, Arc::clone(&demo_app).router());
        let scene = Self {
            addresses,
            directory,
            provider,
            app: demo_app,
            journal,
            sidecar,
            others,
            balancer,
            servers: [provider_server, app_server],
            database,
        };
        scene.ready().await?;
        Ok(scene)
    }

    /// Waits until each sidecar has the provider's keys, and so knows where logins leave for.
    async fn ready(&self) -> Result<(), Failure> {
        let ready = async {
            for Listening { admin, .. } in &self.addresses.sidecars {
                let asked = format!("http://{admin}/readyz");
                let is_ready = |page: Page| page.status.is_success() && !page.body.contains("not fetched");
                while !Browser::default().open(&asked).await.is_ok_and(is_ready) {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        };
        let late = |_| Failure("the sidecar could not fetch the demo provider's keys".into());
        tokio::time::timeout(PATIENCE, ready).await.map_err(late)
    }

    /// Ends everything; its files go with it.
    pub async fn take_down(self) {
        drop(self.balancer);
        self.sidecar.stop().await;
        for sidecar in self.others {
            sidecar.stop().await;
        }
        for server in self.servers {
            server.stop().await;
        }
        if let Some(database) = self.database {
            let _ = tokio::task::spawn_blocking(|| database.stop()).await;
        }
    }
}

/// The server that sidecars share, with an empty database. What the demo keeps need not outlive a power cut.
async fn shared() -> Result<Database, Failure> {
    let server = Database::start("-c fsync=off")?;
    server.ready().await?;
    server.create(DATABASE).await?;
    Ok(server)
}

/// Ports in a row, from an offset to the first.
async fn listen<const N: usize>(port: u16, offset: u16) -> Result<[TcpListener; N], Failure> {
    let mut listeners = Vec::new();
    for offset in (offset..).take(N) {
        let wanted = if port == 0 { Some(0) } else { port.checked_add(offset) };
        let wanted = wanted.ok_or_else(|| Failure(format!("port {port} leaves no room for {offset} more")))?;
        listeners.push(TcpListener::bind((Ipv4Addr::LOCALHOST, wanted)).await.map_err(|error| {
            Failure(format!(
                "port {wanted} cannot be used ({error}); choose others with --port, or --port 0 for any free ones"
            ))
        })?);
    }
    listeners.try_into().map_err(|_| Failure("as many ports as were asked for".into()))
}

fn socket(listener: &TcpListener) -> Result<SocketAddr, Failure> {
    listener.local_addr().map_err(Failure::new)
}

fn address(listener: &TcpListener) -> Result<String, Failure> {
    Ok(format!("http://{}", socket(listener)?))
}
