//! Where in a token a claim is found.

use serde_json::{Map, Value};

use super::names::{self, Part};
use crate::pipeline::number;
use crate::pipeline::verify::saml::SamlAttribute;

/// A literal name, or a path that begins with `/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// The top-level claim or SAML attribute (Name or FriendlyName) of exactly this name; dots, colons and URLs included.
    /// In SAML also the attribute whose long name it is short for.
    Name(String),
    /// A JSON Pointer (RFC 6901) with segments of our own: `*`, every element of a list; `~values`, every member of an object;
    /// `~keys`, the names of an object's members. An escape that RFC 6901 does not know is no name of a member.
    Path(Vec<Segment>),
}

/// The names by which a claim is found among SAML attributes.
pub(super) struct AttributeNames<'a> {
    own: Option<&'a str>,
    /// What `own` is short for.
    long: Option<&'static str>,
}

impl AttributeNames<'_> {
    pub fn is(&self, attribute: &SamlAttribute, by_name_alone: bool) -> bool {
        let named = |name: Option<&str>| name.is_some() && (self.own == name || self.long == name);
        let is_friendly = || self.own.is_some() && attribute.friendly_name.as_deref() == self.own;
        named(Some(&attribute.name)) || (!by_name_alone && is_friendly())
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    Member(String),
    Each,
    Values,
    Keys,
}

/// How many segments of one path may read many at once.
const MOST_SPREAD: usize = 2;

/// What a selector finds in a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found<'a> {
    /// Absent or null.
    Missing,
    /// The elements of the claim. A scalar is a list of one. An element of a list that lacks the field of a `*` path, or has
    /// something else in its place, is null here.
    Elements(Vec<Element<'a>>),
    /// A value on the way is of another shape than the path needs: the path goes on through a text, a number, a boolean or a
    /// list, `*` meets something that is not a list, or `~keys` or `~values` something that is not an object.
    WrongShape,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element<'a> {
    Value(&'a Value),
    /// The name of a member.
    Key(&'a str),
}

/// Why a text selects nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    #[error("is empty")]
    Empty,
    #[error("has an empty segment; expected a JSON Pointer such as `/realm_access/roles`")]
    EmptySegment,
    #[error("has `*` or `~values` more than twice; two lists or objects within each other can be read")]
    Spread,
    #[error("begins with `{0}`; expected the name of a claim first, such as `/roles/{0}`")]
    First(&'static str),
    #[error("goes on after `~keys`; expected it last, since a key has no members")]
    AfterKeys,
    #[error(
        "has `~` that is not followed by 0 or 1 (RFC 6901 section 3); expected `~keys` or `~values` where those are meant"
    )]
    Escape,
}

impl Selector {
    /// # Errors
    /// When the text is empty, or begins with `/` and is not a JSON Pointer.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        if text.is_empty() {
            return Err(SelectorError::Empty);
        }
        let Some(path) = text.strip_prefix('/') else { return Ok(Self::Name(text.to_owned())) };
        let segments = path.split('/').map(segment).collect::<Result<Vec<_>, _>>()?;
        match segments.split_first() {
            Some((Segment::Each, _)) => return Err(SelectorError::First("*")),
            Some((Segment::Values, _)) => return Err(SelectorError::First("~values")),
            Some((Segment::Keys, _)) => return Err(SelectorError::First("~keys")),
            Some((Segment::Member(_), _)) | None => {}
        }
        if segments.iter().filter(|segment| matches!(segment, Segment::Each | Segment::Values)).count() > MOST_SPREAD {
            return Err(SelectorError::Spread);
        }
        if segments.iter().rev().skip(1).any(|segment| *segment == Segment::Keys) {
            return Err(SelectorError::AfterKeys);
        }
        Ok(Self::Path(segments))
    }

    /// As recorded claims name it. The words are kept in databases, so that none of them may change.
    pub(super) fn recorded(&self) -> String {
        match self {
            Self::Name(name) => format!("name {}", Value::from(name.as_str())),
            Self::Path(segments) => {
                let segments: Vec<String> = segments
                    .iter()
                    .map(|segment| match segment {
                        Segment::Member(name) => format!("member {}", Value::from(name.as_str())),
                        Segment::Each => "each".into(),
                        Segment::Values => "values".into(),
                        Segment::Keys => "keys".into(),
                    })
                    .collect();
                format!("path {}", segments.join(" "))
            }
        }
    }

    /// As those of schema version 8 and earlier do.
    pub(super) fn recorded_before(&self) -> String {
        match self {
            Self::Name(name) => format!("Name({name:?})"),
            Self::Path(segments) => {
                let segments: Vec<String> = segments
                    .iter()
                    .map(|segment| match segment {
                        Segment::Member(name) => format!("Member({name:?})"),
                        Segment::Each => "Each".into(),
                        Segment::Values => "Values".into(),
                        Segment::Keys => "Keys".into(),
                    })
                    .collect();
                format!("Path([{}])", segments.join(", "))
            }
        }
    }

    /// Looks for the claim in a token.
    pub fn find<'a>(&self, payload: &'a Map<String, Value>) -> Found<'a> {
        let (first, rest) = match self {
            Self::Name(name) => (name, [].as_slice()),
            Self::Path(segments) => match segments.split_first() {
                Some((Segment::Member(first), rest)) => (first, rest),
                _ => return Found::Missing,
            },
        };
        payload.get(first).map_or(Found::Missing, |value| descend(value, rest))
    }

    /// What of an assertion beside its attributes this claim is.
    pub(super) fn part(&self) -> Option<Part> {
        match self {
            Self::Name(name) => Part::named(name),
            Self::Path(_) => None,
        }
    }

    /// Which SAML attributes are this claim.
    pub(super) fn attribute_names(&self) -> AttributeNames<'_> {
        match self {
            Self::Name(name) => AttributeNames { own: Some(name), long: names::long_name(name) },
            Self::Path(_) => AttributeNames { own: None, long: None },
        }
    }

    /// The top-level member that it reads.
    pub(super) fn top(&self) -> &str {
        match self {
            Self::Name(name) => name,
            Self::Path(segments) => match segments.first() {
                Some(Segment::Member(name)) => name,
                _ => "",
            },
        }
    }
}

fn segment(text: &str) -> Result<Segment, SelectorError> {
    match text {
        "" => Err(SelectorError::EmptySegment),
        "*" => Ok(Segment::Each),
        "~values" => Ok(Segment::Values),
        "~keys" => Ok(Segment::Keys),
        _ => {
            let mut member = String::with_capacity(text.len());
            let mut characters = text.chars();
            while let Some(character) = characters.next() {
                member.push(match (character, character == '~') {
                    (_, false) => character,
                    (_, true) => match characters.next() {
                        Some('0') => '~',
                        Some('1') => '/',
                        _ => return Err(SelectorError::Escape),
                    },
                });
            }
            Ok(Segment::Member(member))
        }
    }
}

fn descend<'a>(value: &'a Value, segments: &[Segment]) -> Found<'a> {
    let Some((segment, rest)) = segments.split_first() else { return elements(value) };
    let further = |value: Option<&'a Value>| value.map_or(Found::Missing, |value| descend(value, rest));
    match (segment, value) {
        (_, Value::Null) => Found::Missing,
        (_, number) if number::text(number).is_some() => Found::WrongShape,
        (Segment::Member(name), Value::Object(members)) => further(members.get(name)),
        (Segment::Member(name), Value::Array(items)) => match name.parse::<usize>() {
            Ok(at) => further(items.get(at)),
            Err(_) => Found::WrongShape,
        },
        (Segment::Each, Value::Array(items)) => {
            Found::Elements(items.iter().flat_map(|item| each(item, rest)).collect())
        }
        (Segment::Values, Value::Object(members)) => {
            Found::Elements(members.values().flat_map(|item| each(item, rest)).collect())
        }
        (Segment::Keys, Value::Object(members)) => {
            Found::Elements(members.keys().map(|key| Element::Key(key)).collect())
        }
        _ => Found::WrongShape,
    }
}

/// What one element of a list brings. One without the field stays, as null, and is counted as skipped.
fn each<'a>(item: &'a Value, rest: &[Segment]) -> Vec<Element<'a>> {
    match descend(item, rest) {
        Found::Elements(found) => found,
        Found::Missing | Found::WrongShape => vec![Element::Value(&Value::Null)],
    }
}

fn elements(value: &Value) -> Found<'_> {
    match value {
        Value::Null => Found::Missing,
        Value::Array(items) => Found::Elements(items.iter().map(Element::Value).collect()),
        scalar => Found::Elements(vec![Element::Value(scalar)]),
    }
}
