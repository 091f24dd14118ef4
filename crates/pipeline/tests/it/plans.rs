//! What one plan says: in which list each grant stands and how it prints; and which gates let a login in.

use std::collections::BTreeSet;
use std::sync::Arc;

use loginsync_pipeline::claims::{Claim, ClaimState, Claims, Split, Unresolved};
use loginsync_pipeline::ids::{ClaimName, Target, Timestamp};
use loginsync_pipeline::mapping::action::Then;
use loginsync_pipeline::mapping::elsewhere::{Announced, Elsewhere};
use loginsync_pipeline::mapping::{Gate, GateRule, Mapping, Mode, RuleSet, Rules, When, candidates};
use loginsync_pipeline::plan::{Effective, Grant, Plan, Refused, Snapshot, Source, draft};

use crate::world::{NOW, by_hand, group, mapped, mapping, provider, role, rules, rules_with, user};

/// `None`: the claim could not be read.
fn plan(rules: &RuleSet, snapshot: &Snapshot, values: Option<&[&str]>) -> Plan {
    let state = match values {
        None => ClaimState::Unresolved(Unresolved::Overage),
        Some([]) => ClaimState::Empty,
        Some(values) => ClaimState::Values(values.iter().map(|value| (*value).to_owned()).collect()),
    };
    let (name, decided) = (ClaimName::parse("groups").unwrap(), values.is_some());
    let claims = vec![Claim { name, state, split: Split::default(), skipped: 0, decided }];
    let claims = Claims { user: user(1), email: None, display_name: None, claims };
    draft(user(1), NOW, NOW, &candidates(rules, &provider("p"), &Arc::new(claims)), snapshot, rules)
}

fn holding(grants: &[Grant]) -> Snapshot {
    Snapshot { grants: grants.to_vec(), ..Snapshot::default() }
}

#[test]
fn a_plan_prints_each_change_with_its_reason() {
    let rules = rules();
    let c = mapped("p", "c");
    let held = Snapshot {
        held: BTreeSet::from([(group("C"), mapping("p", "c").id)]),
        denies: BTreeSet::from([group("B")]),
        ..holding(&[c.clone(), mapped("p", "d"), mapped("q", "d"), mapped("p", "b")])
    };
    assert_eq!(
        plan(&rules, &held, Some(&["a", "b"])).to_string(),
        "people/u1 through p
  + group `A`  granted by `groups = a`
  - group `D`  no longer given by `groups = d`  (still held, for another reason)
  = group `B`  still given by `groups = b`  (denied)
  # group `C`  held by the brake, since too many lost it: `groups = c`
"
    );
    assert_eq!(
        plan(&rules, &holding(std::slice::from_ref(&c)), None).to_string(),
        "people/u1 through p
  ? group `C`  kept, since it cannot be decided: `groups = c`
  nothing changes
"
    );
    let lost = holding(&[mapped("p", "b"), c.clone()]);
    let mut guarded = plan(&rules, &lost, Some(&[]));
    assert_eq!(guarded.protected_losses(&rules), [group("B")]);
    guarded.guard(&[], &lost, &rules);
    assert_eq!((guarded.revokes.len(), guarded.guarded.len()), (2, 0), "no last holder is guarded");
    guarded.guard(&[group("B")], &lost, &rules);
    assert_eq!(guarded.protected_losses(&rules), []);
    assert_eq!(
        guarded.to_string(),
        "people/u1 through p
  - group `C`  no longer given by `groups = c`
  ! group `B`  kept, as its last holder: `groups = b`
"
    );
    let older = Snapshot { watermark: Some(Timestamp(NOW.0 + 1)), ..lost.clone() };
    assert_eq!(
        plan(&rules, &older, Some(&[])).to_string(),
        "people/u1 through p
  = an older login than the last one applied: nothing changes
"
    );
    let shadow = rules_with(1, |rules| rules.sync.mode = Mode::Shadow);
    let watched = plan(&shadow, &holding(std::slice::from_ref(&c)), Some(&["d"]));
    assert_eq!((watched.before.clone(), watched.grants.len(), watched.revokes.len()), (watched.after.clone(), 1, 1));
    assert_eq!(
        watched.to_string(),
        "people/u1 through p
  shadow: decided and recorded, nothing is written
  + group `D`  granted by `groups = d`  (denied)
  - group `C`  no longer given by `groups = c`  (still held, for another reason)
  nothing changes
"
    );
    let without = rules_with(1, |rules| rules.mappings.clear());
    let removed = plan(&without, &holding(&[c]), Some(&["c"]));
    assert_eq!(removed.revokes[0].label, format!("removed mapping {}", mapping("p", "c").id));
}

/// A role goes with the groups that carry it, as far as no deny undoes it.
#[test]
fn what_is_held_effectively() {
    let rules = rules();
    let of = |grants: &[Target], denies: &[Target]| {
        let effective = Effective::of(grants.iter(), &denies.iter().cloned().collect(), &rules);
        let targets: Vec<String> = effective.targets().map(|target| target.to_string()).collect();
        for target in [group("A"), group("C"), role("admin")] {
            assert_eq!(effective.holds(&target), targets.contains(&target.to_string()));
        }
        targets
    };
    let (a, c, admin) = (group("A"), group("C"), role("admin"));
    assert_eq!(of(&[a.clone(), c.clone()], &[]), ["group `A`", "group `C`", "role `admin`"]);
    assert_eq!(of(&[a.clone(), c.clone()], std::slice::from_ref(&a)), ["group `C`"]);
    assert_eq!(of(&[a.clone(), admin.clone()], std::slice::from_ref(&a)), ["role `admin`"]);
    assert_eq!(of(&[a.clone(), admin.clone()], std::slice::from_ref(&admin)), ["group `A`"]);
    assert!(of(&[a], &[group("A"), admin]).is_empty() && of(&[], &[]).is_empty());
}

/// What another grant of the same provider keeps is not lost, and what the brake holds is not either.
#[test]
fn the_brake_holds_losses_of_whole_targets() {
    let second = Mapping { id: Mapping::id_of_name("second"), ..mapping("p", "e") };
    let second = Mapping { then: mapping("p", "c").then, ..second };
    let rules = rules_with(1, |rules| rules.mappings.push(second.clone()));
    let by_second =
        Grant { source: Source::Mapped { provider: provider("p"), mapping: second.id }, ..mapped("p", "c") };
    let snapshot = holding(&[mapped("p", "c"), by_second, mapped("p", "d")]);
    for (values, lost) in [(&[][..], vec!["C", "D"]), (&["c"], vec!["D"]), (&["e"], vec!["D"]), (&["c", "d"], vec![])] {
        let found = plan(&rules, &snapshot, Some(values));
        assert_eq!(found.losses().into_iter().map(Target::name).collect::<Vec<_>>(), lost, "{values:?}");
    }
    let mut found = plan(&rules, &snapshot, Some(&[]));
    found.hold(vec![], &snapshot, &rules);
    assert_eq!((found.revokes.len(), found.held.len()), (3, 0));
    found.hold(vec![group("C")], &snapshot, &rules);
    assert_eq!((found.revokes.len(), found.held.len(), found.braked.as_slice()), (1, 2, &[group("C")][..]));
    assert!(found.after.holds(&group("C")) && !found.after.holds(&group("D")));
    assert!(found.held.is_sorted() && !found.changes_nothing());
}

/// A mapping that asks every provider gives through each by itself.
#[test]
fn what_another_provider_gives_by_the_same_mapping_stays() {
    let everywhere = Mapping { provider: None, ..mapping("p", "c") };
    let rules = rules_with(1, |rules| {
        rules.mappings.retain(|it| it.id != everywhere.id);
        rules.mappings.push(everywhere.clone());
    });
    let of_q = Source::Mapped { provider: provider("q"), mapping: everywhere.id };
    let of_q = Grant { source: of_q, ..mapped("p", "c") };
    for (grants, stays) in [(vec![mapped("p", "c"), of_q], true), (vec![mapped("p", "c")], false)] {
        let found = plan(&rules, &holding(&grants), Some(&[]));
        assert_eq!((found.revokes.len(), found.after.holds(&group("C"))), (1, stays));
    }
}

/// A mapping that gives something else now keeps what it still gives.
#[test]
fn a_mapping_that_was_edited_takes_only_what_it_gives_no_more() {
    let rules = rules();
    let formerly = Grant { target: group("D"), ..mapped("p", "c") };
    let found = plan(&rules, &holding(&[mapped("p", "c"), formerly]), Some(&["c"]));
    assert_eq!((found.keeps.len(), found.revokes.len()), (1, 1));
    assert!(found.after.holds(&group("C")) && !found.after.holds(&group("D")));
}

/// A group is kept with the role that it carries.
#[test]
fn the_last_holder_of_a_role_keeps_what_carries_it() {
    let rules = rules_with(1, |rules| {
        let mapping = Mapping { then: Then::Give(role("admin")), ..mapping("p", "e") };
        rules.mappings.push(mapping);
    });
    let of_role = Grant {
        source: Source::Mapped { provider: provider("p"), mapping: mapping("p", "e").id },
        target: role("admin"),
    };
    let snapshot = holding(&[mapped("p", "a"), mapped("p", "c"), of_role]);
    let mut found = plan(&rules, &snapshot, Some(&[]));
    assert_eq!(found.protected_losses(&rules), [role("admin")]);
    found.guard(&[role("admin")], &snapshot, &rules);
    let guarded: Vec<Target> = found.guarded.iter().map(|change| change.target.clone()).collect();
    assert_eq!(guarded, [group("A"), role("admin")]);
    assert_eq!(found.revokes.len(), 1);
}

// ---------------------------------------------------------------------------------------------------------------- gates

fn gate(name: &str, of: Option<&str>, rule: GateRule) -> Gate {
    Gate { name: name.into(), provider: of.map(provider), rule, message: format!("{name} refuses") }
}

fn default_of_d() -> Mapping {
    let claim = ClaimName::parse("groups").unwrap();
    Mapping { id: Mapping::id_of_name("default"), when: When::Unmatched { claim }, ..mapping("p", "d") }
}

/// A gate that asks for mappings opens by one that holds; by an undecided one, to those who hold something through it.
#[test]
fn a_gate_opens_by_what_holds() {
    let any = || gate("any", None, GateRule::RequireAny);
    let of_c = |of| gate("c", of, GateRule::Require(vec![mapping("p", "c").id]));
    let c_or_d = || gate("c or d", None, GateRule::Require(vec![mapping("p", "c").id, mapping("p", "d").id]));
    let (nothing, with_c) = (|| holding(&[]), || holding(&[mapped("p", "c")]));
    // The name of the gate that refuses, and whether it could not be decided.
    type Row = (&'static str, Vec<Gate>, Snapshot, Option<&'static [&'static str]>, Option<(&'static str, bool)>);
    let rows: Vec<Row> = vec![
        ("no gate", vec![], nothing(), Some(&[]), None),
        ("something is asked for, and comes", vec![any()], nothing(), Some(&["d"]), None),
        ("something is asked for", vec![any()], nothing(), Some(&[]), Some(("any", false))),
        ("a default is not something", vec![any()], nothing(), Some(&["x"]), Some(("any", false))),
        ("what was held before is not something", vec![any()], with_c(), Some(&[]), Some(("any", false))),
        ("one is asked for, and comes", vec![of_c(None)], nothing(), Some(&["c"]), None),
        ("one is asked for, another comes", vec![of_c(None)], nothing(), Some(&["d"]), Some(("c", false))),
        ("one of two comes", vec![c_or_d()], nothing(), Some(&["d"]), None),
        ("of this provider", vec![of_c(Some("p"))], nothing(), Some(&["d"]), Some(("c", false))),
        ("of another provider", vec![of_c(Some("q"))], nothing(), Some(&["d"]), None),
        ("the first that refuses", vec![any(), of_c(None), c_or_d()], nothing(), Some(&["b"]), Some(("c", false))),
        ("undecided, and held", vec![of_c(None)], with_c(), None, None),
        ("undecided, and held by hand", vec![of_c(None)], holding(&[by_hand(group("C"))]), None, Some(("c", false))),
        ("undecided, and another is held", vec![of_c(None)], holding(&[mapped("p", "d")]), None, Some(("c", false))),
        (
            "undecided, and one of two is held",
            vec![of_c(None), any()],
            holding(&[mapped("p", "d")]),
            None,
            Some(("c", false)),
        ),
    ];
    for (what, gates, snapshot, values, expected) in rows {
        let mut rules = rules_with(1, |rules| {
            rules.gates = gates.clone();
            rules.mappings.push(default_of_d());
        });
        let refused = |rules: &RuleSet| match plan(rules, &snapshot, values).refused {
            Some(Refused::Gate { name, message, undecided }) => {
                assert_eq!(message, format!("{name} refuses"));
                Some((name.to_string(), undecided))
            }
            None => None,
            other => panic!("{other:?}"),
        };
        assert_eq!(refused(&rules), expected.map(|(name, undecided)| (name.to_owned(), undecided)), "{what}");
        // Rules that only watch keep no one out.
        rules.sync.mode = Mode::Shadow;
        assert_eq!(refused(&rules), None, "{what}");
    }
}

/// A mapping on which another sidecar's file decides opens a gate to those who hold something through it.
#[test]
fn a_gate_opens_by_what_another_file_gives() {
    let other = Announced::of(&rules()).text;
    let with = |change: fn(&mut Rules)| {
        rules_with(1, |rules| {
            rules.gates.push(gate("c", None, GateRule::Require(vec![mapping("p", "c").id])));
            rules.elsewhere = Arc::new(Elsewhere::default().with(&other).unwrap());
            change(rules);
        })
    };
    let lacking = with(|rules| rules.mappings.retain(|it| it.id != mapping("p", "c").id));
    for (what, rules, grants, opens) in [
        ("held through it", &lacking, vec![mapped("p", "c")], true),
        ("not held", &lacking, vec![], false),
        ("this file decides on it", &with(|_| {}), vec![mapped("p", "c")], false),
    ] {
        let found = plan(rules, &holding(&grants), Some(&[]));
        assert_eq!(found.refused.is_none(), opens, "{what}");
        assert_eq!(found.undecided.len(), usize::from(opens), "{what}");
    }
}
