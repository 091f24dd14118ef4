//! Pending events for receivers, in SQLite.

use rusqlite::{Connection, Row, params};

use super::super::StoreError;
use super::super::rows::{json, note_of};
use super::settings::setting;
use super::{Session, unavailable};
use crate::pipeline::ids::Timestamp;
use crate::ports::outbox::events::{EventSettled, NewEvent, WaitingEvent, dropped, dropped_note};

impl Session<'_> {
    /// Records the events for receivers.
    pub(super) fn note_events(&self, events: &[NewEvent], now: Timestamp) -> Result<(), StoreError> {
        events.iter().try_for_each(|NewEvent { receiver, event, user, data }| {
            self.run(
                "INSERT INTO events (id, receiver, at, kind, user_id, data, due, failures)
                 VALUES (lower(hex(randomblob(16))), ?1, ?2, ?3, ?4, ?5, ?2, 0)",
                &[receiver, &now.0, &event.word(), user, data],
            )
            .map(drop)
        })
    }

    pub(super) fn settle_event(&self, receiver: &str, id: &str, settled: &EventSettled) -> Result<(), StoreError> {
        if let EventSettled::Failed { fault, due } = settled {
            let failed = "UPDATE events SET failures = failures + 1, fault = ?2, due = ?3 WHERE id = ?1";
            return self.run(failed, &[&id, fault, &due.0]).map(drop);
        }
        let gone = self.run("DELETE FROM events WHERE id = ?1", &[&id])?;
        match settled {
            EventSettled::Dropped => self.count_dropped(receiver, gone as u64),
            _ => Ok(()),
        }
    }

    pub(super) fn trim_events(&self, receivers: &[String], most: i64) -> Result<Vec<(String, u64)>, StoreError> {
        let gone = "DELETE FROM events WHERE receiver NOT IN (SELECT value FROM json_each(?1))";
        self.run(gone, &[&json(&receivers)?])?;
        let mut all = Vec::new();
        for receiver in receivers {
            let oldest = "DELETE FROM events WHERE id IN
                (SELECT id FROM events WHERE receiver = ?1 ORDER BY at DESC, id DESC LIMIT -1 OFFSET ?2)";
            let gone = self.run(oldest, &[receiver, &most])? as u64;
            self.count_dropped(receiver, gone)?;
            all.extend((gone > 0).then(|| (receiver.clone(), gone)));
        }
        Ok(all)
    }

    fn count_dropped(&self, receiver: &str, more: u64) -> Result<(), StoreError> {
        if more == 0 {
            return Ok(());
        }
        let name = note_of(&dropped_note(receiver));
        let all = dropped(setting(self.connection, &name)?.as_deref()).saturating_add(more);
        self.set(&name, all.to_string().as_bytes())
    }
}

/// Whether [`Session::trim_events`] would change anything: most often it would not, and then the writer is not asked.
pub(super) fn is_over(connection: &Connection, receivers: &[String], most: i64) -> Result<bool, StoreError> {
    let read = |row: &Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?));
    let held: Result<Vec<(String, i64)>, rusqlite::Error> = connection
        .prepare_cached("SELECT receiver, count(*) FROM events GROUP BY receiver")
        .and_then(|mut select| select.query_map([], read)?.collect());
    let held = held.map_err(unavailable)?;
    Ok(held.iter().any(|(receiver, count)| *count > most || !receivers.contains(receiver)))
}

pub(super) fn waiting(
    connection: &Connection,
    receiver: &str,
    now: Timestamp,
    limit: i64,
) -> Result<Vec<WaitingEvent>, StoreError> {
    let read = |row: &Row<'_>| {
        Ok(WaitingEvent {
            id: row.get(0)?,
            at: Timestamp(row.get(1)?),
            event: row.get(2)?,
            user: row.get(3)?,
            data: row.get(4)?,
            failures: row.get(5)?,
        })
    };
    connection
        .prepare_cached(
            "SELECT id, at, kind, user_id, data, failures FROM events
             WHERE receiver = ?1 AND due <= ?2 ORDER BY due, at, id LIMIT ?3",
        )
        .and_then(|mut select| select.query_map(params![receiver, now.0, limit], read)?.collect())
        .map_err(unavailable)
}

/// How many wait, and how many were dropped.
pub(super) fn tally(connection: &Connection, receiver: &str) -> Result<(u64, u64), StoreError> {
    let waiting: i64 = connection
        .prepare_cached("SELECT count(*) FROM events WHERE receiver = ?1")
        .and_then(|mut select| select.query_row([receiver], |row| row.get(0)))
        .map_err(unavailable)?;
    let dropped = dropped(setting(connection, &note_of(&dropped_note(receiver)))?.as_deref());
    Ok((waiting.cast_unsigned(), dropped))
}
