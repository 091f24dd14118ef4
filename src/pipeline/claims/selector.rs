//! Where in a token a claim is found.

use serde_json::{Map, Value};

use super::names;
use crate::pipeline::verify::saml::SamlAttribute;

/// A literal name, or a path that begins with `/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// The top-level claim or SAML attribute (Name or FriendlyName) of exactly this name; dots, colons and URLs included.
    /// In SAML also the attribute whose long name it is short for.
    Name(String),
    /// A JSON Pointer (RFC 6901), of which one segment may be `*`: every element of a list.
    Path(Vec<Segment>),
}

/// The names by which a claim is found among SAML attributes.
pub(super) struct AttributeNames<'a> {
    own: Option<&'a str>,
    /// What `own` is short for.
    long: Option<&'static str>,
}

impl AttributeNames<'_> {
    pub fn is(&self, attribute: &SamlAttribute) -> bool {
        let named = |name: Option<&str>| name.is_some() && (self.own == name || self.long == name);
        named(Some(&attribute.name)) || (self.own.is_some() && attribute.friendly_name.as_deref() == self.own)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    Member(String),
    Each,
}

/// Why a text selects nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    #[error("is empty")]
    Empty,
    #[error("has an empty segment; expected a JSON Pointer such as `/realm_access/roles`")]
    EmptySegment,
    #[error("has `*` more than once; one list at a time can be read")]
    Stars,
    #[error("has `~` that is not followed by 0 or 1 (RFC 6901 section 3)")]
    Escape,
}

impl Selector {
    /// # Errors
    /// When the text is empty, or begins with `/` and is no JSON Pointer.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        if text.is_empty() {
            return Err(SelectorError::Empty);
        }
        let Some(path) = text.strip_prefix('/') else { return Ok(Self::Name(text.to_owned())) };
        let segments = path.split('/').map(segment).collect::<Result<Vec<_>, _>>()?;
        if segments.iter().filter(|segment| **segment == Segment::Each).count() > 1 {
            return Err(SelectorError::Stars);
        }
        Ok(Self::Path(segments))
    }

    /// The elements of the claim in a token: `None` when it is absent or null; a scalar is a list of one.
    pub fn find<'a>(&self, payload: &'a Map<String, Value>) -> Option<Vec<&'a Value>> {
        match self {
            Self::Name(name) => elements(payload.get(name)?),
            Self::Path(segments) => {
                let (first, rest) = segments.split_first()?;
                let Segment::Member(first) = first else { return None };
                descend(payload.get(first)?, rest)
            }
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

fn descend<'a>(value: &'a Value, segments: &[Segment]) -> Option<Vec<&'a Value>> {
    match segments.split_first() {
        None => elements(value),
        Some((Segment::Member(name), rest)) => match value {
            Value::Object(members) => descend(members.get(name)?, rest),
            Value::Array(items) => descend(items.get(name.parse::<usize>().ok()?)?, rest),
            _ => None,
        },
        Some((Segment::Each, rest)) => match value {
            // An element without the field is an element of the wrong shape: it stays, and is counted as skipped.
            Value::Array(items) => {
                Some(items.iter().flat_map(|item| descend(item, rest).unwrap_or_else(|| vec![&Value::Null])).collect())
            }
            Value::Null => None,
            other => Some(vec![other].into_iter().flat_map(|item| descend(item, rest).unwrap_or_default()).collect()),
        },
    }
}

fn elements(value: &Value) -> Option<Vec<&Value>> {
    match value {
        Value::Null => None,
        Value::Array(items) => Some(items.iter().collect()),
        scalar => Some(vec![scalar]),
    }
}
