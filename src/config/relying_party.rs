//! What a provider of mode `relying-party` needs: how we authenticate to it, and with what we sign.

mod authorization;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

pub use self::authorization::Authorization;
use super::reader::{Found, Section};
use super::values::Wrong;
use super::{Secret, files};
use crate::pipeline::provider::Mode;

/// The relying party that we are at one provider.
#[derive(Debug, Clone)]
pub struct RelyingParty {
    /// What the sign-in page calls the provider.
    pub title: String,
    pub way_in: WayIn,
}

#[derive(Debug, Clone)]
pub enum WayIn {
    Oidc {
        auth: ClientAuth,
        /// In addition to `openid`.
        scopes: Vec<String>,
        authorization: Authorization,
    },
    Saml {
        key: Option<SpKey>,
    },
}

/// How a client authenticates at the token endpoint (OpenID Connect Core 1.0 section 9).
#[derive(Debug, Clone)]
pub enum ClientAuth {
    /// A public client: PKCE alone.
    None,
    /// The certificate of the connection (RFC 8705).
    Tls,
    Basic(Secret),
    Post(Secret),
    PrivateKey(ClientKey),
}

#[derive(Debug, Clone)]
pub struct ClientKey {
    pub pem: Secret,
    pub kind: ClientKeyKind,
    pub key_id: Option<String>,
    pub audience: AssertionAudience,
}

/// For whom a client assertion is signed: RFC 7523 section 3 leaves it to the provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AssertionAudience {
    Issuer,
    /// OpenID Connect Core 1.0 section 9.
    TokenEndpoint,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientKeyKind {
    Rsa,
    P256,
}

/// By which a SAML service provider signs its messages.
#[derive(Debug, Clone)]
pub struct SpKey {
    /// RSA, PKCS#8 or PKCS#1 in DER.
    pub key: Secret,
    /// Published in our metadata.
    pub certificate: Vec<u8>,
}

/// Reads the keys of a provider in this mode.
pub fn read(section: &Section<'_>, mode: Mode, name: &str) -> Option<RelyingParty> {
    let title = section.text("title").map_or_else(|| name.to_owned(), |found| found.value.to_owned());
    let way_in = match mode {
        Mode::RelyingParty => {
            let scopes = section.list("scopes", false, scope).unwrap_or_else(|| vec!["profile".into(), "email".into()]);
            let authorization = authorization::read(section);
            WayIn::Oidc { auth: client_auth(section)?, scopes, authorization }
        }
        Mode::SamlRelyingParty => WayIn::Saml { key: sp_key(section) },
        _ => return None,
    };
    Some(RelyingParty { title, way_in })
}

/// RFC 6749 section 3.3.
pub fn scope(text: &str) -> Result<String, Wrong> {
    let allowed = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
    match !text.is_empty() && text.bytes().all(allowed) {
        true => Ok(text.to_owned()),
        false => Err(Wrong::expected("a scope such as `profile`, one an entry")),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Basic,
    Post,
    PrivateKey,
    None,
    Tls,
}

fn client_auth(section: &Section<'_>) -> Option<ClientAuth> {
    let words = [
        ("basic", Way::Basic),
        ("post", Way::Post),
        ("private-key-jwt", Way::PrivateKey),
        ("tls", Way::Tls),
        ("none", Way::None),
    ];
    let way = section.word("client_auth", &words, Way::Basic);
    let secret = files::secret(section, "client_secret_file", "client_secret_env");
    let key = client_key(section);
    let secret_span = section.written("client_secret_file").or_else(|| section.written("client_secret_env"));
    if let (Way::PrivateKey | Way::Tls | Way::None, Some(span)) = (way, secret_span.clone()) {
        section.raise(&span, "client_secret_file", "is not used by this `client_auth`; expected `basic` or `post`");
    }
    for key in ["client_key_file", "client_key_id", "client_assertion_audience"] {
        if let (Way::Basic | Way::Post | Way::Tls | Way::None, Some(span)) = (way, section.written(key)) {
            section.raise(&span, key, "is used by `client_auth = \"private-key-jwt\"` alone");
        }
    }
    match way {
        Way::None => Some(ClientAuth::None),
        Way::Tls => {
            if section.written("client_certificate").is_none() {
                absent(section, "client_certificate", "`client_auth = \"tls\"` shows it to the provider");
            }
            Some(ClientAuth::Tls)
        }
        Way::PrivateKey => {
            if section.written("client_key_file").is_none() {
                absent(section, "client_key_file", "`client_auth = \"private-key-jwt\"` signs with it");
            }
            key.map(ClientAuth::PrivateKey)
        }
        Way::Basic | Way::Post => {
            if secret_span.is_none() {
                absent(
                    section,
                    "client_secret_file",
                    "or `client_secret_env`; a public client says `client_auth = \"none\"`",
                );
            }
            let secret = secret_of(section, secret?)?;
            Some(if way == Way::Basic { ClientAuth::Basic(secret) } else { ClientAuth::Post(secret) })
        }
    }
}

/// A client's secret as its server has it.
pub fn secret_of(section: &Section<'_>, found: Found<Zeroizing<Vec<u8>>>) -> Option<Secret> {
    let Found { value, span } = found;
    if value.is_empty() || std::str::from_utf8(&value).is_err() {
        section.context.raise(&span, section.name.clone(), "the client secret is empty or no text");
        return None;
    }
    Some(Secret::new(value.to_vec()))
}

fn client_key(section: &Section<'_>) -> Option<ClientKey> {
    let key_id = section.text("client_key_id").map(|found| found.value.to_owned());
    let words = [("issuer", AssertionAudience::Issuer), ("token-endpoint", AssertionAudience::TokenEndpoint)];
    let audience = section.word("client_assertion_audience", &words, AssertionAudience::Issuer);
    let found = files::file(section, "client_key_file")?;
    let pem = found.value.bytes.to_vec();
    let kind = match () {
        () if jsonwebtoken::EncodingKey::from_rsa_pem(&pem).is_ok() => ClientKeyKind::Rsa,
        () if jsonwebtoken::EncodingKey::from_ec_pem(&pem).is_ok() => ClientKeyKind::P256,
        () => {
            let path = found.value.path.to_string_lossy().into_owned();
            let message = format!("`{path}` holds no private key; expected RSA or P-256 in PEM");
            section.raise(&found.span, "client_key_file", message);
            return None;
        }
    };
    Some(ClientKey { pem: Secret::new(pem), kind, key_id, audience })
}

fn sp_key(section: &Section<'_>) -> Option<SpKey> {
    let key = files::file(section, "sp_key_file");
    let certificate = files::file(section, "sp_certificate_file");
    match (section.written("sp_key_file"), section.written("sp_certificate_file")) {
        (Some(span), None) => {
            section.raise(&span, "sp_key_file", "`sp_certificate_file` is missing; expected both or neither");
        }
        (None, Some(span)) => {
            section.raise(&span, "sp_certificate_file", "`sp_key_file` is missing; expected both or neither");
        }
        _ => {}
    }
    let (key, certificate) = (key?, certificate?);
    let der = PrivateKeyDer::from_pem_slice(&key.value.bytes).ok();
    let signs = |der: &PrivateKeyDer<'_>| rsa_key(der.secret_der()).is_some();
    let Some(der) = der.filter(signs) else {
        let path = key.value.path.to_string_lossy().into_owned();
        section.raise(&key.span, "sp_key_file", format!("`{path}` holds no RSA key of 2048 bits or more in PEM"));
        return None;
    };
    let Ok(leaf) = CertificateDer::from_pem_slice(&certificate.value.bytes) else {
        let path = certificate.value.path.to_string_lossy().into_owned();
        section.raise(&certificate.span, "sp_certificate_file", format!("`{path}` holds no certificate in PEM"));
        return None;
    };
    Some(SpKey { key: Secret::new(der.secret_der().to_vec()), certificate: leaf.to_vec() })
}

/// An RSA key in PKCS#8 or PKCS#1.
pub fn rsa_key(der: &[u8]) -> Option<aws_lc_rs::signature::RsaKeyPair> {
    use aws_lc_rs::signature::RsaKeyPair;
    RsaKeyPair::from_pkcs8(der).or_else(|_| RsaKeyPair::from_der(der)).ok()
}

fn absent(section: &Section<'_>, key: &str, why: &str) {
    let message = format!("missing in `{}`; {why}", section.name);
    section.context.raise_absent(&section.span, section.key(key), message);
}
