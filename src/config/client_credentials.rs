//! How we log in at an authorization server as a client of our own (client credentials, RFC 6749 section 4.4).

use url::Url;

use super::reader::{Found, Section};
use super::relying_party::{scope, secret_of};
use super::{Secret, files, values};

/// A client that tokens are issued to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCredentials {
    pub token_endpoint: Url,
    pub client_id: String,
    pub secret: Secret,
    /// The secret travels in the form, and not in a header.
    pub in_form: bool,
    pub scopes: Vec<String>,
}

/// Reads the keys of a section, if it has a `token_endpoint`.
pub fn read(section: &Section<'_>) -> Option<ClientCredentials> {
    let others = ["client_id", "client_secret_file", "client_secret_env", "client_auth", "scopes"];
    let token_endpoint = section.parsed("token_endpoint", values::endpoint);
    let client_id = section.text("client_id");
    let secret = files::secret(section, "client_secret_file", "client_secret_env");
    let in_form = section.word("client_auth", &[("basic", false), ("post", true)], false);
    let scopes = section.list("scopes", false, scope).unwrap_or_default();
    if section.written("token_endpoint").is_none() {
        for key in others {
            if let Some(span) = section.written(key) {
                section.raise(&span, key, "applies only with `token_endpoint`");
            }
        }
        return None;
    }
    let missing = |key: &str, expected: &str| {
        let message = format!("missing in `{}`; expected {expected}, since `token_endpoint` is set", section.name);
        section.context.raise_absent(&section.span, section.key(key), message);
    };
    if section.written("client_id").is_none() {
        missing("client_id", "the client that tokens are issued to");
    }
    if section.written("client_secret_file").is_none() && section.written("client_secret_env").is_none() {
        missing("client_secret_file", "the client's secret, from a file or, as `client_secret_env`, a variable");
    }
    let secret = secret_of(section, secret?)?;
    Some(ClientCredentials {
        token_endpoint: token_endpoint?.value,
        client_id: client_id.map(|Found { value, .. }| value.to_owned())?,
        secret,
        in_form,
        scopes,
    })
}
