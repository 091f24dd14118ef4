//! The report for people: short lines in columns, and nothing secret.

use std::fmt;

use super::{ClaimReport, ConditionReport, MappingReport, Outcome, Proof, Report, Verdict};

/// Characters of a value, a name or a sentence in a column.
const WIDE: usize = 60;
/// Values of a claim that are shown.
const MOST_VALUES: usize = 20;
/// Mappings that merely missed are shown up to this many.
const MOST_MISSED: usize = 50;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.outcome {
            Outcome::Enters if self.proof == Proof::Dry => writeln!(f, "would enter, were these claims verified")?,
            Outcome::Enters => writeln!(f, "would enter")?,
            Outcome::Refused => writeln!(f, "refused: {}", self.refused.as_deref().unwrap_or("by the rules"))?,
            Outcome::Unknown => {
                writeln!(f, "unknown: {}", self.refused.as_deref().unwrap_or("see below"))?;
            }
        }
        self.head(f)?;
        self.claims(f)?;
        self.arrived(f)?;
        self.mappings(f)?;
        for gate in &self.gates {
            writeln!(f, "gate `{}` is {}: {}", gate.gate, if gate.open { "open" } else { "shut" }, gate.because)?;
        }
        if let Some(plan) = &self.plan {
            let store = self.store.as_deref().unwrap_or("nothing");
            write!(f, "\nplan, against {store}\n{}", indented(&plan.text))?;
            writeln!(f, "  then: groups {:?}, roles {:?}", plan.groups, plan.roles)?;
        }
        if !self.notes.is_empty() {
            writeln!(f)?;
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "note: {note}"))
    }
}

impl Report {
    fn head(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f)?;
        writeln!(f, "{:<10}{} through `{}`, looked at {}", "input", self.input, self.provider, self.at)?;
        match &self.proof {
            Proof::Verified => {
                let keys = self.keys.as_deref().unwrap_or("the provider");
                writeln!(f, "{:<10}yes, with keys from {keys}", "verified")?;
            }
            Proof::NotVerified { because } => {
                writeln!(f, "{:<10}NO: {because}", "verified")?;
                writeln!(f, "{:<10}the following is its content, which is not trusted", "")?;
            }
            Proof::Dry => writeln!(f, "{:<10}NO: these are claims from a file, a dry look", "verified")?,
        }
        if let Some(token) = &self.token {
            writeln!(f, "{:<10}{}, issued {}, expires {}", "token", token.id, token.issued_at, token.expires_at)?;
        }
        if let Some(user) = &self.user {
            let known = match (user.known, user.enabled) {
                (true, true) => "known",
                (true, false) => "known, DISABLED",
                (false, _) => "a first login",
            };
            writeln!(f, "{:<10}{} ({known})", "user", user.name)?;
        }
        Ok(())
    }

    fn claims(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.claims.is_empty() {
            return Ok(());
        }
        writeln!(f, "\nclaims")?;
        let width = self.claims.iter().map(|claim| claim.name.chars().count()).max().unwrap_or(0).min(WIDE);
        for claim in &self.claims {
            claim.line(f, width)?;
        }
        Ok(())
    }

    fn arrived(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.arrived.is_empty() {
            writeln!(f, "\narrived, by name")?;
        }
        self.arrived.iter().try_for_each(|arrived| writeln!(f, "  {arrived}"))
    }

    fn mappings(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: Vec<&MappingReport> =
            self.mappings.iter().filter(|mapping| mapping.verdict != Verdict::OtherProvider).collect();
        if self.mappings.is_empty() {
            return Ok(());
        }
        let hits = shown.iter().filter(|mapping| mapping.verdict == Verdict::Hit).count();
        let others = self.mappings.len() - shown.len();
        writeln!(f, "\nmappings: {hits} of {} hit; {others} are for other providers", shown.len())?;
        let width = |of: &dyn Fn(&MappingReport) -> String| {
            shown.iter().map(|mapping| of(mapping).chars().count()).max().unwrap_or(0)
        };
        let (names, gifts) = (width(&|mapping| cut(&mapping.mapping)), width(&MappingReport::gifts));
        let mut missed = 0;
        for mapping in shown {
            missed += usize::from(mapping.verdict == Verdict::Missed);
            if mapping.verdict == Verdict::Missed && missed > MOST_MISSED {
                continue;
            }
            let (name, gives) = (cut(&mapping.mapping), mapping.gifts());
            writeln!(f, "  {:<10}{name:<names$}  {gives:<gifts$}  {}", mapping.verdict.word(), mapping.why())?;
        }
        if missed > MOST_MISSED {
            writeln!(f, "  and {} more that missed (`--json` has them all)", missed - MOST_MISSED)?;
        }
        Ok(())
    }
}

impl ClaimReport {
    fn line(&self, f: &mut fmt::Formatter<'_>, width: usize) -> fmt::Result {
        let undecided = if self.decided { "" } else { "; undecided, so what was granted stays" };
        let skipped = match self.skipped {
            0 => String::new(),
            count => format!("; {count} elements of a wrong type were passed over"),
        };
        writeln!(f, "  {:<width$}  {}{undecided}{skipped}", cut(&self.name), self.state)?;
        if let Some(elsewhere) = &self.elsewhere {
            writeln!(f, "  {:<width$}    {elsewhere}", "")?;
        }
        if !self.values.is_empty() {
            writeln!(f, "  {:<width$}    {}", "", listed(&self.values))?;
        }
        if self.pieces != self.values {
            writeln!(f, "  {:<width$}    split: {}", "", listed(&self.pieces))?;
        }
        Ok(())
    }
}

impl MappingReport {
    fn gifts(&self) -> String {
        cut(&self.gives.join(", "))
    }

    /// The conditions that decided.
    pub fn why(&self) -> String {
        let mut why: Vec<String> = match self.verdict {
            Verdict::Hit => {
                self.conditions.iter().filter(|one| one.truth == "true").map(ConditionReport::told).collect()
            }
            Verdict::Missed | Verdict::NearMiss => {
                self.conditions.iter().filter(|one| one.truth == "false").map(ConditionReport::told).collect()
            }
            Verdict::Undecided => {
                self.conditions.iter().filter(|one| one.truth == "undecided").map(ConditionReport::told).collect()
            }
            _ => Vec::new(),
        };
        if why.is_empty() && self.because.is_none() {
            why.push(self.asks.clone());
        }
        why.extend(self.because.clone());
        why.extend(self.shadowed_by.as_ref().map(|by| format!("shadowed: `{by}` gives it too")));
        why.extend(self.unknown.iter().map(|name| format!("captured `{name}`, which it may not give")));
        why.join("; ")
    }
}

impl ConditionReport {
    fn told(&self) -> String {
        let Self { says, truth, values, near, look_alike } = self;
        match (*truth, values.as_slice(), near.as_slice()) {
            ("true", [only], _) if says.contains(&format!("\"{only}\"")) => says.clone(),
            ("true", [], _) => says.clone(),
            ("true", values, _) => format!("{says}: {}", listed(values)),
            ("undecided", ..) => format!("{says}: undecided"),
            (_, [], []) if !look_alike.is_empty() => format!(
                "{says}: {} looks the same and differs by blanks, invisible characters or the composition of accents",
                escaped(look_alike)
            ),
            (_, [], []) => format!("{says}: false"),
            (_, [], near) => format!("{says}: {} differs by case alone", listed(near)),
            (_, values, _) => format!("{says}: false, there is {}", listed(values)),
        }
    }
}

fn listed(values: &[String]) -> String {
    let mut shown: Vec<String> = values.iter().take(MOST_VALUES).map(|value| format!("{:?}", cut(value))).collect();
    if values.len() > MOST_VALUES {
        shown.push(format!("and {} more", values.len() - MOST_VALUES));
    }
    shown.join(", ")
}

/// With what cannot be seen, or be told apart, as its code.
fn escaped(values: &[String]) -> String {
    let plain = |letter: char| if letter.is_ascii() { letter.to_string() } else { letter.escape_unicode().to_string() };
    let shown = values.iter().map(|value| format!("\"{}\"", cut(value).chars().map(plain).collect::<String>()));
    shown.collect::<Vec<_>>().join(", ")
}

fn cut(text: &str) -> String {
    match text.chars().count() > WIDE {
        true => text.chars().take(WIDE - 1).chain(['…']).collect(),
        false => text.to_owned(),
    }
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::arrived::ArrivedNames;

    fn claim(name: &str, values: &[&str], pieces: &[&str]) -> ClaimReport {
        let texts = |texts: &[&str]| texts.iter().map(|&text| text.into()).collect();
        ClaimReport {
            name: name.into(),
            state: "values".into(),
            decided: true,
            values: texts(values),
            pieces: texts(pieces),
            skipped: 0,
            elsewhere: None,
        }
    }

    #[test]
    fn claims_are_told_with_their_values_and_by_what_names_they_came() {
        let many = vec!["v"; MOST_VALUES + 2];
        let arrived = ArrivedNames { source: "id_token", names: vec!["iss".into(), "groups".into()], more: 0 };
        let undecided = ClaimReport { decided: false, skipped: 2, ..claim("x", &[], &[]) };
        let elsewhere = ClaimReport { elsewhere: Some("it is elsewhere".into()), ..claim("y", &[], &[]) };
        let report = Report {
            outcome: Outcome::Enters,
            refused: None,
            proof: Proof::Dry,
            input: "claims",
            provider: "idp".into(),
            at: "now".into(),
            keys: None,
            token: None,
            user: None,
            claims: vec![
                claim("groups", &["a", "b"], &["a", "b"]),
                claim("teams", &["a,b"], &["a", "b"]),
                claim("many", &many, &many),
                undecided,
                elsewhere,
            ],
            arrived: vec![arrived],
            mappings: Vec::new(),
            mappings_left_out: 0,
            gates: Vec::new(),
            store: None,
            plan: None,
            notes: Vec::new(),
        };
        let expected = format!(
            "claims
  groups  values
            \"a\", \"b\"
  teams   values
            \"a,b\"
            split: \"a\", \"b\"
  many    values
            {}and 2 more
  x       values; undecided, so what was granted stays; 2 elements of a wrong type were passed over
  y       values
            it is elsewhere

arrived, by name
  id_token: iss, groups
",
            "\"v\", ".repeat(MOST_VALUES)
        );
        let told = report.to_string();
        assert_eq!(
            told.split_once("\n\n").and_then(|(_, rest)| rest.split_once("\n\n")).unwrap().1,
            expected,
            "{told}"
        );
        // Without either there is no heading.
        let told = Report { claims: Vec::new(), arrived: Vec::new(), ..report }.to_string();
        assert!(!told.contains("claims\n") && !told.contains("arrived"), "{told}");
    }
}
