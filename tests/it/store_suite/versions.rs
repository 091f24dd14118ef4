//! Two versions of the program side by side over one PostgreSQL: this one, and a next one whose tables have more and whose records are of
//! a later version.

use loginsync::pipeline::mapping::elsewhere::Announced;
use loginsync::ports::store::postgres::Shared;
use loginsync::ports::store::postgres::replicas::Announcement;

use super::*;
use crate::support::postgres::Database;

/// A sidecar that reads records up to a version.
async fn sidecar(database: &Database, reads: u32) -> Result<(Shared, Arc<Store>), StoreError> {
    let mut settings = database.settings(None);
    settings.reads = reads;
    let shared = Shared::open(settings).await?;
    Ok((shared.clone(), Arc::new(Store::from(shared))))
}

async fn announce(shared: &Shared, rules: &RuleSet) -> Result<(), StoreError> {
    let announcement = Announcement { name: "test".into(), version: "0", file: Announced::of(rules) };
    shared.announce(announcement, loginsync::clock::Clock::system().now()).await
}

/// The versions of the two parts of records.
async fn written(database: &Database, subject: &str) -> (i32, i32) {
    let text = "SELECT (logins::json ->> 'version')::int, (record::json ->> 'version')::int FROM loginsync.users
                WHERE subject = $1";
    let row = database.client().await.query_one(text, &[&subject]).await.unwrap();
    (row.get(0), row.get(1))
}

#[tokio::test(flavor = "multi_thread")]
async fn no_record_is_of_a_version_that_a_live_replica_cannot_read() {
    let Some(database) = crate::support::postgres::database().await else { return };
    let rules = Arc::new(rules());
    let (old, of_old) = sidecar(&database, 1).await.unwrap();
    let (next, of_next) = sidecar(&database, 2).await.unwrap();
    announce(&old, &rules).await.unwrap();
    announce(&next, &rules).await.unwrap();
    // By turns: each reads what the other has written.
    for issued in 0..6_i64 {
        let store = if issued % 2 == 0 { &of_next } else { &of_old };
        let (token, values) = (issued.to_string(), if issued % 3 == 0 { &["b"][..] } else { &["b", "c"][..] });
        plan(store, &rules, Case { issued, token: &token, values, ..Case::default() }).await;
        assert_eq!(written(&database, "alice").await, (1, 1), "{issued}");
    }
    // The last one that reads no more is gone.
    old.leave().await.unwrap();
    plan(&of_next, &rules, Case { issued: 10, token: "10", values: &["a", "b"], ..Case::default() }).await;
    assert_eq!(written(&database, "alice").await, (2, 2));
    // One that was paused meanwhile, and one that starts, say why they do nothing.
    let refused = "which all sidecars that served then could read; this loginsync reads 1";
    let woken = announce(&old, &rules).await.unwrap_err().to_string();
    assert!(woken.contains(refused), "{woken}");
    let ready = of_old.ready().await.unwrap_err().to_string();
    assert!(ready.contains(refused), "{ready}");
    let late = apply(&of_old, &rules, Case { issued: 11, token: "11", values: &["b"], ..Case::default() }).await;
    assert!(late.is_err(), "{late:?}");
    let started = sidecar(&database, 1).await.err().unwrap().to_string();
    assert!(started.contains(refused), "{started}");
    // What it did is what it did before: nothing of the record is lost.
    plan(&of_next, &rules, Case { issued: 12, token: "12", values: &["b"], ..Case::default() }).await;
    assert_eq!(of_next.check(false).await.unwrap(), Vec::<String>::new());
    assert_eq!(of_next.verify_audit().await.unwrap().broken, None);
}

/// A paused replica is counted until it is swept; then it is too late for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_was_swept_holds_no_version_back() {
    let Some(database) = crate::support::postgres::database().await else { return };
    let rules = Arc::new(rules());
    let ((old, _), (next, of_next)) = (sidecar(&database, 1).await.unwrap(), sidecar(&database, 2).await.unwrap());
    announce(&old, &rules).await.unwrap();
    announce(&next, &rules).await.unwrap();
    let client = database.client().await;
    let ages = |by: i64| format!("UPDATE loginsync.replicas SET until = until - {by} WHERE reads = 1");
    client.batch_execute(&ages(11_000)).await.unwrap();
    next.sweep().await.unwrap();
    plan(&of_next, &rules, Case { issued: 1, token: "1", values: &["b"], ..Case::default() }).await;
    assert_eq!(written(&database, "alice").await, (1, 1), "it counts no more, and may come back");
    client.batch_execute(&ages(11_000)).await.unwrap();
    next.sweep().await.unwrap();
    plan(&of_next, &rules, Case { issued: 2, token: "2", values: &["b", "c"], ..Case::default() }).await;
    assert_eq!(written(&database, "alice").await, (2, 2));
}

/// The tables of a next version that only adds: this one starts on them and runs; on others it does not.
#[tokio::test(flavor = "multi_thread")]
async fn a_schema_of_the_next_version_that_only_adds_is_run_on() {
    let Some(database) = crate::support::postgres::database().await else { return };
    let rules = Arc::new(rules());
    // Several make the tables at once: one does.
    let all = tokio::join!(sidecar(&database, 1), sidecar(&database, 1), sidecar(&database, 1));
    let (running, of_running) = all.0.unwrap();
    assert!(all.1.is_ok() && all.2.is_ok());
    announce(&running, &rules).await.unwrap();
    let client = database.client().await;
    client
        .batch_execute(
            "ALTER TABLE loginsync.users ADD COLUMN mood text; CREATE TABLE loginsync.moods (mood text);
             UPDATE loginsync.schema SET version = version + 1",
        )
        .await
        .unwrap();
    plan(&of_running, &rules, Case { issued: 1, token: "1", values: &["b"], ..Case::default() }).await;
    let (_, started) = sidecar(&database, 1).await.unwrap();
    plan(&started, &rules, Case { issued: 2, token: "2", values: &["c"], ..Case::default() }).await;
    assert_eq!(groups(&of_running, &rules, "alice").await, groups(&started, &rules, "alice").await);
    client.batch_execute("UPDATE loginsync.schema SET oldest = version").await.unwrap();
    let refused = sidecar(&database, 1).await.err().unwrap().to_string();
    assert!(refused.contains("use the version that wrote it, or a newer one"), "{refused}");
    // One that runs goes on.
    plan(&of_running, &rules, Case { issued: 3, token: "3", values: &["b"], ..Case::default() }).await;
}
