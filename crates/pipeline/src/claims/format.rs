//! Lists that come as one text.
//!
//! ```text
//! "[engineering, sales]"          brackets: engineering, sales
//! "[\"engineering\", \"sales\"]"  json: engineering, sales
//! "[engineering, sal"             either: no list, so that it is malformed and revokes nothing
//! ```

use serde_json::Value;

use super::split::Delimiter;
use crate::number;
pub use crate::provider::claim::Format;

/// How texts are read: the format, and what stands between two elements in brackets. Without that, what the brackets hold stays
/// whole, since distinguished names are taken apart later.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Texts<'r> {
    pub format: Format,
    pub between: Option<&'r Delimiter>,
}

/// The elements of a claim, as they are found.
#[derive(Debug, Default)]
pub(super) struct Elements<'r> {
    texts: Texts<'r>,
    pub values: Vec<String>,
    /// Empty texts and empty lists.
    pub blank: usize,
    /// Null.
    pub nil: usize,
    /// Of a type that has no text, or not in the format.
    pub skipped: usize,
}

impl<'r> Elements<'r> {
    pub fn new(texts: Texts<'r>) -> Self {
        Self { texts, ..Self::default() }
    }

    pub fn text(&mut self, text: &str) {
        match self.texts.format {
            _ if text.trim().is_empty() => self.blank += 1,
            Format::Plain => self.values.push(text.to_owned()),
            Format::Brackets => self.brackets(text.trim()),
            Format::Json => self.json(text),
        }
    }

    /// An element of a list of JSON.
    pub fn value(&mut self, value: &Value) {
        match value {
            Value::String(text) => self.text(text),
            other => self.scalar(other),
        }
    }

    fn scalar(&mut self, value: &Value) {
        match value {
            Value::Bool(truth) => self.values.push(truth.to_string()),
            other => match number::text(other) {
                Some(text) => self.values.push(text.into_owned()),
                None => self.skipped += 1,
            },
        }
    }

    fn piece(&mut self, piece: &str) {
        match piece.trim().is_empty() {
            true => self.blank += 1,
            false => self.values.push(piece.to_owned()),
        }
    }

    fn brackets(&mut self, text: &str) {
        match (text.strip_prefix('['), text.ends_with(']')) {
            (Some(_), false) => self.skipped += 1,
            (None, _) => self.piece(text),
            (Some(rest), true) => {
                let inner = rest.strip_suffix(']').unwrap_or_default();
                match self.texts.between {
                    Some(between) => inner.split(between.as_str()).for_each(|piece| self.piece(piece.trim())),
                    None => self.piece(inner),
                }
            }
        }
    }

    fn json(&mut self, text: &str) {
        match serde_json::from_slice(&number::kept(text.as_bytes())) {
            Ok(Value::Array(items)) if items.is_empty() => self.blank += 1,
            Ok(Value::Array(items)) => items.iter().for_each(|item| self.element(item)),
            Ok(Value::Null) => self.nil += 1,
            Ok(value) => self.element(&value),
            Err(_) => self.skipped += 1,
        }
    }

    /// What stands in a JSON text is not read as JSON again.
    fn element(&mut self, value: &Value) {
        match value {
            Value::String(text) => self.piece(text),
            other => self.scalar(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(format: Format, text: &str) -> (Vec<String>, [usize; 3]) {
        let comma = Delimiter::parse(",").unwrap();
        let mut elements = Elements::new(Texts { format, between: Some(&comma) });
        elements.text(text);
        (elements.values, [elements.blank, elements.nil, elements.skipped])
    }

    #[test]
    fn a_text_is_a_list_where_it_is_whole() {
        use Format::{Brackets, Json, Plain};
        for (format, text, values, counts) in [
            (Plain, "[a, b]", &["[a, b]"][..], [0, 0, 0]),
            (Brackets, "[a, b]", &["a", "b"], [0, 0, 0]),
            (Brackets, " [a,b] ", &["a", "b"], [0, 0, 0]),
            (Brackets, "a", &["a"], [0, 0, 0]),
            (Brackets, "Sales, EMEA", &["Sales, EMEA"], [0, 0, 0]),
            (Brackets, "[]", &[], [1, 0, 0]),
            (Brackets, "[ , ]", &[], [2, 0, 0]),
            (Brackets, "[a, b", &[], [0, 0, 1]),
            (Brackets, "[", &[], [0, 0, 1]),
            (Brackets, "]", &["]"], [0, 0, 0]),
            (Json, r#"["a", "b, c", 7, true]"#, &["a", "b, c", "7", "true"], [0, 0, 0]),
            (Json, "[100000000000000000001]", &["100000000000000000001"], [0, 0, 0]),
            (Json, r#""a""#, &["a"], [0, 0, 0]),
            (Json, r#"["[\"a\"]"]"#, &[r#"["a"]"#], [0, 0, 0]),
            (Json, "[]", &[], [1, 0, 0]),
            (Json, "", &[], [1, 0, 0]),
            (Json, "null", &[], [0, 1, 0]),
            (Json, r#"["a", null, {"b": 1}, ["c"]]"#, &["a"], [0, 0, 3]),
            (Json, r#"{"a": 1}"#, &[], [0, 0, 1]),
            (Json, "[a, b]", &[], [0, 0, 1]),
            (Json, r#"["a", "#, &[], [0, 0, 1]),
        ] {
            assert_eq!(read(format, text), (values.iter().map(|&value| value.to_owned()).collect(), counts), "{text}");
        }
        assert_eq!(read(Json, &"[".repeat(100_000)).1, [0, 0, 1], "nesting is bounded");
    }
}
