//! Verifies a SAML response.
//!
//! [`signature`] says which bytes the provider's key vouches for; those bytes are read, and every condition is ours. What
//! stands outside them may only refuse.
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
mod keys;
pub(super) mod logout;
pub mod metadata;
mod second;
mod signature;
mod statement;
#[cfg(feature = "samael")]
mod xmlsec;

use roxmltree::Node;

pub use self::certificates::{CertificateError, CertificateSet};
use self::conditions::Rules;
use self::signature::{Role, Signed, verify};
#[cfg(feature = "samael")]
pub use self::xmlsec::{LockDownFailed, lock_down, unjudged};
use super::{
    Assertion, BindingVerdict, DecryptionFault, Fault, Origin, Refused, RememberedRequest, SignedToken, Statement, bind,
};
use crate::capture::saml::names::{ASSERTION, SIGNATURE, XML_SCHEMA, XML_SCHEMA_INSTANCE};
use crate::capture::saml::signature::Signature;
use crate::capture::saml::tree::{named, only, parse, plain};
use crate::capture::saml::{Content, GuardError, GuardedResponse, ResponseHead, response_head};
use crate::ids::Timestamp;
use crate::provider::{Provider, SamlPolicy};

/// What a verified assertion says of its subject.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SamlStatement {
    pub name_id: Option<NameId>,
    /// One entry for each `Attribute` element, in document order; elements of one name are not merged here.
    pub attributes: Vec<SamlAttribute>,
    pub session_index: Option<String>,
    /// How the person was authenticated: the AuthnContextClassRef of every AuthnStatement.
    pub context_classes: Vec<String>,
    /// The provider's attributes are found by Name alone.
    pub by_name_alone: bool,
    /// The subject is an EncryptedID, which is not opened.
    pub encrypted_id: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NameId {
    pub value: String,
    /// `None` where the assertion names no format (SAML Core 8.3.1: unspecified).
    pub format: Option<String>,
    /// Who gave the name, where it is unique within that alone (SAML Core 2.2.2).
    pub name_qualifier: Option<String>,
    pub sp_name_qualifier: Option<String>,
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

/// What a response comes down to once its signatures hold.
struct Believed<'a> {
    signed: Signed<'a>,
    /// The Response's fields, where its signature covers them and `signed` is the assertion alone.
    head: Option<ResponseHead>,
}

impl<'a> From<Signed<'a>> for Believed<'a> {
    fn from(signed: Signed<'a>) -> Self {
        Self { signed, head: None }
    }
}

/// The Response's fields, and whether the provider vouches for them.
struct Head {
    fields: ResponseHead,
    signed: bool,
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
    let believed = match response.structure().content {
        Content::Nothing => {
            let status = response.structure().head.status.clone().unwrap_or_default();
            return Err(Refused::unsigned(Fault::Status(status)));
        }
        Content::Assertion => signed_plain(response, certificates).map_err(Refused::unsigned)?.into(),
        Content::EncryptedAssertion => signed_encrypted(rules, response, certificates)?,
    };
    let document = believed.signed.document().map_err(Refused::unsigned)?;
    let root = document.root_element();
    let assertion = the_assertion(believed.signed.role(), root).map_err(Refused::unsigned)?;
    let token_id = plain(assertion, "ID").unwrap_or_default().to_owned();
    // What was signed is what the guard saw. Should that ever be wrong, nothing is believed.
    if response.structure().content == Content::Assertion && token_id != response.structure().assertion_id {
        return Err(Refused::unsigned(Fault::Signature));
    }
    if token_id.is_empty() || token_id.len() > MAX_TOKEN_ID {
        return Err(Refused::unsigned(Fault::Malformed("the assertion's ID is empty or too long".into())));
    }
    let head = match (believed.head, believed.signed.role()) {
        (Some(fields), _) => Head { fields, signed: true },
        (None, Role::Response) => Head { fields: head_of(root).map_err(Refused::unsigned)?, signed: true },
        (None, _) => Head { fields: response.structure().head.clone(), signed: false },
    };
    check_signed(rules, &head, assertion, token_id.clone()).map_err(|fault| Refused {
        fault,
        signed: Some(SignedToken { token_id, issued_at: conditions::time(assertion, "IssueInstant").ok().flatten() }),
    })
}

/// What an assertion says that is not verified yet.
pub(super) fn hearsay(policy: &SamlPolicy, response: &GuardedResponse) -> Result<SamlStatement, Fault> {
    let document = parse(response.text()).map_err(|error| malformed(&error))?;
    match response.structure().content {
        Content::Assertion => statement::read(the_assertion(Role::Response, document.root_element())?, policy),
        Content::EncryptedAssertion => Err(Fault::Decryption(DecryptionFault::Untold)),
        Content::Nothing => Err(Fault::Status(response.structure().head.status.clone().unwrap_or_default())),
    }
}

/// The replay record and the audit keep it.
const MAX_TOKEN_ID: usize = 512;

fn check_signed(rules: Rules<'_>, head: &Head, assertion: Node<'_, '_>, token_id: String) -> Result<Assertion, Fault> {
    conditions::check_response(rules, &head.fields, head.signed)?;
    let met = conditions::check_assertion(rules, assertion)?;
    let binding = binding(rules, head, met.in_response_to.as_deref())?;
    Ok(Assertion {
        provider: rules.provider.name.clone(),
        issuer: rules.provider.issuer.clone(),
        token_id,
        issued_at: met.issued_at,
        expires_at: met.expires_at,
        binding,
        statement: Statement::Saml(statement::read(assertion, rules.policy)?),
    })
}

/// SAML Profiles sections 4.1.4.3 and 4.1.5: an answer names its request, and one that names none was not asked for.
///
/// What ties an assertion to a request must be signed, or anyone could tie a stolen one to a request of their own.
fn binding(rules: Rules<'_>, head: &Head, confirmed: Option<&str>) -> Result<BindingVerdict, Fault> {
    let of_response = head.fields.in_response_to.as_deref();
    if let (Some(response), Some(confirmed)) = (of_response, confirmed)
        && response != confirmed
    {
        return Err(Fault::Binding("the response and its assertion answer different requests"));
    }
    if let Some(request) = confirmed.or(of_response.filter(|_| head.signed)) {
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

/// Every signature must hold, by whichever key.
fn signed_plain<'a>(response: &'a GuardedResponse, certificates: &CertificateSet) -> Result<Signed<'a>, Fault> {
    let structure = response.structure();
    let outer = structure.response_signature.as_ref();
    let inner = structure.assertion_signature.as_ref();
    let check = |found: &'a Signature, role: Role| verify(found, role, certificates).map(|signed| (found, signed));
    let outer = outer.map(|found| check(found, Role::Response)).transpose()?;
    let inner = inner.map(|found| check(found, Role::Assertion)).transpose()?;
    let all: Vec<_> = outer.iter().chain(&inner).map(|(found, signed)| (*found, signed)).collect();
    second::agrees(response.text(), &all, certificates)?;
    outer.or(inner).map(|(_, signed)| signed).ok_or(Fault::Unsigned)
}

fn head_of(root: Node<'_, '_>) -> Result<ResponseHead, Fault> {
    response_head(root).map_err(|error| malformed(&error))
}

/// Opens an encrypted assertion and finds the signature that covers it.
fn signed_encrypted<'a>(
    rules: Rules<'_>,
    response: &'a GuardedResponse,
    certificates: &CertificateSet,
) -> Result<Believed<'a>, Refused> {
    if rules.policy.decryption_keys.is_empty() {
        return Err(Refused::unsigned(Fault::NoDecryptionKey));
    }
    if response.structure().response_signature.is_none() {
        return opened_alone(rules, response, certificates).map(Believed::from).map_err(Refused::unsigned);
    }
    let outer = signed_plain(response, certificates).map_err(Refused::unsigned)?;
    let head = {
        let document = outer.document().map_err(Refused::unsigned)?;
        head_of(document.root_element()).map_err(Refused::unsigned)?
    };
    let signed = Some(SignedToken { token_id: head.id.clone(), issued_at: None });
    let opened = opened_within(rules, response, certificates, outer);
    opened.map(|signed| Believed { signed, head: Some(head) }).map_err(|fault| Refused { fault, signed })
}

/// Under a signed Response: the ciphertext is read from its signed bytes.
fn opened_within(
    rules: Rules<'_>,
    response: &GuardedResponse,
    certificates: &CertificateSet,
    outer: Signed<'_>,
) -> Result<Signed<'static>, Fault> {
    let plaintext = decrypted(rules, outer.text())?;
    // An assertion's own signature may keep prefixes of the message around it, which its signed bytes have lost.
    let around = without_own_signature(response.text())?;
    let as_sent = with_plaintext(&around, &plaintext, namespaces(&around)?)?;
    if as_sent.structure().assertion_signature.is_some() {
        return signed_inside(&as_sent, certificates);
    }
    let mut context = namespaces(outer.text())?;
    // Exclusive canonicalization drops prefixes that only the ciphertext uses. What they mean is unsigned, so only those
    // of XML Schema are taken from the message as sent: they type values and name no person.
    for (prefix, name) in namespaces(response.text())? {
        let schema = matches!(name.as_str(), XML_SCHEMA | XML_SCHEMA_INSTANCE);
        if schema && context.iter().all(|(known, _)| *known != prefix) {
            context.push((prefix, name));
        }
    }
    let opened = with_plaintext(outer.text(), &plaintext, context)?;
    match opened.structure().content {
        Content::Assertion => Ok(outer.opened(opened.text().to_owned())),
        _ => Err(Fault::Decryption(DecryptionFault::NoAssertion)),
    }
}

/// Under nothing: the assertion must bring its own signature.
fn opened_alone(
    rules: Rules<'_>,
    response: &GuardedResponse,
    certificates: &CertificateSet,
) -> Result<Signed<'static>, Fault> {
    let malleable = cipher_is_malleable(response.text())?;
    if malleable && !rules.policy.allow_cbc {
        return Err(Fault::CbcUnsigned);
    }
    if malleable {
        // An attacker who may ask what a changed ciphertext decrypts to learns the plaintext. So only a browser that left for this
        // login may ask, and hears one answer.
        match response.structure().head.in_response_to.as_deref() {
            Some(request) => bind_request(rules, request).map(|_| ())?,
            None if rules.policy.allow_idp_initiated => {}
            None => return Err(Fault::Unsolicited),
        }
    }
    let signed = decrypted(rules, response.text())
        .and_then(|plaintext| with_plaintext(response.text(), &plaintext, namespaces(response.text())?))
        .and_then(|opened| signed_inside(&opened, certificates));
    signed.map_err(|fault| if malleable { Fault::Decryption(DecryptionFault::Untold) } else { fault })
}

/// The assertion that was encrypted, by its own signature.
fn signed_inside(opened: &GuardedResponse, certificates: &CertificateSet) -> Result<Signed<'static>, Fault> {
    let structure = opened.structure();
    match (structure.content, &structure.assertion_signature) {
        (Content::Assertion, Some(found)) => {
            let signed = verify(found, Role::Assertion, certificates)?;
            second::agrees(opened.text(), &[(found, &signed)], certificates)?;
            Ok(signed.into_owned())
        }
        (Content::Assertion, None) => Err(Fault::Unsigned),
        _ => Err(Fault::Decryption(DecryptionFault::NoAssertion)),
    }
}

/// A Response without the signature over it, which no longer holds once a ciphertext in it is replaced.
fn without_own_signature(text: &str) -> Result<String, Fault> {
    let document = parse(text).map_err(|error| malformed(&error))?;
    let signature = named(document.root_element(), SIGNATURE, "Signature").next().map(|signature| signature.range());
    let parts = signature.and_then(|range| Some([text.get(..range.start)?, text.get(range.end..)?]));
    parts.map(|parts| parts.concat()).ok_or(Fault::Signature)
}

/// The plaintext of a document's encrypted assertion.
fn decrypted(rules: Rules<'_>, text: &str) -> Result<String, Fault> {
    let document = parse(text).map_err(|error| malformed(&error))?;
    let encrypted = encrypted_assertion(document.root_element())?;
    let keys = rules.policy.decryption_keys.iter().map(|key| &**key);
    decrypt::open(encrypted, keys).map_err(Fault::Decryption)
}

/// The document with its encrypted assertion in plain, guarded again.
fn with_plaintext(
    text: &str,
    plaintext: &str,
    context: Vec<(Option<String>, String)>,
) -> Result<GuardedResponse, Fault> {
    let document = parse(text).map_err(|error| malformed(&error))?;
    let encrypted = encrypted_assertion(document.root_element())?;
    let whole = decrypt::substitute(text, encrypted, plaintext, &context);
    let whole = whole.ok_or(Fault::Decryption(DecryptionFault::NoAssertion))?;
    GuardedResponse::of_text(whole).map_err(|error| malformed(&error))
}

fn cipher_is_malleable(text: &str) -> Result<bool, Fault> {
    let document = parse(text).map_err(|error| malformed(&error))?;
    let cipher = decrypt::content_cipher(encrypted_assertion(document.root_element())?);
    cipher.map(|cipher| cipher.is_malleable()).map_err(Fault::Decryption)
}

/// Prefixes and names of the namespaces in scope at the encrypted assertion.
fn namespaces(text: &str) -> Result<Vec<(Option<String>, String)>, Fault> {
    let document = parse(text).map_err(|error| malformed(&error))?;
    let encrypted = encrypted_assertion(document.root_element())?;
    let in_scope = encrypted.namespaces().filter(|namespace| namespace.name() != Some("xml"));
    Ok(in_scope.map(|namespace| (namespace.name().map(str::to_owned), namespace.uri().to_owned())).collect())
}

fn encrypted_assertion<'a, 'input: 'a>(root: Node<'a, 'input>) -> Result<Node<'a, 'input>, Fault> {
    let found = named(root, ASSERTION, "EncryptedAssertion").next();
    found.ok_or(Fault::Decryption(DecryptionFault::NoAssertion))
}

/// The one assertion within bytes of a role.
fn the_assertion<'a, 'input: 'a>(role: Role, root: Node<'a, 'input>) -> Result<Node<'a, 'input>, Fault> {
    match role {
        Role::Assertion => Ok(root),
        Role::Response => only(root, ASSERTION, "Assertion").ok().flatten().ok_or(Fault::Signature),
        Role::LogoutRequest => Err(Fault::Signature),
    }
}

fn malformed(error: &GuardError) -> Fault {
    Fault::Malformed(error.to_string())
}
