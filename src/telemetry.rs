//! Structured logs on standard error, and what is counted.

pub mod meters;
pub mod missing;
#[cfg(feature = "samael")]
pub mod second_verifier;
pub mod watchdog;

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};

/// Makes the log as the configuration asks.
///
/// # Errors
/// When a log was installed before.
pub fn install(log: &Log) -> Result<(), String> {
    // Other crates' debug output may hold header values and bodies, so no level opens them.
    let filter = EnvFilter::new(format!("warn,loginsync={}", log.level));
    let coloured = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(coloured).with_writer(std::io::stderr);
    match log.format {
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
        LogFormat::Text => builder.try_init(),
    }
    .map_err(|error| error.to_string())
}
