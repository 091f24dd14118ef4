//! SAML logins that are right, in every shape that providers send.

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rsa::{self, KeySize};
use loginsync_mint::saml::{
    self, ContentEncryption, KeyTransport, MintAttribute, MintValue, Recipient, SamlLogin, Signer, Style,
};
use loginsync_mint::{Hash, MintKey, pem};
use loginsync_pipeline::provider::decryption_key::{DecryptionKey, DecryptionKeyError};
use loginsync_pipeline::provider::{Binding, Provider};
use loginsync_pipeline::verify::saml::{CertificateError, CertificateSet, NameId, SamlStatement, SamlValue, metadata};
use loginsync_pipeline::verify::{Assertion, BindingVerdict, Statement};

use crate::kit::{
    self, ISSUER, NOW, certificates, decryption_key, key, login, read, remembered, saml_provider, saml_provider_with,
    signed_assertion, signed_response, signed_twice, signer, submit,
};

pub fn statement(assertion: &Assertion) -> &SamlStatement {
    match &assertion.statement {
        Statement::Saml(statement) => statement,
        Statement::Oidc(_) | Statement::Userinfo(_) => panic!("not SAML"),
    }
}

fn values(assertion: &Assertion, name: &str) -> Vec<SamlValue> {
    let named = statement(assertion).attributes.iter().filter(|attribute| attribute.name == name);
    named.flat_map(|attribute| attribute.values.clone()).collect()
}

fn texts(texts: &[&str]) -> Vec<SamlValue> {
    texts.iter().map(|text| SamlValue::Text((*text).to_owned())).collect()
}

/// Expects the login of [`kit::login`].
fn check_alice(what: &str, outcome: Result<Assertion, String>) {
    let assertion = outcome.unwrap_or_else(|refusal| panic!("{what}: {refusal}"));
    assert_eq!(assertion.token_id, "_assertion-1", "{what}");
    assert_eq!(assertion.issued_at, NOW, "{what}");
    assert_eq!(assertion.expires_at, NOW.plus(std::time::Duration::from_secs(300)), "{what}");
    assert_eq!(assertion.binding, BindingVerdict::Matched(0), "{what}");
    let expected = NameId { value: "alice".into(), ..NameId::default() };
    assert_eq!(statement(&assertion).name_id, Some(expected), "{what}");
    assert_eq!(statement(&assertion).session_index.as_deref(), Some("_assertion-1-session"), "{what}");
    assert_eq!(values(&assertion, "groups"), texts(&["staff", "admins & more"]), "{what}");
}

#[test]
fn a_signature_may_cover_the_assertion_the_response_or_both() {
    let provider = saml_provider();
    for (key_name, hash) in [
        ("idp-rsa", Hash::Sha256),
        ("idp-rsa", Hash::Sha384),
        ("idp-rsa", Hash::Sha512),
        ("idp-p256", Hash::Sha256),
        ("idp-p384", Hash::Sha384),
        ("idp-p521", Hash::Sha512),
        ("idp-p256", Hash::Sha512),
    ] {
        let key = key(key_name);
        let certificates = certificates(&[key_name]);
        for style in [Style::Prefixed, Style::DefaultNamespaces, Style::Typed] {
            let login = SamlLogin { style, ..login() };
            let signer = Signer { hash, style, ..signer(&key) };
            let assertion = saml::assertion(&login);
            let signed = saml::sign(&assertion, &login.assertion_id, signer).unwrap();
            let sign_response =
                |inner: &str| saml::sign(&saml::response(&login, inner), &login.response_id, signer).unwrap();
            let what = format!("{key_name} {hash:?} {style:?}");
            let check = |document: &str| check_alice(&what, submit(&provider, &certificates, document, &remembered()));
            check(&saml::response(&login, &signed));
            check(&sign_response(&assertion));
            check(&sign_response(&signed));
        }
    }
}

/// What a signature does not cover may lack what the profile asks of a signed message.
#[test]
fn an_unsigned_response_may_say_less() {
    let document = signed_assertion(&login(), &key("idp-rsa"));
    let (start, rest) = document.split_once("<saml:Issuer").unwrap();
    let without_issuer = format!("{start}{}", rest.split_once("</saml:Issuer>").unwrap().1);
    let without_destination = document.replacen(&format!(" Destination=\"{}\"", kit::ACS), "", 1);
    for (what, changed) in [("issuer", without_issuer), ("destination", without_destination)] {
        assert_ne!(changed, document, "{what}");
        check_alice(what, submit(&saml_provider(), &certificates(&["idp-rsa"]), &changed, &remembered()));
    }
}

#[test]
fn any_certificate_of_a_rollover_will_do() {
    let provider = saml_provider();
    let all = certificates(&["idp-p256", "idp-rsa", "idp-rsa-next"]);
    for name in ["idp-p256", "idp-rsa", "idp-rsa-next"] {
        check_alice(name, submit(&provider, &all, &signed_assertion(&login(), &key(name)), &remembered()));
    }
}

#[test]
fn a_document_may_be_written_in_other_ways_than_canonical_ones() {
    let provider = saml_provider();
    let certificates = certificates(&["idp-rsa"]);
    let document = signed_assertion(&login(), &key("idp-rsa"));
    let rewritten = [
        ("a byte order mark", format!("\u{feff}{document}")),
        ("a declaration", format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{document}\n")),
        ("CDATA", document.replace(">alice<", "><![CDATA[ali]]>ce<")),
        ("references", document.replace(">alice<", ">&#97;lice<")),
        ("quotes", document.replace("Version=\"2.0\"", "Version='2.0'")),
        ("empty tags", document.replace("\"></samlp:StatusCode>", "\"/>")),
        ("a namespace nobody uses", document.replace("<samlp:Response ", "<samlp:Response xmlns:x=\"urn:x\" ")),
        ("attributes in another order", reorder(&document)),
    ];
    for (what, rewritten) in rewritten {
        assert_ne!(rewritten, document, "{what}");
        check_alice(what, submit(&provider, &certificates, &rewritten, &remembered()));
    }
}

fn reorder(document: &str) -> String {
    let id = " ID=\"_assertion-1\"";
    document.replace(id, "").replace("<saml:Assertion", &format!("<saml:Assertion{id}"))
}

#[test]
fn attributes_keep_their_values_whole_and_typed() {
    let mut login = login();
    let markup = "<x:id xmlns:x=\"urn:x\">a</x:id>";
    login.attributes = vec![
        MintAttribute::of("groups", &["a", "<script>&amp;</script>", ""]),
        MintAttribute::of("groups", &["b"]),
        MintAttribute { name: "nil".into(), friendly_name: None, values: vec![MintValue::Nil] },
        MintAttribute {
            name: "urn:oid:1".into(),
            friendly_name: Some("targeted".into()),
            values: vec![MintValue::Markup(markup.into())],
        },
        MintAttribute::of("none", &[]),
    ];
    for style in [Style::Prefixed, Style::DefaultNamespaces, Style::Typed] {
        let document = signed_assertion(&SamlLogin { style, ..login.clone() }, &key("idp-rsa"));
        let assertion = submit(&saml_provider(), &certificates(&["idp-rsa"]), &document, &remembered()).unwrap();
        assert_eq!(values(&assertion, "groups"), texts(&["a", "<script>&amp;</script>", "", "b"]));
        assert_eq!(values(&assertion, "nil"), [SamlValue::Nil]);
        assert_eq!(values(&assertion, "urn:oid:1"), [SamlValue::Structured]);
        assert_eq!(values(&assertion, "none"), []);
        let friendly = statement(&assertion).attributes.iter().filter_map(|attribute| attribute.friendly_name.clone());
        assert_eq!(friendly.collect::<Vec<_>>(), ["targeted"]);
    }
}

/// A value that is one NameID is its text, whatever blanks stand around it.
#[test]
fn a_value_may_be_a_name() {
    let name = |text: &str| format!("<n:NameID xmlns:n=\"urn:oasis:names:tc:SAML:2.0:assertion\">{text}</n:NameID>");
    for (markup, expected) in [
        (name("a"), SamlValue::Text("a".into())),
        (format!("\n  {}\n", name("a")), SamlValue::Text("a".into())),
        (name("a") + &name("b"), SamlValue::Structured),
        (format!("x{}", name("a")), SamlValue::Structured),
    ] {
        let values = vec![MintValue::Markup(markup.clone())];
        let attributes = vec![MintAttribute { name: "groups".into(), friendly_name: None, values }];
        let document = signed_assertion(&SamlLogin { attributes, ..login() }, &key("idp-rsa"));
        let assertion = submit(&saml_provider(), &certificates(&["idp-rsa"]), &document, &remembered()).unwrap();
        assert_eq!(self::values(&assertion, "groups"), [expected], "{markup}");
    }
}

#[test]
fn thousands_of_groups_are_no_trouble() {
    let mut login = login();
    let groups: Vec<String> = (0..3_000).map(|number| format!("group-{number}")).collect();
    login.attributes = vec![MintAttribute::of("groups", &groups.iter().map(String::as_str).collect::<Vec<_>>())];
    let document = signed_response(&login, &key("idp-rsa"));
    let assertion = submit(&saml_provider(), &certificates(&["idp-rsa"]), &document, &remembered()).unwrap();
    assert_eq!(values(&assertion, "groups").len(), 3_000);
}

fn encrypted(
    login: &SamlLogin,
    plaintext: &str,
    content: ContentEncryption,
    change: impl FnOnce(&mut Recipient<'_>),
) -> String {
    let public_key = key("app-decryption").public_key().unwrap();
    let mut recipient =
        Recipient { public_key: &public_key, content, transport: KeyTransport::OaepSha1, beside: false };
    change(&mut recipient);
    saml::response(login, &saml::encrypt(plaintext, recipient).unwrap())
}

fn opening_provider(allow_cbc: bool) -> Provider {
    saml_provider_with(|policy| {
        policy.allow_cbc = allow_cbc;
        policy.decryption_keys = vec![decryption_key()];
    })
}

#[test]
fn an_encrypted_assertion_is_opened() {
    use ContentEncryption as C;
    use KeyTransport as K;
    let login = login();
    let key = key("idp-rsa");
    let certificates = certificates(&["idp-rsa"]);
    let plain = saml::assertion(&login);
    let signed = saml::sign(&plain, &login.assertion_id, signer(&key)).unwrap();
    let outer = |document: &str| saml::sign(document, &login.response_id, signer(&key)).unwrap();
    for content in [C::Aes128Gcm, C::Aes192Gcm, C::Aes256Gcm, C::Aes128Cbc, C::Aes192Cbc, C::Aes256Cbc] {
        let gcm = matches!(content, C::Aes128Gcm | C::Aes192Gcm | C::Aes256Gcm);
        let transports = match content {
            C::Aes256Gcm => &[K::OaepSha1, K::OaepSha256, K::OaepSha384, K::OaepSha512][..],
            _ => &[K::OaepSha1, K::OaepSha256],
        };
        for &transport in transports {
            let beside = transport != K::OaepSha1;
            let make = |plaintext: &str| {
                encrypted(&login, plaintext, content, |recipient| {
                    recipient.beside = beside;
                    recipient.transport = transport;
                })
            };
            let what = format!("{content:?} {transport:?}");
            let check = |allow_cbc: bool, document: &str| {
                let provider = opening_provider(allow_cbc);
                check_alice(&what, submit(&provider, &certificates, document, &remembered()));
            };
            check(!gcm, &make(&signed));
            check(false, &outer(&make(&signed)));
            check(false, &outer(&make(&plain)));
        }
    }
}

#[test]
fn a_plaintext_may_lean_on_the_namespaces_around_it() {
    let login = login();
    let key = key("idp-rsa");
    let certificates = certificates(&["idp-rsa"]);
    let provider = opening_provider(false);
    let declaration = " xmlns:saml=\"urn:oasis:names:tc:SAML:2.0:assertion\"";
    let signed = saml::sign(&saml::assertion(&login), &login.assertion_id, signer(&key)).unwrap();
    let leaning = signed.replacen(declaration, "", 1);
    assert_ne!(leaning, signed);
    let document = encrypted(&login, &leaning, ContentEncryption::Aes256Gcm, |_| {});
    check_alice("from the encrypted assertion", submit(&provider, &certificates, &document, &remembered()));
    let from_root = document.replacen("<samlp:Response", &format!("<samlp:Response{declaration}"), 1);
    let from_root = from_root.replace(&format!("<saml:EncryptedAssertion{declaration}"), "<saml:EncryptedAssertion");
    check_alice("from the response", submit(&provider, &certificates, &from_root, &remembered()));

    // Under a signed response, and unsigned itself, with a type whose prefix only the response declares.
    let typed = saml::assertion(&login)
        .replace("<saml:AttributeValue>staff", "<saml:AttributeValue xsi:type=\"xs:string\">staff");
    let document = encrypted(&login, &typed, ContentEncryption::Aes256Gcm, |_| {});
    let signed = saml::sign(&document, &login.response_id, signer(&key)).unwrap();
    let schema =
        " xmlns:xs=\"http://www.w3.org/2001/XMLSchema\" xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\"";
    let signed = signed.replacen("<samlp:Response", &format!("<samlp:Response{schema}"), 1);
    check_alice("schema prefixes", submit(&provider, &certificates, &signed, &remembered()));

    // What another prefix means there, anyone could have changed.
    let foreign = saml::assertion(&login).replace(">staff<", "><q:NameID>staff</q:NameID><");
    let document = encrypted(&login, &foreign, ContentEncryption::Aes256Gcm, |_| {});
    let signed = saml::sign(&document, &login.response_id, signer(&key)).unwrap();
    let declared = " xmlns:q=\"urn:oasis:names:tc:SAML:2.0:assertion\"";
    let signed = signed.replacen("<samlp:Response", &format!("<samlp:Response{declared}"), 1);
    let refusal = submit(&provider, &certificates, &signed, &remembered()).unwrap_err();
    assert!(refusal.contains("namespace prefix"), "{refusal}");
}

#[test]
fn a_login_that_nobody_asked_for_passes_only_where_it_is_allowed() {
    let mut login = login();
    login.in_response_to = None;
    let certificates = certificates(&["idp-rsa"]);
    let document = signed_assertion(&login, &key("idp-rsa"));
    let allowing = saml_provider_with(|policy| policy.allow_idp_initiated = true);
    let assertion = submit(&allowing, &certificates, &document, &[]).unwrap();
    assert_eq!(assertion.binding, BindingVerdict::Unsolicited);
    // SAML toolkits write an empty attribute for none.
    let empty = document.replacen("<samlp:Response ", "<samlp:Response InResponseTo=\"\" ", 1);
    assert_eq!(submit(&allowing, &certificates, &empty, &[]).unwrap().binding, BindingVerdict::Unsolicited);
    // By a cipher that only who asked may use where answers are asked for.
    let opening = saml_provider_with(|policy| {
        policy.allow_idp_initiated = true;
        policy.allow_cbc = true;
        policy.decryption_keys = vec![decryption_key()];
    });
    let signed = saml::sign(&saml::assertion(&login), &login.assertion_id, signer(&key("idp-rsa"))).unwrap();
    let closed = encrypted(&login, &signed, ContentEncryption::Aes256Cbc, |_| {});
    assert_eq!(submit(&opening, &certificates, &closed, &[]).unwrap().binding, BindingVerdict::Unsolicited);
}

#[test]
fn an_observed_binding_is_told_and_not_enforced() {
    let mut provider = saml_provider();
    provider.binding = Binding::Observe;
    let document = signed_assertion(&login(), &key("idp-rsa"));
    let assertion = submit(&provider, &certificates(&["idp-rsa"]), &document, &[]).unwrap();
    assert_eq!(assertion.binding, BindingVerdict::Missing);
}

/// How it was made stands in fixtures/saml/README.md.
#[test]
fn what_another_signer_signed_verifies() {
    let mut signed: Vec<(String, String)> = ["xmlsec1-assertion-rsa", "xmlsec1-response-rsa", "xmlsec1-assertion-p256"]
        .map(|name| (name.to_owned(), if name.ends_with("rsa") { "idp-rsa" } else { "idp-p256" }.to_owned()))
        .into();
    // Every curve with every hash: providers that were set to "SHA-256" have keys on other curves too.
    for curve in ["p256", "p384", "p521"] {
        signed.extend(["256", "384", "512"].map(|hash| (format!("xmlsec1-{curve}-sha{hash}"), format!("idp-{curve}"))));
    }
    for (name, key_name) in signed {
        let document = read(&format!("saml/{name}.xml"));
        check_alice(&name, submit(&saml_provider(), &certificates(&[&key_name]), &document, &remembered()));
        let tampered = document.replace(">staff<", ">admins<");
        let refusal = submit(&saml_provider(), &certificates(&[&key_name]), &tampered, &remembered()).unwrap_err();
        assert!(refusal.contains("signature does not verify"), "{name}: {refusal}");
    }
}

/// RSA in every size that is allowed, by both paddings, with every hash.
#[test]
fn rsa_signatures_verify_in_every_size_padding_and_hash() {
    for size in [KeySize::Rsa2048, KeySize::Rsa3072, KeySize::Rsa4096] {
        let pair = rsa::KeyPair::generate(size).unwrap();
        let pkcs8: Pkcs8V1Der<'_> = pair.as_der().unwrap();
        let key = MintKey::from_pem(&pem("PRIVATE KEY", pkcs8.as_ref())).unwrap();
        let certificates = CertificateSet::from_ders([key.certificate("idp").unwrap()]).unwrap();
        for hash in [Hash::Sha256, Hash::Sha384, Hash::Sha512] {
            for pss in [false, true] {
                let login = login();
                let signer = Signer { hash, pss, ..signer(&key) };
                let signed = saml::sign(&saml::assertion(&login), &login.assertion_id, signer).unwrap();
                let document = saml::response(&login, &signed);
                let what = format!("{} bits, {hash:?}, PSS {pss}", pair.public_modulus_len() * 8);
                check_alice(&what, submit(&saml_provider(), &certificates, &document, &remembered()));
                let other = if pss { "xmldsig-more#rsa-sha256" } else { "xmldsig-more#sha256-rsa-MGF1" };
                let (here, there) = if pss {
                    ("http://www.w3.org/2007/05/", "http://www.w3.org/2001/04/")
                } else {
                    ("http://www.w3.org/2001/04/", "http://www.w3.org/2007/05/")
                };
                let method = document.split("SignatureMethod Algorithm=\"").nth(1).unwrap().split('"').next().unwrap();
                assert!(method.starts_with(here), "{method}");
                let mistaken = document.replace(method, &format!("{there}{other}"));
                let refusal = submit(&saml_provider(), &certificates, &mistaken, &remembered()).unwrap_err();
                assert!(refusal.contains("signature does not verify"), "{what}: {refusal}");
            }
        }
    }
}

/// The value of an ECDSA signature is two numbers side by side, each as long as the curve's (RFC 6931 section 2.3.6).
#[test]
fn an_elliptic_signature_has_one_form() {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    for curve in ["p256", "p384", "p521"] {
        let name = format!("idp-{curve}");
        let document = signed_assertion(&login(), &key(&name));
        let value = document.split("SignatureValue>").nth(1).unwrap().split('<').next().unwrap();
        let bytes = STANDARD.decode(value).unwrap();
        let half = bytes.len() / 2;
        let (r, s) = bytes.split_at(half);
        let integer = |number: &[u8]| {
            let number = &number[number.iter().position(|byte| *byte != 0).unwrap()..];
            let sign: &[u8] = if number[0] & 0x80 == 0 { &[] } else { &[0] };
            [&[2, u8::try_from(sign.len() + number.len()).unwrap()][..], sign, number].concat()
        };
        let numbers = [integer(r), integer(s)].concat();
        let long: &[u8] = if numbers.len() < 0x80 { &[0x30] } else { &[0x30, 0x81] };
        let der = [long, &[u8::try_from(numbers.len()).unwrap()], &numbers].concat();
        let wrong = [
            ("DER", der),
            ("one byte less", bytes[1..].to_vec()),
            ("zeros before", [&[0][..], r, &[0], s].concat()),
            ("one zero more", [&bytes[..], &[0]].concat()),
            ("zeros for r", [vec![0; half], s.to_vec()].concat()),
            ("nothing but zeros", vec![0; 2 * half]),
            ("halves in another order", [s, r].concat()),
            ("nothing", Vec::new()),
        ];
        for (what, bytes) in wrong {
            let document = document.replace(value, &STANDARD.encode(bytes));
            let refusal = submit(&saml_provider(), &certificates(&[&name]), &document, &remembered()).unwrap_err();
            assert!(refusal.contains("signature does not verify"), "{curve}, {what}: {refusal}");
        }
    }
}

#[test]
fn an_answer_without_a_login_passes_unread() {
    let provider = saml_provider();
    let certificates = certificates(&["idp-rsa"]);
    let mut denial = login();
    denial.status = "urn:oasis:names:tc:SAML:2.0:status:Responder".into();
    let logout = "<samlp:LogoutResponse xmlns:samlp=\"urn:oasis:names:tc:SAML:2.0:protocol\" ID=\"_1\"/>";
    for document in [saml::response(&denial, ""), logout.to_owned()] {
        let outcome = submit(&provider, &certificates, &document, &[]);
        assert_eq!(outcome.unwrap_err(), "capture: no login");
    }
}

#[test]
fn certificates_are_checked_before_they_are_trusted() {
    let pem = |name: &str| read(&format!("keys/{name}.certificate.test-only.pem"));
    let from = |pem: &str| CertificateSet::from_pem(pem.as_bytes());
    assert_eq!(from(""), Err(CertificateError::None));
    assert_eq!(from(&read("keys/idp-rsa.key.test-only.pem")), Err(CertificateError::None));
    assert!(matches!(
        from("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"),
        Err(CertificateError::Pem(_))
    ));
    assert!(matches!(CertificateSet::from_ders([vec![48, 0]]), Err(CertificateError::Invalid { position: 1, .. })));
    assert_eq!(from(&pem("weak-rsa-1024")), Err(CertificateError::WeakRsa { position: 1, bits: 1024 }));
    let odd = from(&[pem("idp-rsa"), pem("odd-secp256k1")].concat()).unwrap_err();
    let message = "certificate 2 has a key of type `1.3.132.0.10`; expected RSA, or EC on P-256, P-384 or P-521";
    assert_eq!(odd.to_string(), message);
    // Each costs a verification where none fits.
    let many = |count: usize| (0..count).map(|number| key("idp-p256").certificate(&format!("idp{number}")).unwrap());
    assert_eq!(CertificateSet::from_ders(many(8)).unwrap().expiries().count(), 8);
    assert_eq!(CertificateSet::from_ders(many(9)), Err(CertificateError::TooMany(9)));
    let (set, skipped) = CertificateSet::usable(&many(9).map(|der| vec![der]).collect::<Vec<_>>()).unwrap();
    assert_eq!(set.expiries().count(), 8);
    assert_eq!(skipped, [CertificateError::Further { position: 9 }]);
    let set = from(&[pem("idp-rsa"), pem("idp-p256"), pem("idp-rsa")].concat()).unwrap();
    assert_ne!(set, from(&pem("idp-rsa")).unwrap());
    assert_eq!(set.expiries().filter(|at| *at > NOW).count(), 2);
}

#[test]
fn a_decryption_key_is_read_from_both_forms_and_never_printed() {
    for name in ["app-decryption.key", "app-decryption.pkcs1"] {
        let key = DecryptionKey::from_pem(read(&format!("keys/{name}.test-only.pem")).as_bytes()).unwrap();
        assert_eq!(format!("{key:?}"), "DecryptionKey(2048 bits)");
    }
    for name in ["idp-p256.key", "weak-rsa-1024.key"] {
        let outcome = DecryptionKey::from_pem(read(&format!("keys/{name}.test-only.pem")).as_bytes());
        assert_eq!(outcome.unwrap_err(), DecryptionKeyError::Key, "{name}");
    }
    assert!(matches!(DecryptionKey::from_pem(b"no key"), Err(DecryptionKeyError::Pem(_))));
}

#[test]
fn metadata_gives_certificates_and_addresses() {
    let ders: Vec<Vec<u8>> = ["idp-rsa", "idp-p256"].map(|name| key(name).certificate(name).unwrap()).into();
    let document = saml::metadata(ISSUER, &ders, "https://idp.example/redirect", "https://idp.example/post");
    let found = metadata::read(&document, ISSUER, NOW).unwrap();
    assert_eq!(found.certificates, CertificateSet::from_ders(ders).unwrap());
    assert_eq!(found.sso_locations, ["https://idp.example/redirect", "https://idp.example/post"]);

    let federation = format!(
        "<md:EntitiesDescriptor xmlns:md=\"urn:oasis:names:tc:SAML:2.0:metadata\" validUntil=\"2026-02-01T00:00:00Z\">\
         {}{document}</md:EntitiesDescriptor>",
        document.replace(ISSUER, "https://other.example")
    );
    let found = metadata::read(&federation, ISSUER, NOW).unwrap();
    assert_eq!(found.valid_until.unwrap().to_string(), "2026-02-01T00:00:00.000Z");

    let late = kit::NOW.plus(std::time::Duration::from_secs(86_400));
    let saml2 = "protocolSupportEnumeration=\"urn:oasis:names:tc:SAML:2.0:protocol\"";
    for (what, document, now, expected) in [
        ("expired", federation.clone(), late, "valid until 2026-02-01T00:00:00.000Z; it is 2026-02-01T12:00:00.000Z"),
        ("twice", federation.replace("https://other.example", ISSUER), NOW, "more than once"),
        ("another", document.replace(ISSUER, "https://other.example"), NOW, "it describes `https://other.example`"),
        ("SAML 1", document.replace(saml2, "protocolSupportEnumeration=\"urn:1.1\""), NOW, "no SAML 2.0"),
        ("script", document.replace("https://idp.example/post", "javascript:alert(1)"), NOW, "`javascript:alert(1)`"),
        ("no key", document.replace("use=\"signing\"", "use=\"encryption\""), NOW, "no certificate"),
        ("DTD", format!("<!DOCTYPE a>{document}"), NOW, "DTD"),
        ("HTML", "<html></html>".into(), NOW, "its root is `html`"),
        ("no time", federation.replace("2026-02-01T00:00:00Z", "soon"), NOW, "`EntitiesDescriptor` is not a time"),
    ] {
        let found = metadata::read(&document, ISSUER, now).unwrap_err().to_string();
        assert!(found.contains(expected), "{what}: {found}");
    }
}

/// LOG4.
#[test]
fn log04_a_certificate_that_cannot_be_used_leaves_the_others() {
    let der = |name: &str| {
        use rustls_pki_types::pem::PemObject as _;
        let pem = read(&format!("keys/{name}.certificate.test-only.pem"));
        rustls_pki_types::CertificateDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec()
    };
    let good = der("idp-rsa");
    let parse = |ders: &[Vec<u8>]| {
        metadata::read(&saml::metadata(ISSUER, ders, "https://idp.example/r", "https://idp.example/p"), ISSUER, NOW)
    };
    let odd = der("odd-secp256k1");
    let found = parse(&[der("weak-rsa-1024"), odd.clone(), good.clone(), b"placeholder".to_vec()]).unwrap();
    assert_eq!(found.certificates, CertificateSet::from_ders([good.clone()]).unwrap());
    let told: Vec<String> = found.skipped.iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 3);
    assert!(
        told[0].contains("certificate 1 has an RSA key of 1024 bits") && told[1].contains("certificate 2"),
        "{told:?}"
    );
    assert!(parse(&[odd]).unwrap_err().to_string().contains("certificate 1 has a key of type"));
    // Lines of PEM around the base64, as some providers leave them there.
    let document =
        saml::metadata(ISSUER, std::slice::from_ref(&good), "https://idp.example/r", "https://idp.example/p");
    let start = document.find("<ds:X509Certificate>").unwrap() + "<ds:X509Certificate>".len();
    let end = start + document[start..].find('<').unwrap();
    let base64 = document[start..end].to_owned();
    let pem = format!("\n-----BEGIN CERTIFICATE-----\n{base64}\n-----END CERTIFICATE-----\n");
    let found = metadata::read(&document.replace(&base64, &pem), ISSUER, NOW).unwrap();
    assert_eq!(found.certificates, CertificateSet::from_ders([good.clone()]).unwrap());
    // A chain in one `KeyInfo`: its authority signs no logins.
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let mut authority = rcgen::CertificateParams::default();
    authority.distinguished_name.push(rcgen::DnType::CommonName, "An authority");
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority_der = authority.self_signed(&authority_key).unwrap().der().to_vec();
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let mut leaf = rcgen::CertificateParams::default();
    leaf.distinguished_name.push(rcgen::DnType::CommonName, "A leaf");
    let leaf_der = leaf.signed_by(&rcgen::KeyPair::generate().unwrap(), &issuer).unwrap().der().to_vec();
    let groups = [vec![leaf_der.clone(), authority_der.clone()]];
    let (set, skipped) = CertificateSet::usable(&groups).unwrap();
    assert_eq!(set, CertificateSet::from_ders([leaf_der]).unwrap());
    assert_eq!(skipped, [CertificateError::Authority { position: 2 }]);
    // By itself it is what the provider says it is.
    assert!(CertificateSet::usable(&[vec![authority_der]]).is_ok());
}

#[test]
fn the_three_ways_of_signing_read_the_same() {
    let provider = saml_provider();
    let certificates = certificates(&["idp-rsa"]);
    let key = key("idp-rsa");
    let make: [fn(&SamlLogin, &MintKey) -> String; 3] = [signed_assertion, signed_response, signed_twice];
    for make in make {
        check_alice("signed", submit(&provider, &certificates, &make(&login(), &key), &remembered()));
    }
}
