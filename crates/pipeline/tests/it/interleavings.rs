//! Every interleaving of two or three writers, by a model checker (stateright): the real decisions, and between them the steps of a
//! store that several processes share, as `ports/store/postgres/users.rs` takes them.
//!
//! ```text
//! read ─▶ decide ─▶ commit, if the row has the version that was read and the token is new
//!            │         └─ it has not: lock the user, read and decide again
//!            └─ asks about other users: lock the user and the targets that are asked about, then read and decide again
//! ```
//!
//! After each step any other writer may take its own. In every state the laws hold, and whatever the order, what is kept at the end
//! is what the same writers would leave one after another in some order.

mod model;

use std::time::Duration;

use loginsync_pipeline::decision::Act;
use loginsync_pipeline::ids::Timestamp;
use proptest::prelude::*;
use stateright::{Checker as _, Model as _};

use self::model::{Guards, Model, Task};
use crate::world::{Case, LEASE, NOW, case, group, user};

fn login(user: u8, values: &[&'static str], token: &str, after: i64) -> Task {
    Task::Login(case(user, values, token, after))
}

fn through_q(user: u8, values: &[&'static str], token: &str, after: i64) -> Task {
    Task::Login(Case { provider: "q", ..case(user, values, token, after) })
}

fn act(who: u8, act: Act) -> Task {
    Task::Act(user(who), act, Timestamp(NOW.0 + 50))
}

fn lapse(who: u8, after: Duration) -> Task {
    Task::Lapse(user(who), NOW.plus(after))
}

/// What it is about, what happens before, one after another, and the writers that then race.
type Scene = (&'static str, Vec<Task>, Vec<Task>);

fn scenes() -> Vec<Scene> {
    let later = LEASE + Duration::from_secs(60);
    let day = Duration::from_secs(24 * 3600);
    let late = i64::try_from(later.as_millis()).unwrap() - 1000;
    let until = Some(NOW.plus(day));
    let deny = Act::Deny { target: group("C"), reason: "leaving".into(), until };
    vec![
        (
            "the first logins of a new user, older and newer",
            vec![],
            vec![login(1, &["c"], "1", 10), login(1, &["d"], "2", 20), login(1, &["c", "d"], "3", 30)],
        ),
        (
            "older and newer logins of a known user",
            vec![login(1, &["a", "b", "c"], "0", 0)],
            vec![login(1, &["c"], "1", 10), login(1, &["d"], "2", 20), login(1, &[], "3", 30)],
        ),
        (
            "one token three times",
            vec![login(1, &["c"], "0", 0)],
            vec![login(1, &["d"], "1", 10), login(1, &["d"], "1", 11), login(1, &["d"], "1", 12)],
        ),
        (
            "one token for two users",
            vec![],
            vec![login(1, &["d"], "1", 10), login(2, &["d"], "1", 11), login(2, &["c"], "2", 12)],
        ),
        (
            "two providers of one user",
            vec![login(1, &["c"], "0", 0), through_q(1, &["c"], "q0", 0)],
            vec![login(1, &["d"], "1", 10), through_q(1, &[], "q1", 11), login(1, &[], "2", 12)],
        ),
        (
            "all holders of a protected group lose it",
            vec![login(1, &["b"], "0a", 0), login(2, &["b"], "0b", 0), login(3, &["b"], "0c", 0)],
            vec![login(1, &[], "1", 10), login(2, &[], "2", 11), login(3, &[], "3", 12)],
        ),
        (
            "all holders of a protected role lose it, one by a lease",
            vec![login(1, &["a"], "0a", 0), login(2, &["a"], "0b", 0)],
            vec![login(1, &[], "1", late), lapse(2, later), login(2, &["c"], "2", late)],
        ),
        (
            "two logins lose one group each that both hold",
            vec![login(1, &["a", "b"], "0a", 0), login(2, &["a", "b"], "0b", 0)],
            vec![login(1, &["a"], "1", 10), login(2, &["b"], "2", 11), login(1, &[], "3", 12)],
        ),
        (
            "more revocations than the brake lets pass",
            (1..=5).map(|who| login(who, &["c"], &format!("0{who}"), 0)).collect(),
            vec![login(1, &[], "1", 10), login(2, &[], "2", 11), login(3, &[], "3", 12)],
        ),
        (
            "a lease that ends and a login that renews it",
            vec![login(1, &["c"], "0", 0), login(2, &["c"], "0b", 0)],
            vec![lapse(1, later), login(1, &["c"], "1", late), lapse(1, later)],
        ),
        (
            "a lease that ends and a login that renews another",
            vec![login(1, &["c", "d"], "0", 0)],
            vec![lapse(1, later), login(1, &["d"], "1", late), lapse(1, later)],
        ),
        (
            "a deny that ends and a login",
            vec![login(1, &["c"], "0", 0), act(1, deny.clone())],
            vec![lapse(1, day * 2), login(1, &["c", "d"], "1", 10), lapse(1, day * 2)],
        ),
        (
            "an operator and two logins",
            vec![login(1, &["c"], "0", 0)],
            vec![act(1, Act::Assign(group("D"))), login(1, &["d"], "1", 10), login(1, &["c"], "2", 20)],
        ),
        (
            "an operator disables while two log in",
            vec![login(1, &["c"], "0", 0)],
            vec![act(1, Act::Disable), login(1, &["d"], "1", 10), login(1, &[], "2", 20)],
        ),
        (
            "an operator denies and disables before a first login",
            vec![],
            vec![act(1, deny), login(1, &["c"], "1", 10), login(1, &["c", "d"], "2", 20)],
        ),
    ]
}

#[test]
fn every_interleaving_keeps_the_laws() {
    let (mut states, mut most) = (0, 0);
    for (what, before, tasks) in scenes() {
        let checker = Model::new(&before, tasks, Guards::default()).checker().spawn_dfs().join();
        let broken = checker.discoveries().into_iter().next().map(|(law, path)| (law, path.into_actions()));
        assert_eq!(broken, None, "{what}");
        let seen = checker.unique_state_count();
        assert!(seen > 20, "{what}: only {seen} states");
        (states, most) = (states + seen, most.max(seen));
    }
    println!("{} scenes, {states} states, {most} in the largest", scenes().len());
}

/// Each part of the way to commit is needed: without it the checker finds an order that breaks a law.
#[test]
fn without_a_guard_an_interleaving_breaks_a_law() {
    let all = Guards::default();
    for (what, guards, law) in [
        ("the version is not compared", Guards { compares: false, ..all }, "an older login overwrites no newer one"),
        ("a spent token is not looked for", Guards { spends_once: false, ..all }, "a token is spent once"),
        ("targets are not locked", Guards { locks_targets: false, ..all }, "the last protected holder stays"),
        ("the version is not compared", Guards { compares: false, ..all }, "the end is that of some order"),
        ("targets are not locked", Guards { locks_targets: false, ..all }, "the end is that of some order"),
    ] {
        let breaks = |(_, before, tasks): Scene| {
            let checker = Model::new(&before, tasks, guards).checker().spawn_dfs().join();
            checker.discovery(law).is_some()
        };
        assert!(scenes().into_iter().any(breaks), "{what}, and yet {law}");
    }
}

/// A lease or a deny that ends and a login end in the same, whichever comes first.
#[test]
fn the_order_of_an_end_and_a_login_does_not_matter() {
    let ending = scenes().into_iter().filter(|(what, ..)| what.contains("that ends and"));
    let ends =
        ending.map(|(what, before, tasks)| (what, Model::new(&before, tasks, Guards::default()).held_at_the_end()));
    let ends: Vec<_> = ends.collect();
    assert_eq!(ends.len(), 3, "{ends:?}");
    for (what, ends) in ends {
        assert_eq!(ends.len(), 1, "{what}: {ends:?}");
    }
}

/// `make interleavings`: random histories, and random writers that race.
#[test]
#[ignore = "minutes; `make interleavings` runs it"]
fn every_interleaving_of_random_writers() {
    let rounds = std::env::var("INTERLEAVINGS").map_or(200, |text| text.parse().unwrap());
    let values = proptest::sample::subsequence(vec!["a", "b", "c", "d"], 0..=4);
    let token = prop_oneof![5 => (10i64..40).prop_map(|after| format!("t{after}")), 1 => Just("twice".to_owned())];
    let target = proptest::sample::select(vec!["A", "B", "C", "D"]);
    let task = prop_oneof![
        6 => (1u8..4, any::<bool>(), values, token, 10i64..40).prop_map(|(who, other, values, token, after)| {
            let provider = if other { "q" } else { "p" };
            Task::Login(Case { provider, ..case(who, &values, &format!("{provider}{token}"), after) })
        }),
        1 => (1u8..4, any::<bool>()).prop_map(|(who, late)| lapse(who, if late { LEASE * 2 } else { LEASE / 2 })),
        1 => (1u8..4, target).prop_map(|(who, name)| act(who, Act::Assign(group(name)))),
        // What is protected, an operator may take from its last holder.
        1 => (1u8..4, proptest::sample::select(vec!["C", "D"])).prop_map(|(who, name)| {
            act(who, Act::Deny { target: group(name), reason: "random".into(), until: None })
        }),
        1 => (1u8..4).prop_map(|who| act(who, Act::Enable)),
    ];
    let before =
        proptest::collection::vec((1u8..4, proptest::sample::subsequence(vec!["a", "b", "c", "d"], 0..=4)), 0..4);
    let before = before.prop_map(|list| {
        let numbered = list.into_iter().enumerate();
        numbered.map(|(at, (who, values))| login(who, &values, &format!("before{at}"), 0)).collect::<Vec<_>>()
    });
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(rounds)
    });
    let states = std::cell::Cell::new(0);
    let scenes = (before, proptest::collection::vec(task, 2..4));
    let found = runner.run(&scenes, |(before, tasks)| {
        let checker = Model::new(&before, tasks, Guards::default()).checker().spawn_dfs().join();
        states.set(states.get() + checker.unique_state_count());
        let broken = checker.discoveries().into_iter().next();
        prop_assert!(broken.is_none(), "{:?}", broken.map(|(law, path)| (law, path.into_actions())));
        Ok(())
    });
    found.unwrap_or_else(|error| panic!("{error}"));
    println!("{rounds} scenes, {} states", states.get());
}
