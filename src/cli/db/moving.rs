//! `loginsync db move`.

use std::io::IsTerminal as _;

use indicatif::{ProgressBar, ProgressStyle};

use super::super::{Failure, block_on, print_json};
use crate::app;
use crate::clock::Clock;
use crate::config::Config;
use crate::ports::store::sqlite::transfer::Role;
use crate::ports::store::transfer::{self, Doing, Outlook, Undone};

/// A move from one configuration's database to another's.
pub(super) struct Moving {
    pub from: Config,
    pub to: Option<Config>,
    pub json: bool,
}

impl Moving {
    fn to(&self) -> Result<&Config, Failure> {
        self.to
            .as_ref()
            .ok_or_else(|| Failure("`--to` is missing: the configuration that names the new database".into()))
    }

    pub(super) fn look(&self) -> Result<(), Failure> {
        let to = self.to()?;
        let outlook = block_on(async {
            let (name, is_there) = app::named(to).map_err(Failure::new)?;
            let source = app::side(&self.from, Role::Look).await.map_err(Failure::new)?;
            let target = match is_there {
                true => Some(app::side(to, Role::Look).await.map_err(Failure::new)?),
                false => None,
            };
            transfer::look(&*source, target.as_deref(), name).await.map_err(Failure::new)
        })?;
        if self.json {
            print_json(&outlook)?;
        } else {
            print(&outlook);
        }
        match outlook.refused.is_empty() {
            true => Ok(()),
            false => Err(Failure(format!("the move would be refused:\n{}", outlook.refused.join("\n")))),
        }
    }

    pub(super) fn carry_out(&self) -> Result<(), Failure> {
        let to = self.to()?;
        let rows = block_on(async {
            let source = app::side(&self.from, Role::Source).await.map_err(Failure::new)?;
            // An empty database is not made for a move that is refused.
            let (name, is_there) = app::named(to).map_err(Failure::new)?;
            if !is_there {
                let refused = transfer::look(&*source, None, name).await.map_err(Failure::new)?.refused;
                if !refused.is_empty() {
                    return Err(Failure(refused.join("\n")));
                }
            }
            let target = app::side(to, Role::Target).await.map_err(Failure::new)?;
            let total = source.counts().await.map_err(Failure::new)?.iter().sum();
            let mut voice = Voice::new(total);
            let now = Clock::system().now();
            transfer::carry_out(&*source, &*target, transfer::PAGE, now, &mut |doing, rows| {
                voice.hear(doing, rows);
                Ok(())
            })
            .await
            .map_err(Failure::new)
        })?;
        let (from, to) = (app::named(&self.from), app::named(to));
        let (from, to) = (from.map_err(Failure::new)?.0, to.map_err(Failure::new)?.0);
        if self.json {
            return print_json(&serde_json::json!({ "from": from, "to": to, "rows": rows }));
        }
        say!("moved {rows} rows from `{from}` to `{to}`; the copy is identical, and the audit chain is intact");
        say!("start loginsync with the configuration that names `{to}`; loginsync no longer starts on `{from}`");
        Ok(())
    }

    pub(super) fn undo(&self) -> Result<(), Failure> {
        let undone = block_on(async {
            let source = app::side(&self.from, Role::Source).await.map_err(Failure::new)?;
            let target = match &self.to {
                Some(to) => Some(app::side(to, Role::Source).await.map_err(Failure::new)?),
                None => None,
            };
            transfer::undo(&*source, target.as_deref(), Clock::system().now()).await.map_err(Failure::new)
        })?;
        let (word, said) = match undone {
            Undone::GivenUp => ("given_up", "the move is cancelled, and the old database is in use again"),
            Undone::TakenBack => ("taken_back", "the old database is in use again, as it was at the move"),
        };
        if self.json {
            return print_json(&serde_json::json!({ "undone": word }));
        }
        say!("{said}");
        match (&self.to, undone) {
            (Some(_), Undone::TakenBack) => say!("loginsync no longer starts on the new database"),
            (None, _) => {
                remark!("the new database was not named (`--to`) and is unchanged: do not run loginsync on it")
            }
            _ => {}
        }
        Ok(())
    }
}

fn print(Outlook { from, to, rows, there, refused: _ }: &Outlook) {
    say!("from         {from}\nto           {to}");
    rows.iter().for_each(|(table, rows)| say!("{table:<12} {rows}"));
    let total: u64 = rows.iter().map(|(_, rows)| rows).sum();
    say!("rows         {total}");
    if *there > 0 {
        say!("there        {there} of them");
    }
}

/// What is heard of the progress: a bar where a person watches, else a line for each table.
struct Voice {
    bar: Option<ProgressBar>,
    last: Option<Doing>,
}

impl Voice {
    fn new(rows: u64) -> Self {
        let style = ProgressStyle::with_template("{percent:>3} % {wide_bar} {pos}/{len} {msg}, {eta}");
        let bar = std::io::stderr().is_terminal().then(|| {
            // Each row is copied, and compared.
            ProgressBar::new(rows * 2).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Self { bar, last: None }
    }

    fn hear(&mut self, doing: Doing, rows: u64) {
        let what = match doing {
            Doing::Copying(table) => format!("copying {table}"),
            Doing::Comparing(table) => format!("comparing {table}"),
            Doing::Checking => String::from("checking the audit chain and the records"),
            Doing::Done => String::from("done"),
        };
        match &self.bar {
            Some(bar) => {
                bar.inc(rows);
                bar.set_message(what);
                if doing == Doing::Done {
                    bar.finish_and_clear();
                }
            }
            None if self.last != Some(doing) => remark!("{what}"),
            None => {}
        }
        self.last = Some(doing);
    }
}
