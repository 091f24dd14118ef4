//! Verifies the audit chain in the background: one walk at a time, whose progress every reader may see.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;

use super::{Call, Refused, Service, store_failed};
use crate::config::Scope;
use crate::pipeline::ids::Timestamp;
use crate::ports::store::{ChainReport, StoreError};

/// Between the end of one walk and the beginning of another.
const REST: Duration = Duration::from_secs(60);

/// The last walk, or the one under way.
#[derive(Debug, Default)]
pub struct Verifier(Mutex<Walk>);

#[derive(Debug, Clone, Default)]
enum Walk {
    #[default]
    Never,
    Running {
        walked: Arc<AtomicU64>,
        of: u64,
        since: Timestamp,
    },
    Done {
        outcome: Result<ChainReport, StoreError>,
        at: Timestamp,
    },
}

/// The state of the verification of the audit chain.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct VerificationView {
    /// `never`: not since this sidecar started; `running`, `whole`, `broken`, or `failed`: the store did not answer.
    pub state: &'static str,
    /// Number of verified rows.
    pub rows: u64,
    /// Number of rows when the verification started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of: Option<u64>,
    /// When it started, or ended (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// Number of rows whose personal fields were erased.
    pub erased: u64,
    /// Number of accepted rows at the beginning that are older than the audit key.
    pub unkeyed: u64,
    /// Whether the chain is sealed with a key, or only linked by hashes.
    pub keyed: bool,
    /// The first fault; rows after it were not verified.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// The seal of the last valid row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head: Option<String>,
}

impl VerificationView {
    fn of(state: &'static str) -> Self {
        Self { state, rows: 0, of: None, at: None, erased: 0, unkeyed: 0, keyed: false, fault: None, head: None }
    }
}

impl From<Walk> for VerificationView {
    fn from(walk: Walk) -> Self {
        match walk {
            Walk::Never => Self::of("never"),
            Walk::Running { walked, of, since } => Self {
                rows: walked.load(Ordering::Relaxed),
                of: Some(of),
                at: Some(since.to_string()),
                ..Self::of("running")
            },
            Walk::Done { outcome: Err(error), at } => {
                let fault = Some(store_failed(&error).1.to_owned());
                Self { at: Some(at.to_string()), fault, ..Self::of("failed") }
            }
            Walk::Done { outcome: Ok(report), at } => Self {
                state: if report.broken.is_some() { "broken" } else { "whole" },
                rows: report.rows,
                of: None,
                at: Some(at.to_string()),
                erased: report.erased,
                unkeyed: report.unkeyed,
                keyed: report.keyed,
                fault: report.broken.map(|broken| broken.to_string()),
                head: Some(report.head).filter(|head| !head.is_empty()),
            },
        }
    }
}

impl Verifier {
    fn look(&self) -> Walk {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, walk: Walk) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = walk;
    }

    /// Begins a walk, unless one is under way or has just ended.
    fn begin(&self, of: u64, now: Timestamp) -> Result<Arc<AtomicU64>, Refused> {
        let mut walk = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*walk {
            Walk::Running { .. } => return Err(Refused::Conflict("the audit is being verified already".into())),
            Walk::Done { at, .. } if at.plus(REST) > now && *at <= now => {
                return Err(Refused::Conflict("the audit was verified within the last minute".into()));
            }
            _ => {}
        }
        let walked = Arc::<AtomicU64>::default();
        *walk = Walk::Running { walked: Arc::clone(&walked), of, since: now };
        Ok(walked)
    }
}

impl Service {
    /// How the verification of the audit stands.
    pub fn verification(&self) -> VerificationView {
        self.verifier.look().into()
    }

    /// Starts a verification of the audit in the background.
    ///
    /// # Errors
    /// When the caller may not read, one is under way or has just ended, or the store cannot be read.
    pub async fn verify_audit(&self, call: &Call) -> Result<VerificationView, Refused> {
        call.caller.may(Scope::Read)?;
        let store = self.inspect.store();
        let of = store.audit_head().await?.map_or(0, |(newest, _)| newest.unsigned_abs());
        let walked = self.verifier.begin(of, self.inspect.now())?;
        let (verifier, inspect) = (Arc::clone(&self.verifier), Arc::clone(&self.inspect));
        tokio::spawn(async move {
            // A walk that ends badly must not count as under way for good.
            let walk = tokio::spawn(async move { store.verify_audit_watched(walked).await });
            let outcome = walk.await.unwrap_or_else(|error| Err(StoreError::Unavailable(error.to_string())));
            if let Ok(ChainReport { broken: Some(broken), .. }) = &outcome {
                tracing::error!(%broken, "the audit chain is broken");
            }
            verifier.set(Walk::Done { outcome, at: inspect.now() });
        });
        Ok(self.verification())
    }
}
