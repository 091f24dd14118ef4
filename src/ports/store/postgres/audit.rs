//! The audit chain in PostgreSQL. A login adds its row, with a MAC of its own, and no login waits for another. Seals are given a
//! moment later, by one transaction at a time, in an order that nothing can slip behind: by the number of the transaction that wrote
//! a row, and never past one that still runs.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio_postgres::Row;

use super::super::chain::{
    ACCEPTED, Accepted, CURRENT, Content, FIRST, Last, Sealer, Stored, Walk, conceal, hexadecimal,
};
use super::super::{AuditRow, Broken, ChainReport, StoreError};
use super::pipe::{Failed, Pipe, Statement, Value, get, values};
use super::{PgStore, locks};
use crate::pipeline::ids::{Timestamp, UserId};

/// Rows that one transaction seals.
pub(super) const BATCH: i64 = 1000;
/// For a statement that reads the whole audit.
const LONGEST: Duration = Duration::from_secs(600);
/// Between two looks at whether what ran meanwhile has ended.
const PAUSE: Duration = Duration::from_millis(5);

/// A row to add.
#[derive(Debug)]
pub(super) struct NewRow {
    pub at: Timestamp,
    pub event: String,
    pub detail: String,
    /// The id of a login in the log.
    pub login: Option<String>,
    pub user: Option<i64>,
    /// The user's personal fields: their key, and an e-mail address.
    pub person: Option<(UserId, Option<String>)>,
}

pub(super) fn append(sealer: &Sealer, rows: &[NewRow]) -> Result<Vec<Statement>, StoreError> {
    rows.iter().map(|row| added(sealer, row)).collect()
}

fn added(sealer: &Sealer, row: &NewRow) -> Result<Statement, StoreError> {
    let NewRow { at, event, detail, login, user, person } = row;
    let person = person.as_ref().map(|(user, email)| conceal(user, email.as_deref())).transpose()?;
    let hash = person.as_ref().map(|person| person.hash.clone());
    let key = sealer.key_id().map(<[u8]>::to_vec);
    let content = Content { at: at.0, event, detail, login: login.as_deref(), user: *user, person: hash.as_deref() };
    let mac = sealer.mac(key.is_some(), &content);
    let mut values = values![at.0, event.clone(), detail.clone(), hash, *user, login.clone(), mac, key];
    const ROW: &str = "INSERT INTO loginsync.audit (at, event, detail, person, user_id, login, mac, key)
                       VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    Ok(match person {
        None => Statement { text: ROW.into(), values },
        Some(person) => {
            values.extend(values![person.salt.to_vec(), person.fields]);
            let text = format!(
                "WITH added AS ({ROW} RETURNING id, user_id)
                 INSERT INTO loginsync.audit_people (audit_id, user_id, salt, fields) SELECT id, user_id, $9, $10 FROM added"
            );
            Statement { text: text.into(), values }
        }
    })
}

// ------------------------------------------------------------------------------------------------------------- sealing

/// Seals what may be sealed now. Returns how many rows those were; a full batch where there may be more.
pub(super) async fn seal(store: &PgStore) -> Result<u64, Failed> {
    let pipe = store.pipe().await?;
    let mut statements = store.begin("BEGIN");
    statements.push(Statement { text: "SELECT pg_advisory_xact_lock($1)".into(), values: values![locks::SEALS] });
    pipe.all(&statements).await?;
    let last = last(&pipe).await?;
    let after = pipe.row("SELECT xid::text FROM loginsync.seals ORDER BY sequence DESC LIMIT 1", &[]).await?;
    let after: String = after.map_or(Ok(String::from("0")), |row| get(&row, 0))?;
    // Rows of one transaction are sealed together or in the order of their numbers; those that have a seal are left out. A bare
    // `xid` would name the text of the result, and 1000 comes before 999 there.
    let rows = pipe
        .rows(
            "SELECT id, xid::text, mac, key FROM loginsync.audit
             WHERE xid >= $1::text::xid8 AND xid < pg_snapshot_xmin(pg_current_snapshot())
               AND NOT EXISTS (SELECT 1 FROM loginsync.seals WHERE audit_id = audit.id)
             ORDER BY audit.xid, audit.id LIMIT $2",
            &values![after, BATCH],
        )
        .await?;
    let mut before = last;
    let (mut places, mut audited, mut xids, mut seals) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for row in &rows {
        if let Some(last) = &before {
            last.check_key(&store.sealer)?;
        }
        let (sequence, seal) = before.as_ref().map_or((1, [].as_slice()), |last| (last.sequence + 1, &last.seal));
        let key: Option<Vec<u8>> = get(row, 3)?;
        let seal = store.sealer.link(key.is_some(), sequence, seal, get(row, 2)?);
        places.push(Some(sequence));
        audited.push(Some(get::<i64>(row, 0)?));
        xids.push(get::<String>(row, 1)?);
        seals.push(seal.clone());
        before = Some(Last { sequence, seal, keyed: key.is_some(), key });
    }
    // One statement for all: a thousand would not end within the time that a transaction has on a busy machine.
    let sealed = [
        Statement {
            text: "INSERT INTO loginsync.seals (sequence, audit_id, xid, seal)
                   SELECT sequence, audit_id, xid::xid8, seal
                   FROM unnest($1, $2, $3, $4) AS given (sequence, audit_id, xid, seal)"
                .into(),
            values: vec![Value::Ints(places), Value::Ints(audited), Value::Texts(xids), Value::Byteses(seals)],
        },
        Statement { text: "COMMIT".into(), values: Vec::new() },
    ];
    pipe.all(&sealed).await?;
    pipe.finish();
    Ok(rows.len() as u64)
}

/// Seals all rows that are there now, and waits for those that are being written meanwhile.
async fn seal_all(store: &PgStore) -> Result<(), Failed> {
    let pipe = store.pipe().await?;
    let newest = pipe.number("SELECT coalesce(max(id), 0) FROM loginsync.audit", &[]).await?;
    pipe.finish();
    let began = std::time::Instant::now();
    loop {
        seal(store).await?;
        let pipe = store.pipe().await?;
        let open = "SELECT count(*) FROM loginsync.audit
                    WHERE id <= $1 AND NOT EXISTS (SELECT 1 FROM loginsync.seals WHERE audit_id = audit.id)
                      AND xid >= coalesce((SELECT xid FROM loginsync.seals ORDER BY sequence DESC LIMIT 1), '0'::xid8)";
        let open = pipe.number(open, &values![newest]).await?;
        pipe.finish();
        // Another transaction in the cluster may run for long: report what is sealed now, and the rest later.
        if open == 0 || began.elapsed() > store.timeout / 2 {
            return Ok(());
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The same, and all of it.
pub(super) async fn seal_everything(store: &PgStore) -> Result<(), Failed> {
    seal_all(store).await?;
    let pipe = store.pipe().await?;
    let open = "SELECT count(*) FROM loginsync.audit
                WHERE NOT EXISTS (SELECT 1 FROM loginsync.seals WHERE audit_id = audit.id)";
    let open = pipe.number(open, &[]).await?;
    pipe.finish();
    match open {
        0 => Ok(()),
        open => Err(Failed::Store(StoreError::Unavailable(format!(
            "{open} rows of the audit cannot be sealed while another transaction of this server runs: end it, and try again"
        )))),
    }
}

async fn last(pipe: &Pipe) -> Result<Option<Last>, Failed> {
    let row = pipe
        .row(
            "SELECT sequence, seal, key, coalesce(first_keyed, key IS NOT NULL) FROM loginsync.seals JOIN loginsync.audit ON audit.id = audit_id
             ORDER BY sequence DESC LIMIT 1",
            &[],
        )
        .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Last { sequence: get(&row, 0)?, seal: get(&row, 1)?, keyed: get(&row, 3)?, key: get(&row, 2)? }))
}

/// Whether rows can be written with this key: what a start should know before the first login does.
pub(super) async fn check_key(pipe: &Pipe, sealer: &Sealer) -> Result<(), Failed> {
    // Of rows without a seal, too.
    const NEWEST: &str =
        "SELECT key, coalesce(first_keyed, key IS NOT NULL) FROM loginsync.audit ORDER BY id DESC LIMIT 1";
    let Some(row) = pipe.row(NEWEST, &[]).await? else { return Ok(()) };
    Ok(Last { sequence: 0, seal: Vec::new(), keyed: get(&row, 1)?, key: get(&row, 0)? }.check_key(sealer)?)
}

// -------------------------------------------------------------------------------------------------------------- looking

const ROW: &str = "SELECT sequence, at, event, detail, fields, seal FROM loginsync.seals
                   JOIN loginsync.audit ON audit.id = seals.audit_id
                   LEFT JOIN loginsync.audit_people ON audit_people.audit_id = audit.id";

pub(super) async fn head(store: &PgStore) -> Result<Option<(i64, String)>, Failed> {
    seal_all(store).await?;
    let pipe = store.pipe().await?;
    let last = last(&pipe).await?;
    pipe.finish();
    Ok(last.map(|last| (last.sequence, hexadecimal(&last.seal))))
}

pub(super) async fn rows(store: &PgStore, after: i64, limit: usize) -> Result<Vec<AuditRow>, Failed> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    select(store, &format!("{ROW} WHERE sequence > $1 ORDER BY sequence LIMIT $2"), values![after, limit]).await
}

pub(super) async fn about(store: &PgStore, number: i64) -> Result<Vec<AuditRow>, Failed> {
    select(store, &format!("{ROW} WHERE audit.user_id = $1 ORDER BY sequence"), values![number]).await
}

pub(super) async fn latest_about(store: &PgStore, number: i64, limit: usize) -> Result<Vec<AuditRow>, Failed> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let text = format!("{ROW} WHERE audit.user_id = $1 ORDER BY sequence DESC LIMIT $2");
    select(store, &text, values![number, limit]).await
}

pub(super) async fn of_login(store: &PgStore, login: &str) -> Result<Option<AuditRow>, Failed> {
    let text = format!("{ROW} WHERE login = $1 ORDER BY sequence DESC LIMIT 1");
    if let Some(row) = select(store, &text, values![login]).await?.pop() {
        return Ok(Some(row));
    }
    // A row of the first format, whose detail begins with the id.
    let beginning = format!("{{\"login\":{},", serde_json::Value::from(login));
    let text =
        format!("{ROW} WHERE first_keyed IS NOT NULL AND starts_with(detail, $1) ORDER BY sequence DESC LIMIT 1");
    Ok(select(store, &text, values![beginning]).await?.pop())
}

async fn select(store: &PgStore, text: &str, values: Vec<Value>) -> Result<Vec<AuditRow>, Failed> {
    seal_all(store).await?;
    let pipe = store.pipe().await?;
    let rows = pipe.rows(text, &values).await?;
    pipe.finish();
    rows.iter().map(read_row).collect()
}

fn read_row(row: &Row) -> Result<AuditRow, Failed> {
    let parse = |text: String| serde_json::from_str(&text).unwrap_or(serde_json::Value::String(text));
    Ok(AuditRow {
        sequence: get(row, 0)?,
        at: Timestamp(get(row, 1)?).to_string(),
        event: get(row, 2)?,
        detail: parse(get(row, 3)?),
        person: get::<Option<String>>(row, 4)?.map(parse),
        seal: hexadecimal(get(row, 5)?),
    })
}

/// What a walk reads of a row, after its place and its seal.
const WALKED: &str = "at, event, detail, person, audit.user_id, login, mac, key, salt, fields, first_keyed";

/// Walks the whole chain, and what waits for its seal; stops at the first row that does not fit. A row that should have a seal and has
/// none is a fault.
pub(super) async fn verify(store: &PgStore, walked: &AtomicU64) -> Result<ChainReport, Failed> {
    seal_all(store).await?;
    let look = store.view_within(LONGEST).await?;
    let mut walk = Walk::new(&store.sealer, walked);
    let mut after = 0_i64;
    let sealed = format!(
        "SELECT sequence, seal, {WALKED} FROM loginsync.seals LEFT JOIN loginsync.audit ON audit.id = seals.audit_id
         LEFT JOIN loginsync.audit_people ON audit_people.audit_id = audit.id
         WHERE sequence > $1 ORDER BY sequence LIMIT $2"
    );
    loop {
        let rows = look.pipe.rows(&sealed, &values![after, BATCH]).await?;
        if rows.is_empty() {
            break;
        }
        for row in &rows {
            after = get(row, 0)?;
            // A seal without its row: that was removed.
            let Ok(row) = stored(row) else {
                return report(look, walk.broken_at_next("was removed, though its seal is there")).await;
            };
            if let Err(fault) = walk.step(&row) {
                return report(look, walk.report(Some(fault))).await;
            }
        }
    }
    let late = look
        .pipe
        .number(
            "SELECT count(*) FROM loginsync.audit
             WHERE NOT EXISTS (SELECT 1 FROM loginsync.seals WHERE audit_id = audit.id)
               AND xid < coalesce((SELECT xid FROM loginsync.seals ORDER BY sequence DESC LIMIT 1), '0'::xid8)",
            &[],
        )
        .await?;
    if late > 0 {
        return report(look, walk.broken_at_next("is followed by rows that were put in without a seal")).await;
    }
    if let Err(fault) = walk_unsealed(&look, &mut walk, after).await? {
        return report(look, walk.report(Some(fault))).await;
    }
    let users: BTreeSet<i64> = look.pipe.numbers("SELECT id FROM loginsync.users", &[]).await?.into_iter().collect();
    let fault = walk.end(&users);
    report(look, walk.report(fault)).await
}

/// While another transaction of the server runs for long, nothing that was written since has a seal, and users may be there whom
/// such rows alone tell of.
async fn walk_unsealed(
    look: &super::facts::Look,
    walk: &mut Walk<'_>,
    sealed: i64,
) -> Result<Result<(), Broken>, Failed> {
    let text = format!(
        "SELECT $1 + row_number() OVER (ORDER BY audit.xid, audit.id), ''::bytea, {WALKED}, audit.xid::text, audit.id
         FROM loginsync.audit LEFT JOIN loginsync.audit_people ON audit_people.audit_id = audit.id
         WHERE (audit.xid, audit.id) > ($2::text::xid8, $3)
           AND NOT EXISTS (SELECT 1 FROM loginsync.seals WHERE seals.audit_id = audit.id)
         ORDER BY audit.xid, audit.id LIMIT $4"
    );
    let (mut place, mut xid, mut id) = (sealed, String::from("0"), 0_i64);
    loop {
        let rows = look.pipe.rows(&text, &values![place, xid, id, BATCH]).await?;
        let Some(last) = rows.last() else { return Ok(Ok(())) };
        (place, xid, id) = (get(last, 0)?, get(last, 13)?, get(last, 14)?);
        for row in &rows {
            if let Err(fault) = walk.unsealed(&stored(row)?) {
                return Ok(Err(fault));
            }
        }
    }
}

async fn report(look: super::facts::Look, report: ChainReport) -> Result<ChainReport, Failed> {
    look.pipe.run("COMMIT", &[]).await?;
    look.pipe.finish();
    Ok(report)
}

fn stored(row: &Row) -> Result<Stored, Failed> {
    let (key, first_keyed): (Option<Vec<u8>>, Option<bool>) = (get(row, 9)?, get(row, 12)?);
    Ok(Stored {
        sequence: get(row, 0)?,
        seal: get(row, 1)?,
        at: get(row, 2)?,
        event: get(row, 3)?,
        detail: get(row, 4)?,
        person: get(row, 5)?,
        keyed: first_keyed.unwrap_or(key.is_some()),
        user: get(row, 6)?,
        salt: get(row, 10)?,
        fields: get(row, 11)?,
        format: if first_keyed.is_some() { FIRST } else { CURRENT },
        login: get(row, 7)?,
        mac: get(row, 8)?,
        key,
    })
}

/// Seals, with the key, how many rows came before the first that it seals, and how they end.
pub(super) async fn accept_unkeyed(store: &PgStore, by: &str, at: Timestamp) -> Result<u64, Failed> {
    let invalid = |why: &str| Err(Failed::Store(StoreError::Invalid(why.into())));
    if store.sealer.key_id().is_none() {
        return invalid("there is no audit key: set `audit.key_file` or `audit.key_env` first");
    }
    seal_all(store).await?;
    let pipe = store.pipe().await?;
    let found = pipe
        .row(
            "SELECT sequence, seal FROM loginsync.seals
             WHERE sequence < coalesce((SELECT min(sequence) FROM loginsync.seals JOIN loginsync.audit ON audit.id = audit_id
                                        WHERE coalesce(first_keyed, key IS NOT NULL)), 9223372036854775807)
             ORDER BY sequence DESC LIMIT 1",
            &[],
        )
        .await?;
    pipe.finish();
    let Some(row) = found else {
        return invalid("every row is sealed with the key: there is nothing to accept");
    };
    let rows: i64 = get(&row, 0)?;
    let accepted = Accepted { by: by.into(), rows, head: hexadecimal(get(&row, 1)?) };
    let detail = serde_json::to_string(&accepted).map_err(|error| StoreError::Invalid(error.to_string()))?;
    let row = NewRow { at, event: ACCEPTED.into(), detail, login: None, user: None, person: None };
    store.write(append(&store.sealer, &[row])?).await?;
    Ok(rows.unsigned_abs())
}

/// Erased fields are taken out of the files as well as the server can do that: its old versions of a row go.
pub(super) async fn settle(store: &PgStore) -> Result<(), Failed> {
    seal_all(store).await?;
    let pipe = store.pipe().await?;
    pipe.run("VACUUM loginsync.audit_people", &[]).await?;
    pipe.finish();
    Ok(())
}
