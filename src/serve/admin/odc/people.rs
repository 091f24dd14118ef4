//! Which groups end-users are in and which roles they have, and by what.

use std::collections::HashMap;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Request, State};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::groups::{self, GroupObject, RoleObject};
use super::names::{ASSIGNED, MAPPED, Names, UserRoleObject, types, types_of};
use super::users::{self, UserObject};
use super::{Errors, Page, Parameters, Problem};
use crate::config::Scope;
use crate::pipeline::ids::{GroupName, RoleName, Target};
use crate::ports::catalogue::{Member, Within};
use crate::ports::store::Act;
use crate::serve::admin::http::{Admin, Head, json};
use crate::serve::admin::service::Refused;

const TYPES: [&str; 2] = [ASSIGNED, MAPPED];

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct MemberObject {
    /// `Assigned`, `Mapped`, or both.
    membership_types: Vec<&'static str>,
    user: UserObject,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MembersPatch {
    /// Null, which generated clients send, counts as absent.
    user_keys_to_add: Option<Vec<String>>,
    user_keys_to_remove: Option<Vec<String>>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct MembershipObject {
    membership_types: Vec<&'static str>,
    group: GroupObject,
}

#[utoipa::path(get, path = "/api/identity/v1/groups/{key}/users", operation_id = "list_group_users",
    params(("key" = String, Path), ("membershipType" = Option<String>, Query), users::Filters),
    responses((status = 200, description = "One page of members", body = Page<MemberObject>), Errors))]
pub async fn members(
    State(admin): State<Admin>,
    Head(call): Head,
    Path(key): Path<String>,
    request: Request,
) -> Result<Json<Page<MemberObject>>, Problem> {
    call.caller.may(Scope::Read)?;
    let asked = Parameters::of(&request);
    let mapped = match asked.words("membershipType", &TYPES)?.as_slice() {
        [ASSIGNED] => Some(false),
        [MAPPED] => Some(true),
        _ => None,
    };
    let within = Some(Within { target: group_target(&admin, &key)?, mapped });
    let object = |member: &Member, user| {
        let membership_types = types(member.mapped, member.assigned);
        MemberObject { membership_types, user }
    };
    users::page(&admin, &asked, within, object).await
}

/// Users who have the role directly, by hand or by a mapping of a role. Users who have it through a group are listed with the
/// group.
#[utoipa::path(get, path = "/api/identity/v1/application-roles/{key}/users", operation_id = "list_role_users",
    params(("key" = String, Path), users::Filters),
    responses((status = 200, description = "One page of users", body = Page<UserObject>), Errors))]
pub async fn role_holders(
    State(admin): State<Admin>,
    Head(call): Head,
    Path(key): Path<String>,
    request: Request,
) -> Result<Json<Page<UserObject>>, Problem> {
    call.caller.may(Scope::Read)?;
    let within = Some(Within { target: role_target(&admin, &key)?, mapped: None });
    users::page(&admin, &Parameters::of(&request), within, |_, user| user).await
}

/// All changes are made, or none. A user who is in the group only by a claim cannot be removed by hand.
#[utoipa::path(patch, path = "/api/identity/v1/groups/{key}/users", operation_id = "update_group_users",
    params(("key" = String, Path)),
    request_body = MembersPatch, responses((status = 200, description = "The members of the group are changed"), Errors))]
pub async fn update_members(
    State(admin): State<Admin>,
    Head(call): Head,
    Path(key): Path<String>,
    body: Bytes,
) -> Result<StatusCode, Problem> {
    call.caller.may(Scope::WriteMembers)?;
    let target = group_target(&admin, &key)?;
    let MembersPatch { user_keys_to_add, user_keys_to_remove } = json(&body, false)?;
    let mut acts = Vec::new();
    for key in &user_keys_to_add.unwrap_or_default() {
        let person = users::by_key(&admin, key).await?;
        let view = admin.service.user(person.user.clone()).await?;
        let held = view.memberships.iter().find(|one| one.kind == target.kind() && one.name == target.name());
        // Who is assigned already stays so.
        if !held.is_some_and(|held| types_of(held).contains(&ASSIGNED)) {
            acts.push((person.user, Act::Assign(target.clone())));
        }
    }
    for key in &user_keys_to_remove.unwrap_or_default() {
        acts.push((users::by_key(&admin, key).await?.user, Act::Unassign(target.clone())));
    }
    admin.service.act(&call, acts).await?;
    Ok(StatusCode::OK)
}

fn group_target(admin: &Admin, key: &str) -> Result<Target, Problem> {
    let name = groups::by_key(admin, key)?.name;
    let name = GroupName::parse(&name).map_err(|why| Refused::Conflict(why.to_string()))?;
    Ok(Target::Group(name))
}

#[utoipa::path(get, path = "/api/identity/v1/application-roles", operation_id = "list_application_roles",
    params(("key" = Option<String>, Query), ("nameContains" = Option<String>, Query), ("portfolioKeys" = Option<String>, Query),
        ("sort" = Option<String>, Query), ("limit" = Option<u32>, Query), ("offset" = Option<u32>, Query)),
    responses((status = 200, description = "One page of roles", body = Page<RoleObject>), Errors))]
pub async fn application_roles(
    State(admin): State<Admin>,
    Head(call): Head,
    request: Request,
) -> Result<Json<Page<RoleObject>>, Problem> {
    call.caller.may(Scope::Read)?;
    let asked = Parameters::of(&request);
    groups::role_page(&asked, admin.service.roles(), &asked.all(["key", "key"]))
}

#[utoipa::path(get, path = "/api/identity/v1/users/{key}/groups", operation_id = "list_user_groups",
    params(("key" = String, Path), ("membershipType" = Option<String>, Query), ("nameContains" = Option<String>, Query),
        ("environmentKey" = Option<String>, Query), ("environmentKeys" = Option<String>, Query),
        ("portfolioKeys" = Option<String>, Query), ("limit" = Option<u32>, Query), ("offset" = Option<u32>, Query)),
    responses((status = 200, description = "One page of groups", body = Page<MembershipObject>), Errors))]
pub async fn groups(
    State(admin): State<Admin>,
    Head(call): Head,
    Path(key): Path<String>,
    request: Request,
) -> Result<Json<Page<MembershipObject>>, Problem> {
    call.caller.may(Scope::Read)?;
    let asked = Parameters::of(&request);
    let wanted = asked.words("membershipType", &TYPES)?;
    let view = admin.service.user(users::by_key(&admin, &key).await?.user).await?;
    let held = view.memberships.iter().filter(|one| one.kind == "group" && one.effective);
    let mut held: HashMap<&str, Vec<&'static str>> = held.map(|one| (one.name.as_str(), types_of(one))).collect();
    held.retain(|_, types| wanted.is_empty() || types.iter().any(|word| wanted.contains(word)));
    let found = groups::found(&admin, &asked, |group| held.contains_key(group.name.as_str()))?;
    let object = |(name, group): (String, GroupObject)| {
        let membership_types = held.remove(name.as_str()).unwrap_or_default();
        MembershipObject { membership_types, group }
    };
    asked.page(found.into_iter().map(object).collect())
}

const SOURCES: [&str; 3] = ["Direct", "GroupAssigned", "GroupMapped"];

/// By default, lists the roles that the person has directly, by hand or by a mapping of a role.
#[utoipa::path(get, path = "/api/identity/v1/users/{key}/application-roles", operation_id = "list_user_roles",
    params(("key" = String, Path), ("assignmentSources" = Option<Vec<String>>, Query),
        ("nameContains" = Option<String>, Query), ("applicationRoleKeys" = Option<String>, Query),
        ("groupKeys" = Option<String>, Query), ("portfolioKeys" = Option<String>, Query), ("sort" = Option<String>, Query),
        ("limit" = Option<u32>, Query), ("offset" = Option<u32>, Query)),
    responses((status = 200, description = "One page of roles", body = Page<UserRoleObject>), Errors))]
pub async fn roles(
    State(admin): State<Admin>,
    Head(call): Head,
    Path(key): Path<String>,
    request: Request,
) -> Result<Json<Page<UserRoleObject>>, Problem> {
    call.caller.may(Scope::Read)?;
    let asked = Parameters::of(&request);
    asked.refuse(&["assetKey", "assetKeys", "environmentKey", "environmentKeys"])?;
    let mut sources = asked.words("assignmentSources", &SOURCES)?;
    if sources.is_empty() {
        sources.push("Direct");
    }
    let (keys, through) =
        (asked.all(["applicationRoleKeys", "applicationRoleKeys"]), asked.all(["groupKeys", "groupKeys"]));
    let (_, descending) = asked.sort(&["name"])?;
    let view = admin.service.user(users::by_key(&admin, &key).await?.user).await?;
    let mut found = Names::of(&admin).roles_of(&view);
    found.retain(|role| {
        let has = |source: &&str| match *source {
            "Direct" => role.is_directly_assigned,
            "GroupAssigned" => role.assigned_groups.iter().any(|group| group.membership_type == ASSIGNED),
            _ => role.assigned_groups.iter().any(|group| group.membership_type == MAPPED),
        };
        sources.iter().any(has)
            && asked.one("nameContains").is_none_or(|part| super::contains(&role.name, part))
            && (keys.is_empty() || keys.iter().any(|key| key.eq_ignore_ascii_case(&role.key)))
            && (through.is_empty() || role.assigned_groups.iter().any(|group| through.contains(&group.key.as_str())))
            && asked.one("portfolioKeys").is_none()
    });
    if descending {
        found.reverse();
    }
    asked.page(found)
}

#[utoipa::path(post, path = "/api/identity/v1/users/{key}/application-roles/{roleKey}", operation_id = "grant_user_role",
    params(("key" = String, Path), ("roleKey" = String, Path)),
    responses((status = 201, description = "The user has the role by hand"), Errors))]
pub async fn grant_role(
    State(admin): State<Admin>,
    Head(call): Head,
    Path((key, role)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    call.caller.may(Scope::WriteMembers)?;
    let target = role_target(&admin, &role)?;
    admin.service.act(&call, vec![(users::by_key(&admin, &key).await?.user, Act::Assign(target))]).await?;
    Ok(StatusCode::CREATED)
}

#[utoipa::path(delete, path = "/api/identity/v1/users/{key}/application-roles/{roleKey}", operation_id = "revoke_user_role",
    params(("key" = String, Path), ("roleKey" = String, Path)),
    responses((status = 204, description = "The user no longer has the role by hand"), Errors))]
pub async fn revoke_role(
    State(admin): State<Admin>,
    Head(call): Head,
    Path((key, role)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    call.caller.may(Scope::WriteMembers)?;
    let target = role_target(&admin, &role)?;
    admin.service.act(&call, vec![(users::by_key(&admin, &key).await?.user, Act::Unassign(target))]).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn role_target(admin: &Admin, key: &str) -> Result<Target, Problem> {
    let role = admin.service.role_by_key(key).ok_or_else(|| Problem::not_found("application role"))?;
    let name = RoleName::parse(&role.name).map_err(|why| Refused::Conflict(why.to_string()))?;
    Ok(Target::Role(name))
}
