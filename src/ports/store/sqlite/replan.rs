//! Planning without a login, from recorded claims: after a change of the rules, and when an operator releases a hold.

use std::collections::BTreeMap;

use rusqlite::params;

use super::super::{HoldFilter, HoldView, Replanned, StoreError};
use super::{Session, brake, decide, disabling, target_of, unavailable, user_of};
use crate::pipeline::decision::{self, Changes, Facts, Held, Kept, Needs};
use crate::pipeline::ids::{InvalidText, MappingId, ProviderName, Timestamp, UserId};
use crate::pipeline::mapping::RuleSet;

/// Users planned anew in one transaction, so that logins do not wait for all of them.
const MOST_AT_ONCE: usize = 100;

/// A user through a provider, with recorded claims.
struct Recorded {
    row: i64,
    user: UserId,
    provider: ProviderName,
    claims: String,
}

/// Plans the next users after a place anew. The place to go on from is in the answer; `None` when all are done.
pub(super) fn next(
    session: &mut Session<'_>,
    rules: &RuleSet,
    after: Option<&(i64, String)>,
    now: Timestamp,
) -> Result<Replanned, StoreError> {
    let (row, provider) = after.map_or((i64::MIN, ""), |(row, provider)| (*row, provider.as_str()));
    let batch = recorded_after(session, row, provider)?;
    let mut replanned = Replanned { next: None, changed: 0 };
    if batch.len() == MOST_AT_ONCE {
        replanned.next = batch.last().map(|last| (last.row, last.provider.to_string()));
    }
    for entry in &batch {
        let loaded = decide::load(session, &entry.user, None)?;
        let step = |kept: &_, facts: &_| decision::replan(kept, (&entry.provider, &entry.claims), rules, facts, now);
        let (changes, changed) = decide::decide(session.connection, &loaded, rules, now, step)?;
        decide::commit(session, &loaded, &changes, None, now)?;
        replanned.changed += u64::from(changed);
    }
    Ok(replanned)
}

fn recorded_after(session: &Session<'_>, row: i64, provider: &str) -> Result<Vec<Recorded>, StoreError> {
    let limit = i64::try_from(MOST_AT_ONCE).unwrap_or(i64::MAX);
    let mut select = session
        .connection
        .prepare_cached(
            "SELECT users.id, namespace, subject, recorded_claims.provider, claims
             FROM recorded_claims JOIN users ON users.id = recorded_claims.user_id
             WHERE (recorded_claims.user_id, recorded_claims.provider) > (?1, ?2)
             ORDER BY recorded_claims.user_id, recorded_claims.provider LIMIT ?3",
        )
        .map_err(unavailable)?;
    let mut rows = select.query(params![row, provider, limit]).map_err(unavailable)?;
    let mut all = Vec::new();
    while let Some(row) = rows.next().map_err(unavailable)? {
        all.push(read_recorded(row)?);
    }
    Ok(all)
}

fn read_recorded(row: &rusqlite::Row<'_>) -> Result<Recorded, StoreError> {
    let text = |at: usize| row.get::<_, String>(at).map_err(unavailable);
    Ok(Recorded {
        row: row.get(0).map_err(unavailable)?,
        user: user_of(&text(1)?, &text(2)?)?,
        provider: ProviderName::parse(&text(3)?).map_err(invalid)?,
        claims: text(4)?,
    })
}

fn invalid(error: InvalidText) -> StoreError {
    StoreError::Invalid(error.to_string())
}

/// What the brake holds, the oldest first.
pub(super) fn holds(
    connection: &rusqlite::Connection,
    filter: &HoldFilter,
    rules: &RuleSet,
) -> Result<Vec<HoldView>, StoreError> {
    let mut select = connection
        .prepare_cached(
            "SELECT namespace, subject, provider, kind, name, mapping, held_at
             FROM grants JOIN users ON users.id = grants.user_id WHERE held_at IS NOT NULL
             ORDER BY held_at, provider, kind, name, namespace, subject",
        )
        .map_err(unavailable)?;
    let mut rows = select.query([]).map_err(unavailable)?;
    let mut holds = Vec::new();
    while let Some(row) = rows.next().map_err(unavailable)? {
        let text = |at: usize| row.get::<_, String>(at).map_err(unavailable);
        let mapping = MappingId(row.get(5).map_err(unavailable)?);
        let hold = HoldView {
            user: user_of(&text(0)?, &text(1)?)?,
            provider: ProviderName::parse(&text(2)?).map_err(invalid)?,
            target: Some(target_of(row.get(3).map_err(unavailable)?, &text(4)?)?),
            mapping: rules.mapping(mapping).map_or_else(|| format!("removed mapping {mapping}"), |rule| rule.label()),
            since: Timestamp(row.get(6).map_err(unavailable)?),
        };
        holds.push(hold);
    }
    holds.extend(disabling::holds(connection)?);
    holds.retain(|hold| filter.takes(hold));
    holds.sort_by_key(|hold| hold.since);
    Ok(holds)
}

/// Releases what a filter takes: each is planned anew, without the brake.
pub(super) fn release(
    session: &mut Session<'_>,
    filter: &HoldFilter,
    rules: &RuleSet,
    by: &str,
    now: Timestamp,
) -> Result<u64, StoreError> {
    settle(session, filter, rules, now, |kept, held, facts| decision::release(kept, held, rules, facts, by, now))
}

/// Discards what a filter takes: the grants stay as if nothing had been held, until a login says otherwise.
pub(super) fn discard(
    session: &mut Session<'_>,
    filter: &HoldFilter,
    rules: &RuleSet,
    by: &str,
    now: Timestamp,
) -> Result<u64, StoreError> {
    settle(session, filter, rules, now, |kept, held, _| Ok(decision::discard(kept, held, by)))
}

fn settle(
    session: &mut Session<'_>,
    filter: &HoldFilter,
    rules: &RuleSet,
    now: Timestamp,
    step: impl Fn(&Kept, &Held, &Facts) -> Result<Changes, Needs>,
) -> Result<u64, StoreError> {
    let holds = holds(session.connection, filter, rules)?;
    let mut people: BTreeMap<(&UserId, &ProviderName), Held> = BTreeMap::new();
    for hold in &holds {
        let theirs = people.entry((&hold.user, &hold.provider)).or_insert_with(|| Held {
            provider: hold.provider.clone(),
            targets: Vec::new(),
            disabling: false,
        });
        match &hold.target {
            Some(target) => theirs.targets.push(target.clone()),
            None => theirs.disabling = true,
        }
    }
    for ((user, _), held) in people {
        decide::change(session, user, rules, now, |kept, facts| step(kept, &held, facts))?;
    }
    judge(session, &holds, now)?;
    Ok(holds.len() as u64)
}

/// An operator who has settled all that was held of a target has judged its losses so far: they begin anew. While something of it is
/// held, its window goes on.
fn judge(session: &Session<'_>, settled: &[HoldView], now: Timestamp) -> Result<(), StoreError> {
    let disablings = settled.iter().any(|hold| hold.target.is_none());
    if disablings && disabling::holds(session.connection)?.is_empty() {
        disabling::forget_window(session, now)?;
    }
    for (hold, target) in settled.iter().filter_map(|hold| Some((hold, hold.target.as_ref()?))) {
        if !brake::holds(session.connection, &hold.provider, target)? {
            brake::forget(session, &hold.provider, target)?;
        }
    }
    Ok(())
}
