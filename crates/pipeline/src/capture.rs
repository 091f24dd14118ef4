//! From an HTTP message at a callback path to the login it carries, still untrusted.
//!
//! At a callback path exactly one login passes: a form-encoded POST that carries one token, each protocol field at most
//! once over query and body together, names compared decoded and without case. A message without a protocol field is no
//! login and passes. Everything else is refused, since the app might read as a login what we did not.

pub mod bearer;
pub mod denial;
pub mod fields;
pub mod oidc;
pub mod relay;
pub mod saml;
pub mod token;
pub mod watch;

use std::sync::Arc;

use http::Method;

use self::denial::Denial;
use self::fields::{Field, ProtocolFields};
use self::oidc::{AccessToken, UntrustedIdToken};
use self::saml::GuardedResponse;
use super::provider::{Mode, Protocol, Provider};
use super::reading::media;

/// A message at a callback path, as the browser sent it.
#[derive(Debug, Clone, Copy)]
pub struct CallbackMessage<'a> {
    pub method: &'a Method,
    /// Without the `?`.
    pub query: Option<&'a str>,
    pub content_type: Option<&'a str>,
    /// Whether a Content-Encoding other than `identity` is named.
    pub encoded: bool,
    pub body: &'a [u8],
}

/// What arrived.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "made once a login and taken apart at once")]
pub enum Arrival {
    /// Nothing that an app could read as a login: passes unread.
    NoLogin,
    /// The provider's answer that there is no login: passes too, since the app has to tell its user.
    Denied(Denial),
    Login(Captured),
}

/// A login that is not verified yet.
#[derive(Debug, Clone)]
pub struct Captured {
    pub provider: Arc<Provider>,
    pub token: UntrustedToken,
}

/// The token of a captured login. What it says is a claim of its sender.
#[derive(Debug, Clone)]
pub enum UntrustedToken {
    IdToken {
        token: UntrustedIdToken,
        state: Option<String>,
        beside: Beside,
    },
    SamlResponse(GuardedResponse),
    /// In a header of a request.
    Presented(UntrustedIdToken),
}

/// What came with an ID token through the browser, and counts only where the ID token vouches for it: an app may take it for the
/// person's.
#[derive(Debug, Clone, Default)]
pub struct Beside {
    pub access_token: Option<AccessToken>,
    /// An authorization code.
    pub code: Option<AccessToken>,
}

/// Why a message at a callback path is refused before any signature is looked at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CaptureRefusal {
    #[error("method {0} at a callback path; a login arrives by POST")]
    Method(String),
    #[error("content type `{0}` at a callback path; expected `application/x-www-form-urlencoded`")]
    ContentType(String),
    #[error("a content encoding at a callback path; expected none")]
    ContentEncoding,
    #[error("the form is not valid: {0}")]
    Form(String),
    #[error("protocol field `{0}` appears more than once over query and body; expected once")]
    Repeated(String),
    #[error("field `{0}`, by which an app may take the request for one of another method")]
    MethodOverride(&'static str),
    #[error("protocol field `{0}` arrives in the query; a login arrives in the body of a POST")]
    InQuery(String),
    #[error(
        "an authorization `code` without an `id_token`: this provider's mode reads ID tokens that pass the browser; \
         use mode `token-relay` for an app that exchanges codes"
    )]
    CodeOnly,
    #[error(
        "an `id_token` without exactly one `code` that is not empty: this provider's mode reads the tokens that the app gets \
         for a code; use mode `oidc-form-post` for an app that takes ID tokens from the browser"
    )]
    TokenOnly,
    #[error("a `SAMLart` artifact; only the POST binding is read")]
    Artifact,
    #[error(
        "field `{0}`, which may log a user in at the app and which no mode here reads; expected an `id_token` or a `SAMLResponse`"
    )]
    OtherToken(&'static str),
    #[error("both an `id_token` and a `SAMLResponse`; expected one login")]
    TwoProtocols,
    #[error("the ID token cannot be read: {0}")]
    IdToken(#[from] oidc::IdTokenError),
    #[error("the SAML response cannot be read: {0}")]
    Saml(#[from] saml::GuardError),
    #[error("no provider at this callback has the issuer{for_client} that the token names")]
    UnknownIssuer { for_client: &'static str },
}

/// Reads what arrived at a callback path.
///
/// `providers` are those declared at this path; the one whose issuer (and for OIDC, client) the untrusted token names is
/// chosen. `max_document` bounds a decoded SAML document, in bytes.
///
/// # Errors
/// Whatever is neither one login nor clearly none.
pub fn read(
    providers: &[Arc<Provider>],
    message: CallbackMessage<'_>,
    max_document: usize,
) -> Result<Arrival, CaptureRefusal> {
    let fields = protocol_fields(message)?;
    if let Some(field) = [Field::Method, Field::MethodOverride].into_iter().find(|field| fields.has(*field)) {
        return Err(CaptureRefusal::MethodOverride(field.name()));
    }
    if fields.is_empty() {
        return Ok(Arrival::NoLogin);
    }
    if providers.iter().any(|provider| provider.mode == Mode::TokenRelay) {
        return read_relayed(providers, &fields);
    }
    if message.method != Method::POST {
        // An error answer by redirect carries nothing that an app could take for a login.
        return match fields.denial() {
            Some(denial) => Ok(Arrival::Denied(denial)),
            None => Err(CaptureRefusal::Method(message.method.to_string())),
        };
    }
    if fields.has(Field::SamlArt) {
        return Err(CaptureRefusal::Artifact);
    }
    // Unlike a code or an access token, these never come with an ID token: an app might believe them in its place.
    if let Some(field) =
        [Field::Response, Field::Credential, Field::WsResult].into_iter().find(|field| fields.has(*field))
    {
        return Err(CaptureRefusal::OtherToken(field.name()));
    }
    match (fields.token(Field::IdToken)?, fields.token(Field::SamlResponse)?) {
        (Some(_), Some(_)) => Err(CaptureRefusal::TwoProtocols),
        (Some(token), None) => {
            let token = UntrustedIdToken::parse(token)?;
            let provider = choose_oidc(providers, &token)?;
            let state = fields.value(Field::State).map(str::to_owned);
            let beside = |field| {
                let text = fields.value(field).filter(|text| !text.is_empty());
                text.map(|text| AccessToken::new(text.to_owned()))
            };
            let beside = Beside { access_token: beside(Field::AccessToken), code: beside(Field::Code) };
            Ok(Arrival::Login(Captured { provider, token: UntrustedToken::IdToken { token, state, beside } }))
        }
        (None, Some(response)) => saml_arrival(providers, response, max_document),
        (None, None) if fields.has(Field::Code) => Err(CaptureRefusal::CodeOnly),
        (None, None) if fields.has(Field::AccessToken) => Err(CaptureRefusal::OtherToken(Field::AccessToken.name())),
        (None, None) => Ok(fields.denial().map_or(Arrival::NoLogin, Arrival::Denied)),
    }
}

/// What may reach the app at the callback of a provider whose login is the app's own exchange: a code, by whichever method,
/// or an error. An ID token with a code is a login (OIDC Core 3.3): an app may believe it without exchanging the code, and one
/// that finds no code does. The configuration sees to it that no other mode has this path.
fn read_relayed(providers: &[Arc<Provider>], fields: &ProtocolFields) -> Result<Arrival, CaptureRefusal> {
    let others =
        [Field::SamlResponse, Field::SamlArt, Field::AccessToken, Field::Response, Field::Credential, Field::WsResult];
    if let Some(field) = others.into_iter().find(|field| fields.has(*field)) {
        return Err(CaptureRefusal::OtherToken(field.name()));
    }
    match fields.value(Field::IdToken) {
        None | Some("") => Ok(fields.denial().map_or(Arrival::NoLogin, Arrival::Denied)),
        Some(_) if !fields.has_plain_code_beside(Field::IdToken) => Err(CaptureRefusal::TokenOnly),
        Some(token) => {
            let token = UntrustedIdToken::parse(token)?;
            let provider = choose_oidc(providers, &token)?;
            let token = UntrustedToken::IdToken { token, state: None, beside: Beside::default() };
            Ok(Arrival::Login(Captured { provider, token }))
        }
    }
}

fn saml_arrival(providers: &[Arc<Provider>], response: &str, max_document: usize) -> Result<Arrival, CaptureRefusal> {
    match saml::read(response, max_document)? {
        saml::Message::LogoutResponse => Ok(Arrival::NoLogin),
        saml::Message::Response(response) => {
            if let Some(denial) = response.denial() {
                return Ok(Arrival::Denied(denial.clone()));
            }
            let provider = providers
                .iter()
                .find(|provider| {
                    matches!(provider.protocol, Protocol::Saml(_)) && provider.issuer.as_str() == response.issuer()
                })
                .ok_or(CaptureRefusal::UnknownIssuer { for_client: "" })?;
            Ok(Arrival::Login(Captured {
                provider: Arc::clone(provider),
                token: UntrustedToken::SamlResponse(response),
            }))
        }
    }
}

fn choose_oidc(providers: &[Arc<Provider>], token: &UntrustedIdToken) -> Result<Arc<Provider>, CaptureRefusal> {
    providers
        .iter()
        .find(|provider| match &provider.protocol {
            Protocol::Oidc(policy) => {
                provider.issuer.as_str() == token.issuer() && token.names_audience(&policy.client_id)
            }
            Protocol::Saml(_) => false,
        })
        .cloned()
        .ok_or(CaptureRefusal::UnknownIssuer { for_client: " and client" })
}

/// The protocol fields of query and body together, and the shape rules of a callback message.
fn protocol_fields(message: CallbackMessage<'_>) -> Result<ProtocolFields, CaptureRefusal> {
    let mut fields = ProtocolFields::default();
    if let Some(query) = message.query {
        fields.read_query(query)?;
    }
    // GET, HEAD and OPTIONS have no body that an app would read; a body there is refused with the rest.
    let bodiless = matches!(*message.method, Method::GET | Method::HEAD | Method::OPTIONS);
    if bodiless && message.body.is_empty() {
        return Ok(fields);
    }
    if message.method != Method::POST {
        return Err(CaptureRefusal::Method(message.method.to_string()));
    }
    if message.encoded {
        return Err(CaptureRefusal::ContentEncoding);
    }
    let content_type = message.content_type.unwrap_or_default();
    if !media::is_form(content_type) {
        return Err(CaptureRefusal::ContentType(content_type.chars().take(100).collect()));
    }
    if media::looks_like_json(message.body) {
        return Err(CaptureRefusal::Form("it looks like JSON".into()));
    }
    fields.read_body(message.body)?;
    Ok(fields)
}
