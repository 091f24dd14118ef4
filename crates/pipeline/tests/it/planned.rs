//! What is planned without a login: from recorded claims, and where leases end; and what is kept of a login for that.

use std::time::Duration;

use loginsync_pipeline::claims::selector::Selector;
use loginsync_pipeline::claims::sources::Source as From;
use loginsync_pipeline::claims::{ClaimRule, WhenMissing};
use loginsync_pipeline::decision::{self, Act, Changes, Ended, Held};
use loginsync_pipeline::ids::{ClaimName, Target, Timestamp};
use loginsync_pipeline::mapping::{Mode, Recording, RuleSet, Rules};
use loginsync_pipeline::plan::Grant;
use loginsync_pipeline::record::{Deny, Disabled, Holding, Read, Record, RecordedClaim, RecordedState, Rest};

use crate::world::{
    Case, LEASE, NOW, World, by_hand, case, group, mapped, mapping, nth, provider, role, rules, rules_with, user,
};

/// Rules whose providers declare the claim that the mappings read.
pub fn declared(change: impl FnOnce(&mut Rules)) -> RuleSet {
    rules_with(1, |rules| {
        for provider in rules.providers.values_mut() {
            provider.claims = vec![claim_rule()];
        }
        change(rules);
    })
}

fn claim_rule() -> ClaimRule {
    let name = ClaimName::parse("groups").unwrap();
    ClaimRule::plain(name, Selector::Name("groups".into()), vec![From::Assertion])
}

fn logged_in(rules: &RuleSet, people: u8, values: &[&'static str]) -> World {
    let mut world = World::default();
    for number in 1..=people {
        world.plan(rules, &case(number, values, &format!("in{number}"), 0));
    }
    world
}

fn replan(world: &mut World, rules: &RuleSet, who: u8, by: Option<&str>) -> bool {
    let kept = world.kept(&user(who), "");
    let (changes, any) = world.decide(&kept, |kept, facts| decision::replan(kept, rules, facts, by, NOW));
    world.commit(&kept, changes, None);
    any
}

fn release(world: &mut World, rules: &RuleSet, who: u8, held: &Held) -> Changes {
    let kept = world.kept(&user(who), "");
    let changes = world.decide(&kept, |kept, facts| decision::release(kept, held, rules, facts, "test", NOW));
    world.commit(&kept, changes.clone(), None);
    changes
}

fn drop_mapping(rules: &mut Rules, owner: &str, value: &str) {
    let id = mapping(owner, value).id;
    rules.mappings.retain(|mapping| mapping.id != id);
}

#[test]
fn recorded_claims_are_planned_by_other_rules() {
    type Change = fn(&mut Rules);
    let rows: Vec<(&str, &[&'static str], Change, Option<&str>)> = vec![
        ("the same rules", &["c"], |_| {}, None),
        (
            "a mapping less",
            &["c", "d"],
            |rules| drop_mapping(rules, "p", "c"),
            Some(r#""added":[],"removed":["group `C`"],"held":[]"#),
        ),
        (
            "a mapping more",
            &["c", "x"],
            |rules| rules.mappings.push(mapping("p", "x")),
            Some(r#""added":["group `X`"],"removed":[],"held":[]"#),
        ),
        ("the last holder", &["b"], |rules| drop_mapping(rules, "p", "b"), None),
        (
            "rules that only watch",
            &["c"],
            |rules| {
                drop_mapping(rules, "p", "c");
                rules.sync.mode = Mode::Shadow;
            },
            None,
        ),
        (
            "the claim is read otherwise now",
            &["c", "x"],
            |rules| {
                rules.mappings.push(mapping("p", "x"));
                rules.providers.get_mut("p").unwrap().claims[0].from = vec![From::Userinfo];
            },
            None,
        ),
    ];
    for (what, values, change, expected) in rows {
        for (by, said) in [(None, r#""why":"rules","by":"""#), (Some("alice"), r#""why":"asked","by":"alice""#)] {
            let mut world = logged_in(&declared(|_| {}), 1, values);
            let (before, audit) = (world.has(1), world.audit.len());
            assert_eq!(replan(&mut world, &declared(change), 1, by), expected.is_some(), "{what}");
            let row = expected.map(|changed| format!(r#"replanned {{"provider":"p",{said},{changed}}}"#));
            assert_eq!(world.told(audit), Vec::from_iter(row), "{what}");
            assert_eq!(world.has(1) == before, expected.is_none(), "{what}");
        }
    }
    // No such user, and none whose claims are recorded.
    let mut world = World::default();
    assert!(!replan(&mut world, &declared(|_| {}), 1, None));
    assert!(world.act(&user(1), &Act::Assign(group("C")), NOW));
    assert!(!replan(&mut world, &declared(|_| {}), 1, None));
}

/// Every provider's claims are planned, and any change counts.
#[test]
fn all_recorded_claims_of_a_user_are_planned() {
    for owner in ["p", "q"] {
        let mut world = logged_in(&declared(|_| {}), 1, &["c"]);
        world.plan(&declared(|_| {}), &Case { provider: "q", ..case(1, &["c"], "q1", 0) });
        assert!(replan(&mut world, &declared(|rules| drop_mapping(rules, owner, "c")), 1, None), "{owner}");
        let other = if owner == "p" { "q" } else { "p" };
        assert_eq!(world.has(1), [mapped(other, "c")]);
    }
}

/// Five have C, and two may lose it. The third is held, which is told once.
#[test]
fn the_brake_watches_plans_from_recorded_claims() {
    let mut world = logged_in(&declared(|_| {}), 5, &["c"]);
    let after = declared(|rules| drop_mapping(rules, "p", "c"));
    let audit = world.audit.len();
    let changed = [1, 2, 3, 3].map(|who| replan(&mut world, &after, who, None));
    assert_eq!(changed, [true, true, true, false]);
    let told = world.told(audit);
    let of = |removed: &str, held: &str| {
        format!(
            r#"replanned {{"provider":"p","why":"rules","by":"","added":[],"removed":[{removed}],"held":[{held}]}}"#
        )
    };
    let c = r#""group `C`""#;
    assert_eq!(told, [of(c, ""), of(c, ""), of("", c)]);
    let window = world.windows[&(provider("p"), group("C"))];
    assert_eq!((window.losses, window.members), (2, 5));
    assert_eq!(world.records[&user(2)].counted.len(), 1);
    assert_eq!(world.records[&user(3)].counted.len(), 0, "who lost nothing is not counted");
}

fn held_of(world: &mut World, who: u8, grants: &[Grant]) {
    for grant in grants {
        let holding = Holding { held_at: Some(NOW), ..Holding::mapped(NOW) };
        world.records.get_mut(&user(who)).unwrap().holdings.insert(grant.clone(), holding);
    }
}

/// What an operator releases is planned again without the brake; without recorded claims, what was held goes.
#[test]
fn what_the_brake_held_goes_when_it_is_released() {
    let meant = Held { provider: provider("p"), targets: vec![group("C")], disabling: false };
    let all = [mapped("p", "c"), mapped("p", "d"), mapped("q", "c")];
    let row = |why| format!(r#"replanned {{"provider":"p","why":"released","by":"test",{why}}}"#);
    for (what, recorded, values, left, told) in [
        (
            "claims without it",
            true,
            &["d"][..],
            &all[1..],
            vec![row(r#""added":[],"removed":["group `C`"],"held":[]"#)],
        ),
        ("claims that bring it again", true, &["c", "d"], &all[..], vec![]),
        ("no recorded claims", false, &["d"], &all[1..], vec![row(r#""added":[],"removed":["group `C`"],"held":[]"#)]),
    ] {
        let rules = declared(|rules| {
            if !recorded {
                rules.sync.record_claims = Recording::None;
            }
        });
        let mut world = logged_in(&rules, 1, values);
        held_of(&mut world, 1, &all);
        let audit = world.audit.len();
        release(&mut world, &rules, 1, &meant);
        let mut left = left.to_vec();
        left.sort_unstable();
        assert_eq!(world.has(1), left, "{what}");
        assert_eq!(world.told(audit), told, "{what}");
    }
    // Without recorded claims, what is not held stays.
    let rules = declared(|rules| rules.sync.record_claims = Recording::None);
    let mut world = logged_in(&rules, 1, &["c"]);
    release(&mut world, &rules, 1, &meant);
    assert_eq!(world.has(1), [mapped("p", "c")]);
    // Of someone else's hold nothing is meant, and where no target is, nothing is planned.
    let none = Held { targets: vec![], ..meant };
    let audit = world.audit.len();
    release(&mut world, &declared(|rules| drop_mapping(rules, "p", "c")), 1, &none);
    assert_eq!((world.has(1), world.audit.len()), (vec![mapped("p", "c")], audit));
    assert!(release(&mut World::default(), &rules, 9, &none).record.is_none());
    // A last holder keeps what is protected.
    let mut world = logged_in(&declared(|_| {}), 1, &["b"]);
    let meant = Held { targets: vec![group("B")], ..none };
    release(&mut world, &declared(|rules| drop_mapping(rules, "p", "b")), 1, &meant);
    assert_eq!(world.has(1), [mapped("p", "b")]);
}

#[test]
fn a_discarded_hold_is_forgotten() {
    let rules = declared(|_| {});
    let mut world = logged_in(&rules, 1, &["c", "d"]);
    held_of(&mut world, 1, &[mapped("p", "c"), mapped("p", "d"), mapped("q", "c")]);
    let meant = Held { provider: provider("p"), targets: vec![group("C")], disabling: false };
    let (kept, audit) = (world.kept(&user(1), ""), world.audit.len());
    world.commit(&kept, decision::discard(&kept, &meant, "test"), None);
    let held = |grant| world.records[&user(1)].holdings[&grant].held_at.is_some();
    assert_eq!([mapped("p", "c"), mapped("p", "d"), mapped("q", "c")].map(held), [false, true, true]);
    let row =
        r#"hold_discarded {"provider":"p","why":"discarded","by":"test","added":[],"removed":[],"held":["group `C`"]}"#;
    assert_eq!(world.told(audit), [row]);
    assert!(decision::discard(&world.kept(&user(9), ""), &meant, "test").record.is_none());
}

/// A file by whose rules everybody was planned is known by its digest.
#[test]
fn rules_are_planned_once() {
    let mut world = World::default();
    let is_planned = |world: &World, digest| world.answered(None, |facts| decision::is_planned(digest, facts)).unwrap();
    assert!(!is_planned(&world, [1; 32]));
    world.save_shared(decision::planned([1; 32]));
    assert_eq!((is_planned(&world, [1; 32]), is_planned(&world, [2; 32])), (true, false));
}

#[test]
fn claims_are_recorded_as_far_as_rules_ask() {
    let unnamed = |rules: &mut Rules| {
        ["p", "q"]
            .iter()
            .for_each(|owner| ["a", "b", "c", "d"].iter().for_each(|value| drop_mapping(rules, owner, value)))
    };
    for (what, recording, named, expected) in [
        ("named by a mapping", Recording::Mapped, true, Some(1)),
        ("named by none", Recording::Mapped, false, Some(0)),
        ("all that are declared", Recording::Declared, false, Some(1)),
        ("none", Recording::None, true, None),
    ] {
        let rules = declared(|rules| {
            rules.sync.record_claims = recording;
            if !named {
                unnamed(rules);
            }
        });
        let mut world = logged_in(&declared(|_| {}), 1, &["c"]);
        assert!(world.records[&user(1)].claims.contains_key(&provider("p")));
        world.plan(&rules, &case(1, &["c"], "next", 1));
        let claims = world.records[&user(1)].claims.get(&provider("p"));
        assert_eq!(claims.map(Vec::len), expected, "{what}");
        for claim in claims.into_iter().flatten() {
            let expected = RecordedClaim {
                name: "groups".into(),
                read: Read::By(claim_rule().reading()),
                state: RecordedState::Values,
                values: vec!["c".into()],
            };
            assert_eq!(*claim, expected, "{what}");
        }
    }
}

/// What was recorded is as decided as it was when the login brought it.
#[test]
fn recorded_claims_say_what_the_login_said() {
    let claim = |state, values: &[&str]| RecordedClaim {
        name: "groups".into(),
        read: Read::By(claim_rule().reading()),
        state,
        values: values.iter().map(|value| (*value).to_owned()).collect(),
    };
    let before =
        RecordedClaim { read: Read::Before(claim_rule().reading_before()), ..claim(RecordedState::Empty, &[]) };
    let otherwise = RecordedClaim { read: Read::Before(claim_rule().reading()), ..claim(RecordedState::Empty, &[]) };
    let (keep, clear) = (WhenMissing::Keep, WhenMissing::Clear);
    for (what, recorded, when_missing, decided) in [
        ("values", Some(claim(RecordedState::Values, &["c"])), clear, true),
        ("none", Some(claim(RecordedState::Empty, &[])), keep, true),
        ("missing", Some(claim(RecordedState::Missing, &[])), clear, true),
        ("missing, where that keeps", Some(claim(RecordedState::Missing, &[])), keep, false),
        ("undecided", Some(claim(RecordedState::Undecided, &[])), clear, false),
        ("read in the words of earlier versions", Some(before), clear, true),
        ("read otherwise", Some(otherwise), clear, false),
        (
            "another claim",
            Some(RecordedClaim { name: "other".into(), ..claim(RecordedState::Empty, &[]) }),
            clear,
            false,
        ),
        ("nothing", None, clear, false),
    ] {
        let rules = declared(|rules| rules.providers.get_mut("p").unwrap().claims[0].when_missing = when_missing);
        let claims = decision::recorded::read(recorded.as_slice(), &user(1), &provider("p"), &rules);
        assert_eq!(claims.claims.iter().map(|claim| claim.decided).collect::<Vec<_>>(), [decided], "{what}");
        let mut world = logged_in(&declared(|_| {}), 1, &["d"]);
        world.records.get_mut(&user(1)).unwrap().claims.insert(provider("p"), Vec::from_iter(recorded.clone()));
        replan(&mut world, &rules, 1, None);
        let brings_c = what == "values";
        let left = if brings_c {
            vec![mapped("p", "c")]
        } else if decided {
            vec![]
        } else {
            vec![mapped("p", "d")]
        };
        assert_eq!(world.has(1), left, "{what}");
    }
}

// --------------------------------------------------------------------------------------------------------------- leases

#[test]
fn leases_and_denies_end_on_time() {
    let week = i64::try_from(LEASE.as_millis()).unwrap();
    let deny = |name: &str, until: i64| {
        let until = Some(Timestamp(NOW.0 + until));
        (group(name), Deny { at: NOW, by: "x".into(), reason: String::new(), until, rest: Rest::new() })
    };
    let ended = |leases, denies| Ended { leases, denies };
    for (after, expected, due) in [
        (99, ended(0, 0), Some(100)),
        (100, ended(0, 1), Some(200)),
        (week - 1, ended(0, 2), Some(week)),
        (week, ended(2, 2), None),
    ] {
        let mut world = logged_in(&rules(), 1, &["c", "d"]);
        world.records.get_mut(&user(1)).unwrap().denies.extend([deny("A", 100), deny("B", 200)]);
        let audit = world.audit.len();
        assert_eq!(world.lapse(&user(1), &rules(), Timestamp(NOW.0 + after)), expected, "{after}");
        assert_eq!(world.records[&user(1)].due.map(|due| due.0 - NOW.0), due, "{after}");
        let lease = (expected.leases > 0)
            .then(|| r#"lease_ended {"provider":"p","ended":["group `C`","group `D`"]}"#.to_owned());
        let denies = ["A", "B"].map(|name| format!(r#"deny_ended {{"kind":"group","name":"{name}"}}"#));
        let told: Vec<String> =
            lease.into_iter().chain(denies.into_iter().take(usize::try_from(expected.denies).unwrap())).collect();
        assert_eq!(world.told(audit), told, "{after}");
    }
    // Rules that only watch end no lease.
    let mut world = logged_in(&rules(), 1, &["c"]);
    let shadow = rules_with(1, |rules| rules.sync.mode = Mode::Shadow);
    assert_eq!(world.lapse(&user(1), &shadow, NOW.plus(LEASE)), ended(0, 0));
    // Who changes in nothing is not written; and who is not there does not either.
    let kept = world.kept(&user(1), "");
    let (_, changes) = world.decide(&kept, |kept, facts| decision::reap(kept, &rules(), facts, NOW));
    assert!(changes.record.is_none() && changes.audit.is_empty());
    assert_eq!(World::default().lapse(&user(1), &rules(), NOW), ended(0, 0));
}

#[test]
fn a_shorter_lease_ends_earlier() {
    let with_lease = |hours: u64| {
        rules_with(1, |rules| rules.providers.get_mut("p").unwrap().lease = Some(Duration::from_secs(hours * 3600)))
    };
    let mut world = logged_in(&with_lease(2), 1, &["c"]);
    let hour = 3_600_000;
    for (lease, due) in [(2, None), (1, Some(hour)), (3, None)] {
        let changes = decision::renew(&world.kept(&user(1), ""), &with_lease(lease));
        assert_eq!(changes.record.as_ref().map(|record| record.due.unwrap().0 - NOW.0), due, "{lease}");
        assert_eq!(changes.audit, []);
    }
    world.records.clear();
    assert!(decision::renew(&world.kept(&user(1), ""), &with_lease(1)).record.is_none());
}

/// A disabled person holds nothing that anyone could miss, and a group goes with the last role that it carries.
#[test]
fn who_guards_keeps_a_lease() {
    let later = NOW.plus(LEASE);
    let by_hand_of_admin = |world: &mut World, rules: &RuleSet| {
        world.plan(rules, &case(2, &["c"], "2", 0));
        assert!(world.act(&user(2), &Act::Assign(role("admin")), NOW));
    };
    type Before = fn(&mut World, &RuleSet);
    let rows: Vec<(&str, &[&'static str], Before, usize)> = vec![
        ("the last holder of a group", &["b", "c"], |_, _| {}, 1),
        ("the last holder of a role", &["a", "c"], |_, _| {}, 1),
        ("another has the role by hand", &["a", "c"], by_hand_of_admin, 0),
        ("disabled", &["b", "c"], |world, _| assert!(world.act(&user(1), &Act::Disable, NOW)), 0),
        (
            "denied anyway",
            &["b", "c"],
            |world, _| {
                let deny = Act::Deny { target: group("B"), reason: "x".into(), until: None };
                assert!(world.act(&user(1), &deny, NOW));
            },
            0,
        ),
        ("has it by hand too", &["b", "c"], |world, _| assert!(world.act(&user(1), &Act::Assign(group("B")), NOW)), 1),
    ];
    for (what, values, before, left) in rows {
        let mut world = logged_in(&rules(), 1, values);
        before(&mut world, &rules());
        world.lapse(&user(1), &rules(), later);
        assert_eq!(world.has(1).len(), left, "{what}: {:?}", world.has(1));
    }
}

/// Others are looked for page by page: a few first, then many.
#[test]
fn another_holder_is_found_wherever_they_are() {
    let rules = rules();
    let disabled = |world: &mut World, who: u32| {
        let mut record = Record::new(NOW);
        record.holdings.insert(by_hand(group("B")), Holding::mapped(NOW));
        record.disabled = Some(Disabled { at: NOW, by: None });
        world.records.insert(nth(who), record);
    };
    for (others, enabled, may_go) in [
        (3, None, false),
        (4, None, false),
        (5, None, false),
        (5, Some(5), true),
        (300, None, false),
        (300, Some(4), true),
        (300, Some(260), true),
        (300, Some(300), true),
        (600, Some(600), true),
        (256, None, false),
        (260, None, false),
    ] {
        let mut world = logged_in(&rules, 1, &["b"]);
        // Numbers begin behind the user's own.
        (2..others + 2).for_each(|who| disabled(&mut world, who));
        if let Some(enabled) = enabled {
            world.records.get_mut(&nth(enabled + 1)).unwrap().disabled = None;
        }
        let plan = world.plan(&rules, &case(1, &[], "out", 1));
        assert_eq!(
            (plan.revokes.len(), plan.guarded.len()),
            if may_go { (1, 0) } else { (0, 1) },
            "{others} {enabled:?}"
        );
    }
}

/// Another counts as a holder while their grant stands: its mapping gives it, and no deny undoes it.
#[test]
fn another_holder_has_to_hold_it() {
    type Before = fn(&mut World);
    type Change = fn(&mut Rules);
    let rows: Vec<(&str, &'static str, Before, Change, bool)> = vec![
        ("has it", "b", |_| {}, |_| {}, true),
        ("is denied it", "b", |world| denied(world, group("B")), |_| {}, false),
        ("is denied the role", "a", |world| denied(world, role("admin")), |_| {}, false),
        ("is denied another", "b", |world| denied(world, group("C")), |_| {}, true),
        ("the mapping gives it no more", "b", |_| {}, |rules| drop_mapping(rules, "q", "b"), false),
    ];
    for (what, value, before, change, may_go) in rows {
        let mut world = World::default();
        world.plan(&rules(), &case(1, &[value], "1", 0));
        world.plan(&rules(), &Case { provider: "q", ..case(2, &[value], "2", 0) });
        before(&mut world);
        let after = rules_with(1, change);
        let plan = world.plan(&after, &case(1, &[], "out", 1));
        assert_eq!(plan.guarded.is_empty(), may_go, "{what}");
    }
}

#[test]
fn another_holder_counts_until_their_lease_is_over() {
    let lease = i64::try_from(LEASE.as_millis()).unwrap();
    for (after, may_go) in [(lease - 1, true), (lease, false)] {
        let (mut world, rules) = (World::default(), rules());
        world.plan(&rules, &case(1, &["b"], "1", 1));
        world.plan(&rules, &Case { provider: "q", ..case(2, &["b"], "2", 0) });
        let plan = world.plan(&rules, &case(1, &[], "out", after));
        assert_eq!(plan.guarded.is_empty(), may_go, "{after}");
    }
}

fn denied(world: &mut World, target: Target) {
    assert!(world.act(&user(2), &Act::Deny { target, reason: "x".into(), until: None }, NOW));
}
