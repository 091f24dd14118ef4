//! The checked configuration as an operator looks at it: what is in force, with what the file does not say. Nothing secret is in it:
//! of secrets it says whether they are there.

use std::fmt::Display;
use std::time::Duration;

use super::values::written;
use super::{
    Admin, App, AppProtocol, Assertion, Bearer, Config, Console, LogFormat, OperatorSettings, Place, PublicUrl, Ready,
    Relay, Secret, SessionSettings, Synchronous, TlsFiles,
};

/// One table of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// As the file calls it.
    pub name: String,
    /// Keys and their values, in words.
    pub values: Vec<(&'static str, String)>,
}

fn all<T: Display>(values: impl IntoIterator<Item = T>) -> String {
    let values: Vec<String> = values.into_iter().map(|value| value.to_string()).collect();
    if values.is_empty() { "none".into() } else { values.join(", ") }
}

fn one<T: Display>(value: Option<T>) -> String {
    value.map_or_else(|| "none".into(), |value| value.to_string())
}

fn flag(value: bool) -> String {
    if value { "yes".into() } else { "no".into() }
}

fn time(value: Duration) -> String {
    written(value)
}

fn bytes(value: usize) -> String {
    match value {
        value if value >= 1 << 20 && value % (1 << 20) == 0 => format!("{}MiB", value >> 20),
        value if value >= 1 << 10 && value % (1 << 10) == 0 => format!("{}KiB", value >> 10),
        value => value.to_string(),
    }
}

fn secret(value: Option<&Secret>) -> String {
    if value.is_some() { "set; not shown".into() } else { "not set".into() }
}

fn tls(files: Option<&TlsFiles>) -> String {
    files.map_or_else(|| "none".into(), |files| files.certificate.display().to_string())
}

impl Config {
    /// All tables but groups, roles and mappings, which have pages of their own.
    pub fn shown(&self) -> Vec<Shown> {
        // A new field has to be looked at here: whether it is secret.
        let Self {
            public_url,
            listen: _,
            app,
            admin,
            console,
            relay,
            bearer,
            assertion,
            receivers: _,
            egress,
            api_clients,
            store: _,
            audit_key,
            cookie_keys,
            ready,
            log,
            headers: _,
            limits: _,
            sessions,
            providers: _,
            rules: _,
            warnings: _,
        } = self;
        let table = |name: &str, values| Shown { name: name.to_owned(), values };
        let mut tables = vec![
            table("", top(public_url)),
            table("listen", self.shown_listen()),
            table("app", of_app(app)),
            table("admin", of_admin(admin)),
            table("console", of_console(console)),
        ];
        tables.extend(self.shown_providers());
        tables.extend(relay.as_ref().map(|relay| table("relay", of_relay(relay))));
        tables.push(table("bearer", of_bearer(bearer)));
        tables.extend(assertion.as_ref().map(|assertion| table("assertion", of_assertion(assertion))));
        tables.push(table("session", of_sessions(sessions)));
        tables.push(table("store", self.shown_store()));
        let ready = if *ready == Ready::Require { "require" } else { "serve" };
        let log_format = if log.format == LogFormat::Json { "json" } else { "text" };
        let proxy = egress.as_ref().map(|egress| format!("{}:{}", egress.host, egress.port));
        let authorization = egress.as_ref().and_then(|egress| egress.authorization.as_ref());
        tables.push(table("audit", vec![("key", secret(audit_key.as_ref()))]));
        tables.push(table(
            "cookies",
            vec![(
                "keys",
                cookie_keys
                    .as_ref()
                    .map_or_else(|| "kept in the store".into(), |keys| format!("{}; not shown", keys.len())),
            )],
        ));
        tables.push(table("ready", vec![("store", ready.into())]));
        tables.push(table("log", vec![("format", log_format.into()), ("level", log.level.to_string().to_lowercase())]));
        tables.push(table("egress", vec![("proxy", one(proxy)), ("credentials", secret(authorization))]));
        tables.push(table("headers", self.shown_headers()));
        tables.push(table("limits", self.shown_limits()));
        tables.push(table("api_client", vec![("names", all(api_clients.iter().map(|client| &client.name)))]));
        tables.push(table("receivers", vec![("names", all(self.receiver_names()))]));
        tables
    }

    fn shown_listen(&self) -> Vec<(&'static str, String)> {
        let listen = &self.listen;
        let address = match &listen.socket {
            Some(path) => format!("unix:{}", path.display()),
            None => listen.address.to_string(),
        };
        let proxies = listen.trusted_proxies.iter().map(|network| format!("{}/{}", network.address, network.prefix));
        vec![
            ("address", address),
            ("tls_certificate", tls(listen.tls.as_ref())),
            ("trusted_proxies", all(proxies)),
            ("proxy_protocol", flag(listen.proxy_protocol)),
            ("max_connections", listen.max_connections.to_string()),
            ("header_timeout", time(listen.header_timeout)),
            ("idle_timeout", time(listen.idle_timeout)),
            ("drain_timeout", time(listen.drain_timeout)),
        ]
    }

    fn shown_providers(&self) -> impl Iterator<Item = Shown> + '_ {
        self.providers.iter().map(|settings| {
            let provider = &settings.provider;
            Shown {
                name: format!("provider {}", provider.name),
                values: vec![
                    ("mode", provider.mode.word().into()),
                    ("issuer", provider.issuer.to_string()),
                    ("keys", settings.keys_from()),
                    ("refresh", time(settings.keys.refresh)),
                    ("max_stale", time(settings.keys.max_stale)),
                    ("callbacks", all(&provider.callbacks)),
                    ("namespace", provider.user.namespace.to_string()),
                    ("claims", all(provider.claims.iter().map(|claim| &claim.name))),
                    ("stages", all(&provider.stages)),
                    ("strict", flag(provider.strict)),
                    ("leeway", time(provider.leeway)),
                    ("max_age", time(provider.max_age)),
                    ("email_trusted", flag(settings.email_trusted)),
                    ("directory", flag(settings.overage.is_some())),
                ],
            }
        })
    }

    fn shown_store(&self) -> Vec<(&'static str, String)> {
        let store = &self.store;
        let synchronous = if store.synchronous == Synchronous::Full { "full" } else { "normal" };
        // The URL of a server may hold a password.
        let place = match &store.place {
            Place::File(path) => path.display().to_string(),
            Place::Server(_) => "a database of PostgreSQL; its URL is not shown".into(),
        };
        vec![("place", place), ("synchronous", synchronous.into()), ("timeout", time(store.timeout))]
    }

    fn shown_headers(&self) -> Vec<(&'static str, String)> {
        let headers = &self.headers;
        vec![
            ("preset", headers.preset.word().into()),
            ("delimiter", headers.delimiter.to_string()),
            ("no_groups", one(headers.no_groups.as_ref())),
            ("max_bytes", bytes(headers.max_bytes)),
            ("allow_underscores", all(&headers.allow_underscores)),
            ("trust", all(&headers.trust)),
            ("drop_cookies", all(&headers.drop_cookies)),
        ]
    }

    fn shown_limits(&self) -> Vec<(&'static str, String)> {
        let limits = &self.limits;
        vec![
            ("claim_name", limits.claim_name.to_string()),
            ("claim_value", limits.claim_value.to_string()),
            ("delimiter", limits.delimiter.to_string()),
            ("callback_body", bytes(limits.callback_body)),
            ("held_bodies", bytes(limits.held_bodies)),
            ("saml_document", bytes(limits.saml_document)),
            ("mappings", limits.mappings.to_string()),
            ("login_timeout", time(limits.login_timeout)),
        ]
    }
}

fn top(url: &PublicUrl) -> Vec<(&'static str, String)> {
    vec![("public_url", url.root()), ("own_path", url.own.clone())]
}

fn of_app(app: &App) -> Vec<(&'static str, String)> {
    vec![
        ("url", app.url.to_string()),
        ("protocol", if app.protocol == AppProtocol::Http1 { "http1".into() } else { "http2".into() }),
        ("start_page", app.start_page.clone()),
        ("connect_timeout", time(app.connect_timeout)),
        ("response_timeout", time(app.response_timeout)),
        ("stream_timeout", time(app.stream_timeout)),
        ("idle_connections", app.idle_connections.to_string()),
        ("idle_timeout", time(app.idle_timeout)),
        ("ca_file", one(app.ca_file.as_ref().map(|path| path.display()))),
    ]
}

fn of_admin(admin: &Admin) -> Vec<(&'static str, String)> {
    vec![
        ("address", admin.address.to_string()),
        ("allow_remote", flag(admin.allow_remote)),
        ("rate_limit", admin.rate_limit.to_string()),
        ("public_url", one(admin.public_url.as_ref())),
        ("hosts", all(&admin.hosts)),
        ("tls_certificate", tls(admin.tls.as_ref())),
    ]
}

fn of_console(console: &Console) -> Vec<(&'static str, String)> {
    let mut values = vec![("enabled", flag(console.enabled))];
    if let Some(OperatorSettings { provider, read_role, write_role }) = &console.operators {
        values.push(("provider", provider.to_string()));
        values.push(("read_role", one(read_role.as_ref())));
        values.push(("write_role", one(write_role.as_ref())));
    }
    values
}

fn of_relay(relay: &Relay) -> Vec<(&'static str, String)> {
    vec![
        ("address", relay.address.to_string()),
        ("allow_remote", flag(relay.allow_remote)),
        ("tls_certificate", tls(relay.tls.as_ref())),
        ("url", relay.url.clone()),
        ("request_body", bytes(relay.request_body)),
        ("reply_body", bytes(relay.reply_body)),
        ("timeout", time(relay.timeout)),
        ("max_connections", relay.max_connections.to_string()),
    ]
}

fn of_bearer(bearer: &Bearer) -> Vec<(&'static str, String)> {
    vec![
        ("cache_age", time(bearer.cache_age)),
        ("cache_entries", bearer.cache_entries.to_string()),
        ("form", flag(bearer.form)),
        ("machines", flag(bearer.machines)),
        ("cookies", all(&bearer.cookies)),
    ]
}

fn of_assertion(assertion: &Assertion) -> Vec<(&'static str, String)> {
    let key = if assertion.key.is_some() { "set; not shown" } else { "kept in the store" };
    vec![("audience", one(assertion.audience.as_ref())), ("lifetime", time(assertion.lifetime)), ("key", key.into())]
}

fn of_sessions(sessions: &SessionSettings) -> Vec<(&'static str, String)> {
    vec![
        ("idle", time(sessions.idle)),
        ("absolute", time(sessions.absolute)),
        ("cache", time(sessions.cache)),
        ("most_per_user", sessions.most_per_user.to_string()),
        ("renew", one(sessions.renew.map(time))),
        ("cookie_domain", one(sessions.cookie_domain.as_ref())),
        ("app_session_cookie", one(sessions.app_cookie.as_ref())),
        ("logout_paths", all(&sessions.logout_paths)),
        ("forward_auth", one(sessions.forward_auth.as_ref().map(|asked| asked.path.as_str()))),
    ]
}
