//! What tells open pages that something has changed: server-sent events (HTML Living Standard section 9.2), a bounded number of them.
//!
//! An event says no more than that; the page then asks for itself again, as the person who has it open may see it. A stream ends
//! with
//! its session, with the process, and after a while by itself: browsers come again.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http_body::Frame;
use tokio::sync::{Semaphore, mpsc, watch};

use super::failure::Failure;
use super::visitor::Visitor;
use super::{Console, operators};
use crate::config::Scope;

/// Streams at once, of all sessions.
const MOST: usize = 20;
/// How often it is looked whether something has changed.
const LOOK: Duration = Duration::from_secs(2);
/// Looks between two signs of life, by which it is noticed that a browser has gone; and at which it is asked whether the session lasts.
const QUIET: u32 = 7;
/// Looks of one stream.
const LONGEST: u32 = 300;

/// The streams that there are.
#[derive(Clone)]
pub struct Streams {
    places: Arc<Semaphore>,
    stopping: watch::Receiver<bool>,
}

impl Streams {
    pub fn new(stopping: watch::Receiver<bool>) -> Self {
        Self { places: Arc::new(Semaphore::new(MOST)), stopping }
    }
}

/// What is written to a stream, piece by piece.
struct Events(mpsc::Receiver<Bytes>);

impl http_body::Body for Events {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(context).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}

/// What a page might show differently when it changes.
async fn version(console: &Console) -> String {
    let inspect = console.admin.inspect();
    let newest = inspect.store().audit_head().await.ok().flatten().map_or(0, |(newest, _)| newest);
    let logins: u64 = inspect.outcomes().counts().iter().map(|count| count.logins).sum();
    let verification = console.admin.service.verification();
    format!("{newest}-{logins}-{}-{}", verification.state, verification.rows)
}

async fn lasts(console: &Console, visitor: &Visitor) -> bool {
    let (inspect, key) = (console.admin.inspect(), visitor.sign_in.key);
    let now = inspect.now();
    match inspect.store().console().session(key, now).await {
        Ok(Some(session)) => {
            operators::scopes(console, &session.operator, now).await.is_ok_and(|scopes| !scopes.is_empty())
        }
        _ => false,
    }
}

/// A stream of changes.
pub async fn stream(State(console): State<Console>, visitor: Visitor) -> Result<Response, Failure> {
    visitor.caller.may(Scope::Read)?;
    let Ok(place) = Arc::clone(&console.streams.places).try_acquire_owned() else {
        return Err(Failure::too_many());
    };
    let (pieces, events) = mpsc::channel(4);
    let mut stopping = console.streams.stopping.clone();
    tokio::spawn(async move {
        let _place = place;
        let mut seen = version(&console).await;
        if pieces.send(Bytes::from_static(b"retry: 5000\n\n")).await.is_err() {
            return;
        }
        for look in 1..=LONGEST {
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = pieces.closed() => return,
                _ = stopping.wait_for(|stop| *stop) => return,
            }
            let quiet = look % QUIET == 0;
            if quiet && !lasts(&console, &visitor).await {
                let _ = pieces.send(Bytes::from_static(b"event: ended\ndata: \n\n")).await;
                return;
            }
            let found = version(&console).await;
            let piece = match (found != seen, quiet) {
                (true, _) => Bytes::from_static(b"event: changed\ndata: \n\n"),
                (false, true) => Bytes::from_static(b":\n\n"),
                (false, false) => continue,
            };
            seen = found;
            if pieces.send(piece).await.is_err() {
                return;
            }
        }
    });
    let fields = [(CONTENT_TYPE, "text/event-stream"), (CACHE_CONTROL, "no-store")];
    Ok((StatusCode::OK, fields, Body::new(Events(events))).into_response())
}
