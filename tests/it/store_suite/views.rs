//! The views for queries by hand say the same in both databases.

use std::collections::BTreeSet;

use rusqlite::types::ValueRef;
use serde_json::{Map, Value, json};

use super::*;

const VIEWS: [&str; 3] = ["grants", "memberships", "logins"];

/// The rows of a view in SQLite, by column; numbers of users are each store's own.
fn in_file(opened: &Opened, view: &str) -> BTreeSet<String> {
    let connection = opened.intruder();
    let mut select = connection.prepare(&format!("SELECT * FROM {view}")).unwrap();
    let columns: Vec<String> = select.column_names().map(str::to_owned).collect();
    let mut rows = select.query([]).unwrap();
    let mut found = BTreeSet::new();
    while let Some(row) = rows.next().unwrap() {
        let members = columns.iter().enumerate().map(|(at, column)| {
            let value = match row.get_ref(at).unwrap() {
                ValueRef::Null => Value::Null,
                // SQLite has no booleans.
                ValueRef::Integer(value) if column == "as_admin" => json!(value == 1),
                ValueRef::Integer(value) => json!(value),
                other => json!(other.as_str().unwrap()),
            };
            (column.clone(), value)
        });
        found.insert(without_number(members.collect()));
    }
    found
}

async fn on_server(client: &tokio_postgres::Client, view: &str) -> BTreeSet<String> {
    let rows = client.query(&format!("SELECT row_to_json(v)::text FROM loginsync.{view} AS v"), &[]).await.unwrap();
    rows.iter().map(|row| without_number(serde_json::from_str(row.get(0)).unwrap())).collect()
}

fn without_number(mut row: Map<String, Value>) -> String {
    assert!(row.remove("user_id").unwrap().is_i64());
    Value::Object(row).to_string()
}

/// Mapped and assigned grants, one that is held, a role through a group, denies of a group and of such a role, and a disabled user.
async fn fill(store: &Store) {
    let rules = Arc::new(rules());
    store.adopt(Arc::clone(&rules), NOW).await.unwrap();
    plan(store, &rules, Case { token: "1", values: &["a", "b"], ..Case::default() }).await;
    plan(store, &rules, Case { user: "bob", token: "2", provider: "q", values: &["a", "b"], ..Case::default() }).await;
    plan(store, &rules, Case { user: "cid", token: "3", values: &["a", "c"], ..Case::default() }).await;
    plan(store, &rules, Case { user: "dan", token: "4", values: &["b"], ..Case::default() }).await;
    let deny = |target| Act::Deny { target, reason: "test".into(), until: None };
    for (who, act) in [
        ("alice", Act::Assign(role("editor"))),
        ("bob", deny(group("B"))),
        ("cid", deny(role("admin"))),
        ("dan", Act::Disable),
    ] {
        store.act(user(who), act, "test".into(), NOW).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_databases_show_the_same_to_queries_by_hand() {
    let file = open();
    fill(&file.store).await;
    let held: BTreeSet<String> = in_file(&file, "memberships")
        .iter()
        .map(|row| serde_json::from_str::<Value>(row).unwrap())
        .map(|row| {
            format!(
                "{} {} {}",
                row["subject"].as_str().unwrap(),
                row["kind"].as_str().unwrap(),
                row["name"].as_str().unwrap()
            )
        })
        .collect();
    let expected = [
        "alice group A",
        "alice group B",
        "alice role admin",
        "alice role editor",
        "bob group A",
        "bob role admin",
        "cid group A",
        "cid group C",
    ];
    assert_eq!(held, expected.map(str::to_owned).into());
    let Some(database) = crate::support::postgres::database().await else { return };
    let key = Some(&b"an audit key for tests, 32 bytes"[..]);
    let server = Store::from(postgres::Shared::open(database.settings(key)).await.unwrap());
    fill(&server).await;
    let client = database.client().await;
    for view in VIEWS {
        assert_eq!(on_server(&client, view).await, in_file(&file, view), "{view}");
    }
    // What a change of rules ends shows no more, before and after it is swept up.
    let less = Arc::new(rules_without(&["b"], 2));
    for store in [&*file.store, &server] {
        store.adopt(Arc::clone(&less), NOW).await.unwrap();
    }
    for _ in 0..2 {
        let left = in_file(&file, "memberships");
        assert!(!left.iter().any(|row| row.contains("\"B\"")), "{left:?}");
        assert_eq!(on_server(&client, "memberships").await, left);
        for store in [&*file.store, &server] {
            store.finish_work().await.unwrap();
        }
    }
}
