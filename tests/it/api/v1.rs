//! `/api/v1`.

use loginsync::pipeline::ids::{GroupName, Namespace, Subject, Target, Timestamp, UserId};
use loginsync::ports::store::Act;
use serde_json::{Value, json};

use super::{ADMIN, Office, READER, WRITER, configuration, names, short};
use crate::attacks::here;
use crate::kit::NOW;

#[tokio::test(flavor = "multi_thread")]
async fn a_mapping_made_here_decides_the_next_login_and_takes_back_when_it_goes() {
    let office = Office::open().await;
    office.post("/api/v1/roles", json!({"name": "buyer"})).await;
    office.post("/api/v1/groups", json!({"name": "Purchasing", "roles": ["buyer"]})).await;
    let made = office.post("/api/v1/mappings", short("buyers", "Purchasing")).await;
    assert_eq!((&made["origin"], &made["activity"], &made["position"]), (&json!("store"), &json!("active"), &json!(1)));
    assert_eq!(
        office.login("1", &["staff", "buyers"]).await,
        (names(&["Purchasing", "Staff"]), names(&["buyer", "editor"]))
    );
    // Removed: at once.
    let target = format!("/api/v1/mappings/{}", made["id"].as_str().unwrap());
    assert_eq!(office.delete(&target).await, 204);
    assert_eq!(office.holds().await, (names(&["Staff"]), names(&["editor"])));
    assert_eq!(office.login("2", &["staff", "buyers"]).await.0, names(&["Staff"]));
    let [made, deleted] = [office.events("mapping_created").await, office.events("mapping_deleted").await];
    assert_eq!(made[0]["by"], "api client `writer` (v1)");
    assert_eq!(deleted[0]["definition"]["when"][0]["is"], "buyers");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_stands_until_the_next_login_and_a_disabled_mapping_ends_at_once() {
    let office = Office::open().await;
    for group in ["One", "Two"] {
        office.post("/api/v1/groups", json!({"name": group})).await;
    }
    let made = office.post("/api/v1/mappings", short("x", "One")).await;
    let target = format!("/api/v1/mappings/{}", made["id"].as_str().unwrap());
    assert_eq!(office.login("1", &["x"]).await.0, names(&["One"]));
    let any = [("if-match", "*")];
    assert_eq!(office.call(WRITER, "PUT", &target, &any, Some(short("x", "Two"))).await.0, 200);
    assert_eq!(office.holds().await.0, names(&["One"]), "an edited mapping keeps its grants");
    office.house.clock.set(Timestamp(NOW.0 + 1000));
    assert_eq!(office.login("2", &["x"]).await.0, names(&["Two"]));
    let mut disabled = short("x", "Two");
    disabled["definition"]["enabled"] = json!(false);
    let (status, shown, _) = office.call(WRITER, "PUT", &target, &any, Some(disabled)).await;
    assert_eq!((status, &shown["activity"], shown.get("position")), (200, &json!("disabled"), None));
    assert_eq!(office.holds().await.0, names(&[]));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_is_named_at_once() {
    let office = Office::open().await;
    let body = json!({"definition": {
        "provider": "oidc", "match": "any",
        "when": [{"claim": "grups", "is": "x"}, {"claim": "groups", "regex": "("}, {"has_role": "nobody"}, {}],
        "then": [{"add_group": "Stff"}, {"add_role": "owner"}], "until": "tomorrow",
    }});
    let (status, problem, answer) = office.call(WRITER, "POST", "/api/v1/mappings", &[], Some(body)).await;
    assert_eq!((status, &answer.headers["content-type"]), (422, &"application/problem+json".parse().unwrap()));
    let fields: Vec<&str> =
        problem["errors"].as_array().unwrap().iter().map(|e| e["field"].as_str().unwrap()).collect();
    let expected = [
        "when[0].claim",
        "when[1].regex",
        "when[2].has_role",
        "when[3]",
        "until",
        "then[0].add_group",
        "then[1].add_role",
    ];
    assert_eq!(fields, expected, "{problem:#}");
    for (body, field) in [
        (json!({"definition": {"then": [{"add_group": "Staff"}], "whne": []}}), "definition.whne"),
        (json!({"definition": {"then": [{"add_group": "Staff"}]}}), "when"),
        (json!([]), "body"),
        (json!("text"), "body"),
    ] {
        let (status, problem, _) = office.call(WRITER, "POST", "/api/v1/mappings", &[], Some(body)).await;
        assert_eq!((status, problem["errors"][0]["field"].as_str()), (422, Some(field)), "{problem:#}");
    }
    assert!(office.get("/api/v1/mappings?origin=store").await["items"].as_array().unwrap().is_empty());
    let long = json!({"name": ["x".repeat(10_000)], "y".repeat(10_000): 1});
    let (_, _, answer) = office.call(WRITER, "POST", "/api/v1/groups", &[], Some(long)).await;
    assert!(answer.body.len() < 2_000, "an answer does not grow with what was sent");
    // The shape of a body, too: what is wrong with one field hides nothing of another.
    for (target, body, expected) in [
        (
            "/api/v1/groups",
            json!({"name": 5, "stages": ["a", 7], "foo": 1, "protected": "yes"}),
            vec!["foo", "name", "protected", "stages[1]"],
        ),
        ("/api/v1/groups", json!({"foo": 1}), vec!["foo", "body"]),
        (
            "/api/v1/mappings",
            json!({"definition": {"when": [{"claim": 1, "is": 2}], "then": {}}, "position": "x"}),
            vec!["definition.then", "definition.when[0].claim", "definition.when[0].is", "position"],
        ),
    ] {
        let (status, problem, _) = office.call(WRITER, "POST", target, &[], Some(body.clone())).await;
        let fields: Vec<&str> =
            problem["errors"].as_array().unwrap().iter().map(|fault| fault["field"].as_str().unwrap()).collect();
        assert_eq!((status, fields), (422, expected), "{body}: {problem:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_file_declares_is_read_only_and_says_so() {
    let office = Office::open().await;
    let list = office.get("/api/v1/mappings?origin=file&limit=1").await;
    let id = list["items"][0]["id"].as_str().unwrap();
    assert_eq!((list["items"][0]["origin"].as_str(), list["next"].is_string()), (Some("file"), true));
    let calls = [
        ("DELETE", format!("/api/v1/mappings/{id}"), None),
        ("PUT", format!("/api/v1/mappings/{id}"), Some(short("staff", "Staff"))),
        ("DELETE", "/api/v1/groups/Staff".into(), None),
        ("PATCH", "/api/v1/groups/Staff".into(), Some(json!({"description": "x"}))),
        ("DELETE", "/api/v1/roles/editor".into(), None),
    ];
    for (method, target, body) in calls {
        let (status, problem, _) = office.call(ADMIN, method, &target, &[("if-match", "*")], body).await;
        assert_eq!(
            (status, problem["type"].as_str()),
            (409, Some("urn:loginsync:problem:read-only")),
            "{method} {target}"
        );
    }
    assert_eq!(office.call(ADMIN, "POST", "/api/v1/groups", &[], Some(json!({"name": "STAFF"}))).await.0, 409);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_writers_lose_nothing() {
    let office = Office::open().await;
    let made = office.call(WRITER, "POST", "/api/v1/groups", &[], Some(json!({"name": "G"}))).await.2;
    let seen = made.headers["etag"].to_str().unwrap().to_owned();
    let change = |text: &str| Some(json!({"description": text}));
    let target = "/api/v1/groups/G";
    assert_eq!(office.call(WRITER, "PATCH", target, &[], change("no version")).await.0, 428);
    let first = office.call(WRITER, "PATCH", target, &[("if-match", &seen)], change("first")).await;
    assert_eq!(first.0, 200);
    assert_eq!(office.call(WRITER, "PATCH", target, &[("if-match", &seen)], change("second")).await.0, 412);
    assert_eq!(office.get(target).await["description"], "first");
    assert_eq!(office.call(WRITER, "DELETE", target, &[("if-match", &seen)], None).await.0, 412);
    // At the same time: each that is told so is there.
    let calls =
        (0..20).map(|at| {
            let office = &office;
            async move {
                office.call(WRITER, "POST", "/api/v1/mappings", &[], Some(short(&format!("v{at}"), "Staff"))).await.0
            }
        });
    let mut statuses = Vec::new();
    let mut pending: Vec<_> = calls.map(Box::pin).collect();
    std::future::poll_fn(|context| {
        pending.retain_mut(|call| match call.as_mut().poll(context) {
            std::task::Poll::Ready(status) => {
                statuses.push(status);
                false
            }
            std::task::Poll::Pending => true,
        });
        if pending.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    assert_eq!(statuses, vec![201; 20]);
    let list = office.get("/api/v1/mappings?origin=store").await;
    let positions: Vec<u64> =
        list["items"].as_array().unwrap().iter().map(|m| m["position"].as_u64().unwrap()).collect();
    assert_eq!(positions, (1..=20).collect::<Vec<u64>>(), "without gaps");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_calls_who_may_not() {
    let office = Office::open().await;
    let admin = office.house.running.admin;
    let bare = office.house.send_to(admin, "GET", "/api/v1/groups", &[], b"").await;
    assert_eq!((bare.status, bare.headers["www-authenticate"].to_str().unwrap()), (401, "Bearer"));
    assert_eq!(office.call("wrong", "GET", "/api/v1/groups", &[], None).await.0, 401);
    assert_eq!(office.call(READER, "GET", "/api/v1/groups", &[], None).await.0, 200);
    assert_eq!(office.call(READER, "POST", "/api/v1/groups", &[], Some(json!({"name": "x"}))).await.0, 403);
    let assign = "/api/v1/users/oidc/bob/assignments/role/editor";
    assert_eq!(office.call(READER, "PUT", assign, &[], None).await.0, 403);
    assert_eq!(office.call(WRITER, "PUT", assign, &[], None).await.0, 204);
    assert_eq!(office.call(WRITER, "POST", "/api/v1/holds/release", &[], None).await.0, 403);
    assert_eq!(office.call(ADMIN, "POST", "/api/v1/holds/release", &[], Some(json!({"all": true}))).await.0, 200);
    // Health and metrics ask nobody.
    for open in ["/healthz", "/readyz", "/metrics", "/api/v1/openapi.json"] {
        assert_eq!(office.house.send_to(admin, "GET", open, &[], b"").await.status, 200, "{open}");
    }
    // Guessing is counted by address; whoever is known passes from the same one.
    let guesses = [0; 40].map(|_| ());
    let mut last = 401;
    for () in guesses {
        last = office.call("guess", "GET", "/api/v1/groups", &[], None).await.0;
    }
    assert_eq!(last, 429);
    assert_eq!(office.call(READER, "GET", "/api/v1/groups", &[], None).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_counted_by_client() {
    let office = Office::with("[admin]\nrate_limit = 3\n").await;
    for _ in 0..3 {
        assert_eq!(office.call(READER, "GET", "/api/v1/roles", &[], None).await.0, 200);
    }
    let (status, _, answer) = office.call(READER, "GET", "/api/v1/roles", &[], None).await;
    assert_eq!((status, answer.headers["retry-after"].to_str().unwrap()), (429, "20"));
    assert_eq!(office.call(ADMIN, "GET", "/api/v1/roles", &[], None).await.0, 200, "another client");
    office.house.clock.set(Timestamp(NOW.0 + 60_000));
    assert_eq!(office.call(READER, "GET", "/api/v1/roles", &[], None).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_privileged_is_closed_to_everyone_without_admin() {
    let office = Office::open().await;
    // A group that carries a privileged role is privileged.
    let owners = json!({"name": "Owners", "roles": ["owner"]});
    assert_eq!(office.call(WRITER, "POST", "/api/v1/groups", &[], Some(owners.clone())).await.0, 403);
    assert_eq!(office.call(ADMIN, "POST", "/api/v1/groups", &[], Some(owners)).await.0, 201);
    let any = [("if-match", "*")];
    let cases = [
        ("PUT", "/api/v1/users/oidc/eve/assignments/role/owner", None),
        ("PUT", "/api/v1/users/oidc/eve/assignments/group/Owners", None),
        ("PATCH", "/api/v1/groups/Owners", Some(json!({"roles": []}))),
        ("DELETE", "/api/v1/groups/Owners", None),
        ("POST", "/api/v1/groups", Some(json!({"name": "P", "privileged": true}))),
    ];
    for (method, target, body) in cases {
        assert_eq!(office.call(WRITER, method, target, &any, body).await.0, 403, "{method} {target}");
    }
    // Its mappings come from the file alone, whoever asks.
    let (status, problem, _) = office.call(ADMIN, "POST", "/api/v1/mappings", &[], Some(short("x", "Owners"))).await;
    assert_eq!(status, 422, "{problem:#}");
    // And a group that becomes privileged takes its store mappings out of use, with a reason.
    office.post("/api/v1/groups", json!({"name": "Later"})).await;
    let made = office.post("/api/v1/mappings", short("later", "Later")).await;
    assert_eq!(office.login("1", &["later"]).await.0, names(&["Later"]));
    let change = office.call(ADMIN, "PATCH", "/api/v1/groups/Later", &any, Some(json!({"roles": ["owner"]}))).await;
    assert_eq!(change.0, 200);
    let shown = office.get(&format!("/api/v1/mappings/{}", made["id"].as_str().unwrap())).await;
    assert_eq!(shown["activity"], "inactive");
    assert!(shown["reason"].as_str().unwrap().contains("privileged"), "{shown:#}");
    assert_eq!(office.holds().await, (names(&[]), names(&[])));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_revokes_over_the_limit_wants_to_be_confirmed() {
    let office = Office::with("[brake]\nminimum = 0\nshare = \"0%\"\n").await;
    office.post("/api/v1/groups", json!({"name": "G"})).await;
    let made = office.post("/api/v1/mappings", short("g", "G")).await;
    office.login("1", &["g"]).await;
    let target = format!("/api/v1/mappings/{}", made["id"].as_str().unwrap());
    for target in [target.as_str(), "/api/v1/groups/G"] {
        let (status, problem, _) = office.call(WRITER, "DELETE", target, &[("if-match", "*")], None).await;
        assert_eq!((status, problem["type"].as_str()), (409, Some("urn:loginsync:problem:braked")), "{problem:#}");
    }
    assert_eq!(office.holds().await.0, names(&["G"]), "nothing was written");
    assert_eq!(office.delete(&format!("{target}?confirm=true")).await, 204);
    assert_eq!(office.holds().await.0, names(&[]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_takes_everything_with_it() {
    let office = Office::open().await;
    office.post("/api/v1/groups", json!({"name": "Old", "roles": ["editor"]})).await;
    office.post("/api/v1/mappings", short("old", "Old")).await;
    office.login("1", &["old"]).await;
    office.call(WRITER, "PUT", "/api/v1/users/oidc/bob/assignments/group/Old", &[], None).await;
    // A new name: mapping and members follow.
    let any = [("if-match", "*")];
    let renamed = office.call(WRITER, "PATCH", "/api/v1/groups/Old", &any, Some(json!({"name": "New"}))).await;
    assert_eq!(renamed.0, 200);
    assert_eq!(office.holds().await, (names(&["New"]), names(&["editor"])));
    assert_eq!(office.login("2", &["old"]).await.0, names(&["New"]));
    let members = office.get("/api/v1/groups/New/members").await;
    assert_eq!(members["items"].as_array().unwrap().len(), 2);
    assert_eq!(office.delete("/api/v1/groups/New").await, 204);
    assert_eq!(office.holds().await, (names(&[]), names(&[])));
    assert!(office.get("/api/v1/mappings?origin=store").await["items"].as_array().unwrap().is_empty());
    // One of the same name inherits nobody.
    office.post("/api/v1/groups", json!({"name": "New"})).await;
    assert!(office.get("/api/v1/groups/New/members").await["items"].as_array().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_outlives_a_restart_and_a_file_that_changes_under_it() {
    let office = Office::open().await;
    office.post("/api/v1/groups", json!({"name": "Kept"})).await;
    office.post("/api/v1/mappings", short("kept", "Kept")).await;
    let made = office.post("/api/v1/mappings", short("both", "Staff")).await;
    office.login("1", &["kept", "both"]).await;
    let id = made["id"].as_str().unwrap().to_owned();
    let number = office.get("/api/v1/groups/Staff").await["number"].clone();
    // The provider is renamed: what spoke of it is inactive, with its reason, and no fault.
    let text = configuration("").replace("\"oidc\"", "\"other\"");
    let house = office.house.restart(&text, &here()).await;
    let office = Office { house };
    let shown = office.get(&format!("/api/v1/mappings/{id}")).await;
    assert_eq!((&shown["activity"], shown["reason"].as_str().unwrap().contains("`oidc`")), (&json!("inactive"), true));
    assert_eq!(office.get("/api/v1/groups/Staff").await["number"], number, "numbers stay");
    // And back: it decides again.
    let house = office.house.restart(&configuration(""), &here()).await;
    let office = Office { house };
    office.house.clock.set(Timestamp(NOW.0 + 1000));
    assert_eq!(office.login("2", &["kept"]).await.0, names(&["Kept"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn people_are_acted_on_and_every_act_is_audited() {
    let office = Office::open().await;
    office.login("1", &["staff"]).await;
    let deny = "/api/v1/users/oidc/alice/denies/group/Staff";
    assert_eq!(office.call(WRITER, "PUT", deny, &[], Some(json!({"reason": ""}))).await.0, 422);
    assert_eq!(office.call(WRITER, "PUT", deny, &[], Some(json!({"reason": "leaves"}))).await.0, 204);
    assert_eq!(office.holds().await.0, names(&[]));
    assert_eq!(office.call(WRITER, "PUT", deny, &[], Some(json!({"reason": "again"}))).await.0, 409);
    assert_eq!(office.call(WRITER, "DELETE", deny, &[], None).await.0, 204);
    assert_eq!(office.holds().await.0, names(&["Staff"]));
    let (status, resynced, _) = office.call(WRITER, "POST", "/api/v1/users/oidc/alice/resync", &[], None).await;
    assert_eq!((status, resynced), (200, json!({"sessions": []})), "nobody has a session of ours in this mode");
    assert_eq!(office.call(WRITER, "POST", "/api/v1/users/oidc/nobody/resync", &[], None).await.0, 404);
    assert_eq!(office.call(WRITER, "POST", "/api/v1/users/oidc/alice/disable", &[], None).await.0, 204);
    let denied = office.get("/api/v1/audit?event=denied").await;
    assert_eq!(denied["items"][0]["detail"]["by"], "api client `writer` (v1)");
    let about = office.get("/api/v1/audit?namespace=oidc&subject=alice").await;
    assert_eq!(about["items"].as_array().unwrap().len(), 4, "{about:#}");
    let page = office.get("/api/v1/audit?limit=2").await;
    assert_eq!((page["items"].as_array().unwrap().len(), &page["next"]), (2, &page["items"][1]["sequence"]));
}

/// A deny that has ended by itself stands in the way of no other, and none begins that would bind nobody.
#[tokio::test(flavor = "multi_thread")]
async fn a_deny_that_is_over_is_no_deny() {
    let office = Office::open().await;
    office.login("1", &["staff"]).await;
    let deny = "/api/v1/users/oidc/alice/denies/group/Staff";
    let put = async |body: Value| office.call(WRITER, "PUT", deny, &[], Some(body)).await;
    let (status, problem, _) = put(json!({"reason": "typo", "until": "2020-01-01T00:00:00Z"})).await;
    assert!(status == 409 && problem["detail"].as_str().unwrap().contains("which is past"), "{problem}");
    assert_eq!(put(json!({"reason": "a while", "until": Timestamp(NOW.0 + 60_000).to_string()})).await.0, 204);
    assert_eq!(put(json!({"reason": "again"})).await.0, 409);
    assert_eq!(office.holds().await.0, names(&[]));
    office.house.clock.set(Timestamp(NOW.0 + 60_000));
    // Nothing has cleared it away yet, and it shows no more.
    assert_eq!(office.events("deny_ended").await.len(), 0);
    assert_eq!(office.holds().await, (names(&["Staff"]), names(&["editor"])));
    let view = office.get("/api/v1/users/oidc/alice").await;
    let denied = view["memberships"].as_array().unwrap().iter().filter(|one| one["denied"] == true);
    assert_eq!(denied.count(), 0, "{view:#}");
    assert_eq!(put(json!({"reason": "for good"})).await.0, 204);
    assert_eq!(office.holds().await.0, names(&[]));
    assert_eq!(office.events("deny_ended").await.len(), 1);
}

/// A name that is mistyped would deny no one.
#[tokio::test(flavor = "multi_thread")]
async fn a_user_in_a_namespace_of_no_provider_is_not_made() {
    let office = Office::open().await;
    for (what, body) in [("denies", Some(json!({"reason": "leaves"}))), ("assignments", None)] {
        let target = format!("/api/v1/users/oidcc/alice/{what}/group/Staff");
        let (status, problem, _) = office.call(WRITER, "PUT", &target, &[], body).await;
        assert_eq!(status, 422, "{problem}");
        let fault = &problem["errors"][0];
        assert_eq!((&fault["field"], &fault["value"]), (&json!("namespace"), &json!("oidcc")), "{problem}");
        assert!(fault["message"].as_str().unwrap().contains("expected `oidc`"), "{problem}");
    }
    let (status, ..) = office.call(READER, "GET", "/api/v1/users/oidcc/alice", &[], None).await;
    assert_eq!(status, 404);
    // One who came through a provider of before is denied and given things as anyone.
    let left = UserId { namespace: Namespace::parse("former").unwrap(), subject: Subject::parse("alice").unwrap() };
    let staff = Target::Group(GroupName::parse("Staff").unwrap());
    office.house.store().act(left, Act::Assign(staff), "test".into(), NOW).await.unwrap();
    let deny = "/api/v1/users/former/alice/denies/group/Staff";
    assert_eq!(office.call(WRITER, "PUT", deny, &[], Some(json!({"reason": "leaves"}))).await.0, 204);
}

/// Whoever reads a list page by page and deletes what it has read misses nothing.
#[tokio::test(flavor = "multi_thread")]
async fn api09_a_page_begins_where_the_one_before_ended_whatever_was_deleted() {
    let office = Office::open().await;
    let mut made = Vec::new();
    for number in 0..25 {
        made.push(office.post("/api/v1/mappings", short(&format!("value-{number}"), "Staff")).await["id"].clone());
    }
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = office.get(&format!("/api/v1/mappings?limit=4{cursor}")).await;
        for item in page["items"].as_array().unwrap() {
            seen.push(item["id"].clone());
            if item["origin"] == "store" {
                assert_eq!(office.delete(&format!("/api/v1/mappings/{}", item["id"].as_str().unwrap())).await, 204);
            }
        }
        let Some(next) = page["next"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    let of_store: Vec<Value> = seen.iter().filter(|id| made.contains(id)).cloned().collect();
    assert_eq!(of_store, made, "each once, in their order");
    assert!(seen.len() > made.len(), "those of the file, too");

    // What would come next may go as well; and when nothing of it is left, the list does not begin anew by itself.
    for number in 0..12 {
        office.post("/api/v1/mappings", short(&format!("again-{number}"), "Staff")).await;
    }
    let page = office.get("/api/v1/mappings?origin=store&limit=2").await;
    let ids: Vec<String> = office.get("/api/v1/mappings?origin=store").await["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["id"].as_str().unwrap().to_owned())
        .collect();
    let next = page["next"].as_str().unwrap();
    assert_eq!(office.delete(&format!("/api/v1/mappings/{}", ids[2])).await, 204);
    let target = format!("/api/v1/mappings?origin=store&limit=2&cursor={next}");
    assert_eq!(office.get(&target).await["items"][0]["id"], ids[3].as_str());
    for id in &ids[3..] {
        assert_eq!(office.delete(&format!("/api/v1/mappings/{id}")).await, 204);
    }
    let (status, problem, _) = office.call(ADMIN, "GET", &target, &[], None).await;
    assert_eq!((status, problem["type"].as_str()), (400, Some("urn:loginsync:problem:query")), "{problem}");
}

/// Names and keys are looked up in what there is now.
#[tokio::test(flavor = "multi_thread")]
async fn api10_look_ups_follow_changes() {
    let office = Office::open().await;
    let made = office.post("/api/v1/groups", json!({"name": "One"})).await;
    assert_eq!(office.get("/api/v1/groups/One").await["key"], made["key"]);
    let any = [("if-match", "*")];
    office.call(WRITER, "PATCH", "/api/v1/groups/One", &any, Some(json!({"name": "Two"}))).await;
    assert_eq!(office.call(ADMIN, "GET", "/api/v1/groups/One", &[], None).await.0, 404);
    assert_eq!(office.get("/api/v1/groups/Two").await["key"], made["key"]);
    let by_key = format!("/api/identity/v1/groups/{}", made["key"].as_str().unwrap().to_uppercase());
    assert_eq!(office.get(&by_key).await["name"], "Two");
    assert_eq!(office.delete("/api/v1/groups/Two").await, 204);
    assert_eq!(office.call(ADMIN, "GET", &by_key, &[], None).await.0, 404);
    assert_eq!(office.call(ADMIN, "GET", "/api/v1/groups/Two", &[], None).await.0, 404);
    let role = office.post("/api/v1/roles", json!({"name": "one"})).await;
    assert_eq!(office.get("/api/v1/roles/one").await["number"], role["number"]);
    assert_eq!(office.delete("/api/v1/roles/one").await, 204);
    assert_eq!(office.call(ADMIN, "GET", "/api/v1/roles/one", &[], None).await.0, 404);
}

/// `é` as one character and as two are one name to people, and `..` is a step in a path.
#[tokio::test(flavor = "multi_thread")]
async fn api11_names_that_nobody_could_tell_apart_or_reach_are_refused() {
    let office = Office::open().await;
    let app = office.get("/api/v1/providers/oidc").await["key"].as_str().unwrap().to_owned();
    let staff = office.get("/api/v1/groups/Staff").await["key"].as_str().unwrap().to_owned();
    let make = |path: &'static str, body: Value| office.call(WRITER, "POST", path, &[], Some(body));
    assert_eq!(make("/api/v1/groups", json!({"name": "Caf\u{e9}"})).await.0, 201);
    assert_eq!(make("/api/v1/groups", json!({"name": "Cafe\u{301}"})).await.0, 409);
    assert_eq!(make("/api/v1/groups", json!({"name": "CAFE\u{301}"})).await.0, 409);
    assert_eq!(make("/api/v1/roles", json!({"name": "r\u{e9}dacteur"})).await.0, 201);
    assert_eq!(make("/api/v1/roles", json!({"name": "re\u{301}dacteur"})).await.0, 409);
    let alias = json!({"alias": "cafe\u{301}", "hidden_from_end_user": false});
    let target = format!("/v1/idp-group-mappings/{app}/groups/{staff}");
    assert_eq!(office.call(WRITER, "POST", &target, &[], Some(alias)).await.0, 409);
    for name in [".", ".."] {
        for path in ["/api/v1/groups", "/api/v1/roles"] {
            let (status, problem, _) = make(path, json!({ "name": name })).await;
            assert_eq!(
                (status, problem["errors"][0]["field"].as_str()),
                (422, Some("name")),
                "{path} {name}: {problem}"
            );
        }
    }
    assert_eq!(make("/api/v1/groups", json!({"name": "..."})).await.0, 201);
}

/// Of several tags one has to be the newest.
#[tokio::test(flavor = "multi_thread")]
async fn api11_if_match_takes_a_list() {
    let office = Office::open().await;
    office.post("/api/v1/groups", json!({"name": "Team"})).await;
    let target = "/api/v1/groups/Team";
    let change = || Some(json!({"description": "x"}));
    for (tags, status) in [
        (&["\"7\", \"8\""][..], 412),
        (&["W/\"1\""], 412),
        (&["\"7\",\"1\""], 200),
        (&["\"1\", \"2\", \"x\""], 200),
        (&["\"9\"", "\"3\""], 200),
        (&["*, \"9\""], 412),
        (&[""], 400),
        (&["3"], 400),
        (&[" * "], 200),
    ] {
        let fields: Vec<(&str, &str)> = tags.iter().map(|tag| ("if-match", *tag)).collect();
        let (found, _, answer) = office.call(WRITER, "PATCH", target, &fields, change()).await;
        assert_eq!(found, status, "{tags:?}: {}", answer.body);
    }
}

/// What is wrong with a body is said in words of JSON, whatever type of ours reads it.
#[tokio::test(flavor = "multi_thread")]
async fn api11_no_type_of_ours_is_named_to_a_client() {
    let office = Office::open().await;
    let mapping = |when: Value, then: Value| json!({"definition": {"when": when, "then": then}});
    let is = |value: Value| mapping(json!([{"claim": "groups", "is": value}]), json!([{"add_group": "Staff"}]));
    let timbal = "/orgs/x/identity-providers/oidc/group-mappings";
    for (path, body, expected) in [
        ("/api/v1/groups", json!([]), "found an array; expected an object"),
        ("/api/v1/groups", json!(["a", "", [], [], false, false, true]), "found an array; expected an object"),
        ("/api/v1/groups", json!("x"), "found the string \\\"x\\\"; expected an object"),
        ("/api/v1/groups", json!({"name": "a", "brake": [1]}), "found an array; expected a boolean"),
        ("/api/v1/mappings", json!({"definition": ["a"]}), "found an array; expected an object"),
        ("/api/v1/mappings", mapping(json!([["groups", "x"]]), json!([])), "found an array; expected an object"),
        ("/api/v1/mappings", mapping(json!([]), json!([["Staff"]])), "found an array; expected an object"),
        ("/api/v1/plan", json!({"change": [null]}), "found an array; expected an object"),
        (
            "/api/v1/users/rekey",
            json!({"users": [[["oidc", "a"], ["oidc", "b"]]]}),
            "found an array; expected an object",
        ),
        ("/api/v1/users/rekey", json!({"users": [{"old": ["oidc", "a"], "new": {}}]}), "expected an object"),
        ("/api/v1/groups", json!({"name": 5}), "found `5`; expected a string"),
        ("/api/v1/groups", json!({"name": "a", "brake": {}}), "found an object; expected a boolean"),
        ("/api/v1/groups", json!({"name": "a", "roles": 1.5}), "found `1.5`; expected an array"),
        ("/api/v1/mappings", is(json!([])), "found an array; expected a string"),
        ("/api/v1/mappings", is(json!(true)), "found `true`; expected a string"),
        ("/api/v1/mappings", mapping(json!([]), json!(["x"])), "found the string \\\"x\\\"; expected an object"),
        (
            "/api/v1/mappings",
            json!({"definition": {"allow": {"oidc": 5}, "then": []}}),
            "expected a list of names, or `any`",
        ),
        ("/api/identity/v1/groups", json!([]), "found an array; expected an object"),
        (timbal, json!({"external_group": "t", "role_id": []}), "role_id: expected a number, or a text that is one"),
    ] {
        let (status, _, answer) = office.call(ADMIN, "POST", path, &[], Some(body)).await;
        assert!([400, 422].contains(&status) && answer.body.contains(expected), "{path}: {status} {}", answer.body);
        for word in ["struct", "enum", "invalid type", "sequence", "variant", "with 5 elements"] {
            assert!(!answer.body.contains(word), "{path}: {}", answer.body);
        }
    }
    let bearer = format!("Bearer {ADMIN}");
    for (body, expected) in [
        ("name=a", "is not JSON, as line 1 shows at column 2"),
        ("{\"name\":\n", "is not JSON, as line 2 shows at column 0"),
        ("{\"name\":\"a\",\"name\":\"b\"}", "duplicate field `name`"),
        ("{\"name\":\"a\"} {}", "holds more than one JSON value: something follows at line 1 column 14"),
    ] {
        let (headers, admin) = ([("authorization", bearer.as_str())], office.house.running.admin);
        let answer = office.house.send_to(admin, "POST", "/api/v1/groups", &headers, body.as_bytes()).await;
        assert!(answer.status == 422 && answer.body.contains(expected), "{body}: {} {}", answer.status, answer.body);
    }
    for list in ["mappings", "groups", "roles", "users", "groups/Staff/members"] {
        let all = office.get(&format!("/api/v1/{list}")).await;
        assert_eq!(office.get(&format!("/api/v1/{list}?cursor=")).await, all, "{list}: an empty cursor is none");
    }
    for (query, expected) in [("limit=x", "limit: expected a whole number"), ("bogus=1", "bogus: unknown field")] {
        let (_, problem, _) = office.call(ADMIN, "GET", &format!("/api/v1/mappings?{query}"), &[], None).await;
        assert!(problem["detail"].as_str().unwrap().starts_with(expected), "{problem}");
    }
}
