//! The words of a refusal are what an operator has: each that capture and metadata know is brought about here, by the message that
//! it is about.

use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use loginsync_mint::saml as mint;
use loginsync_pipeline::capture::bearer::{BearerFault, Borne};
use loginsync_pipeline::capture::oidc::UntrustedIdToken;
use loginsync_pipeline::capture::{self, CallbackMessage, bearer, relay, saml};
use loginsync_pipeline::ids::{Issuer, ProviderName, Timestamp};
use loginsync_pipeline::provider::Form;
use loginsync_pipeline::provider::{Mode, Protocol, Provider};
use loginsync_pipeline::verify::saml::metadata;

use crate::kit::{self, NOW, key, login, signed_assertion, signed_response};
use crate::saml_cases;

/// Every text after `#[error(` of a file, as an expression that matches what it is formatted to.
fn templates(path: &str) -> Vec<regex::Regex> {
    let source = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(path)).unwrap();
    let literal = regex::Regex::new(r#"(?s)#\[error\(\s*"((?:[^"\\]|\\.)*)""#).unwrap();
    let wrapped = regex::Regex::new(r"\\\n\s*").unwrap();
    let place = regex::Regex::new(r"\\\{[^}]*\\\}").unwrap();
    literal
        .captures_iter(&source)
        .map(|found| {
            let text = wrapped.replace_all(&found[1], "").replace("\\\"", "\"");
            let expression = place.replace_all(&regex::escape(&text), "(?s:.*)").into_owned();
            regex::Regex::new(&format!("^{expression}$")).unwrap()
        })
        .collect()
}

fn assert_all_seen(path: &str, least: usize, seen: &[String]) {
    let templates = templates(path);
    assert!(templates.len() >= least, "{path}: {templates:?}");
    let unseen: Vec<&str> = templates
        .iter()
        .filter(|template| !seen.iter().any(|text| template.is_match(text)))
        .map(regex::Regex::as_str)
        .collect();
    assert!(unseen.is_empty(), "{path} has refusals that nothing here brings about: {unseen:#?}\nseen: {seen:#?}");
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
    }
    headers
}

fn refusal<T, E: ToString>(answer: Result<T, E>) -> Option<String> {
    answer.err().map(|why| why.to_string())
}

fn jwt(header: &str, claims: &str) -> String {
    format!("{}.{}.AAAA", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims))
}

#[test]
fn of_messages_at_a_callback() {
    let watched = [Arc::new(kit::saml_provider()), Arc::new(kit::provider(Protocol::Oidc(kit::oidc_policy())))];
    let relayed = [Arc::new(Provider { mode: Mode::TokenRelay, ..kit::provider(Protocol::Oidc(kit::oidc_policy())) })];
    let form = Some("application/x-www-form-urlencoded");
    let token = jwt(r#"{"alg":"RS256"}"#, r#"{"iss":"https://nobody.example"}"#);
    let post = |body: &str| (Method::POST, None, form, false, body.to_owned());
    let messages = [
        (Method::GET, Some("id_token=x"), form, false, String::new()),
        (Method::PUT, None, form, false, "id_token=x".into()),
        (Method::POST, None, Some("text/xml"), false, "<a/>".into()),
        (Method::POST, None, form, true, "id_token=x".into()),
        post("id_token=%ff"),
        post("id_token=x&id_token=y"),
        (Method::POST, Some("id_token=x"), form, false, String::new()),
        post("code=c"),
        post("SAMLart=x"),
        post("access_token=x"),
        post("id_token=x&SAMLResponse=y"),
        post("id_token=x"),
        post("id_token=x&_method=GET"),
        post("SAMLResponse=x"),
        post(&format!("id_token={token}")),
    ];
    let mut seen = Vec::new();
    for providers in [&watched[..], &relayed[..]] {
        for (method, query, content_type, encoded, body) in &messages {
            let (query, content_type, encoded) = (*query, *content_type, *encoded);
            let message = CallbackMessage { method, query, content_type, encoded, body: body.as_bytes() };
            seen.extend(refusal(capture::read(providers, message, 1024)));
        }
    }
    assert_all_seen("capture.rs", 14, &seen);
}

#[test]
fn of_bodies_whose_bytes_are_not_letters() {
    let watched = [Arc::new(kit::saml_provider())];
    for body in [&b"\xff\xfea=b"[..], b"\xfe\xffa=b", b"a=b\0"] {
        let content_type = Some("application/x-www-form-urlencoded");
        let message = CallbackMessage { method: &Method::POST, query: None, content_type, encoded: false, body };
        let found = refusal(capture::read(&watched, message, 1024)).unwrap();
        assert!(found.contains("it is in UTF-16 or UTF-32"), "{body:x?}: {found}");
    }
}

#[test]
fn of_id_tokens() {
    let good = r#"{"alg":"RS256"}"#;
    let texts = [
        "A".repeat(600_000),
        "a.b".into(),
        "a.b.c.d.e".into(),
        format!("{}.%.AAAA", URL_SAFE_NO_PAD.encode(good)),
        jwt("[]", "{}"),
        jwt("{}", "{}"),
        jwt(r#"{"alg":"RS256","crit":["b64"]}"#, "{}"),
        jwt(r#"{"alg":"RS256","typ":"secevent+jwt"}"#, "{}"),
        jwt(good, "{}"),
        jwt(good, r#"{"iss":7}"#),
    ];
    let seen: Vec<String> = texts.iter().filter_map(|text| refusal(UntrustedIdToken::parse(text))).collect();
    assert_eq!(seen.len(), texts.len(), "{seen:#?}");
    assert_all_seen("capture/oidc.rs", 8, &seen);
}

#[test]
fn of_tokens_in_headers() {
    let of = |form: Form, name: &str| {
        let mut policy = kit::oidc_policy();
        policy.bearer = Some(loginsync_pipeline::provider::BearerPolicy { form, signer: None });
        let name = ProviderName::parse(name).unwrap();
        let issuer = Issuer::parse(&format!("https://{name}.example")).unwrap();
        Arc::new(Provider { mode: Mode::Bearer, name, issuer, ..kit::provider(Protocol::Oidc(policy)) })
    };
    let providers = [of(Form::CloudflareAccess, "edge"), of(Form::Authorization, "api")];
    let token = |issuer: &str| jwt(r#"{"alg":"RS256"}"#, &format!(r#"{{"iss":"{issuer}"}}"#));
    let (foreign, edge) = (token("https://nobody.example"), token("https://edge.example"));
    let name = "cf-access-jwt-assertion";
    let nameless = jwt(r#"{"alg":"RS256"}"#, r#"{"sub":"alice"}"#);
    let requests = [
        headers(&[(name, "x"), (name, "y")]),
        headers(&[(name, "x")]),
        headers(&[(name, &foreign)]),
        headers(&[("authorization", &nameless)]),
        headers(&[("authorization", &edge)]),
    ];
    let read = |headers| bearer::read(&providers, Borne { headers, query: None, form: None, cookies: &[] });
    let mut seen: Vec<String> = requests.iter().filter_map(|headers| refusal(read(headers))).collect();
    // What is only known once a body has streamed by, or tokens were verified.
    seen.extend([BearerFault::InBody, BearerFault::TwoPeople].iter().map(ToString::to_string));
    assert_all_seen("capture/bearer.rs", 7, &seen);
}

#[test]
fn of_exchanges() {
    let issuer = Issuer::parse("https://id.example").unwrap();
    let form = ("content-type", "application/x-www-form-urlencoded");
    let assertion = |claims: &str| {
        let kind = "client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer";
        format!(
            "grant_type=refresh_token&refresh_token=r&{kind}&client_assertion={}",
            jwt(r#"{"alg":"RS256"}"#, claims)
        )
    };
    let requests = [
        (None, headers(&[("content-type", "application/json")]), "{}".to_owned()),
        (None, headers(&[form, ("content-encoding", "gzip")]), String::new()),
        (Some("grant_type=x"), headers(&[form]), String::new()),
        (None, headers(&[form]), "grant_type=a&grant_type=b".into()),
        (None, headers(&[form]), "code=c".into()),
        (None, headers(&[form]), "grant.type=a".into()),
        (None, headers(&[form, ("dpop", "x")]), "grant_type=refresh_token".into()),
        (None, headers(&[form]), assertion("[]")),
        (None, headers(&[form]), assertion(r#"{"aud":"https://sidecar.internal/token"}"#)),
    ];
    let mut seen: Vec<String> = requests
        .iter()
        .filter_map(|(query, headers, body)| {
            refusal(relay::read_request(&[issuer.as_str()], *query, headers, body.as_bytes()))
        })
        .collect();
    seen.extend(refusal(relay::read_request(&[issuer.as_str()], None, &headers(&[form]), b"grant_type=\xff")));
    let none = HeaderMap::new();
    let replies = [
        (StatusCode::OK, headers(&[("content-encoding", "br")]), "{}"),
        (StatusCode::FOUND, none.clone(), ""),
        (StatusCode::OK, none.clone(), "hello"),
        (StatusCode::OK, none.clone(), r#"{"id_token":"a","ID_Token":"b"}"#),
        (StatusCode::OK, none.clone(), r#"{"access_token":7}"#),
        (StatusCode::OK, none.clone(), r#"{"error":"","data":{"id_token":"x"}}"#),
        (StatusCode::OK, none, "{}"),
    ];
    let refused =
        |(status, headers, body): &(_, _, &str)| refusal(relay::read_reply(*status, headers, body.as_bytes()));
    seen.extend(replies.iter().filter_map(refused));
    assert_all_seen("capture/relay.rs", 17, &seen);
}

/// The documents of published attacks bring about most; the rest are written here.
#[test]
fn of_saml_documents() {
    let good = signed_assertion(&login(), &key("idp-rsa"));
    let response = signed_response(&login(), &key("idp-rsa"));
    let bare = mint::response(&login(), &mint::assertion(&login()));
    let published = [
        saml_cases::wrapped_signatures(),
        saml_cases::forged_signatures(),
        saml_cases::more_than_a_signature(),
        saml_cases::two_readings(),
        saml_cases::choking(),
        saml_cases::lacking_responses(),
        saml_cases::encrypted_forgeries(),
    ];
    let mut documents: Vec<Vec<u8>> =
        published.into_iter().flatten().map(|(_, document, _)| document.into_bytes()).collect();
    // A name of 500 bytes, declared once and written again at each of 10,000 siblings.
    let name = format!("<samlp:Response xmlns:q=\"urn:{}\" ", "q".repeat(496));
    let grown =
        good.replacen("<samlp:Response ", &name, 1).replacen(">staff<", &format!(">{}<", "<q:a/>".repeat(10_000)), 1);
    let written = [
        "<a/>".to_owned(),
        "<a".to_owned(),
        "<a>\u{1}</a>".to_owned(),
        "<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?><a/>".to_owned(),
        "<!DOCTYPE a><a/>".to_owned(),
        "<a><!-- --></a>".to_owned(),
        "<a><?b c?></a>".to_owned(),
        "<a>".repeat(500),
        format!("<a>{}</a>", "<b/>".repeat(20_000)),
        format!("<a {}/>", (0..500).map(|number| format!("a{number}=\"\" ")).collect::<String>()),
        format!("<a {}/>", (0..500).map(|number| format!("xmlns:a{number}=\"urn:a\" ")).collect::<String>()),
        "<a xmlns:b=\"urn:b\"><c xmlns:b=\"\"/></a>".to_owned(),
        format!("<a xmlns=\"urn:{}\"/>", "a".repeat(600)),
        bare.replace("ID=\"_assertion-1\"", ""),
        bare.replace("ID=\"_assertion-1\"", "ID=\"1 2\""),
        bare.replace("ID=\"_assertion-1\"", "ID=\"_response-1\""),
        bare.replacen("<saml:Subject>", "<saml:Advice/><saml:Subject>", 1),
        bare.replacen("</samlp:Response>", "<samlp:Status/></samlp:Response>", 1),
        response.replace("rsa-sha256", "rsa-sha1"),
        good.replace(&login().issuer, ""),
        good.replacen(&login().issuer, "https://other.example", 1),
        grown,
    ];
    documents.extend(written.into_iter().map(String::into_bytes));
    documents.push(b"<a>\xff</a>".to_vec());
    documents.push(vec![b'a'; 300 * 1024]);
    let mut seen: Vec<String> = documents
        .iter()
        .filter_map(|document| refusal(saml::read(&STANDARD.encode(document), kit::MAX_DOCUMENT)))
        .collect();
    seen.extend(refusal(saml::read("<not base64>", 1024)));
    assert_all_seen("capture/saml.rs", 31, &seen);
}

#[test]
fn of_metadata() {
    const ENTITY: &str = "https://idp.example/saml";
    let pem = kit::read("keys/idp-rsa.certificate.test-only.pem");
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let certificate = STANDARD.decode(&body).unwrap();
    let sso = "https://idp.example/sso";
    let good = mint::metadata(ENTITY, std::slice::from_ref(&certificate), sso, "https://idp.example/post");
    assert!(metadata::read(&good, ENTITY, NOW).is_ok());
    let root = good.find("<md:EntityDescriptor").unwrap();
    let (start, entity) = (&good[..root], &good[root..]);
    let twice = format!(
        "{start}<md:EntitiesDescriptor xmlns:md=\"urn:oasis:names:tc:SAML:2.0:metadata\">{entity}{entity}</md:EntitiesDescriptor>"
    );
    let valid =
        |until: &str| good.replacen("<md:EntityDescriptor", &format!("<md:EntityDescriptor validUntil=\"{until}\""), 1);
    let documents = [
        "<a".to_owned(),
        "<a/>".to_owned(),
        good.replace(ENTITY, "https://other.example"),
        twice,
        good.replace("IDPSSODescriptor", "SPSSODescriptor"),
        valid("2020-01-01T00:00:00Z"),
        valid("soon"),
        good.replace(&body, "%%%"),
        good.replace(&body, "AAAA"),
        good.replace(sso, "ftp://idp.example/sso"),
        good.replace("HTTP-Redirect", "PAOS").replace("HTTP-POST", "SOAP"),
    ];
    let seen: Vec<String> =
        documents.iter().filter_map(|text| refusal(metadata::read(text, ENTITY, Timestamp(NOW.0)))).collect();
    assert_all_seen("verify/saml/metadata.rs", 10, &seen);
}
