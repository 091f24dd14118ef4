//! What goes wrong with a database, and what people and operators see of it.

use std::process::{Command, Stdio};
use std::time::Duration;

use loginsync::config::{ServerPassword, TlsFiles};
use loginsync::ports::store::Store;
use loginsync::ports::store::postgres::Shared;

use super::{Scene, group, post, within};
use crate::front_door::House;
use crate::support::postgres::{Database, OwnServer, database};

const PASSWORD: &str = "host all loginsync 127.0.0.1/32 scram-sha-256";

fn rules() -> String {
    group("staff", "Staff")
}

async fn recovers(scene: &Scene, house: &House, person: &str) {
    within(Duration::from_secs(40), "logins enter again", async || {
        scene.log_in_only(house, person, &["staff"]).await == 200
    })
    .await;
}

/// Without its database a sidecar refuses logins and goes on with the rest; with it again, it goes on by itself.
#[tokio::test(flavor = "multi_thread")]
async fn while_the_server_is_down_logins_are_503_and_the_app_goes_on() {
    let Some(server) = OwnServer::start(&[], "", "") else { return };
    let scene = Scene::on(server.database()).await;
    let house = scene.replica(&rules()).await;
    assert_eq!(scene.log_in(&house, "alice", &["staff"]).await.0, 200);
    server.control(&["-m", "immediate", "stop"]);
    let token = scene.token("bob", &["staff"]);
    assert_eq!(post(&house, &token).await, 503);
    assert_eq!(house.send("GET", "/page", &[], b"").await.status, 200, "what needs no identity goes on");
    let ready = house.send_to(house.running.admin, "GET", "/readyz", &[], b"").await;
    assert_eq!(ready.status, 503, "{}", ready.body);
    // A sidecar that starts meanwhile says why it does not.
    let refused = scene.replica_at(scene.database.place(), &rules()).await.err().unwrap();
    assert!(refused.contains("the database cannot be reached"), "{refused}");
    server.control(&["start"]);
    let up = std::time::Instant::now();
    // The token that was refused was not spent.
    within(Duration::from_secs(40), "the token enters", async || post(&house, &token).await == 200).await;
    println!("a login entered {:.1} s after the server was back", up.elapsed().as_secs_f64());
    assert_eq!(house.store().verify_audit().await.unwrap().broken, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_only_reads_is_not_used() {
    let Some(server) = OwnServer::start(&[], "", "") else { return };
    let scene = Scene::on(server.database()).await;
    let house = scene.replica(&rules()).await;
    assert_eq!(scene.log_in(&house, "alice", &["staff"]).await.0, 200);
    // As a standby that was not promoted yet.
    let client = scene.database.client().await;
    client.batch_execute("ALTER SYSTEM SET default_transaction_read_only = on").await.unwrap();
    server.control(&["-m", "fast", "restart"]);
    assert_eq!(scene.log_in_only(&house, "bob", &["staff"]).await, 503);
    let refused = scene.replica_at(scene.database.place(), &rules()).await.err().unwrap();
    assert!(refused.contains("read-only"), "{refused}");
    let client = scene.database.client().await;
    client.batch_execute("SET default_transaction_read_only = off").await.unwrap();
    client.batch_execute("ALTER SYSTEM RESET ALL").await.unwrap();
    server.control(&["-m", "fast", "restart"]);
    recovers(&scene, &house, "bob").await;
}

/// A password that is changed is read at the next connection.
#[tokio::test(flavor = "multi_thread")]
async fn a_password_can_be_changed_while_sidecars_run() {
    let Some(server) = OwnServer::start(&[], "", PASSWORD) else { return };
    let own = server.database();
    own.client().await.batch_execute("ALTER ROLE loginsync PASSWORD 'first'").await.unwrap();
    let url = format!("postgres://loginsync@127.0.0.1:{}/postgres?sslmode=disable", server.port);
    let scene = Scene::on(Database { url }).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, "wrong\n").unwrap();
    let place = scene.database.place_with(|server| server.password = ServerPassword::File(file.clone()));
    let refused = scene.replica_at(place.clone(), &rules()).await.err().unwrap();
    assert!(refused.contains("28P01") && !refused.contains("wrong"), "{refused}");
    std::fs::write(&file, "first\n").unwrap();
    let house = scene.replica_at(place, &rules()).await.unwrap();
    assert_eq!(scene.log_in(&house, "alice", &["staff"]).await.0, 200);
    std::fs::write(&file, "second\n").unwrap();
    own.client().await.batch_execute("ALTER ROLE loginsync PASSWORD 'second'").await.unwrap();
    server.control(&["-m", "fast", "restart"]);
    recovers(&scene, &house, "bob").await;
}

/// The server's certificate is checked against the authority of `ca_file`, and the connection is bound to it.
#[tokio::test(flavor = "multi_thread")]
async fn tls_is_required_and_its_authority_is_checked() {
    let mut authority = rcgen::CertificateParams::new(vec![]).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let authority_pem = authority.self_signed(&authority_key).unwrap().pem();
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let signed = |names: &[&str], common: Option<&str>| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut of = rcgen::CertificateParams::new(names).unwrap();
        if let Some(common) = common {
            of.distinguished_name = rcgen::DistinguishedName::new();
            of.distinguished_name.push(rcgen::DnType::CommonName, common);
        }
        let key = rcgen::KeyPair::generate().unwrap();
        (of.signed_by(&key, &issuer).unwrap().pem(), key.serialize_pem())
    };
    let (certificate, key) = signed(&["localhost"], None);
    let (client, client_key) = signed(&[], Some("loginsync"));
    let files = [("server.crt", certificate.as_str()), ("server.key", &key), ("root.crt", &authority_pem)];
    let settings = "ssl = on\nssl_ca_file = 'root.crt'";
    let access = "hostssl certs loginsync 127.0.0.1/32 cert\nhostssl all loginsync 127.0.0.1/32 scram-sha-256";
    let Some(server) = OwnServer::start(&files, settings, access) else { return };
    let own = server.database().client().await;
    own.batch_execute("CREATE DATABASE certs").await.unwrap();
    own.batch_execute("ALTER ROLE loginsync PASSWORD 'secret'").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (ca, other) = (write("ca.pem", &authority_pem), write("other.pem", &signed(&["localhost"], None).0));
    let (client, client_key) = (write("client.pem", &client), write("client.key", &client_key));
    let url = |host: &str, database: &str, more: &str| Database {
        url: format!("postgres://loginsync:secret@{host}:{}/{database}?{more}", server.port),
    };
    let bound = url("localhost", "postgres", "channel_binding=require");
    let scene = Scene::on(bound).await;
    let place = scene.database.place_with(|server| server.ca = Some(ca.clone()));
    let house = scene.replica_at(place, &rules()).await.unwrap();
    assert_eq!(scene.log_in(&house, "alice", &["staff"]).await.0, 200);
    // Another authority, another name, no TLS where the server asks for it.
    let untrusted = scene.database.place_with(|server| server.ca = Some(other));
    let refused = scene.replica_at(untrusted, &rules()).await.err().unwrap();
    assert!(refused.contains("certificate is not trusted"), "{refused}");
    let misnamed = url("127.0.0.1", "postgres", "").place_with(|server| server.ca = Some(ca.clone()));
    let refused = scene.replica_at(misnamed, &rules()).await.err().unwrap();
    assert!(refused.contains("certificate is not trusted"), "{refused}");
    let plain = url("localhost", "postgres", "sslmode=disable").place();
    let refused = scene.replica_at(plain, &rules()).await.err().unwrap();
    assert!(refused.contains("28000"), "{refused}");
    // A certificate in place of the password.
    let named = Database { url: format!("postgres://loginsync@localhost:{}/certs", server.port) };
    let place = named.place_with(|server| {
        server.ca = Some(ca.clone());
        server.client = Some(TlsFiles { certificate: client.clone(), key: client_key.clone() });
    });
    let by_certificate = scene.replica_at(place, &rules()).await.unwrap();
    assert_eq!(scene.log_in(&by_certificate, "carol", &["staff"]).await.0, 200);
}

/// Statements that travel with their types need nothing of a session, so that a pooler may hand each transaction another.
#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_in_transaction_mode_changes_nothing() {
    let Some(pooler) = crate::support::postgres::Pooler::start().await else { return };
    let scene = Scene::on(Database { url: pooler.url.clone() }).await;
    let (one, two) = (scene.replica(&rules()).await, scene.replica(&rules()).await);
    for round in 0..10 {
        let person = format!("p{}", round % 3);
        let token = scene.token(&person, &["staff"]);
        let (first, second) = tokio::join!(scene.spend(&one, &token, &person), scene.spend(&two, &token, &person));
        let mut statuses = [first.0, second.0];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 409]);
    }
    assert_eq!(one.store().verify_audit().await.unwrap().broken, None);
    assert_eq!(one.store().check(false).await.unwrap(), Vec::<String>::new());
}

/// The server has no connection left for us.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_free_connections_is_said_to_have_none() {
    let Some(database) = database().await else { return };
    let scene = Scene::on(database).await;
    let client = scene.database.client().await;
    client.batch_execute("CREATE ROLE narrow LOGIN CONNECTION LIMIT 0").await.unwrap();
    let place = Database { url: scene.database.url.replace("loginsync@", "narrow@") }.place();
    let refused = scene.replica_at(place, &rules()).await.err().unwrap();
    assert!(refused.contains("53300") && refused.contains("too many connections"), "{refused}");
    client.batch_execute("DROP ROLE narrow").await.unwrap();
}

/// Connections that are lost cannot be made again while others have taken all that the server has.
#[tokio::test(flavor = "multi_thread")]
async fn while_others_have_all_connections_logins_are_503() {
    let Some(server) = OwnServer::start(&[], "max_connections = 20", "") else { return };
    let scene = Scene::on(server.database()).await;
    let house = scene.replica(&rules()).await;
    assert_eq!(scene.log_in(&house, "alice", &["staff"]).await.0, 200);
    let mut taken = vec![scene.database.client().await];
    let ours = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'loginsync'";
    let mut status = 0;
    // The sidecar makes its connections again until others are faster.
    for _ in 0..200 {
        taken[0].batch_execute(ours).await.unwrap();
        while let Ok((client, connection)) = tokio_postgres::connect(&scene.database.url, tokio_postgres::NoTls).await {
            tokio::spawn(connection);
            taken.push(client);
        }
        status = scene.log_in_only(&house, "bob", &["staff"]).await;
        if status == 503 {
            break;
        }
    }
    assert_eq!(status, 503);
    let ready = house.send_to(house.running.admin, "GET", "/readyz", &[], b"").await;
    assert!(ready.body.contains("53300") && ready.body.contains("too many"), "{}", ready.body);
    drop(taken);
    recovers(&scene, &house, "bob").await;
}

/// A disk that is full lets nothing be written: logins are 503 and spend nothing, and go on once there is room.
#[tokio::test(flavor = "multi_thread")]
async fn while_the_disk_is_full_logins_are_503_and_spend_nothing() {
    let Some(server) = OwnServer::on_small_disk() else { return };
    let scene = Scene::on(server.database()).await;
    let client = scene.database.client().await;
    let folder = server.small_disk();
    let small = format!("CREATE TABLESPACE small LOCATION '{}/space'", folder.display());
    client.batch_execute(&small).await.unwrap();
    client.batch_execute("ALTER ROLE loginsync SET default_tablespace = small").await.unwrap();
    let house = scene.replica(&rules()).await;
    assert_eq!(scene.log_in(&house, "alice", &["staff"]).await.0, 200);
    let filler = format!("{}/filler", folder.display());
    let fill = format!("COPY (SELECT repeat('x', 65536) FROM generate_series(1, 4096)) TO '{filler}'");
    let full = client.batch_execute(&fill).await.unwrap_err();
    assert_eq!(full.code().unwrap().code(), "53100", "{full:?}");
    // There is room in the pages that the tables have.
    let mut refused = None;
    for number in 0..2000 {
        let token = scene.token(&format!("p{number}"), &["staff"]);
        match post(&house, &token).await {
            200 => {}
            status => {
                assert_eq!(status, 503);
                refused = Some(token);
                break;
            }
        }
    }
    let refused = refused.expect("the disk is full at last");
    assert_eq!(house.send("GET", "/page", &[], b"").await.status, 200, "what needs no identity goes on");
    client.batch_execute(&format!("COPY (SELECT 1) TO '{filler}'")).await.unwrap();
    within(Duration::from_secs(40), "the token enters", async || post(&house, &refused).await == 200).await;
    assert_eq!(house.store().verify_audit().await.unwrap().broken, None);
    assert_eq!(house.store().check(false).await.unwrap(), Vec::<String>::new());
}

/// A dump that was restored into a server of its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_dump_in_a_fresh_cluster_is_refused_until_it_is_said_to_be_one() {
    let Some(old) = OwnServer::start(&[], "", "") else { return };
    let new = OwnServer::start(&[], "", "").unwrap();
    let scene = Scene::on(old.database()).await;
    let house = scene.replica(&rules()).await;
    let [spent, fresh] = ["alice", "bob"].map(|person| scene.token(person, &["staff"]));
    assert_eq!(post(&house, &spent).await, 200);
    house.running.stop().await;
    if !old.dump_into(&new) {
        return;
    }
    let scene = Scene { database: new.database(), ..scene };
    let refused = scene.replica_at(scene.database.place(), &rules()).await.err().unwrap();
    assert!(
        refused.contains("restored from the dump of another server") && refused.contains("db restored"),
        "{refused}"
    );
    let shared = Shared::open_restored(scene.database.settings(None)).await.unwrap();
    Store::from(shared).restored("cli:test".into(), scene.clock.now()).await.unwrap();
    let house = scene.replica(&rules()).await;
    assert_eq!(post(&house, &spent).await, 409);
    assert_eq!(post(&house, &fresh).await, 403, "it may have been spent after the dump");
    within(Duration::from_secs(5), "a new token enters", async || {
        scene.log_in_only(&house, "alice", &["staff"]).await == 200
    })
    .await;
    let report = house.store().verify_audit().await.unwrap();
    assert!(report.broken.is_none() && report.rows >= 3, "{report:?}");
}

/// A database of a version that does not exist yet, and one of an older version for a role that may not change it.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_another_version_is_refused() {
    let Some(database) = database().await else { return };
    let scene = Scene::on(database).await;
    scene.replica(&rules()).await.running.stop().await;
    let client = scene.database.client().await;
    client.batch_execute("UPDATE loginsync.schema SET version = 99, oldest = 98").await.unwrap();
    let refused = scene.replica_at(scene.database.place(), &rules()).await.err().unwrap();
    assert!(refused.contains("schema version 99") && refused.contains("a newer one"), "{refused}");
    // An older one is brought up to date by who may, and by nobody else.
    client.batch_execute("UPDATE loginsync.schema SET version = 1").await.unwrap();
    client.batch_execute("CREATE ROLE runs LOGIN").await.unwrap();
    client.batch_execute("GRANT USAGE ON SCHEMA loginsync TO runs").await.unwrap();
    client.batch_execute("GRANT SELECT ON ALL TABLES IN SCHEMA loginsync TO runs").await.unwrap();
    let place = Database { url: scene.database.url.replace("loginsync@", "runs@") }.place();
    let refused = scene.replica_at(place, &rules()).await.err().unwrap();
    assert!(refused.contains("run `loginsync db migrate` as"), "{refused}");
    client.batch_execute("DROP OWNED BY runs; DROP ROLE runs").await.unwrap();
}

/// A process that was stopped for longer than its announcement counts, as with its machine: what it decides after that is decided by
/// what changed meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_that_was_paused_decides_by_what_changed_meanwhile() {
    let Some(scene) = Scene::open().await else { return };
    let other = scene.replica(&rules()).await;
    let folder = tempfile::tempdir().unwrap();
    let [proxy, admin] = crate::torture::ports::<2>();
    let tables = format!(
        "[listen]\naddress = \"127.0.0.1:{proxy}\"\n[admin]\naddress = \"127.0.0.1:{admin}\"\n\
         [store]\nurl = \"{}\"\nkey_file = \"store.key\"\n[app]",
        scene.database.url
    );
    let app = crate::torture::app().await;
    let text = scene.text(&rules()).replace("[app]", &tables).replace("http://127.0.0.1:1\"", &format!("{app}\""));
    let file = folder.path().join("paused.toml");
    std::fs::write(folder.path().join("store.key"), "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=").unwrap();
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_loginsync"));
    let log = std::fs::File::create(folder.path().join("log")).unwrap();
    command.args(["serve", "--config"]).arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    let mut process = Process(command.spawn().unwrap());
    let at = |port: u16| std::net::SocketAddr::from(([127, 0, 0, 1], port));
    let serves =
        async || std::net::TcpStream::connect(at(proxy)).is_ok() && std::net::TcpStream::connect(at(admin)).is_ok();
    within(Duration::from_secs(30), "the process serves", serves).await;
    let log_in = async |groups: &[&str]| {
        let form = format!("id_token={}&state=s", scene.token("alice", groups));
        other.send_to(at(proxy), "POST", "/callback", &super::FORM, form.as_bytes()).await.status
    };
    within(Duration::from_secs(20), "a login enters", async || log_in(&["staff"]).await == 200).await;
    process.signal("-STOP");
    let mapping = serde_json::json!({"definition": {
        "provider": "idp", "when": [{"claim": "groups", "is": "night"}], "then": [{"add_group": "Staff"}],
    }});
    let status = super::call(&other, "POST", "/api/v1/mappings", &mapping).await;
    assert!([200, 201].contains(&status), "{status}");
    // An announcement counts for ten seconds.
    tokio::time::sleep(Duration::from_secs(15)).await;
    process.signal("-CONT");
    let woken = std::time::Instant::now();
    within(Duration::from_secs(20), "a login enters again", async || log_in(&["night"]).await == 200).await;
    println!("a sidecar that was paused for 15 s let in after {:.1} s", woken.elapsed().as_secs_f64());
    assert_eq!(super::groups_of(&other, "alice").await, ["Staff"], "its rules of before give nothing for this");
}

struct Process(std::process::Child);

impl Process {
    fn signal(&mut self, name: &str) {
        assert!(Command::new("kill").args([name, &self.0.id().to_string()]).status().unwrap().success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
