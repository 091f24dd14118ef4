//! A message at a callback: held, looked into, and applied where it is a login; only then the app gets it, byte for byte.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderMap};
use http::{Request, Response, StatusCode, request};

use super::body::Outgoing;
use super::gate::{self, Admitted};
use super::headers;
use super::upstream::AppBody;
use super::{Answered, Failed, HeldForm, Site, client, remember_redirect, scan};
use crate::login::{self, Entered, Passed, Reason, Refused, login, new_id};
use crate::pipeline::capture::CallbackMessage;
use crate::pipeline::provider::{Mode, Provider};
use crate::pipeline::reading::media;
use crate::pipeline::verify::BindingVerdict;
use crate::serve::arriving::Arriving;
use crate::serve::bearer::Bearer;
use crate::serve::cookies::Jar;
use crate::serve::held::Client;
use crate::serve::identity::Identity;
use crate::serve::peer::Peer;
use crate::serve::respond::{self, Trouble};
use crate::serve::session::{Beginning, set_by_app};
use crate::serve::whole;

/// A message at a callback path: no login, or one that is applied before the app sees it.
pub(super) async fn take(
    site: Arc<Site>,
    providers: Vec<Arc<Provider>>,
    jar: Jar,
    peer: Arc<Peer>,
    request: Request<Arriving>,
) -> Result<Answered, Box<Failed>> {
    let (mut parts, body) = request.into_parts();
    if parts.headers.get_all(header::CONTENT_TYPE).iter().any(|kind| media::has_foreign_charset(kind.as_bytes())) {
        return Err(Trouble::UnreadableForm("a character encoding other than UTF-8 or one byte a letter").into());
    }
    // What is held here is memory that a stranger chose, so a login may take no longer to arrive than to be decided.
    let time = site.listen.idle_timeout.min(site.limits.login_timeout);
    let body = match parts.extensions.remove() {
        Some(HeldForm(form)) => form,
        None => {
            let held = site.counters.held.open(client(&site, &peer, &parts.headers));
            whole::read(body, site.limits.callback_body, time, held).await?
        }
    };
    let seeks = site.seeks.at_callback(&parts);
    scan::beside_login(seeks, parts.uri.query(), &parts.headers, &body)?;
    // From here on the login runs to its end even if the browser goes away, so that what was committed is also told.
    let client = client(&site, &peer, &parts.headers);
    let arrival = Arrival { id: new_id(), providers, jar, parts, body, client };
    // In a box, since a task moves what it runs, and what came of it, several times.
    match tokio::spawn(Box::pin(arrival.enter(site))).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Trouble::AppUnreachable("the login ended unexpectedly".into()).into()),
    }
}

/// A message that has arrived whole at a callback path.
struct Arrival {
    id: String,
    providers: Vec<Arc<Provider>>,
    jar: Jar,
    parts: request::Parts,
    body: Bytes,
    client: Option<Client>,
}

impl Arrival {
    async fn enter(self, site: Arc<Site>) -> Result<Answered, Box<Failed>> {
        let kept = site.binder.open(&self.jar, site.services.clock.now());
        let (names, remembered): (Vec<String>, Vec<_>) =
            kept.into_iter().map(|kept| (kept.name, kept.remembered)).unzip();
        let request = login::Request {
            id: self.id.clone(),
            providers: &self.providers,
            message: self.message(),
            remembered,
            max_document: site.limits.saml_document,
            timeout: site.limits.login_timeout,
        };
        match login(&site.services, request).await {
            Ok(Passed::NoLogin) => self.pass(&site).await,
            Ok(Passed::Login(entered)) => {
                let spent = match entered.assertion.get().binding {
                    BindingVerdict::Matched(index) => names.get(index).cloned(),
                    _ => None,
                };
                self.deliver(&site, &entered, spent).await
            }
            Err(refused) => self.again(&site, refused).await,
        }
    }

    /// No login: passes as any other request does.
    async fn pass(mut self, site: &Site) -> Result<Answered, Box<Failed>> {
        let borne = self.parts.extensions.get::<Arc<Bearer>>().is_some();
        let mut session = None;
        if let Some(gate) = site.gate.as_ref().filter(|_| !borne) {
            let uri = self.parts.uri.clone();
            let target = super::target_of(&uri);
            let (method, headers) = (self.parts.method.clone(), &mut self.parts.headers);
            let looked = gate::Parts { method: &method, target, headers, client: self.client };
            let admitted = gate.admit(site, &self.jar, looked).await?;
            match admitted {
                Admitted::Answered(answer) => return Ok(Answered::Own(answer)),
                Admitted::Passes(admitted) => session = admitted,
            }
        }
        let jar = self.jar.clone();
        let mut response = self.send(site, HeaderMap::new(), None).await?;
        // What is not a login to us may be one to the app, of another person.
        gate::answered(site, session.as_deref(), &jar, response.headers_mut(), false);
        Ok(Answered::App(response))
    }

    /// A refused login; where it is the one that this browser's session began with, the browser merely came back.
    async fn again(self, site: &Site, refused: Refused) -> Result<Answered, Box<Failed>> {
        if let (Reason::Replay { token }, Some(provider), Some(gate)) = (&refused.reason, &refused.provider, &site.gate)
            && gate.front.desk.began_with(&self.jar, provider, token).await
        {
            return Ok(Answered::Own(respond::redirect(&site.start_page, HeaderMap::new())));
        }
        let trouble = Trouble::Login(refused);
        Err(Box::new(Failed { id: Some(self.id), trouble, spent: None, cookies: HeaderMap::new() }))
    }

    /// Begins our session alongside the app's own, where the app has just begun one.
    async fn begin_session(site: &Site, id: &str, entered: &Entered, jar: &Jar, response: &mut Response<AppBody>) {
        let Some(gate) = &site.gate else { return };
        let Some(name) = gate.front.desk.settings().app_cookie.as_deref() else { return };
        let status = response.status();
        let set = set_by_app(response.headers(), name).map(<[u8]>::to_vec);
        let app_cookie = match set {
            Some(value) if !status.is_client_error() && !status.is_server_error() => value,
            _ => {
                tracing::warn!(%id, cookie = name, "the app started no session of its own at this login, so loginsync starts none");
                return;
            }
        };
        let beginning = Beginning { app_cookie: Some(&app_cookie), ..Beginning::default() };
        if let Err(error) = gate.front.desk.begin(id, entered, beginning, jar, response.headers_mut()).await {
            tracing::error!(%id, %error, "failed to start the session; identity headers stop at the callback");
        }
    }

    fn message(&self) -> CallbackMessage<'_> {
        let headers = &self.parts.headers;
        let mut types = headers.get_all(header::CONTENT_TYPE).iter();
        let content_type = match (types.next(), types.next()) {
            (Some(only), None) => Some(only.to_str().unwrap_or("(not ASCII)")),
            (Some(_), Some(_)) => Some("(more than one)"),
            (None, _) => None,
        };
        CallbackMessage {
            method: &self.parts.method,
            query: self.parts.uri.query(),
            content_type,
            encoded: scan::is_encoded(headers),
            body: &self.body,
        }
    }

    /// Lets a committed login through.
    async fn deliver(self, site: &Site, entered: &Entered, spent: Option<String>) -> Result<Answered, Box<Failed>> {
        let Entered { plan, claims, .. } = entered;
        let id = self.id.clone();
        let mut identity = HeaderMap::new();
        // An app that exchanges codes has its tokens, and gets no headers.
        let exchanges = self.providers.iter().any(|provider| provider.mode == Mode::TokenRelay);
        let told = match exchanges {
            true => Ok(()),
            false => site.tell(&mut identity, &Identity::of_login(plan, claims), Some(&id)),
        };
        let jar = self.jar.clone();
        let mut sent = match told {
            Ok(()) => self.send(site, identity, spent.as_deref()).await,
            Err(trouble) => Err(trouble),
        };
        if let Ok(response) = &mut sent {
            entered.delivered();
            Self::begin_session(site, &id, entered, &jar, response).await;
        }
        sent.map(Answered::App).map_err(|trouble| {
            let trouble = match trouble {
                Trouble::IdentityTooLarge { .. } => trouble,
                _ => Trouble::Undelivered(trouble.to_string()),
            };
            Box::new(Failed { id: Some(id), trouble, spent, cookies: HeaderMap::new() })
        })
    }

    /// Sends the request as it came, with what we add, and readies the answer.
    async fn send(self, site: &Site, added: HeaderMap, spent: Option<&str>) -> Result<Response<AppBody>, Trouble> {
        let mut request = Box::new(Request::from_parts(self.parts, Outgoing::whole(self.body)));
        // Replaces, where a name were there already; `clean_request` saw to it that none is.
        request.headers_mut().extend(added);
        let mut response = site.app.send(request, None).await?;
        headers::clean_response(response.headers_mut());
        // The address that receives logins may be the one that begins them.
        remember_redirect(site, &self.jar, &mut response);
        if let Some(name) = spent {
            site.binder.forget(name, response.headers_mut());
        }
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Err(Trouble::AppUnreachable("it switched protocols unasked".into()));
        }
        Ok(response)
    }
}
