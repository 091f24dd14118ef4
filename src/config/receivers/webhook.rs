//! `[[webhook]]`: signed messages.

use std::collections::BTreeSet;
use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::super::problem::{alternatives, nearest};
use super::super::reader::Section;
use super::super::values::Wrong;
use super::super::{Secret, files};

/// How messages are signed, and which there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    /// Each of them signs every message. Empty: one of the store's.
    pub secrets: Vec<Secret>,
    pub events: BTreeSet<Event>,
}

/// What a message is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Event {
    /// The first message about a user to a receiver.
    Created,
    MembershipsChanged,
    /// E-mail address or name.
    Changed,
    Disabled,
    Enabled,
    Erased,
    /// The brake holds a revocation.
    HoldCreated,
    /// What was held is revoked.
    HoldReleased,
    /// What was held stays.
    HoldDiscarded,
    /// An API has changed mappings.
    MappingChanged,
    /// A login was refused after its signature held.
    LoginRefused,
}

impl Event {
    pub const ALL: [Self; 11] = [
        Self::Created,
        Self::MembershipsChanged,
        Self::Changed,
        Self::Disabled,
        Self::Enabled,
        Self::Erased,
        Self::HoldCreated,
        Self::HoldReleased,
        Self::HoldDiscarded,
        Self::MappingChanged,
        Self::LoginRefused,
    ];

    /// What a receiver hears of that names none: all but what a stranger with an account could make many of.
    fn usual() -> BTreeSet<Self> {
        Self::ALL.into_iter().filter(|event| *event != Self::LoginRefused).collect()
    }

    /// Whether it is more than what a user holds now: it waits in a queue of its own.
    pub fn is_no_state(self) -> bool {
        match self {
            Self::Created
            | Self::MembershipsChanged
            | Self::Changed
            | Self::Disabled
            | Self::Enabled
            | Self::Erased => false,
            Self::HoldCreated
            | Self::HoldReleased
            | Self::HoldDiscarded
            | Self::MappingChanged
            | Self::LoginRefused => true,
        }
    }

    pub fn word(self) -> &'static str {
        match self {
            Self::Created => "user.created",
            Self::MembershipsChanged => "user.memberships.changed",
            Self::Changed => "user.changed",
            Self::Disabled => "user.disabled",
            Self::Enabled => "user.enabled",
            Self::Erased => "user.erased",
            Self::HoldCreated => "hold.created",
            Self::HoldReleased => "hold.released",
            Self::HoldDiscarded => "hold.discarded",
            Self::MappingChanged => "mapping.changed",
            Self::LoginRefused => "login.refused",
        }
    }

    fn named(word: &str) -> Result<Self, Wrong> {
        let words = Self::ALL.map(Self::word);
        let found = Self::ALL.into_iter().find(|event| event.word() == word);
        found.ok_or_else(|| Wrong { expected: alternatives(words), nearest: nearest(word, words) })
    }
}

/// Bytes of a secret (Standard Webhooks 1.0.0, "Signature scheme").
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// Secrets of one receiver at most: a rotation needs two.
const MOST_SECRETS: usize = 4;
/// What a secret begins with, so that people see what it is.
pub const SECRET_PREFIX: &str = "whsec_";

/// Reads what a webhook alone has.
pub fn read(section: &Section<'_>) -> Option<Webhook> {
    let secrets = secrets(section);
    let events = section.list("events", false, Event::named);
    if section.is_empty_list("events")
        && let Some(span) = section.written("events")
    {
        section.raise(
            &span,
            "events",
            "is empty; expected at least one event, or no such key for all but `login.refused`",
        );
    }
    Some(Webhook { secrets: secrets?, events: events.map_or_else(Event::usual, |events| events.into_iter().collect()) })
}

/// The secrets of a file or a variable, one a line; none where neither is named.
fn secrets(section: &Section<'_>) -> Option<Vec<Secret>> {
    let named = ["secret_file", "secret_env"].iter().any(|key| section.written(key).is_some());
    let Some(found) = files::secret(section, "secret_file", "secret_env") else {
        return (!named).then(Vec::new);
    };
    let complain = |span: &Range<usize>, what: String| {
        let expected = "expected lines of `whsec_` and 24 to 64 bytes in base64";
        section.context.raise(span, section.name.clone(), format!("{what}; {expected}"));
    };
    let Ok(text) = std::str::from_utf8(&found.value) else {
        complain(&found.span, String::from("the secrets are not text"));
        return None;
    };
    let (mut secrets, mut is_whole) = (Vec::new(), true);
    for (line, text) in (1..).zip(text.lines().map(str::trim)).filter(|(_, text)| !text.is_empty()) {
        let bytes = text.strip_prefix(SECRET_PREFIX).and_then(|encoded| STANDARD.decode(encoded).ok());
        match bytes.map(Zeroizing::new).filter(|bytes| SECRET_BYTES.contains(&bytes.len())) {
            Some(bytes) => secrets.push(Secret::new(bytes.to_vec())),
            None => {
                complain(&found.span, format!("line {line} is not a webhook secret"));
                is_whole = false;
            }
        }
    }
    if is_whole && !(1..=MOST_SECRETS).contains(&secrets.len()) {
        complain(&found.span, format!("there are {} secrets; expected 1 to {MOST_SECRETS}", secrets.len()));
        is_whole = false;
    }
    is_whole.then_some(secrets)
}
