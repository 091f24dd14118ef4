//! Configuration, secrets, locks and liveness of the process.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::relying_party::{Scene, Setting};
use crate::support::idp::Scripted;

const RENEWED: Setting = Setting { session: "renew = \"5m\"", top: "", listen: "", provider: "", more: "" };

/// Runs a test on threads of its own, so that a deadlock fails it instead of hanging the suite.
fn within<F: Future<Output = ()>>(limit: Duration, test: impl FnOnce() -> F + Send + 'static) {
    let (done, finished) = std::sync::mpsc::sync_channel(1);
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(test());
        let _ = done.send(());
    });
    match finished.recv_timeout(limit) {
        Ok(()) => thread.join().unwrap(),
        Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => {
            std::panic::resume_unwind(thread.join().expect_err("it ended without saying so"))
        }
        Err(std::sync::mpsc::RecvTimeoutError::Timeout) => panic!("nothing answers any more"),
    }
}

#[test]
fn sec19_two_requests_of_a_session_whose_renewal_is_due_are_both_served() {
    within(Duration::from_secs(30), || async {
        let scene = Scene::open(RENEWED).await;
        let mut browser = scene.browser();
        browser.log_in(|_| {}).await;
        scene.later(301);
        let token = scene.token("", |claims| claims["groups"] = json!(["board"]));
        let slow = Scripted::json(json!({"id_token": token, "refresh_token": "rt-2"}).to_string());
        scene.idp.answers("/token", Scripted { after: Duration::from_millis(500), ..slow });
        let cookies = browser.cookies.clone();
        let request = |page: &'static str| {
            let mut browser = scene.browser();
            browser.cookies = cookies.clone();
            async move { browser.get(page).await.status }
        };
        let second = async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let resynced = async { scene.house.running.resync(crate::relying_party::user("alice")).await.unwrap() };
            tokio::join!(request("/page"), request("/other"), resynced)
        };
        let (first, (second, third, resynced)) = tokio::join!(request("/page"), second);
        assert_eq!([first, second, third], [200; 3]);
        assert!(resynced.is_empty(), "the renewal that is under way is left alone: {resynced:?}");
        assert_eq!(scene.idp.asked("/token").len(), 2, "the login and one renewal");
        assert_eq!(browser.groups().await.as_deref(), Some("Board"), "and it went through");
    });
}

/// The status of `/healthz`, asked as a supervisor does.
fn health(admin: SocketAddr) -> String {
    let mut stream = TcpStream::connect(admin).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn sec19_health_answers_and_fails_while_worker_threads_are_stuck() {
    within(Duration::from_secs(60), || async {
        let scene = Scene::open(RENEWED).await;
        let admin = scene.house.running.admin;
        for stuck_threads in [1, 2] {
            assert!(health(admin).starts_with("HTTP/1.1 200 "));
            let mut release = Vec::new();
            for _ in 0..stuck_threads {
                let (free, held) = std::sync::mpsc::sync_channel::<()>(0);
                tokio::spawn(async move {
                    let _ = held.recv();
                });
                release.push(free);
            }
            let begun = Instant::now();
            while health(admin).starts_with("HTTP/1.1 200 ") {
                assert!(begun.elapsed() < Duration::from_secs(20), "nobody notices");
                // Blocks on purpose: what drives the runtime's timers is stuck.
                std::thread::sleep(Duration::from_millis(200));
            }
            let answer = health(admin);
            assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("worker thread"), "{answer}");
            assert!(begun.elapsed() > Duration::from_secs(5), "a long task is no deadlock");
            drop(release);
            std::thread::sleep(Duration::from_secs(3));
        }
        assert!(health(admin).starts_with("HTTP/1.1 200 "));
    });
}

/// Combinators that evaluate their argument whether or not they use it.
const EAGER: [&str; 10] = [
    "then_some(",
    ".unwrap_or(",
    ".ok_or(",
    ".or(",
    ".and(",
    ".xor(",
    ".get_or_insert(",
    ".map_or(",
    ".or_insert(",
    ".replace(",
];

/// A value with a `Drop` that is made as an eager argument is dropped on the spot where it is not used, in the middle of an
/// expression that may hold a lock. And a `Drop` that takes a lock must say why nobody can hold it there.
#[test]
fn sec19_no_guard_is_an_eager_argument() {
    let mut sources = Vec::new();
    read_sources(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")), &mut sources);
    let guards: BTreeSet<&str> = sources
        .iter()
        .flat_map(|(_, text)| text.split("Drop for ").skip(1))
        .filter_map(|rest| rest.split(|letter: char| !letter.is_alphanumeric()).next())
        .collect();
    assert!(guards.contains("Alone") && guards.len() >= 5, "{guards:?}");
    for (file, text) in &sources {
        for eager in EAGER {
            for (at, _) in text.match_indices(eager) {
                let argument = balanced(&text[at + eager.len()..]);
                let made = guards.iter().find(|guard| {
                    ["{", "::", "("].iter().any(|next| {
                        argument.contains(&format!("{guard}{next}")) || argument.contains(&format!("{guard} {next}"))
                    })
                });
                assert!(made.is_none(), "{file}: `{eager}{argument})` makes a {made:?} whether it is used or not");
            }
        }
        for (at, _) in text.match_indices("Drop for ") {
            let line = text[..at].rsplit('\n').next().unwrap();
            let indent = &line[..line.len() - line.trim_start().len()];
            let body = text[at..].split(&format!("\n{indent}}}")).next().unwrap();
            let locks = body.contains(".lock()") || body.contains(".write()") || body.contains(".read()");
            assert!(
                !locks || body.contains("// Locks: "),
                "{file}: a `Drop` takes a lock; say `// Locks: ` why it may: {body}"
            );
        }
    }
}

/// The text up to the bracket that closes it.
fn balanced(text: &str) -> &str {
    let mut depth = 0;
    for (at, letter) in text.char_indices() {
        match letter {
            '(' => depth += 1,
            ')' if depth == 0 => return &text[..at],
            ')' => depth -= 1,
            _ => {}
        }
    }
    text
}

fn read_sources(folder: &Path, sources: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_sources(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            sources.push((path.display().to_string(), std::fs::read_to_string(&path).unwrap()));
        }
    }
}
