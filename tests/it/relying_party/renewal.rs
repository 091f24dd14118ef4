//! Between logins: refresh tokens.

use loginsync::serve::relying_party::renewal::Renewed;
use serde_json::json;

use super::{Scene, Setting};
use crate::support::idp::Scripted;

const RENEWED: Setting = Setting { session: "renew = \"5m\"", top: "", listen: "", provider: "", more: "" };

#[tokio::test]
async fn a_session_syncs_again_by_its_refresh_token() {
    let scene = Scene::open(RENEWED).await;
    let mut browser = scene.browser();
    browser.log_in(|_| {}).await;
    scene.later(299);
    assert_eq!(browser.groups().await.as_deref(), Some("Staff"));
    assert_eq!(scene.idp.asked("/token").len(), 1, "not yet");
    let fresh = |groups: serde_json::Value| {
        let token = scene.token("", |claims| {
            claims["groups"] = groups;
            claims.as_object_mut().unwrap().remove("nonce");
        });
        json!({"id_token": token, "access_token": "at-2", "refresh_token": "rt-2"}).to_string()
    };
    scene.later(2);
    scene.idp.answers("/token", Scripted::json(fresh(json!(["board"]))));
    assert_eq!(browser.groups().await.as_deref(), Some("Board"), "the very request that was due");
    let asked = scene.idp.asked("/token");
    let form = String::from_utf8(asked[1].body.to_vec()).unwrap();
    assert_eq!(form, "grant_type=refresh_token&refresh_token=rt-1");
    browser.groups().await;
    assert_eq!(scene.idp.asked("/token").len(), 2, "and once");
    scene.later(301);
    scene.idp.answers("/token", Scripted::json(fresh(json!([]))));
    assert_eq!(browser.groups().await.as_deref(), Some(""), "present and empty revokes");
    let form = String::from_utf8(scene.idp.asked("/token")[2].body.to_vec()).unwrap();
    assert!(form.ends_with("refresh_token=rt-2"), "the token that came last: {form}");
    let stored = std::fs::read(scene.house.folder.path().join("store.db-wal")).unwrap();
    assert!(!stored.windows(4).any(|bytes| bytes == b"rt-1" || bytes == b"rt-2"), "sealed");
}

#[tokio::test]
async fn a_renewal_that_fails_ends_the_session_or_changes_nothing() {
    let cases: [(&str, Option<Scripted>, bool); 6] = [
        (
            "the provider has ended it",
            Some(Scripted::of(400, "application/json", r#"{"error":"invalid_grant"}"#)),
            false,
        ),
        ("the provider fails", Some(Scripted::of(500, "text/plain", "")), true),
        ("the client is refused", Some(Scripted::of(401, "application/json", r#"{"error":"invalid_client"}"#)), true),
        ("no ID token", Some(Scripted::json(r#"{"access_token":"x"}"#)), true),
        ("what is no token", Some(Scripted::json(r#"{"id_token":"x"}"#)), false),
        ("another person", None, false),
    ];
    for (name, answer, lives) in cases {
        let scene = Scene::open(RENEWED).await;
        let mut browser = scene.browser();
        browser.log_in(|_| {}).await;
        scene.later(301);
        let other = scene.token("", |claims| claims["sub"] = json!("bob"));
        let answer = answer.unwrap_or_else(|| Scripted::json(json!({"id_token": other}).to_string()));
        scene.idp.answers("/token", answer);
        assert_eq!(browser.groups().await.is_some(), lives, "{name}");
        assert_eq!(browser.groups().await.is_some(), lives, "{name}, again");
        assert_eq!(scene.idp.asked("/token").len(), 2, "{name}: asked once");
        assert!(scene.house.memberships().await.contains("groups [\"Staff\"]"), "{name}: nothing is revoked");
        assert!(!scene.house.memberships().await.contains("bob"), "{name}");
    }
}

#[tokio::test]
async fn an_operator_has_one_person_asked_for_again() {
    let scene = Scene::open(RENEWED).await;
    let mut browser = scene.browser();
    browser.log_in(|_| {}).await;
    let token = scene.token("", |claims| claims["groups"] = json!(["board"]));
    scene.idp.answers("/token", Scripted::json(json!({"id_token": token}).to_string()));
    let again = scene.house.running.resync(super::user("alice")).await.unwrap();
    assert_eq!(again, [Renewed::Synced { granted: 1, revoked: 1 }]);
    assert_eq!(browser.groups().await.as_deref(), Some("Board"), "before any renewal was due");
    scene.idp.answers("/token", Scripted::of(500, "text/plain", ""));
    let again = scene.house.running.resync(super::user("alice")).await.unwrap();
    assert!(matches!(again[..], [Renewed::Unanswered(_)]), "{again:?}");
    assert!(scene.house.running.resync(super::user("nobody")).await.unwrap().is_empty());
    assert_eq!(browser.groups().await.as_deref(), Some("Board"));
}
