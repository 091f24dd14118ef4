//! A SAML logout message that is not verified yet, by POST or by redirect (SAML Bindings sections 3.4 and 3.5).

use roxmltree::Node;

use super::names::{ASSERTION, PROTOCOL};
use super::signature::Signature;
use super::tree::{attribute, is, only, parse, text};
use super::{GuardError, decode, guard, peek, with_plain_line_ends};

/// Sessions that one request may name.
const MOST_SESSIONS: usize = 32;

/// What arrived at a place that takes logouts.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "made once a logout and taken apart at once")]
pub enum LogoutMessage {
    Request(UntrustedLogout),
    /// The answer to a request of ours.
    Response,
}

/// A LogoutRequest whose structure was looked at. Its content is still a claim of its sender.
pub struct UntrustedLogout {
    text: String,
    head: LogoutHead,
    signed: Signed,
}

/// What a LogoutRequest says (SAML Core section 3.7.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogoutHead {
    pub(crate) id: String,
    pub(crate) version: Option<String>,
    pub(crate) issuer: String,
    pub(crate) destination: Option<String>,
    pub(crate) issue_instant: Option<String>,
    pub(crate) not_on_or_after: Option<String>,
    pub(crate) name_id: String,
    pub(crate) sessions: Vec<String>,
}

/// By what a message is signed.
#[derive(Debug, Clone)]
pub(crate) enum Signed {
    Nothing,
    /// A Signature element in the document.
    Enveloped(Box<Signature>),
    /// Parameters of the query (SAML Bindings section 3.4.4.1).
    Query(QuerySignature),
}

/// The very octets of the query that were signed, in the order that the binding prescribes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct QuerySignature {
    pub(crate) octets: Vec<u8>,
    pub(crate) algorithm: String,
    pub(crate) value: Vec<u8>,
}

impl UntrustedLogout {
    /// The issuer that the document names.
    pub fn issuer(&self) -> &str {
        &self.head.issuer
    }

    /// What an answer to it names.
    pub fn id(&self) -> &str {
        &self.head.id
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn head(&self) -> &LogoutHead {
        &self.head
    }

    pub(crate) fn signed(&self) -> &Signed {
        &self.signed
    }
}

/// Prints nothing of the document: it is about a person.
impl std::fmt::Debug for UntrustedLogout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "UntrustedLogout({} bytes from {:?})", self.text.len(), self.head.issuer)
    }
}

/// Reads the value of a `SAMLRequest` or `SAMLResponse` form field.
///
/// # Errors
/// Whatever the guard does not allow.
pub fn read_post(field: &str, max_document: usize) -> Result<LogoutMessage, GuardError> {
    let bytes = decode(field, max_document)?;
    read_document(bytes, None)
}

/// Reads a query of the redirect binding. Each of its parameters stands there at most once, so that what was signed is what
/// is read.
///
/// # Errors
/// Whatever the guard does not allow, a repeated parameter included.
pub fn read_redirect(query: &str) -> Result<LogoutMessage, GuardError> {
    let mut raw = RawQuery::default();
    for pair in query.split(['&', ';']) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        raw.take(name, value)?;
    }
    let (name, message) = match (raw.request, raw.response) {
        (Some(value), None) => ("SAMLRequest", value),
        (None, Some(value)) => ("SAMLResponse", value),
        _ => return Err(GuardError::Root("nothing, or two messages".into())),
    };
    let document = peek::inflated(&percent_decoded(message)?).ok_or(GuardError::Base64)?;
    let signature = match (raw.algorithm, raw.signature) {
        (Some(algorithm), Some(value)) => {
            let relay_state = raw.relay_state.map(|value| format!("&RelayState={value}")).unwrap_or_default();
            let octets = format!("{name}={message}{relay_state}&SigAlg={algorithm}").into_bytes();
            let value = decode(&percent_decoded(value)?, MAX_SIGNATURE)?;
            Some(QuerySignature { octets, algorithm: percent_decoded(algorithm)?, value })
        }
        (None, None) => None,
        _ => return Err(GuardError::Signature("has an algorithm or a value, and not both")),
    };
    read_document(document, signature)
}

/// RSA with 16,384 bits.
const MAX_SIGNATURE: usize = 2048;

/// The parameters of a query as they stand, still encoded.
#[derive(Default)]
struct RawQuery<'a> {
    request: Option<&'a str>,
    response: Option<&'a str>,
    relay_state: Option<&'a str>,
    algorithm: Option<&'a str>,
    signature: Option<&'a str>,
}

impl<'a> RawQuery<'a> {
    fn take(&mut self, name: &str, value: &'a str) -> Result<(), GuardError> {
        let decoded = percent_decoded(name)?;
        let (slot, known) = match decoded.to_ascii_lowercase().as_str() {
            "samlrequest" => (&mut self.request, "SAMLRequest"),
            "samlresponse" => (&mut self.response, "SAMLResponse"),
            "relaystate" => (&mut self.relay_state, "RelayState"),
            "sigalg" => (&mut self.algorithm, "SigAlg"),
            "signature" => (&mut self.signature, "Signature"),
            "samlencoding" => return Err(GuardError::Element("SAMLEncoding".into())),
            _ => return Ok(()),
        };
        // Written otherwise, another reader might not see it at all.
        if name != known {
            return Err(GuardError::Element(decoded.chars().take(100).collect()));
        }
        match slot.replace(value) {
            None => Ok(()),
            Some(_) => Err(GuardError::Repeated(known)),
        }
    }
}

/// A plus stands for itself: it is one of base64's own letters, and senders who do not encode it mean that.
fn percent_decoded(text: &str) -> Result<String, GuardError> {
    let decoded = percent_encoding::percent_decode_str(text).decode_utf8().map_err(|_| GuardError::NotUtf8)?;
    Ok(decoded.into_owned())
}

fn read_document(bytes: Vec<u8>, query: Option<QuerySignature>) -> Result<LogoutMessage, GuardError> {
    let text = String::from_utf8(bytes).map_err(|_| GuardError::NotUtf8)?;
    let text = text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text);
    let text = with_plain_line_ends(text);
    let signature = match guard::inspect_logout(&text)? {
        guard::InspectedLogout::Response => return Ok(LogoutMessage::Response),
        guard::InspectedLogout::Request(signature) => signature,
    };
    let head = {
        let document = parse(&text)?;
        logout_head(document.root_element())?
    };
    let signed = match (query, signature) {
        (Some(_), Some(_)) => return Err(GuardError::Signature("stands in the document and in the query")),
        (Some(query), None) => Signed::Query(query),
        (None, Some(signature)) => Signed::Enveloped(signature),
        (None, None) => Signed::Nothing,
    };
    Ok(LogoutMessage::Request(UntrustedLogout { text, head, signed }))
}

/// Reads a LogoutRequest element; `verify` does so again on the signed bytes.
pub(crate) fn logout_head(root: Node<'_, '_>) -> Result<LogoutHead, GuardError> {
    if !is(root, PROTOCOL, "LogoutRequest") {
        return Err(GuardError::Root(root.tag_name().name().chars().take(100).collect()));
    }
    let child = |name: &'static str| -> Result<Option<String>, GuardError> {
        match only(root, ASSERTION, name)? {
            Some(node) => Ok(Some(text(node).ok_or_else(|| GuardError::Element(name.into()))?)),
            None => Ok(None),
        }
    };
    // An empty one names no session, so that all of the person's end.
    let named = root.children().filter(|node| is(*node, PROTOCOL, "SessionIndex")).filter_map(text);
    let sessions: Vec<String> = named.filter(|session| !session.trim().is_empty()).collect();
    if sessions.len() > MOST_SESSIONS {
        return Err(GuardError::Elements);
    }
    Ok(LogoutHead {
        id: attribute(root, "ID").ok_or(GuardError::NoId("LogoutRequest"))?,
        version: attribute(root, "Version"),
        issuer: child("Issuer")?.filter(|issuer| !issuer.is_empty()).ok_or(GuardError::NoIssuer)?,
        destination: attribute(root, "Destination"),
        issue_instant: attribute(root, "IssueInstant"),
        not_on_or_after: attribute(root, "NotOnOrAfter"),
        name_id: child("NameID")?.filter(|name| !name.is_empty()).ok_or(GuardError::NoId("NameID"))?,
        sessions,
    })
}
