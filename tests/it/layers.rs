//! The import table of the architecture as a test: a rule nobody runs decays.

mod circles;

use std::path::{Path, PathBuf};

/// A part of the sources, words that may not stand in it, and why.
struct Rule {
    part: &'static str,
    forbidden: &'static [&'static str],
    reason: &'static str,
}

const RULES: &[Rule] = &[
    Rule {
        part: "pipeline",
        forbidden: &[
            "tokio",
            "std::fs",
            "std::net",
            "std::env",
            "std::time::SystemTime",
            "SystemTime::now",
            "Instant::now",
            "tracing::",
            "rusqlite",
            "hyper::",
            "async fn",
            ".await",
        ],
        reason: "the pipeline is pure: bytes, keys, rules, a snapshot and `now` in, a plan out",
    },
    Rule {
        part: "pipeline/ids.rs",
        forbidden: &["super::capture", "super::verify", "super::claims", "super::mapping", "super::plan"],
        reason: "ids are the ground: nothing of the stages",
    },
    Rule {
        part: "pipeline/provider",
        forbidden: &["capture::", "reading::", "verify::", "claims::", "mapping::", "plan::"],
        reason: "what the operator said about a provider is below the stages",
    },
    Rule {
        part: "pipeline/capture",
        forbidden: &["claims::read", "mapping::", "plan::", "Verified"],
        reason: "capture comes before verify: what it has is untrusted",
    },
    Rule {
        part: "pipeline/reading",
        forbidden: &["capture::", "claims::", "mapping::", "plan::", "verify::", "Verified"],
        reason: "how apps read a request is asked before anything is verified",
    },
    Rule {
        part: "pipeline/verify",
        forbidden: &["crate::claims", "crate::mapping", "crate::plan"],
        reason: "verify knows nothing of what claims are used for",
    },
    Rule {
        part: "pipeline/claims",
        forbidden: &["crate::mapping", "crate::plan", "super::mapping", "super::plan"],
        reason: "claims are read before anything is decided on them",
    },
    Rule {
        part: "pipeline/mapping",
        forbidden: &["crate::plan", "super::plan::", "capture::", "verify::"],
        reason: "mapping sees claims, not tokens, and comes before the plan",
    },
    Rule {
        part: "pipeline/plan.rs",
        forbidden: &["capture::", "verify::", "super::claims"],
        reason: "the plan sees candidates and a snapshot",
    },
    Rule {
        part: "config",
        forbidden: &["crate::ports", "crate::login", "crate::serve", "crate::cli", "crate::app"],
        reason: "the configuration builds policies and rules; it uses no service",
    },
    Rule {
        part: "ports",
        forbidden: &["crate::login", "crate::serve", "crate::cli", "crate::app"],
        reason: "ports are below the path of a login",
    },
    Rule {
        part: "login",
        forbidden: &[
            "ports::store::sqlite",
            "ports::store::postgres",
            "ports::keys::fetched",
            "ports::directory::graph",
            "crate::serve",
            "crate::cli",
            "crate::app",
            "crate::config",
        ],
        reason: "the path knows the traits of the ports and none of their implementations",
    },
    Rule {
        part: "explain",
        forbidden: &[
            "ports::store::sqlite",
            "ports::store::postgres",
            "ports::keys::fetched",
            "crate::serve",
            "crate::cli",
            "crate::app",
            "crate::config",
            ".apply(",
            "commit(",
        ],
        reason: "whoever looks takes the walk of a login, and applies nothing",
    },
    Rule {
        part: "forecast.rs",
        forbidden: &[
            "ports::store::sqlite",
            "ports::store::postgres",
            "ports::keys",
            "crate::serve",
            "crate::cli",
            "crate::app",
            "crate::config",
            ".apply(",
        ],
        reason: "whoever looks stands beside the path of a login, and applies nothing",
    },
    Rule {
        part: "lint.rs",
        forbidden: &[
            "ports::store::sqlite",
            "ports::store::postgres",
            "ports::keys",
            "crate::serve",
            "crate::cli",
            "crate::app",
        ],
        reason: "it looks at what is configured and kept, and asks for nothing",
    },
    Rule {
        part: "serve",
        forbidden: &[
            "ports::store::sqlite",
            "ports::store::postgres",
            "ports::keys::fetched",
            "ports::directory::graph",
            "crate::cli",
            "crate::app",
            "rusqlite",
        ],
        reason: "listeners know the traits of the ports and none of their implementations",
    },
    Rule { part: "app.rs", forbidden: &["crate::cli"], reason: "only main stands above the commands" },
];

#[test]
fn no_arrow_of_the_import_table_runs_up() {
    let mut broken = Vec::new();
    for rule in RULES {
        for file in files_of(rule.part) {
            for (number, line) in code_lines(&file) {
                for word in rule.forbidden.iter().filter(|word| line.contains(**word)) {
                    broken.push(format!("{}:{number}: `{word}`: {}", file.display(), rule.reason));
                }
            }
        }
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

/// A table that names files which are gone would pass without looking at anything.
#[test]
fn every_rule_looks_at_some_file() {
    for rule in RULES {
        assert!(!files_of(rule.part).is_empty(), "no file of {}", rule.part);
    }
}

#[test]
fn the_time_is_read_in_one_file() {
    occurs_only_in("SystemTime::now", &["clock.rs"]);
    occurs_only_in("Utc::now", &[]);
}

#[test]
fn c_code_is_touched_in_one_file_of_a_feature() {
    occurs_only_in("unsafe {", &["pipeline/src/verify/saml/xmlsec.rs"]);
    occurs_only_in("CryptoProvider", &["pipeline/src/verify/saml/xmlsec.rs"]);
    occurs_only_in("samael::", &["pipeline/src/verify/saml/xmlsec.rs"]);
}

/// `Verified<T>` is the proof that a check was made, so one file makes it.
#[test]
fn promise_01_a_verified_value_is_made_in_one_place() {
    occurs_only_in("Verified(", &["pipeline/src/verify.rs"]);
    occurs_only_in("map(Verified)", &["pipeline/src/verify.rs"]);
}

fn occurs_only_in(word: &str, allowed: &[&str]) {
    let elsewhere: Vec<String> = files_of("")
        .into_iter()
        .filter(|file| !allowed.iter().any(|allowed| file.ends_with(allowed)))
        .flat_map(|file| code_lines(&file).into_iter().map(move |line| (file.clone(), line)))
        .filter(|(_, (_, line))| line.contains(word))
        .map(|(file, (number, line))| format!("{}:{number}: {line}", file.display()))
        .collect();
    assert!(elsewhere.is_empty(), "`{word}` outside {allowed:?}:\n{}", elsewhere.join("\n"));
}

/// The crates, by the name of the part that each is, and where their sources are.
const CRATES: [(&str, &str); 3] = [("", "src"), ("mint", "crates/mint/src"), ("pipeline", "crates/pipeline/src")];

/// The Rust files of a part: `name.rs`, and everything below `name/`. A crate is the part of its name, and the empty part is all
/// of them.
fn files_of(part: &str) -> Vec<PathBuf> {
    if part.is_empty() {
        return CRATES.iter().flat_map(|(_, sources)| files_below(&root().join(sources))).collect();
    }
    let start = CRATES[1..].iter().find_map(|(name, sources)| {
        let rest = part.strip_prefix(name).filter(|rest| rest.is_empty() || rest.starts_with('/'))?;
        Some(root().join(sources).join(rest.trim_start_matches('/')))
    });
    files_below(&start.unwrap_or_else(|| root().join("src").join(part)))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files_below(start: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let start = start.to_path_buf();
    if start.is_file() {
        files.push(start.clone());
    }
    if start.with_extension("rs").is_file() {
        files.push(start.with_extension("rs"));
    }
    let mut folders = vec![start];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for path in entries.map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name().is_some_and(|name| name == "tests.rs") {
                // The tests of the module above it, in a file of their own.
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files.dedup();
    files
}

/// Lines of code: comments and the tests at the end of a file are no arrows.
fn code_lines(file: &Path) -> Vec<(usize, String)> {
    let text = std::fs::read_to_string(file).unwrap();
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    code.lines()
        .enumerate()
        .map(|(at, line)| (at + 1, line.split("//").next().unwrap_or_default().to_owned()))
        .filter(|(_, line)| !line.trim().is_empty())
        .collect()
}

/// What nobody has verified is read by those alone who look, and who write nothing.
#[test]
fn what_is_not_verified_is_read_by_whoever_explains() {
    occurs_only_in("hearsay(", &["pipeline/src/verify.rs", "pipeline/src/verify/saml.rs", "src/explain.rs"]);
    let dry = ["pipeline/src/claims.rs", "pipeline/src/explain/dry.rs", "src/explain.rs"];
    occurs_only_in("read_dry(", &dry);
    occurs_only_in("state_dry(", &dry);
}
