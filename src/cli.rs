//! The commands: one file each, and what they share.
//!
//! Results go to standard output, everything else to standard error. [`EXIT_CODES`] has the exit codes.

#[macro_use]
mod say;

pub mod audit;
pub mod check;
pub mod client;
pub mod console;
pub mod db;
pub mod delivery;
pub mod demo;
pub mod explain;
pub mod group;
pub mod health;
pub mod hold;
pub mod lease;
pub mod lint;
pub mod mapping;
pub mod pages;
pub mod plan;
pub mod serve;
pub mod test;
pub mod user;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::OnceLock;

use clap::{Parser, Subcommand};
use tokio::runtime::Runtime;

use crate::app::{self, Opened};
use crate::clock::Clock;
use crate::config::Config;
use crate::pipeline::ids::{Namespace, Subject, Timestamp, UserId};
use crate::ports::store::{Store, StoreError};

/// The exit codes of all commands.
pub const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed: a fault, an error, or not found
  2  wrong usage
  3  refused, or something would change: explain, plan, lint and test found something";

/// Syncs group membership and roles at every login, in front of your app.
#[derive(Debug, Parser)]
#[command(version = env!("LOGINSYNC_VERSION"), about, max_term_width = 100, after_help = EXIT_CODES)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the proxy
    Serve(serve::Serve),
    /// Check a configuration, and report all its faults
    Check(check::Check),
    /// Show how a token, a SAML response or a set of claims would be decided, and why
    Explain(explain::Explain),
    /// Show who would gain and lose which groups and roles under another configuration
    Plan(plan::Plan),
    /// Test mappings: run cases of claims with the groups and roles that they should give
    Test(test::Test),
    /// Report valid but suspicious settings
    Lint(lint::Lint),
    /// List the mappings of a configuration, and apply them to all users
    Mapping(mapping::MappingCommand),
    /// List, release or discard revocations that the brake holds
    Hold(hold::HoldCommand),
    /// List receivers and their pending deliveries; test, retry, pause, resync
    Delivery(delivery::DeliveryCommand),
    /// List leases, and end those that have expired
    Lease(lease::LeaseCommand),
    /// Check whether the running proxy is healthy
    Health(health::Health),
    /// Show users and their memberships; assign, deny, disable, rekey, erase
    User(user::UserCommand),
    /// List groups and roles and their members
    Group(group::GroupCommand),
    /// Manage API clients
    Client(client::ClientCommand),
    /// Print a link that opens a session of the console, or end all sessions
    Console(console::Console),
    /// List audit rows, and verify the chain
    Audit(audit::AuditCommand),
    /// Check, repair, migrate and move the database
    Db(db::DbCommand),
    /// Run a demo on this machine: a provider, an app and the proxy, with temporary keys
    Demo(demo::Demo),
    /// Print a shell completion script
    Completions(pages::Completions),
    /// Write man pages
    Man(pages::Man),
}

/// Why a command failed. Printed to standard error.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Failure(pub String);

impl Failure {
    pub fn new(message: impl std::fmt::Display) -> Self {
        Self(message.to_string())
    }
}

/// The configuration file of a command.
#[derive(Debug, clap::Args)]
pub struct ConfigArgument {
    /// The configuration file
    #[arg(long, env = "LOGINSYNC_CONFIG", value_name = "FILE", default_value = "/etc/loginsync/loginsync.toml")]
    pub config: PathBuf,
}

impl ConfigArgument {
    /// # Errors
    /// All faults of the file.
    pub fn load(&self) -> Result<Config, Failure> {
        load(&self.config)
    }

    /// The configuration with the rules that a login meets, for commands that need nothing else of the store: the database is
    /// only read, and without one the file's rules are all.
    ///
    /// # Errors
    /// When the configuration has faults, or a database that is there cannot be read.
    pub fn look(&self) -> Result<Config, Failure> {
        let mut config = self.load()?;
        (config.rules, _) = block_on(async { app::looked_at(&config).await.map_err(Failure::new) })?;
        Ok(config)
    }

    /// Opens the store that the configuration names. The rules are those of the file and of the store together.
    ///
    /// # Errors
    /// When the configuration has faults, or the database cannot be opened.
    pub fn open(&self) -> Result<(Config, Store), Failure> {
        self.open_all().map(|(config, opened)| (config, opened.store))
    }

    /// The same for what acts by the rules: where sidecars serve the database, one of them has to decide by this file.
    ///
    /// # Errors
    /// As for [`Self::open`], and when no live sidecar has announced these rules.
    pub fn open_to_act(&self) -> Result<(Config, Store), Failure> {
        let mut config = self.load()?;
        let store = block_on(async {
            let opened = app::open(&config).await.map_err(Failure::new)?;
            let rules = app::rules_to_act(&config, &opened).await.map_err(Failure::new)?;
            config.rules = rules.ok_or_else(|| {
                Failure(format!(
                    "the live sidecars of this database use other rules than those of `{}`; use the file of one of them, or \
                     have them load this one first (`loginsync db status` lists them)",
                    self.config.display()
                ))
            })?;
            Ok(opened.store)
        })?;
        Ok((config, store))
    }

    /// The same, with the other stores that belong to it.
    ///
    /// # Errors
    /// When the configuration has faults, or the database cannot be opened.
    pub fn open_all(&self) -> Result<(Config, Opened), Failure> {
        let mut config = self.load()?;
        let opened = block_on(async {
            let opened = app::open(&config).await.map_err(Failure::new)?;
            config.rules = app::rules_with_store(&config, &*opened.catalogue).await.map_err(Failure::new)?;
            Ok(opened)
        })?;
        Ok((config, opened))
    }

    /// The same for a look at how a sidecar decides now: with what is to be said of its rules. No database is created.
    ///
    /// # Errors
    /// As for [`Self::open`].
    pub fn open_to_explain(&self) -> Result<(Config, Option<Store>, Option<&'static str>), Failure> {
        let mut config = self.load()?;
        let (store, remark) = block_on(async {
            let Some(opened) = app::open_if_there(&config).await.map_err(Failure::new)? else {
                return Ok((None, None));
            };
            let (rules, remark) = app::rules_to_explain(&config, &opened).await.map_err(Failure::new)?;
            config.rules = rules;
            Ok((Some(opened.store), remark))
        })?;
        Ok((config, store, remark))
    }

    /// The same for commands that only read: they do not create a database.
    ///
    /// # Errors
    /// As for [`Self::open`].
    pub fn open_if_there(&self) -> Result<(Config, Option<Store>), Failure> {
        let mut config = self.load()?;
        let opened = block_on(async {
            let opened = app::open_if_there(&config).await.map_err(Failure::new)?;
            if let Some(opened) = &opened {
                config.rules = app::rules_with_store(&config, &*opened.catalogue).await.map_err(Failure::new)?;
            }
            Ok(opened)
        })?;
        Ok((config, opened.map(|opened| opened.store)))
    }
}

/// # Errors
/// All faults of the file.
pub fn load(path: &Path) -> Result<Config, Failure> {
    Config::load(path, &|name| std::env::var(name).ok(), Clock::system().now()).map_err(Failure::new)
}

/// Runs what the command line asks for.
pub fn run(arguments: Arguments) -> ExitCode {
    let outcome = match arguments.command {
        Command::Serve(serve) => serve.run(),
        Command::Check(check) => return finish(Ok(check.run())),
        Command::Explain(explain) => return finish(explain.run()),
        Command::Plan(plan) => return finish(plan.run()),
        Command::Test(test) => return finish(test.run()),
        Command::Lint(lint) => return finish(lint.run()),
        Command::Mapping(mapping) => mapping.run(),
        Command::Hold(hold) => hold.run(),
        Command::Delivery(delivery) => delivery.run(),
        Command::Lease(lease) => lease.run(),
        Command::Health(health) => health.run(),
        Command::User(user) => user.run(),
        Command::Group(group) => group.run(),
        Command::Client(client) => client.run(),
        Command::Console(console) => console.run(),
        Command::Audit(audit) => audit.run(),
        Command::Db(db) => db.run(),
        Command::Demo(demo) => demo.run(),
        Command::Completions(completions) => completions.run(),
        Command::Man(man) => man.run(),
    };
    finish(outcome.map(|()| ExitCode::SUCCESS))
}

fn finish(outcome: Result<ExitCode, Failure>) -> ExitCode {
    match outcome {
        Ok(code) if say::is_whole() => code,
        Ok(_) => ExitCode::FAILURE,
        Err(failure) => {
            remark!("{failure}");
            ExitCode::FAILURE
        }
    }
}

/// Runs work on the one runtime of a command: connections to a database are driven by the runtime that has made them.
fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    static RUNTIME: OnceLock<std::io::Result<Runtime>> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| tokio::runtime::Builder::new_current_thread().enable_all().build());
    runtime.as_ref().map_err(Failure::new)?.block_on(work)
}

/// The exit code of a command that worked, and found a refusal, a change or a fault in what it looked at.
const FOUND: u8 = 3;

/// Parses an RFC 3339 timestamp.
fn moment(text: &str) -> Result<Timestamp, String> {
    let parsed = chrono::DateTime::parse_from_rfc3339(text);
    parsed
        .map(|date| Timestamp(date.timestamp_millis()))
        .map_err(|error| format!("{error}; expected a time such as 2027-01-31T00:00:00Z"))
}

/// The user of a key as `user list` prints it.
fn parse_user(key: &str) -> Result<UserId, Failure> {
    let (namespace, subject) = key.split_once('/').ok_or_else(|| {
        Failure(format!("`{key}` does not name a user; expected NAMESPACE/SUBJECT, such as okta/alice"))
    })?;
    user_id(namespace, subject)
}

fn user_id(namespace: &str, subject: &str) -> Result<UserId, Failure> {
    let namespace = Namespace::parse(namespace).map_err(|error| Failure(format!("the namespace {error}")))?;
    let subject = Subject::parse(subject).map_err(|error| Failure(format!("the subject {error}")))?;
    Ok(UserId { namespace, subject })
}

fn undeclared<'a>(kind: &str, name: &str, known: impl Iterator<Item = &'a str>) -> Failure {
    let nearest = known.min_by_key(|candidate| strsim::levenshtein(candidate, name));
    let hint = nearest.map(|nearest| format!("; the nearest is `{nearest}`")).unwrap_or_default();
    Failure(format!("the configuration declares no {kind} `{name}`{hint}"))
}

/// Users fetched at a time.
const PAGE: usize = 1000;

/// Fetches all users page by page: `page` returns those after a given user.
async fn all_users(
    page: impl AsyncFn(Option<UserId>) -> Result<Vec<UserId>, StoreError>,
) -> Result<Vec<UserId>, Failure> {
    let mut all: Vec<UserId> = Vec::new();
    loop {
        let found = page(all.last().cloned()).await.map_err(Failure::new)?;
        let complete = found.len() < PAGE;
        all.extend(found);
        if complete {
            return Ok(all);
        }
    }
}

/// Prints a value as JSON, indented.
fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    say!("{}", serde_json::to_string_pretty(value).map_err(Failure::new)?);
    Ok(())
}
