//! From what went wrong to what the browser sees: the only file that knows status codes.
//!
//! The browser gets advice and a number; the log has the reason with the same number. Nothing of a token, a cookie or
//! a claim is in either.
//!
//! | what | status |
//! |---|---|
//! | the request itself cannot be read in one way (framing, host, path, form) | 400 |
//! | a token in a header that is not believed; a page of the app, a gateway's question or an API without a session | 401 |
//! | a login that is not believed or that the provider denies, a disabled user, a login field where no login belongs, a question from no gateway of ours, an identity over `headers.max_bytes` that must not be told in part | 403 |
//! | a page of ours that there is none of | 404 |
//! | a method that a callback or a page of ours does not take | 405 |
//! | a body that did not arrive in time | 408 |
//! | a token that was used before | 409 |
//! | a body over the limit | 413 |
//! | a media type, coding or character encoding in which a login could hide | 415 |
//! | the app cannot be reached | 502 |
//! | keys, store or time are missing: the same login may pass in a moment (`Retry-After`) | 503 |
//! | what strangers may make us hold is used up, or too many requests are under way (`Retry-After`) | 503 |
//! | the app is too slow | 504 |
//!
//! A refused login is 403 and not 401: 401 has to name a challenge (RFC 9110 section 15.5.2), and none helps there. A client
//! that sends tokens by itself has another one, so 401 tells it to fetch it (RFC 6750 section 3). What lacks a session is
//! told that a cookie is what it lacks.
//!
//! Our own pages and redirects are made here too ([`own_page`], [`redirect`]).

pub mod oauth;

use std::fmt;
use std::sync::LazyLock;

use askama::Template;
use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};

use super::framing::Framing;
use super::held::Full;
use crate::login::{Reason, Refused};
use crate::pipeline::capture::CaptureRefusal;
use crate::pipeline::capture::bearer::BearerFault;
use crate::pipeline::capture::watch::Sighted;
use crate::pipeline::ids::ProviderName;
use crate::pipeline::provider::Mode;
use crate::pipeline::verify::Fault;
use crate::ports::store::StoreError;

/// Why a request gets an answer of ours in place of the app's.
#[derive(Debug)]
pub enum Trouble {
    Login(Refused),
    /// A token in a header.
    Token(Refused),
    /// A body that bears a token which it may not bear.
    TokenInBody,
    Framing(Framing),
    Host,
    Target,
    Connect,
    AmbiguousPath,
    /// At a callback: a header by which an app may read another message, or another method, than we do.
    MisleadingHeader(HeaderName),
    /// A field that carries a login where none belongs.
    Elsewhere {
        sighted: Sighted,
        place: &'static str,
    },
    /// A form whose bytes we cannot read as the app will.
    UnreadableForm(&'static str),
    BodyTooLarge {
        limit: usize,
    },
    BodyStalled,
    BodyBroken,
    /// What is held of requests has no room for this one.
    Full(Full),
    /// As many requests are under way as there may be connections.
    TooManyRequests,
    AppUnreachable(String),
    AppTooSlow,
    /// The login is committed, but the app did not take it.
    Undelivered(String),
    /// The person holds more groups and roles than the headers may carry, and an app that keeps what no header mentions must
    /// not be asked.
    IdentityTooLarge {
        limit: usize,
    },
    /// The user was disabled between the commit of a login and its session.
    DisabledSince,
    /// A session could not be looked up, begun or ended.
    Store(StoreError),
    /// A request to a page of ours that cannot be read in one way.
    Own(&'static str),
    NoSuchPage,
    /// What the page takes instead.
    Method(&'static str),
    /// The provider cannot be talked to.
    Provider {
        provider: ProviderName,
        why: String,
    },
    /// Something of our own system fails.
    Internal(&'static str),
    /// A provider's logout that is not believed.
    Logout(String),
    NoSession,
    /// A question that only gateways may ask.
    NoGateway,
}

impl Trouble {
    /// For metrics: where it was refused.
    pub fn stage(&self) -> &'static str {
        match self {
            Trouble::Login(refused) | Trouble::Token(refused) => refused.reason.stage(),
            Trouble::TokenInBody => "capture",
            Trouble::Elsewhere { .. } | Trouble::UnreadableForm(_) => "elsewhere",
            Trouble::Framing(_)
            | Trouble::Host
            | Trouble::Target
            | Trouble::Connect
            | Trouble::AmbiguousPath
            | Trouble::MisleadingHeader(_) => "request",
            Trouble::BodyTooLarge { .. } | Trouble::BodyStalled | Trouble::BodyBroken => "body",
            Trouble::Full(_) | Trouble::TooManyRequests => "overload",
            Trouble::AppUnreachable(_) | Trouble::AppTooSlow | Trouble::Undelivered(_) => "app",
            Trouble::IdentityTooLarge { .. } => "headers",
            Trouble::DisabledSince => "disabled",
            Trouble::Store(_) => "store",
            Trouble::Own(_) | Trouble::NoSuchPage | Trouble::Method(_) | Trouble::NoGateway => "request",
            Trouble::Provider { .. } => "provider",
            Trouble::Internal(_) => "internal",
            Trouble::Logout(_) => "logout",
            Trouble::NoSession => "session",
        }
    }
}

/// Where a token stands that only a provider of mode `bearer` reads.
pub const IN_HEADERS: &str = "headers";

impl fmt::Display for Trouble {
    /// For the log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Login(refused) | Trouble::Token(refused) => write!(f, "{}", refused.reason),
            Trouble::TokenInBody => write!(f, "{}", BearerFault::InBody),
            Trouble::Framing(framing) => write!(f, "{framing}"),
            Trouble::Host => f.write_str("no single valid `Host`; expected one that agrees with the request target"),
            Trouble::Target => f.write_str("a request target that is not a path"),
            Trouble::Connect => f.write_str("method CONNECT; this is not a forward proxy"),
            Trouble::AmbiguousPath => f.write_str("a path that can be read in more than one way"),
            Trouble::MisleadingHeader(name) => {
                let name: String = name.as_str().chars().take(100).collect();
                write!(
                    f,
                    "header `{name}` at a callback path: an app may read another message by it than the one that was checked"
                )
            }
            Trouble::Elsewhere { sighted: Sighted { field, why }, place } => {
                match field {
                    Some(field) => write!(f, "field `{}`", field.name())?,
                    None => f.write_str("a token")?,
                }
                write!(f, " in the {place} of a request that is not to a callback path: {why}; ")?;
                match *place == IN_HEADERS {
                    true => f.write_str("a provider of mode `bearer` with this issuer would verify it; ")?,
                    false => f.write_str(
                        "if the app takes its logins there, add the address to the `callback` of the provider; ",
                    )?,
                }
                f.write_str("`elsewhere = \"pass\"` of a `[[path]]`, or of `[guard]`, would let it through unread")
            }
            Trouble::UnreadableForm(why) => write!(
                f,
                "a body with {why}; expected one that can be read as it passes; outside callback paths `elsewhere = \"pass\"` of a `[[path]]`, or of `[guard]`, would let it through"
            ),
            Trouble::BodyTooLarge { limit } => write!(f, "a body over `limits.callback_body` of {limit} bytes"),
            Trouble::BodyStalled => f.write_str("the body stopped arriving"),
            Trouble::BodyBroken => f.write_str("the body broke off"),
            Trouble::Full(full) => write!(f, "{full}"),
            Trouble::TooManyRequests => {
                f.write_str("as many requests are under way as `listen.max_connections` allows")
            }
            Trouble::AppUnreachable(why) => write!(f, "the app cannot be reached: {why}"),
            Trouble::AppTooSlow => f.write_str("the app did not answer within `app.response_timeout`"),
            Trouble::Undelivered(why) => write!(f, "committed, not delivered: {why}"),
            Trouble::IdentityTooLarge { limit } => write!(
                f,
                "groups and roles exceed `headers.max_bytes` of {limit} bytes, and without the header the app would keep old \
                 groups (`headers.no_groups` is set); raise `headers.max_bytes`, and what the app takes, or map to fewer groups"
            ),
            Trouble::DisabledSince => f.write_str("committed, not delivered: the user was disabled since"),
            Trouble::Store(error) => write!(f, "{error}"),
            Trouble::Own(why) => f.write_str(why),
            Trouble::NoSuchPage => f.write_str("there is no such page of ours"),
            Trouble::Method(allowed) => write!(f, "a method that this page does not take; expected {allowed}"),
            Trouble::Provider { provider, why } => write!(f, "provider `{provider}`: {why}"),
            Trouble::Internal(why) => f.write_str(why),
            Trouble::Logout(why) => write!(f, "a logout that ends nothing: {why}"),
            Trouble::NoSession => f.write_str("no session"),
            Trouble::NoGateway => f.write_str("a gateway's question from an address that is not in `trusted_proxies`"),
        }
    }
}

/// The answer to a request that the app does not get, or whose answer never came.
pub fn answer(trouble: &Trouble, id: &str, accepts_html: bool, start_page: &str) -> Response<Bytes> {
    let Page { status, title, advice, start_again } = page(trouble);
    let (body, media_type) = if accepts_html {
        let page = RefusalPage { title, advice, id, style: STYLE, start_page: start_again.then_some(start_page) };
        // Rendering into a string fails only where memory does.
        (page.render().unwrap_or_else(|_| title.to_owned()), "text/html; charset=utf-8")
    } else {
        // RFC 9457 section 3.
        let problem = serde_json::json!({
            "type": "about:blank", "title": title, "status": status.as_u16(), "detail": advice, "id": id,
        });
        (problem.to_string(), "application/problem+json")
    };
    let mut response = own(status, Bytes::from(body), media_type);
    let headers = response.headers_mut();
    match status {
        StatusCode::SERVICE_UNAVAILABLE => {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
        }
        StatusCode::METHOD_NOT_ALLOWED => {
            let allowed = if let Trouble::Method(allowed) = trouble { allowed } else { "GET, HEAD, OPTIONS, POST" };
            headers.insert(header::ALLOW, HeaderValue::from_static(allowed));
        }
        StatusCode::UNAUTHORIZED => {
            let lacks_session = matches!(trouble, Trouble::NoSession);
            let challenge = if lacks_session { "Cookie realm=\"loginsync\"" } else { "Bearer error=\"invalid_token\"" };
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        _ => {}
    }
    let left_unread = matches!(trouble, Trouble::Full(_));
    if left_unread
        || matches!(status, StatusCode::BAD_REQUEST | StatusCode::REQUEST_TIMEOUT | StatusCode::PAYLOAD_TOO_LARGE)
    {
        // What is left on this connection may be anything.
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// An answer of ours: not cached, and allowed nothing but its own style.
fn own(status: StatusCode, body: Bytes, media_type: &'static str) -> Response<Bytes> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::CONTENT_SECURITY_POLICY, POLICY.clone());
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// A link of a page of ours.
pub struct Link {
    pub label: String,
    pub address: String,
}

/// A page of ours that is not a refusal.
#[derive(Default)]
pub struct OwnPage<'a> {
    pub title: &'a str,
    pub text: &'a str,
    pub links: Vec<Link>,
    /// Posts to the page's own address.
    pub button: Option<&'a str>,
    /// Where the browser goes on to by itself.
    pub onward: Option<&'a str>,
}

pub fn own_page(page: &OwnPage<'_>) -> Response<Bytes> {
    let OwnPage { title, text, links, button, onward } = page;
    let rendered = OwnTemplate { title, text, links, button: *button, onward: *onward, style: STYLE }.render();
    let body = rendered.unwrap_or_else(|_| (*title).to_owned());
    let mut response = own(StatusCode::OK, Bytes::from(body), "text/html; charset=utf-8");
    if button.is_some() {
        let headers = response.headers_mut();
        let policy = POLICY.to_str().unwrap_or("default-src 'none'");
        if let Ok(policy) = HeaderValue::try_from(policy.replace("form-action 'none'", "form-action 'self'")) {
            headers.insert(header::CONTENT_SECURITY_POLICY, policy);
        }
        // Under `no-referrer` browsers send `Origin: null` with a form, which does not say whose it is.
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    }
    response
}

/// Sends a browser elsewhere by GET (RFC 9110 section 15.4.4).
pub fn redirect(address: &str, cookies: HeaderMap) -> Response<Bytes> {
    let mut response = own(StatusCode::SEE_OTHER, Bytes::new(), "text/plain; charset=utf-8");
    if let Ok(address) = HeaderValue::try_from(address) {
        response.headers_mut().insert(header::LOCATION, address);
    }
    with_cookies(response, cookies)
}

/// An empty page that any site may show in a frame: a provider does so to end sessions.
pub fn framed() -> Response<Bytes> {
    let mut response = own(StatusCode::OK, Bytes::new(), "text/html; charset=utf-8");
    response.headers_mut().insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; base-uri 'none'; frame-ancestors *"),
    );
    response
}

/// An answer to a program that wants no more than the status.
pub fn empty() -> Response<Bytes> {
    own(StatusCode::OK, Bytes::new(), "text/plain; charset=utf-8")
}

pub fn document(text: String, media_type: &'static str) -> Response<Bytes> {
    own(StatusCode::OK, Bytes::from(text), media_type)
}

/// A refusal that a gateway turns into a redirect, where it can: nginx takes 401 and no other status.
pub fn unauthorized_at(address: &str) -> Response<Bytes> {
    let mut response = own(StatusCode::UNAUTHORIZED, Bytes::new(), "text/plain; charset=utf-8");
    let headers = response.headers_mut();
    headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Cookie realm=\"loginsync\""));
    if let Ok(address) = HeaderValue::try_from(address) {
        headers.insert(header::LOCATION, address);
    }
    response
}

pub fn with_cookies(mut response: Response<Bytes>, cookies: HeaderMap) -> Response<Bytes> {
    response.headers_mut().extend(cookies);
    response
}

/// Whether the client is a browser that shows pages. An API client that names no media type gets JSON.
pub fn accepts_html(accept: Option<&HeaderValue>) -> bool {
    accept.is_some_and(|accept| {
        let accept = accept.as_bytes().to_ascii_lowercase();
        [&b"text/html"[..], b"application/xhtml"].iter().any(|kind| memchr::memmem::find(&accept, kind).is_some())
    })
}

/// The page of a refusal: the status, a title, and advice.
pub fn told(trouble: &Trouble) -> (StatusCode, &'static str, &str) {
    let Page { status, title, advice, .. } = page(trouble);
    (status, title, advice)
}

struct Page<'a> {
    status: StatusCode,
    title: &'static str,
    advice: &'a str,
    start_again: bool,
}

const NOT_PASSED_ON: &str = "This request cannot be passed on";

fn page(trouble: &Trouble) -> Page<'_> {
    let page = |status, title, advice| Page { status, title, advice, start_again: false };
    let login = |status, title, advice| Page { status, title, advice, start_again: true };
    let bad_request = |advice| page(StatusCode::BAD_REQUEST, NOT_PASSED_ON, advice);
    match trouble {
        Trouble::Login(refused) => refused_login(refused.mode, &refused.reason),
        Trouble::Token(refused) => refused_token(refused),
        Trouble::TokenInBody => no_token(),
        Trouble::Framing(_) => bad_request("Its length is stated in more than one way."),
        Trouble::Host => bad_request("It does not name this site properly."),
        Trouble::Target | Trouble::Connect => bad_request("It does not ask for a page of this site."),
        Trouble::AmbiguousPath => bad_request("Its address can be read in more than one way."),
        Trouble::MisleadingHeader(_) => bad_request("One of its headers can be read in more than one way."),
        Trouble::BodyBroken => bad_request("Its content broke off."),
        Trouble::Elsewhere { .. } => login(
            StatusCode::FORBIDDEN,
            "No login is accepted here",
            "This address does not take logins. Start again from the app's first page. Its administrator can allow this \
             one: by the setting `callback` where the app takes its logins here, and else by the setting `elsewhere`.",
        ),
        Trouble::UnreadableForm(_) => page(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "This content cannot be passed on",
            "Send it in the usual form: not compressed, and in UTF-8. If the app needs this one, its administrator can allow \
             it by the setting `elsewhere`.",
        ),
        Trouble::BodyTooLarge { .. } => login(
            StatusCode::PAYLOAD_TOO_LARGE,
            "This login is too large",
            "The answer of the login service is larger than this app accepts.",
        ),
        Trouble::BodyStalled => page(
            StatusCode::REQUEST_TIMEOUT,
            "The request took too long",
            "Its content stopped arriving. Please try again.",
        ),
        Trouble::Full(_) | Trouble::TooManyRequests => page(
            StatusCode::SERVICE_UNAVAILABLE,
            "There are too many requests right now",
            "Please wait a moment, then try again.",
        ),
        Trouble::AppUnreachable(_) => page(
            StatusCode::BAD_GATEWAY,
            "The app cannot be reached",
            "It may be starting or under repair. Please try again in a moment.",
        ),
        Trouble::AppTooSlow => page(
            StatusCode::GATEWAY_TIMEOUT,
            "The app takes too long",
            "It did not answer in time. Please try again in a moment.",
        ),
        Trouble::DisabledSince => disabled(),
        Trouble::Store(_) | Trouble::Provider { .. } | Trouble::Internal(_) => login_later(),
        Trouble::Own(_) => login(
            StatusCode::BAD_REQUEST,
            "This request cannot be read",
            "Its address or content is not what this page takes. Please start again.",
        ),
        Trouble::NoSuchPage => page(StatusCode::NOT_FOUND, "There is no such page", "Its address may be misspelt."),
        Trouble::Method(_) => page(
            StatusCode::METHOD_NOT_ALLOWED,
            "This page does not support that request",
            "Please start from the app's first page.",
        ),
        Trouble::Logout(_) => page(StatusCode::BAD_REQUEST, "This logout was not accepted", "It cannot be verified."),
        Trouble::NoSession => login(StatusCode::UNAUTHORIZED, "You are not signed in", "Please sign in first."),
        Trouble::NoGateway => {
            page(StatusCode::FORBIDDEN, "This address is for gateways", "Only a gateway of this site may use it.")
        }
        Trouble::IdentityTooLarge { .. } => page(
            StatusCode::FORBIDDEN,
            "You are in too many groups",
            "Their names are too long for what this app accepts. Please tell your administrator.",
        ),
        // A second try with the same token would be a replay, so the page leads to a fresh login.
        Trouble::Undelivered(_) => login(
            StatusCode::BAD_GATEWAY,
            "The app did not receive this login",
            "Your login was accepted and recorded, but the app could not be reached. Please wait a moment, then start a fresh one.",
        ),
    }
}

fn refused_login(mode: Option<Mode>, reason: &Reason) -> Page<'_> {
    let login = |status, title, advice| Page { status, title, advice, start_again: true };
    match reason {
        Reason::Capture(refusal) => refused_capture(refusal),
        Reason::Bearer(_) | Reason::NoIdToken => no_token(),
        Reason::Keys(_)
        | Reason::Userinfo(_)
        | Reason::Store(_)
        | Reason::Reconfigured
        | Reason::Timeout
        | Reason::Unconfirmed { .. }
        | Reason::Verify(Fault::Internal) => login_later(),
        Reason::Denied(denial) if denial.is_fault_of_provider() => Page {
            advice: "The login service is not working right now. Please wait a moment, then start again.",
            ..login_later()
        },
        Reason::Denied(_) => login(
            StatusCode::FORBIDDEN,
            "The login service did not log you in",
            "The login may have been cancelled, or your account may lack access to this app. You can start again.",
        ),
        Reason::Replay { .. } => used_before(),
        Reason::Verify(Fault::Binding(_) | Fault::Unsolicited) if mode == Some(Mode::RelyingParty) => login(
            StatusCode::FORBIDDEN,
            "This login was not started in this browser",
            "It may have been left open for too long, or started elsewhere. Start again, and keep cookies allowed.",
        ),
        Reason::Verify(Fault::Binding(_) | Fault::Unsolicited) => login(
            StatusCode::FORBIDDEN,
            "This login was not started in this browser",
            "It may have been left open for too long, or started elsewhere. Start again, and keep cookies allowed. \
             For the administrator of an app that hides its login request: see `binding = \"observe\"` and mode `token-relay`.",
        ),
        Reason::Verify(Fault::Expired { .. } | Fault::TooOld { .. } | Fault::BeforeRestore { .. }) => {
            login(StatusCode::FORBIDDEN, "This login has expired", "It was left open for too long. Please start again.")
        }
        Reason::Verify(_) | Reason::AnotherPerson => login(
            StatusCode::FORBIDDEN,
            "This login cannot be verified",
            "The answer of the login service is not valid for this app. Start again; if it happens again, tell your administrator.",
        ),
        Reason::Claims(_) | Reason::NoPerson => login(
            StatusCode::FORBIDDEN,
            "This login is incomplete",
            "The login service did not send everything that this app needs to know about you. Please tell your administrator.",
        ),
        Reason::Gate { message, .. } => Page {
            status: StatusCode::FORBIDDEN,
            title: "This account has no access",
            advice: message,
            start_again: true,
        },
        Reason::Disabled => disabled(),
    }
}

fn disabled() -> Page<'static> {
    Page {
        status: StatusCode::FORBIDDEN,
        title: "This account is disabled",
        advice: "Your account has been switched off here. Please ask your administrator.",
        start_again: false,
    }
}

/// RFC 6750 section 3.1: what another token could mend is 401.
fn refused_token(refused: &Refused) -> Page<'_> {
    let Refused { mode, reason, .. } = refused;
    match reason {
        Reason::Verify(Fault::Internal) => refused_login(*mode, reason),
        Reason::Bearer(BearerFault::Repeated(_)) => {
            let advice = "It brings more than one token.";
            Page { status: StatusCode::BAD_REQUEST, title: NOT_PASSED_ON, advice, start_again: false }
        }
        Reason::Capture(_) | Reason::Verify(_) => no_token(),
        _ => Page { start_again: false, ..refused_login(*mode, reason) },
    }
}

fn no_token() -> Page<'static> {
    Page {
        status: StatusCode::UNAUTHORIZED,
        title: "This token is not accepted",
        advice: "The token of this request is not valid for this app, or has expired. Please sign in again.",
        start_again: false,
    }
}

fn login_later() -> Page<'static> {
    Page {
        status: StatusCode::SERVICE_UNAVAILABLE,
        title: "Login is not possible right now",
        advice: "A service that logins need cannot be used right now. Please wait a moment, then start again. If that does not help, tell the \
             administrator of this app.",
        start_again: true,
    }
}

fn refused_capture(refusal: &CaptureRefusal) -> Page<'static> {
    let status = match refusal {
        CaptureRefusal::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
        CaptureRefusal::ContentType(_) | CaptureRefusal::ContentEncoding => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        CaptureRefusal::UnknownIssuer { .. } => StatusCode::FORBIDDEN,
        _ => StatusCode::BAD_REQUEST,
    };
    let advice = match refusal {
        CaptureRefusal::CodeOnly => {
            "The login service answered with a code, which this app is not set up to accept here. \
             For the administrator: see mode `token-relay`."
        }
        _ => {
            "This app does not accept the login that it received. Start again; if it happens again, tell your administrator."
        }
    };
    Page { status, title: "This login cannot be read", advice, start_again: true }
}

fn used_before() -> Page<'static> {
    Page {
        status: StatusCode::CONFLICT,
        title: "This login was used before",
        advice: "A login works once, and reloading its page does not repeat it. Please start a fresh one.",
        start_again: true,
    }
}

#[derive(Template)]
#[template(path = "refusal.html")]
struct RefusalPage<'a> {
    title: &'a str,
    advice: &'a str,
    id: &'a str,
    style: &'a str,
    start_page: Option<&'a str>,
}

#[derive(Template)]
#[template(path = "own.html")]
struct OwnTemplate<'a> {
    title: &'a str,
    text: &'a str,
    links: &'a [Link],
    button: Option<&'a str>,
    onward: Option<&'a str>,
    style: &'a str,
}

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;margin:0;color:#222;background:#f6f6f6}\
main{max-width:34em;margin:12vh auto;padding:2em;background:#fff;border-radius:8px}\
h1{font-size:1.4em;margin-top:0}.id{color:#666;font-size:.85em}\
@media(prefers-color-scheme:dark){body{color:#ddd;background:#111}main{background:#1c1c1c}a{color:#8bf}.id{color:#999}}";

/// Nothing but the page's own style, named by its digest (CSP Level 3 section 6.7.3.3).
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let digest = STANDARD.encode(digest::digest(&digest::SHA256, STYLE.as_bytes()));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    HeaderValue::try_from(policy).unwrap_or_else(|_| HeaderValue::from_static("default-src 'none'"))
});
