//! A small HTTP client for what loginsync itself fetches: bounded in time and size, never following a redirect.

mod tunnel;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use self::tunnel::Way;
use crate::config::{Egress, TlsFiles};
use crate::pipeline::faults;

/// For one request, from connecting to the last byte.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Why a document was not fetched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    #[error(
        "`{0}` is not an https address (plain http is for loopback alone, and with `allow_http` for private addresses)"
    )]
    NotSecure(String),
    #[error("no answer within {} seconds", TIMEOUT.as_secs())]
    Timeout,
    #[error("{0}")]
    Transport(String),
    #[error("the answer has status {0}; expected 200")]
    Status(u16),
    #[error("the answer is longer than {0} bytes")]
    TooLong(usize),
    #[error("{0}")]
    Content(String),
}

/// Fetches over https with the system's certificate authorities, or those of one file.
#[derive(Clone)]
pub struct HttpClient {
    client: Client<HttpsConnector<Way>, Full<Bytes>>,
    allow_http: bool,
}

impl HttpClient {
    /// `identity` is shown to servers that ask for a client's certificate; `egress` is the proxy on the way to them.
    ///
    /// # Errors
    /// When a file cannot be read or holds something else.
    pub fn new(
        ca_file: Option<&Path>,
        identity: Option<&TlsFiles>,
        egress: Option<&Arc<Egress>>,
    ) -> Result<Self, FetchError> {
        let builder =
            rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .map_err(|error| FetchError::Content(error.to_string()))?;
        let builder = builder.with_root_certificates(roots(ca_file)?);
        let config = match identity {
            None => builder.with_no_client_auth(),
            Some(files) => {
                let chain = certificates(&files.certificate)?;
                let key = PrivateKeyDer::from_pem_file(&files.key)
                    .map_err(|error| of_file(&files.key, &faults::pem(&error)))?;
                builder.with_client_auth_cert(chain, key).map_err(|error| of_file(&files.key, &error))?
            }
        };
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(config)
            .https_or_http()
            .enable_http1()
            .enable_http2()
            .wrap_connector(Way::new(egress.cloned()));
        let client = Client::builder(TokioExecutor::new()).pool_idle_timeout(Duration::from_secs(30)).build(connector);
        Ok(Self { client, allow_http: false })
    }

    /// The same, and over http too, at private addresses alone.
    #[must_use]
    pub fn allowing_http(self, allow_http: bool) -> Self {
        Self { allow_http, ..self }
    }

    /// One exchange; the body of the answer holds at most `limit` bytes.
    ///
    /// # Errors
    /// When the address is not https (or loopback), or the exchange fails, takes too long or brings too much. A status is
    /// not looked at.
    pub async fn exchange(&self, request: Request<Vec<u8>>, limit: usize) -> Result<Response<Vec<u8>>, FetchError> {
        require_secure(request.uri(), self.allow_http)?;
        let request = request.map(|body| Full::new(Bytes::from(body)));
        let exchange = async {
            let answer = self.client.request(request).await.map_err(|error| transport(&error))?;
            let (head, body) = answer.into_parts();
            let body = Limited::new(body, limit).collect().await.map_err(|error| {
                if error.is::<http_body_util::LengthLimitError>() {
                    FetchError::TooLong(limit)
                } else {
                    FetchError::Transport(error.to_string())
                }
            })?;
            Ok(Response::from_parts(head, body.to_bytes().to_vec()))
        };
        tokio::time::timeout(TIMEOUT, exchange).await.unwrap_or(Err(FetchError::Timeout))
    }

    /// The body behind an address.
    ///
    /// # Errors
    /// As for [`Self::exchange`], and when the status is not 200.
    pub async fn get(&self, address: &str, limit: usize) -> Result<Vec<u8>, FetchError> {
        let request = Request::get(address)
            .header(http::header::ACCEPT, "*/*")
            .body(Vec::new())
            .map_err(|error| FetchError::Content(error.to_string()))?;
        let answer = self.exchange(request, limit).await?;
        if answer.status() != http::StatusCode::OK {
            return Err(FetchError::Status(answer.status().as_u16()));
        }
        Ok(answer.into_body())
    }
}

/// The authorities of a file, or those of the system.
///
/// # Errors
/// When the file holds none.
pub fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, FetchError> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        Some(path) => {
            roots.add_parsable_certificates(certificates(path)?);
            if roots.is_empty() {
                return Err(of_file(path, &"holds no certificate"));
            }
        }
        // A machine without any is not a fault as long as nothing is fetched over https.
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, FetchError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    read.map_err(|error| of_file(path, &faults::pem(&error)))
}

fn of_file(path: &Path, why: &dyn std::fmt::Display) -> FetchError {
    FetchError::Content(format!("`{}`: {why}", path.display()))
}

/// What is plain http goes to private addresses alone in any case: [`Way`] looks at them.
fn require_secure(address: &Uri, allow_http: bool) -> Result<(), FetchError> {
    let loopback = match address.host() {
        Some("localhost") => true,
        Some(host) => {
            host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        }
        None => false,
    };
    match address.scheme_str() {
        Some("https") => Ok(()),
        Some("http") if loopback || allow_http => Ok(()),
        _ => Err(FetchError::NotSecure(address.to_string())),
    }
}

/// The innermost cause says what happened; the outer ones say "client error".
fn transport(error: &dyn std::error::Error) -> FetchError {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    FetchError::Transport(cause.to_string())
}
