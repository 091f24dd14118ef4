//! The outbox, in PostgreSQL.

use std::sync::Arc;

use tokio_postgres::Row;

use super::super::StoreError;
use super::super::rows::{News, kind_of, note_of};
use super::facts::Look;
use super::pipe::{Failed, Pipe, Statement, Value, get, values};
use super::{Shared, events, settings};
use crate::pipeline::ids::{Target, Timestamp, UserId};
use crate::pipeline::record::names::Names;
use crate::ports::BoxFuture;
use crate::ports::outbox::events::{EventSettled, Following, WaitingEvent};
use crate::ports::outbox::{Confirmed, Due, Local, Outbox, STUCK, Settled, Standing, Tally, ToldRow, Whom};

/// Behind the rows that are raised.
const RISES: &str = "ON CONFLICT (user_id) DO UPDATE
    SET version = followed.version + 1, round = excluded.round, at = excluded.at, cause = excluded.cause,
        login = excluded.login, open = true";

/// Records pending deliveries of a user; nothing if there are no receivers.
pub(super) fn tell_receivers(round: i64, number: i64, news: &News<'_>, now: Timestamp) -> Option<Statement> {
    let again = match news.rises {
        true => RISES,
        // Receivers that were added since do not know the user.
        false => {
            "ON CONFLICT (user_id) DO UPDATE SET round = excluded.round, open = true WHERE followed.round <> excluded.round"
        }
    };
    (round != 0).then(|| Statement {
        text: format!(
            "INSERT INTO loginsync.followed (user_id, version, round, at, cause, login, open)
             VALUES ($1, 1, $2, $3, $4, $5, true) {again}"
        )
        .into(),
        values: values![number, round, now.0, news.cause, news.login.map(str::to_owned)],
    })
}

/// Raises all who have a grant of a target, which is about to be called otherwise or to end.
pub(super) fn raise_holders(
    round: i64,
    target: &Target,
    names: &Names,
    cause: &'static str,
    now: Timestamp,
) -> Option<Statement> {
    let number = names.number(target).filter(|_| round != 0)?;
    Some(Statement {
        text: format!(
            "INSERT INTO loginsync.followed (user_id, version, round, at, cause, open)
             SELECT user_id, 1, $3, $4, $5, true FROM
             (SELECT DISTINCT user_id FROM loginsync.holdings WHERE kind = $1 AND target = $2 ORDER BY user_id) AS holders {RISES}"
        )
        .into(),
        values: values![kind_of(target), number, round, now.0, cause],
    })
}

/// Those who are open, each at every receiver, in an order in which no two transactions wait for each other.
const SPREAD: &str = "WITH opened AS (
        SELECT user_id, version FROM loginsync.followed WHERE open ORDER BY at LIMIT $3 FOR UPDATE SKIP LOCKED
    ), put AS (
        INSERT INTO loginsync.delivered AS d (receiver, user_id, wanted, confirmed, due, failures)
        SELECT receiver, user_id, version, 0, $2, 0 FROM opened CROSS JOIN unnest($1) AS receiver
        ON CONFLICT (receiver, user_id) DO UPDATE
        SET wanted = excluded.wanted,
            due = CASE WHEN d.confirmed >= d.wanted OR d.due = $4 THEN excluded.due ELSE d.due END
    ), forgotten AS (
        -- Of a user who is gone nothing is kept for receivers that are gone.
        DELETE FROM loginsync.delivered USING opened
        WHERE delivered.user_id = opened.user_id AND receiver <> ALL ($1)
          AND NOT EXISTS (SELECT 1 FROM loginsync.users WHERE id = opened.user_id)
    ), unknown AS (
        DELETE FROM loginsync.remote USING opened
        WHERE kind = 0 AND local = opened.user_id::text AND receiver <> ALL ($1)
          AND NOT EXISTS (SELECT 1 FROM loginsync.users WHERE id = opened.user_id)
    ), done AS (
        UPDATE loginsync.followed SET open = false FROM opened WHERE followed.user_id = opened.user_id RETURNING 1
    )
    SELECT count(*) FROM done";

fn due_row(row: &Row) -> Result<Due, Failed> {
    Ok(Due {
        number: get(row, 0)?,
        wanted: get(row, 1)?,
        confirmed: get(row, 2)?,
        state: get(row, 3)?,
        failures: u32::try_from(get::<i64>(row, 4)?).unwrap_or(u32::MAX),
        due: Timestamp(get(row, 5)?),
        fault: get(row, 6)?,
        raised_at: Timestamp(get(row, 7)?),
        cause: get(row, 8)?,
        login: get(row, 9)?,
        tried: get(row, 10)?,
        known: None,
    })
}

async fn due(look: &Look, receiver: &str, now: Timestamp, limit: i64) -> Result<Vec<Due>, Failed> {
    let rows = look
        .pipe
        .rows(
            "SELECT user_id, followed.version, confirmed, state, failures, due, fault, at, cause, followed.login, tried
             FROM loginsync.delivered JOIN loginsync.followed USING (user_id)
             WHERE receiver = $1 AND confirmed < wanted AND due <= $2 ORDER BY due, user_id LIMIT $3",
            &values![receiver, now.0, limit],
        )
        .await?;
    let mut found = rows.iter().map(due_row).collect::<Result<Vec<Due>, Failed>>()?;
    let numbers: Vec<i64> = found.iter().map(|due| due.number).collect();
    for known in look.known(&numbers).await? {
        if let Some(due) = found.iter_mut().find(|due| due.number == known.number) {
            due.known = Some(known);
        }
    }
    Ok(found)
}

const HURRY: &str = "UPDATE loginsync.delivered SET due = $3 WHERE receiver = $1 AND confirmed < wanted AND due > $3
    AND CASE WHEN $2 IS NULL THEN due <> $4 ELSE user_id = $2 END";

/// It may still know what was delivered.
const FORGET: &str = "UPDATE loginsync.delivered
    SET confirmed = 0, tried = coalesce(tried, state), state = NULL, failures = 0, fault = NULL
    WHERE receiver = $1 AND coalesce(user_id = $2, true) AND user_id IN (SELECT id FROM loginsync.users)";

const REMEMBER: &str = "INSERT INTO loginsync.remote AS r (receiver, kind, local, remote)
    SELECT $1::text, $2::bigint, $3::text, $4::text
    WHERE NOT EXISTS (SELECT 1 FROM loginsync.remote WHERE receiver = $1 AND kind = $2 AND remote = $4 AND local <> $3)
    ON CONFLICT (receiver, kind, local) DO UPDATE SET remote = excluded.remote";

async fn set_remote(
    pipe: &Pipe,
    receiver: &str,
    local: &Local,
    remote: Option<String>,
    takes: bool,
) -> Result<bool, Failed> {
    let (kind, name) = local.key();
    let Some(remote) = remote else {
        let gone = "DELETE FROM loginsync.remote WHERE receiver = $1 AND kind = $2 AND local = $3";
        return pipe.run(gone, &values![receiver, kind, name]).await.map(|_| true);
    };
    if takes {
        let other = "DELETE FROM loginsync.remote WHERE receiver = $1 AND kind = $2 AND local <> $3 AND remote = $4";
        pipe.run(other, &values![receiver, kind, name.clone(), remote.clone()]).await?;
    }
    pipe.run(REMEMBER, &values![receiver, kind, name, remote]).await.map(|noted| noted > 0)
}

async fn remotes(pipe: &Pipe, receiver: &str) -> Result<Vec<(Local, String)>, Failed> {
    let all = "SELECT kind, local, remote FROM loginsync.remote WHERE receiver = $1 ORDER BY kind, local";
    let mut found = Vec::new();
    for row in pipe.rows(all, &values![receiver]).await? {
        if let Some(local) = Local::read(get(&row, 0)?, &get::<String>(&row, 1)?) {
            found.push((local, get(&row, 2)?));
        }
    }
    Ok(found)
}

async fn settle(pipe: &Pipe, receiver: &str, number: i64, settled: Settled) -> Result<(), Failed> {
    match settled {
        Settled::Confirmed { version, state } => {
            let confirmed = "UPDATE loginsync.delivered SET confirmed = $3, state = $4, tried = NULL, failures = 0,
                             fault = NULL
                             WHERE receiver = $1 AND user_id = $2 AND confirmed <= $3";
            pipe.run(confirmed, &values![receiver, number, version, state]).await?;
        }
        Settled::Gone => {
            let gone = "DELETE FROM loginsync.delivered WHERE receiver = $1 AND user_id = $2";
            pipe.run(gone, &values![receiver, number]).await?;
            set_remote(pipe, receiver, &Local::User(number), None, false).await?;
            let forgotten = "DELETE FROM loginsync.followed WHERE user_id = $1 AND NOT open
                             AND NOT EXISTS (SELECT 1 FROM loginsync.delivered WHERE user_id = $1)
                             AND NOT EXISTS (SELECT 1 FROM loginsync.users WHERE id = $1)";
            pipe.run(forgotten, &values![number]).await?;
        }
        Settled::Failed { fault, due } => {
            let failed = "UPDATE loginsync.delivered SET failures = failures + 1, fault = $3, due = $4
                          WHERE receiver = $1 AND user_id = $2";
            pipe.run(failed, &values![receiver, number, fault, due.0]).await?;
        }
    }
    Ok(())
}

async fn standing(pipe: &Pipe, user: &UserId) -> Result<Standing, Failed> {
    let rows = pipe
        .rows(
            "SELECT coalesce(followed.version, 0), receiver, confirmed, state, tried FROM loginsync.users
             LEFT JOIN loginsync.followed ON followed.user_id = users.id
             LEFT JOIN loginsync.delivered ON delivered.user_id = users.id
             WHERE namespace = $1 AND subject = $2 ORDER BY receiver",
            &values![user.namespace.as_str(), user.subject.as_str()],
        )
        .await?;
    let mut standing = Standing::default();
    for row in &rows {
        standing.version = get(row, 0)?;
        if let Some(receiver) = get(row, 1)? {
            let confirmed = Confirmed { receiver, version: get(row, 2)?, state: get(row, 3)?, tried: get(row, 4)? };
            standing.receivers.push(confirmed);
        }
    }
    Ok(standing)
}

async fn tally(pipe: &Pipe, receiver: &str) -> Result<Tally, Failed> {
    let row = pipe
        .row(
            "SELECT count(*), count(*) FILTER (WHERE due = $2), min(at)
             FROM loginsync.delivered JOIN loginsync.followed USING (user_id) WHERE receiver = $1 AND confirmed < wanted",
            &values![receiver, STUCK.0],
        )
        .await?;
    let Some(row) = row else { return Ok(Tally::default()) };
    let count = |at: usize| get(&row, at).map(i64::cast_unsigned);
    let (events, dropped) = events::tally(pipe, receiver).await?;
    let oldest = get::<Option<i64>>(&row, 2)?.map(Timestamp);
    Ok(Tally { pending: count(0)?, stuck: count(1)?, oldest, events, dropped })
}

fn limit_of(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

impl Shared {
    /// One statement by itself, on a connection that is free again behind it.
    fn alone<T, F, W>(&self, work: W) -> BoxFuture<'static, Result<T, StoreError>>
    where
        T: Send + 'static,
        F: Future<Output = Result<(T, Pipe), Failed>> + Send + 'static,
        W: FnOnce(Pipe) -> F + Send + 'static,
    {
        self.run(move |store| async move {
            let (told, pipe) = work(store.pipe().await?).await?;
            pipe.finish();
            Ok(told)
        })
    }
}

impl Outbox for Shared {
    fn follow(&self, following: Following) {
        self.0.following.store(Arc::new(following));
    }

    fn raise(&self, whom: Whom, cause: &'static str, now: Timestamp) -> BoxFuture<'_, Result<u64, StoreError>> {
        let round = self.0.round();
        self.run(move |store| async move {
            let pipe = store.pipe().await?;
            let raised = match whom {
                Whom::Holders(target) => {
                    let generation = pipe.number("SELECT generation FROM loginsync.rules", &[]).await?;
                    let live = store.live_of(&pipe, generation).await?;
                    match raise_holders(round, &target, &live.1.names, cause, now) {
                        Some(Statement { text, values }) => pipe.run(&text, &values).await?,
                        None => 0,
                    }
                }
                Whom::Everyone | Whom::User(_) => {
                    let (condition, mut key): (_, Vec<Value>) = match &whom {
                        Whom::User(user) => (
                            "WHERE namespace = $4 AND subject = $5",
                            values![user.namespace.as_str(), user.subject.as_str()],
                        ),
                        _ => ("", Vec::new()),
                    };
                    let mut values = values![round, now.0, cause];
                    values.append(&mut key);
                    let text = format!(
                        "INSERT INTO loginsync.followed (user_id, version, round, at, cause, open)
                         SELECT id, 1, $1, $2, $3, true FROM loginsync.users {condition} ORDER BY id {RISES}"
                    );
                    pipe.run(&text, &values).await?
                }
            };
            pipe.finish();
            Ok(raised)
        })
    }

    fn spread(&self, receivers: Vec<String>, now: Timestamp, limit: usize) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.alone(move |pipe| async move {
            let values =
                vec![Value::Texts(receivers), Value::from(now.0), Value::from(limit_of(limit)), Value::from(STUCK.0)];
            Ok((pipe.number(SPREAD, &values).await?.cast_unsigned(), pipe))
        })
    }

    fn due(&self, receiver: String, now: Timestamp, limit: usize) -> BoxFuture<'_, Result<Vec<Due>, StoreError>> {
        self.look(move |look| async move { Ok((due(&look, &receiver, now, limit_of(limit)).await?, look)) })
    }

    fn attempt(&self, receiver: String, number: i64, tried: String) -> BoxFuture<'_, Result<(), StoreError>> {
        self.alone(move |pipe| async move {
            let noted = "UPDATE loginsync.delivered SET tried = $3 WHERE receiver = $1 AND user_id = $2";
            pipe.run(noted, &values![receiver, number, tried]).await?;
            Ok(((), pipe))
        })
    }

    fn settle(&self, receiver: String, number: i64, settled: Settled) -> BoxFuture<'_, Result<(), StoreError>> {
        self.alone(move |pipe| async move { Ok((settle(&pipe, &receiver, number, settled).await?, pipe)) })
    }

    fn hurry(&self, receiver: String, number: Option<i64>, now: Timestamp) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.alone(move |pipe| async move {
            if number.is_none() {
                let hurried = "UPDATE loginsync.events SET due = $2 WHERE receiver = $1 AND due > $2";
                pipe.run(hurried, &values![receiver.as_str(), now.0]).await?;
            }
            Ok((pipe.run(HURRY, &values![receiver, number, now.0, STUCK.0]).await?, pipe))
        })
    }

    fn forget(&self, receiver: String, number: Option<i64>) -> BoxFuture<'_, Result<(), StoreError>> {
        self.alone(move |pipe| async move {
            pipe.run(FORGET, &values![receiver, number]).await?;
            Ok(((), pipe))
        })
    }

    fn events(
        &self,
        receiver: String,
        now: Timestamp,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<WaitingEvent>, StoreError>> {
        self.alone(
            move |pipe| async move { Ok((events::waiting(&pipe, &receiver, now, limit_of(limit)).await?, pipe)) },
        )
    }

    fn settle_event(
        &self,
        receiver: String,
        id: String,
        settled: EventSettled,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        self.alone(move |pipe| async move { Ok((events::settle(&pipe, &receiver, &id, settled).await?, pipe)) })
    }

    fn trim_events(
        &self,
        receivers: Vec<String>,
        most: usize,
    ) -> BoxFuture<'_, Result<Vec<(String, u64)>, StoreError>> {
        self.alone(move |pipe| async move { Ok((events::trim(&pipe, receivers, limit_of(most)).await?, pipe)) })
    }

    fn standing(&self, user: UserId) -> BoxFuture<'_, Result<Standing, StoreError>> {
        self.alone(move |pipe| async move { Ok((standing(&pipe, &user).await?, pipe)) })
    }

    fn tally(&self, receiver: String) -> BoxFuture<'_, Result<Tally, StoreError>> {
        self.alone(move |pipe| async move { Ok((tally(&pipe, &receiver).await?, pipe)) })
    }

    fn remote(&self, receiver: String, local: Local) -> BoxFuture<'_, Result<Option<String>, StoreError>> {
        self.alone(move |pipe| async move {
            let (kind, name) = local.key();
            let known = "SELECT remote FROM loginsync.remote WHERE receiver = $1 AND kind = $2 AND local = $3";
            let row = pipe.row(known, &values![receiver, kind, name]).await?;
            Ok((row.map(|row| get(&row, 0)).transpose()?, pipe))
        })
    }

    fn remotes(&self, receiver: String) -> BoxFuture<'_, Result<Vec<(Local, String)>, StoreError>> {
        self.alone(move |pipe| async move { Ok((remotes(&pipe, &receiver).await?, pipe)) })
    }

    fn told(&self, receiver: String) -> BoxFuture<'_, Result<Vec<ToldRow>, StoreError>> {
        self.alone(move |pipe| async move {
            let all = "SELECT user_id, state, tried FROM loginsync.delivered WHERE receiver = $1 ORDER BY user_id";
            let rows = pipe.rows(all, &values![receiver]).await?;
            let read = |row: &Row| Ok(ToldRow { number: get(row, 0)?, state: get(row, 1)?, tried: get(row, 2)? });
            Ok((rows.iter().map(read).collect::<Result<_, Failed>>()?, pipe))
        })
    }

    fn set_remote(
        &self,
        receiver: String,
        local: Local,
        remote: Option<String>,
        takes: bool,
    ) -> BoxFuture<'_, Result<bool, StoreError>> {
        self.alone(move |pipe| async move { Ok((set_remote(&pipe, &receiver, &local, remote, takes).await?, pipe)) })
    }

    fn note(&self, name: String) -> BoxFuture<'_, Result<Option<Vec<u8>>, StoreError>> {
        self.alone(move |pipe| async move {
            let kept = "SELECT value FROM loginsync.settings WHERE name = $1";
            let row = pipe.row(kept, &values![note_of(&name)]).await?;
            Ok((row.map(|row| get(&row, 0)).transpose()?, pipe))
        })
    }

    fn set_note(&self, name: String, value: Vec<u8>) -> BoxFuture<'_, Result<(), StoreError>> {
        self.alone(move |pipe| async move {
            let Statement { text, values } = settings::set(&note_of(&name), value);
            pipe.run(&text, &values).await?;
            Ok(((), pipe))
        })
    }
}
