//! XML that we write ourselves. Every value is escaped, so that none of them can end the element that it stands in.

/// An element with its attributes and what is in it.
pub struct Element {
    name: &'static str,
    attributes: String,
    content: String,
}

impl Element {
    pub fn new(name: &'static str) -> Self {
        Self { name, attributes: String::new(), content: String::new() }
    }

    /// An attribute or a namespace declaration.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.attributes.push(' ');
        self.attributes.push_str(name);
        self.attributes.push_str("=\"");
        escape(&mut self.attributes, value);
        self.attributes.push('"');
        self
    }

    /// An attribute, where there is a value for it.
    pub fn with_any(self, name: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    pub fn text(mut self, text: &str) -> Self {
        escape(&mut self.content, text);
        self
    }

    /// What is within, one after the other.
    pub fn holding(mut self, children: impl IntoIterator<Item = Element>) -> Self {
        for child in children {
            child.write(&mut self.content);
        }
        self
    }

    /// The element as a document without a declaration.
    pub fn finish(self) -> String {
        let mut out = String::with_capacity(2 * self.name.len() + self.attributes.len() + self.content.len() + 5);
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) {
        let Self { name, attributes, content } = self;
        out.push('<');
        out.push_str(name);
        out.push_str(attributes);
        if content.is_empty() {
            out.push_str("/>");
            return;
        }
        out.push('>');
        out.push_str(content);
        out.push_str("</");
        out.push_str(name);
        out.push('>');
    }
}

/// For text and for quoted values. White space that a parser would turn into blanks is written as a reference (XML 1.0
/// section 3.3.3), and a character that XML has no way to write (section 2.2) as the one that stands for unknown ones.
fn escape(out: &mut String, text: &str) {
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            '\t' => out.push_str("&#9;"),
            '\n' => out.push_str("&#10;"),
            '\r' => out.push_str("&#13;"),
            '\0'..=' ' if letter != ' ' => out.push('\u{fffd}'),
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            other => out.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_gets_out_of_its_place() {
        let odd = "\" a='b'/><x>&amp;\r\n\t\u{0}\u{1f}\u{ffff}\u{e9}]]>";
        let text = Element::new("p:a").with("xmlns:p", "urn:p").with("v", odd).holding([
            Element::new("p:b").text(odd),
            Element::new("p:c").with_any("none", None).with_any("some", Some("")),
        ]);
        let text = text.finish();
        let document = roxmltree::Document::parse(&text).unwrap();
        let root = document.root_element();
        let read = odd.replace(['\0', '\u{1f}', '\u{ffff}'], "\u{fffd}");
        assert_eq!(root.attribute("v"), Some(read.as_str()));
        let children: Vec<_> = root.children().collect();
        assert_eq!(children.len(), 2, "{text}");
        assert_eq!(children[0].text(), Some(read.as_str()));
        assert_eq!((children[1].attribute("some"), children[1].attributes().len()), (Some(""), 1));
    }
}
