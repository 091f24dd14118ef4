//! Which signed tokens an app would believe.

use serde_json::{Map, Value};

use super::{Alphabet, Padding, Reading, decode, issuer as issuer_of, unescaped};
use crate::reading::issuer;

/// To whom a token has to speak for the app to believe it.
#[derive(Debug, Clone, Default)]
pub struct Addressed {
    /// The names of our providers.
    pub issuers: Vec<String>,
    /// The names by which they know the app.
    pub audiences: Vec<String>,
}

impl Addressed {
    /// Whether the payload of a signed token, in base64url, is one that the app may believe: of an issuer of ours, and for the app or for
    /// no audience. What tells an app that a session has ended (RFC 8417) logs no person in.
    pub fn is_payload(&self, payload: &[u8]) -> bool {
        let decoded = decode(payload, Alphabet::Both, Padding::PassedOver);
        match serde_json::from_slice(&decoded) {
            Ok(Value::Object(claims)) => self.are_claims(&claims),
            Ok(_) => false,
            Err(_) => self.is_named_in(&decoded),
        }
    }

    /// The same of its claims.
    pub fn are_claims(&self, claims: &Map<String, Value>) -> bool {
        let Reading::Token { issuer: named } = issuer_of([claims]) else { return false };
        let is_ours = self.issuers.iter().any(|ours| issuer::is_like(&named, ours));
        let is_event = matches!(claims.get("events"), Some(Value::Object(events)) if !events.is_empty());
        is_ours && (!is_event || claims.contains_key("nonce")) && self.is_for(claims)
    }

    /// Whether a payload names an issuer of ours anywhere. For what our parser does not take and others do: a lone surrogate, a number
    /// beyond a double, members within hundreds of others, `NaN`, letters that are not UTF-8.
    fn is_named_in(&self, payload: &[u8]) -> bool {
        let text = unescaped(payload).to_ascii_lowercase();
        self.issuers.iter().any(|ours| memchr::memmem::find(&text, issuer::telling(ours).as_bytes()).is_some())
    }

    /// Keycloak and others name the app as the client that a token was issued to, and many apps look at neither.
    fn is_for(&self, claims: &Map<String, Value>) -> bool {
        const CLIENTS: [&str; 4] = ["azp", "client_id", "appid", "cid"];
        // Entra ID names an API so by default, and Microsoft.Identity.Web takes both names.
        let is_own = |name: &str| {
            let bare = name.strip_prefix("api://").unwrap_or(name);
            self.audiences.iter().any(|own| own == name || own == bare)
        };
        let is_app = |value: &Value| value.as_str().is_some_and(is_own);
        let named = match claims.get("aud") {
            None | Some(Value::Null) => true,
            Some(Value::Array(audiences)) => audiences.is_empty() || audiences.iter().any(is_app),
            Some(audience) => is_app(audience),
        };
        named || CLIENTS.iter().filter_map(|name| claims.get(*name)).any(is_app)
    }
}

/// Whether letters of base64url begin like an object of JSON: a brace, blanks, and a quote or the end of the object.
pub fn opens_object(letters: &[u8]) -> bool {
    let decoded = decode(letters, Alphabet::Both, Padding::PassedOver);
    let Some((b'{', rest)) = decoded.split_first() else { return false };
    rest.trim_ascii_start().first().is_none_or(|byte| matches!(byte, b'"' | b'}'))
}
