//! What receivers have still to hear, and what operators do about it.

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

/// A receiver, and what it has still to hear.
#[derive(Debug, Serialize, ToSchema)]
struct Delivery {
    receiver: ReceiverView,
    /// The longest due first.
    pending: Vec<PendingView>,
    /// What the last test has come to.
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
    /// Pending deliveries at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
}

/// Whose deliveries are meant: one user's, by both members, or `all`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Whose {
    /// Every user's. It stands alone.
    #[serde(default)]
    all: bool,
    /// With `subject`.
    namespace: Option<String>,
    /// With `namespace`.
    subject: Option<String>,
}

/// How many users that were.
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

/// Receivers, and how they are doing
#[utoipa::path(get, path = "/api/v1/deliveries", operation_id = "list_deliveries", tag = "deliveries", responses(
    (status = 200, description = "All receivers, on one page", body = Page<ReceiverView>), Problems
))]
async fn list(_: Reading, State(admin): State<Admin>) -> Result<Json<Page<ReceiverView>>, Problem> {
    Ok(Json(Page { items: admin.service.receivers().await?, next: None }))
}

/// A receiver, and what it has still to hear
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

/// Delivers nothing to a receiver, whose deliveries stay due; or delivers again to one that was paused or disabled
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

/// Sends a webhook a `ping`, or learns what a SCIM server can, by a user and a group that are made and removed
#[utoipa::path(post, path = "/api/v1/deliveries/{name}/test", operation_id = "test_delivery", tag = "deliveries",
    params(("name" = String, Path)), responses(
    (status = 200, description = "What came of it; `works` says whether it works", body = Tested), Problems
))]
async fn test(State(admin): State<Admin>, Adding(call): Adding, At(name): At<String>) -> Result<Json<Tested>, Problem> {
    Ok(Json(admin.service.test_receiver(&call, &name).await?))
}

/// Tries deliveries now that failed
#[utoipa::path(post, path = "/api/v1/deliveries/{name}/retry", operation_id = "retry_delivery", tag = "deliveries",
    params(("name" = String, Path)), request_body = Whose, responses(
    (status = 200, description = "How many are tried now", body = Users), Problems
))]
async fn retry(
    State(admin): State<Admin>,
    Adding(call): Adding,
    At(name): At<String>,
    body: Bytes,
) -> Result<Json<Users>, Problem> {
    Ok(Json(Users { users: admin.service.retry(&call, &name, whose(&body)?).await? }))
}

/// Tells a receiver everything anew, as if it had heard of none
#[utoipa::path(post, path = "/api/v1/deliveries/{name}/resync", operation_id = "resync_delivery", tag = "deliveries",
    params(("name" = String, Path)), request_body = Whose, responses(
    (status = 200, description = "Of how many users it is told", body = Users), Problems
))]
async fn resync(
    State(admin): State<Admin>,
    Adding(call): Adding,
    At(name): At<String>,
    body: Bytes,
) -> Result<Json<Users>, Problem> {
    Ok(Json(Users { users: admin.service.tell_anew(&call, &name, whose(&body)?).await? }))
}
