//! Addresses to go on to that are too long for a cookie, kept in this process while a browser is away at its provider.
//!
//! What a browser has in hand is a ticket, which cannot be guessed and which leads to an address of the app alone. The memory
//! outlives a reload of the configuration, not a restart, and another replica does not have it: a browser whose address is not
//! found is told so.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::pipeline::ids::Timestamp;
use crate::serve::cookies::{LIFETIME, random_text};
use crate::serve::held::{Budget, Client, Held};

/// Bytes of an address that travels in a cookie.
pub const SHORT: usize = 1500;
/// Bytes of all addresses that are kept. One client gets an eighth.
const MOST: usize = 4 << 20;
/// What an entry takes besides its address.
const ENTRY: usize = 256;

/// The addresses that are kept, by ticket.
#[derive(Debug)]
pub struct Goals {
    budget: Arc<Budget>,
    kept: Mutex<HashMap<String, Kept>>,
}

#[derive(Debug)]
struct Kept {
    address: String,
    until: Timestamp,
    _held: Held,
}

impl Default for Goals {
    fn default() -> Self {
        let budget = Budget::default();
        budget.set_limit(MOST);
        Self { budget: Arc::new(budget), kept: Mutex::default() }
    }
}

impl Goals {
    /// Keeps an address for as long as a login may take, and gives a ticket for it. `None` where nothing more may be kept.
    pub fn keep(&self, address: String, client: Option<Client>, now: Timestamp) -> Option<String> {
        let ticket = random_text()?;
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|_, kept| now < kept.until);
        let mut held = self.budget.open_large(client);
        held.grow(address.len() + ENTRY).ok()?;
        kept.insert(ticket.clone(), Kept { address, until: now.plus(LIFETIME), _held: held });
        Some(ticket)
    }

    pub fn find(&self, ticket: &str, now: Timestamp) -> Option<String> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(ticket).filter(|kept| now < kept.until).map(|kept| kept.address.clone())
    }

    pub fn forget(&self, ticket: &str) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).remove(ticket);
    }
}

/// Where a browser goes on to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Goal {
    Place(String),
    /// Kept here, under this ticket.
    Kept(String),
    /// It was asked for and is not known any more, or never was.
    Lost,
}

/// Before a ticket, where an address begins with its scheme.
const TICKET: char = '!';

impl Goal {
    /// As it travels in a cookie.
    pub fn written(&self) -> String {
        match self {
            Self::Place(address) => address.clone(),
            Self::Kept(ticket) => format!("{TICKET}{ticket}"),
            Self::Lost => TICKET.to_string(),
        }
    }

    pub fn read(text: &str) -> Self {
        match text.strip_prefix(TICKET) {
            None => Self::Place(text.to_owned()),
            Some("") => Self::Lost,
            Some(ticket) => Self::Kept(ticket.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    fn client(last: u8) -> Option<Client> {
        Some(Client::of(IpAddr::from([192, 0, 2, last])))
    }

    #[test]
    fn one_client_and_all_together_are_bounded_and_time_gives_back() {
        let goals = Goals::default();
        let keep = |last: u8, now: Timestamp| goals.keep("x".repeat(8192), client(last), now);
        let first = keep(1, NOW).unwrap();
        assert_eq!(goals.find(&first, NOW).map(|address| address.len()), Some(8192));
        let more = (0..1000).take_while(|_| keep(1, NOW).is_some()).count();
        assert!((20..70).contains(&more), "{more}");
        assert!(keep(2, NOW).is_some(), "another client has its own share");
        for last in 3..=100 {
            while keep(last, NOW).is_some() {}
        }
        assert!(keep(101, NOW).is_none());
        let all: usize = goals.kept.lock().unwrap().values().map(|kept| kept.address.len()).sum();
        assert!(all <= MOST, "{all}");
        assert!(keep(101, NOW.plus(LIFETIME)).is_some(), "what is too old makes room");
        assert_eq!(goals.find(&first, NOW.plus(LIFETIME)), None);
        let last = keep(1, NOW.plus(LIFETIME)).unwrap();
        goals.forget(&last);
        assert_eq!(goals.find(&last, NOW.plus(LIFETIME)), None);
    }

    #[test]
    fn every_goal_comes_back_as_it_was() {
        for goal in [Goal::Place("https://app.example/!x".into()), Goal::Kept("ticket".into()), Goal::Lost] {
            assert_eq!(Goal::read(&goal.written()), goal);
        }
    }
}
