//! Mappings that disable people: whom they spare, what the brake counts, and how they are enabled again.
//!
//! Whom a mapping disabled stays disabled when the mapping is gone, since a person who left must not come back by that. The
//! brake counts people who had logged in before: a person whose first login is refused loses nothing.

use rusqlite::{Connection, params};
use serde::Serialize;

use super::super::{By, DisabledView, HoldView, StoreError};
use super::apply::{Who, held_by_another};
use super::{Session, act, audit, erased, unavailable};
use crate::pipeline::ids::{Namespace, ProviderName, Subject, Timestamp, UserId};
use crate::pipeline::mapping::{Disabling, Mapping, RuleSet};
use crate::pipeline::plan::{Plan, Snapshot, Spared};

/// Since when disablings count, where an operator has judged those before.
const SINCE: &str = "disabling_since";

/// Whether a known user is spared although a mapping would disable them.
pub(super) fn spared(
    session: &Session<'_>,
    row: i64,
    by: &Disabling,
    plan: &Plan,
    snapshot: &Snapshot,
    rules: &RuleSet,
    now: Timestamp,
) -> Result<Option<Spared>, StoreError> {
    if rules.spares(by.mapping) {
        for target in plan.before.targets().filter(|target| rules.is_protected(target)) {
            if !held_by_another(session, row, &target, rules)? {
                return Ok(Some(Spared::LastHolder(target)));
            }
        }
    }
    let braked = snapshot.last_login.is_some() && is_braked(session.connection, row, rules, now)?;
    Ok(braked.then_some(Spared::Braked))
}

/// Whether mappings have disabled as many as the brake lets pass. Past its window it goes on while a disabling is held.
fn is_braked(connection: &Connection, row: i64, rules: &RuleSet, now: Timestamp) -> Result<bool, StoreError> {
    let judged = act::setting(connection, SINCE)?.and_then(|value| Some(i64::from_be_bytes(value.try_into().ok()?)));
    let since = now.minus(rules.sync.brake.window).0.max(judged.unwrap_or(i64::MIN));
    let (lately, held): (i64, bool) = connection
        .prepare_cached(
            "SELECT (SELECT count(*) FROM users WHERE disabled_by IS NOT NULL AND disabled_at > ?1
                     AND EXISTS (SELECT 1 FROM watermarks WHERE watermarks.user_id = users.id)),
                    EXISTS (SELECT 1 FROM users WHERE stopped_at IS NOT NULL AND disabled_at IS NULL AND id <> ?2)",
        )
        .and_then(|mut select| select.query_row(params![since, row], |row| Ok((row.get(0)?, row.get(1)?))))
        .map_err(unavailable)?;
    if held {
        return Ok(true);
    }
    let members: i64 = connection
        .prepare_cached("SELECT count(*) FROM users")
        .and_then(|mut select| select.query_row([], |row| row.get(0)))
        .map_err(unavailable)?;
    Ok(lately.cast_unsigned() >= rules.sync.brake.allowed(members.cast_unsigned()))
}

pub(super) fn disable(session: &Session<'_>, row: i64, by: &Disabling, now: Timestamp) -> Result<(), StoreError> {
    session
        .connection
        .prepare_cached(
            "UPDATE users SET disabled_at = ?2, disabled_by = ?3, disabled_label = ?4,
                              stopped_by = NULL, stopped_label = NULL, stopped_through = NULL, stopped_at = NULL
             WHERE id = ?1 AND disabled_at IS NULL",
        )
        .and_then(|mut update| update.execute(params![row, now.0, by.mapping.0, by.label]))
        .map_err(unavailable)?;
    Ok(())
}

/// Notes that the brake stopped a mapping from disabling a user, or that none would any more.
pub(super) fn note_stopped(
    session: &Session<'_>,
    row: i64,
    who: &Who,
    plan: &Plan,
    now: Timestamp,
) -> Result<(), StoreError> {
    let was = who.known.as_ref().is_some_and(|known| known.stopped);
    match &plan.spared {
        Some((by, Spared::Braked)) if !was => {
            session
                .connection
                .prepare_cached(
                    "UPDATE users SET stopped_by = ?2, stopped_label = ?3, stopped_through = ?4, stopped_at = ?5
                     WHERE id = ?1",
                )
                .and_then(|mut update| {
                    update.execute(params![row, by.mapping.0, by.label, plan.provider.as_str(), now.0])
                })
                .map_err(unavailable)?;
            Ok(())
        }
        Some((_, Spared::Braked)) => Ok(()),
        _ if was && !plan.older => lift(session, row),
        _ => Ok(()),
    }
}

fn lift(session: &Session<'_>, row: i64) -> Result<(), StoreError> {
    session
        .connection
        .prepare_cached(
            "UPDATE users SET stopped_by = NULL, stopped_label = NULL, stopped_through = NULL, stopped_at = NULL
             WHERE id = ?1",
        )
        .and_then(|mut update| update.execute(params![row]))
        .map_err(unavailable)?;
    Ok(())
}

/// Disablings that the brake holds, the oldest first.
pub(super) fn holds(connection: &Connection) -> Result<Vec<HoldView>, StoreError> {
    let mut select = connection
        .prepare_cached(
            "SELECT namespace, subject, stopped_through, stopped_label, stopped_at FROM users
             WHERE stopped_at IS NOT NULL AND disabled_at IS NULL ORDER BY stopped_at, id",
        )
        .map_err(unavailable)?;
    let mut rows = select.query([]).map_err(unavailable)?;
    let mut holds = Vec::new();
    while let Some(row) = rows.next().map_err(unavailable)? {
        let text = |at: usize| row.get::<_, String>(at).map_err(unavailable);
        holds.push(HoldView {
            user: user_of(&text(0)?, &text(1)?)?,
            provider: ProviderName::parse(&text(2)?).map_err(|error| StoreError::Invalid(error.to_string()))?,
            target: None,
            mapping: text(3)?,
            since: Timestamp(row.get(4).map_err(unavailable)?),
        });
    }
    Ok(holds)
}

#[derive(Serialize)]
struct Detail<'a> {
    by: &'a str,
    mapping: &'a str,
    why: &'a str,
}

/// Carries out a disabling that was held.
pub(super) fn release(
    session: &Session<'_>,
    (row, hold): (i64, &HoldView),
    by: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    session
        .connection
        .prepare_cached(
            "UPDATE users SET disabled_at = ?2, disabled_by = stopped_by, disabled_label = stopped_label
             WHERE id = ?1 AND disabled_at IS NULL AND stopped_at IS NOT NULL",
        )
        .and_then(|mut update| update.execute(params![row, now.0]))
        .map_err(unavailable)?;
    let detail = Detail { by, mapping: &hold.mapping, why: "released" };
    audit::append(session, now, "user_disabled", &detail, Some((row, &hold.user, None)))?;
    lift(session, row)
}

/// Forgets a disabling that was held.
pub(super) fn discard(
    session: &Session<'_>,
    (row, hold): (i64, &HoldView),
    by: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    let detail = Detail { by, mapping: &hold.mapping, why: "discarded" };
    audit::append(session, now, "hold_discarded", &detail, Some((row, &hold.user, None)))?;
    lift(session, row)
}

/// An operator who has looked at what is held has judged the disablings so far: they count anew.
pub(super) fn forget_window(session: &Session<'_>, now: Timestamp) -> Result<(), StoreError> {
    act::set(session, SINCE, &now.0.to_be_bytes())
}

/// How people name a mapping of which only its traces are left: by label, number or identity.
fn selector(mapping: &str) -> (String, Vec<u8>) {
    let number = mapping.parse::<i64>().ok().map(|number| Mapping::id_of_number(number).0.to_vec());
    let digits = |at: usize| mapping.get(at..at + 2).and_then(|two| u8::from_str_radix(two, 16).ok());
    let identity = (mapping.len() == 32).then(|| (0..32).step_by(2).map(digits).collect::<Option<Vec<u8>>>()).flatten();
    (mapping.to_owned(), number.or(identity).unwrap_or_default())
}

/// Whom a mapping disabled, in the order in which they came; then those who were erased since.
pub(super) fn through(connection: &Connection, mapping: &str) -> Result<Vec<DisabledView>, StoreError> {
    let (label, identity) = selector(mapping);
    let mut select = connection
        .prepare_cached(
            "SELECT namespace, subject, disabled_label, disabled_at FROM users
             WHERE disabled_by IS NOT NULL AND disabled_at IS NOT NULL AND (disabled_label = ?1 OR disabled_by = ?2)
             UNION ALL
             SELECT NULL, NULL, disabled_label, disabled_at FROM erased
             WHERE disabled_by IS NOT NULL AND (disabled_label = ?1 OR disabled_by = ?2)",
        )
        .map_err(unavailable)?;
    let mut rows = select.query(params![label, identity]).map_err(unavailable)?;
    let mut views = Vec::new();
    while let Some(row) = rows.next().map_err(unavailable)? {
        let text = |at: usize| row.get::<_, Option<String>>(at).map_err(unavailable);
        let user = match (text(0)?, text(1)?) {
            (Some(namespace), Some(subject)) => Some(user_of(&namespace, &subject)?),
            _ => None,
        };
        let since = Timestamp(row.get(3).map_err(unavailable)?);
        views.push(DisabledView { user, mapping: text(2)?.unwrap_or_default(), since });
    }
    Ok(views)
}

/// Enables whom a mapping disabled.
pub(super) fn enable(session: &Session<'_>, mapping: &str, by: &By, now: Timestamp) -> Result<u64, StoreError> {
    let found = through(session.connection, mapping)?;
    for DisabledView { user, mapping, .. } in &found {
        let Some(user) = user else { continue };
        let Some(row) = super::user_row(session.connection, user)? else { continue };
        session
            .connection
            .prepare_cached(
                "UPDATE users SET disabled_at = NULL, disabled_by = NULL, disabled_label = NULL WHERE id = ?1",
            )
            .and_then(|mut update| update.execute(params![row]))
            .map_err(unavailable)?;
        let detail = Detail { by: &by.name, mapping, why: "enabled by its mapping" };
        audit::append(session, now, "user_enabled", &detail, Some((row, user, None)))?;
    }
    let (label, identity) = selector(mapping);
    let erased = session
        .connection
        .prepare_cached(
            "UPDATE erased SET disabled_at = NULL, disabled_by = NULL, disabled_label = NULL
             WHERE disabled_by IS NOT NULL AND (disabled_label = ?1 OR disabled_by = ?2)",
        )
        .and_then(|mut update| update.execute(params![label, identity]))
        .map_err(unavailable)?;
    if erased > 0 {
        let detail = Detail { by: &by.name, mapping, why: "enabled by its mapping; erased since" };
        audit::append(session, now, "user_enabled", &detail, None)?;
        erased::tidy(session)?;
    }
    Ok(found.len() as u64)
}

fn user_of(namespace: &str, subject: &str) -> Result<UserId, StoreError> {
    let invalid = |error: crate::pipeline::ids::InvalidText| StoreError::Invalid(error.to_string());
    Ok(UserId {
        namespace: Namespace::parse(namespace).map_err(invalid)?,
        subject: Subject::parse(subject).map_err(invalid)?,
    })
}
