//! Laws of the whole mapping language, on random rules, claims and histories: the index says what walking the rules says,
//! and nothing that could not be read gives anything.

use std::collections::BTreeSet;
use std::sync::Arc;

use loginsync_pipeline::claims::{Claim, ClaimState, Claims, Split, Unresolved};
use loginsync_pipeline::ids::{
    ClaimName, GroupName, Namespace, ProviderName, RoleName, Subject, Target, Timestamp, UserId,
};
use loginsync_pipeline::lookup::Lookup;
use loginsync_pipeline::mapping::action::Then;
use loginsync_pipeline::mapping::condition::{ClaimCondition, Condition, Days, Decimal, Pattern, Test};
use loginsync_pipeline::mapping::{
    Activity, Candidates, Group, Join, Mapping, Role, RuleSet, Rules, When, candidates, exhaustive,
};
use loginsync_pipeline::plan::{Grant, Plan, Snapshot, Source, draft};
use proptest::prelude::*;

const NOW: Timestamp = Timestamp(1_700_000_000_000);
/// Few words, so that random rules and random claims meet; among them spellings that differ by case.
const WORDS: [&str; 8] = ["a", "A", "ab", "abc", "b", "10", "9", "straße"];

fn provider(name: &str) -> ProviderName {
    ProviderName::parse(name).unwrap()
}

fn claim(number: usize) -> ClaimName {
    ClaimName::parse(["groups", "department"][number % 2]).unwrap()
}

fn target(number: usize) -> Target {
    match number % 2 {
        0 => Target::Group(GroupName::parse(&format!("g{}", number % 10)).unwrap()),
        _ => Target::Role(role(number)),
    }
}

fn role(number: usize) -> RoleName {
    RoleName::parse(&format!("r{}", number % 10 / 2 * 2 + 1)).unwrap()
}

fn word() -> impl Strategy<Value = Arc<str>> {
    (0..WORDS.len()).prop_map(|at| Arc::from(WORDS[at]))
}

fn test() -> impl Strategy<Value = (Test, bool)> {
    let with = |make: fn(Arc<str>) -> Test| word().prop_map(make).boxed();
    let test = prop_oneof![
        4 => with(Test::Is),
        1 => with(Test::IsNot),
        1 => with(Test::Contains),
        1 => with(Test::NotContains),
        1 => with(Test::BeginsWith),
        1 => with(Test::EndsWith),
        1 => word().prop_map(|word| Test::Glob(Pattern::glob(&format!("{word}*"), false).unwrap())).boxed(),
        1 => word().prop_map(|word| Test::Regex(Pattern::regex(&format!("^{word}.?$"), false).unwrap())).boxed(),
        1 => (0..20_u8).prop_map(|bound| Test::GreaterThan(Decimal::parse(&bound.to_string()).unwrap())).boxed(),
        1 => (0..20_u8).prop_map(|bound| Test::LessThan(Decimal::parse(&bound.to_string()).unwrap())).boxed(),
        1 => Just(Test::Present).boxed(),
        1 => Just(Test::Absent).boxed(),
    ];
    // A compiled pattern carries its own case; this law is about the others.
    (test, any::<bool>()).prop_map(|(test, ignore_case)| match &test {
        Test::Glob(_) | Test::Regex(_) => (test, false),
        _ => (test, ignore_case),
    })
}

fn condition() -> impl Strategy<Value = Condition> {
    prop_oneof![
        6 => (0..2_usize, test()).prop_map(|(number, (test, ignore_case))| Condition::Claim(ClaimCondition {
            claim: claim(number),
            delimiter: None,
            ignore_case,
            test,
        })),
        1 => (0..10_usize).prop_map(|number| Condition::HasRole(role(number))),
        1 => (0..10_usize).prop_map(|number| Condition::LacksRole(role(number))),
        1 => (0..60_u32).prop_map(|days| Condition::LastLogin(Days::MoreThan(days))),
    ]
}

fn when() -> impl Strategy<Value = When> {
    prop_oneof![
        3 => (0..2_usize, word()).prop_map(|(number, value)| When::Value { claim: claim(number), value, delimiter: None }),
        6 => (any::<bool>(), proptest::collection::vec(condition(), 1..4)).prop_map(|(all, conditions)| When::Conditions {
            join: if all { Join::All } else { Join::Any },
            conditions: conditions.into(),
        }),
        1 => Just(When::Always),
        1 => (0..2_usize).prop_map(|number| When::Unmatched { claim: claim(number) }),
    ]
}

fn mappings() -> impl Strategy<Value = Vec<(When, usize, bool)>> {
    proptest::collection::vec((when(), 0..10_usize, any::<bool>()), 0..25)
}

fn rules(mappings: &[(When, usize, bool)]) -> RuleSet {
    let mappings = mappings.iter().enumerate().map(|(number, (when, to, everywhere))| {
        let is_default = matches!(when, When::Unmatched { .. });
        Mapping {
            id: Mapping::id_of_name(&number.to_string()),
            name: Some(Arc::from(number.to_string())),
            provider: (is_default || !everywhere).then(|| provider("p")),
            when: when.clone(),
            then: Then::Give(target(*to)),
            activity: Activity::Active,
            until: None,
        }
    });
    // Some groups carry a role, so that what one mapping gives reaches another's condition.
    let group = |number: usize| Group {
        roles: if number.is_multiple_of(4) { vec![role(number + 1)] } else { Vec::new() },
        ..Group::default()
    };
    let targets: Vec<(usize, Target)> = (0..10).map(|number| (number, target(number))).collect();
    let groups: Lookup<GroupName, Group> = targets
        .iter()
        .filter_map(|(number, target)| match target {
            Target::Group(name) => Some((name.clone(), group(*number))),
            Target::Role(_) => None,
        })
        .collect();
    let roles = targets
        .iter()
        .filter_map(|(_, target)| match target {
            Target::Role(name) => Some((name.clone(), Role::default())),
            Target::Group(_) => None,
        })
        .collect();
    RuleSet::compile(1, Rules { groups, roles, mappings: mappings.collect(), ..Rules::default() }).unwrap()
}

fn state() -> impl Strategy<Value = ClaimState> {
    prop_oneof![
        6 => proptest::collection::vec(0..WORDS.len(), 1..5)
            .prop_map(|words| ClaimState::Values(words.into_iter().map(|at| WORDS[at].to_owned()).collect())),
        1 => Just(ClaimState::Empty),
        1 => Just(ClaimState::Missing),
        1 => Just(ClaimState::Malformed),
        2 => Just(ClaimState::Unresolved(Unresolved::Overage)),
    ]
}

fn claims(states: &[ClaimState]) -> Arc<Claims> {
    let claims = states.iter().enumerate().map(|(number, state)| Claim {
        name: claim(number),
        decided: !matches!(state, ClaimState::Malformed | ClaimState::Unresolved(_)),
        state: state.clone(),
        split: Split::default(),
        skipped: 0,
    });
    Arc::new(Claims { user: user(), email: None, display_name: None, claims: claims.collect() })
}

fn user() -> UserId {
    UserId { namespace: Namespace::parse("people").unwrap(), subject: Subject::parse("alice").unwrap() }
}

/// What the person holds before: some of it given by these rules, some by hand.
fn history(rules: &RuleSet, held: &[(usize, bool)]) -> Snapshot {
    let mut grants: Vec<Grant> = held
        .iter()
        .filter_map(|(number, by_hand)| {
            if *by_hand {
                return Some(Grant { target: target(*number), source: Source::Assigned });
            }
            let mapping = rules.mappings().get(*number)?;
            let target = mapping.then.named().next()?.clone();
            Some(Grant { target, source: Source::Mapped { provider: provider("p"), mapping: mapping.id } })
        })
        .collect();
    grants.sort();
    grants.dedup();
    Snapshot { grants, last_login: Some(Timestamp(NOW.0 - 30 * 24 * 3600 * 1000)), ..Snapshot::default() }
}

fn plan(rules: &RuleSet, candidates: &Candidates, snapshot: &Snapshot) -> Plan {
    let mut plan = draft(user(), NOW, NOW, candidates, snapshot, rules);
    plan.near_misses.clear();
    plan
}

fn applied(plan: &Plan, snapshot: &Snapshot) -> Snapshot {
    let grant = |change: &loginsync_pipeline::plan::Change| Grant {
        target: change.target.clone(),
        source: Source::Mapped { provider: provider("p"), mapping: change.mapping },
    };
    let revoked: BTreeSet<Grant> = plan.revokes.iter().map(grant).collect();
    let mut grants: Vec<Grant> = snapshot.grants.iter().filter(|grant| !revoked.contains(grant)).cloned().collect();
    grants.extend(plan.grants.iter().map(grant));
    Snapshot { grants, watermark: Some(NOW), ..snapshot.clone() }
}

fn two_states() -> impl Strategy<Value = Vec<ClaimState>> {
    proptest::collection::vec(state(), 2)
}

fn held() -> impl Strategy<Value = Vec<(usize, bool)>> {
    proptest::collection::vec((0..25_usize, any::<bool>()), 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn the_index_says_what_walking_the_rules_says(mappings in mappings(), states in two_states(), held in held()) {
        let rules = rules(&mappings);
        let snapshot = history(&rules, &held);
        let claims = claims(&states);
        let by_index = plan(&rules, &candidates(&rules, &provider("p"), &claims), &snapshot);
        let by_walking = plan(&rules, &exhaustive(&rules, &provider("p"), &claims), &snapshot);
        prop_assert_eq!(by_index, by_walking);
    }

    #[test]
    fn a_second_plan_is_empty(mappings in mappings(), states in two_states(), held in held()) {
        let rules = rules(&mappings);
        let candidates = candidates(&rules, &provider("p"), &claims(&states));
        let before = history(&rules, &held);
        let after = applied(&plan(&rules, &candidates, &before), &before);
        prop_assert!(plan(&rules, &candidates, &after).changes_nothing());
    }

    /// Promise 4: whatever a claim would have brought, not knowing it gives nothing that knowing it would not have given,
    /// and takes nothing away.
    #[test]
    fn promise_04_what_could_not_be_read_gives_and_takes_nothing(
        mappings in mappings(), known in state(), hidden in state(), held in held(),
    ) {
        prop_assume!(!matches!(known, ClaimState::Malformed | ClaimState::Unresolved(_)));
        prop_assume!(!matches!(hidden, ClaimState::Malformed | ClaimState::Unresolved(_)));
        let rules = rules(&mappings);
        let snapshot = history(&rules, &held);
        let decide = |second: ClaimState| {
            let claims = claims(&[known.clone(), second]);
            plan(&rules, &candidates(&rules, &provider("p"), &claims), &snapshot)
        };
        let told = decide(hidden);
        let untold = decide(ClaimState::Unresolved(Unresolved::FetchFailed));
        for change in &untold.grants {
            prop_assert!(told.hits.iter().any(|hit| hit.mapping == change.mapping), "gave {:?}", change);
        }
        for change in &untold.revokes {
            prop_assert!(told.revokes.contains(change), "took {:?}", change);
        }
    }
}
