//! Bytes that nobody meant, at every door that takes a stranger's: nothing may panic, take long, or pass for what it is not.
//!
//! Inputs are samples, mutated; one that comes to an outcome which no other had joins the samples, so that a run finds its way
//! inwards. Runs are seeded: the same seed gives the same inputs. The short runs here are part of the tests; `make fuzz` runs
//! each door for a minute (`FUZZ_SECONDS`) from a fresh seed (`FUZZ_SEED`), and prints figures.

mod doors;
mod mutate;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use self::doors::Door;
use self::mutate::{Mutator, Random};
use crate::kit::processor_time;

/// What one input may take, in a build that is not optimised.
const SLOW: Duration = Duration::from_secs(2);
/// Samples that are kept beside those that a door begins with.
const MOST_KEPT: usize = 500;

/// Until when a run goes on.
#[derive(Clone, Copy)]
enum Until {
    Inputs(u64),
    Time(Duration),
}

fn run(door: &Door, seed: u64, until: Until) {
    let began = Instant::now();
    let mut samples: Vec<Vec<u8>> = (door.samples)();
    let given = samples.len();
    let mut outcomes: BTreeMap<String, u64> = BTreeMap::new();
    let mut mutator = Mutator { random: Random::new(seed), words: door.words };
    let (mut inputs, mut slowest) = (0, Duration::ZERO);
    for sample in samples.clone() {
        *outcomes.entry(look(door, seed, &sample, &mut slowest)).or_default() += 1;
    }
    assert!(
        outcomes.keys().any(|outcome| outcome.starts_with("read")),
        "{}: no sample is read: {outcomes:?}",
        door.name
    );
    let goes_on = |inputs| match until {
        Until::Inputs(most) => inputs < most,
        Until::Time(time) => began.elapsed() < time,
    };
    while goes_on(inputs) {
        let input = mutator.next(&samples, given);
        let outcome = look(door, seed, &input, &mut slowest);
        inputs += 1;
        let is_new = !outcomes.contains_key(&outcome);
        *outcomes.entry(outcome).or_default() += 1;
        if is_new && samples.len() < MOST_KEPT {
            samples.push(input);
        }
    }
    let read: u64 = outcomes.iter().filter(|(outcome, _)| outcome.starts_with("read")).map(|(_, count)| count).sum();
    let per_second = inputs * 1000 / u64::try_from(began.elapsed().as_millis()).unwrap().max(1);
    println!(
        "{:<8} {inputs:>8} inputs, {per_second:>6} a second, {read:>7} of them read, {:>3} outcomes, the slowest {slowest:?} (seed {seed})",
        door.name,
        outcomes.len()
    );
}

/// Shows a door one input, and what came of it.
fn look(door: &Door, seed: u64, input: &[u8], slowest: &mut Duration) -> String {
    let before = processor_time();
    let outcome = catch_unwind(AssertUnwindSafe(|| (door.look)(input)));
    let took = processor_time().saturating_sub(before);
    *slowest = took.max(*slowest);
    let shown = || format!("{}, seed {seed}: {:?}", door.name, String::from_utf8_lossy(input));
    assert!(took < SLOW, "{took:?}: {}", shown());
    match outcome {
        Ok(outcome) => classed(&outcome),
        Err(_) => panic!("{} ({} bytes: {input:02x?})", shown(), input.len()),
    }
}

/// An outcome without what is of one input: numbers, and what stands in backticks.
fn classed(outcome: &str) -> String {
    let mut quoted = false;
    let told = outcome.chars().filter(|letter| {
        quoted ^= *letter == '`';
        !quoted && !letter.is_ascii_digit()
    });
    told.take(120).collect()
}

fn shortly(door: &Door, inputs: u64) {
    run(door, 0x6c6f_6769, Until::Inputs(inputs));
}

#[test]
fn forms() {
    shortly(&doors::FORM, 4_000);
}

#[test]
fn members() {
    shortly(&doors::MEMBERS, 2_000);
}

#[test]
fn parts() {
    shortly(&doors::PARTS, 2_000);
}

#[test]
fn tokens() {
    shortly(&doors::TOKEN, 4_000);
}

#[test]
fn texts_that_may_be_tokens() {
    shortly(&doors::READING, 4_000);
}

#[test]
fn json() {
    shortly(&doors::JSON, 4_000);
}

#[test]
fn cookies() {
    shortly(&doors::COOKIES, 4_000);
}

#[test]
fn saml_documents() {
    shortly(&doors::SAML, 1_500);
}

#[test]
fn saml_signatures() {
    shortly(&doors::SIGNED, 300);
}

#[test]
fn encrypted_assertions() {
    shortly(&doors::ENCRYPTED, 100);
}

#[test]
fn logout_requests() {
    shortly(&doors::LOGOUT, 1_500);
}

#[test]
fn metadata() {
    shortly(&doors::METADATA, 500);
}

#[test]
fn rules() {
    shortly(&doors::RULES, 150);
}

/// `make fuzz`.
#[test]
#[ignore = "minutes; `make fuzz` runs it"]
fn every_door_for_long() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seconds = number("FUZZ_SECONDS").unwrap_or(60);
    let fresh = u64::try_from(loginsync::clock::Clock::system().now().0).unwrap();
    let seed = number("FUZZ_SEED").unwrap_or(fresh);
    for door in doors::ALL {
        run(door, seed, Until::Time(Duration::from_secs(seconds)));
    }
}
