//! What is suspicious about rules, and what is not.

use std::sync::Arc;

use loginsync_pipeline::ids::ClaimName;
use loginsync_pipeline::lint::{self, Lint};
use loginsync_pipeline::mapping::condition::{ClaimCondition, Condition, Test};
use loginsync_pipeline::mapping::{Join, Mapping, When};

use crate::world::{NOW, mapping, rules_with};

/// What is protected should take a value as it stands. A condition that something is missing adds nobody.
#[test]
fn something_protected_takes_an_exact_match() {
    let text = |text: &str| Arc::<str>::from(text);
    let on = |test: Test, ignore_case: bool| {
        let claim = ClaimName::parse("groups").unwrap();
        Condition::Claim(ClaimCondition { claim, delimiter: None, ignore_case, test })
    };
    let is = |value: &str| on(Test::Is(text(value)), false);
    for (what, conditions, is_found) in [
        ("exact", vec![is("b")], false),
        ("exact, and something is missing", vec![is("b"), on(Test::IsNot(text("x")), false)], false),
        ("exact, and a pattern", vec![is("b"), on(Test::EndsWith(text("x")), false)], true),
        ("a pattern", vec![on(Test::EndsWith(text("x")), false)], true),
        ("in any case", vec![on(Test::Is(text("b")), true)], true),
        ("something is missing", vec![on(Test::IsNot(text("x")), false)], true),
    ] {
        let when = When::Conditions { join: Join::All, conditions: conditions.into() };
        let rules = rules_with(1, |rules| rules.mappings = vec![Mapping { when, ..mapping("p", "b") }]);
        let found = lint::lint(&rules, &lint::Telling::default(), NOW);
        let found = found.iter().any(|finding| finding.lint == Lint::PrivilegedBehindPattern);
        assert_eq!(found, is_found, "{what}");
    }
}
