//! Other rules: what ends by them, what the brake says of that, and what is noted for the next ones.

mod noted;
mod privileged;

use std::sync::Arc;

use loginsync_pipeline::decision::{
    self, About, Act, Adopted, Confirmation, Excess, Needs, Question, Remarks, RulesChange,
};
use loginsync_pipeline::ids::{Target, Timestamp};
use loginsync_pipeline::mapping::elsewhere::{Announced, Elsewhere};
use loginsync_pipeline::mapping::{Activity, Mapping, Mode, RuleSet, Rules};
use loginsync_pipeline::plan::{Grant, Source};
use loginsync_pipeline::record::{Holding, Record};

use crate::world::{NOW, World, case, group, mapped, mapping, provider, rules, rules_with, user};

/// By a caller who confirms nothing.
fn change(rules: &RuleSet) -> RulesChange<'_> {
    RulesChange { rules, gone: &[], remarks: Remarks::Call { confirmed: false, client: None }, now: NOW }
}

/// Users who have logged in through `p` with some values, by rules that were adopted.
fn logged_in(rules: &RuleSet, people: u8, values: &[&'static str]) -> World {
    let mut world = World::default();
    world.adopt(change(rules)).unwrap();
    for number in 1..=people {
        world.plan(rules, &case(number, values, &format!("in{number}"), 0));
    }
    world
}

fn give(world: &mut World, who: u8, grant: Grant, by: &str, as_admin: Option<bool>) {
    let record = world.records.entry(user(who)).or_insert_with(|| Record::new(NOW));
    record.holdings.insert(grant, Holding { granted_by: by.into(), as_admin, ..Holding::mapped(NOW) });
}

fn edit(rules: &mut Rules, value: &str, change: impl FnOnce(&mut Mapping)) {
    let id = mapping("p", value).id;
    change(rules.mappings.iter_mut().find(|mapping| mapping.id == id).unwrap());
}

fn remove(rules: &mut Rules, value: &str) {
    let id = mapping("p", value).id;
    rules.mappings.retain(|mapping| mapping.id != id);
}

fn excess(world: &mut World, change: RulesChange<'_>) -> Vec<Excess> {
    match world.adopt(change) {
        Err(Needs::Braked(excesses)) => excesses,
        other => panic!("expected the brake, found {other:?}"),
    }
}

#[test]
fn grants_end_with_the_mapping_that_gives_them() {
    type Change = fn(&mut Rules);
    let at = |after: i64| Timestamp(NOW.0 + after);
    let (past, future) = (at(0), at(1));
    type Row = (&'static str, Box<dyn Fn(&mut Rules)>, bool);
    let rows: Vec<Row> = vec![
        ("nothing changes", Box::new((|_| {}) as Change), false),
        ("it is removed", Box::new(|rules| remove(rules, "c")), true),
        ("it is disabled", Box::new(|rules| edit(rules, "c", |it| it.activity = Activity::Disabled)), true),
        ("it is inactive", Box::new(|rules| edit(rules, "c", |it| it.activity = Activity::Inactive)), true),
        ("it ends now", Box::new(move |rules| edit(rules, "c", |it| it.until = Some(past))), true),
        ("it ends later", Box::new(move |rules| edit(rules, "c", |it| it.until = Some(future))), false),
        ("another is removed", Box::new(|rules| remove(rules, "b")), false),
        (
            "rules that only watch lack it",
            Box::new(|rules| {
                remove(rules, "c");
                rules.sync.mode = Mode::Shadow;
            }),
            false,
        ),
        (
            "another sidecar's file has it",
            Box::new(|rules| {
                let other = Announced::of(&rules_with(1, |_| {}));
                rules.elsewhere = Arc::new(Elsewhere::default().with(&other.text).unwrap());
                remove(rules, "c");
            }),
            false,
        ),
    ];
    for (what, edit, ends) in rows {
        let mut world = logged_in(&rules(), 2, &["c", "d"]);
        world.work.clear();
        let (audit, after) = (world.audit.len(), rules_with(2, |rules| edit(rules)));
        let done = world.adopt(change(&after)).unwrap();
        let left = if ends { vec![mapped("p", "d")] } else { vec![mapped("p", "c"), mapped("p", "d")] };
        assert_eq!((world.has(1), world.has(2)), (left.clone(), left), "{what}");
        let (mappings, grants) = if ends { (1, 2) } else { (0, 0) };
        assert_eq!(done, Adopted { ended_mappings: mappings, ended_grants: grants, privileged_grants: 0 }, "{what}");
        let row = format!(r#"mapping_ended {{"mapping":"{}","grants":2}}"#, mapping("p", "c").id);
        assert_eq!(world.told(audit), if ends { vec![row] } else { vec![] }, "{what}");
        assert!(world.audit[audit..].iter().all(|entry| entry.about == About::NoUser), "{what}");
        assert_eq!(world.work.len(), usize::from(ends), "{what}: nothing to do is no work");
        // What is adopted again ends nothing more.
        assert_eq!(world.adopt(change(&after)).unwrap(), Adopted::default(), "{what}");
    }
}

#[test]
fn rules_that_revoke_over_the_limit_are_refused() {
    let of = |name: &str, people: u64| {
        let (losing, members, allowed) = (people, people, 2);
        vec![Excess { provider: Some(provider("p")), target: group(name), losing, members, allowed }]
    };
    let both = [of("A", 3), of("C", 3)].concat();
    type Row = (&'static str, u8, &'static [&'static str], fn(&mut Rules), Vec<Excess>);
    let rows: Vec<Row> = vec![
        ("two always pass", 2, &["c"], |rules| remove(rules, "c"), vec![]),
        ("three are too many", 3, &["c"], |rules| remove(rules, "c"), of("C", 3)),
        ("by a disabled mapping", 3, &["c"], |it| edit(it, "c", |it| it.activity = Activity::Disabled), of("C", 3)),
        ("by its own end", 3, &["c"], |rules| edit(rules, "c", |it| it.until = Some(NOW)), vec![]),
        ("what is not braked", 9, &["d"], |rules| remove(rules, "d"), vec![]),
        (
            "each target by itself",
            3,
            &["a", "c", "d"],
            |rules| ["a", "c", "d"].into_iter().for_each(|value| remove(rules, value)),
            both,
        ),
        (
            "rules that only watch",
            3,
            &["c"],
            |rules| {
                remove(rules, "c");
                rules.sync.mode = Mode::Shadow;
            },
            vec![],
        ),
    ];
    for (what, people, values, edit, expected) in rows {
        let mut world = logged_in(&rules(), people, values);
        let after = rules_with(2, edit);
        let foretold = world.answered(None, |facts| decision::excesses(&after, facts)).unwrap();
        assert_eq!(foretold, expected, "{what}");
        if expected.is_empty() {
            world.adopt(change(&after)).unwrap();
            continue;
        }
        let before = (world.records.clone(), world.audit.clone());
        assert_eq!(excess(&mut world, change(&after)), expected, "{what}");
        assert_eq!((world.records.clone(), world.audit.clone()), before, "{what}: nothing is done");
        let remarks = Remarks::Call { confirmed: true, client: None };
        world.adopt(RulesChange { remarks, ..change(&after) }).unwrap();
        assert!(world.has(1).iter().all(|grant| expected.iter().all(|it| it.target != grant.target)), "{what}");
    }
    let told = of("C", 3)[0].to_string();
    assert_eq!(told, "group `C` would go from 3 of 3 who have it through `p`; the brake lets 2 pass");
    let told = Excess { provider: None, ..of("C", 3)[0].clone() }.to_string();
    assert_eq!(told, "group `C` would go from 3 of 3 who have it by hand; the brake lets 2 pass");
}

/// A share of the members may go, and one who has a target by another mapping does not lose it.
#[test]
fn only_people_who_lose_a_target_count() {
    let second = Mapping { id: Mapping::id_of_name("second"), ..mapping("p", "c") };
    let with_both = |epoch, change: fn(&mut Rules)| {
        rules_with(epoch, |rules| {
            rules.mappings.push(second.clone());
            change(rules);
        })
    };
    let grant = |mapping: &Mapping| Grant {
        source: Source::Mapped { provider: provider("p"), mapping: mapping.id },
        ..mapped("p", "c")
    };
    let after = with_both(2, |rules| remove(rules, "c"));
    for (losing, is_refused) in [(4, false), (5, true)] {
        let mut world = logged_in(&with_both(1, |_| {}), 0, &[]);
        for who in 1..=20 {
            give(&mut world, who, mapped("p", "c"), "", None);
            if who > losing {
                give(&mut world, who, grant(&second), "", None);
            }
        }
        let found = world.answered(None, |facts| decision::excesses(&after, facts)).unwrap();
        let expected = Excess {
            provider: Some(provider("p")),
            target: group("C"),
            losing: losing.into(),
            members: 20,
            allowed: 4,
        };
        assert_eq!(found, if is_refused { vec![expected] } else { vec![] }, "{losing} of 20");
        assert_eq!(world.adopt(change(&after)).is_err(), is_refused);
    }
}

/// With a group go all who have it, through each provider.
#[test]
fn a_group_that_goes_is_judged_with_its_members() {
    let gone = [group("C"), group("D")];
    let after = rules_with(2, |rules| {
        rules.groups.retain(|name, _| !gone.contains(&Target::Group(name.clone())));
        ["c", "d"].into_iter().for_each(|value| remove(rules, value));
    });
    for (people, is_refused) in [(2, false), (3, true)] {
        let mut world = logged_in(&rules(), people, &["c"]);
        give(&mut world, 1, mapped("q", "c"), "", None);
        let deny = |until| Act::Deny { target: group("C"), reason: "x".into(), until };
        assert!(world.act(&user(1), &deny(None), NOW) && world.act(&user(2), &deny(None), NOW));
        let audit = world.audit.len();
        let change = RulesChange { gone: &gone, ..change(&after) };
        if is_refused {
            let (provider, target) = (Some(provider("p")), group("C"));
            let expected = Excess { provider, target, losing: 3, members: 3, allowed: 2 };
            assert_eq!(excess(&mut world, change), [expected], "once, though its mapping goes as well");
            continue;
        }
        world.adopt(change).unwrap();
        let kept = r#"denies_kept {"kind":"group","name":"C","denies":2}"#;
        assert_eq!(world.told(audit).last().map(String::as_str), Some(kept), "{:?}", world.told(audit));
        assert_eq!(world.told(audit).iter().filter(|row| row.starts_with("denies_kept")).count(), 1, "none of D");
    }
}

#[test]
fn a_file_is_confirmed_by_its_digest() {
    let mut world = logged_in(&rules(), 3, &["c"]);
    let with_source = |source| {
        rules_with(2, |rules| {
            remove(rules, "c");
            rules.source = source;
        })
    };
    let file = |rules| RulesChange { remarks: Remarks::File, ..change(rules) };
    let (ours, others, unknown) = (with_source(Some([0xab; 32])), with_source(Some([1; 32])), with_source(None));
    for rules in [&ours, &others, &unknown] {
        assert_eq!(excess(&mut world, file(rules)).len(), 1, "not confirmed yet");
    }
    let audit = world.audit.len();
    world.save_shared(decision::confirm([0xab; 32], "test"));
    for rules in [&others, &unknown] {
        assert_eq!(excess(&mut world, file(rules)).len(), 1, "another file was");
    }
    assert_eq!(excess(&mut world, change(&ours)).len(), 1, "a call confirms by itself");
    world.adopt(file(&ours)).unwrap();
    let row = format!(r#"rules_confirmed {{"by":"test","file":"{}"}}"#, "ab".repeat(32));
    assert_eq!(world.told(audit)[0], row);
    assert_eq!(world.audit[audit].about, About::NoUser);
}

/// For a while, and for so many memberships of all changes together.
#[test]
fn a_client_revokes_what_was_confirmed_for_it() {
    let until = Timestamp(NOW.0 + 1000);
    let note = || Question::confirmation("hr");
    let rows = [
        ("nothing was confirmed", "hr", None, 0, false, None),
        ("more than it loses", "hr", Some(5), 0, true, Some(2)),
        ("just as many, and none is left", "hr", Some(3), 0, true, None),
        ("one fewer", "hr", Some(2), 0, false, Some(2)),
        ("for another client", "crm", Some(5), 0, false, Some(5)),
        ("just in time", "hr", Some(5), 999, true, Some(2)),
        ("too late", "hr", Some(5), 1000, false, Some(5)),
    ];
    for (what, client, most, after, passes, left) in rows {
        let mut world = logged_in(&rules(), 3, &["c"]);
        if let Some(most) = most {
            world.save_shared(decision::confirm_client("hr", Confirmation { until, most }, "alice"));
        }
        let audit = world.audit.len();
        let rules = rules_with(2, |rules| remove(rules, "c"));
        let remarks = Remarks::Call { confirmed: false, client: Some(client) };
        let now = Timestamp(NOW.0 + after);
        let adopted = world.adopt(RulesChange { remarks, now, ..change(&rules) });
        assert_eq!(adopted.is_ok(), passes, "{what}");
        let noted = left.map(|left| format!(r#"{{"until":{},"left":{left},"by":"alice"}}"#, until.0).into_bytes());
        assert_eq!(world.notes.get(&note()), noted.as_ref(), "{what}");
        if passes {
            let left = left.unwrap_or_default();
            let row = format!(r#"confirmation_used {{"client":"hr","by":"alice","losing":3,"left":{left}}}"#);
            assert_eq!(world.told(audit)[0], row, "{what}");
            assert_eq!(world.audit[audit].about, About::NoUser, "{what}");
        }
    }
    let mut world = logged_in(&rules(), 3, &["c"]);
    world.save_shared(decision::confirm_client("hr", Confirmation { until: NOW, most: 7 }, "alice"));
    let row = r#"client_confirmed {"client":"hr","by":"alice","until":"2023-11-14T22:13:20.000Z","most":7}"#;
    assert_eq!(world.told(world.audit.len() - 1), [row]);
    assert_eq!(world.audit.last().unwrap().about, About::NoUser);
    // What cannot be read confirms nothing.
    world.notes.insert(note(), b"{}".to_vec());
    let rules = rules_with(2, |rules| remove(rules, "c"));
    let remarks = Remarks::Call { confirmed: false, client: Some("hr") };
    assert_eq!(excess(&mut world, RulesChange { remarks, ..change(&rules) }).len(), 1);
}
