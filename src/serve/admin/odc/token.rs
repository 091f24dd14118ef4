//! How ODC's scripts log in: the token endpoint is discovered, and takes client credentials (RFC 6749 section 4.4).

use std::time::Duration;

use axum::Json;
use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{CACHE_CONTROL, HOST, HeaderMap, HeaderValue};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::config::Face;
use crate::serve::admin::auth::{Denied, basic, issue};
use crate::serve::admin::http::{Admin, MOST_BODY, peer, with_limit};

/// How long a token holds.
const LIFETIME: Duration = Duration::from_secs(43_200);

const ENDPOINT: &str = "/identity/connect/token";

/// Client credentials; `Authorization` with HTTP Basic may carry them instead.
#[derive(Debug, Deserialize, ToSchema)]
#[allow(dead_code, reason = "for the document alone: fields are read from the form")]
pub struct TokenRequest {
    /// `client_credentials`.
    grant_type: String,
    client_id: Option<String>,
    client_secret: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct TokenObject {
    access_token: String,
    /// Seconds.
    expires_in: u64,
    token_type: &'static str,
}

/// RFC 6749 section 5.2.
#[derive(Debug, Serialize, ToSchema)]
pub struct TokenError {
    error: String,
}

/// OpenID Connect Discovery 1.0 section 3, as far as it concerns client credentials.
#[derive(Debug, Serialize, ToSchema)]
pub struct Discovery {
    issuer: String,
    token_endpoint: String,
    grant_types_supported: [&'static str; 1],
    token_endpoint_auth_methods_supported: [&'static str; 2],
    response_types_supported: [&'static str; 1],
    subject_types_supported: [&'static str; 1],
}

/// Returns the address of the token endpoint
/// The address starts with `admin.public_url`. Without it, only a caller on this machine gets an answer: loginsync cannot know
/// whether a proxy ends TLS in front of it, and a secret must not be sent over the wrong scheme.
#[utoipa::path(get, path = "/identity/.well-known/openid-configuration", operation_id = "discover", security(()),
    responses((status = 200, description = "The addresses of this API", body = Discovery),
        (status = 404, description = "The address of this listener is not known", body = TokenError)))]
pub async fn discovery(State(admin): State<Admin>, headers: HeaderMap) -> Response {
    let settings = &admin.inspect().config().admin;
    let origin = match &settings.public_url {
        Some(url) => url.origin().ascii_serialization(),
        None => match loopback_host(&headers).filter(|_| settings.address.ip().is_loopback()) {
            Some(host) => format!("http://{host}"),
            None => {
                let why = "the address of this listener is not known; set `admin.public_url`";
                return refused(StatusCode::NOT_FOUND, why);
            }
        },
    };
    let found = Discovery {
        issuer: format!("{origin}/identity"),
        token_endpoint: format!("{origin}{ENDPOINT}"),
        grant_types_supported: ["client_credentials"],
        token_endpoint_auth_methods_supported: ["client_secret_post", "client_secret_basic"],
        response_types_supported: ["none"],
        subject_types_supported: ["public"],
    };
    Json(found).into_response()
}

/// The host of a request that was sent to this machine itself: what stands before us would name the host by which it is asked.
fn loopback_host(headers: &HeaderMap) -> Option<String> {
    const FORWARDING: [&str; 4] = ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"];
    if FORWARDING.iter().any(|name| headers.contains_key(*name)) {
        return None;
    }
    let host = headers.get(HOST)?.to_str().ok()?;
    let url = url::Url::parse(&format!("http://{host}/")).ok()?;
    let is_loopback = match url.host()? {
        url::Host::Domain(name) => name == "localhost",
        url::Host::Ipv4(address) => address.is_loopback(),
        url::Host::Ipv6(address) => address.is_loopback(),
    };
    is_loopback.then(|| url.authority().to_owned())
}

/// Returns an access token
#[utoipa::path(post, path = "/identity/connect/token", operation_id = "generate_token", security(()),
    request_body(content((TokenRequest = "application/x-www-form-urlencoded"))),
    responses((status = 200, description = "The access token", body = TokenObject),
        (status = 400, description = "The request is not valid", body = TokenError),
        (status = 401, description = "The credentials are missing or wrong", body = TokenError),
        (status = 429, description = "Too many requests", body = TokenError),
        (status = 503, description = "The store is not available", body = TokenError)))]
pub async fn generate(State(admin): State<Admin>, request: Request) -> Response {
    let mut response = match token(&admin, request).await {
        Ok(body) => Json(body).into_response(),
        Err(refused) => refused,
    };
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

async fn token(admin: &Admin, request: Request) -> Result<TokenObject, Response> {
    let (parts, body) = request.into_parts();
    let address = peer(&parts).ip();
    let body = to_bytes(body, MOST_BODY).await.map_err(|_| refused(StatusCode::BAD_REQUEST, "invalid_request"))?;
    let fields: Vec<(String, String)> = form_urlencoded::parse(&body).into_owned().collect();
    // A field that is there twice is none (RFC 6749 section 3.2).
    let field = |name: &str| {
        let mut found = fields.iter().filter(|(key, _)| key == name).map(|(_, value)| value.clone());
        found.next().filter(|_| found.next().is_none())
    };
    if field("grant_type").as_deref() != Some("client_credentials") {
        return Err(refused(StatusCode::BAD_REQUEST, "unsupported_grant_type"));
    }
    let credentials = basic(&parts.headers).or_else(|| Some((field("client_id")?, field("client_secret")?)));
    let Some((id, secret)) = credentials else { return Err(refused(StatusCode::UNAUTHORIZED, "invalid_client")) };
    let inspect = admin.inspect();
    let caller =
        admin.door.admit_client(inspect, Face::Odc, (&id, &secret), address).await.map_err(|why| denied(&why))?;
    let issued = issue(inspect, &caller, LIFETIME, false, None).await.map_err(|error| denied(&Denied::Store(error)))?;
    let issued = issued.ok_or_else(|| denied(&Denied::Unknown))?;
    Ok(TokenObject { access_token: issued.token, expires_in: LIFETIME.as_secs(), token_type: "Bearer" })
}

/// RFC 6749 section 5.2.
fn denied(why: &Denied) -> Response {
    match why {
        Denied::Unknown => refused(StatusCode::UNAUTHORIZED, "invalid_client"),
        Denied::Face(_) => refused(StatusCode::BAD_REQUEST, "unauthorized_client"),
        Denied::TooMany(left) => with_limit(refused(StatusCode::TOO_MANY_REQUESTS, "temporarily_unavailable"), *left),
        Denied::TooLarge | Denied::Nowhere | Denied::Method => refused(StatusCode::BAD_REQUEST, "invalid_request"),
        Denied::Store(_) => refused(why.told().0, "temporarily_unavailable"),
    }
}

fn refused(status: StatusCode, error: &str) -> Response {
    (status, Json(TokenError { error: error.to_owned() })).into_response()
}
