//! Rules that change while somebody logs in.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::Method;
use loginsync::cli::demo::mint::{KeyKind, MintKey, oidc};
use loginsync::clock::Clock;
use loginsync::config::{Config, Surroundings, Synchronous};
use loginsync::login::{self, Passed, Reason, Request, Services};
use loginsync::pipeline::capture::CallbackMessage;
use loginsync::pipeline::claims::overage::Person;
use loginsync::pipeline::ids::ProviderName;
use loginsync::pipeline::verify::ProviderKeys;
use loginsync::pipeline::verify::oidc::KeySet;
use loginsync::ports::BoxFuture;
use loginsync::ports::back_channel::http::HttpBackChannel;
use loginsync::ports::directory::{Directory, DirectoryError};
use loginsync::ports::keys::{KeySource, Once, Published};
use loginsync::ports::rules::Rules;
use loginsync::ports::store::Store;
use loginsync::ports::store::sqlite::{Settings, SqliteStore};
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::api::{Office, short};
use crate::attacks::{FORM, LEAVE, claims, form, signed};
use crate::kit::NOW;
use crate::support::graph::FakeGraph;
use crate::support::providers;

/// Hundreds of mappings, one call each by three clients at once, beside people who log in without a pause.
#[tokio::test(flavor = "multi_thread")]
async fn log01_an_import_refuses_no_login() {
    const CLIENTS: usize = 3;
    const EACH: usize = 100;
    let office = Arc::new(Office::with("[admin]\nrate_limit = 1000000\n").await);
    office.post("/api/v1/groups", json!({"name": "Imported"})).await;
    let cookies = office.house.leave(LEAVE).await;

    let mut importing = JoinSet::new();
    for client in 0..CLIENTS {
        let office = Arc::clone(&office);
        importing.spawn(async move {
            for number in 0..EACH {
                office.post("/api/v1/mappings", short(&format!("value-{client}-{number}"), "Imported")).await;
            }
        });
    }
    let imported = Arc::new(AtomicUsize::new(0));
    let mut entering = JoinSet::new();
    for browser in 0..4 {
        let (office, cookies, imported) = (Arc::clone(&office), cookies.clone(), Arc::clone(&imported));
        entering.spawn(async move {
            let mut statuses = Vec::new();
            while imported.load(Ordering::SeqCst) < CLIENTS {
                let mut login = claims(&format!("{browser}-{}", statuses.len()));
                login["sub"] = json!(format!("person-{browser}"));
                login["groups"] = json!(["staff", "value-0-0"]);
                let body = form(&[("id_token", &signed(&login)), ("state", "state-1")]);
                let headers = [("cookie", cookies.as_str()), ("content-type", FORM.1)];
                statuses.push(office.house.send("POST", "/callback", &headers, body.as_bytes()).await.status);
            }
            statuses
        });
    }
    while let Some(done) = importing.join_next().await {
        done.unwrap();
        imported.fetch_add(1, Ordering::SeqCst);
    }
    let statuses: Vec<u16> = entering.join_all().await.concat();
    assert!(statuses.len() > 20, "{} logins beside the import", statuses.len());
    let refused: Vec<&u16> = statuses.iter().filter(|status| **status != 200).collect();
    assert!(refused.is_empty(), "{} of {} were refused: {refused:?}", refused.len(), statuses.len());
    let rules = office.house.rules();
    assert!(rules.mappings().len() >= CLIENTS * EACH, "{}", rules.mappings().len());
    assert_eq!(office.login("after", &["value-2-99"]).await.0, ["Imported"]);
}

/// A directory that counts who asks.
struct Groups {
    asked: AtomicUsize,
    answers: bool,
}

impl Directory for Groups {
    fn groups<'a>(&'a self, _: &'a ProviderName, _: &'a Person) -> BoxFuture<'a, Result<Vec<String>, DirectoryError>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let answer = if self.answers { Ok(vec!["staff".to_owned()]) } else { Err(DirectoryError::Hidden) };
        Box::pin(std::future::ready(answer))
    }
}

const TEXT: &str = r#"
public_url = "https://app.example"

[app]
url = "http://127.0.0.1:1"

[[provider]]
name = "idp"
mode = "oidc-form-post"
issuer = "ISSUER"
client_id = "the-app"
callback = "/callback"
jwks_url = "https://idp.example/jwks"
authorization_endpoint = "https://idp.example/authorize"
algorithms = ["EdDSA"]
binding = "observe"
STRICT
OVERAGE

[provider.claims.groups]

[[group]]
name = "Staff"
"#;

const MAPPING: &str = "\n[[mapping]]\nprovider = \"idp\"\nclaim = \"groups\"\nvalue = \"staff\"\ngroup = \"Staff\"\n";

/// A login that began under rules which read no claim, and ends under ones that read a claim which its token left out.
struct Overtaken {
    services: Services,
    before: Config,
    after: Config,
    key: MintKey,
    _folder: tempfile::TempDir,
    fake: FakeGraph,
    directory: Arc<Groups>,
}

impl Overtaken {
    /// The store knows the rules of afterwards already, and logins do not: what happens during every change of rules.
    async fn new(strict: bool, answers: bool, issuer_after: &str) -> Self {
        let fake = FakeGraph::start().await;
        let text =
            TEXT.replace("STRICT", if strict { "strict = true" } else { "" }).replace("OVERAGE", &fake.table(""));
        let read = |text: &str, epoch: u64| {
            let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/login/rules.toml");
            let around =
                Surroundings { file: &file, read: &|path| std::fs::read(path), environment: &|_| None, now: NOW };
            let mut config = Config::from_text(text, &around).unwrap_or_else(|faults| panic!("{faults}"));
            Arc::get_mut(&mut config.rules).unwrap().epoch = epoch;
            config
        };
        let before = read(&text.replace("ISSUER", "https://idp.example"), 1);
        let after = read(&format!("{}{MAPPING}", text.replace("ISSUER", issuer_after)), 2);
        let key = MintKey::generate(KeyKind::Ed25519).unwrap();
        let jwks = oidc::jwks(&[oidc::jwk(&key, "k").unwrap()]).to_string();
        let published = Published::of(ProviderKeys::Oidc(KeySet::read(jwks.as_bytes()).unwrap()), NOW);
        let keys: Arc<dyn KeySource> = Arc::new(Once(Ok(Arc::new(published))));
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings { synchronous: Synchronous::Normal, timeout: Duration::from_secs(2), audit_key: None };
        let store = SqliteStore::open(&folder.path().join("store.db"), settings).unwrap();
        let store = Arc::new(Store::from(store));
        for config in [&before, &after] {
            store.adopt(Arc::clone(&config.rules), NOW).await.unwrap();
        }
        let directory = Arc::new(Groups { asked: AtomicUsize::new(0), answers });
        let services = Services {
            back_channel: Arc::new(HttpBackChannel::new(&before.providers, Arc::clone(&keys)).unwrap()),
            keys,
            directory: Arc::<Groups>::clone(&directory),
            store,
            rules: Arc::new(Rules::new(Arc::clone(&before.rules), providers(&before))),
            clock: Clock::fixed(NOW),
            meters: Arc::default(),
            outcomes: Arc::default(),
            followers: Arc::default(),
            verifiers: Arc::new(Semaphore::new(1)),
        };
        Self { services, before, after, key, _folder: folder, fake, directory }
    }

    fn form(&self) -> String {
        let now = NOW.seconds();
        let claims = json!({
            "iss": "https://idp.example", "aud": "the-app", "sub": "alice", "iat": now, "exp": now + 300, "jti": "1",
            "_claim_names": {"groups": "src1"}, "_claim_sources": {"src1": {"endpoint": "https://graph.example/x"}},
        });
        let header = json!({"alg": "EdDSA", "kid": "k", "typ": "JWT"});
        form(&[("id_token", &oidc::id_token(&self.key, "EdDSA", &header, &claims).unwrap())])
    }

    /// The groups that the login then has, or why it is refused.
    async fn log_in(&self) -> Result<Vec<String>, Reason> {
        let (services, declared, form) = (self.services.clone(), providers(&self.before), self.form());
        let entering = tokio::spawn(async move {
            let message = CallbackMessage {
                method: &Method::POST,
                query: None,
                content_type: Some(FORM.1),
                encoded: false,
                body: form.as_bytes(),
            };
            let (id, remembered, max_document) = ("a-test".to_owned(), Vec::new(), 1024);
            let timeout = Duration::from_secs(10);
            let request = Request { id, providers: &declared, message, remembered, max_document, timeout };
            login::login(&services, request).await
        });
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(!entering.is_finished(), "it waits for rules that the store accepts");
        assert_eq!(self.directory.asked.load(Ordering::SeqCst), 0, "the rules of before read no groups");
        self.services.rules.replace(Arc::clone(&self.after.rules), providers(&self.after));
        match entering.await.unwrap() {
            Ok(Passed::Login(entered)) => Ok(entered.plan.after.groups.iter().map(ToString::to_string).collect()),
            Ok(Passed::NoLogin) => panic!("it is a login"),
            Err(refused) => Err(refused.reason),
        }
    }
}

/// What the new rules read and nobody has fetched is unresolved, and only where that would refuse the login it is fetched.
#[tokio::test(flavor = "multi_thread")]
async fn see04_a_login_ends_by_the_rules_that_the_store_has() {
    let same = "https://idp.example";
    let lax = Overtaken::new(false, true, same).await;
    assert_eq!(lax.log_in().await.unwrap(), Vec::<String>::new());
    assert_eq!(lax.directory.asked.load(Ordering::SeqCst), 0);

    let strict = Overtaken::new(true, true, same).await;
    assert_eq!(strict.log_in().await.unwrap(), ["Staff"]);
    assert_eq!(strict.directory.asked.load(Ordering::SeqCst), 1);

    // The unresolved claim refuses the login under the new rules, as it does a login that begins under them.
    let failing = Overtaken::new(true, false, same).await;
    let refused = failing.log_in().await.unwrap_err();
    assert!(matches!(refused, Reason::Claims(_)), "{refused}");
    assert!(failing.services.store.users(None, 10).await.unwrap().is_empty());
    let rows = failing.services.store.audit(0, 100).await.unwrap();
    assert!(rows.iter().any(|row| row.event == "login_refused"), "a refusal after the signature leaves a row");

    // A token of a provider that is another by now is not believed for it.
    let another = Overtaken::new(false, true, "https://another.example").await;
    let refused = another.log_in().await.unwrap_err();
    assert!(matches!(refused, Reason::Reconfigured), "{refused}");
    assert!(another.services.store.users(None, 10).await.unwrap().is_empty());
    drop(another.fake);
}
