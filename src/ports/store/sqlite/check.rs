//! Whether what users are found by equals their records.

use std::collections::BTreeSet;

use super::super::rows::{self, Key, holdings};
use super::super::{Known, StoreError};
use super::records;
use super::{Session, kind_of, target_of, unavailable};
use crate::pipeline::ids::Target;
use crate::pipeline::record::Record;

/// Users in one step.
const PAGE: i64 = 1000;
/// Maximum number of faults in a report; the others are counted.
const MOST_TOLD: usize = 100;

/// The faults as text: only the first few are kept.
#[derive(Default)]
struct Faults {
    told: Vec<String>,
    untold: usize,
}

impl Faults {
    fn add(&mut self, fault: impl FnOnce() -> String) {
        match self.told.len() < MOST_TOLD {
            true => self.told.push(fault()),
            false => self.untold += 1,
        }
    }
}

/// Compares, and makes it the same where `repair` is set: the records are right.
pub(super) fn check(session: &mut Session<'_>, repair: bool) -> Result<Vec<String>, StoreError> {
    let mut faults = Faults::default();
    let mut after = 0;
    loop {
        let page = page(session, after)?;
        let Some(last) = page.last().map(|known| known.number) else { break };
        for known in &page {
            missing(session, known, repair, &mut faults)?;
        }
        after = last;
    }
    surplus(session, repair, &mut faults)?;
    if faults.untold > 0 {
        faults.told.push(format!("and {} more", faults.untold));
    }
    Ok(faults.told)
}

/// Records as they stand in the rows, not as they count: what was not swept yet is in both.
fn page(session: &Session<'_>, after: i64) -> Result<Vec<Known>, StoreError> {
    let live = super::super::rows::Live { names: session.state.live.names.clone(), ..Default::default() };
    records::find(session.connection, &live, "users.id > ?1 ORDER BY users.id LIMIT ?2", &[&after, &PAGE])
}

/// Rows that a record asks for.
fn missing(
    session: &mut Session<'_>,
    Known { number, user, record }: &Known,
    repair: bool,
    faults: &mut Faults,
) -> Result<(), StoreError> {
    for (key, at) in holdings(record, &session.state.live.names) {
        let Key { kind, target, provider, mapping } = &key;
        let found = session.number(
            "SELECT count(*) FROM holdings WHERE kind = ?1 AND target = ?2 AND provider = ?3 AND mapping = ?4
             AND user_id = ?5 AND at IS ?6",
            &[kind, target, provider, mapping, number, &at],
        )?;
        if found == 0 {
            faults.add(|| format!("`holdings` lacks a row of `{user}`: {}", named(session, &key)));
            if repair {
                session.put_holding(*number, &key, at)?;
            }
        }
    }
    if repair {
        record.holdings.keys().try_for_each(|grant| session.note_given(grant))?;
    }
    for target in record.denies.keys() {
        let found = session.number(
            "SELECT count(*) FROM denied WHERE kind = ?1 AND name = ?2 AND user_id = ?3",
            &[&kind_of(target), &target.name(), number],
        )?;
        if found == 0 {
            faults.add(|| format!("`denied` lacks a row of `{user}`: {target}"));
            if repair {
                session.put_denied(*number, target)?;
            }
        }
    }
    let columns = session.number(
        "SELECT count(*) FROM users WHERE id = ?1 AND disabled = ?2 AND last_login_at IS ?3",
        &[number, &record.disabled.is_some(), &record.last_login().map(|at| at.0)],
    )?;
    if columns == 0 {
        faults
            .add(|| format!("`users` says of `{user}` what their record does not say: `disabled` or `last_login_at`"));
        if repair {
            session.run(
                "UPDATE users SET disabled = ?2, last_login_at = ?3 WHERE id = ?1",
                &[number, &record.disabled.is_some(), &record.last_login().map(|at| at.0)],
            )?;
        }
    }
    Ok(())
}

/// Rows that no record asks for. The tables are in the order of what is held, so that users come in any order.
fn surplus(session: &mut Session<'_>, repair: bool, faults: &mut Faults) -> Result<(), StoreError> {
    let expected = session.number("SELECT count(*) FROM holdings", &[])?;
    let mut gone: Vec<(i64, Key)> = Vec::new();
    if expected > 0 {
        let live = super::super::rows::Live { names: session.state.live.names.clone(), ..Default::default() };
        let mut select = session
            .connection
            .prepare("SELECT user_id, kind, target, provider, mapping FROM holdings ORDER BY user_id")
            .map_err(unavailable)?;
        let mut rows = select.query([]).map_err(unavailable)?;
        let mut known: Option<(i64, BTreeSet<Key>)> = None;
        while let Some(row) = rows.next().map_err(unavailable)? {
            let number: i64 = row.get(0).map_err(unavailable)?;
            if known.as_ref().is_none_or(|(of, _)| *of != number) {
                let record = records::by_number(session.connection, &live, number)?.map(|known| known.record);
                let keys = record.map(|record| holdings(&record, &live.names).into_keys().collect());
                known = Some((number, keys.unwrap_or_default()));
            }
            let key = Key {
                kind: row.get(1).map_err(unavailable)?,
                target: row.get(2).map_err(unavailable)?,
                provider: row.get(3).map_err(unavailable)?,
                mapping: row.get(4).map_err(unavailable)?,
            };
            if known.as_ref().is_some_and(|(_, keys)| !keys.contains(&key)) {
                gone.push((number, key));
            }
        }
    }
    for (number, key) in &gone {
        faults.add(|| format!("`holdings` has a row of user {number} that the record lacks: {}", named(session, key)));
        if repair {
            session.remove_holding(*number, key)?;
        }
    }
    for (number, target) in surplus_denied(session)? {
        faults.add(|| format!("`denied` has a row of user {number} that the record lacks: {target}"));
        if repair {
            session.run(
                "DELETE FROM denied WHERE kind = ?1 AND name = ?2 AND user_id = ?3",
                &[&kind_of(&target), &target.name(), &number],
            )?;
        }
    }
    Ok(())
}

fn surplus_denied(session: &Session<'_>) -> Result<Vec<(i64, Target)>, StoreError> {
    let live = super::super::rows::Live { names: session.state.live.names.clone(), ..Default::default() };
    let mut select =
        session.connection.prepare("SELECT user_id, kind, name FROM denied ORDER BY user_id").map_err(unavailable)?;
    let mut rows = select.query([]).map_err(unavailable)?;
    let (mut surplus, mut known): (Vec<_>, Option<(i64, Option<Record>)>) = (Vec::new(), None);
    while let Some(row) = rows.next().map_err(unavailable)? {
        let number: i64 = row.get(0).map_err(unavailable)?;
        if known.as_ref().is_none_or(|(of, _)| *of != number) {
            let record = records::by_number(session.connection, &live, number)?.map(|known| known.record);
            known = Some((number, record));
        }
        let name: String = row.get(2).map_err(unavailable)?;
        let target = target_of(row.get(1).map_err(unavailable)?, &name)?;
        let is_denied = |record: &Record| record.denies.contains_key(&target);
        if !known.as_ref().and_then(|(_, record)| record.as_ref()).is_some_and(is_denied) {
            surplus.push((number, target));
        }
    }
    Ok(surplus)
}

fn named(session: &Session<'_>, Key { kind, target, provider, .. }: &Key) -> String {
    match kind {
        0 | 1 => {
            let target = session
                .state
                .live
                .names
                .target(*target)
                .map_or_else(|| format!("number {target}"), ToString::to_string);
            if provider.is_empty() { format!("{target} by hand") } else { format!("{target} through `{provider}`") }
        }
        &rows::DISABLED => "a mapping disabled them".into(),
        _ => "the brake spared them".into(),
    }
}
