//! From the text of a value to what it means: durations, sizes, addresses, networks, URLs, paths.
//!
//! Every function here answers what was expected when the text means nothing; the reader adds what was found, and where.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use http::HeaderName;
use url::{Host, Url};

use super::{Network, PublicUrl};
use crate::pipeline::capture::fields::field_named;
use crate::pipeline::reading::header::{self, Meaning};
use crate::pipeline::reading::query::divided;

/// Why a text is no such value: what was expected, and the word that was perhaps meant.
#[derive(Debug, PartialEq, Eq)]
pub struct Wrong {
    pub expected: String,
    pub nearest: Option<String>,
}

impl Wrong {
    pub fn expected(what: impl Into<String>) -> Self {
        Self { expected: what.into(), nearest: None }
    }
}

const UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// A whole number and a unit.
pub fn duration(text: &str) -> Result<Duration, Wrong> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit = text.get(digits.len()..).and_then(|unit| UNITS.iter().find(|(name, _)| *name == unit));
    let is_whole = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    let number = digits.parse::<u64>().ok().filter(|_| is_whole);
    match (number, unit) {
        (Some(number), Some((_, scale))) => number.checked_mul(*scale).map(Duration::from_millis),
        _ => None,
    }
    .ok_or_else(|| Wrong::expected("a duration such as `250ms`, `30s`, `10m`, `12h` or `7d`"))
}

/// How a duration is written.
pub fn written(duration: Duration) -> String {
    let milliseconds = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let unit = UNITS.iter().rev().find(|(_, scale)| milliseconds != 0 && milliseconds % scale == 0);
    match unit {
        Some((name, scale)) => format!("{}{name}", milliseconds / scale),
        None => String::from("0s"),
    }
}

/// A size in KiB or MiB.
pub fn size(text: &str) -> Result<u64, Wrong> {
    let parse = |suffix: &str, scale: u64| {
        let digits = text.strip_suffix(suffix)?;
        let is_whole = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
        digits.parse::<u64>().ok().filter(|_| is_whole)?.checked_mul(scale)
    };
    parse("KiB", 1 << 10).or_else(|| parse("MiB", 1 << 20)).ok_or_else(|| Wrong::expected(SIZE))
}

/// What a size looks like.
pub const SIZE: &str = "a size such as 65536, `64KiB` or `1MiB`";

pub fn address(text: &str) -> Result<SocketAddr, Wrong> {
    text.parse().map_err(|_| Wrong::expected("an address and port such as `127.0.0.1:8080` or `[::1]:8080`"))
}

/// Where the proxy listens.
pub enum ListenAt {
    Network(SocketAddr),
    Socket(PathBuf),
}

/// An address and port, or a socket of this machine.
pub fn listen_address(text: &str) -> Result<ListenAt, Wrong> {
    match text.strip_prefix("unix:") {
        Some(_) => socket(text, "unix:/run/loginsync.sock").map(|url| ListenAt::Socket(url.path().into())),
        None => text.parse().map(ListenAt::Network).map_err(|_| {
            Wrong::expected("an address and port such as `127.0.0.1:8080` or `[::1]:8080`, or a socket such as `unix:/run/loginsync.sock`")
        }),
    }
}

/// An address, or a network in CIDR notation whose address has no bit beyond its prefix.
pub fn network(text: &str) -> Result<Network, Wrong> {
    let wrong = || Wrong::expected("an address or a network such as `10.1.2.3`, `10.0.0.0/8` or `fd00::/8`");
    let (address, prefix) = match text.split_once('/') {
        None => (text, None),
        Some((address, prefix)) => (address, Some(prefix)),
    };
    let address: IpAddr = address.parse().map_err(|_| wrong())?;
    if address != address.to_canonical() {
        return Err(Wrong::expected(format!("the IPv4 form, `{}`, of this mapped address", address.to_canonical())));
    }
    let width = if address.is_ipv4() { 32 } else { 128 };
    let prefix = match prefix {
        None => width,
        Some(prefix) if prefix.bytes().all(|digit| digit.is_ascii_digit()) => prefix.parse().map_err(|_| wrong())?,
        Some(_) => return Err(wrong()),
    };
    if prefix > width {
        return Err(Wrong::expected(format!("a prefix of at most {width}")));
    }
    let first = first_of(address, prefix);
    if first != address {
        return Err(Wrong::expected(format!("`{first}/{prefix}`: an address without bits beyond its prefix")));
    }
    Ok(Network { address, prefix })
}

/// The first address of a network.
fn first_of(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V4((address.to_bits() & mask).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V6((address.to_bits() & mask).into())
        }
    }
}

/// The app as browsers see it: scheme and authority, and the path below which a gateway offers it.
pub fn public_url(text: &str) -> Result<PublicUrl, Wrong> {
    let wrong = || {
        Wrong::expected(
            "scheme and authority, such as `https://app.example.com`; a plain path may follow where a gateway offers the app below it",
        )
    };
    let url = web_url(text).filter(|url| url.query().is_none() && url.fragment().is_none()).ok_or_else(wrong)?;
    let base = url.path().trim_end_matches('/');
    // `Url` resolves dots and escapes; what is written must be what browsers then ask for.
    let behind = text.split_once("://").and_then(|(_, rest)| rest.find('/').and_then(|at| rest.get(at..)));
    let written = behind.unwrap_or_default();
    if written.strip_suffix('/').unwrap_or(written) != base || !is_plain(base) {
        return Err(wrong());
    }
    if url.scheme() != "https" && !is_loopback(&url) {
        return Err(Wrong::expected("https, since cookies and tokens pass here; http is for a loopback host only"));
    }
    Ok(PublicUrl::new(&url.origin().ascii_serialization(), base))
}

/// Whether a path is made of plain segments: no spelling of it means another path.
fn is_plain(path: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~');
    let segment = |segment: &str| !segment.is_empty() && !matches!(segment, "." | "..") && segment.bytes().all(plain);
    path.is_empty() || path.strip_prefix('/').is_some_and(|path| path.split('/').all(segment))
}

/// Where our own pages are, as requests arrive here.
pub fn own_prefix(text: &str) -> Result<String, Wrong> {
    let bare = text.strip_suffix('/').unwrap_or_default();
    // A dot within a segment may be left out by readers that look for an extension.
    let dotted = |segment: &str| segment.get(1..).is_some_and(|rest| rest.contains('.'));
    let lower = !bare.bytes().any(|byte| byte.is_ascii_uppercase());
    match lower && !bare.is_empty() && text.len() <= 200 && is_plain(bare) && !bare.split('/').any(dotted) {
        true => Ok(text.to_owned()),
        false => Err(Wrong::expected(
            "a path of small letters, digits, `-` and `_` that begins and ends with `/`, such as `/app/.loginsync/`",
        )),
    }
}

/// The domain of a cookie: the part of several hosts' names that they share.
pub fn cookie_domain(text: &str) -> Result<String, Wrong> {
    let wrong = || {
        Wrong::expected(
            "a domain of two labels or more that is not a public suffix, without a leading dot, such as `example.com`",
        )
    };
    let name = host_name(text).map_err(|_| wrong())?;
    let is_address = name.parse::<IpAddr>().is_ok();
    if name.contains('.') && !is_address { Ok(name) } else { Err(wrong()) }
}

/// The name of a host as a `Host` field has it, without a port, in lower case.
pub fn host_name(text: &str) -> Result<String, Wrong> {
    let is_name = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    match text.len() <= 253 && text.split('.').all(is_name) {
        true => Ok(text.to_ascii_lowercase()),
        false => Err(Wrong::expected("the name of a host without scheme and port, such as `loginsync.internal`")),
    }
}

/// The app's own address: http or https without a path, or a socket of this machine.
pub fn app_url(text: &str) -> Result<Url, Wrong> {
    match text.starts_with("unix:") {
        true => socket(text, "unix:/run/app.sock"),
        false => origin(text, "`http://127.0.0.1:3000` or `unix:/run/app.sock`"),
    }
}

/// The absolute path of a socket behind `unix:`.
fn socket(text: &str, example: &str) -> Result<Url, Wrong> {
    let path = text.strip_prefix("unix:").unwrap_or_default();
    let plain = path.starts_with('/') && !path.starts_with("//") && path.len() <= LONGEST_SOCKET;
    let url = Url::parse(text).ok().filter(|url| plain && url.path() == path);
    url.ok_or_else(|| {
        Wrong::expected(format!(
            "the absolute path of a socket, at most {LONGEST_SOCKET} bytes of plain letters, such as `{example}`"
        ))
    })
}

/// Bytes of a socket's path: `sun_path` of Linux less its end.
const LONGEST_SOCKET: usize = 107;

/// Where a service is asked that has addresses of its own below: https, or http to a loopback host.
pub fn origin_of_service(text: &str, example: &str) -> Result<Url, Wrong> {
    let url = origin(text, example)?;
    match url.scheme() == "https" || is_loopback(&url) {
        true => Ok(url),
        false => Err(Wrong::expected(format!("https, such as {example} (http to a loopback host only)"))),
    }
}

fn origin(text: &str, example: &str) -> Result<Url, Wrong> {
    let wrong = || Wrong::expected(format!("scheme and authority alone, such as {example}"));
    let url = web_url(text).ok_or_else(wrong)?;
    // `Url` writes an absent path as `/`, so the text itself is asked.
    let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    if bare { Ok(url) } else { Err(wrong()) }
}

/// Where keys or people are sent to: https, or http to a loopback host.
pub fn endpoint(text: &str) -> Result<Url, Wrong> {
    let wrong = || Wrong::expected("an https URL without user or fragment (http to a loopback host only)");
    let url = web_url(text).ok_or_else(wrong)?;
    let trusted = url.scheme() == "https" || is_loopback(&url);
    if trusted && url.fragment().is_none() { Ok(url) } else { Err(wrong()) }
}

/// Where we ask a provider inside a network: http too, to a host that may be a private address.
pub fn inner_endpoint(text: &str) -> Result<Url, Wrong> {
    let wrong = || Wrong::expected("an http or https URL without user or fragment, http to a private address alone");
    let url = web_url(text).ok_or_else(wrong)?;
    let address = match url.host() {
        Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
        Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
        Some(Host::Domain(_)) | None => None,
    };
    // What a name leads to is looked at whenever it is asked.
    let is_inside = url.scheme() == "https" || address.is_none_or(is_private);
    if is_inside && url.fragment().is_none() { Ok(url) } else { Err(wrong()) }
}

/// Whether an address is of a private network (RFC 1918, RFC 4193, RFC 6598), or of this machine. Link-local ones are not: clouds
/// answer there with secrets of the machine.
pub fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let [first, second, ..] = address.octets();
            address.is_private() || address.is_loopback() || (first == 100 && (64..128).contains(&second))
        }
        IpAddr::V6(address) => address.is_loopback() || address.is_unique_local(),
    }
}

fn web_url(text: &str) -> Option<Url> {
    // The URL standard drops tabs, newlines and padding unsaid; an operator's typing error should not pass so.
    if text.chars().any(|letter| letter.is_whitespace() || letter.is_control() || letter == '\\') {
        return None;
    }
    let url = Url::parse(text).ok()?;
    let is_web = matches!(url.scheme(), "http" | "https") && text.contains("://");
    (is_web && url.has_host() && url.username().is_empty() && url.password().is_none()).then_some(url)
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        None => false,
    }
}

/// How far an issuer's address may be http.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IssuerHttp {
    Never,
    /// `allow_http`.
    Inside,
    /// It is compared as text, and never asked.
    AsText,
}

/// An OIDC issuer: an https URL without query or fragment (OIDC Core 1.0 section 2), of one tenant.
pub fn oidc_issuer(text: &str, http: IssuerHttp) -> Result<(), Wrong> {
    single_tenant(text)?;
    let url = match http {
        IssuerHttp::Never => endpoint(text).map_err(|_| {
            let unsafe_issuer = web_url(text).is_some_and(|url| url.scheme() == "http");
            let more = if unsafe_issuer { "; or `allow_http = true`, for private addresses alone" } else { "" };
            Wrong::expected(format!(
                "the issuer exactly as the tokens carry it: an https URL without query or fragment{more}"
            ))
        })?,
        IssuerHttp::Inside => inner_endpoint(text)?,
        IssuerHttp::AsText => web_url(text).filter(|url| url.fragment().is_none()).ok_or_else(|| {
            Wrong::expected("the issuer exactly as the tokens carry it: a URL without query or fragment")
        })?,
    };
    match url.query() {
        None => Ok(()),
        Some(_) => Err(Wrong::expected("an issuer without a query (OpenID Connect Core 1.0 section 2)")),
    }
}

/// Refuses the issuers of Entra that stand for any tenant: its owner could be anyone.
pub fn single_tenant(text: &str) -> Result<(), Wrong> {
    let folded = text.to_ascii_lowercase();
    let is_entra = ["login.microsoftonline.", "login.windows.net", "sts.windows.net", "login.partner.microsoftonline."]
        .iter()
        .any(|host| folded.contains(host));
    let any_tenant = ["common", "organizations", "consumers"]
        .iter()
        .any(|word| folded.split('/').any(|segment| segment == *word) && is_entra);
    if any_tenant || folded.contains("{tenantid}") || folded.contains("{tenant}") {
        return Err(Wrong::expected(
            "the issuer of one tenant, with the tenant's id in it: this one stands for any tenant",
        ));
    }
    Ok(())
}

/// A path of the app: what a request line could carry, without query or fragment.
pub fn app_path(text: &str) -> Result<String, Wrong> {
    let allowed = |letter: char| letter.is_ascii_graphic() && !matches!(letter, '?' | '#' | '\\' | '"' | '<' | '>');
    if text.starts_with('/') && !text.starts_with("//") && text.chars().all(allowed) {
        return Ok(text.to_owned());
    }
    Err(Wrong::expected("a path that begins with one `/`, percent-encoded, without query and fragment"))
}

/// Parameters that an address of the app may name in its query.
const MOST_PARAMETERS: usize = 8;

/// Bytes of a query that is part of an address.
const LONGEST_QUERY: usize = 500;

/// A path of the app, with a query where that says which page is meant.
pub fn app_address(text: &str) -> Result<String, Wrong> {
    let (path, query) = divided(text);
    let Some(query) = query else {
        return app_path(text).map_err(|_| {
            Wrong::expected("a path that begins with one `/`, percent-encoded, without fragment; a query may follow")
        });
    };
    app_path(path)?;
    let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'?' | b';' | b'#' | b'\\' | b'"' | b'<' | b'>');
    let names = || query.split('&').map(|pair| pair.split_once('=').map_or(pair, |(name, _)| name));
    let named = names().all(|name| !name.is_empty() && name.len() <= 40) && names().count() <= MOST_PARAMETERS;
    if !named || query.len() > LONGEST_QUERY || !query.bytes().all(plain) {
        return Err(Wrong::expected(format!(
            "after the `?` one to {MOST_PARAMETERS} parameters with `&` between them, percent-encoded, as in \
             `/index.php?r=saml/acs`"
        )));
    }
    match names().find_map(|name| field_named(name.as_bytes())) {
        None => Ok(text.to_owned()),
        Some(field) => Err(Wrong::expected(format!(
            "a query without `{}`, which is part of a login's answer itself",
            field.name()
        ))),
    }
}

/// A header that may reach the app although its name holds `_` or the like: one that no app can take for a header which has a
/// meaning here.
pub fn underscored_header(text: &str) -> Result<HeaderName, Wrong> {
    let name = header_name(text)?;
    if header::is_plain(name.as_str()) {
        return Err(Wrong::expected("a name with `_`; others need no leave, or never pass"));
    }
    let folded = header::folded(name.as_str());
    match header::meaning(&folded) {
        None => Ok(name),
        Some(_) => Err(Wrong::expected(format!(
            "a name that apps cannot read as a header with a meaning here: this one is `{folded}` to CGI, WSGI, Rack and PHP"
        ))),
    }
}

/// A header that only a trusted proxy may send.
pub fn trusted_header(text: &str) -> Result<HeaderName, Wrong> {
    let name = header_name(text)?;
    if !header::is_plain(name.as_str()) {
        return Err(Wrong::expected("a name of letters, digits and `-`; apps may read this one as another"));
    }
    Err(Wrong::expected(match header::meaning(name.as_str()) {
        Some(Meaning::Identity | Meaning::OtherHop) => return Ok(name),
        Some(Meaning::Hop) => "another header: this one passes from every trusted proxy",
        Some(Meaning::Ours) => "another header: only loginsync may tell the app under this name who a user is",
        Some(Meaning::Path) => "another header: by this one an app may take another path than the one that was checked",
        Some(Meaning::Proxy) => "another header: CGI makes `HTTP_PROXY` of this one (httpoxy)",
        Some(Meaning::Method | Meaning::Message) | None => "another header: this one passes from everyone",
    }))
}

fn header_name(text: &str) -> Result<HeaderName, Wrong> {
    let short = !text.is_empty() && text.len() <= 200;
    HeaderName::try_from(text).ok().filter(|_| short).ok_or_else(|| Wrong::expected("the name of a header"))
}

/// Whether a number is within bounds, and what was expected if not.
pub fn within<T: PartialOrd + Copy>(
    value: T,
    range: &RangeInclusive<T>,
    written: impl Fn(T) -> String,
) -> Result<T, Wrong> {
    if range.contains(&value) {
        return Ok(value);
    }
    Err(Wrong::expected(format!("{} to {}", written(*range.start()), written(*range.end()))))
}

/// A token (RFC 6265 section 4.1.1).
pub fn cookie_name(text: &str) -> Result<String, Wrong> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let folded = text.to_ascii_lowercase();
    let ours = folded.trim_start_matches("__host-").trim_start_matches("__secure-").starts_with("loginsync-");
    match !text.is_empty() && text.len() <= 200 && text.bytes().all(allowed) && !ours {
        true => Ok(text.to_owned()),
        false => Err(Wrong::expected("the name of a cookie of the app, such as `JSESSIONID`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        for (text, milliseconds) in [("250ms", 250), ("30s", 30_000), ("10m", 600_000), ("12h", 43_200_000), ("0s", 0)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
            assert_eq!(written(Duration::from_millis(milliseconds)), text);
        }
        for text in
            ["", "30", "s", "-1s", "+1s", "1.5s", "1 s", "1w", "1S", "99999999999999999999s", "999999999999999999d"]
        {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_binary() {
        assert_eq!(size("64KiB"), Ok(65536));
        assert_eq!(size("1MiB"), Ok(1 << 20));
        for text in ["64KB", "64 KiB", "KiB", "1GiB", "+1KiB", "99999999999999999MiB"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn networks_have_no_stray_bits() {
        for text in ["10.0.0.0/8", "0.0.0.0/0", "::/0", "fd00::/8", "10.1.2.3", "::1", "10.1.2.3/32"] {
            assert!(network(text).is_ok(), "{text}");
        }
        for text in
            ["10.0.0.1/8", "10.0.0.0/33", "fd00::1/8", "::ffff:10.0.0.1", "10.0.0.0/", "10.0.0.0/+8", "localhost"]
        {
            assert!(network(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_public_url_is_an_origin_and_perhaps_a_path() {
        assert_eq!(public_url("https://App.example.com/").unwrap().origin, "https://app.example.com");
        assert_eq!(public_url("http://[::1]:8080").unwrap().origin, "http://[::1]:8080");
        let below = public_url("https://a.example/b/c/").unwrap();
        assert_eq!((below.origin.as_str(), below.base.as_str()), ("https://a.example", "/b/c"));
        for text in [
            "http://app.example.com",
            "https://a/b/../c",
            "https://a/b//c",
            "https://a/b//",
            "https://a/%62",
            "https://a/b;c",
            "https://a?b",
            "https://a/b?c",
            "https://u@a",
            "https:a",
            "app",
            "ftp://a",
            " https://a",
        ] {
            assert!(public_url(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_issuer_is_of_one_tenant() {
        for text in [
            "https://login.microsoftonline.com/common/v2.0",
            "https://login.microsoftonline.com/organizations/v2.0",
            "https://login.microsoftonline.com/{tenantid}/v2.0",
            "https://LOGIN.microsoftonline.us/Common/v2.0",
            "https://sts.windows.net/{tenantid}/",
        ] {
            assert!(oidc_issuer(text, IssuerHttp::Never).is_err(), "{text}");
        }
        for text in
            ["https://accounts.google.com", "https://keycloak.example.com/realms/common", "http://127.0.0.1:1/x"]
        {
            assert_eq!(oidc_issuer(text, IssuerHttp::Never), Ok(()), "{text}");
        }
    }
}
