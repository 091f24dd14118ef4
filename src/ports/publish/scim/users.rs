//! Users at a receiver: found, made, and switched off.

use serde_json::Value;

use super::super::{Fault, FaultKind};
use super::connection::Server;
use super::message::{Answer, Kind, Much, Person, Request, id, page, replace, text};

/// Pages of a server that ignores what it is asked for, at most.
const MOST_PAGES: usize = 50;

/// A user at the receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct There {
    pub id: String,
    /// What it says of their access, if anything.
    pub active: Option<bool>,
    /// It was not known before, or has another id now: what they hold there has to be looked at.
    pub is_new: bool,
    /// It has the name that we give users, or we have just made it: no other user of ours can be meant.
    pub is_certain: bool,
}

impl There {
    fn read(resource: &Value, is_certain: bool) -> Option<Self> {
        let active = resource.get("active").and_then(Value::as_bool);
        Some(Self { id: id(resource)?, active, is_new: true, is_certain })
    }
}

/// What is behind an id that was learned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Behind {
    TheUser(There),
    Nothing,
    /// Another user.
    Another,
}

/// Looks what is behind an id that was learned.
///
/// # Errors
/// When the server fails.
pub async fn remembered(server: &dyn Server, person: &Person, takes_over: bool, id: &str) -> Result<Behind, Fault> {
    let answer = server.ask(Request::get(Kind::Users, id)).await?;
    match &answer {
        answer if answer.is_gone() => Ok(Behind::Nothing),
        // It shows none.
        answer if answer.is_unsupported() => Ok(Behind::TheUser(known(id, None))),
        Answer { body, .. } if answer.is_success() && super::message::id(body).as_deref() == Some(id) => {
            Ok(match person.is(body, takes_over) {
                true => Behind::TheUser(known(id, body.get("active").and_then(Value::as_bool))),
                false => Behind::Another,
            })
        }
        answer => Err(answer.fault("failed to read the user")),
    }
}

fn known(id: &str, active: Option<bool>) -> There {
    There { id: id.to_owned(), active, is_new: false, is_certain: false }
}

/// Looks for a user by name. `in_any_case`: the server has said that it has one of this name, and may write it otherwise.
///
/// # Errors
/// When two have it, or one whom we call otherwise; and when the server fails.
pub async fn find(
    server: &dyn Server,
    person: &Person,
    takes_over: bool,
    in_any_case: bool,
) -> Result<Option<There>, Fault> {
    let is_ours = |resource: &Value| text(resource, "externalId") == Some(&person.external_id);
    let is_named = |resource: &Value| match text(resource, "userName") {
        Some(name) if in_any_case => name.eq_ignore_ascii_case(&person.user_name),
        name => name == Some(&person.user_name),
    };
    let found = search(server, Kind::Users, &person.user_name, |it| is_ours(it) || is_named(it)).await?;
    let found = match found.iter().find(|resource| is_ours(resource)) {
        Some(ours) => vec![ours.clone()],
        None => found,
    };
    let refused = |why: &str| Err(Fault::new(FaultKind::Refused, why));
    match found.as_slice() {
        [] => Ok(None),
        [one] => {
            let other = text(one, "externalId").is_some_and(|id| !id.is_empty() && id != person.external_id);
            match There::read(one, is_ours(one)) {
                Some(_) if other && !takes_over => refused(
                    "the user of this `userName` there has another `externalId`: set `users = \"match\"` to take such users over",
                ),
                Some(there) => Ok(Some(there)),
                None => refused("the user there has no `id`"),
            }
        }
        _ => refused("two users there have this `userName`"),
    }
}

/// What has this name: the server is asked for it, and what it returns is compared, since some return everything.
///
/// # Errors
/// When the server fails, or has more than can be looked through.
pub async fn search(
    server: &dyn Server,
    kind: Kind,
    name: &str,
    accepts: impl Fn(&Value) -> bool + Send + Sync,
) -> Result<Vec<Value>, Fault> {
    let what = match kind {
        Kind::Users => "failed to look for the user",
        Kind::Groups => "failed to look for the group",
    };
    let (mut found, mut seen): (Vec<Value>, usize) = (Vec::new(), 0);
    for _ in 0..MOST_PAGES {
        let answer = server.ask(Request::find(kind, kind.name(), name, seen + 1)).await?;
        if answer.is_gone() {
            return Ok(found);
        }
        let Some((resources, total)) = page(&answer.body).filter(|_| answer.is_success()) else {
            return Err(answer.fault(what));
        };
        seen += resources.len();
        found.extend(resources.iter().filter(|resource| accepts(resource)).cloned());
        if resources.is_empty() || seen >= total || found.len() > 1 {
            return Ok(found);
        }
    }
    Err(Fault::new(FaultKind::Refused, format!("{what}: the receiver ignores what it is asked for, and has too many")))
}

/// Makes a user. `None`: there is one already.
///
/// # Errors
/// When the server does not make it.
pub async fn create(server: &dyn Server, person: &Person) -> Result<Option<There>, Fault> {
    let mut answer = Answer::default();
    for much in Much::ALL {
        answer = server.ask(Request::create(Kind::Users, person.body(much))).await?;
        if !matches!(answer.status, 400 | 422) {
            break;
        }
    }
    match There::read(&answer.body, true).filter(|_| answer.is_success()) {
        Some(there) => Ok(Some(there)),
        None if answer.status == 409 => Ok(None),
        None => Err(answer.fault("failed to create the user")),
    }
}

/// Gives a user access, or takes it away, and looks whether that was done.
///
/// # Errors
/// When it was not.
pub async fn set_active(server: &dyn Server, id: &str, active: bool) -> Result<(), Fault> {
    let what = if active { "failed to activate the user" } else { "failed to deactivate the user" };
    let answer = server.ask(Request::patch(Kind::Users, id, replace("active", active.into()))).await?;
    if answer.is_gone() && !active {
        return Ok(());
    }
    if !answer.is_success() {
        return Err(answer.fault(what));
    }
    let answer = server.ask(Request::get(Kind::Users, id)).await?;
    let found = answer.body.get("active").and_then(Value::as_bool);
    match found {
        Some(found) if found == active => Ok(()),
        _ if !answer.is_success() && !answer.is_gone() => Err(answer.fault(what)),
        None if active || answer.is_gone() => Ok(()),
        _ => Err(Fault::new(FaultKind::Refused, format!("{what}: the receiver says that it has, and has not"))),
    }
}

/// Gives a user the names that they have here, where these have changed since the last delivery.
///
/// # Errors
/// When the server does not.
pub async fn rename(server: &dyn Server, id: &str, person: &Person) -> Result<(), Fault> {
    let names = [
        (Kind::Users.name(), &person.user_name, &person.former_name),
        ("externalId", &person.external_id, &person.former_id),
    ];
    for (attribute, name, former) in names {
        if former.as_ref().is_none_or(|former| former == name) {
            continue;
        }
        let operation = replace(attribute, name.as_str().into());
        let answer = server.ask(Request::patch(Kind::Users, id, operation)).await?;
        if !answer.is_success() {
            return Err(answer.fault(&format!("failed to change the `{attribute}`")));
        }
    }
    Ok(())
}
