//! Groups and roles by their names and UUIDs, so that a look-up costs the same however many there are.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::pipeline::mapping::stored::Stored;

/// The index of one state of the store.
pub(super) struct Index {
    of: Arc<Stored>,
    pub groups: Numbers,
    pub roles: Numbers,
}

/// Numbers by what else names an entry.
#[derive(Default)]
pub(super) struct Numbers {
    pub by_name: HashMap<String, i64>,
    by_key: HashMap<String, i64>,
}

impl Numbers {
    fn add(&mut self, name: &str, key: &str, number: i64) {
        self.by_name.insert(name.to_owned(), number);
        self.by_key.insert(key.to_ascii_lowercase(), number);
    }

    pub fn by_key(&self, key: &str) -> Option<i64> {
        self.by_key.get(&key.to_ascii_lowercase()).copied()
    }
}

/// The index of the newest state in which anything was looked up.
#[derive(Default)]
pub(super) struct Lookup(Mutex<Option<Arc<Index>>>);

impl Lookup {
    /// The index of this state, which is made when it is first asked for.
    pub fn of(&self, stored: &Arc<Stored>) -> Arc<Index> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = kept.as_ref().filter(|index| Arc::ptr_eq(&index.of, stored)) {
            return Arc::clone(index);
        }
        let mut index = Index { of: Arc::clone(stored), groups: Numbers::default(), roles: Numbers::default() };
        for entry in stored.groups.values() {
            index.groups.add(&entry.body.name, &entry.key, entry.number);
        }
        for entry in stored.roles.values() {
            index.roles.add(&entry.body.name, &entry.key, entry.number);
        }
        let index = Arc::new(index);
        *kept = Some(Arc::clone(&index));
        index
    }
}
