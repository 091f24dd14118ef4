//! SEC9: a person's key changes, and what binds them goes along.

use std::process::Command;

use loginsync::pipeline::ids::{GroupName, RoleName, Target};
use loginsync::ports::store::{Act, By};
use serde_json::{Value, json};

use super::{Scene, person, text};
use crate::api::{ADMIN, WRITER};
use crate::kit::NOW;

fn group(name: &str) -> Target {
    Target::Group(GroupName::parse(name).unwrap())
}

async fn act(scene: &Scene, who: &str, act: Act) {
    scene.house.store().act(person(who), act, "cli:test".into(), NOW).await.unwrap();
}

fn deny(name: &str) -> Act {
    Act::Deny { target: group(name), reason: "test".into(), until: None }
}

fn body(pairs: &[(&str, &str)], more: &[&str]) -> Value {
    let key = |who: &str| json!({"namespace": "oidc", "subject": who});
    let users: Vec<Value> = pairs.iter().map(|(old, new)| json!({"old": key(old), "new": key(new)})).collect();
    let mut body = json!({"users": users});
    for word in more {
        body[*word] = json!(true);
    }
    body
}

const REKEY: &str = "/api/v1/users/rekey";

#[tokio::test(flavor = "multi_thread")]
async fn sec09_everything_goes_with_the_new_key() {
    let scene = Scene::open(&text("")).await;
    scene.login("old", "1", &["staff", "admins"]).await.unwrap();
    act(&scene, "old", deny("Administrators")).await;
    act(&scene, "old", Act::Assign(Target::Role(RoleName::parse("editor").unwrap()))).await;
    act(&scene, "out", Act::Create { email: None, display_name: None, enabled: false }).await;
    // It moves what binds people: for `admin` alone.
    assert_eq!(scene.call(WRITER, "POST", REKEY, Some(body(&[("old", "new")], &["apply"]))).await.0, 403);
    // Shown first.
    let shown = scene.done(ADMIN, "POST", REKEY, Some(body(&[("old", "new"), ("out", "in")], &[]))).await;
    assert_eq!((&shown["applied"], &shown["users"][1]["disabled"]), (&json!(false), &json!(true)), "{shown:#}");
    assert_eq!(shown["users"][0]["denies"], json!(["group `Administrators`"]));
    assert!(scene.view("old").await.is_some() && scene.view("new").await.is_none(), "nothing was changed");
    assert!(scene.events("user_rekeyed").await.is_empty());
    scene.done(ADMIN, "POST", REKEY, Some(body(&[("old", "new"), ("out", "in")], &["apply"]))).await;
    assert!(scene.view("old").await.is_none());
    assert_eq!(scene.login("new", "1", &["staff", "admins"]).await.unwrap(), "Staff|editor");
    assert_eq!(scene.login("in", "1", &["staff"]).await, None, "the disabled person does not enter under the new key");
    assert_eq!(scene.events("user_rekeyed").await.len(), 4, "one row for each key");
}

/// All or none, whatever the order: two people may change places.
#[tokio::test(flavor = "multi_thread")]
async fn sec09_keys_may_be_exchanged_and_one_fault_stops_all() {
    let scene = Scene::open(&text("")).await;
    for who in ["ann", "bob"] {
        act(&scene, who, Act::Create { email: None, display_name: None, enabled: who == "ann" }).await;
    }
    let (status, _) =
        scene.call(ADMIN, "POST", REKEY, Some(body(&[("ann", "anna"), ("nobody", "x")], &["apply"]))).await;
    assert_eq!(status, 409);
    assert!(scene.view("ann").await.is_some() && scene.view("anna").await.is_none());
    for wrong in [&[("ann", "x"), ("ann", "y")][..], &[("ann", "x"), ("bob", "x")], &[("ann", "ann")]] {
        assert_eq!(scene.call(ADMIN, "POST", REKEY, Some(body(wrong, &["apply", "merge"]))).await.0, 409, "{wrong:?}");
    }
    scene.done(ADMIN, "POST", REKEY, Some(body(&[("ann", "bob"), ("bob", "ann")], &["apply"]))).await;
    assert!(scene.is_enabled("bob").await && !scene.is_enabled("ann").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn sec09_merging_keeps_what_binds_either() {
    // Who is disabled and denied, before and after; in the end both hold, whichever was which.
    for (old_disabled, new_disabled) in [(true, false), (false, true), (true, true)] {
        let scene = Scene::open(&text("")).await;
        scene.login("old", "1", &["staff"]).await.unwrap();
        scene.login("new", "1", &["admins"]).await.unwrap();
        act(&scene, "old", deny("Staff")).await;
        act(&scene, "new", deny("Administrators")).await;
        act(&scene, "old", Act::Assign(Target::Role(RoleName::parse("editor").unwrap()))).await;
        for (who, disabled) in [("old", old_disabled), ("new", new_disabled)] {
            if disabled {
                act(&scene, who, Act::Disable).await;
            }
        }
        let (status, refused) = scene.call(ADMIN, "POST", REKEY, Some(body(&[("old", "new")], &["apply"]))).await;
        assert_eq!(status, 409, "{refused:#}");
        let done = scene.done(ADMIN, "POST", REKEY, Some(body(&[("old", "new")], &["apply", "merge"]))).await;
        let one = &done["users"][0];
        assert_eq!((&one["merged"], &one["disabled"]), (&json!(true), &json!(true)), "{done:#}");
        assert_eq!(one["denies"], json!(["group `Administrators`", "group `Staff`"]));
        assert_eq!(one["assigned"], json!(["role `editor`"]));
        assert!(scene.view("old").await.is_none());
        assert_eq!(scene.login("new", "2", &["staff", "admins"]).await, None);
        // What a provider gave under the old key is not added to what it gave under the new one.
        let held = scene.view("new").await.unwrap();
        assert!(!held.memberships.iter().any(|one| one.name == "Staff" && one.membership == "mapped"), "{held:#?}");
        // Erasing the one person takes both histories along.
        act(&scene, "new", Act::Erase).await;
        assert!(scene.house.store().verify_audit().await.unwrap().broken.is_none());
        let rows = scene.house.events().await;
        assert!(!rows.iter().any(|row| row.person.as_ref().is_some_and(|who| who.to_string().contains("old"))));
        assert_eq!(scene.login("new", "3", &["staff"]).await, None);
    }
}

/// The number of a user who was merged away is nobody else's later.
#[tokio::test(flavor = "multi_thread")]
async fn sec09_no_number_is_used_twice() {
    let scene = Scene::open(&text("")).await;
    act(&scene, "new", Act::Create { email: None, display_name: None, enabled: true }).await;
    act(&scene, "old", Act::Create { email: None, display_name: None, enabled: true }).await;
    let number = async |who: &str| {
        let list = scene.done(ADMIN, "GET", "/api/v1/users", None).await;
        let items = list["items"].as_array().unwrap().clone();
        items.iter().find(|one| one["subject"] == who).map(|one| one["number"].as_i64().unwrap())
    };
    let gone = number("old").await.unwrap();
    scene.done(ADMIN, "POST", REKEY, Some(body(&[("old", "new")], &["apply", "merge"]))).await;
    act(&scene, "next", Act::Create { email: None, display_name: None, enabled: true }).await;
    assert!(number("next").await.unwrap() > gone);
}

/// Somebody who was erased is rekeyed by what still binds them.
#[tokio::test(flavor = "multi_thread")]
async fn sec09_what_binds_the_erased_goes_to_the_new_key() {
    let scene = Scene::open(&text("")).await;
    for who in ["one", "two", "three"] {
        act(&scene, who, Act::Create { email: None, display_name: None, enabled: false }).await;
        act(&scene, who, Act::Erase).await;
    }
    act(&scene, "two-new", Act::Create { email: None, display_name: None, enabled: true }).await;
    let keys = [("one", "one-new"), ("two", "two-new"), ("three", "four")];
    let keys = keys.map(|(old, new)| (person(old), person(new))).to_vec();
    let by = Some(By::operator("cli:test"));
    let done = scene.house.store().rekey(keys, true, by, NOW).await.unwrap();
    assert!(done.iter().all(|one| one.erased && one.disabled), "{done:?}");
    for who in ["one-new", "two-new", "four"] {
        assert_eq!(scene.login(who, "1", &["staff"]).await, None, "{who}");
    }
    for who in ["one", "two"] {
        assert_eq!(scene.login(who, "1", &["staff"]).await.unwrap(), "Staff|editor", "the old key is free");
    }
}

/// Somebody who comes under a key that an erased person had is bound by that.
#[tokio::test(flavor = "multi_thread")]
async fn sec09_a_new_key_that_an_erased_person_had_binds() {
    let scene = Scene::open(&text("")).await;
    act(&scene, "gone", Act::Create { email: None, display_name: None, enabled: false }).await;
    act(&scene, "gone", Act::Erase).await;
    act(&scene, "ann", Act::Create { email: None, display_name: None, enabled: true }).await;
    scene.done(ADMIN, "POST", REKEY, Some(body(&[("ann", "gone")], &["apply"]))).await;
    assert!(!scene.is_enabled("gone").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn sec09_the_command_takes_one_or_a_file() {
    let scene = Scene::open(&text("")).await;
    for who in ["a", "b", "c"] {
        act(&scene, who, Act::Create { email: None, display_name: None, enabled: who != "c" }).await;
    }
    scene.write(&text(""));
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_loginsync"));
        let output =
            command.args(["user", "rekey"]).args(arguments).arg("--config").arg(scene.file()).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap())
    };
    let (code, told) = run(&["oidc/c", "oidc/d"]);
    assert!(code == Some(0) && told.contains("oidc/c -> oidc/d  DISABLED") && told.contains("--yes"), "{told}");
    assert!(scene.view("c").await.is_some());
    let (code, told) = run(&["oidc/c", "oidc/d", "--yes"]);
    assert!(code == Some(0) && told.contains("1 rekeyed"), "{told}");
    assert!(!scene.is_enabled("d").await);
    let file = scene.house.folder.path().join("keys.csv");
    let path = file.to_str().unwrap();
    std::fs::write(&file, "# old,new\noidc/a, oidc/x\noidc/b,\"oidc/y,z\"\n").unwrap();
    let (code, told) = run(&["--csv", path, "--yes"]);
    assert!(code == Some(0) && told.contains("2 rekeyed"), "{told}");
    assert!(scene.view("x").await.is_some() && scene.view("y,z").await.is_some());
    for (wrong, why) in [("oidc/x\n", "line 1"), ("x,y\n", "NAMESPACE/SUBJECT"), ("", "names no user")] {
        std::fs::write(&file, wrong).unwrap();
        let (code, told) = run(&["--csv", path]);
        assert!(code == Some(1) && told.contains(why), "{wrong:?}: {told}");
    }
    let (code, told) = run(&["oidc/x", "oidc/d"]);
    assert!(code == Some(0) && told.contains("the two become one") && told.contains("--merge"), "{told}");
    let (code, told) = run(&["oidc/x", "oidc/d", "--yes"]);
    assert!(code == Some(1) && told.contains("--merge"), "{told}");
    assert_eq!(run(&["oidc/x", "oidc/d", "--yes", "--merge"]).0, Some(0));
    assert!(!scene.is_enabled("d").await && scene.view("x").await.is_none());
}
