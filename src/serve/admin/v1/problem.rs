//! Errors as problem details (RFC 9457).

use std::collections::BTreeMap;

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use serde::Serialize;
use utoipa::openapi::{ContentBuilder, Ref, RefOr, ResponseBuilder};
use utoipa::{IntoResponses, ToSchema};

use super::super::auth::Denied;
use super::super::service::{BUDGET, Refused, Unlooked};
use crate::pipeline::mapping::definition::Fault;
use crate::ports::store::StoreError;

/// Why a call failed.
#[derive(Debug, Serialize, ToSchema)]
pub struct Problem {
    /// What kind of problem it is, such as `urn:loginsync:problem:stale`.
    #[serde(rename = "type")]
    pub kind: String,
    pub title: &'static str,
    pub status: u16,
    pub detail: String,
    /// All faults of the request, each with its field.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Fault>,
}

/// Kind and title of what may be tried again.
const UNAVAILABLE: (&str, &str) = ("unavailable", "The store is not available");

impl Problem {
    fn new(status: StatusCode, kind: &str, title: &'static str, detail: impl Into<String>) -> Self {
        let kind = format!("urn:loginsync:problem:{kind}");
        Self { kind, title, status: status.as_u16(), detail: detail.into(), errors: Vec::new() }
    }

    pub fn of(refused: &Refused) -> Self {
        let text = refused.text();
        match refused {
            Refused::Invalid(faults) => {
                let count = faults.len();
                let detail = format!("{count} {}", if count == 1 { "fault found" } else { "faults found" });
                let problem = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", "The request has faults", detail);
                Self { errors: faults.clone(), ..problem }
            }
            Refused::NotFound(_) => Self::new(StatusCode::NOT_FOUND, "not-found", "Not found", text),
            Refused::Conflict(_) => Self::new(StatusCode::CONFLICT, "conflict", "In conflict with what is there", text),
            Refused::ReadOnly(_) => {
                Self::new(StatusCode::CONFLICT, "read-only", "Declared in the configuration file", text)
            }
            Refused::Forbidden(_) => Self::new(StatusCode::FORBIDDEN, "forbidden", "Not allowed", text),
            Refused::Stale => Self::new(StatusCode::PRECONDITION_FAILED, "stale", "Changed meanwhile", text),
            Refused::Braked(_) => Self::new(StatusCode::CONFLICT, "braked", "Would revoke too much at once", text),
            Refused::Store(StoreError::Invalid(_)) => {
                Self::new(StatusCode::CONFLICT, "conflict", "In conflict with what is there", text)
            }
            Refused::Store(error) => Self::unavailable(error),
        }
    }

    pub fn denied(why: &Denied) -> Self {
        let (status, detail) = why.told();
        let (kind, title) = match why {
            Denied::Unknown => ("unauthorized", "Authentication required"),
            Denied::Face(_) => ("forbidden", "Not allowed"),
            Denied::TooMany(_) => ("too-many", "Too many calls"),
            Denied::TooLarge => ("too-large", "The body is too long"),
            Denied::Nowhere => ("not-found", "Not found"),
            Denied::Method => ("method", "Method not allowed"),
            Denied::Store(_) => UNAVAILABLE,
        };
        Self::new(status, kind, title, detail)
    }

    /// The store failed, or what stands in its place.
    pub fn unavailable(error: &StoreError) -> Self {
        Self::denied(&Denied::Store(error.clone()))
    }

    pub fn without_version() -> Self {
        Self::new(
            StatusCode::PRECONDITION_REQUIRED,
            "version-required",
            "`If-Match` is missing",
            "expected `If-Match` with the `ETag` of the object, or `*` for any",
        )
    }

    /// A look that was not made.
    pub fn unlooked(why: &Unlooked) -> Self {
        match why {
            Unlooked::Refused(refused) => Self::of(refused),
            Unlooked::Busy => {
                let detail = "the maximum number of such calls is running; try again in a moment";
                Self::new(StatusCode::TOO_MANY_REQUESTS, "busy", "Too many calls", detail)
            }
            Unlooked::TooLong => {
                let detail = format!("it took longer than {} seconds; the command has no such limit", BUDGET.as_secs());
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "too-long", "Took too long", detail)
            }
        }
    }

    pub fn no_tag() -> Self {
        let why = "expected the `ETag` of the object with its quotation marks, such as `\"2\"`, or `*` for any";
        Self::new(StatusCode::BAD_REQUEST, "if-match", "`If-Match` cannot be read", why)
    }

    pub fn query(why: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "query", "The query cannot be read", why)
    }

    pub fn no_body(why: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "body", "The body is required", why)
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        Self::of(&refused)
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        Self::of(&error.into())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, axum::Json(self)).into_response();
        let fields = response.headers_mut();
        fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::UNAUTHORIZED {
            fields.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// The problems that any operation may answer with.
pub struct Problems;

impl IntoResponses for Problems {
    fn responses() -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
        let all = [
            ("400", "The query cannot be read"),
            ("401", "Authentication required"),
            ("403", "The caller may not do this"),
            ("404", "Not found"),
            ("409", "In conflict with what is there, declared in the configuration file, or over the brake's limit"),
            ("412", "Changed by another client meanwhile"),
            ("413", "The body is too long"),
            ("422", "The request has faults; `errors` lists all of them"),
            ("428", "`If-Match` is missing"),
            ("429", "Too many calls"),
            ("503", "The store is not available, or took too long"),
        ];
        let content = || ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
        let response = |text: &str| {
            ResponseBuilder::new().description(text).content("application/problem+json", content()).build()
        };
        all.into_iter().map(|(status, text)| (status.to_owned(), RefOr::T(response(text)))).collect()
    }
}
