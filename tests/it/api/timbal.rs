//! Timbal's `/orgs/{org_id}/identity-providers`.

use serde_json::{Value, json};

use super::{ADMIN, Office, READER, WRITER, names, short};

const CONNECTION: &str = "/orgs/1/identity-providers/oidc";
const MAPPINGS: &str = "/orgs/1/identity-providers/oidc/group-mappings";

async fn role_number(office: &Office, name: &str) -> i64 {
    office.get(&format!("/api/v1/roles/{name}")).await["number"].as_i64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_gives_a_role_at_the_next_login_and_none_once_it_is_deleted() {
    let office = Office::open().await;
    office.post("/api/v1/roles", json!({"name": "analyst"})).await;
    let number = role_number(&office, "analyst").await;
    let body = json!({"external_group": "data", "role_id": number.to_string()});
    let (status, made, _) = office.call(WRITER, "POST", MAPPINGS, &[], Some(body.clone())).await;
    assert_eq!(status, 201, "{made:#}");
    assert_eq!((made["role_id"].clone(), made["provider_id"].clone()), (json!(number.to_string()), json!("oidc")));
    assert!(made["id"].is_string() && made["created_at"].is_i64() && made["updated_at"].is_i64(), "{made:#}");
    let (status, error, _) = office.call(WRITER, "POST", MAPPINGS, &[], Some(body)).await;
    assert_eq!((status, error["code"].as_str()), (409, Some("ALREADY_EXISTS")));
    assert_eq!(office.login("1", &["data"]).await.1, names(&["analyst"]));
    let list = office.get(MAPPINGS).await;
    assert_eq!(list["group_role_mappings"].as_array().unwrap().len(), 1);
    let target = format!("{MAPPINGS}/{}", made["id"].as_str().unwrap());
    assert_eq!(office.call(WRITER, "DELETE", &target, &[], None).await.0, 204);
    assert_eq!(office.holds().await.1, names(&[]));
    assert_eq!(office.call(WRITER, "DELETE", &target, &[], None).await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_file_maps_counts_and_several_groups_add_up() {
    let more = "[[mapping]]\nprovider = \"oidc\"\nclaim = \"groups\"\nvalue = \"of the file\"\nrole = \"editor\"\n";
    let office = Office::with(more).await;
    let editor = role_number(&office, "editor").await;
    let post = |group: &str, role: i64| {
        let body = json!({"external_group": group, "role_id": role});
        let office = &office;
        async move { office.call(WRITER, "POST", MAPPINGS, &[], Some(body)).await.0 }
    };
    assert_eq!(post("of the file", editor).await, 409);
    office.post("/api/v1/roles", json!({"name": "b"})).await;
    assert_eq!((post("x", editor).await, post("y", role_number(&office, "b").await).await), (201, 201));
    assert_eq!(office.login("1", &["x", "y"]).await.1, names(&["b", "editor"]));
    let list = office.get(MAPPINGS).await;
    let of_file = &list["group_role_mappings"][0];
    assert_eq!(of_file["external_group"], "of the file");
    let target = format!("{MAPPINGS}/{}", of_file["id"].as_str().unwrap());
    assert_eq!(office.call(WRITER, "DELETE", &target, &[], None).await.0, 403);
    assert_eq!(post("z", 987_654).await, 422);
    // One that gives a group is none of Timbal's.
    let made = office.post("/api/v1/mappings", short("g", "Staff")).await;
    let target = format!("{MAPPINGS}/{}", made["id"].as_str().unwrap());
    assert_eq!(office.call(WRITER, "DELETE", &target, &[], None).await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_default_role_is_held_by_whoever_matches_nothing() {
    let office = Office::open().await;
    let editor = role_number(&office, "editor").await;
    let target = format!("{CONNECTION}/default-role");
    let set = |role: Value| office.call(WRITER, "PUT", &target, &[], Some(json!({ "role_id": role })));
    let (status, view, _) = set(json!(editor)).await;
    assert_eq!((status, view["default_role_id"].as_str()), (200, Some(editor.to_string().as_str())), "{view:#}");
    assert_eq!(office.login("1", &["nothing"]).await, (names(&[]), names(&["editor"])));
    let (status, view, _) = set(Value::Null).await;
    assert_eq!((status, &view["default_role_id"]), (200, &Value::Null));
    assert_eq!(office.holds().await.1, names(&[]));
    assert_eq!(set(json!("x")).await.0, 422);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_read_and_say_where_they_are_written() {
    let office = Office::open().await;
    let list = office.get("/orgs/any/identity-providers").await;
    assert_eq!(list["identity_providers"].as_array().unwrap().len(), 2);
    let view = office.get(CONNECTION).await;
    assert_eq!(
        (view["kind"].as_str(), view["groups_claim"].as_str(), view["org_id"].as_str()),
        (Some("oidc"), Some("groups"), Some("1"))
    );
    for (method, target) in [("POST", "/orgs/1/identity-providers"), ("PATCH", CONNECTION), ("DELETE", CONNECTION)] {
        let (status, error, _) = office.call(ADMIN, method, target, &[], Some(json!({}))).await;
        assert_eq!((status, error["code"].as_str()), (403, Some("FORBIDDEN")), "{method}");
        assert!(error["message"].as_str().unwrap().contains("configuration file"), "{error}");
    }
    for target in
        ["/orgs/1/identity-providers/none", "/orgs/1/identity-providers/none/group-mappings", "/orgs/1/iam/roles/9999"]
    {
        let (status, error, _) = office.call(ADMIN, "GET", target, &[], None).await;
        assert_eq!((status, error["code"].as_str()), (404, Some("NOT_FOUND")), "{target}");
    }
    let roles = office.get("/orgs/1/iam/roles").await;
    let editor = role_number(&office, "editor").await.to_string();
    let found = roles["roles"].as_array().unwrap().iter().find(|role| role["name"] == "editor").unwrap();
    assert_eq!((found["id"].as_str(), found["system"].as_bool()), (Some(editor.as_str()), Some(true)));
    assert_eq!(office.get(&format!("/orgs/1/iam/roles/{editor}")).await["name"], "editor");
    assert_eq!(office.call(READER, "GET", CONNECTION, &[], None).await.0, 403);
    let nobody = office.house.send_to(office.house.running.admin, "GET", CONNECTION, &[], b"").await;
    assert_eq!(nobody.status, 401);
}
