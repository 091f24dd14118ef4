//! People: who there is, and what one of them holds and why.

use askama::Template;
use axum::extract::{Path, State};
use http::StatusCode;

use super::Console;
use super::door::Asked;
use super::failure::Failure;
use super::logins::{EventRow, events};
use super::page::{Answer, Shell, render};
use super::targets::targets;
use super::visitor::Visitor;
use super::words::{Moment, Sentence};
use crate::config::Scope;
use crate::pipeline::claims::ClaimState;
use crate::ports::catalogue::{Person, RecordedClaims, Search, Sort};
use crate::ports::store::{MembershipView, UserView};

/// People on one page.
const PAGE: usize = 50;
/// What of their past one page tells.
const MOST_EVENTS: usize = 20;
/// Values of one claim that are shown.
const MOST_VALUES: usize = 50;

#[derive(Template)]
#[template(path = "console/people.html")]
struct List {
    shell: Shell,
    query: String,
    people: Vec<Row>,
    /// More than are shown.
    more: bool,
    /// Where the next page begins, without a search.
    next: Option<i64>,
    first: bool,
}

/// A person in a list.
pub struct Row {
    pub number: i64,
    pub name: String,
    pub email: String,
    pub key: String,
    pub enabled: bool,
    pub last_login: Option<Moment>,
}

impl From<Person> for Row {
    fn from(person: Person) -> Self {
        let Person { number, user, email, display_name, enabled, last_login_at } = person;
        let email = email.unwrap_or_default();
        let names = [display_name.unwrap_or_default(), email.clone(), user.subject.to_string()];
        let name = names.into_iter().find(|name| !name.trim().is_empty()).unwrap_or_default();
        Self { number, name, email, key: user.to_string(), enabled, last_login: last_login_at.map(Moment::of) }
    }
}

/// The list of people: all, in the order of creation, or those that a search finds.
pub async fn list(State(console): State<Console>, visitor: Visitor, shell: Shell, Asked(asked): Asked) -> Answer {
    visitor.caller.may(Scope::Read)?;
    let query = asked.get("q").to_owned();
    let after: i64 = asked.get("after").parse().unwrap_or_default();
    let store = console.admin.inspect().store();
    let mut people = match query.is_empty() {
        true => store.persons(after, PAGE + 1).await?,
        false => {
            let search = Search { text: Some(query.clone()), sort: Sort::Name, limit: PAGE + 1, ..Search::default() };
            store.find(search).await?.members.into_iter().map(|member| member.person).collect()
        }
    };
    let more = people.len() > PAGE;
    people.truncate(PAGE);
    let next = people.last().map(|person| person.number).filter(|_| more && query.is_empty());
    let page =
        List { shell, query, people: people.into_iter().map(Row::from).collect(), more, next, first: after == 0 };
    Ok(render(StatusCode::OK, &page))
}

#[derive(Template)]
#[template(path = "console/person.html")]
struct Page {
    shell: Shell,
    person: Row,
    view: UserView,
    memberships: Vec<Membership>,
    created: Moment,
    logins: Vec<(String, Moment)>,
    claims: Vec<ClaimsOf>,
    shows_values: bool,
    sessions: Vec<SessionRow>,
    events: Vec<EventRow>,
    /// The audit has more than the page.
    has_older_events: bool,
    /// This session may act on the person.
    acts: bool,
    /// And erase them.
    erases: bool,
    /// The receivers of what they hold.
    receivers: Vec<String>,
    /// Groups and roles as forms name them, and as people do.
    targets: Vec<(String, String)>,
}

/// What the last login through one provider brought.
struct ClaimsOf {
    provider: String,
    claims: Vec<ClaimRow>,
}

struct ClaimRow {
    name: String,
    state: String,
    values: Vec<String>,
    left_out: usize,
}

/// One group or role that a person has a reason to hold, or is denied.
struct Membership {
    kind: &'static str,
    name: String,
    denied: bool,
    effective: bool,
    /// Given by hand, perhaps by a mapping too.
    by_hand: bool,
    reasons: Vec<Sentence>,
}

impl From<&MembershipView> for Membership {
    fn from(view: &MembershipView) -> Self {
        Self {
            kind: view.kind,
            name: view.name.clone(),
            denied: view.denied,
            effective: view.effective,
            by_hand: matches!(view.membership, "assigned" | "both"),
            reasons: view.reasons.iter().map(|reason| Sentence::read(reason)).collect(),
        }
    }
}

struct SessionRow {
    provider: String,
    created: Moment,
    seen: Moment,
    expires: Moment,
}

/// The person with a number.
pub async fn person(console: &Console, number: &str) -> Result<Person, Failure> {
    let unknown = || Failure::not_found("There is no person with this number. People who were erased are gone.");
    let number: i64 = number.parse().map_err(|_| unknown())?;
    console.admin.inspect().store().person(number).await?.ok_or_else(unknown)
}

/// One person, with every reason.
pub async fn show(
    State(console): State<Console>,
    visitor: Visitor,
    shell: Shell,
    Path(number): Path<String>,
) -> Answer {
    visitor.caller.may(Scope::Read)?;
    let person = person(&console, &number).await?;
    let (inspect, user) = (console.admin.inspect(), person.user.clone());
    let store = inspect.store();
    let view = console.admin.service.user(user.clone()).await?;
    let logins = store.logins(person.number).await?;
    let shows_values = visitor.may(Scope::WriteMappings);
    let recorded = store.recorded(user.clone(), inspect.rules()).await?;
    let sessions = console.admin.service.sessions_of(user).await?.into_iter();
    let mut rows = store.audit_about(person.number, MOST_EVENTS + 1).await?;
    let has_older_events = rows.len() > MOST_EVENTS;
    rows.truncate(MOST_EVENTS);
    let acts = visitor.may(Scope::WriteMembers);
    let page = Page {
        shell,
        acts,
        erases: visitor.may(Scope::Admin),
        receivers: inspect.config().receiver_names().into_iter().collect(),
        targets: if acts { targets(&inspect.rules()) } else { Vec::new() },
        created: Moment::read(&view.created_at),
        memberships: view.memberships.iter().map(Membership::from).collect(),
        view,
        person: person.into(),
        logins: logins.into_iter().map(|(provider, at)| (provider, Moment::of(at))).collect(),
        claims: recorded.iter().map(|recorded| claims_of(recorded, shows_values)).collect(),
        shows_values,
        sessions: sessions
            .map(|session| SessionRow {
                provider: session.provider,
                created: Moment::of(session.created_at),
                seen: Moment::of(session.seen_at),
                expires: Moment::of(session.expires_at),
            })
            .collect(),
        events: events(rows.into_iter()),
        has_older_events,
    };
    Ok(render(StatusCode::OK, &page))
}

fn claims_of((provider, claims): &RecordedClaims, shows_values: bool) -> ClaimsOf {
    let row = |claim: &crate::pipeline::claims::Claim| {
        let values = match (&claim.state, shows_values) {
            (ClaimState::Values(values), true) => values.as_slice(),
            _ => &[],
        };
        ClaimRow {
            name: claim.name.to_string(),
            state: claim.state.to_string(),
            values: values.iter().take(MOST_VALUES).cloned().collect(),
            left_out: values.len().saturating_sub(MOST_VALUES),
        }
    };
    ClaimsOf { provider: provider.to_string(), claims: claims.claims.iter().map(row).collect() }
}
