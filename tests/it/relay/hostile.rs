//! Replies that no login may come of.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use loginsync::cli::demo::mint::{KeyKind, MintKey, oidc};
use serde_json::{Value, json};

use super::{ACCESS_TOKEN, Scene};
use crate::support::idp::Scripted;

#[tokio::test]
async fn a_reply_that_is_not_believed_reaches_nobody() {
    let scene = Scene::new().await;
    scene.idp.answers("/revoke", Scripted::of(200, "text/plain", ""));
    let valid = scene.claims(&["staff"]);
    let with = |name: &str, value: Value| {
        let mut claims = valid.clone();
        claims[name] = value;
        scene.reply(&claims)
    };
    let around = |token: &str| format!(r#"{{"access_token":"{ACCESS_TOKEN}","id_token":"{token}"}}"#);
    let token = scene.idp.sign(&valid);
    let stranger = MintKey::generate(KeyKind::Ed25519).unwrap();
    let header = |algorithm: &str| json!({"alg": algorithm, "kid": "k"});
    let unsigned = |header: Value| {
        format!("{}.{}.", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(valid.to_string()))
    };
    let confused = {
        let jwk = oidc::jwk(&scene.idp.key, "k").unwrap().to_string();
        let input = unsigned(header("HS256"));
        let input = input.trim_end_matches('.');
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, jwk.as_bytes()), input.as_bytes());
        format!("{input}.{}", URL_SAFE_NO_PAD.encode(tag))
    };
    let by_stranger = oidc::id_token(&stranger, "EdDSA", &header("EdDSA"), &valid).unwrap();
    let mut flipped = token.clone().into_bytes();
    let middle = flipped.len() / 2;
    flipped[middle] = if flipped[middle] == b'A' { b'B' } else { b'A' };
    let flipped = String::from_utf8(flipped).unwrap();
    let rows: Vec<(&str, String)> = vec![
        ("of another client of the same issuer", with("aud", json!("another"))),
        ("of several clients without a party", with("aud", json!(["the-app", "another"]))),
        ("of another party", with("azp", json!("another"))),
        ("of another issuer", with("iss", json!("https://idp.example"))),
        ("expired", with("exp", json!(super::NOW.seconds() - 61))),
        ("from the future", with("iat", json!(super::NOW.seconds() + 61))),
        ("without a subject", with("sub", Value::Null)),
        ("another access token's", with("at_hash", json!("AAAAAAAAAAAAAAAAAAAAAA"))),
        ("a group claim that is no list", with("iat", json!("now"))),
        ("by a stranger's key", around(&by_stranger)),
        ("alg none", around(&unsigned(header("none")))),
        ("HS256 over the public key", around(&confused)),
        ("cut", around(&token[..token.len() - 4])),
        ("flipped", around(&flipped)),
        ("encrypted", around("a.b.c.d.e")),
        ("empty", around("")),
    ];
    let count = rows.len();
    for (what, reply) in rows {
        scene.idp.answers("/token", Scripted::json(reply));
        scene.assert_withheld(what, &scene.code().await, 400, "invalid_grant");
        assert!(scene.user().await.is_none(), "{what}");
    }
    assert!(scene.idp.asked_times("/revoke", count).await.len() >= count, "withheld tokens are given back");
}

#[tokio::test]
async fn a_reply_that_can_be_read_in_two_ways_reaches_nobody() {
    let scene = Scene::new().await;
    let claims = scene.claims(&["staff"]);
    let (good, other) = (scene.idp.sign(&claims), scene.idp.sign(&scene.claims(&["board"])));
    let rows = [
        ("two ID tokens", format!(r#"{{"id_token":"{good}","access_token":"{ACCESS_TOKEN}","id_token":"{other}"}}"#)),
        ("two, in another spelling", format!(r#"{{"id_token":"{good}","ID_TOKEN":"{other}"}}"#)),
        ("two, one escaped", format!(r#"{{"id_token":"{good}","id\u005ftoken":"{other}"}}"#)),
        ("two access tokens", format!(r#"{{"id_token":"{good}","access_token":"a","Access_Token":"b"}}"#)),
        ("a list", format!(r#"{{"id_token":["{good}"],"access_token":"{ACCESS_TOKEN}"}}"#)),
        ("within a list", format!(r#"[{{"id_token":"{good}"}}]"#)),
        ("a form", format!("access_token={ACCESS_TOKEN}&id_token={good}")),
        ("more after it", format!(r#"{{"error":"x"}} {{"id_token":"{good}"}}"#)),
        ("nothing", "{}".to_owned()),
        ("no body", String::new()),
        ("deep", format!("{{\"a\":{}", "[".repeat(60_000))),
    ];
    for (what, reply) in rows {
        scene.idp.answers("/token", Scripted::json(reply));
        scene.assert_withheld(what, &scene.code().await, 502, "server_error");
    }
    let mut compressed = Scripted::json(scene.reply(&claims));
    compressed.headers.push(("content-encoding", "gzip".into()));
    scene.idp.answers("/token", compressed);
    scene.assert_withheld("compressed", &scene.code().await, 502, "server_error");
    let mut redirect = Scripted::of(307, "text/plain", "");
    redirect.headers.push(("location", "http://127.0.0.1:1/token".into()));
    scene.idp.answers("/token", redirect);
    scene.assert_withheld("a redirect leads around us", &scene.code().await, 502, "server_error");
    scene.idp.answers("/token", Scripted::json(format!("{}{}", scene.reply(&claims), " ".repeat(70_000))));
    scene.assert_withheld("huge", &scene.code().await, 502, "server_error");
    // Whatever its status says, an app may find a token in it.
    scene
        .idp
        .answers("/token", Scripted::of(400, "application/json", format!(r#"{{"id_token":"{good}","error":"x"}}"#)));
    assert_eq!(scene.code().await.status, 400);
    assert_eq!(scene.groups().await, ["Staff"], "it was read");
}
