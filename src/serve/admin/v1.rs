//! Our own API, `/api/v1`: everything that there is, in our own words.
//!
//! Errors are problem details (RFC 9457) that name every fault at once. What changes an object takes the version that the
//! caller has seen (`If-Match`, RFC 9110 section 13.1.1), so that of two writers none overwrites the other unseen. Fields
//! that are not known are refused.

mod bulk;
mod clients;
mod deliveries;
mod groups;
mod looks;
mod mappings;
mod operations;
mod people;
mod problem;
mod roles;
mod setup;

use axum::Router;
use axum::extract::FromRequestParts;
use axum::extract::Query;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{ETAG, HeaderValue, IF_MATCH};
use http::request::Parts;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{InfoBuilder, OpenApi, OpenApiBuilder};
use utoipa::{IntoParams, PartialSchema as _, ToSchema};
use utoipa_axum::router::OpenApiRouter;

use self::problem::Problem;
use super::auth::Denied;
use super::http::{Admin, Head, guarded};
use super::service::{Call, Refused};
use crate::config::{Face, Scope};

/// Entries of a page, unless asked otherwise.
const PAGE: usize = 100;
/// Entries of a page at most.
const MOST: usize = 1000;

/// The routes, and the document that describes them.
pub fn routes(admin: &Admin) -> (Router<Admin>, OpenApi) {
    let described = OpenApiRouter::with_openapi(document("loginsync", "Groups, roles, mappings and who holds what."))
        .merge(groups::routes())
        .merge(roles::routes())
        .merge(mappings::routes())
        .merge(bulk::routes())
        .merge(people::routes())
        .merge(operations::routes())
        .merge(deliveries::routes())
        .merge(clients::routes())
        .merge(setup::routes())
        .merge(looks::routes());
    let (routes, mut api) = described.split_for_parts();
    secure(&mut api);
    // The errors of an operation refer to it by name.
    let mut schemas = vec![(Problem::name().into_owned(), Problem::schema())];
    Problem::schemas(&mut schemas);
    api.components.get_or_insert_with(Default::default).schemas.extend(schemas);
    let nowhere = Router::new().route("/api/v1/{*path}", get(nowhere).fallback(nowhere));
    (guarded(routes.merge(nowhere), admin, Face::V1, denied), api)
}

async fn nowhere() -> Problem {
    Problem::of(&Refused::NotFound("there is nothing at this address".into()))
}

/// The frame of a face's document.
pub fn document(title: &str, description: &str) -> OpenApi {
    let info = InfoBuilder::new().title(title).description(Some(description)).version(env!("CARGO_PKG_VERSION"));
    OpenApiBuilder::new().info(info.build()).build()
}

/// Every operation takes a bearer token.
pub fn secure(api: &mut OpenApi) {
    let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
    let components = api.components.get_or_insert_with(Default::default);
    components.add_security_scheme("bearer", SecurityScheme::Http(scheme));
    api.security = Some(vec![utoipa::openapi::security::SecurityRequirement::new("bearer", Vec::<String>::new())]);
}

fn denied(why: &Denied) -> Response {
    Problem::denied(why).into_response()
}

// ---------------------------------------------------------------------------------------------------------- extractors

/// A reading call. Looking takes scope `read`.
struct Reading;

impl<S: Send + Sync> FromRequestParts<S> for Reading {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Head(call) = Head::from_request_parts(parts, state).await.map_err(|_| Problem::denied(&Denied::Unknown))?;
        call.caller.may(Scope::Read)?;
        Ok(Self)
    }
}

/// A call that adds something, or acts on it.
struct Adding(Call);

impl<S: Send + Sync> FromRequestParts<S> for Adding {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        Asked::<Confirming>::from_request_parts(parts, state).await?;
        let Calling(call) = Calling::from_request_parts(parts, state).await?;
        Ok(Self(call))
    }
}

/// A call whose query has more than a confirmation; the operation reads it.
struct Calling(Call);

impl<S: Send + Sync> FromRequestParts<S> for Calling {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let head = Head::from_request_parts(parts, state).await;
        head.map(|Head(call)| Self(call)).map_err(|_| Problem::denied(&Denied::Unknown))
    }
}

/// A call that changes what is there: it says which version it has seen, or `*`.
struct Changing(Call);

impl<S: Send + Sync> FromRequestParts<S> for Changing {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Adding(call) = Adding::from_request_parts(parts, state).await?;
        if !parts.headers.contains_key(IF_MATCH) {
            return Err(Problem::without_version());
        }
        // Several fields are one list (RFC 9110 section 5.3).
        let fields = parts.headers.get_all(IF_MATCH).iter();
        let tags: Vec<&str> =
            fields.flat_map(|field| field.to_str().unwrap_or_default().split(',')).map(str::trim).collect();
        if tags == ["*"] {
            return Ok(Self(call));
        }
        if !tags.iter().any(|tag| tag.ends_with('"')) {
            return Err(Problem::no_tag());
        }
        // A tag that is not ours, or weak, is none that we gave: it matches nothing.
        let version = |tag: &&str| tag.strip_prefix('"')?.strip_suffix('"')?.parse().ok();
        Ok(Self(Call { expected: Some(tags.iter().filter_map(version).collect()), ..call }))
    }
}

/// What stands behind the `?`.
struct Asked<T>(T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        match Query::<T>::try_from_uri(&parts.uri) {
            Ok(Query(asked)) => Ok(Self(asked)),
            Err(why) => {
                let text = why.body_text();
                let own = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text);
                Err(Problem::query(&own.replace("invalid digit found in string", "expected a whole number")))
            }
        }
    }
}

/// A part of the path.
struct At<T>(T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for At<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match axum::extract::Path::<T>::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(found)) => Ok(Self(found)),
            Err(_) => Err(Problem::of(&Refused::NotFound("there is nothing at this address".into()))),
        }
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Confirming {
    /// Apply the change even if it revokes more than the brake's limit.
    #[allow(dead_code, reason = "read by the maker of a `Call`; here it is checked")]
    confirm: Option<bool>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Paging {
    /// The `next` of the previous page.
    cursor: Option<String>,
    /// Maximum number of entries.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
}

fn limit(asked: Option<usize>) -> Result<usize, Problem> {
    match asked {
        None => Ok(PAGE),
        Some(limit @ 1..=MOST) => Ok(limit),
        Some(limit) => Err(Problem::query(&format!("limit: found {limit}; expected 1 to {MOST}"))),
    }
}

impl Paging {
    fn limit(&self) -> Result<usize, Problem> {
        limit(self.limit)
    }

    /// What the cursor says, if there is one.
    fn after(&self) -> Result<Option<String>, Problem> {
        // A form that was left empty names none.
        let Some(cursor) = self.cursor.as_ref().filter(|cursor| !cursor.is_empty()) else { return Ok(None) };
        let bytes = URL_SAFE_NO_PAD.decode(cursor).ok();
        match bytes.and_then(|bytes| String::from_utf8(bytes).ok()) {
            Some(text) => Ok(Some(text)),
            None => Err(Problem::query("cursor: expected the `next` of the page before")),
        }
    }
}

fn cursor(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

/// One page of a list.
#[derive(Debug, Serialize, ToSchema)]
struct Page<T> {
    items: Vec<T>,
    /// Cursor of the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Takes the page behind `after` from entries that are in the order of their keys.
fn page_of<T>(entries: Vec<T>, paging: &Paging, key: impl Fn(&T) -> &str) -> Result<Page<T>, Problem> {
    let (limit, after) = (paging.limit()?, paging.after()?);
    let mut items: Vec<T> =
        entries.into_iter().filter(|entry| after.as_deref().is_none_or(|after| key(entry) > after)).collect();
    let more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| more).map(|entry| cursor(key(entry)));
    Ok(Page { items, next })
}

/// The outcome of a change, for a client that may see more of it than it has sent.
fn changed(call: &Call, version: i64, view: impl Serialize) -> Response {
    match call.caller.may(Scope::Read) {
        Ok(()) => tagged(version, axum::Json(view)),
        Err(_) => tagged(version, http::StatusCode::NO_CONTENT),
    }
}

/// An answer with the version of what it shows.
fn tagged(version: i64, answer: impl IntoResponse) -> Response {
    let mut response = answer.into_response();
    if let Ok(tag) = HeaderValue::try_from(format!("\"{version}\"")) {
        response.headers_mut().insert(ETAG, tag);
    }
    response
}
