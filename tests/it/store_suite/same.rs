//! Two stores that hear the same come to the same.

use loginsync::ports::store::HoldFilter;
use proptest::prelude::*;

use super::*;

/// What may happen in a random history.
#[derive(Debug, Clone)]
enum Step {
    LogIn { user: usize, other: bool, values: Vec<usize> },
    Act { user: usize, kind: usize, target: usize },
    Rekey { old: usize, new: usize },
    Adopt { gone: Vec<usize> },
    Settle { release: bool },
    Reap,
}

const USERS: [&str; 4] = ["ann", "bob", "cid", "dan"];
const VALUES: [&str; 3] = ["a", "b", "c"];

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let some = || proptest::collection::vec(0..3_usize, 0..3);
    let step = prop_oneof![
        8 => (0..4_usize, any::<bool>(), some()).prop_map(|(user, other, values)| Step::LogIn { user, other, values }),
        6 => (0..4_usize, 0..8_usize, 0..3_usize).prop_map(|(user, kind, target)| Step::Act { user, kind, target }),
        1 => (0..4_usize, 0..4_usize).prop_map(|(old, new)| Step::Rekey { old, new }),
        2 => some().prop_map(|gone| Step::Adopt { gone }),
        1 => any::<bool>().prop_map(|release| Step::Settle { release }),
        1 => Just(Step::Reap),
    ];
    proptest::collection::vec(step, 1..40)
}

fn act(kind: usize, target: usize) -> Act {
    let target = [group("A"), group("B"), role("admin")][target].clone();
    match kind {
        0 | 1 => Act::Assign(target),
        2 => Act::Unassign(target),
        3 => Act::Deny { target, reason: "test".into(), until: Some(Timestamp(NOW.0 + 10)) },
        4 => Act::Undeny(target),
        5 => Act::Disable,
        6 => Act::Enable,
        _ => Act::Erase,
    }
}

/// Everything that a store shows, and what became of each step.
async fn history(store: &Store, steps: &[Step]) -> Vec<String> {
    let mut told = Vec::new();
    let mut current = Arc::new(rules());
    store.adopt(Arc::clone(&current), NOW).await.unwrap();
    for (number, step) in steps.iter().enumerate() {
        let at = Timestamp(NOW.0 + i64::try_from(number).unwrap());
        let outcome = match step {
            Step::LogIn { user, other, values } => {
                let values: Vec<&str> = values.iter().map(|value| VALUES[*value]).collect();
                let (token, issued) = (number.to_string(), i64::try_from(number).unwrap());
                let provider = if *other { "q" } else { "p" };
                let case =
                    Case { user: USERS[*user], provider, issued, token: &token, values: &values, ..Case::default() };
                format!("{:?}", apply(store, &current, case).await)
            }
            Step::Act { user, kind, target } => {
                format!("{:?}", store.act(self::user(USERS[*user]), act(*kind, *target), "test".into(), at).await)
            }
            Step::Rekey { old, new } => {
                let keys = vec![(self::user(USERS[*old]), self::user(USERS[*new]))];
                format!("{:?}", store.rekey(keys, true, Some("test".into()), at).await)
            }
            Step::Adopt { gone } => {
                let gone: Vec<&str> = gone.iter().map(|value| VALUES[*value]).collect();
                current = Arc::new(rules_without(&gone, 2 + number as u64));
                format!("{:?}", store.adopt(Arc::clone(&current), at).await)
            }
            Step::Settle { release } => {
                let (all, rules) = (HoldFilter::default(), Arc::clone(&current));
                match release {
                    true => format!("{:?}", store.release(all, rules, "test".into(), at).await),
                    false => format!("{:?}", store.discard(all, rules, "test".into(), at).await),
                }
            }
            Step::Reap => format!("{:?}", store.reap(Arc::clone(&current), at).await),
        };
        told.push(format!("{step:?}: {outcome}"));
    }
    for name in USERS {
        let view = store.user(user(name), Arc::clone(&current), NOW).await.unwrap();
        told.push(serde_json::to_string(&view).unwrap());
    }
    for target in [group("A"), group("B"), group("C")] {
        told.push(format!("{:?}", store.members(target, None, 10).await.unwrap()));
    }
    for row in store.audit(0, 1000).await.unwrap() {
        told.push(format!("{} {}", row.event, row.detail));
    }
    told
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn both_stores_come_to_the_same(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (kept, remembered) = runtime.block_on(async {
            let (sqlite, memory) = (open(), in_memory());
            (history(&sqlite.store, &steps).await, history(&memory.store, &steps).await)
        });
        prop_assert_eq!(kept, remembered);
    }
}
