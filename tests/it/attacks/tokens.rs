//! ID tokens (threats 38, 43 to 46, 52, 54, 57, 58).

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use loginsync::cli::demo::mint::{oidc, pem};
use serde_json::{Value, json};

use super::{Attack, FORM, Siege, claims, config, form, header, signed, with};
use crate::kit::{NOW, key};

fn encode(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

/// Threat 43.
#[tokio::test(flavor = "multi_thread")]
async fn the_token_does_not_choose_how_it_is_verified() {
    let (provider, stranger) = (key("idp-rsa"), key("stranger-rsa"));
    let mut rows: Vec<(String, String)> = Vec::new();
    for algorithm in ["none", "None", "NonE", "NONE", "", "RS256 ", "rs256", "HS256", "PBES2-HS256+A128KW"] {
        let header = json!({"alg": algorithm, "kid": "idp-rsa"});
        rows.push((algorithm.into(), format!("{}.{}.", encode(&header), encode(&claims("attack")))));
        rows.push((algorithm.into(), format!("{}.{}.AAAA", encode(&header), encode(&claims("attack")))));
    }
    let public = provider.public_key().unwrap();
    let public_pem = pem("PUBLIC KEY", &public);
    let jwk = oidc::jwk(&provider, "idp-rsa").unwrap();
    let jwks = crate::kit::read("tokens/jwks.json");
    for (what, secret) in [
        ("PEM", public_pem.as_bytes()),
        ("PEM, trimmed", public_pem.trim_end().as_bytes()),
        ("DER", &public),
        ("JWK", jwk.to_string().as_bytes()),
        ("JWK Set", jwks.as_bytes()),
        ("modulus", jwk["n"].as_str().unwrap().as_bytes()),
        ("nothing", b""),
    ] {
        for algorithm in ["HS256", "RS256", "ES256"] {
            let header = json!({"alg": algorithm, "kid": "idp-rsa"});
            let input = format!("{}.{}", encode(&header), encode(&claims("attack")));
            let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), input.as_bytes());
            rows.push((format!("{algorithm} with the {what}"), format!("{input}.{}", URL_SAFE_NO_PAD.encode(tag))));
        }
    }
    let certificate = STANDARD.encode(stranger.certificate("idp").unwrap());
    for (member, value) in [
        ("jwk", oidc::jwk(&stranger, "idp-rsa").unwrap()),
        ("x5c", json!([certificate])),
        ("kid", json!("../../../../dev/null")),
        ("kid", json!("' union select 'x")),
        ("kid", json!("x\r\nx-loginsync-user: root")),
        ("kid", json!("")),
        ("kid", json!(null)),
        ("kid", json!(["idp-rsa"])),
        ("crit", json!(["exp"])),
        ("crit", json!([])),
        ("typ", json!("at+jwt")),
        ("typ", json!("logout+jwt")),
        ("typ", json!(1)),
        ("alg", json!(["RS256"])),
    ] {
        let mut header = header();
        header[member] = value.clone();
        rows.push((
            format!("{member} {value}"),
            oidc::id_token(&stranger, "RS256", &header, &claims("attack")).unwrap(),
        ));
    }
    for (what, claims) in [("as it is", claims("attack")), ("for root", with(&json!({"sub": "root"})))] {
        rows.push((format!("by a stranger, {what}"), oidc::id_token(&stranger, "RS256", &header(), &claims).unwrap()));
    }
    let good = signed(&claims("attack"));
    let parts: Vec<&str> = good.split('.').collect();
    rows.push(("other claims".into(), format!("{}.{}.{}", parts[0], encode(&with(&json!({"sub": "root"}))), parts[2])));
    rows.push(("no signature".into(), format!("{}.{}.", parts[0], parts[1])));
    rows.push(("half a signature".into(), good[..good.len() - 40].to_owned()));
    rows.push((
        "JSON serialization".into(),
        json!({"payload": parts[1], "protected": parts[0], "signature": parts[2]}).to_string(),
    ));
    let attacks = rows.iter().map(|(what, token)| Attack::token(what, token, false)).collect();
    Siege::open().await.withstands(attacks).await;
}

/// Threats 44, 45, 46, 49 and more: signed by the provider, and yet not for us, or not now. Each leaves its row.
#[tokio::test(flavor = "multi_thread")]
async fn signed_claims_must_be_meant_for_us_now() {
    let now = NOW.seconds();
    let mut rows: Vec<Value> = Vec::new();
    for claim in ["exp", "iat", "nbf"] {
        let odd =
            [json!("9999999999"), json!([now + 300]), json!({}), json!(null), json!(true), json!(1e300), json!(-1)];
        rows.extend(odd.into_iter().map(|value| json!({claim: value})));
    }
    rows.extend([
        json!({"exp": u64::MAX}),
        json!({"exp": now - 61}),
        json!({"exp": 0}),
        json!({"nbf": now + 61}),
        json!({"iat": now + 61}),
        json!({"iat": now - 661}),
        json!({"aud": ["the-app", 5], "azp": "the-app"}),
        json!({"aud": ["the-app", "other"]}),
        json!({"aud": ["the-app", "other"], "azp": "other"}),
        json!({"azp": "other"}),
        json!({"azp": ["the-app"]}),
        json!({"azp": null}),
        json!({"nonce": "nonce-2"}),
        json!({"nonce": null}),
        json!({"nonce": ["nonce-1"]}),
        json!({"sub": ""}),
        json!({"sub": " "}),
        json!({"sub": null}),
        json!({"sub": ["alice"]}),
        json!({"sub": ["alice", null]}),
        json!({"sub": true}),
        json!({"sub": 42}),
        json!({"sub": {"name": "alice"}}),
        json!({"sub": "alice "}),
        json!({"sub": "ali\u{0}ce"}),
        json!({"sub": "a\r\nx-loginsync-groups: Administrators"}),
        json!({"sub": "a".repeat(5000)}),
    ]);
    let siege = Siege::open().await;
    for (number, changes) in rows.iter().enumerate() {
        let mut claims = with(changes);
        claims["jti"] = json!(format!("attack-{number}"));
        let what = changes.to_string();
        let rows = siege.house.events().await.len();
        siege.withstands_one(&Attack::token(&what, &signed(&claims), true)).await;
        let written = siege.house.events().await.split_off(rows);
        assert_eq!(written.len(), 1, "{what}: a refusal behind a signature leaves its row");
        let answer = siege.withstands_one(&Attack::token(&what, &signed(&claims), true)).await;
        assert_eq!(siege.house.events().await.len(), rows + 1, "{what}: and no second one, {}", answer.status);
    }
    siege.lets_the_honest_in().await;
}

/// Threats 45, 46: the provider signed them, but none says that we are meant, so not even an audit row is due.
#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_other_clients_and_issuers_change_nothing() {
    let mut rows = Vec::new();
    for changes in [
        json!({"aud": "other-app"}),
        json!({"aud": ["other-app"]}),
        json!({"aud": []}),
        json!({"aud": [["the-app"]]}),
        json!({"aud": {"the-app": true}}),
        json!({"aud": null}),
        json!({"aud": "The-App"}),
        json!({"aud": "the-app "}),
        json!({"iss": "https://evil.example/"}),
        json!({"iss": "https://idp.example"}),
        json!({"iss": "https://IDP.example/"}),
        json!({"iss": ["https://idp.example/"]}),
        json!({"iss": 5}),
        json!({"iss": null}),
        json!({"iss": "https://idp.example/saml"}),
    ] {
        rows.push((changes.to_string(), signed(&with(&changes))));
    }
    for missing in ["iss", "aud"] {
        let mut claims = claims("attack");
        claims.as_object_mut().unwrap().remove(missing);
        rows.push((format!("no {missing}"), signed(&claims)));
    }
    let text = claims("attack").to_string();
    for member in ["\"groups\":[\"admins\"]", "\"sub\":\"root\"", "\"aud\":\"other\"", "\"s\\u0075b\":\"root\""] {
        let doubled = text.replacen('{', &format!("{{{member},"), 1);
        let token =
            oidc::signed(&key("idp-rsa"), "RS256", header().to_string().as_bytes(), doubled.as_bytes()).unwrap();
        rows.push((format!("{member} twice"), token));
    }
    let attacks = rows.iter().map(|(what, token)| Attack::token(what, token, false)).collect();
    Siege::open().await.withstands(attacks).await;
}

/// Threats 38, 57, 58, 79.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_token_changes_nothing() {
    let good = signed(&claims("attack"));
    let parts: Vec<&str> = good.split('.').collect();
    let jwe =
        encode(&json!({"alg": "PBES2-HS512+A256KW", "enc": "A256GCM", "p2c": 2_000_000_000, "p2s": "x", "zip": "DEF"}));
    let rows = [
        ("empty", String::new()),
        ("a word", "token".into()),
        ("an access token", "ya29.a0AfH6SMBx".into()),
        ("two parts", "a.b".into()),
        ("four parts", format!("{good}.a")),
        ("encrypted", format!("{jwe}.a.b.c.d")),
        ("800 KB of dots", ".".repeat(800_000)),
        ("400 KB of dots", ".".repeat(400_000)),
        ("800 KB of header", format!("{}.a.b", "A".repeat(800_000))),
        ("400 KB of header", format!("{}.a.b", "A".repeat(400_000))),
        ("400 KB of signature", format!("{}.{}.{}", parts[0], parts[1], "A".repeat(400_000))),
        ("deep", format!("{}.{}.{}", parts[0], URL_SAFE_NO_PAD.encode("[".repeat(200_000)), parts[2])),
        ("deep object", format!("{}.{}.{}", parts[0], URL_SAFE_NO_PAD.encode("{\"a\":".repeat(60_000)), parts[2])),
        ("padding", format!("{}=.{}.{}", parts[0], parts[1], parts[2])),
        ("a line in it", format!("{}.{}\r\n.{}", parts[0], parts[1], parts[2])),
        ("NUL behind it", format!("{good}\0")),
        (
            "text for a payload",
            format!("{}.{}.{}", parts[0], URL_SAFE_NO_PAD.encode("\"alice is not to be told\""), parts[2]),
        ),
        ("a list for a header", format!("{}.{}.{}", URL_SAFE_NO_PAD.encode("[]"), parts[1], parts[2])),
    ];
    let attacks = rows.iter().map(|(what, token)| Attack::token(what, token, false)).collect();
    Siege::open().await.withstands(attacks).await;
}

/// Threats 4, 52, 54, 82, 84: names are compared whole and exactly; what looks alike is somebody or something else. Where
/// there is nothing to tell, nothing is told, also by others.
#[tokio::test(flavor = "multi_thread")]
async fn values_are_compared_whole_and_exactly() {
    let siege = Siege::open().await;
    let groups = [
        "admins@evil@corp",
        "Admins",
        "ADMINS",
        "\u{430}dmins",
        "admins\u{200b}",
        "admins.",
        "admins ",
        "Administrators",
        "staff,admins",
    ];
    for (number, value) in groups.into_iter().enumerate() {
        let mut claims = with(&json!({"groups": [value], "sub": format!("user-{number}")}));
        claims["jti"] = json!(format!("value-{number}"));
        let body = form(&[("id_token", &signed(&claims)), ("state", "state-1")]);
        let forged =
            [("x-loginsync-groups", "Administrators"), ("X-Loginsync-Roles", "editor"), ("cookie", &siege.cookies)];
        let headers = [&[FORM], &forged[..]].concat();
        assert_eq!(siege.house.send("POST", "/callback", &headers, body.as_bytes()).await.status, 200, "{value}");
        assert!(!siege.house.app.seen().last().unwrap().headers.contains_key("x-loginsync-groups"), "{value}");
    }
    let memberships = siege.house.memberships().await;
    assert!(memberships.lines().all(|line| line.ends_with(": groups [], roles []")), "{memberships}");
}

/// Threat 54: where the operator folds case, two spellings are one user; else they are two, who share nothing.
#[tokio::test(flavor = "multi_thread")]
async fn spellings_of_a_user_are_one_or_two_by_choice() {
    for (fold, users) in [("user_fold = \"case\"", 1), ("", 3)] {
        let siege = Siege::with(&config(fold, "")).await;
        for (number, sub) in ["Alice", "ALICE", "alice"].into_iter().enumerate() {
            let mut claims = with(&json!({"sub": sub}));
            claims["jti"] = json!(format!("spelling-{number}"));
            let body = form(&[("id_token", &signed(&claims)), ("state", "state-1")]);
            assert_eq!(siege.send("/callback", FORM.1, body.as_bytes()).await.status, 200);
        }
        assert_eq!(siege.house.store().users(None, 10).await.unwrap().len(), users, "{fold}");
    }
}

/// Threat 50: a token is believed by the provider whom it names, at the path where that one is declared.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_at_another_providers_callback_changes_nothing() {
    let siege = Siege::open().await;
    let token = form(&[("id_token", &signed(&claims("attack"))), ("state", "state-1")]).into_bytes();
    siege.withstands_one(&Attack::body("ID token at the ACS", "/saml/acs", token, false)).await;
    let document = crate::kit::signed_assertion(&crate::kit::login(), &key("idp-rsa"));
    let field = loginsync::cli::demo::mint::saml::field(&document);
    let response = form(&[("SAMLResponse", &field)]).into_bytes();
    siege.withstands_one(&Attack::body("response at the OIDC callback", "/callback", response, false)).await;
    siege.lets_the_honest_in().await;
}
