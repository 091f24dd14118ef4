//! Mappings as the mapping APIs write them: what they mean, and what is wrong with them.

use loginsync_pipeline::mapping::Mapping;
use loginsync_pipeline::mapping::action::Then;
use loginsync_pipeline::mapping::definition::{Declared, Definition, Fault, TextLimits};
use serde_json::{Value, json};

use crate::planned::declared;

const LIMITS: TextLimits = TextLimits { claim_name: 10, claim_value: 20, delimiter: 3 };

fn compile(definition: &Definition) -> Result<Mapping, Vec<Fault>> {
    let rules = declared(|_| {});
    let all = Declared { groups: &rules.groups, roles: &rules.roles, providers: &rules.providers };
    definition.compile(Mapping::id_of_number(1), all, LIMITS)
}

fn with(condition: &Value, rest: Value) -> Definition {
    let mut all = json!({"provider": "p", "when": [condition], "then": [{"add_group": "C"}]});
    all.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    serde_json::from_value(all).unwrap()
}

/// What is compiled is given back as it was written.
#[test]
fn each_operator_is_read_and_given_back() {
    for condition in [
        json!({"claim": "groups", "is": "a", "ignore_case": true}),
        json!({"claim": "groups", "is_not": "a"}),
        json!({"claim": "groups", "contains": "a"}),
        json!({"claim": "groups", "not_contains": "a"}),
        json!({"claim": "groups", "begins_with": "a"}),
        json!({"claim": "groups", "ends_with": "a"}),
        json!({"claim": "groups", "glob": "a*"}),
        json!({"claim": "groups", "regex": "^a.$"}),
        json!({"claim": "groups", "greater_than": "2.5"}),
        json!({"claim": "groups", "less_than": "30"}),
        json!({"claim": "groups", "present": true}),
        json!({"claim": "groups", "absent": true}),
        json!({"has_role": "admin"}),
        json!({"lacks_role": "admin"}),
        json!({"last_login": {"greater_than": 5}}),
        json!({"last_login": {"less_than": 5}}),
    ] {
        let definition = with(&condition, json!({}));
        let mapping = compile(&definition).unwrap_or_else(|faults| panic!("{condition}: {faults:?}"));
        let given_back = serde_json::to_value(&Definition::of(&mapping).when[0]).unwrap();
        assert_eq!(given_back, condition);
        assert!(matches!(mapping.then, Then::Give(_)), "one target, and nothing else");
    }
}

#[test]
fn each_fault_is_told_with_its_field() {
    let is = || json!({"claim": "groups", "is": "a"});
    let captures = |name: &str| json!({"claim": "groups", "regex": format!("^(?P<{name}>.)$")});
    let then = |name: &str| json!([{"add_group": name}]);
    for (condition, rest, field, message) in [
        (json!({"claim": "groups", "is": " "}), json!({}), "when[0].is", "is empty or blank"),
        (json!({"claim": "groups", "greater_than": "x"}), json!({}), "when[0].greater_than", "a decimal number"),
        (json!({"claim": "groups", "regex": "("}), json!({}), "when[0].regex", ""),
        (json!({"last_login": {}}), json!({}), "when[0].last_login", ""),
        (is(), json!({"allow": {"team": "any"}}), "allow.team", "no `regex` of this mapping captures it"),
        (captures("x"), json!({"then": then("${x}"), "allow": {"x": "any", "y": "any"}}), "allow.y", "captures it"),
        (is(), json!({"then": then("${x}"), "allow": {}}), "then[0]", "no `regex` of this mapping captures `x`"),
        (is(), json!({"then": then("Nowhere")}), "then[0].add_group", ""),
    ] {
        let found = compile(&with(&condition, rest.clone())).expect_err(&condition.to_string());
        let is_told = found.iter().any(|fault| fault.field.starts_with(field) && fault.message.contains(message));
        assert!(is_told, "{condition} {rest}: {found:?}");
        assert_eq!(found.len(), 1, "{found:?}");
    }
    // As many conditions as may be, and one more.
    for (count, is_right) in [(100, true), (101, false)] {
        let when: Vec<Value> = (0..count).map(|_| is()).collect();
        assert_eq!(compile(&with(&is(), json!({"when": when}))).is_ok(), is_right, "{count}");
    }
    let rest = json!({"then": then("${x}"), "allow": {"x": ["C", "D"]}});
    assert!(compile(&with(&captures("x"), rest)).is_ok());
}
