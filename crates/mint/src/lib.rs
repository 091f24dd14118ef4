//! The issuing side: keys, certificates, ID tokens and SAML responses, as a provider makes them.
//!
//! `loginsync demo` logs people in with it, and every test and fixture is made by it. Nothing here shares code with the
//! verifying side: SAML documents are written out in canonical form and signed as text, without any XML library, so that a
//! mistake in one does not hide the same mistake in the other. Ids and times are arguments.

#![forbid(unsafe_code)]

pub mod oidc;
pub mod saml;

use std::fmt;

use aws_lc_rs::digest::{self, digest};
use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{self, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512,
    RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaSignatureEncoding,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject as _;
use zeroize::Zeroizing;

/// A provider's private key.
pub struct MintKey {
    pkcs8: Zeroizing<Vec<u8>>,
    pair: Pair,
}

enum Pair {
    Rsa(rsa::KeyPair),
    Ec(Curve, EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// What kind of key to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// Of 2048 bits.
    Rsa,
    Ec(Curve),
    Ed25519,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Curve {
    P256,
    P384,
    P521,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

/// How a key signs. A curve has its own hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    RsaPkcs1(Hash),
    RsaPss(Hash),
    Ecdsa,
    EdDsa,
}

/// Why nothing could be issued.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MintError {
    #[error("not a PEM file with a private key in PKCS#8: {0}")]
    Pem(String),
    #[error("the key is not RSA of at least 2048 bits, EC on P-256, P-384 or P-521, or Ed25519")]
    Key,
    #[error("the key cannot sign by `{0}`")]
    Scheme(String),
    #[error("the certificate could not be made: {0}")]
    Certificate(String),
    #[error("the cryptographic library refused")]
    Crypto,
    #[error("the document has no place for a signature")]
    Document,
}

impl From<aws_lc_rs::error::Unspecified> for MintError {
    fn from(_: aws_lc_rs::error::Unspecified) -> Self {
        MintError::Crypto
    }
}

impl Curve {
    const ALL: [Curve; 3] = [Curve::P256, Curve::P384, Curve::P521];

    fn signing(self) -> &'static EcdsaSigningAlgorithm {
        match self {
            Curve::P256 => &ECDSA_P256_SHA256_FIXED_SIGNING,
            Curve::P384 => &ECDSA_P384_SHA384_FIXED_SIGNING,
            Curve::P521 => &ECDSA_P521_SHA512_FIXED_SIGNING,
        }
    }

    /// The hash that goes with it (RFC 7518 section 3.4).
    pub fn hash(self) -> Hash {
        match self {
            Curve::P256 => Hash::Sha256,
            Curve::P384 => Hash::Sha384,
            Curve::P521 => Hash::Sha512,
        }
    }
}

impl Hash {
    fn digest(self, message: &[u8]) -> digest::Digest {
        match self {
            Hash::Sha256 => digest(&digest::SHA256, message),
            Hash::Sha384 => digest(&digest::SHA384, message),
            Hash::Sha512 => digest(&digest::SHA512, message),
        }
    }
}

impl MintKey {
    /// # Errors
    /// When the operating system returned no random bytes.
    pub fn generate(kind: KeyKind) -> Result<Self, MintError> {
        let pkcs8 = match kind {
            KeyKind::Rsa => {
                let pair = rsa::KeyPair::generate(KeySize::Rsa2048)?;
                let pkcs8: Pkcs8V1Der<'_> = pair.as_der()?;
                pkcs8.as_ref().to_vec()
            }
            KeyKind::Ec(curve) => {
                EcdsaKeyPair::generate_pkcs8(curve.signing(), &SystemRandom::new())?.as_ref().to_vec()
            }
            KeyKind::Ed25519 => Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())?.as_ref().to_vec(),
        };
        Self::from_pkcs8(pkcs8)
    }

    /// Reads a `PRIVATE KEY` block (PKCS#8, RFC 5958).
    ///
    /// # Errors
    /// When there is none, or of a kind that nothing here signs with.
    pub fn from_pem(pem: &str) -> Result<Self, MintError> {
        let key =
            PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).map_err(|error| MintError::Pem(error.to_string()))?;
        Self::from_pkcs8(key.secret_pkcs8_der().to_vec())
    }

    fn from_pkcs8(pkcs8: Vec<u8>) -> Result<Self, MintError> {
        let pkcs8 = Zeroizing::new(pkcs8);
        let rsa = || rsa::KeyPair::from_pkcs8(&pkcs8).ok().map(Pair::Rsa);
        let ec = || {
            Curve::ALL.into_iter().find_map(|curve| {
                EcdsaKeyPair::from_pkcs8(curve.signing(), &pkcs8).ok().map(|pair| Pair::Ec(curve, pair))
            })
        };
        let edwards = || Ed25519KeyPair::from_pkcs8(&pkcs8).ok().map(Pair::Ed25519);
        let pair = rsa().or_else(ec).or_else(edwards).ok_or(MintError::Key)?;
        Ok(Self { pkcs8, pair })
    }

    pub fn kind(&self) -> KeyKind {
        match &self.pair {
            Pair::Rsa(_) => KeyKind::Rsa,
            Pair::Ec(curve, _) => KeyKind::Ec(*curve),
            Pair::Ed25519(_) => KeyKind::Ed25519,
        }
    }

    /// A certificate for the key, signed by itself, in DER; valid from 2020 to 2099.
    ///
    /// # Errors
    /// When the key is of a kind that certificates of providers do not have.
    pub fn certificate(&self, common_name: &str) -> Result<Vec<u8>, MintError> {
        let failed = |error: rcgen::Error| MintError::Certificate(error.to_string());
        let algorithm = match self.kind() {
            KeyKind::Rsa => &rcgen::PKCS_RSA_SHA256,
            KeyKind::Ec(Curve::P256) => &rcgen::PKCS_ECDSA_P256_SHA256,
            KeyKind::Ec(Curve::P384) => &rcgen::PKCS_ECDSA_P384_SHA384,
            KeyKind::Ec(Curve::P521) => &rcgen::PKCS_ECDSA_P521_SHA512,
            KeyKind::Ed25519 => &rcgen::PKCS_ED25519,
        };
        let der = PrivatePkcs8KeyDer::from(self.pkcs8.as_slice());
        let key = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&der, algorithm).map_err(failed)?;
        let mut parameters = rcgen::CertificateParams::default();
        parameters.not_before = rcgen::date_time_ymd(2020, 1, 1);
        parameters.not_after = rcgen::date_time_ymd(2099, 1, 1);
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        parameters.distinguished_name.push(rcgen::DnType::CommonName, common_name);
        Ok(parameters.self_signed(&key).map_err(failed)?.der().to_vec())
    }

    /// # Errors
    /// When the scheme is not one of the key's kind.
    pub fn sign(&self, scheme: Scheme, message: &[u8]) -> Result<Vec<u8>, MintError> {
        match (&self.pair, scheme) {
            (Pair::Rsa(pair), Scheme::RsaPkcs1(_) | Scheme::RsaPss(_)) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(rsa_encoding(scheme), &SystemRandom::new(), message, &mut signature)?;
                Ok(signature)
            }
            (Pair::Ec(_, pair), Scheme::Ecdsa) => Ok(pair.sign(&SystemRandom::new(), message)?.as_ref().to_vec()),
            (Pair::Ed25519(pair), Scheme::EdDsa) => Ok(pair.sign(message).as_ref().to_vec()),
            _ => Err(MintError::Scheme(format!("{scheme:?}"))),
        }
    }

    /// The public key as SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7) in DER.
    ///
    /// # Errors
    /// When the library cannot write it.
    pub fn public_key(&self) -> Result<Vec<u8>, MintError> {
        let der: PublicKeyX509Der<'_> = match &self.pair {
            Pair::Rsa(pair) => pair.public_key().as_der()?,
            Pair::Ec(_, pair) => pair.public_key().as_der()?,
            Pair::Ed25519(pair) => pair.public_key().as_der()?,
        };
        Ok(der.as_ref().to_vec())
    }
}

/// Prints its kind and nothing else.
impl fmt::Debug for MintKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MintKey({:?})", self.kind())
    }
}

fn rsa_encoding(scheme: Scheme) -> &'static RsaSignatureEncoding {
    match scheme {
        Scheme::RsaPss(Hash::Sha256) => &RSA_PSS_SHA256,
        Scheme::RsaPss(Hash::Sha384) => &RSA_PSS_SHA384,
        Scheme::RsaPss(Hash::Sha512) => &RSA_PSS_SHA512,
        Scheme::RsaPkcs1(Hash::Sha384) => &RSA_PKCS1_SHA384,
        Scheme::RsaPkcs1(Hash::Sha512) => &RSA_PKCS1_SHA512,
        _ => &RSA_PKCS1_SHA256,
    }
}

/// A PEM block (RFC 7468).
pub fn pem(label: &str, der: &[u8]) -> String {
    let mut block = format!("-----BEGIN {label}-----\n");
    for (at, character) in STANDARD.encode(der).chars().enumerate() {
        if at > 0 && at % 64 == 0 {
            block.push('\n');
        }
        block.push(character);
    }
    block.push_str(&format!("\n-----END {label}-----\n"));
    block
}
