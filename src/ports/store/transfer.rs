//! Moving a store into another one, whichever kinds they are.
//!
//! [`TABLES`] is the one description of what a store consists of: a store hands out rows in this form page by page, and takes them.
//! A move goes on where it was killed, since the target keeps with every page how far it has come.
//!
//! ```text
//! look      the target is empty, or holds this same move; the keys of the audit fit
//! leave     the source is marked: nothing starts on it, nothing writes to it
//! copy      table by table, page by page; each page with its place in one transaction
//! compare   every row of both, the chains, and what users are found by
//! done      the source says where it went, and the target is free
//! ```

use aws_lc_rs::{digest, rand};
use serde::{Deserialize, Serialize};

use super::chain::hexadecimal;
use super::{ChainReport, StoreError};
use crate::pipeline::ids::Timestamp;
use crate::ports::BoxFuture;

/// Rows of one page.
pub const PAGE: usize = 1000;

/// A value of a row. A flag is 0 or 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cell {
    Null,
    Int(i64),
    Text(String),
    Bytes(Vec<u8>),
}

pub type Row = Vec<Cell>;

/// What a column holds. Any may be null.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Int,
    Flag,
    Text,
    Bytes,
}

/// A table as it travels. Its first columns order the rows.
#[derive(Debug)]
pub struct Table {
    pub name: &'static str,
    pub(super) key: usize,
    pub(super) columns: &'static [(&'static str, Kind)],
}

impl Table {
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.columns.iter().map(|(name, _)| *name)
    }

    /// The part of a row by which the next page is found.
    pub(super) fn key_of(&self, row: &[Cell]) -> Row {
        row.iter().take(self.key).cloned().collect()
    }

    /// Whether its first column is the last moment at which a token could pass. SQLite keeps the hour of it.
    pub(super) fn is_of_tokens(&self) -> bool {
        matches!(self.name, "tokens" | "refusals")
    }
}

pub(super) const HOUR: i64 = 3_600_000;

use Kind::{Bytes, Flag, Int, Text};

/// All that is moved, in an order in which no row comes before one that it refers to.
pub static TABLES: [Table; 22] = [
    Table { name: "targets", key: 1, columns: &[("number", Int), ("kind", Int), ("name", Text), ("gone", Flag)] },
    Table {
        name: "users",
        key: 1,
        columns: &[
            ("id", Int),
            ("namespace", Text),
            ("subject", Text),
            ("email", Text),
            ("display_name", Text),
            ("created_at", Int),
            ("disabled", Flag),
            ("last_login_at", Int),
            ("logins", Text),
            ("due", Int),
            ("record", Text),
        ],
    },
    Table {
        name: "holdings",
        key: 5,
        columns: &[
            ("kind", Int),
            ("target", Int),
            ("provider", Text),
            ("mapping", Bytes),
            ("user_id", Int),
            ("at", Int),
        ],
    },
    Table { name: "denied", key: 3, columns: &[("kind", Int), ("name", Text), ("user_id", Int)] },
    Table {
        name: "guards",
        key: 3,
        columns: &[
            ("provider", Text),
            ("kind", Int),
            ("target", Int),
            ("began_at", Int),
            ("members", Int),
            ("losses", Int),
        ],
    },
    Table { name: "work", key: 1, columns: &[("number", Int), ("item", Text)] },
    Table { name: "tokens", key: 2, columns: &[("until", Int), ("digest", Bytes)] },
    Table { name: "refusals", key: 2, columns: &[("until", Int), ("digest", Bytes)] },
    Table { name: "settings", key: 1, columns: &[("name", Text), ("value", Bytes)] },
    Table {
        name: "audit",
        key: 1,
        columns: &[
            ("sequence", Int),
            ("at", Int),
            ("event", Text),
            ("detail", Text),
            ("person", Bytes),
            ("keyed", Flag),
            ("seal", Bytes),
            ("user_id", Int),
            ("salt", Bytes),
            ("fields", Text),
            ("format", Int),
            ("login", Text),
            ("mac", Bytes),
            ("key", Bytes),
        ],
    },
    Table { name: "former_users", key: 1, columns: &[("id", Int), ("user_id", Int)] },
    Table {
        name: "erased",
        key: 1,
        columns: &[
            ("digest", Bytes),
            ("erased_at", Int),
            ("disabled_at", Int),
            ("disabled_by", Bytes),
            ("disabled_label", Text),
        ],
    },
    Table {
        name: "erased_denies",
        key: 3,
        columns: &[
            ("digest", Bytes),
            ("kind", Int),
            ("name", Text),
            ("denied_at", Int),
            ("denied_by", Text),
            ("until", Int),
        ],
    },
    Table {
        name: "sessions",
        key: 1,
        columns: &[
            ("key", Bytes),
            ("user_id", Int),
            ("provider", Text),
            ("login", Text),
            ("token", Text),
            ("subject", Text),
            ("sid", Text),
            ("name_format", Text),
            ("app_cookie", Bytes),
            ("refresh", Bytes),
            ("created_at", Int),
            ("seen_at", Int),
            ("synced_at", Int),
            ("idle_until", Int),
            ("expires_at", Int),
            ("name_qualifier", Text),
            ("sp_name_qualifier", Text),
            ("hint", Bytes),
        ],
    },
    Table {
        name: "catalogue",
        key: 1,
        columns: &[
            ("number", Int),
            ("kind", Int),
            ("key", Text),
            ("version", Int),
            ("created_at", Int),
            ("updated_at", Int),
            ("body", Text),
        ],
    },
    Table {
        name: "exposures",
        key: 2,
        columns: &[("provider", Text), ("group_name", Text), ("alias", Text), ("hidden", Flag)],
    },
    Table {
        name: "api_clients",
        key: 1,
        columns: &[
            ("name", Text),
            ("secret", Bytes),
            ("scopes", Text),
            ("faces", Text),
            ("created_at", Int),
            ("created_by", Text),
            ("revoked_at", Int),
        ],
    },
    Table {
        name: "api_tokens",
        key: 1,
        columns: &[("digest", Bytes), ("refresh", Bytes), ("client", Bytes), ("created_at", Int), ("expires_at", Int)],
    },
    Table {
        name: "followed",
        key: 1,
        columns: &[
            ("user_id", Int),
            ("version", Int),
            ("round", Int),
            ("at", Int),
            ("cause", Text),
            ("login", Text),
            ("open", Flag),
        ],
    },
    Table {
        name: "delivered",
        key: 2,
        columns: &[
            ("receiver", Text),
            ("user_id", Int),
            ("wanted", Int),
            ("confirmed", Int),
            ("state", Text),
            ("tried", Text),
            ("due", Int),
            ("failures", Int),
            ("fault", Text),
        ],
    },
    Table { name: "remote", key: 3, columns: &[("receiver", Text), ("kind", Int), ("local", Text), ("remote", Text)] },
    Table {
        name: "events",
        key: 1,
        columns: &[
            ("id", Text),
            ("receiver", Text),
            ("at", Int),
            ("kind", Text),
            ("user_id", Int),
            ("data", Text),
            ("due", Int),
            ("failures", Int),
            ("fault", Text),
        ],
    },
];

/// Tables that do not travel by themselves, and why. A test fails for any other.
pub const STAY: [(&str, &str); 11] = [
    ("console", "operators sign in again"),
    ("files", "live replicas announce theirs"),
    ("replicas", "they announce themselves"),
    ("leader", "a new one is chosen"),
    ("records", "SQLite's second half of `users`"),
    ("given", "SQLite's, made from `holdings`"),
    ("seals", "PostgreSQL's part of `audit`"),
    ("audit_people", "PostgreSQL's part of `audit`"),
    ("rules", "PostgreSQL's number of the rules that are live, which starts again"),
    ("schema", "PostgreSQL's version of its tables"),
    ("sqlite_sequence", "SQLite's own"),
];

/// A row of `settings` that is no fact of the store: the highest number that a user ever had.
pub(super) const LAST_USER: &str = "last_erased_user";
/// Where a store keeps the [`Mark`].
pub(super) const MARK: &str = "move";
/// What stands in `settings` and does not travel.
pub(super) const OWN: [&str; 3] = ["probe", "cluster", MARK];
/// Settings that are numbers. SQLite keeps them as such, PostgreSQL as digits; digits travel.
pub(super) const NUMBERS: [&str; 3] = ["last_number", "generation", LAST_USER];
/// Settings that PostgreSQL keeps sealed. They travel in memory, as they are.
pub(super) const SECRETS: [&str; 4] = ["cookie_keys", "assertion_key", "erased_key", "webhook_key"];

/// What a store says of itself while it is moved, and after that. Nothing starts on a store that says something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum Mark {
    /// The source of a move that has not ended.
    Leaving { id: String, to: String, since: i64 },
    /// The source of a move that has.
    Left { id: String, to: String, at: i64 },
    /// The target of a move, which has come as far as this row of this table.
    Coming { id: String, from: String, table: usize, after: Option<Row> },
}

impl Mark {
    /// Why nothing starts on a store that says this. `here`: how people call the store.
    pub fn refusal(&self, here: &str) -> StoreError {
        StoreError::Invalid(match self {
            Self::Leaving { to, .. } => format!(
                "`{here}` is being moved to `{to}`, and the move has not ended: run the same `loginsync db move` again to finish \
                 it, or with `--undo` to give it up"
            ),
            Self::Left { to, at, .. } => format!(
                "`{here}` was moved to `{to}` at {}, and is no longer in use: start with the configuration that names `{to}`. \
                 `loginsync db move` with `--undo` takes `{here}` back into use, without what has happened at `{to}` since",
                Timestamp(*at)
            ),
            Self::Coming { from, .. } => format!(
                "`{here}` holds an unfinished move from `{from}`: run the same `loginsync db move` again to finish it, or with \
                 `--undo` to give it up"
            ),
        })
    }

    pub(super) fn text(&self) -> Result<String, StoreError> {
        serde_json::to_string(self).map_err(|error| StoreError::Invalid(error.to_string()))
    }

    pub(super) fn read(text: &[u8]) -> Result<Self, StoreError> {
        let unknown = |_| StoreError::Invalid("the setting `move` is not what this version writes".into());
        serde_json::from_slice(text).map_err(unknown)
    }

    fn id(&self) -> &str {
        match self {
            Self::Leaving { id, .. } | Self::Left { id, .. } | Self::Coming { id, .. } => id,
        }
    }
}

/// A store as a side of a move.
pub trait Transfer: Send + Sync {
    /// How people call it; never with a password.
    fn name(&self) -> String;

    /// By which its audit is sealed.
    fn audit_key(&self) -> Option<Vec<u8>>;

    fn mark(&self) -> BoxFuture<'_, Result<Option<Mark>, StoreError>>;

    /// Says something else of itself. A store that leaves takes no writes from then on; one that says nothing takes them again.
    ///
    /// # Errors
    /// When it said something else before than what is expected.
    fn set_mark(&self, before: Option<Mark>, after: Option<Mark>) -> BoxFuture<'_, Result<(), StoreError>>;

    /// How many rows each of [`TABLES`] has.
    fn counts(&self) -> BoxFuture<'_, Result<Vec<u64>, StoreError>>;

    /// Rows behind a key, in the order of the key.
    fn export(
        &self,
        table: &'static Table,
        after: Option<Row>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Row>, StoreError>>;

    /// Adds rows and moves the mark, in one transaction.
    ///
    /// # Errors
    /// When the mark is another than `before`: another process is at it.
    fn import(
        &self,
        table: &'static Table,
        rows: Vec<Row>,
        before: Mark,
        after: Mark,
    ) -> BoxFuture<'_, Result<(), StoreError>>;

    /// After the last row: numbers go on behind those that came.
    fn settle(&self) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Removes all rows and the mark of an unfinished move.
    fn clear(&self, mark: Mark) -> BoxFuture<'_, Result<(), StoreError>>;

    fn verify(&self) -> BoxFuture<'_, Result<ChainReport, StoreError>>;

    fn check(&self) -> BoxFuture<'_, Result<Vec<String>, StoreError>>;

    /// What an operator asks of a database. Nothing is written.
    fn status(&self) -> BoxFuture<'_, Result<Status, StoreError>>;
}

/// How a database is.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub struct Status {
    /// `sqlite` or `postgres`.
    pub kind: &'static str,
    pub name: String,
    /// Of the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    pub schema: i64,
    pub bytes: u64,
    pub rows: Vec<Rows>,
    /// Rows of the audit that have no seal yet.
    pub unsealed: u64,
    /// How long the oldest of them has waited, by the server's clock.
    pub unsealed_ms: u64,
    /// Whether a commit is on a standby when it is answered; absent where there are none by nature.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub synchronous: Option<bool>,
    /// The sidecars that share it, as far as they announce themselves.
    pub replicas: Vec<Replica>,
    pub standbys: Vec<Standby>,
    /// Why nothing starts on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moved: Option<String>,
}

#[derive(Debug, Clone, Serialize, PartialEq)]
pub struct Rows {
    pub table: &'static str,
    pub rows: u64,
}

/// A sidecar that serves.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub struct Replica {
    pub name: String,
    /// Of the program.
    pub version: String,
    /// The beginning of the digest of what its file gives: two that say the same have the same.
    pub file: String,
    pub started_at: String,
    /// By how much its clock is ahead of the server's.
    pub ahead_ms: i64,
}

/// A server that follows.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub struct Standby {
    pub name: String,
    pub state: String,
    /// `sync`, `quorum`, `potential` or `async`.
    pub sync: String,
    /// What it has not written down yet; unknown to a role that may not see it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub behind_bytes: Option<u64>,
}

pub(super) fn rows_of(counts: Vec<u64>) -> Vec<Rows> {
    TABLES.iter().zip(counts).map(|(table, rows)| Rows { table: table.name, rows }).collect()
}

/// What a move would be, or was.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
pub struct Outlook {
    pub from: String,
    pub to: String,
    /// Rows of the source by table.
    pub rows: Vec<(&'static str, u64)>,
    /// Rows that an earlier attempt has left at the target.
    pub there: u64,
    /// Why the move would be refused.
    pub refused: Vec<String>,
}

/// What a move is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    Copying(&'static str),
    Comparing(&'static str),
    /// Walking both chains, and comparing records with what users are found by.
    Checking,
    Done,
}

/// Looks whether a move can be made. Nothing is written. `target`: `None` where there is no database yet.
///
/// # Errors
/// When a store cannot be read.
pub async fn look(source: &dyn Transfer, target: Option<&dyn Transfer>, to: String) -> Result<Outlook, StoreError> {
    let counts = source.counts().await?;
    let there = match target {
        Some(target) => target.counts().await?.iter().sum(),
        None => 0,
    };
    let refused = refusals(source, target, &to, there).await?;
    let rows = TABLES.iter().map(|table| table.name).zip(counts).collect();
    Ok(Outlook { from: source.name(), to, rows, there, refused })
}

async fn refusals(
    source: &dyn Transfer,
    target: Option<&dyn Transfer>,
    to: &str,
    there: u64,
) -> Result<Vec<String>, StoreError> {
    let (from, mut refused) = (source.name(), Vec::new());
    if from == to {
        refused.push(format!("both configurations name `{from}`"));
        return Ok(refused);
    }
    let left = source.mark().await?;
    match &left {
        Some(Mark::Leaving { to: elsewhere, .. } | Mark::Left { to: elsewhere, .. }) if elsewhere == to => {}
        Some(mark) => refused.push(mark.refusal(&from).to_string()),
        None => {}
    }
    let Some(target) = target else { return Ok(refused) };
    match target.mark().await? {
        Some(Mark::Coming { id, .. }) if left.as_ref().is_some_and(|left| left.id() == id) => {}
        Some(mark) => refused.push(mark.refusal(to).to_string()),
        None if there > 0 && !matches!(left, Some(Mark::Left { .. })) => {
            refused.push(format!("`{to}` is not empty: it has {there} rows; name a new database"));
        }
        None => {}
    }
    match (source.audit_key(), target.audit_key()) {
        (Some(ours), Some(theirs)) if ours != theirs => refused.push(
            "the two configurations have different audit keys: set `audit.key_file` or `audit.key_env` of both to the same key".into(),
        ),
        (Some(_), None) => refused.push(
            "the configuration of the target has no audit key: set its `audit.key_file` or `audit.key_env` to the key of the source"
                .into(),
        ),
        _ => {}
    }
    Ok(refused)
}

/// Moves everything, and says so at the source. `told` hears of what is done and of how many rows that took, and may stop it by
/// an error. Returns how many rows there are.
///
/// # Errors
/// When the move is refused, a store fails, or the two differ afterwards. The same move may be tried again after each.
pub async fn carry_out(
    source: &dyn Transfer,
    target: &dyn Transfer,
    page: usize,
    now: Timestamp,
    told: &mut (dyn FnMut(Doing, u64) -> Result<(), StoreError> + Send),
) -> Result<u64, StoreError> {
    let (from, to) = (source.name(), target.name());
    let refused = look(source, Some(target), to.clone()).await?.refused;
    if !refused.is_empty() {
        return Err(StoreError::Invalid(refused.join("\n")));
    }
    let total = source.counts().await?.iter().sum();
    let left = match source.mark().await? {
        Some(mark) => mark,
        None => {
            let mark = Mark::Leaving { id: fresh_id()?, to: to.clone(), since: now.0 };
            source.set_mark(None, Some(mark.clone())).await?;
            mark
        }
    };
    let mut place = match target.mark().await? {
        Some(mark) => mark,
        // It was done, and freed.
        None if matches!(left, Mark::Left { .. }) => return Ok(total),
        None => {
            let mark = Mark::Coming { id: left.id().to_owned(), from, table: 0, after: None };
            target.set_mark(None, Some(mark.clone())).await?;
            mark
        }
    };
    if matches!(left, Mark::Leaving { .. }) {
        copy(source, target, page, &mut place, told).await?;
        target.settle().await?;
        compare(source, target, page, told).await?;
        let done = Mark::Left { id: left.id().to_owned(), to, at: now.0 };
        source.set_mark(Some(left), Some(done)).await?;
    }
    told(Doing::Done, 0)?;
    target.set_mark(Some(place), None).await?;
    Ok(total)
}

async fn copy(
    source: &dyn Transfer,
    target: &dyn Transfer,
    page: usize,
    place: &mut Mark,
    told: &mut (dyn FnMut(Doing, u64) -> Result<(), StoreError> + Send),
) -> Result<(), StoreError> {
    loop {
        let Mark::Coming { id, from, table: number, after } = place.clone() else { return Ok(()) };
        let Some(table) = TABLES.get(number) else { return Ok(()) };
        let rows = source.export(table, after, page).await?;
        let count = rows.len();
        let next = match rows.last() {
            Some(last) if count == page => (number, Some(table.key_of(last))),
            _ => (number + 1, None),
        };
        let next = Mark::Coming { id, from, table: next.0, after: next.1 };
        target.import(table, rows, place.clone(), next.clone()).await?;
        *place = next;
        told(Doing::Copying(table.name), count as u64)?;
    }
}

/// Every row of both, then the chains, then what users are found by.
async fn compare(
    source: &dyn Transfer,
    target: &dyn Transfer,
    page: usize,
    told: &mut (dyn FnMut(Doing, u64) -> Result<(), StoreError> + Send),
) -> Result<(), StoreError> {
    for table in &TABLES {
        let before = Sum::of(source, table, page).await?;
        let after = Sum::of(target, table, page).await?;
        if before != after {
            return Err(StoreError::Invalid(format!(
                "`{}` of the two stores differs after the copy ({} rows, and {}): give this move up with `--undo`, and try again",
                table.name, before.rows, after.rows
            )));
        }
        told(Doing::Comparing(table.name), before.rows)?;
    }
    told(Doing::Checking, 0)?;
    let (before, after) = (source.verify().await?, target.verify().await?);
    if before != after {
        let fault = after.broken.map_or_else(|| String::from("it is another one"), |broken| broken.to_string());
        return Err(StoreError::Invalid(format!("the audit chain at the target does not fit: {fault}")));
    }
    let (before, after) = (source.check().await?, target.check().await?);
    match after.first() {
        Some(fault) if before.is_empty() => Err(StoreError::Invalid(format!("at the target {fault}"))),
        _ => Ok(()),
    }
}

/// A sum over rows that does not depend on their order: the two stores sort some tables differently.
#[derive(Debug, PartialEq, Eq, Default)]
struct Sum {
    rows: u64,
    digest: [u64; 4],
}

impl Sum {
    async fn of(store: &dyn Transfer, table: &'static Table, page: usize) -> Result<Self, StoreError> {
        let (mut sum, mut after) = (Self::default(), None);
        loop {
            let rows = store.export(table, after, page).await?;
            rows.iter().for_each(|row| sum.add(table, row));
            match rows.last() {
                Some(last) if rows.len() == page => after = Some(table.key_of(last)),
                _ => return Ok(sum),
            }
        }
    }

    fn add(&mut self, table: &Table, row: &[Cell]) {
        let mut context = digest::Context::new(&digest::SHA256);
        for (place, cell) in row.iter().enumerate() {
            let (kind, bytes) = match cell {
                Cell::Null => (0, Vec::new()),
                Cell::Int(until) if place == 0 && table.is_of_tokens() => (1, (until / HOUR).to_be_bytes().to_vec()),
                Cell::Int(number) => (1, number.to_be_bytes().to_vec()),
                Cell::Text(text) => (2, text.as_bytes().to_vec()),
                Cell::Bytes(bytes) => (3, bytes.clone()),
            };
            context.update(&[kind]);
            context.update(&(bytes.len() as u64).to_be_bytes());
            context.update(&bytes);
        }
        for (sum, part) in self.digest.iter_mut().zip(context.finish().as_ref().as_chunks().0) {
            *sum = sum.wrapping_add(u64::from_be_bytes(*part));
        }
        self.rows += 1;
    }
}

/// The outcome of an undoing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Undone {
    /// The move had not ended: the target is empty again.
    GivenUp,
    /// It had: the target is out of use.
    TakenBack,
}

/// Takes the source of a move back into use. `target`: what has come there is removed where the move has not ended, else nothing
/// starts on it any more; without it the target stays as it is.
///
/// # Errors
/// When there is no such move, or a store fails.
pub async fn undo(source: &dyn Transfer, target: Option<&dyn Transfer>, now: Timestamp) -> Result<Undone, StoreError> {
    let from = source.name();
    let left = source.mark().await?.filter(|mark| !matches!(mark, Mark::Coming { .. }));
    let left = left.ok_or_else(|| StoreError::Invalid(format!("`{from}` was not moved: there is nothing to undo")))?;
    if let Some(target) = target {
        let to = target.name();
        match (&left, target.mark().await?) {
            (_, Some(mark @ Mark::Coming { .. })) if mark.id() == left.id() => target.clear(mark).await?,
            (Mark::Left { id, to: there, .. }, None) if *there == to => {
                let mark = Mark::Left { id: id.clone(), to: from, at: now.0 };
                target.set_mark(None, Some(mark)).await?;
            }
            // An earlier attempt was killed between the two.
            (Mark::Left { id, .. }, Some(Mark::Left { id: theirs, .. })) if *id == theirs => {}
            (Mark::Leaving { to: there, .. }, None) if *there == to => {}
            (Mark::Leaving { to: there, .. } | Mark::Left { to: there, .. }, _) => {
                return Err(StoreError::Invalid(format!(
                    "`{from}` was moved to `{there}`, and `{to}` does not hold that move"
                )));
            }
            (Mark::Coming { .. }, _) => {}
        }
    }
    let undone = if matches!(left, Mark::Leaving { .. }) { Undone::GivenUp } else { Undone::TakenBack };
    source.set_mark(Some(left), None).await?;
    Ok(undone)
}

fn fresh_id() -> Result<String, StoreError> {
    let mut id = [0; 16];
    rand::fill(&mut id).map_err(|_| StoreError::Unavailable("the operating system returned no random bytes".into()))?;
    Ok(hexadecimal(&id))
}
