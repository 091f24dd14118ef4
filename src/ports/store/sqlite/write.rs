//! Writing a plan: the grants that come and go, and what became of those that stay.

use rusqlite::params;

use super::super::StoreError;
use super::standing::Standing;
use super::{Session, kind_of, unavailable};
use crate::pipeline::ids::{ProviderName, Timestamp};
use crate::pipeline::plan::{Change, Plan};

/// Writes the difference; a plan without one writes no grant row.
pub(super) fn plan(
    session: &Session<'_>,
    user_row: i64,
    plan: &Plan,
    standing: &Standing,
    has_lease: bool,
    now: Timestamp,
) -> Result<(), StoreError> {
    if plan.shadow || plan.older {
        return Ok(());
    }
    let grants = Grants { session, user_row, provider: &plan.provider };
    for change in &plan.revokes {
        grants.delete(change)?;
    }
    for change in &plan.grants {
        grants.insert(change, now)?;
    }
    let key = |change: &Change| (change.target.clone(), change.mapping);
    for change in &plan.keeps {
        if standing.frozen.contains(&key(change)) {
            grants.set("lease_from = NULL", change)?;
        }
        if standing.snapshot.held.contains(&key(change)) {
            grants.set("held_at = NULL", change)?;
        }
    }
    for change in plan.held.iter().filter(|change| !standing.snapshot.held.contains(&key(change))) {
        grants.hold(change, now)?;
    }
    // What this login could not decide keeps the lease that it had.
    let stays = [&plan.undecided, &plan.held, &plan.guarded].into_iter().flatten();
    for change in stays.filter(|change| has_lease && !standing.frozen.contains(&key(change))) {
        grants.freeze(change, standing.renewed_at)?;
    }
    Ok(())
}

/// Grants of one user through one provider.
struct Grants<'a> {
    session: &'a Session<'a>,
    user_row: i64,
    provider: &'a ProviderName,
}

const KEY: &str = "user_id = ?1 AND kind = ?2 AND name = ?3 AND provider = ?4 AND mapping = ?5";

impl Grants<'_> {
    fn run(&self, statement: &str, change: &Change, at: Option<i64>) -> Result<(), StoreError> {
        let (target, provider, mapping) = (&change.target, self.provider.as_str(), change.mapping.0);
        self.session
            .connection
            .prepare_cached(statement)
            .and_then(|mut prepared| {
                let key = params![self.user_row, kind_of(target), target.name(), provider, mapping, at];
                // A statement that has no use for the moment takes the other five.
                let taken = prepared.parameter_count();
                prepared.execute(key.get(..taken).unwrap_or(key))
            })
            .map_err(unavailable)?;
        Ok(())
    }

    fn delete(&self, change: &Change) -> Result<(), StoreError> {
        self.run(&format!("DELETE FROM grants WHERE {KEY}"), change, None)
    }

    fn insert(&self, change: &Change, now: Timestamp) -> Result<(), StoreError> {
        let statement = "INSERT INTO grants (user_id, kind, name, provider, mapping, granted_at)
                         VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        self.run(statement, change, Some(now.0))
    }

    fn set(&self, what: &str, change: &Change) -> Result<(), StoreError> {
        self.run(&format!("UPDATE grants SET {what} WHERE {KEY}"), change, None)
    }

    fn hold(&self, change: &Change, now: Timestamp) -> Result<(), StoreError> {
        self.run(&format!("UPDATE grants SET held_at = ?6 WHERE {KEY}"), change, Some(now.0))
    }

    fn freeze(&self, change: &Change, from: Option<i64>) -> Result<(), StoreError> {
        self.run(&format!("UPDATE grants SET lease_from = coalesce(?6, granted_at) WHERE {KEY}"), change, from)
    }
}
