//! Logins, and all else that the audit has, the newest first.

use askama::Template;
use axum::extract::State;
use http::StatusCode;
use serde_json::Value;

use super::Console;
use super::door::Asked;
use super::page::{Answer, Shell, render};
use super::verification::Verification;
use super::visitor::Visitor;
use super::words::{Moment, Sentence};
use crate::config::Scope;
use crate::ports::store::AuditRow;

/// Rows on one page.
const PAGE: usize = 50;

/// A row of the audit as a line.
pub struct EventRow {
    pub sequence: i64,
    pub at: Moment,
    /// As the audit calls it.
    pub event: String,
    pub kind: Kind,
    pub summary: Sentence,
    /// Such as `okta/alice`; empty where the row is about no person, or they were erased.
    pub person: String,
    pub provider: String,
    /// The id of a login, which its page leads to.
    pub login: Option<String>,
}

/// How an event looks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Entered,
    Refused,
    Act,
}

impl Kind {
    pub fn class(self) -> &'static str {
        match self {
            Self::Entered => "good",
            Self::Refused => "bad",
            Self::Act => "plain",
        }
    }
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// What a list of mappings and targets names, such as group `Staff`.
fn targets(list: Option<&Value>) -> Vec<String> {
    let each = list.and_then(Value::as_array).into_iter().flatten();
    each.filter_map(|one| match one {
        Value::String(text) => Some(text.clone()),
        one => ["group", "role"].iter().find_map(|kind| Some(format!("{kind} `{}`", one.get(kind)?.as_str()?))),
    })
    .collect()
}

/// What happened, in one line.
pub fn summary(row: &AuditRow) -> String {
    let detail = &row.detail;
    let mut parts: Vec<String> = Vec::new();
    for (key, word) in [("added", "gained"), ("removed", "lost"), ("ended", "ended"), ("held", "held by the brake")] {
        let named = targets(detail.get(key));
        if !named.is_empty() {
            parts.push(format!("{word} {}", named.join(", ")));
        }
    }
    match row.event.as_str() {
        "login_refused" => return format!("{}: {}", text(detail, "outcome"), text(detail, "reason")),
        "login" | "login_older" | "login_shadow" if parts.is_empty() => parts.push("nothing changed".into()),
        _ => {}
    }
    if let Some(number) = detail.get("id").filter(|_| row.event.starts_with("mapping_")) {
        parts.push(format!("mapping `{number}`"));
    }
    let after = detail.get("after").unwrap_or(detail);
    let name = text(after, "name");
    if !name.is_empty() {
        parts.push(format!("{} `{name}`", text(detail, "kind")).trim().to_owned());
    }
    for key in ["mapping", "client", "receiver", "session", "reason", "why"] {
        let found = text(detail, key);
        if !found.is_empty() {
            parts.push(format!("{key}: {found}"));
        }
    }
    let by = text(detail, "by");
    if !by.is_empty() {
        parts.push(format!("by {by}"));
    }
    parts.join("; ")
}

/// A person as the audit names them.
pub fn person_of(row: &AuditRow) -> String {
    let Some(person) = &row.person else { return String::new() };
    match (text(person, "namespace"), text(person, "subject")) {
        ("", _) | (_, "") => String::new(),
        (namespace, subject) => format!("{namespace}/{subject}"),
    }
}

/// Rows as lines.
pub fn events(rows: impl Iterator<Item = AuditRow>) -> Vec<EventRow> {
    rows.map(|row| EventRow {
        sequence: row.sequence,
        at: Moment::read(&row.at),
        kind: match row.event.as_str() {
            "login" | "login_older" | "login_shadow" => Kind::Entered,
            "login_refused" => Kind::Refused,
            _ => Kind::Act,
        },
        summary: Sentence::read(&summary(&row)),
        person: person_of(&row),
        provider: text(&row.detail, "provider").to_owned(),
        login: Some(text(&row.detail, "login").to_owned()).filter(|login| !login.is_empty()),
        event: row.event,
    })
    .collect()
}

/// Which rows are asked for.
struct Filter {
    /// `logins`, `refused`, `acts`, or empty: all.
    what: String,
    provider: String,
    /// Part of the name of a person.
    person: String,
}

impl Filter {
    fn takes(&self, row: &AuditRow) -> bool {
        let is_login = row.event.starts_with("login");
        let fits = match self.what.as_str() {
            "logins" => is_login,
            "refused" => row.event == "login_refused",
            "acts" => !is_login,
            _ => true,
        };
        fits && (self.provider.is_empty() || text(&row.detail, "provider") == self.provider)
            && (self.person.is_empty()
                || person_of(row).to_ascii_lowercase().contains(&self.person.to_ascii_lowercase()))
    }

    fn is_set(&self) -> bool {
        !(self.what.is_empty() && self.provider.is_empty() && self.person.is_empty())
    }

    /// The query of the page with the older rows.
    fn older(&self, before: i64) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        for (name, value) in [("what", &self.what), ("provider", &self.provider), ("person", &self.person)] {
            if !value.is_empty() {
                query.append_pair(name, value);
            }
        }
        query.append_pair("before", &before.to_string());
        query.finish()
    }
}

#[derive(Template)]
#[template(path = "console/logins.html")]
struct Page {
    shell: Shell,
    filter: Filter,
    providers: Vec<String>,
    rows: Vec<EventRow>,
    older: Option<String>,
    newest: bool,
    chain: Verification,
}

pub async fn list(State(console): State<Console>, visitor: Visitor, shell: Shell, Asked(asked): Asked) -> Answer {
    visitor.caller.may(Scope::Read)?;
    let field = |name: &str| asked.get(name).to_owned();
    let filter = Filter { what: field("what"), provider: field("provider"), person: field("person") };
    let before: Option<i64> = asked.get("before").parse().ok().filter(|before| *before > 0);
    let found = console.admin.service.audit_backwards(before, PAGE, |row| filter.takes(row)).await?;
    let page = Page {
        shell,
        older: found.before.map(|before| filter.older(before)),
        filter,
        providers: console.admin.inspect().providers().iter().map(ToString::to_string).collect(),
        rows: events(found.rows.into_iter()),
        newest: before.is_none(),
        chain: console.admin.service.verification().into(),
    };
    Ok(render(StatusCode::OK, &page))
}
