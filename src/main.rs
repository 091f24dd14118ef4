//! The `loginsync` binary: reads the command line and runs one command.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use loginsync::cli::{self, Arguments};
use mimalloc::MiMalloc;

/// With glibc's allocator a proxied request took up to 7 % more time, and a login 6 to 7 % (docs/decisions.md).
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    cli::run(Arguments::parse())
}
