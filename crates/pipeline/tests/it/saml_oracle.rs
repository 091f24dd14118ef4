//! The second verifier (feature `samael`), by itself: what it can still do once it is locked down.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::time::Duration;

use loginsync_pipeline::verify::saml::lock_down;
use samael::crypto::{CertificateDer, Crypto, CryptoProvider as _, ReduceMode};

use crate::kit::{key, login, processor_time, read, signed_assertion};

const DSIG: &str = "http://www.w3.org/2000/09/xmldsig#";

fn instead(text: &str, part: &str, other: &str) -> String {
    assert!(text.contains(part), "{part} is not in {text}");
    text.replace(part, other)
}

#[test]
fn the_library_can_be_locked_down_more_than_once() {
    assert_eq!(lock_down(), Ok(()));
    assert_eq!(lock_down(), Ok(()));
}

/// What reaches the library around the guard can still do nothing but check a signature.
#[test]
fn the_library_itself_is_locked_down() {
    lock_down().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let good = signed_assertion(&login(), &key("idp-rsa"));
    let sha256 = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256";
    let certificate = CertificateDer::from(key("idp-rsa").certificate("idp").unwrap());
    let reduce = |document: &str| {
        let certificate = std::slice::from_ref(&certificate);
        Crypto::reduce_xml_to_signed_with_allowed_algorithms(document, certificate, ReduceMode::PreDigest, None)
    };
    assert!(reduce(&good).is_ok());
    for (what, document) in [
        ("http", instead(&good, "#_assertion-1", &format!("http://{address}/"))),
        ("file", instead(&good, "#_assertion-1", "file:///dev/zero")),
        (
            "XPath",
            instead(&good, &format!("{DSIG}enveloped-signature"), "http://www.w3.org/TR/1999/REC-xpath-19991116"),
        ),
        (
            "stylesheet",
            instead(&good, &format!("{DSIG}enveloped-signature"), "http://www.w3.org/TR/1999/REC-xslt-19991116"),
        ),
        ("SHA-1", instead(&good, sha256, &format!("{DSIG}rsa-sha1"))),
        ("MD5", instead(&good, sha256, "http://www.w3.org/2001/04/xmldsig-more#rsa-md5")),
    ] {
        let before = processor_time();
        assert!(reduce(&document).is_err(), "{what}");
        assert!(processor_time().saturating_sub(before) < Duration::from_millis(500), "{what}");
    }
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "nothing was fetched");
}

/// A SHA-1 signature that is right in itself, made by another signer.
#[test]
fn the_library_refuses_a_true_sha_1_signature() {
    lock_down().unwrap();
    let document = read("saml/xmlsec1-assertion-sha1.xml");
    let certificate = CertificateDer::from(key("idp-rsa").certificate("idp").unwrap());
    let outcome =
        Crypto::reduce_xml_to_signed_with_allowed_algorithms(&document, &[certificate], ReduceMode::PreDigest, None);
    assert!(outcome.is_err());
}
