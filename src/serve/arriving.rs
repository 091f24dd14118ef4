//! Bodies of requests, as they arrive.
//!
//! A server that closes a connection over bytes that it has not read resets it, and a client that is still sending may lose the
//! answer with that (RFC 9112 section 9.6). So the rest of a body that is dropped before its end is read on and thrown away,
//! within bounds, while the answer is sent.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Version, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use super::peer::{PartialBody, Peer};

/// Bytes of a rest that are read, for how long, and how long its next piece may take. Then the connection is closed.
const MOST: usize = 8 << 20;
const TIME: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(500);

/// The body of a request.
pub struct Arriving {
    /// `None` once it has ended.
    inner: Option<Incoming>,
    /// Whether the client sends without being asked to. Answering one that waits for `100 Continue` would ask it for a body that
    /// is not wanted.
    sends: bool,
    /// HTTP/2 ends each stream by itself.
    http2: bool,
    /// Tells the connection, where it tells bodies from heads, that this one has not arrived whole.
    partial: Option<PartialBody>,
}

impl Arriving {
    /// The request with its body as it arrives; `peer` where the connection watches what comes on it.
    pub fn request(request: Request<Incoming>, peer: Option<&Arc<Peer>>) -> Request<Self> {
        let http2 = request.version() == Version::HTTP_2;
        let sends = !request.headers().contains_key(header::EXPECT);
        request.map(|body| {
            let inner = Some(body).filter(|body| !body.is_end_stream());
            let partial = inner.as_ref().and(peer).filter(|_| !http2).map(|peer| Arc::clone(peer).body_arrives());
            Self { inner, sends, http2, partial }
        })
    }
}

impl fmt::Debug for Arriving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arriving").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl Body for Arriving {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(inner) = &mut self.inner else { return Poll::Ready(None) };
        let polled = Pin::new(inner).poll_frame(context);
        self.sends = true;
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.inner = None;
            self.partial = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        let Some(rest) = self.inner.take().filter(|inner| !inner.is_end_stream()) else { return };
        if self.http2 || !self.sends {
            return;
        }
        let partial = self.partial.take();
        // Outside a runtime the connection is gone too.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let _ = tokio::time::timeout(TIME, drop_bytes(rest)).await;
                drop(partial);
            });
        }
    }
}

async fn drop_bytes(mut rest: Incoming) {
    let mut left = MOST;
    while let Ok(Some(Ok(frame))) = tokio::time::timeout(PAUSE, rest.frame()).await {
        let length = frame.data_ref().map_or(0, Bytes::len);
        let Some(fewer) = left.checked_sub(length) else { return };
        left = fewer;
    }
}
