//! Who may act besides people who log in: API clients, and operators of this console.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;

use super::Console;
use super::door::{Fields, Posted};
use super::failure::Failure;
use super::page::{Answer, Confirm, Shell, go, render};
use super::visitor::Visitor;
use super::words::{Moment, Sentence};
use crate::config::{Face, Scope};
use crate::serve::admin::service::{ClientView, NewClient, OperatorSession, Refused};

#[derive(Template)]
#[template(path = "console/clients.html")]
struct Page {
    shell: Shell,
    rows: Vec<Row>,
    scopes: Vec<Choice>,
    faces: Vec<Choice>,
    /// What was typed.
    name: String,
    faults: Vec<Sentence>,
    made: Option<Made>,
}

struct Row {
    client: ClientView,
    created: Option<Moment>,
    revoked: Option<Moment>,
}

/// A box that is ticked or not.
struct Choice {
    word: &'static str,
    says: &'static str,
    ticked: bool,
}

/// A client that was made just now. Its secret is shown on this page and never again.
struct Made {
    name: String,
    secret: String,
}

fn scopes(ticked: &[String]) -> Vec<Choice> {
    let says = |scope| match scope {
        Scope::Read => "see everything",
        Scope::WriteMappings => "groups, roles and mappings, but for what is privileged",
        Scope::WriteMembers => "assign, deny, disable, but for what is privileged",
        Scope::Admin => "everything",
    };
    let choice = |scope: Scope| Choice {
        word: scope.word(),
        says: says(scope),
        ticked: ticked.iter().any(|word| word == scope.word()),
    };
    Scope::ALL.into_iter().map(choice).collect()
}

fn faces(ticked: &[String]) -> Vec<Choice> {
    let choice =
        |face: Face| Choice { word: face.word(), says: "", ticked: ticked.iter().any(|word| word == face.word()) };
    Face::ALL.into_iter().map(choice).collect()
}

/// The page, with what was typed.
async fn page(
    console: &Console,
    visitor: &Visitor,
    shell: Shell,
    typed: &Fields,
    outcome: Result<Option<Made>, Vec<Sentence>>,
) -> Answer {
    let rows = console.admin.service.clients(&visitor.call()).await?.into_iter().map(|client| Row {
        created: client.created_at.as_deref().map(Moment::read),
        revoked: client.revoked_at.as_deref().map(Moment::read),
        client,
    });
    let status = if outcome.is_ok() { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY };
    let again = !matches!(outcome, Ok(Some(_)));
    let ticked = |name| if again { typed.all(name) } else { Vec::new() };
    let (made, faults) = match outcome {
        Ok(made) => (made, Vec::new()),
        Err(faults) => (None, faults),
    };
    let page = Page {
        shell,
        rows: rows.collect(),
        scopes: scopes(&ticked("scope")),
        faces: faces(&ticked("face")),
        name: if again { typed.get("name").to_owned() } else { String::new() },
        faults,
        made,
    };
    Ok(render(status, &page))
}

pub async fn list(State(console): State<Console>, visitor: Visitor, shell: Shell) -> Answer {
    page(&console, &visitor, shell, &Fields::default(), Ok(None)).await
}

/// Makes a client, and shows its secret once.
pub async fn make(State(console): State<Console>, visitor: Visitor, shell: Shell, Posted(fields): Posted) -> Answer {
    let name = fields.get("name").to_owned();
    let new = NewClient { name: name.clone(), scopes: fields.all("scope"), faces: fields.all("face") };
    let outcome = match console.admin.service.create_client(&visitor.call(), new).await {
        Ok(secret) => Ok(Some(Made { name, secret })),
        Err(Refused::Invalid(faults)) => {
            let told = faults.iter().map(|fault| Sentence::read(&format!("{}: {}", fault.field, fault.message)));
            Err(told.collect())
        }
        Err(refused @ Refused::Conflict(_)) => Err(vec![Sentence::read(&refused.text())]),
        Err(other) => return Err(other.into()),
    };
    page(&console, &visitor, shell, &fields, outcome).await
}

/// The outcome of ending a client, and then its end.
pub async fn end(State(console): State<Console>, visitor: Visitor, shell: Shell, Posted(fields): Posted) -> Answer {
    let (service, call, name) = (&console.admin.service, visitor.call(), fields.get("name"));
    if fields.get("act") == "end" {
        service.revoke_client(&call, name).await?;
        return Ok(go("/console/clients"));
    }
    let found = service.clients(&call).await?.into_iter().find(|client| client.name == name);
    let found = found.filter(|client| client.revoked_at.is_none());
    let client = found.ok_or_else(|| Failure::not_found("There is no such client, or it has ended."))?;
    let effects = vec![
        ("may", Sentence::read(&client.scopes.join(", "))),
        ("calls", Sentence::read(&client.faces.join(", "))),
        ("loses", Sentence::read("its secret and its access tokens; its next call is answered 401")),
    ];
    let says = format!(
        "End API client `{name}`. It cannot be brought back; another one of this name would have another secret."
    );
    Ok(confirm(
        shell,
        &client.name,
        "API client",
        &says,
        effects,
        "/console/clients",
        vec![("name".into(), name.into())],
    ))
}

fn confirm(
    shell: Shell,
    title: &str,
    lead: &str,
    says: &str,
    effects: Vec<(&'static str, Sentence)>,
    place: &str,
    mut fields: Vec<(String, String)>,
) -> Response {
    fields.push(("act".into(), "end".into()));
    let page = Confirm {
        shell,
        title: title.to_owned(),
        lead: lead.to_owned(),
        says: Sentence::read(says),
        effects,
        action: format!("{place}/end"),
        fields,
        button: "End it",
        back: place.to_owned(),
        severe: true,
    };
    render(StatusCode::OK, &page)
}

#[derive(Template)]
#[template(path = "console/operators.html")]
struct Operators {
    shell: Shell,
    rows: Vec<OperatorRow>,
    acts: bool,
}

struct OperatorRow {
    session: OperatorSession,
    created: Moment,
    idle_until: Moment,
    expires: Moment,
}

impl From<OperatorSession> for OperatorRow {
    fn from(session: OperatorSession) -> Self {
        Self {
            created: Moment::read(&session.created_at),
            idle_until: Moment::read(&session.idle_until),
            expires: Moment::read(&session.expires_at),
            session,
        }
    }
}

/// Who is signed in to the console.
pub async fn operators(State(console): State<Console>, visitor: Visitor, shell: Shell) -> Answer {
    visitor.caller.may(Scope::Read)?;
    let rows = console.admin.service.operator_sessions().await?.into_iter().map(OperatorRow::from).collect();
    Ok(render(StatusCode::OK, &Operators { shell, rows, acts: visitor.may(Scope::Admin) }))
}

/// The outcome of ending a session, and then its end.
pub async fn end_operator(
    State(console): State<Console>,
    visitor: Visitor,
    shell: Shell,
    Posted(fields): Posted,
) -> Answer {
    visitor.caller.may(Scope::Admin)?;
    let (service, id) = (&console.admin.service, fields.get("id"));
    if fields.get("act") == "end" {
        service.end_operator_session(&visitor.call(), id).await?;
        return Ok(go("/console/operators"));
    }
    let found = service.operator_sessions().await?.into_iter().find(|session| session.id == id);
    let session = found.ok_or_else(|| Failure::not_found("There is no such session. It may have ended."))?;
    let (lead, loses) = match session.is_link {
        true => ("link to the console", "the link is no longer valid"),
        false => ("session of the console", "the next request of this browser has to sign in again"),
    };
    let effects = vec![("since", Sentence::read(&session.created_at)), ("then", Sentence::read(loses))];
    let says = format!("End this {lead}, of `{}`.", session.name);
    Ok(confirm(shell, &session.name, lead, &says, effects, "/console/operators", vec![("id".into(), id.into())]))
}
