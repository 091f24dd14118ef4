//! The audit chain, whichever store keeps it: what seals cover, and walking it. `docs/audit.md` says what it proves.
//!
//! Each row has a MAC of its own, over time, event, detail, login, user number and the hash of the personal fields. A seal
//! covers that MAC, the row's place and the seal before it. With a key both are HMAC-SHA256; without one they are SHA-256, and
//! `audit verify` says so. The personal fields and their salt can be erased: their hash stays.

mod seal;

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::rand;
use serde::{Deserialize, Serialize};

pub(super) use self::seal::{CURRENT, Content, FIRST, Numbers, Sealer};
use self::seal::{First, SALT, salted};
use super::{Broken, ChainReport, StoreError};
use crate::pipeline::decision::{ERASED, MERGED};
use crate::pipeline::ids::UserId;

/// The first row after those of the first format.
pub(super) const CONTINUED: &str = "audit_continued";
/// An operator vouches for the rows from before there was a key.
pub(super) const ACCEPTED: &str = "unkeyed_accepted";

/// Who a row is about: kept outside the chain.
#[derive(Serialize)]
struct Person<'a> {
    namespace: &'a str,
    subject: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<&'a str>,
}

/// What names a person, and the hash that stands for it in the chain.
pub(super) struct Concealed {
    pub salt: [u8; SALT],
    pub fields: String,
    pub hash: Vec<u8>,
}

/// The personal fields, and the salted hash by which the chain vouches for them.
pub(super) fn conceal(user: &UserId, email: Option<&str>) -> Result<Concealed, StoreError> {
    let person = Person { namespace: user.namespace.as_str(), subject: user.subject.as_str(), email };
    let fields = serde_json::to_string(&person).map_err(|error| StoreError::Invalid(error.to_string()))?;
    let mut salt = [0; SALT];
    rand::fill(&mut salt)
        .map_err(|_| StoreError::Unavailable("the operating system returned no random bytes".into()))?;
    let hash = salted(&salt, &fields);
    Ok(Concealed { salt, fields, hash })
}

/// What the first row after those of the first format says of them.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Continued {
    pub rows: u64,
    pub head: String,
    /// A digest of the user numbers in those rows, which their own seals leave out.
    pub users: String,
    /// The highest user number so far: a user of then may have no row.
    pub last_user: i64,
}

/// What an operator vouches for: the rows at the beginning that no key seals.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Accepted {
    pub by: String,
    pub rows: i64,
    pub head: String,
}

/// The end of the chain.
#[derive(Debug, Clone)]
pub(super) struct Last {
    pub sequence: i64,
    pub seal: Vec<u8>,
    pub keyed: bool,
    pub key: Option<Vec<u8>>,
}

impl Last {
    /// A row that is not sealed as the rows before it could never be verified again, so it is not written.
    pub(super) fn check_key(&self, sealer: &Sealer) -> Result<(), StoreError> {
        let why = match (sealer.key_id(), &self.key) {
            (None, _) if self.keyed => "the configuration has no audit key",
            (Some(ours), Some(theirs)) if ours != theirs.as_slice() => "the configuration has another one",
            _ => return Ok(()),
        };
        Err(StoreError::Invalid(format!(
            "the audit chain is sealed with a key, and {why}: set `audit.key_file` or `audit.key_env` to the key of before"
        )))
    }
}

// --------------------------------------------------------------------------------------------------------------- walking

/// A row as a store keeps it.
pub(super) struct Stored {
    pub sequence: i64,
    pub at: i64,
    pub event: String,
    pub detail: String,
    pub person: Option<Vec<u8>>,
    pub keyed: bool,
    pub seal: Vec<u8>,
    pub user: Option<i64>,
    pub salt: Option<Vec<u8>>,
    pub fields: Option<String>,
    pub format: i64,
    pub login: Option<String>,
    pub mac: Option<Vec<u8>>,
    pub key: Option<Vec<u8>>,
}

/// What the rows so far say about one user: the first row with personal fields, the first without those that it had, and the
/// row by which the user was erased.
#[derive(Default)]
struct Mentions {
    with_fields: Option<i64>,
    without: Option<i64>,
    erased: Option<i64>,
    merged: bool,
}

/// A walk along the chain, row by row.
pub(super) struct Walk<'a> {
    sealer: &'a Sealer,
    /// How far the walk is, for those who wait for it.
    walked: &'a AtomicU64,
    rows: i64,
    erased: u64,
    before: Vec<u8>,
    /// While rows of the first format come: a digest of whom they are about.
    numbers: Option<Numbers>,
    first_format: u64,
    unkeyed: i64,
    unsealed: u64,
    /// The seal of the last row without a key.
    unkeyed_head: Vec<u8>,
    keyed: bool,
    /// A sealed row says how many came before it without a key.
    accepted: bool,
    /// The highest user number that may have no row.
    without_rows: i64,
    users: HashMap<i64, Mentions>,
}

type Step = Result<(), Broken>;

fn fault<T>(row: i64, fault: impl Into<String>) -> Result<T, Broken> {
    Err(Broken { row: Some(row), fault: fault.into() })
}

impl<'a> Walk<'a> {
    pub(super) fn new(sealer: &'a Sealer, walked: &'a AtomicU64) -> Self {
        Self {
            sealer,
            walked,
            rows: 0,
            erased: 0,
            before: Vec::new(),
            numbers: Some(Numbers::new()),
            first_format: 0,
            unkeyed: 0,
            unsealed: 0,
            unkeyed_head: Vec::new(),
            keyed: false,
            accepted: false,
            without_rows: 0,
            users: HashMap::new(),
        }
    }

    pub(super) fn step(&mut self, row: &Stored) -> Step {
        let expected = self.rows.saturating_add(1);
        if row.sequence != expected {
            return fault(
                row.sequence,
                format!("stands where row {expected} should: rows were removed, or numbers changed"),
            );
        }
        self.check_key(row)?;
        match row.format {
            FIRST => self.check_first(row)?,
            CURRENT => self.check_current(row)?,
            other => {
                return fault(
                    row.sequence,
                    format!("has the unknown format {other}: it was altered, or is of a newer version"),
                );
            }
        }
        self.check_fields(row)?;
        self.note_user(row)?;
        self.rows = row.sequence;
        self.walked.store(row.sequence.unsigned_abs(), Ordering::Relaxed);
        self.before.clone_from(&row.seal);
        if self.keyed {
            return Ok(());
        }
        self.unkeyed = row.sequence;
        self.unkeyed_head.clone_from(&row.seal);
        Ok(())
    }

    /// Whether the row is sealed as it should be by what came before and by the configuration.
    fn check_key(&mut self, row: &Stored) -> Step {
        if row.keyed && self.sealer.key_id().is_none() {
            return fault(
                row.sequence,
                "is sealed with a key: set `audit.key_file` or `audit.key_env` to that key to verify it",
            );
        }
        // Without this an attacker who lacks the key could go on without one.
        if self.keyed && !row.keyed {
            return fault(
                row.sequence,
                "is not sealed with the key, though earlier rows are: it was put in or rewritten",
            );
        }
        if row.keyed && !self.keyed {
            self.keyed = true;
            // A row of the first format with its key seals its own number, and so how many came before.
            self.accepted = row.format == FIRST;
        }
        Ok(())
    }

    fn check_first(&mut self, row: &Stored) -> Step {
        let Some(numbers) = &mut self.numbers else {
            return fault(
                row.sequence,
                "is of the first format, though earlier rows are of the second: it was put in or rewritten",
            );
        };
        // Their seals cover none of these.
        if row.login.is_some() || row.mac.is_some() || row.key.is_some() {
            return fault(row.sequence, "is of the first format and has parts of the second: it was altered");
        }
        let first = First {
            sequence: row.sequence,
            at: row.at,
            event: &row.event,
            detail: &row.detail,
            person: row.person.as_deref(),
            keyed: row.keyed,
        };
        if self.sealer.first(&self.before, &first) != row.seal {
            return fault(row.sequence, "does not fit its seal: this row, or the seal before it, was altered");
        }
        numbers.add(row.sequence, row.user);
        self.first_format += 1;
        Ok(())
    }

    fn check_current(&mut self, row: &Stored) -> Step {
        let mac = self.check_mac(row)?;
        if self.sealer.link(row.keyed, row.sequence, &self.before, &mac) != row.seal {
            return fault(
                row.sequence,
                "does not fit its seal: rows up to here were removed, put in or moved, or the seal was altered",
            );
        }
        self.check_continued(row)?;
        self.check_accepted(row)
    }

    /// Whether it says what was written, whatever the rest of the row says.
    fn check_mac(&self, row: &Stored) -> Result<Vec<u8>, Broken> {
        if row.keyed != row.key.is_some() {
            return fault(row.sequence, "contradicts itself about its key: it was altered");
        }
        if row.key.as_deref().is_some_and(|key| Some(key) != self.sealer.key_id()) {
            return fault(
                row.sequence,
                "is sealed with another key than the configured one, or the name of its key was altered",
            );
        }
        let content = Content {
            at: row.at,
            event: &row.event,
            detail: &row.detail,
            login: row.login.as_deref(),
            user: row.user,
            person: row.person.as_deref(),
        };
        let mac = self.sealer.mac(row.keyed, &content);
        if row.mac.as_deref() == Some(mac.as_slice()) {
            return Ok(mac);
        }
        fault(
            row.sequence,
            "does not fit its MAC: its time, event, detail, login, user number or the hash of its personal fields was altered",
        )
    }

    /// A row that has no seal yet, after all that have one, at the place that it will have. What it says of users counts.
    pub(super) fn unsealed(&mut self, row: &Stored) -> Step {
        self.check_key(row)?;
        if row.format != CURRENT {
            return fault(row.sequence, "is of the first format and has no seal: it was put in");
        }
        self.check_mac(row)?;
        self.check_continued(row)?;
        self.check_accepted(row)?;
        self.check_fields(row)?;
        self.note_user(row)?;
        self.unsealed += 1;
        Ok(())
    }

    /// The first row after those of the first format says how many they are, how they end, and whom they are about.
    fn check_continued(&mut self, row: &Stored) -> Step {
        let numbers = self.numbers.take();
        let Some(numbers) = numbers.filter(|_| self.first_format > 0) else {
            return match row.event == CONTINUED {
                true => fault(row.sequence, "counts rows of the first format, and none is before it"),
                false => Ok(()),
            };
        };
        if row.event != CONTINUED {
            return fault(row.sequence, "does not say how many rows of the first format came before it");
        }
        let Ok(said) = serde_json::from_str::<Continued>(&row.detail) else {
            return fault(row.sequence, "does not say how many rows of the first format came before it");
        };
        if said.rows != self.first_format || said.head != hexadecimal(&self.before) {
            return fault(
                row.sequence,
                "counts other rows of the first format than those before it: some were removed or put in",
            );
        }
        if said.users != numbers.finish() {
            return fault(
                row.sequence,
                "was sealed over other user numbers than the rows of the first format before it now have",
            );
        }
        self.without_rows = said.last_user;
        Ok(())
    }

    /// An operator has vouched for the rows without a key.
    fn check_accepted(&mut self, row: &Stored) -> Step {
        if row.event != ACCEPTED || !row.keyed {
            return Ok(());
        }
        let said = serde_json::from_str::<Accepted>(&row.detail);
        if !said.is_ok_and(|said| said.rows == self.unkeyed && said.head == hexadecimal(&self.unkeyed_head)) {
            return fault(row.sequence, "accepts other rows without a key than those at the beginning");
        }
        self.accepted = true;
        Ok(())
    }

    fn check_fields(&self, row: &Stored) -> Step {
        match (&row.person, &row.salt, &row.fields) {
            (_, None, None) => Ok(()),
            (None, ..) => fault(row.sequence, "has personal fields that it never had"),
            (Some(hash), Some(salt), Some(fields)) => match salt.len() == SALT && salted(salt, fields) == *hash {
                true => Ok(()),
                false => fault(row.sequence, "has other personal fields than were sealed"),
            },
            (Some(_), None, Some(_)) => {
                fault(row.sequence, "has personal fields without their salt: they were altered")
            }
            (Some(_), Some(_), None) => {
                fault(row.sequence, "has a salt without personal fields: they were removed by hand")
            }
        }
    }

    /// What becomes of a user's personal fields agrees with the rows that say who was erased.
    fn note_user(&mut self, row: &Stored) -> Step {
        let gone = row.person.is_some() && row.fields.is_none();
        self.erased += u64::from(gone);
        // Of the first format, a row without a number was erased before the second: the numbers are sealed.
        let Some(user) = row.user else { return Ok(()) };
        let mentions = self.users.entry(user).or_default();
        if let Some(erased) = mentions.erased {
            return fault(
                row.sequence,
                format!("is about user {user}, whom row {erased} erased: the number was used again"),
            );
        }
        if row.event == ERASED && row.format == CURRENT {
            mentions.erased = Some(row.sequence);
            mentions.without = None;
            return match mentions.with_fields {
                None => Ok(()),
                Some(kept) => {
                    fault(kept, format!("still has personal fields of user {user}, whom row {} erased", row.sequence))
                }
            };
        }
        mentions.merged |= row.event == MERGED && row.format == CURRENT;
        if row.fields.is_some() {
            mentions.with_fields.get_or_insert(row.sequence);
        } else if gone {
            mentions.without.get_or_insert(row.sequence);
        }
        Ok(())
    }

    /// What only shows when every row was seen.
    pub(super) fn end(&self, users: &BTreeSet<i64>) -> Option<Broken> {
        let whole = |fault: String| Some(Broken { row: None, fault });
        if self.rows == 0 && self.unsealed == 0 && !users.is_empty() {
            return whole(format!("the chain is empty, though there are {} users: its rows were removed", users.len()));
        }
        if self.numbers.is_some() && self.first_format > 0 {
            return whole(
                "the chain ends before the row that counts the rows of the first format: its end was removed".into(),
            );
        }
        if self.sealer.key_id().is_some() && self.unkeyed > 0 && !self.accepted {
            return Some(Broken {
                row: Some(1),
                fault: format!(
                    "is not sealed with the key, nor are the rows up to {}, and no sealed row accepts them. If they are older than \
                     the key, look at them and run `loginsync audit accept-unkeyed`",
                    self.unkeyed
                ),
            });
        }
        let without = self.users.iter().filter_map(|(user, mentions)| mentions.without.map(|row| (row, user)));
        if let Some((row, user)) = without.min() {
            return Some(Broken {
                row: Some(row),
                fault: format!("lacks its personal fields, and no row says that user {user} was erased"),
            });
        }
        let unknown = users.iter().find(|user| **user > self.without_rows && !self.users.contains_key(user));
        if let Some(user) = unknown {
            return whole(format!(
                "no row is about user {user}: the end of the chain was removed, or the user was put in by hand"
            ));
        }
        let gone = self
            .users
            .iter()
            .filter(|(user, mentions)| mentions.erased.is_none() && !mentions.merged && !users.contains(user));
        gone.map(|(user, _)| user).min().map(|user| Broken {
            row: None,
            fault: format!("user {user} is gone, and no row says that they were erased: the user was removed by hand"),
        })
    }

    pub(super) fn broken_at_next(self, why: &str) -> ChainReport {
        let row = self.rows.saturating_add(1);
        self.report(Some(Broken { row: Some(row), fault: why.into() }))
    }

    pub(super) fn report(self, broken: Option<Broken>) -> ChainReport {
        ChainReport {
            rows: self.rows.unsigned_abs(),
            erased: self.erased,
            first_format: self.first_format,
            unkeyed: if self.keyed { self.unkeyed.unsigned_abs() } else { 0 },
            keyed: self.keyed,
            broken,
            head: hexadecimal(&self.before),
        }
    }
}

pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
