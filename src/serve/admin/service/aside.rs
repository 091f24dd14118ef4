//! What takes long runs off the I/O threads: few at once, not for ever, and no longer than a caller waits for it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot};

use super::Refused;
use crate::ports::store::StoreError;

/// How long one look may take.
pub const BUDGET: Duration = Duration::from_secs(60);
/// How long a call waits for its turn.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// How many looks are made at once.
pub struct Turns {
    pub(super) explaining: Arc<Semaphore>,
    /// One walks everybody.
    pub(super) planning: Arc<Semaphore>,
}

impl Default for Turns {
    fn default() -> Self {
        Self { explaining: Arc::new(Semaphore::new(2)), planning: Arc::new(Semaphore::new(1)) }
    }
}

/// Why a look was not made.
#[derive(Debug)]
pub enum Unlooked {
    Refused(Refused),
    Busy,
    TooLong,
}

impl From<Refused> for Unlooked {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

/// Makes a look on a thread that may compute, until it is done, too long, or no caller waits for it.
pub(super) async fn aside<T: Send + 'static>(
    turns: &Arc<Semaphore>,
    patience: Duration,
    look: impl Future<Output = Result<T, Refused>> + Send + 'static,
) -> Result<T, Unlooked> {
    let turn = tokio::time::timeout(patience, Arc::clone(turns).acquire_owned()).await;
    let Ok(Ok(turn)) = turn else { return Err(Unlooked::Busy) };
    // Dropped with this call.
    let (_waiting, gone) = oneshot::channel::<Infallible>();
    let runtime = Handle::current();
    let job = move || {
        let _turn = turn;
        runtime.block_on(async {
            tokio::select! {
                found = tokio::time::timeout(BUDGET, look) => found.map_err(|_| Unlooked::TooLong)?.map_err(Unlooked::from),
                _ = gone => Err(Unlooked::TooLong),
            }
        })
    };
    let done = tokio::task::spawn_blocking(job).await;
    done.unwrap_or_else(|error| Err(Refused::Store(StoreError::Unavailable(error.to_string())).into()))
}
