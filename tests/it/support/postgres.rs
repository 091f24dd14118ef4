//! A PostgreSQL server for this test process, started from the installed programs in a directory that goes with it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use loginsync::cli::demo::database::{Database as Server, own, programs, unprivileged};
use loginsync::config::{self, Place, Secret, ServerPassword};
use loginsync::ports::store::postgres::{Address, Password, Settings};

static SERVER: OnceLock<Option<Server>> = OnceLock::new();
static DATABASES: AtomicU32 = AtomicU32::new(0);

fn start() -> Option<Server> {
    if programs().is_none() {
        eprintln!("NOT TESTED: the store in PostgreSQL. No server is installed; `make setup-postgres` installs one");
        return None;
    }
    Some(Server::start("-c max_connections=300 -c fsync=off -c autovacuum_naptime=3600").unwrap())
}

/// Of the user that a server runs as.
fn folder() -> PathBuf {
    let folder = tempfile::Builder::new().prefix("pg").tempdir().unwrap().keep();
    own(&folder).unwrap();
    folder
}

/// A server of one test, which can be stopped and started again.
pub struct OwnServer {
    programs: PathBuf,
    pub folder: PathBuf,
    pub port: u16,
    _guard: Child,
}

/// A port that stays free while a server is down: connections that others open are given ports from further up.
fn lasting_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Runs that are started one after the other begin far from each other.
    let first = u16::try_from(u64::from(std::process::id()) * 61 % 10_000).unwrap();
    let ports = std::iter::repeat_with(|| 15_000 + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % 10_000);
    ports.take(1000).find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok()).unwrap()
}

/// Stops the server with the test, however that ends.
const GUARD: &str = r#"
cat >/dev/null
"$1/pg_ctl" -D "$2/data" -m immediate stop >/dev/null 2>&1 || true
rm -rf "$2"
"#;

/// What is mounted here goes with the last process that sees it: the server.
const SMALL_DISK: &str = r#"
set -eu
mount -t tmpfs -o size=16m tmpfs "$1"
mkdir "$1/space"
user=env
if [ "$(id -u)" = 0 ]; then
    chown -R postgres:postgres "$1"
    user='setpriv --reuid=postgres --regid=postgres --clear-groups'
fi
cd /
$user "$2/pg_ctl" -D "$3/data" -l "$3/log" -w -t 60 start
"#;

impl OwnServer {
    /// With files beside its data, lines of `postgresql.conf`, and those of `pg_hba.conf`. `None` where no server is installed.
    pub fn start(files: &[(&str, &str)], settings: &str, access: &str) -> Option<Self> {
        let server = Self::make(files, settings, access)?;
        server.control(&["start"]);
        Some(server)
    }

    /// The same, not started yet.
    pub fn make(files: &[(&str, &str)], settings: &str, access: &str) -> Option<Self> {
        let server = Self::beside()?;
        let data = server.folder.join("data");
        let made = unprivileged(server.programs.join("initdb"))
            .arg("-D")
            .arg(&data)
            .args(["-U", "loginsync", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"])
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(made.success());
        for (name, content) in files {
            let path = data.join(name);
            std::fs::write(&path, content).unwrap();
            std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
            own(&path).unwrap();
        }
        server.set(&format!("listen_addresses = '127.0.0.1'\nfsync = off\n{settings}"));
        // The socket is the tests' own way in.
        let access = format!("local all all trust\nlocal replication all trust\n{access}\n");
        std::fs::write(data.join("pg_hba.conf"), access).unwrap();
        Some(server)
    }

    /// One that sees a small disk of its own at [`Self::small_disk`], which goes with it. `None` also where this process may mount
    /// nothing.
    pub fn on_small_disk() -> Option<Self> {
        let server = Self::make(&[], "", "")?;
        let disk = server.small_disk();
        std::fs::create_dir(&disk).unwrap();
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", SMALL_DISK, "sh"]).arg(&disk).arg(&server.programs).arg(&server.folder);
        if command.stdout(Stdio::null()).status().is_ok_and(|status| status.success()) {
            return Some(server);
        }
        eprintln!("NOT TESTED: a full disk. This process may not mount one; run the tests as root");
        None
    }

    pub fn small_disk(&self) -> PathBuf {
        self.folder.join("small")
    }

    /// Copies its database into another server's, as a dump. Returns whether that is possible here.
    pub fn dump_into(&self, other: &Self) -> bool {
        if !self.has("pg_dump") {
            return false;
        }
        let text = unprivileged(self.programs.join("pg_dump")).args(["-d", &self.database().url]).output().unwrap();
        assert!(text.status.success(), "{}", String::from_utf8_lossy(&text.stderr));
        let file = other.folder.join("dump.sql");
        std::fs::write(&file, text.stdout).unwrap();
        let restored = unprivileged(other.programs.join("psql"))
            .args(["-q", "-v", "ON_ERROR_STOP=1", "-d", &other.database().url, "-f"])
            .arg(file)
            .stdout(Stdio::null())
            .status();
        assert!(restored.unwrap().success());
        true
    }

    /// A folder and a port, and what ends with them.
    fn beside() -> Option<Self> {
        let programs = programs()?;
        let folder = folder();
        let mut guard = unprivileged("sh");
        guard.args(["-c", GUARD, "sh"]).arg(&programs).arg(&folder).stdin(Stdio::piped());
        let guard = guard.spawn().unwrap();
        Some(Self { programs, folder, port: lasting_port(), _guard: guard })
    }

    /// Adds lines to its configuration, which the last of a name counts in.
    fn set(&self, lines: &str) {
        let (port, socket) = (self.port, self.folder.display());
        let configuration = self.folder.join("data/postgresql.conf");
        let text = std::fs::read_to_string(&configuration).unwrap();
        let own = format!("\nport = {port}\nunix_socket_directories = '{socket}'\n{lines}\n");
        std::fs::write(&configuration, text + &own).unwrap();
    }

    /// Whether the server came with a program. Those of other versions come without some.
    fn has(&self, program: &str) -> bool {
        let has = self.programs.join(program).exists();
        if !has {
            eprintln!("NOT TESTED: what needs `{program}`, which is not beside the server's programs");
        }
        has
    }

    /// A server that follows this one by streaming, under the name `standby`.
    pub fn standby(&self) -> Option<Self> {
        let standby = Self::beside().filter(|_| self.has("pg_basebackup"))?;
        let made = unprivileged(self.programs.join("pg_basebackup"))
            .arg("-D")
            .arg(standby.folder.join("data"))
            .arg("-d")
            .arg(format!("host={} port={} user=loginsync application_name=standby", self.folder.display(), self.port))
            .args(["-R", "-X", "stream", "-c", "fast", "--no-sync"])
            .status()
            .unwrap();
        assert!(made.success());
        standby.set("");
        standby.control(&["start"]);
        Some(standby)
    }

    /// Such as `start`, `-m immediate restart`.
    pub fn control(&self, words: &[&str]) {
        let done = unprivileged(self.programs.join("pg_ctl"))
            .arg("-D")
            .arg(self.folder.join("data"))
            .arg("-l")
            .arg(self.folder.join("log"))
            .args(["-w", "-t", "60"])
            .args(words)
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(done.success(), "{}", std::fs::read_to_string(self.folder.join("log")).unwrap_or_default());
    }

    /// By the socket.
    pub fn database(&self) -> Database {
        Database { url: format!("postgres://loginsync@{}/postgres", self.host()) }
    }

    /// This one, and another where it does not write.
    pub fn database_or(&self, other: &Self) -> Database {
        Database { url: format!("postgres://loginsync@{},{}/postgres", self.host(), other.host()) }
    }

    fn host(&self) -> String {
        format!("{}:{}", self.folder.to_str().unwrap().replace('/', "%2F"), self.port)
    }
}

fn tls() -> rustls::ClientConfig {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    rustls::ClientConfig::builder().with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth()
}

/// A database of its own; `None` where no server is installed.
pub async fn database() -> Option<Database> {
    let server = tokio::task::spawn_blocking(|| SERVER.get_or_init(start).as_ref()).await.unwrap()?;
    server.ready().await.unwrap();
    let name = format!("case{}", DATABASES.fetch_add(1, Ordering::Relaxed));
    server.create(&name).await.unwrap();
    Some(Database { url: server.url(&name) })
}

/// The socket of the server, and the name of a database on it.
pub fn socket_of(database: &Database) -> (PathBuf, String) {
    let folder = SERVER.get().and_then(Option::as_ref).unwrap().folder();
    (folder.join(".s.PGSQL.5432"), database.url.rsplit('/').next().unwrap().to_owned())
}

/// PgBouncer in transaction mode before a database of its own, with fewer connections to the server than it is asked for.
pub struct Pooler {
    pub url: String,
    _guard: Child,
}

/// Ends with its input.
const POOLER: &str = r#"
pgbouncer -q "$1/pgbouncer.ini" &
cat >/dev/null
kill -INT $! || true
rm -rf "$1"
"#;

impl Pooler {
    /// `None` where no server or no pooler is installed.
    pub async fn start() -> Option<Self> {
        let database = database().await?;
        if !Path::new("/usr/sbin/pgbouncer").exists() {
            eprintln!("NOT TESTED: PgBouncer. It is not installed; `make setup-postgres` installs it");
            return None;
        }
        let (socket, name) = socket_of(&database);
        let folder = folder();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (server, own) = (socket.parent().unwrap().display(), folder.display());
        let settings = format!(
            "[databases]\n{name} = host={server} dbname={name}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir = {own}\nauth_type = trust\nauth_file = {own}/users\n\
             pool_mode = transaction\ndefault_pool_size = 2\nlogfile = {own}/log\n"
        );
        std::fs::write(folder.join("pgbouncer.ini"), settings).unwrap();
        std::fs::write(folder.join("users"), "\"loginsync\" \"\"\n").unwrap();
        let mut guard = unprivileged("sh");
        guard.env("PATH", "/usr/sbin:/usr/bin:/bin").args(["-c", POOLER, "sh"]).arg(&folder).stdin(Stdio::piped());
        let guard = guard.spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "{}", std::fs::read_to_string(folder.join("log")).unwrap_or_default());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Some(Self { url: format!("postgres://loginsync@127.0.0.1:{port}/{name}?sslmode=disable"), _guard: guard })
    }
}

/// A database of one test.
pub struct Database {
    pub url: String,
}

impl Database {
    /// As a configuration names it.
    pub fn place(&self) -> Place {
        self.place_with(|_| {})
    }

    /// The same with other keys.
    pub fn place_with(&self, change: impl FnOnce(&mut config::Server)) -> Place {
        let mut server = config::Server {
            url: Secret::new(self.url.clone().into_bytes()),
            password: ServerPassword::OfUrl,
            key: Secret::new(vec![7; 32]),
            connections: 4,
            ca: None,
            client: None,
        };
        change(&mut server);
        Place::Server(Arc::new(server))
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
            reads: loginsync::pipeline::record::text::Versions::default().read,
        }
    }
}
