//! How often a login goes to the database and back, counted on the wire.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

use super::{Scene, group};
use crate::support::postgres::{Database, socket_of};

/// What comes within this time of each other goes in one trip.
const GATHERED: Duration = Duration::from_millis(40);

/// A way to the server that holds what is sent until the sender pauses, and counts how often it sends.
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
    let answers = tokio::spawn(async move {
        let _ = tokio::io::copy(&mut from_server, &mut to_client).await;
    });
    let mut buffer = vec![0; 1 << 16];
    while let Ok(read @ 1..) = from_client.read(&mut buffer).await {
        let mut whole = buffer[..read].to_vec();
        while let Ok(Ok(read @ 1..)) = tokio::time::timeout(GATHERED, from_client.read(&mut buffer)).await {
            whole.extend_from_slice(&buffer[..read]);
        }
        trips.fetch_add(1, Ordering::Relaxed);
        if to_server.write_all(&whole).await.is_err() {
            break;
        }
    }
    answers.abort();
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
    // Tasks beside logins go to the database too: of several logins of a kind that one counts beside which none ran.
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
    for round in 0..6 {
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
