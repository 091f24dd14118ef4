//! Which paths of the app need a session: the longest prefix decides.
//!
//! A path that is spelt oddly needs what the strictest of its readings needs. Apps differ on case, escapes, slashes,
//! parameters, formats and scripts, and what is open must be open however the app reads it:
//!
//! ```text
//! /public, open          everything else needs a session
//! /public/a.css          open
//! /PUBLIC/a.css          needs one: the app may tell cases apart, and then this is another path
//! /public%2f..%2fadmin   never gets here: refused as ambiguous
//!
//! /admin needs a session, everything else is open
//! /admin.json            needs one: Rails reads `/admin`
//! /index.php/admin       needs one: the script is given `/admin`
//! ```
//!
//! Where one gateway asks about several hosts, an entry may be for some of them. There it goes before those of the same prefix for all.
//!
//! An entry may be for some methods, and goes before one of the same prefix for all. If an app may read a request as another
//! method, the strictest method decides: a POST, whose body may say `_method`; a request that says so in a field of
//! its head or query; a method that is not in capitals.

use http::Method;

use crate::config::{Access, Need, PathRule};
use crate::pipeline::reading::path::{self, normal_form};

/// What paths need, by host and method.
pub struct Rules {
    /// Of the hosts that no entry names.
    others: Methods,
    named: Vec<(String, Methods)>,
}

impl Rules {
    pub fn new(access: &Access) -> Self {
        let mut hosts: Vec<&String> = access.paths.iter().flat_map(|rule| &rule.hosts).collect();
        hosts.sort_unstable();
        hosts.dedup();
        let named = hosts.into_iter().map(|host| (host.clone(), Methods::new(&at(access, Some(host))))).collect();
        Self { others: Methods::new(&at(access, None)), named }
    }

    /// What a request to a host needs. `is_overridden` says whether it names another method than its own somewhere.
    pub fn need(&self, host: &str, method: &Method, path: &str, is_overridden: impl FnOnce() -> bool) -> Need {
        let named = self.named.iter().find(|(name, _)| name == host).map(|(_, methods)| methods);
        named.unwrap_or(&self.others).need(method, path, is_overridden)
    }
}

/// The entries that hold at a host: those that name it, and of the prefixes that they leave those for all.
fn at(access: &Access, host: Option<&String>) -> Access {
    let names = |rule: &PathRule| host.is_some_and(|host| rule.hosts.contains(host));
    let is_named = |prefix: &str| access.paths.iter().any(|rule| rule.prefix == prefix && names(rule));
    let holds = |rule: &&PathRule| names(rule) || (rule.hosts.is_empty() && !is_named(&rule.prefix));
    Access { default: access.default, paths: access.paths.iter().filter(holds).cloned().collect() }
}

/// What paths of one host need, by method.
struct Methods {
    /// Of the methods that no entry names.
    others: Table,
    named: Vec<(Method, Table)>,
}

impl Methods {
    fn new(access: &Access) -> Self {
        let mut methods: Vec<&Method> = access.paths.iter().flat_map(|rule| &rule.methods).collect();
        methods.sort_unstable_by_key(|method| method.as_str());
        methods.dedup();
        let named = methods.into_iter().map(|method| (method.clone(), Table::new(access, Some(method)))).collect();
        Self { others: Table::new(access, None), named }
    }

    fn need(&self, method: &Method, path: &str, is_overridden: impl FnOnce() -> bool) -> Need {
        if self.named.is_empty() {
            return self.others.need(path);
        }
        let is_plain = *method != Method::POST && !method.as_str().bytes().any(|byte| byte.is_ascii_lowercase());
        if is_plain && !is_overridden() {
            let own = self.named.iter().find(|(named, _)| named == method).map(|(_, table)| table);
            return own.unwrap_or(&self.others).need(path);
        }
        let named = self.named.iter().map(|(_, table)| table.need(path));
        named.fold(self.others.need(path), Need::max)
    }
}

/// The prefixes of one method, as written and as the laxest app reads them.
struct Table {
    default: Need,
    exact: Vec<(String, Need)>,
    lax: Vec<(String, Need)>,
}

impl Table {
    fn new(access: &Access, method: Option<&Method>) -> Self {
        let names = |rule: &PathRule| method.is_some_and(|method| rule.methods.contains(method));
        let is_named = |prefix: &str| access.paths.iter().any(|rule| rule.prefix == prefix && names(rule));
        let applies = |rule: &&PathRule| names(rule) || (rule.methods.is_empty() && !is_named(&rule.prefix));
        let exact: Vec<(String, Need)> =
            access.paths.iter().filter(applies).map(|rule| (rule.prefix.clone(), rule.need)).collect();
        let lax = exact.iter().map(|(prefix, need)| (normal_form(prefix), *need)).collect();
        Self { default: access.default, exact, lax }
    }

    /// What a path needs.
    fn need(&self, path: &str) -> Need {
        let exact = longest(&self.exact, path).map_or(self.default, |rule| rule.1);
        if exact != Need::Nothing {
            return exact;
        }
        let mut strictest = Need::Nothing;
        let read = path::any_reading(path, |normal| {
            strictest = strictest.max(self.strictest(normal));
            false
        });
        // What cannot be read in one way never gets here; were it to, it would need a session.
        if read.is_err() { self.default.max(Need::Api) } else { strictest }
    }

    /// The strictest need of a path of normal form, and of those that an app may take it for.
    fn strictest(&self, normal: &str) -> Need {
        let direct = longest(&self.lax, normal);
        let mut need = direct.map_or(self.default, |rule| rule.1);
        let covered = direct.map_or(0, |rule| rule.0.len());
        for (end, rest) in path::behind_scripts(normal) {
            need = need.max(self.instead(normal, covered, end, rest));
            for head in path::without_format(rest) {
                need = need.max(self.instead(normal, covered, end, head));
            }
        }
        for head in path::without_format(normal) {
            need = need.max(self.instead(normal, covered, head.len() + 1, head));
        }
        if let Some((at, bare)) = path::without_extensions(normal) {
            need = need.max(self.instead(normal, covered, at + 1, &bare));
        }
        need
    }

    /// What a path needs that an app may read in place of another, whose rule covers it up to `covered`; they differ before
    /// `differs`. What the operator said of the path as it is written goes before what is said of everything.
    fn instead(&self, normal: &str, covered: usize, differs: usize, other: &str) -> Need {
        match longest(&self.lax, other) {
            Some(rule) if !covers(&rule.0, normal) => rule.1,
            _ if covered >= differs => Need::Nothing,
            rule => rule.map_or(self.default, |rule| rule.1),
        }
    }
}

/// The longest prefix, counted in whole segments; the strictest of equals.
fn longest<'r>(prefixes: &'r [(String, Need)], path: &str) -> Option<&'r (String, Need)> {
    let covering = prefixes.iter().filter(|(prefix, _)| covers(prefix, path));
    covering.max_by_key(|(prefix, need)| (prefix.len(), *need))
}

fn covers(prefix: &str, path: &str) -> bool {
    prefix == "/" || path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a request by GET.
    fn need(rules: &Rules, path: &str) -> Need {
        rules.need("", &Method::GET, path, || false)
    }

    fn rule((prefix, need): (&str, Need)) -> PathRule {
        PathRule::of(prefix, need)
    }

    fn rules() -> Rules {
        let paths = [("/public", Need::Nothing), ("/public/private", Need::Session), ("/api", Need::Api)];
        let paths = paths.map(rule).to_vec();
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
            assert_eq!(need(&rules, path), expected, "{path}");
        }
    }

    #[test]
    fn an_open_app_keeps_its_closed_corner() {
        let paths = vec![rule(("/admin", Need::Session))];
        let rules = Rules::new(&Access { default: Need::Nothing, paths });
        assert_eq!(need(&rules, "/x"), Need::Nothing);
        for path in ["/admin", "/ADMIN/x", "/%61dmin", "//admin", "/admin%2fx", "/admin;x", "/adm%69n#"] {
            assert_eq!(need(&rules, path), Need::Session, "{path}");
        }
    }

    #[test]
    fn formats_and_scripts_open_nothing() {
        let paths = [("/admin", Need::Session), ("/admin/api", Need::Api), ("/index.php/open", Need::Nothing)];
        let paths = paths.map(rule).to_vec();
        let rules = Rules::new(&Access { default: Need::Nothing, paths });
        for path in [
            "/admin.json",
            "/Admin.min.JSON",
            "/admin.php",
            "/admin.php/users",
            "/index.php/admin",
            "/index.php/admin.json",
            "/x/y.aspx/admin/users",
            "/index%2ephp/admin",
            "/cgi-bin/app/admin",
            "/admin%2ejson",
        ] {
            assert_eq!(need(&rules, path), Need::Session, "{path}");
        }
        assert_eq!(need(&rules, "/admin.php/api"), Need::Api);
        for path in ["/", "/admins.json", "/a.b/admin", "/index.php/open", "/index.php/x", "/administration"] {
            assert_eq!(need(&rules, path), Need::Nothing, "{path}");
        }
    }

    #[test]
    fn what_is_said_to_be_open_stays_open() {
        let paths = ["/favicon.ico", "/public", "/download.php", "/.well-known", "/admin.css"];
        let mut paths: Vec<_> = paths.iter().map(|path| PathRule::of(path, Need::Nothing)).collect();
        paths.push(rule(("/admin", Need::Session)));
        for rules in [
            Rules::new(&Access { default: Need::Session, paths: paths.clone() }),
            Rules::new(&Access { default: Need::Nothing, paths: [paths, vec![rule(("/", Need::Session))]].concat() }),
        ] {
            for path in [
                "/favicon.ico",
                "/public/app.min.js",
                "/download.php/a.pdf",
                "/download.php",
                "/.well-known/x.json",
                "/public/x.php",
            ] {
                assert_eq!(need(&rules, path), Need::Nothing, "{path}");
            }
            for path in ["/public/index.php/x", "/download.php/admin", "/admin.css", "/public/x.php/admin", "/x"] {
                assert_eq!(need(&rules, path), Need::Session, "{path}");
            }
        }
    }

    #[test]
    fn methods_open_what_they_name_and_nothing_that_may_be_another() {
        let of =
            |methods: &[Method], prefix, need| PathRule { methods: methods.to_vec(), ..PathRule::of(prefix, need) };
        let paths = vec![
            PathRule::of("/api", Need::Api),
            of(&[Method::OPTIONS], "/api", Need::Nothing),
            of(&[Method::GET, Method::HEAD], "/API/list", Need::Nothing),
            PathRule::of("/open", Need::Nothing),
            of(&[Method::DELETE], "/open", Need::Session),
        ];
        let rules = Rules::new(&Access { default: Need::Session, paths });
        let lower = Method::from_bytes(b"options").unwrap();
        for (method, path, overridden, expected) in [
            (Method::OPTIONS, "/api/x", false, Need::Nothing),
            (Method::OPTIONS, "/api/x", true, Need::Api),
            (lower.clone(), "/api/x", false, Need::Api),
            (Method::GET, "/api/x", false, Need::Api),
            (Method::OPTIONS, "/page", false, Need::Session),
            (Method::OPTIONS, "/API/x", false, Need::Session),
            (Method::GET, "/API/list", false, Need::Nothing),
            (Method::GET, "/api/list", false, Need::Api),
            (Method::GET, "/open/x", false, Need::Nothing),
            (Method::GET, "/open/x", true, Need::Session),
            (Method::DELETE, "/open/x", false, Need::Session),
            (Method::POST, "/open/x", false, Need::Session),
            (Method::PUT, "/open/x", false, Need::Nothing),
            (lower, "/open/x", false, Need::Session),
        ] {
            assert_eq!(rules.need("", &method, path, || overridden), expected, "{method} {path} {overridden}");
        }
    }

    #[test]
    fn hosts_have_entries_of_their_own() {
        let at = |host: &str, prefix, need| PathRule { hosts: vec![host.into()], ..PathRule::of(prefix, need) };
        let delete = PathRule { methods: vec![Method::DELETE], ..at("wiki", "/docs", Need::Session) };
        let paths = vec![
            PathRule::of("/public", Need::Nothing),
            PathRule::of("/docs", Need::Api),
            at("wiki", "/docs", Need::Nothing),
            delete,
            at("ci", "/public", Need::Session),
            at("ci", "/public/badges", Need::Nothing),
        ];
        let rules = Rules::new(&Access { default: Need::Session, paths });
        for (host, method, path, expected) in [
            ("app", Method::GET, "/public/a", Need::Nothing),
            ("wiki", Method::GET, "/public/a", Need::Nothing),
            ("ci", Method::GET, "/public/a", Need::Session),
            ("ci", Method::GET, "/public/badges/a", Need::Nothing),
            ("ci", Method::GET, "/PUBLIC/badges/a", Need::Session),
            ("app", Method::GET, "/public/badges/a", Need::Nothing),
            ("app", Method::GET, "/docs/a", Need::Api),
            ("ci", Method::GET, "/docs/a", Need::Api),
            ("wiki", Method::GET, "/docs/a", Need::Nothing),
            ("wiki", Method::DELETE, "/docs/a", Need::Session),
            ("wiki", Method::GET, "/DOCS/a", Need::Session),
            ("other", Method::GET, "/docs/a", Need::Api),
        ] {
            assert_eq!(rules.need(host, &method, path, || false), expected, "{host} {method} {path}");
        }
    }
}
