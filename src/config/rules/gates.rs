//! Who is kept out (`[[gate]]`), and how the whole sync goes about its work (`[sync]`, `[brake]`).

use std::sync::Arc;

use super::super::problem::nearest;
use super::super::reader::{Found, Section, Value, shown};
use super::super::settings::seconds;
use super::super::values::Wrong;
use super::conditions::{conditions, join};
use super::mappings::Mappings;
use crate::pipeline::ids::MappingId;
use crate::pipeline::mapping::{Apply, Brake, Gate, GateRule, Mode, Recording, Sync};

/// The message to the person if the operator sets none.
const MESSAGE: &str = "Your account does not have access to this application.";
/// Characters of a message.
const MOST_MESSAGE: usize = 500;

/// The gates in the order of the file, which is the order in which they are asked.
pub(super) fn gates(root: &Section<'_>, reader: &Mappings<'_, '_>) -> Vec<Gate> {
    let mut gates: Vec<Gate> = Vec::new();
    for section in root.sections("gate") {
        let gate = gate(&section, reader);
        section.finish();
        let Some((name, gate)) = gate else { continue };
        if gates.iter().any(|known| known.name.to_lowercase() == gate.name.to_lowercase()) {
            section.raise(&name, "name", "a gate before this one has this name, case aside; expected another");
        }
        gates.push(gate);
    }
    gates
}

fn gate(section: &Section<'_>, reader: &Mappings<'_, '_>) -> Option<(std::ops::Range<usize>, Gate)> {
    let name = section.required("name", "staff only");
    let provider = section.text("provider").map(|name| reader.find_provider(&name, "gate.provider"));
    let message = section.text("message");
    if let Some(long) = message.as_ref().filter(|message| message.value.chars().count() > MOST_MESSAGE) {
        section.raise(&long.span, "message", format!("expected at most {MOST_MESSAGE} characters"));
    }
    let join = section.text("match");
    let join = join_of(section, join.as_ref());
    let rule = match (section.value("require"), section.value("deny")) {
        (Some((value, span)), None) => required(section, reader, value, &span),
        (None, Some((value, span))) => {
            conditions(reader.reader(), "gate.deny", value, &span, &reader.readers(provider))
                .map(|conditions| GateRule::Deny { join, conditions: conditions.into() })
        }
        _ => {
            let message = "expected either `require` (\"any\", or names of mappings) or `deny` (conditions)";
            section.context.raise_absent(&section.span, "gate", message);
            None
        }
    };
    let name = name?;
    let provider = match provider {
        Some(provider) => Some(provider?.name.clone()),
        None => None,
    };
    let message = message.map_or(MESSAGE, |message| message.value).to_owned();
    Some((name.span, Gate { name: Arc::from(name.value), provider, rule: rule?, message }))
}

fn join_of(section: &Section<'_>, text: Option<&Found<&str>>) -> crate::pipeline::mapping::Join {
    if let (Some(text), None) = (text, section.written("deny")) {
        section.raise(&text.span, "match", "is for `deny`; expected no such key");
    }
    join(section.context, "gate.match", text)
}

/// `"any"`, or the names of the mappings of which one must hold.
fn required(
    section: &Section<'_>,
    reader: &Mappings<'_, '_>,
    value: Value<'_>,
    span: &std::ops::Range<usize>,
) -> Option<GateRule> {
    if let Value::Text("any") = value {
        return Some(GateRule::RequireAny);
    }
    let names = section.context.texts("gate.require", value, span.clone(), false)?;
    if names.is_empty() {
        section.raise(span, "require", "names no mapping, and would refuse everyone; expected names, or \"any\"");
        return None;
    }
    let find = |name: &Found<&str>| -> Option<MappingId> {
        let found = reader.named().find(|(known, _)| *known == name.value).map(|(_, id)| id);
        if found.is_none() {
            let message = format!("no mapping has the name `{}`", shown(name.value));
            let near = nearest(name.value, reader.named().map(|(known, _)| known));
            section.context.raise_near(&name.span, "gate.require", message, near);
        }
        found
    };
    let found: Vec<Option<MappingId>> = names.iter().map(find).collect();
    Some(GateRule::Require(found.into_iter().collect::<Option<Vec<_>>>()?))
}

pub(super) fn sync(root: &Section<'_>) -> Sync {
    let section = root.section("sync");
    let standard = Sync::default();
    let mode = section.word("mode", &[("apply", Mode::Apply), ("shadow", Mode::Shadow)], standard.mode);
    let apply = section.word("apply", &[("next_login", Apply::NextLogin), ("now", Apply::Now)], standard.apply);
    let record_claims = recording(&section, standard.record_claims);
    if let (Apply::Now, Recording::None, Some(span)) = (apply, record_claims, section.written("apply")) {
        let message = "`now` plans from recorded claims, and `record_claims` is false; expected one or the other";
        section.raise(&span, "apply", message);
    }
    section.finish();
    Sync { mode, apply, record_claims, brake: brake(&root.section("brake")) }
}

/// `true` is the word of older configurations for `"mapped"`.
fn recording(section: &Section<'_>, standard: Recording) -> Recording {
    let words = [("mapped", Recording::Mapped), ("declared", Recording::Declared)];
    match section.value("record_claims") {
        Some((Value::Truth(true), _)) => Recording::Mapped,
        Some((Value::Truth(false), _)) => Recording::None,
        Some((Value::Text(_), _)) => section.word("record_claims", &words, standard),
        Some((other, span)) => {
            let message = format!("found {other}; expected \"mapped\", \"declared\" or false");
            section.raise(&span, "record_claims", message);
            standard
        }
        None => standard,
    }
}

fn brake(section: &Section<'_>) -> Brake {
    let standard = Brake::default();
    let window = section.duration("window", standard.window, seconds(60)..=seconds(30 * 86_400));
    let minimum = section.count("minimum", standard.minimum as usize, 0..=1_000_000);
    let share = section.parsed("share", percent).map_or(standard.share, |found| found.value);
    section.finish();
    Brake { window, minimum: u32::try_from(minimum).unwrap_or(u32::MAX), share }
}

/// `"20%"` as a share of one.
fn percent(text: &str) -> Result<f64, Wrong> {
    let number = text.strip_suffix('%').filter(|digits| digits.bytes().all(|digit| digit.is_ascii_digit()));
    match number.and_then(|digits| digits.parse::<u8>().ok()) {
        Some(number @ 0..=100) => Ok(f64::from(number) / 100.0),
        _ => Err(Wrong::expected("a share from `0%` to `100%`")),
    }
}
