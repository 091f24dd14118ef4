//! A server of PostgreSQL of our own: started from the installed programs, in a directory that goes with it.
//!
//! It listens on a socket in that directory alone, which no other user of the machine can enter.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::cli::Failure;

/// How long a server may take to answer, and how often it is asked.
const PATIENCE: Duration = Duration::from_secs(90);
const PAUSE: Duration = Duration::from_millis(50);

/// Runs the server until its input ends, so until the process that started it does, however that ends; and leaves nothing behind. An
/// interrupt from a terminal goes to every process there, and must not end this one before its work is done.
const SHELL: &str = r#"
set -eu
trap '' INT TERM HUP
"$1/initdb" -D "$2/data" -U loginsync -A trust -E UTF8 --locale=C --no-sync >"$2/log" 2>&1
"$1/pg_ctl" -D "$2/data" -l "$2/log" -w -o "-k $2 -c listen_addresses= $3" start >>"$2/log" 2>&1
cat >/dev/null
"$1/pg_ctl" -D "$2/data" -m immediate stop >>"$2/log" 2>&1 || true
rm -rf "$2"
"#;

/// A running server. It ends with this process at the latest.
#[derive(Debug)]
pub struct Database {
    folder: PathBuf,
    programs: PathBuf,
    shell: Child,
}

/// Names the folder of the programs of a server, where another than the newest is wanted.
const PROGRAMS: &str = "LOGINSYNC_POSTGRES_BIN";

/// Where the programs of a server are: Debian keeps each version apart, others have one on the path.
pub fn programs() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os(PROGRAMS) {
        return Some(PathBuf::from(named)).filter(|folder| is_complete(folder));
    }
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions.map(|version| version.path().join("bin")).filter(|folder| is_complete(folder)).max();
    let path = std::env::var_os("PATH").unwrap_or_default();
    newest.or_else(|| std::env::split_paths(&path).find(|folder| is_complete(folder)))
}

fn is_complete(folder: &Path) -> bool {
    ["initdb", "pg_ctl", "postgres"].iter().all(|program| folder.join(program).exists())
}

impl Database {
    /// Starts a server with further settings (`-c name=value`). It answers a while later: [`Self::ready`].
    ///
    /// # Errors
    /// Where none is installed, and when no process can be started.
    pub fn start(settings: &str) -> Result<Self, Failure> {
        let programs = programs().ok_or_else(|| {
            Failure("no PostgreSQL server is installed on this machine; `make setup-postgres` installs one".into())
        })?;
        let cannot = |error: std::io::Error| Failure(format!("a PostgreSQL server cannot be started: {error}"));
        let folder = tempfile::Builder::new().prefix("loginsync-pg-").tempdir().map_err(cannot)?;
        own(folder.path())?;
        let mut command = unprivileged("sh");
        command.args(["-c", SHELL, "sh"]).arg(&programs).arg(folder.path()).arg(settings);
        let shell = command.stdin(Stdio::piped()).spawn().map_err(cannot)?;
        Ok(Self { folder: folder.keep(), programs, shell })
    }

    /// Waits until it answers.
    ///
    /// # Errors
    /// When it does not in time, with the end of its log.
    pub async fn ready(&self) -> Result<(), Failure> {
        let began = Instant::now();
        loop {
            match tokio_postgres::connect(&self.url("postgres"), tokio_postgres::NoTls).await {
                Ok(_) => return Ok(()),
                Err(_) if began.elapsed() < PATIENCE => tokio::time::sleep(PAUSE).await,
                Err(error) => return Err(Failure(format!("PostgreSQL does not answer: {error}\n{}", self.log()))),
            }
        }
    }

    /// Makes a database on it.
    ///
    /// # Errors
    /// When the server does not answer, or the database exists.
    pub async fn create(&self, name: &str) -> Result<(), Failure> {
        let (client, connection) =
            tokio_postgres::connect(&self.url("postgres"), tokio_postgres::NoTls).await.map_err(Failure::new)?;
        let running = tokio::spawn(connection);
        let made = client.batch_execute(&format!("CREATE DATABASE {name}")).await.map_err(Failure::new);
        drop(client);
        let _ = running.await;
        made
    }

    /// How one of its databases is reached.
    pub fn url(&self, database: &str) -> String {
        let host = self.folder.display().to_string().replace('/', "%2F");
        format!("postgres://loginsync@{host}/{database}")
    }

    /// Where its socket is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What it has said.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Ends it as a crash would, and starts it again.
    ///
    /// # Errors
    /// When it does not start again.
    pub fn crash_and_restart(&self) -> Result<(), Failure> {
        let mut command = unprivileged(self.programs.join("pg_ctl"));
        command.arg("-D").arg(self.folder.join("data"));
        command.args(["-m", "immediate", "-w", "-l"]).arg(self.folder.join("log")).arg("restart");
        let status = command.stdout(Stdio::null()).stdin(Stdio::null()).status().map_err(Failure::new)?;
        status.success().then_some(()).ok_or_else(|| Failure(format!("PostgreSQL does not restart\n{}", self.log())))
    }

    /// Ends it, and removes its files.
    pub fn stop(mut self) {
        // Waiting closes its input first.
        let _ = self.shell.wait();
    }
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|of| std::os::unix::fs::MetadataExt::uid(&of) == 0)
}

/// Gives a file to the user that a server runs as.
///
/// # Errors
/// Where this machine has no such user.
pub fn own(path: &Path) -> Result<(), Failure> {
    if !is_root() {
        return Ok(());
    }
    let owned = Command::new("chown").arg("postgres:postgres").arg(path).status().map_err(Failure::new)?;
    let without = || Failure("this machine has no user `postgres`, as whom root could run a server".into());
    owned.success().then_some(()).ok_or_else(without)
}

/// A command that runs as that user: a server refuses to run as root.
pub fn unprivileged(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(if is_root() { "setpriv" } else { "env" });
    if is_root() {
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
    }
    command.arg(program).current_dir("/");
    command
}
