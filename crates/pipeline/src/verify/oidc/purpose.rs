//! What a signed JWT is for. One issuer signs many kinds with one key, and most of them are no logins.
//!
//! The header's `typ` says it where issuers write one, and `capture` goes by that. Keycloak and others write `JWT` over all, so
//! that the claims of a kind are looked for as well.

use serde_json::{Map, Value};

use crate::verify::Fault;

/// Refuses what is signed for another purpose than to say who a user is.
pub(in crate::verify) fn check(payload: &Map<String, Value>) -> Result<(), Fault> {
    let other = if payload.get("events").is_some_and(|events| !events.is_null()) {
        // RFC 8417 section 2.2; OpenID Connect Back-Channel Logout 1.0 section 2.4.
        "a logout token or another security event"
    } else if payload.contains_key("token_introspection") {
        // RFC 9701 section 5.
        "a token introspection response"
    } else if payload.contains_key("htm") && payload.contains_key("htu") {
        // RFC 9449 section 4.2.
        "a DPoP proof"
    } else if payload.contains_key("jwks") && payload.get("sub") == payload.get("iss") {
        // OpenID Federation 1.0 section 3.
        "an entity statement"
    } else {
        match payload.get("typ").and_then(Value::as_str) {
            // Keycloak says here what its header does not.
            Some("Logout") => "a logout token",
            Some("Refresh" | "Offline") => "a refresh token",
            _ => return Ok(()),
        }
    };
    Err(Fault::Malformed(format!("it is {other}; expected a token that logs a person in")))
}
