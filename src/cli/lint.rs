//! `loginsync lint`: what is legal in a configuration, and suspicious.

use std::process::ExitCode;

use clap::Args;

use super::{ConfigArgument, FOUND, Failure, print_json};
use crate::clock::Clock;
use crate::pipeline::lint::lint;

/// Looks at the rules that a login meets: those of the file, and those of the database that it names, where there is one.
///
/// Exit codes: 0 nothing was found; 2 something was; 1 the configuration has faults (`loginsync check`).
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct Lint {
    #[command(flatten)]
    config: ConfigArgument,
    #[arg(long)]
    json: bool,
}

impl Lint {
    /// # Errors
    /// Faults of the configuration.
    pub fn run(self) -> Result<ExitCode, Failure> {
        let config = self.config.look()?;
        let findings = lint(&config.rules, Clock::system().now());
        match self.json {
            true => print_json(&findings)?,
            false if findings.is_empty() => println!("nothing suspicious"),
            false => findings.iter().for_each(|finding| println!("{finding}")),
        }
        Ok(if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(FOUND) })
    }
}
