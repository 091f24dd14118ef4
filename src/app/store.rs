//! Opens the store that a configuration names, whichever it is.

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::StartError;
use super::rules::merged;
use crate::config::{Config, Place, Server, ServerPassword};
use crate::pipeline::mapping::RuleSet;
use crate::pipeline::mapping::elsewhere::Announced;
use crate::pipeline::mapping::stored::Stored;
use crate::pipeline::record::text::Versions;
use crate::ports::catalogue::Catalogue;
use crate::ports::http;
use crate::ports::store::postgres::replicas::Following;
use crate::ports::store::postgres::{self, Address, Password};
use crate::ports::store::sqlite::transfer::Role;
use crate::ports::store::sqlite::{self, Claim, Settings, SqliteStore};
use crate::ports::store::transfer::Transfer;
use crate::ports::store::{Store, StoreError, Unvouched};
use crate::telemetry::watchdog::Pulse;

/// How long a start waits for the process before it to give the database free, and how often it looks.
const CLAIM_WAIT: Duration = Duration::from_secs(10);
const CLAIM_PAUSE: Duration = Duration::from_millis(50);
/// After which it tells that it waits: a command that brings the database up to date holds the claim for less than this.
const CLAIM_TOLD: Duration = Duration::from_secs(1);

/// A store that is open.
pub struct Opened {
    pub store: Store,
    pub catalogue: Arc<dyn Catalogue>,
    /// The progress of its writer, where it has one.
    pub pulse: Option<Arc<Pulse>>,
    /// What several sidecars share.
    pub shared: Option<postgres::Shared>,
}

impl From<SqliteStore> for Opened {
    fn from(store: SqliteStore) -> Self {
        let store = Arc::new(store);
        let pulse = Some(store.pulse());
        let catalogue: Arc<dyn Catalogue> = Arc::<SqliteStore>::clone(&store);
        Self { store: Store::new(store), catalogue, pulse, shared: None }
    }
}

impl From<postgres::Shared> for Opened {
    fn from(shared: postgres::Shared) -> Self {
        let catalogue: Arc<dyn Catalogue> = Arc::new(shared.clone());
        Self { store: Store::from(shared.clone()), catalogue, pulse: None, shared: Some(shared) }
    }
}

/// Opens the store that a configuration names, and brings it up to date.
///
/// # Errors
/// When the database cannot be opened, or is of a newer version.
pub async fn open(config: &Config) -> Result<Opened, StoreError> {
    let opened = match &config.store.place {
        Place::File(path) => SqliteStore::open(path, of_file(config)).map(Opened::from),
        Place::Server(server) => postgres::Shared::open(of_server(config, server)?).await.map(Opened::from),
    }?;
    opened.store.follow_served().await?;
    Ok(opened)
}

/// The same where there is a database: none is made.
///
/// # Errors
/// As for [`open`].
pub async fn open_if_there(config: &Config) -> Result<Option<Opened>, StoreError> {
    match &config.store.place {
        Place::File(path) if !path.exists() => Ok(None),
        Place::File(_) => open(config).await.map(Some),
        Place::Server(server) => {
            let opened = postgres::Shared::open_if_there(of_server(config, server)?).await?.map(Opened::from);
            if let Some(opened) = &opened {
                opened.store.follow_served().await?;
            }
            Ok(opened)
        }
    }
}

/// Opens the store to serve it. A file has one process that serves it: the one before may still be draining, and is waited for, up
/// to a bound.
pub(super) async fn open_to_serve(config: &Config) -> Result<Opened, StoreError> {
    let path = match &config.store.place {
        Place::File(path) => path,
        Place::Server(_) => return open(config).await,
    };
    let began = tokio::time::Instant::now();
    let mut told = false;
    loop {
        if let Some(claim) = Claim::take(path)? {
            return SqliteStore::open_claimed(path, of_file(config), claim).map(Opened::from);
        }
        let waited = began.elapsed();
        if waited >= CLAIM_WAIT {
            return Err(sqlite::in_use(path));
        }
        if waited >= CLAIM_TOLD && !std::mem::replace(&mut told, true) {
            tracing::warn!(
                store = %path.display(),
                seconds = CLAIM_WAIT.as_secs(),
                "another `loginsync serve` uses this database; waiting for it to end"
            );
        }
        tokio::time::sleep(CLAIM_PAUSE).await;
    }
}

/// The store as a side of a move, and to look at. Without tables it is empty.
///
/// # Errors
/// When the database cannot be opened, is served, or has another version.
pub async fn side(config: &Config, role: Role) -> Result<Box<dyn Transfer>, StoreError> {
    Ok(match &config.store.place {
        Place::File(path) => Box::new(sqlite::transfer::Side::open(path, &of_file(config), role)?),
        Place::Server(server) => {
            let makes = role == Role::Target;
            Box::new(postgres::transfer::Side::open(of_server(config, server)?, makes).await?)
        }
    })
}

/// What a move would make, as [`Transfer::name`] says it; and whether it is there already.
///
/// # Errors
/// When `store.url` is not a URL of a database.
pub fn named(config: &Config) -> Result<(String, bool), StoreError> {
    Ok(match &config.store.place {
        Place::File(path) => (sqlite::transfer::named(path), path.exists()),
        Place::Server(server) => (of_server(config, server)?.address.place(), true),
    })
}

/// Brings the store up to date. Returns the version of its schema before and after. `runtime`: the role that sidecars run as.
///
/// # Errors
/// When the database cannot be opened, or is of a newer version.
pub async fn migrate(config: &Config, runtime: Option<&str>) -> Result<(i64, i64), StoreError> {
    match (&config.store.place, runtime) {
        (Place::File(_), Some(_)) => {
            Err(StoreError::Invalid("`--runtime-role` applies only with `store.url`: a file has no roles".into()))
        }
        (Place::File(path), None) => SqliteStore::migrate(path, &of_file(config)),
        (Place::Server(server), runtime) => postgres::Shared::migrate(of_server(config, server)?, runtime).await,
    }
}

/// Opens a store that was restored from a backup, while nothing serves it.
///
/// # Errors
/// As for [`open`], and when it is served.
pub async fn open_restored(config: &Config) -> Result<Opened, StoreError> {
    match &config.store.place {
        Place::File(path) if !path.exists() => Err(StoreError::Invalid(format!("`{}` does not exist", path.display()))),
        Place::File(path) => {
            let claim = Claim::take(path)?.ok_or_else(|| sqlite::in_use(path))?;
            SqliteStore::open_claimed(path, of_file(config), claim).map(Opened::from)
        }
        Place::Server(server) => postgres::Shared::open_restored(of_server(config, server)?).await.map(Opened::from),
    }
}

fn of_file(config: &Config) -> Settings {
    Settings {
        synchronous: config.store.synchronous,
        timeout: config.store.timeout,
        audit_key: config.audit_key.clone(),
    }
}

fn of_server(config: &Config, server: &Server) -> Result<postgres::Settings, StoreError> {
    let password = match &server.password {
        ServerPassword::OfUrl => Password::Told,
        ServerPassword::File(path) => Password::File(path.clone()),
        ServerPassword::Fixed(secret) => Password::Fixed(secret.clone()),
    };
    // What the configuration was loaded with was text.
    let url = std::str::from_utf8(server.url.expose()).unwrap_or_default();
    let address = Address::parse(url, password, tls(server)?);
    Ok(postgres::Settings {
        address: address.map_err(|why| StoreError::Invalid(format!("`store.url` {why}")))?,
        connections: server.connections,
        timeout: config.store.timeout,
        audit_key: config.audit_key.clone(),
        key: server.key.clone(),
        reads: Versions::default().read,
    })
}

/// Whom connections trust, and by which certificate they name themselves.
fn tls(server: &Server) -> Result<rustls::ClientConfig, StoreError> {
    let invalid = |key: &str, why: &dyn std::fmt::Display| StoreError::Invalid(format!("`store.{key}`: {why}"));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let roots = http::roots(server.ca.as_deref()).map_err(|why| invalid("ca_file", &why))?;
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder =
        builder.map_err(|_| StoreError::Invalid("TLS cannot be set up".into()))?.with_root_certificates(roots);
    let Some(files) = &server.client else { return Ok(builder.with_no_client_auth()) };
    let chain = CertificateDer::pem_file_iter(&files.certificate).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = chain.map_err(|_| invalid("tls_certificate", &"is no longer what it was when it was checked"))?;
    let changed = "is no longer the key of the certificate";
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|_| invalid("tls_key", &changed))?;
    builder.with_client_auth_cert(chain, key).map_err(|_| invalid("tls_key", &changed))
}

// ------------------------------------------------------------------------------------------------------- only looking

/// The rules that a command acts by: those of the live sidecars. `None`: some serve the database, and none has this file.
///
/// # Errors
/// As for [`rules_with_store`].
pub async fn rules_to_act(config: &Config, opened: &Opened) -> Result<Option<Arc<RuleSet>>, StartError> {
    let Some(shared) = &opened.shared else { return rules_with_store(config, &*opened.catalogue).await.map(Some) };
    let files = shared.live_files().await?;
    let own = Announced::of(&config.rules).digest;
    if !files.is_empty() && !files.iter().any(|file| *file == own) {
        return Ok(None);
    }
    let Following { stored, elsewhere, .. } = shared.following().await?;
    Ok(Some(merged(&config.rules, &stored, Arc::new(elsewhere), config.rules.epoch)?))
}

/// The rules by which a sidecar of this file decides now, merged with those of other files; and a remark on them.
///
/// # Errors
/// As for [`rules_with_store`].
pub async fn rules_to_explain(
    config: &Config,
    opened: &Opened,
) -> Result<(Arc<RuleSet>, Option<&'static str>), StartError> {
    let alone = rules_with_store(config, &*opened.catalogue);
    let Some(shared) = &opened.shared else { return Ok((alone.await?, None)) };
    let files = shared.live_files().await?.len();
    let rules = rules_to_act(config, opened).await?;
    Ok(match rules {
        None => (alone.await?, Some("no live sidecar uses this file: the answer assumes that all of them do")),
        Some(rules) if files > 1 => (
            rules,
            Some(
                "live sidecars use different files: grants of the others are kept, and their gates and guards apply here",
            ),
        ),
        Some(rules) => (rules, None),
    })
}

/// The rules that a running sidecar decides by, for a command that looks at its store.
///
/// # Errors
/// When the store cannot be read, or the index of all mappings would be too large.
pub async fn rules_with_store(config: &Config, catalogue: &dyn Catalogue) -> Result<Arc<RuleSet>, StartError> {
    Ok(merged(&config.rules, &catalogue.stored().await?, Arc::default(), config.rules.epoch)?)
}

/// The rules of file and store, and what adopting them would end because of what is privileged in them. The database is only read.
///
/// # Errors
/// As for [`rules_with_store`].
pub async fn looked_at(config: &Config) -> Result<(Arc<RuleSet>, Vec<Unvouched>), StartError> {
    match &config.store.place {
        Place::File(path) => {
            let stored = SqliteStore::read_stored(path, config.store.timeout)?;
            let rules = merged(&config.rules, &stored, Arc::default(), config.rules.epoch)?;
            let unvouched = SqliteStore::read_unvouched(path, config.store.timeout, &rules)?;
            Ok((rules, unvouched))
        }
        Place::Server(_) => match open_if_there(config).await? {
            Some(Opened { store, catalogue, .. }) => {
                let rules = rules_with_store(config, &*catalogue).await?;
                let unvouched = store.unvouched(Arc::clone(&rules)).await?;
                Ok((rules, unvouched))
            }
            None => Ok((merged(&config.rules, &Stored::default(), Arc::default(), config.rules.epoch)?, Vec::new())),
        },
    }
}
