//! Forms and cookies: whether they are of ours, and how often they come.
//!
//! A session is a cookie of 256 random bits. Cookies know no ports (RFC 6265 section 8.5), so that any other server of the same host
//! receives and may set it: it is sent below `/console/` alone, and by itself it changes nothing. What changes something also needs
//! the token that our own page of this session has in its form, and a browser that says that the form came from here.

use std::net::IpAddr;
use std::time::Duration;

use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::response::Response;
use bytes::Bytes;
use http::header::{COOKIE, HOST, HeaderValue, ORIGIN, RETRY_AFTER, SET_COOKIE};
use http::request::Parts;
use http::{HeaderMap, Uri};
use url::Url;

use super::super::auth::{WRONG, network};
use super::super::limit::{Left, Limit};
use super::failure::{Failure, Sent, SentField};
use super::page::{self};
use super::visitor::Visitor;
use super::{Console, ROOT};
use crate::config::Admin;
use crate::ports::sessions::Digest;

/// How long a session lasts without a request, and at most.
pub const IDLE: Duration = Duration::from_secs(15 * 60);
pub const LONGEST: Duration = Duration::from_secs(8 * 3600);
/// How much later a session has to end before that is written down: not every request is a write.
pub const EXTENDED: Duration = Duration::from_secs(60);
/// By which our script asks for what has changed.
pub const LIVE: &str = "x-loginsync-live";
/// Cookies of our name that are looked up; another server of this host may have set some.
const MOST_COOKIES: usize = 4;

/// What remembers who asks how often.
#[derive(Debug, Default)]
pub struct Door {
    visits: Limit<Digest>,
    wrong: Limit<IpAddr>,
}

impl Door {
    /// Counts a request of a session.
    ///
    /// # Errors
    /// When there were too many within a minute.
    pub fn visit(&self, console: &Console, key: Digest) -> Result<(), Left> {
        let inspect = console.admin.inspect();
        self.visits.take(&key, inspect.config().admin.rate_limit, inspect.now()).map(drop)
    }

    /// Counts a wrong link, or a session that does not exist.
    ///
    /// # Errors
    /// When there were too many of this address.
    pub fn wrong(&self, console: &Console, address: IpAddr) -> Result<(), Left> {
        self.wrong.take(&network(address), WRONG, console.admin.inspect().now()).map(drop)
    }

    /// # Errors
    /// When there were too many wrong ones of this address.
    pub fn look(&self, console: &Console, address: IpAddr) -> Result<(), Left> {
        self.wrong.look(&network(address), WRONG, console.admin.inspect().now()).map(drop)
    }
}

pub fn too_many(left: Left) -> Response {
    too_many_with(left, None)
}

/// The same with a form that may be sent again later.
pub fn too_many_with(left: Left, sent: Option<Sent>) -> Response {
    let mut response = page::bare_with(&Failure::too_many(), None, sent);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(left.seconds.max(1)));
    response
}

/// Whether a browser says that one of our own pages sent this. Browsers that do not send `Sec-Fetch-Site` (Fetch Metadata) send
/// `Origin` with a form.
pub fn is_same_origin(headers: &HeaderMap, uri: &Uri) -> bool {
    if let Some(site) = headers.get("sec-fetch-site") {
        return site == "same-origin";
    }
    let asked = headers.get(HOST).and_then(|host| host.to_str().ok()).or(uri.authority().map(|found| found.as_str()));
    let origin = headers.get(ORIGIN).and_then(|origin| Url::parse(origin.to_str().ok()?).ok());
    match (asked, origin) {
        (Some(asked), Some(origin)) => {
            // The default port is in neither, or the URL has left it out.
            let port = origin.port().map(|port| format!(":{port}")).unwrap_or_default();
            let default = if origin.scheme() == "https" { ":443" } else { ":80" };
            let asked = asked.to_ascii_lowercase();
            let host = origin.host_str().unwrap_or_default();
            !host.is_empty() && asked.strip_suffix(default).unwrap_or(&asked) == format!("{host}{port}")
        }
        _ => false,
    }
}

fn is_secure(admin: &Admin) -> bool {
    admin.tls.is_some() || admin.public_url.as_ref().is_some_and(|url| url.scheme() == "https")
}

pub fn cookie_name(admin: &Admin) -> &'static str {
    if is_secure(admin) { "__Secure-loginsync-console" } else { "loginsync-console" }
}

/// The cookie that holds a session, or that ends it.
pub fn set_cookie(admin: &Admin, value: Option<&str>) -> (http::HeaderName, String) {
    let (name, secure) = (cookie_name(admin), if is_secure(admin) { "; Secure" } else { "" });
    let (value, age) = value.map_or(("", 0), |value| (value, LONGEST.as_secs()));
    (SET_COOKIE, format!("{name}={value}; Path={ROOT}; Max-Age={age}; HttpOnly; SameSite=Lax{secure}"))
}

pub fn cookies(headers: &HeaderMap, name: &str) -> Vec<String> {
    let lines = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(|(found, _)| *found == name).map(|(_, value)| value.to_owned()).take(MOST_COOKIES).collect()
}

/// The fields of a form.
#[derive(Debug, Clone, Default)]
pub struct Fields(Vec<(String, String)>);

impl Fields {
    pub fn read(text: &[u8]) -> Self {
        Self(form_urlencoded::parse(text).into_owned().collect())
    }

    /// What a field says, without blanks around it; empty when it is not there.
    pub fn get(&self, name: &str) -> &str {
        self.raw(name).trim()
    }

    /// All values of a field that may stand several times.
    pub fn all(&self, name: &str) -> Vec<String> {
        let found = self.0.iter().filter(|(found, value)| found == name && !value.trim().is_empty());
        found.map(|(_, value)| value.trim().to_owned()).collect()
    }

    pub fn raw(&self, name: &str) -> &str {
        self.0.iter().find(|(found, _)| found == name).map_or("", |(_, value)| value)
    }
}

/// Names of fields that a form of ours may have, when it is shown again.
const MOST_FIELDS: usize = 1_000;

/// What a form had in it, but for its token.
pub fn sent_by(action: &str, body: &[u8], token: Option<String>) -> Sent {
    let fields = Fields::read(body).0.into_iter().filter(|(name, _)| name != "token").take(MOST_FIELDS);
    let fields = fields.map(|(name, value)| SentField { name, value });
    Sent { action: action.to_owned(), fields: fields.collect(), token }
}

/// A form that one of our pages has sent, in this session.
pub struct Posted(pub Fields);

impl<S: Send + Sync> FromRequest<S> for Posted {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        let visitor = request.extensions().get::<Visitor>().cloned().ok_or_else(Failure::signed_out)?;
        let body = Bytes::from_request(request, state).await.map_err(|_| Failure::too_large())?;
        let fields = Fields::read(&body);
        // What is compared is made of the cookie, so that the time of a comparison helps no one who lacks it.
        match aws_lc_rs::constant_time::verify_slices_are_equal(
            fields.raw("token").as_bytes(),
            visitor.token.as_bytes(),
        ) {
            Ok(()) => Ok(Self(fields)),
            Err(_) => Err(Failure::foreign()),
        }
    }
}

/// What stands behind the `?`.
pub struct Asked(pub Fields);

impl<S: Send + Sync> FromRequestParts<S> for Asked {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        Ok(Self(Fields::read(parts.uri.query().unwrap_or_default().as_bytes())))
    }
}
