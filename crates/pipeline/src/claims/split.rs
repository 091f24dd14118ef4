//! Splitting of delimited values.

use std::collections::HashSet;

pub use crate::provider::delimiter::{Delimiter, InvalidDelimiter, MAX_DELIMITER};

/// The pieces of all values: trimmed, empty ones dropped, order kept, duplicates merged. Without a delimiter the values
/// themselves, untrimmed. A piece that begins with the prefix loses it, once.
pub fn split<'a>(values: &'a [String], delimiter: Option<&Delimiter>, prefix: Option<&str>) -> Vec<&'a str> {
    let mut seen = HashSet::with_capacity(values.len());
    let bare = |piece: &'a str| prefix.and_then(|prefix| piece.strip_prefix(prefix)).unwrap_or(piece);
    let mut is_new = |piece: &&'a str| !piece.is_empty() && seen.insert(*piece);
    match delimiter.filter(|delimiter| !delimiter.as_str().is_empty()) {
        None => values.iter().map(|value| bare(value)).filter(|piece| is_new(piece)).collect(),
        Some(delimiter) => values
            .iter()
            .flat_map(|value| value.split(delimiter.as_str()))
            .map(|piece| bare(piece.trim()))
            .filter(|piece| is_new(piece))
            .collect(),
    }
}

/// Whether [`split`] leaves anything.
pub fn has_pieces(values: &[String], delimiter: Option<&Delimiter>, prefix: Option<&str>) -> bool {
    let is_piece = |piece: &str| !prefix.and_then(|prefix| piece.strip_prefix(prefix)).unwrap_or(piece).is_empty();
    match delimiter.filter(|delimiter| !delimiter.as_str().is_empty()) {
        None => values.iter().any(|value| is_piece(value)),
        Some(delimiter) => {
            values.iter().flat_map(|value| value.split(delimiter.as_str())).any(|piece| is_piece(piece.trim()))
        }
    }
}

/// How many pieces a split would look at.
pub fn count(values: &[String], delimiter: &Delimiter) -> usize {
    match delimiter.as_str() {
        "" => values.len(),
        text => values.iter().map(|value| value.matches(text).count() + 1).sum(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(values: &[&str], delimiter: &str) -> Vec<String> {
        bare_pieces(values, delimiter, None)
    }

    fn bare_pieces(values: &[&str], delimiter: &str, prefix: Option<&str>) -> Vec<String> {
        let values: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
        let delimiter = Delimiter::parse(delimiter).ok();
        split(&values, delimiter.as_ref(), prefix).into_iter().map(str::to_owned).collect()
    }

    #[test]
    fn a_prefix_goes_once_and_is_no_pattern() {
        assert_eq!(
            bare_pieces(&["/sales/admin", "//x", "staff", "/", "/staff"], "", Some("/")),
            ["sales/admin", "/x", "staff"]
        );
        assert_eq!(bare_pieces(&[" app:a ; b;app:"], ";", Some("app:")), ["a", "b"]);
        assert_eq!(bare_pieces(&["axb"], "", Some("a.")), ["axb"]);
    }

    #[test]
    fn pieces_are_trimmed_merged_and_in_order() {
        assert_eq!(pieces(&[" b ;a;;b; "], ";"), ["b", "a"]);
        assert_eq!(pieces(&["a || b", "c"], "||"), ["a", "b", "c"]);
    }

    #[test]
    fn without_a_delimiter_nothing_is_touched() {
        assert_eq!(pieces(&[" CN=a,OU=b ", "x;y"], ""), [" CN=a,OU=b ", "x;y"]);
    }

    #[test]
    fn delimiters_count_scalar_values() {
        assert!(Delimiter::parse("äöü").is_ok());
        assert_eq!(Delimiter::parse("----"), Err(InvalidDelimiter { found: 4 }));
        assert_eq!(Delimiter::parse(""), Err(InvalidDelimiter { found: 0 }));
    }
}
