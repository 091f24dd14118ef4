//! Records in rows: read whole, and written as the difference between two.

use rusqlite::{Connection, Row, params};

use super::super::rows::{Key, Live, key_of, mark_of};
use super::super::{Known, StoreError};
use super::{NEXT_USER, Session, kind_of, unavailable, user_of};
use crate::pipeline::ids::{Target, Timestamp, UserId};
use crate::pipeline::plan::{Grant, Source};
use crate::pipeline::record::Record;
use crate::pipeline::record::names::Names;
use crate::pipeline::record::text::{self, Unreadable, Versions};

const COLUMNS: &str = "users.id, namespace, subject, email, display_name, created_at, logins, due, record";

/// A user as the rows say.
pub(super) fn read(row: &Row<'_>, names: &Names) -> Result<Known, StoreError> {
    let get = |at: usize| row.get_ref(at).map_err(unavailable);
    let text = |at: usize| get(at)?.as_str().map_err(|error| StoreError::Invalid(error.to_string()));
    let user = user_of(text(1)?, text(2)?)?;
    let mut record = Record::new(Timestamp(row.get(5).map_err(unavailable)?));
    record.email = row.get(3).map_err(unavailable)?;
    record.display_name = row.get(4).map_err(unavailable)?;
    record.due = row.get::<_, Option<i64>>(7).map_err(unavailable)?.map(Timestamp);
    let unreadable = |error: Unreadable| StoreError::Invalid(format!("the record of `{user}` cannot be read: {error}"));
    text::read_logins(&mut record, text(6)?, Versions::default()).map_err(unreadable)?;
    if get(8)? != rusqlite::types::ValueRef::Null {
        text::read_rarely(&mut record, text(8)?, names, Versions::default()).map_err(unreadable)?;
    }
    Ok(Known { number: row.get(0).map_err(unavailable)?, user, record })
}

fn select(condition: &str) -> String {
    format!("SELECT {COLUMNS} FROM users LEFT JOIN records ON records.user_id = users.id WHERE {condition}")
}

/// Users by a condition, as they count.
pub(super) fn find(
    connection: &Connection,
    live: &Live,
    condition: &str,
    values: &[&dyn rusqlite::ToSql],
) -> Result<Vec<Known>, StoreError> {
    let mut select = connection.prepare_cached(&select(condition)).map_err(unavailable)?;
    let mut rows = select.query(values).map_err(unavailable)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().map_err(unavailable)? {
        let Known { number, user, record } = read(row, &live.names)?;
        found.push(Known { number, user, record: live.as_it_counts(record) });
    }
    Ok(found)
}

pub(super) fn by_key(connection: &Connection, live: &Live, user: &UserId) -> Result<Option<Known>, StoreError> {
    let key: [&dyn rusqlite::ToSql; 2] = [&user.namespace.as_str(), &user.subject.as_str()];
    Ok(find(connection, live, "namespace = ?1 AND subject = ?2", &key)?.pop())
}

pub(super) fn by_number(connection: &Connection, live: &Live, number: i64) -> Result<Option<Known>, StoreError> {
    Ok(find(connection, live, "users.id = ?1", &[&number])?.pop())
}

// ------------------------------------------------------------------------------------------------------------- writing

impl Session<'_> {
    /// Gives a number to everything that a record names and that has none.
    fn number_all(&mut self, record: &Record) -> Result<(), StoreError> {
        for target in record.numbered() {
            if self.state.live.names.number(target).is_none() {
                let number = self.state.live.names.fresh();
                self.run(
                    "INSERT INTO targets (number, kind, name) VALUES (?1, ?2, ?3)",
                    &[&number, &kind_of(target), &target.name()],
                )?;
                self.state.live.names.insert(number, target.clone(), false);
                self.state.changed();
            }
        }
        Ok(())
    }

    /// Writes what changed since a record was read. Returns the user's number.
    pub(super) fn write(
        &mut self,
        user: &UserId,
        before: Option<(i64, &Record)>,
        after: &Record,
    ) -> Result<i64, StoreError> {
        let nothing = Record::new(after.created_at);
        let (number, before) = match before {
            Some((number, before)) => {
                self.update(number, before, after)?;
                (number, before)
            }
            None => (self.insert(user, after)?, &nothing),
        };
        if !text::is_same(before, after) {
            self.number_all(after)?;
            let record = padded(text::rarely(after, &self.state.live.names, Versions::default()));
            // Over the old row: replacing it would take it out first, and move its neighbours.
            self.run(
                "INSERT INTO records (user_id, record) VALUES (?1, ?2) ON CONFLICT (user_id) DO UPDATE SET record = ?2",
                &[&number, &record],
            )?;
            self.difference(number, before, after)?;
        }
        if before.disabled.is_none() && after.disabled.is_some() {
            // A disabled user has no session, and being enabled again brings none back.
            self.run("DELETE FROM sessions WHERE user_id = ?1", &[&number])?;
        }
        Ok(number)
    }

    /// Adds a row for a user, under a number that no user had before.
    fn insert(&mut self, user: &UserId, record: &Record) -> Result<i64, StoreError> {
        self.run(
            &format!(
                "INSERT INTO users (id, namespace, subject, email, display_name, created_at, disabled, last_login_at, logins, due)
                 VALUES ({NEXT_USER}, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)"
            ),
            &[
                &user.namespace.as_str(),
                &user.subject.as_str(),
                &record.email,
                &record.display_name,
                &record.created_at.0,
                &record.disabled.is_some(),
                &record.last_login().map(|at| at.0),
                &text::logins(record, Versions::default()),
                &record.due.map(|at| at.0),
            ],
        )?;
        Ok(self.connection.last_insert_rowid())
    }

    fn update(&mut self, number: i64, before: &Record, after: &Record) -> Result<(), StoreError> {
        let head = |record: &Record| (record.disabled.is_some(), record.due);
        let is_same = before.email == after.email
            && before.display_name == after.display_name
            && before.logins == after.logins
            && head(before) == head(after);
        if is_same {
            return Ok(());
        }
        self.run(
            "UPDATE users SET email = ?2, display_name = ?3, disabled = ?4, last_login_at = ?5, logins = ?6, due = ?7
             WHERE id = ?1",
            &[
                &number,
                &after.email,
                &after.display_name,
                &after.disabled.is_some(),
                &after.last_login().map(|at| at.0),
                &text::logins(after, Versions::default()),
                &after.due.map(|at| at.0),
            ],
        )
        .map(drop)
    }

    /// Makes what a user is found by the same as the record.
    fn difference(&mut self, number: i64, before: &Record, after: &Record) -> Result<(), StoreError> {
        let names = &self.state.live.names;
        let gone = before.holdings.keys().filter(|grant| !after.holdings.contains_key(grant));
        for key in gone.filter_map(|grant| key_of(grant, names)) {
            self.remove_holding(number, &key)?;
        }
        for (grant, holding) in &after.holdings {
            let known = before.holdings.get(grant);
            if known.is_some_and(|known| known.held_at == holding.held_at) {
                continue;
            }
            if let Some(key) = key_of(grant, &self.state.live.names) {
                self.put_holding(number, &key, holding.held_at.map(|at| at.0))?;
            }
            if known.is_none() {
                self.note_given(grant)?;
            }
        }
        let (was, is) = (mark_of(before), mark_of(after));
        if was != is {
            was.map_or(Ok(()), |key| self.remove_holding(number, &key))?;
            is.map_or(Ok(()), |key| self.put_holding(number, &key, None))?;
        }
        for target in before.denies.keys().filter(|target| !after.denies.contains_key(target)) {
            self.run(
                "DELETE FROM denied WHERE kind = ?1 AND name = ?2 AND user_id = ?3",
                &[&kind_of(target), &target.name(), &number],
            )?;
        }
        for target in after.denies.keys().filter(|target| !before.denies.contains_key(target)) {
            self.put_denied(number, target)?;
        }
        Ok(())
    }

    pub(super) fn put_holding(&self, number: i64, key: &Key, at: Option<i64>) -> Result<(), StoreError> {
        let Key { kind, target, provider, mapping } = key;
        self.run(
            "INSERT OR REPLACE INTO holdings (kind, target, provider, mapping, user_id, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            &[kind, target, provider, mapping, &number, &at],
        )
        .map(drop)
    }

    pub(super) fn remove_holding(&self, number: i64, key: &Key) -> Result<(), StoreError> {
        let Key { kind, target, provider, mapping } = key;
        self.run(
            "DELETE FROM holdings WHERE kind = ?1 AND target = ?2 AND provider = ?3 AND mapping = ?4 AND user_id = ?5",
            &[kind, target, provider, mapping, &number],
        )
        .map(drop)
    }

    pub(super) fn put_denied(&self, number: i64, target: &Target) -> Result<(), StoreError> {
        self.run(
            "INSERT OR IGNORE INTO denied (kind, name, user_id) VALUES (?1, ?2, ?3)",
            &[&kind_of(target), &target.name(), &number],
        )
        .map(drop)
    }

    /// Notes which mapping has given what; most often that is known.
    pub(super) fn note_given(&mut self, Grant { target, source }: &Grant) -> Result<(), StoreError> {
        let (Source::Mapped { provider, mapping }, Some(number)) = (source, self.state.live.names.number(target))
        else {
            return Ok(());
        };
        let key = (*mapping, provider.clone(), number);
        if self.state.given.contains(&key) {
            return Ok(());
        }
        self.run(
            "INSERT OR IGNORE INTO given (mapping, provider, kind, target) VALUES (?1, ?2, ?3, ?4)",
            &[&mapping.0, &provider.as_str(), &kind_of(target), &number],
        )?;
        self.state.given.insert(key);
        self.state.is_dirty = true;
        Ok(())
    }

    /// Removes all rows of a user.
    pub(super) fn remove(&mut self, number: i64, record: &Record) -> Result<(), StoreError> {
        self.difference(number, record, &Record::new(record.created_at))?;
        for statement in [super::NOTE_LAST_USER, "DELETE FROM users WHERE id = ?1"] {
            self.run(statement, &[&number])?;
        }
        Ok(())
    }
}

/// Blanks behind a record, so that one that changes a little keeps its length: SQLite then writes it where it is, on one page.
pub(super) fn padded(mut record: String) -> String {
    const STEP: usize = 128;
    let length = record.len().next_multiple_of(STEP);
    record.extend(std::iter::repeat_n(' ', length - record.len()));
    record
}

/// The numbers of users who became one with this one: their rows of the audit are this person's, too.
pub(super) fn former_numbers(connection: &Connection, number: i64) -> Result<Vec<i64>, StoreError> {
    connection
        .prepare_cached("SELECT id FROM former_users WHERE user_id = ?1 ORDER BY id")
        .and_then(|mut select| select.query_map(params![number], |row| row.get(0))?.collect())
        .map_err(unavailable)
}
