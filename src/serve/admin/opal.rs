//! Opal's `/idp-group-mappings`: how groups are shown for an app. Here the app is a provider, known by its UUID.
//!
//! What its clients insist on: every success is exactly 200, a deletion too; an absent field keeps, null clears the alias; a
//! POST may have no body at all.

use std::collections::HashSet;

use axum::Router;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::StatusCode;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::openapi::{OpenApi, Server};
use utoipa::{IntoResponses, PartialSchema as _, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::Denied;
use super::http::{Admin, Head, guarded, json};
use super::service::{ExposureChange, ExposureView, Refused, provider_key};
use super::v1::{document, secure};
use crate::config::{Face, Scope};

/// The routes, under `/v1` as Opal has them and at the root, and the document that describes them.
pub fn routes(admin: &Admin) -> (Router<Admin>, OpenApi) {
    let title = "Opal's IdP group mappings, as loginsync answers them";
    let described = OpenApiRouter::with_openapi(document(title, "`app_resource_id` is the `key` of a provider."))
        .routes(routes!(list, replace))
        .routes(routes!(show, upsert, delete));
    let (routes, mut api) = described.split_for_parts();
    secure(&mut api);
    let schemas = [(Error::name().into_owned(), Error::schema())];
    api.components.get_or_insert_with(Default::default).schemas.extend(schemas);
    api.servers = Some(vec![Server::new("/v1"), Server::new("/")]);
    let both = Router::new().nest("/v1", routes.clone()).merge(routes);
    let denied: fn(&Denied) -> Response = |why| Error::denied(why).into_response();
    (guarded(both, admin, Face::Opal, denied), api)
}

/// One group of an app.
#[derive(Debug, Serialize, ToSchema)]
struct IdpGroupMapping {
    #[schema(format = "uuid")]
    app_resource_id: String,
    #[schema(format = "uuid")]
    group_id: String,
    /// Absent where the group has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    alias: Option<String>,
    hidden_from_end_user: bool,
}

#[derive(Debug, Serialize, ToSchema)]
struct IdpGroupMappingList {
    mappings: Vec<IdpGroupMapping>,
}

#[derive(Debug, Deserialize, ToSchema)]
struct UpdateIdpGroupMappings {
    mappings: Vec<UpdatedIdpGroupMapping>,
}

#[derive(Debug, Deserialize, ToSchema)]
struct UpdatedIdpGroupMapping {
    #[schema(format = "uuid")]
    group_id: String,
    alias: Option<String>,
    hidden_from_end_user: Option<bool>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[allow(clippy::option_option, reason = "absent keeps, null clears")]
struct CreateIdpGroupMapping {
    /// Absent keeps the value, null clears it.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>)]
    alias: Option<Option<String>>,
    hidden_from_end_user: Option<bool>,
}

#[allow(clippy::option_option, reason = "absent keeps, null clears")]
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::<String>::deserialize(deserializer).map(Some)
}

/// Opal documents no error; this is a plain one.
#[derive(Debug, Serialize, ToSchema)]
struct Error {
    #[serde(skip)]
    status: StatusCode,
    code: u16,
    message: String,
}

impl Error {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, code: status.as_u16(), message: message.into() }
    }

    fn denied(why: &Denied) -> Self {
        let (status, text) = why.told();
        Self::new(status, text)
    }
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        let (status, text) = refused.told();
        let status = match refused {
            Refused::Invalid(_) => StatusCode::BAD_REQUEST,
            Refused::ReadOnly(_) => StatusCode::FORBIDDEN,
            _ => status,
        };
        Self::new(status, text)
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        (self.status, axum::Json(self)).into_response()
    }
}

#[derive(IntoResponses)]
#[allow(dead_code, reason = "describes the errors of every operation")]
enum Errors {
    /// The body cannot be read
    #[response(status = 400)]
    BadRequest(Error),
    /// The API token is missing or wrong
    #[response(status = 401)]
    Unauthorized(Error),
    /// The client may not do this
    #[response(status = 403)]
    Forbidden(Error),
    /// There is no such app or group
    #[response(status = 404)]
    NotFound(Error),
    /// The alias is taken
    #[response(status = 409)]
    Conflict(Error),
    /// The body is too long
    #[response(status = 413)]
    TooLarge(Error),
    /// Too many calls
    #[response(status = 429)]
    TooMany(Error),
    /// The store is not available
    #[response(status = 503)]
    Unavailable(Error),
}

/// The provider that an app's id means.
fn app(admin: &Admin, id: &str) -> Result<String, Error> {
    let config = admin.inspect().config();
    let mut names = config.providers.iter().map(|settings| &settings.provider.name);
    let found = names.find(|name| provider_key(name).eq_ignore_ascii_case(id));
    found.map(ToString::to_string).ok_or_else(|| Error::new(StatusCode::NOT_FOUND, "there is no such app"))
}

fn group(admin: &Admin, id: &str) -> Result<String, Error> {
    let found = admin.service.group_by_key(id).map(|group| group.name);
    found.ok_or_else(|| Error::new(StatusCode::NOT_FOUND, "there is no such group"))
}

fn view(app: &str, exposure: ExposureView) -> IdpGroupMapping {
    IdpGroupMapping {
        app_resource_id: app.to_owned(),
        group_id: exposure.key,
        alias: exposure.alias,
        hidden_from_end_user: exposure.hidden,
    }
}

fn all(admin: &Admin, app: &str, provider: &str) -> axum::Json<IdpGroupMappingList> {
    let mappings = admin.service.exposures(provider).into_iter().map(|exposure| view(app, exposure)).collect();
    axum::Json(IdpGroupMappingList { mappings })
}

fn one(admin: &Admin, app: &str, provider: &str, group: &str) -> Result<axum::Json<IdpGroupMapping>, Error> {
    let found = admin.service.exposure(provider, group);
    let found = found.ok_or_else(|| Error::new(StatusCode::NOT_FOUND, "the group is not mapped for this app"))?;
    Ok(axum::Json(view(app, found)))
}

/// The groups of an app
#[utoipa::path(get, path = "/idp-group-mappings/{app_resource_id}",
    operation_id = "getIdpGroupMappings", tag = "idp-group-mappings", params(
    ("app_resource_id" = String, Path)
), responses((status = 200, description = "The groups of the app", body = IdpGroupMappingList), Errors))]
async fn list(State(admin): State<Admin>, Head(call): Head, Path(id): Path<String>) -> Result<Response, Error> {
    call.caller.may(Scope::Read)?;
    let provider = app(&admin, &id)?;
    Ok(all(&admin, &id, &provider).into_response())
}

/// Replaces the groups of an app
#[utoipa::path(put, path = "/idp-group-mappings/{app_resource_id}",
    operation_id = "updateIdpGroupMappings", tag = "idp-group-mappings", params(
    ("app_resource_id" = String, Path)
), request_body = UpdateIdpGroupMappings,
    responses((status = 200, description = "The groups of the app as they are now", body = IdpGroupMappingList), Errors))]
async fn replace(
    State(admin): State<Admin>,
    Head(call): Head,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Response, Error> {
    let UpdateIdpGroupMappings { mappings } = json(&body, false)?;
    let provider = app(&admin, &id)?;
    let (mut wanted, mut seen) = (Vec::with_capacity(mappings.len()), HashSet::new());
    for mapping in mappings {
        let name = group(&admin, &mapping.group_id)?;
        if !seen.insert(name.clone()) {
            return Err(Error::new(
                StatusCode::BAD_REQUEST,
                format!("group `{}` is in the list twice", mapping.group_id),
            ));
        }
        let change = ExposureChange { alias: Some(mapping.alias), hidden: mapping.hidden_from_end_user };
        wanted.push((name, change));
    }
    admin.service.replace_exposures(&call, &provider, wanted).await?;
    Ok(all(&admin, &id, &provider).into_response())
}

/// One group of an app
#[utoipa::path(get, path = "/idp-group-mappings/{app_resource_id}/groups/{group_id}",
    operation_id = "getIdpGroupMapping", tag = "idp-group-mappings", params(
    ("app_resource_id" = String, Path), ("group_id" = String, Path)
), responses((status = 200, description = "The group", body = IdpGroupMapping), Errors))]
async fn show(
    State(admin): State<Admin>,
    Head(call): Head,
    Path((id, group_id)): Path<(String, String)>,
) -> Result<Response, Error> {
    call.caller.may(Scope::Read)?;
    let (provider, group) = (app(&admin, &id)?, group(&admin, &group_id)?);
    Ok(one(&admin, &id, &provider, &group)?.into_response())
}

/// Creates or changes one group of an app
/// The answer contains the fields that the body left out, so a body that leaves fields out also requires scope `read`.
#[utoipa::path(post, path = "/idp-group-mappings/{app_resource_id}/groups/{group_id}",
    operation_id = "createIdpGroupMapping", tag = "idp-group-mappings", params(
    ("app_resource_id" = String, Path), ("group_id" = String, Path)
), request_body = Option<CreateIdpGroupMapping>,
    responses((status = 200, description = "The group as it is now", body = IdpGroupMapping), Errors))]
async fn upsert(
    State(admin): State<Admin>,
    Head(call): Head,
    Path((id, group_id)): Path<(String, String)>,
    body: Bytes,
) -> Result<Response, Error> {
    let wanted: Option<CreateIdpGroupMapping> = json(&body, true)?;
    let (provider, group) = (app(&admin, &id)?, group(&admin, &group_id)?);
    let change = wanted.map_or_else(ExposureChange::default, |wanted| ExposureChange {
        alias: wanted.alias,
        hidden: wanted.hidden_from_end_user,
    });
    if change.alias.is_none() || change.hidden.is_none() {
        call.caller.may(Scope::Read)?;
    }
    admin.service.set_exposure(&call, &provider, &group, change).await?;
    Ok(one(&admin, &id, &provider, &group)?.into_response())
}

/// Removes one group from an app
#[utoipa::path(delete, path = "/idp-group-mappings/{app_resource_id}/groups/{group_id}",
    operation_id = "deleteIdpGroupMappings", tag = "idp-group-mappings", params(
    ("app_resource_id" = String, Path), ("group_id" = String, Path)
), responses((status = 200, description = "The group is no longer mapped"), Errors))]
async fn delete(
    State(admin): State<Admin>,
    Head(call): Head,
    Path((id, group_id)): Path<(String, String)>,
) -> Result<Response, Error> {
    let (provider, group) = (app(&admin, &id)?, group(&admin, &group_id)?);
    admin.service.delete_exposure(&call, &provider, &group).await?;
    Ok(StatusCode::OK.into_response())
}
