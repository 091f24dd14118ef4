//! The OIDC code flow (OpenID Connect Core 1.0 section 3.1) as the relying party that we are, with PKCE always.

use openidconnect::core::{CoreAuthenticationFlow, CoreClient, CoreJsonWebKeySet};
use openidconnect::{AuthUrl, ClientId, CsrfToken, IssuerUrl, Nonce, PkceCodeChallenge, RedirectUrl, Scope};

use super::own_logins::Answered;
use super::pending::{Asked, Pending};
use super::{Departure, Front, Outcome, OwnRequest, Refusal};
use crate::config::{Authorization, ClientAuth, Endpoint, ProviderSettings};
use crate::login::Services;
use crate::pipeline::provider::{Protocol, Provider};
use crate::ports::keys::Published;
use crate::ports::token_endpoint::{ExchangeError, Grant, TokenClient, Tokens};
use crate::serve::respond::Trouble;
use crate::serve::session::Beginning;

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

    /// What is asked in addition to the protocol's parameters. The configuration cannot name one that we set.
    fn asked<'a>(&'a self, hint: Option<&'a str>) -> impl Iterator<Item = (&'a str, &'a str)> {
        let Authorization { parameters, forward_login_hint, form_post, .. } = &self.authorization;
        let is_hint = |hint: &&str| hint.chars().count() <= MOST_HINT && !hint.chars().any(char::is_control);
        let hint = hint.filter(|hint| *forward_login_hint && is_hint(hint)).map(|hint| ("login_hint", hint));
        let parameters = parameters.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let parameters = parameters.filter(move |(name, _)| hint.is_none() || *name != "login_hint");
        parameters.chain(hint).chain(form_post.then_some(("response_mode", "form_post")))
    }

    pub(super) async fn exchange(
        &self,
        services: &Services,
        code: &str,
        verifier: &str,
    ) -> Result<Tokens, ExchangeError> {
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
    /// The answer to an authorization request, for the app.
    pub(super) async fn callback(&self, request: &OwnRequest) -> Outcome {
        let Some(answered) = self.logins.answered(request).await? else { return self.not_waiting(request, None).await };
        let Answered { outcome, goal, cookies } = answered;
        match outcome {
            Ok((entered, tokens)) => {
                let refresh_token = tokens.refresh_token.as_ref().map(|token| token.as_str());
                let beginning = Beginning { app_cookie: None, refresh_token, id_token: tokens.id_token.as_deref() };
                self.enter(request, &entered, beginning, &goal, cookies).await
            }
            Err(trouble) => Err(Box::new(Refusal { trouble, cookies })),
        }
    }
}
