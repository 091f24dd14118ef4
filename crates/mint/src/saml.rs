//! SAML responses and metadata, written out in exclusive canonical form and signed as text.
//!
//! The parts are made one after the other, and between them a test may change the text:
//!
//! ```text
//! assertion(login)  →  sign(it)  →  encrypt(it)  →  response(login, it)  →  sign(it)  →  field(it)
//! ```
//!
//! Canonical form means: attributes in order, namespaces declared where they are first used, no empty-element tags
//! (Exclusive XML Canonicalization 1.0 section 3). What is written so is what is digested.

use aws_lc_rs::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{self, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::rand;
use aws_lc_rs::rsa::{
    OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OAEP_SHA384_MGF1SHA384, OAEP_SHA512_MGF1SHA512, OaepAlgorithm,
    OaepPublicEncryptingKey, PublicEncryptingKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::{Curve, Hash, KeyKind, MintError, MintKey, Scheme};

const PROTOCOL: &str = "urn:oasis:names:tc:SAML:2.0:protocol";
const ASSERTION: &str = "urn:oasis:names:tc:SAML:2.0:assertion";
const METADATA: &str = "urn:oasis:names:tc:SAML:2.0:metadata";
const SIGNATURE: &str = "http://www.w3.org/2000/09/xmldsig#";
const SCHEMA: &str = "http://www.w3.org/2001/XMLSchema";
const SCHEMA_INSTANCE: &str = "http://www.w3.org/2001/XMLSchema-instance";
const EXCLUSIVE: &str = "http://www.w3.org/2001/10/xml-exc-c14n#";
const ENCRYPTION: &str = "http://www.w3.org/2001/04/xmlenc#";
const ENCRYPTION_11: &str = "http://www.w3.org/2009/xmlenc11#";
const RSA_OAEP: &str = "http://www.w3.org/2009/xmlenc11#rsa-oaep";
const BINDINGS: &str = "urn:oasis:names:tc:SAML:2.0:bindings";

/// What a response says. Every field can be wrong on purpose. Times are milliseconds since 1970.
#[derive(Debug, Clone)]
pub struct SamlLogin {
    pub issuer: String,
    /// Each is an AudienceRestriction of its own.
    pub audiences: Vec<String>,
    pub recipient: String,
    pub destination: Option<String>,
    /// Of the response and of the subject confirmation.
    pub in_response_to: Option<String>,
    pub response_id: String,
    pub assertion_id: String,
    pub status: String,
    pub issued_at: i64,
    pub not_before: i64,
    pub not_on_or_after: i64,
    pub session_not_on_or_after: Option<i64>,
    /// Value and format.
    pub name_id: Option<(String, Option<String>)>,
    pub attributes: Vec<MintAttribute>,
    pub style: Style,
}

/// How the same content is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// `saml:`, `samlp:` and `ds:`.
    Prefixed,
    /// Each of the three as the default namespace of its elements.
    DefaultNamespaces,
    /// Prefixed, and values say `xsi:type="xs:string"`, which needs `xs` in a list of inclusive prefixes.
    Typed,
}

#[derive(Debug, Clone)]
pub struct MintAttribute {
    pub name: String,
    pub friendly_name: Option<String>,
    pub values: Vec<MintValue>,
}

#[derive(Debug, Clone)]
pub enum MintValue {
    Text(String),
    Nil,
    /// Markup in canonical form.
    Markup(String),
}

impl SamlLogin {
    /// A login that is right in every respect, valid for five minutes.
    pub fn new(issuer: &str, audience: &str, acs: &str, ids: (&str, &str), now: i64) -> Self {
        Self {
            issuer: issuer.into(),
            audiences: vec![audience.into()],
            recipient: acs.into(),
            destination: Some(acs.into()),
            in_response_to: None,
            response_id: ids.0.into(),
            assertion_id: ids.1.into(),
            status: "urn:oasis:names:tc:SAML:2.0:status:Success".into(),
            issued_at: now,
            not_before: now - 60_000,
            not_on_or_after: now + 300_000,
            session_not_on_or_after: None,
            name_id: None,
            attributes: Vec::new(),
            style: Style::Prefixed,
        }
    }
}

impl MintAttribute {
    /// An attribute of text values.
    pub fn of(name: &str, values: &[&str]) -> Self {
        let values = values.iter().map(|value| MintValue::Text((*value).to_owned())).collect();
        Self { name: name.into(), friendly_name: None, values }
    }
}

/// The prefixes of a style; an empty one is the default namespace.
struct Prefixes {
    protocol: &'static str,
    assertion: &'static str,
    signature: &'static str,
}

impl Style {
    fn prefixes(self) -> Prefixes {
        match self {
            Style::DefaultNamespaces => Prefixes { protocol: "", assertion: "", signature: "" },
            _ => Prefixes { protocol: "samlp", assertion: "saml", signature: "ds" },
        }
    }
}

/// Who signs, and how.
#[derive(Debug, Clone, Copy)]
pub struct Signer<'a> {
    pub key: &'a MintKey,
    /// Of an RSA signature, and of every digest; a curve has its own for its signature.
    pub hash: Hash,
    /// Whether an RSA key signs by RSASSA-PSS.
    pub pss: bool,
    /// Goes into KeyInfo, where no verifier should believe it.
    pub certificate: Option<&'a [u8]>,
    pub style: Style,
}

/// To whom and how an assertion is encrypted.
#[derive(Debug, Clone, Copy)]
pub struct Recipient<'a> {
    /// SubjectPublicKeyInfo in DER.
    pub public_key: &'a [u8],
    pub content: ContentEncryption,
    pub transport: KeyTransport,
    /// The EncryptedKey is a sibling of the EncryptedData, not in it.
    pub beside: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentEncryption {
    Aes128Gcm,
    Aes192Gcm,
    Aes256Gcm,
    Aes128Cbc,
    Aes192Cbc,
    Aes256Cbc,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyTransport {
    /// `rsa-oaep-mgf1p`: SHA-1 twice.
    OaepSha1,
    /// `rsa-oaep` of XML Encryption 1.1 with SHA-256 twice.
    OaepSha256,
    OaepSha384,
    OaepSha512,
}

/// The assertion of a login, unsigned.
pub fn assertion(login: &SamlLogin) -> String {
    let prefix = login.style.prefixes().assertion;
    let tag = |name: &str, attributes: &[(&str, Option<&str>)], content: &str| {
        element(&qualified(prefix, name), &[], attributes, content)
    };
    let name_id = login
        .name_id
        .as_ref()
        .map_or(String::new(), |(value, format)| tag("NameID", &[("Format", format.as_deref())], &escape_text(value)));
    let end = moment(login.not_on_or_after);
    let data = tag(
        "SubjectConfirmationData",
        &[
            ("InResponseTo", login.in_response_to.as_deref()),
            ("NotOnOrAfter", Some(&end)),
            ("Recipient", Some(&login.recipient)),
        ],
        "",
    );
    let confirmation = tag("SubjectConfirmation", &[("Method", Some("urn:oasis:names:tc:SAML:2.0:cm:bearer"))], &data);
    let audiences: String = login
        .audiences
        .iter()
        .map(|audience| tag("AudienceRestriction", &[], &tag("Audience", &[], &escape_text(audience))))
        .collect();
    let context = tag("AuthnContextClassRef", &[], "urn:oasis:names:tc:SAML:2.0:ac:classes:Password");
    let session_end = login.session_not_on_or_after.map(moment);
    let statement = tag(
        "AuthnStatement",
        &[
            ("AuthnInstant", Some(&moment(login.issued_at))),
            ("SessionIndex", Some(&format!("{}-session", login.assertion_id))),
            ("SessionNotOnOrAfter", session_end.as_deref()),
        ],
        &tag("AuthnContext", &[], &context),
    );
    let attributes: String = login.attributes.iter().map(|attribute| write_attribute(attribute, login.style)).collect();
    let attributes = if attributes.is_empty() { attributes } else { tag("AttributeStatement", &[], &attributes) };
    let content = [
        tag("Issuer", &[], &escape_text(&login.issuer)),
        tag("Subject", &[], &format!("{name_id}{confirmation}")),
        tag("Conditions", &[("NotBefore", Some(&moment(login.not_before))), ("NotOnOrAfter", Some(&end))], &audiences),
        statement,
        attributes,
    ]
    .concat();
    element(
        &qualified(prefix, "Assertion"),
        &[(prefix, ASSERTION)],
        &[
            ("ID", Some(&login.assertion_id)),
            ("IssueInstant", Some(&moment(login.issued_at))),
            ("Version", Some("2.0")),
        ],
        &content,
    )
}

fn write_attribute(attribute: &MintAttribute, style: Style) -> String {
    let prefix = style.prefixes().assertion;
    let name = qualified(prefix, "AttributeValue");
    let values: String = attribute
        .values
        .iter()
        .map(|value| match (value, style) {
            (MintValue::Text(text), Style::Typed) => element(
                &name,
                &[("xs", SCHEMA), ("xsi", SCHEMA_INSTANCE)],
                &[("xsi:type", Some("xs:string"))],
                &escape_text(text),
            ),
            (MintValue::Text(text), _) => element(&name, &[], &[], &escape_text(text)),
            (MintValue::Nil, _) => element(&name, &[("xsi", SCHEMA_INSTANCE)], &[("xsi:nil", Some("true"))], ""),
            (MintValue::Markup(markup), _) => element(&name, &[], &[], markup),
        })
        .collect();
    element(
        &qualified(prefix, "Attribute"),
        &[],
        &[("FriendlyName", attribute.friendly_name.as_deref()), ("Name", Some(&attribute.name))],
        &values,
    )
}

/// A response around an assertion, plain or encrypted, or around nothing; unsigned.
pub fn response(login: &SamlLogin, assertion: &str) -> String {
    let Prefixes { protocol, assertion: prefix, .. } = login.style.prefixes();
    let issuer = element(&qualified(prefix, "Issuer"), &[(prefix, ASSERTION)], &[], &escape_text(&login.issuer));
    let code = element(&qualified(protocol, "StatusCode"), &[], &[("Value", Some(&login.status))], "");
    let status = element(&qualified(protocol, "Status"), &[], &[], &code);
    element(
        &qualified(protocol, "Response"),
        &[(protocol, PROTOCOL)],
        &[
            ("Destination", login.destination.as_deref()),
            ("ID", Some(&login.response_id)),
            ("InResponseTo", login.in_response_to.as_deref()),
            ("IssueInstant", Some(&moment(login.issued_at))),
            ("Version", Some("2.0")),
        ],
        &format!("{issuer}{status}{assertion}"),
    )
}

/// Signs an element in canonical form and puts the signature behind its Issuer, or its start tag where it has none.
///
/// # Errors
/// When the text is not an element with this ID, or the key cannot sign.
pub fn sign(canonical: &str, id: &str, signer: Signer<'_>) -> Result<String, MintError> {
    let start_tag = canonical.find('>').ok_or(MintError::Document)? + 1;
    let content = canonical.get(start_tag..).unwrap_or_default();
    let first_child = content.split([' ', '>']).next().unwrap_or_default();
    let issuer_end = if first_child.ends_with("Issuer") {
        let end = content.match_indices("Issuer>").find(|(at, _)| {
            let tag = content.get(..*at).and_then(|before| before.rsplit('<').next());
            tag.is_some_and(|tag| tag.starts_with('/'))
        });
        end.map(|(at, tag)| start_tag + at + tag.len())
    } else {
        None
    };
    let (before, after) = canonical.split_at_checked(issuer_end.unwrap_or(start_tag)).ok_or(MintError::Document)?;
    Ok([before, &signature(canonical, id, signer)?, after].concat())
}

/// The Signature element over a text in canonical form.
///
/// # Errors
/// When the key cannot sign.
pub fn signature(canonical: &str, id: &str, signer: Signer<'_>) -> Result<String, MintError> {
    let prefix = signer.style.prefixes().signature;
    let tag = |name: &str, attributes: &[(&str, Option<&str>)], content: &str| {
        element(&qualified(prefix, name), &[], attributes, content)
    };
    let algorithm = |name: &str, uri: &str, content: &str| tag(name, &[("Algorithm", Some(uri))], content);
    let inclusive = match signer.style {
        Style::Typed => element("ec:InclusiveNamespaces", &[("ec", EXCLUSIVE)], &[("PrefixList", Some("xs"))], ""),
        _ => String::new(),
    };
    let (scheme, method) = signature_method(signer)?;
    let digest = STANDARD.encode(signer.hash.digest(canonical.as_bytes()));
    let transforms = tag(
        "Transforms",
        &[],
        &[
            algorithm("Transform", "http://www.w3.org/2000/09/xmldsig#enveloped-signature", ""),
            algorithm("Transform", EXCLUSIVE, &inclusive),
        ]
        .concat(),
    );
    let reference = tag(
        "Reference",
        &[("URI", Some(&format!("#{id}")))],
        &[transforms, algorithm("DigestMethod", digest_method(signer.hash), ""), tag("DigestValue", &[], &digest)]
            .concat(),
    );
    let content =
        [algorithm("CanonicalizationMethod", EXCLUSIVE, ""), algorithm("SignatureMethod", method, ""), reference]
            .concat();
    // Canonicalized by itself, SignedInfo declares the namespace that it otherwise inherits.
    let alone = element(&qualified(prefix, "SignedInfo"), &[(prefix, SIGNATURE)], &[], &content);
    let value = STANDARD.encode(signer.key.sign(scheme, alone.as_bytes())?);
    let key_info = signer.certificate.map_or(String::new(), |certificate| {
        let certificate = tag("X509Certificate", &[], &STANDARD.encode(certificate));
        tag("KeyInfo", &[], &tag("X509Data", &[], &certificate))
    });
    let whole = [tag("SignedInfo", &[], &content), tag("SignatureValue", &[], &value), key_info].concat();
    Ok(element(&qualified(prefix, "Signature"), &[(prefix, SIGNATURE)], &[], &whole))
}

fn signature_method(signer: Signer<'_>) -> Result<(Scheme, &'static str), MintError> {
    Ok(match signer.key.kind() {
        KeyKind::Rsa if signer.pss => (
            Scheme::RsaPss(signer.hash),
            match signer.hash {
                Hash::Sha256 => "http://www.w3.org/2007/05/xmldsig-more#sha256-rsa-MGF1",
                Hash::Sha384 => "http://www.w3.org/2007/05/xmldsig-more#sha384-rsa-MGF1",
                Hash::Sha512 => "http://www.w3.org/2007/05/xmldsig-more#sha512-rsa-MGF1",
            },
        ),
        KeyKind::Rsa => (
            Scheme::RsaPkcs1(signer.hash),
            match signer.hash {
                Hash::Sha256 => "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256",
                Hash::Sha384 => "http://www.w3.org/2001/04/xmldsig-more#rsa-sha384",
                Hash::Sha512 => "http://www.w3.org/2001/04/xmldsig-more#rsa-sha512",
            },
        ),
        KeyKind::Ec(curve) => (
            Scheme::Ecdsa,
            match curve {
                Curve::P256 => "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256",
                Curve::P384 => "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384",
                Curve::P521 => "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha512",
            },
        ),
        KeyKind::Ed25519 => return Err(MintError::Scheme("XML Signature".into())),
    })
}

fn digest_method(hash: Hash) -> &'static str {
    match hash {
        Hash::Sha256 => "http://www.w3.org/2001/04/xmlenc#sha256",
        Hash::Sha384 => "http://www.w3.org/2001/04/xmldsig-more#sha384",
        Hash::Sha512 => "http://www.w3.org/2001/04/xmlenc#sha512",
    }
}

/// An EncryptedAssertion (SAML Core section 2.3.4) of a text.
///
/// # Errors
/// When the public key is none of RSA.
pub fn encrypt(plaintext: &str, recipient: Recipient<'_>) -> Result<String, MintError> {
    let (key_length, method) = match recipient.content {
        ContentEncryption::Aes128Gcm => (16, "http://www.w3.org/2009/xmlenc11#aes128-gcm"),
        ContentEncryption::Aes192Gcm => (24, "http://www.w3.org/2009/xmlenc11#aes192-gcm"),
        ContentEncryption::Aes256Gcm => (32, "http://www.w3.org/2009/xmlenc11#aes256-gcm"),
        ContentEncryption::Aes128Cbc => (16, "http://www.w3.org/2001/04/xmlenc#aes128-cbc"),
        ContentEncryption::Aes192Cbc => (24, "http://www.w3.org/2001/04/xmlenc#aes192-cbc"),
        ContentEncryption::Aes256Cbc => (32, "http://www.w3.org/2001/04/xmlenc#aes256-cbc"),
    };
    let mut content_key = vec![0; key_length];
    rand::fill(&mut content_key)?;
    let sealed = if method.ends_with("gcm") {
        seal_gcm(&content_key, plaintext.as_bytes())?
    } else {
        seal_cbc(&content_key, plaintext.as_bytes())?
    };
    let key = encrypted_key(&content_key, recipient)?;
    let (inside, beside) = if recipient.beside { (String::new(), key) } else { (key, String::new()) };
    let info = match inside.is_empty() {
        true => String::new(),
        false => element("ds:KeyInfo", &[("ds", SIGNATURE)], &[], &inside),
    };
    let data = element(
        "xenc:EncryptedData",
        &[("xenc", ENCRYPTION)],
        &[("Type", Some("http://www.w3.org/2001/04/xmlenc#Element"))],
        &[element("xenc:EncryptionMethod", &[], &[("Algorithm", Some(method))], ""), info, cipher_data(&sealed)]
            .concat(),
    );
    Ok(element("saml:EncryptedAssertion", &[("saml", ASSERTION)], &[], &format!("{data}{beside}")))
}

fn encrypted_key(content_key: &[u8], recipient: Recipient<'_>) -> Result<String, MintError> {
    let public = PublicEncryptingKey::from_der(recipient.public_key).map_err(|_| MintError::Key)?;
    let public = OaepPublicEncryptingKey::new(public)?;
    // Within the EncryptedData both are declared around it already.
    let (signature, encryption): (&[_], &[_]) =
        if recipient.beside { (&[("ds", SIGNATURE)], &[("xenc", ENCRYPTION)]) } else { (&[], &[]) };
    let (oaep, name, digest, mask): (&'static OaepAlgorithm, _, _, _) = match recipient.transport {
        KeyTransport::OaepSha1 => (
            &OAEP_SHA1_MGF1SHA1,
            "http://www.w3.org/2001/04/xmlenc#rsa-oaep-mgf1p",
            "http://www.w3.org/2000/09/xmldsig#sha1",
            None,
        ),
        KeyTransport::OaepSha256 => {
            (&OAEP_SHA256_MGF1SHA256, RSA_OAEP, "http://www.w3.org/2001/04/xmlenc#sha256", Some("mgf1sha256"))
        }
        KeyTransport::OaepSha384 => {
            (&OAEP_SHA384_MGF1SHA384, RSA_OAEP, "http://www.w3.org/2001/04/xmldsig-more#sha384", Some("mgf1sha384"))
        }
        KeyTransport::OaepSha512 => {
            (&OAEP_SHA512_MGF1SHA512, RSA_OAEP, "http://www.w3.org/2001/04/xmlenc#sha512", Some("mgf1sha512"))
        }
    };
    let digest = element("ds:DigestMethod", signature, &[("Algorithm", Some(digest))], "");
    let mask = mask.map_or(String::new(), |mask| {
        let name = format!("{ENCRYPTION_11}{mask}");
        element("xenc11:MGF", &[("xenc11", ENCRYPTION_11)], &[("Algorithm", Some(&name))], "")
    });
    let method = element("xenc:EncryptionMethod", &[], &[("Algorithm", Some(name))], &format!("{digest}{mask}"));
    let mut room = vec![0; public.ciphertext_size()];
    let wrapped = public.encrypt(oaep, content_key, &mut room, None)?;
    let content = format!("{method}{}", cipher_data(wrapped));
    Ok(element("xenc:EncryptedKey", encryption, &[], &content))
}

fn cipher_data(bytes: &[u8]) -> String {
    element("xenc:CipherData", &[], &[], &element("xenc:CipherValue", &[], &[], &STANDARD.encode(bytes)))
}

fn seal_gcm(key: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, MintError> {
    let algorithm = match key.len() {
        16 => &aead::AES_128_GCM,
        24 => &aead::AES_192_GCM,
        _ => &aead::AES_256_GCM,
    };
    let mut nonce = [0; 12];
    rand::fill(&mut nonce)?;
    let mut sealed = plaintext.to_vec();
    LessSafeKey::new(UnboundKey::new(algorithm, key)?).seal_in_place_append_tag(
        Nonce::assume_unique_for_key(nonce),
        Aad::empty(),
        &mut sealed,
    )?;
    Ok([nonce.as_slice(), &sealed].concat())
}

fn seal_cbc(key: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, MintError> {
    let algorithm = match key.len() {
        16 => &cipher::AES_128,
        24 => &cipher::AES_192,
        _ => &cipher::AES_256,
    };
    let mut vector = [0; 16];
    rand::fill(&mut vector)?;
    // ISO 10126: anything, and its length in the last byte.
    let padding = 16 - plaintext.len() % 16;
    let mut body = plaintext.to_vec();
    body.extend((1..padding).map(|_| 0xA5));
    body.push(u8::try_from(padding).unwrap_or_default());
    let key = EncryptingKey::cbc(UnboundCipherKey::new(algorithm, key)?)?;
    key.less_safe_encrypt(&mut body, EncryptionContext::Iv128(FixedLength::from(vector)))?;
    Ok([vector.as_slice(), &body].concat())
}

/// A document as the value of a `SAMLResponse` form field.
pub fn field(document: &str) -> String {
    STANDARD.encode(document)
}

/// An identity provider's metadata (SAML Metadata section 2.4.3).
pub fn metadata(entity_id: &str, certificates: &[Vec<u8>], redirect: &str, post: &str) -> String {
    let keys: String = certificates
        .iter()
        .map(|certificate| {
            let certificate = element("ds:X509Certificate", &[], &[], &STANDARD.encode(certificate));
            let data = element("ds:X509Data", &[], &[], &certificate);
            let info = element("ds:KeyInfo", &[("ds", SIGNATURE)], &[], &data);
            element("md:KeyDescriptor", &[], &[("use", Some("signing"))], &info)
        })
        .collect();
    let services: String = [("HTTP-Redirect", redirect), ("HTTP-POST", post)]
        .into_iter()
        .map(|(binding, location)| {
            let binding = format!("{BINDINGS}:{binding}");
            let attributes = [("Binding", Some(binding.as_str())), ("Location", Some(location))];
            element("md:SingleSignOnService", &[], &attributes, "")
        })
        .collect();
    let idp = element(
        "md:IDPSSODescriptor",
        &[],
        &[("protocolSupportEnumeration", Some(PROTOCOL))],
        &format!("{keys}{services}"),
    );
    element("md:EntityDescriptor", &[("md", METADATA)], &[("entityID", Some(entity_id))], &idp)
}

/// An element in canonical form, when namespaces and attributes are given in order.
fn element(name: &str, namespaces: &[(&str, &str)], attributes: &[(&str, Option<&str>)], content: &str) -> String {
    let mut text = format!("<{name}");
    for (prefix, uri) in namespaces {
        let colon = if prefix.is_empty() { "" } else { ":" };
        text.push_str(&format!(" xmlns{colon}{prefix}=\"{}\"", escape_attribute(uri)));
    }
    for (key, value) in attributes {
        if let Some(value) = value {
            text.push_str(&format!(" {key}=\"{}\"", escape_attribute(value)));
        }
    }
    text.push_str(&format!(">{content}</{name}>"));
    text
}

fn qualified(prefix: &str, name: &str) -> String {
    if prefix.is_empty() { name.to_owned() } else { format!("{prefix}:{name}") }
}

/// RFC 3339 in UTC with milliseconds; the bare number for a moment that has no calendar date.
fn moment(milliseconds: i64) -> String {
    chrono::DateTime::from_timestamp_millis(milliseconds)
        .map_or_else(|| milliseconds.to_string(), |date| date.to_rfc3339_opts(chrono::SecondsFormat::Millis, true))
}

/// Canonical XML 1.0 section 2.3, text nodes.
pub fn escape_text(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('\r', "&#xD;")
}

/// Canonical XML 1.0 section 2.3, attribute nodes.
fn escape_attribute(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('"', "&quot;")
        .replace('\t', "&#x9;")
        .replace('\n', "&#xA;")
        .replace('\r', "&#xD;")
}
