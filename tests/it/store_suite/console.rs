//! Sessions of the console, the same on every store.

use loginsync::config::Scope;
use loginsync::pipeline::ids::{Namespace, Subject, Timestamp, UserId};
use loginsync::ports::console::{MOST, Operator, SignIn};
use loginsync::ports::sessions::Digest;
use loginsync::ports::store::postgres::Shared;
use loginsync::ports::store::sqlite::SqliteStore;
use loginsync::ports::store::{Act, By, Store};

use serde_json::json;

use super::{NOW, Opened, in_memory, in_postgres, open, settings};

const MINUTE: i64 = 60_000;

fn at(milliseconds: i64) -> Timestamp {
    Timestamp(NOW.0 + milliseconds)
}

fn sign_in(key: &str, is_link: bool, idle: i64, expires: i64) -> SignIn {
    SignIn {
        key: Digest::of(key.as_bytes()),
        is_link,
        operator: Operator {
            name: "root by link".into(),
            scopes: vec![Scope::Read, Scope::WriteMappings],
            person: None,
        },
        created_at: NOW,
        idle_until: at(idle),
        expires_at: at(expires),
    }
}

on_every_store!(what_happened_to_a_person_comes_the_newest_first);
async fn what_happened_to_a_person_comes_the_newest_first(opened: &Opened) {
    let store = &opened.store;
    let user = |subject: &str| UserId {
        namespace: Namespace::parse("oidc").unwrap(),
        subject: Subject::parse(subject).unwrap(),
    };
    for subject in ["one", "two"] {
        let by = By { name: "test".into(), admin: true, epoch: None };
        let create = Act::Create { email: None, display_name: None, enabled: true };
        store.act(user(subject), create, by, NOW).await.unwrap();
    }
    for count in 1..=3 {
        let detail = json!({ "sessions": count });
        store.note_about(user("one"), "sessions_ended", detail, at(count)).await.unwrap();
    }
    assert!(store.note_about(user("none"), "sessions_ended", json!({}), NOW).await.is_err());
    let number = store.number(user("one")).await.unwrap().unwrap();
    let rows = store.audit_about(number, 2).await.unwrap();
    let told: Vec<_> = rows.iter().map(|row| row.detail["sessions"].clone()).collect();
    assert_eq!(told, [json!(3), json!(2)]);
    assert_eq!(store.audit_about(number, 100).await.unwrap().len(), 4, "those of the other are not among them");
    assert_eq!(store.verify_audit().await.unwrap().broken, None);
}

on_every_store!(a_link_is_spent_once_and_a_session_ends);
async fn a_link_is_spent_once_and_a_session_ends(opened: &Opened) {
    let console = opened.store.console();
    let key = |key: &str| Digest::of(key.as_bytes());
    let (link, late, session) = (
        sign_in("link", true, MINUTE, MINUTE),
        sign_in("late", true, MINUTE, MINUTE),
        sign_in("s", false, MINUTE, 8 * MINUTE),
    );
    for one in [&link, &late, &session] {
        console.add(one.clone()).await.unwrap();
    }
    assert_eq!(console.list(NOW).await.unwrap().len(), 3);
    assert_eq!(console.session(key("link"), NOW).await.unwrap(), None, "a link is not a session");
    assert_eq!(console.spend(key("s"), NOW).await.unwrap(), None, "nor the other way round");
    assert_eq!(console.session(key("s"), NOW).await.unwrap(), Some(session.clone()));
    let (one, two) = tokio::join!(console.spend(key("link"), NOW), console.spend(key("link"), NOW));
    let mut both = [one.unwrap(), two.unwrap()];
    both.sort_by_key(Option::is_none);
    assert_eq!(both, [Some(link), None]);
    assert_eq!(console.spend(key("late"), at(MINUTE)).await.unwrap(), None);
    // Idle, then in use, then too old.
    assert_eq!(console.session(key("s"), at(MINUTE)).await.unwrap(), None);
    console.extend(key("s"), at(20 * MINUTE)).await.unwrap();
    console.extend(key("s"), at(2 * MINUTE)).await.unwrap();
    assert!(console.session(key("s"), at(8 * MINUTE - 1)).await.unwrap().is_some());
    assert_eq!(console.session(key("s"), at(8 * MINUTE)).await.unwrap(), None);
    assert_eq!(console.end(Some(key("s"))).await.unwrap(), 1);
    assert_eq!(console.end(Some(key("s"))).await.unwrap(), 0);
}

on_every_store!(sign_ins_are_bounded_swept_and_ended_together);
async fn sign_ins_are_bounded_swept_and_ended_together(opened: &Opened) {
    let console = opened.store.console();
    console.add(sign_in("over", false, MINUTE, MINUTE)).await.unwrap();
    for number in 0..MOST + 5 {
        let later =
            SignIn { created_at: at(MINUTE), ..sign_in(&number.to_string(), false, 10 * MINUTE, 10 * MINUTE + number) };
        console.add(later).await.unwrap();
    }
    let live = console.list(at(MINUTE)).await.unwrap();
    assert_eq!(i64::try_from(live.len()).unwrap(), MOST, "those that would end first have gone");
    assert!(live.iter().all(|one| one.expires_at >= at(10 * MINUTE + 5)));
    assert_eq!(i64::try_from(console.end(None).await.unwrap()).unwrap(), MOST);
    assert!(console.list(at(MINUTE)).await.unwrap().is_empty());
}

on_every_store!(a_restored_store_has_no_operators);
async fn a_restored_store_has_no_operators(opened: &Opened) {
    let console = opened.store.console();
    console.add(sign_in("s", false, MINUTE, MINUTE)).await.unwrap();
    opened.store.restored("test".into(), NOW).await.unwrap();
    assert!(console.list(NOW).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_file_of_schema_version_10_gets_the_table_in_place() {
    let opened = open();
    let path = opened.path();
    opened
        .intruder()
        .execute_batch("DROP TABLE console; DROP TABLE remote; DROP TABLE events; PRAGMA user_version = 10;")
        .unwrap();
    let again = Store::from(SqliteStore::open(&path, settings(Some(b"an audit key for tests, 32 bytes"))).unwrap());
    again.console().add(sign_in("s", false, MINUTE, MINUTE)).await.unwrap();
    assert_eq!(again.console().list(NOW).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_database_of_schema_version_2_gets_the_table_in_place() {
    let Some(database) = crate::support::postgres::database().await else { return };
    drop(Shared::open(database.settings(None)).await.unwrap());
    let client = database.client().await;
    client
        .batch_execute(
            "DROP TABLE loginsync.console; DROP TABLE loginsync.remote; DROP TABLE loginsync.events; UPDATE loginsync.schema SET version = 2",
        )
        .await
        .unwrap();
    let again = Store::from(Shared::open(database.settings(None)).await.unwrap());
    again.console().add(sign_in("s", false, MINUTE, MINUTE)).await.unwrap();
    assert_eq!(again.console().list(NOW).await.unwrap().len(), 1);
}
