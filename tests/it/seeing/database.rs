//! `loginsync db` through the program itself, on both kinds of database.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use super::{Desk, Said, run};
use crate::support::postgres::Database;

/// A configuration over a database.
fn config(desk: &Desk, name: &str, store: &str) -> String {
    desk.file("store.key", "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=");
    desk.file("audit.key", "YW4gYXVkaXQga2V5IGZvciB0ZXN0cywgMzIgYnl0ZXM=");
    let text = format!(
        "public_url = \"https://app.example.com\"\n[app]\nurl = \"http://127.0.0.1:3000\"\n[store]\n{store}\n\
         [audit]\nkey_file = \"audit.key\"\n[[group]]\nname = \"Staff\"\n\
         [[provider]]\nname = \"p\"\nmode = \"oidc-form-post\"\nissuer = \"https://p.example.com\"\n\
         client_id = \"app\"\ncallback = \"/p\"\nnamespace = \"p\"\n"
    );
    desk.file(name, &text)
}

fn in_file(desk: &Desk, name: &str) -> String {
    config(desk, &format!("{name}.toml"), &format!("path = \"{name}.db\""))
}

fn on_server(desk: &Desk, name: &str, database: &Database) -> String {
    config(desk, &format!("{name}.toml"), &format!("url = \"{}\"\nkey_file = \"store.key\"", database.url))
}

#[track_caller]
fn done(arguments: &[&str]) -> Said {
    let said = run(arguments);
    assert_eq!(said.code, 0, "{arguments:?}: {said:?}");
    said
}

#[track_caller]
fn failed(arguments: &[&str], why: &str) {
    let said = run(arguments);
    assert!(said.code == 1 && said.err.contains(why), "{arguments:?} without `{why}`: {said:?}");
}

fn assign(config: &str, who: &str) {
    done(&["user", "assign", who, "--group", "Staff", "--config", config]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_is_looked_at_made_and_taken_back() {
    let Some(database) = crate::support::postgres::database().await else { return };
    let desk = Desk::new();
    let (old, new) = (in_file(&desk, "old"), on_server(&desk, "new", &database));
    assign(&old, "p/alice");
    assign(&old, "p/bob");
    let audit = |config: &str| done(&["audit", "list", "--json", "--config", config]).out;
    let before = audit(&old);
    let looked = done(&["db", "move", "--config", &old, "--to", &new, "--dry-run", "--json"]).json();
    assert_eq!(looked["refused"], serde_json::json!([]));
    assert!(looked["rows"].as_array().unwrap().iter().any(|row| row == &serde_json::json!(["users", 2])), "{looked}");
    let status = done(&["db", "status", "--json", "--config", &new]).json();
    assert_eq!((&status["kind"], &status["schema"]), (&"postgres".into(), &0.into()), "nothing was made: {status}");
    let moved = done(&["db", "move", "--config", &old, "--to", &new]);
    assert!(moved.out.contains("moved") && moved.err.contains("copying users"), "{moved:?}");
    assert_eq!(audit(&new), before);
    done(&["audit", "verify", "--config", &new]);
    done(&["db", "check", "--config", &new]);
    failed(&["user", "list", "--config", &old], "is no longer in use");
    failed(&["serve", "--config", &old], "is no longer in use");
    failed(&["db", "move", "--config", &new, "--to", &old], "is no longer in use");
    let status = done(&["db", "status", "--json", "--config", &old]).json();
    assert!(status["moved"].as_str().unwrap().contains("was moved to"), "{status}");
    let status = done(&["db", "status", "--config", &new]).out;
    assert!(status.contains("not synchronous") && status.contains("0 audit rows wait"), "{status}");
    // Once more changes nothing.
    done(&["db", "move", "--config", &old, "--to", &new]);
    // On to a file, and that is taken back.
    let third = in_file(&desk, "third");
    done(&["db", "move", "--config", &new, "--to", &third]);
    assert_eq!(audit(&third), before);
    failed(&["user", "list", "--config", &new], "is no longer in use");
    done(&["db", "move", "--undo", "--config", &new, "--to", &third]);
    assert_eq!(audit(&new), before);
    failed(&["user", "list", "--config", &third], "is no longer in use");
}

#[test]
fn a_move_that_would_be_refused_says_so_beforehand() {
    let desk = Desk::new();
    let (old, new) = (in_file(&desk, "old"), in_file(&desk, "new"));
    failed(&["db", "move", "--config", &old, "--to", &new, "--dry-run"], "does not exist");
    assign(&old, "p/alice");
    assign(&new, "p/bob");
    failed(&["db", "move", "--config", &old, "--to", &new, "--dry-run"], "is not empty");
    failed(&["db", "move", "--config", &old, "--to", &new], "is not empty");
    failed(&["db", "move", "--config", &old, "--to", &old], "in use");
    failed(&["db", "move", "--undo", "--config", &old], "nothing to undo");
    done(&["user", "list", "--config", &old]);
    let served = loginsync::ports::store::sqlite::Claim::take(&desk.folder.path().join("old.db")).unwrap();
    failed(&["db", "move", "--config", &old, "--to", &new], "in use by another `loginsync serve`");
    failed(&["db", "restored", "--config", &old], "in use by another `loginsync serve`");
    drop(served);
}

/// `kill -9` in the midst of a transaction, which the server holds up.
#[tokio::test(flavor = "multi_thread")]
async fn a_move_that_was_killed_goes_on() {
    let Some(database) = crate::support::postgres::database().await else { return };
    let desk = Desk::new();
    let (old, new) = (in_file(&desk, "old"), on_server(&desk, "new", &database));
    assign(&old, "p/alice");
    rusqlite::Connection::open(desk.folder.path().join("old.db"))
        .unwrap()
        .execute_batch(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2500)
             INSERT INTO tokens SELECT 500000, randomblob(32) FROM n",
        )
        .unwrap();
    done(&["db", "migrate", "--config", &new]);
    let (client, connection) = tokio_postgres::connect(&database.url, tokio_postgres::NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    client.batch_execute("BEGIN; LOCK TABLE loginsync.tokens IN SHARE MODE").await.unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_loginsync"))
        .args(["db", "move", "--config", &old, "--to", &new])
        .env_remove("LOGINSYNC_CONFIG")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let told = BufReader::new(child.stderr.take().unwrap()).lines();
    let seen = told.map(Result::unwrap).any(|line| line == "copying work");
    child.kill().unwrap();
    let status = child.wait().unwrap();
    assert!(seen && !status.success());
    drop(client);
    let _ = connection.await;
    for config in [&old, &new] {
        failed(&["user", "list", "--config", config], "loginsync db move");
    }
    let looked = done(&["db", "move", "--config", &old, "--to", &new, "--dry-run", "--json"]).json();
    let there = looked["there"].as_u64().unwrap();
    assert!((1..2500).contains(&there), "{there} rows");
    done(&["db", "move", "--config", &old, "--to", &new]);
    let status = done(&["db", "status", "--json", "--config", &new]).json();
    let rows = status["rows"].as_array().unwrap().iter().find(|row| row["table"] == "tokens").unwrap();
    assert_eq!(rows["rows"], 2500);
    done(&["audit", "verify", "--config", &new]);
}

#[tokio::test(flavor = "multi_thread")]
async fn migrate_makes_the_tables_and_lets_another_role_run_on_them() {
    let desk = Desk::new();
    let file = in_file(&desk, "file");
    assert!(done(&["db", "migrate", "--config", &file]).out.contains("created the tables"));
    assert!(done(&["db", "migrate", "--config", &file]).out.contains("nothing to do"));
    failed(&["db", "migrate", "--config", &file, "--runtime-role", "x"], "a file has no roles");
    let Some(database) = crate::support::postgres::database().await else { return };
    let (client, connection) = tokio_postgres::connect(&database.url, tokio_postgres::NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    let role = format!("runs {}", database.url.rsplit('/').next().unwrap());
    client.batch_execute(&format!("CREATE ROLE \"{role}\" LOGIN")).await.unwrap();
    let owner = on_server(&desk, "owner", &database);
    let url = database.url.replace("loginsync@", &format!("{}@", role.replace(' ', "%20")));
    let runs = on_server(&desk, "runs", &Database { url });
    failed(&["user", "assign", "p/alice", "--group", "Staff", "--config", &runs], "loginsync db migrate");
    let made = done(&["db", "migrate", "--config", &owner, "--runtime-role", &role, "--json"]).json();
    assert_eq!(made["before"], 0);
    assign(&runs, "p/alice");
    done(&["user", "disable", "p/alice", "--config", &runs]);
    let unknown = run(&["user", "disable", "p/alcie", "--config", &runs]);
    let says_what_to_do = unknown.err.contains("there is no user `p/alcie`; `loginsync user list`");
    assert!(unknown.code == 1 && says_what_to_do, "{unknown:?}");
    done(&["user", "erase", "p/alice", "--config", &runs]);
    done(&["audit", "verify", "--config", &runs]);
    done(&["db", "status", "--config", &runs]);
    failed(&["db", "restored", "--config", &runs], "42501");
    // The views are for that role, to be read.
    let by_role = format!("SET ROLE \"{role}\"");
    client.batch_execute(&by_role).await.unwrap();
    for view in ["grants", "memberships", "logins"] {
        client.query(&format!("SELECT * FROM loginsync.{view}"), &[]).await.unwrap();
        let may = format!("SELECT has_table_privilege('loginsync.{view}', 'INSERT, UPDATE, DELETE')");
        assert!(!client.query_one(&may, &[]).await.unwrap().get::<_, bool>(0), "{view}");
    }
    client.batch_execute("RESET ROLE").await.unwrap();
    done(&["db", "restored", "--config", &owner]);
    // Tables that a later version adds are for the same roles.
    client
        .batch_execute(
            "DROP TABLE loginsync.followed, loginsync.delivered, loginsync.console, loginsync.remote, loginsync.events; UPDATE loginsync.schema SET version = 1",
        )
        .await
        .unwrap();
    failed(&["user", "list", "--config", &runs], "loginsync db migrate");
    assert!(done(&["db", "migrate", "--config", &owner]).out.contains("from schema version 1 to 6"));
    for table in ["delivered", "console", "remote", "events"] {
        let may = format!("SELECT has_table_privilege('{role}', 'loginsync.{table}', 'UPDATE')");
        assert!(client.query_one(&may, &[]).await.unwrap().get::<_, bool>(0), "{table}");
    }
    assign(&runs, "p/bob");
    client.batch_execute("UPDATE loginsync.schema SET version = 0").await.unwrap();
    failed(&["user", "list", "--config", &runs], "loginsync db migrate");
    drop(client);
    let _ = connection.await;
}

/// A sidecar announces itself in the database.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_served_is_neither_moved_nor_called_restored() {
    let Some(database) = crate::support::postgres::database().await else { return };
    let desk = Desk::new();
    let (old, new) = (on_server(&desk, "old", &database), in_file(&desk, "new"));
    assign(&old, "p/alice");
    let (client, connection) = tokio_postgres::connect(&database.url, tokio_postgres::NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    client
        .batch_execute(
            "CREATE TABLE IF NOT EXISTS loginsync.files (digest bytea PRIMARY KEY, content text NOT NULL);
             CREATE TABLE IF NOT EXISTS loginsync.replicas (id bytea PRIMARY KEY, name text NOT NULL, version text NOT NULL,
                 file bytea NOT NULL, started_at bigint NOT NULL, until bigint NOT NULL, ahead bigint NOT NULL);
             INSERT INTO loginsync.files (digest, content) VALUES (decode('0102', 'hex'), '{}'), (decode('0304', 'hex'), '{}');
             INSERT INTO loginsync.replicas (id, name, version, file, started_at, until, ahead) VALUES
                 (decode('01', 'hex'), 'pod-1', '0.1.0', decode('0102', 'hex'), 0, 9000000000000, 5),
                 (decode('02', 'hex'), 'pod-2', '0.1.1', decode('0304', 'hex'), 0, 9000000000000, 0),
                 (decode('03', 'hex'), 'pod-3', '0.1.0', decode('0102', 'hex'), 0, 1, 0)",
        )
        .await
        .unwrap();
    let told = done(&["db", "status", "--json", "--config", &old]).json();
    let names: Vec<&str> = told["replicas"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["pod-1", "pod-2"], "one that was not heard of counts no more");
    let told = done(&["db", "status", "--config", &old]).out;
    assert!(told.contains("pod-2: version 0.1.1, file 0304") && told.contains("2 different"), "{told}");
    failed(&["db", "move", "--config", &old, "--to", &new], "served by `pod-1`, `pod-2`");
    failed(&["db", "restored", "--config", &old], "served by `pod-1`, `pod-2`");
    client.batch_execute("UPDATE loginsync.replicas SET until = 1").await.unwrap();
    done(&["db", "restored", "--config", &old]);
    done(&["db", "move", "--config", &old, "--to", &new]);
    drop(client);
    let _ = connection.await;
}

#[test]
fn restored_is_told_and_audited() {
    let desk = Desk::new();
    let file = in_file(&desk, "file");
    failed(&["db", "restored", "--config", &file], "does not exist");
    assign(&file, "p/alice");
    let said = done(&["db", "restored", "--config", &file]);
    assert!(said.out.contains("are refused") && said.err.contains("repeat the erasures"), "{said:?}");
    let rows = done(&["audit", "list", "--json", "--config", &file]).out;
    assert!(rows.contains("restored") && rows.contains("cli:tester"), "{rows}");
}

/// Acting by rules that no live sidecar has would end, or give, what those do not.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_acts_by_the_rules_of_a_live_sidecar_alone() {
    let Some(database) = crate::support::postgres::database().await else { return };
    let desk = Desk::new();
    let same = on_server(&desk, "same", &database);
    let text = std::fs::read_to_string(&same).unwrap();
    let other = desk.file("other.toml", &(text.clone() + "[[group]]\nname = \"More\"\nbrake = false\n"));
    assign(&other, "p/alice");
    let file = std::path::Path::new(&same);
    let clock = loginsync::clock::Clock::system();
    let open = crate::front_door::House::try_open(database.place(), &text, file, clock.clone());
    let house = Box::pin(open).await.unwrap_or_else(|error| panic!("{error}"));
    done(&["user", "assign", "p/bob", "--group", "Staff", "--config", &same]);
    let refused = "use other rules than those of";
    failed(&["user", "assign", "p/carol", "--group", "Staff", "--config", &other], refused);
    failed(&["lease", "reap", "--config", &other], refused);
    failed(&["mapping", "apply", "--config", &other], refused);
    failed(&["hold", "release", "--all", "--config", &other], refused);
    done(&["user", "list", "--config", &other]);
    // What looks at a login says by which files that is decided.
    let login = desk.file("login.json", r#"{"sub": "dave", "groups": ["on-leave"]}"#);
    let said = run(&["explain", &login, "--config", &other]);
    assert!(said.code == 0 && said.out.contains("no live sidecar uses this file"), "{said:?}");
    let gate =
        "[[gate]]\nname = \"leave\"\ndeny = [{ claim = \"groups\", is = \"on-leave\" }]\n[provider.claims.groups]\n";
    let same_with_claim = desk.file("claim.toml", &(text.clone() + "[provider.claims.groups]\n"));
    let gated = text.clone() + gate;
    let [plain, shut] = [std::fs::read_to_string(&same_with_claim).unwrap(), gated];
    let mut beside = Vec::new();
    for text in [&plain, &shut] {
        let open = crate::front_door::House::try_open(database.place(), text, file, clock.clone());
        beside.push(Box::pin(open).await.unwrap_or_else(|error| panic!("{error}")));
    }
    let said = run(&["explain", &login, "--config", &same_with_claim]);
    assert!(said.code == 3 && said.out.contains("refused by gate `leave`"), "{said:?}");
    assert!(said.out.contains("live sidecars use different files"), "{said:?}");
    for house in beside {
        house.running.stop().await;
    }
    house.running.stop().await;
    done(&["user", "assign", "p/carol", "--group", "Staff", "--config", &other]);
}
