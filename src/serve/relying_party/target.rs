//! Where a browser goes once it has signed in: a page of the app, of another host that the configuration names, or the start page.
//!
//! The text comes from the author of the link, and nothing but the names of those hosts widens what is taken.

use url::Url;

use crate::config::PublicUrl;

/// Bytes of a target: as long as the lines that servers take.
pub const MOST: usize = 8192;

/// The places that a browser may be sent to.
#[derive(Debug, Clone)]
pub struct Places {
    pub own: PublicUrl,
    /// Origins of other hosts whose gateway asks here.
    pub others: Vec<String>,
}

impl Places {
    fn origins(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.own.origin.as_str()).chain(self.others.iter().map(String::as_str))
    }

    /// Whether a path of the app's origin belongs to the app, and is none of our pages.
    fn takes(&self, path: &str) -> bool {
        let PublicUrl { base, own, .. } = &self.own;
        let below = path.strip_prefix(base.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let ours = path.to_ascii_lowercase().starts_with(&format!("{base}{own}").to_ascii_lowercase());
        below && !ours
    }
}

/// The address to send a browser to, if the text means one of these places.
///
/// ```text
/// /reports?year=1#top                  taken
/// https://app.example.com/reports      taken where that is our origin
/// //evil.example  /\evil.example       not taken, and nothing else that a browser could read as another host
/// ```
pub fn target(text: &str, places: &Places) -> Option<String> {
    let whole = places.origins().find_map(|origin| {
        let rest = text.strip_prefix(origin)?;
        rest.starts_with('/').then_some((origin, rest))
    });
    let (origin, local) = whole.unwrap_or((places.own.origin.as_str(), text));
    // Browsers drop tabs and newlines, and read a backslash as a slash (URL Standard section 4.4).
    let odd = |letter: char| letter == '\\' || letter.is_control() || letter.is_whitespace();
    if text.len() > MOST || !local.starts_with('/') || local.starts_with("//") || local.chars().any(odd) {
        return None;
    }
    let url = Url::parse(&format!("{origin}{local}")).ok()?;
    // Dot segments may have brought the second slash to the front, or a page of ours, which would lead back here.
    let path = url.path();
    let taken = match origin == places.own.origin {
        true => places.takes(path),
        false => !path.to_ascii_lowercase().starts_with(&places.own.own),
    };
    (url.origin().ascii_serialization() == origin && taken && !path.starts_with("//")).then(|| url.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> Places {
        let others = vec![String::from("https://wiki.example.com")];
        Places { own: PublicUrl::new("https://app.example.com", ""), others }
    }

    #[test]
    fn only_named_hosts_and_what_is_below_the_path_are_taken() {
        let mut places = places();
        places.own.base = "/app".into();
        for (text, expected) in [
            ("/app/a?b", Some("https://app.example.com/app/a?b")),
            ("/app", Some("https://app.example.com/app")),
            ("https://wiki.example.com/a", Some("https://wiki.example.com/a")),
            ("/application", None),
            ("/other", None),
            ("/app/../other", None),
            ("/app/.loginsync/sign-out", None),
            ("/app/.LOGINSYNC/sign-out", None),
            ("https://wiki.example.com", None),
            ("https://wiki.example.com.evil.example/", None),
            ("https://wiki.example.com@evil.example/", None),
            ("https://wiki.example.com//evil.example/", None),
            ("https://wiki.example.com/.loginsync/sign-out", None),
            ("http://wiki.example.com/a", None),
            ("https://other.example.com/a", None),
        ] {
            assert_eq!(target(text, &places).as_deref(), expected, "{text}");
        }
    }

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
            assert_eq!(target(text, &places()).as_deref(), Some(expected), "{text}");
        }
    }
}
