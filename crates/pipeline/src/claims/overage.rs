//! Groups that a provider left out of its token, with a pointer elsewhere.
//!
//! Entra does so past 200 groups in a JWT and 150 in an assertion. The pointer is looked at and never followed: where to ask
//! is a matter of the configuration.

use serde_json::{Map, Value};

use super::names;
use super::selector::Selector;
use crate::provider::OverageRule;
use crate::verify::saml::SamlStatement;
use crate::verify::{Assertion, Statement, Verified};

/// The attribute by which Entra replaces its groups (learn.microsoft.com, SAML token claims reference).
const ENTRA_GROUPS_LINK: &str = "http://schemas.microsoft.com/claims/groups.link";

/// Whom a directory is asked about, as the token names them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// The tenant that issued the token (`tid`): a directory answers for its own alone.
    pub tenant: Option<String>,
    /// The person's object ID there.
    pub object: Option<String>,
}

/// Whom a token speaks of, in the words of the provider's directory.
pub fn person(assertion: &Verified<Assertion>, rule: &OverageRule) -> Person {
    let statement = &assertion.get().statement;
    let tenant = match statement {
        Statement::Saml(_) => "tenantid",
        _ => "tid",
    };
    Person { tenant: super::single(statement, tenant), object: super::single(statement, &rule.user_claim) }
}

/// Whether a directory's groups can stand in for this claim.
pub fn is_groups(selector: &Selector) -> bool {
    let groups = names::long_name("groups");
    matches!(selector, Selector::Name(name) if name == "groups" || Some(name.as_str()) == groups)
}

/// Whether an ID token says that this claim was left out: `_claim_names` names it (OIDC Core 5.6.2), or it is `groups` and
/// `hasgroups` is true, as Entra writes in tokens of the implicit flow (learn.microsoft.com, ID token claims reference).
pub(super) fn in_token(payload: &Map<String, Value>, selector: &Selector) -> bool {
    let top = selector.top();
    let distributed = matches!(payload.get("_claim_names"), Some(Value::Object(names)) if names.contains_key(top));
    let truthy = |value: &Value| matches!(value, Value::Bool(true)) || value.as_str() == Some("true");
    let flagged = top == "groups" && payload.get("hasgroups").is_some_and(truthy);
    // Values next to a marker may be a part of the list, so the marker counts even then.
    distributed || flagged
}

/// Whether an assertion says that this attribute was left out.
pub(super) fn in_assertion(statement: &SamlStatement, selector: &Selector) -> bool {
    is_groups(selector) && statement.attributes.iter().any(|attribute| attribute.name == ENTRA_GROUPS_LINK)
}
