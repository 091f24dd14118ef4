//! What is noted of rules for the next ones, and what is left to do or ends later.

use std::sync::Arc;
use std::time::Duration;

use loginsync_pipeline::decision::{self, About, Act, Adopted, Remarks, RulesChange, Work, adopted_targets};
use loginsync_pipeline::ids::{Target, Timestamp};
use loginsync_pipeline::mapping::elsewhere::{Announced, Elsewhere};
use loginsync_pipeline::mapping::stored::Shown;
use loginsync_pipeline::mapping::{Group, Mode, Role, RuleSet, Rules};
use loginsync_pipeline::record::{Bound, Deny, Rest};

use super::{change, edit, give, logged_in};
use crate::world::{NOW, World, group, group_name, mapped, provider, role, role_name, rules, rules_with, user};

/// Where a provider has another lease, it has to be noted again when things end.
#[test]
fn a_changed_lease_is_work() {
    let lease = |hours: u64| Some(Duration::from_secs(hours * 3600));
    let with = |epoch, mode, leases: [Option<Duration>; 2]| {
        rules_with(epoch, |rules| {
            for (name, lease) in ["p", "q"].into_iter().zip(leases) {
                rules.providers.get_mut(name).unwrap().lease = lease;
            }
            rules.sync.mode = mode;
        })
    };
    let (apply, shadow) = (Mode::Apply, Mode::Shadow);
    for (what, mode, leases, changed) in [
        ("the same", apply, [lease(1), lease(2)], vec![]),
        ("another", apply, [lease(1), lease(3)], vec!["q"]),
        ("both", apply, [lease(2), lease(1)], vec!["p", "q"]),
        ("none any more", apply, [lease(1), None], vec![]),
        ("rules that only watch", shadow, [lease(1), lease(3)], vec!["q"]),
    ] {
        let mut world = logged_in(&with(1, apply, [lease(1), lease(2)]), 0, &[]);
        let after = with(2, mode, leases);
        let other = |world: &World, rules: &RuleSet| {
            world.answered(None, |facts| decision::has_other_leases(rules, facts)).unwrap()
        };
        assert_eq!(other(&world, &after), !changed.is_empty(), "{what}");
        world.work.clear();
        world.adopt(change(&after)).unwrap();
        let noted: Vec<String> = world.work.iter().flat_map(|work| &work.leases).map(ToString::to_string).collect();
        let expected = if mode == apply { changed.clone() } else { vec![] };
        assert_eq!(noted, expected, "{what}");
        // Rules that only watch end nothing by a lease, so that the one before stands in the note.
        assert_eq!(other(&world, &after), mode == shadow, "{what}");
    }
}

#[test]
fn the_groups_of_the_last_rules_are_known() {
    let mut world = World::default();
    let known = |world: &World| world.answered(None, adopted_targets).unwrap();
    assert!(known(&world).is_none(), "nothing was adopted");
    world
        .adopt(change(&rules_with(1, |rules| {
            rules.groups.insert(group_name("P"), Group { privileged: true, ..Group::default() });
            rules.roles.insert(role_name("secret"), Role { privileged: true, ..Role::default() });
        })))
        .unwrap();
    let found = known(&world).unwrap();
    assert_eq!(found.roles_of(&group_name("A")), [role_name("admin")]);
    let targets = ["A", "B", "C", "D", "P"].map(group).into_iter().chain(["admin", "secret"].map(role));
    let of =
        |is: &dyn Fn(&Target) -> bool| targets.clone().filter(|it| is(it)).map(|it| it.to_string()).collect::<Vec<_>>();
    assert_eq!(of(&|it| found.declares(it)), ["group `A`", "group `B`", "group `P`", "role `admin`", "role `secret`"]);
    assert_eq!(of(&|it| found.is_protected(it)), ["group `B`", "group `P`", "role `admin`", "role `secret`"]);
    assert_eq!(of(&|it| found.is_privileged(it)), ["group `P`", "role `secret`"]);
    // Notes of earlier versions say neither what was privileged nor what leases were: all that was guarded may have been.
    let text = br#"{"roles_of":{"A":["admin"],"D":["other"]},"groups":["B"],"roles":["admin"]}"#;
    world.notes.insert("adopted".into(), text.to_vec());
    let found = known(&world).unwrap();
    assert_eq!(of(&|it| found.is_privileged(it)), ["group `A`", "group `B`", "role `admin`"]);
    assert!(world.answered(None, |facts| decision::has_other_leases(&rules(), facts)).unwrap());
    world.notes.insert("adopted".into(), b"[]".to_vec());
    let refused = world.answered(None, adopted_targets).unwrap_err().to_string();
    assert!(refused.starts_with("the groups of the last rules: "), "{refused}");
}

// --------------------------------------------------------------------------------------------------------------- denies

/// A deny binds what bears the name of a group that is gone: one of another spelling, or one that is shown under it.
#[test]
fn denies_bind_what_bears_the_name_later() {
    let shown_as = |alias: &str| Shown { alias: Some(Arc::from(alias)), hidden: false };
    let rename = |rules: &mut Rules, to: &str| {
        rules.groups.remove(&group_name("C"));
        rules.groups.insert(group_name(to), Group::default());
    };
    let expose = |rules: &mut Rules, of: &str, alias: &str| {
        rules.groups.remove(&group_name("C"));
        let shown = rules.overlay.exposures.entry(provider("p")).or_default();
        shown.insert(group_name(of), shown_as(alias));
    };
    type Change<'a> = Box<dyn Fn(&mut Rules) + 'a>;
    let rows: Vec<(&str, Target, Change<'_>, Vec<Target>)> = vec![
        (
            "it is still there",
            group("C"),
            Box::new(|rules| drop(rules.groups.insert(group_name("c"), Group::default()))),
            vec![],
        ),
        ("it is spelled otherwise", group("C"), Box::new(|rules| rename(rules, "c")), vec![group("c")]),
        ("another name", group("C"), Box::new(|rules| rename(rules, "cc")), vec![]),
        ("a group is shown under it", group("C"), Box::new(|rules| expose(rules, "D", "c")), vec![group("D")]),
        ("a group is shown under another", group("C"), Box::new(|rules| expose(rules, "D", "x")), vec![]),
        (
            "both",
            group("C"),
            Box::new(|rules| {
                rename(rules, "c");
                expose(rules, "c", "C");
                expose(rules, "B", "C");
            }),
            vec![group("B"), group("c")],
        ),
        ("a role", role("Admin"), Box::new(|_| {}), vec![role("admin")]),
        ("a role of another name", role("Admins"), Box::new(|_| {}), vec![]),
        ("a role of a group's name", role("c"), Box::new(|_| {}), vec![]),
    ];
    for (what, denied, edit, bound) in rows {
        let mut world = logged_in(&rules(), 1, &["c"]);
        let deny = Act::Deny { target: denied.clone(), reason: "x".into(), until: None };
        assert!(world.act(&user(1), &deny, NOW));
        let (audit, after) = (world.audit.len(), rules_with(2, |rules| edit(rules)));
        assert_eq!(decision::denies::bearers(&after, &denied), bound, "{what}");
        let remarks = Remarks::Call { confirmed: true, client: None };
        world.adopt(RulesChange { remarks, ..change(&after) }).unwrap();
        let denies: Vec<Target> = world.records[&user(1)].denies.keys().cloned().collect();
        let mut expected = [vec![denied.clone()], bound.clone()].concat();
        expected.sort_unstable();
        assert_eq!(denies, expected, "{what}");
        let row = |target: &Target| {
            let (kind, of) = (target.kind(), denied.name());
            format!(r#"denies_bound {{"kind":"{kind}","name":"{}","bears_name_of":"{of}","denies":1}}"#, target.name())
        };
        let told: Vec<String> = world.told(audit).into_iter().filter(|row| row.starts_with("denies")).collect();
        assert_eq!(told, bound.iter().map(row).collect::<Vec<_>>(), "{what}");
        let of_denies = world.audit[audit..].iter().filter(|entry| entry.event.starts_with("denies"));
        assert!(of_denies.into_iter().all(|entry| entry.about == About::NoUser), "{what}");
        world.work.clear();
        world.adopt(change(&after)).unwrap();
        assert!(world.work.is_empty(), "{what}: it is bound once");
    }
}

// -------------------------------------------------------------------------------------------------------- what ends later

#[test]
fn mappings_end_on_their_day() {
    let ends = Timestamp(NOW.0 + 1000);
    let with_end = |change: fn(&mut Rules)| {
        rules_with(1, |rules| {
            edit(rules, "c", |it| it.until = Some(ends));
            change(rules);
        })
    };
    let mut elsewhere = with_end(|_| {});
    let other = Announced::of(&rules_with(1, |_| {})).text;
    elsewhere.elsewhere = Arc::new(Elsewhere::default().with(&other).unwrap());
    for (what, rules, after, expired) in [
        ("before", with_end(|_| {}), 999, false),
        ("on time", with_end(|_| {}), 1000, true),
        ("rules that only watch", with_end(|rules| rules.sync.mode = Mode::Shadow), 1000, false),
        ("another sidecar's file gives it longer", elsewhere, 1000, false),
    ] {
        let mut world = logged_in(&rules, 2, &["c", "d"]);
        let ((audit, work), now) = ((world.audit.len(), world.work.len()), Timestamp(NOW.0 + after));
        if matches!(rules.sync.mode, Mode::Shadow) {
            (1..=2).for_each(|who| give(&mut world, who, mapped("p", "c"), "", None));
        }
        let (done, shared) = world.answered(None, |facts| decision::expire(&rules, facts, now)).unwrap();
        world.save_shared(shared);
        let (mappings, grants) = if expired { (1, 2) } else { (0, 0) };
        assert_eq!(done, Adopted { ended_mappings: mappings, ended_grants: grants, privileged_grants: 0 }, "{what}");
        assert_eq!(world.has(1).contains(&mapped("p", "c")), !expired, "{what}");
        assert_eq!(world.work.len() - work, usize::from(expired), "{what}");
        assert_eq!(world.events()[audit..], *if expired { &["mapping_ended"][..] } else { &[] }, "{what}");
    }
}

#[test]
fn denies_of_erased_people_end_unsaid() {
    let (day, mut world) = (Timestamp(NOW.0 + 1000), logged_in(&rules(), 0, &[]));
    let deny = |until| Deny { at: NOW, by: "x".into(), reason: String::new(), until, rest: Rest::new() };
    let bound = |denies: &[(&str, Option<Timestamp>)]| Bound {
        disabled: None,
        denies: denies.iter().map(|(name, until)| (group(name), deny(*until))).collect(),
    };
    world.erased.insert(user(1), bound(&[("A", Some(day)), ("B", None), ("C", Some(Timestamp(day.0 + 1)))]));
    world.erased.insert(user(2), bound(&[("A", Some(day))]));
    world.erased.insert(user(3), bound(&[("A", None)]));
    let audit = world.audit.len();
    let (_, shared) = world.answered(None, |facts| decision::expire(&rules(), facts, day)).unwrap();
    assert_eq!(shared.bound.len(), 2, "of whom nothing has ended is not written");
    world.save_shared(shared);
    let left = |who: u8| world.erased.get(&user(who)).map(|bound| bound.denies.keys().cloned().collect::<Vec<_>>());
    assert_eq!([left(1), left(2), left(3)], [Some(vec![group("B"), group("C")]), None, Some(vec![group("A")])]);
    assert_eq!(world.audit.len(), audit);
}

/// A sweep reads what a change has written down, and nothing else.
#[test]
fn work_that_cannot_be_read_is_refused() {
    for text in ["", "5", r#"{"mappings":["xy"]}"#, r#"{"leases":[""]}"#, r#"{"bound":[[{"group":""},{"group":"a"}]]}"#]
    {
        assert_eq!(Work::read(text), None, "{text}");
    }
    assert_eq!(Work::read("{}"), Some(Work::default()));
    assert!(Work::default().is_empty() && Work::default().text() == "{}");
}
