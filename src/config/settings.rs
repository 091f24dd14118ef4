//! The sections about the sidecar itself: where it listens, the app, the store, keys, logs, limits.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::reader::{Found, Section};
use super::values::{self, ListenAt};
use super::{
    Admin, App, AppProtocol, Assertion, Bearer, Elsewhere, Limits, Listen, Log, LogFormat, Ready, Relay, Secret,
    TlsFiles, files,
};
use crate::pipeline::claims::split::MAX_DELIMITER;
use crate::pipeline::ids::{Issuer, MAX_NAME};
use crate::pipeline::provider::ClaimLimits;

/// Seconds.
pub const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// What a time limit may be: never zero, which would refuse everything.
pub const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(1)..=seconds(3600);

pub fn listen(section: &Section<'_>, warnings: &mut Vec<String>) -> Listen {
    let at = section.parsed("address", values::listen_address).map(|found| found.value);
    let listen = Listen {
        address: match &at {
            Some(ListenAt::Network(address)) => *address,
            Some(ListenAt::Socket(_)) | None => ([127, 0, 0, 1], 8080).into(),
        },
        socket: match at {
            Some(ListenAt::Socket(path)) => Some(path),
            Some(ListenAt::Network(_)) | None => None,
        },
        tls: tls(section, warnings),
        trusted_proxies: section.list("trusted_proxies", false, values::network).unwrap_or_default(),
        proxy_protocol: proxy_protocol(section),
        max_connections: section.count("max_connections", 10_000, 1..=1_000_000),
        header_timeout: section.duration("header_timeout", seconds(15), TIMEOUT),
        idle_timeout: section.duration("idle_timeout", seconds(75), TIMEOUT),
        drain_timeout: section.duration("drain_timeout", seconds(25), Duration::ZERO..=seconds(3600)),
    };
    section.finish();
    listen
}

fn tls(section: &Section<'_>, warnings: &mut Vec<String>) -> Option<TlsFiles> {
    tls_files(section, "tls_certificate", "tls_key", warnings)
}

/// A certificate chain and its key, in files.
pub fn tls_files(
    section: &Section<'_>,
    certificate_key: &'static str,
    key_key: &'static str,
    warnings: &mut Vec<String>,
) -> Option<TlsFiles> {
    let certificate = files::file(section, certificate_key);
    let key = files::file(section, key_key);
    let alone = |missing: &str| format!("`{missing}` is missing; expected both or neither");
    match (section.written(certificate_key), section.written(key_key)) {
        (Some(span), None) => section.raise(&span, certificate_key, alone(key_key)),
        (None, Some(span)) => section.raise(&span, key_key, alone(certificate_key)),
        _ => {}
    }
    let (certificate, key) = (certificate?, key?);
    let name = certificate.value.path.to_string_lossy().into_owned();
    if let Err(why) = files::certificates(&certificate.value.bytes) {
        section.raise(&certificate.span, certificate_key, format!("`{name}` {why}"));
        return None;
    }
    if let Err(why) = files::check_tls(&certificate.value.bytes, &key.value.bytes) {
        section.raise(&key.span, key_key, format!("`{}` {why}", key.value.path.to_string_lossy()));
        return None;
    }
    warnings.extend(files::expiry_warnings(
        files::expiries(&certificate.value.bytes),
        &name,
        section.context.around.now,
    ));
    Some(TlsFiles { certificate: certificate.value.path, key: key.value.path })
}

fn proxy_protocol(section: &Section<'_>) -> bool {
    let expected = section.flag("proxy_protocol", false);
    if let (true, Some(span), None) = (expected, section.written("proxy_protocol"), section.written("trusted_proxies"))
    {
        let message = "`trusted_proxies` is missing; expected the addresses of the balancers that say whose connections they pass on";
        section.raise(&span, "proxy_protocol", message);
    }
    expected
}

pub fn app(section: &Section<'_>) -> Option<App> {
    let url =
        section.required("url", "http://127.0.0.1:3000").and_then(|text| section.parse("url", text, values::app_url));
    let protocols = [("http1", AppProtocol::Http1), ("http2", AppProtocol::Http2)];
    let protocol = section.word("protocol", &protocols, AppProtocol::Http1);
    let start_page = section.parsed("start_page", values::app_path);
    let connect_timeout = section.duration("connect_timeout", seconds(3), TIMEOUT);
    let response_timeout = section.duration("response_timeout", seconds(60), TIMEOUT);
    let stream_timeout =
        section.duration("stream_timeout", seconds(3600), Duration::from_millis(1)..=seconds(7 * 86_400));
    let idle_connections = section.count("idle_connections", 256, 0..=100_000);
    let idle_timeout = section.duration("idle_timeout", Duration::from_millis(1500), TIMEOUT);
    let ca_file = authority(section);
    section.finish();
    let url = url?.value;
    if let (Some(file), "http" | "unix") = (&ca_file, url.scheme()) {
        section.raise(&file.span, "ca_file", "`url` is not https; expected an https `url` where `ca_file` is set");
    }
    Some(App {
        protocol,
        url,
        start_page: start_page.map_or_else(|| String::from("/"), |found| found.value),
        connect_timeout,
        response_timeout,
        stream_timeout,
        idle_connections,
        idle_timeout,
        ca_file: ca_file.map(|found| found.value),
    })
}

/// The private authority behind a server's certificate.
pub fn authority(section: &Section<'_>) -> Option<Found<std::path::PathBuf>> {
    files::checked_file(section, "ca_file", |bytes| files::certificates(bytes).map(drop))
}

/// The APIs ask everybody who they are. An address that others reach without a client that may call them is a mistake, unless
/// it is said to be for health and metrics.
pub fn admin(section: &Section<'_>, has_clients: bool, warnings: &mut Vec<String>) -> Admin {
    let allow_remote = section.flag("allow_remote", false);
    let rate_limit = u32::try_from(section.count("rate_limit", 600, 1..=1_000_000)).unwrap_or(u32::MAX);
    let address = section.parsed("address", values::address);
    let public_url = section
        .parsed("public_url", |text| values::origin_of_service(text, "`https://loginsync.example.com`"))
        .map(|found| found.value);
    let hosts = section.list("hosts", false, values::host_name).unwrap_or_default();
    let tls = tls(section, warnings);
    section.finish();
    let admin = |address| Admin { address, allow_remote, rate_limit, public_url, hosts, tls };
    let Some(Found { value: address, span }) = address else { return admin(([127, 0, 0, 1], 9901).into()) };
    if !address.ip().is_loopback() && !allow_remote && !has_clients {
        let message = format!(
            "found `{address}`; expected a loopback address, or an `[[api_client]]`, since no caller could authenticate \
             there; `allow_remote = true` opens health and metrics to the network"
        );
        section.raise(&span, "address", message);
    }
    admin(address)
}

pub fn assertion(section: &Section<'_>) -> Assertion {
    let assertion = Assertion {
        audience: section.text("audience").and_then(|text| {
            section.checked("audience", &text, Issuer::parse).map(|audience| audience.as_str().to_owned())
        }),
        lifetime: section.duration("lifetime", seconds(60), seconds(5)..=seconds(3600)),
        key: files::assertion_key(section),
    };
    section.finish();
    assertion
}

pub fn bearer(section: &Section<'_>) -> Bearer {
    let bearer = Bearer {
        cache_age: section.duration("cache_age", seconds(30), seconds(1)..=seconds(300)),
        cache_entries: section.count("cache_entries", 10_000, 2..=1_000_000),
        form: section.flag("form", false),
        machines: section.flag("machines", true),
        cookies: section.list("cookies", false, values::cookie_name).unwrap_or_default(),
    };
    section.finish();
    bearer
}

/// The back channel. Absent unless it is written: nothing listens that was not asked for.
pub fn relay(section: &Section<'_>, warnings: &mut Vec<String>) -> Option<Relay> {
    let address = section.required("address", "127.0.0.1:8090");
    let address = address.and_then(|text| section.parse("address", text, values::address));
    let allow_remote = section.flag("allow_remote", false);
    let tls = tls(section, warnings);
    let url = section.parsed("url", values::app_url);
    let request_body = section.size("request_body", 64 << 10, 1 << 10..=16 << 20);
    let reply_body = section.size("reply_body", 1 << 20, 1 << 10..=64 << 20);
    let timeout = section.duration("timeout", seconds(20), TIMEOUT);
    let max_connections = section.count("max_connections", 1_000, 1..=1_000_000);
    section.finish();
    let Found { value: address, span } = address?;
    if !address.ip().is_loopback() && !allow_remote {
        let message = format!(
            "found `{address}`; expected a loopback address, since client secrets and tokens pass here; \
             `allow_remote = true` opens it to the network"
        );
        section.raise(&span, "address", message);
    }
    if !address.ip().is_loopback() && tls.is_none() {
        warnings.push(format!(
            "the relay at {address} is reached over the network without TLS, and client secrets and tokens pass there; \
             set `relay.tls_certificate` and `relay.tls_key`"
        ));
    }
    let scheme = if tls.is_some() { "https" } else { "http" };
    let own = || format!("{scheme}://{address}");
    let url = url.map_or_else(own, |found| found.value.origin().ascii_serialization());
    Some(Relay { address, allow_remote, tls, url, request_body, reply_body, timeout, max_connections })
}

pub fn audit(section: &Section<'_>, warnings: &mut Vec<String>) -> Option<Secret> {
    let key = files::audit_key(section);
    section.finish();
    if section.written("key_file").is_none() && section.written("key_env").is_none() {
        warnings.push(String::from(
            "no audit key: rows are linked by hash alone, and an attacker who can write to the store can forge the chain; \
             set `audit.key_file` or `audit.key_env`",
        ));
    }
    key
}

pub fn cookies(section: &Section<'_>) -> Option<Vec<Secret>> {
    let keys = files::cookie_keys(section);
    section.finish();
    keys
}

pub fn ready(section: &Section<'_>) -> Ready {
    let ready = section.word("store", &[("require", Ready::Require), ("serve", Ready::Serve)], Ready::Require);
    section.finish();
    ready
}

pub fn log(section: &Section<'_>) -> Log {
    use tracing::Level;
    let levels = [
        ("error", Level::ERROR),
        ("warn", Level::WARN),
        ("info", Level::INFO),
        ("debug", Level::DEBUG),
        ("trace", Level::TRACE),
    ];
    let log = Log {
        format: section.word("format", &[("json", LogFormat::Json), ("text", LogFormat::Text)], LogFormat::Json),
        level: section.word("level", &levels, Level::INFO),
    };
    section.finish();
    log
}

/// Limits, and those of arriving claims, which each provider carries.
pub fn limits(section: &Section<'_>) -> (Limits, ClaimLimits) {
    let mut limits = Limits {
        claim_name: section.count("claim_name", MAX_NAME, 1..=MAX_NAME),
        claim_value: section.count("claim_value", 1024, 1..=65_536),
        delimiter: section.count("delimiter", MAX_DELIMITER, 1..=MAX_DELIMITER),
        callback_body: section.size("callback_body", 1 << 20, 4 << 10..=64 << 20),
        held_bodies: 0,
        saml_document: section.size("saml_document", 256 << 10, 4 << 10..=16 << 20),
        mappings: section.count("mappings", 200_000, 0..=10_000_000),
        login_timeout: section.duration("login_timeout", seconds(10), TIMEOUT),
    };
    limits.held_bodies = held_bodies(section, limits.callback_body);
    let claims = ClaimLimits {
        values: section.count("claim_values", 10_000, 1..=1_000_000),
        bytes: section.size("claim_bytes", 1 << 20, 1 << 10..=16 << 20),
    };
    section.finish();
    (limits, claims)
}

/// How much more than one body there must be place for: of an eighth for one client, three quarters are for large bodies.
const HELD_MULTIPLE: usize = 16;

/// What is held of all requests together. Where a single body may be large, the default grows with it.
fn held_bodies(section: &Section<'_>, callback_body: usize) -> usize {
    // The admin listener takes bodies of 1 MiB.
    let least = HELD_MULTIPLE * callback_body.max(1 << 20);
    let held = section.size("held_bodies", least.max(64 << 20), 16 << 20..=1 << 40);
    if let Some(span) = section.written("held_bodies").filter(|_| held < least) {
        let message = format!(
            "found {held} bytes; expected at least {least}, {HELD_MULTIPLE} times `limits.callback_body`, since one client gets \
             an eighth of it; raise it, or lower `limits.callback_body`"
        );
        section.raise(&span, "held_bodies", message);
    }
    held
}

/// What may be said of fields that carry a login.
pub const ELSEWHERE: [(&str, Elsewhere); 2] = [("refuse", Elsewhere::Refuse), ("pass", Elsewhere::Pass)];

pub fn guard(section: &Section<'_>) -> Elsewhere {
    let elsewhere = section.word("elsewhere", &ELSEWHERE, Elsewhere::Refuse);
    section.finish();
    elsewhere
}
