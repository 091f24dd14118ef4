//! The certificate of a listener.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use tokio_rustls::TlsAcceptor;

use crate::config::TlsFiles;
use crate::pipeline::faults;

/// Why a certificate cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("`listen.tls_certificate` cannot be read: {0}")]
    Certificate(String),
    #[error("`listen.tls_key` cannot be read: {0}")]
    Key(String),
    #[error("certificate and key do not belong together, or are of no use: {0}")]
    Pair(String),
}

/// The certificate that clients are shown; can be read again while connections are open.
pub struct Tls {
    current: ArcSwap<CertifiedKey>,
}

impl Tls {
    /// # Errors
    /// When the files are not a certificate chain and its key, in PEM.
    pub fn load(files: &TlsFiles) -> Result<Self, TlsError> {
        Ok(Self { current: ArcSwap::new(Arc::new(read_pair(files)?)) })
    }

    /// Reads the files again, for connections yet to come.
    ///
    /// # Errors
    /// As for [`Self::load`]; the present certificate then stays.
    pub fn reload(&self, files: &TlsFiles) -> Result<(), TlsError> {
        self.current.store(Arc::new(read_pair(files)?));
        Ok(())
    }

    #[allow(clippy::expect_used, reason = "a fixed choice of the library's own suites")]
    pub(super) fn acceptor(self: Arc<Self>) -> TlsAcceptor {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("this provider has the suites of TLS 1.2 and 1.3")
            .with_no_client_auth()
            .with_cert_resolver(self);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        TlsAcceptor::from(Arc::new(config))
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

impl ResolvesServerCert for Tls {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

fn read_pair(files: &TlsFiles) -> Result<CertifiedKey, TlsError> {
    let unreadable = |error: rustls::pki_types::pem::Error| TlsError::Certificate(faults::pem(&error));
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(&files.certificate).map_err(unreadable)?.collect();
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| TlsError::Key(faults::pem(&error)))?;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    CertifiedKey::from_der(chain.map_err(unreadable)?, key, &provider)
        .map_err(|error| TlsError::Pair(error.to_string()))
}
