//! `loginsync lint`: what is legal in a configuration, and suspicious.

use std::process::ExitCode;

use clap::Args;

use super::{ConfigArgument, FOUND, Failure, block_on, print_json};
use crate::app;
use crate::clock::Clock;
use crate::config::Config;
use crate::pipeline::lint::{self as rules, Finding, Telling, lint};
use crate::pipeline::provider::Mode;
use crate::ports::store::Unvouched;

/// Checks the rules that a login meets: those of the file, and those of the database if it exists.
///
/// Exit codes: 0 no findings; 3 findings; 1 the configuration has faults (see `loginsync check`).
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct Lint {
    #[command(flatten)]
    config: ConfigArgument,
    #[arg(long)]
    json: bool,
}

impl Lint {
    /// # Errors
    /// Faults of the configuration.
    pub fn run(self) -> Result<ExitCode, Failure> {
        let mut config = self.config.load()?;
        let (rules, unvouched) = block_on(async { app::looked_at(&config).await.map_err(Failure::new) })?;
        config.rules = rules;
        let mut findings = lint(&config.rules, &telling(&config), Clock::system().now());
        findings.extend(unvouched.iter().flat_map(of_privileged));
        findings.extend(of_issuers(&config));
        match self.json {
            true => print_json(&findings)?,
            false if findings.is_empty() => println!("nothing suspicious"),
            false => findings.iter().for_each(|finding| println!("{finding}")),
        }
        Ok(if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(FOUND) })
    }
}

/// Providers of one issuer whose users are in two namespaces: a user disabled or denied in one is not in the other.
fn of_issuers(config: &Config) -> Vec<Finding> {
    let providers: Vec<_> = config.providers.iter().map(|settings| &settings.provider).collect();
    let mut findings = Vec::new();
    for (at, one) in providers.iter().enumerate() {
        for other in providers.iter().skip(at + 1) {
            if one.user.namespace != other.user.namespace && one.issuers().any(|name| other.is_called(name)) {
                let message = format!(
                    "it has the issuer of provider `{}`, whose users are in namespace `{}`: a user who is disabled or denied \
                     something in one can still log in through the other; set the same `namespace` for both if they are the \
                     same people",
                    other.name, other.user.namespace
                );
                let about = format!("provider `{}`, namespace `{}`", one.name, one.user.namespace);
                findings.push(Finding { lint: rules::Lint::IssuerInTwoNamespaces, about, message });
            }
        }
    }
    findings
}

/// Grants of something privileged that no administrator made: those that end with these rules, and those that stay unsaid.
pub(super) fn of_privileged(found: &Unvouched) -> Vec<Finding> {
    let Unvouched { target, by_hand, mapped, unknown } = found;
    let finding = |message: String| Finding { lint: rules::Lint::Unvouched, about: target.to_string(), message };
    let mut findings = Vec::new();
    if by_hand + mapped > 0 {
        findings.push(finding(format!(
            "it is privileged, and {by_hand} grants by hand and {mapped} by mappings were not made with scope `admin`: they \
             end when these rules take effect; `loginsync user assign` keeps one"
        )));
    }
    if *unknown > 0 {
        findings.push(finding(format!(
            "it is privileged, and of {unknown} grants by hand it is not known whether they were made with scope `admin`; look \
             with `loginsync group members`, and take back (`user unassign`) or make anew (`user assign`) what you find"
        )));
    }
    findings
}

fn telling(config: &Config) -> Telling {
    let headers = &config.headers;
    let leaves_out = headers.no_groups.is_none() && headers.preset.is_of_another_proxy();
    let providers = config.providers.iter().map(|settings| &settings.provider);
    // Apps behind the relay are told nothing by header.
    let told = providers.filter(|provider| leaves_out && provider.mode != Mode::TokenRelay);
    let untold = headers.untold(&config.rules);
    Telling {
        preset: headers.preset.word(),
        leaves_out: told.map(|provider| provider.name.clone()).collect(),
        untold: untold.into_iter().map(|(name, why)| (name, why.to_string())).collect(),
    }
}
