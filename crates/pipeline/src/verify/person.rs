//! Whether a token speaks of a person, or of a client to which it was issued for itself (client credentials).
//!
//! A client's token makes no user and passes no gate, so a person who could have theirs taken for one would pass every gate too.
//! Names that people choose are therefore never enough: a token is a client's where the vendor's own sign says so, and nothing in it
//! speaks of a person or of a login. Whatever is in doubt is a person's.
//!
//! ```text
//! RFC 9068, Cognito, Okta   sub is client_id or cid
//! Auth0                     gty is client-credentials, and sub is CLIENT@clients
//! Entra                     idtyp is app, and there is no scp
//! Keycloak                  preferred_username is service-account-CLIENT, by client_id and clientHost
//! Duende, Cloudflare        no sub, and client_id or common_name
//! ```

use serde_json::{Map, Value};

use super::Statement;
use crate::provider::UserClaim;

/// Whether a token speaks of a person, whom the operator knows by `user_claim`.
pub fn is_of_person(statement: &Statement, user_claim: &UserClaim) -> bool {
    let Statement::Oidc(payload) = statement else { return true };
    let token = Token(payload);
    token.says_person() || token.names_user(user_claim) || !(token.is_of_keycloak_client() || token.is_of_client())
}

/// Claims of logins and of people, of which a client has none: folded, since vendors write them in their own ways. `acr` and the
/// preferred name are not here, since Keycloak's service accounts have them.
const PERSONAL: &[&str] = &[
    // Logins and sessions (OpenID Connect Core 1.0, and Keycloak before version 12).
    "sid",
    "sessionstate",
    "nonce",
    "authtime",
    "athash",
    "chash",
    "shash",
    "amr",
    // Someone acts for the subject (RFC 8693).
    "act",
    "mayact",
    // Names of people: OpenID Connect, Okta, Entra, ADFS, Cognito, Cloud Foundry.
    "name",
    "givenname",
    "familyname",
    "middlename",
    "surname",
    "nickname",
    "displayname",
    "email",
    "emailaddress",
    "mail",
    "phonenumber",
    "address",
    "birthdate",
    "gender",
    "picture",
    "profile",
    "uid",
    "upn",
    "uniquename",
    "username",
    "cognitousername",
    "userid",
    "login",
    "loginhint",
    "winaccountname",
    "samaccountname",
    "onpremsid",
    "puid",
    "ipaddr",
    "identities",
];

/// Scopes that ask for a login, or for what a person is called.
const SCOPES: [&str; 6] = ["openid", "profile", "email", "address", "phone", "offline_access"];

/// Claims by which operators know people, and which clients have as well: the last one at Entra.
const SHARED: [&str; 3] = ["sub", "preferred_username", "oid"];

const SERVICE_ACCOUNT: &str = "service-account-";

struct Token<'t>(&'t Map<String, Value>);

impl Token<'_> {
    fn text(&self, name: &str) -> &str {
        self.0.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// Whether a claim says anything at all.
    fn has(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(says_something)
    }

    /// Whether a claim says something other than one text.
    fn differs(&self, name: &str, expected: &str) -> bool {
        self.has(name) && self.text(name) != expected
    }

    fn says_person(&self) -> bool {
        let personal = self.0.iter().any(|(name, value)| {
            // A name may be a URL, such as `https://app.example/email`.
            let last = name.rsplit('/').next().unwrap_or_default();
            let folded: String =
                last.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
            PERSONAL.contains(&folded.as_str()) && says_something(value)
        });
        // A client without credentials of its own gets tokens for people alone (Entra).
        let is_public = ["azpacr", "appidacr"].into_iter().any(|name| self.0.get(name).is_some_and(is_zero));
        personal
            || is_public
            || self.text("typ").eq_ignore_ascii_case("id")
            || self.text("token_use").eq_ignore_ascii_case("id")
            || self.differs("idtyp", "app")
            || self.differs("gty", "client-credentials")
            || self.differs("grant_type", "client_credentials")
    }

    fn names_user(&self, user_claim: &UserClaim) -> bool {
        match user_claim {
            UserClaim::Named(name) => !SHARED.contains(&name.as_str()) && self.has(name),
            UserClaim::Subject => false,
        }
    }

    /// People cannot have what Keycloak notes of the session of a service account alone. The name is no proof by itself: where a
    /// client has no service account, it is free for people to choose.
    fn is_of_keycloak_client(&self) -> bool {
        let client = ["client_id", "clientId"].map(|name| self.text(name)).into_iter().find(|name| !name.is_empty());
        let Some(client) = client else { return false };
        let account = self.text("preferred_username").strip_prefix(SERVICE_ACCOUNT).unwrap_or_default();
        let noted = self.has("clientHost") || self.has("clientAddress");
        noted && account.eq_ignore_ascii_case(client) && !self.differs("azp", client)
    }

    /// Where a subject may be a name of a person's choice, nothing else in the token may speak of one.
    fn is_of_client(&self) -> bool {
        if self.has("acr") || self.has("preferred_username") || self.asks_for_person() {
            return false;
        }
        let subject = match self.0.get("sub") {
            None | Some(Value::Null) => "",
            Some(Value::String(subject)) => subject,
            Some(_) => return false,
        };
        if subject.is_empty() {
            return ["client_id", "cid", "appid", "common_name"].into_iter().any(|name| self.has(name));
        }
        let is_client = |name: &str| self.text(name) == subject;
        let of_auth0 = || {
            let client = subject.strip_suffix("@clients").unwrap_or_default();
            !client.is_empty() && ["azp", "client_id"].into_iter().any(|name| self.text(name) == client)
        };
        is_client("client_id")
            || is_client("cid")
            || (self.text("gty") == "client-credentials" && of_auth0())
            || (self.text("idtyp") == "app" && !self.has("scp"))
    }

    fn asks_for_person(&self) -> bool {
        let is_personal = |scope: &str| SCOPES.iter().any(|known| scope.eq_ignore_ascii_case(known));
        ["scope", "scp", "scopes"].into_iter().filter_map(|name| self.0.get(name)).any(|value| match value {
            Value::String(scopes) => scopes.split([' ', ',', '+']).any(is_personal),
            Value::Array(scopes) => scopes.iter().filter_map(Value::as_str).any(is_personal),
            _ => says_something(value),
        })
    }
}

fn says_something(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(values) => !values.is_empty(),
        Value::Object(members) => !members.is_empty(),
        Value::Bool(true) | Value::Number(_) => true,
    }
}

fn is_zero(value: &Value) -> bool {
    value.as_str() == Some("0") || value.as_u64() == Some(0)
}
