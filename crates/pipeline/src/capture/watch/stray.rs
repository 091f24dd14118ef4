//! Watches bytes of any format go by for a signed token of an issuer of ours, whatever it is called there.
//!
//! The fields that [`FormScan`](super::forms::FormScan) and its neighbours know are those of protocols. An app may take a token from
//! any other: a deeper member of JSON, a field with a name of its own, XML, YAML, MessagePack, a message of gRPC. Each of these holds
//! a token in its own letters, with escapes of the format at most. So the payload of a token is looked for by its own look:
//!
//! ```text
//! eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJodHRwczovL…fQ.c2lnbmF0dXJl
//!                     ^^^ a dot, and base64url of `{`; the next dot ends it
//! ```
//!
//! Letters that some libraries drop may stand between its own. Escapes are undone as deep as apps take JSON out of JSON ([`lenses`]). Of
//! markup the text of each element is read, and the text of all, since parsers differ in what they join; and an element that is a SAML
//! assertion is a login wherever it stands (SAML Profiles section 4.2: enhanced clients post it within SOAP).
//!
//! What is out of reach, `docs/modes.md` says.

mod escapes;
mod finder;
mod lenses;
mod markup;

use std::collections::VecDeque;

use self::finder::{Finder, LEAST_PAYLOAD};
use self::lenses::Lenses;
use self::markup::{Markup, Seen};
use super::{Sighted, Sighting};
use crate::capture::fields::Field;
use crate::capture::token::{Addressed, NotForeign, Unclear, declares_other_encoding};
use crate::reading::media::{Multipart, Readings};

/// Bytes of a body by which it is known what it is.
const OPENING: usize = 256;

/// Watches one value, or one body. Holds the payload that is being read.
#[derive(Debug, Default, Clone)]
pub struct StrayScan {
    text: Lenses,
    body: Option<Box<Body>>,
}

/// What is also looked for in a body.
#[derive(Debug, Clone)]
struct Body {
    /// How many of the first four bytes were looked at.
    first: usize,
    /// The first bytes behind blanks: parsers pass over any number of them.
    opening: Vec<u8>,
    /// Letters have more than one byte (UTF-16, UTF-32).
    is_wide: bool,
    /// Its elements, wherever the first one begins: some parsers pass over what stands before it.
    markup: Option<Text>,
    /// It is markup to all: by its type, or by its first letter.
    is_markup: bool,
    /// A form is read field by field; only where it is markup or JSON, as apps read it that do not look at its type, it is looked
    /// into here.
    is_form: bool,
    is_json: bool,
    /// An assertion in markup is a login, and in what only some take for markup.
    saml: bool,
    saml_in_any: bool,
    /// A file that is put may be in any encoding, and hold entities: no app logs a person in by it.
    is_file: bool,
}

/// The text of markup: all of it joined, and of each element that is open its own, without that of its children.
#[derive(Debug, Default, Clone)]
struct Text {
    markup: Markup,
    joined: Lenses,
    own: VecDeque<Lenses>,
}

/// Elements that may be open at once. Parsers have such limits.
const MOST_DEPTH: usize = 256;

impl StrayScan {
    /// For a body. `saml`: some provider is one of SAML.
    pub fn of_body(readings: &Readings<'_>, saml: bool) -> Self {
        let Readings { form: is_form, is_file, .. } = *readings;
        let is_named_form = is_form && !readings.unnamed;
        let body = Body {
            first: 0,
            opening: Vec::new(),
            is_wide: false,
            markup: (!is_named_form).then(Text::default),
            is_markup: readings.xml,
            is_form,
            is_json: false,
            saml,
            // Elsewhere a document about SAML may be quoted.
            saml_in_any: saml && !is_named_form && !readings.json && readings.multipart == Multipart::No,
            is_file,
        };
        Self { body: Some(Box::new(body)), ..Self::default() }
    }

    /// For a name or a value of a form.
    pub fn of_field() -> Self {
        Self { text: Lenses::of_form(), body: None }
    }

    /// For all of a form, once more, by one reading.
    pub fn across_fields() -> Self {
        Self { text: Lenses::single(), body: None }
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
        let texts = markup.into_iter().flat_map(|text| text.own.iter().chain([&text.joined]));
        texts.chain([&self.text]).map(Lenses::held).sum()
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
        let is_field = body.as_ref().is_some_and(|body| body.is_form && !body.is_json && !body.is_markup);
        // Also of what is not text: a part of it, or a form in it to a lax reader, may be.
        let found = !is_field && self.text.find(piece, ours);
        match body {
            _ if found => OURS,
            Some(body) => body.markup(piece, ours),
            None => Sighting::Clear,
        }
    }
}

impl Body {
    /// Reads the text of the elements in the next piece. Escapes are undone behind it: an escaped `<` begins nothing.
    fn markup(&mut self, piece: &[u8], ours: &Addressed) -> Sighting {
        let Some(Text { markup, joined, own }) = &mut self.markup else { return Sighting::Clear };
        let is_markup = self.is_markup;
        let is_document = is_markup && !self.is_file;
        let mut sighting = Sighting::Clear;
        markup.read(piece, |seen| {
            let found = match seen {
                Seen::Text(text) => {
                    let all = joined.find(text, ours);
                    let own = own.back_mut().is_some_and(|own| own.find(text, ours));
                    if all || own { OURS } else { Sighting::Clear }
                }
                Seen::Opens if own.len() == MOST_DEPTH && is_markup => {
                    Sighting::Unreadable("more than 256 elements within each other")
                }
                Seen::Opens => {
                    if own.len() == MOST_DEPTH {
                        own.pop_front();
                    }
                    own.push_back(Lenses::default());
                    Sighting::Clear
                }
                Seen::Closes => {
                    own.pop_back();
                    Sighting::Clear
                }
                Seen::Assertion if (self.saml && is_markup) || self.saml_in_any => ASSERTION,
                Seen::Declaration if is_document => Sighting::Unreadable("declarations in markup"),
                Seen::LaterEncoding if is_document => Sighting::Unreadable("an XML declaration that is not the first"),
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
            Some(b'<') => {
                self.is_markup = true;
                self.markup.get_or_insert_default();
            }
            Some(b'{' | b'[' | b'"') => self.is_json = true,
            _ => {}
        }
        None
    }
}

const OURS: Sighting = Sighting::Login(Sighted { field: None, why: NotForeign::Ours });
const ASSERTION: Sighting =
    Sighting::Login(Sighted { field: Some(Field::SamlResponse), why: NotForeign::Unclear(Unclear::Unreadable) });

/// Blanks of ASCII and of Unicode in UTF-8 or Latin-1, which apps strip, and what byte order marks and wide letters are made of.
fn is_before_markup(byte: u8) -> bool {
    matches!(byte,
        0 | b'\t'..=b'\r' | 0x1c..=b' '
        // U+0085, U+00A0; U+1680, U+180E; U+2000 to U+200F, U+2028, U+2029, U+202F; U+205F, U+2060; U+3000; U+FEFF
        | 0x85 | 0xa0 | 0xc2 | 0xe1 | 0x9a | 0xe2 | 0x80..=0x84 | 0x86..=0x8f | 0xa8 | 0xa9 | 0xaf | 0x9f | 0xe3 | 0xef | 0xbb | 0xbf
        | 0xfe | 0xff)
}

#[cfg(test)]
mod tests;
