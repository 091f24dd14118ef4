//! What pages say: moments in the reader's zone, and sentences of ours with names and moments in them.

use askama::Template;

use crate::pipeline::ids::Timestamp;

/// A moment as pages show it: UTC, which a script turns into the reader's own zone.
#[derive(Debug, Clone, Template)]
#[template(source = r#"<time datetime="{{ exact }}">{{ text }}</time>"#, ext = "html")]
pub struct Moment {
    /// RFC 3339.
    pub exact: String,
    pub text: String,
}

impl Moment {
    pub fn of(at: Timestamp) -> Self {
        Self::read(&at.to_string())
    }

    /// From RFC 3339, as views have it.
    pub fn read(exact: &str) -> Self {
        let minute = exact.get(..16).map(|text| text.replace('T', " "));
        Self {
            text: minute.map_or_else(|| exact.to_owned(), |minute| format!("{minute} UTC")),
            exact: exact.to_owned(),
        }
    }
}

/// A sentence of ours, with moments in it, and with names between backticks, each of which a page shows as what it is.
#[derive(Debug, Clone, Template)]
#[template(
    source = "{% for piece in pieces %}{% match piece %}{% when Piece::Text(text) %}<bdi>{{ text }}</bdi>{% when Piece::Code(text) %}<code><bdi>{{ text }}</bdi></code>{% when Piece::At(at) %}{{ at|safe }}{% endmatch %}{% endfor %}",
    ext = "html"
)]
pub struct Sentence {
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone)]
enum Piece {
    Text(String),
    Code(String),
    At(Moment),
}

/// Characters of a moment as the store's views write it: `2026-01-31T12:00:00.000Z`.
const MOMENT: usize = 24;

impl Sentence {
    pub fn read(text: &str) -> Self {
        let mut pieces = Vec::new();
        // Every second part stands between two backticks; the last of an odd number of them is one by itself.
        let parts: Vec<&str> = text.split('`').collect();
        let paired = parts.len() - usize::from(parts.len().is_multiple_of(2));
        for (at, part) in parts.iter().enumerate() {
            match at {
                at if at >= paired => Self::prose(&format!("`{part}"), &mut pieces),
                at if at % 2 == 1 => pieces.push(Piece::Code((*part).to_owned())),
                _ => Self::prose(part, &mut pieces),
            }
        }
        Self { pieces }
    }

    /// Text with moments in it.
    fn prose(text: &str, pieces: &mut Vec<Piece>) {
        let is_moment = |text: &str| {
            let digits = |at: usize| text.as_bytes().get(at).is_some_and(u8::is_ascii_digit);
            let shape = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':'), (19, b'.'), (23, b'Z')];
            let marks = shape.iter().all(|(at, mark)| text.as_bytes().get(*at) == Some(mark));
            marks && (0..MOMENT).all(|at| digits(at) || shape.iter().any(|(mark, _)| *mark == at))
        };
        let plain = |from: usize, to: usize, pieces: &mut Vec<Piece>| {
            if let Some(text) = text.get(from..to).filter(|text| !text.is_empty()) {
                pieces.push(Piece::Text(text.to_owned()));
            }
        };
        let mut begin = 0;
        for (at, _) in text.char_indices() {
            if let Some(found) = text.get(at..at + MOMENT).filter(|found| at >= begin && is_moment(found)) {
                plain(begin, at, pieces);
                pieces.push(Piece::At(Moment::read(found)));
                begin = at + MOMENT;
            }
        }
        plain(begin, text.len(), pieces);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_in_a_sentence_are_told_apart_from_what_only_looks_like_one() {
        let text = "given \u{e4}t 2026-01-31T12:00:00.000Z: <b> 2026-01-31T12:00, 2026-01-31T12:00:00.000Z";
        let shown = Sentence::read(text).to_string();
        assert_eq!(shown.matches("<time datetime=\"2026-01-31T12:00:00.000Z\">2026-01-31 12:00 UTC</time>").count(), 2);
        assert!(shown.contains("&#60;b&#62; 2026-01-31T12:00, ") && !shown.contains("<b>"), "{shown}");
        assert_eq!(Sentence::read("no moment").to_string(), "<bdi>no moment</bdi>");
    }

    #[test]
    fn what_stands_between_backticks_is_code_and_stays_escaped() {
        for (text, shown) in [
            ("group `Staff`", "<bdi>group </bdi><code><bdi>Staff</bdi></code>"),
            ("`a` and `<b>`", "<code><bdi>a</bdi></code><bdi> and </bdi><code><bdi>&#60;b&#62;</bdi></code>"),
            ("one ` alone", "<bdi>one </bdi><bdi>` alone</bdi>"),
            ("`a` and `", "<code><bdi>a</bdi></code><bdi> and </bdi><bdi>`</bdi>"),
            ("", ""),
        ] {
            assert_eq!(Sentence::read(text).to_string(), shown, "{text}");
        }
    }
}
