//! The outbox: what receivers have still to hear, on every store.

use loginsync::ports::outbox::events::Listening;
use loginsync::ports::outbox::{Due, Local, STUCK, Settled, Whom};

use super::*;

const RECEIVERS: [&str; 2] = ["app", "mail"];

async fn follow(opened: &Opened, receivers: &[&str]) {
    let receivers = receivers.iter().map(|name| ((*name).to_owned(), Listening::default())).collect();
    opened.store.follow(&receivers).await.unwrap();
}

async fn log_in(opened: &Opened, user: &str, token: &str, values: &[&str]) {
    let issued = NOW.0 + token.parse::<i64>().unwrap();
    let case = Case { user, issued, token, values, ..Case::default() };
    assert!(matches!(apply(&opened.store, &Arc::new(rules()), case).await.unwrap(), Applied::Committed(_)));
}

/// What a receiver has to hear, after everything that is open was given to it.
async fn due(opened: &Opened, receiver: &str) -> Vec<Due> {
    let outbox = opened.store.outbox();
    let receivers = RECEIVERS.map(str::to_owned).to_vec();
    while outbox.spread(receivers.clone(), NOW, 2).await.unwrap() > 0 {}
    outbox.due(receiver.into(), NOW, 100).await.unwrap()
}

fn told(due: &[Due]) -> Vec<(String, i64, String)> {
    let name = |due: &Due| due.known.as_ref().map_or("gone".into(), |known| known.user.subject.to_string());
    let mut told: Vec<_> = due.iter().map(|due| (name(due), due.wanted, due.cause.clone())).collect();
    told.sort();
    told
}

async fn confirm_all(opened: &Opened, receiver: &str) {
    for due in due(opened, receiver).await {
        let settled = match due.known {
            Some(_) => Settled::Confirmed { version: due.wanted, state: Some(format!("v{}", due.wanted)) },
            None => Settled::Gone,
        };
        opened.store.outbox().settle(receiver.into(), due.number, settled).await.unwrap();
    }
}

fn row(name: &str, version: i64, cause: &str) -> (String, i64, String) {
    (name.into(), version, cause.into())
}

on_every_store!(a_version_rises_with_what_a_user_holds_and_not_with_a_login);
async fn a_version_rises_with_what_a_user_holds_and_not_with_a_login(opened: &Opened) {
    follow(opened, &RECEIVERS).await;
    log_in(opened, "alice", "1", &["a"]).await;
    assert_eq!(told(&due(opened, "app").await), [row("alice", 1, "login")]);
    confirm_all(opened, "app").await;
    log_in(opened, "alice", "2", &["a"]).await;
    assert_eq!(told(&due(opened, "app").await), []);
    // The other has confirmed nothing yet, and needs only the newest.
    log_in(opened, "alice", "3", &["a", "b"]).await;
    log_in(opened, "alice", "4", &["a"]).await;
    let known = due(opened, "mail").await;
    assert_eq!(told(&known), [row("alice", 3, "login")]);
    assert_eq!(known[0].confirmed, 0);
    let mine = due(opened, "app").await;
    assert_eq!((mine[0].confirmed, mine[0].state.as_deref(), mine[0].login.is_some()), (1, Some("v1"), true));
    let held = mine[0].known.as_ref().unwrap().record.holdings.keys().map(|grant| grant.target.clone());
    assert_eq!(held.collect::<Vec<_>>(), [group("A")]);
    let standing = opened.store.outbox().standing(user("alice")).await.unwrap();
    assert_eq!(standing.version, 3);
    let confirmed: Vec<_> =
        standing.receivers.iter().map(|row| (row.receiver.as_str(), row.version, row.state.as_deref())).collect();
    assert_eq!(confirmed, [("app", 1, Some("v1")), ("mail", 0, None)]);
}

on_every_store!(what_was_sent_is_kept_until_something_is_confirmed);
async fn what_was_sent_is_kept_until_something_is_confirmed(opened: &Opened) {
    follow(opened, &["app"]).await;
    let outbox = opened.store.outbox();
    log_in(opened, "alice", "1", &["a"]).await;
    let number = due(opened, "app").await[0].number;
    let known = async || {
        let row = outbox.standing(user("alice")).await.unwrap().receivers.remove(0);
        (row.version, row.state, row.tried)
    };
    outbox.attempt("app".into(), number, "sent".into()).await.unwrap();
    outbox.settle("app".into(), number, Settled::Failed { fault: "away".into(), due: NOW }).await.unwrap();
    assert_eq!(known().await, (0, None, Some("sent".into())));
    assert_eq!(due(opened, "app").await[0].tried.as_deref(), Some("sent"));
    confirm_all(opened, "app").await;
    assert_eq!(known().await, (1, Some("v1".into()), None));
    // It is told anew, and may still know what it was told.
    outbox.forget("app".into(), None).await.unwrap();
    assert_eq!(known().await, (0, None, Some("v1".into())));
}

on_every_store!(every_way_to_change_what_a_user_holds_raises_the_version);
async fn every_way_to_change_what_a_user_holds_raises_the_version(opened: &Opened) {
    follow(opened, &RECEIVERS).await;
    log_in(opened, "alice", "1", &["a"]).await;
    confirm_all(opened, "app").await;
    let acts = [
        Act::Assign(group("B")),
        Act::Deny { target: group("A"), reason: "why".into(), until: None },
        Act::Undeny(group("A")),
        Act::Unassign(group("B")),
        Act::Disable,
        Act::Enable,
    ];
    for (version, act) in (2..).zip(acts) {
        opened.store.act(user("alice"), act.clone(), "root".into(), NOW).await.unwrap();
        let due = due(opened, "app").await;
        assert_eq!(due.len(), 1, "{act:?}");
        assert_eq!(due[0].wanted, version, "{act:?}");
        confirm_all(opened, "app").await;
    }
    // A person who is erased goes with all that is kept about delivering to them, for a receiver that is gone as well.
    let gone_receiver = async || opened.store.outbox().due("gone".into(), STUCK, 10).await.unwrap();
    opened.store.outbox().raise(Whom::Everyone, "asked", NOW).await.unwrap();
    opened.store.outbox().spread(vec!["gone".into(), "app".into(), "mail".into()], NOW, 10).await.unwrap();
    assert_eq!(gone_receiver().await.len(), 1);
    confirm_all(opened, "app").await;
    opened.store.act(user("alice"), Act::Erase, "root".into(), NOW).await.unwrap();
    let gone = due(opened, "app").await;
    assert_eq!(told(&gone), [row("gone", 9, "user_erased")]);
    assert_eq!(gone[0].state.as_deref(), Some("v8"));
    assert!(gone_receiver().await.is_empty());
    let outbox = opened.store.outbox();
    outbox.settle("app".into(), gone[0].number, Settled::Gone).await.unwrap();
    assert_eq!(told(&due(opened, "mail").await), [row("gone", 9, "user_erased")]);
    outbox.settle("mail".into(), gone[0].number, Settled::Gone).await.unwrap();
    assert!(due(opened, "app").await.is_empty() && due(opened, "mail").await.is_empty());
}

on_every_store!(what_rules_and_other_keys_end_raises_the_version);
async fn what_rules_and_other_keys_end_raises_the_version(opened: &Opened) {
    follow(opened, &RECEIVERS).await;
    log_in(opened, "alice", "1", &["a", "b"]).await;
    log_in(opened, "bob", "2", &["a"]).await;
    confirm_all(opened, "app").await;
    let fewer = Arc::new(rules_without(&["b"], 2));
    opened.store.make_current(Arc::clone(&fewer), NOW).await.unwrap();
    opened.store.finish_work().await.unwrap();
    let due_now = due(opened, "app").await;
    assert_eq!(due_now.iter().map(|due| due.wanted).collect::<Vec<_>>(), [2]);
    assert_eq!(due_now[0].known.as_ref().unwrap().user, user("alice"));
    confirm_all(opened, "app").await;
    let outbox = opened.store.outbox();
    assert_eq!(outbox.raise(Whom::Holders(group("A")), "roles", NOW).await.unwrap(), 2);
    assert_eq!(told(&due(opened, "app").await), [row("alice", 3, "roles"), row("bob", 2, "roles")]);
    confirm_all(opened, "app").await;
    // One becomes another: the first is gone, the second has changed.
    let keys = vec![(user("bob"), user("alice"))];
    opened.store.rekey(keys, true, Some("root".into()), NOW).await.unwrap();
    let due_now = due(opened, "app").await;
    assert!(due_now.iter().any(|due| due.known.is_none()), "{due_now:?}");
    confirm_all(opened, "app").await;
    assert_eq!(outbox.raise(Whom::User(user("alice")), "asked", NOW).await.unwrap(), 1);
    assert_eq!(outbox.raise(Whom::User(user("nobody")), "asked", NOW).await.unwrap(), 0);
    assert_eq!(outbox.raise(Whom::Everyone, "asked", NOW).await.unwrap(), 1);
}

on_every_store!(a_group_that_is_renamed_or_removed_raises_its_holders);
async fn a_group_that_is_renamed_or_removed_raises_its_holders(opened: &Opened) {
    follow(opened, &RECEIVERS).await;
    let store = &*opened.store;
    let rules = Arc::new(rules());
    let stored = |names: &[&str], generation: i64| {
        let mut stored = Stored { generation, ..Stored::default() };
        for name in names {
            let number = stored.next_number();
            let body = GroupBody { name: (*name).to_owned(), own: Some(OwnGroup::default()) };
            stored.groups.insert(number, Arc::new(Entry::new(number, format!("{name}-{generation}"), NOW, body)));
        }
        Arc::new(stored)
    };
    let revise = async |generation: i64, renamed: Vec<(Target, Target)>, had: &[&str], has: &[&str]| {
        let revision = Revision {
            before: stored(had, generation),
            after: stored(has, generation + 1),
            renamed,
            rules: Some(Arc::clone(&rules)),
            confirmed: true,
            client: None,
            events: Vec::new(),
            now: NOW,
        };
        store.revise(revision).await.unwrap();
    };
    store.act(user("alice"), Act::Assign(group("A")), "root".into(), NOW).await.unwrap();
    store.act(user("bob"), Act::Assign(group("B")), "root".into(), NOW).await.unwrap();
    confirm_all(opened, "app").await;
    revise(0, Vec::new(), &[], &["A"]).await;
    assert_eq!(told(&due(opened, "app").await), []);
    revise(1, vec![(group("A"), group("Z"))], &["A"], &["Z"]).await;
    assert_eq!(told(&due(opened, "app").await), [row("alice", 2, "renamed")]);
    confirm_all(opened, "app").await;
    revise(2, Vec::new(), &["Z"], &[]).await;
    assert_eq!(told(&due(opened, "app").await), [row("alice", 3, "removed")]);
}

on_every_store!(what_fails_is_put_off_and_a_change_brings_back_what_is_stuck);
async fn what_fails_is_put_off_and_a_change_brings_back_what_is_stuck(opened: &Opened) {
    follow(opened, &RECEIVERS).await;
    log_in(opened, "alice", "1", &["a"]).await;
    log_in(opened, "bob", "2", &["a"]).await;
    let outbox = opened.store.outbox();
    let first = due(opened, "app").await;
    let fail = |number, due: Timestamp| {
        let settled = Settled::Failed { fault: "it says no".into(), due };
        outbox.settle("app".into(), number, settled)
    };
    fail(first[0].number, NOW.plus(Duration::from_secs(5))).await.unwrap();
    fail(first[1].number, STUCK).await.unwrap();
    assert!(due(opened, "app").await.is_empty());
    let tally = outbox.tally("app".into()).await.unwrap();
    assert_eq!((tally.pending, tally.stuck, tally.oldest.is_some()), (2, 1, true));
    let later = outbox.due("app".into(), NOW.plus(Duration::from_secs(5)), 10).await.unwrap();
    assert_eq!((later.len(), later[0].failures, later[0].fault.as_deref()), (1, 1, Some("it says no")));
    // Neither the one that waits nor the other receiver is hurried.
    log_in(opened, "alice", "3", &["b"]).await;
    log_in(opened, "bob", "4", &["b"]).await;
    assert_eq!(told(&due(opened, "app").await), [row("bob", 2, "login")]);
    assert_eq!(outbox.tally("mail".into()).await.unwrap().pending, 2);
}

on_every_store!(a_receiver_that_comes_later_hears_of_users_at_their_next_login);
async fn a_receiver_that_comes_later_hears_of_users_at_their_next_login(opened: &Opened) {
    // Without receivers nothing is noted.
    follow(opened, &[]).await;
    log_in(opened, "alice", "1", &["a"]).await;
    assert_eq!(opened.store.outbox().standing(user("alice")).await.unwrap().version, 0);
    follow(opened, &["app"]).await;
    log_in(opened, "alice", "2", &["a"]).await;
    log_in(opened, "bob", "3", &["a"]).await;
    let outbox = opened.store.outbox();
    assert_eq!(outbox.spread(vec!["app".into()], NOW, 10).await.unwrap(), 2);
    for due in outbox.due("app".into(), NOW, 10).await.unwrap() {
        let settled = Settled::Confirmed { version: due.wanted, state: Some("told".into()) };
        outbox.settle("app".into(), due.number, settled).await.unwrap();
    }
    follow(opened, &RECEIVERS).await;
    log_in(opened, "alice", "4", &["a"]).await;
    assert_eq!(told(&due(opened, "mail").await), [row("alice", 1, "login")]);
    assert!(due(opened, "app").await.is_empty());
    log_in(opened, "alice", "5", &["a"]).await;
    assert_eq!(outbox.spread(vec!["app".into()], NOW, 10).await.unwrap(), 0);
}

/// Tables of the outbox are added in place: what is beside them stays as it is.
#[tokio::test]
async fn a_file_of_schema_version_9_gets_the_outbox_in_place() {
    let opened = open();
    log_in(&opened, "alice", "1", &["a"]).await;
    let path = opened.path();
    let older = rusqlite::Connection::open(&path).unwrap();
    older
        .execute_batch("DROP TABLE followed; DROP TABLE delivered; DROP TABLE console; DROP TABLE remote; DROP TABLE events; PRAGMA user_version = 9;")
        .unwrap();
    drop(older);
    let store = Store::from(SqliteStore::open(&path, settings(Some(b"an audit key for tests, 32 bytes"))).unwrap());
    let version: i64 = opened.intruder().pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert_eq!(version, 13);
    assert_eq!(groups(&store, &Arc::new(rules()), "alice").await, ["A"]);
    assert_eq!(store.outbox().raise(Whom::Everyone, "asked", NOW).await.unwrap(), 1);
    let beside = std::fs::read_dir(opened.folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(!beside.into_iter().any(|name| name.to_string_lossy().contains("schema")), "no copy is kept");
}

on_every_store!(notes_are_kept_by_name);
async fn notes_are_kept_by_name(opened: &Opened) {
    let outbox = opened.store.outbox();
    assert_eq!(outbox.note("app".into()).await.unwrap(), None);
    outbox.set_note("app".into(), b"one".to_vec()).await.unwrap();
    outbox.set_note("app".into(), b"two".to_vec()).await.unwrap();
    assert_eq!(outbox.note("app".into()).await.unwrap().as_deref(), Some(b"two".as_slice()));
}

on_every_store!(ids_of_a_receiver_are_kept_and_each_is_one_here);
async fn ids_of_a_receiver_are_kept_and_each_is_one_here(opened: &Opened) {
    follow(opened, &RECEIVERS).await;
    log_in(opened, "alice", "1", &["a"]).await;
    let outbox = opened.store.outbox();
    let alice = Local::User(due(opened, "app").await[0].number);
    let (bob, staff) = (Local::User(4711), Local::Group("Staff".into()));
    let set = async |receiver: &str, local: &Local, remote: Option<&str>, takes| {
        outbox.set_remote(receiver.into(), local.clone(), remote.map(str::to_owned), takes).await.unwrap()
    };
    let get = async |receiver: &str, local: &Local| outbox.remote(receiver.into(), local.clone()).await.unwrap();
    assert_eq!(get("app", &alice).await, None);
    assert!(set("app", &alice, Some("1"), false).await && set("app", &staff, Some("1"), false).await);
    assert!(set("mail", &bob, Some("1"), false).await && set("app", &alice, Some("1"), false).await);
    assert!(!set("app", &bob, Some("1"), false).await, "another user has it");
    assert_eq!((get("app", &alice).await.as_deref(), get("app", &bob).await), (Some("1"), None));
    assert!(set("app", &bob, Some("1"), true).await);
    assert_eq!((get("app", &alice).await, get("app", &bob).await.as_deref()), (None, Some("1")));
    assert!(set("app", &alice, Some("2"), false).await && set("app", &bob, None, false).await);
    let all = outbox.remotes("app".into()).await.unwrap();
    assert_eq!(all, [(alice.clone(), "2".into()), (staff.clone(), "1".into())]);
    // What is told anew goes to the same.
    outbox.forget("app".into(), None).await.unwrap();
    assert_eq!(outbox.remotes("app".into()).await.unwrap().len(), 2);
    let told = outbox.told("app".into()).await.unwrap();
    assert_eq!((told.len(), told[0].state.as_deref(), told[0].tried.as_deref()), (1, None, None));
    // Of a user who is gone nothing is kept.
    for receiver in ["app", "mail", "gone"] {
        set(receiver, &alice, Some("9"), false).await;
    }
    opened.store.act(user("alice"), Act::Erase, "root".into(), NOW).await.unwrap();
    confirm_all(opened, "app").await;
    assert_eq!((get("app", &alice).await, get("gone", &alice).await), (None, None));
    assert_eq!(get("mail", &alice).await.as_deref(), Some("9"), "it has to hear of it yet");
}
