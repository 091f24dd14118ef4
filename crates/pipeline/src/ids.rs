//! Small types that can only hold valid text.
//!
//! Whatever passes a constructor here is not checked again: the rest of the program compares and prints these values and
//! nothing else. Cloning one copies a pointer.

use std::fmt;
use std::sync::Arc;

/// How long a name may be, in Unicode scalar values. Values that a token brings have limits of their own.
pub const MAX_NAME: usize = 1024;

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidText {
    #[error("is empty or blank")]
    Blank,
    #[error("is longer than {MAX_NAME} characters")]
    TooLong,
    #[error("contains a control character")]
    Control,
    #[error("begins or ends with white space")]
    Padded,
}

fn check(text: &str) -> Result<(), InvalidText> {
    if text.trim().is_empty() {
        return Err(InvalidText::Blank);
    }
    // Bytes bound scalar values from above, so the common case needs no counting.
    if text.len() > MAX_NAME && text.chars().count() > MAX_NAME {
        return Err(InvalidText::TooLong);
    }
    if text.chars().any(char::is_control) {
        return Err(InvalidText::Control);
    }
    if text.trim().len() != text.len() {
        return Err(InvalidText::Padded);
    }
    Ok(())
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $type(Arc<str>);

        impl $type {
            /// Takes the text as it is: nothing is trimmed or folded.
            ///
            /// # Errors
            /// When the text is blank, padded with white space, over [`MAX_NAME`] characters, or holds a control character.
            pub fn parse(text: &str) -> Result<Self, InvalidText> {
                check(text)?;
                Ok(Self(Arc::from(text)))
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl std::borrow::Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name!(
    /// The operator's name of a provider: one connection to an identity provider.
    ProviderName
);
name!(
    /// A group of the app.
    GroupName
);
name!(
    /// A role of the app.
    RoleName
);
name!(
    /// The name by which mappings speak of a claim: the key under `[provider.claims]`.
    ClaimName
);
name!(
    /// Who asserts: an OIDC issuer or a SAML entity ID. Compared byte for byte (OIDC Core 3.1.3.7 item 2).
    Issuer
);
name!(
    /// Within which subjects are unique. Providers that share one speak of the same people.
    Namespace
);
name!(
    /// Where a provider or a group belongs: development, test, production.
    Stage
);
name!(
    /// The value of the user claim: OIDC `sub`, SAML NameID, or what the operator named instead.
    Subject
);

/// A person, as the store knows them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserId {
    pub namespace: Namespace,
    pub subject: Subject,
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.subject)
    }
}

/// What a membership is of. Groups and roles are different types in every key, so a group never passes for a role of its name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    Group(GroupName),
    Role(RoleName),
}

impl Target {
    pub fn kind(&self) -> &'static str {
        match self {
            Target::Group(_) => "group",
            Target::Role(_) => "role",
        }
    }

    pub fn name(&self) -> &str {
        match self {
            Target::Group(name) => name.as_str(),
            Target::Role(name) => name.as_str(),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}`", self.kind(), self.name())
    }
}

/// Which mapping a grant came from: a digest of its name, or of its content when it has none (see [`super::mapping`]).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MappingId(pub [u8; 16]);

impl fmt::Display for MappingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digits = [0; 32];
        f.write_str(self.digits(&mut digits))
    }
}

impl fmt::Debug for MappingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl MappingId {
    /// What [`fmt::Display`] writes: 32 hexadecimal digits.
    pub fn from_digits(text: &str) -> Option<Self> {
        let digit = |letter: u8| char::from(letter).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let digits = text.as_bytes();
        if digits.len() != 32 {
            return None;
        }
        let mut bytes = [0; 16];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let &[high, low] = pair else { return None };
            *byte = digit(high)? << 4 | digit(low)?;
        }
        Some(Self(bytes))
    }

    /// What [`fmt::Display`] writes, into a place of the caller's: records name many mappings.
    pub fn digits(self, into: &mut [u8; 32]) -> &str {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let digit = |at: u8| DIGITS.get(usize::from(at & 15)).copied().unwrap_or(b'0');
        for (pair, byte) in into.chunks_exact_mut(2).zip(self.0) {
            pair.copy_from_slice(&[digit(byte >> 4), digit(byte)]);
        }
        std::str::from_utf8(into).unwrap_or_default()
    }

    /// Spreads over a hash table: it is a digest already, and only the operator chooses what of.
    pub fn spread(self) -> u64 {
        self.0.first_chunk().map_or(0, |first| u64::from_ne_bytes(*first))
    }
}

/// A moment, in milliseconds since 1970-01-01T00:00:00Z. Negative before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp(pub i64);

impl Timestamp {
    pub fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1000))
    }

    pub fn seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }

    #[must_use]
    pub fn plus(self, duration: std::time::Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }

    #[must_use]
    pub fn minus(self, duration: std::time::Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC with milliseconds; the bare number for a moment that has no calendar date.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match chrono::DateTime::from_timestamp_millis(self.0) {
            Some(date) => f.write_str(&date.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)),
            None => write!(f, "{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_is_named_by_its_32_digits_alone() {
        let id = MappingId(std::array::from_fn(|at| u8::try_from(at * 17).unwrap()));
        let digits = id.to_string();
        assert_eq!(MappingId::from_digits(&digits), Some(id));
        assert_eq!(MappingId::from_digits(&digits.to_uppercase()), Some(id));
        for other in [
            "+f".repeat(16),
            "-1".repeat(16),
            "0x".repeat(16),
            "g".repeat(32),
            "f".repeat(31),
            "f".repeat(33),
            " f".repeat(16),
        ] {
            assert_eq!(MappingId::from_digits(&other), None, "{other}");
        }
    }

    #[test]
    fn names_refuse_what_could_not_be_told_apart() {
        assert_eq!(GroupName::parse(""), Err(InvalidText::Blank));
        assert_eq!(GroupName::parse(" \u{a0} "), Err(InvalidText::Blank));
        assert_eq!(GroupName::parse(" a"), Err(InvalidText::Padded));
        assert_eq!(GroupName::parse("a\r\nb"), Err(InvalidText::Control));
        assert_eq!(GroupName::parse(&"a".repeat(1025)), Err(InvalidText::TooLong));
        assert!(GroupName::parse(&"ä".repeat(1024)).is_ok());
    }

    #[test]
    fn a_moment_prints_as_rfc_3339() {
        assert_eq!(Timestamp(1_700_000_000_123).to_string(), "2023-11-14T22:13:20.123Z");
        assert_eq!(Timestamp(-1).seconds(), -1);
    }
}
