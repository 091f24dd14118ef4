//! What an operator has in hand, read as the login that it was taken from would read it.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use serde_json::{Map, Value};

use crate::login::walk::{self, Message};
use crate::pipeline::capture::bearer::{self, BearerFault, Borne};
use crate::pipeline::capture::denial::Denial;
use crate::pipeline::capture::fields::ProtocolFields;
use crate::pipeline::capture::oidc::{AccessToken, UntrustedIdToken};
use crate::pipeline::capture::relay::{ReplyFault, TokenReply, read_reply};
use crate::pipeline::capture::{Arrival, CallbackMessage, CaptureRefusal, Captured, UntrustedToken};
use crate::pipeline::explain::dry::WrittenClaims;
use crate::pipeline::number;
use crate::pipeline::provider::Form;
use crate::pipeline::provider::{Mode, Protocol, Provider};

/// What is to be explained.
#[derive(Debug)]
pub struct Input {
    /// Its name in a report.
    pub(super) kind: &'static str,
    pub(super) what: What,
}

#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "made once and taken apart at once")]
pub(super) enum What {
    Login {
        captured: Captured,
        /// What came with it.
        access_token: Option<AccessToken>,
    },
    /// A login would be refused before any signature is looked at.
    Refused(String),
    /// There is no login in it.
    NoLogin,
    /// The provider's answer that there is none.
    Denied(Denial),
    Claims(WrittenClaims),
}

/// Why a text cannot be explained.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InputError {
    #[error(transparent)]
    Capture(#[from] CaptureRefusal),
    #[error("the claims are not a JSON object: {0}")]
    Claims(String),
    #[error("an authorization code, of which only the provider's token endpoint makes a token; expected that token")]
    Code,
    #[error("a token that no header can carry")]
    Header,
    #[error("more than one token; expected one")]
    Several,
}

impl Input {
    /// Claims that an operator wrote down.
    pub fn claims(claims: Map<String, Value>) -> Self {
        Self { kind: "claims", what: What::Claims(WrittenClaims(claims)) }
    }

    /// Reads what an operator has captured: a JWT, or the header or query that bears one; a SAML response as XML or base64; the
    /// form body, or the token endpoint's JSON answer, that carries one of them; or a JSON object of claims.
    ///
    /// # Errors
    /// When the text is none of these for the provider's protocol.
    pub fn read(text: &str, provider: &Arc<Provider>, max_document: usize) -> Result<Self, InputError> {
        let text = text.trim_start_matches('\u{feff}').trim();
        let kind = kind(provider);
        let what = match &provider.protocol {
            _ if text.starts_with('{') => return of_json(text, provider),
            Protocol::Oidc(policy) if let Some(rules) = &policy.bearer => borne(text, provider, rules.form)?,
            _ if !text.starts_with('<') && is_form(text) => posted(text, provider, max_document)?,
            Protocol::Oidc(_) => answered(text, provider, None)?,
            Protocol::Saml(_) => response(text, provider, max_document)?,
        };
        Ok(Self { kind, what })
    }

    /// The key that a token says it is signed with.
    pub fn key_id(&self) -> Option<&str> {
        match &self.what {
            What::Login { captured, .. } => match &captured.token {
                UntrustedToken::IdToken { token, .. } | UntrustedToken::Presented(token) => {
                    token.header().key_id.as_deref()
                }
                UntrustedToken::SamlResponse(_) => None,
            },
            _ => None,
        }
    }

    /// Whether keys are of any use.
    pub fn is_signed(&self) -> bool {
        matches!(self.what, What::Login { .. })
    }
}

fn kind(provider: &Provider) -> &'static str {
    match (&provider.protocol, provider.mode) {
        (Protocol::Oidc(_), Mode::Bearer) => "bearer token",
        (Protocol::Oidc(_), _) => "ID token",
        (Protocol::Saml(_), _) => "SAML response",
    }
}

/// Whether a text is the body or query of a message that a login may look at.
fn is_form(text: &str) -> bool {
    let mut fields = ProtocolFields::default();
    fields.read_body(text.as_bytes()).is_err() || !fields.is_empty()
}

/// A form, as a browser posts it to a callback.
fn posted(form: &str, provider: &Arc<Provider>, max_document: usize) -> Result<What, InputError> {
    let message = CallbackMessage {
        method: &Method::POST,
        query: None,
        content_type: Some("application/x-www-form-urlencoded"),
        encoded: false,
        body: form.as_bytes(),
    };
    let providers = std::slice::from_ref(provider);
    match walk::capture(Message::Callback { providers, message, max_document }) {
        Ok(Arrival::Login(captured)) => Ok(What::Login { captured, access_token: None }),
        Ok(Arrival::NoLogin) => Ok(What::NoLogin),
        Ok(Arrival::Denied(denial)) => Ok(What::Denied(denial)),
        // What this mode takes to its token endpoint.
        Err(CaptureRefusal::CodeOnly) if provider.mode == Mode::RelyingParty => Err(InputError::Code),
        Err(refusal) => Ok(What::Refused(refusal.to_string())),
    }
}

/// A SAML response by itself: XML, base64, or the form field as it was sent.
fn response(text: &str, provider: &Arc<Provider>, max_document: usize) -> Result<What, InputError> {
    let field = match (text.starts_with('<'), text.contains('%')) {
        (true, _) => STANDARD.encode(text),
        (false, true) => percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned(),
        (false, false) => text.to_owned(),
    };
    let form = form_urlencoded::Serializer::new(String::new()).append_pair("SAMLResponse", &field).finish();
    let message = CallbackMessage {
        method: &Method::POST,
        query: None,
        content_type: Some("application/x-www-form-urlencoded"),
        encoded: false,
        body: form.as_bytes(),
    };
    let providers = std::slice::from_ref(provider);
    match walk::capture(Message::Callback { providers, message, max_document }) {
        Ok(Arrival::Login(captured)) => Ok(What::Login { captured, access_token: None }),
        Ok(Arrival::NoLogin) => Ok(What::NoLogin),
        Ok(Arrival::Denied(denial)) => Ok(What::Denied(denial)),
        Err(refusal @ CaptureRefusal::UnknownIssuer { .. }) => Ok(What::Refused(refusal.to_string())),
        Err(refusal) => Err(refusal.into()),
    }
}

/// An ID token as a token endpoint answers it, or by itself.
fn answered(token: &str, provider: &Arc<Provider>, access_token: Option<AccessToken>) -> Result<What, InputError> {
    let message = Message::Answer { provider, token: UntrustedIdToken::parse(token), state: None };
    Ok(match walk::capture(message)? {
        Arrival::Login(captured) => What::Login { captured, access_token },
        Arrival::Denied(denial) => What::Denied(denial),
        Arrival::NoLogin => What::NoLogin,
    })
}

/// A token as a request bears it: the value of the header, with its scheme or without, or a query.
fn borne(text: &str, provider: &Arc<Provider>, form: Form) -> Result<What, InputError> {
    let name = form.rules().header;
    let mut headers = HeaderMap::new();
    let query = is_form(text).then_some(text);
    if query.is_none() {
        let line = text.split_once(':').filter(|(field, _)| field.trim().eq_ignore_ascii_case(name));
        let value = line.map_or(text, |(_, value)| value.trim());
        let value = match form {
            Form::Authorization if !value.contains([' ', '\t']) => format!("Bearer {value}"),
            _ => value.to_owned(),
        };
        let value = HeaderValue::try_from(value).map_err(|_| InputError::Header)?;
        headers.insert(HeaderName::from_static(name), value);
    }
    let borne = Borne { headers: &headers, query, form: None, cookies: &[] };
    let mut captured = match bearer::read(std::slice::from_ref(provider), borne) {
        Ok(captured) => captured,
        Err(BearerFault::Unreadable { why, .. }) => return Err(CaptureRefusal::IdToken(why).into()),
        Err(fault) => return Ok(What::Refused(fault.to_string())),
    };
    match (captured.pop(), captured.is_empty()) {
        (Some(captured), true) => Ok(What::Login { captured, access_token: None }),
        (Some(_), false) => Err(InputError::Several),
        (None, _) => Ok(What::NoLogin),
    }
}

/// What a token endpoint answers (RFC 6749 section 5.1; OpenID Connect Core 1.0 section 3.1.3.3), or claims.
fn of_json(text: &str, provider: &Arc<Provider>) -> Result<Input, InputError> {
    let claims: Map<String, Value> = serde_json::from_slice(&number::kept(text.as_bytes()))
        .map_err(|error| InputError::Claims(error.to_string()))?;
    let token = |name: &str| claims.get(name).and_then(Value::as_str);
    let access_token = token("access_token").map(|token| AccessToken::new(token.to_owned()));
    let what = match (&provider.protocol, token("id_token")) {
        (Protocol::Oidc(policy), id_token) if let Some(rules) = &policy.bearer => {
            match token("access_token").or(id_token) {
                Some(token) => borne(token, provider, rules.form)?,
                None => return Ok(Input::claims(claims)),
            }
        }
        (Protocol::Oidc(_), Some(_)) if provider.mode == Mode::TokenRelay => relayed(text, provider)?,
        (Protocol::Oidc(_), Some(id_token)) => answered(id_token, provider, access_token)?,
        _ => return Ok(Input::claims(claims)),
    };
    Ok(Input { kind: kind(provider), what })
}

/// A token endpoint's answer on its way to the app.
fn relayed(text: &str, provider: &Arc<Provider>) -> Result<What, InputError> {
    let tokens = match read_reply(StatusCode::OK, &HeaderMap::new(), text.as_bytes()) {
        Ok(TokenReply::Tokens(tokens)) => tokens,
        Ok(TokenReply::Refusal(_)) => return Ok(What::NoLogin),
        Err(fault) => return Ok(What::Refused(fault.to_string())),
    };
    let client_id = match &provider.protocol {
        Protocol::Oidc(policy) => policy.client_id.as_str(),
        Protocol::Saml(_) => "",
    };
    if tokens.hides_login(provider, client_id) {
        return Ok(What::Refused(ReplyFault::Hidden.to_string()));
    }
    let Some(token) = tokens.id_token else { return Ok(What::NoLogin) };
    Ok(match walk::capture(Message::Answer { provider, token, state: None })? {
        Arrival::Login(captured) => What::Login { captured, access_token: tokens.access_token },
        Arrival::Denied(denial) => What::Denied(denial),
        Arrival::NoLogin => What::NoLogin,
    })
}
