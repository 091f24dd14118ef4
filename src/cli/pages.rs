//! `loginsync completions` and `loginsync man`: what a package installs beside the binary.

use std::io;
use std::path::PathBuf;

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::{Arguments, Failure};

#[derive(Debug, Args)]
pub struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    /// # Errors
    /// Never; as the other commands.
    pub fn run(self) -> Result<(), Failure> {
        clap_complete::generate(self.shell, &mut Arguments::command(), "loginsync", &mut io::stdout());
        Ok(())
    }
}

#[derive(Debug, Args)]
pub struct Man {
    /// Directory to write one page per command to; it must exist
    directory: PathBuf,
}

impl Man {
    /// # Errors
    /// When the directory cannot be written.
    pub fn run(self) -> Result<(), Failure> {
        let unwritable =
            |error: io::Error| Failure(format!("cannot write man pages to `{}`: {error}", self.directory.display()));
        clap_mangen::generate_to(Arguments::command(), &self.directory).map_err(unwritable)
    }
}
