//! Which signed tokens an app would believe.

use memchr::memmem;
use serde_json::{Map, Value};

use super::{Reading, issuer as issuer_of, unescaped};
use crate::reading::issuer;

/// To whom a token has to speak for the app to believe it.
#[derive(Debug, Clone, Default)]
pub struct Addressed {
    /// The names of our providers.
    issuers: Vec<String>,
    /// What all names have in them that some reader takes for one of these: the ASCII of it, in lower case.
    telling: Vec<memmem::Finder<'static>>,
    /// The names by which they know the app.
    audiences: Vec<String>,
}

impl Addressed {
    pub fn new(issuers: Vec<String>, audiences: Vec<String>) -> Self {
        let telling = |ours: &String| {
            let telling = issuer::telling(ours);
            let longest = telling.split(|letter: char| !letter.is_ascii()).max_by_key(|run| run.len());
            memmem::Finder::new(longest.unwrap_or_default()).into_owned()
        };
        Self { telling: issuers.iter().map(telling).collect(), issuers, audiences }
    }

    /// Whether an object of JSON is the payload of a token that the app may believe: of an issuer of ours, and for the app or for no
    /// audience. What tells an app that a session has ended (RFC 8417) logs no person in.
    ///
    /// So is one that names an issuer of ours and that our parser does not take: others take a lone surrogate, a number beyond a double,
    /// members within hundreds of others, `NaN`, letters that are not UTF-8.
    pub fn is_object(&self, payload: &[u8]) -> bool {
        self.is_named_behind(payload, 0)
            && match serde_json::from_slice(payload) {
                Ok(Value::Object(claims)) => self.are_claims(&claims),
                Ok(_) => false,
                Err(_) => true,
            }
    }

    /// Whether a text of JSON names an issuer of ours, where it was searched up to a place, and none was found.
    pub fn is_named_behind(&self, text: &[u8], searched: usize) -> bool {
        const LONGEST_ESCAPE: usize = 6;
        let longest = self.telling.iter().map(|telling| telling.needle().len()).max().unwrap_or_default();
        let behind = |length: usize| text.get(searched.saturating_sub(length)..).unwrap_or_default();
        let escaped = behind(longest * LONGEST_ESCAPE);
        let text = match memchr::memchr(b'\\', escaped) {
            Some(_) => unescaped(escaped).to_ascii_lowercase(),
            None => behind(longest).to_ascii_lowercase(),
        };
        self.telling.iter().any(|telling| telling.find(&text).is_some())
    }

    /// Whether the claims of a payload, as our parser reads them, are of an issuer of ours and for the app.
    fn are_claims(&self, claims: &Map<String, Value>) -> bool {
        let Reading::Token { issuer: named } = issuer_of([claims]) else { return false };
        let is_ours = self.issuers.iter().any(|ours| issuer::is_like(&named, ours));
        let is_event = matches!(claims.get("events"), Some(Value::Object(events)) if !events.is_empty());
        is_ours && (!is_event || claims.contains_key("nonce")) && self.is_for(claims)
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
