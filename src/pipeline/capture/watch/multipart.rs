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
    /// Whether `pending` begins where the body does.
    at_start: bool,
    value: Option<HeldValue>,
}

impl MultipartScan {
    pub fn new(boundary: &str) -> Self {
        let delimiter = Finder::new(format!("--{boundary}").as_bytes()).into_owned();
        Self { delimiter, place: Place::Content, pending: Vec::new(), at_start: true, value: None }
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
        Sighting::Clear
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
        let end = memchr::memmem::find(&self.pending, b"\r\n\r\n");
        let Some(end) = end.filter(|end| *end <= MAX_HEAD) else {
            return if self.pending.len() > MAX_HEAD { Step::Stop(UNCLEAR) } else { Step::More };
        };
        let head = self.pending.get(..end).unwrap_or_default();
        let lines_end_well = memchr::memchr2_iter(b'\r', b'\n', head).all(|at| match head.get(at) {
            Some(b'\r') => head.get(at + 1) == Some(&b'\n'),
            _ => at > 0 && head.get(at - 1) == Some(&b'\r'),
        });
        if !lines_end_well || head.contains(&0) || self.delimiter.find(head).is_some() {
            return Step::Stop(UNCLEAR);
        }
        let part = Part::read(&String::from_utf8_lossy(head), seeks.any_in_body());
        let field = part.field.filter(|field| seeks.seeks_in_body(*field));
        if field.is_some() && part.is_encoded {
            return Step::Stop(Sighting::Unreadable("a part in an encoding of its own"));
        }
        self.value = field.map(HeldValue::new);
        // The second line break stays: it may be the one before the next boundary.
        self.take(end + 2);
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
}

impl Part {
    /// `any` is what a name counts as that may be any.
    fn read(head: &str, any: Option<Field>) -> Self {
        let unfolded = head.replace("\r\n ", " ").replace("\r\n\t", " ");
        let mut part = Self { field: None, is_encoded: false };
        for line in unfolded.split("\r\n") {
            let Some((name, value)) = line.split_once(':') else { continue };
            match name.trim().to_ascii_lowercase().as_str() {
                "content-disposition" => part.field = part.field.or_else(|| named(value, any)),
                // Rack's name for a part that has no other.
                "content-id" => part.field = part.field.or_else(|| field_named(value.trim_matches(LOOSE).as_bytes())),
                "content-transfer-encoding" => {
                    let plain = ["7bit", "8bit", "binary"].iter().any(|plain| value.trim().eq_ignore_ascii_case(plain));
                    part.is_encoded |= !plain;
                }
                "content-type" => part.is_encoded |= media::has_foreign_charset(value.as_bytes()),
                _ => {}
            }
        }
        part
    }
}

/// What some reader strips from a name.
const LOOSE: [char; 6] = [' ', '\t', '"', '\'', '<', '>'];

/// The field that a Content-Disposition names: by `name`, however often it is there, and where there is none by `filename`
/// (Rack). A name in an extended notation (RFC 2231, RFC 2047) may be any.
fn named(disposition: &str, any: Option<Field>) -> Option<Field> {
    let folded = disposition.to_ascii_lowercase();
    let (mut field, mut of_file, mut extended, mut has_name) = (None, None, false, false);
    for (at, _) in folded.match_indices("name") {
        let is_file = folded.get(..at).is_some_and(|before| before.ends_with("file"));
        let Some(behind) = disposition.get(at + "name".len()..).map(str::trim_start) else { continue };
        extended |= !is_file && behind.starts_with('*');
        let Some(value) = behind.strip_prefix('=').map(str::trim_start) else { continue };
        let read = || readings(value).iter().find_map(|name| field_named(name.as_bytes()));
        if is_file {
            of_file = of_file.or_else(read);
        } else {
            has_name = true;
            extended |= value.trim_start_matches(LOOSE).starts_with("=?");
            field = field.or_else(read);
        }
    }
    field.or(of_file.filter(|_| !has_name)).or(any.filter(|_| extended))
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
