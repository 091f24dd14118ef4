//! What a login costs when many people have logged in before, over SQLite and over PostgreSQL, near and far: the tables of
//! `docs/scale.md`.
//!
//! Sidecars, server and browsers share the cores of this machine, so that logins a second say little; processor time of each, bytes
//! written and sizes say more. `make scale` runs it, `ARGS="1000 100000"` with these numbers of users.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "its output is the tables")]
#![allow(clippy::cast_precision_loss, reason = "counts of a run are far below 2^53")]

mod delay;
#[allow(dead_code, reason = "the ratios use more of it")]
#[path = "../ratios/driver.rs"]
mod driver;
#[allow(dead_code, reason = "the ratios use more of it")]
#[path = "../ratios/logins.rs"]
mod logins;
mod place;
#[allow(dead_code, reason = "the ratios use more of it")]
#[path = "../ratios/process.rs"]
mod process;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use self::driver::{Driver, Message};
use self::logins::{House, Issuer, Protocol, Setup};
use self::place::Place;
use self::process::{Build, Cores};

type Failure = Box<dyn std::error::Error>;

/// Users who log in, of whom all others are copies. A copy matches the mappings that its template matched.
pub const TEMPLATES: usize = 100;
const MAPPINGS: usize = 1000;
/// Logins of a run at full speed, and of a run that waits for each answer.
const MANY: usize = 1000;
const FEW: usize = 200;
const CONNECTIONS: usize = 16;
/// Round trips between a sidecar and the server.
const NETWORKS: [Duration; 3] = [Duration::ZERO, Duration::from_micros(500), Duration::from_millis(2)];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let result = match arguments.first().map(String::as_str) {
        Some("--delay") => delayed(&arguments),
        _ => run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the figures do not count: {error}");
            ExitCode::FAILURE
        }
    }
}

fn delayed(arguments: &[String]) -> Result<(), Failure> {
    let [_, from, to, microseconds] = arguments else { return Err("--delay FROM TO MICROSECONDS".into()) };
    delay::serve(Path::new(from), Path::new(to), Duration::from_micros(microseconds.parse()?))?;
    Ok(())
}

fn run(arguments: &[String]) -> Result<(), Failure> {
    let sizes: Vec<usize> = arguments.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
    let sizes = if sizes.is_empty() { vec![1000, 100_000, 1_000_000] } else { sizes };
    if sizes.iter().any(|size| *size < MANY || size % TEMPLATES != 0) {
        return Err(format!("numbers of users are hundreds, from {MANY}").into());
    }
    let mut tables = Tables::default();
    for users in sizes {
        for place in [Place::File, Place::server()?] {
            let folder = tempfile::tempdir()?;
            let mut scale = Scale {
                users,
                place,
                folder: folder.path(),
                driver: Driver::new()?,
                issuer: Issuer::new()?,
                round: 0,
                serial: 0,
                tables: &mut tables,
            };
            if let Err(error) = scale.measure() {
                // What was measured before took an hour, and counts.
                tables.print();
                return Err(error);
            }
        }
    }
    tables.print();
    Ok(())
}

#[derive(Default)]
struct Tables {
    logins: String,
    sizes: String,
    vacuum: String,
}

impl Tables {
    fn print(&self) {
        println!(
            "\n| users | store | sidecars | network, ms | login | logins/s | p50, ms | p99, ms | sidecar, µs | server, µs | WAL, bytes | page images |"
        );
        println!("|---|---|---|---|---|---|---|---|---|---|---|---|\n{}", self.logins);
        println!("| users | store | table | MB | indexes, MB |\n|---|---|---|---|---|\n{}", self.sizes);
        println!(
            "| users | table | updates | in place | dead rows | vacuum, s |\n|---|---|---|---|---|---|\n{}",
            self.vacuum
        );
    }
}

/// What people bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// One membership is granted, and one revoked.
    Changes,
    /// What they brought the last time.
    Same,
    /// The same with 200 groups, of which no mapping knows the others.
    SameOfMany,
}

struct Scale<'a> {
    users: usize,
    place: Place,
    folder: &'a Path,
    driver: Driver,
    issuer: Issuer,
    /// Which group of ten people have left out at their last login.
    round: usize,
    /// Of the last login over this store.
    serial: usize,
    tables: &'a mut Tables,
}

impl Scale<'_> {
    fn measure(&mut self) -> Result<(), Failure> {
        self.populate()?;
        let is_server = matches!(self.place, Place::Server(_));
        for (network, replicas) in [(0, 1), (1, 1), (2, 1), (0, 3)] {
            if !is_server && (network, replicas) != (0, 1) {
                continue;
            }
            let round_trip = NETWORKS.get(network).copied().unwrap_or_default();
            self.logins(round_trip, replicas)?;
        }
        let row = self.place.audit_row()?;
        if row > 0.0 {
            println!("{} users: {row:.0} bytes for an audit row with its person and its seal", self.users);
        }
        self.tables.sizes += &self.place.sizes(&self.own(), self.users)?;
        self.tables.vacuum += &self.place.vacuum(self.users)?;
        Ok(())
    }

    /// The folder of the configuration.
    fn own(&self) -> PathBuf {
        self.folder.join("scale")
    }

    fn house(&mut self, store: &str, replicas: usize) -> Result<House, Failure> {
        let folder = self.own();
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("store.key"), "c2NhbGUtc2NhbGUtc2NhbGUtc2NhbGUtc2NhbGUtc2M=\n")?;
        let setup =
            Setup { name: "scale", protocol: Protocol::Oidc, mappings: MAPPINGS, store, replicas, build: Build::This };
        let mut house = House::open(Cores { pinned: false }, self.folder, &mut self.driver, &self.issuer, setup)?;
        house.serial = self.serial;
        Ok(house)
    }

    fn populate(&mut self) -> Result<(), Failure> {
        let lines = self.place.lines(None);
        let mut house = self.house(&lines, 1)?;
        let messages = house.prepare(&mut self.driver, &self.issuer, 0..TEMPLATES, 0, 20)?;
        self.serial = house.serial;
        self.pass(&house, &messages, 8)?;
        drop(house);
        let took = self.place.populate(&self.own(), self.users)?;
        let checked = Command::new(env!("CARGO_BIN_EXE_loginsync"))
            .args(["db", "check", "--config"])
            .arg(self.own().join("loginsync.toml"))
            .output()?;
        if !checked.status.success() {
            let said =
                String::from_utf8_lossy(&checked.stdout).into_owned() + &String::from_utf8_lossy(&checked.stderr);
            return Err(format!("the copies are not what a sidecar would have written: {said}").into());
        }
        eprintln!(
            "{} users over {}: copied in {:.0} s, and checked",
            self.users,
            self.place.name(),
            took.as_secs_f64()
        );
        Ok(())
    }

    /// Logins through so many sidecars, each of which reaches the server through a network of its own.
    fn logins(&mut self, round_trip: Duration, replicas: usize) -> Result<(), Failure> {
        let network = if round_trip.is_zero() { None } else { self.place.network(round_trip)? };
        let lines = self.place.lines(network.as_ref());
        let mut house = self.house(&lines, replicas)?;
        let sample: Vec<usize> =
            (0..MANY).map(|at| at * (self.users / MANY) + at % TEMPLATES.min(self.users / MANY)).collect();
        // What is read and prepared at first is not what a login costs.
        self.one(&mut house, &sample, Kind::Changes, CONNECTIONS)?;
        for kind in [Kind::Changes, Kind::Same, Kind::SameOfMany] {
            let waiting = self.one(&mut house, sample.get(..FEW).unwrap_or_default(), kind, 1)?;
            let busy = self.one(&mut house, &sample, kind, CONNECTIONS)?;
            let name = match kind {
                Kind::Changes => "20 groups, one granted, one revoked",
                Kind::Same => "20 groups, nothing changes",
                Kind::SameOfMany => "200 groups, nothing changes",
            };
            let _ = writeln!(
                self.tables.logins,
                "| {} | {} | {replicas} | {:.1} | {name} | {:.0} | {:.2} | {:.2} | {:.0} | {:.0} | {:.0} | {:.2} |",
                self.users,
                self.place.name(),
                round_trip.as_secs_f64() * 1e3,
                busy.rate,
                waiting.p50,
                waiting.p99,
                busy.sidecar,
                busy.server,
                busy.written,
                busy.images,
            );
        }
        Ok(())
    }

    fn one(&mut self, house: &mut House, users: &[usize], kind: Kind, connections: usize) -> Result<Figures, Failure> {
        if kind == Kind::Changes {
            self.round += 1;
        }
        let values = if kind == Kind::SameOfMany { 200 } else { 20 };
        let messages = house.prepare(&mut self.driver, &self.issuer, users.iter().copied(), self.round, values)?;
        self.serial = house.serial;
        let before = (self.place.written()?, house.cpu(), self.place.cpu());
        let outcome = self.pass(house, &messages, connections)?;
        // It waits for a second, in which the audit of these logins is sealed.
        let written = self.place.written()?;
        let (sidecar, server) = (house.cpu().saturating_sub(before.1), self.place.cpu().saturating_sub(before.2));
        let each = |total: f64| total / messages.len() as f64;
        Ok(Figures {
            rate: outcome.per_second(),
            p50: outcome.percentile(50) / 1000.0,
            p99: outcome.percentile(99) / 1000.0,
            sidecar: each(sidecar.as_secs_f64() * 1e6),
            server: each(server.as_secs_f64() * 1e6),
            written: each(written.bytes - before.0.bytes),
            images: each(written.images - before.0.images),
        })
    }

    /// Sends callbacks, each of which must reach the app.
    fn pass(&mut self, house: &House, messages: &[Message], connections: usize) -> Result<driver::Outcome, Failure> {
        let arrived = self.driver.logins;
        let outcome = house.send(&mut self.driver, messages, connections)?;
        if !outcome.all(302) || self.driver.logins - arrived != messages.len() as u64 {
            return Err(format!("not every login passed: {:?}", outcome.statuses).into());
        }
        Ok(outcome)
    }
}

struct Figures {
    rate: f64,
    p50: f64,
    p99: f64,
    sidecar: f64,
    server: f64,
    written: f64,
    images: f64,
}
