//! The certificates by which a provider's signatures are checked.
//!
//! A certificate is a container for a key here: the operator, or the metadata that the operator named, says that it is the
//! provider's. Its issuer, its chain and its dates say nothing about that (SAML Metadata section 2.4.1.1 leaves them
//! alone), so an expired one is worth a warning and not an outage.

use std::fmt;
use std::sync::Arc;

use rustls_pki_types::pem::PemObject as _;
use x509_cert::Certificate;
use x509_cert::der::asn1::{ObjectIdentifier, UintRef};
use x509_cert::der::{Decode as _, Reader as _};

use super::keys::{Curve, Kind, VerifyingKey};
use crate::capture::saml::algorithms::SignatureAlgorithm;
use crate::faults;
use crate::ids::Timestamp;

const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
/// RFC 5480 section 2.1.1.1.
const CURVES: [(ObjectIdentifier, Curve); 3] = [
    (ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7"), Curve::P256),
    (ObjectIdentifier::new_unwrap("1.3.132.0.34"), Curve::P384),
    (ObjectIdentifier::new_unwrap("1.3.132.0.35"), Curve::P521),
];
const MIN_RSA_BITS: usize = 2048;
/// More than any rollover needs. Each costs a verification where none fits.
const MAX_CERTIFICATES: usize = 8;

/// The certificates of one provider: at least one, each with a key that is strong enough, none twice.
#[derive(Clone)]
pub struct CertificateSet {
    certificates: Arc<[Entry]>,
}

struct Entry {
    der: Vec<u8>,
    key: VerifyingKey,
    not_after: Timestamp,
}

/// Why certificates cannot check signatures.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    #[error("no certificate; expected at least one by which signatures are checked")]
    None,
    #[error("{0} certificates; expected at most {MAX_CERTIFICATES}")]
    TooMany(usize),
    #[error("not a PEM file of certificates: {0}")]
    Pem(String),
    #[error("certificate {position} is not a valid X.509 certificate: {why}")]
    Invalid { position: usize, why: String },
    #[error("certificate {position} has an RSA key of {bits} bits; expected at least {MIN_RSA_BITS}")]
    WeakRsa { position: usize, bits: usize },
    #[error("certificate {position} has a key of type `{found}`; expected RSA, or EC on P-256, P-384 or P-521")]
    KeyType { position: usize, found: String },
    #[error("certificate {position} is the authority that issued another one in the list, and does not sign logins")]
    Authority { position: usize },
    #[error("certificate {position} is one more than the {MAX_CERTIFICATES} that are tried")]
    Further { position: usize },
}

/// Whether a certificate issued another one of its chain.
fn has_issued_another(der: &[u8], chain: &[Vec<u8>]) -> bool {
    let Ok(authority) = Certificate::from_der(der) else { return false };
    let subject = &authority.tbs_certificate.subject;
    chain.iter().filter(|other| *other != der).any(|other| {
        let issued = Certificate::from_der(other).map(|other| other.tbs_certificate);
        issued.is_ok_and(|issued| issued.issuer == *subject && issued.subject != *subject)
    })
}

impl CertificateSet {
    /// Reads the certificates of a PEM file (RFC 7468 section 5); other blocks in it are passed over.
    ///
    /// # Errors
    /// When there is none, or one that cannot be used.
    pub fn from_pem(pem: &[u8]) -> Result<Self, CertificateError> {
        let ders: Result<Vec<Vec<u8>>, _> = rustls_pki_types::CertificateDer::pem_slice_iter(pem)
            .map(|certificate| certificate.map(|der| der.to_vec()))
            .collect();
        Self::from_ders(ders.map_err(|error| CertificateError::Pem(faults::pem(&error)))?)
    }

    /// Takes certificates in DER, in the order in which they are tried.
    ///
    /// # Errors
    /// As for [`Self::from_pem`].
    pub fn from_ders(ders: impl IntoIterator<Item = Vec<u8>>) -> Result<Self, CertificateError> {
        let mut certificates: Vec<Entry> = Vec::new();
        for (index, der) in ders.into_iter().enumerate() {
            let entry = Entry::read(der, index + 1)?;
            if !certificates.iter().any(|known| known.der == entry.der) {
                certificates.push(entry);
            }
        }
        match certificates.len() {
            0 => Err(CertificateError::None),
            many if many > MAX_CERTIFICATES => Err(CertificateError::TooMany(many)),
            _ => Ok(Self { certificates: certificates.into() }),
        }
    }

    /// Takes what can be used of certificates that others publish, each group a chain for one key. What cannot be used is told.
    ///
    /// # Errors
    /// When none can be used: why the first cannot.
    pub fn usable(groups: &[Vec<Vec<u8>>]) -> Result<(Self, Vec<CertificateError>), CertificateError> {
        let (mut usable, mut skipped): (Vec<Entry>, Vec<CertificateError>) = (Vec::new(), Vec::new());
        let mut position = 0;
        for group in groups {
            for der in group {
                position += 1;
                match Entry::read(der.clone(), position) {
                    _ if has_issued_another(der, group) => skipped.push(CertificateError::Authority { position }),
                    Err(why) => skipped.push(why),
                    Ok(entry) if usable.iter().any(|known| known.der == entry.der) => {}
                    Ok(_) if usable.len() == MAX_CERTIFICATES => skipped.push(CertificateError::Further { position }),
                    Ok(entry) => usable.push(entry),
                }
            }
        }
        if usable.is_empty() {
            return Err(skipped.into_iter().next().unwrap_or(CertificateError::None));
        }
        Ok((Self { certificates: usable.into() }, skipped))
    }

    /// When each expires, for a warning. An expired one still verifies.
    pub fn expiries(&self) -> impl Iterator<Item = Timestamp> + '_ {
        self.certificates.iter().map(|entry| entry.not_after)
    }

    /// Which certificate's key has signed a message, if any.
    pub(super) fn signer(&self, algorithm: SignatureAlgorithm, message: &[u8], value: &[u8]) -> Option<usize> {
        self.certificates.iter().position(|entry| entry.key.has_signed(algorithm, message, value))
    }

    /// One of them in DER.
    #[cfg(feature = "samael")]
    pub(super) fn der(&self, position: usize) -> Option<&[u8]> {
        self.certificates.get(position).map(|entry| entry.der.as_slice())
    }
}

impl PartialEq for CertificateSet {
    fn eq(&self, other: &Self) -> bool {
        let ders = |set: &Self| set.certificates.iter().map(|entry| entry.der.clone()).collect::<Vec<_>>();
        ders(self) == ders(other)
    }
}

impl Eq for CertificateSet {}

impl fmt::Debug for CertificateSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut list = f.debug_list();
        for Entry { der, key, not_after } in &*self.certificates {
            list.entry(&format_args!("{:?}, {} bytes, until {not_after}", key.kind(), der.len()));
        }
        list.finish()
    }
}

impl Entry {
    fn read(der: Vec<u8>, position: usize) -> Result<Self, CertificateError> {
        let invalid = |why: x509_cert::der::Error| CertificateError::Invalid { position, why: why.to_string() };
        let certificate = Certificate::from_der(&der).map_err(invalid)?;
        let key = &certificate.tbs_certificate.subject_public_key_info;
        let unsupported = |found: &ObjectIdentifier| CertificateError::KeyType { position, found: found.to_string() };
        let kind = match key.algorithm.oid {
            RSA_ENCRYPTION => {
                let bits = rsa_bits(key.subject_public_key.raw_bytes()).map_err(invalid)?;
                if bits < MIN_RSA_BITS {
                    return Err(CertificateError::WeakRsa { position, bits });
                }
                Kind::Rsa
            }
            EC_PUBLIC_KEY => {
                let parameters = key.algorithm.parameters.as_ref().ok_or_else(|| unsupported(&EC_PUBLIC_KEY))?;
                let curve: ObjectIdentifier = parameters.decode_as().map_err(|_| unsupported(&EC_PUBLIC_KEY))?;
                let known = CURVES.iter().find(|(known, _)| *known == curve);
                Kind::Elliptic(known.map(|(_, curve)| *curve).ok_or_else(|| unsupported(&curve))?)
            }
            other => return Err(unsupported(&other)),
        };
        let key = VerifyingKey::parse(kind, key.subject_public_key.raw_bytes())
            .ok_or_else(|| CertificateError::Invalid { position, why: "its public key is malformed".into() })?;
        let not_after = certificate.tbs_certificate.validity.not_after.to_unix_duration().as_secs();
        let not_after = Timestamp::from_seconds(i64::try_from(not_after).unwrap_or(i64::MAX));
        Ok(Self { der, key, not_after })
    }
}

/// The length of the modulus in an RSAPublicKey (RFC 8017 appendix A.1.1).
fn rsa_bits(key: &[u8]) -> Result<usize, x509_cert::der::Error> {
    let mut reader = x509_cert::der::SliceReader::new(key)?;
    let modulus = reader.sequence(|sequence| {
        let modulus: UintRef<'_> = sequence.decode()?;
        let _exponent: UintRef<'_> = sequence.decode()?;
        Ok(modulus.as_bytes().to_vec())
    })?;
    let leading = modulus.first().map_or(0, |byte| byte.leading_zeros());
    Ok((modulus.len() * 8).saturating_sub(usize::try_from(leading).unwrap_or_default()))
}
