//! Verifies a SAML response.
//!
//! One function asks the XML library which bytes were signed ([`xmlsec`]); those bytes are read again, and every condition
//! is ours. What stands outside them may only refuse.
//!
//! ```text
//! signed                 the statement is read from      the Response's fields
//! Response               the Response's signed bytes     signed: must be there and right
//! Assertion              the Assertion's signed bytes    unsigned: may only refuse
//! both                   the Response's signed bytes, once both signatures hold
//! nothing                refused
//! ```
//!
//! An encrypted assertion is opened first, and its inner signature counts like that of a plain one; under a signed
//! Response it may lack one.

mod certificates;
mod conditions;
mod decrypt;
pub(super) mod logout;
pub mod metadata;
mod statement;
mod xmlsec;

use roxmltree::Node;

pub use self::certificates::{CertificateError, CertificateSet};
use self::conditions::Rules;
pub use self::decrypt::{DecryptionKey, DecryptionKeyError};
pub use self::xmlsec::{LockDownFailed, lock_down};
use super::{Assertion, BindingVerdict, Fault, Origin, Refused, RememberedRequest, SignedToken, Statement, bind};
use crate::pipeline::capture::saml::names::{ASSERTION, PROTOCOL, XML_SCHEMA, XML_SCHEMA_INSTANCE};
use crate::pipeline::capture::saml::tree::{is, named, only, parse, plain};
use crate::pipeline::capture::saml::{Content, GuardError, GuardedResponse, ResponseHead, response_head};
use crate::pipeline::ids::Timestamp;
use crate::pipeline::provider::{Provider, SamlPolicy};

/// What a verified assertion says of its subject.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SamlStatement {
    pub name_id: Option<NameId>,
    /// One entry for each `Attribute` element, in document order; elements of one name are not merged here.
    pub attributes: Vec<SamlAttribute>,
    pub session_index: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameId {
    pub value: String,
    /// `None` where the assertion names no format (SAML Core 8.3.1: unspecified).
    pub format: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SamlAttribute {
    pub name: String,
    pub friendly_name: Option<String>,
    pub values: Vec<SamlValue>,
}

/// One AttributeValue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SamlValue {
    Text(String),
    /// `xsi:nil="true"`.
    Nil,
    /// Holds child elements: no text that a mapping could compare.
    Structured,
}

/// Text that a signature covers, and the Response's fields with it.
struct Signed {
    /// Its root is the Response or the Assertion.
    text: String,
    head: ResponseHead,
    head_signed: bool,
}

pub(super) fn check(
    provider: &Provider,
    policy: &SamlPolicy,
    response: &GuardedResponse,
    certificates: &CertificateSet,
    origin: &Origin,
    now: Timestamp,
) -> Result<Assertion, Refused> {
    let rules = Rules { provider, policy, origin, now };
    let signed = match response.structure().content {
        Content::Nothing => {
            let status = response.structure().head.status.clone().unwrap_or_default();
            return Err(Refused::unsigned(Fault::Status(status)));
        }
        Content::Assertion => signed_plain(response, certificates).map_err(Refused::unsigned)?,
        Content::EncryptedAssertion => signed_encrypted(rules, response, certificates)?,
    };
    let document = parse(&signed.text).map_err(|error| Refused::unsigned(malformed(&error)))?;
    let assertion = the_assertion(document.root_element()).map_err(Refused::unsigned)?;
    let token_id = plain(assertion, "ID").unwrap_or_default().to_owned();
    // What was signed is what the guard saw. Should that ever be wrong, nothing is believed.
    if response.structure().content == Content::Assertion && token_id != response.structure().assertion_id {
        return Err(Refused::unsigned(Fault::Signature));
    }
    if token_id.is_empty() || token_id.len() > MAX_TOKEN_ID {
        return Err(Refused::unsigned(Fault::Malformed("the assertion's ID is empty or too long".into())));
    }
    check_signed(rules, &signed, assertion, token_id.clone()).map_err(|fault| Refused {
        fault,
        signed: Some(SignedToken { token_id, issued_at: conditions::time(assertion, "IssueInstant").ok().flatten() }),
    })
}

/// What an assertion says that nobody has verified.
pub(super) fn hearsay(response: &GuardedResponse) -> Result<SamlStatement, Fault> {
    let document = parse(response.text()).map_err(|error| malformed(&error))?;
    match response.structure().content {
        Content::Assertion => statement::read(the_assertion(document.root_element())?),
        Content::EncryptedAssertion => Err(Fault::Decryption),
        Content::Nothing => Err(Fault::Status(response.structure().head.status.clone().unwrap_or_default())),
    }
}

/// The replay record and the audit keep it.
const MAX_TOKEN_ID: usize = 512;

fn check_signed(
    rules: Rules<'_>,
    signed: &Signed,
    assertion: Node<'_, '_>,
    token_id: String,
) -> Result<Assertion, Fault> {
    conditions::check_response(rules, &signed.head, signed.head_signed)?;
    let met = conditions::check_assertion(rules, assertion)?;
    let binding = binding(rules, signed, met.in_response_to.as_deref())?;
    Ok(Assertion {
        provider: rules.provider.name.clone(),
        issuer: rules.provider.issuer.clone(),
        token_id,
        issued_at: met.issued_at,
        expires_at: met.expires_at,
        binding,
        statement: Statement::Saml(statement::read(assertion)?),
    })
}

/// SAML Profiles sections 4.1.4.3 and 4.1.5: an answer names its request, and one that names none was not asked for.
///
/// What ties an assertion to a request must be signed, or anybody could tie a stolen one to a request of their own.
fn binding(rules: Rules<'_>, signed: &Signed, confirmed: Option<&str>) -> Result<BindingVerdict, Fault> {
    let of_response = signed.head.in_response_to.as_deref();
    if let (Some(response), Some(confirmed)) = (of_response, confirmed)
        && response != confirmed
    {
        return Err(Fault::Binding("the response and its assertion answer different requests"));
    }
    if let Some(request) = confirmed.or(of_response.filter(|_| signed.head_signed)) {
        return bind_request(rules, request);
    }
    if !rules.policy.allow_idp_initiated {
        return Err(Fault::Unsolicited);
    }
    match of_response {
        Some(request) => match bind_request(rules, request)? {
            BindingVerdict::Matched(_) => Ok(BindingVerdict::Unsolicited),
            other => Ok(other),
        },
        None => Ok(BindingVerdict::Unsolicited),
    }
}

fn bind_request(rules: Rules<'_>, id: &str) -> Result<BindingVerdict, Fault> {
    bind(
        rules.provider,
        rules.origin,
        |request| matches!(request, RememberedRequest::Saml { request_id } if request_id == id),
        "no request with this InResponseTo is remembered by it",
    )
}

fn signed_plain(response: &GuardedResponse, certificates: &CertificateSet) -> Result<Signed, Fault> {
    let structure = response.structure();
    if !structure.response_signed && !structure.assertion_signed {
        return Err(Fault::Unsigned);
    }
    let text = xmlsec::signed_bytes(response.text(), certificates, structure.family)?;
    let head = if structure.response_signed {
        signed_head(&text, structure.head.id.as_str())?
    } else {
        structure.head.clone()
    };
    Ok(Signed { text, head, head_signed: structure.response_signed })
}

/// Reads the Response's fields from its signed bytes.
fn signed_head(text: &str, id: &str) -> Result<ResponseHead, Fault> {
    let document = parse(text).map_err(|error| malformed(&error))?;
    let root = document.root_element();
    let head = response_head(root).map_err(|error| malformed(&error))?;
    if !is(root, PROTOCOL, "Response") || head.id != id { Err(Fault::Signature) } else { Ok(head) }
}

/// Opens an encrypted assertion and finds the signature that covers it.
fn signed_encrypted(
    rules: Rules<'_>,
    response: &GuardedResponse,
    certificates: &CertificateSet,
) -> Result<Signed, Refused> {
    let structure = response.structure();
    if rules.policy.decryption_keys.is_empty() {
        return Err(Refused::unsigned(Fault::NoDecryptionKey));
    }
    if !structure.response_signed {
        return opened_alone(rules, response, certificates).map_err(Refused::unsigned);
    }
    let outer = xmlsec::signed_bytes(response.text(), certificates, structure.family).map_err(Refused::unsigned)?;
    let head = signed_head(&outer, &structure.head.id).map_err(Refused::unsigned)?;
    let signed = Some(SignedToken { token_id: head.id.clone(), issued_at: None });
    opened_within(rules, response, certificates, outer, head).map_err(|fault| Refused { fault, signed })
}

/// Under a signed Response. What is read comes from its signed bytes, which have lost their Signature element.
fn opened_within(
    rules: Rules<'_>,
    response: &GuardedResponse,
    certificates: &CertificateSet,
    outer: String,
    head: ResponseHead,
) -> Result<Signed, Fault> {
    let mut context = namespaces(&outer)?;
    // Exclusive canonicalization drops prefixes that only the ciphertext uses. Nobody signed what they mean, so only those
    // of XML Schema are taken from the message as sent: they type values and name nobody.
    for (prefix, name) in namespaces(response.text())? {
        let schema = matches!(name.as_str(), XML_SCHEMA | XML_SCHEMA_INSTANCE);
        if schema && context.iter().all(|(known, _)| *known != prefix) {
            context.push((prefix, name));
        }
    }
    let opened = GuardedResponse::of_text(opened(rules, &outer, context)?).map_err(|error| malformed(&error))?;
    let text = match (opened.structure().content, opened.structure().assertion_signed) {
        (Content::Assertion, true) => xmlsec::signed_bytes(opened.text(), certificates, opened.structure().family)?,
        (Content::Assertion, false) => opened.text().to_owned(),
        _ => return Err(Fault::Decryption),
    };
    Ok(Signed { text, head, head_signed: true })
}

/// Under nothing: the assertion must bring its own signature.
fn opened_alone(rules: Rules<'_>, response: &GuardedResponse, certificates: &CertificateSet) -> Result<Signed, Fault> {
    let malleable = cipher_is_malleable(response.text())?;
    if malleable && !rules.policy.allow_cbc {
        return Err(Fault::CbcUnsigned);
    }
    let head = response.structure().head.clone();
    if malleable {
        // Whoever may ask what a changed ciphertext decrypts to learns the plaintext. So only a browser that left for this
        // login may ask, and hears one answer.
        match head.in_response_to.as_deref() {
            Some(request) => bind_request(rules, request).map(|_| ())?,
            None if rules.policy.allow_idp_initiated => {}
            None => return Err(Fault::Unsolicited),
        }
    }
    let text = open_and_verify(rules, response, certificates)
        .map_err(|fault| if malleable { Fault::Decryption } else { fault })?;
    Ok(Signed { text, head, head_signed: false })
}

fn open_and_verify(
    rules: Rules<'_>,
    response: &GuardedResponse,
    certificates: &CertificateSet,
) -> Result<String, Fault> {
    let context = namespaces(response.text())?;
    let opened =
        GuardedResponse::of_text(opened(rules, response.text(), context)?).map_err(|error| malformed(&error))?;
    let structure = opened.structure();
    match (structure.content, structure.assertion_signed) {
        (Content::Assertion, true) => xmlsec::signed_bytes(opened.text(), certificates, structure.family),
        (Content::Assertion, false) => Err(Fault::Unsigned),
        _ => Err(Fault::Decryption),
    }
}

/// The document with its encrypted assertion in plain.
fn opened(rules: Rules<'_>, text: &str, context: Vec<(Option<String>, String)>) -> Result<String, Fault> {
    let document = parse(text).map_err(|error| malformed(&error))?;
    let encrypted = encrypted_assertion(document.root_element())?;
    let keys = rules.policy.decryption_keys.iter().map(|key| &**key);
    let plaintext = decrypt::open(encrypted, keys).ok_or(Fault::Decryption)?;
    decrypt::substitute(text, encrypted, &plaintext, &context).ok_or(Fault::Decryption)
}

fn cipher_is_malleable(text: &str) -> Result<bool, Fault> {
    let document = parse(text).map_err(|error| malformed(&error))?;
    let cipher = decrypt::content_cipher(encrypted_assertion(document.root_element())?);
    cipher.map(|cipher| cipher.is_malleable()).ok_or(Fault::Decryption)
}

/// Prefixes and names of the namespaces in scope at the encrypted assertion.
fn namespaces(text: &str) -> Result<Vec<(Option<String>, String)>, Fault> {
    let document = parse(text).map_err(|error| malformed(&error))?;
    let encrypted = encrypted_assertion(document.root_element())?;
    let in_scope = encrypted.namespaces().filter(|namespace| namespace.name() != Some("xml"));
    Ok(in_scope.map(|namespace| (namespace.name().map(str::to_owned), namespace.uri().to_owned())).collect())
}

fn encrypted_assertion<'a, 'input: 'a>(root: Node<'a, 'input>) -> Result<Node<'a, 'input>, Fault> {
    named(root, ASSERTION, "EncryptedAssertion").next().ok_or(Fault::Decryption)
}

/// The one assertion within signed bytes.
fn the_assertion<'a, 'input: 'a>(root: Node<'a, 'input>) -> Result<Node<'a, 'input>, Fault> {
    if is(root, ASSERTION, "Assertion") {
        return Ok(root);
    }
    only(root, ASSERTION, "Assertion").ok().flatten().ok_or(Fault::Signature)
}

fn malformed(error: &GuardError) -> Fault {
    Fault::Malformed(error.to_string())
}
