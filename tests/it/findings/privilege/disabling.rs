//! SEC6: a mapping that disables people does no more than its writer may, and no more at once than the brake lets pass.

use std::process::Command;

use loginsync::pipeline::ids::Timestamp;
use loginsync::ports::store::{By, HoldFilter};
use serde_json::json;

use super::{KEEPER, MAPPER, NO_LOSSES, Scene, disables, person, text};
use crate::api::{ADMIN, WRITER};
use crate::kit::NOW;

const OWNERS: &str = "[[mapping]]\nprovider = \"oidc\"\nclaim = \"groups\"\nvalue = \"owners\"\nrole = \"owner\"\n";
/// A role whose last holder must stay, and which is not privileged.
const WARDEN: &str = "[[role]]\nname = \"warden\"\nprotected = true\n[[mapping]]\nprovider = \"oidc\"\n\
                      claim = \"groups\"\nvalue = \"wardens\"\nrole = \"warden\"\n";

#[tokio::test(flavor = "multi_thread")]
async fn sec06_writing_a_mapping_that_disables_takes_the_right_to_disable() {
    let scene = Scene::open(&text("")).await;
    let body = || Some(disables("leavers", "gone"));
    for secret in [MAPPER, KEEPER] {
        assert_eq!(scene.call(secret, "POST", "/api/v1/mappings", body()).await.0, 403);
    }
    let harmless = json!({"definition": {
        "name": "leavers", "provider": "oidc", "when": [{"claim": "groups", "is": "gone"}],
        "then": [{"add_group": "Staff"}],
    }});
    let made = scene.done(MAPPER, "POST", "/api/v1/mappings", Some(harmless.clone())).await;
    let target = format!("/api/v1/mappings/{}", made["id"].as_str().unwrap());
    assert_eq!(scene.call(MAPPER, "PUT", &target, body()).await.0, 403, "nor by editing");
    scene.done(WRITER, "PUT", &target, body()).await;
    assert_eq!(scene.call(MAPPER, "PUT", &target, Some(harmless)).await.0, 403, "nor take it back");
    assert_eq!(scene.call(MAPPER, "DELETE", &target, None).await.0, 403);
    // The same in the words of another system.
    let onelogin = json!({
        "name": "mine", "match": "all", "enabled": true, "position": null,
        "conditions": [{"source": "last_login", "operator": ">", "value": "0"}],
        "actions": [{"action": "set_status", "value": ["2"]}],
    });
    for status in ["2", "3"] {
        let mut body = onelogin.clone();
        body["actions"][0]["value"] = json!([status]);
        assert_eq!(scene.call(MAPPER, "POST", "/api/2/mappings", Some(body)).await.0, 403, "status {status}");
    }
    assert_eq!(scene.call(WRITER, "POST", "/api/2/mappings", Some(onelogin)).await.0, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn sec06_it_spares_the_privileged_and_the_last_of_the_protected() {
    let scene = Scene::open(&text(&format!("{OWNERS}{WARDEN}"))).await;
    let made = scene.done(WRITER, "POST", "/api/v1/mappings", Some(disables("everyone", "all"))).await;
    // Privileged by what this very login gives; then by what they hold.
    assert_eq!(scene.login("ann", "1", &["owners", "all"]).await.unwrap(), "|owner");
    assert_eq!(scene.login("ann", "2", &["all"]).await.unwrap(), "|", "what they held until now counts too");
    assert_eq!(scene.login("ann", "3", &["all"]).await, None, "an owner no more");
    // The last warden is spared, the last but one is not.
    assert_eq!(scene.login("wim", "1", &["wardens"]).await.unwrap(), "|warden");
    assert_eq!(scene.login("wes", "1", &["wardens"]).await.unwrap(), "|warden");
    assert_eq!(scene.login("wes", "2", &["wardens", "all"]).await, None);
    assert_eq!(scene.login("wim", "2", &["wardens", "all"]).await.unwrap(), "|warden");
    // An administrator's word spares nobody.
    let target = format!("/api/v1/mappings/{}", made["id"].as_str().unwrap());
    scene.done(ADMIN, "PUT", &target, Some(disables("everyone", "all"))).await;
    assert_eq!(scene.login("wim", "3", &["wardens", "all"]).await, None);
    let rows = scene.events("login").await;
    let spared: Vec<_> = rows.iter().filter(|row| !row["spared"].is_null()).collect();
    assert_eq!(spared.len(), 3, "{spared:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sec06_a_gate_still_shuts_out_whom_a_mapping_spares() {
    let gate = "[[gate]]\nname = \"nobody\"\ndeny = [{ claim = \"groups\", is = \"all\" }]\nmessage = \"no\"\n";
    let scene = Scene::open(&text(&format!("{OWNERS}{gate}"))).await;
    scene.done(WRITER, "POST", "/api/v1/mappings", Some(disables("everyone", "all"))).await;
    assert_eq!(scene.login("ann", "1", &["owners", "all"]).await, None);
    assert!(scene.view("ann").await.is_none(), "refused by the gate: nothing was written");
}

#[tokio::test(flavor = "multi_thread")]
async fn sec06_the_brake_counts_who_is_disabled() {
    let scene = Scene::open(&text("[brake]\nminimum = 1\nshare = \"0%\"\n")).await;
    scene.done(WRITER, "POST", "/api/v1/mappings", Some(disables("everyone", "all"))).await;
    for who in ["ann", "bob", "cid"] {
        scene.login(who, "1", &["staff"]).await.unwrap();
    }
    assert_eq!(scene.login("new", "1", &["all"]).await, None, "a first login loses nothing and is not counted");
    assert_eq!(scene.login("ann", "2", &["staff", "all"]).await, None);
    assert_eq!(scene.login("bob", "2", &["staff", "all"]).await.unwrap(), "Staff|editor");
    assert_eq!(scene.login("cid", "2", &["staff", "all"]).await.unwrap(), "Staff|editor");
    let holds = async || scene.house.store().holds(HoldFilter::default(), scene.house.rules()).await.unwrap();
    let held = holds().await;
    assert_eq!(held.iter().map(|hold| hold.user.subject.as_str()).collect::<Vec<_>>(), ["bob", "cid"]);
    assert!(held.iter().all(|hold| hold.target.is_none() && hold.mapping == "everyone"));
    let shown = scene.done(ADMIN, "GET", "/api/v1/holds", None).await;
    assert_eq!((&shown["items"][0]["kind"], &shown["items"][0]["mapping"]), (&json!("user"), &json!("everyone")));
    // The window passes, and what is held stays held: else a share of everyone would go in each window.
    scene.house.clock.set(Timestamp(NOW.0 + 2 * 3600 * 1000));
    assert!(scene.is_enabled("bob").await);
    // Released, it is carried out; discarded, it is forgotten.
    let (store, rules) = (scene.house.store(), scene.house.rules());
    let of = |who: &str| HoldFilter { user: Some(person(who)), ..HoldFilter::default() };
    assert_eq!(store.release(of("bob"), rules.clone(), "cli:test".into(), NOW).await.unwrap(), 1);
    assert_eq!(store.discard(of("cid"), rules, "cli:test".into(), NOW).await.unwrap(), 1);
    assert!(holds().await.is_empty());
    assert!(!scene.is_enabled("bob").await && scene.is_enabled("cid").await);
    assert_eq!(scene.view("bob").await.unwrap().disabled_by.as_deref(), Some("everyone"));
}

#[tokio::test(flavor = "multi_thread")]
async fn sec06_a_hold_ends_when_nothing_would_disable_any_more() {
    let scene = Scene::open(&text(NO_LOSSES)).await;
    scene.done(WRITER, "POST", "/api/v1/mappings", Some(disables("everyone", "all"))).await;
    scene.login("ann", "1", &["staff"]).await.unwrap();
    scene.login("ann", "2", &["staff", "all"]).await.unwrap();
    let holds = async || scene.house.store().holds(HoldFilter::default(), scene.house.rules()).await.unwrap().len();
    assert_eq!(holds().await, 1);
    scene.login("ann", "3", &["staff"]).await.unwrap();
    assert_eq!(holds().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn sec06_whom_a_mapping_disabled_is_enabled_by_its_name() {
    let scene = Scene::open(&text("")).await;
    let made = scene.done(WRITER, "POST", "/api/v1/mappings", Some(disables("leavers", "gone"))).await;
    for who in ["ann", "bob", "cid"] {
        scene.login(who, "1", &["staff"]).await.unwrap();
        assert_eq!(scene.login(who, "2", &["gone"]).await, None);
    }
    // An operator's word on one of them stands.
    scene.done(KEEPER, "POST", "/api/v1/users/oidc/cid/disable", None).await;
    scene.done(WRITER, "DELETE", &format!("/api/v1/mappings/{}", made["id"].as_str().unwrap()), None).await;
    assert_eq!(scene.login("ann", "3", &["staff"]).await, None, "a leaver does not come back by that");
    assert_eq!(scene.view("ann").await.unwrap().disabled_by.as_deref(), Some("leavers"));
    scene.write(&text(""));
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_loginsync"));
        let output = command.args(arguments).arg("--config").arg(scene.file()).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap())
    };
    let (code, told) = run(&["user", "enable", "--disabled-by", "leavers"]);
    assert!(code == Some(0) && told.contains("oidc/ann") && told.contains("--yes"), "{told}");
    assert!(!told.contains("oidc/cid") && !scene.is_enabled("ann").await, "shown first: {told}");
    let (code, told) = run(&["user", "enable", "--disabled-by", "leavers", "--yes"]);
    assert!(code == Some(0) && told.contains("2 enabled"), "{told}");
    assert!(scene.is_enabled("ann").await && scene.is_enabled("bob").await && !scene.is_enabled("cid").await);
    assert_eq!(run(&["user", "enable", "--disabled-by", "leavers", "--yes"]).0, Some(1), "there is nobody left");
    // By its number, too.
    assert_eq!(scene.login("ann", "4", &["staff"]).await.unwrap(), "Staff|editor");
    let made = scene.done(WRITER, "POST", "/api/v1/mappings", Some(disables("again", "gone"))).await;
    assert_eq!(scene.login("ann", "5", &["gone"]).await, None);
    let number = made["id"].as_str().unwrap().to_owned();
    let by = By::operator("cli:test");
    assert_eq!(scene.house.store().enable_disabled_by(number, by, NOW).await.unwrap(), 1);
    assert_eq!(scene.events("user_enabled").await.len(), 3);
}
