//! What became of logins within the last hour, minute by minute. It is bounded by the outcomes that there are.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use super::Count;

const MINUTES: u64 = 60;

/// Counts by outcome and detail.
type Counts = BTreeMap<(&'static str, &'static str), u64>;

/// Counts of the last sixty minutes.
#[derive(Debug)]
pub struct Hour {
    began: Instant,
    /// Minutes since it began, and what was in them; the oldest first.
    minutes: VecDeque<(u64, Counts)>,
}

impl Hour {
    pub fn new(now: Instant) -> Self {
        Self { began: now, minutes: VecDeque::new() }
    }

    fn minute(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.began).as_secs() / 60
    }

    /// Counts one login.
    pub fn note(&mut self, outcome: &'static str, detail: &'static str, now: Instant) {
        let minute = self.minute(now);
        while self.minutes.front().is_some_and(|(at, _)| at + MINUTES <= minute) {
            self.minutes.pop_front();
        }
        if self.minutes.back().is_none_or(|(at, _)| *at != minute) {
            self.minutes.push_back((minute, Counts::new()));
        }
        if let Some((_, counts)) = self.minutes.back_mut() {
            *counts.entry((outcome, detail)).or_default() += 1;
        }
    }

    /// How many logins had which outcome, the most frequent first.
    pub fn counts(&self, now: Instant) -> Vec<Count> {
        let minute = self.minute(now);
        let mut all = Counts::new();
        for (_, counts) in self.minutes.iter().filter(|(at, _)| at + MINUTES > minute) {
            for (labels, count) in counts {
                *all.entry(*labels).or_default() += count;
            }
        }
        let count = |((outcome, detail), logins): ((&str, &str), u64)| Count {
            outcome: outcome.to_owned(),
            detail: detail.to_owned(),
            logins,
        };
        let mut counts: Vec<Count> = all.into_iter().map(count).collect();
        counts.sort_by_key(|count| std::cmp::Reverse(count.logins));
        counts
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_older_than_an_hour_counts_no_more_and_takes_no_room() {
        let start = Instant::now();
        let at = |minute: u64| start + Duration::from_secs(minute * 60);
        let mut hour = Hour::new(start);
        hour.note("entered", "", at(0));
        for minute in 0..1000 {
            hour.note("refused", "verify", at(minute));
        }
        assert_eq!(hour.minutes.len(), 60);
        let counts = hour.counts(at(999));
        assert_eq!((counts.len(), counts[0].outcome.as_str(), counts[0].logins), (1, "refused", 60));
        assert_eq!(hour.counts(at(1058))[0].logins, 1);
        assert!(hour.counts(at(1059)).is_empty());
    }
}
