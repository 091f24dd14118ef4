//! Pending events for receivers, in PostgreSQL.

use tokio_postgres::Row;

use super::super::rows::note_of;
use super::pipe::{Failed, Pipe, Statement, Value, get, values};
use crate::pipeline::ids::Timestamp;
use crate::ports::outbox::events::{EventSettled, NewEvent, WaitingEvent, dropped, dropped_note};

/// Records the events for receivers, if there are any.
pub(super) fn note(events: Vec<NewEvent>, now: Timestamp) -> Option<Statement> {
    if events.is_empty() {
        return None;
    }
    let (mut receivers, mut kinds, mut users, mut data) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for event in events {
        receivers.push(event.receiver);
        kinds.push(event.event.word().to_owned());
        users.push(event.user);
        data.push(event.data);
    }
    Some(Statement {
        text: "INSERT INTO loginsync.events (id, receiver, at, kind, user_id, data, due, failures)
               SELECT replace(gen_random_uuid()::text, '-', ''), receiver, $1, kind, user_id, data, $1, 0
               FROM unnest($2, $3, $4, $5) AS new (receiver, kind, user_id, data)"
            .into(),
        values: vec![
            Value::from(now.0),
            Value::Texts(receivers),
            Value::Texts(kinds),
            Value::Ints(users),
            Value::Texts(data),
        ],
    })
}

/// Behind what counts the rows that a receiver has lost, as `counted (name, number)`.
const COUNT: &str = "INSERT INTO loginsync.settings AS s (name, value)
    SELECT name, convert_to(number::text, 'UTF8') FROM counted WHERE number > 0
    ON CONFLICT (name) DO UPDATE
    SET value = convert_to((convert_from(s.value, 'UTF8')::bigint + convert_from(excluded.value, 'UTF8')::bigint)::text, 'UTF8')";

pub(super) async fn settle(pipe: &Pipe, receiver: &str, id: &str, settled: EventSettled) -> Result<(), Failed> {
    match settled {
        EventSettled::Taken => {
            pipe.run("DELETE FROM loginsync.events WHERE id = $1", &values![id]).await?;
        }
        EventSettled::Failed { fault, due } => {
            let failed = "UPDATE loginsync.events SET failures = failures + 1, fault = $2, due = $3 WHERE id = $1";
            pipe.run(failed, &values![id, fault, due.0]).await?;
        }
        EventSettled::Dropped => {
            let dropped = format!(
                "WITH gone AS (DELETE FROM loginsync.events WHERE id = $1 RETURNING 1),
                 counted AS (SELECT $2::text AS name, count(*) AS number FROM gone) {COUNT}"
            );
            pipe.run(&dropped, &values![id, note_of(&dropped_note(receiver))]).await?;
        }
    }
    Ok(())
}

/// The statement reads the queues once; most often it finds nothing to do.
pub(super) async fn trim(pipe: &Pipe, receivers: Vec<String>, most: i64) -> Result<Vec<(String, u64)>, Failed> {
    let prefix = note_of(&dropped_note(""));
    let trim = format!(
        "WITH unknown AS (DELETE FROM loginsync.events WHERE receiver <> ALL ($1)),
         placed AS (
             SELECT id, row_number() OVER (PARTITION BY receiver ORDER BY at DESC, id DESC) AS place
             FROM loginsync.events WHERE receiver = ANY ($1)
         ), gone AS (
             DELETE FROM loginsync.events USING placed WHERE events.id = placed.id AND place > $2 RETURNING receiver
         ), counted AS (
             SELECT $3::text || receiver AS name, count(*) AS number FROM gone GROUP BY receiver
         ), noted AS ({COUNT})
         SELECT name, number FROM counted ORDER BY name"
    );
    let values = [Value::Texts(receivers), Value::from(most), Value::from(prefix.as_str())];
    let mut all = Vec::new();
    for row in pipe.rows(&trim, &values).await? {
        let (name, number): (String, i64) = (get(&row, 0)?, get(&row, 1)?);
        let receiver = name.strip_prefix(&prefix).unwrap_or_default().to_owned();
        all.push((receiver, number.cast_unsigned()));
    }
    Ok(all)
}

fn waiting_row(row: &Row) -> Result<WaitingEvent, Failed> {
    Ok(WaitingEvent {
        id: get(row, 0)?,
        at: Timestamp(get(row, 1)?),
        event: get(row, 2)?,
        user: get(row, 3)?,
        data: get(row, 4)?,
        failures: u32::try_from(get::<i64>(row, 5)?).unwrap_or(u32::MAX),
    })
}

pub(super) async fn waiting(
    pipe: &Pipe,
    receiver: &str,
    now: Timestamp,
    limit: i64,
) -> Result<Vec<WaitingEvent>, Failed> {
    let waiting = "SELECT id, at, kind, user_id, data, failures FROM loginsync.events
        WHERE receiver = $1 AND due <= $2 ORDER BY due, at, id LIMIT $3";
    pipe.rows(waiting, &values![receiver, now.0, limit]).await?.iter().map(waiting_row).collect()
}

/// How many wait, and how many were dropped.
pub(super) async fn tally(pipe: &Pipe, receiver: &str) -> Result<(u64, u64), Failed> {
    let counts = "SELECT (SELECT count(*) FROM loginsync.events WHERE receiver = $1),
        (SELECT value FROM loginsync.settings WHERE name = $2)";
    let row = pipe.row(counts, &values![receiver, note_of(&dropped_note(receiver))]).await?;
    let Some(row) = row else { return Ok((0, 0)) };
    let kept: Option<Vec<u8>> = get(&row, 1)?;
    Ok((get::<i64>(&row, 0)?.cast_unsigned(), dropped(kept.as_deref())))
}
