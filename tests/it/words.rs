//! The words of texts: standard terms, active sentences, the subject named. What readers stumbled over comes back no more.
//!
//! None of them is left, in pages or in the comments and texts of the source. Names in code are not looked at.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use regex::{Captures, Regex};

/// A way to write, and what to write instead.
const WORDS: [(&str, &str); 14] = [
    (r"(?i)\bwhoever\b", "name the person or the program"),
    (r"(?i)\b(somebody|anybody)\b", "a user, a person, an attacker"),
    (r"(?i)\bnobody\b", "no user; or say what does not happen"),
    (r"(?i)\bat the most\b", "at most, or fewer"),
    (r"(?i)\bwhat is due\b", "expired leases"),
    (
        r"\b(is|are) no (JWT|JWS|JSON|XML|UTF-8|path|token|text|mode|code|header|address|certificate|fault|part)\b",
        "is not a",
    ),
    (r"(?i)\bknows no\b", "has no, does not know"),
    // A field of a page's template has the name.
    (r"(?i)(^|[^.:\w])beside\b", "next to, besides, in addition to, with, alongside, in the background"),
    (r"(?i)\b(has|have|had) (still to hear|a say)\b", "pending deliveries; depends on"),
    (r"(?i)\bis of (no )?use with\b", "applies only with, has no effect with"),
    (r"(?i)\b(hear|hears) (40\d|42\d|50\d|30\d)\b", "is answered, gets"),
    (r"(?i)\b(plan|plans|planned|tell|tells|told) (\w+ )?anew\b", "plan again, send everything again"),
    (r"(?i)\bthose whom\b", "people that; name them"),
    (r"(?i)\bwhat (a|an|one|it|every|the last) ?[\w ]{0,40} (comes?|came|has come) to\b", "the outcome of"),
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

/// What people read of a source file: its comments and texts. Everything else is blank, so that lines keep their numbers.
fn prose(source: &str) -> String {
    static PROSE: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r##"(?s)(//[^\n]*)|(r#".*?"#)|("(?:[^"\\]|\\.)*")|'(?:[^'\\\n]|\\[^\n]+?)'"##).unwrap()
    });
    let mut prose = String::new();
    let mut end = 0;
    let lines = |text: &str| text.chars().filter(|letter| *letter == '\n').collect::<String>();
    for found in PROSE.captures_iter(source) {
        let whole = found.get(0).unwrap();
        prose += &lines(&source[end..whole.start()]);
        prose += " ";
        prose += &shown(&found, whole.as_str());
        end = whole.end();
    }
    prose
}

/// A comment, or a text without the names of variables that it prints.
fn shown<'a>(found: &Captures<'_>, whole: &'a str) -> Cow<'a, str> {
    static VARIABLE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\{\w+\}").unwrap());
    let is_letter = found.iter().skip(1).all(|group| group.is_none());
    if is_letter { Cow::Borrowed("") } else { VARIABLE.replace_all(whole, "{}") }
}

/// Each place where a pattern stands.
fn places(pattern: &Regex, files: &[(PathBuf, String)]) -> Vec<String> {
    let mut places = Vec::new();
    for (file, text) in files {
        for (line, text) in text.lines().enumerate() {
            places.extend(pattern.find_iter(text).map(|_| format!("{}:{}: {}", file.display(), line + 1, text.trim())));
        }
    }
    places
}

#[test]
fn prose_is_comments_and_texts_with_their_lines() {
    let source =
        "let beside = '\"'; // beside\nf(\"a \\\" {beside} b\", x.beside);\n/// Two\nlet r = r#\"a \"quoted\" b\"#;\n";
    let lines: Vec<String> = prose(source).lines().map(|line| line.trim().to_owned()).collect();
    assert_eq!(lines, ["// beside", "\"a \\\" {} b\"", "/// Two", "r#\"a \"quoted\" b\"#"]);
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
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        let is_code = path.extension().is_some_and(|ending| ending == "rs");
        let text = if is_code { prose(&text) } else { text };
        (path, text)
    };
    let files: Vec<(PathBuf, String)> = pages.into_iter().chain(sources).map(read).collect();
    let mut faults = Vec::new();
    for (pattern, instead) in WORDS {
        let found = places(&Regex::new(pattern).unwrap(), &files);
        if !found.is_empty() {
            faults.push(format!("{pattern}; write {instead}:\n    {}", found.join("\n    ")));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
