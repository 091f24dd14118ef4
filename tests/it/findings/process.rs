//! Configuration, secrets, locks and liveness of the process.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::api::{self, ADMIN};
use crate::faces;
use crate::kit::read;
use crate::relying_party::{Scene, Setting};
use crate::support::idp::Scripted;

const RENEWED: Setting = Setting { base: "", session: "renew = \"5m\"", top: "", listen: "", provider: "", more: "" };

/// Runs a test on threads of its own, so that a deadlock fails it instead of hanging the suite.
fn within<F: Future<Output = ()>>(limit: Duration, test: impl FnOnce() -> F + Send + 'static) {
    let (done, finished) = std::sync::mpsc::sync_channel(1);
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(test());
        let _ = done.send(());
    });
    match finished.recv_timeout(limit) {
        Ok(()) => thread.join().unwrap(),
        Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => {
            std::panic::resume_unwind(thread.join().expect_err("it ended without saying so"))
        }
        Err(std::sync::mpsc::RecvTimeoutError::Timeout) => panic!("nothing answers any more"),
    }
}

#[test]
fn sec19_two_requests_of_a_session_whose_renewal_is_due_are_both_served() {
    within(Duration::from_secs(30), || async {
        let scene = Scene::open(RENEWED).await;
        let mut browser = scene.browser();
        browser.log_in(|_| {}).await;
        scene.later(301);
        let token = scene.token("", |claims| claims["groups"] = json!(["board"]));
        let slow = Scripted::json(json!({"id_token": token, "refresh_token": "rt-2"}).to_string());
        scene.idp.answers("/token", Scripted { after: Duration::from_millis(500), ..slow });
        let cookies = browser.cookies.clone();
        let request = |page: &'static str| {
            let mut browser = scene.browser();
            browser.cookies = cookies.clone();
            async move { browser.get(page).await.status }
        };
        let second = async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let resynced = async { scene.house.running.resync(crate::relying_party::user("alice")).await.unwrap() };
            tokio::join!(request("/page"), request("/other"), resynced)
        };
        let (first, (second, third, resynced)) = tokio::join!(request("/page"), second);
        assert_eq!([first, second, third], [200; 3]);
        assert!(resynced.is_empty(), "the renewal that is under way is left alone: {resynced:?}");
        assert_eq!(scene.idp.asked("/token").len(), 2, "the login and one renewal");
        assert_eq!(browser.groups().await.as_deref(), Some("Board"), "and it went through");
    });
}

/// The status of `/healthz`, asked as a supervisor does.
fn health(admin: SocketAddr) -> String {
    let mut stream = TcpStream::connect(admin).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn sec19_health_answers_and_fails_while_worker_threads_are_stuck() {
    within(Duration::from_secs(60), || async {
        let scene = Scene::open(RENEWED).await;
        let admin = scene.house.running.admin;
        for stuck_threads in [1, 2] {
            assert!(health(admin).starts_with("HTTP/1.1 200 "));
            let mut release = Vec::new();
            for _ in 0..stuck_threads {
                let (free, held) = std::sync::mpsc::sync_channel::<()>(0);
                tokio::spawn(async move {
                    let _ = held.recv();
                });
                release.push(free);
            }
            let begun = Instant::now();
            while health(admin).starts_with("HTTP/1.1 200 ") {
                assert!(begun.elapsed() < Duration::from_secs(20), "nobody notices");
                // Blocks on purpose: what drives the runtime's timers is stuck.
                std::thread::sleep(Duration::from_millis(200));
            }
            let answer = health(admin);
            assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("worker thread"), "{answer}");
            assert!(begun.elapsed() > Duration::from_secs(5), "a long task is no deadlock");
            drop(release);
            std::thread::sleep(Duration::from_secs(3));
        }
        assert!(health(admin).starts_with("HTTP/1.1 200 "));
    });
}

/// Combinators that evaluate their argument whether or not they use it.
const EAGER: [&str; 10] = [
    "then_some(",
    ".unwrap_or(",
    ".ok_or(",
    ".or(",
    ".and(",
    ".xor(",
    ".get_or_insert(",
    ".map_or(",
    ".or_insert(",
    ".replace(",
];

/// A value with a `Drop` that is made as an eager argument is dropped on the spot where it is not used, in the middle of an
/// expression that may hold a lock. And a `Drop` that takes a lock must say why nobody can hold it there.
#[test]
fn sec19_no_guard_is_an_eager_argument() {
    let mut sources = Vec::new();
    for folder in ["/src", "/crates"] {
        read_sources(Path::new(&format!("{}{folder}", env!("CARGO_MANIFEST_DIR"))), &mut sources);
    }
    let guards: BTreeSet<&str> = sources
        .iter()
        .flat_map(|(_, text)| text.split("Drop for ").skip(1))
        .filter_map(|rest| rest.split(|letter: char| !letter.is_alphanumeric()).next())
        .collect();
    assert!(guards.contains("Alone") && guards.len() >= 5, "{guards:?}");
    for (file, text) in &sources {
        for eager in EAGER {
            for (at, _) in text.match_indices(eager) {
                let argument = balanced(&text[at + eager.len()..]);
                let made = guards.iter().find(|guard| {
                    ["{", "::", "("].iter().any(|next| {
                        argument.contains(&format!("{guard}{next}")) || argument.contains(&format!("{guard} {next}"))
                    })
                });
                assert!(made.is_none(), "{file}: `{eager}{argument})` makes a {made:?} whether it is used or not");
            }
        }
        for (at, _) in text.match_indices("Drop for ") {
            let line = text[..at].rsplit('\n').next().unwrap();
            let indent = &line[..line.len() - line.trim_start().len()];
            let body = text[at..].split(&format!("\n{indent}}}")).next().unwrap();
            let locks = body.contains(".lock()") || body.contains(".write()") || body.contains(".read()");
            assert!(
                !locks || body.contains("// Locks: "),
                "{file}: a `Drop` takes a lock; say `// Locks: ` why it may: {body}"
            );
        }
    }
}

/// The text up to the bracket that closes it.
fn balanced(text: &str) -> &str {
    let mut depth = 0;
    for (at, letter) in text.char_indices() {
        match letter {
            '(' => depth += 1,
            ')' if depth == 0 => return &text[..at],
            ')' => depth -= 1,
            _ => {}
        }
    }
    text
}

fn read_sources(folder: &Path, sources: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_sources(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            sources.push((path.display().to_string(), std::fs::read_to_string(&path).unwrap()));
        }
    }
}

const CONFIG: &str = r#"
public_url = "http://127.0.0.1:8080"
[app]
url = "http://127.0.0.1:3000"
[listen]
address = "127.0.0.1:0"
LISTEN
[admin]
address = "127.0.0.1:0"
[store]
path = "store.db"
[[provider]]
name = "saml"
mode = "saml-post"
issuer = "https://idp.example/saml"
audience = "https://app.example/saml"
callback = "/saml/acs"
certificate_files = ["idp.crt"]
sso_url = "https://idp.example/sso"
SAML
[[provider]]
name = "oidc"
mode = "MODE"
issuer = "https://idp.example"
client_id = "the app"
OIDC
MORE
"#;

/// A folder with a configuration, and what `check` says to it.
struct Checked {
    folder: tempfile::TempDir,
}

impl Checked {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("idp.crt"), read("keys/idp-rsa.certificate.test-only.pem")).unwrap();
        Self { folder }
    }

    fn write(&self, name: &str, text: &str) -> std::path::PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// The configuration with a place filled in.
    fn config(&self, place: &str, text: &str) -> std::path::PathBuf {
        let relies = place == "OIDC" && text.contains("client_");
        let (mode, oidc) = match relies {
            true => ("relying-party", ""),
            false => ("oidc-form-post", "callback = \"/callback\"\n"),
        };
        let filled = CONFIG.replace(place, &format!("{place}\n{text}\n")).replace("MODE", mode);
        let filled = ["LISTEN", "SAML\n", "MORE"].iter().fold(filled, |all, place| all.replace(place, "\n"));
        self.write("loginsync.toml", &filled.replace("OIDC\n", oidc))
    }

    /// Everything that the command prints.
    fn says(&self, file: &Path) -> (bool, String) {
        let program =
            Command::new(env!("CARGO_BIN_EXE_loginsync")).args(["check", "--config"]).arg(file).output().unwrap();
        let text = [program.stdout, program.stderr].concat();
        (program.status.success(), String::from_utf8(text).unwrap())
    }
}

/// No text of a library about what may be secret is passed on: those quote their input.
#[test]
fn sec04_no_fault_repeats_what_a_secret_file_holds() {
    let key = read("keys/app-decryption.key.test-only.pem");
    let body: Vec<&str> = key.lines().filter(|line| !line.starts_with("-----")).collect();
    let spoilt = [
        ("literal line breaks", key.trim().replace('\n', "\\n"), "line breaks are missing"),
        ("blanks for line breaks", key.trim().replace('\n', " "), "line breaks are missing"),
        ("no end", format!("-----BEGIN PRIVATE KEY-----\n{}\n", body.join("\n")), "has no end"),
        ("no base64", key.replacen('\n', "\n*", 2), ""),
        ("the text alone", body.concat(), ""),
    ];
    let places = [
        ("SAML", "decryption_key_files = [\"secret\"]"),
        ("LISTEN", "tls_certificate = \"idp.crt\"\ntls_key = \"secret\""),
        ("OIDC", "client_key_file = \"secret\""),
        ("MORE", "[assertion]\nkey_file = \"secret\""),
        ("MORE", "[cookies]\nkeys_file = \"secret\""),
        ("OIDC", "jwks_file = \"secret\""),
    ];
    let checked = Checked::new();
    for (what, text, expected) in &spoilt {
        checked.write("secret", text);
        for (place, line) in places {
            let (good, said) = checked.says(&checked.config(place, line));
            assert!(!good && said.contains("secret"), "{what} {line}: {said}");
            let in_numbers = key.as_bytes()[60..64].iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
            let pieces = body.iter().flat_map(|line| [&line[..8], &line[line.len() - 8..]]);
            for piece in pieces.chain([in_numbers.as_str()]) {
                assert!(!said.contains(piece), "{what} {line}: `{piece}` in {said}");
            }
            if line.contains("decryption") || line.contains("tls_key") {
                assert!(said.contains(expected), "{what} {line}: {said}");
            }
        }
    }
    // Secrets where something else belongs, and where no TOML is.
    for (place, line) in [
        ("OIDC", "client_secret_env = \"s3cr3t-with-a-dash\""),
        ("OIDC", "client_secret = \"s3cr3t-with-a-dash\""),
        ("OIDC", "client_secret_file = s3cr3t-with-a-dash"),
        ("OIDC", "client_secret_file = \"s3cr3t-with-a-dash"),
        ("OIDC", "client_secret_file = \"\"\"\ns3cr3t-with-a-dash\n"),
        ("OIDC", "client_secret_file = \"s3cr3t-with-a-dash\" s3cr3t-with-a-dash"),
        ("SAML", "decryption_key_files = [\"-----BEGIN PRIVATE KEY----- s3cr3t-with-a-dash\"]"),
    ] {
        let (good, said) = checked.says(&checked.config(place, line));
        assert!(!good && !said.contains("s3cr3t"), "{line}: {said}");
    }
    checked.write("secret", r#"{"keys": [{"kty": "RSA", "d": "s3cr3t"}, "s3cr3t"], "keys": "s3cr3t"}"#);
    let (good, said) = checked.says(&checked.config("OIDC", "jwks_file = \"secret\""));
    assert!(!good && !said.contains("s3cr3t"), "{said}");
}

#[test]
fn sto4_a_key_that_is_too_deep_is_named_as_the_fault() {
    let checked = Checked::new();
    let deep = vec!["a"; 300].join(".");
    for text in [format!("{deep} = 1"), format!("x = {}1{}", "[".repeat(300), "]".repeat(300)), format!("[{deep}]")] {
        let (good, said) = checked.says(&checked.config("MORE", &text));
        assert!(!good && !said.contains("0 faults"), "{said}");
        assert!(said.contains("deep") || said.contains("recurs"), "{said}");
        let (good, said) = checked.says(&checked.write("alone.toml", &text));
        assert!(!good && !said.contains("0 faults") && said.contains("alone.toml"), "{said}");
    }
}

#[test]
fn sto5_the_limit_of_open_files_is_raised_and_a_low_one_is_told() {
    let checked = Checked::new();
    let file = checked.config("MORE", "");
    for (limits, told) in [("ulimit -Sn 300", false), ("ulimit -n 300", true)] {
        let log = checked.folder.path().join("log");
        let mut program = Command::new("sh")
            .args(["-c", &format!("{limits} && exec \"$0\" serve --config \"$1\"")])
            .arg(env!("CARGO_BIN_EXE_loginsync"))
            .arg(&file)
            .current_dir(checked.folder.path())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let begun = Instant::now();
        let said = loop {
            let said = std::fs::read_to_string(&log).unwrap();
            if said.contains("\"listening\"") || begun.elapsed() > Duration::from_secs(20) {
                break said;
            }
            std::thread::sleep(Duration::from_millis(50));
        };
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", program.id())).unwrap_or_default();
        program.kill().unwrap();
        program.wait().unwrap();
        let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap_or_else(|| panic!("{said}"));
        let [soft, hard] = [3, 4].map(|at| line.split_whitespace().nth(at).unwrap());
        assert_eq!(soft, hard);
        let warned = said.lines().filter(|line| line.contains("limit of open files")).collect::<Vec<_>>();
        if told {
            assert!(warned.len() == 1 && warned[0].contains("300") && warned[0].contains("20384"), "{said}");
        }
    }
}

#[test]
fn sto6_files_that_everyone_may_write_are_told() {
    let checked = Checked::new();
    std::fs::set_permissions(checked.folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let file = checked.config("OIDC", "client_secret_file = \"secret\"");
    let secret = checked.write("secret", "0123456789abcdef");
    let mode = |path: &Path, mode: u32| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    mode(&secret, 0o600);
    let quiet = checked.says(&file);
    assert!(quiet.0 && !quiet.1.contains("chmod"), "{quiet:?}");
    mode(&secret, 0o602);
    let (_, said) = checked.says(&file);
    assert!(said.contains("secret` (mode 0602)") && !said.contains("0123"), "{said}");
    mode(&secret, 0o600);
    mode(&file, 0o666);
    assert!(checked.says(&file).1.contains("loginsync.toml` (mode 0666)"));
    mode(&file, 0o644);
    mode(checked.folder.path(), 0o777);
    assert!(checked.says(&file).1.contains("(mode 0777)"));
    mode(checked.folder.path(), 0o1777);
    assert_eq!(checked.says(&file), quiet, "with the sticky bit nobody replaces the files of others");
}

/// DNS rebinding: a page of a stranger's whose name now leads to this listener.
#[tokio::test(flavor = "multi_thread")]
async fn sto6_the_admin_listener_is_asked_by_names_of_its_own() {
    let office = api::Office::with(
        "[admin]\npublic_url = \"https://sync.example.com\"\nhosts = [\"loginsync\", \"Sync.Internal\"]\n",
    )
    .await;
    let admin = office.house.running.admin;
    for (host, good) in [
        ("127.0.0.1:9901", true),
        ("10.1.2.3", true),
        ("[::1]:9901", true),
        ("localhost:9901", true),
        ("LOCALHOST", true),
        ("sync.example.com", true),
        ("sync.example.com:443", true),
        ("loginsync:9901", true),
        ("sync.internal.", true),
        ("rebound.example", false),
        ("sync.example.com.rebound.example", false),
        ("localhost.rebound.example:9901", false),
        ("127.0.0.1.rebound.example", false),
        ("127.0.0.1@rebound.example", false),
        ("", false),
    ] {
        for page in ["/metrics", "/readyz", "/api/v1/groups", "/identity/.well-known/openid-configuration"] {
            let answer = crate::support::wire::send(
                admin,
                format!(
                    "GET {page} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {ADMIN}\r\nconnection: close\r\n\r\n"
                ),
            )
            .await;
            if good {
                assert_eq!(answer.status, 200, "{host} {page}: {answer:?}");
            } else {
                assert_eq!(answer.status, 421, "{host} {page}: {answer:?}");
                assert!(answer.body.contains("admin.hosts"), "{answer:?}");
            }
        }
        // Supervisors ask by any name, and learn nothing by it.
        let health = format!("GET /healthz HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        assert_eq!(crate::support::wire::send(admin, health).await.status, 200, "{host}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sec07_a_call_without_a_body_does_not_mean_all() {
    let office = api::Office::open().await;
    for call in ["/api/v1/holds/release", "/api/v1/holds/discard"] {
        let (status, _, answer) = office.call(ADMIN, "POST", call, &[], None).await;
        assert_eq!(status, 400, "{call}");
        assert!(answer.body.contains("the body is required"), "{}", answer.body);
        assert_eq!(office.call(ADMIN, "POST", call, &[], Some(json!(null))).await.0, 422, "{call}");
        // A filter that was forgotten means no more.
        for body in
            [json!({}), json!({"all": false}), json!({"provider": null}), json!({"all": true, "provider": "oidc"})]
        {
            let (status, problem, _) = office.call(ADMIN, "POST", call, &[], Some(body.clone())).await;
            assert_eq!((status, &problem["errors"][0]["field"]), (422, &json!("all")), "{call} {body}: {problem}");
        }
        for body in [json!({"all": true}), json!({"provider": "oidc"})] {
            let (status, _, answer) = office.call(ADMIN, "POST", call, &[], Some(body.clone())).await;
            assert_eq!(status, 200, "{call} {body}: {}", answer.body);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sec08_discovery_names_the_public_address_or_none() {
    const PATH: &str = "/identity/.well-known/openid-configuration";
    let office = api::Office::with("[admin]\npublic_url = \"https://sync.example.com\"\n").await;
    for host in ["127.0.0.1", "sync.example.com:80", "localhost"] {
        let found = office.house.send_to(office.house.running.admin, "GET", PATH, &[("host", host)], b"").await;
        assert!(
            found.body.contains("\"token_endpoint\":\"https://sync.example.com/identity/connect/token\""),
            "{}",
            found.body
        );
        assert!(found.body.contains("\"issuer\":\"https://sync.example.com/identity\""), "{}", found.body);
    }
    let office = faces::Office::open().await;
    for (headers, known) in [
        (&[("host", "localhost:9901")][..], true),
        (&[], true),
        (&[("host", "10.0.0.7:9901")], false),
        (&[("host", "localhost"), ("x-forwarded-proto", "https")], false),
    ] {
        let found = office.call("GET", PATH, headers, "").await;
        assert_eq!(found.status, if known { 200 } else { 404 }, "{headers:?}: {}", found.text);
        assert_eq!(found.text.contains("http://"), known, "{}", found.text);
        assert_eq!(found.text.contains("admin.public_url"), !known, "{}", found.text);
    }
}
