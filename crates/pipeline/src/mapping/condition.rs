//! One test on a login, and its outcome: true, false or undecided.
//!
//! A condition on a claim that could not be read to its end is *undecided*, and so is what depends on it: no failed look-up
//! ever grants by a negative. Truths are joined as Kleene's strong logic joins them:
//!
//! ```text
//! all:  false wins over undecided, undecided over true
//! any:  true wins over undecided, undecided over false
//! ```

use std::borrow::Cow;
use std::cell::RefCell;
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use icu_normalizer::ComposingNormalizerBorrowed;
use regex::Regex;

use crate::claims::Claims;
use crate::claims::split::Delimiter;
use crate::ids::{ClaimName, RoleName};

/// The outcome of a condition or a mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Truth {
    True,
    False,
    Undecided,
}

impl Truth {
    /// All of them.
    pub fn all(truths: impl IntoIterator<Item = Self>) -> Self {
        let mut joined = Self::True;
        for truth in truths {
            match truth {
                Self::False => return Self::False,
                Self::Undecided => joined = Self::Undecided,
                Self::True => {}
            }
        }
        joined
    }

    /// At least one of them.
    pub fn any(truths: impl IntoIterator<Item = Self>) -> Self {
        let mut joined = Self::False;
        for truth in truths {
            match truth {
                Self::True => return Self::True,
                Self::Undecided => joined = Self::Undecided,
                Self::False => {}
            }
        }
        joined
    }

    #[must_use]
    pub fn negated(self) -> Self {
        match self {
            Self::True => Self::False,
            Self::False => Self::True,
            Self::Undecided => Self::Undecided,
        }
    }
}

impl From<bool> for Truth {
    fn from(truth: bool) -> Self {
        if truth { Self::True } else { Self::False }
    }
}

/// One test of a mapping.
#[derive(Debug, Clone)]
pub enum Condition {
    Claim(ClaimCondition),
    /// Holds the role: by hand, by another provider, or by an earlier mapping of this login.
    HasRole(RoleName),
    LacksRole(RoleName),
    /// Days since the login before this one; false at a first login.
    LastLogin(Days),
    /// Of another sidecar's file, which these rules cannot ask. It is never decided.
    Unreadable,
}

/// A test of a claim's values.
#[derive(Debug, Clone)]
pub struct ClaimCondition {
    pub claim: ClaimName,
    /// Replaces the claim's delimiter; [`Delimiter::none`] means the whole value.
    pub delimiter: Option<Delimiter>,
    pub ignore_case: bool,
    pub test: Test,
}

/// Over several values a positive test needs one that passes; a negative one needs that none matches.
#[derive(Debug, Clone)]
pub enum Test {
    Is(Arc<str>),
    IsNot(Arc<str>),
    Contains(Arc<str>),
    NotContains(Arc<str>),
    BeginsWith(Arc<str>),
    EndsWith(Arc<str>),
    Glob(Pattern),
    Regex(Pattern),
    GreaterThan(Decimal),
    LessThan(Decimal),
    Present,
    Absent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Days {
    MoreThan(u32),
    FewerThan(u32),
}

/// A pattern that matches in time linear in the value.
#[derive(Debug, Clone)]
pub struct Pattern {
    source: Arc<str>,
    regex: Regex,
}

/// Bytes that one compiled pattern may take.
const PATTERN_SIZE: usize = 1 << 20;

impl Pattern {
    /// A regular expression, found anywhere in the value unless it is anchored by `^` and `$`.
    ///
    /// # Errors
    /// When it is not a regular expression, or compiles to more than a megabyte; the text says which.
    pub fn regex(source: &str, ignore_case: bool) -> Result<Self, String> {
        Self::compile(source, source, ignore_case)
    }

    /// `*` stands for any text, `?` for one character, and all else for itself; the whole value must match.
    ///
    /// # Errors
    /// When it compiles to more than a megabyte.
    pub fn glob(source: &str, ignore_case: bool) -> Result<Self, String> {
        let mut expression = String::from(r"\A(?s:");
        for character in source.chars() {
            match character {
                '*' => expression.push_str(".*"),
                '?' => expression.push('.'),
                other => expression.push_str(&regex::escape(other.encode_utf8(&mut [0; 4]))),
            }
        }
        expression.push_str(r")\z");
        Self::compile(source, &expression, ignore_case)
    }

    fn compile(source: &str, expression: &str, ignore_case: bool) -> Result<Self, String> {
        let built = regex::RegexBuilder::new(expression).case_insensitive(ignore_case).size_limit(PATTERN_SIZE).build();
        let regex = built.map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => format!("compiles to more than {PATTERN_SIZE} bytes"),
            // The last line says what is wrong; those before it draw where, for a terminal of its own.
            other => other.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned(),
        })?;
        Ok(Self { source: Arc::from(source), regex })
    }

    pub fn source(&self) -> &str {
        &self.source
    }

    pub fn captures(&self) -> impl Iterator<Item = &str> {
        self.regex.capture_names().flatten()
    }

    pub(super) fn matches(&self, value: &str) -> bool {
        self.regex.is_match(value)
    }

    pub(super) fn capture<'v>(&self, value: &'v str) -> Option<regex::Captures<'v>> {
        self.regex.captures(value)
    }

    /// As one alternative of an automaton that has no flags of its own.
    fn expression(&self, ignore_case: bool) -> String {
        format!("(?{}:{})", if ignore_case { "i" } else { "-i" }, self.regex.as_str())
    }
}

impl ClaimCondition {
    /// Whether the condition can only hold where some value passes it.
    pub fn is_positive(&self) -> bool {
        !matches!(self.test, Test::IsNot(_) | Test::NotContains(_) | Test::Absent)
    }

    /// The value that it looks for by equality.
    pub fn exact(&self) -> Option<&Arc<str>> {
        match &self.test {
            Test::Is(value) => Some(value),
            _ => None,
        }
    }

    /// The expression that finds its values, where it looks for more than equality.
    pub(super) fn expression(&self) -> Option<String> {
        let case = if self.ignore_case { "i" } else { "-i" };
        match &self.test {
            Test::Contains(text) => Some(format!("(?{case}:{})", regex::escape(text))),
            Test::BeginsWith(text) => Some(format!(r"\A(?{case}:{})", regex::escape(text))),
            Test::EndsWith(text) => Some(format!(r"(?{case}:{})\z", regex::escape(text))),
            Test::Glob(pattern) | Test::Regex(pattern) => Some(pattern.expression(self.ignore_case)),
            _ => None,
        }
    }

    /// Whether one value matches, whichever way the condition then goes.
    pub fn matches(&self, value: &str) -> bool {
        let folds = |wanted: &str, test: fn(&str, &str) -> bool| match self.ignore_case {
            true => test(&folded(value), &folded(wanted)),
            false => test(value, wanted),
        };
        // A part of a text is found by an expression, which folds letter by letter.
        let folds_letters = |wanted: &str, test: fn(&str, &str) -> bool| match self.ignore_case {
            true => test(&folded_letters(value), &folded_letters(wanted)),
            false => test(value, wanted),
        };
        match &self.test {
            Test::Is(wanted) | Test::IsNot(wanted) => folds(wanted, |value, wanted| value == wanted),
            Test::Contains(wanted) | Test::NotContains(wanted) => {
                folds_letters(wanted, |value, wanted| value.contains(wanted))
            }
            Test::BeginsWith(wanted) => folds_letters(wanted, |value, wanted| value.starts_with(wanted)),
            Test::EndsWith(wanted) => folds_letters(wanted, |value, wanted| value.ends_with(wanted)),
            Test::Glob(pattern) | Test::Regex(pattern) => pattern.matches(value),
            Test::GreaterThan(bound) => Decimal::parse(value).is_some_and(|number| number > *bound),
            Test::LessThan(bound) => Decimal::parse(value).is_some_and(|number| number < *bound),
            Test::Present | Test::Absent => true,
        }
    }

    /// The same test without regard to case, where it compares text and has that.
    pub fn ignoring_case(&self) -> Option<Self> {
        let test = match &self.test {
            _ if self.ignore_case => return None,
            Test::Glob(pattern) => Test::Glob(Pattern::glob(pattern.source(), true).ok()?),
            Test::Regex(pattern) => Test::Regex(Pattern::regex(pattern.source(), true).ok()?),
            Test::GreaterThan(_) | Test::LessThan(_) | Test::Present | Test::Absent => return None,
            text => text.clone(),
        };
        Some(Self { ignore_case: true, test, ..self.clone() })
    }

    fn truth(&self, facts: &Facts<'_>) -> Truth {
        match facts.look(&self.claim, self.delimiter.as_ref()) {
            // A provider that does not bring the claim says nothing by its absence either.
            Looked::Undeclared => Truth::False,
            Looked::Undecided => Truth::Undecided,
            Looked::Pieces(pieces) => {
                let found = pieces.iter().any(|piece| self.matches(piece));
                Truth::from(found == self.is_positive())
            }
        }
    }
}

impl Condition {
    /// Whether it depends on the person, not only on the claims.
    pub fn needs_person(&self) -> bool {
        !matches!(self, Self::Claim(_))
    }

    pub fn claim(&self) -> Option<&ClaimCondition> {
        match self {
            Self::Claim(condition) => Some(condition),
            _ => None,
        }
    }

    /// Its outcome. Without a person, what asks about one is undecided.
    pub fn truth(&self, facts: &Facts<'_>, person: Option<&Person>) -> Truth {
        match (self, person) {
            (Self::Claim(condition), _) => condition.truth(facts),
            (Self::Unreadable, _) | (_, None) => Truth::Undecided,
            (Self::HasRole(role), Some(person)) => person.has(role),
            (Self::LacksRole(role), Some(person)) => person.has(role).negated(),
            (Self::LastLogin(days), Some(person)) => Truth::from(person.idle_days.is_some_and(|idle| match days {
                Days::MoreThan(bound) => idle > i64::from(*bound),
                Days::FewerThan(bound) => idle < i64::from(*bound),
            })),
        }
    }
}

/// What is known of the person while the mappings run, one after the other.
#[derive(Debug, Clone, Default)]
pub struct Person {
    pub roles: BTreeSet<RoleName>,
    /// Roles that an undecided mapping may give.
    pub maybe: BTreeSet<RoleName>,
    /// Whole days since the login before this one.
    pub idle_days: Option<i64>,
}

impl Person {
    fn has(&self, role: &RoleName) -> Truth {
        match (self.roles.contains(role), self.maybe.contains(role)) {
            (true, _) => Truth::True,
            (false, true) => Truth::Undecided,
            (false, false) => Truth::False,
        }
    }
}

/// The claims of one login, each split at most once for each delimiter.
pub struct Facts<'a> {
    claims: &'a Claims,
    pieces: RefCell<Vec<Split<'a>>>,
}

struct Split<'a> {
    claim: ClaimName,
    delimiter: Option<Delimiter>,
    pieces: Rc<[&'a str]>,
}

/// What a claim says to a condition.
pub enum Looked<'a> {
    /// The provider declares no such claim.
    Undeclared,
    Undecided,
    Pieces(Rc<[&'a str]>),
}

impl<'a> Facts<'a> {
    pub fn new(claims: &'a Claims) -> Self {
        Self { claims, pieces: RefCell::default() }
    }

    pub fn claims(&self) -> &'a Claims {
        self.claims
    }

    /// Whether some claim cannot be decided on in this login.
    pub fn has_undecided(&self) -> bool {
        self.claims.claims.iter().any(|claim| !claim.decided)
    }

    pub fn look(&self, name: &ClaimName, delimiter: Option<&Delimiter>) -> Looked<'a> {
        let Some(claim) = self.claims.claims.iter().find(|claim| claim.name == *name) else {
            return Looked::Undeclared;
        };
        if !claim.decided {
            return Looked::Undecided;
        }
        let mut known = self.pieces.borrow_mut();
        if let Some(split) = known.iter().find(|split| split.claim == *name && split.delimiter.as_ref() == delimiter) {
            return Looked::Pieces(Rc::clone(&split.pieces));
        }
        let pieces: Rc<[&str]> = claim.pieces(delimiter).into();
        known.push(Split { claim: name.clone(), delimiter: delimiter.cloned(), pieces: Rc::clone(&pieces) });
        Looked::Pieces(pieces)
    }
}

/// A text as `contains`, `begins_with` and `ends_with` see it without case: folded letter by letter (Unicode's simple case folding), as the
/// expression of [`ClaimCondition::expression`] does, so that a part of a letter never matches.
fn folded_letters(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        return folded(text);
    }
    let one = |mut letters: std::vec::IntoIter<char>| letters.next().filter(|_| letters.next().is_none());
    let letter = |letter: char| {
        let mut text = [0; 4];
        let full: Vec<char> = folded(letter.encode_utf8(&mut text)).chars().collect();
        let lower: Vec<char> = letter.to_lowercase().collect();
        one(full.into_iter()).or_else(|| one(lower.into_iter())).unwrap_or(letter)
    };
    Cow::Owned(text.chars().map(letter).collect())
}

/// A text as comparisons without case see it: full Unicode case folding.
pub fn folded(text: &str) -> Cow<'_, str> {
    if !text.is_ascii() {
        return Cow::Owned(unicase::UniCase::unicode(text).to_folded_case());
    }
    match text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => Cow::Owned(text.to_ascii_lowercase()),
        false => Cow::Borrowed(text),
    }
}

/// The name of a group, a role or a mapping as comparisons see it: case aside, and however its accents are composed (NFC), since
/// people cannot tell such names apart.
pub fn alike(name: &str) -> Cow<'_, str> {
    if name.is_ascii() {
        return folded(name);
    }
    let folded = folded(name).into_owned();
    Cow::Owned(ComposingNormalizerBorrowed::new_nfc().normalize(&folded).into_owned())
}

/// A value as people see it: [`alike`], with every kind of blank as one, none at the ends, and nothing that cannot be seen. Values
/// are never compared so; it tells why one that looks right does not match.
pub fn as_seen(value: &str) -> Cow<'_, str> {
    if !may_be_seen_otherwise(value) {
        return folded(value);
    }
    let mut seen = String::with_capacity(value.len());
    let visible = value.chars().filter(|letter| !is_invisible(*letter));
    for letter in visible.map(|letter| if letter.is_whitespace() { ' ' } else { letter }) {
        if letter != ' ' || !(seen.is_empty() || seen.ends_with(' ')) {
            seen.push(letter);
        }
    }
    Cow::Owned(alike(seen.trim_end()).into_owned())
}

/// Whether [`as_seen`] may say another thing than [`folded`]: cheap, since it is asked of every value of a login.
pub fn may_be_seen_otherwise(value: &str) -> bool {
    let blank = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_whitespace);
    let bytes = value.as_bytes();
    !value.is_ascii()
        || blank(bytes.first())
        || blank(bytes.last())
        || bytes.windows(2).any(|pair| pair.iter().all(u8::is_ascii_whitespace))
        || bytes.iter().any(|byte| byte.is_ascii_whitespace() && *byte != b' ')
}

/// Zero-width characters, the soft hyphen, and the byte order mark.
fn is_invisible(letter: char) -> bool {
    matches!(letter, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{2064}' | '\u{feff}')
}

/// A decimal number of any size, compared exactly: `-12`, `3.50`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decimal {
    negative: bool,
    /// Without leading zeros.
    whole: String,
    /// Without trailing zeros.
    fraction: String,
}

impl Decimal {
    /// `None` when the text is no decimal number: an exponent, a sign other than `-`, or white space make it none.
    pub fn parse(text: &str) -> Option<Self> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
        let is_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if !is_digits(whole) || !is_digits(fraction) {
            return None;
        }
        let whole = whole.trim_start_matches('0').to_owned();
        let fraction = fraction.trim_end_matches('0').to_owned();
        let negative = negative && !(whole.is_empty() && fraction.is_empty());
        Some(Self { negative, whole, fraction })
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        let size = |number: &Self| (number.whole.len(), number.whole.clone(), number.fraction.clone());
        match (self.negative, other.negative) {
            (false, true) => Ordering::Greater,
            (true, false) => Ordering::Less,
            (false, false) => size(self).cmp(&size(other)),
            (true, true) => size(other).cmp(&size(self)),
        }
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = if self.whole.is_empty() { "0" } else { &self.whole };
        write!(f, "{}{whole}", if self.negative { "-" } else { "" })?;
        if self.fraction.is_empty() { Ok(()) } else { write!(f, ".{}", self.fraction) }
    }
}

impl Test {
    /// The operator as the configuration writes it, and what it compares with.
    pub fn parts(&self) -> (&'static str, Option<Cow<'_, str>>) {
        let text = |text: &'_ Arc<str>| -> Option<Cow<'_, str>> { Some(Cow::Owned(text.to_string())) };
        match self {
            Self::Is(value) => ("is", text(value)),
            Self::IsNot(value) => ("is_not", text(value)),
            Self::Contains(value) => ("contains", text(value)),
            Self::NotContains(value) => ("not_contains", text(value)),
            Self::BeginsWith(value) => ("begins_with", text(value)),
            Self::EndsWith(value) => ("ends_with", text(value)),
            Self::Glob(pattern) => ("glob", Some(Cow::Borrowed(pattern.source()))),
            Self::Regex(pattern) => ("regex", Some(Cow::Borrowed(pattern.source()))),
            Self::GreaterThan(bound) => ("greater_than", Some(Cow::Owned(bound.to_string()))),
            Self::LessThan(bound) => ("less_than", Some(Cow::Owned(bound.to_string()))),
            Self::Present => ("present", None),
            Self::Absent => ("absent", None),
        }
    }
}

impl fmt::Display for Condition {
    /// As the configuration says it: `groups begins_with "team-"`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Claim(condition) => {
                let (operator, value) = condition.test.parts();
                write!(f, "{} {operator}", condition.claim)?;
                if let Some(value) = value {
                    write!(f, " \"{value}\"")?;
                }
                f.write_str(&split_by(condition.delimiter.as_ref()))?;
                if condition.ignore_case { f.write_str(" (ignoring case)") } else { Ok(()) }
            }
            Self::HasRole(role) => write!(f, "has_role \"{role}\""),
            Self::LacksRole(role) => write!(f, "lacks_role \"{role}\""),
            Self::LastLogin(Days::MoreThan(days)) => write!(f, "last_login more than {days} days ago"),
            Self::LastLogin(Days::FewerThan(days)) => write!(f, "last_login fewer than {days} days ago"),
            Self::Unreadable => f.write_str("what only another sidecar's file can ask"),
        }
    }
}

/// A delimiter that replaces the claim's, as a part of a sentence.
pub(super) fn split_by(own: Option<&Delimiter>) -> String {
    match own.map(Delimiter::as_str) {
        None => String::new(),
        Some("") => String::from(" (whole values)"),
        Some(text) => format!(" (split by \"{text}\")"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// LOG19: the test of one value and the expression that the index searches by are of one mind about every letter.
    #[test]
    fn log19_letters_fold_as_expressions_do() {
        // Letters of a newer Unicode than the expressions' tables have, which no provider sends yet.
        let unassigned = Regex::new(r"\A\p{Unassigned}\z").unwrap();
        for letter in char::MIN..=char::MAX {
            let text = letter.to_string();
            let folded = folded_letters(&text).into_owned();
            assert_eq!(folded.chars().count(), 1, "{letter:?}");
            if folded != text && !unassigned.is_match(&text) {
                let expression = format!(r"\A(?i:{})\z", regex::escape(&folded));
                assert!(Regex::new(&expression).unwrap().is_match(&text), "{letter:?} and {folded:?}");
            }
        }
        let condition = |test: Test| ClaimCondition {
            claim: ClaimName::parse("street").unwrap(),
            test,
            ignore_case: true,
            delimiter: None,
        };
        for (wanted, value, holds) in [
            ("STRASSE", "große straße", false),
            ("STRASSE", "Lange Strasse 1", true),
            ("STRAẞE", "lange straße 1", true),
            ("KELVIN", "\u{212a}elvin", true),
            ("ΟΔΟΣ", "οδος", true),
            ("İ", "i", false),
        ] {
            let found = condition(Test::Contains(Arc::from(wanted)));
            assert_eq!(found.matches(value), holds, "{wanted} in {value}");
            let expression = Regex::new(&found.expression().unwrap()).unwrap();
            assert_eq!(expression.is_match(value), holds, "{wanted} in {value}, by its expression");
        }
    }

    #[test]
    fn numbers_compare_exactly() {
        let number = |text: &str| Decimal::parse(text).unwrap();
        for (less, more) in
            [("9007199254740992", "9007199254740993"), ("-2", "-1"), ("-1", "0"), ("1.09", "1.1"), ("9", "10")]
        {
            assert!(number(less) < number(more), "{less} < {more}");
        }
        assert_eq!(number("-0.0"), number("0"));
        assert_eq!(number("007.50"), number("7.5"));
        for no in ["", "-", "1e3", "+1", " 1", "1.", ".5", "0x1", "NaN", "١"] {
            assert_eq!(Decimal::parse(no), None, "{no:?}");
        }
    }

    #[test]
    fn a_glob_is_no_expression() {
        let glob = Pattern::glob("team-*.(x)?", false).unwrap();
        assert!(glob.matches("team-\n.(x)y"));
        assert!(!glob.matches("team-a(x)y"));
        assert!(!glob.matches("a team-.(x)y"));
    }

    #[test]
    fn folding_is_full() {
        assert_eq!(folded("Straße"), folded("STRASSE"));
        assert_eq!(folded("ΣΊΣΥΦΟΣ"), folded("σίσυφος"));
        assert!(matches!(folded("plain"), Cow::Borrowed(_)));
    }
}
