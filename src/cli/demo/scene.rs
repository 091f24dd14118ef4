//! Sets everything up, in the order in which it is needed, and takes it down again.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;

use super::app::DemoApp;
use super::browser::Browser;
use super::journal::Journal;
use super::pages::Links;
use super::people::People;
use super::provider::Provider;
use super::server::Server;
use super::sidecar::{Addresses, Directory};
use crate::app::{self, Running};
use crate::cli::{self, Failure};
use crate::clock::Clock;
use crate::login::outcome::Observer;

/// How long the sidecar may take to fetch the provider's keys.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often free ports are looked for: between finding one and using it, it may be taken.
const TRIES: usize = 3;

/// Provider, app and the sidecar between them, running.
pub struct Scene {
    pub addresses: Addresses,
    pub directory: Directory,
    pub provider: Arc<Provider>,
    pub app: Arc<DemoApp>,
    pub journal: Arc<Journal>,
    pub sidecar: Running,
    servers: [Server; 2],
}

impl Scene {
    /// `port` is the first of four; 0 takes any that are free.
    ///
    /// # Errors
    /// When a port is in use, or something that every login needs is missing on this machine.
    pub async fn set_up(port: u16, people: impl Fn() -> People) -> Result<Self, Failure> {
        for _ in 1..TRIES {
            match Self::try_set_up(port, people()).await {
                Err(_) if port == 0 => {}
                outcome => return outcome,
            }
        }
        Self::try_set_up(port, people()).await
    }

    async fn try_set_up(port: u16, people: People) -> Result<Self, Failure> {
        let [proxy, provider_listener, app_listener, admin] = listen(port).await?;
        let addresses = Addresses {
            proxy: address(&proxy)?,
            provider: address(&provider_listener)?,
            app: address(&app_listener)?,
            admin: address(&admin)?,
        };
        let links = Links {
            app: addresses.proxy.clone(),
            provider: addresses.provider.clone(),
            admin: addresses.admin.clone(),
        };
        let provider = Provider::new(addresses.provider.clone(), addresses.registration(), links.clone(), people);
        let provider = Arc::new(provider.map_err(Failure::new)?);
        let provider_server = Server::start(provider_listener, Arc::clone(&provider).router());

        let directory = Directory::make(&addresses)?;
        let config = cli::load(&directory.config())?;
        let journal = Arc::new(Journal::default());
        let observer: Arc<dyn Observer> = Arc::<Journal>::clone(&journal);
        // The configuration names these two ports, and the sidecar listens on them itself.
        drop((proxy, admin));
        let sidecar =
            app::start(directory.config(), config, Clock::system(), Some(observer)).await.map_err(Failure::new)?;

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
            servers: [provider_server, app_server],
        };
        scene.ready().await?;
        Ok(scene)
    }

    /// Waits until the sidecar has the provider's keys, and so knows where logins leave for.
    async fn ready(&self) -> Result<(), Failure> {
        let ready = async {
            loop {
                let page = Browser::default().open(&format!("{}/readyz", self.addresses.admin)).await;
                if page.is_ok_and(|page| page.status.is_success() && !page.body.contains("not fetched")) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let late = |_| Failure("the sidecar could not fetch the demo provider's keys".into());
        tokio::time::timeout(PATIENCE, ready).await.map_err(late)
    }

    /// Ends everything; its files go with it.
    pub async fn take_down(self) {
        self.sidecar.stop().await;
        for server in self.servers {
            server.stop().await;
        }
    }
}

async fn listen(port: u16) -> Result<[TcpListener; 4], Failure> {
    let at = |offset: u16| async move {
        let wanted = if port == 0 { Some(0) } else { port.checked_add(offset) };
        let wanted = wanted.ok_or_else(|| Failure(format!("port {port} leaves no room for three more")))?;
        TcpListener::bind((Ipv4Addr::LOCALHOST, wanted)).await.map_err(|error| {
            Failure(format!(
                "port {wanted} cannot be used ({error}); choose others with --port, or --port 0 for any free ones"
            ))
        })
    };
    Ok([at(0).await?, at(1).await?, at(2).await?, at(3).await?])
}

fn address(listener: &TcpListener) -> Result<String, Failure> {
    Ok(format!("http://{}", listener.local_addr().map_err(Failure::new)?))
}
