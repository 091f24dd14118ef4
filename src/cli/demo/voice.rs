//! How the demo speaks: plain lines, in colour where a person reads them on a terminal.

use std::io::{IsTerminal as _, Write};

use crate::pipeline::plan::Plan;

/// Where the demo's words go.
pub struct Voice<'a> {
    out: &'a mut dyn Write,
    colour: bool,
}

/// ANSI colours (ECMA-48 section 8.3.117), by what they mean here.
#[derive(Debug, Clone, Copy)]
pub enum Tone {
    Title,
    Gain,
    Loss,
    Attention,
    Quiet,
    Address,
}

impl Tone {
    fn code(self) -> &'static str {
        match self {
            Tone::Title => "1",
            Tone::Gain => "32",
            Tone::Loss => "31",
            Tone::Attention => "33",
            Tone::Quiet => "2",
            Tone::Address => "36",
        }
    }

    /// That of a plan's line, by its sign.
    fn of_line(line: &str) -> Option<Self> {
        match line.trim_start().chars().next()? {
            '+' => Some(Tone::Gain),
            '-' => Some(Tone::Loss),
            '!' | '?' => Some(Tone::Attention),
            '=' => Some(Tone::Quiet),
            _ => None,
        }
    }
}

impl<'a> Voice<'a> {
    /// Without colour.
    pub fn plain(out: &'a mut dyn Write) -> Self {
        Self { out, colour: false }
    }

    /// To standard output; in colour if that is a terminal and `NO_COLOR` does not speak against it (no-color.org).
    pub fn to_standard_output(out: &'a mut std::io::Stdout) -> Self {
        let colour = out.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { out, colour }
    }

    /// One line.
    pub fn say(&mut self, line: &str) {
        // A closed output is not a reason to fail.
        let _ = writeln!(self.out, "{line}");
        let _ = self.out.flush();
    }

    /// A text in a tone, to be put into a line.
    pub fn toned(&self, tone: Tone, text: &str) -> String {
        if self.colour { format!("\u{1b}[{}m{text}\u{1b}[0m", tone.code()) } else { text.to_owned() }
    }

    /// A whole plan.
    pub fn plan(&mut self, plan: &Plan, indent: &str) {
        for line in plan.to_string().lines() {
            // Names come from strangers; what moves the cursor must not reach a terminal.
            let line: String = line.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
            let line = Tone::of_line(&line).map_or(line.clone(), |tone| self.toned(tone, &line));
            self.say(&format!("{indent}{line}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_is_for_those_who_see_it() {
        let (mut heard, mut seen) = (Vec::new(), Vec::new());
        assert_eq!(Voice::plain(&mut heard).toned(Tone::Gain, "x"), "x");
        assert_eq!(Voice { out: &mut seen, colour: true }.toned(Tone::Gain, "x"), "\u{1b}[32mx\u{1b}[0m");
    }

    #[test]
    fn a_plans_lines_have_the_tone_of_their_sign() {
        assert!(matches!(Tone::of_line("  + group `a`"), Some(Tone::Gain)));
        assert!(matches!(Tone::of_line("  - group `a`"), Some(Tone::Loss)));
        assert!(Tone::of_line("staff/alice through oidc").is_none());
    }
}
