//! No two neighbours import each other, however long the way round: of any two modules of one folder, with all that lies below them, one
//! stands above the other. A module and its own children may use each other.
//!
//! Imports are resolved to the file that has the item, through re-exports, so that a face does not hide what stands behind it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::{CRATES, code_lines, files_of, root};

type Module = Vec<String>;

/// A module's imports, and the names that it hands on.
#[derive(Default)]
struct Imports {
    paths: Vec<Module>,
    handed_on: BTreeMap<String, Module>,
}

struct House {
    modules: BTreeMap<Module, Imports>,
}

impl House {
    fn read() -> Self {
        let files: Vec<_> = files_of("").into_iter().filter(|file| !file.ends_with("main.rs")).collect();
        let name = |file: &Path| -> Module {
            let mut sources = CRATES.iter().map(|(name, sources)| (name, root().join(sources)));
            let (name, below) =
                sources.find_map(|(name, sources)| Some((name, file.strip_prefix(sources).ok()?))).unwrap();
            let below = below.with_extension("");
            let parts = std::iter::once(*name).chain(below.iter().map(|part| part.to_str().unwrap()));
            parts.filter(|part| !["", "lib"].contains(part)).map(str::to_owned).collect()
        };
        let known: BTreeSet<Module> = files.iter().map(|file| name(file)).collect();
        let modules = files.iter().map(|file| {
            let code: Vec<String> = code_lines(file).into_iter().map(|(_, line)| line).collect();
            (name(file), imports(&name(file), &code.join("\n"), &known))
        });
        Self { modules: modules.collect() }
    }

    /// The module that has the item of a path.
    fn owner(&self, path: &[String], depth: usize) -> Option<&Module> {
        let (module, imports) = (1..=path.len()).rev().find_map(|end| self.modules.get_key_value(&path[..end]))?;
        let rest = &path[module.len()..];
        let behind = rest.first().and_then(|item| imports.handed_on.get(item)).filter(|_| depth < 8);
        let behind = behind.and_then(|target| self.owner(&[target.as_slice(), &rest[1..]].concat(), depth + 1));
        behind.or(Some(module))
    }

    /// Which children of a folder import which others, with an example of each.
    fn neighbours(&self, folder: &[String]) -> BTreeMap<String, BTreeMap<String, String>> {
        let mut arrows: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        let child = |module: &[String]| module.strip_prefix(folder).and_then(|rest| rest.first().cloned());
        for (from, imports) in &self.modules {
            let Some(one) = child(from) else { continue };
            for path in imports.paths.iter().filter(|path| !imports.handed_on.values().any(|handed| handed == *path)) {
                let Some(other) = self.owner(path, 0).and_then(|owner| child(owner)) else { continue };
                if one != other {
                    let example = format!("{} uses {}", from.join("/"), path.join("::"));
                    arrows.entry(one.clone()).or_default().entry(other).or_insert(example);
                }
            }
        }
        arrows
    }
}

/// What a file imports: its `use`, and paths in its code.
fn imports(module: &Module, code: &str, known: &BTreeSet<Module>) -> Imports {
    let mut found = Imports::default();
    let absolute = |path: &[String]| -> Option<Module> {
        let ups = path.iter().take_while(|part| *part == "super").count();
        let (base, rest) = match path.first()?.as_str() {
            "crate" => (&module[..usize::from(is_crate(module))], &path[1..]),
            "self" => (&module[..], &path[1..]),
            "super" => (&module[..module.len().saturating_sub(ups)], &path[ups..]),
            first => {
                let own = [module.as_slice(), &[first.to_owned()]].concat();
                (known.contains(&own).then_some(&module[..])?, path)
            }
        };
        Some([base, rest].concat())
    };
    let mut rest = String::new();
    let mut statements = code;
    while let Some(at) = statements.find("use ") {
        let (before, from) = statements.split_at(at);
        let line = before.rsplit('\n').next().unwrap_or_default().trim();
        let is_use = line.is_empty() || line == "pub" || (line.starts_with("pub(") && line.ends_with(')'));
        rest.push_str(before);
        let end = if is_use { from.find(';').unwrap_or(from.len()) } else { "use ".len() };
        if is_use {
            for path in tree(&from["use ".len()..end]) {
                let Some(path) = absolute(&path) else { continue };
                if line.starts_with("pub") {
                    found.handed_on.insert(path.last().cloned().unwrap_or_default(), path.clone());
                }
                found.paths.push(path);
            }
        }
        statements = &from[end..];
    }
    rest.push_str(statements);
    let word = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    for text in rest.split(|c| !word(c)).filter(|text| text.contains("::") && !text.starts_with(':')) {
        let path: Vec<String> = text.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect();
        found.paths.extend(absolute(&path));
    }
    found
}

/// Whether a module is in a crate that is a part of the whole by its name.
fn is_crate(module: &Module) -> bool {
    module.first().is_some_and(|first| CRATES[1..].iter().any(|(name, _)| first == name))
}

/// The paths of a `use`.
fn tree(text: &str) -> Vec<Vec<String>> {
    let parts =
        |text: &str| text.split("::").map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect();
    let Some((head, rest)) = text.split_once('{') else {
        return vec![parts(text.split(" as ").next().unwrap_or_default())];
    };
    let (head, inner): (Vec<String>, _) = (parts(head), rest.rsplit_once('}').map_or(rest, |(inner, _)| inner));
    let (mut depth, mut begin, mut branches) = (0_u32, 0, Vec::new());
    for (at, c) in inner.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                branches.push(&inner[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    branches.push(&inner[begin..]);
    let branches = branches.into_iter().filter(|branch| !branch.trim().is_empty());
    branches.flat_map(tree).map(|path| [head.as_slice(), &path].concat()).collect()
}

#[test]
fn no_two_neighbours_import_each_other() {
    let house = House::read();
    let folders: BTreeSet<&[String]> =
        house.modules.keys().filter_map(|module| module.split_last()).map(|it| it.1).collect();
    let (mut circles, mut arrows_seen) = (Vec::new(), 0);
    for folder in folders {
        let arrows = house.neighbours(folder);
        arrows_seen += arrows.values().map(BTreeMap::len).sum::<usize>();
        for (one, others) in &arrows {
            for (other, example) in others {
                if let Some(way) = way(&arrows, other, one) {
                    circles.push(format!("{}: {example}; and back: {}", folder.join("/"), way.join("; ")));
                }
            }
        }
    }
    assert!(arrows_seen > 500, "imports are read: {arrows_seen} arrows");
    assert!(circles.is_empty(), "\n{}", circles.join("\n"));
}

/// How one module comes to use another, by examples.
fn way(arrows: &BTreeMap<String, BTreeMap<String, String>>, from: &str, to: &str) -> Option<Vec<String>> {
    let (mut seen, mut open) = (BTreeSet::from([from]), vec![(from, Vec::new())]);
    while let Some((at, way)) = open.pop() {
        if at == to {
            return Some(way);
        }
        for (next, example) in arrows.get(at).into_iter().flatten() {
            if seen.insert(next) {
                open.push((next, [way.as_slice(), std::slice::from_ref(example)].concat()));
            }
        }
    }
    None
}

#[test]
fn imports_are_read_as_rust_reads_them() {
    let known: BTreeSet<Module> = [vec!["a".to_owned()], vec!["a".to_owned(), "b".to_owned()]].into();
    let code =
        "use std::fmt;\npub use self::b::{C, d::{E, F as G}};\nuse super::x::Y;\nfn f() { b::g(); crate::z::h() }";
    let found = imports(&vec!["a".to_owned()], code, &known);
    let paths: Vec<String> = found.paths.iter().map(|path| path.join("::")).collect();
    assert_eq!(paths, ["a::b::C", "a::b::d::E", "a::b::d::F", "x::Y", "a::b::g", "z::h"]);
    assert_eq!(found.handed_on.keys().collect::<Vec<_>>(), ["C", "E", "F"]);
}
