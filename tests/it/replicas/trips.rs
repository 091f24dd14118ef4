//! How often a login goes to the database and back, counted on the wire.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

use super::{Scene, group};
use crate::support::postgres::{Database, socket_of};

/// Answers to a login are held until the asker has been quiet for so long: what it sends meanwhile goes in the same trip.
const QUIET: Duration = Duration::from_millis(200);
/// What a login sends and no task beside it does: its look-up, its questions about others, its row of the audit.
const OF_LOGINS: [&[u8]; 3] =
    [b"FROM loginsync.tokens WHERE digest = $3", b"loginsync.holdings", b"INSERT INTO loginsync.audit "];

/// A way to the server that counts how often a login waits for an answer.
struct Counting {
    folder: tempfile::TempDir,
    trips: Arc<AtomicU64>,
}

impl Counting {
    fn start(server: PathBuf) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let trips = Arc::<AtomicU64>::default();
        let listener = UnixListener::bind(folder.path().join(".s.PGSQL.5432")).unwrap();
        let counted = Arc::clone(&trips);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = UnixStream::connect(&server).await.unwrap();
                tokio::spawn(carry(client, server, Arc::clone(&counted)));
            }
        });
        Self { folder, trips }
    }

    fn database(&self, name: &str) -> Database {
        let host = self.folder.path().to_str().unwrap().replace('/', "%2F");
        Database { url: format!("postgres://loginsync@{host}/{name}") }
    }
}

async fn carry(client: UnixStream, server: UnixStream, trips: Arc<AtomicU64>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let (mut asking, mut answering) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    // What was asked since the last answer, and what was answered and is held.
    let (mut asked, mut held) = (Vec::new(), Vec::new());
    loop {
        let says = |text: &[u8]| asked.windows(text.len()).any(|window| window == text);
        let is_of_login = OF_LOGINS.iter().any(|text| says(text));
        let quiet = async {
            match held.is_empty() {
                true => std::future::pending().await,
                false if is_of_login => tokio::time::sleep(QUIET).await,
                false => {}
            }
        };
        tokio::select! {
            biased;
            read = from_client.read(&mut asking) => {
                let Ok(read @ 1..) = read else { return };
                asked.extend_from_slice(&asking[..read]);
                if to_server.write_all(&asking[..read]).await.is_err() {
                    return;
                }
            }
            read = from_server.read(&mut answering) => {
                let Ok(read @ 1..) = read else { return };
                held.extend_from_slice(&answering[..read]);
            }
            () = quiet => {
                trips.fetch_add(u64::from(is_of_login), Ordering::Relaxed);
                asked.clear();
                if to_client.write_all(&std::mem::take(&mut held)).await.is_err() {
                    return;
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_goes_to_the_database_twice() {
    let Some(scene) = Scene::open().await else { return };
    let (socket, name) = socket_of(&scene.database);
    let counting = Counting::start(socket);
    let scene = Scene::on(counting.database(&name)).await;
    let rules = group("staff", "Staff")
        .replace("name = \"Staff\"", "name = \"Staff\"\nprotected = true\nbrake = false")
        + &group("night", "Night").replace("name = \"Night\"", "name = \"Night\"\nbrake = false");
    let house = scene.replica(&rules).await;
    // The reaper looks at users as a login does: of several logins of a kind that one counts beside which it did not.
    let trips = async |person: &str, groups: &[&str]| {
        let token = scene.token(person, groups);
        let form = format!("id_token={token}&state=s");
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        let before = counting.trips.load(Ordering::Relaxed);
        let answer = house.send("POST", "/callback", &headers, form.as_bytes()).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        counting.trips.load(Ordering::Relaxed) - before
    };
    let mut least = [u64::MAX; 5];
    for round in 0..2 {
        let (person, other) = (format!("alice{round}"), format!("bob{round}"));
        trips(&other, &["staff"]).await;
        let counted = [
            trips(&person, &["staff"]).await,
            trips(&person, &["staff"]).await,
            trips(&person, &["staff", "night"]).await,
            trips(&person, &["staff"]).await,
            // The loss of what is protected asks about others.
            trips(&person, &[]).await,
        ];
        for (least, counted) in least.iter_mut().zip(counted) {
            *least = counted.min(*least);
        }
    }
    println!("round trips: first login, nothing changes, a grant, a loss, a protected loss: {least:?}");
    assert_eq!(least, [2, 2, 2, 2, 3]);
}
