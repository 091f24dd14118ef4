//! `loginsync audit`: what happened, and whether the record of it is whole.

use clap::{Args, Subcommand};

use super::{ConfigArgument, Failure, block_on, print_json};
use crate::clock::Clock;
use crate::ports::store::{AuditRow, Store};

#[derive(Debug, Args)]
pub struct AuditCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List rows, oldest first
    List {
        #[command(flatten)]
        config: ConfigArgument,
        /// Start after this sequence number
        #[arg(long, default_value_t = 0)]
        after: i64,
        #[arg(long, default_value_t = 100)]
        limit: usize,
        #[arg(long)]
        json: bool,
    },
    /// Verify that no row was altered, removed, moved or inserted; report the first fault
    Verify {
        #[command(flatten)]
        config: ConfigArgument,
        /// A chain head from the log; fail unless the chain still contains it
        #[arg(long, value_name = "SEAL")]
        head: Option<String>,
        #[arg(long)]
        json: bool,
    },
    /// Accept rows older than the audit key; review them first, since the key proves nothing about them
    AcceptUnkeyed {
        #[command(flatten)]
        config: ConfigArgument,
        /// Name of the operator, for the audit
        #[arg(long, env = "USER", default_value = "unknown")]
        by: String,
    },
}

impl AuditCommand {
    /// # Errors
    /// Faults of the configuration or the store, and a chain that is not whole.
    pub fn run(self) -> Result<(), Failure> {
        match self.action {
            Action::List { config, after, limit, json } => list(&config, after, limit, json),
            Action::Verify { config, head, json } => verify(&config, head.as_deref(), json),
            Action::AcceptUnkeyed { config, by } => accept_unkeyed(&config, &by),
        }
    }
}

fn list(config: &ConfigArgument, after: i64, limit: usize, json: bool) -> Result<(), Failure> {
    let (_, store) = config.open()?;
    let rows = block_on(async { store.audit(after, limit).await.map_err(Failure::new) })?;
    if json {
        return print_json(&rows);
    }
    for row in rows {
        let person = match &row.person {
            Some(person) => format!("  {person}"),
            None => String::new(),
        };
        say!("{:>6}  {}  {:<14}{person}  {}", row.sequence, row.at, row.event, row.detail);
    }
    Ok(())
}

fn verify(config: &ConfigArgument, head: Option<&str>, json: bool) -> Result<(), Failure> {
    let (_, store) = config.open()?;
    let report = block_on(async { store.verify_audit().await.map_err(Failure::new) })?;
    let missing = match head {
        Some(head) => !block_on(contains(&store, head))?,
        None => false,
    };
    if json {
        print_json(&report)?;
    } else {
        let kind =
            if report.keyed { "sealed with the key" } else { "linked by hashes only, since there is no audit key" };
        say!("{} rows, {kind}; {} of them erased; head {}", report.rows, report.erased, report.head);
        if report.unkeyed > 0 {
            say!(
                "the first {} are older than the key, and were accepted: the key proves nothing about them",
                report.unkeyed
            );
        }
    }
    if let Some(broken) = &report.broken {
        return Err(Failure(broken.to_string()));
    }
    if missing {
        return Err(Failure("the given head is not in the chain: it was cut off, or replaced by an older copy".into()));
    }
    Ok(())
}

fn accept_unkeyed(config: &ConfigArgument, by: &str) -> Result<(), Failure> {
    let (_, store) = config.open()?;
    let by = format!("cli:{by}");
    let rows = block_on(async { store.accept_unkeyed(by, Clock::system().now()).await.map_err(Failure::new) })?;
    say!("accepted the first {rows} rows");
    Ok(())
}

async fn contains(store: &Store, head: &str) -> Result<bool, Failure> {
    let mut after = 0;
    loop {
        let rows: Vec<AuditRow> = store.audit(after, 1000).await.map_err(Failure::new)?;
        if rows.iter().any(|row| row.seal == head) {
            return Ok(true);
        }
        match rows.last() {
            Some(last) => after = last.sequence,
            None => return Ok(false),
        }
    }
}
