//! The version that `loginsync --version` tells: that of the package, and of a release build the commit that it was built from.
//!
//! `LOGINSYNC_COMMIT` names the commit; without it git is asked, and a source tree without git has none. Nothing here reads a clock, so
//! that the same commit builds the same bytes. Other builds are for developing, and would be made anew after each commit: they ask no git.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-env-changed=LOGINSYNC_COMMIT");
    println!("cargo:rerun-if-changed=build.rs");
    let version = env!("CARGO_PKG_VERSION");
    let named = std::env::var("LOGINSYNC_COMMIT").ok().map(|text| text.trim().to_owned());
    let is_release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let commit = named.or_else(|| is_release.then(asked).flatten()).filter(|commit| is_plain(commit));
    let version = commit.map_or_else(|| version.to_owned(), |commit| format!("{version} ({commit})"));
    println!("cargo:rustc-env=LOGINSYNC_VERSION={version}");
}

/// What git says, where this folder is what it keeps; not where it lies in another repository.
fn asked() -> Option<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    if Path::new(&git(&["rev-parse", "--show-toplevel"])?).canonicalize().ok()? != root.canonicalize().ok()? {
        return None;
    }
    // Once it is told to look at some files, cargo looks at no others.
    for place in ["HEAD", "logs/HEAD"] {
        println!("cargo:rerun-if-changed={}", git(&["rev-parse", "--git-path", place])?);
    }
    for file in ["Cargo.toml", "Cargo.lock", "src", "crates", "templates"] {
        println!("cargo:rerun-if-changed={file}");
    }
    let commit = git(&["rev-parse", "HEAD"])?;
    let changes = git(&["status", "--porcelain", "--untracked-files=no"])?;
    Some(if changes.is_empty() { commit } else { format!("{commit} with changes") })
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}

/// One short line, which cannot be another instruction to cargo.
fn is_plain(commit: &str) -> bool {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, ' ' | '.' | '-' | '_' | '+' | '/');
    !commit.is_empty() && commit.len() <= 100 && commit.chars().all(plain)
}
