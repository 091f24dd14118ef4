//! OneLogin's user mappings: its own samples, and what its clients are known to send.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use loginsync::pipeline::ids::Timestamp;
use serde_json::{Value, json};

use super::{ELSEWHERE, Office, READER, SECRET};
use crate::kit::NOW;

const MAPPINGS: &str = "/api/2/mappings";

/// The vendor's sample request.
fn sample() -> Value {
    json!({
        "name": "My Second Mapping", "match": "all", "enabled": true, "position": null,
        "conditions": [{"source": "last_login", "operator": ">", "value": "90"}],
        "actions": [{"action": "set_status", "value": ["2"]}],
    })
}

fn mapping(name: &str, changes: &Value) -> Value {
    let mut mapping = json!({
        "name": name, "match": "all", "enabled": true, "position": null,
        "conditions": [{"source": "member_of", "operator": "~", "value": "CN=Leads"}],
        "actions": [{"action": "set_employee_id", "value": ["7"]}],
    });
    for (key, value) in changes.as_object().unwrap() {
        mapping[key] = value.clone();
    }
    mapping
}

/// A problem of fields, each with its only text.
fn invalid(errors: &[(&str, &str)]) -> Value {
    let errors: Vec<Value> = errors.iter().map(|(field, text)| json!({"field": field, "message": [text]})).collect();
    json!({"code": 422, "message": "Validation Failed", "errors": errors})
}

async fn create(office: &Office, body: &Value) -> i64 {
    office.expect(201, "POST", MAPPINGS, body).await["id"].as_i64().unwrap()
}

async fn number_of(office: &Office, list: &str, name: &str) -> String {
    let choices = office.expect(200, "GET", &format!("{MAPPINGS}/{list}/values"), &Value::Null).await;
    let found = choices.as_array().unwrap().iter().find(|choice| choice["name"] == name);
    found.unwrap_or_else(|| panic!("{name} in {choices}"))["value"].as_i64().unwrap().to_string()
}

/// Names and positions, in the order of the list.
async fn listed(office: &Office, query: &str) -> Vec<(String, Option<i64>)> {
    let list = office.expect(200, "GET", &format!("{MAPPINGS}{query}"), &Value::Null).await;
    let pair = |one: &Value| (one["name"].as_str().unwrap().to_owned(), one["position"].as_i64());
    list.as_array().unwrap().iter().map(pair).collect()
}

fn numbered(names: &[&str]) -> Vec<(String, Option<i64>)> {
    names.iter().zip(1..).map(|(name, position)| ((*name).to_owned(), Some(position))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_samples_of_the_vendor() {
    let office = Office::open().await;
    let made = office.expect(201, "POST", MAPPINGS, &sample()).await;
    let id = made["id"].as_i64().unwrap();
    assert_eq!(made, json!({"id": id}), "the number alone");
    let mut whole = sample();
    (whole["id"], whole["position"]) = (json!(id), json!(1));
    assert_eq!(office.expect(200, "GET", &format!("{MAPPINGS}/{id}"), &Value::Null).await, whole);
    assert_eq!(office.expect(200, "GET", MAPPINGS, &Value::Null).await, json!([whole]));

    // The curl sample sends one text in place of a list; the answer is a list.
    let mut text = sample();
    (text["name"], text["actions"][0]["value"]) = (json!("as text"), json!("3"));
    let second = create(&office, &text).await;
    let seen = office.expect(200, "GET", &format!("{MAPPINGS}/{second}"), &Value::Null).await;
    assert_eq!(seen["actions"], json!([{"action": "set_status", "value": ["3"]}]));
    assert_eq!(seen["position"], 2);

    let unauthorized = json!({"message": "Unauthorized", "statusCode": 401, "name": "UnauthorizedError"});
    for headers in [&[][..], &[("authorization", "bearer wrong")], &[("authorization", SECRET)]] {
        let reply = office.call("POST", MAPPINGS, headers, &sample().to_string()).await;
        assert_eq!((reply.status, reply.json()), (401, unauthorized.clone()));
    }
    let mut without = sample();
    without.as_object_mut().unwrap().remove("enabled");
    let missing = invalid(&[("enabled", "Required field is missing")]);
    assert_eq!(office.expect(422, "POST", MAPPINGS, &without).await, missing);
    let role = json!([{"source": "has_role", "operator": "ri", "value": "12345"}]);
    let value = invalid(&[("conditions.[0].value", "Invalid condition value: 12345")]);
    let body = mapping("a role that is not there", &json!({ "conditions": role }));
    assert_eq!(office.expect(422, "POST", MAPPINGS, &body).await, value);

    let path = format!("{MAPPINGS}/{id}");
    let deleted = office.by(SECRET, "DELETE", &path, &Value::Null).await;
    assert_eq!((deleted.status, deleted.text.as_str()), (204, ""));
    let gone = json!({"name": "NotFoundError", "message": "Resource not found", "statusCode": 404});
    for method in ["GET", "DELETE"] {
        assert_eq!(office.expect(404, method, &path, &Value::Null).await, gone);
    }
    assert_eq!(office.expect(404, "PUT", &path, &sample()).await, gone);
    assert_eq!(office.expect(404, "GET", "/api/2/mappings/nothing", &Value::Null).await, gone);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_mapping_is_said_where_it_is() {
    let office = Office::open().await;
    let own = create(&office, &mapping("own", &json!({}))).await;
    let root = office.house.running.rules.current().roles.len();
    assert_eq!(root, 3);
    let condition = |source: &str, operator: &str, value: &str| json!({"conditions": [{"source": source, "operator": operator, "value": value}]});
    let action = |name: &str, value: Value| json!({"actions": [{"action": name, "value": value}]});
    let rows: Vec<(Value, &str, &str)> = vec![
        (json!({"id": 7}), "id", "Field is not allowed"),
        (json!({"colour": "red"}), "colour", "Field is not allowed"),
        (json!({"name": 7}), "name", "Must be a string"),
        (json!({"match": "some"}), "match", "Must be one of: all, any"),
        (json!({"enabled": "yes"}), "enabled", "Must be a boolean"),
        (json!({"position": "1"}), "position", "Must be an integer"),
        (json!({"position": -1}), "position", "Must be an integer"),
        (
            json!({"enabled": false, "position": 1}),
            "position",
            "Position cannot be set while the mapping is not enabled",
        ),
        (json!({"conditions": {}}), "conditions", "Must be an array"),
        (json!({"actions": []}), "actions", "At least one action is required"),
        (condition("nothing", "=", "x"), "conditions.[0].source", "Invalid condition source: nothing"),
        (condition("member_of", "contains", "x"), "conditions.[0].operator", "Invalid condition operator: contains"),
        (condition("member_of", "ri", "x"), "conditions.[0].operator", "Invalid condition operator: ri"),
        (condition("member_of", "=", " "), "conditions.[0].value", "Invalid condition value:  "),
        (condition("member_of", "=", "a|b"), "conditions.[0].value", "Invalid condition value: a|b"),
        (condition("last_login", ">", "soon"), "conditions.[0].value", "Invalid condition value: soon"),
        (condition("last_login", "=", "9"), "conditions.[0].operator", "Invalid condition operator: ="),
        (action("set_role", json!(["1"])), "actions.[0].action", "Invalid action: set_role"),
        (action("add_role", json!(["999"])), "actions.[0].value", "Invalid action value(s): 999"),
        (action("add_role", json!(["1", "2"])), "actions.[0].value", "Invalid action value(s): 1, 2"),
        (action("set_status", json!(["6"])), "actions.[0].value", "Invalid action value(s): 6"),
        (action("set_status", json!({})), "actions.[0].value", "Must be an array of strings"),
    ];
    for (changes, field, text) in rows {
        let expected = invalid(&[(field, text)]);
        let found = office.expect(422, "POST", MAPPINGS, &mapping("another", &changes)).await;
        assert_eq!(found, expected, "{changes}");
        assert_eq!(office.expect(422, "PUT", &format!("{MAPPINGS}/{own}"), &changes).await, expected, "{changes}");
    }
    let all = office.expect(422, "POST", MAPPINGS, &json!({})).await;
    let required =
        ["name", "match", "enabled", "conditions", "actions"].map(|field| (field, "Required field is missing"));
    assert_eq!(all, invalid(&required), "all faults at once");
    let none = office.expect(422, "POST", MAPPINGS, &mapping("for all", &json!({"conditions": []}))).await;
    assert_eq!(none["errors"][0]["field"], "conditions");
    let long = "x".repeat(1025);
    let long = office.expect(422, "POST", MAPPINGS, &mapping("long", &condition("member_of", "=", &long))).await;
    assert_eq!(long["errors"][0]["field"], "conditions.[0].value");

    let broken = office.by(SECRET, "POST", MAPPINGS, &json!("text")).await;
    assert_eq!((broken.status, broken.json()["name"].as_str().unwrap()), (400, "BadRequestError"));
    assert_eq!(listed(&office, "").await, numbered(&["own"]), "nothing was written");
}

/// What is privileged takes no mapping from here, whoever asks, and is not among what is offered.
#[tokio::test(flavor = "multi_thread")]
async fn scopes_and_privileges() {
    let office = Office::open().await;
    assert_eq!(office.by(READER, "GET", MAPPINGS, &Value::Null).await.status, 200);
    let id = create(&office, &sample()).await;
    for (method, path, body) in [
        ("POST", MAPPINGS.to_owned(), sample()),
        ("PUT", format!("{MAPPINGS}/{id}"), json!({"name": "mine"})),
        ("DELETE", format!("{MAPPINGS}/{id}"), Value::Null),
        ("PUT", format!("{MAPPINGS}/sort"), json!([id])),
    ] {
        let reply = office.by(READER, method, &path, &body).await;
        assert_eq!((reply.status, &reply.json()["name"]), (403, &json!("ForbiddenError")), "{method} {path}");
    }
    assert_eq!(office.by(ELSEWHERE, "GET", MAPPINGS, &Value::Null).await.status, 403, "not at this face");
    assert_eq!(listed(&office, "").await, numbered(&["My Second Mapping"]));

    let offered = office.expect(200, "GET", "/api/2/mappings/actions/add_role/values", &Value::Null).await;
    assert!(!offered.to_string().contains("root"), "{offered}");
    let root = number_of(&office, "conditions/has_role", "root").await;
    let body = mapping("to root", &json!({"actions": [{"action": "add_role", "value": [root]}]}));
    let refused = office.expect(422, "POST", MAPPINGS, &body).await;
    assert_eq!(refused["errors"][0]["field"], "actions.[0].value");
    assert!(refused.to_string().contains("privileged"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn positions_have_no_gaps_and_the_disabled_have_none() {
    let office = Office::open().await;
    // ODC's mappings, and others that this face cannot express, run among them and do not show.
    let mut ids = Vec::new();
    for name in ["a", "b", "c", "d"] {
        ids.push(create(&office, &mapping(name, &json!({}))).await);
    }
    let [a, b, c, d] = ids[..] else { unreachable!() };
    assert_eq!(listed(&office, "").await, numbered(&["a", "b", "c", "d"]));
    let put = |id: i64, body: Value| {
        let office = &office;
        async move {
            assert_eq!(
                office.expect(200, "PUT", &format!("{MAPPINGS}/{id}"), &body).await,
                json!({"id": id}),
                "{body}"
            );
        }
    };
    put(d, json!({"position": 2})).await;
    assert_eq!(listed(&office, "").await, numbered(&["a", "d", "b", "c"]));
    put(a, json!({"position": 3})).await;
    assert_eq!(listed(&office, "").await, numbered(&["d", "b", "a", "c"]));
    put(b, json!({"enabled": false, "position": null})).await;
    assert_eq!(listed(&office, "").await, numbered(&["d", "a", "c"]));
    assert_eq!(listed(&office, "?enabled=False").await, [("b".to_owned(), None)]);
    put(b, json!({"enabled": true, "conditions": null, "actions": null})).await;
    assert_eq!(listed(&office, "").await, numbered(&["d", "a", "c", "b"]), "enabled again: at the end");
    put(c, json!({"name": "C"})).await;
    put(c, json!({"position": 0})).await;
    assert_eq!(listed(&office, "").await, numbered(&["d", "a", "C", "b"]), "what is left out stays");
    create(&office, &mapping("e", &json!({"position": 1}))).await;
    create(&office, &mapping("f", &json!({"position": 99}))).await;
    create(&office, &mapping("g", &json!({"position": 0, "enabled": false}))).await;
    assert_eq!(listed(&office, "").await, numbered(&["e", "d", "a", "C", "b", "f"]));
    office.expect(204, "DELETE", &format!("{MAPPINGS}/{d}"), &Value::Null).await;
    assert_eq!(listed(&office, "").await, numbered(&["e", "a", "C", "b", "f"]));
    let seen = office.expect(200, "GET", &format!("{MAPPINGS}/{a}"), &Value::Null).await;
    assert_eq!(seen["position"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn sorting_takes_all_that_are_enabled() {
    let office = Office::open().await;
    let a = create(&office, &mapping("a", &json!({}))).await;
    let b = create(&office, &mapping("b", &json!({}))).await;
    let off = create(&office, &mapping("off", &json!({"enabled": false}))).await;
    let sort = format!("{MAPPINGS}/sort");
    assert_eq!(office.expect(200, "PUT", &sort, &json!([b, a])).await, json!([b, a]));
    assert_eq!(listed(&office, "").await, numbered(&["b", "a"]));
    assert_eq!(office.expect(200, "PUT", &sort, &json!({"mapping_ids": [a, b]})).await, json!([a, b]));
    assert_eq!(listed(&office, "").await, numbered(&["a", "b"]));
    let incomplete = invalid(&[("default", "Sorting list must contain all mapping IDs")]);
    for order in [json!([]), json!([a]), json!([a, b, b]), json!([a, b, off]), json!([a, b, 999]), json!(["a", "b"])] {
        assert_eq!(office.expect(422, "PUT", &sort, &order).await, incomplete, "{order}");
    }
    let no_list = office.expect(400, "PUT", &sort, &json!({"ids": [a, b]})).await;
    assert_eq!(no_list["message"], "Expected array in request");
    assert_eq!(listed(&office, "").await, numbered(&["a", "b"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_filtered() {
    let office = Office::open().await;
    let editor = number_of(&office, "actions/add_role", "editor").await;
    create(&office, &sample()).await;
    let role = json!({"actions": [{"action": "add_role", "value": [editor]}]});
    create(&office, &mapping("by directory", &role)).await;
    let level = json!({"conditions": [
        {"source": "custom_attribute_level", "operator": "=", "value": "a:b"},
        {"source": "member_of", "operator": "=", "value": "x"},
    ]});
    create(&office, &mapping("by level", &level)).await;
    let rows: Vec<(String, Vec<&str>)> = vec![
        ("?has_condition=last_login:90".into(), vec!["My Second Mapping"]),
        ("?has_condition=member_of:*".into(), vec!["by directory", "by level"]),
        ("?has_condition=member_of%3Ax%2Ccustom_attribute_level%3Aa%3Ab".into(), vec!["by level"]),
        ("?has_condition=*:x,last_login:*".into(), vec![]),
        (format!("?has_action=add_role:{editor}"), vec!["by directory"]),
        ("?has_action=*:7".into(), vec!["by level"]),
        ("?has_action=set_status:*".into(), vec!["My Second Mapping"]),
        ("?has_condition_type=custom".into(), vec!["by level"]),
        ("?has_condition_type=builtin".into(), vec!["My Second Mapping", "by directory", "by level"]),
        ("?has_condition_type=none".into(), vec![]),
        ("?has_action_type=custom".into(), vec![]),
        ("?enabled=True&limit=1&page=2&cursor=x".into(), vec!["My Second Mapping", "by directory", "by level"]),
        ("?enabled=false".into(), vec![]),
    ];
    for (query, names) in rows {
        let found: Vec<String> = listed(&office, &query).await.into_iter().map(|(name, _)| name).collect();
        assert_eq!(found, names, "{query}");
    }
    for query in ["?enabled=perhaps", "?has_condition=member_of", "?has_condition_type=odd"] {
        assert_eq!(office.by(SECRET, "GET", &format!("{MAPPINGS}{query}"), &Value::Null).await.status, 422, "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_vocabulary() {
    let office = Office::open().await;
    let get = |path: &'static str| {
        let office = &office;
        async move { office.expect(200, "GET", &format!("{MAPPINGS}/{path}"), &Value::Null).await }
    };
    assert_eq!(
        get("conditions").await,
        json!([
            {"name": "Level", "value": "custom_attribute_level"},
            {"name": "Groups", "value": "groups"},
            {"name": "MemberOf", "value": "member_of"},
            {"name": "Roles", "value": "has_role"},
            {"name": "Last Login", "value": "last_login"},
        ])
    );
    let signs = |words: Value| -> Vec<String> {
        words.as_array().unwrap().iter().map(|word| word["value"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(signs(get("conditions/member_of/operators").await), ["=", "!=", "~", "!~", "bw", "ew"]);
    assert_eq!(signs(get("conditions/has_role/operators").await), ["ri", "rin"]);
    assert_eq!(signs(get("conditions/last_login/operators").await), [">", "<"]);
    assert_eq!(get("conditions/member_of/values").await, json!([]), "any text");
    let actions = signs(get("actions").await);
    assert_eq!(actions[..3], ["add_role", "add_group", "set_status"]);
    assert!(!actions.contains(&"set_role".to_owned()) && actions.contains(&"set_employee_id".to_owned()));
    let status = get("actions/set_status/values").await;
    assert_eq!(status[2], json!({"name": "Suspended", "value": 2}));
    assert_eq!(get("actions/set_employee_id/values").await, json!([]));
    for path in ["conditions/x/operators", "conditions/x/values", "actions/set_role/values"] {
        office.expect(404, "GET", &format!("{MAPPINGS}/{path}"), &Value::Null).await;
    }
}

/// A claim that no mapping read at the last login was not recorded, and no login says that it is not so.
#[tokio::test(flavor = "multi_thread")]
async fn api02_a_dry_run_says_what_is_unknown() {
    let condition = json!({"conditions": [{"source": "custom_attribute_level", "operator": "!=", "value": "senior"}]});
    let disabled = mapping("juniors", &json!({"enabled": false, "conditions": condition["conditions"]}));
    for (recorded, expected) in [("\"mapped\"", Value::Null), ("false", Value::Null), ("\"declared\"", json!(true))] {
        let office = Office::with(&format!("[sync]\nrecord_claims = {recorded}\n")).await;
        assert_eq!(office.login("alice", 1, &json!({"level": "junior"})).await, 200);
        let id = create(&office, &disabled).await;
        let dry_run = format!("{MAPPINGS}/{id}/dryrun");
        let trials = office.expect(200, "POST", &dry_run, &json!([1])).await;
        assert_eq!(trials[0]["mapped"], expected, "{recorded}: {trials}");
        // From now on a mapping names it, though a disabled one, and it is recorded at the next login.
        assert_eq!(office.login("alice", 2, &json!({"level": "senior"})).await, 200);
        let trials = office.expect(200, "POST", &dry_run, &json!([1])).await;
        let expected = if recorded == "false" { Value::Null } else { json!(false) };
        assert_eq!(trials[0]["mapped"], expected, "{recorded}: {trials}");
    }
}

/// What a client needs beside mappings: the numbers of roles and users.
#[tokio::test(flavor = "multi_thread")]
async fn api12_roles_and_users_are_listed() {
    let office = Office::open().await;
    for (who, number) in [("alice", 1), ("bob", 1), ("carol", 1)] {
        let email = format!("{who}@example.com");
        assert_eq!(office.login(who, number, &json!({"groups": [], "email": email})).await, 200);
    }
    let get = |path: &'static str| office.by(SECRET, "GET", path, &Value::Null);
    let lead = number_of(&office, "actions/add_role", "lead").await;
    let roles = get("/api/2/roles").await;
    assert_eq!(roles.headers["total-count"], "3");
    let names: Vec<Value> = roles.json().as_array().unwrap().iter().map(|role| role["name"].clone()).collect();
    assert_eq!(names, ["editor", "lead", "root"]);
    assert_eq!(
        get("/api/2/roles?name=lead").await.json(),
        json!([{"id": lead.parse::<i64>().unwrap(), "name": "lead"}])
    );
    let one = office.expect(200, "GET", &format!("/api/2/roles/{lead}"), &Value::Null).await;
    assert_eq!(one["name"], "lead");

    let page = get("/api/2/users?limit=2&fields=id").await;
    let ids = |reply: &super::Reply| -> Vec<i64> {
        reply.json().as_array().unwrap().iter().map(|user| user["id"].as_i64().unwrap()).collect()
    };
    let field =
        |reply: &super::Reply, name: &str| reply.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    assert_eq!((ids(&page), field(&page, "total-pages")), (vec![1, 2], Some("2".into())));
    assert_eq!((field(&page, "after-cursor"), field(&page, "before-cursor")), (Some("2".into()), None));
    let page = get("/api/2/users?limit=2&cursor=2").await;
    assert_eq!((ids(&page), field(&page, "after-cursor")), (vec![3], None));
    for (query, found) in [
        ("/api/2/users?email=BOB@example.com", vec![2]),
        ("/api/2/users?email=ob@example.com", vec![]),
        ("/api/2/users?username=carol", vec![3]),
        ("/api/2/users?username=Carol", vec![]),
        ("/api/2/users?user_ids=3,1,99", vec![1, 3]),
    ] {
        assert_eq!(ids(&get(query).await), found, "{query}");
    }
    let alice = office.expect(200, "GET", "/api/2/users/1", &Value::Null).await;
    let expected = json!({
        "id": 1, "username": "alice", "email": "alice@example.com", "firstname": "Alice Ann", "lastname": "Archer", "status": 1,
        "last_login": alice["last_login"],
    });
    assert_eq!(alice, expected);
    assert!(alice["last_login"].is_string());
    // A list that left out what was asked for would be another list.
    for query in [
        "users?firstname=Alice",
        "users?user_ids=x",
        "users?limit=0",
        "users?limit=101",
        "roles?app_id=1",
        "roles?page=0",
    ] {
        office.expect(400, "GET", &format!("/api/2/{query}"), &Value::Null).await;
    }
    for path in ["roles/999", "roles/x", "users/999", "users/x"] {
        office.expect(404, "GET", &format!("/api/2/{path}"), &Value::Null).await;
    }
    for path in ["roles", "users", "roles/1", "users/1"] {
        assert_eq!(office.by(ELSEWHERE, "GET", &format!("/api/2/{path}"), &Value::Null).await.status, 403, "{path}");
        assert_eq!(office.call("GET", &format!("/api/2/{path}"), &[], "").await.status, 401, "{path}");
    }
}

/// The vendor's two samples have one name.
#[tokio::test(flavor = "multi_thread")]
async fn api08_two_mappings_may_have_one_name() {
    let office = Office::open().await;
    let first = create(&office, &sample()).await;
    let second = create(&office, &sample()).await;
    assert_ne!(first, second);
    let own = |id: i64| format!("/api/v1/mappings/{id}");
    let chief = |method: &'static str, path: String, body: Value| {
        let office = &office;
        async move {
            let bearer = format!("Bearer {}", super::CHIEF);
            let headers = [("authorization", bearer.as_str()), ("if-match", "*"), ("content-type", "application/json")];
            office.call(method, &path, &headers, &body.to_string()).await
        }
    };
    // Elsewhere names stay one's own, but for those that are there already.
    let mut definition = chief("GET", own(second), Value::Null).await.json()["definition"].clone();
    let made = chief("POST", "/api/v1/mappings".into(), json!({ "definition": definition })).await;
    assert_eq!(made.status, 409, "{}", made.text);
    definition["match"] = json!("any");
    let changed = chief("PUT", own(second), json!({ "definition": definition })).await;
    assert_eq!(changed.status, 200, "{}", changed.text);
    let planned =
        chief("POST", "/api/v1/plan".into(), json!({"change": {"id": second.to_string(), "definition": definition}}));
    assert_eq!(planned.await.status, 200);
    let listed = chief("GET", "/api/v1/mappings".into(), Value::Null).await.json();
    let all: Vec<Value> = listed["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| json!({"id": one["id"], "definition": one["definition"]}))
        .collect();
    let planned = chief("POST", "/api/v1/plan".into(), json!({ "mappings": all })).await;
    assert_eq!(planned.status, 200, "{}", planned.text);
    office.expect(204, "DELETE", &format!("{MAPPINGS}/{first}"), &Value::Null).await;
    let left = office.expect(200, "GET", MAPPINGS, &Value::Null).await;
    assert_eq!((left[0]["id"].as_i64(), left.as_array().unwrap().len()), (Some(second), 1));
}

/// A person gains by a mapping at the next login, and loses at once when it is deleted.
#[tokio::test(flavor = "multi_thread")]
async fn a_login_gains_by_a_mapping_and_loses_with_it() {
    let office = Office::open().await;
    let lead = number_of(&office, "actions/add_role", "lead").await;
    let staff = number_of(&office, "actions/add_group", "Staff").await;
    let actions =
        json!({"actions": [{"action": "add_role", "value": [lead]}, {"action": "add_group", "value": [staff]}]});
    let none = json!({"groups": [], "memberOf": "CN=Leads,OU=Groups,DC=example"});
    assert_eq!(office.login("alice", 1, &none).await, 200);
    assert!(office.holds("oidc/alice: groups [], roles []").await);

    let id = create(&office, &mapping("leads", &actions)).await;
    assert_eq!(office.login("alice", 2, &none).await, 200);
    assert!(office.holds("oidc/alice: groups [\"Staff\"], roles [\"editor\", \"lead\"]").await);
    assert_eq!(office.login("bob", 1, &json!({"groups": [], "memberOf": "CN=Others"})).await, 200);
    assert!(office.holds("oidc/bob: groups [], roles []").await);

    let dry_run = format!("{MAPPINGS}/{id}/dryrun");
    let trials = office.expect(200, "POST", &dry_run, &json!([1, 2])).await;
    let person = |trial: &Value| (trial["user"]["username"].clone(), trial["mapped"].clone());
    assert_eq!(person(&trials[0]), (json!("alice"), json!(true)));
    assert_eq!(person(&trials[1]), (json!("bob"), json!(false)));
    assert_eq!(
        trials[0]["user"],
        json!({"id": 1, "firstname": "Alice Ann", "lastname": "Archer", "username": "alice", "email": "alice@example.com"})
    );
    assert_eq!(
        office.expect(400, "POST", &dry_run, &json!({"users": [1]})).await["message"],
        "Expected array in request"
    );
    office.expect(422, "POST", &dry_run, &json!([99])).await;

    office.expect(204, "DELETE", &format!("{MAPPINGS}/{id}"), &Value::Null).await;
    assert_eq!(office.login("alice", 3, &none).await, 200);
    assert!(office.holds("oidc/alice: groups [], roles []").await);
    let events: Vec<String> =
        office.house.events().await.into_iter().map(|row| format!("{} {}", row.event, row.detail)).collect();
    for event in ["mapping_created", "mapping_deleted"] {
        let told = events.iter().find(|told| told.starts_with(event)).unwrap();
        assert!(told.contains("api client `script` (onelogin)"), "{told}");
    }
}

/// `set_status` 2 keeps the person out; what has no effect is kept, and told.
#[tokio::test(flavor = "multi_thread")]
async fn a_status_disables_and_the_rest_does_nothing() {
    let office = Office::open().await;
    let idle = json!({
        "match": "any",
        "conditions": [{"source": "member_of", "operator": "bw", "value": "CN=Leavers"}],
        "actions": [{"action": "set_status", "value": ["2"]}, {"action": "set_employee_id", "value": ["7"]}],
    });
    let reply = office.by(SECRET, "POST", MAPPINGS, &mapping("leavers", &idle)).await;
    assert_eq!(reply.headers["x-loginsync-without-effect"], "set_employee_id");
    let id = reply.json()["id"].as_i64().unwrap();
    let seen = office.expect(200, "GET", &format!("{MAPPINGS}/{id}"), &Value::Null).await;
    assert_eq!((&seen["actions"], &seen["match"]), (&idle["actions"], &json!("any")));
    let active = json!({"actions": [{"action": "set_status", "value": ["1"]}]});
    create(&office, &mapping("active", &active)).await;
    assert_eq!(office.login("alice", 1, &json!({"memberOf": "CN=Leads"})).await, 200);
    assert_eq!(office.login("alice", 2, &json!({"memberOf": "CN=Leavers"})).await, 403);
    assert!(office.holds("oidc/alice (disabled)").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_had_in_three_shapes() {
    let office = Office::open().await;
    let path = "/auth/oauth2/v2/token";
    let basic = format!("Basic {}", STANDARD.encode(format!("script:{SECRET}")));
    let words = format!("client_id:script, client_secret:{SECRET}");
    let grant = json!({"grant_type": "client_credentials"}).to_string();
    let form = format!("grant_type=client_credentials&client_id=script&client_secret={SECRET}");
    let json_type = ("content-type", "application/json");
    let form_type = ("content-type", "application/x-www-form-urlencoded");
    let mut tokens = Vec::new();
    for (headers, body) in [
        (vec![("authorization", basic.as_str()), json_type], &grant),
        (vec![("authorization", words.as_str()), json_type], &grant),
        (vec![form_type], &form),
    ] {
        let reply = office.call("POST", path, &headers, body).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        let token = reply.json();
        assert_eq!((&token["token_type"], &token["expires_in"]), (&json!("bearer"), &json!(36000)));
        assert_eq!(token["created_at"], "2026-01-31T12:00:00.000Z");
        assert_eq!(token["account_id"], 1);
        let token_text = token["access_token"].as_str().unwrap().to_owned();
        assert_eq!(office.by(&token_text, "GET", MAPPINGS, &Value::Null).await.status, 200);
        tokens.push(token);
    }
    let wrapped =
        office.call("POST", "/auth/oauth2/token", &[("authorization", basic.as_str()), json_type], &grant).await;
    assert_eq!(wrapped.json()["data"][0]["token_type"], "bearer");
    assert_eq!(wrapped.json()["status"]["code"], 200);

    let limit = office.expect(200, "GET", "/auth/rate_limit", &Value::Null).await;
    assert_eq!(limit["data"]["X-RateLimit-Limit"], 600);

    let old = tokens[0]["access_token"].as_str().unwrap();
    let refresh = json!({
        "grant_type": "refresh_token", "access_token": old, "refresh_token": tokens[0]["refresh_token"],
    })
    .to_string();
    let fresh = office.call("POST", path, &[json_type], &refresh).await;
    assert_eq!(fresh.status, 200, "{}", fresh.text);
    assert_eq!(office.by(old, "GET", MAPPINGS, &Value::Null).await.status, 401, "the old one is gone");
    assert_eq!(office.call("POST", path, &[json_type], &refresh).await.status, 401, "a refresh token is good once");
    let fresh = fresh.json()["access_token"].as_str().unwrap().to_owned();

    let revoke = json!({ "access_token": fresh }).to_string();
    let revoked =
        office.call("POST", "/auth/oauth2/revoke", &[("authorization", words.as_str()), json_type], &revoke).await;
    assert_eq!(
        revoked.json(),
        json!({
            "error": false, "code": 200, "type": "success", "message": "Success",
            "status": {"error": false, "code": 200, "type": "success", "message": "Success"},
        })
    );
    assert_eq!(office.by(&fresh, "GET", MAPPINGS, &Value::Null).await.status, 401);
    let again =
        office.call("POST", "/auth/oauth2/revoke", &[("authorization", words.as_str()), json_type], &revoke).await;
    assert_eq!((again.status, again.json()["status"]["error"].as_bool()), (400, Some(true)));

    let failure = json!({"status": {
        "error": true, "code": 401, "type": "Unauthorized", "message": "Authentication Failure",
    }});
    let wrong = format!("client_id:script, client_secret:{READER}");
    let refused = office.call("POST", path, &[("authorization", wrong.as_str()), json_type], &grant).await;
    assert_eq!((refused.status, refused.json()), (401, failure));
    assert_eq!(office.call("POST", path, &[("authorization", basic.as_str()), json_type], "{}").await.status, 400);
    let other = office
        .call("POST", path, &[form_type], &form.replace(SECRET, ELSEWHERE).replace("=script", "=elsewhere"))
        .await;
    assert_eq!(other.status, 403, "not at this face");
}

/// A token ends with its ten hours.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_ends() {
    let office = Office::open().await;
    let form = format!("grant_type=client_credentials&client_id=script&client_secret={SECRET}");
    let form_type = ("content-type", "application/x-www-form-urlencoded");
    let reply = office.call("POST", "/auth/oauth2/v2/token", &[form_type], &form).await;
    let token = reply.json()["access_token"].as_str().unwrap().to_owned();
    office.house.clock.set(Timestamp(NOW.0 + 35_999_000));
    assert_eq!(office.by(&token, "GET", MAPPINGS, &Value::Null).await.status, 200);
    office.house.clock.set(Timestamp(NOW.0 + 36_000_000));
    assert_eq!(office.by(&token, "GET", MAPPINGS, &Value::Null).await.status, 401);
}
