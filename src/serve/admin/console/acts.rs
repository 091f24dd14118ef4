//! What is done about one person: each act is shown with what it comes to, and then carried out.

use std::time::Duration;

use askama::Template;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::LOCATION;

use super::Console;
use super::door::{Fields, Posted, Visitor};
use super::page::{Answer, Failure, Sentence, Shell, render};
use super::people::{Row, person};
use crate::pipeline::ids::{GroupName, RoleName, Target, Timestamp};
use crate::ports::store::{Act, Foreseen};

/// Characters of a reason at most, as at `/api/v1`.
const MOST_REASON: usize = 1024;
const DAY: u64 = 86_400;

#[derive(Template)]
#[template(path = "console/act.html")]
struct Preview {
    shell: Shell,
    person: Row,
    /// What would be done, as a sentence.
    says: Sentence,
    act: String,
    target: String,
    reason: String,
    days: String,
    outcome: Foreseen,
    /// Takes something away that does not come back by itself.
    severe: bool,
}

/// What an act would come to. Nothing is written.
pub async fn preview(
    State(console): State<Console>,
    visitor: Visitor,
    shell: Shell,
    Path(number): Path<String>,
    Posted(fields): Posted,
) -> Answer {
    let person = person(&console, &number).await?;
    let (act, says) = act(&fields, console.admin.inspect().now())?;
    let severe = matches!(act, Act::Erase | Act::Forget | Act::Disable | Act::Deny { .. });
    let outcome = console.admin.service.foresee(&visitor.call(), person.user.clone(), act).await?;
    let field = |name: &str| fields.get(name).to_owned();
    let page = Preview {
        shell,
        person: person.into(),
        says: Sentence::read(&says),
        act: field("act"),
        target: field("target"),
        reason: field("reason"),
        days: field("days"),
        outcome,
        severe,
    };
    Ok(render(StatusCode::OK, &page))
}

/// Carries an act out.
pub async fn carry_out(
    State(console): State<Console>,
    visitor: Visitor,
    Path(number): Path<String>,
    Posted(fields): Posted,
) -> Answer {
    let person = person(&console, &number).await?;
    let (act, _) = act(&fields, console.admin.inspect().now())?;
    let erases = matches!(act, Act::Erase | Act::Forget);
    console.admin.service.act(&visitor.call(), vec![(person.user, act)]).await?;
    Ok(go(&if erases { "/console/people".to_owned() } else { format!("/console/people/{}", person.number) }))
}

/// Sends the browser on, so that a reload repeats nothing.
pub fn go(address: &str) -> Response {
    (StatusCode::SEE_OTHER, [(LOCATION, address.to_owned())]).into_response()
}

/// What a form asks for, and that as a sentence.
fn act(fields: &Fields, now: Timestamp) -> Result<(Act, String), Failure> {
    let target = || target(fields.get("target"));
    Ok(match fields.get("act") {
        "assign" => {
            let target = target()?;
            let says = format!("Give {target} by hand. No login takes it away.");
            (Act::Assign(target), says)
        }
        "unassign" => {
            let target = target()?;
            let says = format!("Take away {target} as it was given by hand. What a mapping gives stays.");
            (Act::Unassign(target), says)
        }
        "deny" => {
            let (target, reason) = (target()?, fields.get("reason").to_owned());
            if reason.is_empty() || reason.chars().count() > MOST_REASON {
                return Err(Failure::wrong("A deny needs a reason of 1 to 1024 characters. Go back, and write one."));
            }
            let until = match fields.get("days") {
                "" => None,
                days => {
                    let days: u64 = days.parse().ok().filter(|days| (1..=3650).contains(days)).ok_or_else(unknown)?;
                    Some(now.plus(Duration::from_secs(days * DAY)))
                }
            };
            let end = until.map_or_else(|| "until it is lifted".to_owned(), |until| format!("until {until}"));
            let says = format!("Deny {target} {end}, whatever a mapping or a hand gives.");
            (Act::Deny { target, reason, until }, says)
        }
        "undeny" => {
            let target = target()?;
            let says = format!("Lift the deny of {target}.");
            (Act::Undeny(target), says)
        }
        "disable" => (Act::Disable, "Disable this person: no login enters, and their sessions end.".into()),
        "enable" => (Act::Enable, "Enable this person: their next login enters.".into()),
        "erase" => {
            let says = "Erase this person with all that they hold, and their personal fields in the audit. Where they are disabled or \
                        denied something, a keyed digest stays, so that this binds them if they come back.";
            (Act::Erase, says.into())
        }
        _ => return Err(unknown()),
    })
}

fn unknown() -> Failure {
    Failure::wrong("What is to be done is not said in a way that this page knows. Go back, and choose again.")
}

/// A target as forms name it: `group:Staff`.
pub fn target(text: &str) -> Result<Target, Failure> {
    let parsed = match text.split_once(':') {
        Some(("group", name)) => GroupName::parse(name).ok().map(Target::Group),
        Some(("role", name)) => RoleName::parse(name).ok().map(Target::Role),
        _ => None,
    };
    parsed.ok_or_else(|| Failure::wrong("Choose a group or a role. Go back, which brings back what you typed."))
}
