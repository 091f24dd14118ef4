//! Reads what a verified assertion says of its subject.

use roxmltree::Node;

use super::super::Fault;
use super::{NameId, SamlAttribute, SamlStatement, SamlValue};
use crate::capture::saml::GuardError;
use crate::capture::saml::names::{ASSERTION, XML_SCHEMA_INSTANCE};
use crate::capture::saml::tree::{attribute, elements, is, named, only, text};
use crate::provider::SamlPolicy;

/// Reads subject, attributes and session of an assertion.
pub(super) fn read(assertion: Node<'_, '_>, policy: &SamlPolicy) -> Result<SamlStatement, Fault> {
    let mut attributes = Vec::new();
    for statement in named(assertion, ASSERTION, "AttributeStatement") {
        for element in elements(statement) {
            attributes.push(read_attribute(element)?);
        }
    }
    let session_index =
        named(assertion, ASSERTION, "AuthnStatement").find_map(|statement| attribute(statement, "SessionIndex"));
    let twice = |error: GuardError| Fault::Malformed(error.to_string());
    let subject = only(assertion, ASSERTION, "Subject").map_err(twice)?;
    let name_id = match subject {
        Some(subject) => only(subject, ASSERTION, "NameID").map_err(twice)?.map(name_id).transpose()?,
        None => None,
    };
    let encrypted = |subject: Node<'_, '_>| named(subject, ASSERTION, "EncryptedID").next().is_some();
    Ok(SamlStatement {
        encrypted_id: name_id.is_none() && subject.is_some_and(encrypted),
        name_id,
        attributes,
        session_index,
        by_name_alone: !policy.friendly_names,
        context_classes: context_classes(assertion),
    })
}

/// SAML Core section 2.2.3. An EncryptedID or BaseID is no NameID.
fn name_id(element: Node<'_, '_>) -> Result<NameId, Fault> {
    let value = text(element).ok_or_else(|| Fault::Malformed("`NameID` has child elements; expected text".into()))?;
    Ok(NameId {
        value,
        format: attribute(element, "Format"),
        name_qualifier: attribute(element, "NameQualifier"),
        sp_name_qualifier: attribute(element, "SPNameQualifier"),
    })
}

/// SAML Core section 2.7.2.2. The type is an address, whose blanks at the ends are none of it.
fn context_classes(assertion: Node<'_, '_>) -> Vec<String> {
    let statements = named(assertion, ASSERTION, "AuthnStatement");
    let contexts = statements.flat_map(|statement| named(statement, ASSERTION, "AuthnContext"));
    let classes = contexts.flat_map(|context| named(context, ASSERTION, "AuthnContextClassRef"));
    classes.filter_map(text).map(|class| class.trim().to_owned()).filter(|class| !class.is_empty()).collect()
}

/// SAML Core section 2.7.3.1.
fn read_attribute(element: Node<'_, '_>) -> Result<SamlAttribute, Fault> {
    if !is(element, ASSERTION, "Attribute") {
        // An EncryptedAttribute may hold groups: passing over it would take them away.
        if is(element, ASSERTION, "EncryptedAttribute") {
            let message = "an attribute is encrypted by itself (`EncryptedAttribute`), which is not opened; have the provider \
                           encrypt the whole assertion instead";
            return Err(Fault::Malformed(message.into()));
        }
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
        (_, None) => nested_name(element).map_or(SamlValue::Structured, SamlValue::Text),
    }
}

/// The text of a value that is one NameID, as eduPersonTargetedID is. With qualifiers it is the form that Shibboleth gives it,
/// `NameQualifier!SPNameQualifier!value`: without them two providers' names could be one.
fn nested_name(value: Node<'_, '_>) -> Option<String> {
    let is_blank = |child: Node<'_, '_>| !child.is_element() && child.text().unwrap_or_default().trim().is_empty();
    let mut children = value.children().filter(|child| !is_blank(*child));
    let (element, None) = (children.next()?, children.next()) else { return None };
    if !is(element, ASSERTION, "NameID") {
        return None;
    }
    let NameId { value, format: _, name_qualifier, sp_name_qualifier } = name_id(element).ok()?;
    match (name_qualifier, sp_name_qualifier) {
        (None, None) => Some(value),
        (name, sp) => Some(format!("{}!{}!{value}", name.unwrap_or_default(), sp.unwrap_or_default())),
    }
}
