//! `loginsync user rekey`: new keys for people, one or a file of many.

use std::path::PathBuf;

use clap::Args;

use super::super::{ConfigArgument, Failure, block_on, parse_user};
use crate::clock::Clock;
use crate::pipeline::ids::{Target, UserId};
use crate::ports::store::{By, Rekeyed};

#[derive(Debug, Args)]
pub struct Rekey {
    #[command(flatten)]
    config: ConfigArgument,
    /// The present key, such as okta/alice
    #[arg(value_name = "NAMESPACE/SUBJECT", required_unless_present = "csv", requires = "new")]
    old: Option<String>,
    /// The new key
    #[arg(value_name = "NAMESPACE/SUBJECT")]
    new: Option<String>,
    /// CSV file with an old and a new key per line; all are applied, or none
    #[arg(long, value_name = "FILE", conflicts_with_all = ["old", "new"])]
    csv: Option<PathBuf>,
    /// Merge with a user that already has the new key; denies and the disabled state of both are kept
    #[arg(long)]
    merge: bool,
    /// Apply the change
    #[arg(long)]
    yes: bool,
    /// Name of the operator, for the audit
    #[arg(long, env = "USER", default_value = "unknown")]
    by: String,
}

impl Rekey {
    pub(super) fn run(self) -> Result<(), Failure> {
        let keys = self.keys()?;
        let (_, store) = self.config.open()?;
        let now = Clock::system().now();
        let looked = block_on(async { store.rekey(keys.clone(), self.merge, None, now).await.map_err(Failure::new) })?;
        looked.iter().for_each(|one| say!("{}", line(one)));
        let taken = looked.iter().filter(|one| one.merged && !one.erased).count();
        if !self.yes {
            let merge = if taken > 0 && !self.merge { " --merge" } else { "" };
            remark!("nothing was changed; `{} --yes` rekeys these {}", merge.trim(), looked.len());
            return Ok(());
        }
        let by = By::operator(format!("cli:{}", self.by));
        let done = block_on(async { store.rekey(keys, self.merge, Some(by), now).await.map_err(Failure::new) })?;
        say!("{} rekeyed", done.len());
        Ok(())
    }

    fn keys(&self) -> Result<Vec<(UserId, UserId)>, Failure> {
        if let (Some(old), Some(new)) = (&self.old, &self.new) {
            return Ok(vec![(parse_user(old)?, parse_user(new)?)]);
        }
        let Some(path) = &self.csv else { return Err(Failure("expected an old and a new key, or --csv".into())) };
        let named = |why: &dyn std::fmt::Display| Failure(format!("`{}`: {why}", path.display()));
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .trim(csv::Trim::All)
            .comment(Some(b'#'))
            .from_path(path)
            .map_err(|error| named(&error))?;
        let mut keys = Vec::new();
        for (line, record) in (1..).zip(reader.records()) {
            let record = record.map_err(|error| named(&error))?;
            let (Some(old), Some(new), 2) = (record.get(0), record.get(1), record.len()) else {
                return Err(named(&format!("line {line} has {} columns; expected old key and new key", record.len())));
            };
            let wrong = |failure: Failure| named(&format!("line {line}: {failure}"));
            keys.push((parse_user(old).map_err(wrong)?, parse_user(new).map_err(wrong)?));
        }
        match keys.is_empty() {
            true => Err(named(&"it names no user; expected one line for each user, with the old key and the new key")),
            false => Ok(keys),
        }
    }
}

/// One line: from, to, and what the person holds and is denied under the new key.
fn line(one: &Rekeyed) -> String {
    let Rekeyed { old, new, merged, erased, disabled, denies, assigned } = one;
    let mut text = format!("{old} -> {new}");
    if *erased {
        text.push_str("  (erased: what still binds them moves)");
    }
    if *merged {
        text.push_str("  (there is such a user: the two become one)");
    }
    if *disabled {
        text.push_str("  DISABLED");
    }
    let names = |targets: &[Target]| targets.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if !denies.is_empty() {
        text.push_str(&format!("  denied {}", names(denies)));
    }
    if !assigned.is_empty() {
        text.push_str(&format!("  by hand {}", names(assigned)));
    }
    text
}
