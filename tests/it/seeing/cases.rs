//! `loginsync test`: what passes, what does not, and how that reads.

use serde_json::json;

use super::{Desk, captured, run};

const ARGUMENTS: [&str; 2] = ["test", "--config"];

fn config(desk: &Desk) -> String {
    let (config, _) = captured("oidc-first-login");
    desk.config(
        "config.toml",
        &(config + "\n[[gate]]\nname = \"not on leave\"\ndeny = [{ claim = \"groups\", is = \"on-leave\" }]\n"),
    )
}

#[test]
fn the_cases_that_we_ship_pass() {
    let root = env!("CARGO_MANIFEST_DIR");
    let said = run(&["test", &format!("{root}/config/cases"), "--config", &format!("{root}/config/example.toml")]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.out.ends_with("6 cases, all as expected\n"), "{}", said.out);
}

#[test]
fn a_difference_names_what_is_wrong_and_which_mapping_it_is() {
    let desk = Desk::new();
    let config = config(&desk);
    let cases = desk.file(
        "cases/people.toml",
        r#"
[[case]]
title  = "right"
claims = { groups = ["staff"] }
expect = { groups = ["Staff"] }

[[case]]
title  = "wrong twice"
claims = { groups = ["marketing", "Staff"] }
expect = { groups = ["Staff"] }

[[case]]
title  = "refused for another reason"
claims = { groups = ["on-leave"] }
expect = { refused = "disabled" }

[[case]]
title  = "not refused at all"
claims = { groups = [] }
expect = { refused = "gate" }

[[case]]
title  = "refused"
claims = { groups = ["on-leave"] }
expect = {}
"#,
    );
    let folder = desk.folder.path().join("cases").to_str().unwrap().to_owned();
    let said = run(&[ARGUMENTS[0], ARGUMENTS[1], &config, &folder]);
    let expected = format!(
        "ok   {cases}: right\n\
         FAIL {cases}: wrong twice\n  \
           - group `Staff` is missing\n    \
               near miss `groups = staff`: groups is \"staff\": \"Staff\" differs by case alone\n  \
           + group `Marketing` was not expected\n    \
               hit `groups = marketing`: groups is \"marketing\"\n  \
           + role `editor` was not expected\n\
         FAIL {cases}: refused for another reason\n  \
           it is refused by gate `not on leave`; expected a refusal with `disabled`\n\
         FAIL {cases}: not refused at all\n  \
           it enters; expected a refusal with `gate`\n\
         FAIL {cases}: refused\n  \
           it is refused: refused by gate `not on leave`; expected it to enter\n\
         5 cases, 4 not as expected\n"
    );
    assert_eq!((said.code, said.out.as_str()), (3, expected.as_str()), "{}", said.err);
    let report = run(&[ARGUMENTS[0], ARGUMENTS[1], &config, &folder, "--json"]).json();
    assert_eq!((&report[0]["passed"], &report[1]["groups"]), (&json!(true), &json!(["Marketing"])));
    assert_eq!(report[4]["refused"], "refused by gate `not on leave`");
}

/// A check that looks at nothing, or at something else than was meant, has not passed.
#[test]
fn what_cannot_be_run_is_a_fault() {
    let desk = Desk::new();
    let config = config(&desk);
    let cases = [
        ("", "there is no case"),
        ("[[case]]\ntitle = \"x\"\nclaims = {}\nexpect = { grups = [] }\n", "unknown field `grups`"),
        (
            "[[case]]\ntitle = \"x\"\nclaims = {}\nexpect = { groups = [\"Stuff\"] }\n",
            "case `x`: the configuration declares no group `Stuff`; the nearest is `Staff`",
        ),
        (
            "[[case]]\ntitle = \"x\"\nprovider = \"odic\"\nclaims = {}\nexpect = {}\n",
            "declares no provider `odic`; the nearest is `oidc`",
        ),
        (
            "[[case]]\ntitle = \"x\"\nclaims = {}\nheld = { through = [\"administrator\"] }\nexpect = {}\n",
            "declares no mapping `administrator`; the nearest is `administrators`",
        ),
        (
            "[[case]]\ntitle = \"x\"\nclaims = {}\nexpect = { groups = [\"Staff\"], refused = \"no\" }\n",
            "both a refusal and memberships",
        ),
        ("[[case]]\ntitle = \"x\"\nat = \"soon\"\nclaims = {}\nexpect = {}\n", "expected a time"),
    ];
    for (text, why) in cases {
        let file = desk.file("one.toml", text);
        let said = run(&[ARGUMENTS[0], ARGUMENTS[1], &config, &file]);
        let told = if text.is_empty() { said.err.contains("missing field `case`") } else { said.err.contains(why) };
        assert!(said.code == 1 && told, "{why}: {said:?}");
    }
    let empty = desk.folder.path().join("nothing");
    std::fs::create_dir(&empty).unwrap();
    let said = run(&[ARGUMENTS[0], ARGUMENTS[1], &config, empty.to_str().unwrap()]);
    assert_eq!((said.code, said.err.as_str()), (1, "there are no cases\n"));
}
