//! OutSystems ODC's end-users: lists with their filters, and people who are made, renamed, disabled and deleted by hand.

use serde_json::{Value, json};

use super::odc::BASE;
use super::{CHIEF, Office, READER};

fn usernames(page: &Value) -> Vec<&str> {
    page["results"].as_array().unwrap().iter().map(|one| one["username"].as_str().unwrap()).collect()
}

impl Office {
    async fn users(&self, query: &str) -> Value {
        self.odc(200, "GET", &format!("/users{query}"), &Value::Null).await
    }

    async fn user_key(&self, username: &str) -> String {
        let page = self.users("").await;
        let all = page["results"].as_array().unwrap();
        all.iter().find(|one| one["username"] == username).unwrap()["key"].as_str().unwrap().to_owned()
    }
}

/// Alice, bob and carol have logged in, one after the other; dora was made by hand.
async fn staffed() -> Office {
    let office = Office::open().await;
    for (at, (name, email)) in
        [("alice", "alice@example.com"), ("bob", "bob@other.example"), ("carol", "Carol@Example.com")]
            .iter()
            .enumerate()
    {
        let at = i64::try_from(at).unwrap();
        let changes = json!({"groups": ["staff"], "name": format!("{name} Archer"), "email": email});
        office.house.clock.set(loginsync::pipeline::ids::Timestamp(crate::kit::NOW.0 + 60_000 * at));
        assert_eq!(office.login(name, at, &changes).await, 200);
    }
    let provider = office.key("/identity-providers", "oidc").await;
    let dora = json!({"identityProviderKey": provider, "subject": "dora", "name": "Dora", "isActive": false});
    office.odc(201, "POST", "/users", &dora).await;
    office
}

#[tokio::test(flavor = "multi_thread")]
async fn users_are_listed_by_filters_and_sorted_and_counted() {
    let office = staffed().await;
    let bob = office.user_key("bob").await;
    let all = ["alice", "bob", "carol", "dora"];
    for (query, expected) in [
        ("".to_owned(), &all[..]),
        ("?sort=-name".into(), &["dora", "carol", "bob", "alice"]),
        ("?sort=email".into(), &["alice", "bob", "carol", "dora"]),
        ("?sort=-lastLoginAt".into(), &["carol", "bob", "alice", "dora"]),
        ("?sort=status&limit=1&offset=3".into(), &["dora"]),
        ("?sort=-key".into(), &["dora", "carol", "bob", "alice"]),
        ("?nameOrEmailContains=ARCHER".into(), &["alice", "bob", "carol"]),
        ("?nameOrEmailOrUsernameContains=DOR".into(), &["dora"]),
        ("?domains=example.com".into(), &["alice", "carol"]),
        ("?domains=EXAMPLE.com,other.example".into(), &["alice", "bob", "carol"]),
        ("?status=Active".into(), &["alice", "bob", "carol"]),
        ("?status=inactive".into(), &["dora"]),
        ("?status=Invited".into(), &[]),
        ("?hasOrganizationRoles=true".into(), &[]),
        ("?portfolioKeys=00000000-0000-0000-0000-000000000000".into(), &[]),
        (format!("?userKeys={bob},00000000-0000-8000-8000-0000000000ff"), &["bob"]),
        ("?userKey=no-key".into(), &[]),
        ("?lastLoginAtSince=2026-01-31T12:01:00Z".into(), &["bob", "carol"]),
        ("?lastLoginAtTo=2026-01-31T12:01:00Z".into(), &["alice", "bob"]),
    ] {
        let page = office.users(&query).await;
        assert_eq!(usernames(&page), expected, "{query} {page:#}");
        if query.contains("limit") || query.contains("userKey") || query.contains("sort") {
            continue;
        }
        let count = office.odc(200, "GET", &format!("/users/count{query}"), &Value::Null).await;
        assert_eq!(count, json!({"userCount": expected.len()}), "{query}");
    }
    let page = office.users("?limit=3").await["page"].clone();
    let expected =
        json!({"count": 3, "limit": 3, "offset": 0, "totalResults": 4, "nextPageOffset": 3, "totalPages": 2});
    assert_eq!(page, expected);
    for query in [
        "?sort=age",
        "?status=Gone",
        "?lastLoginAtSince=yesterday",
        "?hasOrganizationRoles=perhaps",
        "?userKey=a&userKeys=b",
        "?embed=Friends",
        // Asked for, and not known here: no answer is better than a wrong one.
        "?assetKey=x",
        "?environmentKeys=production",
        "?hasApplicationRoles=true",
        "?loggedInEnvironmentKeys=production",
    ] {
        let problem = office.odc(400, "GET", &format!("/users{query}"), &Value::Null).await;
        assert_eq!(problem["errorCode"], "OS-ID-BIZ-40001", "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_to_be_embedded_is() {
    let office = staffed().await;
    let page = office.users("?embed=applicationRoles,userIdentityProviders&nameOrEmailContains=alice").await;
    let embedded = &page["results"][0]["_embedded"];
    let roles = &embedded["applicationRoles"];
    assert_eq!((&roles[0]["name"], &roles[0]["isDirectlyAssigned"]), (&json!("editor"), &json!(false)), "{page:#}");
    assert_eq!(roles[0]["assignedGroups"][0]["membershipType"], "Mapped");
    let oidc = office.key("/identity-providers", "oidc").await;
    let profile = &embedded["userIdentityProviders"][0];
    assert_eq!((&profile["identityProviderKey"], &profile["subject"]), (&json!(oidc), &json!("alice")));
    assert_eq!(profile["lastLoginAt"], "2026-01-31T12:00:00.000Z");
    assert_eq!(embedded["userIdentityProviders"].as_array().unwrap().len(), 1, "the others speak of other people");
    assert_eq!(office.users("").await["results"][0].get("_embedded"), None);
    let alice = office.user_key("alice").await;
    let one = office.odc(200, "GET", &format!("/users/{alice}?embed=UserIdentityProviders"), &Value::Null).await;
    assert_eq!(one["_embedded"], json!({"userIdentityProviders": [profile]}));
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_tell_who_holds_them_directly() {
    let office = staffed().await;
    let (lead, editor) =
        (office.key("/application-roles", "lead").await, office.key("/application-roles", "editor").await);
    let bob = office.user_key("bob").await;
    office.odc(201, "POST", &format!("/users/{bob}/application-roles/{lead}"), &Value::Null).await;
    let holders = |role: &str, query: &str| {
        let path = format!("/application-roles/{role}/users{query}");
        let office = &office;
        async move { office.odc(200, "GET", &path, &Value::Null).await }
    };
    assert_eq!(usernames(&holders(&lead, "").await), ["bob"]);
    assert_eq!(usernames(&holders(&lead, "?nameOrEmailContains=alice").await), [""; 0]);
    assert_eq!(usernames(&holders(&editor, "").await), [""; 0], "those have it through a group");
    let staff = office.key("/groups", "Staff").await;
    let members = office.odc(200, "GET", &format!("/groups/{staff}/users?sort=-name&limit=2"), &Value::Null).await;
    let users: Vec<&str> =
        members["results"].as_array().unwrap().iter().map(|one| one["user"]["username"].as_str().unwrap()).collect();
    assert_eq!((users, &members["page"]["totalResults"]), (vec!["carol", "bob"], &json!(3)));
    office.odc(404, "GET", "/application-roles/no-key/users", &Value::Null).await;
    for (path, expected) in [
        ("/application-roles?sort=-name", vec!["root", "lead", "editor"]),
        ("/application-roles?nameContains=EA", vec!["lead"]),
        ("/application-roles?portfolioKeys=x", vec![]),
    ] {
        let page = office.odc(200, "GET", path, &Value::Null).await;
        let found: Vec<&str> =
            page["results"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
        assert_eq!(found, expected, "{path}");
    }
    let page = office.odc(200, "GET", &format!("/application-roles?key={lead}"), &Value::Null).await;
    assert_eq!(page["results"][0]["name"], "lead");
    let of_alice = format!("/users/{}", office.user_key("alice").await);
    let groups = office.odc(200, "GET", &format!("{of_alice}/groups?nameContains=taf"), &Value::Null).await;
    let mappings = groups["results"][0]["group"]["groupIdpClaimMappings"].as_array().unwrap().len();
    assert_eq!((&groups["results"][0]["group"]["name"], mappings), (&json!("Staff"), 1), "{groups:#}");
    for query in ["?environmentKey=production", "?portfolioKeys=x", "?nameContains=x"] {
        let page = office.odc(200, "GET", &format!("{of_alice}/groups{query}"), &Value::Null).await;
        assert_eq!(page["results"], json!([]), "{query}");
    }
    let through = format!("{of_alice}/application-roles?assignmentSources=GroupMapped&groupKeys={staff}");
    assert_eq!(office.odc(200, "GET", &through, &Value::Null).await["page"]["totalResults"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn people_are_made_before_they_log_in_and_what_they_were_given_waits() {
    let office = Office::open().await;
    let provider = office.key("/identity-providers", "oidc").await;
    let alice = json!({"identityProviderKey": provider, "subject": "alice", "name": "A", "email": "a@example.com"});
    let key = office.odc(201, "POST", "/users", &alice).await["key"].as_str().unwrap().to_owned();
    let seen = office.odc(200, "GET", &format!("/users/{key}"), &Value::Null).await;
    let expected = json!({
        "key": key, "name": "A", "email": "a@example.com", "username": "alice", "status": "Active", "isActive": true,
        "lastLoginAt": null,
    });
    assert_eq!(seen, expected);
    office.odc(409, "POST", "/users", &alice).await;
    let group = office.group("Marketing", None).await;
    office.odc(200, "PATCH", &format!("/groups/{group}/users"), &json!({"userKeysToAdd": [key]})).await;
    assert_eq!(office.login("alice", 1, &json!({"groups": []})).await, 200);
    assert!(office.holds("oidc/alice: groups [\"Marketing\"], roles [\"editor\"]").await);

    let path = format!("/users/{key}");
    office.odc(204, "PATCH", &path, &json!({"name": "Anna", "isActive": false})).await;
    let seen = office.odc(200, "GET", &path, &Value::Null).await;
    assert_eq!((&seen["name"], &seen["status"]), (&json!("Anna"), &json!("Inactive")));
    assert_eq!(office.login("alice", 2, &json!({"groups": []})).await, 403, "who is inactive stays out");
    office.odc(204, "PATCH", &path, &json!({"isActive": true})).await;
    office.odc(204, "PATCH", &path, &json!({"isActive": true})).await;
    assert_eq!(office.login("alice", 3, &json!({"groups": []})).await, 200);

    // Deleting a person takes scope `admin`, as everywhere.
    office.odc(403, "DELETE", &path, &Value::Null).await;
    assert_eq!(office.by(CHIEF, "DELETE", &format!("{BASE}{path}"), &Value::Null).await.status, 204);
    office.odc(404, "GET", &path, &Value::Null).await;
    assert_eq!(office.login("alice", 4, &json!({"groups": []})).await, 200);
    assert!(office.holds("oidc/alice: groups [], roles []").await, "somebody new");
    let events: Vec<String> = office.house.events().await.into_iter().map(|row| row.event).collect();
    for event in ["user_created", "user_renamed", "user_disabled", "user_enabled", "user_erased"] {
        assert!(events.iter().any(|one| one == event), "{event}: {events:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_is_wrong_with_a_new_user_is_said_at_once() {
    let office = Office::open().await;
    let provider = office.key("/identity-providers", "oidc").await;
    let rows = [
        (json!({}), vec!["identityProviderKey field is required", "subject field is required"]),
        (
            json!({"identityProviderKey": "x", "subject": "a", "username": "b", "photoUrl": "p", "addToBuiltInIdentityProvider": true}),
            vec!["photoUrl", "addToBuiltIn", "names no identity provider", "username field must be the same"],
        ),
        (json!({"identityProviderKey": provider, "subject": " "}), vec!["subject field"]),
        (
            json!({"identityProviderKey": provider, "subject": "a", "name": "n".repeat(257)}),
            vec!["name field must not"],
        ),
        (json!({"identityProviderKey": provider, "subject": "a", "shoe": 42}), vec!["shoe"]),
    ];
    for (body, parts) in rows {
        let problem = office.odc(400, "POST", "/users", &body).await;
        let detail = problem["detail"].as_str().unwrap();
        assert!(parts.iter().all(|part| detail.contains(part)), "{body}: {detail}");
    }
    assert_eq!(office.users("").await["results"], json!([]));
    let reading = office.by(READER, "POST", &format!("{BASE}/users"), &json!({})).await;
    assert_eq!(reading.status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_are_made_with_one_call_each_by_itself() {
    let office = Office::open().await;
    let provider = office.key("/identity-providers", "oidc").await;
    let record = |subject: &str| json!({"identityProviderKey": provider, "subject": subject, "name": subject});
    let body = json!({"records": [record("one"), {"subject": "two"}, record("three"), record("one")]});
    let done = office.odc(202, "POST", "/users/bulk", &body).await;
    let statuses: Vec<&str> =
        done["operations"].as_array().unwrap().iter().map(|one| one["status"].as_str().unwrap()).collect();
    assert_eq!(
        (statuses, &done["status"]),
        (vec!["Inserted", "Error", "Inserted", "Error"], &json!("FinishedWithErrors"))
    );
    assert_eq!(done["operations"][1]["errorCode"], "OS-ID-BIZ-40001");
    assert_eq!(done["operations"][3]["errorCode"], "OS-ID-BIZ-40901");
    assert_eq!(usernames(&office.users("?sort=key").await), ["one", "three"]);
    let path = format!("/users/bulk/{}", done["key"].as_str().unwrap());
    assert_eq!(office.odc(200, "GET", &path, &Value::Null).await, done);
    let others = office.by(CHIEF, "GET", &format!("{BASE}{path}"), &Value::Null).await;
    assert_eq!(others.status, 404, "of the same client alone");
    office.odc(400, "POST", "/users/bulk", &json!({"records": []})).await;
    let many: Vec<Value> = (0..101).map(|at| record(&format!("n{at}"))).collect();
    office.odc(400, "POST", "/users/bulk", &json!({"records": many})).await;
    let finished = office.odc(202, "POST", "/users/bulk", &json!({"records": [record("four")]})).await;
    assert_eq!(finished["status"], "Finished");
    // Five a minute.
    office.odc(202, "POST", "/users/bulk", &json!({"records": [record("five")]})).await;
    office.odc(429, "POST", "/users/bulk", &json!({"records": [record("six")]})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_said_in_the_face_s_own_words() {
    let office = Office::open().await;
    for path in ["/organization-roles", "/permissions/x", "/users/x/y/z", "/%ff"] {
        let problem = office.odc(404, "GET", path, &Value::Null).await;
        assert_eq!(problem["errorCode"], "OS-ID-BIZ-40401", "{path}");
    }
}
