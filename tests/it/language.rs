//! What each operator and each form of a mapping means, as the configuration writes it.

use std::collections::BTreeSet;
use std::sync::Arc;

use loginsync::config::{Config, Surroundings};
use loginsync::pipeline::claims::{Claim, ClaimState, Claims, Split, Unresolved};
use loginsync::pipeline::ids::{
    ClaimName, MappingId, Namespace, ProviderName, RoleName, Subject, Target, Timestamp, UserId,
};
use loginsync::pipeline::mapping::{RuleSet, candidates};
use loginsync::pipeline::plan::{Grant, Plan, Snapshot, Source, draft};

const NOW: Timestamp = Timestamp(1_700_000_000_000);
const DAY: i64 = 24 * 3600 * 1000;

fn rules(more: &str) -> RuleSet {
    let text = format!(
        r#"
public_url = "https://app.example.com"
[app]
url = "http://127.0.0.1:3000"

[[provider]]
name = "p"
mode = "oidc-form-post"
issuer = "https://p.example.com"
client_id = "app"
callback = "/p"
stages = ["production"]
[provider.claims.groups]
delimiter = ";"
[provider.claims.level]

[[provider]]
name = "q"
mode = "oidc-form-post"
issuer = "https://q.example.com"
client_id = "app"
callback = "/q"
[provider.claims.groups]

[[role]]
name = "lead"
[[role]]
name = "editor"
[[role]]
name = "root"
privileged = true
[[group]]
name = "X"
[[group]]
name = "Y"
roles = ["editor"]
[[group]]
name = "team-a"
[[group]]
name = "team-b"
[[group]]
name = "team-root"
roles = ["root"]
[[group]]
name = "Test only"
stages = ["test"]
{more}
"#
    );
    let around = Surroundings {
        file: std::path::Path::new("loginsync.toml"),
        read: &|_| Err(std::io::ErrorKind::NotFound.into()),
        environment: &|_| None,
        now: NOW,
    };
    let config = Config::from_text(&text, &around).unwrap_or_else(|faults| panic!("{faults}"));
    Arc::try_unwrap(config.rules).unwrap()
}

/// Whole values of one claim; `None` where it could not be read.
type Brought<'a> = Option<&'a [&'a str]>;

fn claims(brought: &[(&str, Brought<'_>)], delimiter: Option<&str>) -> Arc<Claims> {
    let claim = |(name, values): &(&str, Brought<'_>)| {
        let state = match values {
            None => ClaimState::Unresolved(Unresolved::Overage),
            Some([]) => ClaimState::Empty,
            Some(values) => ClaimState::Values(values.iter().map(|value| (*value).to_owned()).collect()),
        };
        let delimiter = delimiter
            .filter(|_| *name == "groups")
            .map(|text| loginsync::pipeline::claims::split::Delimiter::parse(text).unwrap());
        Claim {
            name: ClaimName::parse(name).unwrap(),
            decided: !matches!(state, ClaimState::Unresolved(_)),
            state,
            split: Split { delimiter, ..Split::default() },
            skipped: 0,
        }
    };
    Arc::new(Claims { user: user(), email: None, display_name: None, claims: brought.iter().map(claim).collect() })
}

fn user() -> UserId {
    UserId { namespace: Namespace::parse("p").unwrap(), subject: Subject::parse("alice").unwrap() }
}

fn plan(rules: &RuleSet, provider: &str, claims: &Arc<Claims>, snapshot: &Snapshot) -> Plan {
    let provider = ProviderName::parse(provider).unwrap();
    draft(user(), NOW, NOW, &candidates(rules, &provider, claims), snapshot, rules)
}

/// What a login through `p` would be given, by name.
fn given(rules: &RuleSet, groups: Brought<'_>, level: Brought<'_>, snapshot: &Snapshot) -> Vec<String> {
    let claims = claims(&[("groups", groups), ("level", level)], Some(";"));
    let plan = plan(rules, "p", &claims, snapshot);
    let names: BTreeSet<String> = plan.hits.iter().map(|hit| hit.target.name().to_owned()).collect();
    names.into_iter().collect()
}

#[test]
fn every_operator_means_what_it_says() {
    let some: Brought<'_> = Some(&["Alpha; beta ;team-a", "GAMMA"]);
    let none: Brought<'_> = Some(&[]);
    // condition, with these values, without any
    let rows = [
        (r#"is = "Alpha""#, true, false),
        (r#"is = "alpha""#, false, false),
        (r#"is = "alpha", ignore_case = true"#, true, false),
        (r#"is_not = "Alpha""#, false, true),
        (r#"is_not = "alpha""#, true, true),
        (r#"is_not = "alpha", ignore_case = true"#, false, true),
        (r#"contains = "et""#, true, false),
        (r#"contains = "ET", ignore_case = true"#, true, false),
        (r#"not_contains = "et""#, false, true),
        (r#"not_contains = "zz""#, true, true),
        (r#"begins_with = "be""#, true, false),
        (r#"begins_with = "eta""#, false, false),
        (r#"ends_with = "eta""#, true, false),
        (r#"ends_with = "ETA", ignore_case = true"#, true, false),
        (r#"glob = "team-?""#, true, false),
        (r#"glob = "eam-*""#, false, false),
        (r#"glob = "g*a", ignore_case = true"#, true, false),
        (r#"regex = "^[A-Z]+$""#, true, false),
        (r#"regex = "^alp", ignore_case = true"#, true, false),
        (r#"present = true"#, true, false),
        (r#"absent = true"#, false, true),
        (r#"is = "Alpha; beta ;team-a", delimiter = """#, true, false),
        (r#"is = "GAMMA", delimiter = """#, true, false),
    ];
    for (condition, with, without) in rows {
        let rules = rules(&format!(
            "[[mapping]]\nname = \"m\"\nprovider = \"p\"\nwhen = [{{ claim = \"groups\", {condition} }}]\ngroup = \"X\"\n"
        ));
        let holds = |groups| !given(&rules, groups, none, &Snapshot::default()).is_empty();
        assert_eq!((holds(some), holds(none)), (with, without), "{condition}");
        assert!(!holds(None), "{condition}: an unresolved claim gives nothing");
    }
}

#[test]
fn numbers_are_compared_as_numbers() {
    for (condition, level, holds) in [
        ("greater_than = 9", "10", true),
        ("greater_than = 9", "9", false),
        ("greater_than = 9", "ten", false),
        ("less_than = -1.5", "-2", true),
        ("less_than = \"10\"", "9.99", true),
        ("less_than = 10", "", false),
    ] {
        let rules = rules(&format!(
            "[[mapping]]\nname = \"m\"\nwhen = [{{ claim = \"level\", {condition} }}]\ngroup = \"X\"\n"
        ));
        let got = given(&rules, Some(&[]), Some(&[level]), &Snapshot::default());
        assert_eq!(!got.is_empty(), holds, "{condition} with {level}");
    }
}

#[test]
fn all_and_any_join_what_is_known() {
    let mapping = |join: &str| {
        rules(&format!(
            "[[mapping]]\nname = \"m\"\nprovider = \"p\"\nmatch = \"{join}\"\n\
             when = [{{ claim = \"groups\", is = \"a\" }}, {{ claim = \"level\", is_not = \"9\" }}]\ngroup = \"X\"\n"
        ))
    };
    let (all, any) = (mapping("all"), mapping("any"));
    let (a, b, nine, none): (Brought<'_>, Brought<'_>, Brought<'_>, Brought<'_>) =
        (Some(&["a"]), Some(&["b"]), Some(&["9"]), Some(&[]));
    // groups, level, holds under all, holds under any
    for (groups, level, by_all, by_any) in [
        (a, none, true, true),
        (a, nine, false, true),
        (b, none, false, true),
        (b, nine, false, false),
        (None, none, false, true),
        (a, None, false, true),
        (b, None, false, false),
        (None, nine, false, false),
    ] {
        let holds = |rules| !given(rules, groups, level, &Snapshot::default()).is_empty();
        assert_eq!((holds(&all), holds(&any)), (by_all, by_any), "{groups:?} {level:?}");
    }
}

#[test]
fn captures_reach_only_what_the_list_allows() {
    let mapping = |allow: &str| {
        format!(
            "[[mapping]]\nname = \"teams\"\nwhen = [{{ claim = \"groups\", regex = \"^x-(?<team>[a-z]+)$\" }}]\n\
             then = [{{ add_group = \"team-${{team}}\" }}]\nallow = {{ team = {allow} }}\n"
        )
    };
    let values: Brought<'_> = Some(&["x-a;x-b;x-root;x-nobody"]);
    let closed = rules(&mapping(r#"["a"]"#));
    assert_eq!(given(&closed, values, Some(&[]), &Snapshot::default()), ["team-a"]);
    let open = rules(&mapping("\"any\""));
    assert_eq!(
        given(&open, values, Some(&[]), &Snapshot::default()),
        ["team-a", "team-b"],
        "what carries a privileged role is reached by no capture"
    );
    let claims = claims(&[("groups", values), ("level", Some(&[]))], Some(";"));
    let told = plan(&open, "p", &claims, &Snapshot::default()).unknown;
    let told: Vec<&str> = told.iter().map(|(_, name)| name.as_str()).collect();
    assert_eq!(told, ["team-root", "team-nobody"]);
}

#[test]
fn has_role_sees_what_is_held_otherwise_and_what_came_before() {
    let mappings = r#"
[[mapping]]
name = "too early"
when = [{ has_role = "editor" }]
group = "team-a"
[[mapping]]
name = "editors"
provider = "p"
when = [{ claim = "groups", is = "edit" }]
group = "Y"
[[mapping]]
name = "late enough"
when = [{ has_role = "editor" }]
group = "X"
[[mapping]]
name = "the others"
when = [{ lacks_role = "editor" }]
group = "team-b"
"#;
    let rules = rules(mappings);
    let editors = rules.mappings()[1].id;
    let grant = |source: Source| Snapshot {
        grants: vec![Grant { target: Target::Role(RoleName::parse("editor").unwrap()), source }],
        ..Snapshot::default()
    };
    let mapped = |provider: &str, mapping: MappingId| Source::Mapped {
        provider: ProviderName::parse(provider).unwrap(),
        mapping,
    };
    let none: Brought<'_> = Some(&[]);
    let edit: Brought<'_> = Some(&["edit"]);
    let nothing = Snapshot::default();
    assert_eq!(given(&rules, edit, none, &nothing), ["X", "Y"]);
    assert_eq!(given(&rules, none, none, &nothing), ["team-b"]);
    assert_eq!(given(&rules, none, none, &grant(Source::Assigned)), ["X", "team-a"]);
    assert_eq!(given(&rules, none, none, &grant(mapped("q", editors))), ["X", "team-a"]);
    assert_eq!(
        given(&rules, none, none, &grant(mapped("p", editors))),
        ["team-b"],
        "its own are about to be given anew"
    );
    assert!(given(&rules, None, none, &nothing).is_empty(), "she may be an editor, or not: neither is given");
    let denied = Snapshot {
        denies: BTreeSet::from([Target::Role(RoleName::parse("editor").unwrap())]),
        ..grant(Source::Assigned)
    };
    assert_eq!(given(&rules, none, none, &denied), ["team-b"]);
}

#[test]
fn last_login_counts_days_since_the_one_before() {
    let rules = rules(
        "[[mapping]]\nname = \"long gone\"\nwhen = [{ last_login = { greater_than = 30 } }]\ngroup = \"X\"\n\
         [[mapping]]\nname = \"regular\"\nwhen = [{ last_login = { less_than = 30 } }]\ngroup = \"Y\"\n",
    );
    for (days, expected) in [(None, &[][..]), (Some(3), &["Y"][..]), (Some(30), &[][..]), (Some(31), &["X"][..])] {
        let last_login = days.map(|days| Timestamp(NOW.0 - days * DAY));
        let got = given(&rules, Some(&[]), Some(&[]), &Snapshot { last_login, ..Snapshot::default() });
        assert_eq!(got, expected, "{days:?}");
    }
}

/// LOG21.
#[test]
fn log21_what_its_stages_make_idle_keeps_no_default_away() {
    let rules = rules(
        "[[mapping]]\nprovider = \"p\"\nclaim = \"groups\"\nvalue = \"a\"\ngroup = \"Test only\"\n\
         [[default]]\nprovider = \"p\"\nclaim = \"groups\"\nrole = \"lead\"\n",
    );
    let nothing = Snapshot::default();
    assert_eq!(given(&rules, Some(&["a"]), Some(&[]), &nothing), ["lead"]);
}

/// LOG21.
#[test]
fn log21_an_undecided_capture_leaves_only_what_it_may_give_open() {
    let capture = |allow: &str| {
        format!(
            "[[mapping]]\nname = \"teams\"\nwhen = [{{ claim = \"groups\", regex = \"^x-(?<role>[a-z]+)$\" }}]\n\
             then = [{{ add_role = \"${{role}}\" }}]\nallow = {{ role = {allow} }}\n\
             [[mapping]]\nname = \"others\"\nwhen = [{{ lacks_role = \"editor\" }}]\ngroup = \"X\"\n"
        )
    };
    let nothing = Snapshot::default();
    let closed = rules(&capture(r#"["lead"]"#));
    assert_eq!(given(&closed, None, Some(&[]), &nothing), ["X"], "no editor comes of it");
    let open = rules(&capture("\"any\""));
    assert!(given(&open, None, Some(&[]), &nothing).is_empty(), "an editor may come of it");
}

/// LOG17.
#[test]
fn log17_a_disabled_mapping_reads_no_claim() {
    let mapping =
        |more: &str| format!("[[mapping]]\nprovider = \"p\"\nclaim = \"level\"\nvalue = \"1\"\ngroup = \"X\"\n{more}");
    let reads_at = |rules: &RuleSet, now| {
        rules.reads(&ProviderName::parse("p").unwrap(), &ClaimName::parse("level").unwrap(), now)
    };
    let reads = |rules: &RuleSet| reads_at(rules, NOW);
    assert!(reads(&rules(&mapping(""))));
    assert!(!reads(&rules(&mapping("enabled = false\n"))));
    let until = NOW.plus(std::time::Duration::from_secs(60));
    let ends = rules(&mapping(&format!("until = {until}\n")));
    assert!(reads(&ends) && !reads_at(&ends, until));
    let both = rules(&format!("{}{}", mapping(&format!("until = {until}\n")), mapping("").replace("\"1\"", "\"2\"")));
    assert!(reads_at(&both, until), "another mapping goes on");
}

/// LOG17: a mapping past its end refuses no login under `strict`.
#[tokio::test(flavor = "multi_thread")]
async fn log17_a_mapping_that_has_ended_refuses_no_login() {
    use crate::attacks::{FORM, Siege, claims as of_login, config, form, signed};
    let until = crate::kit::NOW.plus(std::time::Duration::from_secs(60));
    let text = config("strict = true", "").replace(
        "[provider.claims.groups]\n\n[[provider]]",
        "[provider.claims.groups]\n[provider.claims.level]\nname = \"/level/of\"\n\n[[provider]]",
    );
    let mapping = format!(
        "\n[[mapping]]\nprovider = \"oidc\"\nclaim = \"level\"\nvalue = \"1\"\ngroup = \"Staff\"\nuntil = {until}\n"
    );
    let siege = Siege::with(&(text + &mapping)).await;
    for (seconds, status) in [(0, 403), (61, 200)] {
        siege.house.clock.set(crate::kit::NOW.plus(std::time::Duration::from_secs(seconds)));
        let mut claims = of_login(&format!("at-{seconds}"));
        claims["level"] = serde_json::json!("of no shape that the path reads");
        let body = form(&[("id_token", &signed(&claims)), ("state", "state-1")]);
        let answer = siege.send("/callback", FORM.1, body.as_bytes()).await;
        assert_eq!(answer.status, status, "after {seconds} s: {}", answer.body);
    }
}

#[test]
fn a_default_holds_while_nothing_else_on_its_claim_does() {
    let rules = rules(
        "[[mapping]]\nprovider = \"p\"\nclaim = \"groups\"\nvalue = \"a\"\ngroup = \"X\"\n\
         [[mapping]]\nname = \"both\"\nprovider = \"p\"\n\
         when = [{ claim = \"groups\", is = \"b\" }, { claim = \"level\", is = \"1\" }]\ngroup = \"X\"\n\
         [[default]]\nprovider = \"p\"\nclaim = \"groups\"\nrole = \"lead\"\n",
    );
    let none: Brought<'_> = Some(&[]);
    let nothing = Snapshot::default();
    assert_eq!(given(&rules, none, none, &nothing), ["lead"]);
    assert_eq!(given(&rules, Some(&["other"]), none, &nothing), ["lead"]);
    assert_eq!(given(&rules, Some(&["a"]), none, &nothing), ["X"]);
    assert_eq!(given(&rules, Some(&["b"]), Some(&["1"]), &nothing), ["X"]);
    assert_eq!(given(&rules, Some(&["b"]), Some(&["2"]), &nothing), ["lead"]);
    assert!(given(&rules, Some(&["b"]), None, &nothing).is_empty(), "another mapping may hold");
    assert!(given(&rules, None, none, &nothing).is_empty());
}

#[test]
fn a_mapping_without_a_provider_meets_each_with_its_own_claims() {
    let rules = rules(
        "[[mapping]]\nname = \"anywhere\"\nwhen = [{ claim = \"groups\", is = \"a;b\", delimiter = \"\" }]\ngroup = \"X\"\n\
         [[mapping]]\nname = \"no level\"\nwhen = [{ claim = \"level\", absent = true }]\ngroup = \"Y\"\n\
         [[mapping]]\nname = \"everyone\"\nalways = true\ngroup = \"team-a\"\n",
    );
    let of = |provider: &str, brought: &[(&str, Brought<'_>)]| {
        let plan = plan(&rules, provider, &claims(brought, None), &Snapshot::default());
        plan.hits.iter().map(|hit| hit.label.clone()).collect::<Vec<_>>()
    };
    assert_eq!(of("p", &[("groups", Some(&["a;b"])), ("level", Some(&[]))]), ["anywhere", "no level", "everyone"]);
    assert_eq!(of("q", &[("groups", Some(&["a;b"]))]), ["anywhere", "everyone"], "`q` has no such claim to be absent");
}

#[test]
fn a_table_is_many_mappings_of_the_short_form() {
    let rules = rules(
        "[mapping_table.p.groups]\ngroups = { \"a\" = \"X\", \"b c\" = [\"X\", \"Y\"] }\nroles = { \"d\" = \"lead\" }\n",
    );
    let none: Brought<'_> = Some(&[]);
    assert_eq!(given(&rules, Some(&["b c"]), none, &Snapshot::default()), ["X", "Y"]);
    assert_eq!(given(&rules, Some(&["a;d"]), none, &Snapshot::default()), ["X", "lead"]);
    assert_eq!(rules.mappings().len(), 4);
}

#[test]
fn stages_keep_a_target_out_of_reach() {
    let rules = rules(
        "[[mapping]]\nname = \"both\"\nprovider = \"p\"\nwhen = [{ claim = \"groups\", is = \"a\" }]\n\
         then = [{ add_group = \"Test only\" }, { add_group = \"X\" }]\n\
         [[mapping]]\nprovider = \"q\"\nclaim = \"groups\"\nvalue = \"a\"\ngroup = \"Test only\"\n",
    );
    assert_eq!(given(&rules, Some(&["a"]), Some(&[]), &Snapshot::default()), ["X"]);
    let plan = plan(&rules, "q", &claims(&[("groups", Some(&["a"]))], None), &Snapshot::default());
    assert_eq!(plan.hits.len(), 1, "a provider without a stage meets every target");
}

#[test]
fn a_value_that_differs_by_case_is_told() {
    let rules = rules("[[mapping]]\nprovider = \"p\"\nclaim = \"groups\"\nvalue = \"Staff\"\ngroup = \"X\"\n");
    let found = |value: &str| {
        let claims = claims(&[("groups", Some(&[value]))], Some(";"));
        plan(&rules, "p", &claims, &Snapshot::default()).near_misses
    };
    assert_eq!((found("STAFF")[0].found.as_str(), found("STAFF")[0].expected.as_str()), ("STAFF", "Staff"));
    assert!(found("Staff").is_empty() && found("Stuff").is_empty());
}
