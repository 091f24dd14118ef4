//! Where the store is: a SQLite file on the sidecar's machine, or a PostgreSQL database that several sidecars share.

use std::path::PathBuf;
use std::sync::Arc;

use tokio_postgres::config::{Host, SslMode};

use super::reader::{Found, Section};
use super::settings::{TIMEOUT, seconds, tls_files};
use super::{Place, Secret, Server, ServerPassword, StoreSettings, Synchronous, files};

/// What applies only with `store.path`, and with `store.url` alone.
const OF_FILES: [&str; 1] = ["synchronous"];
const OF_SERVERS: [&str; 8] =
    ["password_file", "password_env", "key_file", "key_env", "connections", "ca_file", "tls_certificate", "tls_key"];

/// How a URL is written.
const URL: &str = "expected for instance `postgres://USER@HOST:5432/DATABASE`";

pub fn read(section: &Section<'_>, warnings: &mut Vec<String>) -> StoreSettings {
    let path = section.text("path");
    if let Some(found) = path.as_ref().filter(|found| found.value.trim().is_empty()) {
        section.raise(&found.span, "path", "is empty; expected the path of a file");
    }
    let server = server(section, warnings);
    let is_shared = section.written("url").is_some();
    if let (true, Some(span)) = (is_shared, section.written("path")) {
        section.raise(&span, "path", "`url` is set too; expected one of them");
    }
    let (of_others, other) = if is_shared { (OF_FILES.as_slice(), "path") } else { (OF_SERVERS.as_slice(), "url") };
    for (key, span) in of_others.iter().filter_map(|key| Some((key, section.written(key)?))) {
        section.raise(&span, key, format!("applies only with `store.{other}`"));
    }
    let words = [("full", Synchronous::Full), ("normal", Synchronous::Normal)];
    let file = section.context.resolve(path.map_or("loginsync.db", |found| found.value));
    let settings = StoreSettings {
        place: server.map_or(Place::File(file), |server| Place::Server(Arc::new(server))),
        synchronous: section.word("synchronous", &words, Synchronous::Full),
        timeout: section.duration("timeout", seconds(2), TIMEOUT),
    };
    section.finish();
    settings
}

fn server(section: &Section<'_>, warnings: &mut Vec<String>) -> Option<Server> {
    let url = section.text("url").and_then(|url| address(section, &url).map(|it| (url, it)));
    let password = password(section);
    let key = files::store_key(section);
    let connections = section.count("connections", 8, 1..=500);
    let ca = files::checked_file(section, "ca_file", |bytes| files::certificates(bytes).map(drop));
    let client = tls_files(section, "tls_certificate", "tls_key", warnings);
    let span = section.written("url")?;
    if key.is_none() && section.written("key_file").is_none() && section.written("key_env").is_none() {
        let message = "missing; it seals the secrets that replicas share in the database (`openssl rand -base64 32`)";
        section.context.raise_absent(&span, section.key("key_file"), message);
    }
    let (url, (is_plain, is_remote)) = url?;
    for (key, set) in [("ca_file", ca.is_some()), ("tls_certificate", client.is_some())] {
        if let (true, true, Some(span)) = (is_plain, set, section.written(key)) {
            section.raise(&span, key, "applies only over TLS, and this connection does not use it");
        }
    }
    if is_plain && is_remote {
        warnings.push(String::from(
            "the database is reached over the network without TLS, and claims and sessions pass there; \
             take `sslmode=disable` out of `store.url`",
        ));
    }
    let password = password.unwrap_or(ServerPassword::OfUrl);
    let url = Secret::new(url.value.as_bytes().to_vec());
    Some(Server { url, password, key: key?, connections, ca: ca.map(|found| found.value), client })
}

/// Whether connections have no TLS, and whether they leave this machine. The URL may hold a password, so no fault repeats it.
fn address(section: &Section<'_>, url: &Found<&str>) -> Option<(bool, bool)> {
    let wrong = |message: String| section.context.raise_hiding(&url.span, section.key("url"), message);
    let is_url = url.value.starts_with("postgres://") || url.value.starts_with("postgresql://");
    let Some(config) = url.value.parse::<tokio_postgres::Config>().ok().filter(|_| is_url) else {
        wrong(format!("is not the URL of a PostgreSQL database; {URL}"));
        return None;
    };
    let before = section.context.raised();
    let absent = [
        ("host", config.get_hosts().is_empty()),
        ("user", config.get_user().is_none()),
        ("database", config.get_dbname().is_none()),
    ];
    for (what, _) in absent.iter().filter(|(_, is_absent)| *is_absent) {
        wrong(format!("names no {what}; {URL}"));
    }
    // What a pooler refuses or ignores would not hold.
    if config.get_options().is_some() {
        wrong("has `options`, which poolers do not pass on; set them for the user in the database".into());
    }
    if section.context.raised() > before {
        return None;
    }
    let is_socket = config.get_hosts().iter().all(|host| matches!(host, Host::Unix(_)));
    let is_loopback = |host: &Host| match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        }
    };
    let is_remote = !config.get_hosts().iter().all(is_loopback);
    Some((is_socket || config.get_ssl_mode() == SslMode::Disable, is_remote))
}

fn password(section: &Section<'_>) -> Option<ServerPassword> {
    let from_file = files::checked_file(section, "password_file", |bytes| match bytes.trim_ascii().is_empty() {
        true => Err("is empty; expected the password of the database's user".into()),
        false => Ok(()),
    });
    let from_variable = files::text_variable(section, "password_env");
    if let (Some(_), Some(span)) = (section.written("password_file"), section.written("password_env")) {
        section.raise(&span, "password_env", "`password_file` is set too; expected one of them");
    }
    let of_file = from_file.map(|Found { value, .. }: Found<PathBuf>| ServerPassword::File(value));
    of_file.or_else(|| Some(ServerPassword::Fixed(Secret::new(from_variable?.value.into_bytes()))))
}
