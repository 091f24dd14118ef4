//! What operators have confirmed for clients that cannot confirm by themselves: for a while, a client may revoke a number of
//! memberships over the brake's limit.

use rusqlite::params;
use serde::{Deserialize, Serialize};

use super::super::StoreError;
use super::act::{set, setting};
use super::{Session, audit, unavailable};
use crate::pipeline::ids::Timestamp;
use crate::ports::catalogue::Confirmation;

/// As it is kept, in a row of the settings.
#[derive(Serialize, Deserialize)]
struct Kept {
    until: i64,
    /// Memberships that are left of it.
    left: u64,
    by: String,
}

fn key(client: &str) -> String {
    format!("confirmed client {client}")
}

#[derive(Serialize)]
struct Detail<'a> {
    client: &'a str,
    by: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<String>,
    /// Memberships: that may go, or that went.
    #[serde(skip_serializing_if = "Option::is_none")]
    most: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    losing: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    left: Option<u64>,
}

/// Notes a confirmation, in place of the one before.
pub(super) fn note(
    session: &Session<'_>,
    client: &str,
    Confirmation { until, most }: Confirmation,
    by: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    write(session, client, &Kept { until: until.0, left: most, by: by.to_owned() })?;
    let until = Some(until.to_string());
    let detail = Detail { client, by, until, most: Some(most), losing: None, left: None };
    audit::append(session, now, "client_confirmed", &detail, None)
}

/// Takes memberships that a change revokes from what was confirmed for its client. `false`: not so many, or none, or too late.
pub(super) fn spend(session: &Session<'_>, client: &str, losing: u64, now: Timestamp) -> Result<bool, StoreError> {
    let Some(text) = setting(session.connection, &key(client))? else { return Ok(false) };
    // What cannot be read confirms nothing.
    let Ok(kept) = serde_json::from_slice::<Kept>(&text) else { return Ok(false) };
    let Some(left) = kept.left.checked_sub(losing).filter(|_| now.0 < kept.until) else { return Ok(false) };
    match left {
        0 => forget(session, client)?,
        left => write(session, client, &Kept { left, until: kept.until, by: kept.by.clone() })?,
    }
    let detail = Detail { client, by: &kept.by, until: None, most: None, losing: Some(losing), left: Some(left) };
    audit::append(session, now, "confirmation_used", &detail, None)?;
    Ok(true)
}

fn write(session: &Session<'_>, client: &str, kept: &Kept) -> Result<(), StoreError> {
    set(session, &key(client), &serde_json::to_vec(kept).unwrap_or_default())
}

fn forget(session: &Session<'_>, client: &str) -> Result<(), StoreError> {
    session
        .connection
        .prepare_cached("DELETE FROM settings WHERE name = ?1")
        .and_then(|mut delete| delete.execute(params![key(client)]))
        .map_err(unavailable)?;
    Ok(())
}
