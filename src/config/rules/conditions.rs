//! Conditions, as `when` of a mapping and `deny` of a gate write them.

use std::ops::Range;
use std::sync::Arc;

use toml::de::DeValue;

use super::super::Limits;
use super::super::problem::nearest;
use super::super::providers::{DeclaredProvider, delimiter, within_limit};
use super::super::reader::{Context, Found, Section, Value, shown};
use super::Targets;
use crate::pipeline::claims::split::Delimiter;
use crate::pipeline::ids::ClaimName;
use crate::pipeline::mapping::Join;
use crate::pipeline::mapping::condition::{ClaimCondition, Condition, Days, Decimal, Pattern, Test};

/// The operators on a claim, as they are written.
const OPERATORS: [&str; 12] = [
    "is",
    "is_not",
    "contains",
    "not_contains",
    "begins_with",
    "ends_with",
    "glob",
    "regex",
    "greater_than",
    "less_than",
    "present",
    "absent",
];

/// What conditions are read with.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a, 'c> {
    pub context: &'c Context<'a>,
    pub limits: &'c Limits,
    pub targets: &'c Targets,
}

/// Whose claims conditions read.
pub(super) struct Readers<'a> {
    /// The one provider, or every declared one that the rule applies to.
    pub providers: Vec<&'a DeclaredProvider>,
    /// A provider could not be read, or is not declared: what seems to be missing may be there.
    pub doubtful: bool,
}

/// `match = "all" | "any"`.
pub(super) fn join(context: &Context<'_>, key: &str, text: Option<&Found<&str>>) -> Join {
    let Some(text) = text else { return Join::All };
    match text.value {
        "all" => Join::All,
        "any" => Join::Any,
        other => {
            let message = format!("found `{}`; expected `all` or `any`", shown(other));
            context.raise_near(&text.span, key, message, nearest(other, ["all", "any"]));
            Join::All
        }
    }
}

/// A list of conditions; a fault when there is none.
pub(super) fn conditions(
    reader: Reader<'_, '_>,
    key: &str,
    value: Value<'_>,
    span: &Range<usize>,
    readers: &Readers<'_>,
) -> Option<Vec<Condition>> {
    let context = reader.context;
    let Value::Other(DeValue::Array(items)) = value else {
        let example = "[{ claim = \"groups\", is = \"staff\" }]";
        context.raise(span, key, format!("found {value}; expected a list of conditions such as {example}"));
        return None;
    };
    if items.is_empty() {
        let message = "is empty; expected at least one condition (`always = true` is the only rule for everyone)";
        context.raise(span, key, message);
        return None;
    }
    let mut all = Vec::with_capacity(items.len());
    for item in items.iter() {
        let place = context.span(item);
        match item.get_ref() {
            DeValue::Table(table) => {
                let section = Section::new(context, key, place, table);
                all.push(condition(reader, &section, readers));
                section.finish();
            }
            other => {
                context.raise(&place, key, format!("found {}; expected a condition in braces", Value::from(other)));
                all.push(None);
            }
        }
    }
    all.into_iter().collect()
}

fn condition(reader: Reader<'_, '_>, section: &Section<'_>, readers: &Readers<'_>) -> Option<Condition> {
    let subjects = ["claim", "has_role", "lacks_role", "last_login"];
    let written: Vec<&str> = subjects.into_iter().filter(|subject| section.written(subject).is_some()).collect();
    match written.as_slice() {
        ["claim"] => claim_condition(reader, section, readers).map(Condition::Claim),
        [subject @ ("has_role" | "lacks_role")] => {
            let key: &'static str = if *subject == "has_role" { "has_role" } else { "lacks_role" };
            let name = section.text(key)?;
            let (role, _) = reader.targets.roles.find(section.context, &name, &section.key(key))?;
            Some(if key == "has_role" { Condition::HasRole(role.clone()) } else { Condition::LacksRole(role.clone()) })
        }
        ["last_login"] => last_login(section),
        [] => {
            section.accept(&OPERATORS);
            let message = "asks about nothing; expected one of `claim`, `has_role`, `lacks_role`, `last_login`";
            section.context.raise(&section.span, &section.name, message);
            None
        }
        several => {
            section.accept(&subjects);
            section.accept(&OPERATORS);
            section.accept(&["delimiter", "ignore_case"]);
            let message = format!("has `{}`; expected one of them, and a condition for each", several.join("` and `"));
            section.context.raise(&section.span, &section.name, message);
            None
        }
    }
}

/// `{ last_login = { greater_than = 30 } }`, in days.
fn last_login(section: &Section<'_>) -> Option<Condition> {
    let days = section.section("last_login");
    let most = usize::try_from(u32::MAX).unwrap_or(usize::MAX);
    let read = |key: &'static str| days.written(key).map(|_| days.count(key, 0, 0..=most));
    let (more, fewer) = (read("greater_than"), read("less_than"));
    days.finish();
    let as_days = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    match (more, fewer) {
        (Some(more), None) => Some(Condition::LastLogin(Days::MoreThan(as_days(more)))),
        (None, Some(fewer)) => Some(Condition::LastLogin(Days::FewerThan(as_days(fewer)))),
        _ => {
            let message = "expected either `greater_than` or `less_than`, a number of days: { greater_than = 30 }";
            section.context.raise(&days.span, section.key("last_login"), message);
            None
        }
    }
}

fn claim_condition(reader: Reader<'_, '_>, section: &Section<'_>, readers: &Readers<'_>) -> Option<ClaimCondition> {
    let claim = claim(section, readers);
    let own = match section.text("delimiter").map(|text| (delimiter(&text, reader.limits), text.span)) {
        None => None,
        Some((Ok(delimiter), _)) => Some(delimiter.unwrap_or_else(Delimiter::none)),
        Some((Err(why), span)) => {
            section.raise(&span, "delimiter", why);
            None
        }
    };
    let ignore_case = section.flag("ignore_case", false);
    let written: Vec<&'static str> =
        OPERATORS.into_iter().filter(|operator| section.written(operator).is_some()).collect();
    let [operator] = written[..] else {
        section.accept(&OPERATORS);
        let message = match written.as_slice() {
            [] => format!("compares with nothing; expected one of `{}`", OPERATORS.join("`, `")),
            several => format!("has `{}`; expected one operator, and a condition for each", several.join("` and `")),
        };
        section.context.raise(&section.span, &section.name, message);
        return None;
    };
    let test = test(reader, section, operator, ignore_case)?;
    let claim = claim?;
    check_splits(section, operator, &claim, own.as_ref(), readers);
    Some(ClaimCondition { claim, delimiter: own, ignore_case, test })
}

/// The claim of the one provider; of several, a claim that at least one of them brings.
fn claim(section: &Section<'_>, readers: &Readers<'_>) -> Option<ClaimName> {
    let name = section.text("claim")?;
    let rules = || readers.providers.iter().flat_map(|provider| &provider.claims);
    let found = rules().find(|rule| rule.name.as_str() == name.value);
    if found.is_none() && !readers.doubtful {
        let place = match readers.providers.as_slice() {
            [one] => format!(" under provider `{}`; expected `[provider.claims.{}]`", one.name, shown(name.value)),
            _ => format!(" under any provider; expected `[provider.claims.{}]`", shown(name.value)),
        };
        let names = rules().map(|rule| rule.name.as_str());
        section.context.raise_undeclared(&name, &section.key("claim"), "claim", &place, names);
    }
    found.map(|rule| rule.name.clone())
}

fn test(reader: Reader<'_, '_>, section: &Section<'_>, operator: &'static str, ignore_case: bool) -> Option<Test> {
    match operator {
        "present" | "absent" => {
            let (value, span) = section.value(operator)?;
            if section.context.truth(&section.key(operator), value, &span)? {
                return Some(if operator == "present" { Test::Present } else { Test::Absent });
            }
            let other = if operator == "present" { "absent" } else { "present" };
            section.raise(&span, operator, format!("found false; expected true, or {other} = true"));
            None
        }
        "greater_than" | "less_than" => {
            let bound = decimal(section, operator)?;
            Some(if operator == "greater_than" { Test::GreaterThan(bound) } else { Test::LessThan(bound) })
        }
        _ => {
            let text = section.text(operator)?;
            if let Err(why) = within_limit(text.value, reader.limits.claim_value, "claim_value") {
                section.raise(&text.span, operator, why);
            }
            if text.value.trim().is_empty() {
                section.raise(&text.span, operator, "is empty or blank, which no claim ever brings; expected a value");
                return None;
            }
            text_test(section, operator, &text, ignore_case)
        }
    }
}

fn text_test(section: &Section<'_>, operator: &str, text: &Found<&str>, ignore_case: bool) -> Option<Test> {
    let value: Arc<str> = Arc::from(text.value);
    let pattern = |built: Result<Pattern, String>| {
        let raise = |why: String| section.raise(&text.span, operator, format!("`{}`: {why}", shown(text.value)));
        built.map_err(raise).ok()
    };
    Some(match operator {
        "is" => Test::Is(value),
        "is_not" => Test::IsNot(value),
        "contains" => Test::Contains(value),
        "not_contains" => Test::NotContains(value),
        "begins_with" => Test::BeginsWith(value),
        "ends_with" => Test::EndsWith(value),
        "glob" => Test::Glob(pattern(Pattern::glob(text.value, ignore_case))?),
        _ => Test::Regex(pattern(Pattern::regex(text.value, ignore_case))?),
    })
}

/// A number, or a text that is one.
fn decimal(section: &Section<'_>, key: &'static str) -> Option<Decimal> {
    let (value, span) = section.value(key)?;
    let parsed = match value {
        Value::Text(text) => Decimal::parse(text),
        Value::Other(DeValue::Integer(number)) if number.radix() == 10 => Decimal::parse(number.as_str()),
        Value::Other(DeValue::Float(number)) => Decimal::parse(number.as_str()),
        _ => None,
    };
    if parsed.is_none() {
        section.raise(&span, key, format!("found {value}; expected a decimal number such as 30 or \"2.5\""));
    }
    parsed
}

/// A value that holds the delimiter by which the claim is split can never be met.
fn check_splits(
    section: &Section<'_>,
    operator: &'static str,
    claim: &ClaimName,
    own: Option<&Delimiter>,
    readers: &Readers<'_>,
) {
    if !matches!(operator, "is" | "is_not" | "contains" | "not_contains" | "begins_with" | "ends_with") {
        return;
    }
    let Some((Value::Text(value), span)) = section.value(operator) else { return };
    let rules = readers.providers.iter().flat_map(|provider| &provider.claims).filter(|rule| rule.name == *claim);
    let theirs = rules.filter_map(|rule| rule.delimiter.as_ref());
    let split = own
        .into_iter()
        .chain(theirs.filter(|_| own.is_none()))
        .find(|delimiter| !delimiter.as_str().is_empty() && value.contains(delimiter.as_str()));
    if let Some(delimiter) = split {
        let message = format!(
            "`{}` holds the delimiter `{}`, by which the claim is split; expected a part of one piece, or delimiter = \"\"",
            shown(value),
            shown(delimiter.as_str())
        );
        section.raise(&span, operator, message);
    }
}
