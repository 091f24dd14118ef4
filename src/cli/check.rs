//! `loginsync check`: all faults of a configuration, or "ok".

use std::process::ExitCode;

use clap::Args;

use super::{ConfigArgument, Failure, block_on};
use crate::app;
use crate::clock::Clock;
use crate::config::Config;
use crate::lint;

#[derive(Debug, Args)]
pub struct Check {
    #[command(flatten)]
    config: ConfigArgument,
    /// Print faults as a JSON list
    #[arg(long)]
    json: bool,
}

impl Check {
    pub fn run(&self) -> ExitCode {
        match Config::load(&self.config.config, &|name| std::env::var(name).ok(), Clock::system().now()) {
            Ok(config) => {
                for warning in &config.warnings {
                    remark!("warning: {warning}");
                }
                beside_the_store(&config).iter().for_each(|warning| remark!("warning: {warning}"));
                say!("{}", if self.json { "[]" } else { "ok" });
                ExitCode::SUCCESS
            }
            Err(faults) if self.json => {
                say!("{}", serde_json::to_string_pretty(&faults).unwrap_or_default());
                ExitCode::FAILURE
            }
            Err(faults) => {
                remark!("{faults}");
                ExitCode::FAILURE
            }
        }
    }
}

/// Checks the rules together with those of the database, if it exists. The database is only read, and its faults are not faults
/// of the configuration.
fn beside_the_store(config: &Config) -> Vec<String> {
    let (rules, unvouched) = match block_on(async { app::looked_at(config).await.map_err(Failure::new) }) {
        Ok(found) => found,
        Err(error) => return vec![format!("the database was not checked: {error}")],
    };
    let mut warnings: Vec<String> =
        unvouched.iter().flat_map(lint::of_privileged).map(|finding| finding.to_string()).collect();
    let left_out = rules.overlay.left_out.iter();
    warnings.extend(left_out.map(|(number, why)| format!("number {number} of the store is not in use: {why}")));
    warnings
}
