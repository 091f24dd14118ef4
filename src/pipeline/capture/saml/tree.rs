//! Strict XML: the raw survey, the one parser, and the few questions asked of a tree.
//!
//! The survey is a single pass over the bytes before any parser sees them. It refuses what no SAML message needs and some
//! parser somewhere reads in its own way (document types, comments, processing instructions, other encodings), and it
//! bounds what makes a parser slow: depth, attributes of one element, namespaces in scope.

use roxmltree::{Document, Node, ParsingOptions};

use super::GuardError;

/// A SAML response is nine levels deep; structured attribute values add a few.
const MAX_DEPTH: usize = 48;
const MAX_ATTRIBUTES: usize = 48;
/// The parser compares every namespace in scope with every other at each element that declares one.
const MAX_NAMESPACES: usize = 32;
/// So many such comparisons in one document. 20,000 values that each declare two of eight namespaces take 1.3 million.
const MAX_COMPARISONS: usize = 2_000_000;
/// The signature library looks at each several times. A response with 20,000 groups stays below.
const MAX_ELEMENTS: usize = 25_000;
/// Elements and texts, of which each element has at most two around it.
const MAX_NODES: u32 = 100_000;

/// Parses a document that passed the survey.
///
/// # Errors
/// When the text is no well-formed XML 1.0 in UTF-8, or holds what the survey refuses.
pub(in crate::pipeline) fn parse(text: &str) -> Result<Document<'_>, GuardError> {
    survey(text)?;
    let options = ParsingOptions { allow_dtd: false, nodes_limit: MAX_NODES, ..ParsingOptions::default() };
    Document::parse_with_options(text, options).map_err(|error| GuardError::Xml(error.to_string()))
}

fn survey(text: &str) -> Result<(), GuardError> {
    // XML 1.0 section 2.2. Parsers differ on what they do with the others.
    if text.bytes().any(|byte| byte < b' ' && !matches!(byte, b'\t' | b'\n' | b'\r')) {
        return Err(GuardError::Control);
    }
    let mut rest = after_declaration(text)?;
    // Namespaces in scope at each open element.
    let mut open: Vec<usize> = Vec::new();
    let (mut elements, mut comparisons) = (0, 0);
    while let Some((_, markup)) = rest.split_once('<') {
        rest = match markup.as_bytes() {
            [b'!', b'[', ..] => after(markup, "]]>")?,
            [b'!', b'-', ..] => return Err(GuardError::Comment),
            [b'!', ..] => return Err(GuardError::DocumentType),
            [b'?', ..] => return Err(GuardError::ProcessingInstruction),
            [b'/', ..] => {
                open.pop();
                after(markup, ">")?
            }
            _ => {
                elements += 1;
                if elements > MAX_ELEMENTS {
                    return Err(GuardError::Elements);
                }
                let (tag, rest) = start_tag(markup)?;
                let declared = tag.matches("xmlns").count();
                let in_scope = open.last().copied().unwrap_or_default() + declared;
                comparisons += if declared > 0 { in_scope * in_scope } else { 0 };
                if in_scope > MAX_NAMESPACES || comparisons > MAX_COMPARISONS {
                    return Err(GuardError::Namespaces);
                }
                if unbinds_prefix(tag) {
                    return Err(GuardError::UnboundPrefix);
                }
                if !tag.ends_with('/') {
                    open.push(in_scope);
                }
                rest
            }
        };
        if open.len() > MAX_DEPTH {
            return Err(GuardError::Depth);
        }
    }
    Ok(())
}

/// What follows an XML declaration, where there is one. The XML library believes the encoding that is named here.
fn after_declaration(text: &str) -> Result<&str, GuardError> {
    let declaration = text.strip_prefix("<?xml").filter(|rest| rest.starts_with([' ', '\t', '\r', '\n']));
    let Some(declaration) = declaration else { return Ok(text) };
    let Some((declaration, rest)) = declaration.split_once("?>") else { return Err(unfinished()) };
    let plain: String = declaration.chars().map(|c| if c == '\'' { '"' } else { c }).collect();
    let plain = plain.to_ascii_lowercase();
    let encoding = plain.split_once("encoding").map(|(_, after)| after.split('"').nth(1).unwrap_or_default());
    match encoding {
        None | Some("utf-8") => Ok(rest),
        Some(other) => Err(GuardError::Encoding(other.chars().take(40).collect())),
    }
}

/// Divides what follows a `<` into the inside of the tag and what comes after its `>`.
fn start_tag(markup: &str) -> Result<(&str, &str), GuardError> {
    let (mut quote, mut attributes) = (None, 0);
    for (at, byte) in markup.bytes().enumerate() {
        match (quote, byte) {
            (Some(open), _) if open == byte => quote = None,
            (None, b'"' | b'\'') => {
                quote = Some(byte);
                attributes += 1;
                if attributes > MAX_ATTRIBUTES {
                    return Err(GuardError::Attributes);
                }
            }
            (None, b'>') => {
                return Ok((markup.get(..at).unwrap_or_default(), markup.get(at + 1..).unwrap_or_default()));
            }
            _ => {}
        }
    }
    Err(unfinished())
}

/// Namespaces in XML 1.0 section 2.2 forbids `xmlns:p=""`. The library passes over it where the parser here obeys, so that
/// one element would have two names.
fn unbinds_prefix(tag: &str) -> bool {
    tag.split("xmlns:").skip(1).any(|declaration| {
        let value = declaration.split_once('=').map_or("", |(_, value)| value.trim_start());
        value.starts_with("\"\"") || value.starts_with("''")
    })
}

fn after<'a>(text: &'a str, end: &str) -> Result<&'a str, GuardError> {
    text.split_once(end).map(|(_, rest)| rest).ok_or_else(unfinished)
}

fn unfinished() -> GuardError {
    GuardError::Xml("the document ends within a tag".into())
}

/// Whether a node is the element of this name, in this namespace.
pub(in crate::pipeline) fn is(node: Node<'_, '_>, namespace: &str, name: &str) -> bool {
    node.is_element() && node.tag_name().name() == name && node.tag_name().namespace() == Some(namespace)
}

/// The child elements.
pub(in crate::pipeline) fn elements<'a, 'input: 'a>(
    node: Node<'a, 'input>,
) -> impl Iterator<Item = Node<'a, 'input>> + 'a {
    node.children().filter(Node::is_element)
}

/// The child elements of one name.
pub(in crate::pipeline) fn named<'a, 'input: 'a>(
    node: Node<'a, 'input>,
    namespace: &'a str,
    name: &'a str,
) -> impl Iterator<Item = Node<'a, 'input>> + 'a {
    node.children().filter(move |child| is(*child, namespace, name))
}

/// The one child element of a name; an error names it when there are more.
pub(in crate::pipeline) fn only<'a, 'input: 'a>(
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
pub(in crate::pipeline) fn text(node: Node<'_, '_>) -> Option<String> {
    let mut whole = String::new();
    for child in node.children() {
        if child.is_element() {
            return None;
        }
        whole.push_str(child.text().unwrap_or_default());
    }
    Some(whole)
}

/// An attribute's value; empty counts as absent.
pub(in crate::pipeline) fn attribute(node: Node<'_, '_>, name: &str) -> Option<String> {
    node.attribute(name).filter(|value| !value.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn what_no_message_needs_is_refused_before_a_parser_sees_it() {
        let control = "<a>\u{1}</a>";
        let cases: [(&str, GuardError); 8] = [
            ("<!DOCTYPE a><a/>", GuardError::DocumentType),
            ("<a><!-- x --></a>", GuardError::Comment),
            ("<?xml-stylesheet href='x'?><a/>", GuardError::ProcessingInstruction),
            ("<a><?php x ?></a>", GuardError::ProcessingInstruction),
            ("<?xml version='1.0' encoding='UTF-16'?><a/>", GuardError::Encoding("utf-16".into())),
            ("<?xml version=\"1.0\" encoding = \"UTF-7\"?><a/>", GuardError::Encoding("utf-7".into())),
            (control, GuardError::Control),
            ("<a b='", GuardError::Xml("the document ends within a tag".into())),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text).map(|_| ()), Err(expected), "{text}");
        }
        assert!(parse("<?xml version=\"1.0\" encoding=\"utf-8\"?><a b='>'><![CDATA[<!--]]></a>").is_ok());
    }

    #[test]
    fn what_makes_a_parser_slow_is_bounded() {
        let attributes: String = (0..80_000).map(|n| format!(" a{n}=''")).collect();
        let namespaces: String = (0..1_000_000).map(|n| format!(" xmlns:a{n}='u'")).collect();
        let cases = [
            ("<a>".repeat(100_000), GuardError::Depth),
            (format!("<a{attributes}/>"), GuardError::Attributes),
            (format!("<a{namespaces}/>"), GuardError::Attributes),
            ((0..200).map(|n| format!("<a xmlns:a{n}='u'>")).collect(), GuardError::Namespaces),
        ];
        for (text, expected) in cases {
            let before = Instant::now();
            assert_eq!(parse(&text).map(|_| ()), Err(expected));
            assert!(before.elapsed() < Duration::from_secs(2), "{:?}", before.elapsed());
        }
    }

    #[test]
    fn the_worst_that_passes_the_survey_is_still_quick() {
        let scope: String = (0..8).map(|n| format!(" xmlns:a{n}='u{n}'")).collect();
        let leaf = "<b xmlns='v'/>".repeat(MAX_ELEMENTS - 1);
        let document = format!("<a{scope}>{leaf}</a>");
        let before = Instant::now();
        assert_eq!(parse(&document).map(|_| ()), Err(GuardError::Namespaces));
        assert!(parse(&document.replacen(" xmlns:a7='u7'", "", 1)).is_ok());
        assert!(before.elapsed() < Duration::from_secs(2), "{:?}", before.elapsed());
    }
}
