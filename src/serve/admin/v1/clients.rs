//! API clients, and operators at the console: who may act, and who is about to.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::super::http::{Admin, json};
use super::super::service::{ClientView, NewClient, OperatorSession};
use super::problem::{Problem, Problems};
use super::{Adding, At, Calling, Page, Reading};

pub fn routes() -> OpenApiRouter<Admin> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(revoke))
        .routes(routes!(sessions))
        .routes(routes!(end_session))
}

/// A new client.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ClientInput {
    /// Its client id.
    name: String,
    /// `read`, `mappings:write`, `members:write` or `admin`.
    scopes: Vec<String>,
    /// `v1`, `onelogin`, `opal`, `timbal` or `odc`; absent: all.
    #[serde(default)]
    faces: Vec<String>,
}

/// The credentials of a new client.
#[derive(Debug, Serialize, ToSchema)]
struct Credentials {
    client_id: String,
    /// Shown only once: the store keeps only its hash.
    client_secret: String,
}

/// The clients of the configuration and of the store
/// Requires scope `admin`.
#[utoipa::path(get, path = "/api/v1/clients", operation_id = "list_clients", tag = "clients", responses(
    (status = 200, description = "All clients, on one page", body = Page<ClientView>), Problems
))]
async fn list(State(admin): State<Admin>, Calling(call): Calling) -> Result<Json<Page<ClientView>>, Problem> {
    Ok(Json(Page { items: admin.service.clients(&call).await?, next: None }))
}

/// Creates a client in the store; its secret is shown once
/// Requires scope `admin`.
#[utoipa::path(post, path = "/api/v1/clients", operation_id = "create_client", tag = "clients",
    request_body = ClientInput, responses(
    (status = 201, description = "The client is made", body = Credentials), Problems
))]
async fn create(State(admin): State<Admin>, Adding(call): Adding, body: Bytes) -> Result<Response, Problem> {
    let ClientInput { name, scopes, faces } = json(&body, false)?;
    let client_secret = admin.service.create_client(&call, NewClient { name: name.clone(), scopes, faces }).await?;
    Ok((StatusCode::CREATED, Json(Credentials { client_id: name, client_secret })).into_response())
}

/// Revokes a client of the store and its access tokens
/// Requires scope `admin`.
#[utoipa::path(delete, path = "/api/v1/clients/{name}", operation_id = "revoke_client", tag = "clients",
    params(("name" = String, Path)), responses(
    (status = 204, description = "The client is revoked"), Problems
))]
async fn revoke(State(admin): State<Admin>, Adding(call): Adding, At(name): At<String>) -> Result<StatusCode, Problem> {
    admin.service.revoke_client(&call, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lists sessions of the console and unused links, newest first
#[utoipa::path(get, path = "/api/v1/console/sessions",
    operation_id = "list_console_sessions", tag = "clients", responses(
    (status = 200, description = "All of them, on one page", body = Page<OperatorSession>), Problems
))]
async fn sessions(_: Reading, State(admin): State<Admin>) -> Result<Json<Page<OperatorSession>>, Problem> {
    Ok(Json(Page { items: admin.service.operator_sessions().await?, next: None }))
}

/// Ends a session of the console, or a link
/// Requires scope `admin`.
#[utoipa::path(delete, path = "/api/v1/console/sessions/{id}", operation_id = "end_console_session", tag = "clients",
    params(("id" = String, Path)), responses(
    (status = 204, description = "It has ended"), Problems
))]
async fn end_session(
    State(admin): State<Admin>,
    Adding(call): Adding,
    At(id): At<String>,
) -> Result<StatusCode, Problem> {
    admin.service.end_operator_session(&call, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
