//! What a command prints.
//!
//! `println!` panics once the reader of a pipe has gone (`loginsync user list | head`).

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicBool, Ordering};

/// A line of the result, to standard output.
macro_rules! say {
    ($($text:tt)*) => { $crate::cli::say::to_output(format_args!("{}\n", format_args!($($text)*))) };
}

/// Part of a line of the result.
macro_rules! say_part {
    ($($text:tt)*) => { $crate::cli::say::to_output(format_args!($($text)*)) };
}

/// A remark that is not part of the result, to standard error.
macro_rules! remark {
    ($($text:tt)*) => { $crate::cli::say::to_terminal(format_args!("{}\n", format_args!($($text)*))) };
}

/// Whether some of the result could not be written.
static FAILED: AtomicBool = AtomicBool::new(false);

/// Writes a part of the result. Where its reader has closed the pipe, the command goes on without.
pub fn to_output(text: Arguments<'_>) {
    if let Err(error) = io::stdout().write_fmt(text) {
        note(&error);
    }
}

/// Writes a remark. Where that fails there is nowhere left to say so.
pub fn to_terminal(text: Arguments<'_>) {
    let _ = io::stderr().write_fmt(text);
}

/// Whether all of the result was written, but for what its reader did not want.
pub fn is_whole() -> bool {
    if let Err(error) = io::stdout().flush() {
        note(&error);
    }
    !FAILED.load(Ordering::Relaxed)
}

fn note(error: &io::Error) {
    if error.kind() != ErrorKind::BrokenPipe && !FAILED.swap(true, Ordering::Relaxed) {
        remark!("cannot write to standard output: {error}");
    }
}
