//! `loginsync mapping`: the mappings of a configuration, and of its store, in the order in which they run.

use clap::{Args, Subcommand};
use serde::Serialize;

use super::{ConfigArgument, Failure, print_json};
use crate::clock::Clock;
use crate::pipeline::ids::Timestamp;
use crate::pipeline::mapping::Mapping;

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
        let Action::List { config, json } = self.action;
        let (config, _) = config.open_if_there()?;
        let now = Clock::system().now();
        let rows: Vec<Row> = config.rules.mappings().iter().map(|mapping| Row::of(mapping, now)).collect();
        if json {
            return print_json(&rows);
        }
        for Row { mapping, provider, asks, gives, activity, until, .. } in rows {
            let provider = provider.unwrap_or_else(|| String::from("every provider"));
            let until = until.map(|until| format!(" until {until}")).unwrap_or_default();
            println!("{mapping}  ({provider}; {activity}{until})  {asks}: {}", gives.join(", "));
        }
        Ok(())
    }
}
