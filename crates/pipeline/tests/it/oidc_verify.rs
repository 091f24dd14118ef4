//! ID tokens, right and wrong in every published way, through the way that a real login takes.

use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use loginsync_mint::MintKey;
use loginsync_mint::oidc;
use loginsync_pipeline::capture::oidc::AccessToken;
use loginsync_pipeline::ids::ProviderName;
use loginsync_pipeline::provider::{Binding, Protocol, Provider};
use loginsync_pipeline::verify::oidc::{KeySet, SigningAlgorithm};
use loginsync_pipeline::verify::{Assertion, BindingVerdict, Origin, ProviderKeys, Remembered, RememberedRequest};
use serde_json::{Value, json};

use crate::kit::{CLIENT, NOW, OIDC_ISSUER, key, oidc_policy, processor_time, provider, submit_body, submit_by};

const STATE: &str = "state-1";
const NONCE: &str = "nonce-1";

pub fn oidc_provider() -> Provider {
    provider(Protocol::Oidc(oidc_policy()))
}

fn remembered() -> Vec<Remembered> {
    let request = RememberedRequest::Oidc { state: Some(STATE.into()), nonce: Some(NONCE.into()) };
    vec![Remembered { provider: ProviderName::parse("idp").unwrap(), request }]
}

pub fn key_set(keys: &[Value]) -> ProviderKeys {
    ProviderKeys::Oidc(KeySet::read(oidc::jwks(keys).to_string().as_bytes()).unwrap_or_default())
}

/// The one key that most rows are signed with.
pub fn rsa_keys() -> ProviderKeys {
    key_set(&[oidc::jwk(&key("idp-rsa"), "rsa").unwrap()])
}

pub fn header(algorithm: &str, key_id: &str) -> Value {
    json!({"alg": algorithm, "kid": key_id, "typ": "JWT"})
}

/// The claims of a login that is right in every respect.
pub fn claims() -> Value {
    json!({
        "iss": OIDC_ISSUER, "aud": CLIENT, "sub": "alice", "nonce": NONCE, "jti": "token-1", "groups": ["staff"],
        "iat": NOW.seconds(), "exp": NOW.seconds() + 300,
    })
}

/// Those claims with members replaced, or removed where null.
pub fn with(changes: Value) -> Value {
    let mut claims = claims();
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}

pub fn lacking(name: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(name);
    claims
}

fn submit(provider: &Provider, keys: &ProviderKeys, token: &str) -> Result<Assertion, String> {
    let body = form_urlencoded::Serializer::new(String::new())
        .append_pair("id_token", token)
        .append_pair("state", STATE)
        .finish();
    submit_body(provider, keys, &body, &remembered(), NOW)
}

pub fn signed(claims: &Value) -> String {
    oidc::id_token(&key("idp-rsa"), "RS256", &header("RS256", "rsa"), claims).unwrap()
}

fn refuse(what: &str, provider: &Provider, keys: &ProviderKeys, token: &str, expected: &str) {
    let before = processor_time();
    let refusal = submit(provider, keys, token).err().unwrap_or_else(|| panic!("{what}: accepted"));
    assert!(refusal.contains(expected), "{what}: {refusal}");
    let took = processor_time().saturating_sub(before);
    assert!(took < Duration::from_millis(500), "{what}: took {took:?}");
}

#[test]
fn every_algorithm_that_is_allowed_verifies() {
    let rows = [
        ("idp-rsa", vec!["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"]),
        ("idp-p256", vec!["ES256"]),
        ("idp-p384", vec!["ES384"]),
        ("idp-p521", vec!["ES512"]),
        ("idp-ed25519", vec!["EdDSA"]),
    ];
    for (name, algorithms) in rows {
        let key = key(name);
        let keys = key_set(&[oidc::jwk(&key, "k").unwrap()]);
        for algorithm in algorithms {
            let token = oidc::id_token(&key, algorithm, &header(algorithm, "k"), &claims()).unwrap();
            let assertion = submit(&oidc_provider(), &keys, &token).unwrap_or_else(|why| panic!("{algorithm}: {why}"));
            assert_eq!(assertion.token_id, "jti:token-1");
            assert_eq!(assertion.issued_at, NOW);
            assert_eq!(assertion.binding, BindingVerdict::Matched(0));

            let mut narrow = oidc_policy();
            narrow.algorithms.retain(|allowed| allowed.to_string() != algorithm);
            refuse(algorithm, &provider(Protocol::Oidc(narrow)), &keys, &token, "is not allowed; expected one of");
            let tampered = tamper(&token);
            refuse(algorithm, &oidc_provider(), &keys, &tampered, "unsigned: the signature does not verify");
        }
    }
    assert_eq!(SigningAlgorithm::named("HS256"), None);
    assert_eq!(SigningAlgorithm::named("none"), None);
}

/// The same header and signature around other claims.
fn tamper(token: &str) -> String {
    let parts: Vec<&str> = token.split('.').collect();
    let claims = URL_SAFE_NO_PAD.encode(with(json!({"sub": "root"})).to_string());
    format!("{}.{claims}.{}", parts[0], parts[2])
}

#[test]
fn the_token_does_not_choose_how_it_is_verified() {
    let key = key("idp-rsa");
    let stranger = crate::kit::key("stranger-rsa");
    let stranger_jwk = oidc::jwk(&stranger, "rsa").unwrap();
    let unsecured = |algorithm: &str| {
        let header = json!({"alg": algorithm, "kid": "rsa"}).to_string();
        format!("{}.{}.", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims().to_string()))
    };
    for algorithm in ["none", "None", "NonE", "NONE", "nOnE"] {
        refuse(algorithm, &oidc_provider(), &rsa_keys(), &unsecured(algorithm), "is not allowed");
    }
    refuse("no signature", &oidc_provider(), &rsa_keys(), &unsecured("RS256"), "signature does not verify");
    let public = key.public_key().unwrap();
    let pem = loginsync_mint::pem("PUBLIC KEY", &public);
    let jwk = oidc::jwk(&key, "rsa").unwrap().to_string();
    for (what, secret) in [
        ("HS256 with the PEM", pem.as_bytes()),
        ("HS256 with the PEM without its last line end", pem.trim_end().as_bytes()),
        ("HS256 with the DER", public.as_slice()),
        ("HS256 with the JWK", jwk.as_bytes()),
        ("HS256 with nothing", b""),
    ] {
        refuse(what, &oidc_provider(), &rsa_keys(), &hmac_token("HS256", secret), "`HS256` is not allowed");
        refuse(what, &oidc_provider(), &rsa_keys(), &hmac_token("RS256", secret), "signature does not verify");
    }
    let embedded = [
        ("jwk", stranger_jwk.clone()),
        ("jku", json!("http://169.254.169.254/keys")),
        ("x5u", json!("http://127.0.0.1:9/cert")),
        ("x5c", json!([base64::engine::general_purpose::STANDARD.encode(stranger.certificate("idp").unwrap())])),
    ];
    for (member, value) in embedded {
        let mut header = header("RS256", "rsa");
        header[member] = value;
        let token = oidc::id_token(&stranger, "RS256", &header, &claims()).unwrap();
        refuse(member, &oidc_provider(), &rsa_keys(), &token, "signature does not verify");
        let token = oidc::id_token(&key, "RS256", &header, &claims()).unwrap();
        assert!(submit(&oidc_provider(), &rsa_keys(), &token).is_ok(), "{member} is ignored, not obeyed");
    }
}

fn hmac_token(algorithm: &str, secret: &[u8]) -> String {
    let header = URL_SAFE_NO_PAD.encode(header(algorithm, "rsa").to_string());
    let input = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims().to_string()));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), input.as_bytes());
    format!("{input}.{}", URL_SAFE_NO_PAD.encode(tag.as_ref()))
}

#[test]
fn headers_that_nobody_understands_are_refused() {
    let key = key("idp-rsa");
    let token = |header: Value| oidc::id_token(&key, "RS256", &header, &claims()).unwrap();
    for (what, header, expected) in [
        ("crit", json!({"alg": "RS256", "kid": "rsa", "crit": ["exp"]}), "`crit` extensions"),
        ("empty crit", json!({"alg": "RS256", "kid": "rsa", "crit": []}), "`crit` extensions"),
        ("b64", json!({"alg": "RS256", "kid": "rsa", "crit": ["b64"], "b64": false}), "`crit` extensions"),
        ("access token", json!({"alg": "RS256", "kid": "rsa", "typ": "at+jwt"}), "`typ` `\"at+jwt\"`"),
        ("logout token", json!({"alg": "RS256", "kid": "rsa", "typ": "logout+jwt"}), "`typ`"),
        ("access token in full", json!({"alg": "RS256", "kid": "rsa", "typ": "application/at+jwt"}), "`typ`"),
        ("another tree", json!({"alg": "RS256", "kid": "rsa", "typ": "text/jwt"}), "`typ`"),
        ("two slashes", json!({"alg": "RS256", "kid": "rsa", "typ": "application/x/jwt"}), "`typ`"),
        ("typ of another type", json!({"alg": "RS256", "kid": "rsa", "typ": 1}), "`typ` `1`"),
        ("no algorithm", json!({"kid": "rsa"}), "no `alg`"),
        ("algorithm of another type", json!({"alg": ["RS256"], "kid": "rsa"}), "no `alg`"),
        ("kid of another type", json!({"alg": "RS256", "kid": 5}), "claim `kid` is a number"),
        ("a path for a kid", json!({"alg": "RS256", "kid": "../../dev/null"}), "key `../../dev/null`"),
        ("SQL for a kid", json!({"alg": "RS256", "kid": "' or 1=1 --"}), "does not publish"),
        ("unknown kid", json!({"alg": "RS256", "kid": "other"}), "signed with key `other`"),
    ] {
        refuse(what, &oidc_provider(), &rsa_keys(), &token(header), expected);
    }
    for header in [
        json!({"alg": "RS256"}),
        json!({"alg": "RS256", "kid": "rsa", "typ": "jwt"}),
        // The same type, written out (RFC 7515 section 4.1.9).
        json!({"alg": "RS256", "kid": "rsa", "typ": "Application/JWT"}),
    ] {
        assert!(submit(&oidc_provider(), &rsa_keys(), &token(header.clone())).is_ok(), "{header}");
    }
}

#[test]
fn a_key_is_chosen_by_name_family_and_purpose() {
    let (rsa, next, p256) = (key("idp-rsa"), key("idp-rsa-next"), key("idp-p256"));
    let jwk = |key: &MintKey, id: &str, changes: Value| {
        let mut jwk = oidc::jwk(key, id).unwrap();
        for (name, value) in changes.as_object().unwrap() {
            jwk[name] = value.clone();
        }
        jwk
    };
    let none = json!({});
    let token = signed(&claims());
    let anonymous = oidc::id_token(&rsa, "RS256", &json!({"alg": "RS256"}), &claims()).unwrap();
    let rows = [
        (
            "two keys, one name, other families",
            vec![jwk(&p256, "rsa", none.clone()), jwk(&rsa, "rsa", none.clone())],
            &token,
            None,
        ),
        (
            "no kid, one key of the family",
            vec![jwk(&p256, "a", none.clone()), jwk(&rsa, "b", none.clone())],
            &anonymous,
            None,
        ),
        (
            "no kid, two keys of the family",
            vec![jwk(&rsa, "a", none.clone()), jwk(&next, "b", none.clone())],
            &anonymous,
            Some("2 published keys fit algorithm"),
        ),
        (
            "no kid, no key of the family",
            vec![jwk(&p256, "a", none.clone())],
            &anonymous,
            Some("signed with key `(no kid)`, which the provider does not publish"),
        ),
        ("another key of that name", vec![jwk(&next, "rsa", none.clone())], &token, Some("does not verify")),
        ("for encryption", vec![jwk(&rsa, "rsa", json!({"use": "enc"}))], &token, Some("does not publish")),
        (
            "for another algorithm",
            vec![jwk(&rsa, "rsa", json!({"alg": "PS256"}))],
            &token,
            Some("publishes that key for PS256"),
        ),
        ("of another family", vec![jwk(&p256, "rsa", none.clone())], &token, Some("publishes that key for ES256")),
        ("symmetric", vec![json!({"kty": "oct", "kid": "rsa", "k": "c2VjcmV0"})], &token, Some("does not publish")),
        ("no keys", vec![], &token, Some("does not publish")),
    ];
    for (what, keys, token, expected) in rows {
        match expected {
            None => assert!(submit(&oidc_provider(), &key_set(&keys), token).is_ok(), "{what}"),
            Some(expected) => refuse(what, &oidc_provider(), &key_set(&keys), token, expected),
        }
    }
    // Two of one name and family: the right one must be found wherever it stands.
    for keys in [[&rsa, &next], [&next, &rsa]] {
        let keys = keys.map(|key| jwk(key, "rsa", none.clone()));
        assert!(submit(&oidc_provider(), &key_set(&keys), &token).is_ok(), "a name that two keys share");
    }
    let weak = json!({"kty": "RSA", "kid": "rsa", "n": URL_SAFE_NO_PAD.encode([0xC5; 128]), "e": "AQAB"});
    let other = jwk(&next, "other", none);
    refuse("weak", &oidc_provider(), &key_set(&[weak, other]), &token, "cannot be used: its RSA key has 1024 bits");
}

#[test]
fn claims_of_wrong_types_and_values_are_refused() {
    let now = NOW.seconds();
    let rows = [
        ("another issuer", with(json!({"iss": "https://evil.example/"})), "no provider at this callback"),
        ("issuer without its slash", with(json!({"iss": "https://idp.example"})), "no provider at this callback"),
        ("issuers", with(json!({"iss": [OIDC_ISSUER]})), "claim `iss` is an array"),
        ("issuer of another type", with(json!({"iss": 5})), "claim `iss` is a number"),
        ("no issuer", lacking("iss"), "claim `iss` is missing"),
        ("another client", with(json!({"aud": "other-app"})), "issuer and client"),
        ("another client's list", with(json!({"aud": ["other-app"]})), "issuer and client"),
        ("no audience", lacking("aud"), "issuer and client"),
        ("empty audience", with(json!({"aud": []})), "issuer and client"),
        ("nested audience", with(json!({"aud": [[CLIENT]]})), "issuer and client"),
        ("audience of another type", with(json!({"aud": {CLIENT: true}})), "issuer and client"),
        ("audience with something beside", with(json!({"aud": [CLIENT, 5], "azp": CLIENT})), "signed: audience is"),
        ("two audiences, no azp", with(json!({"aud": [CLIENT, "other"]})), "audience `other` is listed with ours"),
        ("two audiences, another azp", with(json!({"aud": [CLIENT, "other"], "azp": "other"})), "party is `other`"),
        ("another azp", with(json!({"azp": "other"})), "authorized party is `other`; expected `the-app`"),
        ("azp of another type", with(json!({"azp": [CLIENT]})), "authorized party is"),
        ("azp null", with(json!({"azp": null})), "authorized party is"),
        ("expired", with(json!({"exp": now - 60})), "expired at"),
        ("no expiry", lacking("exp"), "claim `exp` is missing"),
        ("expiry as text", with(json!({"exp": "9999999999"})), "claim `exp` is a string"),
        ("expiry as a list", with(json!({"exp": [9_999_999_999_i64]})), "claim `exp` is an array"),
        ("expiry as an object", with(json!({"exp": {}})), "claim `exp` is an object"),
        ("expiry null", with(json!({"exp": null})), "claim `exp` is null"),
        ("expiry true", with(json!({"exp": true})), "claim `exp` is a boolean"),
        ("expiry beyond time", with(json!({"exp": 1e300})), "claim `exp` is out of range"),
        ("expiry beyond integers", with(json!({"exp": u64::MAX})), "claim `exp` is out of range"),
        ("expiry before time", with(json!({"exp": -1})), "claim `exp` is out of range"),
        ("not yet", with(json!({"nbf": now + 61})), "not valid before"),
        ("nbf as text", with(json!({"nbf": "0"})), "claim `nbf` is a string"),
        ("nbf null", with(json!({"nbf": null})), "claim `nbf` is null"),
        ("nbf as a list", with(json!({"nbf": []})), "claim `nbf` is an array"),
        ("no instant", lacking("iat"), "claim `iat` is missing"),
        ("instant as text", with(json!({"iat": now.to_string()})), "claim `iat` is a string"),
        ("instant null", with(json!({"iat": null})), "claim `iat` is null"),
        ("issued in the future", with(json!({"iat": now + 61})), "issued in the future"),
        ("issued long ago", with(json!({"iat": now - 661})), "longer ago"),
        ("nonce of another type", with(json!({"nonce": [NONCE]})), "claim `nonce` is an array"),
        ("another nonce", with(json!({"nonce": "nonce-2"})), "not started in this browser"),
        ("no nonce", lacking("nonce"), "not started in this browser"),
    ];
    for (what, claims, expected) in rows {
        refuse(what, &oidc_provider(), &rsa_keys(), &signed(&claims), expected);
    }
    let fine = [
        with(json!({"aud": [CLIENT]})),
        with(json!({"aud": [CLIENT, "other"], "azp": CLIENT})),
        with(json!({"exp": now - 59})),
        with(json!({"exp": (now + 300) as f64 + 0.5, "nbf": now + 60, "iat": now + 60})),
        with(json!({"iat": now - 660})),
    ];
    for claims in fine {
        let outcome = submit(&oidc_provider(), &rsa_keys(), &signed(&claims));
        assert!(outcome.is_ok(), "{claims}: {outcome:?}");
    }
}

#[test]
fn duplicate_members_are_refused() {
    let key = key("idp-rsa");
    let claims_text = claims().to_string();
    let doubled = |member: &str| claims_text.replacen('{', &format!("{{{member},"), 1);
    for (what, header, claims, expected) in [
        (
            "groups",
            header("RS256", "rsa").to_string(),
            doubled("\"groups\":[\"admins\"]"),
            "member `groups` appears twice",
        ),
        (
            "iss",
            header("RS256", "rsa").to_string(),
            doubled("\"iss\":\"https://evil.example\""),
            "member `iss` appears twice",
        ),
        ("escaped", header("RS256", "rsa").to_string(), doubled("\"i\\u0073s\":\"x\""), "member `iss` appears twice"),
        (
            "alg",
            "{\"alg\":\"none\",\"alg\":\"RS256\",\"kid\":\"rsa\"}".into(),
            claims_text.clone(),
            "member `alg` appears twice",
        ),
    ] {
        let token = oidc::signed(&key, "RS256", header.as_bytes(), claims.as_bytes()).unwrap();
        refuse(what, &oidc_provider(), &rsa_keys(), &token, expected);
    }
}

#[test]
fn shapes_that_are_no_token_are_refused_quickly() {
    let good = signed(&claims());
    let parts: Vec<&str> = good.split('.').collect();
    let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let encrypted = encode(
        &json!({"alg": "PBES2-HS512+A256KW", "enc": "A256GCM", "p2c": 2_000_000_000, "p2s": "x", "zip": "DEF"})
            .to_string(),
    );
    let deep = format!("{{\"iss\":{}", "[".repeat(100_000));
    for (what, token, expected) in [
        ("empty", String::new(), "three parts"),
        ("one part", "a".into(), "three parts"),
        ("two parts", "a.b".into(), "three parts"),
        ("four parts", format!("{good}.a"), "three parts"),
        ("an encrypted token", format!("{encrypted}.a.b.c.d"), "five parts are an encrypted token"),
        ("half a MiB of dots", ".".repeat(512 * 1024), "three parts"),
        ("a MB of dots", ".".repeat(1_000_000), "longer than 524288 bytes"),
        ("a MB of header", format!("{}.a.b", "A".repeat(1_000_000)), "longer than"),
        ("padding", format!("{}=.{}.{}", parts[0], parts[1], parts[2]), "header is not base64url"),
        (
            "standard base64",
            format!("{}.{}.{}", parts[0], parts[1], parts[2].replace(['-', '_'], "+")),
            "does not verify",
        ),
        ("white space inside", format!("{} .{}.{}", parts[0], parts[1], parts[2]), "header is not base64url"),
        (
            "a header that is a list",
            format!("{}.{}.{}", encode("[]"), parts[1], parts[2]),
            "header is not a JSON object",
        ),
        (
            "a payload that is text",
            format!("{}.{}.{}", parts[0], encode("\"x\""), parts[2]),
            "payload is not a JSON object",
        ),
        (
            "text behind the payload",
            format!("{}.{}.{}", parts[0], encode("{} x"), parts[2]),
            "payload is not a JSON object",
        ),
        ("a payload too deep", format!("{}.{}.{}", parts[0], encode(&deep), parts[2]), "payload is not a JSON object"),
        (
            "a payload that is no text",
            format!("{}.{}.{}", parts[0], URL_SAFE_NO_PAD.encode([0xFF]), parts[2]),
            "payload is not",
        ),
    ] {
        refuse(what, &oidc_provider(), &rsa_keys(), &token, expected);
    }
}

#[test]
fn an_answer_is_bound_to_what_this_browser_left_with() {
    let token = signed(&claims());
    let body = |state: Option<&str>| {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("id_token", &token);
        if let Some(state) = state {
            form.append_pair("state", state);
        }
        form.finish()
    };
    let remember = |provider: &str, state: Option<&str>, nonce: Option<&str>| Remembered {
        provider: ProviderName::parse(provider).unwrap(),
        request: RememberedRequest::Oidc { state: state.map(str::to_owned), nonce: nonce.map(str::to_owned) },
    };
    let rows = [
        ("both", Some(STATE), vec![remember("idp", Some(STATE), Some(NONCE))], true),
        (
            "second of two",
            Some(STATE),
            vec![remember("idp", Some("x"), Some("y")), remember("idp", Some(STATE), Some(NONCE))],
            true,
        ),
        ("nothing remembered", Some(STATE), vec![], false),
        ("another state", Some("state-2"), vec![remember("idp", Some(STATE), Some(NONCE))], false),
        ("no state", None, vec![remember("idp", Some(STATE), Some(NONCE))], false),
        ("another nonce", Some(STATE), vec![remember("idp", Some(STATE), Some("nonce-2"))], false),
        ("left without a nonce", Some(STATE), vec![remember("idp", Some(STATE), None)], false),
        ("another provider's", Some(STATE), vec![remember("other", Some(STATE), Some(NONCE))], false),
        (
            "of two requests, half each",
            Some(STATE),
            vec![remember("idp", Some(STATE), Some("y")), remember("idp", Some("x"), Some(NONCE))],
            false,
        ),
        ("a request that had neither", Some(STATE), vec![remember("idp", None, None)], false),
    ];
    for (what, state, memory, passes) in rows {
        let outcome = submit_body(&oidc_provider(), &rsa_keys(), &body(state), &memory, NOW);
        assert_eq!(outcome.is_ok(), passes, "{what}: {outcome:?}");
        let mut observing = oidc_provider();
        observing.binding = Binding::Observe;
        let assertion = submit_body(&observing, &rsa_keys(), &body(state), &memory, NOW).unwrap();
        assert_eq!(assertion.binding == BindingVerdict::Missing, !passes, "{what}");
    }
}

/// Other clients than ours count as far as the configuration names them (OIDC Core 3.1.3.7 items 3 to 5).
#[test]
fn other_clients_are_named_by_the_configuration() {
    let (two, three) = (json!({"aud": [CLIENT, "other"]}), json!({"aud": [CLIENT, "other", "third"]}));
    let by = |party: &str| json!({"azp": party});
    for (claims, trusted, parties, expected) in [
        (two.clone(), &["other"][..], &[][..], None),
        (two.clone(), &["x", "other"], &[], None),
        (two.clone(), &["third"], &[], Some("audience `other` is listed with ours")),
        (two, &[], &["other"], Some("audience `other` is listed with ours")),
        (three.clone(), &["other"], &[], Some("audience `third` is listed with ours")),
        (three, &["third", "other"], &[], None),
        (by("other"), &[], &["other"], None),
        (by("other"), &["other"], &["third"], Some("authorized party is `other`")),
    ] {
        let mut policy = oidc_policy();
        let texts = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        (policy.trusted_audiences, policy.authorized_parties) = (texts(trusted), texts(parties));
        let outcome = submit(&provider(Protocol::Oidc(policy)), &rsa_keys(), &signed(&with(claims.clone())));
        match (outcome.err(), expected) {
            (None, None) => {}
            (Some(found), Some(expected)) => assert!(found.contains(expected), "{claims}: {found}"),
            (found, _) => panic!("{claims}: {found:?}"),
        }
    }
}

/// A request that had one of the two is answered by that one alone.
#[test]
fn a_request_may_have_a_state_or_a_nonce_alone() {
    for (state, nonce) in [(Some(STATE), None), (None, Some(NONCE))] {
        let token = signed(&if nonce.is_some() { claims() } else { lacking("nonce") });
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("id_token", &token);
        if let Some(state) = state {
            form.append_pair("state", state);
        }
        let request = RememberedRequest::Oidc { state: state.map(str::to_owned), nonce: nonce.map(str::to_owned) };
        let memory = [Remembered { provider: ProviderName::parse("idp").unwrap(), request }];
        let outcome = submit_body(&oidc_provider(), &rsa_keys(), &form.finish(), &memory, NOW);
        assert_eq!(outcome.unwrap().binding, BindingVerdict::Matched(0), "{state:?} {nonce:?}");
    }
}

#[test]
fn a_token_without_an_id_is_known_by_its_content() {
    let first = submit(&oidc_provider(), &rsa_keys(), &signed(&lacking("jti"))).unwrap();
    let again = submit(&oidc_provider(), &rsa_keys(), &signed(&lacking("jti"))).unwrap();
    assert!(first.token_id.starts_with("sha256:") && first.token_id.len() == 71, "{}", first.token_id);
    assert_eq!(first.token_id, again.token_id);
    let mut later = lacking("jti");
    later["iat"] = json!(NOW.seconds() + 1);
    assert_ne!(submit(&oidc_provider(), &rsa_keys(), &signed(&later)).unwrap().token_id, first.token_id);
    // So is one whose ID is none, or too long to be kept.
    for (id, is_known) in
        [(json!("a".repeat(512)), true), (json!("a".repeat(513)), false), (json!(""), false), (json!(5), false)]
    {
        let found = submit(&oidc_provider(), &rsa_keys(), &signed(&with(json!({"jti": id})))).unwrap().token_id;
        assert_eq!(found.strip_prefix("jti:"), id.as_str().filter(|_| is_known), "{found}");
    }
}

/// An app exchanges a code and uses an access token that came with an ID token: both may have been exchanged for another
/// person's (OIDC Core 3.2.2.9, 3.3.2.11).
#[test]
fn an_id_token_vouches_for_what_the_browser_brings_with_it() {
    use aws_lc_rs::digest::{Algorithm, SHA256, SHA384, SHA512, digest};
    let half = |algorithm: &'static Algorithm, text: &str| {
        let digest = digest(algorithm, text.as_bytes());
        json!(URL_SAFE_NO_PAD.encode(&digest.as_ref()[..digest.as_ref().len() / 2]))
    };
    let of = |text: &str| half(&SHA256, text);
    let (code, token) = (("code", "c"), ("access_token", ACCESS_TOKEN));
    let (no_code, no_token) = (Some("`c_hash` does not match"), Some("`at_hash` does not match"));
    let rows = [
        ("a code", "RS256", vec![code], json!({"c_hash": of("c")}), None),
        ("a code without a hash", "RS256", vec![code], json!({}), no_code),
        ("another code", "RS256", vec![code], json!({"c_hash": of("d")}), no_code),
        ("a hash that is no text", "RS256", vec![code], json!({"c_hash": 5}), no_code),
        ("an access token", "RS256", vec![token], json!({"at_hash": of(ACCESS_TOKEN)}), None),
        ("an access token without a hash", "RS256", vec![token], json!({}), no_token),
        ("another access token", "RS256", vec![token], json!({"at_hash": of("other")}), no_token),
        ("both", "RS256", vec![code, token], json!({"c_hash": of("c"), "at_hash": of(ACCESS_TOKEN)}), None),
        ("both by one hash", "RS256", vec![code, token], json!({"c_hash": of("c")}), no_token),
        ("neither", "RS256", vec![], json!({"c_hash": of("c"), "at_hash": of(ACCESS_TOKEN)}), None),
        ("by a longer hash", "RS384", vec![code], json!({"c_hash": half(&SHA384, "c")}), None),
        ("by the longest hash", "PS512", vec![code], json!({"c_hash": half(&SHA512, "c")}), None),
        ("by the hash of another algorithm", "RS512", vec![code], json!({"c_hash": of("c")}), no_code),
    ];
    for (what, algorithm, beside, changes, expected) in rows {
        let claims = with(changes);
        let id_token = oidc::id_token(&key("idp-rsa"), algorithm, &header(algorithm, "rsa"), &claims).unwrap();
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("id_token", &id_token)
            .append_pair("state", STATE)
            .extend_pairs(beside)
            .finish();
        let outcome = submit_body(&oidc_provider(), &rsa_keys(), &form, &remembered(), NOW);
        match (outcome.err(), expected) {
            (None, None) => {}
            (Some(found), Some(expected)) => assert!(found.contains(expected), "{what}: {found}"),
            (found, _) => panic!("{what}: {found:?}"),
        }
    }
}

#[test]
fn the_way_a_token_came_by_says_what_it_must_match() {
    let of_app = |access_token: Option<&str>| Origin::Exchanged {
        access_token: access_token.map(|text| AccessToken::new(text.to_owned())),
    };
    let asked = |state: &str, nonce: &str| Origin::Asked {
        request: RememberedRequest::Oidc { state: Some(state.into()), nonce: Some(nonce.into()) },
        access_token: Some(AccessToken::new(ACCESS_TOKEN.into())),
    };
    // OIDC Core 3.1.3.8, for RS256: the left half of the SHA-256 of the token's ASCII.
    let at_hash = |text: &str| {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
        json!({"at_hash": URL_SAFE_NO_PAD.encode(&digest.as_ref()[..16])})
    };
    let old = json!({"iat": NOW.seconds() - 3600});
    let binding = "this login was not started in this browser";
    let rows: [(&str, Origin, Value, Result<BindingVerdict, &str>); 14] = [
        ("exchanged", of_app(None), json!({}), Ok(BindingVerdict::Exchanged)),
        ("exchanged, an hour ago", of_app(None), old.clone(), Ok(BindingVerdict::Exchanged)),
        (
            "exchanged, its own access token",
            of_app(Some(ACCESS_TOKEN)),
            at_hash(ACCESS_TOKEN),
            Ok(BindingVerdict::Exchanged),
        ),
        (
            "exchanged, another access token",
            of_app(Some("other")),
            at_hash(ACCESS_TOKEN),
            Err("`at_hash` does not match"),
        ),
        (
            "exchanged, a hash that is none",
            of_app(Some(ACCESS_TOKEN)),
            json!({"at_hash": 5}),
            Err("`at_hash` does not match"),
        ),
        ("exchanged, nothing to vouch for", of_app(None), at_hash(ACCESS_TOKEN), Ok(BindingVerdict::Exchanged)),
        ("exchanged, another party", of_app(None), json!({"azp": "other"}), Err("authorized party is `other`")),
        (
            "exchanged, another client",
            of_app(None),
            json!({"aud": "other"}),
            Err("capture: no provider at this callback"),
        ),
        ("presented", Origin::Presented, json!({}), Ok(BindingVerdict::Presented)),
        ("presented, an hour ago", Origin::Presented, old.clone(), Ok(BindingVerdict::Presented)),
        ("asked", asked(STATE, NONCE), json!({}), Ok(BindingVerdict::Matched(0))),
        ("asked, another state", asked("state-2", NONCE), json!({}), Err(binding)),
        ("asked, another nonce", asked(STATE, "nonce-2"), json!({}), Err(binding)),
        ("asked, an hour ago", asked(STATE, NONCE), old, Err("longer ago than `max_age`")),
    ];
    let mut observing = oidc_provider();
    observing.binding = Binding::Observe;
    for (what, origin, claims, expected) in rows {
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("id_token", &signed(&with(claims)))
            .append_pair("state", STATE)
            .finish();
        // What the watching modes are told of binding is no business of the others.
        for provider in [oidc_provider(), observing.clone()] {
            let outcome = submit_by(&origin, &provider, &rsa_keys(), &form, NOW);
            match (&outcome, expected) {
                (Ok(assertion), Ok(verdict)) => assert_eq!(assertion.binding, verdict, "{what}"),
                (Err(found), Err(expected)) => assert!(found.contains(expected), "{what}: {found}"),
                _ => panic!("{what}: expected {expected:?}, found {outcome:?}"),
            }
        }
    }
    assert!(!format!("{:?}", of_app(Some(ACCESS_TOKEN))).contains(ACCESS_TOKEN));
}

const ACCESS_TOKEN: &str = "an-access-token";
