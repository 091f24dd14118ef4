//! Finds payloads among letters.

use super::escapes::{NUL, TAB};
use crate::capture::token::{Addressed, opens_object};

/// A payload longer than this is none of a provider.
const MOST_PAYLOAD: usize = 64 * 1024;

/// Letters of the shortest payload that names an issuer, `{"iss":"x"}`.
pub const LEAST_PAYLOAD: usize = 15;

/// Finds payloads. Whatever is not a letter of base64 is passed over between letters: some libraries drop it, and verify what they have
/// rewritten (jwcrypto), and some drop blanks.
#[derive(Debug, Default, Clone)]
pub struct Finder {
    place: Place,
    begun: usize,
    /// The letters of the payload, and of what follows where a quote may have ended it.
    payload: Vec<u8>,
    whole: Start,
    /// The last quotes among them, behind which another may begin.
    quoted: Vec<Start>,
}

/// Where a payload may begin.
#[derive(Debug, Clone, Copy, Default)]
struct Start {
    at: usize,
    /// How often it was looked at whether it has ended.
    looks: usize,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Place {
    #[default]
    Before,
    /// Behind a dot.
    Dot,
    /// Within what may be a payload.
    Payload,
}

/// How often a payload is looked at where a quote may end it, and behind how many quotes one may begin.
const MOST_QUOTES: usize = 4;

/// After so many letters it is told apart from most of what is not an object of JSON.
const TELLING: usize = 8;

/// After so many it has begun.
const OPENS: usize = 3;

impl Finder {
    /// How many letters could have begun a payload so far.
    pub fn begun(&self) -> usize {
        self.begun
    }

    /// Whether no token was begun.
    pub fn is_outside(&self) -> bool {
        self.place == Place::Before
    }

    /// Letters that are held.
    pub fn held(&self) -> usize {
        self.payload.len()
    }

    /// Whether a payload that is ours ends in this piece.
    pub fn find(&mut self, mut piece: &[u8], ours: &Addressed) -> bool {
        loop {
            if self.place == Place::Before {
                let Some(dot) = memchr::memchr2(b'.', b'"', piece) else { return false };
                piece = piece.get(dot + 1..).unwrap_or_default();
                self.place = Place::Dot;
            }
            let Some((byte, rest)) = piece.split_first() else { return false };
            piece = rest;
            if *byte == b'"' && self.place == Place::Payload {
                // A member of a JWS in JSON (RFC 7515 section 7.2), or one more letter that is passed over.
                if self.ends_here(ours) {
                    return true;
                }
                // Or the next member is.
                let at = self.payload.len();
                if self.quoted.last().is_none_or(|start| start.at != at) {
                    if self.quoted.len() == MOST_QUOTES {
                        self.quoted.remove(0);
                    }
                    self.quoted.push(Start { at, looks: 0 });
                }
            } else if *byte == b'.' {
                let is_ours = self.ends_here(ours);
                // A dot that ends one payload may begin the next.
                self.begin(Place::Dot);
                if is_ours {
                    return true;
                }
            } else if is_letter(*byte) || (matches!(*byte, TAB | NUL) && self.payload.len() > 1) {
                // Most dots end a sentence or a number, and need no memory.
                let is_other = || rest.first().is_some_and(|next| is_letter(*next) && !matches!(next, b'w' | b'y'));
                if self.payload.is_empty() && (*byte != b'e' || is_other()) {
                    self.begin(Place::Before);
                    continue;
                }
                self.payload.push(*byte);
                self.place = Place::Payload;
                if !self.may_go_on() {
                    self.begin(Place::Before);
                } else if self.payload.len() == OPENS {
                    self.begun = self.begun.wrapping_add(1);
                }
            }
        }
    }

    fn begin(&mut self, place: Place) {
        self.place = place;
        self.payload.clear();
        self.whole = Start::default();
        self.quoted.clear();
    }

    /// Whether a payload that is ours ends here.
    fn ends_here(&mut self, ours: &Addressed) -> bool {
        let payload = &self.payload;
        std::iter::once(&mut self.whole).chain(&mut self.quoted).any(|start| {
            let letters = payload.get(start.at..).unwrap_or_default();
            let opens =
                || letters.get(..TELLING).is_some_and(|first| first.starts_with(b"e") && may_open_object(first));
            if start.looks > MOST_QUOTES || !opens() {
                return false;
            }
            start.looks += 1;
            // `decode` passes over what is no letter.
            ours.is_payload(letters) || as_letters(letters).iter().any(|letters| ours.is_payload(letters))
        })
    }

    /// Whether what was read so far may be the beginning of an object.
    fn may_go_on(&self) -> bool {
        match self.payload.as_slice() {
            [b'e'] | [b'e', b'w' | b'y'] => true,
            // `{` and a quote or a blank.
            [b'e', b'y', third] => matches!(*third, b'A'..=b'D' | b'I'..=b'L' | TAB | NUL),
            [b'e', b'w', third] => matches!(*third, b'k'..=b'r' | b'w'..=b'z' | b'0'..=b'3' | TAB | NUL),
            [b'e', b'w' | b'y', ..] if self.payload.len() < TELLING => true,
            [b'e', b'w' | b'y', ..] if self.payload.len() == TELLING => may_open_object(&self.payload),
            [b'e', b'w' | b'y', ..] => self.payload.len() <= MOST_PAYLOAD,
            _ => false,
        }
    }
}

/// As readers see it for whom some escapes are the letter behind the backslash.
fn as_letters(payload: &[u8]) -> Vec<Vec<u8>> {
    let has = |byte: u8| memchr::memchr(byte, payload).is_some();
    let written = |tab: Option<u8>, nul: Option<u8>| {
        let letters = payload.iter().filter_map(|byte| match *byte {
            TAB => tab,
            NUL => nul,
            byte => Some(byte),
        });
        letters.collect()
    };
    match (has(TAB), has(NUL)) {
        (false, false) => Vec::new(),
        (true, false) => vec![written(Some(b'v'), None)],
        (false, true) => vec![written(None, Some(b'0'))],
        (true, true) => {
            vec![written(Some(b'v'), Some(b'0')), written(Some(b'v'), None), written(None, Some(b'0'))]
        }
    }
}

/// Whether the first letters may open an object; too few leave that open.
fn may_open_object(first: &[u8]) -> bool {
    const TELLS: usize = 4;
    first.iter().filter(|byte| is_letter(**byte)).count() < TELLS
        || opens_object(first)
        || as_letters(first).iter().any(|letters| opens_object(letters))
}

fn is_letter(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'+' | b'/')
}
