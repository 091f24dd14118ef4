//! The app's side of a request: sent with its target byte for byte as it was decided on, over HTTP/1.1, or HTTP/2 where the app
//! speaks that.

use std::sync::Arc;
use std::time::Duration;

use http::header::{self, HeaderMap, HeaderValue};
use http::uri::{Scheme, Uri};
use http::{Method, Request, Response, Version};
use http_body::Body as _;
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::body::{Outgoing, Stop, Upload};
use super::scan;
use super::upstream::shared::Shared;
use super::upstream::{AppBody, Connector, NoAnswer, Pool};
use crate::config::{self, AppProtocol};
use crate::pipeline::faults;
use crate::serve::respond::Trouble;

/// Why the app cannot be talked to at all.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    #[error("`app.url` is `{0}`; expected `http://` or `https://` with a host and no path, or `unix:` and a path")]
    Url(String),
    #[error("`app.ca_file` cannot be read: {0}")]
    Authority(String),
    #[error("the system's certificate authorities cannot be read: {0}")]
    System(String),
}

/// The app behind us.
pub struct App {
    reached: Reached,
    response_timeout: Duration,
}

/// The connections to the app.
enum Reached {
    /// One request at a time on each.
    Http1(Arc<Pool>),
    Http2(Box<Shared>, Scheme),
}

impl App {
    /// # Errors
    /// When the address is none, or a named certificate authority cannot be read.
    pub fn new(settings: &config::App) -> Result<Self, AppError> {
        let bad_url = || AppError::Url(settings.url.to_string());
        let pool = |connector, address| {
            let reached = match settings.protocol {
                AppProtocol::Http1 => {
                    Reached::Http1(Pool::new(connector, address, settings.idle_connections, settings.idle_timeout))
                }
                AppProtocol::Http2 => {
                    let scheme = if settings.url.scheme() == "https" { Scheme::HTTPS } else { Scheme::HTTP };
                    Reached::Http2(Box::new(Shared::new(connector, address)), scheme)
                }
            };
            Ok(Self { reached, response_timeout: settings.response_timeout })
        };
        if settings.url.scheme() == "unix" {
            let connector = Connector::Unix { path: settings.url.path().into(), limit: settings.connect_timeout };
            return pool(connector, Uri::default());
        }
        let address: Uri = settings.url.as_str().parse().map_err(|_| bad_url())?;
        if address.authority().is_none() {
            return Err(bad_url());
        }
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(settings.connect_timeout));
        let connector = match settings.url.scheme() {
            "http" => Connector::Plain(connector),
            "https" => {
                connector.enforce_http(false);
                let tls = hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(trust(settings)?).https_only();
                Connector::Tls(match settings.protocol {
                    AppProtocol::Http1 => tls.enable_http1().wrap_connector(connector),
                    AppProtocol::Http2 => tls.enable_http2().wrap_connector(connector),
                })
            }
            _ => return Err(bad_url()),
        };
        pool(connector, address)
    }

    /// Sends a request whose headers are final, and waits for the head of the answer. Boxed, since it is large and passes
    /// through many hands.
    ///
    /// # Errors
    /// When there is none, and why.
    pub async fn send(
        &self,
        mut request: Box<Request<Outgoing>>,
        upload: Option<Arc<Upload>>,
    ) -> Result<Response<AppBody>, Trouble> {
        if let Reached::Http2(_, scheme) = &self.reached {
            make_absolute(&mut request, scheme)?;
        } else if request.uri().authority().is_some() {
            // What we are asked for as a proxy or over HTTP/2, the app is asked for as an origin (RFC 9112 section 3.2.1).
            let target = request.uri().path_and_query().cloned().ok_or(Trouble::Target)?;
            *request.uri_mut() = target.into();
        }
        let upload = upload.as_deref();
        let answered = match &self.reached {
            Reached::Http1(pool) => {
                *request.version_mut() = Version::HTTP_11;
                if may_leave_its_body(&request) {
                    let headers = request.headers_mut();
                    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
                    headers.remove(header::UPGRADE);
                    headers.remove(header::TE);
                }
                pool.send(request, self.response_timeout, upload).await
            }
            Reached::Http2(shared, _) => shared.send(request, self.response_timeout, upload).await,
        };
        let mut response = answered.map_err(|failed| {
            let stopped = upload.and_then(Upload::stopped).map(trouble);
            stopped.unwrap_or(match failed {
                NoAnswer::Broken(why) => Trouble::AppUnreachable(why),
                NoAnswer::TooSlow => Trouble::AppTooSlow,
            })
        })?;
        // The version is each hop's own (RFC 9110 section 2.5).
        *response.version_mut() = Version::HTTP_11;
        Ok(response)
    }
}

/// Whether some app servers leave the body where it is and read it as the next request, past everything that is looked at here: those that
/// do not know chunks (thin), and those that read no body of a method that seldom has one. `Connection: close` makes them stop after
/// the first request. uWSGI's `http11-socket` ignores it (docs/modes.md).
fn may_leave_its_body(request: &Request<Outgoing>) -> bool {
    let is_chunked = || request.headers().contains_key(header::TRANSFER_ENCODING);
    let has_seldom_one = || !matches!(*request.method(), Method::POST | Method::PUT | Method::PATCH);
    !request.body().is_end_stream() && (has_seldom_one() || is_chunked())
}

/// The target with scheme and host, which HTTP/2 has in place of the `Host` field (RFC 9113 section 8.3.1). What asks for another
/// protocol stays behind: the app is asked in this one.
fn make_absolute(request: &mut Request<Outgoing>, scheme: &Scheme) -> Result<(), Trouble> {
    let host = request.headers_mut().remove(header::HOST);
    let target = request.uri().path_and_query().cloned().ok_or(Trouble::Target)?;
    let uri = Uri::builder().scheme(scheme.clone()).path_and_query(target);
    let uri = match (host, request.uri().authority()) {
        (Some(host), _) => uri.authority(host.as_bytes()),
        (None, Some(authority)) => uri.authority(authority.clone()),
        (None, None) => return Err(Trouble::Target),
    };
    *request.uri_mut() = uri.build().map_err(|_| Trouble::Target)?;
    *request.version_mut() = Version::HTTP_2;
    let headers: &mut HeaderMap = request.headers_mut();
    headers.remove(header::CONNECTION);
    headers.remove(header::UPGRADE);
    headers.remove(header::TRANSFER_ENCODING);
    Ok(())
}

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
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| unreadable(faults::pem(&error)))? {
        let certificate = certificate.map_err(|error| unreadable(faults::pem(&error)))?;
        roots.add(certificate).map_err(|error| unreadable(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(unreadable("no certificate in it".into()));
    }
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// Why we broke a request off.
fn trouble(stop: Stop) -> Trouble {
    match stop {
        Stop::Login(sighted) => scan::trouble(sighted, "body"),
        Stop::Unreadable(why) => Trouble::UnreadableForm(why),
        Stop::Full(full) => Trouble::Full(full),
        Stop::Stalled => Trouble::BodyStalled,
        Stop::Broken => Trouble::BodyBroken,
    }
}
