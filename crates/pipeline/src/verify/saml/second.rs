//! A second opinion on what a signature covers, where the build has one (feature `samael`).
//!
//! It is asked last, about documents that the check of [`super::signature`] has accepted, and can only refuse.

use super::CertificateSet;
use super::signature::Signed;
#[cfg(feature = "samael")]
use crate::capture::saml::algorithms::Scheme;
use crate::capture::saml::signature::Signature;
use crate::verify::Fault;

/// Whether the second verifier finds the same bytes signed. `signed` are all the signatures of the document, that of the
/// Response first.
///
/// # Errors
/// [`Fault::Signature`] where it does not.
#[cfg(feature = "samael")]
pub(super) fn agrees(
    text: &str,
    signed: &[(&Signature, &Signed<'_>)],
    certificates: &CertificateSet,
) -> Result<(), Fault> {
    let [(first, believed), rest @ ..] = signed else { return Ok(()) };
    let certificate = believed.certificate();
    // The library verifies all signatures of a document with one certificate, and has no RSA-PSS.
    let beyond = |found: &Signature| found.info.algorithm.scheme == Scheme::RsaPss;
    if beyond(first) || rest.iter().any(|(found, other)| beyond(found) || other.certificate() != certificate) {
        super::xmlsec::count_unjudged();
        return Ok(());
    }
    match super::xmlsec::signed_bytes(text, certificates.der(certificate).unwrap_or_default()) {
        Ok(bytes) if bytes == believed.text() => Ok(()),
        _ => Err(Fault::Signature),
    }
}

/// This build has none.
#[cfg(not(feature = "samael"))]
pub(super) fn agrees(_: &str, _: &[(&Signature, &Signed<'_>)], _: &CertificateSet) -> Result<(), Fault> {
    Ok(())
}
