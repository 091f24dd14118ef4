//! What the audit chain proves, and what it cannot: the table of `docs/audit.md`, row by row.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use aws_lc_rs::{digest, hmac};
use loginsync::config::{Secret, Synchronous};
use loginsync::pipeline::ids::{GroupName, Namespace, Subject, Target, Timestamp, UserId};
use loginsync::ports::store::sqlite::{Settings, SqliteStore};
use loginsync::ports::store::{Act, Store};
use rusqlite::{Connection, params};
use serde_json::json;

use crate::attacks::{FORM, Siege, config, form, signed, with};
use crate::findings::store::of_version;
use crate::kit::NOW;

const KEY: &[u8] = b"an audit key for tests, 32 bytes";

/// A folder with a configuration that names the key, for commands on copies of a database.
struct Desk {
    folder: tempfile::TempDir,
}

impl Desk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("audit.key"), KEY).unwrap();
        let text = config("", "").replace("fixtures/", &format!("{}/fixtures/", env!("CARGO_MANIFEST_DIR")));
        std::fs::write(folder.path().join("keyless.toml"), &text).unwrap();
        let text = format!("{text}\n[audit]\nkey_file = \"audit.key\"\n");
        std::fs::write(folder.path().join("loginsync.toml"), text).unwrap();
        Self { folder }
    }

    fn database(&self) -> PathBuf {
        self.folder.path().join("store.db")
    }

    /// Puts a copy of a database where the configuration expects it, and lets an attacker at it.
    fn tampered(&self, original: &Path, tamper: &str) {
        for suffix in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(self.folder.path().join(format!("store.db{suffix}")));
        }
        std::fs::copy(original, self.database()).unwrap();
        Connection::open(self.database())
            .unwrap()
            .execute_batch(tamper)
            .unwrap_or_else(|why| panic!("{tamper}: {why}"));
    }

    fn run(&self, arguments: &str) -> Output {
        self.run_with("loginsync.toml", arguments)
    }

    fn run_with(&self, file: &str, arguments: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_loginsync"));
        command.args(arguments.split(' ')).arg("--config").arg(self.folder.path().join(file)).output().unwrap()
    }

    /// What `audit verify` says of the database.
    fn verdict(&self, more: &str) -> (Option<i32>, String) {
        let output = self.run(&format!("audit verify{more}"));
        (output.status.code(), told(&output))
    }

    fn assert_whole(&self, what: &str) -> String {
        let (code, said) = self.verdict("");
        assert_eq!(code, Some(0), "{what}: {said}");
        said
    }

    fn assert_broken(&self, what: &str, expected: &[&str]) {
        let (code, said) = self.verdict("");
        assert_eq!(code, Some(1), "nobody noticed: {what}: {said}");
        for part in expected {
            assert!(said.contains(part), "{what}: `{part}` is not in {said}");
        }
    }
}

fn told(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn user(subject: &str) -> UserId {
    UserId { namespace: Namespace::parse("oidc").unwrap(), subject: Subject::parse(subject).unwrap() }
}

fn group(name: &str) -> Target {
    Target::Group(GroupName::parse(name).unwrap())
}

fn settings(key: Option<&[u8]>) -> Settings {
    Settings {
        synchronous: Synchronous::Normal,
        timeout: std::time::Duration::from_secs(2),
        audit_key: key.map(|key| Secret::new(key.to_vec())),
    }
}

/// A siege whose audit is sealed with the key.
async fn sealed(desk: &Desk) -> Siege {
    let key = desk.folder.path().join("audit.key");
    Siege::with(&format!("{}\n[audit]\nkey_file = \"{}\"\n", config("", ""), key.display())).await
}

async fn log_in(siege: &Siege, subject: &str, token: &str) -> u16 {
    let claims = with(&json!({"sub": subject, "jti": token, "groups": ["staff"]}));
    let body = form(&[("id_token", &signed(&claims)), ("state", "state-1")]);
    siege.send("/callback", FORM.1, body.as_bytes()).await.status
}

/// What happened, row by row: 1 alice, 2 bob, 3 alice, 4 a replay, 5 a deny for bob, 6 carol, 7 carol is erased, 8 eve, 9 alice.
async fn history(desk: &Desk) -> Siege {
    let siege = sealed(desk).await;
    let store = siege.house.store();
    for (subject, token, status) in [("alice", "1", 200), ("bob", "2", 200), ("alice", "3", 200), ("alice", "3", 409)] {
        assert_eq!(log_in(&siege, subject, token).await, status, "{token}");
    }
    let deny = Act::Deny { target: group("Administrators"), reason: "test".into(), until: None };
    store.act(user("bob"), deny, "test".into(), NOW).await.unwrap();
    assert_eq!(log_in(&siege, "carol", "5").await, 200);
    store.act(user("carol"), Act::Erase, "test".into(), NOW).await.unwrap();
    assert_eq!(log_in(&siege, "eve", "6").await, 200);
    assert_eq!(log_in(&siege, "alice", "7").await, 200);
    store.settle().await.unwrap();
    siege
}

/// What an attacker does to the database without the key, which row shows it, and in what words.
const SEEN: &[(&str, &str, &[&str])] = &[
    (
        "what a login did is changed",
        "UPDATE audit SET detail = replace(detail, 'Staff', 'Other') WHERE sequence = 2",
        &["row 2", "detail"],
    ),
    ("when it was is changed", "UPDATE audit SET at = at + 1 WHERE sequence = 2", &["row 2", "time"]),
    ("what it was is changed", "UPDATE audit SET event = 'login_shadow' WHERE sequence = 2", &["row 2", "event"]),
    ("which login it was is changed", "UPDATE audit SET login = 'x' WHERE sequence = 2", &["row 2", "login"]),
    (
        "a refusal is changed",
        "UPDATE audit SET detail = replace(detail, 'replay', 'other') WHERE sequence = 4",
        &["row 4", "detail"],
    ),
    (
        "who it was is changed, by the fields",
        "UPDATE audit SET fields = replace(fields, 'alice', 'mallory') WHERE sequence = 3",
        &["row 3", "personal fields"],
    ),
    (
        "who it was is changed, without the salt",
        "UPDATE audit SET salt = NULL, fields = replace(fields, 'alice', 'mallory') WHERE sequence = 3",
        &["row 3", "without their salt"],
    ),
    (
        "who it was is changed, with another salt and hash",
        "UPDATE audit SET salt = zeroblob(16), fields = '{}', person = zeroblob(32) WHERE sequence = 3",
        &["row 3", "hash"],
    ),
    (
        "fields move into the salt",
        "UPDATE audit SET salt = CAST(salt || '{\"n' AS BLOB), fields = substr(fields, 4) WHERE sequence = 3",
        &["row 3", "personal fields"],
    ),
    (
        "fields are put where none were",
        "UPDATE audit SET salt = zeroblob(16), fields = '{}' WHERE sequence = 4",
        &["row 4", "never had"],
    ),
    (
        "fields are removed without an erasure",
        "UPDATE audit SET salt = NULL, fields = NULL WHERE sequence = 2",
        &["row 2", "no row says", "was erased"],
    ),
    (
        "half of the fields is removed",
        "UPDATE audit SET fields = NULL WHERE sequence = 2",
        &["row 2", "removed by hand"],
    ),
    (
        "the number by which rows are erased is changed",
        "UPDATE audit SET user_id = 99 WHERE sequence = 2",
        &["row 2", "user number"],
    ),
    ("the number is taken away", "UPDATE audit SET user_id = NULL WHERE sequence = 2", &["row 2", "user number"]),
    ("a row is removed", "DELETE FROM audit WHERE sequence = 5", &["row 6", "removed"]),
    ("the first row is removed", "DELETE FROM audit WHERE sequence = 1", &["row 2", "removed"]),
    (
        "a row is removed and the others are numbered anew",
        "DELETE FROM audit WHERE sequence = 5; UPDATE audit SET sequence = -sequence WHERE sequence > 5; UPDATE audit SET sequence = -sequence - 1 WHERE sequence < 0",
        &["row 5", "seal"],
    ),
    (
        "two rows change places",
        "UPDATE audit SET sequence = -3 WHERE sequence = 3; UPDATE audit SET sequence = 3 WHERE sequence = 5; UPDATE audit SET sequence = 5 WHERE sequence = -3",
        &["row 3", "seal"],
    ),
    ("a row is numbered anew", "UPDATE audit SET sequence = 20 WHERE sequence = 9", &["row 20", "should"]),
    (
        "a row is put in twice",
        "INSERT INTO audit SELECT 10, at, event, detail, person, keyed, seal, user_id, salt, fields, format, login, mac, key FROM audit WHERE sequence = 9",
        &["row 10", "seal"],
    ),
    (
        "the erasure is removed",
        "DELETE FROM audit WHERE sequence = 7; UPDATE audit SET sequence = -sequence WHERE sequence > 7; UPDATE audit SET sequence = -sequence - 1 WHERE sequence < 0",
        &["row 7", "seal"],
    ),
    ("the seal is changed", "UPDATE audit SET seal = zeroblob(32) WHERE sequence = 9", &["row 9", "seal"]),
    ("the MAC is changed", "UPDATE audit SET mac = zeroblob(32) WHERE sequence = 9", &["row 9", "MAC"]),
    (
        "a row is said to have no key",
        "UPDATE audit SET keyed = 0, key = NULL WHERE sequence = 9",
        &["row 9", "not sealed with the key"],
    ),
    ("every row is said to have no key", "UPDATE audit SET keyed = 0, key = NULL", &["row 1"]),
    (
        "a row is said to have another key",
        "UPDATE audit SET key = x'0102030405060708' WHERE sequence = 9",
        &["row 9", "another key"],
    ),
    (
        "a row is said to be of the first format",
        "UPDATE audit SET format = 1 WHERE sequence = 9",
        &["row 9", "first format"],
    ),
    (
        "every row is said to be of the first format",
        "UPDATE audit SET format = 1, mac = NULL, key = NULL, login = NULL",
        &["row 1", "seal"],
    ),
    (
        "a row is said to be of an unknown format",
        "UPDATE audit SET format = 3 WHERE sequence = 9",
        &["row 9", "unknown format 3"],
    ),
    ("a value gets another type", "UPDATE audit SET detail = x'ff' WHERE sequence = 3", &["row 3", "wrong type"]),
    ("the chain is emptied", "DELETE FROM audit", &["the chain is empty", "3 users"]),
    ("the chain is cut before a user came", "DELETE FROM audit WHERE sequence >= 8", &["no row is about user 4"]),
    (
        "a user is put in by hand",
        "INSERT INTO users (id, namespace, subject, created_at) VALUES (99, 'oidc', 'mallory', 0)",
        &["no row is about user 99"],
    ),
    ("a user is removed by hand", "DELETE FROM users WHERE subject = 'eve'", &["user 4 is gone"]),
];

/// What the audit does not show by itself, as the page says.
const UNSEEN: &[(&str, &str)] = &[
    (
        "a membership is given by hand",
        "INSERT INTO targets (number, kind, name) VALUES (99, 0, 'Administrators');
         UPDATE records SET record = json_insert(record, '$.holdings[#]', json('{\"target\":99,\"granted_at\":0}'))
         WHERE user_id = 1",
    ),
    ("a deny is lifted by hand", "UPDATE records SET record = json_remove(record, '$.denies')"),
    ("the last rows are removed, and users have others", "DELETE FROM audit WHERE sequence = 9"),
];

#[tokio::test(flavor = "multi_thread")]
async fn sec14_what_an_attacker_without_the_key_does_to_the_audit_shows() {
    let desk = Desk::new();
    let siege = history(&desk).await;
    let original = siege.house.folder.path().join("store.db");
    let head = siege.house.store().audit_head().await.unwrap().unwrap().1;
    desk.tampered(&original, "");
    let said = desk.assert_whole("nothing was done");
    assert!(said.contains("9 rows, sealed with the key; 1 of them erased"), "{said}");
    for (what, tamper, expected) in SEEN {
        desk.tampered(&original, tamper);
        desk.assert_broken(what, expected);
    }
    for (what, tamper) in UNSEEN {
        desk.tampered(&original, tamper);
        desk.assert_whole(what);
    }
    // The head that was logged shows what was cut off, and a chain that goes on from an older copy.
    let (code, said) = desk.verdict(&format!(" --head {head}"));
    assert!(code == Some(1) && said.contains("not in the chain"), "{said}");
    desk.tampered(&original, "DELETE FROM audit WHERE sequence = 9");
    assert!(desk.run("user deny oidc bob --group Staff --reason test").status.success());
    desk.assert_whole("an older copy goes on");
    assert_eq!(desk.verdict(&format!(" --head {head}")).0, Some(1));
}

/// The whole chain is written anew without the key, as the program without a key writes it, in either format.
#[tokio::test(flavor = "multi_thread")]
async fn sec14_a_chain_that_is_written_anew_without_the_key_shows() {
    let desk = Desk::new();
    let siege = history(&desk).await;
    let original = siege.house.folder.path().join("store.db");
    let forged = tempfile::tempdir().unwrap();
    let path = forged.path().join("forged.db");
    {
        let store = Store::from(SqliteStore::open(&path, settings(None)).unwrap());
        for subject in ["alice", "bob", "mallory", "eve"] {
            store.act(user(subject), Act::Assign(group("Staff")), "test".into(), NOW).await.unwrap();
        }
        store.settle().await.unwrap();
    }
    let take = format!(
        "ATTACH '{}' AS forged; DELETE FROM main.audit; INSERT INTO main.audit SELECT * FROM forged.audit;",
        path.display()
    );
    desk.tampered(&original, &take);
    desk.assert_broken("rows of the second format", &["row 1", "not sealed with the key"]);
    // The next login, or the next start, does not vouch for them.
    assert!(desk.run("user deny oidc bob --group Staff --reason test").status.success());
    desk.assert_broken("and a sealed row after them", &["row 1", "not sealed with the key"]);
    // Nor does an upgrade, if the database is made to look like an old one.
    let old = forged.path().join("old.db");
    of_version(&old, 4);
    first_format(&old, &[None; 5]);
    desk.tampered(&old, "");
    desk.assert_broken("rows of the first format", &["row 1", "not sealed with the key"]);
    // One that has the new tables is not migrated again.
    desk.tampered(&original, "PRAGMA user_version = 4");
    assert!(!desk.run("audit verify").status.success());
}

/// Adds rows of the first format, each about a user of its own, with the key or without.
fn first_format(path: &Path, keys: &[Option<&[u8]>]) {
    let connection = Connection::open(path).unwrap();
    let mut before: Vec<u8> = Vec::new();
    for (number, key) in (1_i64..).zip(keys) {
        let (salt, fields) = ([7_u8; 16], format!("{{\"namespace\":\"oidc\",\"subject\":\"old-{number}\"}}"));
        let person = digest::digest(&digest::SHA256, &[salt.as_slice(), fields.as_bytes()].concat()).as_ref().to_vec();
        let keyed = [u8::from(key.is_some())];
        let parts: [&[u8]; 7] =
            [&before, &number.to_be_bytes(), &0_i64.to_be_bytes(), b"login", b"{\"login\":\"old\"}", &person, &keyed];
        let bytes: Vec<u8> =
            parts.iter().flat_map(|part| [&(part.len() as u64).to_be_bytes()[..], *part].concat()).collect();
        let seal = match key {
            Some(key) => hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), &bytes).as_ref().to_vec(),
            None => digest::digest(&digest::SHA256, &bytes).as_ref().to_vec(),
        };
        connection
            .execute(
                "INSERT INTO audit (sequence, at, event, detail, person, keyed, seal, user_id, salt, fields)
                 VALUES (?1, 0, 'login', '{\"login\":\"old\"}', ?2, ?3, ?4, ?1, ?5, ?6)",
                params![number, person, key.is_some(), seal, salt, fields],
            )
            .unwrap();
        connection
            .execute(
                "INSERT INTO users (id, namespace, subject, created_at) VALUES (?1, 'oidc', ?2, 0)",
                params![number, format!("old-{number}")],
            )
            .unwrap();
        before = seal;
    }
}

/// Rows of before keep their seals; the first row after them seals how many they are, how they end and whom they are about.
#[tokio::test(flavor = "multi_thread")]
async fn sec14_rows_of_the_first_format_are_counted_and_sealed() {
    let desk = Desk::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    of_version(&path, 4);
    first_format(&path, &[None, None, Some(KEY), Some(KEY)]);
    {
        // A user whom a mapping disabled at the first login had no row in those days.
        let connection = Connection::open(&path).unwrap();
        connection
            .execute_batch("INSERT INTO users (id, namespace, subject, created_at) VALUES (9, 'oidc', 'x', 0)")
            .unwrap();
        drop(connection);
        let store = Store::from(SqliteStore::open(&path, settings(Some(KEY))).unwrap());
        let deny = Act::Deny { target: group("Staff"), reason: "test".into(), until: None };
        store.act(user("old-4"), deny, "test".into(), NOW).await.unwrap();
        store.act(user("old-3"), Act::Erase, "test".into(), NOW).await.unwrap();
        let report = store.verify_audit().await.unwrap();
        assert_eq!((report.broken, report.rows, report.first_format, report.unkeyed), (None, 7, 4, 2));
        store.settle().await.unwrap();
    }
    let tampers: &[(&str, &[&str])] = &[
        ("UPDATE audit SET detail = '{}' WHERE sequence = 2", &["row 2", "seal"]),
        ("UPDATE audit SET user_id = 2 WHERE sequence = 1", &["row 5", "other user numbers"]),
        (
            "UPDATE audit SET user_id = NULL, salt = NULL, fields = NULL WHERE sequence = 1",
            &["row 5", "other user numbers"],
        ),
        ("UPDATE audit SET salt = NULL, fields = NULL WHERE sequence = 1", &["row 1", "no row says"]),
        ("UPDATE audit SET login = 'another' WHERE sequence = 1", &["row 1", "parts of the second"]),
        (
            "DELETE FROM audit WHERE sequence = 4; UPDATE audit SET sequence = -sequence WHERE sequence > 4;
             UPDATE audit SET sequence = -sequence - 1 WHERE sequence < 0",
            &["row 4", "seal"],
        ),
        ("DELETE FROM audit WHERE sequence > 4", &["ends before the row that counts"]),
    ];
    for (tamper, expected) in tampers {
        desk.tampered(&path, tamper);
        desk.assert_broken(tamper, expected);
    }
}

/// Rows of before a move keep their seals and their order in PostgreSQL, and on the way back.
#[tokio::test(flavor = "multi_thread")]
async fn sec14_rows_of_the_first_format_move_to_postgres_and_back() {
    let Some(database) = crate::support::postgres::database().await else { return };
    let desk = Desk::new();
    of_version(&desk.database(), 4);
    first_format(&desk.database(), &[None, None, Some(KEY), Some(KEY)]);
    let text = std::fs::read_to_string(desk.folder.path().join("loginsync.toml")).unwrap();
    let elsewhere = |file: &str, place: &str| {
        let text = text.replace("path = \"store.db\"", place);
        std::fs::write(desk.folder.path().join(file), text).unwrap();
    };
    std::fs::write(desk.folder.path().join("store.key"), "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=").unwrap();
    elsewhere("server.toml", &format!("url = \"{}\"\nkey_file = \"store.key\"", database.url));
    elsewhere("back.toml", "path = \"back.db\"");
    let done = |file: &str, arguments: &str| {
        let output = desk.run_with(file, arguments);
        assert!(output.status.success(), "{file}: {arguments}: {}", told(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let shown = |file: &str| {
        done(file, "db check");
        (done(file, "audit verify"), done(file, "audit list --json"))
    };
    done("loginsync.toml", "user deny oidc old-4 --group Staff --reason test");
    done("loginsync.toml", "user erase oidc old-3");
    let client = database.client().await;
    for (from, to) in [("loginsync.toml", "server.toml"), ("server.toml", "back.toml")] {
        let before = shown(from);
        assert!(before.0.contains("rows") && before.1.contains("\"login\""), "{before:?}");
        done(from, &format!("db move --to {}", desk.folder.path().join(to).display()));
        assert_eq!(shown(to), before, "{to}");
        // The chain goes on behind them.
        done(to, &format!("user assign oidc old-{} --group Staff", if to == "server.toml" { 1 } else { 2 }));
        shown(to);
        if to == "server.toml" {
            let first = "(SELECT min(id) FROM loginsync.audit)";
            for (tamper, mend) in
                [("detail = '{}'", "detail = '{\"login\":\"old\"}'"), ("first_keyed = true", "first_keyed = false")]
            {
                client.batch_execute(&format!("UPDATE loginsync.audit SET {tamper} WHERE id = {first}")).await.unwrap();
                let output = desk.run_with(to, "audit verify");
                assert!(
                    output.status.code() == Some(1) && told(&output).contains("row 1"),
                    "{tamper}: {}",
                    told(&output)
                );
                client.batch_execute(&format!("UPDATE loginsync.audit SET {mend} WHERE id = {first}")).await.unwrap();
            }
        }
    }
    let report = Store::from(SqliteStore::open(&desk.folder.path().join("back.db"), settings(Some(KEY))).unwrap())
        .verify_audit()
        .await
        .unwrap();
    assert_eq!((report.broken, report.first_format, report.unkeyed), (None, 4, 2));
}

/// A key that is new: the rows of before are a fault until an operator accepts them, and are counted from then on.
#[tokio::test(flavor = "multi_thread")]
async fn sec14_rows_older_than_the_key_are_accepted_by_an_operator() {
    let desk = Desk::new();
    let command = |file: &str, subject: &str| {
        let output = desk.run_with(file, &format!("user assign oidc {subject} --group Staff"));
        assert!(output.status.success(), "{}", told(&output));
    };
    command("keyless.toml", "alice");
    command("keyless.toml", "bob");
    desk.assert_broken("the key is new", &["row 1", "audit accept-unkeyed"]);
    command("loginsync.toml", "carol");
    desk.assert_broken("a sealed row follows", &["row 1", "the rows up to 2"]);
    let output = desk.run("audit accept-unkeyed --by tester");
    assert!(output.status.success() && told(&output).contains("first 2 rows"), "{}", told(&output));
    let said = desk.assert_whole("accepted");
    assert!(said.contains("the first 2 are older than the key"), "{said}");
    let copy = desk.folder.path().join("copy.db");
    Connection::open(desk.database()).unwrap().execute("VACUUM INTO ?1", params![copy.to_str().unwrap()]).unwrap();
    desk.tampered(&copy, "UPDATE audit SET detail = '{}' WHERE sequence = 1");
    desk.assert_broken("an accepted row is changed", &["row 1", "MAC"]);
    // With nothing left to accept it says so.
    let fresh = Desk::new();
    assert!(fresh.run("user assign oidc alice --group Staff").status.success());
    let output = fresh.run("audit accept-unkeyed");
    assert!(!output.status.success() && told(&output).contains("every row is sealed"), "{}", told(&output));
}

/// A row that could never be verified is not written: a command without the key, or with another, changes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn sec14_nothing_is_written_without_the_key_of_before() {
    let desk = Desk::new();
    assert!(desk.run("user assign oidc alice --group Staff").status.success());
    for command in ["user assign oidc bob --group Staff", "serve"] {
        let output = desk.run_with("keyless.toml", command);
        let said = told(&output);
        assert!(output.status.code() == Some(1) && said.contains("sealed with a key"), "{command}: {said}");
    }
    std::fs::write(desk.folder.path().join("audit.key"), b"another key for tests, of 32 bytes").unwrap();
    let output = desk.run("user assign oidc bob --group Staff");
    assert!(!output.status.success() && told(&output).contains("another one"), "{}", told(&output));
    std::fs::write(desk.folder.path().join("audit.key"), KEY).unwrap();
    desk.assert_whole("nothing was written");
}

/// Erasing takes every row about the person and no other's, whatever an attacker did to the numbers before; and the fields of an
/// erased person that come back are a fault.
#[tokio::test(flavor = "multi_thread")]
async fn sec15_erasing_works_by_what_is_sealed() {
    let desk = Desk::new();
    let siege = history(&desk).await;
    let original = siege.house.folder.path().join("store.db");
    // Somebody points another's rows at the person who is erased next.
    desk.tampered(&original, "UPDATE audit SET user_id = 2 WHERE sequence = 1");
    desk.assert_broken("before the erasure", &["row 1", "user number"]);
    assert!(desk.run("user erase oidc bob").status.success());
    desk.assert_broken("after it", &["row 1", "user number"]);
    // Honestly: both of bob's rows, and nobody else's.
    desk.tampered(&original, "");
    let kept = |sequence: i64| -> (Option<Vec<u8>>, Option<String>) {
        let connection = Connection::open(desk.database()).unwrap();
        let statement = "SELECT salt, fields FROM audit WHERE sequence = ?1";
        connection.query_row(statement, [sequence], |row| Ok((row.get(0)?, row.get(1)?))).unwrap()
    };
    let bobs = kept(2);
    assert!(desk.run("user erase oidc bob").status.success());
    assert!(desk.assert_whole("erased").contains("3 of them erased"));
    assert_eq!((kept(2), kept(5)), ((None, None), (None, None)));
    assert!(kept(1).1.unwrap().contains("alice"));
    let connection = Connection::open(desk.database()).unwrap();
    connection.execute("UPDATE audit SET salt = ?1, fields = ?2 WHERE sequence = 2", params![bobs.0, bobs.1]).unwrap();
    drop(connection);
    desk.assert_broken("the fields come back", &["row 2", "still has personal fields"]);
}

/// The number of an erased user is nobody else's, so that rows about the one are never taken for rows about the other.
#[tokio::test(flavor = "multi_thread")]
async fn sec15_the_number_of_an_erased_user_is_not_used_again() {
    let desk = Desk::new();
    let siege = sealed(&desk).await;
    assert_eq!(log_in(&siege, "alice", "1").await, 200);
    assert_eq!(log_in(&siege, "bob", "2").await, 200);
    siege.house.store().act(user("bob"), Act::Erase, "test".into(), NOW).await.unwrap();
    assert_eq!(log_in(&siege, "carol", "3").await, 200);
    let exported = siege.house.store().export(user("carol")).await.unwrap().unwrap();
    assert_eq!(exported["audit"].as_array().unwrap().len(), 1, "{exported}");
    let report = siege.house.store().verify_audit().await.unwrap();
    assert_eq!((report.broken, report.erased), (None, 1));
    // Were it used again by a trick, it would show.
    let path = siege.house.folder.path().join("store.db");
    Connection::open(&path)
        .unwrap()
        .execute_batch("UPDATE settings SET value = 0 WHERE name = 'last_erased_user'")
        .unwrap();
    siege.house.store().act(user("carol"), Act::Erase, "test".into(), NOW).await.unwrap();
    Connection::open(&path).unwrap().execute_batch("DELETE FROM settings WHERE name = 'last_erased_user'").unwrap();
    assert_eq!(log_in(&siege, "dave", "4").await, 200);
    let broken = siege.house.store().verify_audit().await.unwrap().broken.unwrap();
    assert!(broken.fault.contains("used again"), "{broken}");
}

/// An older version that still runs cannot add rows that would break the chain.
#[tokio::test(flavor = "multi_thread")]
async fn sec14_an_older_version_adds_no_row_to_a_newer_chain() {
    let desk = Desk::new();
    let siege = history(&desk).await;
    let refused = Connection::open(siege.house.folder.path().join("store.db"))
        .unwrap()
        .execute_batch(
            "INSERT INTO audit (sequence, at, event, detail, keyed, seal) VALUES (10, 0, 'login', '{}', 0, x'')",
        )
        .unwrap_err();
    assert!(refused.to_string().contains("stop the older process"), "{refused}");
}

/// Checking takes seconds for a hundred thousand rows, not minutes; a tenth of them here, in a build without optimization.
#[tokio::test(flavor = "multi_thread")]
async fn sec14_checking_is_fast() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&folder.path().join("store.db"), settings(Some(KEY))).unwrap();
    let store = Arc::new(Store::from(store));
    let mut acting = tokio::task::JoinSet::new();
    for number in 0..64 {
        let store = Arc::clone(&store);
        acting.spawn(async move {
            for round in 0..150 {
                let act = if round % 2 == 0 { Act::Assign(group("Staff")) } else { Act::Unassign(group("Staff")) };
                store.act(user(&format!("user-{number}")), act, "test".into(), Timestamp(round)).await.unwrap();
            }
        });
    }
    while let Some(done) = acting.join_next().await {
        done.unwrap();
    }
    let before = crate::kit::processor_time();
    let began = std::time::Instant::now();
    let report = store.verify_audit().await.unwrap();
    assert_eq!((report.rows, report.broken), (9600, None));
    println!("{:?} of the clock, {:?} here", began.elapsed(), crate::kit::processor_time() - before);
    assert!(began.elapsed() < std::time::Duration::from_secs(5), "{:?}", began.elapsed());
}
