//! Groups at a receiver, and who is in them.

use serde_json::Value;

use super::super::{Fault, FaultKind};
use super::connection::Server;
use super::message::{Answer, Kind, Member, Request, group, group_with, id, members, text};
use super::quirks::{Quirks, Way};
use super::users::search;

/// A group as the receiver shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Shown {
    /// As it is called there.
    pub name: Option<String>,
    /// `None`: they are not shown, or are too many to be read.
    pub members: Option<Vec<String>>,
    resource: Value,
}

impl Shown {
    pub fn has(&self, member: &Member) -> Option<bool> {
        self.members.as_ref().map(|members| members.contains(&member.id))
    }
}

/// What a look has found, before a member is put in or taken out.
#[derive(Debug, Clone, PartialEq)]
pub enum Look {
    /// There is no such group.
    Gone,
    /// It is so already.
    Already,
    /// It has to be done.
    Other(Box<Shown>),
}

/// The group behind an id; `None`: there is none.
///
/// # Errors
/// When the server fails.
pub async fn read(server: &dyn Server, quirks: &Quirks, place: &str, name: &str) -> Result<Option<Shown>, Fault> {
    let answer = server.ask(Request::get(Kind::Groups, place)).await?;
    if answer.is_gone() {
        return Ok(None);
    }
    let unseen = Shown { name: None, members: None, resource: Value::Null };
    if answer.is_too_long || answer.is_unsupported() {
        return Ok(Some(unseen));
    }
    // Another document would read as a group without members.
    if !answer.is_success() || id(&answer.body).as_deref() != Some(place) {
        return Err(answer.fault(&format!("failed to read group `{name}`")));
    }
    Ok(Some(Shown {
        name: text(&answer.body, Kind::Groups.name()).map(str::to_owned),
        members: (!quirks.hides_members).then(|| members(&answer.body)),
        resource: answer.body,
    }))
}

/// The id of the one group of a name.
///
/// # Errors
/// When two have it, and when the server fails.
pub async fn find(server: &dyn Server, name: &str) -> Result<Option<String>, Fault> {
    let is_named = |resource: &Value| text(resource, Kind::Groups.name()) == Some(name);
    let found = search(server, Kind::Groups, name, is_named).await?;
    match found.as_slice() {
        [] => Ok(None),
        [one] => id(one).map(Some).ok_or_else(|| Fault::new(FaultKind::Refused, format!("group `{name}` has no `id`"))),
        _ => Err(Fault::new(FaultKind::Refused, format!("two groups there are called `{name}`"))),
    }
}

/// Makes a group. Some servers make none without a member. `None`: there is one already.
///
/// # Errors
/// When the server does not make it.
pub async fn create(server: &dyn Server, quirks: &Quirks, name: &str, first: &Member) -> Result<Option<String>, Fault> {
    let mut answer = Answer::default();
    let ways: &[Option<&Member>] = match quirks.empty_groups {
        Some(false) => &[Some(first)],
        _ => &[None, Some(first)],
    };
    for member in ways {
        answer = server.ask(Request::create(Kind::Groups, group(name, *member))).await?;
        if !matches!(answer.status, 400 | 422) {
            break;
        }
    }
    match id(&answer.body).filter(|_| answer.is_success()) {
        Some(id) => Ok(Some(id)),
        None if answer.status == 409 => Ok(None),
        None => Err(answer.fault(&format!("failed to create group `{name}`"))),
    }
}

/// Looks whether a member is in a group already, or out of it. `anew`: one that is called otherwise is not the group.
///
/// # Errors
/// When the group is called otherwise, and when the server fails.
pub async fn look(
    server: &dyn Server,
    quirks: &Quirks,
    (place, name): (&str, &str),
    member: &Member,
    (is_in, anew): (bool, bool),
) -> Result<Look, Fault> {
    let Some(shown) = read(server, quirks, place, name).await? else { return Ok(Look::Gone) };
    let is_other = is_in && shown.name.as_ref().is_some_and(|there| there != name);
    match (is_other, anew) {
        (true, true) => return Ok(Look::Gone),
        (true, false) => {
            let why = format!(
                "group `{name}` is called otherwise there now: rename it back, or run `loginsync delivery resync`"
            );
            return Err(Fault::new(FaultKind::Refused, why));
        }
        (false, _) => {}
    }
    match shown.has(member) == Some(is_in) {
        true => Ok(Look::Already),
        false => Ok(Look::Other(Box::new(shown))),
    }
}

/// Puts a member into a group or takes it out, and looks whether that was done. `false`: there is no such group any more.
///
/// # Errors
/// When it was not done, and when the server fails.
pub async fn change(
    server: &dyn Server,
    quirks: &Quirks,
    (place, name): (&str, &str),
    member: &Member,
    is_in: bool,
    shown: &Shown,
) -> Result<bool, Fault> {
    let way = if is_in { quirks.add } else { quirks.remove };
    let what = match is_in {
        true => format!("failed to put the user into group `{name}`"),
        false => format!("failed to take the user out of group `{name}`"),
    };
    let operation = if is_in { member.add() } else { member.remove() };
    let answer = match (way, &shown.members) {
        (Way::Patch, _) => server.ask(Request::patch(Kind::Groups, place, operation)).await?,
        (Way::Put, Some(_)) => {
            let body = group_with(&shown.resource, member, is_in);
            server.ask(Request::put(Kind::Groups, place, body)).await?
        }
        (Way::Put, None) => {
            return Err(Fault::new(FaultKind::Refused, format!("{what}: its members are too many to be read")));
        }
        (Way::No, _) => {
            let why = format!("{what}: the receiver does not, by its last `loginsync delivery test`");
            return Err(Fault::new(FaultKind::Refused, why));
        }
    };
    if answer.is_gone() {
        return Ok(false);
    }
    // Whatever it says, what counts is what it shows. Some fail at what is so already.
    let after = read(server, quirks, place, name).await?;
    match after.as_ref().map(|after| after.has(member)) {
        None => Ok(false),
        Some(Some(found)) if found == is_in => Ok(true),
        Some(None) if answer.is_success() => Ok(true),
        _ if answer.is_success() => {
            let why = format!(
                "{what}: the receiver says that it has, and has not; `loginsync delivery test` learns what it needs"
            );
            Err(Fault::new(FaultKind::Refused, why))
        }
        _ => Err(answer.fault(&what)),
    }
}
