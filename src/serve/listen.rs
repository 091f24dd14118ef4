//! Connections: taken, bounded, watched, drained.
//!
//! hyper speaks HTTP on them. What it leaves to its user is here: how long a connection may be idle, how long a head may
//! take, how long a client may refuse to read, and how all of them end when the process does. A busy connection costs no
//! timer. One that has been idle for a moment gives back everything that hyper keeps for it, its buffer above all, and is
//! a socket and a timer until its next byte.

use std::future::{Future, poll_fn};
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use super::alarm::Alarm;
use super::arriving::Arriving;
use super::counters::{Counters, StageLabel};
use super::door::{Door, Taken};
use super::gather::Gathering;
use super::held::Held;
use super::peer::{Guard, Peer, Phase};
use super::proxy::answer::Answer;
use super::proxy::{Site, USUAL_HEAD, handle};
use super::proxy_protocol;
use super::tls::Tls;
use crate::config::Listen;

/// How serving ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// Every request under way has finished.
    Clean,
    /// `listen.drain_timeout` passed first, and this many connections were cut.
    Cut(usize),
}

/// Serves until `shutdown` is ready, then lets requests under way finish.
///
/// The site is read again for every request, so a reload reaches open connections too; the limits of `[listen]` are those of
/// the start.
pub async fn run(
    listener: impl Into<Door>,
    site: Arc<ArcSwap<Site>>,
    tls: Option<Arc<Tls>>,
    shutdown: impl Future<Output = ()>,
) -> Drained {
    let listener = listener.into();
    let settings = site.load().listen.clone();
    let most = settings.max_connections.clamp(1, Semaphore::MAX_PERMITS);
    let places = Arc::new(Semaphore::new(most));
    let (phase, watched) = watch::channel(Phase::Serving);
    let counters = site.load().counters();
    let server = Arc::new(Server {
        http1: http1_builder(),
        http2: http2_builder(),
        tls: tls.map(Tls::acceptor),
        limits: Limits::of(&settings),
        site,
        counters,
        phase: watched,
    });

    tokio::select! {
        () = accept(&listener, &places, &server) => {}
        () = shutdown => {}
    }
    drop(listener);
    // The receiver may be gone already.
    let _ = phase.send(Phase::Draining);
    let all = u32::try_from(most).unwrap_or(u32::MAX);
    if tokio::time::timeout(settings.drain_timeout, places.acquire_many(all)).await.is_ok() {
        return Drained::Clean;
    }
    let cut = most - places.available_permits();
    let _ = phase.send(Phase::Ending);
    Drained::Cut(cut)
}

struct Server {
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
    tls: Option<TlsAcceptor>,
    limits: Limits,
    site: Arc<ArcSwap<Site>>,
    counters: Arc<Counters>,
    phase: watch::Receiver<Phase>,
}

#[derive(Debug, Clone, Copy)]
struct Limits {
    header: Duration,
    idle: Duration,
    proxy_protocol: bool,
}

impl Limits {
    fn of(settings: &Listen) -> Self {
        let Listen { header_timeout, idle_timeout, proxy_protocol, .. } = settings;
        Self { header: *header_timeout, idle: *idle_timeout, proxy_protocol: *proxy_protocol }
    }
}

/// A head of a request, in bytes; past it the answer is 431.
const MAX_HEAD: usize = 64 * 1024;
/// Fields of a head; its bytes are the bound that counts.
const MAX_FIELDS: usize = 1000;
/// What one read brings at most, in bytes.
const MAX_READ: usize = 64 * 1024;
/// The same while much is held, in bytes. No more than hyper's buffers begin with.
const PIECE: usize = 8 * 1024;

fn http1_builder() -> http1::Builder {
    let mut builder = http1::Builder::new();
    // Our own timers tell an idle connection from a slow head.
    builder.timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(MAX_READ);
    builder.max_header_size(MAX_HEAD).max_headers(MAX_FIELDS);
    builder
}

fn http2_builder() -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(100)
        .max_header_list_size(64 * 1024)
        // What may arrive unread on one connection: it is counted nowhere else.
        .initial_stream_window_size(128 * 1024)
        .initial_connection_window_size(256 * 1024)
        .max_send_buf_size(64 * 1024)
        // Rapid reset (CVE-2023-44487) and its mirror image: past these the connection is closed.
        .max_pending_accept_reset_streams(10)
        .max_local_error_reset_streams(128)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20));
    builder
}

async fn accept(listener: &Door, places: &Arc<Semaphore>, server: &Arc<Server>) {
    loop {
        // Further connections wait in the kernel's queue until there is a place.
        let Ok(place) = Arc::clone(places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok(Taken::Tcp(stream, address)) => drop(tokio::spawn(begin(stream, address, place, Arc::clone(server)))),
            Ok(Taken::Socket(stream, address)) => {
                drop(tokio::spawn(begin(stream, address, place, Arc::clone(server))));
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                // Out of file descriptors, most likely: the next moment may be better, a busy loop is not.
                tracing::error!(%error, "a connection cannot be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Finds out whose a connection is.
async fn begin<S>(mut stream: S, address: IpAddr, place: OwnedSemaphorePermit, server: Arc<Server>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut client = address;
    if server.limits.proxy_protocol && server.site.load().trusts(address.to_canonical()) {
        let read = tokio::time::timeout(server.limits.header, proxy_protocol::read(&mut stream)).await;
        match read.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(named) => client = named.unwrap_or(address),
            Err(error) => {
                // Balancers also check that the port is open, and send nothing.
                if error.kind() == io::ErrorKind::InvalidData {
                    tracing::warn!(%address, %error, "a connection was closed; `listen.proxy_protocol` expects a PROXY header");
                }
                return;
            }
        }
    }
    let client = client.to_canonical();
    let trusted = server.site.load().trusts(client);
    let peer = Arc::new(Peer::new(client, trusted, place, server.phase.clone(), Arc::clone(&server.counters)));
    connection(stream, peer, server).await;
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

async fn connection<S>(stream: S, peer: Arc<Peer>, server: Arc<Server>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Some(acceptor) = &server.tls else { return serve(stream, peer, &server).await };
    let handshake = tokio::time::timeout(server.limits.header, acceptor.accept(stream)).await;
    if let Ok(Ok(stream)) = handshake {
        if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
            peer.multiplexed.store(true, Ordering::Relaxed);
        }
        Box::pin(serve(stream, peer, &server)).await;
    }
}

async fn serve<S>(stream: S, peer: Arc<Peer>, server: &Server)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut io = Watched::new(stream, Arc::clone(&peer), server.limits);
    let mut phase = peer.phase.clone();
    if !peer.multiplexed.load(Ordering::Relaxed) && !wakes(io.peek(PREFACE.len()), &mut phase).await {
        return;
    }
    let speaks_http2 = peer.multiplexed.load(Ordering::Relaxed) || io.early.starts_with(PREFACE);
    peer.multiplexed.store(speaks_http2, Ordering::Relaxed);
    let site = Arc::clone(&server.site);
    let its_peer = Arc::clone(&peer);
    let service = service_fn(move |request: Request<Incoming>| {
        let request = Arriving::request(request, Some(&its_peer));
        let (site, peer) = (site.load_full(), Arc::clone(&its_peer));
        // Made inside: what a block takes along and then awaits has its place twice, and hyper moves all of it for each request.
        async move { Ok::<_, std::convert::Infallible>(handle(site, peer, request).await) }
    });
    if speaks_http2 {
        let connection = Box::pin(server.http2.serve_connection(TokioIo::new(io), service));
        run_connection(connection, |connection| connection.graceful_shutdown(), &mut phase).await;
    } else {
        serve_http1(io, service, &peer, server, &mut phase).await;
    }
}

/// What no method of HTTP/1.1 begins with, and the preface of HTTP/2 does (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI";

/// Whether a connection has something to say before the process drains.
async fn wakes(peek: impl Future<Output = io::Result<bool>>, phase: &mut watch::Receiver<Phase>) -> bool {
    tokio::select! {
        woken = peek => woken.unwrap_or(false),
        _ = phase.wait_for(|phase| *phase >= Phase::Draining) => false,
    }
}

/// HTTP/1.1 in turns: hyper while something goes on, nothing but the socket while nothing does.
async fn serve_http1<S, F>(
    mut io: Watched<S>,
    mut service: F,
    peer: &Peer,
    server: &Server,
    phase: &mut watch::Receiver<Phase>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: HttpService<Incoming, ResBody = Answer<Guard>, Error = std::convert::Infallible> + Unpin,
    F::Future: Send,
{
    loop {
        let mut connection =
            Box::pin(server.http1.serve_connection(Gathering(TokioIo::new(io)), service).with_upgrades());
        let turn = poll_fn(|context| match connection.as_mut().poll(context) {
            Poll::Ready(ended) => {
                if let Err(error) = ended {
                    note_unreadable(&error, peer);
                }
                Poll::Ready(Turn::Ended)
            }
            Poll::Pending if peer.rests.load(Ordering::Relaxed) => Poll::Ready(Turn::Rests),
            Poll::Pending => Poll::Pending,
        });
        let turn = tokio::select! {
            biased;
            turn = turn => turn,
            _ = phase.wait_for(|phase| *phase >= Phase::Draining) => Turn::Drains,
        };
        match turn {
            Turn::Ended => return,
            Turn::Drains => {
                return run_connection(connection, |connection| connection.graceful_shutdown(), phase).await;
            }
            Turn::Rests => {}
        }
        let Some(parts) = Pin::into_inner(connection).into_parts() else { return };
        io = parts.io.0.into_inner();
        io.early = parts.read_buf;
        service = parts.service;
        if !wakes(io.peek(1), phase).await {
            return;
        }
        peer.rests.store(false, Ordering::Relaxed);
    }
}

enum Turn {
    Ended,
    Drains,
    Rests,
}

/// Runs a connection to its end, and to an early one when the process drains.
async fn run_connection<C: Future>(
    mut connection: Pin<Box<C>>,
    shut_down: impl FnOnce(Pin<&mut C>),
    phase: &mut watch::Receiver<Phase>,
) {
    tokio::select! {
        biased;
        _ = connection.as_mut() => return,
        _ = phase.wait_for(|phase| *phase >= Phase::Draining) => {}
    }
    shut_down(connection.as_mut());
    tokio::select! {
        _ = connection.as_mut() => {}
        _ = phase.wait_for(|phase| *phase >= Phase::Ending) => {}
    }
}

/// Says what hyper refused by itself: a head that is too long or cannot be read. Clients break off all the time, and what matters
/// of that is logged with its request.
fn note_unreadable(error: &hyper::Error, peer: &Peer) {
    if error.is_parse() {
        peer.counters.refusals.get_or_create(&StageLabel { stage: "http" }).inc();
        let why = if error.is_parse_too_large() { "its head is too long" } else { "it is not HTTP" };
        tracing::info!(client = %peer.address, why, "a request could not be read");
    }
}

/// A socket that ends when nothing happens on it for too long. Which silence is too long depends on what goes on: between
/// requests `idle_timeout`, within a head `header_timeout`, while the client does not read `idle_timeout`. While a request is
/// under way, silence from the client is looked after where its body is read.
struct Watched<S> {
    inner: S,
    peer: Arc<Peer>,
    limits: Limits,
    /// The count of requests begun when the last bytes came: if it has not moved, they are of a head.
    begun: u32,
    /// The same, for `head`.
    scanned: u32,
    reading: Option<Instant>,
    writing: Option<Instant>,
    head_begun: bool,
    head: HeadScan,
    /// Bytes of a head that has not come whole, and what is held of it.
    head_length: usize,
    head_held: Option<Held>,
    overloaded: bool,
    /// Bytes that were read to see what comes.
    early: Bytes,
    alarm: Alarm,
}

impl<S> Watched<S> {
    fn new(inner: S, peer: Arc<Peer>, limits: Limits) -> Self {
        Self {
            inner,
            peer,
            limits,
            begun: 0,
            scanned: 0,
            reading: None,
            writing: None,
            head_begun: false,
            head: HeadScan::default(),
            head_length: 0,
            head_held: None,
            overloaded: false,
            early: Bytes::new(),
            alarm: Alarm::default(),
        }
    }

    /// Nothing can be read: says until when that is all right.
    fn wait_to_read(&mut self, context: &Context<'_>) -> Option<Instant> {
        if !self.peer.is_between_requests() || self.peer.tunnelled.load(Ordering::Relaxed) {
            self.reading = None;
            self.head_begun = false;
            self.peer.wake_when_whole(context);
            return None;
        }
        self.notice_requests();
        let in_head = self.head_begun && !self.peer.multiplexed.load(Ordering::Relaxed);
        let limit = if in_head { self.limits.header } else { self.limits.idle };
        Some(*self.reading.get_or_insert_with(Instant::now) + limit)
    }

    /// If a request has come and gone since the last look, what was known of a head is of an old one.
    fn notice_requests(&mut self) {
        let begun = self.peer.begun.load(Ordering::Relaxed);
        if begun != self.begun {
            self.begun = begun;
            self.reading = None;
            self.head_begun = false;
            // Of a head that has come whole its request is counted.
            self.head_length = 0;
            self.head_held = None;
        }
    }

    /// Counts a head of unusual size while it arrives: past its share of what may be held the connection is closed.
    fn count_head(&mut self, bytes: usize) {
        let before = self.head_length.max(USUAL_HEAD);
        self.head_length += bytes;
        let Some(more) = self.head_length.checked_sub(before).filter(|more| *more > 0) else { return };
        let peer = &self.peer;
        let held = self.head_held.get_or_insert_with(|| peer.counters.held.open_large(peer.client));
        // hyper's buffer doubles as it grows.
        if held.grow(2 * more).is_err() && !self.overloaded {
            self.overloaded = true;
            self.peer.counters.refusals.get_or_create(&StageLabel { stage: "overload" }).inc();
        }
    }

    /// An answer has gone out: hyper may well not look for the next request before there is one, so the wait begins here.
    fn begin_to_wait(&mut self, context: &mut Context<'_>) {
        if self.peer.begun.load(Ordering::Relaxed) == self.begun {
            return;
        }
        if let Some(due) = self.wait_to_read(context) {
            if self.alarm.poll(due, context).is_ready() {
                context.waker().wake_by_ref();
            }
            self.consider_rest(context);
        }
    }

    fn has_read(&mut self, bytes: &[u8]) {
        let between = self.peer.is_between_requests();
        if between {
            self.notice_requests();
        }
        if between && !self.peer.tunnelled.load(Ordering::Relaxed) && !self.peer.multiplexed.load(Ordering::Relaxed) {
            let begun = self.peer.begun.load(Ordering::Relaxed);
            if begun != self.scanned {
                self.scanned = begun;
                self.head = HeadScan::default();
            }
            self.head.read(bytes);
            self.count_head(bytes.len());
            self.peer.two_lengths.store(self.head.length && self.head.encoding, Ordering::Relaxed);
        }
        if !self.head_begun {
            self.head_begun = true;
            // A head counts from its first byte; on HTTP/2 only requests end idleness.
            if !self.peer.multiplexed.load(Ordering::Relaxed) {
                self.reading = None;
            }
        }
    }

    /// Says when hyper is not needed any more: after a request, before the next, with nothing left to write.
    fn consider_rest(&mut self, context: &mut Context<'_>) {
        let rests = self.peer.rests.load(Ordering::Relaxed) || self.peer.multiplexed.load(Ordering::Relaxed);
        if rests || self.head_begun || self.begun == 0 || self.writing.is_some() {
            return;
        }
        if let Some(since) = self.reading
            && self.alarm.poll(since + REST, context).is_ready()
        {
            self.peer.rests.store(true, Ordering::Relaxed);
        }
    }
}

/// Looks at the beginnings of a head's lines for the two ways to state a length.
#[derive(Debug, Default)]
struct HeadScan {
    ended: bool,
    length: bool,
    encoding: bool,
    /// The beginning of the present line, and how much of it is known.
    begins: [u8; TRANSFER_ENCODING.len()],
    known: usize,
}

const CONTENT_LENGTH: &[u8; 15] = b"content-length:";
const TRANSFER_ENCODING: &[u8; 18] = b"transfer-encoding:";

impl HeadScan {
    fn read(&mut self, mut bytes: &[u8]) {
        while !self.ended && !bytes.is_empty() {
            let end = memchr::memchr(b'\n', bytes);
            let line = bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default();
            if let ([first, ..], 0) = (line, self.known)
                && !matches!(first, b'c' | b'C' | b't' | b'T' | b'\r')
            {
                // Most lines begin otherwise, and nothing more of them has to be known.
                if let Some(end) = end {
                    bytes = bytes.get(end + 1..).unwrap_or_default();
                    continue;
                }
                self.begins = [*first; TRANSFER_ENCODING.len()];
                self.known = self.begins.len();
            }
            let wanted = line.get(..line.len().min(self.begins.len() - self.known)).unwrap_or_default();
            if let Some(place) = self.begins.get_mut(self.known..self.known + wanted.len())
                && !wanted.is_empty()
            {
                place.copy_from_slice(wanted);
                self.known += wanted.len();
            }
            let Some(end) = end else { return };
            self.line_ended();
            bytes = bytes.get(end + 1..).unwrap_or_default();
        }
    }

    fn line_ended(&mut self) {
        let line = self.begins.get(..self.known).unwrap_or_default();
        let is = |name: &[u8]| line.get(..name.len()).is_some_and(|begins| begins.eq_ignore_ascii_case(name));
        self.length |= is(CONTENT_LENGTH);
        self.encoding |= is(TRANSFER_ENCODING);
        self.ended = matches!(line, [] | [b'\r']);
        self.known = 0;
    }
}

fn timed_out() -> io::Error {
    io::Error::from(io::ErrorKind::TimedOut)
}

impl<S: AsyncRead + Unpin> Watched<S> {
    /// Waits for bytes, and reads as many as asked for unless they cannot be [`PREFACE`] any more. `false`: there are none
    /// to come.
    async fn peek(&mut self, count: usize) -> io::Result<bool> {
        while self.early.len() < count && PREFACE.starts_with(&self.early) {
            let mut bytes = [0; PREFACE.len()];
            let room = bytes.get_mut(..count - self.early.len()).unwrap_or_default();
            let mut buffer = ReadBuf::new(room);
            poll_fn(|context| self.poll_socket(context, &mut buffer)).await?;
            if buffer.filled().is_empty() {
                return Ok(false);
            }
            self.early = [&self.early, buffer.filled()].concat().into();
        }
        Ok(true)
    }

    fn poll_socket(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = if buffer.remaining() > PIECE && self.peer.counters.held.is_pressed() {
            self.poll_piece(context, buffer)
        } else {
            Pin::new(&mut self.inner).poll_read(context, buffer)
        };
        match polled {
            Poll::Ready(result) => {
                self.has_read(buffer.filled().get(before..).unwrap_or_default());
                if self.overloaded {
                    return Poll::Ready(Err(io::Error::from(io::ErrorKind::OutOfMemory)));
                }
                Poll::Ready(result)
            }
            Poll::Pending => match self.wait_to_read(context) {
                Some(due) if self.alarm.poll(due, context).is_ready() => Poll::Ready(Err(timed_out())),
                Some(_) => {
                    self.consider_rest(context);
                    Poll::Pending
                }
                None => Poll::Pending,
            },
        }
    }

    /// Reads a little, however much there is room for: hyper doubles a connection's buffer each time that a read fills it, and in a flood
    /// a thousand buffers of [`MAX_READ`] are as much as all that the budget lets be held.
    fn poll_piece(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut room = [0; PIECE];
        let mut piece = ReadBuf::new(&mut room);
        let polled = Pin::new(&mut self.inner).poll_read(context, &mut piece);
        buffer.put_slice(piece.filled());
        polled
    }
}

/// How long nothing goes on before a connection gives back its buffers. A busy one never comes to it.
const REST: Duration = Duration::from_millis(100);

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.early.is_empty() {
            return self.poll_socket(context, buffer);
        }
        let fitting = self.early.len().min(buffer.remaining());
        let early = self.early.split_to(fitting);
        buffer.put_slice(&early);
        // What follows them is there already, most of the time. An error shows again at the next read.
        let _ = self.poll_socket(context, buffer);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> Watched<S> {
    fn watch_write<T>(&mut self, polled: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.writing = None;
            return polled;
        }
        let due = *self.writing.get_or_insert_with(Instant::now) + self.limits.idle;
        if self.alarm.poll(due, context).is_ready() { Poll::Ready(Err(timed_out())) } else { Poll::Pending }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.watch_write(polled, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write_vectored(context, slices);
        self.watch_write(polled, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.inner).poll_flush(context);
        let polled = self.watch_write(polled, context);
        self.begin_to_wait(context);
        polled
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_with_two_lengths_is_seen_however_it_is_cut() {
        for (head, expected) in [
            ("GET / HTTP/1.1\r\ncontent-length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", true),
            ("GET / HTTP/1.1\nTRANSFER-ENCODING:chunked\nContent-Length:1\n\n", true),
            ("GET / HTTP/1.1\r\ncontent-length: 1\r\n\r\ntransfer-encoding: chunked\r\n", false),
            ("GET / HTTP/1.1\r\nx-content-length: 1\r\ntransfer-encoding: chunked\r\n\r\n", false),
            ("GET / HTTP/1.1\r\na: content-length: 1\r\ntransfer-encoding: chunked\r\n\r\n", false),
        ] {
            for cut in 0..head.len() {
                let mut scan = HeadScan::default();
                scan.read(&head.as_bytes()[..cut]);
                scan.read(&head.as_bytes()[cut..]);
                assert_eq!(scan.length && scan.encoding, expected, "{head:?} cut at {cut}");
            }
        }
    }
}
