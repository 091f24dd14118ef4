//! Before several sidecars: each connection goes to the next of them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// After a connection that could not be taken.
const PAUSE: Duration = Duration::from_millis(50);

/// A balancer that runs until it is dropped.
pub struct Balancer {
    taken: Arc<[AtomicUsize]>,
    task: JoinHandle<()>,
}

impl Balancer {
    pub fn start(listener: TcpListener, sidecars: Vec<SocketAddr>) -> Self {
        let taken: Arc<[AtomicUsize]> = sidecars.iter().map(|_| AtomicUsize::new(0)).collect();
        let counted = Arc::clone(&taken);
        let task = tokio::spawn(async move {
            let mut passing = JoinSet::new();
            for (sidecar, count) in sidecars.iter().zip(counted.iter()).cycle() {
                let Ok((browser, _)) = listener.accept().await else {
                    tokio::time::sleep(PAUSE).await;
                    continue;
                };
                count.fetch_add(1, Ordering::Relaxed);
                passing.spawn(pass(browser, *sidecar));
                while passing.try_join_next().is_some() {}
            }
        });
        Self { taken, task }
    }

    /// How many connections each sidecar was given.
    pub fn taken(&self) -> Vec<usize> {
        self.taken.iter().map(|count| count.load(Ordering::Relaxed)).collect()
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(mut browser: TcpStream, sidecar: SocketAddr) {
    // Where either side has ended, so has the connection, and the browser sees it.
    if let Ok(mut sidecar) = TcpStream::connect(sidecar).await {
        let _ = tokio::io::copy_bidirectional(&mut browser, &mut sidecar).await;
    }
}
