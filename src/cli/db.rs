//! `loginsync db`: the database itself.

use clap::{Args, Subcommand};

use super::{ConfigArgument, Failure, block_on, print_json};

#[derive(Debug, Args)]
pub struct DbCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Check that the tables by which users are found equal the users' records
    Check {
        #[command(flatten)]
        config: ConfigArgument,
        /// Correct what differs; the records are right
        #[arg(long)]
        repair: bool,
        #[arg(long)]
        json: bool,
    },
}

impl DbCommand {
    /// # Errors
    /// Faults of the configuration or the store, and differences that were not repaired.
    pub fn run(self) -> Result<(), Failure> {
        let Action::Check { config, repair, json } = self.action;
        let (_, store) = config.open()?;
        let faults = block_on(async { store.check(repair).await.map_err(Failure::new) })?;
        if json {
            print_json(&serde_json::json!({ "faults": faults, "repaired": repair && !faults.is_empty() }))?;
        } else {
            faults.iter().for_each(|fault| println!("{fault}"));
        }
        match (faults.is_empty(), repair) {
            (true, _) if json => Ok(()),
            (true, _) => {
                println!("ok");
                Ok(())
            }
            (false, true) => {
                eprintln!("repaired");
                Ok(())
            }
            (false, false) => {
                Err(Failure("the tables differ from the records; `loginsync db check --repair` corrects them".into()))
            }
        }
    }
}
