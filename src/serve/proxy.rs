//! One request through the sidecar: clean it, find out where it goes, look into it as far as needed, pass it on.
//!
//! ```text
//! headers::Hygiene            what must not reach the app is gone before anything is decided
//! route::Router::route        a callback, a login path, or any other
//!   callback::take            body held, login() applied and committed, then the very same bytes go on
//!   any other                 streams; a field that carries a login is refused wherever it turns up
//! forward::App::send          HTTP/1.1, over a kept connection of upstream::Pool
//! binding::Binder             on the way back: what the browser must remember of a login it leaves for
//! ```

pub mod answer;
pub mod binding;
pub mod body;
mod callback;
pub mod forward;
mod gate;
pub mod headers;
pub mod route;
pub mod scan;
pub mod upgrade;
mod upstream;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode, Uri, Version, request};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::upgrade::OnUpgrade;

use self::answer::Answer;
use self::binding::Binder;
use self::body::{Outgoing, Streamed, Upload, Watch};
use self::forward::{App, AppError};
use self::gate::{Admitted, Gate};
use self::headers::{Cleaned, Hygiene, PublicSide};
use self::route::{Beside, Found, Route, Router};
use self::upstream::AppBody;
use super::access;
use super::assertion::{self, Asserter};
use super::bearer::{Bearer, Bearers};
use super::cookies::{self, CookieKeyError, Jar, Sealer};
use super::counters::{Counters, Outcome, StageLabel};
use super::framing::Framing;
use super::held::{Client, Held};
use super::identity::{self, Identity};
use super::peer::{Guard, Peer};
use super::relying_party::Front;
use super::relying_party::operators::Operators;
use super::relying_party::renewal::Renewed;
use super::respond::{self, Trouble};
use super::session::Desk;
use super::whole;
use crate::config::{self, Config, Limits, Listen, Need, Network, Secret};
use crate::login::{Services, new_id};
use crate::pipeline::capture::bearer;
use crate::pipeline::capture::fields::ProtocolFields;
use crate::pipeline::capture::token::Addressed;
use crate::pipeline::capture::watch::{self, BodyScan, Seeks};
use crate::pipeline::ids::UserId;
use crate::pipeline::provider::{Form, Protocol, Provider, Way};
use crate::pipeline::reading::media;
use crate::pipeline::reading::query::divided;
use crate::ports::sessions::{Session, Sessions};
use crate::serve::arriving::Arriving;

/// An HTML answer on a login path is held up to here to look for an auto-post form; past it, it streams unseen.
const MOST_LOGIN_PAGE: usize = 256 * 1024;

/// Everything that a request needs of one configuration. Swapped whole by a reload.
pub struct Site {
    pub listen: Listen,
    router: Router,
    hygiene: Hygiene,
    app: App,
    binder: Binder,
    services: Services,
    public: PublicSide,
    identity: config::Headers,
    limits: Limits,
    seeks: Sought,
    start_page: String,
    /// How long an answer of the app, or a tunnel, may stand still.
    stream_timeout: Duration,
    bearers: Option<Bearers>,
    gate: Option<Gate>,
    operators: Option<Arc<Operators>>,
    asserter: Option<Asserter>,
    counters: Arc<Counters>,
}

/// Why a checked configuration cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum SiteError {
    #[error(transparent)]
    App(#[from] AppError),
    #[error(transparent)]
    CookieKeys(#[from] CookieKeyError),
    #[error("`public_url` is not a valid header value")]
    PublicUrl,
}

impl Site {
    /// # Errors
    /// When something that the configuration names cannot be used: a file of certificates, a cookie key.
    pub fn new(
        config: &Config,
        services: Services,
        sessions: Arc<dyn Sessions>,
        cookie_keys: &[Secret],
        asserter: Option<Asserter>,
        counters: Arc<Counters>,
    ) -> Result<Self, SiteError> {
        let providers = config.providers.iter().map(|settings| (&settings.provider, settings.login_paths.as_slice()));
        let public = &config.public_url;
        let host = public.origin.split_once("://").map_or(public.origin.as_str(), |(_, authority)| authority);
        let sealer = Sealer::new(cookie_keys, public)?;
        let gate = gate(config, &services, sessions, &sealer, &counters);
        counters.held.set_limit(config.limits.held_bodies);
        let bearers = Bearers::new(config);
        let operators = Operators::new(config, &services, cookie_keys)?.map(Arc::new);
        let seeks = Sought::new(config, bearers.as_ref().and_then(Bearers::issuers_of_bodies));
        Ok(Self {
            listen: config.listen.clone(),
            router: Router::new(
                providers,
                &config.sessions.logout_paths,
                gate.is_some().then_some(public.own.as_str()),
            ),
            gate,
            operators,
            hygiene: Hygiene::new(&config.headers, &config.providers, counters.headers_dropped.clone()),
            app: App::new(&config.app)?,
            binder: Binder::new(sealer, watched(config)),
            services,
            public: PublicSide {
                scheme: HeaderValue::from_static(if public.secure { "https" } else { "http" }),
                host: HeaderValue::from_str(host).map_err(|_| SiteError::PublicUrl)?,
            },
            identity: config.headers.clone(),
            limits: config.limits,
            seeks,
            start_page: config.app.start_page.clone(),
            stream_timeout: config.app.stream_timeout,
            bearers,
            asserter,
            counters,
        })
    }

    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Adds what the app learns of a person: identity headers, and the assertion where one is configured. Every name was removed
    /// from the request before. `login` is the id of the login that the request brings, if any.
    ///
    /// # Errors
    /// When groups and roles exceed `headers.max_bytes`, and the app takes a missing header for "no change".
    pub fn tell(&self, headers: &mut HeaderMap, identity: &Identity<'_>, login: Option<&str>) -> Result<(), Trouble> {
        let rules = self.services.rules.current();
        let identity = &identity.shown(&rules);
        let mut told = identity::set(headers, &self.identity, identity);
        if let Some(asserter) = &self.asserter {
            match asserter.assertion(identity, self.services.clock.now()) {
                Some(assertion) => drop(headers.insert(assertion::HEADER, assertion)),
                None => told.over_budget = true,
            }
        }
        let provider = identity.provider;
        if told.unfit > 0 && login.is_some() {
            tracing::warn!(id = login, %provider, values = told.unfit, "values that no header can carry were left out");
        }
        if !told.over_budget {
            return Ok(());
        }
        self.counters.headers_over_budget.inc();
        if self.identity.no_groups.is_some() {
            return Err(Trouble::IdentityTooLarge { limit: self.identity.max_bytes });
        }
        tracing::warn!(id = login, %provider, "groups and roles exceed `headers.max_bytes` and were left out");
        Ok(())
    }

    /// Asks the provider again for every session of a user that can be renewed.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub async fn resync(&self, user: UserId) -> Result<Vec<Renewed>, Trouble> {
        match &self.gate {
            Some(gate) => gate.front.resync(user).await,
            None => Ok(Vec::new()),
        }
    }

    /// Who signs operators in to the console.
    pub fn operators(&self) -> Option<Arc<Operators>> {
        self.operators.clone()
    }

    pub fn trusts(&self, address: IpAddr) -> bool {
        self.listen.trusted_proxies.iter().any(|network: &Network| network.contains(address))
    }
}

/// The providers whose logins are bound to the browser that left for them.
fn watched(config: &Config) -> Vec<Arc<Provider>> {
    let providers = config.providers.iter().map(|settings| &settings.provider);
    providers.filter(|provider| provider.mode.is_watched()).cloned().collect()
}

/// The tokens of these providers that the app may believe.
fn addressed<'p>(providers: impl Iterator<Item = &'p Provider>) -> Addressed {
    let (mut issuers, mut audiences) = (Vec::new(), Vec::new());
    for provider in providers {
        issuers.extend(provider.issuers().map(str::to_owned));
        if let Protocol::Oidc(policy) = &provider.protocol {
            audiences.push(policy.client_id.clone());
            audiences.extend(policy.trusted_audiences.iter().cloned());
        }
    }
    Addressed::new(issuers, audiences)
}

/// What no request may carry to an address that takes no login, by its path.
struct Sought {
    /// Where logins are refused.
    refused: Seeks,
    /// At a callback, next to the login that is captured.
    beside_captured: Seeks,
    /// Where the operator lets them pass.
    passed: Seeks,
    /// Needs nothing where they pass.
    paths: access::Rules,
}

impl Sought {
    /// Tokens of every provider, whatever its mode: what one mode does not read, the app might.
    fn new(config: &Config, access_token: Option<Arc<[String]>>) -> Self {
        let providers = || config.providers.iter().map(|settings| &*settings.provider);
        let reads_logins =
            providers().any(|provider| provider.mode.is_watched() || provider.mode.way() == Way::Relayed);
        let stray = (reads_logins || access_token.is_some()).then(|| Arc::new(addressed(providers())));
        // In the header of a mode `bearer` a token of its issuer is verified, and nowhere else.
        let bears = |form: Form, issuer: &str| {
            let mut bearers = providers().filter(|provider| bearer::form_of(provider) == Some(form));
            bearers.any(|provider| provider.is_called(issuer))
        };
        let in_header = |form: Form| {
            let others = providers().filter(|provider| !bears(form, provider.issuer.as_str()));
            (form.rules().header, addressed(others))
        };
        let borne = || Form::ALL.into_iter().filter(|form| providers().any(|it| bearer::form_of(it) == Some(*form)));
        let headers = || watch::Headers { all: addressed(providers()), verified: borne().map(in_header).collect() };
        let passed = Seeks { access_token: access_token.clone(), ..Seeks::default() };
        let refused = Seeks {
            login: Some(providers().flat_map(Provider::issuers).map(str::to_owned).collect()),
            access_token_in_bodies: access_token.clone(),
            access_token,
            every_body: reads_logins,
            stray_in_headers: reads_logins.then(|| Arc::new(headers())),
            stray,
            assertions: providers().any(|provider| provider.mode.is_saml() && provider.mode.is_watched()),
            verified: false,
            captured: false,
        };
        Self {
            beside_captured: refused.beside_captured(),
            refused,
            passed,
            paths: access::Rules::new(&config.sessions.guarded),
        }
    }

    /// What a message to a callback may not carry next to its login.
    fn at_callback(&self, parts: &request::Parts) -> &Seeks {
        if self.passes(Some(&parts.method), target_of(&parts.uri), &parts.headers) {
            &self.passed
        } else {
            &self.beside_captured
        }
    }

    /// At the path of a callback they are refused whatever the operator says: the app may find the rest of its address in a body or a
    /// cookie. `method` is `None` if it is not known.
    fn of(&self, method: Option<&Method>, target: &str, headers: &HeaderMap, beside: &Beside<'_>) -> &Seeks {
        if beside.is_empty() && self.passes(method, target, headers) { &self.passed } else { &self.refused }
    }

    /// Whether the operator lets logins pass at an address.
    fn passes(&self, method: Option<&Method>, target: &str, headers: &HeaderMap) -> bool {
        let is_overridden = || method.is_none() || gate::names_a_method(headers, target);
        let (path, _) = divided(target);
        self.paths.need("", method.unwrap_or(&Method::GET), path, is_overridden) == Need::Nothing
    }
}

/// Path and query.
fn target_of(uri: &Uri) -> &str {
    uri.path_and_query().map_or("", |target| target.as_str())
}

/// What sessions need, where a configuration asks for any.
fn gate(
    config: &Config,
    services: &Services,
    sessions: Arc<dyn Sessions>,
    sealer: &Sealer,
    counters: &Counters,
) -> Option<Gate> {
    let relies = config.providers.iter().any(|settings| settings.relying_party.is_some());
    if !relies && config.sessions.app_cookie.is_none() && config.sessions.forward_auth.is_none() {
        return None;
    }
    let providers = config.providers.iter().map(|settings| settings.provider.name.clone()).collect();
    let (rules, clock) = (Arc::clone(&services.rules), services.clock.clone());
    let unbound = counters.sessions_unbound.clone();
    let desk = Desk::new(sessions, rules, clock, sealer.clone(), &config.sessions, providers, unbound);
    let front = Arc::new(Front::new(config, services.clone(), Arc::new(desk), sealer, Arc::clone(&counters.lasting)));
    Some(Gate::new(front, &config.sessions, &config.public_url))
}

/// What the client gets.
pub type Reply = Response<Answer<Guard>>;

/// Answers one request.
pub async fn handle(site: Arc<Site>, peer: Arc<Peer>, request: Request<Arriving>) -> Reply {
    let mut guard = Guard::new(&peer);
    let version = request.version();
    let accept = request.headers().get(header::ACCEPT).cloned();
    if version == Version::HTTP_2 {
        // A stream that was reset along with its request is dropped here, before the app hears of it (CVE-2023-44487).
        tokio::task::yield_now().await;
    }
    if let Some(length) = unusual_head(&request) {
        let mut held = site.counters.held.open_large(client(&site, &peer, request.headers()));
        if let Err(full) = held.grow(length) {
            return refuse(&site, *Box::from(Trouble::Full(full)), accept.as_ref(), version, guard);
        }
        guard.keep(held);
    }
    match take(&site, &peer, request, &guard).await {
        Ok(answered) => {
            site.counters.forwarded.inc();
            match answered {
                Answered::App(response) => {
                    let idle = site.stream_timeout;
                    response.map(|body| Answer::app(body, idle, guard))
                }
                Answered::Held(response, first, held) => {
                    let idle = site.stream_timeout;
                    guard.keep(held);
                    response.map(|body| Answer::app_after(first, body, idle, guard))
                }
                Answered::Switched(response) => response.map(|()| Answer::page(Bytes::new(), guard)),
                Answered::Own(response) => response.map(|page| Answer::page(page, guard)),
            }
        }
        Err(failed) => refuse(&site, *failed, accept.as_ref(), version, guard),
    }
}

/// Bytes of a head up to which it is counted for nothing: browsers send hardly more.
pub const USUAL_HEAD: usize = 8 << 10;

/// The length of a head that is counted among what is held.
fn unusual_head(request: &Request<Arriving>) -> Option<usize> {
    let fields = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len()).sum::<usize>();
    let target = target_of(request.uri()).len();
    Some(fields + target).filter(|length| *length > USUAL_HEAD)
}

/// Who is at the other end, for their share of what is held. Behind a trusted hop that is whom the hop names.
fn client(site: &Site, peer: &Peer, headers: &HeaderMap) -> Option<Client> {
    if peer.client.is_some() {
        return peer.client;
    }
    headers::forwarded_chain(headers).find(|address| !site.trusts(*address)).map(Client::of)
}

/// The outcome of the app's answer.
enum Answered {
    App(Response<AppBody>),
    /// Its first pieces were looked at.
    Held(Response<AppBody>, VecDeque<Bytes>, Held),
    /// The connection has become a tunnel.
    Switched(Response<()>),
    /// A page of ours, or a redirect to one.
    Own(Response<Bytes>),
}

/// A request that the app did not answer, and the cookies that are of no use any more.
struct Failed {
    id: Option<String>,
    trouble: Trouble,
    spent: Option<String>,
    cookies: HeaderMap,
}

impl From<Trouble> for Box<Failed> {
    fn from(trouble: Trouble) -> Self {
        Box::new(Failed { id: None, trouble, spent: None, cookies: HeaderMap::new() })
    }
}

async fn take(
    site: &Arc<Site>,
    peer: &Arc<Peer>,
    mut request: Request<Arriving>,
    guard: &Guard,
) -> Result<Answered, Box<Failed>> {
    if peer.has_two_lengths() {
        return Err(Trouble::Framing(Framing::TwoLengths).into());
    }
    // One connection of HTTP/2 brings many requests at a time, and each needs a connection to the app.
    if site.counters.in_flight.get() > i64::try_from(site.listen.max_connections).unwrap_or(i64::MAX) {
        return Err(Trouble::TooManyRequests.into());
    }
    check_target(&mut request, &site.public.host)?;
    let trusted = site.trusts(peer.address);
    let asked = site.gate.as_ref().is_some_and(|gate| gate.is_asked(request.uri().path()));
    let Cleaned { wishes, folded, method_override } =
        site.hygiene.clean_request(request.headers_mut(), trusted, asked).map_err(Trouble::Framing)?;
    let jar = Jar::take(request.headers_mut(), &site.identity.drop_cookies);
    let host_is_untold = asked && !request.headers().contains_key(headers::X_FORWARDED_HOST);
    headers::set_forwarded(request.headers_mut(), &peer.forwarded_for, trusted, &site.public);
    if host_is_untold {
        // What a gateway does not say of the request that it asks about is not known here.
        request.headers_mut().remove(headers::X_FORWARDED_HOST);
    }

    if let Some(published) =
        site.asserter.as_ref().and_then(|asserter| asserter.published(request.method(), request.uri().path()))
    {
        return Ok(Answered::Own(published));
    }
    let Found { mut route, beside } = site.router.route(request.uri().path(), request.uri().query());
    let seeks = site.seeks.of(Some(request.method()), target_of(request.uri()), request.headers(), &beside);
    let may_hold = matches!(route, Route::Other | Route::LoginPath);
    let for_bearer = site.bearers.as_ref().is_some_and(|bearers| bearers.reads_form(request.headers()));
    let for_callback = beside.is_watched() && posts_form(&request);
    // An app that does not know chunks (thin) would read their sizes as a part of the form.
    let for_length = !seeks.is_nothing() && posts_form(&request) && request.body().size_hint().exact().is_none();
    if may_hold && (for_bearer || for_callback || for_length) {
        let form = Box::pin(hold_form(site, peer, &mut request, seeks, for_bearer)).await?;
        request.extensions_mut().insert(HeldForm(form));
    }
    if let Some(bearers) = &site.bearers {
        let query = request.uri().query().map(str::to_owned);
        let form = request.extensions().get::<HeldForm>().filter(|_| for_bearer).map(|form| form.0.clone());
        let told = tell_bearer(site, bearers, request.headers_mut(), query.as_deref(), form.as_deref());
        let bearer = Box::pin(told).await?;
        if let Some(bearer) = bearer {
            request.extensions_mut().insert(bearer);
        }
    }
    if beside.is_watched()
        && let Some(callback) = asked_beside(&request, &beside)?
    {
        route = callback;
    }
    match route {
        Route::Ambiguous => Err(Trouble::AmbiguousPath.into()),
        Route::Callback(providers) => {
            if let Some(name) = folded.or(method_override) {
                return Err(Trouble::MisleadingHeader(name).into());
            }
            let providers = providers.to_vec();
            Box::pin(callback::take(Arc::clone(site), providers, jar, Arc::clone(peer), request)).await
        }
        Route::Own => Box::pin(gate::own(site, jar, peer, request)).await,
        Route::LogoutPath => Box::pin(gate::logout_path(site, jar, peer, request, seeks)).await,
        Route::LoginPath => {
            let admitted = admit(site, peer, &jar, &mut request).await?;
            match admitted {
                Admitted::Answered(answer) => Ok(Answered::Own(answer)),
                Admitted::Passes(session) => Box::pin(login_path(site, jar, session, peer, request, seeks)).await,
            }
        }
        Route::Other => {
            let admitted = admit(site, peer, &jar, &mut request).await?;
            let session = match admitted {
                Admitted::Answered(answer) => return Ok(Answered::Own(answer)),
                Admitted::Passes(session) => session,
            };
            let watch = scan::outgoing(seeks, &request)?;
            headers::set_wishes(request.headers_mut(), &wishes);
            let upgrading = wishes.upgrade.map(|asked| Upgrading { asked, client: hyper::upgrade::on(&mut request) });
            let watch = watch.map(|scan| watching(site, peer, &request, scan));
            let (request, upload) = streaming(site, request, watch);
            pass(site, (&jar, session.as_deref()), request, upload, upgrading, guard).await
        }
    }
}

/// A form that was read for its token, and goes on as it came.
#[derive(Clone)]
struct HeldForm(Bytes);

/// Whether an app may read the request's body as a form.
fn posts_form(request: &Request<Arriving>) -> bool {
    let types = request.headers().get_all(header::CONTENT_TYPE).iter().map(HeaderValue::as_bytes);
    let puts = request.method() == Method::PUT && !request.headers().contains_key(header::CONTENT_TYPE);
    !request.body().is_end_stream() && !puts && media::readings(types).form
}

/// What an app makes of a request at a callback's path that carries something to log in with, where it looks for the rest of
/// the callback's address in forms and cookies too (PHP's `$_REQUEST`). A code or an artifact alone says nothing of its issuer,
/// so that no guard could tell it from others.
fn asked_beside<'a>(request: &Request<Arriving>, beside: &Beside<'a>) -> Result<Option<Route<'a>>, Trouble> {
    let query = request.uri().query();
    let form = request.extensions().get::<HeldForm>().map(|form| &*form.0);
    let mut fields = ProtocolFields::default();
    let read = query.map_or(Ok(()), |query| fields.read_query(query));
    // What cannot be read plainly may carry anything.
    let is_plain = read.is_ok() && form.is_none_or(|form| fields.read_body(form).is_ok());
    if is_plain && !fields.has_token() {
        return Ok(None);
    }
    let cookies = request.headers().get_all(header::COOKIE).iter().map(HeaderValue::as_bytes);
    let sources: Vec<&[u8]> = query.map(str::as_bytes).into_iter().chain(form).chain(cookies).collect();
    match beside.asked_in(&sources) {
        Some(Route::Ambiguous) => Err(Trouble::AmbiguousPath),
        route => Ok(route),
    }
}

/// Reads a form whole, bounded as a login's body is.
async fn hold_form(
    site: &Site,
    peer: &Peer,
    request: &mut Request<Arriving>,
    seeks: &Seeks,
    verifies: bool,
) -> Result<Bytes, Trouble> {
    scan::check_form(request.headers())?;
    let scan = match verifies {
        // Its `access_token` is verified, and not merely looked at.
        true => scan::outgoing(&Seeks { access_token: None, verified: true, ..seeks.clone() }, request)?,
        false => scan::outgoing(seeks, request)?,
    };
    let time = site.listen.idle_timeout.min(site.limits.login_timeout);
    let held = site.counters.held.open(client(site, peer, request.headers()));
    let form = whole::read(request.body_mut(), site.limits.callback_body, time, held).await?;
    if let Some(scan) = scan {
        scan::check(scan.read_whole(&form), "body")?;
    }
    Ok(form)
}

/// Names of identity headers were removed when the request came in, so nothing forged stays next to those of the bearer.
async fn tell_bearer(
    site: &Site,
    bearers: &Bearers,
    headers: &mut HeaderMap,
    query: Option<&str>,
    form: Option<&[u8]>,
) -> Result<Option<Arc<Bearer>>, Trouble> {
    let Some(bearer) = bearers.identify(&site.services, headers, query, form).await? else { return Ok(None) };
    site.tell(headers, &Identity::of_bearer(&bearer), None)?;
    Ok(Some(bearer))
}

/// The gate, where there is one: without sessions nothing waits here.
async fn admit(site: &Site, peer: &Peer, jar: &Jar, request: &mut Request<Arriving>) -> Result<Admitted, Trouble> {
    // A client that bears a token that was believed needs no session.
    if site.gate.is_none() || request.extensions().get::<Arc<Bearer>>().is_some() {
        return Ok(Admitted::Passes(None));
    }
    let client = client(site, peer, request.headers());
    Box::pin(gate::admit(site, jar, request, client)).await
}

/// The target is a path and the host is one: there is nothing to disagree about between us and the app.
fn check_target(request: &mut Request<Arriving>, own: &HeaderValue) -> Result<(), Trouble> {
    if request.method() == Method::CONNECT {
        return Err(Trouble::Connect);
    }
    let target = target_of(request.uri());
    if !(target.starts_with('/') || (target == "*" && request.method() == Method::OPTIONS)) {
        return Err(Trouble::Target);
    }
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let (host, another) = (hosts.next(), hosts.next());
    let authority = request.uri().authority();
    match (host, another, authority) {
        // Nearly always our own, which is one.
        (Some(host), None, None) if host == own || is_host(host.as_bytes()) => Ok(()),
        // RFC 9112 section 3.2.2 and RFC 9113 section 8.3.1: both may be there, and then they agree.
        (Some(host), None, Some(authority))
            if is_host(host.as_bytes())
                && is_same_host(host.as_bytes(), authority.as_str(), request.uri().scheme_str()) =>
        {
            Ok(())
        }
        // HTTP/1.0 has no Host (RFC 9112 section 3.2), and balancers ask so whether we are well. The app is asked for its own name.
        (None, None, None) if request.version() == Version::HTTP_10 => {
            request.headers_mut().insert(header::HOST, own.clone());
            Ok(())
        }
        (None, None, Some(authority)) if is_host(authority.as_str().as_bytes()) => {
            let host = HeaderValue::from_str(authority.as_str()).map_err(|_| Trouble::Host)?;
            request.headers_mut().insert(header::HOST, host);
            Ok(())
        }
        _ => Err(Trouble::Host),
    }
}

/// Whether `Host` and the authority of the target are the same, where a default port may be left out of either (RFC 9110 section 4.2.3).
fn is_same_host(host: &[u8], authority: &str, scheme: Option<&str>) -> bool {
    let port: &[u8] = match scheme {
        Some("http") => b":80",
        Some("https") => b":443",
        _ => b"",
    };
    let bare = |host: &'_ [u8]| host.strip_suffix(port).unwrap_or(host).to_ascii_lowercase();
    bare(host) == bare(authority.as_bytes())
}

/// A registered name or address, perhaps with a port (RFC 3986 section 3.2.2), without user information.
fn is_host(host: &[u8]) -> bool {
    let allowed = |byte: &u8| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b':' | b'[' | b']' | b'%')
    };
    !host.is_empty() && host.len() <= 300 && host.iter().all(allowed)
}

/// A client that asks to switch protocols.
struct Upgrading {
    /// The protocols that it named.
    asked: HeaderValue,
    client: OnUpgrade,
}

/// A request that is no login: streams to the app, and the answer back.
async fn pass(
    site: &Arc<Site>,
    (jar, session): (&Jar, Option<&Session>),
    request: Box<Request<Outgoing>>,
    upload: Option<Arc<Upload>>,
    upgrading: Option<Upgrading>,
    guard: &Guard,
) -> Result<Answered, Box<Failed>> {
    let mut response = site.app.send(request, upload).await?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return switch(site, upgrading, response, guard);
    }
    headers::clean_response(response.headers_mut());
    remember_redirect(site, jar, &mut response);
    gate::answered(site, session, jar, response.headers_mut(), true);
    Ok(Answered::App(response))
}

fn streaming(
    site: &Site,
    request: Request<Arriving>,
    watch: Option<Watch>,
) -> (Box<Request<Outgoing>>, Option<Arc<Upload>>) {
    let (mut parts, body) = request.into_parts();
    if let Some(HeldForm(form)) = parts.extensions.remove() {
        return (Box::new(Request::from_parts(parts, Outgoing::whole(form))), None);
    }
    if body.is_end_stream() {
        return (Box::new(Request::from_parts(parts, Outgoing::Empty)), None);
    }
    if body.size_hint().exact().is_none() {
        // hyper sends no body with GET and HEAD of unknown length unless it is told to.
        parts.headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    let (body, upload) = Streamed::through(body, site.listen.idle_timeout, watch);
    (Box::new(Request::from_parts(parts, body)), Some(upload))
}

/// What the scan holds of a body is a part of the budget for strangers.
fn watching(site: &Site, peer: &Peer, request: &Request<Arriving>, scan: BodyScan) -> Watch {
    Watch::new(scan, site.counters.held.open(client(site, peer, request.headers())))
}

/// The app has agreed to switch protocols, to one that the client named (RFC 9110 section 7.8): in another, requests could pass
/// unseen.
fn switch(
    site: &Arc<Site>,
    upgrading: Option<Upgrading>,
    mut response: Response<AppBody>,
    guard: &Guard,
) -> Result<Answered, Box<Failed>> {
    let agreed = upgrading.and_then(|Upgrading { asked, client }| {
        headers::agreed_protocol(&asked, response.headers()).map(|protocol| (client, protocol))
    });
    let Some((client, protocol)) = agreed else {
        return Err(Trouble::AppUnreachable("it switched to a protocol that the client did not ask for".into()).into());
    };
    let app = hyper::upgrade::on(&mut response);
    let guard = guard.tunnel();
    let idle = site.stream_timeout;
    guard.spawn(upgrade::tunnel(client, app, idle));
    headers::clean_response(response.headers_mut());
    cookies::drop_foreign(response.headers_mut(), &site.identity.drop_cookies);
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    response.headers_mut().insert(header::UPGRADE, protocol);
    Ok(Answered::Switched(response.map(|_| ())))
}

/// Where a redirect sends the browser off to log in, it takes our memory of that along.
fn remember_redirect(site: &Site, jar: &Jar, response: &mut Response<AppBody>) {
    cookies::drop_foreign(response.headers_mut(), &site.identity.drop_cookies);
    if !response.status().is_redirection() {
        return;
    }
    let Some(location) = response.headers().get(header::LOCATION) else { return };
    let departures = site.binder.departures(location, &*site.services.keys);
    site.binder.remember(&departures, jar, site.services.clock.now(), response.headers_mut());
}

/// A page that may send the browser to a provider by an auto-post form.
async fn login_path(
    site: &Arc<Site>,
    jar: Jar,
    session: Option<Arc<Session>>,
    peer: &Peer,
    mut request: Request<Arriving>,
    seeks: &Seeks,
) -> Result<Answered, Box<Failed>> {
    let mut held = site.counters.held.open_large(client(site, peer, request.headers()));
    let watch = scan::outgoing(seeks, &request)?;
    // A compressed page could not be read.
    request.headers_mut().remove(header::ACCEPT_ENCODING);
    let watch = watch.map(|scan| watching(site, peer, &request, scan));
    let (request, upload) = streaming(site, request, watch);
    let mut response = site.app.send(request, upload).await?;
    headers::clean_response(response.headers_mut());
    remember_redirect(site, &jar, &mut response);
    gate::answered(site, session.as_deref(), &jar, response.headers_mut(), false);
    if !is_page(&response) {
        return Ok(Answered::App(response));
    }
    let (mut parts, mut body) = response.into_parts();
    let pieces = hold(&mut body, site.listen.idle_timeout, &mut held).await?;
    if pieces.iter().map(Bytes::len).sum::<usize>() <= MOST_LOGIN_PAGE {
        let html: Vec<u8> = pieces.iter().flatten().copied().collect();
        let departures = site.binder.form_departures(&html, &*site.services.keys);
        site.binder.remember(&departures, &jar, site.services.clock.now(), &mut parts.headers);
    }
    Ok(Answered::Held(Response::from_parts(parts, body), pieces, held))
}

fn is_page(response: &Response<AppBody>) -> bool {
    let media_type = response.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let html = media_type.get(..9).is_some_and(|head| head.eq_ignore_ascii_case(b"text/html"));
    html && response.status().is_success() && !scan::is_encoded(response.headers())
}

/// The pieces of a body up to [`MOST_LOGIN_PAGE`], and the one that goes past it.
async fn hold(body: &mut AppBody, limit: Duration, held: &mut Held) -> Result<VecDeque<Bytes>, Trouble> {
    let broken = || Trouble::AppUnreachable("its answer broke off".into());
    let mut pieces = VecDeque::new();
    let mut length = 0;
    while length <= MOST_LOGIN_PAGE {
        let frame = tokio::time::timeout(limit, body.frame()).await.map_err(|_| Trouble::AppTooSlow)?;
        let Some(frame) = frame else { break };
        if let Ok(data) = frame.map_err(|_| broken())?.into_data() {
            held.grow(data.len()).map_err(Trouble::Full)?;
            length += data.len();
            pieces.push_back(data);
        }
    }
    Ok(pieces)
}

/// Answers in the app's place, and says why where only the operator looks.
fn refuse(site: &Site, failed: Failed, accept: Option<&HeaderValue>, version: Version, guard: Guard) -> Reply {
    let Failed { id, trouble, spent, cookies } = failed;
    let id = match (id, &trouble) {
        (Some(id), _) => id,
        (None, Trouble::Login(refused) | Trouble::Token(refused)) => refused.id.to_string(),
        (None, _) => new_id(),
    };
    let mut response = respond::answer(&trouble, &id, respond::accepts_html(accept), &site.start_page);
    count(site, &trouble, response.status());
    log(&id, &trouble, response.status());
    if let Some(name) = spent {
        site.binder.forget(&name, response.headers_mut());
    }
    response.headers_mut().extend(cookies);
    if version == Version::HTTP_2 {
        // RFC 9113 section 8.2.2.
        response.headers_mut().remove(header::CONNECTION);
    }
    response.map(|page| Answer::page(page, guard))
}

fn count(site: &Site, trouble: &Trouble, status: StatusCode) {
    let counters = &site.counters;
    counters.request(if status.is_server_error() { Outcome::Failed } else { Outcome::Refused });
    counters.refusals.get_or_create(&StageLabel { stage: trouble.stage() }).inc();
    if let Trouble::AppUnreachable(_) | Trouble::AppTooSlow | Trouble::Undelivered(_) = trouble {
        counters.app_errors.inc();
    }
}

fn log(id: &str, trouble: &Trouble, status: StatusCode) {
    // The outcome of the login was reported already, under the same ID.
    if let Trouble::Login(_) | Trouble::Token(_) = trouble {
        return;
    }
    let stage = trouble.stage();
    // Every reason is short by itself. Should one ever quote a stranger at length, it must not fill the disk.
    let reason: String = trouble.to_string().chars().take(MOST_REASON).collect();
    if status.is_server_error() {
        tracing::error!(%id, stage, reason, status = status.as_u16(), "request failed");
    } else {
        tracing::warn!(%id, stage, reason, status = status.as_u16(), "request refused");
    }
}

/// Characters of a reason in the log.
const MOST_REASON: usize = 1000;
