//! OneLogin's user mappings (API version 2) over the mappings of the store: paths, bodies and errors as its clients know
//! them, from the vendor's pages and from what its SDKs send.
//!
//! ```text
//! conditions   claims by their declared names (`member_of`, `department`, `custom_attribute_x`), `has_role`, `last_login`
//! actions      `add_role`, `add_group` (ours), `set_status`; the others are kept and given back, and do nothing
//! ```
//!
//! Only the store's mappings have numbers, and of them only those are here that these words can express: for every
//! provider, without patterns and without an end.

mod body;
mod directory;
mod filter;
mod token;
mod vocabulary;

use std::collections::HashSet;

use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use axum::{Json, Router};
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use serde_json::Value;
use utoipa::openapi::OpenApi;
use utoipa::{IntoResponses, PartialSchema as _, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use self::body::{Input, MappingObject, Names, Wanted};
use super::auth::Denied;
use super::http::{Admin, Head, guarded};
use super::service::{MappingView, NewMapping, Place, Reference, Refused, Trial};
use super::v1::{document, secure};
use crate::config::{Face, Scope};
use crate::pipeline::mapping::condition::Truth;
use crate::pipeline::mapping::definition::{Definition, Fault};

/// People that one dry run takes.
const MOST_PEOPLE: usize = 100;

/// The paths of this face, and the document that describes them.
pub fn routes(admin: &Admin) -> (Router<Admin>, OpenApi) {
    let title = "OneLogin's user mappings, as loginsync answers them";
    let described = OpenApiRouter::with_openapi(document(title, "Mappings of the store that hold for every provider."))
        .routes(routes!(list, create))
        .routes(routes!(sort))
        .routes(routes!(vocabulary::conditions))
        .routes(routes!(vocabulary::operators))
        .routes(routes!(vocabulary::condition_values))
        .routes(routes!(vocabulary::actions))
        .routes(routes!(vocabulary::action_values))
        .routes(routes!(show, update, delete))
        .routes(routes!(dry_run))
        .routes(routes!(directory::roles))
        .routes(routes!(directory::role))
        .routes(routes!(directory::users))
        .routes(routes!(directory::user))
        .routes(routes!(token::rate_limit));
    let (mappings, mut api) = described.split_for_parts();
    secure(&mut api);
    let mut schemas =
        vec![(Plain::name().into_owned(), Plain::schema()), (Invalid::name().into_owned(), Invalid::schema())];
    Invalid::schemas(&mut schemas);
    api.components.get_or_insert_with(Default::default).schemas.extend(schemas);
    api.components.get_or_insert_with(Default::default).schemas.extend(token::schemas());
    let mappings = mappings.route("/api/2/{*path}", any(|| async { Problem::not_found() }));
    let (tokens, described) = OpenApiRouter::new()
        .routes(routes!(token::version_2))
        .routes(routes!(token::version_1))
        .routes(routes!(token::revoke))
        .routes(routes!(token::revoke_version_2))
        .split_for_parts();
    api.merge(described);
    (guarded(mappings, admin, Face::Onelogin, denied).merge(tokens), api)
}

/// Errors that are not a matter of a field.
#[derive(Debug, Serialize, ToSchema)]
struct Plain {
    name: &'static str,
    message: String,
    #[serde(rename = "statusCode")]
    status: u16,
}

/// What is wrong with the fields of a request.
#[derive(Debug, Serialize, ToSchema)]
struct Invalid {
    code: u16,
    message: &'static str,
    errors: Vec<FieldErrors>,
}

#[derive(Debug, Serialize, ToSchema)]
struct FieldErrors {
    /// Such as `conditions.[0].value`.
    field: String,
    message: Vec<String>,
}

#[derive(IntoResponses)]
#[allow(dead_code, reason = "for the document alone")]
enum Errors {
    /// No JSON, or not of the shape that the call takes.
    #[response(status = 400)]
    BadRequest(Plain),
    /// The access token is missing or not valid.
    #[response(status = 401)]
    Unauthorized(Plain),
    /// The client lacks a scope, or may not use this face.
    #[response(status = 403)]
    Forbidden(Plain),
    /// There is no such resource.
    #[response(status = 404)]
    NotFound(Plain),
    /// The request body is too long.
    #[response(status = 413)]
    TooLarge(Plain),
    /// A field is missing or not valid.
    #[response(status = 422)]
    Unprocessable(Invalid),
    /// Too many requests; wait as long as `Retry-After` says.
    #[response(status = 429)]
    TooMany(Plain),
    /// The store cannot be read or written now.
    #[response(status = 503)]
    Unavailable(Plain),
}

/// Why a call is not answered as asked.
#[derive(Debug)]
enum Problem {
    Plain(StatusCode, String),
    Fields(Vec<Fault>),
}

impl Problem {
    fn not_found() -> Self {
        Self::Plain(StatusCode::NOT_FOUND, "Resource not found".into())
    }

    fn field(field: &str, message: impl Into<String>) -> Self {
        Self::Fields(vec![Fault::new(field, None, message)])
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        let (status, text) = refused.told();
        match refused {
            Refused::Invalid(faults) => Self::Fields(faults),
            Refused::NotFound(_) => Self::not_found(),
            Refused::ReadOnly(_) => Self::Plain(StatusCode::FORBIDDEN, text),
            _ if status == StatusCode::CONFLICT => Self::field("default", text),
            _ => Self::Plain(status, text),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        match self {
            Self::Plain(status, message) => plain(status, message),
            Self::Fields(faults) => {
                let errors = faults.into_iter().map(field_errors).collect();
                let body = Invalid { code: 422, message: "Validation Failed", errors };
                (StatusCode::UNPROCESSABLE_ENTITY, Json(body)).into_response()
            }
        }
    }
}

fn plain(status: StatusCode, message: String) -> Response {
    let name = match status {
        StatusCode::BAD_REQUEST => "BadRequestError",
        StatusCode::UNAUTHORIZED => "UnauthorizedError",
        StatusCode::FORBIDDEN => "ForbiddenError",
        StatusCode::NOT_FOUND => "NotFoundError",
        StatusCode::METHOD_NOT_ALLOWED => "MethodNotAllowedError",
        StatusCode::PAYLOAD_TOO_LARGE => "PayloadTooLargeError",
        StatusCode::TOO_MANY_REQUESTS => "TooManyRequestsError",
        _ => "ServiceUnavailableError",
    };
    (status, Json(Plain { name, message, status: status.as_u16() })).into_response()
}

/// What the definition of a mapping calls a field, as this face calls it.
fn field_errors(fault: Fault) -> FieldErrors {
    let Fault { field, value, message } = fault;
    let part = |list: &str| {
        let (index, rest) = field.strip_prefix(list)?.split_once(']')?;
        Some((index.to_owned(), rest.to_owned()))
    };
    let value = value.unwrap_or_default();
    if let Some((index, rest)) = part("when[") {
        let (word, what) = if rest == ".claim" { ("source", "source") } else { ("value", "value") };
        let first = format!("Invalid condition {what}: {value}");
        return FieldErrors { field: format!("conditions.[{index}].{word}"), message: vec![first, message] };
    }
    if let Some((index, _)) = part("then[") {
        let first = format!("Invalid action value(s): {value}");
        return FieldErrors { field: format!("actions.[{index}].value"), message: vec![first, message] };
    }
    let field = match field.as_str() {
        "when" => "conditions".to_owned(),
        "then" => "actions".to_owned(),
        _ => field,
    };
    FieldErrors { field, message: vec![message] }
}

fn denied(why: &Denied) -> Response {
    let (status, text) = why.told();
    match why {
        Denied::Unknown => plain(status, "Unauthorized".into()),
        Denied::Nowhere => Problem::not_found().into_response(),
        _ => plain(status, text.into()),
    }
}

/// A mapping that this face can express, and its place among all of the store's.
struct Visible {
    object: MappingObject,
    view: MappingView,
}

/// In the order in which they run. Positions count only what the face shows, so that they have no gaps.
fn visible(admin: &Admin) -> Vec<Visible> {
    let names = Names::new(&admin.inspect().stored(), &admin.inspect().rules());
    let mut rank = 0;
    let mut shown = Vec::new();
    for view in admin.service.stored_mappings() {
        let Some(mut object) = names.express(&view) else { continue };
        object.position = view.position.map(|_| {
            rank += 1;
            rank
        });
        shown.push(Visible { object, view });
    }
    shown
}

fn find(admin: &Admin, id: &str) -> Result<Visible, Problem> {
    let found = visible(admin).into_iter().find(|one| one.object.id.to_string() == id);
    found.ok_or_else(Problem::not_found)
}

/// Where a wanted position is among all of the store's mappings; `own` is moved there, if it has a place already.
fn place(shown: &[Visible], wanted: Wanted, own: Option<&MappingView>) -> Place {
    let Wanted::At(position) = wanted else {
        return if own.is_some() { Place::Keep } else { Place::Last };
    };
    let others = shown.iter().filter(|one| own.is_none_or(|own| own.number != one.view.number));
    let places: Vec<u32> = others.filter_map(|one| one.view.position).collect();
    let Some(at) = places.get(position as usize - 1) else { return Place::Last };
    let moved_up = own.and_then(|own| own.position).is_some_and(|own| own < *at);
    Place::At(at - u32::from(moved_up))
}

#[utoipa::path(get, path = "/api/2/mappings", operation_id = "listMappings", params(filter::Parameters),
    responses((status = 200, description = "The mappings, in the order in which they run", body = [MappingObject]), Errors))]
async fn list(
    State(admin): State<Admin>,
    Head(call): Head,
    RawQuery(query): RawQuery,
) -> Result<Json<Vec<MappingObject>>, Problem> {
    call.caller.may(Scope::Read)?;
    let filter = filter::Filter::parse(&query.unwrap_or_default())?;
    let shown = visible(&admin).into_iter().map(|one| one.object);
    Ok(Json(shown.filter(|object| filter.takes(object)).collect()))
}

#[utoipa::path(get, path = "/api/2/mappings/{id}", operation_id = "getMapping", params(("id" = i64, Path)),
    responses((status = 200, description = "The mapping", body = MappingObject), Errors))]
async fn show(
    State(admin): State<Admin>,
    Head(call): Head,
    Path(id): Path<String>,
) -> Result<Json<MappingObject>, Problem> {
    call.caller.may(Scope::Read)?;
    Ok(Json(find(&admin, &id)?.object))
}

/// The number of what was made or changed.
#[derive(Debug, Serialize, ToSchema)]
struct Made {
    id: i64,
}

#[utoipa::path(post, path = "/api/2/mappings", operation_id = "createMapping", request_body = body::MappingBody,
    responses((status = 201, description = "The number of the new mapping", body = Made), Errors))]
async fn create(State(admin): State<Admin>, Head(call): Head, body: Bytes) -> Result<Response, Problem> {
    call.caller.may(Scope::WriteMappings)?;
    let input = Input::read(&body)?;
    input.check_complete()?;
    let names = Names::new(&admin.inspect().stored(), &admin.inspect().rules());
    let wanted = input.position;
    let definition = names.define(input, Definition::default())?;
    let place = place(&visible(&admin), wanted, None);
    let told = without_effect(&definition);
    let made = admin.service.create_mapping(&call, NewMapping { definition, place, guard: None }).await?;
    let id = made.number.unwrap_or_default();
    Ok(with_note((StatusCode::CREATED, Json(Made { id })).into_response(), told))
}

/// What is left out, or null, stays as it is.
#[utoipa::path(put, path = "/api/2/mappings/{id}", operation_id = "updateMapping",
    params(("id" = i64, Path)), request_body = body::MappingBody,
    responses((status = 200, description = "The number of the mapping", body = Made), Errors))]
async fn update(
    State(admin): State<Admin>,
    Head(call): Head,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Response, Problem> {
    call.caller.may(Scope::WriteMappings)?;
    let Visible { view, .. } = find(&admin, &id)?;
    let input = Input::read(&body)?;
    let place = place(&visible(&admin), input.position, Some(&view));
    let number = view.number.unwrap_or_default();
    let edit = move |world: &super::service::World, before: &crate::pipeline::mapping::stored::MappingBody| {
        let names = Names::new(&world.stored, &world.rules);
        let definition = names.define(input, before.definition.clone())?;
        Ok((definition, place))
    };
    let changed = admin.service.update_mapping(&call, Reference::Number(number), edit).await?;
    let told = without_effect(&changed.definition);
    Ok(with_note(Json(Made { id: number }).into_response(), told))
}

#[utoipa::path(delete, path = "/api/2/mappings/{id}", operation_id = "deleteMapping", params(("id" = i64, Path)),
    responses((status = 204, description = "The mapping is deleted"), Errors))]
async fn delete(State(admin): State<Admin>, Head(call): Head, Path(id): Path<String>) -> Result<StatusCode, Problem> {
    call.caller.may(Scope::WriteMappings)?;
    let number = find(&admin, &id)?.object.id;
    admin.service.delete_mapping(&call, Reference::Number(number)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// All enabled mappings, in the order in which they are to run.
#[utoipa::path(put, path = "/api/2/mappings/sort", operation_id = "sortMappings", request_body = Vec<i64>,
    responses((status = 200, description = "The numbers in their new order", body = [i64]), Errors))]
async fn sort(State(admin): State<Admin>, Head(call): Head, body: Bytes) -> Result<Json<Vec<i64>>, Problem> {
    call.caller.may(Scope::WriteMappings)?;
    let incomplete = || Problem::field("default", "Sorting list must contain all mapping IDs");
    let items = match parse(&body)? {
        Value::Array(items) => items,
        // One client sends the list so.
        Value::Object(mut object) => match object.remove("mapping_ids") {
            Some(Value::Array(items)) => items,
            _ => return Err(no_array()),
        },
        _ => return Err(no_array()),
    };
    let order: Option<Vec<i64>> = items.iter().map(Value::as_i64).collect();
    let order = order.ok_or_else(incomplete)?;
    let placed = |one: &Visible| one.object.position.map(|_| one.object.id);
    let expected: HashSet<i64> = visible(&admin).iter().filter_map(placed).collect();
    let named: HashSet<i64> = order.iter().copied().collect();
    if named != expected || named.len() != order.len() {
        return Err(incomplete());
    }
    let sorted = admin.service.sort_mappings(&call, order, |_, _| Ok(())).await?;
    Ok(Json(sorted.into_iter().filter(|number| expected.contains(number)).collect()))
}

/// A person for whom a mapping was tried.
#[derive(Debug, Serialize, ToSchema)]
struct TrialObject {
    user: UserObject,
    /// Whether the mapping would hold, from the claims of the person's last logins. Null: unknown, since a claim that it reads
    /// was not recorded.
    mapped: Option<bool>,
}

#[derive(Debug, Serialize, ToSchema)]
struct UserObject {
    id: i64,
    firstname: Option<String>,
    lastname: Option<String>,
    username: String,
    email: Option<String>,
}

#[utoipa::path(post, path = "/api/2/mappings/{id}/dryrun", operation_id = "dryrunMapping",
    params(("id" = i64, Path)), request_body = Vec<i64>,
    responses((status = 200, description = "The outcome for each user", body = [TrialObject]), Errors))]
async fn dry_run(
    State(admin): State<Admin>,
    Head(call): Head,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Json<Vec<TrialObject>>, Problem> {
    call.caller.may(Scope::Read)?;
    let number = find(&admin, &id)?.object.id;
    let Value::Array(items) = parse(&body)? else { return Err(no_array()) };
    if items.len() > MOST_PEOPLE {
        return Err(Problem::field("default", format!("At most {MOST_PEOPLE} users at once")));
    }
    let people: Option<Vec<i64>> = items.iter().map(Value::as_i64).collect();
    let people = people.ok_or_else(|| Problem::field("default", "User IDs must be integers"))?;
    let trials = admin.service.try_mapping(number, &people).await?;
    Ok(Json(trials.into_iter().map(TrialObject::from).collect()))
}

impl From<Trial> for TrialObject {
    fn from(trial: Trial) -> Self {
        let Trial { person, holds } = trial;
        let (firstname, lastname) = directory::names(&person);
        let user = UserObject {
            id: person.number,
            firstname,
            lastname,
            username: person.user.subject.to_string(),
            email: person.email,
        };
        let mapped = match holds {
            Truth::True => Some(true),
            Truth::False => Some(false),
            Truth::Undecided => None,
        };
        Self { user, mapped }
    }
}

fn parse(body: &Bytes) -> Result<Value, Problem> {
    let parsed = serde_json::from_slice(body);
    parsed.map_err(|error| Problem::Plain(StatusCode::BAD_REQUEST, format!("Invalid JSON: {error}")))
}

fn no_array() -> Problem {
    Problem::Plain(StatusCode::BAD_REQUEST, "Expected array in request".into())
}

/// Actions that are kept and do nothing, for readers of the response's head: its body has no place for them.
fn without_effect(definition: &Definition) -> Vec<String> {
    let foreign = definition.then.iter().filter_map(|action| action.without_effect.as_ref());
    foreign.filter(|foreign| !body::is_status_of_disabling(foreign)).map(|foreign| foreign.action.clone()).collect()
}

fn with_note(mut response: Response, names: Vec<String>) -> Response {
    if let (false, Ok(value)) = (names.is_empty(), HeaderValue::from_str(&names.join(", "))) {
        response.headers_mut().insert("x-loginsync-without-effect", value);
    }
    response
}
