//! What the pages of provider and app share: how they are sent, and how text with `code` in it is written.

use std::sync::LazyLock;

use askama::Template;
use aws_lc_rs::digest;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Sends a form on without a click. Without scripts its button does.
pub const SUBMIT: &str = "document.forms[0].submit()";

/// Nothing but the page's own style and the one script above, named by its digest (CSP Level 3 section 6.7.3.3): whatever a
/// name smuggles in does not run.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let script = STANDARD.encode(digest::digest(&digest::SHA256, SUBMIT.as_bytes()));
    let policy = format!(
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{script}'; base-uri 'none'; frame-ancestors 'none'"
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

    pub fn name(self) -> &'static str {
        match self {
            Party::Provider => "Demo provider",
            Party::App => "Demo app",
        }
    }

    pub fn role(self) -> &'static str {
        match self {
            Party::Provider => "knows people and their groups, and logs them in",
            Party::App => "behind loginsync, and none the wiser",
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
pub struct Span {
    pub code: bool,
    pub text: String,
}

/// Takes such a text apart.
pub fn spans(text: &str) -> Vec<Span> {
    let pieces = text.split('`').enumerate();
    let spans = pieces.map(|(position, piece)| Span { code: position % 2 == 1, text: piece.to_owned() });
    spans.filter(|span| !span.text.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backticks_mark_code() {
        let span = |code, text: &str| Span { code, text: text.into() };
        assert_eq!(spans("by `a = b` here"), [span(false, "by "), span(true, "a = b"), span(false, " here")]);
        assert_eq!(spans("plain"), [span(false, "plain")]);
    }
}
