//! Where in a token a claim is: a name, or a path.

use serde_json::Value;

/// A literal name, or a path that begins with `/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// The top-level claim or SAML attribute (Name or FriendlyName) of exactly this name; dots, colons and URLs included.
    /// In SAML also the attribute whose long name it is short for.
    Name(String),
    /// A JSON Pointer (RFC 6901) with segments of our own: `*`, every element of a list; `~values`, every member of an object;
    /// `~keys`, the names of an object's members. An escape that RFC 6901 does not know is not a name of a member.
    Path(Vec<Segment>),
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
    pub(crate) fn recorded(&self) -> String {
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
    pub(crate) fn recorded_before(&self) -> String {
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
