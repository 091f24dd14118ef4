//! Everybody, page by page, with all that a plan under other rules is made from. Four reads a page, whatever its size.

use rusqlite::{Connection, Row, params};

use super::super::{People, StoreError};
use super::record::read_grant;
use super::{privilege, target_of, unavailable};
use crate::pipeline::decision::recorded;
use crate::pipeline::forecast::{LastLogin, Person};
use crate::pipeline::ids::{Namespace, ProviderName, Subject, Timestamp, UserId};
use crate::pipeline::mapping::RuleSet;
use crate::pipeline::plan::Source;

/// The users after a row, with their recorded claims as `rules` read them.
pub(super) fn page(
    connection: &Connection,
    rules: &RuleSet,
    after: Option<i64>,
    limit: usize,
    now: Timestamp,
) -> Result<People, StoreError> {
    // One view of the database for all the reads.
    let view = connection.unchecked_transaction().map_err(unavailable)?;
    let total = match after {
        None => {
            Some(view.query_row("SELECT count(*) FROM users", [], |row| row.get::<_, i64>(0)).map_err(unavailable)?)
        }
        Some(_) => None,
    };
    let mut page = Page { people: users(&view, after, limit)? };
    let lapses =
        |provider: &ProviderName, from: i64| rules.lease(provider).is_some_and(|lease| from <= now.minus(lease).0);
    if let (Some((first, _)), Some((last, _))) = (page.people.first(), page.people.last()) {
        let range = (*first, *last);
        page.logins(&view, range)?;
        page.claims(&view, range, rules)?;
        page.grants(&view, range, lapses)?;
        page.denies(&view, range, now)?;
    }
    let next = page.people.last().filter(|_| page.people.len() == limit).map(|(row, _)| *row);
    let people = page.people.into_iter().map(|(_, person)| person).collect();
    Ok(People { people, next, total: total.map(i64::cast_unsigned) })
}

/// In the order of their rows.
struct Page {
    people: Vec<(i64, Person)>,
}

fn users(connection: &Connection, after: Option<i64>, limit: usize) -> Result<Vec<(i64, Person)>, StoreError> {
    let mut select = connection
        .prepare_cached(
            "SELECT id, namespace, subject, disabled_at IS NULL FROM users WHERE id > ?1 ORDER BY id LIMIT ?2",
        )
        .map_err(unavailable)?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut rows = select.query(params![after.unwrap_or(i64::MIN), limit]).map_err(unavailable)?;
    let mut people = Vec::new();
    while let Some(row) = rows.next().map_err(unavailable)? {
        let invalid = |error: crate::pipeline::ids::InvalidText| StoreError::Invalid(error.to_string());
        let user = UserId {
            namespace: Namespace::parse(text(row, 1)).map_err(invalid)?,
            subject: Subject::parse(text(row, 2)).map_err(invalid)?,
        };
        let person = Person::new(user, row.get(3).map_err(unavailable)?);
        people.push((row.get(0).map_err(unavailable)?, person));
    }
    Ok(people)
}

fn text<'r>(row: &'r Row<'_>, at: usize) -> &'r str {
    row.get_ref(at).ok().and_then(|value| value.as_str().ok()).unwrap_or_default()
}

fn provider(name: &str) -> Result<ProviderName, StoreError> {
    ProviderName::parse(name).map_err(|error| StoreError::Invalid(error.to_string()))
}

impl Page {
    /// Calls `take` for each row of a query over the users of the page; the first column is the user's.
    fn each(
        &mut self,
        connection: &Connection,
        statement: &str,
        values: &[&dyn rusqlite::ToSql],
        mut take: impl FnMut(&mut Person, &Row<'_>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut select = connection.prepare_cached(statement).map_err(unavailable)?;
        let mut rows = select.query(values).map_err(unavailable)?;
        let mut people = self.people.iter_mut().peekable();
        while let Some(row) = rows.next().map_err(unavailable)? {
            let owner: i64 = row.get(0).map_err(unavailable)?;
            // Both are in the order of the users.
            while people.next_if(|(known, _)| *known < owner).is_some() {}
            if let Some((_, person)) = people.peek_mut().filter(|(known, _)| *known == owner) {
                take(person, row)?;
            }
        }
        Ok(())
    }

    fn logins(&mut self, connection: &Connection, (first, last): (i64, i64)) -> Result<(), StoreError> {
        let statement = "SELECT user_id, provider, issued_at, last_login_at, renewed_at FROM watermarks
                         WHERE user_id BETWEEN ?1 AND ?2 ORDER BY user_id";
        self.each(connection, statement, &[&first, &last], |person, row| {
            let at = Timestamp(row.get(3).map_err(unavailable)?);
            person.snapshot.last_login = person.snapshot.last_login.max(Some(at));
            let watermark = Timestamp(row.get(2).map_err(unavailable)?);
            let renewed_at = row.get::<_, Option<i64>>(4).map_err(unavailable)?.map(Timestamp);
            person.logins.push(LastLogin { provider: provider(text(row, 1))?, watermark, renewed_at, claims: None });
            Ok(())
        })
    }

    fn claims(
        &mut self,
        connection: &Connection,
        (first, last): (i64, i64),
        rules: &RuleSet,
    ) -> Result<(), StoreError> {
        let statement = "SELECT user_id, provider, claims FROM recorded_claims
                         WHERE user_id BETWEEN ?1 AND ?2 ORDER BY user_id";
        self.each(connection, statement, &[&first, &last], |person, row| {
            let Person { user, logins, .. } = person;
            if let Some(login) = logins.iter_mut().find(|login| login.provider.as_str() == text(row, 1)) {
                login.claims = Some(
                    recorded::read(text(row, 2), user, &login.provider, rules)
                        .map_err(|why| StoreError::Invalid(why.to_string()))?,
                );
            }
            Ok(())
        })
    }

    /// `lapses` says whether a lease that counts from a moment is over.
    fn grants(
        &mut self,
        connection: &Connection,
        (first, last): (i64, i64),
        lapses: impl Fn(&ProviderName, i64) -> bool,
    ) -> Result<(), StoreError> {
        let statement =
            "SELECT user_id, kind, name, provider, mapping, held_at IS NOT NULL, lease_from, granted_at, as_admin FROM grants
                         WHERE user_id BETWEEN ?1 AND ?2 ORDER BY user_id";
        self.each(connection, statement, &[&first, &last], |person, row| {
            let grant = read_grant(row, 1)?;
            if let (Source::Mapped { mapping, .. }, true) = (&grant.source, row.get(5).map_err(unavailable)?) {
                person.snapshot.held.insert((grant.target.clone(), *mapping));
            }
            if let Source::Mapped { provider, mapping } = &grant.source {
                let own = row.get::<_, Option<i64>>(6).map_err(unavailable)?;
                let login = person.logins.iter().find(|login| login.provider == *provider);
                let renewed = || login.and_then(|login| login.renewed_at).map(|at| at.0);
                let granted = row.get(7).map_err(unavailable)?;
                if lapses(provider, own.or_else(renewed).unwrap_or(granted)) {
                    person.lapsed.insert((grant.target.clone(), provider.clone(), *mapping));
                }
            }
            if grant.source == Source::Assigned {
                let hand = privilege::hand(row.get(8).map_err(unavailable)?);
                person.hands.insert(grant.target.clone(), hand);
            }
            person.snapshot.grants.push(grant);
            Ok(())
        })
    }

    fn denies(&mut self, connection: &Connection, (first, last): (i64, i64), now: Timestamp) -> Result<(), StoreError> {
        let statement = "SELECT user_id, kind, name FROM denies
                         WHERE user_id BETWEEN ?1 AND ?2 AND (until IS NULL OR until > ?3) ORDER BY user_id";
        self.each(connection, statement, &[&first, &last, &now.0], |person, row| {
            let target = target_of(row.get(1).map_err(unavailable)?, text(row, 2))?;
            person.snapshot.denies.insert(target);
            Ok(())
        })
    }
}
