//! What an operator, or a new rule set, does to the store.

use aws_lc_rs::rand;
use rusqlite::{Connection, OptionalExtension, params};
use serde::Serialize;

use super::super::{Act, Adopted, By, Excess, StoreError};
use super::audit::About;
use super::{
    NEXT_USER, NOTE_LAST_USER, Session, adopted, audit, brake, denies, erased, kind_of, privilege, unavailable,
    user_row,
};
use crate::pipeline::ids::{MappingId, Target, Timestamp, UserId};
use crate::pipeline::mapping::{Mode, RuleSet};

#[derive(Serialize)]
struct ActDetail<'a> {
    by: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    /// Nothing of an erased person stays, not even what binds them.
    #[serde(skip_serializing_if = "Option::is_none")]
    forgotten: Option<bool>,
}

pub(super) fn act(
    session: &mut Session<'_>,
    user: &UserId,
    act: &Act,
    by: &By,
    now: Timestamp,
) -> Result<(), StoreError> {
    if let (Some(found), Some(current)) = (by.epoch, *session.epoch)
        && found < current
    {
        return Err(StoreError::Invalid("the rules were changed meanwhile; try again".into()));
    }
    let (event, target, reason) = match act {
        Act::Assign(target) => ("assigned", Some(target), None),
        Act::Unassign(target) => ("unassigned", Some(target), None),
        Act::Deny { target, reason, .. } => ("denied", Some(target), Some(reason.as_str())),
        Act::Undeny(target) => ("deny_lifted", Some(target), None),
        Act::Disable => ("user_disabled", None, None),
        Act::Enable => ("user_enabled", None, None),
        Act::Create { .. } => ("user_created", None, None),
        Act::Rename(_) => ("user_renamed", None, None),
        Act::Erase | Act::Forget => (audit::ERASED, None, None),
    };
    let row = match (user_row(session.connection, user)?, act) {
        (Some(_), Act::Create { .. }) => return Err(StoreError::Invalid(nothing_to_do(user, act))),
        (Some(row), _) => Some(row),
        (None, Act::Create { email, display_name, enabled }) => {
            Some(create(session, user, (email.as_deref(), display_name.as_deref()), *enabled, now)?)
        }
        (None, Act::Assign(_) | Act::Deny { .. }) => Some(create(session, user, (None, None), true, now)?),
        (None, _) => None,
    };
    let former = match (row, act) {
        (Some(row), Act::Erase | Act::Forget) => former_numbers(session.connection, row)?,
        _ => Vec::new(),
    };
    let changed = match row {
        Some(row) => carry_out(session, (row, user), act, by, now)?,
        None => on_erased(session, user, act, now)?,
    };
    if changed == 0 {
        return Err(StoreError::Invalid(nothing_to_do(user, act)));
    }
    let forgotten = matches!(act, Act::Forget).then_some(true);
    let detail =
        ActDetail { by: &by.name, kind: target.map(Target::kind), name: target.map(Target::name), reason, forgotten };
    let erases = matches!(act, Act::Erase | Act::Forget);
    let person = (row.is_some() && !erases).then_some((user, None));
    audit::append_about(session, now, event, &detail, &About { login: None, user: row, person })?;
    for number in former {
        let about = About { login: None, user: Some(number), person: None };
        audit::append_about(session, now, event, &detail, &about)?;
    }
    Ok(())
}

/// The numbers of users who became one with this one: their rows of the audit are this person's, too.
fn former_numbers(connection: &Connection, row: i64) -> Result<Vec<i64>, StoreError> {
    connection
        .prepare_cached("SELECT id FROM former_users WHERE user_id = ?1 ORDER BY id")
        .and_then(|mut select| select.query_map(params![row], |row| row.get(0))?.collect())
        .map_err(unavailable)
}

/// What can be done about an erased person: lift what still binds them.
fn on_erased(session: &Session<'_>, user: &UserId, act: &Act, now: Timestamp) -> Result<usize, StoreError> {
    let Some(bound) = erased::find(session, user, now)? else {
        return Err(StoreError::Invalid(format!("there is no user `{user}`")));
    };
    match act {
        Act::Enable => erased::enable(session, &bound),
        Act::Undeny(target) => erased::lift(session, &bound, target),
        Act::Forget => erased::forget(session, user).map(usize::from),
        _ => Err(StoreError::Invalid(format!(
            "`{user}` was erased; what still binds them can be lifted (`enable`, `undeny`) or forgotten (`erase --forget`)"
        ))),
    }
}

fn carry_out(
    session: &mut Session<'_>,
    (row, user): (i64, &UserId),
    act: &Act,
    by: &By,
    now: Timestamp,
) -> Result<usize, StoreError> {
    let connection = session.connection;
    let run = |statement: &str, values: &[&dyn rusqlite::ToSql]| {
        connection.prepare_cached(statement).and_then(|mut prepared| prepared.execute(values)).map_err(unavailable)
    };
    let name = &by.name;
    match act {
        // An administrator who assigns what a lesser client has assigned vouches for it.
        Act::Assign(target) => run(
            "INSERT INTO grants (user_id, kind, name, granted_at, granted_by, as_admin) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT DO UPDATE SET granted_at = ?4, granted_by = ?5, as_admin = 1
             WHERE ?6 = 1 AND grants.as_admin IS NOT 1",
            &[&row, &kind_of(target), &target.name(), &now.0, name, &i64::from(by.admin)],
        ),
        Act::Unassign(target) => run(
            "DELETE FROM grants WHERE user_id = ?1 AND kind = ?2 AND name = ?3 AND provider = ''",
            &[&row, &kind_of(target), &target.name()],
        ),
        Act::Deny { target, reason, until } => run(
            "INSERT INTO denies (user_id, kind, name, denied_at, denied_by, reason, until)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO NOTHING",
            &[&row, &kind_of(target), &target.name(), &now.0, name, reason, &until.map(|until| until.0)],
        ),
        Act::Undeny(target) => denies::lift(session, row, target),
        // An operator's disabling stands whatever becomes of a mapping's.
        Act::Disable => run(
            "UPDATE users SET disabled_at = ?2, disabled_by = NULL, disabled_label = NULL,
                              stopped_by = NULL, stopped_label = NULL, stopped_at = NULL
             WHERE id = ?1 AND (disabled_at IS NULL OR disabled_by IS NOT NULL)",
            &[&row, &now.0],
        ),
        Act::Enable => run(
            "UPDATE users SET disabled_at = NULL, disabled_by = NULL, disabled_label = NULL
             WHERE id = ?1 AND disabled_at IS NOT NULL",
            &[&row],
        ),
        // Made by whoever looked for the row.
        Act::Create { .. } => Ok(1),
        Act::Rename(name) => {
            run("UPDATE users SET display_name = ?2 WHERE id = ?1 AND display_name IS NOT ?2", &[&row, &name.as_str()])
        }
        Act::Erase | Act::Forget => {
            match act {
                Act::Forget => erased::forget(session, user).map(drop)?,
                _ => erased::keep(session, row, user, now).map(drop)?,
            }
            for number in former_numbers(connection, row)?.into_iter().chain([row]) {
                audit::erase(session, number)?;
            }
            run(NOTE_LAST_USER, &[&row])?;
            run("DELETE FROM users WHERE id = ?1", &[&row])
        }
    }
}

/// Why an act that changed nothing is an error: a script that repeats itself should hear it.
fn nothing_to_do(user: &UserId, act: &Act) -> String {
    match act {
        Act::Assign(target) => format!("{target} is already assigned to `{user}`"),
        Act::Unassign(target) => format!(
            "{target} is not assigned to `{user}` by hand; what a mapping grants ends with the mapping or the claim, \
             or by a deny"
        ),
        Act::Deny { target, .. } => format!("{target} is already denied to `{user}`"),
        Act::Undeny(target) => format!("{target} is not denied to `{user}`"),
        Act::Disable => format!("`{user}` is already disabled"),
        Act::Enable => format!("`{user}` is not disabled"),
        Act::Create { .. } => format!("there is `{user}` already"),
        Act::Rename(_) => format!("`{user}` has this name already"),
        Act::Erase | Act::Forget => format!("there is no user `{user}`"),
    }
}

/// Makes a user. An erased person who is back is bound by what bound them before.
fn create(
    session: &Session<'_>,
    user: &UserId,
    (email, display_name): (Option<&str>, Option<&str>),
    enabled: bool,
    now: Timestamp,
) -> Result<i64, StoreError> {
    let bound = erased::find(session, user, now)?;
    let disabled_at = (!enabled).then_some(now.0);
    let row = insert_user(session, user, (email, display_name), disabled_at, now)?;
    if let Some(bound) = bound {
        erased::restore(session, row, &bound)?;
    }
    Ok(row)
}

/// Adds a row for a user, under a number that no user had before.
pub(super) fn insert_user(
    session: &Session<'_>,
    user: &UserId,
    (email, display_name): (Option<&str>, Option<&str>),
    disabled_at: Option<i64>,
    now: Timestamp,
) -> Result<i64, StoreError> {
    let (namespace, subject) = (user.namespace.as_str(), user.subject.as_str());
    session
        .connection
        .prepare_cached(&format!(
            "INSERT INTO users (id, namespace, subject, created_at, email, display_name, disabled_at)
             VALUES ({NEXT_USER}, ?1, ?2, ?3, ?4, ?5, ?6)"
        ))
        .and_then(|mut insert| insert.insert(params![namespace, subject, now.0, email, display_name, disabled_at]))
        .map_err(unavailable)
}

#[derive(Serialize)]
struct EndedDetail {
    mapping: String,
    grants: usize,
}

/// Every mapping that some grant names, found by leaps through the index: the cost follows their number, not the grants'.
const MAPPINGS_WITH_GRANTS: &str = "
    WITH RECURSIVE named (mapping) AS (
        SELECT (SELECT min(mapping) FROM grants WHERE mapping <> x'')
        UNION ALL
        SELECT (SELECT min(mapping) FROM grants WHERE mapping <> x'' AND mapping > named.mapping)
        FROM named WHERE named.mapping IS NOT NULL)
    SELECT mapping FROM named WHERE mapping IS NOT NULL";

/// Ends the grants of mappings that the new rules lack, hold as disabled or inactive, or have let expire. The grants
/// themselves carry the identities, so nothing else has to be kept in step with the file.
pub(super) fn adopt(session: &mut Session<'_>, rules: &RuleSet, now: Timestamp) -> Result<Adopted, StoreError> {
    let confirmed = is_confirmed(session, rules)?;
    adopt_changed(session, rules, confirmed, now)
}

/// The same for rules that somebody has changed, who says whether they may revoke over the brake's limit.
pub(super) fn adopt_changed(
    session: &mut Session<'_>,
    rules: &RuleSet,
    confirmed: bool,
    now: Timestamp,
) -> Result<Adopted, StoreError> {
    if rules.sync.mode == Mode::Shadow {
        denies::bind(session, rules, now)?;
        adopted::note(session, rules)?;
        *session.epoch = Some(rules.epoch);
        return Ok(Adopted::default());
    }
    let named = mappings_with_grants(session.connection)?;
    let mut excesses = brake::excesses(session.connection, &named, rules)?;
    let endings = privilege::endings(session.connection, rules)?;
    excesses.extend(privilege::excesses(session.connection, &endings, rules)?);
    if !excesses.is_empty() && !confirmed {
        return Err(StoreError::Braked(excesses));
    }
    let mut ended = end_mappings(session, &named, rules, now)?;
    privilege::end(session, &endings, now)?;
    ended.privileged_grants = endings.len() as u64;
    denies::bind(session, rules, now)?;
    adopted::note(session, rules)?;
    *session.epoch = Some(rules.epoch);
    Ok(ended)
}

fn mappings_with_grants(connection: &Connection) -> Result<Vec<MappingId>, StoreError> {
    connection
        .prepare_cached(MAPPINGS_WITH_GRANTS)
        .and_then(|mut select| select.query_map([], |row| row.get(0).map(MappingId))?.collect())
        .map_err(unavailable)
}

/// Ends the grants of those mappings that no longer live.
fn end_mappings(
    session: &Session<'_>,
    named: &[MappingId],
    rules: &RuleSet,
    now: Timestamp,
) -> Result<Adopted, StoreError> {
    let mut adopted = Adopted::default();
    for id in named {
        if rules.mapping(*id).is_some_and(|mapping| mapping.is_live(now)) {
            continue;
        }
        let grants = session
            .connection
            .prepare_cached("DELETE FROM grants WHERE mapping = ?1 AND mapping <> x''")
            .and_then(|mut delete| delete.execute(params![id.0]))
            .map_err(unavailable)?;
        adopted.ended_mappings += 1;
        adopted.ended_grants += grants as u64;
        let detail = EndedDetail { mapping: id.to_string(), grants };
        audit::append(session, now, "mapping_ended", &detail, None)?;
    }
    Ok(adopted)
}

/// Ends the grants of mappings that have passed their `until` since the rules were adopted.
pub(super) fn expire(session: &Session<'_>, rules: &RuleSet, now: Timestamp) -> Result<Adopted, StoreError> {
    let passed = rules.mappings().iter().filter(|mapping| mapping.until.is_some_and(|until| until <= now));
    let passed: Vec<MappingId> = passed.map(|mapping| mapping.id).collect();
    if passed.is_empty() {
        return Ok(Adopted::default());
    }
    let mut named = mappings_with_grants(session.connection)?;
    named.retain(|id| passed.contains(id));
    end_mappings(session, &named, rules, now)
}

/// What adopting these rules would be refused for.
pub(super) fn excesses(connection: &Connection, rules: &RuleSet) -> Result<Vec<Excess>, StoreError> {
    match rules.sync.mode {
        Mode::Shadow => Ok(Vec::new()),
        Mode::Apply => {
            let mut excesses = brake::excesses(connection, &mappings_with_grants(connection)?, rules)?;
            excesses.extend(privilege::excesses(connection, &privilege::endings(connection, rules)?, rules)?);
            Ok(excesses)
        }
    }
}

/// Whether an operator has confirmed the file that these rules come from.
fn is_confirmed(session: &Session<'_>, rules: &RuleSet) -> Result<bool, StoreError> {
    let confirmed = setting(session.connection, "confirmed")?;
    Ok(rules.source.is_some_and(|source| confirmed.as_deref() == Some(&source)))
}

pub(super) fn setting(connection: &Connection, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
    connection
        .prepare_cached("SELECT value FROM settings WHERE name = ?1")
        .and_then(|mut select| select.query_row(params![name], |row| row.get(0)).optional())
        .map_err(unavailable)
}

pub(super) fn set(session: &Session<'_>, name: &str, value: &[u8]) -> Result<(), StoreError> {
    session
        .connection
        .prepare_cached(
            "INSERT INTO settings (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = ?2",
        )
        .and_then(|mut upsert| upsert.execute(params![name, value]))
        .map_err(unavailable)?;
    Ok(())
}

#[derive(Serialize)]
struct ConfirmedDetail<'a> {
    by: &'a str,
    file: String,
}

/// Notes that the rules of a file may revoke over the brake's limit.
pub(super) fn confirm(session: &Session<'_>, source: [u8; 32], by: &str, now: Timestamp) -> Result<(), StoreError> {
    set(session, "confirmed", &source)?;
    let file = source.iter().map(|byte| format!("{byte:02x}")).collect();
    audit::append(session, now, "rules_confirmed", &ConfirmedDetail { by, file }, None)
}

/// Whether every user with recorded claims was planned by the rules of this file.
pub(super) fn is_planned(session: &Session<'_>, source: [u8; 32]) -> Result<bool, StoreError> {
    Ok(setting(session.connection, "planned")?.as_deref() == Some(&source))
}

pub(super) fn set_planned(session: &Session<'_>, source: [u8; 32]) -> Result<(), StoreError> {
    set(session, "planned", &source)
}

/// The keys that seal cookies: one of 32 bytes, made when first asked for.
pub(super) fn cookie_keys(session: &mut Session<'_>) -> Result<Vec<u8>, StoreError> {
    kept(session, "cookie_keys", || {
        let mut fresh = vec![0; 32];
        rand::fill(&mut fresh).map_err(|_| StoreError::Unavailable("the system gives no random bytes".into()))?;
        Ok(fresh)
    })
}

/// What is kept under a name, made when nothing is yet.
pub(super) fn kept(
    session: &mut Session<'_>,
    name: &str,
    make: impl FnOnce() -> Result<Vec<u8>, StoreError>,
) -> Result<Vec<u8>, StoreError> {
    let kept: Option<Vec<u8>> = session
        .connection
        .prepare_cached("SELECT value FROM settings WHERE name = ?1")
        .and_then(|mut select| select.query_row(params![name], |row| row.get(0)).optional())
        .map_err(unavailable)?;
    if let Some(kept) = kept {
        return Ok(kept);
    }
    let fresh = make()?;
    session
        .connection
        .prepare_cached("INSERT INTO settings (name, value) VALUES (?1, ?2)")
        .and_then(|mut insert| insert.execute(params![name, fresh]))
        .map_err(unavailable)?;
    Ok(fresh)
}
