//! `loginsync completions` and `loginsync man`: what a package installs with the binary.

use std::io::{self, Write as _};
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
    /// When standard output is closed.
    pub fn run(self) -> Result<(), Failure> {
        // Straight to standard output it would panic where that is closed.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Arguments::command(), "loginsync", &mut script);
        io::stdout().write_all(&script).map_err(|error| Failure(format!("cannot write to standard output: {error}")))
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
