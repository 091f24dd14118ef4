//! `loginsync explain`: how a login is decided, from its token to its plan; or how a past one was.

mod recorded;

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;

use super::{ConfigArgument, FOUND, Failure, block_on, moment, print_json};
use crate::clock::Clock;
use crate::config::{Config, KeyOrigin, ProviderSettings};
use crate::explain::{Input, Surroundings, explain};
use crate::pipeline::explain::{Outcome, Report};
use crate::pipeline::ids::Timestamp;
use crate::pipeline::provider::Protocol;
use crate::pipeline::verify::ProviderKeys;
use crate::pipeline::verify::saml::CertificateSet;
use crate::ports::directory::Directory;
use crate::ports::directory::graph::Graph;
use crate::ports::keys::fetched::fetch_once;
use crate::ports::keys::{Once, Published};

/// Exit codes: 0 the login would enter; 3 it would be refused; 1 the outcome is unknown. Claims from a file are used as if
/// they were verified, but are not reported as verified. Replay and browser binding are not checked. Userinfo is never
/// fetched, and a directory of groups only with --ask: where a login would fetch a claim, the report says so, and an outcome
/// that depends on it is unknown.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct Explain {
    #[command(flatten)]
    config: ConfigArgument,
    /// Provider of the login; optional if the configuration has one provider
    #[arg(long)]
    provider: Option<String>,
    /// File with a token, a SAMLResponse (XML or base64), a form as the browser posted it, a JSON response of the token
    /// endpoint, or a JSON object of claims as a token has them; `-` for standard input
    #[arg(value_name = "TOKENFILE", required_unless_present = "id")]
    token: Option<PathBuf>,
    /// Decide as of this time, such as 2026-01-31T12:00:00Z [default: now]
    #[arg(long, value_parser = moment)]
    at: Option<Timestamp>,
    /// Verify with the keys of this file (JWK Set, SAML metadata or PEM certificates) instead of the provider's
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
    /// Fetch groups that a verified token left out from the provider's directory, as a login does
    #[arg(long)]
    ask: bool,
    /// Ignore stored users and memberships; stored mappings still apply
    #[arg(long)]
    no_store: bool,
    /// Show how a past login was decided, by its ID from the log or the audit
    #[arg(long, value_name = "LOGIN", conflicts_with_all = ["token", "provider", "at", "keys", "ask", "no_store"])]
    id: Option<String>,
    #[arg(long)]
    json: bool,
}

/// Maximum size of a token file, in bytes.
const MOST_BYTES: u64 = 8 << 20;

impl Explain {
    /// # Errors
    /// Faults of the configuration, the file or the store.
    pub fn run(self) -> Result<ExitCode, Failure> {
        if let Some(id) = &self.id {
            return recorded::run(&self.config, id, self.json);
        }
        let report = self.report()?;
        match self.json {
            true => print_json(&report)?,
            false => say_part!("{report}"),
        }
        Ok(match report.outcome {
            Outcome::Enters => ExitCode::SUCCESS,
            Outcome::Refused => ExitCode::from(FOUND),
            Outcome::Unknown => ExitCode::FAILURE,
        })
    }

    fn report(&self) -> Result<Report, Failure> {
        let (config, store, remark) = match self.no_store {
            true => (self.config.look()?, None, None),
            false => self.config.open_to_explain()?,
        };
        let settings = find(&config, self.provider.as_deref())?;
        let now = self.at.unwrap_or_else(|| Clock::system().now());
        let text = read(self.token.as_deref().unwrap_or(Path::new("-")))?;
        let input = Input::read(&text, &settings.provider, config.limits.saml_document).map_err(Failure::new)?;
        #[cfg(feature = "samael")]
        if matches!(settings.provider.protocol, Protocol::Saml(_)) {
            crate::pipeline::verify::saml::lock_down().map_err(Failure::new)?;
        }
        let graph = self.ask.then(|| Graph::new(std::slice::from_ref(settings), &Clock::system())).transpose();
        let graph = graph.map_err(Failure::new)?;
        block_on(async {
            let keys = match input.is_signed() {
                true => self.keys(settings, input.key_id(), now).await,
                false => Err(String::from("nothing is signed")),
            };
            let name = format!("`{}`", config.store.place);
            let around = Surroundings {
                provider: &settings.provider,
                keys: &Once(keys.map(Arc::new)),
                keys_from: self
                    .keys
                    .as_ref()
                    .map_or_else(|| settings.keys_from(), |file| format!("`{}`", file.display())),
                rules: Arc::clone(&config.rules),
                store: store.as_ref().map(|store| (store, name)),
                directory: graph.as_ref().map(|graph| graph as &dyn Directory),
                now,
            };
            let mut report = explain(input, around).await.map_err(Failure::new)?;
            report.notes.extend(remark.map(String::from));
            Ok(report)
        })
    }

    /// Of the file that was named, else of where the configuration says that the provider's keys are.
    async fn keys(
        &self,
        settings: &ProviderSettings,
        key_id: Option<&str>,
        now: Timestamp,
    ) -> Result<Published, String> {
        let mut settings = settings.clone();
        if let Some(file) = &self.keys {
            if let Some(certificates) = certificates(file)? {
                return Ok(Published::of(ProviderKeys::Saml(certificates), now));
            }
            settings.keys.source = match settings.provider.protocol {
                Protocol::Oidc(_) => KeyOrigin::JwksFile(file.clone()),
                Protocol::Saml(_) => KeyOrigin::MetadataFile(file.clone()),
            };
        }
        fetch_once(&settings, key_id, &Clock::fixed(now)).await.map_err(|error| error.to_string())
    }
}

/// Certificates, where the file is PEM.
fn certificates(file: &Path) -> Result<Option<CertificateSet>, String> {
    let text = std::fs::read(file).map_err(|error| format!("`{}`: {error}", file.display()))?;
    match text.trim_ascii_start().starts_with(b"-----BEGIN") {
        true => CertificateSet::from_pem(&text).map(Some).map_err(|error| error.to_string()),
        false => Ok(None),
    }
}

/// The provider of a name, or the only one.
fn find<'c>(config: &'c Config, name: Option<&str>) -> Result<&'c ProviderSettings, Failure> {
    let names = || config.providers.iter().map(|settings| settings.provider.name.as_str());
    match (name, config.providers.as_slice()) {
        (None, [only]) => Ok(only),
        (None, _) => {
            let names: Vec<String> = names().map(|name| format!("`{name}`")).collect();
            Err(Failure(format!("expected --provider, one of {}", names.join(", "))))
        }
        (Some(name), providers) => providers
            .iter()
            .find(|settings| settings.provider.name.as_str() == name)
            .ok_or_else(|| super::undeclared("provider", name, names())),
    }
}

fn read(path: &Path) -> Result<String, Failure> {
    let cannot = |error: std::io::Error| Failure(format!("`{}`: {error}", path.display()));
    let mut text = String::new();
    let read = match path == Path::new("-") {
        true => std::io::stdin().lock().take(MOST_BYTES + 1).read_to_string(&mut text),
        false => std::fs::File::open(path).map_err(cannot)?.take(MOST_BYTES + 1).read_to_string(&mut text),
    };
    match read.map_err(cannot)? as u64 > MOST_BYTES {
        true => Err(Failure(format!("`{}` is longer than {MOST_BYTES} bytes", path.display()))),
        false => Ok(text),
    }
}
