//! End-user groups: what they are, and the roles that they carry.

use std::collections::{HashMap, HashSet};

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Request, State};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::claims::{self, ClaimMappingObject};
use super::{Errors, Made, Page, Parameters, Problem, users};
use crate::config::Scope;
use crate::pipeline::ids::{GroupName, Target};
use crate::pipeline::mapping::stored::OwnGroup;
use crate::ports::store::Act;
use crate::serve::admin::http::{Admin, Head, json};
use crate::serve::admin::service::{GroupChange, GroupInput, GroupView, Refused, RoleView, stage_key};

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct GroupObject {
    key: String,
    name: String,
    description: String,
    /// The key of its stage; absent: every stage.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = "uuid", nullable = false)]
    environment_key: Option<String>,
    updated_at: String,
    group_idp_claim_mappings: Vec<ClaimMappingObject>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewGroup {
    name: String,
    #[serde(default)]
    description: Option<String>,
    /// The key of a stage; null or absent: every stage.
    #[schema(format = "uuid")]
    environment_key: Option<String>,
    /// Null, which generated clients send, counts as absent.
    application_role_keys: Option<Vec<String>>,
    user_keys: Option<Vec<String>>,
}

/// The stage is fixed.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GroupPatch {
    name: Option<String>,
    description: Option<String>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RolesPatch {
    application_role_keys_to_add: Option<Vec<String>>,
    application_role_keys_to_remove: Option<Vec<String>>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct RoleObject {
    pub key: String,
    pub name: String,
    pub description: String,
}

pub fn by_key(admin: &Admin, key: &str) -> Result<GroupView, Problem> {
    admin.service.group_by_key(key).ok_or_else(|| Problem::not_found("group"))
}

fn object(view: GroupView, mappings: Vec<ClaimMappingObject>) -> GroupObject {
    GroupObject {
        key: view.key,
        name: view.name,
        description: view.description,
        environment_key: view.stages.first().map(|stage| stage_key(stage)),
        updated_at: view.updated_at,
        group_idp_claim_mappings: mappings,
    }
}

#[utoipa::path(get, path = "/api/identity/v1/groups", operation_id = "list_groups",
    params(("nameContains" = Option<String>, Query), ("environmentKey" = Option<String>, Query),
        ("environmentKeys" = Option<String>, Query), ("identityProviderKey" = Option<String>, Query),
        ("portfolioKeys" = Option<String>, Query), ("limit" = Option<u32>, Query), ("offset" = Option<u32>, Query)),
    responses((status = 200, description = "One page of groups", body = Page<GroupObject>), Errors))]
pub async fn list(
    State(admin): State<Admin>,
    Head(call): Head,
    request: Request,
) -> Result<Json<Page<GroupObject>>, Problem> {
    call.caller.may(Scope::Read)?;
    let asked = Parameters::of(&request);
    let found = found(&admin, &asked, |_| true)?;
    asked.page(found.into_iter().map(|(_, group)| group).collect())
}

/// Groups by the filters of a list, by name. There are no portfolios, so that none of them is in one.
pub fn found(
    admin: &Admin,
    asked: &Parameters,
    wanted: impl Fn(&GroupView) -> bool,
) -> Result<Vec<(String, GroupObject)>, Problem> {
    asked.refuse(&["assetKey"])?;
    let stages = asked.either("environmentKey", "environmentKeys")?;
    if asked.one("portfolioKeys").is_some() {
        return Ok(Vec::new());
    }
    let mut views = admin.service.groups();
    views.retain(|view| {
        let named = asked.one("nameContains").is_none_or(|part| super::contains(&view.name, part));
        let in_one = |stage: &String| stages.iter().any(|key| key.eq_ignore_ascii_case(&stage_key(stage)));
        let staged = stages.is_empty() || view.stages.iter().any(in_one);
        named && staged && wanted(view)
    });
    let names: HashSet<&str> = views.iter().map(|view| view.name.as_str()).collect();
    let mut mappings: HashMap<String, Vec<ClaimMappingObject>> = HashMap::new();
    for (group, mapping) in claims::of_groups(admin.inspect(), |name| names.contains(name)) {
        mappings.entry(group).or_default().push(mapping);
    }
    let provider = asked.one("identityProviderKey");
    let mut found = Vec::new();
    for view in views {
        let mappings = mappings.remove(&view.name).unwrap_or_default();
        if provider.is_none_or(|key| mappings.iter().any(|one| one.provider_key.eq_ignore_ascii_case(key))) {
            found.push((view.name.clone(), object(view, mappings)));
        }
    }
    Ok(found)
}

/// A page of roles by what all lists of roles have in common. Roles belong to no asset, stage or portfolio.
pub fn role_page(asked: &Parameters, roles: Vec<RoleView>, keys: &[&str]) -> Result<Json<Page<RoleObject>>, Problem> {
    asked.refuse(&["assetKey", "environmentKey", "environmentKeys"])?;
    let (_, descending) = asked.sort(&["name"])?;
    let mut objects: Vec<RoleObject> = roles
        .into_iter()
        .filter(|role| asked.one("nameContains").is_none_or(|part| super::contains(&role.name, part)))
        .filter(|role| keys.is_empty() || keys.iter().any(|key| key.eq_ignore_ascii_case(&role.key)))
        .filter(|_| asked.one("portfolioKeys").is_none())
        .map(|role| RoleObject { key: role.key, name: role.name, description: role.description })
        .collect();
    if descending {
        objects.reverse();
    }
    asked.page(objects)
}

#[utoipa::path(get, path = "/api/identity/v1/groups/{key}", operation_id = "show_group", params(("key" = String, Path)),
    responses((status = 200, description = "The group", body = GroupObject), Errors))]
pub async fn show(
    State(admin): State<Admin>,
    Head(call): Head,
    Path(key): Path<String>,
) -> Result<Json<GroupObject>, Problem> {
    call.caller.may(Scope::Read)?;
    let view = by_key(&admin, &key)?;
    let mappings = claims::of_groups(admin.inspect(), |name| name == view.name);
    Ok(Json(object(view, mappings.into_iter().map(|(_, mapping)| mapping).collect())))
}

#[utoipa::path(post, path = "/api/identity/v1/groups", operation_id = "create_group", request_body = NewGroup,
    responses((status = 201, description = "The key of the new group", body = Made), Errors))]
pub async fn create(
    State(admin): State<Admin>,
    Head(call): Head,
    body: Bytes,
) -> Result<(StatusCode, Json<Made>), Problem> {
    call.caller.may(Scope::WriteMappings)?;
    let NewGroup { name, description, environment_key, application_role_keys, user_keys } = json(&body, false)?;
    let target = GroupName::parse(&name).map_err(|why| Refused::fault("name", Some(&name), why.to_string()))?;
    let mut acts = Vec::new();
    for key in &user_keys.unwrap_or_default() {
        call.caller.may(Scope::WriteMembers)?;
        acts.push((users::by_key(&admin, key).await?.user, Act::Assign(Target::Group(target.clone()))));
    }
    let own = OwnGroup {
        description: description.unwrap_or_default(),
        roles: role_names(&admin, &application_role_keys.unwrap_or_default())?,
        stages: environment_key.map(|key| stage(&admin, &key)).transpose()?.into_iter().collect(),
        ..OwnGroup::default()
    };
    let made = admin.service.create_group(&call, GroupInput { name: name.clone(), own }).await?;
    if !acts.is_empty()
        && let Err(refused) = admin.service.act(&call, acts).await
    {
        // A group is made with its members or not at all.
        admin.service.delete_group(&call, &name).await?;
        return Err(refused.into());
    }
    Ok((StatusCode::CREATED, Json(Made { key: made.key })))
}

#[utoipa::path(patch, path = "/api/identity/v1/groups/{key}", operation_id = "update_group",
    params(("key" = String, Path)), request_body = GroupPatch,
    responses((status = 204, description = "The group is changed"), Errors))]
pub async fn update(
    State(admin): State<Admin>,
    Head(call): Head,
    Path(key): Path<String>,
    body: Bytes,
) -> Result<StatusCode, Problem> {
    call.caller.may(Scope::WriteMappings)?;
    let view = by_key(&admin, &key)?;
    let GroupPatch { name, description } = json(&body, false)?;
    let change = GroupChange { name, description, ..GroupChange::default() };
    admin.service.update_group(&call, &view.name, change).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Also deletes its claim mappings, and ends the access that it gave.
#[utoipa::path(delete, path = "/api/identity/v1/groups/{key}", operation_id = "delete_group", params(("key" = String, Path)),
    responses((status = 204, description = "The group, its claim mappings and its memberships are gone"), Errors))]
pub async fn delete(
    State(admin): State<Admin>,
    Head(call): Head,
    Path(key): Path<String>,
) -> Result<StatusCode, Problem> {
    call.caller.may(Scope::WriteMappings)?;
    let view = by_key(&admin, &key)?;
    admin.service.delete_group(&call, &view.name).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[utoipa::path(get, path = "/api/identity/v1/groups/{key}/application-roles", operation_id = "list_group_roles",
    params(("key" = String, Path), ("nameContains" = Option<String>, Query), ("applicationRoleKey" = Option<String>, Query),
        ("applicationRoleKeys" = Option<String>, Query), ("sort" = Option<String>, Query), ("limit" = Option<u32>, Query),
        ("offset" = Option<u32>, Query)),
    responses((status = 200, description = "One page of roles", body = Page<RoleObject>), Errors))]
pub async fn roles(
    State(admin): State<Admin>,
    Head(call): Head,
    Path(key): Path<String>,
    request: Request,
) -> Result<Json<Page<RoleObject>>, Problem> {
    call.caller.may(Scope::Read)?;
    let view = by_key(&admin, &key)?;
    let asked = Parameters::of(&request);
    let carried = admin.service.roles().into_iter().filter(|role| view.roles.contains(&role.name));
    role_page(&asked, carried.collect(), &asked.either("applicationRoleKey", "applicationRoleKeys")?)
}

#[utoipa::path(patch, path = "/api/identity/v1/groups/{key}/application-roles", operation_id = "update_group_roles",
    params(("key" = String, Path)),
    request_body = RolesPatch, responses((status = 200, description = "The roles of the group are changed"), Errors))]
pub async fn update_roles(
    State(admin): State<Admin>,
    Head(call): Head,
    Path(key): Path<String>,
    body: Bytes,
) -> Result<StatusCode, Problem> {
    call.caller.may(Scope::WriteMappings)?;
    let view = by_key(&admin, &key)?;
    let RolesPatch { application_role_keys_to_add, application_role_keys_to_remove } = json(&body, false)?;
    let added = role_names(&admin, &application_role_keys_to_add.unwrap_or_default())?;
    let removed = role_names(&admin, &application_role_keys_to_remove.unwrap_or_default())?;
    let mut roles: Vec<String> = view.roles.into_iter().filter(|role| !removed.contains(role)).collect();
    for role in added {
        if !roles.contains(&role) {
            roles.push(role);
        }
    }
    let change = GroupChange { roles: Some(roles), ..GroupChange::default() };
    admin.service.update_group(&call, &view.name, change).await?;
    Ok(StatusCode::OK)
}

/// The name of a stage by its key.
fn stage(admin: &Admin, key: &str) -> Result<String, Problem> {
    let found = admin.service.stages().into_iter().find(|stage| stage_key(stage).eq_ignore_ascii_case(key));
    found.ok_or_else(|| Problem::input("The environmentKey field names no stage."))
}

fn role_names(admin: &Admin, keys: &[String]) -> Result<Vec<String>, Problem> {
    let name = |key: &String| admin.service.role_by_key(key).map(|role| role.name);
    let names: Option<Vec<String>> = keys.iter().map(name).collect();
    names.ok_or_else(|| Problem::not_found("application role"))
}
