//! An issuer's discovery document (OpenID Connect Discovery 1.0 section 3, RFC 8414 section 2), read member by member.
//!
//! Only the members that loginsync uses are read. A member that cannot be used counts as missing, and is reported by name: a
//! login needs it or does not.

use serde_json::{Map, Value};
use url::Url;

use super::keys::without_mark;
use crate::capture::oidc::kind;

/// What a discovery document says, as far as loginsync uses it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discovered {
    pub jwks_uri: Option<String>,
    pub authorization_endpoint: Option<String>,
    pub token_endpoint: Option<String>,
    pub userinfo_endpoint: Option<String>,
    pub revocation_endpoint: Option<String>,
    pub end_session_endpoint: Option<String>,
    /// Answers of the authorization endpoint name their issuer (RFC 9207 section 3).
    pub names_issuer: bool,
    /// The document as the issuer wrote it.
    pub document: Map<String, Value>,
    /// Members that are there and cannot be used, each with the reason.
    pub complaints: Vec<String>,
}

/// Why a document is not the discovery document of this issuer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DiscoveryError {
    #[error(
        "the discovery document is not a JSON object; set `jwks_url` and the endpoints by hand if the issuer has none"
    )]
    NotAnObject,
    #[error(
        "the discovery document's `issuer` is `{found}`; expected `{expected}`, exactly (OpenID Connect Discovery 1.0 section 4.3)"
    )]
    Issuer { found: String, expected: String },
}

/// The address of an issuer's discovery document (OpenID Connect Discovery 1.0 section 4.1).
pub fn address(issuer: &str) -> String {
    format!("{}/.well-known/openid-configuration", issuer.strip_suffix('/').unwrap_or(issuer))
}

/// Reads the document that was fetched for `issuer`.
///
/// # Errors
/// When it is not a JSON object, or another issuer's.
pub fn read(document: &[u8], issuer: &str) -> Result<Discovered, DiscoveryError> {
    let Ok(Value::Object(document)) = serde_json::from_slice(without_mark(document)) else {
        return Err(DiscoveryError::NotAnObject);
    };
    match document.get("issuer") {
        Some(Value::String(found)) if found == issuer => {}
        found => {
            let found = match found {
                None => String::from("missing"),
                Some(Value::String(text)) => text.chars().take(200).collect(),
                Some(other) => kind(other).to_owned(),
            };
            return Err(DiscoveryError::Issuer { found, expected: issuer.to_owned() });
        }
    }
    let mut reader = Reader { document: &document, complaints: Vec::new() };
    let discovered = Discovered {
        jwks_uri: reader.endpoint("jwks_uri"),
        authorization_endpoint: reader.endpoint("authorization_endpoint"),
        token_endpoint: reader.endpoint("token_endpoint"),
        userinfo_endpoint: reader.endpoint("userinfo_endpoint"),
        revocation_endpoint: reader.endpoint("revocation_endpoint"),
        end_session_endpoint: reader.endpoint("end_session_endpoint"),
        names_issuer: reader.flag("authorization_response_iss_parameter_supported"),
        document: Map::new(),
        complaints: reader.complaints,
    };
    Ok(Discovered { document, ..discovered })
}

struct Reader<'a> {
    document: &'a Map<String, Value>,
    complaints: Vec<String>,
}

impl Reader<'_> {
    /// An absolute http or https address.
    fn endpoint(&mut self, name: &str) -> Option<String> {
        let why = match self.document.get(name) {
            None | Some(Value::Null) => return None,
            Some(Value::String(text)) if text.is_empty() => String::from("empty"),
            Some(Value::String(text)) => match Url::parse(text) {
                Ok(url) if matches!(url.scheme(), "https" | "http") && url.has_host() => return Some(text.clone()),
                _ => String::from("not an absolute https address"),
            },
            Some(other) => kind(other).to_owned(),
        };
        self.complaints.push(format!("`{name}` is {why} and counts as missing"));
        None
    }

    /// A boolean; as text too, since some issuers write `"true"`.
    fn flag(&mut self, name: &str) -> bool {
        match self.document.get(name) {
            None | Some(Value::Null) => false,
            Some(Value::Bool(flag)) => *flag,
            Some(Value::String(text)) if text == "true" || text == "false" => text == "true",
            Some(other) => {
                self.complaints
                    .push(format!("`{name}` is {} and counts as false; expected true or false", kind(other)));
                false
            }
        }
    }
}
