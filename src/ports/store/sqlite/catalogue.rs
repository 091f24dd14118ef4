//! What the mapping APIs have made, in SQLite: read whole, written by its differences.

use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::super::{Act, Adopted, By, Excess, StoreError};
use super::{
    Session, SqliteStore, act, audit, brake, clients, confirmed, denies, find, kind_of, unavailable, user_row,
};
use crate::pipeline::decision::recorded;
use crate::pipeline::ids::{Namespace, ProviderName, Subject, Target, Timestamp, UserId};
use crate::pipeline::mapping::stored::{Entry, Exposure, Stored, removed_targets};
use crate::pipeline::mapping::{Mode, RuleSet};
use crate::ports::BoxFuture;
use crate::ports::catalogue::{
    AccessToken, ApiClient, Catalogue, ClientView, Confirmation, Found, Person, RecordedClaims, Revision, Search,
};
use crate::ports::sessions::Digest;

const GROUP: i64 = 0;
const ROLE: i64 = 1;
const MAPPING: i64 = 2;

impl Catalogue for SqliteStore {
    fn stored(&self) -> BoxFuture<'_, Result<Stored, StoreError>> {
        Box::pin(self.read(stored))
    }

    fn revise(&self, revision: Revision) -> BoxFuture<'_, Result<Adopted, StoreError>> {
        Box::pin(self.write(move |session| revise(session, &revision)))
    }

    fn act_all(&self, acts: Vec<(UserId, Act)>, by: By, now: Timestamp) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let erases = acts.iter().any(|(_, act)| matches!(act, Act::Erase | Act::Forget));
            let each = move |session: &mut Session<'_>| {
                acts.iter().try_for_each(|(user, act)| act::act(session, user, act, &by, now))
            };
            self.write(each).await?;
            if erases { self.truncate_log().await } else { Ok(()) }
        })
    }

    fn client(&self, secret: Digest) -> BoxFuture<'_, Result<Option<ApiClient>, StoreError>> {
        Box::pin(self.read(move |connection| clients::client(connection, secret)))
    }

    fn clients(&self) -> BoxFuture<'_, Result<Vec<ClientView>, StoreError>> {
        Box::pin(self.read(clients::all))
    }

    fn add_client(&self, client: ApiClient, by: String, now: Timestamp) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.write(move |session| clients::add(session, &client, &by, now)))
    }

    fn confirm_client(
        &self,
        name: String,
        confirmation: Confirmation,
        by: String,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.write(move |session| confirmed::note(session, &name, confirmation, &by, now)))
    }

    fn revoke_client(&self, name: String, by: String, now: Timestamp) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.write(move |session| clients::revoke(session, &name, &by, now)))
    }

    fn add_token(&self, token: AccessToken, replaces: Option<Digest>) -> BoxFuture<'_, Result<bool, StoreError>> {
        Box::pin(self.write(move |session| clients::add_token(session, &token, replaces)))
    }

    fn token(&self, token: Digest, now: Timestamp) -> BoxFuture<'_, Result<Option<AccessToken>, StoreError>> {
        Box::pin(self.read(move |connection| clients::token(connection, token, now)))
    }

    fn refreshed(&self, refresh: Digest) -> BoxFuture<'_, Result<Option<AccessToken>, StoreError>> {
        Box::pin(self.read(move |connection| clients::refreshed(connection, refresh)))
    }

    fn end_token(&self, token: Digest, client: Digest) -> BoxFuture<'_, Result<bool, StoreError>> {
        Box::pin(self.write(move |session| clients::end_token(session, token, client)))
    }

    fn people(&self, after: i64, limit: usize) -> BoxFuture<'_, Result<Vec<Person>, StoreError>> {
        Box::pin(self.read(move |connection| people(connection, after, limit)))
    }

    fn recorded(&self, user: UserId, rules: Arc<RuleSet>) -> BoxFuture<'_, Result<Vec<RecordedClaims>, StoreError>> {
        Box::pin(self.read(move |connection| recorded_claims(connection, &user, &rules)))
    }

    fn find(&self, search: Search) -> BoxFuture<'_, Result<Found, StoreError>> {
        Box::pin(self.read_aside(move |connection| find::find(connection, &search)))
    }

    fn logins(&self, number: i64) -> BoxFuture<'_, Result<Vec<(String, Timestamp)>, StoreError>> {
        Box::pin(self.read(move |connection| find::logins(connection, number)))
    }

    fn person(&self, number: i64) -> BoxFuture<'_, Result<Option<Person>, StoreError>> {
        Box::pin(self.read(move |connection| person(connection, number)))
    }
}

pub(super) fn stored(connection: &Connection) -> Result<Stored, StoreError> {
    // One moment for all tables: between two statements a writer could commit.
    let snapshot = connection.unchecked_transaction().map_err(unavailable)?;
    let mut stored = Stored {
        generation: counter(&snapshot, "generation")?,
        last_number: counter(&snapshot, "last_number")?,
        groups: entries(&snapshot, GROUP)?,
        roles: entries(&snapshot, ROLE)?,
        mappings: entries(&snapshot, MAPPING)?,
        exposures: BTreeMap::new(),
    };
    let mut select =
        snapshot.prepare("SELECT provider, group_name, alias, hidden FROM exposures").map_err(unavailable)?;
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

fn set_counter(session: &Session<'_>, name: &str, value: i64) -> Result<(), StoreError> {
    run(
        session,
        "INSERT INTO settings (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = ?2",
        &[&name, &value],
    )
}

fn run(session: &Session<'_>, statement: &str, values: &[&dyn rusqlite::ToSql]) -> Result<(), StoreError> {
    session
        .connection
        .prepare_cached(statement)
        .and_then(|mut prepared| prepared.execute(values))
        .map_err(unavailable)?;
    Ok(())
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

/// Writes what differs, then does to grants what the new rules do to them.
fn revise(session: &mut Session<'_>, revision: &Revision) -> Result<Adopted, StoreError> {
    let Revision { before, after, renamed, rules, confirmed: is_confirmed, client, events, now } = revision;
    if counter(session.connection, "generation")? != before.generation {
        return Err(StoreError::Invalid("the store was changed by somebody else meanwhile; try again".into()));
    }
    write_entries(session, GROUP, &before.groups, &after.groups)?;
    write_entries(session, ROLE, &before.roles, &after.roles)?;
    write_entries(session, MAPPING, &before.mappings, &after.mappings)?;
    write_exposures(session, before, after)?;
    set_counter(session, "last_number", after.last_number)?;
    set_counter(session, "generation", after.generation)?;
    for (from, to) in renamed {
        rename(session, from, to)?;
    }
    let adopted = match rules {
        Some(rules) => {
            let removed = removed_targets(before, after);
            let moved: Vec<Target> =
                removed.into_iter().filter(|target| !renamed.iter().any(|(from, _)| from == target)).collect();
            match adopt(session, &moved, rules, *is_confirmed, *now) {
                // Nothing was written by it yet.
                Err(StoreError::Braked(_)) => {
                    let excesses = all_losses(session, &moved, rules)?;
                    let losing = excesses.iter().map(|excess| excess.losing).sum();
                    let spend = |client: &String| confirmed::spend(session, client, losing, *now);
                    match client.as_ref().map(spend).transpose()? {
                        Some(true) => adopt(session, &moved, rules, true, *now)?,
                        _ => return Err(StoreError::Braked(excesses)),
                    }
                }
                other => other?,
            }
        }
        None => Adopted::default(),
    };
    for event in events {
        audit::append(session, *now, event.event, &event.detail, None)?;
    }
    Ok(adopted)
}

fn adopt(
    session: &mut Session<'_>,
    removed: &[Target],
    rules: &RuleSet,
    confirmed: bool,
    now: Timestamp,
) -> Result<Adopted, StoreError> {
    let mut excesses = Vec::new();
    if rules.sync.mode != Mode::Shadow && !confirmed {
        for target in removed {
            excesses.extend(losses(session, target, rules)?);
        }
    }
    if !excesses.is_empty() {
        return Err(StoreError::Braked(excesses));
    }
    let adopted = act::adopt_changed(session, rules, confirmed, now)?;
    for target in removed {
        let key: [&dyn rusqlite::ToSql; 2] = [&kind_of(target), &target.name()];
        // A deny stays, and binds what bears the name later.
        denies::note_kept(session, target, now)?;
        for table in ["grants", "brakes"] {
            run(session, &format!("DELETE FROM {table} WHERE kind = ?1 AND name = ?2"), &key)?;
        }
    }
    Ok(adopted)
}

/// All that a change revokes over the brake's limit, each membership once: with a group go the mappings to it.
fn all_losses(session: &Session<'_>, removed: &[Target], rules: &RuleSet) -> Result<Vec<Excess>, StoreError> {
    let mut excesses = act::excesses(session.connection, rules)?;
    excesses.retain(|excess| !removed.contains(&excess.target));
    for target in removed {
        excesses.extend(losses(session, target, rules)?);
    }
    Ok(excesses)
}

/// What the end of a group or role takes from more members than the brake lets pass.
fn losses(session: &Session<'_>, target: &Target, rules: &RuleSet) -> Result<Vec<Excess>, StoreError> {
    let mut select = session
        .connection
        .prepare_cached("SELECT DISTINCT provider FROM grants WHERE kind = ?1 AND name = ?2 AND provider <> ''")
        .map_err(unavailable)?;
    let providers: Vec<String> = select
        .query_map(params![kind_of(target), target.name()], |row| row.get(0))
        .and_then(Iterator::collect)
        .map_err(unavailable)?;
    let mut excesses = Vec::new();
    for provider in providers {
        let provider = ProviderName::parse(&provider).map_err(|error| StoreError::Invalid(error.to_string()))?;
        let members = brake::members(session.connection, &provider, target)?;
        let allowed = rules.sync.brake.allowed(members);
        if members > allowed {
            excesses.push(Excess {
                provider: Some(provider),
                target: target.clone(),
                losing: members,
                members,
                allowed,
            });
        }
    }
    Ok(excesses)
}

fn write_entries<B: Serialize>(
    session: &Session<'_>,
    kind: i64,
    before: &BTreeMap<i64, Arc<Entry<B>>>,
    after: &BTreeMap<i64, Arc<Entry<B>>>,
) -> Result<(), StoreError> {
    for number in before.keys().filter(|number| !after.contains_key(number)) {
        run(session, "DELETE FROM catalogue WHERE number = ?1", &[number])?;
    }
    for (number, entry) in after {
        if before.get(number).is_some_and(|old| Arc::ptr_eq(old, entry)) {
            continue;
        }
        let body = serde_json::to_string(&entry.body).map_err(|error| StoreError::Invalid(error.to_string()))?;
        run(
            session,
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
        run(session, "DELETE FROM exposures WHERE provider = ?1 AND group_name = ?2", &[provider, group])?;
    }
    for (key, exposure) in &after.exposures {
        if before.exposures.get(key).is_some_and(|old| Arc::ptr_eq(old, exposure)) {
            continue;
        }
        run(
            session,
            "INSERT INTO exposures (provider, group_name, alias, hidden) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (provider, group_name) DO UPDATE SET alias = ?3, hidden = ?4",
            &[&exposure.provider, &exposure.group, &exposure.alias, &exposure.hidden],
        )?;
    }
    Ok(())
}

fn rename(session: &Session<'_>, from: &Target, to: &Target) -> Result<(), StoreError> {
    denies::follow(session, from, to)?;
    for table in ["grants", "brakes"] {
        // What is left under the new name from a group that is gone gives way.
        let statement = format!("UPDATE OR REPLACE {table} SET name = ?3 WHERE kind = ?1 AND name = ?2");
        run(session, &statement, &[&kind_of(from), &from.name(), &to.name()])?;
    }
    Ok(())
}

// ------------------------------------------------------------------------------------------------------------- people

const PERSON: &str = "
    SELECT id, namespace, subject, email, display_name, disabled_at IS NULL,
           (SELECT max(last_login_at) FROM watermarks WHERE user_id = id)
    FROM users";

fn people(connection: &Connection, after: i64, limit: usize) -> Result<Vec<Person>, StoreError> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut select =
        connection.prepare_cached(&format!("{PERSON} WHERE id > ?1 ORDER BY id LIMIT ?2")).map_err(unavailable)?;
    let rows: Vec<_> =
        select.query_map(params![after, limit], read_person).and_then(Iterator::collect).map_err(unavailable)?;
    rows.into_iter().collect()
}

fn person(connection: &Connection, number: i64) -> Result<Option<Person>, StoreError> {
    connection
        .prepare_cached(&format!("{PERSON} WHERE id = ?1"))
        .and_then(|mut select| select.query_row(params![number], read_person).optional())
        .map_err(unavailable)?
        .transpose()
}

pub(super) fn read_person(row: &Row<'_>) -> rusqlite::Result<Result<Person, StoreError>> {
    let (namespace, subject): (String, String) = (row.get(1)?, row.get(2)?);
    let user = Namespace::parse(&namespace)
        .and_then(|namespace| Ok(UserId { namespace, subject: Subject::parse(&subject)? }))
        .map_err(|error| StoreError::Invalid(error.to_string()));
    let (number, email, display_name) = (row.get(0)?, row.get(3)?, row.get(4)?);
    let (enabled, last_login_at) = (row.get(5)?, row.get::<_, Option<i64>>(6)?.map(Timestamp));
    Ok(user.map(|user| Person { number, user, email, display_name, enabled, last_login_at }))
}

fn recorded_claims(connection: &Connection, user: &UserId, rules: &RuleSet) -> Result<Vec<RecordedClaims>, StoreError> {
    let Some(row) = user_row(connection, user)? else { return Ok(Vec::new()) };
    let mut select = connection
        .prepare_cached("SELECT provider, claims FROM recorded_claims WHERE user_id = ?1 ORDER BY provider")
        .map_err(unavailable)?;
    let rows: Vec<(String, String)> = select
        .query_map(params![row], |row| Ok((row.get(0)?, row.get(1)?)))
        .and_then(Iterator::collect)
        .map_err(unavailable)?;
    let read = |(provider, text): (String, String)| {
        let provider = ProviderName::parse(&provider).map_err(|error| StoreError::Invalid(error.to_string()))?;
        let claims =
            recorded::read(&text, user, &provider, rules).map_err(|why| StoreError::Invalid(why.to_string()))?;
        Ok((provider, claims))
    };
    rows.into_iter().map(read).collect()
}
