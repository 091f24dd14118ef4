//! What stands before the app: our own pages, gateways' questions, who has a session, and the app's own logout addresses.
//!
//! All of it is there only where the configuration asks for sessions; without them requests pass as they came.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderMap};
use http::{Method, Request, Response, StatusCode};

use super::body::Outgoing;
use super::headers;
use super::headers::identity::{self, Identity};
use super::{Answered, Failed, Jar, Site, Trouble, client, new_id, remember_redirect, scan};
use crate::config::{ForwardAuth, Need, OWN, SessionSettings};
use crate::pipeline::capture::fields::{Field, ProtocolFields};
use crate::pipeline::reading::header::{Meaning, folded, meaning};
use crate::ports::sessions::{LoggedOut, Session};
use crate::serve::access::Rules;
use crate::serve::arriving::Arriving;
use crate::serve::assertion;
use crate::serve::bearer::Bearer;
use crate::serve::forward_auth::{self, Question};
use crate::serve::held;
use crate::serve::listen::Peer;
use crate::serve::relying_party::logout::{logout_request, logout_token};
use crate::serve::relying_party::{Front, OwnRequest};
use crate::serve::respond;

/// Everything about sessions that one configuration asks for.
pub struct Gate {
    pub front: Arc<Front>,
    access: Option<Rules>,
    forward_auth: Option<ForwardAuth>,
    origin: String,
}

impl Gate {
    pub fn new(front: Arc<Front>, settings: &SessionSettings, origin: &str) -> Self {
        Self {
            front,
            access: settings.access.as_ref().map(Rules::new),
            forward_auth: settings.forward_auth.clone(),
            origin: origin.to_owned(),
        }
    }

    /// Whether gateways ask at this path about other requests.
    pub fn is_asked(&self, path: &str) -> bool {
        self.forward_auth.as_ref().is_some_and(|settings| forward_auth::is_asked(settings, path))
    }

    /// What a request to the app needs.
    fn need(&self, request: &Parts<'_>) -> Need {
        let is_overridden = || names_a_method(request.headers, request.target);
        self.access.as_ref().map_or(Need::Nothing, |rules| rules.need(request.method, request.path, is_overridden))
    }

    /// Lets a request through to the app, with the identity headers of its session, or answers in its place.
    pub async fn admit(&self, site: &Site, jar: &Jar, request: Parts<'_>) -> Result<Option<Response<Bytes>>, Trouble> {
        if let Some(session) = self.session(jar, request.headers).await? {
            // Names of identity headers were removed when the request came in, so nothing forged stays beside these.
            site.tell(request.headers, &Identity::of_session(&session), None)?;
            return Ok(None);
        }
        match self.need(&request) {
            Need::Nothing => Ok(None),
            Need::Session if browses(request.method, request.headers) => {
                Ok(Some(respond::redirect(&self.front.sign_in_address(request.target), HeaderMap::new())))
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

/// What is looked at of a request before the app gets it.
pub struct Parts<'r> {
    pub method: &'r Method,
    pub path: &'r str,
    /// Path and query.
    pub target: &'r str,
    pub headers: &'r mut HeaderMap,
}

/// Whether an app may take a request for one of another method, by what its head or query says.
fn names_a_method(headers: &HeaderMap, target: &str) -> bool {
    let by_header = headers.keys().any(|name| meaning(&folded(name.as_str())) == Some(Meaning::Method));
    let mut fields = ProtocolFields::default();
    let query = target.split_once('?').map_or("", |(_, query)| query);
    // What cannot be read plainly may name one.
    let unread = fields.read_query(query).is_err();
    by_header || unread || fields.has(Field::Method) || fields.has(Field::MethodOverride)
}

/// Whether a browser asks for a page, which may be sent elsewhere first.
fn browses(method: &Method, headers: &HeaderMap) -> bool {
    let navigates = headers.get("sec-fetch-mode").is_none_or(|mode| mode.as_bytes() == b"navigate");
    matches!(*method, Method::GET | Method::HEAD) && navigates && respond::accepts_html(headers.get(header::ACCEPT))
}

/// Admits a request that streams.
pub async fn admit(
    site: &Site,
    jar: &Jar,
    request: &mut Request<Arriving>,
) -> Result<Option<Response<Bytes>>, Trouble> {
    let Some(gate) = &site.gate else { return Ok(None) };
    let uri = request.uri().clone();
    let method = request.method().clone();
    let target = uri.path_and_query().map(|target| target.as_str()).unwrap_or_default();
    let parts = Parts { method: &method, path: uri.path(), target, headers: request.headers_mut() };
    gate.admit(site, jar, parts).await
}

/// A request to a page of ours.
pub async fn own(site: &Arc<Site>, jar: Jar, peer: &Peer, request: Request<Arriving>) -> Result<Answered, Box<Failed>> {
    let trusted = site.trusts(peer.address);
    let Some(gate) = &site.gate else { return Err(Trouble::NoSuchPage.into()) };
    let (parts, body) = request.into_parts();
    let path = parts.uri.path();
    if let Some(settings) = gate.forward_auth.as_ref().filter(|settings| forward_auth::is_asked(settings, path)) {
        let question = Question { path, query: parts.uri.query(), method: &parts.method, headers: &parts.headers };
        return Ok(Answered::Own(ask(site, gate, settings, &jar, trusted, &question).await?));
    }
    // Another spelling is none of ours, and not the app's either.
    let page = path.strip_prefix(OWN).ok_or(Trouble::NoSuchPage)?.to_owned();
    let time = site.listen.idle_timeout.min(site.limits.login_timeout);
    let held = site.counters.held.open(client(site, peer, &parts.headers));
    let body = held::read(body, site.limits.callback_body, time, held).await?;
    let id = new_id();
    let query = parts.uri.query().map(str::to_owned);
    let request = OwnRequest { id: id.clone(), page, method: parts.method, query, headers: parts.headers, body, jar };
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
) -> Result<Response<Bytes>, Trouble> {
    if !trusted {
        return Err(Trouble::NoGateway);
    }
    let wanted = forward_auth::wanted(settings, question)?;
    let navigates = forward_auth::navigates(settings, question)?;
    if let Some(bearers) = &site.bearers {
        // The query of the request that is asked about; of this one it was looked into before.
        let query = wanted.split_once('?').map(|(_, query)| query);
        let borne = bearers.identify(&site.services, question.headers, query, None);
        if let Some(bearer) = Box::pin(borne).await? {
            return yes(site, &Identity::of_bearer(&bearer));
        }
    }
    match gate.session(jar, question.headers).await? {
        Some(session) => yes(site, &Identity::of_session(&session)),
        None => forward_auth::no(settings, &gate.front.sign_in_address(&wanted), navigates),
    }
}

fn yes(site: &Site, identity: &Identity<'_>) -> Result<Response<Bytes>, Trouble> {
    let mut told = HeaderMap::new();
    site.tell(&mut told, identity, None)?;
    let assertion = site.asserter.is_some().then_some(assertion::HEADER);
    Ok(forward_auth::yes(told, identity::names(site.identity.preset).chain(assertion)))
}

/// One of the app's own logout addresses: what a provider sends there ends our sessions too, if it is believed, and the app
/// gets it as it came either way.
pub async fn logout_path(
    site: &Arc<Site>,
    jar: Jar,
    peer: &Peer,
    request: Request<Arriving>,
) -> Result<Answered, Box<Failed>> {
    let scan = scan::outgoing(&site.seeks, &request)?;
    let (mut parts, body) = request.into_parts();
    let time = site.listen.idle_timeout.min(site.limits.login_timeout);
    let held = site.counters.held.open(client(site, peer, &parts.headers));
    let body = held::read(body, site.limits.callback_body, time, held).await?;
    if let Some(scan) = scan {
        scan::check(scan.read_whole(&body), "body")?;
    }
    if let Some(gate) = &site.gate {
        let ended = end_sessions(site, gate, &parts, &body).await?;
        if let Some(ended) = ended {
            tracing::info!(sessions = ended, "the provider ended sessions, at a logout address of the app's");
        }
        if parts.extensions.get::<Arc<Bearer>>().is_none() {
            let uri = parts.uri.clone();
            let target = uri.path_and_query().map(|target| target.as_str()).unwrap_or_default();
            let method = parts.method.clone();
            let looked = Parts { method: &method, path: uri.path(), target, headers: &mut parts.headers };
            let answer = gate.admit(site, &jar, looked).await?;
            if let Some(answer) = answer {
                return Ok(Answered::Own(answer));
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
        let place = format!("{}{}", gate.origin, parts.uri.path());
        gate.front.end_by_request(&Arc::new(request), place).await
    };
    match outcome {
        Ok(LoggedOut::Ended(sessions)) => Ok(Some(sessions)),
        Ok(LoggedOut::Replay) => Ok(None),
        Err(Trouble::Logout(why)) => {
            tracing::warn!(reason = %why, "a logout ends none of our sessions; the app gets it as it came");
            Ok(None)
        }
        // It may be a good one: the provider is told to try again.
        Err(trouble) => Err(trouble),
    }
}
