//! OneLogin's tokens: client credentials in the three shapes that its clients send, refresh, revocation, rate limit.
//!
//! A call gets a new token each time, where OneLogin answers the one that it gave before: only a hash of it is kept here.

use std::net::IpAddr;
use std::time::Duration;

use axum::Json;
use axum::body::{Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoResponses, PartialSchema as _, ToSchema};

use super::Errors;
use crate::config::Face;
use crate::ports::sessions::Digest;
use crate::serve::admin::auth::{Denied, Issued, basic, issue};
use crate::serve::admin::http::{Admin, Head, MOST_BODY, peer, with_limit};
use crate::serve::admin::service::Caller;

/// How long a token holds.
const LIFETIME: Duration = Duration::from_secs(36_000);
/// One organisation has one account.
const ACCOUNT: i64 = 1;

/// Client credentials, which may stand in `Authorization` instead, or the two tokens of a refresh.
#[derive(Debug, Deserialize, ToSchema)]
#[allow(dead_code, reason = "for the document alone: fields are read as a form or as JSON")]
pub struct TokenRequest {
    /// `client_credentials` or `refresh_token`.
    grant_type: String,
    client_id: Option<String>,
    client_secret: Option<String>,
    access_token: Option<String>,
    refresh_token: Option<String>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[allow(dead_code, reason = "for the document alone: fields are read as a form or as JSON")]
pub struct RevokeRequest {
    access_token: String,
    client_id: Option<String>,
    client_secret: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct TokenObject {
    access_token: String,
    /// RFC 3339.
    created_at: String,
    /// Seconds.
    expires_in: u64,
    refresh_token: Option<String>,
    token_type: &'static str,
    account_id: i64,
}

/// A token as version 1 wraps it.
#[derive(Debug, Serialize, ToSchema)]
pub struct TokenList {
    status: Status,
    data: Vec<TokenObject>,
}

/// The status of a call that is not a matter of a mapping.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Status {
    error: bool,
    code: u16,
    #[serde(rename = "type")]
    kind: String,
    message: String,
}

/// Older clients read `status`, newer ones the top.
#[derive(Debug, Serialize, ToSchema)]
pub struct Revoked {
    #[serde(flatten)]
    top: Status,
    status: Status,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Refusal {
    status: Status,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct RateLimit {
    status: Status,
    data: RateLimitData,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct RateLimitData {
    #[serde(rename = "X-RateLimit-Limit")]
    limit: u32,
    #[serde(rename = "X-RateLimit-Remaining")]
    remaining: u32,
    #[serde(rename = "X-RateLimit-Reset")]
    reset: u32,
}

#[derive(IntoResponses)]
#[allow(dead_code, reason = "for the document alone")]
enum Refusals {
    /// Neither a form nor JSON, or what the call takes is not there.
    #[response(status = 400)]
    BadRequest(Refusal),
    /// The credentials are missing or wrong.
    #[response(status = 401)]
    Unauthorized(Refusal),
    /// The client may not use this face.
    #[response(status = 403)]
    Forbidden(Refusal),
    /// Too many requests; wait as long as `Retry-After` says.
    #[response(status = 429)]
    TooMany(Refusal),
    /// The store cannot be read or written now.
    #[response(status = 503)]
    Unavailable(Refusal),
}

impl Status {
    fn new(error: bool, code: StatusCode, kind: &str, message: &str) -> Self {
        Self { error, code: code.as_u16(), kind: kind.into(), message: message.into() }
    }

    fn success() -> Self {
        Self::new(false, StatusCode::OK, "success", "Success")
    }
}

/// The schemas that responses refer to by name.
pub fn schemas() -> Vec<(String, utoipa::openapi::RefOr<utoipa::openapi::Schema>)> {
    let mut schemas = vec![(Refusal::name().into_owned(), Refusal::schema())];
    Refusal::schemas(&mut schemas);
    schemas
}

/// Returns an access token; the body may be a form, too
#[utoipa::path(post, path = "/auth/oauth2/v2/token", operation_id = "generateToken", security(()),
    request_body = TokenRequest, responses((status = 200, description = "The access token", body = TokenObject), Refusals))]
pub async fn version_2(State(admin): State<Admin>, request: Request) -> Response {
    match generate(&admin, request).await {
        Ok(issued) => uncached(Json(token(issued)).into_response()),
        Err(problem) => problem,
    }
}

/// Returns an access token, wrapped as version 1 had it
#[utoipa::path(post, path = "/auth/oauth2/token", operation_id = "generateTokenVersion1", security(()),
    request_body = TokenRequest, responses((status = 200, description = "The access token", body = TokenList), Refusals))]
pub async fn version_1(State(admin): State<Admin>, request: Request) -> Response {
    match generate(&admin, request).await {
        Ok(issued) => {
            let list = TokenList { status: Status::success(), data: vec![token(issued)] };
            uncached(Json(list).into_response())
        }
        Err(problem) => problem,
    }
}

fn token(issued: Issued) -> TokenObject {
    TokenObject {
        access_token: issued.token,
        created_at: issued.created_at.to_string(),
        expires_in: LIFETIME.as_secs(),
        refresh_token: issued.refresh,
        token_type: "bearer",
        account_id: ACCOUNT,
    }
}

async fn generate(admin: &Admin, request: Request) -> Result<Issued, Response> {
    let (address, headers, fields) = read(request).await?;
    let field = |name: &str| fields.get(name).and_then(Value::as_str);
    let inspect = admin.inspect();
    let (caller, replaces) = match field("grant_type") {
        Some("client_credentials") => (by_credentials(admin, &headers, &fields, address).await?, None),
        Some("refresh_token") => {
            let (Some(access), Some(refresh)) = (field("access_token"), field("refresh_token")) else {
                return Err(bad_request("`access_token` and `refresh_token` are required"));
            };
            let caller = admin.door.admit_refresh(inspect, Face::Onelogin, (access, refresh), address).await;
            (caller.map_err(|why| denied(&why))?, Some(refresh))
        }
        _ => return Err(bad_request("`grant_type` must be client_credentials or refresh_token")),
    };
    let issued = issue(inspect, &caller, LIFETIME, true, replaces).await;
    let issued = issued.map_err(|error| denied(&Denied::Store(error)))?;
    issued.ok_or_else(|| denied(&Denied::Unknown))
}

async fn by_credentials(
    admin: &Admin,
    headers: &HeaderMap,
    fields: &Value,
    address: IpAddr,
) -> Result<Caller, Response> {
    let field = |name: &str| fields.get(name).and_then(Value::as_str).map(str::to_owned);
    let found =
        basic(headers).or_else(|| in_words(headers)).or_else(|| Some((field("client_id")?, field("client_secret")?)));
    let Some((id, secret)) = found else { return Err(denied(&Denied::Unknown)) };
    let admitted = admin.door.admit_client(admin.inspect(), Face::Onelogin, (&id, &secret), address).await;
    admitted.map_err(|why| denied(&why))
}

/// `Authorization: client_id:ID, client_secret:SECRET`.
fn in_words(headers: &HeaderMap) -> Option<(String, String)> {
    let (id, secret) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(',')?;
    let (id, secret) = (id.trim().strip_prefix("client_id:")?, secret.trim().strip_prefix("client_secret:")?);
    Some((id.trim().to_owned(), secret.trim().to_owned()))
}

/// Ends a token of the client that asks, by its credentials or by the token itself; the body may be a form, too
#[utoipa::path(post, path = "/auth/oauth2/revoke", operation_id = "revokeToken", security(()),
    request_body = RevokeRequest, responses((status = 200, description = "The token is revoked", body = Revoked), Refusals))]
pub async fn revoke(State(admin): State<Admin>, request: Request) -> Response {
    match end(&admin, request).await {
        Ok(()) => uncached(Json(Revoked { top: Status::success(), status: Status::success() }).into_response()),
        Err(problem) => problem,
    }
}

/// The same at another address, as one client has it
#[utoipa::path(post, path = "/auth/oauth2/v2/revoke", operation_id = "revokeTokenVersion2", security(()),
    request_body = RevokeRequest, responses((status = 200, description = "The token is revoked", body = Revoked), Refusals))]
pub async fn revoke_version_2(state: State<Admin>, request: Request) -> Response {
    revoke(state, request).await
}

async fn end(admin: &Admin, request: Request) -> Result<(), Response> {
    let (address, headers, fields) = read(request).await?;
    let inspect = admin.inspect();
    let caller = match admin.door.admit(inspect, Face::Onelogin, &headers, address).await {
        Ok((caller, _)) => caller,
        Err(Denied::Unknown) => by_credentials(admin, &headers, &fields, address).await?,
        Err(why) => return Err(denied(&why)),
    };
    let Some(token) = fields.get("access_token").and_then(Value::as_str) else {
        return Err(bad_request("`access_token` is required"));
    };
    let ended = inspect.catalogue().end_token(Digest::of(token.as_bytes()), caller.secret).await;
    match ended.map_err(|error| denied(&Denied::Store(error)))? {
        true => Ok(()),
        false => Err(bad_request("Authentication Failure")),
    }
}

/// What is left of the client's limit
#[utoipa::path(get, path = "/auth/rate_limit", operation_id = "getRateLimit",
    responses((status = 200, description = "What is left of the limit", body = RateLimit), Errors))]
pub async fn rate_limit(State(admin): State<Admin>, Head(call): Head) -> Json<RateLimit> {
    let left = admin.door.left(admin.inspect(), &call.caller);
    let data = RateLimitData { limit: left.limit, remaining: left.calls, reset: left.seconds };
    Json(RateLimit { status: Status::success(), data })
}

/// Where a call comes from, its headers, and the fields of its body: form or JSON.
async fn read(request: Request) -> Result<(IpAddr, HeaderMap, Value), Response> {
    let (parts, body) = request.into_parts();
    let body: Bytes = to_bytes(body, MOST_BODY).await.map_err(|_| bad_request("the body cannot be read"))?;
    let kind = parts.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let fields = match kind.starts_with("application/x-www-form-urlencoded") {
        true => form_urlencoded::parse(&body)
            .map(|(name, value)| (name.into_owned(), Value::String(value.into_owned())))
            .collect(),
        false => serde_json::from_slice(&body).map_err(|_| bad_request("the body is neither a form nor JSON"))?,
    };
    Ok((peer(&parts).ip(), parts.headers, fields))
}

fn bad_request(message: &str) -> Response {
    refused(StatusCode::BAD_REQUEST, "bad request", message)
}

fn denied(why: &Denied) -> Response {
    let (status, text) = why.told();
    match why {
        Denied::Unknown => refused(status, "Unauthorized", "Authentication Failure"),
        Denied::TooMany(left) => with_limit(refused(status, "Too Many Requests", text), *left),
        Denied::TooLarge | Denied::Nowhere | Denied::Method => bad_request("the request cannot be read"),
        Denied::Face(_) | Denied::Store(_) => refused(status, status.canonical_reason().unwrap_or_default(), text),
    }
}

fn refused(code: StatusCode, kind: &str, message: &str) -> Response {
    uncached((code, Json(Refusal { status: Status::new(true, code, kind, message) })).into_response())
}

fn uncached(mut response: Response) -> Response {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
