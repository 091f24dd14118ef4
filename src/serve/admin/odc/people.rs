//! End-users: which groups they are in and which roles they have, and by what.
//!
//! The key of a user is made of the number that the store gives them.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Request, State};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::groups::{self, RoleObject};
use super::{Errors, Page, Parameters, Problem};
use crate::config::Scope;
use crate::pipeline::ids::{GroupName, RoleName, Target};
use crate::ports::catalogue::{Member, Person};
use crate::ports::store::{Act, MembershipView};
use crate::serve::admin::http::{Admin, Head, json};
use crate::serve::admin::service::Refused;

const ASSIGNED: &str = "Assigned";
const MAPPED: &str = "Mapped";
const TYPES: [&str; 2] = [ASSIGNED, MAPPED];

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UserObject {
    key: String,
    name: Option<String>,
    email: Option<String>,
    /// What the provider calls the person.
    username: String,
    is_active: bool,
    last_login_at: Option<String>,
}

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
    #[serde(default)]
    user_keys_to_add: Vec<String>,
    #[serde(default)]
    user_keys_to_remove: Vec<String>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct MembershipObject {
    membership_types: Vec<&'static str>,
    group: NamedObject,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct NamedObject {
    key: String,
    name: String,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UserRoleObject {
    key: String,
    name: String,
    is_directly_assigned: bool,
    assigned_groups: Vec<RoleGroupObject>,
}

/// A group through which a role comes.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RoleGroupObject {
    key: String,
    name: String,
    membership_type: &'static str,
}

fn user_key(number: i64) -> String {
    let mut bytes = [0; 16];
    if let Some(tail) = bytes.get_mut(8..) {
        tail.copy_from_slice(&number.to_be_bytes());
    }
    uuid::Builder::from_custom_bytes(bytes).into_uuid().to_string()
}

/// The person with a key. Version and variant take bits that no number of the store reaches.
pub async fn by_key(admin: &Admin, key: &str) -> Result<Person, Problem> {
    let tail = key.rsplit_once('-').and_then(|(_, tail)| i64::from_str_radix(tail, 16).ok());
    let number = tail.filter(|number| user_key(*number).eq_ignore_ascii_case(key));
    let Some(number) = number else { return Err(Problem::not_found("user")) };
    let person = admin.inspect().catalogue().person(number).await.map_err(Refused::from)?;
    person.ok_or_else(|| Problem::not_found("user"))
}

fn object(person: Person) -> UserObject {
    UserObject {
        key: user_key(person.number),
        name: person.display_name,
        email: person.email,
        username: person.user.subject.to_string(),
        is_active: person.enabled,
        last_login_at: person.last_login_at.map(|at| at.to_string()),
    }
}

fn types(mapped: bool, assigned: bool) -> Vec<&'static str> {
    [(assigned, ASSIGNED), (mapped, MAPPED)].into_iter().filter(|(is, _)| *is).map(|(_, word)| word).collect()
}

fn types_of(membership: &MembershipView) -> Vec<&'static str> {
    let word = membership.membership;
    types(matches!(word, "mapped" | "both"), matches!(word, "assigned" | "both"))
}

/// Whether a person is among those that the parameters ask for.
fn asked_for(asked: &Parameters, person: &Person) -> bool {
    let keys = asked.all(["userKey", "userKeys"]);
    let key = user_key(person.number);
    let texts = [person.display_name.as_deref(), person.email.as_deref(), Some(person.user.subject.as_str())];
    let named = |part: &str| texts.into_iter().flatten().any(|text| super::contains(text, part));
    (keys.is_empty() || keys.iter().any(|wanted| wanted.eq_ignore_ascii_case(&key)))
        && asked.one("nameOrEmailContains").is_none_or(named)
}

#[utoipa::path(get, path = "/api/identity/v1/groups/{key}/users",
    params(("key" = String, Path), ("membershipType" = Option<String>, Query), ("userKey" = Option<Vec<String>>, Query),
        ("nameOrEmailContains" = Option<String>, Query), ("limit" = Option<u32>, Query), ("offset" = Option<u32>, Query)),
    responses((status = 200, body = Page<MemberObject>), Errors))]
pub async fn members(
    State(admin): State<Admin>,
    Head(call): Head,
    Path(key): Path<String>,
    request: Request,
) -> Result<Json<Page<MemberObject>>, Problem> {
    call.caller.may(Scope::Read)?;
    let asked = Parameters::of(&request);
    let wanted = asked.words("membershipType", &TYPES)?;
    let target = group_target(&admin, &key)?;
    let members = admin.inspect().catalogue().members(target).await.map_err(Refused::from)?;
    let object = |member: Member| {
        let Member { person, mapped, assigned } = member;
        MemberObject { membership_types: types(mapped, assigned), user: object(person) }
    };
    let found = members.into_iter().filter(|member| asked_for(&asked, &member.person)).map(object);
    let typed = found.filter(|one| wanted.is_empty() || one.membership_types.iter().any(|word| wanted.contains(word)));
    asked.page(typed.collect())
}

/// All of it, or nothing: somebody who is in the group by a claim alone cannot be removed by hand.
#[utoipa::path(patch, path = "/api/identity/v1/groups/{key}/users", params(("key" = String, Path)),
    request_body = MembersPatch, responses((status = 200), Errors))]
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
    for key in &user_keys_to_add {
        let person = by_key(&admin, key).await?;
        let view = admin.service.user(person.user.clone()).await?;
        let held = view.memberships.iter().find(|one| one.kind == target.kind() && one.name == target.name());
        // Who is assigned already stays so.
        if !held.is_some_and(|held| types_of(held).contains(&ASSIGNED)) {
            acts.push((person.user, Act::Assign(target.clone())));
        }
    }
    for key in &user_keys_to_remove {
        acts.push((by_key(&admin, key).await?.user, Act::Unassign(target.clone())));
    }
    admin.service.act(&call, acts).await?;
    Ok(StatusCode::OK)
}

fn group_target(admin: &Admin, key: &str) -> Result<Target, Problem> {
    let name = groups::by_key(admin, key)?.name;
    let name = GroupName::parse(&name).map_err(|why| Refused::Conflict(why.to_string()))?;
    Ok(Target::Group(name))
}

#[utoipa::path(get, path = "/api/identity/v1/application-roles",
    params(("nameContains" = Option<String>, Query), ("limit" = Option<u32>, Query), ("offset" = Option<u32>, Query)),
    responses((status = 200, body = Page<RoleObject>), Errors))]
pub async fn application_roles(
    State(admin): State<Admin>,
    Head(call): Head,
    request: Request,
) -> Result<Json<Page<RoleObject>>, Problem> {
    call.caller.may(Scope::Read)?;
    let asked = Parameters::of(&request);
    let roles = admin.service.roles().into_iter();
    let named = roles.filter(|role| asked.one("nameContains").is_none_or(|part| super::contains(&role.name, part)));
    let objects = named.map(|role| RoleObject { key: role.key, name: role.name, description: role.description });
    asked.page(objects.collect())
}

/// People read at once while a list is made.
const BATCH: usize = 1_000;

#[utoipa::path(get, path = "/api/identity/v1/users",
    params(("nameOrEmailContains" = Option<String>, Query), ("userKey" = Option<Vec<String>>, Query),
        ("limit" = Option<u32>, Query), ("offset" = Option<u32>, Query)),
    responses((status = 200, body = Page<UserObject>), Errors))]
pub async fn list(
    State(admin): State<Admin>,
    Head(call): Head,
    request: Request,
) -> Result<Json<Page<UserObject>>, Problem> {
    call.caller.may(Scope::Read)?;
    let asked = Parameters::of(&request);
    let (mut found, mut after) = (Vec::new(), 0);
    loop {
        let batch = admin.inspect().catalogue().people(after, BATCH).await.map_err(Refused::from)?;
        let Some(last) = batch.last() else { break };
        after = last.number;
        found.extend(batch.into_iter().filter(|person| asked_for(&asked, person)).map(object));
    }
    asked.page(found)
}

#[utoipa::path(get, path = "/api/identity/v1/users/{key}", params(("key" = String, Path)),
    responses((status = 200, body = UserObject), Errors))]
pub async fn show(
    State(admin): State<Admin>,
    Head(call): Head,
    Path(key): Path<String>,
) -> Result<Json<UserObject>, Problem> {
    call.caller.may(Scope::Read)?;
    Ok(Json(object(by_key(&admin, &key).await?)))
}

#[utoipa::path(get, path = "/api/identity/v1/users/{key}/groups",
    params(("key" = String, Path), ("membershipType" = Option<String>, Query), ("limit" = Option<u32>, Query),
        ("offset" = Option<u32>, Query)),
    responses((status = 200, body = Page<MembershipObject>), Errors))]
pub async fn groups(
    State(admin): State<Admin>,
    Head(call): Head,
    Path(key): Path<String>,
    request: Request,
) -> Result<Json<Page<MembershipObject>>, Problem> {
    call.caller.may(Scope::Read)?;
    let asked = Parameters::of(&request);
    let wanted = asked.words("membershipType", &TYPES)?;
    let view = admin.service.user(by_key(&admin, &key).await?.user).await?;
    let groups = admin.service.groups();
    let held = view.memberships.iter().filter(|one| one.kind == "group" && one.effective);
    let object = |one: &MembershipView| {
        let group = groups.iter().find(|group| group.name == one.name)?;
        let named = NamedObject { key: group.key.clone(), name: group.name.clone() };
        Some(MembershipObject { membership_types: types_of(one), group: named })
    };
    let found = held.filter_map(object);
    let typed = found.filter(|one| wanted.is_empty() || one.membership_types.iter().any(|word| wanted.contains(word)));
    asked.page(typed.collect())
}

const SOURCES: [&str; 3] = ["Direct", "GroupAssigned", "GroupMapped"];

/// By default the roles that the person has directly, by hand or by a mapping of a role.
#[utoipa::path(get, path = "/api/identity/v1/users/{key}/application-roles",
    params(("key" = String, Path), ("assignmentSources" = Option<Vec<String>>, Query), ("limit" = Option<u32>, Query),
        ("offset" = Option<u32>, Query)),
    responses((status = 200, body = Page<UserRoleObject>), Errors))]
pub async fn roles(
    State(admin): State<Admin>,
    Head(call): Head,
    Path(key): Path<String>,
    request: Request,
) -> Result<Json<Page<UserRoleObject>>, Problem> {
    call.caller.may(Scope::Read)?;
    let asked = Parameters::of(&request);
    let mut sources = asked.words("assignmentSources", &SOURCES)?;
    if sources.is_empty() {
        sources.push("Direct");
    }
    let view = admin.service.user(by_key(&admin, &key).await?.user).await?;
    let all_groups = admin.service.groups();
    let mut found = Vec::new();
    for role in admin.service.roles() {
        if !view.roles.contains(&role.name) {
            continue;
        }
        let direct = view.memberships.iter().any(|one| one.kind == "role" && one.name == role.name && one.effective);
        let through = view.roles_through_groups.iter().filter(|one| one.role == role.name).flat_map(|one| &one.groups);
        let mut groups = Vec::new();
        for name in through {
            let group = all_groups.iter().find(|group| group.name == *name);
            let membership = view.memberships.iter().find(|one| one.kind == "group" && one.name == *name);
            let (Some(group), Some(membership)) = (group, membership) else { continue };
            for membership_type in types_of(membership) {
                groups.push(RoleGroupObject { key: group.key.clone(), name: group.name.clone(), membership_type });
            }
        }
        let has = |source: &&str| match *source {
            "Direct" => direct,
            "GroupAssigned" => groups.iter().any(|group| group.membership_type == ASSIGNED),
            _ => groups.iter().any(|group| group.membership_type == MAPPED),
        };
        if sources.iter().any(has) {
            let (key, name) = (role.key, role.name);
            found.push(UserRoleObject { key, name, is_directly_assigned: direct, assigned_groups: groups });
        }
    }
    asked.page(found)
}

#[utoipa::path(post, path = "/api/identity/v1/users/{key}/application-roles/{roleKey}",
    params(("key" = String, Path), ("roleKey" = String, Path)), responses((status = 201), Errors))]
pub async fn grant_role(
    State(admin): State<Admin>,
    Head(call): Head,
    Path((key, role)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    call.caller.may(Scope::WriteMembers)?;
    let target = role_target(&admin, &role)?;
    admin.service.act(&call, vec![(by_key(&admin, &key).await?.user, Act::Assign(target))]).await?;
    Ok(StatusCode::CREATED)
}

#[utoipa::path(delete, path = "/api/identity/v1/users/{key}/application-roles/{roleKey}",
    params(("key" = String, Path), ("roleKey" = String, Path)), responses((status = 204), Errors))]
pub async fn revoke_role(
    State(admin): State<Admin>,
    Head(call): Head,
    Path((key, role)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    call.caller.may(Scope::WriteMembers)?;
    let target = role_target(&admin, &role)?;
    admin.service.act(&call, vec![(by_key(&admin, &key).await?.user, Act::Unassign(target))]).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn role_target(admin: &Admin, key: &str) -> Result<Target, Problem> {
    let role = admin.service.role_by_key(key).ok_or_else(|| Problem::not_found("application role"))?;
    let name = RoleName::parse(&role.name).map_err(|why| Refused::Conflict(why.to_string()))?;
    Ok(Target::Role(name))
}
