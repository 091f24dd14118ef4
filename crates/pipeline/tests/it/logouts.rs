//! Logouts that a provider asks for: logout tokens, and LogoutRequests of SAML.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use loginsync_mint::saml;
use loginsync_mint::{Hash, MintKey, Scheme, oidc};
use loginsync_pipeline::capture::oidc::UntrustedIdToken;
use loginsync_pipeline::capture::saml::logout::{LogoutMessage, UntrustedLogout, read_post, read_redirect};
use loginsync_pipeline::ids::Timestamp;
use loginsync_pipeline::provider::Provider;
use loginsync_pipeline::verify::{self, Fault, LogoutStatement, ProviderKeys};
use serde_json::{Value, json};

use crate::kit::{ISSUER, MAX_DOCUMENT, NOW, certificates, key, saml_provider, signer};
use crate::oidc_verify::{header, oidc_provider, rsa_keys, signed, with};

const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";

/// The claims of a logout token, with changes; `null` takes one away.
fn logout_claims(changes: Value) -> Value {
    let mut claims = with(json!({"nonce": null, "groups": null, "sid": "s1", "events": {EVENT: {}}}));
    let members = claims.as_object_mut().unwrap();
    members.extend(changes.as_object().unwrap().clone());
    members.retain(|_, value| !value.is_null());
    claims
}

#[test]
fn a_logout_token_is_held_to_its_rules() {
    let now = NOW.seconds();
    let rows: Vec<(&str, Value, Option<&str>)> = vec![
        ("right in every respect", json!({}), None),
        ("of a person", json!({"sid": null}), None),
        ("of a session", json!({"sub": null}), None),
        ("without an end", json!({"exp": null}), None),
        ("among others", json!({"aud": ["other", "the-app"]}), None),
        ("just issued", json!({"iat": now + 60}), None),
        ("issued as long ago as may be", json!({"iat": now - 660}), None),
        ("ended within the leeway", json!({"exp": now - 59}), None),
        ("of another issuer", json!({"iss": "https://x.example/"}), Some("issuer is `https://x.example/`")),
        ("for another", json!({"aud": "other"}), Some("audience is other")),
        ("without an instant", json!({"iat": null}), Some("claim `iat` is missing")),
        ("issued in the future", json!({"iat": now + 61}), Some("issued in the future")),
        ("issued long ago", json!({"iat": now - 661}), Some("longer ago than `max_age` allows")),
        ("expired", json!({"exp": now - 60}), Some("expired at")),
        ("without events", json!({"events": null}), Some("claim `events` does not name a back-channel logout")),
        ("of another event", json!({"events": {"x": {}}}), Some("claim `events` does not name a back-channel logout")),
        (
            "of an event that is no object",
            json!({"events": {EVENT: true}}),
            Some("does not name a back-channel logout"),
        ),
        ("events that are a list", json!({"events": [EVENT]}), Some("does not name a back-channel logout")),
        ("with a nonce", json!({"nonce": "n"}), Some("claim `nonce` is there; a logout token has none")),
        ("of no one", json!({"sub": null, "sid": null}), Some("neither `sub` nor `sid`; expected at least one")),
        ("an empty person", json!({"sub": ""}), Some("claim `sub` is empty; expected a text")),
        ("a session that is a number", json!({"sid": 5}), Some("claim `sid` is a number; expected a text")),
    ];
    let provider = oidc_provider();
    for (what, changes, expected) in rows {
        let claims = logout_claims(changes);
        let token = UntrustedIdToken::parse_logout(&signed(&claims)).unwrap();
        match (verify::logout_token(&provider, &token, &rsa_keys(), NOW), expected) {
            (Ok(statement), None) => {
                let text = |name: &str| claims.get(name).and_then(Value::as_str).map(str::to_owned);
                let expected = LogoutStatement {
                    provider: provider.name.clone(),
                    issuer: provider.issuer.clone(),
                    token_id: "jti:token-1".into(),
                    subject: text("sub"),
                    sessions: Vec::from_iter(text("sid")),
                };
                assert_eq!(*statement.get(), expected, "{what}");
            }
            (Err(fault), Some(expected)) => assert!(fault.to_string().contains(expected), "{what}: {fault}"),
            (outcome, _) => panic!("{what}: {outcome:?}"),
        }
    }
    let token = |key: &MintKey| {
        let token = oidc::id_token(key, "RS256", &header("RS256", "rsa"), &logout_claims(json!({}))).unwrap();
        UntrustedIdToken::parse_logout(&token).unwrap()
    };
    let of_saml = ProviderKeys::Saml(certificates(&["idp-rsa"]));
    let (own, stranger) = (token(&key("idp-rsa")), token(&key("stranger-rsa")));
    for (token, provider, keys, expected) in [
        (&stranger, &provider, &rsa_keys(), Fault::Signature),
        (&own, &provider, &of_saml, Fault::Internal),
        (&own, &saml_provider(), &rsa_keys(), Fault::Internal),
    ] {
        assert_eq!(verify::logout_token(provider, token, keys, NOW).unwrap_err(), expected);
    }
}

const SLO: &str = "https://app.example/slo";

/// A LogoutRequest in canonical form.
fn logout_request(rest: &str) -> String {
    let saml = "xmlns:saml=\"urn:oasis:names:tc:SAML:2.0:assertion\"";
    format!(
        "<samlp:LogoutRequest xmlns:samlp=\"urn:oasis:names:tc:SAML:2.0:protocol\" Destination=\"{SLO}\" ID=\"_l1\" \
         IssueInstant=\"{NOW}\"{rest} Version=\"2.0\"><saml:Issuer {saml}>{ISSUER}</saml:Issuer>\
         <saml:NameID {saml}>alice</saml:NameID><samlp:SessionIndex>_s</samlp:SessionIndex></samlp:LogoutRequest>"
    )
}

fn request(message: LogoutMessage) -> UntrustedLogout {
    match message {
        LogoutMessage::Request(request) => request,
        other => panic!("{other:?}"),
    }
}

fn posted(document: &str) -> UntrustedLogout {
    request(read_post(&saml::field(document), MAX_DOCUMENT).unwrap())
}

fn redirected(document: &str, key: &MintKey, algorithm: &str) -> UntrustedLogout {
    use std::io::Read as _;
    let mut packed = Vec::new();
    flate2::read::DeflateEncoder::new(document.as_bytes(), flate2::Compression::fast())
        .read_to_end(&mut packed)
        .unwrap();
    let mut query = form_urlencoded::Serializer::new(String::new());
    let signed = query.append_pair("SAMLRequest", &STANDARD.encode(packed)).append_pair("SigAlg", algorithm).finish();
    let signature = STANDARD.encode(key.sign(Scheme::RsaPkcs1(Hash::Sha256), signed.as_bytes()).unwrap());
    let signature: String = form_urlencoded::byte_serialize(signature.as_bytes()).collect();
    request(read_redirect(&format!("{signed}&Signature={signature}")).unwrap())
}

const RSA_SHA256: &str = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256";

fn log_out(provider: &Provider, request: &UntrustedLogout) -> Result<LogoutStatement, String> {
    let (keys, places) =
        (ProviderKeys::Saml(certificates(&["idp-rsa"])), [SLO.to_owned(), "https://app.example/2".into()]);
    let outcome = verify::logout_request(provider, request, &keys, &places, NOW);
    outcome.map(|verified| verified.get().clone()).map_err(|fault| fault.to_string())
}

#[test]
fn a_logout_request_is_held_to_its_rules() {
    let at = |after: i64| Timestamp(NOW.0 + after * 1000).to_string();
    let change = |from: &str, to: &str| logout_request("").replace(from, to);
    let instant = |after| change(&NOW.to_string(), &at(after));
    let ends = |after| logout_request(&format!(" NotOnOrAfter=\"{}\"", at(after)));
    let rows: Vec<(&str, String, Option<&str>)> = vec![
        ("right in every respect", logout_request(""), None),
        ("just issued", instant(60), None),
        ("issued as long ago as may be", instant(-660), None),
        ("ended within the leeway", ends(-59), None),
        ("at another place of ours", change(SLO, "https://app.example/2"), None),
        ("of another version", change("\"2.0\"", "\"1.1\""), Some("the version of the logout request is not `2.0`")),
        ("without a version", change(" Version=\"2.0\"", ""), Some("the version of the logout request is not `2.0`")),
        ("of another issuer", change(ISSUER, "https://x.example"), Some("issuer is `https://x.example`; expected")),
        (
            "for another place",
            change(SLO, "https://x.example"),
            Some("destination is `https://x.example`; expected https://app.example/slo or https://app.example/2"),
        ),
        ("for no place", change(&format!(" Destination=\"{SLO}\""), ""), Some("destination is `missing`")),
        ("issued in the future", instant(61), Some("issued in the future")),
        ("issued long ago", instant(-661), Some("longer ago than `max_age` allows")),
        ("without an instant", change(&format!(" IssueInstant=\"{NOW}\""), ""), Some("`IssueInstant` is missing")),
        ("with an instant that is none", change(&NOW.to_string(), "soon"), Some("`IssueInstant` is `soon`")),
        ("expired", ends(-60), Some("expired at")),
        ("with an end that is none", logout_request(" NotOnOrAfter=\"soon\""), Some("`NotOnOrAfter` is `soon`")),
    ];
    let (provider, own) = (saml_provider(), key("idp-rsa"));
    for (what, document, expected) in &rows {
        let enveloped = posted(&saml::sign(document, "_l1", signer(&own)).unwrap());
        for request in [enveloped, redirected(document, &own, RSA_SHA256)] {
            match (log_out(&provider, &request), expected) {
                (Ok(statement), None) => {
                    let expected = LogoutStatement {
                        provider: provider.name.clone(),
                        issuer: provider.issuer.clone(),
                        token_id: "_l1".into(),
                        subject: Some("alice".into()),
                        sessions: vec!["_s".into()],
                    };
                    assert_eq!(statement, expected, "{what}");
                }
                (Err(found), Some(expected)) => assert!(found.contains(expected), "{what}: {found}"),
                (outcome, _) => panic!("{what}: {outcome:?}"),
            }
        }
    }
    for (length, passes) in [(512, true), (513, false)] {
        let id = format!("_{}", "l".repeat(length - 1));
        let document = logout_request("").replace("_l1", &id);
        let outcome = log_out(&provider, &redirected(&document, &own, RSA_SHA256));
        assert_eq!(outcome.err(), (!passes).then(|| "the request's ID is too long".to_owned()), "{length}");
    }
}

#[test]
fn a_logout_that_the_provider_did_not_sign_ends_nothing() {
    let (provider, own, stranger) = (saml_provider(), key("idp-rsa"), key("stranger-rsa"));
    let document = logout_request("");
    let signed = saml::sign(&document, "_l1", signer(&own)).unwrap();
    let by_sha1 = "http://www.w3.org/2000/09/xmldsig#rsa-sha1";
    let rows = [
        ("nothing", posted(&document), "neither the response nor its assertion is signed"),
        (
            "a stranger",
            posted(&saml::sign(&document, "_l1", signer(&stranger)).unwrap()),
            "the signature does not verify",
        ),
        ("other content", posted(&signed.replace(">alice<", ">bob<")), "the signature does not verify"),
        ("a stranger's query", redirected(&document, &stranger, RSA_SHA256), "the signature does not verify"),
        (
            "another algorithm",
            redirected(&document, &own, by_sha1),
            "signature algorithm `http://www.w3.org/2000/09/xmldsig#rsa-sha1` is not allowed",
        ),
    ];
    for (what, request, expected) in rows {
        let found = log_out(&provider, &request).unwrap_err();
        assert!(found.starts_with(expected), "{what}: {found}");
    }
    // By the certificates of its own protocol alone.
    let request = posted(&signed);
    let places = [SLO.to_owned()];
    for (provider, keys) in
        [(&provider, &rsa_keys()), (&oidc_provider(), &ProviderKeys::Saml(certificates(&["idp-rsa"])))]
    {
        assert_eq!(verify::logout_request(provider, &request, keys, &places, NOW).unwrap_err(), Fault::Internal);
    }
}
