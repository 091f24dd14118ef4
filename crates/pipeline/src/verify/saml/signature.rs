//! Checks one signature: which bytes did the provider's key vouch for?
//!
//! ```text
//! the document   ->  S, SignedInfo in canonical form   the key has signed exactly S
//!                    S, parsed again                   algorithms, reference and digest are read from here
//! the document   ->  B, the element in canonical form  the digest in S is that of B
//!                    B, parsed again                   everything that a login reads is read from here
//! ```
//!
//! S and B are byte strings. However wrongly they were made, S is one that the provider's key signed, and B one whose
//! digest stands in S. So an error in how they are made can refuse a genuine login, and let no forged one in. What is left
//! to check is that the two mean a login.

use std::borrow::Cow;

use aws_lc_rs::digest;
use roxmltree::{Document, Node};

use super::CertificateSet;
use crate::capture::saml::algorithms::Hash;
use crate::capture::saml::canonical::canonical;
use crate::capture::saml::names::{ASSERTION, PROTOCOL};
use crate::capture::saml::signature::{Canonicalizer, Signature, SignedInfo};
use crate::capture::saml::tree::{is, parse, plain};
use crate::verify::Fault;

/// What signed bytes are taken for. One key signs many kinds of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Response,
    Assertion,
    LogoutRequest,
}

impl Role {
    fn is_of(self, root: Node<'_, '_>) -> bool {
        match self {
            Self::Response => is(root, PROTOCOL, "Response"),
            Self::Assertion => is(root, ASSERTION, "Assertion"),
            Self::LogoutRequest => is(root, PROTOCOL, "LogoutRequest"),
        }
    }
}

/// Bytes that a key of the provider's vouches for, in their role. Made by [`verify`] alone.
pub(super) struct Signed<'a> {
    text: Cow<'a, str>,
    role: Role,
    /// What S refers to.
    id: String,
    /// With which prefixes they were made; `None` once a ciphertext in them was replaced by its plaintext.
    prefixes: Option<Vec<String>>,
    certificate: usize,
}

/// Checks a signature by any certificate of the provider's.
///
/// # Errors
/// [`Fault::Signature`] where it does not hold, or holds for another message than it says.
pub(super) fn verify<'a>(
    signature: &'a Signature,
    role: Role,
    certificates: &CertificateSet,
) -> Result<Signed<'a>, Fault> {
    verify_by(canonical, signature, role, certificates)
}

/// As [`verify`], by another canonicalizer.
fn verify_by<'a>(
    canonicalize: Canonicalizer,
    signature: &'a Signature,
    role: Role,
    certificates: &CertificateSet,
) -> Result<Signed<'a>, Fault> {
    let Signature { info, signed, value, content } = signature;
    let certificate = certificates.signer(info.algorithm, signed.as_bytes(), value).ok_or(Fault::Signature)?;
    let document = parse(signed).map_err(|_| Fault::Signature)?;
    let from_signed = SignedInfo::read(document.root_element()).map_err(|_| Fault::Signature)?;
    // By what S and B were made stood in the document, and must be what was signed.
    if from_signed != *info || !is_canonical(canonicalize, &document, &from_signed.prefixes) {
        return Err(Fault::Signature);
    }
    if digest(from_signed.hash, content.as_bytes()).as_ref() != from_signed.digest {
        return Err(Fault::Signature);
    }
    let prefixes = Some(from_signed.content_prefixes);
    Ok(Signed { text: Cow::Borrowed(content), role, id: from_signed.reference, prefixes, certificate })
}

impl<'a> Signed<'a> {
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn role(&self) -> Role {
        self.role
    }

    /// Which of the certificates had the key.
    #[cfg_attr(not(feature = "samael"), expect(dead_code, reason = "the second verifier asks for it"))]
    pub(super) fn certificate(&self) -> usize {
        self.certificate
    }

    /// The tree of the bytes: what S refers to, in its role.
    ///
    /// # Errors
    /// [`Fault::Signature`] where the bytes are something else.
    pub(super) fn document(&self) -> Result<Document<'_>, Fault> {
        let document = parse(&self.text).map_err(|_| Fault::Signature)?;
        let root = document.root_element();
        if !self.role.is_of(root) || plain(root, "ID") != Some(self.id.as_str()) {
            return Err(Fault::Signature);
        }
        match &self.prefixes {
            Some(prefixes) if !is_canonical(canonical, &document, prefixes) => Err(Fault::Signature),
            _ => Ok(document),
        }
    }

    /// The same with the plaintext of a ciphertext that stands in it.
    pub(super) fn opened(self, text: String) -> Signed<'static> {
        let Self { role, id, certificate, .. } = self;
        Signed { text: Cow::Owned(text), role, id, prefixes: None, certificate }
    }

    pub(super) fn into_owned(self) -> Signed<'static> {
        let Self { text, role, id, prefixes, certificate } = self;
        Signed { text: Cow::Owned(text.into_owned()), role, id, prefixes, certificate }
    }
}

/// Whether a parser has read canonical text as it was written: written again, it is the same.
fn is_canonical(canonicalize: Canonicalizer, document: &Document<'_>, prefixes: &[String]) -> bool {
    canonicalize(document.root_element(), None, prefixes).is_ok_and(|again| again == document.input_text())
}

fn digest(hash: Hash, bytes: &[u8]) -> digest::Digest {
    let algorithm = match hash {
        Hash::Sha256 => &digest::SHA256,
        Hash::Sha384 => &digest::SHA384,
        Hash::Sha512 => &digest::SHA512,
    };
    digest::digest(algorithm, bytes)
}

#[cfg(test)]
mod tests;
