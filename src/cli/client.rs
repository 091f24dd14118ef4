//! `loginsync client`: who may call the APIs of the admin listener.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::{ConfigArgument, Failure, block_on, print_json};
use crate::app;
use crate::clock::Clock;
use crate::config::{self, Face, Scope, valid_name};
use crate::ports::catalogue::{ApiClient, Confirmation};
use crate::ports::sessions::Digest;
use crate::serve::admin::auth::random_text;

#[derive(Debug, Args)]
pub struct ClientCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Create a client; its secret is shown once
    Create {
        #[command(flatten)]
        config: ConfigArgument,
        /// Name of the client, used as its client ID
        name: String,
        /// Scope: read, mappings:write, members:write or admin (repeatable)
        #[arg(long, required = true, value_delimiter = ',', value_parser = scope)]
        scope: Vec<Scope>,
        /// API it may call: v1, onelogin, opal, timbal or odc (repeatable) [default: all]
        #[arg(long, value_delimiter = ',', value_parser = face)]
        face: Vec<Face>,
        /// Name of the operator, for the audit
        #[arg(long, env = "USER", default_value = "unknown")]
        by: String,
        #[arg(long)]
        json: bool,
    },
    /// List the clients of the store and of the configuration
    List {
        #[command(flatten)]
        config: ConfigArgument,
        #[arg(long)]
        json: bool,
    },
    /// Let a client that cannot send `confirm` revoke more than the brake allows, for a limited time
    Confirm {
        #[command(flatten)]
        config: ConfigArgument,
        name: String,
        /// Duration, 24h or less
        #[arg(long = "for", value_name = "TIME", default_value = "10m", value_parser = config::duration)]
        span: Duration,
        /// Maximum number of memberships that all its changes together may revoke
        #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
        most: u64,
        /// Name of the operator, for the audit
        #[arg(long, env = "USER", default_value = "unknown")]
        by: String,
    },
    /// Revoke a client of the store and its access tokens
    Revoke {
        #[command(flatten)]
        config: ConfigArgument,
        name: String,
        /// Name of the operator, for the audit
        #[arg(long, env = "USER", default_value = "unknown")]
        by: String,
    },
}

fn scope(word: &str) -> Result<Scope, String> {
    Scope::named(word).ok_or_else(|| format!("expected one of {}", Scope::ALL.map(Scope::word).join(", ")))
}

fn face(word: &str) -> Result<Face, String> {
    Face::named(word).ok_or_else(|| format!("expected one of {}", Face::ALL.map(Face::word).join(", ")))
}

impl ClientCommand {
    /// # Errors
    /// Faults of the configuration, of the store, or of what was asked.
    pub fn run(self) -> Result<(), Failure> {
        match self.action {
            Action::Create { config, name, scope, face, by, json } => create(&config, name, scope, face, by, json),
            Action::List { config, json } => list(&config, json),
            Action::Confirm { config, name, span, most, by } => confirm(&config, name, span, most, by),
            Action::Revoke { config, name, by } => revoke(&config, name, by),
        }
    }
}

fn create(
    arguments: &ConfigArgument,
    name: String,
    mut scopes: Vec<Scope>,
    mut faces: Vec<Face>,
    by: String,
    json: bool,
) -> Result<(), Failure> {
    let config = arguments.load()?;
    valid_name(&name).map_err(|why| Failure(format!("the name `{name}`: {why}")))?;
    if config.api_clients.iter().any(|client| client.name.eq_ignore_ascii_case(&name)) {
        return Err(Failure(format!("the configuration declares a client `{name}`; expected another name")));
    }
    let mut seen = Vec::new();
    scopes.retain(|scope| {
        !seen.contains(scope) && {
            seen.push(*scope);
            true
        }
    });
    if faces.is_empty() {
        faces = Face::ALL.to_vec();
    }
    faces.sort_unstable();
    faces.dedup();
    let secret = random_text().map_err(Failure::new)?;
    let client = ApiClient { name: name.clone(), secret: Digest::of(secret.as_bytes()), scopes, faces };
    block_on(async {
        let catalogue = app::open(&config).await.map_err(Failure::new)?.catalogue;
        catalogue.add_client(client, by, Clock::system().now()).await.map_err(Failure::new)
    })?;
    if json {
        return print_json(&serde_json::json!({ "client_id": name, "client_secret": secret }));
    }
    say!("client id      {name}\nclient secret  {secret}");
    remark!("the secret is shown only once; the store keeps only its hash");
    Ok(())
}

#[derive(Serialize)]
struct Row {
    name: String,
    /// `file` or `store`.
    origin: &'static str,
    scopes: Vec<Scope>,
    faces: Vec<Face>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_by: Option<String>,
    revoked_at: Option<String>,
}

fn list(arguments: &ConfigArgument, json: bool) -> Result<(), Failure> {
    let config = arguments.load()?;
    let stored = block_on(async {
        let catalogue = app::open(&config).await.map_err(Failure::new)?.catalogue;
        catalogue.clients().await.map_err(Failure::new)
    })?;
    let declared = config.api_clients.into_iter().map(|client| Row {
        name: client.name,
        origin: "file",
        scopes: client.scopes,
        faces: client.faces,
        created_at: None,
        created_by: None,
        revoked_at: None,
    });
    let stored = stored.into_iter().map(|client| Row {
        name: client.name,
        origin: "store",
        scopes: client.scopes,
        faces: client.faces,
        created_at: Some(client.created_at),
        created_by: Some(client.created_by),
        revoked_at: client.revoked_at,
    });
    let all: Vec<Row> = declared.chain(stored).collect();
    if json {
        return print_json(&all);
    }
    for Row { name, origin, scopes, faces, revoked_at, .. } in all {
        let scopes: Vec<&str> = scopes.into_iter().map(Scope::word).collect();
        let faces: Vec<&str> = faces.into_iter().map(Face::word).collect();
        let revoked = if revoked_at.is_some() { "; revoked" } else { "" };
        say!("{name}  (of the {origin}; may {}; calls {}{revoked})", scopes.join(", "), faces.join(", "));
    }
    Ok(())
}

/// Spans that an operator may confirm for.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

fn confirm(arguments: &ConfigArgument, name: String, span: Duration, most: u64, by: String) -> Result<(), Failure> {
    let config = arguments.load()?;
    if span.is_zero() || span > LONGEST {
        return Err(Failure("--for: expected up to 24h".into()));
    }
    let now = Clock::system().now();
    let until = now.plus(span);
    let known = config.api_clients.iter().any(|client| client.name == name);
    block_on(async {
        let opened = app::open(&config).await.map_err(Failure::new)?;
        let clients = opened.catalogue.clients().await.map_err(Failure::new)?;
        if !known && !clients.iter().any(|client| client.name == name && client.revoked_at.is_none()) {
            return Err(Failure(format!("there is no client `{name}`; `loginsync client list` lists the clients")));
        }
        let confirmation = Confirmation { until, most };
        opened.store.confirm_client(name.clone(), confirmation, by, now).await.map_err(Failure::new)
    })?;
    say!("client `{name}` may revoke up to {most} memberships over the brake's limit until {until}");
    Ok(())
}

fn revoke(arguments: &ConfigArgument, name: String, by: String) -> Result<(), Failure> {
    let config = arguments.load()?;
    if config.api_clients.iter().any(|client| client.name == name) {
        return Err(Failure(format!("client `{name}` is declared in the configuration; remove it there")));
    }
    block_on(async {
        let catalogue = app::open(&config).await.map_err(Failure::new)?.catalogue;
        catalogue.revoke_client(name, by, Clock::system().now()).await.map_err(Failure::new)
    })
}
