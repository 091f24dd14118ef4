//! Making many users with one call. The original works on them later and is asked how far it has come; here it is done when
//! the first answer comes, which says so, and the last such answers can be read again.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::{Extension, Json};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::users::{NewUser, make};
use super::{Errors, Problem};
use crate::config::Scope;
use crate::ports::store::StoreError;
use crate::serve::admin::http::{Admin, Head, json};
use crate::serve::admin::limit::Limit;
use crate::serve::admin::service::{Refused, random_key};

/// Users of one call.
const MOST: usize = 100;
/// Maximum calls of one client in a minute.
const CALLS: u32 = 5;
/// Answers that are kept, of all clients together.
const KEPT: usize = 50;

/// What is remembered of such calls, while the process runs.
#[derive(Default)]
pub struct Operations {
    /// The newest at the end, each with the client that called.
    done: Mutex<VecDeque<(String, Operation)>>,
    calls: Limit<String>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewUsers {
    /// 1 to 100.
    #[schema(min_items = 1, max_items = 100)]
    records: Vec<NewUser>,
}

#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Operation {
    key: String,
    /// `Finished` or `FinishedWithErrors`.
    status: &'static str,
    /// In the order of the records.
    operations: Vec<Outcome>,
}

#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Outcome {
    /// `Inserted` or `Error`.
    status: &'static str,
    error_code: Option<String>,
    error_message: Option<String>,
    record: Record,
}

#[derive(Debug, Clone, Serialize, ToSchema)]
struct Record {
    key: Option<String>,
    email: Option<String>,
    username: Option<String>,
    subject: Option<String>,
}

/// Creates each user separately: a fault in one does not affect the others.
#[utoipa::path(post, path = "/api/identity/v1/users/bulk", operation_id = "create_users", request_body = NewUsers,
    responses((status = 202, description = "The outcome for each user", body = Operation), Errors))]
pub async fn create(
    State(admin): State<Admin>,
    Extension(known): Extension<Arc<Operations>>,
    Head(call): Head,
    body: Bytes,
) -> Result<(StatusCode, Json<Operation>), Problem> {
    call.caller.may(Scope::WriteMembers)?;
    known
        .calls
        .take(&call.caller.name, CALLS, admin.inspect().now())
        .map_err(|_| Problem::new(StatusCode::TOO_MANY_REQUESTS, "At most 5 bulk operations a minute."))?;
    let NewUsers { records } = json(&body, false)?;
    if !(1..=MOST).contains(&records.len()) {
        return Err(Problem::input("The number of users must be between 1 and 100."));
    }
    let key = random_key().ok_or_else(|| Refused::Store(StoreError::Unavailable("no random bytes".into())))?;
    let mut operations = Vec::with_capacity(records.len());
    for new in records {
        let [email, username, subject] = new.names();
        let made = make(&admin, &call, new).await.map_err(Problem::from);
        let (key, problem) = made.map_or_else(|problem| (None, Some(problem)), |key| (Some(key), None));
        operations.push(Outcome {
            status: if problem.is_none() { "Inserted" } else { "Error" },
            error_code: problem.as_ref().map(Problem::code),
            error_message: problem.map(|problem| problem.detail),
            record: Record { key, email, username, subject },
        });
    }
    let whole = operations.iter().all(|one| one.error_code.is_none());
    let operation = Operation { key, status: if whole { "Finished" } else { "FinishedWithErrors" }, operations };
    let mut done = known.done.lock().unwrap_or_else(PoisonError::into_inner);
    if done.len() >= KEPT {
        done.pop_front();
    }
    done.push_back((call.caller.name, operation.clone()));
    Ok((StatusCode::ACCEPTED, Json(operation)))
}

/// The outcome of a call of the same client; the last 50 since the process started are kept.
#[utoipa::path(get, path = "/api/identity/v1/users/bulk/{key}", operation_id = "show_bulk_operation",
    params(("key" = String, Path)),
    responses((status = 200, description = "The outcome for each user", body = Operation), Errors))]
pub async fn show(
    Extension(known): Extension<Arc<Operations>>,
    Head(call): Head,
    Path(key): Path<String>,
) -> Result<Json<Operation>, Problem> {
    call.caller.may(Scope::WriteMembers)?;
    let done = known.done.lock().unwrap_or_else(PoisonError::into_inner);
    let found = done.iter().find(|(client, one)| *client == call.caller.name && one.key.eq_ignore_ascii_case(&key));
    found.map(|(_, one)| Json(one.clone())).ok_or_else(|| Problem::not_found("bulk operation"))
}
