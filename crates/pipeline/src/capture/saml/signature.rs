//! A Signature element taken apart (XML Signature section 4, as far as SAML Core section 5.4 leaves it).
//!
//! Two byte strings come of it: the canonical form of SignedInfo, which a key may have signed, and that of the element
//! around the signature, whose digest SignedInfo may hold. Nothing is believed here.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use roxmltree::Node;

use super::algorithms::{Hash, SignatureAlgorithm};
use super::canonical::canonical;
use super::names::{ENVELOPED_SIGNATURE, EXCLUSIVE_C14N, SIGNATURE};
use super::tree::{elements, is, plain, text};
use super::{GuardError, short};

/// Prefixes that one InclusiveNamespaces may list: each is looked for at every element.
const MAX_PREFIXES: usize = 32;

/// How an element is written as bytes. There is one; tests have others, which are wrong.
pub(crate) type Canonicalizer = fn(Node<'_, '_>, Option<Node<'_, '_>>, &[String]) -> Result<String, GuardError>;

/// What a Signature element says, and what it is about.
#[derive(Clone)]
pub(crate) struct Signature {
    pub(crate) info: SignedInfo,
    /// The canonical form of SignedInfo.
    pub(crate) signed: String,
    /// The decoded SignatureValue.
    pub(crate) value: Vec<u8>,
    /// The canonical form of the element that the signature stands in, without the signature.
    pub(crate) content: String,
}

/// The contents of a SignedInfo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SignedInfo {
    pub(crate) algorithm: SignatureAlgorithm,
    /// The prefixes that its own canonicalization keeps.
    pub(crate) prefixes: Vec<String>,
    /// The `ID` of the element that is signed.
    pub(crate) reference: String,
    /// The prefixes that the canonicalization of that element keeps.
    pub(crate) content_prefixes: Vec<String>,
    pub(crate) hash: Hash,
    pub(crate) digest: Vec<u8>,
}

impl Signature {
    /// Reads a signature that refers to the element it stands in.
    ///
    /// # Errors
    /// What is not exactly such a signature.
    pub(crate) fn read(signature: Node<'_, '_>) -> Result<Self, GuardError> {
        Self::read_by(canonical, signature)
    }

    /// As [`Self::read`], by another canonicalizer.
    pub(crate) fn read_by(canonicalize: Canonicalizer, signature: Node<'_, '_>) -> Result<Self, GuardError> {
        let wrong = GuardError::Signature;
        if !is(signature, SIGNATURE, "Signature") {
            return Err(wrong("is in another namespace than XML Signature's"));
        }
        let parts: Vec<_> = elements(signature).collect();
        let (element, value) = match parts.as_slice() {
            [info, value] => (*info, *value),
            [info, value, key_info] if is(*key_info, SIGNATURE, "KeyInfo") => {
                if !key_info.descendants().skip(1).filter(Node::is_element).all(is_of_a_key) {
                    return Err(wrong("has something in its KeyInfo that names no key"));
                }
                (*info, *value)
            }
            _ => return Err(wrong("is not SignedInfo, SignatureValue and perhaps KeyInfo")),
        };
        if !is(element, SIGNATURE, "SignedInfo") || !is(value, SIGNATURE, "SignatureValue") {
            return Err(wrong("is not SignedInfo, SignatureValue and perhaps KeyInfo"));
        }
        let info = SignedInfo::read(element)?;
        let parent = signature.parent_element().ok_or(wrong("stands in nothing"))?;
        if plain(parent, "ID") != Some(info.reference.as_str()) {
            return Err(wrong("refers to something else than the element it stands in"));
        }
        let value = decoded(value).ok_or(wrong("has a value that is not base64"))?;
        let signed = canonicalize(element, None, &info.prefixes)?;
        let content = canonicalize(parent, Some(signature), &info.content_prefixes)?;
        Ok(Self { info, signed, value, content })
    }
}

/// Whether an element says which key signed (XML Signature section 4.5, and its `dsig11`). No signature is over KeyInfo, and an app that looks
/// for a `NameID` below the assertion would find one there.
fn is_of_a_key(node: Node<'_, '_>) -> bool {
    const XML_SIGNATURE_11: &str = "http://www.w3.org/2009/xmldsig11#";
    const WS_SECURITY: &str = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd";
    match (node.tag_name().namespace(), node.tag_name().name()) {
        (Some(SIGNATURE), name) => matches!(
            name,
            "KeyName"
                | "KeyValue"
                | "RSAKeyValue"
                | "Modulus"
                | "Exponent"
                | "X509Data"
                | "X509Certificate"
                | "X509SubjectName"
                | "X509IssuerSerial"
                | "X509IssuerName"
                | "X509SerialNumber"
                | "X509SKI"
                | "X509CRL"
        ),
        (Some(XML_SIGNATURE_11), name) => {
            matches!(name, "ECKeyValue" | "NamedCurve" | "PublicKey" | "DEREncodedKeyValue" | "X509Digest")
        }
        (Some(WS_SECURITY), name) => matches!(name, "SecurityTokenReference" | "KeyIdentifier"),
        _ => false,
    }
}

/// Prints nothing of what is signed: it is about a person.
impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({:?} over {} bytes)", self.info.algorithm, self.content.len())
    }
}

impl SignedInfo {
    /// Reads a SignedInfo element; `verify` does so again on the bytes that were signed.
    ///
    /// # Errors
    /// What does not ask for exactly one reference, with the transforms and algorithms that a login needs.
    pub(crate) fn read(info: Node<'_, '_>) -> Result<Self, GuardError> {
        let wrong = GuardError::Signature;
        if !is(info, SIGNATURE, "SignedInfo") {
            return Err(wrong("is not SignedInfo, SignatureValue and perhaps KeyInfo"));
        }
        let [canonicalization, method, reference] = children(info)[..] else {
            return Err(wrong("does not have exactly one Reference"));
        };
        if !is(reference, SIGNATURE, "Reference") || !is(method, SIGNATURE, "SignatureMethod") {
            return Err(wrong("does not have exactly one Reference"));
        }
        let prefixes = match is(canonicalization, SIGNATURE, "CanonicalizationMethod") {
            true => exclusive_prefixes(canonicalization)?,
            false => None,
        };
        let prefixes = prefixes.ok_or(wrong("is not canonicalized exclusively, without comments"))?;
        let Reference { id, prefixes: content_prefixes, hash, digest } = Reference::read(reference)?;
        let identifier = plain(method, "Algorithm").unwrap_or_default();
        let algorithm = SignatureAlgorithm::named(identifier).filter(|_| !has_elements(method));
        let algorithm = algorithm.ok_or_else(|| GuardError::Algorithm(short(identifier)))?;
        Ok(Self { algorithm, prefixes, reference: id, content_prefixes, hash, digest })
    }
}

struct Reference {
    id: String,
    prefixes: Vec<String>,
    hash: Hash,
    digest: Vec<u8>,
}

impl Reference {
    fn read(reference: Node<'_, '_>) -> Result<Self, GuardError> {
        let wrong = GuardError::Signature;
        let id = plain(reference, "URI").and_then(|uri| uri.strip_prefix('#')).unwrap_or_default();
        if id.is_empty() {
            return Err(wrong("refers to something else than the element it stands in"));
        }
        let [transforms, digest, value] = children(reference)[..] else {
            return Err(wrong("has a Reference that is not Transforms, DigestMethod and DigestValue"));
        };
        if !is(transforms, SIGNATURE, "Transforms")
            || !is(digest, SIGNATURE, "DigestMethod")
            || !is(value, SIGNATURE, "DigestValue")
            || has_elements(value)
        {
            return Err(wrong("has a Reference that is not Transforms, DigestMethod and DigestValue"));
        }
        let prefixes = transformed(transforms)?
            .ok_or(wrong("does not have exactly the transforms enveloped-signature and exclusive canonicalization"))?;
        let identifier = plain(digest, "Algorithm").unwrap_or_default();
        let hash = Hash::named(identifier).filter(|_| !has_elements(digest));
        let hash = hash.ok_or_else(|| GuardError::Algorithm(short(identifier)))?;
        let digest = decoded(value).ok_or(wrong("has a DigestValue that is not base64"))?;
        Ok(Self { id: id.to_owned(), prefixes, hash, digest })
    }
}

/// The prefixes of exclusive canonicalization, where that and enveloped-signature before it are all. The first one sets a
/// login's signature apart: what is digested is an element around its own signature, never a file or another part.
fn transformed(transforms: Node<'_, '_>) -> Result<Option<Vec<String>>, GuardError> {
    let [enveloped, canonical] = children(transforms)[..] else { return Ok(None) };
    let allowed = is(enveloped, SIGNATURE, "Transform")
        && plain(enveloped, "Algorithm") == Some(ENVELOPED_SIGNATURE)
        && !has_elements(enveloped)
        && is(canonical, SIGNATURE, "Transform");
    if allowed { exclusive_prefixes(canonical) } else { Ok(None) }
}

/// The PrefixList of exclusive canonicalization without comments; `None` where a method is another.
fn exclusive_prefixes(method: Node<'_, '_>) -> Result<Option<Vec<String>>, GuardError> {
    if plain(method, "Algorithm") != Some(EXCLUSIVE_C14N) {
        return Ok(None);
    }
    let list = match children(method)[..] {
        [] => return Ok(Some(Vec::new())),
        [list] if is(list, EXCLUSIVE_C14N, "InclusiveNamespaces") && !has_elements(list) => list,
        _ => return Ok(None),
    };
    let prefixes = plain(list, "PrefixList").unwrap_or_default().split_ascii_whitespace();
    let prefixes: Vec<String> = prefixes
        .take(MAX_PREFIXES + 1)
        .map(|prefix| if prefix == "#default" { String::new() } else { prefix.to_owned() })
        .collect();
    if prefixes.len() > MAX_PREFIXES {
        return Err(GuardError::Signature("keeps more than 32 namespace prefixes"));
    }
    Ok(Some(prefixes))
}

/// Base64 with white space in it, as signers wrap it. A carriage return is one that was written as a reference.
fn decoded(element: Node<'_, '_>) -> Option<Vec<u8>> {
    let compact: Vec<u8> = text(element)?.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    STANDARD.decode(compact).ok()
}

fn children<'a, 'input>(node: Node<'a, 'input>) -> Vec<Node<'a, 'input>> {
    elements(node).collect()
}

fn has_elements(node: Node<'_, '_>) -> bool {
    elements(node).next().is_some()
}
