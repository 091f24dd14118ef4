//! SEC22: a deny binds a name until somebody lifts it who may.

use loginsync::pipeline::ids::{GroupName, Target, Timestamp};
use loginsync::ports::store::Act;
use serde_json::{Value, json};

use super::{KEEPER, MAPPER, Scene, person, text, to_group};
use crate::api::{ADMIN, WRITER};
use crate::kit::NOW;

const DENY: &str = "/api/v1/users/oidc/eve/denies/group/Secret";

/// A group of the store that one person is denied.
async fn denied() -> Scene {
    let scene = Scene::open(&text("")).await;
    scene.done(MAPPER, "POST", "/api/v1/groups", Some(json!({"name": "Secret"}))).await;
    scene.done(MAPPER, "POST", "/api/v1/mappings", Some(to_group("x", "Secret"))).await;
    scene.done(KEEPER, "PUT", DENY, Some(json!({"reason": "conflict of interest"}))).await;
    assert_eq!(scene.login("eve", "0", &["x"]).await.unwrap(), "|");
    assert_eq!(scene.call(MAPPER, "DELETE", DENY, None).await.0, 403);
    scene
}

/// Makes a group and maps to it: what the person then gets.
async fn made_again(scene: &Scene, jti: &str, group: &str, body: Value) -> String {
    scene.done(MAPPER, "POST", "/api/v1/groups", Some(body)).await;
    scene.done(MAPPER, "POST", "/api/v1/mappings", Some(to_group("y", group))).await;
    scene.login("eve", jti, &["y"]).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn sec22_a_deny_outlives_its_group() {
    for name in ["Secret", "secret", "SECRET"] {
        let scene = denied().await;
        scene.done(MAPPER, "DELETE", "/api/v1/groups/Secret", None).await;
        assert_eq!(made_again(&scene, "1", name, json!({"name": name, "roles": ["editor"]})).await, "|", "{name}");
        assert_eq!(scene.login("mia", "1", &["y"]).await.unwrap(), format!("{name}|editor"), "others are not denied");
        assert_eq!(scene.events("denies_kept").await.len(), 1);
        // Who may lift it does.
        let target = format!("/api/v1/users/oidc/eve/denies/group/{name}");
        assert_eq!(scene.call(MAPPER, "DELETE", &target, None).await.0, 403);
        scene.done(KEEPER, "DELETE", &target, None).await;
        assert_eq!(scene.login("eve", "2", &["y"]).await.unwrap(), format!("{name}|editor"));
        assert_eq!(scene.events("deny_lifted").await.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sec22_a_deny_follows_a_renaming_and_stays() {
    let scene = denied().await;
    scene.done(MAPPER, "PATCH", "/api/v1/groups/Secret", Some(json!({"name": "Hidden"}))).await;
    assert_eq!(scene.login("eve", "1", &["x"]).await.unwrap(), "|", "the group of the new name");
    assert_eq!(
        made_again(&scene, "2", "Secret", json!({"name": "Secret"})).await,
        "|",
        "and a new one of the old name"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn sec22_a_deny_binds_what_is_shown_under_the_name() {
    let scene = denied().await;
    scene.done(MAPPER, "DELETE", "/api/v1/groups/Secret", None).await;
    let app = scene.done(ADMIN, "GET", "/api/v1/providers/oidc", None).await["key"].as_str().unwrap().to_owned();
    scene.done(MAPPER, "POST", "/api/v1/groups", Some(json!({"name": "Other"}))).await;
    let key = scene.done(ADMIN, "GET", "/api/v1/groups/Other", None).await["key"].as_str().unwrap().to_owned();
    let target = format!("/v1/idp-group-mappings/{app}/groups/{key}");
    scene.done(MAPPER, "POST", &target, Some(json!({"alias": "secret", "hidden_from_end_user": false}))).await;
    scene.done(MAPPER, "POST", "/api/v1/mappings", Some(to_group("y", "Other"))).await;
    assert_eq!(scene.login("mia", "1", &["y"]).await.unwrap(), "secret|");
    assert_eq!(scene.login("eve", "1", &["y"]).await.unwrap(), "|");
    assert_eq!(scene.events("denies_bound").await.len(), 1);
}

/// The file declares the name later: the deny binds its group, too.
#[tokio::test(flavor = "multi_thread")]
async fn sec22_a_deny_binds_the_files_group_of_the_name() {
    let scene = denied().await;
    scene.done(MAPPER, "DELETE", "/api/v1/groups/Secret", None).await;
    let file = "[[group]]\nname = \"SECRET\"\n[[mapping]]\nprovider = \"oidc\"\nclaim = \"groups\"\nvalue = \"y\"\n\
                group = \"SECRET\"\n";
    let scene = scene.restart(&text(file)).await;
    assert_eq!(scene.login("mia", "1", &["y"]).await.unwrap(), "SECRET|");
    assert_eq!(scene.login("eve", "1", &["y"]).await.unwrap(), "|");
}

/// Nobody knows what will bear the name of what is gone: its denies are an administrator's to lift.
#[tokio::test(flavor = "multi_thread")]
async fn sec22_what_is_gone_is_lifted_by_an_administrator() {
    let scene = denied().await;
    scene.done(MAPPER, "DELETE", "/api/v1/groups/Secret", None).await;
    assert_eq!(scene.call(WRITER, "DELETE", DENY, None).await.0, 403);
    scene.done(ADMIN, "DELETE", DENY, None).await;
    assert_eq!(made_again(&scene, "1", "Secret", json!({"name": "Secret"})).await, "Secret|");
}

/// A deny that ends by itself is a row of the audit like one that is lifted.
#[tokio::test(flavor = "multi_thread")]
async fn sec22_the_end_of_a_deny_is_audited() {
    let scene = Scene::open(&text("")).await;
    let target = Target::Group(GroupName::parse("Staff").unwrap());
    let until = Some(Timestamp(NOW.0 + 1000));
    let deny = Act::Deny { target, reason: "for a second".into(), until };
    scene.house.store().act(person("eve"), deny, "cli:test".into(), NOW).await.unwrap();
    let reaped = scene.house.store().reap(scene.house.rules(), Timestamp(NOW.0 + 1000)).await.unwrap();
    assert_eq!((reaped.denies, scene.events("deny_ended").await.len()), (1, 1));
}
