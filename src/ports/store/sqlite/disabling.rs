//! People whom mappings disabled: how many they are, and how they are enabled again.

use rusqlite::{Connection, params};
use serde::Serialize;

use super::super::{By, DisabledView, HoldView, StoreError};
use super::{Session, act, audit, erased, unavailable, user_of};
use crate::pipeline::decision::Disablings;
use crate::pipeline::ids::{ProviderName, Timestamp};
use crate::pipeline::mapping::Mapping;

/// Since when disablings count, where an operator has judged those before.
const SINCE: &str = "disabling_since";

/// How many mappings have disabled since a moment, and since an operator last judged. `number`: the user who is decided on.
pub(super) fn count(connection: &Connection, number: i64, since: Timestamp) -> Result<Disablings, StoreError> {
    let judged = act::setting(connection, SINCE)?.and_then(|value| Some(i64::from_be_bytes(value.try_into().ok()?)));
    let since = since.0.max(judged.unwrap_or(i64::MIN));
    connection
        .prepare_cached(
            "SELECT (SELECT count(*) FROM users WHERE disabled_by IS NOT NULL AND disabled_at > ?1
                     AND EXISTS (SELECT 1 FROM watermarks WHERE watermarks.user_id = users.id)),
                    EXISTS (SELECT 1 FROM users WHERE stopped_at IS NOT NULL AND disabled_at IS NULL AND id <> ?2),
                    (SELECT count(*) FROM users)",
        )
        .and_then(|mut select| {
            select.query_row(params![since, number], |row| {
                let count = |at: usize| row.get::<_, i64>(at).map(i64::cast_unsigned);
                Ok(Disablings { lately: count(0)?, holds: row.get(1)?, users: count(2)? })
            })
        })
        .map_err(unavailable)
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
