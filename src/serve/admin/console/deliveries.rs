//! Deliveries: what is pending for receivers, and why; pausing, resuming, retrying, sending everything again.

use askama::Template;
use axum::extract::{Path, State};
use http::StatusCode;

use super::Console;
use super::door::Posted;
use super::failure::Failure;
use super::page::{Answer, Confirm, Shell, go, render};
use super::visitor::Visitor;
use super::words::{Moment, Sentence};
use crate::config::Scope;
use crate::ports::catalogue::{Search, Sort};
use crate::ports::publish::receivers::{PendingView, ReceiverView, TestFinding, Tested};

/// Pending deliveries that a page names.
const MOST: usize = 100;

/// How one receiver is doing.
pub struct Row {
    pub name: String,
    pub state: &'static str,
    pub pending: u64,
    pub stuck: u64,
    pub oldest: Option<Moment>,
    pub events_waiting: u64,
    pub events_dropped: u64,
    pub failures: u32,
    pub fault: Option<Sentence>,
    pub taken: Option<Moment>,
    pub paused_by: Option<Sentence>,
}

impl Row {
    pub fn class(&self) -> &'static str {
        match self.state {
            "delivers" => "good",
            "paused" => "warn",
            _ => "bad",
        }
    }
}

impl From<ReceiverView> for Row {
    fn from(view: ReceiverView) -> Self {
        Self {
            name: view.name,
            state: view.state,
            pending: view.pending,
            stuck: view.stuck,
            oldest: view.oldest.as_deref().map(Moment::read),
            events_waiting: view.events_waiting,
            events_dropped: view.events_dropped,
            failures: view.failures,
            fault: view.fault.as_deref().map(Sentence::read),
            taken: view.taken_at.as_deref().map(Moment::read),
            paused_by: view.paused_by.as_deref().map(Sentence::read),
        }
    }
}

#[derive(Template)]
#[template(path = "console/deliveries.html")]
struct List {
    shell: Shell,
    rows: Vec<Row>,
}

pub async fn list(State(console): State<Console>, visitor: Visitor, shell: Shell) -> Answer {
    visitor.caller.may(Scope::Read)?;
    let rows = console.admin.service.receivers().await?.into_iter().map(Row::from).collect();
    Ok(render(StatusCode::OK, &List { shell, rows }))
}

#[derive(Template)]
#[template(path = "console/delivery.html")]
struct Page {
    shell: Shell,
    row: Row,
    pending: Vec<Pending>,
    left_out: u64,
    tested: Option<LastTest>,
    acts: bool,
}

/// The result of the last test.
struct LastTest {
    at: Moment,
    by: Sentence,
    fault: Option<Sentence>,
    findings: Vec<TestFinding>,
}

impl From<Tested> for LastTest {
    fn from(tested: Tested) -> Self {
        Self {
            at: Moment::read(&tested.at),
            by: Sentence::read(&tested.by),
            fault: tested.fault.as_deref().map(Sentence::read),
            findings: tested.findings,
        }
    }
}

/// One delivery that is not confirmed.
struct Pending {
    number: i64,
    /// `None`: they were erased.
    key: Option<String>,
    changed: Moment,
    cause: String,
    version: i64,
    confirmed: i64,
    failures: u32,
    fault: Option<Sentence>,
    next: Option<Moment>,
}

impl From<PendingView> for Pending {
    fn from(view: PendingView) -> Self {
        let key = view.namespace.as_ref().zip(view.subject.as_ref());
        Self {
            number: view.user,
            key: key.map(|(namespace, subject)| format!("{namespace}/{subject}")),
            changed: Moment::read(&view.changed_at),
            cause: view.cause,
            version: view.version,
            confirmed: view.confirmed,
            failures: view.failures,
            fault: view.fault.as_deref().map(Sentence::read),
            next: view.next.as_deref().map(Moment::read),
        }
    }
}

pub async fn show(State(console): State<Console>, visitor: Visitor, shell: Shell, Path(name): Path<String>) -> Answer {
    visitor.caller.may(Scope::Read)?;
    let row = Row::from(console.admin.service.receiver(&name).await?);
    let pending = console.admin.service.pending(&name, MOST).await?;
    let left_out = row.pending.saturating_sub(pending.len() as u64);
    let pending = pending.into_iter().map(Pending::from).collect();
    let tested = console.admin.service.last_test(&name).await?.map(LastTest::from);
    let acts = visitor.may(Scope::Admin);
    Ok(render(StatusCode::OK, &Page { shell, row, pending, left_out, tested, acts }))
}

/// What can be done about a receiver: the button, and what it does.
fn says(act: &str, name: &str) -> Result<(&'static str, String), Failure> {
    Ok(match act {
        "test" => (
            "Test it",
            format!(
                "Send `{name}` a `ping` if it is a webhook. If it is a SCIM server, test what it supports, with a user and a \
                 group that are created there and removed."
            ),
        ),
        "pause" => {
            ("Pause it", format!("Stop deliveries to `{name}` until it is resumed. Pending deliveries are kept."))
        }
        "resume" => {
            ("Resume it", format!("Resume deliveries to `{name}`, even if it was disabled after many failures."))
        }
        "retry" => ("Try now", format!("Retry every failed delivery to `{name}` now, including stuck ones.")),
        "resync" => (
            "Send everything again",
            format!("Send `{name}` everything that all users hold, as if nothing had been delivered before."),
        ),
        _ => return Err(Failure::wrong("Choose what to do with this receiver. Nothing was changed.")),
    })
}

/// The outcome of an act. Nothing is written.
pub async fn preview(
    State(console): State<Console>,
    visitor: Visitor,
    shell: Shell,
    Path(name): Path<String>,
    Posted(fields): Posted,
) -> Answer {
    visitor.caller.may(Scope::Admin)?;
    let act = fields.get("act");
    let (button, says) = says(act, &name)?;
    let view = console.admin.service.receiver(&name).await?;
    let mut effects = vec![
        ("state now", Sentence::read(view.state)),
        ("pending deliveries", Sentence::read(&format!("{} people, {} of them stuck", view.pending, view.stuck))),
    ];
    if act == "resync" {
        let search = Search { sort: Sort::Number, limit: 1, ..Search::default() };
        let people = console.admin.inspect().store().find(search).await?.total;
        effects.push(("will get", Sentence::read(&format!("at most {people} people: those that its filters select"))));
    }
    let page = Confirm {
        shell,
        title: name.clone(),
        lead: "receiver".into(),
        says: Sentence::read(&says),
        effects,
        action: format!("/console/deliveries/{name}/act"),
        fields: vec![("act".into(), act.into())],
        button,
        back: format!("/console/deliveries/{name}"),
        severe: matches!(act, "pause" | "resync"),
    };
    Ok(render(StatusCode::OK, &page))
}

pub async fn carry_out(
    State(console): State<Console>,
    visitor: Visitor,
    Path(name): Path<String>,
    Posted(fields): Posted,
) -> Answer {
    let (service, call) = (&console.admin.service, visitor.call());
    match fields.get("act") {
        "test" => drop(service.test_receiver(&call, &name).await?),
        "pause" => drop(service.pause(&call, &name, true).await?),
        "resume" => drop(service.pause(&call, &name, false).await?),
        "retry" => drop(service.retry(&call, &name, None).await?),
        "resync" => drop(service.tell_anew(&call, &name, None).await?),
        other => drop(says(other, &name)?),
    }
    Ok(go(&format!("/console/deliveries/{name}")))
}
