//! From a request's path to what it means here, read the way the laxest app would read it.
//!
//! A callback that reaches the app around us is a login without a sync, so a path counts as a callback when *any* plausible
//! reading of it is one. What is forwarded is always the path as it came; only the decision is lax.
//!
//! ```text
//! /Login/Callback      case              /login//callback      repeated slashes
//! /login/callback/     trailing slash    /login%2fcallback     escapes, also escaped again (%252f)
//! /login\callback      backslash         /login;a=b/callback   parameters
//! /login/callback.json format            /acs.php/x            what follows a script
//! /login/callback#x    fragment          /ｌogin/callback      full-width forms and letters that fold to ASCII
//! /login/x/../callback refused           /login%00/callback    refused
//! ```
//!
//! A `..` segment, a NUL, or an overlong UTF-8 form, at any depth of escaping, is refused everywhere: clients resolve the
//! first before they send, nobody needs the others, and two readers rarely agree on them.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use crate::config::OWN;
use crate::pipeline::capture::path::{MAX_DEPTH, normal_form, reading};
use crate::pipeline::provider::Provider;

/// What a path means.
#[derive(Debug, Clone, Copy)]
pub enum Route<'a> {
    /// Receives logins of these providers.
    Callback(&'a [Arc<Provider>]),
    /// May answer with an auto-post form to a provider.
    LoginPath,
    /// Takes logouts, and is the app's.
    LogoutPath,
    /// A page of ours, however it is spelt.
    Own,
    Other,
    /// Cannot be read in one way that everybody shares.
    Ambiguous,
}

/// The paths that mean something, by their normal form. Built once for a configuration.
#[derive(Debug, Default)]
pub struct Router {
    paths: HashMap<Box<str>, Meaning>,
    /// Of the paths, in bytes.
    longest: usize,
    /// Whether there are pages of ours.
    own: bool,
}

#[derive(Debug)]
enum Meaning {
    Callback(Vec<Arc<Provider>>),
    LoginPath,
    LogoutPath,
}

impl Router {
    pub fn new<'a>(
        providers: impl IntoIterator<Item = (&'a Arc<Provider>, &'a [String])>,
        logout_paths: &[String],
        own: bool,
    ) -> Self {
        let mut paths: HashMap<Box<str>, Meaning> = HashMap::new();
        for path in logout_paths {
            paths.insert(normal_form(path).into_boxed_str(), Meaning::LogoutPath);
        }
        for (provider, login_paths) in providers {
            for path in login_paths {
                paths.entry(normal_form(path).into_boxed_str()).or_insert(Meaning::LoginPath);
            }
            if provider.mode.is_relying_party() {
                continue;
            }
            for path in &provider.callbacks {
                // A path that is both is a callback: that rule is the stricter one.
                match paths.entry(normal_form(path).into_boxed_str()).or_insert(Meaning::Callback(Vec::new())) {
                    Meaning::Callback(providers) => providers.push(Arc::clone(provider)),
                    other => *other = Meaning::Callback(vec![Arc::clone(provider)]),
                }
            }
        }
        let longest = paths.keys().map(|path| path.len()).max().unwrap_or_default();
        Self { paths, longest, own }
    }

    /// Costs one look-up for a path of plain lower-case segments, and allocates nothing then.
    pub fn route(&self, path: &str) -> Route<'_> {
        if is_plain(path.as_bytes()) {
            return self.look_up(path).unwrap_or(Route::Other);
        }
        let mut buffer = [0; 256];
        if let Some(normal) = nearly_plain(path.as_bytes(), &mut buffer) {
            return self.look_up(normal).unwrap_or(Route::Other);
        }
        self.route_lax(path)
    }

    fn look_up(&self, normal: &str) -> Option<Route<'_>> {
        if self.own && is_own(normal) {
            return Some(Route::Own);
        }
        match self.paths.get(normal) {
            Some(Meaning::Callback(providers)) => Some(Route::Callback(providers)),
            Some(Meaning::LoginPath) => Some(Route::LoginPath),
            Some(Meaning::LogoutPath) => Some(Route::LogoutPath),
            None => self.beneath(normal),
        }
    }

    /// Rails and its like take `/acs.json` for `/acs`; CGI, PHP and ASP.NET give `/acs.php/x` to `/acs.php`. What can be posted
    /// there as JSON or multipart would be a login that nobody looked into.
    fn beneath(&self, normal: &str) -> Option<Route<'_>> {
        memchr::memchr(b'.', normal.as_bytes())?;
        // Heads longer than any callback are none, which also bounds what a long path costs.
        let heads = normal.char_indices().take_while(|(at, _)| *at <= self.longest);
        let (mut name, mut dotted) = (0, false);
        let last = normal.rfind('/').unwrap_or_default();
        for (at, c) in heads {
            let is_end = match c {
                '/' => std::mem::replace(&mut dotted, false),
                '.' => {
                    dotted = true;
                    at > name + 1 && name == last
                }
                _ => false,
            };
            if c == '/' {
                name = at;
            }
            if is_end && let Some(Meaning::Callback(providers)) = normal.get(..at).and_then(|head| self.paths.get(head))
            {
                return Some(Route::Callback(providers));
            }
        }
        None
    }

    /// Tries every reading: each depth of escaping, backslash as slash or not, cut at `#` and `?` or not.
    fn route_lax(&self, path: &str) -> Route<'_> {
        let mut login_path = false;
        let mut text: Cow<'_, [u8]> = Cow::Borrowed(path.as_bytes());
        for _ in 0..=MAX_DEPTH {
            if is_ambiguous(&text) {
                return Route::Ambiguous;
            }
            for slashed in [false, true] {
                for cut in [false, true] {
                    if (slashed && !text.contains(&b'\\')) || (cut && !text.iter().any(|b| matches!(b, b'#' | b'?'))) {
                        continue;
                    }
                    match self.look_up(&reading(&text, slashed, cut)) {
                        Some(Route::LoginPath) => login_path = true,
                        Some(route) => return route,
                        None => {}
                    }
                }
            }
            let decoded: Vec<u8> = percent_encoding::percent_decode(&text).collect();
            if decoded.len() == text.len() {
                return if login_path { Route::LoginPath } else { Route::Other };
            }
            text = Cow::Owned(decoded);
        }
        Route::Ambiguous
    }
}

fn is_own(normal: &str) -> bool {
    let bare = OWN.trim_end_matches('/');
    normal.strip_prefix(bare).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether the path is its own normal form.
fn is_plain(path: &[u8]) -> bool {
    let mut previous = 0;
    for byte in path {
        let plain = match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'~' => true,
            b'.' | b'/' => previous != b'/' && !(*byte == b'/' && previous == b'.'),
            _ => false,
        };
        if !plain {
            return false;
        }
        previous = *byte;
    }
    !path.is_empty() && (path.len() == 1 || !matches!(previous, b'/' | b'.'))
}

/// The normal form of a path that differs from it by case and slashes alone, without allocating.
fn nearly_plain<'b>(path: &[u8], buffer: &'b mut [u8; 256]) -> Option<&'b str> {
    let mut length = 0;
    let mut previous = 0;
    for byte in path.iter().copied().chain([b'/']) {
        match byte {
            b'/' if previous == b'.' => return None,
            b'.' if previous == b'/' => return None,
            b'/' | b'.' | b'-' | b'_' | b'~' | b'!' | b'$' | b'&' | b'+' | b',' | b':' | b'=' | b'@' => {}
            byte if byte.is_ascii_alphanumeric() => {}
            _ => return None,
        }
        if !(byte == b'/' && previous == b'/') {
            *buffer.get_mut(length)? = byte.to_ascii_lowercase();
            length += 1;
        }
        previous = byte;
    }
    std::str::from_utf8(buffer.get(..length.saturating_sub(1).max(1))?).ok()
}

fn is_ambiguous(text: &[u8]) -> bool {
    let overlong = |pair: &[u8]| match pair {
        // RFC 3629 section 3: no UTF-8 text holds these; lenient decoders read `/` and `.` out of them.
        [0xc0 | 0xc1, _] | [0xe0, 0x80..=0x9f] | [0xf0, 0x80..=0x8f] => true,
        _ => false,
    };
    text.contains(&0)
        || text.windows(2).any(overlong)
        || text.split(|byte| matches!(byte, b'/' | b'\\')).any(|segment| {
            let name = segment.split(|byte| matches!(byte, b';' | b'#' | b'?')).next().unwrap_or_default();
            let dots = name.iter().filter(|byte| **byte == b'.').count();
            // White space and control characters beside the dots are dropped by some readers.
            dots >= 2 && name.iter().all(|byte| *byte == b'.' || *byte <= b' ' || *byte == 0x7f)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn router() -> Router {
        let mut paths = HashMap::new();
        for path in ["/login/callback", "/saml/ACS", "/x/callback", "/", "/legacy/acs.php", "/x/../dots/acs"] {
            paths.insert(normal_form(path).into_boxed_str(), Meaning::Callback(Vec::new()));
        }
        paths.insert(normal_form("/login").into_boxed_str(), Meaning::LoginPath);
        let longest = paths.keys().map(|path| path.len()).max().unwrap();
        Router { paths, longest, own: true }
    }

    #[test]
    fn every_spelling_of_a_callback_is_one() {
        let router = router();
        for path in [
            "/login/callback",
            "/Login/CALLBACK",
            "/login/callback/",
            "/login/callback///",
            "//login//callback",
            "/./login/./callback/.",
            "/login%2fcallback",
            "/login%252Fcallback",
            "/login%25252Fcallback",
            "/login%5ccallback",
            "/login\\callback",
            "/%5clogin/callback",
            "/%6c%6F%67in/callback",
            "/login;a=b/callback;jsessionid=1",
            "/login/callback%3bx",
            "/login/callback%23x",
            "/login/callback%2523/y",
            "/login/callback%3fx=1",
            "/login/callback%20",
            "/login/callback.",
            "/login/call%0aback",
            "/log\u{ff49}n/callback",
            "/logın/callback",
            "/LOG%C4%B0N/CALLBAC%E2%84%AA",
            "/saml/acs",
            "/%73aml/%41CS",
            "/x;%2523/callback",
            "/x;%5cy/callback",
            "/x;%252fy/callback",
            "/login/callback.json",
            "/login/callback.XML/",
            "/login/callback.a.b",
            "/login/callback%2ejson",
            "/legacy/acs.php/x",
            "/dots/acs",
            "/legacy/acs.php/x/y.z",
            "/Legacy//acs.PHP/x.json",
            "/legacy/acs.php.json",
            "/",
            "",
            "//",
        ] {
            assert!(matches!(router.route(path), Route::Callback(_)), "{path:?} is {:?}", router.route(path));
        }
    }

    #[test]
    fn what_no_two_readers_agree_on_is_refused() {
        let router = router();
        for path in [
            "/public/../login/callback",
            "/x//../callback",
            "/x/%2e%2e/callback",
            "/x/%252e%2e/callback",
            "/x/..;/callback",
            "/x%5c..%5ccallback",
            "/x/.%2e%20/callback",
            "/x/..",
            "/a%00b",
            "/a%2500",
            "/login%c0%afcallback",
            "/login%e0%80%afcallback",
            "/%25252525252541",
        ] {
            assert!(matches!(router.route(path), Route::Ambiguous), "{path:?} is {:?}", router.route(path));
        }
    }

    #[test]
    fn other_paths_are_left_alone() {
        let router = router();
        for path in [
            "/login/callbacks",
            "/login/callback/x",
            "/login/callback/x.json",
            "/.well-known/x",
            "/.json",
            "/legacy/acs",
            "/legacy/acs.phpx",
            "/login/callbacks.json",
            "/wiki/C%23",
            "/a..b/c...d",
            "/api/Items/42",
            "/logincallback",
            "/%e4%bd%a0",
            "*",
        ] {
            assert!(matches!(router.route(path), Route::Other), "{path:?} is {:?}", router.route(path));
        }
        assert!(matches!(router.route("/LOGIN"), Route::LoginPath));
    }

    #[test]
    fn the_quick_way_agrees_with_the_lax_one() {
        for path in ["/a/b.c", "/a_b~c-9", "/", "/a.b"] {
            assert!(is_plain(path.as_bytes()), "{path}");
            assert_eq!(reading(path.as_bytes(), true, true), path);
        }
        for path in ["", "/a/", "//a", "/a//b", "/.a", "/a./b", "/a.", "/A", "/a b", "/a%20", "/ä"] {
            assert!(!is_plain(path.as_bytes()), "{path}");
        }
        for path in ["", "/", "//", "/A", "/A//b/", "/a@b:c/", "/A.b//"] {
            assert_eq!(
                nearly_plain(path.as_bytes(), &mut [0; 256]),
                Some(&*reading(path.as_bytes(), true, true)),
                "{path}"
            );
        }
        for path in ["/./a", "/a./b", "/a;b", "/a%20", "/a\\b", "/a."] {
            assert_eq!(nearly_plain(path.as_bytes(), &mut [0; 256]), None, "{path}");
        }
    }
}
