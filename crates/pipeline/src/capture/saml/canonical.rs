//! Exclusive XML Canonicalization 1.0 without comments (W3C Recommendation of 18 July 2002), InclusiveNamespaces included.
//!
//! An error here can refuse a genuine login, and never lets a forged one in: whatever comes out counts only where the
//! provider's key signed exactly these bytes (`verify/saml/signature.rs`).

use roxmltree::{Attribute, Node};

use super::GuardError;
use super::survey::divide;

/// The most that a document may grow. Real ones grow by a half: 200 values declare again what stood once around them.
const GROWTH: usize = 8;
const ROOM: usize = 64 * 1024;

/// Writes an element without one of its descendants.
///
/// `prefixes` is the InclusiveNamespaces PrefixList, `#default` as the empty prefix. The document must have passed the
/// survey: this calls itself once for each level of nesting.
///
/// # Errors
/// When the form grows past eight times the document (`GuardError::Growth`).
pub(crate) fn canonical(
    element: Node<'_, '_>,
    without: Option<Node<'_, '_>>,
    prefixes: &[String],
) -> Result<String, GuardError> {
    let text = element.document().input_text();
    let limit = text.len().saturating_mul(GROWTH).saturating_add(ROOM);
    let out = String::with_capacity(element.range().len());
    let mut writer =
        Writer { out, limit, text, apex: element, without, prefixes, written: Vec::new(), attributes: Vec::new() };
    writer.element(element)?;
    Ok(writer.out)
}

struct Writer<'a, 'input> {
    out: String,
    limit: usize,
    /// The document, for names with their prefixes: the tree has forgotten them.
    text: &'input str,
    apex: Node<'a, 'input>,
    without: Option<Node<'a, 'input>>,
    prefixes: &'a [String],
    /// Prefix and name of each declaration that the open elements have written, the innermost last.
    written: Vec<(&'a str, &'a str)>,
    /// Those of the open elements: room that is used again and again.
    attributes: Vec<Attribute<'a, 'input>>,
}

impl<'a, 'input> Writer<'a, 'input> {
    fn element(&mut self, node: Node<'a, 'input>) -> Result<(), GuardError> {
        let name = self.tag_name(node);
        let (namespaces, attributes) = (self.written.len(), self.attributes.len());
        self.collect(node, name);
        self.out.push('<');
        self.out.push_str(name);
        for (prefix, uri) in self.written.get(namespaces..).unwrap_or_default() {
            self.out.push_str(if prefix.is_empty() { " xmlns" } else { " xmlns:" });
            self.out.push_str(prefix);
            write_value(&mut self.out, uri);
        }
        for attribute in self.attributes.get(attributes..).unwrap_or_default() {
            self.out.push(' ');
            self.out.push_str(self.text.get(attribute.range_qname()).unwrap_or_default());
            write_value(&mut self.out, attribute.value());
        }
        self.attributes.truncate(attributes);
        self.out.push('>');
        for child in node.children() {
            if Some(child) == self.without {
                continue;
            }
            match child.text() {
                Some(text) if child.is_text() => escape(&mut self.out, text, in_text),
                _ if child.is_element() => self.element(child)?,
                // Comments have no canonical form here, and the guard refuses instructions.
                _ => {}
            }
            if self.out.len() > self.limit {
                return Err(GuardError::Growth);
            }
        }
        self.written.truncate(namespaces);
        self.out.push_str("</");
        self.out.push_str(name);
        self.out.push('>');
        if self.out.len() > self.limit { Err(GuardError::Growth) } else { Ok(()) }
    }

    /// Finds what an element's start tag holds, in the order of Canonical XML section 2.2: namespaces by prefix, then
    /// attributes by the name of their namespace and their own.
    fn collect(&mut self, node: Node<'a, 'input>, name: &str) {
        let (namespaces, attributes) = (self.written.len(), self.attributes.len());
        self.utilize(node, divide(name, b':').map_or("", |(prefix, _)| prefix));
        for attribute in node.attributes() {
            self.attributes.push(attribute);
            let prefix = self.text.get(attribute.range_qname()).and_then(|name| divide(name, b':'));
            if let Some((prefix, _)) = prefix {
                self.utilize(node, prefix);
            }
        }
        // Where nothing is declared, what was written around it holds for these too.
        let parent = node.parent_element().filter(|_| node != self.apex);
        if !parent.is_some_and(|parent| same_scope(node, parent)) {
            for prefix in self.prefixes {
                self.utilize(node, prefix);
            }
        }
        if let Some(declarations) = self.written.get_mut(namespaces..) {
            declarations.sort_unstable_by_key(|(prefix, _)| *prefix);
        }
        if let Some(attributes) = self.attributes.get_mut(attributes..) {
            attributes.sort_unstable_by_key(|attribute| (attribute.namespace().unwrap_or_default(), attribute.name()));
        }
    }

    /// Notes a prefix's declaration unless the innermost one that was written says the same (section 3, rule 3).
    fn utilize(&mut self, node: Node<'a, 'input>, prefix: &str) {
        if prefix == "xml" {
            return;
        }
        let found = node.namespaces().find(|namespace| namespace.name().unwrap_or_default() == prefix);
        if found.is_none() && !prefix.is_empty() {
            return;
        }
        let (prefix, uri) = found.map_or(("", ""), |namespace| (namespace.name().unwrap_or_default(), namespace.uri()));
        let known = self.written.iter().rev().find(|(known, _)| *known == prefix).map_or("", |(_, uri)| *uri);
        if uri != known {
            self.written.push((prefix, uri));
        }
    }

    fn tag_name(&self, node: Node<'a, 'input>) -> &'input str {
        let tag = self.text.get(node.range()).and_then(|tag| tag.strip_prefix('<')).unwrap_or_default();
        let end = tag.bytes().position(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b'/' | b'>'));
        tag.get(..end.unwrap_or_default()).unwrap_or_default()
    }
}

fn same_scope(node: Node<'_, '_>, parent: Node<'_, '_>) -> bool {
    let (own, around) = (node.namespaces(), parent.namespaces());
    own.len() == around.len() && own.zip(around).all(|(own, around)| std::ptr::eq(own, around))
}

fn write_value(out: &mut String, value: &str) {
    out.push_str("=\"");
    escape(out, value, in_value);
    out.push('"');
}

/// Canonical XML section 2.3, text nodes.
fn in_text(byte: u8) -> Option<&'static str> {
    match byte {
        b'&' => Some("&amp;"),
        b'<' => Some("&lt;"),
        b'>' => Some("&gt;"),
        b'\r' => Some("&#xD;"),
        _ => None,
    }
}

/// Canonical XML section 2.3, attribute nodes.
fn in_value(byte: u8) -> Option<&'static str> {
    match byte {
        b'&' => Some("&amp;"),
        b'<' => Some("&lt;"),
        b'"' => Some("&quot;"),
        b'\t' => Some("&#x9;"),
        b'\n' => Some("&#xA;"),
        b'\r' => Some("&#xD;"),
        _ => None,
    }
}

fn escape(out: &mut String, text: &str, escaped: impl Fn(u8) -> Option<&'static str>) {
    let mut plain = 0;
    for (at, byte) in text.bytes().enumerate() {
        if let Some(escaped) = escaped(byte) {
            out.push_str(text.get(plain..at).unwrap_or_default());
            out.push_str(escaped);
            plain = at + 1;
        }
    }
    out.push_str(text.get(plain..).unwrap_or_default());
}

#[cfg(test)]
mod tests;
