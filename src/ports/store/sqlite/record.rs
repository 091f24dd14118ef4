//! Records of users in rows: read whole, and written as the difference between two.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::super::StoreError;
use super::{NEXT_USER, Session, kind_of, target_of, unavailable};
use crate::pipeline::ids::{MappingId, ProviderName, Target, Timestamp, UserId};
use crate::pipeline::plan::{Grant, Source};
use crate::pipeline::record::{Deny, Disabled, Holding, ProviderLogin, Record, Stopped};

/// The number and the record of a user.
pub(super) fn read(connection: &Connection, user: &UserId) -> Result<Option<(i64, Record)>, StoreError> {
    let found = connection
        .prepare_cached(
            "SELECT id, email, display_name, created_at, disabled_at, disabled_by, disabled_label,
                    stopped_by, stopped_label, stopped_through, stopped_at
             FROM users WHERE namespace = ?1 AND subject = ?2",
        )
        .and_then(|mut select| {
            let key = params![user.namespace.as_str(), user.subject.as_str()];
            select.query_row(key, |row| Ok((row.get(0)?, read_user(row)?))).optional()
        })
        .map_err(unavailable)?;
    let Some((number, mut record)) = found else { return Ok(None) };
    read_holdings(connection, number, &mut record)?;
    read_denies(connection, number, &mut record)?;
    read_logins(connection, number, &mut record)?;
    Ok(Some((number, record)))
}

fn read_user(row: &Row<'_>) -> rusqlite::Result<Record> {
    let mut record = Record::new(Timestamp(row.get(3)?));
    record.email = row.get(1)?;
    record.display_name = row.get(2)?;
    record.disabled = read_disabled(row, 4)?;
    if let (Some(at), Some(mapping)) = (row.get::<_, Option<i64>>(10)?, row.get::<_, Option<[u8; 16]>>(7)?) {
        let through: Option<String> = row.get(9)?;
        record.stopped = Some(Stopped {
            mapping: MappingId(mapping),
            label: row.get::<_, Option<String>>(8)?.unwrap_or_default(),
            provider: through.and_then(|name| ProviderName::parse(&name).ok()),
            at: Timestamp(at),
        });
    }
    Ok(record)
}

/// Reads when, by which mapping and under which label, from the given column on.
pub(super) fn read_disabled(row: &Row<'_>, first: usize) -> rusqlite::Result<Option<Disabled>> {
    let Some(at) = row.get::<_, Option<i64>>(first)? else { return Ok(None) };
    let mapping: Option<[u8; 16]> = row.get(first + 1)?;
    let label: Option<String> = row.get(first + 2)?;
    let by = mapping.map(|mapping| (MappingId(mapping), label.unwrap_or_default()));
    Ok(Some(Disabled { at: Timestamp(at), by }))
}

fn read_holdings(connection: &Connection, number: i64, record: &mut Record) -> Result<(), StoreError> {
    let mut select = connection
        .prepare_cached(
            "SELECT kind, name, provider, mapping, granted_at, granted_by, as_admin, lease_from, held_at FROM grants
             WHERE user_id = ?1",
        )
        .map_err(unavailable)?;
    let mut rows = select.query(params![number]).map_err(unavailable)?;
    while let Some(row) = rows.next().map_err(unavailable)? {
        let grant = read_grant(row, 0)?;
        record.holdings.insert(grant, read_holding(row).map_err(unavailable)?);
    }
    Ok(())
}

fn read_holding(row: &Row<'_>) -> rusqlite::Result<Holding> {
    let moment = |at: usize| row.get::<_, Option<i64>>(at).map(|at| at.map(Timestamp));
    Ok(Holding {
        granted_at: Timestamp(row.get(4)?),
        granted_by: row.get(5)?,
        as_admin: row.get(6)?,
        lease_from: moment(7)?,
        held_at: moment(8)?,
    })
}

/// Reads kind, name, provider and mapping, from the given column on.
pub(super) fn read_grant(row: &Row<'_>, first: usize) -> Result<Grant, StoreError> {
    let text = |at: usize| row.get_ref(first + at).ok().and_then(|value| value.as_str().ok()).unwrap_or_default();
    let target = target_of(row.get(first).map_err(unavailable)?, text(1))?;
    let source = match text(2) {
        "" => Source::Assigned,
        provider => Source::Mapped {
            provider: provider_of(provider)?,
            mapping: MappingId(row.get(first + 3).map_err(unavailable)?),
        },
    };
    Ok(Grant { target, source })
}

pub(super) fn provider_of(name: &str) -> Result<ProviderName, StoreError> {
    ProviderName::parse(name).map_err(|error| StoreError::Invalid(error.to_string()))
}

fn read_denies(connection: &Connection, number: i64, record: &mut Record) -> Result<(), StoreError> {
    let mut select = connection
        .prepare_cached("SELECT kind, name, denied_at, denied_by, reason, until FROM denies WHERE user_id = ?1")
        .map_err(unavailable)?;
    let mut rows = select.query(params![number]).map_err(unavailable)?;
    while let Some(row) = rows.next().map_err(unavailable)? {
        let name: String = row.get(1).map_err(unavailable)?;
        let target = target_of(row.get(0).map_err(unavailable)?, &name)?;
        let deny = Deny {
            at: Timestamp(row.get(2).map_err(unavailable)?),
            by: row.get(3).map_err(unavailable)?,
            reason: row.get(4).map_err(unavailable)?,
            until: row.get::<_, Option<i64>>(5).map_err(unavailable)?.map(Timestamp),
        };
        record.denies.insert(target, deny);
    }
    Ok(())
}

fn read_logins(connection: &Connection, number: i64, record: &mut Record) -> Result<(), StoreError> {
    let mut select = connection
        .prepare_cached(
            "SELECT provider, issued_at, last_login_at, renewed_at, claims_digest FROM watermarks WHERE user_id = ?1",
        )
        .map_err(unavailable)?;
    let mut rows = select.query(params![number]).map_err(unavailable)?;
    while let Some(row) = rows.next().map_err(unavailable)? {
        let provider: String = row.get(0).map_err(unavailable)?;
        let login = ProviderLogin {
            issued_at: Timestamp(row.get(1).map_err(unavailable)?),
            last_login_at: Timestamp(row.get(2).map_err(unavailable)?),
            renewed_at: row.get::<_, Option<i64>>(3).map_err(unavailable)?.map(Timestamp),
            claims_digest: row.get(4).map_err(unavailable)?,
        };
        record.logins.insert(provider_of(&provider)?, login);
    }
    Ok(())
}

/// Writes what changed since a record was read. Returns the user's number.
pub(super) fn write(
    session: &Session<'_>,
    user: &UserId,
    before: Option<(i64, &Record)>,
    after: &Record,
) -> Result<i64, StoreError> {
    let nothing = Record::new(after.created_at);
    let (number, before) = match before {
        Some(before) => before,
        None => (insert(session, user, after)?, &nothing),
    };
    let it = Difference { session, number };
    let is_same_person = before.email == after.email && before.display_name == after.display_name;
    if !is_same_person || before.disabled != after.disabled || before.stopped != after.stopped {
        it.user(after)?;
    }
    it.each(&before.holdings, &after.holdings, |grant, holding| it.holding(grant, holding))?;
    it.each(&before.denies, &after.denies, |target, deny| it.deny(target, deny))?;
    it.each(&before.logins, &after.logins, |provider, login| it.login(provider, login))?;
    Ok(number)
}

/// Adds a row for a user, under a number that no user had before.
fn insert(session: &Session<'_>, user: &UserId, record: &Record) -> Result<i64, StoreError> {
    session
        .connection
        .prepare_cached(&format!(
            "INSERT INTO users (id, namespace, subject, created_at) VALUES ({NEXT_USER}, ?1, ?2, ?3)"
        ))
        .and_then(|mut insert| {
            insert.insert(params![user.namespace.as_str(), user.subject.as_str(), record.created_at.0])
        })
        .map_err(unavailable)
}

struct Difference<'a> {
    session: &'a Session<'a>,
    number: i64,
}

impl Difference<'_> {
    fn run(&self, statement: &str, values: &[&dyn rusqlite::ToSql]) -> Result<(), StoreError> {
        self.session
            .connection
            .prepare_cached(statement)
            .and_then(|mut prepared| prepared.execute(values))
            .map_err(unavailable)?;
        Ok(())
    }

    /// Calls `write` for each entry that came, went (`None`) or changed.
    fn each<K: Ord, V: PartialEq>(
        &self,
        before: &BTreeMap<K, V>,
        after: &BTreeMap<K, V>,
        write: impl Fn(&K, Option<&V>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        for key in before.keys().filter(|key| !after.contains_key(key)) {
            write(key, None)?;
        }
        for (key, value) in after.iter().filter(|(key, value)| before.get(key) != Some(value)) {
            write(key, Some(value))?;
        }
        Ok(())
    }

    fn user(&self, record: &Record) -> Result<(), StoreError> {
        let by = record.disabled.as_ref().and_then(|disabled| disabled.by.as_ref());
        let stopped = record.stopped.as_ref();
        self.run(
            "UPDATE users SET email = ?2, display_name = ?3, disabled_at = ?4, disabled_by = ?5, disabled_label = ?6,
                              stopped_by = ?7, stopped_label = ?8, stopped_through = ?9, stopped_at = ?10
             WHERE id = ?1",
            &[
                &self.number,
                &record.email,
                &record.display_name,
                &record.disabled.as_ref().map(|disabled| disabled.at.0),
                &by.map(|(mapping, _)| mapping.0),
                &by.map(|(_, label)| label),
                &stopped.map(|stopped| stopped.mapping.0),
                &stopped.map(|stopped| &stopped.label),
                &stopped.and_then(|stopped| stopped.provider.as_ref()).map(ProviderName::as_str),
                &stopped.map(|stopped| stopped.at.0),
            ],
        )
    }

    fn holding(&self, Grant { target, source }: &Grant, holding: Option<&Holding>) -> Result<(), StoreError> {
        let (provider, mapping): (&str, &[u8]) = match source {
            Source::Assigned => ("", &[]),
            Source::Mapped { provider, mapping } => (provider.as_str(), &mapping.0),
        };
        let (kind, name) = (kind_of(target), target.name());
        let Some(holding) = holding else {
            return self.run(
                "DELETE FROM grants WHERE user_id = ?1 AND kind = ?2 AND name = ?3 AND provider = ?4 AND mapping = ?5",
                &[&self.number, &kind, &name, &provider, &mapping],
            );
        };
        let Holding { granted_at, granted_by, as_admin, lease_from, held_at } = holding;
        self.run(
            "INSERT INTO grants
                 (user_id, kind, name, provider, mapping, granted_at, granted_by, as_admin, lease_from, held_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
             ON CONFLICT (user_id, kind, name, provider, mapping) DO UPDATE
             SET granted_at = ?6, granted_by = ?7, as_admin = ?8, lease_from = ?9, held_at = ?10",
            &[
                &self.number,
                &kind,
                &name,
                &provider,
                &mapping,
                &granted_at.0,
                granted_by,
                as_admin,
                &lease_from.map(|at| at.0),
                &held_at.map(|at| at.0),
            ],
        )
    }

    fn deny(&self, target: &Target, deny: Option<&Deny>) -> Result<(), StoreError> {
        let (kind, name) = (kind_of(target), target.name());
        let Some(Deny { at, by, reason, until }) = deny else {
            let statement = "DELETE FROM denies WHERE user_id = ?1 AND kind = ?2 AND name = ?3";
            return self.run(statement, &[&self.number, &kind, &name]);
        };
        self.run(
            "INSERT INTO denies (user_id, kind, name, denied_at, denied_by, reason, until)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT (user_id, kind, name) DO UPDATE
             SET denied_at = ?4, denied_by = ?5, reason = ?6, until = ?7",
            &[&self.number, &kind, &name, &at.0, by, reason, &until.map(|until| until.0)],
        )
    }

    fn login(&self, provider: &ProviderName, login: Option<&ProviderLogin>) -> Result<(), StoreError> {
        let Some(ProviderLogin { issued_at, last_login_at, renewed_at, claims_digest }) = login else {
            let statement = "DELETE FROM watermarks WHERE user_id = ?1 AND provider = ?2";
            return self.run(statement, &[&self.number, &provider.as_str()]);
        };
        self.run(
            "INSERT INTO watermarks (user_id, provider, issued_at, last_login_at, renewed_at, claims_digest)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (user_id, provider) DO UPDATE
             SET issued_at = ?3, last_login_at = ?4, renewed_at = ?5, claims_digest = ?6",
            &[
                &self.number,
                &provider.as_str(),
                &issued_at.0,
                &last_login_at.0,
                &renewed_at.map(|at| at.0),
                claims_digest,
            ],
        )
    }
}
