//! From a request's address to what it means here.
//!
//! A callback that reaches the app around us is a login without a sync, so a path counts as a callback when *any* plausible
//! reading of it is one ([`path`]), and so does a query where the callback has one ([`query`]). Where the path is a callback's
//! and the query is not, the request is an ordinary one, but the app may still find what it asks for in a form or a cookie:
//! see [`Found::beside`].

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use crate::pipeline::provider::{Mode, Provider};
use crate::pipeline::reading::escape;
use crate::pipeline::reading::path::{self, normal_form};
use crate::pipeline::reading::query::{Wanted, divided};

/// What an address means.
#[derive(Debug, Clone)]
pub enum Route<'a> {
    /// Receives logins of these providers.
    Callback(Cow<'a, [Arc<Provider>]>),
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

/// What was found out about an address.
#[derive(Debug)]
pub struct Found<'a> {
    pub route: Route<'a>,
    /// Callbacks at this path with another query. Empty for nearly all requests.
    pub beside: Beside<'a>,
}

/// The paths that mean something, by their normal form. Built once for a configuration.
#[derive(Debug, Default)]
pub struct Router {
    paths: HashMap<Box<str>, Meaning>,
    /// Of the paths, in bytes.
    longest: usize,
    /// Whether there are pages of ours.
    /// The path of our own pages in normal form, without the last slash; `None`: there are none.
    own: Option<Box<str>>,
}

/// What one path means.
#[derive(Debug, Default)]
struct Meaning {
    /// Their logins are received whatever the query is.
    always: Vec<Arc<Provider>>,
    /// Their logins are received where the query asks for it.
    by_query: Vec<(Wanted, Arc<Provider>)>,
    login_path: bool,
    logout_path: bool,
    logout_by_query: Vec<Wanted>,
}

impl Meaning {
    fn takes_logins(&self) -> bool {
        !(self.always.is_empty() && self.by_query.is_empty())
    }

    fn route(&self, query: Option<&str>) -> Route<'_> {
        let sources = [query.unwrap_or_default().as_bytes()];
        let asked = receivers(&self.by_query, &sources);
        if !asked.is_empty() {
            return callback(self.always.iter().cloned().chain(asked).collect());
        }
        if !self.always.is_empty() {
            return Route::Callback(Cow::Borrowed(&self.always));
        }
        if self.logout_path || self.logout_by_query.iter().any(|wanted| wanted.may_be_in(&sources)) {
            return Route::LogoutPath;
        }
        if self.login_path { Route::LoginPath } else { Route::Other }
    }
}

/// The providers whose address may be what these queries, forms or cookies ask for.
fn receivers(by_query: &[(Wanted, Arc<Provider>)], sources: &[&[u8]]) -> Vec<Arc<Provider>> {
    let asked = by_query.iter().filter(|(wanted, _)| wanted.may_be_in(sources));
    asked.map(|(_, provider)| Arc::clone(provider)).collect()
}

/// Logins of providers whose app exchanges codes are read by other rules than those of others, so that a request to both could
/// be read as neither.
fn callback<'a>(mut providers: Vec<Arc<Provider>>) -> Route<'a> {
    let relayed = providers.iter().filter(|provider| provider.mode == Mode::TokenRelay).count();
    if relayed > 0 && relayed < providers.len() {
        return Route::Ambiguous;
    }
    let mut names = Vec::new();
    providers.retain(|provider| {
        let is_new = !names.contains(&provider.name);
        names.push(provider.name.clone());
        is_new
    });
    Route::Callback(Cow::Owned(providers))
}

/// The callbacks at a path that a request's query does not ask for.
#[derive(Debug, Default)]
pub struct Beside<'a>(Vec<&'a [(Wanted, Arc<Provider>)]>);

impl<'a> Beside<'a> {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a bare code or an artifact logs a user in at one of these callbacks: by themselves they are no tokens that
    /// could be looked into.
    pub fn is_watched(&self) -> bool {
        self.0.iter().copied().flatten().any(|(_, provider)| provider.mode.is_watched())
    }

    /// What an app makes of the request that looks for its parameters in these forms and cookies as well as in the query.
    pub fn asked_in(&self, sources: &[&[u8]]) -> Option<Route<'a>> {
        let asked: Vec<_> = self.0.iter().flat_map(|by_query| receivers(by_query, sources)).collect();
        (!asked.is_empty()).then(|| callback(asked))
    }
}

impl Router {
    pub fn new<'a>(
        providers: impl IntoIterator<Item = (&'a Arc<Provider>, &'a [String])>,
        logout_paths: &[String],
        own: Option<&str>,
    ) -> Self {
        let mut paths: HashMap<Box<str>, Meaning> = HashMap::new();
        for address in logout_paths {
            let (path, query) = divided(address);
            let meaning = paths.entry(normal_form(path).into_boxed_str()).or_default();
            match query {
                Some(query) => meaning.logout_by_query.push(Wanted::of(query)),
                None => meaning.logout_path = true,
            }
        }
        for (provider, login_paths) in providers {
            for path in login_paths {
                paths.entry(normal_form(path).into_boxed_str()).or_default().login_path = true;
            }
            if provider.mode.is_relying_party() {
                continue;
            }
            for address in &provider.callbacks {
                let (path, query) = divided(address);
                let normal = normal_form(path);
                let wanted = query.map(Wanted::of);
                // A configured path behind a script is also the one without it, where a server rewrites addresses.
                for (_, rest) in path::behind_scripts(&normal) {
                    receives(&mut paths, rest, wanted.as_ref(), provider);
                }
                receives(&mut paths, &normal, wanted.as_ref(), provider);
            }
        }
        let longest = paths.keys().map(|path| path.len()).max().unwrap_or_default();
        let own = own.map(|own| normal_form(own.trim_end_matches('/')).into_boxed_str());
        Self { paths, longest, own }
    }

    /// Costs one look-up for a path of plain lower-case segments, and allocates nothing then.
    pub fn route(&self, path: &str, query: Option<&str>) -> Found<'_> {
        let mut found = Found { route: Route::Other, beside: Beside::default() };
        let read = path::any_reading(path, |normal| self.look_up(normal, query, &mut found));
        if read.is_err() || query.is_some_and(|query| escape::joins(path.as_bytes(), query.as_bytes())) {
            found.route = Route::Ambiguous;
        }
        if matches!(found.route, Route::Callback(_) | Route::Own | Route::Ambiguous) {
            found.beside = Beside::default();
        }
        found
    }

    /// Notes what a path of normal form means, and answers whether no other reading of it can mean more.
    fn look_up<'a>(&'a self, normal: &str, query: Option<&str>, found: &mut Found<'a>) -> bool {
        if self.own.as_deref().is_some_and(|own| is_own(own, normal)) {
            found.route = Route::Own;
            return true;
        }
        let direct = self.exact(normal).or_else(|| self.beneath(normal));
        if direct.is_some_and(|meaning| note(meaning, query, found)) {
            return true;
        }
        // What a front controller is given is a path of the app too.
        path::behind_scripts(normal).any(|(_, rest)| {
            let meaning = self.exact(rest).or_else(|| self.beneath(rest));
            meaning.is_some_and(|meaning| note(meaning, query, found))
        })
    }

    fn exact(&self, normal: &str) -> Option<&Meaning> {
        if normal.len() > self.longest {
            return None;
        }
        self.paths.get(normal)
    }

    /// Rails and its like take `/acs.json` for `/acs`; CGI, PHP and ASP.NET give `/acs.php/x` to `/acs.php`, or to `/acs` where
    /// extensions may be left out.
    fn beneath(&self, normal: &str) -> Option<&Meaning> {
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
            if is_end && let Some(meaning) = self.exact(normal.get(..at)?).filter(|meaning| meaning.takes_logins()) {
                return Some(meaning);
            }
        }
        None
    }
}

/// Another reading may still be a callback, whose rule is the stricter one.
fn note<'a>(meaning: &'a Meaning, query: Option<&str>, found: &mut Found<'a>) -> bool {
    let route = meaning.route(query);
    let is_decided = matches!(route, Route::Callback(_) | Route::Ambiguous);
    if !is_decided && !meaning.by_query.is_empty() {
        found.beside.0.push(&meaning.by_query);
    }
    if is_decided || matches!(found.route, Route::Other) {
        found.route = route;
    }
    is_decided
}

/// Adds a provider to those whose logins an address receives.
fn receives(paths: &mut HashMap<Box<str>, Meaning>, normal: &str, wanted: Option<&Wanted>, provider: &Arc<Provider>) {
    let meaning = paths.entry(normal.into()).or_default();
    match wanted {
        Some(wanted) => meaning.by_query.push((wanted.clone(), Arc::clone(provider))),
        None if meaning.always.iter().any(|known| known.name == provider.name) => {}
        None => meaning.always.push(Arc::clone(provider)),
    }
}

/// Whether what follows the dot may be left out: a format in the last segment, a script's extension in any.
fn ends_name(normal: &str, start: usize, dot: usize) -> bool {
    match normal.get(dot..).and_then(|rest| rest.find('/')) {
        None => true,
        Some(length) => normal.get(start..dot + length).is_some_and(path::is_script),
    }
}

fn is_own(own: &str, normal: &str) -> bool {
    normal.strip_prefix(own).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::pipeline::ids::{Issuer, Namespace, ProviderName};
    use crate::pipeline::provider::{Binding, ClaimLimits, Fold, OidcPolicy, Protocol, UserClaim, UserRule, UserTake};

    fn provider(name: &str, mode: Mode, callbacks: &[&str]) -> Arc<Provider> {
        let policy = OidcPolicy {
            client_id: "app".into(),
            trusted_audiences: Vec::new(),
            authorized_parties: Vec::new(),
            algorithms: Vec::new(),
            bearer: None,
        };
        let user = UserRule {
            namespace: Namespace::parse("idp").unwrap(),
            claim: UserClaim::Subject,
            take: UserTake::Only,
            fold: Fold::Exact,
            email_claim: None,
            name_claim: None,
        };
        Arc::new(Provider {
            name: ProviderName::parse(name).unwrap(),
            issuer: Issuer::parse("https://idp.example.com").unwrap(),
            issuer_aliases: Vec::new(),
            mode,
            protocol: Protocol::Oidc(policy),
            callbacks: callbacks.iter().map(ToString::to_string).collect(),
            binding: Binding::Require,
            stages: Vec::new(),
            user,
            claims: Vec::new(),
            overage: None,
            strict: false,
            leeway: Duration::ZERO,
            max_age: Duration::ZERO,
            limits: ClaimLimits { values: 1, bytes: 1 },
        })
    }

    fn router() -> Router {
        let callbacks =
            ["/login/callback", "/saml/ACS", "/x/callback", "/", "/legacy/acs.php", "/x/../dots/acs", "/deep/acs"];
        let provider = provider("idp", Mode::OidcFormPost, &callbacks);
        Router::new([(&provider, ["/login".to_owned()].as_slice())], &[], Some("/.loginsync/"))
    }

    #[test]
    fn a_host_may_stand_before_a_path() {
        let router = router();
        for path in ["//x/saml/acs", "/\\x/saml/acs", "//u@x:80/saml/%61cs", "////x/SAML/acs", "/(S(a))/saml/acs"] {
            assert!(matches!(route(&router, path), Route::Callback(_)), "{path}");
        }
        for path in ["//x/y/saml/acs", "/x/saml/acs", "/(S)/saml/acs", "/x(S(a))/saml/acs"] {
            assert!(!matches!(route(&router, path), Route::Callback(_)), "{path}");
        }
    }

    /// By path alone.
    fn route<'r>(router: &'r Router, path: &str) -> Route<'r> {
        router.route(path, None).route
    }

    #[test]
    fn a_callback_with_a_query_is_the_query_too() {
        let one = provider("one", Mode::OidcFormPost, &["/index.php?r=saml/acs"]);
        let two = provider("two", Mode::TokenRelay, &["/index.php?r=oauth/cb"]);
        let logout = ["/index.php?r=sls".to_owned()];
        let router = Router::new([(&one, ["/index.php".to_owned()].as_slice()), (&two, [].as_slice())], &logout, None);
        let names = |route| match route {
            Route::Callback(providers) => providers.iter().map(|provider| provider.name.to_string()).collect(),
            other => vec![format!("{other:?}")],
        };
        for (path, query, expected) in [
            ("/index.php", Some("r=saml/acs"), "one"),
            ("/INDEX.php/", Some("a=b&R[]=saml%2Facs&c=d"), "one"),
            ("/index.php/saml", Some("r=saml/acs"), "one"),
            ("/", Some("r=saml/acs"), "one"),
            ("/index.php", Some("r=oauth/cb"), "two"),
            ("/index.php", Some("r=oauth/cb&r=saml/acs"), "Ambiguous"),
            ("/index.php", Some("r=sls"), "LogoutPath"),
            ("/index.php", Some("r=site/index"), "LoginPath"),
            ("/index.php", None, "LoginPath"),
            ("/other.php", Some("r=saml/acs"), "Other"),
        ] {
            assert_eq!(names(router.route(path, query).route), [expected], "{path} {query:?}");
        }
        let found = router.route("/index.php", Some("r=site/index"));
        assert!(found.beside.is_watched());
        let asked = |cookie: &'static [u8]| found.beside.asked_in(&[b"r=site/index", cookie]);
        assert!(matches!(asked(b"a=b; r=saml/acs"), Some(Route::Callback(providers)) if providers.len() == 1));
        assert!(asked(b"a=b; r=sls").is_none());
        assert!(router.route("/index.php", Some("r=saml/acs")).beside.is_empty());
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
            assert!(matches!(route(&router, path), Route::Callback(_)), "{path:?} is {:?}", route(&router, path));
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
            assert!(matches!(route(&router, path), Route::Ambiguous), "{path:?} is {:?}", route(&router, path));
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
            assert!(matches!(route(&router, path), Route::Other), "{path:?} is {:?}", route(&router, path));
        }
        assert!(matches!(route(&router, "/LOGIN"), Route::LoginPath));
    }
}
