//! The words of texts: standard terms, active sentences, the subject named. What readers stumbled over comes back no more.
//!
//! None of them is left, in pages or in `src`.

use std::path::{Path, PathBuf};

use regex::Regex;

/// A way to write, and what to write instead.
const WORDS: [(&str, &str); 7] = [
    (r"(?i)\bwhoever\b", "name the person or the program"),
    (r"(?i)\b(somebody|anybody)\b", "a user, a person, an attacker"),
    (r"(?i)\bnobody\b", "no user; or say what does not happen"),
    (r"(?i)\bat the most\b", "at most, or fewer"),
    (r"(?i)\bwhat is due\b", "expired leases"),
    (r"\b(is|are) no (JWT|JSON|XML|path|token|text|mode|code|header|address|certificate)\b", "is not a"),
    (r"(?i)\bknows no\b", "has no, does not know"),
];

/// Pages that speak to developers about decisions and tests keep their history.
const ASIDE: [&str; 2] = ["decisions.md", "threat-model.md"];

fn files(folder: &Path, endings: &[&str], found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, endings, found);
        } else if endings.iter().any(|ending| path.to_string_lossy().ends_with(ending)) {
            found.push(path);
        }
    }
}

/// Each place where a pattern stands.
fn places(pattern: &Regex, files: &[PathBuf]) -> Vec<String> {
    let mut places = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(file).unwrap();
        for (line, text) in text.lines().enumerate() {
            places.extend(pattern.find_iter(text).map(|_| format!("{}:{}: {}", file.display(), line + 1, text.trim())));
        }
    }
    places
}

#[test]
fn texts_are_written_in_the_words_of_the_field() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = vec![root.join("README.md"), root.join("CONTRIBUTING.md"), root.join("Dockerfile")];
    for folder in ["docs", "config", "templates"] {
        files(&root.join(folder), &[".md", ".toml", ".html", ".yaml"], &mut pages);
    }
    pages.retain(|page| !ASIDE.iter().any(|aside| page.ends_with(aside)));
    let mut sources = Vec::new();
    for folder in ["src", "crates/mint/src", "crates/pipeline/src"] {
        files(&root.join(folder), &[".rs", ".sql"], &mut sources);
    }
    assert!(pages.len() > 15 && sources.len() > 200);
    let mut faults = Vec::new();
    for (pattern, instead) in WORDS {
        let found = places(&Regex::new(pattern).unwrap(), &[pages.as_slice(), &sources].concat());
        if !found.is_empty() {
            faults.push(format!("{pattern}; write {instead}:\n    {}", found.join("\n    ")));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
