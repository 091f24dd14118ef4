//! What providers publish: discovery documents, keys, and metadata.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use loginsync_mint::{oidc, saml};
use loginsync_pipeline::ids::Timestamp;
use loginsync_pipeline::verify::oidc::{KeySet, discovery};
use loginsync_pipeline::verify::saml::metadata::{self, SloLocation};
use serde_json::{Value, json};

use crate::kit::{ISSUER, NOW, OIDC_ISSUER, key};

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
        (
            changed("idp-p256", json!({"crv": "secp256k1"})),
            "key `k` cannot be used: its `crv` cannot be used; expected",
        ),
        (changed("idp-ed25519", json!({"crv": "Ed448"})), "key `k` cannot be used: its `crv` cannot be used; expected"),
        (changed("idp-p256", json!({"crv": "P-999"})), "key `k` cannot be used: its `crv` cannot be used; expected"),
        (
            changed("idp-p256", json!({"crv": "Ed25519"})),
            "key `k` cannot be used: its `crv` cannot be used; expected P-256, P-384, P-521 or Ed25519",
        ),
        (changed("idp-ed25519", json!({"crv": "P-256"})), "key `k` cannot be used: its `crv` cannot be used; expected"),
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
    let (own, next) = (key("idp-rsa").certificate("idp").unwrap(), key("idp-p256").certificate("idp").unwrap());
    let good = saml::metadata(ISSUER, &[own.clone(), next], "https://idp.example/sso", "https://idp.example/sso");
    let count = |document: &str| {
        metadata::read(document, ISSUER, NOW).map(|found| (found.certificates.expiries().count(), found.skipped.len()))
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
