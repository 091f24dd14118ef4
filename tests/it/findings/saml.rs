//! SAML documents that cost more than they should, or that two parsers read differently.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use loginsync::cli::demo::mint::saml::field;

use crate::kit::{body, certificates, key, login, processor_time, remembered, saml_provider, signed_assertion, submit};

/// One provider, in front of an app that does not exist.
const CONFIG: &str = r#"
public_url = "https://app.example"
[listen]
address = "127.0.0.1:0"
[admin]
address = "127.0.0.1:0"
[app]
url = "http://127.0.0.1:9"
[store]
path = "store.db"
[log]
format = "json"
[[provider]]
name = "idp"
mode = "saml-post"
issuer = "https://idp.example/saml"
audience = "https://app.example/saml"
callback = "/saml/acs"
certificate_files = ["CERTIFICATE"]
sso_url = "https://idp.example/sso"
allow_idp_initiated = true
[provider.claims.groups]
[[group]]
name = "Staff"
"#;

/// The program's own process, so that its memory can be told from the tests'.
struct Server {
    child: Child,
    address: String,
    log: BufReader<std::process::ChildStderr>,
}

impl Server {
    #[allow(clippy::zombie_processes, reason = "dropping it waits")]
    fn start(folder: &Path) -> Self {
        let certificate = format!("{}/fixtures/keys/idp-rsa.certificate.test-only.pem", env!("CARGO_MANIFEST_DIR"));
        let file = folder.join("loginsync.toml");
        std::fs::write(&file, CONFIG.replace("CERTIFICATE", &certificate)).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_loginsync"))
            .args(["serve", "--config"])
            .arg(&file)
            .current_dir(folder)
            .env("RUST_LOG", "info")
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let mut server = Self { child, address: String::new(), log };
        let line = server.line_with("\"listening\"");
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        server.address = line["proxy"].as_str().unwrap().to_owned();
        server
    }

    fn line_with(&mut self, text: &str) -> String {
        let mut line = String::new();
        while self.log.read_line(&mut line).unwrap() > 0 {
            if line.contains(text) {
                return line;
            }
            line.clear();
        }
        panic!("the program ended without `{text}`");
    }

    fn post(&self, form: &str) -> u16 {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        write!(
            stream,
            "POST /saml/acs HTTP/1.1\r\nhost: app.example\r\nconnection: close\r\n\
             content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{form}",
            form.len()
        )
        .unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        answer.split(' ').nth(1).unwrap_or_default().parse().unwrap_or_default()
    }

    /// The most memory that was resident so far, in KiB; `None` where the system does not tell.
    fn peak_memory(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        peak.trim().trim_end_matches("kB").trim().parse().ok()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A login with text of the sender's in its one attribute, a signature value that no key has made, and declarations on its
/// Response.
fn padded(declarations: &str, content: &str) -> String {
    let document = signed_assertion(&login(), &key("idp-rsa"));
    let value = document.split("SignatureValue>").nth(1).unwrap().split('<').next().unwrap();
    let forged: String = value.chars().map(|c| if c == 'A' { 'B' } else { c }).collect();
    document
        .replace(value, &forged)
        .replacen("<samlp:Response ", &format!("<samlp:Response {declarations} "), 1)
        .replacen(">staff<", &format!(">{content}<"), 1)
}

/// Names of namespaces of that length, for prefixes `a0`, `a1` and so on.
fn declarations(count: usize, length: usize) -> String {
    let name = |n: usize| format!("urn:{n:02}{}", "u".repeat(length - 6));
    (0..count).map(|n| format!("xmlns:a{n}='{}' ", name(n))).collect()
}

/// What exclusive canonicalization and its neighbours are asked to multiply, by what the specifications allow: the
/// document, and how it is refused.
fn amplifications() -> Vec<(&'static str, String, &'static str)> {
    let refused = "signature does not verify";
    let too_long = "the name of a namespace is longer than 512 bytes";
    let used: String = (0..20).map(|n| format!(" a{n}:b=''")).collect();
    let doubly: String = (0..20).map(|n| format!(" a{n}:b=\"'\"")).collect();
    vec![
        ("one long name, declared once", padded(&declarations(1, 128_000), &"<a0:b/>".repeat(15_000)), too_long),
        ("a little too long", padded(&declarations(1, 513), &"<a0:b/>".repeat(20_000)), too_long),
        ("as long as allowed", padded(&declarations(1, 512), &"<a0:b/>".repeat(20_000)), refused),
        ("many of them at each sibling", padded(&declarations(20, 512), &format!("<b{used}/>").repeat(1_200)), refused),
        ("and within quotes", padded(&declarations(20, 512), &format!("<b{doubly}/>").repeat(1_200)), refused),
        ("text that grows", padded("", &">".repeat(200_000)), refused),
        ("attributes that grow", padded("", &format!("<b c='{}'/>", "\"".repeat(200_000))), refused),
        ("empty elements that grow", padded("", &"<b/>".repeat(24_000)), refused),
        ("long names at their ends too", padded("", &format!("<{}/>", "b".repeat(200_000))), refused),
    ]
}

/// One unsigned response of 221 KB took 4 GiB and eleven seconds: a namespace name of 128,000 bytes, declared once, is
/// written again at each of 20,000 siblings.
#[test]
fn sec0_a_long_namespace_name_takes_neither_memory_nor_time() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(folder.path());
    let form = |document: &str| body("SAMLResponse", &field(document));
    // What is loaded at the first login only, is loaded now.
    assert_eq!(server.post(&form(&padded("", "staff"))), 403);
    let before = server.peak_memory();
    let huge = padded(&declarations(1, 120_000), &"<a0:a/>".repeat(15_000));
    assert!((200_000..256 * 1024).contains(&huge.len()), "{}", huge.len());
    let started = Instant::now();
    assert_eq!(server.post(&form(&huge)), 400);
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    server.line_with("the name of a namespace is longer than 512 bytes");
    if let (Some(before), Some(after)) = (before, server.peak_memory()) {
        // The request's body, decoded twice.
        assert!(after < before + 8 * 1024, "{before} KiB before, {after} KiB after");
    }
}

/// Every other way to have a short document canonicalized to a long one.
#[test]
fn sec0_nothing_that_the_specifications_multiply_takes_long() {
    let (provider, certificates) = (saml_provider(), certificates(&["idp-rsa"]));
    for (what, document, expected) in amplifications() {
        assert!(document.len() <= 256 * 1024, "{what}: {}", document.len());
        let before = processor_time();
        let refusal = submit(&provider, &certificates, &document, &remembered()).unwrap_err();
        assert!(refusal.contains(expected), "{what}: {refusal}");
        let took = processor_time().saturating_sub(before);
        assert!(took < Duration::from_secs(2), "{what}: took {took:?}");
    }
}

/// XML 1.1 allows characters and line ends that 1.0 does not, so one document would have two readings.
#[test]
fn sto6_another_version_of_xml_is_refused() {
    let (provider, certificates) = (saml_provider(), certificates(&["idp-rsa"]));
    let good = signed_assertion(&login(), &key("idp-rsa"));
    for version in ["1.1", "2.0", "1.0 ", ""] {
        let document = format!("<?xml version=\"{version}\"?>{good}");
        let refusal = submit(&provider, &certificates, &document, &remembered()).unwrap_err();
        assert!(refusal.contains("declares XML version"), "{version}: {refusal}");
    }
    assert!(submit(&provider, &certificates, &format!("<?xml version='1.0'?>{good}"), &remembered()).is_ok());
}
