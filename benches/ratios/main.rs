//! What loginsync costs, compared with nginx, haproxy and the parts of the work, all in one interleaved run on this machine.
//!
//! Only ratios of one run mean anything: the same program differs by half from one quiet moment to the next. The process
//! under test has the first core, and the app with the browsers the second. `benches/run.sh` runs it.
//!
//! The bars of logins come from an earlier run on one machine, in which one proxied request of nginx took 13.5 µs, an ID token
//! by form post to mod_auth_openidc 400 µs and a SAML response to mod_auth_mellon 2,725 µs. Here nginx is measured again, and
//! those two are taken to be as many times dearer than it as they were then.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "its output is the table")]
#![allow(clippy::cast_precision_loss, reason = "counts of a run are far below 2^53")]

mod driver;
mod floor;
mod logins;
mod process;
mod report;

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use self::driver::{Driver, Load, Message, Outcome, Until};
use self::logins::{House, Issuer, NORMAL, Protocol, Setup};
use self::process::{Build, Cores, Target};
use self::report::{Bar, Report, Rounds};

type Failure = Box<dyn std::error::Error>;

const ROUNDS: usize = 5;
/// mod_auth_openidc's form post and mod_auth_mellon's response, in requests of nginx.
const OPENIDC: f64 = 400.0 / 13.5;
const MELLON: f64 = 2725.0 / 13.5;
const USERS: usize = 1000;
/// A file that is synced at each commit.
const FULL: &str = "path = \"store.db\"\nsynchronous = \"full\"";
const MIB: usize = 1 << 20;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.iter().any(|argument| argument == "--app") {
        return process::serve_app().map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS);
    }
    let parts: Vec<&str> = arguments.iter().skip(1).map(String::as_str).filter(|part| !part.starts_with('-')).collect();
    match run(&parts) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the figures do not count: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The parts that are named, or all: `proxy`, `logins`, `mappings`, `start`, and `before` where an earlier build is named.
fn run(parts: &[&str]) -> Result<(), Failure> {
    let wanted = |part: &str| parts.is_empty() || parts.contains(&part);
    let cores = Cores::split();
    if !cores.pinned {
        println!(
            "One core, or none to choose: the load shares it with what is measured, and requests a second mean little."
        );
    }
    let folder = tempfile::tempdir()?;
    let mut bench = Bench {
        cores,
        folder: folder.path(),
        driver: Driver::new()?,
        issuer: Issuer::new()?,
        report: Report::default(),
    };
    let mut nginx = process::nginx(cores, folder.path(), bench.driver.address)?;
    process::await_answer(&mut nginx, &mut bench.driver, Instant::now())?;
    if wanted("proxy") {
        bench.proxy(&nginx)?;
    }
    if wanted("logins") {
        bench.logins(&nginx)?;
    }
    if wanted("mappings") {
        bench.mappings()?;
    }
    if wanted("start") {
        bench.start()?;
    }
    if Build::has_before() && wanted("before") {
        bench.before()?;
    }
    bench.report.print();
    Ok(())
}

struct Bench<'a> {
    cores: Cores,
    folder: &'a Path,
    driver: Driver,
    issuer: Issuer,
    report: Report,
}

/// One run of a load, and what it took of the process under test and of ours.
struct Run {
    outcome: Outcome,
    cpu: Duration,
    own: Duration,
}

impl Run {
    /// Microseconds of processor time for each answer.
    fn cost(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.outcome.answered as f64
    }

    /// The share of its core that the process under test was busy.
    fn busy(&self) -> f64 {
        self.cpu.as_secs_f64() / self.outcome.seconds
    }

    fn driver_busy(&self) -> f64 {
        self.own.as_secs_f64() / self.outcome.seconds
    }
}

impl Bench<'_> {
    fn load(&mut self, target: &Target, load: &Load<'_>) -> Result<Run, Failure> {
        let (before, own) = (target.cpu(), process::own_cpu());
        let outcome = self.driver.run(load)?;
        Ok(Run { outcome, cpu: target.cpu().saturating_sub(before), own: process::own_cpu().saturating_sub(own) })
    }

    /// The same request over and over.
    fn same(
        &mut self,
        target: &Target,
        message: Message,
        connections: usize,
        seconds: f64,
        rate: Option<f64>,
    ) -> Result<Run, Failure> {
        let until = Until::After(Duration::from_secs_f64(seconds));
        let messages = [message];
        let run = self.load(
            target,
            &Load { targets: &[target.address], connections, messages: &messages, until, rate, keep_heads: false },
        )?;
        if run.outcome.all(200) {
            Ok(run)
        } else {
            Err(format!("not every answer was good: {:?}", run.outcome.statuses).into())
        }
    }

    fn house(&mut self, setup: Setup<'_>) -> Result<House, Failure> {
        House::open(self.cores, self.folder, &mut self.driver, &self.issuer, setup)
    }

    /// Requests that are no logins.
    fn proxy(&mut self, nginx: &Target) -> Result<(), Failure> {
        let direct = process::direct(self.cores)?;
        let house = self.house(Setup {
            name: "proxy",
            protocol: Protocol::Oidc,
            mappings: 10,
            store: NORMAL,
            replicas: 1,
            build: Build::This,
        })?;
        let mut haproxy = process::haproxy(self.cores, self.folder, self.driver.address)?;
        if let Some(haproxy) = &mut haproxy {
            process::await_answer(haproxy, &mut self.driver, Instant::now())?;
        }
        let [ours] = house.targets.as_slice() else { return Err("one sidecar was to start".into()) };
        let small = || Message::get("/b/1024");
        let mut get = Pair::default();
        let mut cost = Pair::default();
        let (mut p50, mut p99) = (Pair::default(), Pair::default());
        let (mut down, mut up) = (Pair::default(), Pair::default());
        let (mut limit, mut leg, mut busy, mut driver_busy) =
            (Rounds::default(), Rounds::default(), Rounds::default(), Rounds::default());
        for _ in 0..ROUNDS {
            let alone = self.same(&direct, small(), 64, 1.0, None)?;
            limit.add(alone.outcome.per_second());
            leg.add(alone.cost());
            let theirs = self.same(nginx, small(), 64, 2.0, None)?;
            let own = self.same(ours, small(), 64, 2.0, None)?;
            get.add(own.outcome.per_second(), theirs.outcome.per_second());
            cost.add(own.cost(), theirs.cost());
            busy.add(own.busy());
            driver_busy.add(own.driver_busy());
            let theirs = self.same(nginx, small(), 64, 2.0, Some(4000.0))?;
            let own = self.same(ours, small(), 64, 2.0, Some(4000.0))?;
            p50.add(own.outcome.percentile(50), theirs.outcome.percentile(50));
            p99.add(own.outcome.percentile(99), theirs.outcome.percentile(99));
            let (peer, path) = haproxy.as_ref().map_or((nginx, "/unbuffered"), |haproxy| (haproxy, ""));
            let own = self.same(ours, Message::get(&format!("/b/{MIB}")), 8, 1.0, None)?;
            let theirs = self.same(peer, Message::get(&format!("{path}/b/{MIB}")), 8, 1.0, None)?;
            down.add(own.cost(), theirs.cost());
            let own = self.same(ours, Message::upload("/sink", MIB), 8, 1.0, None)?;
            let theirs = self.same(peer, Message::upload(&format!("{path}/sink"), MIB), 8, 1.0, None)?;
            up.add(own.cost(), theirs.cost());
        }
        let peer = if haproxy.is_some() { "haproxy" } else { "nginx without buffers (no haproxy here)" };
        let about = format!(
            "{:.0}/s, nginx {:.0}/s; core busy {:.2}; ours {:.2}, which alone makes {:.0}/s",
            get.ours.median(),
            get.theirs.median(),
            busy.median(),
            driver_busy.median(),
            limit.median()
        );
        let report = &mut self.report;
        report.row("P1", "GET of 1 KiB, requests/s ÷ nginx", &get.ratio(), 2, Bar::AtLeast(0.85), &about);
        let about = format!(
            "{:.1} µs, nginx {:.1} µs, app alone {:.1} µs",
            cost.ours.median(),
            cost.theirs.median(),
            leg.median()
        );
        report.row("", "the same, CPU of a request ÷ nginx", &cost.ratio(), 2, Bar::None, &about);
        let about = format!("{:.0} µs, nginx {:.0} µs", p50.ours.median(), p50.theirs.median());
        report.row("P3", "p50 at 4,000/s ÷ nginx", &p50.ratio(), 2, Bar::AtMost(1.25), &about);
        let about = format!("{:.0} µs, nginx {:.0} µs", p99.ours.median(), p99.theirs.median());
        report.row("P3", "p99 at 4,000/s ÷ nginx", &p99.ratio(), 2, Bar::AtMost(2.0), &about);
        for (what, pair) in [("download", &down), ("upload", &up)] {
            let about = format!("{:.0} µs, {peer} {:.0} µs", pair.ours.median(), pair.theirs.median());
            let what = format!("{what} of 1 MiB, CPU ÷ {peer}");
            report.row("P4", &what, &pair.ratio(), 2, Bar::AtMost(1.0), &about);
        }
        Ok(())
    }

    fn logins(&mut self, nginx: &Target) -> Result<(), Failure> {
        let floor = floor::measure(self.folder, &self.issuer)?;
        let direct = process::direct(self.cores)?;
        let leg = self.same(&direct, Message::get("/b/16"), 8, 1.0, None)?.cost();
        drop(direct);
        let setup =
            |name, protocol, store| Setup { name, protocol, mappings: 1000, store, replicas: 1, build: Build::This };
        let mut houses = [
            self.house(setup("oidc", Protocol::Oidc, NORMAL))?,
            self.house(setup("oidc-full", Protocol::Oidc, FULL))?,
            self.house(setup("saml", Protocol::Saml, NORMAL))?,
        ];
        let mut unit = Rounds::default();
        let mut costs = [(); 3].map(|()| Rounds::default());
        let mut rates = [(); 3].map(|()| Rounds::default());
        for round in 0..=ROUNDS {
            let peer = self.same(nginx, Message::get("/b/1024"), 64, 0.5, None)?.cost();
            for ((house, costs), rates) in houses.iter_mut().zip(&mut costs).zip(&mut rates) {
                let messages = house.prepare(&mut self.driver, &self.issuer, 0..USERS, round, 20)?;
                let run = self.callbacks(house, &messages)?;
                // The first round are first logins, with nine memberships to write.
                if round > 0 {
                    costs.add(run.cost());
                    rates.add(run.outcome.per_second());
                }
                if round == ROUNDS {
                    self.refuses(house, &messages)?;
                }
            }
            if round > 0 {
                unit.add(peer);
            }
        }
        for house in &houses {
            house.read_back()?;
        }
        let [oidc, full, saml] = &costs;
        let [oidc_rate, full_rate, saml_rate] = &rates;
        let report = &mut self.report;
        let about =
            |costs: &Rounds, rates: &Rounds| format!("{:.0} µs, {:.0} logins/s", costs.median(), rates.median());
        let what = "OIDC form post, 20 groups, CPU ÷ nginx's GET";
        report.row("L1", what, &oidc.over(&unit), 1, Bar::AtMost(0.25 * OPENIDC), &about(oidc, oidc_rate));
        let least = 2.0 * leg + floor.rsa + floor.oidc_reading + floor.store;
        let parts = format!(
            "{least:.0} µs: twice {leg:.1} of the app alone, RSA {:.1}, decoding {:.1}, SQLite {:.1}",
            floor.rsa, floor.oidc_reading, floor.store
        );
        report.row("", "the same ÷ its floor", &oidc.divided_by(least), 2, Bar::None, &parts);
        report.row("", "the same, `synchronous = full`", &full.over(&unit), 1, Bar::None, &about(full, full_rate));
        let what = "SAML response, 20 groups, CPU ÷ nginx's GET";
        report.row("L4", what, &saml.over(&unit), 1, Bar::AtMost(0.08 * MELLON), &about(saml, saml_rate));
        if let Some(xmlsec) = floor.xmlsec {
            let about = format!("{xmlsec:.0} µs");
            report.row(
                "L4",
                "the same ÷ `xmlsec1 --verify` alone",
                &saml.divided_by(xmlsec),
                2,
                Bar::AtMost(0.55),
                &about,
            );
        }
        let least = 2.0 * leg + floor.rsa + floor.saml_reading + floor.store;
        let parts = format!("{least:.0} µs: as above, decoding, one parse and one digest {:.1}", floor.saml_reading);
        report.row("", "the same ÷ its floor without canonicalization", &saml.divided_by(least), 2, Bar::None, &parts);
        Ok(())
    }

    /// Timed callbacks, each of which must reach the app.
    fn callbacks(&mut self, house: &House, messages: &[Message]) -> Result<Run, Failure> {
        let (before, own, arrived) = (house.cpu(), process::own_cpu(), self.driver.logins);
        let outcome = house.send(&mut self.driver, messages, 8)?;
        let cpu = house.cpu().saturating_sub(before);
        if !outcome.all(302) || self.driver.logins - arrived != messages.len() as u64 {
            return Err(format!("not every login passed: {:?}", outcome.statuses).into());
        }
        Ok(Run { outcome, cpu, own: process::own_cpu().saturating_sub(own) })
    }

    /// A forged, an expired and a replayed token; what they do to the memberships shows when those are read back.
    fn refuses(&mut self, house: &mut House, passed: &[Message]) -> Result<(), Failure> {
        let mut messages = house.prepare_bad(&mut self.driver, &self.issuer)?;
        messages.extend(passed.iter().take(1).cloned());
        let arrived = self.driver.logins;
        for (message, what) in messages.into_iter().zip(["forged", "expired", "replayed"]) {
            let outcome = house.send(&mut self.driver, &[message], 8)?;
            let refused = outcome.broken == 0 && outcome.statuses.keys().all(|status| (400..500).contains(status));
            if !refused || self.driver.logins != arrived {
                return Err(format!("a {what} token was not refused: {:?}", outcome.statuses).into());
            }
        }
        Ok(())
    }

    /// Whether a login's cost follows the number of mappings.
    fn mappings(&mut self) -> Result<(), Failure> {
        const USERS: usize = 500;
        let setup = |name, mappings| Setup {
            name,
            protocol: Protocol::Oidc,
            mappings,
            store: NORMAL,
            replicas: 1,
            build: Build::This,
        };
        let mut houses =
            [self.house(setup("m10", 10))?, self.house(setup("m1000", 1000))?, self.house(setup("m100000", 100_000))?];
        let mut costs = [(); 6].map(|()| Rounds::default());
        for round in 0..=ROUNDS {
            for (at, house) in houses.iter_mut().enumerate() {
                for (many, values) in [20, 200].into_iter().enumerate() {
                    let messages = house.prepare(&mut self.driver, &self.issuer, 0..USERS, 2 * round + many, values)?;
                    let cost = self.callbacks(house, &messages)?.cost();
                    if let (true, Some(costs)) = (round > 0, costs.get_mut(2 * at + many)) {
                        costs.add(cost);
                    }
                }
            }
        }
        for house in &houses {
            house.read_back()?;
        }
        let [few10, many10, few1000, many1000, few100000, many100000] = &costs;
        let rows = [(20, few10, few1000, few100000, 1.10), (200, many10, many1000, many100000, 1.20)];
        for (values, ten, thousand, all, bar) in rows {
            let about = format!(
                "{:.0}, {:.0} and {:.0} µs at 10, 1,000 and 100,000",
                ten.median(),
                thousand.median(),
                all.median()
            );
            let what = format!("{values} values: CPU of a login at 100,000 mappings ÷ at 10");
            self.report.row("L6", &what, &all.over(ten), 2, Bar::AtMost(bar), &about);
        }
        Ok(())
    }

    /// This build and an earlier one, by turns that are short, so that both have the same moments.
    fn before(&mut self) -> Result<(), Failure> {
        const TURNS: usize = 20;
        const USERS: usize = 250;
        let kinds = [
            ("before-get", Protocol::Oidc, "GET of 1 KiB"),
            ("before-oidc", Protocol::Oidc, "OIDC form post, 20 groups"),
            ("before-saml", Protocol::Saml, "SAML response, 20 groups"),
        ];
        for (name, protocol, what) in kinds {
            let mut houses = Vec::new();
            for (build, part) in [(Build::This, "this"), (Build::Before, "that")] {
                let name = format!("{name}-{part}");
                houses.push(self.house(Setup {
                    name: &name,
                    protocol,
                    mappings: 1000,
                    store: NORMAL,
                    replicas: 1,
                    build,
                })?);
            }
            let mut costs = [Rounds::default(), Rounds::default()];
            for turn in 0..=TURNS {
                // Neither always follows the other.
                for place in [turn % 2, (turn + 1) % 2] {
                    let (Some(house), Some(costs)) = (houses.get_mut(place), costs.get_mut(place)) else { continue };
                    let cost = if name == "before-get" {
                        let [target] = house.targets.as_slice() else { return Err("one sidecar was to start".into()) };
                        self.same(target, Message::get("/b/1024"), 64, 0.5, None)?.cost()
                    } else {
                        let messages = house.prepare(&mut self.driver, &self.issuer, 0..USERS, turn, 20)?;
                        self.callbacks(house, &messages)?.cost()
                    };
                    if turn > 0 {
                        costs.add(cost);
                    }
                }
            }
            let [this, that] = &costs;
            let about = format!("{:.1} µs, before {:.1} µs", this.median(), that.median());
            let what = format!("{what}, CPU ÷ the build before");
            self.report.row("", &what, &this.over(that), 3, Bar::None, &about);
        }
        Ok(())
    }

    /// Memory before the first login, and time to the first answer.
    fn start(&mut self) -> Result<(), Failure> {
        let (mut peer, mut few, mut many) = (Rounds::default(), Rounds::default(), Rounds::default());
        let (mut small, mut large) = (Rounds::default(), Rounds::default());
        for round in 0..ROUNDS {
            let started = Instant::now();
            let mut nginx = process::nginx(self.cores, self.folder, self.driver.address)?;
            peer.add(milliseconds(process::await_answer(&mut nginx, &mut self.driver, started)?));
            drop(nginx);
            for (mappings, times, sizes) in [(10, &mut few, &mut small), (100_000, &mut many, &mut large)] {
                let name = format!("start-{mappings}");
                let setup = Setup {
                    name: &name,
                    protocol: Protocol::Oidc,
                    mappings,
                    store: NORMAL,
                    replicas: 1,
                    build: Build::This,
                };
                let (path, listen) = logins::configuration(self.folder, self.driver.address, &self.issuer, setup)?;
                if round == 0 {
                    // Makes the database, which no later start does.
                    let mut first = process::loginsync(self.cores, self.folder, &name, Build::This, &path, listen)?;
                    process::await_answer(&mut first, &mut self.driver, Instant::now())?;
                }
                let started = Instant::now();
                let mut target = process::loginsync(self.cores, self.folder, &name, Build::This, &path, listen)?;
                times.add(milliseconds(process::await_answer(&mut target, &mut self.driver, started)?));
                std::thread::sleep(Duration::from_millis(300));
                sizes.add(target.resident()?);
            }
        }
        let report = &mut self.report;
        report.row("P7", "resident when idle, 10 mappings, MiB", &small, 1, Bar::AtMost(16.0), "");
        let more = Rounds(large.0.iter().zip(&small.0).map(|(large, small)| large - small).collect());
        let about = format!("{:.1} MiB", large.median());
        report.row("P7", "how much more at 100,000, MiB", &more, 1, Bar::AtMost(24.0), &about);
        let about = format!("{:.1} ms, nginx {:.1} ms", few.median(), peer.median());
        report.row("P8", "start to first answer, 10 mappings ÷ nginx", &few.over(&peer), 2, Bar::AtMost(1.5), &about);
        report.row("P8", "start to first answer, 100,000 mappings, ms", &many, 0, Bar::AtMost(150.0), "");
        Ok(())
    }
}

/// Ours and theirs, round by round.
#[derive(Default)]
struct Pair {
    ours: Rounds,
    theirs: Rounds,
}

impl Pair {
    fn add(&mut self, ours: f64, theirs: f64) {
        self.ours.add(ours);
        self.theirs.add(theirs);
    }

    fn ratio(&self) -> Rounds {
        self.ours.over(&self.theirs)
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
