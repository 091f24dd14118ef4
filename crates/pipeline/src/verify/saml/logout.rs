//! Verifies a LogoutRequest (SAML Core section 3.7, SAML Profiles section 4.4). An unsigned one ends nothing.

use super::signature::{self, Role};
use super::{CertificateSet, conditions, second};
use crate::capture::saml::algorithms::SignatureAlgorithm;
use crate::capture::saml::logout::{LogoutHead, QuerySignature, Signed, UntrustedLogout, logout_head};
use crate::ids::Timestamp;
use crate::provider::Provider;
use crate::verify::{Fault, LogoutStatement};

/// The replay record keeps it.
const MAX_ID: usize = 512;

/// Checks a request. `places` are the addresses of ours that it may be meant for.
pub(in crate::verify) fn check(
    provider: &Provider,
    request: &UntrustedLogout,
    certificates: &CertificateSet,
    places: &[String],
    now: Timestamp,
) -> Result<LogoutStatement, Fault> {
    let head = signed_head(request, certificates)?;
    if head.version.as_deref() != Some("2.0") {
        return Err(Fault::Malformed("the version of the logout request is not `2.0`".into()));
    }
    if head.issuer != provider.issuer.as_str() {
        let found = head.issuer.chars().take(200).collect();
        return Err(Fault::Issuer { found, expected: provider.issuer.to_string() });
    }
    // SAML Bindings sections 3.4.5.2 and 3.5.5.2: mandatory in a signed message. Without it a request that was meant for
    // another app of the same provider would end sessions here.
    if !head.destination.as_ref().is_some_and(|destination| places.contains(destination)) {
        let found = head.destination.as_deref().unwrap_or("missing").chars().take(200).collect();
        return Err(Fault::Destination { found, expected: places.join(" or ") });
    }
    check_times(provider, &head, now)?;
    if head.id.len() > MAX_ID {
        return Err(Fault::Malformed("the request's ID is too long".into()));
    }
    Ok(LogoutStatement {
        provider: provider.name.clone(),
        issuer: provider.issuer.clone(),
        token_id: head.id,
        subject: Some(head.name_id),
        sessions: head.sessions,
    })
}

/// What the signature covers.
fn signed_head(request: &UntrustedLogout, certificates: &CertificateSet) -> Result<LogoutHead, Fault> {
    match request.signed() {
        Signed::Nothing => Err(Fault::Unsigned),
        Signed::Query(signature) => {
            check_query(signature, certificates)?;
            // The octets that were signed hold the whole document.
            Ok(request.head().clone())
        }
        Signed::Enveloped(signature) => {
            let signed = signature::verify(signature, Role::LogoutRequest, certificates)?;
            second::agrees(request.text(), &[(signature, &signed)], certificates)?;
            let document = signed.document()?;
            let head = logout_head(document.root_element()).map_err(|error| Fault::Malformed(error.to_string()))?;
            if head.id == request.head().id { Ok(head) } else { Err(Fault::Signature) }
        }
    }
}

/// SAML Bindings section 3.4.4.1.
fn check_query(signed: &QuerySignature, certificates: &CertificateSet) -> Result<(), Fault> {
    let Some(algorithm) = SignatureAlgorithm::named(&signed.algorithm) else {
        let found = signed.algorithm.chars().take(100).collect();
        return Err(Fault::Algorithm {
            found,
            allowed: "RSA, RSA-PSS or ECDSA with SHA-256, SHA-384 or SHA-512".into(),
        });
    };
    certificates.signer(algorithm, &signed.octets, &signed.value).map(|_| ()).ok_or(Fault::Signature)
}

fn check_times(provider: &Provider, head: &LogoutHead, now: Timestamp) -> Result<(), Fault> {
    let time = |name: &str, value: &Option<String>| match value {
        Some(value) => conditions::moment(name, value).map(Some),
        None => Ok(None),
    };
    let Some(at) = time("IssueInstant", &head.issue_instant)? else {
        return Err(Fault::Malformed("`IssueInstant` is missing".into()));
    };
    if at > now.plus(provider.leeway) {
        return Err(Fault::IssuedInFuture { at, now });
    }
    if at < now.minus(provider.max_age).minus(provider.leeway) {
        return Err(Fault::TooOld { at, now });
    }
    match time("NotOnOrAfter", &head.not_on_or_after)? {
        Some(at) if now >= at.plus(provider.leeway) => Err(Fault::Expired { at, now }),
        _ => Ok(()),
    }
}
