//! Kept connections to the app.
//!
//! A connection has no task of its own: the request that has it drives it, first until there is an answer, then until the
//! answer's last byte. So nothing of a request is handed from one task to another, and a request that is given up takes its
//! connection along. Those that are free lie in a list, the one used last on top.

pub mod shared;

use std::error::Error;
use std::future::poll_fn;
use std::io;
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::uri::Uri;
use http::{Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;
use tower_service::Service as _;

use self::shared::InFlight;
use super::body::{Outgoing, Upload};
use crate::serve::alarm::Alarm;
use crate::serve::gather::Gathering;

/// How long a connection has been idle when the app may be about to close it. What is sent on one that was used just before is not
/// kept for a second try.
const RESTED: Duration = Duration::from_millis(100);

/// Fields of an answer's head. Its bytes are the bound that counts.
const MAX_FIELDS: usize = 1000;

/// Of one read from the app, at most.
const MAX_BUFFER: usize = 128 * 1024;

/// Why the app gave no answer.
#[derive(Debug)]
pub enum NoAnswer {
    /// It could not be connected to, or broke off. The text names no content of a message.
    Broken(String),
    TooSlow,
}

impl NoAnswer {
    fn of(error: &dyn Error) -> Self {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        Self::Broken(text)
    }
}

/// How the app is reached. Plain connections need nothing of TLS.
pub enum Connector {
    Plain(HttpConnector),
    Tls(HttpsConnector<HttpConnector>),
    /// A socket of this machine.
    Unix {
        path: PathBuf,
        limit: Duration,
    },
}

impl Connector {
    async fn connect(&self, address: &Uri) -> Result<Stream, Box<dyn Error + Send + Sync>> {
        match self {
            Self::Plain(connector) => {
                let mut connector = connector.clone();
                poll_fn(|context| connector.poll_ready(context)).await?;
                Ok(Gathering(Socket::Tcp(MaybeHttpsStream::Http(connector.call(address.clone()).await?))))
            }
            Self::Tls(connector) => {
                let mut connector = connector.clone();
                poll_fn(|context| connector.poll_ready(context)).await?;
                Ok(Gathering(Socket::Tcp(connector.call(address.clone()).await?)))
            }
            Self::Unix { path, limit } => {
                let stream = tokio::time::timeout(*limit, UnixStream::connect(path)).await??;
                Ok(Gathering(Socket::Unix(TokioIo::new(stream))))
            }
        }
    }
}

type Stream = Gathering<Socket>;

/// A connection to the app.
#[allow(
    clippy::large_enum_variant,
    reason = "made once a connection and boxed with it; nearly all are of the large kind"
)]
enum Socket {
    Tcp(MaybeHttpsStream<TokioIo<TcpStream>>),
    Unix(TokioIo<UnixStream>),
}

impl hyper::rt::Read for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl hyper::rt::Write for Socket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Unix(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(context),
            Self::Unix(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

/// The connections to one app.
pub struct Pool {
    connector: Connector,
    address: Uri,
    /// In the order in which they became free.
    idle: Mutex<Vec<Idle>>,
    most_idle: usize,
    /// Shorter than the time after which the app closes its connections, so that we do not write into one that is just closing.
    longest_idle: Duration,
}

struct Idle {
    connection: Box<Connection>,
    since: Instant,
}

impl Pool {
    /// `address` names scheme and authority of the app; of idle connections, `most_idle` are kept for `longest_idle`.
    pub fn new(connector: Connector, address: Uri, most_idle: usize, longest_idle: Duration) -> Arc<Self> {
        Arc::new(Self { connector, address, idle: Mutex::new(Vec::new()), most_idle, longest_idle })
    }

    /// Sends a request, whose target is in origin form, and waits for the head of the answer: for `limit`, and longer only
    /// while a body is still going in.
    ///
    /// A connection that the app closed while it lay idle costs no error: a request of which nothing was written is sent on another
    /// one, and so is one that was written if its method is idempotent and its body is at hand (RFC 9110 section 9.2.2).
    /// Anything else is not sent twice, since only the app knows what it did with the first.
    ///
    /// # Errors
    /// When there is no answer, and why.
    pub async fn send(
        self: &Arc<Self>,
        mut request: Box<Request<Outgoing>>,
        limit: Duration,
        upload: Option<&Upload>,
    ) -> Result<Response<AppBody>, NoAnswer> {
        let patience = Patience { from: Instant::now(), limit, upload };
        loop {
            let Some((mut connection, rested)) = self.take(patience.from) else {
                return self.send_anew(request, patience).await;
            };
            let again = if rested { copy(&request) } else { None };
            match connection.exchange(request, patience).await {
                Ok(response) => return Ok(self.answer(response, connection)),
                Err(Unanswered::TooSlow) => return Err(NoAnswer::TooSlow),
                Err(Unanswered::Broken { unsent: Some(unsent), .. }) => request = unsent,
                Err(Unanswered::Broken { error, unsent: None }) => match again {
                    Some(again) => return self.send_anew(again, patience).await,
                    None => return Err(NoAnswer::of(&error)),
                },
            }
        }
    }

    /// Sends a request on a new connection.
    async fn send_anew(
        self: &Arc<Self>,
        request: Box<Request<Outgoing>>,
        patience: Patience<'_>,
    ) -> Result<Response<AppBody>, NoAnswer> {
        let mut connection = Box::pin(self.connect(&patience)).await?;
        match connection.exchange(request, patience).await {
            Ok(response) => Ok(self.answer(response, connection)),
            Err(Unanswered::TooSlow) => Err(NoAnswer::TooSlow),
            Err(Unanswered::Broken { error, .. }) => Err(NoAnswer::of(&error)),
        }
    }

    /// The connection that became free last, unless it is too old or the app has closed it, and whether it has rested.
    fn take(&self, now: Instant) -> Option<(Box<Connection>, bool)> {
        loop {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            let Idle { mut connection, since } = idle.pop()?;
            let idle_for = now.saturating_duration_since(since);
            if idle_for > self.longest_idle {
                // What lies below is older still.
                idle.clear();
                return None;
            }
            drop(idle);
            connection.drive(&mut quiet());
            if connection.is_free() {
                return Some((connection, idle_for > RESTED));
            }
        }
    }

    async fn connect(&self, patience: &Patience<'_>) -> Result<Box<Connection>, NoAnswer> {
        let connected = tokio::time::timeout_at(patience.due(), self.connector.connect(&self.address)).await;
        let stream = connected.map_err(|_| NoAnswer::TooSlow)?.map_err(|error| NoAnswer::of(&*error))?;
        let handshake = Builder::new().max_buf_size(MAX_BUFFER).max_headers(MAX_FIELDS).handshake(stream).await;
        let (sender, connection) = handshake.map_err(|error| NoAnswer::of(&error))?;
        Ok(Box::new(Connection {
            sender,
            connection: Some(Box::pin(connection.with_upgrades())),
            alarm: Alarm::default(),
        }))
    }

    fn answer(self: &Arc<Self>, response: Response<Incoming>, connection: Box<Connection>) -> Response<AppBody> {
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            // Its end is what hands the socket over.
            tokio::spawn(connection.finish());
            return response.map(|inner| AppBody { inner, hold: Hold::Nothing });
        }
        // The answer may have come whole; then the connection is of use to others before this one is read.
        let hold = if connection.is_free() {
            self.keep(connection);
            Hold::Nothing
        } else {
            Hold::Own(connection, Arc::clone(self))
        };
        response.map(|inner| AppBody { inner, hold })
    }

    fn keep(self: &Arc<Self>, connection: Box<Connection>) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() >= self.most_idle {
            return;
        }
        // A list without room has no task that sweeps it: `sweep` takes the room away when it ends.
        if idle.capacity() == 0 {
            tokio::spawn(sweep(Arc::downgrade(self)));
        }
        idle.push(Idle { connection, since: Instant::now() });
    }
}

/// What may be sent a second time: a request whose method is idempotent (RFC 9110 section 9.2.2), with its body still at hand.
fn copy(request: &Request<Outgoing>) -> Option<Box<Request<Outgoing>>> {
    if !request.method().is_idempotent() {
        return None;
    }
    let body = match request.body() {
        Outgoing::Empty => Outgoing::Empty,
        Outgoing::Whole(bytes) => Outgoing::Whole(bytes.clone()),
        Outgoing::Streamed(_) => return None,
    };
    let mut again = Request::new(body);
    *again.method_mut() = request.method().clone();
    *again.uri_mut() = request.uri().clone();
    *again.version_mut() = request.version();
    *again.headers_mut() = request.headers().clone();
    Some(Box::new(again))
}

/// Closes connections that were idle for too long, until none is left.
async fn sweep(pool: Weak<Pool>) {
    loop {
        let Some(longest_idle) = pool.upgrade().map(|pool| pool.longest_idle) else { return };
        tokio::time::sleep(longest_idle).await;
        let Some(pool) = pool.upgrade() else { return };
        let mut idle = pool.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = idle.iter().position(|idle| idle.since.elapsed() <= longest_idle).unwrap_or(idle.len());
        idle.drain(..fresh);
        if idle.is_empty() {
            // The task that keeps the next one sees by that that it is to be swept again.
            *idle = Vec::new();
            return;
        }
    }
}

/// How long an answer may take.
#[derive(Clone, Copy)]
struct Patience<'a> {
    from: Instant,
    limit: Duration,
    upload: Option<&'a Upload>,
}

impl Patience<'_> {
    fn due(&self) -> Instant {
        self.from + self.limit
    }

    /// While a body is still going in, the app is not the one to wait for.
    fn prolong(&mut self) -> bool {
        let moved = self.upload.map(Upload::last_moved).filter(|moved| *moved > self.from);
        self.from = moved.unwrap_or(self.from);
        moved.is_some()
    }
}

/// A context that wakes no task: for what only moves when [`Connection::drive`] is called, which wakes its caller.
fn quiet() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

/// One connection. Its owner drives it.
struct Connection {
    sender: SendRequest<Outgoing>,
    /// `None` once it has ended. hyper takes no request from its queue after the app has closed an idle connection: one that is
    /// in it then comes back to its sender when the queue is dropped.
    connection: Option<Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>>,
    /// For when an answer takes too long; set once for many requests.
    alarm: Alarm,
}

/// An exchange without an answer.
enum Unanswered {
    Broken { error: hyper::Error, unsent: Option<Box<Request<Outgoing>>> },
    TooSlow,
}

impl Connection {
    /// Reads and writes what can be read and written now. What comes of it is there afterwards.
    fn drive(&mut self, context: &mut Context<'_>) {
        if self.connection.as_mut().is_some_and(|connection| connection.as_mut().poll(context).is_ready()) {
            self.connection = None;
        }
    }

    /// Whether everything of the last request and its answer is through.
    fn is_free(&self) -> bool {
        !self.has_ended() && self.sender.is_ready()
    }

    fn has_ended(&self) -> bool {
        self.connection.is_none()
    }

    async fn exchange(
        &mut self,
        request: Box<Request<Outgoing>>,
        mut patience: Patience<'_>,
    ) -> Result<Response<Incoming>, Unanswered> {
        // Without a budget of its own: when that is used up, tokio would wake a waker that wakes no task.
        let mut answer = pin!(tokio::task::unconstrained(self.sender.try_send_request(*request)));
        poll_fn(|context| {
            self.drive(context);
            if let Poll::Ready(answered) = answer.as_mut().poll(&mut quiet()) {
                return Poll::Ready(answered.map_err(|mut failed| {
                    let unsent = failed.take_message().map(Box::new);
                    Unanswered::Broken { error: failed.into_error(), unsent }
                }));
            }
            while self.alarm.poll(patience.due(), context).is_ready() {
                if !patience.prolong() {
                    return Poll::Ready(Err(Unanswered::TooSlow));
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Drives it until nothing more goes on.
    async fn finish(mut self: Box<Self>) {
        poll_fn(|context| {
            self.drive(context);
            if self.has_ended() || self.is_free() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

/// The body of an answer, as it arrives. Dropped before its end, it closes the connection.
pub struct AppBody {
    inner: Incoming,
    hold: Hold,
}

/// What of a connection an answer holds until all of its body has arrived.
enum Hold {
    Nothing,
    Own(Box<Connection>, Arc<Pool>),
    Shared(#[allow(dead_code, reason = "given back by being dropped")] InFlight),
}

impl AppBody {
    fn shared(inner: Incoming, place: InFlight) -> Self {
        Self { inner, hold: Hold::Shared(place) }
    }

    /// The connection has nothing more for this body.
    fn give_back(&mut self) {
        let Hold::Own(connection, pool) = std::mem::replace(&mut self.hold, Hold::Nothing) else { return };
        if connection.is_free() {
            pool.keep(connection);
        } else if !connection.has_ended() {
            // The app answered before it had the whole request. It gets the rest, and no task waits for that.
            tokio::spawn(connection.finish());
        }
    }
}

impl Body for AppBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = &mut *self;
        let polled = match &mut this.hold {
            Hold::Own(connection, _) => {
                let mut polled = Pin::new(&mut this.inner).poll_frame(&mut quiet());
                if polled.is_pending() {
                    connection.drive(context);
                    polled = Pin::new(&mut this.inner).poll_frame(&mut quiet());
                }
                polled
            }
            // A task of its own drives the connection, and wakes the reader; what is there already waits for nothing.
            Hold::Shared(_) | Hold::Nothing => Pin::new(&mut this.inner).poll_frame(context),
        };
        if this.inner.is_end_stream() || matches!(polled, Poll::Ready(None)) {
            this.give_back();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// The app closes a kept connection just after it was taken from the list: the request was not sent, and comes back at once.
    #[tokio::test]
    async fn a_request_on_a_connection_that_has_just_closed_comes_back_unsent() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let pool = Pool::new(Connector::Plain(HttpConnector::new()), address, 1, Duration::from_secs(60));
        let request = || Box::new(Request::new(Outgoing::Empty));
        let app = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 1024]).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
            stream
        });
        let Ok(answer) = pool.send(request(), Duration::from_secs(5), None).await else { panic!("no answer") };
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "ok");
        let patience = Patience { from: Instant::now(), limit: Duration::from_secs(5), upload: None };
        let (mut connection, _) = pool.take(patience.from).expect("the connection is kept");
        drop(app.await.unwrap());
        // Until the runtime has seen the end.
        tokio::time::sleep(Duration::from_millis(50)).await;
        let unanswered = connection.exchange(request(), patience).await.map(|_| ());
        assert!(matches!(unanswered, Err(Unanswered::Broken { unsent: Some(_), .. })), "the request is lost");
    }
}
