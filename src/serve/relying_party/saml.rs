//! The SAML service provider that we are: requests by redirect, responses by POST (SAML Profiles section 4.1).

mod messages;
mod xml;

use std::io::Write as _;
use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::DeflateEncoder;
use http::Response;
use http::header::{self, HeaderMap};

use self::messages::{Envelope, Metadata, Subject};
use super::goals::Goal;
use super::pending::{Asked, Kept, Pending};
use super::target::target;
use super::{Departure, Front, Outcome, OwnRequest, Party, Query, Refusal, Way};
use crate::config::{PublicUrl, SpKey, rsa_key};
use crate::login::walk::Message;
use crate::login::{self, Attempt, Entered, Reason, Refused};
use crate::pipeline::capture::saml::names::RSA_SHA_256;
use crate::pipeline::capture::{CallbackMessage, Captured};
use crate::pipeline::ids::{ProviderName, Timestamp};
use crate::pipeline::provider::{Protocol, Provider};
use crate::pipeline::verify::{BindingVerdict, Origin, Remembered, RememberedRequest};
use crate::ports::keys::Published;
use crate::serve::cookies::random_text;
use crate::serve::respond::{self, Trouble};
use crate::serve::session::Beginning;

/// The service provider that we are at one identity provider.
pub struct ServiceProvider {
    key: Option<Signer>,
    acs: String,
    slo: String,
}

struct Signer {
    key: RsaKeyPair,
    certificate: Vec<u8>,
}

/// A message of the redirect binding.
#[derive(Clone, Copy)]
pub enum Kind {
    Request,
    Response,
}

impl ServiceProvider {
    pub fn new(key: Option<&SpKey>, own: &PublicUrl) -> Self {
        let signer =
            |key: &SpKey| Some(Signer { key: rsa_key(key.key.expose())?, certificate: key.certificate.clone() });
        Self { key: key.and_then(signer), acs: own.page("acs"), slo: own.page("slo") }
    }

    pub fn signs(&self) -> bool {
        self.key.is_some()
    }

    /// An AuthnRequest (SAML Core section 3.4.1), signed where there is a key.
    pub fn leave(&self, provider: &Provider, published: &Published, now: Timestamp) -> Result<Departure, Trouble> {
        let unusable = |why: &str| Trouble::Provider { provider: provider.name.clone(), why: why.to_owned() };
        let sso = published.offered.sso.as_deref();
        let sso = sso.ok_or_else(|| unusable("its metadata has no redirect `SingleSignOnService`"))?;
        let (id, state) = (fresh_id()?, fresh_text()?);
        let envelope = Envelope { id: &id, now, destination: sso, issuer: entity_id(provider) };
        let request = messages::authn_request(&envelope, &self.acs);
        let address = self.redirect(sso, Kind::Request, &request, Some(&state))?;
        let request = Asked::Saml { request_id: id };
        let pending = Pending { provider: provider.name.clone(), state, request, goal: String::new() };
        Ok(Departure { address, pending })
    }

    /// The address that carries a message (SAML Bindings section 3.4.4.1).
    pub fn redirect(
        &self,
        destination: &str,
        kind: Kind,
        message: &str,
        relay_state: Option<&str>,
    ) -> Result<String, Trouble> {
        let mut deflated = DeflateEncoder::new(Vec::new(), Compression::default());
        let packed = deflated.write_all(message.as_bytes()).and_then(|()| deflated.finish());
        let packed = packed.map_err(|_| Trouble::Own("a message that cannot be packed"))?;
        let mut query = form_urlencoded::Serializer::new(String::new());
        let name = match kind {
            Kind::Request => "SAMLRequest",
            Kind::Response => "SAMLResponse",
        };
        query.append_pair(name, &STANDARD.encode(packed));
        if let Some(relay_state) = relay_state {
            query.append_pair("RelayState", relay_state);
        }
        if let Some(signer) = &self.key {
            query.append_pair("SigAlg", RSA_SHA_256);
            let mut signed = query.finish();
            let mut value = vec![0; signer.key.public_modulus_len()];
            let random = SystemRandom::new();
            signer
                .key
                .sign(&RSA_PKCS1_SHA256, &random, signed.as_bytes(), &mut value)
                .map_err(|_| Trouble::Internal("our own key does not sign"))?;
            let value: String = form_urlencoded::byte_serialize(STANDARD.encode(value).as_bytes()).collect();
            signed.push_str("&Signature=");
            signed.push_str(&value);
            return Ok(joined(destination, &signed));
        }
        Ok(joined(destination, &query.finish()))
    }

    /// Ends a session at the provider (SAML Core section 3.7.1).
    pub fn logout_request(
        &self,
        provider: &Provider,
        destination: &str,
        session: &crate::ports::sessions::AtProvider,
        now: Timestamp,
    ) -> Result<String, Trouble> {
        let envelope = Envelope { id: &fresh_id()?, now, destination, issuer: entity_id(provider) };
        let subject = Subject {
            name: &session.subject,
            format: session.name_format.as_deref(),
            name_qualifier: session.name_qualifier.as_deref(),
            sp_name_qualifier: session.sp_name_qualifier.as_deref(),
            session: session.session.as_deref(),
        };
        let request = messages::logout_request(&envelope, &subject);
        self.redirect(destination, Kind::Request, &request, None)
    }

    /// Says that a session has ended here (SAML Core section 3.7.2).
    pub fn logout_response(
        &self,
        provider: &Provider,
        destination: &str,
        (answers, ended): (&str, bool),
        relay_state: Option<&str>,
        now: Timestamp,
    ) -> Result<String, Trouble> {
        let envelope = Envelope { id: &fresh_id()?, now, destination, issuer: entity_id(provider) };
        let response = messages::logout_response(&envelope, answers, ended);
        self.redirect(destination, Kind::Response, &response, relay_state)
    }

    /// What an identity provider wants to know of us (SAML Metadata section 2.4.4).
    fn metadata(&self, provider: &Provider) -> String {
        let signs = self.key.as_ref().map(|signer| (self.slo.as_str(), signer.certificate.as_slice()));
        messages::metadata(&Metadata { entity_id: entity_id(provider), acs: &self.acs, signs })
    }
}

/// Our own name at a provider.
fn entity_id(provider: &Provider) -> &str {
    match &provider.protocol {
        Protocol::Saml(policy) => &policy.audience,
        Protocol::Oidc(policy) => &policy.client_id,
    }
}

fn joined(destination: &str, query: &str) -> String {
    let separator = if destination.contains('?') { '&' } else { '?' };
    format!("{destination}{separator}{query}")
}

fn fresh_text() -> Result<String, Trouble> {
    random_text().ok_or_else(|| Trouble::Internal("the operating system returned no random bytes"))
}

/// An XML name, so it does not begin with a digit.
fn fresh_id() -> Result<String, Trouble> {
    fresh_text().map(|text| format!("_{text}"))
}

impl Front {
    /// A response that a browser posts (SAML Bindings section 3.5).
    pub(super) async fn acs(&self, request: &OwnRequest) -> Outcome {
        let now = self.logins.services.clock.now();
        let kept = self.logins.pending.open(&request.jar, now);
        let captured = self.captured(request)?;
        let name = captured.provider.name.clone();
        let form = std::str::from_utf8(&request.body).map_err(|_| Trouble::Own("a form that is not UTF-8"))?;
        let form = Query::read(Some(form), &["RelayState"])?;
        let Some((origin, known)) = origin_of(&captured, form.value("RelayState"), kept) else {
            return self.not_waiting(request, Some(&name)).await;
        };
        let mut cookies = HeaderMap::new();
        let attempt = Attempt { id: request.id.clone(), captured, origin, timeout: self.logins.timeout() };
        let entered = Box::pin(login::enter(&self.logins.services, attempt)).await;
        let matched = match &entered {
            Ok(entered) => matched(entered).and_then(|index| known.get(index)),
            Err(_) => None,
        };
        if let Some(kept) = matched {
            self.logins.pending.forget(&kept.cookie, &mut cookies);
        }
        match entered {
            Ok(entered) => {
                // A provider that begins a login may say where to go (SAML Bindings section 3.5.3).
                let named = || form.value("RelayState").and_then(|text| target(text, &self.places));
                let goal = matched.map(|kept| Goal::read(&kept.pending.goal)).or_else(|| named().map(Goal::Place));
                let goal = goal.unwrap_or_else(|| Goal::Place(self.start.clone()));
                self.enter(request, &entered, Beginning::default(), &goal, cookies).await
            }
            Err(refused) if self.is_back(&refused, &name, request).await => {
                Ok(respond::redirect(&self.start, HeaderMap::new()))
            }
            Err(refused) => Err(Box::new(Refusal { trouble: Trouble::Login(refused), cookies })),
        }
    }

    /// Whether the same token has come again, to the browser that it began a session in.
    async fn is_back(&self, refused: &Refused, provider: &ProviderName, request: &OwnRequest) -> bool {
        match &refused.reason {
            Reason::Replay { token } => self.desk.began_with(&request.jar, provider, token).await,
            _ => false,
        }
    }

    fn captured(&self, request: &OwnRequest) -> Result<Captured, Trouble> {
        let providers: Vec<Arc<Provider>> = self
            .logins
            .parties
            .iter()
            .filter(|party| matches!(party.way, Way::Saml(_)))
            .map(|party| Arc::clone(&party.provider))
            .collect();
        let content_type = request.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let message = CallbackMessage {
            method: &request.method,
            query: request.query.as_deref(),
            content_type,
            encoded: request.headers.contains_key(header::CONTENT_ENCODING),
            body: &request.body,
        };
        let max_document = self.limits.saml_document;
        let message = Message::Callback { providers: &providers, message, max_document };
        let captured = login::capture_answer(&self.logins.services, &request.id, message).map_err(Trouble::Login)?;
        captured.ok_or(Trouble::Own("an answer without a SAML response"))
    }

    pub(super) fn metadata(&self, request: &OwnRequest) -> Outcome {
        let query = Query::read(request.query.as_deref(), &["provider"])?;
        let saml: Vec<(&Party, &ServiceProvider)> = self
            .logins
            .parties
            .iter()
            .filter_map(|party| match &party.way {
                Way::Saml(sp) => Some((party, sp)),
                Way::Oidc(_) => None,
            })
            .collect();
        let found = match (query.value("provider"), saml.as_slice()) {
            (Some(name), parties) => parties.iter().find(|(party, _)| party.provider.name.as_str() == name),
            (None, [only]) => Some(only),
            (None, _) => None,
        };
        let (party, sp) = found.ok_or(Trouble::NoSuchPage)?;
        Ok(metadata_page(sp.metadata(&party.provider)))
    }
}

/// To which of this browser's requests the response must be the answer. RelayState says which one; without it any of
/// them may be. `None` where it names none that waits here, unless the provider may begin logins itself.
fn origin_of(captured: &Captured, relay_state: Option<&str>, kept: Vec<Kept>) -> Option<(Origin, Vec<Kept>)> {
    let name = &captured.provider.name;
    let unsolicited = matches!(&captured.provider.protocol, Protocol::Saml(policy) if policy.allow_idp_initiated);
    let asked = |kept: &Kept| match &kept.pending.request {
        Asked::Saml { request_id } => Some(RememberedRequest::Saml { request_id: request_id.clone() }),
        Asked::Oidc { .. } => None,
    };
    let mut ours: Vec<Kept> =
        kept.into_iter().filter(|kept| kept.pending.provider == *name && asked(kept).is_some()).collect();
    if let Some(state) = relay_state {
        match ours.iter().position(|kept| kept.pending.state == state) {
            Some(at) => ours = vec![ours.swap_remove(at)],
            None if unsolicited => {}
            None => return None,
        }
        if let (Some(kept), false) = (ours.first(), unsolicited)
            && let Some(request) = asked(kept)
        {
            return Some((Origin::Asked { request, access_token: None }, ours));
        }
    }
    let remembered =
        ours.iter().filter_map(|kept| Some(Remembered { provider: name.clone(), request: asked(kept)? })).collect();
    Some((Origin::Watched(remembered), ours))
}

fn metadata_page(document: String) -> Response<Bytes> {
    respond::document(document, "application/samlmetadata+xml")
}

fn matched(entered: &Entered) -> Option<usize> {
    match entered.assertion.get().binding {
        BindingVerdict::Matched(index) => Some(index),
        _ => None,
    }
}
