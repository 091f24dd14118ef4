//! A PostgreSQL server for this test process, started from the installed programs in a directory that goes with it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use loginsync::config::{self, Place, Secret, ServerPassword};
use loginsync::ports::store::postgres::{Address, Password, Settings};

/// A running server. It ends when the standard input of its shell does, so with this process, however that ends.
struct Server {
    folder: PathBuf,
    _shell: Child,
}

static SERVER: OnceLock<Option<Server>> = OnceLock::new();
static DATABASES: AtomicU32 = AtomicU32::new(0);

/// Ends with its input, and leaves nothing behind.
const SHELL: &str = r#"
set -eu
"$1/initdb" -D "$2/data" -U loginsync -A trust -E UTF8 --locale=C >"$2/log" 2>&1
"$1/postgres" -D "$2/data" -k "$2" -c listen_addresses= -c max_connections=300 -c fsync=off -c autovacuum_naptime=3600 >>"$2/log" 2>&1 &
cat >/dev/null
kill -INT $! || true
wait $! || true
rm -rf "$2"
"#;

fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let folders = versions.flatten().map(|version| version.path().join("bin"));
    folders.filter(|folder| folder.join("initdb").exists()).max()
}

fn start() -> Option<Server> {
    let Some(programs) = programs() else {
        eprintln!("NOT TESTED: the store in PostgreSQL. No server is installed; `make setup-postgres` installs one");
        return None;
    };
    let folder = tempfile::Builder::new().prefix("pg").tempdir().unwrap().keep();
    // A server refuses to run as root.
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|of| std::os::unix::fs::MetadataExt::uid(&of) == 0);
    let mut command = Command::new(if is_root { "setpriv" } else { "sh" });
    if is_root {
        let owned = Command::new("chown").arg("postgres:postgres").arg(&folder).status().unwrap();
        assert!(owned.success(), "the folder of the server has no owner `postgres`");
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "sh"]);
    }
    command.args(["-c", SHELL, "sh"]).arg(programs).arg(&folder).current_dir("/").stdin(Stdio::piped());
    let shell = command.spawn().unwrap();
    Some(Server { folder, _shell: shell })
}

fn url(folder: &Path, database: &str) -> String {
    let host: String = folder.to_str().unwrap().replace('/', "%2F");
    format!("postgres://loginsync@{host}/{database}")
}

fn tls() -> rustls::ClientConfig {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    rustls::ClientConfig::builder().with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth()
}

/// A database of its own; `None` where no server is installed.
pub async fn database() -> Option<Database> {
    let server = tokio::task::spawn_blocking(|| SERVER.get_or_init(start).as_ref()).await.unwrap()?;
    let deadline = Instant::now() + Duration::from_secs(60);
    let (client, connection) = loop {
        match tokio_postgres::connect(&url(&server.folder, "postgres"), tokio_postgres::NoTls).await {
            Ok(connected) => break connected,
            Err(error) if Instant::now() > deadline => {
                panic!("{error}: {}", std::fs::read_to_string(server.folder.join("log")).unwrap_or_default())
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    };
    let task = tokio::spawn(connection);
    let name = format!("case{}", DATABASES.fetch_add(1, Ordering::Relaxed));
    client.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
    drop(client);
    let _ = task.await;
    Some(Database { url: url(&server.folder, &name) })
}

/// A database of one test.
pub struct Database {
    pub url: String,
}

impl Database {
    /// As a configuration names it.
    pub fn place(&self) -> Place {
        Place::Server(Arc::new(config::Server {
            url: Secret::new(self.url.clone().into_bytes()),
            password: ServerPassword::OfUrl,
            key: Secret::new(vec![7; 32]),
            connections: 4,
            ca: None,
            client: None,
        }))
    }

    pub async fn client(&self) -> tokio_postgres::Client {
        let (client, connection) = tokio_postgres::connect(&self.url, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    pub fn settings(&self, audit_key: Option<&[u8]>) -> Settings {
        Settings {
            address: Address::parse(&self.url, Password::Told, tls()).unwrap(),
            connections: 4,
            timeout: Duration::from_secs(20),
            audit_key: audit_key.map(|key| Secret::new(key.to_vec())),
            key: Secret::new(vec![7; 32]),
        }
    }
}
