//! Events that are not state: a bounded queue for each receiver, on every store.

use loginsync::pipeline::mapping::definition::Definition;
use loginsync::pipeline::mapping::stored::MappingBody;
use loginsync::ports::outbox::events::{EventSettled, Listening, WaitingEvent};
use loginsync::ports::store::HoldFilter;
use serde_json::{Value, json};

use super::rules::{Log, brought, configured, mapped, with_one_hold};
use super::*;

const TIGHT: &str = "[brake]\nminimum = 2\nshare = \"10%\"\n";
const EVENTS: [&str; 5] = ["hold.created", "hold.released", "hold.discarded", "mapping.changed", "login.refused"];
/// Later than anything is due.
const LATER: Timestamp = Timestamp(i64::MAX - 1);

fn names<const N: usize>(names: [&str; N]) -> std::collections::BTreeSet<String> {
    names.map(str::to_owned).into()
}

async fn follow(opened: &Opened, receivers: &[(&str, Listening)]) {
    let receivers = receivers.iter().map(|(name, listening)| ((*name).to_owned(), listening.clone()));
    opened.store.follow(&receivers.collect()).await.unwrap();
}

async fn waiting(opened: &Opened, receiver: &str) -> Vec<WaitingEvent> {
    opened.store.outbox().events(receiver.into(), LATER, 10_000).await.unwrap()
}

/// Kind, whether it is about a user, and what is said.
async fn told(opened: &Opened, receiver: &str) -> Vec<(String, bool, Value)> {
    let mut told: Vec<_> = waiting(opened, receiver)
        .await
        .into_iter()
        .map(|event| (event.event, event.user.is_some(), serde_json::from_str(&event.data).unwrap()))
        .collect();
    told.sort_by_key(|(event, ..)| event.clone());
    told
}

async fn counts(opened: &Opened, receiver: &str) -> (u64, u64) {
    let tally = opened.store.outbox().tally(receiver.into()).await.unwrap();
    (tally.events, tally.dropped)
}

async fn refuse(opened: &Opened, through: &str, token: &str, now: Timestamp) {
    let refusal = Refusal {
        id: format!("login-{token}"),
        provider: provider(through),
        token_id: token.into(),
        now,
        reason: "a text that quotes what the token says".into(),
        arrived: Vec::new(),
        remember_until: now.plus(Duration::from_secs(600)),
    };
    opened.store.record_refusal(refusal).await.unwrap();
}

on_every_store!(holds_are_told_as_filters_take_them);
async fn holds_are_told_as_filters_take_them(opened: &Opened) {
    let all = Listening { events: names(EVENTS), ..Listening::default() };
    let receivers = [
        ("all", all.clone()),
        ("by_event", Listening { events: names(["hold.released"]), ..Listening::default() }),
        ("by_group", Listening { groups: Some(names(["Loose"])), ..all.clone() }),
        ("by_provider", Listening { providers: names(["q"]), ..all.clone() }),
        ("deaf", Listening::default()),
    ];
    follow(opened, &receivers).await;
    let (store, by) = (&*opened.store, || String::from("test"));
    let rules = configured(&(mapped(&[("staff", "Staff")]) + TIGHT), 1);
    let mut log = Log::new(store);
    with_one_hold(&mut log, &rules).await;
    let hold = |cause: &str, login: Value| {
        json!({
            "cause": cause, "login": login, "provider": "p", "disabling": false,
            "targets": [{ "kind": "group", "name": "Staff" }],
        })
    };
    let created = told(opened, "all").await;
    let login = created[0].2["login"].clone();
    assert!(login.is_string(), "{created:?}");
    assert_eq!(created, [("hold.created".into(), true, hold("login", login))]);
    // The value returns: what was held stays, and nothing is held any more.
    log.plan(&rules, "user-2", brought(&["staff"]), 2000).await;
    let discarded = told(opened, "all").await;
    assert_eq!((discarded.len(), discarded[1].0.as_str()), (2, "hold.discarded"), "{discarded:?}");
    log.plan(&rules, "user-2", brought(&[]), 3000).await;
    assert_eq!(store.discard(HoldFilter::default(), Arc::clone(&rules), by(), NOW).await.unwrap(), 1);
    assert_eq!(told(opened, "all").await.iter().filter(|(event, ..)| event == "hold.discarded").count(), 2);
    log.plan(&rules, "user-3", brought(&[]), 4000).await;
    log.plan(&rules, "user-4", brought(&[]), 5000).await;
    log.plan(&rules, "user-5", brought(&[]), 6000).await;
    let held = store.holds(HoldFilter::default(), Arc::clone(&rules)).await.unwrap().len();
    assert!(held > 0);
    assert_eq!(store.release(HoldFilter::default(), Arc::clone(&rules), by(), NOW).await.unwrap(), held as u64);
    let released = told(opened, "by_event").await;
    assert_eq!(released.len(), held);
    assert_eq!(released[0], ("hold.released".into(), true, hold("replanned", Value::Null)));
    for receiver in ["by_group", "by_provider", "deaf"] {
        assert!(told(opened, receiver).await.is_empty(), "{receiver}");
    }
}

on_every_store!(a_refused_login_is_told_once_and_without_what_it_claims);
async fn a_refused_login_is_told_once_and_without_what_it_claims(opened: &Opened) {
    let hears = Listening { events: names(["login.refused"]), ..Listening::default() };
    let of_q = Listening { providers: names(["q"]), ..hears.clone() };
    follow(opened, &[("app", hears), ("q", of_q), ("deaf", Listening::default())]).await;
    for token in ["one", "one", "two"] {
        refuse(opened, "p", token, NOW).await;
    }
    let refused = told(opened, "app").await;
    assert_eq!(refused.len(), 2, "once for each token: {refused:?}");
    let expected = json!({ "provider": "p", "login": "login-one", "outcome": "refused" });
    assert!(refused.contains(&("login.refused".into(), false, expected)), "{refused:?}");
    assert!(told(opened, "q").await.is_empty() && told(opened, "deaf").await.is_empty());
    // One of a user who is known, and is disabled.
    apply(&opened.store, &Arc::new(rules()), Case { token: "3", ..Case::default() }).await.unwrap();
    opened.store.act(user("alice"), Act::Disable, "root".into(), NOW).await.unwrap();
    apply(&opened.store, &Arc::new(rules()), Case { token: "4", ..Case::default() }).await.unwrap();
    let outcomes = told(opened, "app").await;
    assert!(outcomes.iter().any(|(_, about, data)| *about && data["outcome"] == "disabled"), "{outcomes:?}");
}

on_every_store!(a_mapping_that_an_api_changes_is_told);
async fn a_mapping_that_an_api_changes_is_told(opened: &Opened) {
    let all = Listening { events: names(["mapping.changed"]), ..Listening::default() };
    let of_b = Listening { groups: Some(names(["B"])), roles: Some(names([])), ..all.clone() };
    follow(opened, &[("all", all), ("b", of_b)]).await;
    let with = |of: &[(i64, &str, u32)], generation: i64| {
        let mut stored = Stored { generation, last_number: 9, ..Stored::default() };
        for (number, name, position) in of {
            let mut definition = Definition::of_value("p", "groups", "a", None, &group(name));
            definition.name = Some(format!("m{number}"));
            let body = MappingBody { definition, position: Some(*position), admin: true, any_claim: false };
            stored.mappings.insert(*number, Arc::new(Entry::new(*number, format!("key-{number}"), NOW, body)));
        }
        Arc::new(stored)
    };
    let steps: [&[(i64, &str, u32)]; 5] =
        [&[], &[(1, "A", 1), (2, "B", 2)], &[(1, "A", 2), (2, "B", 1)], &[(1, "C", 2), (2, "B", 1)], &[(1, "C", 1)]];
    for (generation, pair) in (0..).zip(steps.windows(2)) {
        let revision = Revision {
            before: with(pair[0], generation),
            after: with(pair[1], generation + 1),
            renamed: Vec::new(),
            rules: Some(Arc::new(rules())),
            confirmed: true,
            client: None,
            events: Vec::new(),
            // So that they wait in this order.
            now: NOW.plus(Duration::from_secs(generation.unsigned_abs())),
        };
        opened.store.revise(revision).await.unwrap();
    }
    let said = async |receiver: &str| -> Vec<(Vec<String>, bool)> {
        let all = waiting(opened, receiver).await;
        let data = all.iter().map(|event| serde_json::from_str::<Value>(&event.data).unwrap());
        let read = |data: Value| {
            let of = |mapping: &Value| {
                format!("{} {}", mapping["change"].as_str().unwrap(), mapping["key"].as_str().unwrap())
            };
            let mappings = data["mappings"].as_array().unwrap().iter().map(of).collect();
            (mappings, data["reordered"].as_bool().unwrap())
        };
        data.map(read).collect()
    };
    let row = |mappings: &[&str], reordered: bool| (mappings.iter().map(|it| (*it).to_owned()).collect(), reordered);
    let expected = [
        row(&["created key-1", "created key-2"], false),
        row(&[], true),
        row(&["changed key-1"], false),
        row(&["removed key-2"], false),
    ];
    assert_eq!(said("all").await, expected);
    assert_eq!(said("b").await, [row(&["created key-2"], false), row(&[], true), row(&["removed key-2"], false)]);
}

on_every_store!(where_too_many_wait_the_oldest_are_dropped_and_counted);
async fn where_too_many_wait_the_oldest_are_dropped_and_counted(opened: &Opened) {
    let hears = Listening { events: names(["login.refused"]), ..Listening::default() };
    follow(opened, &[("app", hears.clone()), ("other", hears.clone()), ("gone", hears)]).await;
    for number in 0..7 {
        refuse(opened, "p", &number.to_string(), NOW.plus(Duration::from_secs(number))).await;
    }
    let outbox = opened.store.outbox();
    let first = waiting(opened, "other").await.remove(0);
    outbox.settle_event("other".into(), first.id, EventSettled::Taken).await.unwrap();
    let trim = async |most| outbox.trim_events(vec!["app".into(), "other".into()], most).await.unwrap();
    assert_eq!(trim(7).await, []);
    assert_eq!(trim(3).await, [("app".to_owned(), 4), ("other".to_owned(), 3)]);
    assert_eq!(trim(3).await, []);
    let left: Vec<String> = waiting(opened, "app").await.into_iter().map(|event| event.data).collect();
    assert!(left[0].contains("login-4") && left[2].contains("login-6"), "{left:?}");
    assert_eq!((counts(opened, "app").await, counts(opened, "other").await), ((3, 4), (3, 3)));
    assert_eq!(counts(opened, "gone").await, (0, 0), "nothing is kept for a receiver that is gone");
    refuse(opened, "p", "7", NOW.plus(Duration::from_secs(7))).await;
    assert_eq!(trim(3).await, [("app".to_owned(), 1), ("other".to_owned(), 1)]);
    assert_eq!(counts(opened, "app").await, (3, 5));
    // Nothing of this is state.
    assert_eq!(outbox.tally("app".into()).await.unwrap().pending, 0);
}

on_every_store!(what_became_of_an_event_is_noted);
async fn what_became_of_an_event_is_noted(opened: &Opened) {
    let hears = Listening { events: names(["login.refused"]), ..Listening::default() };
    follow(opened, &[("app", hears)]).await;
    let outbox = opened.store.outbox();
    let due = async |now| outbox.events("app".into(), now, 10).await.unwrap();
    for token in ["one", "two", "three"] {
        refuse(opened, "p", token, NOW).await;
    }
    let settle = async |id: &str, settled| outbox.settle_event("app".into(), id.into(), settled).await.unwrap();
    let all = due(NOW).await;
    assert_eq!((all.len(), all[0].failures), (3, 0));
    let later = NOW.plus(Duration::from_secs(5));
    settle(&all[0].id, EventSettled::Failed { fault: "away".into(), due: later }).await;
    settle(&all[1].id, EventSettled::Taken).await;
    settle(&all[2].id, EventSettled::Dropped).await;
    settle(&all[2].id, EventSettled::Dropped).await;
    assert!(due(NOW).await.is_empty());
    let again = due(later).await;
    assert_eq!((again.len(), &again[0].id, again[0].failures), (1, &all[0].id, 1));
    assert_eq!(counts(opened, "app").await, (1, 1), "what is gone is counted once");
    outbox.hurry("app".into(), None, NOW).await.unwrap();
    assert_eq!(due(NOW).await.len(), 1, "an operator asks for it now");
    // The store hears what receivers of a later start listen to.
    opened.store.follow_served().await.unwrap();
    refuse(opened, "p", "four", NOW).await;
    assert_eq!(counts(opened, "app").await, (2, 1));
}
