//! The `loginsync` binary: reads the command line and runs one command.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use loginsync::cli::{self, Arguments};
use mimalloc::MiMalloc;

/// A request asks for memory some forty times, and a login a thousand times: glibc's allocator takes twice as many instructions for that.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    cli::run(Arguments::parse())
}
