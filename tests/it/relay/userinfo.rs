//! What the ID token does not say: userinfo and the access token.

use serde_json::{Value, json};

use super::{ACCESS_TOKEN, Scene};
use crate::support::idp::Scripted;

fn without_groups(scene: &Scene) -> Value {
    let mut claims = scene.claims(&[]);
    claims.as_object_mut().unwrap().remove("groups");
    claims
}

#[tokio::test]
async fn a_thin_id_token_is_filled_from_userinfo_of_the_same_person_alone() {
    let signed = |scene: &Scene, change: fn(&mut Value)| {
        let mut claims = json!({"iss": scene.idp.issuer(), "aud": "the-app", "sub": "alice", "groups": ["staff"]});
        change(&mut claims);
        Scripted::of(200, "application/jwt", scene.idp.sign(&claims))
    };
    let plain = |body: &str| Scripted::of(200, "application/json; charset=utf-8", body.to_owned());
    type Row = (&'static str, Box<dyn Fn(&Scene) -> Scripted>, &'static [&'static str], &'static str);
    let failed = "unresolved (fetch failed)";
    let rows: Vec<Row> = vec![
        ("plain", Box::new(move |_| plain(r#"{"sub":"alice","groups":["staff"]}"#)), &["Staff"], "values"),
        ("signed", Box::new(move |scene| signed(scene, |_| {})), &["Staff"], "values"),
        ("present and empty", Box::new(move |_| plain(r#"{"sub":"alice","groups":[]}"#)), &[], "empty"),
        ("missing in both", Box::new(move |_| plain(r#"{"sub":"alice"}"#)), &[], "missing"),
        ("somebody else's", Box::new(move |_| plain(r#"{"sub":"bob","groups":["staff"]}"#)), &["Board"], failed),
        ("nobody's", Box::new(move |_| plain(r#"{"groups":["staff"]}"#)), &["Board"], failed),
        (
            "another's, case aside",
            Box::new(move |_| plain(r#"{"sub":"Alice","groups":["staff"]}"#)),
            &["Board"],
            failed,
        ),
        (
            "two lists",
            Box::new(move |_| plain(r#"{"sub":"alice","groups":["staff"],"groups":[]}"#)),
            &["Board"],
            failed,
        ),
        ("not JSON", Box::new(move |_| plain("x")), &["Board"], failed),
        ("a page", Box::new(move |_| Scripted::of(200, "text/html", "<p>")), &["Board"], failed),
        ("refused", Box::new(move |_| Scripted::of(401, "application/json", "{}")), &["Board"], failed),
        (
            "huge",
            Box::new(move |_| plain(&format!(r#"{{"sub":"alice","x":"{}"}}"#, "x".repeat(1 << 20)))),
            &["Board"],
            failed,
        ),
        (
            "signed for another client",
            Box::new(move |scene| signed(scene, |claims| claims["aud"] = json!("other"))),
            &["Board"],
            failed,
        ),
        (
            "signed by another issuer",
            Box::new(move |scene| signed(scene, |claims| claims["iss"] = json!("https://other"))),
            &["Board"],
            failed,
        ),
        (
            "signed long ago",
            Box::new(move |scene| signed(scene, |claims| claims["exp"] = json!(1))),
            &["Board"],
            failed,
        ),
        (
            "signed and flipped",
            Box::new(move |scene| {
                let mut answer = signed(scene, |_| {});
                let last = answer.body.len() - 10;
                answer.body[last] = if answer.body[last] == b'A' { b'B' } else { b'A' };
                answer
            }),
            &["Board"],
            failed,
        ),
    ];
    for (what, userinfo, groups, state) in rows {
        let scene = Scene::new().await;
        scene.replies(&scene.claims(&["board"]));
        scene.code().await;
        assert!(scene.idp.asked("/userinfo").is_empty(), "an ID token that has the claim is enough");
        scene.idp.answers("/userinfo", userinfo(&scene));
        let reply = scene.replies(&without_groups(&scene));
        assert_eq!(scene.code().await.body, reply, "{what}");
        assert_eq!(scene.groups().await, groups, "{what}");
        assert_eq!(scene.last_event().await.detail["claims"][0]["state"], state, "{what}");
        assert_eq!(scene.idp.asked("/userinfo")[0].header("authorization"), format!("Bearer {ACCESS_TOKEN}"));
    }
}

#[tokio::test]
async fn a_claim_is_read_where_its_rule_says() {
    let token = |scene: &Scene, change: fn(&mut Value)| {
        let mut claims = json!({"iss": scene.idp.issuer(), "sub": "alice", "aud": "an-api", "groups": ["staff"]});
        change(&mut claims);
        scene.idp.sign(&claims)
    };
    type Row = (&'static str, &'static str, fn(&mut Value), &'static [&'static str]);
    let rows: [Row; 6] = [
        ("userinfo alone", r#"from = ["userinfo"]"#, |_| {}, &["Board"]),
        ("both", "from = [\"id_token\", \"userinfo\"]\ntake = \"union\"", |_| {}, &["Board"]),
        ("the ID token alone", r#"from = ["id_token"]"#, |_| {}, &[]),
        ("an access token", r#"from = ["access_token"]"#, |_| {}, &["Staff"]),
        ("an access token of somebody else", r#"from = ["access_token"]"#, |claims| claims["sub"] = json!("bob"), &[]),
        ("an access token of another issuer", r#"from = ["access_token"]"#, |claims| claims["iss"] = json!("x"), &[]),
    ];
    for (what, rule, change, groups) in rows {
        let scene = Scene::with("", rule).await;
        scene.idp.answers("/userinfo", Scripted::json(r#"{"sub":"alice","groups":["board"]}"#));
        let claims = without_groups(&scene);
        let reply = json!({"access_token": token(&scene, change), "id_token": scene.idp.sign(&claims)}).to_string();
        scene.idp.answers("/token", Scripted::json(reply));
        assert_eq!(scene.code().await.status, 200, "{what}");
        assert_eq!(scene.groups().await, groups, "{what}");
        let asks = matches!(what, "userinfo alone" | "both");
        assert_eq!(!scene.idp.asked("/userinfo").is_empty(), asks, "{what}");
    }
}
