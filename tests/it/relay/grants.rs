//! Which grant means what, and what becomes of a refresh.

use serde_json::{Value, json};

use super::{ACCESS_TOKEN, FORM, REFRESH_TOKEN, Scene};
use crate::support::idp::Scripted;
use loginsync::cli::demo::mint::{KeyKind, MintKey, oidc};
use loginsync::pipeline::ids::{Namespace, Subject, UserId};
use loginsync::ports::store::Act;

fn thin() -> String {
    format!(r#"{{"access_token":"{ACCESS_TOKEN}","refresh_token":"{REFRESH_TOKEN}","token_type":"Bearer"}}"#)
}

#[tokio::test]
async fn every_reply_with_an_id_token_is_a_login_whatever_its_grant() {
    for (number, grant) in [
        "authorization_code",
        "refresh_token",
        "password",
        "urn:ietf:params:oauth:grant-type:device_code",
        "urn:ietf:params:oauth:grant-type:token-exchange",
        "urn:openid:params:grant-type:ciba",
        "https://vendor.example/grant",
    ]
    .iter()
    .enumerate()
    {
        let scene = Scene::new().await;
        let reply = scene.replies(&scene.claims(&["staff"]));
        let answer = scene.grant(&format!("grant_type={grant}&code=c-{number}")).await;
        assert_eq!(answer.body, reply, "{grant}");
        assert_eq!(scene.groups().await, ["Staff"], "{grant}");
    }
}

#[tokio::test]
async fn a_persons_grant_without_an_id_token_is_withheld_and_given_back() {
    for grant in [
        "authorization_code",
        "password",
        "urn:ietf:params:oauth:grant-type:device_code",
        "https://vendor.example/grant",
    ] {
        let scene = Scene::new().await;
        scene.idp.answers("/token", Scripted::json(thin()));
        scene.idp.answers("/revoke", Scripted::of(200, "text/plain", ""));
        let body = format!("grant_type={grant}&code=c&client_id=the-app&client_secret=s-1");
        let answer = scene.post(&format!("{FORM}authorization: Basic abc\r\n"), &body).await;
        scene.assert_withheld(grant, &answer, 400, "invalid_scope");
        assert!(answer.body.contains("scope `openid`"), "{}", answer.body);
        let revoked = scene.idp.asked_times("/revoke", 2).await;
        let forms: Vec<Vec<(String, String)>> =
            revoked.iter().map(|asked| form_urlencoded::parse(&asked.body).into_owned().collect()).collect();
        let text = |text: &str| text.to_owned();
        let client = [(text("client_id"), text("the-app")), (text("client_secret"), text("s-1"))];
        let given = |token: &str, kind: &str| {
            let mut form = vec![(text("token"), text(token)), (text("token_type_hint"), text(kind))];
            form.extend(client.iter().cloned());
            form
        };
        assert_eq!(forms, [given(REFRESH_TOKEN, "refresh_token"), given(ACCESS_TOKEN, "access_token")], "{grant}");
        assert_eq!(revoked[0].header("authorization"), "Basic abc");
        assert!(scene.user().await.is_none());
    }
}

#[tokio::test]
async fn what_is_no_persons_grant_passes() {
    let scene = Scene::new().await;
    // Unread: not even what could not be read matters.
    for reply in [thin(), "{\"access_token\":\"a\",\"access_token\":\"b\"}".into(), "id_token=x".into()] {
        scene.idp.answers("/token", Scripted::json(reply.clone()));
        let answer = scene.grant("grant_type=client_credentials&client_id=the-app&client_secret=s").await;
        assert_eq!((answer.status, &answer.body), (200, &reply));
    }
    scene.idp.answers("/token", Scripted::json(thin()));
    for grant in ["token-exchange", "jwt-bearer", "saml2-bearer"] {
        let answer = scene.grant(&format!("grant_type=urn:ietf:params:oauth:grant-type:{grant}&assertion=x")).await;
        assert_eq!((answer.status, &answer.body), (200, &thin()), "{grant}");
    }
    assert!(scene.user().await.is_none());
    assert!(scene.idp.asked("/userinfo").is_empty());
}

#[tokio::test]
async fn a_refresh_syncs_and_one_without_an_id_token_asks_userinfo() {
    let scene = Scene::new().await;
    scene.replies(&scene.claims(&["staff", "board"]));
    scene.code().await;
    let mut later = scene.claims(&["staff"]);
    later["iat"] = json!(later["iat"].as_i64().unwrap() + 10);
    let reply = scene.replies(&later);
    assert_eq!(scene.refresh().await.body, reply);
    assert_eq!(scene.groups().await, ["Staff"]);

    let watermark = |scene: &Scene| -> i64 {
        scene.database().query_row("SELECT issued_at FROM logins", [], |row| row.get(0)).unwrap()
    };
    let before = watermark(&scene);
    scene.idp.answers("/token", Scripted::json(thin()));
    scene.idp.answers("/userinfo", Scripted::json(r#"{"sub":"alice","groups":["board"]}"#));
    assert_eq!(scene.refresh().await.body, thin());
    assert_eq!(scene.idp.asked("/userinfo").pop().unwrap().header("authorization"), format!("Bearer {ACCESS_TOKEN}"));
    assert_eq!(scene.groups().await, ["Board"]);
    assert_eq!(scene.last_event().await.detail["binding"], "userinfo");
    assert_eq!(watermark(&scene), before, "a refresh without a token leaves the watermark alone");

    // Incomplete is not empty: an ID token that did not come may hold the groups.
    scene.idp.answers("/userinfo", Scripted::json(r#"{"sub":"alice"}"#));
    assert_eq!(scene.refresh().await.status, 200);
    assert_eq!(scene.groups().await, ["Board"]);
    assert_eq!(scene.last_event().await.detail["claims"][0]["state"], "unresolved (not in this token)");
    scene.idp.answers("/userinfo", Scripted::json(r#"{"sub":"alice","groups":[]}"#));
    assert_eq!(scene.refresh().await.status, 200);
    assert!(scene.groups().await.is_empty(), "present and empty revokes");
}

#[tokio::test]
async fn a_refresh_that_cannot_be_synced_passes_and_is_an_alarm() {
    let scene = Scene::new().await;
    scene.replies(&scene.claims(&["staff"]));
    scene.code().await;
    let rows = [
        ("no tokens", "{}".to_owned()),
        ("not JSON", "x".to_owned()),
        ("no userinfo", thin()),
        ("no access token", format!(r#"{{"refresh_token":"{REFRESH_TOKEN}"}}"#)),
    ];
    for (number, (what, reply)) in rows.into_iter().enumerate() {
        scene.idp.answers("/token", Scripted::json(reply.clone()));
        scene.idp.answers("/userinfo", Scripted::of(500, "text/plain", ""));
        let answer = scene.refresh().await;
        assert_eq!((answer.status, &answer.body), (200, &reply), "{what}");
        assert_eq!(scene.groups().await, ["Staff"], "{what}");
        let metrics = scene.house.fetch(&format!("http://{}/metrics", scene.house.running.admin)).await;
        assert!(metrics.contains(&format!("loginsync_refreshes_unsynced_total {}\n", number + 1)), "{what}: {metrics}");
    }
    assert!(scene.idp.asked("/revoke").is_empty());
}

/// Where a laxer parser than ours could find a login in the reply.
#[tokio::test]
async fn a_refresh_with_a_token_that_is_not_read_is_withheld() {
    let scene = Scene::new().await;
    scene.replies(&scene.claims(&["staff"]));
    scene.code().await;
    let reply = scene.reply(&scene.claims(&["board"]));
    let token = scene.idp.sign(&scene.claims(&["board"]));
    let more = |member: &str| reply.replacen('{', &format!("{{{member},"), 1);
    for (number, (what, reply)) in [
        ("two ID tokens", reply.replace("\"x\"", "\"Id_Token\"")),
        ("half a character", more("\"name\":\"\\ud83d\"")),
        ("a member twice", more("\"scope\":\"a\",\"scope\":\"a\"")),
        ("no number", more("\"expires_in\":NaN")),
        ("a comma at the end", reply.replace('}', ",}")),
        ("an array", format!("[{reply}]")),
        ("a form", format!("access_token=a&id_token={token}")),
        ("a token alone", token.clone()),
    ]
    .into_iter()
    .enumerate()
    {
        scene.idp.answers("/token", Scripted::json(reply));
        let answer = scene.refresh().await;
        assert_eq!(answer.status, 502, "{number} {what}: {}", answer.body);
        assert_eq!(scene.groups().await, ["Staff"], "{what}");
    }
}

/// OUT8: what is merely not believed of a refreshed ID token, userinfo decides; where it cannot be asked the app waits.
#[tokio::test]
async fn out08_userinfo_decides_where_a_refreshed_token_is_not_believed() {
    let scene = Scene::new().await;
    scene.replies(&scene.claims(&["staff"]));
    scene.code().await;
    let valid = scene.claims(&["staff"]);
    let with = |name: &str, value: Value| {
        let mut claims = valid.clone();
        claims[name] = value;
        scene.reply(&claims)
    };
    let other_key = MintKey::generate(KeyKind::Ed25519).unwrap();
    let unknown = oidc::id_token(&other_key, "EdDSA", &json!({"alg": "EdDSA", "kid": "rotated"}), &valid).unwrap();
    let wrong = oidc::id_token(&other_key, "EdDSA", &json!({"alg": "EdDSA", "kid": "k"}), &valid).unwrap();
    let bearing = |token: &str| scene.reply(&valid).replace(&scene.idp.sign(&valid), token);
    let user = UserId { namespace: Namespace::parse("the idp").unwrap(), subject: Subject::parse("alice").unwrap() };
    for (number, (what, reply)) in [
        ("another client's token", with("aud", json!("other"))),
        ("several audiences", with("aud", json!(["the-app", "other"]))),
        ("expired", with("exp", json!(1))),
        ("a key that is not published yet", bearing(&unknown)),
    ]
    .into_iter()
    .enumerate()
    {
        scene.idp.answers("/token", Scripted::json(reply.clone()));
        let group = if number % 2 == 0 { ("board", "Board") } else { ("staff", "Staff") };
        scene.idp.answers("/userinfo", Scripted::json(json!({"sub": "alice", "groups": [group.0]}).to_string()));
        assert_eq!(scene.refresh().await.body, reply, "{what}");
        assert_eq!(scene.groups().await, [group.1], "{what}: synced by userinfo");
        scene.idp.answers("/userinfo", Scripted::of(500, "text/plain", ""));
        scene.assert_withheld(what, &scene.refresh().await, 503, "temporarily_unavailable");
        assert!(scene.idp.asked("/revoke").is_empty(), "{what}: the app asks again");
        assert_eq!(scene.groups().await, [group.1], "{what}");
    }
    scene.idp.answers("/token", Scripted::json(bearing("ez.e30.x")));
    scene.assert_withheld("unreadable", &scene.refresh().await, 503, "temporarily_unavailable");
    // Verdicts: another person, a signature that is wrong by a known key, a disabled user.
    scene.idp.answers("/userinfo", Scripted::json(r#"{"sub":"bob","groups":["board"]}"#));
    scene.idp.answers("/token", Scripted::json(with("exp", json!(1))));
    scene.assert_withheld("of another person", &scene.refresh().await, 400, "invalid_grant");
    scene.idp.answers("/userinfo", Scripted::json(r#"{"sub":"alice","groups":["board"]}"#));
    scene.idp.answers("/token", Scripted::json(bearing(&wrong)));
    scene.assert_withheld("a wrong signature", &scene.refresh().await, 400, "invalid_grant");
    scene.house.store().act(user, Act::Disable, "a test".into(), super::NOW).await.unwrap();
    scene.idp.answers("/token", Scripted::json(with("exp", json!(1))));
    scene.assert_withheld("a disabled user", &scene.refresh().await, 400, "invalid_grant");
    assert!(scene.user_named("bob").await.is_none());
}

#[tokio::test]
async fn only_a_deny_ends_a_refresh() {
    let scene = Scene::new().await;
    scene.idp.answers("/revoke", Scripted::of(503, "text/plain", ""));
    scene.replies(&scene.claims(&["staff"]));
    scene.code().await;
    let user = UserId { namespace: Namespace::parse("the idp").unwrap(), subject: Subject::parse("alice").unwrap() };
    scene.house.store().act(user, Act::Disable, "a test".into(), super::NOW).await.unwrap();
    scene.assert_withheld("by ID token", &scene.refresh().await, 400, "invalid_grant");
    assert_eq!(scene.idp.asked_times("/revoke", 2).await.len(), 2, "a refused revocation hinders nobody");
    scene.idp.answers("/token", Scripted::json(thin()));
    scene.idp.answers("/userinfo", Scripted::json(r#"{"sub":"alice"}"#));
    scene.assert_withheld("by userinfo", &scene.refresh().await, 400, "invalid_grant");
    scene.replies(&scene.claims(&["staff"]));
    scene.assert_withheld("by code", &scene.code().await, 400, "invalid_grant");
}
