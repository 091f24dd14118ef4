//! `loginsync check`: all faults of a configuration, or "ok".

use std::process::ExitCode;

use clap::Args;

use super::ConfigArgument;
use crate::clock::Clock;
use crate::config::Config;

#[derive(Debug, Args)]
pub struct Check {
    #[command(flatten)]
    config: ConfigArgument,
    /// Faults as a JSON list on standard output
    #[arg(long)]
    json: bool,
}

impl Check {
    pub fn run(&self) -> ExitCode {
        match Config::load(&self.config.config, &|name| std::env::var(name).ok(), Clock::system().now()) {
            Ok(config) => {
                for warning in &config.warnings {
                    eprintln!("warning: {warning}");
                }
                println!("{}", if self.json { "[]" } else { "ok" });
                ExitCode::SUCCESS
            }
            Err(faults) if self.json => {
                println!("{}", serde_json::to_string_pretty(&faults).unwrap_or_default());
                ExitCode::FAILURE
            }
            Err(faults) => {
                eprintln!("{faults}");
                ExitCode::FAILURE
            }
        }
    }
}
