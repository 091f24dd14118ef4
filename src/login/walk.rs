//! The walk of an attempt, from capture to its candidates: written once, for logins, which commit the result, and for
//! looks, which do not.
//!
//! ```text
//! capture   a message          -> the login in it, still untrusted
//! walk      a captured login   -> verify, enrich (the one step that waits), settle (claims and candidates)
//! by_userinfo                  -> the same without a token: the provider is asked, then enrich, settle
//! again     newer rules        -> settle once more, from what was verified and fetched
//! ```
//!
//! The walk writes nothing, and does not know who reads its [`Trace`].

use std::sync::Arc;

use serde_json::Value;
use tokio::sync::Semaphore;

use super::Reason;
use super::enrich::{ask_userinfo, enrich};
use super::trace::{Asks, Believed, Trace, Unread};
use crate::pipeline::capture::oidc::{AccessToken, IdTokenError, UntrustedIdToken};
use crate::pipeline::capture::{self, Arrival, Beside, CallbackMessage, CaptureRefusal, Captured, UntrustedToken};
use crate::pipeline::claims::arrived::{Arrived, arrived, arrived_refused};
use crate::pipeline::claims::sources::{Brought, Sources};
use crate::pipeline::claims::{self, ClaimRule, ClaimState, Claims, ClaimsRefusal};
use crate::pipeline::ids::Timestamp;
use crate::pipeline::mapping::Candidates;
use crate::pipeline::provider::{Protocol, Provider};
use crate::pipeline::settle::settle;
use crate::pipeline::verify::person::is_of_person;
use crate::pipeline::verify::{self, Assertion, BindingVerdict, Fault, Origin, SignedToken, Verified};
use crate::ports::keys::{KeysError, Published};
use crate::ports::rules::Pair;

/// What may carry a login.
pub enum Message<'a> {
    /// A message at a callback path.
    Callback {
        /// Those declared at this path.
        providers: &'a [Arc<Provider>],
        message: CallbackMessage<'a>,
        /// Bytes of a decoded SAML document, at most.
        max_document: usize,
    },
    /// The ID token of a token endpoint's answer, as far as it could be read.
    Answer { provider: &'a Arc<Provider>, token: Result<UntrustedIdToken, IdTokenError>, state: Option<String> },
}

/// Finds the login in a message.
///
/// # Errors
/// Whatever is neither one login nor clearly none.
pub fn capture(message: Message<'_>) -> Result<Arrival, CaptureRefusal> {
    match message {
        Message::Callback { providers, message, max_document } => capture::read(providers, message, max_document),
        Message::Answer { provider, token, state } => {
            let token = UntrustedToken::IdToken { token: token?, state, beside: Beside::default() };
            Ok(Arrival::Login(Captured { provider: Arc::clone(provider), token }))
        }
    }
}

/// A login that was verified and read, and of which nothing is written yet.
pub struct Known {
    pub(super) believed: Believed,
    pub(super) candidates: Candidates,
}

impl Known {
    pub fn assertion(&self) -> &Verified<Assertion> {
        &self.believed.assertion
    }

    pub fn claims(&self) -> &Arc<Claims> {
        &self.candidates.claims
    }

    /// What the provider sent, by name.
    pub fn arrived(&self) -> Arrived {
        let Believed { assertion, provider, pair, sources, .. } = &self.believed;
        let implied = pair.rules.overlay.implied.get(&provider.name).map(Vec::as_slice).unwrap_or_default();
        let claims = &self.candidates.claims.claims;
        let is_missing = |rule: &&ClaimRule| {
            claims.iter().any(|claim| claim.name == rule.name && claim.state == ClaimState::Missing)
        };
        arrived(assertion, sources, provider, provider.claims.iter().chain(implied).filter(is_missing))
    }

    pub fn into_candidates(self) -> Candidates {
        self.candidates
    }
}

impl Believed {
    fn settle(self) -> Result<Known, Stopped> {
        match self.candidates() {
            Ok(candidates) => Ok(Known { believed: self, candidates }),
            Err(refusal) => Err(self.refused(refusal)),
        }
    }

    fn candidates(&self) -> Result<Candidates, ClaimsRefusal> {
        let Self { assertion, provider, pair, sources, now, .. } = self;
        settle(provider, &pair.rules, *now, |provider, reads| claims::read(assertion, sources, provider, reads))
    }

    fn refused(self, refusal: ClaimsRefusal) -> Stopped {
        let Assertion { token_id, issued_at, .. } = self.assertion.get();
        let signed = SignedToken { token_id: token_id.clone(), issued_at: Some(*issued_at) };
        let arrived = arrived_refused(&self.assertion, &self.sources, &self.provider);
        Stopped { reason: refusal.into(), signed: Some(Box::new(signed)), arrived: Box::new(arrived) }
    }
}

/// A walk that ended early.
#[derive(Debug)]
pub struct Stopped {
    pub reason: Reason,
    /// The token's identity, where its signature held: such a refusal is worth an audit row.
    pub signed: Option<Box<SignedToken>>,
    /// What the provider sent, by name, where its claims were read.
    pub arrived: Box<Arrived>,
}

impl From<Reason> for Stopped {
    fn from(reason: Reason) -> Self {
        Self { reason, signed: None, arrived: Box::default() }
    }
}

/// Takes a captured login to its candidates.
///
/// # Errors
/// When the token is not believed or names no person, when keys are missing, or when the claims refuse the login.
pub async fn walk(
    asks: Asks<'_>,
    pair: Arc<Pair>,
    captured: Captured,
    origin: Origin,
    now: Timestamp,
    trace: &mut dyn Trace,
) -> Result<Known, Stopped> {
    let provider = in_pair(&pair, &captured.provider)?;
    let captured = Captured { provider: Arc::clone(&provider), ..captured };
    let access_token = origin.access_token().cloned();
    let assertion = match verified(asks, &Arc::new((captured, origin)), now).await {
        Ok(assertion) => assertion,
        Err(Unbelieved::Keys(error)) => return Err(Reason::from(error).into()),
        Err(Unbelieved::Fault(refused)) => {
            return Err(Stopped {
                signed: refused.signed.map(Box::new),
                ..Stopped::from(Reason::Verify(refused.fault))
            });
        }
    };
    trace.verified(&assertion);
    // A client-credentials token identifies no person and must never create a user.
    if assertion.get().binding == BindingVerdict::Presented
        && !is_of_person(&assertion.get().statement, &provider.user.claim)
    {
        return Err(Reason::NoPerson.into());
    }
    let sources = Sources::default();
    onward(asks, Believed { assertion, provider, pair, sources, access_token, now }, trace).await
}

/// Asks the provider's userinfo who it is that the access token was issued for. No token is read, so that the order of tokens
/// stays what it was.
///
/// # Errors
/// When the provider does not answer, or the claims refuse the login.
pub async fn by_userinfo(
    asks: Asks<'_>,
    pair: Arc<Pair>,
    provider: &Arc<Provider>,
    (access_token, subject): (AccessToken, Option<&str>),
    now: Timestamp,
    trace: &mut dyn Trace,
) -> Result<Known, Stopped> {
    let provider = in_pair(&pair, provider)?;
    let claims = ask_userinfo(asks, &provider, &access_token, now).await.map_err(Reason::from)?;
    // Compared before anything is made of it: what is synced is committed.
    if subject.is_some_and(|subject| claims.get("sub").and_then(Value::as_str) != Some(subject)) {
        return Err(Reason::from(Unread::Subject("it speaks of another person than the session".into())).into());
    }
    let (assertion, payload) = verify::by_userinfo(&provider, claims, now);
    let sources = Sources { userinfo: Brought::Present(payload), ..Sources::default() };
    let access_token = Some(access_token);
    onward(asks, Believed { assertion, provider, pair, sources, access_token, now }, trace).await
}

/// Settles a login once more, by a newer pair, from what was verified and fetched. What the new rules read and was not
/// fetched is unresolved; where the provider is `strict`, it is fetched before that refuses the login.
///
/// # Errors
/// As for [`walk`].
pub(super) async fn again(
    asks: Asks<'_>,
    believed: Believed,
    pair: Arc<Pair>,
    trace: &mut dyn Trace,
) -> Result<Known, Stopped> {
    let provider = in_pair(&pair, &believed.provider)?;
    let believed = Believed { provider, pair, ..believed };
    match believed.candidates() {
        Err(ClaimsRefusal::Strict { .. }) => onward(asks, believed, trace).await,
        _ => believed.settle(),
    }
}

/// Enrich and settle.
async fn onward(asks: Asks<'_>, mut believed: Believed, trace: &mut dyn Trace) -> Result<Known, Stopped> {
    let sources = std::mem::take(&mut believed.sources);
    believed.sources = enrich(asks, &believed, sources, trace).await;
    believed.settle()
}

/// The provider as the pair has it. A login that began before a reload goes on by the settings of now, unless they are those of
/// another provider or client: what was captured for one must not be believed for the other.
fn in_pair(pair: &Pair, known: &Arc<Provider>) -> Result<Arc<Provider>, Reason> {
    let client = |provider: &Provider| match &provider.protocol {
        Protocol::Oidc(policy) => policy.client_id.clone(),
        Protocol::Saml(policy) => policy.audience.clone(),
    };
    let same = |now: &&Arc<Provider>| {
        let is_same = || now.mode == known.mode && now.issuer == known.issuer && client(now) == client(known);
        Arc::ptr_eq(now, known) || is_same()
    };
    pair.provider(&known.name).filter(same).cloned().ok_or(Reason::Reconfigured)
}

enum Unbelieved {
    Keys(KeysError),
    Fault(verify::Refused),
}

/// Verifies with the keys at hand, and once more where the provider may have newer ones.
async fn verified(
    asks: Asks<'_>,
    arrived: &Arc<(Captured, Origin)>,
    now: Timestamp,
) -> Result<Verified<Assertion>, Unbelieved> {
    let name = &arrived.0.provider.name;
    let published = asks.keys.current(name).await.map_err(Unbelieved::Keys)?;
    let first = verify_once(asks, arrived, &published, now).await;
    let (Err(refused), true) = (&first, first.as_ref().err().is_some_and(may_be_new_key)) else {
        return first.map_err(Unbelieved::Fault);
    };
    let looked = match &refused.fault {
        Fault::UnknownKey(key_id) => asks.keys.look_for(name, key_id).await,
        _ => asks.keys.look_again(name).await,
    };
    match looked {
        Ok(again) if !Arc::ptr_eq(&again, &published) => {
            verify_once(asks, arrived, &again, now).await.map_err(Unbelieved::Fault)
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
    asks: Asks<'_>,
    arrived: &Arc<(Captured, Origin)>,
    published: &Arc<Published>,
    now: Timestamp,
) -> Result<Verified<Assertion>, verify::Refused> {
    let (captured, origin) = &**arrived;
    match &captured.token {
        UntrustedToken::SamlResponse(response) if !response.is_brief() => {
            let (arrived, published) = (Arc::clone(arrived), Arc::clone(published));
            let job = move || verify::verify(&arrived.0, &published.keys, &arrived.1, now);
            // A panic in there ends the job, not the process, and refuses the login.
            let internal = || Err(verify::Refused::unsigned(Fault::Internal));
            aside(asks.verifiers, job).await.unwrap_or_else(internal)
        }
        // A few microseconds: moving it to another thread would cost more.
        _ => verify::verify(captured, &published.keys, origin, now),
    }
}

/// Verifies on a thread that may block, as many at once as there are cores; `None` where the verification has stopped.
pub async fn aside<T: Send + 'static>(
    verifiers: &Arc<Semaphore>,
    job: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let permit = Arc::clone(verifiers).acquire_owned().await.ok()?;
    let job = move || {
        let verdict = job();
        drop(permit);
        verdict
    };
    tokio::task::spawn_blocking(job).await.ok()
}
