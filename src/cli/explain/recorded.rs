//! `loginsync explain --id`: what the audit recorded of one login.

use std::process::ExitCode;

use serde_json::Value;

use super::super::{ConfigArgument, FOUND, Failure, block_on, print_json};
use crate::ports::store::AuditRow;

pub fn run(config: &ConfigArgument, id: &str, json: bool) -> Result<ExitCode, Failure> {
    let (_, store) = config.open()?;
    let row = block_on(async { store.audit_of(id.to_owned()).await.map_err(Failure::new) })?;
    let row = row.ok_or_else(|| Failure(format!(
            "the audit has no login `{id}`; what is refused before its signature was verified is in the log alone, under this ID"
        )))?;
    match json {
        true => print_json(&row)?,
        false => say_part!("{}", in_words(&row)),
    }
    Ok(if row.event == "login_refused" { ExitCode::from(FOUND) } else { ExitCode::SUCCESS })
}

/// The row as text.
pub fn in_words(row: &AuditRow) -> String {
    use std::fmt::Write as _;
    let text = |key: &str| row.detail.get(key).and_then(Value::as_str).unwrap_or("-");
    let person = row.person.as_ref().and_then(|person| {
        let part = |key: &str| person.get(key).and_then(Value::as_str);
        Some(format!("{}/{}", part("namespace")?, part("subject")?))
    });
    let mut told = String::new();
    let outcome = match row.event.as_str() {
        "login" => "entered",
        "login_older" => "entered; an older login than one before it, so nothing changed",
        "login_shadow" => "entered; decided and recorded in shadow, nothing changed",
        "login_refused" => "refused",
        other => other,
    };
    let _ = writeln!(told, "{outcome}, {} (row {} of the audit)", row.at, row.sequence);
    if row.event == "login_refused" {
        let _ = writeln!(told, "{:<10}{}", "reason", text("reason"));
    }
    let _ = writeln!(told, "{:<10}{}", "user", person.as_deref().unwrap_or("not recorded, or erased"));
    let _ = writeln!(told, "{:<10}{}, token {}", "provider", text("provider"), text("token"));
    for claim in list(&row.detail, "claims") {
        let part = |key: &str| claim.get(key).map(|value| value.to_string().trim_matches('"').to_owned());
        let part = |key: &str| part(key).unwrap_or_default();
        let _ = writeln!(told, "{:<10}{}: {}, {} values", "claim", part("name"), part("state"), part("values"));
    }
    for source in list(&row.detail, "arrived") {
        let name = source.get("source").and_then(Value::as_str).unwrap_or("-");
        let names: Vec<String> =
            list(source, "names").filter_map(Value::as_str).map(|name| name.escape_debug().to_string()).collect();
        let more = match source.get("more").and_then(Value::as_u64) {
            Some(more) => format!(", and {more} more"),
            None => String::new(),
        };
        let _ = writeln!(told, "{:<10}{name}: {}{more}", "arrived", names.join(", "));
    }
    for (key, sign, words) in [
        ("matched", "hit", "gives"),
        ("added", "+", "granted by"),
        ("removed", "-", "no longer given by"),
        ("undecided", "?", "kept, since it could not be decided:"),
        ("held", "#", "held by the brake:"),
        ("guarded", "!", "kept, as its last holder:"),
    ] {
        for entry in list(&row.detail, key) {
            let mapping = entry.get("mapping").and_then(Value::as_str).unwrap_or("-");
            let target = ["group", "role"]
                .into_iter()
                .find_map(|kind| Some(format!("{kind} `{}`", entry.get(kind).and_then(Value::as_str)?)));
            let target = target.unwrap_or_default();
            let _ = match key {
                "matched" => writeln!(told, "{sign:<10}`{mapping}` {words} {target}"),
                _ => writeln!(told, "{sign:<10}{target}, {words} `{mapping}`"),
            };
        }
    }
    for miss in list(&row.detail, "near_misses") {
        let part = |key: &str| miss.get(key).and_then(Value::as_str).unwrap_or("-");
        let _ = writeln!(
            told,
            "{:<10}`{}`: {:?} differs by case, blanks or the composition of accents",
            "near miss",
            part("mapping"),
            part("found")
        );
    }
    if let Some(kept) = row.detail.get("kept").and_then(Value::as_u64) {
        let _ = writeln!(told, "{:<10}{kept} grants as they were", "kept");
    }
    told
}

fn list<'v>(detail: &'v Value, key: &str) -> impl Iterator<Item = &'v Value> {
    detail.get(key).and_then(Value::as_array).into_iter().flatten()
}
