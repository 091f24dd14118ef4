//! Claims that an operator wrote down in place of a token, for a look that proves nothing.

use std::fmt;

use serde_json::{Map, Value};

use crate::claims::names::{PARTS, Part};
use crate::claims::selector::Selector;
use crate::claims::sources::Source;
use crate::claims::{self, ClaimRule, ClaimState, Claims, ClaimsRefusal, Reads};
use crate::number;
use crate::provider::{Protocol, Provider};
use crate::verify::Statement;
use crate::verify::saml::{NameId, SamlAttribute, SamlStatement, SamlValue};

/// Claims as a token would have brought them, not verified.
#[derive(Clone, PartialEq)]
pub struct WrittenClaims(pub Map<String, Value>);

/// Prints nothing of it: it is about a person.
impl fmt::Debug for WrittenClaims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WrittenClaims({} members)", self.0.len())
    }
}

impl WrittenClaims {
    /// Reads them by the provider's rules, as a login reads the claims of its token. Whichever payload a claim comes from, the
    /// one text stands for it.
    ///
    /// # Errors
    /// When no user can be identified, or a claim's state refuses the login by the operator's rule.
    pub fn read(&self, provider: &Provider, reads: Reads<'_>) -> Result<Claims, ClaimsRefusal> {
        claims::read_dry(&self.statement(&provider.protocol), &of_one_text(provider), reads)
    }

    /// The same for a golden case, where a claim may also be called what the configuration calls it, if it is not there as the
    /// token would call it.
    ///
    /// # Errors
    /// As for [`Self::read`].
    pub fn read_by_key(&self, provider: &Provider, reads: Reads<'_>) -> Result<Claims, ClaimsRefusal> {
        let (statement, mut provider) = (self.statement(&provider.protocol), of_one_text(provider));
        for rule in &mut provider.claims {
            if let Some(selector) = self.by_key(&statement, rule) {
                rule.selector = selector;
            }
        }
        claims::read_dry(&statement, &provider, reads)
    }

    /// What [`Self::read`] does not read although the configuration calls a claim so.
    pub fn unread(&self, provider: &Provider) -> Vec<String> {
        let statement = self.statement(&provider.protocol);
        let unread = provider.claims.iter().filter(|rule| self.by_key(&statement, rule).is_some());
        unread
            .map(|rule| {
                let key = &rule.name;
                format!("`{key}` is what the configuration calls a claim; a login reads it by its own `name`, which is not there")
            })
            .collect()
    }

    /// How a claim is found by its key in the configuration, where it is not there by its own name.
    fn by_key(&self, statement: &Statement, rule: &ClaimRule) -> Option<Selector> {
        let is_there = claims::state_dry(statement, &rule.selector) != ClaimState::Missing;
        let selector = Selector::parse(rule.name.as_str()).ok()?;
        (!is_there && self.0.contains_key(rule.name.as_str()) && selector != rule.selector).then_some(selector)
    }

    /// What the token would have said.
    pub fn statement(&self, protocol: &Protocol) -> Statement {
        match protocol {
            Protocol::Oidc(_) => Statement::Oidc(self.0.clone()),
            Protocol::Saml(_) => Statement::Saml(self.saml()),
        }
    }

    fn saml(&self) -> SamlStatement {
        // What an assertion says outside its attributes has the name by which a claim reads it.
        let of = |wanted: Part| {
            let (name, _) = PARTS.iter().find(|(_, part)| *part == wanted)?;
            self.0.get(*name).and_then(Value::as_str).map(str::to_owned)
        };
        let attributes = self.0.iter().filter(|(name, _)| Part::named(name).is_none());
        SamlStatement {
            name_id: of(Part::NameId).map(|value| NameId {
                value,
                format: of(Part::NameIdFormat),
                name_qualifier: of(Part::NameQualifier),
                sp_name_qualifier: of(Part::SpNameQualifier),
            }),
            attributes: attributes.map(|(name, value)| attribute(name, value)).collect(),
            session_index: of(Part::SessionIndex),
            context_classes: of(Part::ContextClass).into_iter().collect(),
            by_name_alone: false,
            encrypted_id: false,
        }
    }
}

/// The provider, with every claim read from the one text that there is.
fn of_one_text(provider: &Provider) -> Provider {
    let mut provider = provider.clone();
    for rule in &mut provider.claims {
        rule.from = vec![Source::Assertion];
    }
    provider
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
