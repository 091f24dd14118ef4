//! The frame of every page, its headers, and what is said when something fails.

use askama::Template;
use axum::extract::FromRequestParts;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, REFERRER_POLICY};
use http::header::{X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS};
use http::request::Parts;
use http::{HeaderName, StatusCode};

use super::door::Visitor;
use crate::config::{OperatorSettings, Scope};
use crate::pipeline::ids::Timestamp;
use crate::ports::store::StoreError;
use crate::serve::admin::service::{BUDGET, Refused, Unlooked};

/// Everything comes from here, forms go nowhere else, and no page of another site shows ours in a frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// For those who may do everything.
const CLIENTS: &str = "/console/clients";

/// The parts of the console, in the order of the questions that people ask.
const PARTS: [(&str, &str); 11] = [
    ("/console/", "Overview"),
    ("/console/people", "People"),
    ("/console/logins", "Logins"),
    ("/console/explain", "Explain"),
    ("/console/mappings", "Mappings"),
    ("/console/groups", "Groups and roles"),
    ("/console/holds", "Holds"),
    ("/console/deliveries", "Deliveries"),
    (CLIENTS, "API clients"),
    ("/console/operators", "Operators"),
    ("/console/configuration", "Configuration"),
];

/// What stands around the content of a page.
#[derive(Debug, Clone)]
pub struct Shell {
    pub operator: String,
    /// May change something.
    pub writes: bool,
    /// May do everything.
    admin: bool,
    pub token: String,
    pub until: Moment,
    path: String,
}

/// A link of the navigation.
pub struct Part {
    pub address: &'static str,
    pub name: &'static str,
    pub current: bool,
}

impl Shell {
    pub fn of(visitor: &Visitor, path: &str) -> Self {
        Self {
            operator: visitor.caller.name.clone(),
            admin: visitor.may(Scope::Admin),
            writes: visitor.may(Scope::Admin) || visitor.may(Scope::WriteMembers) || visitor.may(Scope::WriteMappings),
            token: visitor.token.clone(),
            until: Moment::of(visitor.sign_in.expires_at),
            path: path.to_owned(),
        }
    }

    pub fn parts(&self) -> impl Iterator<Item = Part> + '_ {
        let shown = PARTS.iter().filter(|(address, _)| self.admin || *address != CLIENTS);
        shown.map(|(address, name)| Part {
            address,
            name,
            current: match *address {
                "/console/" => self.path == *address,
                below => self.path.starts_with(below),
            },
        })
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Shell {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let visitor = Visitor::from_request_parts(parts, state).await?;
        Ok(Self::of(&visitor, parts.uri.path()))
    }
}

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

/// What would be done, with what it comes to, and the button that does it.
#[derive(Template)]
#[template(path = "console/confirm.html")]
pub struct Confirm {
    pub shell: Shell,
    pub title: String,
    /// The key of a person, or what a thing is.
    pub lead: String,
    pub says: Sentence,
    /// Words and what they say, such as `loses` and a group.
    pub effects: Vec<(&'static str, Sentence)>,
    /// Of the form.
    pub action: String,
    pub fields: Vec<(String, String)>,
    pub button: &'static str,
    /// Where the page leads that changes nothing.
    pub back: String,
    /// Takes something away that does not come back by itself.
    pub severe: bool,
}

/// Why a page cannot be shown, or a form not be carried out.
#[derive(Debug, Clone)]
pub struct Failure {
    status: StatusCode,
    title: &'static str,
    text: String,
    /// Each fault at its place.
    faults: Vec<String>,
}

/// A form that was sent and not carried out: nothing of it is lost.
#[derive(Debug, Clone)]
pub struct Sent {
    pub action: String,
    /// Without the token.
    pub fields: Vec<SentField>,
    /// The token of the session, where it may be sent again as it is.
    pub token: Option<String>,
}

/// What was typed into one field.
#[derive(Debug, Clone)]
pub struct SentField {
    pub name: String,
    pub value: String,
}

impl SentField {
    /// Lines of it that a page shows at once.
    fn rows(&self) -> usize {
        self.value.lines().count().clamp(1, 20)
    }
}

impl Failure {
    /// Whether the same may work in a moment.
    pub fn may_pass(&self) -> bool {
        matches!(self.status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS)
    }

    /// In sentences of ours, with names in them.
    pub fn said(&self) -> Sentence {
        Sentence::read(&self.text)
    }

    fn new(status: StatusCode, title: &'static str, text: impl Into<String>) -> Self {
        Self { status, title, text: text.into(), faults: Vec::new() }
    }

    pub fn signed_out() -> Self {
        let text =
            "Sign in first: run `loginsync console` on the machine of this sidecar, and open the link that it prints.";
        Self::new(StatusCode::UNAUTHORIZED, "You are not signed in", text)
    }

    /// What was sent came too late; the browser still has it.
    pub fn ended() -> Self {
        let text = "Nothing was changed. Sign in again in another tab: run `loginsync console`, and open the link that it prints. \
                    Then go back in this tab, which brings back what you typed, load the page again, and send it once more.";
        Self::new(StatusCode::UNAUTHORIZED, "Your session has ended", text)
    }

    /// A link that opens nothing.
    pub fn spent() -> Self {
        let text = "It was used before, or is older than a minute. Run `loginsync console` again, and open the link that it prints.";
        Self::new(StatusCode::UNAUTHORIZED, "This link opens no session", text)
    }

    /// Not a failure: the page that a browser sees last.
    pub fn left() -> Self {
        let text = "This session has ended. `loginsync console` makes a link for another.";
        Self::new(StatusCode::OK, "You are signed out", text)
    }

    /// Of a person who had one when they signed in.
    pub fn no_role_any_more() -> Self {
        let text = "You are disabled, or have no role for the console any more. Your session has ended.";
        Self::new(StatusCode::FORBIDDEN, "You may not use the console", text)
    }

    /// Who logged in, and may nothing here.
    pub fn no_role(user: &str, settings: &OperatorSettings) -> Self {
        let roles = [&settings.read_role, &settings.write_role].into_iter().flatten();
        let roles: Vec<String> = roles.map(|role| format!("`{role}`")).collect();
        let text = format!("You logged in as `{user}`, who does not have the role {}.", roles.join(" or "));
        Self::new(StatusCode::FORBIDDEN, "You may not use the console", text)
    }

    pub fn no_provider() -> Self {
        Self::not_found("No provider signs operators in here; `console.provider` would name one.")
    }

    /// An answer of a provider that no login of this browser waits for.
    pub fn not_begun_here() -> Self {
        let text = "This sign-in was not started in this browser, or took longer than 15 minutes. Start again from the console.";
        Self::new(StatusCode::FORBIDDEN, "You are not signed in", text)
    }

    /// A login at the provider that was refused, by its number.
    pub fn not_signed_in(status: StatusCode, title: &'static str, advice: &str, id: &str) -> Self {
        let text = format!(
            "{advice} The number of this login is `{id}`; by it another operator finds the reason on the page Explain."
        );
        Self::new(status, title, text)
    }

    pub fn foreign() -> Self {
        let text = "The form that was sent is not one of this session. Nothing was changed. Go back, which brings back what you \
                    typed, load the page again, and send it once more.";
        Self::new(StatusCode::FORBIDDEN, "This form is not accepted", text)
    }

    pub fn too_many() -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "Too many requests", "Wait a moment, then try again.")
    }

    pub fn too_large() -> Self {
        let text = "What was sent is longer than 1 MiB. Use the command `loginsync explain` for it.";
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "This is too long", text)
    }

    /// A form that says something that cannot be done.
    pub fn wrong(text: &str) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Something in it is wrong", text)
    }

    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Where a page has a place of its own for it.
    pub fn line(&self) -> String {
        format!("{}: {}", self.title, self.text)
    }

    pub fn not_found(text: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "Not found", text)
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        let (status, text) = refused.told();
        let title = match &refused {
            Refused::Invalid(_) => "Something in it is wrong",
            Refused::NotFound(_) => "Not found",
            Refused::Conflict(_) | Refused::Store(StoreError::Invalid(_)) => "This conflicts with what is there",
            Refused::ReadOnly(_) => "The configuration file declares this",
            Refused::Forbidden(_) => "Your session may not do this",
            Refused::Stale => "It was changed meanwhile",
            Refused::Braked(_) => "This would revoke too much at once",
            Refused::Store(_) => "The store does not answer",
        };
        match refused {
            Refused::Invalid(faults) => {
                let faults = faults.iter().map(|fault| format!("{}: {}", fault.field, fault.message)).collect();
                Self { faults, ..Self::new(status, title, "Nothing was changed.") }
            }
            _ => Self::new(status, title, text),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Refused::from(error).into()
    }
}

impl From<Unlooked> for Failure {
    fn from(why: Unlooked) -> Self {
        match why {
            Unlooked::Refused(refused) => refused.into(),
            Unlooked::Busy => {
                let text = "As many such looks as are made at once are being made. Try again in a moment.";
                Self::new(StatusCode::TOO_MANY_REQUESTS, "Others are looking", text)
            }
            Unlooked::TooLong => {
                let text = format!("It took longer than {} seconds. The command has no such limit.", BUDGET.as_secs());
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "This took too long", text)
            }
        }
    }
}

/// The guard makes the page, since it knows who is signed in.
impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// What a handler answers.
pub type Answer = Result<Response, Failure>;

/// A page with its headers.
pub fn render(status: StatusCode, page: &impl Template) -> Response {
    match page.render() {
        Ok(text) => with_headers((status, text).into_response()),
        Err(error) => {
            tracing::error!(%error, "a page of the console cannot be made");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

fn with_headers(mut response: Response) -> Response {
    let fields: [(HeaderName, &'static str); 6] = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (CACHE_CONTROL, "no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        // Under `no-referrer` browsers send `Origin: null` with a form, which does not say whose it is.
        (REFERRER_POLICY, "same-origin"),
    ];
    for (name, value) in fields {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

#[derive(Template)]
#[template(path = "console/failed.html")]
struct Failed<'a> {
    shell: Shell,
    failure: &'a Failure,
    sent: Option<Sent>,
}

pub fn failed(shell: Shell, failure: &Failure, sent: Option<Sent>) -> Response {
    render(failure.status, &Failed { shell, failure, sent })
}

#[derive(Template)]
#[template(path = "console/bare.html")]
struct Bare<'a> {
    title: &'a str,
    text: Sentence,
    /// A link to sign in by, which a button spends.
    link: Option<&'a str>,
    door: Option<Door>,
    sent: Option<Sent>,
}

/// Where a browser signs in by a provider.
pub struct Door {
    pub title: String,
    pub address: String,
}

/// A page for those who are not signed in.
pub fn bare(failure: &Failure) -> Response {
    bare_with(failure, None, None)
}

/// The same, with a way in, and with a form that could not be carried out.
pub fn bare_with(failure: &Failure, door: Option<Door>, sent: Option<Sent>) -> Response {
    let text = Sentence::read(&failure.text);
    render(failure.status, &Bare { title: failure.title, text, link: None, door, sent })
}

/// The page of a link.
pub fn offer(link: &str) -> Response {
    let text = "This link works once. It opens a session of this browser, which ends after 15 minutes without a request, and after \
                8 hours at the latest.";
    let text = Sentence::read(text);
    render(StatusCode::OK, &Bare { title: "Sign in to the console", text, link: Some(link), door: None, sent: None })
}

pub async fn nowhere() -> Failure {
    Failure::not_found("There is no page at this address.")
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
