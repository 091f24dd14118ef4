//! How this sidecar is set up, and whether its audit is whole.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::super::http::Admin;
use super::super::service::{Setup, VerificationView};
use super::problem::{Problem, Problems};
use super::{Adding, Reading};

pub fn routes() -> OpenApiRouter<Admin> {
    OpenApiRouter::new().routes(routes!(configuration)).routes(routes!(verification, verify))
}

/// The active configuration, without secrets, and the findings of `lint`
/// The findings are those of `loginsync lint`.
#[utoipa::path(get, path = "/api/v1/configuration",
    operation_id = "show_configuration", tag = "operations", responses(
    (status = 200, description = "The configuration", body = Setup), Problems
))]
async fn configuration(_: Reading, State(admin): State<Admin>) -> Result<Json<Setup>, Problem> {
    admin.service.setup().await.map(Json).map_err(|why| Problem::unlooked(&why))
}

/// Result of the last verification of the audit, or its progress
#[utoipa::path(get, path = "/api/v1/audit/verification",
    operation_id = "show_audit_verification", tag = "operations", responses(
    (status = 200, description = "State of the verification at this sidecar", body = VerificationView), Problems
))]
async fn verification(_: Reading, State(admin): State<Admin>) -> Json<VerificationView> {
    Json(admin.service.verification())
}

/// Starts a verification of the audit chain
/// It runs in the background, one at a time, and at most once a minute. Requires scope `read`.
#[utoipa::path(post, path = "/api/v1/audit/verification",
    operation_id = "verify_audit", tag = "operations", responses(
    (status = 202, description = "It has begun", body = VerificationView), Problems
))]
async fn verify(State(admin): State<Admin>, Adding(call): Adding) -> Result<Response, Problem> {
    let view = admin.service.verify_audit(&call).await?;
    Ok((StatusCode::ACCEPTED, Json(view)).into_response())
}
