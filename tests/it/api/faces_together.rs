//! All four faces over one model: a mapping made through each, one login that gains by every one, each mapping deleted through
//! its own face, and one login that loses all.

use loginsync::pipeline::ids::Timestamp;
use serde_json::{Value, json};

use super::{Office, WRITER, names};
use crate::attacks::{FORM, LEAVE, claims, form, signed};
use crate::kit::NOW;

const ONELOGIN: &str = "/api/2/mappings";
const TIMBAL: &str = "/orgs/1/identity-providers/oidc/group-mappings";
const ODC: &str = "/api/identity/v1";

/// A call that must come to this.
async fn expect(office: &Office, status: u16, method: &str, target: &str, body: Option<Value>) -> Value {
    let (found, value, answer) = office.call(WRITER, method, target, &[], body).await;
    assert_eq!(found, status, "{method} {target}: {}", answer.body);
    value
}

/// A login of alice who is in the groups that all four know; what she then holds, and what the app is told of it.
async fn login(office: &Office, second: i64) -> (Vec<String>, Vec<String>, [Option<String>; 2]) {
    office.house.clock.set(Timestamp(NOW.0 + 1_000 * second));
    let cookies = office.house.leave(LEAVE).await;
    let mut login = claims(&format!("together-{second}"));
    login["groups"] = json!(["of-onelogin", "of-timbal", "of-odc"]);
    let body = form(&[("id_token", &signed(&login)), ("state", "state-1")]);
    let headers = [("cookie", cookies.as_str()), ("content-type", FORM.1)];
    let answer = office.house.send("POST", "/callback", &headers, body.as_bytes()).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let seen = office.house.app.seen();
    let told = ["x-loginsync-groups", "x-loginsync-roles"]
        .map(|name| seen.last().unwrap().headers.get(name).map(|value| value.to_str().unwrap().to_owned()));
    let (groups, roles) = office.holds().await;
    (groups, roles, told)
}

fn said(groups: &str, roles: &str) -> [Option<String>; 2] {
    [groups, roles].map(|names| (!names.is_empty()).then(|| names.to_owned()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mapping_of_each_face_gives_at_one_login_and_its_end_takes_it_back() {
    let office = Office::open().await;
    let provider = office.get("/api/v1/providers/oidc").await["key"].as_str().unwrap().to_owned();
    let mut roles = Vec::new();
    for role in ["by-onelogin", "by-timbal", "carried"] {
        roles.push(office.post("/api/v1/roles", json!({"name": role})).await);
    }
    let before = login(&office, 1).await;
    assert_eq!(before, (names(&[]), names(&[]), said("", "")));

    // One through each.
    let body = json!({
        "name": "of onelogin", "match": "all", "enabled": true, "position": null,
        "conditions": [{"source": "groups", "operator": "=", "value": "of-onelogin"}],
        "actions": [{"action": "add_role", "value": [roles[0]["number"].to_string()]}],
    });
    let of_onelogin = expect(&office, 201, "POST", ONELOGIN, Some(body)).await["id"].as_i64().unwrap();
    let body = json!({"external_group": "of-timbal", "role_id": roles[1]["number"]});
    let of_timbal = expect(&office, 201, "POST", TIMBAL, Some(body)).await["id"].as_str().unwrap().to_owned();
    let body = json!({"name": "Of ODC", "applicationRoleKeys": [roles[2]["key"]]});
    let made = expect(&office, 201, "POST", &format!("{ODC}/groups"), Some(body)).await;
    let group = made["key"].as_str().unwrap();
    let of_odc = format!("{ODC}/groups/{group}/claim-mappings");
    let body = json!({"providerKey": provider, "foreignClaim": {"name": "groups", "value": "of-odc"}});
    let made = expect(&office, 201, "POST", &of_odc, Some(body)).await;
    let of_odc = format!("{of_odc}/{}", made["key"].as_str().unwrap());
    let of_opal = format!("/v1/idp-group-mappings/{provider}/groups/{group}");
    expect(&office, 200, "POST", &of_opal, Some(json!({"alias": "Known To The App"}))).await;

    // One login gains by all: three grants, one role through the group, and the group goes by Opal's name for it.
    let all_roles = ["by-onelogin", "by-timbal", "carried"];
    let gained = (names(&["Of ODC"]), names(&all_roles), said("Known To The App", &all_roles.join(",")));
    assert_eq!(login(&office, 2).await, gained);
    let granted = office.events("login").await.pop().unwrap();
    assert_eq!(granted["added"].as_array().unwrap().len(), 3, "{granted:#}");

    // The same model: each sees of the others what it can say.
    let listed = office.get("/api/v1/mappings?origin=store").await;
    assert_eq!(listed["items"].as_array().unwrap().len(), 3, "{listed:#}");

    // Each deleted through its own face ends what it gave, and nothing else.
    expect(&office, 200, "DELETE", &of_opal, None).await;
    assert_eq!(login(&office, 3).await.2, said("Of ODC", &all_roles.join(",")), "its own name again");
    expect(&office, 204, "DELETE", &format!("{ONELOGIN}/{of_onelogin}"), None).await;
    assert_eq!(office.holds().await, (names(&["Of ODC"]), names(&["by-timbal", "carried"])));
    expect(&office, 204, "DELETE", &format!("{TIMBAL}/{of_timbal}"), None).await;
    assert_eq!(office.holds().await, (names(&["Of ODC"]), names(&["carried"])));
    expect(&office, 204, "DELETE", &of_odc, None).await;

    // One login that loses all.
    assert_eq!(login(&office, 4).await, (names(&[]), names(&[]), said("", "")));
    for gone in [&of_opal, &format!("{ONELOGIN}/{of_onelogin}")] {
        expect(&office, 404, "GET", gone, None).await;
    }
    assert_eq!(expect(&office, 200, "GET", TIMBAL, None).await["group_role_mappings"], json!([]));
    let left = expect(&office, 200, "GET", &format!("{ODC}/groups/{group}"), None).await;
    assert_eq!(left["groupIdpClaimMappings"], json!([]));
    assert!(office.get("/api/v1/mappings?origin=store").await["items"].as_array().unwrap().is_empty());
}

/// Whoever gained by all of them, and was away while they were deleted, has lost all at the next login.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_claims_no_longer_say_is_lost_at_one_login() {
    let office = Office::open().await;
    let role = office.post("/api/v1/roles", json!({"name": "by-timbal"})).await;
    office.post("/api/v1/groups", json!({"name": "Of ODC"})).await;
    let body = json!({"external_group": "of-timbal", "role_id": role["number"]});
    expect(&office, 201, "POST", TIMBAL, Some(body)).await;
    office.post("/api/v1/mappings", super::short("of-odc", "Of ODC")).await;
    assert_eq!(login(&office, 1).await.0, names(&["Of ODC"]));
    office.house.clock.set(Timestamp(NOW.0 + 5_000));
    assert_eq!(office.login("none-left", &[]).await, (names(&[]), names(&[])));
}
