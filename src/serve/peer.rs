//! The other end of a connection, and what goes on with it: requests, bodies, a tunnel.

use std::future::Future;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Waker};

use http::header::HeaderValue;
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::counters::Counters;
use super::held::{Client, Held};

/// How far a listener is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub(super) enum Phase {
    Serving,
    /// Requests under way finish, and idle connections close.
    Draining,
    /// Whatever is left is cut.
    Ending,
}

/// The other end of a connection, for as long as it lasts.
pub struct Peer {
    /// Of the socket. No header changes it.
    pub address: IpAddr,
    pub forwarded_for: HeaderValue,
    /// Whose share of what is held its bytes count for; `None` for a trusted hop, which brings many clients.
    pub client: Option<Client>,
    /// Requests that were begun; wraps.
    pub(super) begun: AtomicU32,
    pub(super) in_flight: AtomicU32,
    /// Bodies of requests that have not arrived whole. An app may answer before it has the body, and then a body outlasts its
    /// request: what comes next is the rest of it.
    pub(super) bodies: AtomicU32,
    /// Woken when the last of them has arrived, so that the wait for the next request begins.
    when_whole: Mutex<Option<Waker>>,
    /// HTTP/2: bytes that come between requests are no head of one.
    pub(super) multiplexed: AtomicBool,
    pub(super) tunnelled: AtomicBool,
    /// Nothing has gone on for [`REST`]: hyper is not needed.
    pub(super) rests: AtomicBool,
    /// The head that came last states its length in two ways.
    pub(super) two_lengths: AtomicBool,
    pub(super) phase: watch::Receiver<Phase>,
    pub(super) counters: Arc<Counters>,
    _place: OwnedSemaphorePermit,
}

impl Peer {
    /// `trusted`: it is a hop of ours, and brings many clients.
    pub(super) fn new(
        address: IpAddr,
        trusted: bool,
        place: OwnedSemaphorePermit,
        phase: watch::Receiver<Phase>,
        counters: Arc<Counters>,
    ) -> Self {
        counters.connections.inc();
        Self {
            address,
            // An address is digits, dots and colons.
            forwarded_for: HeaderValue::try_from(address.to_string()).unwrap_or(HeaderValue::from_static("unknown")),
            client: (!trusted).then(|| Client::of(address)),
            begun: AtomicU32::new(0),
            in_flight: AtomicU32::new(0),
            bodies: AtomicU32::new(0),
            when_whole: Mutex::new(None),
            multiplexed: AtomicBool::new(false),
            tunnelled: AtomicBool::new(false),
            rests: AtomicBool::new(false),
            two_lengths: AtomicBool::new(false),
            phase,
            counters,
            _place: place,
        }
    }

    /// Whether the head of the request under way has both a Content-Length and a Transfer-Encoding. hyper takes one of them
    /// away, so it cannot be seen in the request itself. Of a head that came while an earlier request was under way it
    /// is not known; hyper then reads the chunks, forwards no length and closes, as RFC 9112 section 6.1 asks.
    pub fn has_two_lengths(&self) -> bool {
        self.two_lengths.load(Ordering::Relaxed)
    }

    /// A body begins to arrive: until what comes back is dropped, what arrives is no head.
    pub fn body_arrives(self: Arc<Self>) -> PartialBody {
        self.bodies.fetch_add(1, Ordering::Relaxed);
        PartialBody { peer: self }
    }

    /// Whether no request is under way, nor the body of one.
    pub(super) fn is_between_requests(&self) -> bool {
        self.in_flight.load(Ordering::Relaxed) == 0 && self.bodies.load(Ordering::Relaxed) == 0
    }

    /// Wakes the connection when its last body has arrived, if there is one that outlasts its request.
    pub(super) fn wake_when_whole(&self, context: &Context<'_>) {
        if self.in_flight.load(Ordering::Relaxed) > 0 || self.bodies.load(Ordering::Relaxed) == 0 {
            return;
        }
        let waker = context.waker().clone();
        // The one before is dropped behind the lock: it may be the last that holds a task.
        let before = self.when_whole.lock().unwrap_or_else(PoisonError::into_inner).replace(waker);
        drop(before);
        if self.bodies.load(Ordering::SeqCst) == 0 {
            context.waker().wake_by_ref();
        }
    }
}

/// See [`Peer::body_arrives`].
pub struct PartialBody {
    peer: Arc<Peer>,
}

impl Drop for PartialBody {
    fn drop(&mut self) {
        if self.peer.bodies.fetch_sub(1, Ordering::SeqCst) > 1 {
            return;
        }
        // Locks: it is held for one statement here and in `wake_when_whole`, which drops no body.
        let waker = self.peer.when_whole.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.counters.connections.dec();
    }
}

/// A request under way: from its head to the last byte of its answer.
pub struct Guard {
    peer: Arc<Peer>,
    /// What else lasts as long.
    held: Vec<Held>,
}

impl Guard {
    pub fn new(peer: &Arc<Peer>) -> Self {
        peer.begun.fetch_add(1, Ordering::Relaxed);
        peer.in_flight.fetch_add(1, Ordering::Relaxed);
        peer.counters.in_flight.inc();
        Self { peer: Arc::clone(peer), held: Vec::new() }
    }

    /// Keeps what is held until the last byte of the answer.
    pub fn keep(&mut self, held: Held) {
        self.held.push(held);
    }

    /// The connection becomes a tunnel, which watches itself.
    pub fn tunnel(&self) -> Tunnel {
        self.peer.tunnelled.store(true, Ordering::Relaxed);
        self.peer.counters.tunnels.inc();
        Tunnel { peer: Arc::clone(&self.peer) }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.peer.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.peer.counters.in_flight.dec();
    }
}

/// A connection that has switched protocols. Holds its place among the connections.
pub struct Tunnel {
    peer: Arc<Peer>,
}

impl Tunnel {
    /// Runs the tunnel until it ends, or the process does.
    pub fn spawn(self, tunnel: impl Future<Output = ()> + Send + 'static) {
        let mut phase = self.peer.phase.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = tunnel => {}
                _ = phase.wait_for(|phase| *phase >= Phase::Ending) => {}
            }
            drop(self);
        });
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.peer.counters.tunnels.dec();
    }
}
