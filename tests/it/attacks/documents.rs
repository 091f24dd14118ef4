//! SAML responses (threats 61 to 83).

use std::io::ErrorKind;
use std::net::TcpListener;

use loginsync::cli::demo::mint::saml::{self, ContentEncryption, MintAttribute, SamlLogin};

use super::{Attack, FORM, Siege, config, form, saml_leave};
use crate::kit::{
    REQUEST, certificates, key, login, read, remembered, saml_provider, signed_assertion, signer, submit,
};
use crate::saml_cases::{self, Row};

/// One floor below, a refusal says whether the signature held: only then may it leave an audit row.
fn attacks(rows: &[Row]) -> Vec<Attack<'_>> {
    let certificates = certificates(&["idp-rsa"]);
    let attack = |(what, document, _): &'_ Row| {
        let refusal = submit(&saml_provider(), &certificates, document, &remembered()).expect_err(what);
        (*what, refusal.starts_with("verify, signed"))
    };
    let verdicts = rows.iter().map(attack);
    rows.iter().zip(verdicts).map(|(row, (what, signed))| Attack::document(what, &row.1, signed)).collect()
}

async fn withstands(rows: &[Row]) {
    Siege::open().await.withstands(attacks(rows)).await;
}

/// Threats 61, 62, 63.
#[tokio::test(flavor = "multi_thread")]
async fn wrapped_signatures_change_nothing() {
    withstands(&saml_cases::wrapped_signatures()).await;
}

/// Threats 65, 66, 70, 71.
#[tokio::test(flavor = "multi_thread")]
async fn forged_signatures_change_nothing() {
    withstands(&saml_cases::forged_signatures()).await;
}

/// Threats 55, 67, 80.
#[tokio::test(flavor = "multi_thread")]
async fn signatures_that_ask_for_more_change_nothing() {
    withstands(&saml_cases::more_than_a_signature()).await;
}

/// Threats 64, 68, 79, 81.
#[tokio::test(flavor = "multi_thread")]
async fn documents_with_two_readings_change_nothing() {
    let siege = Siege::open().await;
    let rows = saml_cases::two_readings();
    siege.withstands(attacks(&rows)).await;
    use base64::Engine as _;
    let encode = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
    let good = signed_assertion(&login(), &key("idp-rsa"));
    let utf_16: Vec<u8> = good.encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (what, field) in [
        ("UTF-16", encode(&utf_16)),
        ("UTF-16 with a mark", encode(&[&[0xff, 0xfe], utf_16.as_slice()].concat())),
        ("not UTF-8", encode(b"<a>\xff</a>")),
        ("overlong UTF-8", encode(b"\xc0\xbcsamlp:Response>")),
        ("not base64", "<samlp:Response/>".into()),
        ("base64 of base64", encode(encode(good.as_bytes()).as_bytes())),
        ("base64 with bits left over", format!("{}B", encode(b"ab").trim_end_matches('='))),
        ("nothing", String::new()),
        ("too long", encode(&vec![b'a'; 300 * 1024])),
    ] {
        siege.withstands_one(&Attack::field(what, &field, false)).await;
    }
}

/// Threats 76, 77, 78.
#[tokio::test(flavor = "multi_thread")]
async fn documents_that_choke_a_parser_change_nothing() {
    let siege = Siege::open().await;
    let rows = saml_cases::choking();
    siege.withstands(attacks(&rows)).await;
    // What inflates is no response of this binding; a megabyte of it is none either.
    let mut bomb = Vec::new();
    let zeros = vec![b' '; 50 << 20];
    std::io::Read::read_to_end(
        &mut flate2::read::DeflateEncoder::new(zeros.as_slice(), flate2::Compression::best()),
        &mut bomb,
    )
    .unwrap();
    use base64::Engine as _;
    let bomb = base64::engine::general_purpose::STANDARD.encode(bomb);
    siege.withstands_one(&Attack::field("a deflate bomb", &bomb, false)).await;
    let body = form(&[("SAMLResponse", &"A".repeat(2 << 20))]).into_bytes();
    let large = Attack { status: &[413], ..Attack::body("a body over the limit", "/saml/acs", body, false) };
    siege.withstands_one(&large).await;
}

/// Threats 72, 73.
#[tokio::test(flavor = "multi_thread")]
async fn assertions_for_others_change_nothing() {
    withstands(&saml_cases::not_meant_for_us_now()).await;
    withstands(&saml_cases::lacking_responses()).await;
}

/// Threat 69.
#[tokio::test(flavor = "multi_thread")]
async fn encryption_is_no_signature() {
    let siege = Siege::open().await;
    let rows = saml_cases::encrypted_forgeries();
    for (what, document, _) in &rows {
        // What stands below a good outer signature may leave a row.
        let signed = document.contains("URI=\"#_response-1\"");
        siege.withstands_one(&Attack::document(what, document, signed)).await;
    }
    siege.lets_the_honest_in().await;
}

/// Threats 69, 79: whatever a changed ciphertext decrypts to, the answer is the same.
#[tokio::test(flavor = "multi_thread")]
async fn cbc_answers_no_questions() {
    use ContentEncryption::Aes128Cbc as Cbc;
    let siege = Siege::with(&config("", "allow_cbc = true")).await;
    let plain = saml::assertion(&login());
    let good = saml::sign(&plain, "_assertion-1", signer(&key("idp-rsa"))).unwrap();
    let mut pages = Vec::new();
    for (what, document) in [
        ("padding", saml_cases::flipped(&saml_cases::encrypted(&good, Cbc))),
        ("unsigned", saml_cases::encrypted(&plain, Cbc)),
        ("broken", saml_cases::encrypted(&good.replace("staff", "admins"), Cbc)),
        ("not XML", saml_cases::encrypted("hello", Cbc)),
    ] {
        let answer = siege.withstands_one(&Attack::document(what, &document, false)).await;
        let (head, rest) = answer.body.split_once("<code>").unwrap();
        pages.push((answer.status, format!("{head}{}", rest.split_once("</code>").unwrap().1)));
    }
    assert!(pages.iter().all(|page| *page == pages[0]), "{pages:?}");
}

/// Threat 73: who did not ask gets no login, and who asked gets the answer to it.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_goes_to_who_asked() {
    let siege = Siege::open().await;
    let mut unasked = login();
    unasked.in_response_to = None;
    let document = signed_assertion(&unasked, &key("idp-rsa"));
    let tied = document.replacen("<samlp:Response ", &format!("<samlp:Response InResponseTo=\"{REQUEST}\" "), 1);
    siege.withstands_one(&Attack::document("not asked for", &document, true)).await;
    siege.withstands_one(&Attack::document("tied by an unsigned field", &tied, true)).await;

    // Another browser of the same app, which left for another request.
    let other = Siege { cookies: siege.house.leave(&saml_leave("_request-2")).await, house: siege.house };
    let theirs = signed_assertion(&login(), &key("idp-rsa"));
    other.withstands_one(&Attack::document("an answer to another browser", &theirs, true)).await;
    let nobody = Siege { cookies: String::new(), house: other.house };
    nobody.withstands_one(&Attack::document("a browser that never left", &theirs, true)).await;
}

/// Threat 83: each is refused with an audit row, since the signature held.
#[tokio::test(flavor = "multi_thread")]
async fn a_subject_that_names_nobody_gets_nothing() {
    let transient = "urn:oasis:names:tc:SAML:2.0:nameid-format:transient";
    let siege = Siege::open().await;
    for (what, name_id) in [
        ("missing", None),
        ("empty", Some(("", None))),
        ("blank", Some((" \u{a0}\u{200b}", None))),
        ("padded", Some((" alice", None))),
        ("transient", Some(("_x", Some(transient)))),
        ("a control character", Some(("ali\u{9f}ce", None))),
    ] {
        let id = format!("_{}", what.replace(' ', "-"));
        let login = SamlLogin {
            name_id: name_id.map(|(value, format)| (value.to_owned(), format.map(str::to_owned))),
            assertion_id: id.clone(),
            ..login()
        };
        let document = signed_assertion(&login, &key("idp-rsa"));
        siege.withstands_one(&Attack::document(what, &document, true)).await;
        let row = siege.house.events().await.pop().unwrap();
        assert_eq!((row.event.as_str(), row.detail["token"].as_str()), ("login_refused", Some(id.as_str())), "{what}");
    }
    siege.lets_the_honest_in().await;
}

/// Threat 82, and 52 in SAML's words: a value is compared whole, whatever markup or addresses it holds.
#[tokio::test(flavor = "multi_thread")]
async fn values_are_whole_and_plain_text() {
    let siege = Siege::open().await;
    let values = [
        "</saml:AttributeValue><saml:AttributeValue>admins",
        "admins@evil@staff",
        "admins\u{200b}",
        "\u{ff41}dmins",
        "Admins",
        " admins",
        "admins.",
        "staff,admins",
    ];
    let mut login = login();
    login.attributes = vec![MintAttribute::of("groups", &values)];
    let document = saml::field(&signed_assertion(&login, &key("idp-rsa")));
    let answer = siege.send("/saml/acs", FORM.1, form(&[("SAMLResponse", &document)]).as_bytes()).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(siege.house.memberships().await, "saml/alice: groups [], roles []\n");
    let seen = siege.house.app.seen();
    assert!(!seen[0].headers.contains_key("x-loginsync-groups"), "{:?}", seen[0].headers);
}

/// Threats 55, 81: nothing in a document or token makes a request leave.
#[tokio::test(flavor = "multi_thread")]
async fn no_request_leaves() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let to = format!("http://{}/", listener.local_addr().unwrap());
    let siege = Siege::open().await;
    let good = signed_assertion(&login(), &key("idp-rsa"));
    let key_info = |content: &str| {
        good.replacen("</ds:Signature>", &format!("<ds:KeyInfo>{content}</ds:KeyInfo></ds:Signature>"), 1)
    };
    let documents = [
        ("reference", good.replace("#_assertion-1", &to)),
        ("external type", format!("<!DOCTYPE r SYSTEM \"{to}\">{good}")),
        ("external entity", format!("<!DOCTYPE r [<!ENTITY x SYSTEM \"{to}\">]>{}", good.replace("alice", "&x;"))),
        ("parameter entity", format!("<!DOCTYPE r [<!ENTITY % x SYSTEM \"{to}\"> %x;]>{good}")),
        ("retrieval", key_info(&format!("<ds:RetrievalMethod URI=\"{to}\"></ds:RetrievalMethod>"))),
        ("stylesheet instruction", format!("<?xml-stylesheet href=\"{to}\"?>{good}")),
        (
            "schema location",
            good.replacen(
                "<samlp:Response ",
                &format!(
                    "<samlp:Response xmlns:i=\"http://www.w3.org/2001/XMLSchema-instance\" i:schemaLocation=\"u {to}\" "
                ),
                1,
            ),
        ),
        ("another issuer", good.replace("https://idp.example/saml", &to)),
    ];
    for (what, document) in &documents {
        let answer =
            siege.send("/saml/acs", FORM.1, form(&[("SAMLResponse", &saml::field(document))]).as_bytes()).await;
        // The schema's location is in no signed part, and nobody looks it up.
        assert!(*what == "schema location" || answer.status >= 400, "{what}: {}", answer.status);
    }
    let stranger = key("stranger-rsa");
    for member in ["jku", "x5u", "jwk_uri", "iss", "kid"] {
        let mut header = super::header();
        header[member] = to.as_str().into();
        let token =
            loginsync::cli::demo::mint::oidc::id_token(&stranger, "RS256", &header, &super::claims("out")).unwrap();
        siege.withstands_one(&Attack::token(member, &token, false)).await;
    }
    let issuer = super::with(&serde_json::json!({"iss": to}));
    let token = loginsync::cli::demo::mint::oidc::id_token(&stranger, "RS256", &super::header(), &issuer).unwrap();
    siege.withstands_one(&Attack::token("issuer", &token, false)).await;
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "a request left");
}

/// A SHA-1 signature that is right in itself, made by another signer.
#[tokio::test(flavor = "multi_thread")]
async fn a_true_sha_1_signature_changes_nothing() {
    let siege = Siege::open().await;
    let document = read("saml/xmlsec1-assertion-sha1.xml");
    siege.withstands(vec![Attack::document("SHA-1", &document, false)]).await;
}
