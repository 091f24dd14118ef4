//! Opal's `/idp-group-mappings`.

use serde_json::{Value, json};

use super::{ADMIN, Office, READER, WRITER, client};
use crate::attacks::{FORM, LEAVE, claims, form, signed};

async fn key_of(office: &Office, target: &str) -> String {
    office.get(target).await["key"].as_str().unwrap().to_owned()
}

/// What the app is told at a login of `alice`, as a header.
async fn told(office: &Office, jti: &str, header: &str) -> Option<String> {
    let cookies = office.house.leave(LEAVE).await;
    let body = form(&[
        (
            "id_token",
            &signed(&{
                let mut login = claims(jti);
                login["groups"] = json!(["staff", "admins"]);
                login
            }),
        ),
        ("state", "state-1"),
    ]);
    let headers = [("cookie", cookies.as_str()), ("content-type", FORM.1)];
    assert_eq!(office.house.send("POST", "/callback", &headers, body.as_bytes()).await.status, 200);
    let seen = office.house.app.seen();
    seen.last().unwrap().headers.get(header).map(|value| value.to_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alias_is_what_the_app_hears_and_hidden_is_no_authorization() {
    let office = Office::open().await;
    let app = key_of(&office, "/api/v1/providers/oidc").await;
    let staff = key_of(&office, "/api/v1/groups/Staff").await;
    let target = format!("/v1/idp-group-mappings/{app}/groups/{staff}");
    assert_eq!(told(&office, "1", "x-loginsync-groups").await.unwrap(), "Administrators,Staff");
    // No body at all, as the Python client sends it.
    let (status, made, _) = office.call(WRITER, "POST", &target, &[("content-type", "application/json")], None).await;
    let expected = json!({"app_resource_id": app, "group_id": staff, "hidden_from_end_user": false});
    assert_eq!((status, made), (200, expected));
    let change = |body: Value| office.call(WRITER, "POST", &target, &[], Some(body));
    assert_eq!(change(json!({"alias": "Crew"})).await.1["alias"], "Crew");
    assert_eq!(change(json!({"hidden_from_end_user": true})).await.1["alias"], "Crew", "absent keeps");
    assert_eq!(told(&office, "2", "x-loginsync-groups").await.unwrap(), "Administrators,Crew");
    assert_eq!(told(&office, "3", "x-loginsync-hidden-groups").await.unwrap(), "Crew");
    assert_eq!(office.holds().await.0, ["Administrators", "Staff"], "what is held is held");
    assert_eq!(change(json!({"alias": null})).await.1["alias"], Value::Null, "null clears");
    assert_eq!(told(&office, "4", "x-loginsync-groups").await.unwrap(), "Administrators,Staff");
    // 200 for a deletion too, and then it is gone.
    assert_eq!(office.call(WRITER, "DELETE", &target, &[], None).await.0, 200);
    assert_eq!(office.call(WRITER, "DELETE", &target, &[], None).await.0, 404);
    assert_eq!(office.call(ADMIN, "GET", &target, &[], None).await.0, 404);
    assert_eq!(told(&office, "5", "x-loginsync-hidden-groups").await, None);
    assert_eq!(office.events("exposure_set").await.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_replaced_whole_and_an_alias_passes_for_nothing_else() {
    let office = Office::open().await;
    let app = key_of(&office, "/api/v1/providers/oidc").await;
    let staff = key_of(&office, "/api/v1/groups/Staff").await;
    let others = key_of(&office, "/api/v1/groups/Administrators").await;
    let target = format!("/idp-group-mappings/{app}");
    let put = |list: Value| office.call(WRITER, "PUT", &target, &[], Some(json!({ "mappings": list })));
    let both = json!([{"group_id": staff, "alias": "A"}, {"group_id": others, "hidden_from_end_user": true}]);
    let (status, list, _) = put(both).await;
    assert_eq!((status, list["mappings"].as_array().unwrap().len()), (200, 2));
    let (status, list, _) = put(json!([{"group_id": staff}])).await;
    assert_eq!(
        (status, &list["mappings"][0]["alias"], list["mappings"].as_array().unwrap().len()),
        (200, &Value::Null, 1)
    );
    for (list, status) in [
        (json!([{"alias": "x"}]), 400),
        (json!([{"group_id": "4baf8423-db0a-4037-a4cf-f79c60000000"}]), 404),
        (json!([{"group_id": staff}, {"group_id": staff}]), 400),
        (json!([{"group_id": staff, "alias": "EDITOR"}]), 409),
        (json!([{"group_id": staff, "alias": "administrators"}]), 409),
        (json!([{"group_id": staff, "alias": "x"}, {"group_id": others, "alias": "X"}]), 409),
        (json!([{"group_id": staff, "alias": " x"}]), 400),
    ] {
        let (found, error, _) = put(list.clone()).await;
        assert_eq!((found, error["code"].as_u64()), (status, Some(u64::from(status))), "{list} {error}");
    }
    let unknown = format!("/idp-group-mappings/{staff}");
    assert_eq!(office.call(ADMIN, "GET", &unknown, &[], None).await.0, 404);
    assert_eq!(office.call(READER, "GET", &target, &[], None).await.0, 403, "another face alone");
    assert_eq!(office.call("wrong", "GET", &target, &[], None).await.0, 401);
    // No group may take the name of an alias, and a privileged one takes none.
    put(json!([{"group_id": staff, "alias": "Crew"}])).await;
    assert_eq!(office.call(WRITER, "POST", "/api/v1/groups", &[], Some(json!({"name": "crew"}))).await.0, 409);
    office.call(ADMIN, "POST", "/api/v1/groups", &[], Some(json!({"name": "Owners", "roles": ["owner"]}))).await;
    let owners = key_of(&office, "/api/v1/groups/Owners").await;
    let target = format!("/v1/idp-group-mappings/{app}/groups/{owners}");
    assert_eq!(office.call(ADMIN, "POST", &target, &[], Some(json!({"alias": "Boss"}))).await.0, 403);
}

/// Where the schema says text there is no null.
#[tokio::test(flavor = "multi_thread")]
async fn api07_a_group_without_an_alias_has_no_such_field() {
    let office = Office::open().await;
    let app = key_of(&office, "/api/v1/providers/oidc").await;
    let staff = key_of(&office, "/api/v1/groups/Staff").await;
    let expected = json!({"app_resource_id": app, "group_id": staff, "hidden_from_end_user": false});
    let list = format!("/v1/idp-group-mappings/{app}");
    let target = format!("{list}/groups/{staff}");
    assert_eq!(office.call(WRITER, "POST", &target, &[], Some(json!({"alias": "Crew"}))).await.1["alias"], "Crew");
    assert_eq!(office.call(WRITER, "POST", &target, &[], Some(json!({"alias": null}))).await.1, expected);
    assert_eq!(office.get(&target).await, expected);
    assert_eq!(office.get(&list).await, json!({ "mappings": [expected] }));
}

/// The answer to what is left out would tell what is there.
#[tokio::test(flavor = "multi_thread")]
async fn api11_a_client_without_read_learns_no_alias() {
    let blind = "test-only-blind-dddddddddddddddddddddddddddd";
    let office = Office::with(&client("blind", blind, r#"["mappings:write"]"#, "")).await;
    let app = key_of(&office, "/api/v1/providers/oidc").await;
    let staff = key_of(&office, "/api/v1/groups/Staff").await;
    let target = format!("/v1/idp-group-mappings/{app}/groups/{staff}");
    assert_eq!(office.call(WRITER, "POST", &target, &[], Some(json!({"alias": "Crew"}))).await.0, 200);
    for body in [None, Some(json!({})), Some(json!({"hidden_from_end_user": true})), Some(json!({"alias": "Other"}))] {
        let (status, told, answer) = office.call(blind, "POST", &target, &[], body.clone()).await;
        assert_eq!(status, 403, "{body:?}: {}", answer.body);
        assert!(!told.to_string().contains("Crew"), "{told}");
    }
    let whole = json!({"alias": "Other", "hidden_from_end_user": true});
    assert_eq!(office.call(blind, "POST", &target, &[], Some(whole)).await.0, 200);

    // The same of what else answers more than was sent.
    office.post("/api/v1/groups", json!({"name": "Team", "description": "secret", "roles": ["editor"]})).await;
    office.post("/api/v1/roles", json!({"name": "lead", "description": "secret"})).await;
    for target in ["/api/v1/groups/Team", "/api/v1/roles/lead"] {
        let (status, _, answer) = office.call(blind, "PATCH", target, &[("if-match", "*")], Some(json!({}))).await;
        assert_eq!((status, answer.body.as_str()), (204, ""), "{target}");
        assert_eq!(answer.headers["etag"], "\"2\"", "{target}");
        let (status, told, _) = office.call(WRITER, "PATCH", target, &[("if-match", "*")], Some(json!({}))).await;
        assert_eq!((status, told["description"].as_str()), (200, Some("secret")), "{target}");
    }
    let default = "/orgs/1/identity-providers/oidc/default-role";
    assert_eq!(office.call(blind, "PUT", default, &[], Some(json!({"role_id": null}))).await.0, 403);
}
