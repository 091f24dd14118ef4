//! A network that loses answers, or everything: what was asked is known to have been done, or to be unknown, and nothing stays locked.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

use super::{Scene, deny, group, groups_of, post, within};
use crate::support::postgres::{Database, socket_of};

const WHOLE: u8 = 0;
/// The next commit of something that is in the audit is carried out, and its answer is lost with the connection.
const LOSES_AN_ANSWER: u8 = 1;
/// The same, and nothing is carried from then on.
const LOSES_AN_ANSWER_AND_ENDS: u8 = 2;
/// What is locked stays so: nothing is carried from then on, and no connection ends.
const ENDS_AT_A_LOCK: u8 = 3;
const ENDED: u8 = 4;
/// Each commit of something that is in the audit waits until it is told to go on.
const HOLDS_COMMITS: u8 = 5;
const HOLDS_ONE: u8 = 6;

/// A way to the server that breaks when it is told to.
struct Network {
    folder: tempfile::TempDir,
    state: Arc<AtomicU8>,
}

impl Network {
    fn start(server: PathBuf) -> Self {
        let (folder, state) = (tempfile::tempdir().unwrap(), Arc::<AtomicU8>::default());
        let listener = UnixListener::bind(folder.path().join(".s.PGSQL.5432")).unwrap();
        let of_all = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, UnixStream::connect(&server).await.unwrap(), Arc::clone(&of_all)));
            }
        });
        Self { folder, state }
    }

    fn will(&self, state: u8) {
        self.state.store(state, Ordering::SeqCst);
    }

    fn database(&self, name: &str) -> Database {
        let host = self.folder.path().to_str().unwrap().replace('/', "%2F");
        Database { url: format!("postgres://loginsync@{host}/{name}") }
    }
}

async fn carry(client: UnixStream, server: UnixStream, state: Arc<AtomicU8>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let (mut asking, mut answering) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    let mut asked: Vec<u8> = Vec::new();
    loop {
        if state.load(Ordering::SeqCst) == ENDED {
            // As a cable that was cut: no one hears of it.
            std::future::pending::<()>().await;
        }
        tokio::select! {
            read = from_client.read(&mut asking) => {
                let Ok(read @ 1..) = read else { return };
                asked.extend_from_slice(&asking[..read]);
                let says = |text: &[u8]| asked.windows(text.len()).any(|window| window == text);
                if state.load(Ordering::SeqCst) == HOLDS_COMMITS && says(b"INSERT INTO loginsync.audit ") && says(b"COMMIT") {
                    state.store(HOLDS_ONE, Ordering::SeqCst);
                    while state.load(Ordering::SeqCst) == HOLDS_ONE {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                }
                if state.load(Ordering::SeqCst) != ENDED && to_server.write_all(&asking[..read]).await.is_err() {
                    return;
                }
                match state.load(Ordering::SeqCst) {
                    now @ (LOSES_AN_ANSWER | LOSES_AN_ANSWER_AND_ENDS)
                        if says(b"INSERT INTO loginsync.audit ") && says(b"COMMIT") =>
                    {
                        state.store(if now == LOSES_AN_ANSWER { WHOLE } else { ENDED }, Ordering::SeqCst);
                        // The server has answered all of it by then.
                        tokio::time::sleep(Duration::from_millis(300)).await;
                        return;
                    }
                    ENDS_AT_A_LOCK if says(b"FOR UPDATE") => state.store(ENDED, Ordering::SeqCst),
                    _ => {}
                }
            }
            read = from_server.read(&mut answering) => {
                let Ok(read @ 1..) = read else { return };
                asked.clear();
                if state.load(Ordering::SeqCst) != ENDED && to_client.write_all(&answering[..read]).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// A scene over a network, the same straight to the server, and the network.
async fn apart() -> Option<(Scene, Scene, Network)> {
    let straight = Scene::open().await?;
    let (socket, name) = socket_of(&straight.database);
    let network = Network::start(socket);
    Some((Scene::on(network.database(&name)).await, straight, network))
}

/// An act or a login that was committed is recognised when it is tried again, and is done once.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_committed_is_recognised_though_its_answer_was_lost() {
    let Some((scene, _, network)) = apart().await else { return };
    let house = scene.replica(&group("staff", "Staff")).await;
    assert_eq!(scene.log_in(&house, "alice", &["staff"]).await.0, 200);
    let rows = async || {
        let text = "SELECT event, count(*) FROM loginsync.audit GROUP BY event ORDER BY event";
        let rows = scene.database.client().await.query(text, &[]).await.unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1))).collect::<Vec<(String, i64)>>()
    };
    let before = rows().await;
    network.will(LOSES_AN_ANSWER);
    let (status, told) = deny(&house, "alice").await;
    assert_eq!(status, 204, "{told}");
    assert_eq!(network.state.load(Ordering::SeqCst), WHOLE, "an answer was lost");
    let after = rows().await;
    let of = |rows: &[(String, i64)], event: &str| rows.iter().find(|row| row.0 == event).map_or(0, |row| row.1);
    assert_eq!(of(&after, "denied") - of(&before, "denied"), 1, "{after:?}");
    assert_eq!(groups_of(&house, "alice").await, Vec::<String>::new());
    network.will(LOSES_AN_ANSWER);
    let token = scene.token("bob", &["staff"]);
    assert_eq!(post(&house, &token).await, 200);
    assert_eq!(of(&rows().await, "login") - of(&after, "login"), 1);
    assert_eq!(post(&house, &token).await, 409);
}

/// Where no answer comes in time, nobody is told that nothing was done.
#[tokio::test(flavor = "multi_thread")]
async fn an_act_that_was_not_confirmed_is_said_to_be_unknown() {
    let Some((scene, straight, network)) = apart().await else { return };
    let (house, other) =
        (scene.replica(&group("staff", "Staff")).await, straight.replica(&group("staff", "Staff")).await);
    assert_eq!(scene.log_in(&house, "alice", &["staff"]).await.0, 200);
    network.will(LOSES_AN_ANSWER_AND_ENDS);
    let (status, told) = deny(&house, "alice").await;
    assert_eq!(status, 503, "{told}");
    assert!(told.contains("it is unknown whether it was made; check before you repeat it"), "{told}");
    assert_eq!(groups_of(&other, "alice").await, Vec::<String>::new(), "it was made");
    // One that was not even sent is not said to be unknown.
    let (status, told) = deny(&house, "alice").await;
    assert_eq!(status, 503, "{told}");
    assert!(told.contains("the store is not available; try again"), "{told}");
}

/// A sidecar that the network leaves within a transaction holds nobody up: the server ends that.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_lost_sidecar_has_locked_is_free_again() {
    let Some((scene, straight, network)) = apart().await else { return };
    let rules = group("staff", "Staff").replace("name = \"Staff\"", "name = \"Staff\"\nprotected = true");
    let (house, other) = (scene.replica(&rules).await, straight.replica(&rules).await);
    for person in ["alice", "bob"] {
        assert_eq!(scene.log_in_only(&house, person, &["staff"]).await, 200);
    }
    network.will(ENDS_AT_A_LOCK);
    // It loses what is protected: the row is locked for that.
    assert_eq!(scene.log_in_only(&house, "alice", &[]).await, 503);
    assert_eq!(network.state.load(Ordering::SeqCst), ENDED, "it was lost within a transaction");
    let began = Instant::now();
    within(Duration::from_secs(10), "alice logs in at the other", async || {
        straight.log_in_only(&other, "alice", &["staff"]).await == 200
    })
    .await;
    println!("a lost sidecar held a row up for {:.1} s more than its own limit", began.elapsed().as_secs_f64());
}

/// Before each commit of a login the rules change, faster than this replica adopts them, as in an import at another: the login locks them
/// and enters.
#[tokio::test(flavor = "multi_thread")]
async fn a_login_enters_though_the_rules_change_before_each_of_its_commits() {
    let Some((scene, straight, network)) = apart().await else { return };
    let house = scene.replica(&group("staff", "Staff")).await;
    assert_eq!(scene.log_in(&house, "alice", &["staff"]).await.0, 200);
    let other = straight.database.client().await;
    other.batch_execute("SET lock_timeout = '300ms'").await.unwrap();
    network.will(HOLDS_COMMITS);
    let token = scene.token("bob", &["staff"]);
    let login = async { scene.spend(&house, &token, "bob").await };
    let mut lost = 0;
    let changes = async {
        for _ in 0..200 {
            while network.state.load(Ordering::SeqCst) != HOLDS_ONE {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            // What each change of rules does, below the lock of rules.
            let change = "BEGIN; SELECT pg_advisory_xact_lock(119225732104194);
                          UPDATE loginsync.rules SET generation = generation + 1; COMMIT";
            match other.batch_execute(change).await {
                Ok(()) => lost += 1,
                Err(_) => other.batch_execute("ROLLBACK").await.unwrap(),
            }
            network.will(HOLDS_COMMITS);
        }
        network.will(WHOLE);
        std::future::pending::<()>().await;
    };
    let (status, groups) = tokio::select! { entered = login => entered, () = changes => (0, Vec::new()) };
    assert_eq!((status, groups), (200, vec!["Staff".to_owned()]), "lost {lost} times");
    assert!((1..20).contains(&lost), "lost {lost} times");
}
