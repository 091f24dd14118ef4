//! Watches a JSON body go by for top-level members by which an app may log a person in.
//!
//! It reads what lenient parsers read: comments (Json.NET, Ruby), single quotes and names without quotes (Json.NET, JSON5),
//! `=` for `:` and `;` for `,` (Gson), quotes within a word (Gson, org.json), escapes in names, several documents in a row. What no parser takes does no harm: the app
//! refuses it.
//!
//! ```text
//! {"id_token": "eyJ…"}    {/**/'id\u005ftoken' : ["eyJ…"]}    {"a": {"id_token": "deeper, and the app's own"}}
//! ```

use super::value::HeldValue;
use super::{Seeks, Sighting, first};
use crate::capture::fields::field_named;
use crate::reading::name::keep_name;

/// Where a scan is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Before the first letter. Only what begins like an object is read on.
    Start,
    /// Not JSON: nothing is looked at any more.
    Other,
    /// Between texts.
    Between,
    Text {
        quote: u8,
        escape: Escape,
    },
    /// A name or value without quotes.
    Word,
    /// Behind a `/` that may begin a comment.
    Slash,
    Comment {
        star: bool,
    },
    LineComment(LineEnd),
}

/// What came last in a comment that ends with its line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LineEnd {
    None,
    CarriageReturn,
    /// Bytes of a line or paragraph separator in UTF-8, `E2 80 A8` and `E2 80 A9`.
    Separator,
    SeparatorGoesOn,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Escape {
    None,
    Backslash,
    /// Digits that are still to come, and what was read of them.
    Digits {
        missing: u8,
        value: u32,
        of: Of,
    },
}

/// Which escape digits belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    /// `\u`, of JSON itself.
    U,
    /// `\x`, of JSON5; to Ruby it is an `x`, and the digits are text.
    X,
}

/// Watches one body. Holds a name, and the value behind it where that is looked into.
#[derive(Debug, Clone)]
pub struct JsonScan {
    place: Place,
    /// Whether the media type says that it is JSON, whatever it begins with.
    named: bool,
    /// A zero byte or a mark of UTF-16 came before the first letter.
    wide: bool,
    /// It begins with the prefix by which a page keeps its JSON from being run as a script.
    guarded: bool,
    /// The byte before the piece.
    before: u8,
    depth: usize,
    name: Vec<u8>,
    /// The member whose value is being read, where that is looked into.
    member: Option<HeldValue>,
    /// A quote within a word is a letter of it (Gson, org.json).
    quotes_are_letters: bool,
    /// The same to such a reader, from the first one on.
    to_others: Option<Box<JsonScan>>,
}

impl JsonScan {
    pub fn new(named: bool) -> Self {
        Self {
            place: Place::Start,
            named,
            wide: false,
            guarded: false,
            before: 0,
            depth: 0,
            name: Vec::new(),
            member: None,
            quotes_are_letters: false,
            to_others: None,
        }
    }

    /// Bytes that are held.
    pub fn held(&self) -> usize {
        let others = self.to_others.as_ref().map_or(0, |others| others.held());
        others + self.member.as_ref().map_or(0, HeldValue::held)
    }

    /// Whether it is not JSON, whatever follows.
    pub fn is_other(&self) -> bool {
        self.place == Place::Other
    }

    fn value(&self) -> Option<&HeldValue> {
        self.member.as_ref().filter(|_| matches!(self.place, Place::Text { .. } | Place::Word))
    }

    /// The value that is being read. One that has ended was judged.
    pub fn values(&self) -> impl Iterator<Item = &HeldValue> {
        self.value().into_iter().chain(self.to_others.iter().filter_map(|others| others.value()))
    }

    /// Reads the next piece.
    pub fn read(&mut self, piece: &[u8], seeks: &Seeks) -> Sighting {
        let others = self.to_others.as_mut().map_or(Sighting::Clear, |others| others.read_on(piece, seeks));
        let sighting = first([Some(self.read_on(piece, seeks)), Some(others)]);
        let is_other = self.place == Place::Other;
        let before = self.before;
        self.before = piece.last().copied().unwrap_or(before);
        if sighting == Sighting::Clear && !is_other && is_overlong(before, piece) { OVERLONG } else { sighting }
    }

    fn read_on(&mut self, mut piece: &[u8], seeks: &Seeks) -> Sighting {
        while let Some((byte, rest)) = piece.split_first() {
            let sighting = match self.place {
                Place::Other => return Sighting::Clear,
                Place::Start => self.start(*byte),
                Place::Text { quote, escape: Escape::None } => {
                    let end = memchr::memchr3(quote, b'\\', 0, piece).unwrap_or(piece.len());
                    if end > 0 {
                        let (run, later) = piece.split_at(end);
                        self.keep(run);
                        piece = later;
                        continue;
                    }
                    self.text_byte(*byte, quote, seeks)
                }
                Place::Text { quote, escape } => self.escaped(*byte, quote, escape, seeks),
                Place::Between => self.between(*byte, seeks),
                Place::Word if self.quotes_are_letters && matches!(byte, b'"' | b'\'') => {
                    self.keep(&[*byte]);
                    Sighting::Clear
                }
                Place::Word => match byte {
                    b'"' | b'\'' | b':' | b'=' | b',' | b';' | b'{' | b'}' | b'[' | b']' | b'/' | b'#' => {
                        if matches!(byte, b'"' | b'\'') && self.to_others.is_none() {
                            let mut others = Box::new(Self { quotes_are_letters: true, ..self.clone() });
                            let seen = others.read_on(piece, seeks);
                            if seen != Sighting::Clear {
                                return seen;
                            }
                            self.to_others = Some(others);
                        }
                        let sighting = self.text_ended(seeks);
                        if sighting == Sighting::Clear { self.between(*byte, seeks) } else { sighting }
                    }
                    byte if byte.is_ascii_whitespace() => self.text_ended(seeks),
                    byte => {
                        self.keep(&[*byte]);
                        Sighting::Clear
                    }
                },
                Place::Slash => {
                    self.place = match byte {
                        b'*' => Place::Comment { star: false },
                        b'/' => Place::LineComment(LineEnd::None),
                        _ => Place::Between,
                    };
                    Sighting::Clear
                }
                Place::Comment { star } => {
                    self.place =
                        if star && *byte == b'/' { Place::Between } else { Place::Comment { star: *byte == b'*' } };
                    Sighting::Clear
                }
                Place::LineComment(last) => {
                    let end = memchr::memchr3(b'\r', b'\n', 0xe2, piece).unwrap_or(piece.len());
                    if last == LineEnd::None && end > 0 {
                        piece = piece.get(end..).unwrap_or_default();
                        continue;
                    }
                    self.line_comment(*byte, last)
                }
            };
            if sighting != Sighting::Clear {
                return sighting;
            }
            piece = rest;
        }
        Sighting::Clear
    }

    /// The body has ended. What has no end is not JSON to any parser, but some take a word.
    pub fn finish(&mut self, seeks: &Seeks) -> Sighting {
        let others = self.to_others.as_mut().map(|others| others.finish(seeks));
        let own = match self.place {
            Place::Word | Place::Text { .. } => self.text_ended(seeks),
            _ => Sighting::Clear,
        };
        first([Some(own), others])
    }

    fn start(&mut self, byte: u8) -> Sighting {
        match byte {
            0 | 0xfe | 0xff => self.wide = true,
            0xef | 0xbb | 0xbf => {}
            byte if byte.is_ascii_whitespace() => {}
            // `)]}'` and a line's end, which Gson and others pass over.
            b')' => self.guarded = true,
            b']' | b'}' | b'\'' | b',' if self.guarded => {}
            b'{' if self.wide => return WIDE,
            b'{' => {
                self.depth = 1;
                self.place = Place::Between;
            }
            // A comment may stand before the object.
            b'/' | b'#' if !self.wide => {
                self.place = Place::Between;
                return self.between(byte, &Seeks::default());
            }
            _ if self.named && !self.wide => {
                self.place = Place::Between;
                return self.between(byte, &Seeks::default());
            }
            _ => self.place = Place::Other,
        }
        Sighting::Clear
    }

    fn between(&mut self, byte: u8, seeks: &Seeks) -> Sighting {
        self.place = Place::Between;
        match byte {
            // Letters of two or four bytes (RFC 4627 section 3), which some parsers still take.
            0 => return WIDE,
            b'"' | b'\'' => self.text_begins(Place::Text { quote: byte, escape: Escape::None }),
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                if self.depth == 0 {
                    self.member = None;
                }
            }
            b':' | b'=' if self.depth == 1 && self.member.is_none() => {
                self.member = field_named(&self.name).filter(|field| seeks.seeks_in_body(*field)).map(HeldValue::new);
                self.name.clear();
            }
            b',' | b';' if self.depth == 1 => self.member = None,
            b'/' => self.place = Place::Slash,
            b'#' => self.place = Place::LineComment(LineEnd::None),
            b':' | b'=' | b',' | b';' | b'>' => {}
            byte if byte.is_ascii_whitespace() => {}
            byte => {
                self.text_begins(Place::Word);
                self.keep(&[byte]);
            }
        }
        Sighting::Clear
    }

    /// Ruby ends such a comment at a line feed alone, others at a carriage return, and JSON5 at a separator: one that only some of
    /// them end is refused.
    fn line_comment(&mut self, byte: u8, last: LineEnd) -> Sighting {
        let next = match (byte, last) {
            (b'\n', _) => {
                self.place = Place::Between;
                return Sighting::Clear;
            }
            (_, LineEnd::CarriageReturn) | (0xa8 | 0xa9, LineEnd::SeparatorGoesOn) => return COMMENT,
            (b'\r', _) => LineEnd::CarriageReturn,
            (0xe2, _) => LineEnd::Separator,
            (0x80, LineEnd::Separator) => LineEnd::SeparatorGoesOn,
            _ => LineEnd::None,
        };
        self.place = Place::LineComment(next);
        Sighting::Clear
    }

    fn text_begins(&mut self, place: Place) {
        self.place = place;
        self.name.clear();
        if let Some(value) = &mut self.member {
            value.begin_again();
        }
    }

    fn text_byte(&mut self, byte: u8, quote: u8, seeks: &Seeks) -> Sighting {
        match byte {
            b'\\' => {
                self.place = Place::Text { quote, escape: Escape::Backslash };
                Sighting::Clear
            }
            // A bare zero ends a text for some readers and is refused by the rest.
            0 => Sighting::Clear,
            _ => self.text_ended(seeks),
        }
    }

    fn escaped(&mut self, byte: u8, quote: u8, escape: Escape, seeks: &Seeks) -> Sighting {
        let mut next = Escape::None;
        match escape {
            Escape::Backslash => match byte {
                b'u' => next = Escape::Digits { missing: 4, value: 0, of: Of::U },
                b'x' => next = Escape::Digits { missing: 2, value: 0, of: Of::X },
                b'b' | b'f' => self.keep(b"\x0c"),
                b'n' => self.keep(b"\n"),
                b'r' => self.keep(b"\r"),
                b't' => self.keep(b"\t"),
                // A line that goes on.
                b'\n' | b'\r' => {}
                byte => self.keep(&[byte]),
            },
            Escape::Digits { missing, value, of } => {
                // To Ruby `\x` is an `x`, and what follows is text.
                if !byte.is_ascii_hexdigit() {
                    // Some take a sign, a blank or the digits of other scripts.
                    let is_lax = matches!(byte, b'+' | b'-' | b'_' | b' ' | b'x' | b'X') || !byte.is_ascii();
                    if of == Of::U && is_lax && self.depth == 1 {
                        return DIGITS;
                    }
                    self.place = Place::Text { quote, escape: Escape::None };
                    if byte == quote || byte == b'\\' || byte == 0 {
                        return self.text_byte(byte, quote, seeks);
                    }
                    self.keep(&[byte]);
                    return Sighting::Clear;
                }
                if let Some(digit) = char::from(byte).to_digit(16) {
                    let value = value << 4 | digit;
                    if missing > 1 {
                        next = Escape::Digits { missing: missing - 1, value, of };
                    } else if of == Of::X && self.member.is_some() {
                        return LETTER;
                    } else if let Some(c) = char::from_u32(value) {
                        self.keep(c.encode_utf8(&mut [0; 4]).as_bytes());
                    }
                }
            }
            Escape::None => {}
        }
        self.place = Place::Text { quote, escape: next };
        Sighting::Clear
    }

    fn keep(&mut self, bytes: &[u8]) {
        match &mut self.member {
            Some(value) => value.push(bytes),
            None if self.depth == 1 => keep_name(&mut self.name, bytes),
            None => {}
        }
    }

    fn text_ended(&mut self, seeks: &Seeks) -> Sighting {
        self.place = Place::Between;
        match &self.member {
            Some(value) => seeks.judge(value),
            None => Sighting::Clear,
        }
    }
}

const WIDE: Sighting = Sighting::Unreadable("JSON in UTF-16 or UTF-32");
const COMMENT: Sighting = Sighting::Unreadable("JSON with a comment that some readers end earlier than others");
const LETTER: Sighting = Sighting::Unreadable("JSON with an escape that some readers undo and others take for letters");
const DIGITS: Sighting = Sighting::Unreadable("JSON with an escape of digits that only some readers take for such");
const OVERLONG: Sighting = Sighting::Unreadable("JSON with letters in longer forms than UTF-8 has");

/// Whether a piece, behind a byte, has a letter in a form that is longer than it need be (RFC 3629 section 3). Jackson takes those.
fn is_overlong(before: u8, piece: &[u8]) -> bool {
    let opens = |lead: u8, next: u8| {
        matches!((lead, next), (0xc0 | 0xc1, 0x80..=0xbf) | (0xe0, 0x80..=0x9f) | (0xf0, 0x80..=0x8f))
    };
    if piece.first().is_some_and(|next| opens(before, *next)) {
        return true;
    }
    let leads = memchr::memchr3_iter(0xc0, 0xc1, 0xe0, piece).chain(memchr::memchr_iter(0xf0, piece));
    leads
        .into_iter()
        .any(|at| matches!((piece.get(at), piece.get(at + 1)), (Some(lead), Some(next)) if opens(*lead, *next)))
}
