//! Pending deliveries to receivers, and what operators do about them.

use axum::Json;
use axum::extract::State;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::super::http::{Admin, json};
use super::super::service::Refused;
use super::people::user_id;
use super::problem::{Problem, Problems};
use super::{Adding, Asked, At, Page, Reading, limit};
use crate::pipeline::ids::UserId;
use crate::pipeline::mapping::definition::Fault;
use crate::ports::publish::receivers::{PendingView, ReceiverView, Tested};

pub fn routes() -> OpenApiRouter<Admin> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(show))
        .routes(routes!(steer))
        .routes(routes!(test))
        .routes(routes!(retry))
        .routes(routes!(resync))
}

/// A receiver and its pending deliveries.
#[derive(Debug, Serialize, ToSchema)]
struct Delivery {
    receiver: ReceiverView,
    /// The oldest first.
    pending: Vec<PendingView>,
    /// The result of the last test.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_test: Option<Tested>,
}

/// What can be done with a receiver as a whole.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Steering {
    Pause,
    Resume,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct HowMany {
    /// Maximum number of pending deliveries.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
}

/// Selects the deliveries of one user (`namespace` and `subject`), or of `all`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Whose {
    /// All users. No other member may be set.
    #[serde(default)]
    all: bool,
    /// Requires `subject`.
    namespace: Option<String>,
    /// Requires `namespace`.
    subject: Option<String>,
}

/// Number of users.
#[derive(Debug, Serialize, ToSchema)]
struct Users {
    users: u64,
}

/// `None`: all of them. They are meant by `all` alone, and not by a body that names no user.
fn whose(body: &Bytes) -> Result<Option<UserId>, Problem> {
    const EXPECTED: &str = "expected `namespace` and `subject`, or `\"all\": true` alone";
    if body.is_empty() {
        return Err(Problem::no_body(&format!("the body is required; {EXPECTED}")));
    }
    let Whose { all, namespace, subject } = json(body, false)?;
    match (all, namespace, subject) {
        (true, None, None) => Ok(None),
        (false, Some(namespace), Some(subject)) => Ok(Some(user_id(&namespace, &subject)?)),
        _ => Err(Refused::Invalid(vec![Fault::new("all", None, EXPECTED)]).into()),
    }
}

/// Lists receivers and their state
#[utoipa::path(get, path = "/api/v1/deliveries", operation_id = "list_deliveries", tag = "deliveries", responses(
    (status = 200, description = "All receivers, on one page", body = Page<ReceiverView>), Problems
))]
async fn list(_: Reading, State(admin): State<Admin>) -> Result<Json<Page<ReceiverView>>, Problem> {
    Ok(Json(Page { items: admin.service.receivers().await?, next: None }))
}

/// Shows a receiver and its pending deliveries
#[utoipa::path(get, path = "/api/v1/deliveries/{name}", operation_id = "show_delivery", tag = "deliveries",
    params(("name" = String, Path), HowMany), responses(
    (status = 200, description = "The receiver, and its pending deliveries", body = Delivery), Problems
))]
async fn show(
    _: Reading,
    State(admin): State<Admin>,
    At(name): At<String>,
    Asked(asked): Asked<HowMany>,
) -> Result<Json<Delivery>, Problem> {
    let most = limit(asked.limit)?;
    let receiver = admin.service.receiver(&name).await?;
    let (pending, last_test) = (admin.service.pending(&name, most).await?, admin.service.last_test(&name).await?);
    Ok(Json(Delivery { receiver, pending, last_test }))
}

/// Pauses a receiver, whose deliveries stay pending; or resumes a paused or disabled one
#[utoipa::path(post, path = "/api/v1/deliveries/{name}/{act}", operation_id = "steer_delivery", tag = "deliveries",
    params(("name" = String, Path), ("act" = inline(Steering), Path)), responses(
    (status = 200, description = "The receiver, as it is now", body = ReceiverView), Problems
))]
async fn steer(
    State(admin): State<Admin>,
    Adding(call): Adding,
    At((name, act)): At<(String, Steering)>,
) -> Result<Json<ReceiverView>, Problem> {
    Ok(Json(admin.service.pause(&call, &name, matches!(act, Steering::Pause)).await?))
}

/// Sends a webhook a `ping`, or tests what a SCIM server supports: creates a user and a group there, and removes them
#[utoipa::path(post, path = "/api/v1/deliveries/{name}/test", operation_id = "test_delivery", tag = "deliveries",
    params(("name" = String, Path)), responses(
    (status = 200, description = "The result; `works` says whether the receiver works", body = Tested), Problems
))]
async fn test(State(admin): State<Admin>, Adding(call): Adding, At(name): At<String>) -> Result<Json<Tested>, Problem> {
    Ok(Json(admin.service.test_receiver(&call, &name).await?))
}

/// Retries failed deliveries now
#[utoipa::path(post, path = "/api/v1/deliveries/{name}/retry", operation_id = "retry_delivery", tag = "deliveries",
    params(("name" = String, Path)), request_body = Whose, responses(
    (status = 200, description = "Number of deliveries that are retried now", body = Users), Problems
))]
async fn retry(
    State(admin): State<Admin>,
    Adding(call): Adding,
    At(name): At<String>,
    body: Bytes,
) -> Result<Json<Users>, Problem> {
    Ok(Json(Users { users: admin.service.retry(&call, &name, whose(&body)?).await? }))
}

/// Sends a receiver the full state, as if nothing had been delivered before
#[utoipa::path(post, path = "/api/v1/deliveries/{name}/resync", operation_id = "resync_delivery", tag = "deliveries",
    params(("name" = String, Path)), request_body = Whose, responses(
    (status = 200, description = "Number of users to deliver", body = Users), Problems
))]
async fn resync(
    State(admin): State<Admin>,
    Adding(call): Adding,
    At(name): At<String>,
    body: Bytes,
) -> Result<Json<Users>, Problem> {
    Ok(Json(Users { users: admin.service.tell_anew(&call, &name, whose(&body)?).await? }))
}
