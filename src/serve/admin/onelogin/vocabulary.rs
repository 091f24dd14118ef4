//! What conditions and actions there are: the vendor publishes no other list, so that clients ask for it here.

use axum::Json;
use axum::extract::{Path, State};
use serde::Serialize;
use utoipa::ToSchema;

use super::body::{FOREIGN_ACTIONS, Names, STATUSES, TEXT_OPERATORS};
use super::{Errors, Problem};
use crate::config::Scope;
use crate::serve::admin::http::{Admin, Head};

#[derive(Debug, Serialize, ToSchema)]
pub struct Word {
    name: String,
    value: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Choice {
    name: String,
    value: i64,
}

impl Word {
    fn new(name: impl Into<String>, value: &str) -> Self {
        Self { name: name.into(), value: value.to_owned() }
    }
}

fn names(admin: &Admin) -> Names {
    Names::new(&admin.inspect().stored(), &admin.inspect().rules())
}

#[utoipa::path(get, path = "/api/2/mappings/conditions", operation_id = "listConditions",
    responses((status = 200, description = "The condition sources", body = [Word]), Errors))]
pub async fn conditions(State(admin): State<Admin>, Head(call): Head) -> Result<Json<Vec<Word>>, Problem> {
    call.caller.may(Scope::Read)?;
    let names = names(&admin);
    let claims = names.claims().iter().map(|claim| Word::new(shown(claim), claim));
    let people = [Word::new("Roles", "has_role"), Word::new("Last Login", "last_login")];
    Ok(Json(claims.chain(people).collect()))
}

#[utoipa::path(get, path = "/api/2/mappings/conditions/{source}/operators", operation_id = "listConditionOperators",
    params(("source" = String, Path)),
    responses((status = 200, description = "The operators of the source", body = [Word]), Errors))]
pub async fn operators(
    State(admin): State<Admin>,
    Head(call): Head,
    Path(source): Path<String>,
) -> Result<Json<Vec<Word>>, Problem> {
    call.caller.may(Scope::Read)?;
    let words: &[(&str, &str)] = match source.as_str() {
        "has_role" => &[("ri", "include"), ("rin", "do not include")],
        "last_login" => &[(">", "is greater than"), ("<", "is less than")],
        claim if names(&admin).claims().iter().any(|known| known == claim) => &TEXT_OPERATORS,
        _ => return Err(Problem::not_found()),
    };
    Ok(Json(words.iter().map(|(sign, name)| Word::new(*name, sign)).collect()))
}

/// An empty list: any text.
#[utoipa::path(get, path = "/api/2/mappings/conditions/{source}/values", operation_id = "listConditionValues",
    params(("source" = String, Path)),
    responses((status = 200, description = "The values of the source; an empty list means any text", body = [Choice]), Errors))]
pub async fn condition_values(
    State(admin): State<Admin>,
    Head(call): Head,
    Path(source): Path<String>,
) -> Result<Json<Vec<Choice>>, Problem> {
    call.caller.may(Scope::Read)?;
    match source.as_str() {
        "has_role" => {
            let roles = admin.service.roles().into_iter();
            Ok(Json(roles.map(|role| Choice { name: role.name, value: role.number }).collect()))
        }
        "last_login" => Ok(Json(Vec::new())),
        claim if names(&admin).claims().iter().any(|known| known == claim) => Ok(Json(Vec::new())),
        _ => Err(Problem::not_found()),
    }
}

#[utoipa::path(get, path = "/api/2/mappings/actions", operation_id = "listActions",
    responses((status = 200, description = "The actions", body = [Word]), Errors))]
pub async fn actions(State(_): State<Admin>, Head(call): Head) -> Result<Json<Vec<Word>>, Problem> {
    call.caller.may(Scope::Read)?;
    let own = [("Set Role", "add_role"), ("Add Group", "add_group"), ("Set Status", "set_status")];
    let own = own.into_iter().map(|(name, value)| Word::new(name, value));
    let foreign = FOREIGN_ACTIONS.iter().map(|name| Word::new(format!("{} (no effect here)", shown(name)), name));
    Ok(Json(own.chain(foreign).collect()))
}

/// An empty list: any text. What is privileged is not here: it takes mappings from the configuration file alone.
#[utoipa::path(get, path = "/api/2/mappings/actions/{action}/values", operation_id = "listActionValues",
    params(("action" = String, Path)),
    responses((status = 200, description = "The values of the action; an empty list means any text", body = [Choice]), Errors))]
pub async fn action_values(
    State(admin): State<Admin>,
    Head(call): Head,
    Path(action): Path<String>,
) -> Result<Json<Vec<Choice>>, Problem> {
    call.caller.may(Scope::Read)?;
    let rules = admin.inspect().rules();
    match action.as_str() {
        "add_role" => {
            let roles = admin.service.roles().into_iter().filter(|role| !role.privileged);
            Ok(Json(roles.map(|role| Choice { name: role.name, value: role.number }).collect()))
        }
        "add_group" => {
            let carries = |group: &crate::serve::admin::service::GroupView| {
                let role_is = |name: &String| rules.roles.get(name.as_str()).is_some_and(|role| role.privileged);
                group.privileged || group.roles.iter().any(role_is)
            };
            let groups = admin.service.groups().into_iter().filter(|group| !carries(group));
            Ok(Json(groups.map(|group| Choice { name: group.name, value: group.number }).collect()))
        }
        "set_status" => {
            Ok(Json(STATUSES.iter().map(|(value, name)| Choice { name: (*name).to_owned(), value: *value }).collect()))
        }
        name if FOREIGN_ACTIONS.contains(&name) || name.starts_with("set_custom_attribute_") => Ok(Json(Vec::new())),
        _ => Err(Problem::not_found()),
    }
}

/// `set_employee_id` as people read it: `Set Employee Id`.
fn shown(name: &str) -> String {
    if name == "member_of" {
        return String::from("MemberOf");
    }
    let words = name.strip_prefix("custom_attribute_").unwrap_or(name).split('_');
    let capital = |word: &str| {
        let mut characters = word.chars();
        characters.next().map(|first| first.to_uppercase().chain(characters).collect::<String>()).unwrap_or_default()
    };
    words.map(capital).collect::<Vec<_>>().join(" ")
}
