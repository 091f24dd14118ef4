//! Answers to what a decision asks about other users, and look-ups of users.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::super::rows::Live;
use super::super::rows::{DISABLED, STOPPED};
use super::super::{Known, StoreError, Through};
use super::records;
use super::settings::setting;
use super::{kind_of, provider_of, target_of, unavailable, user_of};
use crate::pipeline::decision::{Disablings, Facts, GrantOf, Other, Question, RunningWindow, Window};
use crate::pipeline::ids::{MappingId, ProviderName, Target, Timestamp, UserId};
use crate::pipeline::plan::Source;

/// Whether a revocation is on hold, of a target through a provider. Left to itself, SQLite takes the primary key, and looks at every
/// member of a large group.
const HOLDS: &str = "SELECT EXISTS (SELECT 1 FROM holdings INDEXED BY holdings_held
     WHERE kind = ?1 AND target = ?2 AND provider = ?3 AND at IS NOT NULL AND kind < 2)";

/// Looks into the database.
pub(super) struct Look<'a> {
    pub connection: &'a Connection,
    pub live: &'a Live,
}

impl Look<'_> {
    /// Numbers, as a statement answers them in its first column.
    fn numbers(&self, statement: &str, values: &[&dyn rusqlite::ToSql]) -> Result<Vec<i64>, StoreError> {
        self.connection
            .prepare_cached(statement)
            .and_then(|mut select| select.query_map(values, |row| row.get(0))?.collect())
            .map_err(unavailable)
    }

    pub(super) fn number(&self, statement: &str, values: &[&dyn rusqlite::ToSql]) -> Result<i64, StoreError> {
        self.connection
            .prepare_cached(statement)
            .and_then(|mut select| select.query_row(values, |row| row.get(0)))
            .map_err(unavailable)
    }

    fn count(&self, statement: &str, values: &[&dyn rusqlite::ToSql]) -> Result<u64, StoreError> {
        self.number(statement, values).map(i64::cast_unsigned)
    }

    /// Kind and number of a target; a number that nothing has where it was never named.
    fn key(&self, target: &Target) -> (i64, i64) {
        (kind_of(target), self.live.names.number(target).unwrap_or(-1))
    }

    // -------------------------------------------------------------------------------------------------------- answers

    /// `asked`: the users whom the decision is about.
    pub(super) fn answer(&self, question: Question, asked: &[i64], facts: &mut Facts) -> Result<(), StoreError> {
        match question {
            Question::Window(provider, target) => {
                let running = self.window(&provider, &target)?;
                facts.windows.insert((provider, target), running);
            }
            Question::Members(provider, target) => {
                let (kind, number) = self.key(&target);
                let members = self.count(
                    "SELECT count(DISTINCT user_id) FROM holdings WHERE kind = ?1 AND target = ?2 AND provider = ?3",
                    &[&kind, &number, &provider.as_ref().map_or("", ProviderName::as_str)],
                )?;
                facts.members.insert((provider, target), members);
            }
            Question::Others { of, through, after } => {
                let others = self.others(&through, after, asked)?;
                facts.others.insert((of, after), others);
            }
            Question::Disablings(since) => facts.disablings = Some(self.disablings(since, asked)?),
            Question::Note(name) => {
                facts.notes.insert(name, setting(self.connection, name)?);
            }
            Question::Confirmation(client) => {
                let note = setting(self.connection, &Question::confirmation(&client))?;
                facts.confirmations.insert(client, note);
            }
            Question::Given => facts.given = Some(Arc::new(self.given()?)),
            Question::GivenBy(mappings) => {
                for mapping in mappings {
                    facts.given_by.insert(mapping, self.given_by(mapping)?);
                }
            }
            Question::Losing(provider, target, mappings) => {
                let losing = self.losing(&provider, &target, &mappings)?;
                facts.losing.insert((provider, target), losing);
            }
            Question::Granted => facts.granted = Some(Arc::new(self.granted()?)),
            Question::Grants(target, mappings) => {
                let grants = self.grants(&target, &mappings)?;
                facts.grants.insert(target, Arc::new(grants));
            }
            Question::Denied => facts.denied = Some(Arc::new(self.denied()?)),
            Question::Unbound(from, to) => {
                let unbound = self.count(
                    "SELECT count(*) FROM denied WHERE kind = ?1 AND name = ?2 AND NOT EXISTS
                     (SELECT 1 FROM denied AS bound WHERE bound.kind = ?3 AND bound.name = ?4 AND bound.user_id = denied.user_id)",
                    &[&kind_of(&from), &from.name(), &kind_of(&to), &to.name()],
                )?;
                facts.unbound.insert((from, to), unbound);
            }
            Question::ErasedDenies(now) => facts.erased_denies = Some(super::erased::lapsed(self.connection, now)?),
            Question::Erased => facts.erased = Some(super::erased::disabled(self.connection)?),
        }
        Ok(())
    }

    fn window(&self, provider: &ProviderName, target: &Target) -> Result<RunningWindow, StoreError> {
        let (kind, number) = self.key(target);
        let window = self
            .connection
            .prepare_cached(
                "SELECT began_at, members, losses FROM guards WHERE provider = ?1 AND kind = ?2 AND target = ?3",
            )
            .and_then(|mut select| {
                select
                    .query_row(params![provider.as_str(), kind, number], |row| {
                        let count = |at: usize| row.get::<_, i64>(at).map(i64::cast_unsigned);
                        Ok(Window { began_at: Timestamp(row.get(0)?), members: count(1)?, losses: count(2)? })
                    })
                    .optional()
            })
            .map_err(unavailable)?;
        let holds = self.number(HOLDS, &[&kind, &number, &provider.as_str()])?;
        Ok(RunningWindow { window, holds: holds == 1 })
    }

    fn others(&self, through: &BTreeSet<Target>, after: i64, asked: &[i64]) -> Result<Vec<Other>, StoreError> {
        let limit = Question::page(after);
        // Those who are asked about are left out.
        let most = i64::try_from(limit + asked.len()).unwrap_or(i64::MAX);
        let mut numbers = Vec::new();
        for target in through {
            let (kind, number) = self.key(target);
            // Most often the first few decide, in whatever order they come.
            let found = match after {
                Question::SOME => self.numbers(
                    "SELECT DISTINCT user_id FROM holdings WHERE kind = ?1 AND target = ?2 LIMIT ?3",
                    &[&kind, &number, &most],
                )?,
                after => self.numbers(
                    "SELECT DISTINCT user_id FROM holdings WHERE kind = ?1 AND target = ?2 AND user_id > ?3
                     ORDER BY user_id LIMIT ?4",
                    &[&kind, &number, &after, &most],
                )?,
            };
            numbers.extend(found);
        }
        numbers.sort_unstable();
        numbers.dedup();
        numbers.retain(|number| !asked.contains(number));
        numbers.truncate(limit);
        let others = self.known(&numbers)?;
        Ok(others.into_iter().map(|Known { number, record, .. }| Other { number, record }).collect())
    }

    fn disablings(&self, since: Timestamp, asked: &[i64]) -> Result<Disablings, StoreError> {
        let lately = self.count(
            "SELECT count(*) FROM holdings JOIN users ON users.id = holdings.user_id
             WHERE kind = ?1 AND target > ?2 AND last_login_at IS NOT NULL",
            &[&DISABLED, &since.0],
        )?;
        let stopped = self.numbers("SELECT user_id FROM holdings WHERE kind = ?1", &[&STOPPED])?;
        let holds = stopped.iter().any(|number| !asked.contains(number));
        Ok(Disablings { lately, holds, users: self.users()? })
    }

    pub(super) fn users(&self) -> Result<u64, StoreError> {
        self.count("SELECT count(*) FROM users", &[])
    }

    fn given(&self) -> Result<Vec<(MappingId, ProviderName, Target)>, StoreError> {
        let mut select = self
            .connection
            .prepare_cached(
                "SELECT mapping, provider, target FROM given WHERE EXISTS
                 (SELECT 1 FROM holdings WHERE holdings.kind = given.kind AND holdings.target = given.target
                  AND holdings.provider = given.provider AND holdings.mapping = given.mapping)",
            )
            .map_err(unavailable)?;
        let mut rows = select.query([]).map_err(unavailable)?;
        let mut given = Vec::new();
        while let Some(row) = rows.next().map_err(unavailable)? {
            let provider: String = row.get(1).map_err(unavailable)?;
            let target = self.live.names.target(row.get(2).map_err(unavailable)?);
            if let Some(target) = target {
                given.push((MappingId(row.get(0).map_err(unavailable)?), provider_of(&provider)?, target.clone()));
            }
        }
        Ok(given)
    }

    fn given_by(&self, mapping: MappingId) -> Result<u64, StoreError> {
        self.count(
            "SELECT count(*) FROM given JOIN holdings ON holdings.kind = given.kind AND holdings.target = given.target
             AND holdings.provider = given.provider AND holdings.mapping = given.mapping WHERE given.mapping = ?1",
            &[&mapping.0],
        )
    }

    fn losing(
        &self,
        provider: &ProviderName,
        target: &Target,
        mappings: &BTreeSet<MappingId>,
    ) -> Result<u64, StoreError> {
        let (kind, number) = self.key(target);
        let mut select = self
            .connection
            .prepare_cached("SELECT mapping, user_id FROM holdings WHERE kind = ?1 AND target = ?2 AND provider = ?3")
            .map_err(unavailable)?;
        let mut rows = select.query(params![kind, number, provider.as_str()]).map_err(unavailable)?;
        let (mut losing, mut staying) = (BTreeSet::new(), BTreeSet::new());
        while let Some(row) = rows.next().map_err(unavailable)? {
            let user: i64 = row.get(1).map_err(unavailable)?;
            let mapping = MappingId(row.get(0).map_err(unavailable)?);
            match mappings.contains(&mapping) {
                true => losing.insert(user),
                false => staying.insert(user),
            };
        }
        Ok(losing.difference(&staying).count() as u64)
    }

    /// Every target that some user holds, found by leaps through the table.
    fn granted(&self) -> Result<Vec<Target>, StoreError> {
        let mut granted = Vec::new();
        for kind in [0_i64, 1] {
            let numbers = self.numbers(
                "WITH RECURSIVE named (target) AS (
                     SELECT (SELECT min(target) FROM holdings WHERE kind = ?1)
                     UNION ALL
                     SELECT (SELECT min(target) FROM holdings WHERE kind = ?1 AND target > named.target)
                     FROM named WHERE named.target IS NOT NULL)
                 SELECT target FROM named WHERE target IS NOT NULL",
                &[&kind],
            )?;
            granted.extend(numbers.into_iter().filter_map(|number| self.live.names.target(number).cloned()));
        }
        Ok(granted)
    }

    /// Grants of a target by hand, and those by some mappings.
    fn grants(&self, target: &Target, mappings: &BTreeSet<MappingId>) -> Result<Vec<GrantOf>, StoreError> {
        let (kind, number) = self.key(target);
        let mut numbers = self.numbers(
            "SELECT user_id FROM holdings WHERE kind = ?1 AND target = ?2 AND provider = ''",
            &[&kind, &number],
        )?;
        for mapping in mappings {
            numbers.extend(self.numbers(
                "SELECT holdings.user_id FROM given JOIN holdings ON holdings.kind = given.kind
                 AND holdings.target = given.target AND holdings.provider = given.provider
                 AND holdings.mapping = given.mapping
                 WHERE given.mapping = ?1 AND given.kind = ?2 AND given.target = ?3",
                &[&mapping.0, &kind, &number],
            )?);
        }
        numbers.sort_unstable();
        numbers.dedup();
        let meant = |source: &Source| match source {
            Source::Assigned => true,
            Source::Mapped { mapping, .. } => mappings.contains(mapping),
        };
        let mut grants = Vec::new();
        for number in numbers {
            let Some(known) = records::by_number(self.connection, self.live, number)? else { continue };
            let theirs = known.record.holdings.into_iter();
            let theirs = theirs.filter(|(grant, _)| grant.target == *target && meant(&grant.source));
            grants.extend(theirs.map(|(grant, holding)| GrantOf {
                number,
                user: known.user.clone(),
                grant,
                granted_by: holding.granted_by,
                as_admin: holding.as_admin,
            }));
        }
        Ok(grants)
    }

    fn denied(&self) -> Result<BTreeMap<Target, u64>, StoreError> {
        let mut select = self
            .connection
            .prepare_cached("SELECT kind, name, count(*) FROM denied GROUP BY kind, name")
            .map_err(unavailable)?;
        let mut rows = select.query([]).map_err(unavailable)?;
        let mut denied = BTreeMap::new();
        while let Some(row) = rows.next().map_err(unavailable)? {
            let name: String = row.get(1).map_err(unavailable)?;
            let target = target_of(row.get(0).map_err(unavailable)?, &name)?;
            denied.insert(target, row.get::<_, i64>(2).map_err(unavailable)?.cast_unsigned());
        }
        Ok(denied)
    }

    // ------------------------------------------------------------------------------------------------------- look-ups

    fn known(&self, numbers: &[i64]) -> Result<Vec<Known>, StoreError> {
        let mut known = Vec::with_capacity(numbers.len());
        for number in numbers {
            known.extend(records::by_number(self.connection, self.live, *number)?);
        }
        Ok(known)
    }

    pub(super) fn through(&self, through: &Through, after: i64, limit: usize) -> Result<Vec<Known>, StoreError> {
        let most = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut numbers = match through {
            Through::Mapping(mapping) => self.numbers(
                "SELECT DISTINCT holdings.user_id FROM given JOIN holdings ON holdings.kind = given.kind
                 AND holdings.target = given.target AND holdings.provider = given.provider
                 AND holdings.mapping = given.mapping
                 WHERE given.mapping = ?1 AND holdings.user_id > ?2 ORDER BY holdings.user_id LIMIT ?3",
                &[&mapping.0, &after, &most],
            )?,
            Through::Target(target) => {
                let (kind, number) = self.key(target);
                self.numbers(
                    "SELECT DISTINCT user_id FROM holdings WHERE kind = ?1 AND target = ?2 AND user_id > ?3
                     ORDER BY user_id LIMIT ?4",
                    &[&kind, &number, &after, &most],
                )?
            }
            Through::Denied(target) => self.numbers(
                "SELECT user_id FROM denied WHERE kind = ?1 AND name = ?2 AND user_id > ?3 ORDER BY user_id LIMIT ?4",
                &[&kind_of(target), &target.name(), &after, &most],
            )?,
            Through::Held => self.numbers(
                "SELECT user_id FROM holdings WHERE at IS NOT NULL AND kind < 2 AND user_id > ?2
                 UNION SELECT user_id FROM holdings WHERE kind = ?1 AND user_id > ?2 ORDER BY user_id LIMIT ?3",
                &[&STOPPED, &after, &most],
            )?,
            Through::Disabled => self.numbers(
                "SELECT DISTINCT user_id FROM holdings WHERE kind = ?1 AND user_id > ?2 ORDER BY user_id LIMIT ?3",
                &[&DISABLED, &after, &most],
            )?,
            Through::Due(before) => self.numbers(
                "SELECT id FROM users WHERE due <= ?1 AND id > ?2 ORDER BY id LIMIT ?3",
                &[&before.0, &after, &most],
            )?,
        };
        numbers.truncate(limit);
        self.known(&numbers)
    }
}

impl Look<'_> {
    /// Users in order of namespace and subject, all of them or those who hold a target.
    pub(super) fn keys(
        &self,
        of: Option<&Target>,
        after: Option<&UserId>,
        limit: usize,
    ) -> Result<Vec<UserId>, StoreError> {
        let (namespace, subject) = after.map_or(("", ""), |user| (user.namespace.as_str(), user.subject.as_str()));
        let (kind, number) = of.map_or((-1, -1), |target| self.key(target));
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let statement = match of {
            None => {
                "SELECT namespace, subject FROM users WHERE (namespace, subject) > (?1, ?2) AND ?4 = ?5
                 ORDER BY namespace, subject LIMIT ?3"
            }
            Some(_) => {
                "SELECT DISTINCT namespace, subject FROM users JOIN holdings ON holdings.user_id = users.id
                 WHERE kind = ?4 AND target = ?5 AND (namespace, subject) > (?1, ?2)
                 ORDER BY namespace, subject LIMIT ?3"
            }
        };
        let mut select = self.connection.prepare_cached(statement).map_err(unavailable)?;
        let mut rows = select.query(params![namespace, subject, limit, kind, number]).map_err(unavailable)?;
        let mut users = Vec::new();
        while let Some(row) = rows.next().map_err(unavailable)? {
            let (namespace, subject): (String, String) =
                (row.get(0).map_err(unavailable)?, row.get(1).map_err(unavailable)?);
            users.push(user_of(&namespace, &subject)?);
        }
        Ok(users)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hold_is_looked_for_among_holds_alone() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(include_str!("schema/current.sql")).unwrap();
        let mut plan = connection.prepare(&format!("EXPLAIN QUERY PLAN {HOLDS}")).unwrap();
        let details = plan.query_map(params![0, 1, "okta"], |row| row.get::<_, String>(3)).unwrap();
        let searches: Vec<String> = details.map(Result::unwrap).filter(|detail| detail.contains("holdings")).collect();
        assert!(searches.len() == 1 && searches[0].contains("INDEX holdings_held (kind=?"), "{searches:?}");
    }
}
