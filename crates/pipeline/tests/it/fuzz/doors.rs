//! The readers of a stranger's bytes, each with samples, with words that it knows, and with what must hold of its answers.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::header::HeaderMap;
use http::{Method, StatusCode};
use loginsync_mint::oidc;
use loginsync_mint::saml::{self, ContentEncryption};
use loginsync_pipeline::capture::fields::{Field, ProtocolFields};
use loginsync_pipeline::capture::oidc::{UntrustedIdToken, object};
use loginsync_pipeline::capture::saml::logout::{LogoutMessage, read_post, read_redirect};
use loginsync_pipeline::capture::saml::{self as peek, Message, read};
use loginsync_pipeline::capture::token::{self, Addressed, Beginning, Reading};
use loginsync_pipeline::capture::watch::{BodyScan, Seeks, Sighting, read_query};
use loginsync_pipeline::capture::{self, CallbackMessage, relay};
use loginsync_pipeline::provider::Provider;
use loginsync_pipeline::reading::media;
use loginsync_pipeline::verify::Assertion;
use loginsync_pipeline::verify::saml::{CertificateSet, metadata};

use super::door::{Door, texts};
use crate::kit::{self, NOW};

pub const ALL: &[&Door] =
    &[&FORM, &MEMBERS, &PARTS, &TOKEN, &READING, &JSON, &SAML, &SIGNED, &ENCRYPTED, &LOGOUT, &METADATA];

/// `read`, or why not.
fn told<T>(read: Result<T, impl std::fmt::Display>) -> String {
    match read {
        Ok(_) => String::from("read"),
        Err(why) => why.to_string(),
    }
}

// ---------------------------------------------------------------------------------------------------------------- forms

/// Bodies and queries: what reads them whole, and what watches them go by in pieces.
pub const FORM: Door = Door {
    name: "form",
    samples: || {
        texts(&[
            "SAMLResponse=PHNhbWxwOlJlc3BvbnNlLz4%3D&RelayState=a%2Fb",
            "id_token=a.b.c&state=s&code=d",
            "error=access_denied&error_description=x%20y&state=s",
            "a=1;ID%5Ftoken=x;+samlresponse=P",
            "%53AMLRes%u0070onse=x&[id_token]=y&=&&;",
            "name=%E4%BD%A0&empty=&SAMLart=1&access_token=2&wresult=3&credential=4&response=5",
            // Found by libFuzzer: letters behind a `%` that begins no escape.
            "SAMLResponse=PHLR0u\u{1d}.es%Jlc3BnbvL43=aAM\u{18}R\u{4}\0\0o!e=ns\u{4}\0o!e=ns\0x&[id%t+k",
        ])
    },
    words: &[
        b"SAMLResponse=",
        b"SAMLRequest=",
        b"id_token=",
        b"code=",
        b"state=",
        b"RelayState=",
        b"error=",
        b"SAMLart=",
        b"%5F",
        b"%u0069",
        b"%00",
        b"&",
        b";",
        b"=",
        b"+",
        b"[",
        b"]",
        b"\xef\xbb\xbf",
        b"\xff\xfe",
        b"\xfe\xff",
        b"P",
    ],
    look: form,
};

/// What is looked for in bodies that go by.
fn seeks() -> Seeks {
    let issuers: std::sync::Arc<[String]> = std::sync::Arc::from([String::from("https://idp.example/")]);
    Seeks {
        login: Some(issuers.clone()),
        access_token: Some(issuers.clone()),
        access_token_in_bodies: Some(issuers.clone()),
        every_body: true,
        stray: Some(std::sync::Arc::new(Addressed::new(issuers.to_vec(), Vec::new()))),
        assertions: true,
        ..Seeks::default()
    }
}

/// What a watch sees of a body. Whether it lets it pass does not depend on how the bytes are cut.
fn watched(kind: &str, input: &[u8]) -> Sighting {
    let scan = || BodyScan::new(&seeks(), &media::readings([kind.as_bytes()].into_iter())).unwrap().unwrap();
    let whole = scan().read_whole(input);
    let mut pieces = scan();
    let in_pieces = input.iter().map(|byte| pieces.read(&[*byte])).find(|seen| *seen != Sighting::Clear);
    let in_pieces = in_pieces.unwrap_or_else(|| pieces.finish());
    let passes = |seen: Sighting| seen == Sighting::Clear;
    assert_eq!(
        passes(whole),
        passes(in_pieces),
        "a scan does not depend on how the bytes are cut: {whole:?}, {in_pieces:?}"
    );
    whole
}

/// Whether an app could log a person of ours in by a value.
fn logs_in(value: &str) -> bool {
    token::read(value.as_bytes()).passes(["https://idp.example/"]).is_err()
}

fn form(input: &[u8]) -> String {
    let whole = watched("application/x-www-form-urlencoded", input);
    let mut fields = ProtocolFields::default();
    let read = fields.read_body(input);
    let carries = |fields: &ProtocolFields| {
        [Field::IdToken, Field::SamlResponse].into_iter().any(|field| fields.value(field).is_some_and(logs_in))
    };
    if read.is_ok() && carries(&fields) {
        assert_ne!(whole, Sighting::Clear, "what logs a person in is sighted as it goes by");
    }
    if let Ok(query) = std::str::from_utf8(input) {
        let mut fields = ProtocolFields::default();
        if fields.read_query(query).is_ok() && carries(&fields) {
            assert_ne!(read_query(query, &seeks()), Sighting::Clear, "and in a query");
        }
    }
    let providers = [
        std::sync::Arc::clone(&SAML_PROVIDER),
        std::sync::Arc::new(kit::provider(loginsync_pipeline::provider::Protocol::Oidc(kit::oidc_policy()))),
    ];
    let message = CallbackMessage {
        method: &Method::POST,
        query: None,
        content_type: Some("application/x-www-form-urlencoded"),
        encoded: false,
        body: input,
    };
    let captured = capture::read(&providers, message, 64 * 1024);
    format!("{}, {}", told(read), told(captured))
}

static SAML_PROVIDER: LazyLock<std::sync::Arc<Provider>> = LazyLock::new(|| std::sync::Arc::new(kit::saml_provider()));

// -------------------------------------------------------------------------------------------------------------- readings

/// Texts that an app could read as a token, and whose.
pub const READING: Door = Door {
    name: "reading",
    samples: || {
        let token = signed_id_token(&serde_json::json!({"iss": "https://idp.example/", "sub": "alice"}), "idp-rsa");
        let parts: Vec<&str> = token.split('.').collect();
        let assertion = "<saml:Assertion><saml:Issuer>x</saml:Issuer></saml:Assertion>";
        vec![
            format!("Bearer {token}").into_bytes(),
            format!("Basic {}, {token}", STANDARD.encode(format!("x:{token}"))).into_bytes(),
            serde_json::json!({"payload": parts[1], "signature": parts[2]}).to_string().into_bytes(),
            STANDARD.encode(assertion).into_bytes(),
            assertion.as_bytes().to_vec(),
        ]
    },
    words: &[
        b"ey",
        b".",
        b"eyJpc3MiOiJhIn0",
        b"%",
        b"%2e",
        b"\\u0065",
        b"=",
        b"\"",
        b" ",
        b"PD",
        b"\xa0",
        b"<",
        b"{\"",
        b"-",
    ],
    look: reading,
};

fn reading(input: &[u8]) -> String {
    let whole = token::read(input);
    if whole != Reading::NotAToken && input.len() <= token::HEAD {
        assert_ne!(token::beginning(input), Beginning::Other, "the head of a token may begin one");
    }
    let found = token::within(input).map(|found| found.len());
    assert!(token::is_within(input) || found == Ok(0), "two looks for the same");
    match whole {
        Reading::Token { .. } => String::from("read"),
        other => format!("{other:?} {found:?}"),
    }
}

/// JSON bodies that go by: their top-level members.
pub const MEMBERS: Door = Door {
    name: "members",
    samples: || {
        let token = of_ours();
        let texts = [
            format!("{{\"a\": [1, {{\"b\": \"}}\"}}], \"id_token\": \"{token}\"}}"),
            format!("{{/*\"*/'i\\u0064_token' = [\"{token}\"] ; b: true}}"),
            "{\"SAMLResponse\": \"PHA6UmVzcG9uc2U+PGE6QXNzZXJ0aW9uLz48L3A6UmVzcG9uc2U+\"}".to_owned(),
            "{\"id_token\": \"a word\", \"n\": -1.5e9}".to_owned(),
        ];
        texts.into_iter().map(String::into_bytes).collect()
    },
    words: &[
        b"\"id_token\"",
        b"\\u0069",
        b"{",
        b"}",
        b"[",
        b"]",
        b":",
        b",",
        b"\"",
        b"'",
        b"/*",
        b"*/",
        b"//",
        b"#",
        b"\\",
        b"\0",
    ],
    look: |input| {
        let seen = watched("application/json", input);
        let Ok(members) = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(input) else {
            return String::from("not JSON");
        };
        let value = members.get("id_token").and_then(serde_json::Value::as_str);
        if value.is_some_and(logs_in) {
            assert_ne!(seen, Sighting::Clear, "what logs a person in is sighted as it goes by");
        }
        format!("read, {}", matches!(seen, Sighting::Clear))
    },
};

/// Multipart bodies that go by.
pub const PARTS: Door = Door {
    name: "parts",
    samples: || {
        let token = of_ours();
        let part = |head: &str, value: &str| format!("--XX\r\n{head}\r\n\r\n{value}\r\n");
        let named = part("Content-Disposition: form-data; name=\"id_token\"", token);
        let file = part(
            "Content-Disposition: form-data; name=\"f\"; filename=\"a.txt\"\r\nContent-Type: text/plain",
            "a\r\n-b",
        );
        // Found by libFuzzer: a head that ends with a bare carriage return.
        let bare = file.replacen("plain\r\n", "plain\r\r\n", 1);
        let all = [
            format!("{file}{named}--XX--\r\n"),
            format!("{named}{file}--XX--"),
            format!("\r\n{file}--XX--\r\n"),
            format!("{bare}--XX--\r\n"),
        ];
        all.map(String::into_bytes).to_vec()
    },
    words: &[
        b"--XX",
        b"--XX--",
        b"\r\n",
        b"\n",
        b"\r",
        b"Content-Disposition: form-data; name=",
        b"\"id_token\"",
        b"name*0=",
        b"--",
        b"\0",
    ],
    look: |input| {
        let seen = watched("multipart/form-data; boundary=XX", input);
        let honest =
            format!("\r\n--XX\r\nContent-Disposition: form-data; name=\"id_token\"\r\n\r\n{}\r\n--XX", of_ours());
        if memchr::memmem::find(input, honest.as_bytes()).is_some() {
            assert_ne!(seen, Sighting::Clear, "what logs a person in is sighted as it goes by");
        }
        match seen {
            Sighting::Clear => String::from("read"),
            Sighting::Login(_) => String::from("sighted"),
            Sighting::Unreadable(why) => why.to_owned(),
        }
    },
};

fn signed_id_token(claims: &serde_json::Value, signer: &str) -> String {
    let header = serde_json::json!({"alg": "RS256", "typ": "JWT", "kid": signer});
    oidc::id_token(&kit::key(signer), "RS256", &header, claims).unwrap()
}

/// A token of the provider whose logins are looked for.
fn of_ours() -> &'static str {
    static TOKEN: LazyLock<String> = LazyLock::new(|| {
        signed_id_token(&serde_json::json!({"iss": "https://idp.example/", "sub": "alice"}), "idp-rsa")
    });
    &TOKEN
}

// --------------------------------------------------------------------------------------------------------------- tokens

/// JWTs: their three parts, header and claims.
pub const TOKEN: Door = Door {
    name: "token",
    samples: || {
        let claims =
            serde_json::json!({"iss": "https://idp.example/", "aud": ["a", "b"], "exp": 1.5e9, "groups": ["x"]});
        vec![
            signed_id_token(&claims, "idp-rsa").into_bytes(),
            b"{\"alg\":\"RS256\",\"kid\":\"a\",\"typ\":\"JWT\"}.{\"iss\":\"https://idp.example/\",\"sub\":\"alice\"}.AAAA".to_vec(),
            b"{\"alg\":\"ES256\",\"typ\":\"logout+jwt\",\"signer\":\"arn\"}.{\"iss\":\"a\",\"aud\":\"b\"}.AA==".to_vec(),
        ]
    },
    words: &[
        b".",
        b"\"alg\":",
        b"\"none\"",
        b"\"crit\":[\"b64\"]",
        b"\"typ\":\"at+jwt\"",
        b"\"kid\":",
        b"\"jwk\":{}",
        b"\"iss\":",
        b"\"aud\":",
        b"null",
        b"1e999",
        b"-0",
        b"\\u0000",
        b"\\ud800",
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b"=",
        b"\"",
    ],
    look: token,
};

/// Both as it is, and with its parts encoded: a mutation of base64 hardly ever reaches the JSON behind it.
fn token(input: &[u8]) -> String {
    let mut answers = Vec::new();
    let encoded: Vec<String> = input.split(|byte| *byte == b'.').map(|part| URL_SAFE_NO_PAD.encode(part)).collect();
    for compact in [String::from_utf8_lossy(input).into_owned(), encoded.join(".")] {
        let plain = UntrustedIdToken::parse(&compact);
        if let Ok(token) = &plain {
            assert_eq!(compact.split('.').count(), 3, "three parts");
            let (input, signature) = token.as_received();
            let shown = format!("{token:?}");
            assert!(!shown.contains(input) && (signature.len() < 8 || !shown.contains(signature)), "{shown}");
        }
        answers.push(told(plain));
        answers.push(told(UntrustedIdToken::parse_access_token(&compact)));
        answers.push(told(UntrustedIdToken::parse_padded(&compact)));
        answers.push(told(UntrustedIdToken::parse_logout(&compact)));
    }
    answers.sort_by_key(|answer| answer != "read");
    answers.dedup();
    answers.join(", ")
}

// ----------------------------------------------------------------------------------------------------------------- json

/// A token endpoint's replies, and JSON objects at all.
pub const JSON: Door = Door {
    name: "json",
    samples: || {
        texts(&[
            "{\"id_token\":\"a.b.c\",\"access_token\":\"x\",\"refresh_token\":\"y\",\"expires_in\":3600}",
            "{\"error\":\"invalid_grant\",\"error_description\":\"\\u00e9\\n\"}",
            "{\"a\":[[[{}]]],\"b\":1.5e3,\"ID_Token\":\"x\",\"id_token\":null}",
            "<html>access_token</html>",
        ])
    },
    words: &[
        b"\"id_token\":",
        b"\"access_token\":",
        b"\"Access_Token\":\"z\",",
        b"\"refresh_token\":",
        b"\"error\":",
        b"null",
        b"true",
        b"1e400",
        b"\\ud83d",
        b"\\u0069",
        b"\"\":",
        b"[",
        b"]",
        b"{",
        b"}",
        b",",
        b":",
        b"\"",
        b"\xef\xbb\xbf",
        b"\xff",
    ],
    look: json,
};

fn json(input: &[u8]) -> String {
    let headers = HeaderMap::new();
    let [well, badly] =
        [StatusCode::OK, StatusCode::BAD_REQUEST].map(|status| relay::read_reply(status, &headers, input));
    // What no app can read is no tokens, and what an app could read is never taken for a refusal.
    if let Ok(serde_json::Value::Object(members)) = serde_json::from_slice(input) {
        let names = |name: &str| members.keys().any(|known| known == name && members[known].is_string());
        if names("id_token") || names("access_token") {
            for reply in [&well, &badly] {
                assert!(!matches!(reply, Ok(relay::TokenReply::Refusal(_))), "tokens are not passed on as a refusal");
            }
        }
    }
    let parts = [told(object("body", input)), told(well), told(badly)];
    parts.join(", ")
}

// ----------------------------------------------------------------------------------------------------------------- saml

const XML_WORDS: &[&[u8]] = &[
    b"<!--",
    b"-->",
    b"<![CDATA[",
    b"]]>",
    b"<?x ?>",
    b"<!DOCTYPE a [<!ENTITY e \"x\">]>",
    b"&e;",
    b"&#0;",
    b"&#x41;",
    b"&amp;",
    b"xmlns=\"\"",
    b"xmlns:a=\"urn:a\"",
    b"xml:id=\"a\"",
    b" ID=\"_a\"",
    b"<saml:Assertion",
    b"</saml:Assertion>",
    b"<ds:Signature",
    b"<ds:Reference URI=\"\">",
    b"<ds:Transform Algorithm=\"http://www.w3.org/TR/1999/REC-xpath-19991116\"/>",
    b"<saml:EncryptedAssertion>",
    b"<samlp:Extensions>",
    b"\xe2\x80\xa8",
    b"alice",
    b"admins",
    b"\r\n",
    b"\0",
    b"\"",
    b"'",
    b"<",
    b">",
    b"/>",
];

/// The wall before the XML library.
pub const SAML: Door = Door {
    name: "saml",
    samples: || {
        let key = kit::key("idp-rsa");
        let mut samples = vec![
            kit::signed_assertion(&kit::login(), &key).into_bytes(),
            kit::signed_response(&kit::login(), &key).into_bytes(),
            saml::assertion(&kit::login()).into_bytes(),
        ];
        samples.extend(texts(&[
            "<samlp:LogoutResponse xmlns:samlp=\"urn:oasis:names:tc:SAML:2.0:protocol\" ID=\"_a\" Version=\"2.0\"/>",
            "<a/>",
        ]));
        samples
    },
    words: XML_WORDS,
    look: saml_document,
};

fn saml_document(input: &[u8]) -> String {
    let head = peek::root_name(input);
    let read_of = read(&STANDARD.encode(input), 64 * 1024);
    if let Ok(Message::Response(response)) = &read_of {
        assert!(!response.issuer().is_empty(), "a login names its issuer");
        let text = std::str::from_utf8(input).expect("only UTF-8 is read");
        assert!(roxmltree::Document::parse(text).is_ok(), "only what is well-formed is read");
        assert!(!text.contains("<!DOCTYPE") && !text.contains("<!--"), "neither type nor comment");
    }
    // The field as it is: base64 that is none.
    let raw = read(&String::from_utf8_lossy(input), 64 * 1024);
    format!("{}, {head:?}, {}", told(read_of), told(raw))
}

/// Signed documents, to the end of verification: whoever changes one is refused, or has changed nothing that it says.
pub const SIGNED: Door = Door {
    name: "signed",
    samples: || {
        let key = kit::key("idp-rsa");
        vec![
            kit::signed_assertion(&kit::login(), &key).into_bytes(),
            kit::signed_response(&kit::login(), &key).into_bytes(),
            kit::signed_twice(&kit::login(), &key).into_bytes(),
        ]
    },
    words: XML_WORDS,
    look: signed,
};

struct Good {
    provider: Provider,
    certificates: CertificateSet,
    says: String,
}

/// What an assertion says, without what is only about the message around it.
fn says(assertion: &Assertion) -> String {
    format!("{:?} {:?} {:?}", assertion.issuer, assertion.statement, assertion.expires_at)
}

static GOOD: LazyLock<Good> = LazyLock::new(|| {
    let (provider, certificates) = (kit::saml_provider(), kit::certificates(&["idp-rsa"]));
    let document = kit::signed_assertion(&kit::login(), &kit::key("idp-rsa"));
    let says = says(&kit::submit(&provider, &certificates, &document, &kit::remembered()).unwrap());
    Good { provider, certificates, says }
});

fn signed(input: &[u8]) -> String {
    verified(&GOOD, &String::from_utf8_lossy(input))
}

fn verified(good: &Good, document: &str) -> String {
    match kit::submit(&good.provider, &good.certificates, document, &kit::remembered()) {
        Ok(assertion) => {
            assert_eq!(says(&assertion), good.says, "what is believed is what was signed");
            String::from("read")
        }
        Err(refusal) => refusal,
    }
}

/// Encrypted assertions: malformed ciphertext and padding (threat 79).
pub const ENCRYPTED: Door = Door {
    name: "cipher",
    samples: || {
        let inner = saml::assertion(&kit::login());
        let signed = saml::sign(&inner, "_assertion-1", kit::signer(&kit::key("idp-rsa"))).unwrap_or(inner);
        [ContentEncryption::Aes128Cbc, ContentEncryption::Aes256Gcm]
            .map(|how| crate::saml_cases::encrypted(&signed, how).into_bytes())
            .to_vec()
    },
    words: &[
        b"AAAA",
        b"====",
        b"<xenc:CipherValue>",
        b"</xenc:CipherValue>",
        b"<xenc:EncryptedKey>",
        b"aes128-cbc",
        b"aes256-gcm",
        b"rsa-oaep",
        b"rsa-1_5",
        b"<",
        b">",
        b"\0",
    ],
    look: encrypted,
};

static DECRYPTS: LazyLock<Good> = LazyLock::new(|| {
    let provider = kit::saml_provider_with(|policy| {
        policy.decryption_keys = vec![kit::decryption_key()];
        policy.allow_cbc = true;
    });
    Good { provider, certificates: kit::certificates(&["idp-rsa"]), says: GOOD.says.clone() }
});

fn encrypted(input: &[u8]) -> String {
    verified(&DECRYPTS, &String::from_utf8_lossy(input))
}

// --------------------------------------------------------------------------------------------------------------- logout

/// LogoutRequests, posted and in a query.
pub const LOGOUT: Door = Door {
    name: "logout",
    samples: || {
        let document = "<samlp:LogoutRequest xmlns:samlp=\"urn:oasis:names:tc:SAML:2.0:protocol\" \
            xmlns:saml=\"urn:oasis:names:tc:SAML:2.0:assertion\" Destination=\"https://app.example/slo\" ID=\"_l1\" \
            IssueInstant=\"2026-03-01T12:00:00Z\" Version=\"2.0\"><saml:Issuer>https://idp.example/saml</saml:Issuer>\
            <saml:NameID>alice</saml:NameID><samlp:SessionIndex>_s</samlp:SessionIndex></samlp:LogoutRequest>";
        vec![document.as_bytes().to_vec(), document.replace("samlp:", "p:").replace(":samlp", ":p").into_bytes()]
    },
    words: XML_WORDS,
    look: logout,
};

fn logout(input: &[u8]) -> String {
    use std::io::Read as _;
    let posted = read_post(&STANDARD.encode(input), 64 * 1024);
    if let Ok(LogoutMessage::Request(request)) = &posted {
        assert!(!request.issuer().is_empty() && !request.id().is_empty(), "who asks, and with what");
    }
    let mut packed = Vec::new();
    flate2::read::DeflateEncoder::new(input, flate2::Compression::fast()).read_to_end(&mut packed).unwrap();
    let query: String = form_urlencoded::Serializer::new(String::new())
        .append_pair("SAMLRequest", &STANDARD.encode(packed))
        .append_pair("SigAlg", "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256")
        .append_pair("Signature", "AAAA")
        .finish();
    let text = String::from_utf8_lossy(input);
    let _ = (peek::request_id_of_post(&text), peek::request_id_of_redirect(&text), peek::redirect_root_name(&text));
    format!("{}, {}, {}", told(posted), told(read_redirect(&query)), told(read_redirect(&text)))
}

/// Metadata comes from the provider, which is not a stranger; what stands between may be.
pub const METADATA: Door = Door {
    name: "metadata",
    samples: || {
        let certificate = kit::read("keys/idp-rsa.certificate.test-only.pem");
        let body: String = certificate.lines().filter(|line| !line.starts_with("-----")).collect();
        let certificate = STANDARD.decode(body).unwrap();
        let of = |id: &str| {
            saml::metadata(
                id,
                std::slice::from_ref(&certificate),
                "https://idp.example/sso",
                "https://idp.example/post",
            )
        };
        vec![of("https://idp.example/saml").into_bytes()]
    },
    words: XML_WORDS,
    look: |input| told(metadata::read(&String::from_utf8_lossy(input), "https://idp.example/saml", NOW)),
};
