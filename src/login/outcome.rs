//! What became of a login, told once and in the same words everywhere: to the log, the metrics, and an observer such as the demo's journal.
//!
//! | outcome | detail | what it says |
//! |---|---|---|
//! | `entered` | `older`, `shadow` or nothing | committed, and handed on |
//! | `refused` | the stage: `capture`, `verify`, `claims` | not believed, or the claims refuse it |
//! | `replay` | | the token was used before |
//! | `disabled`, `gated` | | a decision against the person |
//! | `unavailable` | `keys`, `store`, `timeout`, `verify`, `delivery` | no fault of the person's: the same login may pass in a moment |
//! | `denied` | the provider's error code, where it is a usual one, or `other` | the provider logs no person in |
//! | `not_delivered` | `older`, `shadow` or nothing | committed, and not handed on |

mod hour;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use self::hour::Hour;
use super::Reason;
use crate::pipeline::capture::denial::Denial;
use crate::pipeline::claims::Claims;
use crate::pipeline::ids::ProviderName;
use crate::pipeline::plan::Plan;
use crate::pipeline::provider::Mode;
use crate::pipeline::verify::Fault;

/// Hears of logins as they are decided.
pub trait Observer: Send + Sync {
    /// The plan is durably committed; the login is about to be handed on.
    fn committed(&self, plan: &Plan);

    /// `provider` is `None` while it was not known whose token it is.
    fn refused(&self, provider: Option<&ProviderName>, reason: &Reason);
}

/// Tells what becomes of logins. One for each process, shared by all modes.
pub struct Outcomes {
    logins: Family<Labels, Counter>,
    seconds: Family<ModeLabel, Histogram, fn() -> Histogram>,
    observer: Option<Arc<dyn Observer>>,
    /// What the console shows in addition to the audit; `None`: nothing is remembered.
    memory: Mutex<Option<Memory>>,
}

/// What was lately.
struct Memory {
    /// Refusals, the oldest first.
    refusals: VecDeque<Remembered>,
    hour: Hour,
}

/// Refusals that are remembered.
pub const MOST_REMEMBERED: usize = 10_000;
/// Characters of the reason of one.
const MOST_REMEMBERED_REASON: usize = 300;

/// A refused login, for the person who asks about its number.
#[derive(Debug, Clone)]
pub struct Remembered {
    pub id: String,
    pub provider: Option<ProviderName>,
    pub outcome: &'static str,
    pub stage: &'static str,
    pub reason: String,
    pub at: Instant,
}

/// How many logins had an outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Count {
    pub outcome: String,
    pub detail: String,
    pub logins: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    /// Empty where providers of several modes share the address that the message came to.
    mode: &'static str,
    /// Empty while it was not known whose token it is.
    provider: String,
    outcome: &'static str,
    detail: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ModeLabel {
    mode: &'static str,
}

/// Which login is spoken of.
#[derive(Debug, Clone)]
pub struct About {
    /// What the log, the audit and the browser's page carry.
    pub id: String,
    pub mode: Option<Mode>,
    pub provider: Option<ProviderName>,
    /// When its message had arrived.
    pub started: Instant,
}

impl About {
    fn mode(&self) -> &'static str {
        self.mode.map_or("", Mode::word)
    }

    fn provider(&self) -> String {
        self.provider.as_ref().map(ToString::to_string).unwrap_or_default()
    }
}

/// The outcome of a login that is not let in.
fn of(reason: &Reason) -> (&'static str, &'static str) {
    let unavailable = ("unavailable", reason.stage());
    match reason {
        Reason::Capture(_) | Reason::Bearer(_) | Reason::NoIdToken => ("refused", reason.stage()),
        Reason::Verify(Fault::Internal) => unavailable,
        Reason::Verify(_) | Reason::AnotherPerson | Reason::Claims(_) | Reason::NoPerson => ("refused", reason.stage()),
        Reason::Replay { .. } => ("replay", ""),
        Reason::Disabled => ("disabled", ""),
        Reason::Gate { .. } => ("gated", ""),
        Reason::Denied(denial) if denial.is_fault_of_provider() => unavailable,
        Reason::Denied(denial) => ("denied", denial.label()),
        Reason::Keys(_)
        | Reason::Userinfo(_)
        | Reason::Reconfigured
        | Reason::Store(_)
        | Reason::Unconfirmed { .. }
        | Reason::Timeout => unavailable,
    }
}

/// Characters of a reason in the log. Every reason is short by itself; should one ever quote a stranger at length, it must not
/// fill the disk.
const MOST_REASON: usize = 1000;

impl Default for Outcomes {
    fn default() -> Self {
        Self::new(None)
    }
}

impl Outcomes {
    pub fn new(observer: Option<Arc<dyn Observer>>) -> Self {
        let seconds: fn() -> Histogram = || Histogram::new(exponential_buckets(0.000_25, 2.0, 16));
        Self {
            logins: Family::default(),
            seconds: Family::new_with_constructor(seconds),
            observer,
            memory: Mutex::default(),
        }
    }

    /// Registers everything under its name.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("logins", "Logins by mode, provider and outcome", self.logins.clone());
        let seconds = "From a login's arrival to its commit or refusal";
        registry.register_with_unit("login", seconds, Unit::Seconds, self.seconds.clone());
    }

    /// How many logins had this outcome, of all modes and providers.
    pub fn count(&self, outcome: &str) -> u64 {
        self.counts().iter().filter(|count| count.outcome == outcome).map(|count| count.logins).sum()
    }

    /// How many logins had which outcome since the process began, of all modes and providers, the most frequent first.
    pub fn counts(&self) -> Vec<Count> {
        let mut text = String::new();
        let mut registry = Registry::default();
        registry.register("logins", "", self.logins.clone());
        // Writing into a string does not fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &registry);
        let mut all: BTreeMap<(String, String), u64> = BTreeMap::new();
        for line in text.lines() {
            let label = |name: &str| Some(line.split_once(&format!("{name}=\""))?.1.split_once('"')?.0.to_owned());
            let number = line.rsplit(' ').next().and_then(|count| count.parse::<u64>().ok());
            if let (Some(outcome), Some(detail), Some(number)) = (label("outcome"), label("detail"), number) {
                *all.entry((outcome, detail)).or_default() += number;
            }
        }
        let counts = all.into_iter().map(|((outcome, detail), logins)| Count { outcome, detail, logins });
        let mut counts: Vec<Count> = counts.collect();
        counts.sort_by_key(|count| std::cmp::Reverse(count.logins));
        counts
    }

    /// Begins or ends the memory of what was lately.
    pub fn remember(&self, remembers: bool) {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        match (remembers, &*memory) {
            (true, None) => *memory = Some(Memory { refusals: VecDeque::new(), hour: Hour::new(Instant::now()) }),
            (false, _) => *memory = None,
            (true, Some(_)) => {}
        }
    }

    /// The refusal with this id, if it is among the last [`MOST_REMEMBERED`].
    pub fn remembered(&self, id: &str) -> Option<Remembered> {
        let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.as_ref()?.refusals.iter().rev().find(|refusal| refusal.id == id).cloned()
    }

    /// What became of logins within the last hour, the most frequent first.
    pub fn of_last_hour(&self) -> Vec<Count> {
        let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.as_ref().map(|memory| memory.hour.counts(Instant::now())).unwrap_or_default()
    }

    /// Why logins were refused within a time, the most frequent reasons first, as far as they are remembered.
    pub fn reasons(&self, within: Duration, most: usize) -> Vec<(String, u64)> {
        let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let mut counts: HashMap<&str, u64> = HashMap::new();
        let refusals = memory.iter().flat_map(|memory| &memory.refusals);
        for refusal in refusals.filter(|refusal| refusal.at.elapsed() < within) {
            *counts.entry(&refusal.reason).or_default() += 1;
        }
        let mut counts: Vec<(String, u64)> = counts.into_iter().map(|(why, count)| (why.to_owned(), count)).collect();
        counts.sort_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
        counts.truncate(most);
        counts
    }

    fn note(&self, about: &About, outcome: &'static str, reason: &Reason) {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Memory { refusals, .. }) = &mut *memory else { return };
        if refusals.len() >= MOST_REMEMBERED {
            refusals.pop_front();
        }
        refusals.push_back(Remembered {
            id: about.id.clone(),
            provider: about.provider.clone(),
            outcome,
            stage: reason.stage(),
            reason: reason.to_string().chars().take(MOST_REMEMBERED_REASON).collect(),
            at: about.started,
        });
    }

    fn tally(&self, labels: &Labels) {
        self.logins.get_or_create(labels).inc();
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(memory) = &mut *memory {
            memory.hour.note(labels.outcome, labels.detail, Instant::now());
        }
    }

    /// A login's plan is durably committed. `waited`: for receivers that must confirm first, where there are any.
    pub(super) fn committed(
        self: &Arc<Self>,
        about: &About,
        plan: &Plan,
        claims: &Claims,
        waited: Option<Duration>,
    ) -> Delivery {
        let seconds = self.time(about);
        let waited_ms = waited.map(|waited| u64::try_from(waited.as_millis()).unwrap_or(u64::MAX));
        let missing = claims.missing();
        tracing::info!(
            id = %about.id, mode = about.mode(), provider = %plan.provider, older = plan.older, shadow = plan.shadow,
            granted = plan.grants.len(), revoked = plan.revokes.len(), kept = plan.keeps.len(), seconds,
            waited_ms, missing, "login applied"
        );
        if let Some(noted) = plan.ahead {
            tracing::warn!(
                id = %about.id, provider = %plan.provider, %noted,
                "the last login of this user was noted at a moment that lies ahead: a clock was wrong"
            );
        }
        if let Some(observer) = &self.observer {
            observer.committed(plan);
        }
        let detail = match (plan.older, plan.shadow) {
            (true, _) => "older",
            (false, true) => "shadow",
            (false, false) => "",
        };
        let (mode, provider) = (about.mode(), about.provider());
        Delivery {
            outcomes: Arc::clone(self),
            labels: Labels { mode, provider, outcome: "not_delivered", detail },
            delivered: AtomicBool::new(false),
        }
    }

    /// A login is not let in.
    pub(super) fn refused(&self, about: &About, reason: &Reason) {
        let seconds = self.time(about);
        let ((outcome, detail), provider) = (of(reason), about.provider());
        let told: String = reason.to_string().chars().take(MOST_REASON).collect();
        let (id, mode, stage) = (&about.id, about.mode(), reason.stage());
        if outcome == "unavailable" {
            tracing::error!(%id, mode, provider, outcome, stage, reason = told, seconds, "login not possible");
        } else {
            tracing::warn!(%id, mode, provider, outcome, stage, reason = told, seconds, "login refused");
        }
        self.note(about, outcome, reason);
        if let Some(observer) = &self.observer {
            observer.refused(about.provider.as_ref(), reason);
        }
        self.tally(&Labels { mode, provider, outcome, detail });
    }

    /// The provider's answer to an app that runs its own logins says that there is none. The app gets it.
    pub(super) fn denied(&self, about: &About, denial: &Denial) {
        let (mode, provider, outcome, detail) = (about.mode(), about.provider(), "denied", denial.label());
        tracing::info!(id = %about.id, mode, provider, outcome, reason = %denial, "the provider logs no person in");
        self.tally(&Labels { mode, provider, outcome, detail });
    }

    /// Seconds since the login arrived.
    fn time(&self, about: &About) -> f64 {
        let took = about.started.elapsed().as_secs_f64();
        self.seconds.get_or_create(&ModeLabel { mode: about.mode() }).observe(took);
        took
    }
}

/// A committed login that is to be handed on. One that is dropped before that counts as not delivered.
pub struct Delivery {
    outcomes: Arc<Outcomes>,
    labels: Labels,
    delivered: AtomicBool,
}

impl std::fmt::Debug for Delivery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Delivery").field(&self.delivered).finish()
    }
}

impl Delivery {
    /// Notes that the login has reached the app, or the client that it is for.
    pub(super) fn done(&self) {
        if !self.delivered.swap(true, Ordering::Relaxed) {
            self.outcomes.tally(&Labels { outcome: "entered", ..self.labels.clone() });
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if !*self.delivered.get_mut() {
            self.outcomes.tally(&self.labels);
        }
    }
}
