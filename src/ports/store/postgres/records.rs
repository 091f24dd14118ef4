//! Records in rows: read whole, and written as the difference between two.

use std::sync::Arc;

use tokio_postgres::Row;

use super::super::rows::{Key, Live, holdings, kind_of, target_of, user_of};
use super::super::{Known, StoreError, Work};
use super::pipe::{Failed, Pipe, Statement, Value, get, values};
use crate::pipeline::decision::restored;
use crate::pipeline::ids::{Target, Timestamp, UserId};
use crate::pipeline::record::Record;
use crate::pipeline::record::names::Names;
use crate::pipeline::record::text::{self, Unreadable, Versions};

/// What [`read`] reads, from its first column on.
pub(super) const COLUMNS: &str =
    "users.id, users.namespace, users.subject, email, display_name, created_at, logins, due, record, version";

/// A user as the rows say.
pub(super) fn read(row: &Row, from: usize, live: &Live) -> Result<Known, Failed> {
    let Live { names, versions, .. } = live;
    let user = user_of(get(row, from + 1)?, get(row, from + 2)?)?;
    let mut record = Record::new(Timestamp(get(row, from + 5)?));
    record.email = get(row, from + 3)?;
    record.display_name = get(row, from + 4)?;
    record.due = get::<Option<i64>>(row, from + 7)?.map(Timestamp);
    let unreadable = |error: Unreadable| StoreError::Invalid(format!("the record of `{user}` cannot be read: {error}"));
    text::read_logins(&mut record, get(row, from + 6)?, *versions).map_err(unreadable)?;
    if let Some(rarely) = get::<Option<&str>>(row, from + 8)? {
        text::read_rarely(&mut record, rarely, names, *versions).map_err(unreadable)?;
    }
    Ok(Known { number: get(row, from)?, user, record })
}

/// The name of a setting: the version in which records are written.
pub(super) const WRITTEN: &str = "records";

/// Names and open work, with the generation that they are of: one statement, so one moment. `reads`: the newest version of records that
/// this process reads.
pub(super) async fn live(pipe: &Pipe, reads: u32) -> Result<(i64, Live), Failed> {
    let rows = pipe
        .rows(
            "SELECT 0 AS what, generation AS number, 0::bigint AS kind, '' AS name, false AS gone FROM loginsync.rules
             UNION ALL SELECT 1, number, kind, name, gone FROM loginsync.targets
             UNION ALL SELECT 2, number, 0, item, false FROM loginsync.work
             UNION ALL SELECT 3, 0, (name = $2)::int, encode(value, 'hex'), false FROM loginsync.settings WHERE name IN ($1, $2)
             ORDER BY what, number",
            &values![restored::NAME, WRITTEN],
        )
        .await?;
    let (mut generation, mut live) = (0, Live::default());
    live.versions = Versions { written: 1, read: reads };
    for row in rows {
        let (number, name): (i64, &str) = (get(&row, 1)?, get(&row, 3)?);
        match get::<i32>(&row, 0)? {
            0 => generation = number,
            3 if get::<i64>(&row, 2)? == 1 => {
                let written = u32::from_str_radix(name, 16).unwrap_or(u32::MAX);
                live.versions.written = check_written(written, reads)?;
            }
            3 => live.restored = i64::from_str_radix(name, 16).ok().map(Timestamp),
            1 => live.names.insert(number, target_of(get(&row, 2)?, name)?, get(&row, 4)?),
            _ => {
                let unknown = || StoreError::Invalid(format!("row {number} of `work` is not what this version writes"));
                live.work.push((number, Arc::new(Work::read(name).ok_or_else(unknown)?)));
            }
        }
    }
    Ok((generation, live))
}

/// Refuses records of a later version than this process reads.
pub(super) fn check_written(written: u32, reads: u32) -> Result<u32, StoreError> {
    match written <= reads {
        true => Ok(written),
        false => Err(StoreError::Invalid(format!(
            "users are kept in version {written} of records, which all sidecars that served then could read; this loginsync reads \
             {reads}: use the version that they have, or a newer one"
        ))),
    }
}

/// Gives numbers to groups and roles, in a transaction of its own: a number that no user holds does no harm.
pub(super) fn number_all(targets: &[Target]) -> Vec<Statement> {
    // In one order, so that two of these never wait for each other.
    let mut keys: Vec<(i64, String)> =
        targets.iter().map(|target| (kind_of(target), target.name().to_owned())).collect();
    keys.sort();
    keys.dedup();
    let (kinds, names): (Vec<Option<i64>>, Vec<String>) =
        keys.into_iter().map(|(kind, name)| (Some(kind), name)).unzip();
    vec![
        Statement {
            text: "INSERT INTO loginsync.targets (kind, name) SELECT * FROM unnest($1, $2)
                   ON CONFLICT (kind, name) WHERE NOT gone DO NOTHING"
                .into(),
            values: vec![Value::Ints(kinds), Value::Texts(names)],
        },
        rise(),
    ]
}

/// Names or work have changed.
pub(super) fn rise() -> Statement {
    Statement { text: "UPDATE loginsync.rules SET generation = generation + 1".into(), values: Vec::new() }
}

/// A statement that fails unless the one before it within it found its row.
fn checked(modifies: &str) -> String {
    format!("WITH one AS ({modifies} RETURNING 1) SELECT 1 / (SELECT count(*) FROM one)")
}

/// What is written of a user: first the row itself, then what they are found by.
pub(super) struct Written {
    pub row: Vec<Statement>,
    pub found_by: Vec<Statement>,
}

/// The difference between two records. `before`: with the version of the row, `None` for a new user.
pub(super) fn write(
    number: i64,
    user: &UserId,
    before: Option<(i64, &Record)>,
    after: &Record,
    live: &Live,
) -> Result<Written, Failed> {
    let Live { names, versions, .. } = live;
    let nothing = Record::new(after.created_at);
    let is_same = before.is_some_and(|(_, before)| text::is_same(before, after));
    let unnumbered: Vec<Target> = after.numbered().filter(|target| names.number(target).is_none()).cloned().collect();
    if !is_same && !unnumbered.is_empty() {
        return Err(Failed::Unnumbered(unnumbered));
    }
    let mut written = Written { row: Vec::new(), found_by: Vec::new() };
    let disabled = after.disabled.is_some();
    let last = after.last_login().map(|at| at.0);
    let due = after.due.map(|at| at.0);
    let mut head = values![
        number,
        after.email.clone(),
        after.display_name.clone(),
        disabled,
        last,
        text::logins(after, *versions),
        due
    ];
    match before {
        None => {
            head.extend(values![
                user.namespace.as_str(),
                user.subject.as_str(),
                after.created_at.0,
                Some(text::rarely(after, names, *versions)).filter(|_| !text::is_same(&nothing, after)),
            ]);
            written.row.push(Statement {
                text: "INSERT INTO loginsync.users (id, email, display_name, disabled, last_login_at, logins, due,
                                                    namespace, subject, created_at, record)
                       VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"
                    .into(),
                values: head,
            });
        }
        Some((version, old)) => {
            let is_unchanged = is_same
                && old.email == after.email
                && old.display_name == after.display_name
                && old.logins == after.logins
                && (old.disabled.is_some(), old.due) == (disabled, after.due);
            if is_unchanged {
                return Ok(written);
            }
            head.extend(values![version]);
            let mut set = String::from(
                "UPDATE loginsync.users SET version = version + 1, email = $2, display_name = $3, disabled = $4,
                        last_login_at = $5, logins = $6, due = $7",
            );
            if !is_same {
                head.extend(values![text::rarely(after, names, *versions)]);
                set.push_str(", record = $9");
            }
            set.push_str(" WHERE id = $1 AND version = $8");
            written.row.push(Statement { text: checked(&set).into(), values: head });
        }
    }
    let old = before.map_or(&nothing, |(_, before)| before);
    if !is_same {
        written.found_by = difference(number, old, after, names);
    }
    if before.is_some() && old.disabled.is_none() && disabled {
        // A disabled user has no session, and being enabled again brings none back.
        written.found_by.push(Statement {
            text: "DELETE FROM loginsync.sessions WHERE user_id = $1".into(),
            values: values![number],
        });
    }
    Ok(written)
}

fn difference(number: i64, before: &Record, after: &Record, names: &Names) -> Vec<Statement> {
    let (was, is) = (holdings(before, names), holdings(after, names));
    let gone: Vec<&Key> = was.keys().filter(|key| !is.contains_key(*key)).collect();
    let new: Vec<(&Key, Option<i64>)> =
        is.iter().filter(|(key, at)| was.get(*key) != Some(*at)).map(|(key, at)| (key, *at)).collect();
    let mut statements = Vec::new();
    if !gone.is_empty() {
        statements.push(remove_holdings(number, &gone));
    }
    if !new.is_empty() {
        statements.push(put_holdings(number, &new));
    }
    let names_of = |one: &Record, other: &Record| {
        let only = one.denies.keys().filter(|target| !other.denies.contains_key(target));
        only.map(|target| (kind_of(target), target.name().to_owned())).collect::<Vec<_>>()
    };
    for (kind, name) in names_of(before, after) {
        statements.push(Statement {
            text: "DELETE FROM loginsync.denied WHERE user_id = $1 AND kind = $2 AND name = $3".into(),
            values: values![number, kind, name],
        });
    }
    for (kind, name) in names_of(after, before) {
        statements.push(put_denied(number, kind, name));
    }
    statements
}

pub(super) fn put_denied(number: i64, kind: i64, name: String) -> Statement {
    Statement {
        text: "INSERT INTO loginsync.denied (user_id, kind, name) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING".into(),
        values: values![number, kind, name],
    }
}

fn columns<'k>(number: i64, keys: impl Iterator<Item = &'k Key> + Clone) -> Vec<Value> {
    vec![
        Value::from(number),
        Value::Ints(keys.clone().map(|key| Some(key.kind)).collect()),
        Value::Ints(keys.clone().map(|key| Some(key.target)).collect()),
        Value::Texts(keys.clone().map(|key| key.provider.clone()).collect()),
        Value::Byteses(keys.map(|key| key.mapping.clone()).collect()),
    ]
}

pub(super) fn remove_holdings(number: i64, keys: &[&Key]) -> Statement {
    Statement {
        text: "DELETE FROM loginsync.holdings AS held
               USING unnest($2, $3, $4, $5) AS gone (kind, target, provider, mapping)
               WHERE held.user_id = $1 AND held.kind = gone.kind AND held.target = gone.target
                 AND held.provider = gone.provider AND held.mapping = gone.mapping"
            .into(),
        values: columns(number, keys.iter().copied()),
    }
}

pub(super) fn put_holdings(number: i64, rows: &[(&Key, Option<i64>)]) -> Statement {
    let mut values = columns(number, rows.iter().map(|(key, _)| *key));
    values.push(Value::Ints(rows.iter().map(|(_, at)| *at).collect()));
    Statement {
        text: "INSERT INTO loginsync.holdings (user_id, kind, target, provider, mapping, at)
               SELECT $1, * FROM unnest($2, $3, $4, $5, $6)
               ON CONFLICT (kind, target, provider, mapping, user_id) DO UPDATE SET at = excluded.at"
            .into(),
        values,
    }
}
