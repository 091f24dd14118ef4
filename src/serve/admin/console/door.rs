//! Who is signed in, and whether a form is one of ours.
//!
//! A session is a cookie of 256 random bits. Cookies know no ports (RFC 6265 section 8.5), so that any other server of the same host
//! receives and may set it: it is sent below `/console/` alone, and by itself it changes nothing. What changes something also needs
//! the token that our own page of this session has in its form, and a browser that says that the form came from here.

use std::net::IpAddr;
use std::time::Duration;

use axum::extract::{FromRequest, FromRequestParts, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::header::{COOKIE, HOST, HeaderValue, ORIGIN, RETRY_AFTER, SET_COOKIE};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode, Uri};
use url::Url;

use super::super::auth::{WRONG, network};
use super::super::http::{MOST_BODY, peer};
use super::super::limit::{Left, Limit};
use super::super::service::{Call, Caller, Through};
use super::page::{self, Failure, Sent, SentField, Shell};
use super::{Console, ROOT, operators, sign_in};
use crate::config::{Admin, Face, Scope};
use crate::ports::console::SignIn;
use crate::ports::sessions::Digest;

/// How long a session lasts without a request, and at most.
pub const IDLE: Duration = Duration::from_secs(15 * 60);
pub const LONGEST: Duration = Duration::from_secs(8 * 3600);
/// How much later a session has to end before that is written down: not every request is a write.
const EXTENDED: Duration = Duration::from_secs(60);
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

/// Who is signed in, for the pages behind [`guard`].
#[derive(Debug, Clone)]
pub struct Visitor {
    pub sign_in: SignIn,
    pub caller: Caller,
    /// Stands in every form of this session.
    pub token: String,
}

impl Visitor {
    fn new(sign_in: SignIn, scopes: Vec<Scope>, cookie: &str) -> Self {
        let caller = Caller {
            name: sign_in.operator.name.clone(),
            face: Face::V1,
            scopes,
            secret: sign_in.key,
            through: Through::Console,
        };
        Self { sign_in, caller, token: form_token(cookie) }
    }

    pub fn call(&self) -> Call {
        Call { caller: self.caller.clone(), expected: None, confirmed: false }
    }

    pub fn may(&self, scope: Scope) -> bool {
        self.caller.may(scope).is_ok()
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Visitor {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        // Without the layer that knows who is signed in no page is shown.
        parts.extensions.get::<Self>().cloned().ok_or_else(Failure::signed_out)
    }
}

/// A page of another site can neither read the cookie nor guess what is made of it.
fn form_token(cookie: &str) -> String {
    URL_SAFE_NO_PAD.encode(Digest::of(format!("form of the console {cookie}").as_bytes()).0)
}

/// Without `console.enabled` there is nothing here.
pub async fn only_if_enabled(State(console): State<Console>, request: Request, next: Next) -> Response {
    match console.admin.inspect().config().console.enabled {
        true => next.run(request).await,
        false => {
            (StatusCode::NOT_FOUND, "the console is off; `[console] enabled = true` turns it on\n").into_response()
        }
    }
}

/// Lets those through who are signed in. A form that cannot be carried out comes back with all that was typed into it.
pub async fn guard(State(console): State<Console>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, MOST_BODY).await else { return page::bare(&Failure::too_large()) };
    let form = (parts.method == Method::POST).then(|| (parts.uri.path().to_owned(), body.clone()));
    let sent = |token: Option<String>| form.as_ref().map(|(action, body)| Sent::new(action, body, token));
    let visitor = match admit(&console, &mut parts, &sent).await {
        Ok(visitor) => visitor,
        Err(response) => return response,
    };
    let shell = Shell::of(&visitor, parts.uri.path());
    let token = visitor.token.clone();
    parts.extensions.insert(visitor);
    let mut response = next.run(Request::from_parts(parts, body.into())).await;
    match response.extensions_mut().remove::<Failure>() {
        Some(failure) if failure.may_pass() => page::failed(shell, &failure, sent(Some(token))),
        Some(failure) => page::failed(shell, &failure, None),
        None => response,
    }
}

async fn admit(
    console: &Console,
    parts: &mut Parts,
    sent: &impl Fn(Option<String>) -> Option<Sent>,
) -> Result<Visitor, Response> {
    let inspect = console.admin.inspect();
    let (now, config) = (inspect.now(), inspect.config());
    let address = peer(parts).ip();
    let changes = !matches!(parts.method, Method::GET | Method::HEAD);
    if changes && !is_same_origin(&parts.headers, &parts.uri) {
        return Err(page::bare(&Failure::foreign()));
    }
    let cookies = cookies(&parts.headers, cookie_name(&config.admin));
    for cookie in &cookies {
        let key = Digest::of(cookie.as_bytes());
        // The form that was sent is of a page of ours: the browser says so, and it is shown to that browser alone.
        let failed = |failure: &Failure| page::bare_with(failure, None, sent(Some(form_token(cookie))));
        let found = inspect.store().console().session(key, now).await;
        let Some(sign_in) = found.map_err(|error| failed(&Failure::from(error)))? else { continue };
        if let Err(left) = console.door.visits.take(&key, config.admin.rate_limit, now) {
            return Err(too_many(left));
        }
        let scopes = operators::scopes(console, &sign_in.operator, now).await.map_err(|why| failed(&why))?;
        if scopes.is_empty() {
            operators::end(console, &sign_in, now).await.map_err(|why| failed(&why))?;
            return Err(page::bare(&Failure::no_role_any_more()));
        }
        let idle_until = now.plus(IDLE).min(sign_in.expires_at);
        // A page that is kept up to date by itself is no sign of a person.
        if idle_until > sign_in.idle_until.plus(EXTENDED) && !parts.headers.contains_key(LIVE) {
            let extended = inspect.store().console().extend(key, idle_until).await;
            extended.map_err(|error| failed(&Failure::from(error)))?;
        }
        return Ok(Visitor::new(sign_in, scopes, cookie));
    }
    if !cookies.is_empty()
        && let Err(left) = console.door.wrong(console, address)
    {
        return Err(too_many(left));
    }
    Err(sign_in::needed(console, &parts.uri, sent(None)))
}

pub fn too_many(left: Left) -> Response {
    let mut response = page::bare(&Failure::too_many());
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

fn cookie_name(admin: &Admin) -> &'static str {
    if is_secure(admin) { "__Secure-loginsync-console" } else { "loginsync-console" }
}

/// The cookie that holds a session, or that ends it.
pub fn set_cookie(admin: &Admin, value: Option<&str>) -> (http::HeaderName, String) {
    let (name, secure) = (cookie_name(admin), if is_secure(admin) { "; Secure" } else { "" });
    let (value, age) = value.map_or(("", 0), |value| (value, LONGEST.as_secs()));
    (SET_COOKIE, format!("{name}={value}; Path={ROOT}; Max-Age={age}; HttpOnly; SameSite=Lax{secure}"))
}

fn cookies(headers: &HeaderMap, name: &str) -> Vec<String> {
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

impl Sent {
    fn new(action: &str, body: &[u8], token: Option<String>) -> Self {
        let fields = Fields::read(body).0.into_iter().filter(|(name, _)| name != "token").take(MOST_FIELDS);
        let fields = fields.map(|(name, value)| SentField { name, value });
        Self { action: action.to_owned(), fields: fields.collect(), token }
    }
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
