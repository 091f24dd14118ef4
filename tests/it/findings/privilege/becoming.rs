//! SEC5: a group or role that becomes privileged keeps nobody whom no administrator put there.

use loginsync::pipeline::ids::{GroupName, Target};
use loginsync::ports::store::{Act, By};
use serde_json::json;

use super::{KEEPER, NO_LOSSES, Scene, person, text, to_group};
use crate::api::{ADMIN, WRITER};
use crate::kit::NOW;

const PRIVILEGED: &str = "[[group]]\nname = \"SuperAdmins\"\nroles = [\"owner\"]\n";

/// A group made by an API, with members by hand and by a mapping.
async fn prepared(more: &str) -> Scene {
    let scene = Scene::open(&text(more)).await;
    scene.done(WRITER, "POST", "/api/v1/groups", Some(json!({"name": "SuperAdmins"}))).await;
    scene.done(WRITER, "POST", "/api/v1/mappings", Some(to_group("x", "SuperAdmins"))).await;
    scene.done(KEEPER, "PUT", "/api/v1/users/oidc/eve/assignments/group/SuperAdmins", None).await;
    scene.done(ADMIN, "PUT", "/api/v1/users/oidc/ann/assignments/group/SuperAdmins", None).await;
    let target = Target::Group(GroupName::parse("SuperAdmins").unwrap());
    let by = By::operator("cli:root");
    scene.house.store().act(person("carl"), Act::Assign(target), by, NOW).await.unwrap();
    assert_eq!(scene.login("mia", "0", &["x"]).await.unwrap(), "SuperAdmins|");
    scene
}

#[tokio::test(flavor = "multi_thread")]
async fn sec05_what_becomes_privileged_by_the_file_keeps_whom_an_administrator_put_there() {
    let scene = prepared("").await.restart(&text(PRIVILEGED)).await;
    assert_eq!(scene.login("eve", "1", &[]).await.unwrap(), "|");
    assert_eq!(scene.login("mia", "1", &["x"]).await.unwrap(), "|", "mappings of the store give nothing privileged");
    assert_eq!(scene.login("ann", "1", &[]).await.unwrap(), "SuperAdmins|owner");
    assert_eq!(scene.login("carl", "1", &[]).await.unwrap(), "SuperAdmins|owner");
    let shown = scene.done(ADMIN, "GET", "/api/v1/groups/SuperAdmins", None).await;
    assert_eq!((&shown["privileged"], &shown["roles"]), (&json!(true), &json!(["owner"])), "{shown:#}");
    let ended = scene.events("privileged_grant_ended").await;
    assert_eq!(ended.len(), 1, "{ended:#?}");
    assert_eq!(ended[0]["assigned_by"], "api client `keeper` (v1)");
    // It stays so: nobody without `admin` puts anyone there any more, and nothing ends twice.
    let target = "/api/v1/users/oidc/eve/assignments/group/SuperAdmins";
    assert_eq!(scene.call(KEEPER, "PUT", target, None).await.0, 403);
    let scene = scene.restart(&text(PRIVILEGED)).await;
    assert_eq!(scene.events("privileged_grant_ended").await.len(), 1);
    assert_eq!(scene.login("ann", "2", &[]).await.unwrap(), "SuperAdmins|owner");
}

/// The name differs by case alone: an app that ignores case takes one for the other.
#[tokio::test(flavor = "multi_thread")]
async fn sec05_another_spelling_is_the_same_name() {
    let other = PRIVILEGED.replace("SuperAdmins", "superadmins");
    let scene = prepared("").await.restart(&text(&other)).await;
    assert_eq!(scene.login("eve", "1", &[]).await.unwrap(), "|");
}

#[tokio::test(flavor = "multi_thread")]
async fn sec05_what_becomes_privileged_by_an_api_keeps_whom_an_administrator_put_there() {
    let by_group = ("PATCH", "/api/v1/groups/SuperAdmins", json!({"privileged": true}));
    let by_role = ("PATCH", "/api/v1/groups/SuperAdmins", json!({"roles": ["owner"]}));
    for (method, target, body) in [by_group, by_role] {
        let scene = prepared("").await;
        scene.done(ADMIN, method, target, Some(body.clone())).await;
        assert_eq!(scene.login("eve", "1", &[]).await.unwrap(), "|", "{body}");
        assert_eq!(scene.login("mia", "1", &["x"]).await.unwrap(), "|", "{body}");
        assert!(scene.login("ann", "1", &[]).await.unwrap().starts_with("SuperAdmins|"), "{body}");
        let shown = scene.done(ADMIN, "GET", "/api/v1/groups/SuperAdmins", None).await;
        assert_eq!(shown["privileged"], true, "{shown:#}");
    }
    // A role of the store that its groups carry.
    let scene = Scene::open(&text("")).await;
    scene.done(WRITER, "POST", "/api/v1/roles", Some(json!({"name": "boss"}))).await;
    scene.done(WRITER, "POST", "/api/v1/groups", Some(json!({"name": "Bosses", "roles": ["boss"]}))).await;
    scene.done(KEEPER, "PUT", "/api/v1/users/oidc/eve/assignments/group/Bosses", None).await;
    scene.done(KEEPER, "PUT", "/api/v1/users/oidc/eve/assignments/role/boss", None).await;
    assert_eq!(scene.login("eve", "1", &[]).await.unwrap(), "Bosses|boss");
    scene.done(ADMIN, "PATCH", "/api/v1/roles/boss", Some(json!({"privileged": true}))).await;
    assert_eq!(scene.login("eve", "2", &[]).await.unwrap(), "|");
    assert_eq!(scene.done(ADMIN, "GET", "/api/v1/groups/Bosses", None).await["privileged"], true);
}

/// A pattern that may name any unprivileged group gave this one, too.
#[tokio::test(flavor = "multi_thread")]
async fn sec05_what_a_capture_gave_ends_too() {
    let captures = r#"
[[mapping]]
name = "teams"
provider = "oidc"
when = [{ claim = "groups", regex = "^(?P<team>.+)$" }]
then = [{ add_group = "${team}" }]
allow = { team = "any" }
"#;
    let scene = prepared(captures).await;
    assert_eq!(scene.login("zoe", "1", &["SuperAdmins"]).await.unwrap(), "SuperAdmins|");
    let scene = scene.restart(&text(&format!("{captures}{PRIVILEGED}"))).await;
    let held = scene.view("zoe").await.unwrap().groups;
    assert!(held.is_empty(), "at once, and not at the next login: {held:?}");
}

/// Past the brake the old rules stay until an operator confirms the new ones.
#[tokio::test(flavor = "multi_thread")]
async fn sec05_too_many_at_once_want_to_be_confirmed() {
    let scene = prepared(NO_LOSSES).await;
    let source = scene.write(&text(&format!("{NO_LOSSES}{PRIVILEGED}")));
    let epoch = scene.house.rules().epoch;
    scene.house.running.reload().await;
    assert_eq!(scene.house.rules().epoch, epoch, "the old rules stay");
    assert_eq!(scene.login("eve", "1", &[]).await.unwrap(), "SuperAdmins|");
    scene.house.store().confirm(source, "test".into(), NOW).await.unwrap();
    scene.house.running.reload().await;
    assert_eq!(scene.login("eve", "2", &[]).await.unwrap(), "|");
    assert_eq!(scene.login("ann", "2", &[]).await.unwrap(), "SuperAdmins|owner");
}

/// Rules that only watch end nothing; those that act afterwards do.
#[tokio::test(flavor = "multi_thread")]
async fn sec05_shadow_puts_it_off() {
    let shadow = format!("{PRIVILEGED}\n[sync]\nmode = \"shadow\"\n");
    let scene = prepared("").await.restart(&text(&shadow)).await;
    assert!(scene.view("eve").await.unwrap().groups.contains(&"SuperAdmins".to_owned()));
    let scene = scene.restart(&text(PRIVILEGED)).await;
    assert!(scene.view("eve").await.unwrap().groups.is_empty());
}

/// A grant of an earlier version has no right on record: it ends when its group becomes privileged, and not before.
#[tokio::test(flavor = "multi_thread")]
async fn sec05_an_unknown_right_is_not_an_administrators() {
    let scene = prepared("").await;
    let database = rusqlite::Connection::open(scene.house.folder.path().join("store.db")).unwrap();
    let forget =
        "UPDATE records SET record = replace(replace(record, ',\"as_admin\":true', ''), ',\"as_admin\":false', '')";
    assert!(database.execute(forget, []).unwrap() > 0);
    drop(database);
    let scene = scene.restart(&text("")).await;
    assert_eq!(scene.login("ann", "1", &[]).await.unwrap(), "SuperAdmins|");
    let scene = scene.restart(&text(PRIVILEGED)).await;
    assert_eq!(scene.login("ann", "2", &[]).await.unwrap(), "|");
    // Once it is privileged, an administrator's word counts whoever spoke before.
    scene.done(ADMIN, "PUT", "/api/v1/users/oidc/ann/assignments/group/SuperAdmins", None).await;
    let scene = scene.restart(&text(PRIVILEGED)).await;
    assert_eq!(scene.login("ann", "3", &[]).await.unwrap(), "SuperAdmins|owner");
}

/// An administrator who assigns what somebody lesser did vouches for it.
#[tokio::test(flavor = "multi_thread")]
async fn sec05_an_administrator_may_vouch_before() {
    let scene = prepared("").await;
    let target = "/api/v1/users/oidc/eve/assignments/group/SuperAdmins";
    assert_eq!(scene.call(KEEPER, "PUT", target, None).await.0, 409);
    scene.done(ADMIN, "PUT", target, None).await;
    let scene = scene.restart(&text(PRIVILEGED)).await;
    assert_eq!(scene.login("eve", "1", &[]).await.unwrap(), "SuperAdmins|owner");
}

/// `check`, `lint` and `plan` say it before the file takes effect.
#[tokio::test(flavor = "multi_thread")]
async fn sec05_check_lint_and_plan_tell_it_before() {
    let scene = prepared("").await;
    scene.write(&format!("{}\n[listen]\naddress = \"127.0.0.1:0\"\n", text(PRIVILEGED)));
    let run = |arguments: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_loginsync"))
            .args(arguments)
            .arg("--config")
            .arg(scene.file())
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
    };
    for command in ["check", "lint"] {
        let told = run(&[command]);
        assert!(told.contains("group `SuperAdmins`: it is privileged, and 1 grants by hand"), "{command}: {told}");
    }
    let told = run(&["plan"]);
    assert!(told.contains("1 grants end since their group or role becomes privileged"), "{told}");
    assert!(told.contains("group `SuperAdmins`") && told.contains("oidc/eve"), "{told}");
}

/// What is left of the store's under a name that the file has since declared is nothing by which to reach the file's.
#[tokio::test(flavor = "multi_thread")]
async fn sec05_a_leftover_of_the_store_does_not_reach_the_files_group() {
    let crew = "[[group]]\nname = \"Crew\"\n[[mapping]]\nprovider = \"oidc\"\nclaim = \"groups\"\nvalue = \"crew\"\n\
                group = \"Crew\"\n";
    let scene = Scene::open(&text("")).await;
    scene.done(WRITER, "POST", "/api/v1/groups", Some(json!({"name": "Crew"}))).await;
    let scene = scene.restart(&text(crew)).await;
    assert_eq!(scene.login("mia", "1", &["crew"]).await.unwrap(), "Crew|");
    let (status, _) = scene.call(WRITER, "PATCH", "/api/v1/groups/Crew", Some(json!({"name": "Mine"}))).await;
    assert_eq!(status, 409, "its members are the file's");
    scene.done(WRITER, "DELETE", "/api/v1/groups/Crew", None).await;
    assert_eq!(scene.view("mia").await.unwrap().groups, ["Crew"]);
    let shown = scene.done(ADMIN, "GET", "/api/v1/groups/Crew", None).await;
    assert_eq!(shown["origin"], "file", "{shown:#}");
}
