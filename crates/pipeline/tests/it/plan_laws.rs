//! Laws of the plan, on random rules, claims and histories.

use std::collections::BTreeSet;
use std::sync::Arc;

use loginsync_pipeline::claims::{Claim, ClaimState, Claims, Split, Unresolved};
use loginsync_pipeline::ids::{
    ClaimName, GroupName, MappingId, Namespace, ProviderName, RoleName, Subject, Target, Timestamp, UserId,
};
use loginsync_pipeline::lookup::Lookup;
use loginsync_pipeline::mapping::{Group, Mapping, Role, RuleSet, Rules, candidates};
use loginsync_pipeline::plan::{Grant, Plan, Snapshot, Source, draft};
use proptest::prelude::*;

const NOW: Timestamp = Timestamp(1_700_000_000_000);

fn provider(name: &str) -> ProviderName {
    ProviderName::parse(name).unwrap()
}

fn user() -> UserId {
    UserId { namespace: Namespace::parse("people").unwrap(), subject: Subject::parse("alice").unwrap() }
}

fn target(number: u8) -> Target {
    match number % 2 {
        0 => Target::Group(GroupName::parse(&format!("g{number}")).unwrap()),
        _ => Target::Role(RoleName::parse(&format!("r{number}")).unwrap()),
    }
}

fn rule_set(pairs: &[(u8, u8)]) -> RuleSet {
    let claim = ClaimName::parse("groups").unwrap();
    let mappings = pairs.iter().map(|(value, to)| {
        let (provider, value, target) = (provider("p"), value.to_string(), target(*to));
        Mapping::of_value(provider, claim.clone(), Arc::from(value.as_str()), None, target)
    });
    let groups: Lookup<GroupName, Group> = (0..40)
        .filter_map(|number| match target(number) {
            Target::Group(name) => Some((name, Group::default())),
            Target::Role(_) => None,
        })
        .collect();
    let roles: Lookup<RoleName, Role> = (0..40)
        .filter_map(|number| match target(number) {
            Target::Role(name) => Some((name, Role::default())),
            Target::Group(_) => None,
        })
        .collect();
    let mappings = mappings.collect();
    RuleSet::compile(1, Rules { groups, roles, mappings, ..Rules::default() }).unwrap()
}

fn claims(state: ClaimState) -> Claims {
    let decided = !matches!(state, ClaimState::Unresolved(_) | ClaimState::Malformed);
    let name = ClaimName::parse("groups").unwrap();
    let claim = Claim { name, state, split: Split::default(), skipped: 0, decided };
    Claims { user: user(), email: None, display_name: None, claims: vec![claim] }
}

fn values(values: &[u8]) -> Claims {
    claims(match values {
        [] => ClaimState::Empty,
        values => ClaimState::Values(values.iter().map(ToString::to_string).collect()),
    })
}

fn plan(rules: &RuleSet, claims: &Claims, snapshot: &Snapshot) -> Plan {
    let candidates = candidates(rules, &provider("p"), &Arc::new(claims.clone()));
    draft(user(), NOW, NOW, &candidates, snapshot, rules)
}

/// What the store would hold once the plan is written.
fn applied(plan: &Plan, snapshot: &Snapshot) -> Snapshot {
    let mapped = |change: &loginsync_pipeline::plan::Change| Grant {
        target: change.target.clone(),
        source: Source::Mapped { provider: plan.provider.clone(), mapping: change.mapping },
    };
    let revoked: Vec<Grant> = plan.revokes.iter().map(mapped).collect();
    let mut grants: Vec<Grant> = snapshot.grants.iter().filter(|grant| !revoked.contains(grant)).cloned().collect();
    grants.extend(plan.grants.iter().map(mapped));
    Snapshot { grants, denies: snapshot.denies.clone(), watermark: Some(NOW), ..Snapshot::default() }
}

/// Grants that are not the provider's own: by hand, and by another provider.
fn strangers(numbers: &[(u8, bool)]) -> Vec<Grant> {
    let unique: BTreeSet<(u8, bool)> = numbers.iter().copied().collect();
    unique
        .into_iter()
        .map(|(number, by_hand)| Grant {
            target: target(number),
            source: match by_hand {
                true => Source::Assigned,
                false => Source::Mapped { provider: provider("other"), mapping: MappingId([number; 16]) },
            },
        })
        .collect()
}

fn own(snapshot: &Snapshot) -> BTreeSet<Grant> {
    let ours =
        |grant: &&Grant| matches!(&grant.source, Source::Mapped { provider: owner, .. } if *owner == provider("p"));
    snapshot.grants.iter().filter(ours).cloned().collect()
}

fn pairs() -> impl Strategy<Value = Vec<(u8, u8)>> {
    proptest::collection::vec((0u8..20, 0u8..20), 0..30)
}

fn numbers() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(0u8..25, 0..20)
}

proptest! {
    #[test]
    fn applying_a_plan_gives_what_the_claims_ask_for(rules in pairs(), first in numbers(), second in numbers()) {
        let rule_set = rule_set(&rules);
        let before = applied(&plan(&rule_set, &values(&first), &Snapshot::default()), &Snapshot::default());
        let after = applied(&plan(&rule_set, &values(&second), &before), &before);
        let wanted: BTreeSet<Target> =
            rules.iter().filter(|(value, _)| second.contains(value)).map(|(_, to)| target(*to)).collect();
        let got: BTreeSet<Target> = own(&after).into_iter().map(|grant| grant.target).collect();
        prop_assert_eq!(got, wanted);
    }

    #[test]
    fn a_second_plan_is_empty(rules in pairs(), first in numbers(), second in numbers()) {
        let rule_set = rule_set(&rules);
        let before = applied(&plan(&rule_set, &values(&first), &Snapshot::default()), &Snapshot::default());
        let after = applied(&plan(&rule_set, &values(&second), &before), &before);
        prop_assert!(plan(&rule_set, &values(&second), &after).changes_nothing());
    }

    #[test]
    fn the_order_of_values_and_mappings_is_irrelevant(mut rules in pairs(), mut now in numbers(), before in numbers()) {
        let one = rule_set(&rules);
        let snapshot = applied(&plan(&one, &values(&before), &Snapshot::default()), &Snapshot::default());
        let mut forwards = plan(&one, &values(&now), &snapshot);
        rules.reverse();
        now.reverse();
        let mut backwards = plan(&rule_set(&rules), &values(&now), &snapshot);
        // The record of what matched is in the order of the rules; what comes of it is not.
        for plan in [&mut forwards, &mut backwards] {
            plan.hits.sort();
        }
        prop_assert_eq!(forwards, backwards);
    }

    #[test]
    fn promise_03_strangers_are_untouched(rules in pairs(), now in numbers(), others in proptest::collection::vec((0u8..20, any::<bool>()), 0..10)) {
        let rule_set = rule_set(&rules);
        let strangers = strangers(&others);
        let snapshot = Snapshot { grants: strangers.clone(), ..Snapshot::default() };
        let plan = plan(&rule_set, &values(&now), &snapshot);
        prop_assert!(plan.revokes.is_empty());
        let after = applied(&plan, &snapshot);
        prop_assert!(strangers.iter().all(|grant| after.grants.contains(grant)));
    }

    #[test]
    fn promise_04_an_undecided_claim_changes_nothing(rules in pairs(), before in numbers(), malformed in any::<bool>()) {
        let rule_set = rule_set(&rules);
        let snapshot = applied(&plan(&rule_set, &values(&before), &Snapshot::default()), &Snapshot::default());
        let state = if malformed { ClaimState::Malformed } else { ClaimState::Unresolved(Unresolved::Overage) };
        let plan = plan(&rule_set, &claims(state), &snapshot);
        prop_assert!(plan.changes_nothing());
        prop_assert_eq!(plan.undecided.len(), own(&snapshot).len());
    }

    #[test]
    fn promise_04_present_and_empty_revokes_all(rules in pairs(), before in numbers()) {
        let rule_set = rule_set(&rules);
        let snapshot = applied(&plan(&rule_set, &values(&before), &Snapshot::default()), &Snapshot::default());
        let after = applied(&plan(&rule_set, &values(&[]), &snapshot), &snapshot);
        prop_assert!(own(&after).is_empty());
    }
}

#[test]
fn promise_05_an_older_login_plans_nothing() {
    let rules = rule_set(&[(1, 2)]);
    let newest = Timestamp(NOW.0 + 1);
    let snapshot = Snapshot { watermark: Some(newest), ..Snapshot::default() };
    let older = plan(&rules, &values(&[1]), &snapshot);
    assert!(older.older && older.changes_nothing());
    let equal = Snapshot { watermark: Some(NOW), ..Snapshot::default() };
    assert!(!plan(&rules, &values(&[1]), &equal).older, "equal instants apply in commit order");
}
