//! `loginsync hold`: revocations that the brake has stopped.

use std::sync::Arc;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::{ConfigArgument, Failure, block_on, parse_user, print_json};
use crate::clock::Clock;
use crate::pipeline::ids::{GroupName, InvalidText, ProviderName, RoleName, Target};
use crate::ports::store::{HoldFilter, HoldView};

#[derive(Debug, Args)]
pub struct HoldCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List holds, oldest first
    List(Filtered),
    /// Release holds: plan each again from the claims of the last login, without the brake
    Release(Act),
    /// Discard holds: keep the grants until a later login decides otherwise
    Discard(Act),
}

#[derive(Debug, Args)]
struct Filtered {
    #[command(flatten)]
    config: ConfigArgument,
    /// Only holds of this user, such as okta/alice
    #[arg(long, value_name = "NAMESPACE/SUBJECT")]
    user: Option<String>,
    #[arg(long)]
    provider: Option<String>,
    #[arg(long, conflicts_with = "role")]
    group: Option<String>,
    #[arg(long)]
    role: Option<String>,
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Act {
    #[command(flatten)]
    filtered: Filtered,
    /// All holds; either this or a filter is required
    #[arg(long)]
    all: bool,
    /// Name of the operator, for the audit
    #[arg(long, env = "USER", default_value = "unknown")]
    by: String,
}

#[derive(Serialize)]
struct Row {
    namespace: String,
    subject: String,
    provider: String,
    kind: &'static str,
    name: String,
    mapping: String,
    since: String,
}

impl From<&HoldView> for Row {
    fn from(hold: &HoldView) -> Self {
        Self {
            namespace: hold.user.namespace.to_string(),
            subject: hold.user.subject.to_string(),
            provider: hold.provider.to_string(),
            kind: hold.target.as_ref().map_or("user", Target::kind),
            name: hold.target.as_ref().map_or("disabled", Target::name).to_owned(),
            mapping: hold.mapping.clone(),
            since: hold.since.to_string(),
        }
    }
}

impl HoldCommand {
    /// # Errors
    /// Faults of the configuration, of the store, or of what was asked.
    pub fn run(self) -> Result<(), Failure> {
        match self.action {
            Action::List(filtered) => filtered.list(),
            Action::Release(act) => act.carry_out(true),
            Action::Discard(act) => act.carry_out(false),
        }
    }
}

impl Filtered {
    fn filter(&self) -> Result<HoldFilter, Failure> {
        let user = self.user.as_deref().map(parse_user);
        let provider = self.provider.as_deref().map(|name| ProviderName::parse(name).map_err(wrong("provider")));
        let target = match (&self.group, &self.role) {
            (Some(name), _) => Some(GroupName::parse(name).map(Target::Group).map_err(wrong("group"))?),
            (None, Some(name)) => Some(RoleName::parse(name).map(Target::Role).map_err(wrong("role"))?),
            (None, None) => None,
        };
        Ok(HoldFilter { user: user.transpose()?, provider: provider.transpose()?, target })
    }

    fn list(&self) -> Result<(), Failure> {
        let (config, store) = self.config.open()?;
        let filter = self.filter()?;
        let holds = block_on(async { store.holds(filter, Arc::clone(&config.rules)).await.map_err(Failure::new) })?;
        if self.json {
            return print_json(&holds.iter().map(Row::from).collect::<Vec<_>>());
        }
        for HoldView { user, provider, target, mapping, since } in &holds {
            match target {
                Some(target) => {
                    say!("{since}  {user}  {target}  no longer given by `{mapping}` through {provider}")
                }
                None => say!("{since}  {user}  would be disabled by `{mapping}` through {provider}"),
            }
        }
        Ok(())
    }
}

fn wrong(what: &'static str) -> impl Fn(InvalidText) -> Failure {
    move |error| Failure(format!("the {what} {error}"))
}

impl Act {
    fn carry_out(self, release: bool) -> Result<(), Failure> {
        let filter = self.filtered.filter()?;
        if filter.takes_all() != self.all {
            return Err(Failure(
                "expected --user, --provider, --group or --role, or --all alone for everything".into(),
            ));
        }
        let (config, store) = self.filtered.config.open_to_act()?;
        let (rules, by, now) = (Arc::clone(&config.rules), format!("cli:{}", self.by), Clock::system().now());
        let done = block_on(async {
            let done = match release {
                true => store.release(filter, rules, by, now).await,
                false => store.discard(filter, rules, by, now).await,
            };
            done.map_err(Failure::new)
        })?;
        match self.filtered.json {
            true => print_json(&serde_json::json!({ "holds": done })),
            false => {
                say!("{done} {}", if release { "released" } else { "discarded" });
                Ok(())
            }
        }
    }
}
