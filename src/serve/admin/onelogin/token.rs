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
use serde_json::{Value, json};

use super::{Problem, status};
use crate::config::Face;
use crate::ports::sessions::Digest;
use crate::serve::admin::auth::{Denied, Issued, basic, issue};
use crate::serve::admin::http::{Admin, Head, MOST_BODY, peer, with_limit};
use crate::serve::admin::service::Caller;

/// How long a token holds.
const LIFETIME: Duration = Duration::from_secs(36_000);
/// One organisation has one account.
const ACCOUNT: i64 = 1;

pub async fn version_2(State(admin): State<Admin>, request: Request) -> Response {
    match generate(&admin, request).await {
        Ok(issued) => uncached(Json(token(&issued)).into_response()),
        Err(problem) => problem,
    }
}

pub async fn version_1(State(admin): State<Admin>, request: Request) -> Response {
    match generate(&admin, request).await {
        Ok(issued) => {
            let success = status(false, 200, "success", "Success");
            uncached(Json(json!({ "status": success, "data": [token(&issued)] })).into_response())
        }
        Err(problem) => problem,
    }
}

fn token(issued: &Issued) -> Value {
    json!({
        "access_token": issued.token,
        "created_at": issued.created_at.to_string(),
        "expires_in": LIFETIME.as_secs(),
        "refresh_token": issued.refresh,
        "token_type": "bearer",
        "account_id": ACCOUNT,
    })
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

/// Ends a token of the client that asks: by its credentials, or by the token itself.
pub async fn revoke(State(admin): State<Admin>, request: Request) -> Response {
    match end(&admin, request).await {
        Ok(()) => {
            // Older clients read `status`, newer ones the top.
            let mut body = status(false, 200, "success", "Success");
            if let Some(object) = body.as_object_mut() {
                object.insert("status".into(), status(false, 200, "success", "Success"));
            }
            uncached(Json(body).into_response())
        }
        Err(problem) => problem,
    }
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

pub async fn rate_limit(State(admin): State<Admin>, Head(call): Head) -> Result<Json<Value>, Problem> {
    let left = admin.door.left(admin.inspect(), &call.caller);
    Ok(Json(json!({
        "status": status(false, 200, "success", "Success"),
        "data": {
            "X-RateLimit-Limit": left.limit,
            "X-RateLimit-Remaining": left.calls,
            "X-RateLimit-Reset": left.seconds,
        },
    })))
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
    match why {
        Denied::Unknown => refused(StatusCode::UNAUTHORIZED, "Unauthorized", "Authentication Failure"),
        Denied::Face(_) => refused(StatusCode::FORBIDDEN, "Forbidden", "This client may not use this API"),
        Denied::TooMany(left) => {
            with_limit(refused(StatusCode::TOO_MANY_REQUESTS, "Too Many Requests", "Too many requests"), *left)
        }
        Denied::TooLarge | Denied::Nowhere => bad_request("the request cannot be read"),
        Denied::Store(error) => {
            tracing::error!(%error, "a token call of the OneLogin face failed at the store");
            refused(StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable", "The store is not available")
        }
    }
}

fn refused(code: StatusCode, kind: &str, message: &str) -> Response {
    uncached((code, Json(json!({ "status": status(true, code.as_u16(), kind, message) }))).into_response())
}

fn uncached(mut response: Response) -> Response {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
