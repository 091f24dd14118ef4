//! A server is lost, and a standby that followed it by streaming takes its place.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use super::{Scene, deny, group, post, within};
use crate::support::postgres::{Database, OwnServer};

fn rules() -> String {
    group("staff", "Staff")
}

/// A server, and a standby of it. `synchronous`: the server waits for it at each commit.
async fn pair(synchronous: bool) -> Option<(OwnServer, OwnServer)> {
    let first = OwnServer::start(&[], "wal_keep_size = '64MB'", "")?;
    let second = first.standby()?;
    let client = first.database().client().await;
    if synchronous {
        client.batch_execute("ALTER SYSTEM SET synchronous_standby_names = 'standby'").await.unwrap();
        client.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    }
    let expected = if synchronous { "sync" } else { "async" };
    within(Duration::from_secs(30), "the standby follows", async || {
        let row = client.query_opt("SELECT sync_state FROM pg_stat_replication", &[]).await.unwrap();
        row.is_some_and(|row| row.get::<_, &str>(0) == expected)
    })
    .await;
    Some((first, second))
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_was_answered_is_lost_with_a_synchronous_standby() {
    let Some((first, second)) = pair(true).await else { return };
    let scene = Scene::on(first.database_or(&second)).await;
    let houses = [scene.replica(&rules()).await, scene.replica(&rules()).await];
    let (answered, lost) = (RefCell::new(Vec::new()), RefCell::new(None));
    let people = async |number: usize| {
        for round in 0.. {
            let house = &houses[(number + round) % 2];
            let token = scene.token(&format!("p{number}"), &["staff"]);
            let status = post(house, &token).await;
            assert!([200, 503].contains(&status), "{status}");
            if status == 200 {
                answered.borrow_mut().push(token);
            }
            // A while after the change of servers that is enough.
            let over: Option<Instant> = *lost.borrow();
            if over.is_some_and(|at| status == 200 && at.elapsed() > Duration::from_secs(1)) {
                return;
            }
        }
    };
    let change = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        tokio::task::block_in_place(|| {
            first.control(&["-m", "immediate", "stop"]);
            *lost.borrow_mut() = Some(Instant::now());
            second.control(&["promote"]);
            // It waits for no standby of its own.
        });
        let client = second.database().client().await;
        client.batch_execute("ALTER SYSTEM SET synchronous_standby_names = ''").await.unwrap();
        client.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    };
    let all = async {
        tokio::join!(people(0), people(1), people(2), people(3), people(4), people(5), change);
    };
    tokio::time::timeout(Duration::from_secs(60), all).await.expect("logins enter again by themselves");
    let answered = answered.into_inner();
    assert!(answered.len() > 20, "{}", answered.len());
    // Each is known where the standby serves now.
    for (number, token) in answered.iter().enumerate() {
        assert_eq!(post(&houses[number % 2], token).await, 409, "{number} of {}", answered.len());
    }
    println!("{} logins were answered around the change of servers, and none is lost", answered.len());
    let store = houses[0].store();
    assert_eq!(store.verify_audit().await.unwrap().broken, None);
    assert_eq!(store.check(false).await.unwrap(), Vec::<String>::new());
}

/// A server that waits for a standby which is gone answers no login, and says so; the standby's return lets logins in again.
#[tokio::test(flavor = "multi_thread")]
async fn logins_wait_for_a_synchronous_standby_that_is_gone() {
    let Some((first, second)) = pair(true).await else { return };
    let scene = Scene::on(first.database()).await;
    let house = scene.replica(&rules()).await;
    assert_eq!(scene.log_in(&house, "alice", &["staff"]).await.0, 200);
    second.control(&["-m", "immediate", "stop"]);
    let token = scene.token("bob", &["staff"]);
    assert_eq!(post(&house, &token).await, 503);
    // What an operator does is not confirmed, and is not said to have failed.
    let answer = deny(&house, "alice").await;
    assert_eq!(answer.0, 503, "{}", answer.1);
    assert!(answer.1.contains("check before you repeat it"), "{}", answer.1);
    second.control(&["start"]);
    within(Duration::from_secs(40), "logins enter again", async || {
        scene.log_in_only(&house, "carol", &["staff"]).await == 200
    })
    .await;
    // What waited was committed when the standby came back: it was not answered, and is spent.
    assert_eq!(post(&house, &token).await, 409);
    assert_eq!(house.store().verify_audit().await.unwrap().broken, None);
}

/// Without synchronous standbys the last moments before the loss of a server are lost with it. `db restored` refuses the tokens of
/// before, which the standby does not know to be spent.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_asynchronous_standby_has_not_heard_is_lost_and_restored_refuses_its_tokens() {
    let Some((first, second)) = pair(false).await else { return };
    let scene = Scene::on(first.database_or(&second)).await;
    let house = scene.replica(&rules()).await;
    assert_eq!(scene.log_in(&house, "alice", &["staff"]).await.0, 200);
    let follows = async || {
        let client = first.database().client().await;
        let text = "SELECT replay_lsn >= pg_current_wal_lsn() FROM pg_stat_replication";
        client.query_opt(text, &[]).await.unwrap().is_some_and(|row| row.get(0))
    };
    within(Duration::from_secs(20), "the standby has heard of alice", follows).await;
    second.control(&["-m", "immediate", "stop"]);
    let (token, after) = (scene.token("bob", &["staff"]), scene.token("carol", &["staff"]));
    assert_eq!(post(&house, &token).await, 200);
    first.control(&["-m", "immediate", "stop"]);
    second.control(&["start"]);
    second.control(&["promote"]);
    within(Duration::from_secs(40), "logins enter again", async || {
        scene.log_in_only(&house, "dave", &["staff"]).await == 200
    })
    .await;
    assert_eq!(post(&house, &token).await, 200, "it was answered, and is lost: the token is fresh");
    house.running.stop().await;
    let settings = second.database().settings(None);
    let shared = loginsync::ports::store::postgres::Shared::open_restored(settings).await.unwrap();
    let store = loginsync::ports::store::Store::from(shared);
    store.restored("cli:test".into(), scene.clock.now()).await.unwrap();
    drop(store);
    let house = scene.replica(&rules()).await;
    assert_eq!(post(&house, &after).await, 403, "tokens of before are refused");
    within(Duration::from_secs(5), "a new login enters", async || {
        scene.log_in_only(&house, "erin", &["staff"]).await == 200
    })
    .await;
    assert_eq!(house.store().verify_audit().await.unwrap().broken, None);
}

/// A host that takes connections and does not answer, as one that hangs, keeps nobody from the next.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_does_not_answer_is_passed_over() {
    let Some(server) = OwnServer::start(&[], "", "") else { return };
    let folder = tempfile::tempdir().unwrap();
    let _silent = std::os::unix::net::UnixListener::bind(folder.path().join(".s.PGSQL.5432")).unwrap();
    let silent = folder.path().to_str().unwrap().replace('/', "%2F");
    let url = server.database().url.replace("loginsync@", &format!("loginsync@{silent}:5432,"));
    let scene = Scene::on(Database { url }).await;
    let house = scene.replica(&rules()).await;
    for person in ["alice", "bob"] {
        assert_eq!(scene.log_in_only(&house, person, &["staff"]).await, 200);
    }
}
