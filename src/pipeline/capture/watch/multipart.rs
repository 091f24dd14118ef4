//! Watches a multipart body go by for parts by which an app may log a person in.
//!
//! Readers agree on a body that is written to the letter of RFC 2046 and RFC 7578: one boundary, lines that end with CRLF, the
//! boundary nowhere but alone on its line. On every other they differ (PHP takes what merely begins with the boundary, Rack
//! once took it in the middle of a line, some take a line feed for an end), so it is refused.

use memchr::memmem::Finder;

use super::value::HeldValue;
use super::{Seeks, Sighting};
use crate::pipeline::capture::fields::{Field, field_named};
use crate::pipeline::reading::media;

/// The longest head of a part. Servers allow 4 to 16 KiB.
const MAX_HEAD: usize = 8 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Before the first boundary, in a part, or behind the last.
    Content,
    /// Behind a boundary, before the end of its line.
    Boundary,
    Head,
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
    value: Option<HeldValue>,
}

impl MultipartScan {
    pub fn new(boundary: &str) -> Self {
        let delimiter = Finder::new(format!("--{boundary}").as_bytes()).into_owned();
        Self { delimiter, place: Place::Content, pending: Vec::new(), looked_at: 0, at_start: true, value: None }
    }

    /// Bytes that are held.
    pub fn held(&self) -> usize {
        self.pending.capacity() + self.value.as_ref().map_or(0, HeldValue::held)
    }

    /// The value that is being read.
    pub fn values(&self) -> impl Iterator<Item = &HeldValue> {
        self.value.iter()
    }

    /// Reads the next piece.
    pub fn read(&mut self, piece: &[u8], seeks: &Seeks) -> Sighting {
        self.pending.extend_from_slice(piece);
        loop {
            let step = match self.place {
                Place::Content => self.content(seeks),
                Place::Boundary => self.boundary(),
                Place::Head => self.head(seeks),
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
        if self.place == Place::Content
            && let Some(value) = &mut self.value
        {
            value.push(&self.pending);
            return seeks.judge(value);
        }
        // A head that some reader has seen the end of.
        if self.place == Place::Head && self.pending.len() > 2 { UNCLEAR } else { Sighting::Clear }
    }

    fn content(&mut self, seeks: &Seeks) -> Step {
        let Some(at) = self.delimiter.find(&self.pending) else {
            // The end may be the beginning of a boundary, with its line break.
            let keep = (self.delimiter.needle().len() + 1).min(self.pending.len());
            let passed = self.pending.len() - keep;
            if passed > 0 {
                self.pass(passed);
            }
            return Step::More;
        };
        let stands_alone = match self.pending.get(..at) {
            Some([]) => self.at_start,
            Some(before) => before.ends_with(b"\r\n"),
            None => false,
        };
        if !stands_alone {
            return Step::Stop(UNCLEAR);
        }
        self.pass(at);
        let sighting = self.value.take().map_or(Sighting::Clear, |value| seeks.judge(&value));
        if sighting != Sighting::Clear {
            return Step::Stop(sighting);
        }
        self.take(self.delimiter.needle().len());
        self.place = Place::Boundary;
        Step::On
    }

    /// The rest of a boundary's line: nothing, or the two hyphens of the last one.
    fn boundary(&mut self) -> Step {
        let blanks = self.pending.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        match self.pending.get(blanks..).unwrap_or_default() {
            [b'\r', b'\n', ..] => {
                // The line break stays: it is the first of the two that end an empty head.
                self.take(blanks);
                self.place = Place::Head;
                Step::On
            }
            [b'-', b'-', ..] if blanks == 0 => {
                self.take(2);
                self.place = Place::Content;
                Step::On
            }
            [] | [b'\r' | b'-'] if blanks < 64 => Step::More,
            _ => Step::Stop(UNCLEAR),
        }
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
                Some(b'\r') => known.get(at + 1).is_none_or(|next| *next == b'\n'),
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
        if self.delimiter.find(head).is_some() {
            return Step::Stop(UNCLEAR);
        }
        let part = Part::read(&String::from_utf8_lossy(head), seeks.any_in_body());
        if part.sets_charset {
            return Step::Stop(Sighting::Unreadable("a part that says how the others are encoded"));
        }
        let field = part.field.filter(|field| seeks.seeks_in_body(*field));
        if field.is_some() && part.is_encoded {
            return Step::Stop(Sighting::Unreadable("a part in an encoding of its own"));
        }
        self.value = field.map(HeldValue::new);
        // The second line break stays: it may be the one before the next boundary.
        self.take(end + 2);
        self.looked_at = 0;
        self.place = Place::Content;
        Step::On
    }

    /// Content that belongs to the part.
    fn pass(&mut self, length: usize) {
        if let Some(value) = &mut self.value {
            value.push(self.pending.get(..length).unwrap_or_default());
        }
        self.take(length);
    }

    fn take(&mut self, length: usize) {
        self.pending.drain(..length.min(self.pending.len()));
        self.at_start &= length == 0;
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
struct Part {
    /// The field that some reader takes it for.
    field: Option<Field>,
    /// Whether the value is written otherwise than as it stands.
    is_encoded: bool,
    /// It is named `_charset_` (HTML, RFC 7578 section 4.6).
    sets_charset: bool,
}

impl Part {
    /// `any` is what a name counts as that may be any.
    fn read(head: &str, any: Option<Field>) -> Self {
        let unfolded = head.replace("\r\n ", " ").replace("\r\n\t", " ");
        let mut part = Self { field: None, is_encoded: false, sets_charset: false };
        let (mut dispositions, mut others) = (Vec::new(), Vec::new());
        let mut is_odd = unfolded.contains(is_other_break);
        for line in unfolded.split("\r\n").filter(|line| !line.is_empty()) {
            let Some((name, value)) = line.split_once(':') else {
                is_odd = true;
                continue;
            };
            // Rack looks for these anywhere in the head.
            is_odd |= holds_name(value) || (holds_name(name) && !is_name(name));
            match name.trim().to_ascii_lowercase().as_str() {
                "content-disposition" => dispositions.push(value),
                // Rack's names for a part that has no other.
                "content-id" => others.push(value),
                "content-transfer-encoding" => {
                    let plain = ["7bit", "8bit", "binary"].iter().any(|plain| value.trim().eq_ignore_ascii_case(plain));
                    part.is_encoded |= !plain;
                }
                "content-type" => {
                    others.push(value);
                    part.is_encoded |= media::has_foreign_charset(value.as_bytes());
                }
                _ => {}
            }
        }
        part.sets_charset = dispositions.iter().any(|value| value.to_ascii_lowercase().contains("_charset_"));
        let by_others = others.iter().find_map(|value| field_named(value.trim_matches(LOOSE).as_bytes()));
        let named = dispositions.iter().find_map(|value| named(value, any)).or(by_others);
        is_odd |= dispositions.len() > 1 || !dispositions.iter().all(|value| is_plain(value));
        // What is written so that readers find other names in it may have any: its value is looked into.
        part.field = named.or(any.filter(|_| is_odd));
        part
    }
}

/// What ends a line for some readers, beside a line feed: Python's `splitlines`.
fn is_other_break(letter: char) -> bool {
    matches!(letter, '\u{1}'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{7f}' | '\u{85}' | '\u{2028}' | '\u{2029}' | '\u{fffd}')
}

const NAMES: [&str; 2] = ["content-disposition", "content-id"];

fn holds_name(text: &str) -> bool {
    let folded = text.to_ascii_lowercase();
    NAMES.iter().any(|name| folded.contains(name))
}

fn is_name(name: &str) -> bool {
    NAMES.iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// Whether a Content-Disposition is written to the letter (RFC 2183 section 2, RFC 7578 section 4.2): a word, then parameters whose
/// values are words, or quoted and ended by their quote.
fn is_plain(disposition: &str) -> bool {
    let is_word = |text: &str| {
        !text.is_empty()
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~[]".contains(&byte))
    };
    let (kind, mut rest) = disposition.split_once(';').map_or((disposition, None), |(kind, rest)| (kind, Some(rest)));
    if !is_word(kind.trim_matches([' ', '\t'])) {
        return false;
    }
    while let Some(parameters) = rest {
        let parameters = parameters.trim_start_matches([' ', '\t']);
        if parameters.is_empty() {
            return true;
        }
        let Some((name, value)) = parameters.split_once('=') else { return false };
        if !is_word(name.trim_end_matches([' ', '\t'])) {
            return false;
        }
        let value = value.trim_start_matches([' ', '\t']);
        let after = match value.strip_prefix('"') {
            // Its end is the first quote that no backslash stands before; browsers write `%22`, older clients `\"`.
            Some(quoted) => {
                let ends = |(at, _): &(usize, &str)| {
                    let before = quoted.get(..*at).unwrap_or_default();
                    (before.len() - before.trim_end_matches('\\').len()) % 2 == 0
                };
                let Some((end, _)) = quoted.match_indices('"').find(ends) else { return false };
                quoted.get(end + 1..).unwrap_or_default()
            }
            None => {
                let word = value.split([';', ' ', '\t']).next().unwrap_or_default();
                if !is_word(word) {
                    return false;
                }
                value.get(word.len()..).unwrap_or_default()
            }
        };
        let after = after.trim_start_matches([' ', '\t']);
        rest = match after.strip_prefix(';') {
            Some(rest) => Some(rest),
            None if after.is_empty() => None,
            None => return false,
        };
    }
    true
}

/// What some reader strips from a name.
const LOOSE: [char; 6] = [' ', '\t', '"', '\'', '<', '>'];

/// The field that a Content-Disposition names: by `name`, however often it is there, and where there is none, or an empty one, by
/// `filename` (Rack). A name in an extended notation (RFC 2231, RFC 2047) may be any.
fn named(disposition: &str, any: Option<Field>) -> Option<Field> {
    let folded = disposition.to_ascii_lowercase();
    let (mut field, mut of_file, mut extended, mut has_name) = (None, None, false, false);
    let mut extended_file = false;
    for (at, _) in folded.match_indices("name") {
        let is_file = folded.get(..at).is_some_and(|before| before.ends_with("file"));
        let Some(behind) = disposition.get(at + "name".len()..).map(str::trim_start) else { continue };
        extended |= !is_file && behind.starts_with('*');
        extended_file |= is_file && behind.starts_with('*');
        let Some(value) = behind.strip_prefix('=').map(str::trim_start) else { continue };
        let read = || readings(value).iter().find_map(|name| field_named(name.as_bytes()));
        if is_file {
            of_file = of_file.or_else(read);
        } else {
            has_name |= readings(value).iter().any(|name| !name.is_empty());
            extended |= value.trim_start_matches(LOOSE).starts_with("=?");
            field = field.or_else(read);
        }
    }
    let is_extended = extended || (extended_file && !has_name);
    field.or(of_file.filter(|_| !has_name)).or(any.filter(|_| is_extended))
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
