//! What ends when a group or role becomes privileged: found in the grants, judged by the brake, ended.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, params};
use serde::Serialize;

use super::super::{Excess, StoreError, Unvouched};
use super::record::read_grant;
use super::{Session, adopted, audit, brake, kind_of, target_of, unavailable};
use crate::pipeline::ids::{Namespace, ProviderName, Subject, Target, Timestamp, UserId};
use crate::pipeline::mapping::{Mode, RuleSet};
use crate::pipeline::plan::{Grant, Source};
use crate::pipeline::privilege::{Hand, Privileged};

/// A grant that ends.
pub(super) struct Ending {
    row: i64,
    user: UserId,
    grant: Grant,
    by: String,
}

/// Every name that some grant has, found by leaps through the index.
const GRANTED_NAMES: &str = "
    WITH RECURSIVE named (name) AS (
        SELECT (SELECT min(name) FROM grants WHERE kind = ?1)
        UNION ALL
        SELECT (SELECT min(name) FROM grants WHERE kind = ?1 AND name > named.name)
        FROM named WHERE named.name IS NOT NULL)
    SELECT name FROM named WHERE name IS NOT NULL";

/// How `as_admin` is read.
pub(super) fn hand(as_admin: Option<i64>) -> Hand {
    match as_admin {
        Some(0) => Hand::Lesser,
        Some(_) => Hand::Admin,
        None => Hand::Unknown,
    }
}

/// What adopting these rules ends because of what is privileged in them. Rules that only watch end nothing.
pub(super) fn endings(connection: &Connection, rules: &RuleSet) -> Result<Vec<Ending>, StoreError> {
    let mut endings = Vec::new();
    if rules.sync.mode == Mode::Shadow {
        return Ok(endings);
    }
    walk(connection, rules, |privileged, ending, hand| {
        if privileged.ends(&ending.grant.target, &ending.grant.source, hand) {
            endings.push(ending);
        }
    })?;
    Ok(endings)
}

/// The same, counted by target, with grants by hand that stay although it is not known with which right they were made.
pub(super) fn unvouched(connection: &Connection, rules: &RuleSet) -> Result<Vec<Unvouched>, StoreError> {
    let mut counts: BTreeMap<Target, Unvouched> = BTreeMap::new();
    walk(connection, rules, |privileged, Ending { grant: Grant { target, source }, .. }, hand| {
        let by_hand = source == Source::Assigned;
        let ends = privileged.ends(&target, &source, hand);
        let stays_unknown = !ends && by_hand && hand == Hand::Unknown;
        if !(ends || stays_unknown) {
            return;
        }
        let counted = counts.entry(target.clone()).or_insert_with(|| Unvouched::none(target));
        counted.by_hand += u64::from(ends && by_hand);
        counted.mapped += u64::from(ends && !by_hand);
        counted.unknown += u64::from(stays_unknown);
    })?;
    Ok(counts.into_values().collect())
}

/// Every grant of what is privileged, or is spelled like it.
fn walk(
    connection: &Connection,
    rules: &RuleSet,
    mut take: impl FnMut(&Privileged<'_>, Ending, Hand),
) -> Result<(), StoreError> {
    let before = adopted::read(connection)?;
    let privileged = Privileged::find(before.as_ref(), rules);
    for kind in [0, 1] {
        let names: Vec<String> = connection
            .prepare_cached(GRANTED_NAMES)
            .and_then(|mut select| select.query_map(params![kind], |row| row.get(0))?.collect())
            .map_err(unavailable)?;
        for name in names {
            let target = target_of(kind, &name)?;
            if privileged.newly(&target).is_none() {
                continue;
            }
            let mut select = connection
                .prepare_cached(
                    "SELECT users.id, namespace, subject, kind, name, provider, mapping, as_admin, granted_by
                     FROM grants JOIN users ON users.id = grants.user_id WHERE kind = ?1 AND name = ?2
                     ORDER BY users.id, provider, mapping",
                )
                .map_err(unavailable)?;
            let mut rows = select.query(params![kind, name]).map_err(unavailable)?;
            while let Some(row) = rows.next().map_err(unavailable)? {
                let text = |at: usize| row.get::<_, String>(at).map_err(unavailable);
                let invalid = |error: crate::pipeline::ids::InvalidText| StoreError::Invalid(error.to_string());
                let user = UserId {
                    namespace: Namespace::parse(&text(1)?).map_err(invalid)?,
                    subject: Subject::parse(&text(2)?).map_err(invalid)?,
                };
                let grant = read_grant(row, 3)?;
                let hand = hand(row.get(7).map_err(unavailable)?);
                take(&privileged, Ending { row: row.get(0).map_err(unavailable)?, user, grant, by: text(8)? }, hand);
            }
        }
    }
    Ok(())
}

/// Of which targets more members would go than the brake lets pass, through each provider and by hand.
pub(super) fn excesses(
    connection: &Connection,
    endings: &[Ending],
    rules: &RuleSet,
) -> Result<Vec<Excess>, StoreError> {
    let mut losing: BTreeMap<(Option<&ProviderName>, &Target), BTreeSet<i64>> = BTreeMap::new();
    for Ending { row, grant, .. } in endings {
        let provider = match &grant.source {
            Source::Mapped { provider, .. } => Some(provider),
            Source::Assigned => None,
        };
        losing.entry((provider, &grant.target)).or_default().insert(*row);
    }
    let mut excesses = Vec::new();
    for ((provider, target), people) in losing {
        let members = match provider {
            Some(provider) => brake::members(connection, provider, target)?,
            None => assigned(connection, target)?,
        };
        let (losing, allowed) = (people.len() as u64, rules.sync.brake.allowed(members));
        if rules.is_braked(target) && losing > allowed {
            excesses.push(Excess { provider: provider.cloned(), target: target.clone(), losing, members, allowed });
        }
    }
    Ok(excesses)
}

/// Users who hold the target by hand.
fn assigned(connection: &Connection, target: &Target) -> Result<u64, StoreError> {
    connection
        .prepare_cached("SELECT count(*) FROM grants WHERE kind = ?1 AND name = ?2 AND provider = ''")
        .and_then(|mut select| select.query_row(params![kind_of(target), target.name()], |row| row.get::<_, i64>(0)))
        .map(i64::cast_unsigned)
        .map_err(unavailable)
}

#[derive(Serialize)]
struct EndedDetail<'a> {
    kind: &'a str,
    name: &'a str,
    why: &'a str,
    /// The provider through which it was mapped, or who assigned it.
    #[serde(skip_serializing_if = "Option::is_none")]
    provider: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    assigned_by: Option<&'a str>,
}

/// Ends them, each with a row of the audit.
pub(super) fn end(session: &Session<'_>, endings: &[Ending], now: Timestamp) -> Result<(), StoreError> {
    for Ending { row, user, grant: Grant { target, source }, by } in endings {
        let (provider, mapping): (&str, &[u8]) = match source {
            Source::Assigned => ("", &[]),
            Source::Mapped { provider, mapping } => (provider.as_str(), &mapping.0),
        };
        session
            .connection
            .prepare_cached(
                "DELETE FROM grants WHERE user_id = ?1 AND kind = ?2 AND name = ?3 AND provider = ?4 AND mapping = ?5",
            )
            .and_then(|mut delete| delete.execute(params![row, kind_of(target), target.name(), provider, mapping]))
            .map_err(unavailable)?;
        let by_hand = *source == Source::Assigned;
        let detail = EndedDetail {
            kind: target.kind(),
            name: target.name(),
            why: "it became privileged, and this grant was not made with scope `admin`",
            provider: (!by_hand).then_some(provider),
            assigned_by: by_hand.then_some(by.as_str()),
        };
        audit::append(session, now, "privileged_grant_ended", &detail, Some((*row, user, None)))?;
    }
    Ok(())
}
