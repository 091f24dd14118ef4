//! The `loginsync` binary: reads the command line and runs one command.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use loginsync::cli::{self, Arguments};

fn main() -> ExitCode {
    cli::run(Arguments::parse())
}
