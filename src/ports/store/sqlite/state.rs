//! What the writer remembers between transactions, so that a login does not read it again: names, open work, where the audit
//! chain ends. Another process that writes to the file is noticed, and all is read again.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use rusqlite::Connection;

use super::super::chain::Last;
use super::super::rows::Live;
use super::super::{StoreError, Work};
use super::{target_of, unavailable};
use crate::pipeline::decision::restored;
use crate::pipeline::ids::{MappingId, ProviderName};
use crate::pipeline::record::names::Names;
use crate::pipeline::record::text::Versions;

pub(super) fn read(connection: &Connection) -> Result<Live, StoreError> {
    let restored = super::settings::setting(connection, restored::NAME)?;
    let restored = restored.and_then(|kept| restored::read(&kept));
    let mut live = Live { names: names(connection)?, work: Vec::new(), restored, versions: Versions::default() };
    let mut select = connection.prepare_cached("SELECT number, item FROM work ORDER BY number").map_err(unavailable)?;
    let mut rows = select.query([]).map_err(unavailable)?;
    while let Some(row) = rows.next().map_err(unavailable)? {
        let (number, text): (i64, String) = (row.get(0).map_err(unavailable)?, row.get(1).map_err(unavailable)?);
        let unknown = || StoreError::Invalid(format!("row {number} of `work` is not what this version writes"));
        live.work.push((number, Arc::new(Work::read(&text).ok_or_else(unknown)?)));
    }
    Ok(live)
}

pub(super) fn names(connection: &Connection) -> Result<Names, StoreError> {
    let mut names = Names::default();
    let mut select = connection.prepare_cached("SELECT number, kind, name, gone FROM targets").map_err(unavailable)?;
    let mut rows = select.query([]).map_err(unavailable)?;
    while let Some(row) = rows.next().map_err(unavailable)? {
        let name: String = row.get(2).map_err(unavailable)?;
        let target = target_of(row.get(1).map_err(unavailable)?, &name)?;
        names.insert(row.get(0).map_err(unavailable)?, target, row.get(3).map_err(unavailable)?);
    }
    Ok(names)
}

/// What the writer alone needs besides.
#[derive(Debug, Default)]
pub(super) struct State {
    pub live: Live,
    /// Rows of `given`.
    pub given: HashSet<(MappingId, ProviderName, i64)>,
    /// Hours of which there are tokens.
    pub hours: BTreeSet<i64>,
    /// The end of the audit chain.
    pub last: Option<Last>,
    /// Names or work have changed in this transaction.
    pub is_new: bool,
    /// Something was added that a rollback takes away.
    pub is_dirty: bool,
}

impl State {
    pub(super) fn read(connection: &Connection) -> Result<Self, StoreError> {
        let mut state = Self { live: read(connection)?, last: super::audit::last(connection)?, ..Self::default() };
        state.given = given(connection)?;
        state.hours = hours(connection)?;
        Ok(state)
    }

    /// Notes that names or work have changed in this transaction.
    pub(super) fn changed(&mut self) {
        (self.is_new, self.is_dirty) = (true, true);
    }
}

pub(super) fn given(connection: &Connection) -> Result<HashSet<(MappingId, ProviderName, i64)>, StoreError> {
    let mut select = connection.prepare_cached("SELECT mapping, provider, target FROM given").map_err(unavailable)?;
    let mut rows = select.query([]).map_err(unavailable)?;
    let mut given = HashSet::new();
    while let Some(row) = rows.next().map_err(unavailable)? {
        let provider: String = row.get(1).map_err(unavailable)?;
        let key = (MappingId(row.get(0).map_err(unavailable)?), super::provider_of(&provider)?);
        given.insert((key.0, key.1, row.get(2).map_err(unavailable)?));
    }
    Ok(given)
}

/// Hours of which there are tokens.
pub(super) fn hours(connection: &Connection) -> Result<BTreeSet<i64>, StoreError> {
    let mut all = BTreeSet::new();
    for table in ["tokens", "refusals"] {
        // By leaps through the table: the cost follows the hours, not the tokens.
        let statement = format!(
            "WITH RECURSIVE hours (hour) AS (
                 SELECT (SELECT min(hour) FROM {table})
                 UNION ALL
                 SELECT (SELECT min(hour) FROM {table} WHERE hour > hours.hour) FROM hours WHERE hours.hour IS NOT NULL)
             SELECT hour FROM hours WHERE hour IS NOT NULL"
        );
        let mut select = connection.prepare_cached(&statement).map_err(unavailable)?;
        let hours = select.query_map([], |row| row.get::<_, i64>(0)).map_err(unavailable)?;
        for hour in hours {
            all.insert(hour.map_err(unavailable)?);
        }
    }
    Ok(all)
}
