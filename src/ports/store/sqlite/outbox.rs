//! The outbox, in SQLite.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::super::StoreError;
use super::super::rows::{News, note_of};
use super::facts::Look;
use super::settings::setting;
use super::{Session, SqliteStore, events, kind_of, records, unavailable};
use crate::pipeline::ids::{Target, Timestamp, UserId};
use crate::ports::BoxFuture;
use crate::ports::outbox::events::{EventSettled, Following, WaitingEvent};
use crate::ports::outbox::{Confirmed, Due, Local, Outbox, STUCK, Settled, Standing, Tally, ToldRow, Whom};

/// Behind the rows that are raised.
const RISES: &str = "ON CONFLICT (user_id) DO UPDATE
    SET version = version + 1, round = excluded.round, at = excluded.at, cause = excluded.cause, login = excluded.login, open = 1";

impl Session<'_> {
    /// Records pending deliveries of a user.
    pub(super) fn tell_receivers(&self, number: i64, news: &News<'_>, now: Timestamp) -> Result<(), StoreError> {
        if self.following.round == 0 {
            return Ok(());
        }
        let row =
            "INSERT INTO followed (user_id, version, round, at, cause, login, open) VALUES (?1, 1, ?2, ?3, ?4, ?5, 1)";
        let again = match news.rises {
            true => RISES,
            // Receivers that were added since do not know the user.
            false => {
                "ON CONFLICT (user_id) DO UPDATE SET round = excluded.round, open = 1 WHERE round <> excluded.round"
            }
        };
        self.run(&format!("{row} {again}"), &[&number, &self.following.round, &now.0, &news.cause, &news.login])
            .map(drop)
    }

    /// Raises all who have a grant of a target, which is about to be called otherwise or to end.
    pub(super) fn raise_holders(&self, target: &Target, cause: &str, now: Timestamp) -> Result<u64, StoreError> {
        let number = self.state.live.names.number(target).filter(|_| self.following.round != 0);
        let Some(number) = number else { return Ok(0) };
        let raised = self.run(
            &format!(
                "INSERT INTO followed (user_id, version, round, at, cause, open)
                 SELECT DISTINCT user_id, 1, ?3, ?4, ?5, 1 FROM holdings WHERE kind = ?1 AND target = ?2 {RISES}"
            ),
            &[&kind_of(target), &number, &self.following.round, &now.0, &cause],
        )?;
        Ok(raised as u64)
    }

    fn raise(&self, whom: &Whom, cause: &str, now: Timestamp) -> Result<u64, StoreError> {
        let (condition, key) = match whom {
            Whom::Holders(target) => return self.raise_holders(target, cause, now),
            Whom::Everyone => ("?4 = ''", ("", "")),
            Whom::User(user) => ("namespace = ?4 AND subject = ?5", (user.namespace.as_str(), user.subject.as_str())),
        };
        let statement = format!(
            "INSERT INTO followed (user_id, version, round, at, cause, open)
             SELECT id, 1, ?1, ?2, ?3, 1 FROM users WHERE {condition} AND ?5 = ?5 {RISES}"
        );
        Ok(self.run(&statement, &[&self.following.round, &now.0, &cause, &key.0, &key.1])? as u64)
    }

    fn spread(&self, receivers: &[String], now: Timestamp, limit: i64) -> Result<u64, StoreError> {
        let open: Vec<(i64, i64)> = self
            .statement("SELECT user_id, version FROM followed WHERE open ORDER BY at LIMIT ?1")
            .and_then(|mut select| select.query_map([limit], |row| Ok((row.get(0)?, row.get(1)?)))?.collect())
            .map_err(unavailable)?;
        let names = serde_json::to_string(receivers).map_err(|error| StoreError::Invalid(error.to_string()))?;
        for (number, version) in &open {
            for receiver in receivers {
                self.run(
                    "INSERT INTO delivered (receiver, user_id, wanted, confirmed, due, failures) VALUES (?1, ?2, ?3, 0, ?4, 0)
                     ON CONFLICT (receiver, user_id) DO UPDATE
                     SET wanted = excluded.wanted,
                         due = CASE WHEN confirmed >= wanted OR due = ?5 THEN excluded.due ELSE due END",
                    &[receiver, number, version, &now.0, &STUCK.0],
                )?;
            }
            self.run("UPDATE followed SET open = 0 WHERE user_id = ?1", &[number])?;
            // Of a user who is gone nothing is kept for receivers that are gone.
            self.run(
                "DELETE FROM delivered WHERE user_id = ?1 AND receiver NOT IN (SELECT value FROM json_each(?2))
                 AND user_id NOT IN (SELECT id FROM users)",
                &[number, &names],
            )?;
            self.run(
                "DELETE FROM remote WHERE kind = 0 AND local = CAST(?1 AS TEXT)
                 AND receiver NOT IN (SELECT value FROM json_each(?2)) AND ?1 NOT IN (SELECT id FROM users)",
                &[number, &names],
            )?;
        }
        Ok(open.len() as u64)
    }

    fn hurry(&self, receiver: &str, number: Option<i64>, now: Timestamp) -> Result<u64, StoreError> {
        let hurried = self.run(
            "UPDATE delivered SET due = ?3 WHERE receiver = ?1 AND confirmed < wanted AND due > ?3
             AND CASE WHEN ?2 IS NULL THEN due <> ?4 ELSE user_id = ?2 END",
            &[&receiver, &number, &now.0, &STUCK.0],
        )?;
        if number.is_none() {
            self.run("UPDATE events SET due = ?2 WHERE receiver = ?1 AND due > ?2", &[&receiver, &now.0])?;
        }
        Ok(hurried as u64)
    }

    fn forget(&self, receiver: &str, number: Option<i64>) -> Result<(), StoreError> {
        self.run(
            // It may still know what was delivered.
            "UPDATE delivered SET confirmed = 0, tried = coalesce(tried, state), state = NULL, failures = 0, fault = NULL
             WHERE receiver = ?1 AND coalesce(user_id = ?2, true) AND user_id IN (SELECT id FROM users)",
            &[&receiver, &number],
        )
        .map(drop)
    }

    fn settle(&self, receiver: &str, number: i64, settled: &Settled) -> Result<(), StoreError> {
        match settled {
            Settled::Confirmed { version, state } => self.run(
                "UPDATE delivered SET confirmed = ?3, state = ?4, tried = NULL, failures = 0, fault = NULL
                 WHERE receiver = ?1 AND user_id = ?2",
                &[&receiver, &number, version, state],
            )?,
            Settled::Gone => {
                self.run("DELETE FROM delivered WHERE receiver = ?1 AND user_id = ?2", &[&receiver, &number])?;
                self.set_remote(receiver, &Local::User(number), None, false)?;
                self.run(
                    "DELETE FROM followed WHERE user_id = ?1 AND NOT open
                     AND NOT EXISTS (SELECT 1 FROM delivered WHERE user_id = ?1)
                     AND NOT EXISTS (SELECT 1 FROM users WHERE id = ?1)",
                    &[&number],
                )?
            }
            Settled::Failed { fault, due } => self.run(
                "UPDATE delivered SET failures = failures + 1, fault = ?3, due = ?4 WHERE receiver = ?1 AND user_id = ?2",
                &[&receiver, &number, fault, &due.0],
            )?,
        };
        Ok(())
    }
}

impl Session<'_> {
    fn set_remote(&self, receiver: &str, local: &Local, remote: Option<&str>, takes: bool) -> Result<bool, StoreError> {
        let (kind, name) = local.key();
        let Some(remote) = remote else {
            let gone = "DELETE FROM remote WHERE receiver = ?1 AND kind = ?2 AND local = ?3";
            return self.run(gone, &[&receiver, &kind, &name]).map(|_| true);
        };
        if takes {
            let other = "DELETE FROM remote WHERE receiver = ?1 AND kind = ?2 AND remote = ?4 AND local <> ?3";
            self.run(other, &[&receiver, &kind, &name, &remote])?;
        }
        let noted = self.run(
            "INSERT INTO remote (receiver, kind, local, remote) SELECT ?1, ?2, ?3, ?4
             WHERE NOT EXISTS (SELECT 1 FROM remote WHERE receiver = ?1 AND kind = ?2 AND remote = ?4 AND local <> ?3)
             ON CONFLICT (receiver, kind, local) DO UPDATE SET remote = excluded.remote",
            &[&receiver, &kind, &name, &remote],
        )?;
        Ok(noted > 0)
    }
}

fn remote(connection: &Connection, receiver: &str, local: &Local) -> Result<Option<String>, StoreError> {
    let (kind, name) = local.key();
    connection
        .prepare_cached("SELECT remote FROM remote WHERE receiver = ?1 AND kind = ?2 AND local = ?3")
        .and_then(|mut select| select.query_row(params![receiver, kind, name], |row| row.get(0)).optional())
        .map_err(unavailable)
}

fn remotes(connection: &Connection, receiver: &str) -> Result<Vec<(Local, String)>, StoreError> {
    let read = |row: &Row<'_>| Ok((row.get(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?));
    let rows: Result<Vec<(i64, String, String)>, rusqlite::Error> = connection
        .prepare_cached("SELECT kind, local, remote FROM remote WHERE receiver = ?1 ORDER BY kind, local")
        .and_then(|mut select| select.query_map([receiver], read)?.collect());
    let rows = rows.map_err(unavailable)?.into_iter();
    Ok(rows.filter_map(|(kind, name, remote)| Some((Local::read(kind, &name)?, remote))).collect())
}

fn told(connection: &Connection, receiver: &str) -> Result<Vec<ToldRow>, StoreError> {
    let read = |row: &Row<'_>| Ok(ToldRow { number: row.get(0)?, state: row.get(1)?, tried: row.get(2)? });
    connection
        .prepare_cached("SELECT user_id, state, tried FROM delivered WHERE receiver = ?1 ORDER BY user_id")
        .and_then(|mut select| select.query_map([receiver], read)?.collect())
        .map_err(unavailable)
}

fn due_row(row: &Row<'_>) -> rusqlite::Result<Due> {
    Ok(Due {
        number: row.get(0)?,
        wanted: row.get(1)?,
        confirmed: row.get(2)?,
        state: row.get(3)?,
        failures: row.get(4)?,
        due: Timestamp(row.get(5)?),
        fault: row.get(6)?,
        raised_at: Timestamp(row.get(7)?),
        cause: row.get(8)?,
        login: row.get(9)?,
        tried: row.get(10)?,
        known: None,
    })
}

fn due(look: &Look<'_>, receiver: &str, now: Timestamp, limit: i64) -> Result<Vec<Due>, StoreError> {
    let found: Result<Vec<Due>, rusqlite::Error> = look
        .connection
        .prepare_cached(
            "SELECT user_id, followed.version, confirmed, state, failures, due, fault, at, cause, followed.login, tried
             FROM delivered JOIN followed USING (user_id)
             WHERE receiver = ?1 AND confirmed < wanted AND due <= ?2 ORDER BY due, user_id LIMIT ?3",
        )
        .and_then(|mut select| select.query_map(params![receiver, now.0, limit], due_row)?.collect());
    let mut found = found.map_err(unavailable)?;
    for due in &mut found {
        due.known = records::by_number(look.connection, look.live, due.number)?;
    }
    Ok(found)
}

fn standing(connection: &Connection, user: &UserId) -> Result<Standing, StoreError> {
    let key = params![user.namespace.as_str(), user.subject.as_str()];
    let number: Option<i64> = connection
        .prepare_cached("SELECT id FROM users WHERE namespace = ?1 AND subject = ?2")
        .and_then(|mut select| select.query_row(key, |row| row.get(0)).optional())
        .map_err(unavailable)?;
    let version: Option<i64> = connection
        .prepare_cached("SELECT version FROM followed WHERE user_id = ?1")
        .and_then(|mut select| select.query_row([number], |row| row.get(0)).optional())
        .map_err(unavailable)?;
    let read = |row: &Row<'_>| {
        Ok(Confirmed { receiver: row.get(0)?, version: row.get(1)?, state: row.get(2)?, tried: row.get(3)? })
    };
    let receivers: Result<_, rusqlite::Error> = connection
        .prepare_cached("SELECT receiver, confirmed, state, tried FROM delivered WHERE user_id = ?1 ORDER BY receiver")
        .and_then(|mut select| select.query_map([number], read)?.collect());
    Ok(Standing { version: version.unwrap_or_default(), receivers: receivers.map_err(unavailable)? })
}

fn tally(connection: &Connection, receiver: &str) -> Result<Tally, StoreError> {
    connection
        .prepare_cached(
            "SELECT count(*), coalesce(sum(due = ?2), 0), min(at) FROM delivered JOIN followed USING (user_id)
             WHERE receiver = ?1 AND confirmed < wanted",
        )
        .and_then(|mut select| {
            select.query_row(params![receiver, STUCK.0], |row| {
                let count = |at: usize| row.get::<_, i64>(at).map(i64::cast_unsigned);
                let oldest = row.get::<_, Option<i64>>(2)?.map(Timestamp);
                Ok(Tally { pending: count(0)?, stuck: count(1)?, oldest, ..Tally::default() })
            })
        })
        .map_err(unavailable)
        .and_then(|tally: Tally| {
            let (events, dropped) = events::tally(connection, receiver)?;
            Ok(Tally { events, dropped, ..tally })
        })
}

fn limit_of(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

impl Outbox for SqliteStore {
    fn follow(&self, following: Following) {
        self.following.store(Arc::new(following));
    }

    fn raise(&self, whom: Whom, cause: &'static str, now: Timestamp) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(self.write(move |session| session.raise(&whom, cause, now)))
    }

    fn spread(&self, receivers: Vec<String>, now: Timestamp, limit: usize) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(async move {
            // Most often there is nothing to do, and then the writer is not asked.
            let any = self.read(|look| look.number("SELECT EXISTS (SELECT 1 FROM followed WHERE open)", &[])).await?;
            match any {
                0 => Ok(0),
                _ => self.write(move |session| session.spread(&receivers, now, limit_of(limit))).await,
            }
        })
    }

    fn due(&self, receiver: String, now: Timestamp, limit: usize) -> BoxFuture<'_, Result<Vec<Due>, StoreError>> {
        Box::pin(self.read_aside(move |look| due(&look, &receiver, now, limit_of(limit))))
    }

    fn attempt(&self, receiver: String, number: i64, tried: String) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.write(move |session| {
            let noted = "UPDATE delivered SET tried = ?3 WHERE receiver = ?1 AND user_id = ?2";
            session.run(noted, &[&receiver, &number, &tried]).map(drop)
        }))
    }

    fn settle(&self, receiver: String, number: i64, settled: Settled) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.write(move |session| session.settle(&receiver, number, &settled)))
    }

    fn hurry(&self, receiver: String, number: Option<i64>, now: Timestamp) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(self.write(move |session| session.hurry(&receiver, number, now)))
    }

    fn forget(&self, receiver: String, number: Option<i64>) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.write(move |session| session.forget(&receiver, number)))
    }

    fn events(
        &self,
        receiver: String,
        now: Timestamp,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<WaitingEvent>, StoreError>> {
        Box::pin(self.read_aside(move |look| events::waiting(look.connection, &receiver, now, limit_of(limit))))
    }

    fn settle_event(
        &self,
        receiver: String,
        id: String,
        settled: EventSettled,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.write(move |session| session.settle_event(&receiver, &id, &settled)))
    }

    fn trim_events(
        &self,
        receivers: Vec<String>,
        most: usize,
    ) -> BoxFuture<'_, Result<Vec<(String, u64)>, StoreError>> {
        Box::pin(async move {
            let (most, named) = (limit_of(most), receivers.clone());
            match self.read_aside(move |look| events::is_over(look.connection, &named, most)).await? {
                false => Ok(Vec::new()),
                true => self.write(move |session| session.trim_events(&receivers, most)).await,
            }
        })
    }

    fn standing(&self, user: UserId) -> BoxFuture<'_, Result<Standing, StoreError>> {
        Box::pin(self.read(move |look| standing(look.connection, &user)))
    }

    fn tally(&self, receiver: String) -> BoxFuture<'_, Result<Tally, StoreError>> {
        Box::pin(self.read_aside(move |look| tally(look.connection, &receiver)))
    }

    fn remote(&self, receiver: String, local: Local) -> BoxFuture<'_, Result<Option<String>, StoreError>> {
        Box::pin(self.read(move |look| remote(look.connection, &receiver, &local)))
    }

    fn remotes(&self, receiver: String) -> BoxFuture<'_, Result<Vec<(Local, String)>, StoreError>> {
        Box::pin(self.read_aside(move |look| remotes(look.connection, &receiver)))
    }

    fn told(&self, receiver: String) -> BoxFuture<'_, Result<Vec<ToldRow>, StoreError>> {
        Box::pin(self.read_aside(move |look| told(look.connection, &receiver)))
    }

    fn set_remote(
        &self,
        receiver: String,
        local: Local,
        remote: Option<String>,
        takes: bool,
    ) -> BoxFuture<'_, Result<bool, StoreError>> {
        Box::pin(self.write(move |session| session.set_remote(&receiver, &local, remote.as_deref(), takes)))
    }

    fn note(&self, name: String) -> BoxFuture<'_, Result<Option<Vec<u8>>, StoreError>> {
        Box::pin(self.read(move |look| setting(look.connection, &note_of(&name))))
    }

    fn set_note(&self, name: String, value: Vec<u8>) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.write(move |session| session.set(&note_of(&name), &value)))
    }
}
