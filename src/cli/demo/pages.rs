//! What the pages of provider and app share: how they are sent, and how text with `code` in it is written.

use std::sync::LazyLock;

use askama::Template;
use aws_lc_rs::digest;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::DateTime;

/// Sends a form on without a click. Without scripts its button does.
pub const SUBMIT: &str = "document.forms[0].submit()";

const STYLE: &str = include_str!("../../../templates/demo/style.css");

/// Nothing but the pages' own style and the one script above, named by their digests (CSP Level 3 section 6.7.3.3): whatever
/// a name smuggles in does not run.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let digest = |text: &str| STANDARD.encode(digest::digest(&digest::SHA256, text.as_bytes()));
    let (style, script) = (digest(STYLE), digest(SUBMIT));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{style}'; script-src 'sha256-{script}'; base-uri 'none'; frame-ancestors 'none'"
    );
    HeaderValue::try_from(policy).unwrap_or_else(|_| HeaderValue::from_static("default-src 'none'"))
});

/// A page, or the bare fact that it could not be written.
pub fn page(status: StatusCode, template: &impl Template) -> Response {
    match template.render() {
        Ok(html) => {
            let headers = [
                (header::CONTENT_SECURITY_POLICY, POLICY.clone()),
                // What a page shows is outdated by the next login.
                (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
                (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
            ];
            (status, headers, Html(html)).into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// Whose page it is: they look alike, in two colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Party {
    Provider,
    App,
}

impl Party {
    pub fn class(self) -> &'static str {
        match self {
            Party::Provider => "provider",
            Party::App => "app",
        }
    }

    pub fn style(self) -> &'static str {
        STYLE
    }

    pub fn name(self) -> &'static str {
        match self {
            Party::Provider => "Demo provider",
            Party::App => "Demo app",
        }
    }

    pub fn role(self) -> &'static str {
        match self {
            Party::Provider => "knows people and their groups, and logs them in",
            Party::App => "an ordinary app, with loginsync in front of it",
        }
    }
}

/// Where the pages link to.
#[derive(Debug, Clone)]
pub struct Links {
    /// The app as browsers see it: the sidecar.
    pub app: String,
    pub provider: String,
    /// The sidecar's own pages.
    pub admin: String,
}

/// A page that says what went wrong.
#[derive(Template)]
#[template(path = "demo/message.html")]
pub struct Message<'a> {
    pub party: Party,
    pub links: &'a Links,
    pub title: &'a str,
    pub text: &'a str,
}

/// A piece of a text in which backticks mark what is meant literally.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Span {
    Plain(String),
    Code(String),
    /// A moment (RFC 3339), and how a person at this machine wants to read it: the demo does not last for days.
    Time {
        exact: String,
        short: String,
    },
}

/// Takes such a text apart.
pub fn spans(text: &str) -> Vec<Span> {
    let mut spans = Vec::new();
    for (position, piece) in text.split('`').enumerate() {
        match position % 2 {
            0 => piece.split_inclusive(' ').for_each(|word| push(&mut spans, word)),
            _ => spans.push(Span::Code(piece.to_owned())),
        }
    }
    spans
}

fn push(spans: &mut Vec<Span>, word: &str) {
    let (exact, after) = word.split_at(word.trim_end_matches([' ', ':']).len());
    if let Ok(at) = DateTime::parse_from_rfc3339(exact) {
        spans.push(Span::Time { exact: exact.to_owned(), short: at.to_utc().format("%H:%M:%S UTC").to_string() });
        return push(spans, after);
    }
    match spans.last_mut() {
        Some(Span::Plain(text)) => text.push_str(word),
        _ if word.is_empty() => {}
        _ => spans.push(Span::Plain(word.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backticks_mark_code_and_moments_are_short() {
        let plain = |text: &str| Span::Plain(text.into());
        assert_eq!(spans("by `a = b` here"), [plain("by "), Span::Code("a = b".into()), plain(" here")]);
        let (exact, short) = ("2026-01-02T03:04:05.678Z".to_owned(), "03:04:05 UTC".to_owned());
        assert_eq!(
            spans("denied at 2026-01-02T03:04:05.678Z: no reason"),
            [plain("denied at "), Span::Time { exact, short }, plain(": no reason")]
        );
        assert_eq!(spans(""), []);
    }
}
