//! Mode `token-relay`: what an app could read as a person's tokens is synced or withheld.

use serde_json::{Value, json};

use crate::relay::{ACCESS_TOKEN, FORM, Scene};
use crate::support::idp::Scripted;

const POSTED: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

async fn callback(scene: &Scene, fields: &str) -> [u16; 2] {
    let got = scene.house.send("GET", &format!("/oauth/callback?{fields}"), &[], b"").await;
    let posted = scene.house.send("POST", "/oauth/callback", &[POSTED], fields.as_bytes()).await;
    [got.status, posted.status]
}

#[tokio::test]
async fn sec20_an_id_token_beside_a_code_is_a_login_and_needs_a_code() {
    let scene = Scene::new().await;
    let token = scene.idp.sign(&scene.claims(&["staff"]));
    for code in [
        "code=",
        "code",
        "Code=x",
        "code[]=x",
        "code%00=x",
        "code=%20",
        "code=%00",
        "co%64e=",
        "code[a]=x",
        "x=1;code=c",
        "[code]=x",
        "%20code=x",
        "code=c&code=d",
        "code=c&Code=d",
        "a=b",
    ] {
        for fields in [format!("{code}&state=s&id_token={token}"), format!("id_token={token}&state=s&{code}")] {
            let refused = callback(&scene, &fields).await;
            assert!(refused.iter().all(|status| (400..500).contains(status)), "{code}: {refused:?}");
        }
    }
    let split = format!("id_token={token}");
    let elsewhere = scene.house.send("POST", "/oauth/callback?code=c", &[POSTED], split.as_bytes()).await;
    assert_eq!(elsewhere.status, 400, "an app that reads the body finds no code");
    assert!(scene.house.app.seen().is_empty());
    assert!(scene.user().await.is_none());

    assert_eq!(callback(&scene, &format!("code=c&state=s&id_token={token}")).await, [200, 200]);
    assert_eq!(scene.groups().await, ["Staff"], "it is verified and synced");
    assert!(scene.house.app.seen().iter().all(|seen| !seen.headers.contains_key("x-loginsync-user")));
    let mut foreign = scene.claims(&["board"]);
    foreign["aud"] = json!("another");
    for token in ["not-a-token".to_owned(), scene.idp.sign(&foreign), token[..token.len() - 4].to_owned()] {
        let refused = callback(&scene, &format!("code=c&id_token={token}")).await;
        assert!(refused.iter().all(|status| (400..500).contains(status)), "{token}: {refused:?}");
    }
    assert_eq!(callback(&scene, "code=c&id_token=").await, [200, 200], "an empty field is none");
    assert_eq!(callback(&scene, "code=").await, [200, 200], "without a token a code is the app's own business");
}

#[tokio::test]
async fn sec20_a_gate_holds_at_the_callback_too() {
    let scene =
        Scene::with("", "\n[[gate]]\nname = \"no board\"\ndeny = [{ claim = \"groups\", is = \"board\" }]\n").await;
    let token = scene.idp.sign(&scene.claims(&["board"]));
    assert_eq!(callback(&scene, &format!("code=c&id_token={token}")).await, [403, 403]);
    assert!(scene.house.app.seen().is_empty());
}

#[tokio::test]
async fn sec21_tokens_that_were_not_synced_are_withheld_wherever_they_stand() {
    let scene = Scene::new().await;
    let token = scene.idp.sign(&scene.claims(&["staff"]));
    let tokens = json!({"access_token": ACCESS_TOKEN, "id_token": token});
    let escaped: String = token.bytes().map(|byte| format!("\\u{byte:04x}")).collect();
    let exchanged =
        |kind: &str| json!({"access_token": token, "issued_token_type": kind, "token_type": "N_A"}).to_string();
    let code = "grant_type=authorization_code&code=c&client_id=the-app";
    let client = "grant_type=client_credentials&client_id=the-app&client_secret=s";
    let hidden = [
        json!({"error": "", "data": tokens}).to_string(),
        json!({"error": "x", "data": tokens}).to_string(),
        json!({"error": "x", "list": [tokens]}).to_string(),
        json!({"error": "x", "list": [[token]]}).to_string(),
        json!({"error": "x", "text": token}).to_string(),
        json!({"error": "x", "data": {"accessToken": token}}).to_string(),
        json!({"error": "x", "data": {"access_token": "opaque"}}).to_string(),
        format!(r#"{{"error":"x","text":"{escaped}"}}"#),
        format!(r#"[{{"a":"{token}"}}]"#),
        format!("token={token}"),
    ];
    for body in &hidden {
        for status in [200, 400] {
            for grant in [code, "grant_type=refresh_token&refresh_token=r", client] {
                scene.idp.answers("/token", Scripted::of(status, "application/json", body.clone()));
                let answer = scene.grant(grant).await;
                let shown = body.replace(&token, "TOKEN");
                // At a refresh a reply that is none is let through with an alarm, as it was; what is hidden in one is not.
                if grant.contains("refresh") && !body.starts_with("{") {
                    continue;
                }
                assert!(!answer.body.contains(&token[..40]), "{status} {grant}: {shown}: {answer:?}");
                assert!(!answer.body.contains("opaque") && !answer.body.contains(&escaped[..60]), "{status}: {shown}");
            }
        }
    }
    assert!(scene.user().await.is_none());

    let exchange = "grant_type=urn:ietf:params:oauth:grant-type:token-exchange&subject_token=s";
    let kind = "urn:ietf:params:oauth:token-type:id_token";
    scene.idp.answers("/token", Scripted::json(exchanged(kind)));
    assert_eq!(scene.grant(exchange).await.body, exchanged(kind));
    assert_eq!(scene.groups().await, ["Staff"], "an ID token in `access_token` is synced");
    let mut other = scene.claims(&["board"]);
    other["aud"] = json!("another");
    let forged = json!({"access_token": scene.idp.sign(&other), "issued_token_type": kind}).to_string();
    scene.idp.answers("/token", Scripted::json(forged));
    scene.assert_withheld("another client's", &scene.grant(exchange).await, 400, "invalid_grant");
    let bob = {
        let mut claims = scene.claims(&["board"]);
        claims["sub"] = json!("bob");
        scene.idp.sign(&claims)
    };
    let two = json!({"id_token": token, "access_token": ACCESS_TOKEN, "data": [bob]}).to_string();
    scene.idp.answers("/token", Scripted::json(two));
    scene.assert_withheld("a second person", &scene.code().await, 502, "server_error");

    // What is no login beside one that was synced, and what a client has for itself.
    let mut access = scene.claims(&[]);
    access["aud"] = json!("https://api.example");
    let nested = json!({"id_token": token, "access_token": scene.idp.sign(&access), "authed": {"access_token": "x"}});
    scene.idp.answers("/token", Scripted::json(nested.to_string()));
    assert_eq!(scene.code().await.body, nested.to_string());
    let own = json!({"access_token": scene.idp.sign(&access), "token_type": "Bearer"}).to_string();
    scene.idp.answers("/token", Scripted::json(own.clone()));
    assert_eq!(scene.grant(client).await.body, own);
    let errors: Value =
        json!({"error": "invalid_grant", "error_description": "the access_token or id_token is not valid"});
    scene.idp.answers("/token", Scripted::of(400, "application/json", errors.to_string()));
    assert_eq!(scene.code().await.body, errors.to_string());
}

#[tokio::test]
async fn sec21_a_request_means_one_thing_to_us_and_to_the_provider() {
    let scene = Scene::new().await;
    scene.replies(&scene.claims(&["staff"]));
    let before = scene.idp.asked("/token").len();
    let client = "grant_type=client_credentials";
    for other in [
        "grant.type=authorization_code",
        "grant_type[]=authorization_code",
        "grant_type%5B%5D=authorization_code",
        "grant%20type=authorization_code",
        "grant+type=authorization_code",
        "grant[type=authorization_code",
        "Grant_Type=authorization_code",
        "grant_type%00=authorization_code",
        "%20grant_type=authorization_code",
        "[grant_type]=authorization_code",
        "grant_type=authorization_code",
        "a=b;grant_type=authorization_code",
        "code[]=c",
        "refresh.token=r",
    ] {
        for body in [format!("{client}&{other}&code=c"), format!("{other}&{client}")] {
            let answer = scene.grant(&body).await;
            assert_eq!(answer.status, 400, "{body}: {answer:?}");
        }
    }
    let utf16 = "content-type: application/x-www-form-urlencoded; charset=utf-16\r\n";
    assert_eq!(scene.post(utf16, client).await.status, 400);
    assert_eq!(scene.idp.asked("/token").len(), before, "nothing was spent");
    let fine = "gr%61nt_type=authorization_code&code=c&resource=a&resource=b;c&client_id=the-app";
    assert_eq!(scene.post(FORM, fine).await.status, 200, "an escape that every server undoes");
}
