//! Every published way to forge, wrap, replay or choke a SAML login, through the way that a real one takes.
//!
//! Each row must be refused, for the reason it says, and quickly.

use std::time::Duration;

use loginsync_mint::saml::{self, ContentEncryption, MintAttribute, SamlLogin};
use loginsync_pipeline::capture::{self, Arrival, CallbackMessage, Captured};
use loginsync_pipeline::claims;
use loginsync_pipeline::claims::sources::Sources;
use loginsync_pipeline::provider::{Provider, SamlPolicy};
use loginsync_pipeline::verify::saml::{CertificateSet, SamlValue};
use loginsync_pipeline::verify::{
    BindingVerdict, DecryptionFault, Fault, Origin, ProviderKeys, Statement, hearsay, verify,
};

use crate::kit::{
    ISSUER, MAX_DOCUMENT, NOW, REQUEST, body, certificates, decryption_key, key, login, processor_time, read,
    remembered, saml_provider, saml_provider_with, signed_assertion, signer, submit, submit_body,
};
use crate::saml_cases::{
    Row, SAML, choking, cut, encrypted, encrypted_forgeries, evil_assertion, flipped, forged_signatures, instead,
    lacking_responses, more_than_a_signature, not_meant_for_us_now, response_says, two_readings, wrapped_signatures,
};

fn refuse_each(provider: &Provider, certificates: &CertificateSet, rows: &[Row]) {
    for (what, document, expected) in rows {
        let before = processor_time();
        let refusal = submit(provider, certificates, document, &remembered()).err();
        let refusal = refusal.unwrap_or_else(|| panic!("{what}: accepted"));
        assert!(refusal.contains(expected), "{what}: {refusal}");
        let took = processor_time().saturating_sub(before);
        assert!(took < Duration::from_secs(2), "{what}: took {took:?}");
    }
}

fn refuse(rows: &[Row]) {
    refuse_each(&saml_provider(), &certificates(&["idp-rsa"]), rows);
}

#[test]
fn wrapped_signatures_are_refused() {
    refuse(&wrapped_signatures());
}

#[test]
fn forged_signatures_are_refused() {
    refuse(&forged_signatures());
}

/// What the provider's key has signed for other ends, posted as a login or put into one.
fn messages_of_other_kinds() -> Vec<Row> {
    let protocol = "urn:oasis:names:tc:SAML:2.0:protocol";
    let metadata = "urn:oasis:names:tc:SAML:2.0:metadata";
    let message = |name: &str| {
        let issuer = format!("<saml:Issuer xmlns:saml=\"{SAML}\">{ISSUER}</saml:Issuer>");
        format!("<samlp:{name} xmlns:samlp=\"{protocol}\" ID=\"_other\">{issuer}</samlp:{name}>")
    };
    let descriptor = format!(
        "<md:EntityDescriptor xmlns:md=\"{metadata}\" ID=\"_other\" entityID=\"{ISSUER}\"></md:EntityDescriptor>"
    );
    let kinds = [
        ("LogoutRequest", message("LogoutRequest")),
        ("AuthnRequest", message("AuthnRequest")),
        ("ArtifactResponse", message("ArtifactResponse")),
        ("AttributeQuery", message("AttributeQuery")),
        ("EntityDescriptor", descriptor),
    ];
    let place = "has no place";
    let mut rows = Vec::new();
    for (name, text) in kinds {
        let signed = saml::sign(&text, "_other", signer(&key("idp-rsa"))).unwrap();
        let signature = cut(&signed, "ds:Signature").to_owned();
        rows.push((name, signed.clone(), "expected a SAML 2.0 `Response`"));
        rows.push((name, saml::response(&login(), &signed), place));
        // Its signature on an assertion that has its ID.
        let evil = SamlLogin { assertion_id: "_other".into(), ..login() };
        let assertion = instead(&saml::assertion(&evil), "</saml:Issuer>", &format!("</saml:Issuer>{signature}"));
        rows.push((name, saml::response(&evil, &assertion), "signature does not verify"));
        let evil = SamlLogin { response_id: "_other".into(), ..login() };
        let response = saml::response(&evil, &saml::assertion(&evil));
        let response = response.replacen("</saml:Issuer>", &format!("</saml:Issuer>{signature}"), 1);
        rows.push((name, response, "signature does not verify"));
    }
    rows
}

#[test]
fn messages_of_other_kinds_are_no_logins() {
    for (what, document, expected) in messages_of_other_kinds() {
        let refusal = submit(&saml_provider(), &certificates(&["idp-rsa"]), &document, &remembered()).unwrap_err();
        let known = refusal.contains(expected) || refusal.contains("0 assertions");
        assert!(known, "{what}: {refusal}");
    }
}

#[test]
fn a_signature_asks_for_nothing_but_to_be_checked() {
    refuse(&more_than_a_signature());
}

#[test]
fn documents_that_two_parsers_read_differently_are_refused() {
    refuse(&two_readings());
    let good = signed_assertion(&login(), &key("idp-rsa"));
    let utf_16: Vec<u8> = good.encode_utf16().flat_map(u16::to_le_bytes).collect();
    use base64::Engine as _;
    let encode = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
    let keys = ProviderKeys::Saml(certificates(&["idp-rsa"]));
    for (what, field, expected) in [
        ("UTF-16", encode(&utf_16), "cannot be read"),
        ("not UTF-8", encode(b"<a>\xff</a>"), "not UTF-8"),
        ("overlong UTF-8", encode(b"<a>\xc0\xbc</a>"), "not UTF-8"),
        ("not base64", "<samlp:Response/>".into(), "not base64"),
        ("base64url", encode(b"<a>??>>~~</a>").replace('+', "-").replace('/', "_"), "cannot be read"),
        ("deflated", "fZBBT8MwDIX/SuV7m3RbN2a1nSYQEhIc".into(), "cannot be read"),
        ("nothing", String::new(), "not well-formed"),
        ("too long", encode(&vec![b'a'; MAX_DOCUMENT + 1]), "longer than the 262144 bytes"),
    ] {
        let outcome = submit_body(&saml_provider(), &keys, &body("SAMLResponse", &field), &remembered(), NOW);
        let refusal = outcome.unwrap_err();
        assert!(refusal.contains(expected), "{what}: {refusal}");
    }
}

#[test]
fn documents_that_choke_a_parser_are_refused_quickly() {
    refuse(&choking());
}

#[test]
fn what_a_provider_says_must_be_meant_for_us_now() {
    refuse(&not_meant_for_us_now());
}

#[test]
fn a_signed_response_must_say_all_that_the_profile_asks() {
    refuse(&lacking_responses());
    use self::response_says as signed;
    let refusal = submit(
        &saml_provider(),
        &certificates(&["idp-rsa"]),
        &signed(|r| instead(r, "status:Success", "status:Requester")),
        &remembered(),
    );
    assert!(refusal.unwrap_err().starts_with("verify, signed"), "a refusal behind a signature says so");
}

#[test]
fn who_did_not_ask_gets_no_login() {
    let certificates = certificates(&["idp-rsa"]);
    let mut unasked = login();
    unasked.in_response_to = None;
    let document = signed_assertion(&unasked, &key("idp-rsa"));
    let allowing = saml_provider_with(|policy| policy.allow_idp_initiated = true);
    let answering = |request: &str| {
        document.replacen("<samlp:Response ", &format!("<samlp:Response InResponseTo=\"{request}\" "), 1)
    };
    let asked = signed_assertion(&login(), &key("idp-rsa"));
    let rows: [(&str, &Provider, &str, bool, &str); 6] = [
        ("not allowed", &saml_provider(), &document, true, "not asked for by the app"),
        // A stolen assertion, tied to a request of the thief's by a field that nobody signed.
        ("tied by an unsigned field", &saml_provider(), &answering(REQUEST), true, "not asked for by the app"),
        ("allowed, but names an unknown request", &allowing, &answering("_other"), true, "not started in this browser"),
        ("allowed, but answers one that is unknown", &allowing, &asked, false, "not started in this browser"),
        ("remembered by nobody", &saml_provider(), &asked, false, "not started in this browser"),
        ("empty counts as absent", &saml_provider(), &answering(""), true, "not asked for by the app"),
    ];
    for (what, provider, document, remembers, expected) in rows {
        let memory = if remembers { remembered() } else { Vec::new() };
        let refusal = submit(provider, &certificates, document, &memory).unwrap_err();
        assert!(refusal.contains(expected), "{what}: {refusal}");
    }
    let mut memory = remembered();
    memory[0].provider = loginsync_pipeline::ids::ProviderName::parse("other").unwrap();
    let refusal = submit(&saml_provider(), &certificates, &asked, &memory).unwrap_err();
    assert!(refusal.contains("not started in this browser"), "remembered for another provider: {refusal}");
    let passed = submit(&allowing, &certificates, &answering(REQUEST), &remembered()).unwrap();
    assert_eq!(passed.binding, BindingVerdict::Unsolicited, "an unsigned field ties nothing");
}

fn opening(change: impl FnOnce(&mut SamlPolicy)) -> Provider {
    saml_provider_with(|policy| {
        policy.decryption_keys = vec![decryption_key()];
        change(policy);
    })
}

#[test]
fn encryption_proves_nothing_by_itself() {
    refuse_each(&opening(|_| {}), &certificates(&["idp-rsa"]), &encrypted_forgeries());
    let signed = saml::sign(&saml::assertion(&login()), "_assertion-1", signer(&key("idp-rsa"))).unwrap();
    let gcm = encrypted(&signed, ContentEncryption::Aes256Gcm);
    refuse_each(&saml_provider(), &certificates(&["idp-rsa"]), &[("no key here", gcm, "no `decryption_key_files`")]);
}

/// CBC lets a ciphertext be changed, so every failure behind it must look the same, and only who left for this login may ask.
#[test]
fn cbc_answers_no_questions() {
    use ContentEncryption::Aes128Cbc as Cbc;
    let provider = opening(|policy| policy.allow_cbc = true);
    let certificates = certificates(&["idp-rsa"]);
    let signed = saml::sign(&saml::assertion(&login()), "_assertion-1", signer(&key("idp-rsa"))).unwrap();
    let good = encrypted(&signed, Cbc);
    let key_value = cut(&good, "xenc:EncryptedKey").to_owned();
    let other_key = cut(&encrypted(&signed, Cbc), "xenc:EncryptedKey").to_owned();
    for (what, document) in [
        ("padding", flipped(&good)),
        ("wrong content key", instead(&good, &key_value, &other_key)),
        ("unsigned", encrypted(&saml::assertion(&login()), Cbc)),
        ("stranger", encrypted(&instead(&signed, "staff", "admins"), Cbc)),
        ("not XML", encrypted("hello", Cbc)),
        ("two", encrypted(&format!("{signed}{}", evil_assertion()), Cbc)),
    ] {
        let refusal = submit(&provider, &certificates, &document, &remembered()).unwrap_err();
        assert_eq!(refusal, "verify, unsigned: the encrypted assertion cannot be used", "{what}");
        let refusal = submit(&provider, &certificates, &document, &[]).unwrap_err();
        assert!(refusal.contains("not started in this browser"), "{what}: {refusal}");
    }
    let unasked = good.replacen(&format!(" InResponseTo=\"{REQUEST}\""), "", 1);
    let refusal = submit(&provider, &certificates, &unasked, &remembered()).unwrap_err();
    assert!(refusal.contains("not asked for by the app"), "{refusal}");
}

/// A SHA-1 signature that is right in itself, made by another signer.
#[test]
fn a_true_sha_1_signature_is_refused() {
    let document = read("saml/xmlsec1-assertion-sha1.xml");
    let refusal = submit(&saml_provider(), &certificates(&["idp-rsa"]), &document, &remembered()).unwrap_err();
    assert!(refusal.contains("sha1`; expected RSA"), "{refusal}");
}

#[test]
fn a_subject_that_names_nobody_is_refused() {
    let transient = "urn:oasis:names:tc:SAML:2.0:nameid-format:transient";
    for (what, name_id, expected) in [
        ("missing", None, "`NameID` is missing"),
        ("empty", Some(("", None)), "is empty or blank"),
        ("blank", Some((" \u{a0}", None)), "is empty or blank"),
        ("padded", Some((" alice", None)), "begins or ends with white space"),
        ("transient", Some(("_x", Some(transient))), "transient"),
    ] {
        let mut login = login();
        login.name_id = name_id.map(|(value, format)| (value.to_owned(), format.map(str::to_owned)));
        let provider = saml_provider();
        let refusal = claims_of(&provider, &signed_assertion(&login, &key("idp-rsa"))).unwrap_err();
        assert!(refusal.contains(expected), "{what}: {refusal}");
    }
}

fn captured(provider: &Provider, document: &str) -> Captured {
    let form = body("SAMLResponse", &saml::field(document));
    let message = CallbackMessage {
        method: &http::Method::POST,
        query: None,
        content_type: Some("application/x-www-form-urlencoded"),
        encoded: false,
        body: form.as_bytes(),
    };
    match capture::read(&[std::sync::Arc::new(provider.clone())], message, MAX_DOCUMENT).unwrap() {
        Arrival::Login(captured) => captured,
        other => panic!("no login: {other:?}"),
    }
}

/// The claims stage asks for the proof that only verification makes, so this goes the whole way.
fn claims_of(provider: &Provider, document: &str) -> Result<claims::Claims, String> {
    let keys = ProviderKeys::Saml(certificates(&["idp-rsa"]));
    let verified = verify(&captured(provider, document), &keys, &Origin::Watched(remembered()), NOW).unwrap();
    claims::read(&verified, &Sources::default(), provider, &|_| true).map_err(|refusal| refusal.to_string())
}

/// What a document says is told where an operator asks why it is refused; what is encrypted stays closed.
#[test]
fn what_is_not_verified_can_be_explained() {
    let provider = saml_provider();
    let said = |provider: &Provider, document: &str| hearsay(provider, &captured(&saml_provider(), document).token);
    let stranger = signed_assertion(&login(), &key("stranger-rsa"));
    let Statement::Saml(statement) = said(&provider, &stranger).unwrap() else { panic!("of SAML") };
    let values =
        |name: &str| statement.attributes.iter().find(|attribute| attribute.name == name).map(|it| it.values.len());
    assert_eq!((statement.name_id.unwrap().value.as_str(), values("groups")), ("alice", Some(2)));
    let closed = encrypted(&saml::assertion(&login()), ContentEncryption::Aes256Gcm);
    assert_eq!(said(&provider, &closed).unwrap_err(), Fault::Decryption(DecryptionFault::Untold));
    assert_eq!(said(&crate::oidc_verify::oidc_provider(), &stranger).unwrap_err(), Fault::Internal);
}

#[test]
fn markup_in_a_value_stays_text() {
    let mut login = login();
    let value = "</saml:AttributeValue><saml:AttributeValue>admins";
    login.attributes = vec![MintAttribute::of("groups", &[value])];
    let document = signed_assertion(&login, &key("idp-rsa"));
    let assertion = submit(&saml_provider(), &certificates(&["idp-rsa"]), &document, &remembered()).unwrap();
    let Statement::Saml(statement) = &assertion.statement else { panic!("not SAML") };
    assert_eq!(statement.attributes[0].values, [SamlValue::Text(value.into())]);
}

/// Many at once, good and tampered mixed: no answer goes to the wrong one.
#[test]
fn verification_runs_on_many_threads() {
    let good = signed_assertion(&login(), &key("idp-rsa"));
    let bad = instead(&good, "staff", "admins");
    let certificates = certificates(&["idp-rsa"]);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (good, bad, certificates) = (&good, &bad, &certificates);
            scope.spawn(move || {
                for call in 0..50 {
                    let tampered = (call + thread) % 2 == 0;
                    let document = if tampered { bad } else { good };
                    let outcome = submit(&saml_provider(), certificates, document, &remembered());
                    assert_eq!(outcome.is_err(), tampered);
                }
            });
        }
    });
}
