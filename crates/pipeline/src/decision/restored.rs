//! A store that was restored from a backup: what was spent, ended and revoked since the backup is open again in it.

use serde::Serialize;

use super::audit::Entry;
use super::{Save, Shared};
use crate::ids::Timestamp;

/// Under which name the moment is kept, in milliseconds since 1970, eight bytes, the highest first.
pub const NAME: &str = "restored_at";

#[derive(Serialize)]
struct Detail<'a> {
    by: &'a str,
    /// Tokens that were issued before are refused.
    before: String,
}

/// Refuses all tokens that were issued before now, and ends all sessions.
pub fn restored(by: &str, now: Timestamp) -> Save {
    let entry = Entry::new("restored", &Detail { by, before: now.to_string() });
    Save { people: Vec::new(), shared: Shared { restored: Some(now), audit: vec![entry], ..Shared::default() } }
}

/// Changes no user, and records an event in the audit.
pub fn noted(event: &'static str, detail: &serde_json::Value) -> Save {
    Save { people: Vec::new(), shared: Shared { audit: vec![Entry::told(event, detail)], ..Shared::default() } }
}

/// The moment as it is kept.
pub fn read(kept: &[u8]) -> Option<Timestamp> {
    kept.try_into().ok().map(|bytes| Timestamp(i64::from_be_bytes(bytes)))
}
