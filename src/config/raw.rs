//! The TOML as written: a tree for what is small, bare fields for what is many.
//!
//! A file may hold a hundred thousand `[[mapping]]` entries, and a tree of them takes twenty times the room of the text.
//! Nearly all look the same: a header and lines of `key = "text"`. Such entries are read as they stand, without a tree;
//! everything else, also an entry that has anything unusual in it, is left to the TOML parser, which so stays the judge
//! of what is TOML:
//!
//! ```text
//! [[mapping]]                     plain: a Record
//! claim = "groups"
//! [[mapping]]                     an escape: to the parser
//! claim = "gr\u006fups"
//! ```

use std::borrow::Cow;
use std::ops::Range;

use toml::de::DeTable;
use toml_parser::Source;
use toml_parser::lexer::TokenKind;

/// Bytes of a configuration file at most: offsets are kept in 32 bits.
pub const MAX_TEXT: usize = 256 << 20;

/// A text, taken apart.
#[derive(Debug, Default)]
pub struct Split<'t> {
    pub text: &'t str,
    /// What the TOML parser reads.
    pub rest: Cow<'t, str>,
    /// Where pieces of `rest` begin, in it and in `text`.
    pieces: Vec<(usize, usize)>,
    records: Vec<Record>,
    fields: Vec<PlainField>,
}

/// Which list an entry belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Role,
    Group,
    Mapping,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Role, Self::Group, Self::Mapping];

    pub fn key(self) -> &'static str {
        match self {
            Self::Role => "role",
            Self::Group => "group",
            Self::Mapping => "mapping",
        }
    }
}

/// An entry that was read as it stands.
#[derive(Debug, Clone, Copy)]
struct Record {
    kind: Kind,
    at: u32,
    first: u32,
    count: u8,
}

/// One `key = value` of a record: 16 bytes, since there may be a million.
#[derive(Debug, Clone, Copy)]
struct PlainField {
    key_at: u32,
    key_length: u8,
    content: Content,
    value_at: u32,
    value_length: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    /// The text between the quotes is the value.
    Text,
    True,
    False,
}

/// A plain entry, to be read.
#[derive(Debug, Clone, Copy)]
pub struct PlainEntry<'s> {
    pub at: usize,
    text: &'s str,
    fields: &'s [PlainField],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlainValue<'s> {
    Text(&'s str),
    Truth(bool),
}

impl<'t> Split<'t> {
    /// Takes a text apart. `text` is no longer than [`MAX_TEXT`].
    pub fn new(text: &'t str) -> Self {
        let mut split = Self { text, ..Self::default() };
        let mut kept: Vec<Range<usize>> = Vec::new();
        let (mut at, mut kept_from) = (0, 0);
        while at < text.len() {
            match split.record(at) {
                Some(end) => {
                    // Entries mostly follow one another: nothing is between them.
                    if kept_from < at {
                        kept.push(kept_from..at);
                    }
                    (at, kept_from) = (end, end);
                }
                None => at = statement_end(text, at),
            }
        }
        kept.push(kept_from..text.len());
        split.keep(&kept);
        split
    }

    fn keep(&mut self, kept: &[Range<usize>]) {
        if self.records.is_empty() {
            self.rest = Cow::Borrowed(self.text);
            self.pieces.push((0, 0));
            return;
        }
        let mut rest = String::new();
        for range in kept {
            self.pieces.push((rest.len(), range.start));
            rest.push_str(self.text.get(range.clone()).unwrap_or_default());
        }
        self.rest = Cow::Owned(rest);
    }

    /// Where an offset of `rest` is in the text.
    pub fn origin(&self, offset: usize) -> usize {
        let after = self.pieces.partition_point(|(start, _)| *start <= offset);
        match after.checked_sub(1).and_then(|piece| self.pieces.get(piece)) {
            Some((start, origin)) => origin + (offset - start),
            None => offset,
        }
    }

    /// The plain entries of one list, in the order of the file.
    pub fn entries(&self, kind: Kind) -> impl Iterator<Item = PlainEntry<'_>> {
        self.records.iter().filter(move |record| record.kind == kind).map(|record| {
            let first = record.first as usize;
            let fields = self.fields.get(first..first + usize::from(record.count)).unwrap_or_default();
            PlainEntry { at: record.at as usize, text: self.text, fields }
        })
    }

    /// How many plain entries a list has.
    pub fn count(&self, kind: Kind) -> usize {
        self.records.iter().filter(|record| record.kind == kind).count()
    }

    /// Reads the entry that begins at a line's start, if it is plain: where it ends. Nothing is kept of one that is not.
    fn record(&mut self, start: usize) -> Option<usize> {
        let (kind, mut at) = record_header(self.text, start)?;
        let first = self.fields.len();
        let end = loop {
            match plain_line(self.text, at) {
                Some(Line::Empty(next)) => at = next,
                Some(Line::Field(field, next)) if self.is_new(first, field) => {
                    self.fields.push(field);
                    at = next;
                }
                Some(Line::End) => break Some(at),
                Some(Line::Field(..)) | None => break None,
            }
        };
        let count = self.fields.len() - first;
        // A table below the entry (`[mapping.allow]`) belongs to it, so that the parser must see both.
        let plain = end.filter(|end| !has_child(self.text, *end, kind));
        let fits = (u32::try_from(start), u32::try_from(first), u8::try_from(count));
        let (Some(end), (Ok(at), Ok(first), Ok(count))) = (plain, fits) else {
            self.fields.truncate(first);
            return None;
        };
        self.records.push(Record { kind, at, first, count });
        Some(end)
    }

    /// Whether a key is not there yet: a second one is a fault that the parser reports.
    fn is_new(&self, first: usize, field: PlainField) -> bool {
        let key = field.key(self.text);
        self.fields.get(first..).unwrap_or_default().iter().all(|known| known.key(self.text) != key)
    }
}

impl PlainField {
    fn key(self, text: &str) -> &str {
        let start = self.key_at as usize;
        text.get(start..start + usize::from(self.key_length)).unwrap_or_default()
    }

    fn value(self, text: &str) -> PlainValue<'_> {
        match self.content {
            Content::True => PlainValue::Truth(true),
            Content::False => PlainValue::Truth(false),
            Content::Text => {
                let start = self.value_at as usize;
                PlainValue::Text(text.get(start..start + self.value_length as usize).unwrap_or_default())
            }
        }
    }

    /// The value as written, quotes included.
    fn value_span(self) -> Range<usize> {
        let (start, length) = (self.value_at as usize, self.value_length as usize);
        match self.content {
            Content::Text => start - 1..start + length + 1,
            Content::True | Content::False => start..start + length,
        }
    }
}

impl<'s> PlainEntry<'s> {
    /// Each key with its place, and its value with its place.
    pub fn fields(self) -> impl Iterator<Item = (&'s str, Range<usize>, PlainValue<'s>, Range<usize>)> {
        self.fields.iter().map(move |field| {
            let key = field.key(self.text);
            let start = field.key_at as usize;
            (key, start..start + key.len(), field.value(self.text), field.value_span())
        })
    }
}

enum Line {
    /// Blank or a comment: where the next line starts.
    Empty(usize),
    Field(PlainField, usize),
    /// The end of the text, or a line that begins with `[`.
    End,
}

/// One line of a record; `None` when there is anything in it that needs a parser.
fn plain_line(text: &str, at: usize) -> Option<Line> {
    let bytes = text.as_bytes();
    let start = skip_blanks(bytes, at);
    match bytes.get(start) {
        None | Some(b'[') => return Some(Line::End),
        Some(b'\n' | b'\r' | b'#') => return line_end(bytes, start).map(Line::Empty),
        Some(_) => {}
    }
    let key_end =
        start + length_while(bytes, start, |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    let equals = skip_blanks(bytes, key_end);
    if key_end == start || bytes.get(equals) != Some(&b'=') {
        return None;
    }
    let (content, value_at, value_length, after) = plain_value(bytes, skip_blanks(bytes, equals + 1))?;
    let field = PlainField {
        key_at: u32::try_from(start).ok()?,
        key_length: u8::try_from(key_end - start).ok()?,
        content,
        value_at: u32::try_from(value_at).ok()?,
        value_length: u32::try_from(value_length).ok()?,
    };
    Some(Line::Field(field, line_end(bytes, skip_blanks(bytes, after))?))
}

/// A value that stands for itself: what it is, where, how long, and where it ends.
fn plain_value(bytes: &[u8], at: usize) -> Option<(Content, usize, usize, usize)> {
    let quote = *bytes.get(at)?;
    if quote == b'"' || quote == b'\'' {
        let start = at + 1;
        // TOML 1.0: a basic string may hold neither `\` unread nor a control character but tab.
        let escape = if quote == b'"' { b'\\' } else { b'\'' };
        let clean = clean_words(bytes, start, quote, escape);
        let length =
            clean + length_while(bytes, start + clean, |byte| byte != quote && byte != escape && !is_control(byte));
        let closed = bytes.get(start + length) == Some(&quote);
        // `""` before a third quote opens a string of several lines.
        let several_lines = length == 0 && bytes.get(start + 1) == Some(&quote);
        return (closed && !several_lines).then_some((Content::Text, start, length, start + length + 1));
    }
    let word = bytes.get(at..)?;
    let (content, length) = match () {
        () if word.starts_with(b"true") => (Content::True, 4),
        () if word.starts_with(b"false") => (Content::False, 5),
        () => return None,
    };
    Some((content, at, length, at + length))
}

/// How many bytes, in words of eight, hold nothing that could end a text: most of a large file is such text, and eight
/// bytes are looked at in the time of two.
fn clean_words(bytes: &[u8], at: usize, quote: u8, escape: u8) -> usize {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGHS: u64 = u64::from_ne_bytes([0x80; 8]);
    // The high bit of some byte is set when some byte of the word is below the bound (which is at most 0x80).
    let some_below = |word: u64, bound: u8| word.wrapping_sub(ONES * u64::from(bound)) & !word & HIGHS;
    let some_is = |word: u64, byte: u8| some_below(word ^ (ONES * u64::from(byte)), 1);
    let (words, _) = bytes.get(at..).unwrap_or_default().as_chunks();
    let is_clean = |word: &&[u8; 8]| {
        let word = u64::from_ne_bytes(**word);
        some_below(word, 0x20) | some_is(word, quote) | some_is(word, escape) | some_is(word, 0x7f) == 0
    };
    words.iter().take_while(is_clean).count() * 8
}

/// After a value: nothing, or a comment. Where the next line starts.
fn line_end(bytes: &[u8], at: usize) -> Option<usize> {
    let at = match bytes.get(at) {
        Some(b'#') => at + length_while(bytes, at, |byte| !is_control(byte)),
        _ => at,
    };
    match (bytes.get(at), bytes.get(at + 1)) {
        (None, _) => Some(at),
        (Some(b'\n'), _) => Some(at + 1),
        (Some(b'\r'), Some(b'\n')) => Some(at + 2),
        _ => None,
    }
}

fn is_control(byte: u8) -> bool {
    (byte < 0x20 && byte != b'\t') || byte == 0x7f
}

fn skip_blanks(bytes: &[u8], at: usize) -> usize {
    at + length_while(bytes, at, |byte| matches!(byte, b' ' | b'\t'))
}

fn length_while(bytes: &[u8], at: usize, holds: impl Fn(u8) -> bool) -> usize {
    let rest = bytes.get(at..).unwrap_or_default();
    rest.iter().position(|byte| !holds(*byte)).unwrap_or(rest.len())
}

/// The list that a line `[[mapping]]` opens an entry of, and where the next line starts.
fn record_header(text: &str, start: usize) -> Option<(Kind, usize)> {
    let bytes = text.as_bytes();
    let open = skip_blanks(bytes, start);
    let header = text.get(open..)?.strip_prefix("[[")?;
    let (kind, after) = Kind::ALL.into_iter().find_map(|kind| {
        let after = header.strip_prefix(kind.key())?.strip_prefix("]]")?;
        Some((kind, text.len() - after.len()))
    })?;
    Some((kind, line_end(bytes, skip_blanks(bytes, after))?))
}

/// Whether the header at the end of an entry opens a table below it.
fn has_child(text: &str, end: usize, kind: Kind) -> bool {
    let header = text.get(end..).unwrap_or_default().trim_start_matches(['[', ' ', '\t']);
    let after = header.strip_prefix(kind.key()).map(|after| after.trim_start_matches([' ', '\t']));
    // A quoted key may spell anything.
    after.is_some_and(|after| after.starts_with('.')) || header.starts_with(['"', '\''])
}

/// Something that is no TOML: where in `rest`, and what is wrong with it.
#[derive(Debug)]
pub struct SyntaxError {
    pub span: Range<usize>,
    pub message: String,
}

/// Parses and repairs until the parser has nothing to say: it gives up at some mistakes, and what follows them would stay
/// unread. What it cannot read is blanked, so that every offset stays, and the rest is looked at again.
pub fn repaired(rest: &str) -> (Cow<'_, str>, Vec<SyntaxError>) {
    const ROUNDS: usize = 32;
    let mut text = Cow::Borrowed(rest);
    let mut all: Vec<SyntaxError> = Vec::new();
    for _ in 0..ROUNDS {
        let errors = DeTable::parse_recoverable(&text).1;
        let found: Vec<SyntaxError> = errors.iter().map(|error| SyntaxError::new(error, text.len())).collect();
        let unread: Vec<Range<usize>> = found.iter().map(|error| unreadable(&text, error.span.start)).collect();
        match blanked(&text, &unread) {
            Some(blanked) => text = Cow::Owned(blanked),
            // Nothing at that place can be left out, so nothing behind it can be read.
            None => {
                all.extend(found);
                break;
            }
        }
        all.extend(found);
    }
    (text, all)
}

impl SyntaxError {
    fn new(error: &toml::de::Error, length: usize) -> Self {
        // A mistake that shows only at the end has no place of its own.
        let span = error.span().unwrap_or(length..length);
        Self { span, message: error.message().trim_end().replace('\n', ", ") }
    }
}

/// What cannot be used for a mistake: its line, or all under a header, whose keys would else seem to belong elsewhere.
fn unreadable(text: &str, at: usize) -> Range<usize> {
    let start = text.get(..at).unwrap_or(text).rfind('\n').map_or(0, |newline| newline + 1);
    let mut end = next_line(text, start);
    let is_header = |line: usize| text.get(line..).unwrap_or_default().trim_start_matches([' ', '\t']).starts_with('[');
    while is_header(start) && end < text.len() && !is_header(end) {
        end = next_line(text, end);
    }
    start..end
}

/// Whether the line at an offset may hold a secret: by the words of its key, or as a line within a longer text.
pub fn may_hold_secret(text: &str, at: usize) -> bool {
    const WORDS: [&str; 6] = ["secret", "key", "password", "token", "credential", "hash"];
    let start = text.get(..at).unwrap_or(text).rfind('\n').map_or(0, |newline| newline + 1);
    let line = text.get(start..next_line(text, start)).unwrap_or_default();
    let is_secret = |key: &str| WORDS.iter().any(|word| key.to_ascii_lowercase().contains(word));
    let line = line.trim();
    match (line.split_once('='), line.split_once([' ', '"', '\''])) {
        (Some((key, _)), _) => is_secret(key),
        _ if line.starts_with('[') => false,
        // Its sign is missing.
        (None, Some((key, _))) => is_secret(key),
        (None, None) => true,
    }
}

fn next_line(text: &str, at: usize) -> usize {
    text.get(at..).and_then(|rest| rest.find('\n')).map_or(text.len(), |newline| at + newline + 1)
}

/// Spaces in place of some ranges, line breaks kept; `None` when nothing was left to blank.
fn blanked(text: &str, ranges: &[Range<usize>]) -> Option<String> {
    let is_kept = |byte: u8| matches!(byte, b'\n' | b'\r' | b' ');
    let mut bytes = text.as_bytes().to_vec();
    let mut changed = false;
    for at in ranges.iter().cloned().flatten() {
        if let Some(byte) = bytes.get_mut(at).filter(|byte| !is_kept(**byte)) {
            *byte = b' ';
            changed = true;
        }
    }
    changed.then(|| String::from_utf8_lossy(&bytes).into_owned())
}

/// Where the line after a statement starts: a statement may go over several lines, inside brackets or a long string.
fn statement_end(text: &str, at: usize) -> usize {
    if let Some(Line::Empty(next) | Line::Field(_, next)) = plain_line(text, at) {
        return next;
    }
    let Some(rest) = text.get(at..) else { return text.len() };
    let is_header = rest.trim_start_matches([' ', '\t']).starts_with('[');
    let mut depth = 0_usize;
    for token in Source::new(rest).lex() {
        match token.kind() {
            TokenKind::LeftSquareBracket | TokenKind::LeftCurlyBracket => depth += 1,
            TokenKind::RightSquareBracket | TokenKind::RightCurlyBracket => depth = depth.saturating_sub(1),
            TokenKind::Newline if depth == 0 || is_header => return at + token.span().end(),
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use toml::de::DeValue;

    use super::*;

    /// The entries of a list as the splitter and the parser together see them, in the order of the file.
    fn split_entries(text: &str, kind: Kind) -> Vec<Vec<(String, String)>> {
        let split = Split::new(text);
        let (tree, errors) = DeTable::parse_recoverable(&split.rest);
        assert!(errors.is_empty(), "{errors:?}");
        let mut all: Vec<(usize, Vec<(String, String)>)> = split
            .entries(kind)
            .map(|entry| {
                let fields = entry.fields().map(|(key, key_at, value, value_at)| {
                    assert_eq!(text.get(key_at).unwrap(), key);
                    let value = match value {
                        PlainValue::Text(value) => {
                            assert_eq!(text.get(value_at.start + 1..value_at.end - 1).unwrap(), value);
                            format!("{value:?}")
                        }
                        PlainValue::Truth(truth) => truth.to_string(),
                    };
                    (key.to_owned(), value)
                });
                let mut fields: Vec<_> = fields.collect();
                fields.sort();
                (entry.at, fields)
            })
            .collect();
        all.extend(tree_entries(tree.get_ref(), kind).into_iter().map(|(at, fields)| (split.origin(at), fields)));
        all.sort();
        all.into_iter().map(|(_, fields)| fields).collect()
    }

    fn tree_entries(tree: &DeTable<'_>, kind: Kind) -> Vec<(usize, Vec<(String, String)>)> {
        let Some(DeValue::Array(entries)) = tree.get(kind.key()).map(|entry| entry.get_ref()) else {
            return Vec::new();
        };
        entries
            .iter()
            .map(|entry| {
                let fields = entry.get_ref().as_table().unwrap().iter().map(|(key, value)| {
                    let value = match value.get_ref() {
                        DeValue::String(text) => format!("{text:?}"),
                        DeValue::Boolean(truth) => truth.to_string(),
                        other => format!("{other:?}").chars().filter(|digit| !digit.is_ascii_digit()).collect(),
                    };
                    (key.get_ref().to_string(), value)
                });
                let mut fields: Vec<_> = fields.collect();
                fields.sort();
                (entry.span().start, fields)
            })
            .collect()
    }

    /// Lines that are good TOML wherever they stand together, given keys that do not repeat.
    const VALUES: [&str; 14] = [
        "\"plain\"",
        "'literal \\ text'",
        "\"\"",
        "''",
        "true",
        "false",
        "\"esc\\u0061pe\" # comment",
        "\"ä [[mapping]]\"",
        "\"\"\"\n[[mapping]]\nnot = \"a field\"\n\"\"\"",
        "'''\n[[group]]'''",
        "[\n  \"a\", # ]\n  [\"[[mapping]]\"],\n]",
        "{ a = 1, b = [2] }",
        "0x1F",
        "\"tab\there\"\t# with 'quotes'",
    ];

    proptest! {
        #[test]
        fn the_splitter_sees_what_the_parser_sees(
            sections in proptest::collection::vec(
                (0..7_usize, proptest::collection::vec((0..VALUES.len(), 0..4_usize), 0..4)), 0..8),
            windows in any::<bool>(),
        ) {
            let mut text = String::from("first = 1\n");
            for (number, (header, fields)) in sections.iter().enumerate() {
                text.push_str(&match header {
                    0 | 1 => "[[mapping]]\n".to_owned(),
                    2 => "[[group]] # with comment\n".to_owned(),
                    3 => format!("[table{number}]\n"),
                    4 => " [[ mapping ]]\n".to_owned(),
                    5 => "  [[\"mapping\"]]\n".to_owned(),
                    _ => format!("[[mapping]]\n[mapping.child{number}]\n"),
                });
                for (key, (value, before)) in fields.iter().enumerate() {
                    let before = ["", "  ", "# a comment ['\"\n", "\n\n"][*before];
                    text.push_str(&format!("{before}key-{key} = {}\n", VALUES[*value]));
                }
            }
            if windows {
                text = text.replace('\n', "\r\n");
            }
            let whole = DeTable::parse(&text).unwrap();
            for kind in Kind::ALL {
                let expected: Vec<_> = tree_entries(whole.get_ref(), kind).into_iter().map(|(_, fields)| fields).collect();
                prop_assert_eq!(split_entries(&text, kind), expected, "{}", text);
            }
        }
    }

    #[test]
    fn what_is_no_plain_toml_goes_to_the_parser() {
        for line in [
            "a = \"x\" y",
            "a = \"x",
            "a = truely",
            "a = \"x\\\"",
            "a.b = \"x\"",
            "a = \"\u{1}\"",
            "a = \"1\"\na = \"2\"",
            "a",
        ] {
            let text = format!("[[mapping]]\n{line}\n");
            let split = Split::new(&text);
            assert_eq!((split.records.len(), split.fields.len(), &*split.rest), (0, 0, text.as_str()));
        }
    }

    #[test]
    fn offsets_lead_back_into_the_file() {
        let text = "a = 1\n[[mapping]]\nb = \"2\"\n[c]\n[[mapping]]\n[d]\ne = 3\n";
        let split = Split::new(text);
        assert_eq!(split.rest, "a = 1\n[c]\n[d]\ne = 3\n");
        for word in ["a =", "[c]", "[d]", "e ="] {
            assert_eq!(split.origin(split.rest.find(word).unwrap()), text.find(word).unwrap(), "{word}");
        }
    }
}
