//! The signature algorithms that a provider may use.

use std::fmt;

use aws_lc_rs::digest;
use jsonwebtoken::Algorithm;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve};

/// A signature algorithm that can be allowed (RFC 7518 section 3.1, RFC 8037). Symmetric ones and `none` cannot be named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SigningAlgorithm(pub(crate) Scheme);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    Known(Algorithm),
    /// jsonwebtoken does not know it.
    Es512,
}

impl SigningAlgorithm {
    const ALL: [(&'static str, Scheme); 10] = [
        ("RS256", Scheme::Known(Algorithm::RS256)),
        ("RS384", Scheme::Known(Algorithm::RS384)),
        ("RS512", Scheme::Known(Algorithm::RS512)),
        ("PS256", Scheme::Known(Algorithm::PS256)),
        ("PS384", Scheme::Known(Algorithm::PS384)),
        ("PS512", Scheme::Known(Algorithm::PS512)),
        ("ES256", Scheme::Known(Algorithm::ES256)),
        ("ES384", Scheme::Known(Algorithm::ES384)),
        ("ES512", Scheme::Es512),
        ("EdDSA", Scheme::Known(Algorithm::EdDSA)),
    ];

    /// By its registered name, exactly.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(known, _)| *known == name).map(|(_, scheme)| Self(scheme))
    }

    /// Every name that [`Self::named`] knows.
    pub fn names() -> impl Iterator<Item = &'static str> {
        Self::ALL.into_iter().map(|(name, _)| name)
    }

    /// Of the signature scheme; for Ed25519 the SHA-512 that it is built on (RFC 8032 section 5.1).
    pub(crate) fn hash(self) -> &'static digest::Algorithm {
        use Algorithm as A;
        let Scheme::Known(algorithm) = self.0 else { return &digest::SHA512 };
        match algorithm {
            A::RS384 | A::PS384 | A::ES384 => &digest::SHA384,
            A::RS512 | A::PS512 | A::EdDSA => &digest::SHA512,
            _ => &digest::SHA256,
        }
    }

    pub(crate) fn fits(self, parameters: &AlgorithmParameters) -> bool {
        use Algorithm as A;
        let is = |algorithm: A| self.0 == Scheme::Known(algorithm);
        match parameters {
            AlgorithmParameters::RSA(_) => {
                [A::RS256, A::RS384, A::RS512, A::PS256, A::PS384, A::PS512].into_iter().any(is)
            }
            AlgorithmParameters::EllipticCurve(key) => match key.curve {
                EllipticCurve::P256 => is(A::ES256),
                EllipticCurve::P384 => is(A::ES384),
                EllipticCurve::P521 => self.0 == Scheme::Es512,
                _ => false,
            },
            AlgorithmParameters::OctetKeyPair(key) => key.curve == EllipticCurve::Ed25519 && is(A::EdDSA),
            _ => false,
        }
    }
}

impl fmt::Display for SigningAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.into_iter().find(|(_, algorithm)| *algorithm == self.0).map_or("?", |(name, _)| name);
        f.write_str(name)
    }
}
