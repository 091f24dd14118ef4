//! A condition on a role counts only what can be traced to a source that needs no role.

use std::collections::BTreeSet;
use std::sync::Arc;

use loginsync_pipeline::claims::{Claim, ClaimState, Claims, Split, Unresolved};
use loginsync_pipeline::ids::{ClaimName, ProviderName, Target, Timestamp};
use loginsync_pipeline::lookup::Lookup;
use loginsync_pipeline::mapping::action::Then;
use loginsync_pipeline::mapping::condition::{ClaimCondition, Condition, Days, Test};
use loginsync_pipeline::mapping::{Activity, Group, Join, Mapping, Role, RuleSet, Rules, When, candidates};
use loginsync_pipeline::plan::{Grant, Plan, Snapshot, Source, by_role_or_claim, draft};

use crate::world::{NOW, group, group_name, provider, role, role_name, user};

fn has(name: &str) -> Condition {
    Condition::HasRole(role_name(name))
}

fn lacks(name: &str) -> Condition {
    Condition::LacksRole(role_name(name))
}

fn is(value: &str) -> Condition {
    let claim = ClaimName::parse("groups").unwrap();
    Condition::Claim(ClaimCondition { claim, delimiter: None, ignore_case: false, test: Test::Is(Arc::from(value)) })
}

/// A mapping `provider: target`.
fn named(owner: &str, target: &Target, join: Join, conditions: Vec<Condition>) -> Mapping {
    let name = format!("{owner}: {}", target.name());
    Mapping {
        id: Mapping::id_of_name(&name),
        name: Some(Arc::from(name.as_str())),
        provider: Some(provider(owner)),
        when: When::Conditions { join, conditions: conditions.into() },
        then: Then::Give(target.clone()),
        activity: Activity::Active,
        until: None,
    }
}

fn rule_set(mappings: Vec<Mapping>) -> RuleSet {
    let roles = (1..=6).map(|number| (role_name(&format!("r{number}")), Role::default())).collect();
    let carries = Group { roles: vec![role_name("r1")], ..Group::default() };
    let groups: Lookup<_, _> = ["1", "2", "3", "4", "5", "6", "L", "days"]
        .map(|name| (group_name(name), Group::default()))
        .into_iter()
        .chain([(group_name("carries r1"), carries)])
        .collect();
    RuleSet::compile(1, Rules { groups, roles, mappings, ..Rules::default() }).unwrap()
}

/// Provider `q` gives roles by its claims and by roles; `p` gives group `n` to who has role `n`, and by claims `r1`.
fn rules() -> RuleSet {
    let mut mappings = vec![
        named("q", &role("r1"), Join::All, vec![is("x")]),
        named("q", &group("carries r1"), Join::All, vec![is("x")]),
        named("q", &role("r2"), Join::All, vec![has("r1")]),
        named("q", &role("r3"), Join::All, vec![has("r1"), has("r2")]),
        named("q", &role("r4"), Join::Any, vec![has("r1"), is("x")]),
        // The two go round in a circle.
        named("q", &role("r5"), Join::All, vec![has("r6")]),
        named("p", &role("r1"), Join::All, vec![is("one")]),
        named("p", &role("r6"), Join::All, vec![has("r5")]),
    ];
    mappings.extend(
        (1..=5).map(|number| named("p", &group(&number.to_string()), Join::All, vec![has(&format!("r{number}"))])),
    );
    rule_set(mappings)
}

fn mapped(owner: &str, target: Target) -> Grant {
    let id = Mapping::id_of_name(&format!("{owner}: {}", target.name()));
    Grant { target, source: Source::Mapped { provider: provider(owner), mapping: id } }
}

fn claims(values: Option<&[&str]>) -> Claims {
    let state = match values {
        None => ClaimState::Unresolved(Unresolved::Overage),
        Some([]) => ClaimState::Empty,
        Some(values) => ClaimState::Values(values.iter().map(|value| (*value).to_owned()).collect()),
    };
    let (name, decided) = (ClaimName::parse("groups").unwrap(), values.is_some());
    let claims = vec![Claim { name, state, split: Split::default(), skipped: 0, decided }];
    Claims { user: user(1), email: None, display_name: None, claims }
}

fn plan(rules: &RuleSet, snapshot: &Snapshot, values: Option<&[&str]>) -> Plan {
    let candidates = candidates(rules, &provider("p"), &Arc::new(claims(values)));
    draft(user(1), NOW, NOW, &candidates, snapshot, rules)
}

fn names(targets: impl Iterator<Item = Target>) -> Vec<String> {
    let names: BTreeSet<String> = targets.map(|target| target.name().to_owned()).collect();
    names.into_iter().collect()
}

#[test]
fn a_role_counts_while_it_can_be_traced_to_a_source() {
    let by_hand = |name: &str| Grant { target: role(name), source: Source::Assigned };
    let of_q = |name: &str| mapped("q", role(name));
    let of_p = |name: &str| mapped("p", role(name));
    type Values = &'static [&'static str];
    let rows: Vec<(&str, Vec<Grant>, Values, Values)> = vec![
        ("nothing is held", vec![], &[], &[]),
        ("by hand", vec![by_hand("r3")], &[], &["3"]),
        ("by a claim of another provider", vec![of_q("r1")], &[], &["1"]),
        ("by a group of another provider", vec![mapped("q", group("carries r1"))], &[], &["1"]),
        ("by this provider before", vec![of_p("r1")], &[], &[]),
        ("by this provider now", vec![], &["one"], &["1", "r1"]),
        ("by a role that is there", vec![of_q("r1"), of_q("r2")], &[], &["1", "2"]),
        ("by a role that is not", vec![of_q("r2")], &[], &[]),
        ("by a chain of roles", vec![of_q("r3"), of_q("r2"), of_q("r1")], &[], &["1", "2", "3"]),
        ("by one of two roles that are asked for", vec![of_q("r3"), of_q("r1")], &[], &["1"]),
        ("by a role that this login gives", vec![of_q("r2")], &["one"], &["1", "2", "r1"]),
        ("by a chain that begins with this login", vec![of_q("r3"), of_q("r2")], &["one"], &["1", "2", "3", "r1"]),
        ("by a role that this provider gave before", vec![of_q("r2"), of_p("r1")], &[], &[]),
        ("by a role or a claim, and neither is known", vec![of_q("r4")], &[], &[]),
        ("by a role or a claim, and the role is there", vec![of_q("r4"), by_hand("r1")], &[], &["1", "4"]),
        ("in a circle", vec![of_q("r5"), of_p("r6")], &[], &[]),
        ("in a circle with a source", vec![of_q("r5"), by_hand("r6")], &[], &["5", "r6"]),
    ];
    let rules = rules();
    for (what, grants, values, expected) in rows {
        let snapshot = Snapshot { grants, ..Snapshot::default() };
        let found = plan(&rules, &snapshot, Some(values));
        assert_eq!(names(found.hits.iter().map(|hit| hit.target.clone())), expected, "{what}");
    }
    // A denied role is not there.
    let denies = BTreeSet::from([role("r1")]);
    for grants in [vec![by_hand("r1")], vec![mapped("q", group("carries r1"))], vec![of_q("r1"), of_q("r2")]] {
        let snapshot = Snapshot { grants, denies: denies.clone(), ..Snapshot::default() };
        assert_eq!(plan(&rules, &snapshot, Some(&[])).hits, []);
    }
    let snapshot = Snapshot { grants: vec![of_q("r2")], denies, ..Snapshot::default() };
    let found = plan(&rules, &snapshot, Some(&["one"]));
    assert_eq!(names(found.hits.iter().map(|hit| hit.target.clone())), ["r1"], "given, and denied");
}

/// A mapping of another provider that asks for a role or a claim stands by itself where the claim was enough.
#[test]
fn a_claim_of_the_last_login_may_support_a_role() {
    let rules = rules();
    let grant = mapped("q", role("r4"));
    let Source::Mapped { mapping, .. } = grant.source else { panic!() };
    for (of, expected) in [(provider("q"), &["4"][..]), (provider("other"), &[])] {
        let by_claim = BTreeSet::from([(of, mapping)]);
        let snapshot = Snapshot { grants: vec![grant.clone()], by_claim, ..Snapshot::default() };
        assert_eq!(names(plan(&rules, &snapshot, Some(&[])).hits.iter().map(|hit| hit.target.clone())), expected);
    }
    // Where all is asked for, a claim alone is never enough.
    let both = rule_set(vec![
        named("q", &role("r4"), Join::All, vec![has("r1"), is("x")]),
        named("p", &group("4"), Join::All, vec![has("r4")]),
    ]);
    let snapshot = Snapshot {
        grants: vec![grant.clone()],
        by_claim: BTreeSet::from([(provider("q"), mapping)]),
        ..Snapshot::default()
    };
    assert_eq!(plan(&both, &snapshot, Some(&[])).hits, []);
    // Of which mappings it has to be known: of other providers, by any of a role and a claim.
    let asked = |conditions: Vec<Condition>, join, owner: &str| {
        let rules = rule_set(vec![named(owner, &role("r4"), join, conditions)]);
        let snapshot = Snapshot { grants: vec![mapped(owner, role("r4"))], ..Snapshot::default() };
        let found = by_role_or_claim(&snapshot, &provider("p"), &rules);
        found.into_iter().map(|(owner, mapping)| (owner.clone(), mapping.id)).collect::<Vec<(ProviderName, _)>>()
    };
    assert_eq!(asked(vec![has("r1"), is("x")], Join::Any, "q"), [(provider("q"), mapping)]);
    for (conditions, join, owner) in [
        (vec![has("r1"), is("x")], Join::Any, "p"),
        (vec![has("r1"), is("x")], Join::All, "q"),
        (vec![has("r1"), has("r2")], Join::Any, "q"),
        (vec![is("x"), is("y")], Join::Any, "q"),
        (vec![lacks("r1"), is("x")], Join::Any, "q"),
    ] {
        assert_eq!(asked(conditions, join, owner), []);
    }
}

/// What cannot be decided stays, and so may what leans on it.
#[test]
fn what_leans_on_something_undecided_is_undecided() {
    let rules = rules();
    let undecided = |grants: Vec<Grant>| {
        let snapshot = Snapshot { grants, ..Snapshot::default() };
        let found = plan(&rules, &snapshot, None);
        assert!(found.revokes.is_empty(), "{found}");
        names(found.undecided.iter().map(|change| change.target.clone()))
    };
    let own = |name: &str| mapped("p", group(name));
    assert_eq!(undecided(vec![mapped("p", role("r1")), own("1")]), ["1", "r1"]);
    assert_eq!(undecided(vec![mapped("p", role("r1")), mapped("q", role("r2")), own("2")]), ["2", "r1"]);
    // Nothing that may come of this login supports these.
    let snapshot =
        Snapshot { grants: vec![mapped("q", role("r5")), mapped("p", role("r6")), own("5")], ..Snapshot::default() };
    let found = plan(&rules, &snapshot, None);
    assert_eq!(names(found.revokes.iter().map(|change| change.target.clone())), ["5", "r6"]);
}

/// Where more roles would take something away, only what needs none of this counts.
#[test]
fn a_condition_on_a_missing_role_stops_the_search() {
    let with = |more: Vec<Mapping>| {
        let mut mappings = vec![
            named("q", &role("r2"), Join::All, vec![has("r1")]),
            named("p", &role("r1"), Join::All, vec![is("one")]),
            named("p", &group("2"), Join::All, vec![has("r2")]),
        ];
        mappings.extend(more);
        rule_set(mappings)
    };
    let snapshot = Snapshot { grants: vec![mapped("q", role("r2"))], ..Snapshot::default() };
    let found =
        |rules: &RuleSet| names(plan(rules, &snapshot, Some(&["one"])).hits.iter().map(|hit| hit.target.clone()));
    assert_eq!(found(&with(vec![])), ["2", "r1"]);
    // L holds while r2 is missing, and r2 is missing while only what is certain counts.
    assert_eq!(found(&with(vec![named("p", &group("L"), Join::All, vec![lacks("r2")])])), ["L", "r1"]);
    assert_eq!(found(&with(vec![named("p", &group("L"), Join::All, vec![lacks("r3")])])), ["2", "L", "r1"]);
}

#[test]
fn days_since_the_last_login_are_whole() {
    const DAY: i64 = 24 * 3600 * 1000;
    let rules = rule_set(vec![named("p", &group("days"), Join::All, vec![Condition::LastLogin(Days::MoreThan(1))])]);
    for (last_login, expected) in
        [(None, false), (Some(2 * DAY - 1), false), (Some(2 * DAY), true), (Some(0), false), (Some(-5 * DAY), false)]
    {
        let last_login = last_login.map(|before| Timestamp(NOW.0 - before));
        let snapshot = Snapshot { last_login, ..Snapshot::default() };
        assert_eq!(!plan(&rules, &snapshot, Some(&[])).hits.is_empty(), expected, "{last_login:?}");
    }
}
