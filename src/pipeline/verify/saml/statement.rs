//! Reads what a verified assertion says of its subject.

use roxmltree::Node;

use super::super::Fault;
use super::{NameId, SamlAttribute, SamlStatement, SamlValue};
use crate::pipeline::capture::saml::names::{ASSERTION, XML_SCHEMA_INSTANCE};
use crate::pipeline::capture::saml::tree::{attribute, elements, is, named, only, text};

/// Reads subject, attributes and session of an assertion.
pub(super) fn read(assertion: Node<'_, '_>) -> Result<SamlStatement, Fault> {
    let mut attributes = Vec::new();
    for statement in named(assertion, ASSERTION, "AttributeStatement") {
        for element in elements(statement) {
            attributes.push(read_attribute(element)?);
        }
    }
    let session_index =
        named(assertion, ASSERTION, "AuthnStatement").find_map(|statement| attribute(statement, "SessionIndex"));
    Ok(SamlStatement { name_id: name_id(assertion)?, attributes, session_index })
}

/// SAML Core section 2.2.3. An EncryptedID or BaseID is no NameID.
fn name_id(assertion: Node<'_, '_>) -> Result<Option<NameId>, Fault> {
    let twice = |error: crate::pipeline::capture::saml::GuardError| Fault::Malformed(error.to_string());
    let Some(subject) = only(assertion, ASSERTION, "Subject").map_err(twice)? else { return Ok(None) };
    let Some(element) = only(subject, ASSERTION, "NameID").map_err(twice)? else { return Ok(None) };
    let value = text(element).ok_or_else(|| Fault::Malformed("`NameID` has child elements; expected text".into()))?;
    Ok(Some(NameId { value, format: attribute(element, "Format") }))
}

/// SAML Core section 2.7.3.1.
fn read_attribute(element: Node<'_, '_>) -> Result<SamlAttribute, Fault> {
    if !is(element, ASSERTION, "Attribute") {
        // An EncryptedAttribute may hold groups: passing over it would take them away.
        let name: String = element.tag_name().name().chars().take(100).collect();
        return Err(Fault::Malformed(format!("an attribute statement holds `{name}`; expected `Attribute`")));
    }
    let name = attribute(element, "Name").ok_or_else(|| Fault::Malformed("an `Attribute` has no `Name`".into()))?;
    let values = named(element, ASSERTION, "AttributeValue").map(read_value).collect();
    Ok(SamlAttribute { name, friendly_name: attribute(element, "FriendlyName"), values })
}

fn read_value(element: Node<'_, '_>) -> SamlValue {
    match (element.attribute((XML_SCHEMA_INSTANCE, "nil")), text(element)) {
        (Some("true" | "1"), _) => SamlValue::Nil,
        (_, Some(text)) => SamlValue::Text(text),
        (_, None) => SamlValue::Structured,
    }
}
