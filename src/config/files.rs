//! What a configuration names outside itself: files and variables, looked at when it is loaded.
//!
//! A file that is missing or holds something else is a fault of the configuration, found before a login needs it. What a
//! secret holds is never repeated in a fault.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair};
use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use x509_cert::der::Decode as _;
use zeroize::Zeroizing;

use super::Secret;
use super::reader::{Found, Section, shown};
use crate::pipeline::faults;
use crate::pipeline::ids::Timestamp;
use crate::pipeline::provider::decryption_key::DecryptionKey;
use crate::pipeline::verify::oidc::KeySet;
use crate::pipeline::verify::saml::{CertificateSet, metadata};

/// How long before its end a certificate is worth a warning.
const EXPIRY_NOTICE: Duration = Duration::from_secs(30 * 86_400);

/// A file that was named and read.
pub struct Read {
    pub path: PathBuf,
    pub bytes: Zeroizing<Vec<u8>>,
}

/// Reads the file that a key names.
pub fn file(section: &Section<'_>, key: &'static str) -> Option<Found<Read>> {
    let name = section.text(key)?;
    read(section, key, &name)
}

/// Reads each file of a list.
pub fn files(section: &Section<'_>, key: &'static str) -> Option<Vec<Found<Read>>> {
    let names = section.texts(key, false)?;
    Some(names.iter().filter_map(|name| read(section, key, name)).collect())
}

fn read(section: &Section<'_>, key: &'static str, name: &Found<&str>) -> Option<Found<Read>> {
    let path = section.context.resolve(name.value);
    match (section.context.around.read)(&path) {
        Ok(bytes) => {
            let read = Read { path, bytes: Zeroizing::new(bytes) };
            Some(Found { value: read, span: name.span.clone() })
        }
        // The content itself, put where its file is named, is not repeated.
        Err(_) if name.value.contains('\n') || name.value.contains("-----BEGIN") => {
            let message = "found what seems to be the content of a file; expected its path";
            section.context.raise_hiding(&name.span, section.key(key), message);
            None
        }
        Err(why) => {
            section.raise(
                &name.span,
                key,
                format!("cannot read `{}`: {}", shown(&path.to_string_lossy()), reason(&why)),
            );
            None
        }
    }
}

/// Why a file cannot be read, without the operating system's number.
pub fn reason(why: &std::io::Error) -> String {
    use std::io::ErrorKind;
    match why.kind() {
        ErrorKind::NotFound => String::from("no such file"),
        ErrorKind::PermissionDenied => String::from("permission denied"),
        ErrorKind::IsADirectory => String::from("it is a directory"),
        ErrorKind::InvalidData => String::from("it is not UTF-8 text"),
        _ => why.to_string(),
    }
}

/// The file of a key, checked; kept as a path, since its user reads it again when it changes.
pub fn checked_file(
    section: &Section<'_>,
    key: &'static str,
    check: impl FnOnce(&[u8]) -> Result<(), String>,
) -> Option<Found<PathBuf>> {
    let read = file(section, key)?;
    match check(&read.value.bytes) {
        Ok(()) => Some(Found { value: read.value.path, span: read.span }),
        Err(why) => {
            section.raise(&read.span, key, format!("`{}` {why}", shown(&read.value.path.to_string_lossy())));
            None
        }
    }
}

/// A PEM file of certificates, as an authority's or a server's chain.
pub fn certificates(bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let expected = "expected PEM certificates (`-----BEGIN CERTIFICATE-----`)";
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    let found = found.map_err(|error| format!("is not valid PEM: {}; {expected}", faults::pem(&error)))?;
    match found.iter().all(|certificate| x509_cert::Certificate::from_der(certificate).is_ok()) {
        _ if found.is_empty() => Err(format!("holds no certificate; {expected}")),
        true => Ok(found),
        false => Err(String::from("holds a certificate that cannot be read; expected X.509 in PEM")),
    }
}

/// Whether a server could start with this chain and key.
pub fn check_tls(chain: &[u8], key: &[u8]) -> Result<(), String> {
    let chain = certificates(chain)?;
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|error| format!("is not a PEM private key: {}", faults::pem(&error)))?;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    match rustls::sign::CertifiedKey::from_der(chain, key, &provider) {
        Ok(_) => Ok(()),
        Err(rustls::Error::InconsistentKeys(_)) => Err(String::from("is not the key of the certificate")),
        Err(_) => Err(String::from("cannot be used; expected an RSA, ECDSA or Ed25519 key in PKCS#8, PKCS#1 or SEC1")),
    }
}

/// The key that signs assertions, in PEM: as DER.
pub fn assertion_key(section: &Section<'_>) -> Option<Secret> {
    let read = file(section, "key_file")?;
    let expected = "expected a P-256 or Ed25519 private key in PKCS#8 PEM (`openssl genpkey -algorithm ed25519`)";
    let der = PrivatePkcs8KeyDer::from_pem_slice(&read.value.bytes).ok().filter(|der| {
        let der = der.secret_pkcs8_der();
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der).is_ok()
            || Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).is_ok()
    });
    if der.is_none() {
        let name = read.value.path.to_string_lossy().into_owned();
        section.raise(&read.span, "key_file", format!("`{}` holds no key of that kind; {expected}", shown(&name)));
    }
    Some(Secret::new(der?.secret_pkcs8_der().to_vec()))
}

/// A JWK Set that can verify something.
pub fn check_jwks(bytes: &[u8]) -> Result<(), String> {
    KeySet::read(bytes).map(drop).map_err(|why| why.to_string())
}

/// Metadata of a SAML identity provider that has this entity ID: when its certificates end, and why others are not used.
pub fn check_metadata(bytes: &[u8], entity_id: &str, now: Timestamp) -> Result<(Vec<Timestamp>, Vec<String>), String> {
    let text = std::str::from_utf8(bytes).map_err(|_| String::from("is not UTF-8 text; expected SAML metadata"))?;
    let found = metadata::read(text, entity_id, now).map_err(|why| format!("is not metadata of this issuer: {why}"))?;
    let skipped = found.skipped.iter().map(|why| format!("{why}; it is not used")).collect();
    Ok((found.certificates.expiries().collect(), skipped))
}

/// The certificates of several PEM files as one set.
pub fn certificate_set(section: &Section<'_>, key: &'static str, warnings: &mut Vec<String>) -> Option<CertificateSet> {
    let files = files(section, key)?;
    let before = section.context.raised();
    let mut all = Vec::new();
    for file in &files {
        let path = file.value.path.to_string_lossy();
        match CertificateSet::from_pem(&file.value.bytes) {
            Ok(set) => warnings.extend(expiry_warnings(set.expiries(), &path, section.context.around.now)),
            Err(why) => section.raise(&file.span, key, format!("`{}`: {why}", shown(&path))),
        }
        let found = certificates(&file.value.bytes).unwrap_or_default();
        all.extend(found.into_iter().map(|certificate| certificate.to_vec()));
    }
    if section.is_empty_list(key)
        && let Some(span) = section.written(key)
    {
        section.raise(&span, key, "names no file; expected at least one certificate");
    }
    if section.context.raised() > before {
        return None;
    }
    match CertificateSet::from_ders(all) {
        Ok(set) => Some(set),
        Err(why) => {
            let span = section.written(key)?;
            section.raise(&span, key, why.to_string());
            None
        }
    }
}

/// The private keys that open encrypted assertions.
pub fn decryption_keys(section: &Section<'_>, key: &'static str) -> Vec<DecryptionKey> {
    let mut keys = Vec::new();
    for file in files(section, key).unwrap_or_default() {
        match DecryptionKey::from_pem(&file.value.bytes) {
            Ok(found) => keys.push(found),
            Err(why) => {
                let path = file.value.path.to_string_lossy();
                section.raise(&file.span, key, format!("`{}`: {why}", shown(&path)));
            }
        }
    }
    keys
}

/// When the certificates of a PEM file end.
pub fn expiries(bytes: &[u8]) -> Vec<Timestamp> {
    let ends = certificates(bytes).unwrap_or_default();
    let ends = ends.iter().filter_map(|der| {
        let certificate = x509_cert::Certificate::from_der(der).ok()?;
        let end = certificate.tbs_certificate.validity.not_after.to_unix_duration().as_secs();
        Some(Timestamp::from_seconds(i64::try_from(end).ok()?))
    });
    ends.collect()
}

/// What is to be said about the ends of certificates.
pub fn expiry_warnings(ends: impl IntoIterator<Item = Timestamp>, path: &str, now: Timestamp) -> Vec<String> {
    ends.into_iter()
        .filter(|end| *end < now.plus(EXPIRY_NOTICE))
        .map(|end| match end < now {
            true => format!("a certificate in `{path}` expired at {end}"),
            false => format!("a certificate in `{path}` expires at {end}"),
        })
        .collect()
}

/// Warnings about files that every user of this machine may change: a user who can change them decides who is in which group.
pub fn writable_by_all(paths: &[PathBuf]) -> Vec<String> {
    let mut warnings = Vec::new();
    for path in paths {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        for place in [path.as_path(), folder] {
            let Ok(found) = std::fs::metadata(place) else { continue };
            let mode = found.permissions().mode() & 0o7777;
            // In a folder with the sticky bit only their owner may replace files.
            let sticky = found.is_dir() && mode & 0o1000 != 0;
            if mode & 0o002 != 0 && !sticky {
                let warning = format!(
                    "every user of this machine may write `{}` (mode {mode:04o}); expected `chmod o-w`",
                    place.display()
                );
                if !warnings.contains(&warning) {
                    warnings.push(warning);
                }
            }
        }
    }
    warnings
}

/// A secret from a file or a variable, of which at most one is named.
pub fn secret(
    section: &Section<'_>,
    file_key: &'static str,
    variable_key: &'static str,
) -> Option<Found<Zeroizing<Vec<u8>>>> {
    let from_file = file(section, file_key).map(|read| {
        let Found { value: Read { bytes, .. }, span } = read;
        Found { value: trimmed(bytes), span }
    });
    let from_variable = variable(section, variable_key);
    if let (Some(_), Some(second)) = (section.written(file_key), section.written(variable_key)) {
        section.raise(&second, variable_key, format!("`{file_key}` is set too; expected one of them"));
    }
    from_file.or(from_variable)
}

/// What a variable holds, as text.
pub fn text_variable(section: &Section<'_>, key: &'static str) -> Option<Found<String>> {
    let Found { value, span } = variable(section, key)?;
    let text = String::from_utf8(value.to_vec()).ok();
    if text.is_none() {
        section.context.raise_hiding(&span, section.key(key), "what the variable holds is not text");
    }
    text.map(|value| Found { value, span })
}

fn variable(section: &Section<'_>, key: &'static str) -> Option<Found<Zeroizing<Vec<u8>>>> {
    let name = section.text(key)?;
    match (section.context.around.environment)(name.value) {
        Some(value) => Some(Found { value: Zeroizing::new(value.into_bytes()), span: name.span }),
        // What is not a name may be the secret itself, put where its variable is named.
        None if !is_variable_name(name.value) => {
            let message = "found what names no variable; expected for instance `CLIENT_SECRET`";
            section.context.raise_hiding(&name.span, section.key(key), message);
            None
        }
        None => {
            let message = format!("environment variable not set: `{}`", shown(name.value));
            section.raise(&name.span, key, message);
            None
        }
    }
}

/// Letters, digits and underscores, as shells take them.
fn is_variable_name(name: &str) -> bool {
    !name.starts_with(|first: char| first.is_ascii_digit())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// A text file without the newline that editors put at its end, so that a key is the same from a file and a variable.
fn trimmed(mut bytes: Zeroizing<Vec<u8>>) -> Zeroizing<Vec<u8>> {
    if std::str::from_utf8(&bytes).is_ok() {
        while matches!(bytes.last(), Some(b'\n' | b'\r')) {
            bytes.pop();
        }
    }
    bytes
}

/// Bytes of a key at the least: what HMAC-SHA256 and AES-256 are worth.
const KEY_BYTES: usize = 32;

/// The key that seals the audit chain.
pub fn audit_key(section: &Section<'_>) -> Option<Secret> {
    let found = secret(section, "key_file", "key_env")?;
    if found.value.len() < KEY_BYTES {
        let message = format!("the key has {} bytes; expected at least {KEY_BYTES}", found.value.len());
        section.context.raise(&found.span, section.name.clone(), message);
        return None;
    }
    Some(Secret::new(found.value.to_vec()))
}

/// The keys that seal cookies, one a line.
pub fn cookie_keys(section: &Section<'_>) -> Option<Vec<Secret>> {
    let found = secret(section, "keys_file", "keys_env")?;
    let expected = format!("expected one base64 key of {KEY_BYTES} bytes a line (`openssl rand -base64 {KEY_BYTES}`)");
    let complain =
        |what: String| section.context.raise(&found.span, section.name.clone(), format!("{what}; {expected}"));
    let Ok(text) = std::str::from_utf8(&found.value) else {
        complain(String::from("the keys are not text"));
        return None;
    };
    let mut keys: Vec<Secret> = Vec::new();
    let before = section.context.raised();
    for (line, encoded) in text.lines().map(str::trim).enumerate().filter(|(_, encoded)| !encoded.is_empty()) {
        let line = line + 1;
        match decode(encoded) {
            None => complain(format!("line {line} of the keys is not base64")),
            Some(bytes) if bytes.len() != KEY_BYTES => {
                complain(format!("line {line} of the keys has {} bytes", bytes.len()))
            }
            Some(bytes) => {
                let key = Secret::new(bytes.to_vec());
                match keys.contains(&key) {
                    true => complain(format!("line {line} of the keys repeats an earlier one")),
                    false => keys.push(key),
                }
            }
        }
    }
    if keys.is_empty() && section.context.raised() == before {
        complain(String::from("there is no key"));
    }
    Some(keys)
}

/// The key that seals what a shared database keeps secret: base64 of 32 bytes.
pub fn store_key(section: &Section<'_>) -> Option<Secret> {
    let found = secret(section, "key_file", "key_env")?;
    let text = std::str::from_utf8(&found.value).ok();
    let key = text.and_then(decode).filter(|key| key.len() == KEY_BYTES);
    if key.is_none() {
        let message = format!(
            "the key is not base64 of {KEY_BYTES} bytes; expected a line of `openssl rand -base64 {KEY_BYTES}`"
        );
        section.context.raise(&found.span, section.name.clone(), message);
    }
    Some(Secret::new(key?.to_vec()))
}

/// Base64 in either alphabet, padded or not.
fn decode(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let lenient = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    [alphabet::STANDARD, alphabet::URL_SAFE]
        .iter()
        .find_map(|alphabet| GeneralPurpose::new(alphabet, lenient).decode(text).ok())
        .map(Zeroizing::new)
}
