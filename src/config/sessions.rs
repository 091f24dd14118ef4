//! Sessions and who may see what: `[session]`, `[access]`, `[[path]]`, `[forward_auth]`, and the keys of sessions in the
//! watching modes.

use std::time::Duration;

use http::Method;

use super::problem::{alternatives, nearest};
use super::reader::{Found, Section};
use super::settings::{ELSEWHERE, seconds};
use super::values::{self, Wrong};
use super::{Elsewhere, ProviderSettings, PublicUrl};
use crate::pipeline::provider::Mode;
use crate::pipeline::reading::query::may_be_same_address;

/// Everything that sessions are configured by.
#[derive(Debug, Clone)]
pub struct SessionSettings {
    /// Without a request for so long a session ends.
    pub idle: Duration,
    /// So long after its login it ends however much it is used.
    pub absolute: Duration,
    /// How long what was read of a session serves the next requests.
    pub cache: Duration,
    pub most_per_user: usize,
    /// With which requests of other sites browsers send its cookie, where it is not bound to a cookie of the app.
    pub same_site: SameSite,
    /// The domain to whose hosts browsers send the cookie. `None`: to the app's own host alone.
    pub cookie_domain: Option<String>,
    /// So long after its last sync a session asks its provider again, by refresh token.
    pub renew: Option<Duration>,
    /// The app's own session cookie, where our session is bound to it: `identity = "session"`.
    pub app_cookie: Option<String>,
    /// A session goes on when the app renews that cookie.
    pub follows_app: bool,
    /// The app's own logout addresses.
    pub logout_paths: Vec<String>,
    /// `None`: no provider of mode `relying-party`, so that nothing stands before the app.
    pub access: Option<Access>,
    /// Where the guard lets be what carries a login outside callbacks: where nothing is needed.
    pub guarded: Access,
    pub forward_auth: Option<ForwardAuth>,
}

/// Which paths of the app need a session.
#[derive(Debug, Clone)]
pub struct Access {
    pub default: Need,
    pub paths: Vec<PathRule>,
}

/// What a prefix needs, for some hosts and methods or for all that no other entry of the prefix names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathRule {
    pub prefix: String,
    /// Empty: all that no other entry of the prefix names.
    pub hosts: Vec<String>,
    /// Empty: all others.
    pub methods: Vec<Method>,
    pub need: Need,
}

impl PathRule {
    /// For all hosts and methods.
    pub fn of(prefix: &str, need: Need) -> Self {
        Self { prefix: prefix.to_owned(), hosts: Vec::new(), methods: Vec::new(), need }
    }
}

/// What a path needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    Nothing,
    /// A session; without one the answer is 401.
    Api,
    /// A session; a browser that has none is sent to sign in.
    Session,
}

/// With which requests that another site makes a browser sends a cookie (RFC 6265bis section 5.6.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SameSite {
    /// With none: not with a link that leads here either.
    Strict,
    /// Not with what other sites post.
    Lax,
    /// With all: also where another site shows the app in a frame.
    None,
}

#[derive(Debug, Clone)]
pub struct ForwardAuth {
    pub path: String,
    pub gateway: Gateway,
    /// Hosts other than the app's own about which the gateway asks, in lower case. Empty: the host is not checked.
    pub hosts: Vec<String>,
}

/// Whose questions are answered: gateways differ in how they tell of the request and take a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gateway {
    /// Takes 401 alone; its configuration turns that into a redirect.
    Nginx,
    /// Hands any refusal to the browser.
    Traefik,
    Caddy,
    /// Appends the request's own path to ours.
    Envoy,
}

const NEEDS: [(&str, Need); 3] = [("required", Need::Session), ("api", Need::Api), ("public", Need::Nothing)];

/// What sessions depend on elsewhere in the file.
pub struct Beside<'a> {
    /// Of every provider whose mode could be read, whatever else is wrong with it.
    pub modes: &'a [Mode],
    pub providers: &'a [ProviderSettings],
    /// Cookie keys are configured.
    pub sealed: bool,
    /// `listen.trusted_proxies` names an address.
    pub trusts: bool,
    /// What holds for paths that no `[[path]]` speaks of.
    pub guard: Elsewhere,
    pub public_url: Option<&'a PublicUrl>,
    /// Where our own pages are.
    pub own: &'a str,
}

/// Reads it all.
pub fn read(root: &Section<'_>, beside: &Beside<'_>) -> SessionSettings {
    let Beside { modes, providers, sealed, trusts, guard, public_url, own } = *beside;
    let has = |wanted: fn(Mode) -> bool| modes.iter().any(|mode| wanted(*mode));
    let relies = has(Mode::is_relying_party);
    let section = root.section("session");
    let (idle, absolute) = limits(&section);
    let renew = section.parsed("renew", values::duration);
    let forward_auth = forward_auth(root, trusts, own);
    let hosts = Hosts { own: public_url.map(PublicUrl::host), others: others(forward_auth.as_ref()) };
    let (access, guarded) = access(root, relies, guard, &hosts);
    let settings = SessionSettings {
        idle,
        absolute,
        cache: section.duration("cache", seconds(1), seconds(0)..=seconds(60)),
        most_per_user: section.count("most_per_user", 20, 1..=1000),
        same_site: same_site(&section, relies, public_url),
        cookie_domain: cookie_domain(&section, relies, public_url),
        renew: renew.map(|found| renewal(&section, found, sealed)),
        app_cookie: app_cookie(root, has(Mode::is_watched)),
        follows_app: follows_app(root),
        logout_paths: logout_paths(root, providers),
        access,
        guarded,
        forward_auth,
    };
    check_hosts(root, &section, &settings);
    section.finish();
    let bears = has(|mode| mode == Mode::Bearer);
    if settings.forward_auth.is_some() && !relies && !bears && settings.app_cookie.is_none() && !root.context.torn {
        let span = root.written("forward_auth").unwrap_or_else(|| root.span.clone());
        let message = "no request would pass; expected a provider of mode `relying-party` or `bearer`, or \
                       `identity = \"session\"`";
        root.raise(&span, "forward_auth", message);
    }
    settings
}

fn limits(section: &Section<'_>) -> (Duration, Duration) {
    let range = seconds(60)..=seconds(90 * 86_400);
    let idle = section.duration("idle", seconds(3600), range.clone());
    let absolute = section.duration("absolute", seconds(12 * 3600), range);
    if idle > absolute {
        let span = section.written("idle").or_else(|| section.written("absolute")).unwrap_or(section.span.clone());
        section.raise(&span, "idle", "is longer than `absolute`, so that it would never be reached");
    }
    (idle, absolute)
}

const OF_RELYING_PARTY: &str = "applies only with a provider of mode `relying-party`: together with the app's own \
    cookie, ours is always \"none\", on the app's own host";

fn same_site(section: &Section<'_>, relies: bool, public_url: Option<&PublicUrl>) -> SameSite {
    let words = [("lax", SameSite::Lax), ("strict", SameSite::Strict), ("none", SameSite::None)];
    let same_site = section.word("same_site", &words, SameSite::Lax);
    let Some(span) = section.written("same_site") else { return same_site };
    if !relies && !section.context.torn {
        section.raise(&span, "same_site", OF_RELYING_PARTY);
    } else if same_site == SameSite::None && public_url.is_some_and(|url| !url.secure) {
        let message =
            "found `none`; `public_url` is http, where browsers refuse such a cookie; expected \"lax\" or \"strict\"";
        section.raise(&span, "same_site", message);
    }
    same_site
}

/// Whether a host is of a domain.
fn is_of(host: &str, domain: &str) -> bool {
    host == domain || host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'))
}

fn cookie_domain(section: &Section<'_>, relies: bool, public_url: Option<&PublicUrl>) -> Option<String> {
    let Found { value: domain, span } = section.parsed("cookie_domain", values::cookie_domain)?;
    if !relies && !section.context.torn {
        section.raise(&span, "cookie_domain", OF_RELYING_PARTY);
    }
    match public_url {
        Some(url) if !url.secure => {
            section.raise(
                &span,
                "cookie_domain",
                "`public_url` is http; expected https, or the cookie could be set by any host of the domain",
            );
        }
        Some(url) if !is_of(&url.host(), &domain) => {
            let message =
                format!("`{}` of `public_url` is not a host of it; expected a domain of which it is", url.host());
            section.raise(&span, "cookie_domain", message);
        }
        _ => {}
    }
    Some(domain)
}

/// Every host needs the cookie, and no other one should see it.
fn check_hosts(root: &Section<'_>, session: &Section<'_>, settings: &SessionSettings) {
    let hosts = others(settings.forward_auth.as_ref());
    let section = root.section("forward_auth");
    match (&settings.cookie_domain, section.written("hosts"), session.written("cookie_domain")) {
        (None, Some(span), None) => {
            let message = "needs `session.cookie_domain`: without it browsers send the session's cookie to the host of `public_url` alone";
            section.raise(&span, "hosts", message);
        }
        (Some(domain), Some(span), _) => {
            if let Some(host) = hosts.iter().find(|host| !is_of(host, domain)) {
                let message = format!(
                    "`{host}` is not a host of `session.cookie_domain`, `{domain}`: browsers send it no cookie of ours"
                );
                section.raise(&span, "hosts", message);
            }
        }
        (Some(_), None, Some(span)) if !root.context.torn => {
            let message = "shows the session's cookie to every host of the domain, and `forward_auth.hosts` names none that needs it";
            session.raise(&span, "cookie_domain", message);
        }
        _ => {}
    }
}

/// A refresh token is sealed with the cookie keys. Were those in the store as well, its reader could use it.
fn renewal(section: &Section<'_>, found: Found<Duration>, sealed: bool) -> Duration {
    if !sealed {
        let message = "needs `cookies.keys_file` or `cookies.keys_env`: refresh tokens are sealed with these keys, which must \
                       not lie in the same store";
        section.raise(&found.span, "renew", message);
    }
    if found.value < seconds(10) {
        let message = format!("found `{}`; expected at least `10s`", values::written(found.value));
        section.raise(&found.span, "renew", message);
    }
    found.value
}

fn app_cookie(root: &Section<'_>, watches: bool) -> Option<String> {
    let by_session = root.word("identity", &[("callback", false), ("session", true)], false);
    let cookie = root.parsed("app_session_cookie", values::cookie_name);
    let span = root.written("identity");
    match (by_session, cookie, span) {
        (true, None, Some(span)) if root.written("app_session_cookie").is_none() => {
            let message = "`app_session_cookie` is missing; expected the name of the app's own session cookie, to which ours \
                           is bound";
            root.raise(&span, "identity", message);
            None
        }
        (true, _, Some(span)) if !watches && !root.context.torn => {
            let message =
                "no provider's mode watches the app's own logins; mode `relying-party` has sessions by itself";
            root.raise(&span, "identity", message);
            None
        }
        (true, cookie, _) => cookie.map(|found| found.value),
        (false, Some(found), _) => {
            root.raise(&found.span, "app_session_cookie", "applies only with `identity = \"session\"`");
            None
        }
        (false, None, _) => None,
    }
}

fn follows_app(root: &Section<'_>) -> bool {
    let follows = root.word("app_session_renewal", &[("unbind", false), ("follow", true)], false);
    if let (Some(span), None) = (root.written("app_session_renewal"), root.written("app_session_cookie")) {
        root.raise(
            &span,
            "app_session_renewal",
            "needs `identity = \"session\"`: without it there is no session to continue",
        );
    }
    follows
}

fn logout_paths(root: &Section<'_>, providers: &[ProviderSettings]) -> Vec<String> {
    let paths = root.list("logout_paths", true, values::app_address).unwrap_or_default();
    let Some(span) = root.written("logout_paths") else { return paths };
    if root.written("app_session_cookie").is_none() {
        root.raise(&span, "logout_paths", "needs `identity = \"session\"`: without it there are no sessions to end");
    }
    for path in &paths {
        let taken = |callback: &String| may_be_same_address(callback, path);
        if providers.iter().any(|settings| settings.provider.callbacks.iter().any(taken)) {
            root.raise(&span, "logout_paths", format!("`{path}` is a `callback` too; expected another path"));
        }
    }
    paths
}

fn others(asked: Option<&ForwardAuth>) -> &[String] {
    asked.map(|asked| asked.hosts.as_slice()).unwrap_or_default()
}

/// The hosts that an entry may be for.
struct Hosts<'a> {
    /// That of `public_url`.
    own: Option<String>,
    others: &'a [String],
}

/// For which hosts an entry is.
fn hosts(root: &Section<'_>, section: &Section<'_>, known: &Hosts<'_>) -> Vec<String> {
    let hosts = section.list("hosts", false, values::host_name).unwrap_or_default();
    let Some(span) = section.written("hosts") else { return hosts };
    if section.is_empty_list("hosts") {
        section.raise(&span, "hosts", "names no host; expected one or more, or no `hosts` at all");
    }
    if root.section("forward_auth").written("hosts").is_none() {
        let message =
            "needs `forward_auth.hosts`: without it no gateway says which host it asks about, and all are one app";
        section.raise(&span, "hosts", message);
    } else if let (Some(own), [_, ..]) = (&known.own, known.others) {
        let names = || std::iter::once(own.as_str()).chain(known.others.iter().map(String::as_str));
        for host in hosts.iter().filter(|host| !names().any(|name| name == *host)) {
            let near = nearest(host, names()).map(|name| format!("; did you mean `{name}`?")).unwrap_or_default();
            let expected = "the host of `public_url` or one of `forward_auth.hosts`";
            section.raise(&span, "hosts", format!("found `{host}`; expected {expected}{near}"));
        }
    }
    if let Some(span) = section.written("elsewhere") {
        let message = "has no effect with `hosts`: it applies to requests that go through loginsync, all of one app; \
                       expected an entry of its own, without `hosts`";
        section.raise(&span, "elsewhere", message);
    }
    hosts
}

/// What paths need, and which of them the guard lets be.
fn access(root: &Section<'_>, relies: bool, guard: Elsewhere, known: &Hosts<'_>) -> (Option<Access>, Access) {
    let section = root.section("access");
    let default = section.word("default", &NEEDS, Need::Session);
    section.finish();
    let mut paths: Vec<PathRule> = Vec::new();
    let mut guarded: Vec<PathRule> = Vec::new();
    let mut asked: Vec<_> = root.written("access").map(|span| (span, "access")).into_iter().collect();
    for section in root.sections("path") {
        let prefix =
            section.required("prefix", "/assets").and_then(|text| section.parse("prefix", text, values::app_path));
        let need = section.word("access", &NEEDS, Need::Session);
        let elsewhere = section.word("elsewhere", &ELSEWHERE, Elsewhere::Refuse);
        let (says_access, says_elsewhere) =
            (section.written("access").is_some(), section.written("elsewhere").is_some());
        if !says_access && !says_elsewhere {
            let message = format!(
                "missing in `{}`; expected `access` (\"required\", \"api\" or \"public\") or `elsewhere` (\"pass\" or \"refuse\")",
                section.name
            );
            section.context.raise_absent(&section.span, section.key("access"), message);
        }
        if says_access && asked.iter().all(|(_, key)| *key != "path.access") {
            asked.extend(section.written("access").map(|span| (span, "path.access")));
        }
        let opens = if elsewhere == Elsewhere::Pass { Need::Nothing } else { need };
        let methods = methods(&section, opens);
        let hosts = hosts(root, &section, known);
        section.finish();
        let Some(Found { value: prefix, span }) = prefix else { continue };
        let prefix = if prefix == "/" { prefix } else { prefix.trim_end_matches('/').to_owned() };
        let shares = |known: &&PathRule| {
            known.prefix == prefix && overlap(&known.methods, &methods) && overlap(&known.hosts, &hosts)
        };
        if paths.iter().chain(&guarded).any(|known| shares(&known)) {
            let message = format!(
                "`{prefix}` is there already; expected each prefix once, or each of its `methods` and `hosts` once"
            );
            section.raise(&span, "prefix", message);
        }
        if says_elsewhere {
            guarded.push(PathRule {
                prefix: prefix.clone(),
                hosts: Vec::new(),
                methods: methods.clone(),
                need: need_of(elsewhere),
            });
        }
        if says_access || !says_elsewhere {
            paths.push(PathRule { prefix, hosts, methods, need });
        }
    }
    let guarded = Access { default: need_of(guard), paths: guarded };
    if relies {
        return (Some(Access { default, paths }), guarded);
    }
    for (span, key) in asked.iter().filter(|_| !root.context.torn) {
        let message = "no provider has mode `relying-party`: the app itself decides who sees what";
        root.raise(span, key, message);
    }
    (None, guarded)
}

/// Whether two lists, of which an empty one stands for what no other entry names, name the same.
fn overlap<T: PartialEq>(left: &[T], right: &[T]) -> bool {
    left.iter().any(|each| right.contains(each)) || (left.is_empty() && right.is_empty())
}

/// The guard's paths are found as those of access are: what it lets be must be so however the app reads the path.
fn need_of(elsewhere: Elsewhere) -> Need {
    match elsewhere {
        Elsewhere::Pass => Need::Nothing,
        Elsewhere::Refuse => Need::Session,
    }
}

/// For which methods an entry is.
fn methods(section: &Section<'_>, need: Need) -> Vec<Method> {
    let methods = section.list("methods", false, method).unwrap_or_default();
    let Some(span) = section.written("methods") else { return methods };
    if section.is_empty_list("methods") {
        section.raise(&span, "methods", "names no method; expected for instance [\"OPTIONS\"], or no `methods` at all");
    }
    if need == Need::Nothing && methods.contains(&Method::POST) {
        let message = "`POST` cannot be opened by itself: `_method` in its body may make it any other method to the app; \
                       expected it left out, or an entry without `methods`";
        section.raise(&span, "methods", message);
    }
    methods
}

/// A method as it is registered: in capitals (RFC 9110 section 16.1).
fn method(text: &str) -> Result<Method, Wrong> {
    let known = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    let in_capitals =
        (3..=20).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-');
    let wrong = || Wrong {
        expected: format!("a method in capitals: {} or another", alternatives(known)),
        nearest: nearest(text, known),
    };
    Some(text).filter(|_| in_capitals).and_then(|text| Method::from_bytes(text.as_bytes()).ok()).ok_or_else(wrong)
}

fn forward_auth(root: &Section<'_>, trusts_proxies: bool, own: &str) -> Option<ForwardAuth> {
    let section = root.section("forward_auth");
    let written = root.written("forward_auth");
    let path = section.parsed("path", |text| own_path(text, own));
    let gateways = [
        ("nginx", Gateway::Nginx),
        ("traefik", Gateway::Traefik),
        ("caddy", Gateway::Caddy),
        ("envoy", Gateway::Envoy),
    ];
    let gateway = section.word("gateway", &gateways, Gateway::Nginx);
    let hosts = section.list("hosts", false, values::host_name).unwrap_or_default();
    section.finish();
    let span = written?;
    if section.written("gateway").is_none() {
        let message = "missing in `forward_auth`; expected \"nginx\", \"traefik\", \"caddy\" or \"envoy\"";
        section.context.raise_absent(&section.span, section.key("gateway"), message);
    }
    if !trusts_proxies {
        let message = "`listen.trusted_proxies` is empty; expected the gateway's address, since the answer tells \
                       who is logged in";
        root.raise(&span, "forward_auth", message);
    }
    let path = path.map_or_else(|| format!("{own}auth"), |found| found.value);
    Some(ForwardAuth { path, gateway, hosts })
}

fn own_path(text: &str, own: &str) -> Result<String, Wrong> {
    let wrong = || Wrong::expected(format!("a path of ours such as `{own}auth`"));
    let name = text.strip_prefix(own).ok_or_else(wrong)?;
    let plain = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
    let free = !TAKEN.contains(&name);
    if plain && free { Ok(text.to_owned()) } else { Err(wrong()) }
}

/// Names of our other pages.
const TAKEN: [&str; 9] = [
    "sign-in",
    "sign-out",
    "signed-out",
    "callback",
    "acs",
    "metadata",
    "backchannel-logout",
    "frontchannel-logout",
    "slo",
];
