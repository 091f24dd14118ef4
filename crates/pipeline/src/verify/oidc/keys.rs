//! The verification keys of one issuer: a JWK Set (RFC 7517 section 5), read key by key.
//!
//! Only the members that verification needs are read: `kty`, `crv`, `n`, `e`, `x`, `y`, `kid`, `use` and `alg`. One key that
//! cannot be used does not make the others unusable. It is kept by name with the reason, so that a token signed with it is
//! refused with that reason.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::signature::{
    ECDSA_P521_SHA512_FIXED, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384,
    RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512,
    RsaParameters, RsaPublicKeyComponents,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::{Map, Value};

use crate::capture::oidc::kind;
use crate::provider::algorithm::{Scheme, SigningAlgorithm};
use crate::verify::Fault;

/// How many unusable keys are remembered, so that a set of junk stays small.
const MOST_UNUSABLE: usize = 32;
/// Characters of a name that a message repeats.
const MOST_NAME: usize = 100;
/// aws-lc verifies with RSA keys of this many bits and more.
const SMALLEST_RSA: usize = 2048;
/// What a document may begin with (RFC 8259 section 8.1 lets a reader ignore it).
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The keys of an issuer by which signatures are checked.
#[derive(Debug, Clone, Default)]
pub struct KeySet {
    keys: Vec<VerificationKey>,
    unusable: Vec<UnusableKey>,
}

/// A published key that cannot verify a signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnusableKey {
    /// Its `kid`, where that is a text.
    pub key_id: Option<String>,
    /// What is wrong with it. Names members and types, never key material.
    pub why: String,
}

impl fmt::Display for UnusableKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key_id {
            Some(key_id) => write!(f, "key `{}` cannot be used: {}", shortened(key_id), self.why),
            None => write!(f, "a key without a usable `kid` cannot be used: {}", self.why),
        }
    }
}

/// Why a document is not a JWK Set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    #[error("is not JSON; expected {{\"keys\": [...]}} (RFC 7517 section 5)")]
    Json,
    #[error("is not a JWK Set; expected {{\"keys\": [...]}} (RFC 7517 section 5)")]
    Shape,
    #[error("holds no key that can verify a signature{}; expected RSA, EC or OKP public keys", reasons(.0))]
    Empty(Vec<UnusableKey>),
}

fn reasons(unusable: &[UnusableKey]) -> String {
    let told: Vec<String> = unusable.iter().take(3).map(ToString::to_string).collect();
    if told.is_empty() { String::new() } else { format!(" ({})", told.join("; ")) }
}

#[derive(Clone)]
struct VerificationKey {
    key_id: Option<String>,
    /// The one algorithm that the key is for, where it says so (RFC 7517 section 4.4).
    algorithm: Option<SigningAlgorithm>,
    parameters: Arc<AlgorithmParameters>,
    key: Arc<PublicKey>,
}

/// A key that can verify.
pub(super) enum PublicKey {
    Known(DecodingKey),
    /// Of RSA, for each algorithm, and of ES512: read once, with what a verification computes from a modulus. That is a tenth of one.
    Parsed(Vec<(SigningAlgorithm, ParsedPublicKey)>),
}

impl PublicKey {
    /// `signature` in base64url.
    pub(super) fn verifies(&self, signature: &str, signed: &[u8], algorithm: SigningAlgorithm) -> bool {
        match (self, algorithm.0) {
            (Self::Known(key), Scheme::Known(algorithm)) => {
                matches!(jsonwebtoken::crypto::verify(signature, signed, key, algorithm), Ok(true))
            }
            (Self::Known(_), Scheme::Es512) => false,
            (Self::Parsed(keys), _) => {
                let key = keys.iter().find(|(known, _)| *known == algorithm);
                let signature = URL_SAFE_NO_PAD.decode(signature);
                key.zip(signature.ok()).is_some_and(|((_, key), signature)| key.verify_sig(signed, &signature).is_ok())
            }
        }
    }

    fn read(jwk: &Jwk) -> Option<Self> {
        match &jwk.algorithm {
            AlgorithmParameters::EllipticCurve(point) if point.curve == EllipticCurve::P521 => {
                // An uncompressed point: 4, x, y (SEC 1 section 2.3.3), each of the size of the field (RFC 7518 section 6.2.1.2).
                let mut bytes = vec![4];
                for coordinate in [&point.x, &point.y] {
                    bytes.extend(URL_SAFE_NO_PAD.decode(coordinate).ok().filter(|bytes| bytes.len() == P521_FIELD)?);
                }
                let key = ParsedPublicKey::new(&ECDSA_P521_SHA512_FIXED, bytes).ok()?;
                Some(Self::Parsed(vec![(SigningAlgorithm(Scheme::Es512), key)]))
            }
            AlgorithmParameters::RSA(key) => {
                let number = |text: &str| -> Option<Vec<u8>> {
                    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
                    Some(bytes.into_iter().skip_while(|byte| *byte == 0).collect())
                };
                let key = RsaPublicKeyComponents { n: number(&key.n)?, e: number(&key.e)? };
                let parsed = |(algorithm, parameters): (Algorithm, &'static RsaParameters)| {
                    let key = key.to_parsed_public_key(parameters).ok()?;
                    Some((SigningAlgorithm(Scheme::Known(algorithm)), key))
                };
                RSA.into_iter().map(parsed).collect::<Option<_>>().map(Self::Parsed)
            }
            _ => DecodingKey::from_jwk(jwk).ok().map(Self::Known),
        }
    }
}

/// RFC 7518 sections 3.3 and 3.5.
const RSA: [(Algorithm, &RsaParameters); 6] = [
    (Algorithm::RS256, &RSA_PKCS1_2048_8192_SHA256),
    (Algorithm::RS384, &RSA_PKCS1_2048_8192_SHA384),
    (Algorithm::RS512, &RSA_PKCS1_2048_8192_SHA512),
    (Algorithm::PS256, &RSA_PSS_2048_8192_SHA256),
    (Algorithm::PS384, &RSA_PSS_2048_8192_SHA384),
    (Algorithm::PS512, &RSA_PSS_2048_8192_SHA512),
];

/// Bytes of a coordinate on P-521.
const P521_FIELD: usize = 66;

impl fmt::Debug for VerificationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerificationKey({:?})", self.key_id)
    }
}

impl KeySet {
    /// Reads the JSON text of a JWK Set, each key by itself.
    ///
    /// # Errors
    /// When the text is not a JWK Set, or no key of it can verify a signature.
    pub fn read(document: &[u8]) -> Result<Self, KeySetError> {
        let document: Value = serde_json::from_slice(without_mark(document)).map_err(|_| KeySetError::Json)?;
        let Some(Value::Array(keys)) = document.get("keys") else { return Err(KeySetError::Shape) };
        let mut set = Self::default();
        for key in keys {
            match VerificationKey::read(key) {
                Ok(key) => set.keys.push(key),
                Err(unusable) if set.unusable.len() < MOST_UNUSABLE => set.unusable.push(unusable),
                Err(_) => {}
            }
        }
        if set.is_empty() { Err(KeySetError::Empty(set.unusable)) } else { Ok(set) }
    }

    /// These keys and newer ones, of which the last `most` stay.
    #[must_use]
    pub fn extended(&self, newer: Self, most: usize) -> Self {
        let mut keys: Vec<VerificationKey> = self.keys.iter().cloned().chain(newer.keys).collect();
        keys.drain(..keys.len().saturating_sub(most));
        Self { keys, unusable: newer.unusable }
    }

    /// Whether a usable key has this name.
    pub fn holds(&self, key_id: &str) -> bool {
        self.keys.iter().any(|key| key.key_id.as_deref() == Some(key_id))
    }

    /// The published keys that cannot be used, each with its reason; the first 32.
    pub fn unusable(&self) -> &[UnusableKey] {
        &self.unusable
    }

    pub fn len(&self) -> usize {
        self.keys.len()
    }

    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The keys that a header chooses: by `kid`, which a careless provider may give to several; without one, the only key
    /// that fits the algorithm.
    pub(super) fn choose(
        &self,
        key_id: Option<&str>,
        algorithm: SigningAlgorithm,
    ) -> Result<impl Iterator<Item = &PublicKey>, Fault> {
        let named: Vec<&VerificationKey> =
            self.keys.iter().filter(|key| key_id.is_none_or(|kid| key.key_id.as_deref() == Some(kid))).collect();
        let fitting: Vec<&VerificationKey> = named.iter().copied().filter(|key| key.verifies(algorithm)).collect();
        match (key_id, fitting.len()) {
            (Some(key_id), 0) => return Err(self.why_none(key_id, named.first().copied(), algorithm)),
            (None, 0) => return Err(Fault::UnknownKey("(no kid)".into())),
            (None, several @ 2..) => {
                return Err(Fault::KeyNotNamed { fitting: several, algorithm: algorithm.to_string() });
            }
            _ => {}
        }
        Ok(fitting.into_iter().map(|key| &*key.key))
    }

    /// Not published, published in a form that cannot be used, or published for something else.
    fn why_none(&self, key_id: &str, named: Option<&VerificationKey>, found: SigningAlgorithm) -> Fault {
        let name = shortened(key_id);
        if let Some(key) = named {
            return Fault::KeyAlgorithm { key: name, found: found.to_string().into(), expected: key.is_for().into() };
        }
        match self.unusable.iter().find(|key| key.key_id.as_deref() == Some(key_id)) {
            Some(unusable) => Fault::UnusableKey { key: name, why: unusable.why.clone() },
            None => Fault::UnknownKey(name),
        }
    }
}

impl VerificationKey {
    fn read(jwk: &Value) -> Result<Self, UnusableKey> {
        let Value::Object(members) = jwk else {
            return Err(UnusableKey { key_id: None, why: format!("it is {}; expected an object", kind(jwk)) });
        };
        let key_id = text(members, "kid").map_err(|why| UnusableKey { key_id: None, why })?;
        Self::of(members, key_id).map_err(|why| UnusableKey { key_id: key_id.map(str::to_owned), why })
    }

    fn of(members: &Map<String, Value>, key_id: Option<&str>) -> Result<Self, String> {
        match text(members, "use")? {
            None | Some("sig") => {}
            Some(other) => return Err(format!("`use` is `{}`; expected `sig`", shortened(other))),
        }
        let algorithm = match text(members, "alg")? {
            None => None,
            Some(name) => Some(SigningAlgorithm::named(name).ok_or_else(|| {
                let known: Vec<&str> = SigningAlgorithm::names().collect();
                format!("`alg` is `{}`; expected one of {}", shortened(name), known.join(", "))
            })?),
        };
        let jwk = needed(members)?;
        let parameters = jwk.algorithm.clone();
        check_curve(&parameters)?;
        if let Some(algorithm) = algorithm
            && !algorithm.fits(&parameters)
        {
            return Err(format!("`alg` is `{algorithm}`, which does not fit its `kty` and `crv`"));
        }
        let key = PublicKey::read(&jwk).ok_or_else(|| String::from("its key material cannot be read"))?;
        let key_id = key_id.map(str::to_owned);
        Ok(Self { key_id, algorithm, parameters: Arc::new(parameters), key: Arc::new(key) })
    }

    fn verifies(&self, algorithm: SigningAlgorithm) -> bool {
        algorithm.fits(&self.parameters) && self.algorithm.is_none_or(|own| own == algorithm)
    }

    /// The algorithms that the key can be used with, for a message.
    fn is_for(&self) -> String {
        let names: Vec<&str> = SigningAlgorithm::names()
            .filter(|name| SigningAlgorithm::named(name).is_some_and(|algorithm| self.verifies(algorithm)))
            .collect();
        names.join(", ")
    }
}

/// The key as jsonwebtoken reads it, from the members that verification needs and no others.
fn needed(members: &Map<String, Value>) -> Result<Jwk, String> {
    let names: &[&'static str] = match text(members, "kty")? {
        Some("RSA") => &["kty", "n", "e"],
        Some("EC") => &["kty", "crv", "x", "y"],
        Some("OKP") => &["kty", "crv", "x"],
        Some(other) => return Err(format!("`kty` is `{}`; expected RSA, EC or OKP", shortened(other))),
        None => return Err(String::from("`kty` is missing")),
    };
    let mut jwk = Map::new();
    for name in names {
        let value = text(members, name)?.ok_or_else(|| format!("`{name}` is missing"))?;
        // Some issuers pad, against RFC 7515 section 2.
        jwk.insert((*name).to_owned(), Value::String(value.trim_end_matches('=').to_owned()));
    }
    if let Some(Value::String(modulus)) = jwk.get("n") {
        let modulus = URL_SAFE_NO_PAD.decode(modulus).map_err(|_| String::from("`n` is not base64url"))?;
        let bits = modulus.iter().skip_while(|byte| **byte == 0).count().saturating_mul(8);
        if bits < SMALLEST_RSA {
            return Err(format!("its RSA key has {bits} bits; expected {SMALLEST_RSA} or more"));
        }
    }
    serde_json::from_value(Value::Object(jwk)).map_err(|_| String::from("its `crv` is not known"))
}

fn check_curve(parameters: &AlgorithmParameters) -> Result<(), String> {
    let usable = match parameters {
        AlgorithmParameters::RSA(_) => true,
        AlgorithmParameters::EllipticCurve(key) => {
            matches!(key.curve, EllipticCurve::P256 | EllipticCurve::P384 | EllipticCurve::P521)
        }
        AlgorithmParameters::OctetKeyPair(key) => key.curve == EllipticCurve::Ed25519,
        _ => false,
    };
    if usable { Ok(()) } else { Err(String::from("its `crv` cannot be used; expected P-256, P-384, P-521 or Ed25519")) }
}

/// A member that is a text. `null` counts as missing.
fn text<'a>(members: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>, String> {
    match members.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(format!("`{name}` is {}; expected a text", kind(other))),
    }
}

/// A document without the byte order mark that some servers put in front of it.
pub fn without_mark(document: &[u8]) -> &[u8] {
    document.strip_prefix(BYTE_ORDER_MARK).unwrap_or(document)
}

fn shortened(name: &str) -> String {
    name.chars().take(MOST_NAME).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The example of RFC 7515 appendix A.4, made by another implementation.
    #[test]
    fn the_example_of_es512_verifies() {
        let jwk = json!({
            "kty": "EC", "crv": "P-521", "kid": "a4",
            "x": "AekpBQ8ST8a8VcfVOTNl353vSrDCLLJXmPk06wTjxrrjcBpXp5EOnYG_NjFZ6OvLFV1jSfS9tsz4qUxcWceqwQGk",
            "y": "ADSmRA43Z1DSNx_RvcLI87cdL07l6jQyyBXMoxVg_l2Th-x3S1WDhjDly79ajL4Kkd0AZMaZmh9ubmf63e3kyMj2",
        });
        let signed = b"eyJhbGciOiJFUzUxMiJ9.UGF5bG9hZA";
        let signature = "AdwMgeerwtHoh-l192l60hp9wAHZFVJbLfD_UxMi70cwnZOYaRI1bKPWROc-mZZqwqT2SI-KGDKB34XO0aw_7XdtAG8GaSwFKdCAPZgoXD2YBJZCPEX3xKpRwcdOO8KpEHwJjyqOgzDO7iKvU8vcnwNrmxYbSW9ERBXukOXolLzeO_Jn";
        let set = KeySet::read(json!({"keys": [jwk]}).to_string().as_bytes()).unwrap();
        let es512 = SigningAlgorithm::named("ES512").unwrap();
        let verifies = |signed: &[u8], signature: &str, algorithm: SigningAlgorithm| {
            set.choose(Some("a4"), algorithm)
                .is_ok_and(|mut keys| keys.any(|key| key.verifies(signature, signed, algorithm)))
        };
        assert!(verifies(signed, signature, es512));
        assert!(!verifies(b"eyJhbGciOiJFUzUxMiJ9.UGF5bG9hZB", signature, es512));
        assert!(!verifies(signed, signature.trim_end_matches("_Jn"), es512));
        assert!(!verifies(signed, signature, SigningAlgorithm::named("ES384").unwrap()));
        for (member, value) in [
            ("x", "AA"),
            ("y", "AekpBQ8ST8a8VcfVOTNl353vSrDCLLJXmPk06wTjxrrjcBpXp5EOnYG_NjFZ6OvLFV1jSfS9tsz4qUxcWceqwQGk"),
        ] {
            let mut odd = jwk.clone();
            odd[member] = json!(value);
            let why = KeySet::read(json!({"keys": [odd]}).to_string().as_bytes()).unwrap_err().to_string();
            assert!(why.contains("its key material cannot be read"), "{why}");
        }
    }

    /// Some issuers write a modulus with the zero that keeps it positive in DER, against RFC 7518 section 6.3.1.1.
    #[test]
    fn an_rsa_key_with_a_leading_zero_verifies() {
        use aws_lc_rs::rand::SystemRandom;
        use aws_lc_rs::rsa::{KeyPair, KeySize};
        use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA512};

        let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let modulus = pair.public_key().modulus().big_endian_without_leading_zero();
        let exponent = URL_SAFE_NO_PAD.encode(pair.public_key().exponent().big_endian_without_leading_zero());
        for modulus in [modulus.to_vec(), [&[0], modulus].concat()] {
            let jwk = json!({"kty": "RSA", "kid": "a", "n": URL_SAFE_NO_PAD.encode(modulus), "e": exponent});
            let set = KeySet::read(json!({"keys": [jwk]}).to_string().as_bytes()).unwrap();
            for (name, scheme, others) in
                [("RS256", &RSA_PKCS1_SHA256, ["RS384", "PS256"]), ("PS512", &RSA_PSS_SHA512, ["PS256", "RS512"])]
            {
                let mut signature = vec![0; 256];
                pair.sign(scheme, &SystemRandom::new(), b"a.b", &mut signature).unwrap();
                let signature = URL_SAFE_NO_PAD.encode(signature);
                let verifies = |name: &str, signed: &[u8]| {
                    let algorithm = SigningAlgorithm::named(name).unwrap();
                    set.choose(Some("a"), algorithm).unwrap().any(|key| key.verifies(&signature, signed, algorithm))
                };
                assert!(verifies(name, b"a.b") && !verifies(name, b"a.c"), "{name}");
                assert!(others.iter().all(|other| !verifies(other, b"a.b")), "{name}");
            }
        }
    }
}
