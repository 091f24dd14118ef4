//! What a claim brought, and what becomes of memberships: `fixtures/claims/truth-table.json`, row by row, through the front
//! door, for ID tokens and assertions alike, with and without `strict`.

use std::time::Duration;

use loginsync::cli::demo::mint::saml::{MintAttribute, MintValue};
use loginsync::pipeline::ids::{GroupName, Namespace, Subject, Target, UserId};
use loginsync::ports::store::Act;
use serde_json::{Map, Value, json};

use crate::fixtures::{
    COMMON, MAPPINGS, NOW, OIDC_LEAVE, OIDC_PROVIDER, SAML_PROVIDER, folder, oidc_request, saml_leave, saml_login,
    saml_request,
};
use crate::front_door::House;
use crate::support::graph::{ALICE, FakeGraph, Group, Mood, TENANT, group};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Oidc,
    Saml,
}

impl Protocol {
    fn name(self) -> &'static str {
        match self {
            Self::Oidc => "oidc",
            Self::Saml => "saml",
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_holds_for_both_protocols() {
    let text = std::fs::read_to_string(folder("claims").join("truth-table.json")).unwrap();
    let table: Value =
        serde_json::from_str(&text.replace("[\"LONG\"]", &json!(["x".repeat(1100)]).to_string())).unwrap();
    let rows = table["rows"].as_array().unwrap();
    assert!(rows.len() >= 30);
    for row in rows {
        for protocol in [Protocol::Oidc, Protocol::Saml] {
            for strict in [false, true] {
                run(row, protocol, strict).await;
            }
        }
    }
}

async fn run(row: &Value, protocol: Protocol, strict: bool) {
    let case = format!("{}, {protocol:?}, strict: {strict}", row["case"].as_str().unwrap());
    let graph = directory(row).await;
    let house = open(row, protocol, strict, graph.as_ref()).await;
    enter(&house, protocol, &json!({"groups": ["staff", "on-call"]}), None, 1).await;
    assign(&house, protocol).await;
    let before = house.memberships().await;
    if row["unread"].as_bool() != Some(true) {
        assert_eq!(groups_in(&before), ["Marketing", "On-call", "Staff"], "{case}");
    }

    house.clock.set(NOW.plus(Duration::from_secs(2)));
    let (status, reason) = enter(&house, protocol, &row[protocol.name()], Some(row), 2).await;
    let after = house.memberships().await;

    let denied_by_strict = strict && row["strict"] == "deny";
    if let Some(reason_expected) = row["refused"].as_str() {
        assert_eq!((status, reason.as_str()), (403, reason_expected), "{case}");
        assert_eq!(before, after, "{case}");
    } else if denied_by_strict {
        let state = row["state"].as_str().unwrap();
        assert_eq!(status, 403, "{case}");
        assert_eq!(reason, format!("claim `groups` is {state}, and the provider is `strict`"), "{case}");
        assert_eq!(before, after, "{case}: a refused login changes nothing");
    } else {
        assert_eq!(status, 200, "{case}: {reason}");
        assert_eq!(reason, row["state"].as_str().unwrap(), "{case}");
        let expected: Vec<&str> = row["groups"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
        assert_eq!(groups_in(&after), expected, "{case}");
        assert!(after.contains("group Marketing "), "{case}: {after}");
        assert!(!after.contains("group Marketing mapped"), "{case}: what a person's hand gave stays: {after}");
    }
    if let (Some(graph), Some(asked)) = (&graph, row["asked"].as_bool()) {
        assert_eq!(!graph.asked().is_empty(), asked, "{case}");
    }
    house.running.stop().await;
}

/// The directory of a row, in its state.
async fn directory(row: &Value) -> Option<FakeGraph> {
    let of = |ids: &[&'static str]| -> Vec<Group> { ids.iter().map(|id| group(id, id, None, true)).collect() };
    let usual = of(&["staff", "admins"]);
    let (groups, mood) = match row["directory"].as_str()? {
        "well" => (usual, Mood::Well),
        "nobody" => (Vec::new(), Mood::Well),
        "too many" => (of(&["staff", "b", "c", "d", "e", "f"]), Mood::Well),
        "broken" => (usual, Mood::Broken(500)),
        "slow" => (usual, Mood::Slow(Duration::from_secs(30))),
        other => panic!("unknown state `{other}` of a directory"),
    };
    Some(FakeGraph::with(groups, mood).await)
}

async fn open(row: &Value, protocol: Protocol, strict: bool, graph: Option<&FakeGraph>) -> House {
    let provider = match protocol {
        Protocol::Oidc => OIDC_PROVIDER,
        Protocol::Saml => SAML_PROVIDER,
    };
    let when_missing = row["when_missing"].as_str().unwrap_or("clear");
    let overage = graph.map(|graph| graph.table("timeout = '300ms'")).unwrap_or_default();
    let mappings = if row["unread"] == true { String::new() } else { MAPPINGS.replace("PROVIDER", protocol.name()) };
    let text = format!(
        "{COMMON}\n[limits]\nclaim_values = 5\nclaim_bytes = 1024\n{provider}strict = {strict}\n{overage}\n\
         [provider.claims.groups]\ndelimiter = ';'\nwhen_missing = '{when_missing}'\n{mappings}"
    );
    House::open(&text, &folder("login").join("oidc-first-login").join("config.toml"), NOW).await
}

async fn assign(house: &House, protocol: Protocol) {
    let user =
        UserId { namespace: Namespace::parse(protocol.name()).unwrap(), subject: Subject::parse("alice").unwrap() };
    let marketing = Target::Group(GroupName::parse("Marketing").unwrap());
    house.store().act(user, Act::Assign(marketing), "test".into(), NOW).await.unwrap();
}

/// Logs alice in. The answer's status, and why she was refused, or what state the audit has for her groups.
async fn enter(house: &House, protocol: Protocol, claims: &Value, row: Option<&Value>, number: u32) -> (u16, String) {
    let claims = claims.as_object().unwrap();
    let (leave, request) = match protocol {
        Protocol::Oidc => (OIDC_LEAVE.unwrap().to_owned(), oidc_request(&id_token(claims, row, number))),
        Protocol::Saml => {
            let mut login = saml_login(attributes(claims, row));
            login.assertion_id = format!("_assertion-{number}");
            login.response_id = format!("_response-{number}");
            (saml_leave(), saml_request(&login))
        }
    };
    let cookies = house.leave(&leave).await;
    let (head, body) = request.split_once("\n\n").unwrap();
    let (line, header) = head.split_once('\n').unwrap();
    let (method, target) = line.split_once(' ').unwrap();
    let headers = [header.split_once(": ").unwrap(), ("cookie", &cookies), ("accept", "application/json")];
    let status = house.send(method, target, &headers, body.as_bytes()).await.status;
    let detail = house.events().await.pop().unwrap().detail;
    let told = detail["reason"].as_str().or(detail["claims"][0]["state"].as_str());
    (status, told.unwrap_or("nothing was told").to_owned())
}

fn tenant(row: &Value) -> &str {
    row["tenant"].as_str().unwrap_or(TENANT)
}

fn id_token(claims: &Map<String, Value>, row: Option<&Value>, number: u32) -> Value {
    let mut token = json!({"sub": "alice", "jti": format!("token-{number}")});
    let fields = token.as_object_mut().unwrap();
    fields.extend(claims.clone());
    match row.map(|row| (row, &row["overage"])) {
        Some((row, Value::Bool(true))) => {
            // The address is one that no login may ever lead to.
            let elsewhere = format!("https://graph.windows.net/{}/users/{ALICE}/getMemberObjects", tenant(row));
            fields.insert("_claim_names".into(), json!({"groups": "src1"}));
            fields.insert("_claim_sources".into(), json!({"src1": {"endpoint": elsewhere}}));
            fields.extend([("tid".to_owned(), json!(tenant(row))), ("oid".to_owned(), json!(ALICE))]);
        }
        Some((row, Value::String(flag))) => {
            fields.insert(flag.clone(), json!(true));
            fields.extend([("tid".to_owned(), json!(tenant(row))), ("oid".to_owned(), json!(ALICE))]);
        }
        _ => {}
    }
    token
}

fn attributes(claims: &Map<String, Value>, row: Option<&Value>) -> Vec<MintAttribute> {
    let value = |value: &Value| match value {
        Value::Null => MintValue::Nil,
        Value::String(text) => MintValue::Text(text.clone()),
        _ => MintValue::Markup("<x xmlns=\"urn:x\"></x>".into()),
    };
    let of = |(name, values): (&String, &Value)| MintAttribute {
        name: name.clone(),
        friendly_name: None,
        values: values.as_array().unwrap().iter().map(value).collect(),
    };
    let mut attributes: Vec<MintAttribute> = claims.iter().map(of).collect();
    if let Some(row) = row.filter(|row| !row["overage"].is_null()) {
        let link = format!("https://graph.windows.net/{}/users/{ALICE}/getMemberObjects", tenant(row));
        attributes.extend([
            MintAttribute::of("http://schemas.microsoft.com/claims/groups.link", &[&link]),
            MintAttribute::of("http://schemas.microsoft.com/identity/claims/tenantid", &[tenant(row)]),
            MintAttribute::of("http://schemas.microsoft.com/identity/claims/objectidentifier", &[ALICE]),
        ]);
    }
    attributes
}

/// The groups that alice holds.
fn groups_in(memberships: &str) -> Vec<&str> {
    let lines = memberships.lines().filter_map(|line| line.trim_start().strip_prefix("group "));
    let mut names: Vec<&str> = lines.filter_map(|line| line.split(' ').next()).collect();
    names.sort_unstable();
    names
}

/// `strict` keeps out for what somebody looks at: a claim of a preset, or one that is merely declared, is none of it until a
/// mapping or a gate reads it.
#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_nothing_reads_keeps_nobody_out() {
    let (config, _) = crate::seeing::captured("oidc-first-login");
    let config = config
        .replace("email_claim = \"email\"", "email_claim = \"email\"\nstrict = true")
        .replace("[provider.claims.groups]", "[provider.claims.groups]\n\n[provider.claims.odd]");
    let reading = "\n[[gate]]\nname = \"odd\"\ndeny = [{ claim = \"odd\", is = \"x\" }]\n";
    for (more, status) in [("", 200), (reading, 403)] {
        let file = crate::fixtures::folder("login").join("oidc-first-login").join("config.toml");
        let house = House::open(&format!("{config}{more}"), &file, crate::fixtures::NOW).await;
        let cookies =
            house.leave("https://idp.example.com/authorize?client_id=the-app&state=state-1&nonce=nonce-1").await;
        let own = serde_json::json!({"sub": "alice", "odd": [{"x": 1}]});
        let claims = crate::fixtures::id_token_claims("https://idp.example.com", "the-app", &own);
        let body = format!("id_token={}&state=state-1", crate::fixtures::signed_id_token(&claims, "idp-rsa"));
        let form = ("content-type", "application/x-www-form-urlencoded");
        let answer = house.send("POST", "/callback", &[form, ("cookie", &cookies)], body.as_bytes()).await;
        assert_eq!(answer.status, status, "{more}");
        if status == 403 {
            let reason = house.events().await.last().unwrap().detail["reason"].clone();
            assert_eq!(reason, "claim `odd` is malformed, and the provider is `strict`");
        }
    }
}
