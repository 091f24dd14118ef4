//! Tables of what operators name: groups, roles, claims.
//!
//! A login looks into them some 200 times. Its own values are never put into them, so that no stranger can choose what collides; the hash
//! is seeded for each process all the same.

use std::collections::{HashMap, HashSet};

use foldhash::fast::RandomState;

pub type Lookup<K, V> = HashMap<K, V, RandomState>;
pub type LookupSet<K> = HashSet<K, RandomState>;
