//! An ID token that is not verified yet: its compact form, and just enough of it to find its keys.

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::de::{MapAccess, Visitor};
use serde_json::{Map, Value};

use super::super::number;
use super::super::provider::algorithm::SigningAlgorithm;

/// An ID token's length in bytes, at most. A token of 2,000 group names stays well below.
const MAX_TOKEN: usize = 512 * 1024;

/// An access token as it came with an ID token. Nothing prints it, and it is wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessToken(zeroize::Zeroizing<String>);

impl AccessToken {
    pub fn new(text: String) -> Self {
        Self(zeroize::Zeroizing::new(text))
    }

    /// The token itself; callers must not print it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AccessToken")
    }
}

/// A JWT in compact serialization (RFC 7519 section 7.2, steps 1 to 10), parsed and not believed.
#[derive(Clone)]
pub struct UntrustedIdToken {
    issuer: String,
    signing_input: String,
    signature: String,
    header: Header,
    payload: Map<String, Value>,
    payload_bytes: Vec<u8>,
}

/// Prints whose it says that it is, and nothing that an attacker could use, or that is about a person.
impl std::fmt::Debug for UntrustedIdToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "UntrustedIdToken(of `{}`)", self.issuer)
    }
}

/// The JOSE header's members that choose a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    pub algorithm: String,
    pub key_id: Option<String>,
    /// All of it: a gateway says more there.
    pub members: Map<String, Value>,
}

/// Why a text is no ID token that anyone could verify.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdTokenError {
    #[error("longer than {MAX_TOKEN} bytes")]
    TooLong,
    #[error("not three parts divided by dots{}", if *.parts == 5 { "; five parts are an encrypted token, which is not supported" } else { "" })]
    Parts { parts: usize },
    #[error("its {part} is not base64url")]
    Base64 { part: &'static str },
    #[error("its {part} is not a JSON object: {why}")]
    Json { part: &'static str, why: String },
    #[error("its header has no `alg`")]
    NoAlgorithm,
    #[error("its header asks for `crit` extensions, which none is understood")]
    Critical,
    #[error("its header says `typ` `{0}`; expected `JWT` or none")]
    Type(String),
    #[error("claim `{claim}` is {found}; expected {expected}")]
    Claim { claim: &'static str, found: &'static str, expected: &'static str },
}

impl UntrustedIdToken {
    /// # Errors
    /// When the text is not a JWS in compact form with a JSON header and payload, each without duplicate members.
    pub fn parse(compact: &str) -> Result<Self, IdTokenError> {
        Self::parse_typed(compact, Some(&["JWT"]), Place::Payload)
    }

    /// A token of any type and of any issuer, or none: to see whose it is, and not to believe it.
    ///
    /// # Errors
    /// As for [`Self::parse`], but for type and issuer.
    pub(crate) fn parse_any(compact: &str) -> Result<Self, IdTokenError> {
        Self::parse_typed(compact, None, Place::Payload)
    }

    /// Holds a token that was parsed by [`Self::parse_any`] to the types of an access token.
    ///
    /// # Errors
    /// When its header names another.
    pub(crate) fn into_access_token(self) -> Result<Self, IdTokenError> {
        check_type(&self.header.members, Some(ACCESS_TOKEN))?;
        Ok(self)
    }

    /// An access token in the form of a JWT, which may say so (RFC 9068 section 2.1).
    ///
    /// # Errors
    /// As for [`Self::parse`].
    pub fn parse_access_token(compact: &str) -> Result<Self, IdTokenError> {
        Self::parse_typed(compact, Some(ACCESS_TOKEN), Place::Payload)
    }

    /// A load balancer's token: its parts may be padded, and its issuer stands in the header.
    ///
    /// # Errors
    /// As for [`Self::parse`].
    pub fn parse_padded(compact: &str) -> Result<Self, IdTokenError> {
        Self::parse_typed(compact, Some(&["JWT"]), Place::Header)
    }

    /// A logout token, whose own type is recommended and not required (OpenID Connect Back-Channel Logout 1.0 section 2.4).
    ///
    /// # Errors
    /// As for [`Self::parse`].
    pub fn parse_logout(compact: &str) -> Result<Self, IdTokenError> {
        Self::parse_typed(compact, Some(&["JWT", "logout+jwt"]), Place::Payload)
    }

    fn parse_typed(compact: &str, types: Option<&[&str]>, issuer: Place) -> Result<Self, IdTokenError> {
        if compact.len() > MAX_TOKEN {
            return Err(IdTokenError::TooLong);
        }
        let compact = compact.trim();
        // Counted by iteration, so that a megabyte of dots allocates nothing.
        let parts = compact.bytes().filter(|byte| *byte == b'.').count() + 1;
        let mut split = compact.splitn(3, '.');
        let (Some(header), Some(payload), Some(signature), 3) = (split.next(), split.next(), split.next(), parts)
        else {
            return Err(IdTokenError::Parts { parts });
        };
        let header = read_header(object("header", &decode("header", header, issuer)?)?, types)?;
        let payload_bytes = decode("payload", payload, issuer)?;
        let payload_object = object("payload", &payload_bytes)?;
        let issuer = match issuer {
            Place::Payload if types.is_none() => payload_object.get("iss").and_then(Value::as_str).unwrap_or_default(),
            Place::Payload => text(&payload_object, "iss")?,
            Place::Header => text(&header.members, "iss")?,
        };
        Ok(Self {
            issuer: issuer.to_owned(),
            signing_input: compact.get(..compact.len() - signature.len() - 1).unwrap_or_default().to_owned(),
            // What is signed is the text as it came; the signature itself is read without padding.
            signature: signature.trim_end_matches('=').to_owned(),
            header,
            payload: payload_object,
            payload_bytes,
        })
    }

    /// The issuer that the token names.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Whether the token names this subject.
    pub fn is_of(&self, subject: &str) -> bool {
        self.subject() == Some(subject)
    }

    /// The subject that the token names.
    pub fn subject(&self) -> Option<&str> {
        self.payload.get("sub").and_then(Value::as_str)
    }

    /// Whether `aud` is, or has among its members, the given client.
    pub fn names_audience(&self, client_id: &str) -> bool {
        match self.payload.get("aud") {
            Some(Value::String(audience)) => audience == client_id,
            Some(Value::Array(audiences)) => audiences.iter().any(|audience| audience.as_str() == Some(client_id)),
            _ => false,
        }
    }

    /// Whether the header's algorithm is one that is known at all.
    pub fn algorithm(&self) -> Option<SigningAlgorithm> {
        SigningAlgorithm::named(&self.header.algorithm)
    }

    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The text as it came, but for the padding of its signature.
    pub fn as_received(&self) -> (&str, &str) {
        (&self.signing_input, &self.signature)
    }

    /// For `verify` alone: what is signed, and by what.
    pub(crate) fn signed_parts(&self) -> (&[u8], &str) {
        (self.signing_input.as_bytes(), &self.signature)
    }

    /// For `verify` alone, once the signature over these very bytes holds.
    pub(crate) fn payload(&self) -> (&Map<String, Value>, &[u8]) {
        (&self.payload, &self.payload_bytes)
    }
}

/// Where a token names its issuer, and with that whose habits it follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Payload,
    Header,
}

/// base64url whose padding may be there.
const PADDED: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

fn decode(part: &'static str, text: &str, place: Place) -> Result<Vec<u8>, IdTokenError> {
    match place {
        Place::Payload => URL_SAFE_NO_PAD.decode(text),
        Place::Header => PADDED.decode(text),
    }
    .map_err(|_| IdTokenError::Base64 { part })
}

/// A JSON object without duplicate members, in which numbers are kept digit by digit ([`number`]).
///
/// # Errors
/// When the bytes are none.
pub fn object(part: &'static str, bytes: &[u8]) -> Result<Map<String, Value>, IdTokenError> {
    // The parser's own complaint would quote the value that it found.
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(IdTokenError::Json { part, why: "it begins otherwise".into() });
    }
    let unique: UniqueObject = serde_json::from_slice(&number::kept(bytes))
        .map_err(|error| IdTokenError::Json { part, why: error.to_string() })?;
    Ok(unique.0)
}

/// What an access token may call itself (RFC 9068 section 2.1).
const ACCESS_TOKEN: &[&str] = &["JWT", "at+jwt"];

/// A media type without `application/`, which senders may leave out (RFC 7515 section 4.1.9).
fn bare_type(kind: &str) -> &str {
    const TREE: &str = "application/";
    let is_of_tree = kind.get(..TREE.len()).is_some_and(|tree| tree.eq_ignore_ascii_case(TREE));
    let bare = kind.get(TREE.len()..).filter(|bare| is_of_tree && !bare.contains('/'));
    bare.unwrap_or(kind)
}

fn check_type(header: &Map<String, Value>, types: Option<&[&str]>) -> Result<(), IdTokenError> {
    match header.get("typ") {
        None => Ok(()),
        Some(Value::String(kind))
            if types.is_none_or(|types| types.iter().any(|known| bare_type(kind).eq_ignore_ascii_case(known))) =>
        {
            Ok(())
        }
        Some(other) => Err(IdTokenError::Type(other.to_string().chars().take(40).collect())),
    }
}

fn read_header(header: Map<String, Value>, types: Option<&[&str]>) -> Result<Header, IdTokenError> {
    if header.contains_key("crit") {
        // RFC 7515 section 4.1.11: a critical extension that is not understood makes the token invalid.
        return Err(IdTokenError::Critical);
    }
    check_type(&header, types)?;
    let algorithm = header.get("alg").and_then(Value::as_str).ok_or(IdTokenError::NoAlgorithm)?;
    let key_id = match header.get("kid") {
        None => None,
        Some(Value::String(kid)) => Some(kid.clone()),
        Some(other) => {
            return Err(IdTokenError::Claim { claim: "kid", found: kind(other), expected: "a string" });
        }
    };
    Ok(Header { algorithm: algorithm.to_owned(), key_id, members: header })
}

fn text<'a>(payload: &'a Map<String, Value>, claim: &'static str) -> Result<&'a str, IdTokenError> {
    match payload.get(claim) {
        Some(Value::String(text)) => Ok(text),
        Some(other) => Err(IdTokenError::Claim { claim, found: kind(other), expected: "a string" }),
        None => Err(IdTokenError::Claim { claim, found: "missing", expected: "a string" }),
    }
}

/// A JSON value's type in words.
pub fn kind(value: &Value) -> &'static str {
    match value {
        _ if number::text(value).is_some() => "a number",
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// A JSON object of which no member name appears twice: readers differ on which of two they take (RFC 7519 section 4).
struct UniqueObject(Map<String, Value>);

impl<'de> serde::Deserialize<'de> for UniqueObject {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = UniqueObject;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
                let mut members = Map::new();
                while let Some((name, value)) = access.next_entry::<String, Value>()? {
                    if members.contains_key(&name) {
                        let shown: String = name.chars().take(60).collect();
                        return Err(serde::de::Error::custom(format!("member `{shown}` appears twice")));
                    }
                    members.insert(name, value);
                }
                Ok(UniqueObject(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}
