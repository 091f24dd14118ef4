//! Sending a browser to a provider, and taking its answer: what the app's sign-in and the console's share.
//!
//! ```text
//! leave      to the provider, with a sealed cookie that remembers what for
//! answered   the provider's answer: a committed login, or why there is none
//! ```
//!
//! What a login opens is for the caller: a session of the app, or one of the console.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use http::header::HeaderMap;

use super::goals::Goal;
use super::logout::form;
use super::pending::{self, Asked, Kept, Pending};
use super::{Outcome, OwnRequest, Party, Query, Way};
use crate::config::Config;
use crate::login::walk::Message;
use crate::login::{self, Attempt, Entered, Reason, Services};
use crate::pipeline::capture::denial::Denial;
use crate::pipeline::capture::oidc::UntrustedIdToken;
use crate::pipeline::ids::ProviderName;
use crate::pipeline::provider::Mode;
use crate::pipeline::verify::{Fault, Origin, RememberedRequest};
use crate::ports::keys::Published;
use crate::ports::token_endpoint::{ExchangeError, Tokens};
use crate::serve::respond::{self, Trouble};

/// Characters of a code that are handed on; providers' codes have a few hundred.
const MOST_CODE: usize = 4096;

/// The providers with which we log people in, and what that takes.
pub struct OwnLogins {
    pub(super) services: Services,
    pub(super) pending: pending::Cookies,
    pub(super) parties: Vec<Party>,
    timeout: Duration,
}

/// The outcome of the answer to an authorization request.
pub struct Answered {
    pub outcome: Result<(Entered, Tokens), Trouble>,
    pub goal: Goal,
    /// To set in any case: this login is over.
    pub cookies: HeaderMap,
}

impl OwnLogins {
    pub fn new(config: &Config, services: Services, pending: pending::Cookies, parties: Vec<Party>) -> Self {
        Self { services, pending, parties, timeout: config.limits.login_timeout }
    }

    /// Sends the browser to a provider, with a cookie that remembers what for.
    pub(super) async fn leave(&self, party: &Party, goal: &Goal, hint: Option<&str>, request: &OwnRequest) -> Outcome {
        let published = self.published(&request.id, party).await?;
        let now = self.services.clock.now();
        let departure = match &party.way {
            Way::Oidc(client) => client.leave(&party.provider, &published, hint)?,
            Way::Saml(sp) => sp.leave(&party.provider, &published, now)?,
        };
        let mut cookies = HeaderMap::new();
        let pending = Pending { goal: goal.written(), ..departure.pending };
        if !self.pending.remember(&pending, &request.jar, now, &mut cookies) {
            return Err(Trouble::Own("a login that is too large for a cookie").into());
        }
        Ok(respond::redirect(&departure.address, cookies))
    }

    pub(super) async fn published(&self, id: &str, party: &Party) -> Result<Arc<Published>, Trouble> {
        let name = &party.provider.name;
        self.services.keys.current(name).await.map_err(|error| self.refused(id, Some(name), error.into()))
    }

    /// A login that is refused before the path of every login, or after it.
    pub(super) fn refused(&self, id: &str, provider: Option<&ProviderName>, reason: Reason) -> Trouble {
        Trouble::Login(self.services.refuse_early(id, Mode::RelyingParty, provider, reason))
    }

    /// What began in another browser, or too long ago.
    pub(super) fn not_begun_here(&self, id: &str, provider: Option<&ProviderName>) -> Trouble {
        let reason = Reason::Verify(Fault::Binding("no login of ours with this state is remembered by it"));
        self.refused(id, provider, reason)
    }

    pub(super) fn party(&self, provider: &ProviderName) -> Option<&Party> {
        self.parties.iter().find(|party| party.provider.name == *provider)
    }

    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The answer to an authorization request (RFC 6749 section 4.1.2); `None` where no login of this browser waits for it.
    ///
    /// # Errors
    /// When it cannot be read in one way.
    pub async fn answered(&self, request: &OwnRequest) -> Result<Option<Answered>, Trouble> {
        let text = match request.method == Method::POST {
            true => Some(form(&request.headers, &request.body).ok_or(Trouble::Own("an answer that is not a form"))?),
            false => request.query.as_deref(),
        };
        let query = Query::read(text, &["state", "code", "error", "error_description", "iss"])?;
        let state = query.value("state").ok_or(Trouble::Own("an answer without `state`"))?;
        let now = self.services.clock.now();
        let kept = self.pending.open(&request.jar, now).into_iter().find(|kept| kept.pending.state == state);
        let Some(kept) = kept else { return Ok(None) };
        // Whatever comes of it, this login is over.
        let mut cookies = HeaderMap::new();
        self.pending.forget(&kept.cookie, &mut cookies);
        let outcome = self.redeem(request, &query, &kept).await;
        Ok(Some(Answered { outcome, goal: Goal::read(&kept.pending.goal), cookies }))
    }

    /// From the provider's answer to a committed login.
    async fn redeem(&self, request: &OwnRequest, query: &Query, kept: &Kept) -> Result<(Entered, Tokens), Trouble> {
        let pending = &kept.pending;
        let provider = &pending.provider;
        let elsewhere = || self.not_begun_here(&request.id, Some(provider));
        let party = self.party(provider).ok_or_else(elsewhere)?;
        let (Way::Oidc(client), Asked::Oidc { nonce, verifier }) = (&party.way, &pending.request) else {
            return Err(elsewhere());
        };
        if client.takes_forms() != (request.method == Method::POST) {
            return Err(Trouble::Own("an answer by another `response_mode` than was asked for"));
        }
        let published = self.published(&request.id, party).await?;
        check_issuer(query.value("iss"), party, &published)?;
        if let Some(error) = query.value("error") {
            let denial = Denial::new(error, query.value("error_description"));
            return Err(self.refused(&request.id, Some(provider), Reason::Denied(Box::new(denial))));
        }
        let code = query.value("code").filter(|code| code.len() <= MOST_CODE);
        let code = code.ok_or(Trouble::Own("an answer without a `code` that is one"))?;
        let exchanged = client.exchange(&self.services, code, verifier).await;
        let mut tokens = exchanged.map_err(|error| self.not_exchanged(&request.id, party, error))?;
        let no_token =
            || Trouble::Provider { provider: provider.clone(), why: "its token endpoint gave no ID token".into() };
        let token = tokens.id_token.clone().ok_or_else(no_token)?;
        let state = Some(pending.state.clone());
        let asked = RememberedRequest::Oidc { state: state.clone(), nonce: Some(nonce.clone()) };
        let origin = Origin::Asked { request: asked, access_token: tokens.access_token.take() };
        let entered = self.log_in(request.id.clone(), party, &token, state, origin).await?;
        Ok((entered, tokens))
    }

    fn not_exchanged(&self, id: &str, party: &Party, error: ExchangeError) -> Trouble {
        let provider = &party.provider.name;
        match error {
            // The code was used before, has expired, or was never meant for us.
            ExchangeError::Refused(denial) if denial.label() == "invalid_grant" => {
                self.refused(id, Some(provider), Reason::Denied(Box::new(denial)))
            }
            error => Trouble::Provider { provider: provider.clone(), why: error.to_string() },
        }
    }

    /// The path of every login, with an ID token that the token endpoint gave.
    pub(super) async fn log_in(
        &self,
        id: String,
        party: &Party,
        token: &str,
        state: Option<String>,
        origin: Origin,
    ) -> Result<Entered, Trouble> {
        let message = Message::Answer { provider: &party.provider, token: UntrustedIdToken::parse(token), state };
        let captured = login::capture_answer(&self.services, &id, message).map_err(Trouble::Login)?;
        let captured = captured.ok_or(Trouble::Own("an answer without an ID token"))?;
        let attempt = Attempt { id, captured, origin, timeout: self.timeout() };
        Box::pin(login::enter(&self.services, attempt)).await.map_err(Trouble::Login)
    }
}

/// RFC 9207: an answer of another provider is not for this one, whatever its state.
fn check_issuer(named: Option<&str>, party: &Party, published: &Published) -> Result<(), Trouble> {
    match named {
        Some(issuer) if issuer == party.provider.issuer.as_str() => Ok(()),
        None if !published.offered.names_issuer => Ok(()),
        _ => Err(Trouble::Own("an answer of another issuer than the one that was asked")),
    }
}
