//! The path of a login: capture, verify, enrich, claims, mapping, apply, publish.
//!
//! Read [`login`] and [`enter`] from top to bottom; each line is a stage, and each stage has its page below [`crate::pipeline`]. Whatever
//! goes wrong is a [`Refused`] with its reason, and the login does not reach the app.

mod enrich;
mod overage;

use std::sync::Arc;
use std::time::Duration;

use self::enrich::{Unread, ask_userinfo, enrich};
use crate::clock::Clock;
use crate::pipeline::capture::oidc::AccessToken;
use crate::pipeline::capture::{self, Arrival, CallbackMessage, CaptureRefusal, Captured};
use crate::pipeline::claims::sources::{Brought, Sources};
use crate::pipeline::claims::{self, Claim, ClaimState, Claims, ClaimsRefusal};
use crate::pipeline::ids::{ProviderName, Timestamp};
use crate::pipeline::mapping;
use crate::pipeline::plan::Plan;
use crate::pipeline::provider::{LONGEST_LEEWAY, LONGEST_MAX_AGE, Mode, Protocol, Provider};
use crate::pipeline::verify::presented::is_of_person;
use crate::pipeline::verify::{self, Assertion, BindingVerdict, Fault, Origin, Remembered, Verified};
use crate::ports::back_channel::BackChannel;
use crate::ports::directory::Directory;
use crate::ports::keys::{KeySource, KeysError, Published};
use crate::ports::rules::Rules;
use crate::ports::store::{Applied, ClaimSummary, Login, Refusal, Store, StoreError};
use crate::telemetry::meters::Meters;

/// What a login needs of the world.
#[derive(Clone)]
pub struct Services {
    pub keys: Arc<dyn KeySource>,
    pub back_channel: Arc<dyn BackChannel>,
    pub directory: Arc<dyn Directory>,
    pub store: Arc<dyn Store>,
    pub rules: Arc<Rules>,
    pub clock: Clock,
    pub meters: Arc<Meters>,
    /// SAML verification is C code that cannot be cancelled: this many run at once, on threads that may block.
    pub verifiers: Arc<tokio::sync::Semaphore>,
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
    /// Bytes of a decoded SAML document, at the most.
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

/// Somebody to be brought up to date.
pub struct Resync {
    pub id: String,
    pub provider: Arc<Provider>,
    pub access_token: AccessToken,
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
}

/// Why a message must not reach the app.
#[derive(Debug)]
pub struct Refused {
    /// `None` while it was not known whose token it is.
    pub provider: Option<ProviderName>,
    pub reason: Reason,
}

/// The stage that refused, with its own reason.
#[derive(Debug, thiserror::Error)]
pub enum Reason {
    #[error(transparent)]
    Capture(#[from] CaptureRefusal),
    #[error(transparent)]
    Keys(#[from] KeysError),
    #[error("{0}")]
    Verify(Fault),
    #[error(transparent)]
    Claims(#[from] ClaimsRefusal),
    #[error(transparent)]
    Userinfo(#[from] Unread),
    #[error("this token speaks of no person")]
    NoPerson,
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
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the rules changed three times while this login was decided")]
    Unsettled,
    #[error("the login took longer than `limits.login_timeout`")]
    Timeout,
}

impl Reason {
    /// Whether this is a decision against the person, and not a failure of somebody's.
    pub fn is_denial(&self) -> bool {
        match self {
            Self::Disabled | Self::Gate { .. } => true,
            Self::Capture(_)
            | Self::Keys(_)
            | Self::Verify(_)
            | Self::Claims(_)
            | Self::Userinfo(_)
            | Self::NoPerson
            | Self::Replay { .. }
            | Self::Store(_)
            | Self::Unsettled
            | Self::Timeout => false,
        }
    }
}

/// Takes one message at a callback path from bytes to a committed plan: the way in of the modes that watch.
///
/// # Errors
/// Anything but a clear pass refuses: a fault in the message, the token, its claims, the rules, the store or the time.
pub async fn login(services: &Services, request: Request<'_>) -> Result<Passed, Refused> {
    let captured = match capture::read(request.providers, request.message, request.max_document) {
        Ok(Arrival::NoLogin) => return Ok(Passed::NoLogin),
        Ok(Arrival::Login(captured)) => captured,
        Err(refusal) => return Err(Refused { provider: None, reason: refusal.into() }),
    };
    let origin = match captured.provider.mode {
        // Beside a code, which the app binds to its own request.
        Mode::TokenRelay => Origin::Exchanged { access_token: None },
        _ => Origin::Watched(request.remembered),
    };
    let entered = enter(services, Attempt { id: request.id, captured, origin, timeout: request.timeout }).await?;
    Ok(Passed::Login(Box::new(entered)))
}

/// Takes a captured login to a committed plan: what all modes share.
///
/// # Errors
/// As for [`login`].
pub async fn enter(services: &Services, attempt: Attempt) -> Result<Entered, Refused> {
    let Attempt { id, captured, origin, timeout } = attempt;
    let provider = Arc::clone(&captured.provider);
    let walk = async {
        let known = know(services, &id, captured, origin).await?;
        commit(services, &id, &provider, known).await
    };
    let outcome = tokio::time::timeout(timeout, walk).await;
    outcome.unwrap_or(Err(Reason::Timeout)).map_err(|reason| Refused { provider: Some(provider.name.clone()), reason })
}

/// Somebody whose token was verified and read, and who is not yet synced.
pub struct Known {
    assertion: Verified<Assertion>,
    claims: Arc<Claims>,
    now: Timestamp,
}

impl Known {
    pub fn assertion(&self) -> &Assertion {
        self.assertion.get()
    }

    pub fn claims(&self) -> &Arc<Claims> {
        &self.claims
    }
}

/// The first half of [`enter`], for a mode in which not every token is a new login: up to the claims. `None` for a token that
/// speaks of no person.
///
/// # Errors
/// As for [`login`].
pub async fn recognise(services: &Services, attempt: Attempt) -> Result<Option<Known>, Refused> {
    let Attempt { id, captured, origin, timeout } = attempt;
    let provider = Arc::clone(&captured.provider);
    let outcome = tokio::time::timeout(timeout, know(services, &id, captured, origin)).await;
    match outcome.unwrap_or(Err(Reason::Timeout)) {
        Ok(known) => Ok(Some(known)),
        Err(Reason::NoPerson) => Ok(None),
        Err(reason) => Err(Refused { provider: Some(provider.name.clone()), reason }),
    }
}

/// The second half of [`enter`].
///
/// # Errors
/// As for [`login`].
pub async fn sync(
    services: &Services,
    id: &str,
    provider: &Provider,
    known: Known,
    timeout: Duration,
) -> Result<Entered, Refused> {
    let outcome = tokio::time::timeout(timeout, commit(services, id, provider, known)).await;
    outcome.unwrap_or(Err(Reason::Timeout)).map_err(|reason| Refused { provider: Some(provider.name.clone()), reason })
}

async fn know(services: &Services, id: &str, captured: Captured, origin: Origin) -> Result<Known, Reason> {
    let now = services.clock.now();
    let provider = Arc::clone(&captured.provider);
    let access_token = origin.access_token().cloned();

    let assertion = match verified(services, &Arc::new((captured, origin)), now).await {
        Ok(assertion) => assertion,
        Err(Unbelieved::Keys(error)) => return Err(error.into()),
        Err(Unbelieved::Fault(fault)) => {
            if let Some(signed) = fault.signed {
                record(services, id, &provider, signed.token_id, &fault.fault, now).await;
            }
            return Err(Reason::Verify(fault.fault));
        }
    };

    // What a client was given for itself makes no user of it.
    if assertion.get().binding == BindingVerdict::Presented && !is_of_person(&assertion.get().statement) {
        return Err(Reason::NoPerson);
    }

    let access_token = access_token.as_ref();
    let sources = enrich(services, id, &provider, &assertion, access_token, Sources::default(), now).await;
    read(services, id, &provider, assertion, sources, now).await
}

/// Brings somebody up to date between logins, by what the provider's userinfo says now to whoever has an access token. No
/// token is read, so that the order of tokens stays what it was.
///
/// # Errors
/// When the provider does not answer, and as for [`enter`].
pub async fn resync(services: &Services, resync: Resync) -> Result<Entered, Refused> {
    let Resync { id, provider, access_token, timeout } = resync;
    let walk = async {
        let now = services.clock.now();
        let claims = ask_userinfo(services, &provider, &access_token, now).await?;
        let (assertion, payload) = verify::by_userinfo(&provider, claims, now);
        let sources = Sources { userinfo: Brought::Present(payload), ..Sources::default() };
        let sources = enrich(services, &id, &provider, &assertion, Some(&access_token), sources, now).await;
        let known = read(services, &id, &provider, assertion, sources, now).await?;
        commit(services, &id, &provider, known).await
    };
    let outcome = tokio::time::timeout(timeout, walk).await;
    outcome.unwrap_or(Err(Reason::Timeout)).map_err(|reason| Refused { provider: Some(provider.name.clone()), reason })
}

/// Reads the claims of a verified login.
async fn read(
    services: &Services,
    id: &str,
    provider: &Provider,
    assertion: Verified<Assertion>,
    sources: Sources,
    now: Timestamp,
) -> Result<Known, Reason> {
    let sources = overage::complete(services, id, provider, &assertion, sources).await;
    let rules = services.rules.current();
    match claims::read(&assertion, &sources, provider, &|claim| rules.reads(&provider.name, claim)) {
        Ok(claims) => Ok(Known { assertion, claims: Arc::new(claims), now }),
        Err(refusal) => {
            record(services, id, provider, assertion.get().token_id.clone(), &refusal, now).await;
            Err(refusal.into())
        }
    }
}

/// Decides and commits.
async fn commit(services: &Services, id: &str, provider: &Provider, known: Known) -> Result<Entered, Reason> {
    let Known { assertion, claims, now } = known;
    let plan = apply(services, id, provider, assertion.get(), &claims, now).await?;
    Ok(Entered { plan, claims, assertion })
}

enum Unbelieved {
    Keys(KeysError),
    Fault(verify::Refused),
}

/// Verifies with the keys at hand, and once more where the provider may have newer ones.
async fn verified(
    services: &Services,
    arrived: &Arc<(Captured, Origin)>,
    now: Timestamp,
) -> Result<Verified<Assertion>, Unbelieved> {
    let name = &arrived.0.provider.name;
    let published = services.keys.current(name).await.map_err(Unbelieved::Keys)?;
    let first = verify_once(services, arrived, &published, now).await;
    let (Err(refused), true) = (&first, first.as_ref().err().is_some_and(may_be_new_key)) else {
        return first.map_err(Unbelieved::Fault);
    };
    let looked = match &refused.fault {
        Fault::UnknownKey(key_id) => services.keys.look_for(name, key_id).await,
        _ => services.keys.look_again(name).await,
    };
    match looked {
        Ok(again) if !Arc::ptr_eq(&again, &published) => {
            verify_once(services, arrived, &again, now).await.map_err(Unbelieved::Fault)
        }
        _ => Err(Unbelieved::Fault(refused.clone())),
    }
}

/// A SAML response does not say which key signed it in a way that could be trusted, so any signature that fails may be one
/// by a new key.
fn may_be_new_key(refused: &verify::Refused) -> bool {
    refused.fault.is_of_key() || (refused.fault == Fault::Signature && refused.signed.is_none())
}

async fn verify_once(
    services: &Services,
    arrived: &Arc<(Captured, Origin)>,
    published: &Arc<Published>,
    now: Timestamp,
) -> Result<Verified<Assertion>, verify::Refused> {
    let (captured, origin) = &**arrived;
    match captured.provider.protocol {
        // A few microseconds: moving it to another thread would cost more.
        Protocol::Oidc(_) => verify::verify(captured, &published.keys, origin, now),
        Protocol::Saml(_) => {
            let internal = || verify::Refused::unsigned(Fault::Internal);
            let permit = Arc::clone(&services.verifiers).acquire_owned().await.map_err(|_| internal())?;
            let (arrived, published) = (Arc::clone(arrived), Arc::clone(published));
            let job = move || {
                let verdict = verify::verify(&arrived.0, &published.keys, &arrived.1, now);
                drop(permit);
                verdict
            };
            // A panic in there ends the job, not the process, and refuses the login.
            tokio::task::spawn_blocking(job).await.unwrap_or_else(|_| Err(internal()))
        }
    }
}

/// Decides by the current rules and commits. Starts again where the rules changed in between, twice at the most.
async fn apply(
    services: &Services,
    id: &str,
    provider: &Provider,
    assertion: &Assertion,
    claims: &Arc<Claims>,
    now: Timestamp,
) -> Result<Plan, Reason> {
    for _ in 0..3 {
        let rules = services.rules.current();
        let observed = Arc::clone(&rules);
        let candidates = mapping::candidates(&rules, &provider.name, claims);
        let login = describe(id, provider, assertion, claims, now);
        match services.store.apply(login, candidates, rules).await? {
            Applied::Committed(plan) => {
                if let Some(noted) = plan.ahead {
                    tracing::warn!(%id, provider = %provider.name, %noted, %now,
                        "the last login of this user was noted at a moment that lies ahead: a clock was wrong");
                }
                services.meters.committed(id, &plan, now);
                services.meters.observe(&observed, &provider.name, claims);
                return Ok(*plan);
            }
            Applied::Replay => return Err(Reason::Replay { token: assertion.token_id.clone() }),
            Applied::Disabled => return Err(Reason::Disabled),
            Applied::Gated { gate, message } => return Err(Reason::Gate { gate, message }),
            Applied::Stale => {}
        }
    }
    Err(Reason::Unsettled)
}

fn describe(id: &str, provider: &Provider, assertion: &Assertion, claims: &Claims, now: Timestamp) -> Login {
    Login {
        id: id.to_owned(),
        provider: provider.name.clone(),
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
    id: &str,
    provider: &Provider,
    token_id: String,
    reason: &impl std::fmt::Display,
    now: Timestamp,
) {
    let refusal = Refusal {
        id: id.to_owned(),
        provider: provider.name.clone(),
        token_id,
        now,
        reason: reason.to_string(),
        remember_until: remember_until(provider, now),
    };
    if let Err(error) = services.store.record_refusal(refusal).await {
        tracing::error!(%id, provider = %provider.name, %error, "a refusal could not be recorded");
    }
}
