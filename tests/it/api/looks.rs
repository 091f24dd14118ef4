//! `explain` and `plan` of `/api/v1`: what they tell, to whom, and that they write and repeat nothing.

use serde_json::{Value, json};

use super::{ADMIN, Office, READER, WRITER, client, names, short};
use crate::attacks::{claims, signed};

const EXPLAIN: &str = "/api/v1/explain";
const PLAN: &str = "/api/v1/plan";
const MAPPER: &str = "test-only-mapper-ddddddddddddddddddddddddddd";

async fn told(office: &Office, target: &str, body: Value) -> Value {
    let (status, value, answer) = office.call(WRITER, "POST", target, &[], Some(body)).await;
    assert_eq!(status, 200, "{target}: {}", answer.body);
    value
}

fn verdict<'v>(report: &'v Value, mapping: &str) -> &'v Value {
    let mappings = report["mappings"].as_array().unwrap();
    let found = mappings.iter().find(|one| one["mapping"] == mapping);
    &found.unwrap_or_else(|| panic!("{mapping}: {report:#}"))["verdict"]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_explained_as_it_would_be_decided_and_nothing_is_written() {
    let office = Office::open().await;
    office.post("/api/v1/groups", json!({"name": "Purchasing"})).await;
    office.post("/api/v1/mappings", short("buyers", "Purchasing")).await;
    let before = office.house.events().await.len();
    let mut login = claims("1");
    login["groups"] = json!(["staff", "Buyers"]);
    let token = signed(&login);
    let report = told(&office, EXPLAIN, json!({"provider": "oidc", "token": token})).await;
    assert_eq!((&report["outcome"], &report["proof"]["state"]), (&json!("enters"), &json!("verified")), "{report:#}");
    assert_eq!(report["plan"]["groups"], json!(["Staff"]));
    assert_eq!(
        (verdict(&report, "groups = staff"), verdict(&report, "groups = buyers")),
        (&json!("hit"), &json!("near_miss"))
    );
    assert_eq!(office.house.events().await.len(), before, "nothing is written");
    let [header, payload, signature] = token.split('.').collect::<Vec<_>>()[..] else { panic!() };
    assert!(!report.to_string().contains(payload) && !report.to_string().contains(signature));

    // A forged one is looked at, and not believed.
    let forged = format!("{header}.{payload}.{}", "A".repeat(signature.len()));
    let report = told(&office, EXPLAIN, json!({"provider": "oidc", "token": forged})).await;
    assert_eq!((&report["outcome"], &report["proof"]["state"]), (&json!("refused"), &json!("not_verified")));

    // Golden claims, as a login would bring them: against what alice holds by now.
    office.login("2", &["staff"]).await;
    let golden = json!({"sub": "alice", "groups": ["buyers"]});
    let report = told(&office, EXPLAIN, json!({"provider": "oidc", "claims": golden})).await;
    assert_eq!((&report["proof"]["state"], &report["user"]["known"]), (&json!("dry"), &json!(true)), "{report:#}");
    assert_eq!(report["plan"]["revokes"][0]["name"], "Staff");
    assert_eq!(office.holds().await.0, names(&["Staff"]), "nothing is written");

    // Those that took part come first where there is room for few.
    let report = told(&office, EXPLAIN, json!({"provider": "oidc", "claims": golden, "limit": 1})).await;
    assert_eq!((report["mappings"].as_array().unwrap().len(), verdict(&report, "groups = buyers")), (1, &json!("hit")));
    assert!(report["mappings_left_out"].as_u64().unwrap() >= 1);

    // From another moment: by then it has expired.
    let login = claims("3");
    let late = json!({"provider": "oidc", "token": signed(&login), "at": "2030-01-01T00:00:00Z"});
    let report = told(&office, EXPLAIN, late).await;
    assert!(report["refused"].as_str().unwrap().contains("expired"), "{report:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_past_login_is_told_by_its_id() {
    let office = Office::open().await;
    office.login("1", &["staff"]).await;
    let rows = office.events("login").await;
    let id = rows[0]["login"].as_str().unwrap();
    let told_of = told(&office, EXPLAIN, json!({"id": id})).await;
    assert_eq!((&told_of["event"], &told_of["detail"]["login"]), (&json!("login"), &json!(id)));
    assert_eq!(told_of["detail"]["added"][0]["group"], "Staff");
    assert_eq!(told_of["person"]["subject"], "alice");
    let (status, _, _) = office.call(WRITER, "POST", EXPLAIN, &[], Some(json!({"id": "no-such"}))).await;
    assert_eq!(status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_is_wrong_with_a_question_is_named_and_no_token_is_repeated() {
    let office = Office::open().await;
    let secret = "eyJhbGciOiJub25lIn0.c2VjcmV0.c2ln";
    for (body, fields) in [
        (
            json!({"provider": secret, "token": 5, "at": secret, "limit": secret}),
            vec!["token", "limit", "at", "provider"],
        ),
        (json!({"provider": "oidc", "claims": secret}), vec!["claims"]),
        (json!({"provider": "oidc", "token": "a", "claims": {}}), vec!["body"]),
        (json!({"provider": "oidc", "token": format!("{secret}.{secret}")}), vec!["token"]),
        (json!({"token": "a"}), vec!["provider"]),
        (json!({}), vec!["body", "provider"]),
        (json!(secret), vec!["body"]),
        (json!([secret]), vec!["body"]),
        (json!({"provider": "oidc", "tokn": secret}), vec!["tokn"]),
    ] {
        let (status, problem, answer) = office.call(WRITER, "POST", EXPLAIN, &[], Some(body.clone())).await;
        let errors = problem["errors"].as_array().unwrap_or_else(|| panic!("{body}: {}", answer.body));
        let found: Vec<&str> = errors.iter().map(|fault| fault["field"].as_str().unwrap()).collect();
        assert_eq!((status, found), (422, fields), "{body}: {problem:#}");
        assert!(!answer.body.contains("c2VjcmV0"), "{}", answer.body);
    }
    let long = json!({"provider": "oidc", "token": "x".repeat(1 << 20)});
    let (status, problem, _) = office.call(WRITER, "POST", EXPLAIN, &[], Some(long)).await;
    assert_eq!((status, problem["type"].as_str()), (413, Some("urn:loginsync:problem:too-large")));
}

#[tokio::test(flavor = "multi_thread")]
async fn looking_takes_a_scope_and_asking_of_everybody_another() {
    let mapper = client("mapper", MAPPER, r#"["mappings:write"]"#, "");
    let office = Office::with(&mapper).await;
    let (golden, change) =
        (json!({"provider": "oidc", "claims": {"sub": "x"}}), json!({"change": short("x", "Staff")}));
    for (secret, explains, plans) in [(READER, 200, 403), (MAPPER, 403, 403), (WRITER, 200, 200), (ADMIN, 200, 200)] {
        for (target, body, expected) in [(EXPLAIN, &golden, explains), (PLAN, &change, plans)] {
            let (status, _, answer) = office.call(secret, "POST", target, &[], Some(body.clone())).await;
            assert_eq!(status, expected, "{secret} {target}: {}", answer.body);
        }
    }
}

/// What is told of one change, and what it then does, are the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_planned_change_is_told_as_it_then_comes() {
    let office = Office::open().await;
    for group in ["One", "Two"] {
        office.post("/api/v1/groups", json!({"name": group})).await;
    }
    let made = office.post("/api/v1/mappings", short("x", "One")).await;
    let id = made["id"].as_str().unwrap();
    office.login("1", &["x"]).await;
    let (one, two) = (json!([{"kind": "group", "name": "One"}]), json!([{"kind": "group", "name": "Two"}]));

    let mut edit = json!({"change": short("x", "Two")});
    edit["change"]["id"] = json!(id);
    let plan = told(&office, PLAN, edit).await;
    assert_eq!((&plan["changes"], &plan["changed_users"], &plan["users"]), (&json!(true), &json!(1), &json!(1)));
    assert_eq!((&plan["details"][0]["gains"], &plan["details"][0]["losses"]), (&two, &one), "{plan:#}");
    assert_eq!((&plan["mappings"]["edited"], &plan["mappings"]["compared"]), (&json!(1), &json!(true)));

    let plan = told(&office, PLAN, json!({"change": {"id": id}})).await;
    assert_eq!((&plan["details"][0]["losses"], &plan["targets"][0]["at_once"]), (&one, &json!(1)), "{plan:#}");
    let plan = told(&office, PLAN, json!({"change": short("x", "Two")})).await;
    assert_eq!((&plan["details"][0]["gains"], &plan["mappings"]["added"]), (&two, &json!(1)));
    assert_eq!(office.holds().await.0, names(&["One"]), "nothing was written");
    assert_eq!(office.get("/api/v1/mappings?origin=store").await["items"].as_array().unwrap().len(), 1);

    assert_eq!(office.delete(&format!("/api/v1/mappings/{id}")).await, 204);
    assert_eq!(office.holds().await.0, names(&[]), "as it was told");
}

/// What `GET /api/v1/mappings` lists is a plan that changes nothing; left out of it is gone, those of the file included.
#[tokio::test(flavor = "multi_thread")]
async fn all_mappings_are_planned_as_they_are_listed() {
    let office = Office::open().await;
    office.post("/api/v1/groups", json!({"name": "One"})).await;
    let made = office.post("/api/v1/mappings", short("x", "One")).await;
    office.login("1", &["x", "staff"]).await;
    let listed = office.get("/api/v1/mappings?limit=1000").await["items"].as_array().unwrap().clone();
    let of = |with_id: bool, keep: &dyn Fn(&Value) -> bool| {
        let kept = listed.iter().filter(|one| keep(one)).map(|one| match with_id {
            true => json!({"id": one["id"], "definition": one["definition"]}),
            false => json!({"definition": one["definition"]}),
        });
        json!({"mappings": kept.collect::<Vec<Value>>()})
    };
    for with_id in [true, false] {
        let plan = told(&office, PLAN, of(with_id, &|_| true)).await;
        assert_eq!(plan["changes"], false, "{with_id} {plan:#}");
    }
    let plan = told(&office, PLAN, of(true, &|one| one["origin"] == "file")).await;
    assert_eq!(plan["details"][0]["losses"], json!([{"kind": "group", "name": "One"}]), "{plan:#}");
    let plan = told(&office, PLAN, of(false, &|one| one["id"] == made["id"])).await;
    let lost = json!([{"kind": "group", "name": "Staff"}, {"kind": "role", "name": "editor"}]);
    assert_eq!((&plan["details"][0]["losses"], &plan["mappings"]["edited"]), (&lost, &json!(0)), "{plan:#}");

    let mut twice = of(true, &|_| true);
    let entries = twice["mappings"].as_array_mut().unwrap();
    let (first, broken) = (entries[0].clone(), json!({"id": "99", "definition": short("x", "Stff")["definition"]}));
    entries.extend([
        first,
        broken,
        json!({"definition": short("y", "Stff")["definition"]}),
        json!({"id": "x", "definition": short("z", "Staff")["definition"]}),
    ]);
    let count = entries.len();
    let (status, problem, _) = office.call(WRITER, "POST", PLAN, &[], Some(twice.clone())).await;
    assert_eq!(
        (status, problem["errors"][0]["field"].as_str().unwrap()),
        (422, format!("mappings[{}].id", count - 1).as_str())
    );
    twice["mappings"].as_array_mut().unwrap().pop();
    let (_, problem, _) = office.call(WRITER, "POST", PLAN, &[], Some(twice)).await;
    let fields: Vec<&str> =
        problem["errors"].as_array().unwrap().iter().map(|one| one["field"].as_str().unwrap()).collect();
    let expected = [
        format!("mappings[{}].id", count - 4),
        format!("mappings[{}].id", count - 3),
        format!("mappings[{}].definition.then[0].add_group", count - 2),
    ];
    assert_eq!(fields, expected, "{problem:#}");
    for body in [
        json!({}),
        json!({"mappings": [], "change": {"id": "1"}}),
        json!({"change": {}}),
        json!({"change": {"id": "77"}}),
        json!({"mappings": [], "limit": 0}),
    ] {
        assert_eq!(office.call(WRITER, "POST", PLAN, &[], Some(body.clone())).await.0, 422, "{body}");
    }
}

/// What would be refused is told before: by the brake, and that nobody would be left.
#[tokio::test(flavor = "multi_thread")]
async fn a_plan_tells_what_the_brake_refuses_and_who_would_be_the_last() {
    let office = Office::with("[brake]\nminimum = 0\nshare = \"0%\"\n").await;
    let keepers = json!({"name": "Keepers", "protected": true});
    assert_eq!(office.call(ADMIN, "POST", "/api/v1/groups", &[], Some(keepers)).await.0, 201);
    let mapping = short("keepers", "Keepers");
    let made = office.post("/api/v1/mappings", mapping).await;
    office.login("1", &["keepers"]).await;
    let plan = told(&office, PLAN, json!({"change": {"id": made["id"]}})).await;
    let keepers = json!({"kind": "group", "name": "Keepers"});
    assert_eq!(plan["last_holders"], json!([keepers]), "{plan:#}");
    let refused = &plan["brake_refuses"][0];
    assert_eq!((&refused["name"], &refused["losing"], &refused["allowed"]), (&json!("Keepers"), &json!(1), &json!(0)));
    let target = format!("/api/v1/mappings/{}", made["id"].as_str().unwrap());
    assert_eq!(office.delete(&target).await, 409, "as it was told");
}
