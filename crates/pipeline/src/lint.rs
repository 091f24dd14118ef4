//! What is legal in the rules, and suspicious: mappings that can never hold, that another makes needless, that differ by
//! case alone; patterns that reach further than was meant; groups and roles that no user can get.
//!
//! A fault of the configuration is not a matter of lint: such a file does not load.

mod contradictions;
mod cycles;
mod patterns;
mod shadows;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use serde::Serialize;

use super::claims::ClaimRule;
use super::claims::split::Delimiter;
use super::ids::{ClaimName, ProviderName, Target, Timestamp};
use super::mapping::action::{Actions, Give, Kind, Then};
use super::mapping::condition::{ClaimCondition, Condition, Test, as_seen, folded};
use super::mapping::{Activity, GateRule, Mapping, RuleSet, When};

/// One thing that an operator should look at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    pub lint: Lint,
    /// The mapping, gate, group or role that it is about.
    pub about: String,
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Lint {
    NeverMatches,
    Shadowed,
    CaseOnly,
    OddCharacters,
    PatternAsText,
    GuidAmongNames,
    DelimiterInPattern,
    PrivilegedBehindPattern,
    NoSuchTarget,
    Unanchored,
    NeverGiven,
    LeftOut,
    SupportsItself,
    Unvouched,
    Untold,
    KeptByApp,
    IssuerInTwoNamespaces,
    FurtherEndpoints,
    AnsweredByLibrary,
    ToldTwice,
    OwnsEveryGroup,
    ChosenUserName,
    LongWait,
    WaitsForNothing,
}

impl Lint {
    pub fn word(self) -> &'static str {
        match self {
            Self::NeverMatches => "never matches",
            Self::Shadowed => "shadowed",
            Self::CaseOnly => "differs by case only",
            Self::OddCharacters => "odd characters",
            Self::PatternAsText => "pattern as text",
            Self::GuidAmongNames => "guid among names",
            Self::DelimiterInPattern => "delimiter in a pattern",
            Self::PrivilegedBehindPattern => "privileged behind a pattern",
            Self::NoSuchTarget => "no such target",
            Self::Unanchored => "unanchored",
            Self::NeverGiven => "never given",
            Self::LeftOut => "left out",
            Self::SupportsItself => "supports itself",
            Self::Unvouched => "made by no administrator",
            Self::Untold => "not told to the app",
            Self::KeptByApp => "kept by the app",
            Self::IssuerInTwoNamespaces => "one issuer, two namespaces",
            Self::FurtherEndpoints => "further endpoints",
            Self::AnsweredByLibrary => "answered by a library",
            Self::ToldTwice => "told twice",
            Self::OwnsEveryGroup => "owns every group",
            Self::ChosenUserName => "a user name that users choose",
            Self::LongWait => "long wait",
            Self::WaitsForNothing => "waits for nothing",
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.lint.word(), self.about, self.message)
    }
}

/// What the configuration says of the headers by which the app learns of groups, as far as it may surprise.
#[derive(Debug, Default)]
pub struct Telling {
    /// As the configuration writes it.
    pub preset: &'static str,
    /// The providers to whose people with no group no header is sent, for an app of which nothing is known.
    pub leaves_out: Vec<ProviderName>,
    /// Groups, roles and aliases that the headers cannot carry, and why.
    pub untold: Vec<(String, String)>,
}

/// Everything suspicious, sorted by what it is and what it is about.
pub fn lint(rules: &RuleSet, telling: &Telling, now: Timestamp) -> Vec<Finding> {
    let mut linter = Linter { rules, now, findings: BTreeSet::new() };
    for mapping in rules.mappings() {
        linter.asleep(mapping);
        if mapping.is_live(now) {
            linter.mapping(mapping);
        }
    }
    linter.gates();
    shadows::find(&mut linter);
    cycles::find(&mut linter);
    linter.spellings();
    linter.guids();
    linter.never_given();
    linter.left_out();
    linter.telling(telling);
    linter.findings.into_iter().collect()
}

struct Linter<'r> {
    rules: &'r RuleSet,
    now: Timestamp,
    findings: BTreeSet<Finding>,
}

/// A value that a mapping looks for by equality, and where.
struct Exact<'r> {
    claim: &'r ClaimName,
    delimiter: Option<&'r Delimiter>,
    value: &'r str,
    ignore_case: bool,
}

fn exact(mapping: &Mapping) -> Vec<Exact<'_>> {
    match &mapping.when {
        When::Value { claim, value, delimiter } => {
            vec![Exact { claim, delimiter: delimiter.as_ref(), value, ignore_case: false }]
        }
        when => when.conditions().iter().filter_map(Condition::claim).filter_map(of_condition).collect(),
    }
}

fn of_condition(condition: &ClaimCondition) -> Option<Exact<'_>> {
    let value = condition.exact()?;
    let (claim, delimiter) = (&condition.claim, condition.delimiter.as_ref());
    Some(Exact { claim, delimiter, value, ignore_case: condition.ignore_case })
}

fn about(mapping: &Mapping) -> String {
    format!("mapping `{}`", mapping.label())
}

impl<'r> Linter<'r> {
    fn find(&mut self, lint: Lint, about: String, message: impl fmt::Display) {
        self.findings.insert(Finding { lint, about, message: message.to_string() });
    }

    /// Mappings that take no part any more.
    fn asleep(&mut self, mapping: &Mapping) {
        match (mapping.activity, mapping.until) {
            (Activity::Inactive, _) => {
                self.find(Lint::NeverMatches, about(mapping), "its provider and what it gives share no stage");
            }
            (Activity::Active, Some(until)) if until <= self.now => {
                self.find(Lint::NeverMatches, about(mapping), format!("it ended {until}"));
            }
            _ => {}
        }
    }

    fn mapping(&mut self, mapping: &'r Mapping) {
        for exact in exact(mapping) {
            self.unreachable_value(mapping, &exact);
            self.mistyped(mapping, &exact);
        }
        let conditions = mapping.when.conditions();
        if let When::Conditions { join, .. } = &mapping.when
            && let Some(why) = contradictions::find(*join, conditions)
        {
            self.find(Lint::NeverMatches, about(mapping), why);
        }
        for condition in conditions.iter().filter_map(Condition::claim) {
            self.pattern(mapping, condition);
        }
        self.guarded(mapping);
        if let Then::Actions(actions) = &mapping.then {
            self.captured(mapping, actions);
        }
    }

    /// A value that is compared as it is written, and was probably meant otherwise.
    fn mistyped(&mut self, mapping: &Mapping, exact: &Exact<'_>) {
        let value = exact.value;
        let is_anchored = value.starts_with('^') && value.ends_with('$');
        let is_glob = value.starts_with('*') || value.ends_with('*') || value.contains(".*");
        if is_glob || is_anchored {
            let message = format!(
                "`{value}` is compared as it is written; a pattern is `begins_with`, `ends_with`, `contains` or `regex` of the \
                 long form"
            );
            self.find(Lint::PatternAsText, about(mapping), message);
        }
        if as_seen(value) != folded(value) {
            let shown = value.escape_debug();
            let message = format!(
                "`{shown}` has blanks at an end or several in a row, characters that cannot be seen, or accents that are not \
                 composed; values are compared as they are written"
            );
            self.find(Lint::OddCharacters, about(mapping), message);
        }
    }

    /// The rules by which a mapping reads a claim: of its provider, or of all.
    fn readers(&self, mapping: &Mapping, claim: &ClaimName) -> Vec<&'r ClaimRule> {
        let providers = self.rules.providers.iter().filter(|(name, _)| mapping.applies_to(name));
        providers.flat_map(|(_, rules)| &rules.claims).filter(|rule| rule.name == *claim).collect()
    }

    /// A value that no reader's splitting, reducing or stripping leaves.
    fn unreachable_value(&mut self, mapping: &Mapping, exact: &Exact<'_>) {
        let readers = self.readers(mapping, exact.claim);
        let Some(first) = readers.first() else { return };
        let why = |rule: &ClaimRule| {
            let delimiter =
                exact.delimiter.or(rule.delimiter.as_ref()).filter(|delimiter| !delimiter.as_str().is_empty());
            let prefix = rule.strip_prefix.as_deref().filter(|prefix| exact.value.starts_with(*prefix));
            if delimiter.is_some() && exact.value.trim() != exact.value {
                Some(format!("`{}` has white space at an end, which splitting takes away", exact.value))
            } else if rule.first_rdn && exact.value.contains('=') && exact.value.contains(',') {
                Some(format!("`{}` is a distinguished name, and the claim is reduced to its first part", exact.value))
            } else {
                prefix.map(|prefix| format!("`{}` begins with `{prefix}`, which the claim loses", exact.value))
            }
        };
        // One provider that brings it is enough.
        if readers.iter().all(|rule| why(rule).is_some())
            && let Some(why) = why(first)
        {
            self.find(Lint::NeverMatches, about(mapping), why);
        }
    }

    fn pattern(&mut self, mapping: &Mapping, condition: &ClaimCondition) {
        let source = match &condition.test {
            Test::Glob(pattern) => pattern.source(),
            Test::Regex(pattern) => {
                if let Some(why) = patterns::loose(pattern.source()) {
                    self.find(Lint::Unanchored, about(mapping), format!("`{}` {why}", pattern.source()));
                }
                pattern.source()
            }
            _ => return,
        };
        let theirs: Vec<&Delimiter> = self
            .readers(mapping, &condition.claim)
            .into_iter()
            .filter_map(|rule| condition.delimiter.as_ref().or(rule.delimiter.as_ref()))
            .filter(|delimiter| !delimiter.as_str().is_empty() && source.contains(delimiter.as_str()))
            .collect();
        if let Some(delimiter) = theirs.first() {
            let message = format!("`{source}` holds `{}`, by which values are split", delimiter.as_str());
            self.find(Lint::DelimiterInPattern, about(mapping), message);
        }
    }

    /// What is protected or privileged, and does not take an exact match alone.
    fn guarded(&mut self, mapping: &Mapping) {
        let is_exact = match &mapping.when {
            When::Value { .. } => true,
            When::Always | When::Unmatched { .. } => false,
            When::Conditions { conditions, .. } => {
                conditions.iter().filter_map(Condition::claim).all(|condition| {
                    !condition.ignore_case && (condition.exact().is_some() || !condition.is_positive())
                }) && !exact(mapping).is_empty()
            }
        };
        if is_exact {
            return;
        }
        for target in mapping.then.named() {
            if let Some(why) = self.guard(target) {
                let message = format!("{target} {why}, and is given by more than an exact match");
                self.find(Lint::PrivilegedBehindPattern, about(mapping), message);
            }
        }
    }

    fn guard(&self, target: &Target) -> Option<String> {
        if self.rules.is_privileged(target) {
            return Some(String::from("is privileged"));
        }
        if self.rules.is_protected(target) {
            return Some(String::from("is protected"));
        }
        let Target::Group(group) = target else { return None };
        let role =
            self.rules.roles_of(group).iter().find(|role| self.rules.is_protected(&Target::Role((*role).clone())));
        role.map(|role| format!("carries the protected role `{role}`"))
    }

    /// Captures that can name nothing that is declared.
    fn captured(&mut self, mapping: &Mapping, actions: &Actions) {
        for give in &actions.gives {
            let Give::Captured(kind, template) = give else { continue };
            let names: Vec<&str> = match kind {
                Kind::Group => self.rules.groups.keys().map(|name| name.as_str()).collect(),
                Kind::Role => self.rules.roles.keys().map(|name| name.as_str()).collect(),
            };
            if !names.iter().any(|name| patterns::fits(template.source(), name)) {
                let message = format!("no declared name looks like `{}`", template.source());
                self.find(Lint::NoSuchTarget, about(mapping), message);
            }
        }
    }

    fn gates(&mut self) {
        for gate in &self.rules.gates {
            let about = format!("gate `{}`", gate.name);
            match &gate.rule {
                GateRule::Require(listed) => {
                    let lives = |mapping: &&Mapping| mapping.is_live(self.now);
                    let dead: Vec<String> = listed
                        .iter()
                        .filter_map(|id| self.rules.mapping(*id))
                        .filter(|mapping| !lives(mapping))
                        .map(Mapping::label)
                        .collect();
                    for label in dead {
                        self.find(Lint::NeverMatches, about.clone(), format!("mapping `{label}` takes no part"));
                    }
                }
                GateRule::Deny { join, conditions } => {
                    if let Some(why) = contradictions::find(*join, conditions) {
                        self.find(Lint::NeverMatches, about, why);
                    }
                }
                GateRule::RequireAny => {}
            }
        }
    }

    /// Values that an operator may have meant to be one.
    fn spellings(&mut self) {
        type Place<'m> = (Option<&'m ProviderName>, &'m ClaimName, Option<&'m Delimiter>, String);
        let mut known: HashMap<Place<'_>, (&str, String)> = HashMap::new();
        let mut found = Vec::new();
        for mapping in self.rules.mappings().iter().filter(|mapping| mapping.is_live(self.now)) {
            for exact in exact(mapping).into_iter().filter(|exact| !exact.ignore_case) {
                let key = (mapping.provider.as_ref(), exact.claim, exact.delimiter, folded(exact.value).into_owned());
                match known.get(&key) {
                    Some((value, label)) if *value != exact.value => {
                        found
                            .push((about(mapping), format!("`{}` is `{value}` of `{label}`, case aside", exact.value)));
                    }
                    Some(_) => {}
                    None => {
                        known.insert(key, (exact.value, mapping.label()));
                    }
                }
            }
        }
        for (about, message) in found {
            self.find(Lint::CaseOnly, about, message);
        }
    }

    /// A provider sends either ids or names: the fewer of both are probably a mistake.
    fn guids(&mut self) {
        type Sides<'m> = (Vec<(&'m Mapping, &'m str)>, Vec<(&'m Mapping, &'m str)>);
        let mut claims: BTreeMap<(Option<&ProviderName>, &ClaimName), Sides<'_>> = BTreeMap::new();
        for mapping in self.rules.mappings().iter().filter(|mapping| mapping.is_live(self.now)) {
            for exact in exact(mapping) {
                let (ids, names) = claims.entry((mapping.provider.as_ref(), exact.claim)).or_default();
                let side = if patterns::is_guid(exact.value) { ids } else { names };
                side.push((mapping, exact.value));
            }
        }
        for ((_, claim), (ids, names)) in claims {
            if ids.is_empty() || names.is_empty() {
                continue;
            }
            let (odd, what, others) = match ids.len() <= names.len() {
                true => (ids, "a GUID", "are names"),
                false => (names, "a name", "are GUIDs"),
            };
            for (mapping, value) in odd {
                let message = format!("`{value}` is {what}, and other values of claim `{claim}` {others}");
                self.find(Lint::GuidAmongNames, about(mapping), message);
            }
        }
    }

    /// What the store holds and no login meets.
    fn left_out(&mut self) {
        for (number, why) in &self.rules.overlay.left_out {
            self.find(Lint::LeftOut, format!("number {number} of the store"), why);
        }
    }

    fn telling(&mut self, telling: &Telling) {
        for (name, why) in &telling.untold {
            self.find(Lint::Untold, name.clone(), why);
        }
        let Telling { preset, leaves_out, .. } = telling;
        if let Some(provider) = leaves_out.iter().find(|provider| self.may_end_with_none(provider)) {
            let message = format!(
                "a person of provider `{provider}` can end with no group, preset `{preset}` then sends no groups header, and \
                 apps such as OctoPrint and Open WebUI keep the old groups; set `headers.no_groups = \"-\"`, or the preset \
                 of your app"
            );
            self.find(Lint::KeptByApp, String::from("`headers.no_groups`"), message);
        }
    }

    /// Whether people of a provider are sure of no group: none is given to all of them for good.
    fn may_end_with_none(&self, provider: &ProviderName) -> bool {
        let gives_group = |mapping: &Mapping| {
            mapping.then.named().any(|target| matches!(target, Target::Group(_)) && self.rules.meets(provider, target))
        };
        let for_all = |mapping: &&Mapping| {
            matches!(mapping.when, When::Always) && mapping.until.is_none() && mapping.applies_to(provider)
        };
        let live = self.rules.mappings().iter().filter(|mapping| mapping.is_live(self.now));
        self.rules.lease(provider).is_some() || !live.filter(for_all).any(gives_group)
    }

    /// Groups and roles that no mapping gives, directly, by a capture or through a group.
    fn never_given(&mut self) {
        let mut given: BTreeSet<Target> = BTreeSet::new();
        let mut templates: Vec<(Kind, &str)> = Vec::new();
        for mapping in self.rules.mappings().iter().filter(|mapping| mapping.is_live(self.now)) {
            given.extend(mapping.then.named().cloned());
            let Then::Actions(actions) = &mapping.then else { continue };
            templates.extend(actions.gives.iter().filter_map(|give| match give {
                Give::Captured(kind, template) => Some((*kind, template.source())),
                Give::Target(_) => None,
            }));
        }
        let captured = |kind: Kind, name: &str| {
            templates.iter().any(|(of, template)| *of == kind && patterns::fits(template, name))
        };
        let groups: Vec<Target> = self.rules.groups.keys().cloned().map(Target::Group).collect();
        for group in groups {
            match given.contains(&group) || captured(Kind::Group, group.name()) {
                true => {
                    given.insert(group);
                }
                false => self.find(Lint::NeverGiven, group.to_string(), "no mapping gives it"),
            }
        }
        let through: BTreeSet<&str> = given
            .iter()
            .filter_map(|target| match target {
                Target::Group(group) => Some(self.rules.roles_of(group)),
                Target::Role(_) => None,
            })
            .flatten()
            .map(|role| role.as_str())
            .collect();
        let roles: Vec<Target> = self.rules.roles.keys().cloned().map(Target::Role).collect();
        for role in roles {
            if !(given.contains(&role) || through.contains(role.name()) || captured(Kind::Role, role.name())) {
                self.find(Lint::NeverGiven, role.to_string(), "no mapping gives it, nor a group that one gives");
            }
        }
    }
}
