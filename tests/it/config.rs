//! The configuration: the two files that we ship, every key of them, and every way to get one wrong.
//!
//! `fixtures/config-bad/CASE.toml` is a file with faults and `CASE.expected` what an operator then reads. `BLESS=1` writes
//! the latter anew. Files that a case names are made here, so that no key lies about.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use loginsync::config::{Config, Surroundings};
use loginsync::pipeline::ids::Timestamp;
use loginsync::pipeline::mapping::Activity;

/// 2026-01-01, long before the certificates here end.
const NOW: Timestamp = Timestamp(1_767_225_600_000);

fn in_repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// What the cases name, by file name.
fn made_files() -> &'static HashMap<&'static str, Vec<u8>> {
    static FILES: OnceLock<HashMap<&'static str, Vec<u8>>> = OnceLock::new();
    FILES.get_or_init(|| {
        let pair = || rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (ours, other) = (pair(), pair());
        let rsa = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
        let jwks = |use_: &str| {
            format!(
                r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","use":"{use_}","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}}]}}"#
            )
        };
        HashMap::from([
            ("certificate.pem", ours.cert.pem().into_bytes()),
            ("key.pem", ours.signing_key.serialize_pem().into_bytes()),
            ("other-certificate.pem", other.cert.pem().into_bytes()),
            ("other-key.pem", other.signing_key.serialize_pem().into_bytes()),
            ("decryption-key.pem", rsa.serialize_pem().into_bytes()),
            ("adfs-metadata.xml", std::fs::read(in_repository("config/adfs-metadata.xml")).unwrap()),
            ("other-metadata.xml", b"<EntityDescriptor xmlns=\"urn:oasis:names:tc:SAML:2.0:metadata\"/>".to_vec()),
            ("jwks.json", jwks("sig").into_bytes()),
            ("encryption-jwks.json", jwks("enc").into_bytes()),
            ("text.json", b"hello".to_vec()),
            ("latin.pem", b"caf\xe9 hunter2".to_vec()),
            ("torn.pem", b"-----BEGIN CERTIFICATE-----\naHVudGVyMg==\n".to_vec()),
            ("empty.pem", Vec::new()),
            ("secret.pem", b"-----BEGIN PRIVATE KEY-----\naHVudGVyMg==\n-----END PRIVATE KEY-----\n".to_vec()),
            ("not-a-certificate.pem", b"-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n".to_vec()),
            ("audit.key", b"0123456789abcdef0123456789abcdef\n".to_vec()),
            ("short.key", b"hunter2".to_vec()),
            ("webhook.secret", b"whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n".to_vec()),
            ("bad-webhook.secret", b"hunter2\nwhsec_aHVudGVyMg==\nMDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n".to_vec()),
            ("scim.token", b"a-token-of-the-app\n".to_vec()),
            ("cookie.keys", b"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n".to_vec()),
        ])
    })
}

fn read_made(path: &Path) -> io::Result<Vec<u8>> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap();
    match name {
        "directory" => Err(io::Error::from(io::ErrorKind::IsADirectory)),
        "forbidden.pem" => Err(io::Error::from(io::ErrorKind::PermissionDenied)),
        name => made_files().get(name).cloned().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound)),
    }
}

fn variable(name: &str) -> Option<String> {
    let value = match name {
        "AUDIT_KEY" | "LOGINSYNC_AUDIT_KEY" => "fedcba9876543210fedcba9876543210",
        "LOGINSYNC_WEBHOOK_SECRET" => "whsec_ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=",
        "LOGINSYNC_SCIM_TOKEN" => "another-token-of-the-app",
        "LOGINSYNC_COOKIE_KEYS" => "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA",
        "BAD_COOKIE_KEYS" => {
            "aHVudGVyMg==\nhunter2!\n\nMDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\nMDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"
        }
        "EMPTY" => "",
        _ => return None,
    };
    Some(value.to_owned())
}

fn load(file: &str, text: &str) -> Result<Config, loginsync::config::problem::Faults> {
    Config::from_text(text, &Surroundings { file: Path::new(file), read: &read_made, environment: &variable, now: NOW })
}

/// Everything that a configuration says, in an order that does not change from run to run.
fn spelled_out(config: &Config) -> String {
    let Config {
        public_url,
        listen,
        app,
        admin,
        console,
        api_clients,
        relay,
        bearer,
        assertion,
        receivers,
        egress: _,
        store,
        ready,
        audit_key,
        cookie_keys,
        log,
        headers,
        limits,
        sessions,
        providers,
        rules,
        warnings: _,
    } = config;
    let secrets: Vec<&[u8]> = audit_key.iter().chain(cookie_keys.iter().flatten()).map(|key| key.expose()).collect();
    let groups: BTreeMap<_, _> = rules.groups.iter().map(|(name, group)| (name, format!("{group:?}"))).collect();
    let roles: BTreeMap<_, _> = rules.roles.iter().map(|(name, role)| (name, format!("{role:?}"))).collect();
    let leases: BTreeMap<_, _> = rules.providers.iter().map(|(name, rules)| (name, rules.lease)).collect();
    let (gates, sync) = (&rules.gates, &rules.sync);
    format!(
        "{leases:?} {gates:?} {sync:?} {public_url:?} {listen:?} {app:?} {admin:?} {console:?} {api_clients:?} {relay:?} {bearer:?} {assertion:?} {receivers:?} {store:?} {ready:?} {secrets:?} \
         {log:?} {headers:?} {limits:?} {sessions:?} {providers:?} {groups:?} {roles:?} {:?}",
        rules.mappings()
    )
}

#[test]
fn the_files_that_we_ship_load_as_they_are() {
    for file in ["config/minimal.toml", "config/example.toml"] {
        let config = Config::load(&in_repository(file), &|_| None, NOW).unwrap_or_else(|faults| panic!("{faults}"));
        assert_eq!(config.warnings.len(), 1, "only the missing audit key: {:?}", config.warnings);
    }
}

#[test]
fn the_smallest_configuration_is_all_defaults() {
    let text = std::fs::read_to_string(in_repository("config/minimal.toml")).unwrap();
    let config = load("minimal.toml", &text).unwrap();
    assert_eq!(config.listen.address.to_string(), "127.0.0.1:8080");
    assert!(config.listen.trusted_proxies.is_empty(), "nobody is trusted unsaid");
    assert!(config.admin.address.ip().is_loopback());
    let [provider] = config.providers.as_slice() else { panic!("one provider") };
    assert_eq!(provider.provider.user.namespace.as_str(), "okta");
    assert_eq!(config.rules.mappings().len(), 1);
    assert_eq!(config.rules.mappings()[0].activity, Activity::Active);
}

#[test]
fn a_file_that_cannot_be_read_is_a_fault() {
    let faults = Config::load(Path::new("no/such/file.toml"), &|_| None, NOW).unwrap_err();
    assert_eq!(faults.to_string(), "no/such/file.toml: cannot be read: no such file\n1 fault found");
}

#[test]
fn every_bad_configuration_says_what_is_wrong() {
    let directory = in_repository("fixtures/config-bad");
    let mut cases: Vec<PathBuf> = std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    cases.sort();
    assert!(cases.len() >= 25);
    let mut wrong = Vec::new();
    for case in cases {
        let text = std::fs::read_to_string(&case).unwrap();
        let name = case.file_name().unwrap().to_str().unwrap();
        let found = match load(name, &text) {
            Ok(_) => panic!("{name} has no fault"),
            Err(faults) => format!("{faults}\n"),
        };
        assert!(!found.contains("hunter2"), "{name} repeats a secret: {found}");
        let expected = case.with_extension("expected");
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&expected, &found).unwrap();
        } else if std::fs::read_to_string(&expected).unwrap_or_default() != found {
            wrong.push(format!("{name} (BLESS=1 accepts it):\n{found}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn faults_have_a_form_for_programs() {
    let text = std::fs::read_to_string(in_repository("config/minimal.toml")).unwrap();
    let faults = load("config.toml", &text.replace("oidc-form-post", "oidc-from-post")).unwrap_err();
    let expected = serde_json::json!({ "faults": [{
        "file": "config.toml",
        "line": 9,
        "column": 13,
        "key": "provider.mode",
        "message": "found `oidc-from-post`; expected `saml-post`, `oidc-form-post`, `token-relay`, `bearer` or `relying-party`",
        "nearest": "oidc-form-post",
    }] });
    assert_eq!(serde_json::to_value(&faults).unwrap(), expected);
}

#[test]
fn line_ends_and_a_byte_order_mark_of_windows_change_nothing() {
    let text = std::fs::read_to_string(in_repository("config/example.toml")).unwrap();
    let windows = format!("\u{feff}{}", text.replace('\n', "\r\n"));
    assert_eq!(
        spelled_out(&load("config/example.toml", &text).unwrap()),
        spelled_out(&load("config/example.toml", &windows).unwrap())
    );
}

#[test]
fn a_mapping_is_active_where_stages_meet() {
    let example = std::fs::read_to_string(in_repository("config/example.toml")).unwrap();
    let activities = |text: &str| -> Vec<Activity> {
        let config = load("example.toml", text).unwrap();
        config.rules.mappings().iter().take(3).map(|mapping| mapping.activity).collect()
    };
    use Activity::{Active, Disabled, Inactive};
    assert_eq!(activities(&example), [Active, Active, Active]);
    let disabled = example.replace("enabled   = true", "enabled   = false");
    assert_eq!(activities(&disabled), [Active, Disabled, Active]);
    // A role belongs to every stage, so only the mapping to a group of another stage sleeps.
    let elsewhere = example.replace("stages              = [\"production\"]", "stages = [\"test\"]");
    assert_eq!(activities(&elsewhere), [Inactive, Active, Active]);
}

#[test]
fn an_operator_is_warned_of_certificates_near_their_end() {
    let text = std::fs::read_to_string(in_repository("config/example.toml")).unwrap();
    let at = |now: Timestamp| {
        let file = in_repository("config/example.toml");
        let around = Surroundings { file: &file, read: &read_made, environment: &variable, now };
        Config::from_text(&text, &around).unwrap().warnings.join("\n")
    };
    assert!(!at(NOW).contains("certificate"));
    let century = std::time::Duration::from_secs(101 * 366 * 86_400);
    assert!(
        at(NOW.plus(century)).contains("a certificate in `adfs-metadata.xml` expired at 2"),
        "{}",
        at(NOW.plus(century))
    );
}

/// What becomes of a configuration when one value of the example is replaced.
enum Effect {
    /// It means something else.
    Changes,
    /// It is refused, for this reason.
    Fault(&'static str),
}

use Effect::{Changes, Fault};

/// Another value for every key of the example, commented-out ones included: a key without effect is a promise broken
/// unseen (CVE-2021-21411). Entries of lists are numbered.
const OTHER_VALUES: &[(&str, &str, Effect)] = &[
    ("public_url", r#""https://other.example.com""#, Changes),
    ("own_path", r#""/login/""#, Fault("expected a path of ours such as `/login/auth`")),
    ("identity", r#""callback""#, Fault("applies only with `identity = \"session\"`")),
    ("app_session_cookie", r#""JSESSIONID""#, Changes),
    ("app_session_renewal", r#""follow""#, Changes),
    ("logout_paths", r#""/signin-oidc""#, Fault("is a `callback` too")),
    ("listen.address", r#""127.0.0.1:8081""#, Changes),
    ("listen.tls_certificate", r#""certificate.pem""#, Fault("`tls_key` is missing")),
    ("listen.tls_key", r#""key.pem""#, Fault("`tls_certificate` is missing")),
    ("listen.trusted_proxies", r#"["10.0.0.0/8"]"#, Changes),
    ("listen.proxy_protocol", "true", Changes),
    ("listen.max_connections", "10001", Changes),
    ("listen.header_timeout", r#""16s""#, Changes),
    ("listen.idle_timeout", r#""76s""#, Changes),
    ("listen.drain_timeout", r#""26s""#, Changes),
    ("app.url", r#""http://127.0.0.1:3001""#, Changes),
    ("app.protocol", r#""http2""#, Changes),
    ("app.start_page", r#""/home""#, Changes),
    ("app.connect_timeout", r#""4s""#, Changes),
    ("app.response_timeout", r#""61s""#, Changes),
    ("app.stream_timeout", r#""2h""#, Changes),
    ("app.idle_connections", "257", Changes),
    ("app.idle_timeout", r#""2s""#, Changes),
    ("app.ca_file", r#""certificate.pem""#, Fault("expected an https `url`")),
    ("admin.address", r#""127.0.0.1:9902""#, Changes),
    ("admin.allow_remote", "true", Changes),
    ("admin.rate_limit", "601", Changes),
    ("admin.public_url", r#""https://other.example.com""#, Changes),
    ("admin.hosts", r#"["other.internal"]"#, Changes),
    ("admin.tls_certificate", r#""certificate.pem""#, Fault("`tls_key` is missing")),
    ("admin.tls_key", r#""key.pem""#, Fault("`tls_certificate` is missing")),
    ("console.enabled", "true", Changes),
    ("console.provider", r#""entra""#, Fault("expected one in mode `relying-party`")),
    ("console.read_role", r#""editor""#, Fault("is not privileged")),
    ("console.write_role", r#""admin""#, Fault("needs `provider`")),
    ("api_client1.name", r#""ansible""#, Changes),
    ("api_client1.secret_hash", r#""5e884898da28047151d0e56f8dc6292773603d0d6aabbd62a11ef721d1542d80""#, Changes),
    ("api_client1.secret_file", r#""audit.key""#, Fault("expected one of them")),
    ("api_client1.secret_env", r#""LOGINSYNC_API_SECRET""#, Fault("environment variable not set")),
    ("api_client1.scopes", r#"["read"]"#, Changes),
    ("api_client1.faces", r#"["odc"]"#, Changes),
    ("webhook1.name", r#""other""#, Changes),
    ("webhook1.url", r#""https://app.internal/other""#, Changes),
    ("webhook1.secret_file", r#""webhook.secret""#, Changes),
    ("webhook1.secret_env", r#""LOGINSYNC_WEBHOOK_SECRET""#, Changes),
    ("webhook1.events", r#"["user.erased"]"#, Changes),
    ("webhook1.providers", r#"["entra"]"#, Changes),
    ("webhook1.groups", r#"["Marketing"]"#, Changes),
    ("webhook1.roles", r#"[]"#, Changes),
    ("webhook1.ca_file", r#""certificate.pem""#, Changes),
    ("webhook1.timeout", r#""2s""#, Changes),
    ("webhook1.deliver", r#""before-entry""#, Changes),
    ("webhook1.entry_timeout", r#""3s""#, Fault("applies only with `deliver")),
    ("webhook1.when_unconfirmed", r#""enter""#, Fault("applies only with `deliver")),
    ("scim1.name", r#""other""#, Changes),
    ("scim1.url", r#""https://app.internal/other""#, Changes),
    ("scim1.token_file", r#""webhook.secret""#, Changes),
    ("scim1.token_env", r#""LOGINSYNC_SCIM_TOKEN""#, Fault("is set too")),
    ("scim1.token_endpoint", r#""https://login.example.com/token""#, Fault("is set too")),
    ("scim1.client_id", r#""loginsync""#, Fault("applies only with `token_endpoint`")),
    ("scim1.client_secret_file", r#""scim.token""#, Fault("applies only with `token_endpoint`")),
    ("scim1.client_secret_env", r#""LOGINSYNC_SCIM_TOKEN""#, Fault("applies only with `token_endpoint`")),
    ("scim1.client_auth", r#""post""#, Fault("applies only with `token_endpoint`")),
    ("scim1.scopes", r#"["scim"]"#, Fault("applies only with `token_endpoint`")),
    ("scim1.user_name", r#""email""#, Changes),
    ("scim1.users", r#""match""#, Changes),
    ("scim1.groups", r#""all""#, Changes),
    ("scim1.create_groups", "true", Changes),
    ("scim1.authoritative", "true", Changes),
    ("scim1.providers", r#"["entra"]"#, Changes),
    ("scim1.ca_file", r#""certificate.pem""#, Changes),
    ("scim1.timeout", r#""2s""#, Changes),
    ("scim1.deliver", r#""before-entry""#, Changes),
    ("scim1.entry_timeout", r#""3s""#, Fault("applies only with `deliver")),
    ("scim1.when_unconfirmed", r#""enter""#, Fault("applies only with `deliver")),
    ("relay.address", r#""127.0.0.1:8091""#, Changes),
    ("relay.allow_remote", "true", Changes),
    ("relay.tls_certificate", r#""certificate.pem""#, Fault("`tls_key` is missing")),
    ("relay.tls_key", r#""key.pem""#, Fault("`tls_certificate` is missing")),
    ("relay.url", r#""http://sidecar:8090""#, Changes),
    ("relay.request_body", r#""32KiB""#, Changes),
    ("relay.reply_body", r#""2MiB""#, Changes),
    ("relay.timeout", r#""21s""#, Changes),
    ("relay.max_connections", "999", Changes),
    ("assertion.audience", r#""https://other.example.com""#, Changes),
    ("assertion.lifetime", r#""61s""#, Changes),
    ("assertion.key_file", r#""key.pem""#, Changes),
    ("bearer.cache_age", r#""31s""#, Changes),
    ("bearer.cache_entries", "9999", Changes),
    ("bearer.form", "true", Changes),
    ("bearer.machines", "false", Changes),
    ("bearer.cookies", r#"["token"]"#, Changes),
    ("store.path", r#""other.db""#, Changes),
    ("store.synchronous", r#""normal""#, Changes),
    ("store.timeout", r#""3s""#, Changes),
    ("store.url", r#""postgres://loginsync@db.example.com/loginsync""#, Fault("`url` is set too")),
    ("store.password_file", r#""audit.key""#, Fault("applies only with `store.url`")),
    ("store.password_env", r#""NO_SUCH_PASSWORD""#, Fault("environment variable not set")),
    ("store.key_file", r#""cookie.keys""#, Fault("applies only with `store.url`")),
    ("store.key_env", r#""NO_SUCH_KEY""#, Fault("environment variable not set")),
    ("store.connections", "9", Fault("applies only with `store.url`")),
    ("store.ca_file", r#""certificate.pem""#, Fault("applies only with `store.url`")),
    ("store.tls_certificate", r#""certificate.pem""#, Fault("`tls_key` is missing")),
    ("store.tls_key", r#""key.pem""#, Fault("`tls_certificate` is missing")),
    ("audit.key_file", r#""audit.key""#, Changes),
    ("audit.key_env", r#""LOGINSYNC_AUDIT_KEY""#, Changes),
    ("cookies.keys_file", r#""cookie.keys""#, Changes),
    ("cookies.keys_env", r#""LOGINSYNC_COOKIE_KEYS""#, Changes),
    ("session.idle", r#""2h""#, Changes),
    ("session.absolute", r#""13h""#, Changes),
    ("session.cache", r#""2s""#, Changes),
    ("session.most_per_user", "21", Changes),
    ("session.same_site", r#""strict""#, Changes),
    ("session.cookie_domain", r#""app.example.com""#, Fault("names none that needs it")),
    ("session.renew", r#""15m""#, Fault("must not lie in the same store")),
    ("access.default", r#""public""#, Changes),
    ("egress.proxy", r#""http://proxy.example.com:3128""#, Changes),
    ("egress.proxy_env", r#""NO_SUCH_PROXY""#, Fault("environment variable not set")),
    ("egress.no_proxy", r#"[".internal.example"]"#, Fault("no proxy is set")),
    ("egress.no_proxy_env", r#""NO_SUCH_LIST""#, Fault("environment variable not set")),
    ("path1.prefix", r#""/static""#, Changes),
    ("path1.access", r#""api""#, Changes),
    ("path1.hosts", r#"["wiki.example.com"]"#, Fault("needs `forward_auth.hosts`")),
    ("path2.prefix", r#""/rest""#, Changes),
    ("path2.methods", r#"["GET"]"#, Changes),
    ("path2.access", r#""api""#, Changes),
    ("path3.prefix", r#""/hooks""#, Changes),
    ("path3.elsewhere", r#""refuse""#, Changes),
    ("forward_auth.path", r#""/.loginsync/check""#, Changes),
    ("forward_auth.gateway", r#""envoy""#, Changes),
    ("forward_auth.hosts", r#"["ci.example.com"]"#, Fault("needs `session.cookie_domain`")),
    ("ready.store", r#""serve""#, Changes),
    ("log.format", r#""text""#, Changes),
    ("log.level", r#""debug""#, Changes),
    ("headers.preset", r#""authelia""#, Changes),
    ("headers.delimiter", r#""|""#, Changes),
    ("headers.no_groups", r#""none""#, Changes),
    ("headers.max_bytes", r#""4KiB""#, Changes),
    ("headers.allow_underscores", r#"["x_plan"]"#, Changes),
    ("headers.trust", r#"["X-Real-IP"]"#, Changes),
    ("headers.drop_cookies", r#"["session_P*"]"#, Changes),
    ("limits.claim_name", "1023", Changes),
    ("limits.claim_value", "1023", Changes),
    ("limits.delimiter", "2", Changes),
    ("limits.claim_values", "9999", Changes),
    ("limits.claim_bytes", r#""2MiB""#, Changes),
    ("limits.callback_body", r#""2MiB""#, Changes),
    ("limits.held_bodies", r#""1MiB""#, Fault("16777216")),
    ("limits.saml_document", r#""128KiB""#, Changes),
    ("limits.mappings", "2", Fault("`limits.mappings` sets this")),
    ("limits.login_timeout", r#""11s""#, Changes),
    ("guard.elsewhere", r#""pass""#, Changes),
    ("provider1.name", r#""entra2""#, Fault("provider `entra` is not declared")),
    ("provider1.preset", r#""keycloak""#, Changes),
    ("provider1.mode", r#""saml-post""#, Fault("belongs to mode `oidc-form-post`")),
    ("provider1.issuer", r#""https://idp.example.com""#, Changes),
    ("provider1.issuer_aliases", r#"["https://login.example.com"]"#, Changes),
    ("provider1.client_id", r#""other""#, Changes),
    ("provider1.callback", r#"["/a", "/b"]"#, Changes),
    ("provider1.trusted_audiences", r#"["another"]"#, Changes),
    ("provider1.authorized_parties", r#"["another"]"#, Changes),
    ("provider1.algorithms", r#"["ES256"]"#, Changes),
    ("provider1.allow_http", "true", Changes),
    ("provider1.jwks_url", r#""https://idp.example.com/keys""#, Fault("`jwks_url` does not say where")),
    ("provider1.jwks_file", r#""jwks.json""#, Fault("`jwks_file` does not say where")),
    ("provider1.authorization_endpoint", r#""https://idp.example.com/authorize""#, Changes),
    ("provider1.ca_file", r#""certificate.pem""#, Changes),
    ("provider1.refresh", r#""2h""#, Changes),
    ("provider1.max_stale", r#""48h""#, Changes),
    ("provider1.namespace", r#""people""#, Changes),
    ("provider1.email_trusted", "true", Changes),
    ("provider1.user_claim", r#""oid""#, Changes),
    ("provider1.user_fold", r#""case""#, Changes),
    ("provider1.user_take", r#""first""#, Fault("applies only with a `user_claim` that may have several values")),
    ("provider1.email_claim", r#""mail""#, Changes),
    ("provider1.name_claim", r#""name""#, Changes),
    ("provider1.leeway", r#""30s""#, Changes),
    ("provider1.max_age", r#""5m""#, Changes),
    ("provider1.binding", r#""observe""#, Changes),
    ("provider1.login_paths", r#"["/login"]"#, Changes),
    ("provider1.stages", r#"["production"]"#, Changes),
    ("provider1.strict", "true", Changes),
    ("provider1.lease", r#""30d""#, Changes),
    (
        "provider1.overage",
        r#"{ tenant = "4a0e2c1f-0c3b-4b7c-9a51-8f1f3c1f6a10", credential_env = "LOGINSYNC_AUDIT_KEY" }"#,
        Changes,
    ),
    ("provider1.claims.groups.name", r#""roles""#, Changes),
    ("provider1.claims.groups.format", r#""json""#, Changes),
    ("provider1.claims.groups.delimiter", r#"";""#, Changes),
    ("provider1.claims.groups.when_missing", r#""keep""#, Changes),
    ("provider1.claims.groups.dn", r#""first_rdn""#, Changes),
    ("provider1.claims.groups.strip_prefix", r#""/""#, Changes),
    ("provider1.claims.groups.observe", "true", Changes),
    ("provider1.claims.groups.take", r#""union""#, Changes),
    ("provider1.claims.groups.from", r#"["userinfo"]"#, Fault("this provider's mode brings nothing else")),
    ("provider2.name", r#""adfs2""#, Fault("provider `adfs` is not declared")),
    ("provider2.mode", r#""oidc-form-post""#, Fault("belongs to mode `saml-post`")),
    ("provider2.issuer", r#""urn:other""#, Fault("it describes no entity `urn:other`")),
    ("provider2.audience", r#""urn:app""#, Changes),
    ("provider2.callback", r#""/acs""#, Changes),
    ("provider2.metadata_url", r#""https://adfs.example.com/metadata""#, Fault("expected exactly one of")),
    ("provider2.metadata_file", r#""other-metadata.xml""#, Fault("is not metadata of this issuer")),
    ("provider2.certificate_files", r#"["certificate.pem"]"#, Fault("expected exactly one of")),
    ("provider2.sso_url", r#""https://adfs.example.com/ls""#, Changes),
    ("provider2.decryption_key_files", r#"["decryption-key.pem"]"#, Changes),
    ("provider2.allow_cbc", "true", Changes),
    ("provider2.friendly_names", "false", Changes),
    ("provider2.allow_idp_initiated", "true", Changes),
    ("provider2.user_claim", r#""employee""#, Changes),
    ("provider2.email_claim", r#""mail""#, Changes),
    ("provider2.stages", r#"["test"]"#, Changes),
    ("provider2.claims.department.name", r#""department""#, Changes),
    ("provider2.claims.department.delimiter", r#""&""#, Fault("holds claim `department`'s delimiter")),
    ("provider3.name", r#""keycloak2""#, Changes),
    ("provider3.mode", r#""oidc-form-post""#, Fault("expected `id_token` alone")),
    ("provider3.issuer", r#""https://keycloak.example.com/realms/other""#, Changes),
    ("provider3.client_id", r#""other""#, Changes),
    ("provider3.callback", r#""/signin-oidc""#, Fault("an address of its own for mode `token-relay`")),
    ("provider3.token_endpoint", r#""https://keycloak.example.com/token""#, Changes),
    ("provider3.userinfo_endpoint", r#""https://keycloak.example.com/userinfo""#, Changes),
    ("provider3.revocation_endpoint", r#""https://keycloak.example.com/revoke""#, Changes),
    ("provider3.client_certificate", r#""certificate.pem""#, Fault("`client_key` is missing")),
    ("provider3.client_key", r#""key.pem""#, Fault("`client_certificate` is missing")),
    ("provider3.claims.roles.name", r#""/groups""#, Changes),
    ("provider4.name", r#""gateway2""#, Changes),
    ("provider4.mode", r#""token-relay""#, Fault("belongs to mode `bearer`")),
    ("provider4.issuer", r#""https://login.example.com""#, Changes),
    ("provider4.audience", r#""other""#, Changes),
    ("provider4.header", r#""cf-access-jwt-assertion""#, Changes),
    ("provider4.signer", r#""arn:aws:x""#, Fault("belongs to header `x-amzn-oidc-data`")),
    ("provider4.key_url", r#""https://keys.example.com""#, Fault("belongs to header `x-amzn-oidc-data`")),
    ("provider4.claims.groups.name", r#""/roles""#, Changes),
    ("provider5.name", r#""staff2""#, Changes),
    ("provider5.mode", r#""token-relay""#, Fault("belongs to mode `relying-party`")),
    ("provider5.issuer", r#""https://keycloak.example.com/realms/other""#, Changes),
    ("provider5.client_id", r#""other""#, Changes),
    ("provider5.client_auth", r#""basic""#, Fault("`client_secret_env`; a public client says")),
    ("provider5.client_secret_file", r#""audit.key""#, Fault("is not used by this `client_auth`")),
    ("provider5.client_secret_env", r#""AUDIT_KEY""#, Fault("is not used by this `client_auth`")),
    (
        "provider5.client_key_file",
        r#""decryption-key.pem""#,
        Fault("is used by `client_auth = \"private-key-jwt\"` alone"),
    ),
    (
        "provider5.client_assertion_audience",
        r#""token-endpoint""#,
        Fault("is used by `client_auth = \"private-key-jwt\"` alone"),
    ),
    ("provider5.client_key_id", r#""k""#, Fault("is used by `client_auth = \"private-key-jwt\"` alone")),
    ("provider5.scopes", r#"["groups"]"#, Changes),
    ("provider5.authorization_parameters", r#"{ prompt = "login" }"#, Changes),
    ("provider5.forward_login_hint", "true", Changes),
    ("provider5.frontchannel_logout", "true", Changes),
    ("provider5.response_mode", r#""form_post""#, Changes),
    ("provider5.end_session_endpoint", r#""https://keycloak.example.com/logout""#, Changes),
    ("provider5.end_session_return", r#""id_token_hint""#, Fault("`returnTo` (Auth0)")),
    ("provider5.client_certificate", r#""certificate.pem""#, Fault("`client_key` is missing")),
    ("provider5.client_key", r#""key.pem""#, Fault("`client_certificate` is missing")),
    ("provider5.title", r#""Staff""#, Changes),
    ("provider6.name", r#""partner2""#, Changes),
    ("provider6.mode", r#""saml-post""#, Fault("missing in `provider`; expected for instance callback")),
    ("provider6.issuer", r#""https://other.example.com""#, Fault("describes no entity")),
    ("provider6.audience", r#""x""#, Changes),
    ("provider6.metadata_file", r#""other-metadata.xml""#, Fault("describes no entity")),
    ("provider6.sp_key_file", r#""decryption-key.pem""#, Fault("`sp_certificate_file` is missing")),
    ("provider6.sp_certificate_file", r#""certificate.pem""#, Fault("`sp_key_file` is missing")),
    ("provider3.claims.roles.from", r#"["userinfo"]"#, Changes),
    ("role1.name", r#""writer""#, Fault("role `editor` is not declared")),
    ("role2.name", r#""root""#, Fault("role `admin` is not declared")),
    ("role2.protected", "false", Changes),
    ("role2.privileged", "true", Changes),
    ("role2.brake", "false", Changes),
    ("group1.name", r#""Sales""#, Fault("group `Marketing` is not declared")),
    ("group1.roles", "[]", Changes),
    ("group1.stages", r#"["test"]"#, Changes),
    ("group2.name", r#""Admins""#, Fault("group `Administrators` is not declared")),
    ("group2.roles", "[]", Changes),
    ("group2.protected", "false", Changes),
    ("group2.privileged", "true", Changes),
    ("group2.brake", "false", Changes),
    ("group3.name", r#""All""#, Fault("group `Everyone` is not declared")),
    ("mapping1.provider", r#""entra""#, Fault("claim `department` is not declared under provider `entra`")),
    ("mapping1.claim", r#""groups""#, Fault("claim `groups` is not declared under provider `adfs`")),
    ("mapping1.value", r#""Sales""#, Changes),
    ("mapping1.group", r#""Administrators""#, Changes),
    ("mapping2.name", r#""another name""#, Changes),
    ("mapping2.provider", r#""adfs""#, Fault("claim `groups` is not declared under provider `adfs`")),
    ("mapping2.claim", r#""roles""#, Fault("claim `roles` is not declared under provider `entra`")),
    ("mapping2.value", r#""other""#, Changes),
    ("mapping2.group", r#""Marketing""#, Changes),
    ("mapping2.enabled", "false", Changes),
    ("mapping3.provider", r#""entra""#, Fault("claim `department` is not declared under provider `entra`")),
    ("mapping3.claim", r#""groups""#, Fault("claim `groups` is not declared under provider `adfs`")),
    ("mapping3.value", r#""Design""#, Changes),
    ("mapping3.delimiter", r#""""#, Changes),
    ("mapping3.role", r#""admin""#, Changes),
    ("mapping3.until", "2030-01-01T00:00:00Z", Changes),
    ("mapping4.name", r#""another""#, Changes),
    ("mapping4.match", r#""any""#, Changes),
    ("mapping4.when", r#"[{ claim = "department", is = "x" }]"#, Fault("no `regex` of this mapping captures `team`")),
    ("mapping4.then", r#"[{ add_role = "editor" }]"#, Changes),
    ("mapping4.allow", r#"{ team = ["Administrators"] }"#, Changes),
    ("mapping5.name", r#""all""#, Changes),
    ("mapping5.always", "false", Fault("found false; expected true, or no such key")),
    ("mapping5.group", r#""Marketing""#, Changes),
    ("default1.provider", r#""entra""#, Fault("claim `department` is not declared under provider `entra`")),
    ("default1.claim", r#""groups""#, Fault("claim `groups` is not declared under provider `adfs`")),
    ("default1.role", r#""admin""#, Changes),
    ("gate1.name", r#""another""#, Changes),
    ("gate1.require", r#"["everyone"]"#, Changes),
    ("gate1.message", r#""No.""#, Changes),
    ("gate2.name", r#""people of this app""#, Fault("a gate before this one has this name")),
    ("gate2.provider", r#""entra""#, Fault("claim `department` is not declared under provider `entra`")),
    ("gate2.match", r#""any""#, Changes),
    ("gate2.deny", r#"[{ claim = "department", is = "Visitors" }]"#, Changes),
    ("sync.mode", r#""shadow""#, Changes),
    ("sync.apply", r#""now""#, Changes),
    ("sync.record_claims", r#""declared""#, Changes),
    ("sync.record_claims", "3", Fault("expected \"mapped\", \"declared\" or false")),
    ("brake.window", r#""2h""#, Changes),
    ("brake.minimum", "6", Changes),
    ("brake.share", r#""30%""#, Changes),
];

/// Where a key of the example is written, and whether in a comment.
struct Written {
    key: String,
    line: usize,
    commented: bool,
}

/// Every key of a text, under its section; entries of lists are numbered.
fn keys_of(text: &str) -> Vec<Written> {
    let mut counts: HashMap<String, usize> = HashMap::new();
    let (mut section, mut list) = (String::new(), String::new());
    let mut keys = Vec::new();
    for (line, written) in text.lines().enumerate() {
        if let Some(header) = written.strip_prefix("[[").and_then(|header| header.split("]]").next()) {
            let count = counts.entry(header.to_owned()).or_default();
            *count += 1;
            list = format!("{header}{count}");
            section = list.clone();
            continue;
        }
        if let Some(header) = written.strip_prefix('[').and_then(|header| header.split(']').next()) {
            let below = header.split_once('.').filter(|(first, _)| list.starts_with(first)).map(|(_, below)| below);
            section = below.map_or_else(|| header.to_owned(), |below| format!("{list}.{below}"));
            continue;
        }
        let bare = written.strip_prefix("# ").unwrap_or(written);
        let Some((key, _)) = bare.split_once('=') else { continue };
        let key = key.trim();
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') {
            continue;
        }
        let key = if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") };
        keys.push(Written { key, line, commented: bare != written });
    }
    keys
}

fn with_line(text: &str, line: usize, replacement: &str) -> String {
    let mut lines: Vec<&str> = text.lines().collect();
    lines[line] = replacement;
    lines.join("\n")
}

#[test]
fn every_key_of_the_example_has_an_effect() {
    let example = std::fs::read_to_string(in_repository("config/example.toml")).unwrap();
    let plain = spelled_out(&load("example.toml", &example).unwrap());
    assert_eq!(plain, spelled_out(&load("example.toml", &example).unwrap()), "the comparison itself is stable");
    let written = keys_of(&example);
    let known: BTreeSet<&str> = OTHER_VALUES.iter().map(|(key, ..)| *key).collect();
    let shown: BTreeSet<&str> = written.iter().map(|written| written.key.as_str()).collect();
    assert_eq!(known, shown, "every key of the example has a row here, and no other key");
    for Written { key, line, .. } in &written {
        let (_, value, effect) = OTHER_VALUES.iter().find(|(known, ..)| known == key).unwrap();
        let name = key.rsplit('.').next().unwrap();
        let changed = load("example.toml", &with_line(&example, *line, &format!("{name} = {value}")));
        match (effect, changed) {
            (Changes, Ok(config)) => assert_ne!(spelled_out(&config), plain, "{key} = {value} has no effect"),
            (Changes, Err(faults)) => panic!("{key} = {value} is refused: {faults}"),
            (Fault(_), Ok(_)) => panic!("{key} = {value} is taken"),
            (Fault(reason), Err(faults)) => assert!(faults.to_string().contains(reason), "{key} = {value}: {faults}"),
        }
    }
}

/// The example says that it shows defaults, so leaving one out must change nothing.
#[test]
fn what_the_example_calls_a_default_is_one() {
    let example = std::fs::read_to_string(in_repository("config/example.toml")).unwrap();
    let plain = spelled_out(&load("example.toml", &example).unwrap());
    let given = [
        "logout_paths",
        "methods",
        "audience",
        "title",
        "email_claim",
        "stages",
        "roles",
        "protected",
        "name",
        "delimiter",
        "value",
        "user_claim",
        "provider",
        "role",
        "group",
    ];
    for Written { key, line, commented } in keys_of(&example) {
        let name = key.rsplit('.').next().unwrap();
        let Ok(config) = load("example.toml", &with_line(&example, line, "")) else { continue };
        if commented || given.contains(&name) {
            continue;
        }
        assert_eq!(spelled_out(&config), plain, "{key} is not the default");
    }
}

const STORE_PATH: &str = "path        = \"loginsync.db\"";

/// Keys whose effect in the example hides behind a fault of another key.
#[test]
fn keys_that_need_another_key_have_an_effect_beside_it() {
    let example = std::fs::read_to_string(in_repository("config/example.toml")).unwrap();
    let arn = "arn:aws:elasticloadbalancing:eu-west-3:123456789012:loadbalancer/app/a/b";
    let endpoint = "authorization_endpoint = \"https://idp.example.com/authorize\"";
    let cases = [
        (
            "[app]",
            "tls_certificate = \"certificate.pem\"\ntls_key = \"key.pem\"\n[app]",
            "certificate: \"certificate.pem\"",
        ),
        (
            "\"http://127.0.0.1:3000\"",
            "\"https://127.0.0.1:3000\"\nca_file = \"certificate.pem\"",
            "ca_file: Some(\"certificate.pem\")",
        ),
        ("\"/signin-oidc\"", "\"/signin-oidc\"\njwks_url = \"https://idp.example.com/keys\"\nAUTH", "JwksUrl("),
        ("\"/signin-oidc\"", "\"/signin-oidc\"\njwks_file = \"jwks.json\"\nAUTH", "JwksFile(\"jwks.json\")"),
        (
            "metadata_file = \"adfs-metadata.xml\"",
            "metadata_url = \"https://adfs.example.com/metadata\"",
            "MetadataUrl(",
        ),
        (
            "metadata_file = \"adfs-metadata.xml\"",
            "certificate_files = [\"certificate.pem\", \"other-certificate.pem\"]\nsso_url = \"https://adfs.example.com/ls\"",
            "Certificates([",
        ),
        ("\"127.0.0.1:9901\"", "\"0.0.0.0:9901\"\n#", "address: 0.0.0.0:9901"),
        (
            "\"127.0.0.1:8090\"",
            "\"127.0.0.1:8090\"\ntls_certificate = \"certificate.pem\"\ntls_key = \"key.pem\"",
            "url: \"https://127.0.0.1:8090\"",
        ),
        ("\"127.0.0.1:8090\"", "\"0.0.0.0:8090\"\n#", "client secrets and tokens pass here"),
        (
            "\"/oauth/callback\"",
            "\"/oauth/callback\"\nclient_certificate = \"certificate.pem\"\nclient_key = \"key.pem\"",
            "identity: Some(TlsFiles { certificate: \"certificate.pem\"",
        ),
        ("\"authorization\"", "\"x-forwarded-access-token\"\n#", "removed unless a trusted hop sends it"),
        ("\"authorization\"", "\"x-goog-iap-jwt-assertion\"\n#", "path: \"/iap/verify/public_key-jwk\""),
        ("\"authorization\"", "\"cf-access-jwt-assertion\"\n#", "/cdn-cgi/access/certs"),
        ("\"authorization\"", "\"x-amzn-oidc-data\"\n#", "any load balancer of the region signs with the same keys"),
        ("\"authorization\"", "\"x-amzn-oidc-data\"\nsigner = \"arn:aws:x\"\n#", "expected the load balancer's ARN"),
        (
            "\"authorization\"",
            "\"x-amzn-oidc-data\"\nsigner = \"ARN\"\n#",
            "public-keys.auth.elb.eu-west-3.amazonaws.com",
        ),
        (
            "\"authorization\"",
            "\"x-amzn-oidc-data\"\nsigner = \"ARN\"\nkey_url = \"https://keys.example.com/of\"\n#",
            "Domain(\"keys.example.com\")",
        ),
        (
            "\"authorization\"",
            "\"x-amzn-oidc-data\"\nsigner = \"ARN\"\njwks_url = \"https://keys.example.com/of\"\n#",
            "a load balancer's keys are not a JWK Set",
        ),
        (
            "\"127.0.0.1:9901\"         # /healthz /readyz /metrics, and the APIs (docs/api.md)\nallow_remote = false",
            "\"0.0.0.0:9901\"\nallow_remote = true",
            "0.0.0.0:9901",
        ),
        (
            "\"after-entry\"",
            "\"before-entry\"\nentry_timeout = \"3s\"\nwhen_unconfirmed = \"enter\"\n#",
            "BeforeEntry { timeout: 3s, when_unconfirmed: Enter }",
        ),
        (
            STORE_PATH,
            "url = \"postgres://it@h/db\"\nkey_file = \"cookie.keys\"\n#",
            "Server(Server { url: Secret(18 bytes)",
        ),
        (
            STORE_PATH,
            "url = \"postgres://it@h/db\"\nkey_file = \"cookie.keys\"\npassword_file = \"audit.key\"\n#",
            "password: File(\"audit.key\")",
        ),
        (STORE_PATH, "url = \"postgres://it@h/db\"\nkey_file = \"cookie.keys\"\nconnections = 9\n#", "connections: 9"),
        (
            STORE_PATH,
            "url = \"postgres://it@h/db\"\nkey_file = \"cookie.keys\"\nca_file = \"certificate.pem\"\n#",
            "ca: Some(\"certificate.pem\")",
        ),
        (
            STORE_PATH,
            "url = \"postgres://it@h/db\"\nkey_file = \"cookie.keys\"\ntls_certificate = \"certificate.pem\"\ntls_key = \"key.pem\"\n#",
            "client: Some(TlsFiles { certificate: \"certificate.pem\"",
        ),
        (
            STORE_PATH,
            "url = \"postgres://it@h/db?sslmode=disable\"\nkey_file = \"cookie.keys\"\nca_file = \"certificate.pem\"\n#",
            "applies only over TLS",
        ),
    ];
    for (written, replacement, shows) in cases {
        assert!(example.contains(written), "{written}");
        let example = match written == STORE_PATH {
            true => example.replacen("synchronous = \"full\"", "#", 1),
            false => example.clone(),
        };
        let mut text = example.replacen(written, &replacement.replace("AUTH", endpoint).replace("ARN", arn), 1);
        if shows.contains("trusted hop") {
            text = text.replacen("trusted_proxies = [\"127.0.0.1\"]", "trusted_proxies = []", 1);
        }
        let found = match load("example.toml", &text) {
            Ok(config) => spelled_out(&config),
            Err(faults) => faults.to_string(),
        };
        assert!(found.contains(shows), "{shows}: {found}");
    }
}

/// A rule that no value leads to is evaluated at every login, so there are few of them.
#[test]
fn too_many_rules_without_a_value_are_a_fault() {
    let minimal = std::fs::read_to_string(in_repository("config/minimal.toml")).unwrap();
    let group = minimal.lines().find_map(|line| line.strip_prefix("group")).unwrap();
    let many = |count: usize| {
        let rules = (0..count).map(|number| {
            format!("[[mapping]]\nname = \"rule {number}\"\nwhen = [{{ claim = \"groups\", absent = true }}]\ngroup{group}\n")
        });
        load("many.toml", &format!("{minimal}\n{}", rules.collect::<String>()))
    };
    assert!(many(1_000).is_ok());
    let faults = many(1_001).unwrap_err().to_string();
    assert!(faults.contains("mapping: 1001 mappings have no positive condition on a value"), "{faults}");
}

/// The patterns on one claim are one automaton, which every login with that claim walks: it has a size.
#[test]
fn patterns_that_are_too_large_together_are_a_fault() {
    let minimal = std::fs::read_to_string(in_repository("config/minimal.toml")).unwrap();
    let group = minimal.lines().find_map(|line| line.strip_prefix("group")).unwrap();
    let many = |count: usize, letters: usize| {
        let rules = (0..count).map(|number| {
            format!(
                "[[mapping]]\nname = \"rule {number}\"\n\
                 when = [{{ claim = \"groups\", regex = '^{number}\\pL{{{letters}}}$' }}]\ngroup{group}\n"
            )
        });
        load("many.toml", &format!("{minimal}\n{}", rules.collect::<String>()))
    };
    // The largest that is allowed by itself, which is more than half a megabyte.
    let letters = (1..60).rev().find(|letters| many(1, *letters).is_ok()).unwrap();
    let alone = many(1, letters + 1).unwrap_err().to_string();
    assert!(alone.contains("compiles to more than 1048576 bytes"), "{alone}");
    let faults = many(130, letters).unwrap_err().to_string();
    assert!(
        faults.contains("mapping: the patterns on claim `groups` take more than 67108864 bytes together"),
        "{faults}"
    );
}

/// What is no configuration at all.
#[test]
fn a_file_that_is_no_text_or_has_no_end_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("loginsync.toml");
    std::fs::write(&path, b"public_url = \"caf\xe9\"\n").unwrap();
    let faults = Config::load(&path, &|_| None, NOW).unwrap_err().to_string();
    assert!(faults.contains("it is not UTF-8 text"), "{faults}");
    let faults = load("long.toml", &"#".repeat((256 << 20) + 1)).unwrap_err().to_string();
    assert!(faults.contains("has 268435457 bytes; expected at most"), "{faults}");
}

/// What is no fault, and to be known.
#[test]
fn what_passes_in_the_clear_and_a_chain_without_a_key_are_warned_of() {
    let text = "public_url = 'https://app.example.com'\n[app]\nurl = 'http://127.0.0.1:3000'\n\
                [store]\nurl = 'postgres://it@db.example.com/it?sslmode=disable'\nkey_file = 'cookie.keys'\n\
                [relay]\naddress = '192.0.2.1:8090'\nallow_remote = true\nurl = 'http://192.0.2.1:8090'\n\
                [[provider]]\nname = 'p'\nmode = 'token-relay'\nissuer = 'https://p.example.com'\nclient_id = 'app'\n\
                callback = '/callback'\n";
    let warnings = load("warned.toml", text).unwrap_or_else(|faults| panic!("{faults}")).warnings;
    let said = warnings.join("\n");
    assert!(said.contains("the relay at 192.0.2.1:8090 is reached over the network without TLS"), "{said}");
    assert!(said.contains("the database is reached over the network without TLS"), "{said}");
    assert!(said.contains("no audit key: rows are linked by hash alone"), "{said}");
}

/// The reader's own lists of keys, and of operators: the example shows each of the first, the cookbook each of the second.
#[test]
fn every_key_and_every_operator_is_shown() {
    let source = |path: &str| std::fs::read_to_string(in_repository(path)).unwrap();
    let listed = |path: &str, name: &str| -> Vec<String> {
        let text = source(path);
        let list = text.split(&format!("const {name}: ")).nth(1).unwrap().split("];").next().unwrap();
        let words: Vec<String> = list.split('"').skip(1).step_by(2).map(str::to_owned).collect();
        assert!(words.len() > 3, "{name} in {path}: {words:?}");
        words
    };
    let shown: BTreeSet<String> = keys_of(&source("config/example.toml"))
        .into_iter()
        .filter_map(|written| {
            let (section, key) = written.key.split_once('.')?;
            Some(format!("{}.{key}", section.trim_end_matches(|digit: char| digit.is_ascii_digit())))
        })
        .collect();
    let keys = [
        ("src/config/rules.rs", "ROLE_KEYS", "role"),
        ("src/config/rules.rs", "GROUP_KEYS", "group"),
        ("src/config/rules/mappings.rs", "MAPPING_KEYS", "mapping"),
    ];
    for (path, name, section) in keys {
        for key in listed(path, name) {
            assert!(shown.contains(&format!("{section}.{key}")), "`{section}.{key}` is not in the example");
        }
    }
    let cookbook = source("docs/mappings.md");
    for operator in listed("src/config/rules/conditions.rs", "OPERATORS") {
        assert!(cookbook.contains(&format!("{operator} = ")), "the cookbook has no `{operator}`");
    }
}
