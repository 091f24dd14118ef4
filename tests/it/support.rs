//! A proxy with everything real but the provider's keys, between a client and an app that write and record raw bytes.

pub mod app;
pub mod corpus;
pub mod graph;
pub mod idp;
pub mod postgres;
pub mod scim;
pub mod wire;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use loginsync::cli::demo::mint::{KeyKind, MintKey, oidc};
use loginsync::clock::Clock;
use loginsync::config::{Config, Endpoint, Secret, Surroundings, Synchronous};
use loginsync::login::Services;
use loginsync::login::outcome::Outcomes;
use loginsync::pipeline::ids::{Namespace, ProviderName, Subject, Timestamp, UserId};
use loginsync::pipeline::provider::Provider;
use loginsync::pipeline::verify::ProviderKeys;
use loginsync::pipeline::verify::oidc::KeySet;
use loginsync::ports::BoxFuture;
use loginsync::ports::back_channel::http::HttpBackChannel;
use loginsync::ports::directory::Directory;
use loginsync::ports::directory::graph::Graph;
use loginsync::ports::keys::{KeySource, KeysError, Offered, Published};
use loginsync::ports::rules::Rules;
use loginsync::ports::store::Store;
use loginsync::ports::store::sqlite::{Settings, SqliteStore};
use loginsync::serve::counters::Counters;
use loginsync::serve::listen::{self, Drained};
use loginsync::serve::proxy::Site;
use loginsync::serve::tls::Tls;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;

pub const NOW: Timestamp = Timestamp(1_769_860_800_000);
pub const OIDC_ENDPOINT: &str = "https://idp.example/authorize";
pub const SAML_ENDPOINT: &str = "https://saml.example/sso";

/// One client app with an OIDC and a SAML provider.
const CONFIG: &str = r#"
public_url = "PUBLIC"

[listen]
address = "127.0.0.1:0"
LISTEN

[app]
url = "http://APP"
start_page = "/start"
APPSETTINGS

[headers]
PRESET

[limits]
callback_body = "64KiB"

[guard]
elsewhere = "ELSEWHERE"

[[provider]]
name = "idp"
mode = "oidc-form-post"
issuer = "https://idp.example"
client_id = "the-app"
callback = ["/login/callback", "/x/callback"]
jwks_url = "https://idp.example/jwks"
authorization_endpoint = "https://idp.example/authorize"
algorithms = ["EdDSA"]
email_claim = "email"
name_claim = "name"
login_paths = ["/sso"]
BINDING

[provider.claims.groups]

[[provider]]
name = "saml"
mode = "saml-post"
issuer = "https://saml.example"
audience = "https://app.example/saml"
callback = "/saml/acs"
certificate_files = ["fixtures/keys/CERTIFICATE"]
sso_url = "https://saml.example/sso"

[provider.claims.department]

[[role]]
name = "editor"

[[group]]
name = "Staff"
roles = ["editor"]

[[group]]
name = "100%, really"

[[mapping]]
provider = "idp"
claim = "groups"
value = "staff"
group = "Staff"

[[mapping]]
provider = "idp"
claim = "groups"
value = "odd"
group = "100%, really"
"#;

/// What differs from the usual.
#[derive(Clone, Copy)]
pub struct Setting {
    pub public_url: &'static str,
    pub listen: &'static str,
    pub app: &'static str,
    pub headers: &'static str,
    pub elsewhere: &'static str,
    pub binding: &'static str,
    pub tls: bool,
}

impl Default for Setting {
    fn default() -> Self {
        Self {
            public_url: "https://app.example",
            listen: "",
            app: "",
            headers: "",
            elsewhere: "refuse",
            binding: "require",
            tls: false,
        }
    }
}

/// The providers of a configuration, as the rules keep them.
pub fn providers(config: &Config) -> Vec<Arc<Provider>> {
    config.providers.iter().map(|settings| Arc::clone(&settings.provider)).collect()
}

pub struct Proxy {
    pub address: SocketAddr,
    pub store: Arc<Store>,
    pub clock: Clock,
    pub counters: Arc<Counters>,
    pub outcomes: Arc<Outcomes>,
    pub key: MintKey,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<Drained>,
    _folder: tempfile::TempDir,
}

impl Proxy {
    pub async fn start(app: SocketAddr) -> Self {
        Self::with(app, Setting::default()).await
    }

    pub async fn with(app: SocketAddr, setting: Setting) -> Self {
        Self::serving(config(app, setting), setting.tls).await
    }

    pub async fn serving(config: Config, tls: bool) -> Self {
        let key = MintKey::generate(KeyKind::Ed25519).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings { synchronous: Synchronous::Normal, timeout: Duration::from_secs(2), audit_key: None };
        let opened = Arc::new(SqliteStore::open(&folder.path().join("store.db"), settings).unwrap());
        let store = Arc::new(Store::new(Arc::clone(&opened)));
        let clock = Clock::fixed(NOW);
        store.adopt(Arc::clone(&config.rules), NOW).await.unwrap();
        let keys: Arc<dyn KeySource> = Arc::new(Keys::of(&key));
        let outcomes: Arc<Outcomes> = Arc::default();
        let services = Services {
            back_channel: Arc::new(HttpBackChannel::new(&config.providers, Arc::clone(&keys)).unwrap()),
            keys,
            directory: no_directory(),
            store: Arc::clone(&store),
            rules: Arc::new(Rules::new(Arc::clone(&config.rules), crate::support::providers(&config))),
            clock: clock.clone(),
            meters: Arc::default(),
            outcomes: Arc::clone(&outcomes),
            followers: Arc::default(),
            verifiers: Arc::new(Semaphore::new(2)),
        };
        let counters = Arc::new(Counters::default());
        let site =
            Site::new(&config, services, opened, &[Secret::new(vec![7; 32])], None, Arc::clone(&counters)).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let tls = tls.then(|| Arc::new(wire::certificate(folder.path())));
        let running = tokio::spawn(listen::run(listener, Arc::new(ArcSwap::from_pointee(site)), tls, async {
            let _ = stopped.await;
        }));
        Self { address, store, clock, counters, outcomes, key, stop: Some(stop), running, _folder: folder }
    }

    pub fn stop(&mut self) {
        let _ = self.stop.take().unwrap().send(());
    }

    pub async fn drained(self) -> Drained {
        self.running.await.unwrap()
    }

    /// An ID token that is right in every respect but what `change` makes of its claims.
    pub fn token(&self, change: impl FnOnce(&mut Value)) -> String {
        let now = NOW.seconds();
        let mut claims = json!({
            "iss": "https://idp.example", "aud": "the-app", "sub": "alice", "iat": now, "exp": now + 300,
            "nonce": "n-1", "groups": ["staff"], "email": "alice@example.com", "name": "Alice",
        });
        change(&mut claims);
        oidc::id_token(&self.key, "EdDSA", &json!({"alg": "EdDSA", "kid": "k"}), &claims).unwrap()
    }

    pub fn login_form(&self) -> String {
        format!("id_token={}&state=s-1", self.token(|_| {}))
    }

    /// The groups of a user, as the store has them; `None` for one it has never seen.
    pub async fn groups(
        &self,
        subject: &str,
        rules: Arc<loginsync::pipeline::mapping::RuleSet>,
    ) -> Option<Vec<String>> {
        let user = UserId { namespace: Namespace::parse("idp").unwrap(), subject: Subject::parse(subject).unwrap() };
        let view = self.store.user(user, rules, Clock::system().now()).await.unwrap()?;
        Some(view.memberships.into_iter().filter(|held| held.effective).map(|held| held.name).collect())
    }

    /// Whether anything at all was written: no user, no audit row beyond the start's.
    pub async fn has_users(&self) -> bool {
        !self.store.users(None, 10).await.unwrap().is_empty()
    }
}

pub fn config(app: SocketAddr, setting: Setting) -> Config {
    let text = CONFIG
        .replace("PUBLIC", setting.public_url)
        .replace("LISTEN", setting.listen)
        .replace("APPSETTINGS", setting.app)
        .replace("PRESET", setting.headers)
        .replace("ELSEWHERE", setting.elsewhere)
        .replace("BINDING", &format!("binding = \"{}\"", setting.binding))
        .replace("CERTIFICATE", "idp-rsa.certificate.test-only.pem")
        .replace("APP\"", &format!("{app}\""));
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("test.toml");
    let around = Surroundings { file: &file, read: &|path| std::fs::read(path), environment: &|_| None, now: NOW };
    Config::from_text(&text, &around).unwrap_or_else(|faults| panic!("{faults}"))
}

/// The providers' keys, at hand from the start.
struct Keys {
    published: Arc<Published>,
}

impl Keys {
    fn of(key: &MintKey) -> Self {
        let jwks = oidc::jwks(&[oidc::jwk(key, "k").unwrap()]);
        let keys = ProviderKeys::Oidc(KeySet::read(jwks.to_string().as_bytes()).unwrap());
        Self {
            published: Arc::new(Published {
                keys,
                endpoints: vec![OIDC_ENDPOINT.into()],
                offered: Offered::default(),
                complaints: Vec::new(),
                document: None,
                fetched_at: NOW,
            }),
        }
    }
}

impl KeySource for Keys {
    fn current(&self, _: &ProviderName) -> BoxFuture<'_, Result<Arc<Published>, KeysError>> {
        Box::pin(async { Ok(Arc::clone(&self.published)) })
    }

    fn look_again(&self, provider: &ProviderName) -> BoxFuture<'_, Result<Arc<Published>, KeysError>> {
        self.current(provider)
    }

    fn endpoints(&self, provider: &ProviderName) -> Vec<String> {
        let endpoint = if provider.as_str() == "saml" { SAML_ENDPOINT } else { OIDC_ENDPOINT };
        vec![endpoint.into()]
    }

    fn endpoint(&self, _: &ProviderName, _: Endpoint) -> Option<String> {
        None
    }

    fn document(&self, _: &ProviderName) -> Option<Arc<Map<String, Value>>> {
        None
    }

    fn ready(&self, _: &ProviderName) -> bool {
        true
    }
}

/// What a proxy asks whose providers have no directory.
pub fn no_directory() -> Arc<dyn Directory> {
    Arc::new(Graph::new(&[], &Clock::fixed(NOW)).unwrap())
}

#[allow(dead_code, reason = "named by tests that reload a certificate")]
pub type Certificates = Tls;
