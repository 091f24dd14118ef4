//! After a 101: bytes both ways, until one side has enough or nothing has moved for too long.
//!
//! What a client sends behind its upgrade request stays with us until the app has agreed to switch; had it been forwarded
//! before, an app that declines would read it as a request that nothing looked at (RUSTSEC-2026-0033).

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// Copies both ways until either side ends, or neither has sent anything for `idle`.
pub async fn tunnel(client: OnUpgrade, app: OnUpgrade, idle: Duration) {
    let (Ok(client), Ok(app)) = tokio::join!(client, app) else { return };
    let activity = Arc::new(Activity { started: Instant::now(), last: AtomicU64::new(0) });
    let mut client = Watched { inner: TokioIo::new(client), activity: Arc::clone(&activity) };
    let mut app = Watched { inner: TokioIo::new(app), activity: Arc::clone(&activity) };
    tokio::select! {
        // How it ended is between the two.
        _ = tokio::io::copy_bidirectional(&mut client, &mut app) => {}
        () = activity.rests(idle) => {
            tracing::info!("an upgraded connection was idle for `app.stream_timeout` and was closed");
        }
    }
}

struct Activity {
    started: Instant,
    /// Milliseconds since `started`.
    last: AtomicU64,
}

impl Activity {
    fn note(&self) {
        self.last.store(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    async fn rests(&self, idle: Duration) {
        loop {
            let due = self.started + Duration::from_millis(self.last.load(Ordering::Relaxed)) + idle;
            if Instant::now() >= due {
                return;
            }
            tokio::time::sleep_until(due).await;
        }
    }
}

struct Watched<S> {
    inner: S,
    activity: Arc<Activity>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.inner).poll_read(context, buffer);
        if polled.is_ready() {
            self.activity.note();
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
