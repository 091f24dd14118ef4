//! Whether what users are found by equals their records.

use std::collections::{BTreeMap, BTreeSet};

use super::super::Known;
use super::super::rows::{self, Key, holdings, kind_of, target_of};
use super::PgStore;
use super::facts::Look;
use super::pipe::{Failed, Statement, Value, get, values};
use super::records::{self, COLUMNS};

/// Users in one step.
const PAGE: i64 = 500;
/// Maximum number of faults in a report; the others are counted.
const MOST_TOLD: usize = 100;

/// Compares, and makes it the same where `repair` is set: the records are right. A repair locks the users of its step.
pub(super) async fn check(store: &PgStore, repair: bool) -> Result<Vec<String>, Failed> {
    let (mut faults, mut untold, mut after) = (Vec::new(), 0_usize, 0_i64);
    loop {
        let pipe = store.pipe().await?;
        let how = if repair { "BEGIN" } else { "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY" };
        pipe.all(&store.begin(how)).await?;
        if repair {
            let lock = "SELECT id FROM loginsync.users WHERE id > $1 ORDER BY id LIMIT $2 FOR UPDATE";
            pipe.rows(lock, &values![after, PAGE]).await?;
        }
        let live = std::sync::Arc::new(records::live(&pipe, store.reads).await?);
        let look = Look { pipe, live };
        let text = format!(
            "SELECT {COLUMNS}, disabled, last_login_at FROM loginsync.users WHERE id > $1 ORDER BY id LIMIT $2"
        );
        let mut page = Vec::new();
        for row in look.pipe.rows(&text, &values![after, PAGE]).await? {
            let columns: (bool, Option<i64>) = (get(&row, 10)?, get(&row, 11)?);
            page.push((records::read(&row, 0, &look.live.1)?, columns));
        }
        let Some(last) = page.last().map(|(known, _)| known.number) else {
            look.pipe.run("COMMIT", &[]).await?;
            look.pipe.finish();
            break;
        };
        let mut repairs = Vec::new();
        let mut tell = |fault: String| match faults.len() < MOST_TOLD {
            true => faults.push(fault),
            false => untold += 1,
        };
        let (held, denied) = (held(&look, after, last).await?, denied(&look, after, last).await?);
        for (known, columns) in &page {
            compare(
                &look,
                known,
                *columns,
                held.get(&known.number),
                denied.get(&known.number),
                &mut tell,
                &mut repairs,
            )?;
        }
        if repair {
            look.pipe.all(&repairs).await?;
        }
        look.pipe.run("COMMIT", &[]).await?;
        look.pipe.finish();
        after = last;
    }
    if untold > 0 {
        faults.push(format!("and {untold} more"));
    }
    Ok(faults)
}

type Held = BTreeMap<i64, BTreeMap<Key, Option<i64>>>;
type Denied = BTreeMap<i64, BTreeSet<(i64, String)>>;

async fn held(look: &Look, after: i64, last: i64) -> Result<Held, Failed> {
    let of = "SELECT user_id, kind, target, provider, mapping, at FROM loginsync.holdings
              WHERE user_id > $1 AND user_id <= $2";
    let mut held = Held::new();
    for row in look.pipe.rows(of, &values![after, last]).await? {
        let key = Key { kind: get(&row, 1)?, target: get(&row, 2)?, provider: get(&row, 3)?, mapping: get(&row, 4)? };
        held.entry(get(&row, 0)?).or_default().insert(key, get(&row, 5)?);
    }
    Ok(held)
}

async fn denied(look: &Look, after: i64, last: i64) -> Result<Denied, Failed> {
    let of = "SELECT user_id, kind, name FROM loginsync.denied WHERE user_id > $1 AND user_id <= $2";
    let mut denied = Denied::new();
    for row in look.pipe.rows(of, &values![after, last]).await? {
        denied.entry(get(&row, 0)?).or_default().insert((get(&row, 1)?, get(&row, 2)?));
    }
    Ok(denied)
}

fn compare(
    look: &Look,
    Known { number, user, record }: &Known,
    columns: (bool, Option<i64>),
    held: Option<&BTreeMap<Key, Option<i64>>>,
    denied: Option<&BTreeSet<(i64, String)>>,
    tell: &mut impl FnMut(String),
    repairs: &mut Vec<Statement>,
) -> Result<(), Failed> {
    let (none, no_denies) = (BTreeMap::new(), BTreeSet::new());
    let (held, denied) = (held.unwrap_or(&none), denied.unwrap_or(&no_denies));
    let expected = holdings(record, &look.live.1.names);
    for (key, at) in expected.iter().filter(|(key, at)| held.get(*key) != Some(*at)) {
        tell(format!("`holdings` lacks a row of `{user}`: {}", named(look, key)));
        repairs.push(records::put_holdings(*number, &[(key, *at)]));
    }
    for key in held.keys().filter(|key| !expected.contains_key(*key)) {
        tell(format!("`holdings` has a row of user {number} that the record lacks: {}", named(look, key)));
        repairs.push(records::remove_holdings(*number, &[key]));
    }
    let bound: BTreeSet<(i64, String)> =
        record.denies.keys().map(|target| (kind_of(target), target.name().to_owned())).collect();
    for (kind, name) in bound.difference(denied) {
        tell(format!("`denied` lacks a row of `{user}`: {}", target_of(*kind, name)?));
        repairs.push(records::put_denied(*number, *kind, name.clone()));
    }
    for (kind, name) in denied.difference(&bound) {
        tell(format!("`denied` has a row of user {number} that the record lacks: {}", target_of(*kind, name)?));
        repairs.push(Statement {
            text: "DELETE FROM loginsync.denied WHERE user_id = $1 AND kind = $2 AND name = $3".into(),
            values: values![*number, *kind, name.as_str()],
        });
    }
    let right = (record.disabled.is_some(), record.last_login().map(|at| at.0));
    if columns != right {
        tell(format!("`users` says of `{user}` what their record does not say: `disabled` or `last_login_at`"));
        repairs.push(Statement {
            text: "UPDATE loginsync.users SET disabled = $2, last_login_at = $3, version = version + 1 WHERE id = $1"
                .into(),
            values: vec![Value::from(*number), Value::from(right.0), Value::from(right.1)],
        });
    }
    Ok(())
}

fn named(look: &Look, Key { kind, target, provider, .. }: &Key) -> String {
    match *kind {
        rows::DISABLED => "a mapping disabled them".into(),
        rows::STOPPED => "the brake spared them".into(),
        _ => {
            let target = look.live.1.names.target(*target);
            let target = target.map_or_else(|| String::from("a group or role that is gone"), ToString::to_string);
            if provider.is_empty() { format!("{target} by hand") } else { format!("{target} through `{provider}`") }
        }
    }
}
