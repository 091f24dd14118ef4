//! Seeing before changing: the commands that look, through the program itself.

mod agreement;
mod cases;
mod commands;
mod database;
mod explain;
mod lint;
mod operations;
mod plan;
mod recipes;
mod stored;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use loginsync::pipeline::ids::Timestamp;
use serde_json::Value;

use crate::fixtures::folder;

/// What a command answered.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Said {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Runs the program. `-` among the arguments reads `input`.
pub fn run_with(arguments: &[&str], input: &str) -> Said {
    let mut child = Command::new(env!("CARGO_BIN_EXE_loginsync"))
        .args(arguments)
        .env_remove("LOGINSYNC_CONFIG")
        .env("USER", "tester")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that does not read has closed its end.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    Said {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

pub fn run(arguments: &[&str]) -> Said {
    run_with(arguments, "")
}

/// A folder with a configuration in it; relative paths of fixtures are made absolute.
pub struct Desk {
    pub folder: tempfile::TempDir,
}

impl Desk {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// Writes a file, and gives its path as an argument.
    pub fn file(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// The configuration of a login case, its text changed.
    pub fn config(&self, name: &str, text: &str) -> String {
        let fixtures = folder("");
        self.file(name, &text.replace("../../", fixtures.to_str().unwrap()).replace("loginsync.db", "store.db"))
    }
}

/// The configuration and the captured body of a login case.
pub fn captured(case: &str) -> (String, String) {
    let read = |name: &str| std::fs::read_to_string(folder("login").join(case).join(name)).unwrap();
    let (config, request) = (read("config.toml"), read("request.txt"));
    (config, request.split_once("\n\n").unwrap().1.to_owned())
}

/// The moment that the fixtures were made for.
pub const AT: &str = "2026-03-01T12:00:00Z";

pub fn path_of(desk: &Desk) -> PathBuf {
    desk.folder.path().join("store.db")
}

pub fn now() -> Timestamp {
    crate::fixtures::NOW
}
