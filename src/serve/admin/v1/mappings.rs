//! Mappings, in their long form.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::super::http::{Admin, json};
use super::super::service::{MappingView, NewMapping, Place, Reference, Refused};
use super::problem::{Problem, Problems};
use super::{Adding, Asked, At, Changing, Confirming, Page, Reading, cursor, limit, tagged};
use crate::pipeline::mapping::definition::{Definition, Fault};
use crate::telemetry::meters::{MappingHits, Unmapped};

pub fn routes() -> OpenApiRouter<Admin> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(sort))
        .routes(routes!(hits))
        .routes(routes!(unmapped))
        .routes(routes!(show, update, delete))
}

/// A new mapping, or the replacement of one.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct WrittenMapping {
    definition: Definition,
    /// Its position among the enabled mappings of the store, from 1. Absent: a new mapping goes last, an existing one keeps its
    /// position.
    #[schema(minimum = 1)]
    position: Option<u32>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Filter {
    /// The `next` of the previous page.
    cursor: Option<String>,
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
    /// `file` or `store`.
    #[param(inline)]
    origin: Option<Origin>,
    /// Only mappings of this provider, without those that apply to all providers.
    provider: Option<String>,
    /// Only mappings that give this group by name.
    group: Option<String>,
    /// Only mappings that give this role by name.
    role: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Origin {
    File,
    Store,
}

impl Filter {
    fn takes(&self, view: &MappingView) -> bool {
        let origin = match self.origin {
            None => true,
            Some(Origin::File) => view.origin == "file",
            Some(Origin::Store) => view.origin == "store",
        };
        let then = &view.definition.then;
        let gives =
            |name: &Option<String>,
             of: fn(&crate::pipeline::mapping::definition::ActionDefinition) -> &Option<String>| {
                name.is_none() || then.iter().any(|action| of(action) == name)
            };
        origin
            && (self.provider.is_none() || self.provider == view.definition.provider)
            && gives(&self.group, |action| &action.add_group)
            && gives(&self.role, |action| &action.add_role)
    }
}

/// All mappings, in the order in which they run: those of the file, then those of the store
#[utoipa::path(get, path = "/api/v1/mappings", operation_id = "list_mappings", tag = "mappings", params(Filter), responses(
    (status = 200, description = "One page of mappings",
    body = Page<MappingView>, headers(("ETag" = String, description = "The version of their order"))), Problems
))]
async fn list(_: Reading, State(admin): State<Admin>, Asked(filter): Asked<Filter>) -> Result<Response, Problem> {
    let most = limit(filter.limit)?;
    let paging = super::Paging { cursor: filter.cursor.clone(), limit: None };
    let stored = admin.service.stored_mappings();
    let file = admin.inspect().file_rules();
    let of_file = file.mappings().len();
    let place = |id: &str| match Reference::parse(id)? {
        Reference::File(id) => file.place(id),
        Reference::Number(number) => {
            stored.iter().position(|view| view.number == Some(number)).map(|place| of_file + place)
        }
    };
    let mut at = match paging.after()? {
        None => 0,
        Some(ids) => ids.split(',').find_map(place).ok_or_else(|| {
            Problem::query("cursor: the mappings that came next are gone; start again from the first page")
        })?,
    };
    let view = |at: usize| match file.mappings().get(at) {
        Some(mapping) => Some(MappingView::of_file(mapping)),
        None => stored.get(at.checked_sub(of_file)?).cloned(),
    };
    let (mut items, mut more) = (Vec::new(), false);
    while let Some(found) = view(at) {
        if filter.takes(&found) {
            more = items.len() == most;
            if more {
                break;
            }
            items.push(found);
        }
        at += 1;
    }
    let ahead = || (at..at.saturating_add(AHEAD)).map_while(view).map(|view| view.id).collect::<Vec<_>>().join(",");
    let next = more.then(|| cursor(&ahead()));
    Ok(tagged(admin.service.inspect.stored().generation, Json(Page { items, next })))
}

/// Mappings that a cursor names: those that come next, by their ids, since places change when others are deleted. The first
/// that is still there begins the next page.
const AHEAD: usize = 8;

/// Makes a mapping
#[utoipa::path(post, path = "/api/v1/mappings", operation_id = "create_mapping", tag = "mappings",
    params(Confirming), request_body = WrittenMapping, responses(
    (status = 201, description = "The new mapping", body = MappingView, headers(("ETag" = String))), Problems
))]
async fn create(State(admin): State<Admin>, Adding(call): Adding, body: Bytes) -> Result<Response, Problem> {
    let WrittenMapping { definition, position } = json(&body, false)?;
    let place = place(position, Place::Last, &definition)?;
    let view = admin.service.create_mapping(&call, NewMapping { definition, place, guard: None }).await?;
    Ok(tagged(view.version, (StatusCode::CREATED, Json(view))))
}

pub(super) fn place(position: Option<u32>, absent: Place, definition: &Definition) -> Result<Place, Refused> {
    let wrong = |message: &str| Err(Refused::Invalid(vec![Fault::new("position", None, message)]));
    match position {
        None => Ok(absent),
        Some(0) => wrong("expected a place from 1"),
        Some(_) if !definition.enabled => wrong("a disabled mapping has no position"),
        Some(_) if definition.unmatched.is_some() => wrong("a default applies after all mappings and has no position"),
        Some(position) => Ok(Place::At(position)),
    }
}

/// The order of the store's mappings.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Order {
    /// The IDs of all enabled mappings of the store, without defaults.
    ids: Vec<String>,
}

/// Sorts the enabled mappings of the store
#[utoipa::path(put, path = "/api/v1/mappings/order",
    operation_id = "sort_mappings", tag = "mappings", request_body = Order, params(
    ("If-Match" = String, Header, description = "The `ETag` of the list"), Confirming
), responses((status = 204, description = "The mappings run in this order"), Problems))]
async fn sort(State(admin): State<Admin>, Changing(call): Changing, body: Bytes) -> Result<Response, Problem> {
    let Order { ids } = json(&body, false)?;
    let mut order = Vec::with_capacity(ids.len());
    for (at, id) in ids.iter().enumerate() {
        match Reference::parse(id) {
            Some(Reference::Number(number)) => order.push(number),
            _ => {
                return Err(Refused::fault(
                    format!("ids[{at}]"),
                    Some(id),
                    "expected the id of a mapping of the store",
                )
                .into());
            }
        }
    }
    let expected = call.expected.clone();
    let check = move |stored: &crate::pipeline::mapping::stored::Stored, order: &[i64]| {
        if expected.is_some_and(|seen| !seen.contains(&stored.generation)) {
            return Err(Refused::Stale);
        }
        let mut placed: Vec<i64> =
            stored.mappings.values().filter(|entry| entry.body.position.is_some()).map(|entry| entry.number).collect();
        let mut sorted = order.to_vec();
        placed.sort_unstable();
        sorted.sort_unstable();
        match placed == sorted {
            true => Ok(()),
            false => {
                Err(Refused::fault("ids", None, "expected each enabled mapping of the store once, defaults aside"))
            }
        }
    };
    admin.service.sort_mappings(&call, order, check).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn reference(id: &str) -> Result<Reference, Refused> {
    Reference::parse(id).ok_or_else(|| Refused::NotFound("there is no such mapping".into()))
}

/// One mapping
#[utoipa::path(get, path = "/api/v1/mappings/{id}", operation_id = "show_mapping", tag = "mappings",
    params(("id" = String, Path)), responses(
    (status = 200, description = "The mapping", body = MappingView, headers(("ETag" = String))), Problems
))]
async fn show(_: Reading, State(admin): State<Admin>, At(id): At<String>) -> Result<Response, Problem> {
    let view = admin.service.mapping(reference(&id)?)?;
    Ok(tagged(view.version, Json(view)))
}

/// Changes a mapping of the store
/// Its grants stay until each holder's next login; with `sync.apply = "now"`, all users are planned again at once.
#[utoipa::path(put, path = "/api/v1/mappings/{id}",
    operation_id = "update_mapping", tag = "mappings", request_body = WrittenMapping, params(
    ("id" = String, Path), ("If-Match" = String, Header), Confirming
), responses((status = 200, description = "The mapping as it is now",
    body = MappingView, headers(("ETag" = String))), Problems))]
async fn update(
    State(admin): State<Admin>,
    Changing(call): Changing,
    At(id): At<String>,
    body: Bytes,
) -> Result<Response, Problem> {
    let WrittenMapping { definition, position } = json(&body, false)?;
    let place = place(position, Place::Keep, &definition)?;
    let view = admin.service.update_mapping(&call, reference(&id)?, move |_, _| Ok((definition, place))).await?;
    Ok(tagged(view.version, Json(view)))
}

/// Deletes a mapping of the store
/// Its grants end at once.
#[utoipa::path(delete, path = "/api/v1/mappings/{id}", operation_id = "delete_mapping", tag = "mappings", params(
    ("id" = String, Path), ("If-Match" = String, Header), Confirming
), responses((status = 204, description = "The mapping and what it gave are gone"), Problems))]
async fn delete(State(admin): State<Admin>, Changing(call): Changing, At(id): At<String>) -> Result<Response, Problem> {
    admin.service.delete_mapping(&call, reference(&id)?).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// How often each mapping matched since the process started, those that never matched first
#[utoipa::path(get, path = "/api/v1/mappings/hits", operation_id = "list_mapping_hits", tag = "mappings", responses(
    (status = 200, description = "The count of every mapping", body = Vec<MappingHits>), Problems
))]
async fn hits(_: Reading, State(admin): State<Admin>) -> Json<Vec<MappingHits>> {
    let inspect = admin.inspect();
    Json(inspect.meters().hits(&inspect.rules()))
}

/// Values of observed claims that no mapping reads
#[utoipa::path(get, path = "/api/v1/claims/unmapped", operation_id = "list_unmapped_values", tag = "mappings", responses(
    (status = 200, description = "The values, the most frequent first", body = Vec<Unmapped>), Problems
))]
async fn unmapped(_: Reading, State(admin): State<Admin>) -> Json<Vec<Unmapped>> {
    Json(admin.inspect().meters().unmapped())
}
