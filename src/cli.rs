//! The commands: one file each, and what they share.
//!
//! Results go to standard output, everything else to standard error. Exit codes: 0 done; 1 refused, not found or faulty;
//! 2 a command line that cannot be read. Commands that look before something changes (`explain`, `plan`, `lint`, `test`)
//! answer 0 or 2 where they could look, and 1 where they could not.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "commands speak to whoever typed them")]

pub mod audit;
pub mod check;
pub mod client;
pub mod demo;
pub mod explain;
pub mod group;
pub mod health;
pub mod hold;
pub mod lease;
pub mod lint;
pub mod mapping;
pub mod plan;
pub mod serve;
pub mod test;
pub mod user;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::app;
use crate::clock::Clock;
use crate::config::Config;
use crate::pipeline::ids::{Timestamp, UserId};
use crate::ports::store::{Store, StoreError};

/// Syncs group membership and roles at every login, in front of your app.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the proxy
    Serve(serve::Serve),
    /// Report every fault of a configuration, or "ok"
    Check(check::Check),
    /// Tell how a login is decided: a token, a SAML response or claims in, everything that comes of it out
    Explain(explain::Explain),
    /// Tell who would gain and lose what under another configuration
    Plan(plan::Plan),
    /// Run golden cases: claims in, groups and roles expected
    Test(test::Test),
    /// Tell what is legal in a configuration, and suspicious
    Lint(lint::Lint),
    /// Look at the mappings of a configuration
    Mapping(mapping::MappingCommand),
    /// Look at revocations that the brake has stopped, and release or discard them
    Hold(hold::HoldCommand),
    /// Look at grants that end without a login, and end those that are due
    Lease(lease::LeaseCommand),
    /// Ask the running proxy whether it is up
    Health(health::Health),
    /// Look at users and their memberships, and act on them
    User(user::UserCommand),
    /// Look at groups and roles and who holds them
    Group(group::GroupCommand),
    /// Say who may call the APIs of the admin listener
    Client(client::ClientCommand),
    /// Read the audit chain, and verify it
    Audit(audit::AuditCommand),
    /// Show it all on this machine: a provider, an app and the proxy between, with throw-away keys
    Demo(demo::Demo),
}

/// Why a command ended without doing what was asked. Printed to standard error as it is.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Failure(pub String);

impl Failure {
    pub fn new(message: impl std::fmt::Display) -> Self {
        Self(message.to_string())
    }
}

/// The configuration that a command works with.
#[derive(Debug, clap::Args)]
pub struct ConfigArgument {
    /// The configuration file
    #[arg(long, env = "LOGINSYNC_CONFIG", value_name = "FILE")]
    pub config: PathBuf,
}

impl ConfigArgument {
    /// # Errors
    /// All faults of the file.
    pub fn load(&self) -> Result<Config, Failure> {
        load(&self.config)
    }

    /// The configuration with the rules that a login meets, for whoever needs nothing else of the store: its database is
    /// only read, and where there is none, the file's rules are all.
    ///
    /// # Errors
    /// When the configuration has faults, or a database that is there cannot be read.
    pub fn look(&self) -> Result<Config, Failure> {
        let mut config = self.load()?;
        config.rules = app::rules_on_disk(&config).map_err(Failure::new)?;
        Ok(config)
    }

    /// Opens the store that the configuration names. The rules are those of the file and of the store together.
    ///
    /// # Errors
    /// When the configuration has faults, or the database cannot be opened.
    pub fn open(&self) -> Result<(Config, Box<dyn Store>), Failure> {
        let mut config = self.load()?;
        let store = app::open_store(&config).map_err(Failure::new)?;
        config.rules = block_on(async { app::rules_with_store(&config, &store).await.map_err(Failure::new) })?;
        Ok((config, Box::new(store)))
    }

    /// The same for whoever looks: no database is made where there is none.
    ///
    /// # Errors
    /// As for [`Self::open`].
    pub fn open_if_there(&self) -> Result<(Config, Option<Box<dyn Store>>), Failure> {
        let config = self.load()?;
        match config.store.path.exists() {
            true => self.open().map(|(config, store)| (config, Some(store))),
            false => Ok((config, None)),
        }
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
        Command::Check(check) => return check.run(),
        Command::Explain(explain) => return finish(explain.run()),
        Command::Plan(plan) => return finish(plan.run()),
        Command::Test(test) => return finish(test.run()),
        Command::Lint(lint) => return finish(lint.run()),
        Command::Mapping(mapping) => mapping.run(),
        Command::Hold(hold) => hold.run(),
        Command::Lease(lease) => lease.run(),
        Command::Health(health) => health.run(),
        Command::User(user) => user.run(),
        Command::Group(group) => group.run(),
        Command::Client(client) => client.run(),
        Command::Audit(audit) => audit.run(),
        Command::Demo(demo) => demo.run(),
    };
    finish(outcome.map(|()| ExitCode::SUCCESS))
}

fn finish(outcome: Result<ExitCode, Failure>) -> ExitCode {
    match outcome {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}

/// A runtime for commands that ask the store a few things.
fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::new)?;
    runtime.block_on(work)
}

/// What a command found that looks before something changes: nothing (0), or something (2).
const FOUND: u8 = 2;

/// A moment as RFC 3339 writes it.
fn moment(text: &str) -> Result<Timestamp, String> {
    let parsed = chrono::DateTime::parse_from_rfc3339(text);
    parsed
        .map(|date| Timestamp(date.timestamp_millis()))
        .map_err(|error| format!("{error}; expected a moment such as 2027-01-31T00:00:00Z"))
}

fn undeclared<'a>(kind: &str, name: &str, known: impl Iterator<Item = &'a str>) -> Failure {
    let nearest = known.min_by_key(|candidate| strsim::levenshtein(candidate, name));
    let hint = nearest.map(|nearest| format!("; the nearest is `{nearest}`")).unwrap_or_default();
    Failure(format!("the configuration declares no {kind} `{name}`{hint}"))
}

/// How many users are asked for at once.
const PAGE: usize = 1000;

/// All users, asked for page by page: `page` gives those after one of them.
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
    println!("{}", serde_json::to_string_pretty(value).map_err(Failure::new)?);
    Ok(())
}
