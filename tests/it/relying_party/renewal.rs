//! Between logins: refresh tokens.

use std::time::Duration;

use loginsync::cli::demo::mint::{KeyKind, MintKey, oidc};
use loginsync::serve::relying_party::renewal::Renewed;
use serde_json::json;

use super::{Scene, Setting};
use crate::support::idp::Scripted;

const RENEWED: Setting = Setting { base: "", session: "renew = \"5m\"", top: "", listen: "", provider: "", more: "" };

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
        ("what is no token", Some(Scripted::json(r#"{"id_token":"x"}"#)), true),
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

/// OUT7: the provider has put another refresh token in the place of ours, whatever becomes of the browser or of what follows.
#[tokio::test]
async fn out07_a_token_that_the_provider_has_rotated_is_not_lost() {
    let rotated = |more: serde_json::Value| {
        let mut answer = json!({"access_token": "at-2", "refresh_token": "rt-2"});
        answer.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        answer.to_string()
    };
    let used = async |scene: &Scene, browser: &mut super::Browser<'_>| {
        scene.later(301);
        browser.groups().await;
        let asked = scene.idp.asked("/token");
        String::from_utf8(asked.last().unwrap().body.to_vec()).unwrap()
    };
    // Userinfo fails after the exchange, or there is nothing to go by: the old token is not written back.
    for (name, answer) in [
        ("userinfo fails", rotated(json!({}))),
        ("an empty refresh token", { json!({"access_token": "at-2", "refresh_token": ""}).to_string() }),
    ] {
        let scene = Scene::open(RENEWED).await;
        let mut browser = scene.browser();
        browser.log_in(|_| {}).await;
        scene.idp.answers("/userinfo", Scripted::of(503, "text/plain", ""));
        scene.later(301);
        scene.idp.answers("/token", Scripted::json(answer));
        assert_eq!(browser.groups().await.as_deref(), Some("Staff"), "{name}: what was granted stays");
        let expected = if name == "userinfo fails" { "refresh_token=rt-2" } else { "refresh_token=rt-1" };
        let form = used(&scene, &mut browser).await;
        assert!(form.ends_with(expected), "{name}: {form}");
    }
    // The browser goes away while the provider answers.
    let scene = Scene::open(RENEWED).await;
    let mut browser = scene.browser();
    browser.log_in(|_| {}).await;
    scene.later(301);
    let token = scene.token("", |claims| claims["groups"] = json!(["board"]));
    let slow = Scripted { after: Duration::from_millis(600), ..Scripted::json(rotated(json!({"id_token": token}))) };
    scene.idp.answers("/token", slow);
    leaves_in_renewal(&scene, &mut browser).await;
    tokio::time::sleep(Duration::from_millis(1000)).await;
    assert_eq!(browser.groups().await.as_deref(), Some("Board"), "it went on without the browser");
    assert_eq!(scene.idp.asked("/token").len(), 2, "and once");
    let form = used(&scene, &mut browser).await;
    assert!(form.ends_with("refresh_token=rt-2"), "{form}");
}

/// OUT11.
#[tokio::test]
async fn out11_userinfo_of_another_person_is_not_synced() {
    let scene = Scene::open(RENEWED).await;
    let mut browser = scene.browser();
    browser.log_in(|_| {}).await;
    scene.later(301);
    scene.idp.answers("/token", Scripted::json(json!({"access_token": "at-2", "refresh_token": "rt-2"}).to_string()));
    scene.idp.answers("/userinfo", Scripted::json(json!({"sub": "bob", "groups": ["board"]}).to_string()));
    browser.groups().await;
    let memberships = scene.house.memberships().await;
    assert!(!memberships.contains("bob") && memberships.contains("groups [\"Staff\"]"), "{memberships}");
    assert_eq!(browser.groups().await, None, "the session has ended");
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

/// What became of a renewal goes to the log, and to whoever asks for it by the API: nothing of what was sent or received is in
/// it, whatever the provider makes of that.
#[tokio::test]
async fn no_outcome_of_a_renewal_repeats_a_secret() {
    const NEW: [&str; 3] = ["at-secret-7f", "rt-secret-7f", "id-secret-7f"];
    let all = NEW.join(" ");
    let token = |change: &dyn Fn(&mut serde_json::Value), scene: &Scene| scene.token("", |claims| change(claims));
    let scene = Scene::open(RENEWED).await;
    let stranger = token(&|claims| claims["aud"] = json!("somebody else"), &scene);
    let answers = [
        Scripted::of(400, "application/json", json!({"error": "rt-1"}).to_string()),
        Scripted::of(400, "application/json", json!({"error": format!("invalid_grant {all}")}).to_string()),
        Scripted::of(
            400,
            "application/json",
            json!({"error": "invalid_grant", "error_description": format!("rt-1 {all}")}).to_string(),
        ),
        Scripted::of(500, "text/plain", format!("rt-1 {all}")),
        Scripted::of(302, &all, "rt-1"),
        Scripted::of(200, "text/plain", format!("rt-1 {all}")),
        Scripted::json(json!({"id_token": all, "access_token": 7, "refresh_token": all}).to_string()),
        Scripted::json(json!({"id_token": NEW.join("."), "access_token": NEW[0], "refresh_token": NEW[1]}).to_string()),
        Scripted::json(json!({"id_token": stranger, "access_token": NEW[0], "refresh_token": NEW[1]}).to_string()),
        Scripted::json(json!({"access_token": NEW[0], "refresh_token": NEW[1]}).to_string()),
    ];
    for answer in answers {
        let told = format!("{answer:?}");
        let scene = Scene::open(RENEWED).await;
        let mut browser = scene.browser();
        browser.log_in(|_| {}).await;
        scene.idp.answers("/userinfo", Scripted::of(401, NEW[0], format!("{all} rt-1")));
        scene.idp.answers("/token", answer);
        let outcomes = scene.house.running.resync(super::user("alice")).await.unwrap();
        let [Renewed::Ended(why) | Renewed::Unanswered(why)] = outcomes.as_slice() else {
            panic!("{told}: {outcomes:?}")
        };
        for secret in NEW.iter().chain(&["rt-1", "at-1", "eyJ", &stranger]) {
            assert!(!why.contains(secret), "{secret}: {why}, of {told}");
        }
    }
}

/// OUT8: what is merely not believed of a renewed ID token, userinfo decides; where it cannot be asked the session goes on.
#[tokio::test]
async fn out08_a_renewed_token_that_is_not_believed_ends_no_session() {
    let other_key = MintKey::generate(KeyKind::Ed25519).unwrap();
    let signed = |kid: &str, claims: serde_json::Value| {
        oidc::id_token(&other_key, "EdDSA", &json!({"alg": "EdDSA", "kid": kid}), &claims).unwrap()
    };
    for what in ["empty", "expired", "several audiences", "rotated key", "wrong signature"] {
        let scene = Scene::open(RENEWED).await;
        let mut browser = scene.browser();
        browser.log_in(|_| {}).await;
        scene.later(301);
        let now = scene.house.clock.now().seconds();
        let claims = json!({"iss": scene.idp.issuer(), "aud": "the app", "sub": "alice", "iat": now, "exp": now + 300});
        let id_token = match what {
            "empty" => String::new(),
            "expired" => scene.token("", |claims| claims["exp"] = json!(1)),
            "several audiences" => scene.token("", |claims| claims["aud"] = json!(["the app", "other"])),
            "rotated key" => signed("next", claims),
            _ => signed("k", claims),
        };
        let answer = json!({"id_token": id_token, "access_token": "at-2", "refresh_token": "rt-2"});
        scene.idp.answers("/token", Scripted::json(answer.to_string()));
        scene.idp.answers("/userinfo", Scripted::of(503, "text/plain", ""));
        let groups = browser.groups().await;
        if what == "wrong signature" {
            assert_eq!(groups, None, "{what}");
            continue;
        }
        assert_eq!(groups.as_deref(), Some("Staff"), "{what}: userinfo cannot be asked");
        scene.later(301);
        scene.idp.answers("/userinfo", Scripted::json(json!({"sub": "alice", "groups": ["board"]}).to_string()));
        assert_eq!(browser.groups().await.as_deref(), Some("Board"), "{what}: userinfo decides");
        scene.later(301);
        scene.idp.answers("/userinfo", Scripted::json(json!({"sub": "bob", "groups": ["board"]}).to_string()));
        assert_eq!(browser.groups().await, None, "{what}: of another person");
        assert!(!scene.house.memberships().await.contains("bob"), "{what}");
    }
}

/// OUT9: the provider names its session anew at a renewal, and a logout by the new name ends it.
#[tokio::test]
async fn out09_a_renewed_session_follows_its_sid() {
    let scene = Scene::open(RENEWED).await;
    let mut browser = scene.browser();
    browser.log_in(|claims| claims["sid"] = json!("session-0")).await;
    scene.later(301);
    let token = scene.token("", |claims| claims["sid"] = json!("session-9"));
    scene.idp.answers("/token", Scripted::json(json!({"id_token": token}).to_string()));
    assert!(browser.groups().await.is_some());
    for (sid, lives) in [("session-0", true), ("session-9", false)] {
        let token = super::logout::logout_token(&scene, "logout+jwt", |claims| {
            claims["sid"] = json!(sid);
            claims["jti"] = json!(sid);
        });
        assert_eq!(super::logout::send(&scene, &token).await.status, 200);
        assert_eq!(browser.groups().await.is_some(), lives, "{sid}");
    }
}

/// Asks for a page, and goes away once the provider is asked.
async fn leaves_in_renewal(scene: &Scene, browser: &mut super::Browser<'_>) {
    let before = scene.idp.asked("/token").len();
    tokio::select! {
        _ = browser.groups() => panic!("the renewal has ended before the browser went away"),
        asked = scene.idp.asked_times("/token", before + 1) => assert_eq!(asked.len(), before + 1),
    }
}

/// OUT7: a renewal whose browser is gone is work under way, which a process that stops lets end.
#[tokio::test]
async fn out07_a_restart_waits_for_a_renewal_whose_browser_is_gone() {
    let scene = Scene::open(RENEWED).await;
    let mut browser = scene.browser();
    browser.log_in(|_| {}).await;
    let answer = |scene: &Scene, refresh: &str| {
        let token = scene.token("", |claims| drop(claims.as_object_mut().unwrap().remove("nonce")));
        Scripted::json(json!({"id_token": token, "access_token": "at", "refresh_token": refresh}).to_string())
    };
    scene.later(301);
    let began = std::time::Instant::now();
    let slow = Duration::from_millis(800);
    scene.idp.answers("/token", Scripted { after: slow, ..answer(&scene, "rt-2") });
    leaves_in_renewal(&scene, &mut browser).await;
    let cookies = browser.cookies;
    // A renewal just after the start waits for the discovery document.
    let discovery = Scripted { after: slow, ..Scripted::json(scene.idp.document().to_string()) };
    scene.idp.answers("/.well-known/openid-configuration", discovery);
    let scene = scene.restarted().await;
    assert!(began.elapsed() >= slow, "stopped before the provider had answered");
    scene.later(301);
    scene.idp.answers("/token", answer(&scene, "rt-3"));
    let mut browser = super::Browser { scene: &scene, cookies, ..scene.browser() };
    assert_eq!(browser.groups().await.as_deref(), Some("Staff"));
    let asked = scene.idp.asked("/token");
    let forms: Vec<_> = asked.iter().map(|asked| String::from_utf8_lossy(&asked.body).into_owned()).collect();
    assert!(forms.last().unwrap().ends_with("refresh_token=rt-2"), "{forms:?} after {:?}", began.elapsed());
}
