//! The frame of every page, its headers, and the step before an act.

use askama::Template;
use axum::extract::FromRequestParts;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, LOCATION, REFERRER_POLICY};
use http::header::{X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS};
use http::request::Parts;
use http::{HeaderName, StatusCode};

use super::failure::{Failure, Sent};
use super::visitor::Visitor;
use super::words::{Moment, Sentence};
use crate::config::Scope;

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

/// What would be done, with its outcome, and the button that does it.
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

/// What a handler answers.
pub type Answer = Result<Response, Failure>;

/// Sends the browser on, so that a reload repeats nothing.
pub fn go(address: &str) -> Response {
    (StatusCode::SEE_OTHER, [(LOCATION, address.to_owned())]).into_response()
}

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
