//! SAY12: what did the provider send? Names, never values.

use loginsync::cli::demo::mint::saml::{self, MintAttribute};
use serde_json::{Value, json};

use super::Log;
use crate::api::{ADMIN, Office};
use crate::attacks::{FORM, config, form, here, signed, with};
use crate::front_door::House;
use crate::kit::{self, NOW};
use crate::seeing::{Desk, run, run_with};

const OPEN: (&str, &str) = ("binding = \"observe\"", "allow_idp_initiated = true");

fn token(person: usize, claims: Value) -> String {
    let mut all = json!({"jti": format!("t-{person}"), "sub": format!("person-{person}"), "groups": null});
    all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
    form(&[("id_token", &signed(&with(&all))), ("state", "s")])
}

async fn last_detail(house: &House) -> Value {
    let events = house.events().await;
    let logins = events.into_iter().filter(|row| row.event.starts_with("login"));
    logins.max_by_key(|row| row.sequence).unwrap().detail
}

#[tokio::test]
async fn say12_the_audit_and_the_log_name_what_came_instead() {
    let log = Log::listen();
    let house = House::open(&config(OPEN.0, OPEN.1), &here(), NOW).await;
    let body = token(1, json!({"Groups": ["Secret-Staff"]}));
    assert_eq!(house.send("POST", "/callback", &[FORM], body.as_bytes()).await.status, 200);
    let detail = last_detail(&house).await;
    let names = detail["arrived"][0]["names"].as_array().unwrap();
    assert_eq!(detail["arrived"][0]["source"], "id_token");
    assert!(names.contains(&json!("Groups")) && names.contains(&json!("iss")), "{detail}");
    assert!(!detail.to_string().contains("Secret-Staff"), "{detail}");
    let told = log.lines("WARN", "similar name");
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!((&told[0]["claim"], &told[0]["provider"]), (&json!("groups"), &json!("oidc")));
    assert_eq!(told[0]["near"], "\"Groups\" arrived, which differs from \"groups\" by case or blanks only");
    assert!(log.lines("WARN", "Secret-Staff").is_empty() && log.lines("INFO", "Secret-Staff").is_empty());

    let again = token(2, json!({"https://app.example/groups": ["staff"]}));
    house.send("POST", "/callback", &[FORM], again.as_bytes()).await;
    assert_eq!(log.lines("WARN", "similar name").len(), 1, "once an hour for each claim");
    let whole = token(3, json!({"groups": ["staff"]}));
    house.send("POST", "/callback", &[FORM], whole.as_bytes()).await;
    let missing: Vec<_> = log.lines("INFO", "login applied").iter().map(|line| line["missing"].clone()).collect();
    assert_eq!(missing, [json!("groups"), json!("groups"), json!(null)], "at each login");
    house.running.stop().await;
}

#[tokio::test]
async fn say12_saml_attributes_are_told_by_both_their_names() {
    let house = House::open(&config(OPEN.0, OPEN.1), &here(), NOW).await;
    let mut login = kit::login();
    login.in_response_to = None;
    let mut attribute = MintAttribute::of("urn:oid:1.3.6.1.4.1.5923.1.5.1.1", &["Secret-Staff"]);
    attribute.friendly_name = Some("GROUPS".into());
    login.attributes = vec![attribute.clone(), attribute];
    let body = form(&[("SAMLResponse", &saml::field(&kit::signed_assertion(&login, &kit::key("idp-rsa"))))]);
    assert_eq!(house.send("POST", "/saml/acs", &[FORM], body.as_bytes()).await.status, 200);
    let detail = last_detail(&house).await;
    assert_eq!(
        detail["arrived"],
        json!([{"source": "assertion", "names": ["NameID", "AuthnContextClassRef", "SessionIndex", "urn:oid:1.3.6.1.4.1.5923.1.5.1.1 (GROUPS)"]}])
    );
    house.running.stop().await;
}

/// A claim that is missing for five people and that no login has is worth a line; one login with it, and it is not.
#[tokio::test]
async fn say12_a_claim_that_nobody_has_is_an_alarm() {
    let log = Log::listen();
    let house = House::open(&config(OPEN.0, OPEN.1), &here(), NOW).await;
    for person in 0..4 {
        house.send("POST", "/callback", &[FORM], token(person, json!({})).as_bytes()).await;
    }
    assert!(log.lines("WARN", "no login of the last hour").is_empty());
    house.send("POST", "/callback", &[FORM], token(4, json!({})).as_bytes()).await;
    let told = log.lines("WARN", "no login of the last hour");
    assert_eq!(told.len(), 1);
    assert_eq!((&told[0]["claim"], &told[0]["provider"]), (&json!("groups"), &json!("oidc")));
    house.send("POST", "/callback", &[FORM], token(5, json!({})).as_bytes()).await;
    assert_eq!(log.lines("WARN", "no login of the last hour").len(), 1);
    house.running.stop().await;
}

/// A login that its claims refuse tells it too: in the audit, the log, and `explain --id`.
#[tokio::test(flavor = "multi_thread")]
async fn say12_a_refused_login_says_what_came() {
    let text = config("binding = \"observe\"\nuser_claim = \"upn\"", OPEN.1);
    let house = House::open(&text, &here(), NOW).await;
    let body = token(1, json!({"UPN": "person@example.com"}));
    assert_eq!(house.send("POST", "/callback", &[FORM], body.as_bytes()).await.status, 403);
    let detail = last_detail(&house).await;
    assert!(detail["reason"].as_str().unwrap().contains("`upn` is missing"), "{detail}");
    assert!(detail["arrived"][0]["names"].as_array().unwrap().contains(&json!("UPN")), "{detail}");

    let desk = Desk::new();
    let store = house.folder.path().join("store.db");
    let fixtures = format!("\"{}/fixtures/", env!("CARGO_MANIFEST_DIR"));
    let text = text.replace("store.db", store.to_str().unwrap()).replace("\"fixtures/", &fixtures);
    let file = desk.file("config.toml", &text);
    let said = run(&["explain", "--config", &file, "--id", detail["login"].as_str().unwrap()]);
    assert!(said.out.contains("arrived   id_token: ") && said.out.contains("UPN"), "{said:?}");

    let at = NOW.to_string();
    let said = run_with(&["explain", "--config", &file, "--provider", "oidc", "--at", &at, "--no-store", "-"], &body);
    assert!(said.out.contains("\narrived, by name\n  id_token: "), "{said:?}");
    let note = "note: claim `upn` is missing: \"UPN\" arrived, which differs from \"upn\" by case or blanks only";
    assert!(said.out.contains(note), "{said:?}");
    house.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn say12_a_call_of_explain_lists_what_came_too() {
    let office = Office::open().await;
    let body = json!({"provider": "oidc", "claims": {"sub": "a", "GROUPS": ["x"]}});
    let (status, report, _) = office.call(ADMIN, "POST", "/api/v1/explain", &[], Some(body)).await;
    assert_eq!(status, 200);
    assert_eq!(report["arrived"], json!([{"source": "id_token", "names": ["GROUPS", "sub"]}]), "{report}");
    assert!(report["notes"].to_string().contains("claim `groups` is missing"), "{report}");
}
