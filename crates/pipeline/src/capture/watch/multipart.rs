//! Watches a multipart body go by for parts by which an app may log a person in.
//!
//! Readers agree on a body that is written to the letter of RFC 2046 and RFC 7578: one boundary, lines that end with CRLF, the
//! boundary nowhere but alone on its line, a head in every part, nothing behind the last boundary. On every other they differ (PHP
//! takes what merely begins with the boundary, Rack once took it in the middle of a line and reads on behind a last boundary that
//! comes first, some take a line feed for an end or pass over an empty head), so it is refused.
//!
//! A part whose head is not written to the letter may have any name: its value is looked into.

use std::ops::Range;

use memchr::memmem::Finder;

use super::json::JsonScan;
use super::value::HeldValue;
use super::{Seeks, Sighting};
use crate::capture::fields::{Field, field_named};
use crate::reading::media;

/// The longest head of a part. Servers allow 4 to 16 KiB.
const MAX_HEAD: usize = 8 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Before the first boundary, or in a part.
    Content,
    /// Behind a boundary, before the end of its line.
    Boundary,
    Head,
    /// Behind the last boundary.
    Ended,
}

/// Watches one body. Holds a boundary's length of it, the head of a part, and the value of one that is looked into.
#[derive(Debug)]
pub struct MultipartScan {
    /// `--` and the boundary.
    delimiter: Finder<'static>,
    place: Place,
    /// What arrived and is not looked at yet.
    pending: Vec<u8>,
    /// How much of a head was looked at.
    looked_at: usize,
    /// Whether `pending` begins where the body does.
    at_start: bool,
    /// Whether no boundary came yet. Nothing may stand before the first: some read the whole as a form then (mod_auth_mellon).
    before_all: bool,
    /// Whether `pending` begins with the line break behind a part's head.
    at_content: bool,
    value: Option<HeldValue>,
    /// The value of a field as JSON, and what was seen in it.
    json: Option<(JsonScan, Sighting)>,
    /// How many bytes were read.
    read: u64,
    /// Where the content begins, if this is one.
    content_from: u64,
}

impl MultipartScan {
    pub fn new(boundary: &str) -> Self {
        let delimiter = Finder::new(format!("--{boundary}").as_bytes()).into_owned();
        let (place, pending) = (Place::Content, Vec::new());
        Self {
            delimiter,
            place,
            pending,
            looked_at: 0,
            at_start: true,
            before_all: true,
            at_content: false,
            value: None,
            json: None,
            read: 0,
            content_from: 0,
        }
    }

    /// Bytes that are held.
    pub fn held(&self) -> usize {
        self.pending.capacity() + self.values().map(HeldValue::held).sum::<usize>()
    }

    /// The value that is being read.
    pub fn values(&self) -> impl Iterator<Item = &HeldValue> {
        self.value.iter().chain(self.json.iter().flat_map(|(scan, _)| scan.values()))
    }

    /// Where in the body a reader may find something put in between and see the same parts, unless what follows looks like a boundary:
    /// within the content that is being read, before the first boundary, or behind the last.
    pub fn gaps(&self) -> Range<u64> {
        let until = self.read.saturating_sub(self.pending.len() as u64);
        match self.place {
            Place::Content | Place::Ended => self.content_from..until.max(self.content_from) + 1,
            Place::Boundary | Place::Head => 0..0,
        }
    }

    /// Reads the next piece.
    pub fn read(&mut self, piece: &[u8], seeks: &Seeks) -> Sighting {
        self.read += piece.len() as u64;
        self.pending.extend_from_slice(piece);
        loop {
            let step = match self.place {
                Place::Content => self.in_content(seeks),
                Place::Boundary => self.boundary(),
                Place::Head => self.head(seeks),
                Place::Ended => self.ended(),
            };
            match step {
                Step::On => {}
                Step::More => break,
                Step::Stop(sighting) => return sighting,
            }
        }
        // What a large piece took is not kept while the next one is awaited.
        if self.pending.capacity() > 2 * MAX_HEAD {
            self.pending.shrink_to(self.pending.len());
        }
        Sighting::Clear
    }

    /// The body has ended.
    pub fn finish(&mut self, seeks: &Seeks) -> Sighting {
        // Without its last boundary a part is one to some readers all the same.
        if self.place == Place::Content {
            self.pass(self.pending.len(), seeks);
            return self.content_ended(seeks);
        }
        // A head that some reader has seen the end of.
        if self.place == Place::Head && self.pending.len() > 2 { UNCLEAR } else { Sighting::Clear }
    }

    fn in_content(&mut self, seeks: &Seeks) -> Step {
        if self.before_all && self.has_preamble() {
            return Step::Stop(UNCLEAR);
        }
        let Some(at) = self.delimiter.find(&self.pending) else {
            if self.before_all {
                return Step::More;
            }
            // The end may be the beginning of a boundary, with its line break.
            let keep = (self.delimiter.needle().len() + 1).min(self.pending.len());
            let passed = self.pending.len() - keep;
            if passed > 0 {
                self.pass(passed, seeks);
            }
            return match self.json {
                Some((_, seen)) if seen != Sighting::Clear => Step::Stop(seen),
                _ => Step::More,
            };
        };
        let stands_alone = match self.pending.get(..at) {
            Some([]) => self.at_start,
            Some(before) => before.ends_with(b"\r\n"),
            None => false,
        };
        // Behind a head's empty line some see a boundary at once, and some only behind a line break of its own, which every client writes.
        let is_disputed = self.at_content && at == 2;
        if !stands_alone || is_disputed {
            return Step::Stop(UNCLEAR);
        }
        self.pass(at, seeks);
        let sighting = self.content_ended(seeks);
        if sighting != Sighting::Clear {
            return Step::Stop(sighting);
        }
        self.take(self.delimiter.needle().len());
        self.before_all = false;
        self.place = Place::Boundary;
        Step::On
    }

    /// Whether something other than blanks stands before the first boundary.
    fn has_preamble(&self) -> bool {
        let start = self.pending.trim_ascii_start();
        let needle = self.delimiter.needle();
        start.get(..needle.len()).map_or(!needle.starts_with(start), |start| start != needle)
    }

    /// The rest of a boundary's line: nothing, or the two hyphens of the last one. RFC 2046 allows blanks, which no client writes.
    fn boundary(&mut self) -> Step {
        match self.pending.as_slice() {
            [b'\r', b'\n', ..] => {
                // The line break stays: it is the first of the two that end an empty head.
                self.place = Place::Head;
                Step::On
            }
            [b'-', b'-', ..] => {
                self.take(2);
                self.content_from = self.read.saturating_sub(self.pending.len() as u64);
                self.place = Place::Ended;
                Step::On
            }
            [] | [b'\r' | b'-'] => Step::More,
            _ => Step::Stop(UNCLEAR),
        }
    }

    fn ended(&mut self) -> Step {
        if !self.pending.iter().all(u8::is_ascii_whitespace) {
            return Step::Stop(UNCLEAR);
        }
        self.take(self.pending.len());
        Step::More
    }

    fn head(&mut self, seeks: &Seeks) -> Step {
        // From where the last look stopped, less what may be half of something.
        let from = self.looked_at.saturating_sub(4);
        let new = self.pending.get(from..).unwrap_or_default();
        let end = memchr::memmem::find(new, b"\r\n\r\n").map(|end| from + end).filter(|end| *end <= MAX_HEAD);
        // Some take any line break for one, and see the end of the head there: told before it goes on.
        let known = self.pending.get(..end.unwrap_or(self.pending.len())).unwrap_or_default();
        let fresh = known.get(from..).unwrap_or_default();
        let lines_end_well =
            memchr::memchr2_iter(b'\r', b'\n', fresh).map(|at| from + at).all(|at| match known.get(at) {
                // At the end of what has arrived the next byte tells; at the end of a head it would be a line break of its own.
                Some(b'\r') => known.get(at + 1).map_or(end.is_none(), |next| *next == b'\n'),
                _ => at > 0 && known.get(at - 1) == Some(&b'\r'),
            });
        if !lines_end_well || fresh.contains(&0) {
            return Step::Stop(UNCLEAR);
        }
        self.looked_at = self.pending.len();
        let Some(end) = end else {
            return if self.pending.len() > MAX_HEAD { Step::Stop(UNCLEAR) } else { Step::More };
        };
        let head = self.pending.get(..end).unwrap_or_default();
        // Some pass over an empty line before a head, and some take a line of blanks for an empty one.
        let has_empty_line =
            end == 0 || head.split(|byte| *byte == b'\n').skip(1).any(|line| line.trim_ascii().is_empty());
        if has_empty_line || self.delimiter.find(head).is_some() {
            return Step::Stop(UNCLEAR);
        }
        let part = Part::read(&String::from_utf8_lossy(head));
        if part.sets_charset {
            return Step::Stop(Sighting::Unreadable("a part that says how the others are encoded"));
        }
        if part.is_compressed {
            return Step::Stop(Sighting::Unreadable("a part with a content encoding"));
        }
        let named = part.field.filter(|field| seeks.seeks_in_body(*field));
        self.value = match (named, part.may_be_any) {
            (named, false) => named.map(HeldValue::new),
            (named, true) => named.or_else(|| seeks.any_in_body()).map(HeldValue::of_any),
        };
        self.json = part.is_field.then(|| (JsonScan::new(false), Sighting::Clear));
        // Servlets decode a field by the charset of its part (Jetty), Go by its transfer encoding.
        let is_recoded = part.is_recoded && part.is_field && seeks.stray.is_some();
        if is_recoded || (self.value.is_some() && (part.is_recoded || part.is_nested)) {
            return Step::Stop(Sighting::Unreadable("a part in an encoding of its own"));
        }
        // The second line break stays: it may be the one before the next boundary.
        self.take(end + 2);
        self.content_from = self.read.saturating_sub(self.pending.len() as u64) + 2;
        self.looked_at = 0;
        self.at_content = true;
        self.place = Place::Content;
        Step::On
    }

    /// Content that belongs to the part.
    fn pass(&mut self, length: usize, seeks: &Seeks) {
        let content = self.pending.get(..length).unwrap_or_default();
        if let Some(value) = &mut self.value {
            value.push(content);
        }
        if let Some((scan, seen)) = &mut self.json {
            *seen = super::first([Some(*seen), Some(scan.read(content, seeks))]);
        }
        self.take(length);
    }

    fn content_ended(&mut self, seeks: &Seeks) -> Sighting {
        let value = self.value.take().map(|value| seeks.judge(&value));
        let json = self.json.take().map(|(mut scan, seen)| super::first([Some(seen), Some(scan.finish(seeks))]));
        super::first([value, json])
    }

    fn take(&mut self, length: usize) {
        self.pending.drain(..length.min(self.pending.len()));
        self.at_start &= length == 0;
        self.at_content &= length == 0;
    }
}

enum Step {
    On,
    /// What is pending is not enough to go on.
    More,
    Stop(Sighting),
}

const UNCLEAR: Sighting = Sighting::Unreadable("parts that can be told apart in more than one way");

/// What the head of a part says.
#[derive(Default)]
struct Part {
    /// The field that some reader takes it for.
    field: Option<Field>,
    /// Whether it is written so that readers find other names in it, which may be any.
    may_be_any: bool,
    /// Whether the value is written otherwise than as it stands.
    is_recoded: bool,
    /// Parts within a part have its name.
    is_nested: bool,
    /// It is a field of a form, and not a file.
    is_field: bool,
    /// It has a content encoding, which no form-data has (RFC 7578 section 4.8) and aiohttp undoes.
    is_compressed: bool,
    /// It is named `_charset_` (HTML, RFC 7578 section 4.6).
    sets_charset: bool,
}

const DISPOSITION: &str = "content-disposition";
const ID: &str = "content-id";
const TYPE: &str = "content-type";

impl Part {
    fn read(head: &str) -> Self {
        let unfolded = head.replace("\r\n ", " ").replace("\r\n\t", " ");
        let mut part = Self::default();
        let mut dispositions = Vec::new();
        let mut is_odd = unfolded.contains(is_other_break);
        let mut by_others = None;
        for line in unfolded.split("\r\n").filter(|line| !line.is_empty()) {
            let Some((name, value)) = line.split_once(':') else {
                is_odd = true;
                continue;
            };
            is_odd |= !is_token(name);
            let name = name.trim().to_ascii_lowercase();
            let folded = value.to_ascii_lowercase();
            // Rack looks for these anywhere in the head.
            is_odd |= [DISPOSITION, ID, TYPE]
                .iter()
                .any(|known| folded.contains(known) || (name.contains(known) && name != *known));
            is_odd |= name != DISPOSITION && folded.contains("filename");
            match name.as_str() {
                DISPOSITION => dispositions.push(value),
                // Rack's names for a part that has no other.
                ID => by_others = by_others.or_else(|| field_named(value.trim_matches(LOOSE).as_bytes())),
                TYPE => {
                    by_others = by_others.or_else(|| field_named(value.trim_matches(LOOSE).as_bytes()));
                    is_odd |= !is_media_type(value);
                    part.is_recoded |= media::has_foreign_charset(value.as_bytes());
                    part.is_nested |= folded.contains("multipart");
                }
                "content-transfer-encoding" => {
                    let plain = ["7bit", "8bit", "binary"].iter().any(|plain| value.trim().eq_ignore_ascii_case(plain));
                    part.is_recoded |= !plain;
                }
                "content-encoding" => part.is_compressed |= !value.trim().eq_ignore_ascii_case("identity"),
                _ => {}
            }
        }
        part.sets_charset = dispositions.iter().any(|value| value.to_ascii_lowercase().contains("_charset_"));
        let says = |word: &str| dispositions.iter().any(|value| value.to_ascii_lowercase().contains(word));
        let is_file =
            || dispositions.iter().all(|value| is_plain(value)) && dispositions.iter().any(|value| names_a_file(value));
        part.is_field = says("name") && !is_file();
        is_odd |= dispositions.len() > 1 || !dispositions.iter().all(|value| is_plain(value));
        part.may_be_any = is_odd;
        part.field = dispositions.iter().find_map(|value| named(value)).or(by_others);
        part
    }
}

/// What ends a line for some readers, besides a line feed: Python's `splitlines`.
fn is_other_break(letter: char) -> bool {
    matches!(letter, '\u{1}'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{7f}' | '\u{85}' | '\u{2028}' | '\u{2029}' | '\u{fffd}')
}

/// A name of a header (RFC 9110 section 5.6.2).
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

fn is_media_type(text: &str) -> bool {
    let essence = text.split(';').next().unwrap_or_default().trim_matches([' ', '\t']);
    essence.split_once('/').is_some_and(|(kind, subtype)| is_token(kind) && is_token(subtype))
}

/// More parameters than honest clients write; Rack stops at 16.
const MOST_PARAMETERS: usize = 8;

/// Whether a Content-Disposition is written so that every reader finds the same name in it (RFC 2183 section 2, RFC 7578 section 4.2): a
/// word, then parameters whose values are words, or quoted and ended by their quote; one name that is not empty, or none.
fn is_plain(disposition: &str) -> bool {
    let (kind, mut rest) = disposition.split_once(';').map_or((disposition, None), |(kind, rest)| (kind, Some(rest)));
    if !is_word(kind.trim_matches([' ', '\t'])) {
        return false;
    }
    let (mut count, mut names, mut files, mut extended) = (0, 0, 0, 0);
    while let Some(parameters) = rest {
        let parameters = parameters.trim_start_matches([' ', '\t']);
        if parameters.is_empty() {
            break;
        }
        let Some((name, value)) = parameters.split_once('=') else { return false };
        let (is_quoted, value, after) = match value.strip_prefix('"') {
            Some(quoted) => match quoted_end(quoted).and_then(|end| Some((quoted.get(..end)?, quoted.get(end + 1..)?)))
            {
                Some((value, after)) => (true, value, after),
                None => return false,
            },
            None => {
                let end = value.find([';', ' ', '\t']).unwrap_or(value.len());
                let (value, after) = value.split_at(end);
                (false, value, after)
            }
        };
        count += 1;
        let is_fit = match name.to_ascii_lowercase().as_str() {
            "name" => {
                names += 1;
                // Rack looks for it as far as the first colon.
                let before = disposition.len() - parameters.len();
                let has_colon = disposition.get(..before).is_none_or(|before| before.contains(':'));
                !has_colon && !value.trim().is_empty() && !value.contains('\\') && !value.starts_with("=?")
            }
            "filename" => {
                files += 1;
                true
            }
            "filename*" => {
                extended += 1;
                !is_quoted && is_extended_value(value)
            }
            other => is_word(other) && !other.contains("name"),
        };
        let is_value = if is_quoted { !holds_name(value) } else { is_word(value) || name.ends_with('*') };
        let after = after.trim_start_matches([' ', '\t']);
        rest = after.strip_prefix(';');
        if !is_fit || !is_value || count > MOST_PARAMETERS || (rest.is_none() && !after.is_empty()) {
            return false;
        }
    }
    files <= 1 && extended <= 1 && (names == 1 || (names == 0 && extended == 0))
}

/// Whether a plain disposition names a file to every reader: some take a part for a field whose file name is empty (Django, Go), has only
/// separators (aiohttp), or is written in the extended form alone (Jetty).
fn names_a_file(disposition: &str) -> bool {
    let folded = disposition.to_ascii_lowercase();
    folded.split(';').filter_map(|parameter| parameter.trim().strip_prefix("filename=")).any(|name| {
        let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
        last.chars().any(char::is_alphanumeric)
    })
}

/// Letters that every reader takes for part of a word without quotes.
fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&+-.^_`|~[]{}".contains(&byte))
}

/// Where a quoted text ends: at the first quote that no backslash stands before; browsers write `%22`, older clients `\"`. Behind two
/// backslashes readers differ.
fn quoted_end(quoted: &str) -> Option<usize> {
    let bytes = quoted.as_bytes();
    for at in memchr::memchr_iter(b'"', bytes) {
        let before = bytes.get(..at).unwrap_or_default();
        let backslashes = before.iter().rev().take_while(|byte| **byte == b'\\').count();
        match backslashes {
            0 => return Some(at),
            1 => {}
            _ => return None,
        }
    }
    None
}

/// RFC 8187 section 3.2. PHP takes the two quotes for a pair.
fn is_extended_value(value: &str) -> bool {
    let mut parts = value.split('\'');
    let charset = parts.next().unwrap_or_default();
    let (language, text) = (parts.next(), parts.next());
    let is_known = ["utf-8", "iso-8859-1"].iter().any(|known| charset.eq_ignore_ascii_case(known));
    let is_plain = |text: &str| text.is_empty() || is_word(text);
    is_known && language.is_some_and(is_plain) && text.is_some_and(is_plain) && parts.next().is_none()
}

/// Whether a quoted value holds what a reader that overlooks quotes takes for a name.
fn holds_name(value: &str) -> bool {
    let folded = value.to_ascii_lowercase();
    folded.match_indices("name").any(|(at, name)| {
        let behind = folded.get(at + name.len()..).unwrap_or_default();
        behind.trim_start().starts_with(['=', '*'])
    })
}

/// What some reader strips from a name.
const LOOSE: [char; 6] = [' ', '\t', '"', '\'', '<', '>'];

/// The field that a Content-Disposition names: by `name`, however often it is there, and where there is none, or an empty one, by
/// `filename` (Rack).
fn named(disposition: &str) -> Option<Field> {
    let folded = disposition.to_ascii_lowercase();
    let (mut field, mut of_file, mut has_name) = (None, None, false);
    for (at, _) in folded.match_indices("name") {
        let is_file = folded.get(..at).is_some_and(|before| before.ends_with("file"));
        let behind = disposition.get(at + "name".len()..).map(str::trim_start);
        let Some(value) = behind.and_then(|behind| behind.strip_prefix('=')).map(str::trim_start) else { continue };
        let read = || readings(value).iter().find_map(|name| field_named(name.as_bytes()));
        if is_file {
            of_file = of_file.or_else(read);
        } else {
            has_name |= readings(value).iter().any(|name| !name.is_empty());
            field = field.or_else(read);
        }
    }
    field.or(of_file.filter(|_| !has_name))
}

/// What readers make of a parameter's value: quoted with or without escapes, or a word.
fn readings(value: &str) -> Vec<String> {
    let Some(quoted) = value.strip_prefix('"') else {
        let word = value.split([';', ',', ' ', '\t']).next().unwrap_or_default();
        return vec![word.trim_matches(LOOSE).to_owned()];
    };
    let (mut plain, mut escaped) = (String::new(), false);
    for c in quoted.chars() {
        match c {
            '\\' if !escaped => escaped = true,
            '"' if !escaped => break,
            c => {
                plain.push(c);
                escaped = false;
            }
        }
    }
    vec![plain, quoted.split('"').next().unwrap_or_default().to_owned()]
}
