//! Watches bytes of any format go by for a signed token of an issuer of ours, whatever it is called there.
//!
//! The fields that [`FormScan`](super::form::FormScan) and its neighbours know are those of protocols. An app may take a token from
//! any other: a deeper member of JSON, a field with a name of its own, XML, YAML, MessagePack, a message of gRPC. Each of these holds
//! a token in its own letters, with escapes of the format at most. So the payload of a token is looked for by its own look:
//!
//! ```text
//! eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJodHRwczovL…fQ.c2lnbmF0dXJl
//!                     ^^^ a dot, and base64url of `{`; the next dot ends it
//! ```
//!
//! Letters that some libraries drop may stand between its own. Escapes are undone twice, as by an app that takes JSON out of a form. Of
//! markup the text of each element is read, and the text of all, since parsers differ in what they join; and an element that is a SAML
//! assertion is a login wherever it stands (SAML Profiles section 4.2: enhanced clients post it within SOAP).
//!
//! What is out of reach, `docs/modes.md` says.

mod escapes;
mod markup;

use std::borrow::Cow;

use self::escapes::{Escapes, NUL, TAB};
use self::markup::{Markup, Seen};
use super::{Sighted, Sighting};
use crate::capture::fields::Field;
use crate::capture::token::{Addressed, NotForeign, Unclear, declares_other_encoding, opens_object};
use crate::reading::media::Readings;

/// A payload longer than this is none of a provider.
const MOST_PAYLOAD: usize = 64 * 1024;

/// Letters of the shortest payload that names an issuer, `{"iss":"x"}`.
const LEAST_PAYLOAD: usize = 15;

/// Bytes of a body by which it is known what it is.
const OPENING: usize = 256;

/// Watches one value, or one body. Holds the payload that is being read.
#[derive(Debug, Default)]
pub struct StrayScan {
    reader: Reader,
    /// The same as Ruby reads it, from the first escape in a payload that it takes for letters.
    lettered: Option<Box<Reader>>,
    body: Option<Box<Body>>,
}

/// What is also looked for in a body.
#[derive(Debug)]
struct Body {
    /// How many of the first four bytes were looked at.
    first: usize,
    /// The first bytes behind blanks: parsers pass over any number of them.
    opening: Vec<u8>,
    /// Letters have more than one byte (UTF-16, UTF-32).
    is_wide: bool,
    markup: Option<Text>,
    /// A form is read field by field; only where it is markup or JSON, as apps read it that do not look at its type, it is looked
    /// into here.
    is_form: bool,
    is_json: bool,
    /// An assertion in markup is a login.
    saml: bool,
    /// A file that is put may be in any encoding, and hold entities: no app logs a person in by it.
    is_file: bool,
}

/// The text of markup: all of it joined, and of each element that is open its own, without that of its children.
#[derive(Debug, Default)]
struct Text {
    markup: Markup,
    joined: Reader,
    own: Vec<Reader>,
}

/// Reads a text with its escapes.
#[derive(Debug, Default, Clone)]
struct Reader {
    escapes: [Escapes; 2],
    letters: Finder,
}

impl Reader {
    fn find(&mut self, text: &[u8], ours: &Addressed) -> bool {
        self.letters.find(&undo(&mut self.escapes, text), ours)
    }

    /// The same, from here on, for a reader to whom `\x` and `\U` are letters.
    fn lettered(&self) -> Self {
        Self { escapes: self.escapes.each_ref().map(Escapes::lettered), letters: self.letters.clone() }
    }
}

/// Elements that may be open at once. Parsers have such limits.
const MOST_DEPTH: usize = 256;

impl StrayScan {
    /// For a body. `saml`: some provider is one of SAML.
    pub fn of_body(readings: &Readings<'_>, saml: bool) -> Self {
        let (is_form, is_file) = (readings.form, readings.is_file);
        let (first, opening, is_wide, markup, is_json) = (0, Vec::new(), false, None, false);
        let body = Body { first, opening, is_wide, markup, is_form, is_json, saml, is_file };
        Self { body: Some(Box::new(body)), ..Self::default() }
    }

    /// The same, to read on in another way from here. Not of a body.
    pub fn fork(&self) -> Self {
        Self { reader: self.reader.clone(), lettered: self.lettered.clone(), body: None }
    }

    /// Whether a value is too short for a payload: none is without a dot or a quote before it and one behind, as they stand or as escapes, and
    /// no escape is shorter than its letter.
    pub fn is_too_short(value: &[u8]) -> bool {
        value.len() <= LEAST_PAYLOAD + 1
    }

    /// Looks into a value that is read whole.
    pub fn look(value: &[u8], ours: &Addressed) -> Sighting {
        let begins = |at: usize| value.get(at..).is_some_and(|rest| !Self::is_too_short(rest));
        if !begins(0) {
            return Sighting::Clear;
        }
        let stop = memchr::memchr2(b'.', b'"', value);
        match (stop, escapes::next(value)) {
            (Some(stop), None) if begins(stop) => {
                if Finder::default().find(value, ours) {
                    OURS
                } else {
                    Sighting::Clear
                }
            }
            (_, Some(escape)) if begins(stop.map_or(escape, |stop| stop.min(escape))) => {
                Self::default().read(value, ours)
            }
            _ => Sighting::Clear,
        }
    }

    /// Bytes that are held.
    pub fn held(&self) -> usize {
        let markup = self.body.as_ref().and_then(|body| body.markup.as_ref());
        let readers = markup.into_iter().flat_map(|text| text.own.iter().chain([&text.joined]));
        let lettered = self.lettered.as_deref();
        [&self.reader].into_iter().chain(lettered).chain(readers).map(|reader| reader.letters.held()).sum()
    }

    /// Whether what was read so far ends within what may be a payload.
    pub fn is_undecided(&self) -> bool {
        self.held() > 0
    }

    /// Reads the next piece.
    pub fn read(&mut self, piece: &[u8], ours: &Addressed) -> Sighting {
        let narrow: Vec<u8>;
        let mut piece = piece;
        if let Some(body) = &mut self.body {
            if let Some(why) = body.open(piece) {
                return Sighting::Unreadable(why);
            }
            if body.is_wide {
                narrow = piece.iter().copied().filter(|byte| *byte != 0).collect();
                piece = &narrow;
            }
        }
        let body = self.body.as_deref_mut();
        let is_field = body.as_ref().is_some_and(|body| body.is_form && !body.is_json && body.markup.is_none());
        // Also of what is not text: a part of it, or a form in it to a lax reader, may be.
        let found = !is_field && find_either(&mut self.reader, &mut self.lettered, piece, ours);
        match body {
            _ if found => OURS,
            Some(body) => body.markup(piece, ours),
            None => Sighting::Clear,
        }
    }
}

/// Whether a payload that is ours ends in this piece, to either reader. The second one reads along only while it matters: most pieces
/// have no escape that is read in two ways, and most that have one hold nothing that begins like a payload.
fn find_either(reader: &mut Reader, lettered: &mut Option<Box<Reader>>, piece: &[u8], ours: &Addressed) -> bool {
    let mut other = match lettered.take() {
        None if escapes::may_differ(piece) || reader.escapes.iter().any(|it| !it.is_between()) => {
            Some(Box::new(reader.lettered()))
        }
        other => other,
    };
    let before = reader.letters.begun;
    let found = reader.find(piece, ours);
    let matters = reader.letters.begun != before || other.as_ref().is_some_and(|other| other.letters.held() > 0);
    let other_found = matters && other.as_mut().is_some_and(|other| other.find(piece, ours));
    *lettered = other.filter(|other| matters && other.letters.held() > 0);
    found || other_found
}

impl Body {
    /// Reads the text of the next piece, where it is markup. Escapes are undone behind it: an escaped `<` begins nothing.
    fn markup(&mut self, piece: &[u8], ours: &Addressed) -> Sighting {
        let Some(Text { markup, joined, own }) = &mut self.markup else { return Sighting::Clear };
        let mut sighting = Sighting::Clear;
        markup.read(piece, |seen| {
            let found = match seen {
                Seen::Text(text) => {
                    let all = joined.find(text, ours);
                    let own = own.last_mut().is_some_and(|own| own.find(text, ours));
                    if all || own { OURS } else { Sighting::Clear }
                }
                Seen::Opens if own.len() < MOST_DEPTH => {
                    own.push(Reader::default());
                    Sighting::Clear
                }
                Seen::Opens => Sighting::Unreadable("more than 256 elements within each other"),
                Seen::Closes => {
                    own.pop();
                    Sighting::Clear
                }
                Seen::Assertion if self.saml => ASSERTION,
                Seen::Declaration if !self.is_file => Sighting::Unreadable("declarations in markup"),
                Seen::LaterEncoding if !self.is_file => {
                    Sighting::Unreadable("an XML declaration that is not the first")
                }
                Seen::Assertion | Seen::Declaration | Seen::LaterEncoding => Sighting::Clear,
            };
            if sighting == Sighting::Clear {
                sighting = found;
            }
        });
        sighting
    }

    /// Looks at the first bytes; answers why the rest cannot be read.
    fn open(&mut self, piece: &[u8]) -> Option<&'static str> {
        if self.opening.len() >= OPENING {
            return None;
        }
        let first = piece.get(..piece.len().min(4 - self.first)).unwrap_or_default();
        self.is_wide |= first.iter().any(|byte| matches!(byte, 0 | 0xfe | 0xff));
        self.first += first.len();
        let blanks = match self.opening.is_empty() {
            true => piece.iter().take_while(|byte| is_before_markup(**byte)).count(),
            false => 0,
        };
        let piece = piece.get(blanks..).unwrap_or_default();
        let missing = OPENING - self.opening.len();
        self.opening.extend_from_slice(piece.get(..piece.len().min(missing)).unwrap_or_default());
        let plain: Vec<u8> = self.opening.iter().copied().filter(|byte| !is_before_markup(*byte)).collect();
        // `<?xm` in EBCDIC, which parsers tell by that.
        let other = plain.starts_with(b"\x4c\x6f\xa7\x94")
            || (plain.starts_with(b"<") && plain.contains(&b'>') && declares_other_encoding(&plain));
        if other && !self.is_file {
            return Some("markup in a character encoding other than UTF-8 or one byte a letter");
        }
        match plain.first() {
            Some(b'<') if self.markup.is_none() => self.markup = Some(Text::default()),
            Some(b'{' | b'[' | b'"') => self.is_json = true,
            _ => {}
        }
        None
    }
}

const OURS: Sighting = Sighting::Login(Sighted { field: None, why: NotForeign::Ours });
const ASSERTION: Sighting =
    Sighting::Login(Sighted { field: Some(Field::SamlResponse), why: NotForeign::Unclear(Unclear::Unreadable) });

fn undo<'p>([inner, outer]: &mut [Escapes; 2], piece: &'p [u8]) -> Cow<'p, [u8]> {
    match inner.undo(piece) {
        // It has no escape, so that the second look would find none either.
        Cow::Borrowed(text) if outer.is_between() => Cow::Borrowed(text),
        Cow::Borrowed(text) => outer.undo(text),
        Cow::Owned(text) => Cow::Owned(outer.undo(&text).into_owned()),
    }
}

/// Blanks of ASCII and of Unicode in UTF-8 or Latin-1, which apps strip, and what byte order marks and wide letters are made of.
fn is_before_markup(byte: u8) -> bool {
    matches!(byte,
        0 | b'\t'..=b'\r' | 0x1c..=b' '
        // U+0085, U+00A0; U+1680, U+180E; U+2000 to U+200F, U+2028, U+2029, U+202F; U+205F, U+2060; U+3000; U+FEFF
        | 0x85 | 0xa0 | 0xc2 | 0xe1 | 0x9a | 0xe2 | 0x80..=0x84 | 0x86..=0x8f | 0xa8 | 0xa9 | 0xaf | 0x9f | 0xe3 | 0xef | 0xbb | 0xbf
        | 0xfe | 0xff)
}

/// Finds payloads. Whatever is not a letter of base64 is passed over between letters: some libraries drop it, and verify what they have
/// rewritten (jwcrypto), and some drop blanks.
#[derive(Debug, Default, Clone)]
struct Finder {
    place: Place,
    /// How many letters could have begun a payload so far.
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

impl Finder {
    fn held(&self) -> usize {
        self.payload.len()
    }

    /// Whether a payload that is ours ends in this piece.
    fn find(&mut self, mut piece: &[u8], ours: &Addressed) -> bool {
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
                self.begun = self.begun.wrapping_add(usize::from(self.payload.len() == 1));
                self.place = Place::Payload;
                if !self.may_go_on() {
                    self.begin(Place::Before);
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

#[cfg(test)]
mod tests;
