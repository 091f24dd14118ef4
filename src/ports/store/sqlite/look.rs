//! Looking at users and their memberships.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, params};

use super::super::{MembershipView, RoleThroughGroups, StoreError, UserView};
use super::{kind_of, target_of, unavailable, user_row};
use crate::pipeline::faults;
use crate::pipeline::ids::{MappingId, Namespace, Subject, Target, Timestamp, UserId};
use crate::pipeline::mapping::RuleSet;
use crate::pipeline::plan::Effective;

/// What is known of one target of one user, while it is gathered.
#[derive(Default)]
struct Reasons {
    mapped: bool,
    assigned: bool,
    denied: bool,
    words: Vec<String>,
}

pub(super) fn user(connection: &Connection, user: &UserId, rules: &RuleSet) -> Result<Option<UserView>, StoreError> {
    let found = connection
        .prepare_cached(
            "SELECT id, email, disabled_at IS NULL, created_at,
                    (SELECT max(last_login_at) FROM watermarks WHERE user_id = id),
                    iif(disabled_at IS NULL, NULL, disabled_label)
             FROM users WHERE namespace = ?1 AND subject = ?2",
        )
        .and_then(|mut select| {
            let key = params![user.namespace.as_str(), user.subject.as_str()];
            select
                .query_row(key, |row| {
                    let view = UserView {
                        namespace: user.namespace.to_string(),
                        subject: user.subject.to_string(),
                        email: row.get(1)?,
                        enabled: row.get(2)?,
                        disabled_by: row.get(5)?,
                        created_at: Timestamp(row.get(3)?).to_string(),
                        last_login_at: row.get::<_, Option<i64>>(4)?.map(|at| Timestamp(at).to_string()),
                        groups: Vec::new(),
                        roles: Vec::new(),
                        memberships: Vec::new(),
                        roles_through_groups: Vec::new(),
                    };
                    Ok((row.get::<_, i64>(0)?, view))
                })
                .optional()
        })
        .map_err(unavailable)?;
    let Some((row, mut view)) = found else { return Ok(None) };
    let reasons = reasons(connection, row, rules)?;
    let held = reasons.iter().filter(|(_, why)| why.mapped || why.assigned).map(|(target, _)| target);
    let denies = reasons.iter().filter(|(_, why)| why.denied).map(|(target, _)| target.clone()).collect();
    let effective = Effective::of(held, &denies, rules);
    view.groups = effective.groups.iter().map(ToString::to_string).collect();
    view.roles = effective.roles.iter().map(ToString::to_string).collect();
    view.roles_through_groups = roles_through_groups(&reasons, rules);
    view.memberships = reasons.into_iter().map(|(target, reasons)| membership(&target, reasons)).collect();
    Ok(Some(view))
}

fn reasons(connection: &Connection, row: i64, rules: &RuleSet) -> Result<BTreeMap<Target, Reasons>, StoreError> {
    let mut all: BTreeMap<Target, Reasons> = BTreeMap::new();
    let mut select = connection
        .prepare_cached(
            "SELECT kind, name, provider, mapping, granted_at, granted_by FROM grants WHERE user_id = ?1
             ORDER BY kind, name, provider, granted_at",
        )
        .map_err(unavailable)?;
    let mut rows = select.query(params![row]).map_err(unavailable)?;
    while let Some(grant) = rows.next().map_err(unavailable)? {
        let (target, provider, since) = grant_key(grant)?;
        let entry = all.entry(target).or_default();
        if provider.is_empty() {
            let by: String = grant.get(5).map_err(unavailable)?;
            entry.assigned = true;
            entry.words.push(format!("assigned by {by} at {since}"));
        } else {
            let id = MappingId(grant.get(3).map_err(unavailable)?);
            let label = rules.mapping(id).map_or_else(|| format!("removed mapping {id}"), |rule| rule.label());
            entry.mapped = true;
            entry.words.push(format!("mapped by `{label}` through {provider} since {since}"));
        }
    }
    let mut select = connection
        .prepare_cached("SELECT kind, name, denied_by, reason, denied_at FROM denies WHERE user_id = ?1")
        .map_err(unavailable)?;
    let mut rows = select.query(params![row]).map_err(unavailable)?;
    while let Some(deny) = rows.next().map_err(unavailable)? {
        let name: String = deny.get(1).map_err(unavailable)?;
        let (by, reason): (String, String) = (deny.get(2).map_err(unavailable)?, deny.get(3).map_err(unavailable)?);
        let since = Timestamp(deny.get(4).map_err(unavailable)?);
        let entry = all.entry(target_of(deny.get(0).map_err(unavailable)?, &name)?).or_default();
        entry.denied = true;
        entry.words.push(format!("denied by {by} at {since}: {reason}"));
    }
    Ok(all)
}

fn grant_key(row: &rusqlite::Row<'_>) -> Result<(Target, String, Timestamp), StoreError> {
    let name: String = row.get(1).map_err(unavailable)?;
    let target = target_of(row.get(0).map_err(unavailable)?, &name)?;
    Ok((target, row.get(2).map_err(unavailable)?, Timestamp(row.get(4).map_err(unavailable)?)))
}

fn membership(target: &Target, reasons: Reasons) -> MembershipView {
    let membership = match (reasons.mapped, reasons.assigned) {
        (true, true) => "both",
        (true, false) => "mapped",
        (false, true) => "assigned",
        (false, false) => "denied",
    };
    MembershipView {
        kind: target.kind(),
        name: target.name().to_owned(),
        membership,
        effective: (reasons.mapped || reasons.assigned) && !reasons.denied,
        denied: reasons.denied,
        reasons: reasons.words,
    }
}

fn roles_through_groups(reasons: &BTreeMap<Target, Reasons>, rules: &RuleSet) -> Vec<RoleThroughGroups> {
    let mut roles: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (target, why) in reasons {
        let Target::Group(group) = target else { continue };
        if why.denied || !(why.mapped || why.assigned) {
            continue;
        }
        for role in rules.roles_of(group) {
            let denied = reasons.get(&Target::Role(role.clone())).is_some_and(|role| role.denied);
            if !denied {
                roles.entry(role.as_str()).or_default().push(group.to_string());
            }
        }
    }
    roles.into_iter().map(|(role, groups)| RoleThroughGroups { role: role.to_owned(), groups }).collect()
}

/// Everything that is kept of one person.
pub(super) fn export(connection: &Connection, user: &UserId) -> Result<Option<serde_json::Value>, StoreError> {
    let Some(row) = user_row(connection, user)? else { return Ok(None) };
    let list = |statement: &str| json_rows(connection, statement, row);
    Ok(Some(serde_json::json!({
        "user": list("SELECT json_object('namespace', namespace, 'subject', subject, 'email', email, 'display_name', \
                      display_name, 'created_at', created_at, 'disabled_at', disabled_at) FROM users WHERE id = ?1")?,
        "logins": list("SELECT json_object('provider', provider, 'issued_at', issued_at, 'last_login_at', last_login_at) \
                        FROM watermarks WHERE user_id = ?1")?,
        "claims": list("SELECT json_object('provider', provider, 'claims', json(claims)) FROM recorded_claims \
                        WHERE user_id = ?1")?,
        "grants": list("SELECT json_object('kind', iif(kind = 0, 'group', 'role'), 'name', name, 'provider', provider, \
                        'mapping', hex(mapping), 'granted_at', granted_at, 'granted_by', granted_by, 'as_admin', as_admin, 'held_at', held_at) \
                        FROM grants WHERE user_id = ?1")?,
        "denies": list("SELECT json_object('kind', iif(kind = 0, 'group', 'role'), 'name', name, 'denied_at', denied_at, \
                        'denied_by', denied_by, 'reason', reason, 'until', until) FROM denies WHERE user_id = ?1")?,
        "sessions": list("SELECT json_object('provider', provider, 'created_at', created_at, 'seen_at', seen_at, \
                          'expires_at', expires_at) FROM sessions WHERE user_id = ?1")?,
        "audit": list("SELECT json_object('sequence', sequence, 'at', at, 'event', event, 'detail', json(detail), 'person', \
                       json(fields)) FROM audit WHERE user_id = ?1 ORDER BY sequence")?,
    })))
}

/// The rows of a statement that answers one JSON object a row; times are milliseconds since 1970.
fn json_rows(connection: &Connection, statement: &str, user_row: i64) -> Result<Vec<serde_json::Value>, StoreError> {
    let mut select = connection.prepare(statement).map_err(unavailable)?;
    let mut rows = select.query(params![user_row]).map_err(unavailable)?;
    let mut all = Vec::new();
    while let Some(row) = rows.next().map_err(unavailable)? {
        let text: String = row.get(0).map_err(unavailable)?;
        all.push(serde_json::from_str(&text).map_err(|error| StoreError::Invalid(faults::json(&error)))?);
    }
    Ok(all)
}

pub(super) fn users(connection: &Connection, after: Option<&UserId>, limit: usize) -> Result<Vec<UserId>, StoreError> {
    let (namespace, subject) = key_of(after);
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    connection
        .prepare_cached(
            "SELECT namespace, subject FROM users WHERE (namespace, subject) > (?1, ?2)
             ORDER BY namespace, subject LIMIT ?3",
        )
        .map_err(unavailable)
        .and_then(|mut select| read_users(select.query(params![namespace, subject, limit])))
}

pub(super) fn members(
    connection: &Connection,
    target: &Target,
    after: Option<&UserId>,
    limit: usize,
) -> Result<Vec<UserId>, StoreError> {
    let (namespace, subject) = key_of(after);
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    connection
        .prepare_cached(
            "SELECT DISTINCT namespace, subject FROM users JOIN grants ON grants.user_id = users.id
             WHERE grants.kind = ?1 AND grants.name = ?2 AND (namespace, subject) > (?3, ?4)
             ORDER BY namespace, subject LIMIT ?5",
        )
        .map_err(unavailable)
        .and_then(|mut select| {
            read_users(select.query(params![kind_of(target), target.name(), namespace, subject, limit]))
        })
}

fn key_of(after: Option<&UserId>) -> (&str, &str) {
    after.map_or(("", ""), |user| (user.namespace.as_str(), user.subject.as_str()))
}

fn read_users(rows: rusqlite::Result<rusqlite::Rows<'_>>) -> Result<Vec<UserId>, StoreError> {
    let mut rows = rows.map_err(unavailable)?;
    let mut users = Vec::new();
    while let Some(row) = rows.next().map_err(unavailable)? {
        let (namespace, subject): (String, String) =
            (row.get(0).map_err(unavailable)?, row.get(1).map_err(unavailable)?);
        let invalid = |error: crate::pipeline::ids::InvalidText| StoreError::Invalid(error.to_string());
        users.push(UserId {
            namespace: Namespace::parse(&namespace).map_err(invalid)?,
            subject: Subject::parse(&subject).map_err(invalid)?,
        });
    }
    Ok(users)
}
