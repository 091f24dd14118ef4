//! From a request's path to what it means here.
//!
//! A callback that reaches the app around us is a login without a sync, so a path counts as a callback when *any* plausible
//! reading of it is one ([`path`]).

use std::collections::HashMap;
use std::sync::Arc;

use crate::config::OWN;
use crate::pipeline::provider::Provider;
use crate::pipeline::reading::path::{self, normal_form};

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
                let normal = normal_form(path);
                // A configured path behind a script is also the one without it, where a server rewrites addresses.
                for (_, rest) in path::behind_scripts(&normal) {
                    receives(&mut paths, rest, provider);
                }
                receives(&mut paths, &normal, provider);
            }
        }
        let longest = paths.keys().map(|path| path.len()).max().unwrap_or_default();
        Self { paths, longest, own }
    }

    /// Costs one look-up for a path of plain lower-case segments, and allocates nothing then.
    pub fn route(&self, path: &str) -> Route<'_> {
        let mut found = Route::Other;
        let read = path::any_reading(path, |normal| match self.look_up(normal) {
            Some(route @ (Route::LoginPath | Route::LogoutPath)) => {
                // Another reading may be a callback, whose rule is the stricter one.
                found = route;
                false
            }
            Some(route) => {
                found = route;
                true
            }
            None => false,
        });
        if read.is_err() { Route::Ambiguous } else { found }
    }

    fn look_up(&self, normal: &str) -> Option<Route<'_>> {
        if self.own && is_own(normal) {
            return Some(Route::Own);
        }
        let direct = self.exact(normal).or_else(|| self.beneath(normal));
        if let Some(Route::Callback(_)) = direct {
            return direct;
        }
        // What a front controller is given is a path of the app too.
        let mut behind = None;
        for (_, rest) in path::behind_scripts(normal) {
            match self.exact(rest).or_else(|| self.beneath(rest)) {
                Some(route @ Route::Callback(_)) => return Some(route),
                route => behind = behind.or(route),
            }
        }
        direct.or(behind)
    }

    fn exact(&self, normal: &str) -> Option<Route<'_>> {
        if normal.len() > self.longest {
            return None;
        }
        Some(match self.paths.get(normal)? {
            Meaning::Callback(providers) => Route::Callback(providers),
            Meaning::LoginPath => Route::LoginPath,
            Meaning::LogoutPath => Route::LogoutPath,
        })
    }

    /// Rails and its like take `/acs.json` for `/acs`; CGI, PHP and ASP.NET give `/acs.php/x` to `/acs.php`, or to `/acs` where
    /// extensions may be left out.
    fn beneath(&self, normal: &str) -> Option<Route<'_>> {
        memchr::memchr(b'.', normal.as_bytes())?;
        // Heads longer than any callback are none, which also bounds what a long path costs.
        let heads = normal.char_indices().take_while(|(at, _)| *at <= self.longest);
        let (mut name, mut dotted) = (0, false);
        for (at, c) in heads {
            let is_end = match c {
                '/' => {
                    name = at;
                    std::mem::replace(&mut dotted, false)
                }
                '.' => {
                    dotted = true;
                    at > name + 1 && ends_name(normal, name + 1, at)
                }
                _ => false,
            };
            if is_end && let Some(route @ Route::Callback(_)) = self.exact(normal.get(..at)?) {
                return Some(route);
            }
        }
        None
    }
}

/// Adds a provider to those whose logins a path receives. A path that was something else is now a callback: that rule is the
/// stricter one.
fn receives(paths: &mut HashMap<Box<str>, Meaning>, normal: &str, provider: &Arc<Provider>) {
    match paths.entry(normal.into()).or_insert(Meaning::Callback(Vec::new())) {
        Meaning::Callback(providers) if providers.iter().any(|known| known.name == provider.name) => {}
        Meaning::Callback(providers) => providers.push(Arc::clone(provider)),
        other => *other = Meaning::Callback(vec![Arc::clone(provider)]),
    }
}

/// Whether what follows the dot may be left out: a format in the last segment, a script's extension in any.
fn ends_name(normal: &str, start: usize, dot: usize) -> bool {
    match normal.get(dot..).and_then(|rest| rest.find('/')) {
        None => true,
        Some(length) => normal.get(start..dot + length).is_some_and(path::is_script),
    }
}

fn is_own(normal: &str) -> bool {
    let bare = OWN.trim_end_matches('/');
    normal.strip_prefix(bare).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn router() -> Router {
        let mut paths = HashMap::new();
        for path in ["/login/callback", "/saml/ACS", "/x/callback", "/", "/legacy/acs.php", "/x/../dots/acs"] {
            paths.insert(normal_form(path).into_boxed_str(), Meaning::Callback(Vec::new()));
        }
        paths.insert("/deep/acs".into(), Meaning::Callback(Vec::new()));
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
            "/login/callback%",
            "/login/callback%zz",
            "/%u006cogin/callback",
            "/login/callback.XML/",
            "/login/callback.a.b",
            "/login/callback%2ejson",
            "/legacy/acs.php/x",
            "/dots/acs",
            "/legacy/acs.php/x/y.z",
            "/Legacy//acs.PHP/x.json",
            "/legacy/acs.php.json",
            "/index.php/login/callback",
            "/INDEX.PHP//login/callback.json",
            "/index.php%2flogin/callback",
            "/a/b.aspx/login/callback/",
            "/cgi-bin/app/login/callback",
            "/login/callback.php/x",
            "/index.php",
            "/index.php;x/saml/acs",
            "/x.do/index.php/saml/acs",
            "/deep/acs",
            "/index.php/deep/acs",
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
            "/v1.0/login/callback",
            "/index.phpx/login/callback",
            "/x.php/login/callback/x",
            "/x.php",
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
}
