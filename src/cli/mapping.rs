//! `loginsync mapping`: the mappings of a configuration, and of its store, in the order in which they run.

use std::sync::Arc;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::{ConfigArgument, Failure, block_on, print_json};
use crate::clock::Clock;
use crate::pipeline::ids::Timestamp;
use crate::pipeline::mapping::Mapping;
use crate::ports::store::Replanned;

#[derive(Debug, Args)]
pub struct MappingCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List all mappings: condition, groups and roles given, and whether each is active
    List {
        #[command(flatten)]
        config: ConfigArgument,
        #[arg(long)]
        json: bool,
    },
    /// Apply the mappings to all users now, from the claims of their last logins; the brake holds what it would hold at logins
    ///
    /// `loginsync plan` shows beforehand what changes at the next logins. With `sync.apply = "now"` the running proxy does this
    /// after every change of the rules.
    Apply {
        #[command(flatten)]
        config: ConfigArgument,
        /// Name of the operator, for the audit
        #[arg(long, env = "USER", default_value = "unknown")]
        by: String,
        #[arg(long)]
        json: bool,
    },
}

#[derive(Serialize)]
struct Row {
    /// By which grants name their mapping.
    id: String,
    mapping: String,
    name: Option<String>,
    provider: Option<String>,
    asks: String,
    gives: Vec<String>,
    /// `active`, `disabled`, `inactive` or `expired`.
    activity: String,
    until: Option<String>,
}

impl Row {
    fn of(mapping: &Mapping, now: Timestamp) -> Self {
        let expired = mapping.until.is_some_and(|until| until <= now);
        Self {
            id: mapping.id.to_string(),
            mapping: mapping.label(),
            name: mapping.name.as_deref().map(str::to_owned),
            provider: mapping.provider.as_ref().map(ToString::to_string),
            asks: mapping.sentence(),
            gives: mapping.gifts(),
            activity: if expired { String::from("expired") } else { mapping.activity.to_string() },
            until: mapping.until.map(|until| until.to_string()),
        }
    }
}

impl MappingCommand {
    /// # Errors
    /// Faults of the configuration.
    pub fn run(self) -> Result<(), Failure> {
        match self.action {
            Action::List { config, json } => list(&config, json),
            Action::Apply { config, by, json } => apply(&config, &by, json),
        }
    }
}

fn list(config: &ConfigArgument, json: bool) -> Result<(), Failure> {
    let (config, _) = config.open_if_there()?;
    let now = Clock::system().now();
    let rows: Vec<Row> = config.rules.mappings().iter().map(|mapping| Row::of(mapping, now)).collect();
    if json {
        return print_json(&rows);
    }
    for Row { mapping, provider, asks, gives, activity, until, .. } in rows {
        let provider = provider.unwrap_or_else(|| String::from("every provider"));
        let until = until.map(|until| format!(" until {until}")).unwrap_or_default();
        say!("{mapping}  ({provider}; {activity}{until})  {asks}: {}", gives.join(", "));
    }
    Ok(())
}

fn apply(config: &ConfigArgument, by: &str, json: bool) -> Result<(), Failure> {
    let (config, store) = config.open_to_act()?;
    let by = format!("cli:{by}");
    let mut done = Replanned { next: None, people: 0, changed: 0 };
    block_on(async {
        loop {
            let rules = Arc::clone(&config.rules);
            let page = store.replan(rules, done.next, Some(&by), Clock::system().now()).await.map_err(Failure::new)?;
            done.people += page.people;
            done.changed += page.changed;
            done.next = page.next;
            if done.next.is_none() {
                return Ok(());
            }
        }
    })?;
    let Replanned { people, changed, .. } = done;
    match json {
        true => print_json(&serde_json::json!({ "people": people, "changed": changed })),
        false => {
            say!(
                "{people} users with recorded claims planned again, {changed} changed; `loginsync hold list` shows \
                 what the brake holds"
            );
            Ok(())
        }
    }
}
