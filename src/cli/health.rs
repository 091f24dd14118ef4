//! `loginsync health`: asks the running proxy, for a container's health check that has no other program to ask with.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};

use super::{ConfigArgument, Failure};

const TIMEOUT: Duration = Duration::from_secs(3);

#[derive(Debug, Args)]
pub struct Health {
    #[command(flatten)]
    config: ConfigArgument,
}

impl Health {
    /// # Errors
    /// When the admin address does not answer with status 200.
    pub fn run(&self) -> Result<(), Failure> {
        let admin = self.config.load()?.admin;
        let address = admin.address;
        let answered = if admin.tls.is_some() { ask_by_tls(address) } else { ask(connect(address), address) };
        let status = answered.map_err(|error| Failure(format!("{address} does not answer: {error}")))?;
        if !status.contains(" 200 ") {
            return Err(Failure(format!("{address} answers `{status}`; expected 200")));
        }
        say!("ok");
        Ok(())
    }
}

fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    Ok(stream)
}

/// The same over TLS. The listener's certificate is for the names by which people reach it, not for this address, and is not
/// checked: the request contains nothing secret.
fn ask_by_tls(address: SocketAddr) -> std::io::Result<String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let algorithms = provider.signature_verification_algorithms;
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(std::io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(algorithms)))
        .with_no_client_auth();
    let client = rustls::ClientConnection::new(Arc::new(config), ServerName::IpAddress(address.ip().into()));
    let client = client.map_err(std::io::Error::other)?;
    ask(connect(address).map(|stream| rustls::StreamOwned::new(client, stream)), address)
}

/// Takes every certificate of which the server has the key.
#[derive(Debug)]
struct AnyCertificate(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

/// The status line of `/healthz`.
fn ask(stream: std::io::Result<impl Read + Write>, address: SocketAddr) -> std::io::Result<String> {
    let mut stream = stream?;
    stream.write_all(format!("GET /healthz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    // Over TLS a connection may end without saying so; what came by then is looked at.
    match stream.take(4096).read_to_string(&mut answer) {
        Err(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => return Err(error),
        _ => {}
    }
    Ok(answer.lines().next().unwrap_or_default().to_owned())
}
