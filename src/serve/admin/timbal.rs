//! Timbal's `/orgs/{org_id}/identity-providers`: which group of a provider gives which role.
//!
//! Connections are the providers of the configuration, under their names, so that writes are answered with the reason. A
//! group mapping is the short form with a role, on the provider's groups claim. Any organization's id is this one.

use axum::Router;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use bytes::Bytes;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::openapi::OpenApi;
use utoipa::{IntoResponses, PartialSchema as _, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::Denied;
use super::http::{Admin, Head, guarded, json};
use super::service::{Call, MappingView, NewMapping, Place, Reference, Refused, RoleView, World};
use super::v1::{document, secure};
use crate::config::{Face, ProviderSettings, Scope};
use crate::pipeline::ids::{RoleName, Target, Timestamp};
use crate::pipeline::mapping::definition::{Definition, ShortTarget};
use crate::pipeline::mapping::{Mapping, When};
use crate::pipeline::provider::Protocol;

/// The claim that carries groups, unless a provider has only one claim.
const GROUPS: &str = "groups";

/// The routes, and the document that describes them.
pub fn routes(admin: &Admin) -> (Router<Admin>, OpenApi) {
    let title = "Timbal's identity providers and group mappings, as loginsync answers them";
    let described = OpenApiRouter::with_openapi(document(title, "`provider_id` is the name of a provider."))
        .routes(routes!(connections, create_connection))
        .routes(routes!(connection, change_connection, delete_connection))
        .routes(routes!(set_default_role))
        .routes(routes!(mappings, create_mapping))
        .routes(routes!(delete_mapping))
        .routes(routes!(roles))
        .routes(routes!(role));
    let (routes, mut api) = described.split_for_parts();
    secure(&mut api);
    let schemas = [(Error::name().into_owned(), Error::schema())];
    api.components.get_or_insert_with(Default::default).schemas.extend(schemas);
    let denied: fn(&Denied) -> Response = |why| Error::denied(why).into_response();
    let routes =
        routes.route("/orgs/{org_id}/{*path}", any(|| async { Error::not_found("there is nothing at this address") }));
    (guarded(routes, admin, Face::Timbal, denied), api)
}

/// A connection.
#[derive(Debug, Serialize, ToSchema)]
struct IdentityProviderView {
    id: String,
    org_id: String,
    /// `oidc` or `saml`.
    kind: &'static str,
    provider_key: String,
    display_name: Option<String>,
    issuer: Option<String>,
    client_id: Option<String>,
    client_secret_set: bool,
    scopes: Option<String>,
    groups_claim: Option<String>,
    allowed_domains: Vec<String>,
    default_role_id: Option<String>,
    enabled: bool,
    enforced: bool,
    /// Seconds since 1970.
    created_at: i64,
    updated_at: i64,
}

#[derive(Debug, Serialize, ToSchema)]
struct IdentityProviderList {
    identity_providers: Vec<IdentityProviderView>,
}

/// An external group that gives a role.
#[derive(Debug, Serialize, ToSchema)]
struct GroupRoleMappingView {
    id: String,
    provider_id: String,
    external_group: String,
    role_id: String,
    /// Seconds since 1970.
    created_at: i64,
    updated_at: i64,
}

#[derive(Debug, Serialize, ToSchema)]
struct GroupRoleMappingList {
    group_role_mappings: Vec<GroupRoleMappingView>,
}

#[derive(Debug, Deserialize, ToSchema)]
struct CreateGroupRoleMappingReqBody {
    /// The name as the identity provider sends it.
    #[schema(min_length = 1, max_length = 1024)]
    external_group: String,
    /// A number, or a string that holds one.
    #[schema(value_type = i64)]
    role_id: Number,
}

#[derive(Debug, Deserialize, ToSchema)]
struct SetDefaultRoleReqBody {
    /// A number, or a string that holds one; null clears it.
    #[schema(value_type = Option<i64>)]
    role_id: Option<Number>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected a number, or a text that is one")]
enum NumberOrText {
    Number(i64),
    Text(String),
}

/// A number, or a text that is one.
#[derive(Debug, Clone, Copy)]
struct Number(i64);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match NumberOrText::deserialize(deserializer)? {
            NumberOrText::Number(number) => Ok(Self(number)),
            NumberOrText::Text(text) => {
                let wrong = || serde::de::Error::custom("expected a number, or a text that is one");
                text.parse().map(Self).map_err(|_| wrong())
            }
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
struct TimbalRole {
    id: String,
    name: String,
    description: String,
    /// The configuration file declares it: it cannot be changed here.
    system: bool,
    created_at: i64,
    updated_at: i64,
}

#[derive(Debug, Serialize, ToSchema)]
struct RoleList {
    roles: Vec<TimbalRole>,
}

/// Timbal's `ErrorMessage`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ErrorMessage)]
struct Error {
    #[serde(skip)]
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl Error {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    fn not_found(message: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NOT_FOUND", message)
    }

    /// The code that goes with a status.
    fn of(status: StatusCode, message: impl Into<String>) -> Self {
        let code = match status {
            StatusCode::UNAUTHORIZED => "UNAUTHORIZED",
            StatusCode::FORBIDDEN => "FORBIDDEN",
            StatusCode::NOT_FOUND => "NOT_FOUND",
            StatusCode::METHOD_NOT_ALLOWED => "METHOD_NOT_ALLOWED",
            StatusCode::CONFLICT => "CONFLICT",
            StatusCode::PAYLOAD_TOO_LARGE => "PAYLOAD_TOO_LARGE",
            StatusCode::TOO_MANY_REQUESTS => "TOO_MANY_REQUESTS",
            StatusCode::SERVICE_UNAVAILABLE => "SERVICE_UNAVAILABLE",
            _ => "BAD_REQUEST",
        };
        Self::new(status, code, message)
    }

    fn denied(why: &Denied) -> Self {
        let (status, text) = why.told();
        Self::of(status, text)
    }
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        let (status, text) = refused.told();
        match refused {
            Refused::ReadOnly(_) => Self::of(StatusCode::FORBIDDEN, text),
            Refused::Conflict(_) => Self::new(status, "ALREADY_EXISTS", text),
            _ => Self::of(status, text),
        }
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
    /// The API key is missing or wrong
    #[response(status = 401)]
    Unauthorized(Error),
    /// The client may not do this, or the configuration file declares it
    #[response(status = 403)]
    Forbidden(Error),
    /// Connection not found
    #[response(status = 404)]
    NotFound(Error),
    /// Group already mapped for this connection
    #[response(status = 409)]
    Conflict(Error),
    /// The body is too long
    #[response(status = 413)]
    TooLarge(Error),
    /// Something is wrong with the body
    #[response(status = 422)]
    Unprocessable(Error),
    /// Too many calls
    #[response(status = 429)]
    TooMany(Error),
    /// The store is not available
    #[response(status = 503)]
    Unavailable(Error),
}

// --------------------------------------------------------------------------------------------------------- connections

fn with_provider<T>(admin: &Admin, id: &str, read: impl FnOnce(&ProviderSettings) -> T) -> Result<T, Error> {
    let config = admin.inspect().config();
    let found = config.providers.iter().find(|settings| settings.provider.name.as_str() == id);
    found.map(read).ok_or_else(|| Error::not_found("connection not found"))
}

/// The claim of a provider that carries its groups.
fn groups_claim(settings: &ProviderSettings) -> Option<String> {
    let claims = &settings.provider.claims;
    let named = claims.iter().find(|claim| claim.name.as_str() == GROUPS);
    named.or(claims.first().filter(|_| claims.len() == 1)).map(|claim| claim.name.to_string())
}

fn groups_claim_of(admin: &Admin, id: &str) -> Result<String, Error> {
    let why = "the provider has no claim `groups`, nor just one; declare it in the configuration";
    with_provider(admin, id, groups_claim)?
        .ok_or_else(|| Error::new(StatusCode::UNPROCESSABLE_ENTITY, "BAD_REQUEST", why))
}

fn connection_view(admin: &Admin, org: &str, settings: &ProviderSettings) -> IdentityProviderView {
    let provider = &settings.provider;
    let name = provider.name.to_string();
    let groups_claim = groups_claim(settings);
    let default = groups_claim.as_deref().and_then(|claim| default_role(admin, &name, claim));
    let (kind, client_id) = match &provider.protocol {
        Protocol::Oidc(policy) => ("oidc", Some(policy.client_id.clone())),
        Protocol::Saml(_) => ("saml", None),
    };
    IdentityProviderView {
        id: name.clone(),
        org_id: org.to_owned(),
        kind,
        provider_key: name,
        display_name: None,
        issuer: Some(provider.issuer.to_string()),
        client_id,
        client_secret_set: false,
        scopes: None,
        groups_claim,
        allowed_domains: Vec::new(),
        default_role_id: default.map(|(_, role)| role.number.to_string()),
        enabled: true,
        enforced: false,
        created_at: 0,
        updated_at: 0,
    }
}

/// The default of a provider's groups claim that the store has, and its role; else the file's.
fn default_role(admin: &Admin, provider: &str, claim: &str) -> Option<(Option<i64>, RoleView)> {
    let is_default = |definition: &Definition| {
        definition.provider.as_deref() == Some(provider) && definition.unmatched.as_deref() == Some(claim)
    };
    let role_of = |definition: &Definition| match definition.then.first()?.single()? {
        ShortTarget::Role(name) => admin.service.role(name).ok(),
        ShortTarget::Group(_) => None,
    };
    let stored = admin.service.stored_mappings();
    let stored = stored.iter().filter(|view| is_default(&view.definition));
    let mut found = stored.filter_map(|view| Some((view.number, role_of(&view.definition)?)));
    found.next().or_else(|| {
        let rules = admin.inspect().file_rules();
        let defaults = rules.mappings().iter().filter(|mapping| mapping.is_default()).map(Definition::of);
        defaults.filter(is_default).find_map(|definition| Some((None, role_of(&definition)?)))
    })
}

/// Connections
#[utoipa::path(get, path = "/orgs/{org_id}/identity-providers", operation_id = "list_connections", tag = "orgs",
    params(("org_id" = String, Path)), responses(
    (status = 200, description = "All connections", body = IdentityProviderList), Errors
))]
async fn connections(State(admin): State<Admin>, Head(call): Head, Path(org): Path<String>) -> Result<Response, Error> {
    call.caller.may(Scope::Read)?;
    let config = admin.inspect().config();
    let identity_providers = config.providers.iter().map(|settings| connection_view(&admin, &org, settings)).collect();
    Ok(axum::Json(IdentityProviderList { identity_providers }).into_response())
}

const PROVIDERS_ARE_OF_THE_FILE: &str = "connections are declared in the configuration file alone, since anyone who could add an \
     issuer could be anyone; change `[[provider]]` there";

/// Connections are made in the configuration file: 403
#[utoipa::path(post, path = "/orgs/{org_id}/identity-providers", tag = "orgs", params(("org_id" = String, Path)),
    responses(Errors))]
async fn create_connection(Head(_): Head, Path(_): Path<String>) -> Error {
    Error::new(StatusCode::FORBIDDEN, "FORBIDDEN", PROVIDERS_ARE_OF_THE_FILE)
}

/// One connection
#[utoipa::path(get, path = "/orgs/{org_id}/identity-providers/{provider_id}",
    operation_id = "show_connection", tag = "orgs", params(
    ("org_id" = String, Path), ("provider_id" = String, Path)
), responses((status = 200, description = "The connection", body = IdentityProviderView), Errors))]
async fn connection(
    State(admin): State<Admin>,
    Head(call): Head,
    Path((org, id)): Path<(String, String)>,
) -> Result<Response, Error> {
    call.caller.may(Scope::Read)?;
    let view = with_provider(&admin, &id, |settings| connection_view(&admin, &org, settings))?;
    Ok(axum::Json(view).into_response())
}

/// Connections are changed in the configuration file: 403
#[utoipa::path(patch, path = "/orgs/{org_id}/identity-providers/{provider_id}", tag = "orgs", params(
    ("org_id" = String, Path), ("provider_id" = String, Path)
), responses(Errors))]
async fn change_connection(State(admin): State<Admin>, Head(_): Head, Path((_, id)): Path<(String, String)>) -> Error {
    let refused = || Error::new(StatusCode::FORBIDDEN, "FORBIDDEN", PROVIDERS_ARE_OF_THE_FILE);
    with_provider(&admin, &id, |_| ()).map_or_else(|missing| missing, |()| refused())
}

/// Connections are removed in the configuration file: 403
#[utoipa::path(delete, path = "/orgs/{org_id}/identity-providers/{provider_id}", tag = "orgs", params(
    ("org_id" = String, Path), ("provider_id" = String, Path)
), responses(Errors))]
async fn delete_connection(State(admin): State<Admin>, Head(_): Head, Path((_, id)): Path<(String, String)>) -> Error {
    let refused = || Error::new(StatusCode::FORBIDDEN, "FORBIDDEN", PROVIDERS_ARE_OF_THE_FILE);
    with_provider(&admin, &id, |_| ()).map_or_else(|missing| missing, |()| refused())
}

fn role_target(admin: &Admin, number: Number) -> Result<Target, Error> {
    let found = admin.service.role_by_number(number.0).and_then(|role| RoleName::parse(&role.name).ok());
    let wrong =
        || Error::new(StatusCode::UNPROCESSABLE_ENTITY, "BAD_REQUEST", format!("there is no role {}", number.0));
    found.map(Target::Role).ok_or_else(wrong)
}

/// Sets or clears the role of members whose groups match no mapping
#[utoipa::path(put, path = "/orgs/{org_id}/identity-providers/{provider_id}/default-role", tag = "orgs", params(
    ("org_id" = String, Path), ("provider_id" = String, Path)
), request_body = SetDefaultRoleReqBody,
    responses((status = 200, description = "The connection as it is now", body = IdentityProviderView), Errors))]
async fn set_default_role(
    State(admin): State<Admin>,
    Head(call): Head,
    Path((org, id)): Path<(String, String)>,
    body: Bytes,
) -> Result<Response, Error> {
    // The answer tells more than the request.
    call.caller.may(Scope::Read)?;
    let SetDefaultRoleReqBody { role_id } = json(&body, false)?;
    let claim = groups_claim_of(&admin, &id)?;
    let before = default_role(&admin, &id, &claim);
    let wanted = role_id.map(|number| role_target(&admin, number)).transpose()?;
    change_default(&admin, &call, &id, &claim, before, wanted).await?;
    let view = with_provider(&admin, &id, |settings| connection_view(&admin, &org, settings))?;
    Ok(axum::Json(view).into_response())
}

async fn change_default(
    admin: &Admin,
    call: &Call,
    provider: &str,
    claim: &str,
    before: Option<(Option<i64>, RoleView)>,
    wanted: Option<Target>,
) -> Result<(), Error> {
    let definition = wanted.as_ref().map(|target| Definition::of_default(provider, claim, target));
    match (before, definition) {
        (Some((None, role)), _) if wanted.as_ref().is_none_or(|target| target.name() != role.name) => {
            let why = "the default role of this connection is declared in the configuration file";
            Err(Error::new(StatusCode::FORBIDDEN, "FORBIDDEN", why))
        }
        (Some((None, _)), _) | (None, None) => {
            call.caller.may(Scope::WriteMappings)?;
            Ok(())
        }
        (Some((Some(number), _)), Some(definition)) => {
            let edit = move |_: &World, _: &_| Ok((definition, Place::Keep));
            admin.service.update_mapping(call, Reference::Number(number), edit).await?;
            Ok(())
        }
        (Some((Some(number), _)), None) => Ok(admin.service.delete_mapping(call, Reference::Number(number)).await?),
        (None, Some(definition)) => {
            let new = NewMapping { definition, place: Place::Last, guard: None };
            admin.service.create_mapping(call, new).await?;
            Ok(())
        }
    }
}

// ------------------------------------------------------------------------------------------------------------ mappings

/// A mapping of the store as Timbal sees it, if it is one of these.
fn mapping_view(admin: &Admin, provider: &str, claim: &str, view: &MappingView) -> Option<GroupRoleMappingView> {
    let short = view.definition.short().filter(|short| short.provider == provider && short.claim == claim)?;
    let (ShortTarget::Role(role), true) = (short.target, view.definition.enabled) else { return None };
    let seconds = |at: Option<Timestamp>| at.map_or(0, Timestamp::seconds);
    Some(GroupRoleMappingView {
        id: view.id.clone(),
        provider_id: provider.to_owned(),
        external_group: short.value.to_owned(),
        role_id: admin.service.role(role).ok()?.number.to_string(),
        created_at: seconds(view.created),
        updated_at: seconds(view.updated),
    })
}

/// Group mappings of a connection, those of the configuration file included
#[utoipa::path(get, path = "/orgs/{org_id}/identity-providers/{provider_id}/group-mappings",
    operation_id = "list_group_mappings", tag = "orgs", params(
    ("org_id" = String, Path), ("provider_id" = String, Path)
), responses((status = 200, description = "All group mappings of the connection", body = GroupRoleMappingList), Errors))]
async fn mappings(
    State(admin): State<Admin>,
    Head(call): Head,
    Path((_, id)): Path<(String, String)>,
) -> Result<Response, Error> {
    call.caller.may(Scope::Read)?;
    let claim = with_provider(&admin, &id, groups_claim)?.unwrap_or_default();
    let mut views = admin.service.file_mappings();
    views.extend(admin.service.stored_mappings());
    let group_role_mappings = views.iter().filter_map(|view| mapping_view(&admin, &id, &claim, view)).collect();
    Ok(axum::Json(GroupRoleMappingList { group_role_mappings }).into_response())
}

/// Maps an external group to a role for this connection
#[utoipa::path(post, path = "/orgs/{org_id}/identity-providers/{provider_id}/group-mappings",
    operation_id = "create_group_mapping", tag = "orgs", params(
    ("org_id" = String, Path), ("provider_id" = String, Path)
), request_body = CreateGroupRoleMappingReqBody,
    responses((status = 201, description = "Mapping created", body = GroupRoleMappingView), Errors))]
async fn create_mapping(
    State(admin): State<Admin>,
    Head(call): Head,
    Path((_, id)): Path<(String, String)>,
    body: Bytes,
) -> Result<Response, Error> {
    let CreateGroupRoleMappingReqBody { external_group, role_id } = json(&body, false)?;
    let claim = groups_claim_of(&admin, &id)?;
    let target = role_target(&admin, role_id)?;
    let definition = Definition::of_value(&id, &claim, &external_group, None, &target);
    let (provider, wanted) = (id.clone(), claim.clone());
    let guard = move |world: &World| match is_mapped(world, &provider, &wanted, &external_group) {
        true => Err(Refused::Conflict("group already mapped for this connection".into())),
        false => Ok(()),
    };
    let new = NewMapping { definition, place: Place::Last, guard: Some(Box::new(guard)) };
    let made = admin.service.create_mapping(&call, new).await?;
    let view = mapping_view(&admin, &id, &claim, &made).ok_or_else(|| Error::not_found("the mapping is gone again"))?;
    Ok((StatusCode::CREATED, axum::Json(view)).into_response())
}

/// Whether this value of a claim gives a role already, in the file or the store.
fn is_mapped(world: &World, provider: &str, wanted: &str, group: &str) -> bool {
    let in_file = |mapping: &Mapping| {
        let gives_role = mapping.then.named().any(|target| matches!(target, Target::Role(_)));
        let same =
            matches!(&mapping.when, When::Value { claim, value, .. } if claim.as_str() == wanted && **value == *group);
        gives_role && same && mapping.provider.as_ref().is_some_and(|name| name.as_str() == provider)
    };
    let in_store = |definition: &Definition| {
        definition.short().is_some_and(|short| {
            let same = short.provider == provider && short.claim == wanted && short.value == group;
            same && matches!(short.target, ShortTarget::Role(_))
        })
    };
    world.file.mappings().iter().any(in_file)
        || world.stored.mappings.values().any(|entry| in_store(&entry.body.definition))
}

/// Removes a group mapping; its grants end at once
#[utoipa::path(delete, path = "/orgs/{org_id}/identity-providers/{provider_id}/group-mappings/{mapping_id}",
    operation_id = "delete_group_mapping", tag = "orgs", params(
    ("org_id" = String, Path), ("provider_id" = String, Path), ("mapping_id" = String, Path)
), responses((status = 204, description = "Mapping removed"), Errors))]
async fn delete_mapping(
    State(admin): State<Admin>,
    Head(call): Head,
    Path((_, id, mapping)): Path<(String, String, String)>,
) -> Result<Response, Error> {
    let claim = with_provider(&admin, &id, groups_claim)?.unwrap_or_default();
    let missing = || Error::not_found("mapping not found");
    let reference = Reference::parse(&mapping).ok_or_else(missing)?;
    let view = admin.service.mapping(reference)?;
    mapping_view(&admin, &id, &claim, &view).ok_or_else(missing)?;
    admin.service.delete_mapping(&call, reference).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

// --------------------------------------------------------------------------------------------------------------- roles

fn timbal_role(role: RoleView, admin: &Admin) -> TimbalRole {
    let entry = admin.inspect().stored().roles.get(&role.number).cloned();
    let seconds = |at: fn(&crate::pipeline::mapping::stored::Entry<_>) -> Timestamp| {
        entry.as_deref().map_or(0, |entry| at(entry).seconds())
    };
    TimbalRole {
        id: role.number.to_string(),
        system: role.origin == "file",
        created_at: seconds(|entry| entry.created_at),
        updated_at: seconds(|entry| entry.updated_at),
        name: role.name,
        description: role.description,
    }
}

/// Roles
#[utoipa::path(get, path = "/orgs/{org_id}/iam/roles", operation_id = "list_roles", tag = "iam",
    params(("org_id" = String, Path)), responses(
    (status = 200, description = "All roles", body = RoleList), Errors
))]
async fn roles(State(admin): State<Admin>, Head(call): Head, Path(_): Path<String>) -> Result<Response, Error> {
    call.caller.may(Scope::Read)?;
    let roles = admin.service.roles().into_iter().map(|role| timbal_role(role, &admin)).collect();
    Ok(axum::Json(RoleList { roles }).into_response())
}

/// One role
#[utoipa::path(get, path = "/orgs/{org_id}/iam/roles/{role_id}", operation_id = "show_role", tag = "iam", params(
    ("org_id" = String, Path), ("role_id" = String, Path)
), responses((status = 200, description = "The role", body = TimbalRole), Errors))]
async fn role(
    State(admin): State<Admin>,
    Head(call): Head,
    Path((_, id)): Path<(String, String)>,
) -> Result<Response, Error> {
    call.caller.may(Scope::Read)?;
    let found = id.parse().ok().and_then(|number| admin.service.role_by_number(number));
    let found = found.ok_or_else(|| Error::not_found("role not found"))?;
    Ok(axum::Json(timbal_role(found, &admin)).into_response())
}
