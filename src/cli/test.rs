//! `loginsync test`: golden cases, so that a change of mappings is reviewed like code.

mod cases;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use serde::Serialize;

use self::cases::Written;
use super::{ConfigArgument, FOUND, Failure, print_json, undeclared};
use crate::clock::Clock;
use crate::config::Config;
use crate::pipeline::golden::{Answer, answer};
use crate::pipeline::mapping::Mode;

/// A file of cases is TOML:
///
///   [[case]]
///   title    = "a lead of payments"
///   provider = "okta"                     # may be left out where there is one
///   claims   = { groups = ["team-payments-lead"] }
///   expect   = { groups = ["team-payments"], roles = ["lead"] }
///
/// Claims are named as in the configuration or in the token. `expect` lists all groups and roles that the user then
/// holds, or `refused = "…"`, a part of the reason. Optional: `user`, `at` (the time) and `held` (`groups`, `roles`,
/// `denied_groups` and `denied_roles` by hand, `through` mappings by name, `last_login`).
///
/// Only the rules of the file apply, so that results do not depend on the machine or its database; `--with-store` adds
/// the groups, roles and mappings of the database, as a login meets them.
///
/// Exit codes: 0 all cases pass; 3 a case fails; 1 a case or the configuration cannot be read, or there are no cases.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct Test {
    #[command(flatten)]
    config: ConfigArgument,
    /// Files of cases, or directories of such files
    #[arg(value_name = "DIR", required = true)]
    paths: Vec<PathBuf>,
    /// Also apply groups, roles and mappings of the database, which must exist and is only read
    #[arg(long)]
    with_store: bool,
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Tested {
    file: String,
    title: String,
    #[serde(flatten)]
    answer: Answer,
}

impl Test {
    /// # Errors
    /// Faults of the configuration or of the cases, and when there is no case.
    pub fn run(self) -> Result<ExitCode, Failure> {
        let mut config = self.rules()?;
        // Cases are about what the rules decide, whether or not that is written.
        if let Some(rules) = Arc::get_mut(&mut config.rules) {
            rules.sync.mode = Mode::Apply;
        }
        let mut files = Vec::new();
        for path in &self.paths {
            collect(path, &mut files)?;
        }
        let mut tested = Vec::new();
        for file in &files {
            for case in cases::read(file)? {
                tested.push(decide(&config, file, case)?);
            }
        }
        if tested.is_empty() {
            return Err(Failure("there are no cases".into()));
        }
        let failed = tested.iter().filter(|case| !case.answer.passed).count();
        match self.json {
            true => print_json(&tested)?,
            false => print(&tested, failed),
        }
        Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(FOUND) })
    }

    fn rules(&self) -> Result<Config, Failure> {
        if !self.with_store {
            return self.config.load();
        }
        match self.config.open_if_there()? {
            (config, Some(_)) => Ok(config),
            (config, None) => {
                Err(Failure(format!("there is no database `{}` to add to the rules", config.store.place)))
            }
        }
    }
}

/// The files of a folder, in order, or the one file.
fn collect(path: &Path, files: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let cannot = |error: std::io::Error| Failure(format!("`{}`: {error}", path.display()));
    if !path.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    let entries: Result<Vec<_>, _> = std::fs::read_dir(path).map_err(cannot)?.collect();
    let mut paths: Vec<PathBuf> = entries.map_err(cannot)?.into_iter().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
    }
    Ok(())
}

fn decide(config: &Config, file: &Path, written: Written) -> Result<Tested, Failure> {
    let at = |failure: Failure| Failure(format!("{}: case `{}`: {failure}", file.display(), written.title));
    let names = || config.providers.iter().map(|settings| settings.provider.name.as_str());
    let found = match (&written.provider, config.providers.as_slice()) {
        (None, [only]) => Ok(only),
        (None, _) => Err(Failure("expected `provider`, since there are several".into())),
        (Some(name), providers) => providers
            .iter()
            .find(|settings| settings.provider.name.as_str() == name)
            .ok_or_else(|| undeclared("provider", name, names())),
    };
    let provider = &found.map_err(at)?.provider;
    let now = written.at.unwrap_or_else(|| Clock::system().now());
    let case = written.case(provider, &config.rules).map_err(at)?;
    let answer = answer(&case, provider, &config.rules, now);
    Ok(Tested { file: file.display().to_string(), title: written.title, answer })
}

fn print(tested: &[Tested], failed: usize) {
    for Tested { file, title, answer } in tested {
        say!("{} {file}: {title}", if answer.passed { "ok  " } else { "FAIL" });
        for difference in &answer.differences {
            say!("  {difference}");
        }
    }
    match failed {
        0 => say!("{} cases, all as expected", tested.len()),
        failed => say!("{} cases, {failed} not as expected", tested.len()),
    }
}
