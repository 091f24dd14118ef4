//! What a client made in the store, against what the file says later, before and after a change of either.
//!
//! Each row is a thing that clients without `admin` make about one name, `Crew`; each column is what the file says of that name
//! afterwards. A cell is what one person gets at their next login.

use serde_json::json;

use super::{KEEPER, MAPPER, Scene, text, to_group};
use crate::api::{ADMIN, WRITER};

/// What the file says of `Crew`.
const NOTHING: &str = "";
const DECLARED: &str = "[[group]]\nname = \"Crew\"\n";
const PRIVILEGED: &str = "[[group]]\nname = \"Crew\"\nprivileged = true\n";
const WITH_ROLE: &str = "[[group]]\nname = \"Crew\"\nroles = [\"owner\"]\n";
const PROTECTED: &str = "[[group]]\nname = \"Crew\"\nprotected = true\n";
/// The role of the store's group `Crew` becomes one of the file, and privileged.
const ROLE: &str = "[[role]]\nname = \"mate\"\nprivileged = true\n";
const COLUMNS: [&str; 6] = [NOTHING, DECLARED, PRIVILEGED, WITH_ROLE, PROTECTED, ROLE];

#[derive(Debug, Clone, Copy, PartialEq)]
enum Made {
    /// A group alone, and nobody in it.
    Group,
    /// A group, and the person in it by hand.
    Member,
    /// A group with a role of the store, and the person in it by hand.
    Role,
    /// A group, and a mapping to it that holds for the person.
    Mapping,
    /// Another group, with `Crew` as its alias, and a mapping to it.
    Alias,
    /// A group with a mapping, denied to the person; the group was deleted since.
    Deny,
    /// The person is disabled by a mapping of the store, which was deleted since.
    Disabled,
}

/// Groups and roles that the app hears, or that the login is refused.
const OUT: &str = "refused";

/// In the order of [`COLUMNS`].
const TABLE: [(Made, [&str; 6]); 7] = [
    (Made::Group, ["|", "|", "|", "|", "|", "|"]),
    (Made::Member, ["Crew|", "Crew|", "|", "|", "Crew|", "Crew|"]),
    (Made::Role, ["Crew|mate", "Crew|", "|", "|", "Crew|", "|"]),
    (Made::Mapping, ["Crew|", "Crew|", "|", "|", "Crew|", "Crew|"]),
    (Made::Alias, ["Crew|", "Other|", "Other|", "Other|", "Other|", "Crew|"]),
    (Made::Deny, ["|", "|", "|", "|", "|", "|"]),
    (Made::Disabled, [OUT, OUT, OUT, OUT, OUT, OUT]),
];

async fn make(scene: &Scene, made: Made) {
    let group = |name: &str, roles: &[&str]| Some(json!({"name": name, "roles": roles}));
    match made {
        Made::Group => drop(scene.done(MAPPER, "POST", "/api/v1/groups", group("Crew", &[])).await),
        Made::Member | Made::Role => {
            scene.done(MAPPER, "POST", "/api/v1/roles", Some(json!({"name": "mate"}))).await;
            let roles: &[&str] = if made == Made::Role { &["mate"] } else { &[] };
            scene.done(MAPPER, "POST", "/api/v1/groups", group("Crew", roles)).await;
            scene.done(KEEPER, "PUT", "/api/v1/users/oidc/eve/assignments/group/Crew", None).await;
        }
        Made::Mapping | Made::Deny => {
            scene.done(MAPPER, "POST", "/api/v1/groups", group("Crew", &[])).await;
            scene.done(MAPPER, "POST", "/api/v1/mappings", Some(to_group("x", "Crew"))).await;
            if made == Made::Deny {
                let deny = "/api/v1/users/oidc/eve/denies/group/Crew";
                scene.done(KEEPER, "PUT", deny, Some(json!({"reason": "test"}))).await;
                scene.done(MAPPER, "DELETE", "/api/v1/groups/Crew", None).await;
            }
        }
        Made::Alias => {
            scene.done(MAPPER, "POST", "/api/v1/groups", group("Other", &[])).await;
            scene.done(MAPPER, "POST", "/api/v1/mappings", Some(to_group("x", "Other"))).await;
            let key =
                async |target: &str| scene.done(ADMIN, "GET", target, None).await["key"].as_str().unwrap().to_owned();
            let (app, other) = (key("/api/v1/providers/oidc").await, key("/api/v1/groups/Other").await);
            let target = format!("/v1/idp-group-mappings/{app}/groups/{other}");
            scene.done(MAPPER, "POST", &target, Some(json!({"alias": "Crew", "hidden_from_end_user": false}))).await;
        }
        Made::Disabled => {
            let made = scene.done(WRITER, "POST", "/api/v1/mappings", Some(super::disables("leavers", "gone"))).await;
            assert_eq!(scene.login("eve", "gone", &["gone"]).await, None);
            let target = format!("/api/v1/mappings/{}", made["id"].as_str().unwrap());
            scene.done(WRITER, "DELETE", &target, None).await;
        }
    }
}

async fn outcome(scene: &Scene, jti: &str) -> String {
    scene.login("eve", jti, &["x"]).await.unwrap_or_else(|| OUT.to_owned())
}

async fn cells(made: Made) {
    let row = TABLE.iter().find(|(row, _)| *row == made).unwrap().1;
    for (column, expected) in COLUMNS.into_iter().zip(row) {
        let cell = |when: &str| format!("{made:?}, then {column:?}, {when}");
        let scene = Scene::open(&text("")).await;
        make(&scene, made).await;
        assert_eq!(outcome(&scene, "1").await, row[0], "{}", cell("before"));
        // The file changes under it.
        let scene = scene.restart(&text(column)).await;
        assert_eq!(outcome(&scene, "2").await, expected, "{}", cell("after"));
        let (status, shown) = scene.call(ADMIN, "GET", "/api/v1/groups/Crew", None).await;
        let privileged = column == PRIVILEGED || column == WITH_ROLE || (column == ROLE && made == Made::Role);
        assert_eq!(status == 200 && shown["privileged"] == true, privileged, "{}: {shown:#}", cell("shown"));
        // And back: what was ended stays ended, and what was not is as before.
        let scene = scene.restart(&text("")).await;
        let by_hand = matches!(made, Made::Member | Made::Role);
        let expected = if by_hand && privileged { "|" } else { row[0] };
        assert_eq!(outcome(&scene, "3").await, expected, "{}", cell("and back"));
        // The store changes under the file: clients without `admin` reach nothing privileged by any of it.
        let scene = scene.restart(&text(column)).await;
        let grasp = "/api/v1/users/oidc/eve/assignments/group/Crew";
        let (status, _) = scene.call(KEEPER, "PUT", grasp, None).await;
        if privileged {
            assert_eq!(status, 403, "{}", cell("by hand"));
            let (status, _) = scene.call(MAPPER, "POST", "/api/v1/mappings", Some(to_group("y", "Crew"))).await;
            assert_eq!(status, 422, "{}", cell("by a mapping"));
            let (status, _) =
                scene.call(MAPPER, "PATCH", "/api/v1/groups/Crew", Some(json!({"description": "mine"}))).await;
            assert!([403, 409].contains(&status), "{}: {status}", cell("by a change"));
            let told = outcome(&scene, "4").await;
            assert!(!told.contains("owner") && !told.contains("mate"), "{}: {told}", cell("in the end"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_alone() {
    cells(Made::Group).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sec05_a_member_by_hand() {
    cells(Made::Member).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sec05_a_role_in_a_group() {
    cells(Made::Role).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sec05_a_mapping_to_a_group() {
    cells(Made::Mapping).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sec05_an_alias_of_another_group() {
    cells(Made::Alias).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sec22_a_deny_of_a_group() {
    cells(Made::Deny).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sec06_whom_a_mapping_disabled() {
    cells(Made::Disabled).await;
}

/// The file declares it first, and takes it back: a member by hand stays one of a name that nothing makes privileged, and
/// whoever makes a group of that name later cannot give it what is privileged.
#[tokio::test(flavor = "multi_thread")]
async fn sec05_what_the_file_no_longer_declares() {
    for column in [DECLARED, PRIVILEGED, WITH_ROLE, PROTECTED] {
        let scene = Scene::open(&text(column)).await;
        let grasp = "/api/v1/users/oidc/eve/assignments/group/Crew";
        scene.done(ADMIN, "PUT", grasp, None).await;
        let scene = scene.restart(&text("")).await;
        assert_eq!(outcome(&scene, "1").await, "Crew|", "{column:?}");
        let body = json!({"name": "Crew", "roles": ["owner"]});
        assert_eq!(scene.call(MAPPER, "POST", "/api/v1/groups", Some(body)).await.0, 403, "{column:?}");
        scene.done(MAPPER, "POST", "/api/v1/groups", Some(json!({"name": "Crew"}))).await;
        scene.done(KEEPER, "PUT", "/api/v1/users/oidc/mia/assignments/group/Crew", None).await;
        // Declared again: whom an administrator put there stays, and nobody else where it is privileged.
        let scene = scene.restart(&text(column)).await;
        let privileged = [PRIVILEGED, WITH_ROLE].contains(&column);
        assert!(outcome(&scene, "2").await.starts_with("Crew|"), "{column:?}");
        let mia = scene.login("mia", "2", &[]).await.unwrap();
        assert_eq!(mia, if privileged { "|" } else { "Crew|" }, "{column:?}");
    }
}
