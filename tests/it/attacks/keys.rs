//! The provider's keys: who may make us fetch them, how often, and what serves when they cannot be had (threats 55, 56, 91).

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http::Method;
use loginsync::cli::demo::mint::oidc;
use loginsync::clock::Clock;
use loginsync::config::{Config, Surroundings};
use loginsync::login::{Passed, Reason, Request, Services, login};
use loginsync::pipeline::capture::CallbackMessage;
use loginsync::pipeline::ids::Timestamp;
use loginsync::pipeline::verify::Fault;
use loginsync::ports::back_channel::http::HttpBackChannel;
use loginsync::ports::keys::KeySource;
use loginsync::ports::keys::fetched::FetchedKeys;
use loginsync::ports::rules::Rules;
use serde_json::{Value, json};

use super::{FORM, Siege, claims, config, form, here, signed, with};
use crate::kit::{NOW, key};

/// A provider's JWK Set behind an address, which counts who asks.
struct JwksServer {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
    document: Arc<Mutex<String>>,
    running: tokio::task::JoinHandle<()>,
}

impl JwksServer {
    async fn start(document: &Value) -> Self {
        Self::at("127.0.0.1:0".parse().unwrap(), document).await
    }

    async fn at(address: SocketAddr, document: &Value) -> Self {
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (asked, document) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(document.to_string())));
        let (count, text) = (Arc::clone(&asked), Arc::clone(&document));
        let answer = move || {
            count.fetch_add(1, Ordering::SeqCst);
            let text = text.lock().unwrap().clone();
            async move { text }
        };
        let router = axum::Router::new().fallback(answer);
        let running = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, asked, document, running }
    }

    fn publish(&self, document: &Value) {
        *self.document.lock().unwrap() = document.to_string();
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn config(&self) -> String {
        config_at(self.address)
    }
}

fn config_at(address: SocketAddr) -> String {
    let url = format!("jwks_url = \"http://{address}/jwks\"");
    config("max_stale = \"24h\"\nbinding = \"observe\"", "").replace("jwks_file = \"fixtures/tokens/jwks.json\"", &url)
}

fn published(names: &[&str]) -> Value {
    let keys: Vec<Value> = names.iter().map(|name| oidc::jwk(&key(name), name).unwrap()).collect();
    oidc::jwks(&keys)
}

fn by(name: &str, key_id: &str, jti: &str) -> String {
    oidc::id_token(&key(name), "RS256", &json!({"alg": "RS256", "kid": key_id}), &claims(jti)).unwrap()
}

async fn submit(siege: &Siege, token: &str) -> (u16, String) {
    let answer = siege.send("/callback", FORM.1, form(&[("id_token", token), ("state", "state-1")]).as_bytes()).await;
    let retry = answer.headers.get("retry-after").map(|value| value.to_str().unwrap().to_owned());
    (answer.status, retry.unwrap_or_default())
}

/// Threat 56: a thousand tokens with unknown keys, and the provider is asked at the start and twice more.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_unknown_keys_are_few_fetches() {
    let server = JwksServer::start(&published(&["idp-rsa"])).await;
    let siege = Arc::new(Siege::with(&server.config()).await);
    assert_eq!(submit(&siege, &by("idp-rsa", "idp-rsa", "first")).await.0, 200);
    let before = Instant::now();
    // Signed once; the name of the key is what differs, so the signature is wrong too, which nobody gets to look at.
    let (_, rest) = by("stranger-rsa", "x", "x").split_once('.').map(|(_, rest)| ((), rest.to_owned())).unwrap();
    let mut sending = tokio::task::JoinSet::new();
    for worker in 0..4 {
        let (siege, rest) = (Arc::clone(&siege), rest.clone());
        sending.spawn(async move {
            for number in 0..250 {
                use base64::Engine as _;
                let header = json!({"alg": "RS256", "kid": format!("{worker}-{number}")}).to_string();
                let header = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(header);
                assert_eq!(submit(&siege, &format!("{header}.{rest}")).await.0, 403);
            }
        });
    }
    while let Some(done) = sending.join_next().await {
        done.unwrap();
    }
    // The fetch at the start, two free looks, and one look in ten seconds.
    let intervals = usize::try_from(before.elapsed().as_secs() / 10).unwrap() + 3;
    assert!(server.asked() <= intervals, "{} fetches in {:?}", server.asked(), before.elapsed());
    assert_eq!(siege.house.app.seen().len(), 1);
    assert_eq!(submit(&siege, &by("idp-rsa", "idp-rsa", "last")).await.0, 200, "and who is honest still enters");
}

/// The path of a login over keys that are looked for more often than ten seconds apart.
struct Impatient {
    services: Services,
    config: Config,
    _folder: tempfile::TempDir,
}

const PAUSE: Duration = Duration::from_millis(300);

impl Impatient {
    async fn over(server: &JwksServer) -> Self {
        let file = here();
        let around = Surroundings { file: &file, read: &|path| std::fs::read(path), environment: &|_| None, now: NOW };
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::from_text(&server.config(), &around).unwrap_or_else(|faults| panic!("{faults}"));
        config.store.place = loginsync::config::Place::File(folder.path().join("store.db"));
        let clock = Clock::fixed(NOW);
        let store = Arc::new(loginsync::app::open(&config).await.unwrap().store);
        store.adopt(Arc::clone(&config.rules), NOW).await.unwrap();
        let keys = FetchedKeys::start(&config.providers, &clock, None).unwrap().with_cool_down(PAUSE);
        let keys: Arc<dyn KeySource> = Arc::new(keys);
        let services = Services {
            back_channel: Arc::new(HttpBackChannel::new(&config.providers, Arc::clone(&keys)).unwrap()),
            keys,
            directory: crate::support::no_directory(),
            store,
            rules: Arc::new(Rules::new(Arc::clone(&config.rules), crate::support::providers(&config))),
            clock,
            meters: Arc::default(),
            outcomes: Arc::default(),
            followers: Arc::default(),
            verifiers: Arc::new(tokio::sync::Semaphore::new(1)),
        };
        Self { services, config, _folder: folder }
    }

    async fn submit(&self, token: &str) -> Result<Passed, Reason> {
        let body = form(&[("id_token", token)]);
        let providers = [Arc::clone(&self.config.providers[0].provider)];
        let request = Request {
            id: "a-test".into(),
            providers: &providers,
            message: CallbackMessage {
                method: &Method::POST,
                query: None,
                content_type: Some(FORM.1),
                encoded: false,
                body: body.as_bytes(),
            },
            remembered: Vec::new(),
            max_document: 1000,
            timeout: Duration::from_secs(5),
        };
        login(&self.services, request).await.map_err(|refused| refused.reason)
    }
}

/// At a start the first login and the task that keeps keys fresh come at once, and whoever is first asks for both.
#[tokio::test]
async fn a_start_asks_once() {
    let server = JwksServer::start(&published(&["idp-rsa"])).await;
    let file = here();
    let around = Surroundings { file: &file, read: &|path| std::fs::read(path), environment: &|_| None, now: NOW };
    let config = Config::from_text(&server.config(), &around).unwrap_or_else(|faults| panic!("{faults}"));
    let keys = FetchedKeys::start(&config.providers, &Clock::fixed(NOW), None).unwrap();
    // On one thread the task has not run yet.
    keys.current(&config.providers[0].provider.name).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(server.asked(), 1);
}

/// Threat 56 over time: a fetch for each pause in which somebody asked, and none in between. A key that comes new is found, and
/// one that goes is believed no longer.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_is_found_and_an_old_one_goes() {
    let server = JwksServer::start(&published(&["idp-rsa"])).await;
    let begun = Instant::now();
    let house = Impatient::over(&server).await;
    assert!(house.submit(&by("idp-rsa", "idp-rsa", "1")).await.is_ok());
    assert_eq!(server.asked(), 1, "a login and the task that keeps keys fresh share a fetch");
    server.publish(&published(&["idp-rsa-next"]));
    let is_unknown = |outcome: Result<Passed, Reason>| matches!(outcome, Err(Reason::Verify(Fault::UnknownKey(_))));
    let known = house.submit(&by("idp-rsa", "idp-rsa", "2")).await;
    assert!(known.is_ok(), "nobody looked yet: {known:?}");
    for number in 0..20 {
        // Within the pause after the first fetch the copy at hand must do.
        let _ = house.submit(&by("idp-rsa-next", "idp-rsa-next", &format!("early-{number}"))).await;
    }
    // Two looks are free of the pause.
    let pauses = |since: Instant| usize::try_from(since.elapsed().as_millis() / PAUSE.as_millis()).unwrap() + 3;
    assert!(server.asked() <= 1 + pauses(begun), "{} in {}", server.asked(), pauses(begun));
    tokio::time::sleep(PAUSE).await;
    // A copy is newer than another by the clock, which stands still otherwise.
    house.services.clock.set(Timestamp(NOW.0 + 1000));
    let before = server.asked();
    let new = house.submit(&by("idp-rsa-next", "idp-rsa-next", "3")).await;
    assert!(new.is_ok(), "{new:?}");
    assert!(server.asked() <= before + 1);
    assert!(is_unknown(house.submit(&by("idp-rsa", "idp-rsa", "4")).await));

    // Four rounds of forty unknown keys, a pause apart.
    let before = server.asked();
    let started = Instant::now();
    for round in 0..4 {
        for number in 0..40 {
            assert!(is_unknown(house.submit(&by("stranger-rsa", &format!("{round}-{number}"), "x")).await));
        }
        tokio::time::sleep(PAUSE).await;
    }
    let asked = server.asked() - before;
    assert!(asked <= pauses(started), "{asked} in {}", pauses(started));
    assert!(server.asked() > before);
}

/// Threat 43 at the other end: what else stands in a JWK Set verifies nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_for_something_else_verifies_nothing() {
    let jwk = |changes: Value| {
        let mut jwk = oidc::jwk(&key("idp-rsa"), "idp-rsa").unwrap();
        for (name, value) in changes.as_object().unwrap() {
            jwk[name] = value.clone();
        }
        jwk
    };
    let other = oidc::jwk(&key("idp-rsa-next"), "other").unwrap();
    for (what, first, status) in [
        ("for signatures", jwk(json!({"use": "sig"})), 200),
        ("of no stated use", jwk(json!({"use": null})), 200),
        ("for encryption", jwk(json!({"use": "enc"})), 403),
        ("for another algorithm", jwk(json!({"alg": "PS256"})), 403),
        ("of an unknown type", jwk(json!({"kty": "XYZ"})), 403),
        ("symmetric", json!({"kty": "oct", "kid": "idp-rsa", "k": "AAAA"}), 403),
        ("with a secret that is not ours to know", jwk(json!({"d": "AQAB", "p": "AQAB", "q": "AQAB"})), 200),
    ] {
        let server = JwksServer::start(&json!({"keys": [first, other]})).await;
        let siege = Siege::with(&server.config()).await;
        assert_eq!(submit(&siege, &by("idp-rsa", "idp-rsa", "a")).await.0, status, "{what}");
        assert_eq!(siege.house.app.seen().len(), usize::from(status == 200), "{what}");
        // Whatever stands beside, a good key serves.
        assert_eq!(submit(&siege, &by("idp-rsa-next", "other", "b")).await.0, 200, "beside one {what}");
    }
}

/// It starts without the provider, refuses with a time to come back, and is well once the provider is there.
#[tokio::test(flavor = "multi_thread")]
async fn it_starts_before_the_provider_does() {
    let vacant = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = vacant.local_addr().unwrap();
    drop(vacant);
    let siege = Siege::with(&config_at(address)).await;
    let token = by("idp-rsa", "idp-rsa", "a");
    assert_eq!(submit(&siege, &token).await, (503, "5".into()));
    let forged = by("stranger-rsa", "idp-rsa", "a");
    assert_eq!(submit(&siege, &forged).await, (503, "5".into()), "without keys nothing is believed");
    assert!(siege.house.app.seen().is_empty() && siege.house.events().await.is_empty());

    let _server = JwksServer::at(address, &published(&["idp-rsa"])).await;
    let before = Instant::now();
    let mut status = 503;
    while status == 503 && before.elapsed() < Duration::from_secs(10) {
        tokio::time::sleep(Duration::from_millis(200)).await;
        status = submit(&siege, &token).await.0;
    }
    assert_eq!(status, 200, "the very login that was put off");
    assert_eq!(submit(&siege, &forged).await.0, 403);
}

/// The last good copy serves while the provider is away, for `max_stale` and no longer.
#[tokio::test(flavor = "multi_thread")]
async fn the_last_good_copy_has_an_end() {
    let server = JwksServer::start(&published(&["idp-rsa"])).await;
    let siege = Siege::with(&server.config()).await;
    assert_eq!(submit(&siege, &by("idp-rsa", "idp-rsa", "now")).await.0, 200);
    server.running.abort();
    let _ = server.running.await;
    let later = |hours: i64| Timestamp(NOW.0 + hours * 3_600_000);
    let at = |hours: i64| {
        let mut claims = with(&json!({"iat": later(hours).seconds(), "exp": later(hours).seconds() + 300}));
        claims["jti"] = json!(format!("at-{hours}"));
        signed(&claims)
    };
    siege.house.clock.set(later(23));
    assert_eq!(submit(&siege, &at(23)).await.0, 200);
    siege.house.clock.set(later(25));
    let seen = siege.house.app.seen().len();
    assert_eq!(submit(&siege, &at(25)).await, (503, "5".into()));
    assert_eq!(siege.house.app.seen().len(), seen);
    assert!(!siege.house.memberships().await.is_empty(), "what was granted stays");
}

/// Threat 91: a provider that answers with a wrong, an endless or a broken document takes no good copy away.
#[tokio::test(flavor = "multi_thread")]
async fn a_bad_answer_replaces_nothing() {
    let server = JwksServer::start(&published(&["idp-rsa"])).await;
    let house = Impatient::over(&server).await;
    assert!(house.submit(&by("idp-rsa", "idp-rsa", "good")).await.is_ok());
    let huge = json!({"keys": [], "filler": "x".repeat(2 << 20)});
    for (number, document) in [json!({"keys": []}), json!([]), json!("x"), json!({"keys": 5}), huge].iter().enumerate()
    {
        server.publish(document);
        tokio::time::sleep(PAUSE).await;
        let asked = server.asked();
        assert!(house.submit(&by("stranger-rsa", "unknown", "x")).await.is_err());
        assert_eq!(server.asked(), asked + 1, "it was looked at");
        let known = house.submit(&by("idp-rsa", "idp-rsa", &format!("still-{number}"))).await;
        assert!(known.is_ok(), "{document:.40}: {known:?}");
    }
}
