//! `loginsync serve`: runs the proxy until it is told to stop.

use clap::Args;

use super::{ConfigArgument, Failure};
use crate::{app, telemetry};

#[derive(Debug, Args)]
pub struct Serve {
    #[command(flatten)]
    config: ConfigArgument,
}

impl Serve {
    /// # Errors
    /// When it cannot start: faults of the configuration, an address in use, a store that cannot be opened.
    pub fn run(self) -> Result<(), Failure> {
        let config = self.config.load()?;
        telemetry::install(&config.log).map_err(Failure::new)?;
        let runtime = app::runtime().map_err(Failure::new)?;
        runtime.block_on(app::serve(self.config.config, config)).map_err(Failure::new)
    }
}
