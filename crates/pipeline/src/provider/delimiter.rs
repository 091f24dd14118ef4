//! What stands between the pieces of one value.

use std::fmt;
use std::sync::Arc;

/// 1 to 3 Unicode scalar values between the pieces of one value.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Delimiter(Arc<str>);

/// Scalar values of a delimiter at most (OutSystems ODC's own limit).
pub const MAX_DELIMITER: usize = 3;

/// Why a text is no delimiter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("has {found} characters; expected 1 to {MAX_DELIMITER}")]
pub struct InvalidDelimiter {
    pub found: usize,
}

impl Delimiter {
    /// # Errors
    /// When the text is empty or longer than [`MAX_DELIMITER`].
    pub fn parse(text: &str) -> Result<Self, InvalidDelimiter> {
        match text.chars().count() {
            1..=MAX_DELIMITER => Ok(Self(Arc::from(text))),
            found => Err(InvalidDelimiter { found }),
        }
    }

    /// No splitting at all: what `delimiter = ""` in a mapping means.
    pub fn none() -> Self {
        Self(Arc::from(""))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Delimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}
