//! What the parts of a login cost by themselves, in the same run: less than their sum nobody can need.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use aws_lc_rs::signature::{ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rusqlite::{Connection, params};

use crate::logins::{self, Issuer};
use crate::process::installed;

type Failure = Box<dyn std::error::Error>;

/// In microseconds.
#[derive(Debug, Clone, Copy)]
pub struct Floor {
    pub rsa: f64,
    pub oidc_reading: f64,
    pub saml_reading: f64,
    pub store: f64,
    /// `xmlsec1 --verify` on one of our responses, if it is installed.
    pub xmlsec: Option<f64>,
}

pub fn measure(folder: &Path, issuer: &Issuer) -> Result<Floor, Failure> {
    let (token, response) = logins::specimens(issuer)?;
    let (signed, signature) = token.rsplit_once('.').ok_or("no signature")?;
    let signature = URL_SAFE_NO_PAD.decode(signature)?;
    let key = ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, issuer.key().public_key()?)?;
    let rsa = each(2000, || key.verify_sig(signed.as_bytes(), &signature).is_ok());
    let claims = signed.split('.').nth(1).ok_or("no claims")?;
    let oidc_reading = each(5000, || {
        let claims = URL_SAFE_NO_PAD.decode(claims).unwrap_or_default();
        serde_json::from_slice::<serde_json::Value>(&claims).is_ok()
    });
    let field = STANDARD.encode(&response);
    let saml_reading = each(2000, || {
        let document = String::from_utf8(STANDARD.decode(&field).unwrap_or_default()).unwrap_or_default();
        let digest = digest::digest(&digest::SHA256, document.as_bytes());
        roxmltree::Document::parse(&document).is_ok() && digest.as_ref().len() == 32
    });
    Ok(Floor { rsa, oidc_reading, saml_reading, store: store(folder)?, xmlsec: xmlsec(folder, issuer, &response)? })
}

/// Microseconds for each of so many runs.
fn each(count: u32, mut work: impl FnMut() -> bool) -> f64 {
    let started = Instant::now();
    let good = (0..count).filter(|_| std::hint::black_box(work())).count();
    assert_eq!(good, count as usize, "a part of the floor fails");
    micros(started.elapsed()) / f64::from(count)
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// Reads the rows of one user, takes one away and puts one in, in a transaction.
fn store(folder: &Path) -> Result<f64, Failure> {
    let mut connection = Connection::open(folder.join("floor.db"))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.execute_batch("CREATE TABLE held (user INTEGER, name TEXT, PRIMARY KEY (user, name)) WITHOUT ROWID")?;
    let transaction = connection.transaction()?;
    for user in 0..2000 {
        for group in 0..9 {
            transaction.execute("INSERT INTO held VALUES (?1, ?2)", params![user, format!("Group {group}")])?;
        }
    }
    transaction.commit()?;
    let mut user = 0;
    Ok(each(4000, || {
        user = (user + 7) % 2000;
        let login = || -> rusqlite::Result<()> {
            connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
            let names = connection
                .prepare_cached("SELECT name FROM held WHERE user = ?1")?
                .query_map([user], |row| row.get::<_, String>(0))?
                .collect::<rusqlite::Result<Vec<_>>>()?;
            let first = names.first().map(String::as_str).unwrap_or_default();
            connection
                .prepare_cached("DELETE FROM held WHERE user = ?1 AND name = ?2")?
                .execute(params![user, first])?;
            let other = format!("Group {}", 100 + names.len() + first.len());
            connection.prepare_cached("INSERT OR IGNORE INTO held VALUES (?1, ?2)")?.execute(params![user, other])?;
            connection.prepare_cached("COMMIT")?.execute([])?;
            Ok(())
        };
        login().is_ok()
    }))
}

/// By the difference of few and many runs in one process.
fn xmlsec(folder: &Path, issuer: &Issuer, response: &str) -> Result<Option<f64>, Failure> {
    let Some(program) = installed("xmlsec1") else { return Ok(None) };
    let (document, certificate) = (folder.join("response.xml"), folder.join("signer.pem"));
    std::fs::write(&document, response)?;
    std::fs::write(&certificate, issuer.certificate_pem())?;
    let run = |times: u32| -> Result<Duration, Failure> {
        let started = Instant::now();
        let status = Command::new(&program)
            .args(["--verify", "--repeat", &times.to_string(), "--id-attr:ID"])
            .args(["urn:oasis:names:tc:SAML:2.0:assertion:Assertion", "--pubkey-cert-pem"])
            .args([&certificate, &document])
            .env("SSL_CERT_FILE", "/dev/null")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()?;
        if status.success() { Ok(started.elapsed()) } else { Err("xmlsec1 does not verify our response".into()) }
    };
    let (few, many) = (run(10)?, run(1010)?);
    Ok(Some(micros(many.saturating_sub(few)) / 1000.0))
}
