//! `loginsync lease`: mapped grants that end when their owner does not log in again.

use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::{ConfigArgument, Failure, block_on, print_json};
use crate::clock::Clock;
use crate::config;
use crate::pipeline::ids::Timestamp;
use crate::ports::store::{LeaseView, Reaped};

/// Maximum number of leases to list.
const MOST: usize = 100_000;

#[derive(Debug, Args)]
pub struct LeaseCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List grants with a lease, earliest end first
    List {
        #[command(flatten)]
        config: ConfigArgument,
        /// Only leases that end within this time, such as 7d
        #[arg(long, value_name = "TIME", value_parser = config::duration)]
        expiring: Option<Duration>,
        #[arg(long, default_value_t = 1000)]
        limit: usize,
        #[arg(long)]
        json: bool,
    },
    /// End expired leases, denies and mappings now; the running proxy does so every minute
    Reap {
        #[command(flatten)]
        config: ConfigArgument,
        /// Show which leases would end, without ending them
        #[arg(long)]
        dry_run: bool,
        #[arg(long)]
        json: bool,
    },
}

#[derive(Serialize)]
struct Row<'a> {
    namespace: &'a str,
    subject: &'a str,
    provider: &'a str,
    kind: &'static str,
    name: &'a str,
    mapping: &'a str,
    ends_at: String,
}

impl LeaseCommand {
    /// # Errors
    /// Faults of the configuration or of the store.
    pub fn run(self) -> Result<(), Failure> {
        let now = Clock::system().now();
        match self.action {
            Action::List { config, expiring, limit, json } => {
                let before = expiring.map_or(Timestamp(i64::MAX), |within| now.plus(within));
                list(&config, before, limit, json)
            }
            Action::Reap { config, dry_run: true, json } => list(&config, now, MOST, json),
            Action::Reap { config, dry_run: false, json } => reap(&config, now, json),
        }
    }
}

fn list(config: &ConfigArgument, before: Timestamp, limit: usize, json: bool) -> Result<(), Failure> {
    let (config, store) = config.open()?;
    let rules = Arc::clone(&config.rules);
    let leases = block_on(async { store.leases(rules, before, limit).await.map_err(Failure::new) })?;
    if json {
        return print_json(&leases.iter().map(row).collect::<Vec<_>>());
    }
    for LeaseView { namespace, subject, provider, target, mapping, ends_at } in &leases {
        say!("{ends_at}  {namespace}/{subject}  {target}  by `{mapping}` through {provider}");
    }
    Ok(())
}

fn row(lease: &LeaseView) -> Row<'_> {
    Row {
        namespace: &lease.namespace,
        subject: &lease.subject,
        provider: &lease.provider,
        kind: lease.target.kind(),
        name: lease.target.name(),
        mapping: &lease.mapping,
        ends_at: lease.ends_at.to_string(),
    }
}

fn reap(config: &ConfigArgument, now: Timestamp, json: bool) -> Result<(), Failure> {
    let (config, store) = config.open_to_act()?;
    let mut all = Reaped::default();
    block_on(async {
        loop {
            let reaped = store.reap(Arc::clone(&config.rules), now).await.map_err(Failure::new)?;
            all.leases += reaped.leases;
            all.denies += reaped.denies;
            all.expired += reaped.expired;
            if reaped.leases == 0 {
                return Ok(());
            }
        }
    })?;
    let Reaped { leases, denies, expired } = all;
    match json {
        true => print_json(&serde_json::json!({ "leases": leases, "denies": denies, "expired": expired })),
        false => {
            say!("{leases} leases, {denies} denies and {expired} grants of expired mappings ended");
            Ok(())
        }
    }
}
