//! What a login costs the store: statements, and pages that it writes where four logins share a commit.

use super::rules::{Log, configured, mapped};
use super::*;

/// Twenty groups and one more, each by a value of its name.
fn twenty() -> Arc<RuleSet> {
    let names: Vec<String> = (0..21).map(|number| format!("group-{number:02}")).collect();
    let pairs: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), name.as_str())).collect();
    let groups: String = names.iter().map(|name| format!("[[group]]\nname = \"{name}\"\nbrake = false\n")).collect();
    configured(&(mapped(&pairs) + &groups), 1)
}

/// Twenty of them, from one on.
fn values(first: usize) -> Vec<String> {
    (first..first + 20).map(|number| format!("group-{:02}", number % 21)).collect()
}

fn state(first: usize) -> ClaimState {
    ClaimState::Values(values(first))
}

struct Measured {
    kept: Arc<SqliteStore>,
    store: Store,
    rules: Arc<RuleSet>,
    folder: tempfile::TempDir,
}

fn measured() -> Measured {
    let folder = tempfile::tempdir().unwrap();
    let kept = SqliteStore::open(&folder.path().join("store.db"), settings(Some(b"an audit key for tests, 32 bytes")));
    let kept = Arc::new(kept.unwrap());
    Measured { store: Store::new(Arc::clone(&kept)), kept, rules: twenty(), folder }
}

#[tokio::test]
async fn a_login_takes_eight_statements_at_the_most() {
    let it = measured();
    let mut log = Log::new(&it.store);
    log.plan(&it.rules, "alice", state(0), 0).await;
    // Somebody has each of the groups already.
    log.plan(&it.rules, "bob", state(1), 0).await;
    let mut login = async |first: usize, after: i64| {
        let before = it.kept.statements();
        let plan = log.plan(&it.rules, "alice", state(first), after).await;
        (it.kept.statements() - before, plan.grants.len(), plan.revokes.len())
    };
    let (nothing, granted, revoked) = login(0, 1).await;
    assert_eq!((granted, revoked), (0, 0));
    let (changed, granted, revoked) = login(1, 2).await;
    assert_eq!((granted, revoked), (1, 1));
    println!("{nothing} statements where nothing changes, {changed} where one group comes and one goes");
    assert!(nothing <= 4 && changed <= 8, "{nothing}, {changed}");
}

/// Puts copies of the first twenty-one users beside them, until there are some thousand.
fn multiply(it: &Measured) {
    let connection = rusqlite::Connection::open(it.folder.path().join("store.db")).unwrap();
    let mut text = String::from("BEGIN;");
    for copy in 1..150 {
        let by = copy * 21;
        text.push_str(&format!(
            "INSERT INTO users (id, namespace, subject, created_at, last_login_at, logins)
             SELECT id + {by}, namespace, subject || '-{copy}', created_at, last_login_at, logins FROM users WHERE id <= 21;
             INSERT INTO records SELECT user_id + {by}, record FROM records WHERE user_id <= 21;
             INSERT INTO holdings SELECT kind, target, provider, mapping, user_id + {by}, at FROM holdings WHERE user_id <= 21;"
        ));
    }
    text.push_str(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)
                   INSERT INTO tokens SELECT 472222, randomblob(32) FROM n; COMMIT; PRAGMA wal_checkpoint(TRUNCATE);",
    );
    connection.execute_batch(&text).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn four_logins_of_a_commit_write_few_pages() {
    let it = measured();
    let mut log = Log::new(&it.store);
    for first in 0..21 {
        log.plan(&it.rules, &format!("user-{first}"), state(first), 0).await;
    }
    multiply(&it);
    it.store.cookie_keys().await.unwrap();
    let path = it.folder.path().join("store.db");
    let wal = it.folder.path().join("store.db-wal");
    let pages = || std::fs::metadata(&wal).unwrap().len() / 4120;
    let it = Arc::new(it);
    let mut spent = [0_u64; 2];
    for round in 0..20_usize {
        for (kind, pages_of) in spent.iter_mut().enumerate() {
            let lock = rusqlite::Connection::open(&path).unwrap();
            lock.execute_batch("BEGIN IMMEDIATE").unwrap();
            // This one waits for the lock, and the logins wait together behind it.
            let first = {
                let it = Arc::clone(&it);
                tokio::spawn(async move { it.store.cookie_keys().await.unwrap() })
            };
            tokio::time::sleep(Duration::from_millis(20)).await;
            let before = pages();
            let mut four = tokio::task::JoinSet::new();
            for number in 0..4_usize {
                let it = Arc::clone(&it);
                four.spawn(async move {
                    let (user, copy) = ((round * 4 + number) % 21, 1 + round * 7 + number * 2 % 149);
                    let mut log = Log {
                        store: &it.store,
                        count: i64::try_from(round * 100 + kind * 10 + number + 1000).unwrap(),
                    };
                    let after = 1000 + i64::try_from(round * 2 + kind).unwrap();
                    log.plan(&it.rules, &format!("user-{user}-{copy}"), state(user + kind), after).await
                });
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
            lock.execute_batch("ROLLBACK").unwrap();
            first.await.unwrap();
            while let Some(plan) = four.join_next().await {
                let plan = plan.unwrap();
                assert_eq!((plan.grants.len(), plan.revokes.len()), (kind, kind));
            }
            *pages_of += pages() - before;
        }
    }
    let [nothing, changed] = spent.map(|pages| pages * 100 / 80);
    println!("in hundredths of a page: {nothing} where nothing changes, {changed} where one group comes and one goes");
    assert!(nothing <= 400 && changed <= 700, "{nothing}, {changed}");
}
