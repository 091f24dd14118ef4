//! SAML documents that cost more than they should, or that two parsers read differently.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use loginsync::cli::demo::mint::saml::{
    self, ContentEncryption, KeyTransport, Recipient, SamlLogin, Signer, assertion, field,
};
use loginsync::cli::demo::mint::{Curve, Hash, KeyKind, MintKey};
use loginsync::clock::Clock;
use loginsync::pipeline::verify::saml::CertificateSet;

use crate::kit::{
    ACS, AUDIENCE, ISSUER, body, certificates, key, login, processor_time, remembered, saml_provider, signed_assertion,
    signed_response, signer, submit,
};

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
certificate_files = ["KEYS/idp-rsa.certificate.test-only.pem", "KEYS/idp-p256.certificate.test-only.pem"]
decryption_key_files = ["KEYS/app-decryption.key.test-only.pem"]
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
        let keys = format!("{}/fixtures/keys", env!("CARGO_MANIFEST_DIR"));
        let file = folder.join("loginsync.toml");
        std::fs::write(&file, CONFIG.replace("KEYS", &keys)).unwrap();
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
        self.answer(form).0
    }

    /// Status and page.
    fn answer(&self, form: &str) -> (u16, String) {
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
        let status = answer.split(' ').nth(1).unwrap_or_default().parse().unwrap_or_default();
        (status, answer.split_once("\r\n\r\n").map(|(_, page)| page.to_owned()).unwrap_or_default())
    }

    /// Has the most be counted anew, and gives what is resident now, in KiB.
    fn memory_from_now(&self) -> Option<u64> {
        std::fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5").ok()?;
        self.peak_memory()
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
    let grows = "grows too much when it is canonicalized";
    let too_long = "the name of a namespace is longer than 512 bytes";
    let used: String = (0..20).map(|n| format!(" a{n}:b=''")).collect();
    let quotes: String = (0..20).map(|n| format!(" a{n}:b='\"\"\"\"'")).collect();
    let listed = |count: usize| {
        let names: String = (0..count).map(|n| format!("a{n} ")).collect();
        let list = format!(
            "<ec:InclusiveNamespaces xmlns:ec=\"http://www.w3.org/2001/10/xml-exc-c14n#\" PrefixList=\"{names}\"/>"
        );
        let end = "</ds:Transform></ds:Transforms>";
        padded(&declarations(20, 512), &"<b/>".repeat(20_000)).replacen(end, &format!("{list}{end}"), 1)
    };
    let deep = format!("{}{}", "<b xmlns='urn:1'><b xmlns='urn:2'>".repeat(12), "</b></b>".repeat(12));
    vec![
        ("one long name, declared once", padded(&declarations(1, 128_000), &"<a0:b/>".repeat(15_000)), too_long),
        ("a little too long", padded(&declarations(1, 513), &"<a0:b/>".repeat(20_000)), too_long),
        ("as long as allowed", padded(&declarations(1, 512), &"<a0:b/>".repeat(20_000)), grows),
        ("below the limit of growth", padded(&declarations(1, 30), &"<a0:b/>".repeat(20_000)), refused),
        ("many of them at each sibling", padded(&declarations(20, 512), &format!("<b{used}/>").repeat(1_000)), grows),
        ("and with quotes", padded(&declarations(20, 512), &format!("<b{quotes}/>").repeat(800)), grows),
        ("a list of prefixes that are in scope", listed(20), refused),
        ("a list of prefixes without end", listed(1_000), "keeps more than 32 namespace prefixes"),
        ("declared again at each level", padded("", &deep.repeat(300)), refused),
        ("text that grows", padded("", &">".repeat(200_000)), refused),
        ("attributes that grow", padded("", &format!("<b c='{}'/>", "\"".repeat(200_000))), refused),
        ("references to line ends", padded("", &"&#13;".repeat(40_000)), refused),
        ("empty elements that grow", padded("", &"<b/>".repeat(24_000)), refused),
        ("attributes without end", padded("", &"<b c='' d='' e='' f=''/>".repeat(8_000)), refused),
        ("a long name at both ends", padded("", &format!("<{}/>", "b".repeat(120_000))), refused),
    ]
}

/// As many as one provider may have, each with a key of that kind.
fn eight_certificates(kind: KeyKind) -> CertificateSet {
    let ders = (0..8).map(|_| MintKey::generate(kind).unwrap().certificate("idp").unwrap());
    CertificateSet::from_ders(ders).unwrap()
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
    let provider = saml_provider();
    let rsa = eight_certificates(KeyKind::Rsa);
    let elliptic = eight_certificates(KeyKind::Ec(Curve::P521));
    // Twenty milliseconds are promised of what is shipped; what tests run is built without optimizations.
    let bound = Duration::from_millis(if cfg!(debug_assertions) { 2_000 } else { 20 });
    let mut slowest = (Duration::ZERO, "");
    for (what, document, expected) in amplifications() {
        assert!(document.len() <= 256 * 1024, "{what}: {}", document.len());
        let by_curve = document.replace("xmldsig-more#rsa-sha256", "xmldsig-more#ecdsa-sha512");
        for (document, certificates) in [(&document, &rsa), (&by_curve, &elliptic)] {
            let before = processor_time();
            let refusal = submit(&provider, certificates, document, &remembered()).unwrap_err();
            assert!(refusal.contains(expected), "{what}: {refusal}");
            let took = processor_time().saturating_sub(before);
            assert!(took < bound, "{what}: took {took:?}");
            slowest = slowest.max((took, what));
        }
    }
    println!("slowest: {slowest:?}");
}

/// None of them takes more than 8 MiB beside its body, the form that it came in and the document.
#[test]
fn sec0_nothing_that_the_specifications_multiply_takes_memory() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let form = |document: &str| body("SAMLResponse", &field(document));
    // The form of a document of the greatest length, and nothing else.
    let plain = format!("<a>{}</a>", " ".repeat(256 * 1024 - 7));
    for _ in 0..3 {
        assert_eq!(server.post(&form(&plain)), 400);
        assert_eq!(server.post(&form(&padded("", "staff"))), 403);
    }
    for (what, document, _) in amplifications() {
        let before = server.memory_from_now();
        let status = server.post(&form(&document));
        assert!(matches!(status, 400 | 403), "{what}: {status}");
        if let (Some(before), Some(after)) = (before, server.peak_memory()) {
            assert!(after < before + 8 * 1024, "{what}: {before} KiB before, {after} KiB after");
        }
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

/// A login that the running program takes, by its own clock.
fn login_now() -> SamlLogin {
    let mut login = SamlLogin::new(ISSUER, AUDIENCE, ACS, ("_response-1", "_assertion-1"), Clock::system().now().0);
    login.name_id = Some(("alice".into(), None));
    login
}

/// One sentence stood for everything that can be wrong with an encrypted assertion. The log says which it was; the page does
/// not, since it would tell a stranger about the key.
#[test]
fn log13_the_log_says_why_an_assertion_stays_closed() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(folder.path());
    let login = login_now();
    let signed = saml::sign(&assertion(&login), &login.assertion_id, signer(&key("idp-rsa"))).unwrap();
    let encrypted = |to: &str, transport: KeyTransport| {
        let public_key = key(to).public_key().unwrap();
        let content = ContentEncryption::Aes256Gcm;
        let recipient = Recipient { public_key: &public_key, content, transport, beside: false };
        saml::response(&login, &saml::encrypt(&signed, recipient).unwrap())
    };
    let good = encrypted("app-decryption", KeyTransport::OaepSha1);
    let newer = encrypted("app-decryption", KeyTransport::OaepSha256);
    let mgf1p = "http://www.w3.org/2001/04/xmlenc#rsa-oaep-mgf1p";
    let digest = "<ds:DigestMethod xmlns:ds=\"http://www.w3.org/2000/09/xmldsig#\" Algorithm=\"http://www.w3.org/2001/04/xmlenc#sha256\"/>";
    let with_digest = {
        let at = good.find(mgf1p).unwrap() + mgf1p.len();
        let end = at + good[at..].find('>').unwrap() + 1;
        format!("{}{digest}{}", &good[..end], &good[end..])
    };
    let end = good.rfind("</xenc:CipherValue>").unwrap();
    let other = if &good[end - 8..end - 7] == "A" { "B" } else { "A" };
    let changed = format!("{}{other}{}", &good[..end - 8], &good[end - 7..]);
    let cut_off = format!("{}{}", &good[..end - 64], &good[end..]);
    let rows = [
        (
            "RSA 1.5",
            good.replace(mgf1p, "http://www.w3.org/2001/04/xmlenc#rsa-1_5"),
            "is encrypted with `http://www.w3.org/2001/04/xmlenc#rsa-1_5`; expected RSA-OAEP",
        ),
        (
            "triple DES",
            good.replace(
                "http://www.w3.org/2009/xmlenc11#aes256-gcm",
                "http://www.w3.org/2001/04/xmlenc#tripledes-cbc",
            ),
            "its content is encrypted with `http://www.w3.org/2001/04/xmlenc#tripledes-cbc`",
        ),
        (
            "two hashes, by the older name",
            with_digest,
            "digest `http://www.w3.org/2001/04/xmlenc#sha256` and mask function `http://www.w3.org/2009/xmlenc11#mgf1sha1`",
        ),
        ("two hashes", newer.replace("mgf1sha256", "mgf1sha1"), "expected the same hash in both"),
        (
            "to another key",
            encrypted("stranger-rsa", KeyTransport::OaepSha1),
            "none of `decryption_key_files` opens its key",
        ),
        ("changed", changed, "its content does not decrypt"),
        ("cut off", cut_off, "its content does not decrypt"),
    ];
    let mut pages = Vec::new();
    for (what, document, expected) in rows {
        let (status, page) = server.answer(&body("SAMLResponse", &field(&document)));
        assert_eq!(status, 403, "{what}");
        let line = server.line_with("the encrypted assertion cannot be used");
        assert!(line.contains(expected), "{what}: {line}");
        for word in ["rsa-1_5", "tripledes", "sha256", "decryption_key_files", "decrypt"] {
            assert!(!page.contains(word), "{what}: the page says `{word}`");
        }
        pages.push(without_numbers(&page));
    }
    pages.dedup();
    assert_eq!(pages.len(), 1, "the pages differ: {pages:#?}");
}

/// Without the identifiers that every page has one of.
fn without_numbers(page: &str) -> String {
    page.chars().filter(|c| !c.is_ascii_hexdigit() && *c != '-').collect()
}

/// German government providers sign by RSA-PSS alone (BSI TR-03116-4), and a proxy may sign with another key than what it
/// passes on was signed with.
#[test]
fn log14_rsa_pss_and_two_keys_of_different_kinds_are_believed() {
    let provider = saml_provider();
    let certificates = certificates(&["idp-rsa", "idp-p256"]);
    let (rsa, curve) = (key("idp-rsa"), key("idp-p256"));
    for hash in [Hash::Sha256, Hash::Sha384, Hash::Sha512] {
        let signer = Signer { hash, pss: true, ..signer(&rsa) };
        let signed = saml::sign(&assertion(&login()), "_assertion-1", signer).unwrap();
        let document = saml::response(&login(), &signed);
        assert!(document.contains("-rsa-MGF1"), "{document}");
        let outcome = submit(&provider, &certificates, &document, &remembered());
        assert_eq!(outcome.map(|found| found.token_id), Ok("_assertion-1".to_owned()), "{hash:?}");
        let refusal = submit(&provider, &certificates, &document.replace("staff", "admins"), &remembered());
        assert!(refusal.unwrap_err().contains("signature does not verify"), "{hash:?}");
    }
    for (inner, outer) in [(&rsa, &curve), (&curve, &rsa)] {
        let document = saml::sign(&signed_assertion(&login(), inner), "_response-1", signer(outer)).unwrap();
        assert!(submit(&provider, &certificates, &document, &remembered()).is_ok());
        let stranger = key("stranger-rsa");
        let half = saml::sign(&signed_assertion(&login(), &stranger), "_response-1", signer(outer)).unwrap();
        assert!(submit(&provider, &certificates, &half, &remembered()).is_err(), "half of it by a stranger");
        let half = saml::sign(&signed_assertion(&login(), inner), "_response-1", signer(&stranger)).unwrap();
        assert!(submit(&provider, &certificates, &half, &remembered()).is_err(), "the other half by a stranger");
    }
    assert!(submit(&provider, &certificates, &signed_response(&login(), &curve), &remembered()).is_ok());
}
