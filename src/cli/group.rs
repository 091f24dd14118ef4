//! `loginsync group`: the groups and roles of the configuration and of the store, and who holds them.

use clap::{Args, Subcommand};
use serde::Serialize;

use super::user::print_users;
use super::{ConfigArgument, Failure, PAGE, all_users, block_on, print_json};
use crate::pipeline::ids::{GroupName, RoleName, Target};

#[derive(Debug, Args)]
pub struct GroupCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List all groups and the roles that they carry
    List {
        #[command(flatten)]
        config: ConfigArgument,
        #[arg(long)]
        json: bool,
    },
    /// List users with a grant of a group, or with a direct grant of a role
    Members {
        #[command(flatten)]
        config: ConfigArgument,
        /// Name of the group, or of the role with --role
        name: String,
        /// Treat the name as a role
        #[arg(long)]
        role: bool,
        #[arg(long)]
        json: bool,
    },
}

#[derive(Serialize)]
struct Row<'a> {
    name: &'a str,
    roles: Vec<&'a str>,
    stages: Vec<&'a str>,
    protected: bool,
    mappings: usize,
}

impl GroupCommand {
    /// # Errors
    /// Faults of the configuration, of the store, or of what was asked.
    pub fn run(self) -> Result<(), Failure> {
        match self.action {
            Action::List { config, json } => list(&config, json),
            Action::Members { config, name, role, json } => members(&config, &name, role, json),
        }
    }
}

fn list(arguments: &ConfigArgument, json: bool) -> Result<(), Failure> {
    let (config, _) = arguments.open()?;
    let mut rows: Vec<Row<'_>> = config
        .rules
        .groups
        .iter()
        .map(|(name, group)| {
            let target = Target::Group(name.clone());
            Row {
                name: name.as_str(),
                roles: group.roles.iter().map(RoleName::as_str).collect(),
                stages: group.stages.iter().map(|stage| stage.as_str()).collect(),
                protected: group.protected,
                mappings: config
                    .rules
                    .mappings()
                    .iter()
                    .filter(|mapping| mapping.then.named().any(|given| *given == target))
                    .count(),
            }
        })
        .collect();
    rows.sort_by_key(|row| row.name);
    if json {
        return print_json(&rows);
    }
    for row in rows {
        let roles = if row.roles.is_empty() { "no roles".into() } else { format!("roles {}", row.roles.join(", ")) };
        say!("{}  ({roles}; {} mappings{})", row.name, row.mappings, if row.protected { "; protected" } else { "" });
    }
    Ok(())
}

fn members(arguments: &ConfigArgument, name: &str, role: bool, json: bool) -> Result<(), Failure> {
    let (_, store) = arguments.open()?;
    let target = match role {
        true => RoleName::parse(name).map(Target::Role),
        false => GroupName::parse(name).map(Target::Group),
    };
    let target = target.map_err(|error| Failure(format!("the name {error}")))?;
    let users = block_on(all_users(async |after| store.members(target.clone(), after, PAGE).await))?;
    print_users(&users, json)
}
