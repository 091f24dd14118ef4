//! The signed assertion: what the identity headers say, as a JWT that an app can verify by itself.
//!
//! ```text
//! X-Loginsync-Assertion: eyJ…      on every request whose person is known
//! GET /.loginsync/jwks.json        the public key (RFC 7517)
//! ```
//!
//! It is for one audience and short-lived, so that a copy is soon of no use. What it says of groups and roles is what the
//! person effectively holds, never a raw claim. Its header is removed from what clients send, as every name of ours is.

use aws_lc_rs::digest;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{Method, Response};
use serde_json::{Map, Value, json};

use super::identity::Identity;
use crate::config::{self, PublicUrl, Secret};
use crate::pipeline::ids::Timestamp;

pub const HEADER: HeaderName = HeaderName::from_static("x-loginsync-assertion");
/// Where the public key is, among our own pages.
const JWKS: &str = "jwks.json";

/// A key that is none of those that can sign an assertion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the key of assertions is neither P-256 nor Ed25519 in PKCS#8")]
pub struct KeyError;

/// Signs assertions by one key.
pub struct Asserter {
    issuer: String,
    audience: String,
    lifetime: std::time::Duration,
    most: usize,
    key: Key,
    key_id: String,
    jwks: Bytes,
    jwks_path: String,
    random: SystemRandom,
}

enum Key {
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl Asserter {
    /// # Errors
    /// When the key cannot be used.
    pub fn new(
        settings: &config::Assertion,
        key: &Secret,
        public_url: &PublicUrl,
        most: usize,
    ) -> Result<Self, KeyError> {
        let (key, issuer) = (Key::read(key.expose())?, public_url.root());
        let required = key.jwk();
        let key_id = thumbprint(&required);
        let named = [("kid", key_id.as_str()), ("use", "sig"), ("alg", key.algorithm())];
        let named = named.into_iter().map(|(name, value)| (name.to_owned(), json!(value)));
        let jwk: Map<String, Value> = required.into_iter().chain(named).collect();
        Ok(Self {
            audience: settings.audience.clone().unwrap_or_else(|| issuer.clone()),
            issuer,
            lifetime: settings.lifetime,
            most,
            key,
            key_id,
            jwks: Bytes::from(json!({ "keys": [jwk] }).to_string()),
            jwks_path: format!("{}{JWKS}", public_url.own),
            random: SystemRandom::new(),
        })
    }

    /// The header's value; `None` where it would be longer than all identity headers may be, or cannot be signed.
    pub fn assertion(&self, identity: &Identity<'_>, now: Timestamp) -> Option<HeaderValue> {
        let header = json!({ "alg": self.key.algorithm(), "kid": self.key_id, "typ": "JWT" });
        let claims = json!({
            "iss": self.issuer, "aud": self.audience, "iat": now.seconds(), "nbf": now.seconds(),
            "exp": now.plus(self.lifetime).seconds(), "sub": identity.user, "namespace": identity.namespace,
            "email": identity.email, "name": identity.display_name,
            "groups": identity.groups, "roles": identity.roles,
            "hidden_groups": (!identity.hidden.is_empty()).then_some(&identity.hidden),
        });
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let mut token = format!("{}.{}", part(&header), part(&without_null(claims)));
        let signature = self.key.sign(&self.random, token.as_bytes())?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        let mut value = HeaderValue::try_from(token).ok().filter(|value| value.len() <= self.most)?;
        value.set_sensitive(true);
        Some(value)
    }

    /// The answer to a request for the public key. `None`: it is not one.
    pub fn published(&self, method: &Method, path: &str) -> Option<Response<Bytes>> {
        if path != self.jwks_path || !matches!(*method, Method::GET | Method::HEAD) {
            return None;
        }
        let body = if *method == Method::HEAD { Bytes::new() } else { self.jwks.clone() };
        let mut response = Response::new(body);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/jwk-set+json"));
        // Short enough for a new key to be known before an old one is missed for long.
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        Some(response)
    }
}

impl Key {
    fn read(pkcs8: &[u8]) -> Result<Self, KeyError> {
        if let Ok(pair) = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8) {
            return Ok(Self::P256(pair));
        }
        Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8).map(Self::Ed25519).map_err(|_| KeyError)
    }

    fn algorithm(&self) -> &'static str {
        match self {
            Self::P256(_) => "ES256",
            Self::Ed25519(_) => "EdDSA",
        }
    }

    /// The required members (RFC 7518 section 6.2.1, RFC 8037 section 2).
    fn jwk(&self) -> Map<String, Value> {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let members = match self {
            Self::P256(pair) => {
                // An uncompressed point: 4, x, y (SEC 1 section 2.3.3).
                let point = pair.public_key().as_ref().get(1..).unwrap_or_default();
                let (x, y) = point.split_at(point.len() / 2);
                vec![("crv", "P-256".to_owned()), ("kty", "EC".to_owned()), ("x", text(x)), ("y", text(y))]
            }
            Self::Ed25519(pair) => {
                vec![("crv", "Ed25519".to_owned()), ("kty", "OKP".to_owned()), ("x", text(pair.public_key().as_ref()))]
            }
        };
        members.into_iter().map(|(name, value)| (name.to_owned(), json!(value))).collect()
    }

    fn sign(&self, random: &SystemRandom, input: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::P256(pair) => pair.sign(random, input).ok().map(|signature| signature.as_ref().to_vec()),
            Self::Ed25519(pair) => Some(pair.sign(input).as_ref().to_vec()),
        }
    }
}

/// RFC 7638: the digest of the required members in the order of their names, which is how they are written here.
fn thumbprint(required: &Map<String, Value>) -> String {
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, json!(required).to_string().as_bytes()))
}

fn without_null(mut claims: Value) -> Value {
    if let Some(members) = claims.as_object_mut() {
        members.retain(|_, value| !value.is_null());
    }
    claims
}

/// A new key, for a store to keep. `None` where the operating system returned no random bytes.
pub fn fresh_key() -> Option<Secret> {
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).ok()?;
    Some(Secret::new(document.as_ref().to_vec()))
}
