//! The wall before everything that reads XML: a SAML response as strict text, or nothing.
//!
//! What goes on to the app is what the browser sent, and the app's libraries may follow references to files and addresses,
//! run stylesheets, and take one element for another. So a document passes only after the guard here has found that it has
//! the one shape a login has:
//!
//! ```text
//! samlp:Response              one root, nothing but text and elements, each ID once
//! ├─ saml:Issuer
//! ├─ ds:Signature?            one Reference, to the ID of its own parent
//! ├─ samlp:Status
//! └─ saml:Assertion           exactly one in the whole document, or one EncryptedAssertion
//!    └─ ds:Signature?
//! ```
//!
//! What the guard reads on the way chooses a provider and may refuse a login. It never grants one.

pub mod algorithms;
pub(crate) mod canonical;
mod guard;
pub mod logout;
pub mod names;
mod peek;
pub(crate) mod signature;
mod survey;
pub(crate) mod tree;

use std::borrow::Cow;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

pub(crate) use self::guard::response_head;
pub use self::peek::{RootName, redirect_root_name, request_id_of_post, request_id_of_redirect, root_name};
use self::signature::Signature;
use super::denial::Denial;

/// Padding is what senders forget most; nothing else about base64 is forgiven.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Bytes of a brief document: a person of 150 groups. Verified in 150 µs, and in 5 ms at worst.
const BRIEF: usize = 32 * 1024;

/// A SAML protocol message at a callback path.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "made once a login and taken apart at once")]
pub enum Message {
    Response(GuardedResponse),
    /// The answer to a logout: holds no assertion anywhere.
    LogoutResponse,
}

/// A Response whose structure the guard accepted. Its content is still a claim of its sender.
#[derive(Clone)]
pub struct GuardedResponse {
    text: String,
    structure: Box<Structure>,
}

/// What the guard read of a response.
#[derive(Debug, Clone)]
pub(crate) struct Structure {
    pub(crate) head: ResponseHead,
    pub(crate) content: Content,
    pub(crate) response_signature: Option<Signature>,
    pub(crate) assertion_signature: Option<Signature>,
    /// Of the response, or of its assertion where the response has none; empty where neither has one.
    pub(crate) issuer: String,
    /// Of the assertion; empty where it is encrypted or absent.
    pub(crate) assertion_id: String,
    /// Of an answer without an assertion.
    pub denial: Option<Denial>,
}

/// The Response element's own attributes and children (SAML Core section 3.2.2). Empty attributes count as absent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ResponseHead {
    pub(crate) id: String,
    pub(crate) version: Option<String>,
    pub(crate) issuer: Option<String>,
    pub(crate) in_response_to: Option<String>,
    pub(crate) destination: Option<String>,
    /// The top-level StatusCode.
    pub(crate) status: Option<String>,
}

/// What a response carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    Nothing,
    Assertion,
    EncryptedAssertion,
}

/// What the guard does not allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GuardError {
    #[error("longer than the {0} bytes that `limits.saml_document` allows")]
    TooLong(usize),
    #[error("it is not base64")]
    Base64,
    #[error("it is not UTF-8")]
    NotUtf8,
    #[error("it declares the encoding `{0}`; expected UTF-8")]
    Encoding(String),
    #[error("it declares XML version `{0}`; expected 1.0")]
    Version(String),
    #[error("it holds a control character")]
    Control,
    #[error("it holds a document type declaration")]
    DocumentType,
    #[error("it holds a comment")]
    Comment,
    #[error("it holds a processing instruction")]
    ProcessingInstruction,
    #[error("its elements are nested too deeply")]
    Depth,
    #[error("it has too many elements")]
    Elements,
    #[error("an element has too many attributes")]
    Attributes,
    #[error("too many namespaces are in scope at one element")]
    Namespaces,
    #[error("the name of a namespace is longer than 512 bytes")]
    NamespaceName,
    #[error("a namespace declaration {0}")]
    Namespace(&'static str),
    #[error("it unbinds a prefix, which no valid document does")]
    UnboundPrefix,
    #[error("it is not well-formed XML: {0}")]
    Xml(String),
    #[error("its root is `{0}`; expected a SAML 2.0 `Response`")]
    Root(String),
    #[error("element `{0}` has no place in a login")]
    Element(String),
    #[error("element `{0}` appears more than once; expected once")]
    Repeated(&'static str),
    #[error("it holds {0} assertions; expected exactly one")]
    Assertions(usize),
    #[error("its assertion is not a child of the response")]
    AssertionPlace,
    #[error("`{0}` has no `ID`")]
    NoId(&'static str),
    #[error("an ID is not a valid XML name")]
    IdName,
    #[error("two elements have the same ID")]
    RepeatedId,
    #[error("it names no issuer")]
    NoIssuer,
    #[error("the response is from `{response}` and its assertion from `{assertion}`; expected one issuer")]
    TwoIssuers { response: String, assertion: String },
    #[error("a signature {0}")]
    Signature(&'static str),
    #[error("a signature uses `{0}`; expected RSA, RSA-PSS or ECDSA with SHA-256, SHA-384 or SHA-512")]
    Algorithm(String),
    #[error("what is signed grows too much when it is canonicalized")]
    Growth,
    #[error("its encrypted assertion {0}")]
    Encrypted(&'static str),
}

impl GuardedResponse {
    /// The issuer that the document names.
    pub fn issuer(&self) -> &str {
        &self.structure.issuer
    }

    /// What the Status says where it is not Success and no assertion is inside: the answer to a login that did not happen.
    pub fn denial(&self) -> Option<&Denial> {
        self.structure.denial.as_ref()
    }

    /// Whether its assertion can only be read with a key.
    pub fn is_encrypted(&self) -> bool {
        self.structure.content == Content::EncryptedAssertion
    }

    /// Whether it takes less time to verify than to hand it to another thread.
    pub fn is_brief(&self) -> bool {
        // The second verifier is C code, and a private key takes a millisecond.
        cfg!(not(feature = "samael")) && !self.is_encrypted() && self.text.len() <= BRIEF
    }

    /// For `verify` alone: the document, exactly as the guard saw it.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// For `verify` alone: what the guard read.
    pub(crate) fn structure(&self) -> &Structure {
        &self.structure
    }

    /// For `verify` alone: guards a response whose encrypted assertion was replaced by its plaintext.
    pub(crate) fn of_text(text: String) -> Result<Self, GuardError> {
        let text = with_plain_line_ends(text);
        match guard::inspect(&text)? {
            guard::Inspected::Response(structure) => Ok(Self { text, structure }),
            guard::Inspected::LogoutResponse => Err(GuardError::Root("LogoutResponse".into())),
        }
    }
}

/// Prints nothing of the document: it is about a person.
impl std::fmt::Debug for GuardedResponse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "GuardedResponse({} bytes from {:?})", self.text.len(), self.structure.issuer)
    }
}

/// Reads the value of a `SAMLResponse` form field (base64, white space allowed; SAML Bindings section 3.5.4).
///
/// `max_document` bounds the decoded document, in bytes.
///
/// # Errors
/// Whatever the guard does not allow.
pub fn read(field: &str, max_document: usize) -> Result<Message, GuardError> {
    let bytes = decode(field, max_document)?;
    read_text(String::from_utf8(bytes).map_err(|_| GuardError::NotUtf8)?)
}

/// Reads a SAML document that was decoded before.
///
/// # Errors
/// Whatever the guard does not allow.
pub(crate) fn read_text(text: String) -> Result<Message, GuardError> {
    let text = match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    };
    let text = with_plain_line_ends(text);
    match guard::inspect(&text)? {
        guard::Inspected::Response(structure) => Ok(Message::Response(GuardedResponse { text, structure })),
        guard::Inspected::LogoutResponse => Ok(Message::LogoutResponse),
    }
}

/// XML 1.0 section 2.11, before any parser sees it: one of them gets it wrong next to references.
fn with_plain_line_ends(text: String) -> String {
    if text.contains('\r') { text.replace("\r\n", "\n").replace('\r', "\n") } else { text }
}

fn decode(field: &str, max: usize) -> Result<Vec<u8>, GuardError> {
    let bytes = field.as_bytes();
    let blanks = bytes.iter().filter(|byte| **byte <= b' ').count();
    let white_space = if blanks == 0 { 0 } else { bytes.iter().filter(|byte| byte.is_ascii_whitespace()).count() };
    // Four characters make three bytes; the length is known before anything is allocated for it.
    if (field.len() - white_space) / 4 * 3 > max.saturating_add(2) {
        return Err(GuardError::TooLong(max));
    }
    let compact = match white_space {
        0 => Cow::Borrowed(field.as_bytes()),
        _ => Cow::Owned(field.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect()),
    };
    let bytes = BASE64.decode(compact).map_err(|_| GuardError::Base64)?;
    if bytes.len() > max { Err(GuardError::TooLong(max)) } else { Ok(bytes) }
}

/// A stranger's text, short enough for a log line.
fn short(text: &str) -> String {
    text.chars().take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_decoded_strictly_and_within_its_limit() {
        assert_eq!(decode(" PGEv\r\nPg==\n", 4), Ok(b"<a/>".to_vec()));
        assert_eq!(decode("PGEvPg", 4), Ok(b"<a/>".to_vec()));
        assert_eq!(decode("PGEvPg==", 3), Err(GuardError::TooLong(3)));
        assert_eq!(decode(&"A".repeat(1 << 20), 1000), Err(GuardError::TooLong(1000)));
        for field in ["PGEv-g==", "PGEv!Pg==", "PGEvPg==PGEvPg==", "PGEvPh=="] {
            assert_eq!(decode(field, 100), Err(GuardError::Base64), "{field}");
        }
        assert!(matches!(read("/////w==", 100), Err(GuardError::NotUtf8)));
    }
}
