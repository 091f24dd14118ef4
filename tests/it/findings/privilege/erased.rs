//! SEC24: who is disabled or denied something stays so when they are erased, unless an administrator says otherwise.

use std::process::Command;

use loginsync::pipeline::ids::{GroupName, Target};
use loginsync::ports::store::Act;
use serde_json::json;

use super::{KEEPER, Scene, disables, person, text};
use crate::api::{ADMIN, WRITER};
use crate::kit::NOW;

fn staff() -> Target {
    Target::Group(GroupName::parse("Staff").unwrap())
}

async fn act(scene: &Scene, who: &str, act: Act) {
    scene.house.store().act(person(who), act, "cli:test".into(), NOW).await.unwrap();
}

async fn denied_and_disabled() -> Scene {
    let scene = Scene::open(&text("")).await;
    for who in ["dis", "den"] {
        scene.login(who, "0", &["staff"]).await.unwrap();
    }
    act(&scene, "dis", Act::Disable).await;
    act(&scene, "den", Act::Deny { target: staff(), reason: "test".into(), until: None }).await;
    scene
}

#[tokio::test(flavor = "multi_thread")]
async fn sec24_what_binds_a_person_outlives_their_erasure() {
    let scene = denied_and_disabled().await;
    for who in ["dis", "den"] {
        act(&scene, who, Act::Erase).await;
        assert!(scene.view(who).await.is_none());
    }
    // Nothing names them any more.
    let database = std::fs::read(scene.house.folder.path().join("store.db")).unwrap();
    for word in [&b"\"subject\":\"dis\""[..], b"\"subject\":\"den\"", b"oidcdis", b"oidcden"] {
        assert!(!database.windows(word.len()).any(|bytes| bytes == word));
    }
    assert_eq!(scene.login("dis", "1", &["staff"]).await, None);
    assert!(scene.view("dis").await.is_none(), "a refused login makes nobody");
    assert_eq!(scene.login("den", "1", &["staff"]).await.unwrap(), "|");
    assert_eq!(scene.login("den", "2", &["staff"]).await.unwrap(), "|", "and from then on as before");
    // By hand and by an API it is the same.
    scene.done(ADMIN, "PUT", "/api/v1/users/oidc/dis/assignments/group/Administrators", None).await;
    assert!(!scene.is_enabled("dis").await);
    assert_eq!(scene.login("dis", "2", &["staff"]).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn sec24_forgetting_leaves_nothing() {
    let scene = denied_and_disabled().await;
    act(&scene, "dis", Act::Forget).await;
    assert_eq!(scene.login("dis", "1", &["staff"]).await.unwrap(), "Staff|editor");
    // One who was erased before may be forgotten later, and no one else.
    act(&scene, "den", Act::Erase).await;
    act(&scene, "den", Act::Forget).await;
    assert_eq!(scene.login("den", "1", &["staff"]).await.unwrap(), "Staff|editor");
    let again = scene.house.store().act(person("nobody"), Act::Forget, "cli:test".into(), NOW).await;
    assert!(again.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn sec24_what_binds_the_erased_can_be_lifted() {
    let scene = denied_and_disabled().await;
    for who in ["dis", "den"] {
        act(&scene, who, Act::Erase).await;
    }
    scene.done(KEEPER, "POST", "/api/v1/users/oidc/dis/enable", None).await;
    scene.done(KEEPER, "DELETE", "/api/v1/users/oidc/den/denies/group/Staff", None).await;
    assert_eq!(scene.login("dis", "1", &["staff"]).await.unwrap(), "Staff|editor");
    assert_eq!(scene.login("den", "1", &["staff"]).await.unwrap(), "Staff|editor");
    assert_eq!(scene.call(KEEPER, "POST", "/api/v1/users/oidc/nobody/enable", None).await.0, 404);
    assert_eq!(scene.events("user_enabled").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn sec24_the_api_says_what_stays_and_asks_for_admin() {
    let scene = denied_and_disabled().await;
    let target = |who: &str, query: &str| format!("/api/v1/users/oidc/{who}{query}");
    for query in ["", "?forget=true"] {
        assert_eq!(scene.call(WRITER, "DELETE", &target("dis", query), None).await.0, 403);
    }
    let told = scene.done(ADMIN, "DELETE", &target("dis", ""), None).await;
    assert_eq!(told, json!({"kept": true, "disabled": true, "denies": []}));
    let told = scene.done(ADMIN, "DELETE", &target("den", "?forget=true"), None).await;
    assert_eq!(told, json!({"kept": false, "disabled": false, "denies": ["group `Staff`"]}));
    assert_eq!(scene.login("dis", "1", &["staff"]).await, None);
    scene.done(ADMIN, "DELETE", &target("dis", "?forget=true"), None).await;
    assert_eq!(scene.login("dis", "2", &["staff"]).await.unwrap(), "Staff|editor");
    assert_eq!(scene.call(ADMIN, "DELETE", &target("nobody", ""), None).await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn sec24_the_command_says_what_stays() {
    let scene = denied_and_disabled().await;
    scene.write(&text(""));
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_loginsync"));
        let output = command.args(arguments).arg("--config").arg(scene.file()).output().unwrap();
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
    };
    let told = run(&["user", "erase", "oidc", "dis"]);
    assert!(told.contains("was disabled") && told.contains("--forget"), "{told}");
    let told = run(&["user", "erase", "oidc", "den", "--forget"]);
    assert!(told.contains("denied group `Staff`") && told.contains("none of this applies"), "{told}");
    assert!(run(&["user", "erase", "oidc", "dis", "--forget"]).contains("done"));
}

/// Whom a mapping disabled before they were erased is enabled with the others.
#[tokio::test(flavor = "multi_thread")]
async fn sec24_a_mapping_that_disabled_the_erased_is_remembered() {
    let scene = Scene::open(&text("")).await;
    scene.done(WRITER, "POST", "/api/v1/mappings", Some(disables("leavers", "gone"))).await;
    assert_eq!(scene.login("ann", "1", &["gone"]).await, None);
    act(&scene, "ann", Act::Erase).await;
    assert_eq!(scene.login("ann", "2", &["staff"]).await, None);
    let found = scene.house.store().disabled_by("leavers".into()).await.unwrap();
    assert_eq!((found.len(), &found[0].user), (1, &None));
    scene.house.store().enable_disabled_by("leavers".into(), "cli:test".into(), NOW).await.unwrap();
    assert_eq!(scene.login("ann", "3", &["staff"]).await.unwrap(), "Staff|editor");
}
