//! `loginsync db`: the database itself.

mod moving;
mod status;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{ConfigArgument, Failure, block_on, print_json};
use crate::app;
use crate::clock::Clock;

#[derive(Debug, Args)]
pub struct DbCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show the size of the database, its rows and its standbys
    Status {
        #[command(flatten)]
        config: ConfigArgument,
        #[arg(long)]
        json: bool,
    },
    /// Check that the search tables agree with the users' records
    Check {
        #[command(flatten)]
        config: ConfigArgument,
        /// Correct the tables from the records
        #[arg(long)]
        repair: bool,
        #[arg(long)]
        json: bool,
    },
    /// Create the tables, or migrate them to the schema of this version
    ///
    /// With PostgreSQL, run it as the role that owns the tables; sidecars may run as another role.
    Migrate {
        #[command(flatten)]
        config: ConfigArgument,
        /// Grant this PostgreSQL role what a sidecar needs: it can add audit rows but not change them
        #[arg(long, value_name = "ROLE")]
        runtime_role: Option<String>,
        #[arg(long)]
        json: bool,
    },
    /// Move all data to the database of another configuration
    ///
    /// Stop all sidecars first. If it is interrupted, run it again to continue. Afterwards no sidecar starts on the old database.
    Move {
        #[command(flatten)]
        config: ConfigArgument,
        /// The configuration that names the new, empty database
        #[arg(long, value_name = "FILE", required_unless_present = "undo")]
        to: Option<PathBuf>,
        /// Write nothing: show what would be moved, or why the move would be refused
        #[arg(long)]
        dry_run: bool,
        /// Return to the old database; changes made in the new one since the move are lost
        #[arg(long, conflicts_with = "dry_run")]
        undo: bool,
        #[arg(long)]
        json: bool,
    },
    /// After a restore from a backup: refuse tokens issued before now, and end sessions
    ///
    /// A backup does not know which tokens were used and which sessions ended after it was made. Stop all sidecars first.
    Restored {
        #[command(flatten)]
        config: ConfigArgument,
        /// Name of the operator, for the audit
        #[arg(long, env = "USER", default_value = "unknown")]
        by: String,
    },
}

impl DbCommand {
    /// # Errors
    /// Faults of the configuration or the store, and differences that were not repaired.
    pub fn run(self) -> Result<(), Failure> {
        match self.action {
            Action::Status { config, json } => status::run(&config, json),
            Action::Check { config, repair, json } => check(&config, repair, json),
            Action::Migrate { config, runtime_role, json } => migrate(&config, runtime_role.as_deref(), json),
            Action::Move { config, to, dry_run, undo, json } => {
                let moving =
                    moving::Moving { from: config.load()?, to: to.as_deref().map(super::load).transpose()?, json };
                match (dry_run, undo) {
                    (true, _) => moving.look(),
                    (_, true) => moving.undo(),
                    _ => moving.carry_out(),
                }
            }
            Action::Restored { config, by } => restored(&config, format!("cli:{by}")),
        }
    }
}

fn check(config: &ConfigArgument, repair: bool, json: bool) -> Result<(), Failure> {
    let (_, store) = config.open()?;
    let faults = block_on(async { store.check(repair).await.map_err(Failure::new) })?;
    if json {
        print_json(&serde_json::json!({ "faults": faults, "repaired": repair && !faults.is_empty() }))?;
    } else {
        faults.iter().for_each(|fault| say!("{fault}"));
    }
    match (faults.is_empty(), repair) {
        (true, _) if json => Ok(()),
        (true, _) => {
            say!("ok");
            Ok(())
        }
        (false, true) => {
            remark!("repaired");
            Ok(())
        }
        (false, false) => {
            Err(Failure("the tables differ from the records; `loginsync db check --repair` corrects them".into()))
        }
    }
}

fn migrate(config: &ConfigArgument, runtime: Option<&str>, json: bool) -> Result<(), Failure> {
    let config = config.load()?;
    let (before, after) = block_on(async { app::migrate(&config, runtime).await.map_err(Failure::new) })?;
    if json {
        return print_json(&serde_json::json!({ "before": before, "after": after }));
    }
    match before {
        0 => say!("created the tables, schema version {after}"),
        before if before == after => say!("schema version {after}: nothing to do"),
        before => say!("migrated from schema version {before} to {after}"),
    }
    if let Some(role) = runtime {
        say!("`{role}` may run sidecars");
    }
    Ok(())
}

fn restored(config: &ConfigArgument, by: String) -> Result<(), Failure> {
    let config = config.load()?;
    let now = Clock::system().now();
    block_on(async {
        let opened = app::open_restored(&config).await.map_err(Failure::new)?;
        opened.store.restored(by, now).await.map_err(Failure::new)
    })?;
    say!("tokens issued before {now} are refused, and sessions have ended");
    remark!(
        "what was revoked, disabled or erased after the backup is back as it was: check `loginsync user list` and \
         `loginsync client list`, and repeat the erasures"
    );
    Ok(())
}
