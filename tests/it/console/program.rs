//! The console of the program as it runs: TLS on the admin listener, and the command that prints a link.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Output};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};

use crate::promises::Program;

/// A folder with a configuration, a certificate for `localhost`, and a port for the admin listener.
struct Site {
    folder: tempfile::TempDir,
    port: u16,
}

/// Writes a certificate for `localhost`, and its key.
fn certify(folder: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt as _;
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = folder.join("admin.key");
    std::fs::write(folder.join("admin.crt"), made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
}

impl Site {
    fn new(console: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        certify(folder.path());
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let minimal = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/config/minimal.toml")).unwrap();
        let text = format!(
            "{minimal}\n[listen]\naddress = \"127.0.0.1:0\"\n[store]\npath = \"store.db\"\n[admin]\naddress = \"127.0.0.1:{port}\"\n\
             tls_certificate = \"admin.crt\"\ntls_key = \"admin.key\"\n{console}"
        );
        std::fs::write(folder.path().join("loginsync.toml"), text).unwrap();
        Self { folder, port }
    }

    fn run(&self, words: &[&str]) -> Output {
        let file = self.folder.path().join("loginsync.toml");
        Command::new(env!("CARGO_BIN_EXE_loginsync"))
            .args(words)
            .arg("--config")
            .arg(file)
            .env("USER", "root")
            .output()
            .unwrap()
    }

    /// Sends a request over TLS, with a check of the certificate; answers all that came back.
    fn ask(&self, request: &str) -> String {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.folder.path().join("admin.crt")).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let client =
            rustls::ClientConnection::new(Arc::new(config), ServerName::try_from("localhost").unwrap()).unwrap();
        let mut stream = rustls::StreamOwned::new(client, TcpStream::connect(("127.0.0.1", self.port)).unwrap());
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    }
}

#[test]
fn a_link_of_the_command_opens_a_session_over_tls() {
    let site = Site::new("[console]\nenabled = true\n");
    let program = Program::start(&site.folder.path().join("loginsync.toml"));
    program.line_with("\"listening\"");
    assert!(site.run(&["health"]).status.success(), "`health` speaks TLS too");
    let output = site.run(&["console"]);
    let printed = String::from_utf8(output.stdout).unwrap();
    let link =
        printed.trim().strip_prefix(&format!("https://127.0.0.1:{}/console/enter?link=", site.port)).expect("a link");
    assert!(String::from_utf8_lossy(&output.stderr).contains("read-only"));
    let body = format!("link={link}");
    let entered = site.ask(&format!(
        "POST /console/enter HTTP/1.1\r\nHost: localhost:{0}\r\nOrigin: https://localhost:{0}\r\nConnection: close\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {1}\r\n\r\n{body}",
        site.port,
        body.len()
    ));
    assert!(entered.starts_with("HTTP/1.1 303"), "{entered}");
    let cookie = entered.lines().find_map(|line| line.strip_prefix("set-cookie: ")).expect("a cookie");
    assert!(cookie.starts_with("__Secure-loginsync-console=") && cookie.ends_with("; Secure"), "{cookie}");
    let pair = cookie.split(';').next().unwrap();
    let page = || {
        site.ask(&format!("GET /console/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nCookie: {pair}\r\n\r\n"))
    };
    let shown = page();
    assert!(
        shown.starts_with("HTTP/1.1 200") && shown.contains("root by link") && shown.contains("read-only"),
        "{shown}"
    );
    // Every session ends by one command.
    let ended = site.run(&["console", "--end"]);
    assert!(String::from_utf8_lossy(&ended.stdout).contains("ended 1 sessions"), "{ended:?}");
    assert!(page().starts_with("HTTP/1.1 401"));
    program.end();
}

#[test]
fn a_new_certificate_of_the_admin_listener_is_taken_without_a_restart() {
    let site = Site::new("[console]\nenabled = true\n");
    let program = Program::start(&site.folder.path().join("loginsync.toml"));
    program.line_with("\"listening\"");
    let request = "GET /console/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    assert!(site.ask(request).starts_with("HTTP/1.1 401"));
    certify(site.folder.path());
    program.line_with("configuration reloaded");
    // The client knows the new certificate alone.
    assert!(site.ask(request).starts_with("HTTP/1.1 401"));
    program.end();
}

#[test]
fn the_command_makes_no_link_where_the_console_is_off() {
    let site = Site::new("");
    let output = site.run(&["console"]);
    assert!(!output.status.success() && output.stdout.is_empty());
    assert!(String::from_utf8_lossy(&output.stderr).contains("enabled = true"));
}
