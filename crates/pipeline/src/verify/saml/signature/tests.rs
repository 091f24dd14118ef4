#![allow(clippy::string_slice, reason = "a test that cannot go on has failed")]

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::*;
use crate::capture::saml::GuardError;
use loginsync_mint::saml::{self as mint, MintAttribute, SamlLogin, Signer, Style};
use loginsync_mint::{Hash as MintHash, MintKey};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

fn read(path: &str) -> String {
    let path = fixtures().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn key(name: &str) -> MintKey {
    MintKey::from_pem(&read(&format!("keys/{name}.key.test-only.pem"))).unwrap()
}

fn certificates(names: &[&str]) -> CertificateSet {
    let pem: String = names.iter().map(|name| read(&format!("keys/{name}.certificate.test-only.pem"))).collect();
    CertificateSet::from_pem(pem.as_bytes()).unwrap()
}

fn signatures<'a, 'input: 'a>(document: &'a Document<'input>) -> impl Iterator<Item = Node<'a, 'input>> {
    document.descendants().filter(|node| node.is_element() && node.tag_name().name() == "Signature")
}

fn login(name: &str, style: Style) -> SamlLogin {
    let now = 1_769_860_800_000;
    let ids = ("_response-1", "_assertion-1");
    let mut login =
        SamlLogin::new("https://idp.example/saml", "https://app.example", "https://app.example/acs", ids, now);
    login.name_id = Some((name.to_owned(), None));
    login.attributes = vec![MintAttribute::of("groups", &["staff", "admins & <more>", " \u{e9} "])];
    login.style = style;
    login
}

/// Responses with the assertion signed, the response, and both.
fn signed(login: &SamlLogin, key: &MintKey) -> [String; 3] {
    let signer = Signer { key, hash: MintHash::Sha256, pss: false, certificate: None, style: login.style };
    let assertion = mint::assertion(login);
    let inner = mint::sign(&assertion, &login.assertion_id, signer).unwrap();
    let outer = |inner: &str| mint::sign(&mint::response(login, inner), &login.response_id, signer).unwrap();
    [mint::response(login, &inner), outer(&assertion), outer(&inner)]
}

/// Exactly as another program wrote it down; see `fixtures/saml/README.md`.
#[test]
fn what_is_signed_are_the_bytes_that_xmlsec1_digested() {
    let certificates = certificates(&["idp-rsa", "idp-p256", "idp-p384", "idp-p521"]);
    let folder = fixtures().join("saml/canonical");
    let mut compared = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let source = if name.starts_with("xmlsec1") { format!("saml/{name}") } else { format!("saml/shapes/{name}") };
        let text = read(&source);
        let document = parse(text.trim_start_matches('\u{feff}')).unwrap();
        let found = Signature::read(signatures(&document).next().unwrap()).unwrap();
        let role = if found.content.contains("Response ") && is(document.root_element(), PROTOCOL, "Response") {
            Role::Response
        } else {
            Role::Assertion
        };
        assert_eq!(found.content, read(&format!("saml/canonical/{name}")), "{name}");
        let signed = verify(&found, role, &certificates).unwrap_or_else(|fault| panic!("{name}: {fault}"));
        assert_eq!(signed.text(), found.content, "{name}");
        compared += 1;
    }
    assert!(compared >= 11, "{compared}");
}

/// Everything that the same key may have signed, for other ends.
#[test]
fn what_is_signed_counts_in_its_role_alone() {
    let certificates = certificates(&["idp-rsa"]);
    let key = key("idp-rsa");
    let protocol = |name: &str| format!("<p:{name} xmlns:p=\"{PROTOCOL}\" ID=\"_x\"><p:a></p:a></p:{name}>");
    let metadata = "urn:oasis:names:tc:SAML:2.0:metadata";
    let others = [
        protocol("LogoutResponse"),
        protocol("AuthnRequest"),
        protocol("ArtifactResponse"),
        protocol("ManageNameIDRequest"),
        format!("<m:EntityDescriptor xmlns:m=\"{metadata}\" ID=\"_x\"></m:EntityDescriptor>"),
        format!("<a:Advice xmlns:a=\"{ASSERTION}\" ID=\"_x\"></a:Advice>"),
        "<Response xmlns=\"urn:oasis:names:tc:SAML:1.0:protocol\" ID=\"_x\"></Response>".to_owned(),
        "<Assertion ID=\"_x\"></Assertion>".to_owned(),
    ];
    let roles = [Role::Response, Role::Assertion, Role::LogoutRequest];
    let names = [
        protocol("Response"),
        format!("<a:Assertion xmlns:a=\"{ASSERTION}\" ID=\"_x\"></a:Assertion>"),
        protocol("LogoutRequest"),
    ];
    let signer = Signer { key: &key, hash: MintHash::Sha256, pss: false, certificate: None, style: Style::Prefixed };
    for (number, text) in names.iter().chain(&others).enumerate() {
        let text = mint::sign(text, "_x", signer).unwrap();
        let document = parse(&text).unwrap();
        let found = Signature::read(signatures(&document).next().unwrap()).unwrap();
        for (place, role) in roles.into_iter().enumerate() {
            let signed = verify(&found, role, &certificates).unwrap();
            assert_eq!(signed.document().is_ok(), place == number, "{text} as {role:?}");
        }
    }
}

/// What the document says outside the signed part never counts.
#[test]
fn what_was_signed_is_read_again_from_its_own_bytes() {
    let certificates = certificates(&["idp-rsa"]);
    let [text, ..] = signed(&login("alice", Style::Prefixed), &key("idp-rsa"));
    let document = parse(&text).unwrap();
    let good = Signature::read(signatures(&document).next().unwrap()).unwrap();
    assert!(verify(&good, Role::Assertion, &certificates).is_ok());
    let changes: [fn(&mut Signature); 7] = [
        |found| found.content.push(' '),
        |found| found.signed.push(' '),
        |found| found.info.hash = Hash::Sha512,
        |found| found.info.reference = "_other".into(),
        |found| found.info.prefixes.push("xs".into()),
        |found| found.info.content_prefixes.push("xs".into()),
        |found| found.info.digest.truncate(16),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let mut changed = good.clone();
        change(&mut changed);
        assert!(verify(&changed, Role::Assertion, &certificates).is_err(), "change {number}");
    }
}

/// Numbers that look random (xorshift, as Marsaglia published it).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % end.max(1)
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }
}

const PIECES: [&str; 34] = [
    "<a/>",
    "<a>",
    "</a>",
    " ",
    "\n",
    "x",
    "&#97;",
    "&#13;",
    "&amp;",
    "<![CDATA[x]]>",
    "<![CDATA[]]>",
    " xmlns=\"urn:x\"",
    " xmlns=\"\"",
    " xmlns:saml=\"urn:oasis:names:tc:SAML:2.0:assertion\"",
    " xmlns:saml=\"urn:x\"",
    " xmlns:ds=\"http://www.w3.org/2000/09/xmldsig#\"",
    " xmlns:xs=\"urn:x\"",
    " xmlns:e=\"urn:e\" e:xmlns=\"urn:x\"",
    " xmlns:xmlns=\"urn:x\"",
    " ID=\"_assertion-1\"",
    " ID=\"_response-1\"",
    " x:ID=\"_x\" xmlns:x=\"urn:x\"",
    " xml:lang=\"en\"",
    " xml:id=\"_assertion-1\"",
    "<saml:AttributeValue>admins</saml:AttributeValue>",
    "</saml:AttributeValue><saml:AttributeValue>",
    "<saml:Assertion xmlns:saml=\"urn:oasis:names:tc:SAML:2.0:assertion\" ID=\"_assertion-1\"></saml:Assertion>",
    "<ds:Signature xmlns:ds=\"http://www.w3.org/2000/09/xmldsig#\"></ds:Signature>",
    "<ec:InclusiveNamespaces xmlns:ec=\"http://www.w3.org/2001/10/xml-exc-c14n#\" PrefixList=\"#default xs\"/>",
    "URI=\"\"",
    "URI=\"#_response-1\"",
    "#WithComments",
    "xmldsig-more#rsa-sha512",
    "<!-- -->",
];

/// A change somewhere in a document: something in, out, twice, or of another document.
fn mutate(random: &mut Random, text: &str, others: &[String]) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for _ in 0..=random.below(3) {
        let edges: Vec<usize> =
            bytes.iter().enumerate().filter(|(_, byte)| b"<> \"=".contains(byte)).map(|(at, _)| at).collect();
        let place = |random: &mut Random| match random.below(4) {
            0 => random.below(bytes.len() + 1),
            _ => (edges.get(random.below(edges.len())).copied().unwrap_or_default() + random.below(2)).min(bytes.len()),
        };
        let (from, to) = (place(random), place(random));
        let (from, to) = (from.min(to), from.max(to));
        match random.below(7) {
            0 => {
                bytes.drain(from..to.min(from + 40));
            }
            1 => {
                let piece = bytes[from..to].to_vec();
                bytes.splice(to..to, piece);
            }
            2 => {
                let other = others[random.below(others.len())].as_bytes();
                let start = random.below(other.len());
                let end = (start + random.below(600)).min(other.len());
                bytes.splice(from..(from + random.below(200)).min(bytes.len()), other[start..end].iter().copied());
            }
            3 if from < bytes.len() => {
                let letter = bytes[from];
                bytes.splice(from..=from, format!("&#{letter};").into_bytes());
            }
            4 => {
                // An element of another document in the place of this one's.
                let other = &others[random.below(others.len())];
                let name = random.pick(&[
                    "saml:Subject",
                    "saml:AttributeStatement",
                    "saml:Assertion",
                    "ds:Signature",
                    "ds:SignedInfo",
                ]);
                if let Some(piece) = element(other, name)
                    && let Some(here) = element(&String::from_utf8_lossy(&bytes), name)
                {
                    let whole = String::from_utf8_lossy(&bytes).replacen(here, piece, 1);
                    bytes = whole.into_bytes();
                }
            }
            _ => {
                bytes.splice(from..from, random.pick(&PIECES).bytes());
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let start = text.find(&format!("<{name}"))?;
    let end = format!("</{name}>");
    let end = start + text[start..].find(&end)? + end.len();
    text.get(start..end)
}

/// Documents of three people by two keys, in three styles.
fn corpus() -> Vec<String> {
    let mut documents = vec![read("saml/xmlsec1-assertion-rsa.xml"), read("saml/xmlsec1-response-rsa.xml")];
    for (name, style) in [("alice", Style::Prefixed), ("bob", Style::DefaultNamespaces), ("carol", Style::Typed)] {
        documents.extend(signed(&login(name, style), &key("idp-rsa")));
        documents.extend(signed(&login(name, style), &key("idp-p256")));
    }
    documents
}

/// How many mutants are tried: few in every run, a million where it is asked for.
fn how_many(usually: u64) -> u64 {
    std::env::var("MUTANTS").ok().and_then(|many| many.parse().ok()).unwrap_or(usually)
}

/// How a canonicalizer could be wrong.
const WRONG: [Canonicalizer; 8] = [
    |node, without, prefixes| {
        let right = canonical(node, without, prefixes)?;
        Ok(right.replace("&lt;", "<").replace("&gt;", ">").replace("&#xD;", "\r").replace("&amp;", "&"))
    },
    |node, without, prefixes| Ok(without_each(&canonical(node, without, prefixes)?, " xsi:", '"', 2)),
    |node, without, prefixes| Ok(without_each(&canonical(node, without, prefixes)?, " xmlns", '"', 2)),
    |node, without, prefixes| Ok(canonical(node, without, prefixes)?.replace("> <", "><").replace(">\n<", "><")),
    |node, without, prefixes| {
        let right = canonical(node, without, prefixes)?;
        Ok(right.split("<saml:AttributeValue>").take(2).collect::<Vec<_>>().join("<saml:AttributeValue>"))
    },
    |_, _, _| Ok(String::new()),
    |node, without, prefixes| Ok(without_each(&canonical(node, without, prefixes)?, " ID=", '"', 2)),
    |node, without, prefixes| {
        let right = canonical(node, without, prefixes)?;
        let parts: Vec<&str> = right.split_inclusive('>').collect();
        Ok(parts.iter().map(|part| part.rfind('<').map_or(*part, |at| &part[at..])).collect())
    },
];

/// A text without each run that begins with one thing and ends with the so-manieth other.
fn without_each(text: &str, begin: &str, end: char, ends: usize) -> String {
    let mut pieces = text.split(begin);
    let first = pieces.next().unwrap_or_default().to_owned();
    pieces.fold(first, |whole, piece| {
        let after = piece.match_indices(end).nth(ends - 1).map_or(piece.len(), |(at, _)| at + 1);
        whole + &piece[after..]
    })
}

/// The claim on which everything stands: whatever is read is a byte string whose digest the key has signed. It holds for
/// any text, and however wrong the canonicalizer is.
#[test]
fn nothing_is_read_that_the_key_has_not_signed() {
    let certificates = certificates(&["idp-rsa", "idp-p256"]);
    let documents = corpus();
    let mut genuine: HashSet<String> = HashSet::new();
    for text in &documents {
        let document = parse(text).unwrap();
        genuine.extend(signatures(&document).map(|node| Signature::read(node).unwrap().content));
    }
    let roles = [Role::Response, Role::Assertion, Role::LogoutRequest];
    let mut accepted = 0;
    let every: Vec<(Canonicalizer, u64)> = [(canonical as Canonicalizer, how_many(3_000))]
        .into_iter()
        .chain(WRONG.map(|wrong| (wrong, how_many(3_000) / 8)))
        .collect();
    for (number, (canonicalize, many)) in every.into_iter().enumerate() {
        let mut random = Random(0x9e37_79b9_7f4a_7c15 + u64::try_from(number).unwrap());
        for _ in 0..many {
            let chosen = random.below(documents.len());
            let text = mutate(&mut random, &documents[chosen], &documents);
            let Ok(document) = parse(&text) else { continue };
            for node in signatures(&document).take(3) {
                let Ok(found) = Signature::read_by(canonicalize, node) else { continue };
                let Ok(signed) = verify_by(canonicalize, &found, roles[random.below(3)], &certificates) else {
                    continue;
                };
                accepted += 1;
                assert!(genuine.contains(signed.text()), "canonicalizer {number} lets in: {text}");
            }
        }
    }
    assert!(
        accepted > how_many(3_000) / 10,
        "only {accepted} mutants were accepted: too much is changed to show anything"
    );
}

/// What only one of the two verifiers accepts, with the reason, where that is known and harmless.
#[cfg(feature = "samael")]
#[test]
fn both_verifiers_agree_on_every_mutant() {
    use super::super::xmlsec;
    use crate::capture::saml::GuardedResponse;

    let certificates = certificates(&["idp-rsa", "idp-p256"]);
    let documents = corpus();
    let (mut both, mut neither, mut ours_alone) = (0_u64, 0_u64, 0_u64);
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    for number in 0..how_many(3_000) {
        let text = match documents.get(usize::try_from(number).unwrap()) {
            Some(text) => text.clone(),
            None => {
                let chosen = random.below(documents.len());
                mutate(&mut random, &documents[chosen], &documents)
            }
        };
        let Ok(guarded) = GuardedResponse::of_text(text.clone()) else { continue };
        let structure = guarded.structure();
        let of_response =
            structure.response_signature.as_ref().map(|found| verify(found, Role::Response, &certificates));
        let of_assertion =
            structure.assertion_signature.as_ref().map(|found| verify(found, Role::Assertion, &certificates));
        let signers: HashSet<usize> =
            [&of_response, &of_assertion].into_iter().flatten().flatten().map(Signed::certificate).collect();
        let ours = match (of_response, of_assertion) {
            (Some(Ok(response)), None | Some(Ok(_))) => Some(response.text().to_owned()),
            (None, Some(Ok(assertion))) => Some(assertion.text().to_owned()),
            _ => None,
        };
        let theirs = (0..certificates.expiries().count())
            .find_map(|at| xmlsec::signed_bytes(guarded.text(), certificates.der(at)?).ok());
        match (ours, theirs) {
            (Some(ours), Some(theirs)) => {
                assert_eq!(ours, theirs, "{text}");
                both += 1;
            }
            (None, None) => neither += 1,
            // The library takes one certificate for all signatures of a document.
            (Some(_), None) if signers.len() > 1 => ours_alone += 1,
            (Some(_), None) => panic!("only ours accepts: {text}"),
            (None, Some(_)) => panic!("only the library accepts: {text}"),
        }
    }
    eprintln!("both {both}, neither {neither}, ours alone (two keys) {ours_alone}");
    assert!(both > how_many(3_000) / 20, "{both}");
}

/// Not every text that is one element's canonical form has been signed.
#[test]
fn a_canonicalizer_that_gives_nothing_lets_nothing_in() {
    let certificates = certificates(&["idp-rsa"]);
    let [text, ..] = signed(&login("alice", Style::Prefixed), &key("idp-rsa"));
    let document = parse(&text).unwrap();
    let nothing: Canonicalizer = |_, _, _| Ok(String::new());
    let found = Signature::read_by(nothing, signatures(&document).next().unwrap()).unwrap();
    assert!(verify_by(nothing, &found, Role::Assertion, &certificates).is_err());
    let fails: Canonicalizer = |_, _, _| Err(GuardError::Growth);
    assert!(Signature::read_by(fails, signatures(&document).next().unwrap()).is_err());
}

/// Two parsers may read such bytes differently, so that a digest which fits is not enough.
#[test]
fn signed_bytes_that_are_not_canonical_are_not_read() {
    let (certificates, key) = (certificates(&["idp-rsa"]), key("idp-rsa"));
    let signer = Signer { key: &key, hash: MintHash::Sha256, pss: false, certificate: None, style: Style::Prefixed };
    let odd = format!("<a:Assertion ID=\"_x\" xmlns:a=\"{ASSERTION}\"></a:Assertion>");
    let text = mint::sign(&odd, "_x", signer).unwrap();
    let document = parse(&text).unwrap();
    let mut found = Signature::read(signatures(&document).next().unwrap()).unwrap();
    assert!(verify(&found, Role::Assertion, &certificates).is_err());
    found.content = odd;
    assert!(verify(&found, Role::Assertion, &certificates).unwrap().document().is_err());
}
