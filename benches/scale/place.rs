//! Where the users are: a file of SQLite, or a server of PostgreSQL that the run starts for itself.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use loginsync::cli::demo::database::Database;
use tokio::runtime::Runtime;
use tokio_postgres::Client;

use crate::delay::SOCKET;
use crate::process;
use crate::{Failure, TEMPLATES};

/// Settings of a server that is not short of memory, whose checkpoints do not fall into a run. Commits are synced.
const SETTINGS: &str = "-c shared_buffers=1GB -c max_wal_size=16GB -c checkpoint_timeout=1h -c max_connections=200";

pub enum Place {
    File,
    Server(Box<Server>),
}

pub struct Server {
    database: Database,
    runtime: Runtime,
    client: Client,
}

/// What the server has written so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Written {
    pub bytes: f64,
    pub images: f64,
}

impl Place {
    pub fn server() -> Result<Self, Failure> {
        let database = Database::start(SETTINGS).map_err(|failure| failure.to_string())?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let client = runtime.block_on(async {
            database.ready().await.map_err(|failure| failure.to_string())?;
            database.create("scale").await.map_err(|failure| failure.to_string())?;
            let (client, connection) = tokio_postgres::connect(&database.url("scale"), tokio_postgres::NoTls).await?;
            tokio::spawn(connection);
            Ok::<Client, Failure>(client)
        })?;
        Ok(Self::Server(Box::new(Server { database, runtime, client })))
    }

    pub fn name(&self) -> &'static str {
        match self {
            Self::File => "SQLite",
            Self::Server(_) => "PostgreSQL",
        }
    }

    /// The lines of `[store]`, straight or through a network of its own.
    pub fn lines(&self, network: Option<&Network>) -> String {
        match self {
            Self::File => String::from("path = \"store.db\""),
            Self::Server(server) => {
                let straight = server.database.url("scale");
                let url = match network {
                    Some(network) => {
                        let host = network.folder.path().display().to_string().replace('/', "%2F");
                        format!("postgres://loginsync@{host}/scale")
                    }
                    None => straight,
                };
                format!("url = \"{url}\"\nkey_file = \"store.key\"")
            }
        }
    }

    /// A network whose round trip takes so long. `None` where the store is no server.
    pub fn network(&self, round_trip: Duration) -> Result<Option<Network>, Failure> {
        let Self::Server(server) = self else { return Ok(None) };
        let folder = tempfile::tempdir()?;
        let (from, to) = (folder.path().join(SOCKET), server.database.folder().join(SOCKET));
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("--delay").arg(&from).arg(to).arg((round_trip / 2).as_micros().to_string());
        let network = Network { child: command.stdin(Stdio::null()).spawn()?, folder };
        let began = Instant::now();
        while !from.exists() {
            if began.elapsed() > Duration::from_secs(10) {
                return Err("the network did not start".into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(Some(network))
    }

    /// Gives the database so many users: copies of the first few, who have logged in.
    pub fn populate(&self, folder: &Path, users: usize) -> Result<Duration, Failure> {
        let began = Instant::now();
        let [table, columns, order] = HOLDINGS;
        match self {
            Self::File => {
                let mut connection = rusqlite::Connection::open(folder.join("store.db"))?;
                let transaction = connection.transaction()?;
                let numbers = format!(
                    "WITH RECURSIVE counted (number) AS
                         (SELECT {TEMPLATES} UNION ALL SELECT number + 1 FROM counted WHERE number + 1 < {users})
                     SELECT number FROM counted"
                );
                transaction.execute_batch(&copy("", &numbers))?;
                transaction.execute_batch(&of_users("", "records", "record", ""))?;
                transaction.execute_batch(&of_users("", table, columns, order))?;
                transaction.execute_batch("DROP TABLE made")?;
                transaction.commit()?;
                connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")?;
            }
            Self::Server(server) => server.runtime.block_on(async {
                let client = &server.client;
                client.batch_execute("BEGIN").await?;
                let numbers = format!("SELECT generate_series({TEMPLATES}, {users} - 1) AS number");
                client.batch_execute(&copy("loginsync.", &numbers)).await?;
                client.batch_execute(&of_users("loginsync.", table, columns, order)).await?;
                let next = "SELECT setval('loginsync.user_numbers', (SELECT max(id) FROM loginsync.users))";
                client.batch_execute(&format!("DROP TABLE made; {next}; COMMIT")).await?;
                // No transaction can hold it, and two statements at once are one.
                client.batch_execute("VACUUM (ANALYZE)").await?;
                client.batch_execute("CHECKPOINT").await
            })?,
        }
        Ok(began.elapsed())
    }

    pub fn written(&self) -> Result<Written, Failure> {
        let Self::Server(server) = self else { return Ok(Written::default()) };
        // Backends tell of it once a second at most, unless they are idle.
        std::thread::sleep(Duration::from_millis(1100));
        let text = "SELECT wal_bytes::float8, wal_fpi::float8 FROM pg_stat_wal";
        let row = server.runtime.block_on(server.client.query_one(text, &[]))?;
        Ok(Written { bytes: row.try_get(0)?, images: row.try_get(1)? })
    }

    /// Processor time of the server so far: of the processes that run, and of those that have ended.
    pub fn cpu(&self) -> Duration {
        match self {
            Self::File => Duration::ZERO,
            Self::Server(server) => family_cpu(&server.database.folder().join("data/postmaster.pid")),
        }
    }

    /// How much it takes, as lines of a table.
    pub fn sizes(&self, folder: &Path, users: usize) -> Result<String, Failure> {
        let mut text = String::new();
        match self {
            Self::File => {
                let bytes = std::fs::metadata(folder.join("store.db"))?.len();
                let _ = writeln!(text, "| {users} | SQLite | the file | {} | |", megabytes(bytes as f64));
            }
            Self::Server(server) => {
                let rows = server.runtime.block_on(server.client.query(SIZES, &[]))?;
                for row in rows {
                    let (table, heap, indexes): (String, f64, f64) =
                        (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
                    let _ = writeln!(
                        text,
                        "| {users} | PostgreSQL | {table} | {} | {} |",
                        megabytes(heap),
                        megabytes(indexes)
                    );
                }
            }
        }
        Ok(text)
    }

    /// What updates have left behind, and what a vacuum takes.
    pub fn vacuum(&self, users: usize) -> Result<String, Failure> {
        let Self::Server(server) = self else { return Ok(String::new()) };
        let mut text = String::new();
        server.runtime.block_on(async {
            for table in ["users", "holdings", "tokens"] {
                let of = format!(
                    "SELECT n_tup_upd::float8, n_tup_hot_upd::float8, n_dead_tup::float8 FROM pg_stat_user_tables
                     WHERE schemaname = 'loginsync' AND relname = '{table}'"
                );
                let row = server.client.query_one(&of, &[]).await?;
                let (updates, hot, dead): (f64, f64, f64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
                let began = Instant::now();
                server.client.batch_execute(&format!("VACUUM loginsync.{table}")).await?;
                let share =
                    if updates > 0.0 { format!("{:.0} %", 100.0 * hot / updates) } else { String::from("none") };
                let took = began.elapsed().as_secs_f64();
                let _ = writeln!(text, "| {users} | {table} | {updates:.0} | {share} | {dead:.0} | {took:.2} |");
            }
            Ok::<(), Failure>(())
        })?;
        Ok(text)
    }

    /// Bytes of an audit row with what belongs to it, without indexes.
    pub fn audit_row(&self) -> Result<f64, Failure> {
        let Self::Server(server) = self else { return Ok(0.0) };
        let text = "SELECT (SELECT avg(pg_column_size(audit.*)) FROM loginsync.audit)::float8
                         + coalesce((SELECT avg(pg_column_size(audit_people.*)) FROM loginsync.audit_people), 0)::float8
                         + coalesce((SELECT avg(pg_column_size(seals.*)) FROM loginsync.seals), 0)::float8";
        Ok(server.runtime.block_on(server.client.query_one(text, &[]))?.try_get(0)?)
    }
}

/// A process that delays what goes between the sidecars and the server.
pub struct Network {
    child: Child,
    folder: tempfile::TempDir,
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const HOLDINGS: [&str; 3] = ["holdings", "kind, target, provider, mapping, at", "kind, target, provider, mapping, "];

const SIZES: &str = "SELECT relname::text, pg_table_size(oid)::float8, pg_indexes_size(oid)::float8 FROM pg_class
    WHERE relnamespace = 'loginsync'::regnamespace AND relkind = 'r' AND pg_total_relation_size(oid) > 1048576 ORDER BY 2 DESC";

/// Makes users who are copies, and a table that says whose.
fn copy(schema: &str, numbers: &str) -> String {
    let record = if schema.is_empty() { "" } else { ", record" };
    format!(
        "CREATE TABLE made (number bigint PRIMARY KEY, id bigint NOT NULL, template bigint NOT NULL);
         INSERT INTO made SELECT number, (SELECT max(id) FROM {schema}users) + number, id
             FROM ({numbers}) AS counted JOIN {schema}users ON subject = 'Oidc-' || (number % {TEMPLATES}) ORDER BY 1;
         INSERT INTO {schema}users (id, namespace, subject, email, display_name, created_at, disabled, last_login_at,
                                    logins, due{record})
             SELECT made.id, namespace, 'Oidc-' || number, 'Oidc-' || number || '@example.com', display_name, created_at,
                    disabled, last_login_at, logins, due{record}
             FROM made JOIN {schema}users AS template ON template.id = made.template ORDER BY number;"
    )
}

/// Copies what belongs to users, in the order of the table.
fn of_users(schema: &str, table: &str, columns: &str, order: &str) -> String {
    format!(
        "INSERT INTO {schema}{table} ({columns}, user_id) SELECT {columns}, made.id FROM made
         JOIN {schema}{table} ON user_id = template ORDER BY {order}made.id;"
    )
}

/// Processor time of a server that answers each connection by a process of its own, by the file that has its number: of itself, of
/// those that run, and of those that have ended.
fn family_cpu(number: &Path) -> Duration {
    let text = std::fs::read_to_string(number).unwrap_or_default();
    let Some(parent) = text.lines().next().and_then(|line| line.trim().parse::<u32>().ok()) else {
        return Duration::ZERO;
    };
    let fields = |process: &str| {
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        // The name may hold spaces.
        let rest = stat.rsplit(") ").next().unwrap_or_default().to_owned();
        rest.split(' ').map(str::to_owned).collect::<Vec<String>>()
    };
    let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let children = all.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let process = name.parse::<u32>().ok()?;
        (fields(&name).get(1)?.parse::<u32>().ok()? == parent).then_some(process)
    });
    // User and system time of ended children, in hundredths of a second.
    let ended = fields(&parent.to_string());
    let ticks = |at: usize| ended.get(at).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    let ended = Duration::from_millis(10 * (ticks(13) + ticks(14)));
    process::cpu_of(parent) + ended + children.map(process::cpu_of).sum::<Duration>()
}

fn megabytes(bytes: f64) -> String {
    format!("{:.1}", bytes / 1e6)
}
