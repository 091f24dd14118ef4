//! What is known of a server, in addition to what the specification says of all.

use serde::{Deserialize, Serialize};

/// What a test has learned. What was not tested is as the specification has it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Quirks {
    /// A group may have no member.
    pub empty_groups: Option<bool>,
    /// Its members are not shown, so that what was done cannot be looked at.
    pub hides_members: bool,
    /// Members are named by their `userName`, and not by their id.
    pub names_members: bool,
    /// How a member gets in, and out.
    pub add: Way,
    pub remove: Way,
    /// `active` says whether a user has access.
    pub active: Option<bool>,
    /// When this was learned; `None`: never.
    pub tested_at: Option<i64>,
}

/// How members of a group are changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// By an operation on one member.
    #[default]
    Patch,
    /// By the whole list as it was read a moment before.
    Put,
    /// Neither does it.
    No,
}

impl Way {
    pub fn word(self) -> &'static str {
        match self {
            Self::Patch => "by PATCH of one member",
            Self::Put => "by PUT of the list, for PATCH does nothing",
            Self::No => "no: neither PATCH nor PUT does it",
        }
    }
}

impl Quirks {
    /// Where they are kept.
    pub fn note_of(receiver: &str) -> String {
        format!("quirks:{receiver}")
    }

    pub fn read(kept: Option<&[u8]>) -> Self {
        kept.and_then(|kept| serde_json::from_slice(kept).ok()).unwrap_or_default()
    }

    pub fn text(&self) -> Vec<u8> {
        // Flags and words always have a JSON text.
        serde_json::to_vec(self).unwrap_or_default()
    }
}
