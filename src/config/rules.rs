//! What the app has, and which claim gives what: `[[role]]`, `[[group]]`, `[[mapping]]`.
//!
//! There may be a hundred thousand mappings, so each is read field by field without a table of its own, and the names of
//! providers, claims, groups and roles in it are shared with their declarations.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::ops::Range;
use std::sync::Arc;

use super::providers::{Declared, DeclaredProvider, delimiter, stage, within_limit};
use super::raw::{Kind, PlainEntry};
use super::reader::{Context, Found, Section, Value, shown};
use super::{HeaderPreset, Limits};
use crate::pipeline::claims::ClaimRule;
use crate::pipeline::claims::split::Delimiter;
use crate::pipeline::ids::{GroupName, InvalidText, MappingId, RoleName, Stage, Target};
use crate::pipeline::mapping::{Activity, Group, Mapping, Role, RuleSet, stages_meet};

pub fn read(root: &Section<'_>, declared: &Declared, limits: &Limits, preset: HeaderPreset) -> RuleSet {
    let roles = roles(root, preset);
    let groups = groups(root, &roles, preset);
    let count = root.context.split.count(Kind::Mapping);
    let mut reader = Mappings {
        context: root.context,
        declared,
        limits,
        roles: &roles,
        groups: &groups,
        names: HashMap::new(),
        found: Vec::with_capacity(count),
        places: Vec::with_capacity(count),
    };
    each_entry(root, Kind::Mapping, |entry| reader.entry(&entry));
    let Mappings { found, places, .. } = reader;
    check_count(root.context, &places, limits);
    let ids: Vec<MappingId> = found.iter().map(|mapping| mapping.id).collect();
    let (groups, roles) = (groups.into_declared(), roles.into_declared());
    let rules = RuleSet::new(0, groups, roles, found);
    if rules.mappings().len() < ids.len() {
        raise_repeated(root.context, &rules, &ids, &places);
    }
    rules
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
    declared: HashMap<N, T>,
    /// Names with a fault of their own: whoever refers to one has none.
    faulty: HashSet<String>,
    folded: HashMap<String, usize>,
}

impl<N: Hash + Eq + std::borrow::Borrow<str>, T> Names<N, T> {
    fn new(kind: &'static str) -> Self {
        Self { kind, declared: HashMap::new(), faulty: HashSet::new(), folded: HashMap::new() }
    }

    /// Declares a name, or notes why it cannot be.
    fn declare(
        &mut self,
        context: &Context<'_>,
        name: &Found<&str>,
        parse: impl Fn(&str) -> Result<N, InvalidText>,
        preset: HeaderPreset,
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
        if name.value.contains(',') && matches!(preset, HeaderPreset::Oauth2Proxy | HeaderPreset::Authelia) {
            raise(format!(
                "`{}` holds a comma, which separates names in the headers of this preset; \
                 expected another name, or `headers.preset = \"loginsync\"`, which escapes it",
                shown(name.value)
            ));
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

    fn into_declared(self) -> HashMap<N, T> {
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

fn roles(root: &Section<'_>, preset: HeaderPreset) -> Names<RoleName, Role> {
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
            unknown => context.raise_unknown(&key.span, unknown, "role", ["name", "protected"].into_iter()),
        });
        match name {
            Some(name) => roles.declare(context, &name, RoleName::parse, preset, role),
            None if named => {}
            None => missing_name(context, &entry.span(Kind::Role), Kind::Role),
        }
    });
    roles
}

const GROUP_KEYS: [&str; 4] = ["name", "roles", "stages", "protected"];

fn groups(root: &Section<'_>, roles: &Names<RoleName, Role>, preset: HeaderPreset) -> Names<GroupName, Group> {
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
            "roles" => group.roles = carried_roles(context, value, span, roles),
            "stages" => group.stages = stages(context, value, span),
            unknown => context.raise_unknown(&key.span, unknown, "group", GROUP_KEYS.into_iter()),
        });
        match name {
            Some(name) => groups.declare(context, &name, GroupName::parse, preset, group),
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

// ----------------------------------------------------------------------------------------------------------- mappings

/// A mapping as it is written.
#[derive(Default)]
struct Written<'a> {
    name: Option<Found<&'a str>>,
    provider: Option<Found<&'a str>>,
    claim: Option<Found<&'a str>>,
    value: Option<Found<&'a str>>,
    delimiter: Option<Found<&'a str>>,
    group: Option<Found<&'a str>>,
    role: Option<Found<&'a str>>,
    disabled: bool,
    /// A key was not understood: what seems to be missing may be meant by it.
    doubtful: bool,
}

const MAPPING_KEYS: [&str; 8] = ["name", "provider", "claim", "value", "delimiter", "group", "role", "enabled"];

impl<'a> Written<'a> {
    fn read(context: &Context<'a>, entry: &Entry<'a>) -> Self {
        let mut written = Self::default();
        let mut doubtful = false;
        entry.each_field(|key, value, span| {
            let (place, full) = match key.value {
                "provider" => (&mut written.provider, "mapping.provider"),
                "claim" => (&mut written.claim, "mapping.claim"),
                "value" => (&mut written.value, "mapping.value"),
                "delimiter" => (&mut written.delimiter, "mapping.delimiter"),
                "group" => (&mut written.group, "mapping.group"),
                "role" => (&mut written.role, "mapping.role"),
                "name" => (&mut written.name, "mapping.name"),
                "enabled" => {
                    written.disabled = context.truth("mapping.enabled", value, &span) == Some(false);
                    return;
                }
                unknown => {
                    doubtful = true;
                    return context.raise_unknown(&key.span, unknown, "mapping", MAPPING_KEYS.into_iter());
                }
            };
            *place = context.text(full, value, span);
            doubtful |= place.is_none();
        });
        Self { doubtful, ..written }
    }
}

/// Collects the mappings of a file.
struct Mappings<'a, 'c> {
    context: &'c Context<'a>,
    declared: &'c Declared,
    limits: &'c Limits,
    roles: &'c Names<RoleName, Role>,
    groups: &'c Names<GroupName, Group>,
    /// Folded, and where each was first given.
    names: HashMap<String, usize>,
    found: Vec<Mapping>,
    /// Where each of `found` begins.
    places: Vec<u32>,
}

impl<'a> Mappings<'a, '_> {
    fn entry(&mut self, entry: &Entry<'a>) {
        let span = entry.span(Kind::Mapping);
        let written = Written::read(self.context, entry);
        let name = written.name.as_ref().and_then(|name| self.name(name));
        let Some(mapping) = self.mapping(&written, name, &span) else { return };
        self.found.push(mapping);
        self.places.push(u32::try_from(span.start).unwrap_or(u32::MAX));
    }

    /// Every part is looked at before the first that is missing ends it, so that all faults are noted.
    fn mapping(&self, written: &Written<'a>, name: Option<Arc<str>>, span: &Range<usize>) -> Option<Mapping> {
        let provider = self.provider(written, span);
        let claim = self.claim(written, provider, span);
        let value = self.value(written, span);
        let delimiter = self.delimiter(written);
        let (target, stages) = self.target(written, span)?;
        let (provider, claim, value, delimiter) = (provider?, claim?, value?, delimiter?);
        self.check_splits(written, claim, delimiter.as_ref());
        let id = match &name {
            Some(name) => Mapping::id_of_name(name),
            None => Mapping::id_of_content(&provider.name, &claim.name, value, delimiter.as_ref(), &target),
        };
        let activity = match (written.disabled, stages_meet(&provider.stages, stages)) {
            (true, _) => Activity::Disabled,
            (false, false) => Activity::Inactive,
            (false, true) => Activity::Active,
        };
        let (provider, claim) = (provider.name.clone(), claim.name.clone());
        Some(Mapping { id, name, provider, claim, value: Arc::from(value), delimiter, target, activity })
    }

    fn absent(&self, written: &Written<'_>, span: &Range<usize>, key: &str, example: &str) {
        if !written.doubtful {
            let message = format!("missing in `mapping`; expected for instance {key} = \"{example}\"");
            self.context.raise_absent(span, format!("mapping.{key}"), message);
        }
    }

    fn name(&mut self, name: &Found<&str>) -> Option<Arc<str>> {
        let raise = |message: String| self.context.raise(&name.span, "mapping.name", message);
        // A mapping's name is no type of its own; it is bound by what binds other names.
        if let Err(why) = GroupName::parse(name.value) {
            raise(format!("`{}` {why}", shown(name.value)));
            return None;
        }
        match self.names.get(&name.value.to_lowercase()) {
            Some(first) => {
                let line = self.context.line(*first);
                raise(format!("a mapping has this name in line {line}, case aside; expected another"));
            }
            None => {
                self.names.insert(name.value.to_lowercase(), name.span.start);
            }
        }
        Some(Arc::from(name.value))
    }

    fn provider(&self, written: &Written<'_>, span: &Range<usize>) -> Option<&DeclaredProvider> {
        let Some(name) = &written.provider else {
            self.absent(written, span, "provider", "okta");
            return None;
        };
        let providers = &self.declared.providers;
        let found = providers.iter().find(|provider| provider.name.as_str() == name.value);
        if found.is_none() && !self.declared.unnamed {
            let names = providers.iter().map(|provider| provider.name.as_str());
            self.context.raise_undeclared(name, "mapping.provider", "provider", "", names);
        }
        found
    }

    fn claim<'d>(
        &self,
        written: &Written<'_>,
        provider: Option<&'d DeclaredProvider>,
        span: &Range<usize>,
    ) -> Option<&'d ClaimRule> {
        let Some(name) = &written.claim else {
            self.absent(written, span, "claim", "groups");
            return None;
        };
        let provider = provider?;
        let found = provider.claims.iter().find(|claim| claim.name.as_str() == name.value);
        if found.is_none() {
            let place =
                format!(" under provider `{0}`; expected `[provider.claims.{1}]`", provider.name, shown(name.value));
            let names = provider.claims.iter().map(|claim| claim.name.as_str());
            self.context.raise_undeclared(name, "mapping.claim", "claim", &place, names);
        }
        found
    }

    fn value<'w>(&self, written: &Written<'w>, span: &Range<usize>) -> Option<&'w str> {
        let Some(value) = &written.value else {
            self.absent(written, span, "value", "marketing");
            return None;
        };
        if let Err(why) = within_limit(value.value, self.limits.claim_value, "claim_value") {
            self.context.raise(&value.span, "mapping.value", why);
        }
        if value.value.trim().is_empty() {
            self.context.raise(
                &value.span,
                "mapping.value",
                "is empty or blank, which no claim ever brings; expected a value",
            );
        }
        Some(value.value)
    }

    /// Its own delimiter; `Some(None)` when it has none.
    #[allow(clippy::option_option, reason = "the outer one says that the text is a fault")]
    fn delimiter(&self, written: &Written<'_>) -> Option<Option<Delimiter>> {
        let Some(text) = &written.delimiter else { return Some(None) };
        match delimiter(text, self.limits) {
            Ok(delimiter) => Some(Some(delimiter.unwrap_or_else(Delimiter::none))),
            Err(why) => {
                self.context.raise(&text.span, "mapping.delimiter", why);
                None
            }
        }
    }

    /// A value that holds the delimiter by which it is split can never match.
    fn check_splits(&self, written: &Written<'_>, claim: &ClaimRule, own: Option<&Delimiter>) {
        let (Some(value), Some(delimiter)) = (&written.value, own.or(claim.delimiter.as_ref())) else { return };
        if delimiter.as_str().is_empty() || !value.value.contains(delimiter.as_str()) {
            return;
        }
        let whose = if own.is_some() { String::from("its own") } else { format!("claim `{}`'s", claim.name) };
        let message = format!(
            "`{}` holds {whose} delimiter `{}`, by which it would be split; expected one piece, or delimiter = \"\"",
            shown(value.value),
            shown(delimiter.as_str())
        );
        self.context.raise(&value.span, "mapping.value", message);
    }

    /// What it gives, and the stages in which that exists.
    fn target(&self, written: &Written<'_>, span: &Range<usize>) -> Option<(Target, &[Stage])> {
        match (&written.group, &written.role) {
            (Some(_), Some(role)) => {
                let message = "`group` is set too; expected one of them, or a mapping for each";
                self.context.raise(&role.span, "mapping.role", message);
                None
            }
            (Some(group), None) => {
                let (name, group) = self.groups.find(self.context, group, "mapping.group")?;
                Some((Target::Group(name.clone()), &group.stages))
            }
            (None, Some(role)) => {
                let (name, _) = self.roles.find(self.context, role, "mapping.role")?;
                Some((Target::Role(name.clone()), &[]))
            }
            (None, None) => {
                if !written.doubtful {
                    let message = "gives nothing; expected a `group` or a `role`";
                    self.context.raise_absent(span, "mapping", message);
                }
                None
            }
        }
    }
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
