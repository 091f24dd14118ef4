//! The tables of `docs/threat-model.md` cannot rot: every line is there, and every test that one names exists.

use std::collections::BTreeSet;
use std::path::Path;

/// How many failures the survey has.
const SURVEYED: usize = 93;

fn file(path: &str) -> Option<String> {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).ok()
}

/// Whether `a::b::name` is a test function in `tests/it/a/b.rs`, of the program or of the pipeline.
fn exists(test: &str) -> bool {
    let (module, name) = test.rsplit_once("::").expect("a module and a name");
    let path = format!("tests/it/{}.rs", module.replace("::", "/"));
    [path.clone(), format!("crates/pipeline/{path}")].iter().any(|path| has_test(path, name))
}

fn has_test(path: &str, name: &str) -> bool {
    let Some(text) = file(path) else { return false };
    let head = format!("fn {name}(");
    let lines: Vec<&str> = text.lines().map(str::trim_start).collect();
    lines.iter().enumerate().any(|(number, line)| {
        // Other attributes may stand between the one that makes it a test and the function.
        let attributes = lines[..number].iter().rev().take_while(|line| {
            line.starts_with("#[") || line.starts_with("//") || line.starts_with("on_every_store!(")
        });
        let is_test = attributes
            .copied()
            .any(|line| ["#[test]", "#[tokio::test", "on_every_store!("].iter().any(|start| line.starts_with(start)));
        line.trim_start_matches("async ").starts_with(&head) && is_test
    })
}

/// The cells of the tables' lines.
fn lines(page: &str) -> Vec<Vec<&str>> {
    let tables = page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| #"));
    tables.map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect()).collect()
}

fn tests_of(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').filter(|part| part.contains("::"))
}

#[test]
fn every_surveyed_failure_has_a_test_or_a_reason() {
    let page = file("docs/threat-model.md").unwrap();
    let mut seen = Vec::new();
    for cells in lines(&page) {
        let [number, what, shown, remark] = cells[..] else { continue };
        let Ok(number) = number.parse::<usize>() else { continue };
        seen.push(number);
        let tests: Vec<&str> = tests_of(shown).collect();
        for test in &tests {
            assert!(exists(test), "{number}, {what}: there is no test `{test}`");
        }
        let reasoned = remark.trim_end_matches('|').trim().starts_with("No: ");
        assert_ne!(tests.is_empty(), !reasoned, "{number}, {what}: a test or a reason, and not both");
    }
    assert_eq!(seen, (1..=SURVEYED).collect::<Vec<_>>());
}

#[test]
fn every_test_that_the_page_names_exists() {
    let page = file("docs/threat-model.md").unwrap();
    let named: BTreeSet<&str> = page.lines().filter(|line| line.starts_with("| ")).flat_map(tests_of).collect();
    assert!(named.len() > 60, "{}", named.len());
    for test in named {
        assert!(exists(test), "there is no test `{test}`");
    }
}

#[test]
fn every_promise_has_a_test() {
    let mut text = String::new();
    let pipeline = "crates/pipeline/tests/it/plan_laws.rs";
    for name in [pipeline, "tests/it/layers.rs", "tests/it/promises.rs", "tests/it/store_suite.rs"] {
        text.push_str(&file(name).unwrap());
    }
    for number in 1..=10 {
        assert!(text.contains(&format!("fn promise_{number:02}_")), "promise {number}");
    }
}
