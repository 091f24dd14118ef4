//! Many mappings in one call: all of them or none, with what they change; and mappings applied to people who do not log in.

use std::process::Command;

use serde_json::{Value, json};

use super::{ADMIN, Office, READER, WRITER, client, configuration, names, short};

const BULK: &str = "/api/v1/mappings/bulk";
const APPLY: &str = "/api/v1/mappings/apply";
const MAPPER: &str = "test-only-mapper-ddddddddddddddddddddddddddd";
const ANY: (&str, &str) = ("if-match", "*");

impl Office {
    async fn bulk(&self, secret: &str, tag: (&str, &str), apply: bool, changes: Value) -> (u16, Value) {
        let body = json!({"apply": apply, "changes": changes});
        let (status, answer, _) = self.call(secret, "POST", BULK, &[tag], Some(body)).await;
        (status, answer)
    }

    /// Values, places and versions of the store's mappings in their order.
    async fn listed(&self) -> Vec<(String, Value, Value)> {
        let list = self.get("/api/v1/mappings?origin=store&limit=1000").await;
        let each = list["items"].as_array().unwrap().iter();
        let value = |one: &Value| one["definition"]["when"][0]["is"].as_str().unwrap().to_owned();
        each.map(|one| (value(one), one["position"].clone(), one["version"].clone())).collect()
    }
}

fn fields(problem: &Value) -> Vec<&str> {
    let errors = problem["errors"].as_array().unwrap_or_else(|| panic!("{problem:#}"));
    errors.iter().map(|one| one["field"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn api03_many_mappings_change_in_one_call_with_their_plan() {
    let office = Office::open().await;
    for group in ["One", "Two", "Three"] {
        office.post("/api/v1/groups", json!({"name": group})).await;
    }
    let mut ids = Vec::new();
    for (value, group) in [("a", "One"), ("b", "Two"), ("c", "Three")] {
        let made = office.post("/api/v1/mappings", short(value, group)).await;
        ids.push(made["id"].as_str().unwrap().to_owned());
    }
    assert_eq!(office.login("1", &["a", "c", "d"]).await.0, names(&["One", "Three"]));

    let mut first = short("d", "Two");
    first["position"] = json!(1);
    let edited = json!({"id": ids[0], "version": 1, "definition": short("a", "Two")["definition"]});
    let changes = json!([first, edited, {"id": ids[2]}, short("e", "One")]);
    // Without `apply` it is a plan, and nothing else.
    let (generation, audit) = (office.house.events().await.len(), office.listed().await);
    let (status, planned) = office.bulk(WRITER, ANY, false, changes.clone()).await;
    assert_eq!((status, &planned["applied"]), (200, &json!(false)), "{planned:#}");
    let results: Vec<&str> =
        planned["changes"].as_array().unwrap().iter().map(|one| one["result"].as_str().unwrap()).collect();
    assert_eq!(results, ["created", "changed", "deleted", "created"]);
    assert_eq!((planned["changes"][0].get("id"), &planned["changes"][1]["id"]), (None, &json!(ids[0])));
    let (gains, losses) = (&planned["plan"]["details"][0]["gains"], &planned["plan"]["details"][0]["losses"]);
    assert_eq!(gains, &json!([{"kind": "group", "name": "Two"}]), "{planned:#}");
    assert_eq!(losses, &json!([{"kind": "group", "name": "One"}, {"kind": "group", "name": "Three"}]));
    assert_eq!((office.house.events().await.len(), office.listed().await), (generation, audit));

    let (status, done) = office.bulk(WRITER, ANY, true, changes).await;
    assert_eq!((status, &done["applied"]), (200, &json!(true)), "{done:#}");
    assert_eq!((&done["plan"]["details"], &done["changes"][1]["version"]), (&planned["plan"]["details"], &json!(2)));
    let order = [("d", 1, 1), ("a", 2, 2), ("b", 3, 1), ("e", 4, 1)];
    let order: Vec<_> = order.iter().map(|(v, p, n)| ((*v).to_owned(), json!(p), json!(n))).collect();
    assert_eq!(office.listed().await, order);
    let fresh = office.get(&format!("/api/v1/mappings/{}", done["changes"][3]["id"].as_str().unwrap())).await;
    assert_eq!(fresh["definition"]["when"][0]["is"], "e");
    assert_eq!(office.holds().await.0, names(&["One"]), "what a deleted one gave ends at once");
    assert_eq!(office.login("2", &["a", "c", "d"]).await.0, names(&["Two"]), "as it was told");
    let told = (office.events("mapping_created").await.len(), office.events("mapping_deleted").await.len());
    assert_eq!((told, office.events("mapping_changed").await.len()), ((5, 1), 1));
}

/// Everything that is wrong is named at once, and nothing is written.
#[tokio::test(flavor = "multi_thread")]
async fn api03_one_fault_among_many_changes_leaves_all_unwritten() {
    let office = Office::open().await;
    let named = |name: &str, value: &str| {
        let mut one = short(value, "Staff");
        one["definition"]["name"] = json!(name);
        one
    };
    let mut ids = Vec::new();
    for one in [named("first", "a"), named("second", "b"), short("c", "Staff")] {
        ids.push(office.post("/api/v1/mappings", one).await["id"].as_str().unwrap().to_owned());
    }
    let of_file = office.get("/api/v1/mappings?origin=file").await["items"][0]["id"].clone();
    let before = office.listed().await;
    let with_id = |id: &str, one: &Value| json!({"id": id, "definition": one["definition"]});
    let mut stale = with_id(&ids[2], &short("z", "Staff"));
    stale["version"] = json!(7);
    let (status, problem) = office
        .bulk(
            WRITER,
            ANY,
            true,
            json!([
                short("new", "Staff"),
                short("x", "Stff"),
                {"id": "9999"},
                {"id": of_file},
                stale,
                {"id": ids[0]},
                {"id": ids[0]},
                {},
                named("SECOND", "y"),
                short("new", "Staff"),
            ]),
        )
        .await;
    let expected = [
        "changes[1].definition.then[0].add_group",
        "changes[2].id",
        "changes[3].id",
        "changes[4].version",
        "changes[6].id",
        "changes[7].definition",
        "changes[0].definition",
        "changes[8].definition.name",
        "changes[9].definition",
    ];
    assert_eq!((status, fields(&problem)), (422, expected.to_vec()), "{problem:#}");
    for (changes, expected) in [
        (json!([{"id": "x"}, {"id": ids[0], "position": 1}]), vec!["changes[0].id", "changes[1].position"]),
        (json!([{"definition": short("x", "Staff")["definition"], "position": 0}]), vec!["changes[0].position"]),
    ] {
        let (status, problem) = office.bulk(WRITER, ANY, true, changes).await;
        assert_eq!((status, fields(&problem)), (422, expected), "{problem:#}");
    }
    // What has the wrong shape hides nothing of the others, in shape or content.
    let (status, problem) = office
        .bulk(
            WRITER,
            ANY,
            true,
            json!([
                {"id": 7, "positoin": 1},
                {"definition": {"when": {}, "then": [{"add_group": 5}]}},
                short("x", "Stff"),
                "delete",
                ["9999"],
                {"id": "x"},
                {"id": "9999"},
                short("fine", "Staff"),
            ]),
        )
        .await;
    let expected = [
        "changes[0].positoin",
        "changes[0].id",
        "changes[1].definition.then[0].add_group",
        "changes[1].definition.when",
        "changes[2].definition.then[0].add_group",
        "changes[3]",
        "changes[4]",
        "changes[5].id",
        "changes[6].id",
    ];
    let mut found = fields(&problem);
    found.sort_unstable();
    let mut sorted = expected.to_vec();
    sorted.sort_unstable();
    assert_eq!((status, found), (422, sorted), "{problem:#}");
    assert_eq!(office.listed().await, before, "nothing was written");

    // Names may change hands in one call.
    let swapped = json!([with_id(&ids[0], &named("second", "a")), with_id(&ids[1], &named("first", "b")), {"id": ids[2]}, named("third", "c")]);
    let (status, done) = office.bulk(WRITER, ANY, true, swapped).await;
    assert_eq!(status, 200, "{done:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn api03_a_bulk_call_takes_the_scopes_of_what_it_does_and_tells() {
    let mapper = client("mapper", MAPPER, r#"["mappings:write"]"#, "");
    let keyless = client("looker", "test-only-looker-eeeeeeeeeeeeeeeeeeeeeeeeeee", r#"["read", "mappings:write"]"#, "");
    let office = Office::with(&format!("{mapper}\n{keyless}")).await;
    let looker = "test-only-looker-eeeeeeeeeeeeeeeeeeeeeeeeeee";
    let one = json!([short("x", "Staff")]);
    let disabling = json!([{"definition": {"name": "leavers", "when": [{"claim": "groups", "is": "gone"}], "then": [{"disable_user": true}]}}]);
    for (secret, changes, expected) in [
        (READER, &one, 403),
        (MAPPER, &one, 403),
        (looker, &one, 200),
        (looker, &disabling, 403),
        (WRITER, &disabling, 200),
        (ADMIN, &one, 200),
    ] {
        let (status, answer) = office.bulk(secret, ANY, false, changes.clone()).await;
        assert_eq!(status, expected, "{answer:#}");
    }
    // Two writers: the version of the list.
    let body = json!({"apply": true, "changes": one});
    let (status, ..) = office.call(WRITER, "POST", BULK, &[], Some(body)).await;
    assert_eq!(status, 428);
    let (_, _, listed) = office.call(WRITER, "GET", "/api/v1/mappings", &[], None).await;
    let tag = listed.headers["etag"].to_str().unwrap().to_owned();
    assert_eq!(office.bulk(WRITER, ("if-match", "\"1234567\""), true, one.clone()).await.0, 412);
    assert_eq!(office.bulk(WRITER, ("if-match", &tag), true, one.clone()).await.0, 200);
    let (status, _) = office.bulk(WRITER, ("if-match", &tag), true, json!([short("y", "Staff")])).await;
    assert_eq!(status, 412, "the list has changed");
    for (secret, expected) in [(READER, 403), (looker, 403), (MAPPER, 403), (WRITER, 200), (ADMIN, 200)] {
        let (status, answer, _) = office.call(secret, "POST", APPLY, &[], Some(json!({}))).await;
        assert_eq!(status, expected, "{answer:#}");
    }
    for body in [json!({"after": -1}), json!({"aftr": 1})] {
        assert_eq!(office.call(WRITER, "POST", APPLY, &[], Some(body)).await.0, 422);
    }
}

const TIGHT: &str = "[brake]\nminimum = 0\nshare = \"0%\"\n";

#[tokio::test(flavor = "multi_thread")]
async fn api03_the_brake_stops_a_bulk_call_as_a_whole() {
    let office = Office::with(TIGHT).await;
    office.post("/api/v1/groups", json!({"name": "One"})).await;
    let id = office.post("/api/v1/mappings", short("a", "One")).await["id"].clone();
    assert_eq!(office.login("1", &["a"]).await.0, names(&["One"]));
    let changes = json!([{"id": id}, short("b", "One")]);
    let (_, planned) = office.bulk(WRITER, ANY, false, changes.clone()).await;
    assert_eq!(planned["plan"]["brake_refuses"][0]["name"], "One", "{planned:#}");
    let (status, problem) = office.bulk(WRITER, ANY, true, changes.clone()).await;
    assert_eq!((status, office.listed().await.len()), (409, 1), "{problem:#}");
    let body = json!({"apply": true, "changes": changes});
    let (status, ..) = office.call(WRITER, "POST", &format!("{BULK}?confirm=true"), &[ANY], Some(body)).await;
    assert_eq!((status, office.holds().await.0), (200, names(&[])));
}

/// As many as an import has, in one call.
#[tokio::test(flavor = "multi_thread")]
async fn api03_thousands_of_mappings_are_imported_in_one_call() {
    let office = Office::open().await;
    let changes: Vec<Value> = (0..3000).map(|number| short(&format!("value-{number}"), "Staff")).collect();
    let (status, done) = office.bulk(WRITER, ANY, true, json!(changes)).await;
    assert_eq!((status, done["changes"].as_array().map(Vec::len)), (200, Some(3000)));
    assert_eq!(office.login("1", &["value-2999"]).await.0, names(&["Staff"]));
    // And taken away again.
    let gone: Vec<Value> =
        done["changes"].as_array().unwrap().iter().map(|one| json!({"id": one["id"], "version": 1})).collect();
    let (status, done) = office.bulk(WRITER, ANY, true, json!(gone)).await;
    assert_eq!((status, office.listed().await.len()), (200, 0), "{done:#}");
    assert_eq!(office.holds().await.0, names(&[]));
}

/// An edited mapping reaches people who do not log in where an operator asks for it once, by API or command; the brake watches.
#[tokio::test(flavor = "multi_thread")]
async fn api12_mappings_are_applied_to_everyone_when_asked() {
    let office = Office::open().await;
    for group in ["One", "Two"] {
        office.post("/api/v1/groups", json!({"name": group})).await;
    }
    let id = office.post("/api/v1/mappings", short("a", "One")).await["id"].as_str().unwrap().to_owned();
    assert_eq!(office.login("1", &["a"]).await.0, names(&["One"]));
    let (status, ..) =
        office.call(WRITER, "PUT", &format!("/api/v1/mappings/{id}"), &[ANY], Some(short("a", "Two"))).await;
    assert_eq!((status, office.holds().await.0), (200, names(&["One"])), "until the next login");
    let (status, done, _) = office.call(WRITER, "POST", APPLY, &[], Some(json!({}))).await;
    assert_eq!((status, &done), (200, &json!({"people": 1, "changed": 1})));
    assert_eq!(office.holds().await.0, names(&["Two"]));
    let rows = office.events("replanned").await;
    assert_eq!((&rows[0]["why"], &rows[0]["by"]), (&json!("asked"), &json!("api client `writer` (v1)")), "{rows:?}");
    let (_, done, _) = office.call(WRITER, "POST", APPLY, &[], Some(json!({}))).await;
    assert_eq!(done, json!({"people": 1, "changed": 0}), "twice is once");

    // The command, with a brake that lets nothing go: what is new comes, and the loss is held.
    let (status, ..) =
        office.call(WRITER, "PUT", &format!("/api/v1/mappings/{id}"), &[ANY], Some(short("a", "One"))).await;
    assert_eq!(status, 200);
    let file = office.house.folder.path().join("loginsync.toml");
    let fixtures = format!("{}/fixtures/", env!("CARGO_MANIFEST_DIR"));
    std::fs::write(&file, configuration(TIGHT).replace("fixtures/", &fixtures)).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_loginsync"));
    let output = command.args(["mapping", "apply", "--by", "carol", "--json", "--config"]).arg(&file).output().unwrap();
    let told: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    assert_eq!((told, output.status.code()), (json!({"people": 1, "changed": 1}), Some(0)));
    assert_eq!(office.holds().await.0, names(&["One", "Two"]));
    let rows = office.events("replanned").await;
    let last = rows.last().unwrap();
    assert_eq!((&last["by"], &last["held"]), (&json!("cli:carol"), &json!(["group `Two`"])), "{last}");
}
