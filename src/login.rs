//! The path of a login, and its two ends.
//!
//! ```text
//! walk       capture, verify, enrich, claims, candidates: written once
//!   commit   by the rules that the walk began with; where they are no longer current, its last part runs again (here)
//!   preview  the same decision, and nothing written (`explain`)
//! outcome    what became of it, told once
//! ```
//!
//! [`login`] is the way in of the modes that watch, [`enter`] what all modes share, [`resync`] a login without a token; a mode
//! in which not every token is a new login asks [`recognise`] first, and then [`sync`]. Whatever goes wrong is a [`Refused`] with
//! its reason, and the login does not reach the app.

mod enrich;
pub mod outcome;
pub mod trace;
pub mod walk;

use std::sync::Arc;
use std::time::{Duration, Instant};

use self::outcome::{About, Delivery, Outcomes};
use self::trace::{Asks, Trace, Unread};
use self::walk::{Known, Message, Stopped, again, by_userinfo, walk};
use crate::clock::Clock;
use crate::pipeline::capture::bearer::BearerFault;
use crate::pipeline::capture::denial::Denial;
use crate::pipeline::capture::oidc::AccessToken;
use crate::pipeline::capture::{Arrival, CallbackMessage, CaptureRefusal, Captured};
use crate::pipeline::claims::arrived::Arrived;
use crate::pipeline::claims::{Claim, ClaimState, Claims, ClaimsRefusal};
use crate::pipeline::ids::{ProviderName, Timestamp};
use crate::pipeline::plan::Plan;
use crate::pipeline::provider::{LONGEST_LEEWAY, LONGEST_MAX_AGE, Mode, Provider, Way};
use crate::pipeline::verify::{Assertion, BindingVerdict, Fault, Origin, Remembered, SignedToken, Verified};
use crate::ports::back_channel::BackChannel;
use crate::ports::directory::{Directory, DirectoryError};
use crate::ports::keys::{KeySource, KeysError};
use crate::ports::publish::followers::Followers;
use crate::ports::rules::Rules;
use crate::ports::store::{Applied, ClaimSummary, Login, Refusal, Store, StoreError};
use crate::telemetry::meters::Meters;

/// What a login needs of the world.
#[derive(Clone)]
pub struct Services {
    pub keys: Arc<dyn KeySource>,
    pub back_channel: Arc<dyn BackChannel>,
    pub directory: Arc<dyn Directory>,
    pub store: Arc<Store>,
    pub rules: Arc<Rules>,
    pub clock: Clock,
    pub meters: Arc<Meters>,
    pub outcomes: Arc<Outcomes>,
    /// The receivers that must confirm a login before it goes on.
    pub followers: Arc<Followers>,
    /// Long SAML documents take a core for milliseconds: this many are verified at once, on threads that may block.
    pub verifiers: Arc<tokio::sync::Semaphore>,
}

impl Services {
    fn asks(&self) -> Asks<'_> {
        Asks {
            keys: &*self.keys,
            back_channel: Some(&*self.back_channel),
            directory: Some(&*self.directory),
            verifiers: &self.verifiers,
        }
    }
}

/// A message at a callback path, and what is known about it.
pub struct Request<'a> {
    /// The id that the browser is shown, the log and the audit carry.
    pub id: String,
    /// The providers declared at this path.
    pub providers: &'a [Arc<Provider>],
    pub message: CallbackMessage<'a>,
    /// What the browser's binding cookies remember.
    pub remembered: Vec<Remembered>,
    /// Bytes of a decoded SAML document, at most.
    pub max_document: usize,
    /// For all that this login may wait for.
    pub timeout: Duration,
}

/// A login that some mode has captured.
pub struct Attempt {
    pub id: String,
    pub captured: Captured,
    pub origin: Origin,
    /// For all that this login may wait for.
    pub timeout: Duration,
}

/// A user to be brought up to date.
pub struct Resync {
    pub id: String,
    pub provider: Arc<Provider>,
    pub access_token: AccessToken,
    /// The subject that the provider has to name; `None`: any.
    pub subject: Option<String>,
    pub timeout: Duration,
}

/// What may go on to the app.
#[derive(Debug)]
pub enum Passed {
    /// No login: passes unread.
    NoLogin,
    /// A login whose plan is durably committed.
    Login(Box<Entered>),
}

/// A login that was applied.
#[derive(Debug)]
pub struct Entered {
    pub plan: Plan,
    pub claims: Arc<Claims>,
    pub assertion: Verified<Assertion>,
    delivery: Delivery,
}

impl Entered {
    /// Notes that the login was handed on. One that is dropped before counts as not delivered.
    pub fn delivered(&self) {
        self.delivery.done();
    }
}

/// Why a message must not reach the app. Only [`Services::refuse`] makes it, so that every refusal is reported.
#[derive(Debug)]
pub struct Refused {
    /// What the log and the audit carry.
    pub id: Box<str>,
    /// `None` where providers of several modes share the address that the message came to.
    pub mode: Option<Mode>,
    /// `None` while it was not known whose token it is.
    pub provider: Option<ProviderName>,
    pub reason: Reason,
    _told: Told,
}

#[derive(Debug)]
struct Told;

/// The stage that refused, with its own reason.
#[derive(Debug, thiserror::Error)]
pub enum Reason {
    #[error(transparent)]
    Capture(#[from] CaptureRefusal),
    #[error(transparent)]
    Bearer(#[from] BearerFault),
    #[error(
        "a person's grant brought no `id_token`, so that the login cannot be synced; have the app ask for scope `openid`"
    )]
    NoIdToken,
    #[error(transparent)]
    Keys(#[from] KeysError),
    #[error("{0}")]
    Verify(Fault),
    #[error(transparent)]
    Claims(#[from] ClaimsRefusal),
    #[error(transparent)]
    Userinfo(#[from] Unread),
    #[error("this token was issued to a client for itself, and identifies no person")]
    NoPerson,
    #[error("the provider was asked about the person of a session, and its ID token speaks of another")]
    AnotherPerson,
    #[error("this token was used before")]
    Replay { token: String },
    #[error("the user is disabled")]
    Disabled,
    #[error("refused by gate `{gate}`")]
    Gate {
        gate: String,
        /// For the person.
        message: String,
    },
    /// To us as the relying party; the provider itself tells an app that runs its own logins.
    #[error("the provider logs no person in: {0}")]
    Denied(Box<Denial>),
    #[error("the provider was removed, or replaced by another, while this login was decided")]
    Reconfigured,
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(
        "receiver `{receiver}` has not confirmed what this user holds; the login was committed, and goes on once it has"
    )]
    Unconfirmed { receiver: String },
    #[error("the login took longer than `limits.login_timeout`")]
    Timeout,
}

impl Reason {
    /// Whether the provider was asked about one person and spoke of another.
    pub fn is_of_another(&self) -> bool {
        matches!(self, Self::AnotherPerson | Self::Userinfo(Unread::Subject(_)))
    }

    /// Whether the token is merely not believed: the provider may still vouch for its person when it is asked. A signature that is wrong
    /// by a key of the provider's is more than that, and so are another issuer and an access token that the ID token does not vouch for.
    pub fn is_disbelief(&self) -> bool {
        match self {
            Self::Capture(_) | Self::Replay { .. } => true,
            Self::Verify(fault) => !matches!(
                fault,
                Fault::Signature | Fault::AccessToken | Fault::Code | Fault::Issuer { .. } | Fault::Internal
            ),
            _ => false,
        }
    }

    /// Whether the provider could not be asked.
    pub fn is_unasked(&self) -> bool {
        matches!(self, Self::Keys(_) | Self::Userinfo(Unread::Userinfo(_) | Unread::Keys(_)))
    }

    /// Whether a login was looked at and refused, and not merely kept from being decided, or not believed.
    pub fn is_verdict(&self) -> bool {
        let undecided = matches!(self.stage(), "store" | "keys" | "timeout" | "delivery")
            || matches!(self, Self::Verify(Fault::Internal));
        self.is_of_another() || !(self.is_disbelief() || undecided || matches!(self, Self::NoIdToken))
    }

    /// For metrics and the log: where it was refused.
    pub fn stage(&self) -> &'static str {
        match self {
            Self::Capture(_) | Self::Bearer(_) | Self::NoIdToken => "capture",
            Self::Keys(_) | Self::Userinfo(_) | Self::Reconfigured => "keys",
            Self::Verify(_) | Self::AnotherPerson => "verify",
            Self::Claims(_) | Self::NoPerson => "claims",
            Self::Replay { .. } => "replay",
            Self::Disabled => "disabled",
            Self::Gate { .. } => "gate",
            Self::Denied(_) => "provider",
            Self::Store(_) => "store",
            Self::Unconfirmed { .. } => "delivery",
            Self::Timeout => "timeout",
        }
    }
}

/// Takes one message at a callback path from bytes to a committed plan: the way in of the modes that watch.
///
/// # Errors
/// Anything but a clear pass refuses: a fault in the message, the token, its claims, the rules, the store or the time.
pub async fn login(services: &Services, request: Request<'_>) -> Result<Passed, Refused> {
    let Request { id, providers, message, remembered, max_document, timeout } = request;
    let message = Message::Callback { providers, message, max_document };
    let Some(captured) = capture(services, &id, message)? else { return Ok(Passed::NoLogin) };
    let origin = match captured.provider.mode.way() {
        // It comes with a code, which the app binds to its own request.
        Way::Relayed => Origin::Exchanged { access_token: None },
        _ => Origin::Watched(remembered),
    };
    let entered = enter(services, Attempt { id, captured, origin, timeout }).await?;
    Ok(Passed::Login(Box::new(entered)))
}

/// Finds the login in a message to an app that runs its own logins; `None` where there is none. A provider's denial passes, and is
/// told here.
///
/// # Errors
/// As for [`walk::capture`].
fn capture(services: &Services, id: &str, message: Message<'_>) -> Result<Option<Captured>, Refused> {
    let about = about_message(id, &message);
    match walk::capture(message).map_err(|refusal| services.refuse(&about, refusal.into()))? {
        Arrival::Login(captured) => Ok(Some(captured)),
        Arrival::NoLogin => Ok(None),
        Arrival::Denied(denial) => {
            services.outcomes.denied(&about, &denial);
            Ok(None)
        }
    }
}

/// Finds the login in an answer to a request of ours; `None` where there is none.
///
/// # Errors
/// As for [`walk::capture`], and when the provider denies the login.
pub fn capture_answer(services: &Services, id: &str, message: Message<'_>) -> Result<Option<Captured>, Refused> {
    let about = about_message(id, &message);
    match walk::capture(message).map_err(|refusal| services.refuse(&about, refusal.into()))? {
        Arrival::Login(captured) => Ok(Some(captured)),
        Arrival::NoLogin => Ok(None),
        Arrival::Denied(denial) => Err(services.refuse(&about, Reason::Denied(Box::new(denial)))),
    }
}

fn about_message(id: &str, message: &Message<'_>) -> About {
    match message {
        Message::Callback { providers, .. } => {
            let only = if let [only] = providers { Some(only.name.clone()) } else { None };
            about(id, only_mode(providers), only)
        }
        Message::Answer { provider, .. } => about_provider(id, provider),
    }
}

/// The mode of all of these providers, if it is one.
fn only_mode(providers: &[Arc<Provider>]) -> Option<Mode> {
    let mode = providers.first()?.mode;
    providers.iter().all(|provider| provider.mode == mode).then_some(mode)
}

/// A login that is spoken of from now on.
fn about(id: &str, mode: Option<Mode>, provider: Option<ProviderName>) -> About {
    About { id: id.to_owned(), mode, provider, started: Instant::now() }
}

impl Services {
    /// Refuses a login, and tells so: the only way to make a [`Refused`].
    fn refuse(&self, about: &About, reason: Reason) -> Refused {
        self.outcomes.refused(about, &reason);
        Refused {
            id: about.id.as_str().into(),
            mode: about.mode,
            provider: about.provider.clone(),
            reason,
            _told: Told,
        }
    }

    /// Refuses a login of some mode that never came to [`enter`].
    pub fn refuse_early(&self, id: &str, mode: Mode, provider: Option<&ProviderName>, reason: Reason) -> Refused {
        self.refuse(&about(id, Some(mode), provider.cloned()), reason)
    }
}

/// Takes a captured login to a committed plan: what all modes share.
///
/// # Errors
/// As for [`login`].
pub async fn enter(services: &Services, attempt: Attempt) -> Result<Entered, Refused> {
    let Attempt { id, captured, origin, timeout } = attempt;
    let about = about_provider(&id, &captured.provider);
    let path = async {
        let known = know(services, &id, captured, origin).await?;
        commit(services, &about, known).await
    };
    in_time(services, &about, timeout, path).await
}

fn about_provider(id: &str, provider: &Provider) -> About {
    about(id, Some(provider.mode), Some(provider.name.clone()))
}

/// Bounds the time of a path, and tells where it ends in a refusal.
async fn in_time<T>(
    services: &Services,
    about: &About,
    timeout: Duration,
    path: impl Future<Output = Result<T, Reason>>,
) -> Result<T, Refused> {
    let outcome = tokio::time::timeout(timeout, path).await;
    outcome.unwrap_or(Err(Reason::Timeout)).map_err(|reason| services.refuse(about, reason))
}

/// A user whose token was verified and read, and who is not yet synced.
pub struct Recognised {
    known: Known,
    about: About,
}

impl Recognised {
    pub fn assertion(&self) -> &Assertion {
        self.known.assertion().get()
    }

    pub fn claims(&self) -> &Arc<Claims> {
        self.known.claims()
    }
}

/// The first half of [`enter`], for a mode in which not every token is a new login. `None` for a token that identifies no
/// person.
///
/// # Errors
/// As for [`login`].
pub async fn recognise(services: &Services, attempt: Attempt) -> Result<Option<Recognised>, Refused> {
    let Attempt { id, captured, origin, timeout } = attempt;
    let about = about_provider(&id, &captured.provider);
    let path = async {
        match know(services, &id, captured, origin).await {
            Ok(known) => Ok(Some(known)),
            Err(Reason::NoPerson) => Ok(None),
            Err(reason) => Err(reason),
        }
    };
    let known = in_time(services, &about, timeout, path).await?;
    Ok(known.map(|known| Recognised { known, about }))
}

/// The second half of [`enter`].
///
/// # Errors
/// As for [`login`].
pub async fn sync(services: &Services, recognised: Recognised, timeout: Duration) -> Result<Entered, Refused> {
    let Recognised { known, about } = recognised;
    in_time(services, &about, timeout, commit(services, &about, known)).await
}

/// Brings a user up to date between logins, by what the provider's userinfo says now to the bearer of an access token.
///
/// # Errors
/// When the provider does not answer, and as for [`enter`].
pub async fn resync(services: &Services, resync: Resync) -> Result<Entered, Refused> {
    let Resync { id, provider, access_token, subject, timeout } = resync;
    let about = about_provider(&id, &provider);
    let path = async {
        let (now, mut trace) = (services.clock.now(), LogTrace { services, id: &id });
        let known = by_userinfo(
            services.asks(),
            services.rules.pair(),
            &provider,
            (access_token, subject.as_deref()),
            now,
            &mut trace,
        )
        .await;
        let known = recorded(services, &id, &provider, now, known).await?;
        commit(services, &about, known).await
    };
    in_time(services, &about, timeout, path).await
}

/// The walk of a login, with what it is worth writing down.
async fn know(services: &Services, id: &str, captured: Captured, origin: Origin) -> Result<Known, Reason> {
    let (now, mut trace) = (services.clock.now(), LogTrace { services, id });
    let provider = Arc::clone(&captured.provider);
    let known = walk(services.asks(), services.rules.pair(), captured, origin, now, &mut trace).await;
    recorded(services, id, &provider, now, known).await
}

/// Writes the audit row of a walk that ended after the signature held.
async fn recorded(
    services: &Services,
    id: &str,
    provider: &Provider,
    now: Timestamp,
    known: Result<Known, Stopped>,
) -> Result<Known, Reason> {
    match known {
        Ok(known) => Ok(known),
        Err(Stopped { reason, signed, arrived }) => {
            for near in &arrived.near {
                tracing::warn!(
                    %id, provider = %provider.name, claim = near.claim, %near,
                    "a claim is missing; one with a similar name arrived"
                );
            }
            if let Some(signed) = signed {
                record(services, (id, provider), *signed, *arrived, &reason, now).await;
            }
            Err(reason)
        }
    }
}

/// What the log reports of a walk.
struct LogTrace<'a> {
    services: &'a Services,
    id: &'a str,
}

impl Trace for LogTrace<'_> {
    fn source_failed(&mut self, provider: &ProviderName, source: &'static str, error: &Unread) {
        let id = self.id;
        tracing::warn!(%id, %provider, source, %error, "failed to fetch a claim source; keeping the grants that depend on it");
    }

    fn directory_asked(&mut self, provider: &ProviderName, answer: &Result<Vec<String>, DirectoryError>) {
        let id = self.id;
        self.services.meters.looked_up(provider, answer.is_ok());
        match answer {
            Ok(groups) => {
                tracing::info!(%id, %provider, groups = groups.len(), "looked up groups that the token left out");
            }
            Err(error) => tracing::error!(
                %id, %provider, %error,
                "failed to look up groups that the token left out; keeping the grants that depend on them"
            ),
        }
    }
}

/// Decides and commits. Where the rules have changed since the walk began, its last part runs again by the new ones, as often
/// as it takes: a change of rules refuses no login.
async fn commit(services: &Services, about: &About, known: Known) -> Result<Entered, Reason> {
    let mut known = known;
    loop {
        let arrived = known.arrived();
        let near = arrived.near.clone();
        let login = describe(&about.id, &known, arrived);
        let Known { believed, candidates } = known;
        let claims = Arc::clone(&candidates.claims);
        let (rules, provider) = (&believed.pair.rules, &believed.provider.name);
        services.meters.note_missing(&about.id, rules, provider, &claims, &near, believed.now);
        match services.store.apply(login, candidates, Arc::clone(&believed.pair.rules)).await? {
            Applied::Committed(plan) => {
                services.meters.committed(&about.id, &plan, believed.now);
                services.meters.observe(&believed.pair.rules, &believed.provider.name, &claims);
                let began = Instant::now();
                if let Some(receiver) = services.followers.wait(&plan.user, &plan.after).await? {
                    return Err(Reason::Unconfirmed { receiver });
                }
                let waited = (!services.followers.is_empty()).then(|| began.elapsed());
                let delivery = services.outcomes.committed(about, &plan, &claims, waited);
                return Ok(Entered { plan: *plan, claims, assertion: believed.assertion, delivery });
            }
            Applied::Replay => return Err(Reason::Replay { token: believed.assertion.get().token_id.clone() }),
            Applied::BeforeRestore { at, restored } => {
                return Err(Reason::Verify(Fault::BeforeRestore { at, restored }));
            }
            Applied::Disabled => return Err(Reason::Disabled),
            Applied::Gated { gate, message } => return Err(Reason::Gate { gate, message }),
            Applied::Stale => {
                let newer = services.rules.newer_than(believed.pair.rules.epoch).await;
                let (now, provider) = (believed.now, Arc::clone(&believed.provider));
                let mut trace = LogTrace { services, id: &about.id };
                let settled = again(services.asks(), believed, newer, &mut trace).await;
                known = recorded(services, &about.id, &provider, now, settled).await?;
            }
        }
    }
}

/// A login, as it is passed to the store.
pub(crate) fn describe(id: &str, known: &Known, arrived: Arrived) -> Login {
    let Known { believed, candidates } = known;
    let (assertion, claims, now) = (believed.assertion.get(), &candidates.claims, believed.now);
    Login {
        id: id.to_owned(),
        provider: believed.provider.name.clone(),
        issuer: assertion.issuer.to_string(),
        user: claims.user.clone(),
        email: claims.email.clone(),
        display_name: claims.display_name.clone(),
        token_id: assertion.token_id.clone(),
        issued_at: match assertion.binding {
            BindingVerdict::Userinfo => None,
            _ => Some(assertion.issued_at.min(now)),
        },
        spending: assertion.binding.spending(),
        remember_until: spent_until(assertion),
        now,
        binding: assertion.binding.word(),
        claims: claims.claims.iter().map(summary).collect(),
        arrived: arrived.sources,
    }
}

fn summary(claim: &Claim) -> ClaimSummary {
    let values = match &claim.state {
        ClaimState::Values(values) => values.len(),
        _ => 0,
    };
    ClaimSummary { name: claim.name.to_string(), state: claim.state.word(), values, skipped: claim.skipped }
}

/// Until when a token that was spent could pass again. One that was issued more than `max_age` ago is refused whatever it says
/// of its expiry, so its record need not live longer than the longest that can be configured.
fn spent_until(assertion: &Assertion) -> Timestamp {
    let too_old = assertion.issued_at.plus(LONGEST_MAX_AGE);
    assertion.expires_at.min(too_old).plus(LONGEST_LEEWAY)
}

/// Until when a refused token leaves no second row in the audit.
fn remember_until(provider: &Provider, now: Timestamp) -> Timestamp {
    now.plus(provider.max_age).plus(provider.leeway).plus(provider.leeway)
}

/// Writes the audit row of a refusal. The login is refused whether or not it can be written.
async fn record(
    services: &Services,
    (id, provider): (&str, &Provider),
    signed: SignedToken,
    arrived: Arrived,
    reason: &Reason,
    now: Timestamp,
) {
    let refusal = Refusal {
        id: id.to_owned(),
        provider: provider.name.clone(),
        token_id: signed.token_id,
        now,
        reason: reason.to_string(),
        arrived: arrived.sources,
        remember_until: remember_until(provider, now),
    };
    if let Err(error) = services.store.record_refusal(refusal).await {
        tracing::error!(%id, provider = %provider.name, %error, "failed to record a refusal");
    }
}

/// A name for a login, in the log and in the audit: 96 random bits in hexadecimal.
pub fn new_id() -> String {
    let mut bytes = [0; 12];
    // Without randomness nothing else works either; an id of zeros then still pairs a page with its log line by time.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    bytes.iter().fold(String::with_capacity(24), |mut text, byte| {
        use std::fmt::Write as _;
        let _ = write!(text, "{byte:02x}");
        text
    })
}
