//! The pages for operators name what the program says and measures.

use std::path::Path;

fn read(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// The texts between two marks.
fn between<'a>(text: &'a str, begin: &str, end: char) -> Vec<&'a str> {
    text.split(begin).skip(1).filter_map(|rest| rest.split(end).next()).collect()
}

#[test]
fn the_troubleshooting_page_has_every_title_that_a_person_sees() {
    let source = read("src/serve/respond.rs");
    let page = read("docs/troubleshooting.md");
    let code = source.split("#[cfg(test)]").next().unwrap();
    // A title is the text behind a status, or a member of that name.
    let titles: Vec<&str> = between(code, "title: \"", '"')
        .into_iter()
        .chain(code.split("StatusCode::").skip(1).filter_map(|rest| {
            let (_, behind) = rest.split_once(',')?;
            let title = behind.trim_start().strip_prefix('"')?;
            title.split('"').next()
        }))
        .filter(|title| title.starts_with(char::is_uppercase))
        .collect();
    assert!(titles.len() > 15, "{titles:?}");
    // Pages of ours that nobody meets on the way of a login.
    let aside = [
        "There is no such page",
        "This page does not support that request",
        "This address is for gateways",
        "This \
            request cannot be read",
    ];
    for title in titles.iter().filter(|title| !aside.contains(title)) {
        assert!(page.contains(&format!("| {title} |")), "docs/troubleshooting.md lacks `{title}`");
    }
}

#[test]
fn the_metrics_page_has_every_metric() {
    let page = read("docs/metrics.md");
    let mut names = Vec::new();
    for file in [
        "src/serve/counters.rs",
        "src/login/outcome.rs",
        "src/telemetry/meters.rs",
        "src/app.rs",
        "src/app/delivery.rs",
        "src/app/place.rs",
    ] {
        let source = read(file);
        for begin in ["registry.register(\"", "registry.register(\n            \"", "register_with_unit(\""] {
            names.extend(between(&source, begin, '"').into_iter().map(str::to_owned));
        }
    }
    assert!(names.len() > 12, "{names:?}");
    for name in names {
        assert!(page.contains(&format!("| `loginsync_{name}")), "docs/metrics.md lacks `{name}`");
    }
}

#[test]
fn the_alert_rules_are_yaml_and_ask_for_metrics_of_ours() {
    let rules: Vec<serde_json::Value> = serde_saphyr::from_multiple(&read("docs/deploy/alerts.yaml")).unwrap();
    let page = read("docs/metrics.md");
    let rules = rules[0]["groups"][0]["rules"].as_array().unwrap();
    assert!(rules.len() >= 6);
    for rule in rules {
        let expression = rule["expr"].as_str().unwrap();
        let named = expression.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
        let metrics: Vec<&str> = named.filter(|word| word.starts_with("loginsync_")).collect();
        assert!(!metrics.is_empty(), "{expression}");
        for metric in metrics {
            assert!(page.contains(&format!("| `{metric}`")), "docs/metrics.md lacks `{metric}` of {}", rule["alert"]);
        }
    }
}

/// The names by which the headings of a page are linked, as GitHub makes them.
fn anchors(page: &str) -> Vec<String> {
    let linked = regex::Regex::new(r"\[([^\]]*)\]\([^)]*\)").unwrap();
    let mut found: Vec<String> = Vec::new();
    for heading in page.lines().filter(|line| line.starts_with('#')) {
        let text = linked.replace_all(heading.trim_start_matches('#').trim(), "$1").to_lowercase();
        let name: String = text.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | ' ')).collect();
        let name = name.replace(' ', "-");
        let before = found.iter().filter(|known| **known == name).count();
        found.push(if before == 0 { name } else { format!("{name}-{before}") });
    }
    found
}

/// A page without what stands in blocks and spans of code.
fn without_code(page: &str) -> String {
    let blocks: String = page.split("\n```").step_by(2).collect::<Vec<_>>().join("\n");
    regex::Regex::new(r"`[^`\n]*`").unwrap().replace_all(&blocks, "").into_owned()
}

#[test]
fn every_link_of_the_pages_leads_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let link = regex::Regex::new(r"\]\(([^)\s]+)\)").unwrap();
    let docs = std::fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let pages = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(|name| root.join(name)).into_iter();
    let (mut seen, mut dead) = (0, Vec::new());
    for page in pages.chain(docs).filter(|path| path.extension().is_some_and(|end| end == "md")) {
        let text = std::fs::read_to_string(&page).unwrap();
        for target in link.captures_iter(&without_code(&text)).map(|found| found[1].to_owned()) {
            if target.contains(':') {
                continue;
            }
            seen += 1;
            let (file, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let file = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            let is_named = || {
                let text = std::fs::read_to_string(&file).unwrap();
                let headings: String = text.split("\n```").step_by(2).collect::<Vec<_>>().join("\n");
                anchors(&headings).iter().any(|name| name == anchor)
            };
            if !file.exists() || (!anchor.is_empty() && !is_named()) {
                dead.push(format!("{}: {target}", page.display()));
            }
        }
    }
    assert!(dead.is_empty(), "{dead:#?}");
    assert!(seen > 100, "{seen}");
}
