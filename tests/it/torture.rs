//! Three sidecars over one database behind one balancer, while they are killed, paused, and the server crashes: `make
//! torture-postgres`; and one over its file, which is killed: `make torture`. What was answered must be kept, nothing may count twice,
//! and everything recovers alone.
//!
//! ```text
//! people ──▶ HAProxy ──▶ loginsync × 3 ──▶ an app        people ──▶ loginsync ──▶ an app
//!                             └──────────▶ PostgreSQL                   └───────▶ a file
//! ```

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use loginsync::cli::demo::database::Database as Server;
use loginsync::cli::demo::mint::saml::{MintAttribute, SamlLogin, field};
use loginsync::cli::demo::mint::{KeyKind, MintKey, oidc};
use loginsync::clock::Clock;
use loginsync::config::{Config, Surroundings};
use loginsync::pipeline::ids::{Namespace, Subject, Timestamp, UserId};
use loginsync::pipeline::mapping::RuleSet;
use loginsync::ports::store::postgres::Shared;
use loginsync::ports::store::sqlite::{Settings, SqliteStore};
use loginsync::ports::store::{AuditRow, Store};
use serde_json::json;

use crate::kit;
use crate::support::postgres;

/// People, of whom the first few are by turns the last holders of a protected group.
const PEOPLE: usize = 300;
const HOLDERS: usize = 4;
const GROUPS: usize = 8;
/// How many of them log in at once, and how long each rests.
const AT_ONCE: usize = 24;
const REST: u64 = 60;
/// After so many kills the server crashes once.
const KILLS_TO_A_CRASH: u32 = 9;
/// How often the leader is paused, and for how long: longer than its lease, and than its announcement counts.
const PAUSES: Duration = Duration::from_secs(45);
const PAUSED: Duration = Duration::from_secs(15);
/// For an answer. A paused sidecar answers once it goes on.
const PATIENCE: Duration = Duration::from_secs(30);
/// After so long without an answer the next person logs in: those who wait for a paused sidecar must not keep all others waiting.
const MOMENT: Duration = Duration::from_millis(500);
/// For a start, and for what must come by itself: a sidecar that was killed leads no longer than its lease.
const RECOVERY: Duration = Duration::from_secs(60);

const RULES: &str = r#"
public_url = "https://app.example"

[listen]
address = "127.0.0.1:PROXY"

[admin]
address = "127.0.0.1:ADMIN"

[app]
url = "APP"

[store]
STORE

[audit]
key_file = "audit.key"

[cookies]
keys_file = "store.key"

[log]
level = "warn"

[[provider]]
name = "oidc"
mode = "oidc-form-post"
issuer = "https://idp.example"
client_id = "the-app"
callback = "/callback"
jwks_file = "jwks.json"
authorization_endpoint = "https://idp.example/authorize"
algorithms = ["EdDSA"]
binding = "observe"
user_claim = "account"
namespace = "staff"

[provider.claims.groups]

[[provider]]
name = "saml"
mode = "saml-post"
issuer = "https://idp.example/saml"
audience = "https://app.example/saml"
callback = "/saml/acs"
certificate_files = ["CERTIFICATE"]
allow_idp_initiated = true
user_claim = "account"
namespace = "staff"

[provider.claims.groups]

[[group]]
name = "Owners"
protected = true
"#;

/// The ways in.
const WAYS: [&str; 2] = ["oidc", "saml"];

fn rules() -> String {
    let mut text = RULES.to_owned();
    let mut give = |value: &str, group: &str| {
        for way in WAYS {
            text += &format!(
                "\n[[mapping]]\nprovider = \"{way}\"\nclaim = \"groups\"\nvalue = \"{value}\"\ngroup = \"{group}\"\n"
            );
        }
    };
    give("owners", "Owners");
    (0..GROUPS).for_each(|number| give(&format!("g{number}"), &format!("G{number}")));
    (0..GROUPS).for_each(|number| text += &format!("\n[[group]]\nname = \"G{number}\"\nbrake = false\n"));
    text
}

// ------------------------------------------------------------------------------------------------------- what is run

/// One sidecar: a process, and another after that was killed.
struct Replica {
    config: PathBuf,
    proxy: u16,
    admin: u16,
    child: Mutex<Option<Child>>,
    is_paused: AtomicBool,
    /// Starts that ended by themselves, since no database answered.
    in_vain: AtomicU32,
}

impl Replica {
    fn start(&self) {
        let program = std::env::var_os("LOGINSYNC_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_loginsync").into());
        let log = std::fs::File::options().append(true).create(true).open(self.config.with_extension("log")).unwrap();
        let mut command = Command::new(program);
        command.args(["serve", "--config"]).arg(&self.config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        *self.child.lock().unwrap() = Some(command.spawn().unwrap());
    }

    fn kill(&self) {
        if let Some(mut child) = self.child.lock().unwrap().take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    fn signal(&self, name: &str) {
        if let Some(child) = &*self.child.lock().unwrap() {
            assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
        }
    }

    /// Waits until it is ready; starts it again where it has ended, as a supervisor would.
    async fn ready(&self, world: &World) {
        let began = Instant::now();
        while world.ask(self.admin, "/readyz").await.is_none_or(|(status, _)| status != 200) {
            assert!(began.elapsed() < RECOVERY, "{}: {}", self.config.display(), self.log());
            let ended = self.child.lock().unwrap().as_mut().is_none_or(|child| child.try_wait().unwrap().is_some());
            if ended {
                self.in_vain.fetch_add(1, Ordering::Relaxed);
                self.start();
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn log(&self) -> String {
        let log = std::fs::read_to_string(self.config.with_extension("log")).unwrap_or_default();
        log.lines().rev().take(20).collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A token, and what came of it.
struct Token {
    person: usize,
    way: usize,
    issued_at: i64,
    groups: Vec<String>,
    /// How often the app let it in.
    entered: u32,
}

/// What happened when, for the longest silence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    Kill,
    Pause,
    Crash,
}

/// Where the truth is.
enum Truth {
    Server(Server),
    File(PathBuf),
}

struct World {
    _folder: tempfile::TempDir,
    truth: Truth,
    balancer: Mutex<Option<Child>>,
    entrance: u16,
    replicas: Vec<Replica>,
    client: Client<HttpConnector, Full<Bytes>>,
    key: MintKey,
    saml_key: MintKey,
    tokens: Mutex<BTreeMap<String, Token>>,
    /// For each person and way, when the last token was issued: no two at once, so that there is a newest one.
    issued: Vec<[AtomicI64; 2]>,
    answers: Mutex<BTreeMap<String, u32>>,
    entered: Mutex<Vec<Instant>>,
    faults: Mutex<Vec<(Instant, Instant, Fault)>>,
    is_over: AtomicBool,
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(mut balancer) = self.balancer.lock().unwrap().take() {
            let _ = balancer.kill();
            let _ = balancer.wait();
        }
    }
}

/// Ports below those that connections are given, so that a killed sidecar finds its own again.
pub fn ports<const N: usize>() -> [u16; N] {
    let first = 20_000 + u16::try_from(random(8_000)).unwrap();
    let free = (first..).filter(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok());
    free.take(N).collect::<Vec<_>>().try_into().unwrap()
}

fn random(below: usize) -> usize {
    use std::hash::{BuildHasher as _, Hasher as _};
    let number = std::hash::RandomState::new().build_hasher().finish();
    usize::try_from(number % u64::try_from(below).unwrap()).unwrap()
}

pub async fn app() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = axum::Router::new().fallback(async || "<h1>in</h1>");
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    url
}

fn balancer(folder: &std::path::Path, entrance: u16, replicas: &[Replica]) -> Child {
    let servers: String = replicas
        .iter()
        .map(|it| format!("    server s{} 127.0.0.1:{} check port {}\n", it.proxy, it.proxy, it.admin))
        .collect();
    let text = format!(
        "global\n    maxconn 2000\ndefaults\n    mode http\n    timeout connect 1s\n    timeout client 40s\n    timeout server 40s\n\
         frontend all\n    bind 127.0.0.1:{entrance}\n    default_backend sidecars\n\
         backend sidecars\n    balance roundrobin\n    option redispatch 1\n    option httpchk\n\
         \x20   http-check send meth GET uri /readyz ver HTTP/1.1 hdr Host localhost\n\
         \x20   default-server inter 500ms fall 1 rise 1\n{servers}"
    );
    let file = folder.join("haproxy.cfg");
    std::fs::write(&file, text).unwrap();
    let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
    let mut command = Command::new("haproxy");
    command.env("PATH", path).arg("-q").arg("-db").arg("-f").arg(file).stdin(Stdio::null());
    command.spawn().expect("HAProxy is installed (`make torture-postgres` installs it)")
}

impl World {
    /// Three sidecars over a server.
    async fn shared() -> Arc<Self> {
        let server = Server::start("-c max_connections=100").unwrap();
        server.ready().await.unwrap();
        server.create("torture").await.unwrap();
        Self::open(Some(server)).await
    }

    async fn open(server: Option<Server>) -> Arc<Self> {
        let folder = tempfile::tempdir().unwrap();
        let (key, saml_key) = (MintKey::generate(KeyKind::Ed25519).unwrap(), kit::key("idp-rsa"));
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("jwks.json"), oidc::jwks(&[oidc::jwk(&key, "k").unwrap()]).to_string()).unwrap();
        std::fs::write(at("store.key"), "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n").unwrap();
        std::fs::write(at("audit.key"), "a key for this test only, long enough\n").unwrap();
        let certificate = format!("{}/fixtures/keys/idp-rsa.certificate.test-only.pem", env!("CARGO_MANIFEST_DIR"));
        let store = match &server {
            Some(server) => format!("url = \"{}\"\nkey_file = \"store.key\"", server.url("torture")),
            None => String::from("path = \"torture.db\""),
        };
        let text = rules().replace("STORE", &store).replace("CERTIFICATE", &certificate).replace("APP", &app().await);
        let [entrance, ports @ ..] = ports::<7>();
        let replica = |number: usize| {
            let (proxy, admin) = (ports[2 * number], ports[2 * number + 1]);
            let config = at(&format!("{number}.toml"));
            let text = text.replace("PROXY", &proxy.to_string()).replace("ADMIN", &admin.to_string());
            std::fs::write(&config, text).unwrap();
            Replica {
                config,
                proxy,
                admin,
                child: Mutex::new(None),
                is_paused: AtomicBool::new(false),
                in_vain: AtomicU32::new(0),
            }
        };
        let replicas: Vec<Replica> = (0..if server.is_some() { 3 } else { 1 }).map(replica).collect();
        let balancer = server.as_ref().map(|_| balancer(folder.path(), entrance, &replicas));
        let entrance = if server.is_some() { entrance } else { replicas[0].proxy };
        let truth = match server {
            Some(server) => Truth::Server(server),
            None => Truth::File(at("torture.db")),
        };
        let world = Arc::new(Self {
            _folder: folder,
            truth,
            balancer: Mutex::new(balancer),
            entrance,
            replicas,
            client: Client::builder(TokioExecutor::new()).build_http(),
            key,
            saml_key,
            tokens: Mutex::default(),
            issued: (0..PEOPLE).map(|_| [AtomicI64::new(0), AtomicI64::new(0)]).collect(),
            answers: Mutex::default(),
            entered: Mutex::default(),
            faults: Mutex::default(),
            is_over: AtomicBool::new(false),
        });
        for replica in &world.replicas {
            replica.start();
            replica.ready(&world).await;
        }
        world
    }

    async fn ask(&self, admin: u16, path: &str) -> Option<(u16, String)> {
        let uri = format!("http://127.0.0.1:{admin}{path}").parse().unwrap();
        self.read(self.client.get(uri), Duration::from_secs(3)).await
    }

    async fn read(
        &self,
        asked: hyper_util::client::legacy::ResponseFuture,
        patience: Duration,
    ) -> Option<(u16, String)> {
        let whole = async {
            let (head, body) = asked.await.ok()?.into_parts();
            Some((head.status.as_u16(), body.collect().await.ok()?.to_bytes()))
        };
        let (status, body) = tokio::time::timeout(patience, whole).await.ok()??;
        Some((status, String::from_utf8_lossy(&body).into_owned()))
    }

    async fn store(&self) -> (Store, Arc<RuleSet>) {
        let file = self.replicas[0].config.clone();
        let text = std::fs::read_to_string(&file).unwrap();
        let now = Clock::system().now();
        let around = Surroundings { file: &file, read: &|path| std::fs::read(path), environment: &|_| None, now };
        let config = Config::from_text(&text, &around).unwrap_or_else(|faults| panic!("{faults}"));
        let key = config.audit_key.clone().unwrap();
        let server = match &self.truth {
            Truth::Server(server) => server,
            Truth::File(path) => {
                let settings =
                    Settings { synchronous: config.store.synchronous, timeout: PATIENCE, audit_key: Some(key) };
                let store = SqliteStore::open(path, settings).unwrap();
                let rules = loginsync::app::rules_with_store(&config, &store).await.unwrap();
                return (Store::from(store), rules);
            }
        };
        let database = postgres::Database { url: server.url("torture") };
        let mut settings = database.settings(Some(key.expose()));
        settings.key = match &config.store.place {
            loginsync::config::Place::Server(server) => server.key.clone(),
            loginsync::config::Place::File(_) => panic!("a file"),
        };
        let shared = Shared::open(settings).await.unwrap();
        let rules = loginsync::app::rules_with_store(&config, &shared).await.unwrap();
        (Store::from(shared), rules)
    }
}

// ------------------------------------------------------------------------------------------------------- people

/// What a browser posts.
struct Post {
    token: String,
    path: &'static str,
    body: String,
}

impl World {
    /// A token that says what a person is in now. Those who may be last holders come more often.
    fn mint(&self) -> Post {
        loop {
            let person = if random(10) == 0 { random(HOLDERS) } else { random(PEOPLE) };
            if let Some(post) = self.mint_for(person, random(2)) {
                return post;
            }
        }
    }

    /// `None` where one was issued this second: tokens of one second have no order, and one of the next would count as issued now.
    fn mint_for(&self, person: usize, way: usize) -> Option<Post> {
        let now = Clock::system().now();
        let issued = &self.issued[person][way];
        let next = |last: i64| Some((last + 1).max(now.seconds() - 5)).filter(|next| *next <= now.seconds());
        let last = issued.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).ok()?;
        let issued_at = next(last)?;
        let mut groups: Vec<String> = (0..GROUPS).filter(|_| random(2) == 0).map(|group| format!("g{group}")).collect();
        // Each of them would be the last one now and then.
        if person < HOLDERS && random(3) == 0 {
            groups.push("owners".into());
        }
        let token = format!("_{:x}{:x}", random(usize::MAX), random(usize::MAX));
        let name = format!("p{person}");
        let (path, body) = if way == 0 {
            let claims = json!({
                "iss": "https://idp.example", "aud": "the-app", "sub": name, "account": name, "iat": issued_at, "exp": issued_at + 300,
                "jti": token, "groups": groups,
            });
            let text = oidc::id_token(&self.key, "EdDSA", &json!({"alg": "EdDSA", "kid": "k"}), &claims).unwrap();
            ("/callback", kit::body("id_token", &text))
        } else {
            let at = Timestamp(issued_at * 1000);
            let response = format!("{token}-response");
            let mut login = SamlLogin::new(kit::ISSUER, kit::AUDIENCE, kit::ACS, (&response, &token), at.0);
            let values: Vec<&str> = groups.iter().map(String::as_str).collect();
            login.attributes = vec![MintAttribute::of("account", &[&name]), MintAttribute::of("groups", &values)];
            ("/saml/acs", kit::body("SAMLResponse", &field(&kit::signed_assertion(&login, &self.saml_key))))
        };
        let known = Token { person, way, issued_at, groups, entered: 0 };
        self.tokens.lock().unwrap().insert(token.clone(), known);
        Some(Post { token, path, body })
    }

    async fn post(&self, port: u16, post: &Post) -> Option<u16> {
        let request = http::Request::post(format!("http://127.0.0.1:{port}{}", post.path))
            .header("host", "app.example")
            .header("accept", "text/html")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Full::new(Bytes::from(post.body.clone())))
            .unwrap();
        let answer = self.read(self.client.request(request), PATIENCE).await;
        let title = |page: &str| {
            let rest = page.split_once("<h1>").map_or("", |(_, rest)| rest);
            rest.split('<').next().unwrap_or_default().to_owned()
        };
        let told = match &answer {
            Some((status, page)) => format!("{status} {}", title(page)),
            None => String::from("no answer"),
        };
        *self.answers.lock().unwrap().entry(told).or_default() += 1;
        let status = answer?.0;
        if status == 200 {
            self.entered.lock().unwrap().push(Instant::now());
            self.tokens.lock().unwrap().get_mut(&post.token).unwrap().entered += 1;
        }
        Some(status)
    }

    fn any_replica(&self) -> u16 {
        self.replicas[random(self.replicas.len())].proxy
    }

    /// What a person posts. Returns those who still wait: others are not kept from logging in by it.
    async fn post_each(self: &Arc<Self>, ports: &[u16], post: Post) -> Option<tokio::task::JoinHandle<()>> {
        let (world, ports) = (Arc::clone(self), ports.to_vec());
        let mut posting = tokio::spawn(async move {
            let posts = ports.iter().map(|port| world.post(*port, &post));
            let mut all: Vec<_> = posts.map(Box::pin).collect();
            std::future::poll_fn(|context| {
                all.retain_mut(|it| it.as_mut().poll(context).is_pending());
                if all.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
            })
            .await;
        });
        match tokio::time::timeout(MOMENT, &mut posting).await {
            Ok(done) => {
                done.unwrap();
                None
            }
            Err(_) => Some(posting),
        }
    }

    /// Logs people in, one after the other.
    async fn log_in(self: &Arc<Self>) {
        let (mut late, mut waiting): (Option<Post>, Vec<_>) = (None, Vec::new());
        while !self.is_over.load(Ordering::Relaxed) {
            let post = self.mint();
            let last = match random(20) {
                // The same token at two sidecars at once.
                0 | 1 => self.post_each(&[self.any_replica(), self.any_replica()], post).await,
                // A token that arrives after later ones.
                2 | 3 => match late.replace(post) {
                    Some(post) => self.post_each(&[self.entrance], post).await,
                    None => None,
                },
                // One that a browser sends again.
                4 => {
                    let again = Post { token: post.token.clone(), path: post.path, body: post.body.clone() };
                    waiting.extend(self.post_each(&[self.entrance], post).await);
                    self.post_each(&[self.any_replica()], again).await
                }
                _ => self.post_each(&[self.entrance], post).await,
            };
            waiting.extend(last);
            tokio::time::sleep(Duration::from_millis(random(usize::try_from(2 * REST).unwrap()) as u64)).await;
        }
        for posting in waiting {
            posting.await.unwrap();
        }
    }
}

// ------------------------------------------------------------------------------------------------------- faults

impl World {
    fn fault(&self, began: Instant, what: Fault) {
        self.faults.lock().unwrap().push((began, Instant::now(), what));
    }

    fn count(&self, what: Fault) -> usize {
        self.faults.lock().unwrap().iter().filter(|(_, _, fault)| *fault == what).count()
    }

    /// Kills one after the other, and crashes the server in between.
    async fn break_things(&self) {
        let mut kills = 0;
        while !self.is_over.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(200 + random(600) as u64)).await;
            let began = Instant::now();
            if let Truth::Server(server) = &self.truth
                && kills % KILLS_TO_A_CRASH == KILLS_TO_A_CRASH - 1
            {
                kills += 1;
                tokio::task::block_in_place(|| server.crash_and_restart()).unwrap();
                self.fault(began, Fault::Crash);
                for replica in self.replicas.iter().filter(|it| !it.is_paused.load(Ordering::Relaxed)) {
                    replica.ready(self).await;
                }
                continue;
            }
            let replica = &self.replicas[random(self.replicas.len())];
            if replica.is_paused.load(Ordering::Relaxed) {
                continue;
            }
            kills += 1;
            replica.kill();
            tokio::time::sleep(Duration::from_millis(random(300) as u64)).await;
            replica.start();
            replica.ready(self).await;
            self.fault(began, Fault::Kill);
        }
    }

    /// Stops the leader for longer than it may lead without a word, and lets it go on.
    async fn pause_leaders(&self) {
        let mut rested = Instant::now();
        while !self.is_over.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(100)).await;
            // One alone has none to take over.
            if rested.elapsed() < PAUSES || self.replicas.len() == 1 {
                continue;
            }
            let Some(replica) = self.leader().await else { continue };
            let began = Instant::now();
            replica.is_paused.store(true, Ordering::Relaxed);
            replica.signal("-STOP");
            tokio::time::sleep(PAUSED).await;
            replica.signal("-CONT");
            self.fault(began, Fault::Pause);
            replica.ready(self).await;
            replica.is_paused.store(false, Ordering::Relaxed);
            rested = Instant::now();
        }
    }

    async fn leader(&self) -> Option<&Replica> {
        for replica in &self.replicas {
            let metrics = self.ask(replica.admin, "/metrics").await;
            if metrics.is_some_and(|(_, text)| text.contains("loginsync_leader 1")) {
                return Some(replica);
            }
        }
        None
    }

    /// Looks again and again whether the protected group has a holder, once it had one. Returns how often it looked.
    async fn watch_holders(&self) -> u32 {
        let (mut looks, mut had) = (0, false);
        while !self.is_over.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(300)).await;
            if let Some(holders) = self.holders().await {
                assert!(holders > 0 || !had, "the protected group lost its last holder");
                had = had || holders > 0;
                looks += u32::from(had);
            }
        }
        looks
    }

    /// `None` while the server is down.
    async fn holders(&self) -> Option<i64> {
        let server = match &self.truth {
            Truth::Server(server) => server,
            Truth::File(path) => return holders_in(path),
        };
        let (client, connection) = tokio_postgres::connect(&server.url("torture"), tokio_postgres::NoTls).await.ok()?;
        tokio::spawn(connection);
        let text = "SELECT count(DISTINCT user_id) FROM loginsync.holdings JOIN loginsync.targets
                    ON number = target AND targets.kind = holdings.kind
                    WHERE targets.kind = 0 AND lower(name) = 'owners' AND NOT gone";
        match client.query_one(text, &[]).await {
            Ok(row) => Some(row.get(0)),
            Err(error) if error.code().is_none_or(|code| code.code().starts_with("57P")) => None,
            Err(error) => panic!("{error:?}"),
        }
    }

    /// The longest time without a login, for each kind of fault, of the worst that happened within.
    fn silences(&self) -> BTreeMap<Fault, Duration> {
        let mut longest = BTreeMap::new();
        let (faults, entered) = (self.faults.lock().unwrap(), self.entered.lock().unwrap());
        for pair in entered.windows(2) {
            let within = |(began, ended, _): &&(Instant, Instant, Fault)| *began <= pair[1] && pair[0] <= *ended;
            if let Some((_, _, worst)) = faults.iter().filter(within).max_by_key(|(_, _, fault)| *fault) {
                let silence = longest.entry(*worst).or_insert(Duration::ZERO);
                *silence = pair[1].duration_since(pair[0]).max(*silence);
            }
        }
        longest
    }
}

// ------------------------------------------------------------------------------------------------------- what is kept

/// How many hold the protected group; `None` while the file is being made or recovered.
fn holders_in(path: &std::path::Path) -> Option<i64> {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let file = rusqlite::Connection::open_with_flags(path, flags).ok()?;
    let text =
        "SELECT count(DISTINCT user_id) FROM holdings JOIN targets ON number = target AND targets.kind = holdings.kind
                WHERE targets.kind = 0 AND name = 'Owners' AND NOT gone";
    file.query_row(text, [], |row| row.get(0)).ok()
}

/// Every row of the audit, once all have their places.
async fn audit(store: &Store) -> Vec<AuditRow> {
    let (mut rows, mut after) = (Vec::new(), 0);
    loop {
        let page = store.audit(after, 1_000).await.unwrap();
        let Some(last) = page.last() else { return rows };
        after = last.sequence;
        rows.extend(page);
    }
}

impl World {
    async fn all_is_sealed(&self) {
        // A file's rows are sealed as they are written.
        let Truth::Server(server) = &self.truth else { return };
        let (client, connection) =
            tokio_postgres::connect(&server.url("torture"), tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        let began = Instant::now();
        let text = "SELECT count(*) FROM loginsync.audit a LEFT JOIN loginsync.seals s ON s.audit_id = a.id
                    WHERE s.audit_id IS NULL";
        while client.query_one(text, &[]).await.unwrap().get::<_, i64>(0) > 0 {
            assert!(began.elapsed() < RECOVERY, "rows of the audit stay without a place");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Returns how many logins are in the audit, and how many of those were not answered.
    async fn nothing_is_lost(&self, store: &Store, rules: &Arc<RuleSet>) -> (usize, usize) {
        let mut applied = BTreeMap::<String, u32>::new();
        let rows = audit(store).await;
        let mut wrong = Vec::new();
        for row in &rows {
            if row.event == "login" || row.event == "login_older" {
                let token = row.detail["token"].as_str().unwrap();
                *applied.entry(token.trim_start_matches("jti:").to_owned()).or_default() += 1;
            }
        }
        // By person and way, when the newest token was issued that was applied, and what it says.
        let mut newest = BTreeMap::<(usize, usize), (i64, Vec<String>)>::new();
        let mut unanswered = 0;
        for (id, token) in &*self.tokens.lock().unwrap() {
            let times = applied.get(id).copied().unwrap_or_default();
            assert!(token.entered <= 1, "{id} entered {} times", token.entered);
            assert!(times <= 1, "{id} is {times} times in the audit");
            assert!(token.entered == 0 || times == 1, "{id} was answered and is not in the audit");
            unanswered += usize::from(times == 1 && token.entered == 0);
            let known = newest.entry((token.person, token.way)).or_default();
            if times == 1 && known.0 < token.issued_at {
                *known = (token.issued_at, token.groups.clone());
            }
        }
        for person in 0..PEOPLE {
            let name = format!("p{person}");
            let user =
                UserId { namespace: Namespace::parse("staff").unwrap(), subject: Subject::parse(&name).unwrap() };
            let view = store.user(user, Arc::clone(rules), Clock::system().now()).await.unwrap();
            let last = (0..WAYS.len()).filter_map(|way| newest.get(&(person, way)));
            let mut expected: Vec<String> = last.flat_map(|(_, groups)| groups.clone()).collect();
            expected.retain(|group| group != "owners");
            expected.iter_mut().for_each(|group| *group = group.to_uppercase());
            expected.sort_unstable();
            expected.dedup();
            let mut found = view.map(|view| view.groups).unwrap_or_default();
            // What is protected stays where a token does not name it.
            found.retain(|group| group != "Owners");
            if found != expected {
                let of_them = |row: &&AuditRow| row.person.as_ref().is_some_and(|it| it["subject"] == name);
                let last = rows.iter().rev().find(of_them);
                let last = last.map(|row| format!("{} {} {}", row.at, row.event, row.detail));
                wrong.push(format!("{name} is in {found:?}; expected {expected:?}; last: {last:?}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        (applied.len(), unanswered)
    }

    /// Posts what was answered once more: to a sidecar that may have been started since.
    async fn nothing_passes_again(&self) -> usize {
        let posted: Vec<String> = {
            let tokens = self.tokens.lock().unwrap();
            tokens.iter().filter(|(_, token)| token.entered == 1).map(|(id, _)| id.clone()).collect()
        };
        let mut again = 0;
        for id in posted.iter().rev().take(200) {
            let (person, way, issued_at) = {
                let tokens = self.tokens.lock().unwrap();
                (tokens[id].person, tokens[id].way, tokens[id].issued_at)
            };
            // One that has ended by now is refused for that.
            if way != 0 || issued_at + 240 < Clock::system().now().seconds() {
                continue;
            }
            let claims = json!({
                "iss": "https://idp.example", "aud": "the-app", "sub": format!("p{person}"), "account": format!("p{person}"),
                "iat": issued_at, "exp": issued_at + 300, "jti": id, "groups": ["owners"],
            });
            let text = oidc::id_token(&self.key, "EdDSA", &json!({"alg": "EdDSA", "kid": "k"}), &claims).unwrap();
            let post = Post { token: id.clone(), path: "/callback", body: kit::body("id_token", &text) };
            assert_eq!(self.post(self.any_replica(), &post).await, Some(409), "{id}");
            again += 1;
        }
        again
    }

    fn command(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_loginsync"));
        let output = command.args(arguments).arg("--config").arg(&self.replicas[0].config).output().unwrap();
        let told = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        assert!(output.status.success(), "{arguments:?}: {told} {}", String::from_utf8_lossy(&output.stderr));
        told
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes: `make torture-postgres`"]
async fn three_sidecars_for_long() {
    torture(World::shared().await, seconds(300)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes: `make torture`"]
async fn one_sidecar_for_long() {
    torture(World::open(None).await, seconds(180)).await;
}

/// A few kills of one sidecar, at every run of the tests.
#[tokio::test(flavor = "multi_thread")]
async fn one_sidecar_is_killed_and_nothing_that_it_answered_is_lost() {
    torture(World::open(None).await, 12).await;
}

fn seconds(usual: u64) -> u64 {
    std::env::var("TORTURE_SECONDS").map_or(usual, |text| text.parse::<u64>().expect("TORTURE_SECONDS"))
}

async fn torture(world: Arc<World>, seconds: u64) {
    let began = Instant::now();
    let mut people = tokio::task::JoinSet::new();
    for _ in 0..AT_ONCE {
        let world = Arc::clone(&world);
        people.spawn(async move { world.log_in().await });
    }
    let [breaking, pausing, watching] = [Arc::clone(&world), Arc::clone(&world), Arc::clone(&world)];
    let breaking = tokio::spawn(async move { breaking.break_things().await });
    let pausing = tokio::spawn(async move { pausing.pause_leaders().await });
    let watching = tokio::spawn(async move { watching.watch_holders().await });
    while began.elapsed() < Duration::from_secs(seconds) {
        tokio::time::sleep(Duration::from_secs(1)).await;
        for task in [breaking.is_finished(), pausing.is_finished(), watching.is_finished()] {
            if task {
                world.is_over.store(true, Ordering::Relaxed);
            }
        }
    }
    world.is_over.store(true, Ordering::Relaxed);
    breaking.await.unwrap();
    pausing.await.unwrap();
    let looks = watching.await.unwrap();
    while let Some(done) = people.join_next().await {
        done.unwrap();
    }
    let took = began.elapsed().as_secs_f64();

    for replica in &world.replicas {
        replica.ready(&world).await;
    }
    world.all_is_sealed().await;
    let again = world.nothing_passes_again().await;
    world.all_is_sealed().await;
    if let Truth::File(_) = &world.truth {
        // A file has one process.
        world.replicas[0].kill();
    }
    let (store, rules) = world.store().await;
    let (applied, unanswered) = world.nothing_is_lost(&store, &rules).await;
    let report = store.verify_audit().await.unwrap();
    assert!(report.broken.is_none() && report.keyed, "{report:?}");
    assert_eq!(store.check(false).await.unwrap(), Vec::<String>::new());
    assert!(world.holders().await.unwrap() > 0);
    drop(store);
    let checked = [world.command(&["audit", "verify"]), world.command(&["db", "check"])];

    let entered = world.entered.lock().unwrap().len();
    let [kills, crashes, pauses] = [Fault::Kill, Fault::Crash, Fault::Pause].map(|what| world.count(what));
    let in_vain: u32 = world.replicas.iter().map(|it| it.in_vain.load(Ordering::Relaxed)).sum();
    println!("{took:.0} s: {kills} kills, {crashes} crashes of the server, {pauses} pauses of the leader");
    println!("{in_vain} starts ended for want of a database and were repeated");
    println!("{entered} logins entered ({:.0} a second); {applied} are in the audit", entered as f64 / took);
    println!("{unanswered} of them were committed and not answered with success, {again} were posted again: 409");
    println!("{looks} looks at the protected group; audit: {}; db check: {}", checked[0], checked[1]);
    for (answer, times) in &*world.answers.lock().unwrap() {
        println!("  {times:>7}  {answer}");
    }
    let restarts =
        world.faults.lock().unwrap().iter().filter(|(_, _, fault)| *fault == Fault::Crash).map(|it| it.1 - it.0).max();
    if let Some(longest) = restarts {
        println!("the server itself was away for {:.1} s at most", longest.as_secs_f64());
    }
    let silences = world.silences();
    for (fault, silence) in &silences {
        println!("longest silence around a {fault:?}: {:.1} s", silence.as_secs_f64());
    }
    let enough = kills >= 3 && entered > 100 && looks > 10 && again > 0;
    let crashed = matches!(&world.truth, Truth::File(_)) || (crashes > 0 && entered > 500 && kills >= 10);
    assert!(enough && crashed, "too little happened");
    assert!(silences.values().all(|silence| *silence < RECOVERY), "{silences:?}");
}
