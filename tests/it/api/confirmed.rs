//! The brake, for clients that cannot say that they mean it: an operator confirms for a while, or exempts a group.

use std::process::Command;

use loginsync::pipeline::ids::Timestamp;
use serde_json::{Value, json};

use super::{ADMIN, Office, WRITER, configuration, names, short};

const TIGHT: &str = "[brake]\nminimum = 0\nshare = \"0%\"\n";

impl Office {
    /// `loginsync client confirm`, over the store of this house.
    fn confirm(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let file = self.house.folder.path().join("loginsync.toml");
        let fixtures = format!("{}/fixtures/", env!("CARGO_MANIFEST_DIR"));
        std::fs::write(&file, configuration(TIGHT).replace("fixtures/", &fixtures)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_loginsync"));
        let output = command.args(["client", "confirm"]).args(arguments).arg("--config").arg(&file).output().unwrap();
        let told = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
        (output.status.code(), told)
    }

    /// A role that a login with the value gets by a mapping of Timbal's; answers the address of that.
    async fn role_by_value(&self, name: &str) -> String {
        let role = self.post("/api/v1/roles", json!({ "name": name })).await["number"].clone();
        let list = "/orgs/1/identity-providers/oidc/group-mappings";
        let made = self.post(list, json!({"external_group": name, "role_id": role})).await;
        format!("{list}/{}", made["id"].as_str().unwrap())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn api03_an_operator_confirms_for_a_client_that_cannot() {
    let office = Office::with(TIGHT).await;
    let mut mappings = Vec::new();
    for name in ["one", "two", "three", "four"] {
        mappings.push(office.role_by_value(name).await);
    }
    let all = ["one", "two", "three", "four"];
    assert_eq!(office.login("1", &all).await.1, names(&["four", "one", "three", "two"]));
    let delete = |secret: &'static str, target: &str| {
        let (office, target) = (&office, target.to_owned());
        async move { office.call(secret, "DELETE", &target, &[], None).await }
    };
    let (status, refused, _) = delete(WRITER, &mappings[0]).await;
    assert_eq!((status, refused["code"].as_str()), (409, Some("CONFLICT")), "{refused}");
    let told = refused["message"].as_str().unwrap();
    assert!(told.contains("`loginsync client confirm NAME --for 10m --most 1`"), "{told}");

    for (arguments, expected) in [
        (&["nobody", "--most", "1"][..], "there is no client `nobody`"),
        (&["writer", "--most", "0"], "0 is not in 1..=1000000"),
        (&["writer", "--most", "1", "--for", "25h"], "--for: expected up to 24h"),
        (&["writer"], "--most"),
    ] {
        let (code, told) = office.confirm(arguments);
        assert!(code != Some(0) && told.contains(expected), "{arguments:?}: {told}");
    }
    assert_eq!(delete(WRITER, &mappings[0]).await.0, 409, "nothing was confirmed by that");

    let (code, told) = office.confirm(&["writer", "--most", "2", "--by", "olga"]);
    assert!(code == Some(0) && told.contains("up to 2 memberships"), "{told}");
    assert_eq!(delete(ADMIN, &mappings[0]).await.0, 409, "for that client alone");
    assert_eq!(delete(WRITER, &mappings[0]).await.0, 204);
    assert_eq!(delete(WRITER, &mappings[1]).await.0, 204);
    assert_eq!(delete(WRITER, &mappings[2]).await.0, 409, "it is used up");
    assert_eq!(office.holds().await.1, names(&["four", "three"]));

    // In the words of each face; what confirms too few confirms nothing.
    let number = office.post("/api/v1/roles", json!({"name": "five"})).await["number"].to_string();
    let body = json!({
        "name": "both", "match": "any", "enabled": true, "position": null,
        "conditions": [{"source": "groups", "operator": "=", "value": "both"}],
        "actions": [{"action": "add_role", "value": [number]}],
    });
    let both = office.post("/api/2/mappings", body).await["id"].to_string();
    office.login("2", &["both", "three", "four"]).await;
    let both = format!("/api/2/mappings/{both}");
    let (status, refused, _) = delete(WRITER, &both).await;
    assert_eq!((status, refused["errors"][0]["field"].as_str()), (422, Some("default")), "{refused}");
    assert_eq!(office.confirm(&["writer", "--most", "1", "--for", "1h"]).0, Some(0));
    assert_eq!(delete(WRITER, &both).await.0, 204);

    assert_eq!(office.confirm(&["writer", "--most", "5", "--by", "olga"]).0, Some(0));
    office.house.clock.set(Timestamp(4_102_444_800_000));
    assert_eq!(delete(WRITER, &mappings[3]).await.0, 409, "it is over");

    let confirmed = office.events("client_confirmed").await;
    let people: Vec<&Value> = confirmed.iter().map(|row| &row["by"]).collect();
    assert_eq!((people.len(), people[0], &confirmed[0]["most"]), (3, &json!("olga"), &json!(2)), "{confirmed:?}");
    let used = office.events("confirmation_used").await;
    let left: Vec<&Value> = used.iter().map(|row| &row["left"]).collect();
    assert_eq!(left, [&json!(1), &json!(0), &json!(0)], "{used:?}");
    assert_eq!((&used[0]["client"], &used[0]["by"], &used[0]["losing"]), (&json!("writer"), &json!("olga"), &json!(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn api03_a_group_of_the_store_may_be_exempt() {
    let office = Office::with(TIGHT).await;
    let make =
        |secret: &'static str, path: &'static str, body: Value| office.call(secret, "POST", path, &[], Some(body));
    for path in ["/api/v1/groups", "/api/v1/roles"] {
        assert_eq!(make(WRITER, path, json!({"name": "free", "brake": false})).await.0, 403, "{path}: it takes admin");
        assert_eq!(make(ADMIN, path, json!({"name": "free", "brake": false})).await.1["brake"], false, "{path}");
        assert_eq!(make(WRITER, path, json!({"name": "bound"})).await.1["brake"], true, "{path}");
        let target = format!("{path}/bound");
        let change = Some(json!({"brake": false}));
        assert_eq!(office.call(WRITER, "PATCH", &target, &[("if-match", "*")], change).await.0, 403, "{path}");
    }
    let free = office.post("/api/v1/mappings", short("a", "free")).await["id"].as_str().unwrap().to_owned();
    let again = office.post("/api/v1/mappings", short("b", "free")).await["id"].as_str().unwrap().to_owned();
    office.post("/api/v1/mappings", short("a", "bound")).await;
    assert_eq!(office.login("1", &["a"]).await.0, names(&["bound", "free"]));
    assert_eq!(office.delete(&format!("/api/v1/mappings/{free}")).await, 204);
    assert_eq!(office.login("2", &["a", "b"]).await.0, names(&["bound", "free"]));
    assert_eq!(office.delete("/api/v1/groups/free").await, 204, "with its mapping {again}");
    assert_eq!(office.delete("/api/v1/groups/bound").await, 409);
    let any = [("if-match", "*")];
    let changed = office.call(ADMIN, "PATCH", "/api/v1/groups/bound", &any, Some(json!({"brake": false}))).await;
    assert_eq!((changed.0, &changed.1["brake"]), (200, &json!(false)));
    assert_eq!(office.delete("/api/v1/groups/bound").await, 204);
    assert_eq!(office.holds().await.0, names(&[]));
}
