//! File descriptors: the limit that the process starts with, and what the configuration may need.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::Config;
use crate::serve::admin;

/// Descriptors for everything that is no connection: the database, listeners, providers, files while they are read.
const OTHERS: u64 = 128;

/// Raises the soft limit to the hard one, which needs no privilege, and warns where that is still less than the configured
/// connections may take.
pub fn raise(config: &Config) {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    // What cannot be raised stays, and the warning tells.
    let _ = setrlimit(Resource::Nofile, raised);
    let (needed, limit) = (needed(config), getrlimit(Resource::Nofile).current);
    if let Some(limit) = limit.filter(|limit| *limit < needed) {
        tracing::warn!(
            limit,
            needed,
            "the limit of open files is below what `listen.max_connections` may need; raise it (`ulimit -Hn`, `LimitNOFILE`) \
             or lower `listen.max_connections`"
        );
    }
}

/// A connection takes one descriptor, and one more towards the app or the provider.
fn needed(config: &Config) -> u64 {
    let relayed = config.relay.as_ref().map_or(0, |relay| relay.max_connections);
    let connections = config.listen.max_connections.saturating_add(relayed).saturating_mul(2);
    u64::try_from(connections.saturating_add(admin::server::MOST_CONNECTIONS))
        .unwrap_or(u64::MAX)
        .saturating_add(OTHERS)
}
