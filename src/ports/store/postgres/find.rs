//! People by what is asked of them: a page at a time, whatever there is to search.

use tokio_postgres::Row;

use super::super::rows::{kind_of, user_of};
use super::facts::Look;
use super::pipe::{Failed, Value, get};
use crate::pipeline::ids::Timestamp;
use crate::ports::catalogue::{Found, Member, Person, Search, Sort, Within};

/// What follows `FROM`, and its values by their numbers.
#[derive(Default)]
struct Query {
    joined: String,
    conditions: Vec<String>,
    values: Vec<Value>,
}

impl Query {
    fn of(search: &Search, look: &Look) -> Self {
        let Search { user, numbers, text, email, subject, enabled, since, to, domains, within, .. } = search;
        let mut query = Self::default();
        if let Some(within) = within {
            query.within(within, look);
        }
        if let Some(user) = user {
            query.and("namespace = $", user.namespace.as_str());
            query.and("subject = $", user.subject.as_str());
        }
        if let Some(numbers) = numbers {
            query.and("id = ANY($)", Value::Ints(numbers.iter().copied().map(Some).collect()));
        }
        if let Some(text) = text {
            query.and(
                "(strpos(lower(display_name), $) > 0 OR strpos(lower(email), $) > 0 OR strpos(lower(subject), $) > 0)",
                text.to_ascii_lowercase(),
            );
        }
        if let Some(email) = email {
            query.and("lower(email) = $", email.to_ascii_lowercase());
        }
        if let Some(subject) = subject {
            query.and("subject = $", subject.as_str());
        }
        if let Some(enabled) = enabled {
            query.and("(NOT disabled) = $", *enabled);
        }
        if let Some(since) = since {
            query.and("last_login_at >= $", since.0);
        }
        if let Some(to) = to {
            query.and("last_login_at <= $", to.0);
        }
        if !domains.is_empty() {
            query.and("lower(substr(email, strpos(email, '@') + 1)) = ANY($)", Value::Texts(domains.clone()));
        }
        query
    }

    /// Every `$` is this value.
    fn and(&mut self, condition: &str, value: impl Into<Value>) {
        let place = self.place(value);
        self.conditions.push(condition.replace('$', &place));
    }

    fn place(&mut self, value: impl Into<Value>) -> String {
        self.values.push(value.into());
        format!("${}", self.values.len())
    }

    fn within(&mut self, Within { target, mapped }: &Within, look: &Look) {
        // A number that nothing has where it was never named.
        let number = look.live.1.names.number(target).unwrap_or(-1);
        let (kind, number) = (self.place(kind_of(target)), self.place(number));
        let name = self.place(target.name());
        self.joined = format!(
            "JOIN (SELECT user_id, bool_or(provider <> '') AS mapped, bool_or(provider = '') AS assigned
                   FROM loginsync.holdings WHERE kind = {kind} AND target = {number} GROUP BY user_id) AS held
             ON held.user_id = id"
        );
        self.conditions.push(format!(
            "NOT EXISTS (SELECT 1 FROM loginsync.denied WHERE denied.user_id = id AND kind = {kind} AND name = {name})"
        ));
        match mapped {
            Some(true) => self.conditions.push("mapped".into()),
            Some(false) => self.conditions.push("assigned".into()),
            None => {}
        }
    }

    fn text(&self) -> String {
        let conditions = if self.conditions.is_empty() { "true".into() } else { self.conditions.join(" AND ") };
        format!("FROM loginsync.users {} WHERE {conditions}", self.joined)
    }
}

pub(super) async fn find(look: &Look, search: &Search) -> Result<Found, Failed> {
    let mut query = Query::of(search, look);
    let from = query.text();
    let total = look.pipe.number(&format!("SELECT count(*) {from}"), &query.values).await?;
    let held = if search.within.is_some() { "mapped, assigned" } else { "false, false" };
    let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let (limit, offset) = (query.place(number(search.limit)), query.place(number(search.offset)));
    let text = format!(
        "SELECT id, namespace, subject, email, display_name, NOT disabled, last_login_at, {held} {from}
         ORDER BY {} LIMIT {limit} OFFSET {offset}",
        order(search)
    );
    let rows = look.pipe.rows(&text, &query.values).await?;
    let members = rows.iter().map(member).collect::<Result<_, _>>()?;
    Ok(Found { members, total: usize::try_from(total).unwrap_or_default() })
}

fn order(search: &Search) -> String {
    let column = match search.sort {
        Sort::Number => "id",
        Sort::Name => "lower(display_name)",
        Sort::Email => "lower(email)",
        Sort::Enabled => "disabled",
        Sort::LastLogin => "last_login_at",
    };
    let direction = if search.descending { "DESC" } else { "ASC" };
    format!("{column} {direction} NULLS LAST, id {direction}")
}

fn member(row: &Row) -> Result<Member, Failed> {
    let person = Person {
        number: get(row, 0)?,
        user: user_of(get(row, 1)?, get(row, 2)?)?,
        email: get(row, 3)?,
        display_name: get(row, 4)?,
        enabled: get(row, 5)?,
        last_login_at: get::<Option<i64>>(row, 6)?.map(Timestamp),
    };
    Ok(Member { person, mapped: get(row, 7)?, assigned: get(row, 8)? })
}
