//! Every fault of a configuration at once, each where it stands, with what was found and what was expected.
//!
//! ```text
//! config.toml:12:8: provider.mode: found `saml-pots`; expected `saml-post` or `oidc-form-post`; did you mean `saml-post`?
//!    12 | mode = "saml-pots"
//!       |        ^^^^^^^^^^^
//! 1 fault found
//! ```

use std::fmt;
use std::ops::Range;

use serde::Serialize;

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    pub file: String,
    /// From 1; 0 when the fault is of the file as a whole.
    pub line: usize,
    /// From 1, in characters; 0 when the fault is of the file as a whole.
    pub column: usize,
    /// Dotted, such as `provider.mode`; empty when no key could be read.
    pub key: String,
    /// What was found, and what was expected.
    pub message: String,
    /// The valid name that the operator may have meant.
    pub nearest: Option<String>,
    /// The line as written, cut to what fits a screen, and what of it to point at.
    #[serde(skip)]
    excerpt: Option<Excerpt>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Excerpt {
    text: String,
    /// In characters of `text`.
    marked: Range<usize>,
}

/// All faults of one file, in the order of their lines; never empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
pub struct Faults {
    pub faults: Vec<Problem>,
}

impl Faults {
    /// A file that could not even be read.
    pub(super) fn of_file(file: &str, message: String) -> Self {
        let (key, nearest) = (String::new(), None);
        let problem = Problem { file: file.to_owned(), line: 0, column: 0, key, message, nearest, excerpt: None };
        Self { faults: vec![problem] }
    }

    /// Gives each fault its line and column.
    pub(super) fn locate(file: &str, text: &str, mut raised: Vec<Raised>) -> Self {
        raised.sort_by_key(|fault| fault.span.start);
        let lines = Lines::new(text);
        Self { faults: raised.into_iter().map(|fault| fault.locate(file, text, &lines)).collect() }
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for fault in &self.faults {
            writeln!(f, "{fault}")?;
        }
        match self.faults.len() {
            1 => write!(f, "1 fault found"),
            count => write!(f, "{count} faults found"),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}", self.message)?;
        if let Some(nearest) = &self.nearest {
            write!(f, "; did you mean `{nearest}`?")?;
        }
        let Some(excerpt) = &self.excerpt else { return Ok(()) };
        let number = self.line.to_string();
        let (indent, marks) = (excerpt.marked.start, excerpt.marked.len().max(1));
        write!(f, "\n{number:>5} | {}", excerpt.text)?;
        write!(f, "\n      | {:indent$}{}", "", "^".repeat(marks))
    }
}

/// A fault by its place in the text.
#[derive(Debug)]
pub(super) struct Raised {
    /// Bytes of the text.
    pub span: Range<usize>,
    pub key: String,
    pub message: String,
    pub nearest: Option<String>,
    /// The value may be anything, even a secret in the wrong place, so it is not repeated.
    pub hide_value: bool,
}

impl Raised {
    fn locate(self, file: &str, text: &str, lines: &Lines) -> Problem {
        let line = lines.number(self.span.start);
        let (start, text) = lines.line(text, line);
        let before = text.get(..self.span.start.saturating_sub(start)).unwrap_or(text).chars().count();
        let length = self.span.end.saturating_sub(self.span.start);
        let marked = text.get(self.span.start.saturating_sub(start)..).unwrap_or_default();
        let marked = marked.get(..length.min(marked.len())).unwrap_or(marked).trim_end().chars().count();
        Problem {
            file: file.to_owned(),
            line,
            column: before + 1,
            key: self.key,
            message: self.message,
            nearest: self.nearest,
            excerpt: Some(excerpt(text, before, marked, self.hide_value)),
        }
    }
}

/// Characters of a line that are shown.
const SHOWN: usize = 110;
const LEAD: usize = 40;

/// The part of a line around what is marked. A control character would move the marks or the terminal's cursor: it shows
/// as a space.
fn excerpt(line: &str, before: usize, marked: usize, hide_value: bool) -> Excerpt {
    let line = match line.split_once('=') {
        Some((key, _)) if hide_value => format!("{key}= …"),
        None if hide_value && !line.trim_start().starts_with('[') => String::from("…"),
        _ => line.to_owned(),
    };
    let cut = before.saturating_sub(SHOWN - LEAD);
    let ellipsis = if cut > 0 { "… " } else { "" };
    let shown = line.chars().skip(cut).take(SHOWN).map(|shown| if shown.is_control() { ' ' } else { shown });
    let text: String = ellipsis.chars().chain(shown).collect();
    let start = before - cut + ellipsis.chars().count();
    let end = (start + marked).min(text.chars().count()).max(start);
    Excerpt { text: text.trim_end().to_owned(), marked: start..end }
}

/// Where the lines of a text begin: counted for faults alone, since a good file needs none.
#[derive(Debug)]
pub(super) struct Lines(Vec<usize>);

impl Lines {
    pub fn new(text: &str) -> Self {
        let newlines = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        Self(std::iter::once(0).chain(newlines).collect())
    }

    /// The number of the line at an offset, from 1.
    pub fn number(&self, offset: usize) -> usize {
        self.0.partition_point(|start| *start <= offset)
    }

    /// Where a line starts, and its text.
    fn line<'t>(&self, text: &'t str, number: usize) -> (usize, &'t str) {
        let start = self.0.get(number.saturating_sub(1)).copied().unwrap_or_default();
        let end = self.0.get(number).map_or(text.len(), |next| next - 1);
        (start, text.get(start..end).unwrap_or_default().trim_end_matches('\r'))
    }
}

/// The valid name closest to what was written, when it is close enough to have been meant.
pub(super) fn nearest<'n>(written: &str, valid: impl IntoIterator<Item = &'n str>) -> Option<String> {
    let folded = written.to_lowercase();
    let length = written.chars().count();
    // A third of the letters may differ; at least one, or two swapped.
    let allowed = (length / 3).max(1);
    valid
        .into_iter()
        .filter(|name| name.chars().count().abs_diff(length) <= allowed)
        .map(|name| (strsim::damerau_levenshtein(&folded, &name.to_lowercase()), name))
        .filter(|(distance, _)| *distance <= allowed)
        // Of names that differ in case alone, the one written more alike; and always the same one.
        .min_by_key(|(distance, name)| (*distance, strsim::damerau_levenshtein(written, name), *name))
        .map(|(_, name)| name.to_owned())
}

/// `a`, `b` or `c`.
pub(super) fn alternatives<'n>(names: impl IntoIterator<Item = &'n str>) -> String {
    let quoted: Vec<String> = names.into_iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        None => String::from("nothing"),
        Some((only, [])) => only.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raised(span: Range<usize>) -> Raised {
        Raised { span, key: "a.b".into(), message: "is wrong".into(), nearest: None, hide_value: false }
    }

    #[test]
    fn a_fault_points_at_its_place() {
        let text = "x = 1\nä = 'wrong'\r\ny = 2";
        let faults = Faults::locate("f.toml", text, vec![raised(24..25), raised(11..18)]);
        let expected = "f.toml:2:5: a.b: is wrong\n    2 | ä = 'wrong'\n      |     ^^^^^^^\n\
                        f.toml:3:5: a.b: is wrong\n    3 | y = 2\n      |     ^\n2 faults found";
        assert_eq!(faults.to_string(), expected);
    }

    #[test]
    fn a_long_line_is_cut_around_the_fault() {
        let text = format!("k = \"{}\" # wrong", "a".repeat(2000));
        let excerpt = raised(2007..2014).locate("f", &text, &Lines::new(&text)).excerpt.unwrap();
        assert!(excerpt.text.chars().count() <= SHOWN + 2);
        let marked: String = excerpt.text.chars().skip(excerpt.marked.start).take(excerpt.marked.len()).collect();
        assert_eq!(marked, "# wrong");
    }

    #[test]
    fn only_a_near_name_is_offered() {
        let valid = ["saml-post", "oidc-form-post"];
        assert_eq!(nearest("saml-pots", valid).as_deref(), Some("saml-post"));
        assert_eq!(nearest("SAML-POST", valid).as_deref(), Some("saml-post"));
        assert_eq!(nearest("radius", valid), None);
        assert_eq!(nearest("nmae", ["name", "mode"]).as_deref(), Some("name"));
    }
}
