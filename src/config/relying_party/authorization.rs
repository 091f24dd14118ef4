//! What an authorization request of ours asks in addition to the protocol's parameters: `authorization_parameters`,
//! `forward_login_hint`,
//! `response_mode`; and what sign-outs ask: `end_session_return`, `frontchannel_logout`.

use super::super::reader::{Section, Value};
use super::super::values::Wrong;

/// Of one provider.
#[derive(Debug, Clone, Default)]
pub struct Authorization {
    /// In the order of their names.
    pub parameters: Vec<(String, String)>,
    /// `login_hint` of the sign-in page's address goes on to the provider.
    pub forward_login_hint: bool,
    /// The answer comes as a form, not in the address.
    pub form_post: bool,
    /// The provider may end sessions by an address that it lets browsers load.
    pub frontchannel_logout: bool,
    /// The parameter that tells the provider, at a sign-out, where the browser continues.
    pub end_session_return: String,
}

/// Parameters that are ours to set, and what says them instead.
const OURS: [(&str, &str); 18] = [
    ("client_id", "`client_id` of the provider"),
    ("scope", "`scopes` of the provider"),
    ("response_mode", "`response_mode` of the provider"),
    ("state", "nothing: each login has its own"),
    ("nonce", "nothing: each login has its own"),
    ("code_challenge", "nothing: each login has its own"),
    ("code_challenge_method", "nothing: it is always S256"),
    ("response_type", "nothing: it is always `code`"),
    ("redirect_uri", "nothing: it follows from `public_url`"),
    ("max_age", "nothing: that the provider kept to it is not verified"),
    ("request", "nothing: it would replace the whole request"),
    ("request_uri", "nothing: it would replace the whole request"),
    ("registration", "nothing: it would replace the client"),
    ("client_secret", "`client_secret_file`: browsers must not see it"),
    ("client_assertion", "`client_auth`: browsers must not see it"),
    ("client_assertion_type", "`client_auth`"),
    ("id_token_hint", "nothing: it would name one person to all"),
    ("dpop_jkt", "nothing: tokens are not bound to a key"),
];
const MOST: usize = 20;
const LONGEST_NAME: usize = 64;
const LONGEST_VALUE: usize = 1024;

/// Reads the keys.
pub(super) fn read(section: &Section<'_>) -> Authorization {
    let modes = [("query", false), ("form_post", true)];
    Authorization {
        parameters: parameters(&section.section("authorization_parameters")),
        forward_login_hint: section.flag("forward_login_hint", false),
        form_post: section.word("response_mode", &modes, false),
        frontchannel_logout: section.flag("frontchannel_logout", false),
        end_session_return: section
            .parsed("end_session_return", parameter)
            .map_or_else(|| "post_logout_redirect_uri".to_owned(), |found| found.value),
    }
}

/// The name of a parameter of a query.
fn parameter(text: &str) -> Result<String, Wrong> {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    let taken = ["client_id", "id_token_hint"].contains(&text);
    match !text.is_empty() && text.len() <= LONGEST_NAME && text.bytes().all(is_name) && !taken {
        true => Ok(text.to_owned()),
        false => Err(Wrong::expected(
            "the name of a parameter, such as `post_logout_redirect_uri`, `logout_uri` (Cognito) or `returnTo` (Auth0)",
        )),
    }
}

fn parameters(table: &Section<'_>) -> Vec<(String, String)> {
    let mut parameters = Vec::new();
    for (name, value, span) in table.fields() {
        let raise = |message: String| table.raise(&span, name.value, message);
        let Value::Text(text) = value else {
            raise(format!("found {value}; expected a text"));
            continue;
        };
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        // Some servers take other characters for `_`, and capitals for small ones.
        let folded = name.value.to_ascii_lowercase().replace('-', "_");
        if let Some((_, instead)) = OURS.iter().find(|(ours, _)| *ours == folded) {
            table.context.raise(&name.span, table.key(name.value), format!("is not for here; expected {instead}"));
        } else if name.value.len() > LONGEST_NAME || !name.value.bytes().all(is_name) || name.value.is_empty() {
            let message = format!("expected a name of letters, digits, `_` and `-`, no longer than {LONGEST_NAME}");
            table.context.raise(&name.span, table.key(name.value), message);
        } else if text.is_empty() || text.len() > LONGEST_VALUE || text.chars().any(char::is_control) {
            raise(format!("expected a text of 1 to {LONGEST_VALUE} bytes without control characters"));
        } else {
            parameters.push((name.value.to_owned(), text.to_owned()));
        }
    }
    if parameters.len() > MOST {
        let message = format!("has {} parameters; expected at most {MOST}", parameters.len());
        table.context.raise_absent(&table.span, table.name.clone(), message);
    }
    parameters
}
