//! `loginsync lint`: what is legal in a configuration, and suspicious.

use std::process::ExitCode;

use clap::Args;

use super::{ConfigArgument, FOUND, Failure, block_on, print_json};
use crate::app;
use crate::clock::Clock;
use crate::lint;

/// Checks the rules that a login meets: those of the file, and those of the database if it exists.
///
/// Exit codes: 0 no findings; 3 findings; 1 the configuration has faults (see `loginsync check`).
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
        let config = self.config.load()?;
        let (rules, unvouched) = block_on(async { app::looked_at(&config).await.map_err(Failure::new) })?;
        let findings = lint::findings(&config, &rules, &unvouched, Clock::system().now());
        match self.json {
            true => print_json(&findings)?,
            false if findings.is_empty() => say!("nothing suspicious"),
            false => findings.iter().for_each(|finding| say!("{finding}")),
        }
        Ok(if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(FOUND) })
    }
}
