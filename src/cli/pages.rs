//! `loginsync completions` and `loginsync man`: what a package installs with the binary.

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
    pub fn run(self) -> Result<(), Failure> {
        // Straight to standard output it would panic where that is closed.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Arguments::command(), "loginsync", &mut script);
        say_part!("{}", String::from_utf8_lossy(&script));
        Ok(())
    }
}

#[derive(Debug, Args)]
pub struct Man {
    /// Directory to write one page per command to; it is created
    directory: PathBuf,
}

impl Man {
    /// # Errors
    /// When the directory cannot be written.
    pub fn run(self) -> Result<(), Failure> {
        let unwritable =
            |error: io::Error| Failure(format!("cannot write man pages to `{}`: {error}", self.directory.display()));
        std::fs::create_dir_all(&self.directory).map_err(unwritable)?;
        clap_mangen::generate_to(Arguments::command(), &self.directory).map_err(unwritable)
    }
}
