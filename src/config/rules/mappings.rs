//! `[[mapping]]` in its short and its long form, `[mapping_table]` and `[[default]]`. All are the same thing inside.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use toml::de::DeValue;

use super::super::Limits;
use super::super::providers::{Declared, DeclaredProvider, delimiter, within_limit};
use super::super::raw::Kind;
use super::super::reader::{Context, Found, Section, Value, shown};
use super::conditions::{Reader, Readers, conditions, join};
use super::{Entry, Targets, actions};
use crate::pipeline::claims::ClaimRule;
use crate::pipeline::claims::split::Delimiter;
use crate::pipeline::ids::{GroupName, MappingId, Target, Timestamp};
use crate::pipeline::mapping::action::{Give, Then};
use crate::pipeline::mapping::condition::{Condition, Test};
use crate::pipeline::mapping::{Activity, Join, Mapping, When, stages_meet};

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
    join: Option<Found<&'a str>>,
    when: Option<Found<Value<'a>>>,
    then: Option<Found<Value<'a>>>,
    allow: Option<Found<Value<'a>>>,
    until: Option<Found<Value<'a>>>,
    always: Option<Range<usize>>,
    disabled: bool,
    /// A key was not understood: what seems to be missing may be meant by it.
    doubtful: bool,
}

const MAPPING_KEYS: [&str; 14] = [
    "name",
    "provider",
    "claim",
    "value",
    "delimiter",
    "group",
    "role",
    "enabled",
    "match",
    "when",
    "then",
    "allow",
    "until",
    "always",
];

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
                "match" => (&mut written.join, "mapping.match"),
                "enabled" => {
                    written.disabled = context.truth("mapping.enabled", value, &span) == Some(false);
                    return;
                }
                "always" => {
                    match context.truth("mapping.always", value, &span) {
                        Some(true) => written.always = Some(span),
                        Some(false) => {
                            context.raise(&span, "mapping.always", "found false; expected true, or no such key")
                        }
                        None => doubtful = true,
                    }
                    return;
                }
                "when" => return written.when = Some(Found { value, span }),
                "then" => return written.then = Some(Found { value, span }),
                "allow" => return written.allow = Some(Found { value, span }),
                "until" => return written.until = Some(Found { value, span }),
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

    /// Whether anything of the long form is in it.
    fn is_long(&self) -> bool {
        self.when.is_some() || self.then.is_some() || self.always.is_some()
    }
}

/// Collects the mappings of a file.
pub(super) struct Mappings<'a, 'c> {
    pub context: &'c Context<'a>,
    pub declared: &'c Declared,
    pub limits: &'c Limits,
    pub targets: &'c Targets,
    /// Folded, and where each was first given.
    names: HashMap<String, usize>,
    found: Vec<Mapping>,
    /// Where each of `found` begins.
    places: Vec<u32>,
}

impl<'a, 'c> Mappings<'a, 'c> {
    pub fn new(context: &'c Context<'a>, declared: &'c Declared, limits: &'c Limits, targets: &'c Targets) -> Self {
        let count = context.split.count(Kind::Mapping);
        let (found, places) = (Vec::with_capacity(count), Vec::with_capacity(count));
        Self { context, declared, limits, targets, names: HashMap::new(), found, places }
    }

    /// To read conditions with.
    pub fn reader(&self) -> Reader<'a, 'c> {
        Reader { context: self.context, limits: self.limits, targets: self.targets }
    }

    /// The mappings, and where each begins.
    pub fn into_found(self) -> (Vec<Mapping>, Vec<u32>) {
        (self.found, self.places)
    }

    /// The mappings that have a name.
    pub fn named(&self) -> impl Iterator<Item = (&str, MappingId)> {
        self.found.iter().filter_map(|mapping| Some((&**mapping.name.as_ref()?, mapping.id)))
    }

    fn push(&mut self, mapping: Mapping, at: usize) {
        self.found.push(mapping);
        self.places.push(u32::try_from(at).unwrap_or(u32::MAX));
    }

    pub fn entry(&mut self, entry: &Entry<'a>) {
        let span = entry.span(Kind::Mapping);
        let written = Written::read(self.context, entry);
        let name = written.name.as_ref().and_then(|name| self.name(name));
        let mapping = match written.is_long() {
            true => self.long(&written, name, &span),
            false => self.short(&written, name, &span),
        };
        if let Some(mapping) = mapping {
            self.push(mapping, span.start);
        }
    }

    // ------------------------------------------------------------------------------------------------- the short form

    /// Every part is looked at before the first that is missing ends it, so that all faults are noted.
    fn short(&self, written: &Written<'a>, name: Option<Arc<str>>, span: &Range<usize>) -> Option<Mapping> {
        for (found, key) in [
            (written.join.as_ref().map(|join| &join.span), "match"),
            (written.allow.as_ref().map(|allow| &allow.span), "allow"),
        ] {
            if let Some(place) = found {
                self.context.raise(
                    place,
                    format!("mapping.{key}"),
                    "is for mappings with `when`; expected no such key",
                );
            }
        }
        let provider = self.provider(written, span);
        let claim = self.claim(written, provider, span);
        let value = self.value(written, span);
        let delimiter = self.delimiter(written);
        let until = self.until(written);
        let target = self.target(written, span)?;
        let (provider, claim, value, delimiter) = (provider?, claim?, value?, delimiter?);
        self.check_splits(written, claim, delimiter.as_ref());
        let activity = self.activity(written, Some(provider), std::slice::from_ref(&target));
        let mut mapping =
            Mapping::of_value(provider.name.clone(), claim.name.clone(), Arc::from(value), delimiter, target);
        if let Some(name) = &name {
            mapping.id = Mapping::id_of_name(name);
        }
        Some(Mapping { name, activity, until, ..mapping })
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

    fn provider(&self, written: &Written<'_>, span: &Range<usize>) -> Option<&'c DeclaredProvider> {
        let Some(name) = &written.provider else {
            self.absent(written, span, "provider", "okta");
            return None;
        };
        self.find_provider(name, "mapping.provider")
    }

    pub fn find_provider(&self, name: &Found<&str>, key: &str) -> Option<&'c DeclaredProvider> {
        let providers = &self.declared.providers;
        let found = providers.iter().find(|provider| provider.name.as_str() == name.value);
        if found.is_none() && !self.declared.unnamed {
            let names = providers.iter().map(|provider| provider.name.as_str());
            self.context.raise_undeclared(name, key, "provider", "", names);
        }
        found
    }

    fn claim(
        &self,
        written: &Written<'_>,
        provider: Option<&'c DeclaredProvider>,
        span: &Range<usize>,
    ) -> Option<&'c ClaimRule> {
        let Some(name) = &written.claim else {
            self.absent(written, span, "claim", "groups");
            return None;
        };
        self.find_claim(name, "mapping.claim", provider?)
    }

    fn find_claim(&self, name: &Found<&str>, key: &str, provider: &'c DeclaredProvider) -> Option<&'c ClaimRule> {
        let found = provider.claims.iter().find(|claim| claim.name.as_str() == name.value);
        if found.is_none() {
            let place =
                format!(" under provider `{0}`; expected `[provider.claims.{1}]`", provider.name, shown(name.value));
            let names = provider.claims.iter().map(|claim| claim.name.as_str());
            self.context.raise_undeclared(name, key, "claim", &place, names);
        }
        found
    }

    fn value<'w>(&self, written: &Written<'w>, span: &Range<usize>) -> Option<&'w str> {
        let Some(value) = &written.value else {
            self.absent(written, span, "value", "marketing");
            return None;
        };
        self.check_value(value, "mapping.value");
        Some(value.value)
    }

    fn check_value(&self, value: &Found<&str>, key: &str) {
        if let Err(why) = within_limit(value.value, self.limits.claim_value, "claim_value") {
            self.context.raise(&value.span, key, why);
        }
        if value.value.trim().is_empty() {
            let message = "is empty or blank, which no claim ever brings; expected a value";
            self.context.raise(&value.span, key, message);
        }
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

    /// A value that holds the delimiter by which it is split can never match, and a name out of a distinguished name is a
    /// piece already.
    fn check_splits(&self, written: &Written<'_>, claim: &ClaimRule, own: Option<&Delimiter>) {
        let splits = own.is_some_and(|delimiter| !delimiter.as_str().is_empty());
        if let (true, true, Some(text)) = (claim.is_split(), splits, &written.delimiter) {
            let (key, what) = if claim.first_rdn { ("dn", "names") } else { ("format", "elements") };
            let message =
                format!("claim `{}` is read with `{key}`, whose {what} are not split again; expected none", claim.name);
            self.context.raise(&text.span, "mapping.delimiter", message);
        }
        if let Some(value) = &written.value {
            self.check_split(value, "mapping.value", claim, own);
        }
    }

    fn check_split(&self, value: &Found<&str>, key: &str, claim: &ClaimRule, own: Option<&Delimiter>) {
        let Some(delimiter) = own.or(claim.delimiter.as_ref()) else { return };
        if delimiter.as_str().is_empty() || !value.value.contains(delimiter.as_str()) {
            return;
        }
        let whose = if own.is_some() { String::from("its own") } else { format!("claim `{}`'s", claim.name) };
        let message = format!(
            "`{}` holds {whose} delimiter `{}`, by which it would be split; expected one piece, or delimiter = \"\"",
            shown(value.value),
            shown(delimiter.as_str())
        );
        self.context.raise(&value.span, key, message);
    }

    /// The one group or role that it gives.
    fn target(&self, written: &Written<'_>, span: &Range<usize>) -> Option<Target> {
        match (&written.group, &written.role) {
            (Some(_), Some(role)) => {
                let message = "`group` is set too; expected one of them, or a mapping for each";
                self.context.raise(&role.span, "mapping.role", message);
                None
            }
            (Some(group), None) => self.group(group, "mapping.group"),
            (None, Some(role)) => self.role(role, "mapping.role"),
            (None, None) => {
                if !written.doubtful {
                    let message = "gives nothing; expected a `group` or a `role`";
                    self.context.raise_absent(span, "mapping", message);
                }
                None
            }
        }
    }

    pub fn group(&self, name: &Found<&str>, key: &str) -> Option<Target> {
        self.targets.groups.find(self.context, name, key).map(|(name, _)| Target::Group(name.clone()))
    }

    pub fn role(&self, name: &Found<&str>, key: &str) -> Option<Target> {
        self.targets.roles.find(self.context, name, key).map(|(name, _)| Target::Role(name.clone()))
    }

    fn activity(&self, written: &Written<'_>, provider: Option<&DeclaredProvider>, targets: &[Target]) -> Activity {
        let meets = |provider: &DeclaredProvider| {
            targets.iter().any(|target| stages_meet(&provider.stages, self.targets.stages(target)))
        };
        match (written.disabled, provider.is_none_or(meets)) {
            (true, _) => Activity::Disabled,
            (false, false) => Activity::Inactive,
            (false, true) => Activity::Active,
        }
    }

    /// A moment as RFC 3339 writes it, with or without quotes.
    fn until(&self, written: &Written<'_>) -> Option<Timestamp> {
        let Found { value, span } = written.until.as_ref()?;
        let text = match value {
            Value::Text(text) => (*text).to_owned(),
            Value::Other(DeValue::Datetime(date)) => date.to_string(),
            _ => String::new(),
        };
        let parsed = chrono::DateTime::parse_from_rfc3339(&text);
        if parsed.is_err() {
            let message = format!("found {value}; expected a time such as 2027-01-31T00:00:00Z");
            self.context.raise(span, "mapping.until", message);
        }
        parsed.ok().map(|date| Timestamp(date.timestamp_millis()))
    }

    // -------------------------------------------------------------------------------------------------- the long form

    fn long(&self, written: &Written<'a>, name: Option<Arc<str>>, span: &Range<usize>) -> Option<Mapping> {
        if name.is_none() && written.name.is_none() {
            self.absent(written, span, "name", "engineering leads");
        }
        let provider = written.provider.as_ref().map(|name| self.find_provider(name, "mapping.provider"));
        let readers = self.readers(provider);
        let when = self.when(written, &readers, span);
        let until = self.until(written);
        let gives = self.gives(written, span);
        let (when, gives, name) = (when?, gives?, name?);
        let lists = written.allow.as_ref().map(|allow| actions::allow(self.context, allow.value, &allow.span));
        let actions = actions::close(self.context, self.targets, &when, &gives, lists.unwrap_or_default());
        let named: Vec<Target> = gives
            .iter()
            .filter_map(|(give, _)| match give {
                Give::Target(target) => Some(target.clone()),
                Give::Captured(..) => None,
            })
            .collect();
        self.check_privileged(&when, &gives);
        let provider = match provider {
            Some(provider) => Some(provider?),
            None => None,
        };
        let activity = match named.len() == gives.len() {
            true => self.activity(written, provider, &named),
            false if written.disabled => Activity::Disabled,
            false => Activity::Active,
        };
        let then = match (named.as_slice(), gives.len()) {
            ([target], 1) => Then::Give(target.clone()),
            _ => Then::Actions(Box::new(actions)),
        };
        let id = Mapping::id_of_name(&name);
        let provider = provider.map(|provider| provider.name.clone());
        Some(Mapping { id, name: Some(name), provider, when, then, activity, until })
    }

    /// Whose claims a rule reads: of the provider that it names, else of all.
    #[allow(clippy::option_option, reason = "a provider may be named and not be found")]
    pub fn readers(&self, provider: Option<Option<&'c DeclaredProvider>>) -> Readers<'c> {
        match provider {
            Some(Some(provider)) => Readers { providers: vec![provider], doubtful: false },
            Some(None) => Readers { providers: Vec::new(), doubtful: true },
            None => Readers { providers: self.declared.providers.iter().collect(), doubtful: self.declared.unnamed },
        }
    }

    fn when(&self, written: &Written<'a>, readers: &Readers<'_>, span: &Range<usize>) -> Option<When> {
        let short = [&written.claim, &written.value].into_iter().flatten().next();
        if let Some(key) = short {
            let message = "belongs to the short form; expected a condition in `when`, or a mapping without `when`";
            self.context.raise(&key.span, "mapping", message);
        }
        match (&written.when, &written.always) {
            (Some(_), Some(always)) => {
                self.context.raise(always, "mapping.always", "`when` is set too; expected one of them");
                None
            }
            (Some(when), None) => {
                let join = join(self.context, "mapping.match", written.join.as_ref());
                let conditions = conditions(self.reader(), "mapping.when", when.value, &when.span, readers)?;
                Some(When::Conditions { join, conditions: conditions.into() })
            }
            (None, Some(_)) => Some(When::Always),
            (None, None) if short.is_some() => None,
            (None, None) => {
                let message = "asks for nothing; expected `when`, or always = true for everyone";
                self.context.raise_absent(span, "mapping", message);
                None
            }
        }
    }

    fn gives(&self, written: &Written<'a>, span: &Range<usize>) -> Option<Vec<(Give, Range<usize>)>> {
        let short = [&written.group, &written.role].into_iter().flatten().next();
        match (&written.then, short) {
            (Some(_), Some(target)) => {
                self.context.raise(&target.span, "mapping", "`then` is set too; expected one of them");
                None
            }
            (Some(then), None) => actions::actions(self.context, self.targets, then.value, &then.span),
            (None, Some(place)) => {
                let place = place.span.clone();
                self.target(written, span).map(|target| vec![(Give::Target(target), place)])
            }
            (None, None) => {
                let message = "gives nothing; expected `then`, a `group` or a `role`";
                self.context.raise_absent(span, "mapping", message);
                None
            }
        }
    }

    /// What is privileged takes exact matches alone: a pattern, or a rule for everyone, may reach further than was meant.
    fn check_privileged(&self, when: &When, gives: &[(Give, Range<usize>)]) {
        if is_exact(when) {
            return;
        }
        for (give, place) in gives {
            let Give::Target(target) = give else { continue };
            if self.targets.is_privileged(target) {
                let message = format!(
                    "{target} is privileged and takes exact matches alone; expected a condition with `is` (without \
                     `ignore_case`) that must hold, and no pattern"
                );
                self.context.raise(place, "mapping.then", message);
            }
        }
    }

    // ------------------------------------------------------------------------------------------- tables and defaults

    /// `[mapping_table.PROVIDER.CLAIM]`: plain pairs of a value and what it gives.
    pub fn tables(&mut self, section: &Section<'a>) {
        for (name, claims) in section.named_sections() {
            let provider = self.find_provider(&name, "mapping_table");
            for (name, table) in claims.named_sections() {
                let claim = provider.and_then(|provider| self.find_claim(&name, "mapping_table", provider));
                self.table(&table, provider.zip(claim));
                table.finish();
            }
        }
    }

    fn table(&mut self, table: &Section<'a>, whose: Option<(&'c DeclaredProvider, &'c ClaimRule)>) {
        let own = table.text("delimiter").and_then(|text| match delimiter(&text, self.limits) {
            Ok(delimiter) => Some(delimiter.unwrap_or_else(Delimiter::none)),
            Err(why) => {
                table.raise(&text.span, "delimiter", why);
                None
            }
        });
        for key in ["groups", "roles"] {
            let pairs = table.section(key);
            for (value, targets, span) in pairs.fields() {
                self.check_value(&value, &pairs.name);
                let names = self.context.texts(&pairs.key(value.value), targets, span, true).unwrap_or_default();
                for name in names {
                    let target = match key {
                        "groups" => self.group(&name, &pairs.name),
                        _ => self.role(&name, &pairs.name),
                    };
                    let (Some(target), Some((provider, claim))) = (target, whose) else { continue };
                    self.check_split(&value, &pairs.name, claim, own.as_ref());
                    let activity = self.activity(&Written::default(), Some(provider), std::slice::from_ref(&target));
                    let mapping = Mapping::of_value(
                        provider.name.clone(),
                        claim.name.clone(),
                        Arc::from(value.value),
                        own.clone(),
                        target,
                    );
                    self.push(Mapping { activity, ..mapping }, value.span.start);
                }
            }
        }
    }

    /// `[[default]]`: what holds while no mapping on the claim does.
    pub fn default(&mut self, section: &Section<'a>) {
        let provider =
            section.required("provider", "okta").and_then(|name| self.find_provider(&name, "default.provider"));
        let claim = section.required("claim", "groups");
        let claim = claim.zip(provider).and_then(|(name, provider)| self.find_claim(&name, "default.claim", provider));
        let (group, role) = (section.text("group"), section.text("role"));
        section.finish();
        let target = match (&group, &role) {
            (Some(group), None) => self.group(group, "default.group"),
            (None, Some(role)) => self.role(role, "default.role"),
            _ => {
                section.context.raise_absent(&section.span, "default", "expected either a `group` or a `role`");
                None
            }
        };
        let (Some(provider), Some(claim), Some(target)) = (provider, claim, target) else { return };
        if self.targets.is_privileged(&target) {
            let message = format!("{target} is privileged and takes exact matches alone; expected a mapping for it");
            section.context.raise(&section.span, "default", message);
        }
        let mapping = Mapping {
            id: Mapping::id_of_default(&provider.name, &claim.name, &target),
            name: None,
            provider: Some(provider.name.clone()),
            when: When::Unmatched { claim: claim.name.clone() },
            activity: self.activity(&Written::default(), Some(provider), std::slice::from_ref(&target)),
            then: Then::Give(target),
            until: None,
        };
        self.push(mapping, section.span.start);
    }
}

/// Whether a rule holds only for users with one of a few values, letter for letter.
fn is_exact(when: &When) -> bool {
    let When::Conditions { join, conditions } = when else { return matches!(when, When::Value { .. }) };
    let exact = |condition: &Condition| match condition {
        Condition::Claim(condition) => !condition.ignore_case && matches!(condition.test, Test::Is(_)),
        _ => false,
    };
    let pattern = |condition: &Condition| match condition {
        Condition::Claim(condition) => {
            let narrows = matches!(condition.test, Test::IsNot(_) | Test::NotContains(_) | Test::Absent | Test::Is(_));
            !narrows || (condition.ignore_case && condition.is_positive())
        }
        _ => false,
    };
    match join {
        Join::All => conditions.iter().any(exact) && !conditions.iter().any(pattern),
        Join::Any => conditions.iter().all(exact),
    }
}
