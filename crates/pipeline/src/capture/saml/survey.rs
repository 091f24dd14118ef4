//! The raw survey: a single pass over the text of a document before any parser sees it.
//!
//! It refuses what no SAML message needs and some parser somewhere reads in its own way (document types, comments,
//! processing instructions, other encodings, odd namespace declarations), and it bounds what makes a parser or a
//! canonicalizer slow: depth, attributes of one element, namespaces in scope and the length of their names.

use std::ops::RangeInclusive;

use super::{GuardError, short};

/// A SAML response is nine levels deep; structured attribute values add a few.
const MAX_DEPTH: usize = 48;
const MAX_ATTRIBUTES: usize = 48;
/// The parser compares every namespace in scope with every other at each element that declares one.
const MAX_NAMESPACES: usize = 32;
/// So many such comparisons in one document. 20,000 values that each declare two of eight namespaces take 1.3 million.
const MAX_COMPARISONS: usize = 2_000_000;
/// In bytes. Canonicalization writes a name again at every sibling that uses it (Exclusive XML Canonicalization section
/// 3), so that one long name, declared once, multiplies.
const MAX_NAMESPACE_NAME: usize = 512;
/// A response with 20,000 groups stays below.
pub(super) const MAX_ELEMENTS: usize = 25_000;

const XML_CHARACTERS: [RangeInclusive<u32>; 6] =
    [0x9..=0x9, 0xA..=0xA, 0xD..=0xD, 0x20..=0xD7FF, 0xE000..=0xFFFD, 0x10000..=0x10FFFF];

/// # Errors
/// What the document holds that no SAML message needs.
pub(super) fn survey(text: &str) -> Result<(), GuardError> {
    check_characters(text)?;
    let mut rest = after_declaration(text)?;
    // Namespaces in scope at each open element.
    let mut open: Vec<usize> = Vec::new();
    let (mut elements, mut comparisons) = (0, 0);
    while let Some((before, markup)) = divide(rest, b'<') {
        check_references(before)?;
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
                let in_scope = open.last().copied().unwrap_or_default() + tag.declared;
                comparisons += if tag.declared > 0 { in_scope * in_scope } else { 0 };
                if in_scope > MAX_NAMESPACES || comparisons > MAX_COMPARISONS {
                    return Err(GuardError::Namespaces);
                }
                if !tag.empty {
                    open.push(in_scope);
                }
                rest
            }
        };
        if open.len() > MAX_DEPTH {
            return Err(GuardError::Depth);
        }
    }
    check_references(rest)
}

/// XML 1.0 section 2.2. Parsers differ on what they do with characters that it does not allow.
fn check_characters(text: &str) -> Result<(), GuardError> {
    let bytes = text.as_bytes();
    // Without a branch, so that many are looked at together.
    let control = |byte: &u8| (*byte < b' ') & (*byte != b'\t') & (*byte != b'\n') & (*byte != b'\r');
    let has_control = |some: &[u8]| some.iter().fold(false, |any, byte| any | control(byte));
    // U+FFFE and U+FFFF.
    let outside = |at: usize| matches!(bytes.get(at..at + 3), Some([_, 0xBF, 0xBE | 0xBF]));
    if bytes.chunks(64).any(has_control) || memchr::memchr_iter(0xEF, bytes).any(outside) {
        return Err(GuardError::Control);
    }
    Ok(())
}

/// XML 1.0 section 4.1: a reference names a character, or one of the five entities that need no declaration.
fn check_references(text: &str) -> Result<(), GuardError> {
    if memchr::memchr(b'&', text.as_bytes()).is_none() {
        return Ok(());
    }
    for reference in text.split('&').skip(1) {
        let name = reference.split_once(';').map_or("", |(name, _)| name);
        let known = match name.strip_prefix('#') {
            Some(number) => names_a_character(number),
            None => matches!(name, "amp" | "lt" | "gt" | "quot" | "apos"),
        };
        if !known {
            return Err(ill_formed("a reference names no character"));
        }
    }
    Ok(())
}

fn names_a_character(number: &str) -> bool {
    let (digits, radix) = match number.strip_prefix('x') {
        Some(digits) => (digits, 16),
        None => (number, 10),
    };
    // The library would take a sign before the digits.
    digits.chars().all(|digit| digit.is_digit(radix))
        && u32::from_str_radix(digits, radix)
            .is_ok_and(|code| XML_CHARACTERS.iter().any(|allowed| allowed.contains(&code)))
}

/// What follows an XML declaration (XML 1.0 section 2.8), where there is one. Other versions and encodings are refused:
/// a parser that believes them reads another document.
fn after_declaration(text: &str) -> Result<&str, GuardError> {
    let declaration = text.strip_prefix("<?xml").filter(|rest| rest.starts_with(is_space));
    let Some(declaration) = declaration else { return Ok(text) };
    let Some((mut fields, rest)) = declaration.split_once("?>") else { return Err(unfinished()) };
    let mut expected = ["version", "encoding", "standalone"].iter();
    let mut versioned = false;
    while let Some(field) = attribute(fields)? {
        fields = field.rest;
        if !expected.any(|name| *name == field.name) {
            return Err(ill_formed("the XML declaration is not version, encoding, standalone"));
        }
        match field.name {
            "version" if field.value != "1.0" => return Err(GuardError::Version(short(field.value))),
            "version" => versioned = true,
            "encoding" if !field.value.eq_ignore_ascii_case("utf-8") => {
                return Err(GuardError::Encoding(short(&field.value.to_ascii_lowercase())));
            }
            "standalone" if !matches!(field.value, "yes" | "no") => {
                return Err(ill_formed("`standalone` is neither `yes` nor `no`"));
            }
            _ => {}
        }
    }
    if !versioned || !fields.trim_start_matches(is_space).is_empty() {
        return Err(ill_formed("the XML declaration is not version, encoding, standalone"));
    }
    Ok(rest)
}

struct Tag {
    /// Namespace declarations.
    declared: usize,
    /// Whether it is its own end tag.
    empty: bool,
}

/// Reads what follows a `<`, and gives what comes after the tag's `>`.
fn start_tag(markup: &str) -> Result<(Tag, &str), GuardError> {
    let end = markup.bytes().position(ends_a_name).ok_or_else(unfinished)?;
    let (name, mut rest) = markup.split_at_checked(end).ok_or_else(unfinished)?;
    check_name(name)?;
    let mut declared = Declared { prefixes: [""; MAX_NAMESPACES], count: 0 };
    let mut attributes = 0;
    while let Some(found) = attribute(rest)? {
        attributes += 1;
        if attributes > MAX_ATTRIBUTES {
            return Err(GuardError::Attributes);
        }
        check_name(found.name)?;
        check_references(found.value)?;
        declared.take(found.name, found.value)?;
        rest = found.rest;
    }
    let end = rest.trim_start_matches(is_space);
    let (empty, end) = match end.strip_prefix('/') {
        Some(end) => (true, end),
        None => (false, end),
    };
    match end.strip_prefix('>') {
        Some(rest) => Ok((Tag { declared: declared.count, empty }, rest)),
        None if end.is_empty() => Err(unfinished()),
        None => Err(ill_formed("a tag does not end where it should")),
    }
}

struct Attribute<'a> {
    name: &'a str,
    value: &'a str,
    rest: &'a str,
}

/// The attribute with which a text begins, white space before it; `None` where a tag or declaration ends.
fn attribute(text: &str) -> Result<Option<Attribute<'_>>, GuardError> {
    let text = text.trim_start_matches(is_space);
    if text.is_empty() || text.starts_with(['/', '>']) {
        return Ok(None);
    }
    let end = text.bytes().position(|byte| ends_a_name(byte) || byte == b'=').ok_or_else(unfinished)?;
    let (name, rest) = text.split_at_checked(end).ok_or_else(unfinished)?;
    let value = rest.trim_start_matches(is_space).strip_prefix('=').map(|value| value.trim_start_matches(is_space));
    let value = value.ok_or_else(|| ill_formed("an attribute has no value"))?;
    let quote = value.bytes().next().filter(|quote| matches!(quote, b'"' | b'\''));
    let (Some(quote), Some(value)) = (quote, value.get(1..)) else {
        return Err(ill_formed("an attribute's value has no quotes"));
    };
    let (value, rest) = divide(value, quote).ok_or_else(unfinished)?;
    Ok(Some(Attribute { name, value, rest }))
}

/// The prefixes that one start tag declares; an empty one stands for the default namespace.
struct Declared<'a> {
    prefixes: [&'a str; MAX_NAMESPACES],
    count: usize,
}

impl<'a> Declared<'a> {
    /// Takes an attribute that may be a namespace declaration. Each rule is one that some parser breaks, so that one
    /// element would have two names.
    fn take(&mut self, name: &'a str, value: &str) -> Result<(), GuardError> {
        let prefix = match divide(name, b':') {
            None if name == "xmlns" => "",
            Some(("xmlns", "xmlns")) => return Err(GuardError::Namespace("declares the prefix `xmlns`")),
            Some(("xmlns", prefix)) => prefix,
            // The parser here takes it for a declaration of the default namespace.
            Some((_, "xmlns")) => return Err(GuardError::Namespace("is called `xmlns` in another namespace")),
            _ => return Ok(()),
        };
        // Namespaces in XML 1.0 section 2.2 forbids `xmlns:p=""`.
        if value.is_empty() && !prefix.is_empty() {
            return Err(GuardError::UnboundPrefix);
        }
        if value.len() > MAX_NAMESPACE_NAME {
            return Err(GuardError::NamespaceName);
        }
        if !value.is_empty() && !is_absolute(value) {
            return Err(GuardError::Namespace("names something else than an absolute URI"));
        }
        let known = self.prefixes.get(..self.count).unwrap_or_default();
        if known.contains(&prefix) {
            return Err(GuardError::Namespace("stands twice in one tag"));
        }
        *self.prefixes.get_mut(self.count).ok_or(GuardError::Namespaces)? = prefix;
        self.count += 1;
        Ok(())
    }
}

/// RFC 3986 section 4.3, as far as its characters go. Canonical XML section 1.3 gives relative ones no canonical form.
/// References are refused with them: libraries disagree on how to write them again.
fn is_absolute(uri: &str) -> bool {
    let Some((scheme, rest)) = uri.split_once(':') else { return false };
    let of_uri = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:/?#[]@!$'()*+,;=%".contains(&byte);
    scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
        && rest.bytes().all(of_uri)
}

/// Namespaces in XML 1.0 section 4: one colon at most, with a name on both sides of it. The parser checks the letters.
fn check_name(name: &str) -> Result<(), GuardError> {
    let begins_a_name = |part: &str| part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || !c.is_ascii());
    let qualified = match divide(name, b':') {
        Some((prefix, local)) => {
            begins_a_name(prefix) && begins_a_name(local) && !local.bytes().any(|byte| byte == b':')
        }
        None => begins_a_name(name),
    };
    if qualified { Ok(()) } else { Err(ill_formed("a tag or an attribute has no qualified name")) }
}

fn ends_a_name(byte: u8) -> bool {
    is_space(char::from(byte)) || matches!(byte, b'/' | b'>')
}

/// What stands before the first of an ASCII character, and what behind it.
pub(super) fn divide(text: &str, at: u8) -> Option<(&str, &str)> {
    let end = memchr::memchr(at, text.as_bytes())?;
    Some((text.get(..end)?, text.get(end + 1..)?))
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

fn after<'a>(text: &'a str, end: &str) -> Result<&'a str, GuardError> {
    text.split_once(end).map(|(_, rest)| rest).ok_or_else(unfinished)
}

fn unfinished() -> GuardError {
    ill_formed("the document ends within a tag")
}

fn ill_formed(why: &str) -> GuardError {
    GuardError::Xml(why.to_owned())
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::*;

    /// Of this thread so far: it does not grow while other tests run. Zero where the system does not tell.
    pub(in crate::capture::saml) fn processor_time() -> Duration {
        let spent = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
        Duration::from_nanos(spent.split(' ').next().and_then(|spent| spent.parse().ok()).unwrap_or_default())
    }

    #[test]
    fn what_no_message_needs_is_refused_before_a_parser_sees_it() {
        let control = "<a>\u{1}</a>";
        let namespace = GuardError::Namespace;
        let cases: [(&str, GuardError); 34] = [
            ("<!DOCTYPE a><a/>", GuardError::DocumentType),
            ("<a><!-- x --></a>", GuardError::Comment),
            ("<?xml-stylesheet href='x'?><a/>", GuardError::ProcessingInstruction),
            ("<a><?php x ?></a>", GuardError::ProcessingInstruction),
            ("<?xml?><a/>", GuardError::ProcessingInstruction),
            ("<?xml version='1.0' encoding='UTF-16'?><a/>", GuardError::Encoding("utf-16".into())),
            ("<?xml version=\"1.0\" encoding = \"UTF-7\"?><a/>", GuardError::Encoding("utf-7".into())),
            ("<?xml version='1.1'?><a/>", GuardError::Version("1.1".into())),
            ("<?xml version=\"2.0\" encoding='utf-8'?><a/>", GuardError::Version("2.0".into())),
            ("<?xml version='1.0' version='1.0'?><a/>", ill_formed(DECLARATION)),
            ("<?xml encoding='utf-8' version='1.0'?><a/>", ill_formed(DECLARATION)),
            ("<?xml encoding='utf-8'?><a/>", ill_formed(DECLARATION)),
            ("<?xml ?><a/>", ill_formed(DECLARATION)),
            ("<?xml version='1.0' standalone='no' x='y'?><a/>", ill_formed(DECLARATION)),
            ("<?xml version='1.0'", unfinished()),
            (control, GuardError::Control),
            ("<a>\u{ffff}</a>", GuardError::Control),
            ("<a b='", unfinished()),
            ("<a b=c/>", ill_formed("an attribute's value has no quotes")),
            ("<a b/>", ill_formed("an attribute has no value")),
            ("<a/ >", ill_formed("a tag does not end where it should")),
            ("<a xmlns:e='urn:e' e:xmlns='urn:x'/>", namespace("is called `xmlns` in another namespace")),
            ("<a xmlns='urn:1' xmlns='urn:2'/>", namespace("stands twice in one tag")),
            ("<a xmlns:p='urn:1' xmlns:p = 'urn:1'/>", namespace("stands twice in one tag")),
            ("<a xmlns:xmlns='urn:x'/>", namespace("declares the prefix `xmlns`")),
            ("<a xmlns='foo'/>", namespace("names something else than an absolute URI")),
            ("<a xmlns:p='urn:&quot;x'/>", namespace("names something else than an absolute URI")),
            ("<a xmlns:p='urn:a b'/>", namespace("names something else than an absolute URI")),
            ("<a xmlns:p='1urn:x'/>", namespace("names something else than an absolute URI")),
            ("<a xmlns:x = ''/>", GuardError::UnboundPrefix),
            ("<a>&#x110000;</a>", ill_formed("a reference names no character")),
            ("<a b='&#xD800;'/>", ill_formed("a reference names no character")),
            ("<a>&#+65;</a>", ill_formed("a reference names no character")),
            ("<a>&nbsp;</a>", ill_formed("a reference names no character")),
        ];
        for (text, expected) in cases {
            assert_eq!(survey(text), Err(expected), "{text}");
        }
        for name in [":a", "a:", "a:b:c", "a:1", "1a", "-a", "a::b"] {
            let expected = Err(ill_formed("a tag or an attribute has no qualified name"));
            assert_eq!(survey(&format!("<{name}/>")), expected, "{name}");
            assert_eq!(survey(&format!("<b {name}='' />")), expected, "{name}");
        }
        let good = "<?xml version=\"1.0\" encoding=\"utf-8\" standalone='yes' ?><a b='>' xmlns:xml='http://www.w3.org/XML/1998/namespace'\
            \u{20}xmlns = ''><![CDATA[<!--&]]>&#10;&#x1F600;&amp;<p:a xmlns:p=\"urn:x\" p:b='/'\n/></a >";
        assert_eq!(survey(good), Ok(()));
    }

    const DECLARATION: &str = "the XML declaration is not version, encoding, standalone";

    #[test]
    fn a_namespace_name_has_a_limit_that_real_ones_are_far_from() {
        let document = |length: usize| format!("<a xmlns:q='urn:{}'/>", "u".repeat(length - 4));
        assert_eq!(survey(&document(MAX_NAMESPACE_NAME)), Ok(()));
        assert_eq!(survey(&document(MAX_NAMESPACE_NAME + 1)), Err(GuardError::NamespaceName));
        assert_eq!(survey(&document(128_000)), Err(GuardError::NamespaceName));
    }

    #[test]
    fn what_makes_a_parser_slow_is_bounded() {
        let attributes: String = (0..80_000).map(|n| format!(" a{n}=''")).collect();
        let namespaces: String = (0..100_000).map(|n| format!(" xmlns:a{n}='urn:u'")).collect();
        let cases = [
            ("<a>".repeat(100_000), GuardError::Depth),
            (format!("<a{attributes}/>"), GuardError::Attributes),
            (format!("<a{namespaces}/>"), GuardError::Namespaces),
            ((0..200).map(|n| format!("<a xmlns:a{n}='urn:u'>")).collect(), GuardError::Namespaces),
            ("<a>&".repeat(100_000), ill_formed("a reference names no character")),
            (format!("<a {}", "b".repeat(1 << 20)), unfinished()),
        ];
        for (text, expected) in cases {
            let before = processor_time();
            assert_eq!(survey(&text), Err(expected));
            let took = processor_time().saturating_sub(before);
            assert!(took < Duration::from_secs(2), "{took:?}");
        }
    }
}
