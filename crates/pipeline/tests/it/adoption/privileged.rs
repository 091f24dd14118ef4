//! What ends where a group or role becomes privileged.

use loginsync_pipeline::decision::{self, About, Adopted, Excess, Unvouched};
use loginsync_pipeline::mapping::{Group, Mapping, Mode, Role, RuleSet, Rules};
use loginsync_pipeline::plan::{Grant, Source};

use super::{change, give, logged_in};
use crate::world::{
    World, by_hand, group, group_name, mapped, mapping, provider, role, role_name, rules, rules_with, user,
};

/// A mapping of the store that gives D now, and gave C before.
fn formerly_c() -> Mapping {
    Mapping { id: Mapping::id_of_number(7), ..mapping("p", "d") }
}

/// C is privileged, and one mapping to it is of the store.
fn privileged(rules: &mut Rules, of_store: &Mapping) {
    rules.groups.insert(group_name("C"), Group { privileged: true, ..Group::default() });
    of_the_store(rules, of_store);
}

fn of_the_store(rules: &mut Rules, mapping: &Mapping) {
    rules.mappings.push(mapping.clone());
    rules.overlay.numbers.insert(mapping.id, 7);
}

/// A user for each way to have C: by hand of a lesser client, of an unknown one, of an administrator; by the file and by the store.
fn with_all_kinds(world: &mut World, of_store: &Mapping) {
    for (who, grant, by, as_admin) in [
        (1, by_hand(group("C")), "client", Some(false)),
        (2, by_hand(group("C")), "old", None),
        (3, by_hand(group("C")), "root", Some(true)),
        (4, mapped("p", "c"), "", None),
        (
            5,
            Grant { source: Source::Mapped { provider: provider("p"), mapping: of_store.id }, ..mapped("p", "c") },
            "",
            None,
        ),
        (6, by_hand(group("D")), "client", Some(false)),
    ] {
        give(world, who, grant, by, as_admin);
    }
}

fn holders(world: &World) -> Vec<u8> {
    (1..=6).filter(|who| !world.has(*who).is_empty()).collect()
}

#[test]
fn what_no_administrator_vouches_for_ends_where_a_target_becomes_privileged() {
    let of_store = formerly_c();
    let before = rules_with(1, |rules| of_the_store(rules, &of_store));
    let after = |epoch, mode| {
        rules_with(epoch, |rules| {
            privileged(rules, &of_store);
            rules.sync.mode = mode;
        })
    };
    let (apply, shadow) = (Mode::Apply, Mode::Shadow);
    // The rules that were adopted before, and whom the privileged ones leave.
    let rows: Vec<(&str, Vec<RuleSet>, Unvouched, Vec<u8>)> = vec![
        ("it becomes so", vec![rules_with(1, |rules| of_the_store(rules, &of_store))], counted(2, 1, 0), vec![3, 4, 6]),
        ("nothing was noted before", vec![], counted(1, 1, 1), vec![2, 3, 4, 6]),
        ("it was so before", vec![after(1, apply)], counted(1, 1, 1), vec![2, 3, 4, 6]),
        (
            "it became so under rules that only watch",
            vec![rules_with(1, |rules| of_the_store(rules, &of_store)), after(2, shadow)],
            counted(2, 1, 0),
            vec![3, 4, 6],
        ),
        ("the first rules only watched", vec![after(1, shadow)], counted(1, 1, 1), vec![2, 3, 4, 6]),
        (
            "it was so, and ceased to be under rules that only watch",
            vec![
                after(1, apply),
                rules_with(2, |rules| {
                    of_the_store(rules, &of_store);
                    rules.sync.mode = shadow;
                }),
            ],
            counted(2, 1, 0),
            vec![3, 4, 6],
        ),
    ];
    for (what, earlier, unvouched, left) in rows {
        let mut world = World::default();
        for rules in &earlier {
            world.adopt(change(rules)).unwrap();
        }
        with_all_kinds(&mut world, &of_store);
        let (after, audit) = (after(3, apply), world.audit.len());
        let found = world.answered(None, |facts| decision::unvouched(&after, facts)).unwrap();
        assert_eq!(found, [unvouched], "{what}");
        let done = world.adopt(change(&after)).unwrap();
        assert_eq!(holders(&world), left, "{what}");
        assert_eq!(done.privileged_grants, 6 - left.len() as u64, "{what}");
        let ended = world.events()[audit..].iter().filter(|event| **event == "privileged_grant_ended").count();
        assert_eq!(ended, 6 - left.len(), "{what}");
    }
    // A row of the audit for each says who gave it.
    let mut world = World::default();
    world.adopt(change(&before)).unwrap();
    with_all_kinds(&mut world, &of_store);
    world.adopt(change(&after(2, apply))).unwrap();
    let why =
        r#""kind":"group","name":"C","why":"it became privileged, and this grant was not made with scope `admin`""#;
    let given = [r#""assigned_by":"client""#, r#""assigned_by":"old""#, r#""provider":"p""#];
    assert_eq!(world.told(0), given.map(|given| format!("privileged_grant_ended {{{why},{given}}}")));
    let about = [1, 2, 5].map(|who| About::Other { number: who + 1, user: user(u8::try_from(who).unwrap()) });
    assert_eq!(world.audit.iter().map(|entry| entry.about.clone()).collect::<Vec<_>>(), about);
    // Rules that only watch tell what would end, and end nothing.
    let mut world = World::default();
    world.adopt(change(&before)).unwrap();
    with_all_kinds(&mut world, &of_store);
    let watching = after(2, shadow);
    let found = world.answered(None, |facts| decision::unvouched(&watching, facts)).unwrap();
    assert_eq!(found, [counted(2, 1, 0)]);
    assert_eq!(world.adopt(change(&watching)).unwrap(), Adopted::default());
    assert_eq!(holders(&world), [1, 2, 3, 4, 5, 6]);
}

fn counted(by_hand: u64, mapped: u64, unknown: u64) -> Unvouched {
    Unvouched { target: group("C"), by_hand, mapped, unknown }
}

/// A group is privileged by a role that it carries, and a role by its own mark; a name counts whatever its case.
#[test]
fn what_carries_something_privileged_is_privileged() {
    let admin = |rules: &mut Rules| {
        rules.roles.insert(role_name("admin"), Role { privileged: true, ..Role::default() });
    };
    for (what, target, ends) in [
        ("the role", role("admin"), true),
        ("the role in capitals", role("ADMIN"), true),
        ("a group that carries it", group("A"), true),
        ("that group in small letters", group("a"), true),
        ("another group", group("C"), false),
        ("a group of the role's name", group("admin"), false),
    ] {
        let mut world = logged_in(&rules(), 0, &[]);
        give(&mut world, 1, by_hand(target), "client", Some(false));
        world.adopt(change(&rules_with(2, admin))).unwrap();
        assert_eq!(world.has(1).is_empty(), ends, "{what}");
    }
}

#[test]
fn the_brake_judges_what_ends_by_a_privilege() {
    let of_store = formerly_c();
    let through_store =
        Grant { source: Source::Mapped { provider: provider("p"), mapping: of_store.id }, ..mapped("p", "c") };
    for (what, grant, provider, people, braked, is_refused) in [
        ("two by hand", by_hand(group("C")), None, 2, true, false),
        ("three by hand", by_hand(group("C")), None, 3, true, true),
        ("three through a provider", through_store.clone(), Some(provider("p")), 3, true, true),
        ("three of what is not braked", by_hand(group("C")), None, 3, false, false),
    ] {
        let mut world = logged_in(&rules_with(1, |rules| of_the_store(rules, &of_store)), 0, &[]);
        (1..=people).for_each(|who| give(&mut world, who, grant.clone(), "client", Some(false)));
        let after = rules_with(2, |rules| {
            privileged(rules, &of_store);
            rules.groups.get_mut("C").unwrap().brake = braked;
        });
        let expected = Excess { provider, target: group("C"), losing: 3, members: 3, allowed: 2 };
        let found = world.answered(None, |facts| decision::excesses(&after, facts)).unwrap();
        assert_eq!(found, if is_refused { vec![expected] } else { vec![] }, "{what}");
        assert_eq!(world.adopt(change(&after)).is_err(), is_refused, "{what}");
    }
}
