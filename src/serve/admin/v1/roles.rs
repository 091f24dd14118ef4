//! Roles.

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
use super::super::service::{RoleChange, RoleInput, RoleView};
use super::people::{Member, members_of};
use super::problem::{Problem, Problems};
use super::{Adding, Asked, At, Changing, Confirming, Page, Paging, Reading, changed, page_of, tagged};
use crate::pipeline::ids::{RoleName, Target};
use crate::pipeline::mapping::stored::OwnRole;

pub fn routes() -> OpenApiRouter<Admin> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(show, update, delete)).routes(routes!(members))
}

/// A new role.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewRole {
    #[schema(min_length = 1, max_length = 1024)]
    name: String,
    #[serde(default)]
    #[schema(max_length = 1024)]
    description: String,
    /// Its last effective, enabled holder is never removed by a login. Setting it requires scope `admin`.
    #[serde(default)]
    protected: bool,
    /// Only mappings of the configuration file may give it. Setting it requires scope `admin`.
    #[serde(default)]
    privileged: bool,
    /// Whether the brake on mass revocation covers it; default true. False requires scope `admin`.
    brake: Option<bool>,
}

/// Changes to a role; absent fields stay as they are.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ChangedRole {
    #[schema(max_length = 1024)]
    description: Option<String>,
    protected: Option<bool>,
    privileged: Option<bool>,
    brake: Option<bool>,
}

/// All roles, by name
#[utoipa::path(get, path = "/api/v1/roles", operation_id = "list_roles", tag = "roles", params(Paging), responses(
    (status = 200, description = "One page of roles", body = Page<RoleView>), Problems
))]
async fn list(
    _: Reading,
    State(admin): State<Admin>,
    Asked(paging): Asked<Paging>,
) -> Result<Json<Page<RoleView>>, Problem> {
    page_of(admin.service.roles(), &paging, |role| &role.name).map(Json)
}

/// Makes a role
#[utoipa::path(post, path = "/api/v1/roles", operation_id = "create_role", tag = "roles",
    params(Confirming), request_body = NewRole, responses(
    (status = 201, description = "The new role", body = RoleView, headers(("ETag" = String))), Problems
))]
async fn create(State(admin): State<Admin>, Adding(call): Adding, body: Bytes) -> Result<Response, Problem> {
    let NewRole { name, description, protected, privileged, brake } = json(&body, false)?;
    let own = OwnRole { description, protected, privileged, unbraked: brake == Some(false) };
    let view = admin.service.create_role(&call, RoleInput { name, own }).await?;
    Ok(tagged(view.version, (StatusCode::CREATED, Json(view))))
}

/// One role
#[utoipa::path(get, path = "/api/v1/roles/{name}", operation_id = "show_role", tag = "roles",
    params(("name" = String, Path)), responses(
    (status = 200, description = "The role", body = RoleView, headers(("ETag" = String))), Problems
))]
async fn show(_: Reading, State(admin): State<Admin>, At(name): At<String>) -> Result<Response, Problem> {
    let view = admin.service.role(&name)?;
    Ok(tagged(view.version, Json(view)))
}

/// Changes a role of the store
#[utoipa::path(patch, path = "/api/v1/roles/{name}",
    operation_id = "update_role", tag = "roles", request_body = ChangedRole, params(
    ("name" = String, Path), ("If-Match" = String, Header), Confirming
), responses((status = 200, description = "The role as it is now", body = RoleView, headers(("ETag" = String))),
    (status = 204, description = "The role was changed; the client lacks scope `read`"), Problems))]
async fn update(
    State(admin): State<Admin>,
    Changing(call): Changing,
    At(name): At<String>,
    body: Bytes,
) -> Result<Response, Problem> {
    let ChangedRole { description, protected, privileged, brake } = json(&body, false)?;
    let change = RoleChange { description, protected, privileged, brake };
    let view = admin.service.update_role(&call, &name, change).await?;
    Ok(changed(&call, view.version, view))
}

/// Deletes a role of the store
/// Also deletes its mappings and removes it from groups; its holders lose it at once.
#[utoipa::path(delete, path = "/api/v1/roles/{name}", operation_id = "delete_role", tag = "roles", params(
    ("name" = String, Path), ("If-Match" = String, Header), Confirming
), responses((status = 204, description = "The role, its mappings and its memberships are gone"), Problems))]
async fn delete(
    State(admin): State<Admin>,
    Changing(call): Changing,
    At(name): At<String>,
) -> Result<Response, Problem> {
    admin.service.delete_role(&call, &name).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Lists users who hold a role directly, with the reasons
#[utoipa::path(get, path = "/api/v1/roles/{name}/members", operation_id = "list_role_members", tag = "roles",
    params(("name" = String, Path), Paging), responses(
    (status = 200, description = "One page of members", body = Page<Member>), Problems
))]
async fn members(
    _: Reading,
    State(admin): State<Admin>,
    At(name): At<String>,
    Asked(paging): Asked<Paging>,
) -> Result<Json<Page<Member>>, Problem> {
    let name = admin.service.role(&name)?.name;
    let target = RoleName::parse(&name).map(Target::Role);
    members_of(&admin, target.ok(), &paging).await.map(Json)
}
