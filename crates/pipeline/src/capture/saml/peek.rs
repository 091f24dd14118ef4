//! Small looks into messages that are not logins: what a document's root is called, and which request is leaving.

use std::io::Read as _;

use flate2::read::DeflateDecoder;

use super::names::PROTOCOL;
use super::tree;

/// A request that leaves, or an answer by redirect, in bytes once inflated. Real ones take one to four KiB.
const MAX_INFLATED: usize = 64 * 1024;
const MAX_NAME: usize = 100;

/// What the head of a document says of its root element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootName {
    /// Its name without a prefix.
    Known(String),
    /// The head ends before the name does.
    NeedMore,
    /// No XML in UTF-8 begins like this, or not any that a login needs.
    NotXml,
}

/// The root element's name by the first bytes of a document, which may end anywhere.
///
/// Nothing but an XML declaration and white space may stand before the root: another reader might see another root.
pub fn root_name(head: &[u8]) -> RootName {
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    let after_declaration = match head.strip_prefix(b"<?xml") {
        Some([space, rest @ ..]) if space.is_ascii_whitespace() => {
            match rest.windows(2).position(|pair| pair == b"?>") {
                Some(end) => rest.get(end + 2..).unwrap_or_default(),
                None if rest.len() > MAX_NAME || rest.contains(&b'<') => return RootName::NotXml,
                None => return RootName::NeedMore,
            }
        }
        Some([]) => return RootName::NeedMore,
        Some(_) => return RootName::NotXml,
        None => head,
    };
    let [b'<', name @ ..] = after_declaration.trim_ascii_start() else {
        let nothing_yet = after_declaration.trim_ascii_start().is_empty() || b"\xef\xbb\xbf".starts_with(head);
        return if nothing_yet { RootName::NeedMore } else { RootName::NotXml };
    };
    let Some(end) = name.iter().position(|byte| byte.is_ascii_whitespace() || matches!(byte, b'/' | b'>')) else {
        let declaration_begins = head.len() < 5 && b"<?xml".starts_with(head);
        let may_go_on = name.len() <= MAX_NAME && (declaration_begins || name.iter().copied().all(is_name_byte));
        return if may_go_on { RootName::NeedMore } else { RootName::NotXml };
    };
    let name = name.get(..end).unwrap_or_default();
    if name.is_empty() || name.len() > MAX_NAME || !name.iter().copied().all(is_name_byte) {
        return RootName::NotXml;
    }
    match std::str::from_utf8(name) {
        Ok(name) => RootName::Known(name.rsplit(':').next().unwrap_or_default().to_owned()),
        Err(_) => RootName::NotXml,
    }
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'_' | b'-' | b'.') || !byte.is_ascii()
}

/// The root element's name of a `SAMLResponse` in a query (redirect binding, SAML Bindings section 3.4.4.1), percent-decoded.
pub fn redirect_root_name(value: &str) -> RootName {
    match inflated(value) {
        Some(document) => match root_name(&document) {
            // It was the whole document.
            RootName::NeedMore => RootName::NotXml,
            name => name,
        },
        None => RootName::NotXml,
    }
}

/// The ID of the AuthnRequest in a `SAMLRequest` query value, percent-decoded; `None` where it is something else.
pub fn request_id_of_redirect(value: &str) -> Option<String> {
    request_id(&inflated(value)?)
}

/// The ID of the AuthnRequest in a `SAMLRequest` form field; `None` where it is something else.
pub fn request_id_of_post(value: &str) -> Option<String> {
    request_id(&super::decode(value, MAX_INFLATED).ok()?)
}

/// Base64 over raw DEFLATE. A document that inflates past the limit is none.
pub(super) fn inflated(value: &str) -> Option<Vec<u8>> {
    let compressed = super::decode(value, MAX_INFLATED).ok()?;
    let mut document = Vec::new();
    let limit = u64::try_from(MAX_INFLATED).ok()? + 1;
    DeflateDecoder::new(compressed.as_slice()).take(limit).read_to_end(&mut document).ok()?;
    (document.len() <= MAX_INFLATED).then_some(document)
}

fn request_id(document: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(document).ok()?;
    let document = tree::parse(text.strip_prefix('\u{feff}').unwrap_or(text)).ok()?;
    let root = document.root_element();
    let id = tree::attribute(root, "ID")?;
    (tree::is(root, PROTOCOL, "AuthnRequest") && id.len() <= 512).then_some(id)
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use flate2::Compression;
    use flate2::read::DeflateEncoder;

    use super::*;

    fn redirect(document: &[u8]) -> String {
        let mut deflated = Vec::new();
        DeflateEncoder::new(document, Compression::best()).read_to_end(&mut deflated).unwrap();
        STANDARD.encode(deflated)
    }

    #[test]
    fn a_root_is_named_as_soon_as_its_name_has_ended() {
        let known = |name: &str| RootName::Known(name.into());
        for (head, expected) in [
            ("<samlp:LogoutResponse xmlns:samlp=", known("LogoutResponse")),
            ("\u{feff}<?xml version='1.0'?>\r\n<Response>", known("Response")),
            ("<a:b:c>", known("c")),
            ("", RootName::NeedMore),
            ("<", RootName::NeedMore),
            ("<?xm", RootName::NeedMore),
            ("<?xml version", RootName::NeedMore),
            ("  <samlp:LogoutRes", RootName::NeedMore),
            ("<!DOCTYPE x><LogoutResponse>", RootName::NotXml),
            ("<!-- --><LogoutResponse>", RootName::NotXml),
            ("<?php ?><LogoutResponse>", RootName::NotXml),
            ("<?xml-stylesheet ?><LogoutResponse>", RootName::NotXml),
            ("{\"a\":1}", RootName::NotXml),
            ("</LogoutResponse>", RootName::NotXml),
        ] {
            assert_eq!(root_name(head.as_bytes()), expected, "{head}");
        }
        assert_eq!(root_name(b"\xff\xfe<\0L\0"), RootName::NotXml);
        assert_eq!(root_name(format!("<{}", "a".repeat(10_000)).as_bytes()), RootName::NotXml);
    }

    #[test]
    fn a_request_that_leaves_tells_its_id() {
        let request = format!("<samlp:AuthnRequest xmlns:samlp='{PROTOCOL}' ID='_r1'/>");
        assert_eq!(request_id_of_redirect(&redirect(request.as_bytes())).as_deref(), Some("_r1"));
        assert_eq!(request_id_of_post(&STANDARD.encode(&request)).as_deref(), Some("_r1"));
        let logout = format!("<samlp:LogoutRequest xmlns:samlp='{PROTOCOL}' ID='_r1'/>");
        assert_eq!(request_id_of_redirect(&redirect(logout.as_bytes())), None);
        for value in ["", "%%", "AAAA", "PGEvPg=="] {
            assert_eq!(request_id_of_redirect(value), None, "{value}");
            assert_eq!(request_id_of_post(value), None, "{value}");
        }
    }

    #[test]
    fn a_bomb_inflates_no_further_than_the_limit() {
        let bomb = redirect(&vec![b' '; 8 << 20]);
        assert!(bomb.len() < MAX_INFLATED * 4 / 3 + 100, "{}", bomb.len());
        assert_eq!(request_id_of_redirect(&bomb), None);
        assert_eq!(redirect_root_name(&bomb), RootName::NotXml);
        assert_eq!(redirect_root_name(&redirect(b"<p:LogoutResponse/>")), RootName::Known("LogoutResponse".into()));
    }
}
