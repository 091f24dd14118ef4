//! The public key of a certificate, parsed once for every algorithm that it can have signed with.

use aws_lc_rs::signature::{self, ParsedPublicKey, VerificationAlgorithm};

use crate::capture::saml::algorithms::{Hash, Scheme, SignatureAlgorithm};

/// A key that checks signatures.
#[derive(Clone)]
pub(super) struct VerifyingKey {
    kind: Kind,
    forms: Vec<(SignatureAlgorithm, ParsedPublicKey)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Rsa,
    Elliptic(Curve),
}

/// RFC 5480 section 2.1.1.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Curve {
    P256,
    P384,
    P521,
}

impl VerifyingKey {
    /// Takes the bits of a subjectPublicKey: an RSAPublicKey (RFC 8017 appendix A.1.1) or a point (RFC 5480 section 2.2).
    /// `None` where they are no key of this kind.
    pub(super) fn parse(kind: Kind, key: &[u8]) -> Option<Self> {
        let usable = SignatureAlgorithm::ALL
            .iter()
            .filter_map(|(_, algorithm)| verifier(kind, *algorithm).map(|verifier| (*algorithm, verifier)));
        let forms: Option<Vec<_>> =
            usable.map(|(algorithm, verifier)| Some((algorithm, ParsedPublicKey::new(verifier, key).ok()?))).collect();
        let forms = forms?;
        Some(Self { kind, forms })
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether this key has signed a message. The value is in the form of XML Signature section 6.4.
    pub(super) fn has_signed(&self, algorithm: SignatureAlgorithm, message: &[u8], value: &[u8]) -> bool {
        let Some((_, key)) = self.forms.iter().find(|(known, _)| *known == algorithm) else { return false };
        match self.kind {
            Kind::Rsa => key.verify_sig(message, value).is_ok(),
            Kind::Elliptic(curve) => {
                in_der(value, curve.coordinate()).is_some_and(|value| key.verify_sig(message, &value).is_ok())
            }
        }
    }
}

impl Curve {
    /// Bytes of `r` and of `s`.
    fn coordinate(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        }
    }
}

/// How a kind of key checks signatures of an algorithm; `None` where it makes none.
fn verifier(kind: Kind, algorithm: SignatureAlgorithm) -> Option<&'static dyn VerificationAlgorithm> {
    let verifier: &'static dyn VerificationAlgorithm = match (kind, algorithm.scheme, algorithm.hash) {
        (Kind::Rsa, Scheme::RsaPkcs1, Hash::Sha256) => &signature::RSA_PKCS1_2048_8192_SHA256,
        (Kind::Rsa, Scheme::RsaPkcs1, Hash::Sha384) => &signature::RSA_PKCS1_2048_8192_SHA384,
        (Kind::Rsa, Scheme::RsaPkcs1, Hash::Sha512) => &signature::RSA_PKCS1_2048_8192_SHA512,
        (Kind::Rsa, Scheme::RsaPss, Hash::Sha256) => &signature::RSA_PSS_2048_8192_SHA256,
        (Kind::Rsa, Scheme::RsaPss, Hash::Sha384) => &signature::RSA_PSS_2048_8192_SHA384,
        (Kind::Rsa, Scheme::RsaPss, Hash::Sha512) => &signature::RSA_PSS_2048_8192_SHA512,
        // The library takes pairs of unlike sizes in DER alone, so all go that way.
        (Kind::Elliptic(Curve::P256), Scheme::Ecdsa, Hash::Sha256) => &signature::ECDSA_P256_SHA256_ASN1,
        (Kind::Elliptic(Curve::P256), Scheme::Ecdsa, Hash::Sha384) => &signature::ECDSA_P256_SHA384_ASN1,
        (Kind::Elliptic(Curve::P256), Scheme::Ecdsa, Hash::Sha512) => &signature::ECDSA_P256_SHA512_ASN1,
        (Kind::Elliptic(Curve::P384), Scheme::Ecdsa, Hash::Sha256) => &signature::ECDSA_P384_SHA256_ASN1,
        (Kind::Elliptic(Curve::P384), Scheme::Ecdsa, Hash::Sha384) => &signature::ECDSA_P384_SHA384_ASN1,
        (Kind::Elliptic(Curve::P384), Scheme::Ecdsa, Hash::Sha512) => &signature::ECDSA_P384_SHA512_ASN1,
        (Kind::Elliptic(Curve::P521), Scheme::Ecdsa, Hash::Sha256) => &signature::ECDSA_P521_SHA256_ASN1,
        (Kind::Elliptic(Curve::P521), Scheme::Ecdsa, Hash::Sha384) => &signature::ECDSA_P521_SHA384_ASN1,
        (Kind::Elliptic(Curve::P521), Scheme::Ecdsa, Hash::Sha512) => &signature::ECDSA_P521_SHA512_ASN1,
        (Kind::Rsa, Scheme::Ecdsa, _) | (Kind::Elliptic(_), Scheme::RsaPkcs1 | Scheme::RsaPss, _) => return None,
    };
    Some(verifier)
}

/// An Ecdsa-Sig-Value (RFC 3279 section 2.2.3) of `r` and `s` side by side, each of exactly `coordinate` bytes.
fn in_der(value: &[u8], coordinate: usize) -> Option<Vec<u8>> {
    if value.len() != 2 * coordinate {
        return None;
    }
    let (r, s) = value.split_at_checked(coordinate)?;
    let numbers = [integer(r)?, integer(s)?].concat();
    let mut der = vec![0x30];
    let length = u8::try_from(numbers.len()).ok()?;
    if length >= 0x80 {
        der.push(0x81);
    }
    der.push(length);
    der.extend_from_slice(&numbers);
    Some(der)
}

/// An INTEGER that is not negative and has no needless zeros before it. At most 67 bytes, so that one byte tells its length.
fn integer(bytes: &[u8]) -> Option<Vec<u8>> {
    let start = bytes.iter().position(|byte| *byte != 0)?;
    let digits = bytes.get(start..)?;
    let sign: &[u8] = if digits.first().is_some_and(|first| first & 0x80 != 0) { &[0] } else { &[] };
    let length = u8::try_from(sign.len() + digits.len()).ok()?;
    Some([&[2, length][..], sign, digits].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_numbers_side_by_side_become_der() {
        let mut value = [0u8; 64];
        value[31] = 1;
        value[32] = 0x80;
        let der = in_der(&value, 32).unwrap();
        assert_eq!(der[..7], [0x30, 38, 2, 1, 1, 2, 33]);
        assert_eq!(der[7..9], [0, 0x80]);
        let long = in_der(&[0xff; 132], 66).unwrap();
        assert_eq!(long[..6], [0x30, 0x81, 138, 2, 67, 0]);
        assert_eq!(long.len(), 3 + 138);
        for (value, coordinate) in [(&[1u8; 63][..], 32), (&[1; 65], 32), (&[1; 64], 48), (&[0; 64], 32), (&[], 32)] {
            assert_eq!(in_der(value, coordinate), None, "{} bytes", value.len());
        }
    }
}
