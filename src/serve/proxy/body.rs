//! Bodies on their way through: never gathered, only watched.
//!
//! Each direction has a bound on how long it may stand still; a request's body is also looked through for a login where none
//! belongs. On a hit the upstream request is aborted unfinished, and no piece of the value was forwarded.

mod chunks;

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use self::chunks::{Chunks, NoPlace};
use super::headers::clean_trailers;
use crate::pipeline::capture::watch::{BodyScan, Sighted, Sighting};
use crate::serve::alarm::Alarm;
use crate::serve::arriving::Arriving;
use crate::serve::held::{Full, Held};

/// Why a body was broken off by us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    Login(Sighted),
    Unreadable(&'static str),
    /// A value that is looked into would be more than may be held.
    Full(Full),
    Stalled,
    Broken,
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stop::Login(_) => "the body carries a login",
            Stop::Unreadable(why) => why,
            Stop::Full(_) => "the budget for held bodies is used up",
            Stop::Stalled => "the body stopped arriving",
            Stop::Broken => "the body broke off",
        })
    }
}

impl std::error::Error for Stop {}

/// How long something may stand still. Costs no timer while it moves.
#[derive(Debug)]
pub struct Stall {
    limit: Duration,
    since: Option<Instant>,
    alarm: Alarm,
}

impl Stall {
    pub fn new(limit: Duration) -> Self {
        Self { limit, since: None, alarm: Alarm::default() }
    }

    pub fn moved(&mut self) {
        self.since = None;
    }

    /// Ready once nothing has moved for the limit.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let due = *self.since.get_or_insert_with(Instant::now) + self.limit;
        self.alarm.poll(due, context)
    }
}

/// What is known of a request's body while the app has it.
#[derive(Debug)]
pub struct Upload {
    started: Instant,
    /// Milliseconds from `started` to the last piece that went through.
    moved: AtomicU64,
    done: AtomicBool,
    stopped: OnceLock<Stop>,
}

impl Upload {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            started: Instant::now(),
            moved: AtomicU64::new(0),
            done: AtomicBool::new(false),
            stopped: OnceLock::new(),
        })
    }

    /// Since when the app has had nothing more to wait for.
    pub fn last_moved(&self) -> Instant {
        self.started + Duration::from_millis(self.moved.load(Ordering::Relaxed))
    }

    /// Why we broke it off.
    pub fn stopped(&self) -> Option<Stop> {
        self.stopped.get().copied()
    }

    fn stop(&self, stop: Stop) -> Stop {
        *self.stopped.get_or_init(|| stop)
    }

    fn note(&self) {
        let elapsed = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.moved.store(elapsed, Ordering::Relaxed);
    }
}

/// What the app gets for a body.
#[derive(Debug)]
pub enum Outgoing {
    Empty,
    /// A login's, as it came.
    Whole(Option<Bytes>),
    Streamed(Box<Streamed>),
}

impl Outgoing {
    pub fn whole(bytes: Bytes) -> Self {
        if bytes.is_empty() { Outgoing::Empty } else { Outgoing::Whole(Some(bytes)) }
    }
}

/// A body that goes through as it arrives.
#[derive(Debug)]
pub struct Streamed {
    inner: Arriving,
    stall: Stall,
    upload: Arc<Upload>,
    watch: Option<Watch>,
    /// Pieces that end within a value that is yet to be judged, of which there is a bound.
    held: VecDeque<Frame<Bytes>>,
    /// A chunked multipart body is divided into new chunks.
    chunks: Option<Chunks>,
    ended: bool,
    /// Bytes still to come, where the length was stated. The app takes the body for complete with the last of them.
    remaining: Option<u64>,
}

/// A body that is looked into as it passes. A value that may be a token is held until it ends, and its bytes count.
#[derive(Debug)]
pub struct Watch {
    scan: BodyScan,
    held: Held,
    /// Bytes of the pieces that wait for a value to be judged.
    waiting: usize,
    /// The most that was held so far.
    counted: usize,
}

impl Watch {
    pub fn new(scan: BodyScan, held: Held) -> Self {
        Self { scan, held, waiting: 0, counted: 0 }
    }

    /// Reads the next piece. `behind`: bytes before it that wait for a place to cut.
    fn read(&mut self, data: &[u8], behind: usize) -> Result<Sighting, Full> {
        let sighting = self.scan.read(data);
        self.waiting = if self.scan.is_undecided() { self.waiting + data.len() } else { 0 };
        let more = (self.scan.held() + self.waiting + behind).saturating_sub(self.counted);
        if more > 0 {
            self.held.grow(more)?;
            self.counted += more;
        }
        Ok(sighting)
    }
}

impl Streamed {
    pub fn through(inner: Arriving, limit: Duration, watch: Option<Watch>) -> (Outgoing, Arc<Upload>) {
        let upload = Upload::new();
        let remaining = inner.size_hint().exact();
        let comes_in_parts = watch.as_ref().is_some_and(|watch| watch.scan.gaps().is_some());
        let chunks = (comes_in_parts && remaining.is_none()).then(Chunks::default);
        let streamed = Self {
            inner,
            stall: Stall::new(limit),
            upload: Arc::clone(&upload),
            watch,
            held: VecDeque::new(),
            chunks,
            ended: false,
            remaining,
        };
        (Outgoing::Streamed(Box::new(streamed)), upload)
    }

    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Stop>>> {
        loop {
            if !self.watch.as_ref().is_some_and(|watch| watch.scan.is_undecided())
                && let Some(frame) = self.held.pop_front()
            {
                return Poll::Ready(Some(Ok(frame)));
            }
            if self.ended {
                return Poll::Ready(None);
            }
            match ready!(self.poll_next(context)) {
                Ok(Some(frame)) => {
                    if let Err(stop) = self.push(frame) {
                        return Poll::Ready(Some(Err(stop)));
                    }
                }
                Ok(None) => {
                    self.ended = true;
                    self.push_rest();
                }
                Err(stop) => return Poll::Ready(Some(Err(stop))),
            }
        }
    }

    fn push(&mut self, frame: Frame<Bytes>) -> Result<(), Stop> {
        let gaps = self.watch.as_ref().and_then(|watch| watch.scan.gaps());
        let (Some(chunks), Some(gaps)) = (&mut self.chunks, gaps) else {
            self.push_rest();
            self.held.push_back(frame);
            return Ok(());
        };
        let Ok(data) = frame.into_data() else { return Ok(()) };
        match chunks.take(&data, gaps) {
            Ok(chunk) => self.held.extend(chunk.map(Frame::data)),
            Err(NoPlace) => return Err(self.upload.stop(Stop::Unreadable("a row of hyphens without an end"))),
        }
        Ok(())
    }

    /// What waited for a place to cut, before the body's end.
    fn push_rest(&mut self) {
        let rest = self.chunks.as_mut().and_then(Chunks::end);
        self.held.extend(rest.map(Frame::data));
    }

    /// The next piece, looked at; `None` at the end.
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Frame<Bytes>>, Stop>> {
        let frame = match Pin::new(&mut self.inner).poll_frame(context) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                ready!(self.stall.poll(context));
                return Poll::Ready(Err(self.upload.stop(Stop::Stalled)));
            }
        };
        self.stall.moved();
        self.upload.note();
        let mut frame = match frame {
            Some(Ok(frame)) => frame,
            Some(Err(_)) => return Poll::Ready(Err(self.upload.stop(Stop::Broken))),
            None => {
                self.upload.done.store(true, Ordering::Relaxed);
                return Poll::Ready(self.judge_end().map_or(Ok(None), Err));
            }
        };
        let stop = match frame.data_ref().cloned() {
            Some(data) => self.look_at(&data),
            None => {
                if let Some(trailers) = frame.trailers_mut() {
                    clean_trailers(trailers);
                }
                self.judge_end()
            }
        };
        Poll::Ready(stop.map_or(Ok(Some(frame)), Err))
    }

    fn look_at(&mut self, data: &Bytes) -> Option<Stop> {
        let behind = self.chunks.as_ref().map_or(0, Chunks::waiting);
        let sighting = match self.watch.as_mut().map_or(Ok(Sighting::Clear), |watch| watch.read(data, behind)) {
            Ok(sighting) => sighting,
            Err(full) => return Some(self.upload.stop(Stop::Full(full))),
        };
        if let Some(stop) = self.stop_on(sighting) {
            return Some(stop);
        }
        let remaining = self.remaining.as_mut()?;
        *remaining = remaining.saturating_sub(data.len() as u64);
        if *remaining == 0 { self.judge_end() } else { None }
    }

    fn judge_end(&mut self) -> Option<Stop> {
        let sighting = self.watch.take()?.scan.finish();
        self.stop_on(sighting)
    }

    fn stop_on(&self, sighting: Sighting) -> Option<Stop> {
        match sighting {
            Sighting::Clear => None,
            Sighting::Login(sighted) => Some(self.upload.stop(Stop::Login(sighted))),
            Sighting::Unreadable(why) => Some(self.upload.stop(Stop::Unreadable(why))),
        }
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Stop;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Stop>>> {
        match self.get_mut() {
            Outgoing::Empty => Poll::Ready(None),
            Outgoing::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Outgoing::Streamed(streamed) => streamed.poll_piece(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Outgoing::Empty => true,
            Outgoing::Whole(bytes) => bytes.is_none(),
            Outgoing::Streamed(streamed) => {
                let waits = streamed.chunks.as_ref().is_some_and(|chunks| chunks.waiting() > 0);
                streamed.held.is_empty() && !waits && streamed.inner.is_end_stream()
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Outgoing::Empty | Outgoing::Whole(None) => SizeHint::with_exact(0),
            Outgoing::Whole(Some(bytes)) => SizeHint::with_exact(bytes.len() as u64),
            Outgoing::Streamed(streamed) => {
                let held = streamed.held.iter().filter_map(Frame::data_ref).map(|data| data.len() as u64).sum::<u64>();
                let rest = streamed.inner.size_hint().exact();
                rest.map_or_else(SizeHint::new, |rest| SizeHint::with_exact(rest + held))
            }
        }
    }
}
