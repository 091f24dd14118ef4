//! What goes wrong with a database, and what people and operators see of it.

use std::time::Duration;

use loginsync::config::{ServerPassword, TlsFiles};

use super::{Scene, group, within};
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
    let form = format!("id_token={token}&state=s");
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    let answer = house.send("POST", "/callback", &headers, form.as_bytes()).await;
    assert_eq!(answer.status, 503, "{}", answer.body);
    assert_eq!(house.send("GET", "/page", &[], b"").await.status, 200, "what needs no identity goes on");
    let ready = house.send_to(house.running.admin, "GET", "/readyz", &[], b"").await;
    assert_eq!(ready.status, 503, "{}", ready.body);
    // A sidecar that starts meanwhile says why it does not.
    let refused = scene.replica_at(scene.database.place(), &rules()).await.err().unwrap();
    assert!(refused.contains("the database cannot be reached"), "{refused}");
    server.control(&["start"]);
    // The token that was refused was not spent.
    within(Duration::from_secs(40), "the token enters", async || {
        let answer = house.send("POST", "/callback", &headers, form.as_bytes()).await;
        answer.status == 200
    })
    .await;
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
