//! What the app has, which claim gives what, and who is kept out: `[[role]]`, `[[group]]`, `[[mapping]]`,
//! `[mapping_table]`, `[[default]]`, `[[gate]]`, `[sync]`, `[brake]`.
//!
//! There may be a hundred thousand mappings, so each is read field by field without a table of its own, and the names of
//! providers, claims, groups and roles in it are shared with their declarations.

mod actions;
mod conditions;
mod gates;
mod mappings;

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::ops::Range;
use std::sync::Arc;

use aws_lc_rs::digest;

use self::mappings::Mappings;
use super::providers::{Declared, stage};
use super::raw::{Kind, PlainEntry};
use super::reader::{Context, Found, Section, Value, shown};
use super::{Headers, Limits};
use crate::pipeline::ids::{GroupName, InvalidText, MappingId, RoleName, Stage, Target};
use crate::pipeline::lookup::Lookup;
use crate::pipeline::mapping::stored::Overlay;
use crate::pipeline::mapping::{Group, ProviderRules, Role, RuleSet, Rules};

/// Reads everything below these keys. A value with a fault reads as its default, since a file with a fault is never used.
pub fn read(root: &Section<'_>, declared: &Declared, limits: &Limits, headers: &Headers) -> RuleSet {
    let roles = roles(root, headers);
    let groups = groups(root, &roles, headers);
    let targets = Targets { roles, groups };
    let mut reader = Mappings::new(root.context, declared, limits, &targets);
    each_entry(root, Kind::Mapping, |entry| reader.entry(&entry));
    reader.tables(&root.section("mapping_table"));
    root.sections("default").iter().for_each(|section| reader.default(section));
    let gates = gates::gates(root, &reader);
    let sync = gates::sync(root);
    let (mappings, places) = reader.into_found();
    check_count(root.context, &places, limits);
    let ids: Vec<MappingId> = mappings.iter().map(|mapping| mapping.id).collect();
    let providers = declared.providers.iter().map(|provider| {
        let rules =
            ProviderRules { claims: provider.claims.clone(), stages: provider.stages.clone(), lease: provider.lease };
        (provider.name.clone(), rules)
    });
    let Targets { roles, groups } = targets;
    let rules = Rules {
        groups: groups.into_declared(),
        roles: roles.into_declared(),
        mappings,
        gates,
        providers: providers.collect(),
        sync,
        source: Some(digest_of(root.context.split.text)),
        overlay: Overlay::default(),
        elsewhere: Arc::default(),
    };
    let rules = RuleSet::compile(0, rules).unwrap_or_else(|why| {
        root.context.raise(&root.span, "mapping", why.to_string());
        RuleSet::default()
    });
    if rules.mappings().len() < ids.len() {
        raise_repeated(root.context, &rules, &ids, &places);
    }
    rules
}

fn digest_of(text: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest::digest(&digest::SHA256, text.as_bytes()).as_ref().get(..32).unwrap_or(&[0; 32]));
    bytes
}

/// Everything that a mapping may give.
struct Targets {
    roles: Names<RoleName, Role>,
    groups: Names<GroupName, Group>,
}

impl Targets {
    fn is_privileged(&self, target: &Target) -> bool {
        let role_is = |name: &RoleName| self.roles.declared.get(name).is_some_and(|role| role.privileged);
        match target {
            Target::Group(name) => {
                let group = self.groups.declared.get(name);
                group.is_some_and(|group| group.privileged || group.roles.iter().any(role_is))
            }
            Target::Role(name) => role_is(name),
        }
    }

    /// The stages in which a target exists; empty for all.
    fn stages(&self, target: &Target) -> &[Stage] {
        match target {
            Target::Group(name) => {
                self.groups.declared.get(name).map(|group| group.stages.as_slice()).unwrap_or_default()
            }
            Target::Role(_) => &[],
        }
    }
}

// ------------------------------------------------------------------------------------------------------------ entries

/// One entry of a list, from the text as it stands or from the tree.
enum Entry<'a> {
    Plain(PlainEntry<'a>),
    Tree(Section<'a>),
}

impl<'a> Entry<'a> {
    /// Its header.
    fn span(&self, kind: Kind) -> Range<usize> {
        match self {
            Self::Plain(entry) => entry.at..entry.at + kind.key().len() + 4,
            Self::Tree(section) => section.span.clone(),
        }
    }

    /// Reads each field: its key, its value, where the value stands.
    fn each_field(&self, mut read: impl FnMut(Found<&'a str>, Value<'a>, Range<usize>)) {
        match self {
            Self::Plain(entry) => entry.fields().for_each(|(key, span, value, value_span)| {
                read(Found { value: key, span }, value.into(), value_span);
            }),
            Self::Tree(section) => section.fields().for_each(|(key, value, span)| read(key, value, span)),
        }
    }
}

/// The entries of a list in the order of the file.
fn each_entry<'a>(root: &Section<'a>, kind: Kind, mut read: impl FnMut(Entry<'a>)) {
    let mut tree = root.sections(kind.key()).into_iter().peekable();
    let mut plain = root.context.split.entries(kind).peekable();
    if let (Some(first), false, Some(span)) =
        (plain.peek(), root.is_list_of_tables(kind.key()), root.written(kind.key()))
    {
        let line = root.context.line(first.at);
        let message =
            format!("is written as a value here and as `[[{}]]` in line {line}; expected one form", kind.key());
        root.raise(&span, kind.key(), message);
    }
    for entry in plain {
        while let Some(section) = tree.next_if(|section| section.span.start < entry.at) {
            read(Entry::Tree(section));
        }
        read(Entry::Plain(entry));
    }
    tree.for_each(|section| read(Entry::Tree(section)));
}

/// What is declared under a kind of name.
struct Names<N, T> {
    kind: &'static str,
    declared: Lookup<N, T>,
    /// Names with a fault of their own: references to one are not faults.
    faulty: HashSet<String>,
    folded: HashMap<String, usize>,
}

impl<N: Hash + Eq + std::borrow::Borrow<str>, T> Names<N, T> {
    fn new(kind: &'static str) -> Self {
        Self { kind, declared: Lookup::default(), faulty: HashSet::new(), folded: HashMap::new() }
    }

    /// Declares a name, or notes why it cannot be.
    fn declare(
        &mut self,
        context: &Context<'_>,
        name: &Found<&str>,
        parse: impl Fn(&str) -> Result<N, InvalidText>,
        headers: &Headers,
        content: T,
    ) {
        let key = format!("{}.name", self.kind);
        let raise = |message: String| context.raise(&name.span, key.clone(), message);
        let parsed = match parse(name.value) {
            Ok(parsed) => parsed,
            Err(why) => {
                self.faulty.insert(name.value.to_owned());
                return raise(format!("`{}` {why}", shown(name.value)));
            }
        };
        if let Some(why) = headers.unfit(name.value) {
            raise(format!("`{}` {why}", shown(name.value)));
        }
        match self.folded.get(&name.value.to_lowercase()) {
            Some(first) => {
                let line = context.line(*first);
                raise(format!("a {} has this name in line {line}, case aside; expected another", self.kind));
            }
            None => {
                self.folded.insert(name.value.to_lowercase(), name.span.start);
            }
        }
        self.declared.insert(parsed, content);
    }

    /// The declared name that a reference means, or notes that there is none.
    fn find(&self, context: &Context<'_>, name: &Found<&str>, key: &str) -> Option<(&N, &T)> {
        let found = self.declared.get_key_value(name.value);
        if found.is_none() && !self.faulty.contains(name.value) {
            let names = self.declared.keys().map(std::borrow::Borrow::borrow);
            context.raise_undeclared(name, key, self.kind, "", names);
        }
        found
    }

    fn into_declared(self) -> Lookup<N, T> {
        self.declared
    }
}

fn missing_name(context: &Context<'_>, span: &Range<usize>, kind: Kind) {
    let key = kind.key();
    context.raise_absent(
        span,
        format!("{key}.name"),
        format!("missing in `{key}`; expected for instance name = \"editor\""),
    );
}

const ROLE_KEYS: [&str; 4] = ["name", "protected", "privileged", "brake"];

fn roles(root: &Section<'_>, headers: &Headers) -> Names<RoleName, Role> {
    let context = root.context;
    let mut roles = Names::new("role");
    each_entry(root, Kind::Role, |entry| {
        let (mut name, mut role, mut named) = (None, Role::default(), false);
        entry.each_field(|key, value, span| match key.value {
            "name" => {
                named = true;
                name = context.text("role.name", value, span);
            }
            "protected" => role.protected = context.truth("role.protected", value, &span).unwrap_or_default(),
            "privileged" => role.privileged = context.truth("role.privileged", value, &span).unwrap_or_default(),
            "brake" => role.brake = context.truth("role.brake", value, &span).unwrap_or(true),
            unknown => context.raise_unknown(&key.span, unknown, "role", ROLE_KEYS.into_iter()),
        });
        match name {
            Some(name) => roles.declare(context, &name, RoleName::parse, headers, role),
            None if named => {}
            None => missing_name(context, &entry.span(Kind::Role), Kind::Role),
        }
    });
    roles
}

const GROUP_KEYS: [&str; 6] = ["name", "roles", "stages", "protected", "privileged", "brake"];

fn groups(root: &Section<'_>, roles: &Names<RoleName, Role>, headers: &Headers) -> Names<GroupName, Group> {
    let context = root.context;
    let mut groups = Names::new("group");
    each_entry(root, Kind::Group, |entry| {
        let (mut name, mut group, mut named) = (None, Group::default(), false);
        entry.each_field(|key, value, span| match key.value {
            "name" => {
                named = true;
                name = context.text("group.name", value, span);
            }
            "protected" => group.protected = context.truth("group.protected", value, &span).unwrap_or_default(),
            "privileged" => group.privileged = context.truth("group.privileged", value, &span).unwrap_or_default(),
            "brake" => group.brake = context.truth("group.brake", value, &span).unwrap_or(true),
            "roles" => group.roles = carried_roles(context, value, span, roles),
            "stages" => group.stages = stages(context, value, span),
            unknown => context.raise_unknown(&key.span, unknown, "group", GROUP_KEYS.into_iter()),
        });
        match name {
            Some(name) => groups.declare(context, &name, GroupName::parse, headers, group),
            None if named => {}
            None => missing_name(context, &entry.span(Kind::Group), Kind::Group),
        }
    });
    groups
}

fn carried_roles(
    context: &Context<'_>,
    value: Value<'_>,
    span: Range<usize>,
    roles: &Names<RoleName, Role>,
) -> Vec<RoleName> {
    let mut carried: Vec<RoleName> = Vec::new();
    for name in context.texts("group.roles", value, span, false).unwrap_or_default() {
        let Some((role, _)) = roles.find(context, &name, "group.roles") else { continue };
        match carried.contains(role) {
            true => context.raise(&name.span, "group.roles", format!("`{role}` is in the list twice; expected once")),
            false => carried.push(role.clone()),
        }
    }
    carried
}

fn stages(context: &Context<'_>, value: Value<'_>, span: Range<usize>) -> Vec<Stage> {
    let mut stages: Vec<Stage> = Vec::new();
    for name in context.texts("group.stages", value, span, false).unwrap_or_default() {
        let raise = |message: String| context.raise(&name.span, "group.stages", message);
        match stage(name.value) {
            Ok(stage) if stages.contains(&stage) => raise(format!("`{stage}` is in the list twice; expected once")),
            Ok(stage) => stages.push(stage),
            Err(why) => raise(format!("found `{}`; expected {}", shown(name.value), why.expected)),
        }
    }
    stages
}

fn check_count(context: &Context<'_>, places: &[u32], limits: &Limits) {
    let Some(first) = places.get(limits.mappings) else { return };
    let start = *first as usize;
    let message =
        format!("{} mappings; expected at most {} (`limits.mappings` sets this)", places.len(), limits.mappings);
    context.raise(&(start..start + "[[mapping]]".len()), "mapping", message);
}

/// Names the mappings that say what an earlier one says. Those of one name were noted with their names.
fn raise_repeated(context: &Context<'_>, rules: &RuleSet, ids: &[MappingId], places: &[u32]) {
    let mut first: HashMap<MappingId, u32> = HashMap::with_capacity(ids.len());
    for (id, place) in ids.iter().zip(places) {
        let Some(earlier) = first.get(id) else {
            first.insert(*id, *place);
            continue;
        };
        if rules.mapping(*id).is_some_and(|mapping| mapping.name.is_some()) {
            continue;
        }
        let start = *place as usize;
        let message =
            format!("says the same as the mapping in line {}; expected it once", context.line(*earlier as usize));
        context.raise(&(start..start + "[[mapping]]".len()), "mapping", message);
    }
}
