//! Walks a TOML tree and keeps every fault it meets, instead of stopping at the first.
//!
//! A [`Section`] is one table. Each key is asked for by name and type; what is missing, of a wrong type or means nothing is
//! noted and reads as absent, so that the rest of the file is still looked at. [`Section::finish`] notes the keys that
//! nothing reads.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Surroundings;
use super::problem::{Lines, Raised, alternatives, nearest};
use super::raw::{PlainValue, Split};
use super::values::{self, Wrong};

/// What all sections of one file share.
pub struct Context<'a> {
    pub split: &'a Split<'a>,
    pub around: &'a Surroundings<'a>,
    /// Parts of the text could not be read: what seems to be missing may be there.
    pub torn: bool,
    raised: RefCell<Vec<Raised>>,
    /// Names looked for in vain and what is near them: a misspelt name is often used many times.
    near: RefCell<HashMap<(&'static str, String), Option<String>>>,
    lines: OnceCell<Lines>,
}

/// What a key holds, wherever it was read.
#[derive(Debug, Clone, Copy)]
pub enum Value<'a> {
    Text(&'a str),
    Truth(bool),
    Other(&'a DeValue<'a>),
}

impl<'a> From<&'a DeValue<'a>> for Value<'a> {
    fn from(value: &'a DeValue<'a>) -> Self {
        match value {
            DeValue::String(text) => Self::Text(text),
            DeValue::Boolean(truth) => Self::Truth(*truth),
            other => Self::Other(other),
        }
    }
}

impl<'a> From<PlainValue<'a>> for Value<'a> {
    fn from(value: PlainValue<'a>) -> Self {
        match value {
            PlainValue::Text(text) => Self::Text(text),
            PlainValue::Truth(truth) => Self::Truth(truth),
        }
    }
}

impl std::fmt::Display for Value<'_> {
    /// In words that an operator knows.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(text) => write!(f, "`{}`", shown(text)),
            Self::Truth(truth) => write!(f, "`{truth}` without quotes"),
            Self::Other(DeValue::Integer(number)) => write!(f, "the number {number}"),
            Self::Other(DeValue::Float(number)) => write!(f, "the number {number}"),
            Self::Other(DeValue::Datetime(date)) => write!(f, "the date {date}"),
            Self::Other(DeValue::Array(_)) => f.write_str("a list"),
            Self::Other(_) => f.write_str("a table"),
        }
    }
}

/// A value, and where it stands in the text.
#[derive(Debug, Clone)]
pub struct Found<T> {
    pub value: T,
    pub span: Range<usize>,
}

/// How many misspelt names are compared with all names: each costs time in proportion to the file.
const NEAR_LOOK_UPS: usize = 200;

impl<'a> Context<'a> {
    pub fn new(split: &'a Split<'a>, around: &'a Surroundings<'a>, torn: bool) -> Self {
        Self { split, around, torn, raised: RefCell::default(), near: RefCell::default(), lines: OnceCell::new() }
    }

    pub fn raise(&self, span: &Range<usize>, key: impl Into<String>, message: impl Into<String>) {
        self.raise_near(span, key, message, None);
    }

    pub fn raise_near(
        &self,
        span: &Range<usize>,
        key: impl Into<String>,
        message: impl Into<String>,
        nearest: Option<String>,
    ) {
        let (span, key, message) = (span.clone(), key.into(), message.into());
        self.push(Raised { span, key, message, nearest, hide_value: false });
    }

    /// The same where the line may hold a secret, so that its value is not shown.
    pub fn raise_hiding(&self, span: &Range<usize>, key: impl Into<String>, message: impl Into<String>) {
        let (span, key, message) = (span.clone(), key.into(), message.into());
        self.push(Raised { span, key, message, nearest: None, hide_value: true });
    }

    fn push(&self, raised: Raised) {
        self.raised.borrow_mut().push(raised);
    }

    /// A fault that may only be the consequence of text that could not be read.
    pub fn raise_absent(&self, span: &Range<usize>, key: impl Into<String>, message: impl Into<String>) {
        if !self.torn {
            self.raise(span, key, message);
        }
    }

    /// A key that has no meaning here. Its value is not repeated: it may be a secret that the operator meant to configure.
    pub fn raise_unknown<'n>(
        &self,
        span: &Range<usize>,
        key: &str,
        section: &str,
        valid: impl Iterator<Item = &'n str>,
    ) {
        let (found, full) = (shown(key), joined(section, key));
        let place = if section.is_empty() { String::from("at the top level") } else { format!("in `{section}`") };
        let message = match elsewhere(section, key) {
            Some(where_it_is) => format!("`{found}` is {where_it_is}"),
            None => format!("unknown key `{found}` {place}"),
        };
        let nearest = nearest(key, valid);
        self.push(Raised { span: span.clone(), key: full, message, nearest, hide_value: true });
    }

    /// A name that must be declared elsewhere in the file and is not.
    pub fn raise_undeclared<'n>(
        &self,
        name: &Found<&str>,
        key: &str,
        kind: &'static str,
        place: &str,
        declared: impl Iterator<Item = &'n str>,
    ) {
        if self.torn {
            return;
        }
        let mut near = self.near.borrow_mut();
        let looked_up = near.len();
        let nearest = match near.get(&(kind, name.value.to_owned())) {
            Some(known) => known.clone(),
            None if looked_up >= NEAR_LOOK_UPS => None,
            None => {
                let found = nearest(name.value, declared);
                near.insert((kind, name.value.to_owned()), found.clone());
                found
            }
        };
        self.raise_near(&name.span, key, format!("{kind} `{}` is not declared{place}", shown(name.value)), nearest);
    }

    /// A text, whatever was read it from; `key` as faults name it.
    pub fn text<'v>(&self, key: &str, value: Value<'v>, span: Range<usize>) -> Option<Found<&'v str>> {
        match value {
            Value::Text(text) => Some(Found { value: text, span }),
            other => {
                self.raise(&span, key, format!("found {other}; expected a text in quotes"));
                None
            }
        }
    }

    pub fn truth(&self, key: &str, value: Value<'_>, span: &Range<usize>) -> Option<bool> {
        match value {
            Value::Truth(truth) => Some(truth),
            other => {
                self.raise(span, key, format!("found {other}; expected true or false without quotes"));
                None
            }
        }
    }

    /// A list of texts, each with its place. One text stands for a list of one where `scalar` allows it.
    pub fn texts<'v>(
        &self,
        key: &str,
        value: Value<'v>,
        span: Range<usize>,
        scalar: bool,
    ) -> Option<Vec<Found<&'v str>>> {
        match value {
            Value::Text(text) if scalar => Some(vec![Found { value: text, span }]),
            Value::Other(DeValue::Array(items)) => {
                let item = |item: &'v Spanned<DeValue<'v>>| match item.get_ref().into() {
                    Value::Text(text) => Some(Found { value: text, span: self.span(item) }),
                    other => {
                        self.raise(
                            &self.span(item),
                            key,
                            format!("found {other} in the list; expected a text in quotes"),
                        );
                        None
                    }
                };
                Some(items.iter().filter_map(item).collect())
            }
            other => {
                let expected =
                    if scalar { "a text or a list of texts" } else { "a list of texts such as [\"a\", \"b\"]" };
                self.raise(&span, key, format!("found {other}; expected {expected}"));
                None
            }
        }
    }

    /// The line of an offset, for messages that speak of another place.
    pub fn line(&self, offset: usize) -> usize {
        self.lines.get_or_init(|| Lines::new(self.split.text)).number(offset)
    }

    pub fn raised(&self) -> usize {
        self.raised.borrow().len()
    }

    pub fn into_raised(self) -> Vec<Raised> {
        self.raised.into_inner()
    }

    /// A path as the operator means it: relative to the file.
    pub fn resolve(&self, path: &str) -> PathBuf {
        self.around.file.parent().unwrap_or(Path::new("")).join(path)
    }

    /// Where a node of the tree stands in the text.
    pub fn span<T>(&self, node: &Spanned<T>) -> Range<usize> {
        let span = node.span();
        let start = self.split.origin(span.start);
        start..start + span.len()
    }
}

/// Where something is set that has no key here: a better answer than "unknown".
fn elsewhere(section: &str, key: &str) -> Option<&'static str> {
    match (section, key) {
        ("group" | "role", "alias" | "hidden") => {
            Some("set for a group and a provider through the APIs; see docs/api.md")
        }
        _ => None,
    }
}

/// `section.key`.
pub fn joined(section: &str, key: &str) -> String {
    if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") }
}

/// Whether an address names a user, and perhaps a password.
fn holds_credentials(text: &str) -> bool {
    text.split_once("://")
        .is_some_and(|(_, rest)| rest.split('/').next().is_some_and(|authority| authority.contains('@')))
}

/// A text of the operator's, short enough for a line.
pub fn shown(text: &str) -> String {
    const MOST: usize = 80;
    let mut short: String = text.chars().take(MOST).flat_map(char::escape_debug).collect();
    // `escape_debug` also escapes quotes, which read better bare.
    short = short.replace("\\'", "'").replace("\\\"", "\"");
    if text.chars().nth(MOST).is_some() {
        short.push('…');
    }
    short
}

/// One table of the file, or one that is absent and has nothing but defaults.
pub struct Section<'a> {
    pub context: &'a Context<'a>,
    /// As faults name it: `listen`, `provider.claims.groups`.
    pub name: String,
    /// Its header; for an absent one the start of the file.
    pub span: Range<usize>,
    table: Option<&'a DeTable<'a>>,
    asked: RefCell<Vec<&'static str>>,
}

impl<'a> Section<'a> {
    pub fn new(context: &'a Context<'a>, name: impl Into<String>, span: Range<usize>, table: &'a DeTable<'a>) -> Self {
        Self { context, name: name.into(), span, table: Some(table), asked: RefCell::default() }
    }

    /// The full name of one of its keys.
    pub fn key(&self, key: &str) -> String {
        joined(&self.name, key)
    }

    /// Notes a fault of a value.
    pub fn raise(&self, span: &Range<usize>, key: &str, message: impl Into<String>) {
        self.context.raise(span, self.key(key), message);
    }

    /// Whatever a key holds, and where.
    pub fn value(&self, key: &'static str) -> Option<(Value<'a>, Range<usize>)> {
        self.asked.borrow_mut().push(key);
        let value = self.table?.get(key)?;
        Some((value.get_ref().into(), self.context.span(value)))
    }

    /// Whether a key is written, and where.
    pub fn written(&self, key: &str) -> Option<Range<usize>> {
        let (key, _) = self.table?.get_key_value(key)?;
        Some(self.context.span(key))
    }

    /// Accepts keys without reading them.
    pub fn accept(&self, keys: &[&'static str]) {
        self.asked.borrow_mut().extend_from_slice(keys);
    }

    /// A table below this one; an absent one has nothing but defaults.
    pub fn section(&self, key: &'static str) -> Section<'a> {
        let name = self.key(key);
        let (table, span) = match self.value(key) {
            Some((Value::Other(DeValue::Table(table)), span)) => (Some(table), span),
            Some((other, span)) => {
                let message = format!("found {other}; expected a table, `[{name}]`");
                self.context.raise_absent(&span, name.clone(), message);
                (None, span)
            }
            None => (None, self.span.clone()),
        };
        Section { context: self.context, name, span, table, asked: RefCell::default() }
    }

    /// The tables of a list below this one: `[[provider]]`.
    pub fn sections(&self, key: &'static str) -> Vec<Section<'a>> {
        let name = self.key(key);
        let entries = match self.value(key) {
            None => return Vec::new(),
            Some((Value::Other(DeValue::Array(entries)), _)) => entries,
            Some((other, span)) => {
                let message = format!("found {other}; expected entries of a list, `[[{name}]]`");
                self.context.raise_absent(&span, name, message);
                return Vec::new();
            }
        };
        let mut sections = Vec::new();
        for entry in entries.iter() {
            let span = self.context.span(entry);
            match entry.get_ref() {
                DeValue::Table(table) => sections.push(Section::new(self.context, name.clone(), span, table)),
                other => self.raise(&span, key, format!("found {}; expected a table", Value::from(other))),
            }
        }
        sections
    }

    /// The tables below this one by the operator's own keys: `[provider.claims.NAME]`.
    pub fn named_sections(&self) -> Vec<(Found<&'a str>, Section<'a>)> {
        let mut sections = Vec::new();
        for (key, value) in self.table.into_iter().flat_map(DeTable::iter) {
            let (found, span) = (key.get_ref().as_ref(), self.context.span(key));
            match value.get_ref() {
                DeValue::Table(table) => {
                    let section = Section::new(self.context, self.key(found), span.clone(), table);
                    sections.push((Found { value: found, span }, section));
                }
                other => self.raise(&span, found, format!("found {}; expected a table", Value::from(other))),
            }
        }
        sections.sort_by_key(|(name, _)| name.span.start);
        sections
    }

    /// A text; an absent one is not a fault.
    pub fn text(&self, key: &'static str) -> Option<Found<&'a str>> {
        let (value, span) = self.value(key)?;
        self.context.text(&self.key(key), value, span)
    }

    /// A text that must be there.
    pub fn required(&self, key: &'static str, example: &str) -> Option<Found<&'a str>> {
        if self.table.is_none_or(|table| !table.contains_key(key)) {
            let place = if self.name.is_empty() { String::new() } else { format!(" in `{}`", self.name) };
            let message = format!("missing{place}; expected for instance {key} = \"{example}\"");
            self.context.raise_absent(&self.span, self.key(key), message);
        }
        self.text(key)
    }

    /// What a text means.
    pub fn parsed<T>(&self, key: &'static str, parse: impl Fn(&str) -> Result<T, Wrong>) -> Option<Found<T>> {
        let text = self.text(key)?;
        self.parse(key, text, parse)
    }

    pub fn parse<T>(&self, key: &str, text: Found<&str>, parse: impl Fn(&str) -> Result<T, Wrong>) -> Option<Found<T>> {
        match parse(text.value) {
            Ok(value) => Some(Found { value, span: text.span }),
            Err(Wrong { expected, nearest }) => {
                let hide_value = holds_credentials(text.value);
                let found = if hide_value {
                    String::from("an address with a user in it")
                } else {
                    format!("`{}`", shown(text.value))
                };
                let message = format!("found {found}; expected {expected}");
                self.context.push(Raised { span: text.span, key: self.key(key), message, nearest, hide_value });
                None
            }
        }
    }

    /// A text of the operator's choice that can only hold valid names.
    pub fn checked<T, E: std::fmt::Display>(
        &self,
        key: &str,
        text: &Found<&str>,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Option<T> {
        match parse(text.value) {
            Ok(value) => Some(value),
            Err(why) => {
                self.raise(&text.span, key, format!("`{}` {why}", shown(text.value)));
                None
            }
        }
    }

    /// One of a few words.
    pub fn word<T: Copy>(&self, key: &'static str, words: &[(&'static str, T)], default: T) -> T {
        let parse = |text: &str| {
            words.iter().find(|(word, _)| *word == text).map(|(_, meaning)| *meaning).ok_or_else(|| Wrong {
                expected: alternatives(words.iter().map(|(word, _)| *word)),
                nearest: nearest(text, words.iter().map(|(word, _)| *word)),
            })
        };
        self.parsed(key, parse).map_or(default, |found| found.value)
    }

    pub fn flag(&self, key: &'static str, default: bool) -> bool {
        let value = self.value(key).and_then(|(value, span)| self.context.truth(&self.key(key), value, &span));
        value.unwrap_or(default)
    }

    pub fn duration(&self, key: &'static str, default: Duration, range: RangeInclusive<Duration>) -> Duration {
        self.optional_duration(key, range).unwrap_or(default)
    }

    pub fn optional_duration(&self, key: &'static str, range: RangeInclusive<Duration>) -> Option<Duration> {
        let parse = |text: &str| values::within(values::duration(text)?, &range, values::written);
        match self.value(key) {
            Some((Value::Text(_), _)) => self.parsed(key, parse).map(|found| found.value),
            Some((other, span)) => {
                let expected = "a duration in quotes such as \"250ms\", \"30s\", \"10m\", \"12h\" or \"7d\"";
                self.raise(&span, key, format!("found {other}; expected {expected}"));
                None
            }
            None => None,
        }
    }

    /// A whole number.
    pub fn count(&self, key: &'static str, default: usize, range: RangeInclusive<usize>) -> usize {
        match self.value(key) {
            None => default,
            Some((value, span)) => self.number(key, value, &span, &range, "a whole number").unwrap_or(default),
        }
    }

    /// A number of bytes, or a text such as `64KiB`.
    pub fn size(&self, key: &'static str, default: usize, range: RangeInclusive<usize>) -> usize {
        let parse = |text: &str| {
            let bytes = usize::try_from(values::size(text)?).map_err(|_| Wrong::expected(values::SIZE))?;
            values::within(bytes, &range, |bytes| bytes.to_string())
        };
        match self.value(key) {
            None => default,
            Some((Value::Text(_), _)) => self.parsed(key, parse).map_or(default, |found| found.value),
            Some((value, span)) => self.number(key, value, &span, &range, values::SIZE).unwrap_or(default),
        }
    }

    fn number(
        &self,
        key: &str,
        value: Value<'_>,
        span: &Range<usize>,
        range: &RangeInclusive<usize>,
        expected: &str,
    ) -> Option<usize> {
        let Value::Other(DeValue::Integer(integer)) = value else {
            self.raise(span, key, format!("found {value}; expected {expected}"));
            return None;
        };
        // A number that does not even fit is as far out of range as can be; a negative one too.
        let number = usize::from_str_radix(integer.as_str(), integer.radix()).ok();
        let number = number.filter(|number| range.contains(number));
        if number.is_none() {
            self.raise(span, key, format!("found {integer}; expected {} to {}", range.start(), range.end()));
        }
        number
    }

    /// A list of texts, each with its place. One text stands for a list of one where `scalar` allows it.
    pub fn texts(&self, key: &'static str, scalar: bool) -> Option<Vec<Found<&'a str>>> {
        let (value, span) = self.value(key)?;
        self.context.texts(&self.key(key), value, span, scalar)
    }

    /// A list whose texts mean something, each once.
    pub fn list<T: PartialEq>(
        &self,
        key: &'static str,
        scalar: bool,
        parse: impl Fn(&str) -> Result<T, Wrong>,
    ) -> Option<Vec<T>> {
        let mut values: Vec<T> = Vec::new();
        for text in self.texts(key, scalar)? {
            let written = text.value;
            let Some(found) = self.parse(key, text, &parse) else { continue };
            if values.contains(&found.value) {
                self.raise(&found.span, key, format!("`{}` is in the list twice; expected once", shown(written)));
                continue;
            }
            values.push(found.value);
        }
        Some(values)
    }

    /// Whether a key was written as `[[key]]`, or not at all.
    pub fn is_list_of_tables(&self, key: &str) -> bool {
        let Some(value) = self.table.and_then(|table| table.get(key)) else { return true };
        // An entry of `[[key]]` stands at its header, one of `key = [{…}]` at its brace.
        let DeValue::Array(items) = value.get_ref() else { return false };
        let first = items.iter().next().map(|item| self.context.span(item).start);
        first.is_some_and(|at| self.context.split.text.get(at..).is_some_and(|text| text.starts_with('[')))
    }

    /// Whether a key holds `[]`.
    pub fn is_empty_list(&self, key: &str) -> bool {
        let value = self.table.and_then(|table| table.get(key));
        value.is_some_and(|value| matches!(value.get_ref(), DeValue::Array(items) if items.is_empty()))
    }

    /// Its keys as they were read, in the order of their names.
    pub fn fields(&self) -> impl Iterator<Item = (Found<&'a str>, Value<'a>, Range<usize>)> {
        self.table.into_iter().flat_map(DeTable::iter).map(|(key, value)| {
            let name = Found { value: key.get_ref().as_ref(), span: self.context.span(key) };
            (name, Value::from(value.get_ref()), self.context.span(value))
        })
    }

    /// Notes the keys that was not asked for.
    pub fn finish(&self) {
        let asked = self.asked.borrow();
        for (key, _) in self.table.into_iter().flat_map(DeTable::iter) {
            let name: &str = key.get_ref();
            if !asked.contains(&name) {
                self.context.raise_unknown(&self.context.span(key), name, &self.name, asked.iter().copied());
            }
        }
    }
}
