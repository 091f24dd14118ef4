//! TLS on every side, by handshakes: the app behind it, the relay's own listener, and a provider that knows its clients by
//! certificate.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use loginsync::app::{self, Running};
use loginsync::clock::Clock;
use loginsync::config::{Config, Surroundings};
use loginsync::pipeline::ids::{Namespace, Subject, UserId};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::kit::NOW;
use crate::support::app::{App, Reply, ok, respond};
use crate::support::idp::{Idp, Scripted};
use crate::support::wire::{self, get};

const CONFIG: &str = r#"
public_url = "https://app.example"

[listen]
address = "127.0.0.1:0"

[admin]
address = "127.0.0.1:0"

[app]
url = "APP"
APPSETTINGS

[relay]
address = "127.0.0.1:0"
RELAYSETTINGS

[[provider]]
name = "idp"
mode = "token-relay"
issuer = "ISSUER"
client_id = "the-app"
callback = "/callback"
algorithms = ["EdDSA"]
PROVIDERSETTINGS

[provider.claims.groups]

[[group]]
name = "Staff"

[[mapping]]
provider = "idp"
claim = "groups"
value = "staff"
group = "Staff"
"#;

/// A self-signed certificate and its key, in files.
struct Pair {
    certificate: PathBuf,
    key: PathBuf,
}

impl Pair {
    fn make(folder: &Path, name: &str, host: &str) -> Self {
        use std::os::unix::fs::PermissionsExt as _;
        let made = rcgen::generate_simple_self_signed(vec![host.to_owned()]).unwrap();
        let pair = Self { certificate: folder.join(format!("{name}.crt")), key: folder.join(format!("{name}.key")) };
        std::fs::write(&pair.certificate, made.cert.pem()).unwrap();
        std::fs::write(&pair.key, made.signing_key.serialize_pem()).unwrap();
        std::fs::set_permissions(&pair.key, std::fs::Permissions::from_mode(0o600)).unwrap();
        pair
    }

    fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![CertificateDer::from_pem_file(&self.certificate).unwrap()]
    }

    fn private(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_file(&self.key).unwrap()
    }

    /// Whoever trusts this one certificate.
    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(self.chain());
        Arc::new(roots)
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// Speaks TLS and hands what it hears to a plain address; with `clients`, to those alone who show that certificate.
async fn terminate(plain: SocketAddr, server: &Pair, clients: Option<&Pair>) -> u16 {
    let config = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
    let config = match clients {
        None => config.with_no_client_auth(),
        Some(clients) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(clients.roots(), provider()).build().unwrap();
            config.with_client_cert_verifier(verifier)
        }
    };
    let config = config.with_single_cert(server.chain(), server.private()).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut plain = TcpStream::connect(plain).await.unwrap();
                // How it ended is not asked here.
                let _ = copy_bidirectional(&mut stream, &mut plain).await;
            });
        }
    });
    port
}

/// What differs between tests.
#[derive(Default)]
struct Settings<'a> {
    app: &'a str,
    app_settings: String,
    relay: String,
    issuer: &'a str,
    provider: String,
}

struct Started {
    running: Running,
    _folder: tempfile::TempDir,
}

async fn start(settings: Settings<'_>) -> Started {
    let folder = tempfile::tempdir().unwrap();
    let text = CONFIG
        .replace("APPSETTINGS", &settings.app_settings)
        .replace("RELAYSETTINGS", &settings.relay)
        .replace("PROVIDERSETTINGS", &settings.provider)
        .replace("ISSUER", settings.issuer)
        .replace("APP", settings.app);
    let file = folder.path().join("loginsync.toml");
    let around = Surroundings { file: &file, read: &|path| std::fs::read(path), environment: &|_| None, now: NOW };
    let mut config = Config::from_text(&text, &around).unwrap_or_else(|faults| panic!("{faults}"));
    config.store.place = loginsync::config::Place::File(folder.path().join("store.db"));
    let started = app::start(file.clone(), config, Clock::fixed(NOW), None).await;
    Started { running: started.unwrap_or_else(|error| panic!("{error}")), _folder: folder }
}

#[tokio::test]
async fn the_app_may_be_behind_tls() {
    let folder = tempfile::tempdir().unwrap();
    let server = Pair::make(folder.path(), "server", "localhost");
    let stranger = Pair::make(folder.path(), "stranger", "localhost");
    let large = "x".repeat(3_000_000);
    let app = App::with(move |request| match request.target() {
        "/large" => respond("200 OK", "", &large),
        "/switch" => Reply::Switch,
        _ => ok("hello"),
    })
    .await;
    let port = terminate(app.address, &server, None).await;
    let trusting = |pair: &Pair| format!("ca_file = {:?}", pair.certificate);
    let idp = Idp::start().await;
    let issuer = idp.issuer();
    let url = format!("https://localhost:{port}");
    let settings = Settings { app: &url, app_settings: trusting(&server), issuer: &issuer, ..Settings::default() };
    let house = start(settings).await;
    let proxy = house.running.proxy;
    for _ in 0..3 {
        assert_eq!(get(proxy, "/", "").await.body, "hello");
    }
    assert_eq!(get(proxy, "/large", "").await.body.len(), 3_000_000);
    assert_eq!(wire::post(proxy, "/form", "", &"a=1&".repeat(50_000)).await.status, 200);
    assert_eq!(app.last().body.len(), 200_000);

    let mut tunnel = TcpStream::connect(proxy).await.unwrap();
    let head = "GET /switch HTTP/1.1\r\nhost: app.example\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
    tunnel.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(wire::read(&mut tunnel).await.status, 101);
    tunnel.write_all(b"through").await.unwrap();
    let mut echoed = [0; 7];
    tunnel.read_exact(&mut echoed).await.unwrap();
    assert_eq!(&echoed, b"through");

    // An app that is not who it should be hears nothing.
    let heard = app.received().len();
    let by_address = format!("https://127.0.0.1:{port}");
    for (url, trusted) in [(&url, &stranger), (&by_address, &server)] {
        let settings = Settings { app: url, app_settings: trusting(trusted), issuer: &issuer, ..Settings::default() };
        let house = start(settings).await;
        assert_eq!(get(house.running.proxy, "/", "").await.status, 502, "{url}");
    }
    assert_eq!(app.received().len(), heard);
}

fn claims(idp: &Idp) -> serde_json::Value {
    let now = NOW.seconds();
    json!({"iss": idp.issuer(), "aud": "the-app", "sub": "alice", "iat": now, "exp": now + 300, "groups": ["staff"]})
}

fn reply(idp: &Idp) -> Scripted {
    let id_token = idp.sign(&claims(idp));
    Scripted::json(json!({"token_type": "Bearer", "access_token": "a", "id_token": id_token}).to_string())
}

const CODE: &str = "grant_type=authorization_code&code=c&client_id=the-app";

fn exchange() -> String {
    format!(
        "POST /idp/token HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-www-form-urlencoded\r\n\
         content-length: {}\r\n\r\n{CODE}",
        CODE.len()
    )
}

async fn groups(house: &Started) -> Vec<String> {
    let user = UserId { namespace: Namespace::parse("idp").unwrap(), subject: Subject::parse("alice").unwrap() };
    let rules = house.running.rules.current();
    house
        .running
        .store
        .user(user, rules, Clock::system().now())
        .await
        .unwrap()
        .map(|user| user.groups)
        .unwrap_or_default()
}

#[tokio::test]
async fn the_relay_speaks_tls_where_it_has_a_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let server = Pair::make(folder.path(), "relay", "localhost");
    let idp = Idp::start().await;
    let issuer = idp.issuer();
    let relay = format!("tls_certificate = {:?}\ntls_key = {:?}", server.certificate, server.key);
    let settings = Settings { app: "http://127.0.0.1:1", relay, issuer: &issuer, ..Settings::default() };
    let house = start(settings).await;
    let address = house.running.relay.unwrap();

    // Nobody is talked to who does not speak it, and nothing is asked of the provider.
    let mut plain = TcpStream::connect(address).await.unwrap();
    plain.write_all(exchange().as_bytes()).await.unwrap();
    let mut heard = Vec::new();
    // It may end by a reset.
    let _ = plain.read_to_end(&mut heard).await;
    assert!(!heard.starts_with(b"HTTP"), "{}", String::from_utf8_lossy(&heard));
    assert!(idp.asked("/token").is_empty());

    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        idp.answers("/token", reply(&idp));
        let client = ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[version]).unwrap();
        let client = client.with_root_certificates(server.roots()).with_no_client_auth();
        let stream = TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let mut stream = TlsConnector::from(Arc::new(client)).connect(name, stream).await.unwrap();
        stream.write_all(exchange().as_bytes()).await.unwrap();
        let answer = wire::read(&mut stream).await;
        assert_eq!(answer.status, 200, "{version:?}: {answer:?}");
        assert_eq!(groups(&house).await, ["Staff"], "{version:?}");
    }
    let document = get_document(address, &server).await;
    // By the address of the configuration, whose port is any that is free.
    assert_eq!(document["token_endpoint"], "https://127.0.0.1:0/idp/token");
}

/// The provider's discovery document, as the relay serves it.
async fn get_document(address: SocketAddr, server: &Pair) -> serde_json::Value {
    let client = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
    let client = client.with_root_certificates(server.roots()).with_no_client_auth();
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = TlsConnector::from(Arc::new(client)).connect(name, stream).await.unwrap();
    let request = "GET /idp/.well-known/openid-configuration HTTP/1.1\r\nhost: localhost\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    serde_json::from_str(&wire::read(&mut stream).await.body).unwrap()
}

/// RFC 8705 section 2: a client that is known by its certificate.
#[tokio::test]
async fn a_provider_that_asks_for_a_certificate_is_shown_ours() {
    let folder = tempfile::tempdir().unwrap();
    let server = Pair::make(folder.path(), "server", "localhost");
    let ours = Pair::make(folder.path(), "ours", "the-app");
    let another = Pair::make(folder.path(), "another", "the-app");
    let idp = Idp::start().await;
    let issuer = idp.issuer();
    let port = terminate(idp.address, &server, Some(&ours)).await;
    let endpoint = format!("token_endpoint = \"https://localhost:{port}/token\"\nca_file = {:?}", server.certificate);
    let shown = |pair: &Pair| format!("client_certificate = {:?}\nclient_key = {:?}", pair.certificate, pair.key);
    for (what, identity, expected) in
        [("none", String::new(), 502), ("another", shown(&another), 502), ("ours", shown(&ours), 200)]
    {
        idp.answers("/token", reply(&idp));
        let provider = format!("{endpoint}\n{identity}");
        let settings = Settings { app: "http://127.0.0.1:1", issuer: &issuer, provider, ..Settings::default() };
        let house = start(settings).await;
        let answer = wire::send(house.running.relay.unwrap(), exchange()).await;
        assert_eq!(answer.status, expected, "{what}: {answer:?}");
        let synced = expected == 200;
        assert_eq!(groups(&house).await.len(), usize::from(synced), "{what}");
        assert_eq!(idp.asked("/token").len(), usize::from(synced), "{what}");
    }
}
