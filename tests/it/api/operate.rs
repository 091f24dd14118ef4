//! What operators do through `/api/v1`: deliveries, API clients, sessions, the configuration, the audit. The console does the same.

use loginsync::config::Scope;
use serde_json::{Value, json};

use super::{ADMIN, Office, READER, WRITER, short};
use crate::console::sign_in;

const HOOK: &str = "[[webhook]]\nname = \"app\"\nurl = \"http://127.0.0.1:1/hook\"\n";

async fn call(office: &Office, secret: &str, method: &str, target: &str, body: Option<Value>) -> (u16, Value) {
    let (status, value, _) = office.call(secret, method, target, &[("if-match", "*")], body).await;
    (status, value)
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_are_listed_paused_resumed_retried_and_told_anew() {
    let office = Office::with(HOOK).await;
    office.login("1", &["staff"]).await;
    let show = || async { office.get("/api/v1/deliveries/app").await };
    let mut shown = show().await;
    for _ in 0..100 {
        if shown["receiver"]["pending"] == 1 && shown["pending"][0]["failures"].as_u64() > Some(0) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        shown = show().await;
    }
    assert_eq!(shown["pending"][0]["subject"], "alice", "{shown:#}");
    assert_eq!(office.get("/api/v1/deliveries").await["items"][0]["name"], "app");
    for (act, state) in [("pause", "paused"), ("resume", "delivers")] {
        let target = format!("/api/v1/deliveries/app/{act}");
        assert_eq!(call(&office, WRITER, "POST", &target, None).await.0, 403, "{act}");
        let (status, view) = call(&office, ADMIN, "POST", &target, None).await;
        assert_eq!((status, view["state"] == "paused"), (200, state == "paused"), "{act}: {view}");
    }
    assert_eq!(call(&office, ADMIN, "POST", "/api/v1/deliveries/app/dance", None).await.0, 404);
    // A test fails as a delivery would, and what came of it is kept.
    let target = "/api/v1/deliveries/app/test";
    assert_eq!(call(&office, WRITER, "POST", target, None).await.0, 403);
    assert_eq!(call(&office, ADMIN, "POST", "/api/v1/deliveries/none/test", None).await.0, 404);
    let (status, tested) = call(&office, ADMIN, "POST", target, None).await;
    assert_eq!((status, &tested["works"], &tested["by"]), (200, &json!(false), &json!("api client `admin` (v1)")));
    assert!(tested["fault"].as_str().is_some_and(|fault| !fault.is_empty()), "{tested}");
    assert_eq!(show().await["last_test"], tested);
    assert_eq!(office.events("delivery_tested").await.len(), 1);
    let alice = json!({"namespace": "oidc", "subject": "alice"});
    for act in ["retry", "resync"] {
        let target = format!("/api/v1/deliveries/app/{act}");
        for (body, status) in [
            (json!({}), 422),
            (json!({"all": true, "namespace": "oidc", "subject": "alice"}), 422),
            (json!({"namespace": "oidc"}), 422),
            (json!({"namespace": "oidc", "subject": "zoe"}), 404),
            (json!({"all": true}), 200),
            (alice.clone(), 200),
        ] {
            let (found, answer) = call(&office, ADMIN, "POST", &target, Some(body.clone())).await;
            assert_eq!(found, status, "{act} {body}: {answer}");
        }
        assert_eq!(call(&office, WRITER, "POST", &target, Some(alice.clone())).await.0, 403);
    }
    assert_eq!(call(&office, ADMIN, "GET", "/api/v1/deliveries/none", None).await.0, 404);
    assert_eq!(office.events("delivery_paused").await[0]["by"], "api client `admin` (v1)");
    assert_eq!(office.events("delivery_resynced").await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_made_with_a_secret_that_is_shown_once_and_ended() {
    let office = Office::open().await;
    let new = json!({"name": "robot", "scopes": ["read", "read"], "faces": ["v1"]});
    assert_eq!(call(&office, WRITER, "POST", "/api/v1/clients", Some(new.clone())).await.0, 403);
    let (status, made) = call(&office, ADMIN, "POST", "/api/v1/clients", Some(new.clone())).await;
    let secret = made["client_secret"].as_str().unwrap().to_owned();
    assert_eq!((status, secret.len()), (201, 43));
    assert_eq!(call(&office, &secret, "GET", "/api/v1/groups", None).await.0, 200);
    assert_eq!(call(&office, ADMIN, "POST", "/api/v1/clients", Some(new)).await.0, 409, "a second of the name");
    let listed = office.get("/api/v1/clients").await;
    assert!(!listed.to_string().contains(&secret), "{listed}");
    let robot = listed["items"].as_array().unwrap().iter().find(|client| client["name"] == "robot").unwrap();
    assert_eq!((&robot["scopes"], &robot["origin"]), (&json!(["read"]), &json!("store")), "{robot}");
    for (body, fault) in [
        (json!({"name": "a b", "scopes": ["read"]}), "name"),
        (json!({"name": "x", "scopes": []}), "scopes"),
        (json!({"name": "x", "scopes": ["root"]}), "scopes[0]"),
        (json!({"name": "x", "scopes": ["read"], "faces": ["v2"]}), "faces[0]"),
    ] {
        let (status, answer) = call(&office, ADMIN, "POST", "/api/v1/clients", Some(body)).await;
        assert_eq!((status, answer.to_string().contains(&format!("\"{fault}\""))), (422, true), "{fault}: {answer}");
    }
    let (status, _) =
        call(&office, ADMIN, "POST", "/api/v1/clients", Some(json!({"name": "Admin", "scopes": ["read"]}))).await;
    assert_eq!(status, 409, "the file declares it");
    for (name, secret, status) in
        [("robot", WRITER, 403), ("admin", ADMIN, 409), ("none", ADMIN, 404), ("robot", ADMIN, 204)]
    {
        assert_eq!(call(&office, secret, "DELETE", &format!("/api/v1/clients/{name}"), None).await.0, status, "{name}");
    }
    assert_eq!(call(&office, &secret, "GET", "/api/v1/groups", None).await.0, 401);
    assert_eq!(office.events("client_created").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_of_operators_are_listed_and_ended() {
    let office = Office::with("[console]\nenabled = true\n").await;
    let cookie = sign_in(&office.house, Scope::Read).await;
    let see = || async {
        let headers = [("cookie", cookie.as_str())];
        office.house.send_to(office.house.running.admin, "GET", "/console/", &headers, b"").await.status
    };
    assert_eq!(see().await, 200);
    let listed = office.get("/api/v1/console/sessions").await;
    assert_eq!(listed["items"][0]["name"], "root by link", "{listed}");
    let secret = cookie.split('=').nth(1).unwrap();
    assert!(!listed.to_string().contains(secret));
    let target = format!("/api/v1/console/sessions/{}", listed["items"][0]["id"].as_str().unwrap());
    for (secret, status) in [(WRITER, 403), (ADMIN, 204), (ADMIN, 404)] {
        assert_eq!(call(&office, secret, "DELETE", &target, None).await.0, status);
    }
    assert_eq!(see().await, 401);
    assert_eq!(office.events("console_ended").await[0]["session"], "root by link");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_is_told_without_secrets_and_with_what_lint_finds() {
    let office = Office::with("[[group]]\nname = \"Never\"\n[egress]\nproxy = \"http://proxy.example:3128\"\n").await;
    let (status, told) = call(&office, READER, "GET", "/api/v1/configuration", None).await;
    assert_eq!(status, 200);
    let text = told.to_string();
    for word in ["proxy.example:3128", "kept in the store", "never given", "Never", "no audit key"] {
        assert!(text.contains(word), "{word}: {told:#}");
    }
    // Whose secrets they have, the names alone say.
    let digest = loginsync::ports::sessions::Digest::of(ADMIN.as_bytes());
    let hash: String = digest.0.iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(text.contains("admin, writer, reader") && !text.contains(&hash), "{told:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_is_verified_in_the_background_one_at_a_time() {
    let office = Office::open().await;
    office.login("1", &["staff"]).await;
    let target = "/api/v1/audit/verification";
    assert_eq!(office.get(target).await["state"], "never");
    let (status, begun) = call(&office, READER, "POST", target, None).await;
    assert_eq!(status, 202, "{begun}");
    assert_eq!(call(&office, READER, "POST", target, None).await.0, 409, "under way, or just ended");
    let mut view = office.get(target).await;
    for _ in 0..100 {
        if view["state"] != "running" {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        view = office.get(target).await;
    }
    assert_eq!((&view["state"], view["rows"].as_u64() > Some(0)), (&json!("whole"), true), "{view}");
    assert_eq!(view["head"].as_str().map(str::len), Some(64));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_for_named_people_speaks_of_them_alone() {
    let office = Office::open().await;
    office.login("1", &["staff"]).await;
    office.post("/api/v1/groups", json!({"name": "Extra"})).await;
    let change = json!({"definition": short("staff", "Extra")["definition"]});
    let plan = |users: Value| json!({"change": change, "users": users});
    let alice = json!([{"namespace": "oidc", "subject": "alice"}]);
    let (status, told) = call(&office, WRITER, "POST", "/api/v1/plan", Some(plan(alice))).await;
    assert_eq!(status, 200, "{told}");
    assert_eq!((&told["users"], &told["details"][0]["gains"][0]["name"]), (&json!(1), &json!("Extra")), "{told:#}");
    assert_eq!(told["last_holders"], json!([]));
    for (users, field) in [
        (json!([]), "users"),
        (json!([{"namespace": "oidc", "subject": "zoe"}]), "users[0]"),
        (json!([{"namespace": "oidc"}]), "users[0].subject"),
    ] {
        let (status, answer) = call(&office, WRITER, "POST", "/api/v1/plan", Some(plan(users))).await;
        assert_eq!((status, answer.to_string().contains("users")), (422, true), "{field}: {answer}");
    }
}
