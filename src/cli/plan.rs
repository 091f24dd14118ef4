//! `loginsync plan`: who would gain and lose what under another configuration.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::{ConfigArgument, FOUND, Failure, block_on, load, print_json};
use crate::app;
use crate::clock::Clock;
use crate::config::Config;
use crate::forecast::forecast;
use crate::pipeline::forecast::Forecast;
use crate::pipeline::mapping::RuleSet;
use crate::ports::store::Store;

/// Exit codes: 0 nothing changes; 3 something changes; 1 the plan failed, or a protected or privileged group or
/// role would lose its last holder. Nothing but `--confirm` writes anything.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct Plan {
    #[command(flatten)]
    config: ConfigArgument,
    /// Configuration now in use, to list the mappings that differ; not needed to show who gains and loses what
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Allow a protected or privileged group or role to lose its last holder
    #[arg(long)]
    force: bool,
    /// Confirm these rules: allow them to revoke more at once than the brake permits
    #[arg(long)]
    confirm: bool,
    /// Name of the operator, for the audit
    #[arg(long, env = "USER", default_value = "unknown")]
    by: String,
    /// Maximum number of users and mappings to list
    #[arg(long, default_value_t = 50)]
    limit: usize,
    #[arg(long)]
    json: bool,
}

impl Plan {
    /// # Errors
    /// Faults of a configuration or of the store, and the loss of a last holder.
    pub fn run(self) -> Result<ExitCode, Failure> {
        let (config, store) = self.config.open_if_there()?;
        let Some(store) = store else {
            return Err(Failure(format!("there is no database `{}` to plan for", config.store.place)));
        };
        let old = self.from.as_deref().map(|file| old_rules(file, &config)).transpose()?;
        let found = block_on(self.look(&store, &config, old.as_deref()))?;
        match self.json {
            true => print_json(&found)?,
            false => say_part!("{found}"),
        }
        if !self.force && !found.last_holders.is_empty() {
            let targets: Vec<String> = found.last_holders.iter().map(ToString::to_string).collect();
            return Err(Failure(format!("{} would lose the last holder; `--force` accepts that", targets.join(", "))));
        }
        if self.confirm {
            block_on(self.note(&store, &config))?;
        }
        Ok(if found.changes { ExitCode::from(FOUND) } else { ExitCode::SUCCESS })
    }

    async fn look(&self, store: &Store, config: &Config, old: Option<&RuleSet>) -> Result<Forecast, Failure> {
        let bar = bar();
        let mut progress = |done, total| {
            // Setting a length draws the bar, and so does setting a position: once a page is enough.
            if bar.length() != Some(total) {
                bar.set_length(total);
            }
            bar.set_position(done);
        };
        let now = Clock::system().now();
        let found = forecast(store, old, &config.rules, now, self.limit, &mut progress).await;
        bar.finish_and_clear();
        found.map_err(Failure::new)
    }

    async fn note(&self, store: &Store, config: &Config) -> Result<(), Failure> {
        let source = config.rules.source.ok_or_else(|| Failure("these rules come from no file".into()))?;
        let by = format!("cli:{}", self.by);
        store.confirm(source, by, Clock::system().now()).await.map_err(Failure::new)?;
        remark!("confirmed: this file, as it is now, may revoke past the brake");
        Ok(())
    }
}

/// The rules of the other file, with those of the store that the new one names: what changes is the file.
fn old_rules(file: &Path, config: &Config) -> Result<Arc<RuleSet>, Failure> {
    let old = load(file)?;
    block_on(async {
        let opened = app::open(config).await.map_err(Failure::new)?;
        app::rules_with_store(&old, &*opened.catalogue).await.map_err(Failure::new)
    })
}

/// Where a person watches; a file or a pipe gets none. The bar takes what the numbers leave of the line, since one that is
/// longer than its terminal is drawn over two lines and leaves the first behind.
fn bar() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{percent:>3} % {wide_bar} {pos}/{len}, {eta}");
    ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
