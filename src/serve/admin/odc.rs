//! End-user groups of OutSystems Developer Cloud, and their claim mappings: the part of its User and Access Management API
//! that concerns who is in which group, and why.
//!
//! ```text
//! end-user group       a group; its stage is the `environmentKey`, by name
//! claim mapping        the short form: provider, claim, exact value, delimiter; `Active` or `Inactive` by stage
//! membership types     `Assigned` by hand, `Mapped` by a claim; a login touches mapped membership alone
//! ```
//!
//! The original lists and deletes claim mappings and leaves making and editing to its portal; here both are calls, in its
//! style.

mod bulk;
mod claim_mappings;
mod claims;
mod groups;
mod names;
mod people;
mod providers;
mod token;
mod users;

use std::sync::Arc;

use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use axum::{Extension, Json, Router};
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderValue};
use serde::Serialize;
use utoipa::openapi::OpenApi;
use utoipa::{IntoResponses, PartialSchema as _, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::Denied;
use super::http::{Admin, guarded};
use super::service::{Refused, random_key};
use super::v1::{document, secure};
use crate::config::Face;
use crate::pipeline::ids::Timestamp;
use crate::pipeline::mapping::definition::Fault;

/// The paths of this face, and the document that describes them.
pub fn routes(admin: &Admin) -> (Router<Admin>, OpenApi) {
    let title = "ODC's end-user groups and claim mappings, as loginsync answers them";
    let described = OpenApiRouter::with_openapi(document(title, "Making and editing claim mappings is an extension."))
        .routes(routes!(groups::list, groups::create))
        .routes(routes!(groups::show, groups::update, groups::delete))
        .routes(routes!(groups::roles, groups::update_roles))
        .routes(routes!(people::members, people::update_members))
        .routes(routes!(claim_mappings::create))
        .routes(routes!(claim_mappings::update, claim_mappings::delete))
        .routes(routes!(providers::list))
        .routes(routes!(providers::show))
        .routes(routes!(people::application_roles))
        .routes(routes!(people::role_holders))
        .routes(routes!(users::list, users::create))
        .routes(routes!(users::count))
        .routes(routes!(bulk::create))
        .routes(routes!(bulk::show))
        .routes(routes!(users::show, users::update, users::delete))
        .routes(routes!(people::groups))
        .routes(routes!(people::roles))
        .routes(routes!(people::grant_role, people::revoke_role));
    let (routes, mut api) = described.split_for_parts();
    secure(&mut api);
    let schemas = [(Details::name().into_owned(), Details::schema())];
    api.components.get_or_insert_with(Default::default).schemas.extend(schemas);
    let (tokens, described) =
        OpenApiRouter::new().routes(routes!(token::discovery)).routes(routes!(token::generate)).split_for_parts();
    api.merge(described);
    let routes = routes
        .route("/api/identity/v1/{*path}", any(|| async { Problem::not_found("resource") }))
        .layer(Extension(Arc::<bulk::Operations>::default()));
    (guarded(routes, admin, Face::Odc, denied).merge(tokens), api)
}

/// An error, as problem details (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
struct Details {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    detail: String,
    #[serde(rename = "traceId")]
    trace: String,
    /// Such as `OS-ID-BIZ-40001`.
    #[serde(rename = "errorCode")]
    code: String,
}

#[derive(IntoResponses)]
#[allow(dead_code, reason = "for the document alone")]
enum Errors {
    /// Something is wrong with what was sent.
    #[response(status = 400, content_type = "application/problem+json")]
    BadRequest(Details),
    /// The access token is missing or not valid.
    #[response(status = 401, content_type = "application/problem+json")]
    Unauthorized(Details),
    /// The client lacks a scope, or may not use this face.
    #[response(status = 403, content_type = "application/problem+json")]
    Forbidden(Details),
    /// There is no such resource.
    #[response(status = 404, content_type = "application/problem+json")]
    NotFound(Details),
    /// It cannot be so with what there is: a name is taken, the configuration file declares it, a membership is mapped.
    #[response(status = 409, content_type = "application/problem+json")]
    Conflict(Details),
    /// The request body is too long.
    #[response(status = 413, content_type = "application/problem+json")]
    TooLarge(Details),
    /// Too many requests; wait as long as `Retry-After` says.
    #[response(status = 429, content_type = "application/problem+json")]
    TooMany(Details),
    /// The store cannot be read or written now.
    #[response(status = 503, content_type = "application/problem+json")]
    Unavailable(Details),
}

/// Why a call is not answered as asked.
#[derive(Debug)]
struct Problem {
    status: StatusCode,
    detail: String,
}

impl Problem {
    fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into() }
    }

    /// OS-ID-BIZ-40001, in the words of the original.
    fn input(issue: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, format!("Request input has the following issue: {issue}"))
    }

    fn code(&self) -> String {
        format!("OS-ID-BIZ-{}01", self.status.as_u16())
    }

    fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("There is no such {what}."))
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        let (status, text) = refused.told();
        match refused {
            Refused::Invalid(faults) => {
                let issues: Vec<String> = faults.iter().map(issue).collect();
                Self::input(&issues.join(" "))
            }
            _ => Self::new(status, text),
        }
    }
}

/// A fault as a sentence. What this face has words for comes as one already.
fn issue(fault: &Fault) -> String {
    match (fault.field.as_str(), &fault.value) {
        ("", _) => fault.message.clone(),
        (field, Some(value)) => format!("{field}: `{value}` {}.", fault.message),
        (field, None) => format!("{field}: {}.", fault.message),
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let code = self.code();
        let Self { status, detail } = self;
        let title = match status {
            StatusCode::BAD_REQUEST => "Input validation error",
            StatusCode::UNAUTHORIZED => "Unauthorized",
            StatusCode::FORBIDDEN => "Forbidden",
            StatusCode::NOT_FOUND => "Not found",
            StatusCode::CONFLICT => "Conflict",
            StatusCode::METHOD_NOT_ALLOWED => "Method not allowed",
            StatusCode::PAYLOAD_TOO_LARGE => "Payload too large",
            StatusCode::TOO_MANY_REQUESTS => "Too many requests",
            _ => "Service unavailable",
        };
        let details = Details {
            kind: "about:blank",
            title,
            status: status.as_u16(),
            detail,
            trace: random_key().unwrap_or_default(),
            code,
        };
        let mut response = (status, Json(details)).into_response();
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        response
    }
}

fn denied(why: &Denied) -> Response {
    let (status, text) = why.told();
    match why {
        Denied::Nowhere => Problem::not_found("resource"),
        _ => Problem::new(status, text),
    }
    .into_response()
}

/// Entries of a page, which are as many at most.
const PAGE: usize = 100;

/// What stands behind the `?`: parameters in the order in which they came; unknown ones are ignored.
struct Parameters(Vec<(String, String)>);

impl Parameters {
    fn of(request: &Request) -> Self {
        Self::parse(request.uri().query().unwrap_or_default())
    }

    fn parse(query: &str) -> Self {
        let pairs = form_urlencoded::parse(query.as_bytes());
        Self(pairs.map(|(name, value)| (name.into_owned(), value.into_owned())).collect())
    }

    fn one(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, value)| key == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }

    /// Of a repeated parameter, or one that separates by commas.
    fn all(&self, names: [&str; 2]) -> Vec<&str> {
        let named = self.0.iter().filter(|(key, _)| names.contains(&key.as_str()));
        named.flat_map(|(_, value)| value.split(',')).filter(|value| !value.is_empty()).collect()
    }

    /// A word of a closed list, whatever its case.
    fn words<'w>(&self, name: &str, known: &[&'w str]) -> Result<Vec<&'w str>, Problem> {
        let word = |text: &str| {
            let found = known.iter().find(|word| word.eq_ignore_ascii_case(text)).copied();
            found.ok_or_else(|| Problem::input(&format!("The {name} field must be one of: {}.", known.join(", "))))
        };
        self.all([name, name]).into_iter().map(word).collect()
    }

    fn number(&self, name: &str, default: usize, range: std::ops::RangeInclusive<usize>) -> Result<usize, Problem> {
        let Some(text) = self.one(name) else { return Ok(default) };
        let parsed = text.parse().ok().filter(|number| range.contains(number));
        parsed.ok_or_else(|| {
            Problem::input(&format!("The {name} field must be between {} and {}.", range.start(), range.end()))
        })
    }

    fn moment(&self, name: &str) -> Result<Option<Timestamp>, Problem> {
        let Some(text) = self.one(name) else { return Ok(None) };
        let parsed = chrono::DateTime::parse_from_rfc3339(text).ok();
        let parsed = parsed.ok_or_else(|| {
            Problem::input(&format!("The {name} field must be a date and time such as 2027-01-31T00:00:00Z."))
        })?;
        Ok(Some(Timestamp(parsed.timestamp_millis())))
    }

    fn flag(&self, name: &str) -> Result<bool, Problem> {
        match self.one(name).map(str::to_ascii_lowercase).as_deref() {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(Problem::input(&format!("The {name} field must be true or false."))),
        }
    }

    /// What a list is sorted by, and whether from its end; the first of the words where nothing is said.
    fn sort<'w>(&self, known: &[&'w str]) -> Result<(&'w str, bool), Problem> {
        let asked = self.one("sort").unwrap_or_else(|| known.first().copied().unwrap_or_default());
        let (text, descending) = asked.strip_prefix('-').map_or((asked, false), |text| (text, true));
        let found = known.iter().find(|word| word.eq_ignore_ascii_case(text));
        let word =
            found.ok_or_else(|| Problem::input(&format!("The sort field must be one of: {}.", known.join(", "))));
        word.map(|word| (*word, descending))
    }

    /// Either a key or several, in the two spellings of one filter.
    fn either(&self, one: &str, several: &str) -> Result<Vec<&str>, Problem> {
        match self.one(one).is_some() && self.one(several).is_some() {
            true => Err(Problem::input(&format!("The {one} and {several} fields are mutually exclusive."))),
            false => Ok(self.all([one, several])),
        }
    }

    /// Refuses what would narrow a list by something that there is not here: an answer without it would be another one.
    fn refuse(&self, names: &[&str]) -> Result<(), Problem> {
        let asked: Vec<&str> = names.iter().copied().filter(|name| self.one(name).is_some()).collect();
        match asked.is_empty() {
            true => Ok(()),
            false => Err(Problem::input(&format!("Not supported here: {}.", asked.join(", ")))),
        }
    }

    /// How many entries the page has at most, and how many come before it.
    fn window(&self) -> Result<(usize, usize), Problem> {
        let limit = self.number("limit", PAGE, 1..=PAGE)?;
        Ok((limit, self.number("offset", 0, 0..=usize::from(u16::MAX) * PAGE)?))
    }

    fn page<T: Serialize>(&self, all: Vec<T>) -> Result<Json<Page<T>>, Problem> {
        let (limit, offset) = self.window()?;
        let total = all.len();
        let results = all.into_iter().skip(offset).take(limit).collect();
        Ok(Json(Page::of(results, total, (limit, offset))))
    }
}

/// One page of a list.
#[derive(Debug, Serialize, ToSchema)]
struct Page<T> {
    results: Vec<T>,
    page: PageInfo,
}

impl<T> Page<T> {
    fn of(results: Vec<T>, total: usize, (limit, offset): (usize, usize)) -> Self {
        let next = offset.saturating_add(limit);
        let page = PageInfo {
            count: results.len(),
            limit,
            offset,
            total_results: total,
            next_page_offset: (next < total).then_some(next),
            total_pages: total.div_ceil(limit),
        };
        Self { results, page }
    }
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct PageInfo {
    count: usize,
    limit: usize,
    offset: usize,
    total_results: usize,
    /// Null on the last.
    next_page_offset: Option<usize>,
    total_pages: usize,
}

/// The key of what was made.
#[derive(Debug, Serialize, ToSchema)]
struct Made {
    key: String,
}

fn contains(text: &str, part: &str) -> bool {
    text.to_lowercase().contains(&part.to_lowercase())
}
