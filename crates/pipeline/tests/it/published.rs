//! What providers publish, and what they say has ended: discovery documents, keys, metadata, and logouts.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use loginsync_mint::saml;
use loginsync_mint::{Hash, MintKey, Scheme, oidc};
use loginsync_pipeline::capture::oidc::UntrustedIdToken;
use loginsync_pipeline::capture::saml::logout::{LogoutMessage, UntrustedLogout, read_post, read_redirect};
use loginsync_pipeline::ids::Timestamp;
use loginsync_pipeline::provider::Provider;
use loginsync_pipeline::verify::oidc::{KeySet, discovery};
use loginsync_pipeline::verify::saml::metadata::{self, SloLocation};
use loginsync_pipeline::verify::{self, Fault, LogoutStatement, ProviderKeys};
use serde_json::{Value, json};

use crate::kit::{self, ISSUER, MAX_DOCUMENT, NOW, OIDC_ISSUER, certificates, key, saml_provider, signer};
use crate::oidc_verify::{header, oidc_provider, rsa_keys, signed, with};

// ------------------------------------------------------------------------------------------------------------ discovery

#[test]
fn a_discovery_document_is_read_member_by_member() {
    for issuer in ["https://idp.example", "https://idp.example/"] {
        assert_eq!(discovery::address(issuer), "https://idp.example/.well-known/openid-configuration");
    }
    let all = [
        "jwks_uri",
        "authorization_endpoint",
        "token_endpoint",
        "userinfo_endpoint",
        "revocation_endpoint",
        "end_session_endpoint",
    ];
    let mut document = json!({"issuer": OIDC_ISSUER, "authorization_response_iss_parameter_supported": true});
    for name in all {
        document[name] = json!(format!("https://idp.example/{name}"));
    }
    let read = |document: &Value| discovery::read(document.to_string().as_bytes(), OIDC_ISSUER);
    let found = read(&document).unwrap();
    let of = |found: &discovery::Discovered| {
        let discovery::Discovered { jwks_uri, authorization_endpoint, token_endpoint, .. } = found.clone();
        let discovery::Discovered { userinfo_endpoint, revocation_endpoint, end_session_endpoint, .. } = found.clone();
        [jwks_uri, authorization_endpoint, token_endpoint, userinfo_endpoint, revocation_endpoint, end_session_endpoint]
    };
    assert_eq!(of(&found), all.map(|name| Some(format!("https://idp.example/{name}"))));
    assert!(found.names_issuer && found.complaints.is_empty() && found.document == *document.as_object().unwrap());
    // What cannot be used counts as missing, and is told.
    for (value, expected, why) in [
        (json!("http://idp.example:8080/x?y"), Some("http://idp.example:8080/x?y"), None),
        (json!(null), None, None),
        (json!(""), None, Some("empty")),
        (json!("/relative"), None, Some("not an absolute https address")),
        (json!("javascript:alert(1)"), None, Some("not an absolute https address")),
        (json!("data:x"), None, Some("not an absolute https address")),
        (json!("ftp://idp.example/x"), None, Some("not an absolute https address")),
        (json!(["https://idp.example"]), None, Some("an array")),
    ] {
        let mut changed = document.clone();
        changed["token_endpoint"] = value.clone();
        let found = read(&changed).unwrap();
        assert_eq!(found.token_endpoint.as_deref(), expected, "{value}");
        let told = why.map(|why| format!("`token_endpoint` is {why} and counts as missing"));
        assert_eq!(found.complaints, Vec::from_iter(told), "{value}");
    }
    for (value, expected, why) in [
        (json!(false), false, None),
        (json!(null), false, None),
        (json!("true"), true, None),
        (json!("false"), false, None),
        (json!("yes"), false, Some("a string")),
        (json!(1), false, Some("a number")),
    ] {
        let name = "authorization_response_iss_parameter_supported";
        let mut changed = document.clone();
        changed[name] = value.clone();
        let found = read(&changed).unwrap();
        let told = why.map(|why| format!("`{name}` is {why} and counts as false; expected true or false"));
        assert_eq!((found.names_issuer, found.complaints), (expected, Vec::from_iter(told)), "{value}");
    }
    for (issuer, expected) in [
        (
            json!("https://other.example/"),
            "issuer` is `https://other.example/`; expected `https://idp.example/`, exactly",
        ),
        (json!("https://idp.example"), "issuer` is `https://idp.example`; expected"),
        (json!([OIDC_ISSUER]), "issuer` is `an array`"),
        (json!("x".repeat(300)), &format!("issuer` is `{}`;", "x".repeat(200))),
    ] {
        let mut changed = document.clone();
        changed["issuer"] = issuer;
        let why = read(&changed).unwrap_err().to_string();
        assert!(why.contains(expected), "{why}");
    }
    let why = discovery::read(b"{}", OIDC_ISSUER).unwrap_err().to_string();
    assert!(why.contains("issuer` is `missing`"), "{why}");
    let why = discovery::read(b"[]", OIDC_ISSUER).unwrap_err().to_string();
    assert!(why.contains("is not a JSON object"), "{why}");
    // Some servers put a byte order mark in front.
    assert!(discovery::read(&[b"\xef\xbb\xbf", document.to_string().as_bytes()].concat(), OIDC_ISSUER).is_ok());
}

// ----------------------------------------------------------------------------------------------------------------- keys

/// One key that cannot be used does not make the others unusable, and a token signed with it hears why.
#[test]
fn keys_that_cannot_be_used_are_told() {
    let good = || oidc::jwk(&key("idp-rsa"), "good").unwrap();
    let changed = |key_name: &str, changes: Value| {
        let mut jwk = oidc::jwk(&key(key_name), "k").unwrap();
        for (name, value) in changes.as_object().unwrap() {
            jwk[name] = value.clone();
        }
        jwk
    };
    let read = |jwk: Value| KeySet::read(oidc::jwks(&[jwk, good()]).to_string().as_bytes()).unwrap();
    for (jwk, expected) in [
        (json!("x"), "a key without a usable `kid` cannot be used: it is a string; expected an object"),
        (
            changed("idp-rsa", json!({"kid": 5})),
            "a key without a usable `kid` cannot be used: `kid` is a number; expected a text",
        ),
        (changed("idp-rsa", json!({"use": "enc"})), "key `k` cannot be used: `use` is `enc`; expected `sig`"),
        (changed("idp-rsa", json!({"use": 5})), "key `k` cannot be used: `use` is a number; expected a text"),
        (
            changed("idp-rsa", json!({"alg": "RSA-OAEP"})),
            "key `k` cannot be used: `alg` is `RSA-OAEP`; expected one of RS256, RS384, RS512, PS256, PS384, PS512, ES256, \
             ES384, ES512, EdDSA",
        ),
        (
            changed("idp-rsa", json!({"alg": "ES256"})),
            "key `k` cannot be used: `alg` is `ES256`, which does not fit its `kty` and `crv`",
        ),
        (changed("idp-p256", json!({"x": "AA"})), "key `k` cannot be used: "),
        (changed("idp-p256", json!({"crv": "secp256k1"})), "key `k` cannot be used: "),
        (changed("idp-ed25519", json!({"crv": "Ed448"})), "key `k` cannot be used: "),
        (json!({"kty": "oct", "kid": "k", "k": "c2VjcmV0"}), "key `k` cannot be used: "),
    ] {
        let set = read(jwk);
        assert_eq!((set.len(), set.is_empty(), set.holds("good"), set.holds("k")), (1, false, true, false));
        let told: Vec<String> = set.unusable().iter().map(ToString::to_string).collect();
        assert!(told.len() == 1 && told[0].starts_with(expected), "{told:?} {expected}");
    }
    for jwk in [
        changed("idp-rsa", json!({"use": null, "alg": null})),
        changed("idp-rsa", json!({"use": "sig", "alg": "PS384"})),
    ] {
        assert_eq!((read(jwk.clone()).len(), read(jwk).unusable().len()), (2, 0));
    }
    // Its name in a message is as long as a name should be.
    let set = read(changed("idp-rsa", json!({"kid": "k".repeat(200), "use": "enc"})));
    assert_eq!(
        set.unusable()[0].to_string(),
        format!("key `{}` cannot be used: `use` is `enc`; expected `sig`", "k".repeat(100))
    );
    // A set of junk stays small.
    let junk: Vec<Value> = (0..40).map(|number| json!({"kid": number.to_string()})).collect();
    let set = KeySet::read(oidc::jwks(&[junk.clone(), vec![good()]].concat()).to_string().as_bytes()).unwrap();
    assert_eq!((set.len(), set.unusable().len()), (1, 32));
    let why = KeySet::read(oidc::jwks(&junk[..5]).to_string().as_bytes()).unwrap_err().to_string();
    assert!(why.starts_with("holds no key that can verify a signature (key `0` cannot be used: "), "{why}");
    assert_eq!(why.matches("cannot be used").count(), 3, "{why}");
    for (document, expected) in [
        (&b"{"[..], "is not JSON; expected"),
        (b"[]", "is not a JWK Set; expected"),
        (b"{\"keys\":{}}", "is not a JWK Set; expected"),
        (b"{\"keys\":[]}", "holds no key that can verify a signature; expected"),
    ] {
        let why = KeySet::read(document).unwrap_err().to_string();
        assert!(why.starts_with(expected), "{why}");
    }
}

/// Keys that are found later are added, and the oldest go.
#[test]
fn a_key_set_grows_up_to_a_bound() {
    let of = |names: &[&str]| {
        let keys: Vec<Value> = names.iter().map(|name| oidc::jwk(&key("idp-rsa"), name).unwrap()).collect();
        KeySet::read(oidc::jwks(&keys).to_string().as_bytes()).unwrap()
    };
    for (most, expected) in [(1, "d"), (2, "cd"), (3, "bcd"), (4, "abcd"), (9, "abcd")] {
        let set = of(&["a", "b"]).extended(of(&["c", "d"]), most);
        let held: String = ["a", "b", "c", "d"].into_iter().filter(|name| set.holds(name)).collect();
        assert_eq!((held.as_str(), set.len()), (expected, expected.len()));
    }
}

// ------------------------------------------------------------------------------------------------------------- metadata

#[test]
fn metadata_says_where_logins_and_logouts_go() {
    let der = key("idp-rsa").certificate("idp").unwrap();
    let service = |name: &str, binding: &str, rest: &str| {
        format!("<md:{name} Binding=\"urn:oasis:names:tc:SAML:2.0:bindings:{binding}\" {rest}/>")
    };
    let good = saml::metadata(ISSUER, std::slice::from_ref(&der), "https://idp.example/sso", "https://idp.example/sso");
    let beside = |more: String| good.replace("</md:IDPSSODescriptor>", &format!("{more}</md:IDPSSODescriptor>"));
    let read = |document: &str| metadata::read(document, ISSUER, NOW);
    let found = read(&good).unwrap();
    assert_eq!(found.sso_locations, ["https://idp.example/sso"], "each address once");
    assert_eq!(
        (found.sso_redirect.as_deref(), &found.slo, found.valid_until),
        (Some("https://idp.example/sso"), &None, None)
    );
    // A byte order mark is none of it, and POST alone is a way to log in too.
    assert!(read(&format!("\u{feff}{good}")).is_ok());
    let posted = read(&good.replace("HTTP-Redirect", "PAOS")).unwrap();
    assert_eq!((posted.sso_redirect, posted.sso_locations.len()), (None, 1));
    let slo =
        |requests: &str, responses: &str| Some(SloLocation { requests: requests.into(), responses: responses.into() });
    let (one, other) = ("https://idp.example/slo", "https://idp.example/done");
    for (what, more, expected) in [
        ("by redirect", service("SingleLogoutService", "HTTP-Redirect", &format!("Location=\"{one}\"")), slo(one, one)),
        (
            "with another address for answers",
            service(
                "SingleLogoutService",
                "HTTP-Redirect",
                &format!("Location=\"{one}\" ResponseLocation=\"{other}\""),
            ),
            slo(one, other),
        ),
        ("by POST alone", service("SingleLogoutService", "HTTP-POST", &format!("Location=\"{one}\"")), None),
        (
            "by both",
            service("SingleLogoutService", "SOAP", &format!("Location=\"{other}\""))
                + &service("SingleLogoutService", "HTTP-Redirect", &format!("Location=\"{one}\"")),
            slo(one, one),
        ),
    ] {
        assert_eq!(read(&beside(more)).unwrap().slo, expected, "{what}");
    }
    for rest in ["Location=\"javascript:x\"", "", &format!("Location=\"{one}\" ResponseLocation=\"javascript:x\"")] {
        let why = read(&beside(service("SingleLogoutService", "HTTP-Redirect", rest))).unwrap_err().to_string();
        assert!(why.starts_with("`SingleLogoutService` location `"), "{why}");
    }
}

#[test]
fn metadata_ends_with_what_is_around_it() {
    let der = key("idp-rsa").certificate("idp").unwrap();
    let good = saml::metadata(ISSUER, &[der], "https://idp.example/sso", "https://idp.example/sso");
    let until = |after: i64| Timestamp(NOW.0 + after).to_string();
    let with = |entity: Option<i64>, idp: Option<i64>| {
        let of =
            |after: Option<i64>| after.map(|after| format!(" validUntil=\"{}\"", until(after))).unwrap_or_default();
        good.replace("<md:EntityDescriptor", &format!("<md:EntityDescriptor{}", of(entity)))
            .replace("<md:IDPSSODescriptor", &format!("<md:IDPSSODescriptor{}", of(idp)))
    };
    for (entity, idp, expected) in [
        (None, None, Ok(None)),
        (Some(5), None, Ok(Some(5))),
        (None, Some(5), Ok(Some(5))),
        (Some(5), Some(9), Ok(Some(5))),
        (Some(9), Some(5), Ok(Some(5))),
        (Some(1), None, Ok(Some(1))),
        (Some(0), Some(9), Err("it is valid until 2026-01-31T12:00:00.000Z; it is 2026-01-31T12:00:00.000Z")),
        (Some(9), Some(-1), Err("it is valid until 2026-01-31T11:59:59.999Z")),
    ] {
        let found = metadata::read(&with(entity, idp), ISSUER, NOW).map_err(|why| why.to_string());
        match (found, expected) {
            (Ok(found), Ok(after)) => assert_eq!(found.valid_until.map(|at| at.0 - NOW.0), after),
            (Err(found), Err(expected)) => assert!(found.starts_with(expected), "{found}"),
            (found, expected) => panic!("{entity:?} {idp:?}: {found:?} {expected:?}"),
        }
    }
    // Of an aggregate without ours, the first is told, and how many more there are.
    let federation = |count: usize| {
        let others: String =
            (0..count).map(|number| good.replace(ISSUER, &format!("https://idp{number}.example"))).collect();
        format!(
            "<md:EntitiesDescriptor xmlns:md=\"urn:oasis:names:tc:SAML:2.0:metadata\">{others}</md:EntitiesDescriptor>"
        )
    };
    for (count, expected) in [
        (0, "it describes ``"),
        (1, "it describes `https://idp0.example`"),
        (3, "it describes `https://idp0.example` and 2 more"),
    ] {
        let why = metadata::read(&federation(count), ISSUER, NOW).unwrap_err().to_string();
        assert!(why.ends_with(expected), "{why}");
    }
}

/// A certificate in base64, between the lines of PEM, or of another use.
#[test]
fn metadata_gives_the_certificates_that_sign() {
    let (own, next) =
        (kit::key("idp-rsa").certificate("idp").unwrap(), kit::key("idp-p256").certificate("idp").unwrap());
    let good = saml::metadata(ISSUER, &[own.clone(), next], "https://idp.example/sso", "https://idp.example/sso");
    let count = |document: &str| {
        metadata::read(document, ISSUER, NOW).map(|found| (found.certificates.len(), found.skipped.len()))
    };
    assert_eq!(count(&good), Ok((2, 0)));
    assert_eq!(count(&good.replace(" use=\"signing\"", "")), Ok((2, 0)), "a key without a use is for signing as well");
    assert_eq!(count(&good.replacen("use=\"signing\"", "use=\"encryption\"", 1)), Ok((1, 0)));
    let body = STANDARD.encode(&own);
    let lines =
        format!("\n  -----BEGIN CERTIFICATE-----\n  {} \n{}\n  -----END CERTIFICATE-----\n", &body[..64], &body[64..]);
    assert_eq!(count(&good.replacen(&body, &lines, 1)), Ok((2, 0)));
    assert_eq!(count(&good.replacen(&body, "%", 1)), Ok((1, 1)));
    // The same one twice is one.
    assert_eq!(
        count(&saml::metadata(ISSUER, &[own.clone(), own], "https://idp.example/sso", "https://idp.example/sso")),
        Ok((1, 0))
    );
}

// -------------------------------------------------------------------------------------------------------------- logouts

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
