//! OutSystems ODC's end-user groups and claim mappings.

use serde_json::{Value, json};

use super::{ELSEWHERE, Office, READER, SECRET};

pub const BASE: &str = "/api/identity/v1";
const MEMBER: &str = "oidc/alice: groups [\"Marketing\"], roles [\"editor\"]";
const NOTHING: &str = "oidc/alice: groups [], roles []";

impl Office {
    pub async fn odc(&self, status: u16, method: &str, path: &str, body: &Value) -> Value {
        self.expect(status, method, &format!("{BASE}{path}"), body).await
    }

    /// The key of what has a name in a list.
    pub async fn key(&self, list: &str, name: &str) -> String {
        let page = self.odc(200, "GET", list, &Value::Null).await;
        let results = page["results"].as_array().unwrap();
        let found = results.iter().find(|one| one["name"] == name).unwrap_or_else(|| panic!("{name} in {page}"));
        found["key"].as_str().unwrap().to_owned()
    }

    /// The key of a stage.
    pub async fn stage(&self, name: &str) -> String {
        let page = self.expect(200, "GET", "/api/v1/stages", &Value::Null).await;
        let found = page["items"].as_array().unwrap().iter().find(|stage| stage["name"] == name);
        found.unwrap_or_else(|| panic!("{name} in {page}"))["key"].as_str().unwrap().to_owned()
    }

    /// A group that carries a role.
    pub async fn group(&self, name: &str, stage: Option<&str>) -> String {
        if let Some(stage) = stage {
            // There is no stage before something is in it.
            let body = json!({"name": name, "description": "of a test", "roles": ["editor"], "stages": [stage]});
            return self.expect(201, "POST", "/api/v1/groups", &body).await["key"].as_str().unwrap().to_owned();
        }
        let editor = self.key("/application-roles", "editor").await;
        let body = json!({
            "name": name, "description": "of a test", "environmentKey": null, "applicationRoleKeys": [editor], "userKeys": [],
        });
        self.odc(201, "POST", "/groups", &body).await["key"].as_str().unwrap().to_owned()
    }

    pub async fn mapped(&self, group: &str, provider: &str, claim: Value) -> String {
        let provider = self.key("/identity-providers", provider).await;
        let body = json!({"providerKey": provider, "foreignClaim": claim});
        let made = self.odc(201, "POST", &format!("/groups/{group}/claim-mappings"), &body).await;
        made["key"].as_str().unwrap().to_owned()
    }
}

fn marketing() -> Value {
    json!({"name": "groups", "value": "marketing"})
}

fn types(page: &Value) -> Vec<Value> {
    page["results"].as_array().unwrap().iter().map(|one| one["membershipTypes"].clone()).collect()
}

/// The seed's own case: claim `groups`, value `marketing`.
#[tokio::test(flavor = "multi_thread")]
async fn a_login_gains_by_a_claim_mapping_and_loses_with_it() {
    let office = Office::open().await;
    let group = office.group("Marketing", Some("production")).await;
    assert_eq!(office.login("alice", 1, &json!({"groups": ["marketing"]})).await, 200);
    assert!(office.holds(NOTHING).await);
    let mapping = office.mapped(&group, "oidc", marketing()).await;
    assert_eq!(office.login("alice", 2, &json!({"groups": ["marketing"]})).await, 200);
    assert!(office.holds(MEMBER).await);
    // The value is taken whole where no delimiter says otherwise.
    assert_eq!(office.login("alice", 3, &json!({"groups": "marketing;sales"})).await, 200);
    assert!(office.holds(NOTHING).await);

    let path = format!("/groups/{group}/claim-mappings/{mapping}");
    office.odc(204, "PATCH", &path, &json!({"foreignClaim": {"valueDelimiter": ";"}})).await;
    assert_eq!(office.login("alice", 4, &json!({"groups": "marketing;sales"})).await, 200);
    assert!(office.holds(MEMBER).await);
    let seen = office.odc(200, "GET", &format!("/groups/{group}"), &Value::Null).await;
    let provider = office.key("/identity-providers", "oidc").await;
    assert_eq!(
        seen["groupIdpClaimMappings"],
        json!([{
            "key": mapping, "providerKey": provider, "status": "Active",
            "foreignClaim": {"name": "groups", "value": "marketing", "valueDelimiter": ";"},
            "lastUpdatedDate": "2026-01-31T12:00:00.000Z",
        }])
    );
    assert_eq!(
        (&seen["name"], &seen["environmentKey"]),
        (&json!("Marketing"), &json!(office.stage("production").await))
    );

    office.odc(204, "DELETE", &path, &Value::Null).await;
    assert!(office.holds(NOTHING).await, "at once");
    assert_eq!(office.login("alice", 5, &json!({"groups": ["marketing"]})).await, 200);
    assert!(office.holds(NOTHING).await);
    office.odc(404, "DELETE", &path, &Value::Null).await;
}

/// What a client that was generated from the vendor's document sends, and can read: keys are UUIDs, what it has no value for is
/// null in a request, and no null in an answer.
#[tokio::test(flavor = "multi_thread")]
async fn api05_generated_clients_are_understood() {
    let office = Office::open().await;
    let stage = office.stage("production").await;
    assert!(uuid::Uuid::parse_str(&stage).is_ok(), "{stage}");
    let null = json!({
        "name": "Marketing", "description": null, "environmentKey": stage, "applicationRoleKeys": null, "userKeys": null,
    });
    let group = office.odc(201, "POST", "/groups", &null).await["key"].as_str().unwrap().to_owned();
    let path = format!("/groups/{group}");
    let seen = office.odc(200, "GET", &path, &Value::Null).await;
    assert_eq!((&seen["environmentKey"], seen.get("portfolioKey")), (&json!(stage), None), "{seen}");
    let everywhere = office.group("Everywhere", None).await;
    let seen = office.odc(200, "GET", &format!("/groups/{everywhere}"), &Value::Null).await;
    assert_eq!((seen.get("environmentKey"), seen.get("portfolioKey")), (None, None), "{seen}");
    office.odc(204, "PATCH", &path, &json!({"name": null, "description": null})).await;
    let roles = json!({"applicationRoleKeysToAdd": null, "applicationRoleKeysToRemove": null});
    office.odc(200, "PATCH", &format!("{path}/application-roles"), &roles).await;
    office.odc(200, "PATCH", &format!("{path}/users"), &json!({"userKeysToAdd": null, "userKeysToRemove": null})).await;
    for unknown in ["production", "no stage", "4baf8423-db0a-4037-a4cf-f79c60000000"] {
        let body = json!({"name": "Sales", "environmentKey": unknown});
        let problem = office.odc(400, "POST", "/groups", &body).await;
        let detail = "Request input has the following issue: The environmentKey field names no stage.";
        assert_eq!(
            (&problem["detail"], &problem["errorCode"]),
            (&json!(detail), &json!("OS-ID-BIZ-40001")),
            "{unknown}"
        );
    }
    let page = office.odc(200, "GET", &format!("/groups?environmentKey={}", stage.to_uppercase()), &Value::Null).await;
    assert_eq!(page["results"].as_array().unwrap().len(), 1, "{page}");
    let provider = office.key("/identity-providers", "staged").await;
    let seen = office.odc(200, "GET", &format!("/identity-providers/{provider}"), &Value::Null).await;
    assert_eq!(seen["environmentKeys"], json!([stage]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_takes_its_mappings_and_its_access_with_it() {
    let office = Office::open().await;
    let group = office.group("Marketing", None).await;
    office.mapped(&group, "oidc", marketing()).await;
    office.mapped(&group, "oidc", json!({"name": "member_of", "value": "CN=Marketing"})).await;
    assert_eq!(office.login("alice", 1, &json!({"groups": ["marketing"]})).await, 200);
    assert!(office.holds(MEMBER).await);
    office.odc(204, "DELETE", &format!("/groups/{group}"), &Value::Null).await;
    assert!(office.holds(NOTHING).await);
    office.odc(404, "GET", &format!("/groups/{group}"), &Value::Null).await;
    let again = office.group("Marketing", None).await;
    let seen = office.odc(200, "GET", &format!("/groups/{again}"), &Value::Null).await;
    assert_eq!(seen["groupIdpClaimMappings"], json!([]), "a new group of the name has none of the old mappings");
}

/// Mapped and assigned are told apart; who is mapped alone cannot be removed by hand, and then nothing of the PATCH stays.
#[tokio::test(flavor = "multi_thread")]
async fn membership_has_types() {
    let office = Office::open().await;
    let group = office.group("Marketing", None).await;
    office.mapped(&group, "oidc", marketing()).await;
    assert_eq!(office.login("alice", 1, &json!({"groups": ["marketing"]})).await, 200);
    assert_eq!(office.login("bob", 1, &json!({"groups": [], "email": "bob@example.com", "name": "Bob"})).await, 200);
    let users = office.odc(200, "GET", "/users", &Value::Null).await;
    let key = |name: &str| {
        let all = users["results"].as_array().unwrap();
        all.iter().find(|user| user["username"] == name).unwrap()["key"].as_str().unwrap().to_owned()
    };
    let (alice, bob) = (key("alice"), key("bob"));
    let members = format!("/groups/{group}/users");
    assert_eq!(types(&office.odc(200, "GET", &members, &Value::Null).await), [json!(["Mapped"])]);

    let change = json!({"userKeysToAdd": [bob], "userKeysToRemove": [alice]});
    let refused = office.odc(409, "PATCH", &members, &change).await;
    assert!(refused["detail"].as_str().unwrap().contains("is not assigned to"), "{refused}");
    assert!(refused["detail"].as_str().unwrap().contains("what a mapping grants ends with"), "{refused}");
    assert_eq!(
        types(&office.odc(200, "GET", &members, &Value::Null).await),
        [json!(["Mapped"])],
        "nothing of it stays"
    );

    let both = json!({"userKeysToAdd": [alice, bob]});
    for _ in 0..2 {
        office.odc(200, "PATCH", &members, &both).await;
    }
    let both = json!(["Assigned", "Mapped"]);
    assert_eq!(types(&office.odc(200, "GET", &members, &Value::Null).await), [both.clone(), json!(["Assigned"])]);
    for (query, expected) in [
        ("?membershipType=Mapped".to_owned(), vec![both.clone()]),
        (format!("?userKey={bob}"), vec![json!(["Assigned"])]),
        ("?nameOrEmailContains=ALICE@&limit=5".to_owned(), vec![both.clone()]),
        ("?limit=1&offset=1".to_owned(), vec![json!(["Assigned"])]),
    ] {
        let page = office.odc(200, "GET", &format!("{members}{query}"), &Value::Null).await;
        assert_eq!(types(&page), expected, "{query} {page}");
    }
    assert_eq!(types(&office.odc(200, "GET", &format!("/users/{alice}/groups"), &Value::Null).await), [both]);

    let roles = |source: &'static str| {
        let (office, alice) = (&office, &alice);
        async move {
            let page = office.odc(200, "GET", &format!("/users/{alice}/application-roles{source}"), &Value::Null).await;
            page["results"].clone()
        }
    };
    assert_eq!(roles("").await, json!([]), "none directly");
    let mapped = roles("?assignmentSources=GroupMapped").await;
    assert_eq!((&mapped[0]["name"], &mapped[0]["isDirectlyAssigned"]), (&json!("editor"), &json!(false)));
    assert_eq!(mapped[0]["assignedGroups"][1]["membershipType"], "Mapped");
    let lead = office.key("/application-roles", "lead").await;
    let path = format!("/users/{alice}/application-roles/{lead}");
    office.odc(201, "POST", &path, &Value::Null).await;
    assert_eq!(roles("?assignmentSources=Direct&assignmentSources=GroupAssigned").await.as_array().unwrap().len(), 2);
    office.odc(204, "DELETE", &path, &Value::Null).await;
    office.odc(409, "DELETE", &path, &Value::Null).await;

    // By hand goes what came by hand; the claim still holds.
    office.odc(200, "PATCH", &members, &json!({"userKeysToRemove": [alice, bob]})).await;
    assert_eq!(types(&office.odc(200, "GET", &members, &Value::Null).await), [json!(["Mapped"])]);
    office.odc(404, "PATCH", &members, &json!({"userKeysToAdd": ["no-such-key"]})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stages_decide_what_is_active() {
    let office = Office::open().await;
    let group = office.group("Testers", Some("test")).await;
    office.mapped(&group, "oidc", marketing()).await;
    let seen = office.odc(200, "GET", &format!("/groups/{group}"), &Value::Null).await;
    assert_eq!(seen["groupIdpClaimMappings"][0]["status"], "Inactive");
    assert_eq!(office.login("alice", 1, &json!({"groups": ["marketing"]})).await, 200);
    assert!(office.holds(NOTHING).await);

    // SAML: the group's stage must be the provider's, and there is none in Organization scope.
    let create = |name: &'static str| {
        let (office, group) = (&office, &group);
        async move {
            let provider = office.key("/identity-providers", name).await;
            let body = json!({"providerKey": provider, "foreignClaim": marketing()});
            let path = format!("/groups/{group}/claim-mappings");
            office.odc(400, "POST", &path, &body).await["detail"].as_str().unwrap().to_owned()
        }
    };
    assert!(create("saml").await.ends_with("SAML providers configured with the Organization scope."));
    assert!(create("staged").await.ends_with("the same scope as the one configured for the SAML provider."));
    let fits = office.group("Shipping", Some("production")).await;
    office.mapped(&fits, "staged", marketing()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_are_bound_and_escaped() {
    let office = Office::open().await;
    let group = office.group("Marketing", None).await;
    let provider = office.key("/identity-providers", "oidc").await;
    let path = format!("/groups/{group}/claim-mappings");
    let characters = |field: &str| {
        format!(
            "The {field} field must contain valid Unicode characters only (excluding '). \" or \\ or control characters \
             must be escaped using backslash."
        )
    };
    let long = |count: usize| "é".repeat(count);
    let rows: Vec<(Value, String)> = vec![
        (json!({"name": "o'clock", "value": "x"}), characters("Claim name")),
        (json!({"name": "groups", "value": "a\"b"}), characters("Claim value")),
        (json!({"name": "groups", "value": "a\tb"}), characters("Claim value")),
        (json!({"name": "groups", "value": "a\\"}), characters("Claim value")),
        (json!({"name": "groups", "value": "a", "valueDelimiter": "'"}), characters("Delimiter")),
        (
            json!({"name": "groups", "value": "a;b", "valueDelimiter": ";"}),
            "The Claim value field cannot contain the delimiter.".into(),
        ),
        (json!({"name": long(51), "value": "a"}), "The Claim name field must not be longer than 50 characters.".into()),
        (
            json!({"name": "groups", "value": long(257)}),
            "The Claim value field must not be longer than 256 characters.".into(),
        ),
        (
            json!({"name": "groups", "value": "a", "valueDelimiter": ";;;;"}),
            "The Delimiter field must not be longer than 3 characters.".into(),
        ),
        (json!({"name": "groups"}), "The Claim value field is required.".into()),
    ];
    for (claim, text) in rows {
        let body = json!({"providerKey": provider, "foreignClaim": claim});
        let problem = office.odc(400, "POST", &path, &body).await;
        assert_eq!(problem["detail"], format!("Request input has the following issue: {text}"), "{claim}");
        assert_eq!((&problem["errorCode"], &problem["status"]), (&json!("OS-ID-BIZ-40001"), &json!(400)));
        assert_eq!(problem["title"], "Input validation error");
        assert!(problem["traceId"].as_str().is_some_and(|trace| !trace.is_empty()));
    }
    // At the bounds it passes, and what was escaped is matched as it is meant.
    office.mapped(&group, "oidc", json!({"name": "groups", "value": long(256), "valueDelimiter": ";;;"})).await;
    office.mapped(&group, "oidc", json!({"name": "groups", "value": "a\\\"b\\\\c"})).await;
    let seen = office.odc(200, "GET", &format!("/groups/{group}"), &Value::Null).await;
    assert_eq!(seen["groupIdpClaimMappings"][1]["foreignClaim"]["value"], "a\\\"b\\\\c");
    assert_eq!(office.login("alice", 1, &json!({"groups": ["a\"b\\c"]})).await, 200);
    assert!(office.holds(MEMBER).await);
}

/// Any claim of the token may be mapped, `sub` too; it is read from then on.
#[tokio::test(flavor = "multi_thread")]
async fn api06_a_mapping_may_name_a_claim_that_nobody_declared() {
    let office = Office::open().await;
    let group = office.group("Marketing", None).await;
    assert_eq!(office.login("alice", 1, &json!({"groups": [], "department": "Sales"})).await, 200);
    let mapping = office.mapped(&group, "oidc", json!({"name": "sub", "value": "alice"})).await;
    assert_eq!(office.login("alice", 2, &json!({"groups": []})).await, 200);
    assert!(office.holds(MEMBER).await);
    assert_eq!(office.login("bob", 1, &json!({"groups": []})).await, 200);
    assert!(office.holds("oidc/bob: groups [], roles []").await);

    let path = format!("/groups/{group}/claim-mappings/{mapping}");
    let department = json!({"foreignClaim": {"name": "https://example.com/department", "value": "Sales"}});
    office.odc(204, "PATCH", &path, &department).await;
    assert_eq!(office.login("alice", 3, &json!({"groups": []})).await, 200);
    assert!(office.holds(NOTHING).await, "`sub` is no longer asked");
    let sales = json!({"groups": [], "https://example.com/department": ["Sales"]});
    assert_eq!(office.login("alice", 4, &sales).await, 200);
    assert!(office.holds(MEMBER).await);

    // Elsewhere a claim is declared before a mapping names it, and it still is no declared one there.
    let definition =
        json!({"provider": "oidc", "when": [{"claim": "sub", "is": "bob"}], "then": [{"add_group": "Staff"}]});
    let problem = office.expect(422, "POST", "/api/v1/mappings", &json!({ "definition": definition })).await;
    assert_eq!(problem["errors"][0]["field"], "when[0].claim", "{problem}");
    let claims = json!({"sub": "alice", "groups": [], "https://example.com/department": "Sales"});
    let explained = office.expect(200, "POST", "/api/v1/explain", &json!({"provider": "oidc", "claims": claims})).await;
    assert!(explained.to_string().contains("Marketing"), "{explained}");

    office.odc(204, "DELETE", &path, &Value::Null).await;
    assert!(office.holds(NOTHING).await, "at once");
    // Each is read at every login, so that there is a bound.
    let provider = office.key("/identity-providers", "oidc").await;
    for number in 0..101 {
        let body = json!({"providerKey": provider, "foreignClaim": {"name": format!("claim-{number}"), "value": "x"}});
        let status = if number < 100 { 201 } else { 409 };
        office.odc(status, "POST", &format!("/groups/{group}/claim-mappings"), &body).await;
    }
}

/// Whoever writes mappings must not be able to keep everybody out, as a `strict` provider does for claims that it declares.
#[tokio::test(flavor = "multi_thread")]
async fn api06_a_claim_that_nobody_declared_refuses_nobody() {
    let strict = super::CONFIG.replacen("binding = \"observe\"", "binding = \"observe\"\nstrict = true", 1);
    let office = Office::of(&strict).await;
    let group = office.group("Marketing", None).await;
    office.mapped(&group, "oidc", json!({"name": "address", "value": "x"})).await;
    assert_eq!(office.login("alice", 1, &json!({"groups": [], "address": {"street": "x"}})).await, 200);
    assert_eq!(office.login("alice", 2, &json!({"groups": {"a": "b"}})).await, 403, "one that is declared does");
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_are_listed_by_pages_and_filters() {
    let office = Office::open().await;
    let marketing_key = office.group("Marketing", Some("production")).await;
    office.group("Sales", Some("test")).await;
    office.mapped(&marketing_key, "oidc", marketing()).await;
    let names = |query: String| {
        let office = &office;
        async move {
            let page = office.odc(200, "GET", &format!("/groups{query}"), &Value::Null).await;
            let names: Vec<String> = page["results"]
                .as_array()
                .unwrap()
                .iter()
                .map(|one| one["name"].as_str().unwrap().to_owned())
                .collect();
            (names, page["page"].clone())
        }
    };
    let (all, page) = names(String::new()).await;
    assert_eq!(all, ["Marketing", "Sales", "Staff"]);
    assert_eq!(
        page,
        json!({"count": 3, "limit": 100, "offset": 0, "totalResults": 3, "nextPageOffset": null, "totalPages": 1})
    );
    let (second, page) = names("?limit=2&offset=2".into()).await;
    assert_eq!((second, &page["totalPages"]), (vec!["Staff".to_owned()], &json!(2)));
    assert_eq!(names("?limit=2".into()).await.1["nextPageOffset"], 2);
    assert_eq!(names("?nameContains=ARK".into()).await.0, ["Marketing"]);
    let test = office.stage("test").await;
    assert_eq!(names(format!("?environmentKeys={test},4baf8423-db0a-4037-a4cf-f79c60000000")).await.0, ["Sales"]);
    let oidc = office.key("/identity-providers", "oidc").await;
    assert_eq!(
        names(format!("?identityProviderKey={oidc}")).await.0,
        ["Marketing", "Staff"],
        "the file's mappings count"
    );
    for query in ["?limit=0", "?limit=101", "?offset=-1", "?environmentKey=a&environmentKeys=b"] {
        office.odc(400, "GET", &format!("/groups{query}"), &Value::Null).await;
    }

    // What the configuration file declares is to be seen, and not to be changed.
    let staff = office.key("/groups", "Staff").await;
    let seen = office.odc(200, "GET", &format!("/groups/{staff}"), &Value::Null).await;
    let mapping = seen["groupIdpClaimMappings"][0]["key"].as_str().unwrap().to_owned();
    for (method, path) in [
        ("DELETE", format!("/groups/{staff}")),
        ("PATCH", format!("/groups/{staff}")),
        ("DELETE", format!("/groups/{staff}/claim-mappings/{mapping}")),
    ] {
        let problem = office.odc(409, method, &path, &json!({})).await;
        assert!(problem["detail"].as_str().unwrap().contains("configuration file"), "{problem}");
    }
    office.odc(204, "PATCH", &format!("/groups/{marketing_key}"), &json!({"name": "Markets"})).await;
    office.odc(409, "PATCH", &format!("/groups/{marketing_key}"), &json!({"name": "staff"})).await;
    let seen = office.odc(200, "GET", &format!("/groups/{marketing_key}"), &Value::Null).await;
    assert_eq!((&seen["name"], seen["groupIdpClaimMappings"].as_array().unwrap().len()), (&json!("Markets"), 1));
    let roles = format!("/groups/{marketing_key}/application-roles");
    let (editor, lead) =
        (office.key("/application-roles", "editor").await, office.key("/application-roles", "lead").await);
    let change = json!({"applicationRoleKeysToAdd": [lead], "applicationRoleKeysToRemove": [editor]});
    office.odc(200, "PATCH", &roles, &change).await;
    office.key(&roles, "lead").await;
    assert_eq!(office.odc(200, "GET", &roles, &Value::Null).await["page"]["totalResults"], 1);
    let root = office.key("/application-roles", "root").await;
    office.odc(403, "PATCH", &roles, &json!({"applicationRoleKeysToAdd": [root]})).await;
}

/// As the vendor's page has it: discovery, then client credentials.
#[tokio::test(flavor = "multi_thread")]
async fn scripts_log_in() {
    let office = Office::open().await;
    let found = office.call("GET", "/identity/.well-known/openid-configuration", &[], "").await.json();
    let endpoint = found["token_endpoint"].as_str().unwrap().to_owned();
    let path = endpoint.strip_prefix(&format!("http://{}", office.house.running.admin)).unwrap().to_owned();
    let form_type = ("content-type", "application/x-www-form-urlencoded");
    let form = format!("grant_type=client_credentials&client_id=script&client_secret={SECRET}");
    let token = office.call("POST", &path, &[form_type], &form).await.json();
    assert_eq!((&token["expires_in"], &token["token_type"]), (&json!(43200), &json!("Bearer")));
    let token = token["access_token"].as_str().unwrap().to_owned();
    assert_eq!(office.by(&token, "GET", &format!("{BASE}/groups"), &Value::Null).await.status, 200);

    let wrong = office.call("POST", &path, &[form_type], &form.replace(SECRET, READER)).await;
    assert_eq!((wrong.status, wrong.json()), (401, json!({"error": "invalid_client"})));
    let other = office.call("POST", &path, &[form_type], &form.replace("client_credentials", "password")).await;
    assert_eq!((other.status, other.json()), (400, json!({"error": "unsupported_grant_type"})));
    for (secret, status) in [("wrong", 401), (ELSEWHERE, 403)] {
        let refused = office.by(secret, "GET", &format!("{BASE}/groups"), &Value::Null).await;
        assert_eq!((refused.status, refused.json()["status"].clone()), (status, json!(status)));
        assert_eq!(refused.headers["content-type"], "application/problem+json");
    }
    let group = office.group("Marketing", None).await;
    let path = format!("{BASE}/groups/{group}");
    for (method, path) in [("DELETE", path.clone()), ("PATCH", path.clone()), ("PATCH", format!("{path}/users"))] {
        assert_eq!(office.by(READER, method, &path, &json!({})).await.status, 403, "{method} {path}");
    }
    assert_eq!(office.by(READER, "GET", &path, &Value::Null).await.status, 200);
}
