//! Many mappings in one call, and what standing mappings give to people who do not log in.

use axum::Json;
use axum::extract::{DefaultBodyLimit, State};
use axum::response::Response;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::super::http::{Admin, json, read as read_value};
use super::super::service::{Bulk, BulkChange, MOST_FAULTS, Place, ReadChanges, Reference, Refused};
use super::looks::MOST_PLAN;
use super::mappings::place;
use super::problem::{Problem, Problems};
use super::{Adding, Changing, Confirming, MOST, PAGE, tagged};
use crate::pipeline::mapping::definition::{Definition, Fault};

pub fn routes() -> OpenApiRouter<Admin> {
    let bulk = OpenApiRouter::new().routes(routes!(bulk)).layer(DefaultBodyLimit::max(MOST_PLAN));
    OpenApiRouter::new().routes(routes!(apply)).merge(bulk)
}

/// Changes of the store's mappings, as one.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct BulkChanges {
    /// Apply the changes; without it they are only planned.
    #[serde(default)]
    apply: bool,
    /// Each is checked separately, so that a fault in one does not hide those of another.
    #[schema(value_type = Vec<WrittenChange>)]
    changes: Vec<Value>,
    /// Maximum number of people, and of changed mappings, that the plan lists.
    #[schema(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
}

/// Creates a mapping (no `id`), changes one (`id` and `definition`), or deletes one (only `id`).
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct WrittenChange {
    id: Option<String>,
    /// The version of the mapping that the caller has seen; absent: any.
    version: Option<i64>,
    #[schema(nullable = false)]
    definition: Option<Definition>,
    /// Its position among the enabled mappings of the store, from 1. Absent: a new mapping goes last, an existing one keeps its
    /// position.
    #[schema(minimum = 1)]
    position: Option<u32>,
}

/// Creates, changes and deletes mappings, all of them or none
/// The answer contains the plan of the changes, as `POST /api/v1/plan` returns it. Without `"apply": true` nothing is written.
/// Requires the scopes `read`, since the plan names people, and `mappings:write`.
#[utoipa::path(post, path = "/api/v1/mappings/bulk",
    operation_id = "change_mappings", tag = "mappings", request_body = BulkChanges, params(
    ("If-Match" = String, Header, description = "The `ETag` of the list, or `*`"), Confirming
), responses((status = 200, description = "The resulting changes, and whether they were written", body = Bulk,
    headers(("ETag" = String, description = "The version of the list"))), Problems))]
async fn bulk(State(admin): State<Admin>, Changing(call): Changing, body: Bytes) -> Result<Response, Problem> {
    let BulkChanges { apply, changes, limit } = json(&body, false)?;
    let mut faults = Vec::new();
    let changes: Vec<BulkChange> =
        changes.into_iter().enumerate().filter_map(|(at, change)| read(at, change, &mut faults)).collect();
    let people = limit.unwrap_or(PAGE);
    if !(1..=MOST).contains(&people) {
        faults.push(Fault::new("limit", Some(&people.to_string()), format!("expected a number from 1 to {MOST}")));
    }
    let wanted = ReadChanges { changes, faults };
    let done = admin.service.change_mappings(&call, wanted, apply, people).await;
    let done = done.map_err(|why| Problem::unlooked(&why))?;
    Ok(tagged(admin.service.inspect.stored().generation, Json(done)))
}

/// `None`: something is wrong with it, which is noted.
fn read(at: usize, change: Value, faults: &mut Vec<Fault>) -> Option<BulkChange> {
    if faults.len() >= MOST_FAULTS {
        return None;
    }
    let at_change = |fault: Fault| match fault.field.as_str() {
        "body" => Fault { field: format!("changes[{at}]"), ..fault },
        field => Fault { field: format!("changes[{at}].{field}"), ..fault },
    };
    let WrittenChange { id, version, definition, position } = match read_value(change) {
        Ok(change) => change,
        Err(found) => {
            faults.extend(found.into_iter().map(at_change));
            return None;
        }
    };
    let reference = match id.as_deref().map(|id| Reference::parse(id).ok_or(id)) {
        None => None,
        Some(Ok(reference)) => Some(reference),
        Some(Err(id)) => {
            faults.push(Fault::new(format!("changes[{at}].id"), Some(id), "expected the id of a mapping"));
            return None;
        }
    };
    let alone = |field: &str| Fault::new(format!("changes[{at}].{field}"), None, "is for a mapping that stays");
    let Some(definition) = definition else {
        faults.extend(position.map(|_| alone("position")));
        return Some(BulkChange { at, reference, version, written: None });
    };
    let absent = if reference.is_some() { Place::Keep } else { Place::Last };
    match place(position, absent, &definition) {
        Ok(place) => Some(BulkChange { at, reference, version, written: Some((definition, place)) }),
        Err(Refused::Invalid(found)) => {
            faults.extend(found.into_iter().map(at_change));
            None
        }
        Err(_) => None,
    }
}

/// Progress of planning all users again.
#[derive(Debug, Serialize, ToSchema)]
struct Applied {
    /// Users with recorded claims whom this call planned.
    people: u64,
    /// How many of them changed.
    changed: u64,
    /// Pass it as `after` in the next call; absent when all users are done.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<i64>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ApplyFrom {
    /// The `next` of the previous call; absent: from the start.
    #[schema(minimum = 0)]
    after: Option<i64>,
}

/// Plans all users again by the current mappings, from the claims of their last logins
/// Does once what `sync.apply = "now"` does after each change. The brake applies as at logins. One call works for at most half
/// a minute; `next` says where to continue. Requires scope `members:write`, since it changes what people hold.
#[utoipa::path(post, path = "/api/v1/mappings/apply",
    operation_id = "apply_mappings", tag = "mappings", request_body = ApplyFrom, params(Confirming), responses(
    (status = 200, description = "Number of planned users, and the `next` to continue with", body = Applied), Problems))]
async fn apply(State(admin): State<Admin>, Adding(call): Adding, body: Bytes) -> Result<Json<Applied>, Problem> {
    let ApplyFrom { after } = json(&body, false)?;
    if let Some(after) = after.filter(|after| *after < 0) {
        let message = "expected the `next` of the call before";
        return Err(Refused::fault("after", Some(&after.to_string()), message).into());
    }
    let done = admin.service.apply_mappings(&call, after).await.map_err(|why| Problem::unlooked(&why))?;
    Ok(Json(Applied { people: done.people, changed: done.changed, next: done.next }))
}
