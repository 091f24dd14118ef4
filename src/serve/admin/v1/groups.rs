//! Groups.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::super::http::{Admin, json};
use super::super::service::{GroupChange, GroupInput, GroupView};
use super::people::{Member, members_of};
use super::problem::{Problem, Problems};
use super::{Adding, Asked, At, Changing, Confirming, Page, Paging, Reading, changed, page_of, tagged};
use crate::pipeline::ids::{GroupName, Target};
use crate::pipeline::mapping::stored::OwnGroup;

pub fn routes() -> OpenApiRouter<Admin> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(show, update, delete)).routes(routes!(members))
}

/// A new group.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewGroup {
    #[schema(min_length = 1, max_length = 1024)]
    name: String,
    #[serde(default)]
    #[schema(max_length = 1024)]
    description: String,
    /// Roles that every member holds.
    #[serde(default)]
    roles: Vec<String>,
    /// Empty: every stage.
    #[serde(default)]
    stages: Vec<String>,
    /// Its last effective, enabled member is never removed by a login. Setting it requires scope `admin`.
    #[serde(default)]
    protected: bool,
    /// Only mappings of the configuration file may give it. Setting it requires scope `admin`.
    #[serde(default)]
    privileged: bool,
    /// Whether the brake on mass revocation covers it; default true. False requires scope `admin`.
    brake: Option<bool>,
}

/// Changes to a group; absent fields stay as they are.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ChangedGroup {
    #[schema(min_length = 1, max_length = 1024)]
    name: Option<String>,
    #[schema(max_length = 1024)]
    description: Option<String>,
    roles: Option<Vec<String>>,
    stages: Option<Vec<String>>,
    protected: Option<bool>,
    privileged: Option<bool>,
    brake: Option<bool>,
}

/// All groups, by name
#[utoipa::path(get, path = "/api/v1/groups", operation_id = "list_groups", tag = "groups", params(Paging), responses(
    (status = 200, description = "One page of groups", body = Page<GroupView>), Problems
))]
async fn list(
    _: Reading,
    State(admin): State<Admin>,
    Asked(paging): Asked<Paging>,
) -> Result<Json<Page<GroupView>>, Problem> {
    page_of(admin.service.groups(), &paging, |group| &group.name).map(Json)
}

/// Makes a group
#[utoipa::path(post, path = "/api/v1/groups", operation_id = "create_group", tag = "groups",
    params(Confirming), request_body = NewGroup, responses(
    (status = 201, description = "The new group", body = GroupView, headers(("ETag" = String))), Problems
))]
async fn create(State(admin): State<Admin>, Adding(call): Adding, body: Bytes) -> Result<Response, Problem> {
    let NewGroup { name, description, roles, stages, protected, privileged, brake } = json(&body, false)?;
    let own = OwnGroup { description, roles, stages, protected, privileged, unbraked: brake == Some(false) };
    let view = admin.service.create_group(&call, GroupInput { name, own }).await?;
    Ok(tagged(view.version, (StatusCode::CREATED, Json(view))))
}

/// One group
#[utoipa::path(get, path = "/api/v1/groups/{name}", operation_id = "show_group", tag = "groups",
    params(("name" = String, Path)), responses(
    (status = 200, description = "The group", body = GroupView, headers(("ETag" = String))), Problems
))]
async fn show(_: Reading, State(admin): State<Admin>, At(name): At<String>) -> Result<Response, Problem> {
    let view = admin.service.group(&name)?;
    Ok(tagged(view.version, Json(view)))
}

/// Changes a group of the store
/// If the name changes, its mappings, members and aliases keep working.
#[utoipa::path(patch, path = "/api/v1/groups/{name}",
    operation_id = "update_group", tag = "groups", request_body = ChangedGroup, params(
    ("name" = String, Path), ("If-Match" = String, Header), Confirming
), responses((status = 200, description = "The group as it is now", body = GroupView, headers(("ETag" = String))),
    (status = 204, description = "The group was changed; the client lacks scope `read`"), Problems))]
async fn update(
    State(admin): State<Admin>,
    Changing(call): Changing,
    At(group): At<String>,
    body: Bytes,
) -> Result<Response, Problem> {
    let ChangedGroup { name, description, roles, stages, protected, privileged, brake } = json(&body, false)?;
    let change = GroupChange { name, description, roles, stages, protected, privileged, brake };
    let view = admin.service.update_group(&call, &group, change).await?;
    Ok(changed(&call, view.version, view))
}

/// Deletes a group of the store
/// Also deletes its mappings; everything that users had through it ends at once.
#[utoipa::path(delete, path = "/api/v1/groups/{name}", operation_id = "delete_group", tag = "groups", params(
    ("name" = String, Path), ("If-Match" = String, Header), Confirming
), responses((status = 204, description = "The group, its mappings and its memberships are gone"), Problems))]
async fn delete(
    State(admin): State<Admin>,
    Changing(call): Changing,
    At(name): At<String>,
) -> Result<Response, Problem> {
    admin.service.delete_group(&call, &name).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Lists users who are in a group, with the reasons
#[utoipa::path(get, path = "/api/v1/groups/{name}/members", operation_id = "list_group_members", tag = "groups",
    params(("name" = String, Path), Paging), responses(
    (status = 200, description = "One page of members", body = Page<Member>), Problems
))]
async fn members(
    _: Reading,
    State(admin): State<Admin>,
    At(name): At<String>,
    Asked(paging): Asked<Paging>,
) -> Result<Json<Page<Member>>, Problem> {
    let name = admin.service.group(&name)?.name;
    let target = GroupName::parse(&name).map(Target::Group);
    members_of(&admin, target.ok(), &paging).await.map(Json)
}
