//! One budget for all bytes that strangers make this process hold: bodies that are read whole, heads of unusual size, pages
//! of the app that are looked into. A bound for each request is no bound for all of them.
//!
//! A quarter of the budget is for what is small, as nearly every login is, so that logins enter while large bodies fill the
//! rest. One client gets at most an eighth of either part.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::metrics::gauge::Gauge;

/// Bytes up to which a body is small. Forms with an ID token have a few thousand, SAML responses rarely more than 30,000.
pub(super) const SMALL: usize = 64 << 10;
/// The budget until a configuration sets it, in bytes.
const DEFAULT: usize = 64 << 20;

/// The budget, and what is taken of it.
#[derive(Debug)]
pub struct Budget {
    limit: AtomicUsize,
    taken: Mutex<Taken>,
    /// All that is held, in bytes.
    pub gauge: Gauge,
}

#[derive(Debug, Default)]
struct Taken {
    all: Shares,
    clients: HashMap<Client, Shares>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Shares {
    small: usize,
    large: usize,
}

/// Who makes us hold something: an IPv4 address, or the /64 network of an IPv6 address, which one client has to itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Client(u128);

impl Client {
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self(u128::from(address.to_ipv6_mapped())),
            IpAddr::V6(address) => Self(u128::from(address) & !u128::from(u64::MAX)),
        }
    }
}

/// Why nothing more may be held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    All,
    Client,
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Full::All => "the bodies that are held would be more than `limits.held_bodies`",
            Full::Client => {
                "the bodies that are held for this address would be more than an eighth of `limits.held_bodies`"
            }
        })
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self { limit: AtomicUsize::new(DEFAULT), taken: Mutex::default(), gauge: Gauge::default() }
    }
}

impl Budget {
    /// What is held already stays.
    pub fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// Whether so much is held that connections should not read ahead: a sixteenth of the limit.
    pub fn is_pressed(&self) -> bool {
        let sixteenth = self.limit.load(Ordering::Relaxed) / 16;
        usize::try_from(self.gauge.get()).is_ok_and(|held| held > sixteenth)
    }

    /// Holds nothing yet. `None` stands for many clients that cannot be told apart, which have no share of their own.
    pub fn open(self: &Arc<Self>, client: Option<Client>) -> Held {
        Held { budget: Arc::clone(self), client, small: SMALL, bytes: 0, large: false }
    }

    /// The same for what has no claim to the part for small bodies.
    pub fn open_large(self: &Arc<Self>, client: Option<Client>) -> Held {
        let mut held = self.open(client);
        held.small = 0;
        held
    }

    /// Replaces what one request holds: `before` by `after`, each as bytes and whether they are large.
    fn exchange(&self, client: Option<Client>, before: (usize, bool), after: (usize, bool)) -> Result<(), Full> {
        let limit = self.limit.load(Ordering::Relaxed);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let share = client.and_then(|client| taken.clients.get(&client)).copied().unwrap_or_default();
        let all = taken.all.without(before).with(after);
        let share = share.without(before).with(after);
        // Giving back is always possible, also under a limit that was lowered meanwhile.
        if after.0 > before.0 {
            if !all.fit(limit, after.1) {
                return Err(Full::All);
            }
            if client.is_some() && !share.fit(limit / 8, after.1) {
                return Err(Full::Client);
            }
        }
        taken.all = all;
        self.gauge.set(i64::try_from(all.small + all.large).unwrap_or(i64::MAX));
        if let Some(client) = client {
            if share == Shares::default() {
                taken.clients.remove(&client);
            } else {
                taken.clients.insert(client, share);
            }
        }
        Ok(())
    }
}

impl Shares {
    fn with(self, (bytes, large): (usize, bool)) -> Self {
        match large {
            true => Self { large: self.large.saturating_add(bytes), ..self },
            false => Self { small: self.small.saturating_add(bytes), ..self },
        }
    }

    fn without(self, (bytes, large): (usize, bool)) -> Self {
        match large {
            true => Self { large: self.large.saturating_sub(bytes), ..self },
            false => Self { small: self.small.saturating_sub(bytes), ..self },
        }
    }

    /// Whether one part is within its share of a limit.
    fn fit(self, limit: usize, large: bool) -> bool {
        let small = limit / 4;
        if large { self.large <= limit - small } else { self.small <= small }
    }
}

/// What one request holds. Given back when it is dropped.
#[derive(Debug)]
pub struct Held {
    budget: Arc<Budget>,
    client: Option<Client>,
    /// Bytes up to which it is small.
    small: usize,
    bytes: usize,
    pub(super) large: bool,
}

impl Held {
    /// Takes further bytes.
    ///
    /// # Errors
    /// When the budget, or this client's share of it, is used up. Then nothing was taken.
    pub fn grow(&mut self, bytes: usize) -> Result<(), Full> {
        let wanted = self.bytes.saturating_add(bytes);
        let before = (self.bytes, self.large);
        let mut after = (wanted, wanted > self.small);
        let mut taken = self.budget.exchange(self.client, before, after);
        if taken.is_err() && !after.1 {
            // What the part for the small has no place for may have one in the other.
            after.1 = true;
            taken = self.budget.exchange(self.client, before, after);
        }
        taken?;
        (self.bytes, self.large) = after;
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Locks: `exchange` holds the lock within itself, and drops no `Held` there.
        if self.bytes == 0 {
            return;
        }
        let _ = self.budget.exchange(self.client, (self.bytes, self.large), (0, self.large));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By which requests in these tests grow.
    const PIECE: usize = 8 << 10;

    fn client(last: u8) -> Option<Client> {
        Some(Client::of(IpAddr::from([192, 0, 2, last])))
    }

    #[test]
    fn one_client_gets_an_eighth_and_what_is_small_has_a_part_of_its_own() {
        let budget = Arc::new(Budget::default());
        budget.set_limit(32 << 20);
        let fill = |last: u8, bytes: usize| {
            let mut all = Vec::new();
            let why = loop {
                let mut held = budget.open(client(last));
                match held.grow(bytes) {
                    Ok(()) => all.push(held),
                    Err(why) => break why,
                }
            };
            (all, why)
        };
        let (large, why) = fill(1, 1 << 20);
        assert_eq!((large.len(), why), (3, Full::Client), "three quarters of an eighth");
        let (small, why) = fill(1, SMALL);
        assert_eq!((small.len(), why), (16, Full::Client), "the other quarter");
        let others: Vec<_> = (2..=8).map(|last| fill(last, 1 << 20).0).collect();
        assert_eq!(others.iter().map(Vec::len).sum::<usize>(), 21);
        assert_eq!(fill(9, 1 << 20).1, Full::All);
        assert_eq!(fill(9, SMALL).0.len(), 16, "a small one has a place still");
        drop((large, small, others));
        assert_eq!(budget.gauge.get(), 0);
        assert!(budget.taken.lock().unwrap().clients.is_empty());
    }

    #[test]
    fn a_body_that_grows_moves_to_the_other_part_and_gives_all_back() {
        let budget = Arc::new(Budget::default());
        let mut held = budget.open(client(1));
        for _ in 0..16 {
            held.grow(PIECE).unwrap();
        }
        assert_eq!(budget.taken.lock().unwrap().all, Shares { small: 0, large: 128 << 10 });
        budget.set_limit(1024);
        assert_eq!(held.grow(1), Err(Full::All));
        drop(held);
        assert_eq!(budget.taken.lock().unwrap().all, Shares::default());
        let network = |text: &str| Client::of(text.parse().unwrap());
        assert_eq!(network("2001:db8::1"), network("2001:db8::ffff:2"));
        assert_ne!(network("2001:db8::1"), network("2001:db8:0:1::1"));
        assert_eq!(network("::ffff:192.0.2.1"), network("192.0.2.1"));
    }
}
