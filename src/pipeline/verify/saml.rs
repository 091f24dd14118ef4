//! Verifies a SAML response.

use super::{Assertion, Fault, Refused, Remembered};
use crate::pipeline::capture::saml::GuardedResponse;
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

/// The certificates by which a provider's signatures are checked; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateSet {}

/// A private key of the app's, by which assertions encrypted to it are opened.
#[derive(Debug)]
pub struct DecryptionKey {}

pub(super) fn check(
    _provider: &Provider,
    _policy: &SamlPolicy,
    _response: &GuardedResponse,
    _certificates: &CertificateSet,
    _remembered: &[Remembered],
    _now: Timestamp,
) -> Result<Assertion, Refused> {
    Err(Refused::unsigned(Fault::Internal))
}
