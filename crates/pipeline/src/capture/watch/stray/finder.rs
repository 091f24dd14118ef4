//! Finds payloads among letters.
//!
//! Whatever is not a letter of base64 is passed over between letters: some libraries drop it, and verify what they have rewritten
//! (jwcrypto), and some drop blanks. That holds for dots and quotes too, in a member of JSON. So a payload may begin behind each of these
//! marks, and end at each, with others between. A `=` ends one as well: some decoders leave off there, whatever follows.
//!
//! ```text
//! "eyJhbGciOiJub25lIn0.eyJpc3MiOi"JodHRwczovL…fQ=="
//! ^ begins             ^ begins                   ^ ends
//! ```
//!
//! The work is linear in the number of letters. Each is decoded once in each of the four ways to group letters by fours ([`Lane`]) in which
//! an object was begun; what is decoded is searched once for the names of our issuers; and only an object that names one, or seems to
//! have ended, is parsed.

use serde::de::IgnoredAny;

use crate::capture::token::{Addressed, digit};

/// An object longer than this is none of a provider.
const MOST_OBJECT: usize = 48 * 1024;

/// Letters of the shortest payload that names an issuer, `{"iss":"x"}`.
pub const LEAST_PAYLOAD: usize = 15;

/// Finds payloads, in pieces of a text.
#[derive(Debug, Default, Clone)]
pub struct Finder {
    begun: usize,
    /// How many letters were read, while anything is open.
    letters: usize,
    beginning: Beginning,
    /// The objects that are open, by where the first letter of their payloads stands among four.
    lanes: [Option<Box<Lane>>; 4],
}

/// How far a payload has begun, to readers who do not agree where: the last letters read, if those before were as they have to be.
#[derive(Debug, Default, Clone, Copy)]
struct Beginning {
    /// A mark.
    mark: bool,
    /// The first letter, `e`.
    first: bool,
    /// The second letter, `w` or `y`.
    second: Option<u8>,
}

impl Finder {
    /// How many letters could have begun a payload so far.
    pub fn begun(&self) -> usize {
        self.begun
    }

    /// Whether no token was begun.
    pub fn is_outside(&self) -> bool {
        let Beginning { mark, first, second } = self.beginning;
        !mark && !first && second.is_none() && self.lanes.iter().all(Option::is_none)
    }

    /// Bytes that are held.
    pub fn held(&self) -> usize {
        let Beginning { first, second, .. } = self.beginning;
        let lanes = self.lanes.iter().flatten().map(|lane| lane.text.len());
        lanes.sum::<usize>() + usize::from(first) + usize::from(second.is_some())
    }

    /// Whether a payload that is ours ends in this piece.
    pub fn find(&mut self, piece: &[u8], ours: &Addressed) -> bool {
        let found = self.read(piece, ours) || self.lanes.iter_mut().flatten().any(|lane| lane.is_ours(ours));
        if found {
            self.lanes = Default::default();
        }
        found
    }

    fn read(&mut self, mut piece: &[u8], ours: &Addressed) -> bool {
        loop {
            if self.is_outside() {
                let Some(mark) = memchr::memchr2(b'.', b'"', piece) else { return false };
                piece = piece.get(mark + 1..).unwrap_or_default();
                self.beginning.mark = true;
            }
            let Some((byte, rest)) = piece.split_first() else { return false };
            piece = rest;
            let is_mark = matches!(byte, b'.' | b'"');
            let found = match digit(*byte) {
                Some(digit) => self.push(*byte, digit, ours),
                None => (is_mark || *byte == b'=') && self.end(ours),
            };
            if found {
                return true;
            }
            self.beginning.mark |= is_mark;
        }
    }

    /// Reads a letter. Answers whether an object was ours that goes on behind its end.
    fn push(&mut self, byte: u8, digit: u8, ours: &Addressed) -> bool {
        for lane in &mut self.lanes {
            match lane.as_mut().map(|lane| lane.push(digit, ours)) {
                None | Some(Object::GoesOn) => {}
                Some(Object::Ours) => return true,
                Some(Object::Other) => *lane = None,
            }
        }
        let begins = match (self.beginning.second, byte) {
            // `{` and a quote or a blank.
            (Some(b'y'), b'A'..=b'D' | b'I'..=b'L') => true,
            (Some(b'w'), b'k'..=b'r' | b'w'..=b'z' | b'0'..=b'3') => true,
            _ => false,
        };
        if begins {
            self.begin(digit);
        }
        self.beginning = Beginning {
            mark: false,
            first: self.beginning.mark && byte == b'e',
            second: (self.beginning.first && matches!(byte, b'w' | b'y')).then_some(byte),
        };
        self.letters = self.letters.wrapping_add(1);
        false
    }

    /// A payload begins with the last two letters and this one.
    fn begin(&mut self, third: u8) {
        self.begun = self.begun.wrapping_add(1);
        let Some(lane) = self.lanes.get_mut(self.letters.wrapping_sub(2) % 4) else { return };
        match lane {
            // It has read these letters.
            Some(lane) => (lane.latest, lane.latest_tries) = (lane.text.len().saturating_sub(2), 0),
            None => {
                let letters =
                    [b'e', self.beginning.second.unwrap_or_default()].map(|letter| digit(letter).unwrap_or_default());
                *lane = Some(Box::new(Lane::of([letters[0], letters[1], third])));
            }
        }
    }

    /// A mark. Answers whether a payload that is ours ends here.
    fn end(&mut self, ours: &Addressed) -> bool {
        for lane in &mut self.lanes {
            match lane.as_mut().map(|lane| lane.end(ours)) {
                None | Some(Object::GoesOn) => {}
                Some(Object::Ours) => return true,
                Some(Object::Other) => *lane = None,
            }
        }
        false
    }
}

/// What was decoded since a payload began, of all the letters behind.
///
/// Of the payloads that began at the same place among four letters it knows the first, which all it holds belongs to, and the last. Others
/// between them are looked into as parts of the first: an object that names an issuer of ours, and is none that can be read, is refused.
#[derive(Debug, Default, Clone)]
struct Lane {
    /// Bits of letters that are no byte yet, and how many.
    rest: u16,
    bits: u8,
    text: Vec<u8>,
    /// A quote or a brace followed the brace that begins it, as in every object.
    is_object: bool,
    /// Where the last payload begins, if it is not the first.
    latest: usize,
    /// Where the last mark stood.
    marked: usize,
    /// Names of issuers were searched for up to here, and whether one was found.
    searched: usize,
    is_named: bool,
    /// It names an issuer of ours, and goes on with what JSON does not have: it is refused at the next mark.
    is_garbled: bool,
    /// How often it was parsed where the first payload, and the last, seemed to end.
    tries: u8,
    latest_tries: u8,
}

/// What an object is, as far as it was read.
#[derive(Debug, PartialEq, Eq)]
enum Object {
    GoesOn,
    Ours,
    /// Not ours, or none.
    Other,
}

/// How often an object is parsed that seems to end. One that has ended, and is not ours, is forgotten; this bounds the work for one that
/// has not.
const MOST_TRIES: u8 = 3;

/// Blanks behind the end of an object that are passed over.
const MOST_BLANKS: usize = 16;

impl Lane {
    fn of(letters: [u8; 3]) -> Self {
        let mut lane = Self::default();
        for digit in letters {
            let byte = lane.decode(digit);
            lane.text.extend(byte);
        }
        lane.opens();
        lane
    }

    fn decode(&mut self, digit: u8) -> Option<u8> {
        self.rest = (self.rest << 6 | u16::from(digit)) & 0x3fff;
        self.bits += 6;
        self.bits.checked_sub(8).map(|bits| {
            self.bits = bits;
            u8::try_from(self.rest >> bits & 0xff).unwrap_or_default()
        })
    }

    /// Looks whether it begins like an object. `false`: it does not.
    fn opens(&mut self) -> bool {
        let next = self.text.get(1..).unwrap_or_default().trim_ascii_start().first();
        self.is_object = matches!(next, Some(b'"' | b'}'));
        self.is_object || next.is_none()
    }

    fn push(&mut self, digit: u8, ours: &Addressed) -> Object {
        let Some(byte) = self.decode(digit) else { return Object::GoesOn };
        if self.is_garbled {
            return Object::GoesOn;
        }
        // JSON has no control characters but blanks, wherever it began. One that has named an issuer of ours may be whole to readers who
        // undo fewer escapes.
        if byte < b' ' && !matches!(byte, b'\t' | b'\n' | b'\r') {
            if self.is_ours(ours) {
                return Object::Ours;
            }
            self.is_garbled = self.is_object && ours.is_named_behind(&self.text, self.searched);
            return if self.is_garbled { Object::GoesOn } else { Object::Other };
        }
        self.text.push(byte);
        let is_object = self.is_object || byte.is_ascii_whitespace() || self.opens();
        match is_object && self.text.len() <= MOST_OBJECT {
            true => Object::GoesOn,
            false if self.is_ours(ours) => Object::Ours,
            false => self.forget_first(),
        }
    }

    /// Goes on with the last payload.
    fn forget_first(&mut self) -> Object {
        if self.latest == 0 {
            return Object::Other;
        }
        self.text.drain(..self.latest);
        self.marked = self.marked.saturating_sub(self.latest);
        (self.searched, self.is_named) = (0, false);
        (self.latest, self.tries) = (0, self.latest_tries);
        if self.opens() { Object::GoesOn } else { Object::Other }
    }

    /// Whether it names an issuer of ours before the last mark. If it was not forgotten there, it is no object that can be read, and some
    /// reader may take it for one.
    fn is_ours(&mut self, ours: &Addressed) -> bool {
        if self.is_object && !self.is_named && self.searched < self.marked {
            let text = self.text.get(..self.marked).unwrap_or_default();
            self.is_named = ours.is_named_behind(text, self.searched);
            self.searched = self.marked;
        }
        self.is_object && self.is_named
    }

    /// A mark.
    fn end(&mut self, ours: &Addressed) -> Object {
        if self.is_garbled {
            return Object::Ours;
        }
        self.marked = self.text.len();
        let seems_whole = {
            let end = self.text.get(self.marked.saturating_sub(MOST_BLANKS)..).unwrap_or_default();
            end.trim_ascii_end().last() == Some(&b'}')
        };
        while seems_whole && self.tries < MOST_TRIES {
            self.tries += 1;
            if !is_whole(&self.text) {
                break;
            }
            if ours.is_object(&self.text) {
                return Object::Ours;
            }
            if self.forget_first() == Object::Other {
                return Object::Other;
            }
        }
        if seems_whole && self.latest > 0 && self.latest_tries < MOST_TRIES {
            self.latest_tries += 1;
            let last = self.text.get(self.latest..).unwrap_or_default();
            if is_whole(last) {
                if ours.is_object(last) {
                    return Object::Ours;
                }
                self.latest = 0;
            }
        }
        Object::GoesOn
    }
}

/// Whether it is one value of JSON.
fn is_whole(text: &[u8]) -> bool {
    serde_json::from_slice::<IgnoredAny>(text).is_ok()
}
