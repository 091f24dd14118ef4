//! SAY8: lists that come as one text, and lists that come as objects.

use serde_json::{Value, json};

use super::{enters, oidc_house, saml_house};

/// What Amazon Cognito and Zitadel send.
#[tokio::test]
async fn say08_lists_are_read_as_vendors_write_them() {
    let brackets = "name = \"custom:groups\"\nformat = \"brackets\"";
    let json_text = "name = \"custom:groups\"\nformat = \"json\"";
    let keys = "name = \"/urn:zitadel:iam:org:project:roles/~keys\"";
    let roles = json!({"staff": {"1234": "acme.example.test"}, "admins": {"1234": "acme.example.test"}});
    let both = &["Administrators", "Staff"][..];
    let rows: Vec<(&str, Value, &[&str])> = vec![
        (brackets, json!({"custom:groups": "[staff, admins]"}), both),
        (brackets, json!({"custom:groups": "staff"}), &["Staff"]),
        (brackets, json!({"custom:groups": "[]"}), &[]),
        ("name = \"custom:groups\"", json!({"custom:groups": "[staff, admins]"}), &[]),
        (json_text, json!({"custom:groups": "[\"staff\", \"admins\"]"}), both),
        (json_text, json!({"custom:groups": "[]"}), &[]),
        (keys, json!({"urn:zitadel:iam:org:project:roles": roles}), both),
        (keys, json!({"urn:zitadel:iam:org:project:roles": {}}), &[]),
        (
            "name = \"/orgs/~values/groups\"",
            json!({"orgs": {"a": {"groups": ["staff"]}, "b": {"groups": "admins"}}}),
            both,
        ),
        (
            "name = \"/orgs/*/teams/*/name\"",
            json!({"orgs": [{"teams": [{"name": "staff"}]}, {"teams": [{"name": "admins"}]}]}),
            both,
        ),
        ("name = \"/orgs/*/~keys\"", json!({"orgs": [{"staff": 1}, {"admins": null}]}), both),
    ];
    for (own, claims, groups) in rows {
        let house = oidc_house(own).await;
        let plan = enters(&house, "alice", 1, &claims).await;
        assert_eq!(plan.0, groups, "{own}: {claims}");
        house.running.stop().await;
    }
}

/// A list that is cut off, and a value of another shape, revoke nothing.
#[tokio::test]
async fn say08_what_is_not_in_the_format_keeps() {
    let path = |name: &str| format!("name = \"/groups/{name}\"");
    for (own, whole, broken) in [
        ("format = \"brackets\"".to_owned(), json!("[staff, admins]"), json!("[staff, adm")),
        ("format = \"json\"".to_owned(), json!("[\"staff\", \"admins\"]"), json!("[\"staff\", \"adm")),
        ("format = \"json\"".to_owned(), json!("[\"staff\", \"admins\"]"), json!("{\"staff\": 1}")),
        (path("~keys"), json!({"staff": 1, "admins": 1}), json!(["staff"])),
        (path("~keys"), json!({"staff": 1, "admins": 1}), json!("staff")),
        (path("~values"), json!({"a": "staff", "b": "admins"}), json!(["staff"])),
        (path("*"), json!(["staff", "admins"]), json!({"a": "staff"})),
    ] {
        let house = oidc_house(&own).await;
        let held = ["Administrators", "Staff"];
        assert_eq!(enters(&house, "alice", 1, &json!({"groups": whole})).await.0, held, "{own}");
        assert_eq!(
            enters(&house, "alice", 2, &json!({"groups": broken})).await,
            (held.map(str::to_owned).to_vec(), 2),
            "{own}: {broken}"
        );
        house.running.stop().await;
    }
}

#[tokio::test]
async fn say08_an_attribute_of_saml_may_be_such_a_text_too() {
    for (own, value) in [
        ("format = \"brackets\"\ndelimiter = \";\"", "[staff; admins]"),
        ("format = \"json\"", "[\"staff\", \"admins\"]"),
        ("format = \"brackets\"\ndn = \"first_rdn\"", "[CN=staff,OU=x,DC=y]"),
    ] {
        let house = saml_house(own).await;
        let groups = super::enters_saml(&house, &[("groups", &[value])]).await;
        assert!(groups.contains(&"Staff".to_owned()), "{own}: {groups:?}");
        assert_eq!(groups.len(), if own.contains("dn") { 1 } else { 2 }, "{own}: {groups:?}");
        house.running.stop().await;
    }
}
