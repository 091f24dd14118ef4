//! Logout, from both sides. It ends sessions; memberships stay until a lease or the next login.
//!
//! | who begins | how | what is checked |
//! |---|---|---|
//! | a person | the button of our sign-out page | the form comes from our own origin |
//! | an OIDC provider | `logout_token`, back channel | signature, issuer, audience, times, event, no nonce, not seen before |
//! | an OIDC provider | `sid` in an address, front channel, where the operator allows it | the `sid`, which only the provider and this session know |
//! | a SAML provider | LogoutRequest, by redirect or POST | signature, issuer, destination, times, not seen before |

use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderMap};

use super::saml::ServiceProvider;
use super::{Front, Outcome, OwnRequest, Party, Query, Way};
use crate::pipeline::capture::oidc::UntrustedIdToken;
use crate::pipeline::capture::saml::logout::{self as saml_logout, LogoutMessage, UntrustedLogout};
use crate::pipeline::ids::Timestamp;
use crate::pipeline::provider::{LONGEST_LEEWAY, LONGEST_MAX_AGE, Protocol, Provider};
use crate::pipeline::reading::media;
use crate::pipeline::verify::{self, LogoutStatement, Verified};
use crate::ports::keys::Published;
use crate::ports::sessions::{LoggedOut, Logout, Session};
use crate::serve::respond::{self, Link, OwnPage, Trouble};

/// How the sender of a request is related to this site (W3C Fetch Metadata Request Headers, section 2.4).
const SEC_FETCH_SITE: &str = "sec-fetch-site";

/// Bytes of a `sid` that comes by the front channel: a shorter one could be guessed.
const LEAST_SID: usize = 16;
const MOST_SID: usize = 512;

/// Front-channel logouts within a second, of all together: each writes, and any client may send them.
const MOST_A_SECOND: u32 = 50;

/// How many front-channel logouts there were in the current second.
#[derive(Debug, Default)]
pub struct Pace(std::sync::Mutex<(i64, u32)>);

impl Pace {
    fn allows(&self, now: Timestamp) -> bool {
        let mut pace = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if pace.0 != now.seconds() {
            *pace = (now.seconds(), 0);
        }
        pace.1 = pace.1.saturating_add(1);
        pace.1 <= MOST_A_SECOND
    }
}

impl Front {
    /// A page with a button: a link that signs people out could be planted anywhere.
    pub(super) async fn ask_sign_out(&self, request: &OwnRequest) -> Outcome {
        let mut unused = HeaderMap::new();
        let session = self.desk.peek(&request.jar).await.map_err(Trouble::Store)?;
        let Some(session) = session else {
            self.desk.clear(&mut unused);
            return Ok(respond::with_cookies(self.signed_out(), unused));
        };
        let text = match self.place_of_logout(&session).await {
            Some(_) => "This ends your session here, and asks the service that you signed in with to end its own.",
            None => "This ends your session here.",
        };
        Ok(respond::own_page(&OwnPage { title: "Sign out", text, button: Some("Sign out"), ..OwnPage::default() }))
    }

    pub(super) async fn sign_out(&self, request: &OwnRequest) -> Outcome {
        if !self.is_of_own_origin(&request.headers) {
            return Err(Trouble::Own("a sign-out that another site asks for").into());
        }
        let mut cookies = HeaderMap::new();
        let session = self.desk.end(&request.jar, &mut cookies).await.map_err(Trouble::Store)?;
        let onward = match session {
            Some(session) => {
                tracing::info!(id = %request.id, provider = %session.provider, "signed out");
                self.address_of_logout(&session).await
            }
            None => None,
        };
        let Some(onward) = onward else {
            return Ok(respond::redirect(&self.places.own.page("signed-out"), cookies));
        };
        // Browsers hold every redirect that follows a form to the page's policy, and where the provider goes on to is not
        // known here. So a page leads there, which needs no script.
        let link = Link { label: "Go on".into(), address: onward.clone() };
        let page = OwnPage {
            title: "Signed out",
            text: "You are signed out here. The service that you signed in with ends its own session next.",
            links: vec![link],
            onward: Some(&onward),
            ..OwnPage::default()
        };
        Ok(respond::with_cookies(respond::own_page(&page), cookies))
    }

    /// Whether a form was sent from a page of this site. Browsers say so themselves (Fetch Metadata, `Sec-Fetch-Site`); those
    /// that do not are asked for the page's origin (RFC 6454 section 7). Programs send neither, and hold no cookie that
    /// another site could use.
    fn is_of_own_origin(&self, headers: &HeaderMap) -> bool {
        match only(headers, SEC_FETCH_SITE) {
            Ok(Some(site)) => return site == b"same-origin",
            Ok(None) => {}
            Err(Several) => return false,
        }
        match only(headers, header::ORIGIN.as_str()) {
            Ok(origin) => origin.is_none_or(|origin| origin == self.places.own.origin.as_bytes()),
            Err(Several) => false,
        }
    }

    /// The address at which the provider ends its own session, without what one session needs.
    async fn place_of_logout(&self, session: &Session) -> Option<String> {
        let party = self.logins.party(&session.provider)?;
        let published = self.logins.services.keys.current(&session.provider).await.ok()?;
        match &party.way {
            Way::Oidc(_) => published.offered.end_session.clone(),
            Way::Saml(sp) if sp.signs() => published.offered.slo.as_ref().map(|slo| slo.requests.clone()),
            Way::Saml(_) => None,
        }
    }

    async fn address_of_logout(&self, session: &Session) -> Option<String> {
        let party = self.logins.party(&session.provider)?;
        let place = self.place_of_logout(session).await?;
        match &party.way {
            // OpenID Connect RP-Initiated Logout 1.0 section 2.
            Way::Oidc(client) => {
                let mut url = url::Url::parse(&place).ok()?;
                let signed_out = self.places.own.page("signed-out");
                url.query_pairs_mut()
                    .append_pair("client_id", client.client_id())
                    .append_pair(client.end_session_return(), &signed_out);
                if let Some(hint) = self.desk.hint(session) {
                    url.query_pairs_mut().append_pair("id_token_hint", &hint);
                }
                Some(url.into())
            }
            Way::Saml(sp) => {
                let now = self.logins.services.clock.now();
                sp.logout_request(&party.provider, &place, &session.at_provider, now).ok()
            }
        }
    }

    /// OpenID Connect Back-Channel Logout 1.0 section 2.5 and 2.8.
    pub(super) async fn backchannel_logout(&self, request: &OwnRequest) -> Outcome {
        let token = logout_token(&request.headers, &request.body).ok_or(Trouble::Logout("no `logout_token`".into()))?;
        match self.end_by_token(&token).await {
            Ok(LoggedOut::Ended(sessions)) => {
                tracing::info!(id = %request.id, sessions, "the provider ended sessions");
                Ok(respond::empty())
            }
            Ok(LoggedOut::Replay) => Err(Trouble::Logout("this logout token was used before".into()).into()),
            Err(trouble) => Err(trouble.into()),
        }
    }

    /// OpenID Connect Front-Channel Logout 1.0 section 2. The browser loads this in a frame of the provider's page, where no cookie of
    /// ours comes along, so that the session is found by its `sid`. Nothing is signed: a client that knows a `sid` may end its session,
    /// and nothing else.
    pub(super) async fn frontchannel_logout(&self, request: &OwnRequest) -> Outcome {
        let query = Query::read(request.query.as_deref(), &["iss", "sid"])?;
        let takes = |party: &&Party| {
            matches!(&party.way, Way::Oidc(client) if client.is_ended_by_front_channel())
                && query.value("iss").is_none_or(|issuer| party.provider.issuer.as_str() == issuer)
        };
        let meant: Vec<&Party> = self.logins.parties.iter().filter(takes).collect();
        let Some(first) = meant.first() else { return Err(Trouble::NoSuchPage.into()) };
        let sid = query.value("sid").filter(|sid| (LEAST_SID..=MOST_SID).contains(&sid.len()));
        let sid = sid.ok_or(Trouble::Logout("a front-channel logout without a `sid` of 16 letters or more".into()))?;
        let now = self.logins.services.clock.now();
        if !self.lasting.frontchannel.allows(now) {
            return Err(Trouble::TooManyRequests.into());
        }
        let logout = Logout {
            providers: meant.iter().map(|party| party.provider.name.clone()).collect(),
            issuer: first.provider.issuer.to_string(),
            // A repetition does no harm, and what strangers send must not stay in the store.
            token: format!("front {}", request.id),
            remember_until: now,
            subject: None,
            sessions: vec![sid.to_owned()],
        };
        let ended = self.desk.log_out(logout).await.map_err(Trouble::Store)?;
        if let LoggedOut::Ended(sessions) = ended
            && sessions > 0
        {
            tracing::info!(id = %request.id, sessions, "the provider ended sessions by the front channel");
        }
        Ok(respond::framed())
    }

    /// Verifies a logout token and ends what it names.
    ///
    /// # Errors
    /// When it is not believed, or the store cannot be asked. Nothing has ended then.
    pub async fn end_by_token(&self, token: &str) -> Result<LoggedOut, Trouble> {
        let refused = |why: &dyn std::fmt::Display| Trouble::Logout(why.to_string());
        let token = UntrustedIdToken::parse_logout(token).map_err(|error| refused(&error))?;
        let meant = |provider: &&Arc<Provider>| match &provider.protocol {
            Protocol::Oidc(policy) => {
                provider.issuer.as_str() == token.issuer() && token.names_audience(&policy.client_id)
            }
            Protocol::Saml(_) => false,
        };
        let now = self.logins.services.clock.now();
        let mut heard = Heard::default();
        for provider in self.providers.iter().filter(meant) {
            let published = self.keys_of(provider).await?;
            let verdict = match verify::logout_token(provider, &token, &published.keys, now) {
                Err(fault) if fault.is_of_key() => {
                    let again =
                        self.logins.services.keys.look_again(&provider.name).await.map_err(|error| refused(&error))?;
                    verify::logout_token(provider, &token, &again.keys, now)
                }
                verdict => verdict,
            };
            heard.note(verdict);
        }
        let believed = heard.believed("no provider of ours has this issuer and client")?;
        self.end(&believed, now).await
    }

    /// Ends what the providers have said: one message, believed for each of them. An issuer that is captured in several ways
    /// does not say which of them it means, and what it ends of a person is ended in all.
    async fn end(&self, believed: &[Verified<LogoutStatement>], now: Timestamp) -> Result<LoggedOut, Trouble> {
        let providers = believed.iter().map(|statement| statement.get().provider.clone()).collect();
        let Some(statement) = believed.first().map(Verified::get) else { return Ok(LoggedOut::Ended(0)) };
        let logout = Logout {
            providers,
            issuer: statement.issuer.to_string(),
            token: statement.token_id.clone(),
            remember_until: now.plus(LONGEST_MAX_AGE).plus(LONGEST_LEEWAY),
            subject: statement.subject.clone(),
            sessions: statement.sessions.clone(),
        };
        self.desk.log_out(logout).await.map_err(Trouble::Store)
    }

    async fn keys_of(&self, provider: &Provider) -> Result<Arc<Published>, Trouble> {
        let keys = self.logins.services.keys.current(&provider.name).await;
        keys.map_err(|error| Trouble::Provider { provider: provider.name.clone(), why: error.to_string() })
    }

    /// SAML Profiles section 4.4: a request of the provider's, or its answer to ours.
    pub(super) async fn single_logout(&self, request: &OwnRequest) -> Outcome {
        let (message, relay_state) = self.logout_message(request)?;
        // The provider's answer to our own request is not signed by all of them, and ends nothing: our session ended before
        // we asked. What the page says comes from the store.
        let LogoutMessage::Request(untrusted) = message else { return self.say_whether_signed_out(request).await };
        let untrusted = Arc::new(untrusted);
        let place = self.places.own.page("slo");
        let ended = match self.end_by_request(&untrusted, vec![place]).await? {
            LoggedOut::Ended(0) => {
                tracing::info!(id = %request.id, "the provider ended a session that is not known here");
                false
            }
            LoggedOut::Ended(sessions) => {
                tracing::info!(id = %request.id, sessions, "the provider ended sessions");
                true
            }
            LoggedOut::Replay => return Err(Trouble::Logout("this logout request was used before".into()).into()),
        };
        let Some(address) = self.logout_answer(&untrusted, ended, relay_state.as_deref()).await else {
            return self.say_whether_signed_out(request).await;
        };
        // The request may have been about another person's session than this browser's.
        let mut cookies = HeaderMap::new();
        if self.desk.peek(&request.jar).await.map_err(Trouble::Store)?.is_none() {
            self.desk.clear(&mut cookies);
        }
        Ok(respond::redirect(&address, cookies))
    }

    /// A page that says whether this browser still has a session, and takes a cookie away that means nothing any more.
    async fn say_whether_signed_out(&self, request: &OwnRequest) -> Outcome {
        if self.desk.peek(&request.jar).await.map_err(Trouble::Store)?.is_some() {
            return Ok(respond::own_page(&OwnPage {
                title: "You are still signed in",
                text: "A logout message arrived, but it was for another session than yours in this browser.",
                links: vec![
                    Link { label: "Go on to the app".into(), address: self.start.clone() },
                    Link { label: "Sign out".into(), address: self.own_page("sign-out") },
                ],
                ..OwnPage::default()
            }));
        }
        let mut cookies = HeaderMap::new();
        self.desk.clear(&mut cookies);
        Ok(respond::with_cookies(self.signed_out(), cookies))
    }

    fn logout_message(&self, request: &OwnRequest) -> Result<(LogoutMessage, Option<String>), Trouble> {
        let refused = |error: crate::pipeline::capture::saml::GuardError| Trouble::Logout(error.to_string());
        let names = ["SAMLRequest", "SAMLResponse", "RelayState"];
        if request.body.is_empty() {
            let query = request.query.as_deref().unwrap_or_default();
            let message = saml_logout::read_redirect(query).map_err(refused)?;
            let relay_state = Query::read(Some(query), &names)?.value("RelayState").map(str::to_owned);
            return Ok((message, relay_state));
        }
        let form = form(&request.headers, &request.body).ok_or(Trouble::Logout("no form".into()))?;
        let form = Query::read(Some(form), &names)?;
        let field = match (form.value("SAMLRequest"), form.value("SAMLResponse")) {
            (Some(field), None) | (None, Some(field)) => field,
            _ => return Err(Trouble::Logout("not one SAML message".into())),
        };
        let message = saml_logout::read_post(field, self.limits.saml_document).map_err(refused)?;
        Ok((message, form.value("RelayState").map(str::to_owned)))
    }

    /// Verifies a LogoutRequest that is meant for one of these places, and ends what it names.
    ///
    /// # Errors
    /// When it is not believed, or the store cannot be asked. Nothing has ended then.
    pub async fn end_by_request(
        &self,
        request: &Arc<UntrustedLogout>,
        places: Vec<String>,
    ) -> Result<LoggedOut, Trouble> {
        let meant = |provider: &&Arc<Provider>| {
            matches!(provider.protocol, Protocol::Saml(_)) && provider.issuer.as_str() == request.issuer()
        };
        let now = self.logins.services.clock.now();
        let places: Arc<[String]> = places.into();
        let mut heard = Heard::default();
        for provider in self.providers.iter().filter(meant) {
            heard.note(self.hear(provider, request, &places, now).await?);
        }
        let believed = heard.believed("no provider of ours has this issuer")?;
        self.end(&believed, now).await
    }

    /// What one provider's keys make of a LogoutRequest.
    async fn hear(
        &self,
        provider: &Arc<Provider>,
        request: &Arc<UntrustedLogout>,
        places: &Arc<[String]>,
        now: Timestamp,
    ) -> Result<Result<Verified<LogoutStatement>, verify::Fault>, Trouble> {
        let published = self.keys_of(provider).await?;
        let (meant, request, places) = (Arc::clone(provider), Arc::clone(request), Arc::clone(places));
        let job = move || verify::logout_request(&meant, &request, &published.keys, &places, now);
        let verdict = crate::login::walk::aside(&self.logins.services.verifiers, job).await;
        verdict.ok_or(Trouble::Internal("verification has stopped"))
    }

    /// Where the browser takes our answer; `None` where the provider takes none by redirect, or we sign nothing.
    async fn logout_answer(&self, request: &UntrustedLogout, ended: bool, relay_state: Option<&str>) -> Option<String> {
        // An issuer may be a provider of ours by OIDC too, and several times by SAML.
        let (party, sp) = self.logins.parties.iter().find_map(|party| match &party.way {
            Way::Saml(sp) if party.provider.issuer.as_str() == request.issuer() && ServiceProvider::signs(sp) => {
                Some((party, sp))
            }
            _ => None,
        })?;
        let published = self.logins.services.keys.current(&party.provider.name).await.ok()?;
        let destination = &published.offered.slo.as_ref()?.responses;
        let now = self.logins.services.clock.now();
        sp.logout_response(&party.provider, destination, (request.id(), ended), relay_state, now).ok()
    }
}

/// A header that is there more than once.
struct Several;

/// The one value of a header.
fn only<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h [u8]>, Several> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => Ok(Some(value.as_bytes())),
        _ => Err(Several),
    }
}

/// What several providers' keys make of one message.
#[derive(Default)]
struct Heard {
    believed: Vec<Verified<LogoutStatement>>,
    fault: Option<verify::Fault>,
}

impl Heard {
    fn note(&mut self, verdict: Result<Verified<LogoutStatement>, verify::Fault>) {
        match verdict {
            Ok(statement) => self.believed.push(statement),
            Err(fault) => drop(self.fault.get_or_insert(fault)),
        }
    }

    /// At least one. `unasked`: the reason if no provider was asked at all.
    fn believed(self, unasked: &str) -> Result<Vec<Verified<LogoutStatement>>, Trouble> {
        match (self.believed.is_empty(), self.fault) {
            (false, _) => Ok(self.believed),
            (true, Some(fault)) => Err(Trouble::Logout(fault.to_string())),
            (true, None) => Err(Trouble::Logout(unasked.into())),
        }
    }
}

/// A body that is a form, as text.
pub fn form<'b>(headers: &HeaderMap, body: &'b Bytes) -> Option<&'b str> {
    let content_type = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let plain = media::is_form(content_type) && !headers.contains_key(header::CONTENT_ENCODING);
    plain.then(|| std::str::from_utf8(body).ok()).flatten()
}

/// The one `logout_token` of a form.
pub fn logout_token(headers: &HeaderMap, body: &Bytes) -> Option<String> {
    let form = Query::read(Some(form(headers, body)?), &["logout_token"]).ok()?;
    form.value("logout_token").map(str::to_owned)
}

/// The one LogoutRequest of a form or, where there is no body, of a query.
pub fn logout_request(
    query: Option<&str>,
    headers: &HeaderMap,
    body: &Bytes,
    max_document: usize,
) -> Option<UntrustedLogout> {
    let message = if body.is_empty() {
        saml_logout::read_redirect(query?).ok()?
    } else {
        let form = Query::read(Some(form(headers, body)?), &["SAMLRequest"]).ok()?;
        saml_logout::read_post(form.value("SAMLRequest")?, max_document).ok()?
    };
    match message {
        LogoutMessage::Request(request) => Some(request),
        LogoutMessage::Response => None,
    }
}
