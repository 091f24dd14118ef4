//! Names of headers that were dropped: counted each time, logged once each.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use http::HeaderName;
use prometheus_client::metrics::counter::Counter;

/// How many names are remembered. Strangers choose them, so past this the log says nothing more.
const MOST_NAMES: usize = 64;
/// How much of a name is logged, in bytes.
const MOST_SHOWN: usize = 100;

/// Which names were logged.
#[derive(Debug)]
pub struct Dropped {
    logged: Mutex<HashSet<HeaderName>>,
    count: Counter,
}

impl Dropped {
    pub fn new(count: Counter) -> Self {
        Self { logged: Mutex::default(), count }
    }

    /// A name that apps may read as another one.
    pub fn underscore(&self, name: &HeaderName) {
        self.count.inc();
        if self.is_new(name) {
            let name = shown(name);
            tracing::warn!(
                name,
                "dropping a request header whose name apps may read as another one; \
                 to let it pass, name it in `headers.allow_underscores`"
            );
        }
    }

    /// What a trusted hop sends, and the configuration does not name.
    pub fn untrusted(&self, name: &HeaderName) {
        self.count.inc();
        if self.is_new(name) {
            let name = shown(name);
            tracing::warn!(
                name,
                "dropping a request header of a trusted proxy; to let it pass, name it in `headers.trust`"
            );
        }
    }

    /// Whether it has to be logged.
    fn is_new(&self, name: &HeaderName) -> bool {
        // A name beyond any sense is not kept.
        if name.as_str().len() > 1024 {
            return false;
        }
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        logged.len() < MOST_NAMES && logged.insert(name.clone())
    }
}

fn shown(name: &HeaderName) -> &str {
    name.as_str().get(..MOST_SHOWN).unwrap_or(name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_logged_once_and_not_without_end() {
        let dropped = Dropped::new(Counter::default());
        let name = HeaderName::from_static("x_a");
        assert!(dropped.is_new(&name));
        assert!(!dropped.is_new(&name));
        for number in 0..1000 {
            dropped.is_new(&HeaderName::try_from(format!("x_{number}")).unwrap());
        }
        assert_eq!(dropped.logged.lock().unwrap().len(), MOST_NAMES);
        dropped.underscore(&name);
        dropped.untrusted(&name);
        assert_eq!(dropped.count.get(), 2);
    }
}
