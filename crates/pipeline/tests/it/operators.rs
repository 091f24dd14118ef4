//! What operators and clients of the APIs do about people: acts, and new keys.

use loginsync_pipeline::decision::{self, About, Act, By, Kept, MERGED, Needs, Rekeyed, Save};
use loginsync_pipeline::ids::{MappingId, Target, Timestamp, UserId};
use loginsync_pipeline::record::{Bound, Deny, Disabled, Holding, Record, Rest, Stopped};

use crate::world::{NOW, World, by_hand, case, group, mapped, role, rules, user};

fn deny(name: &str) -> Act {
    deny_until(name, None)
}

fn deny_until(name: &str, until: Option<i64>) -> Act {
    Act::Deny { target: group(name), reason: "because".into(), until: until.map(|after| Timestamp(NOW.0 + after)) }
}

fn create(enabled: bool) -> Act {
    Act::Create { email: Some("a@example.com".into()), display_name: Some("Alice".into()), enabled }
}

fn by_mapping(label: &str) -> Option<Disabled> {
    Some(Disabled { at: NOW, by: Some((MappingId([7; 16]), label.into())) })
}

/// A user who was made by hand, after some acts.
fn after(acts: &[Act]) -> World {
    let mut world = World::default();
    for act in acts {
        world.act_by(&user(1), act, &By::operator("test"), NOW).unwrap();
    }
    world
}

/// A script that repeats itself hears it.
#[test]
fn an_act_that_would_change_nothing_says_why() {
    let (c, person) = (group("C"), || create(true));
    let gone = "`people/u1` was erased; denies and a disabled state that still apply can be lifted (`enable`, `undeny`) or \
                forgotten (`erase --forget`)";
    let unknown = "there is no user `people/u1`";
    let bound = || vec![person(), deny("A"), Act::Erase];
    let rows: Vec<(Vec<Act>, Act, &str)> = vec![
        (vec![Act::Assign(c.clone())], Act::Assign(c.clone()), "group `C` is already assigned to `people/u1`"),
        (
            vec![person()],
            Act::Unassign(c.clone()),
            "group `C` is not assigned to `people/u1` by hand; what a mapping grants ends with the mapping or the claim, or \
             by a deny",
        ),
        (vec![deny("C")], deny("C"), "group `C` is already denied to `people/u1`"),
        (vec![person()], Act::Undeny(c.clone()), "group `C` is not denied to `people/u1`"),
        (vec![deny("C")], Act::Undeny(role("C")), "role `C` is not denied to `people/u1`"),
        (vec![person(), Act::Disable], Act::Disable, "`people/u1` is already disabled"),
        (vec![person()], Act::Enable, "`people/u1` is not disabled"),
        (vec![person()], person(), "there is `people/u1` already"),
        (vec![person()], Act::Rename("Alice".into()), "`people/u1` has this name already"),
        (vec![], Act::Unassign(c.clone()), unknown),
        (vec![], Act::Undeny(c.clone()), unknown),
        (vec![], Act::Disable, unknown),
        (vec![], Act::Enable, unknown),
        (vec![], Act::Rename("Bob".into()), unknown),
        (vec![], Act::Erase, unknown),
        (vec![], Act::Forget, unknown),
        (bound(), Act::Disable, gone),
        (bound(), Act::Unassign(c.clone()), gone),
        (bound(), Act::Erase, gone),
        (bound(), Act::Rename("Bob".into()), gone),
        (bound(), Act::Enable, "`people/u1` is not disabled"),
        (bound(), Act::Undeny(c.clone()), "group `C` is not denied to `people/u1`"),
        (
            vec![person()],
            deny_until("C", Some(0)),
            "`until` is 2023-11-14T22:13:20.000Z, which is past; expected a time in the future",
        ),
    ];
    for (acts, act, expected) in rows {
        let mut world = after(&acts);
        let before = (world.records.clone(), world.erased.clone(), world.audit.clone());
        let refused = world.act_by(&user(1), &act, &By::operator("test"), NOW);
        assert_eq!(refused, Err(expected.to_owned()), "{act:?}");
        assert_eq!((world.records, world.erased, world.audit), before, "{act:?}");
    }
    assert!(after(&[person()]).act(&user(1), &deny_until("C", Some(1)), NOW));
}

#[test]
fn each_act_has_a_row_in_the_audit() {
    let c = group("C");
    let said = |rest: &str| format!(r#"{{"by":"test"{rest}}}"#);
    let of_c = || said(r#","kind":"group","name":"C""#);
    let erased = || vec![create(false), deny("C"), Act::Erase];
    let (person, number, no_user) = (|| About::Person { email: None }, || About::Number, || About::NoUser);
    let rows = vec![
        (vec![], create(true), "user_created", said(""), person()),
        (vec![], Act::Assign(c.clone()), "assigned", of_c(), person()),
        (vec![Act::Assign(c.clone())], Act::Unassign(c.clone()), "unassigned", of_c(), person()),
        (vec![], deny("C"), "denied", said(r#","kind":"group","name":"C","reason":"because""#), person()),
        (vec![deny("C")], Act::Undeny(c.clone()), "deny_lifted", of_c(), person()),
        (vec![create(true)], Act::Disable, "user_disabled", said(""), person()),
        (vec![create(false)], Act::Enable, "user_enabled", said(""), person()),
        (vec![create(true)], Act::Rename("Bob".into()), "user_renamed", said(""), person()),
        (vec![create(true)], Act::Erase, "user_erased", said(""), number()),
        (vec![create(true)], Act::Forget, "user_erased", said(r#","forgotten":true"#), number()),
        (erased(), Act::Forget, "user_erased", said(r#","forgotten":true"#), number()),
        (erased(), Act::Enable, "user_enabled", said(""), no_user()),
        (erased(), Act::Undeny(c.clone()), "deny_lifted", of_c(), no_user()),
    ];
    for (acts, act, event, detail, about) in rows {
        let mut world = after(&acts);
        assert!(world.act(&user(1), &act, NOW), "{act:?}");
        let row = world.audit.last().unwrap();
        assert_eq!((row.event, &row.detail, &row.about), (event, &detail, &about), "{act:?}");
    }
}

#[test]
fn rules_that_changed_meanwhile_stop_an_act() {
    let world = after(&[create(true)]);
    for (found, current, passes) in [
        (Some(1), Some(2), false),
        (Some(2), Some(2), true),
        (Some(3), Some(2), true),
        (None, Some(2), true),
        (Some(1), None, true),
    ] {
        let kept = Kept { epoch: current, ..world.kept(&user(1), "") };
        let by = By { epoch: found, ..By::operator("api") };
        let outcome = decision::act(&kept, &Act::Disable, &by, NOW).map_err(|why| why.to_string());
        assert_eq!(outcome.is_ok(), passes, "{found:?} {current:?}");
        if let Err(why) = outcome {
            assert_eq!(why, "the rules were changed meanwhile; try again");
        }
    }
}

#[test]
fn a_person_is_created_as_asked() {
    for enabled in [true, false] {
        let world = after(&[create(enabled)]);
        let record = &world.records[&user(1)];
        let disabled = (!enabled).then_some(Disabled { at: NOW, by: None });
        let expected = Record {
            email: Some("a@example.com".into()),
            display_name: Some("Alice".into()),
            disabled,
            ..Record::new(NOW)
        };
        assert_eq!(*record, expected);
    }
    assert!(Act::Assign(group("C")).creates() && deny("C").creates() && create(true).creates());
    assert!(![Act::Undeny(group("C")), Act::Disable, Act::Enable, Act::Erase].iter().any(Act::creates));
}

/// An operator's disabling stands whatever becomes of a mapping's, and what waits for an operator is settled by it.
#[test]
fn an_operator_disables_whom_a_mapping_has_disabled() {
    let mut world = after(&[create(true)]);
    let record = world.records.get_mut(&user(1)).unwrap();
    record.disabled = by_mapping("leavers");
    let stopped = Stopped { mapping: MappingId([7; 16]), label: "leavers".into(), provider: None, at: NOW };
    record.stopped = Some(stopped);
    assert!(world.act(&user(1), &Act::Disable, Timestamp(NOW.0 + 5)));
    let record = &world.records[&user(1)];
    assert_eq!(record.disabled, Some(Disabled { at: Timestamp(NOW.0 + 5), by: None }));
    assert_eq!(record.stopped, None);
}

/// An administrator vouches for what a lesser client has assigned; the other way round nothing changes.
#[test]
fn an_administrator_vouches_for_a_grant() {
    for (first, second, passes, vouched) in [
        (Some(false), true, true, Some(true)),
        (Some(false), false, false, Some(false)),
        (Some(true), false, false, Some(true)),
        (Some(true), true, false, Some(true)),
        (None, true, true, Some(true)),
        (None, false, false, None),
    ] {
        let mut world = after(&[Act::Assign(group("C"))]);
        let held =
            |world: &mut World| world.records.get_mut(&user(1)).unwrap().holdings.remove(&by_hand(group("C"))).unwrap();
        let holding = loginsync_pipeline::record::Holding { as_admin: first, ..held(&mut world) };
        world.records.get_mut(&user(1)).unwrap().holdings.insert(by_hand(group("C")), holding);
        let by = By { admin: second, ..By::operator("second") };
        assert_eq!(world.act_by(&user(1), &Act::Assign(group("C")), &by, NOW).is_ok(), passes, "{first:?} {second}");
        let holding = held(&mut world);
        assert_eq!(holding.as_admin, vouched);
        assert_eq!(holding.granted_by, if passes { "second" } else { "test" });
    }
}

/// A deny past its end does not keep a new one out, and the record says when the next one ends.
#[test]
fn a_deny_that_has_ended_is_replaced() {
    let mut world = after(&[deny_until("C", Some(10)), deny_until("B", Some(11))]);
    assert_eq!(world.records[&user(1)].due, Some(Timestamp(NOW.0 + 10)));
    let now = Timestamp(NOW.0 + 10);
    assert!(world.act(&user(1), &deny_until("C", Some(20)), now));
    let until: Vec<_> = world.records[&user(1)].denies.values().map(|deny| deny.until.unwrap().0 - NOW.0).collect();
    assert_eq!(until, [11, 20]);
    assert_eq!(world.events(), ["denied", "denied", "deny_ended", "denied"]);
    assert_eq!(world.audit[2].detail, r#"{"kind":"group","name":"C"}"#);
}

#[test]
fn what_binds_an_erased_person_says_nothing_of_them() {
    for (act, disabled, denied) in [(Act::Erase, true, true), (Act::Forget, false, false)] {
        let mut world = after(&[create(false), deny_until("C", Some(9))]);
        let unknown = Rest::from([("later".to_owned(), "about the person".into())]);
        let denies = &mut world.records.get_mut(&user(1)).unwrap().denies;
        denies.values_mut().for_each(|deny| deny.rest = unknown.clone());
        assert!(world.act(&user(1), &act, NOW));
        let bound = world.erased.get(&user(1)).cloned().unwrap_or_default();
        assert_eq!(bound.disabled.is_some(), disabled);
        let reason = "denied before the person was erased".into();
        let deny = Deny { at: NOW, by: "test".into(), reason, until: Some(Timestamp(NOW.0 + 9)), rest: Rest::new() };
        assert_eq!(bound.denies.get(&group("C")), denied.then_some(&deny));
    }
}

/// All acts of a call are carried out, or none, each on what the one before has left.
#[test]
fn acts_of_one_call_follow_each_other() {
    let world = after(&[create(true)]);
    let kept = [world.kept(&user(1), ""), world.kept(&user(2), "")];
    let call = |acts: &[(u8, Act)]| {
        let acts: Vec<(UserId, Act)> = acts.iter().map(|(who, act)| (user(*who), act.clone())).collect();
        decision::acts(&kept, &acts, &By::operator("test"), NOW)
    };
    let Save { people, .. } =
        call(&[(2, create(true)), (1, Act::Disable), (2, Act::Assign(group("C"))), (1, Act::Enable)]).unwrap();
    let told: Vec<Vec<_>> = people.iter().map(|it| it.audit.iter().map(|entry| entry.event).collect()).collect();
    assert_eq!(told, [["user_disabled", "user_enabled"], ["user_created", "assigned"]]);
    let records: Vec<&Record> = people.iter().map(|changes| changes.record.as_ref().unwrap()).collect();
    assert_eq!((records[0].disabled.is_some(), records[1].holdings.len()), (false, 1));
    let refused = |acts: &[(u8, Act)]| call(acts).unwrap_err().to_string();
    assert_eq!(refused(&[(1, Act::Disable), (1, Act::Disable)]), "`people/u1` is already disabled");
    assert_eq!(
        refused(&[(1, Act::Erase), (1, create(true))]),
        "`people/u1` is erased by this call; expected no later change to them"
    );
    // Who is not among those who were asked for is left alone.
    let Save { people, .. } = call(&[(3, create(true))]).unwrap();
    assert!(people.iter().all(|changes| changes.record.is_none()));
    // A person who was erased before is back with what binds them, and bound no more by that alone.
    let bound = Bound { disabled: by_mapping("leavers"), ..Bound::default() };
    let kept = [Kept { erased: Some(bound), ..world.kept(&user(2), "") }];
    let acts = [create(true), Act::Enable, Act::Disable].map(|act| (user(2), act));
    let Save { people, .. } = decision::acts(&kept, &acts, &By::operator("test"), NOW).unwrap();
    assert_eq!(people[0].record.as_ref().unwrap().disabled, Some(Disabled { at: NOW, by: None }));
}

// ------------------------------------------------------------------------------------------------------------- new keys

/// The outcome of new keys, and the world after it.
fn rekeyed(world: &World, keys: &[(u8, u8)], merge: bool, by: Option<&str>) -> Result<(Vec<Rekeyed>, World), String> {
    let keys: Vec<(UserId, UserId)> = keys.iter().map(|(old, new)| (user(*old), user(*new))).collect();
    let mut users: Vec<&UserId> = keys.iter().flat_map(|(old, new)| [old, new]).collect();
    users.sort_unstable();
    users.dedup();
    let kept: Vec<Kept> = users.iter().map(|user| world.kept(user, "")).collect();
    let by = by.map(By::operator);
    let outcome = decision::rekey(&kept, &keys, merge, by.as_ref(), NOW).map_err(|why| match why {
        Needs::Undone(why) => why,
        other => panic!("{other}"),
    })?;
    let mut world = world.clone();
    world.audit.clear();
    world.save(&kept, outcome.1);
    Ok((outcome.0, world))
}

/// Users 1 to 3, who have logged in; 3 is erased, and denied B.
fn three() -> World {
    let (mut world, rules) = (World::default(), rules());
    for (who, value) in [(1, "c"), (2, "d"), (3, "a")] {
        world.plan(&rules, &case(who, &[value], &format!("t{who}"), 0));
    }
    assert!(world.act(&user(1), &deny("C"), NOW) && world.act(&user(1), &Act::Assign(group("D")), NOW));
    assert!(world.act(&user(3), &deny("B"), NOW) && world.act(&user(3), &Act::Disable, NOW));
    assert!(world.act(&user(3), &Act::Erase, NOW));
    world
}

#[test]
fn keys_that_cannot_be_changed_are_told() {
    let world = three();
    for (keys, merge, expected) in [
        (vec![(1, 1)], true, "`people/u1` is the old and the new key; expected two"),
        (vec![(1, 5), (1, 6)], true, "`people/u1` is named twice as an old key"),
        (
            vec![(1, 5), (2, 5)],
            true,
            "`people/u5` is named twice as a new key; rekey one of them, then the other with `--merge`",
        ),
        (vec![(4, 5)], true, "there is no user `people/u4`"),
        (vec![(1, 2)], false, "there is `people/u2` already; `--merge` (in the API `merge`) makes one of the two"),
    ] {
        assert_eq!(rekeyed(&world, &keys, merge, Some("test")).map(|_| ()), Err(expected.to_owned()), "{keys:?}");
    }
}

#[test]
fn a_person_goes_along_to_the_new_key() {
    let before = three();
    let (of_1, of_2) = (before.records[&user(1)].clone(), before.records[&user(2)].clone());
    let (told, world) = rekeyed(&before, &[(1, 5)], false, Some("test")).unwrap();
    let expected = Rekeyed {
        old: user(1),
        new: user(5),
        merged: false,
        erased: false,
        disabled: false,
        denies: vec![group("C")],
        assigned: vec![group("D")],
    };
    assert_eq!(told, [expected]);
    assert_eq!(world.records.get(&user(5)), Some(&of_1));
    assert_eq!((world.records.contains_key(&user(1)), &world.erased), (false, &before.erased));
    // The row is of the person as they were, and as they are.
    let row = r#"user_rekeyed {"by":"test","merged":false,"erased":false,"disabled":false,"denies":1,"assigned":1}"#;
    assert_eq!(world.told(0), [row, row]);
    let about = [1, 5].map(|who| About::Other { number: 2, user: user(who) });
    assert_eq!([world.audit[0].about.clone(), world.audit[1].about.clone()], about);
    // All leave their old keys before any takes a new one.
    let (_, world) = rekeyed(&before, &[(1, 2), (2, 1)], false, Some("test")).unwrap();
    assert_eq!((&world.records[&user(1)], &world.records[&user(2)]), (&of_2, &of_1));
}

/// What takes access away stays of either, and what gives it by hand is joined.
#[test]
fn two_users_become_one() {
    let mut before = three();
    before.records.get_mut(&user(1)).unwrap().disabled = by_mapping("leavers");
    let (told, world) = rekeyed(&before, &[(1, 2)], true, Some("test")).unwrap();
    assert_eq!(
        (told[0].merged, told[0].disabled, &told[0].denies, &told[0].assigned),
        (true, true, &vec![group("C")], &vec![group("D")])
    );
    assert!(!world.records.contains_key(&user(1)));
    // What the provider has given the one who stays, it has given by their last login.
    assert_eq!(world.has(2), [mapped("p", "d"), by_hand(group("D"))]);
    assert_eq!(world.events(), [MERGED, "user_rekeyed", "user_rekeyed"]);
    assert_eq!(world.audit[0].detail, r#"{"by":"test","into":3}"#);
    assert_eq!(world.audit[0].about, About::Former(2));
    // Looking tells the outcome of merging without the word, and writes no row.
    let (foretold, looked) = rekeyed(&before, &[(1, 2)], false, None).unwrap();
    assert_eq!((foretold, looked.audit), (told, vec![]));
}

/// Of two grants by hand the one that an administrator made stays.
#[test]
fn an_administrators_grant_stays_when_two_become_one() {
    for (own, other, as_admin, granted_by) in [
        (None, Some(true), Some(true), "other"),
        (Some(false), Some(true), Some(true), "other"),
        (Some(true), Some(true), Some(true), "own"),
        (Some(true), Some(false), Some(true), "own"),
        (Some(true), None, Some(true), "own"),
        (Some(false), None, Some(false), "own"),
    ] {
        let of = |by: &str, as_admin| {
            let mut record = Record::new(NOW);
            let holding = Holding { granted_by: by.into(), as_admin, ..Holding::mapped(NOW) };
            record.holdings.insert(by_hand(group("D")), holding);
            record
        };
        let mut record = of("own", own);
        record.absorb(&of("other", other));
        let holding = &record.holdings[&by_hand(group("D"))];
        assert_eq!((holding.as_admin, holding.granted_by.as_str()), (as_admin, granted_by), "{own:?} {other:?}");
    }
}

#[test]
fn what_binds_an_erased_person_goes_along() {
    let before = three();
    let denied = |world: &World, who: u8| -> Vec<Target> {
        let of_record = world.records.get(&user(who)).map(|record| &record.denies);
        of_record
            .or(world.erased.get(&user(who)).map(|bound| &bound.denies))
            .into_iter()
            .flatten()
            .map(|(it, _)| it.clone())
            .collect()
    };
    let unnamed = r#"{"by":"test","merged":false,"erased":true,"disabled":true,"denies":1,"assigned":0}"#;
    // To a new key: they are bound under it.
    let (told, world) = rekeyed(&before, &[(3, 5)], false, Some("test")).unwrap();
    let expected = Rekeyed {
        old: user(3),
        new: user(5),
        merged: false,
        erased: true,
        disabled: true,
        denies: vec![group("B")],
        assigned: vec![],
    };
    assert_eq!(told, [expected]);
    assert_eq!((denied(&world, 3), denied(&world, 5)), (vec![], vec![group("B")]));
    assert!(world.erased[&user(5)].disabled.is_some());
    assert_eq!(
        world.audit.iter().map(|row| (row.detail.as_str(), &row.about)).collect::<Vec<_>>(),
        [(unnamed, &About::NoUser); 2]
    );
    // To the key of a user: they bind the user.
    let (told, world) = rekeyed(&before, &[(3, 1)], false, Some("test")).unwrap();
    assert_eq!((told[0].merged, told[0].erased, told[0].disabled), (true, true, true));
    assert_eq!((denied(&world, 1), world.erased.len()), (vec![group("B"), group("C")], 0));
    // A user who takes the key of an erased person is that person.
    let (told, world) = rekeyed(&before, &[(1, 3)], false, Some("test")).unwrap();
    assert_eq!((told[0].merged, told[0].erased, told[0].disabled), (false, false, true));
    assert_eq!((denied(&world, 3), world.erased.len()), (vec![group("B"), group("C")], 0));
    // Of two erased people both binds.
    let mut two = before.clone();
    two.erased.insert(
        user(4),
        Bound { disabled: None, denies: [(group("A"), two.erased[&user(3)].denies[&group("B")].clone())].into() },
    );
    let (told, world) = rekeyed(&two, &[(3, 4)], false, Some("test")).unwrap();
    assert_eq!((told[0].merged, &told[0].denies), (false, &vec![group("A"), group("B")]));
    assert_eq!((denied(&world, 3), denied(&world, 4)), (vec![], vec![group("A"), group("B")]));
}
