//! Strict XML: the one parser, and the few questions asked of a tree.

use roxmltree::{Document, Node, ParsingOptions};

use super::GuardError;
use super::survey::survey;

/// Elements and texts, of which each element has at most two around it.
const MAX_NODES: u32 = 100_000;

/// Parses a document that passes the survey.
///
/// # Errors
/// When the text is not well-formed XML 1.0 in UTF-8, or holds what the survey refuses.
pub(crate) fn parse(text: &str) -> Result<Document<'_>, GuardError> {
    survey(text)?;
    let options = ParsingOptions { allow_dtd: false, nodes_limit: MAX_NODES, ..ParsingOptions::default() };
    Document::parse_with_options(text, options).map_err(|error| GuardError::Xml(error.to_string()))
}

/// Whether a node is the element of this name, in this namespace.
pub(crate) fn is(node: Node<'_, '_>, namespace: &str, name: &str) -> bool {
    node.is_element() && node.tag_name().name() == name && node.tag_name().namespace() == Some(namespace)
}

/// The child elements.
pub(crate) fn elements<'a, 'input: 'a>(node: Node<'a, 'input>) -> impl Iterator<Item = Node<'a, 'input>> + 'a {
    node.children().filter(Node::is_element)
}

/// The child elements of one name.
pub(crate) fn named<'a, 'input: 'a>(
    node: Node<'a, 'input>,
    namespace: &'a str,
    name: &'a str,
) -> impl Iterator<Item = Node<'a, 'input>> + 'a {
    node.children().filter(move |child| is(*child, namespace, name))
}

/// The one child element of a name; an error names it when there are more.
pub(crate) fn only<'a, 'input: 'a>(
    node: Node<'a, 'input>,
    namespace: &'a str,
    name: &'static str,
) -> Result<Option<Node<'a, 'input>>, GuardError> {
    let mut found = named(node, namespace, name);
    match (found.next(), found.next()) {
        (only, None) => Ok(only),
        _ => Err(GuardError::Repeated(name)),
    }
}

/// The whole text of an element that has no child elements; `None` where it has.
pub(crate) fn text(node: Node<'_, '_>) -> Option<String> {
    let mut whole = String::new();
    for child in node.children() {
        if child.is_element() {
            return None;
        }
        whole.push_str(child.text().unwrap_or_default());
    }
    Some(whole)
}

/// The value of an attribute in no namespace; empty counts as absent.
pub(crate) fn attribute(node: Node<'_, '_>, name: &str) -> Option<String> {
    plain(node, name).filter(|value| !value.is_empty()).map(str::to_owned)
}

/// The value of an attribute in no namespace. The library's own look-up by a name alone takes one of any namespace.
pub(crate) fn plain<'a>(node: Node<'a, '_>, name: &str) -> Option<&'a str> {
    node.attributes()
        .find(|attribute| attribute.namespace().is_none() && attribute.name() == name)
        .map(|attribute| attribute.value())
}

/// Whether there is an attribute of this name in no namespace.
pub(crate) fn has(node: Node<'_, '_>, name: &str) -> bool {
    plain(node, name).is_some()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::capture::saml::survey::MAX_ELEMENTS;
    use crate::capture::saml::survey::tests::processor_time;

    #[test]
    fn the_worst_that_passes_the_survey_is_still_quick() {
        let scope: String = (0..8).map(|n| format!(" xmlns:a{n}='urn:u{n}'")).collect();
        let leaf = "<b xmlns='urn:v'/>".repeat(MAX_ELEMENTS - 1);
        let document = format!("<a{scope}>{leaf}</a>");
        let before = processor_time();
        assert_eq!(parse(&document).map(|_| ()), Err(GuardError::Namespaces));
        assert!(parse(&document.replacen(" xmlns:a7='urn:u7'", "", 1)).is_ok());
        let took = processor_time().saturating_sub(before);
        assert!(took < Duration::from_secs(2), "{took:?}");
    }

    /// One quoted attribute of that name in no namespace, whatever else has it as its local name.
    #[test]
    fn an_attribute_of_another_namespace_is_another_attribute() {
        let document = parse("<a xmlns:x='urn:x' x:ID='other' x:B='other' ID='ours'/>").unwrap();
        assert_eq!(attribute(document.root_element(), "ID").as_deref(), Some("ours"));
        assert_eq!(attribute(document.root_element(), "B"), None);
        assert!(!has(document.root_element(), "B"));
    }
}
