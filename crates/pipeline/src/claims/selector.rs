//! Where in a token a claim is found.

use serde_json::{Map, Value};

use super::names::{self, Part};
use crate::number;
pub use crate::provider::selector::{Segment, Selector, SelectorError};
use crate::verify::saml::SamlAttribute;

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

impl Selector {
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

    /// The part of an assertion, other than its attributes, that this claim reads.
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
