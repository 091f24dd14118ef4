//! Reads a provider's SAML metadata: by which certificates it signs, and where the app sends people to log in.
//!
//! Metadata comes from a file or an address that the operator named, so it is believed; a signature on it is not looked at.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use roxmltree::{Document, Node};
use url::Url;

use super::certificates::{CertificateError, CertificateSet};
use super::conditions;
use crate::capture::saml::names::{METADATA, PROTOCOL, SIGNATURE};
use crate::capture::saml::tree::{is, named, plain, text};
use crate::ids::Timestamp;

const REDIRECT: &str = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect";
const POST: &str = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST";

/// What an identity provider's metadata says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdpMetadata {
    pub certificates: CertificateSet,
    /// Why others that it has are not used.
    pub skipped: Vec<CertificateError>,
    /// The addresses of both redirecting bindings, each once, in document order.
    pub sso_locations: Vec<String>,
    /// Where an AuthnRequest of our own goes, by redirect.
    pub sso_redirect: Option<String>,
    pub slo: Option<SloLocation>,
    /// The earliest `validUntil` that covers the provider.
    pub valid_until: Option<Timestamp>,
}

/// Where logout messages go, by redirect (SAML Metadata section 2.4.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SloLocation {
    pub requests: String,
    pub responses: String,
}

/// Why metadata cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    #[error("it is not well-formed XML without a document type: {0}")]
    Xml(String),
    #[error("its root is `{0}`; expected `EntityDescriptor` or `EntitiesDescriptor`")]
    Root(String),
    #[error("it describes no entity `{expected}`; it describes {found}")]
    Entity { expected: String, found: String },
    #[error("it describes entity `{0}` more than once")]
    RepeatedEntity(String),
    #[error("entity `{0}` has no SAML 2.0 `IDPSSODescriptor`")]
    NoIdp(String),
    #[error("it is valid until {at}; it is {now}")]
    Expired { at: Timestamp, now: Timestamp },
    #[error("`validUntil` of `{0}` is not a time")]
    ValidUntil(String),
    #[error("the signing certificates cannot be used: {0}")]
    Certificates(#[from] CertificateError),
    #[error("`{0}` location `{1}`; expected an http or https address")]
    Location(&'static str, String),
    #[error("it has no `SingleSignOnService` with the redirect or the POST binding")]
    NoLocation,
}

/// Reads what metadata says of one identity provider. Bound the text's size before.
///
/// # Errors
/// When the metadata is malformed, has expired, or does not describe a provider of this name that can be used.
pub fn read(metadata: &str, entity_id: &str, now: Timestamp) -> Result<IdpMetadata, MetadataError> {
    let metadata = metadata.strip_prefix('\u{feff}').unwrap_or(metadata);
    let document = Document::parse(metadata).map_err(|error| MetadataError::Xml(error.to_string()))?;
    let entity = entity(document.root_element(), entity_id)?;
    let mut idps = named(entity, METADATA, "IDPSSODescriptor").filter(|idp| speaks_saml_2(*idp));
    let idp = idps.next().ok_or_else(|| MetadataError::NoIdp(entity_id.to_owned()))?;
    let valid_until = valid_until(idp)?;
    if let Some(at) = valid_until.filter(|at| *at <= now) {
        return Err(MetadataError::Expired { at, now });
    }
    let locations = locations(idp)?;
    let redirected = locations.iter().find(|(binding, _)| *binding == REDIRECT);
    let mut sso_locations: Vec<String> = Vec::new();
    for (_, location) in &locations {
        if !sso_locations.contains(location) {
            sso_locations.push(location.clone());
        }
    }
    let (certificates, skipped) = certificates(idp)?;
    Ok(IdpMetadata {
        certificates,
        skipped,
        sso_redirect: redirected.map(|(_, location)| location.clone()),
        sso_locations,
        slo: slo(idp)?,
        valid_until,
    })
}

fn entity<'a, 'input: 'a>(root: Node<'a, 'input>, entity_id: &str) -> Result<Node<'a, 'input>, MetadataError> {
    if !is(root, METADATA, "EntityDescriptor") && !is(root, METADATA, "EntitiesDescriptor") {
        return Err(MetadataError::Root(root.tag_name().name().chars().take(100).collect()));
    }
    let mut entities = root.descendants().filter(|node| is(*node, METADATA, "EntityDescriptor"));
    let mut ours = entities.clone().filter(|node| plain(*node, "entityID") == Some(entity_id));
    match (ours.next(), ours.next()) {
        (Some(entity), None) => Ok(entity),
        (Some(_), Some(_)) => Err(MetadataError::RepeatedEntity(entity_id.to_owned())),
        (None, _) => {
            let first = entities.next().and_then(|node| plain(node, "entityID")).unwrap_or_default();
            let others = match entities.count() {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let found = format!("`{}`{others}", first.chars().take(200).collect::<String>());
            Err(MetadataError::Entity { expected: entity_id.to_owned(), found })
        }
    }
}

fn speaks_saml_2(idp: Node<'_, '_>) -> bool {
    let protocols = plain(idp, "protocolSupportEnumeration").unwrap_or_default();
    protocols.split_ascii_whitespace().any(|protocol| protocol == PROTOCOL)
}

/// SAML Metadata section 2.3.2: the earliest one of the element and all around it.
fn valid_until(idp: Node<'_, '_>) -> Result<Option<Timestamp>, MetadataError> {
    let mut earliest: Option<Timestamp> = None;
    for node in idp.ancestors().filter(Node::is_element) {
        let at = conditions::time(node, "validUntil")
            .map_err(|_| MetadataError::ValidUntil(node.tag_name().name().to_owned()))?;
        earliest = match (earliest, at) {
            (Some(known), Some(at)) => Some(known.min(at)),
            (known, at) => known.or(at),
        };
    }
    Ok(earliest)
}

/// SAML Metadata section 2.4.1.1: a key without a `use` is for signing as well. One that cannot be used does not keep the others
/// from being used: a provider publishes what other relying parties need, too.
fn certificates(idp: Node<'_, '_>) -> Result<(CertificateSet, Vec<CertificateError>), MetadataError> {
    let signing =
        named(idp, METADATA, "KeyDescriptor").filter(|key| matches!(plain(*key, "use"), None | Some("signing")));
    let groups: Vec<Vec<Vec<u8>>> = signing
        .map(|key| {
            let certificates = key.descendants().filter(|node| is(*node, SIGNATURE, "X509Certificate"));
            // What is not base64 is not a certificate either, and is told as such.
            certificates.map(|node| der(&text(node).unwrap_or_default()).unwrap_or_default()).collect()
        })
        .collect();
    Ok(CertificateSet::usable(&groups)?)
}

/// The bytes of a certificate in base64, perhaps between the lines of PEM, which some providers leave there.
fn der(text: &str) -> Option<Vec<u8>> {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with("-----"));
    let compact: Vec<u8> = lines.flat_map(str::bytes).filter(|byte| !byte.is_ascii_whitespace()).collect();
    STANDARD.decode(compact).ok()
}

/// Binding and address of each way to log in.
fn locations<'a>(idp: Node<'a, 'a>) -> Result<Vec<(&'a str, String)>, MetadataError> {
    let mut locations = Vec::new();
    for service in named(idp, METADATA, "SingleSignOnService") {
        if let Some(binding @ (REDIRECT | POST)) = plain(service, "Binding") {
            locations.push((binding, address(service, "Location", "SingleSignOnService")?));
        }
    }
    if locations.is_empty() { Err(MetadataError::NoLocation) } else { Ok(locations) }
}

fn slo(idp: Node<'_, '_>) -> Result<Option<SloLocation>, MetadataError> {
    let mut services = named(idp, METADATA, "SingleLogoutService");
    let Some(service) = services.find(|service| plain(*service, "Binding") == Some(REDIRECT)) else {
        return Ok(None);
    };
    let requests = address(service, "Location", "SingleLogoutService")?;
    let responses = match plain(service, "ResponseLocation") {
        Some(_) => address(service, "ResponseLocation", "SingleLogoutService")?,
        None => requests.clone(),
    };
    Ok(Some(SloLocation { requests, responses }))
}

/// A `javascript:` address would run in the browser that is sent there.
fn address(service: Node<'_, '_>, attribute: &str, element: &'static str) -> Result<String, MetadataError> {
    let location = plain(service, attribute).unwrap_or_default();
    let scheme = Url::parse(location).ok().map(|url| url.scheme().to_owned());
    match scheme.as_deref() {
        Some("https" | "http") => Ok(location.to_owned()),
        _ => Err(MetadataError::Location(element, location.chars().take(200).collect())),
    }
}
