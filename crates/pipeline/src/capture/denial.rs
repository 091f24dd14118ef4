//! What an identity provider says when it logs no person in.
//!
//! Nothing of it is signed, so that it is for the log and the counters alone, bounded and without a letter that could write a
//! line of its own. It never comes into the audit.

use std::fmt;

/// An error code and what the provider adds to it (RFC 6749 section 4.1.2.1; SAML Core section 3.2.2.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    code: String,
    description: String,
}

/// Bytes of code and description together.
const MOST: usize = 512;
const MOST_CODE: usize = 100;

impl Denial {
    pub fn new(code: &str, description: Option<&str>) -> Self {
        let code = printable(code, MOST_CODE);
        let description = printable(description.unwrap_or_default().trim(), MOST - code.len());
        Self { code, description }
    }

    /// Whether the provider says that the fault is its own: the same login may pass in a moment.
    pub fn is_fault_of_provider(&self) -> bool {
        matches!(self.code.as_str(), "server_error" | "temporarily_unavailable")
    }

    /// The code as a label of a metric: one of a known few.
    pub fn label(&self) -> &'static str {
        let known = [
            "access_denied",
            "consent_required",
            "interaction_required",
            "invalid_grant",
            "invalid_request",
            "invalid_scope",
            "login_required",
            "server_error",
            "temporarily_unavailable",
            "unauthorized_client",
        ];
        known.into_iter().find(|label| *label == self.code).unwrap_or("other")
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { code, description } = self;
        if description.is_empty() { write!(f, "`{code}`") } else { write!(f, "`{code}`: {description}") }
    }
}

/// As much of a text as fits, with everything escaped that a terminal or a reader of log lines would not show as it is.
fn printable(text: &str, most: usize) -> String {
    let mut shown = String::new();
    for letter in text.chars() {
        let plain = letter.is_ascii_graphic() || letter == ' ' || letter.is_alphanumeric();
        let before = shown.len();
        if plain {
            shown.push(letter)
        } else {
            shown.extend(letter.escape_unicode())
        }
        if shown.len() > most {
            shown.truncate(before);
            return shown;
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denial_is_bounded_and_writes_no_line_of_its_own() {
        for (code, description, expected) in [
            ("access_denied", None, "`access_denied`"),
            ("access_denied", Some(" "), "`access_denied`"),
            (
                "access_denied",
                Some("AADSTS50105: the user is not assigned"),
                "`access_denied`: AADSTS50105: the user is not assigned",
            ),
            ("a\nb", Some("c\u{202e}d\te"), "`a\\u{a}b`: c\\u{202e}d\\u{9}e"),
        ] {
            assert_eq!(Denial::new(code, description).to_string(), expected);
        }
        let long = Denial::new(&"x".repeat(5000), Some(&"\u{1f600}".repeat(5000))).to_string();
        assert!(long.len() <= MOST + 4, "{}", long.len());
    }
}
