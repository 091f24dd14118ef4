//! What the mapping APIs have made, in SQLite: read whole, written by its differences.

use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::super::StoreError;
use super::{Session, SqliteStore, clients, kind_of, unavailable};
use crate::pipeline::decision::Written;
use crate::pipeline::ids::{Target, Timestamp};
use crate::pipeline::mapping::stored::{Entry, Exposure, Stored};
use crate::ports::BoxFuture;
use crate::ports::catalogue::{AccessToken, ApiClient, Catalogue, ClientView};
use crate::ports::sessions::Digest;

const GROUP: i64 = 0;
const ROLE: i64 = 1;
const MAPPING: i64 = 2;

impl Catalogue for SqliteStore {
    fn stored(&self) -> BoxFuture<'_, Result<Stored, StoreError>> {
        Box::pin(self.read(|look| stored(look.connection)))
    }

    fn client(&self, secret: Digest) -> BoxFuture<'_, Result<Option<ApiClient>, StoreError>> {
        Box::pin(self.read(move |look| clients::client(look.connection, secret)))
    }

    fn clients(&self) -> BoxFuture<'_, Result<Vec<ClientView>, StoreError>> {
        Box::pin(self.read(|look| clients::all(look.connection)))
    }

    fn add_client(&self, client: ApiClient, by: String, now: Timestamp) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.write(move |session| clients::add(session, &client, &by, now)))
    }

    fn revoke_client(&self, name: String, by: String, now: Timestamp) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.write(move |session| clients::revoke(session, &name, &by, now)))
    }

    fn add_token(&self, token: AccessToken, replaces: Option<Digest>) -> BoxFuture<'_, Result<bool, StoreError>> {
        Box::pin(self.write(move |session| clients::add_token(session, &token, replaces)))
    }

    fn token(&self, token: Digest, now: Timestamp) -> BoxFuture<'_, Result<Option<AccessToken>, StoreError>> {
        Box::pin(self.read(move |look| clients::token(look.connection, token, now)))
    }

    fn refreshed(&self, refresh: Digest) -> BoxFuture<'_, Result<Option<AccessToken>, StoreError>> {
        Box::pin(self.read(move |look| clients::refreshed(look.connection, refresh)))
    }

    fn end_token(&self, token: Digest, client: Digest) -> BoxFuture<'_, Result<bool, StoreError>> {
        Box::pin(self.write(move |session| clients::end_token(session, token, client)))
    }
}

pub(super) fn stored(connection: &Connection) -> Result<Stored, StoreError> {
    let mut stored = Stored {
        generation: counter(connection, "generation")?,
        last_number: counter(connection, "last_number")?,
        groups: entries(connection, GROUP)?,
        roles: entries(connection, ROLE)?,
        mappings: entries(connection, MAPPING)?,
        exposures: BTreeMap::new(),
    };
    let mut select =
        connection.prepare("SELECT provider, group_name, alias, hidden FROM exposures").map_err(unavailable)?;
    let mut rows = select.query([]).map_err(unavailable)?;
    while let Some(row) = rows.next().map_err(unavailable)? {
        let exposure = exposure(row).map_err(unavailable)?;
        stored.exposures.insert((exposure.provider.clone(), exposure.group.clone()), Arc::new(exposure));
    }
    Ok(stored)
}

fn exposure(row: &Row<'_>) -> rusqlite::Result<Exposure> {
    Ok(Exposure { provider: row.get(0)?, group: row.get(1)?, alias: row.get(2)?, hidden: row.get(3)? })
}

fn counter(connection: &Connection, name: &str) -> Result<i64, StoreError> {
    let kept = connection
        .prepare_cached("SELECT value FROM settings WHERE name = ?1")
        .and_then(|mut select| select.query_row(params![name], |row| row.get::<_, i64>(0)).optional())
        .map_err(unavailable)?;
    Ok(kept.unwrap_or_default())
}

fn entries<B: DeserializeOwned>(
    connection: &Connection,
    kind: i64,
) -> Result<BTreeMap<i64, Arc<Entry<B>>>, StoreError> {
    let mut select = connection
        .prepare_cached("SELECT number, key, version, created_at, updated_at, body FROM catalogue WHERE kind = ?1")
        .map_err(unavailable)?;
    let mut rows = select.query(params![kind]).map_err(unavailable)?;
    let mut entries = BTreeMap::new();
    while let Some(row) = rows.next().map_err(unavailable)? {
        let (entry, text) = header(row).map_err(unavailable)?;
        let invalid = |error| StoreError::Invalid(format!("row {} of the catalogue: {error}", entry.number));
        let body = serde_json::from_str(&text).map_err(invalid)?;
        let Entry { number, key, version, created_at, updated_at, body: () } = entry;
        entries.insert(number, Arc::new(Entry { number, key, version, created_at, updated_at, body }));
    }
    Ok(entries)
}

fn header(row: &Row<'_>) -> rusqlite::Result<(Entry<()>, String)> {
    let entry = Entry {
        number: row.get(0)?,
        key: row.get(1)?,
        version: row.get(2)?,
        created_at: Timestamp(row.get(3)?),
        updated_at: Timestamp(row.get(4)?),
        body: (),
    };
    Ok((entry, row.get(5)?))
}

/// Writes what differs. Grants and denies follow a group or role to its new name, since they go by its number; what is gone
/// has none any more.
pub(super) fn write(session: &mut Session<'_>, written: &Written, now: Timestamp) -> Result<(), StoreError> {
    let Written { before, after, renamed, gone } = written;
    if counter(session.connection, "generation")? != before.generation {
        return Err(StoreError::Invalid("the store has changed since; try again".into()));
    }
    write_entries(session, GROUP, &before.groups, &after.groups)?;
    write_entries(session, ROLE, &before.roles, &after.roles)?;
    write_entries(session, MAPPING, &before.mappings, &after.mappings)?;
    write_exposures(session, before, after)?;
    for (name, value) in [("last_number", after.last_number), ("generation", after.generation)] {
        session.run("INSERT OR REPLACE INTO settings (name, value) VALUES (?1, ?2)", &[&name, &value])?;
    }
    for (from, to) in renamed {
        // Receivers know groups by their names.
        session.raise_holders(from, "renamed", now)?;
        rename(session, from, to, now)?;
    }
    gone.iter().try_for_each(|target| retire(session, target, now))
}

fn rename(session: &mut Session<'_>, from: &Target, to: &Target, now: Timestamp) -> Result<(), StoreError> {
    // A deny of the name binds the new one as well.
    session.run(
        "INSERT OR IGNORE INTO denied (kind, name, user_id) SELECT kind, ?3, user_id FROM denied WHERE kind = ?1 AND name = ?2",
        &[&kind_of(from), &from.name(), &to.name()],
    )?;
    // What is left under the new name from something that is gone gives way.
    retire(session, to, now)?;
    let Some(number) = session.state.live.names.number(from) else { return Ok(()) };
    session.run("UPDATE targets SET name = ?2 WHERE number = ?1", &[&number, &to.name()])?;
    session.state.live.names.insert(number, to.clone(), false);
    session.state.changed();
    Ok(())
}

/// The number of a target is nothing's any more.
fn retire(session: &mut Session<'_>, target: &Target, now: Timestamp) -> Result<(), StoreError> {
    let Some(number) = session.state.live.names.number(target) else { return Ok(()) };
    session.raise_holders(target, "removed", now)?;
    session.run("UPDATE targets SET gone = 1 WHERE number = ?1", &[&number])?;
    for table in ["holdings", "given", "guards"] {
        session.run(&format!("DELETE FROM {table} WHERE kind = ?1 AND target = ?2"), &[&kind_of(target), &number])?;
    }
    session.state.live.names.insert(number, target.clone(), true);
    session.state.given.retain(|(_, _, of)| *of != number);
    session.state.changed();
    Ok(())
}

fn write_entries<B: Serialize>(
    session: &Session<'_>,
    kind: i64,
    before: &BTreeMap<i64, Arc<Entry<B>>>,
    after: &BTreeMap<i64, Arc<Entry<B>>>,
) -> Result<(), StoreError> {
    for number in before.keys().filter(|number| !after.contains_key(number)) {
        session.run("DELETE FROM catalogue WHERE number = ?1", &[number])?;
    }
    for (number, entry) in after {
        if before.get(number).is_some_and(|old| Arc::ptr_eq(old, entry)) {
            continue;
        }
        let body = serde_json::to_string(&entry.body).map_err(|error| StoreError::Invalid(error.to_string()))?;
        session.run(
            "INSERT INTO catalogue (number, kind, key, version, created_at, updated_at, body)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT (number) DO UPDATE SET version = ?4, updated_at = ?6, body = ?7",
            &[number, &kind, &entry.key, &entry.version, &entry.created_at.0, &entry.updated_at.0, &body],
        )?;
    }
    Ok(())
}

fn write_exposures(session: &Session<'_>, before: &Stored, after: &Stored) -> Result<(), StoreError> {
    for (provider, group) in before.exposures.keys().filter(|key| !after.exposures.contains_key(*key)) {
        session.run("DELETE FROM exposures WHERE provider = ?1 AND group_name = ?2", &[provider, group])?;
    }
    for (key, exposure) in &after.exposures {
        if before.exposures.get(key).is_some_and(|old| Arc::ptr_eq(old, exposure)) {
            continue;
        }
        session.run(
            "INSERT INTO exposures (provider, group_name, alias, hidden) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (provider, group_name) DO UPDATE SET alias = ?3, hidden = ?4",
            &[&exposure.provider, &exposure.group, &exposure.alias, &exposure.hidden],
        )?;
    }
    Ok(())
}
