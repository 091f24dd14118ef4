//! The OIDC code flow (OpenID Connect Core 1.0 section 3.1) as the relying party that we are, with PKCE always.

use http::Method;
use http::header::HeaderMap;
use openidconnect::core::{CoreAuthenticationFlow, CoreClient, CoreJsonWebKeySet};
use openidconnect::{AuthUrl, ClientId, CsrfToken, IssuerUrl, Nonce, PkceCodeChallenge, RedirectUrl, Scope};

use super::goals::Goal;
use super::logout::form;
use super::pending::{Asked, Kept, Pending};
use super::{Departure, Front, Outcome, OwnRequest, Party, Query, Refusal, Way};
use crate::config::{Authorization, ClientAuth, Endpoint, ProviderSettings};
use crate::login::walk::Message;
use crate::login::{self, Attempt, Entered, Reason, Services};
use crate::pipeline::capture::denial::Denial;
use crate::pipeline::capture::oidc::UntrustedIdToken;
use crate::pipeline::provider::{Protocol, Provider};
use crate::pipeline::verify::{Origin, RememberedRequest};
use crate::ports::keys::Published;
use crate::ports::token_endpoint::{ExchangeError, Grant, TokenClient, Tokens};
use crate::serve::respond::Trouble;
use crate::serve::session::Beginning;

/// Characters of a code that are handed on; providers' codes have a few hundred.
const MOST_CODE: usize = 4096;
/// Bytes of randomness in state and nonce.
const RANDOM: u32 = 32;

/// The client that we are at one provider.
pub struct Client {
    token: TokenClient,
    scopes: Vec<Scope>,
    authorization: Authorization,
    redirect_uri: String,
}

/// Characters of a `login_hint` that is handed on: an address of a person, usually.
const MOST_HINT: usize = 256;

impl Client {
    pub fn new(
        settings: &ProviderSettings,
        auth: &ClientAuth,
        (scopes, authorization): (&[String], &Authorization),
        redirect_uri: String,
    ) -> Self {
        let client_id = match &settings.provider.protocol {
            Protocol::Oidc(policy) => policy.client_id.clone(),
            Protocol::Saml(_) => String::new(),
        };
        let token = TokenClient {
            provider: settings.provider.name.clone(),
            client_id,
            auth: auth.clone(),
            issuer: settings.provider.issuer.to_string(),
        };
        let scopes = scopes.iter().cloned().map(Scope::new).collect();
        Self { token, scopes, authorization: authorization.clone(), redirect_uri }
    }

    pub fn client_id(&self) -> &str {
        &self.token.client_id
    }

    /// The parameter that says where a browser goes after a sign-out.
    pub fn end_session_return(&self) -> &str {
        &self.authorization.end_session_return
    }

    pub fn is_ended_by_front_channel(&self) -> bool {
        self.authorization.frontchannel_logout
    }

    /// Whether the provider is asked to answer by a form.
    pub fn takes_forms(&self) -> bool {
        self.authorization.form_post
    }

    /// The authorization request: state, nonce and S256 are in every one.
    pub fn leave(&self, provider: &Provider, published: &Published, hint: Option<&str>) -> Result<Departure, Trouble> {
        let unusable = |why: &dyn std::fmt::Display| Trouble::Provider {
            provider: provider.name.clone(),
            why: format!("its authorization endpoint: {why}"),
        };
        let endpoint = published.offered.authorization.clone().ok_or_else(|| unusable(&"not published"))?;
        let issuer = IssuerUrl::new(provider.issuer.to_string()).map_err(|error| unusable(&error))?;
        let client =
            CoreClient::new(ClientId::new(self.token.client_id.clone()), issuer, CoreJsonWebKeySet::new(Vec::new()))
                .set_auth_uri(AuthUrl::new(endpoint).map_err(|error| unusable(&error))?)
                .set_redirect_uri(RedirectUrl::new(self.redirect_uri.clone()).map_err(|error| unusable(&error))?);
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let (state, nonce) = (|| CsrfToken::new_random_len(RANDOM), || Nonce::new_random_len(RANDOM));
        let request = client.authorize_url(CoreAuthenticationFlow::AuthorizationCode, state, nonce);
        let request = request.add_scopes(self.scopes.iter().cloned()).set_pkce_challenge(challenge);
        let (address, state, nonce) =
            self.asked(hint).fold(request, |request, (name, value)| request.add_extra_param(name, value)).url();
        let request = Asked::Oidc { nonce: nonce.secret().clone(), verifier: verifier.secret().clone() };
        let pending =
            Pending { provider: provider.name.clone(), state: state.secret().clone(), request, goal: String::new() };
        Ok(Departure { address: address.into(), pending })
    }

    /// What is asked beside the protocol's own. The configuration names no parameter that is ours.
    fn asked<'a>(&'a self, hint: Option<&'a str>) -> impl Iterator<Item = (&'a str, &'a str)> {
        let Authorization { parameters, forward_login_hint, form_post, .. } = &self.authorization;
        let is_hint = |hint: &&str| hint.chars().count() <= MOST_HINT && !hint.chars().any(char::is_control);
        let hint = hint.filter(|hint| *forward_login_hint && is_hint(hint)).map(|hint| ("login_hint", hint));
        let parameters = parameters.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let parameters = parameters.filter(move |(name, _)| hint.is_none() || *name != "login_hint");
        parameters.chain(hint).chain(form_post.then_some(("response_mode", "form_post")))
    }

    async fn exchange(&self, services: &Services, code: &str, verifier: &str) -> Result<Tokens, ExchangeError> {
        self.ask(services, Grant::Code { code, verifier, redirect_uri: &self.redirect_uri }).await
    }

    /// Asks with a refresh token.
    ///
    /// # Errors
    /// When the endpoint cannot be reached, refuses, or answers something else.
    pub async fn refresh(&self, services: &Services, token: &str) -> Result<Tokens, ExchangeError> {
        self.ask(services, Grant::Refresh(token)).await
    }

    async fn ask(&self, services: &Services, grant: Grant<'_>) -> Result<Tokens, ExchangeError> {
        let endpoint = || services.keys.endpoint(&self.token.provider, Endpoint::Token);
        let mut found = endpoint();
        if found.is_none() {
            // Just after a start the discovery document may still be on its way, and `current` waits for that.
            let _ = services.keys.current(&self.token.provider).await;
            found = endpoint();
        }
        self.token.ask(&*services.back_channel, found.as_deref(), grant, services.clock.now()).await
    }
}

impl Front {
    /// The answer to an authorization request (RFC 6749 section 4.1.2).
    pub(super) async fn callback(&self, request: &OwnRequest) -> Outcome {
        let text = match request.method == Method::POST {
            true => Some(form(&request.headers, &request.body).ok_or(Trouble::Own("an answer that is not a form"))?),
            false => request.query.as_deref(),
        };
        let query = Query::read(text, &["state", "code", "error", "error_description", "iss"])?;
        let state = query.value("state").ok_or(Trouble::Own("an answer without `state`"))?;
        let now = self.services.clock.now();
        let kept = self.pending.open(&request.jar, now).into_iter().find(|kept| kept.pending.state == state);
        let Some(kept) = kept else { return self.not_waiting(request, None).await };
        // Whatever comes of it, this login is over.
        let mut cookies = HeaderMap::new();
        self.pending.forget(&kept.cookie, &mut cookies);
        match self.redeem(request, &query, &kept).await {
            Ok((entered, tokens)) => {
                let refresh_token = tokens.refresh_token.as_ref().map(|token| token.as_str());
                let beginning = Beginning { app_cookie: None, refresh_token, id_token: tokens.id_token.as_deref() };
                self.enter(request, &entered, beginning, &Goal::read(&kept.pending.goal), cookies).await
            }
            Err(trouble) => Err(Box::new(Refusal { trouble, cookies })),
        }
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
