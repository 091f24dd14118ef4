//! A listener of the demo: runs until it is told to stop.

use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// How long requests under way may take once the end has come.
const PATIENCE: Duration = Duration::from_secs(1);

/// A listener that runs.
pub struct Server {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Server {
    pub fn start(listener: TcpListener, router: Router) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async {
            let _ = stopped.await;
        };
        let task = tokio::spawn(async {
            // It ends by an error only when the listener is gone, and then the next request says so.
            let _ = axum::serve(listener, router).with_graceful_shutdown(shutdown).await;
        });
        Self { stop, task }
    }

    pub async fn stop(mut self) {
        let _ = self.stop.send(());
        // A browser may hold a connection open for minutes.
        if tokio::time::timeout(PATIENCE, &mut self.task).await.is_err() {
            self.task.abort();
        }
    }
}
