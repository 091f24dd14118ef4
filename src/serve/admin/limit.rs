//! How often a client may call: buckets that fill with time. What strangers can make grow is bounded.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

use crate::pipeline::ids::Timestamp;

/// Callers that are remembered at once. Past it, the one that was seen longest ago is forgotten.
const MOST: usize = 10_000;

/// A limit of so many calls within a minute, for each key.
#[derive(Debug)]
pub struct Limit<K> {
    buckets: Mutex<HashMap<K, Bucket>>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    /// In thousandths of a call.
    left: i64,
    seen: Timestamp,
}

/// What is left of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    pub calls: u32,
    /// Seconds until a call is possible, where none is left; else until all are.
    pub seconds: u32,
    pub limit: u32,
}

const MINUTE: i64 = 60_000;
/// One call in a bucket.
const CALL: i64 = 1000;

impl<K> Default for Limit<K> {
    fn default() -> Self {
        Self { buckets: Mutex::new(HashMap::new()) }
    }
}

impl<K: Eq + Hash + Clone> Limit<K> {
    /// Takes one call. `Err` when none is left.
    pub fn take(&self, key: &K, limit: u32, now: Timestamp) -> Result<Left, Left> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= MOST && !buckets.contains_key(key) {
            forget_one(&mut buckets);
        }
        let bucket = buckets.entry(key.clone()).or_insert(Bucket { left: i64::from(limit) * CALL, seen: now });
        let left = bucket.filled(limit, now);
        let enough = left >= CALL;
        *bucket = Bucket { left: if enough { left - CALL } else { left }, seen: now };
        outcome(bucket.left, limit, enough)
    }

    /// What is left, without taking.
    pub fn look(&self, key: &K, limit: u32, now: Timestamp) -> Result<Left, Left> {
        let buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let full = i64::from(limit) * CALL;
        let left = buckets.get(key).map_or(full, |bucket| bucket.filled(limit, now));
        outcome(left, limit, left >= CALL)
    }
}

impl Bucket {
    fn filled(self, limit: u32, now: Timestamp) -> i64 {
        let full = i64::from(limit) * CALL;
        let passed = now.0.saturating_sub(self.seen.0).clamp(0, MINUTE);
        self.left.saturating_add(passed.saturating_mul(full) / MINUTE).min(full)
    }
}

fn outcome(left: i64, limit: u32, enough: bool) -> Result<Left, Left> {
    let full = i64::from(limit) * CALL;
    let missing = if enough { full - left } else { CALL - left };
    let milliseconds = missing.max(0).saturating_mul(MINUTE).div_euclid(full.max(1));
    let seconds = milliseconds.saturating_add(999).div_euclid(1000);
    let left = Left {
        calls: u32::try_from(left / CALL).unwrap_or_default(),
        seconds: u32::try_from(seconds).unwrap_or(60),
        limit,
    };
    if enough { Ok(left) } else { Err(left) }
}

fn forget_one<K: Eq + Hash + Clone>(buckets: &mut HashMap<K, Bucket>) {
    let oldest = buckets.iter().min_by_key(|(_, bucket)| bucket.seen).map(|(key, _)| key.clone());
    if let Some(oldest) = oldest {
        buckets.remove(&oldest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_empties_and_fills_with_time() {
        let limit = Limit::default();
        let at = |seconds: i64| Timestamp::from_seconds(1_000 + seconds);
        for _ in 0..60 {
            assert!(limit.take(&"a", 60, at(0)).is_ok());
        }
        assert_eq!(limit.take(&"a", 60, at(0)), Err(Left { calls: 0, seconds: 1, limit: 60 }));
        assert!(limit.take(&"b", 60, at(0)).is_ok(), "another's bucket is another");
        assert!(limit.look(&"a", 60, at(1)).is_ok());
        assert!(limit.take(&"a", 60, at(1)).is_ok());
        assert!(limit.take(&"a", 60, at(1)).is_err());
    }

    #[test]
    fn strangers_cannot_make_it_grow() {
        let limit = Limit::default();
        for stranger in 0..MOST + 100 {
            let _ = limit.take(&stranger, 60, Timestamp(i64::try_from(stranger).unwrap()));
        }
        assert_eq!(limit.buckets.lock().unwrap().len(), MOST);
    }
}
