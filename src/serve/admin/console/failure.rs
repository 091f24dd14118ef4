//! Why a page cannot be shown, or a form not be carried out; and what was typed into it, of which nothing is lost.

use axum::response::{IntoResponse, Response};
use http::StatusCode;

use super::words::Sentence;
use crate::config::OperatorSettings;
use crate::ports::store::StoreError;
use crate::serve::admin::service::{BUDGET, Refused, Unlooked};

/// Why a page cannot be shown, or a form not be carried out.
#[derive(Debug, Clone)]
pub struct Failure {
    pub status: StatusCode,
    pub title: &'static str,
    pub text: String,
    /// Each fault at its place.
    pub faults: Vec<String>,
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
    pub fn rows(&self) -> usize {
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
        Self::new(StatusCode::UNAUTHORIZED, "This link is no longer valid", text)
    }

    /// Not a failure: the page that a browser sees last.
    pub fn left() -> Self {
        let text = "This session has ended. Run `loginsync console` for a new link.";
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
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "The input has errors", text)
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
            Refused::Invalid(_) => "The input has errors",
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
                let text = "The maximum number of such look-ups is running. Try again in a moment.";
                Self::new(StatusCode::TOO_MANY_REQUESTS, "Too many look-ups at once", text)
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
