//! What the mapping APIs have made, in PostgreSQL: read whole, written by its differences.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::super::StoreError;
use super::super::rows::kind_of;
use super::facts::Look;
use super::pipe::{Failed, Pipe, Statement, get, values};
use super::{PgStore, Shared, clients, outbox, settings};
use crate::pipeline::decision::Written;
use crate::pipeline::ids::{Target, Timestamp};
use crate::pipeline::mapping::stored::{Entry, Exposure, Stored};
use crate::pipeline::record::names::Names;
use crate::ports::BoxFuture;
use crate::ports::catalogue::{AccessToken, ApiClient, Catalogue, ClientView};
use crate::ports::sessions::Digest;

const GROUP: i64 = 0;
const ROLE: i64 = 1;
const MAPPING: i64 = 2;

impl Catalogue for Shared {
    fn stored(&self) -> BoxFuture<'_, Result<Stored, StoreError>> {
        self.look(move |look| async move { Ok((stored(&look).await?, look)) })
    }

    fn client(&self, secret: Digest) -> BoxFuture<'_, Result<Option<ApiClient>, StoreError>> {
        self.read(move |store| async move { clients::client(&store, secret).await })
    }

    fn clients(&self) -> BoxFuture<'_, Result<Vec<ClientView>, StoreError>> {
        self.read(move |store| async move { clients::all(&store).await })
    }

    fn add_client(&self, client: ApiClient, by: String, now: Timestamp) -> BoxFuture<'_, Result<(), StoreError>> {
        self.run(move |store| async move { clients::add(&store, &client, &by, now).await })
    }

    fn revoke_client(&self, name: String, by: String, now: Timestamp) -> BoxFuture<'_, Result<(), StoreError>> {
        self.run(move |store| async move { clients::revoke(&store, &name, &by, now).await })
    }

    fn add_token(&self, token: AccessToken, replaces: Option<Digest>) -> BoxFuture<'_, Result<bool, StoreError>> {
        self.run(move |store| async move { clients::add_token(&store, &token, replaces).await })
    }

    fn token(&self, token: Digest, now: Timestamp) -> BoxFuture<'_, Result<Option<AccessToken>, StoreError>> {
        self.read(move |store| async move { clients::token(&store, token, now).await })
    }

    fn refreshed(&self, refresh: Digest) -> BoxFuture<'_, Result<Option<AccessToken>, StoreError>> {
        self.read(move |store| async move { clients::refreshed(&store, refresh).await })
    }

    fn end_token(&self, token: Digest, client: Digest) -> BoxFuture<'_, Result<bool, StoreError>> {
        self.run(move |store| async move { clients::end_token(&store, token, client).await })
    }
}

pub(super) async fn stored(look: &Look) -> Result<Stored, Failed> {
    let mut stored = Stored {
        generation: counter(&look.pipe, "generation").await?,
        last_number: counter(&look.pipe, "last_number").await?,
        groups: entries(&look.pipe, GROUP).await?,
        roles: entries(&look.pipe, ROLE).await?,
        mappings: entries(&look.pipe, MAPPING).await?,
        exposures: BTreeMap::new(),
    };
    for row in look.pipe.rows("SELECT provider, group_name, alias, hidden FROM loginsync.exposures", &[]).await? {
        let exposure =
            Exposure { provider: get(&row, 0)?, group: get(&row, 1)?, alias: get(&row, 2)?, hidden: get(&row, 3)? };
        stored.exposures.insert((exposure.provider.clone(), exposure.group.clone()), Arc::new(exposure));
    }
    Ok(stored)
}

async fn counter(pipe: &Pipe, name: &str) -> Result<i64, Failed> {
    let row = pipe.row("SELECT value FROM loginsync.settings WHERE name = $1", &values![name]).await?;
    let Some(row) = row else { return Ok(0) };
    let digits: Option<i64> = std::str::from_utf8(get(&row, 0)?).ok().and_then(|digits| digits.parse().ok());
    Ok(digits.ok_or_else(|| StoreError::Invalid(format!("the setting `{name}` is not a number")))?)
}

async fn entries<B: DeserializeOwned>(pipe: &Pipe, kind: i64) -> Result<BTreeMap<i64, Arc<Entry<B>>>, Failed> {
    let of = "SELECT number, key, version, created_at, updated_at, body FROM loginsync.catalogue WHERE kind = $1";
    let mut entries = BTreeMap::new();
    for row in pipe.rows(of, &values![kind]).await? {
        let number: i64 = get(&row, 0)?;
        let invalid = |error| StoreError::Invalid(format!("row {number} of the catalogue: {error}"));
        let entry = Entry {
            number,
            key: get(&row, 1)?,
            version: get(&row, 2)?,
            created_at: Timestamp(get(&row, 3)?),
            updated_at: Timestamp(get(&row, 4)?),
            body: serde_json::from_str(get(&row, 5)?).map_err(invalid)?,
        };
        entries.insert(number, Arc::new(entry));
    }
    Ok(entries)
}

fn statement(text: &'static str, values: Vec<super::pipe::Value>) -> Statement {
    Statement { text: text.into(), values }
}

/// Writes what differs. Grants and denies follow a group or role to its new name, since they go by its number; what is gone
/// has none any more.
pub(super) async fn write(
    store: &PgStore,
    pipe: &Pipe,
    written: &Written,
    names: &Names,
    now: Timestamp,
) -> Result<Vec<Statement>, Failed> {
    let Written { before, after, renamed, gone } = written;
    if counter(pipe, "generation").await? != before.generation {
        return Err(Failed::Store(StoreError::Invalid("the store has changed since; try again".into())));
    }
    let mut statements = Vec::new();
    if before.generation > 0 {
        // It may have changed since that look.
        statements.push(statement(
            "SELECT 1 / count(*) FROM loginsync.settings WHERE name = 'generation' AND value = $1",
            values![before.generation.to_string().into_bytes()],
        ));
    } else {
        statements.push(statement(
            "SELECT 1 / (CASE WHEN EXISTS (SELECT 1 FROM loginsync.settings WHERE name = 'generation' AND value <> '0')
                         THEN 0 ELSE 1 END)",
            Vec::new(),
        ));
    }
    entries_written(GROUP, &before.groups, &after.groups, &mut statements)?;
    entries_written(ROLE, &before.roles, &after.roles, &mut statements)?;
    entries_written(MAPPING, &before.mappings, &after.mappings, &mut statements)?;
    exposures_written(before, after, &mut statements);
    for (name, value) in [("last_number", after.last_number), ("generation", after.generation)] {
        statements.push(settings::set(name, value.to_string().into_bytes()));
    }
    // Names as they become, one rename after another.
    let (mut names, round) = (names.clone(), store.round());
    for (from, to) in renamed {
        // Receivers know groups by their names.
        statements.extend(outbox::raise_holders(round, from, &names, "renamed", now));
        statements.push(statement(
            "INSERT INTO loginsync.denied (kind, name, user_id)
             SELECT kind, $3, user_id FROM loginsync.denied WHERE kind = $1 AND name = $2 ON CONFLICT DO NOTHING",
            values![kind_of(from), from.name(), to.name()],
        ));
        // What is left under the new name from something that is gone gives way.
        retire(to, &mut names, (round, now), &mut statements);
        if let Some(number) = names.number(from) {
            statements.push(statement(
                "UPDATE loginsync.targets SET name = $2 WHERE number = $1",
                values![number, to.name()],
            ));
            names.insert(number, to.clone(), false);
        }
    }
    gone.iter().for_each(|target| retire(target, &mut names, (round, now), &mut statements));
    Ok(statements)
}

/// The number of a target is nothing's any more.
fn retire(target: &Target, names: &mut Names, (round, now): (i64, Timestamp), statements: &mut Vec<Statement>) {
    let Some(number) = names.number(target) else { return };
    statements.extend(outbox::raise_holders(round, target, names, "removed", now));
    statements.push(statement("UPDATE loginsync.targets SET gone = true WHERE number = $1", values![number]));
    for table in ["holdings", "guards"] {
        statements.push(Statement {
            text: format!("DELETE FROM loginsync.{table} WHERE kind = $1 AND target = $2").into(),
            values: values![kind_of(target), number],
        });
    }
    names.insert(number, target.clone(), true);
}

fn entries_written<B: Serialize>(
    kind: i64,
    before: &BTreeMap<i64, Arc<Entry<B>>>,
    after: &BTreeMap<i64, Arc<Entry<B>>>,
    statements: &mut Vec<Statement>,
) -> Result<(), StoreError> {
    for number in before.keys().filter(|number| !after.contains_key(number)) {
        statements.push(statement("DELETE FROM loginsync.catalogue WHERE number = $1", values![*number]));
    }
    for (number, entry) in after {
        if before.get(number).is_some_and(|old| Arc::ptr_eq(old, entry)) {
            continue;
        }
        let body = serde_json::to_string(&entry.body).map_err(|error| StoreError::Invalid(error.to_string()))?;
        statements.push(statement(
            "INSERT INTO loginsync.catalogue (number, kind, key, version, created_at, updated_at, body)
             VALUES ($1, $2, $3, $4, $5, $6, $7)
             ON CONFLICT (number) DO UPDATE SET version = $4, updated_at = $6, body = $7",
            values![*number, kind, entry.key.as_str(), entry.version, entry.created_at.0, entry.updated_at.0, body,],
        ));
    }
    Ok(())
}

fn exposures_written(before: &Stored, after: &Stored, statements: &mut Vec<Statement>) {
    for (provider, group) in before.exposures.keys().filter(|key| !after.exposures.contains_key(*key)) {
        statements.push(statement(
            "DELETE FROM loginsync.exposures WHERE provider = $1 AND group_name = $2",
            values![provider.as_str(), group.as_str()],
        ));
    }
    for (key, exposure) in &after.exposures {
        if before.exposures.get(key).is_some_and(|old| Arc::ptr_eq(old, exposure)) {
            continue;
        }
        statements.push(statement(
            "INSERT INTO loginsync.exposures (provider, group_name, alias, hidden) VALUES ($1, $2, $3, $4)
             ON CONFLICT (provider, group_name) DO UPDATE SET alias = $3, hidden = $4",
            values![exposure.provider.as_str(), exposure.group.as_str(), exposure.alias.clone(), exposure.hidden],
        ));
    }
}
