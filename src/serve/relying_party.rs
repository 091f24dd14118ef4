//! The login that we run for an app that has none: sign-in, the provider's answer, sign-out.
//!
//! ```text
//! /.loginsync/sign-in              sends the browser to a provider, or asks to which
//! /.loginsync/callback             takes an OIDC code, exchanges it, and goes the path of every login
//! /.loginsync/acs                  takes a SAML response, and goes the path of every login
//! /.loginsync/metadata             what a SAML provider wants to know of us
//! /.loginsync/sign-out             ends the session here, then at the provider
//! /.loginsync/signed-out           says so
//! /.loginsync/backchannel-logout   an OIDC provider ends sessions
//! /.loginsync/frontchannel-logout  an OIDC provider ends sessions by the browser
//! /.loginsync/slo                  a SAML provider ends sessions, or answers that it did
//! ```
//!
//! What a browser left with is in a sealed cookie ([`pending`]), so that an answer counts only in the browser that asked.

pub mod goals;
pub mod logout;
pub mod oidc;
pub mod operators;
pub mod own_logins;
pub mod pending;
pub mod renewal;
pub mod saml;
pub mod target;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::HeaderMap;
use http::{Method, Response};

use self::goals::{Goal, Goals, SHORT};
use self::own_logins::OwnLogins;
use self::pending::Pending;
use self::target::{Places, target};
use super::cookies::{Jar, Sealer};
use super::held::Client;
use super::respond::{self, Link, OwnPage, Trouble};
use super::session::{Beginning, Desk};
use crate::config::{Config, ProviderSettings, PublicUrl, RelyingParty, SameSite, WayIn};
use crate::login::{Entered, Services};
use crate::pipeline::ids::ProviderName;
use crate::pipeline::provider::Provider;

/// Everything that our own pages need.
pub struct Front {
    logins: OwnLogins,
    pub desk: Arc<Desk>,
    lasting: Arc<Lasting>,
    /// Every provider, since a logout may come from one whose logins the app runs itself.
    providers: Vec<Arc<Provider>>,
    places: Places,
    /// Where people go that were on their way to nowhere.
    start: String,
    limits: crate::config::Limits,
}

/// What outlives a reload.
#[derive(Debug, Default)]
pub struct Lasting {
    goals: Goals,
    /// Front-channel logouts, which any client may send.
    frontchannel: logout::Pace,
    /// Two configurations at once, before and after a reload, must not use one refresh token.
    renewing: renewal::Renewing,
}

impl Lasting {
    /// Waits until no renewal of a session is under way.
    pub async fn renewals_end(&self) {
        while self.renewing.is_under_way() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// One provider with which we log people in.
pub struct Party {
    provider: Arc<Provider>,
    title: String,
    way: Way,
}

enum Way {
    Oidc(Box<oidc::Client>),
    Saml(saml::ServiceProvider),
}

/// A request to one of our own pages, whole.
pub struct OwnRequest {
    pub id: String,
    /// Its name among our own pages.
    pub page: String,
    pub method: Method,
    pub query: Option<String>,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub jar: Jar,
    /// Who asks, for their share of what is held.
    pub client: Option<Client>,
}

/// Our answer; or why there is none, with the cookies to set with the refusal.
pub type Outcome = Result<Response<Bytes>, Box<Refusal>>;

/// A refusal, and what it changes in the browser.
pub struct Refusal {
    pub trouble: Trouble,
    pub cookies: HeaderMap,
}

impl From<Trouble> for Box<Refusal> {
    fn from(trouble: Trouble) -> Self {
        Box::new(Refusal { trouble, cookies: HeaderMap::new() })
    }
}

impl Front {
    pub fn new(config: &Config, services: Services, desk: Arc<Desk>, sealer: &Sealer, lasting: Arc<Lasting>) -> Self {
        let own = &config.public_url;
        let asked = config.sessions.forward_auth.as_ref();
        let others = asked.into_iter().flat_map(|asked| &asked.hosts).filter(|host| **host != own.host());
        let places = Places { own: own.clone(), others: others.map(|host| format!("https://{host}")).collect() };
        let parties = config.providers.iter().filter_map(|settings| Some((settings, settings.relying_party.as_ref()?)));
        let parties = parties.map(|(settings, party)| Party::new(settings, party, own));
        Self {
            logins: OwnLogins::new(config, services, pending::Cookies::new(sealer.clone(), "p-"), parties.collect()),
            desk,
            lasting,
            providers: config.providers.iter().map(|settings| Arc::clone(&settings.provider)).collect(),
            start: format!("{}{}", own.root(), config.app.start_page),
            places,
            limits: config.limits,
        }
    }

    /// Answers a request to one of our own pages.
    ///
    /// # Errors
    /// When there is no such page, or what it is asked for is refused.
    pub async fn answer(&self, request: &OwnRequest) -> Outcome {
        let (get, post) = (request.method == Method::GET, request.method == Method::POST);
        let read = get || request.method == Method::HEAD;
        let relies = !self.logins.parties.is_empty();
        match request.page.as_str() {
            "sign-in" if relies && read => self.sign_in(request).await,
            "callback" if relies && (get || (post && self.takes_forms())) => self.callback(request).await,
            "acs" if relies && post => self.acs(request).await,
            "acs" if relies && get => self.not_waiting(request, None).await,
            "metadata" if relies && read => self.metadata(request),
            "sign-out" if read => self.ask_sign_out(request).await,
            "sign-out" if post => self.sign_out(request).await,
            "signed-out" if read => Ok(self.signed_out()),
            "backchannel-logout" if post => self.backchannel_logout(request).await,
            "frontchannel-logout" if relies && read => self.frontchannel_logout(request).await,
            "slo" if read || post => self.single_logout(request).await,
            "callback" if relies && self.takes_forms() => Err(Trouble::Method("GET, POST").into()),
            "sign-in" | "callback" | "metadata" | "signed-out" | "frontchannel-logout" if relies => {
                Err(Trouble::Method("GET, HEAD").into())
            }
            "acs" if relies => Err(Trouble::Method("GET, POST").into()),
            "backchannel-logout" if relies => Err(Trouble::Method("POST").into()),
            "sign-out" | "slo" => Err(Trouble::Method("GET, HEAD, POST").into()),
            _ => Err(Trouble::NoSuchPage.into()),
        }
    }

    /// Whether the answer of some provider comes as a form.
    fn takes_forms(&self) -> bool {
        self.logins.parties.iter().any(|party| matches!(&party.way, Way::Oidc(client) if client.takes_forms()))
    }

    /// A page of the app as browsers ask for it. `target` is as it comes here.
    pub fn seen(&self, target: &str) -> String {
        format!("{}{target}", self.places.own.base)
    }

    /// Where a browser signs in that wants to see a page of the app. What is long is kept here rather than in the address, since many
    /// servers take and send no longer lines than the one that came.
    pub fn sign_in_address(&self, wanted: &str, client: Option<Client>) -> String {
        let query = match wanted.len() <= SHORT {
            true => ("rd", wanted.to_owned()),
            false => ("to", self.kept(wanted, client).unwrap_or_else(|| "lost".to_owned())),
        };
        let value: String = form_urlencoded::byte_serialize(query.1.as_bytes()).collect();
        format!("{}?{}={value}", self.places.own.page("sign-in"), query.0)
    }

    /// A ticket for an address that a cookie is too short for.
    fn kept(&self, wanted: &str, client: Option<Client>) -> Option<String> {
        let address = target(wanted, &self.places)?;
        self.lasting.goals.keep(address, client, self.logins.services.clock.now())
    }

    /// Where a browser goes that asks to sign in.
    fn goal(&self, query: &Query, request: &OwnRequest) -> Goal {
        let goal = match (query.value("to"), query.value("rd")) {
            (Some(ticket), _) if self.lasting.goals.find(ticket, self.logins.services.clock.now()).is_some() => {
                Goal::Kept(ticket.to_owned())
            }
            (Some(_), _) => Goal::Lost,
            (None, Some(text)) if text.len() > target::MOST => Goal::Lost,
            (None, Some(text)) => match target(text, &self.places) {
                Some(address) if address.len() <= SHORT => Goal::Place(address),
                Some(address) => {
                    let ticket = self.lasting.goals.keep(address, request.client, self.logins.services.clock.now());
                    ticket.map_or(Goal::Lost, Goal::Kept)
                }
                None => Goal::Place(self.start.clone()),
            },
            (None, None) => Goal::Place(self.start.clone()),
        };
        if goal == Goal::Lost {
            tracing::warn!(
                id = request.id,
                "the address to return to cannot be kept: it is over {} bytes, too many are kept, or this process does not \
                 know it (a restart, another replica); the login ends on a page that says so",
                target::MOST
            );
        }
        goal
    }

    /// The address of a goal; `None` where it is not known any more.
    fn address_of(&self, goal: &Goal) -> Option<String> {
        match goal {
            Goal::Place(address) => Some(address.clone()),
            Goal::Kept(ticket) => self.lasting.goals.find(ticket, self.logins.services.clock.now()),
            Goal::Lost => None,
        }
    }

    /// Sends a signed-in browser to its goal, or tells it that this is not known.
    fn onward(&self, id: &str, goal: &Goal, cookies: HeaderMap) -> Response<Bytes> {
        if let Some(address) = self.address_of(goal) {
            return respond::redirect(&address, cookies);
        }
        if let Goal::Kept(_) = goal {
            tracing::warn!(id, "the address to return to is not known any more (a restart, another replica)");
        }
        let page = OwnPage {
            title: "You are signed in",
            text: "The address that you came for could not be kept: it is too long, or the service was restarted meanwhile. Open \
                   it again, or go on to the first page.",
            links: vec![Link { label: "Go on to the app".into(), address: self.start.clone() }],
            ..OwnPage::default()
        };
        respond::with_cookies(respond::own_page(&page), cookies)
    }

    /// The same by a page. A redirect would go on with what the provider's site began, and a browser brings no `SameSite=Strict`
    /// cookie with that.
    fn onward_by_page(&self, id: &str, goal: &Goal, cookies: HeaderMap) -> Response<Bytes> {
        let Some(address) = self.address_of(goal) else { return self.onward(id, goal, cookies) };
        let link = Link { label: "Go on to the app".into(), address: address.clone() };
        let page = OwnPage {
            title: "You are signed in",
            text: "The app opens next.",
            links: vec![link],
            onward: Some(&address),
            ..OwnPage::default()
        };
        respond::with_cookies(respond::own_page(&page), cookies)
    }

    async fn sign_in(&self, request: &OwnRequest) -> Outcome {
        let query = Query::read(request.query.as_deref(), &["rd", "to", "provider", "login_hint"])?;
        let goal = self.goal(&query, request);
        // A browser with a live session is not shown the sign-in page.
        if self.desk.current(&request.jar, &request.headers).await.map_err(Trouble::Store)?.is_some() {
            return Ok(self.onward(&request.id, &goal, HeaderMap::new()));
        }
        let party = match (query.value("provider"), self.logins.parties.as_slice()) {
            (Some(name), parties) => parties.iter().find(|party| party.provider.name.as_str() == name),
            (None, [only]) => Some(only),
            (None, _) => None,
        };
        match party {
            Some(party) if !is_embedded_elsewhere(&request.headers) => {
                self.logins.leave(party, &goal, query.value("login_hint"), request).await
            }
            _ => Ok(self.choice(&goal, query.value("login_hint"))),
        }
    }

    /// The path of a page of ours, as browsers ask for it.
    fn own_page(&self, name: &str) -> String {
        let PublicUrl { base, own, .. } = &self.places.own;
        format!("{base}{own}{name}")
    }

    fn choice(&self, goal: &Goal, hint: Option<&str>) -> Response<Bytes> {
        let goal = match goal {
            Goal::Place(address) => ("rd", address.as_str()),
            Goal::Kept(ticket) => ("to", ticket.as_str()),
            Goal::Lost => ("to", "lost"),
        };
        let link = |party: &Party| {
            let mut query = form_urlencoded::Serializer::new(String::new());
            query.append_pair("provider", party.provider.name.as_str()).append_pair(goal.0, goal.1);
            if let Some(hint) = hint {
                query.append_pair("login_hint", hint);
            }
            Link { label: party.title.clone(), address: format!("{}?{}", self.own_page("sign-in"), query.finish()) }
        };
        let links = self.logins.parties.iter().map(link).collect();
        respond::own_page(&OwnPage { title: "Sign in", text: "Choose how.", links, ..OwnPage::default() })
    }

    /// Where a browser goes whose answer is of no login that it began and that still waits. One with a session reloads an answer, or
    /// goes back to it: it goes on to the app.
    async fn not_waiting(&self, request: &OwnRequest, provider: Option<&ProviderName>) -> Outcome {
        if self.desk.current(&request.jar, &request.headers).await.map_err(Trouble::Store)?.is_some() {
            return Ok(respond::redirect(&self.start, HeaderMap::new()));
        }
        // What a provider posts brings no session cookie (`SameSite=Lax`), and a reload repeats that: a browser asks again by GET.
        if request.method == Method::POST && is_navigation(&request.headers) {
            return Ok(respond::redirect(&self.places.own.page("acs"), HeaderMap::new()));
        }
        Err(self.logins.not_begun_here(&request.id, provider).into())
    }

    /// Begins the session of a login that is committed, and sends the browser on its way.
    async fn enter(
        &self,
        request: &OwnRequest,
        entered: &Entered,
        beginning: Beginning<'_>,
        goal: &Goal,
        mut cookies: HeaderMap,
    ) -> Outcome {
        let begun = self.desk.begin(&request.id, entered, beginning, &request.jar, &mut cookies).await;
        match begun {
            Ok(true) => {
                entered.delivered();
                let onward = match self.desk.settings().same_site {
                    SameSite::Strict => self.onward_by_page(&request.id, goal, cookies),
                    SameSite::Lax | SameSite::None => self.onward(&request.id, goal, cookies),
                };
                if let Goal::Kept(ticket) = goal {
                    self.lasting.goals.forget(ticket);
                }
                Ok(onward)
            }
            Ok(false) => Err(Box::new(Refusal { trouble: Trouble::DisabledSince, cookies })),
            Err(error) => Err(Box::new(Refusal { trouble: Trouble::Undelivered(error.to_string()), cookies })),
        }
    }

    fn signed_out(&self) -> Response<Bytes> {
        let text = "You are signed out here. Close the browser if others use it.";
        let again = Link { label: "Sign in again".into(), address: self.seen("/") };
        respond::own_page(&OwnPage { title: "Signed out", text, links: vec![again], ..OwnPage::default() })
    }
}

impl Party {
    fn new(settings: &ProviderSettings, party: &RelyingParty, own: &PublicUrl) -> Self {
        let way = match &party.way_in {
            WayIn::Oidc { auth, scopes, authorization } => {
                let asks = (scopes.as_slice(), authorization);
                Way::Oidc(Box::new(oidc::Client::new(settings, auth, asks, own.page("callback"))))
            }
            WayIn::Saml { key } => Way::Saml(saml::ServiceProvider::new(key.as_ref(), own)),
        };
        Self { provider: Arc::clone(&settings.provider), title: party.title.clone(), way }
    }
}

/// A browser that leaves for a provider.
pub struct Departure {
    pub address: String,
    pub pending: Pending,
}

/// Whether a browser goes to a page (Fetch Metadata, `Sec-Fetch-Mode`).
fn is_navigation(headers: &HeaderMap) -> bool {
    headers.get("sec-fetch-mode").is_some_and(|mode| mode == "navigate")
}

/// Whether a page of another site asks, for an image of its own or the like (Fetch Metadata). Each login that it began would take the
/// place of one that waits for its answer.
pub fn is_embedded_elsewhere(headers: &HeaderMap) -> bool {
    headers.get("sec-fetch-site").is_some_and(|site| site == "cross-site")
        && headers.get("sec-fetch-mode").is_some_and(|mode| mode != "navigate")
}

/// The parameters of a query or form that a page of ours reads, each at most once: of two it is not known which one a
/// check looked at.
struct Query {
    found: Vec<(&'static str, String)>,
}

impl Query {
    fn read(text: Option<&str>, names: &[&'static str]) -> Result<Self, Trouble> {
        let mut found: Vec<(&'static str, String)> = Vec::new();
        for (name, value) in form_urlencoded::parse(text.unwrap_or_default().as_bytes()) {
            let Some(known) = names.iter().find(|known| **known == name) else { continue };
            if found.iter().any(|(other, _)| other == known) {
                return Err(Trouble::Own("a parameter appears more than once; expected each once"));
            }
            found.push((known, value.into_owned()));
        }
        Ok(Self { found })
    }

    /// Empty counts as absent.
    fn value(&self, name: &str) -> Option<&str> {
        let found = self.found.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str());
        found.filter(|value| !value.is_empty())
    }
}
