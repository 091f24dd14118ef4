//! A query that is part of an address, read the way the laxest app would read it.
//!
//! Some apps have one file for every page, and the query says which page is meant: php-saml's `index.php?acs`, WordPress'
//! `wp-login.php?saml_acs`, Yii's `index.php?r=saml/acs`. So that no spelling of such an address hides a login, a query is taken
//! for it wherever some app could:
//!
//! ```text
//! index.php?r=saml/acs is also   ?x=1&r=saml/acs     further parameters, any order
//!                                ?r=a&r=saml/acs     one of several: PHP reads the last, others the first
//!                                ?r=saml%2Facs       escapes, also escaped again
//!                                ?R[]=/SAML/acs/     case, lists, slashes at the ends
//! index.php?acs is also          ?acs=1 and ?acs=    an app asks whether it is there
//! ```

use std::borrow::Cow;

use super::escape;
use super::name::may_be_same;
use super::path::normal_form;

/// How often a value may be escaped; as for paths.
const MAX_DEPTH: usize = 4;

/// Values that apps ask for by being there, or by being true, so that any other may be read as they are.
const FLAGS: [&str; 9] = ["", "true", "yes", "on", "y", "t", "false", "no", "off"];

/// The parameters that an address asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted(Vec<Parameter>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Parameter {
    /// As it is written.
    name: String,
    /// As the laxest app reads it; `None` where any will do.
    value: Option<String>,
}

impl Wanted {
    /// Of a query without the `?`.
    pub fn of(query: &str) -> Self {
        let parameter = |(name, value): (&[u8], &[u8])| {
            let value = lax(value);
            let word = value.trim_start_matches('/');
            let is_flag = FLAGS.contains(&word) || word.bytes().all(|byte| byte.is_ascii_digit());
            Parameter { name: String::from_utf8_lossy(name).into_owned(), value: (!is_flag).then_some(value) }
        };
        Self(pairs(query.as_bytes()).map(parameter).collect())
    }

    /// Whether some app finds all of it in these queries, forms or `Cookie` headers together.
    pub fn may_be_in(&self, sources: &[&[u8]]) -> bool {
        let found_in =
            |source: &[u8], wanted: &Parameter| pairs(source).any(|(name, value)| wanted.may_be(name, value));
        let found = |wanted: &Parameter| {
            sources.iter().any(|source| match escape::settled(source) {
                Cow::Borrowed(source) => found_in(source, wanted),
                Cow::Owned(settled) => found_in(source, wanted) || found_in(&settled, wanted),
            })
        };
        self.0.iter().all(found)
    }
}

impl Parameter {
    fn may_be(&self, name: &[u8], value: &[u8]) -> bool {
        may_be_same(name, self.name.as_bytes()) && self.value.as_ref().is_none_or(|wanted| *wanted == lax(value))
    }
}

/// Names and values as they stand. A second `?` begins a new query for readers that look for the last one.
fn pairs(query: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let pairs = query.split(|byte| matches!(byte, b'&' | b';' | b'?')).filter(|pair| !pair.is_empty());
    pairs.map(|pair| match memchr::memchr(b'=', pair) {
        Some(at) => (pair.get(..at).unwrap_or_default(), pair.get(at + 1..).unwrap_or_default()),
        None => (pair, &[][..]),
    })
}

/// A value without what some reader drops: escapes, case, blanks, slashes and dots at its ends, what follows a NUL.
fn lax(value: &[u8]) -> String {
    let mut text: Vec<u8> = value.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    for _ in 0..MAX_DEPTH {
        text = percent_encoding::percent_decode(&text).collect();
    }
    let end = memchr::memchr(0, &text).unwrap_or(text.len());
    let text = String::from_utf8_lossy(text.get(..end).unwrap_or_default());
    normal_form(&format!("/{}", text.trim_matches(|letter: char| letter.is_whitespace() || letter == '"')))
}

/// An address of the app, divided into its path and its query.
pub fn divided(address: &str) -> (&str, Option<&str>) {
    let at = memchr::memchr(b'?', address.as_bytes());
    match at.and_then(|at| Some((address.get(..at)?, address.get(at + 1..)?))) {
        Some((path, query)) => (path, Some(query)),
        None => (address, None),
    }
}

/// Whether some app could take one address for the other.
pub fn may_be_same_address(one: &str, other: &str) -> bool {
    let ((path, query), (other_path, other_query)) = (divided(one), divided(other));
    let asked = |wanted: Option<&str>, query: Option<&str>| {
        wanted.is_none_or(|wanted| Wanted::of(wanted).may_be_in(&[query.unwrap_or_default().as_bytes()]))
    };
    normal_form(path) == normal_form(other_path) && (asked(query, other_query) || asked(other_query, query))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_asked(wanted: &str, query: &str) -> bool {
        Wanted::of(wanted).may_be_in(&[query.as_bytes()])
    }

    #[test]
    fn a_query_is_taken_for_an_address_where_some_app_could() {
        for query in [
            "r=saml/acs",
            "r=saml%2Facs",
            "r=saml%252facs",
            "R=SAML/ACS",
            "r[]=saml/acs",
            "r%5B0%5D=saml/acs",
            "x=1&r=saml/acs",
            "r=site/index&r=saml/acs",
            "r=saml/acs&r=site/index",
            "r=/saml/acs/",
            "r=saml\\acs",
            "r=saml//acs",
            "r=+saml/acs",
            "r=saml/acs%00x",
            "r=saml/acs%20",
            "x=1;r=saml/acs",
            "x?r=saml/acs",
            "%72=saml/acs",
            "r=sa%6=l/acs",
            "r=saml%2?acs",
            "+r=saml/acs",
            "r=saml/x/../acs",
        ] {
            assert!(is_asked("r=saml/acs", query), "{query}");
        }
        for query in ["", "r", "r=", "r=site/index", "r=saml/acs2", "rr=saml/acs", "acs=r", "x=r=saml/acs"] {
            assert!(!is_asked("r=saml/acs", query), "{query}");
        }
    }

    #[test]
    fn a_parameter_that_is_merely_there_may_have_any_value() {
        for wanted in ["acs", "acs=", "acs=1", "acs=true"] {
            for query in ["acs", "acs=", "acs=0", "ACS=x", "acs[]=1", "a=b&acs"] {
                assert!(is_asked(wanted, query), "{query} for {wanted}");
            }
            assert!(!is_asked(wanted, "sls") && !is_asked(wanted, "x=acs"), "{wanted}");
        }
        assert!(is_asked("option=saml&acs", "acs=1&option=SAML") && !is_asked("option=saml&acs", "acs=1"));
    }

    #[test]
    fn two_addresses_are_one_where_a_request_to_either_may_be_to_both() {
        assert!(may_be_same_address("/a?acs", "/A/?ACS=1&x"));
        assert!(may_be_same_address("/a", "/a?acs"));
        assert!(!may_be_same_address("/a?acs", "/a?sls"));
        assert!(!may_be_same_address("/a?acs", "/b?acs"));
    }
}
