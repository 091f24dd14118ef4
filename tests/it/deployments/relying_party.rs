//! SAY1: what the authorization request asks, how the answer comes, and mutual TLS.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;

use crate::relying_party::{Scene, Setting, location};
use crate::support::idp::Idp;

const ASKS: Setting = Setting {
    base: "",
    provider: "authorization_parameters = { prompt = \"select_account\", access_type = \"offline\", acr_values = \"a b&state=x\" }\n\
               forward_login_hint = true",
    top: "",
    listen: "",
    session: "",
    more: "",
};

#[tokio::test]
async fn say01_the_request_asks_what_the_operator_says_and_nothing_of_ours_changes() {
    let scene = Scene::open(ASKS).await;
    let mut browser = scene.browser();
    let left = browser.leave_by("/.loginsync/sign-in?rd=%2Fpage&login_hint=al%40example.com").await;
    for (name, value) in [
        ("prompt", "select_account"),
        ("access_type", "offline"),
        ("acr_values", "a b&state=x"),
        ("login_hint", "al@example.com"),
        ("response_type", "code"),
        ("scope", "openid profile email"),
        ("code_challenge_method", "S256"),
    ] {
        assert_eq!(left.query[name], value, "{name}");
    }
    assert!(!left.query.contains_key("response_mode"));
    let names: Vec<String> =
        url::Url::parse(&left.address).unwrap().query_pairs().map(|(name, _)| name.into_owned()).collect();
    assert_eq!(names.len(), left.query.len(), "each once: {names:?}");
    scene.tokens(&scene.token(&left.query["nonce"], |_| {}));
    let back = browser.get(&format!("/.loginsync/callback?code=c&state={}", left.query["state"])).await;
    assert_eq!(back.status, 303);
    assert_eq!(browser.groups().await.as_deref(), Some("Staff"));
}

/// A hint goes on only where the operator says so, and only if it could be one.
#[tokio::test]
async fn say01_a_login_hint_is_bounded_and_asked_for() {
    let scene = Scene::open(ASKS).await;
    for hint in ["x".repeat(257), "a%0Ab".to_owned(), String::new()] {
        let left = scene.browser().leave_by(&format!("/.loginsync/sign-in?login_hint={hint}")).await;
        assert!(!left.query.contains_key("login_hint"), "{hint}");
    }
    let twice = scene.browser().get("/.loginsync/sign-in?login_hint=a&login_hint=b").await;
    assert_eq!(twice.status, 400);
    let scene = Scene::open(Setting::default()).await;
    let left = scene.browser().leave_by("/.loginsync/sign-in?login_hint=a").await;
    assert!(!left.query.contains_key("login_hint"));
}

#[tokio::test]
async fn say01_an_answer_comes_as_a_form_where_it_was_asked_for_so() {
    let form_post = Setting { provider: "response_mode = \"form_post\"", ..Setting::default() };
    let scene = Scene::open(form_post).await;
    let mut browser = scene.browser();
    let left = browser.leave("/page").await;
    assert_eq!(left.query["response_mode"], "form_post");
    assert!(browser.cookies.keys().all(|name| name.starts_with("__Host-")));
    scene.tokens(&scene.token(&left.query["nonce"], |_| {}));
    let answer = format!("code=c&state={}", left.query["state"]);
    let back = browser.post("/.loginsync/callback", &answer).await;
    assert_eq!((back.status, location(&back).as_str()), (303, "https://app.example/page"), "{back:?}");
    assert_eq!(browser.groups().await.as_deref(), Some("Staff"));

    // Another browser's answer, one in the address, one that is no form, and one twice.
    let mut browser = scene.browser();
    let left = browser.leave("/page").await;
    scene.tokens(&scene.token(&left.query["nonce"], |_| {}));
    let answer = format!("code=c&state={}", left.query["state"]);
    assert_eq!(scene.browser().post("/.loginsync/callback", &answer).await.status, 403);
    let json = [("content-type", "application/json")];
    let body = format!("{{\"code\":\"c\",\"state\":\"{}\"}}", left.query["state"]);
    assert_eq!(browser.send("POST", "/.loginsync/callback", &json, body.as_bytes()).await.status, 400);
    assert_eq!(browser.post("/.loginsync/callback", &format!("{answer}&state=x")).await.status, 400);
    assert_eq!(browser.get(&format!("/.loginsync/callback?{answer}")).await.status, 400);
    assert_eq!(browser.groups().await, None);

    // And a form where the address was asked for.
    let scene = Scene::open(Setting::default()).await;
    let mut browser = scene.browser();
    let left = browser.leave("/page").await;
    scene.tokens(&scene.token(&left.query["nonce"], |_| {}));
    let answer = format!("code=c&state={}", left.query["state"]);
    assert_eq!(browser.post("/.loginsync/callback", &answer).await.status, 405);
    assert!(!scene.has_users().await);
}

/// A token endpoint that takes none but one client certificate, and tells what it was sent.
async fn mutual_tls(
    folder: &Path,
    host: &str,
    answer: impl Fn() -> String + Send + 'static,
) -> (SocketAddr, mpsc::Receiver<String>) {
    let certificate = |name: &str, host: &str| {
        let made = rcgen::generate_simple_self_signed(vec![host.to_owned()]).unwrap();
        std::fs::write(folder.join(format!("{name}.crt")), made.cert.pem()).unwrap();
        std::fs::write(folder.join(format!("{name}.key")), made.signing_key.serialize_pem()).unwrap();
        (made.cert.der().clone(), made.signing_key.serialize_der())
    };
    let (server, key) = certificate("server", host);
    let (client, _) = certificate("client", "the-app");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(client).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(vec![server], rustls::pki_types::PrivatePkcs8KeyDer::from(key).into())
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (told, heard) = mpsc::channel(8);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut request = vec![0; 16_384];
            let mut length = 0;
            while !String::from_utf8_lossy(&request[..length]).contains("client_id=") {
                match stream.read(&mut request[length..]).await {
                    Ok(read @ 1..) => length += read,
                    _ => break,
                }
            }
            told.send(String::from_utf8_lossy(&request[..length]).into_owned()).await.unwrap();
            let body = answer();
            let head =
                format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
            stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
            let _ = stream.shutdown().await;
        }
    });
    (address, heard)
}

#[tokio::test(flavor = "multi_thread")]
async fn say01_a_client_is_known_by_its_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let token: Arc<Mutex<String>> = Arc::default();
    let answered = Arc::clone(&token);
    let answer = move || {
        json!({"id_token": *answered.lock().unwrap(), "access_token": "at", "token_type": "Bearer"}).to_string()
    };
    let (address, mut heard) = mutual_tls(folder.path(), "localhost", answer).await;
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let own = |identity: &str| {
        let own = format!(
            "client_auth = \"tls\"\nca_file = \"{}\"\ntoken_endpoint = \"https://localhost:{}/token\"\n{identity}",
            path("server.crt"),
            address.port()
        );
        Setting { provider: Box::leak(own.into_boxed_str()), ..Setting::default() }
    };
    let client = format!("client_certificate = \"{}\"\nclient_key = \"{}\"", path("client.crt"), path("client.key"));
    let stranger = format!("client_certificate = \"{}\"\nclient_key = \"{}\"", path("server.crt"), path("server.key"));
    for (identity, status) in [(client, 303), (stranger, 503)] {
        let scene = Scene::with_secret(Idp::start().await, own(&identity), false).await;
        let mut browser = scene.browser();
        let left = browser.leave("/page").await;
        *token.lock().unwrap() = scene.token(&left.query["nonce"], |_| {});
        let back = browser.get(&format!("/.loginsync/callback?code=c&state={}", left.query["state"])).await;
        assert_eq!(back.status, status, "{back:?}");
    }
    let request = heard.recv().await.unwrap();
    assert!(request.contains("client_id=the+app") && !request.to_lowercase().contains("authorization:"), "{request}");
    assert!(!request.contains("client_secret") && heard.try_recv().is_err(), "the stranger is not heard");
}

/// A proxy that opens tunnels to one server, whatever host is asked for, and keeps the heads that it was sent.
async fn tunnels(to: SocketAddr, answer: &'static str) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let heads: Arc<Mutex<Vec<String>>> = Arc::default();
    let kept = Arc::clone(&heads);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(client.read_u8().await.unwrap());
            }
            kept.lock().unwrap().push(String::from_utf8(head).unwrap());
            client.write_all(answer.as_bytes()).await.unwrap();
            let mut server = tokio::net::TcpStream::connect(to).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut client, &mut server).await });
        }
    });
    (address, heads)
}

/// SAY3: providers are asked through the egress proxy, in a tunnel; what is excepted is not, and neither is this machine.
#[tokio::test(flavor = "multi_thread")]
async fn say03_providers_are_asked_through_the_proxy() {
    const OPEN: &str = "HTTP/1.1 200 Connection established\r\nVia: proxy\r\n\r\n";
    const SHUT: &str = "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n";
    for (answer, except, status) in [(OPEN, "", 303), (SHUT, "", 503), (OPEN, "no_proxy = [\".test\"]", 503)] {
        let folder = tempfile::tempdir().unwrap();
        let token: Arc<Mutex<String>> = Arc::default();
        let answered = Arc::clone(&token);
        let tokens =
            move || json!({"id_token": *answered.lock().unwrap(), "access_token": "at", "token_type": "Bearer"});
        let (server, _heard) = mutual_tls(folder.path(), "idp.test", move || tokens().to_string()).await;
        let (proxy, heads) = tunnels(server, answer).await;
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let provider = format!(
            "client_auth = \"tls\"\nca_file = \"{}\"\ntoken_endpoint = \"https://idp.test/token\"\n\
             client_certificate = \"{}\"\nclient_key = \"{}\"",
            path("server.crt"),
            path("client.crt"),
            path("client.key")
        );
        let more = format!("[egress]\nproxy = \"http://{proxy}\"\n{except}");
        let setting = Setting {
            provider: Box::leak(provider.into_boxed_str()),
            more: Box::leak(more.into_boxed_str()),
            ..Setting::default()
        };
        // Its keys come from this machine, and so directly.
        let scene = Scene::with_secret(Idp::start().await, setting, false).await;
        let mut browser = scene.browser();
        let left = browser.leave("/page").await;
        *token.lock().unwrap() = scene.token(&left.query["nonce"], |_| {});
        let back = browser.get(&format!("/.loginsync/callback?code=c&state={}", left.query["state"])).await;
        assert_eq!(back.status, status, "{answer} {except}");
        let heads = heads.lock().unwrap().clone();
        match !except.is_empty() {
            true => assert!(heads.is_empty(), "{heads:?}"),
            false => assert_eq!(heads, ["CONNECT idp.test:443 HTTP/1.1\r\nHost: idp.test:443\r\n\r\n"]),
        }
    }
}
