//! The checked configuration: whatever is in a [`Config`] was found to be right, as a whole.
//!
//! [`Config::load`] reads the TOML and reports every fault at once ([`problem::Problem`]); nothing of a faulty file is used.
//! The text goes from [`raw`] (what is written) through [`reader`] (by key and type) and [`values`] (what it means) to the
//! sections: [`settings`] of the sidecar itself, [`providers`], and the [`rules`] of the app.

mod client_credentials;
mod clients;
mod console;
mod egress;
mod files;
mod headers;
mod overage;
pub mod presets;
pub mod problem;
mod providers;
mod raw;
mod reader;
mod receivers;
mod relying_party;
mod rules;
mod sessions;
mod settings;
mod shown;
mod store;
mod values;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use toml::de::DeTable;
use url::Url;

pub use self::client_credentials::ClientCredentials;
pub use self::clients::{ApiClientSettings, Face, SECRET_CHARACTERS, Scope, valid_name};
pub use self::egress::Egress;
pub use self::headers::{HeaderPreset, Headers, Names as HeaderNames, Roles as HeaderRoles, Unfit};
pub use self::overage::{GroupAttribute, LookUp, OverageSettings};
use self::problem::Faults;
use self::raw::{MAX_TEXT, Split};
use self::reader::{Context, Section};
pub use self::receivers::{
    BeforeEntry, Event, Filter, ReceiverKind, ReceiverSettings, SECRET_PREFIX, Scim, ScimLogin, ScimUsers, Unconfirmed,
    UserNameSource, Webhook,
};
pub use self::relying_party::{
    AssertionAudience, Authorization, ClientAuth, ClientKey, ClientKeyKind, RelyingParty, SpKey, WayIn, rsa_key,
};
pub use self::sessions::{Access, ForwardAuth, Gateway, Need, PathRule, SameSite, SessionSettings};
pub use self::shown::Shown;
pub use self::values::is_private;
use crate::pipeline::ids::{ProviderName, RoleName, Timestamp, UserId};
use crate::pipeline::mapping::RuleSet;
use crate::pipeline::provider::Form;
use crate::pipeline::provider::{Mode, OidcPolicy, Protocol, Provider};
use crate::pipeline::verify::saml::CertificateSet;

/// One configuration file, checked.
#[derive(Debug)]
pub struct Config {
    pub public_url: PublicUrl,
    pub listen: Listen,
    pub app: App,
    pub admin: Admin,
    pub console: Console,
    /// `None`: no provider is in mode `token-relay`.
    pub relay: Option<Relay>,
    pub bearer: Bearer,
    /// `None`: the app trusts headers, or the tokens themselves.
    pub assertion: Option<Assertion>,
    /// Receivers of changes.
    pub receivers: Vec<ReceiverSettings>,
    /// The proxy on the way out.
    pub egress: Option<Arc<Egress>>,
    /// Clients of the APIs, in addition to those of the store.
    pub api_clients: Vec<ApiClientSettings>,
    pub store: StoreSettings,
    pub audit_key: Option<Secret>,
    /// 32 bytes each; the first seals. `None`: kept in the store.
    pub cookie_keys: Option<Vec<Secret>>,
    pub ready: Ready,
    pub log: Log,
    pub headers: Headers,
    pub limits: Limits,
    pub sessions: SessionSettings,
    pub providers: Vec<ProviderSettings>,
    /// Groups, roles and mappings of the file.
    pub rules: Arc<RuleSet>,
    /// Legal, but worth a line in the log: a certificate about to expire, an audit chain without a key.
    pub warnings: Vec<String>,
}

/// Names that an error suggests at most.
const NEAREST: usize = 3;

/// What a configuration's text does not say by itself.
pub struct Surroundings<'a> {
    /// The file: faults name it, and relative paths in it are relative to its directory.
    pub file: &'a Path,
    pub read: &'a dyn Fn(&Path) -> std::io::Result<Vec<u8>>,
    pub environment: &'a dyn Fn(&str) -> Option<String>,
    /// By which certificates are near their end.
    pub now: Timestamp,
}

impl Config {
    /// Reads a file and everything that it names.
    ///
    /// # Errors
    /// Every fault of the file, in the order of its lines.
    pub fn load(path: &Path, environment: &dyn Fn(&str) -> Option<String>, now: Timestamp) -> Result<Self, Faults> {
        let text = std::fs::read_to_string(path).map_err(|why| {
            Faults::of_file(&path.to_string_lossy(), format!("cannot be read: {}", files::reason(&why)))
        })?;
        let named = RefCell::new(vec![path.to_owned()]);
        let read = |file: &Path| {
            named.borrow_mut().push(file.to_owned());
            std::fs::read(file)
        };
        let mut config = Self::from_text(&text, &Surroundings { file: path, read: &read, environment, now })?;
        config.warnings.extend(files::writable_by_all(&named.into_inner()));
        Ok(config)
    }

    /// The names of all receivers.
    pub fn receiver_names(&self) -> BTreeSet<String> {
        self.receivers.iter().map(|receiver| receiver.name.clone()).collect()
    }

    /// Whether some provider can log in a user of this namespace.
    ///
    /// # Errors
    /// Which namespaces there are, the nearest first.
    pub fn check_namespace(&self, user: &UserId) -> Result<(), String> {
        let found = user.namespace.as_str();
        let spaces: BTreeSet<&str> =
            self.providers.iter().map(|settings| settings.provider.user.namespace.as_str()).collect();
        if spaces.contains(found) {
            return Ok(());
        }
        let mut nearest: Vec<&str> = spaces.into_iter().collect();
        nearest.sort_by_key(|space| strsim::damerau_levenshtein(&space.to_lowercase(), &found.to_lowercase()));
        nearest.truncate(NEAREST);
        Err(match nearest.is_empty() {
            true => "belongs to no provider: the configuration has none".into(),
            false => {
                format!("belongs to no provider; expected {}, or a user who exists", problem::alternatives(nearest))
            }
        })
    }

    /// Checks a text.
    ///
    /// # Errors
    /// Every fault of the text, in the order of its lines.
    pub fn from_text(text: &str, around: &Surroundings<'_>) -> Result<Self, Faults> {
        let file = around.file.to_string_lossy();
        if text.len() > MAX_TEXT {
            return Err(Faults::of_file(&file, format!("has {} bytes; expected at most {MAX_TEXT}", text.len())));
        }
        let split = Split::new(text);
        let (tree, errors) = DeTable::parse_recoverable(&split.rest);
        if !errors.is_empty() {
            return Err(Self::torn(&split, around));
        }
        let context = Context::new(&split, around, false);
        let config = checked(&context, tree.get_ref());
        let raised = context.into_raised();
        match config {
            Some(config) if raised.is_empty() => Ok(config),
            _ => Err(Faults::locate(&file, text, raised)),
        }
    }

    /// The faults of a text that is not TOML throughout, with those of what can be read of it.
    fn torn(split: &Split<'_>, around: &Surroundings<'_>) -> Faults {
        let (text, errors) = raw::repaired(&split.rest);
        let context = Context::new(split, around, true);
        for error in errors {
            let start = split.origin(error.span.start);
            let span = start..start + error.span.len();
            match raw::may_hold_secret(split.text, start) {
                true => context.raise_hiding(&span, "", error.message),
                false => context.raise(&span, "", error.message),
            }
        }
        let (tree, _) = DeTable::parse_recoverable(&text);
        checked(&context, tree.get_ref());
        Faults::locate(&around.file.to_string_lossy(), split.text, context.into_raised())
    }
}

/// Every section in turn; `None` when something is missing that has no default, which was then noted.
fn checked<'a>(context: &'a Context<'a>, tree: &'a DeTable<'a>) -> Option<Config> {
    let root = Section::new(context, "", 0..0, tree);
    let mut warnings = Vec::new();
    let mut public_url = root
        .required("public_url", "https://app.example.com")
        .and_then(|text| root.parse("public_url", text, values::public_url))
        .map(|found| found.value);
    let own = root.parsed("own_path", values::own_prefix).map_or_else(|| OWN.to_owned(), |found| found.value);
    if let Some(public_url) = &mut public_url {
        public_url.own.clone_from(&own);
    }
    let listen = settings::listen(&root.section("listen"), &mut warnings);
    let app = settings::app(&root.section("app"));
    let assertion_section = root.section("assertion");
    let assertion = root.written("assertion").map(|_| settings::assertion(&assertion_section));
    let bearer = settings::bearer(&root.section("bearer"));
    let relay_section = root.section("relay");
    let relay = root.written("relay").and_then(|_| settings::relay(&relay_section, &mut warnings));
    let api_clients = clients::read(&root);
    let admin = settings::admin(&root.section("admin"), !api_clients.is_empty(), &mut warnings);
    let store = store::read(&root.section("store"), &mut warnings);
    let audit_key = settings::audit(&root.section("audit"), &mut warnings);
    let cookie_keys = settings::cookies(&root.section("cookies"));
    let ready = settings::ready(&root.section("ready"));
    let log = settings::log(&root.section("log"));
    let headers_section = root.section("headers");
    let mut headers = Headers::read(&headers_section);
    let (limits, claim_limits) = settings::limits(&root.section("limits"));
    let elsewhere = settings::guard(&root.section("guard"));
    let mut declared = providers::read(&root, (public_url.as_ref(), &own), &limits, claim_limits, &mut warnings);
    let egress = egress::read(&root.section("egress"));
    declared.settings.iter_mut().for_each(|settings| settings.keys.egress.clone_from(&egress));
    let names: Vec<&ProviderName> = declared.settings.iter().map(|settings| &settings.provider.name).collect();
    let receivers = receivers::read(&root, &names, &limits);
    check_relay(&root, &declared);
    check_trusted(&root, &listen, &declared.settings, &headers);
    check_bearer(&root, &bearer, &declared);
    let beside = sessions::Beside {
        modes: &declared.modes,
        providers: &declared.settings,
        sealed: cookie_keys.is_some() || matches!(store.place, Place::Server(_)),
        trusts: !listen.trusted_proxies.is_empty(),
        guard: elsewhere,
        public_url: public_url.as_ref(),
        own: &own,
    };
    let sessions = sessions::read(&root, &beside);
    let mut read: Vec<_> = bearer.cookies.iter().map(|name| ("bearer.cookies", name.as_str())).collect();
    read.extend(sessions.app_cookie.as_deref().map(|name| ("app_session_cookie", name)));
    headers.settle_cookies(&headers_section, &headers::Sessions { modes: &declared.modes, read: &read });
    check_own(&root, &own, app.as_ref(), &sessions, &declared.settings);
    let rules = rules::read(&root, &declared, &limits, &headers);
    let console = console::read(&root.section("console"), &admin, &declared.settings, &rules);
    root.finish();
    Some(Config {
        public_url: public_url?,
        listen,
        app: app?,
        admin,
        console,
        relay,
        bearer,
        assertion,
        receivers,
        egress,
        api_clients,
        store,
        audit_key,
        cookie_keys,
        ready,
        log,
        headers,
        limits,
        sessions,
        providers: declared.settings,
        rules: Arc::new(rules),
        warnings,
    })
}

/// Where our own pages are, unless the file says otherwise.
const OWN: &str = "/.loginsync/";

/// No address of the app may lie among our own pages, where it would never be asked for.
fn check_own(
    root: &Section<'_>,
    own: &str,
    app: Option<&App>,
    sessions: &SessionSettings,
    providers: &[ProviderSettings],
) {
    let Some(span) = root.written("own_path") else { return };
    let watched = providers.iter().filter(|settings| settings.relying_party.is_none());
    let of_providers = watched.flat_map(|settings| settings.provider.callbacks.iter().chain(&settings.login_paths));
    let all = of_providers.chain(&sessions.logout_paths).chain(app.map(|app| &app.start_page));
    let below =
        |path: &str| path.to_ascii_lowercase().starts_with(own) || path.eq_ignore_ascii_case(own.trim_end_matches('/'));
    if let Some(path) = all.into_iter().find(|path| below(path)) {
        let message = format!("`{path}` of the app is below it; expected a path that the app does not use");
        root.raise(&span, "own_path", message);
    }
}

/// Providers whose logins pass the relay need one, and a relay needs them.
fn check_relay(root: &Section<'_>, declared: &providers::Declared) {
    let relayed = declared.settings.iter().find(|settings| settings.provider.mode == Mode::TokenRelay);
    match (relayed, root.written("relay")) {
        (Some(settings), None) => {
            let message = format!(
                "missing; provider `{}` is in mode `token-relay`, whose app asks us for tokens; \
                 expected for instance [relay] with address = \"127.0.0.1:8090\"",
                settings.provider.name
            );
            root.context.raise_absent(&root.span, "relay", message);
        }
        (None, Some(span)) if !declared.is_partial && !declared.settings.is_empty() => {
            root.raise(&span, "relay", "no provider uses mode `token-relay`, so this listener is not needed");
        }
        _ => {}
    }
}

/// A header that a hop before us sets is removed when any other party sends it.
fn check_trusted(root: &Section<'_>, listen: &Listen, providers: &[ProviderSettings], headers: &Headers) {
    if let (Some(name), true) = (headers.trust.first(), listen.trusted_proxies.is_empty()) {
        let message =
            format!("is empty; `headers.trust` names `{name}`, which is removed unless a trusted proxy sends it");
        root.context.raise_absent(&root.span, "listen.trusted_proxies", message);
    }
    let forwarded = |settings: &&ProviderSettings| match &settings.provider.protocol {
        Protocol::Oidc(OidcPolicy { bearer: Some(bearer), .. }) => bearer.form == Form::ForwardedAccessToken,
        _ => false,
    };
    if let (Some(settings), true) = (providers.iter().find(forwarded), listen.trusted_proxies.is_empty()) {
        let message = format!(
            "is empty; provider `{}` reads `x-forwarded-access-token`, which is removed unless a trusted hop sends it",
            settings.provider.name
        );
        root.context.raise_absent(&root.span, "listen.trusted_proxies", message);
    }
}

/// Forms and cookies are read by the rules of `Authorization` (RFC 6750 section 2).
fn check_bearer(root: &Section<'_>, bearer: &Bearer, declared: &providers::Declared) {
    let section = root.section("bearer");
    let reads = |settings: &ProviderSettings| match &settings.provider.protocol {
        Protocol::Oidc(OidcPolicy { bearer: Some(bearer), .. }) => bearer.form == Form::Authorization,
        _ => false,
    };
    if declared.is_partial || declared.settings.iter().any(reads) {
        return;
    }
    for (key, set) in [("form", bearer.form), ("cookies", !bearer.cookies.is_empty())] {
        if let (Some(span), true) = (section.written(key), set) {
            section.raise(&span, key, "applies only with a provider of mode `bearer` and header `authorization`");
        }
    }
}

/// A duration as the file writes it, such as `7d`.
///
/// # Errors
/// When it is written otherwise; the text says how it is.
pub fn duration(text: &str) -> Result<Duration, String> {
    values::duration(text).map_err(|wrong| format!("expected {}", wrong.expected))
}

/// The app's address as browsers see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicUrl {
    /// `https://app.example.com`, without a trailing slash.
    pub origin: String,
    /// The path below which a gateway before us offers the app, and which it takes away: `/app`, or empty.
    pub base: String,
    /// Where our own pages are, as we see requests: `/.loginsync/`.
    pub own: String,
    pub secure: bool,
}

impl PublicUrl {
    /// With our own pages where they are by default.
    pub fn new(origin: &str, base: &str) -> Self {
        Self {
            origin: origin.to_owned(),
            base: base.to_owned(),
            own: OWN.to_owned(),
            secure: origin.starts_with("https://"),
        }
    }

    /// The address of the app, without a trailing slash.
    pub fn root(&self) -> String {
        format!("{}{}", self.origin, self.base)
    }

    /// The address of a page of ours.
    pub fn page(&self, name: &str) -> String {
        format!("{}{}{}{name}", self.origin, self.base, self.own)
    }

    /// Its host, in lower case, without a port.
    pub fn host(&self) -> String {
        let url = Url::parse(&self.origin).ok();
        url.and_then(|url| url.host_str().map(str::to_ascii_lowercase)).unwrap_or_default()
    }
}

#[derive(Debug, Clone)]
pub struct Listen {
    pub address: SocketAddr,
    /// A socket of this machine, in place of the address.
    pub socket: Option<PathBuf>,
    pub tls: Option<TlsFiles>,
    pub trusted_proxies: Vec<Network>,
    /// Connections of trusted proxies begin by saying whose they are.
    pub proxy_protocol: bool,
    pub max_connections: usize,
    pub header_timeout: Duration,
    pub idle_timeout: Duration,
    pub drain_timeout: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// An address or a network in CIDR notation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    pub address: std::net::IpAddr,
    pub prefix: u8,
}

impl Network {
    pub fn contains(&self, address: std::net::IpAddr) -> bool {
        use std::net::IpAddr::{V4, V6};
        let bits = |bytes: &[u8]| bytes.iter().fold(0u128, |all, byte| (all << 8) | u128::from(*byte));
        let (ours, theirs, width) = match (self.address, address.to_canonical()) {
            (V4(ours), V4(theirs)) => (bits(&ours.octets()), bits(&theirs.octets()), 32),
            (V6(ours), V6(theirs)) => (bits(&ours.octets()), bits(&theirs.octets()), 128),
            _ => return false,
        };
        let free = width - u32::from(self.prefix).min(width);
        free >= 128 || ours >> free == theirs >> free
    }
}

/// What is spoken to the app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppProtocol {
    Http1,
    /// At once, without asking in HTTP/1.1 first (h2c, RFC 9113 section 3.3); with https by ALPN.
    Http2,
}

#[derive(Debug, Clone)]
pub struct App {
    pub protocol: AppProtocol,
    /// http or https without a path; or unix, and the path of a socket.
    pub url: Url,
    pub start_page: String,
    pub connect_timeout: Duration,
    pub response_timeout: Duration,
    /// How long an answer that has begun, or a connection that has switched protocols, may stand still.
    pub stream_timeout: Duration,
    pub idle_connections: usize,
    /// How long a kept connection lies idle before it is closed.
    pub idle_timeout: Duration,
    pub ca_file: Option<PathBuf>,
}

#[derive(Debug, Clone)]
pub struct Admin {
    pub address: SocketAddr,
    /// The address may be one that others reach even without API clients: for health and metrics.
    pub allow_remote: bool,
    /// Calls of one API client within a minute.
    pub rate_limit: u32,
    /// Scheme and authority by which clients reach this listener, perhaps through something that ends TLS.
    pub public_url: Option<Url>,
    /// Further names by which it is asked, in lower case, without a port.
    pub hosts: Vec<String>,
    pub tls: Option<TlsFiles>,
}

/// The pages at `/console/` on the admin listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Console {
    pub enabled: bool,
    /// Who may sign in, in addition to holders of a link.
    pub operators: Option<OperatorSettings>,
}

/// Sign-in to the console by a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorSettings {
    pub provider: ProviderName,
    /// Who may look. One of the two roles is there.
    pub read_role: Option<RoleName>,
    /// Who may change everything.
    pub write_role: Option<RoleName>,
}

/// The signed assertion towards the app.
#[derive(Debug, Clone)]
pub struct Assertion {
    /// `None`: the app's `public_url`.
    pub audience: Option<String>,
    pub lifetime: Duration,
    /// In PKCS#8, DER. `None`: kept in the store.
    pub key: Option<Secret>,
}

/// Where tokens come besides headers, and how they are cached.
#[derive(Debug, Clone)]
pub struct Bearer {
    /// How old what is known of a token's person may be.
    pub cache_age: Duration,
    pub cache_entries: usize,
    /// Read `access_token` in forms (RFC 6750 section 2.2). Otherwise a token there is refused.
    pub form: bool,
    /// Tokens that speak of no person pass. Otherwise they are refused.
    pub machines: bool,
    /// Names of cookies whose tokens are read.
    pub cookies: Vec<String>,
}

/// The back channel, by which the app exchanges its codes.
#[derive(Debug, Clone)]
pub struct Relay {
    pub address: SocketAddr,
    /// The address may be one that others reach.
    pub allow_remote: bool,
    pub tls: Option<TlsFiles>,
    /// Scheme and authority by which the app reaches it.
    pub url: String,
    pub request_body: usize,
    pub reply_body: usize,
    /// From the app's request to the provider's whole reply.
    pub timeout: Duration,
    pub max_connections: usize,
}

/// What `/readyz` says while the store cannot be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ready {
    /// That this sidecar is not ready.
    Require,
    /// That it is: requests that need no store go on.
    Serve,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreSettings {
    pub place: Place,
    pub synchronous: Synchronous,
    pub timeout: Duration,
}

/// Where the store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A file of SQLite.
    File(PathBuf),
    /// A database of PostgreSQL.
    Server(Arc<Server>),
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Server(_) => f.write_str("the database of `store.url`"),
        }
    }
}

/// How a database of PostgreSQL is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// It may hold a password.
    pub url: Secret,
    pub password: ServerPassword,
    /// 32 bytes that seal the secrets which the database keeps.
    pub key: Secret,
    /// Connections of this process at most.
    pub connections: usize,
    /// The authorities that the server's certificate may be from; `None`: those of the system.
    pub ca: Option<PathBuf>,
    /// With which this process names itself to the server.
    pub client: Option<TlsFiles>,
}

/// From where the password of a database's user is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerPassword {
    /// The URL, where one is needed.
    OfUrl,
    /// Read at every connection, so that it can be changed.
    File(PathBuf),
    Fixed(Secret),
}

/// What a commit waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Synchronous {
    /// The disk: a power cut loses nothing that was acknowledged.
    Full,
    /// The operating system: a power cut may lose the last commits, never the database.
    Normal,
}

#[derive(Debug, Clone)]
pub struct Log {
    pub format: LogFormat,
    pub level: tracing::Level,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Json,
    Text,
}

#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Scalar values, in mappings.
    pub claim_name: usize,
    pub claim_value: usize,
    pub delimiter: usize,
    /// Bytes of a request at a callback path.
    pub callback_body: usize,
    /// Bytes that are held of all requests together.
    pub held_bodies: usize,
    /// Bytes of a decoded SAML response.
    pub saml_document: usize,
    pub mappings: usize,
    pub login_timeout: Duration,
}

/// What a protocol field outside a callback path means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Elsewhere {
    Refuse,
    Pass,
}

/// A provider, and what the world around it needs to know.
#[derive(Debug, Clone)]
pub struct ProviderSettings {
    pub provider: Arc<Provider>,
    pub keys: KeySettings,
    /// The directory that has the groups which a token left out.
    pub overage: Option<OverageSettings>,
    /// Paths of the app that answer with an auto-post form to the provider.
    pub login_paths: Vec<String>,
    /// The operator vouches that the provider verifies e-mail addresses, so that they may join users of several providers.
    pub email_trusted: bool,
    /// How we log in with it ourselves, in mode `relying-party`.
    pub relying_party: Option<RelyingParty>,
}

impl ProviderSettings {
    /// Where its keys come from, in words.
    pub fn keys_from(&self) -> String {
        match &self.keys.source {
            KeyOrigin::Discovery => format!("discovery of `{}`", self.provider.issuer),
            KeyOrigin::JwksUrl(url) | KeyOrigin::MetadataUrl(url) | KeyOrigin::OneByOne(url) => format!("`{url}`"),
            KeyOrigin::JwksFile(file) | KeyOrigin::MetadataFile(file) => format!("`{}`", file.display()),
            KeyOrigin::Certificates(_) => String::from("the configured certificates"),
        }
    }
}

/// Where a provider's keys and endpoints come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySettings {
    pub source: KeyOrigin,
    /// Where the app sends people to log in, if the source does not say (`authorization_endpoint`, `sso_url`).
    pub endpoint: Option<String>,
    /// Endpoints that the configuration names. They go before what the discovery document says.
    pub named: Vec<(Endpoint, Url)>,
    /// What we show a provider that wants to know its clients by certificate (RFC 8705 section 2).
    pub identity: Option<TlsFiles>,
    pub refresh: Duration,
    pub max_stale: Duration,
    pub ca_file: Option<PathBuf>,
    /// The proxy on the way to the provider; the same for all.
    pub egress: Option<Arc<Egress>>,
    /// The provider may be asked over http, at private addresses alone.
    pub allow_http: bool,
}

/// An address of an OIDC provider that is asked behind the browser's back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// OIDC Core 3.1.3.
    Token,
    /// OIDC Core 5.3.
    Userinfo,
    /// RFC 7009.
    Revocation,
    /// OIDC RP-Initiated Logout 2.1. Browsers are sent there.
    EndSession,
}

impl Endpoint {
    pub const ALL: [Self; 4] = [Self::Token, Self::Userinfo, Self::Revocation, Self::EndSession];

    /// Its member of the discovery document (OIDC Discovery 3, RFC 8414 section 2), and its key in the configuration.
    pub fn member(self) -> &'static str {
        match self {
            Self::Token => "token_endpoint",
            Self::Userinfo => "userinfo_endpoint",
            Self::Revocation => "revocation_endpoint",
            Self::EndSession => "end_session_endpoint",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyOrigin {
    /// The issuer's discovery document (OpenID Connect Discovery 1.0 section 4).
    Discovery,
    JwksUrl(Url),
    JwksFile(PathBuf),
    MetadataUrl(Url),
    MetadataFile(PathBuf),
    Certificates(CertificateSet),
    /// Each key by itself, in PEM, below this address under its name.
    OneByOne(Url),
}

/// Bytes that no log line, error or debug print shows, wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(zeroize::Zeroizing<Vec<u8>>);

impl Secret {
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(zeroize::Zeroizing::new(bytes))
    }

    /// The bytes themselves; callers must not print them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secret({} bytes)", self.0.len())
    }
}
