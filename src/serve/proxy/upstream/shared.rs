//! Connections to an app that speaks HTTP/2: many requests share one, so that gRPC's streams and trailers pass.
//!
//! A connection is driven by a task of its own, which ends with the last request on it once it is not used any more.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::uri::Uri;
use http::{Request, Response};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::Instant;

use super::super::body::{Outgoing, Upload};
use super::{AppBody, Connector, NoAnswer, Patience};

/// Requests at a time on one connection. Servers should take as many (RFC 9113 section 6.5.2); what is more goes on another one.
const MOST_STREAMS: usize = 100;
/// What has been read of one answer and not yet sent on.
const STREAM_WINDOW: u32 = 64 * 1024;
/// The same of all on one connection: an answer that its client does not read stops no other.
const CONNECTION_WINDOW: u32 = 100 * STREAM_WINDOW;
/// Bytes of an answer's head, and of a request's pieces that wait for the app.
const MAX_HEAD: u32 = 64 * 1024;
const MAX_SEND: usize = 64 * 1024;

/// The connections to one app.
pub struct Shared {
    connector: Connector,
    address: Uri,
    open: Mutex<Vec<Open>>,
    /// One request at a time connects, and those that wait find its connection.
    connecting: tokio::sync::Mutex<()>,
}

#[derive(Clone)]
struct Open {
    sender: SendRequest<Outgoing>,
    requests: Arc<AtomicUsize>,
}

/// One request's place on a connection.
pub struct InFlight(Arc<AtomicUsize>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Shared {
    pub fn new(connector: Connector, address: Uri) -> Self {
        Self { connector, address, open: Mutex::default(), connecting: tokio::sync::Mutex::default() }
    }

    /// Sends a request, whose target is in absolute form, and waits for the head of the answer as [`super::Pool::send`] does. One that
    /// the app did not look at, since it was just closing the connection, is sent once more on another one.
    ///
    /// # Errors
    /// When there is no answer, and why.
    pub async fn send(
        &self,
        request: Box<Request<Outgoing>>,
        limit: Duration,
        upload: Option<&Upload>,
    ) -> Result<Response<AppBody>, NoAnswer> {
        let mut patience = Patience { from: Instant::now(), limit, upload };
        let mut request = *request;
        let mut again = true;
        loop {
            let (mut sender, place) = self.place(&patience).await?;
            let answer = sender.try_send_request(request);
            tokio::pin!(answer);
            let answered = loop {
                match tokio::time::timeout_at(patience.due(), &mut answer).await {
                    Ok(answered) => break answered,
                    Err(_) if patience.prolong() => {}
                    Err(_) => return Err(NoAnswer::TooSlow),
                }
            };
            match answered {
                Ok(response) => return Ok(response.map(|inner| AppBody::shared(inner, place))),
                Err(mut failed) => match failed.take_message().filter(|_| again) {
                    Some(unsent) => (request, again) = (unsent, false),
                    None => return Err(NoAnswer::of(&failed.into_error())),
                },
            }
        }
    }

    /// A place on a connection, which is opened where none has any.
    async fn place(&self, patience: &Patience<'_>) -> Result<(SendRequest<Outgoing>, InFlight), NoAnswer> {
        if let Some(found) = self.free() {
            return Ok(found);
        }
        // Boxed, since it is large and rare: hyper copies the future of each request several times, also where none is opened.
        let opening = Box::pin(async {
            let _alone = self.connecting.lock().await;
            if let Some(found) = self.free() {
                return Ok(found);
            }
            let stream = self.connector.connect(&self.address).await.map_err(|error| NoAnswer::of(&*error))?;
            let (sender, connection) = Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .max_header_list_size(MAX_HEAD)
                .max_send_buf_size(MAX_SEND)
                .handshake(stream)
                .await
                .map_err(|error| NoAnswer::of(&error))?;
            // The requests on it get how it ended.
            tokio::spawn(async move { drop(connection.await) });
            let opened = Open { sender, requests: Arc::default() };
            let place = opened.enter();
            self.open.lock().unwrap_or_else(PoisonError::into_inner).push(opened);
            Ok(place)
        });
        tokio::time::timeout_at(patience.due(), opening).await.map_err(|_| NoAnswer::TooSlow)?
    }

    /// The first connection with room. Those that the app has closed are forgotten, and of those that lie idle one is kept.
    fn free(&self) -> Option<(SendRequest<Outgoing>, InFlight)> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let mut idle = 0;
        open.retain(|open| {
            idle += usize::from(open.requests.load(Ordering::Relaxed) == 0);
            !open.sender.is_closed() && (idle <= 1 || open.requests.load(Ordering::Relaxed) > 0)
        });
        open.iter().find(|open| open.requests.load(Ordering::Relaxed) < MOST_STREAMS).map(Open::enter)
    }
}

impl Open {
    fn enter(&self) -> (SendRequest<Outgoing>, InFlight) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        (self.sender.clone(), InFlight(Arc::clone(&self.requests)))
    }
}
