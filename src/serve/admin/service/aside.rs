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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    struct Ended(Arc<AtomicBool>);

    impl Drop for Ended {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_look_ends_with_its_caller_and_then_another_has_its_turn() {
        let (turns, ended) = (Arc::new(Semaphore::new(1)), Arc::new(AtomicBool::new(false)));
        let guard = Ended(Arc::clone(&ended));
        let endless = async move {
            let _guard = guard;
            std::future::pending::<Result<(), Refused>>().await
        };
        let call = tokio::time::timeout(Duration::from_millis(50), aside(&turns, PATIENCE, endless));
        assert!(call.await.is_err(), "no caller waits any longer");
        let next = aside(&turns, PATIENCE, async { Ok(7) }).await;
        assert!(matches!(next, Ok(7)));
        assert!(ended.load(Ordering::SeqCst));
    }

    #[tokio::test]
    async fn who_waits_too_long_for_a_turn_hears_so() {
        let refused = aside(&Arc::new(Semaphore::new(0)), Duration::ZERO, async { Ok(()) }).await;
        assert!(matches!(refused, Err(Unlooked::Busy)));
    }
}
