//! Readiness, one process for each file, and upgrades beside other commands.

use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use loginsync::clock::Clock;
use rusqlite::Connection;
use serde_json::json;

use crate::attacks::{FORM, LEAVE, Siege, config, form, signed, with};
use crate::front_door::App;
use crate::promises::Program;

/// A folder with a configuration for the program itself, before an app.
struct Place {
    folder: tempfile::TempDir,
    app: App,
}

impl Place {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let app = App::default();
        let address = app.start().await;
        let text = config("", "")
            .replace("http://127.0.0.1:1", &format!("http://{address}"))
            .replace("fixtures/", &format!("{}/fixtures/", env!("CARGO_MANIFEST_DIR")));
        let text = format!("{text}\n[listen]\naddress = \"127.0.0.1:0\"\n[admin]\naddress = \"127.0.0.1:0\"\n");
        std::fs::write(folder.path().join("loginsync.toml"), text).unwrap();
        Self { folder, app }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("loginsync.toml")
    }

    fn database(&self) -> PathBuf {
        self.folder.path().join("store.db")
    }

    fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_loginsync"));
        command.args(arguments.split(' ')).arg("--config").arg(self.file()).current_dir(self.folder.path());
        command
    }

    fn run(&self, arguments: &str) -> Output {
        self.command(arguments).output().unwrap()
    }
}

fn told(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A database as an older version left it; version 0 is an empty file.
pub(super) fn of_version(path: &Path, version: usize) {
    let scripts = [
        include_str!("../../../src/ports/store/sqlite/schema/1-logins.sql"),
        include_str!("../../../src/ports/store/sqlite/schema/2-rules.sql"),
        include_str!("../../../src/ports/store/sqlite/schema/3-sessions.sql"),
        include_str!("../../../src/ports/store/sqlite/schema/4-catalogue.sql"),
    ];
    let connection = Connection::open(path).unwrap();
    connection.pragma_update(None, "journal_mode", "WAL").unwrap();
    scripts.iter().take(version).for_each(|script| connection.execute_batch(script).unwrap());
    connection.pragma_update(None, "user_version", i64::try_from(version).unwrap()).unwrap();
}

/// Many commands open one file at once, new or of an older version: each does its work.
#[tokio::test(flavor = "multi_thread")]
async fn sto1_a_first_start_or_an_upgrade_beside_other_commands_works() {
    let commands = ["user list", "audit verify", "group list", "hold list"];
    for round in 0..25 {
        let place = Place::new().await;
        match round % 5 {
            0 => {}
            version => of_version(&place.database(), version),
        }
        // Every fifth round the service itself is among them.
        let service = (round % 5 == round / 5).then(|| Program::start(&place.file()));
        let pipe = std::process::Stdio::piped;
        let running: Vec<_> = commands
            .iter()
            .map(|command| (command, place.command(command).stdout(pipe()).stderr(pipe()).spawn().unwrap()))
            .collect();
        for (command, child) in running {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "round {round}, {command}: {}", told(&output));
        }
        if let Some(service) = service {
            service.line_with("\"listening\"");
            service.end();
        }
    }
}

/// An older version that still serves is not left with a database that it does not know.
#[tokio::test(flavor = "multi_thread")]
async fn sto1_a_command_does_not_upgrade_a_database_that_an_older_version_serves() {
    let place = Place::new().await;
    of_version(&place.database(), 4);
    let lock = std::fs::File::create(place.folder.path().join("store.db.lock")).unwrap();
    lock.lock().unwrap();
    let output = place.run("user list");
    let version: i64 =
        Connection::open(place.database()).unwrap().pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    let upgrades = version != 4;
    drop(lock);
    assert!(!upgrades, "the command changed the schema");
    if !output.status.success() {
        assert!(told(&output).contains("stop it before you use this version"), "{}", told(&output));
    }
}

/// One login of a person who was not here before.
async fn log_in(siege: &Siege, subject: &str) -> u16 {
    let claims = with(&json!({"sub": subject, "jti": subject, "groups": ["staff"]}));
    let body = form(&[("id_token", &signed(&claims)), ("state", "state-1")]);
    siege.send("/callback", FORM.1, body.as_bytes()).await.status
}

async fn readiness(siege: &Siege) -> (u16, String) {
    let answer = siege.house.send_to(siege.house.running.admin, "GET", "/readyz", &[], b"").await;
    (answer.status, answer.body)
}

/// A file that was deleted, moved or replaced is not written any more: the process is not ready, says why, and refuses logins.
/// When the file is back, it goes on.
#[tokio::test(flavor = "multi_thread")]
async fn sto2_a_database_that_is_no_longer_there_is_not_ready_and_refuses_logins() {
    for (name, replaced) in [("store.db", false), ("store.db", true), ("store.db-wal", false), ("store.db.lock", true)]
    {
        let siege = Siege::open().await;
        assert_eq!(log_in(&siege, "first").await, 200);
        assert_eq!(readiness(&siege).await.0, 200);
        let file = siege.house.folder.path().join(name);
        let aside = siege.house.folder.path().join("aside");
        std::fs::rename(&file, &aside).unwrap();
        if replaced {
            std::fs::copy(&aside, &file).unwrap();
        }
        assert_eq!(log_in(&siege, "second").await, 503, "{name}");
        assert_eq!(siege.house.app.seen().len(), 1, "{name}: a login reached the app");
        let (status, why) = readiness(&siege).await;
        assert_eq!(status, 503, "{name}: {why}");
        assert!(why.contains(name) && why.contains("deleted, moved or replaced"), "{why}");
        // What was written to the file that is gone would come to light here.
        std::fs::rename(&aside, &file).unwrap();
        assert_eq!(readiness(&siege).await.0, 200, "{name}");
        let memberships = siege.house.memberships().await;
        assert!(memberships.contains("oidc/first") && !memberships.contains("oidc/second"), "{memberships}");
        assert_eq!(log_in(&siege, "second").await, 200, "{name}");
    }
}

/// The end of a process does not create a database where the old one was deleted.
#[tokio::test(flavor = "multi_thread")]
async fn sto2_a_database_that_was_deleted_is_not_created_anew() {
    let siege = Siege::open().await;
    let file = siege.house.folder.path().join("store.db");
    std::fs::remove_file(&file).unwrap();
    let Siege { house, .. } = siege;
    let folder = house.folder;
    house.running.stop().await;
    assert!(!folder.path().join("store.db").exists());
}

/// Every page of the file is overwritten while its own connections answer from memory and from the log.
#[tokio::test(flavor = "multi_thread")]
async fn sto2_a_database_with_every_page_overwritten_is_not_ready() {
    for filler in [0_u8, 0x5a] {
        let siege = Siege::open().await;
        assert_eq!(log_in(&siege, "first").await, 200);
        assert_eq!(readiness(&siege).await.0, 200);
        siege.house.store().settle().await.unwrap();
        let path = siege.house.folder.path().join("store.db");
        let size = usize::try_from(std::fs::metadata(&path).unwrap().len()).unwrap();
        // Not closed before the end: closing it would release the locks that SQLite has on the file in this process.
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(&vec![filler; size], 0).unwrap();
        tokio::time::sleep(Duration::from_millis(1100)).await;
        let (status, why) = readiness(&siege).await;
        assert_eq!(status, 503, "{why}");
        assert!(why.contains("not a database"), "{why}");
        drop(siege);
        drop(file);
    }
}

/// Asking is cheap: the file is written at most once a second, however often and by however many it is asked.
#[tokio::test(flavor = "multi_thread")]
async fn sto2_readiness_is_looked_at_once_a_second() {
    let siege = std::sync::Arc::new(Siege::open().await);
    let log = siege.house.folder.path().join("store.db-wal");
    assert_eq!(readiness(&siege).await.0, 200);
    let (before, began) = (std::fs::metadata(&log).unwrap().len(), Instant::now());
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let siege = std::sync::Arc::clone(&siege);
        asking.spawn(async move {
            for _ in 0..10 {
                assert_eq!(readiness(&siege).await.0, 200);
            }
        });
    }
    while let Some(done) = asking.join_next().await {
        done.unwrap();
    }
    let written = std::fs::metadata(&log).unwrap().len() - before;
    let looks = began.elapsed().as_secs() + 1;
    assert!(written <= looks * 64 * 1024, "{written} bytes in {looks} s");
}

/// The disk fills up: logins are refused, and readiness says so, though the file can still be read.
#[tokio::test(flavor = "multi_thread")]
async fn sto2_a_full_disk_is_not_ready() {
    let place = Place::new().await;
    assert!(place.run("user list").status.success());
    // No file of the process may grow beyond this, which is what a full disk looks like; 512 bytes a unit.
    let mut limited = Command::new("sh");
    let program = env!("CARGO_BIN_EXE_loginsync");
    limited.args(["-c", &format!("trap '' XFSZ; ulimit -f 800; exec {program} serve --config \"$0\"")]);
    let service = Program::start_by(&mut limited, &place.file());
    let (client, admin) = (service.client("proxy"), service.client("admin"));
    assert_eq!(admin.send("GET", "/readyz", &[], b"").await.0, 200);
    place.app.leave_to(LEAVE);
    let cookies = client.cookies().await.join("; ");
    let now = Clock::system().now().seconds();
    let mut statuses = Vec::new();
    for number in 0..60 {
        let subject = format!("user-{number}");
        let claims = with(&json!({"sub": subject, "jti": subject, "iat": now, "exp": now + 300}));
        let body = form(&[("id_token", &signed(&claims)), ("state", "state-1")]);
        statuses.push(client.send("POST", "/callback", &[FORM, ("cookie", &cookies)], body.as_bytes()).await.0);
    }
    assert_eq!((statuses.first(), statuses.last()), (Some(&200), Some(&503)), "{statuses:?}");
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let (status, why, _) = admin.send("GET", "/readyz", &[], b"").await;
    assert_eq!(status, 503, "{why}");
    let entered = statuses.iter().filter(|status| **status == 200).count();
    drop(service);
    // Nothing that was answered is lost.
    let list = place.run("user list");
    assert_eq!(String::from_utf8_lossy(&list.stdout).lines().count(), entered, "{}", told(&list));
}

/// A second process on the same file is refused with a sentence, and commands go on beside the first. One that was killed
/// leaves no lock.
#[tokio::test(flavor = "multi_thread")]
async fn sto3_one_process_serves_a_file() {
    let place = Place::new().await;
    let first = Program::start(&place.file());
    first.line_with("\"listening\"");
    // By another name of the file, too.
    let by_link = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(place.database(), by_link.path().join("store.db")).unwrap();
    std::fs::copy(place.file(), by_link.path().join("loginsync.toml")).unwrap();
    let mut second = Command::new(env!("CARGO_BIN_EXE_loginsync"));
    second.args(["serve", "--config"]).arg(by_link.path().join("loginsync.toml")).current_dir(by_link.path());
    let second = std::thread::spawn(move || second.output().unwrap());

    let confirms = format!("plan --from {} --confirm", place.file().display());
    for command in [
        "user list",
        "user assign oidc bob --group Staff",
        "user show oidc bob",
        "user deny oidc bob --group Administrators --reason test",
        "user undeny oidc bob --group Administrators",
        "user disable oidc bob",
        "user enable oidc bob",
        "user unassign oidc bob --group Staff",
        "user export oidc bob",
        "user erase oidc bob",
        "group list",
        "group members Staff",
        "mapping list",
        "hold list",
        "lease list",
        "lease reap",
        "client create office --scope read",
        "client list",
        "client revoke office",
        confirms.as_str(),
        "lint",
        "check",
        "audit list",
        "audit verify",
    ] {
        let output = place.run(command);
        assert!(output.status.success(), "{command}: {}", told(&output));
    }
    let output = second.join().unwrap();
    let said = told(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for part in
        ["waiting for it to end", "in use by another `loginsync serve`", "store.path", "PostgreSQL: set `store.url`"]
    {
        assert!(said.contains(part), "`{part}` is not in {said}");
    }
    first.signal("-KILL");
    drop(first);
    let began = Instant::now();
    let next = Program::start(&place.file());
    next.line_with("\"listening\"");
    assert!(began.elapsed() < Duration::from_secs(8), "it waited for the one that was killed");
    next.end();
}

/// The process before still drains: the next one waits for it, and starts when it has ended.
#[tokio::test(flavor = "multi_thread")]
async fn sto3_the_next_process_waits_for_one_that_drains() {
    let place = Place::new().await;
    let first = Program::start(&place.file());
    first.line_with("\"listening\"");
    let next = Program::start(&place.file());
    next.line_with("waiting for it to end");
    assert!(!next.log().contains("\"listening\""), "{}", next.log());
    first.end();
    next.line_with("\"listening\"");
    next.end();
}

/// A backup by `VACUUM INTO` has no log yet: a start on it makes one, and is ready.
#[tokio::test(flavor = "multi_thread")]
async fn sto2_a_restored_backup_is_ready() {
    let siege = Siege::open().await;
    assert_eq!(log_in(&siege, "first").await, 200);
    let place = Place::new().await;
    let original = Connection::open(siege.house.folder.path().join("store.db")).unwrap();
    original.execute("VACUUM INTO ?1", [place.database().to_str().unwrap()]).unwrap();
    let service = Program::start(&place.file());
    let (status, why, _) = service.client("admin").send("GET", "/readyz", &[], b"").await;
    assert_eq!(status, 200, "{why}");
    service.end();
    assert!(told(&place.run("user list")).contains("oidc/first"));
}
