//! A key by which the app opens what is encrypted to it.

use std::fmt;

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rsa::{self, OaepPrivateDecryptingKey, PrivateDecryptingKey};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;

use crate::faults;

/// A private key of the app's, by which assertions encrypted to it are opened.
pub struct DecryptionKey {
    pub(crate) key: OaepPrivateDecryptingKey,
}

/// Prints its size and nothing else.
impl fmt::Debug for DecryptionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DecryptionKey({} bits)", self.key.key_size_bits())
    }
}

/// Why a file is no key for decryption.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecryptionKeyError {
    #[error("not a PEM file with a private key: {0}")]
    Pem(String),
    #[error("not an RSA private key of 2048 to 8192 bits in PKCS#8 or PKCS#1")]
    Key,
}

impl DecryptionKey {
    /// Reads the first private key of a PEM file: PKCS#8 (`PRIVATE KEY`) or PKCS#1 (`RSA PRIVATE KEY`), unencrypted.
    ///
    /// # Errors
    /// When there is none, or it is not an RSA key of at least 2048 bits.
    pub fn from_pem(pem: &[u8]) -> Result<Self, DecryptionKeyError> {
        let key = PrivateKeyDer::from_pem_slice(pem).map_err(|error| DecryptionKeyError::Pem(faults::pem(&error)))?;
        let key = match &key {
            PrivateKeyDer::Pkcs8(key) => PrivateDecryptingKey::from_pkcs8(key.secret_pkcs8_der()),
            PrivateKeyDer::Pkcs1(key) => {
                let pair = rsa::KeyPair::from_der(key.secret_pkcs1_der()).map_err(|_| DecryptionKeyError::Key)?;
                let pkcs8: Pkcs8V1Der<'_> = pair.as_der().map_err(|_| DecryptionKeyError::Key)?;
                PrivateDecryptingKey::from_pkcs8(pkcs8.as_ref())
            }
            _ => return Err(DecryptionKeyError::Key),
        };
        // The library takes none of less than 2048 bits.
        let key = key.map_err(|_| DecryptionKeyError::Key)?;
        OaepPrivateDecryptingKey::new(key).map(|key| Self { key }).map_err(|_| DecryptionKeyError::Key)
    }
}
