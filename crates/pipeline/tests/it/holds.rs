//! Who is held back from losing something, or from being disabled: by the brake, and as the last holder; and what operators do
//! with that.

use std::sync::Arc;

use loginsync_pipeline::decision::{self, About, Act, Applied, Changes, Held, Settled};
use loginsync_pipeline::ids::Timestamp;
use loginsync_pipeline::mapping::action::{Actions, Then};
use loginsync_pipeline::mapping::{Group, Mapping, RuleSet, Rules};
use loginsync_pipeline::plan::Spared;
use loginsync_pipeline::record::{Bound, Disabled, Record, Stopped};

use crate::world::{NOW, World, case, group, group_name, mapping, provider, role, rules, rules_with, user};

/// Value `leaver` disables.
fn leavers() -> Mapping {
    Mapping {
        id: Mapping::id_of_name("leavers"),
        name: Some(Arc::from("leavers")),
        then: Then::Actions(Box::new(Actions { disables: true, ..Actions::default() })),
        ..mapping("p", "leaver")
    }
}

/// Whether an administrator wrote that mapping.
fn disabling(by_admin: bool) -> RuleSet {
    disabling_with(by_admin, |_| {})
}

fn disabling_with(by_admin: bool, change: impl FnOnce(&mut Rules)) -> RuleSet {
    rules_with(1, |rules| {
        rules.mappings.push(leavers());
        if !by_admin {
            rules.overlay.lesser.insert(leavers().id);
        }
        change(rules);
    })
}

fn by_leavers(at: Timestamp) -> Option<Disabled> {
    Some(Disabled { at, by: Some((leavers().id, "leavers".into())) })
}

fn stopped(at: i64) -> Stopped {
    let provider = Some(provider("p"));
    Stopped { mapping: leavers().id, label: "leavers".into(), provider, at: Timestamp(NOW.0 + at) }
}

/// So many users with some values.
fn logged_in(rules: &RuleSet, people: u8, values: &[&'static str]) -> World {
    let mut world = World::default();
    for number in 1..=people {
        world.plan(rules, &case(number, values, &format!("in{number}"), 0));
    }
    world
}

fn leave(world: &mut World, rules: &RuleSet, who: u8, after: i64) -> Applied {
    world.log_in(rules, &case(who, &["leaver"], &format!("out{who}at{after}"), after))
}

#[test]
fn a_mapping_disables_whom_it_holds_for() {
    let rules = disabling(true);
    let mut world = logged_in(&rules, 1, &["c"]);
    for who in [1, 2] {
        assert!(matches!(leave(&mut world, &rules, who, 5), Applied::Disabled));
        let record = &world.records[&user(who)];
        assert_eq!((&record.disabled, &record.stopped), (&by_leavers(Timestamp(NOW.0 + 5)), &None));
        let known = who == 1;
        assert_eq!(
            (record.holdings.len(), record.logins.len()),
            (usize::from(known), usize::from(known)),
            "it decides on nothing else"
        );
        let row = world.audit.last().unwrap();
        assert!(
            row.detail.contains(r#""outcome":"disabled","reason":"mapping `leavers` disables the user""#),
            "{row:?}"
        );
        assert_eq!(row.about, decision::About::Number);
    }
    // They stay disabled, by a mapping that does not hold any more too.
    assert!(matches!(world.log_in(&rules, &case(1, &["c"], "again", 6)), Applied::Disabled));
    assert!(world.audit.last().unwrap().detail.contains(r#""reason":"the user is disabled""#));
}

/// A mapping that no administrator wrote spares who holds something privileged, and the last holder of something protected.
#[test]
fn a_mapping_of_lesser_clients_spares_those_who_guard() {
    let privileged =
        |rules: &mut Rules| drop(rules.groups.insert(group_name("C"), Group { privileged: true, ..Group::default() }));
    let none = |_: &mut Rules| {};
    type Change = fn(&mut Rules);
    type Before = fn(&mut World, &RuleSet);
    let other_has_b: Before = |world, rules| drop(world.plan(rules, &case(2, &["b"], "b2", 0)));
    let disabled_one: Before = |world, rules| {
        world.plan(rules, &case(2, &["b"], "b2", 0));
        assert!(world.act(&user(2), &Act::Disable, NOW));
    };
    let nothing: Before = |_, _| {};
    let (privileged, none): (Change, Change) = (privileged, none);
    type Values = &'static [&'static str];
    type Row = (&'static str, bool, Change, Values, Before, Values, Option<Spared>);
    let rows: Vec<Row> = vec![
        ("holds nothing", false, none, &["c"], nothing, &["leaver"], None),
        ("the last holder", false, none, &["b"], nothing, &["leaver"], Some(Spared::LastHolder(group("B")))),
        (
            "the last holder of a role",
            false,
            none,
            &["a"],
            nothing,
            &["leaver"],
            Some(Spared::LastHolder(role("admin"))),
        ),
        ("the last holder, by an administrator", true, none, &["b"], nothing, &["leaver"], None),
        ("another holds it", false, none, &["b"], other_has_b, &["leaver"], None),
        (
            "a disabled one holds it",
            false,
            none,
            &["b"],
            disabled_one,
            &["leaver"],
            Some(Spared::LastHolder(group("B"))),
        ),
        ("privileged", false, privileged, &["c"], nothing, &["leaver"], Some(Spared::Privileged(group("C")))),
        (
            "privileged by this login",
            false,
            privileged,
            &["d"],
            nothing,
            &["leaver", "c"],
            Some(Spared::Privileged(group("C"))),
        ),
        ("privileged, by an administrator", true, privileged, &["c"], nothing, &["leaver"], None),
    ];
    for (what, by_admin, change, before, prepare, values, expected) in rows {
        let rules = disabling_with(by_admin, change);
        let mut world = logged_in(&rules, 1, before);
        prepare(&mut world, &rules);
        match (world.log_in(&rules, &case(1, values, "out", 1)), expected) {
            (Applied::Disabled, None) => {
                assert_eq!(world.records[&user(1)].disabled, by_leavers(Timestamp(NOW.0 + 1)), "{what}")
            }
            (Applied::Committed(plan), Some(why)) => {
                assert_eq!(
                    plan.spared.as_ref().map(|(by, why)| (by.label.as_str(), why)),
                    Some(("leavers", &why)),
                    "{what}"
                );
                assert_eq!(world.records[&user(1)].disabled, None, "{what}");
                assert!(
                    plan.to_string().contains(&format!("! `leavers` would disable the user, and does not: {why}")),
                    "{plan}"
                );
                let told = &world.audit.last().unwrap().detail;
                assert!(told.contains(&format!(r#""spared":{{"mapping":"leavers","why":"{why}"}}"#)), "{told}");
            }
            (other, _) => panic!("{what}: {other:?}"),
        }
    }
    for (why, expected) in [
        (Spared::Privileged(group("C")), "group `C` is privileged, and no administrator wrote this mapping"),
        (
            Spared::LastHolder(group("C")),
            "no other person holds group `C`, which is protected, and no administrator wrote this mapping",
        ),
        (Spared::Braked, "mappings have disabled too many lately"),
    ] {
        assert_eq!(why.to_string(), expected);
    }
}

/// The third of ten is stopped, and so is each one after while an operator has not looked.
#[test]
fn the_brake_stops_mappings_that_disable_too_many() {
    let rules = disabling(true);
    let hour = 3_600_000;
    let mut world = logged_in(&rules, 10, &["c"]);
    let is_stopped = |applied: Applied| match applied {
        Applied::Disabled => false,
        Applied::Committed(plan) => plan.spared.as_ref().is_some_and(|(_, why)| *why == Spared::Braked),
        other => panic!("{other:?}"),
    };
    let outcomes = [1, 2, 3, 4].map(|who| is_stopped(leave(&mut world, &rules, who, 10)));
    assert_eq!(outcomes, [false, false, true, true]);
    assert_eq!(world.records[&user(3)].stopped, Some(stopped(10)));
    // It was first stopped then.
    assert!(is_stopped(leave(&mut world, &rules, 3, 20)));
    assert_eq!(world.records[&user(3)].stopped, Some(stopped(10)));
    assert!(
        is_stopped(leave(&mut world, &rules, 5, 2 * hour)),
        "in the next window too, while one waits for an operator"
    );
    // A first login loses nothing, and neither does a person who has never logged in.
    assert!(!is_stopped(leave(&mut world, &rules, 20, 11)));
    assert!(world.act(&user(21), &Act::Create { email: None, display_name: None, enabled: true }, NOW));
    assert!(!is_stopped(leave(&mut world, &rules, 21, 11)));
    // Who would not be disabled any more waits for no operator; what an older login says is no news.
    world.plan(&rules, &case(3, &["c"], "older", -5));
    assert!(world.records[&user(3)].stopped.is_some());
    world.plan(&rules, &case(3, &["c"], "newer", 2 * hour));
    assert_eq!(world.records[&user(3)].stopped, None);
}

#[test]
fn disablings_of_the_last_window_count() {
    let rules = disabling(true);
    let hour = 3_600_000;
    for (after, is_stopped) in [(hour - 1, true), (hour, false)] {
        let mut world = logged_in(&rules, 10, &["c"]);
        for who in [1, 2] {
            assert!(matches!(leave(&mut world, &rules, who, 0), Applied::Disabled));
        }
        assert_eq!(matches!(leave(&mut world, &rules, 3, after), Applied::Committed(_)), is_stopped, "{after}");
    }
}

fn held(targets: &[&str], disabling: bool) -> Held {
    Held { provider: provider("p"), targets: targets.iter().map(|name| group(name)).collect(), disabling }
}

/// Carries out or forgets what is held of a user.
fn settle(world: &mut World, rules: &RuleSet, who: u8, held: &Held, release: bool, after: i64) -> Changes {
    let kept = world.kept(&user(who), "");
    let now = Timestamp(NOW.0 + after);
    let changes = match release {
        true => world.decide(&kept, |kept, facts| decision::release(kept, held, rules, facts, "test", now)),
        false => decision::discard(&kept, held, "test"),
    };
    world.commit(&kept, changes.clone(), None);
    changes
}

fn judge(world: &mut World, settled: &Settled, after: i64) {
    let save = world.answered(None, |facts| decision::judge(settled, facts, Timestamp(NOW.0 + after))).unwrap();
    world.save(&[], save);
}

#[test]
fn an_operator_settles_a_stopped_disabling() {
    let rules = disabling(true);
    for (release, row) in [
        (true, r#"user_disabled {"by":"test","mapping":"leavers","why":"released"}"#),
        (false, r#"hold_discarded {"by":"test","mapping":"leavers","why":"discarded"}"#),
    ] {
        let mut world = logged_in(&rules, 10, &["c"]);
        [1, 2, 3, 4].into_iter().for_each(|who| drop(leave(&mut world, &rules, who, 10)));
        // Only what is meant.
        settle(&mut world, &rules, 3, &held(&[], false), release, 20);
        assert!(world.records[&user(3)].stopped.is_some());
        let audit = world.audit.len();
        settle(&mut world, &rules, 3, &held(&[], true), release, 20);
        let record = &world.records[&user(3)];
        let disabled = if release { by_leavers(Timestamp(NOW.0 + 20)) } else { None };
        assert_eq!((&record.disabled, &record.stopped), (&disabled, &None));
        assert_eq!(world.told(audit), [row]);
        // Nothing is left to settle.
        settle(&mut world, &rules, 3, &held(&[], true), release, 21);
        assert_eq!(world.audit.len(), audit + 1);
        // Not judged yet, since user 4 waits.
        let disablings = Settled { disablings: true, ..Settled::default() };
        judge(&mut world, &disablings, 30);
        assert!(matches!(leave(&mut world, &rules, 5, 31), Applied::Committed(_)));
        for who in [4, 5] {
            settle(&mut world, &rules, who, &held(&[], true), false, 40);
        }
        judge(&mut world, &Settled::default(), 40);
        assert!(matches!(leave(&mut world, &rules, 6, 41), Applied::Committed(_)), "not settled");
        settle(&mut world, &rules, 6, &held(&[], true), false, 42);
        judge(&mut world, &disablings, 50);
        let outcomes = [6, 7, 8].map(|who| matches!(leave(&mut world, &rules, who, 51), Applied::Disabled));
        assert_eq!(outcomes, [true, true, false], "an operator has judged those before");
    }
}

/// Judged losses begin again, unless something is held yet.
#[test]
fn an_operator_settles_what_was_held_of_a_target() {
    let rules = rules();
    let mut world = logged_in(&rules, 5, &["c"]);
    for who in 1..=3 {
        world.plan(&rules, &case(who, &[], &format!("out{who}"), 1));
    }
    let window = (provider("p"), group("C"));
    let settled = Settled { targets: [window.clone()].into(), ..Settled::default() };
    judge(&mut world, &settled, 2);
    assert!(world.windows.contains_key(&window), "what is held of user 3 waits yet");
    settle(&mut world, &rules, 3, &held(&["C"], false), true, 3);
    judge(&mut world, &Settled::default(), 4);
    assert!(world.windows.contains_key(&window), "another was judged");
    judge(&mut world, &settled, 4);
    assert!(!world.windows.contains_key(&window));
}

/// One who was disabled by hand meanwhile stays so.
#[test]
fn a_released_disabling_leaves_an_operators() {
    let mut world = World::default();
    let record =
        Record { stopped: Some(stopped(0)), disabled: Some(Disabled { at: NOW, by: None }), ..Record::new(NOW) };
    world.records.insert(user(1), record);
    settle(&mut world, &rules(), 1, &held(&[], true), true, 9);
    assert_eq!(world.records[&user(1)], Record { disabled: Some(Disabled { at: NOW, by: None }), ..Record::new(NOW) });
    assert_eq!(world.audit, []);
}

/// Whom a mapping disabled is found by its label, by its number in the store, or by its identity.
#[test]
fn people_are_enabled_by_the_mapping_that_disabled_them() {
    let disabled = |id, label: &str| Some(Disabled { at: NOW, by: Some((id, label.into())) });
    let mut world = World::default();
    for (who, of) in [
        (1, by_leavers(NOW)),
        (2, disabled(Mapping::id_of_number(7), "seventh")),
        (3, Some(Disabled { at: NOW, by: None })),
        (4, None),
    ] {
        world.records.insert(user(who), Record { disabled: of.clone(), ..Record::new(NOW) });
        world.erased.insert(user(who + 10), Bound { disabled: of, ..Bound::default() });
    }
    let id = leavers().id.to_string();
    for (selector, label, enabled) in [
        ("leavers", "leavers", Some(1)),
        (id.as_str(), "leavers", Some(1)),
        ("7", "seventh", Some(2)),
        ("8", "", None),
        ("", "", None),
    ] {
        let meant = decision::Selector::new(selector);
        let kept: Vec<_> = (1..=5).map(|who| world.kept(&user(who), "")).collect();
        let (count, save) = decision::enable(&kept, &meant, "test");
        assert_eq!(count, u64::from(enabled.is_some()), "{selector}");
        let changed: Vec<u8> =
            (1..=5).zip(&save.people).filter(|(_, changes)| changes.record.is_some()).map(|(who, _)| who).collect();
        assert_eq!(changed, enabled.into_iter().collect::<Vec<_>>(), "{selector}");
        let mut after = world.clone();
        after.save(&kept, save);
        let erased = world.answered(None, |facts| decision::erased_by(&meant, facts)).unwrap();
        let (of_erased, save) =
            world.answered(None, |facts| decision::enable_erased(&meant, selector, "test", facts)).unwrap();
        after.save(&[], save);
        assert_eq!((erased.len() as u64, of_erased), (count, count), "{selector}");
        let mut expected = Vec::new();
        if let Some(who) = enabled {
            assert_eq!(after.records[&user(who)], Record::new(NOW));
            assert!(!after.erased.contains_key(&user(who + 10)), "nothing binds them any more");
            expected
                .push(format!(r#"user_enabled {{"by":"test","mapping":"{label}","why":"enabled by its mapping"}}"#));
            let why = "enabled by its mapping; erased since";
            expected.push(format!(r#"user_enabled {{"by":"test","mapping":"{selector}","why":"{why}"}}"#));
        }
        assert_eq!(after.told(0), expected, "{selector}");
        let about: Vec<_> = after.audit.iter().map(|entry| entry.about.clone()).collect();
        let expected = [About::Person { email: None }, About::NoUser];
        assert_eq!(
            about,
            if enabled.is_some() { &expected[..] } else { &[] },
            "the row of an erased person names no one"
        );
    }
}

/// In so many windows a person is remembered; then the oldest is forgotten.
#[test]
fn windows_in_which_a_person_counts_are_bounded() {
    let rules = rules();
    for (before, expected, forgets) in [(254, 255, false), (255, 256, false), (256, 256, true), (300, 256, true)] {
        let mut world = logged_in(&rules, 1, &["c"]);
        let counted = &mut world.records.get_mut(&user(1)).unwrap().counted;
        counted.extend((0..before).map(|at| ((provider("p"), group(&format!("g{at}"))), Timestamp(at))));
        world.plan(&rules, &case(1, &[], "out", 1));
        let counted = &world.records[&user(1)].counted;
        assert_eq!((counted.len(), !counted.contains_key(&(provider("p"), group("g0")))), (expected, forgets));
        assert!(counted.contains_key(&(provider("p"), group("C"))));
    }
}
