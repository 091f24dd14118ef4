//! The app's own exchange at the token endpoint: what its request asks for, and what the provider's reply brings.
//!
//! Neither is changed on its way. They are read to tell what must be refused before a grant is spent, and whether what comes
//! back logs a user in.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{self, HeaderMap};
use http::{HeaderValue, StatusCode};
use serde_json::{Map, Value};

use super::oidc::{AccessToken, IdTokenError, UntrustedIdToken, object};
use crate::capture::token::{self, Reading};
use crate::provider::Provider;
use crate::reading::escape;
use crate::reading::media::{has_foreign_charset, is_form};
use crate::reading::name::could_be;

/// What the app hands in for tokens (RFC 6749 section 4, RFC 8628 section 3.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grant {
    /// A person's own: a code, a device code, a password, and whatever is not known.
    Person,
    Refresh,
    /// The app itself.
    Client,
    /// Something that was issued before, for something else: token exchange (RFC 8693), assertions (RFC 7521).
    Exchange,
}

impl Grant {
    fn named(name: &str) -> Self {
        match name {
            "refresh_token" => Self::Refresh,
            "client_credentials" => Self::Client,
            "urn:ietf:params:oauth:grant-type:token-exchange"
            | "urn:ietf:params:oauth:grant-type:jwt-bearer"
            | "urn:ietf:params:oauth:grant-type:saml2-bearer" => Self::Exchange,
            _ => Self::Person,
        }
    }
}

/// A request that may go on to the provider.
#[derive(Debug, Clone)]
pub struct TokenRequest {
    pub grant: Grant,
    /// By what the app proves who it is, as form fields: what a revocation of the same tokens needs as well.
    pub client: Vec<(String, AccessToken)>,
}

/// Why a request does not go on. Nothing was spent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestFault {
    #[error("content type `{0}`; expected `application/x-www-form-urlencoded` (RFC 6749 section 4.1.3)")]
    ContentType(String),
    #[error("a content encoding; expected none")]
    ContentEncoding,
    #[error("parameters in the query; expected them in the body")]
    Query,
    #[error("the form is not UTF-8")]
    Form,
    #[error(
        "parameter `{0}` in another spelling, which some servers read as the same; expected it by its name (RFC 6749)"
    )]
    Spelling(&'static str),
    #[error("parameter `{0}` appears more than once; expected once (RFC 6749 section 3.2)")]
    Repeated(&'static str),
    #[error("parameter `grant_type` is missing")]
    NoGrantType,
    #[error(
        "a DPoP proof names the address that it was sent to (RFC 9449 section 4.2), which is this relay and not the provider, \
         so that the provider would refuse it; use a client without DPoP, or another mode than `token-relay`"
    )]
    Dpop,
    #[error("the client assertion cannot be read: {0}")]
    Assertion(String),
    #[error(
        "the client assertion is meant for {found}, which is not the provider; make its `aud` the issuer or the provider's own token \
         endpoint, {expected} (RFC 7523 section 3, OpenID Connect Core section 9)"
    )]
    AssertionAudience { found: String, expected: String },
}

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The parameters that are looked at. Others may repeat, as `resource` does.
const SINGLE: [&str; 9] = [
    "grant_type",
    "client_id",
    "client_secret",
    "client_assertion",
    "client_assertion_type",
    "code",
    "refresh_token",
    "device_code",
    "scope",
];
const CLIENT: [&str; 4] = ["client_id", "client_secret", "client_assertion", "client_assertion_type"];

/// Reads a request to the token endpoint. `provider` is what a client assertion may name as its audience: the issuer, and the
/// provider's token endpoint.
///
/// # Errors
/// When it is none, or one that the provider could only refuse because it came this way.
pub fn read_request(
    provider: &[&str],
    query: Option<&str>,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<TokenRequest, RequestFault> {
    if query.is_some_and(|query| !query.is_empty()) {
        return Err(RequestFault::Query);
    }
    if headers.contains_key("dpop") {
        return Err(RequestFault::Dpop);
    }
    if headers.contains_key(header::CONTENT_ENCODING) {
        return Err(RequestFault::ContentEncoding);
    }
    let mut types = headers.get_all(header::CONTENT_TYPE).iter().map(|kind| kind.to_str().unwrap_or("(not ASCII)"));
    let (content_type, another) = (types.next().unwrap_or("missing"), types.next());
    if !is_form(content_type) || another.is_some() {
        return Err(RequestFault::ContentType(content_type.chars().take(100).collect()));
    }
    if std::str::from_utf8(body).is_err() || has_foreign_charset(content_type.as_bytes()) {
        return Err(RequestFault::Form);
    }
    let mut found: Vec<(&'static str, String)> = Vec::new();
    for pair in body.split(|byte| *byte == b'&') {
        if let Some(name) = misspelt(pair) {
            return Err(RequestFault::Spelling(name));
        }
        for (name, value) in form_urlencoded::parse(pair) {
            let Some(name) = SINGLE.into_iter().find(|known| *known == name) else { continue };
            if found.iter().any(|(known, _)| *known == name) {
                return Err(RequestFault::Repeated(name));
            }
            found.push((name, value.into_owned()));
        }
    }
    let value = |name: &str| found.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str());
    let grant = Grant::named(value("grant_type").ok_or(RequestFault::NoGrantType)?);
    if let Some(assertion) = value("client_assertion") {
        check_assertion(assertion, provider)?;
    }
    let client = found.into_iter().filter(|(name, _)| CLIENT.contains(name));
    Ok(TokenRequest { grant, client: client.map(|(name, value)| (name.to_owned(), AccessToken::new(value))).collect() })
}

/// The parameter that a lax provider would read in a pair where a strict one reads another: PHP folds `grant.type` and
/// `grant_type[]`, Rack takes `;` for `&`, and Jetty has escapes of its own. A request must mean one thing to us and to the provider.
fn misspelt(pair: &[u8]) -> Option<&'static str> {
    if let Cow::Owned(settled) = escape::settled(pair) {
        let name = settled.split(|byte| *byte == b'=').next().unwrap_or_default();
        if let Some(known) = SINGLE.into_iter().find(|known| could_be(name, known)) {
            return Some(known);
        }
    }
    let parts = pair.split(|byte| *byte == b';').enumerate();
    parts.into_iter().find_map(|(number, part)| {
        let name = part.split(|byte| *byte == b'=').next().unwrap_or_default();
        let plain = number == 0;
        let exactly = |known: &str| plain && form_urlencoded::parse(name).next().is_some_and(|(name, _)| name == known);
        SINGLE.into_iter().find(|known| could_be(name, known) && !exactly(known))
    })
}

/// The provider verifies an assertion. That it is meant for another is seen beforehand.
fn check_assertion(assertion: &str, provider: &[&str]) -> Result<(), RequestFault> {
    let unreadable = |why: &str| RequestFault::Assertion(why.to_owned());
    let payload = assertion.split('.').nth(1).ok_or_else(|| unreadable("it is not a JWT"))?;
    let payload = URL_SAFE_NO_PAD.decode(payload).map_err(|_| unreadable("its payload is not base64url"))?;
    let payload = object("payload", &payload).map_err(|error| unreadable(&error.to_string()))?;
    let named: Vec<&str> = match payload.get("aud") {
        Some(Value::String(audience)) => vec![audience],
        Some(Value::Array(audiences)) => audiences.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if named.iter().any(|name| provider.contains(name)) {
        return Ok(());
    }
    let list = |names: &[&str]| -> String {
        let shown: Vec<String> = names.iter().take(4).map(|name| format!("`{}`", short(name))).collect();
        if shown.is_empty() { "no audience".into() } else { shown.join(" and ") }
    };
    Err(RequestFault::AssertionAudience { found: list(&named), expected: list(provider) })
}

fn short(text: &str) -> String {
    text.chars().take(120).collect()
}

/// What a reply brings.
#[derive(Debug)]
pub enum TokenReply {
    /// The provider refuses, or has nothing to say yet; with its error code and description, as it wrote them.
    Refusal(Option<(String, Option<String>)>),
    Tokens(Box<Tokens>),
}

/// The tokens of a reply (OIDC Core 3.1.3.3). What they say is not verified.
#[derive(Debug)]
pub struct Tokens {
    pub id_token: Option<Result<UntrustedIdToken, IdTokenError>>,
    pub access_token: Option<AccessToken>,
    pub refresh_token: Option<AccessToken>,
    /// Tokens that stand elsewhere in the reply, and may be taken for an ID token.
    pub beside: Vec<AccessToken>,
    /// A member below the top has a token's name.
    pub nested: bool,
}

impl Tokens {
    /// Whether a token of the reply is an ID token for this client that is not the one to be synced.
    pub fn hides_login(&self, provider: &Provider, client_id: &str) -> bool {
        let synced = match &self.id_token {
            Some(Ok(token)) => token,
            // Nothing is synced, so no other token may be there.
            _ => return self.nested || !self.beside.is_empty(),
        };
        self.beside.iter().any(|beside| match UntrustedIdToken::parse(beside.expose()) {
            Ok(token) => {
                token.as_received() != synced.as_received()
                    && provider.is_called(token.issuer())
                    && token.names_audience(client_id)
            }
            Err(_) => false,
        })
    }
}

/// Why it is unknown what a reply brings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplyFault {
    #[error("the provider's reply is compressed, though that was not asked for")]
    ContentEncoding,
    #[error("the provider redirects its token endpoint (status {0}); name the right `token_endpoint`")]
    Redirect(u16),
    #[error("the provider's reply cannot be read: {0}")]
    Json(IdTokenError),
    #[error("member `{0}` of the provider's reply is there twice, case aside")]
    Repeated(&'static str),
    #[error("member `{0}` of the provider's reply is not a string")]
    NoText(&'static str),
    #[error("the provider's reply has neither tokens nor an error")]
    Neither,
    #[error("the provider's reply has tokens where no client of OAuth looks for them, and which were not synced")]
    Hidden,
}

/// Reads a reply of the token endpoint.
///
/// # Errors
/// When an app might find tokens in it that we do not.
pub fn read_reply(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Result<TokenReply, ReplyFault> {
    let coding = |value: &HeaderValue| !value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity");
    if headers.get_all(header::CONTENT_ENCODING).iter().any(coding) {
        return Err(ReplyFault::ContentEncoding);
    }
    if status.is_redirection() {
        return Err(ReplyFault::Redirect(status.as_u16()));
    }
    let failed = status.is_client_error() || status.is_server_error();
    // Some servers write a byte order mark, which readers drop.
    let body = body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body);
    let members = match object("body", body) {
        Ok(members) => members,
        // An error page of whatever stands before the provider is not a token response.
        Err(_) if failed && !may_hold_token(body) => return Ok(TokenReply::Refusal(None)),
        Err(error) => return Err(ReplyFault::Json(error)),
    };
    let mut id_token = member(&members, "id_token")?;
    let access_token = member(&members, "access_token")?;
    let refresh_token = member(&members, "refresh_token")?;
    let mut beside = Vec::new();
    let others = members.iter().filter(|(name, _)| !TOKENS.iter().any(|known| name.eq_ignore_ascii_case(known)));
    let hides = others.fold(false, |hides, (_, value)| look_within(value, &mut beside) || hides);
    if id_token.is_none() && access_token.is_none() && refresh_token.is_none() {
        if hides || !beside.is_empty() {
            return Err(ReplyFault::Hidden);
        }
        let refuses = failed || members.contains_key("error");
        if !refuses {
            return Err(ReplyFault::Neither);
        }
        let text = |name: &str| members.get(name).and_then(Value::as_str).map(str::to_owned);
        return Ok(TokenReply::Refusal(text("error").map(|error| (error, text("error_description")))));
    }
    // RFC 8693 section 2.2.1: the member is called `access_token` whatever was issued.
    let issued = member(&members, "issued_token_type")?.unwrap_or_default().trim().to_ascii_lowercase();
    if issued.ends_with("id_token") {
        match id_token {
            None => id_token = access_token,
            Some(_) => beside.extend(access_token.map(str::to_owned)),
        }
    }
    let secret = |text: Option<&str>| text.map(|text| AccessToken::new(text.to_owned()));
    Ok(TokenReply::Tokens(Box::new(Tokens {
        id_token: id_token.map(UntrustedIdToken::parse),
        access_token: secret(access_token),
        refresh_token: secret(refresh_token),
        beside: beside.into_iter().map(AccessToken::new).collect(),
        nested: hides,
    })))
}

/// The members in which tokens come (RFC 6749 section 5.1, OIDC Core 3.1.3.3).
const TOKENS: [&str; 3] = ["id_token", "access_token", "refresh_token"];

/// Looks through a member that should hold no token. Whether it has a member of a token's name; what reads as a token is
/// collected. The parser bounds how deep a value is.
fn look_within(value: &Value, tokens: &mut Vec<String>) -> bool {
    match value {
        Value::String(text) if text.len() <= token::MAX_TOKEN && token::read(text.as_bytes()) == Reading::NotAToken => {
            false
        }
        Value::String(text) => {
            tokens.push(text.clone());
            false
        }
        // Every member is looked through, also behind one that settles the answer: the tokens of all are collected.
        Value::Array(values) => {
            let mut named = false;
            for value in values {
                named |= look_within(value, tokens);
            }
            named
        }
        Value::Object(members) => {
            let mut named = false;
            for (name, value) in members {
                let is_token = TOKENS.iter().any(|known| could_be(name.as_bytes(), known));
                let is_filled = !value.is_null() && value.as_str() != Some("");
                named |= look_within(value, tokens) | (is_token && is_filled);
            }
            named
        }
        _ => false,
    }
}

/// Whether a reply to the app's own credentials (RFC 6749 section 4.4) may bring a person's tokens all the same.
pub fn may_be_of_person(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> bool {
    match read_reply(status, headers, body) {
        Ok(TokenReply::Refusal(_)) => false,
        Ok(TokenReply::Tokens(tokens)) => tokens.id_token.is_some() || tokens.nested || !tokens.beside.is_empty(),
        Err(ReplyFault::ContentEncoding | ReplyFault::Hidden) => true,
        Err(_) => token::is_within(body),
    }
}

fn may_hold_token(body: &[u8]) -> bool {
    let named = ["id_token", "access_token"].iter().any(|name| memchr::memmem::find(body, name.as_bytes()).is_some());
    named || token::is_within(body)
}

/// A text of the reply. Some readers of JSON take names without case, so that two spellings are two values.
fn member<'a>(members: &'a Map<String, Value>, name: &'static str) -> Result<Option<&'a str>, ReplyFault> {
    let mut found = members.iter().filter(|(known, value)| known.eq_ignore_ascii_case(name) && !value.is_null());
    match (found.next(), found.next()) {
        (None, _) => Ok(None),
        (Some(_), Some(_)) => Err(ReplyFault::Repeated(name)),
        (Some((_, value)), None) => value.as_str().map(Some).ok_or(ReplyFault::NoText(name)),
    }
}
