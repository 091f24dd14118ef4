//! How a receiver is doing, and what an operator has said about it. Both are kept, so that a restart and another sidecar know.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Fault, FaultKind};
use crate::pipeline::ids::Timestamp;

/// Failures in a row after which a receiver is asked by one delivery at a time.
const OPENS_AFTER: u32 = 5;
/// How often that is.
const PROBE: Duration = Duration::from_secs(60);
/// After how long of nothing but failures a receiver is disabled: the sum of the schedule below.
const GIVES_UP: Duration = Duration::from_secs(75 * 3600 + 35 * 60 + 5);
/// How long a delivery waits after each failure (Standard Webhooks 1.0.0, "Deliverability and reliability"). Behind the last it is stuck
/// until the user changes.
const SCHEDULE: [Duration; 9] = [
    Duration::from_secs(5),
    Duration::from_secs(5 * 60),
    Duration::from_secs(30 * 60),
    Duration::from_secs(2 * 3600),
    Duration::from_secs(5 * 3600),
    Duration::from_secs(10 * 3600),
    Duration::from_secs(14 * 3600),
    Duration::from_secs(20 * 3600),
    Duration::from_secs(24 * 3600),
];

/// The failures of the last of them.
pub const LAST: u32 = 8;

/// How a receiver is doing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Health {
    /// Failures since the last delivery that was taken.
    pub failures: u32,
    /// Since when nothing but failures.
    #[serde(default)]
    pub since: Option<i64>,
    /// It is left alone until this moment.
    #[serde(default)]
    pub until: Option<i64>,
    /// The last failure.
    #[serde(default)]
    pub fault: Option<String>,
    /// Nothing is delivered any more, since this moment.
    #[serde(default)]
    pub disabled_at: Option<i64>,
    /// The last delivery that was taken.
    #[serde(default)]
    pub taken_at: Option<i64>,
}

/// What an operator has said.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Control {
    /// Nothing is delivered.
    pub paused: bool,
    /// When this was said: what was disabled before goes on by a later word.
    pub at: i64,
    pub by: String,
}

/// What is to be done next about a receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// All due deliveries.
    All,
    /// One delivery, whatever it waits for.
    Probe,
    Nothing,
}

impl Health {
    pub fn note_of(receiver: &str) -> String {
        format!("health:{receiver}")
    }

    pub fn read(kept: Option<&[u8]>) -> Self {
        kept.and_then(|kept| serde_json::from_slice(kept).ok()).unwrap_or_default()
    }

    pub fn text(&self) -> Vec<u8> {
        // Numbers and texts always have a JSON text.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Whether deliveries fail one after another, so that nothing waits for this receiver.
    pub fn is_failing(&self) -> bool {
        self.failures >= OPENS_AFTER || self.disabled_at.is_some()
    }

    pub fn turn(&self, now: Timestamp) -> Turn {
        match (self.disabled_at, self.until) {
            (Some(_), _) => Turn::Nothing,
            (None, Some(until)) if until > now.0 => Turn::Nothing,
            _ if self.is_failing() => Turn::Probe,
            _ => Turn::All,
        }
    }

    /// Takes over a word of an operator. Returns whether that changes anything.
    pub fn hear(&mut self, control: &Control) -> bool {
        let goes_on = self.disabled_at.is_some_and(|at| !control.paused && control.at >= at);
        if goes_on {
            *self = Self { taken_at: self.taken_at, ..Self::default() };
        }
        goes_on
    }

    /// A delivery was taken. Returns whether the receiver was failing before.
    pub fn taken(&mut self, now: Timestamp) -> bool {
        let was = self.is_failing();
        *self = Self { taken_at: Some(now.0), ..Self::default() };
        was
    }

    /// A delivery was not taken.
    pub fn failed(&mut self, fault: &Fault, now: Timestamp) {
        self.fault = Some(fault.why.clone());
        let asked = match fault.kind {
            // It answers, and may take others.
            FaultKind::Refused => return,
            FaultKind::Gone => {
                self.disabled_at = Some(now.0);
                None
            }
            // Each further delivery would be refused as well.
            FaultKind::Barred => {
                self.failures = self.failures.max(OPENS_AFTER - 1);
                None
            }
            FaultKind::Away(asked) => asked,
        };
        self.failures = self.failures.saturating_add(1);
        let since = *self.since.get_or_insert(now.0);
        if now.minus(GIVES_UP).0 > since {
            self.disabled_at = Some(now.0);
        }
        let probe = self.is_failing().then_some(PROBE);
        self.until = asked.into_iter().chain(probe).max().map(|pause| now.plus(pause).0);
    }
}

impl Control {
    pub fn note_of(receiver: &str) -> String {
        format!("control:{receiver}")
    }

    pub fn read(kept: Option<&[u8]>) -> Self {
        kept.and_then(|kept| serde_json::from_slice(kept).ok()).unwrap_or_default()
    }

    pub fn text(&self) -> Vec<u8> {
        // A flag, a number and a name always have a JSON text.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// When a delivery is tried again that has failed so often before; `None`: not before the user changes. `spread`: a number by which
/// those that failed together come back apart.
pub fn again(failures: u32, spread: u64, now: Timestamp) -> Option<Timestamp> {
    let wait = SCHEDULE.get(usize::try_from(failures).ok()?)?;
    // A fifth more or less.
    let percent = 80 + u32::try_from(spread.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 41).unwrap_or(0);
    Some(now.plus(*wait * percent / 100))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp(1_700_000_000_000).plus(Duration::from_secs(seconds))
    }

    fn away(asked: Option<u64>) -> Fault {
        Fault { why: "away".into(), kind: FaultKind::Away(asked.map(Duration::from_secs)) }
    }

    #[test]
    fn a_receiver_that_fails_is_asked_once_a_minute_and_disabled_in_the_end() {
        let mut health = Health::default();
        for second in 0..4 {
            health.failed(&away(None), at(second));
            assert_eq!(health.turn(at(second)), Turn::All);
        }
        health.failed(&away(None), at(4));
        assert!(health.is_failing());
        assert_eq!((health.turn(at(5)), health.turn(at(64))), (Turn::Nothing, Turn::Probe));
        assert!(health.clone().taken(at(64)), "it was failing");
        health.failed(&away(None), at(75 * 3600));
        assert_eq!(health.disabled_at, None);
        health.failed(&away(None), at(76 * 3600));
        assert_eq!(health.turn(at(99 * 3600)), Turn::Nothing);
        // An older word does not count, nor does a pause.
        let word = |paused, second| Control { paused, at: at(second).0, by: "root".into() };
        assert!(!health.hear(&word(false, 5)) && !health.hear(&word(true, 80 * 3600)));
        assert!(health.hear(&word(false, 80 * 3600)));
        assert_eq!(health.turn(at(80 * 3600)), Turn::All);
    }

    #[test]
    fn what_it_asks_for_is_kept_and_a_refusal_is_of_one_delivery() {
        let mut health = Health::default();
        health.failed(&away(Some(7)), at(0));
        assert_eq!((health.turn(at(6)), health.turn(at(7))), (Turn::Nothing, Turn::All));
        let mut health = Health::default();
        (0..9).for_each(|_| health.failed(&Fault { why: "no".into(), kind: FaultKind::Refused }, at(0)));
        assert_eq!((health.turn(at(0)), health.fault.as_deref()), (Turn::All, Some("no")));
        let mut barred = Health::default();
        barred.failed(&Fault { why: "who?".into(), kind: FaultKind::Barred }, at(0));
        assert_eq!((barred.turn(at(59)), barred.turn(at(60))), (Turn::Nothing, Turn::Probe));
        health.failed(&Fault { why: "gone".into(), kind: FaultKind::Gone }, at(0));
        assert_eq!(health.turn(at(999)), Turn::Nothing);
    }

    #[test]
    fn a_delivery_waits_longer_each_time_and_not_as_long_as_its_neighbour() {
        let wait = |failures, spread| again(failures, spread, at(0)).map(|next| (next.0 - at(0).0) / 1000);
        let waits: Vec<_> = (0..10).map(|failures| wait(failures, 7)).collect();
        assert!(waits.windows(2).all(|two| two[1].is_none() || two[0] < two[1]), "{waits:?}");
        assert_eq!(waits[9], None);
        let spread: std::collections::BTreeSet<_> = (0..20).map(|spread| wait(3, spread)).collect();
        assert!(spread.len() > 5, "{spread:?}");
        assert!(spread.iter().all(|wait| (5760..=8640).contains(&wait.unwrap())), "{spread:?}");
    }
}
