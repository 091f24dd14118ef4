//! Claims that somebody wrote down in place of a token, for a look that proves nothing.

use std::fmt;

use serde_json::{Map, Value};

use crate::pipeline::claims::selector::Selector;
use crate::pipeline::claims::sources::Source;
use crate::pipeline::claims::{self, ClaimRule, ClaimState, Claims, ClaimsRefusal, Reads};
use crate::pipeline::number;
use crate::pipeline::provider::{Protocol, Provider};
use crate::pipeline::verify::Statement;
use crate::pipeline::verify::saml::{NameId, SamlAttribute, SamlStatement, SamlValue};

/// The member that stands for a SAML subject.
pub const NAME_ID: &str = "NameID";

/// Claims as a token would have brought them, believed by nobody.
#[derive(Clone, PartialEq)]
pub struct WrittenClaims(pub Map<String, Value>);

/// Prints nothing of it: it is about a person.
impl fmt::Debug for WrittenClaims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WrittenClaims({} members)", self.0.len())
    }
}

impl WrittenClaims {
    /// Reads them by the provider's rules. Whichever payload a claim comes from, the one text stands for it; and a claim may
    /// be called what the configuration calls it, where it is not there as the token would call it.
    ///
    /// # Errors
    /// When nobody can be recognised, or a claim's state refuses the login by the operator's rule.
    pub fn read(&self, provider: &Provider, reads: Reads<'_>) -> Result<Claims, ClaimsRefusal> {
        let mut provider = provider.clone();
        for rule in &mut provider.claims {
            rule.from = vec![Source::Assertion];
        }
        let statement = self.statement(&provider.protocol);
        for rule in &mut provider.claims {
            if !is_there(&statement, rule)
                && self.0.contains_key(rule.name.as_str())
                && let Ok(selector) = Selector::parse(rule.name.as_str())
            {
                rule.selector = selector;
            }
        }
        claims::read_dry(&statement, &provider, reads)
    }

    fn statement(&self, protocol: &Protocol) -> Statement {
        match protocol {
            Protocol::Oidc(_) => Statement::Oidc(self.0.clone()),
            Protocol::Saml(_) => Statement::Saml(self.saml()),
        }
    }

    fn saml(&self) -> SamlStatement {
        let name_id = self.0.get(NAME_ID).and_then(Value::as_str);
        let attributes = self.0.iter().filter(|(name, _)| *name != NAME_ID);
        SamlStatement {
            name_id: name_id.map(|value| NameId { value: value.to_owned(), format: None }),
            attributes: attributes.map(|(name, value)| attribute(name, value)).collect(),
            session_index: None,
        }
    }
}

fn is_there(statement: &Statement, rule: &ClaimRule) -> bool {
    claims::state_dry(statement, &rule.selector) != ClaimState::Missing
}

fn attribute(name: &str, value: &Value) -> SamlAttribute {
    let values = match value {
        Value::Array(values) => values.iter().map(saml_value).collect(),
        single => vec![saml_value(single)],
    };
    SamlAttribute { name: name.to_owned(), friendly_name: None, values }
}

fn saml_value(value: &Value) -> SamlValue {
    match value {
        Value::String(text) => SamlValue::Text(text.clone()),
        Value::Bool(truth) => SamlValue::Text(truth.to_string()),
        Value::Null => SamlValue::Nil,
        other => number::text(other).map_or(SamlValue::Structured, |text| SamlValue::Text(text.into_owned())),
    }
}
