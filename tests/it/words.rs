//! The words of texts: standard terms, active sentences, the subject named. What readers stumbled over comes back no more.
//!
//! A ceiling is what is left of such words. It may only be lowered.

use std::path::{Path, PathBuf};

use regex::Regex;

/// A way to write, what to write instead, and how often it still stands in pages and in `src`.
const WORDS: [(&str, &str, usize, usize); 7] = [
    (r"(?i)\bwhoever\b", "name the person or the program", 0, 2),
    (r"(?i)\b(somebody|anybody)\b", "a user, a person, an attacker", 0, 4),
    (r"(?i)\bnobody\b", "no user; or say what does not happen", 0, 72),
    (r"(?i)\bat the most\b", "at most, or fewer", 0, 1),
    (r"(?i)\bwhat is due\b", "expired leases", 0, 4),
    (r"\b(is|are) no (JWT|JSON|XML|path|token|text|mode|code|header|address|certificate)\b", "is not a", 0, 8),
    (r"(?i)\bknows no\b", "has no, does not know", 0, 2),
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
    files(&root.join("src"), &[".rs", ".sql"], &mut sources);
    assert!(pages.len() > 15 && sources.len() > 200);
    let mut faults = Vec::new();
    for (pattern, instead, in_pages, in_sources) in WORDS {
        let regex = Regex::new(pattern).unwrap();
        for (files, ceiling) in [(&pages, in_pages), (&sources, in_sources)] {
            let found = places(&regex, files);
            if found.len() > ceiling {
                let shown: String = found.iter().take(300).map(|place| format!("\n    {place}")).collect();
                faults.push(format!("{pattern}: {} times, ceiling {ceiling}; write {instead}{shown}", found.len()));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
