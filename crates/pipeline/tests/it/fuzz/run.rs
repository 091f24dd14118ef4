//! A door is shown samples, mutated. One that comes to an outcome which no other had joins the samples, so that a run finds its way
//! inwards. Without coverage, and always the same inputs: `make fuzz` is guided by coverage.

#[path = "mutate.rs"]
mod mutate;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use self::mutate::{Mutator, Random};
use super::door::Door;
use crate::kit::processor_time;

/// What one input may take, in a build that is not optimised.
const SLOW: Duration = Duration::from_secs(2);
/// Samples that are kept beside those that a door begins with.
const MOST_KEPT: usize = 500;

/// Always the same inputs.
const SEED: u64 = 0x6c6f_6769;

/// Shows a door so many inputs.
pub fn shortly(door: &Door, most: u64) {
    let began = Instant::now();
    let mut samples: Vec<Vec<u8>> = (door.samples)();
    let given = samples.len();
    let mut outcomes: BTreeMap<String, u64> = BTreeMap::new();
    let mut mutator = Mutator { random: Random::new(SEED), words: door.words };
    let (mut inputs, mut slowest) = (0, Duration::ZERO);
    for sample in samples.clone() {
        *outcomes.entry(look(door, &sample, &mut slowest)).or_default() += 1;
    }
    assert!(
        outcomes.keys().any(|outcome| outcome.starts_with("read")),
        "{}: no sample is read: {outcomes:?}",
        door.name
    );
    while inputs < most {
        let input = mutator.next(&samples, given);
        let outcome = look(door, &input, &mut slowest);
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
        "{:<8} {inputs:>8} inputs, {per_second:>6} a second, {read:>7} of them read, {:>3} outcomes, the slowest {slowest:?}",
        door.name,
        outcomes.len()
    );
}

/// Shows a door one input, and what came of it.
fn look(door: &Door, input: &[u8], slowest: &mut Duration) -> String {
    let before = processor_time();
    let outcome = catch_unwind(AssertUnwindSafe(|| (door.look)(input)));
    let took = processor_time().saturating_sub(before);
    *slowest = took.max(*slowest);
    let shown = || format!("{}: {:?}", door.name, String::from_utf8_lossy(input));
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
