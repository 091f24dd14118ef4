//! What stands before the app: our own pages, gateways' questions, who has a session, and the app's own logout addresses.
//!
//! All of it is there only where the configuration asks for sessions; without them requests pass as they came.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};

use super::body::Outgoing;
use super::headers;
use super::{Answered, Failed, Jar, Site, Trouble, client, remember_redirect, scan};
use crate::config::{ForwardAuth, Need, PublicUrl, SessionSettings};
use crate::login::new_id;
use crate::pipeline::capture::fields::{Field, ProtocolFields};
use crate::pipeline::capture::watch::Seeks;
use crate::pipeline::reading::escape;
use crate::pipeline::reading::header::{Meaning, folded, meaning};
use crate::pipeline::reading::query::divided;
use crate::ports::sessions::{LoggedOut, Session};
use crate::serve::access::Rules;
use crate::serve::arriving::Arriving;
use crate::serve::assertion;
use crate::serve::bearer::Bearer;
use crate::serve::forward_auth::{self, Question, Wanted};
use crate::serve::held::Client;
use crate::serve::identity::{self, Identity};
use crate::serve::peer::Peer;
use crate::serve::relying_party::logout::{logout_request, logout_token};
use crate::serve::relying_party::{Front, OwnRequest};
use crate::serve::respond;
use crate::serve::whole;

/// Everything about sessions that one configuration asks for.
pub struct Gate {
    pub front: Arc<Front>,
    access: Option<Rules>,
    forward_auth: Option<ForwardAuth>,
    public: PublicUrl,
    /// The host of `public`.
    host: String,
    logout_paths: Vec<String>,
}

impl Gate {
    pub fn new(front: Arc<Front>, settings: &SessionSettings, public: &PublicUrl) -> Self {
        Self {
            front,
            access: settings.access.as_ref().map(Rules::new),
            forward_auth: settings.forward_auth.clone(),
            public: public.clone(),
            host: public.host(),
            logout_paths: settings.logout_paths.clone(),
        }
    }

    /// What the Destination of a logout at this path may be: the path by itself, or with the query that is part of the address.
    fn places_of(&self, path: &str) -> Vec<String> {
        let addresses = self.logout_paths.iter().map(String::as_str).filter(|address| divided(address).0 == path);
        let root = self.public.root();
        let mut places: Vec<String> = addresses.map(|address| format!("{root}{address}")).collect();
        places.push(format!("{root}{path}"));
        places
    }

    /// Whether gateways ask at this path about other requests.
    pub fn is_asked(&self, path: &str) -> bool {
        self.forward_auth.as_ref().is_some_and(|settings| forward_auth::is_asked(settings, path))
    }

    /// What a request to a host needs. `method` is `None` if it is not known.
    fn need(&self, host: &str, method: Option<&Method>, target: &str, headers: &HeaderMap) -> Option<Need> {
        let (path, query) = divided(target);
        let is_overridden = || method.is_none() || names_a_method(headers, target);
        let rules = self.access.as_ref()?;
        if query.is_some_and(|query| escape::joins(path.as_bytes(), query.as_bytes())) {
            // Which path the app reads is unclear.
            return Some(Need::Api);
        }
        Some(rules.need(host, method.unwrap_or(&Method::GET), path, is_overridden))
    }

    /// Path and query as the app has them, and whether they are of the app at all.
    fn to_app<'w>(&self, wanted: &'w Wanted) -> (&'w str, bool) {
        match wanted.host {
            Some(_) => (wanted.target.as_str(), true),
            None => match wanted.target.strip_prefix(self.public.base.as_str()) {
                Some(rest) if rest.starts_with('/') => (rest, true),
                _ => (wanted.target.as_str(), self.public.base.is_empty()),
            },
        }
    }

    /// What a request needs that a gateway asks about. Where paths need nothing by themselves, all need a session here: that is
    /// what the gateway asks for.
    fn need_at_gateway(&self, wanted: &Wanted, headers: &HeaderMap) -> Need {
        let (target, is_below) = self.to_app(wanted);
        let host = wanted.host.as_deref().unwrap_or(&self.host);
        match self.need(host, wanted.method.as_ref(), target, headers) {
            Some(Need::Nothing) if !wanted.is_told || !is_below => Need::Session,
            need => need.unwrap_or(Need::Session),
        }
    }

    /// Lets a request through to the app, with the identity headers of its session, or answers in its place.
    pub async fn admit(&self, site: &Site, jar: &Jar, request: Parts<'_>) -> Result<Admitted, Trouble> {
        if let Some(session) = self.session(jar, request.headers).await? {
            // Names of identity headers were removed when the request came in, so nothing forged stays next to these.
            site.tell(request.headers, &Identity::of_session(&session), None)?;
            return Ok(Admitted::Passes(Some(session)));
        }
        // What goes through here goes to the app, whose host is that of `public_url`.
        match self.need(&self.host, Some(request.method), request.target, request.headers).unwrap_or(Need::Nothing) {
            Need::Nothing => Ok(Admitted::Passes(None)),
            Need::Session if browses(request.method, request.headers) => {
                let address = self.front.sign_in_address(&self.front.seen(request.target), request.client);
                Ok(Admitted::Answered(respond::redirect(&address, HeaderMap::new())))
            }
            Need::Session | Need::Api => Err(Trouble::NoSession),
        }
    }

    /// The session of a browser, synced again where that is due.
    async fn session(&self, jar: &Jar, headers: &HeaderMap) -> Result<Option<Arc<Session>>, Trouble> {
        match self.front.desk.current(jar, headers).await.map_err(Trouble::Store)? {
            Some(session) => self.front.kept_current(session).await,
            None => Ok(None),
        }
    }
}

/// What became of a request before the app.
pub enum Admitted {
    /// It goes on, by this session if there is one.
    Passes(Option<Arc<Session>>),
    Answered(Response<Bytes>),
}

/// What is looked at of a request before the app gets it.
pub struct Parts<'r> {
    pub method: &'r Method,
    /// Path and query.
    pub target: &'r str,
    pub headers: &'r mut HeaderMap,
    /// Who asks, for their share of what is held.
    pub client: Option<Client>,
}

/// Whether an app may take a request for one of another method, by what its head or query says.
pub(super) fn names_a_method(headers: &HeaderMap, target: &str) -> bool {
    let by_header = headers.keys().any(|name| meaning(&folded(name.as_str())) == Some(Meaning::Method));
    let mut fields = ProtocolFields::default();
    let query = target.split_once('?').map_or("", |(_, query)| query);
    // What cannot be read plainly may name one.
    let unread = fields.read_query(query).is_err();
    by_header || unread || fields.has(Field::Method) || fields.has(Field::MethodOverride)
}

/// Whether a browser asks for a page, which may be sent elsewhere first.
fn browses(method: &Method, headers: &HeaderMap) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
        && may_navigate(headers)
        && respond::accepts_html(headers.get(header::ACCEPT))
}

/// Whether a browser may be on its way to a page, and no script of a page asks (Fetch Metadata, `Sec-Fetch-Mode`). Programs do not say.
fn may_navigate(headers: &HeaderMap) -> bool {
    headers.get("sec-fetch-mode").is_none_or(|mode| mode.as_bytes() == b"navigate")
}

/// Admits a request that streams.
pub async fn admit(
    site: &Site,
    jar: &Jar,
    request: &mut Request<Arriving>,
    client: Option<Client>,
) -> Result<Admitted, Trouble> {
    let Some(gate) = &site.gate else { return Ok(Admitted::Passes(None)) };
    let uri = request.uri().clone();
    let method = request.method().clone();
    let target = super::target_of(&uri);
    let parts = Parts { method: &method, target, headers: request.headers_mut(), client };
    gate.admit(site, jar, parts).await
}

/// What an answer of the app to a request of a session does to that session, where it is bound to the app's own cookie. `may_follow` is false
/// at addresses by which another person may come in or this one leave. The app knew the person by our headers: where it does not
/// say who may keep the answer, no cache between it and the browser may, which would give it to the next person (RFC 9111
/// section 4.2.2). An empty field says nothing.
pub fn answered(site: &Site, session: Option<&Session>, jar: &Jar, headers: &mut HeaderMap, may_follow: bool) {
    if let (Some(gate), Some(session)) = (&site.gate, session) {
        gate.front.desk.app_answered(session, jar, headers, may_follow);
        let says = |name| headers.get_all(name).iter().any(|value| !value.as_bytes().trim_ascii().is_empty());
        if !says(header::CACHE_CONTROL) && !says(header::EXPIRES) {
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private"));
        }
    }
}

/// A request to a page of ours.
pub async fn own(site: &Arc<Site>, jar: Jar, peer: &Peer, request: Request<Arriving>) -> Result<Answered, Box<Failed>> {
    let trusted = site.trusts(peer.address);
    let Some(gate) = &site.gate else { return Err(Trouble::NoSuchPage.into()) };
    let (parts, body) = request.into_parts();
    let path = parts.uri.path();
    if let Some(settings) = gate.forward_auth.as_ref().filter(|settings| forward_auth::is_asked(settings, path)) {
        let question = Question {
            path,
            query: parts.uri.query(),
            authority: parts.uri.authority().map(http::uri::Authority::as_str),
            method: &parts.method,
            headers: &parts.headers,
        };
        let client = client(site, peer, &parts.headers);
        return Ok(Answered::Own(ask(site, gate, settings, &jar, trusted, &question, client).await?));
    }
    // Another spelling is none of ours, and not the app's either.
    let page = path.strip_prefix(gate.public.own.as_str()).ok_or(Trouble::NoSuchPage)?.to_owned();
    let time = site.listen.idle_timeout.min(site.limits.login_timeout);
    let held = site.counters.held.open(client(site, peer, &parts.headers));
    let body = whole::read(body, site.limits.callback_body, time, held).await?;
    let id = new_id();
    let query = parts.uri.query().map(str::to_owned);
    let client = client(site, peer, &parts.headers);
    let (method, headers) = (parts.method, parts.headers);
    let request = OwnRequest { id: id.clone(), page, method, query, headers, body, jar, client };
    let front = Arc::clone(&gate.front);
    // From here on a login runs to its end even if the browser goes away.
    let answered = tokio::spawn(async move { front.answer(&request).await }).await;
    match answered {
        Ok(Ok(response)) => Ok(Answered::Own(response)),
        Ok(Err(refusal)) => {
            let (trouble, cookies) = (refusal.trouble, refusal.cookies);
            Err(Box::new(Failed { id: Some(id), trouble, spent: None, cookies }))
        }
        Err(_) => Err(Trouble::AppUnreachable("the answer ended unexpectedly".into()).into()),
    }
}

/// A gateway's question.
async fn ask(
    site: &Site,
    gate: &Gate,
    settings: &ForwardAuth,
    jar: &Jar,
    trusted: bool,
    question: &Question<'_>,
    client: Option<Client>,
) -> Result<Response<Bytes>, Trouble> {
    if !trusted {
        return Err(Trouble::NoGateway);
    }
    let wanted = forward_auth::wanted(settings, &gate.public, question)?;
    let (target, _) = gate.to_app(&wanted);
    scan::asked_about(site, wanted.method.as_ref(), target, question.headers)?;
    if let Some(bearers) = &site.bearers {
        // The query of the request that is asked about; of this one it was looked into before.
        let query = wanted.target.split_once('?').map(|(_, query)| query);
        let borne = bearers.identify(&site.services, question.headers, query, None);
        if let Some(bearer) = Box::pin(borne).await? {
            return yes(site, &Identity::of_bearer(&bearer));
        }
    }
    if let Some(session) = gate.session(jar, question.headers).await? {
        return yes(site, &Identity::of_session(&session));
    }
    let navigates = browses(wanted.method.as_ref().unwrap_or(&Method::GET), question.headers);
    match gate.need_at_gateway(&wanted, question.headers) {
        Need::Nothing => Ok(forward_auth::yes(HeaderMap::new(), told_names(site))),
        Need::Session => {
            let whole = wanted.host.as_ref().map(|host| format!("https://{host}{}", wanted.target));
            let sign_in = gate.front.sign_in_address(whole.as_deref().unwrap_or(&wanted.target), client);
            forward_auth::no(settings, &sign_in, navigates, !may_navigate(question.headers))
        }
        Need::Api => Err(Trouble::NoSession),
    }
}

/// Every header name that may carry an identity.
fn told_names(site: &Site) -> impl Iterator<Item = HeaderName> {
    identity::names(site.identity.preset).chain(site.asserter.is_some().then_some(assertion::HEADER))
}

fn yes(site: &Site, identity: &Identity<'_>) -> Result<Response<Bytes>, Trouble> {
    let mut told = HeaderMap::new();
    site.tell(&mut told, identity, None)?;
    Ok(forward_auth::yes(told, told_names(site)))
}

/// One of the app's own logout addresses: what a provider sends there ends our sessions too, if it is believed, and the app
/// gets it as it came either way.
pub async fn logout_path(
    site: &Arc<Site>,
    jar: Jar,
    peer: &Peer,
    request: Request<Arriving>,
    seeks: &Seeks,
) -> Result<Answered, Box<Failed>> {
    let scan = scan::outgoing(seeks, &request)?;
    let (mut parts, body) = request.into_parts();
    let time = site.listen.idle_timeout.min(site.limits.login_timeout);
    let held = site.counters.held.open(client(site, peer, &parts.headers));
    let body = whole::read(body, site.limits.callback_body, time, held).await?;
    if let Some(scan) = scan {
        scan::check(scan.read_whole(&body), "body")?;
    }
    let mut session = None;
    if let Some(gate) = &site.gate {
        let ended = end_sessions(site, gate, &parts, &body).await?;
        if let Some(ended) = ended {
            tracing::info!(sessions = ended, "the provider ended sessions, at a logout address of the app's");
        }
        if parts.extensions.get::<Arc<Bearer>>().is_none() {
            let uri = parts.uri.clone();
            let target = super::target_of(&uri);
            let (method, client) = (parts.method.clone(), client(site, peer, &parts.headers));
            let looked = Parts { method: &method, target, headers: &mut parts.headers, client };
            let admitted = gate.admit(site, &jar, looked).await?;
            match admitted {
                Admitted::Passes(admitted) => session = admitted,
                Admitted::Answered(answer) => return Ok(Answered::Own(answer)),
            }
        }
    }
    let request = Box::new(Request::from_parts(parts, Outgoing::whole(body)));
    let mut response = site.app.send(request, None).await?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Trouble::AppUnreachable("it switched protocols unasked".into()).into());
    }
    headers::clean_response(response.headers_mut());
    remember_redirect(site, &jar, &mut response);
    answered(site, session.as_deref(), &jar, response.headers_mut(), false);
    Ok(Answered::App(response))
}

/// How many sessions a message ended; `None` where it is no logout, or is not believed.
async fn end_sessions(
    site: &Site,
    gate: &Gate,
    parts: &http::request::Parts,
    body: &Bytes,
) -> Result<Option<u64>, Trouble> {
    let outcome = if let Some(token) = logout_token(&parts.headers, body) {
        gate.front.end_by_token(&token).await
    } else {
        let found = logout_request(parts.uri.query(), &parts.headers, body, site.limits.saml_document);
        let Some(request) = found else { return Ok(None) };
        gate.front.end_by_request(&Arc::new(request), gate.places_of(parts.uri.path())).await
    };
    match outcome {
        Ok(LoggedOut::Ended(sessions)) => Ok(Some(sessions)),
        Ok(LoggedOut::Replay) => Ok(None),
        Err(Trouble::Logout(why)) => {
            tracing::warn!(reason = %why, "a logout matches none of our sessions; passing it to the app unchanged");
            Ok(None)
        }
        // It may be a good one: the answer asks the provider to try again.
        Err(trouble) => Err(trouble),
    }
}
