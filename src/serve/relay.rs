//! The relay: the token endpoint that an app is given in place of its provider's, for the app alone.
//!
//! ```text
//! capture::relay::read_request   what the provider could only refuse is refused here, before anything is spent
//! ready                          a login could be committed now, or nothing is forwarded
//! BackChannel::ask               the very same request, to the provider
//! capture::relay::read_reply     an ID token is a login: login::enter; a refresh without one asks: login::resync
//! revoke                         what the app does not get is worth nothing to any other party either
//! ```
//!
//! Passwords of clients, codes and tokens pass here and are in no log.

mod revoke;

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode, request};
use http_body_util::Full;
use percent_encoding::percent_decode_str;
use serde_json::Value;
use tokio::net::TcpListener;

use super::arriving::Arriving;
use super::counters::{Counters, StageLabel};
use super::proxy::headers::clean_response;
use super::respond;
use super::respond::oauth::{self, Trouble};
use super::side::Side;
use super::tls::Tls;
use super::whole;
use crate::config::{self, Config, Endpoint};
use crate::login::walk::Message;
use crate::login::{self, Attempt, Entered, Reason, Refused, Resync, Services, new_id};
use crate::pipeline::capture::denial::Denial;
use crate::pipeline::capture::oidc::AccessToken;
use crate::pipeline::capture::relay::{
    Grant, ReplyFault, TokenReply, TokenRequest, Tokens, may_be_of_person, read_reply, read_request,
};
use crate::pipeline::capture::token::is_within;
use crate::pipeline::provider::{Mode, Protocol, Provider};
use crate::pipeline::verify::Origin;
use crate::ports::back_channel::AskError;
use crate::ports::http::FetchError;

/// Bytes of the shortest value of a request that may be secret: a code, a token, a password.
const LEAST_SECRET: usize = 8;

/// Everything that an exchange needs of one configuration. Swapped whole by a reload.
pub struct Relay {
    providers: Vec<Arc<Provider>>,
    settings: config::Relay,
    login_timeout: std::time::Duration,
    services: Services,
    counters: Arc<Counters>,
}

impl Relay {
    /// `None` where the configuration has no relay.
    pub fn new(config: &Config, services: Services, counters: Arc<Counters>) -> Option<Self> {
        let providers = config.providers.iter().map(|settings| &settings.provider);
        Some(Self {
            providers: providers.filter(|provider| provider.mode == Mode::TokenRelay).cloned().collect(),
            settings: config.relay.clone()?,
            login_timeout: config.limits.login_timeout,
            services,
            counters,
        })
    }
}

impl Relay {
    /// What stays when a reload takes the relay away: the listener goes on until the next start, and has no provider.
    pub fn without_providers(&self) -> Self {
        Self {
            providers: Vec::new(),
            settings: self.settings.clone(),
            login_timeout: self.login_timeout,
            services: self.services.clone(),
            counters: Arc::clone(&self.counters),
        }
    }
}

/// Serves until `shutdown` is ready, then lets exchanges under way finish.
///
/// What answers is read again for every request, so a reload reaches open connections too.
pub async fn run(
    listener: TcpListener,
    relay: Arc<ArcSwap<Relay>>,
    tls: Option<Arc<Tls>>,
    shutdown: impl Future<Output = ()>,
) {
    let most_connections = relay.load().settings.max_connections;
    let answer = move |_, request| {
        let answer = Box::pin(handle(relay.load_full(), request));
        async move { answer.await.map(Full::new) }
    };
    Side { listener, name: "relay", most_connections, tls }.run(answer, shutdown).await;
}

/// Answers one request of the app.
async fn handle(relay: Arc<Relay>, request: Request<Arriving>) -> Response<Bytes> {
    let id = new_id();
    // Once the provider was asked, the login runs to its end even if the app goes away.
    let outcome = take(&relay, id.clone(), request).await;
    outcome.unwrap_or_else(|trouble| refuse(&relay, &id, &trouble))
}

async fn take(relay: &Arc<Relay>, id: String, request: Request<Arriving>) -> Result<Response<Bytes>, Trouble> {
    let (provider, page) = find(relay, request.uri().path()).ok_or(Trouble::NotFound)?;
    match page {
        Page::Discovery if request.method() == Method::GET => {
            published(relay, &provider).await?;
            discovery(relay, &provider)
        }
        Page::Discovery => Err(Trouble::Method("GET")),
        Page::Token if request.method() == Method::POST => {
            let exchange = Exchange::read(Arc::clone(relay), id, provider, request).await?;
            tokio::spawn(exchange.run()).await.unwrap_or(Err(Trouble::Internal))
        }
        Page::Token => Err(Trouble::Method("POST")),
    }
}

enum Page {
    Token,
    Discovery,
}

const DISCOVERY: &str = "/.well-known/openid-configuration";

/// `/PROVIDER/token`, `/PROVIDER/.well-known/openid-configuration`.
fn find(relay: &Relay, path: &str) -> Option<(Arc<Provider>, Page)> {
    let (name, rest) = path.strip_prefix('/').and_then(|path| Some(path.split_at(path.find('/')?)))?;
    let name = percent_decode_str(name).decode_utf8().ok()?;
    let provider = relay.providers.iter().find(|provider| provider.name.as_str() == name)?;
    let page = match rest {
        "/token" => Page::Token,
        DISCOVERY => Page::Discovery,
        _ => return None,
    };
    Some((Arc::clone(provider), page))
}

/// The address of a provider's token endpoint here.
fn token_url(relay: &Relay, provider: &Provider) -> String {
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    const KEPT: &percent_encoding::AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
    format!("{}/{}/token", relay.settings.url, utf8_percent_encode(provider.name.as_str(), KEPT))
}

/// Waits until the provider's keys and addresses were fetched once.
async fn published(relay: &Relay, provider: &Provider) -> Result<(), Trouble> {
    let current = tokio::time::timeout(relay.login_timeout, relay.services.keys.current(&provider.name)).await;
    let current = current.map_err(|_| Trouble::NotReady(TOO_LONG.into()))?;
    current.map(drop).map_err(|error| Trouble::NotReady(error.to_string()))
}

const TOO_LONG: &str = "it takes longer than `limits.login_timeout`";

/// The provider's own document with another token endpoint, for clients that take the address of a document.
fn discovery(relay: &Relay, provider: &Provider) -> Result<Response<Bytes>, Trouble> {
    let document = relay.services.keys.document(&provider.name).ok_or(Trouble::NoDocument)?;
    let mut document = (*document).clone();
    let ours = Value::String(token_url(relay, provider));
    // RFC 8705 section 5: the alias is the token endpoint of a client that shows a certificate.
    if let Some(Value::Object(aliases)) = document.get_mut("mtls_endpoint_aliases")
        && let Some(alias) = aliases.get_mut(Endpoint::Token.member())
    {
        *alias = ours.clone();
    }
    // RFC 8414 section 2.1: what is signed goes before what is not, and it names the provider's own endpoint.
    document.remove("signed_metadata");
    document.insert(Endpoint::Token.member().to_owned(), ours);
    let mut response = Response::new(Bytes::from(Value::Object(document).to_string()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// A token request that has arrived whole, and may go on.
struct Exchange {
    relay: Arc<Relay>,
    id: String,
    provider: Arc<Provider>,
    parts: request::Parts,
    body: Bytes,
    request: TokenRequest,
}

/// What becomes of a reply.
enum Verdict {
    Passes,
    /// It brings tokens that the app does not get.
    Withheld(Trouble, Option<Box<Tokens>>),
}

impl Exchange {
    async fn read(
        relay: Arc<Relay>,
        id: String,
        provider: Arc<Provider>,
        request: Request<Arriving>,
    ) -> Result<Self, Trouble> {
        let (parts, body) = request.into_parts();
        let limit = relay.settings.request_body;
        // Its clients are the app, which has no share but all.
        let held = relay.counters.held.open(None);
        let read = whole::read(body, limit, relay.settings.timeout, held).await;
        let body = read.map_err(|trouble| match trouble {
            respond::Trouble::BodyTooLarge { .. } => Trouble::TooLarge { limit },
            respond::Trouble::BodyStalled => Trouble::Body("the body stopped arriving"),
            respond::Trouble::Full(full) => Trouble::Full(full),
            _ => Trouble::Body("the body broke off"),
        })?;
        let token_endpoint = || relay.services.keys.endpoint(&provider.name, Endpoint::Token);
        if token_endpoint().is_none() && memchr::memmem::find(&body, b"client_assertion").is_some() {
            published(&relay, &provider).await?;
        }
        let endpoint = token_endpoint();
        let audiences: Vec<&str> =
            [Some(provider.issuer.as_str()), endpoint.as_deref()].into_iter().flatten().collect();
        let request = read_request(&audiences, parts.uri.query(), &parts.headers, &body).map_err(Trouble::Request)?;
        Ok(Self { relay, id, provider, parts, body, request })
    }

    async fn run(self) -> Result<Response<Bytes>, Trouble> {
        if self.request.grant == Grant::Client {
            // Its token is no login, and needs nothing but an address.
            if self.relay.services.keys.endpoint(&self.provider.name, Endpoint::Token).is_none() {
                published(&self.relay, &self.provider).await?;
            }
            let reply = self.forward().await?;
            return match may_be_of_person(reply.status(), reply.headers(), reply.body()) {
                true => self.sync(reply).await,
                false => Ok(reply),
            };
        }
        self.ready().await?;
        let reply = self.forward().await?;
        self.sync(reply).await
    }

    /// Hands a reply on once whom it logs in is synced.
    async fn sync(self, reply: Response<Bytes>) -> Result<Response<Bytes>, Trouble> {
        match self.judge(&reply).await {
            Verdict::Passes => Ok(reply),
            Verdict::Withheld(trouble, tokens) => {
                if let Some(tokens) = tokens {
                    tokio::spawn(revoke::revoke(self, *tokens));
                }
                Err(trouble)
            }
        }
    }

    /// Whether a login could be committed now. A grant that was spent for nothing could not be handed in again.
    async fn ready(&self) -> Result<(), Trouble> {
        published(&self.relay, &self.provider).await?;
        let ready = tokio::time::timeout(self.relay.login_timeout, self.relay.services.store.ready()).await;
        ready.map_err(|_| Trouble::NotReady(TOO_LONG.into()))?.map_err(|error| Trouble::NotReady(error.to_string()))
    }

    /// Hands the request on as it came, and reads the whole reply.
    async fn forward(&self) -> Result<Response<Bytes>, Trouble> {
        let mut request = Request::new(self.body.to_vec());
        *request.method_mut() = Method::POST;
        *request.headers_mut() = onward(&self.parts.headers);
        let Relay { settings, services, .. } = &*self.relay;
        let asked = services.back_channel.ask(&self.provider.name, Endpoint::Token, request, settings.reply_body);
        let reply = tokio::time::timeout(settings.timeout, asked).await.map_err(|_| Trouble::TooSlow)?;
        let mut reply = reply.map_err(|error| match error {
            AskError::Fetch(FetchError::Timeout) => Trouble::TooSlow,
            other => Trouble::Unreachable(other.to_string()),
        })?;
        clean_response(reply.headers_mut());
        reply.headers_mut().remove(header::CONTENT_LENGTH);
        Ok(reply.map(Bytes::from))
    }

    /// Reads a reply, and syncs whomever it logs in.
    async fn judge(&self, reply: &Response<Bytes>) -> Verdict {
        let tokens = match read_reply(reply.status(), reply.headers(), reply.body()) {
            Ok(TokenReply::Refusal(said)) => {
                self.tell_refusal(said);
                return Verdict::Passes;
            }
            Ok(TokenReply::Tokens(tokens)) => tokens,
            // What no client looks for is no refresh that an app would miss.
            Err(ReplyFault::Hidden) => return Verdict::Withheld(Trouble::Reply(ReplyFault::Hidden), None),
            // A laxer parser than ours may find a login in it.
            Err(fault) if is_within(reply.body()) => return Verdict::Withheld(Trouble::Reply(fault), None),
            Err(fault) => return self.failed(Trouble::Reply(fault), None),
        };
        let client_id = match &self.provider.protocol {
            Protocol::Oidc(policy) => policy.client_id.as_str(),
            Protocol::Saml(_) => "",
        };
        if tokens.hides_login(&self.provider, client_id) {
            return Verdict::Withheld(Trouble::Reply(ReplyFault::Hidden), Some(tokens));
        }
        match self.log_in(&tokens).await {
            // Its grant is none of a person's.
            None => Verdict::Passes,
            Some(Ok(entered)) => {
                entered.delivered();
                Verdict::Passes
            }
            Some(Err(refused)) if self.request.grant == Grant::Refresh && refused.reason.is_disbelief() => {
                self.ask_instead(refused, tokens).await
            }
            Some(Err(refused)) => self.failed(Trouble::Login(refused), Some(tokens)),
        }
    }

    /// A refreshed ID token that is merely not believed, as at a rotation of keys: userinfo decides. Where it cannot be asked, the app
    /// does not get the tokens, and they stay valid, since it asks again.
    async fn ask_instead(&self, disbelieved: Refused, tokens: Box<Tokens>) -> Verdict {
        // The app gets the ID token too, so that userinfo has to speak of the same person.
        let subject = match &tokens.id_token {
            Some(Ok(token)) => token.subject().map(str::to_owned),
            _ => None,
        };
        let (Some(access_token), Some(subject)) = (tokens.access_token.clone(), subject) else {
            return Verdict::Withheld(Trouble::NotBelieved(disbelieved.reason.to_string()), None);
        };
        match login::resync(&self.relay.services, self.resync(access_token, Some(subject))).await {
            Ok(entered) => {
                entered.delivered();
                Verdict::Passes
            }
            Err(refused) if refused.reason.is_unasked() => {
                Verdict::Withheld(Trouble::NotBelieved(disbelieved.reason.to_string()), None)
            }
            Err(refused) => self.failed(Trouble::Login(refused), Some(tokens)),
        }
    }

    fn resync(&self, access_token: AccessToken, subject: Option<String>) -> Resync {
        let (id, provider, timeout) = (self.id.clone(), Arc::clone(&self.provider), self.relay.login_timeout);
        Resync { id, provider, access_token, subject, timeout }
    }

    /// Says what the provider refuses with, unless it repeats a part of the request, which may be secret.
    fn tell_refusal(&self, said: Option<(String, Option<String>)>) {
        let Some((error, description)) = said else { return };
        if matches!(error.as_str(), "authorization_pending" | "slow_down") {
            // How a device waits for its person (RFC 8628 section 3.5).
            return;
        }
        let sent: Vec<String> = form_urlencoded::parse(&self.body).map(|(_, value)| value.into_owned()).collect();
        let repeats = |text: &str| sent.iter().any(|sent| sent.len() >= LEAST_SECRET && text.contains(sent.as_str()));
        let denial = match (repeats(&error), description.filter(|text| !repeats(text))) {
            (true, _) => Denial::new("an error that repeats the request", None),
            (false, description) => Denial::new(&error, description.as_deref()),
        };
        tracing::info!(id = %self.id, provider = %self.provider.name, reason = %denial, "the provider refuses the app's token request");
    }

    /// Syncs whomever the tokens of a reply log in; `None` where they are the app's own.
    async fn log_in(&self, tokens: &Tokens) -> Option<Result<Entered, Refused>> {
        let Relay { services, login_timeout: timeout, .. } = &*self.relay;
        let (id, timeout, access_token) = (self.id.clone(), *timeout, tokens.access_token.clone());
        let provider = &self.provider;
        match (&tokens.id_token, self.request.grant, access_token) {
            (Some(token), _, access_token) => {
                let message = Message::Answer { provider, token: token.clone(), state: None };
                let captured = match login::capture_answer(services, &id, message) {
                    Ok(captured) => captured?,
                    Err(refused) => return Some(Err(refused)),
                };
                let origin = Origin::Exchanged { access_token };
                Some(login::enter(services, Attempt { id, captured, origin, timeout }).await)
            }
            (None, Grant::Refresh, Some(access_token)) => {
                Some(login::resync(services, self.resync(access_token, None)).await)
            }
            (None, Grant::Refresh | Grant::Person, _) => {
                let name = Some(&provider.name);
                Some(Err(services.refuse_early(&id, provider.mode, name, Reason::NoIdToken)))
            }
            (None, Grant::Client | Grant::Exchange, _) => None,
        }
    }

    /// A reply whose login is refused. At a refresh the app has let the person in long ago, and a failure of ours must not end every
    /// session: only a verdict does.
    fn failed(&self, trouble: Trouble, tokens: Option<Box<Tokens>>) -> Verdict {
        let verdict = matches!(&trouble, Trouble::Login(refused) if refused.reason.is_verdict());
        if self.request.grant != Grant::Refresh || verdict {
            return Verdict::Withheld(trouble, tokens);
        }
        self.relay.counters.unsynced.inc();
        tracing::error!(
            id = %self.id, provider = %self.provider.name, reason = %trouble,
            "refreshed without a sync: the app got its tokens, and memberships did not change"
        );
        Verdict::Passes
    }
}

/// The fields of a request that are meant for the provider: all but those of this connection, and but the wish for a
/// compressed answer, which could not be read.
fn onward(headers: &HeaderMap) -> HeaderMap {
    let mut onward = headers.clone();
    clean_response(&mut onward);
    for name in [header::HOST, header::CONTENT_LENGTH, header::ACCEPT_ENCODING, header::EXPECT] {
        onward.remove(name);
    }
    onward
}

fn refuse(relay: &Relay, id: &str, trouble: &Trouble) -> Response<Bytes> {
    let response = oauth::answer(trouble, id);
    let (stage, status) = (trouble.stage(), response.status().as_u16());
    relay.counters.refusals.get_or_create(&StageLabel { stage }).inc();
    // The outcome of the login was reported already, under the same ID.
    if let Trouble::Login(_) = trouble {
        return response;
    }
    let reason: String = trouble.to_string().chars().take(1000).collect();
    if response.status() >= StatusCode::INTERNAL_SERVER_ERROR {
        tracing::error!(%id, stage, reason, status, "exchange failed");
    } else {
        tracing::warn!(%id, stage, reason, status, "exchange refused");
    }
    response
}
