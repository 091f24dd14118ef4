//! People by what is asked of them: a page at a time, whatever there is to search.

use rusqlite::types::Value;
use rusqlite::{Connection, Row, params_from_iter};

use super::super::StoreError;
use super::super::rows::Live;
use super::{kind_of, unavailable, user_of};
use crate::pipeline::ids::Timestamp;
use crate::ports::catalogue::{Found, Member, Person, Search, Sort, Within};

/// What follows `FROM`, and its values in the order of their question marks.
#[derive(Default)]
struct Query {
    joined: String,
    conditions: Vec<String>,
    values: Vec<Value>,
}

impl Query {
    fn of(search: &Search, live: &Live) -> Self {
        let Search { user, numbers, text, email, subject, enabled, since, to, domains, within, .. } = search;
        let mut query = Self::default();
        if let Some(within) = within {
            query.within(within, live);
        }
        if let Some(user) = user {
            let names = [user.namespace.as_str(), user.subject.as_str()].map(|name| Value::from(name.to_owned()));
            query.and("namespace = ? AND subject = ?", names);
        }
        if let Some(numbers) = numbers {
            query.one_of("id", numbers.iter().map(|number| Value::from(*number)));
        }
        if let Some(text) = text {
            let columns = ["display_name", "email", "subject"];
            let each = columns.map(|column| format!("instr(lower({column}), ?) > 0"));
            let lower = text.to_ascii_lowercase();
            query.and(&format!("({})", each.join(" OR ")), columns.map(|_| Value::from(lower.clone())));
        }
        if let Some(email) = email {
            query.and("lower(email) = ?", [Value::from(email.to_ascii_lowercase())]);
        }
        if let Some(subject) = subject {
            query.and("subject = ?", [Value::from(subject.clone())]);
        }
        if let Some(enabled) = enabled {
            query.and("(NOT disabled) = ?", [Value::from(*enabled)]);
        }
        if let Some(since) = since {
            query.and("last_login_at >= ?", [Value::from(since.0)]);
        }
        if let Some(to) = to {
            query.and("last_login_at <= ?", [Value::from(to.0)]);
        }
        if !domains.is_empty() {
            let domain = "lower(substr(email, instr(email, '@') + 1))";
            query.one_of(domain, domains.iter().map(|domain| Value::from(domain.clone())));
        }
        query
    }

    fn and(&mut self, condition: &str, values: impl IntoIterator<Item = Value>) {
        self.conditions.push(condition.to_owned());
        self.values.extend(values);
    }

    fn one_of(&mut self, column: &str, values: impl Iterator<Item = Value>) {
        let values: Vec<Value> = values.collect();
        let marks = vec!["?"; values.len()].join(", ");
        self.and(&format!("{column} IN ({marks})"), values);
    }

    fn within(&mut self, within: &Within, live: &Live) {
        let Within { target, mapped } = within;
        // A number that nothing has where it was never named.
        let number = live.names.number(target).unwrap_or(-1);
        self.joined = String::from(
            "JOIN (SELECT user_id, max(provider <> '') AS mapped, max(provider = '') AS assigned
                   FROM holdings WHERE kind = ? AND target = ? GROUP BY user_id) AS held ON held.user_id = id",
        );
        self.values.extend([Value::from(kind_of(target)), Value::from(number)]);
        let denied = "NOT EXISTS (SELECT 1 FROM denied WHERE denied.user_id = id AND kind = ? AND name = ?)";
        self.and(denied, [Value::from(kind_of(target)), Value::from(target.name().to_owned())]);
        match mapped {
            Some(true) => self.and("mapped", []),
            Some(false) => self.and("assigned", []),
            None => {}
        }
    }

    fn text(&self) -> String {
        let conditions = if self.conditions.is_empty() { "1".into() } else { self.conditions.join(" AND ") };
        format!("FROM users {} WHERE {conditions}", self.joined)
    }
}

pub(super) fn find(connection: &Connection, live: &Live, search: &Search) -> Result<Found, StoreError> {
    let query = Query::of(search, live);
    let from = query.text();
    let total: i64 = connection
        .query_row(&format!("SELECT count(*) {from}"), params_from_iter(query.values.iter()), |row| row.get(0))
        .map_err(unavailable)?;
    let held = if search.within.is_some() { "mapped, assigned" } else { "0, 0" };
    let statement = format!(
        "SELECT id, namespace, subject, email, display_name, NOT disabled, last_login_at, {held} {from}
         ORDER BY {} LIMIT ? OFFSET ?",
        order(search)
    );
    let number = |count: usize| Value::from(i64::try_from(count).unwrap_or(i64::MAX));
    let mut values = query.values;
    values.extend([number(search.limit), number(search.offset)]);
    let mut select = connection.prepare(&statement).map_err(unavailable)?;
    let rows: Vec<_> = select
        .query_map(params_from_iter(values), |row| Ok((read_person(row)?, row.get(7)?, row.get(8)?)))
        .and_then(Iterator::collect)
        .map_err(unavailable)?;
    let member = |(person, mapped, assigned): (Result<Person, StoreError>, bool, bool)| {
        Ok(Member { person: person?, mapped, assigned })
    };
    let members = rows.into_iter().map(member).collect::<Result<_, StoreError>>()?;
    Ok(Found { members, total: usize::try_from(total).unwrap_or_default() })
}

fn order(search: &Search) -> String {
    let column = match search.sort {
        Sort::Number => "id",
        Sort::Name => "display_name COLLATE NOCASE",
        Sort::Email => "email COLLATE NOCASE",
        Sort::Enabled => "disabled",
        Sort::LastLogin => "last_login_at",
    };
    let direction = if search.descending { "DESC" } else { "ASC" };
    format!("{column} {direction} NULLS LAST, id {direction}")
}

fn read_person(row: &Row<'_>) -> rusqlite::Result<Result<Person, StoreError>> {
    let (namespace, subject): (String, String) = (row.get(1)?, row.get(2)?);
    let (number, email, display_name) = (row.get(0)?, row.get(3)?, row.get(4)?);
    let (enabled, last_login_at) = (row.get(5)?, row.get::<_, Option<i64>>(6)?.map(Timestamp));
    let person = |user| Person { number, user, email, display_name, enabled, last_login_at };
    Ok(user_of(&namespace, &subject).map(person))
}
