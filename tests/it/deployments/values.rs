//! SAY11: values that look right and are not.

use serde_json::json;

use super::{OIDC, SAML, enters};
use crate::attacks::config;
use crate::front_door::House;
use crate::seeing::{Desk, run, run_with};

fn with_values(values: &[&str]) -> String {
    let mappings = values.iter().map(|value| {
        format!("\n[[mapping]]\nprovider = \"oidc\"\nclaim = \"groups\"\nvalue = '{value}'\ngroup = \"Staff\"\n")
    });
    format!("{}{}", config(OIDC, SAML), mappings.collect::<String>())
}

async fn near_misses(house: &House) -> serde_json::Value {
    let last = house.events().await.into_iter().filter(|row| row.event == "login").max_by_key(|row| row.sequence);
    last.unwrap().detail["near_misses"].clone()
}

#[tokio::test]
async fn say11_a_login_tells_near_misses_beyond_case() {
    let text = with_values(&["\u{c9}quipe", "Domain Users", "ops"]);
    let house = House::open(&text, &crate::attacks::here(), crate::kit::NOW).await;
    for (second, sent, mapping) in [
        (1, "E\u{301}quipe", "groups = \u{c9}quipe"),
        (2, "Domain\u{a0}Users", "groups = Domain Users"),
        (3, "domain  users", "groups = Domain Users"),
        (4, "ops ", "groups = ops"),
        (5, "\u{200b}OPS", "groups = ops"),
        (6, "staff\t", "groups = staff"),
    ] {
        assert!(enters(&house, "alice", second, &json!({"groups": [sent]})).await.0.is_empty(), "{sent:?}");
        assert_eq!(near_misses(&house).await, json!([{"mapping": mapping, "found": sent}]), "{sent:?}");
    }
    for (second, sent) in [(11, "\u{c9}quip"), (12, "domainusers"), (13, "o ps"), (14, " ")] {
        enters(&house, "alice", second, &json!({"groups": [sent]})).await;
        assert!(near_misses(&house).await.is_null(), "{sent:?}");
    }
    enters(&house, "alice", 20, &json!({"groups": ["ops ", "ops"]})).await;
    assert!(near_misses(&house).await.is_null(), "the mapping holds by another value");
    house.running.stop().await;
}

#[test]
fn say11_explain_and_lint_say_it_too() {
    let desk = Desk::new();
    let fixtures = format!("\"{}/fixtures/", env!("CARGO_MANIFEST_DIR"));
    let text = with_values(&[
        "*",
        "team-*",
        "^sg-.*$",
        " engineering",
        "engineering ",
        "Domain\u{a0}Users",
        "R&D (*new*)",
        "fine",
    ]);
    let file = desk.file("config.toml", &text.replace("\"fixtures/", &fixtures));
    let claims = json!({"sub": "a", "groups": ["Domain Users", "Engineering"]}).to_string();
    let said = run_with(&["explain", "--config", &file, "--provider", "oidc", "--no-store", "-"], &claims);
    assert!(said.out.contains("\"Domain Users\" looks the same and differs by blanks"), "{said:?}");
    assert!(said.out.contains("near miss groups =  engineering"), "{said:?}");
    let said = run(&["lint", "--config", &file]);
    for found in [
        "pattern as text: mapping `groups = *`",
        "pattern as text: mapping `groups = team-*`",
        "pattern as text: mapping `groups = ^sg-.*$`",
        "odd characters: mapping `groups =  engineering`",
        "odd characters: mapping `groups = engineering `",
        "odd characters: mapping `groups = Domain\u{a0}Users`: `Domain\\u{a0}Users`",
    ] {
        assert!(said.out.contains(found), "{found}: {}", said.out);
    }
    assert!(
        !said.out.contains("groups = fine") && !said.out.contains("pattern as text: mapping `groups = R&D"),
        "{}",
        said.out
    );
}
