//! Where a browser goes once it has signed in: a place of the app's own origin, or the start page.
//!
//! The text comes from the author of the link, and no configuration can widen what is taken.

use url::Url;

use crate::config::OWN;

/// Bytes of a target: as long as the lines that servers take.
pub const MOST: usize = 8192;

/// The address to send a browser to, if the text means one of this origin.
///
/// ```text
/// /reports?year=1#top                  taken
/// https://app.example.com/reports      taken where that is our origin
/// //evil.example  /\evil.example       not taken, and nothing else that a browser could read as another host
/// ```
pub fn target(text: &str, origin: &str) -> Option<String> {
    let local = match text.strip_prefix(origin) {
        Some(rest) => rest,
        None => text,
    };
    // Browsers drop tabs and newlines, and read a backslash as a slash (URL Standard section 4.4).
    let odd = |letter: char| letter == '\\' || letter.is_control() || letter.is_whitespace();
    if text.len() > MOST || !local.starts_with('/') || local.starts_with("//") || local.chars().any(odd) {
        return None;
    }
    let url = Url::parse(&format!("{origin}{local}")).ok()?;
    // Dot segments may have brought the second slash to the front, or a page of ours, which would lead back here.
    let path = url.path();
    let ours = path.to_ascii_lowercase().starts_with(OWN) || path.starts_with("//");
    (url.origin().ascii_serialization() == origin && !ours).then(|| url.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGIN: &str = "https://app.example.com";

    #[test]
    fn places_of_the_own_origin_are_taken() {
        for (text, expected) in [
            ("/", "https://app.example.com/"),
            ("/a/b?c=d&e=//f#g", "https://app.example.com/a/b?c=d&e=//f#g"),
            ("/@evil.example", "https://app.example.com/@evil.example"),
            ("/%5c%5cevil.example", "https://app.example.com/%5c%5cevil.example"),
            ("/https://evil.example", "https://app.example.com/https://evil.example"),
            ("https://app.example.com/a", "https://app.example.com/a"),
            ("/a/../b", "https://app.example.com/b"),
        ] {
            assert_eq!(target(text, ORIGIN).as_deref(), Some(expected), "{text}");
        }
    }
}
