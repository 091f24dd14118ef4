//! The payloads of a login that claims are read from, and how several of them make one claim.
//!
//! ```text
//! from = ["id_token", "userinfo"]   take = "first"   the first of them that carries the claim
//!                                   take = "union"   what all of them carry
//! ```
//!
//! A source that was named and is not there may hold the very groups that a login would lose, so its absence is a state of
//! the claim and never an empty list: under `first` when no source carries the claim, under `union` always.

use serde_json::{Map, Value};

use super::{ClaimState, Unresolved};
pub use crate::provider::claim::{Source, Take};
use crate::verify::{Payload, Verified};

/// What a login has besides its assertion.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    pub userinfo: Brought<Verified<Payload>>,
    pub access_token: Brought<Verified<Payload>>,
    /// What a directory answered in place of groups that were left out.
    pub directory: Brought<Vec<String>>,
}

/// Whether something came with a login.
#[derive(Debug, Clone, Default)]
pub enum Brought<T> {
    /// This login has none.
    #[default]
    Absent,
    /// It was asked for and did not come.
    Failed,
    Present(T),
}

/// What one source, or several together, say of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reading {
    pub state: ClaimState,
    /// Elements of a wrong type.
    pub skipped: usize,
}

impl Reading {
    pub fn unresolved(why: Unresolved) -> Self {
        Self { state: ClaimState::Unresolved(why), skipped: 0 }
    }
}

/// Reads a payload other than the assertion's.
pub(super) fn of_payload(
    brought: &Brought<Verified<Payload>>,
    read: impl Fn(&Map<String, Value>) -> Reading,
) -> Reading {
    match brought {
        Brought::Absent => Reading::unresolved(Unresolved::NotInToken),
        Brought::Failed => Reading::unresolved(Unresolved::FetchFailed),
        Brought::Present(payload) => read(&payload.get().0),
    }
}

/// The first source that carries the claim. One that left the claim out, or is not there, carries nothing; that counts only
/// where no other does.
pub(super) fn first(readings: impl Iterator<Item = Reading>) -> Reading {
    let mut left_out: Option<Reading> = None;
    for reading in readings {
        match reading.state {
            ClaimState::Missing => {}
            ClaimState::Unresolved(_) => left_out = Some(graver(left_out, reading)),
            _ => return reading,
        }
    }
    left_out.unwrap_or(Reading { state: ClaimState::Missing, skipped: 0 })
}

/// What all sources carry together. What one of them does not tell, their union does not tell either.
pub(super) fn union(readings: impl Iterator<Item = Reading>) -> Reading {
    let mut all = Reading { state: ClaimState::Missing, skipped: 0 };
    for reading in readings {
        let skipped = all.skipped + reading.skipped;
        let state = match (all.state, reading.state) {
            (ClaimState::Unresolved(ours), ClaimState::Unresolved(theirs)) => ClaimState::Unresolved(ours.max(theirs)),
            (unresolved @ ClaimState::Unresolved(_), _) | (_, unresolved @ ClaimState::Unresolved(_)) => unresolved,
            (ClaimState::Malformed, _) | (_, ClaimState::Malformed) => ClaimState::Malformed,
            (ClaimState::Values(mut ours), ClaimState::Values(theirs)) => {
                ours.extend(theirs);
                ClaimState::Values(ours)
            }
            (values @ ClaimState::Values(_), _) | (_, values @ ClaimState::Values(_)) => values,
            (ClaimState::Empty, _) | (_, ClaimState::Empty) => ClaimState::Empty,
            (ClaimState::Missing, ClaimState::Missing) => ClaimState::Missing,
        };
        all = Reading { state, skipped };
    }
    all
}

fn graver(known: Option<Reading>, found: Reading) -> Reading {
    match (known, found.state) {
        (Some(Reading { state: ClaimState::Unresolved(ours), .. }), ClaimState::Unresolved(theirs)) => {
            Reading::unresolved(ours.max(theirs))
        }
        (_, state) => Reading { state, skipped: 0 },
    }
}
