//! The cookbook: every recipe is a configuration with golden cases, and the page shows both as they are.

use std::path::Path;

use super::{Desk, run};
use crate::fixtures::{blessing, folder};

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn recipes() -> Vec<String> {
    let entries = std::fs::read_dir(folder("recipes")).unwrap().map(|entry| entry.unwrap());
    let folders = entries.filter(|entry| entry.path().is_dir());
    let mut names: Vec<String> = folders.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn every_recipe_does_what_its_cases_say() {
    let head = read(&folder("recipes").join("head.toml"));
    let names = recipes();
    assert!(names.len() >= 15);
    for name in names {
        let desk = Desk::new();
        let recipe = folder("recipes").join(&name);
        let config = desk.file("config.toml", &format!("{head}\n{}", read(&recipe.join("config.toml"))));
        let cases = recipe.join("cases.toml").to_str().unwrap().to_owned();
        let said = run(&["test", &cases, "--config", &config]);
        assert_eq!(said.code, 0, "{name}: {}{}", said.out, said.err);
        assert!(said.out.contains("all as expected"), "{name}: {}", said.out);
    }
}

/// `<!-- NAME -->` is followed by the text of the recipe, and by its cases. `BLESS=1` writes them.
#[test]
fn the_page_shows_every_recipe_as_it_is() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/mappings.md");
    let page = read(&path);
    let mut expected = String::new();
    let mut shown = Vec::new();
    let mut lines = page.lines().peekable();
    while let Some(line) = lines.next() {
        expected.push_str(line);
        expected.push('\n');
        let Some(name) = line.strip_prefix("<!-- ").and_then(|rest| rest.strip_suffix(" -->")) else { continue };
        shown.push(name.to_owned());
        // What stands there now: blocks and empty lines up to the next text.
        let mut in_block = false;
        while let Some(next) = lines.peek() {
            in_block ^= next.starts_with("```");
            if !(in_block || next.starts_with("```") || next.is_empty()) {
                break;
            }
            lines.next();
        }
        let recipe = folder("recipes").join(name);
        let files = match recipe.is_dir() {
            true => vec![recipe.join("config.toml"), recipe.join("cases.toml")],
            false => vec![recipe],
        };
        for file in files {
            expected.push_str(&format!("\n```toml\n{}```\n", read(&file)));
        }
        expected.push('\n');
    }
    let mut names = recipes();
    names.push("head.toml".into());
    names.sort();
    shown.sort();
    assert_eq!(shown, names, "each recipe is on the page once");
    if blessing() {
        return std::fs::write(&path, expected).unwrap();
    }
    assert_eq!(page, expected, "docs/mappings.md differs from fixtures/recipes; BLESS=1 writes it anew");
}
