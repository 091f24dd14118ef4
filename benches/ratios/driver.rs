//! One thread and one poll: the app behind the proxies and the browsers before them.
//!
//! Both ends in one thread cost the second core the least, so that the process under test is what is measured. The app answers
//!
//! ```text
//! GET /b/<n>               n bytes
//! GET /leave/<hexadecimal> a redirect to that address
//! POST /callback, /acs     a redirect to its start page, and counts the login
//! anything else            two bytes, once the body has arrived
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

/// One request, written once and sent as often as it is needed.
#[derive(Debug, Clone, Default)]
pub struct Message {
    pub bytes: Vec<u8>,
    /// Bytes of body that follow, which mean nothing.
    pub filler: usize,
}

impl Message {
    pub fn get(path: &str) -> Self {
        Self { bytes: format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n").into_bytes(), filler: 0 }
    }

    pub fn upload(path: &str, length: usize) -> Self {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/octet-stream\r\nContent-Length: {length}\r\n\r\n"
        );
        Self { bytes: head.into_bytes(), filler: length }
    }

    /// A form that a browser posts, with the cookies that it has.
    pub fn form(path: &str, cookies: &str, fields: &[(&str, &str)]) -> Self {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {HOST}\r\nCookie: {cookies}\r\nAccept: text/html\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        Self { bytes: head.into_bytes(), filler: 0 }
    }
}

/// The address of the app as browsers see it.
pub const HOST: &str = "app.example.com";

/// What to send, and how.
pub struct Load<'a> {
    /// Connections go to them by turns.
    pub targets: &'a [SocketAddr],
    pub connections: usize,
    pub messages: &'a [Message],
    pub until: Until,
    /// Requests a second at moments of a Poisson process; `None`: each connection sends its next request at once.
    pub rate: Option<f64>,
    pub keep_heads: bool,
}

#[derive(Debug, Clone, Copy)]
pub enum Until {
    /// Every message went once.
    Each,
    /// Messages go round and round.
    After(Duration),
}

/// What came back.
#[derive(Debug, Default)]
pub struct Outcome {
    pub answered: u64,
    pub seconds: f64,
    /// Nanoseconds from the intended start to the last byte.
    pub latencies: Vec<u64>,
    pub statuses: BTreeMap<u16, u64>,
    /// The heads of answers, in the order of the messages.
    pub heads: Vec<String>,
    /// Connections that ended before their answer.
    pub broken: u64,
}

impl Outcome {
    pub fn per_second(&self) -> f64 {
        self.answered as f64 / self.seconds
    }

    /// In microseconds.
    pub fn percentile(&self, percent: usize) -> f64 {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        let at = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
        sorted.get(at).copied().unwrap_or_default() as f64 / 1000.0
    }

    pub fn all(&self, status: u16) -> bool {
        self.broken == 0 && self.statuses.keys().all(|found| *found == status)
    }
}

/// Both ends of every connection to the process under test.
pub struct Driver {
    poll: Poll,
    listener: TcpListener,
    pub address: SocketAddr,
    wires: Vec<Option<Wire>>,
    free: Vec<usize>,
    scratch: Vec<u8>,
    /// Logins that reached the app.
    pub logins: u64,
}

enum Side {
    App,
    Browser,
}

struct Wire {
    stream: TcpStream,
    side: Side,
    head: Vec<u8>,
    /// Of the message that is being read; `None` while its head is incomplete.
    body_left: Option<usize>,
    /// The app: what to answer. The browser: the status that came.
    subject: Subject,
    output: Vec<u8>,
    written: usize,
    filler: usize,
    message: usize,
    began: Instant,
}

#[derive(Debug, Clone)]
enum Subject {
    Nothing,
    Bytes(usize),
    Leave(String),
    Login,
    Status(u16),
}

/// A load under way.
struct Progress<'a> {
    load: &'a Load<'a>,
    next: usize,
    ends: Option<Instant>,
    idle: Vec<usize>,
    due: VecDeque<Instant>,
    next_arrival: Option<Instant>,
    random: u64,
    in_flight: usize,
    outcome: Outcome,
}

const LISTENER: Token = Token(usize::MAX - 1);
static FILLER: [u8; 64 * 1024] = [b'x'; 64 * 1024];
/// Nothing here takes longer; a run that does has hung.
const PATIENCE: Duration = Duration::from_secs(40);

impl Driver {
    pub fn new() -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut listener = TcpListener::bind(([127, 0, 0, 1], 0).into())?;
        let address = listener.local_addr()?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(Self {
            poll,
            listener,
            address,
            wires: Vec::new(),
            free: Vec::new(),
            scratch: vec![0; 256 * 1024],
            logins: 0,
        })
    }

    /// Answers for ever.
    pub fn serve(mut self) -> io::Result<()> {
        loop {
            self.turn(None, None)?;
        }
    }

    pub fn run(&mut self, load: &Load<'_>) -> io::Result<Outcome> {
        let started = Instant::now();
        let ends = match load.until {
            Until::Each => None,
            Until::After(time) => Some(started + time),
        };
        let mut progress = Progress {
            load,
            next: 0,
            ends,
            idle: Vec::new(),
            due: VecDeque::new(),
            next_arrival: load.rate.map(|_| started),
            random: 0x9e37_79b9_7f4a_7c15,
            in_flight: 0,
            outcome: Outcome::default(),
        };
        if load.keep_heads {
            progress.outcome.heads = vec![String::new(); load.messages.len()];
        }
        for target in load.targets.iter().cycle().take(load.connections) {
            let stream = std::net::TcpStream::connect(target)?;
            stream.set_nonblocking(true)?;
            let at = self.add(TcpStream::from_std(stream), Side::Browser)?;
            progress.idle.push(at);
        }
        let mut last = started;
        loop {
            let wait = self.send_due(&mut progress)?;
            if progress.in_flight == 0 && progress.is_over() {
                break;
            }
            self.turn(Some(&mut progress), wait)?;
            last = Instant::now();
            if last.duration_since(started) > PATIENCE {
                return Err(io::Error::other(format!("no end after {PATIENCE:?}: {:?}", progress.outcome.statuses)));
            }
        }
        progress.outcome.seconds = last.duration_since(started).as_secs_f64();
        for wire in &mut self.wires {
            if wire.as_ref().is_some_and(|wire| matches!(wire.side, Side::Browser)) {
                *wire = None;
            }
        }
        self.free = (0..self.wires.len()).filter(|at| matches!(self.wires.get(*at), Some(None))).collect();
        Ok(progress.outcome)
    }

    /// Sends what is due, and says how long nothing more will be.
    fn send_due(&mut self, progress: &mut Progress<'_>) -> io::Result<Option<Duration>> {
        let Some(rate) = progress.load.rate else {
            while !progress.is_over() {
                let Some(at) = progress.idle.pop() else { break };
                self.send(progress, at, Instant::now())?;
            }
            return Ok(None);
        };
        let now = Instant::now();
        while let Some(arrival) = progress.next_arrival.filter(|arrival| *arrival <= now) {
            progress.due.push_back(arrival);
            let next = arrival + Duration::from_secs_f64(-progress.uniform().ln() / rate);
            progress.next_arrival = Some(next).filter(|next| progress.ends.is_none_or(|ends| *next < ends));
        }
        while let (Some(due), Some(at)) = (progress.due.front().copied(), progress.idle.last().copied()) {
            progress.due.pop_front();
            progress.idle.pop();
            self.send(progress, at, due)?;
        }
        // A poll waits whole milliseconds, so between arrivals it only looks.
        Ok(progress.next_arrival.map(|_| Duration::ZERO))
    }

    fn send(&mut self, progress: &mut Progress<'_>, at: usize, began: Instant) -> io::Result<()> {
        let index = progress.next % progress.load.messages.len();
        progress.next += 1;
        progress.in_flight += 1;
        let (Some(Some(wire)), Some(message)) = (self.wires.get_mut(at), progress.load.messages.get(index)) else {
            return Ok(());
        };
        wire.message = index;
        wire.began = began;
        wire.output.clear();
        wire.output.extend_from_slice(&message.bytes);
        wire.written = 0;
        wire.filler = message.filler;
        wire.flush()
    }

    /// One look at what has happened.
    fn turn(&mut self, mut progress: Option<&mut Progress<'_>>, wait: Option<Duration>) -> io::Result<()> {
        let mut events = Events::with_capacity(256);
        match self.poll.poll(&mut events, Some(wait.unwrap_or(Duration::from_secs(1)))) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            other => other?,
        }
        for event in &events {
            if event.token() == LISTENER {
                self.accept()?;
            } else {
                self.attend(event, progress.as_deref_mut());
            }
        }
        Ok(())
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    self.add(stream, Side::App)?;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    fn add(&mut self, mut stream: TcpStream, side: Side) -> io::Result<usize> {
        stream.set_nodelay(true)?;
        let at = self.free.pop().unwrap_or_else(|| {
            self.wires.push(None);
            self.wires.len() - 1
        });
        self.poll.registry().register(&mut stream, Token(at), Interest::READABLE | Interest::WRITABLE)?;
        if let Some(place) = self.wires.get_mut(at) {
            *place = Some(Wire {
                stream,
                side,
                head: Vec::new(),
                body_left: None,
                subject: Subject::Nothing,
                output: Vec::new(),
                written: 0,
                filler: 0,
                message: 0,
                began: Instant::now(),
            });
        }
        Ok(at)
    }

    fn attend(&mut self, event: &Event, mut progress: Option<&mut Progress<'_>>) {
        let at = event.token().0;
        let Some(mut wire) = self.wires.get_mut(at).and_then(Option::take) else { return };
        let alive = self.exchange(&mut wire, at, event, progress.as_deref_mut());
        if alive {
            if let Some(place) = self.wires.get_mut(at) {
                *place = Some(wire);
            }
            return;
        }
        self.free.push(at);
        if let (Side::Browser, Some(progress)) = (&wire.side, progress) {
            progress.idle.retain(|idle| *idle != at);
            progress.outcome.broken += 1;
            progress.in_flight = progress.in_flight.saturating_sub(1);
        }
    }

    /// Reads until nothing more is there, and answers. `false`: the connection is done with.
    fn exchange(&mut self, wire: &mut Wire, at: usize, event: &Event, mut progress: Option<&mut Progress<'_>>) -> bool {
        let mut scratch = std::mem::take(&mut self.scratch);
        let mut alive = true;
        if event.is_readable() {
            loop {
                match wire.stream.read(&mut scratch) {
                    Ok(0) => alive = false,
                    Ok(length) => {
                        let bytes = scratch.get(..length).unwrap_or_default();
                        self.feed(wire, at, bytes, progress.as_deref_mut());
                        if length < scratch.len() && !event.is_read_closed() {
                            break;
                        }
                        continue;
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(_) => alive = false,
                }
                break;
            }
        }
        self.scratch = scratch;
        alive && wire.flush().is_ok()
    }

    fn feed(&mut self, wire: &mut Wire, at: usize, mut bytes: &[u8], mut progress: Option<&mut Progress<'_>>) {
        loop {
            if let Some(left) = wire.body_left {
                let taken = left.min(bytes.len());
                bytes = bytes.get(taken..).unwrap_or_default();
                wire.body_left = Some(left - taken).filter(|left| *left > 0);
                if wire.body_left.is_some() {
                    return;
                }
                self.complete(wire, at, progress.as_deref_mut());
            }
            if bytes.is_empty() {
                return;
            }
            wire.head.extend_from_slice(bytes);
            let Some(end) = memchr::memmem::find(&wire.head, b"\r\n\r\n") else { return };
            let end = end + 4;
            bytes = bytes.get(bytes.len() - (wire.head.len() - end)..).unwrap_or_default();
            wire.head.truncate(end);
            wire.read_head();
            if wire.body_left.is_none() {
                self.complete(wire, at, progress.as_deref_mut());
            }
        }
    }

    /// A whole message has arrived.
    fn complete(&mut self, wire: &mut Wire, at: usize, progress: Option<&mut Progress<'_>>) {
        match (&wire.side, progress) {
            (Side::App, _) => {
                self.logins += u64::from(matches!(wire.subject, Subject::Login));
                wire.answer();
            }
            (Side::Browser, Some(progress)) => {
                let outcome = &mut progress.outcome;
                outcome.answered += 1;
                if let Subject::Status(status) = wire.subject {
                    *outcome.statuses.entry(status).or_default() += 1;
                }
                outcome.latencies.push(u64::try_from(wire.began.elapsed().as_nanos()).unwrap_or(u64::MAX));
                if let Some(head) = outcome.heads.get_mut(wire.message) {
                    *head = String::from_utf8_lossy(&wire.head).into_owned();
                }
                progress.in_flight -= 1;
                progress.idle.push(at);
            }
            (Side::Browser, None) => {}
        }
        wire.head.clear();
    }
}

impl Progress<'_> {
    fn is_over(&self) -> bool {
        match self.ends {
            Some(ends) => Instant::now() >= ends,
            None => self.next >= self.load.messages.len(),
        }
    }

    /// In (0, 1], by xorshift.
    fn uniform(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        ((self.random >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }
}

impl Wire {
    fn read_head(&mut self) {
        let length = header(&self.head, b"content-length:").and_then(|text| text.parse().ok()).unwrap_or(0);
        self.body_left = Some(length).filter(|length| *length > 0);
        let mut words = self.head.split(|byte| matches!(byte, b' ' | b'\r'));
        let (first, second) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let second = String::from_utf8_lossy(second);
        self.subject = match (&self.side, first) {
            (Side::Browser, _) => Subject::Status(second.parse().unwrap_or(0)),
            (Side::App, b"POST") if second == "/callback" || second == "/acs" => Subject::Login,
            (Side::App, _) => {
                if let Some(count) = second.strip_prefix("/b/").and_then(|count| count.parse().ok()) {
                    Subject::Bytes(count)
                } else if let Some(address) = second.strip_prefix("/leave/") {
                    Subject::Leave(from_hexadecimal(address))
                } else {
                    Subject::Nothing
                }
            }
        };
    }

    fn answer(&mut self) {
        if self.written == self.output.len() {
            self.output.clear();
            self.written = 0;
        }
        match &self.subject {
            Subject::Bytes(count) => {
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: {count}\r\n\r\n"
                );
                self.output.extend_from_slice(head.as_bytes());
                if *count <= 4096 {
                    self.output.extend_from_slice(FILLER.get(..*count).unwrap_or_default());
                } else {
                    self.filler = *count;
                }
            }
            Subject::Leave(address) => {
                let head = format!("HTTP/1.1 302 Found\r\nLocation: {address}\r\nContent-Length: 0\r\n\r\n");
                self.output.extend_from_slice(head.as_bytes());
            }
            Subject::Login => {
                self.output.extend_from_slice(b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n");
            }
            _ => self.output.extend_from_slice(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
        }
    }

    /// Writes as much as goes.
    fn flush(&mut self) -> io::Result<()> {
        loop {
            let head = self.output.get(self.written..).unwrap_or_default();
            let result = if !head.is_empty() {
                self.stream.write(head).map(|count| self.written += count)
            } else if self.filler > 0 {
                let piece = FILLER.get(..self.filler.min(FILLER.len())).unwrap_or_default();
                self.stream.write(piece).map(|count| self.filler -= count)
            } else {
                return Ok(());
            };
            match result {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                other => other?,
            }
        }
    }
}

/// A header field's value by its lower-case name with the colon.
pub fn header<'h>(head: &'h [u8], name: &[u8]) -> Option<&'h str> {
    let line = head
        .split(|byte| *byte == b'\n')
        .find(|line| line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name)))?;
    std::str::from_utf8(line.get(name.len()..)?).ok().map(str::trim)
}

/// An address to leave for, as a path of the app.
pub fn leave_path(address: &str) -> String {
    use std::fmt::Write as _;
    address.bytes().fold(String::from("/leave/"), |mut path, byte| {
        let _ = write!(path, "{byte:02x}");
        path
    })
}

fn from_hexadecimal(text: &str) -> String {
    let digits = text.as_bytes().chunks_exact(2);
    let bytes = digits.filter_map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect();
    String::from_utf8(bytes).unwrap_or_default()
}
