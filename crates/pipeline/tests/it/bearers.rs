//! Tokens that a request bears, tokens that come with an ID token, and whether a token speaks of a person.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue};
use loginsync_mint::oidc;
use loginsync_pipeline::capture::bearer::{self, Borne};
use loginsync_pipeline::capture::oidc::UntrustedIdToken;
use loginsync_pipeline::ids::Timestamp;
use loginsync_pipeline::provider::{BearerPolicy, Form, Protocol, Provider, UserClaim};
use loginsync_pipeline::verify::person::is_of_person;
use loginsync_pipeline::verify::{
    self, Assertion, BindingVerdict, Origin, ProviderKeys, Spending, Statement, Verified,
};
use serde_json::{Map, Value, json};

use crate::kit::{CLIENT, NOW, OIDC_ISSUER, certificates, key, oidc_policy, provider, saml_provider};
use crate::oidc_verify::{header, key_set, lacking, oidc_provider, rsa_keys, signed, with};

fn bearing(form: Form, signer: Option<&str>) -> Provider {
    let mut policy = oidc_policy();
    policy.bearer = Some(BearerPolicy { form, signer: signer.map(str::to_owned) });
    provider(Protocol::Oidc(policy))
}

/// Sends a token in a header through capture and verification.
fn bear(provider: &Provider, keys: &ProviderKeys, form: Form, value: &str) -> Result<Assertion, String> {
    let mut headers = HeaderMap::new();
    headers.insert(form.rules().header, HeaderValue::from_str(value).unwrap());
    let borne = Borne { headers: &headers, query: None, form: None, cookies: &[] };
    let captured = bearer::read(&[Arc::new(provider.clone())], borne).map_err(|why| format!("capture: {why}"))?;
    let [captured] = captured.as_slice() else { return Err(format!("capture: {} tokens", captured.len())) };
    match verify::verify(captured, keys, &Origin::Presented, NOW) {
        Ok(verified) => Ok(verified.get().clone()),
        Err(refused) => {
            let signed = refused.signed.map_or("unsigned".into(), |token| format!("signed {}", token.token_id));
            Err(format!("{signed}: {}", refused.fault))
        }
    }
}

#[test]
fn a_token_that_a_request_bears_is_held_to_its_rules() {
    let now = NOW.seconds();
    let rows: Vec<(&str, Value, Result<(), &str>)> = vec![
        ("right in every respect", json!({}), Ok(())),
        ("for us among others, by another party", json!({"aud": ["other", CLIENT], "azp": "other"}), Ok(())),
        ("without a subject", json!({"sub": null}), Ok(())),
        ("issued long ago", json!({"iat": now - 100_000}), Ok(())),
        ("expired within the leeway", json!({"exp": now - 59}), Ok(())),
        ("valid within the leeway", json!({"nbf": now + 60, "iat": now + 60}), Ok(())),
        ("of no event", json!({"events": null}), Ok(())),
        ("for another", json!({"aud": "other"}), Err("audience is \"other\"; expected `the-app`")),
        ("for others", json!({"aud": ["other"]}), Err("audience is [\"other\"]")),
        ("for no one", json!({"aud": []}), Err("audience is []")),
        ("for us and something else", json!({"aud": [CLIENT, 5]}), Err("audience is [\"the-app\",5]")),
        ("for an object", json!({"aud": {CLIENT: 1}}), Err("audience is {")),
        ("a subject that is a number", json!({"sub": 5}), Err("claim `sub` is a number; expected a string")),
        ("expired", json!({"exp": now - 60}), Err("expired at")),
        ("not valid yet", json!({"nbf": now + 61}), Err("not valid before")),
        ("issued in the future", json!({"iat": now + 61}), Err("issued in the future")),
        ("with an event", json!({"events": {}}), Err("a logout token or another security event")),
    ];
    let bearing = bearing(Form::Authorization, None);
    let send = |token: &str| bear(&bearing, &rsa_keys(), Form::Authorization, &format!("Bearer {token}"));
    for (what, changes, expected) in rows {
        let outcome = send(&signed(&with(changes)));
        match (&outcome, expected) {
            (Ok(assertion), Ok(())) => {
                assert_eq!(
                    (assertion.binding, assertion.token_id.as_str()),
                    (BindingVerdict::Presented, "jti:token-1"),
                    "{what}"
                );
            }
            (Err(found), Err(expected)) => {
                assert!(found.contains(expected) && found.starts_with("signed jti:token-1: "), "{what}: {found}");
            }
            _ => panic!("{what}: {outcome:?}"),
        }
    }
    for (claim, expected) in
        [("aud", "audience is missing"), ("exp", "claim `exp` is missing"), ("iat", "claim `iat` is missing")]
    {
        let found = send(&signed(&lacking(claim))).unwrap_err();
        assert!(found.contains(expected), "{found}");
    }
    let assertion = send(&signed(&with(json!({"iat": now - 5})))).unwrap();
    let (issued_at, expires_at) = (Timestamp::from_seconds(now - 5), Timestamp::from_seconds(now + 300));
    assert_eq!((assertion.issued_at, assertion.expires_at), (issued_at, expires_at));
    // A made-up key takes no look at the provider's keys where the token beneath it would be refused anyway.
    let of =
        |kid: &str, changes| oidc::id_token(&key("idp-rsa"), "RS256", &header("RS256", kid), &with(changes)).unwrap();
    let found = send(&of("other", json!({}))).unwrap_err();
    assert!(found.starts_with("unsigned: signed with key `other`"), "{found}");
    let found = send(&of("other", json!({"exp": 5}))).unwrap_err();
    assert!(found.starts_with("unsigned: expired at"), "{found}");
    let stranger =
        oidc::id_token(&key("stranger-rsa"), "RS256", &header("RS256", "rsa"), &with(json!({"exp": 5}))).unwrap();
    let found = send(&stranger).unwrap_err();
    assert!(found.starts_with("unsigned: the signature does not verify"), "{found}");
}

const ARN: &str = "arn:aws:elasticloadbalancing:eu-west-1:1:loadbalancer/app/x";

/// A load balancer's token, with its issuer, client, signer and expiry in the header.
fn of_load_balancer(header: Value, claims: &Value) -> String {
    let key = key("idp-p256");
    let mut all = json!({"alg": "ES256", "kid": "k", "iss": OIDC_ISSUER, "client": CLIENT, "signer": ARN, "exp": NOW.seconds() + 100});
    all.as_object_mut().unwrap().extend(header.as_object().unwrap().clone());
    all.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    oidc::id_token(&key, "ES256", &all, claims).unwrap()
}

#[test]
fn a_load_balancers_token_is_held_to_its_header() {
    let now = NOW.seconds();
    let header = |changes| (changes, json!({"sub": "alice"}));
    type Row = (&'static str, (Value, Value), Option<&'static str>, Result<i64, &'static str>);
    let rows: Vec<Row> = vec![
        ("right in every respect", header(json!({})), Some(ARN), Ok(100)),
        ("it ends with its claims", (json!({}), json!({"sub": "alice", "exp": now + 90})), Some(ARN), Ok(90)),
        ("it ends with its header", (json!({}), json!({"sub": "alice", "exp": now + 110})), Some(ARN), Ok(100)),
        ("its claims name the issuer", (json!({}), json!({"sub": "alice", "iss": OIDC_ISSUER})), Some(ARN), Ok(100)),
        (
            "its claims name another",
            (json!({}), json!({"sub": "alice", "iss": "https://x.example"})),
            Some(ARN),
            Err("issuer is `https://x.example`"),
        ),
        (
            "another client",
            header(json!({"client": "other"})),
            Some(ARN),
            Err("header member `client` is `other`; expected `the-app`"),
        ),
        ("no client", header(json!({"client": null})), Some(ARN), Err("header member `client` is `missing`")),
        ("another signer", header(json!({"signer": "other"})), Some(ARN), Err("header member `signer` is `other`")),
        (
            "no signer is configured",
            header(json!({"signer": ""})),
            None,
            Err("header member `signer` is ``; expected ``"),
        ),
        ("no expiry", header(json!({"exp": null})), Some(ARN), Err("claim `exp` is missing")),
        ("expired", header(json!({"exp": now - 60})), Some(ARN), Err("expired at")),
        ("expired by its claims", (json!({}), json!({"sub": "alice", "exp": now - 60})), Some(ARN), Err("expired at")),
    ];
    let keys = key_set(&[oidc::jwk(&key("idp-p256"), "k").unwrap()]);
    for (what, (header, claims), signer, expected) in rows {
        let token = of_load_balancer(header, &claims);
        let outcome = bear(&bearing(Form::AlbData, signer), &keys, Form::AlbData, &token);
        match (&outcome, expected) {
            (Ok(assertion), Ok(after)) => {
                assert_eq!(assertion.expires_at, Timestamp::from_seconds(now + after), "{what}");
                // It lives for two minutes, and says nothing else of when it was issued.
                assert_eq!(assertion.issued_at, Timestamp::from_seconds(now + after - 120), "{what}");
            }
            (Err(found), Err(expected)) => assert!(found.contains(expected), "{what}: {found}"),
            _ => panic!("{what}: {outcome:?}"),
        }
    }
}

/// One key signs many kinds of tokens, and most are no logins.
#[test]
fn what_is_signed_for_another_purpose_is_no_login() {
    let iss = OIDC_ISSUER;
    for (what, changes, expected) in [
        ("an event", json!({"events": {"x": {}}}), Some("a logout token or another security event")),
        ("an introspection", json!({"token_introspection": {}}), Some("a token introspection response")),
        ("a proof", json!({"htm": "GET", "htu": "https://x.example"}), Some("a DPoP proof")),
        ("half a proof", json!({"htm": "GET"}), None),
        ("the other half", json!({"htu": "GET"}), None),
        ("a federation's entity", json!({"jwks": {}, "sub": iss}), Some("an entity statement")),
        ("keys of a person", json!({"jwks": {}}), None),
        ("an issuer who is a person", json!({"sub": iss}), None),
        ("Keycloak's logout", json!({"typ": "Logout"}), Some("a logout token")),
        ("Keycloak's refresh", json!({"typ": "Refresh"}), Some("a refresh token")),
        ("Keycloak's offline", json!({"typ": "Offline"}), Some("a refresh token")),
        ("Keycloak's login", json!({"typ": "ID"}), None),
    ] {
        let bearing = bearing(Form::Authorization, None);
        let token = format!("Bearer {}", signed(&with(changes)));
        let outcome = bear(&bearing, &rsa_keys(), Form::Authorization, &token).err();
        let expected =
            expected.map(|kind| format!("signed jti:token-1: it is {kind}; expected a token that logs a person in"));
        assert_eq!(outcome, expected, "{what}");
    }
}

/// RFC 7617 section 2, and blanks as lenient readers take them.
#[test]
fn credentials_of_basic_are_found_behind_its_name() {
    for (value, expected) in [
        ("Basic YTpi", Some("YTpi")),
        (" bAsIc\t YTpi ", Some("YTpi")),
        ("Basic ", None),
        ("Basic", None),
        ("BasicYTpi", None),
        ("Token YTpi", None),
        ("Bas", None),
    ] {
        let found = bearer::basic_credentials(value.as_bytes());
        assert_eq!(found, expected.map(str::as_bytes), "{value}");
    }
}

#[test]
fn credentials_of_basic_are_found_behind_other_text_and_within_twice_its_length() {
    for (value, expected) in [
        ("Basic YTpi", &["YTpi"][..]),
        ("{\"a\":\"bAsIc YTpi\"}", &["YTpi\"}"]),
        ("Basic YTpi, Basic YTpj", &["YTpi, Basic YTpj", "YTpj"]),
        ("Basic  a Basic b Basic c", &["a Basic b Basic c", "b", "c"]),
        ("xBasic ", &[""]),
        ("Basicx basi c", &[]),
    ] {
        let found = bearer::basic_within(value.as_bytes());
        assert_eq!(found, expected.iter().map(|text| text.as_bytes()).collect::<Vec<_>>(), "{value}");
    }
    for text in ["Basic ", "basic QUFB ", "b", "BASIC   \t ", "Basic Basic\""] {
        let value = text.repeat(10_000);
        let length: usize = bearer::basic_within(value.as_bytes()).iter().map(|credentials| credentials.len()).sum();
        assert!(length <= 2 * value.len(), "{text}: {length} of {}", value.len());
    }
}

// --------------------------------------------------------------------------------------------------- beside an ID token

/// A verified ID token of alice's.
fn of_alice(claims: &Value) -> Verified<Assertion> {
    let provider = bearing(Form::Authorization, None);
    let mut headers = HeaderMap::new();
    headers.insert("authorization", HeaderValue::from_str(&format!("Bearer {}", signed(claims))).unwrap());
    let borne = Borne { headers: &headers, query: None, form: None, cookies: &[] };
    let captured = bearer::read(&[Arc::new(provider)], borne).unwrap();
    verify::verify(&captured[0], &rsa_keys(), &Origin::Presented, NOW).unwrap()
}

fn object(value: &Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

/// What comes beside an ID token counts where it speaks of the same person.
#[test]
fn userinfo_of_another_person_is_not_used() {
    for (what, token, userinfo, is_same) in [
        ("the same", with(json!({})), json!({"sub": "alice", "groups": ["x"]}), true),
        ("another", with(json!({})), json!({"sub": "Alice"}), false),
        ("no one", with(json!({})), json!({"groups": ["x"]}), false),
        ("something that is no text", with(json!({})), json!({"sub": ["alice"]}), false),
        ("neither names anyone", with(json!({"sub": null})), json!({"sub": null}), false),
        ("both lack it", lacking("sub"), json!({}), false),
    ] {
        let outcome = verify::userinfo(&of_alice(&token), object(&userinfo));
        assert_eq!(
            outcome.as_ref().ok().map(|payload| &payload.get().0),
            is_same.then(|| userinfo.as_object().unwrap()),
            "{what}"
        );
    }
    let (assertion, payload) = verify::by_userinfo(&oidc_provider(), object(&json!({"sub": "alice"})), NOW);
    assert_eq!(payload.get().0, object(&json!({"sub": "alice"})));
    let Assertion { token_id, issued_at, expires_at, binding, .. } = assertion.get();
    assert_eq!(
        (token_id.as_str(), *issued_at, *expires_at, *binding),
        ("userinfo", NOW, NOW, BindingVerdict::Userinfo)
    );
    assert!(verify::userinfo(&assertion, object(&json!({"sub": "alice"}))).is_ok());
    assert!(verify::userinfo(&assertion, object(&json!({"sub": "bob"}))).is_err());
}

#[test]
fn tokens_beside_an_id_token_are_verified() {
    let now = NOW.seconds();
    // Signed userinfo is for us where it says for whom; an access token is for another.
    let rows: Vec<(&str, Value, Option<&str>, Option<&str>)> = vec![
        ("right in every respect", with(json!({})), None, None),
        ("without times or audience", json!({"iss": OIDC_ISSUER, "sub": "alice"}), None, None),
        ("for another", with(json!({"aud": "api"})), Some("audience is api"), None),
        ("of another issuer", with(json!({"iss": "https://x.example/"})), Some("issuer is"), Some("issuer is")),
        ("of another person", with(json!({"sub": "bob"})), None, Some("claim `sub` is not that of the ID token")),
        ("expired within the leeway", with(json!({"exp": now - 59})), None, None),
        ("expired", with(json!({"exp": now - 60})), Some("expired at"), Some("expired at")),
        ("with an expiry that is none", with(json!({"exp": "x"})), Some("claim `exp`"), Some("claim `exp`")),
    ];
    let provider = oidc_provider();
    let alice = of_alice(&with(json!({})));
    let check = |what: &str, found: Option<String>, expected: Option<&str>| match (&found, expected) {
        (None, None) => {}
        (Some(found), Some(expected)) => assert!(found.contains(expected), "{what}: {found}"),
        _ => panic!("{what}: {found:?}"),
    };
    for (what, claims, of_userinfo, of_access_token) in rows {
        let token = UntrustedIdToken::parse(&signed(&claims)).unwrap();
        let userinfo = verify::signed_userinfo(&provider, &rsa_keys(), &token, NOW);
        assert!(userinfo.as_ref().ok().is_none_or(|found| *found == object(&claims)), "{what}");
        check(what, userinfo.err().map(|fault| fault.to_string()), of_userinfo);
        let access = verify::access_token(&alice, &provider, &rsa_keys(), &token, NOW);
        assert!(access.as_ref().ok().is_none_or(|found| found.get().0 == object(&claims)), "{what}");
        check(what, access.err().map(|fault| fault.to_string()), of_access_token);
    }
    let stranger = oidc::id_token(&key("stranger-rsa"), "RS256", &header("RS256", "rsa"), &with(json!({}))).unwrap();
    let stranger = UntrustedIdToken::parse(&stranger).unwrap();
    let token = UntrustedIdToken::parse(&signed(&with(json!({})))).unwrap();
    let saml_keys = ProviderKeys::Saml(certificates(&["idp-rsa"]));
    for (token, provider, keys, expected) in [
        (&stranger, &provider, &rsa_keys(), "the signature does not verify"),
        (&token, &provider, &saml_keys, "verification stopped unexpectedly"),
        (&token, &saml_provider(), &rsa_keys(), "verification stopped unexpectedly"),
    ] {
        let userinfo = verify::signed_userinfo(provider, keys, token, NOW).unwrap_err().to_string();
        let access = verify::access_token(&alice, provider, keys, token, NOW).unwrap_err().to_string();
        assert!(userinfo.starts_with(expected) && access.starts_with(expected), "{userinfo} {access}");
    }
}

/// Only a token that a login spends is noted, and the audit has a word for each way.
#[test]
fn a_binding_says_whether_a_token_is_spent() {
    for (verdict, word, spending) in [
        (BindingVerdict::Matched(0), "matched", Spending::Once),
        (BindingVerdict::Unsolicited, "unsolicited", Spending::Once),
        (BindingVerdict::Missing, "missing (observed)", Spending::Once),
        (BindingVerdict::Exchanged, "exchanged by the app", Spending::Again),
        (BindingVerdict::Presented, "presented", Spending::Again),
        (BindingVerdict::Userinfo, "userinfo", Spending::Again),
    ] {
        assert_eq!((verdict.word(), verdict.spending()), (word, spending));
    }
}

// --------------------------------------------------------------------------------------------------------------- people

fn speaks_of_person(claims: &Value, user_claim: &UserClaim) -> bool {
    is_of_person(&Statement::Oidc(object(claims)), user_claim)
}

/// By the sign of each vendor, and only where nothing else in the token speaks of a person.
#[test]
fn a_token_is_a_clients_by_the_vendors_sign() {
    let keycloak = json!({
        "sub": "guid", "azp": "svc", "acr": "1", "client_id": "svc", "clientHost": "192.0.2.1",
        "preferred_username": "service-account-svc",
    });
    let of = |base: &Value, changes: Value| {
        let mut all = base.clone();
        all.as_object_mut().unwrap().extend(object(&changes));
        all
    };
    let entra = json!({"sub": "guid", "oid": "guid", "idtyp": "app"});
    let auth0 = json!({"sub": "abc@clients", "azp": "abc", "gty": "client-credentials"});
    let plain = json!({"sub": "svc", "client_id": "svc"});
    let clients = [
        plain.clone(),
        json!({"sub": "svc", "cid": "svc"}),
        auth0.clone(),
        json!({"sub": "abc@clients", "client_id": "abc", "gty": "client-credentials"}),
        entra.clone(),
        of(&entra, json!({"azpacr": "1", "roles": ["Read"]})),
        keycloak.clone(),
        of(&keycloak, json!({"clientHost": null, "clientAddress": "192.0.2.1"})),
        of(&keycloak, json!({"client_id": null, "clientId": "svc", "preferred_username": "service-account-Svc"})),
        of(&keycloak, json!({"azp": null})),
        json!({"client_id": "svc"}),
        json!({"cid": "svc", "sub": null}),
        json!({"appid": "svc", "sub": ""}),
        json!({"common_name": "svc"}),
        // What says nothing is no sign of a person.
        of(&plain, json!({"email": "", "amr": [], "act": {}, "name": null, "nonce": false})),
        of(&plain, json!({"scope": "read", "scp": ["write"], "grant_type": "client_credentials"})),
        of(&plain, json!({"azpacr": "2", "appidacr": 1, "token_use": "access", "typ": "Bearer"})),
    ];
    for claims in &clients {
        assert!(!speaks_of_person(claims, &UserClaim::Subject), "{claims}");
    }
    let people = [
        json!({"sub": "alice"}),
        json!({}),
        json!({"azp": "svc"}),
        json!({"sub": "svc", "azp": "svc"}),
        json!({"sub": 5, "client_id": "svc"}),
        json!({"sub": "", "azp": "svc"}),
        json!({"sub": "svc@clients", "azp": "svc"}),
        json!({"sub": "@clients", "azp": "", "gty": "client-credentials"}),
        json!({"sub": "abc@clients", "azp": "other", "gty": "client-credentials"}),
        json!({"sub": "abc", "azp": "abc", "gty": "client-credentials"}),
        json!({"sub": "abc@clients", "azp": "abc", "gty": "password"}),
        of(&entra, json!({"scp": "User.Read"})),
        of(&entra, json!({"idtyp": "user"})),
        of(&entra, json!({"idtyp": ["app"]})),
        of(&entra, json!({"azpacr": "0"})),
        of(&entra, json!({"appidacr": 0})),
        of(&keycloak, json!({"clientHost": null})),
        of(&keycloak, json!({"client_id": "other"})),
        of(&keycloak, json!({"client_id": null})),
        of(&keycloak, json!({"azp": "other"})),
        of(&keycloak, json!({"preferred_username": "svc"})),
        of(&keycloak, json!({"preferred_username": "service-account-", "client_id": "", "azp": ""})),
        of(&plain, json!({"acr": "1"})),
        of(&plain, json!({"preferred_username": "svc"})),
        of(&plain, json!({"grant_type": "password"})),
        of(&plain, json!({"gty": "password"})),
        of(&plain, json!({"typ": "ID"})),
        of(&plain, json!({"token_use": "id"})),
        of(&plain, json!({"scope": "read openid"})),
        of(&plain, json!({"scope": "read,Email"})),
        of(&plain, json!({"scope": "read+phone"})),
        of(&plain, json!({"scp": ["read", "offline_access"]})),
        of(&plain, json!({"scopes": {"openid": true}})),
        of(&plain, json!({"email": "x"})),
        of(&plain, json!({"https://app.example/Given_Name": "x"})),
        of(&plain, json!({"amr": ["pwd"]})),
        of(&plain, json!({"act": {"sub": "x"}})),
        of(&plain, json!({"auth_time": 0})),
        of(&plain, json!({"nonce": true})),
    ];
    for claims in &people {
        assert!(speaks_of_person(claims, &UserClaim::Subject), "{claims}");
    }
    // The claim by which the operator knows people is one of a person, unless clients have it too.
    let named = |name: &str| UserClaim::Named(name.into());
    let login = of(&plain, json!({"login_name": "x", "oid": "x"}));
    assert!(speaks_of_person(&login, &named("login_name")));
    assert!(
        !speaks_of_person(&login, &named("other"))
            && !speaks_of_person(&of(&plain, json!({"login_name": ""})), &named("login_name"))
    );
    for shared in ["oid", "sub"] {
        assert!(!speaks_of_person(&login, &named(shared)), "{shared}");
    }
    // Statements of other kinds are always of people.
    assert!(is_of_person(&Statement::Userinfo(object(&plain)), &UserClaim::Subject));
}
