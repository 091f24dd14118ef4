//! The app's side: a pool of kept connections, HTTP/1.1, bodies streaming both ways.
//!
//! The request target goes on byte for byte as it was decided on. A connection that the app closed while it lay idle costs
//! nobody an error as long as the request was not written yet; beyond that nothing is sent twice, since only the app
//! knows what it did with the first.

use std::sync::Arc;
use std::time::Duration;

use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{Request, Response, Version};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::time::Instant;

use super::body::{Outgoing, Stop, Upload};
use crate::config;
use crate::pipeline::capture::fields::Field;
use crate::serve::respond::Trouble;

/// How long a connection to the app lies idle. Shorter than the five seconds after which the servers of Node, Uvicorn,
/// Gunicorn and Apache close theirs, so that we do not write into one that is just closing.
const IDLE: Duration = Duration::from_secs(4);

/// Why the app cannot be talked to at all.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    #[error("`app.url` is `{0}`; expected `http://` or `https://` with a host and no path")]
    Url(String),
    #[error("`app.ca_file` cannot be read: {0}")]
    Authority(String),
    #[error("the system's certificate authorities cannot be read: {0}")]
    System(String),
}

/// The app behind us.
pub struct App {
    client: AnyClient,
    scheme: Scheme,
    authority: Authority,
    response_timeout: Duration,
}

/// Plain connections do not carry the weight of TLS ones.
enum AnyClient {
    Plain(Client<HttpConnector, Outgoing>),
    Tls(Client<HttpsConnector<HttpConnector>, Outgoing>),
}

impl App {
    /// # Errors
    /// When the address is none, or a named certificate authority cannot be read.
    pub fn new(settings: &config::App) -> Result<Self, AppError> {
        let bad_url = || AppError::Url(settings.url.to_string());
        let uri: Uri = settings.url.as_str().parse().map_err(|_| bad_url())?;
        let authority = uri.authority().cloned().ok_or_else(bad_url)?;
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(settings.connect_timeout));
        let mut builder = Client::builder(TokioExecutor::new());
        builder
            .pool_max_idle_per_host(settings.idle_connections)
            .pool_idle_timeout(IDLE)
            .pool_timer(TokioTimer::new())
            .http1_max_buf_size(MAX_BUFFER)
            .set_host(false);
        let (client, scheme) = match settings.url.scheme() {
            "http" => (AnyClient::Plain(builder.build(connector)), Scheme::HTTP),
            "https" => {
                connector.enforce_http(false);
                let tls = hyper_rustls::HttpsConnectorBuilder::new()
                    .with_tls_config(trust(settings)?)
                    .https_only()
                    .enable_http1()
                    .wrap_connector(connector);
                (AnyClient::Tls(builder.build(tls)), Scheme::HTTPS)
            }
            _ => return Err(bad_url()),
        };
        Ok(Self { client, scheme, authority, response_timeout: settings.response_timeout })
    }

    /// Sends a request whose headers are final, and waits for the head of the answer.
    ///
    /// # Errors
    /// When there is none, and why.
    pub async fn send(
        &self,
        mut request: Request<Outgoing>,
        upload: Option<Arc<Upload>>,
    ) -> Result<Response<Incoming>, Trouble> {
        let target = request.uri().path_and_query().cloned();
        *request.uri_mut() = self.address(target).ok_or(Trouble::Target)?;
        *request.version_mut() = Version::HTTP_11;
        let mut answer = match &self.client {
            AnyClient::Plain(client) => client.request(request),
            AnyClient::Tls(client) => client.request(request),
        };
        let mut from = Instant::now();
        loop {
            match tokio::time::timeout_at(from + self.response_timeout, &mut answer).await {
                Ok(Ok(mut response)) => {
                    // The version is each hop's own (RFC 9110 section 2.5).
                    *response.version_mut() = Version::HTTP_11;
                    return Ok(response);
                }
                Ok(Err(error)) => return Err(trouble(&error, upload.as_deref())),
                Err(_) => {
                    // While a body is still going in, the app is not the one to wait for.
                    let moved = upload.as_ref().map(|upload| upload.last_moved()).filter(|moved| *moved > from);
                    from = moved.ok_or(Trouble::AppTooSlow)?;
                }
            }
        }
    }

    fn address(&self, target: Option<PathAndQuery>) -> Option<Uri> {
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = target;
        Uri::from_parts(parts).ok()
    }
}

/// Of one read from the app, at the most.
const MAX_BUFFER: usize = 128 * 1024;

fn trust(settings: &config::App) -> Result<rustls::ClientConfig, AppError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| AppError::System(error.to_string()))?;
    let Some(file) = &settings.ca_file else {
        use hyper_rustls::ConfigBuilderExt as _;
        let builder = builder.with_native_roots().map_err(|error| AppError::System(error.to_string()))?;
        return Ok(builder.with_no_client_auth());
    };
    let unreadable = |why: String| AppError::Authority(why);
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| unreadable(error.to_string()))? {
        let certificate = certificate.map_err(|error| unreadable(error.to_string()))?;
        roots.add(certificate).map_err(|error| unreadable(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(unreadable("no certificate in it".into()));
    }
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn trouble(error: &Error, upload: Option<&Upload>) -> Trouble {
    match upload.and_then(Upload::stopped) {
        Some((Stop::Login, Field::SamlResponse)) => Trouble::Elsewhere { field: "SAMLResponse", place: "body" },
        Some((Stop::Login, _)) => Trouble::Elsewhere { field: "id_token", place: "body" },
        Some((Stop::Foreign, _)) => Trouble::UnreadableForm("the byte order mark of UTF-16 or UTF-32"),
        Some((Stop::Stalled, _)) => Trouble::BodyStalled,
        Some((Stop::Broken, _)) => Trouble::BodyBroken,
        None => Trouble::AppUnreachable(chain(error)),
    }
}

/// An error with its causes. hyper's messages carry nothing of a message's content.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
