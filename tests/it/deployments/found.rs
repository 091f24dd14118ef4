//! The inputs of `fixtures/found`, each as it was found, through the commands that an operator has.

use serde_json::{Value, json};

use crate::seeing::{Desk, run};

const AT: &str = "2026-11-28T12:36:26Z";

fn path(name: &str) -> String {
    format!("{}/fixtures/found/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// What `explain` tells of a document by a configuration, which may be changed.
fn explained(document: &str, change: impl FnOnce(String) -> String) -> Value {
    let desk = Desk::new();
    let text = std::fs::read_to_string(path("saml.toml")).unwrap().replace("idp.crt", &path("idp.crt"));
    let config = desk.file("config.toml", &change(text));
    run(&["explain", "--config", &config, "--no-store", "--json", "--at", AT, &path(document)]).json()
}

#[test]
fn say10_another_attribute_bears_the_name_as_its_friendly_name() {
    let report = explained("s55-name-vs-friendly.xml", |text| text);
    assert_eq!(report["plan"]["groups"], json!(["Engineering"]), "{report:#}");
    let names = |text: String| text.replace("sso_url", "friendly_names = false\nsso_url");
    let report = explained("s55-name-vs-friendly.xml", names);
    assert_eq!(
        (&report["claims"][0]["values"], &report["plan"]["groups"]),
        (&json!(["guests"]), &json!([])),
        "{report:#}"
    );
}

#[test]
fn say09_an_identifier_in_an_attribute_identifies_where_the_subject_does_not() {
    let refused = |report: &Value| report["refused"].as_str().unwrap_or_default().to_owned();
    let report = explained("s13-eptid.xml", |text| text);
    assert!(refused(&report).contains("the NameID is transient"), "{report:#}");
    let by_id = |text: String| text.replace("sso_url", "user_claim = \"urn:oid:1.3.6.1.4.1.5923.1.1.1.10\"\nsso_url");
    let report = explained("s13-eptid.xml", by_id);
    assert_eq!(report["outcome"], "enters", "{report:#}");
    let report = explained("s06-encryptedid.xml", |text| text);
    assert!(refused(&report).contains("`EncryptedID`"), "{report:#}");
}

#[test]
fn say12_a_claim_of_another_case_is_named() {
    let report = explained("s26-Groups-case.xml", |text| text);
    assert!(report.to_string().contains("differs from \\\"groups\\\" by case or blanks only"), "{report:#}");
    assert!(report["arrived"][0]["names"].as_array().unwrap().contains(&json!("Groups")), "{report:#}");
}

#[test]
fn say11_patterns_and_odd_characters_are_found() {
    let lint = run(&["lint", "--config", &path("lint.toml")]);
    for (finding, times) in [("pattern as text: ", 3), ("odd characters: ", 2)] {
        assert_eq!(lint.out.matches(finding).count(), times, "{lint:?}");
    }
    let desk = Desk::new();
    let mapping = |value: &str| {
        format!("[[mapping]]\nprovider = \"idp\"\nclaim = \"groups\"\nvalue = \"{value}\"\ngroup = \"Engineering\"\n")
    };
    let text = std::fs::read_to_string(path("lint.toml")).unwrap().replace("jwks.json", &path("jwks.json"));
    let text = text.split("[[mapping]]").next().unwrap().to_owned()
        + &["\u{c9}quipe", "Domain Users", "Sales", "Ops"].map(mapping).concat();
    let config = desk.file("config.toml", &text);
    let report = run(&["explain", "--config", &config, "--no-store", "--json", &path("nfd.json")]).json();
    let verdicts: Vec<&Value> = report["mappings"].as_array().unwrap().iter().map(|one| &one["verdict"]).collect();
    assert_eq!(verdicts, [&json!("near_miss"); 4], "{report:#}");
}

/// Claims of SAML's own names, which once let nobody in: the configuration loads, and the gate reads them.
#[test]
fn say09_the_subject_and_its_context_are_claims_of_a_gate() {
    let checked = run(&["check", "--config", &path("nameid.toml")]);
    assert_eq!(checked.code, 0, "{checked:?}");
    let document = path("s26-Groups-case.xml");
    let report =
        run(&["explain", "--config", &path("nameid.toml"), "--no-store", "--json", "--at", AT, &document]).json();
    let read: Vec<&str> =
        report["claims"].as_array().unwrap().iter().map(|one| one["state"].as_str().unwrap()).collect();
    assert_eq!(read.iter().filter(|state| **state == "values").count(), 2, "{report:#}");
}
