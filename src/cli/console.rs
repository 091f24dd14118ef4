//! `loginsync console`: a link that opens a session of the console.
//!
//! The link works once and for a minute. It carries 256 random bits, of which the store gets the SHA-256.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::{ConfigArgument, Failure, block_on};
use crate::app;
use crate::clock::Clock;
use crate::config::{Admin, Scope};
use crate::pipeline::ids::Timestamp;
use crate::ports::console::{Operator, SignIn};
use crate::ports::sessions::Digest;
use crate::ports::store::{Store, StoreError};
use crate::serve::admin::auth::random_text;

/// How long a link works.
const LIFETIME: Duration = Duration::from_secs(60);

#[derive(Debug, Args)]
pub struct Console {
    #[command(flatten)]
    config: ConfigArgument,
    /// Let the session change things; without it, it only reads
    #[arg(long)]
    write: bool,
    /// End all sessions and links instead
    #[arg(long, conflicts_with = "write")]
    end: bool,
    /// Name of the operator, for the audit
    #[arg(long, env = "USER", default_value = "unknown")]
    by: String,
}

impl Console {
    /// # Errors
    /// When the console is off, or the store cannot be written.
    pub fn run(self) -> Result<(), Failure> {
        let Self { config, write, end, by } = self;
        let config = config.load()?;
        let now = Clock::system().now();
        if end {
            let ended = block_on(async {
                let store = app::open(&config).await.map_err(Failure::new)?.store;
                let ended = store.console().end(None).await.map_err(Failure::new)?;
                store.note("console_ended", json!({ "by": by, "ended": ended }), now).await.map_err(Failure::new)?;
                Ok(ended)
            })?;
            say!("ended {ended} sessions and links of the console");
            return Ok(());
        }
        if !config.console.enabled {
            return Err(Failure("the console is off; turn it on by `[console]` with `enabled = true`".into()));
        }
        let link = block_on(async {
            let store = app::open(&config).await.map_err(Failure::new)?.store;
            link(&store, &by, write, LIFETIME, now).await.map_err(Failure::new)
        })?;
        say!("{}{link}", origin(&config.admin));
        let may = if write { "may change things" } else { "is read-only; `--write` makes one that may change things" };
        remark!("the link works once, within a minute; its session {may}");
        Ok(())
    }
}

/// Makes a link; returns the path of its page.
///
/// # Errors
/// When the store cannot be written.
pub async fn link(
    store: &Store,
    by: &str,
    write: bool,
    lifetime: Duration,
    now: Timestamp,
) -> Result<String, StoreError> {
    let secret = random_text()?;
    let until = now.plus(lifetime);
    let link = SignIn {
        key: Digest::of(secret.as_bytes()),
        is_link: true,
        operator: Operator {
            name: format!("{by} by link"),
            scopes: vec![if write { Scope::Admin } else { Scope::Read }],
            person: None,
        },
        created_at: now,
        idle_until: until,
        expires_at: until,
    };
    store.note("console_link", json!({ "by": by, "write": write }), now).await?;
    store.console().add(link).await?;
    Ok(format!("/console/enter?link={secret}"))
}

/// By which a browser of this machine reaches the admin listener, unless the configuration says how.
fn origin(admin: &Admin) -> String {
    if let Some(url) = &admin.public_url {
        return url.as_str().trim_end_matches('/').to_owned();
    }
    let scheme = if admin.tls.is_some() { "https" } else { "http" };
    let host = match admin.address {
        address if address.ip().is_unspecified() => format!("localhost:{}", address.port()),
        address => SocketAddr::to_string(&address),
    };
    format!("{scheme}://{host}")
}
