//! The algorithms by which a message may be signed, each under its one name (RFC 6931, XML Signature section 6).
//!
//! SHA-1 and MD5 are broken; HMAC and DSA are for keys that no provider has.

use super::names;

/// How a signature value is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SignatureAlgorithm {
    pub scheme: Scheme,
    pub hash: Hash,
}

/// The kind of key, and what it does with a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// RSASSA-PKCS1-v1_5 (RFC 8017 section 8.2).
    RsaPkcs1,
    /// RSASSA-PSS with a salt as long as the hash (RFC 6931 section 2.3.10).
    RsaPss,
    /// On any curve: its value is `r` and `s` side by side (RFC 6931 section 2.3.6).
    Ecdsa,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

impl SignatureAlgorithm {
    pub const ALL: [(&'static str, Self); 9] = [
        (names::RSA_SHA_256, Self { scheme: Scheme::RsaPkcs1, hash: Hash::Sha256 }),
        (names::RSA_SHA_384, Self { scheme: Scheme::RsaPkcs1, hash: Hash::Sha384 }),
        (names::RSA_SHA_512, Self { scheme: Scheme::RsaPkcs1, hash: Hash::Sha512 }),
        (names::RSA_PSS_SHA_256, Self { scheme: Scheme::RsaPss, hash: Hash::Sha256 }),
        (names::RSA_PSS_SHA_384, Self { scheme: Scheme::RsaPss, hash: Hash::Sha384 }),
        (names::RSA_PSS_SHA_512, Self { scheme: Scheme::RsaPss, hash: Hash::Sha512 }),
        (names::ECDSA_SHA_256, Self { scheme: Scheme::Ecdsa, hash: Hash::Sha256 }),
        (names::ECDSA_SHA_384, Self { scheme: Scheme::Ecdsa, hash: Hash::Sha384 }),
        (names::ECDSA_SHA_512, Self { scheme: Scheme::Ecdsa, hash: Hash::Sha512 }),
    ];

    pub fn named(identifier: &str) -> Option<Self> {
        Self::ALL.iter().find(|(name, _)| *name == identifier).map(|(_, algorithm)| *algorithm)
    }
}

impl Hash {
    /// By the identifier of a DigestMethod.
    pub fn named(identifier: &str) -> Option<Self> {
        match identifier {
            names::SHA_256 => Some(Self::Sha256),
            names::SHA_384 => Some(Self::Sha384),
            names::SHA_512 => Some(Self::Sha512),
            _ => None,
        }
    }
}
