//! Which paths of the app need a session: the longest prefix decides.
//!
//! A path that is spelt oddly needs what the strictest of its readings needs. Apps differ on case, escapes, slashes and
//! parameters, and what is open must be open however the app reads it:
//!
//! ```text
//! /public, open          everything else needs a session
//! /public/a.css          open
//! /PUBLIC/a.css          needs one: the app may tell cases apart, and then this is another path
//! /public%2f..%2fadmin   never gets here: refused as ambiguous
//! ```

use std::borrow::Cow;

use crate::config::{Access, Need};
use crate::pipeline::capture::path::{MAX_DEPTH, normal_form, reading};

/// The prefixes, as written and as the laxest app reads them.
pub struct Rules {
    default: Need,
    exact: Vec<(String, Need)>,
    lax: Vec<(String, Need)>,
}

impl Rules {
    pub fn new(access: &Access) -> Self {
        let lax = access.paths.iter().map(|(prefix, need)| (normal_form(prefix), *need)).collect();
        Self { default: access.default, exact: access.paths.clone(), lax }
    }

    /// What a path needs.
    pub fn need(&self, path: &str) -> Need {
        let exact = decide(&self.exact, path, self.default);
        if exact != Need::Nothing {
            return exact;
        }
        self.readings(path)
    }

    /// The strictest need of all readings of a path.
    fn readings(&self, path: &str) -> Need {
        let mut strictest = Need::Nothing;
        let mut text: Cow<'_, [u8]> = Cow::Borrowed(path.as_bytes());
        for _ in 0..=MAX_DEPTH {
            for slashed in [false, true] {
                for cut in [false, true] {
                    strictest = strictest.max(decide(&self.lax, &reading(&text, slashed, cut), self.default));
                }
            }
            let decoded: Vec<u8> = percent_encoding::percent_decode(&text).collect();
            if decoded.len() == text.len() {
                return strictest;
            }
            text = Cow::Owned(decoded);
        }
        // Escaped deeper than anyone does.
        self.default.max(Need::Api)
    }
}

/// The need of the longest prefix, counted in whole segments.
fn decide(prefixes: &[(String, Need)], path: &str, default: Need) -> Need {
    let covers = |prefix: &str| {
        prefix == "/" || path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let covering = prefixes.iter().filter(|(prefix, _)| covers(prefix));
    covering.max_by_key(|(prefix, _)| prefix.len()).map_or(default, |(_, need)| *need)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Rules {
        let paths = [("/public", Need::Nothing), ("/public/private", Need::Session), ("/api", Need::Api)];
        let paths = paths.map(|(prefix, need)| (prefix.to_owned(), need)).to_vec();
        Rules::new(&Access { default: Need::Session, paths })
    }

    #[test]
    fn the_longest_prefix_decides_and_odd_spellings_open_nothing() {
        let rules = rules();
        for (path, expected) in [
            ("/public", Need::Nothing),
            ("/public/", Need::Nothing),
            ("/public/a.css", Need::Nothing),
            ("/public/%41", Need::Nothing),
            ("/public/a;b=c", Need::Nothing),
            ("/publicity", Need::Session),
            ("/public/private", Need::Session),
            ("/public/private/x", Need::Session),
            ("/public/PRIVATE", Need::Session),
            ("/public//private", Need::Session),
            ("/public/%70rivate", Need::Session),
            ("/public/%2570rivate", Need::Session),
            ("/public/private%23", Need::Session),
            ("/public/private;x", Need::Session),
            ("/public%5cprivate", Need::Session),
            ("/PUBLIC/a", Need::Session),
            ("//public/a", Need::Session),
            ("/%70ublic/a", Need::Session),
            ("/x?/public", Need::Session),
            ("/x#/public", Need::Session),
            ("/", Need::Session),
            ("", Need::Session),
            ("*", Need::Session),
            ("/api", Need::Api),
            ("/api/v1", Need::Api),
            ("/apis", Need::Session),
        ] {
            assert_eq!(rules.need(path), expected, "{path}");
        }
    }

    #[test]
    fn an_open_app_keeps_its_closed_corner() {
        let paths = vec![("/admin".to_owned(), Need::Session)];
        let rules = Rules::new(&Access { default: Need::Nothing, paths });
        assert_eq!(rules.need("/x"), Need::Nothing);
        for path in ["/admin", "/ADMIN/x", "/%61dmin", "//admin", "/admin%2fx", "/admin;x", "/x\\..", "/adm%69n#"] {
            let expected = if path.starts_with("/x") { Need::Nothing } else { Need::Session };
            assert_eq!(rules.need(path), expected, "{path}");
        }
    }
}
