//! What is done about one person: each act is shown with its outcome, and then carried out.

use std::time::Duration;

use axum::extract::{Path, State};
use http::StatusCode;

use super::Console;
use super::door::{Fields, Posted};
use super::failure::Failure;
use super::page::go;
use super::page::{Answer, Confirm, Shell, render};
use super::people::{Row, person};
use super::targets::target;
use super::visitor::Visitor;
use super::words::Sentence;
use crate::config::Scope;
use crate::pipeline::ids::{Namespace, Subject, Timestamp, UserId};
use crate::ports::catalogue::Person;
use crate::ports::store::{Act, Rekeyed};

/// Characters of a reason at most, as at `/api/v1`.
const MOST_REASON: usize = 1024;
const DAY: u64 = 86_400;

/// What can be done about a person.
enum Doing {
    Act(Act),
    EndSessions,
    AskProvider,
    Rekey { to: UserId, merge: bool },
    TellAnew { receiver: String },
}

/// The outcome of an act. Nothing is written.
pub async fn preview(
    State(console): State<Console>,
    visitor: Visitor,
    shell: Shell,
    Path(number): Path<String>,
    Posted(fields): Posted,
) -> Answer {
    let person = person(&console, &number).await?;
    let (doing, says) = doing(&fields, console.admin.inspect().now())?;
    let severe = match &doing {
        Doing::Act(act) => matches!(act, Act::Erase | Act::Forget | Act::Disable | Act::Deny { .. }),
        Doing::EndSessions | Doing::Rekey { .. } => true,
        Doing::AskProvider | Doing::TellAnew { .. } => false,
    };
    let effects = effects(&console, &visitor, &person, doing).await?;
    let given = ["act", "target", "reason", "days", "to", "merge", "receiver"];
    let given = given.into_iter().filter(|name| !fields.get(name).is_empty());
    let row = Row::from(person);
    let page = Confirm {
        shell,
        says: Sentence::read(&says),
        effects,
        action: format!("/console/people/{}/act", row.number),
        fields: given.map(|name| (name.to_owned(), fields.get(name).to_owned())).collect(),
        button: "Do it",
        back: format!("/console/people/{}", row.number),
        severe,
        title: row.name,
        lead: row.key,
    };
    Ok(render(StatusCode::OK, &page))
}

/// Its outcome, in words; who may not do it learns nothing.
async fn effects(
    console: &Console,
    visitor: &Visitor,
    person: &Person,
    doing: Doing,
) -> Result<Vec<(&'static str, Sentence)>, Failure> {
    let (service, call, user) = (&console.admin.service, visitor.call(), person.user.clone());
    let told = |word, text: &str| (word, Sentence::read(text));
    Ok(match doing {
        Doing::Act(act) => {
            let outcome = service.foresee(&call, user, act).await?;
            let gains = outcome.gains.iter().map(|name| told("gains", name));
            let effects: Vec<_> = gains.chain(outcome.loses.iter().map(|name| told("loses", name))).collect();
            match effects.is_empty() {
                true => vec![told("changes", "none of the groups and roles that this person holds")],
                false => effects,
            }
        }
        Doing::EndSessions => {
            visitor.caller.may(Scope::WriteMembers)?;
            let count = service.sessions_of(user).await?.len();
            vec![told("ends", &format!("{count} session{}", if count == 1 { "" } else { "s" }))]
        }
        Doing::AskProvider => {
            visitor.caller.may(Scope::WriteMembers)?;
            let count = service.sessions_of(user).await?.len();
            vec![told(
                "asks for",
                &format!(
                    "{count} session{}; those without a refresh token stay as they are",
                    if count == 1 { "" } else { "s" }
                ),
            )]
        }
        Doing::Rekey { to, merge } => {
            let found = service.rekey(&call, vec![(user, to)], merge, false).await?;
            found.iter().flat_map(rekeyed).collect()
        }
        Doing::TellAnew { receiver } => {
            visitor.caller.may(Scope::Admin)?;
            let view = service.receiver(&receiver).await?;
            vec![told("receiver", &format!("`{}`, which {} now", view.name, view.state))]
        }
    })
}

/// What a person is, holds and is denied under a new key.
fn rekeyed(one: &Rekeyed) -> Vec<(&'static str, Sentence)> {
    let Rekeyed { old, new, merged, erased, disabled, denies, assigned } = one;
    let told = |word, text: String| (word, Sentence::read(&text));
    let mut effects = vec![told("from", format!("`{old}`")), told("to", format!("`{new}`"))];
    if *merged {
        effects.push(told(
            "becomes one",
            "with the user who has the new key; denies and disabling of both are kept".into(),
        ));
    }
    if *erased {
        effects.push(told("moves", "denies and a disabled state that still apply to an erased person".into()));
    }
    if *disabled {
        effects.push(told("stays", "disabled".into()));
    }
    effects.extend(denies.iter().map(|target| told("stays denied", target.to_string())));
    effects.extend(assigned.iter().map(|target| told("keeps by hand", target.to_string())));
    effects
}

/// Carries an act out.
pub async fn carry_out(
    State(console): State<Console>,
    visitor: Visitor,
    Path(number): Path<String>,
    Posted(fields): Posted,
) -> Answer {
    let person = person(&console, &number).await?;
    let (doing, _) = doing(&fields, console.admin.inspect().now())?;
    let (service, call, user) = (&console.admin.service, visitor.call(), person.user);
    let mut place = format!("/console/people/{}", person.number);
    match doing {
        Doing::Act(act) => {
            if matches!(act, Act::Erase | Act::Forget) {
                place = "/console/people".into();
            }
            service.act(&call, vec![(user, act)]).await?;
        }
        Doing::EndSessions => drop(service.end_sessions_of(&call, user).await?),
        Doing::AskProvider => drop(service.ask_provider(&call, user).await?),
        Doing::Rekey { to, merge } => {
            service.rekey(&call, vec![(user, to.clone())], merge, true).await?;
            if let Some(number) = console.admin.inspect().store().number(to).await? {
                place = format!("/console/people/{number}");
            }
        }
        Doing::TellAnew { receiver } => drop(service.tell_anew(&call, &receiver, Some(user)).await?),
    }
    Ok(go(&place))
}

/// What a form asks for, and that as a sentence.
fn doing(fields: &Fields, now: Timestamp) -> Result<(Doing, String), Failure> {
    Ok(match fields.get("act") {
        "end-sessions" => {
            (Doing::EndSessions, "End the sessions of this person: their next request has to log in.".into())
        }
        "ask-provider" => {
            let says = "Ask the provider again for each session that can be renewed, and apply what it says.";
            (Doing::AskProvider, says.into())
        }
        "rekey" => {
            let to = fields.get("to").split_once('/').and_then(|(space, subject)| {
                Some(UserId { namespace: Namespace::parse(space).ok()?, subject: Subject::parse(subject).ok()? })
            });
            let to =
                to.ok_or_else(|| Failure::wrong("Write the new key as `namespace/subject`, such as `okta/alice`."))?;
            let says =
                format!("Give this person the key `{to}`, with all that they hold, are denied and are disabled by.");
            (Doing::Rekey { to, merge: fields.get("merge") == "yes" }, says)
        }
        "tell-anew" => {
            let receiver = fields.get("receiver").to_owned();
            let says = format!(
                "Send `{receiver}` everything that this person holds, as if nothing had been delivered before."
            );
            (Doing::TellAnew { receiver }, says)
        }
        _ => {
            let (act, says) = act(fields, now)?;
            (Doing::Act(act), says)
        }
    })
}

fn act(fields: &Fields, now: Timestamp) -> Result<(Act, String), Failure> {
    let target = || target(fields.get("target"));
    Ok(match fields.get("act") {
        "assign" => {
            let target = target()?;
            let says = format!("Give {target} by hand. No login revokes it.");
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
                        denied something, a keyed digest stays, so that this still applies if they come back.";
            (Act::Erase, says.into())
        }
        _ => return Err(unknown()),
    })
}

fn unknown() -> Failure {
    Failure::wrong("This page does not know the requested action. Go back, and choose again.")
}
