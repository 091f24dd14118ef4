//! What is wrong with a text that may be secret, said without repeating any of it.
//!
//! The texts of parsing libraries quote what they could not read: a private key without line breaks, the value of a member.

use rustls_pki_types::pem::Error;
use serde_json::error::Category;

/// Characters of the longest label that PEM files have (RFC 7468 section 4 and after).
const LONGEST_LABEL: usize = 64;

/// Why a file cannot be read as PEM.
pub fn pem(error: &Error) -> String {
    let text = match error {
        Error::NoItemsFound => "it has no block of this kind (`-----BEGIN …-----`)",
        Error::MissingSectionEnd { end_marker: line } | Error::IllegalSectionStart { line }
            if line.len() > LONGEST_LABEL =>
        {
            "line breaks are missing; expected `-----BEGIN …-----` and `-----END …-----` on lines of their own"
        }
        Error::MissingSectionEnd { .. } => "a block has no end (`-----END …-----`)",
        Error::IllegalSectionStart { .. } => "a line begins with `-----BEGIN` and does not end with `-----`",
        Error::Base64Decode(_) => "a block is not base64",
        // An operating system's error has no content of the file.
        Error::Io(error) => return error.to_string(),
        _ => "it is too large",
    };
    text.to_owned()
}

/// Where a text is not the JSON that was expected.
pub fn json(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        Category::Io | Category::Syntax => "not JSON",
        Category::Eof => "JSON that breaks off",
        Category::Data => "a member that is missing or of another type",
    };
    format!("{what}, at line {} column {}", error.line(), error.column())
}

#[cfg(test)]
mod tests {
    use rustls_pki_types::PrivateKeyDer;
    use rustls_pki_types::pem::PemObject as _;

    use super::*;

    #[test]
    fn nothing_of_a_key_is_repeated() {
        const KEY: &str = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQDAnthisisthesecretpart";
        for (file, expected) in [
            (format!("-----BEGIN PRIVATE KEY-----\\n{KEY}\\n-----END PRIVATE KEY-----\\n"), "line breaks are missing"),
            (format!("-----BEGIN PRIVATE KEY----- {KEY} -----END PRIVATE KEY-----"), "line breaks are missing"),
            (format!("-----BEGIN PRIVATE KEY-----\n{KEY}\n"), "has no end"),
            (format!("-----BEGIN PRIVATE KEY-----\n{KEY}*\n-----END PRIVATE KEY-----\n"), "not base64"),
            (format!("-----BEGIN PRIVATE KEY\n{KEY}\n-----END PRIVATE KEY-----\n"), "does not end with"),
            (KEY.to_owned(), "no block"),
        ] {
            let fault = pem(&PrivateKeyDer::from_pem_slice(file.as_bytes()).unwrap_err());
            assert!(fault.contains(expected), "{file}: {fault}");
            assert!(!fault.contains("secret") && !fault.contains("77, 73, 73"), "{fault}");
        }
        for text in [r#"{"keys": "secret"}"#, r#"["secret", 7]"#, r#"{"keys": [secret]}"#, r#"{"keys": ["#] {
            let fault = json(&serde_json::from_str::<std::collections::HashMap<String, Vec<u8>>>(text).unwrap_err());
            assert!(fault.contains("line 1 column") && !fault.contains("secret"), "{fault}");
        }
    }
}
