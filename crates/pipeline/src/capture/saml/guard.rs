//! The rules of the wall, from the whole document inward.

use std::collections::HashSet;

use roxmltree::{Document, Node};

use super::names::{ASSERTION, ENCRYPTION, PROTOCOL, SIGNATURE, SUCCESS};
use super::signature::Signature;
use super::tree::{attribute, elements, is, named, only, parse, plain, text};
use super::{Content, GuardError, ResponseHead, Structure, short};
use crate::capture::denial::Denial;

pub(super) enum Inspected {
    Response(Box<Structure>),
    LogoutResponse,
}

/// Reads a document's structure, or says what has no place in it.
pub(super) fn inspect(text: &str) -> Result<Inspected, GuardError> {
    let document = parse(text)?;
    let root = document.root_element();
    let census = Census::take(&document)?;
    if is(root, PROTOCOL, "LogoutResponse") {
        return match census.assertions.len() {
            0 => Ok(Inspected::LogoutResponse),
            many => Err(GuardError::Assertions(many)),
        };
    }
    if !is(root, PROTOCOL, "Response") {
        return Err(GuardError::Root(short(root.tag_name().name())));
    }
    response(root, &census).map(Box::new).map(Inspected::Response)
}

pub(super) enum InspectedLogout {
    /// With its Signature element, where it has one.
    Request(Option<Box<Signature>>),
    Response,
}

/// Reads the structure of a logout message (SAML Core section 3.7), or says what has no place in it.
pub(super) fn inspect_logout(text: &str) -> Result<InspectedLogout, GuardError> {
    let document = parse(text)?;
    let root = document.root_element();
    let census = Census::take(&document)?;
    if !census.assertions.is_empty() {
        return Err(GuardError::Assertions(census.assertions.len()));
    }
    if is(root, PROTOCOL, "LogoutResponse") {
        return Ok(InspectedLogout::Response);
    }
    if !is(root, PROTOCOL, "LogoutRequest") {
        return Err(GuardError::Root(short(root.tag_name().name())));
    }
    id(root, "LogoutRequest")?;
    for child in elements(root) {
        // An encrypted name could be opened with the decryption keys; no provider is known to send one.
        let expected = matches!(
            (child.tag_name().namespace(), child.tag_name().name()),
            (Some(ASSERTION), "Issuer" | "NameID") | (Some(PROTOCOL), "SessionIndex") | (Some(SIGNATURE), "Signature")
        );
        if !expected {
            return Err(GuardError::Element(short(child.tag_name().name())));
        }
    }
    match census.signatures.as_slice() {
        [] => Ok(InspectedLogout::Request(None)),
        [signature] if signature.parent() == Some(root) => {
            Signature::read(*signature).map(|signature| InspectedLogout::Request(Some(Box::new(signature))))
        }
        _ => Err(GuardError::Signature("is not the request's only one")),
    }
}

/// The elements that decide, wherever they stand.
struct Census<'a, 'input> {
    /// Named Assertion or EncryptedAssertion in any namespace: a lax app may go by the name.
    assertions: Vec<Node<'a, 'input>>,
    /// Named Signature in any namespace, for the same reason.
    signatures: Vec<Node<'a, 'input>>,
}

impl<'a, 'input> Census<'a, 'input> {
    /// Meets every node once.
    fn take(document: &'a Document<'input>) -> Result<Self, GuardError> {
        let (mut assertions, mut signatures) = (Vec::new(), Vec::new());
        let mut ids = HashSet::new();
        for node in document.descendants() {
            if node.is_comment() {
                return Err(GuardError::Comment);
            }
            if node.is_pi() {
                return Err(GuardError::ProcessingInstruction);
            }
            if !node.is_element() {
                continue;
            }
            // `ID`, `Id`, `id` and `xml:id` are all IDs to some reader.
            let named_id = node.attributes().filter(|attribute| attribute.name().eq_ignore_ascii_case("id"));
            for id in named_id {
                if !ids.insert(id.value()) {
                    return Err(GuardError::RepeatedId);
                }
            }
            match (node.tag_name().namespace(), node.tag_name().name()) {
                (_, "Assertion" | "EncryptedAssertion") => assertions.push(node),
                (_, "Signature") => signatures.push(node),
                (Some(SIGNATURE), name @ ("Object" | "Manifest" | "SignatureProperties"))
                | (Some(ENCRYPTION), name @ "CipherReference") => return Err(GuardError::Element(name.into())),
                (Some(SIGNATURE), "RetrievalMethod") if !points_to_encrypted_key(node) => {
                    return Err(GuardError::Element("RetrievalMethod".into()));
                }
                (_, "Extensions") => return Err(GuardError::Element("Extensions".into())),
                (_, name @ ("Response" | "LogoutRequest" | "LogoutResponse" | "AuthnRequest"))
                    if node != document.root_element() =>
                {
                    return Err(GuardError::Element(name.into()));
                }
                _ => {}
            }
        }
        Ok(Self { assertions, signatures })
    }
}

/// XML Encryption section 3.5.2: how several products say that the EncryptedKey is a sibling of the EncryptedData. Nothing
/// here follows it, and no signature is looked for there.
fn points_to_encrypted_key(node: Node<'_, '_>) -> bool {
    let data = node.parent().and_then(|key_info| key_info.parent());
    data.is_some_and(|data| is(data, ENCRYPTION, "EncryptedData"))
        && plain(node, "URI").is_some_and(|uri| uri.starts_with('#'))
        && elements(node).next().is_none()
}

fn response(root: Node<'_, '_>, census: &Census<'_, '_>) -> Result<Structure, GuardError> {
    let head = response_head(root)?;
    for child in elements(root) {
        let expected = matches!(
            (child.tag_name().namespace(), child.tag_name().name()),
            (Some(ASSERTION), "Issuer" | "Assertion" | "EncryptedAssertion")
                | (Some(PROTOCOL), "Status")
                | (Some(SIGNATURE), "Signature")
        );
        if !expected {
            return Err(GuardError::Element(short(child.tag_name().name())));
        }
    }
    let assertion = match census.assertions.as_slice() {
        [] if head.status.as_deref().is_some_and(|status| status != SUCCESS) => {
            return Ok(without_login(head, root));
        }
        [assertion] => *assertion,
        other => return Err(GuardError::Assertions(other.len())),
    };
    if assertion.parent() != Some(root) || assertion.tag_name().namespace() != Some(ASSERTION) {
        return Err(GuardError::AssertionPlace);
    }
    let signatures = signatures(root, assertion, census)?;
    let (content, assertion_id) = match assertion.tag_name().name() {
        "Assertion" => (Content::Assertion, id(assertion, "Assertion")?),
        _ => {
            encrypted(assertion)?;
            (Content::EncryptedAssertion, String::new())
        }
    };
    Ok(Structure {
        issuer: issuer(&head, assertion)?,
        head,
        content,
        response_signature: signatures.response,
        assertion_signature: signatures.assertion,
        assertion_id,
        denial: None,
    })
}

/// An answer without an assertion. Its signature, if any, is the app's to look at.
fn without_login(head: ResponseHead, root: Node<'_, '_>) -> Structure {
    Structure {
        denial: Some(denial(root)),
        issuer: head.issuer.clone().unwrap_or_default(),
        head,
        content: Content::Nothing,
        response_signature: None,
        assertion_signature: None,
        assertion_id: String::new(),
    }
}

fn child<'a, 'input>(node: Node<'a, 'input>, name: &str) -> Option<Node<'a, 'input>> {
    elements(node).find(|child| is(*child, PROTOCOL, name))
}

/// The innermost status code, which says why, and its message (SAML Core section 3.2.2).
fn denial(root: Node<'_, '_>) -> Denial {
    let status = child(root, "Status");
    let message = status.and_then(|status| child(status, "StatusMessage")).and_then(text);
    let outer = status.and_then(|status| child(status, "StatusCode"));
    let code = outer.and_then(|outer| child(outer, "StatusCode")).or(outer).and_then(|code| attribute(code, "Value"));
    let code = code.unwrap_or_default();
    Denial::new(code.rsplit(':').next().unwrap_or_default(), message.as_deref())
}

/// Reads the Response element itself; `verify` does so again on the signed bytes.
pub(crate) fn response_head(root: Node<'_, '_>) -> Result<ResponseHead, GuardError> {
    let issuer = match only(root, ASSERTION, "Issuer")? {
        Some(issuer) => Some(text(issuer).ok_or(GuardError::Element("Issuer".into()))?),
        None => None,
    };
    let status = match only(root, PROTOCOL, "Status")? {
        Some(status) => only(status, PROTOCOL, "StatusCode")?.and_then(|code| attribute(code, "Value")),
        None => None,
    };
    Ok(ResponseHead {
        id: id(root, "Response")?,
        version: attribute(root, "Version"),
        issuer: issuer.filter(|issuer| !issuer.is_empty()),
        in_response_to: attribute(root, "InResponseTo"),
        destination: attribute(root, "Destination"),
        status,
    })
}

fn issuer(head: &ResponseHead, assertion: Node<'_, '_>) -> Result<String, GuardError> {
    let of_assertion = match only(assertion, ASSERTION, "Issuer")? {
        Some(issuer) => Some(text(issuer).ok_or(GuardError::Element("Issuer".into()))?),
        None => None,
    };
    match (head.issuer.clone(), of_assertion) {
        (Some(response), Some(assertion)) if response != assertion => {
            Err(GuardError::TwoIssuers { response: short(&response), assertion: short(&assertion) })
        }
        (Some(issuer), _) | (None, Some(issuer)) if !issuer.is_empty() => Ok(issuer),
        _ => Err(GuardError::NoIssuer),
    }
}

/// SAML Core section 1.3.4. Other readers find a reference's target by it, so it must be a name that they accept.
fn id(node: Node<'_, '_>, element: &'static str) -> Result<String, GuardError> {
    let id = attribute(node, "ID").ok_or(GuardError::NoId(element))?;
    let first = |c: char| c.is_ascii_alphabetic() || c == '_' || !c.is_ascii();
    let rest = |c: char| first(c) || c.is_ascii_digit() || matches!(c, '-' | '.');
    if id.starts_with(first) && id.chars().all(rest) { Ok(id) } else { Err(GuardError::IdName) }
}

#[derive(Default)]
struct Signatures {
    response: Option<Signature>,
    assertion: Option<Signature>,
}

/// Each signature stands in the response or its assertion, at most one in each.
fn signatures(root: Node<'_, '_>, assertion: Node<'_, '_>, census: &Census<'_, '_>) -> Result<Signatures, GuardError> {
    let mut found = Signatures::default();
    for signature in &census.signatures {
        let parent = signature.parent();
        let place = if parent == Some(root) {
            &mut found.response
        } else if parent == Some(assertion) && is(assertion, ASSERTION, "Assertion") {
            &mut found.assertion
        } else {
            return Err(GuardError::Signature("is neither in the response nor in its assertion"));
        };
        if place.is_some() {
            return Err(GuardError::Signature("is the second one of its element"));
        }
        *place = Some(Signature::read(*signature)?);
    }
    Ok(found)
}

/// SAML Core section 2.3.4: one EncryptedData, and EncryptedKeys next to it.
fn encrypted(assertion: Node<'_, '_>) -> Result<(), GuardError> {
    let data = named(assertion, ENCRYPTION, "EncryptedData").count();
    let keys = named(assertion, ENCRYPTION, "EncryptedKey").count();
    if data != 1 || data + keys != elements(assertion).count() {
        return Err(GuardError::Encrypted("is not one EncryptedData with its keys"));
    }
    Ok(())
}
